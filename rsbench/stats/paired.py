"""How far two networks are apart on the same items, and how far they would have to be.

References: B. Efron and R. Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; R. J.
Connor 1987, Biometrics 43, 207-211 (sample size of McNemar's test).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsbench.errors import DataError
from rsbench.stats._scores import finite, require_examples
from rsbench.stats.intervals import NUM_RESAMPLES, bootstrap_mean


class PairedDifference(NamedTuple):
    """Mean of (first - second) over paired items, with its interval."""

    difference: float
    low: float
    high: float


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    strata: Sequence[Hashable] = (),
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> PairedDifference:
    """Give the mean of (first - second) over the same items, with its paired bootstrap interval.

    Args:
        first: One finite score an item, (N,).
        second: The other's scores of the same items, in the same order, (N,).
        strata: What items are resampled within, (N,); see `bootstrap_mean`.
        confidence: Two-sided level, in (0, 1).
        seed: Of the resampling; the same seed gives the same interval.
        num_resamples: How many mean differences are drawn.

    Raises:
        DataError: There are no items, a score is not finite, or the lengths differ.
    """
    first_N, second_N = finite(first), finite(second)
    if len(first_N) != len(second_N):
        raise DataError(
            f"Paired scores must be of the same items, were {len(first_N)} and {len(second_N)}."
        )
    # Means over seeds differ in the last digits where they are equal: 1/3 against 1 - 2/3.
    gain_N = np.round(first_N - second_N, 12) + 0.0
    low, high = bootstrap_mean(
        gain_N, strata=strata, confidence=confidence, seed=seed, num_resamples=num_resamples
    )
    return PairedDifference(math.fsum(gain_N) / len(gain_N), low, high)


def resampled_difference(
    difference: float, resampled_R: ArrayLike, *, confidence: float = 0.95
) -> PairedDifference:
    """Give a difference with the interval of its resampled values, moved onto it.

    For what is no mean over items; see `centred_percentiles` for why it is moved.

    Args:
        difference: What was resampled.
        resampled_R: Of each resample of the items, the same for both; those without a value are
            NaN and left out.
        confidence: Two-sided level, in (0, 1).
    """
    drawn_R = _centred(difference, resampled_R)
    low, high = np.quantile(drawn_R, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return PairedDifference(difference, float(low), float(high))


def resampled_p(difference: float, resampled_R: ArrayLike) -> float:
    """Give the two-sided p at which the interval of `resampled_difference` begins to hold 0.

    Twice the share of resampled values, moved onto the difference, on the far side of 0; by (b + 1)
    / (R + 1) it is never 0. Unlike a permutation's it keeps its level only for many items.

    Args:
        difference: What was resampled.
        resampled_R: As of `resampled_difference`.
    """
    drawn_R = _centred(difference, resampled_R)
    num_beyond = int(min(np.count_nonzero(drawn_R <= 0), np.count_nonzero(drawn_R >= 0)))
    return min(1.0, 2 * (num_beyond + 1) / (len(drawn_R) + 1))


def _centred(value: float, resampled_R: ArrayLike) -> NDArray[np.float64]:
    drawn_R = np.asarray(resampled_R, dtype=np.float64)
    drawn_R = drawn_R[~np.isnan(drawn_R)]
    centred_R: NDArray[np.float64] = drawn_R - drawn_R.mean() + value
    return centred_R


def minimum_detectable(
    n: int, std_of_differences: float, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Give the mean paired difference that so many items would show, were it there.

    Args:
        n: Number of items, at least 1.
        std_of_differences: Standard deviation over items of first minus second. Where it is 0,
            nothing is known of what could be seen, and the 0 that comes back is not to be shown.
        power: How often the difference would be found, in (0, 1).
        alpha: Two-sided level of the test, in (0, 1).

    Raises:
        DataError: There are no items.
    """
    require_examples(n)
    assert std_of_differences >= 0
    return (_upper(alpha / 2) + _upper(1 - power)) * std_of_differences / math.sqrt(n)


def detectable_share(
    n: int, num_discordant: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Give the difference of two shares of right answers that so many items would show.

    Like `minimum_detectable`, for 0/1 scores (Connor 1987): the spread comes from the items that
    only one of the two got right, of which there must be enough for McNemar's exact p to reach the
    level at all. With few of them seen, that least number is what comes back.

    Args:
        n: Number of items, at least 1.
        num_discordant: Items that only one of the two got right.
        power: How often the difference would be found, in (0, 1).
        alpha: Two-sided level of the test, in (0, 1).

    Returns:
        The difference as a share, in (0, 1].

    Raises:
        DataError: There are no items.
    """
    require_examples(n)
    assert 0 <= num_discordant <= n
    # All of k one-sided discordant items have p = 2 / 2^k.
    least = math.ceil(1 - math.log2(alpha)) / n
    share = num_discordant / n
    # Connor's equation (d sqrt(n) = z_a sqrt(share) + z_b sqrt(share - d^2)) solved for d.
    z_level, z_power = _upper(alpha / 2), _upper(1 - power)
    scale = n + z_power**2
    root = math.sqrt(max(0.0, scale - z_level**2))
    found = math.sqrt(share) * (z_level * math.sqrt(n) + z_power * root) / scale
    return min(1.0, max(found, least))


def _upper(share: float) -> float:
    """Give what a standard normal number exceeds with a probability."""
    return -NormalDist().inv_cdf(share)
