"""Which texts stand where in a table for people; markdown, LaTeX and terminal only dress it.

Columns in which all rows agree are said once below the table, so that a narrow screen holds what
differs; marks, input and counts stand in every row all the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rsbench.records.ruler import ABSENT
from rsbench.specs import Scalar
from rsbench.tables.table import Cell, Column, Row, Table


class Text(NamedTuple):
    """What stands in one place of a table."""

    main: str
    detail: str = ""
    """Stands behind or below it: an interval."""
    more: str = ""
    """Stands behind or below both: what no reader may miss."""
    cost: str = ""
    """Stands below all on a terminal, and nowhere else: wide forms have a column of sums."""

    def __str__(self) -> str:
        interval = f" [{self.detail}]" if self.detail else ""
        return f"{self.main}{interval}" + (f"; {self.more}" if self.more else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A table in words."""

    title: str
    unlike: tuple[str, ...]
    """Why it does not continue the first table of its task and protocol."""
    caption: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    """Whether a column is aligned to the right."""
    rows: tuple[tuple[Text, ...], ...]
    remarks: tuple[str, ...]
    """Lines below the table: what all rows share, how to read it, notes, warnings."""


class _Field(NamedTuple):
    header: str
    text: Callable[[Row], str]


_OPTIONAL = (
    _Field("trained on", lambda row: _trained_on(row)),
    _Field("seeds", lambda row: _seeds(row)),
    _Field("lifting", lambda row: f"lifting {row.lifting}"),
    _Field("crop", lambda row: f"crop {row.crop_ratio:g}"),
    _Field("resize", lambda row: _resize(row)),
    _Field("mean", lambda row: f"mean {_channels(row.mean)}"),
    _Field("std", lambda row: f"std {_channels(row.std)}"),
    _Field("source", lambda row: _source(row)),
)
"""What a row must say unless all rows say the same; each text says what it is."""


def lay_out(table: Table) -> Layout:
    """Put a table into words; all texts are free of control characters."""
    varying, shared = [], []
    for entry in _OPTIONAL:
        values = {entry.text(row) for row in table.rows}
        if len(values) > 1:
            varying.append(entry)
        elif entry.header not in ("mean", "std", "source"):
            shared.append(values.pop())
    compared = any(row.difference is not None for row in table.rows)
    headers = ["backbone", "weights", "frames x stride x pixels"]
    headers += [entry.header for entry in varying]
    numeric = [False] * len(headers)
    headers += [_metric_header(column) for column in table.columns]
    headers += ["difference to first"] if compared else []
    headers += ["read / present / official"]
    numeric += [True] * (len(headers) - len(numeric))
    rows = []
    for row in table.rows:
        texts = [Text(_backbone(row)), Text(_weights(row))]
        texts += [Text(f"{row.frames}x{row.stride}x{row.pixels}")]
        texts += [Text(entry.text(row)) for entry in varying]
        texts += [
            metric_text(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)
        ]
        if compared:
            texts.append(_difference(row, table.columns[0], is_first=row is table.rows[0]))
        texts += [_items(row), Text(", ".join(row.marks))]
        rows.append(tuple(Text(clean(text.main), clean(text.detail)) for text in texts))
    return Layout(
        title=clean(table_title(table)),
        unlike=tuple(
            clean(f"{field}: {ruler_value(there)} there, {ruler_value(here)} here")
            for field, there, here in table.unlike_first
        ),
        caption=clean(table.caption),
        headers=(*headers, "marks"),
        numeric=(*numeric, False),
        rows=tuple(rows),
        remarks=tuple(clean(line) for line in _remarks(table, shared, compared=compared)),
    )


def clean(text: str) -> str:
    """Replace control and formatting characters, which could rewrite a terminal or a page."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs")
        else letter
        for letter in text
    )


def table_title(table: Table) -> str:
    """Name a table: "digits v1, test: linear_probe v2 (1 x 1 views)"."""
    views = f"{table.clips} x {table.crops} views"
    if "cropper" in table.ruler:  # Left out where it is the default.
        views += f" by {table.ruler['cropper']}"
    sampler = "" if table.modality == "image" else f"{table.sampler}, "
    return (
        f"{table.task} v{table.task_version}, {table.split}{_folding(table)}: {table.protocol} "
        f"v{table.protocol_version} ({sampler}{views})"
    )


def _folding(table: Table) -> str:
    """Say how folds were made that are not the task's own."""
    said = []
    if "cross_validate" in table.ruler:
        by_group = table.ruler["cross_validate"] == "groups"
        said.append("each group left out in turn" if by_group else "cross-validated")
    if "group_by" in table.ruler:
        said.append(f"groups by {table.ruler['group_by']}")
    return f" ({', '.join(said)})" if said else ""


def _backbone(row: Row) -> str:
    return row.backbone if row.backbone_version == 1 else f"{row.backbone} v{row.backbone_version}"


def _weights(row: Row) -> str:
    return row.weights if row.weights_digest is None else f"{row.weights} {row.weights_digest[:8]}"


def _source(row: Row) -> str:
    source = row.backbone_source
    return "installed backbone" if source is None else f"backbone file {source[:8]}"


def _channels(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _resize(row: Row) -> str:
    """Say whose resize it was, unless torchvision's: "tpu bicubic resize, no antialias"."""
    whose = "" if row.resizer == "torchvision" else f"{row.resizer} "
    size = f" to {'x'.join(map(str, row.resize_to))}" if row.resize_to else ""
    return f"{whose}{row.interpolation} resize{size}" + ("" if row.antialias else ", no antialias")


def _trained_on(row: Row) -> str:
    if not row.trained_on:
        return "not trained before" if row.weights == "none" else "trained on unknown data"
    return f"trained on {', '.join(row.trained_on)}" + (
        " (knows this task)" if row.knows_task else ""
    )


def _seeds(row: Row) -> str:
    shown = ", ".join(str(seed) for seed in row.seeds)
    return f"seed {shown}" if len(row.seeds) == 1 else f"{len(row.seeds)} seeds ({shown})"


def _metric_header(column: Column) -> str:
    unit = " %" if column.percent else ""
    return column.metric + unit + ("" if column.higher_is_better else " (lower is better)")


def metric_text(cell: Cell | None, column: Column) -> Text:
    """Give a number with its spread over seeds, its folds and its interval."""
    if cell is None:
        return Text("-")
    spread = "" if cell.std is None else f" ± {number_text(cell.std, column)}"
    main = number_text(cell.value, column) + spread
    if cell.folds:
        main += f" ({' / '.join(number_text(value, column) for value in cell.folds)})"
    if cell.low is None or cell.high is None:
        return Text(main)
    return Text(main, f"{number_text(cell.low, column)}, {number_text(cell.high, column)}")


def _difference(row: Row, column: Column, *, is_first: bool) -> Text:
    if row.difference is None:
        return Text("first" if is_first else "-")
    return _signed(*(number_text(number, column) for number in row.difference))


def difference_text(difference: tuple[float, float, float]) -> Text:
    """Give a difference of shares with its interval, in percentage points."""
    return _signed(*(percent(number) for number in difference))


def _signed(value: str, low: str, high: str) -> Text:
    return Text(value if value.startswith("-") else f"+{value}", f"{low}, {high}")


def number_text(value: float, column: Column) -> str:
    """Give a number of a column as the column shows it."""
    if not column.percent:
        return f"{value:.4g}"
    return percent(value, decimals=column.decimals)


def percent(share: float, *, decimals: int = 1) -> str:
    """Give a share in percent, without a sign before zero."""
    shown = f"{100 * share:.{decimals}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def _items(row: Row) -> Text:
    official = "-" if row.num_official is None else str(row.num_official)
    failed = f"{row.num_failed} failed" if row.num_failed else ""
    return Text(f"{row.num_evaluated} / {row.num_expected} / {official}", failed)


def ruler_value(value: Scalar) -> str:
    """Show a ruler's value; digests by their first digits."""
    if value == ABSENT or value is None:
        return "none"
    text = str(value)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:8] if is_digest else text


def _remarks(table: Table, shared: Sequence[str], *, compared: bool) -> list[str]:
    lines = [f"All rows: {'; '.join(shared)}."] if shared else []
    kinds = sorted({column.interval for column in table.columns if column.interval})
    reading = f"In brackets: 95% intervals over items ({', '.join(kinds)})" if kinds else ""
    if compared:
        reading += "; the difference of the headline is paired over items (bootstrap)"
    if any(cell is not None and cell.folds for row in table.rows for cell in row.cells):
        reading += f"; in parentheses: {table.split.replace('+', ' / ')}, of which it is the mean"
    if any(len(row.seeds) > 1 for row in table.rows):
        reading += "; ± is the standard deviation over seeds"
        reading += ", which the intervals hold too (Student's t)" if kinds else ""
    if reading:
        lines.append(f"{reading.removeprefix('; ')}.")
    lines += [f"Note: {note}" for note in table.notes]
    lines += [f"Warning: {warning}" for warning in table.warnings]
    return lines


def unlike_sentence(layout: Layout) -> str:
    """Say in which fields a table's ruler differs from that of the first such table, or nothing."""
    if not layout.unlike:
        return ""
    fields = "; ".join(layout.unlike)
    return f"Does not compare with the first table of this task and protocol: {fields}."
