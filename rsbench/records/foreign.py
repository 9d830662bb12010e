"""Rows that others measured: published numbers, and results of other tools, marked as theirs.

They stand beside records and never among them: no table ranks them, no column mixes them with what
was measured here. What was imported lies below the results folder, published tables in
`reference/` (see `rsbench.published`)::

    foreign/<tool>-<task>-<file that was read>-<first 8 of digest>.json
                                                                  .predictions.parquet

A file is named by its content, so that importing twice, here or on two machines, is importing once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsbench.atomic import write_atomically
from rsbench.digests import digest_bytes, digest_json
from rsbench.errors import RecordError
from rsbench.records.plain import Place, check_digest, from_plain, parse_object, to_plain
from rsbench.records.predictions import ItemScores, PredictionTable, from_parquet, read_item_scores
from rsbench.specs import Scalar

FOREIGN_SCHEMA = 1
"""Raised whenever a reader of the former version would misread a file."""

FOLDER = "foreign"
"""Below the results folder."""

_PREDICTIONS = "predictions.parquet"
_AGAIN = "import it again"
_MAX_DECIMALS = 12
_PERCENTAGE = re.compile(r"[0-9]{1,3}(?:\.([0-9]{0,12}))?")
_COUNTS = ("n", "frames", "stride", "pixels", "clips", "crops")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignRow:
    """One metric of one network, measured by somebody else; what they do not say is None."""

    source: str
    """Whose number it is and where it stands: a citation, an address, a file's name."""
    tool: str
    """What measured it: "timm", "mmaction2", "model_garden"; "paper" where only a paper says it."""
    model: str
    """The network as the source names it."""
    backbone: str | None
    """The same as rsbench names it; None where it has no such network."""
    weights: str | None
    """Its weights as rsbench names them, "none" for training from random ones; None where rsbench
    has no such weights, or nobody says which they are."""
    task: str
    """As rsbench names it."""
    split: str
    protocol: str
    """As rsbench names it, or the source's own word."""
    metric: str
    """As rsbench names it."""
    value: float
    """A share (0.788 for 78.8 %), or in the metric's own unit."""
    decimals: int | None = None
    """Digits after the point of the number as printed, in percent if it is a share; None where it
    is as exact as it was computed."""
    n: int | None = None
    """Items it was computed over."""
    frames: int | None = None
    stride: int | None = None
    pixels: int | None = None
    clips: int | None = None
    crops: int | None = None
    conditions: Mapping[str, Scalar] = field(default_factory=dict)
    """How else it was measured, by the names of a table's row where there is one: crop_ratio,
    interpolation, resizer, sampler."""
    notes: tuple[str, ...] = ()
    """What must be read with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignFile:
    """All rows that one file of another tool gave."""

    schema: int = FOREIGN_SCHEMA
    tool: str
    source: str
    """What was read: name and sha256 of the file, so that the import can be traced."""
    rows: tuple[ForeignRow, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    """Suffix beside it -> sha256. Filled by `write`."""
    digest: str = ""
    """sha256 of the canonical JSON of all other fields. Filled by `write`."""


class Percentage(NamedTuple):
    """A share as somebody printed it."""

    value: float
    """In [0, 1]."""
    decimals: int
    """Digits after the point, in percent."""


class ForeignStored(NamedTuple):
    """A file of foreign rows and where it lies."""

    path: Path
    """Of the JSON file."""
    file: ForeignFile

    @property
    def name(self) -> str:
        """The path below the results folder, with forward slashes."""
        return f"{FOLDER}/{self.path.name}"


class ForeignContents(NamedTuple):
    """What a results folder holds of others."""

    files: tuple[ForeignStored, ...]
    """In the order of their names."""
    problems: tuple[str, ...]
    """One line for each file that could not be read; it is left alone."""

    @property
    def rows(self) -> tuple[ForeignRow, ...]:
        """The rows of all files, in their order."""
        return tuple(row for stored in self.files for row in stored.file.rows)


def write(
    root: Path, foreign: ForeignFile, *, stem: str, predictions: bytes | None = None
) -> ForeignStored:
    """Save foreign rows, and their predictions first; the same content is the same file.

    Args:
        root: The results folder.
        foreign: At least one row; `files` and `digest` are filled in here.
        stem: Name of the file that was read, without its folder: part of the name.
        predictions: What `rsbench.records.predictions.to_parquet` gave of the rows' items.

    Returns:
        The file as `read` gives it.

    Raises:
        DiskError: The disk is full or the folder is read-only.
        RecordError: A row holds what can't be written, NaN for instance.
    """
    files = {} if predictions is None else {_PREDICTIONS: digest_bytes(predictions)}
    plain = to_plain(replace(foreign, files=files), "import")
    del plain["digest"]
    digest = digest_json(plain)
    sealed = from_plain(ForeignFile, {**plain, "digest": digest}, _place("this import"), "import")
    _check_sense(sealed, "this import")
    task = sealed.rows[0].task
    name = "-".join(_slug(part) for part in (sealed.tool, task, stem)) + f"-{digest[:8]}"
    path = root / FOLDER / f"{name}.json"
    if predictions is not None:
        write_atomically(_beside(path), predictions)
    text = json.dumps({**plain, "digest": digest}, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())
    return ForeignStored(path, sealed)


def read(path: Path) -> ForeignFile:
    """Read one file of foreign rows.

    Raises:
        RecordError: It is missing, broken, edited by hand, or of a newer schema; names the file.
    """
    name = f"{FOLDER}/{path.name}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not text"
        raise RecordError(
            f"{name} must be rows that were imported, but can't be read ({reason}); {_AGAIN}."
        ) from None
    plain = parse_object(text, _place(name), remedy=f"delete it and {_AGAIN}")
    foreign = from_plain(ForeignFile, plain, _place(name), "import")
    _check_sense(foreign, name)
    check_digest(plain, name, again=_AGAIN)
    return foreign


def read_all(root: Path) -> ForeignContents:
    """Read all foreign rows below a results folder; what can't be read is named and left alone.

    A folder that does not exist holds nothing.
    """
    files: list[ForeignStored] = []
    problems: list[str] = []
    for path in sorted((root / FOLDER).glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            files.append(ForeignStored(path, read(path)))
        except RecordError as fault:
            problems.append(str(fault))
    return ForeignContents(tuple(files), tuple(problems))


def read_predictions(stored: ForeignStored) -> PredictionTable | None:
    """Read what another tool predicted for each item, held to its digest.

    Returns:
        The predictions, or None where only the scores are known.

    Raises:
        RecordError: They are missing, changed, or damaged; names the file.
    """
    content = _read_predictions(stored)
    return None if content is None else from_parquet(content, where=_where(stored))


def read_scores(stored: ForeignStored, metric: str) -> ItemScores | None:
    """Read the items' parts of one metric.

    Returns:
        The scores, or None where only the metric is known.

    Raises:
        RecordError: The predictions are missing, changed, or damaged, hold an item twice, a score
            that is none, or another count than the row; names the file.
    """
    content = _read_predictions(stored)
    if content is None:
        return None
    scores = read_item_scores(content, metric, where=_where(stored))
    if scores is not None:
        _check_scores(scores, stored, metric)
    return scores


def _check_scores(scores: ItemScores, stored: ForeignStored, metric: str) -> None:
    """Hold what a digest can't say of scores that somebody else may have written."""
    if len(set(scores.ids)) < len(scores.ids):
        raise RecordError(f"{_where(stored)} must hold each item once, holds one twice; {_AGAIN}.")
    if not np.isfinite(scores.scores).all():
        raise RecordError(f"{_where(stored)}: {metric} must be finite, one is not; {_AGAIN}.")
    for row in stored.file.rows:
        if row.metric == metric and row.n not in (None, len(scores.ids)):
            raise RecordError(
                f"{_where(stored)} must hold the {row.n:,} items of its row, holds"
                f" {len(scores.ids):,}; {_AGAIN}."
            )


def _read_predictions(stored: ForeignStored) -> bytes | None:
    stated = stored.file.files.get(_PREDICTIONS)
    if stated is None:
        return None
    try:
        content = _beside(stored.path).read_bytes()
    except OSError as fault:
        raise RecordError(f"{_where(stored)} can't be read ({fault.strerror}); {_AGAIN}.") from None
    if digest_bytes(content) != stated:
        raise RecordError(f"{_where(stored)} was changed (another sha256); {_AGAIN}.")
    return content


def _check_sense(foreign: ForeignFile, file: str) -> None:
    """Hold what types can't say."""
    if not foreign.rows:
        raise RecordError(f"{file} must have at least one row, has none; {_AGAIN}.")
    strange = sorted(set(foreign.files) - {_PREDICTIONS})
    if strange:
        raise RecordError(f"{file} must name no file but {_PREDICTIONS}, names {strange[0]!r}.")
    for place, row in enumerate(foreign.rows):
        where = f"{file}: import.rows[{place}]"
        if row.decimals is not None and not 0 <= row.decimals <= _MAX_DECIMALS:
            raise RecordError(
                f"{where}.decimals must be from 0 to {_MAX_DECIMALS}, was {row.decimals}; {_AGAIN}."
            )
        for name in _COUNTS:
            count = getattr(row, name)
            if count is not None and count < 1:
                raise RecordError(f"{where}.{name} must be 1 or more, was {count}; {_AGAIN}.")


def _place(file: str) -> Place:
    return Place(file, FOREIGN_SCHEMA)


def _where(stored: ForeignStored) -> str:
    return f"{stored.name} (predictions)"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.{_PREDICTIONS}")


def _slug(name: str) -> str:
    """Give a name as one portable part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.@+-]", "_", name).lstrip(".-")[:60] or "unnamed"


def percentage(text: str) -> Percentage | None:
    """Read a printed percentage, "78.80"; None where it is none from 0 to 100, or is endless."""
    match = _PERCENTAGE.fullmatch(text)
    if match is None or Decimal(text) > 100:
        return None
    # Divided in decimals: 78.8 / 100 is not the float nearest to 0.788.
    return Percentage(float(Decimal(text) / 100), len(match[1] or ""))


def number_of(row: ForeignRow) -> tuple[object, ...]:
    """Give what two rows have in common that are the same number, written down twice."""
    of_what = row.backbone, row.weights, row.pixels, row.frames
    return *of_what, row.task, row.split, row.protocol, row.metric, row.value


def completed(row: ForeignRow, other: ForeignRow | None) -> ForeignRow:
    """Fill in what a row does not say and another of the same number (`number_of`) does."""
    if other is None:
        return row
    return replace(
        row,
        conditions={**other.conditions, **row.conditions},
        **{name: getattr(other, name) for name in _COUNTS if getattr(row, name) is None},
    )


def plain_row(row: ForeignRow) -> dict[str, Any]:
    """Give a row as JSON values, for machines."""
    plain: dict[str, Any] = to_plain(row, "row")
    return plain
