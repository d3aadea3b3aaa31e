"""The objective of models that see block by block: one forward on [noisy | clean] trains all blocks of a row.

BD3LM, arXiv 2503.09573. As in decoding, every block is denoised with the clean blocks before it in sight. So both
copies of a row go through the model together: a noisy block sees itself and the clean blocks before it, a clean block
sees the clean blocks up to itself. Blocks from which no row of the batch learns, at the start of its prompts, need no
noisy copy. Where logits are shifted (Fast-dLLM v2, arXiv 2509.26328), the first token of a block is written before the
others, from the finished block before it. It is never masked, and is learnt from the clean copy.
Shapes: B rows, L positions, K blocks, S positions of a block, N positions of the noisy copy, D = N + L.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.losses import draw_masks
from trainers.masking import eos_padding
from trainers.noise import LEVEL, MASK, PADDING, Rows

GOLDEN = 0.6180339887498949  # its multiples, modulo 1, spread evenly: the noise levels of a row's blocks


@dataclass(frozen=True)
class BlockMasking:
    """The noise of a batch.

    Attributes:
        masked_BL (`BoolTensor` [B, L]): masks with a loss.
        rest_BL (`BoolTensor` [B, L]): what else could have been masked: the masks of a complementary view.
        first_BL (`BoolTensor` [B, L]): tokens that are learnt from the clean copy.
        weight_BL (`FloatTensor` [B, L]): weight of each mask in the bound.
        padding_BL (`BoolTensor` [B, L]): EOS padding without a loss that is shown as masks.
    """

    masked_BL: Tensor
    rest_BL: Tensor
    first_BL: Tensor
    weight_BL: Tensor
    padding_BL: Tensor


def mask_blocks(
    rows: Rows, covered_BL: Tensor, attention_mask_BL: Tensor, block_length: int, min_noise: float, shifted: bool
) -> BlockMasking:
    """Draw a noise level t for each block of each row, and mask its covered tokens with this probability.

    The loss of a block's masks, weighted, bounds its negative log-likelihood given the blocks before it.

    Args:
        rows ([`~trainers.noise.Rows`]): which rows of the global batch these are.
        covered_BL (`BoolTensor` [B, L]): tokens with a loss.
        attention_mask_BL (`LongTensor` [B, L]): 0 where batches are padded, at the right.
        block_length (`int`): S; blocks are counted from the first position.
        min_noise (`float`): the lowest noise level.
        shifted (`bool`): whether logits are for the token at the right.
    """
    count, length = covered_BL.shape
    behind = -length % block_length
    blocks = (length + behind) // block_length

    def cut(tensor_BL: Tensor) -> Tensor:
        return F.pad(tensor_BL, (0, behind)).view(count * blocks, block_length)

    places_L = torch.arange(length, device=covered_BL.device)
    starts_BL = (places_L % block_length == 0).expand_as(covered_BL)
    first_BL = covered_BL & starts_BL & (places_L > 0) if shifted else torch.zeros_like(covered_BL)
    maskable_BL = covered_BL & ~starts_BL if shifted else covered_BL
    steps_K = torch.arange(blocks, device=covered_BL.device) * GOLDEN
    level_BK = min_noise + (1 - min_noise) * ((rows.uniform(LEVEL, 1) + steps_K) % 1.0)
    maskable = cut(maskable_BL)
    drawn = maskable | ~maskable.any(1, keepdim=True)  # a block without any draws, too, and in vain
    masked, weight = draw_masks(drawn, level_BK.flatten(), cut(rows.uniform(MASK, length)))
    masked_BL = (masked & maskable).view(count, -1)[:, :length]
    weight_BL = weight.view(count, blocks, 1).expand(-1, -1, block_length).reshape(count, -1)[:, :length]
    level_BL = level_BK[..., None].expand(-1, -1, block_length).reshape(count, -1)[:, :length]
    padding_BL = eos_padding(covered_BL, attention_mask_BL) & (rows.uniform(PADDING, length) < level_BL)
    return BlockMasking(masked_BL, maskable_BL & ~masked_BL, first_BL, weight_BL, padding_BL)


def noisy_from(covered_BL: Tensor, block_length: int) -> int:
    """Where the noisy copy begins: at the first block that has a token with a loss in any row."""
    first = int(covered_BL.any(0).int().argmax())
    return first // block_length * block_length


def seen_in_training(length: int, block_length: int, start: int = 0, device: torch.device | None = None) -> Tensor:
    """What positions of [noisy | clean] see of each other: `BoolTensor` [D, D], true where a query sees a key."""
    block_L = torch.arange(length, device=device) // block_length
    own_LL = block_L[:, None] == block_L
    before_LL = block_L[:, None] > block_L
    noisy_ND = torch.cat([own_LL[start:, start:], before_LL[start:]], 1)
    clean_LD = torch.cat([torch.zeros_like(own_LL[:, start:]), own_LL | before_LL], 1)
    return torch.cat([noisy_ND, clean_LD])


def doubled(
    ids_BL: Tensor, hidden_BL: Tensor, attention_mask_BL: Tensor, block_length: int, mask_token_id: int, start: int = 0
) -> dict[str, Tensor]:
    """The model's inputs for both copies: ids [B, D], positions [1, D] and the mask [B, 1, D, D].

    `start` is where the noisy copy begins, at the first position of a block.
    """
    length = ids_BL.shape[1]
    seen_DD = seen_in_training(length, block_length, start, ids_BL.device)
    known_BL = attention_mask_BL.bool()
    known_BD = torch.cat([known_BL[:, start:], known_BL], 1)
    places_L = torch.arange(length, device=ids_BL.device)
    noisy_BN = ids_BL.masked_fill(hidden_BL, mask_token_id)[:, start:]
    return {
        "input_ids": torch.cat([noisy_BN, ids_BL], 1),
        "position_ids": torch.cat([places_L[start:], places_L])[None],
        "attention_mask": seen_DD & known_BD[:, None, None, :],
    }
