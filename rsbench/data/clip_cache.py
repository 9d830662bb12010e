"""Decoded views kept on disk by content, for those who read the same clips again and again.

Off unless asked for (``--cache-clips GIB``): raw views take far more room than the video they come
from. An entry is named by the content of the file, the window, and all of the reading that decides
pixels; it holds the sha256 of itself, so one that was cut short or changed is read again from the
video. Results are the same bits with and without.

The folder never grows beyond its bound, whatever number of processes write to it: the bytes in
use stand in a file that is changed under a lock, what is being written counted in full.

Entries of one reading lie in one folder. What does not fit any more is simply not kept: throwing
out entries of the reading that is at work, when each will be asked for once an epoch, would leave
none of them when it comes round again. Folders of other readings make room, the longest untouched
first, once they lay untouched for an hour.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rsbench.atomic import remove_stale, temporary_path
from rsbench.digests import digest_json
from rsbench.errors import DiskError
from rsbench.specs import Item, MediaFacts

FOLDER = "clips"
"""Its name below the cache folder."""

_SUFFIX = ".clip"
_COUNTED = (_SUFFIX, ".tmp")
"""Endings of what takes room: entries, and those that are being written."""

_NUMBER_WIDTH = 20
_AT_WORK_SECONDS = 3600.0
"""A folder touched this recently may belong to a run that is at work."""


class CachedViews(NamedTuple):
    """One item as it was read."""

    views: torch.Tensor
    """uint8 or float32 (V, C, T, H, W), or without T for pictures."""
    facts: MediaFacts


class ClipCache:
    """The entries of one reading; safe to use from any number of processes."""

    def __init__(self, root: Path, reading_key: str, *, limit_bytes: int) -> None:
        """Name the folder of all readings, this reading, and the most bytes that all may take."""
        self._root = root
        self._folder = root / reading_key[:32]
        self._limit_bytes = limit_bytes

    def open(self) -> None:
        """Count what is there and clear away what killed writers left; once, before reading.

        Raises:
            DiskError: The folder can't be made, read or written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            os.utime(self._folder)
            with self._bytes_in_use() as used:
                for folder in self._root.glob("*/*/"):
                    remove_stale(folder)
                used.number = _bytes_below(self._root)
                if not self._make_room(used, 0):
                    self._shrink(used)
        except OSError as error:
            raise DiskError(
                f"Can't write {self._root} ({error.strerror or error}), where decoded clips are to"
                " be kept; mend that, name another cache folder, or leave out --cache-clips."
            ) from error

    def load(self, content: str, item: Item) -> CachedViews | None:
        """Give the views of an item, or None if they are absent, cut short or changed.

        Args:
            content: Digest of what it holds.
            item: Its window, and what a folder of frames is read by besides.
        """
        path = self._path(content, item)
        try:
            stored = bytearray(path.read_bytes())
        except OSError:
            return None
        header, separator, _ = stored.partition(b"\n")
        start = len(header) + len(separator)
        try:
            facts = json.loads(header)
            payload = memoryview(stored)[start:]
            if facts.pop("sha256") != _digest(path.stem, facts, payload):
                return None
            dtype = np.dtype(facts["dtype"])
            values = np.frombuffer(stored, dtype=dtype, offset=start).reshape(facts["shape"])
            remarks = tuple(facts["facts"].pop("remarks"))
            return CachedViews(
                torch.from_numpy(values), MediaFacts(remarks=remarks, **facts["facts"])
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def store(self, content: str, item: Item, entry: CachedViews) -> bool:
        """Keep the views of an item, if there is room; say whether they are kept now."""
        path = self._path(content, item)
        values = np.ascontiguousarray(entry.views.numpy())
        facts: dict[str, object] = {
            "dtype": values.dtype.str,
            "shape": list(values.shape),
            "facts": asdict(entry.facts),
        }
        payload = values.reshape(-1).view(np.uint8).data
        digest = _digest(path.stem, facts, payload)
        header = _padded(json.dumps({**facts, "sha256": digest}).encode())
        num_bytes = len(header) + len(payload)
        try:
            os.utime(self._folder)
            with self._bytes_in_use() as used:
                # What is there is replaced: it could not be read, or another process was faster.
                with contextlib.suppress(FileNotFoundError):
                    used.number -= path.stat().st_size
                    path.unlink()
                if not self._make_room(used, num_bytes):
                    return False
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = temporary_path(path.parent)
                # Of its full size at once: whoever counts meanwhile counts it.
                used.number += num_bytes
                with temporary.open("xb") as stream:
                    stream.truncate(num_bytes)
            return self._write(temporary, path, header, payload)
        except OSError:
            # A full disk costs the next reader time and nobody a result.
            return False

    def _write(self, temporary: Path, path: Path, header: bytes, payload: memoryview) -> bool:
        try:
            # Not flushed to the disk: what a power cut leaves is found out by its digest.
            with temporary.open("r+b") as stream:
                stream.write(header)
                stream.write(payload)
            with self._bytes_in_use():
                temporary.replace(path)
        except OSError:
            with self._bytes_in_use() as used, contextlib.suppress(FileNotFoundError):
                temporary.unlink()
                used.number -= len(header) + len(payload)
            return False
        return True

    def _path(self, content: str, item: Item) -> Path:
        # An item's remarks speak of the file's name and of what a list claims.
        name = digest_json(
            [
                content,
                "" if isinstance(item.source, np.ndarray) else item.source.name,
                item.start_seconds,
                item.end_seconds,
                item.fps,
                item.num_frames_listed,
            ]
        )
        return self._folder / name[:2] / f"{name}{_SUFFIX}"

    def _make_room(self, used: _Bytes, wanted: int) -> bool:
        """Delete readings that nobody works with until so many bytes fit; say whether they do."""
        if wanted > self._limit_bytes:
            return False
        if used.number + wanted <= self._limit_bytes:
            return True
        others = [each for each in self._root.iterdir() if each.is_dir() and each != self._folder]
        for folder in sorted(others, key=lambda each: each.stat().st_mtime):
            if time.time() - folder.stat().st_mtime < _AT_WORK_SECONDS:
                break
            used.number -= _bytes_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
            used.number += _bytes_below(folder)
            if used.number + wanted <= self._limit_bytes:
                return True
        return False

    def _shrink(self, used: _Bytes) -> None:
        """Delete entries of this reading until what is left fits a bound that was lowered."""
        for path in sorted(self._folder.rglob(f"*{_SUFFIX}")):
            if used.number <= self._limit_bytes:
                return
            used.number -= path.stat().st_size
            path.unlink()

    @contextlib.contextmanager
    def _bytes_in_use(self) -> Iterator[_Bytes]:
        """Give the number of bytes in use, to be changed while nobody else can."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "bytes").open("a+b", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            text = os.pread(stream.fileno(), _NUMBER_WIDTH + 1, 0).strip()
            used = _Bytes(int(text) if text.isdigit() else _bytes_below(self._root))
            try:
                yield used
            finally:
                self._note(used.number)

    def _note(self, number: int) -> None:
        # One write of one width: a killed process leaves the number before or the one after.
        handle = os.open(self._root / "bytes", os.O_WRONLY)
        try:
            os.pwrite(handle, b"%0*d" % (_NUMBER_WIDTH, max(0, number)), 0)
        finally:
            os.close(handle)


class _Bytes:
    """A number that whoever holds the lock may change."""

    def __init__(self, number: int) -> None:
        self.number = number


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in _COUNTED)


def _padded(header: bytes) -> bytes:
    """Fill a header up, so that the numbers behind its line break begin at a multiple of 64."""
    return header + b" " * (-(len(header) + 1) % 64) + b"\n"


def _digest(name: str, facts: dict[str, object], payload: memoryview) -> str:
    state = hashlib.sha256(f"{name}\n{digest_json(facts)}\n".encode())
    state.update(payload)
    return state.hexdigest()
