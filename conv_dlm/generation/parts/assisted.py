"""Rules whose drafts are read by a causal model, too, which the caller gives as `assistant_model`.

Shapes: B rows, L canvas positions, K positions from a row's first mask on, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule
from conv_dlm.generation.settings import setting


@dataclass(frozen=True)
class AssistedRule(UnmaskingRule):
    """Base of both directions: drafts at the first masks, and what the assistant makes of them."""

    assisted = True
    whole_canvas = True
    draft_length: int = setting(
        32, "positions, from the first mask on, that are drafted and verified in a step", low=1,
        source="FlashDLM, arXiv 2505.21467",
    )  # fmt: skip

    def places(self, now: StepState) -> Tensor:
        """LongTensor [B, K]: the positions to be verified; L for none."""
        length = now.canvas.ids.shape[1]
        first = torch.where(now.canvas.masked, now.canvas.positions, length).amin(1, keepdim=True)
        return (first + now.canvas.positions[: self.draft_length]).clamp(max=length)

    def wants(self, now: StepState) -> Tensor:
        return now.eligible & self.spread(now, self.places(now) >= 0)

    def draft(self, now: StepState) -> Tensor:
        """LongTensor [B, L]: the canvas with each mask's candidate."""
        return torch.where(now.canvas.masked, now.token, now.canvas.ids)

    def reading(self, now: StepState) -> tuple[Tensor, Tensor, Tensor]:
        """Of the places: which are masks, BoolTensor [B, K]; the drafts there, LongTensor [B, K]; and the assistant's
        scores, FloatTensor [B, K, V]."""
        assert now.assistant_logits is not None
        places = self.places(now)
        inside = places.clamp(max=now.canvas.ids.shape[1] - 1)
        masks = now.canvas.masked.gather(1, inside) & (places == inside)
        return masks, self.draft(now).gather(1, inside), now.assistant_logits.float()

    def spread(self, now: StepState, values: Tensor) -> Tensor:
        """[B, L]: `values` [B, K] at the places."""
        whole = values.new_zeros(len(values), now.canvas.ids.shape[1] + 1)
        return whole.scatter(1, self.places(now), values)[:, :-1]


@UNMASKING_RULES.register("guided")
@dataclass(frozen=True)
class GuidedRule(AssistedRule):
    """Guided diffusion (FlashDLM, arXiv 2505.21467): the drafts up to the first one that the causal model doesn't pass;
    the first one in any case, so that the text is the denoiser's own."""

    accept_top_k: int = setting(
        2, "a draft passes that is among so many of the causal model's best tokens; 1 for its best one alone", low=1,
        source="arXiv 2505.21467",
    )  # fmt: skip
    accept_share: float = setting(
        0.5, "and has at least this share of its best token's probability", low=0, high=1, source="arXiv 2505.21467"
    )

    def __call__(self, now: StepState) -> Decision:
        masks, drafts, scores = self.reading(now)
        known = drafts < scores.shape[-1]
        its = scores.gather(-1, drafts.clamp(max=scores.shape[-1] - 1)[..., None])
        better, best = (scores > its).sum(-1), scores.amax(-1)
        passes = known & (better < self.accept_top_k) & ((its[..., 0] - best).exp() >= self.accept_share)
        so_far = (passes | ~masks).int().cumprod(1) > 0
        first = masks & (masks.cumsum(1) == 1)
        return Decision(self.spread(now, (masks & so_far) | first))


@UNMASKING_RULES.register("speculative")
@dataclass(frozen=True)
class SpeculativeRule(AssistedRule):
    """The other direction, DiffuSpec's (arXiv 2510.02358): the denoiser drafts, and the text is the causal model's,
    token for token what it would write greedily. Its own best token follows the drafts that are just that."""

    greedy = True
    own_scores = True

    def __call__(self, now: StepState) -> Decision:
        masks, drafts, scores = self.reading(now)
        log_prob, token = scores.log_softmax(-1).max(-1)
        right = (token == drafts) | ~masks
        so_far = right.int().cumprod(1) > 0
        up_to = torch.nn.functional.pad(so_far[:, :-1], (1, 0), value=True)
        return Decision(
            self.spread(now, masks & up_to), tokens=self.spread(now, token), log_probs=self.spread(now, log_prob)
        )
