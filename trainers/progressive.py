"""Masks as decoding makes them: progressive unmasking, PUMA (arXiv 2602.10314).

A batch is kept for K steps. In the first of them the whole responses are masked. Each forward pass gives the loss of
the masked positions and their confidences; in the next step the most confident positions are unmasked, with their true
tokens. So there is no extra pass. What is unmasked depends only on what was visible, so the loss has the same minimiser
as with random masks. Several batches can take turns, so that steps one after the other have different rows.
Shapes: B rows, L positions, M masked positions of all rows, V vocabulary.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainers.masking import Masking, eos_padding
from trainers.noise import PADDING, Rows


@dataclass
class Chain:
    """A step's batches, kept from fully masked to unmasked.

    Attributes:
        batches (`list`): micro-batches of the step.
        items: the number of items that their loss is averaged over.
        masked (`dict`): masks of each micro-batch in its next forward pass, `BoolTensor` [B, L].
    """

    batches: list[Any]
    items: Any
    masked: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Chains:
    """Chains that take turns: a period of `stages * number` steps leads all of them from their first step to the last.

    Args:
        stages (`int`): steps for which a batch is kept, K.
        number (`int`): chains in a period.

    Attributes:
        chains (`dict`): those that are under way, by number.
        stage (`int`): the stage of the chain whose turn it is, from 0 to K - 1.
        chain ([`Chain`]): the chain whose turn it is.
    """

    stages: int
    number: int = 1
    chains: dict[int, Chain] = field(default_factory=dict)
    stage: int = 0

    def __post_init__(self) -> None:
        self.chain = Chain([], None)
        # Each chain is a stage behind the one before it: neighbouring steps differ in rows and in stage.
        turns = itertools.product(range(self.stages), range(self.number))
        self._turns = sorted(turns, key=lambda turn: (sum(turn), turn))

    def turn(self, step: int, draw: Callable[[], tuple[list[Any], Any]]) -> None:
        """Turn to the chain of a training step; `draw` gives the batches of a new one, and their items."""
        self.stage, which = self._turns[step % len(self._turns)]
        if self.stage == 0:
            self.chains[which] = Chain(*draw())
        self.chain = self.chains[which]
        if self.stage == self.stages - 1:
            del self.chains[which]

    def masking(self, which: int, rows: Rows, covered_BL: Tensor, attention_mask_BL: Tensor) -> Masking:
        """The masks of micro-batch `which`; EOS without a loss are hidden with the probability t of their row."""
        masked_BL = self.chain.masked.setdefault(which, covered_BL)
        noise_B = masked_BL.sum(1) / covered_BL.sum(1)
        padding_BL = eos_padding(covered_BL, attention_mask_BL)
        draws_BL = rows.uniform(PADDING, covered_BL.shape[1])
        hidden_BL = masked_BL | (padding_BL & (draws_BL < noise_B[:, None]))
        return Masking(noise_B, masked_BL, 1 / noise_B, hidden_BL)

    def advance(self, which: int, covered_BL: Tensor, logits_MV: Tensor, mask_token_id: int) -> None:
        """Unmask the most confident positions of micro-batch `which`."""
        left_B = left_masked(covered_BL.sum(1), self.stage + 1, self.stages)
        self.chain.masked[which] = show(self.chain.masked[which], confidences(logits_MV, mask_token_id), left_B)


def left_masked(count_B: Tensor, stage: int, stages: int) -> Tensor:
    """How many of `count_B` masks are left at a stage: the share 1 - stage / stages, at least one."""
    return (count_B * (stages - stage) / stages).ceil().long().clamp(min=1)


@torch.no_grad()
def confidences(logits_MV: Tensor, mask_token_id: int) -> Tensor:
    """Log-probability of each position's most probable token, never the mask token: `FloatTensor` [M]."""
    logits = (
        logits_MV.detach().float().index_fill(1, torch.tensor([mask_token_id], device=logits_MV.device), -torch.inf)
    )
    return logits.amax(1) - logits.logsumexp(1)


def show(masked_BL: Tensor, confidence_M: Tensor, left_B: Tensor) -> Tensor:
    """Keep the `left_B` least confident masks of each row, among equals the later ones: `BoolTensor` [B, L]."""
    confidence_BL = torch.full(masked_BL.shape, torch.inf, device=masked_BL.device)
    confidence_BL.masked_scatter_(masked_BL, confidence_M)
    # Flipped, since a stable sort puts the earlier of equals first, and these are unmasked first.
    rank_BL = confidence_BL.flip(1).argsort(dim=1, stable=True).argsort(dim=1).flip(1)
    return masked_BL & (rank_BL < left_B[:, None])
