"""Whether a record says what its own files say: digests, counts, ruler, and every number anew.

Nothing is run: the metrics and their intervals are computed of the stored predictions, the ruler of
the record's parts. A digest finds what was changed after a run; this finds what was never so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from rsbench.deriving import metrics_of, open_source
from rsbench.digests import digest_file
from rsbench.errors import RecordError, RsbenchError
from rsbench.metrics import Score, evaluate_metric
from rsbench.records import foreign, heads, store
from rsbench.records.predictions import PredictionTable, from_parquet
from rsbench.records.ruler import differences, make_ruler
from rsbench.records.schema import MetricPart, RunRecord
from rsbench.records.store import Stored
from rsbench.registry import find_task, split_sample
from rsbench.specs import Metric, Scalar
from rsbench.weights.shelf import metadata_of

Looked = TypeVar("Looked")

TOLERANCE = 1e-9
"""How far a number computed anew may lie from the recorded one: both are made of the same float32
scores in float64, and another build of numpy may add them up in another order."""

_STAYS = (store.HEAD_SUFFIX, store.VIEWS_SUFFIX)
"""What may be large and stays where it was made: its absence is told and is no fault."""

RESAMPLED = "bootstrap"
"""How a record says that an interval was made of resamples."""

_NEAR = 0.25
"""How far an end of a resampled interval may lie from the recorded one, as a share of the width:
taking n - 1 of n = 2 items of a class moves each end by a fifth of it; luck of 1,000 resamples by a
fiftieth."""

_BEYOND_PARTS = ("content", "cross_validate", "group_by")
"""Fields of rulers that no other part of a record holds, `content` but for its digest."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """One metric as it is recorded, and as it comes out of the stored predictions."""

    name: str
    recorded: tuple[float, float | None, float | None]
    """Value, low end and high end of the interval."""
    recomputed: tuple[float, float | None, float | None]


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
    found = _Findings()
    sound_files = _check_files(stored, found)
    found.problems += _ruler_faults(record)
    found.problems += _selection_faults(record)
    found.problems += _split_faults(stored)
    metrics: tuple[Recomputed, ...] = ()
    table: PredictionTable | None = None
    name = _file_of(record, store.PREDICTIONS_SUFFIX)
    if name is None:
        found.problems.append("it lists no predictions, so that nothing can be computed anew")
    elif name in sound_files:
        table = _caught(stored, found, lambda: _predictions(stored))
    if table is not None:
        held = table
        found.problems += _count_faults(record, held)
        found.problems += _score_faults(record, held)
        if _file_of(record, store.HEAD_SUFFIX) in sound_files:
            found.problems += _caught(stored, found, lambda: list(_head_faults(stored, held))) or ()
        metrics = _caught(stored, found, lambda: _recomputed(stored, held, task, found)) or ()
    if _file_of(record, store.VIEWS_SUFFIX) in sound_files:
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


@dataclass(kw_only=True, slots=True)
class _Findings:
    """What is found while a record is looked over."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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


def _check_files(stored: Stored, found: _Findings) -> set[str]:
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


def _file_of(record: RunRecord, suffix: str) -> str | None:
    return next((name for name in record.files if name.endswith(f".{suffix}")), None)


def _predictions(stored: Stored) -> PredictionTable:
    content = store.read_file(stored, store.PREDICTIONS_SUFFIX)
    return from_parquet(content, where=f"{stored.name} (predictions)")


def _split_faults(stored: Stored) -> Iterator[str]:
    """Compare the digest of a split that rsbench made with the one among the files."""
    name = _file_of(stored.record, store.SPLIT_SUFFIX)
    among_files = None if name is None else stored.record.files[name]
    said = stored.record.data.split_sha256
    if said != among_files:
        yield (
            f"data.split_sha256 is {_short(said)}, and its split file is listed with"
            f" {_short(among_files)}"
        )


def _head_faults(stored: Stored, table: PredictionTable) -> Iterator[str]:
    """Compare the folds of what was fitted with those that were tested."""
    name = _file_of(stored.record, store.HEAD_SUFFIX)
    assert name is not None, "a sound file is listed"
    folds = heads.fold_names(metadata_of(stored.path.with_name(name)), where=name)
    tested = dict.fromkeys(table.folds)
    if sorted(folds) != sorted(tested):
        yield (
            f"{name} holds what was fitted in the folds {_listed(folds)}, and those tested are"
            f" {_listed(tested)}"
        )


# ------------------------------------------------------------------------------- counts and ruler


def _ruler_faults(record: RunRecord) -> Iterator[str]:
    """Build the ruler of the record's parts and compare."""
    said = record.ruler
    averaging = str(said.get("averaging", "pooled"))
    built: dict[str, Scalar] = make_ruler(
        task=record.task,
        protocol=record.protocol,
        data=record.data,
        # Names and levels are all that a ruler takes of metrics.
        metrics=cast("Sequence[Metric]", record.metrics),
        averaging=averaging,
        failure_policy=str(said.get("failure_policy", "wrong")),
    )
    built |= {field: said[field] for field in _BEYOND_PARTS if field in said}
    if "content" in said:
        built["content"] = record.data.content
    for each in differences(built, said):
        yield (
            f"its ruler says {each.field} = {_shown(each.second)}, and its parts say"
            f" {_shown(each.first)}"
        )


def _selection_faults(record: RunRecord) -> Iterator[str]:
    """Refuse a record whose fit tells of selection on the test set while the rest does not."""
    on_test = [
        key
        for key, value in record.protocol.chosen.items()
        if key.rpartition(".")[2] == "selected_on" and value == "test"
    ]
    if bool(on_test) != record.protocol.selected_on_test:
        told = "tells" if on_test else "tells nothing"
        yield (
            f"protocol.chosen {told} of selection on the test set, and protocol.selected_on_test is"
            f" {record.protocol.selected_on_test}"
        )


def _count_faults(record: RunRecord, table: PredictionTable) -> Iterator[str]:
    """Compare the counts of a record with the rows of its predictions."""
    data = record.data
    failed = [
        item for item, value in zip(table.ids, table.predictions, strict=True) if value is None
    ]
    folds = dict.fromkeys(table.folds)
    rows = Counter(zip(table.folds, table.ids, strict=True))
    for (fold, item), count in rows.items():
        if count > 1:
            where = f" in fold {fold}" if fold else ""
            yield f"the item {item!r} stands {count} times in its predictions{where}"
            break
    counted = {
        "data.num_expected": (data.num_expected, len(table.ids), "rows of predictions"),
        "data.num_failed": (data.num_failed, len(failed), "rows without a prediction"),
        "data.num_folds": (data.num_folds, len(folds), "folds in the predictions"),
        "data.num_missing": (data.num_missing, len(data.missing), "ids in data.missing"),
    }
    counted |= {
        f"n of {part.name}": (part.n, len(table.ids), "rows of predictions")
        for part in record.metrics
    }
    for what, (said, found, of_what) in counted.items():
        if said != found:
            yield f"{what} is {said}, and there are {found} {of_what}"
    if Counter(failed) != Counter(each["id"] for each in data.failed):
        yield (
            f"data.failed names {_listed([each['id'] for each in data.failed])}, and the"
            f" predictions lack {_listed(failed)}"
        )
    if data.num_official is not None and data.num_official < data.num_expected:
        yield (
            f"data.num_official is {data.num_official}, fewer than the {data.num_expected} that are"
            " present"
        )


def _score_faults(record: RunRecord, table: PredictionTable) -> Iterator[str]:
    """Look for predictions that are no scores of the task's classes."""
    if table.kind != record.task.target:
        yield f"its predictions are of kind {table.kind}, its task is of {record.task.target}"
    if table.kind not in {"class", "multilabel"}:
        return
    for item, value in zip(table.ids, table.predictions, strict=True):
        if value is None:
            continue
        if np.shape(value) != (record.task.num_classes,):
            yield (
                f"the prediction of {item!r} must be {record.task.num_classes} scores, one a class,"
                f" and has the shape {np.shape(value)}"
            )
            return
        if np.isnan(value).any():
            yield f"the prediction of {item!r} holds NaN"
            return


# ---------------------------------------------------------------------------------------- metrics


def _recomputed(
    stored: Stored, table: PredictionTable, task: str | None, found: _Findings
) -> tuple[Recomputed, ...]:
    """Compute every metric anew; what comes out otherwise is added to what was found."""
    averaging: Literal["pooled", "mean"] = (
        "mean" if stored.record.ruler.get("averaging") == "mean" else "pooled"
    )
    metrics = []
    for metric, part in zip(metrics_of(stored, task=task), stored.record.metrics, strict=True):
        score = evaluate_metric(
            metric, table.targets, table.predictions, folds=table.folds, averaging=averaging
        )
        metrics.append(
            Recomputed(
                name=part.name,
                recorded=(part.value, part.low, part.high),
                recomputed=(score.value, score.low, score.high),
            )
        )
        found.problems += _metric_faults(metric, part, score, table)
        _compare_intervals(part, score, found)
    return tuple(metrics)


def _metric_faults(
    metric: Metric, part: MetricPart, score: Score, table: PredictionTable
) -> Iterator[str]:
    if not _alike(part.value, score.value):
        yield f"{part.name} is {_number(part.value)}, and its predictions give {score.value:.10g}"
    facts: dict[str, tuple[Any, Any]] = {
        "interval": (part.interval, score.interval),
        "level": (part.level, metric.level),
        "higher_is_better": (part.higher_is_better, metric.higher_is_better),
    }
    for what, (stated, now) in facts.items():
        if stated != now:
            yield f"{part.name}.{what} is {stated!r}, and is {now!r} computed anew"
    if len(part.folds) != len(score.folds) or not all(map(_alike, part.folds, score.folds)):
        yield f"{part.name}.folds are not the values that its predictions give in each fold"
    stored_N = table.item_scores.get(part.name)
    if (stored_N is None) != (score.per_item is None):
        held = "lack" if stored_N is None else "hold"
        yield f"its predictions {held} scores of single items for {part.name}, against its metric"
    elif stored_N is not None and score.per_item is not None:
        wrong = np.flatnonzero(~np.isclose(stored_N, score.per_item, rtol=0, atol=TOLERANCE))
        if len(wrong):
            first = int(wrong[0])
            yield (
                f"{len(wrong)} of its items have another {part.name} than their predictions give:"
                f" {table.ids[first]!r} has {stored_N[first]:.6g}, and they give"
                f" {score.per_item[first]:.6g}"
            )


def _compare_intervals(part: MetricPart, score: Score, found: _Findings) -> None:
    """Hold an interval to the one computed anew.

    Formulas give the same ends for good. Resamples are drawn by rules that get better from version
    to version: there, ends that lie near are a note.
    """
    both = ((part.low, score.low), (part.high, score.high))
    if all(_alike(said, now) for said, now in both):
        return
    line = (
        f"{part.name}'s interval is {_ends(part.low, part.high)}, and its predictions give"
        f" {_ends(score.low, score.high)}"
    )
    width = _NEAR * max(_width(part.low, part.high), _width(score.low, score.high))
    if part.interval == score.interval == RESAMPLED and all(
        said is not None and now is not None and abs(said - now) <= width for said, now in both
    ):
        found.notes.append(f"{line}: it is resampled by another rule now")
    else:
        found.problems.append(line)


def _width(low: float | None, high: float | None) -> float:
    return 0.0 if low is None or high is None else high - low


def _ends(low: float | None, high: float | None) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _alike(said: float | None, found: float | None) -> bool:
    if said is None or found is None:
        return said is found
    return math.isclose(said, found, rel_tol=0, abs_tol=TOLERANCE)


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


def _caught(stored: Stored, found: _Findings, look: Callable[[], Looked]) -> Looked | None:
    """Give what looking gives; a fault of what is looked at is one of the problems instead."""
    try:
        return look()
    except RsbenchError as fault:
        line = str(fault).removeprefix(f"{stored.name}: ").removeprefix(f"{stored.name} ")
        found.problems.append(line)
        return None


def _listed(names: Iterable[str]) -> str:
    """Name the first few of some things."""
    each = [name or "(without a name)" for name in names]
    if not each:
        return "none"
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(each[:_SHOWN]) + more


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.10g}"


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:12]


def _shown(value: Scalar) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
