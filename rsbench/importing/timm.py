"""timm's tables of scores: `results/results-imagenet.csv` of pytorch-image-models and its kin.

One line a model, from timm's own evaluation of its weights: model, top1, top1_err, top5, top5_err,
param_count, img_size, crop_pct (cropt_pct in files of before 2023), interpolation. Tables of other
test sets have the differences to ImageNet besides (top1_diff, ...): their scores are of another set
or of other labels.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsbench.errors import DataError
from rsbench.records.foreign import ForeignRow, Percentage, percentage
from rsbench.specs import Backbone

TOOL = "timm"

_METRICS = ("top1", "top5")
_REQUIRED = ("model", *_METRICS, "img_size", "interpolation")
_IMAGENET = "imagenet1k"
_PIXELS = re.compile(r"[1-9][0-9]{0,4}")
_RATIO = re.compile(r"[0-9](\.[0-9]{1,9})?")
_NUM_VALIDATION = 50_000
"""Pictures of ImageNet-1k's validation split: timm evaluates all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ours:
    """What rsbench calls a model of timm's."""

    backbone: str
    weights: str | None


def read_timm(
    path: Path, *, task: str, split: str, source: str, backbones: Iterable[Backbone] = ()
) -> tuple[ForeignRow, ...]:
    """Read one of timm's tables.

    Args:
        path: The CSV file.
        task: What its scores are of, as rsbench names it.
        split: Likewise.
        source: What the rows say where they are from.
        backbones: Networks of rsbench's whose weights may be timm's: rows of these weights get
            their names; all others are ``timm/NAME`` with the tag as weights.

    Returns:
        Two rows a model, top1 and top5, in the order of the file.

    Raises:
        DataError: It is no such table, a number is none, a model stands twice at one size, or the
            scores are of another set than the task's.
    """
    where = path.name
    known = {
        weights.url.removeprefix("timm/"): _Ours(backbone=backbone.name, weights=weights.name)
        for backbone in backbones
        for weights in backbone.weights
        if weights.url is not None
        and weights.url.startswith("timm/")
        and weights.network in (None, backbone.name)
    }
    rows: list[ForeignRow] = []
    seen: dict[tuple[str, str], int] = {}
    for number, line in _lines(path, task=task):
        first = seen.setdefault((line["model"], line["img_size"]), number)
        if first != number:
            raise DataError(
                f"{where}, line {number}: {line['model']} at {line['img_size']} must stand once,"
                f" and stands in line {first} already; drop one."
            )
        ours = known.get(line["model"]) or _by_name(line["model"])
        rows += _rows(line, f"{where}, line {number}", ours, task, split, source)
    if not rows:
        raise DataError(f"{where} must have a line a model, has none; fetch it again.")
    return tuple(rows)


def _lines(path: Path, *, task: str) -> list[tuple[int, dict[str, str]]]:
    """Give the lines with their numbers, all of them whole."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or []
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else " ".join(str(fault).split())
        raise DataError(
            f"{path.name} must be a table of timm's results, and can't be read ({reason}); fetch it"
            " again."
        ) from None
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{path.name} must be a table of timm's results, with the columns"
            f" {', '.join(_REQUIRED)}; {missing[0]!r} is missing: give results-imagenet.csv or one"
            " like it."
        )
    if "top1_diff" in columns and task == _IMAGENET:
        raise DataError(
            f"{path.name} must be of {_IMAGENET}, and is of another set: it has the differences to"
            " it (top1_diff); import results-imagenet.csv instead."
        )
    for number, line in lines:
        # DictReader gives None for cells that are missing, and has them under None if too many.
        if None in line or None in line.values():
            raise DataError(
                f"{path.name}, line {number}: it must have {len(columns)} cells; it is cut short,"
                " fetch it again."
            )
    return lines


def _rows(
    line: Mapping[str, str], where: str, ours: _Ours, task: str, split: str, source: str
) -> list[ForeignRow]:
    pixels = line["img_size"]
    if _PIXELS.fullmatch(pixels) is None:
        raise DataError(f"{where}: img_size must be a whole number to 99999, was {pixels!r}.")
    conditions: dict[str, str | float] = {"resizer": "timm"}
    if line["interpolation"]:
        conditions["interpolation"] = line["interpolation"]
    crop = next((name for name in ("crop_pct", "cropt_pct") if line.get(name)), None)
    if crop is not None:
        if _RATIO.fullmatch(line[crop]) is None:
            raise DataError(f"{where}: {crop} must be a ratio such as 0.875, was {line[crop]!r}.")
        conditions["crop_ratio"] = float(line[crop])
    return [
        ForeignRow(
            source=source,
            tool=TOOL,
            model=line["model"],
            backbone=ours.backbone,
            weights=ours.weights,
            task=task,
            split=split,
            protocol="evaluate",
            metric=metric,
            value=printed.value,
            decimals=printed.decimals,
            n=_NUM_VALIDATION if task == _IMAGENET and split == "validation" else None,
            pixels=int(pixels),
            clips=1,
            crops=1,
            conditions=conditions,
        )
        for metric in _METRICS
        for printed in [_percentage(line, metric, where)]
    ]


def _by_name(model: str) -> _Ours:
    """Give the name that `rsbench_backbones.timm` has for a model: its tag names the weights."""
    architecture, _, tag = model.partition(".")
    return _Ours(backbone=f"timm/{architecture}", weights=tag or None)


def _percentage(line: Mapping[str, str], name: str, where: str) -> Percentage:
    printed = percentage(line[name])
    if printed is None:
        raise DataError(f"{where}: {name} must be a number from 0 to 100, was {line[name]!r}.")
    return printed
