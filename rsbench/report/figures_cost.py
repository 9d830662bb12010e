"""Accuracy against what it costs, with the Pareto front: one figure a ruler and kind of cost.

Multiply-adds are in every record. Latency and memory are measured apart (`rsbench profile`), and
numbers of two settings do not compare: each setting has a figure of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rsbench.profiling.cost_tables import Joined, conditions, join
from rsbench.profiling.costs import Cost
from rsbench.records.store import Contents, Stored
from rsbench.report.anchors import row_anchor
from rsbench.report.figure import (
    MAX_SERIES,
    NEUTRAL,
    PALETTE,
    PLOT_HEIGHT,
    Datum,
    Figure,
    axis_title,
    drawn,
    enumerated,
    in_words,
    input_of,
    left_out,
    legend,
    log_domain,
    log_ticks,
    named,
    series_scales,
    shown,
    titled,
    vega_lite,
)
from rsbench.report.labels import Labels
from rsbench.report.pareto import LETTER_PIXELS, Spot, name_sides, pareto_front
from rsbench.tables.layout import clean
from rsbench.tables.table import Cell, Column, Row, Table, Tables

MAX_POINTS = 300
"""Networks in one chart: the front, and of the others those of the best scores."""

_FRONT_COLOUR = PALETTE[0]
_PLOT_WIDTH = 580
"""In pixels, without the axis, of a chart as wide as `drawing` makes it alone."""
_MAX_LETTERS = 34
"""Of a name beside a point; the pointer shows the whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """One kind of cost."""

    slug: str
    title: str
    axis: str
    unit: str
    how: str
    """How it was had, as a sentence."""
    unknown: str
    """Why a row may lack it."""


_MACS = _Kind(
    slug="macs",
    title="Accuracy against multiply-adds",
    axis="multiply-adds of an item, all views (G, log scale)",
    unit="G multiply-adds",
    how="Multiply-adds are counted for the network as it ran, times the views of an item.",
    unknown="whose records hold no count",
)
_LATENCY = _Kind(
    slug="latency",
    title="Accuracy against latency",
    axis="milliseconds for one view (log scale)",
    unit="ms",
    how="Latency is the median forward pass of a single view",
    unknown="not measured there",
)
_MEMORY = _Kind(
    slug="memory",
    title="Accuracy against memory",
    axis="peak MiB of a forward pass (log scale)",
    unit="MiB",
    how="Memory is the peak of a forward pass at the batch that was asked for",
    unknown="not measured there",
)


class _Point(NamedTuple):
    row: Row
    cell: Cell
    label: str
    cost: float
    """In the kind's unit, above 0."""


def cost_figures(contents: Contents, tables: Tables, costs: Sequence[Cost]) -> Iterator[Figure]:
    """Draw the headline of each table against each kind of cost that two rows or more have.

    Args:
        contents: What the tables were built from.
        tables: Whose rows are drawn.
        costs: What was measured.
    """
    stored = {each.name: each for each in contents.records}
    joined: dict[str, list[Joined]] = {}
    for each in join(tables, costs):
        joined.setdefault(each.table.digest, []).append(each)
    for table in tables.tables:
        if len(table.rows) < 2:
            continue
        labels = Labels.of_table(table)
        macs = [_macs(row, stored) for row in table.rows]
        yield from _figure(table, table.rows, macs, _MACS, labels)
        yield from _measured(table, joined.get(table.digest, []), labels)


def _macs(row: Row, stored: Mapping[str, Stored]) -> float | None:
    record = stored[row.records[0]].record
    macs, views = record.cost.get("macs_per_view"), record.cost.get("views")
    if not isinstance(macs, int | float) or not isinstance(views, int | float):
        return None
    return macs * views / 1e9


def _measured(table: Table, joined: Sequence[Joined], labels: Labels) -> Iterator[Figure]:
    """Draw latency and memory, once for each setting under which this table was measured."""
    settings: dict[str, dict[int, Cost]] = {}
    places = {id(row): place for place, row in enumerate(table.rows)}
    for each in joined:
        if each.cost is not None:
            settings.setdefault(conditions(each.cost), {})[places[id(each.row)]] = each.cost
    for number, (setting, by_row) in enumerate(sorted(settings.items())):
        kinds: tuple[tuple[_Kind, Callable[[Cost], float | None]], ...] = (
            (_LATENCY, _milliseconds),
            (_MEMORY, _mebibytes),
        )
        for kind, value in kinds:
            values = [
                None if place not in by_row else value(by_row[place])
                for place in range(len(table.rows))
            ]
            yield from _figure(
                table, table.rows, values, kind, labels, setting=setting, number=number
            )


def _milliseconds(cost: Cost) -> float | None:
    timing = cost.timing("inference", single=True)
    return None if timing is None else 1000 * timing.median_seconds


def _mebibytes(cost: Cost) -> float | None:
    timing = cost.timing("inference")
    if timing is None or timing.peak_bytes is None:
        return None
    return timing.peak_bytes / 2**20


def _figure(
    table: Table,
    rows: Sequence[Row],
    values: Sequence[float | None],
    kind: _Kind,
    labels: Labels,
    *,
    setting: str = "",
    number: int = 0,
) -> Iterable[Figure]:
    points, absent = [], []
    for row, value in zip(rows, values, strict=True):
        cell = row.cells[0]
        if value is None or value <= 0 or cell is None:
            absent.append(labels.of(row))
        else:
            points.append(_Point(row, cell, labels.of(row), value))
    if len(points) < 2:
        return []
    column = table.columns[0]
    on_front = pareto_front(
        [point.cost for point in points],
        [point.cell.value for point in points],
        higher_is_better=column.higher_is_better,
    )
    # Rows stand best first, so that the worst of the dominated ones are left out.
    kept = sorted(range(len(points)), key=lambda place: (not on_front[place], place))[:MAX_POINTS]
    too_many = [point.label for place, point in enumerate(points) if place not in set(kept)]
    chosen = [(points[place], on_front[place]) for place in sorted(kept)]
    front = sorted((point for point, is_best in chosen if is_best), key=lambda point: point.cost)
    how = f"{kind.how}; {setting}." if setting else kind.how
    caption = (
        f"{how} Bars are 95% intervals. The line joins the Pareto front: no other network drawn is"
        " as cheap and as good. It goes by the scores alone, and intervals may overlap."
        + left_out(absent, kind.unknown)
        + left_out(too_many, f"beyond {MAX_POINTS} points")
    )
    steps = [
        f"{point.label} ({_number(point.cost)} {kind.unit}, {in_words(point.cell.value, column)})"
        for point in front
    ]
    words = (
        f"Scatter plot of {len(chosen)} networks: {clean(column.metric)} against"
        f" {kind.axis.partition(' (')[0]}. On the Pareto front, the cheapest first:"
        f" {enumerated(steps, limit=6)}."
    )
    suffix = f"-{number + 1}" if number else ""
    return [
        Figure(
            name=named(kind.slug, table) + suffix,
            section="cost",
            title=titled(kind.title.replace("Accuracy", clean(column.metric)), table),
            caption=caption,
            alt=words,
            spec=_spec(table, chosen, kind),
        )
    ]


def _spec(table: Table, points: Sequence[tuple[_Point, bool]], kind: _Kind) -> dict[str, Any]:
    alt = vega_lite()
    column = table.columns[0]
    data = [_datum(table, point, kind, is_on_front=best) for point, best in points]
    low, high = log_domain([point.cost for point, _ in points])
    least, most = _bounds(data)
    x = alt.X(
        "cost:Q",
        title=kind.axis,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high), format="~g"),
    )
    y = alt.Y(
        "value:Q", title=axis_title(column), scale=alt.Scale(domain=[least, most], nice=False)
    )
    datasets = {"points": data, "front": _front_line(data, right=high, column=column)}
    is_few = len(points) <= MAX_SERIES
    if is_few:
        colours, shapes = series_scales([point.label for point, _ in points])
        names = legend(len(points))
        colour = alt.Color("network:N", scale=colours, legend=names)
        look = {"color": colour, "shape": alt.Shape("network:N", scale=shapes, legend=names)}
    else:
        colour = alt.condition("datum.on_front", alt.value(_FRONT_COLOUR), alt.value(NEUTRAL))
        look = {"color": colour}
    front = (
        alt.Chart(alt.NamedData("front"))
        .mark_line(interpolate="step-after", color=NEUTRAL, strokeDash=[5, 4], strokeWidth=1.5)
        .encode(x=x, y=y, order=alt.Order("cost:Q"))
    )
    base = alt.Chart(alt.NamedData("points")).encode(x=x)
    intervals = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        y=alt.Y("low:Q"), y2="high:Q", color=colour
    )
    marks = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=y, tooltip=_tooltip(table, kind), **look
    )
    layers = [front, intervals, marks]
    if not is_few:
        datasets |= _front_names(
            data, costs=(low, high), values=(least, most), upwards=column.higher_is_better
        )
        layers += [
            alt.Chart(alt.NamedData(f"names_{side}"))
            .mark_text(
                align=align,
                dx=shift,
                dy=-11 if column.higher_is_better else 11,
                limit=LETTER_PIXELS * _MAX_LETTERS,
                # A phone has no room for them.
                opacity=alt.ExprRef("width < 480 ? 0 : 1"),
            )
            .encode(x=x, y=y, text="network:N")
            for side, align, shift in (("left", "right", -8), ("right", "left", -2))
        ]
    return drawn(layers, height=PLOT_HEIGHT, datasets=datasets)


def _bounds(data: Sequence[Datum]) -> tuple[float, float]:
    """Give bounds of the axis of scores, with room around the intervals."""
    ends = [each[key] for each in data for key in ("low", "value", "high") if each[key] is not None]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - room, max(ends) + room


def _front_line(data: Sequence[Datum], *, right: float, column: Column) -> list[Datum]:
    """Give the corners of the front, which goes on level to the right of its last point."""
    corners = [{"cost": each["cost"], "value": each["value"]} for each in data if each["on_front"]]
    best = (max if column.higher_is_better else min)(each["value"] for each in corners)
    return [*corners, {"cost": right, "value": best}]


def _front_names(
    data: Sequence[Datum], *, costs: tuple[float, float], values: tuple[float, float], upwards: bool
) -> dict[str, list[Datum]]:
    """Give the points whose names find room to their left, and those to their right.

    In a chart as wide as `drawing` makes it; a wider one has more room.
    """
    front = [each for each in data if each["on_front"]]
    low, high = costs
    least, most = values
    per_value = PLOT_HEIGHT / (most - least)
    spots = [
        Spot(
            x=_PLOT_WIDTH * math.log(each["cost"] / low) / math.log(high / low),
            y=per_value * (each["value"] - least if upwards else most - each["value"]),
            name=each["network"][:_MAX_LETTERS],
        )
        for each in front
    ]
    placed: dict[str, list[Datum]] = {"names_left": [], "names_right": []}
    for each, side in zip(front, name_sides(spots, width=_PLOT_WIDTH), strict=True):
        if side != "none":
            placed[f"names_{side}"].append({key: each[key] for key in ("cost", "value", "network")})
    return placed


def _datum(table: Table, point: _Point, kind: _Kind, *, is_on_front: bool) -> Datum:
    column = table.columns[0]
    interval = ""
    if point.cell.low is not None and point.cell.high is not None:
        interval = f"{in_words(point.cell.low, column)} to {in_words(point.cell.high, column)}"
    return {
        "record": row_anchor(point.row.records),
        "network": point.label,
        "weights": clean(point.row.weights),
        "input": input_of(point.row),
        "cost": point.cost,
        "cost_in_words": f"{_number(point.cost)} {kind.unit}",
        "value": shown(point.cell.value, column),
        "low": shown(point.cell.low, column),
        "high": shown(point.cell.high, column),
        "score": in_words(point.cell.value, column),
        "interval": interval or "none",
        "seeds": point.cell.num_seeds,
        "on_front": is_on_front,
    }


def _tooltip(table: Table, kind: _Kind) -> list[Any]:
    alt = vega_lite()
    return [
        alt.Tooltip("network:N"),
        alt.Tooltip("weights:N"),
        alt.Tooltip("input:N", title="frames x stride x pixels"),
        alt.Tooltip("score:N", title=clean(table.columns[0].metric)),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("cost_in_words:N", title=kind.slug),
        alt.Tooltip("seeds:Q"),
    ]


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
