"""Means, ratios and differences of samples, each with its standard error.

Samples of one prompt under several seeds are no independent ones: an easy prompt is easy under each seed. They form a
cluster, named by the prompt's index, and errors are of clusters drawn at random. A ratio's error is that of its
linearisation (Cochran, Sampling Techniques, chapter 6): the ratio of the totals moves with cluster c by
(parts_c - ratio * wholes_c) / total.
"""

import math
from collections.abc import Collection, Hashable, Sequence


def mean_with_error(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Mean of the values and its standard error: `ratio_with_error` to the number of values.

    Raises:
        ValueError: there are no values, or not as many as clusters.
    """
    return ratio_with_error(values, [1] * len(values), clusters)


def ratio_with_error(
    parts: Sequence[float], wholes: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """sum(parts) / sum(wholes) over samples, and its standard error by linearisation.

    For shares of things of which a sample holds several, or none: annotations of an answer, tokens of a second. The
    samples, not the things in them, are taken as independent.

    Args:
        parts, wholes (sequences of numbers): of each sample.
        clusters (sequence, *optional*):
            Of each sample its prompt: samples of the same one are summed up before the error is taken. All samples
            are of different prompts by default.

    Returns:
        `tuple[float, float]`: ratio and error, which is NaN for fewer than two clusters.

    Raises:
        ValueError: there are no samples, the wholes sum up to 0, or the lengths differ.
    """
    ratio, influences = _linearise(parts, wholes, clusters)
    return ratio, _error_of_sum(influences.values())


def difference_with_error(
    a: Sequence[float], b: Sequence[float], clusters_a: Sequence[Hashable], clusters_b: Sequence[Hashable]
) -> tuple[float, float]:
    """mean(a) - mean(b) of two settings on the same prompts, and its standard error from the prompts' differences.

    What makes a prompt easy or hard for both drops out of the error. Of a prompt, each setting may have any number of
    samples: a setting that draws nothing needs one, beside several seeds of another.

    Args:
        a, b (sequences of numbers): the values of each setting's samples.
        clusters_a, clusters_b (sequences): of each sample its prompt.

    Returns:
        `tuple[float, float]`: difference and error, which is NaN for fewer than two prompts.

    Raises:
        ValueError: there are no samples, the lengths differ, or a prompt is in one of the settings only.
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
    """The ratio of the totals, and by how much each cluster moves it; these influences sum up to 0."""
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
