"""Several files of a results folder written as one: all of them, or none, by one process at a time.

Every file is written under a hidden name in its own folder, brought to disk, and renamed; the
record comes last. Who is killed on the way leaves a hidden file that nobody reads and a later
write removes. A lock on the folder keeps two processes from interleaving their files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rsbench.atomic import temporary_path, write_through
from rsbench.errors import DiskError


class ResultsFolderError(DiskError):
    """The results folder can't take a result: read-only, full, or no folder. The user's to mend."""


def replace_all(
    path: Path,
    record: bytes,
    files: Mapping[str, tuple[bytes | memoryview, ...]],
    *,
    orphaned: bool,
) -> None:
    """Bring all files to disk under hidden names, then rename them, the record last.

    Args:
        path: Of the record.
        record: Its text.
        files: Name beside it -> content, in pieces.
        orphaned: Whether the record that lies there now would stand beside files not its own.

    Raises:
        OSError: The disk is full or the folder is read-only; no file was changed by then.
    """
    temporaries: dict[Path, Path] = {}
    try:
        for final, parts in [
            *((path.with_name(name), parts) for name, parts in files.items()),
            (path, (record,)),
        ]:
            temporaries[final] = temporary_path(path.parent)
            write_through(temporaries[final], *parts)
        if orphaned:
            path.unlink()
        for final, temporary in temporaries.items():
            temporary.replace(final)
        _sync_folder(path.parent)
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder; the lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems know no locks; there each file is still replaced whole.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(what: str, folder: Path) -> Iterator[None]:
    """Turn a fault of the file system into one line that says what to do.

    Args:
        what: That could not be saved.
        folder: Where.

    Raises:
        ResultsFolderError: The block raised an OSError.
    """
    try:
        yield
    except OSError as fault:
        full = fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        step = "free some space there" if full else "make it writable"
        reason = fault.strerror or type(fault).__name__
        raise ResultsFolderError(
            f"{what[0].upper()}{what[1:]} could not be saved in {folder} ({reason}); {step}, or "
            "choose another results folder, and run again."
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
