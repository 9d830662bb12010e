"""The index of the feature cache: which shards were made for whom, how large and how old they are.

Shards are named by content and know nothing of names. Beside them lies one small JSON file for each
extraction: the task, backbone and weights it was made for, its output and input, and the keys of
its shards; the file's time is that of its last use. Losing it costs nothing but the names: shards
that no file speaks of are still found by their keys, and are what `collect_garbage` removes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rsbench.atomic import is_temporary, remove_stale, write_atomically
from rsbench.digests import digest_json
from rsbench.errors import DiskError

SHARDS = "shards"
"""Name of the folder of shards below the cache folder."""

FOLDER = "extractions"
"""Name of the folder of the index below the cache folder."""

_SECONDS_A_DAY = 86400.0
_AT_WORK_SECONDS = 3600.0
"""A shard this young may belong to a run that has not written its index yet, and an extraction
this young to one that has not written a shard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One extraction, as the index has it."""

    made_for: Mapping[str, str]
    """task, backbone, weights; empty where nobody said."""
    output: str
    reading: Mapping[str, Any]
    """What tells readings apart: pixels, frames, views."""
    precision: str
    num_items: int
    """Of the pool."""
    shards: Mapping[str, str] = field(default_factory=dict)
    """Number of a shard in the pool -> its key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One extraction, as it lies on disk."""

    path: Path
    entry: Entry
    num_shards: int
    """How many of its shards are there."""
    num_bytes: int
    """What they take; shards that two extractions share count for both."""
    used: float
    """When it was used last, in seconds since 1970."""

    @property
    def is_whole(self) -> bool:
        """Whether all shards it names are there: it was not stopped, nor held to a limit."""
        return self.num_shards == len(self.entry.shards)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the feature cache holds."""

    kept: tuple[Kept, ...]
    """The last used first."""
    num_bytes: int
    """Of all shards, each once."""
    num_orphans: int
    """Shards that no extraction speaks of: their items, network or rsbench have changed."""
    orphan_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What `collect_garbage` removed, or would."""

    extractions: tuple[Kept, ...]
    num_shards: int
    num_bytes: int
    left_bytes: int
    """Of shards that stay."""


def note(cache_root: Path, entry: Entry, *, name: Sequence[str]) -> None:
    """Write down an extraction, or that it is used again.

    Args:
        cache_root: Folder of the caches.
        entry: Its `shards` are those wanted now; others of the same extraction stay known.
        name: What tells extractions apart, beside whom they were made for.

    Raises:
        DiskError: The cache can't be written.
    """
    path = cache_root / FOLDER / f"{digest_json([dict(entry.made_for), *name])[:32]}.json"
    with _locked(path.parent):
        known = _read(path)
        shards = {**(known.shards if known is not None else {}), **entry.shards}
        if known is not None and shards == known.shards:
            with contextlib.suppress(OSError):
                os.utime(path)
                return
        plain = {**asdict(entry), "shards": shards}
        write_atomically(path, json.dumps(plain, sort_keys=True).encode())


def bytes_in_use(cache_root: Path) -> int:
    """Say what all shards take, in bytes."""
    return sum(facts.st_size for _, facts in _shards(cache_root))


def contents(cache_root: Path) -> Contents:
    """List the feature cache.

    Raises:
        DiskError: A file of it can't be looked at.
    """
    sizes = {path.stem: facts.st_size for path, facts in _shards(cache_root)}
    kept = []
    for path in sorted((cache_root / FOLDER).glob("*.json")):
        entry = _read(path)
        if entry is None:
            continue
        there = [sizes[key] for key in entry.shards.values() if key in sizes]
        # Another process may be clearing up.
        with contextlib.suppress(FileNotFoundError):
            used = path.stat().st_mtime
            kept.append(
                Kept(path=path, entry=entry, num_shards=len(there), num_bytes=sum(there), used=used)
            )
    named = {key for each in kept for key in each.entry.shards.values()}
    orphans = [size for key, size in sizes.items() if key not in named]
    return Contents(
        kept=tuple(sorted(kept, key=lambda each: -each.used)),
        num_bytes=sum(sizes.values()),
        num_orphans=len(orphans),
        orphan_bytes=sum(orphans),
    )


def collect_garbage(
    cache_root: Path,
    *,
    most_bytes: int | None = None,
    unused_days: float | None = None,
    task: str | None = None,
    backbone: str | None = None,
    dry_run: bool = False,
) -> Removed:
    """Remove what nobody needs, and extractions that the user names.

    Shards that no extraction speaks of always go, and so do extractions of which nothing is left,
    unless they are younger than an hour: a run may be at work on them. With no other words given,
    nothing else goes.

    Args:
        cache_root: Folder of the caches.
        most_bytes: Remove the longest unused extractions until at most so much is left.
        unused_days: Remove extractions that were not used for so long.
        task: Of the extractions above, only those of this task; alone, all of them.
        backbone: Likewise.
        dry_run: Say what would go; remove nothing.

    Raises:
        DiskError: A file can't be removed.
    """
    found = contents(cache_root)
    now = time.time()
    chosen = [
        each
        for each in found.kept
        if task in (None, each.entry.made_for.get("task"))
        and backbone in (None, each.entry.made_for.get("backbone"))
    ]
    if unused_days is not None:
        chosen = [each for each in chosen if now - each.used > unused_days * _SECONDS_A_DAY]
    if most_bytes is None and unused_days is None and task is None and backbone is None:
        chosen = []
    sizes = {path: facts.st_size for path, facts in _shards(cache_root)}
    young = {path for path, facts in _shards(cache_root) if now - facts.st_mtime < _AT_WORK_SECONDS}
    going: list[Kept] = [
        each
        for each in found.kept
        if not each.num_shards and now - each.used >= _AT_WORK_SECONDS and each not in chosen
    ]
    shards = _left_over(sizes, found.kept, going, young)
    for each in reversed(chosen):  # The longest unused first.
        left = sum(sizes.values()) - sum(sizes[path] for path in shards)
        if most_bytes is not None and left <= most_bytes:
            break
        going.append(each)
        shards = _left_over(sizes, found.kept, going, young)
    if not dry_run:
        _remove([each.path for each in going], shards)
        for folder in (cache_root / SHARDS).glob("*/"):
            remove_stale(folder)
    num_bytes = sum(sizes[path] for path in shards)
    return Removed(
        extractions=tuple(going),
        num_shards=len(shards),
        num_bytes=num_bytes,
        left_bytes=sum(sizes.values()) - num_bytes,
    )


def _left_over(
    shards: Iterable[Path], kept: Sequence[Kept], going: Sequence[Kept], young: set[Path]
) -> list[Path]:
    """Give the shards of extractions that go and of none that stays, and old ones of none."""
    gone = {each.path for each in going}
    staying = {key for each in kept if each.path not in gone for key in each.entry.shards.values()}
    named = {key for each in kept for key in each.entry.shards.values()}
    return [
        path
        for path in shards
        if path.stem not in staying and (path.stem in named or path not in young)
    ]


def _remove(entries: Sequence[Path], shards: Sequence[Path]) -> None:
    # Shards first: an extraction that is still listed without them is removed the next time.
    for path in (*shards, *entries):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(
                f"Can't remove {path}: {error.strerror or error}; mend the rights of the cache"
                " folder, then run the same command again."
            ) from error


def _shards(cache_root: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in (cache_root / SHARDS).glob("*/*.safetensors"):
        # Another process may be clearing up.
        with contextlib.suppress(FileNotFoundError):
            if not is_temporary(path):
                found.append((path, path.stat()))
    return found


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder; the lock ends with the process.

    Where a file system has no locks, two that write at once lose names of shards and no shard.
    """
    with contextlib.ExitStack() as held:
        # What can't be made or opened is for the writing itself to explain.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> Entry | None:
    """Give an entry; None where it is absent, cut short or of another format."""
    try:
        entry = Entry(**json.loads(path.read_bytes()))
    # Brackets in brackets without end are a RecursionError.
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not all(isinstance(each, dict) for each in (entry.made_for, entry.reading, entry.shards)):
        return None
    words = (
        entry.output,
        entry.precision,
        *entry.made_for.values(),
        *entry.shards.values(),
    )
    is_whole = all(isinstance(each, str) for each in words) and isinstance(entry.num_items, int)
    return entry if is_whole else None
