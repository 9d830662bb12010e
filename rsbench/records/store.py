"""The results folder: records and the files beside them, each written whole or not at all.

Layout, below the results folder::

    runs/<task>/<protocol>/<backbone>-<weights>-s<seed>-<first 8 of key>.json
                                                                       .predictions.parquet
                                                                       .head.safetensors
                                                                       .split.csv
                                                                       .views.safetensors

The last of these, the scores of single views, may be large and stays out of version control, so
that a record is whole without it; where it lies there it must be the one that was written.

How they are written: `rsbench.records.writing`; how thousands of them are read in a second:
`rsbench.records.index`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rsbench.atomic import remove_stale, temporary_path, write_through
from rsbench.digests import digest_bytes, digest_file, digest_parts
from rsbench.errors import RecordError
from rsbench.garbage import collection_held
from rsbench.records.index import Index, open_index
from rsbench.records.predictions import (
    ItemScores,
    PredictionTable,
    from_parquet,
    read_item_scores,
)
from rsbench.records.schema import RunRecord, from_json, to_json
from rsbench.records.signatures import Signature, read_signed, signature_of
from rsbench.records.writing import explained, locked, replace_all

PREDICTIONS_SUFFIX = "predictions.parquet"
"""Suffix of the per-item predictions."""
HEAD_SUFFIX = "head.safetensors"
"""Suffix of the fitted head."""
SPLIT_SUFFIX = "split.csv"
"""Suffix of a split that rsbench made itself."""
VIEWS_SUFFIX = "views.safetensors"
"""Suffix of the scores of single views."""

Content = bytes | tuple[bytes | memoryview, ...]
"""A file's bytes, in one piece or in several."""

_RUNS = "runs"
_KEY_LENGTHS = (8, 16, 64)
"""How much of the key names a file: more where the shorter name belongs to another record."""


class Stored(NamedTuple):
    """A record and where it lies."""

    path: Path
    """Of the JSON file."""
    record: RunRecord

    @property
    def name(self) -> str:
        """The path below the results folder, with forward slashes."""
        return _name_below_root(self.path)


class Contents(NamedTuple):
    """What a results folder holds."""

    records: tuple[Stored, ...]
    """In the order of their names."""
    problems: tuple[str, ...]
    """One line for each file that could not be read; it is left alone."""


def check_writable(root: Path) -> None:
    """Make sure that a record can be saved, before a long run rather than after it.

    Makes the folder if it is missing, writes a small file, and removes it again.

    Raises:
        ResultsFolderError: It can't; names the folder and the cause.
    """
    with explained("a result", root):
        folder = root / _RUNS
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_path(folder)
        try:
            write_through(probe, b"rsbench" * 1024)
        finally:
            probe.unlink(missing_ok=True)


def write(root: Path, record: RunRecord, files: Mapping[str, Content]) -> Path:
    """Save a record and the files beside it: all of it, or nothing.

    A record of the same key is replaced. A file that is no such record (broken, or of a newer
    schema) is left alone, and a longer name is taken.

    Args:
        root: The results folder.
        record: Its `files` and `digest` are filled in here.
        files: Suffix -> content: `PREDICTIONS_SUFFIX`, `HEAD_SUFFIX`, `SPLIT_SUFFIX`,
            `VIEWS_SUFFIX`.

    Returns:
        Path of the record; `read` gives it as it was written.

    Raises:
        ResultsFolderError: The disk is full or the folder is read-only; nothing was changed.
        RecordError: The record holds what can't be written, NaN for instance.
    """
    for suffix in files:
        assert re.fullmatch(r"[a-z0-9_.]+", suffix) and suffix != "json"
    folder = root / _RUNS / _slug(record.task.name) / _slug(record.protocol.name)
    with explained(f"The record of {record.backbone.name} on {record.task.name}", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            path, former = _free_path(folder, record)
            _put(path, record, files, former)
    return path


def _put(
    path: Path, record: RunRecord, files: Mapping[str, Content], former: RunRecord | None
) -> None:
    """Write a record and its files in a folder that is locked, in place of a former one if any."""
    remove_stale(path.parent)
    contents = {
        f"{path.stem}.{suffix}": (content,) if isinstance(content, bytes) else content
        for suffix, content in files.items()
    }
    digests = {name: digest_parts(parts) for name, parts in contents.items()}
    orphaned = former is not None and dict(former.files) != digests
    replace_all(path, to_json(replace(record, files=digests)).encode(), contents, orphaned=orphaned)


def adopt(root: Path, stored: Stored) -> Path:
    """Copy a record of another results folder with the files beside it: all of it, or nothing.

    The copy is the same to the last byte, unless its name is taken by another record: then it has a
    longer one, and names its files by it. The scores of single views may be missing, as ever.

    Args:
        root: The results folder that takes it; holds no record of the same key.
        stored: Where it lies.

    Returns:
        Path of the copy.

    Raises:
        ResultsFolderError: The disk is full or the folder is read-only; nothing was changed.
        RecordError: The record or a file beside it is missing or was changed, or another process
            has just written a record of this key.
    """
    text, _ = _read_content(stored.path, stored.name)
    record = from_json(_decoded(text, stored.name), where=stored.name)
    contents = dict(_contents_beside(Stored(stored.path, record)))
    folder = root / _RUNS / _slug(record.task.name) / _slug(record.protocol.name)
    path = folder / stored.path.name
    with explained(f"The record {stored.name}", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            free, former = _free_path(folder, record)
            if former is not None:
                raise RecordError(
                    f"{stored.name} is of a run that another process has just written into"
                    f" {root}; merge again."
                )
            if path.exists():
                # A suffix of a record's files follows the record's own stem and a dot.
                start = len(stored.path.stem) + 1
                _put(free, record, {name[start:]: each for name, each in contents.items()}, None)
                return free
            remove_stale(folder)
            parts = {name: (content,) for name, content in contents.items()}
            replace_all(path, text, parts, orphaned=False)
    return path


def check_whole(stored: Stored) -> None:
    """Hold all files beside a record to their digests; the scores of single views may be absent.

    Raises:
        RecordError: A file is missing or was changed; names it.
    """
    for name in stored.record.files:
        _check_beside(stored, name)


def missing_beside(stored: Stored) -> list[str]:
    """Name the files of a record that are not there, those that may be absent among them.

    Raises:
        RecordError: The record names a file that lies elsewhere.
    """
    return [name for name in stored.record.files if not _beside(stored, name).exists()]


def _contents_beside(stored: Stored) -> Iterator[tuple[str, bytes]]:
    """Give the files of a record by name, each held to its digest."""
    for name in stored.record.files:
        if not name.startswith(f"{stored.path.stem}."):
            raise RecordError(
                f"{stored.name} must have files named like itself beside it, but names {name!r};"
                " give it back its former name."
            )
        if name.endswith(f".{VIEWS_SUFFIX}") and not _beside(stored, name).exists():
            continue
        yield name, read_beside(stored, name)[0]


def write_page(path: Path, text: str) -> None:
    """Save a page drawn from the records, whole or not at all, in an existing folder.

    Raises:
        ResultsFolderError: The disk is full or the folder is read-only; nothing was changed.
    """
    with explained(path.name, path.parent):
        temporary = temporary_path(path.parent)
        try:
            write_through(temporary, text.encode())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def find(root: Path, key: str, *, all_views: bool = False) -> Stored | None:
    """Find the finished run of a key, its files present and undamaged.

    Args:
        root: The results folder.
        key: Of the run.
        all_views: Leave out a run that was told to keep no more than the means over its views.

    Returns:
        The first by name, or None. A run whose files are gone or damaged is not finished; the
        scores of single views may be gone.
    """
    pattern = f"*-{key[: _KEY_LENGTHS[0]]}*.json"
    for path in sorted((root / _RUNS).glob(f"*/*/{pattern}")):
        with contextlib.suppress(RecordError):
            stored = Stored(path, read(path))
            if all_views and stored.record.views.get("kept") == "means":
                continue
            if stored.record.key == key and not path.name.startswith("."):
                check_whole(stored)
                return stored
    return None


def read_all(root: Path) -> Contents:
    """Read every record below a results folder; what can't be read is named and left alone.

    A file that stayed the same since it was read last is not parsed again, but taken from an index
    in the cache folder; any change of it is seen. A folder that does not exist holds nothing.
    """
    records: list[Stored] = []
    problems: list[str] = []
    with collection_held(), open_index(root) as index:
        names = _record_names(root)
        for name in names:
            try:
                records.append(Stored(root / name, _read_indexed(root, name, index)))
            except RecordError as fault:
                problems.append(str(fault))
        index.save(names)
    return Contents(tuple(records), tuple(problems))


def _record_names(root: Path) -> list[str]:
    """Give the records below a results folder, with forward slashes, in their order."""
    # Of thousands of files, a Path each would take longer than all else.
    found = []
    start = len(str(root)) + 1
    for folder, inner, names in os.walk(root / _RUNS):
        found += [
            f"{folder[start:]}/{name}"
            for name in (*names, *inner)
            if name.endswith(".json") and not name.startswith(".")
        ]
    return sorted(found)


def _read_indexed(root: Path, name: str, index: Index) -> RunRecord:
    """Read a record, or take it from the index where the file is still the one it speaks of."""
    path = os.path.join(root, name)  # noqa: PTH118 - a Path is slow to make
    try:
        record = index.find(name, signature_of(os.stat(path)))  # noqa: PTH116 - likewise
    except OSError:
        record = None  # What is wrong with it is said below.
    if record is None:
        content, signature = _read_content(path, name)
        record = from_json(_decoded(content, name), where=name)
        if signature is not None:
            index.add(name, signature, record)
    return record


def read(path: Path) -> RunRecord:
    """Read one record by its path.

    Raises:
        RecordError: It is missing, broken, edited by hand, or of a newer schema; names the file.
    """
    return _read(path, _name_below_root(path))


def read_predictions(path: Path) -> PredictionTable:
    """Read the per-item predictions of the record at a path, held to their digest.

    Raises:
        RecordError: Record or predictions are missing, changed, or damaged; names the file.
    """
    stored = Stored(path, read(path))
    content = read_file(stored, PREDICTIONS_SUFFIX)
    return from_parquet(content, where=f"{stored.name} (predictions)")


def read_scores(stored: Stored, metric: str) -> ItemScores | None:
    """Read the items' parts of one metric of a record.

    Returns:
        The scores, or None where this metric has no per-item scores.

    Raises:
        RecordError: The predictions are missing, changed, or damaged; names the file.
    """
    content = read_file(stored, PREDICTIONS_SUFFIX)
    return read_item_scores(content, metric, where=f"{stored.name} (predictions)")


def read_file(stored: Stored, suffix: str) -> bytes:
    """Read a file beside a record and hold it to its digest.

    Args:
        stored: The record.
        suffix: `PREDICTIONS_SUFFIX`, `HEAD_SUFFIX` or `SPLIT_SUFFIX`.

    Raises:
        RecordError: The record has no such file, or it is missing or was changed.
    """
    content, _ = read_beside(stored, _name_of(stored, suffix))
    return content


def stated_file(stored: Stored, suffix: str) -> tuple[str, str]:
    """Give the name of a file beside a record, and the sha256 that the record states of it.

    Raises:
        RecordError: The record has no such file.
    """
    name = _name_of(stored, suffix)
    _require_beside(stored, name)
    return name, stored.record.files[name]


def read_beside(stored: Stored, name: str) -> tuple[bytes, Signature | None]:
    """Read a file that a record states, held to its digest.

    Returns:
        The bytes, and the file's signature; see `rsbench.records.signatures.read_signed`.

    Raises:
        RecordError: The file lies elsewhere, is missing, or was changed.
    """
    try:
        content, signature = read_signed(_beside(stored, name))
    except OSError as fault:
        raise _unreadable(stored, name, fault) from None
    if digest_bytes(content) != stored.record.files[name]:
        raise _changed(stored, name)
    return content, signature


def views_file(stored: Stored) -> Path:
    """Give the place of the scores of a record's single views, held to their digest.

    Raises:
        RecordError: The record has none, or the file is not here, or was changed.
    """
    name = _name_of(stored, VIEWS_SUFFIX)
    _check_beside(stored, name)
    path = stored.path.with_name(name)
    if not path.is_file():
        raise RecordError(
            f"{stored.name}: its file {name} is not here: the scores of single views stay where"
            " they were made, outside version control; copy it beside the record, or run the same"
            " command with --again."
        )
    return path


def _read(path: Path, where: str) -> RunRecord:
    content, _ = _read_content(path, where)
    return from_json(_decoded(content, where), where=where)


def _read_content(path: Path | str, where: str) -> tuple[bytes, Signature | None]:
    try:
        return read_signed(path)
    except IsADirectoryError:
        raise RecordError(
            f"{where} must be a record, but is a folder; name a .json below it."
        ) from None
    except OSError as fault:
        raise RecordError(
            f"{where} must be a record, but can't be read ({fault.strerror}); name an existing one."
        ) from None


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise RecordError(
            f"{where} must be JSON in UTF-8, but is not text; delete it and run it again."
        ) from None


def _name_below_root(path: Path) -> str:
    """Give ``runs/<task>/<protocol>/<file>`` where a record lies so, else the file's name."""
    parts = path.parts[-4:]
    return "/".join(parts) if parts[0] == _RUNS else path.name


def _slug(name: str) -> str:
    """Give a name as one portable part of a file name; different names stay different."""
    slug = re.sub(r"[^A-Za-z0-9_.@+-]", "_", name).lstrip(".-")[:60]
    if slug == name and slug:
        return slug
    return f"{slug or 'unnamed'}~{digest_bytes(name.encode())[:8]}"


def _free_path(folder: Path, record: RunRecord) -> tuple[Path, RunRecord | None]:
    """Choose the record's path, and give the record of the same key that lies there already."""
    named = f"{_slug(record.backbone.name)}-{_slug(record.weights.name)}-s{record.seed}"
    for length in _KEY_LENGTHS:
        path = folder / f"{named}-{_slug(record.key[:length])}.json"
        if not path.exists():
            return path, None
        try:
            former = read(path)
        except RecordError:
            continue
        if former.key == record.key:
            return path, former
    raise RecordError(
        f"{path} must be free for this run, but holds something that is no record; move it away."
    )


def _name_of(stored: Stored, suffix: str) -> str:
    names = [name for name in stored.record.files if name.endswith(f".{suffix}")]
    if not names:
        raise RecordError(f"{stored.name} must have a file {suffix} beside it, but lists none.")
    return names[0]


def _check_beside(stored: Stored, name: str) -> None:
    """Hold a file to its digest without keeping it; the scores of single views may be absent."""
    path = _beside(stored, name)
    if name.endswith(f".{VIEWS_SUFFIX}") and not path.exists():
        return
    try:
        digest = digest_file(path)
    except OSError as fault:
        raise _unreadable(stored, name, fault) from None
    if digest != stored.record.files[name]:
        raise _changed(stored, name)


def _beside(stored: Stored, name: str) -> Path:
    _require_beside(stored, name)
    return stored.path.with_name(name)


def _require_beside(stored: Stored, name: str) -> None:
    if "/" in name or name in ("", ".", ".."):
        raise RecordError(f"{stored.name} names the file {name!r}, which must lie beside it.")


def _unreadable(stored: Stored, name: str, fault: OSError) -> RecordError:
    return RecordError(
        f"{stored.name}: its file {name} can't be read ({fault.strerror}); run it again."
    )


def _changed(stored: Stored, name: str) -> RecordError:
    return RecordError(
        f"{stored.name}: its file {name} was changed (another sha256); run it again."
    )
