"""Means, ratios and differences of samples, each with its standard error.

Samples of one prompt under several seeds are not independent: an easy prompt is easy under every seed. They form a
cluster, identified by the prompt's index, and errors assume clusters drawn at random. The error of a ratio is that of
its linearisation (Cochran, Sampling Techniques, chapter 6): cluster c moves the ratio of the totals by
(parts_c - ratio * wholes_c) / total.
"""

import math
from collections.abc import Collection, Hashable, Sequence


def mean_with_error(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """The mean of the values and its standard error; see `ratio_with_error`.

    Args:
        values (sequence of `float`): a value for each sample.
        clusters (sequence, *optional*): the prompt of each sample. By default all prompts differ.

    Returns:
        `tuple[float, float]`: mean and error, which is NaN for fewer than two clusters.

    Raises:
        ValueError: there are no values, or not as many as clusters.
    """
    return ratio_with_error(values, [1] * len(values), clusters)


def ratio_with_error(
    parts: Sequence[float], wholes: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """sum(parts) / sum(wholes) over samples, and its standard error by linearisation.

    For shares of things that a sample has any number of, such as annotations per answer or tokens per second. The
    samples, not the things in them, are assumed to be independent.

    Args:
        parts, wholes (sequences of `float`): numerator and denominator of each sample.
        clusters (sequence, *optional*):
            The prompt of each sample. Samples of the same prompt are summed before the error is computed. By default
            all prompts differ.

    Returns:
        `tuple[float, float]`: ratio and error, which is NaN for fewer than two clusters.

    Raises:
        ValueError: there are no samples, the wholes add up to 0, or the lengths differ.
    """
    ratio, influences = _linearise(parts, wholes, clusters)
    return ratio, _error_of_sum(influences.values())


def difference_with_error(
    a: Sequence[float], b: Sequence[float], clusters_a: Sequence[Hashable], clusters_b: Sequence[Hashable]
) -> tuple[float, float]:
    """mean(a) - mean(b) of two settings on the same prompts, and its standard error from the prompts' differences.

    What makes a prompt easy or hard for both settings cancels in the error. The number of samples per prompt may
    differ: a deterministic setting needs one, while the other has several seeds.

    Args:
        a, b (sequences of `float`): the values of each setting's samples.
        clusters_a, clusters_b (sequences): the prompt of each sample.

    Returns:
        `tuple[float, float]`: difference and error, which is NaN for fewer than two prompts.

    Raises:
        ValueError: there are no samples, the lengths differ, or a prompt occurs in only one of the settings.
    """
    mean_a, influences_a = _linearise(a, [1] * len(a), clusters_a)
    mean_b, influences_b = _linearise(b, [1] * len(b), clusters_b)
    alone = [*(c for c in influences_a if c not in influences_b), *(c for c in influences_b if c not in influences_a)]
    if alone:
        shown = ", ".join(repr(cluster) for cluster in alone[:5]) + (", ..." if len(alone) > 5 else "")
        raise ValueError(
            f"{len(alone)} prompts are in one of the two settings only ({shown}): "
            "compare them on the prompts that both have."
        )
    return mean_a - mean_b, _error_of_sum([influences_a[cluster] - influences_b[cluster] for cluster in influences_a])


def _linearise(
    parts: Sequence[float], wholes: Sequence[float], clusters: Sequence[Hashable] | None
) -> tuple[float, dict[Hashable, float]]:
    """The ratio of the totals, and by how much each cluster moves it; these influences add up to 0."""
    samples, total = len(parts), sum(wholes)
    keys = range(samples) if clusters is None else clusters
    if not samples == len(wholes) == len(keys):
        raise ValueError(f"Each sample needs its figures and cluster: {samples}, {len(wholes)}, {len(keys)} are given.")
    if samples == 0 or total == 0:
        raise ValueError(f"A ratio needs something to divide by: {samples} samples whose wholes sum up to {total}.")
    ratio = sum(parts) / total
    influences: dict[Hashable, float] = {}
    for key, part, whole in zip(keys, parts, wholes, strict=True):
        influences[key] = influences.get(key, 0.0) + (part - ratio * whole) / total
    return ratio, influences


def _error_of_sum(influences: Collection[float]) -> float:
    count = len(influences)
    if count < 2:
        return math.nan
    return math.sqrt(sum(influence**2 for influence in influences) * count / (count - 1))
