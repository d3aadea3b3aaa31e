"""Candidates: what the denoiser offers at each position, reduced to what the unmasking rules need.

Every rule weighs a token as q(v) = p(v) * a, with one factor a for its position. So *whether* a position is unmasked
depends on p through its mass alone, and *which* token it gets doesn't depend on a: the token can be drawn here, and
nothing that is V wide leaves this page. A position that stays masked in a step reveals nothing of its token, so the
draw remains valid until the canvas changes.

Shapes: N positions (of any rows), K candidates, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Candidates(NamedTuple):
    """One candidate for each of N positions.

    token: LongTensor [N]; drawn from p^(1/temperature) over the k best tokens, the best one at temperature 0.
    log_prob: FloatTensor [N]; log p(token), temperature 1.
    confidence: FloatTensor [N]; p(token), temperature 1; see `end_token_ids` of `draw_candidates`.
    mass: FloatTensor [N]; sum of p over the k best tokens.
    tempered_mass: FloatTensor [N]; (sum of p^(1/temperature) over the k best tokens)^temperature, whose limit at
        temperature 0 is max p. Equals `mass` at temperature 1.
    """

    token: Tensor
    log_prob: Tensor
    confidence: Tensor
    mass: Tensor
    tempered_mass: Tensor


MEASURES = ("confidence", "mass", "tempered_mass")  # fields that a rule may ask for


def best_tokens(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """log p and ids of the `top_k` most likely tokens, descending; of all tokens, in order of id, with 0.

    scores: FloatTensor [N, V], float32, -inf for tokens that can't be chosen (the mask, always). p is the softmax
    over all V. Returns FloatTensor [N, K] and LongTensor [N, K].
    """
    log_normalizer = scores.logsumexp(-1, keepdim=True)
    if top_k == 0:
        return scores - log_normalizer, torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    best = scores.max(-1, keepdim=True) if top_k == 1 else scores.topk(min(top_k, scores.shape[-1]), dim=-1)
    return best[0] - log_normalizer, best[1]


def draws(top_k: int, temperature: float) -> bool:
    """Whether `draw_candidates` looks at its noise."""
    return temperature > 0 and top_k != 1


def draw_candidates(
    scores: Tensor,
    top_k: int,
    temperature: float,
    noise: Tensor | None = None,
    extra_mass: int = 0,
    end_token_ids: Tensor | None = None,
) -> Candidates:
    """Draw one token for each position.

    scores: FloatTensor [N, V] as for `best_tokens`.
    top_k: candidates to choose from; 0 = all.
    temperature: 0 takes the best token.
    noise: FloatTensor [N], uniform in [0, 1); None where nothing is drawn (see `draws`).
    extra_mass: further candidates that `mass` counts though they can't be drawn (the released code's normaliser).
    end_token_ids: LongTensor [E]; if given, these get no confidence and the others' is taken among the rest
        (LLaDA's `confidence_eos_eot_inf`).
    """
    width = max(top_k, 1) if temperature == 0 else top_k
    log_probs, ids = best_tokens(scores, width + extra_mass if width else 0)
    greedy = temperature == 0 or width == 1
    probs = log_probs.exp() if greedy or top_k else log_probs
    chosen_probs, chosen_ids = log_probs[:, : width or None], ids[:, : width or None]
    if greedy:
        token, log_prob, confidence = ids[:, 0], log_probs[:, 0], probs[:, 0]
    else:
        assert noise is not None
        tempered = chosen_probs if temperature == 1 else chosen_probs / temperature
        cumulative = tempered.softmax(-1).cumsum(-1)
        chosen = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)
        chosen = chosen.clamp(max=cumulative.shape[-1] - 1)
        token, log_prob = chosen_ids.gather(-1, chosen)[:, 0], chosen_probs.gather(-1, chosen)[:, 0]
        confidence = log_prob.exp()
    if not top_k:
        mass = torch.ones_like(log_prob)
    else:
        mass = confidence if greedy and probs.shape[1] == 1 else probs.sum(-1)
    if greedy:
        tempered_mass = confidence
    elif temperature == 1 and not extra_mass:
        tempered_mass = mass
    else:
        tempered_mass = (tempered.logsumexp(-1) * temperature).exp()
    if end_token_ids is not None:
        end_mass = (scores[:, end_token_ids] - scores.logsumexp(-1, keepdim=True)).exp().sum(-1)
        confidence = (confidence / (1 - end_mass)).masked_fill(torch.isin(token, end_token_ids), 0.0)
    return Candidates(token, log_prob, confidence, mass, tempered_mass)
