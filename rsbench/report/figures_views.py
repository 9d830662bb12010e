"""The headline against the number of views it is averaged over, from the scores of single views.

For each number of views, views are taken from those that were run in several seeded random orders,
the same views for every item. That says how much a score gains by more views; what a run of fewer
would have given, with the clips and crops that its sampler lays, is what `rsbench views` says.

Shape letters: N items, V views, K classes, R orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rsbench.errors import RsbenchError
from rsbench.records.store import Contents, Stored
from rsbench.report.anchors import anchor_of
from rsbench.report.figure import (
    MAX_SERIES,
    PLOT_HEIGHT,
    Datum,
    Figure,
    axis_title,
    drawn,
    enumerated,
    in_words,
    left_out,
    legend,
    log_ticks,
    named,
    series_scales,
    shown,
    titled,
    vega_lite,
)
from rsbench.report.labels import Labels
from rsbench.tables.layout import clean
from rsbench.tables.table import Column, Table, Tables

if TYPE_CHECKING:
    from rsbench.deriving import Source

NUM_ORDERS = 10
"""Random orders of the views of a run."""
MAX_WORK = 300_000_000
"""Scores averaged for one run (items x views x classes x orders): about three seconds. Larger runs
have fewer orders, and those that are larger in a single one are left out."""
MAX_RUNS = 24
"""Runs whose views are read for one report."""

_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)
"""Numbers of views that are looked at, besides all."""


class ViewCurve(NamedTuple):
    """The headline of one run by the number of views."""

    counts: tuple[int, ...]
    """Numbers of views, rising; the last is all of them."""
    values: tuple[tuple[float, ...], ...]
    """Of each number, one value an order; of all views a single one, that of the record."""


def view_figures(contents: Contents, tables: Tables) -> Iterator[Figure]:
    """Draw the view-count curves of each table's runs whose views lie beside their records.

    Args:
        contents: What the tables were built from.
        tables: Whose runs are drawn.
    """
    stored = {each.name: each for each in contents.records}
    num_runs = 0
    for table in tables.tables:
        if table.clips * table.crops < 2:
            continue
        labels = Labels.of_table(table)
        curves: list[tuple[Stored, str, ViewCurve]] = []
        absent: list[str] = []
        omitted: list[str] = []
        for row in table.rows:
            label = labels.of(row)
            if len({name for _, name, _ in curves}) == MAX_SERIES or num_runs >= MAX_RUNS:
                omitted.append(label)
                continue
            found = []
            for name in row.records:
                if stored[name].record.views.get("kept") != "all":
                    continue
                num_runs += 1
                curve = _curve_of(stored[name])
                if curve is not None:
                    found.append((stored[name], label, curve))
            curves += found
            if not found:
                absent.append(label)
        if curves:
            yield _figure(table, curves, absent, omitted)


def _curve_of(stored: Stored) -> ViewCurve | None:
    """Read a run's views; None where they are not here, were changed, or are too many."""
    from rsbench.deriving import open_source

    try:
        source = open_source(stored.path)
    except RsbenchError:
        return None
    return view_curve(source)


def view_curve(
    source: Source, *, num_orders: int = NUM_ORDERS, max_work: int = MAX_WORK, seed: int = 0
) -> ViewCurve | None:
    """Work out the headline of a run by the number of its views.

    Args:
        source: The run with the scores of its views.
        num_orders: How many random orders of the views; fewer where that is too much work.
        max_work: Items x views x classes x orders that may be averaged.
        seed: Of the orders.

    Returns:
        The curve; None where single views were not kept, there is one only, or one order is more
        than `max_work`.
    """
    import numpy as np

    halves = source.views.halves
    if halves is None:
        return None
    num_items, num_views, num_classes = halves.scores.shape
    affordable = max_work // max(1, num_items * num_views * num_classes)
    if num_views < 2 or affordable < 1:
        return None
    counts = tuple(count for count in _COUNTS if count < num_views)
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(num_views) for _ in range(min(num_orders, affordable))]
    by_order = [_values(source, order.tolist(), counts) for order in orders]
    whole = source.stored.record.metrics[0].value
    return ViewCurve(counts=(*counts, num_views), values=(*zip(*by_order, strict=True), (whole,)))


def _values(source: Source, order: Sequence[int], counts: Sequence[int]) -> list[float]:
    """Give the headline of the first so many views of an order, for each count."""
    import numpy as np

    from rsbench.view_scores import to_probabilities

    halves = source.views.halves
    assert halves is not None
    num_items, _, num_classes = halves.scores.shape
    sum_NK = np.zeros((num_items, num_classes))
    values = []
    for number, view in enumerate(order[: max(counts)], start=1):
        scores_NK = halves.scores[:, view].astype(np.float64)
        scores_NK += halves.offsets[:, view, None]
        sum_NK += to_probabilities(scores_NK, source.views.header.activation)
        if number in counts:
            values.append(_headline(source, (sum_NK / number).astype(np.float32)))
    return values


def _headline(source: Source, means_NK: Any) -> float:  # noqa: ANN401 - an array
    """Compute the headline of predictions, of each fold apart where folds are averaged."""
    metric = source.metrics[0]
    table = source.table
    predictions = [
        None if recorded is None else mean_K
        for recorded, mean_K in zip(table.predictions, means_NK, strict=True)
    ]
    if source.stored.record.ruler["averaging"] != "mean":
        return metric.compute(table.targets, predictions)
    values = []
    for fold in dict.fromkeys(table.folds):
        places = [place for place, name in enumerate(table.folds) if name == fold]
        values.append(
            metric.compute(
                [table.targets[place] for place in places],
                [predictions[place] for place in places],
            )
        )
    return sum(values) / len(values)


def _figure(
    table: Table,
    curves: Sequence[tuple[Stored, str, ViewCurve]],
    absent: Sequence[str],
    omitted: Sequence[str],
) -> Figure:
    column = table.columns[0]
    data = [
        datum for stored, label, curve in curves for datum in _data(stored, label, curve, column)
    ]
    most = max(len(curve.values[0]) for _, _, curve in curves)
    caption = (
        "Each point averages the probabilities of so many views, drawn at random from the"
        f" {table.clips} x {table.crops} that were run, the same for every item. Lines are means"
        f" over up to {most} orders of the views, bands reach from the least to the greatest of"
        " them; the last point, of all views, is the run's own number. `rsbench views` says what a"
        " run of fewer views would have given."
        + left_out(absent, "whose views do not lie beside the record, or are too many")
        + left_out(omitted, f"beyond {MAX_SERIES} networks here and {MAX_RUNS} runs in all")
    )
    gains = [
        f"{label} {in_words(_mean(curve.values[0]), column)} by one view,"
        f" {in_words(curve.values[-1][0], column)} by {curve.counts[-1]}"
        for _, label, curve in curves
    ]
    return Figure(
        name=named("views", table),
        section="views",
        title=titled(f"{clean(column.metric)} by number of views", table),
        caption=caption,
        alt=f"Lines of {clean(column.metric)} by number of views: {enumerated(gains, limit=6)}.",
        spec=_spec(data, list(dict.fromkeys(label for _, label, _ in curves)), column),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _data(stored: Stored, label: str, curve: ViewCurve, column: Column) -> Iterator[Datum]:
    for count, values in zip(curve.counts, curve.values, strict=True):
        yield {
            "record": anchor_of(stored.name),
            "network": label,
            "run": f"seed {stored.record.seed}",
            "views": count,
            "value": shown(_mean(values), column),
            "least": shown(min(values), column),
            "greatest": shown(max(values), column),
            "orders": len(values),
        }


def _spec(data: Sequence[Datum], labels: Sequence[str], column: Column) -> dict[str, Any]:
    alt = vega_lite()
    colours, shapes = series_scales(labels)
    names = legend(len(labels))
    most = max(each["views"] for each in data)
    title = axis_title(column)
    ticks = [tick for tick in log_ticks(1, most) if tick == int(tick)]
    x = alt.X(
        "views:Q",
        title="views averaged (log scale)",
        scale=alt.Scale(type="log", nice=False, padding=10),
        axis=alt.Axis(values=sorted({1, *ticks, most}), format="d", grid=False),
    )
    colour = alt.Color("network:N", scale=colours, legend=names)
    base = alt.Chart(alt.NamedData("points")).encode(x=x, color=colour, detail="record:N")
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    # Bands of many runs lie over each other, and hide what they surround.
    opacity = 0.18 if len({each["record"] for each in data}) <= 3 else 0.07
    bands = base.mark_area(opacity=opacity).encode(
        y=alt.Y("least:Q", title=title, scale=alt.Scale(zero=False)), y2="greatest:Q"
    )
    lines = base.mark_line(strokeWidth=2).encode(y=y)
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y,
        shape=alt.Shape("network:N", scale=shapes, legend=names),
        tooltip=[
            alt.Tooltip("network:N"),
            alt.Tooltip("run:N"),
            alt.Tooltip("views:Q"),
            alt.Tooltip("value:Q", title=title, format=".2f"),
            alt.Tooltip("least:Q", format=".2f"),
            alt.Tooltip("greatest:Q", format=".2f"),
            alt.Tooltip("orders:Q"),
        ],
    )
    return drawn((bands, lines, points), height=PLOT_HEIGHT, datasets={"points": data})
