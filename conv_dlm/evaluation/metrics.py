"""Metrics of any generated text: pure functions of texts, of their tokens, or of figures about them.

A value that does not exist is NaN: an empty text has no log prior and no perplexity. Tokens are those before EOS, so
that their number is the text's length. Sources: rep-n arXiv 1908.04319, distinct-n arXiv 1510.03055, the mean log prior
(figure 12b) and the inlier rate arXiv 2509.15188, MAUVE arXiv 2102.01454.
"""

import importlib
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from conv_dlm.evaluation.statistics import mean_with_error

if TYPE_CHECKING:
    pass


def is_empty(text: str) -> bool:
    """Whether the text is empty or only whitespace."""
    return not text.strip()


def repeated_ngrams(tokens: Sequence[Hashable], n: int = 4) -> float:
    """rep-n: 1 - distinct / total n-grams of a token sequence, 0 where it has none. Pass the tokens before EOS."""
    ngrams = _ngrams(tokens, n)
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def distinct_ngrams(texts: Sequence[Sequence[Hashable]], n: int = 2) -> float:
    """distinct-n: distinct / total n-grams of all texts together, NaN where they have none.

    It falls as texts are added, so compare sets of the same size. How varied each text is by itself is
    1 - `repeated_ngrams`, which doesn't depend on the others.
    """
    ngrams = [ngram for tokens in texts for ngram in _ngrams(tokens, n)]
    return len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def distinct_ngrams_with_error(
    texts: Sequence[Sequence[Hashable]], n: int = 2, clusters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """`distinct_ngrams` and its standard error by the jackknife, which leaves out one cluster after the other.

    The share of a union is not a mean over texts, so `ratio_with_error` doesn't apply; the jackknife errs, if at all,
    on the safe side (Efron and Stein, 1981).

    Args:
        texts (sequence of token sequences): the corpus.
        n (`int`, *optional*, defaults to 2): tokens of an n-gram.
        clusters (sequence, *optional*): the prompt of each text, as in `ratio_with_error`.

    Returns:
        `tuple[float, float]`: share and error, which is NaN for fewer than two clusters that have n-grams.
    """
    keys = range(len(texts)) if clusters is None else clusters
    counts: dict[Hashable, Counter[Any]] = {}
    for key, tokens in zip(keys, texts, strict=True):
        counts.setdefault(key, Counter()).update(_ngrams(tokens, n))
    sizes = [count.total() for count in counts.values()]
    if sum(size > 0 for size in sizes) < 2:
        return distinct_ngrams(texts, n), math.nan
    holders = Counter(ngram for count in counts.values() for ngram in count)
    own = [sum(holders[ngram] == 1 for ngram in count) for count in counts.values()]
    distinct, total = len(holders), sum(sizes)
    without = [(distinct - lost) / (total - size) for lost, size in zip(own, sizes, strict=True)]
    centre = fmean(without)
    squares = sum((share - centre) ** 2 for share in without)
    return distinct / total, math.sqrt(squares * (len(without) - 1) / len(without))


def inliers(perplexities: Sequence[float], reference_perplexities: Sequence[float]) -> list[bool]:
    """Which texts are about as likely as the references: within mean ± 2 standard deviations of their perplexities.

    Texts far below the band repeat themselves, those far above it are broken. The paper (arXiv 2509.15188) doesn't
    say which standard deviation; here it is the one with n - 1.

    Args:
        perplexities (sequence of `float`): one for each text; NaN, for an empty text, is outside the band.
        reference_perplexities (sequence of `float`): one for each reference text, under the same model.

    Raises:
        ValueError: fewer than two references, or one without a finite perplexity.
    """
    finite = sum(map(math.isfinite, reference_perplexities))
    if finite < 2 or finite < len(reference_perplexities):
        raise ValueError(
            f"`reference_perplexities` has {len(reference_perplexities)} numbers, of which {finite} are finite: the "
            "band needs two at least, and no empty reference text among them."
        )
    centre, spread = fmean(reference_perplexities), stdev(reference_perplexities)
    return [abs(perplexity - centre) <= 2 * spread for perplexity in perplexities]


def inlier_rate(
    perplexities: Sequence[float],
    reference_perplexities: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """The share of `inliers`, and its standard error over the texts; the band is taken as given.

    Args:
        perplexities, reference_perplexities (sequences of `float`): as for `inliers`.
        clusters (sequence, *optional*): the prompt of each text, as in `ratio_with_error`.

    Returns:
        `tuple[float, float]`: share and error.

    Raises:
        ValueError: as for `inliers`.
    """
    return mean_with_error(inliers(perplexities, reference_perplexities), clusters)


def mauve(texts: Sequence[str], references: Sequence[str], **options: Any) -> float:
    """MAUVE of the texts against the references, from 0 to 1, by `mauve-text` (GPL-3, not a dependency).

    The library skips empty texts, so look at the share of empty ones too. It needs thousands of texts; with fewer,
    figures are too high and only comparable between sets of the same size.

    Args:
        texts (sequence of `str`): the generated texts.
        references (sequence of `str`): texts written by people.
        options: further keyword arguments of `mauve.compute_mauve`, such as `featurize_model_name` (GPT-2 large by
            default), `device_id`, `max_text_length`, `num_buckets`, `seed`.

    Raises:
        ImportError: the library is missing.
    """
    try:
        library = importlib.import_module("mauve")
    except ImportError as error:
        raise ImportError(f"MAUVE needs its library ({error}): `pip install mauve-text`.") from error
    return float(library.compute_mauve(p_text=list(references), q_text=list(texts), **options).mauve)


def _ngrams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"`n`={n}: an n-gram has one token at least.")
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
