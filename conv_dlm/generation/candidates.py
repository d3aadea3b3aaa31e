"""Candidates: what the denoiser offers at each undecided position, reduced to what the unmasking rules need.

Every rule weighs a token as q(v) = p(v) * a, with one factor a for its position. So *whether* a position is decided
depends on p through its mass alone, and *which* token it gets doesn't depend on a: the token can be drawn here, and
nothing that is V wide leaves this page. A position that stays undecided in a step reveals nothing of its token, so
the draw remains valid until the canvas changes.

Suffixes: N positions (of any rows), K candidates, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Candidates(NamedTuple):
    """One candidate for each of N positions.

    token: LongTensor [N]; drawn from p^(1/temperature) over the k best tokens, the best one at temperature 0.
    confidence: FloatTensor [N]; p(token), temperature 1.
    mass: FloatTensor [N]; sum of p over the k best tokens.
    tempered_mass: FloatTensor [N]; (sum of p^(1/temperature) over the k best tokens)^temperature, whose limit at
        temperature 0 is max p. Equals `mass` at temperature 1.
    entropy: FloatTensor [N], nats; of p over the whole vocabulary. 0 where nobody asked for it.
    best: LongTensor [N]; the most likely token. 0 where nobody asked for the margin.
    margin: FloatTensor [N]; score of the most likely token less that of the next. 0 where nobody asked for it.
    """

    token: Tensor
    confidence: Tensor
    mass: Tensor
    tempered_mass: Tensor
    entropy: Tensor
    best: Tensor
    margin: Tensor

    @classmethod
    def none(cls, ids: Tensor, mask_token_id: int) -> "Candidates":
        """What is known before the first forward: nothing, of as many positions as `ids` (any shape) has."""
        no_token, nothing = torch.full_like(ids, mask_token_id), torch.zeros(ids.shape, device=ids.device)
        return cls(no_token, nothing, nothing, nothing, nothing, no_token, nothing)


def best_tokens(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """log p and ids of the `top_k` most likely tokens, descending; of all tokens, in order of id, with 0.

    scores: FloatTensor [N, V], float32, -inf for tokens that can't be chosen (the mask, always). p is the softmax
    over all V. Returns FloatTensor [N, K] and LongTensor [N, K].
    """
    log_normalizer = scores.logsumexp(-1, keepdim=True)
    if top_k == 0 or top_k >= scores.shape[-1]:
        return scores - log_normalizer, torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    best = scores.max(-1, keepdim=True) if top_k == 1 else scores.topk(top_k, dim=-1)
    return best[0] - log_normalizer, best[1]


def draw_candidates(
    scores: Tensor,
    top_k: int,
    temperature: float,
    noise: Tensor,
    extra_mass: int = 0,
    end_token_ids: Tensor | None = None,
    measures: frozenset[str] = frozenset(),
) -> Candidates:
    """Draw one token for each position.

    scores: FloatTensor [N, V] as for `best_tokens`.
    top_k: candidates to choose from; 0 = all.
    temperature: 0 takes the best token.
    noise: FloatTensor [N], uniform in [0, 1).
    extra_mass: further candidates that `mass` counts though they can't be drawn (the released code's normaliser).
    end_token_ids: LongTensor [E]; if given, these get no confidence and the others' is taken among the rest
        (LLaDA's `confidence_eos_eot_inf`).
    measures: which of "entropy" and "margin" somebody will look at.
    """
    width = max(top_k, 1) if temperature == 0 else top_k
    log_probs, ids = best_tokens(scores, width + extra_mass if width else 0)
    mass = log_probs.exp().sum(-1) if top_k else torch.ones_like(noise)
    log_probs, ids = log_probs[:, : width or None], ids[:, : width or None]
    if temperature == 0 or width == 1:
        chosen = torch.zeros_like(ids[:, :1])
        tempered_mass = log_probs[:, 0].exp()
    else:
        tempered = log_probs / temperature
        tempered_mass = (tempered.logsumexp(-1) * temperature).exp()
        cumulative = tempered.softmax(-1).cumsum(-1)
        chosen = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)
        chosen = chosen.clamp(max=ids.shape[-1] - 1)
    token = ids.gather(-1, chosen)[:, 0]
    confidence = log_probs.gather(-1, chosen)[:, 0].exp()
    if end_token_ids is not None:
        end_mass = (scores[:, end_token_ids] - scores.logsumexp(-1, keepdim=True)).exp().sum(-1)
        confidence = (confidence / (1 - end_mass)).masked_fill(torch.isin(token, end_token_ids), 0.0)
    nothing = torch.zeros_like(mass)
    entropy = score_entropy(scores) if "entropy" in measures else nothing
    best, margin = score_margin(scores) if "margin" in measures else (torch.zeros_like(token), nothing)
    return Candidates(token, confidence, mass, tempered_mass, entropy, best, margin)


def score_entropy(scores: Tensor) -> Tensor:
    """Entropy in nats of the softmax of `scores` [N, V] (-inf: never): FloatTensor [N]."""
    return torch.special.entr(scores.softmax(-1)).sum(-1)


def score_margin(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest-scoring token of `scores` [N, V], LongTensor [N], and by how much it leads, FloatTensor [N]."""
    top = scores.topk(2, dim=-1)
    return top.indices[:, 0], top.values[:, 0] - top.values[:, 1]
