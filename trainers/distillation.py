"""Distillation for parallel decoding as pure functions of tensors: which tokens of an answer are masked, and the loss.

A model learns from its own answers to be sure of many tokens at once. One block of an answer is partly masked, and all
blocks behind it are masked, as decoding finds them. The masked part of the block is read:

    loss = cross-entropy + certainty_weight * entropy at `certainty_temperature`, of tokens that are right already

dParallel, arXiv 2509.26488, masks a random half of the block, and in a second view the other half; d3LLM, arXiv
2601.07568, masks what the model wrote last, more and more of it, in blocks that grow.
Shapes: B rows, L positions, M read positions, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.estimates import Views, ranks


@dataclass(frozen=True)
class Answers:
    """Rows of prompts and answers.

    Attributes:
        ids_BL (`LongTensor` [B, L]): prompt, answer, and the EOS that fill its canvas; then padding.
        canvas_BL (`BoolTensor` [B, L]): answer and EOS.
        text_BL (`BoolTensor` [B, L]): the answer with its end token.
        unmasked_at_BL (`LongTensor` [B, L]): the step in which each token of the answer was written.
    """

    ids_BL: Tensor
    canvas_BL: Tensor
    text_BL: Tensor
    unmasked_at_BL: Tensor


@dataclass(frozen=True)
class Curriculum:
    """What changes in a run, from its first value to its last in proportion to the steps made.

    Attributes:
        block_length (`tuple[int, int]`): tokens of a block.
        mask_ratio (`tuple[float, float]`): share of a block that is masked.
    """

    block_length: tuple[int, int]
    mask_ratio: tuple[float, float]

    def at(self, progress: float) -> tuple[int, float]:
        """Block length and mask ratio after this share of the run."""
        (first, last), (low, high) = self.block_length, self.mask_ratio
        return round(first + (last - first) * progress), low + (high - low) * progress


def active_blocks(answers: Answers, uniform_B: Tensor, block_length: int) -> tuple[Tensor, Tensor]:
    """One block of each row, drawn among those that hold a part of its answer.

    Args:
        uniform_B (`FloatTensor` [B]): draws from [0, 1).

    Returns:
        `BoolTensor` [B, L], the block's positions on the canvas, and `BoolTensor` [B, L], those behind it.
    """
    place_BL = answers.canvas_BL.cumsum(1) - 1
    block_BL = torch.where(answers.canvas_BL, place_BL // block_length, -1)
    count_B = block_BL.masked_fill(~answers.text_BL, -1).amax(1) + 1
    active_B1 = (uniform_B * count_B).long().clamp(max=count_B - 1)[:, None]
    return block_BL == active_B1, block_BL > active_B1


def random_part(block_BL: Tensor, uniform_BL: Tensor, ratio: float) -> Tensor:
    """A random share `ratio` of a block's positions, at least one: `BoolTensor` [B, L]."""
    return _first(uniform_BL, block_BL, ratio)


def written_last(block_BL: Tensor, answers: Answers, uniform_BL: Tensor, ratio: float) -> Tensor:
    """The share `ratio` of a block's positions that was written last, at least one; EOS behind the end count as last.

    Returns:
        `BoolTensor` [B, L].
    """
    never = torch.iinfo(torch.long).max
    step_BL = answers.unmasked_at_BL.masked_fill(~answers.text_BL, never)
    rank_BL = ranks(step_BL, block_BL).float()
    return _first(uniform_BL - rank_BL, block_BL, ratio)  # of one step, which goes first is drawn


def _first(value_BL: Tensor, block_BL: Tensor, ratio: float) -> Tensor:
    """The smallest `ratio` of the values in a block, rounded, at least one."""
    order_BL = value_BL.masked_fill(~block_BL, torch.inf).argsort(1).argsort(1)
    count_B1 = (block_BL.sum(1, keepdim=True) * ratio).round().clamp(min=1)
    return block_BL & (order_BL < count_B1)


def views_of(block_BL: Tensor, behind_BL: Tensor, masked_BL: Tensor, complementary: bool) -> Views:
    """What the model is shown: the block with its masked part, and with the rest masked instead if asked for."""
    rows_B = torch.arange(len(block_BL), device=block_BL.device)
    parts = [masked_BL, block_BL & ~masked_BL] if complementary else [masked_BL]
    hidden_RL = torch.cat([part | behind_BL for part in parts])
    row_R = rows_B.repeat(len(parts))
    return Views(row_R, hidden_RL, torch.cat(parts), torch.ones(row_R.shape, device=row_R.device))


def certainty_loss(logits_MV: Tensor, targets_M: Tensor, mask_token_id: int, temperature: float) -> Tensor:
    """Entropy of p^(1/temperature) where its best token is right, else 0: `FloatTensor` [M], in float32.

    Lowering it makes the model surer of what it has right, and of nothing else.
    """
    logits_MV = logits_MV.float().index_fill(1, torch.tensor([mask_token_id], device=logits_MV.device), -torch.inf)
    right_M = logits_MV.argmax(1) == targets_M
    log_p_MV = (logits_MV / temperature).log_softmax(1)
    entropy_M = -(log_p_MV.exp() * log_p_MV.masked_fill(log_p_MV == -torch.inf, 0.0)).sum(1)
    return entropy_M * right_M
