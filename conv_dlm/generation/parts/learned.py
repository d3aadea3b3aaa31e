"""Rules with weights of their own, a *head*, which `python -m trainers.learn_filter` and `trainers.learn_policy` train.

A head is a dict of float32 tensors. It reads confidences alone, so it is small, and fits any model and vocabulary.
Shapes: B rows, L canvas positions, W positions of a block, H hidden units, D width of the policy.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.noise import WHETHER
from conv_dlm.generation.parts.rules import (
    UNMASKING_RULES,
    Decision,
    Head,
    StepState,
    UnmaskingRule,
    in_block,
    or_best,
)
from conv_dlm.generation.settings import setting

ATTENTION_HEADS = 4  # of the policy
ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class HeadedRule(UnmaskingRule):
    """Base of both kinds."""

    statistics = ("confidence",)
    unmasking_head: str | None = setting(
        None, "folder, or name on the Hub, where the rule's own weights lie; unset: beside the model's"
    )


# Learn2PD's filter


def block_places(in_block: Tensor, width: int) -> Tensor:
    """LongTensor [B, L]: the place of each position `in_block` [B, L] among them; `width` elsewhere."""
    return torch.where(in_block, in_block.cumsum(1) - 1, width)


def block_confidences(now: StepState, width: int) -> tuple[Tensor, Tensor]:
    """What a filter reads: the confidences of a block's positions, those that have a token already too, and 0 where
    there is no position.

    Returns FloatTensor [B, W] and `block_places`, LongTensor [B, L].
    """
    places, confidence = block_places(in_block(now), width), now.statistics["confidence"]
    return confidence.new_zeros(len(places), width + 1).scatter(1, places, confidence)[:, :width], places


def filter_logits(head: Head, confidences: Tensor) -> Tensor:
    """Two layers, from the `confidences` [..., W] of a block to the logit that each candidate is final: [..., W]."""
    hidden = (confidences @ head["hidden.weight"].T + head["hidden.bias"]).relu()
    return hidden @ head["final.weight"].T + head["final.bias"]


@UNMASKING_RULES.register("learned_filter")
@dataclass(frozen=True)
class LearnedFilterRule(HeadedRule):
    """Learn2PD (arXiv 2509.25188): every candidate that a filter takes for final, which reads the confidences of the
    whole block; and the most confident one."""

    head = "unmasking_filter"
    filter_threshold: float = setting(
        0.96, "probability of being final above which a candidate is unmasked", low=0, high=1,
        source="arXiv 2509.25188",
    )  # fmt: skip

    def check_head(self, head: Head, block: int) -> None:
        width = head["final.bias"].shape[0]
        if block > width:
            raise SettingError(
                "block_length", f"is too long: the filter was trained for blocks of {width}", "set it to that", block
            )

    def wants(self, now: StepState) -> Tensor:
        return in_block(now) & now.eligible.any(1, keepdim=True)

    def __call__(self, now: StepState) -> Decision:
        assert now.head is not None
        width = now.head["final.bias"].shape[0]
        confidences, places = block_confidences(now, width)
        final = torch.nn.functional.pad(filter_logits(now.head, confidences).sigmoid(), (0, 1)).gather(1, places)
        sure = now.eligible & (final > self.filter_threshold)
        best = or_best(torch.zeros_like(sure), now.statistics["confidence"], now.eligible)
        return Decision(sure | best)


# The one-layer policy


def policy_logits(head: Head, confidence: Tensor, masked: Tensor, seen: Tensor) -> Tensor:
    """One layer of a transformer, from confidences to the logit that each position is unmasked now.

    Args:
        confidence (FloatTensor [B, L]): of each candidate.
        masked (BoolTensor [B, L]): positions without a token.
        seen (BoolTensor [B, L]): positions that it looks at; places are counted among them.

    Returns:
        FloatTensor [B, L].
    """
    confidence = confidence.masked_fill(~masked, 0.0)
    features = torch.stack([confidence, masked.to(confidence.dtype)], -1)
    x = features @ head["in.weight"].T + head["in.bias"]
    q, k, v = (_norm(x) @ head["attention.weight"].T).unflatten(-1, (3, ATTENTION_HEADS, -1)).permute(2, 0, 3, 1, 4)
    place = (seen.cumsum(1) - 1).clamp(min=0)[:, None, :, None]
    itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)  # so that no position sees nothing
    mask = (seen[:, None, :] | itself)[:, None]
    heads = torch.nn.functional.scaled_dot_product_attention(_rotated(q, place), _rotated(k, place), v, attn_mask=mask)
    x = x + heads.transpose(1, 2).flatten(2) @ head["output.weight"].T
    x = x + torch.nn.functional.gelu(_norm(x) @ head["up.weight"].T + head["up.bias"]) @ head["down.weight"].T
    return (_norm(x) @ head["final.weight"]) + head["slope"] * (confidence - head["middle"])


def _norm(x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


def _rotated(x: Tensor, place: Tensor) -> Tensor:
    """Rotary position embedding of queries or keys [B, heads, L, d] at `place` [B, 1, L, 1]."""
    half = x.shape[-1] // 2
    angle = place * torch.exp(torch.arange(half, device=x.device) * (-math.log(ROTARY_BASE) / half))
    first, second = x.chunk(2, -1)
    return torch.cat([first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], -1)


def policy_log_prob(logits: Tensor, eligible: Tensor, commit: Tensor) -> Tensor:
    """Log-probability that a policy commits just these: FloatTensor [B], 0 in rows where nothing is `eligible` [B, L].

    Each position is drawn by itself, and the likeliest one is committed where none was drawn; so, when it is committed
    alone, it doesn't matter whether it was drawn.
    """
    log_yes, log_no = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    best = or_best(torch.zeros_like(eligible), logits, eligible)
    alone = (commit == best).all(1, keepdim=True)
    chosen = torch.where(commit, log_yes.masked_fill(alone, 0.0), log_no)
    return chosen.masked_fill(~eligible, 0.0).sum(1)


@UNMASKING_RULES.register("learned_policy")
@dataclass(frozen=True)
class LearnedPolicyRule(HeadedRule):
    """A policy that was trained by rewards (after arXiv 2512.09106): each position is drawn with the probability that
    one transformer layer gives it, which reads the confidences of the whole block; where none is drawn, the likeliest
    one."""

    head = "unmasking_policy"
    policy_temperature: float = setting(
        1.0, "of the policy's draws; 0 unmasks what is at least as likely as not", low=0, source="arXiv 2512.09106"
    )

    def __call__(self, now: StepState) -> Decision:
        assert now.head is not None
        logits = policy_logits(now.head, now.statistics["confidence"], now.canvas.masked, in_block(now))
        if self.policy_temperature == 0:
            drawn = logits >= 0
        else:
            drawn = now.uniform(WHETHER) < (logits / self.policy_temperature).sigmoid()
        return Decision(or_best(now.eligible & drawn, logits, now.eligible))
