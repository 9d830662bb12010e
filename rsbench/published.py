"""Published numbers as foreign rows: the tables of `results/reference`, and what weights carry.

A table is a CSV file and a TOML file of the same name. The latter says what each column means and
from where it is and, in ``[[scores]]``, which of its cells are scores of which network::

    [[scores]]
    metrics = { keras_top1 = "top1" }     # column -> metric; its cells are percentages
    tool = "keras"                        # who measured
    model = "{backbone} at {pixels}"      # braces name a column of the row
    backbone = "{backbone}"               # as rsbench names it; left out where it has none
    weights = "keras.i{pixels}"
    task = "imagenet1k"                   # unless the whole table is of one
    split = "validation"
    protocol = "evaluate"
    pixels = "{pixels}"                   # likewise frames, stride, clips, crops, n: text or number
    conditions = { resizer = "tpu" }
    notes = ["..."]
    rows = ["R3D-RS-50"]                  # first cells of the rows it is of; left out: of all

    [scores.backbones]                    # in place of `backbone`: first cell -> rsbench's name
    R3D-RS-50 = "resnet_rs_3d_50"

What the CSV leaves empty was not published and gives no row.
"""

from __future__ import annotations

import csv
import re
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rsbench.errors import DataError
from rsbench.records.foreign import ForeignRow, completed, number_of, percentage
from rsbench.specs import Backbone, Weights

FOLDER = "reference"
"""Below the results folder."""

_WORDS = frozenset({"tool", "model", "backbone", "weights", "task", "split", "protocol"})
_COUNTS = frozenset({"n", "frames", "stride", "pixels", "clips", "crops"})
_OTHERS = frozenset({"metrics", "conditions", "notes", "rows", "backbones"})
_COUNT = re.compile(r"[1-9][0-9]{0,9}")
_REQUIRED = ("metrics", "tool", "model", "split", "protocol")


def read_published(root: Path) -> tuple[ForeignRow, ...]:
    """Read all scores of the published tables of a results folder.

    Args:
        root: The results folder; tables lie in `reference/` below it.

    Returns:
        One row a score, in the order of files, `[[scores]]`, columns and lines; none where there is
        no such folder.

    Raises:
        DataError: A table is not as described above; names the file.
    """
    tables = sorted((root / FOLDER).glob("*.toml"))
    return tuple(row for table in tables for row in _rows_of(table))


def published_of(backbones: Iterable[Backbone]) -> tuple[ForeignRow, ...]:
    """Give the scores that known weights carry (`Weights.published`), one row a metric.

    Weights that belong to a sibling network are the sibling's, and stand there.
    """
    return tuple(
        row
        for backbone in backbones
        for weights in backbone.weights
        if weights.network in (None, backbone.name)
        for row in _rows_of_weights(backbone, weights)
    )


def joined(first: Iterable[ForeignRow], second: Iterable[ForeignRow]) -> tuple[ForeignRow, ...]:
    """Give the rows of two sources, each number once.

    The same network, weights, pixels, task and metric by the same value is the same number, written
    down twice: it stands where the first has it, with the conditions that either says.
    """
    rows = list(first)
    others = list(second)
    twice = {number_of(row): row for row in others}
    there = {number_of(row) for row in rows}
    return (
        *(completed(row, twice.get(number_of(row))) for row in rows),
        *(row for row in others if number_of(row) not in there),
    )


def _rows_of_weights(backbone: Backbone, weights: Weights) -> Iterator[ForeignRow]:
    given, views = weights.input, weights.views
    conditions = {
        "crop_ratio": given.crop_ratio,
        "interpolation": given.interpolation,
        "antialias": given.antialias,
        "resizer": given.resizer,
        **({} if weights.sampler is None else {"sampler": weights.sampler}),
    }
    is_video = backbone.modality == "video"
    for score, percent in weights.published.items():
        task, _, metric = score.rpartition("/")
        printed = percentage(str(percent))
        assert printed is not None, f"{weights.name}: {score} is no percentage"
        yield ForeignRow(
            source=weights.source,
            tool="publisher",
            model=weights.name,
            backbone=backbone.name,
            weights=weights.name,
            task=task,
            split="validation",
            protocol="evaluate",
            metric=metric,
            value=printed.value,
            decimals=printed.decimals,
            frames=given.frames if is_video else None,
            stride=given.stride if is_video else None,
            pixels=given.pixels,
            # Scores of image networks are of one view unless somebody says otherwise.
            clips=views.clips if views is not None else None if is_video else 1,
            crops=views.crops if views is not None else None if is_video else 1,
            conditions=conditions,
            notes=(weights.published_conditions,) if weights.published_conditions else (),
        )


def _rows_of(path: Path) -> Iterator[ForeignRow]:
    """Give the scores of one table."""
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
        with path.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream, strict=True))
            # Cells that are missing are None, and those too many stand under None.
            if any(None in line or None in line.values() for line in lines):
                raise ValueError("a line of the CSV has other cells than its header")
    except (OSError, ValueError, csv.Error) as fault:
        raise DataError(
            f"{path.name} must be TOML with a CSV of the same name beside it, and is not"
            f" ({' '.join(str(fault).split())[:160]}); restore both."
        ) from None
    blocks = about.get("scores", [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise _wrong(path, "its scores must be tables, [[scores]]")
    for block in blocks:
        _check_block(path, block)
        for column, metric in block["metrics"].items():
            source = _source(path, about, column)
            for line in lines:
                text = line.get(column)
                if text is None:
                    raise _wrong(path, f"the CSV must have the column {column!r}")
                if text and _is_of(block, line):
                    yield _row(path, about, block, line, metric=metric, text=text, source=source)


def _check_block(path: Path, block: Mapping[str, Any]) -> None:
    unknown = sorted(block.keys() - _WORDS - _COUNTS - _OTHERS)
    if unknown:
        raise _wrong(path, f"its scores have no {unknown[0]!r}")
    missing = [name for name in _REQUIRED if name not in block]
    if missing:
        raise _wrong(path, f"its scores must say their {missing[0]!r}")
    for name in ("metrics", "conditions", "backbones"):
        # Text alone in two of them; numbers and truth values are conditions too.
        kinds = (str, bool, int, float) if name == "conditions" else (str,)
        table = block.get(name, {})
        if not isinstance(table, dict) or not {*map(type, table.values())} <= {*kinds}:
            raise _wrong(path, f"{name!r} of its scores must be a table of plain values")
    for name in ("notes", "rows"):
        listed = block.get(name, [])
        if not isinstance(listed, list) or not {*map(type, listed)} <= {str}:
            raise _wrong(path, f"{name!r} of its scores must be a list of texts")


def _is_of(block: Mapping[str, Any], line: Mapping[str, str]) -> bool:
    return "rows" not in block or _first_cell(line) in block["rows"]


def _first_cell(line: Mapping[str, str]) -> str:
    return next(iter(line.values()))


def _row(
    path: Path,
    about: Mapping[str, Any],
    block: Mapping[str, Any],
    line: Mapping[str, str],
    *,
    metric: str,
    text: str,
    source: str,
) -> ForeignRow:
    words = {name: _filled(path, block[name], line) for name in sorted(_WORDS) if block.get(name)}
    if "backbones" in block:
        words["backbone"] = block["backbones"].get(_first_cell(line), "")
    printed = percentage(text)
    if printed is None:
        raise _wrong(path, f"its scores must be percentages, one is {text!r:.40}")
    task = words.get("task") or about.get("task")
    if not isinstance(task, str):
        raise _wrong(path, "its scores must say their 'task'")
    unsaid = [name for name in _REQUIRED if name != "metrics" and not words.get(name)]
    if unsaid:
        raise _wrong(path, f"its scores must say their {unsaid[0]!r}, one leaves it empty")
    return ForeignRow(
        source=source,
        tool=words["tool"],
        model=words["model"],
        backbone=words.get("backbone") or None,
        weights=words.get("weights") or None,
        task=task,
        split=words["split"],
        protocol=words["protocol"],
        metric=metric,
        value=printed.value,
        decimals=printed.decimals,
        **{name: _count(path, block[name], line) for name in sorted(_COUNTS & block.keys())},
        conditions=dict(block.get("conditions", {})),
        notes=tuple(map(str, block.get("notes", []))),
    )


def _filled(path: Path, template: object, line: Mapping[str, str]) -> str:
    """Fill in the columns that braces name; nothing but names may stand in them."""
    if not isinstance(template, str):
        raise _wrong(path, f"{template!r} in its scores must be text")
    parts = []
    try:
        for before, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (form or conversion):
                raise KeyError(name)
            parts += [before, "" if name is None else line[name]]
    except (KeyError, ValueError):
        columns = ", ".join(line)
        raise _wrong(path, f"{template!r} must name columns in braces: {columns}") from None
    return "".join(parts)


def _count(path: Path, value: object, line: Mapping[str, str]) -> int | None:
    """Give a number, or what a column says; None where its cell is empty."""
    if type(value) is int and value > 0:
        return value
    text = _filled(path, value, line)
    if not text:
        return None
    if _COUNT.fullmatch(text) is None:
        raise _wrong(path, f"{value!r} must give whole numbers, and gives {text!r}")
    return int(text)


def _source(path: Path, about: Mapping[str, Any], column: str) -> str:
    """Give the citation of a column of scores."""
    try:
        found = about["sources"][about["columns"][column]["source"]]
    except (KeyError, TypeError):
        raise _wrong(path, f"its column {column!r} must name one of its sources") from None
    return str(found)


def _wrong(path: Path, what: str) -> DataError:
    return DataError(f"{path.name}: {what}; mend it, or restore the published table.")
