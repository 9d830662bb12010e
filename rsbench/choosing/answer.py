"""What the probes of a shortlist came to: which network to take, in one sentence.

Taken is the best number. Beside it stand those that are not told apart from it (q above 0.05 over
all pairs, as `rsbench compare` has it), with the interval of the difference, and of those that are
surely worse each that is faster than all that are better, with what its speed costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from rsbench.choosing.shortlist import Measured, Network
from rsbench.comparison import Family, Pairwise, compare
from rsbench.comparison.sentences import gain_text, p_text, turned
from rsbench.errors import RunError
from rsbench.records.store import Contents, Stored
from rsbench.stats import Estimate, mcnemar
from rsbench.tables.layout import number_text
from rsbench.tables.table import Column

Verdict = Literal["best", "indistinguishable", "worse", "untested"]
"""How a network stands beside the best one; untested where there is no p."""

_ALPHA = 0.05
_MOST_NAMED = 4
"""Networks of one verdict that the sentence names; more are counted."""


class Judged(NamedTuple):
    """A candidate with the record of its probe."""

    measured: Measured
    stored: Stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One network of the shortlist, with its number and what it costs."""

    network: Network
    label: str
    """As short as tells it from the others."""
    value: float
    """The headline."""
    low: float | None
    high: float | None
    verdict: Verdict
    gain: Estimate | None
    """This one's number minus the best one's over the same items, with its 95% interval; None for
    the best one, and where it can't be known."""
    p: float | None
    q: float | None
    detectable: float | None
    """Difference to the best one that so many items would show in four of five such choices; None
    where it can't be known."""
    latency_seconds: float
    slowest_seconds: float
    memory_bytes: int | None
    times_as_fast: float
    """As the best one: 2 takes half the time."""
    speed_told_apart: bool
    """Whether the laps, taken in turns, tell it from the best one's (sign test, p up to 0.05)."""
    marks: tuple[str, ...]
    """See `rsbench.tables.table.Row.marks`."""
    record: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Which network to take."""

    task: str
    protocol: str
    metric: Column
    num_items: int
    options: tuple[Option, ...]
    """The best first."""
    sentence: str
    notes: tuple[str, ...]
    """What it must be read with."""


def answer(judged: Sequence[Judged]) -> Answer:
    """Compare the probes of a shortlist and say which network to take.

    Args:
        judged: Candidates with their records, at least one.

    Raises:
        RunError: The records do not compare, or one of them is not sound; says why.
    """
    comparison = compare(Contents(tuple(each.stored for each in judged), ()))
    if len(comparison.families) != 1 or len(comparison.families[0].rows) != len(judged):
        why = "; ".join([*comparison.problems, *(_unlike(comparison.families))])
        raise RunError(
            "The probes of a shortlist must be under one ruler, each a row, to choose among them:"
            f" {why or 'two of them are one network under the same weights'}."
        )
    (family,) = comparison.families
    by_record = {each.stored.name: each for each in judged}
    options = tuple(
        _option(place, family, by_record[family.rows[place].records[0]], by_record)
        for place in range(len(family.rows))
    )
    return Answer(
        task=family.task,
        protocol=family.protocol,
        metric=family.metric,
        num_items=family.num_items,
        options=options,
        sentence=_sentence(options, family.metric, family.num_items),
        notes=(*family.warnings, *_notes(options, judged, family)),
    )


def _unlike(families: Sequence[Family]) -> list[str]:
    return [f"{each.title} (ruler {each.digest[:8]})" for each in families]


def _option(place: int, family: Family, judged: Judged, by_record: dict[str, Judged]) -> Option:
    row, standing = family.rows[place], family.standings[place]
    best = by_record[family.rows[0].records[0]].measured
    pair = next((each for each in family.pairs if {each.first, each.second} == {0, place}), None)
    cell = row.cells[0]
    assert cell is not None, "the headline is in every record"
    measured = judged.measured
    return Option(
        network=measured.network,
        label=standing.label,
        value=cell.value,
        low=cell.low,
        high=cell.high,
        verdict="best" if place == 0 else _verdict(pair),
        gain=None if pair is None else _gain(pair, place),
        p=None if pair is None else pair.p,
        q=None if pair is None else pair.q,
        detectable=None if pair is None else pair.detectable,
        latency_seconds=measured.latency_seconds,
        slowest_seconds=max(measured.lap_seconds),
        memory_bytes=measured.memory_bytes,
        times_as_fast=best.latency_seconds / measured.latency_seconds,
        speed_told_apart=_told_apart(best.lap_seconds, measured.lap_seconds),
        marks=row.marks,
        record=judged.stored.path,
    )


def _told_apart(first: Sequence[float], second: Sequence[float]) -> bool:
    # On a busy machine a network may well look a tenth faster than one of half its size.
    pairs = list(zip(first, second, strict=False))
    # With the pairs split at nought, McNemar's exact test is the sign test.
    return mcnemar(sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)) <= _ALPHA


def _verdict(pair: Pairwise | None) -> Verdict:
    if pair is None or pair.verdict == "untested":
        return "untested"
    return "indistinguishable" if pair.verdict == "tie" else "worse"


def _gain(pair: Pairwise, place: int) -> Estimate:
    first_minus_second = Estimate(pair.difference, pair.low, pair.high)
    return first_minus_second if pair.first == place else turned(first_minus_second)


# ---------------------------------------------------------------------------- words


def _sentence(options: Sequence[Option], metric: Column, num_items: int) -> str:
    """Say which to take, which are as good, and what a faster one costs."""
    best, *others = options
    even = [each for each in others if each.verdict == "indistinguishable"]
    parts = [
        _even_words(each, metric)
        for each in sorted(even, key=lambda each: each.latency_seconds)[:_MOST_NAMED]
    ]
    if len(even) > _MOST_NAMED:
        parts.append(f"so are {len(even) - _MOST_NAMED} more")
    untested = [each for each in others if each.verdict == "untested"]
    parts += [
        f"{each.label} can't be tested against it ({_gain_words(each, metric)}{_speed_words(each)})"
        for each in untested
    ]
    named_fastest = min(each.latency_seconds for each in (best, *even, *untested))
    worse = [each for each in others if each.verdict == "worse"]
    faster = _faster(worse, than=named_fastest)
    shown = [*faster[: _MOST_NAMED - 1], *faster[_MOST_NAMED - 1 :][-1:]]
    parts += [
        f"{each.label} is {each.times_as_fast:.1f} times as fast ({_milliseconds(each)}),"
        f" at {_gain_words(each, metric)}"
        for each in shown
    ]
    if len(faster) > len(shown):
        num = len(faster) - len(shown)
        parts.append(f"{num} more {'lies' if num == 1 else 'lie'} between the last two")
    if num_behind := len(worse) - len(faster):
        rest = "one is" if num_behind == 1 else f"{num_behind} are"
        parts.append(f"{rest} worse and no faster{' than a better one' * bool(faster)}")
    if not others:
        parts.append("it is the only one that was judged")
    return f"Take {best.label}: {_number(best, metric)} on {num_items} items at {_cost(best)}; " + (
        "; ".join(parts) + "."
    )


def _faster(worse: Sequence[Option], *, than: float) -> list[Option]:
    """Give those that are faster than all that are better, the best first."""
    found = []
    for each in worse:
        if each.speed_told_apart and each.latency_seconds < than:
            found.append(each)
            than = each.latency_seconds
    return found


def _even_words(option: Option, metric: Column) -> str:
    """Say how a network that is not told apart stands: its interval may still leave nought out.

    An interval is of one pair alone; q knows that several pairs were looked at.
    """
    gain, speed = _gain_words(option, metric), _speed_words(option)
    low, high = (None, None) if option.gain is None else option.gain[1:]
    if low is not None and high is not None and not low <= 0 <= high:
        return f"{option.label} is not surely worse ({gain}, q = {p_text(option.q)}{speed})"
    return f"{option.label} is indistinguishable from it ({gain}{speed})"


def _number(option: Option, metric: Column) -> str:
    unit = f" % {metric.metric}" if metric.percent else f" {metric.metric}"
    shown = f"{number_text(option.value, metric)}{unit}"
    if option.low is None or option.high is None:
        return shown
    return f"{shown} [{number_text(option.low, metric)}, {number_text(option.high, metric)}]"


def _cost(option: Option) -> str:
    if option.memory_bytes is None:
        return f"{_milliseconds(option)} an item"
    return f"{_milliseconds(option)} and {option.memory_bytes / 2**20:,.0f} MiB an item"


def _milliseconds(option: Option) -> str:
    value = 1000 * option.latency_seconds
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f} ms"


def _gain_words(option: Option, metric: Column) -> str:
    return "an unknown difference" if option.gain is None else gain_text(option.gain, metric)


def _speed_words(option: Option) -> str:
    times = option.times_as_fast
    if 0.95 < times < 1.05:
        return ", as fast"
    if not option.speed_told_apart:
        return ", as fast as far as the timed passes tell"
    return f", {times:.1f} times as fast" if times > 1 else f", {1 / times:.1f} times as slow"


def _notes(options: Sequence[Option], judged: Sequence[Judged], family: Family) -> list[str]:
    """Say what the answer does not promise."""
    notes = list(dict.fromkeys(note for each in judged for note in each.stored.record.data.notes))
    marked = [f"{each.label}: {', '.join(each.marks)}" for each in options if each.marks]
    unseen = [
        each.detectable
        for each in options
        if each.verdict == "indistinguishable" and each.detectable is not None
    ]
    if unseen:
        points = "points" if family.metric.percent else family.metric.metric
        notes.append(
            f"{family.num_items} items could show a difference of"
            f" {number_text(max(unseen), family.metric)} {points}; smaller ones stay"
            " indistinguishable"
        )
    if len(options) > 1:
        notes.append(
            f"the best of {len(options)} numbers on the same items is rather too high; on new"
            " items expect a little less of it"
        )
    notes.append(
        "judged by a linear probe on frozen features: fine-tuned networks may stand in another"
        " order"
    )
    return [*marked, *notes]
