"""Learning curves: the loss, and the scores on what is trained on and on what is held out."""

from __future__ import annotations

import math
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
    named,
    series_scales,
    titled,
    vega_lite,
)
from rsbench.report.labels import Labels
from rsbench.specs import Scalar
from rsbench.tables.layout import clean
from rsbench.tables.table import Row, Table, Tables

MAX_POINTS = 2_000
"""Of one chart; of longer trainings each n-th epoch is drawn, and the last."""

_SCORE = re.compile(r"(held_out|train)_(.+)")


class _Training(NamedTuple):
    """One training of one run."""

    stored: Stored
    label: str
    which: str
    """Names it among all trainings of the figure."""
    epochs: Sequence[Mapping[str, Scalar]]


def learning_figures(contents: Contents, tables: Tables) -> Iterator[Figure]:
    """Draw the curves of each table's trainings: the scores, then the loss.

    Args:
        contents: What the tables were built from.
        tables: Whose runs are drawn.
    """
    stored = {each.name: each for each in contents.records}
    for table in tables.tables:
        learned = [
            row for row in table.rows if any(stored[name].record.curve for name in row.records)
        ]
        if not learned:
            continue
        labels = Labels.of_table(table)
        shown_rows = learned[:MAX_SERIES]
        trainings = [
            training
            for row in shown_rows
            for name in row.records
            for training in _trainings(stored[name], labels.of(row))
        ]
        omitted = [labels.of(row) for row in learned[MAX_SERIES:]]
        yield from _scores(table, shown_rows, trainings, omitted, labels)
        yield from _losses(table, shown_rows, trainings, omitted, labels)


def _trainings(stored: Stored, label: str) -> Iterator[_Training]:
    """Part the rows of a curve by fold and training."""
    apart: dict[tuple[Scalar, Scalar], list[Mapping[str, Scalar]]] = {}
    for epoch in stored.record.curve:
        apart.setdefault((epoch.get("fold"), epoch.get("training")), []).append(epoch)
    for (fold, training), epochs in apart.items():
        words = [f"seed {stored.record.seed}"]
        words += [f"fold {fold}"] if fold is not None else []
        words += [f"training {training}"] if training is not None else []
        yield _Training(stored, label, clean(", ".join(words)), epochs)


def _scores(
    table: Table,
    rows: Sequence[Row],
    trainings: Sequence[_Training],
    omitted: Sequence[str],
    labels: Labels,
) -> Iterator[Figure]:
    data: list[Datum] = []
    metrics: list[str] = []
    for training in trainings:
        for epoch in _thinned(training.epochs, num_lines=2 * len(trainings)):
            for key, value in epoch.items():
                match, score = _SCORE.fullmatch(key), _number(value)
                if match is None or match[2] == "loss" or score is None:
                    continue
                metrics.append(match[2])
                part = "held out" if match[1] == "held_out" else "trained on"
                data.append(_datum(training, epoch, 100 * score, part=part))
    if not data:
        return
    names = " and ".join(dict.fromkeys(metrics))
    caption = (
        "Each line is one training; colours tell networks apart, seeds share one. Solid: on items"
        " held out of the training set; dashed: on the augmented items that were trained on, as"
        " they went by. Neither is the test set."
        + left_out(omitted, f"beyond the {MAX_SERIES} best networks")
    )
    title = f"{clean(names)} (%)"
    words = (
        f"Learning curves, {clean(names)} by epoch, of {len(trainings)} trainings."
        f" {_ends(rows, trainings, data, labels)}"
    )
    yield Figure(
        name=named("learning", table),
        section="learning",
        title=titled(f"Learning curves, {clean(names)}", table),
        caption=caption,
        alt=words.strip(),
        spec=_spec(data, [labels.of(row) for row in rows], title),
    )


def _losses(
    table: Table,
    rows: Sequence[Row],
    trainings: Sequence[_Training],
    omitted: Sequence[str],
    labels: Labels,
) -> Iterator[Figure]:
    data = [
        _datum(training, epoch, loss, part="trained on")
        for training in trainings
        for epoch in _thinned(training.epochs, num_lines=len(trainings))
        if (loss := _number(epoch.get("train_loss"))) is not None
    ]
    if not data:
        return
    values = [each["value"] for each in data]
    caption = (
        "Each line is one training: the mean loss of an epoch, label smoothing and augmentation"
        " included, so that networks under other recipes do not compare."
        + left_out(omitted, f"beyond the {MAX_SERIES} best networks")
    )
    yield Figure(
        name=named("loss", table),
        section="learning",
        title=titled("Training loss", table),
        caption=caption,
        alt=(
            f"Training loss by epoch of {len(trainings)} trainings, from {max(values):.3g} at most"
            f" to {min(values):.3g} at least."
        ),
        spec=_spec(data, [labels.of(row) for row in rows], "training loss"),
    )


def _number(value: Scalar) -> float | None:
    """Give what a curve's field holds, if that is a number; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _thinned(
    epochs: Sequence[Mapping[str, Scalar]], *, num_lines: int
) -> list[Mapping[str, Scalar]]:
    """Take each n-th epoch and the last, where all of all lines would be too many."""
    stride = max(1, math.ceil(len(epochs) * num_lines / MAX_POINTS))
    kept = list(epochs[::stride])
    return kept if (len(epochs) - 1) % stride == 0 else [*kept, epochs[-1]]


def _datum(training: _Training, epoch: Mapping[str, Scalar], value: float, *, part: str) -> Datum:
    return {
        "record": anchor_of(training.stored.name),
        "network": training.label,
        "training": training.which,
        "part": part,
        "epoch": epoch.get("epoch"),
        "value": value,
        "learning_rate": epoch.get("learning_rate"),
    }


def _ends(
    rows: Sequence[Row], trainings: Sequence[_Training], data: Sequence[Datum], labels: Labels
) -> str:
    """Say where the held-out scores of each network ended, on average over its trainings."""
    said = []
    for row in rows:
        label = labels.of(row)
        last: dict[tuple[str, str], float] = {}
        for each in data:
            if each["network"] == label and each["part"] == "held out":
                last[each["record"], each["training"]] = each["value"]
        if last:
            mean = sum(last.values()) / len(last)
            said.append(f"{label} {mean:.1f}%")
    return f"Held-out scores at the end: {enumerated(said, limit=6)}." if said else ""


def _spec(data: Sequence[Datum], labels: Sequence[str], title: str) -> dict[str, Any]:
    alt = vega_lite()
    colours, _ = series_scales(labels)
    parts = [
        part for part in ("held out", "trained on") if any(each["part"] == part for each in data)
    ]
    base = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X(
            "epoch:Q",
            title="epoch",
            scale=alt.Scale(nice=False, zero=False, padding=6),
            axis=alt.Axis(tickMinStep=1, format="d", grid=False),
        ),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
        color=alt.Color("network:N", scale=colours, legend=legend(len(labels))),
        detail=["record:N", "training:N", "part:N"],
    )
    dashes = alt.StrokeDash(
        "part:N",
        scale=alt.Scale(domain=parts, range=[[1, 0], [5, 4]][: len(parts)]),
        legend=alt.Legend(title=None, orient="top", direction="horizontal")
        if len(parts) > 1
        else None,
    )
    lines = base.mark_line(strokeWidth=1.8, opacity=0.85).encode(strokeDash=dashes)
    # Points that are seen only under the pointer: lines of one seed are thin to hit.
    points = base.mark_point(filled=True, size=60, opacity=0.01).encode(
        tooltip=[
            alt.Tooltip("network:N"),
            alt.Tooltip("training:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("value:Q", title=title, format=".4~g"),
            alt.Tooltip("learning_rate:Q", title="learning rate", format=".3~g"),
        ]
    )
    return drawn((lines, points), height=PLOT_HEIGHT, datasets={"points": data})
