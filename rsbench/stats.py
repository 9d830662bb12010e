"""Intervals and paired differences, from per-item scores.

Everything is deterministic: resampling takes a seed, and no result depends on the order of items.

References: E. B. Wilson 1927, JASA 22, 209-212 (score interval); B. Efron and R. Tibshirani 1993,
An Introduction to the Bootstrap, chapter 13 (percentile interval); G. Y. Zou, W. Huang, X. Zhang
2009, Computational Statistics and Data Analysis 53, 1080-1085 (interval of a sum of estimates).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsbench.errors import DataError

NUM_RESAMPLES = 10_000

_MAX_DISTINCT = 64
"""Up to so many distinct values, counts are drawn instead of items: same law, far less work."""
_DRAWS_AT_A_TIME = 4_000_000
"""Bounds the memory of resampling to some tens of megabytes."""


class Interval(NamedTuple):
    """Two ends of an interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float | None
    high: float | None
    """None, both, where no interval is known."""


class PairedDifference(NamedTuple):
    """Mean of (first - second) over paired items, with its interval."""

    difference: float
    low: float
    high: float


class MeanStd(NamedTuple):
    """Mean and sample standard deviation (divided by n - 1; None for one value) of n values."""

    mean: float
    std: float | None
    n: int


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Give Wilson's score interval for a proportion, in closed form.

    Args:
        successes: Number of successes, in [0, n]; a mean over repetitions may be fractional.
        n: Number of trials, at least 1.
        confidence: Two-sided level, in (0, 1).

    Raises:
        DataError: There are no trials.
    """
    _require_examples(n)
    assert 0 <= successes <= n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are 0 and 1 exactly there; the formula misses them by rounding.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def bootstrap_mean(
    values: ArrayLike,
    *,
    strata: Sequence[Hashable] = (),
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Give the percentile bootstrap interval of a mean, resampling items.

    Args:
        values: One finite score an item, (N,), in any order.
        strata: What items are resampled within, (N,): their classes for a mean per class, whose
            class counts stay as they are. Empty resamples among all items.
        confidence: Two-sided level, in (0, 1).
        seed: Of the resampling; the same seed gives the same interval.
        num_resamples: How many means are drawn.

    Raises:
        DataError: There are no values, or one is not finite.
    """
    values_N = _finite(values)
    generator = np.random.default_rng(seed)
    means = np.zeros(num_resamples)
    for rows in _rows_by_stratum(strata, len(values_N)):
        part = _resampled_means(values_N[rows], generator, num_resamples=num_resamples)
        means += part * (len(rows) / len(values_N))
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(low), float(high))


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> PairedDifference:
    """Give the mean of (first - second) over the same items, with its paired bootstrap interval.

    Args:
        first: One finite score an item, (N,).
        second: The other's scores of the same items, in the same order, (N,).
        confidence: Two-sided level, in (0, 1).
        seed: Of the resampling; the same seed gives the same interval.
        num_resamples: How many mean differences are drawn.

    Raises:
        DataError: There are no items, a score is not finite, or the lengths differ.
    """
    first_N, second_N = _finite(first), _finite(second)
    if len(first_N) != len(second_N):
        raise DataError(
            f"Paired scores must be of the same items, were {len(first_N)} and {len(second_N)}."
        )
    # Means over seeds differ in the last digits where they are equal: 1/3 against 1 - 2/3.
    gain_N = np.round(first_N - second_N, 12) + 0.0
    low, high = bootstrap_mean(
        gain_N, confidence=confidence, seed=seed, num_resamples=num_resamples
    )
    return PairedDifference(math.fsum(gain_N) / len(gain_N), low, high)


def resampled_counts(
    n: int, generator: np.random.Generator, *, num_resamples: int
) -> NDArray[np.int16]:
    """Draw how often each of n items occurs in each resample of as many: int16 (n, R).

    Raises:
        DataError: There are no items.
    """
    _require_examples(n)
    counts_NR = np.empty((n, num_resamples), dtype=np.int16)
    for resample in range(num_resamples):
        counts_NR[:, resample] = np.bincount(generator.integers(n, size=n), minlength=n)
    return counts_NR


def centred_percentiles(
    share: float, resampled_R: ArrayLike, *, confidence: float = 0.95
) -> Interval:
    """Give the percentile interval of resampled shares, moved by what they are off on average.

    An item that a resample holds twice stands beside itself in every ranking, which makes resampled
    precisions higher than the one they are drawn around; by itself their interval may miss it.

    Args:
        share: What was resampled, in [0, 1].
        resampled_R: Of each resample; those without a value are NaN and left out.
        confidence: Two-sided level, in (0, 1).
    """
    drawn_R = np.asarray(resampled_R, dtype=np.float64)
    drawn_R = drawn_R[~np.isnan(drawn_R)]
    ends = np.quantile(drawn_R, [0.5 - confidence / 2, 0.5 + confidence / 2])
    low, high = np.clip(ends - drawn_R.mean() + share, 0, 1)
    return Interval(float(low), float(high))


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """Give first - second with the interval of independent estimates (Zou, Huang, Zhang 2009).

    Of the same items it is rather too wide: what is hard for the one is hard for the other.
    """
    return _sum_of([first, _negative(second)], [0, 1])


def mean_of(estimates: Sequence[Estimate], *, clusters: Sequence[Hashable] = ()) -> Estimate:
    """Give the unweighted mean of estimates with an interval made of theirs.

    The distances of the estimates to the ends of their intervals add up in quadrature, each side by
    itself (Zou, Huang, Zhang 2009): Wilson's and bootstrap intervals keep their lopsidedness. Where
    one of them has no interval the mean has none.

    Args:
        estimates: One a data set, with intervals of one level.
        clusters: What the estimates were made of, (N,): of equal ones nothing is known of how they
            vary together, so their distances are added as if they always erred alike. Empty for
            estimates that are independent.

    Raises:
        DataError: There are no estimates.
    """
    _require_examples(len(estimates))
    named = list(clusters) if clusters else list(range(len(estimates)))
    assert len(named) == len(estimates)
    value, low, high = _sum_of(estimates, named)
    n = len(estimates)
    return Estimate(value / n, None if low is None else low / n, None if high is None else high / n)


def _sum_of(estimates: Sequence[Estimate], clusters: Sequence[Hashable]) -> Estimate:
    value = math.fsum(each.value for each in estimates)
    below: dict[Hashable, float] = {}
    above: dict[Hashable, float] = {}
    for cluster, each in zip(clusters, estimates, strict=True):
        if each.low is None or each.high is None:
            return Estimate(value, None, None)
        below[cluster] = below.get(cluster, 0.0) + each.value - each.low
        above[cluster] = above.get(cluster, 0.0) + each.high - each.value
    return Estimate(value, value - math.hypot(*below.values()), value + math.hypot(*above.values()))


def _negative(estimate: Estimate) -> Estimate:
    value, low, high = estimate
    return Estimate(-value, None if high is None else -high, None if low is None else -low)


def mean_std(values: Sequence[float]) -> MeanStd:
    """Give mean and sample standard deviation of a few values, seeds for instance.

    Raises:
        DataError: There are no values.
    """
    _require_examples(len(values))
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return MeanStd(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return MeanStd(mean, math.sqrt(variance), len(values))


def _require_examples(n: int) -> None:
    if n < 1:
        raise DataError("No examples, no score: at least one item must be evaluated, were 0.")


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    values_N = np.asarray(values, dtype=np.float64)
    assert values_N.ndim == 1
    _require_examples(len(values_N))
    if not np.isfinite(values_N).all():
        row = int(np.flatnonzero(~np.isfinite(values_N))[0])
        raise DataError(f"Scores must be finite, but that of row {row} was {values_N[row]}.")
    return values_N


def _rows_by_stratum(strata: Sequence[Hashable], n: int) -> list[list[int]]:
    """Give the rows of each stratum, in the order of the strata's names, not of the items."""
    if not strata:
        return [list(range(n))]
    assert len(strata) == n
    rows: dict[Hashable, list[int]] = {}
    for row, stratum in enumerate(strata):
        rows.setdefault(stratum, []).append(row)
    return [rows[stratum] for stratum in sorted(rows, key=repr)]


def _resampled_means(
    values_N: NDArray[np.float64], generator: np.random.Generator, *, num_resamples: int
) -> NDArray[np.float64]:
    """Draw means of resampled items, (num_resamples,); the order of the items does not matter."""
    n = len(values_N)
    distinct_M, counts_M = np.unique(values_N, return_counts=True)
    if len(distinct_M) <= _MAX_DISTINCT:
        drawn_RM = generator.multinomial(n, counts_M / n, size=num_resamples)
        return drawn_RM @ distinct_M / n
    sorted_N = np.sort(values_N)
    at_a_time = max(1, _DRAWS_AT_A_TIME // n)
    means = [
        sorted_N[generator.integers(n, size=(min(at_a_time, num_resamples - done), n))].mean(axis=1)
        for done in range(0, num_resamples, at_a_time)
    ]
    return np.concatenate(means)
