"""Comparisons in plain words: which network is better, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rsbench.comparison.compared import SIGNIFICANT, Average, Family, Pairwise
from rsbench.comparison.row_names import listed
from rsbench.stats import Estimate
from rsbench.tables.layout import number_text
from rsbench.tables.table import Column

_MAX_PAIRS = 12
"""Of a baseline: up to so many pairs have a sentence each."""


def sentences_of(families: Sequence[Family], averages: Sequence[Average]) -> Iterator[str]:
    """Say in plain words what families and averages came to; families without pairs say nothing."""
    for family in families:
        yield from _of_family(family)
    for average in averages:
        yield from _of_average(average)


def _of_family(family: Family) -> Iterator[str]:
    where = f"on {family.task} under {family.protocol}"
    where += "".join(f", {field} {value}" for field, value in family.group)
    if family.is_common_subset:
        where += f" (on the {family.num_items} items that all of them were judged on)"
    if family.other_training:
        where += ", though they did not learn from the same items"
    labels = [standing.label for standing in family.standings]
    yield from _told(family.pairs, labels, family.metric, where, family.baseline)


def _of_average(average: Average) -> Iterator[str]:
    if not average.pairs:
        return
    num = len(average.columns)
    where = f"on average over {num} columns of suite {average.suite}"
    if average.missing:
        where += f" ({len(average.missing)} more are missing)"
    yield from _told(
        average.pairs, [row.label for row in average.rows], SHARE, where, average.baseline
    )


_TURN = "other seeds may turn it"

SHARE = Column(
    metric="mean", level="", interval="", higher_is_better=True, percent=True, decimals=1
)
"""How an average over columns is shown."""


def _told(
    pairs: Sequence[Pairwise],
    labels: Sequence[str],
    metric: Column,
    where: str,
    baseline: int | None,
) -> Iterator[str]:
    if not pairs:
        return
    is_one_of_many = len(pairs) > 1
    if len(pairs) == 1 or (baseline is not None and len(pairs) <= _MAX_PAIRS):
        for pair in pairs:
            yield pair_sentence(pair, labels, metric, where, with_q=is_one_of_many)
    elif baseline is not None:
        yield _beside_baseline(pairs, labels, baseline, where)
    else:
        yield _leader(pairs, labels, metric, where)


def pair_sentence(
    pair: Pairwise, labels: Sequence[str], metric: Column, where: str, *, with_q: bool
) -> str:
    """Say what one pair came to: "B is better than A on digits under knn: ..."."""
    first, second = labels[pair.first], labels[pair.second]
    values = (pair.first_value, pair.second_value)
    gain = Estimate(pair.difference, pair.low, pair.high)
    over_seeds = Estimate(pair.difference, pair.low_with_seeds, pair.high_with_seeds)
    if pair.verdict == "loss" or (pair.verdict != "win" and _is_worse(pair, metric)):
        # The better one is named first, and what is said of it is its gain.
        first, second = second, first
        values = values[::-1]
        gain, over_seeds = turned(gain), turned(over_seeds)
    unit = " %" if metric.percent else f" {metric.metric}"
    numbers = f"{number_text(values[0], metric)} against {number_text(values[1], metric)}{unit}"
    by = gain_text(gain, metric) + _over_seeds_text(over_seeds, metric)
    turn = f"; {_TURN}" if pair.seeds_may_turn else ""
    chance = _chance(pair, with_q=with_q)
    if pair.verdict in ("win", "loss"):
        return f"{first} is better than {second} {where}: {numbers}, {by}, {chance}{turn}."
    if pair.verdict == "untested":
        return (
            f"Whether {first} is better than {second} {where} can't be tested: {numbers}, {by}; "
            f"{pair.warnings[0] if pair.warnings else 'there is no p'}."
        )
    could = ""
    if pair.detectable is not None:
        size = number_text(pair.detectable, metric)
        points = "points" if metric.percent else metric.metric
        could = f"; {pair.n} items could show a difference of {size} {points}"
    return f"Not told apart: {first} and {second} {where}: {numbers}, {by}, {chance}{could}."


def turned(gain: Estimate) -> Estimate:
    """Give second minus first for first minus second."""
    low = None if gain.high is None else -gain.high
    high = None if gain.low is None else -gain.low
    return Estimate(-gain.value, low, high)


def gain_text(gain: Estimate, metric: Column) -> str:
    """Give a difference with its interval: "+40.0 points [25.0, 55.0]"."""
    value = number_text(gain.value, metric)
    points = "points" if metric.percent else metric.metric
    shown = f"{value if value.startswith('-') else f'+{value}'} {points}"
    if gain.low is None or gain.high is None:
        return shown
    return f"{shown} {_ends(gain, metric)}"


def _over_seeds_text(gain: Estimate, metric: Column) -> str:
    return "" if gain.low is None else f" ({_ends(gain, metric)} over seeds too)"


def _ends(gain: Estimate, metric: Column) -> str:
    ends = [number_text(end, metric) for end in (gain.low, gain.high) if end is not None]
    return f"[{', '.join(ends)}]"


def p_text(p: float | None) -> str:
    """Give a p or q: "0.012", "< 0.001", "-" for none."""
    if p is None:
        return "-"
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _chance(pair: Pairwise, *, with_q: bool) -> str:
    said = [("p", pair.p), *([("q", pair.q)] if with_q else [])]
    return ", ".join(
        f"{name} {p_text(value)}" if p_text(value).startswith("<") else f"{name} = {p_text(value)}"
        for name, value in said
        if value is not None
    )


def _is_worse(pair: Pairwise, metric: Column) -> bool:
    return pair.difference < 0 if metric.higher_is_better else pair.difference > 0


def _beside_baseline(
    pairs: Sequence[Pairwise], labels: Sequence[str], baseline: int, where: str
) -> str:
    named = {
        words: [labels[pair.first] for pair in pairs if pair.verdict == verdict]
        for verdict, words in (
            ("win", "better"),
            ("tie", "not told apart"),
            ("loss", "worse"),
            ("untested", "not tested"),
        )
    }
    parts = [f"{len(names)} {words}: {listed(names)}" for words, names in named.items() if names]
    said = f"Beside {labels[baseline]} {where}: {'; '.join(parts)}"
    return f"{said}{_turning(pairs, labels)}."


def _turning(pairs: Sequence[Pairwise], labels: Sequence[str]) -> str:
    """Say which of the firm answers other seeds may turn; empty for none."""
    firm = [pair for pair in pairs if pair.verdict in ("win", "loss")]
    unsure = [pair for pair in firm if pair.seeds_may_turn]
    if not unsure:
        return ""
    if len(unsure) == len(firm):
        return f", though {_TURN}"
    # Of a leader the others stand second, beside a baseline first.
    is_led = len({pair.first for pair in pairs}) == 1
    names = [labels[pair.second if is_led else pair.first] for pair in unsure]
    return f", though {_TURN} for {listed(names)}"


def _leader(pairs: Sequence[Pairwise], labels: Sequence[str], metric: Column, where: str) -> str:
    """Say who stands first, whom it is surely better than, and whom it is not told apart from."""
    of_first = [pair for pair in pairs if pair.first == 0]
    beaten = [labels[pair.second] for pair in of_first if pair.verdict == "win"]
    even = [labels[pair.second] for pair in of_first if pair.verdict in ("tie", "loss")]
    untested = [labels[pair.second] for pair in of_first if pair.verdict == "untested"]
    unit = " %" if metric.percent else f" {metric.metric}"
    value = f"{number_text(of_first[0].first_value, metric)}{unit}"
    parts = []
    if beaten:
        others = "all others" if len(beaten) == len(of_first) else listed(beaten)
        parts.append(
            f"it is better than {others} (q at most {SIGNIFICANT:g}){_turning(of_first, labels)}"
        )
    if even:
        parts.append(f"it is not told apart from {listed(even)}")
    if untested:
        parts.append(f"it can't be tested against {listed(untested)}")
    following = min(of_first, key=lambda pair: pair.second)
    gain = Estimate(following.difference, following.low, following.high)
    over_seeds = Estimate(following.difference, following.low_with_seeds, following.high_with_seeds)
    if _is_worse(following, metric):
        gain, over_seeds = turned(gain), turned(over_seeds)
    by = gain_text(gain, metric) + _over_seeds_text(over_seeds, metric)
    chance = _chance(following, with_q=True)
    parts.append(
        f"the next, {labels[following.second]}, has"
        f" {number_text(following.second_value, metric)}{unit}: {by}"
        + (f", {chance}" if chance else "")
    )
    end = "highest" if metric.higher_is_better else "lowest"
    num = len(of_first) + 1
    return f"{labels[0]} has the {end} of {num} numbers {where}, {value}: {'; '.join(parts)}."
