"""Several numbers made one: means over seeds and over data sets, and differences of two.

Reference: G. Y. Zou, W. Huang, X. Zhang 2009, Computational Statistics and Data Analysis 53,
1080-1085 (interval of a sum of estimates).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsbench.errors import DataError
from rsbench.stats._scores import finite, require_examples
from rsbench.stats.intervals import Estimate, Interval, student_quantile, t_interval


class MeanStd(NamedTuple):
    """Mean and sample standard deviation (divided by n - 1; None for one value) of n values."""

    mean: float
    std: float | None
    n: int


def mean_std(values: Sequence[float]) -> MeanStd:
    """Give mean and sample standard deviation of a few values, seeds for instance.

    Raises:
        DataError: There are no values.
    """
    require_examples(len(values))
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return MeanStd(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return MeanStd(mean, math.sqrt(variance), len(values))


def with_seeds(
    value: float,
    over_items: Interval,
    seed_values: Sequence[float],
    *,
    confidence: float = 0.95,
) -> Interval:
    """Widen an interval over items by what a mean over seeds is unsure of.

    Other items and other seeds would each have given another number, independently; the distances
    to the ends of both intervals add up in quadrature, each side by itself.

    Args:
        value: Mean over seeds of scores on the same items.
        over_items: Its interval over items alone.
        seed_values: Mean score of each seed. Of one seed nothing is known of the spread, and the
            interval over items is given back.
        confidence: Two-sided level of both, in (0, 1).

    Returns:
        The interval; of a share it may reach beyond 0 and 1, and the caller clips it.

    Raises:
        DataError: There are no seeds, or a score is not finite.
    """
    require_examples(len(seed_values))
    if len(seed_values) == 1:
        return over_items
    low, high = t_interval(seed_values, confidence=confidence)
    half = (high - low) / 2
    return Interval(
        value - math.hypot(value - over_items.low, half),
        value + math.hypot(over_items.high - value, half),
    )


def difference_with_seeds(
    value: float,
    over_items: Interval,
    first_seeds: Sequence[float],
    second_seeds: Sequence[float],
    *,
    confidence: float = 0.95,
) -> Interval:
    """Widen a paired interval over items by what other seeds of both would have given.

    A paired test asks whether the items could be a coincidence; of thousands of items it finds two
    seeds of one network to differ. This asks about the networks. The seeds' part is Welch's t (its
    degrees of freedom rounded down), added in quadrature as in `with_seeds`.

    Args:
        value: Mean of the first minus mean of the second, over the same items.
        over_items: Its paired interval over items.
        first_seeds: Mean score of each seed of the first, two or more.
        second_seeds: Likewise of the second, as many or not.
        confidence: Two-sided level of both, in (0, 1).

    Raises:
        DataError: One of them has fewer than two seeds, or a score is not finite.
    """
    degrees, error = _welch([finite(first_seeds), finite(second_seeds)])
    half = student_quantile(degrees, confidence) * error
    return Interval(
        value - math.hypot(value - over_items.low, half),
        value + math.hypot(over_items.high - value, half),
    )


def _welch(samples: Sequence[NDArray[np.float64]]) -> tuple[int, float]:
    """Give degrees of freedom and standard error of a difference of means (B. L. Welch 1947)."""
    for values_N in samples:
        if len(values_N) < 2:
            raise DataError("The spread over seeds must be told from 2 seeds at least, was 1.")
    squares = [float(values_N.var(ddof=1)) / len(values_N) for values_N in samples]
    total = math.fsum(squares)
    if total == 0:
        return 1, 0.0
    shares = [
        (square / total) ** 2 / (len(values_N) - 1)
        for square, values_N in zip(squares, samples, strict=True)
    ]
    return max(1, math.floor(1 / math.fsum(shares) + 1e-9)), math.sqrt(total)


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
    require_examples(len(estimates))
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
