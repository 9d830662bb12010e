"""Scores of items in an order that all runs share, and statistics of them that are not made twice.

A book is open while a table or a comparison is drawn. It reads the predictions beside records,
holds each file to its digest, and remembers in the cache folder

- that a file had the digest its record states, as long as its signature stays the same (see
  `rsbench.records.signatures`);
- what was made of scores, under keys that name the content of all files that went into it.

Nothing of a file that is gone or was changed is remembered for it: the digest comes before the
statistics.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rsbench import stats
from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.records import store
from rsbench.records.databases import (
    as_text,
    code_digest,
    database_path,
    opened,
    suppressing_faults,
)
from rsbench.records.predictions import ItemScores, read_item_scores
from rsbench.records.signatures import signature_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TABLES = (
    "CREATE TABLE files (path TEXT PRIMARY KEY, signature TEXT NOT NULL, sha256 TEXT NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE statistics (key BLOB PRIMARY KEY, text TEXT NOT NULL, checksum BLOB NOT NULL)"
    " WITHOUT ROWID",
)
_AT_A_TIME = 500
"""Keys in one question: sqlite takes some thousand."""


class SortedScores(NamedTuple):
    """The items' parts of one metric of a run, in an order that all runs share."""

    keys: tuple[tuple[str, str], ...]
    """(fold, id), sorted; the same object for all runs of the same items that a book reads."""
    scores: NDArray[np.float64]
    """float64 (N,)."""


class _Order(NamedTuple):
    """How the rows of a file are sorted."""

    keys: tuple[tuple[str, str], ...]
    rows: NDArray[np.intp]
    """(N,): the file's row of each key."""


class _Folder(NamedTuple):
    """What is known of the files of one folder."""

    path: str
    prefix: str
    """Absolute path with a slash at its end, as the database has it."""
    known: dict[str, tuple[str, str]]
    """Name -> signature and sha256 of a file as it was read."""

    def knows(self, name: str, digest: str) -> bool:
        """Say whether a file is still the one that was held to this digest before."""
        found = self.known.get(as_text(name))
        if found is None or found[1] != digest:
            return False
        try:
            status = os.stat(f"{self.path}/{name}")  # noqa: PTH116 - a Path is slow to make
        except OSError:
            return False
        return found[0] == signature_of(status).text


class Scorebook:
    """An open book; see `open_scorebook`. It has state: what it knows already, and what it adds."""

    def __init__(self, connection: sqlite3.Connection | None, *, made_by: str) -> None:
        """Open on a connection; without one nothing is recalled and nothing kept.

        Args:
            connection: To the database.
            made_by: Digest of the code that makes statistics: what other code made is not recalled.
        """
        self._connection = connection
        self._made_by = made_by
        self._folders: dict[str, _Folder] = {}
        self._verified: list[tuple[str, str, str]] = []
        self._orders: dict[bytes, _Order] = {}

    def content(self, stored: store.Stored) -> str:
        """Give the sha256 of a record's predictions, the file held to it.

        Raises:
            RecordError: The record has no predictions, or they are missing or were changed.
        """
        name, stated = store.stated_file(stored, store.PREDICTIONS_SUFFIX)
        folder = self._folder(stored)
        if not folder.knows(name, stated):
            self._read(stored)
        return stated

    def scores(self, stored: store.Stored, metric: str) -> SortedScores | None:
        """Read the items' parts of one metric of a record, held to what the record says of them.

        Returns:
            The scores, or None where this metric has no scores of single items.

        Raises:
            RecordError: The predictions are missing, changed, or damaged, hold an item twice, are
                of another number of items than the metric, or a score is not a number; names the
                file.
        """
        import numpy as np

        content = self._read(stored)
        found = read_item_scores(content, metric, where=f"{stored.name} (predictions)")
        if found is None:
            return None
        order = self._order(found, stored)
        counted = next(part.n for part in stored.record.metrics if part.name == metric)
        if len(order.keys) != counted:
            raise RecordError(
                f"{stored.name}: its predictions must be of {counted} items, were of"
                f" {len(order.keys)}."
            )
        if not np.isfinite(found.scores).all():
            raise RecordError(f"{stored.name}: a score in its predictions is not a number.")
        return SortedScores(order.keys, found.scores[order.rows])

    def recall(self, kind: str, keys: Sequence[str]) -> dict[str, Any]:
        """Give what was remembered under each of some keys; those without are left out.

        Args:
            kind: What the statistics are, with a version: "paired difference@1".
            keys: Names of all that went into them, the digests of the files first.

        Returns:
            Key -> JSON value.
        """
        if self._connection is None or not keys:
            return {}
        by_place = {self._place(kind, key): key for key in keys}
        places = list(by_place)
        found: dict[str, Any] = {}
        with suppressing_faults():
            for start in range(0, len(places), _AT_A_TIME):
                asked = places[start : start + _AT_A_TIME]
                marks = ",".join("?" * len(asked))
                query = f"SELECT key, text, checksum FROM statistics WHERE key IN ({marks})"
                for place, text, checksum in self._connection.execute(query, asked):
                    if checksum == _checksum(place, text):
                        found[by_place[place]] = json.loads(text)
        return found

    def remember(self, kind: str, values: Mapping[str, object]) -> None:
        """Keep statistics for the next time; see `recall`.

        Args:
            kind: What they are.
            values: Key -> JSON value, without NaN.
        """
        if self._connection is None:
            return
        rows = []
        for key, value in values.items():
            place = self._place(kind, key)
            text = json.dumps(value, separators=(",", ":"), allow_nan=False)
            rows.append((place, text, _checksum(place, text)))
        with suppressing_faults():
            self._connection.executemany("INSERT OR REPLACE INTO statistics VALUES (?, ?, ?)", rows)
        self.save()

    def save(self) -> None:
        """Write down what was found so far; others may write in between."""
        if self._connection is None:
            return
        with suppressing_faults():
            self._connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?)", self._verified
            )
            self._connection.commit()
        self._verified.clear()

    def _place(self, kind: str, key: str) -> bytes:
        return sha256(f"{self._made_by}\n{kind}\n{key}".encode(errors="surrogateescape")).digest()

    def _read(self, stored: store.Stored) -> bytes:
        """Read a record's predictions, held to their digest; remember that they are."""
        name, stated = store.stated_file(stored, store.PREDICTIONS_SUFFIX)
        content, signature = store.read_beside(stored, name)
        if signature is not None:
            path = f"{self._folder(stored).prefix}{as_text(name)}"
            self._verified.append((path, signature.text, stated))
        return content

    def _folder(self, stored: store.Stored) -> _Folder:
        """Give what is known of the files beside a record, asked for once a folder."""
        path = os.path.dirname(stored.path)  # noqa: PTH120 - thousands of files, a Path each is slow
        if path not in self._folders:
            prefix = f"{as_text(os.path.abspath(path))}/"  # noqa: PTH100 - likewise
            known: dict[str, tuple[str, str]] = {}
            if self._connection is not None:
                # Of all texts that begin so the last is before the one that ends in the letter
                # after the slash.
                query = "SELECT path, signature, sha256 FROM files WHERE path > ? AND path < ?"
                asked = (prefix, f"{prefix[:-1]}0")
                with suppressing_faults():
                    for name, signature, digest in self._connection.execute(query, asked):
                        known[name[len(prefix) :]] = (signature, digest)
            self._folders[path] = _Folder(path, prefix, known)
        return self._folders[path]

    def _order(self, found: ItemScores, stored: store.Stored) -> _Order:
        """Sort the items of a file; files of the same items in the same order are sorted once."""
        import numpy as np

        digest = sha256("\0".join([*found.folds, *found.ids]).encode()).digest()
        if digest not in self._orders:
            pairs = list(zip(found.folds, found.ids, strict=True))
            rows = sorted(range(len(pairs)), key=pairs.__getitem__)
            keys = tuple(pairs[row] for row in rows)
            if len(set(keys)) != len(keys):
                raise RecordError(f"{stored.name}: an item stands twice in its predictions.")
            same = next((each.keys for each in self._orders.values() if each.keys == keys), keys)
            self._orders[digest] = _Order(same, np.array(rows, dtype=np.intp))
        return self._orders[digest]


@contextlib.contextmanager
def open_scorebook() -> Iterator[Scorebook]:
    """Open the book in the cache folder; where there can be none, one that remembers nothing."""
    code = code_digest(Path(__file__).parent)
    made_by = digest_json([code, code_digest(Path(stats.__file__).parent)])
    with opened(database_path("statistics"), code=code, tables=_TABLES) as connection:
        book = Scorebook(connection, made_by=made_by)
        yield book
        book.save()


def _checksum(place: bytes, text: str) -> bytes:
    return sha256(place + text.encode()).digest()[:8]
