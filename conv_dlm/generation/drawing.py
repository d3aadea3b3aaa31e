"""From the scores of a forward to what a step wants of them: candidates and statistics.

Shapes: N positions (of any rows), V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.candidates import Candidates, draw_candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.statistics import Places, Statistic
from conv_dlm.generation.processors import CanvasProcessors

# Vocabulary scores in float32 at a time, whatever the canvas: what a CPU's cache holds (twice as fast as 64 MB in a
# measurement on two cores), elsewhere enough for a few launches.
SCORES_AT_ONCE = {"cpu": 1 << 20}
SCORES_AT_ONCE_ELSEWHERE = 1 << 24
Drawn = tuple[Candidates, dict[str, Tensor]]  # of N positions, with the values of statistics


@dataclass(frozen=True)
class Draws:
    """How tokens are drawn.

    top_k (`int`): candidates of a position, 0 for the whole vocabulary.
    temperature (`float`): 0 takes the best one.
    extra_mass (`int`), end_token_ids (LongTensor [E]): see `draw_candidates`.
    """

    top_k: int
    temperature: float
    extra_mass: int = 0
    end_token_ids: Tensor | None = None


BEST = Draws(top_k=1, temperature=0.0)


def measure(
    scores: Tensor, statistics: Sequence[Statistic], at: Places | None, how: Draws, noise: Tensor | None
) -> Drawn:
    """All that a step wants of the `scores` [N, V], of any float type; nothing that comes out is V wide, unless a
    statistic is. noise: FloatTensor [N], None where nothing is drawn."""
    scores = scores.float()
    values: dict[str, Tensor] = {}
    for statistic in statistics:
        assert at is not None
        values |= statistic(scores, at)
    return draw_candidates(scores, how.top_k, how.temperature, noise, how.extra_mass, how.end_token_ids), values


def in_parts(scores: Tensor, draw: Callable[[slice], Drawn]) -> Drawn:
    """What `draw` makes of all `scores` [N, V], a part of the positions at a time: only that is wide in float32."""
    at_once = max(1, SCORES_AT_ONCE.get(scores.device.type, SCORES_AT_ONCE_ELSEWHERE) // scores.shape[1])
    parts = [draw(slice(start, start + at_once)) for start in range(0, scores.shape[0], at_once)]
    if len(parts) == 1:
        return parts[0]
    candidates = Candidates(*(torch.cat(field) for field in zip(*(drawn for drawn, _ in parts), strict=True)))
    return candidates, {name: torch.cat([values[name] for _, values in parts]) for name in parts[0][1]}


def process(scores: Tensor, at: Places, canvas: Canvas, processors: CanvasProcessors, constraint: Any) -> Tensor:
    """`scores` [N, V] after constraint and processors, which see what the constraint allows; what they forbid of it is
    allowed where they would leave nothing."""
    if constraint is None:
        return processors(canvas, scores, at)
    forbidden = ~constraint.mask(canvas, scores, at)
    scores = scores.masked_fill(forbidden, -torch.inf)
    if not processors:
        return scores
    processed = processors(canvas, scores, at).masked_fill(forbidden, -torch.inf)
    nothing = processed.amax(-1, keepdim=True) == -torch.inf
    return torch.where(nothing, scores, processed)
