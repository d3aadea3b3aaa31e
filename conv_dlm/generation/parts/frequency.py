"""A rule that holds back the end of a block, and tokens that say little. Shapes: B rows, L canvas positions, V
vocabulary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import quota
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, FixedStepsRule, StepState, best_per_row
from conv_dlm.generation.settings import Registry, setting

# how often each token turns up in some text: FloatTensor [V] by name, registered by who has such a text
TOKEN_FREQUENCIES: Registry[Tensor] = Registry("token frequencies")


def relative_frequencies(ids: Tensor, vocabulary_size: int) -> Tensor:
    """The share of each token among `ids`, a LongTensor of any shape: FloatTensor [V]. A token that isn't there counts
    as one that is there once. To be registered: `TOKEN_FREQUENCIES.register("mine", relative_frequencies(...))`."""
    return torch.bincount(ids.flatten(), minlength=vocabulary_size).clamp(min=1).float() / max(1, ids.numel())


@UNMASKING_RULES.register("pc_sampler")
@dataclass(frozen=True)
class PositionFrequencyRule(FixedStepsRule):
    """PC-Sampler (arXiv 2508.13021): a quota of the block's masks, by exp(-`position_decay` i) min(-c log f(token),
    `frequency_cap`), times s_i, for the i-th position of the block, of confidence c, and its token's frequency f in
    `token_frequencies`. Without frequencies, by exp(-`position_decay` i) c."""

    statistics = ("confidence",)
    position_decay: float = setting(
        0.25, "lambda: how fast positions lose weight from the block's first on", low=0, source="arXiv 2508.13021"
    )
    frequency_cap: float = setting(
        10.0, "alpha: what a token counts at most for being rare and sure", low=0, inside=True,
        source="arXiv 2508.13021",
    )  # fmt: skip
    token_frequencies: str | None = setting(
        None, "name of registered frequencies, by which tokens that turn up everywhere wait", choices=TOKEN_FREQUENCIES,
        source="arXiv 2508.13021",
    )  # fmt: skip

    def start(self, canvas: Canvas) -> Tensor | None:
        if self.token_frequencies is None:
            return None
        return TOKEN_FREQUENCIES.find(self.token_frequencies).to(canvas.ids.device)

    def __call__(self, now: StepState) -> Decision:
        index = now.canvas.mask_index
        its = index >= 0 if now.scope is None else (index >= 0) & now.scope
        first = torch.where(its, index, index.shape[1]).amin(1, keepdim=True)
        value = now.statistics["confidence"]
        if now.memory is not None:
            value = (-value * (now.memory[now.token] + 1e-9).log()).clamp(max=self.frequency_cap)
        score = (-self.position_decay * (index - first)).exp() * value * now.weights
        count = quota(now.masks.sum(1), now.step.rounds_left)
        return Decision(best_per_row(score, now.eligible, count), memory=now.memory)
