from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from rsbench.errors import DataError
from rsbench.stats import (
    Estimate,
    Interval,
    bootstrap_mean,
    centred_percentiles,
    detectable_share,
    difference_with_seeds,
    mean_of,
    mean_std,
    minimum_detectable,
    paired_difference,
    resampled_counts,
    resampled_difference,
    resampled_p,
    t_interval,
    unpaired_difference,
    wilson,
    with_seeds,
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


@pytest.mark.parametrize(("hits", "n"), [(1, 200), (30, 100), (770, 1000), (25_000, 50_000)])
def test_the_bootstrap_of_hits_is_binomial(hits: int, n: int) -> None:
    # Second source: a resample of hits is a binomial draw; scipy.stats.binom has its quantiles.
    expected = scipy_stats.binom(n, hits / n).ppf([0.025, 0.975]) / n
    assert bootstrap_mean([1.0] * hits + [0.0] * (n - hits)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
def test_the_bootstrap_of_differences_over_seeds_is_that_of_many_draws(seeds: int) -> None:
    # Second source: numpy draws 400,000 resamples of 40 items; a step of the mean is 1/40/seeds.
    generator = np.random.default_rng(seeds)
    values = generator.integers(-seeds, seeds + 1, size=40) / seeds
    means = np.sort(values[generator.integers(40, size=(400_000, 40))].mean(axis=1))
    low, high = bootstrap_mean(values)
    # The ends are where the share below passes the level; 4 standard errors of it are 0.001.
    for end, level in ((low, 0.025), (high, 0.975)):
        below, up_to = (means < end - 1e-9).mean(), (means < end + 1e-9).mean()
        assert below - 0.001 <= level <= up_to + 0.001


def test_an_end_that_is_zero_is_so_exactly() -> None:
    # Sums of thirds come to 0 now and then, and to 1e-17 in floats: that would tell two rows
    # apart whose interval ends there.
    ends = [
        end
        for seed in range(200)
        for end in bootstrap_mean(np.random.default_rng(seed).integers(-3, 3, size=50) / 3)
    ]
    assert any(end == 0 for end in ends)
    assert all(end == 0 or abs(end) > 1e-3 for end in ends)


def test_a_resample_within_strata_varies_as_the_mean_of_each_does() -> None:
    # Second source: the variance of a stratified mean (W. G. Cochran 1977, Sampling Techniques,
    # equation 5.12, without its correction for finite populations), classes weighing alike.
    generator = np.random.default_rng(9)
    strata = np.repeat(np.arange(30), 5)
    values = generator.normal(strata, 1)
    error = math.sqrt(np.mean([values[strata == k].var(ddof=1) / 5 for k in range(30)]) / 30)
    low, high = bootstrap_mean(values, strata=strata.tolist())
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * error)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_strata_of_one_item_show_together_how_they_vary() -> None:
    # Second source: as above, with the singles as one class; alone each would seem sure.
    values = np.array([0.0, 1, 0, 1, 1, 0, 1, 1])
    names = ["a", "b", "c", "d", "e", "f", "g", "h"]
    alone = bootstrap_mean(values, strata=names)
    assert alone == pytest.approx(bootstrap_mean(values, strata=["all"] * 8))
    # One single goes to the smallest of the others, whatever the order.
    several = ["x", "x", "x", "y", "y", "y", "y", "z"]
    joined = ["x", "x", "x", "y", "y", "y", "y", "x"]
    assert bootstrap_mean(values, strata=several) == bootstrap_mean(values, strata=joined)
    assert bootstrap_mean([0.4], strata=["z"]) == (0.4, 0.4)


def test_a_paired_difference_within_strata_leaves_out_what_sets_them_apart() -> None:
    # By hand: the gain is 1 throughout one class and 0 in the other; within them nothing varies.
    first, second = [1.0] * 5 + [0.0] * 5, [0.0] * 10
    assert paired_difference(first, second, strata=["a"] * 5 + ["b"] * 5) == (0.5, 0.5, 0.5)
    assert paired_difference(first, second).low < 0.4


@pytest.mark.parametrize("n", [2, 3, 4, 5, 12, 101])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_students_interval_is_scipys(n: int, confidence: float) -> None:
    # Second source: scipy.stats.t.interval.
    values = np.random.default_rng(n).normal(0.7, 0.02, size=n)
    expected = scipy_stats.t.interval(confidence, n - 1, values.mean(), scipy_stats.sem(values))
    assert t_interval(values.tolist(), confidence=confidence) == pytest.approx(expected, rel=1e-12)


def test_one_value_has_no_spread_to_make_an_interval_of() -> None:
    with pytest.raises(DataError, match="from 2 values at least, were 1"):
        t_interval([0.5])


def test_equal_seeds_leave_the_interval_over_items_as_it_is() -> None:
    assert with_seeds(0.5, Interval(0.4, 0.7), [0.5]) == (0.4, 0.7)
    assert with_seeds(0.5, Interval(0.4, 0.7), [0.5, 0.5, 0.5]) == pytest.approx((0.4, 0.7))


def test_seeds_widen_each_side_in_quadrature() -> None:
    # By hand: 0.4 and 0.6 have a standard error of 0.1, and t of 1 degree of freedom is 12.7062.
    half = 12.7062 * 0.1
    found = with_seeds(0.5, Interval(0.4, 0.7), [0.4, 0.6])
    expected = 0.5 - math.hypot(0.1, half), 0.5 + math.hypot(0.2, half)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_mean_of_no_seeds_is_refused() -> None:
    with pytest.raises(DataError, match="No examples, no score"):
        with_seeds(0.5, Interval(0.4, 0.7), [])


def test_seeds_of_both_widen_a_paired_difference_by_welchs_t() -> None:
    # Second source: scipy.stats.ttest_ind(equal_var=False). Five and five seeds of equal spread
    # have 8 degrees of freedom exactly; else ours are rounded down, and t is the larger.
    first, second = [0.50, 0.52, 0.54, 0.56, 0.58], [0.44, 0.46, 0.48, 0.50, 0.52]
    welch = scipy_stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    nothing_over_items = Interval(0.06, 0.06)
    found = difference_with_seeds(0.06, nothing_over_items, first, second)
    assert found == pytest.approx((welch.low, welch.high), abs=1e-12)
    both = difference_with_seeds(0.06, Interval(0.05, 0.08), first, second)
    half = 0.06 - welch.low
    assert both == pytest.approx((0.06 - math.hypot(0.01, half), 0.06 + math.hypot(0.02, half)))

    uneven = difference_with_seeds(0.1, Interval(0.1, 0.1), [0.6, 0.7, 0.5], [0.5, 0.51])
    welch = scipy_stats.ttest_ind([0.6, 0.7, 0.5], [0.5, 0.51], equal_var=False)
    assert uneven.low <= welch.confidence_interval().low + 0.005
    assert difference_with_seeds(0.1, Interval(0, 0.3), [1, 1], [0.9, 0.9]) == (0.0, 0.3)


def test_a_difference_with_one_seed_tells_nothing_of_others() -> None:
    with pytest.raises(DataError, match="2 seeds at least, was 1"):
        difference_with_seeds(0.1, Interval(0, 0.2), [0.5], [0.4, 0.4])


def test_a_detectable_difference_is_two_point_eight_standard_errors() -> None:
    # By hand: 1.95996 + 0.84162, the normal quantiles of 97.5 % and 80 %, times 0.5 / 10.
    assert minimum_detectable(100, 0.5) == pytest.approx(2.80158 * 0.05, abs=1e-6)
    assert minimum_detectable(100, 0.5, power=0.9) == pytest.approx(3.24152 * 0.05, abs=1e-6)


def test_a_detectable_share_needs_as_many_items_as_connor_says() -> None:
    # R. J. Connor 1987, Biometrics 43, 207: n = (z_a sqrt(s) + z_b sqrt(s - d^2))^2 / d^2 items
    # show a difference d where the share s is right for one alone.
    for n, num_discordant in ((500, 100), (1_000, 80), (50_000, 11_000)):
        share, found = num_discordant / n, detectable_share(n, num_discordant)
        needed = (1.95996 * math.sqrt(share) + 0.84162 * math.sqrt(share - found**2)) ** 2
        assert needed / found**2 == pytest.approx(n, rel=1e-4)


def test_fewer_than_six_items_can_show_nothing() -> None:
    # By hand: 2 / 2^6 is 0.031 and 2 / 2^5 is 0.0625; at 1 % it takes 2 / 2^8.
    assert detectable_share(1_000, 0) == 6 / 1_000
    assert detectable_share(1_000, 1) == 6 / 1_000
    assert detectable_share(1_000, 0, alpha=0.01) == 8 / 1_000
    assert detectable_share(4, 4) == 1.0


def test_resampled_differences_are_moved_onto_what_was_resampled() -> None:
    # By hand: the middle 95 % of 1,001 equal steps from -0.1 to 0.1, moved from 0 to 0.05; 250 and
    # the one in the middle of it are at 0 or below, and p is 2 (251 + 1) / (1,001 + 1).
    drawn = np.append(np.linspace(-0.1, 0.1, 1001), np.nan)
    assert resampled_difference(0.05, drawn) == pytest.approx((0.05, -0.045, 0.145))
    assert resampled_p(0.05, drawn - 1e-9) == pytest.approx(2 * 252 / 1002)
    assert resampled_p(-0.05, -drawn) == resampled_p(0.05, drawn)
    assert resampled_p(0.0, np.zeros(100)) == 1.0
    assert resampled_p(0.5, drawn) == pytest.approx(2 / 1002)
