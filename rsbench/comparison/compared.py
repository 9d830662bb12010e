"""What a comparison holds: families of rows that compare, their pairs, and what is refused.

A family is what one ruler holds: its rows stand under the same items, protocol and metric, so each
pair of them is compared item by item. Numbers under unequal rulers are refused, with the fields in
which they differ. Over the pairs of a family the false discovery rate is held at 5%.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rsbench.records.ruler import Difference
from rsbench.specs import Scalar
from rsbench.stats import Estimate
from rsbench.tables.table import Column, Row

Test = Literal["mcnemar", "permutation", "bootstrap", "none"]
"""How p was made: McNemar's exact test of 0/1 scores; sign flips of the differences of single
items; where the metric is no mean over items (mAP), from the interval of the resampled difference;
or not at all."""
IntervalKind = Literal["bootstrap", "independent", "none"]
"""How the interval of a difference was made: by resampling the items both were judged on, from two
intervals as if the items were others (too wide rather than too narrow), or not at all."""
SIGNIFICANT = 0.05
"""Up to this q a difference is taken for real."""

Verdict = Literal["win", "loss", "tie", "untested"]
"""What the first of a pair came to: better or worse (q at most 0.05), not told apart, or not
tested, since there is no p."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairwise:
    """One row against another over the items both were judged on."""

    first: int
    """Place in the family's rows. Without a baseline the row that stands higher."""
    second: int
    """Place in the family's rows; that of the baseline where there is one."""
    n: int
    """Different items they were compared on; one that several folds test is one."""
    n_first: int
    """Items the first was judged on; more than `n` on a common subset alone."""
    n_second: int
    first_value: float
    """Of the headline over the `n` items: a fraction, or in the metric's own unit."""
    second_value: float
    difference: float
    """First minus second, in the metric's unit."""
    low: float | None
    high: float | None
    """95% interval of the difference; None where none is known."""
    low_with_seeds: float | None
    high_with_seeds: float | None
    """95% interval over items and seeds; None unless a row has several seeds, and where a row that
    hangs on its seed has one alone."""
    seeds_may_turn: bool
    """Whether other seeds may turn p, q and verdict, which are over items: the interval over items
    and seeds holds 0, or a row has a single seed of a network that hangs on it (it was trained, its
    weights were drawn, or the examples it learned from were)."""
    interval: IntervalKind
    p: float | None
    """Two-sided; None where the metric can't be computed on resampled items."""
    test: Test
    exact: bool
    """Whether p is exact, rather than from drawn sign flips."""
    q: float | None
    """p after Benjamini and Hochberg over all pairs of the family."""
    verdict: Verdict
    wins_items: int | None
    """Items on which the first scores higher; None where items have no scores of their own."""
    losses_items: int | None
    """Items on which the second scores higher."""
    detectable: float | None
    """Difference that so many items would show in four of five such comparisons (80% power at p =
    0.05), as scattered as they are here; None where it can't be known."""
    warnings: tuple[str, ...]
    """What this pair must be read with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a row stands among the others of its family."""

    label: str
    """As short as tells it from the family's other rows: "x3d_m", "x3d_m kinetics400"."""
    rank: int | None
    """1 more than the rows which are surely better (q at most 0.05): rows that are not told apart
    may share one. None beside a baseline, and where a pair has no p."""
    wins: int
    """Rows it is surely better than; likewise the next two. Beside a baseline, of the one pair."""
    ties: int
    losses: int
    value: float | None
    """Of the headline over the items compared, None where it has none."""
    n: int
    """Different items it was judged on: on a common subset more than the family's `num_items`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Rows that compare: under one ruler, or on a common subset under several lists of items."""

    title: str
    """"digits v1, test: linear_probe v2"."""
    task: str
    protocol: str
    group: tuple[tuple[str, str], ...]
    """(field, value) of what `by` named beside task and protocol."""
    ruler: Mapping[str, Scalar]
    digest: str
    """Of the ruler; of the first one by name where several are joined on a common subset."""
    digests: tuple[str, ...]
    """Of all rulers that are joined; one, unless on a common subset."""
    metric: Column
    """The headline."""
    num_items: int
    """Items that all rows are compared on."""
    is_common_subset: bool
    other_training: bool
    """Whether rulers are joined that differ in what was trained on (`allow_other_training`)."""
    baseline: int | None
    """Place of the baseline among the rows; None where all pairs are compared."""
    rows: tuple[Row, ...]
    """The best first."""
    standings: tuple[Standing, ...]
    """One a row."""
    pairs: tuple[Pairwise, ...]
    """All pairs, or those with the baseline; a pair that can't be compared is missing, and a
    problem says why."""
    caption: str
    """What all of it must be read with; may be empty. See `rsbench.tables.table.Table`."""
    warnings: tuple[str, ...]
    """What may have moved a number, and what was left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Two groups of results that were asked to be compared, and can't be."""

    first: str
    """Which results: "digits, linear_probe: tiny_2d, tiny_3d"."""
    second: str
    first_digest: str
    """Of the ruler."""
    second_digest: str
    fields: tuple[Difference, ...]
    """In which the rulers differ."""
    way_out: str
    """What would let them be compared: "--common-subset", or empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AverageRow:
    """One network over all columns of a suite."""

    label: str
    backbone: str
    weights: str
    rank: int | None
    """As of `Standing.rank`."""
    mean: Estimate
    """Unweighted mean of the columns' headlines, with its 95% interval."""
    values: tuple[float, ...]
    """One a column."""
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """Networks compared over a whole suite: only those that have a number in every column."""

    suite: str
    title: str
    columns: tuple[str, ...]
    """"digits linear_probe", in the suite's order."""
    digests: tuple[str, ...]
    """Of the columns' rulers."""
    rows: tuple[AverageRow, ...]
    """The best first."""
    pairs: tuple[Pairwise, ...]
    """Of means; `first` and `second` are places in `rows`."""
    baseline: int | None
    incomplete: tuple[str, ...]
    """Networks that lack a column, one line each, and why there may be no rows at all."""
    missing: tuple[str, ...]
    """"TASK PROTOCOL" of the suite that no network has a result on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All comparisons that were asked for."""

    families: tuple[Family, ...]
    """In the order of task, protocol and ruler; those of a single row too, which have no pair."""
    refusals: tuple[Refusal, ...]
    averages: tuple[Average, ...]
    """Over the suite that was asked for, one for each `--limit`; empty without a suite."""
    sentences: tuple[str, ...]
    """The answers in plain words, for people: one or more a family that has pairs."""
    problems: tuple[str, ...]
    """One line for each file that is in no comparison, or in part, and why."""
    notes: tuple[str, ...]
    """How it was done: how many tests, at which level."""
