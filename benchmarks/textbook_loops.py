"""Two decoding loops as their papers' code has them, written plainly: the other side of the speed benchmark.

Softmax, top-k and noise go over the full canvas, prompt included, whether a position can be decided or not; quotas are
counted out row by row. Suffixes: B rows, L canvas positions, K candidates, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Forward = Callable[[Tensor], Tensor]  # ids [B, L] -> logits [B, L, V]
LAST_TIME = 1e-5
NEVER = -99999.0


def llada_loop(
    forward: Forward,
    prompt: Tensor,
    mask_token_id: int,
    new_tokens: int,
    steps: int,
    block_length: int,
    temperature: float = 0.0,
) -> Tensor:
    """LLaDA's sampler, arXiv 2502.09992: the most confident tokens first, in blocks, with softmax and noise in fp64."""
    ids_BL = F.pad(prompt, (0, new_tokens), value=mask_token_id)
    blocks = new_tokens // block_length
    steps_of_block = steps // blocks
    for block in range(blocks):
        end = prompt.shape[1] + (block + 1) * block_length
        masks_B = (ids_BL[:, end - block_length : end] == mask_token_id).sum(1, keepdim=True)
        quota_BS = masks_B // steps_of_block + (
            torch.arange(steps_of_block, device=ids_BL.device) < masks_B % steps_of_block
        )
        for step in range(steps_of_block):
            masked_BL = ids_BL == mask_token_id
            logits_BLV = forward(ids_BL)
            noisy_BLV = logits_BLV
            if temperature > 0:
                wide_BLV = logits_BLV.double()
                noise_BLV = (-torch.rand_like(wide_BLV).log()) ** temperature
                noisy_BLV = wide_BLV.exp() / noise_BLV
            best_BL = noisy_BLV.argmax(-1)
            p_BLV = logits_BLV.double().softmax(-1)
            confidence_BL = p_BLV.gather(-1, best_BL[..., None])[..., 0]
            confidence_BL[:, end:] = -torch.inf
            best_BL = torch.where(masked_BL, best_BL, ids_BL)
            confidence_BL = torch.where(masked_BL, confidence_BL, -torch.inf)
            chosen_BL = torch.zeros_like(masked_BL)
            for row in range(ids_BL.shape[0]):
                where = confidence_BL[row].topk(int(quota_BS[row, step])).indices
                chosen_BL[row, where] = True
            ids_BL = torch.where(chosen_BL, best_BL, ids_BL)
    return ids_BL


def conv_loop(
    forward: Forward,
    prompt: Tensor,
    mask_token_id: int,
    new_tokens: int,
    steps: int,
    kernel_size: int,
    top_k: int = 1,
) -> Tensor:
    """Convolutional decoding, arXiv 2509.15188, as its released code does a step. May leave masks, as that does."""
    ids_BL = F.pad(prompt, (0, new_tokens), value=mask_token_id)
    width = kernel_size + 1 - kernel_size % 2
    kernel = torch.ones(1, 1, width, device=ids_BL.device)
    dt = (1 - LAST_TIME) / steps
    for t in torch.linspace(1, LAST_TIME, steps + 1).tolist()[:-1]:
        masked_BL = ids_BL == mask_token_id
        logits_BLV = forward(ids_BL)
        logits_BLV[..., mask_token_id] += NEVER
        log_p_BLV = logits_BLV.log_softmax(-1)
        log_p_BLV[~masked_BL] = NEVER
        log_p_BLV[~masked_BL, ids_BL[~masked_BL]] = 0.0
        p_BLK, tokens_BLK = log_p_BLV.exp().topk(top_k + 1, dim=-1)

        known_B1L = (~masked_BL).float()[:, None]
        weights_BL = F.conv1d(known_B1L, kernel, padding=width // 2)[:, 0].tanh() * masked_BL
        norm_B = masked_BL.sum(1) / ((p_BLK.sum(-1) * weights_BL).sum(1) + 1e-12)
        q_BLK = p_BLK * (weights_BL * norm_B[:, None] * dt)[..., None]
        q_BLK[..., -1] = t - dt
        tokens_BLK[..., -1] = mask_token_id
        gumbel_BLK = 1e-10 - (torch.rand_like(q_BLK) + 1e-10).log()
        drawn_BL = tokens_BLK.gather(-1, (q_BLK / gumbel_BLK).argmax(-1, keepdim=True))[..., 0]
        ids_BL = torch.where(masked_BL, drawn_BL, ids_BL)
    return ids_BL
