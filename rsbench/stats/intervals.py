"""Intervals of one number.

References: E. B. Wilson 1927, JASA 22, 209-212 (score interval); B. Efron and R. Tibshirani 1993,
An Introduction to the Bootstrap, chapter 13 (percentile interval); P. J. McCarthy and C. B. Snowden
1985, Vital and Health Statistics 2 (95) (one item fewer in each stratum); M. Abramowitz and I. A.
Stegun 1972, Handbook of Mathematical Functions, 26.7.3 and 26.7.4 (Student's t).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsbench.errors import DataError
from rsbench.stats._scores import as_steps, finite, require_examples

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


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Give Wilson's score interval for a proportion, in closed form.

    Args:
        successes: Number of successes, in [0, n]; a mean over repetitions may be fractional.
        n: Number of trials, at least 1.
        confidence: Two-sided level, in (0, 1).

    Raises:
        DataError: There are no trials.
    """
    require_examples(n)
    assert 0 <= successes <= n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are 0 and 1 exactly there; the formula misses them by rounding.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Give Student's interval for the mean of a few values, seeds for instance.

    It takes them for draws of one normal law, and says nothing of what all of them share: the items
    that all seeds were judged on.

    Args:
        values: Two or more finite numbers.
        confidence: Two-sided level, in (0, 1).

    Raises:
        DataError: There are fewer than two values, or one is not finite.
    """
    values_N = finite(values)
    n = len(values_N)
    if n < 2:
        raise DataError("The spread of a mean must be told from 2 values at least, were 1.")
    mean = math.fsum(values_N) / n
    variance = math.fsum((value - mean) ** 2 for value in values_N) / (n - 1)
    half = student_quantile(n - 1, confidence) * math.sqrt(variance / n)
    return Interval(mean - half, mean + half)


def bootstrap_mean(
    values: ArrayLike,
    *,
    strata: Sequence[Hashable] = (),
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Give the percentile bootstrap interval of a mean, resampling items.

    Of values that are whole steps apart, as hits are and their means over seeds, it is that of all
    resamples there are; else, and within strata, resamples are drawn.

    Args:
        values: One finite score an item, (N,), in any order.
        strata: What items are resampled within, (N,): their classes for a mean per class, which all
            keep their weight. Empty resamples among all items.
        confidence: Two-sided level, in (0, 1).
        seed: Of the resampling; the same seed gives the same interval.
        num_resamples: How many means are drawn.

    Raises:
        DataError: There are no values, or one is not finite.
    """
    values_N = finite(values)
    tails = 0.5 - confidence / 2, 0.5 + confidence / 2
    if not strata:
        exact = _quantiles_of_all_resamples(values_N, tails)
        if exact is not None:
            return exact
    generator = np.random.default_rng(seed)
    means = np.zeros(num_resamples)
    for rows in _rows_by_stratum(strata, len(values_N)):
        # A resample of n items varies by (n - 1) / n too little, which many small strata add up;
        # one of n - 1 items varies as it should, and stays inside the possible values.
        num_drawn = len(rows) - 1 if strata and len(rows) > 1 else len(rows)
        part = _resampled_means(
            values_N[rows], generator, num_drawn=num_drawn, num_resamples=num_resamples
        )
        means += part * (len(rows) / len(values_N))
    low, high = np.quantile(means, tails)
    return Interval(float(low), float(high))


def resampled_counts(
    n: int, generator: np.random.Generator, *, num_resamples: int
) -> NDArray[np.int16]:
    """Draw how often each of n items occurs in each resample of as many: int16 (n, R).

    Raises:
        DataError: There are no items.
    """
    require_examples(n)
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


def _rows_by_stratum(strata: Sequence[Hashable], n: int) -> list[list[int]]:
    """Give the rows of each stratum, in the order of the strata's names, not of the items.

    A single item shows nothing of how its stratum varies: strata of one item are taken together,
    and where there is only one such, with the smallest of the others.
    """
    if not strata:
        return [list(range(n))]
    assert len(strata) == n
    rows: dict[Hashable, list[int]] = {}
    for row, stratum in enumerate(strata):
        rows.setdefault(stratum, []).append(row)
    by_name = [rows[stratum] for stratum in sorted(rows, key=repr)]
    several = [part for part in by_name if len(part) > 1]
    single = [row for part in by_name if len(part) == 1 for row in part]
    if len(single) == 1 and several:
        smallest = min(range(len(several)), key=lambda place: len(several[place]))
        several[smallest] = several[smallest] + single
    elif single:
        several.append(single)
    return several


def _quantiles_of_all_resamples(
    values_N: NDArray[np.float64], tails: tuple[float, float]
) -> Interval | None:
    """Give two quantiles of the mean of n draws from n values; None where no step fits them.

    The sum of n draws is distributed as n copies of the values' distribution convolved: its Fourier
    transform is theirs to the power of n. A window of 12 standard deviations to each side holds all
    of it but 1e-10.
    """
    n = len(values_N)
    distinct_M, counts_M = np.unique(values_N, return_counts=True)
    if len(distinct_M) == 1:
        return Interval(float(distinct_M[0]), float(distinct_M[0]))
    if len(distinct_M) > _MAX_DISTINCT:
        return None
    lowest, span = float(distinct_M[0]), float(distinct_M[-1] - distinct_M[0])
    steps_M = as_steps((distinct_M - lowest) / span)
    if steps_M is None:
        return None
    num_steps = int(steps_M[-1])
    mean = float(counts_M @ steps_M) / n
    deviation = math.sqrt(float(counts_M @ (steps_M - mean) ** 2))
    half = math.ceil(12 * deviation) + num_steps
    length = 1 << min(2 * half, n * num_steps).bit_length()
    start = max(0, round(n * mean) - half)
    chances_S = np.zeros(length)
    chances_S[steps_M] = counts_M / n
    of_sum_S = np.fft.irfft(np.fft.rfft(chances_S) ** n, length)
    up_to_S = np.cumsum(np.roll(of_sum_S, -start % length))
    low, high = np.searchsorted(np.maximum.accumulate(up_to_S), np.array(tails) - 1e-12)
    # In units of the span and rounded, so that an end at 0 is at 0: it tells whether 0 is held.
    ends = (lowest / span + float(start + place) / (num_steps * n) for place in (low, high))
    return Interval(*(round(end, 12) * span + 0.0 for end in ends))


def _resampled_means(
    values_N: NDArray[np.float64],
    generator: np.random.Generator,
    *,
    num_drawn: int,
    num_resamples: int,
) -> NDArray[np.float64]:
    """Draw means of resampled items, (num_resamples,); the order of the items does not matter."""
    distinct_M, counts_M = np.unique(values_N, return_counts=True)
    if len(distinct_M) <= _MAX_DISTINCT:
        drawn_RM = generator.multinomial(num_drawn, counts_M / len(values_N), size=num_resamples)
        return drawn_RM @ distinct_M / num_drawn
    sorted_N = np.sort(values_N)
    at_a_time = max(1, _DRAWS_AT_A_TIME // num_drawn)
    means = []
    for done in range(0, num_resamples, at_a_time):
        size = min(at_a_time, num_resamples - done), num_drawn
        means.append(sorted_N[generator.integers(len(values_N), size=size)].mean(axis=1))
    return np.concatenate(means)


@functools.cache
def student_quantile(degrees: int, confidence: float) -> float:
    """Give t that bounds the share `confidence` of Student's law on both sides of 0.

    Through the angle atan(t / sqrt(degrees)), in which the share is a finite sum and all of the law
    lies between 0 and a right angle.
    """
    low, high = 0.0, math.pi / 2
    while True:
        angle = (low + high) / 2
        if angle in (low, high):
            return math.sqrt(degrees) * math.tan(angle)
        if _share_within(angle, degrees) < confidence:
            low = angle
        else:
            high = angle


def _share_within(angle: float, degrees: int) -> float:
    """Give Student's A(t | degrees) at t = sqrt(degrees) tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(3 if is_odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total
