"""The task of `csv`, whose file gives way to the standard library's module of that name."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from rsbench.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, RootGuard
from rsbench.data.lists import Row, read_table
from rsbench.data.prepared import video_form
from rsbench.data.sample import write_motion_segments
from rsbench.errors import DataError
from rsbench.specs import ClipSpec, Sample, Task

from ._own import SPLIT_OF_WORD, Kind, OwnData, OwnItem, kind_of, own_task

COLUMNS = ("path", "label", "start", "end", "split", "group")
"""Columns with a meaning, the first two required; others are left out and noted."""


def task_for(root: Path | None) -> Task:
    """Give the task as it is for the data of a file: of images, or of videos.

    Raises:
        DataError: Whatever is wrong with the file.
    """
    return TASK if root is None else _task(read_csv(root).kind)


def read_csv(root: Path) -> OwnData:
    """List the items of a CSV file; decodes nothing.

    Args:
        root: The file, or a folder that holds exactly one .csv.

    Raises:
        DataError: No such file, a header without path and label, an unknown split, an empty field,
            a bad time, an item listed twice, images mixed with videos, or a path that leaves the
            file's folder; names the line.
    """
    path = _file_of(root)
    rows = read_table(path, required=COLUMNS[:2])
    if not rows:
        raise DataError(f"{path} must list at least one item below its header, it has none")
    guard = RootGuard(path.parent)
    items: dict[str, OwnItem] = {}
    where_of: dict[str, str] = {}
    for row in rows:
        item = _item_of(row, guard)
        if item.id in items:
            raise DataError(
                f"{row.where}: {item.id!r} must be listed once and was in {where_of[item.id]} "
                "already; drop one of the two lines"
            )
        items[item.id] = item
        where_of[item.id] = row.where
    names = [row.values["path"] for row in rows]
    kind = kind_of(names, of=path.name)
    if kind == "image" and any(item.start_seconds is not None for item in items.values()):
        raise DataError(
            f"{path.name}: start and end are for videos, and it lists images; drop them"
        )
    unknown = [column for column in rows[0].values if column not in COLUMNS]
    notes = [f"columns {', '.join(unknown)} of {path.name} have no meaning here"] if unknown else []
    return OwnData(
        name=path.name,
        kind=kind,
        items=tuple(items[item_id] for item_id in sorted(items)),
        media=video_form(path.parent),
        notes=tuple(notes),
    )


def _file_of(root: Path) -> Path:
    if root.is_file():
        return root
    found = sorted(path for path in root.glob("*.csv")) if root.is_dir() else []
    if len(found) != 1:
        held = f"it holds {len(found)}" if root.is_dir() else "nothing is there"
        raise DataError(
            f"csv data must be a .csv file or a folder with exactly one, {root}: {held}; name the "
            "file itself"
        )
    return found[0]


def _item_of(row: Row, guard: RootGuard) -> OwnItem:
    for column in ("path", "label", "split", "group"):
        if row.values.get(column) == "":
            raise DataError(
                f"{row.where}: {column} must not be empty; fill it in, or drop the line or column"
            )
    entry = row.values["path"]
    if Path(entry).suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        raise DataError(
            f"{row.where}: path must name an image (.jpg, .png, ...) or a video (.mp4, ...), got "
            f"{entry!r}; correct it or drop the line"
        )
    source = guard.locate(entry, bases=(guard.root,), where=row.where)
    if source is not None:
        relative = guard.relative(source)
    elif Path(entry).is_absolute():
        relative = guard.relative(Path(entry))
    else:
        relative = Path(entry).as_posix()
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if start is not None and end is not None and end <= start:
        raise DataError(f"{row.where}: end must be after start, got {start:g} to {end:g}")
    fragment = ""
    if start is not None or end is not None:
        # W3C media fragments: #t=10,20; without an end, #t=10.
        fragment = f"#t={start or 0.0:.10g}" + ("" if end is None else f",{end:.10g}")
    return OwnItem(
        id=relative + fragment,
        source=source,
        label=row.values["label"],
        split=_split_of(row),
        # Segments of one video look alike: without a better word they stay on one side.
        group=row.values.get("group") or (relative if fragment else None),
        start_seconds=start,
        end_seconds=end,
    )


def _seconds(row: Row, column: str) -> float | None:
    text = row.values.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{row.where}: {column} must be seconds from 0 on, got {text!r}")
    return value


def _split_of(row: Row) -> str | None:
    word = row.values.get("split")
    if word is None:
        return None
    if word.lower() not in SPLIT_OF_WORD:
        raise DataError(
            f"{row.where}: split must be train, val or test, got {word!r}; correct it, or drop the "
            "column for five-fold cross-validation"
        )
    return SPLIT_OF_WORD[word.lower()]


def _task(kind: Kind) -> Task:
    return own_task(
        "csv",
        read=read_csv,
        kind=kind,
        sample=Sample(
            write=functools.partial(write_motion_segments, layout="csv file"),
            clip=ClipSpec(frames=16, stride=1),
            pixels=64,
            flip=False,
        ),
        layouts=("csv file",),
        title="Own images or videos listed in a CSV",
        how_to_get=(
            "FILE has the header path,label and may have start,end, split and group; paths are "
            "relative to it."
        ),
    )


TASK = _task("video")
