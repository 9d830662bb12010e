"""One row against another: difference, interval, p and q, from what each came to item by item."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsbench.comparison.compared import SIGNIFICANT, Pairwise, Verdict
from rsbench.comparison.judged import Judged
from rsbench.stats import (
    Interval,
    benjamini_hochberg,
    detectable_share,
    difference_with_seeds,
    mcnemar,
    minimum_detectable,
    paired_difference,
    permutation_p,
    resampled_difference,
    resampled_p,
    unpaired_difference,
    with_seeds,
)


def compare_pair(
    here: Judged,
    there: Judged,
    *,
    first: int,
    second: int,
    n: int,
    n_first: int,
    n_second: int,
    strata: Sequence[Hashable],
) -> Pairwise:
    """Compare two rows over the same items in the same order; q and verdict are not known yet.

    Args:
        here: What the first came to.
        there: What the second came to.
        first: Place of the first among all rows.
        second: Place of the second.
        n: Number of different items.
        n_first: Different items that the first was judged on, compared or not.
        n_second: The same of the second.
        strata: What items are resampled within, (N,); see `rsbench.stats.paired_difference`.
    """
    pair = Pairwise(
        first=first,
        second=second,
        n=n,
        n_first=n_first,
        n_second=n_second,
        first_value=here.estimate.value,
        second_value=there.estimate.value,
        difference=here.estimate.value - there.estimate.value,
        low=None,
        high=None,
        low_with_seeds=None,
        high_with_seeds=None,
        seeds_may_turn=any(_has_unseen_seeds(side) for side in (here, there)),
        interval="none",
        p=None,
        test="none",
        exact=False,
        q=None,
        verdict="untested",
        wins_items=None,
        losses_items=None,
        detectable=None,
        warnings=(),
    )
    if here.scores_N is not None and there.scores_N is not None:
        are_hits = here.are_hits and there.are_hits
        pair = _by_item(pair, here.scores_N, there.scores_N, strata, are_hits=are_hits)
        return _with_seeds(pair, here, there)
    if here.resampled_R is not None and there.resampled_R is not None:
        pair = _by_resampling(pair, here.resampled_R - there.resampled_R)
        return _with_seeds(pair, here, there)
    apart = unpaired_difference(here.estimate, there.estimate)
    if apart.low is None or apart.high is None:
        return replace(pair, warnings=("the metric has no interval, and can't be tested",))
    return replace(
        pair,
        low=apart.low,
        high=apart.high,
        interval="independent",
        warnings=(
            "the metric can't be computed on resampled items: the interval is as if the items were"
            " others, and there is no p",
        ),
    )


def with_verdicts(
    pairs: Sequence[Pairwise], *, higher_is_better: bool, warnings: Sequence[Sequence[str]] = ()
) -> tuple[Pairwise, ...]:
    """Fill in q over all pairs that have a p, and what it comes to.

    Args:
        pairs: All pairs of one family.
        higher_is_better: Of the metric.
        warnings: More of each pair; empty for none.
    """
    tested = [pair.p for pair in pairs if pair.p is not None]
    of_tested = iter(benjamini_hochberg(tested).tolist())
    found = []
    for place, pair in enumerate(pairs):
        q = None if pair.p is None else float(next(of_tested))
        more = warnings[place] if warnings else ()
        found.append(
            replace(
                pair,
                q=q,
                verdict=_verdict(pair.difference, q, higher_is_better=higher_is_better),
                warnings=(*pair.warnings, *more),
            )
        )
    return tuple(found)


def _verdict(difference: float, q: float | None, *, higher_is_better: bool) -> Verdict:
    if q is None:
        return "untested"
    if q > SIGNIFICANT or difference == 0:
        return "tie"
    return "win" if (difference > 0) == higher_is_better else "loss"


def places_of(num_rows: int, baseline: int | None, *, has_baseline: bool) -> list[tuple[int, int]]:
    """Say which pairs are compared: all, or with a baseline those that it is the second of.

    Args:
        num_rows: How many rows there are.
        baseline: Its place; None where it is not among the rows.
        has_baseline: Whether one was asked for: without it among the rows there are no pairs.
    """
    if not has_baseline:
        return list(combinations(range(num_rows), 2))
    if baseline is None:
        return []
    return [(place, baseline) for place in range(num_rows) if place != baseline]


class Count(NamedTuple):
    """Pairs of a row by what it came to."""

    wins: int
    ties: int
    losses: int
    rank: int | None
    """1 more than the rows that are surely better; None unless all pairs were tested."""


def counts_of(pairs: Sequence[Pairwise], num_rows: int) -> list[Count]:
    """Count of each row how often it is surely better, not told apart, and surely worse."""
    wins, ties, losses = [0] * num_rows, [0] * num_rows, [0] * num_rows
    num_tested = 0
    for pair in pairs:
        num_tested += pair.verdict != "untested"
        if pair.verdict == "tie":
            ties[pair.first] += 1
            ties[pair.second] += 1
        elif pair.verdict != "untested":
            is_win = pair.verdict == "win"
            wins[pair.first if is_win else pair.second] += 1
            losses[pair.second if is_win else pair.first] += 1
    are_all_tested = num_rows > 1 and num_tested == num_rows * (num_rows - 1) // 2
    return [
        Count(*each, rank=1 + each[2] if are_all_tested else None)
        for each in zip(wins, ties, losses, strict=True)
    ]


def _by_item(
    pair: Pairwise,
    first_N: NDArray[np.float64],
    second_N: NDArray[np.float64],
    strata: Sequence[Hashable],
    *,
    are_hits: bool,
) -> Pairwise:
    # Means over seeds differ in the last digits where they are equal: 1/3 against 1 - 2/3.
    gain_N = np.round(first_N - second_N, 12) + 0.0
    wins, losses = int((gain_N > 0).sum()), int((gain_N < 0).sum())
    found = paired_difference(first_N, second_N, strata=strata)
    pair = replace(
        pair,
        difference=found.difference,
        low=found.low,
        high=found.high,
        interval="bootstrap",
        wins_items=wins,
        losses_items=losses,
    )
    if are_hits:
        return replace(
            pair,
            p=mcnemar(wins, losses),
            test="mcnemar",
            exact=True,
            detectable=detectable_share(pair.n, wins + losses),
        )
    flipped = permutation_p(gain_N)
    std = float(gain_N.std(ddof=1)) if len(gain_N) > 1 else 0.0
    return replace(
        pair,
        p=flipped.p,
        test="permutation",
        exact=flipped.exact,
        detectable=minimum_detectable(len(gain_N), std) if std else None,
    )


def _by_resampling(pair: Pairwise, drawn_R: NDArray[np.float64]) -> Pairwise:
    gain_R = drawn_R[~np.isnan(drawn_R)]
    if not len(gain_R):
        return replace(pair, warnings=("no resample holds a positive: there is no interval",))
    found = resampled_difference(pair.difference, gain_R)
    std = float(gain_R.std())
    return replace(
        pair,
        low=found.low,
        high=found.high,
        interval="bootstrap",
        p=resampled_p(pair.difference, gain_R),
        test="bootstrap",
        # The spread over resamples is that of the mean: over items it is larger by the root of n.
        detectable=minimum_detectable(pair.n, std * math.sqrt(pair.n)) if std else None,
    )


def _has_unseen_seeds(side: Judged) -> bool:
    """Tell whether other seeds would give other numbers, and there is only one."""
    return side.hangs_on_seed and len(side.seed_values) < 2


def _with_seeds(pair: Pairwise, here: Judged, there: Judged) -> Pairwise:
    """Say how far other seeds may move the difference, where that is known."""
    several = [side.seed_values for side in (here, there) if len(side.seed_values) > 1]
    if pair.low is None or pair.high is None or pair.seeds_may_turn or not several:
        return pair
    over_items = Interval(pair.low, pair.high)
    if len(several) == 2:
        low, high = difference_with_seeds(pair.difference, over_items, *several)
    else:
        # The other does not hang on its seed: only this one adds to what is unsure.
        low, high = with_seeds(pair.difference, over_items, several[0])
    return replace(pair, low_with_seeds=low, high_with_seeds=high, seeds_may_turn=low <= 0 <= high)
