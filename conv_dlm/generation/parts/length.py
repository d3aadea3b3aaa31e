"""A rule that finds the length of the text. Shapes: B rows, L canvas positions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import ThresholdRule
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule, best_per_row, or_best
from conv_dlm.generation.settings import setting


@UNMASKING_RULES.register("daedal")
@dataclass(frozen=True)
class DaedalRule(UnmaskingRule):
    """DAEDAL (arXiv 2508.00819): a response starts short, and grows at its end until the model expects the text to end
    there; then what reaches `threshold`, times s_i, is unmasked, or the best one, and the least sure of the masks at
    hand becomes several while the end is in doubt. `max_new_tokens` is the limit."""

    statistics = ("confidence", "margin")
    reads_end = True
    whole_canvas = True
    threshold: float = ThresholdRule.settings()["threshold"].field()
    initial_length: int = setting(64, "masks that a response starts with", low=1, source="arXiv 2508.00819")
    expansion_factor: int = setting(
        8, "masks that a response grows by at its end, and that an unsure one becomes", low=2, source="arXiv 2508.00819"
    )
    length_confidence: float = setting(
        0.5, "confidence in the end of the text up to which a response grows at first", low=0, high=1,
        source="arXiv 2508.00819",
    )  # fmt: skip
    insert_confidence: float = setting(
        0.9, "confidence in the end of the text up to which masks are inserted", low=0, high=1,
        source="arXiv 2508.00819",
    )  # fmt: skip
    unsure_below: float = setting(
        0.1, "confidence below which a position may become several", low=0, high=1, source="arXiv 2508.00819"
    )
    eos_check_tokens: int = setting(
        32, "positions, the last that predict an end token, that the confidence in the end is the mean of", low=1,
        source="arXiv 2508.00819",
    )  # fmt: skip

    def first_end(self, canvas: Canvas) -> Tensor:
        room = canvas.response.sum(1)
        return canvas.ids.shape[1] - room + room.clamp(max=self.initial_length)

    def start(self, canvas: Canvas) -> Tensor:
        return self.first_end(canvas) < canvas.ids.shape[1]  # whether a row still finds its first length

    def max_steps(self, canvas: Canvas) -> int | None:
        return None  # those that find the length unmask nothing

    def response(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: the response up to its present end."""
        return now.canvas.response & (now.canvas.positions < now.canvas.end[:, None])

    def wants(self, now: StepState) -> Tensor:
        growing = now.canvas.masked.any(1) & (now.canvas.end < now.canvas.ids.shape[1])
        return now.eligible | (self.response(now) & growing[:, None])

    def confidence_in_the_end(self, now: StepState) -> Tensor:
        """FloatTensor [B]: mean probability of the last predicted end tokens; those that are fewer count as 0."""
        assert now.end_token_ids is not None
        predicts = self.response(now) & torch.isin(now.statistics["best"], now.end_token_ids)
        last = predicts & (predicts.flip(1).cumsum(1).flip(1) <= self.eos_check_tokens)
        return torch.where(last, now.statistics["best_log_prob"].exp(), 0.0).sum(1) / self.eos_check_tokens

    def __call__(self, now: StepState) -> Decision:
        assert now.end_token_ids is not None
        positions, end, length = now.canvas.positions, now.canvas.end, now.canvas.ids.shape[1]
        ending = self.confidence_in_the_end(now)
        growing = now.memory & now.canvas.masked.any(1)
        longer = growing & (ending < self.length_confidence) & (end < length)
        found = growing & ~longer
        # where the first length is found, end tokens follow as a hint
        behind = torch.where(found, end + self.eos_check_tokens // 2, end).clamp(max=length)
        hint = (positions >= end[:, None]) & (positions < behind[:, None])

        confidence = now.statistics["confidence"]
        score, eligible = confidence * now.weights, now.eligible & ~growing[:, None]
        unmasked = or_best(eligible & (score >= self.threshold), score, eligible)
        doubt = ~growing & (ending < self.insert_confidence) & (end < length)
        unsure = eligible & ~unmasked & now.canvas.response & (confidence < self.unsure_below) & doubt[:, None]
        split = best_per_row(-confidence, unsure, torch.ones_like(end))
        several = split.any(1)
        at = torch.where(several, split.int().argmax(1), length)[:, None]
        moved = torch.where(positions > at, torch.maximum(positions - self.expansion_factor + 1, at), positions)

        new_end = torch.where(longer, end + self.expansion_factor, behind)
        new_end = torch.where(several, end + self.expansion_factor - 1, new_end).clamp(max=length)
        tokens = torch.where(hint, now.end_token_ids[0], now.token)
        log_probs = torch.where(hint, 0.0, now.log_prob)
        return Decision(
            unmasked | hint, tokens=tokens, log_probs=log_probs, memory=growing & longer, end=new_end, moved=moved
        )
