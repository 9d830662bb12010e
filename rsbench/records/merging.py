"""Results folders of several machines made into one: nothing is overwritten, and nothing is lost.

A run has a key that names all that decides its result. A record whose key is not there yet is
copied with its files; of one that is there already, to the last word, only files that are missing
beside it are. Two records of one key that say different things are

- *twins* where their metrics and their predictions are the same: the run was made twice, at other
  times or on other machines, and came out alike. The one that is there stays.
- a *conflict* otherwise: what should have come out alike did not. The one that is there stays, the
  other stays where it is, and somebody has to look.

Rows that others measured (`foreign/`) and measured costs (`profile/`) are files named by what they
hold, and merge by their bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rsbench.atomic import write_atomically
from rsbench.errors import RecordError, RsbenchError
from rsbench.records import store
from rsbench.records.plain import to_plain
from rsbench.records.ruler import ABSENT, Difference
from rsbench.records.schema import RunRecord
from rsbench.records.store import PREDICTIONS_SUFFIX, Contents, Stored

FILE_FOLDERS = ("foreign", "profile")
"""Folders beside the records whose files merge by their bytes."""
RECORD_FOLDER = "runs"

_INCIDENTAL = frozenset({"digest", "files"})
"""Fields that follow from others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """Two things of one name that differ."""

    source: Path
    """The file that was to be merged, and stays where it is."""
    target: Path
    """The file that is there, and stays as it is."""
    fields: tuple[Difference, ...]
    """In which two records differ, as (field, in the target, in the source), metrics first; empty
    of other files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What merging one folder came to, or would."""

    source: Path
    copied: tuple[str, ...]
    """Names of the records and files below the source that went into the target."""
    present: tuple[str, ...]
    """Those that were there already."""
    twins: tuple[str, ...]
    """Records of runs that are there with the same metrics and predictions, made another time."""
    conflicts: tuple[Conflict, ...]
    problems: tuple[str, ...]
    """One line for each file that can't be merged, since it is broken, and why."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the source is in the target now."""
        return not self.conflicts and not self.problems


def merge(sources: Sequence[Path], target: Path, *, dry_run: bool = False) -> tuple[Merged, ...]:
    """Merge results folders into one, in the order they are given.

    Args:
        sources: Results folders; they are only read.
        target: The results folder that takes them; it is made if need be.
        dry_run: Say what would come of it; copy nothing.

    Returns:
        One a source. Where two sources conflict the first one's record goes in.

    Raises:
        RsbenchError: A source is no results folder, or is the target.
        DiskError: The disk is full, or the target can't be written; what was copied is whole.
    """
    for source in sources:
        _check_source(source, target)
    there = {stored.record.key: stored for stored in store.read_all(target).records}
    files: dict[str, Path] = {}
    found = []
    for source in sources:
        contents = store.read_all(source)
        of_records = _merge_records(contents, source, target, there, dry_run=dry_run)
        of_files = _merge_files(source, target, files, dry_run=dry_run)
        found.append(_joined(of_records, of_files))
    return tuple(found)


def differing_fields(first: RunRecord, second: RunRecord) -> tuple[Difference, ...]:
    """List the fields in which two records differ, metrics first, then in the record's order.

    Fields inside a list are not told apart: "selection" differs, or not.
    """
    flat_first, flat_second = dict(_flat(first)), dict(_flat(second))
    names = dict.fromkeys([*flat_first, *flat_second])
    found = [
        Difference(name, flat_first.get(name, ABSENT), flat_second.get(name, ABSENT))
        for name in names
        if flat_first.get(name, ABSENT) != flat_second.get(name, ABSENT)
    ]
    return tuple(sorted(found, key=lambda each: not each.field.startswith("metrics.")))


def _check_source(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise RsbenchError(f"No results folder {source} to merge; name an existing one.")
    if source.resolve() == target.resolve():
        raise RsbenchError(f"{source} can't be merged into itself; name another --into.")
    if not any((source / folder).is_dir() for folder in (RECORD_FOLDER, *FILE_FOLDERS)):
        raise RsbenchError(
            f"{source} must be a results folder with {RECORD_FOLDER}/,"
            f" {' or '.join(f'{folder}/' for folder in FILE_FOLDERS)} in it, and has none of them;"
            " name the folder that --results named."
        )


def _merge_records(
    contents: Contents,
    source: Path,
    target: Path,
    there: dict[str, Stored],
    *,
    dry_run: bool,
) -> Merged:
    """Merge the records of one folder; `there` grows by what is copied."""
    copied, present, twins, conflicts = [], [], [], []
    problems = list(contents.problems)
    for stored in contents.records:
        former = there.get(stored.record.key)
        if former is None:
            try:
                if dry_run:
                    store.check_whole(stored)
                path = stored.path if dry_run else store.adopt(target, stored)
            except RecordError as fault:
                problems.append(str(fault))
                continue
            there[stored.record.key] = Stored(path, stored.record)
            copied.append(stored.name)
        elif former.record.digest == stored.record.digest:
            present.append(stored.name)
            try:
                copied += _completed(former, stored, dry_run=dry_run)
            except RecordError as fault:
                problems.append(
                    f"{former.path} is there already, but not whole: remove it, and merge again."
                    f" {fault}"
                )
        elif _came_out_alike(former, stored):
            twins.append(stored.name)
        else:
            fields = differing_fields(former.record, stored.record)
            conflicts.append(Conflict(source=stored.path, target=former.path, fields=fields))
    return Merged(
        source=source,
        copied=tuple(copied),
        present=tuple(present),
        twins=tuple(twins),
        conflicts=tuple(conflicts),
        problems=tuple(problems),
    )


def _completed(there: Stored, stored: Stored, *, dry_run: bool) -> list[str]:
    """Copy files of a record that are missing in the target: scores of single views as a rule.

    Returns:
        Names of what was copied, below the results folder, or would be.

    Raises:
        RecordError: A file in the target was changed, or is missing on both sides.
    """
    missing = store.missing_beside(there)
    absent = store.missing_beside(stored) if missing else []
    found = [name for name in missing if name not in absent]
    for name in found:
        content, _ = store.read_beside(stored, name)
        if not dry_run:
            write_atomically(there.path.with_name(name), content)
    if not (found and dry_run):
        store.check_whole(there)
    folder = stored.name.rpartition("/")[0]
    return [f"{folder}/{name}" for name in found]


def _came_out_alike(first: Stored, second: Stored) -> bool:
    """Say whether two runs of one key have the same metrics and the same predictions."""
    try:
        (_, here), (_, there) = (
            store.stated_file(stored, PREDICTIONS_SUFFIX) for stored in (first, second)
        )
    except RecordError:
        return False
    return here == there and first.record.metrics == second.record.metrics


def _merge_files(source: Path, target: Path, taken: dict[str, Path], *, dry_run: bool) -> Merged:
    """Merge files by name and bytes; `taken` grows by the places of what a dry run would copy."""
    copied, present, conflicts = [], [], []
    problems: list[str] = []
    for name, path in _files(source):
        there = taken.get(name, target / name)
        try:
            content = path.read_bytes()
            former = there.read_bytes() if there.exists() else None
        except OSError as fault:
            problems.append(f"{name} can't be read ({fault.strerror}); mend that and merge again.")
            continue
        if former == content:
            present.append(name)
        elif former is not None:
            conflicts.append(Conflict(source=path, target=there, fields=()))
        else:
            if not dry_run:
                write_atomically(target / name, content)
            taken[name] = path if dry_run else target / name
            copied.append(name)
    return Merged(
        source=source,
        copied=tuple(copied),
        present=tuple(present),
        twins=(),
        conflicts=tuple(conflicts),
        problems=tuple(problems),
    )


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    """Give the files that merge by their bytes; what lies beside a JSON file comes before it.

    Pages drawn from the files, and hidden files, stay behind.
    """
    for folder in FILE_FOLDERS:
        found = [path for path in (source / folder).glob("[!.]*") if path.is_file()]
        drawn = {".md", ".html"}
        for path in sorted(found, key=lambda path: (path.suffix == ".json", path.name)):
            if path.suffix not in drawn:
                yield f"{folder}/{path.name}", path


def _joined(first: Merged, second: Merged) -> Merged:
    return replace(
        first,
        copied=first.copied + second.copied,
        present=first.present + second.present,
        conflicts=first.conflicts + second.conflicts,
        problems=first.problems + second.problems,
    )


def _flat(record: RunRecord) -> Iterator[tuple[str, str | int | float | bool | None]]:
    """Give the fields of a record with the names of their parts; lists as one text each."""
    plain = to_plain(record, "record")
    metrics = plain.pop("metrics")
    yield from _entries({each["name"]: each["value"] for each in metrics}, "metrics.")
    yield "metrics", _json(metrics)
    yield from _entries(
        {name: value for name, value in plain.items() if name not in _INCIDENTAL}, ""
    )


def _entries(
    values: Mapping[str, object], start: str
) -> Iterator[tuple[str, str | int | float | bool | None]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{start}{name}.")
        elif value is None or isinstance(value, str | int | float | bool):
            yield f"{start}{name}", value
        else:
            yield f"{start}{name}", _json(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
