"""Which texts stand where in a comparison; markdown, LaTeX and terminal only dress it."""

from __future__ import annotations

from collections.abc import Sequence

from rsbench.comparison.compared import (
    SIGNIFICANT,
    Average,
    Comparison,
    Family,
    Pairwise,
    Refusal,
    Standing,
)
from rsbench.comparison.sentences import SHARE, p_text, turned
from rsbench.records.ruler import Difference
from rsbench.stats import Estimate
from rsbench.tables.layout import Layout, Text, clean, number_text, ruler_value
from rsbench.tables.table import Column, Row


def lay_out_comparison(comparison: Comparison) -> tuple[Layout, ...]:
    """Put a comparison into words, a table for each family and average that has pairs."""
    return (
        *(_family(each) for each in comparison.families if each.pairs),
        *(_average(each) for each in comparison.averages if each.rows),
    )


def refusal_text(refusal: Refusal) -> str:
    """Say which results do not compare, and in which fields their rulers differ."""
    fields = "; ".join(_fields(refusal.fields))
    text = f"{refusal.first} does not compare with {refusal.second}: {fields}."
    if refusal.way_out:
        text += f" {refusal.way_out} compares them on the items they share."
    return clean(text)


def _fields(differences: Sequence[Difference]) -> list[str]:
    """Say each difference; of unlike protocols the rules differ by themselves, and are counted."""
    has_protocol = any(each.field == "protocol" for each in differences)
    shown = [
        each
        for each in differences
        if not (has_protocol and each.field.startswith(("recipe.", "protocol_version")))
    ]
    num = len(differences) - len(shown)
    return [*map(_field, shown), *([f"with it {num} fields of its rule"] if num else [])]


def _field(difference: Difference) -> str:
    field, there, here = difference
    return f"{field} is {ruler_value(there)} there and {ruler_value(here)} here"


def _family(family: Family) -> Layout:
    beside = _beside(family.baseline)
    metric = family.metric
    unit = " %" if metric.percent else ""
    lower = "" if metric.higher_is_better else " (lower is better)"
    rows = []
    for place, (standing, row) in enumerate(zip(family.standings, family.rows, strict=True)):
        difference, chance, detectable = _numbers(place, family.pairs, metric, beside=beside)
        rows.append(
            (
                Text(_rank(standing.rank)),
                Text(clean(standing.label)),
                Text(clean(_weights(row))),
                _value(standing, row, family),
                difference,
                chance,
                Text(f"{standing.wins} / {standing.ties} / {standing.losses}"),
                detectable,
                Text(clean(", ".join(_marks(row)))),
            )
        )
    return Layout(
        title=clean(_title(family)),
        unlike=(),
        caption=clean(_caption(family)),
        headers=(
            *("rank", "backbone", "weights", f"{metric.metric}{unit}{lower}"),
            *_headers(family.pairs, family.baseline),
            "marks",
        ),
        numeric=(False, False, False, *(True,) * 5, False),
        rows=tuple(rows),
        remarks=tuple(clean(line) for line in _remarks(family)),
    )


def _headers(pairs: Sequence[Pairwise], baseline: int | None) -> tuple[str, str, str, str]:
    others = "first" if baseline is None else "baseline"
    chance = "p; q" if len(pairs) > 1 else "p"
    return f"difference to {others}", chance, "better / even / worse", "detectable"


def _average(average: Average) -> Layout:
    beside = _beside(average.baseline)
    rows = []
    for place, row in enumerate(average.rows):
        difference, chance, detectable = _numbers(place, average.pairs, SHARE, beside=beside)
        rows.append(
            (
                Text(_rank(row.rank)),
                Text(clean(row.label)),
                Text(clean(row.weights)),
                _estimate(row.mean, SHARE),
                difference,
                chance,
                Text(f"{row.wins} / {row.ties} / {row.losses}"),
                detectable,
                *(Text(number_text(value, SHARE)) for value in row.values),
                Text(""),
            )
        )
    lines = [_tests(average.pairs)] if average.pairs else []
    lines += [f"Missing: {line}." for line in average.incomplete]
    if average.missing:
        lines.append(f"Missing: no result on {', '.join(average.missing)}.")
    columns = [f"{column} %" for column in average.columns]
    return Layout(
        title=clean(f"Suite {average.suite}, on average: {average.title}"),
        unlike=(),
        caption="",
        headers=(
            *("rank", "backbone", "weights", "mean %"),
            *_headers(average.pairs, average.baseline),
            *(clean(column) for column in columns),
            "marks",
        ),
        numeric=(False, False, False, *(True,) * (5 + len(columns)), False),
        rows=tuple(rows),
        remarks=tuple(clean(line) for line in lines),
    )


def _title(family: Family) -> str:
    parts = "".join(f", {field} {value}" for field, value in family.group)
    return f"{family.title}{parts}"


def _caption(family: Family) -> str:
    parts = [family.caption] if family.caption else []
    if family.is_common_subset:
        parts.append(
            f"compared on the {family.num_items} items that {len(family.digests)} lists share"
        )
    if family.other_training:
        parts.append("not all learned from the same items")
    return "; ".join(parts)


def _beside(baseline: int | None) -> int:
    """Say which row the others are shown against: the baseline, or else the first."""
    return 0 if baseline is None else baseline


def _numbers(
    place: int, pairs: Sequence[Pairwise], metric: Column, *, beside: int
) -> tuple[Text, Text, Text]:
    """Give difference, p and q, and the detectable of a row against the one it stands beside."""
    pair = next((each for each in pairs if {each.first, each.second} == {place, beside}), None)
    if pair is None or place == beside:
        return Text("-"), Text("-"), Text("-")
    gain = Estimate(pair.difference, pair.low, pair.high)
    over_seeds = Estimate(pair.difference, pair.low_with_seeds, pair.high_with_seeds)
    if pair.first != place:
        gain, over_seeds = turned(gain), turned(over_seeds)
    chance = Text(p_text(pair.p), more=f"q {p_text(pair.q)}" if len(pairs) > 1 else "")
    size = "-" if pair.detectable is None else number_text(pair.detectable, metric)
    wider = _estimate(over_seeds, metric).detail
    difference = _gain(gain, metric)._replace(more=f"over seeds [{wider}]" if wider else "")
    return difference, chance, Text(size)


def _gain(estimate: Estimate, metric: Column) -> Text:
    text = _estimate(estimate, metric)
    return text if text.main.startswith("-") else text._replace(main=f"+{text.main}")


def _estimate(estimate: Estimate, metric: Column) -> Text:
    value = number_text(estimate.value, metric)
    if estimate.low is None or estimate.high is None:
        return Text(value)
    ends = number_text(estimate.low, metric), number_text(estimate.high, metric)
    return Text(value, ", ".join(ends))


def _rank(rank: int | None) -> str:
    return "-" if rank is None else str(rank)


def _weights(row: Row) -> str:
    return row.weights if row.weights_digest is None else f"{row.weights} {row.weights_digest[:8]}"


def _marks(row: Row) -> list[str]:
    seeds = [f"{len(row.seeds)} seeds"] if len(row.seeds) > 1 else []
    return [*seeds, *(["knows this task"] if row.knows_task else []), *row.marks]


def _value(standing: Standing, row: Row, family: Family) -> Text:
    if standing.value is None:
        return Text("-")
    cell = row.cells[0]
    value = number_text(standing.value, family.metric)
    if family.is_common_subset or cell is None:
        # The row's own interval is of all its items; on a shared part of them it says nothing.
        return Text(value, more=f"{family.num_items} of {standing.n} items")
    spread = "" if cell.std is None else f" ± {number_text(cell.std, family.metric)}"
    text = _estimate(Estimate(standing.value, cell.low, cell.high), family.metric)
    return text._replace(main=f"{text.main}{spread}")


def _remarks(family: Family) -> list[str]:
    lines = [f"{family.num_items} items; {_tests(family.pairs)}"]
    said: dict[str, None] = {}
    for pair in family.pairs:
        said |= dict.fromkeys(pair.warnings)
    lines += [f"Note: {line}" for line in said]
    lines += [f"Warning: {line}" for line in family.warnings]
    return lines


_TESTS = {
    "mcnemar": "McNemar's exact test (right or wrong, of single runs)",
    "permutation": "flipped signs of the items' differences",
    "bootstrap": "resampled items",
}


def _tests(pairs: Sequence[Pairwise]) -> str:
    """Say how p was made, and over how many pairs q."""
    tests = [words for test, words in _TESTS.items() if any(pair.test == test for pair in pairs)]
    if not tests:
        return "no p: see the notes."
    several = f"; q over {len(pairs)} pairs" if len(pairs) > 1 else ""
    return f"p by {' and '.join(tests)}{several}."


def legend_of(comparison: Comparison) -> str:
    """Say how the numbers of all tables are to be read."""
    is_ranked = any(
        standing.rank is not None for family in comparison.families for standing in family.standings
    )
    parts = [
        "in brackets 95% intervals, those of differences paired over items",
        f"better or worse is what has a q of {SIGNIFICANT:g} at most, which is over items",
        "detectable: the difference that so many items would show four times in five",
    ]
    if is_ranked:
        parts.append("rank: 1 more than the networks that are surely better")
    if any(len(row.seeds) > 1 for family in comparison.families for row in family.rows):
        parts.append("± is the standard deviation over seeds")
    return f"{'; '.join(parts)}"
