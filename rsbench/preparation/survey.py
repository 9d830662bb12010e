"""What lies below a data root, and what preparing it will take."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rsbench.data.files import VIDEO_SUFFIXES, RootGuard
from rsbench.data.prepared import MANIFEST, prepared_form
from rsbench.errors import DataError
from rsbench.media.short_side import Encoding
from rsbench.preparation.videos import Entry, Job, prepare_one
from rsbench.specs import Split, Task

ENTRIES = "rsbench-prepared.jsonl"
"""Name of the list of what became of each video, at a prepared root."""

PARTIAL = ".rsbench-partial"
"""Folder of what is being written, in the prepared root; deleted at the end."""

_ARCHIVES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"))
"""Endings of what videos are handed out in; they are not copied, and the report says so."""

_NUM_SAMPLED = 6
"""Videos that are prepared on trial for an estimate of bytes and time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """What lies below a root, relative to it."""

    task: Task
    data: Path
    """As the task's loader is given it: a folder, or a file that lists videos beside it."""
    root: Path
    """The folder whose contents are copied."""
    videos: Mapping[str, int]
    """Bytes by relative path, sorted."""
    others: Mapping[str, int]
    """Lists, annotations and whatever else is copied as it is."""
    archives: tuple[str, ...]
    """What is left out."""
    splits: tuple[str, ...]
    """The task's splits that are there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a preparation will take."""

    num_videos: int
    source_bytes: int
    bytes: int
    """Of the prepared root."""
    seconds: float
    num_sampled: int
    """Videos prepared on trial, from which bytes and seconds are worked out."""


def survey(task: Task, data: Path) -> Tree:
    """List what a preparation of a task's data would copy; decodes nothing.

    Raises:
        DataError: The task is not one on videos, its loader finds no split, the root is itself
            prepared, or a link leaves it.
    """
    if task.modality != "video":
        raise DataError(f"data prepare resizes videos, and {task.name} has {task.modality}s.")
    root = data if data.is_dir() else data.parent
    if prepared_form(root) is not None:
        raise DataError(
            f"{root} is itself made by rsbench data prepare; prepare from the original videos, so"
            " that they are encoded once."
        )
    splits = load_splits(task, data)
    guard = RootGuard(root)
    if data.is_dir():
        paths = guard.walk(root)
    else:
        # A list in somebody's folder says nothing of what else lies there.
        sources = (item.source for split in splits.values() for item in split.items)
        paths = [data, *{path for path in sources if isinstance(path, Path) and path.is_file()}]
    sizes = {guard.relative(path): path.stat().st_size for path in sorted(paths)}
    sizes = {name: size for name, size in sizes.items() if name not in (MANIFEST, ENTRIES)}
    kinds = {name: Path(name).suffix.lower() for name in sizes}
    videos = {name: size for name, size in sizes.items() if kinds[name] in VIDEO_SUFFIXES}
    if not videos:
        raise DataError(
            f"{root} must hold videos ({', '.join(sorted(VIDEO_SUFFIXES)[:4])}, ...), it has none;"
            " folders of frames are not prepared."
        )
    archives = tuple(name for name in sizes if kinds[name] in _ARCHIVES)
    return Tree(
        task=task,
        data=data,
        root=root,
        videos=videos,
        others={
            name: size
            for name, size in sizes.items()
            if name not in videos and kinds[name] not in _ARCHIVES
        },
        archives=archives,
        splits=tuple(splits),
    )


def expect(tree: Tree, encoding: Encoding, *, num_workers: int, cache_root: Path) -> Expected:
    """Work out bytes and time from a few videos that are prepared on trial, and thrown away.

    Args:
        tree: What there is.
        encoding: How it would be written.
        num_workers: How many processes would share the work.
        cache_root: Remembers digests.

    Raises:
        DiskError: The trial can't be written.
    """
    middle = statistics.median(tree.videos.values())
    # A film among clips would take minutes to try, and its share is worked out by bytes anyway.
    names = [name for name, size in tree.videos.items() if size <= 8 * middle]
    step = max(1, len(names) // _NUM_SAMPLED)
    chosen = names[step // 2 :: step][:_NUM_SAMPLED]
    started = time.perf_counter()
    written = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            job = job_of(tree, name, Path(folder), encoding, cache_root, known=None)
            written += prepare_one(job).entry.output_bytes
    seconds = time.perf_counter() - started
    share = sum(tree.videos.values()) / max(1, sum(tree.videos[name] for name in chosen))
    return Expected(
        num_videos=len(tree.videos),
        source_bytes=sum(tree.videos.values()),
        bytes=int(written * share) + sum(tree.others.values()),
        seconds=seconds * share / max(1, num_workers),
        num_sampled=len(chosen),
    )


def load_splits(task: Task, data: Path) -> dict[str, Split]:
    """Load the splits of a root that are there, by name.

    Raises:
        DataError: The fault of the first split, where none is there.
    """
    folds = task.folds(data) if callable(task.folds) else task.folds
    names = [name for fold in folds for name in (fold.test, fold.train, fold.validation) if name]
    splits: dict[str, Split] = {}
    faults = []
    for name in dict.fromkeys(names):
        try:
            splits[name] = task.load(data, name)
        except DataError as error:
            faults.append(error)
    if not splits:
        raise faults[0]
    return splits


def job_of(
    tree: Tree,
    name: str,
    target: Path,
    encoding: Encoding,
    cache_root: Path,
    *,
    known: Entry | None,
) -> Job:
    """Say what is to be done for one video.

    Args:
        tree: Where it comes from.
        name: Its relative path.
        target: The prepared root.
        encoding: How it is written.
        cache_root: Remembers digests.
        known: What became of it before.
    """
    return Job(
        path=name,
        source=tree.root / name,
        target=target / name,
        partial=target / PARTIAL,
        encoding=encoding,
        cache_root=cache_root,
        known=known,
    )
