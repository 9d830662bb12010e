"""Files written whole or not at all: a hidden name first, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path

from rsbench.errors import DiskError

_TEMPORARY = ".tmp"
_STALE_SECONDS = 3600.0
"""A hidden file untouched for so long belongs to nobody: a write takes seconds."""


def temporary_path(folder: Path) -> Path:
    """Give a hidden name in a folder that nobody else uses."""
    return folder / f".{uuid.uuid4().hex}{_TEMPORARY}"


def is_temporary(path: Path) -> bool:
    """Say whether a path has such a name."""
    return path.name.startswith(".") and path.suffix == _TEMPORARY


def write_through(path: Path, *parts: bytes | memoryview) -> None:
    """Write a new file and flush it to the disk; an OSError is the caller's to explain."""
    with path.open("xb") as stream:
        for part in parts:
            stream.write(part)
        stream.flush()
        os.fsync(stream.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, its folder made if need be.

    Raises:
        DiskError: The disk is full, or the folder can't be written.
    """
    temporary = temporary_path(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_through(temporary, content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DiskError(
            f"Can't write {path} ({len(content)} bytes): {error.strerror or error};"
            " free some space or name another folder, then run the same command again."
        ) from error


def remove_stale(folder: Path) -> None:
    """Remove the hidden files of writers that were killed long ago."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
