"""Tests of paired scores: could the difference be chance?

Under the null hypothesis of each test the two networks are exchangeable on every item: the sign of
an item's difference is a coin's. What is asked is how often coins alone give a mean as far from 0.

References: Q. McNemar 1947, Psychometrika 12, 153-157; P. Good 2005, Permutation, Parametric and
Bootstrap Tests of Hypotheses, 3rd edition, section 3.2 (sign flips); B. Phipson and G. K. Smyth
2010, Statistical Applications in Genetics and Molecular Biology 9, 39 (why a drawn p is never 0);
Y. Benjamini and Y. Hochberg 1995, Journal of the Royal Statistical Society B 57, 289-300.

Shape letters: N items, R resamples, G groups of items whose differences are equal in size, P pairs.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsbench.errors import DataError
from rsbench.stats._scores import as_steps, finite

NUM_FLIPS = 100_000
"""How often signs are flipped where not all flips can be gone through."""

_MAX_EXACT_WORK = 100_000_000
"""Additions that an exact distribution may take: some tenths of a second."""
_MANY = 256
"""From so many equal differences on, their sum is drawn at once instead of coin by coin."""
_COINS = 8
"""Thrown at once: a byte of random bits picks one of 256 sums."""
_TOLERANCE = 1e-9
"""Of a sum of signed differences in units of the largest: less apart is equal. Sums of one value in
another order differ in their last digits, and equal sums must count as being as extreme."""


class PValue(NamedTuple):
    """How often chance alone does as much, two-sided."""

    p: float
    exact: bool
    """Whether all flips were gone through; else it was estimated from `num_resamples` of them."""
    num_resamples: int
    """0 for an exact one."""


def mcnemar(first_only: int, second_only: int) -> float:
    """Give the exact two-sided p of McNemar's test: are both equally often right alone?

    Of the items that only one of two networks got right, each is under the null hypothesis the
    first one's with probability one half. Exact tests are conservative: under the null hypothesis p
    falls below a level no oftener than the level says, and with few such items far less often.

    Args:
        first_only: Items that the first alone got right.
        second_only: Items that the second alone got right.

    Returns:
        p in (0, 1]; 1 where no item tells the two apart.
    """
    assert first_only >= 0 and second_only >= 0
    tails_K = _lower_tails_of_coins(first_only + second_only)
    return min(1.0, 2 * float(tails_K[min(first_only, second_only)]))


def permutation_p(
    differences: ArrayLike, *, num_resamples: int = NUM_FLIPS, seed: int = 0
) -> PValue:
    """Give the two-sided p of a mean of paired differences, by flipping their signs.

    It is exact where the differences are few, or multiples of one step as those of hits averaged
    over seeds are: then it is the share of all flips whose mean is as far from 0. Of hits of one
    run each it is McNemar's exact p. Else flips are drawn, and p is (b + 1) / (m + 1) for b of m as
    far, which keeps its level for every m.

    Args:
        differences: First minus second, one finite number an item, (N,), in any order.
        num_resamples: How many flips are drawn, and gone through at most.
        seed: Of the drawing; the same seed gives the same p.

    Raises:
        DataError: There are no items, or a difference is not finite.
    """
    size_N = np.abs(finite(differences))
    largest = float(size_N.max())
    if largest == 0:
        return PValue(1.0, True, 0)
    # In units of the largest, so that what is equal but for rounding is equal on every scale.
    share_N = np.round(size_N / largest, 12)
    share_G, count_G = np.unique(share_N[share_N > 0], return_counts=True)
    signed_N = np.copysign(share_N, np.asarray(differences, dtype=np.float64))
    observed = abs(float(np.sort(signed_N).sum()))
    steps_G = as_steps(share_G)
    if steps_G is not None and _work(steps_G, count_G) <= _MAX_EXACT_WORK:
        step = float(share_G[-1]) / int(steps_G[-1])
        return PValue(_p_of_steps(steps_G, count_G, round(observed / step)), True, 0)
    if np.log(count_G + 1.0).sum() <= math.log(num_resamples):
        return PValue(_p_of_all_flips(share_G, count_G, observed), True, 0)
    generator = np.random.default_rng(seed)
    drawn_R = _drawn_sums(share_G, count_G, generator, num_resamples=num_resamples)
    num_as_far = int(np.count_nonzero(np.abs(drawn_R) >= observed - _TOLERANCE))
    return PValue((num_as_far + 1) / (num_resamples + 1), False, num_resamples)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Give the q of each of many p: the least share of false discoveries at which it is one.

    Taking all with q <= 0.05 for real keeps the expected share of those that are not at 5% at most,
    for tests that are independent or rise and fall together.

    Args:
        p_values: p of each test of one family, in [0, 1], (P,); may be empty.

    Returns:
        q in the order given, (P,); never below its p.

    Raises:
        DataError: A p lies outside [0, 1], or is not a number.
    """
    p_P = np.asarray(p_values, dtype=np.float64)
    assert p_P.ndim == 1
    if not ((p_P >= 0) & (p_P <= 1)).all():
        worst = p_P[~((p_P >= 0) & (p_P <= 1))][0]
        raise DataError(f"Each p must lie in [0, 1], but one was {worst}.")
    order_P = np.argsort(p_P, kind="stable")
    scaled_P = p_P[order_P] * len(p_P) / np.arange(1, len(p_P) + 1)
    q_P = np.empty_like(p_P)
    # From the largest down: no p may have a larger q than one above it.
    q_P[order_P] = np.minimum.accumulate(scaled_P[::-1])[::-1]
    return np.minimum(q_P, 1.0)


@functools.lru_cache(maxsize=64)
def _chances_of_coins(n: int) -> NDArray[np.float64]:
    """Give the chance of each number of heads in n throws, (n + 1,).

    From the middle outwards by the ratio of neighbours, which keeps all digits far into the tails.
    """
    middle = n // 2
    heads = np.arange(middle + 1, n + 1, dtype=np.float64)
    upper = np.cumprod((n - heads + 1) / heads)
    # An odd number of throws has two numbers in the middle, equally likely.
    lower = (upper if n % 2 else np.append(1.0, upper))[::-1]
    both = np.concatenate([lower, upper])
    return _read_only(both / both.sum())


@functools.lru_cache(maxsize=64)
def _lower_tails_of_coins(n: int) -> NDArray[np.float64]:
    """Give the chance of k heads or fewer in n throws, for every k, (n + 1,)."""
    return _read_only(np.cumsum(_chances_of_coins(n)))


def _read_only(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values.flags.writeable = False
    return values


def _work(steps_G: NDArray[np.int64], count_G: NDArray[np.int64]) -> int:
    """Give a bound on the additions that `_p_of_steps` takes."""
    return int((steps_G * count_G).sum() * (count_G.sum() - count_G.max()))


def _p_of_steps(steps_G: NDArray[np.int64], count_G: NDArray[np.int64], observed: int) -> float:
    """Give the exact p of differences that are whole numbers of steps.

    Their sum is -total + 2 (steps of the items that came up positive); the distribution of the
    latter is made group by group, the largest first.
    """
    total = int((steps_G * count_G).sum())
    chance_T = np.zeros(total + 1)
    reached = 0
    for group in np.argsort(-count_G, kind="stable"):
        step, count = int(steps_G[group]), int(count_G[group])
        chances = _chances_of_coins(count)
        if reached == 0:
            chance_T[: step * count + 1 : step] = chances
        else:
            former = chance_T[: reached + 1].copy()
            chance_T[: reached + 1] = 0
            for heads in range(count + 1):
                chance_T[step * heads : step * heads + reached + 1] += chances[heads] * former
        reached += step * count
    # As far from 0 as observed, on the lower side; the upper is its mirror image.
    lower = float(chance_T[: (total - observed) // 2 + 1].sum())
    return min(1.0, 2 * lower)


def _p_of_all_flips(
    share_G: NDArray[np.float64], count_G: NDArray[np.int64], observed: float
) -> float:
    """Give the exact p by going through how many of each group come up positive."""
    sums, chances = np.zeros(1), np.ones(1)
    for share, count in zip(share_G, count_G, strict=True):
        flipped = share * (2.0 * np.arange(count + 1) - count)
        sums = np.add.outer(sums, flipped).ravel()
        chances = np.multiply.outer(chances, _chances_of_coins(int(count))).ravel()
    return min(1.0, float(chances[np.abs(sums) >= observed - _TOLERANCE].sum()))


def _drawn_sums(
    share_G: NDArray[np.float64],
    count_G: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    num_resamples: int,
) -> NDArray[np.float64]:
    """Draw sums of differences under coins for signs, (R,)."""
    sums_R = np.zeros(num_resamples)
    is_many_G = count_G >= _MANY
    for share, count in zip(share_G[is_many_G], count_G[is_many_G], strict=True):
        sums_R += share * (2.0 * generator.binomial(int(count), 0.5, size=num_resamples) - count)
    single_N = np.repeat(share_G[~is_many_G], count_G[~is_many_G])
    patterns = np.unpackbits(np.arange(2**_COINS, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1
    for start in range(0, len(single_N), _COINS):
        part = single_N[start : start + _COINS]
        sum_of_pattern = patterns[:, : len(part)] @ part
        drawn_R = np.frombuffer(generator.bytes(num_resamples), dtype=np.uint8)
        sums_R += sum_of_pattern[drawn_R]
    return sums_R
