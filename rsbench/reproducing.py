"""The request that a record came of: what `rsbench run` must be asked to make the same run again.

A record names no folders. What lay in files (data, weights, plug-ins) is found again by its name,
or named by the user; whether it is the same, the digests of the new record tell
(`rsbench.drift`). What moves no score and can be known is taken over too: threads, batch size and
processes, under which the same machine gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rsbench.cells import RunRequest, find_task_and_data
from rsbench.errors import DataError, RecordError, RsbenchError
from rsbench.records import store
from rsbench.records.predictions import PredictionTable
from rsbench.records.schema import RunRecord
from rsbench.records.store import Stored
from rsbench.registry import find_backbone, is_plain_name, split_sample
from rsbench.specs import Scalar, Views
from rsbench.suites import SAMPLE
from rsbench.weights.choosing import INFLATE, OWN, RANDOM
from rsbench.weights.shelf import known_weights

_KEPT_UNLESS_TOLD_GIB = 2.0
"""What `rsbench run` keeps of single views where nothing is said."""

_MOST = 1024
"""Threads, processes or workers that a record may ask this machine for."""
_LARGEST_BATCH = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where things lie now that a record knows by name only; None leaves them to be found."""

    data: Path | None = None
    task: str | None = None
    backbone: str | None = None
    protocol: str | None = None
    weights: str | None = None
    device: str | None = None


def request_of(
    stored: Stored,
    table: PredictionTable,
    *,
    places: Places,
    results: Path,
    cache_root: Path,
) -> RunRequest:
    """Give the request whose run would leave this record.

    Args:
        stored: The record.
        table: Its predictions, which name the folds.
        places: What the user says of where things lie.
        results: Folder of the new record.
        cache_root: Caches of the new run.

    Raises:
        RsbenchError: Something lay in a file that must be named; says the option.
        DataError: The run was on real data, and none is configured here.
        UnknownNameError: The network is not known any more.
    """
    record = stored.record
    surroundings = record.environment
    task = _task(stored, places)
    backbone = _plug_in(stored, "backbone", places.backbone)
    device = places.device or str(surroundings.get("device", "cpu"))
    own_reading = record.task.own_reader or record.task.modality == "volume"
    is_video = record.task.modality == "video"
    sees_frames = is_video or record.backbone.modality == "video"
    return RunRequest(
        task=task,
        backbone=backbone,
        protocol=_plug_in(stored, "protocol", places.protocol),
        results=results,
        cache_root=cache_root,
        data=places.data,
        weights=_weights(stored, backbone, places.weights),
        seed=record.seed,
        limit=record.task.limit,
        overrides={key: _typed(value) for key, value in record.protocol.overrides.items()},
        pixels=record.backbone.pixels,
        frames=record.backbone.frames if sees_frames else None,
        stride=record.backbone.stride if is_video else None,
        views=None
        if own_reading
        else Views(
            clips=record.protocol.clips if is_video else 1,
            crops=record.protocol.crops,
        ),
        sampler=record.protocol.sampler if is_video and not own_reading else None,
        cropper=None if own_reading else record.protocol.cropper,
        folds=_folds(record, table),
        cross_validate=_text(record.ruler, "cross_validate"),
        group_by=_text(record.ruler, "group_by"),
        keep_views_up_to_gib=_kept_gib(record.views),
        # Which of several GPUs it was is nothing to the numbers.
        device=device.partition(":")[0] if places.device is None else device,
        batch_size=_number(surroundings, "batch_size", 16, most=_LARGEST_BATCH),
        num_workers=_number(surroundings, "num_workers", 0, least=0),
        precision=str(surroundings.get("precision", "float32")),
        compile=surroundings.get("compiled") is True,
        again=True,
        allow_test_selection=record.protocol.selected_on_test,
    )


def threads_of(record: RunRecord) -> int | None:
    """Give how many threads a run computed with; None where its record does not say.

    Raises:
        RecordError: It says what can't be.
    """
    if record.environment.get("threads") is None:
        return None
    return _number(record.environment, "threads", 1)


def processes_of(record: RunRecord) -> int:
    """Give how many processes a run was shared by.

    Raises:
        RecordError: It says what can't be.
    """
    return _number(record.environment, "num_processes", 1)


def results_folder(path: Path) -> Path | None:
    """Give the results folder that a record lies in; None where it lies elsewhere."""
    folders = path.absolute().parents
    return folders[3] if len(folders) > 3 and folders[2].name == "runs" else None


def _task(stored: Stored, places: Places) -> str:
    """Name the task so that it runs on what the record's run ran on, data or sample."""
    record = stored.record
    name = _plug_in(stored, "task", places.task)
    if record.task.sample:
        return name if name.endswith(SAMPLE) else f"{name}{SAMPLE}"
    if places.data is None and find_task_and_data(name, None)[1] is None:
        base = split_sample(record.task.name)[0]
        raise DataError(
            f"{stored.name} was run on the data of {base}, and none is configured here; give --data"
            f" PATH. `rsbench show {base}` says how to get it."
        )
    return name


def _plug_in(stored: Stored, kind: str, given: str | None) -> str:
    """Name a task, backbone or protocol; one that lay in a file must be given."""
    part = getattr(stored.record, kind)
    if given is not None:
        return given
    if part.source_sha256 is None and is_plain_name(part.name):
        name: str = part.name
        return name
    raise RsbenchError(
        f"{stored.name} was run with the {kind} {part.name!r} of a file (sha256"
        f" {str(part.source_sha256)[:12]}), whose place a record does not tell; name it with"
        f" --{kind} ./FILE.py."
    )


def _weights(stored: Stored, backbone: str, given: str | None) -> str:
    """Name the weights: known ones by their name, those of a run by the record beside this one."""
    recorded = stored.record.weights.name
    if recorded in {RANDOM, OWN}:
        if given not in {None, RANDOM}:
            raise RsbenchError(
                f"{stored.name} began with random weights, and --weights must be left out; it was"
                f" {given}."
            )
        return RANDOM
    start = INFLATE if recorded.startswith(INFLATE) else ""
    if given is not None:
        return given if given.startswith(start) else f"{start}{given}"
    name = recorded.removeprefix(INFLATE)
    spec = find_backbone(backbone).spec
    owner = spec.flat if start else spec
    if owner is not None and known_weights(owner, name) is not None:
        return recorded
    found = _left_here(stored, name)
    if found is None:
        raise RsbenchError(
            f"{stored.name} began with the weights {name} of a file (tensors of sha256"
            f" {stored.record.weights.digest[:12]}), whose place a record does not tell; name it"
            " with --weights FILE."
        )
    return f"{start}{found}"


def _left_here(stored: Stored, name: str) -> str | None:
    """Find what another run of the same results folder left: "FILE" or "FILE:FOLD"."""
    root = results_folder(stored.path)
    if root is None or store.HEAD_SUFFIX not in name:
        return None
    file, colon, fold = name.partition(f".{store.HEAD_SUFFIX}:")
    file = f"{file}.{store.HEAD_SUFFIX}" if colon else file
    found = [path for path in sorted(root.glob("runs/*/*/*")) if path.name == file]
    return f"{found[0]}{':' if fold else ''}{fold}" if len(found) == 1 else None


def _folds(record: RunRecord, table: PredictionTable) -> tuple[str, ...]:
    """Name the folds that were run, where it may not have been all of them."""
    names = tuple(dict.fromkeys(table.folds))
    # So a run of more than three says that these are all there are.
    if names == ("",) or record.task.split == f"{len(names)} folds":
        return ()
    return names


def _kept_gib(views: Mapping[str, Scalar]) -> float:
    """Give a limit under which as much of single views is kept as was."""
    if views.get("kept") == "means":
        return 0.0
    num_bytes = views.get("num_bytes")
    gib = num_bytes / 2**30 if isinstance(num_bytes, int) else 0.0
    return max(_KEPT_UNLESS_TOLD_GIB, math.ceil(100 * gib) / 100)


def _typed(value: Scalar) -> str:
    """Write a value as it is typed after --set."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _text(fields: Mapping[str, Scalar], name: str) -> str | None:
    value = fields.get(name)
    return None if value is None else str(value)


def _number(
    fields: Mapping[str, Scalar], name: str, otherwise: int, *, least: int = 1, most: int = _MOST
) -> int:
    """Read a number that processes or memory are asked for by, in a record by anybody."""
    value = fields.get(name)
    if value is None:
        return otherwise
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise RecordError(
        f"environment.{name} of a record must be a whole number from {least} to {most}, was"
        f" {value!r}."
    )
