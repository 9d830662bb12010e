"""A finished run applied to new files: `rsbench predict RECORD FILE...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.assembly import Assembled, assemble, check_device
from rsbench.cells import backbones, network_of
from rsbench.digests import digest_json
from rsbench.errors import DataError, RecordError, RunError
from rsbench.records import heads, store
from rsbench.records.schema import RunRecord
from rsbench.registry import Found, find_backbone, find_protocol, is_built_in, is_plain_name
from rsbench.specs import (
    Backbone,
    ClipSpec,
    Failure,
    Fitted,
    InputSpec,
    Item,
    ItemSet,
    Predictions,
    PredictRequest,
    Protocol,
    Reading,
    Settings,
    Views,
    ViewScores,
    Withheld,
)
from rsbench.weights.choosing import choose_weights, input_of


def predict_checked(protocol: Protocol, request: PredictRequest) -> Predictions:
    """Let a protocol predict, and hold it to one prediction an item.

    Raises:
        LeakError: It asked for the labels of what it predicts on.
        RunError: Items were dropped, doubled, or left without prediction and not named as failed.
    """
    test = request.test
    assert test.targets is None, "a protocol must not see test labels"
    predictions = protocol.predict(replace(request, test=replace(test, targets=Withheld())))
    if len(predictions.values) != len(test):
        raise RunError(
            f"Protocol {protocol.name} must give one prediction for each of {len(test)} items;"
            f" it gave {len(predictions.values)}."
        )
    for what, given in (
        ("facts", predictions.facts or None),
        ("view scores", None if predictions.views is None else predictions.views.mean_scores),
    ):
        if given is not None and len(given) != len(test):
            raise RunError(
                f"Protocol {protocol.name} must give {what} of each of {len(test)} items, or none;"
                f" it gave {len(given)}."
            )
    if predictions.views is not None:
        _check_averages(protocol, predictions.values, predictions.views)
    silent = {
        item.id for item, value in zip(test.items, predictions.values, strict=True) if value is None
    }
    named = [failure.id for failure in predictions.failures]
    if silent != set(named) or len(named) != len(set(named)):
        raise RunError(
            f"Protocol {protocol.name} must name each item it has no prediction for, once:"
            f" {len(silent)} are without prediction, {len(named)} are named as failed."
        )
    return predictions


def _check_averages(protocol: Protocol, values: Sequence[Any], views: ViewScores) -> None:
    """Hold predictions to what is derived of the scores of their views."""
    for value, mean_K in zip(values, views.mean_probabilities, strict=True):
        if value is not None and not np.array_equal(value, mean_K):
            raise RunError(
                f"Protocol {protocol.name} must predict the mean probability of the views it gives"
                " (`rsbench.view_scores.average_views`), to the last bit; or give no views."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePredictions:
    """What a finished run says of new files."""

    classes: tuple[str, ...]
    values: tuple[Any, ...]
    """One a file, in the order given: float32 (K,) probabilities; None where unreadable."""
    failures: tuple[Failure, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """A finished run put together again: what it takes to say of other items what it would have."""

    stored: store.Stored
    protocol: Protocol
    assembled: Assembled
    """The recorded network as it was before the protocol fitted anything."""
    head: heads.Head
    """What was fitted, of one fold."""
    reading: Reading
    """All test views."""


def rebuild(
    record_path: Path,
    *,
    cache_root: Path,
    backbone: str | None = None,
    protocol: str | None = None,
    weights: str | None = None,
    fold: str | None = None,
    device: str = "cpu",
) -> Rebuilt:
    """Put a finished run together again, held to its recorded tensors and outputs.

    The arguments are those of `predict_files`.

    Raises:
        RecordError: The head is missing, the network is not the recorded one, or the run gave no
            class scores of images or videos.
        RsbenchError: A name can't be resolved any more.
    """
    check_device(device)
    stored = store.Stored(record_path, store.read(record_path))
    _check_predictable(stored)
    spoken = _recorded_protocol(stored, protocol)
    seen = input_of(stored.record.backbone)
    assembled = _reassemble(stored, seen, backbone, weights, cache_root=cache_root, device=device)
    head = heads.from_bytes(
        store.read_file(stored, store.HEAD_SUFFIX), fold=fold, where=stored.name
    )
    return Rebuilt(
        stored=stored,
        protocol=spoken,
        assembled=assembled,
        head=head,
        reading=_recorded_reading(stored.record, seen),
    )


def predict_files(
    record_path: Path,
    files: Sequence[Path],
    *,
    cache_root: Path,
    backbone: str | None = None,
    protocol: str | None = None,
    weights: str | None = None,
    fold: str | None = None,
    device: str = "cpu",
    batch_size: int = 16,
) -> FilePredictions:
    """Apply a finished run's head to new files; on its own items it gives the recorded scores.

    Args:
        record_path: A record with its head beside it.
        files: Images or videos.
        cache_root: As in `RunRequest`.
        backbone: Needed where the record's backbone came from a file: ``./net.py:build``.
        protocol: Needed where the record's protocol came from a file.
        weights: Needed where the record's weights came from a file.
        fold: Whose head, where the run fitted one a fold.
        device: Where to run.
        batch_size: Views a forward pass.

    Raises:
        RecordError: The head is missing, the network is not the recorded one, or the run gave no
            class scores of images or videos.
        RsbenchError: A name can't be resolved any more.
    """
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"No file {missing} to predict; give paths of images or videos.")
    rebuilt = rebuild(
        record_path,
        cache_root=cache_root,
        backbone=backbone,
        protocol=protocol,
        weights=weights,
        fold=fold,
        device=device,
    )
    record, head = rebuilt.stored.record, rebuilt.head
    items = tuple(
        Item(id=f"{number}:{path.name}", source=path.resolve()) for number, path in enumerate(files)
    )
    key = digest_json([record.key, [str(item.source) for item in items]])
    predictions = predict_checked(
        rebuilt.protocol,
        PredictRequest(
            model=rebuilt.assembled.model,
            fitted=Fitted(arrays=head.arrays),
            test=ItemSet(
                pool=items, rows=tuple(range(len(items))), targets=None, classes=head.classes
            ),
            target=record.task.target,  # type: ignore[arg-type]  # written from a Task
            recipe=record.protocol.recipe,
            reading=rebuilt.reading,
            seed=record.seed,
            settings=Settings(
                device=device,
                batch_size=batch_size,
                precision=record.environment["precision"],  # type: ignore[arg-type]  # from Settings
                cache_root=cache_root,
                work_root=cache_root / "work" / key,
            ),
        ),
    )
    return FilePredictions(
        classes=head.classes, values=predictions.values, failures=predictions.failures
    )


def _check_predictable(stored: store.Stored) -> None:
    """Refuse runs that can't say anything of other files."""
    task = stored.record.task
    if task.target not in {"class", "multilabel"} or task.modality == "volume":
        raise RecordError(
            f"{stored.name} must give class scores of images or videos to predict files, and its"
            f" task asks for {task.target} of {task.modality} items."
        )
    if task.own_reader:
        raise RecordError(
            f"{stored.name} must be of a task whose items rsbench reads; {task.name} reads its"
            " items itself, so that other files can't be read alike."
        )


def _recorded_protocol(stored: store.Stored, given: str | None) -> Protocol:
    """Find the protocol of a record, in the version it was run under."""
    part = stored.record.protocol
    if given is None and not is_plain_name(part.name):
        raise RecordError(
            f"The protocol {part.name} of this record came from a file; name it again with"
            " --protocol ./FILE.py."
        )
    protocol = find_protocol(given or part.name).spec
    if protocol.version != part.version:
        raise RecordError(
            f"{stored.name} was made under {protocol.name} version {part.version}; this is version"
            f" {protocol.version}. Run it again."
        )
    return protocol


def _recorded_reading(record: RunRecord, seen: InputSpec) -> Reading:
    is_video = record.task.modality == "video"
    return Reading(
        modality=record.task.modality,  # type: ignore[arg-type]  # written from a Task
        input=seen,
        clip=ClipSpec(frames=seen.frames, stride=seen.stride)
        if is_video
        else ClipSpec(frames=1, stride=1),
        sampler=record.protocol.sampler,
        views=Views(clips=record.protocol.clips, crops=record.protocol.crops),
        cropper=record.protocol.cropper,
    )


def _reassemble(
    stored: store.Stored,
    seen: InputSpec,
    backbone: str | None,
    weights: str | None,
    *,
    cache_root: Path,
    device: str,
) -> Assembled:
    """Build the recorded network again, and hold it to the recorded tensors and outputs."""
    record = stored.record
    name = weights or record.weights.name
    found, _ = network_of(_recorded_backbone(record, backbone), name)
    assembled = assemble(
        found.spec,
        choose_weights(found.spec, name, cache_root=cache_root),
        input=seen,
        task_modality=record.task.modality,  # type: ignore[arg-type]  # written from a Task
        seed=record.seed,
        device=device,
        built_in=is_built_in(found),
        candidates=backbones,
    )
    if assembled.weights.digest != record.weights.digest:
        raise RecordError(
            f"{stored.name} was made with weights {record.weights.digest[:12]}; these are"
            f" {assembled.weights.digest[:12]}. Name the same ones with --weights."
        )
    if assembled.numeric_digest != record.backbone.numeric_digest:
        raise RecordError(
            f"{stored.name} was made with a {record.backbone.name} that gave other outputs under"
            " the same weights; take the rsbench or the file of that run (the record names its"
            " commit), or run it again."
        )
    return assembled


def _recorded_backbone(record: RunRecord, given: str | None) -> Found[Backbone]:
    """Find the backbone of a record; one from a file must be named again.

    Raises:
        RecordError: It came from a file and none was given.
    """
    name = record.backbone.name
    if given is None and (record.backbone.source_sha256 is not None or not is_plain_name(name)):
        raise RecordError(
            f"The backbone {record.backbone.name} of this record came from a file; name it again"
            " with --backbone ./FILE.py:FUNCTION."
        )
    return find_backbone(given or record.backbone.name)
