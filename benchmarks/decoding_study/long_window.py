"""The long decoding window (LDW) in figures: what a denoiser proposes far from known text.

Behind a prompt everything is masked. Where the context is far, a denoiser falls back to its prior: to frequent tokens
("high-prior") and to repetitions of the prompt. Figure 3 of arXiv 2509.15188 shows, by distance from the prompt, the
probability mass on its 100 most frequent tokens and on the tokens that overlap the prompt; its figure 13 how often the
data itself has them there; its figure 12b the mean log prior of decoded tokens. The paper doesn't say what becomes of
EOS and of tokens that are both; here EOS is a kind of its own, and a token can be both.
Shapes: B rows, P prompt tokens, K masked positions behind it (0 is next to the prompt), G kinds, V vocabulary.
"""

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

KINDS = ("eos", "high_prior", "repetition", "other")


def token_counts(texts: Iterable[Sequence[int]], vocab_size: int) -> Tensor:
    """How often each token occurs in the texts: `LongTensor` [V]."""
    counts_V = torch.zeros(vocab_size, dtype=torch.long)
    for ids in texts:
        counts_V += torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=vocab_size)
    return counts_V


def high_prior_tokens(counts_V: Tensor, count: int = 100, exclude: Collection[int] = ()) -> Tensor:
    """Marks the `count` most frequent tokens: `BoolTensor` [V]. Of equally frequent ones the lower id is taken.

    exclude: ids that are no text, as EOS and padding.
    """
    counts_V = counts_V.index_fill(0, torch.tensor(sorted(exclude), dtype=torch.long), 0)
    order_V = counts_V.sort(descending=True, stable=True).indices[:count]
    return torch.zeros(len(counts_V), dtype=torch.bool).index_fill(0, order_V, True) & (counts_V > 0)


def log_priors(counts_V: Tensor) -> Tensor:
    """Natural logarithm of each token's share: `FloatTensor` [V]. Averaged over a text, it is its mean log prior.

    Half an occurrence is added to each count, so that tokens that never occur have a prior too.
    """
    shares_V = counts_V.double() + 0.5
    return (shares_V / shares_V.sum()).log().float()


def token_kinds(prompt_BP: Tensor, high_prior_V: Tensor, eos_token_id: int, not_text: Collection[int]) -> Tensor:
    """Which tokens are of which of the `KINDS`, row by row: `BoolTensor` [B, G, V].

    A token can be high-prior and a repetition; `other` is none of the three. EOS is of its own kind alone.

    Args:
        prompt_BP (`LongTensor` [B, P]): the prompts, padded.
        high_prior_V (`BoolTensor` [V]): as `high_prior_tokens` gives it.
        not_text: ids that don't count as repeated when they occur in a prompt: padding, mask, marks of a template.
    """
    rows, vocab_size = len(prompt_BP), len(high_prior_V)
    no_text = torch.tensor(sorted({*not_text, eos_token_id}), device=prompt_BP.device)
    repeated_BV = torch.zeros(rows, vocab_size, dtype=torch.bool, device=prompt_BP.device)
    repeated_BV = repeated_BV.scatter(1, prompt_BP, True).index_fill(1, no_text, False)
    high_prior_V = high_prior_V.to(prompt_BP.device).index_fill(0, no_text, False)
    eos_V = torch.arange(vocab_size, device=prompt_BP.device) == eos_token_id
    kinds = torch.stack([eos_V.expand(rows, -1), high_prior_V.expand(rows, -1), repeated_BV], 1)
    return torch.cat([kinds, ~kinds.any(1, keepdim=True)], 1)


def kind_masses(logits_BKV: Tensor, kinds_BGV: Tensor, mask_token_id: int) -> Tensor:
    """Probability mass on each kind of token at each distance from the prompt: `FloatTensor` [B, G, K].

    In float32; the mask itself has no probability (SUBS, arXiv 2406.07524).

    Args:
        logits_BKV (`Tensor` [B, K, V]): of the masked positions behind the prompt, in order.
        kinds_BGV (`BoolTensor` [B, G, V]): as `token_kinds` gives them.
    """
    mask = torch.tensor([mask_token_id], device=logits_BKV.device)
    probs_BKV = logits_BKV.float().index_fill(2, mask, -torch.inf).softmax(2)
    return kinds_BGV.float() @ probs_BKV.mT


def kinds_of_tokens(ids_BK: Tensor, kinds_BGV: Tensor) -> Tensor:
    """The same of texts as they are, each token with all the mass on it: `FloatTensor` [B, G, K] of 0 and 1."""
    return kinds_BGV.gather(2, ids_BK[:, None].expand(-1, kinds_BGV.shape[1], -1)).float()
