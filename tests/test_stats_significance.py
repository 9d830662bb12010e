"""Tests of paired scores, each held to a second source; how often they err is in
test_stats_rates.py."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from rsbench.errors import DataError
from rsbench.stats import benjamini_hochberg, mcnemar, permutation_p

DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
"""Crossed minus self-fertilised heights of 15 pairs of maize, in eighths of an inch: C. Darwin's,
from R. A. Fisher 1935, The Design of Experiments, table 3."""


@pytest.mark.parametrize(
    ("first_only", "second_only"),
    [
        *((first, second) for first in range(12) for second in range(12) if first + second),
        *((3, 200), (57, 83), (480, 520), (4_900, 5_100), (24_000, 26_000), (5_000, 0)),
    ],
)
def test_mcnemar_is_the_binomial_test(first_only: int, second_only: int) -> None:
    # Second source: scipy.stats.binomtest.
    expected = scipy_stats.binomtest(first_only, first_only + second_only, 0.5).pvalue
    found = mcnemar(first_only, second_only)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-300)


def test_six_items_of_one_side_are_the_fewest_that_tell() -> None:
    # By hand: 2 / 2^6 and 2 / 2^5.
    assert mcnemar(6, 0) == pytest.approx(1 / 32)
    assert mcnemar(0, 5) == pytest.approx(1 / 16)


def test_without_items_that_differ_nothing_is_told() -> None:
    assert mcnemar(0, 0) == 1.0
    assert permutation_p([0.0, 0.0, 0.0]) == (1.0, True, 0)


def test_darwins_maize_has_fishers_p() -> None:
    # R. A. Fisher 1935, section 21: of the 2^15 = 32,768 ways to sign these differences 835 have a
    # sum above 314 and 28 have 314 itself; both sides together are twice that.
    assert permutation_p(DARWIN) == (pytest.approx(2 * (835 + 28) / 32_768, abs=1e-12), True, 0)


def test_an_exact_p_is_scipys() -> None:
    # Second source: scipy.stats.permutation_test, which goes through all 2^12 sign flips.
    differences = np.random.default_rng(1).normal(0.4, 1, size=12)
    expected = scipy_stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = permutation_p(differences)
    assert found.exact
    assert found.p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("steps", [1, 3, 12])
def test_an_exact_p_of_scores_averaged_over_seeds_is_that_of_all_flips(
    steps: int, seed: int
) -> None:
    # Second source: all 2^11 sign flips one by one. 3 steps are three seeds, 12 are 3 against 4.
    multiples = np.random.default_rng(seed).integers(-steps, steps + 1, size=11)
    found = permutation_p(multiples / steps)
    assert found.exact
    assert found.p == pytest.approx(_by_enumeration(multiples), abs=1e-12)


def test_of_single_hits_the_permutation_test_is_mcnemars() -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [57, 83, 4_000])
    found = permutation_p(differences)
    assert found.exact
    assert found.p == pytest.approx(mcnemar(57, 83), abs=1e-12)


def test_an_exact_p_of_thousands_of_items_is_the_normal_one() -> None:
    # Second source: the central limit theorem; with 5,000 items of three seeds it holds to 1e-3.
    multiples = np.random.default_rng(5).choice(7, size=5_000, p=[0.05] * 3 + [0.7] + [0.05] * 3)
    differences = (multiples - 3) / 3
    normal = 2 * scipy_stats.norm.sf(abs(differences.sum()) / math.hypot(*differences))
    found = permutation_p(differences)
    assert found.exact
    assert found.p == pytest.approx(normal, abs=0.01)


@pytest.mark.parametrize(
    ("differences", "why"),
    [
        (np.cbrt(DARWIN), "each of its own size"),
        (np.cbrt(np.concatenate([DARWIN, np.zeros(7)])), "with items that do not differ"),
        (np.repeat([1, -1, math.sqrt(2), -math.sqrt(2)], [150, 140, 130, 145]), "many of a size"),
        (np.repeat([1, -1, math.sqrt(2), math.pi], [300, 260, 9, 1]), "many and few of a size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_drawn_p_is_within_its_error_of_the_exact_one(
    differences: NDArray[np.float64], why: str
) -> None:
    # Second source: the exact p above. 4.4 standard errors are exceeded once in 100,000 times.
    exact = permutation_p(differences)
    num_resamples = 4_000
    drawn = permutation_p(differences, num_resamples=num_resamples)
    assert (exact.exact, drawn.exact, drawn.num_resamples) == (True, False, num_resamples), why
    error = math.sqrt(exact.p * (1 - exact.p) / num_resamples)
    assert abs(drawn.p - exact.p) < 4.4 * error + 2 / num_resamples


def test_flips_as_far_as_observed_count_when_they_are_drawn() -> None:
    # Second source: the exact p. By hand 2 (3/8)^4 = 4 % of flips are just as far; 1 % is 4.4
    # standard errors of 40,000 draws.
    sizes = np.sqrt([2, 3, 5, 7])
    differences = np.concatenate([sizes, sizes, -sizes])
    drawn = [permutation_p(differences, num_resamples=200, seed=seed).p for seed in range(200)]
    exact = permutation_p(differences)
    assert exact.exact
    assert np.mean(drawn) == pytest.approx(exact.p, abs=0.012)


def test_a_drawn_p_of_many_resamples_is_near_the_exact_one() -> None:
    # 100,000 draws know a p of 5 % to 0.0007; 17 sizes are the fewest that are drawn from as many.
    sizes = np.sqrt(np.arange(2, 19)) * np.tile([1, 1, 1, -1], 5)[:17]
    drawn = permutation_p(sizes)
    assert not drawn.exact
    exact = permutation_p(sizes, num_resamples=2**17)
    assert exact.exact
    assert drawn.p == pytest.approx(exact.p, abs=4.4 * math.sqrt(exact.p / 100_000))


def test_a_drawn_p_is_never_zero_and_is_the_same_again() -> None:
    # (b + 1) / (m + 1), B. Phipson and G. K. Smyth 2010: no flip of 40 gains is as far.
    gains = np.sqrt(np.arange(2, 42))
    assert permutation_p(gains, num_resamples=999) == (1 / 1000, False, 999)
    scores = np.random.default_rng(2).normal(size=60)
    assert permutation_p(scores, seed=1) == permutation_p(scores, seed=1)
    assert permutation_p(scores, seed=1) != permutation_p(scores, seed=2)


@pytest.mark.parametrize("distinct", [3, 5_000])
def test_a_p_depends_neither_on_the_order_nor_the_unit_nor_the_side(distinct: int) -> None:
    generator = np.random.default_rng(3)
    scores = generator.integers(-distinct, distinct + 1, size=300) / distinct
    found = permutation_p(scores)
    assert permutation_p(generator.permutation(scores)) == found
    assert permutation_p(-scores) == found
    assert permutation_p(scores * 1024) == found


def test_sums_that_are_equal_but_for_rounding_count_as_as_far() -> None:
    # By hand: 0.1 + 0.2 - 0.3 is 5.6e-17 in floats and 0 in truth, so every flip is as far.
    assert permutation_p([0.1, 0.2, -0.3]).p == 1.0
    # 1/3 against 1 - 2/3 differ in the last digit: the same as one size.
    assert permutation_p([1 / 3, 1 - 2 / 3, -1 / 3]).p == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_difference_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="row 2"):
        permutation_p([0.5, 0.0, bad])
    with pytest.raises(DataError, match="No examples"):
        permutation_p([])


def test_q_is_that_of_the_worked_example_of_benjamini_and_hochberg() -> None:
    # Y. Benjamini and Y. Hochberg 1995, section 4.1: 15 p, of which the four smallest are taken at
    # 5 %, because 0.0095 <= 4 / 15 * 0.05 and no later one is below its bound.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    q = benjamini_hochberg(p)
    assert (q <= 0.05).sum() == 4
    assert q[3] == pytest.approx(0.0095 * 15 / 4)
    assert q == pytest.approx(scipy_stats.false_discovery_control(p), abs=1e-15)


@pytest.mark.parametrize("num_tests", [1, 2, 7, 500])
def test_q_is_scipys_in_any_order_and_with_ties(num_tests: int) -> None:
    # Second source: scipy.stats.false_discovery_control.
    generator = np.random.default_rng(num_tests)
    p = np.round(generator.random(num_tests) ** 3, 2)
    q = benjamini_hochberg(p)
    assert q == pytest.approx(scipy_stats.false_discovery_control(p), abs=1e-15)
    assert (q >= p).all()
    order = generator.permutation(num_tests)
    assert (benjamini_hochberg(p[order]) == q[order]).all()


def test_no_tests_have_no_q() -> None:
    assert len(benjamini_hochberg([])) == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_p_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        benjamini_hochberg([0.5, bad])


def _by_enumeration(multiples: NDArray[np.int64]) -> float:
    """Give the share of all sign flips whose sum is as far from 0."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(multiples))))
    sums = signs @ np.abs(multiples)
    return float((np.abs(sums) >= abs(multiples.sum())).mean())
