"""Making a prepared root: begun, gone on with, and held to the original at the end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rsbench.atomic import is_temporary, write_atomically
from rsbench.data.files import VIDEO_SUFFIXES, RootGuard
from rsbench.data.prepared import MANIFEST, taken_as_finished
from rsbench.errors import DataError, DiskError, RunError
from rsbench.media.short_side import Encoding
from rsbench.preparation.survey import ENTRIES, PARTIAL, Tree, expect, job_of, load_splits
from rsbench.preparation.videos import Entry, copy_whole, encoder_version, prepare_all
from rsbench.specs import Item, Split

_FORMAT = 1
_LOCK = ".rsbench-lock"

_SPARE_BYTES = 64 * 2**20
"""What must stay free on the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a preparation came to."""

    counts: Mapping[str, int]
    """Videos by what became of them; see `Entry.status`."""
    num_done_before: int
    failed: tuple[Entry, ...]
    """Those that can't be read, copied as they are."""
    kept: tuple[Entry, ...]
    """Those that can be read, and could not be resized exactly."""
    remarked: tuple[Entry, ...]
    """Those of whose original there is something to remark, such as a missing end."""
    num_others: int
    archives: tuple[str, ...]
    source_bytes: int
    bytes: int
    """Of the videos in the prepared root."""
    lowest_psnr: float | None
    splits: tuple[str, ...]
    """Those that the task's loader gave with equal ids from both roots."""
    seconds: float


def prepare(
    tree: Tree,
    target: Path,
    encoding: Encoding,
    *,
    num_workers: int,
    cache_root: Path,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Report:
    """Make or go on with a prepared root, and hold it to the original with the task's own loader.

    Args:
        tree: What there is.
        target: The prepared root: new, empty, or begun before in the same way.
        encoding: How it is written.
        num_workers: Processes; 0 works in this one.
        cache_root: Remembers digests, so that going on hashes nothing twice.
        progress: Called as (stage, videos done, videos in all).

    Raises:
        DataError: The target is not such a folder, or one lies in the other.
        DiskError: There is not enough room, or the disk refuses; what is done stays, go on later.
        RunError: A video can't even be copied, or the loader gives other items than before.
    """
    started = time.perf_counter()
    _check_target(tree, target, encoding)
    with _locked(target):
        known = {entry.path: entry for entry in read_entries(target)}
        _check_room(tree, target, encoding, cache_root)
        _mark(target, tree.task.name, encoding, finished=False, counts={})
        entries, num_before = _videos(
            tree, target, encoding, known, cache_root, num_workers=num_workers, progress=progress
        )
        _check_nothing_else(tree, target)
        _others(tree, target, progress)
        counts = Counter[str](entry.status for entry in entries)
        # Marked after the check: whatever stops it leaves a root that no loader takes for whole.
        with taken_as_finished(target):
            splits = _check_alike(tree, target)
        _mark(target, tree.task.name, encoding, finished=True, counts=counts)
    measured = [entry.psnr for entry in entries if entry.psnr is not None]
    return Report(
        counts=dict(counts),
        num_done_before=num_before,
        failed=tuple(entry for entry in entries if entry.status == "failed"),
        kept=tuple(entry for entry in entries if entry.status == "kept"),
        remarked=tuple(entry for entry in entries if entry.remarks),
        num_others=len(tree.others),
        archives=tree.archives,
        source_bytes=sum(tree.videos.values()),
        bytes=sum(entry.output_bytes for entry in entries),
        lowest_psnr=min(measured, default=None),
        splits=splits,
        seconds=time.perf_counter() - started,
    )


def read_entries(target: Path) -> tuple[Entry, ...]:
    """Give what became of each video so far, the last word on each; broken lines are left out."""
    path = target / ENTRIES
    if not path.is_file():
        return ()
    found: dict[str, Entry] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError):
            facts = json.loads(line)
            entry = Entry(**{**facts, "remarks": tuple(facts.get("remarks", ()))})
            found[entry.path] = entry
    return tuple(found.values())


# ---------------------------------------------------------------------------- checks before


def _check_target(tree: Tree, target: Path, encoding: Encoding) -> None:
    source, wanted = tree.root.resolve(), target.resolve()
    if source.is_relative_to(wanted) or wanted.is_relative_to(source):
        raise DataError(
            f"--to must lie outside of {source} and not around it, was {wanted}; name another"
            " folder"
        )
    if target.exists() and not target.is_dir():
        raise DataError(f"--to must be a folder, new or empty; {target} is a file; name another")
    try:
        is_empty = not target.exists() or all(map(_is_ours, target.iterdir()))
    except OSError as error:
        raise DataError(
            f"--to must be a folder that can be read; {target} is not: {error.strerror or error}"
        ) from error
    if is_empty:
        return
    try:
        begun = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        was, begun_from = begun["encoding"], begun["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--to must be new, empty, or begun by this command; {target} holds other files"
        ) from error
    if was != asdict(encoding) or begun_from != tree.task.name:
        raise DataError(
            f"{target} was begun with {_in_words(was)} for {begun_from}, not with"
            f" {_in_words(asdict(encoding))} for {tree.task.name}; give the same words, or another"
            " folder"
        )


def _is_ours(path: Path) -> bool:
    """Say whether a path is what a preparation leaves that stopped before its first mark."""
    return path.name in (_LOCK, PARTIAL) or is_temporary(path)


def _in_words(encoding: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in encoding.items())


def _check_room(tree: Tree, target: Path, encoding: Encoding, cache_root: Path) -> None:
    """Refuse to begin what the disk can't take: by the originals' size, else by a trial."""
    target.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for name in tree.videos if (path := target / name).is_file())
    free = shutil.disk_usage(target).free - _SPARE_BYTES
    if free + there >= sum(tree.videos.values()) + sum(tree.others.values()):
        return
    expected = expect(tree, encoding, num_workers=1, cache_root=cache_root)
    if free + there < expected.bytes:
        raise DiskError(
            f"{target} must have about {expected.bytes - there} bytes free for the copies (worked"
            f" out from {expected.num_sampled} videos), it has {max(0, free)}; free some space or"
            " name a folder on another disk."
        )


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep the folder to one preparation at a time, and clear away what a killed one left."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        stream = (target / _LOCK).open("a")
    except OSError as error:
        raise DiskError(f"Can't write into {target}: {error.strerror or error}.") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"{target} is being prepared by another process; wait for it, or stop it first."
            ) from error
        shutil.rmtree(target / PARTIAL, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(target / PARTIAL, ignore_errors=True)


# ---------------------------------------------------------------------------- the work


def _videos(
    tree: Tree,
    target: Path,
    encoding: Encoding,
    known: Mapping[str, Entry],
    cache_root: Path,
    *,
    num_workers: int,
    progress: Callable[[str, int, int], None],
) -> tuple[list[Entry], int]:
    """Prepare every video, the largest first, and write down what became of it at once."""
    # The largest first: otherwise one core works on a film while the others have finished.
    names = sorted(tree.videos, key=lambda name: (-tree.videos[name], name))
    jobs = [
        job_of(tree, name, target, encoding, cache_root, known=known.get(name)) for name in names
    ]
    (target / PARTIAL).mkdir(exist_ok=True)
    entries: list[Entry] = []
    num_before = 0
    faults: list[Entry] = []
    with (target / ENTRIES).open("ab", buffering=0) as stream:
        for entry, was_done in prepare_all(jobs, num_workers=num_workers):
            if entry.status == "absent":
                faults.append(entry)
            elif was_done:
                num_before += 1
                entries.append(entry)
            else:
                # The line break before it ends whatever a killed process left.
                stream.write(f"\n{json.dumps(asdict(entry))}\n".encode())
                entries.append(entry)
            progress("prepare videos", len(entries) + len(faults), len(jobs))
    if faults:
        raise RunError(
            f"{len(faults)} videos could not even be copied, the first is {faults[0].path}:"
            f" {faults[0].reason}; mend that and run the same command again, the others are done."
        )
    return sorted(entries, key=lambda entry: entry.path), num_before


def _others(tree: Tree, target: Path, progress: Callable[[str, int, int], None]) -> None:
    """Copy lists, annotations and the like, each whole or not at all."""
    for number, name in enumerate(tree.others, start=1):
        copy_whole(tree.root / name, target / name, target / PARTIAL)
        progress("copy lists", number, len(tree.others))


def _check_nothing_else(tree: Tree, target: Path) -> None:
    """Refuse videos that the original does not have: a loader of folders would count them."""
    guard = RootGuard(target)
    found = (guard.relative(path) for path in guard.walk(target))
    strange = [
        name
        for name in found
        if name not in tree.videos and Path(name).suffix.lower() in VIDEO_SUFFIXES
    ]
    if strange:
        raise RunError(
            f"{target} holds {len(strange)} videos that {tree.root} has not, such as {strange[0]};"
            " delete them and run the same command again."
        )


def _mark(
    target: Path, task: str, encoding: Encoding, *, finished: bool, counts: Mapping[str, int]
) -> None:
    """Write the mark of a prepared root; while it says unfinished, no loader takes it for whole."""
    content = {
        "format": _FORMAT,
        "finished": finished,
        "task": task,
        "short_side": encoding.short_side,
        "encoding": asdict(encoding),
        "encoder": encoder_version(),
        "videos": dict(sorted(counts.items())),
        "entries": ENTRIES,
    }
    write_atomically(target / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def _check_alike(tree: Tree, target: Path) -> tuple[str, ...]:
    """Load every split of both roots with the task's loader, and hold one to the other."""
    data = target if tree.data.is_dir() else target / tree.data.name
    before, after = load_splits(tree.task, tree.data), load_splits(tree.task, data)
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one is None or other is None or _facts(one) != _facts(other):
            raise RunError(
                f"split {name!r} of {tree.task.name} must have the same items in {target} as in"
                f" {tree.data}, and has not; did the original change meanwhile? Run the same"
                " command again."
            )
    return tuple(before)


def _facts(split: Split) -> object:
    return split.classes, split.missing, [_item_facts(item) for item in split.items]


def _item_facts(item: Item) -> object:
    target = item.target if isinstance(item.target, int | str | tuple) else None
    return item.id, target, item.start_seconds, item.end_seconds, item.group
