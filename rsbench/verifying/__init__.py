"""Whether a record says what its own files say: digests, counts, ruler, and every number anew.

Nothing is run: the metrics and their intervals are computed of the stored predictions, the ruler of
the record's parts. A digest finds what was changed after a run; this finds what was never so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from rsbench.deriving import open_source
from rsbench.digests import digest_file
from rsbench.errors import RecordError, RsbenchError
from rsbench.records import foreign, heads, store
from rsbench.records.predictions import PredictionTable, from_parquet
from rsbench.records.store import Stored
from rsbench.registry import find_task, split_sample
from rsbench.verifying.found import Findings, listed
from rsbench.verifying.parts import (
    count_faults,
    file_of,
    ruler_faults,
    score_faults,
    selection_faults,
    split_faults,
)
from rsbench.verifying.recomputing import Recomputed, recompute
from rsbench.weights.shelf import metadata_of

Looked = TypeVar("Looked")


_STAYS = (store.HEAD_SUFFIX, store.VIEWS_SUFFIX)
"""What may be large and stays where it was made: its absence is told and is no fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What came of looking a record over."""

    name: str
    """Of the record, below its results folder."""
    path: Path
    kind: Literal["run", "foreign", "stray"] = "run"
    """A run's record; what others measured; or a file that belongs to no record."""
    problems: tuple[str, ...] = ()
    """What is wrong, one line each, the record's name left out; none where all is as it says."""
    notes: tuple[str, ...] = ()
    """What could not be looked at because it is not here."""
    num_files: int = 0
    """Beside the record, and as it says."""
    num_items: int = 0
    metrics: tuple[Recomputed, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(path: Path, *, task: str | None = None) -> Verified:
    """Look one record over.

    Args:
        path: The JSON file.
        task: The task's file, where its metrics are its own.

    Returns:
        What is wrong with it; a record that can't be read is wrong too.
    """
    try:
        stored = Stored(path, store.read(path))
    except RecordError as fault:
        return Verified(name=path.name, path=path, problems=(str(fault),))
    return verify_stored(stored, task=task)


def verify_stored(stored: Stored, *, task: str | None = None) -> Verified:
    """Look a record over that was read already; see `verify`."""
    record = stored.record
    found = Findings()
    sound_files = _check_files(stored, found)
    for faults_of in (ruler_faults, selection_faults, split_faults):
        _collect(stored, found, faults_of(record))
    metrics: tuple[Recomputed, ...] = ()
    table: PredictionTable | None = None
    name = file_of(record, store.PREDICTIONS_SUFFIX)
    if name is None:
        found.problems.append("it lists no predictions, so that nothing can be computed anew")
    elif name in sound_files:
        table = _caught(stored, found, lambda: _predictions(stored))
    if table is not None:
        held = table
        _collect(stored, found, count_faults(record, held))
        _collect(stored, found, score_faults(record, held))
        if file_of(record, store.HEAD_SUFFIX) in sound_files:
            _collect(stored, found, _head_faults(stored, held))
        metrics = _caught(stored, found, lambda: recompute(stored, held, task, found)) or ()
    if file_of(record, store.VIEWS_SUFFIX) in sound_files:
        _caught(stored, found, lambda: open_source(stored.path, task=task))
    return Verified(
        name=stored.name,
        path=stored.path,
        problems=tuple(dict.fromkeys(found.problems)),
        notes=tuple(found.notes),
        num_files=len(sound_files),
        num_items=0 if table is None else len(table.ids),
        metrics=metrics,
    )


def verify_folder(root: Path, *, task: str | None = None) -> Iterator[Verified]:
    """Look over every record of a results folder, then what others measured, in order of names.

    Args:
        root: The results folder.
        task: The file of a task whose metrics are its own; asked for the records of that task.

    Yields:
        One a file; a file that can't be read is one with a problem, a file that lies there for no
        record one with a note.
    """
    named: set[Path] = set()
    runs = root / "runs"
    for path in sorted(runs.rglob("*.json"), key=Path.as_posix):
        if path.name.startswith("."):
            continue
        named.add(path)
        try:
            stored = Stored(path, store.read(path))
        except RecordError as fault:
            name = path.relative_to(root).as_posix()
            yield Verified(name=name, path=path, problems=(str(fault),))
            continue
        named |= {path.with_name(name) for name in stored.record.files}
        yield verify_stored(stored, task=task if _is_of(stored, task) else None)
    for path in sorted(runs.rglob("*"), key=Path.as_posix):
        if path.is_file() and not path.name.startswith(".") and path not in named:
            name = path.relative_to(root).as_posix()
            notes = ("it belongs to no record here",)
            yield Verified(name=name, path=path, kind="stray", notes=notes)
    yield from _foreign(root)


# ------------------------------------------------------------------------------------------ files


def _check_files(stored: Stored, found: Findings) -> set[str]:
    """Hold every file beside a record to its digest; give the names of those that are as said."""
    sound: set[str] = set()
    for name, digest in stored.record.files.items():
        path = stored.path.with_name(Path(name).name)
        if Path(name).name != name:
            found.problems.append(f"its file {name!r} must lie beside it, and is named elsewhere")
        elif not path.is_file():
            if name.endswith(_STAYS):
                found.notes.append(f"{name} is not here: large files stay where they were made")
            else:
                found.problems.append(f"its file {name} is missing; copy it here, or run it again")
        else:
            try:
                actual = digest_file(path)
            except OSError as fault:
                found.problems.append(f"its file {name} can't be read ({fault.strerror})")
                continue
            if actual == digest:
                sound.add(name)
            else:
                found.problems.append(
                    f"its file {name} was changed: it has sha256 {actual[:12]}, and the record says"
                    f" {digest[:12]}; restore it, or run it again"
                )
    return sound


def _predictions(stored: Stored) -> PredictionTable:
    content = store.read_file(stored, store.PREDICTIONS_SUFFIX)
    return from_parquet(content, where=f"{stored.name} (predictions)")


def _head_faults(stored: Stored, table: PredictionTable) -> Iterator[str]:
    """Compare the folds of what was fitted with those that were tested."""
    name = file_of(stored.record, store.HEAD_SUFFIX)
    assert name is not None, "a sound file is listed"
    folds = heads.fold_names(metadata_of(stored.path.with_name(name)), where=name)
    tested = dict.fromkeys(table.folds)
    if sorted(folds) != sorted(tested):
        yield (
            f"{name} holds what was fitted in the folds {listed(folds)}, and those tested are"
            f" {listed(tested)}"
        )


# ----------------------------------------------------------------------------- folders, and words


def _is_of(stored: Stored, task: str | None) -> bool:
    """Say whether a record is of the task in a file."""
    part = stored.record.task
    if task is None or part.source_sha256 is None:
        return False
    return find_task(task).spec.name == split_sample(part.name)[0]


def _foreign(root: Path) -> Iterator[Verified]:
    """Hold what others measured to its digests."""
    contents = foreign.read_all(root)
    for problem in contents.problems:
        path = root / foreign.FOLDER
        yield Verified(name=foreign.FOLDER, path=path, kind="foreign", problems=(problem,))
    for each in contents.files:
        problems = []
        try:
            foreign.read_predictions(each)
        except RecordError as fault:
            problems.append(str(fault))
        name = each.path.relative_to(root).as_posix()
        num_files = len(each.file.files) if not problems else 0
        yield Verified(
            name=name,
            path=each.path,
            kind="foreign",
            problems=tuple(problems),
            num_files=num_files,
        )


def _caught(stored: Stored, found: Findings, look: Callable[[], Looked]) -> Looked | None:
    """Give what looking gives; a fault of what is looked at is one of the problems instead."""
    try:
        return look()
    except RsbenchError as fault:
        line = str(fault).removeprefix(f"{stored.name}: ").removeprefix(f"{stored.name} ")
    # Files of anybody can be wrong in any way, and one of them must not hide the others.
    except Exception as fault:
        cause = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
        line = f"it can't be judged: its contents are not what a run writes ({cause})"
    found.problems.append(line)
    return None


def _collect(stored: Stored, found: Findings, faults: Iterator[str]) -> None:
    """Add faults to the problems, one by one, so that what was seen before a failure is kept."""

    def look() -> None:
        for fault in faults:
            found.problems.append(fault)

    _caught(stored, found, look)
