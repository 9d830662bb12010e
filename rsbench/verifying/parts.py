"""Whether the parts of a record fit each other: ruler, selection, split, counts and predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np

from rsbench.records import store
from rsbench.records.predictions import PredictionTable
from rsbench.records.ruler import differences, make_ruler
from rsbench.records.schema import RunRecord
from rsbench.specs import Metric, Scalar
from rsbench.verifying.found import listed, short, shown

_BEYOND_PARTS = ("content", "cross_validate", "group_by")
"""Fields of rulers that no other part of a record holds, `content` but for its digest."""


def ruler_faults(record: RunRecord) -> Iterator[str]:
    """Build the ruler of the record's parts and compare."""
    said = record.ruler
    built: dict[str, Scalar] = make_ruler(
        task=record.task,
        protocol=record.protocol,
        data=record.data,
        # Names and levels are all that a ruler takes of metrics.
        metrics=cast("Sequence[Metric]", record.metrics),
        averaging=averaging_of(record),
    )
    built |= {field: said[field] for field in _BEYOND_PARTS if field in said}
    if "content" in said:
        built["content"] = record.data.content
    for each in differences(built, said):
        yield (
            f"its ruler says {each.field} = {shown(each.second)}, and its parts say"
            f" {shown(each.first)}"
        )


def averaging_of(record: RunRecord) -> Literal["pooled", "mean"]:
    """Give how folds were brought together, which the ruler alone says."""
    return "mean" if record.ruler.get("averaging") == "mean" else "pooled"


def selection_faults(record: RunRecord) -> Iterator[str]:
    """Refuse a record whose fit tells of selection on the test set while the rest does not."""
    on_test = [
        key
        for key, value in record.protocol.chosen.items()
        if key.rpartition(".")[2] == "selected_on" and value == "test"
    ]
    if bool(on_test) != record.protocol.selected_on_test:
        told = "tells" if on_test else "tells nothing"
        yield (
            f"protocol.chosen {told} of selection on the test set, and protocol.selected_on_test is"
            f" {record.protocol.selected_on_test}"
        )


def count_faults(record: RunRecord, table: PredictionTable) -> Iterator[str]:
    """Compare the counts of a record with the rows of its predictions."""
    data = record.data
    failed = [
        item for item, value in zip(table.ids, table.predictions, strict=True) if value is None
    ]
    folds = dict.fromkeys(table.folds)
    rows = Counter(zip(table.folds, table.ids, strict=True))
    for (fold, item), count in rows.items():
        if count > 1:
            where = f" in fold {fold}" if fold else ""
            yield f"the item {item!r} stands {count} times in its predictions{where}"
            break
    counted = {
        "data.num_expected": (data.num_expected, len(table.ids), "rows of predictions"),
        "data.num_failed": (data.num_failed, len(failed), "rows without a prediction"),
        "data.num_folds": (data.num_folds, len(folds), "folds in the predictions"),
        "data.num_missing": (data.num_missing, len(data.missing), "ids in data.missing"),
    }
    counted |= {
        f"n of {part.name}": (part.n, len(table.ids), "rows of predictions")
        for part in record.metrics
    }
    for what, (said, found, of_what) in counted.items():
        if said != found:
            yield f"{what} is {said}, and there are {found} {of_what}"
    if Counter(failed) != Counter(each["id"] for each in data.failed):
        yield (
            f"data.failed names {listed([each['id'] for each in data.failed])}, and the"
            f" predictions lack {listed(failed)}"
        )
    if data.num_official is not None and data.num_official < data.num_expected:
        yield (
            f"data.num_official is {data.num_official}, fewer than the {data.num_expected} that are"
            " present"
        )


def score_faults(record: RunRecord, table: PredictionTable) -> Iterator[str]:
    """Look for predictions that are no scores of the task's classes."""
    if table.kind != record.task.target:
        yield f"its predictions are of kind {table.kind}, its task is of {record.task.target}"
    if table.kind not in {"class", "multilabel"}:
        return
    for item, value in zip(table.ids, table.predictions, strict=True):
        if value is None:
            continue
        if np.shape(value) != (record.task.num_classes,):
            yield (
                f"the prediction of {item!r} must be {record.task.num_classes} scores, one a class,"
                f" and has the shape {np.shape(value)}"
            )
            return
        if np.isnan(value).any():
            yield f"the prediction of {item!r} holds NaN"
            return


def split_faults(record: RunRecord) -> Iterator[str]:
    """Compare the digest of a split that rsbench made with the one among the files."""
    name = file_of(record, store.SPLIT_SUFFIX)
    among_files = None if name is None else record.files[name]
    said = record.data.split_sha256
    if said != among_files:
        yield (
            f"data.split_sha256 is {short(said)}, and its split file is listed with"
            f" {short(among_files)}"
        )


def file_of(record: RunRecord, suffix: str) -> str | None:
    """Name the file of a kind beside a record, if it lists one."""
    return next((name for name in record.files if name.endswith(f".{suffix}")), None)
