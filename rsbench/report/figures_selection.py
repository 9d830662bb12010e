"""Selection traces: which settings were tried on held-out data, what they scored, which was taken.

A trace has one row a candidate; the first of `SETTINGS` that it has and that varies is the axis,
the others tell its lines apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rsbench.records.store import Contents, Stored
from rsbench.report.anchors import anchor_of
from rsbench.report.figure import (
    MAX_SERIES,
    PLOT_HEIGHT,
    Datum,
    Figure,
    drawn,
    enumerated,
    left_out,
    legend,
    log_domain,
    log_ticks,
    named,
    series_scales,
    titled,
    vega_lite,
)
from rsbench.report.labels import Labels
from rsbench.specs import Scalar
from rsbench.tables.layout import clean
from rsbench.tables.table import Table, Tables

SETTINGS = {
    "strength": "strength of the regularisation (log scale)",
    "base_learning_rate": "base learning rate (log scale)",
    "learning_rate": "learning rate (log scale)",
    "neighbours": "neighbours (log scale)",
    "shots": "training items of a class (log scale)",
    "weight_decay": "weight decay (log scale)",
    "steps": "steps (log scale)",
}
"""What may be on the axis -> its title. All are positive where they are tried in powers."""

_BESIDE = ("weight_decay", "steps", "features", "draw", "fold", "shots")
"""What tells the lines of one trace apart, unless it is on the axis."""

_SCORE = re.compile(r"(held_out|validation|test)_(.+)")

MAX_POINTS = 2_000
"""Of one chart; networks beyond it are left out."""


class _Trace(NamedTuple):
    stored: Stored
    label: str
    axis: str
    score: str
    rows: Sequence[Mapping[str, Scalar]]


def selection_figures(contents: Contents, tables: Tables) -> Iterator[Figure]:
    """Draw the selection traces of each table's runs.

    Args:
        contents: What the tables were built from.
        tables: Whose runs are drawn.
    """
    stored = {each.name: each for each in contents.records}
    for table in tables.tables:
        if not any(stored[name].record.selection for row in table.rows for name in row.records):
            continue
        labels = Labels.of_table(table)
        traces: list[_Trace] = []
        omitted: list[str] = []
        shown_labels: list[str] = []
        for row in table.rows:
            label = labels.of(row)
            found = [
                trace for name in row.records if (trace := _trace(stored[name], label)) is not None
            ]
            if not found:
                continue
            num_points = sum(len(trace.rows) for trace in (*traces, *found))
            first = traces[0] if traces else found[0]
            is_alike = (found[0].axis, found[0].score) == (first.axis, first.score)
            if len(shown_labels) == MAX_SERIES or num_points > MAX_POINTS or not is_alike:
                omitted.append(label)
            else:
                traces += found
                shown_labels.append(label)
        if traces:
            yield _figure(table, traces, shown_labels, omitted)


def undrawn_traces(contents: Contents, tables: Tables) -> tuple[str, ...]:
    """Name the protocols whose traces are in no figure, since their settings are unknown here.

    Args:
        contents: What the tables were built from.
        tables: Whose runs are drawn.
    """
    stored = {each.name: each for each in contents.records}
    runs = (stored[name] for table in tables.tables for row in table.rows for name in row.records)
    undrawn = {
        run.record.protocol.name: None
        for run in runs
        if run.record.selection and _trace(run, "") is None
    }
    return tuple(
        f"What {protocol} tried while it selected its settings is not drawn: no figure is known "
        "for these settings; the steps stand in its records."
        for protocol in undrawn
    )


def _trace(stored: Stored, label: str) -> _Trace | None:
    """Find axis and score of a trace; None where there is no axis of numbers that vary."""
    rows = stored.record.selection
    if not rows:
        return None
    score = next((key for key in rows[0] if _SCORE.fullmatch(key)), None)
    for axis in SETTINGS:
        values = {row.get(axis) for row in rows}
        if score and len(values) > 1 and all(_is_positive(value) for value in values):
            scored = [row for row in rows if isinstance(row.get(score), int | float)]
            return _Trace(stored, label, axis, score, scored) if scored else None
    return None


def _is_positive(value: Scalar) -> bool:
    return isinstance(value, int | float) and value > 0


def _figure(
    table: Table, traces: Sequence[_Trace], labels: Sequence[str], omitted: Sequence[str]
) -> Figure:
    axis, score = traces[0].axis, traces[0].score
    data = [_datum(trace, row) for trace in traces for row in trace.rows]
    match = _SCORE.fullmatch(score)
    assert match is not None, "chosen by this pattern"
    where = {"held_out": "held out of the training set", "validation": "of the validation set"}
    part, said = where.get(match[1], "of the test set"), match[1].replace("_", " ")
    chosen = [
        f"{each['network']} at {each['setting']:.3g} ({each['value']:.1f}%)"
        for each in data
        if each["chosen"]
    ]
    caption = (
        f"Each line is one run: {clean(match[2])} on items {part}, for every setting that was"
        " tried. A ring is the setting that was taken."
        + left_out(omitted, f"beyond the {MAX_SERIES} best networks")
    )
    what = SETTINGS[axis].partition(" (")[0]
    words = (
        f"{clean(match[2])} {said} against {what} of {len(traces)} runs."
        f" Taken: {enumerated(chosen, limit=6)}."
    )
    return Figure(
        name=named("selection", table),
        section="selection",
        title=titled(f"Selection of the {what}", table),
        caption=caption,
        alt=words[0].upper() + words[1:],
        spec=_spec(data, labels, axis, f"{clean(match[2])}, {said} (%)"),
    )


def _datum(trace: _Trace, row: Mapping[str, Scalar]) -> Datum:
    beside = [
        f"{key.replace('_', ' ')} {row[key]}" for key in _BESIDE if key != trace.axis and key in row
    ]
    score = row[trace.score]
    assert isinstance(score, int | float), "rows without a score are not drawn"
    seed = f"seed {trace.stored.record.seed}"
    return {
        "record": anchor_of(trace.stored.name),
        "network": trace.label,
        "run": clean(", ".join([seed, *beside])),
        "setting": row[trace.axis],
        "value": 100 * score,
        "chosen": row.get("chosen") is True,
    }


def _spec(data: Sequence[Datum], labels: Sequence[str], axis: str, title: str) -> dict[str, Any]:
    alt = vega_lite()
    colours, shapes = series_scales(labels)
    names = legend(len(labels))
    low, high = log_domain([each["setting"] for each in data], padding=0.03)
    x = alt.X(
        "setting:Q",
        title=SETTINGS[axis],
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high), format="~g", grid=False),
    )
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    colour = alt.Color("network:N", scale=colours, legend=names)
    base = alt.Chart(alt.NamedData("points")).encode(
        x=x, y=y, color=colour, detail=["record:N", "run:N"]
    )
    tooltip = [
        alt.Tooltip("network:N"),
        alt.Tooltip("run:N"),
        alt.Tooltip("setting:Q", title=axis.replace("_", " "), format=".4~g"),
        alt.Tooltip("value:Q", title=title, format=".1f"),
        alt.Tooltip("chosen:N"),
    ]
    lines = base.mark_line(strokeWidth=1.5, opacity=0.7)
    shape = alt.Shape("network:N", scale=shapes, legend=names)
    points = base.mark_point(filled=True, size=18, opacity=0.8).encode(shape=shape, tooltip=tooltip)
    taken = (
        alt.Chart(alt.NamedData("chosen"))
        .mark_point(filled=False, size=190, strokeWidth=2.2, opacity=1, shape="circle")
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
    )
    datasets = {"points": data, "chosen": [each for each in data if each["chosen"]]}
    return drawn((lines, points, taken), height=PLOT_HEIGHT, datasets=datasets)
