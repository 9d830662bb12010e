"""Foreign numbers in words: beside what was measured here, and by themselves, always marked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby

from rsbench.records.foreign import ForeignRow, plain_row
from rsbench.tables.beside import Beside, Besides
from rsbench.tables.layout import Layout, Text, clean, metric_text, number_text
from rsbench.tables.machine import safe
from rsbench.tables.table import UNVERIFIED, Column

_MARK = "not measured here"

_HEADERS = (
    *("task", "split", "protocol", "backbone", "weights", "metric"),
    *("measured", "low", "high", "n", "tool", "model", "theirs"),
    *("difference", "difference_low", "difference_high", "num_paired"),
    *("agrees", "reasons", "source"),
)


def lay_out_beside(besides: Besides) -> tuple[Layout, ...]:
    """Put what stands beside each other into words, one table a ruler."""
    groups = groupby(besides.pairs, key=lambda pair: (pair.task, pair.digest))
    return tuple(_layout(list(pairs)) for _, pairs in groups)


def _layout(pairs: Sequence[Beside]) -> Layout:
    first = pairs[0]
    headers = ("backbone", "weights", "metric", "theirs", "here", "there", "difference")
    return Layout(
        title=clean(f"Beside others' numbers: {first.task}, {first.split} ({first.protocol})"),
        unlike=(),
        caption="",
        headers=(*headers, "conditions"),
        numeric=(False, False, False, False, True, True, True, False),
        rows=tuple(tuple(Text(*map(clean, text)) for text in _line(pair)) for pair in pairs),
        remarks=tuple(clean(line) for line in _remarks(pairs)),
    )


def _line(pair: Beside) -> tuple[Text, ...]:
    column = pair.column
    unit = " %" if column.percent else ""
    return (
        Text(pair.row.backbone),
        Text(pair.row.weights),
        Text(f"{column.metric}{unit}"),
        Text(f"{pair.foreign.tool} ({_MARK})"),
        metric_text(pair.cell, column),
        Text(_printed(pair.foreign, column)),
        _difference(pair),
        Text(verdict_in_words(pair)),
    )


def verdict_in_words(pair: Beside) -> str:
    """Say whether conditions agree, and the number with them; else why they do not."""
    if pair.reasons:
        return "; ".join(pair.reasons)
    if pair.inside is None:
        return "conditions agree"
    return "conditions agree, and so " + ("does" if pair.inside else "does not") + " the number"


def _printed(foreign: ForeignRow, column: Column) -> str:
    """Give a foreign number with the digits it was printed with."""
    if foreign.decimals is None:
        return number_text(foreign.value, column)
    shown = 100 * foreign.value if column.percent else foreign.value
    return f"{shown:.{foreign.decimals}f}"


def _difference(pair: Beside) -> Text:
    if pair.difference is None:
        return Text("-")
    # Two digits, whatever the column shows: others print three.
    column = replace(pair.column, decimals=2)
    value, low, high = (number_text(end, column) for end in pair.difference)
    signed = value if value.startswith("-") else f"+{value}"
    return Text(signed) if pair.cell.low is None else Text(signed, f"{low}, {high}")


def _remarks(pairs: Sequence[Beside]) -> list[str]:
    lines = ["Others' numbers were not measured here: they are ranked in no table."]
    if any(pair.difference is not None and pair.cell.low is not None for pair in pairs):
        lines.append(
            "In brackets: 95% intervals; of a difference that of the measured score, the other"
            " number taken as exact, or paired over items where the other's predictions are known."
        )
    paired = sorted({pair.num_paired for pair in pairs if pair.num_paired is not None})
    if paired:
        lines.append(f"Paired over {', '.join(f'{n:,}' for n in paired)} items.")
    unverified = dict.fromkeys(
        f"{pair.row.backbone} {pair.row.weights}" for pair in pairs if UNVERIFIED in pair.row.marks
    )
    if unverified:
        lines.append(
            "Unverified weights, which no published sha256 says are the publisher's:"
            f" {', '.join(unverified)}."
        )
    sources = dict.fromkeys((pair.foreign.tool, pair.foreign.source) for pair in pairs)
    lines += [f"{tool}: {source}" for tool, source in sources]
    notes = dict.fromkeys(
        f"Note: {pair.row.backbone}, {pair.foreign.tool}: {note}"
        for pair in pairs
        for note in pair.foreign.notes
    )
    return [*lines, *notes]


def lay_out_foreign(rows: Sequence[ForeignRow]) -> tuple[Layout, ...]:
    """Put foreign rows by themselves into words: one table a task, split and metric, best first.

    Shares are shown in percent, which every number of `rsbench.records.foreign` is that lies in
    [0, 1]; whether more is better is not known of other numbers, which keep their order.
    """
    ordered = sorted(rows, key=_family)
    return tuple(_foreign_layout(list(group)) for _, group in groupby(ordered, key=_family))


def _family(row: ForeignRow) -> tuple[str, str, str]:
    return row.task, row.split, row.metric


def _foreign_layout(rows: Sequence[ForeignRow]) -> Layout:
    task, split, metric = _family(rows[0])
    are_shares = all(0 <= row.value <= 1 for row in rows)
    column = Column(
        metric=metric,
        level="item",
        interval="",
        higher_is_better=True,
        percent=are_shares,
        decimals=2,
    )
    ordered = sorted(rows, key=lambda row: -row.value) if are_shares else rows
    return Layout(
        title=clean(f"Measured by others: {task}, {split}"),
        unlike=(),
        caption=_MARK,
        headers=("model", "by", clean(metric) + are_shares * " %", "items", "conditions"),
        numeric=(False, False, True, True, False),
        rows=tuple(
            (
                Text(clean(row.model)),
                Text(clean(row.tool)),
                Text(_printed(row, column)),
                Text("-" if row.n is None else str(row.n)),
                Text(clean(conditions_in_words(row))),
            )
            for row in ordered
        ),
        remarks=tuple(
            clean(f"{tool}: {source}")
            for tool, source in dict.fromkeys((row.tool, row.source) for row in ordered)
        ),
    )


def conditions_in_words(row: ForeignRow) -> str:
    """Say under which conditions somebody measured, as far as they say it."""
    said = [row.protocol]
    if row.frames is not None and row.stride is not None:
        said.append(f"{row.frames}x{row.stride}")
    if row.pixels is not None:
        said.append(f"{row.pixels} pixels")
    if row.clips is not None and row.crops is not None:
        said.append(f"{row.clips}x{row.crops} views")
    said += [f"{name} {value}" for name, value in sorted(row.conditions.items())]
    return ", ".join([*said, *row.notes])


def beside_json(besides: Besides) -> dict[str, object]:
    """Give what stands beside each other for machines: shares as fractions."""
    return {
        "pairs": [_plain(pair) for pair in besides.pairs],
        "problems": list(besides.problems),
        "absence": besides.absence,
    }


def _plain(pair: Beside) -> dict[str, object]:
    return {
        "task": pair.task,
        "protocol": pair.protocol,
        "split": pair.split,
        "ruler": pair.digest,
        "backbone": pair.row.backbone,
        "weights": pair.row.weights,
        "records": list(pair.row.records),
        "marks": list(pair.row.marks),
        "metric": pair.column.metric,
        "measured": asdict(pair.cell),
        "foreign": plain_row(pair.foreign),
        "difference": None if pair.difference is None else pair.difference._asdict(),
        "num_paired": pair.num_paired,
        "inside": pair.inside,
        "agrees": pair.agrees,
        "reasons": list(pair.reasons),
    }


def beside_csv(besides: Besides) -> str:
    """Give one line a pair, shares as fractions; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_HEADERS)
    for pair in besides.pairs:
        cell, foreign = pair.cell, pair.foreign
        difference = pair.difference or ("", "", "")
        writer.writerow(
            safe(value)
            for value in (
                *(pair.task, pair.split, pair.protocol, pair.row.backbone, pair.row.weights),
                *(pair.column.metric, cell.value, cell.low, cell.high, cell.n),
                *(foreign.tool, foreign.model, foreign.value, *difference, pair.num_paired),
                *(json.dumps(pair.agrees), "; ".join(pair.reasons), foreign.source),
            )
        )
    return stream.getvalue()
