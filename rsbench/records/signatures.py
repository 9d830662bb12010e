"""Whether a file is still the one that was read: what the file system says of it.

A digest of the content needs all of it; size, times, number and device come with one call. Writing
to a file, replacing it, and setting its times back all move the time of its last change (ctime),
which no user can set. Two changes within one tick of the clock may leave the same time, so a file
is known again only if it had lain untouched for a while when it was read.

Who sets the clock back and edits the file, or edits the disk below the file system, is not found
this way: as with the digest in a record, it is slips of the hand that are found, not forgers. On a
network file system, what another machine changed shows when its attributes are fetched anew, as a
rule within a minute.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_SETTLED_NS = 3_000_000_000
"""Longer than a tick of any file system's clock: FAT has two seconds, others milliseconds."""


class Signature(NamedTuple):
    """What the file system says of a file's content; equal ones are of the same content."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    device: int

    @property
    def text(self) -> str:
        """All of it in one line, as databases keep it."""
        return " ".join(map(str, self))


def signature_of(status: os.stat_result) -> Signature:
    """Give the signature of a file from what `os.stat` or `os.fstat` said."""
    return Signature(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )


def is_settled(signature: Signature) -> bool:
    """Say whether a file has lain untouched so long that a later change shows in its signature."""
    return time.time_ns() - max(signature.modified_ns, signature.changed_ns) > _SETTLED_NS


def read_signed(path: Path | str) -> tuple[bytes, Signature | None]:
    """Read a file, with its signature if that will tell this content from any later one.

    Returns:
        The bytes, and None where the file was changed a moment ago or while it was read.

    Raises:
        OSError: It can't be read.
    """
    with open(path, "rb") as stream:  # noqa: PTH123 - thousands of files; a Path for each is slow
        before = signature_of(os.fstat(stream.fileno()))
        settled = is_settled(before)
        content = stream.read()
        after = signature_of(os.fstat(stream.fileno()))
    return content, before if settled and before == after and len(content) == before.size else None
