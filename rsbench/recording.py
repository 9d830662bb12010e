"""What a finished cell leaves behind: its key, its ruler, its record, and the files beside it."""

from __future__ import annotations

import datetime
import itertools
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rsbench import environment, fits
from rsbench.assembly import Assembled
from rsbench.cells import Cell
from rsbench.data.fingerprints import Fingerprints
from rsbench.data.loaders import views_per_item
from rsbench.data.naming import maps_part
from rsbench.data.refolding import folding_of
from rsbench.digests import digest_bytes, digest_json, digest_lines
from rsbench.gathering import FoldSets
from rsbench.media.video import decoder_version
from rsbench.metrics import Score, evaluate_metric
from rsbench.records import heads, store
from rsbench.records import predictions as prediction_files
from rsbench.records import views as view_files
from rsbench.records.ruler import make_ruler
from rsbench.records.schema import (
    BackbonePart,
    DataPart,
    MetricPart,
    ProtocolPart,
    RunRecord,
    TaskPart,
)
from rsbench.specs import (
    Extraction,
    Failure,
    Fitted,
    ItemSet,
    MediaFacts,
    Predictions,
    Scalar,
    Views,
    ViewScores,
)
from rsbench.weights.history import DigestOf, item_keys


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldOutcome:
    """What one fold of a run came to."""

    fold: FoldSets
    fitted: Fitted
    predictions: Predictions
    fit_seconds: float
    """Wall clock of fitting, reading and extraction included; next to nothing where all features
    were in the cache."""
    predict_seconds: float
    """Wall clock of predicting, likewise."""
    extractions: tuple[Extraction, ...] = ()
    """What running the frozen network took, fitting and predicting together."""


def _task_part(cell: Cell) -> TaskPart:
    return TaskPart(
        name=cell.task_name,
        version=cell.task.version,
        modality=cell.task.modality,
        target=cell.task.target,
        split=cell.gathered.split,
        sample=cell.sample,
        limit=cell.request.limit,
        num_classes=len(cell.gathered.classes),
        own_reader=cell.task.read is not None,
        source_sha256=cell.task_source,
    )


def _protocol_part(cell: Cell, outcomes: Sequence[FoldOutcome] = ()) -> ProtocolPart:
    protocol = cell.protocol.spec
    return ProtocolPart(
        name=protocol.name,
        version=protocol.version,
        recipe=cell.recipe,
        overrides=cell.overrides,
        chosen=_chosen(outcomes),
        selects_on=protocol.selects(cell.recipe),
        sampler=cell.predict_reading.sampler,
        clips=cell.predict_reading.views.clips,
        crops=cell.predict_reading.views.crops,
        cropper=cell.predict_reading.cropper,
        selected_on_test=cell.request.allow_test_selection,
        trains=protocol.trains,
        trains_backbone=protocol.learns_backbone(cell.recipe),
        source_sha256=cell.protocol.source_sha256,
        notes=_each_once(note for outcome in outcomes for note in outcome.fitted.notes),
        marks=_each_once(mark for outcome in outcomes for mark in outcome.fitted.marks),
    )


def _each_once(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))


def _data_part(
    cell: Cell,
    content: str,
    failures: Sequence[Failure] = (),
    train_failures: Sequence[Failure] = (),
    remarks: Sequence[Mapping[str, str]] = (),
    train_remarks: Sequence[Mapping[str, str]] = (),
) -> DataPart:
    gathered = cell.gathered
    return DataPart(
        fingerprint=gathered.fingerprint,
        content=content,
        train_fingerprint=gathered.train_fingerprint,
        validation_fingerprint=gathered.validation_fingerprint,
        media=gathered.media,
        num_official=gathered.num_official,
        num_expected=gathered.num_expected,
        num_evaluated=gathered.num_expected - len(failures),
        num_failed=len(failures),
        failed=tuple({"id": each.id, "reason": each.reason} for each in failures),
        num_missing=len(gathered.missing),
        missing=gathered.missing,
        num_train=gathered.num_train,
        train_failed=tuple({"id": each.id, "reason": each.reason} for each in train_failures),
        num_folds=len(gathered.folds),
        split_sha256=None
        if gathered.split_csv is None
        else digest_bytes(gathered.split_csv.encode()),
        notes=gathered.notes,
        remarked=tuple(remarks),
        train_remarked=tuple(train_remarks),
    )


def content_of(cell: Cell) -> str:
    """Digest the bytes of all media a cell reads, by id; files are hashed once and remembered."""
    fingerprints = Fingerprints(cell.request.cache_root / "fingerprints")
    pools = {id(each.pool): each.pool for fold in cell.gathered.folds for each in _sets(fold)}
    num_items = sum(len(pool) for pool in pools.values())
    lines = []
    for item in itertools.chain.from_iterable(pools.values()):
        lines.append(f"{item.id}\t{fingerprints.digest(item.source)}")
        cell.request.progress("check media", len(lines), num_items)
    return digest_lines(lines)


def cached_for(cell: Cell) -> dict[str, str]:
    """Say for whom outputs are cached, as whoever lists the cache will know it."""
    return {
        "task": cell.task_name,
        "backbone": cell.backbone.spec.name,
        "weights": cell.weights.name,
    }


def ruler_of(cell: Cell, content: str) -> dict[str, Scalar]:
    """Build the ruler; it depends on the request and its data, and is known before anything runs.

    The same ids name the same videos for a published data set, whoever encoded them. For own data
    and for samples they do not: there the content is part of the ruler.
    """
    ruler = make_ruler(
        task=_task_part(cell),
        protocol=_protocol_part(cell),
        data=_data_part(cell, content),
        metrics=cell.task.metrics,
        averaging=cell.task.fold_average,
    )
    if cell.sample or cell.task.without_data == "error":
        ruler["content"] = content
    if cell.request.cross_validate is not None:
        ruler["cross_validate"] = str(folding_of(cell.request.cross_validate))
    if cell.request.group_by is not None:
        ruler["group_by"] = cell.request.group_by
    return ruler


def key_of(
    cell: Cell,
    assembled: Assembled,
    ruler: Mapping[str, Scalar],
    content: str,
    *,
    num_processes: int = 1,
) -> str:
    """Digest all that decides the result: the same key is not run again.

    Content, not names: the bytes of the media, the tensors of the network and its rounded outputs
    (its stage maps too, where the protocol reads them). What must not move a score (device, batch,
    workers) is left out. How many processes train the network moves it where batch normalisation
    learns from the share of each, and is part of the key there alone; the ruler is the same.

    Args:
        cell: What was asked.
        assembled: What was judged.
        ruler: As `ruler_of` gave it.
        content: As `content_of` gave it.
        num_processes: That fit the cell, where its network learns.
    """
    felt = fits.processes_felt(cell, assembled, num_processes)
    return digest_json(
        {
            "ruler": dict(ruler),
            "content": content,
            "backbone": [cell.backbone.spec.name, cell.backbone.spec.version],
            "backbone_source": cell.backbone.source_sha256,
            "weights": [cell.weights.name, assembled.weights.digest],
            "outputs": assembled.numeric_digest,
            **maps_part(assembled.model, cell.protocol.spec.output),
            "lifting": assembled.model.lifting,
            "input": asdict(cell.input),
            "precision": cell.request.precision,
            "seed": cell.request.seed,
            **({"processes": felt} if felt > 1 else {}),
        }
    )


def _sets(fold: FoldSets) -> list[ItemSet]:
    return [each for each in (fold.train, fold.validation, fold.test) if each is not None]


def record_of(
    cell: Cell,
    assembled: Assembled,
    ruler: Mapping[str, Scalar],
    key: str,
    content: str,
    outcomes: Sequence[FoldOutcome],
    scores: Mapping[str, Score],
    *,
    seconds: float,
) -> RunRecord:
    """Write down a finished run.

    Args:
        cell: What was asked.
        assembled: What was judged.
        ruler: As `ruler_of` gave it.
        key: As `key_of` gave it.
        content: As `content_of` gave it.
        outcomes: One a fold.
        scores: As `scores_of` gave them.
        seconds: Wall clock of the whole run.
    """
    failures = [each for outcome in outcomes for each in outcome.predictions.failures]
    train_failures = {each.id: each for outcome in outcomes for each in outcome.fitted.failures}
    backbone, spec = cell.backbone.spec, cell.input
    return RunRecord(
        key=key,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seed=cell.request.seed,
        task=_task_part(cell),
        backbone=BackbonePart(
            name=backbone.name,
            version=backbone.version,
            modality=backbone.modality,
            num_parameters=assembled.num_parameters,
            feature_width=assembled.model.feature_width,
            frames=spec.frames,
            stride=spec.stride,
            pixels=spec.pixels,
            mean=spec.mean,
            std=spec.std,
            interpolation=spec.interpolation,
            antialias=spec.antialias,
            crop_ratio=spec.crop_ratio,
            resizer=spec.resizer,
            resize_to=spec.resize_to or (),
            lifting=assembled.model.lifting,
            numeric_digest=assembled.numeric_digest,
            source_sha256=cell.backbone.source_sha256,
        ),
        weights=assembled.weights,
        protocol=_protocol_part(cell, outcomes),
        data=_data_part(
            cell,
            content,
            failures,
            list(train_failures.values()),
            _remarks(outcomes),
            _train_remarks(outcomes),
        ),
        ruler=ruler,
        metrics=_metric_parts(cell, scores),
        selection=_by_fold((each.fold, each.fitted.selection) for each in outcomes),
        curve=_by_fold((each.fold, each.fitted.curve) for each in outcomes),
        cost=_cost(cell, assembled, outcomes, seconds=seconds),
        views=_views_part(cell, outcomes),
        environment={
            **environment.describe(),
            "decoder": decoder_version(),
            "device": cell.request.device,
            "precision": cell.request.precision,
            "batch_size": cell.request.batch_size,
            "num_workers": cell.request.num_workers,
            **({"compiled": True} if cell.request.compile else {}),
            "num_processes": cell.request.num_processes,
        },
    )


def _by_fold(
    parts: Iterable[tuple[FoldSets, Sequence[Mapping[str, Scalar]]]],
) -> tuple[dict[str, Scalar], ...]:
    """Give the rows of all folds one after another, each with its fold where folds have names."""
    return tuple(
        {"fold": fold.name, **row} if fold.name else dict(row)
        for fold, rows in parts
        for row in rows
    )


def _remarks(outcomes: Sequence[FoldOutcome]) -> list[dict[str, str]]:
    """Give what was remarked on the tested items, by id, each remark once."""
    remarks = {
        (item.id, remark)
        for outcome in outcomes
        if outcome.predictions.facts
        for item, facts in zip(outcome.fold.test.items, outcome.predictions.facts, strict=True)
        if facts is not None
        for remark in facts.remarks
    }
    return [{"id": item, "reason": remark} for item, remark in sorted(remarks)]


def _train_remarks(outcomes: Sequence[FoldOutcome]) -> list[dict[str, str]]:
    """Give what was remarked on the items fitted on, by id, each remark once over all folds."""
    remarks = {(each.id, each.reason) for outcome in outcomes for each in outcome.fitted.remarks}
    return [{"id": item, "reason": remark} for item, remark in sorted(remarks)]


def _chosen(outcomes: Sequence[FoldOutcome]) -> dict[str, Scalar]:
    if len(outcomes) == 1:
        return dict(outcomes[0].fitted.chosen)
    return {
        f"{outcome.fold.name}.{key}": value
        for outcome in outcomes
        for key, value in outcome.fitted.chosen.items()
    }


def scores_of(cell: Cell, outcomes: Sequence[FoldOutcome]) -> dict[str, Score]:
    """Score every metric of the task over all folds."""
    num_scored = sum(len(each.fold.test) for each in outcomes)
    assert num_scored == cell.gathered.num_expected, "every expected item is scored, once"
    return {
        metric.name: evaluate_metric(
            metric,
            _targets(outcomes),
            _values(outcomes),
            folds=_fold_names(outcomes),
            averaging=cell.task.fold_average,
        )
        for metric in cell.task.metrics
    }


def _metric_parts(cell: Cell, scores: Mapping[str, Score]) -> tuple[MetricPart, ...]:
    return tuple(
        MetricPart(
            name=metric.name,
            value=scores[metric.name].value,
            low=scores[metric.name].low,
            high=scores[metric.name].high,
            n=scores[metric.name].n,
            level=metric.level,
            interval=scores[metric.name].interval,
            higher_is_better=metric.higher_is_better,
            folds=scores[metric.name].folds,
        )
        for metric in cell.task.metrics
    )


def _targets(outcomes: Sequence[FoldOutcome]) -> list[Any]:
    return [target for each in outcomes for target in each.fold.test_targets]


def _values(outcomes: Sequence[FoldOutcome]) -> list[Any]:
    return [value for each in outcomes for value in each.predictions.values]


def _fold_names(outcomes: Sequence[FoldOutcome]) -> list[str]:
    return [each.fold.name for each in outcomes for _ in each.fold.test.items]


def _cost(
    cell: Cell, assembled: Assembled, outcomes: Sequence[FoldOutcome], *, seconds: float
) -> dict[str, Scalar]:
    views = cell.predict_reading.views.num_views
    return {
        "num_parameters": assembled.num_parameters,
        "macs_per_view": assembled.macs_per_view,
        "views": views,
        "seconds_fit": round(sum(each.fit_seconds for each in outcomes), 3),
        "seconds_solve": round(sum(each.fitted.seconds for each in outcomes), 3),
        "seconds_predict": round(sum(each.predict_seconds for each in outcomes), 3),
        "seconds_total": round(seconds, 3),
        **_throughput(outcomes),
        **_peak(cell.request.device),
    }


def _throughput(outcomes: Sequence[FoldOutcome]) -> dict[str, Scalar]:
    """Give what extraction took; nothing where a protocol runs no frozen network."""
    extractions = [each for outcome in outcomes for each in outcome.extractions]
    if not extractions:
        return {}
    num_computed = sum(each.views_computed for each in extractions)
    seconds = sum(each.seconds for each in extractions)
    return {
        "views_computed": num_computed,
        "views_cached": sum(each.views_cached for each in extractions),
        "seconds_extract": round(seconds, 3),
        "seconds_extract_waited": round(sum(each.seconds_waited for each in extractions), 3),
        "views_per_second": round(num_computed / seconds, 2) if num_computed else None,
    }


def _peak(device: str) -> dict[str, Scalar]:
    """Give peak memory: of the cell on a GPU; on a CPU the system knows the process's only."""
    if device.startswith("cuda"):
        return {"peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 3)}
    # Kilobytes on Linux, bytes on macOS: getrusage(2) of each.
    unit = 1 if sys.platform == "darwin" else 1024
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"process_peak_gib": round(peak_bytes / 2**30, 3)}


def view_bytes(cell: Cell, *, kept_all: bool) -> int:
    """Say how large the scores of single views of a cell are: all of them, or their means.

    0 for tasks whose items are not classified.
    """
    if cell.task.target not in {"class", "multilabel"}:
        return 0
    return view_files.num_bytes(
        cell.gathered.num_expected,
        views_per_item(cell.predict_reading),
        len(cell.gathered.classes),
        activation="sigmoid" if cell.task.target == "multilabel" else "softmax",
        kept_all=kept_all,
    )


def keeps_views(cell: Cell) -> bool:
    """Say whether the scores of every view are kept, by how large they would be."""
    return view_bytes(cell, kept_all=True) <= cell.request.keep_views_up_to_gib * 2**30


def _view_scores(outcomes: Sequence[FoldOutcome]) -> list[ViewScores]:
    """Give the view scores of all folds, or none where a protocol does not give them."""
    views = [outcome.predictions.views for outcome in outcomes]
    return [each for each in views if each is not None] if None not in views else []


def _views_part(cell: Cell, outcomes: Sequence[FoldOutcome]) -> dict[str, Scalar]:
    scores = _view_scores(outcomes)
    if not scores:
        return {}
    kept_all = scores[0].halves is not None
    num_items = sum(len(each.mean_scores) for each in scores)
    num_classes = scores[0].mean_scores.shape[1]
    return {
        "kept": "all" if kept_all else "means",
        "activation": scores[0].activation,
        "num_bytes": view_files.num_bytes(
            num_items,
            views_per_item(cell.predict_reading),
            num_classes,
            activation=scores[0].activation,
            kept_all=kept_all,
        ),
    }


def _views_parts(
    cell: Cell, outcomes: Sequence[FoldOutcome], ids: Sequence[str]
) -> tuple[bytes | memoryview, ...]:
    reading, scores = cell.predict_reading, _view_scores(outcomes)
    views = reading.views
    if reading.read is not None:
        views = Views()
    elif reading.modality == "image":
        views = Views(crops=views.crops)
    facts: list[MediaFacts | None] = []
    for outcome in outcomes:
        facts += outcome.predictions.facts or [None] * len(outcome.fold.test)
    header = view_files.ViewsHeader(
        kept="means" if scores[0].halves is None else "all",
        activation=scores[0].activation,
        sampler=reading.sampler,
        frames=reading.clip.frames,
        stride=reading.clip.stride,
        clips=views.clips,
        crops=views.crops,
        cropper=reading.cropper,
        ids=view_files.ids_digest(ids, _fold_names(outcomes)),
    )
    return view_files.to_parts(header, scores, facts)


def files_of(
    cell: Cell, outcomes: Sequence[FoldOutcome], scores: Mapping[str, Score]
) -> dict[str, store.Content]:
    """Give what lies beside the record: predictions, view scores, what was fitted, the split."""
    arrays = {outcome.fold.name: outcome.fitted.arrays for outcome in outcomes}
    ids = [item.id for each in outcomes for item in each.fold.test.items]
    files: dict[str, store.Content] = {
        store.PREDICTIONS_SUFFIX: prediction_files.to_parquet(
            ids=ids,
            folds=_fold_names(outcomes),
            targets=_targets(outcomes),
            predictions=_values(outcomes),
            kind=cell.task.target,
            item_scores={
                name: score.per_item for name, score in scores.items() if score.per_item is not None
            },
        ),
        store.HEAD_SUFFIX: heads.to_bytes(
            arrays, classes=cell.gathered.classes, history=_history(cell, outcomes)
        ),
    }
    if cell.gathered.split_csv is not None:
        files[store.SPLIT_SUFFIX] = cell.gathered.split_csv.encode()
    if _view_scores(outcomes):
        files[store.VIEWS_SUFFIX] = _views_parts(cell, outcomes, ids)
    return files


def _history(cell: Cell, outcomes: Sequence[FoldOutcome]) -> heads.History | None:
    """Say what the networks of a run have learned on, with what they had learned before."""
    if not cell.protocol.spec.learns_backbone(cell.recipe):
        return None
    fingerprints = Fingerprints(cell.request.cache_root / "fingerprints")
    return heads.History(
        task=cell.task_name,
        version=cell.task.version,
        before=cell.weights.trained_on,
        is_complete=cell.weights.is_history_known,
        learned={
            outcome.fold.name: cell.weights.learned | _learned(outcome, fingerprints.digest)
            for outcome in outcomes
        },
    )


def _learned(outcome: FoldOutcome, digest_of: DigestOf) -> frozenset[int]:
    """Give the keys of what a fold learned or selected on.

    Without what could not be read, and without what its own test has too: a data set that holds a
    file twice must not have its own network refused.
    """
    fold = outcome.fold
    unread = {failure.id for failure in outcome.fitted.failures}
    sets = [each for each in (fold.train, fold.validation) if each is not None]
    items = [item for each in sets for item in each.items if item.id not in unread]
    return item_keys(items, digest_of) - item_keys(fold.test.items, digest_of)
