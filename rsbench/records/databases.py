"""Small sqlite databases in the cache folder: all that they hold can be made again.

One that is damaged, of other code, or of a newer layout is emptied. Where none can be opened (a
read-only home, another process that holds it) the reader does without it: it only takes longer.

Whoever can write a database can make it say anything, so each user has databases of their own, and
one that belongs to somebody else is not opened. A user's own files are trusted, as their code is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rsbench.digests import digest_file, digest_lines
from rsbench.places import cache_root

FOLDER = "records"
"""Below the cache folder."""

_WAIT_SECONDS = 0.5
"""For another process's writing; after that the reader does without."""
_MOST_BYTES = 2**30
"""Of one database: 10,000 records take 40 MiB, their differences 3. A larger one begins anew."""
_UNUSED_SECONDS = 90 * 86400.0
"""A database that nobody opened for so long goes when another is made: its folder may be gone."""


def database_path(name: str) -> Path:
    """Give the place of a database in the cache folder, which several users may share."""
    return cache_root() / FOLDER / f"{name}-{os.geteuid()}.sqlite"


def as_text(path: str) -> str:
    """Give a path as text that sqlite takes, whatever bytes it is made of."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


@functools.cache
def code_digest(*folders: Path) -> str:
    """Digest the source files of folders: what other code has made is not believed."""
    files = (path for folder in folders for path in sorted(folder.glob("*.py")))
    return digest_lines(f"{path.name} {digest_file(path)}" for path in files)


@contextlib.contextmanager
def opened(path: Path, *, code: str, tables: Iterable[str]) -> Iterator[sqlite3.Connection | None]:
    """Open a database in one transaction, which is kept if the block ends well.

    Args:
        path: Of the file; it and its folder are made if need be.
        code: Digest of the code that writes and reads it; a database of other code is emptied.
        tables: The statements that make the tables.

    Yields:
        The connection, or None where there can be none. A fault of sqlite inside the block belongs
        to the block: see `suppressing_faults`.
    """
    connection = _connected(path, code, tuple(tables))
    if connection is None:
        yield None
        return
    try:
        yield connection
        with contextlib.suppress(sqlite3.Error):
            connection.commit()
    finally:
        connection.close()


@contextlib.contextmanager
def suppressing_faults() -> Iterator[None]:
    """Go on without what the database was asked: it is damaged, full, or held by another."""
    with contextlib.suppress(sqlite3.Error):
        yield


def begin_anew(connection: sqlite3.Connection) -> None:
    """Let a database that is not what its code made be emptied when it is opened next."""
    with suppressing_faults(), connection:
        connection.execute("PRAGMA user_version = 0")


def _connected(path: Path, code: str, tables: tuple[str, ...]) -> sqlite3.Connection | None:
    for _ in range(2):
        try:
            return _prepared(path, code, tables)
        except sqlite3.OperationalError:
            return None  # Another process holds it, or the disk is full or read-only.
        except sqlite3.DatabaseError:
            # It is damaged, or no database.
            with contextlib.suppress(OSError):
                _remove(path)
        except OSError:
            return None
    return None


def _prepared(path: Path, code: str, tables: tuple[str, ...]) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path)
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    try:
        # What a power cut destroys is made again; waiting for the disk would cost more.
        connection.execute("PRAGMA synchronous = OFF")
        (stated,) = connection.execute("PRAGMA user_version").fetchone()
        number = int(code[:7], 16) or 1
        if stated != number:
            _empty(connection, tables, number)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_room(path: Path) -> None:
    """Remove a database that has grown too large, and before one is made, those nobody uses.

    Raises:
        OSError: It is somebody else's, or a link, which may lead to any database.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        for other in path.parent.glob(f"*{path.suffix}"):
            # Another process may have removed it, and another user's is not ours to remove.
            with contextlib.suppress(OSError):
                if time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
                    _remove(other)
        return
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} must be a file of this user.")
    if found.st_size > _MOST_BYTES:
        _remove(path)
    else:
        os.utime(path)


def _remove(path: Path) -> None:
    """Remove a database, its journal first: sqlite would take that for one of the next database."""
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _empty(connection: sqlite3.Connection, tables: tuple[str, ...], number: int) -> None:
    """Begin anew, unless another process just has."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        (stated,) = connection.execute("PRAGMA user_version").fetchone()
        if stated == number:
            return
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            connection.execute(f'DROP TABLE "{name}"')
        for statement in tables:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
