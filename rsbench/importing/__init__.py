"""Other tools' results, kept as foreign rows: timm's tables of scores, mmaction2's dumps.

What a file says is data: nothing in it is run or imported. Rows say which file they are of, by its
name and the first digits of its sha256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsbench.digests import digest_file
from rsbench.errors import DataError, RsbenchError
from rsbench.importing.mmaction import Ids, MmactionDump, read_mmaction
from rsbench.importing.timm import read_timm
from rsbench.records import foreign
from rsbench.records.foreign import ForeignFile, ForeignRow, ForeignStored
from rsbench.records.predictions import to_parquet
from rsbench.specs import Backbone, Task

__all__ = ["Claims", "Ids", "import_mmaction", "import_timm", "read_mmaction", "read_timm"]

_OFF_POINTS = 0.1
"""How far a metric computed here may be from the reported one: scores are printed to two digits,
and ties are broken in other ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What the user says of a dump, which says nothing of itself; None is not said."""

    model: str
    backbone: str | None = None
    weights: str | None = None
    frames: int | None = None
    stride: int | None = None
    pixels: int | None = None
    clips: int | None = None
    crops: int | None = None
    sampler: str | None = None
    """With its version."""


def import_timm(
    path: Path, root: Path, *, task: str, split: str, backbones: Iterable[Backbone] = ()
) -> ForeignStored:
    """Keep one of timm's tables of scores; see `read_timm`.

    Args:
        path: The CSV file.
        root: The results folder.
        task: What its scores are of, as rsbench names it.
        split: Likewise.
        backbones: Networks of rsbench's whose weights may be timm's.

    Raises:
        DataError: It is no such table, or of another set.
        DiskError: It can't be saved.
    """
    source = _source(path)
    rows = read_timm(path, task=task, split=split, source=source, backbones=backbones)
    return foreign.write(root, ForeignFile(tool="timm", source=source, rows=rows), stem=path.stem)


def import_mmaction(
    dump: Path,
    annotations: Path,
    root: Path,
    *,
    task: Task,
    split: str,
    protocol: str,
    claims: Claims,
    ids: Ids = "name",
    reported: Mapping[str, float] | None = None,
) -> ForeignStored:
    """Keep a dump of mmaction2's: its metrics computed again, and what it says of each video.

    Args:
        dump: The pickle; it is read, never unpickled.
        annotations: The list that `ann_file` named.
        root: The results folder.
        task: Of one class an item.
        split: That the list is of, as rsbench names it.
        protocol: What was done, likewise.
        claims: Network and conditions.
        ids: What names a video in rsbench's task.
        reported: Metric -> percent, as mmaction2 printed it; held to what is computed here.

    Raises:
        RsbenchError: The task has several labels an item or no such metric, or a metric is not the
            reported one.
        DataError: Dump and list are not as they must be, or do not fit.
        DiskError: It can't be saved.
    """
    if task.target != "class":
        raise RsbenchError(
            f"Dumps are read of tasks with one class an item, and {task.name} has {task.target}"
            " targets."
        )
    read = read_mmaction(dump, annotations, metrics=task.metrics, ids=ids)
    _hold_to_reported(dump, read, reported or {})
    source = f"{_source(dump)} with {_source(annotations)}"
    rows = tuple(
        ForeignRow(
            source=source,
            tool="mmaction2",
            model=claims.model,
            backbone=claims.backbone,
            weights=claims.weights,
            task=task.name,
            split=split,
            protocol=protocol,
            metric=metric.name,
            value=score.value,
            n=score.n,
            frames=claims.frames,
            stride=claims.stride,
            pixels=claims.pixels,
            clips=claims.clips,
            crops=claims.crops,
            conditions={} if claims.sampler is None else {"sampler": claims.sampler},
            notes=read.notes,
        )
        for metric, score in read.metrics
    )
    predictions = to_parquet(
        ids=read.ids,
        targets=read.targets,
        predictions=read.scores,
        kind="class",
        item_scores={
            metric.name: score.per_item
            for metric, score in read.metrics
            if score.per_item is not None
        },
    )
    file = ForeignFile(tool="mmaction2", source=source, rows=rows)
    return foreign.write(root, file, stem=dump.stem, predictions=predictions)


def _source(path: Path) -> str:
    """Name a file without the folders of this machine."""
    try:
        return f"{path.name} (sha256 {digest_file(path)[:8]})"
    except OSError as fault:
        raise DataError(
            f"{path.name} can't be read ({fault.strerror}); name an existing file."
        ) from None


def _hold_to_reported(dump: Path, read: MmactionDump, reported: Mapping[str, float]) -> None:
    computed = {metric.name: 100 * score.value for metric, score in read.metrics}
    for name, percent in reported.items():
        if name not in computed:
            raise RsbenchError(
                f"No metric {name!r} is computed of {dump.name}; there are {', '.join(computed)}."
            )
        if abs(computed[name] - percent) > _OFF_POINTS:
            raise RsbenchError(
                f"{name} of {dump.name} must be the reported {percent:g} %, and is"
                f" {computed[name]:.2f} %: the list is another, or the dump is of another run."
            )
