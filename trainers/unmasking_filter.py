"""Learn2PD's filter (arXiv 2509.25188): what it is trained on, and its loss.

The examples come from an oracle, which knows the answer that the model writes one token at a time, and unmasks at once
every candidate that is the answer's. So they show the blocks of fast decoding, with the truth about each candidate.
Shapes: B rows, C canvas positions, N examples, W positions of a block.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.parts.learned import block_places, filter_logits
from conv_dlm.generation.parts.rules import Decision, Head, StepState, UnmaskingRule, or_best
from trainers.recorded_runs import Decide, RecordedStep


@dataclass(frozen=True)
class Examples:
    """Blocks in the middle of decoding.

    Attributes:
        confidence_NW (`FloatTensor`): of the candidates; 0 where there is no position.
        final_NW (`BoolTensor`): candidates that are the answer's token.
        open_NW (`BoolTensor`): positions that are still masks; the others teach nothing.
    """

    confidence_NW: Tensor
    final_NW: Tensor
    open_NW: Tensor

    def __len__(self) -> int:
        return len(self.confidence_NW)

    def __getitem__(self, index: Any) -> "Examples":
        return Examples(*(value[index] for value in vars(self).values()))

    @classmethod
    def join(cls, parts: "list[Examples]") -> "Examples":
        names = cls.__dataclass_fields__
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def oracle(answer_BC: Tensor) -> Decide:
    """A rule that commits every candidate that is in `answer_BC`, and the answer's token at the most confident one."""

    def decide(rule: UnmaskingRule, now: StepState) -> Decision:
        start = now.canvas.ids.shape[1] - answer_BC.shape[1]
        answer_BL = torch.nn.functional.pad(answer_BC, (start, 0))
        right_BL = now.eligible & (now.token == answer_BL)
        best_BL = or_best(torch.zeros_like(right_BL), now.statistics["confidence"], now.eligible)
        return Decision(right_BL | best_BL, tokens=answer_BL, log_probs=now.log_prob)

    return decide


def examples_of(steps: list[RecordedStep], answer_BC: Tensor, width: int) -> Examples:
    """What an oracle's run teaches about blocks of `width`."""
    parts = []
    for step in steps:
        places_BC = block_places(step.block_BC, width)
        columns = (
            step.confidence_BC,
            step.token_BC == answer_BC,
            step.eligible_BC,
        )
        fillers = (0.0, False, False)
        blocks = [
            torch.full((len(places_BC), width + 1), filler, dtype=value.dtype, device=value.device)
            .scatter(1, places_BC, value)[:, :width]
            .cpu()
            for value, filler in zip(columns, fillers, strict=True)
        ]
        parts.append(Examples(*blocks)[blocks[2].any(1)])
    return Examples.join(parts)


def new_filter(width: int, hidden: int, generator: torch.Generator) -> Head:
    """A filter of random weights: about 2,000 for blocks of 32."""

    def drawn(rows: int, columns: int) -> Tensor:
        return (2 * torch.rand(rows, columns, generator=generator) - 1) * columns**-0.5

    return {
        "hidden.weight": drawn(hidden, width),
        "hidden.bias": torch.zeros(hidden),
        "final.weight": drawn(width, hidden),
        "final.bias": torch.zeros(width),
    }


def filter_loss(head: Head, examples: Examples) -> Tensor:
    """Binary cross-entropy of the open positions' logits, averaged over them; in nats."""
    logits_NW = filter_logits(head, examples.confidence_NW)
    return torch.nn.functional.binary_cross_entropy_with_logits(
        logits_NW[examples.open_NW], examples.final_NW[examples.open_NW].float()
    )


def judge(score_NW: Tensor, examples: Examples, threshold: float) -> tuple[float, float]:
    """Of what a score above `threshold` would unmask: its share of the open positions, and how much of it is final."""
    taken_NW = examples.open_NW & (score_NW > threshold)
    count = int(taken_NW.sum())
    return count / max(1, int(examples.open_NW.sum())), int((taken_NW & examples.final_NW).sum()) / max(1, count)
