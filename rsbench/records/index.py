"""An index of the records of one results folder: what reading a file gave, while it stays the same.

It lies in the cache folder, one database a results folder, and is believed only as far as it can be
held: a row speaks for a file whose signature is the one it had when it was read whole and held to
its digest (see `rsbench.records.signatures`), and only if the row matches its own checksum and was
written by this very code. Everything else is read from the record itself.

Parts that many records have in common (ruler, task, network, environment) are kept once and become
one object; traces are kept apart, compressed, and unpacked when somebody asks for them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from rsbench.records.databases import (
    as_text,
    begin_anew,
    code_digest,
    database_path,
    opened,
    suppressing_faults,
)
from rsbench.records.deferral import with_deferred
from rsbench.records.plain import Place, from_plain, to_plain
from rsbench.records.schema import (
    SCHEMA_VERSION,
    BackbonePart,
    DataPart,
    MetricPart,
    ProtocolPart,
    RunRecord,
    TaskPart,
    WeightsPart,
)
from rsbench.records.signatures import Signature
from rsbench.specs import Scalar

_TRACES = ("selection", "curve")
"""Fields that are most of a record's text and stand in no table."""
_OWN = ("key", "created", "seed", "metrics", "cost", "files", "digest")
"""Fields that no two records share."""
_PROTOCOL = "protocol"
_CHOSEN = "chosen"
"""Of the protocol: what each record has for itself."""

_TABLES = (
    "CREATE TABLE parts (digest BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE records (
        name TEXT PRIMARY KEY, signature TEXT NOT NULL, parts BLOB NOT NULL, own TEXT NOT NULL,
        traces BLOB NOT NULL, checksum BLOB NOT NULL
    )""",
)


class _Row(NamedTuple):
    """What is kept of one record."""

    signature: str
    """JSON."""
    parts: bytes
    """Digests of the shared parts, one after the other, in the order of their fields."""
    own: str
    """JSON of the fields that no two records share."""
    traces: bytes
    """Compressed JSON."""
    checksum: bytes

    def expected_checksum(self, name: str) -> bytes:
        """Give what the checksum must be of a row of this name."""
        # Whoever altered a row may have put anything where a text was.
        texts = f"{len(name)} {len(self.signature)} {name}{self.signature}{self.own}"
        state = sha256(texts.encode(errors="replace"))
        state.update(self.parts)
        state.update(self.traces)
        return state.digest()


class Index:
    """An open index; its state is what it holds, what was decoded of it, and what is added."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        """Open on a connection; without one nothing is found and nothing kept."""
        self._connection = connection
        self._rows: dict[str, _Row] = {}
        self._parts: dict[bytes, Any] = {}
        self._texts: dict[bytes, str] = {}
        self._added: dict[str, _Row] = {}
        self._added_parts: dict[bytes, str] = {}
        if connection is not None:
            self._load(connection)

    def _load(self, connection: sqlite3.Connection) -> None:
        try:
            texts = dict(connection.execute("SELECT digest, text FROM parts"))
            query = "SELECT name, signature, parts, own, traces, checksum FROM records"
            rows = {row[0]: _Row(*row[1:]) for row in connection.execute(query)}
        except sqlite3.Error:
            begin_anew(connection)
            self._connection = None
            return
        self._texts, self._rows = texts, rows

    def find(self, name: str, signature: Signature) -> RunRecord | None:
        """Give the record of a file as it was read before; None where it must be read again.

        Args:
            name: Of the file below the results folder, with forward slashes.
            signature: What the file system says of it now.
        """
        name = as_text(name)
        row = self._rows.get(name)
        if row is None or row.signature != signature.text:
            return None
        if row.checksum != row.expected_checksum(name):
            return None
        shared = [self._part(field, row.parts[32 * place :][:32]) for place, field in _SHARED]
        if any(part is None for part in shared):
            return None
        return _restored(row, dict(zip(_SHARED_NAMES, shared, strict=True)))

    def add(self, name: str, signature: Signature, record: RunRecord) -> None:
        """Keep a record that was read whole from the file of this signature."""
        if self._connection is None:
            return
        name = as_text(name)
        digests = []
        for _, field in _SHARED:
            text = _shared_text(field, record)
            digest = sha256(text.encode()).digest()
            digests.append(digest)
            if digest not in self._texts:
                self._added_parts[digest] = text
        traces = _compact({field: getattr(record, field) for field in _TRACES})
        row = _Row(
            signature.text,
            b"".join(digests),
            _own_text(record),
            zlib.compress(traces.encode(), 1),
            b"",
        )
        self._added[name] = row._replace(checksum=row.expected_checksum(name))

    def save(self, present: Iterable[str]) -> None:
        """Write what was added, and forget the files that are no longer there.

        Args:
            present: Names of all records of the folder.
        """
        gone = self._rows.keys() - set(map(as_text, present))
        if self._connection is None or not (gone or self._added):
            return
        with suppressing_faults():
            self._connection.executemany(
                "INSERT OR REPLACE INTO parts VALUES (?, ?)", self._added_parts.items()
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)",
                [(name, *row) for name, row in self._added.items()],
            )
            self._connection.executemany(
                "DELETE FROM records WHERE name = ?", [(name,) for name in gone]
            )

    def _part(self, field: str, digest: bytes) -> Any:  # noqa: ANN401 - any part
        """Decode a shared part once; None where it is not there as it was written."""
        if digest not in self._parts:
            text = self._texts.get(digest)
            if text is None or sha256(text.encode()).digest() != digest:
                self._texts.pop(digest, None)  # It is added again with the next record that has it.
                return None
            self._parts[digest] = _decoded_part(field, text)
        return self._parts[digest]


@contextlib.contextmanager
def open_index(root: Path) -> Iterator[Index]:
    """Open the index of a results folder; where there can be none, an empty one that keeps nothing.

    Args:
        root: The results folder; indexes of one folder by several names are apart.
    """
    name = sha256(str(root.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    code = code_digest(Path(__file__).parent)
    with opened(database_path(name), code=code, tables=_TABLES) as connection:
        yield Index(connection)


_SHARED = tuple(
    enumerate(entry.name for entry in fields(RunRecord) if entry.name not in (*_TRACES, *_OWN))
)
"""Place and name of each field that records share."""
_SHARED_NAMES = tuple(name for _, name in _SHARED)
_PARTS: Mapping[str, type] = {
    "task": TaskPart,
    "backbone": BackbonePart,
    "weights": WeightsPart,
    _PROTOCOL: ProtocolPart,
    "data": DataPart,
}
"""Fields that are data classes; the others are mappings of scalars, and the schema's number."""
_PLACE = Place("the index of records", SCHEMA_VERSION)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _shared_text(field: str, record: RunRecord) -> str:
    plain = to_plain(getattr(record, field), field)
    if field == _PROTOCOL:
        plain[_CHOSEN] = {}
    return _compact(plain)


def _own_text(record: RunRecord) -> str:
    own = {field: to_plain(getattr(record, field), field) for field in _OWN}
    return _compact({**own, _CHOSEN: record.protocol.chosen})


def _decoded_part(field: str, text: str) -> Any:  # noqa: ANN401 - any part
    """Decode a shared part; of the protocol, the words that make it with a record's own."""
    plain = json.loads(text)
    kind = _PARTS.get(field)
    part = plain if kind is None else from_plain(kind, plain, _PLACE, field)
    if field != _PROTOCOL:
        return part
    names = (entry.name for entry in fields(ProtocolPart) if entry.name != _CHOSEN)
    return {name: getattr(part, name) for name in names}


def _restored(row: _Row, shared: dict[str, Any]) -> RunRecord:
    own = json.loads(row.own)
    protocol = ProtocolPart(**shared[_PROTOCOL], chosen=own.pop(_CHOSEN))
    # What was kept had been held to its types, and the row to its checksum.
    own["metrics"] = tuple(
        [MetricPart(**{**metric, "folds": tuple(metric["folds"])}) for metric in own["metrics"]]
    )
    values = {**shared, **own, _PROTOCOL: protocol}
    return with_deferred(RunRecord, values, functools.partial(_traces, row.traces))


def _traces(compressed: bytes) -> dict[str, tuple[Mapping[str, Scalar], ...]]:
    plain = json.loads(zlib.decompress(compressed))
    return {field: tuple(plain[field]) for field in _TRACES}
