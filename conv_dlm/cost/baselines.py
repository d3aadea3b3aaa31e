"""Plain decoding loops from the papers' descriptions, as a first version would be written: the baselines of ours.

Softmax, top-k and noise go over the full canvas, prompt included, whether or not a position can be unmasked; quotas are
computed row by row, and the host reads from the device whenever it needs a value. No loop stops at an end token.
Suffixes: B rows, L canvas positions, N positions of a block, K candidates, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

LogitsFunction = Callable[[Tensor], Tensor]  # ids [B, L] -> logits [B, L, V]
BLOCK, THRESHOLD = 32, 0.9  # of block threshold decoding, as its paper has them
LAST_TIME = 1e-5
NEVER = -99999.0


def llada_loop(
    forward: LogitsFunction,
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
    forward: LogitsFunction,
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


def threshold_loop(
    forward: LogitsFunction,
    prompt: Tensor,
    mask_token_id: int,
    new_tokens: int,
    block_length: int = BLOCK,
    threshold: float = THRESHOLD,
) -> Tensor:
    """Block threshold decoding, arXiv 2505.22618: in blocks, all tokens of enough confidence, and at least the best."""
    ids_BL = F.pad(prompt, (0, new_tokens), value=mask_token_id)
    for start in range(prompt.shape[1], ids_BL.shape[1], block_length):
        block = slice(start, start + block_length)
        while bool((ids_BL[:, block] == mask_token_id).any()):
            best_BL, confidence_BL = _best(forward(ids_BL), mask_token_id)
            ids_BL[:, block] = _above_threshold(
                ids_BL[:, block], best_BL[:, block], confidence_BL[:, block], mask_token_id, threshold
            )
    return ids_BL


class BlockCache(DynamicCache):
    """Keys and values of a whole canvas, of which those from `start` on are replaced, once `start` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.start: int | None = None
        self.kept: list[tuple[Tensor, Tensor]] = []  # of each layer

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.start is None:
            self.kept.append((key_states, value_states))
        else:
            block = slice(self.start, self.start + key_states.shape[2])
            for kept, states in zip(self.kept[layer_idx], (key_states, value_states), strict=True):
                kept[:, :, block] = states
        return self.kept[layer_idx]

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return query_length if self.start is None else self.kept[0][0].shape[2], 0


def dual_cache_loop(
    model: Any,
    prompt: Tensor,
    mask_token_id: int,
    new_tokens: int,
    block_length: int = BLOCK,
    threshold: float = THRESHOLD,
) -> Tensor:
    """The same with the dual cache of that paper.

    On entering a block, a forward of the whole canvas decides as above, and its keys and values are kept. The forwards
    after it compute the block alone, see the kept keys and values, and replace the block's own.

    model: takes `input_ids`, `position_ids` and `cache`.
    """
    ids_BL = F.pad(prompt, (0, new_tokens), value=mask_token_id)
    for start in range(prompt.shape[1], ids_BL.shape[1], block_length):
        block = slice(start, start + block_length)
        cache = BlockCache()
        logits_BNV = model(input_ids=ids_BL, cache=cache).logits[:, block]
        position_ids = torch.arange(ids_BL.shape[1], device=ids_BL.device)[None, block]
        cache.start = start
        while True:
            best_BN, confidence_BN = _best(logits_BNV, mask_token_id)
            ids_BL[:, block] = _above_threshold(ids_BL[:, block], best_BN, confidence_BN, mask_token_id, threshold)
            if not bool((ids_BL[:, block] == mask_token_id).any()):
                break
            logits_BNV = model(input_ids=ids_BL[:, block], position_ids=position_ids, cache=cache).logits
    return ids_BL


def _best(logits_BNV: Tensor, mask_token_id: int) -> tuple[Tensor, Tensor]:
    """The most likely token of each position and its probability, by a softmax in fp64 over the vocabulary."""
    logits_BNV[..., mask_token_id] = NEVER  # or a block might never end
    confidence_BN, best_BN = logits_BNV.double().softmax(-1).max(-1)
    return best_BN, confidence_BN


def _above_threshold(
    ids_BN: Tensor, best_BN: Tensor, confidence_BN: Tensor, mask_token_id: int, threshold: float
) -> Tensor:
    """The ids with their masks replaced where the confidence suffices; in each row at least the best of them."""
    masked_BN = ids_BN == mask_token_id
    confidence_BN = torch.where(masked_BN, confidence_BN, -torch.inf)
    chosen_BN = confidence_BN >= threshold
    for row in range(ids_BN.shape[0]):
        chosen_BN[row, confidence_BN[row].argmax()] = True
    return torch.where(chosen_BN & masked_BN, best_BN, ids_BN)
