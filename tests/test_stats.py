from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rsbench.errors import DataError
from rsbench.stats import (
    Estimate,
    bootstrap_mean,
    centred_percentiles,
    mean_of,
    mean_std,
    paired_difference,
    resampled_counts,
    unpaired_difference,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (50, 100), (99, 100), (7, 7)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(successes: int, n: int, confidence: float) -> None:
    # Second source: scipy.stats.binomtest(...).proportion_ci(method="wilson").
    expected = scipy_stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson(successes, n, confidence=confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_wilson_gives_the_published_interval() -> None:
    # R. G. Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3: 81 of 263.
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_of_no_trials_is_refused() -> None:
    with pytest.raises(DataError, match="No examples, no score"):
        wilson(0, 0)


def test_the_bootstrap_of_many_items_is_the_normal_interval() -> None:
    # Second source: the central limit theorem, mean -+ 1.96 standard errors.
    values = np.random.default_rng(1).normal(3, 2, size=2000)
    error = values.std() / math.sqrt(2000)
    low, high = bootstrap_mean(values)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.06 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.06 * error)


def test_the_bootstrap_of_few_distinct_values_is_that_of_items() -> None:
    # Second source: scipy.stats.bootstrap, which draws items one by one.
    values = np.array([0.0] * 30 + [1.0] * 50 + [0.5] * 20)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert bootstrap_mean(values) == pytest.approx((expected.low, expected.high), abs=0.011)


def test_both_ways_of_resampling_agree() -> None:
    few = np.random.default_rng(3).integers(0, 5, size=400) / 4
    many = few + np.random.default_rng(4).normal(scale=1e-6, size=400)
    assert bootstrap_mean(few) == pytest.approx(bootstrap_mean(many), abs=0.008)


@pytest.mark.parametrize("distinct", [3, 5000])
def test_an_interval_does_not_depend_on_the_order_of_items(distinct: int) -> None:
    generator = np.random.default_rng(5)
    values = generator.integers(distinct, size=300) / distinct
    assert bootstrap_mean(values) == bootstrap_mean(generator.permutation(values))


def test_another_seed_gives_another_interval_and_the_same_seed_the_same() -> None:
    values = np.random.default_rng(6).random(50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_equal_rows_do_not_differ_at_all() -> None:
    scores = np.random.default_rng(7).integers(0, 2, size=100)
    assert paired_difference(scores, scores) == (0.0, 0.0, 0.0)


def test_the_paired_difference_is_the_difference_of_means() -> None:
    first, second = np.array([1, 1, 1, 0, 1.0]), np.array([0, 1, 0, 0, 1.0])
    found = paired_difference(first, second)
    assert found.difference == pytest.approx(0.4)  # by hand: two of five items gained
    assert found.low <= 0.4 <= found.high


def test_pairing_narrows_the_interval_of_rows_that_agree() -> None:
    # By hand: 10 of 1000 items gained, none lost. The standard error of the paired difference is
    # sqrt(0.01 * 0.99 / 1000) = 0.0031; unpaired it is sqrt(0.5 / 1000) = 0.022.
    base = np.tile([0.0, 1.0], 500)
    better = base.copy()
    better[:20:2] = 1
    found = paired_difference(better, base)
    assert found.difference == pytest.approx(0.01)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.00315, rel=0.1)


def test_the_paired_interval_holds_its_level() -> None:
    # 300 null pairs at 95%: the 99% binomial band of misses is 6 to 26.
    generator = np.random.default_rng(8)
    low, high = scipy_stats.binom(300, 0.05).ppf([0.005, 0.995])
    misses = 0
    for _ in range(300):
        shared = generator.random(400) < 0.4
        first = shared | (generator.random(400) < 0.3)
        second = shared | (generator.random(400) < 0.3)
        found = paired_difference(first, second, num_resamples=2000)
        misses += not found.low <= 0 <= found.high
    assert low <= misses <= high


def test_rows_of_different_lengths_are_not_paired() -> None:
    with pytest.raises(DataError, match="3 and 2"):
        paired_difference([1, 0, 1], [1, 0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="row 1"):
        bootstrap_mean([0.5, bad])


def test_no_values_have_no_interval() -> None:
    with pytest.raises(DataError, match="No examples, no score"):
        bootstrap_mean([])


def test_mean_and_deviation_are_numpys() -> None:
    values = [0.5, 0.55, 0.7]
    found = mean_std(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert found.n == 3


def test_one_seed_has_no_deviation() -> None:
    assert mean_std([0.25]) == (0.25, None, 1)


def test_the_interval_of_a_mean_gives_newcombe_s_interval_of_a_difference() -> None:
    # R. G. Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10 (hybrid score):
    # 56/70 - 48/80 is 0.0524 to 0.3339 and 9/10 - 3/10 is 0.1705 to 0.8090. A difference is twice
    # the mean of one share and the other with its sign changed.
    for (hits, n), (other_hits, other_n), published in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
    ):
        low, high = wilson(other_hits, other_n)
        both = [
            Estimate(hits / n, *wilson(hits, n)),
            Estimate(-other_hits / other_n, -high, -low),
        ]
        mean = mean_of(both)
        assert (round(2 * mean.low, 4), round(2 * mean.high, 4)) == published


def test_a_mean_of_independent_numbers_is_surer_than_each_and_of_copies_is_not() -> None:
    # By hand: four alike with half width 1 give 1 / sqrt(4); as copies of one they give 1.
    four = [Estimate(5.0, 4.0, 6.0)] * 4

    assert mean_of(four) == Estimate(5.0, 4.5, 5.5)
    assert mean_of(four, clusters=["same"] * 4) == Estimate(5.0, 4.0, 6.0)
    # Two pairs of copies: 2 * sqrt(2) / 4 of half width.
    assert mean_of(four, clusters=[0, 0, 1, 1]).high == pytest.approx(5 + math.sqrt(8) / 4)


def test_a_mean_of_no_estimates_is_refused() -> None:
    with pytest.raises(DataError, match="No examples, no score"):
        mean_of([])


def test_a_mean_over_an_estimate_without_an_interval_has_none() -> None:
    assert mean_of([Estimate(0.2, 0.1, 0.3), Estimate(0.6, None, None)]) == (0.4, None, None)


def test_the_difference_of_independent_estimates_is_that_of_zou_huang_and_zhang() -> None:
    # By hand, their equation 6: -+ sqrt((0.5 - 0.47)^2 + (0.44 - 0.4)^2), and so on.
    found = unpaired_difference(Estimate(0.5, 0.47, 0.62), Estimate(0.4, 0.35, 0.44))
    assert found == pytest.approx((0.1, 0.1 - 0.05, 0.1 + 0.13))


def test_resampled_counts_are_of_as_many_items_as_there_are() -> None:
    counts = resampled_counts(50, np.random.default_rng(0), num_resamples=400)
    assert counts.shape == (50, 400)
    assert (counts.sum(axis=0) == 50).all()
    # Second source: drawn with replacement a count is binomial, of variance 1 - 1/n.
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.05)


def test_percentiles_that_miss_what_was_resampled_are_moved_onto_it() -> None:
    drawn = np.append(np.linspace(0.6, 0.8, 1001), np.nan)
    assert centred_percentiles(0.6, drawn) == pytest.approx((0.505, 0.695))
    assert centred_percentiles(0.0, drawn) == pytest.approx((0.0, 0.095))
