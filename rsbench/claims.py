"""A folder that one process has to itself: another one that wants it waits until it is free.

Two processes that run the same cell would share its checkpoints, and each take away what the other
still needs. The claim ends with the process, however it ends. On a file system without locks there
is none, and nobody waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rsbench.errors import DiskError


@contextlib.contextmanager
def claimed(folder: Path, *, waiting: Callable[[], None]) -> Iterator[bool]:
    """Have a folder alone while the block runs; whoever holds it may remove it.

    Args:
        folder: It is made if need be, and removed at the end if it is empty then.
        waiting: Called before waiting for another process, if there is one.

    Yields:
        Whether another process had it. What that one was about may be done by now; look again,
        even where nobody had it: it may have ended just before.

    Raises:
        DiskError: The folder can't be made or opened.
    """
    waited = False
    while True:
        descriptor = _opened(folder)
        try:
            if not waited and not _is_free(descriptor):
                waited = True
                waiting()
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Who had it may have removed it while this one waited: that folder is nobody's now.
            if _is_at(descriptor, folder):
                try:
                    yield waited
                finally:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                return
        finally:
            _free(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove a folder that was claimed, with all that is in it, if who had it was killed.

    It stays while a process has it, and on a file system where nobody can tell.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, folder):
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        _free(descriptor)


def _free(descriptor: int) -> None:
    """End a claim, and not only this process's part: a process it forked has the descriptor too."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _opened(folder: Path) -> int:
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # It was removed between the two.
        except OSError as fault:
            raise DiskError(
                f"Can't write {folder} ({fault.strerror or fault}); free some space, or name"
                " another cache folder with RSBENCH_CACHE, then run the same command again."
            ) from fault


def _is_free(descriptor: int) -> bool:
    """Take the lock if nobody has it; a file system without locks has every folder free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:
        return False
