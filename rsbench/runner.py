"""Where task, backbone and protocol meet, once: a request in, a record out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rsbench.assembly import Assembled
from rsbench.cells import Cell, RunRequest, assemble_cell, prepare, settings_of
from rsbench.errors import RunError
from rsbench.findings import failure_in_words
from rsbench.gathering import FoldSets
from rsbench.predicting import predict_checked
from rsbench.recording import (
    FoldOutcome,
    content_of,
    files_of,
    keeps_views,
    key_of,
    record_of,
    ruler_of,
    scores_of,
)
from rsbench.records import store
from rsbench.records.schema import RunRecord
from rsbench.specs import FitRequest, PredictRequest, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What a request came to."""

    record: RunRecord
    path: Path
    reused: bool
    """The same run was finished before, and what was to be kept of its views; nothing was
    computed."""


def run(request: RunRequest) -> Finished:
    """Run one cell, or find that it is finished; the record is written whole or not at all.

    Raises:
        RsbenchError: The user's words or data are wrong (exit code 2).
        RunError: The work failed: too many unreadable items, a full disk (exit code 1).
    """
    cell = prepare(request)
    store.check_writable(request.results)
    return run_cell(cell)


def run_cell(cell: Cell) -> Finished:
    """Run a prepared cell; raises as `run` does."""
    request = cell.request
    started = time.perf_counter()
    if request.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(request.device)
    assembled = assemble_cell(cell)
    content = content_of(cell)
    ruler = ruler_of(cell, content)
    key = key_of(cell, assembled, ruler, content)
    keeps_all = keeps_views(cell)
    finished = None if request.again else store.find(request.results, key, all_views=keeps_all)
    if finished is not None:
        data = finished.record.data
        _check_max_failed(request, [*data.failed, *data.train_failed], kept=True)
        return Finished(record=finished.record, path=finished.path, reused=True)
    settings = replace(settings_of(request, key), keep_views=keeps_all)
    outcomes = [_run_fold(cell, assembled, fold, settings) for fold in cell.gathered.folds]
    _check_failures(cell, outcomes)
    scores = scores_of(cell, outcomes)
    seconds = time.perf_counter() - started
    record = record_of(cell, assembled, ruler, key, content, outcomes, scores, seconds=seconds)
    path = store.write(request.results, record, files_of(cell, outcomes, scores))
    shutil.rmtree(settings.work_root, ignore_errors=True)
    return Finished(record=store.read(path), path=path, reused=False)


def _run_fold(cell: Cell, assembled: Assembled, fold: FoldSets, settings: Settings) -> FoldOutcome:
    """Fit, then predict: the first never sees a test item, the second never sees a label."""
    protocol = cell.protocol.spec
    work = settings.work_root / (fold.name or "all")
    settings = replace(settings, work_root=work)
    started = time.perf_counter()
    fitted = protocol.fit(
        FitRequest(
            model=assembled.model,
            train=fold.train,
            validation=fold.validation,
            target=cell.task.target,
            recipe=cell.recipe,
            reading=cell.fit_reading,
            flip=cell.task.sample.flip if cell.sample else cell.task.flip,
            seed=cell.request.seed,
            settings=settings,
        )
    )
    fitted_at = time.perf_counter()
    predictions = predict_checked(
        protocol,
        PredictRequest(
            model=assembled.model,
            fitted=fitted,
            test=fold.test,
            target=cell.task.target,
            recipe=cell.recipe,
            reading=cell.predict_reading,
            seed=cell.request.seed,
            settings=settings,
        ),
    )
    return FoldOutcome(
        fold=fold,
        fitted=fitted,
        predictions=predictions,
        fit_seconds=fitted_at - started,
        predict_seconds=time.perf_counter() - fitted_at,
    )


def _check_failures(cell: Cell, outcomes: Sequence[FoldOutcome]) -> None:
    failures = [failure for each in outcomes for failure in each.predictions.failures]
    in_train = [failure for each in outcomes for failure in each.fitted.failures]
    described = [{"id": each.id, "reason": each.reason} for each in [*failures, *in_train]]
    _check_max_failed(cell.request, described, kept=False)
    if len(failures) == cell.gathered.num_expected:
        raise RunError(
            f"No item of {cell.task_name} could be read, so there is no score: the first is"
            f" {failure_in_words(failures[0].id, failures[0].reason)}."
        )


def _check_max_failed(
    request: RunRequest, failed: Sequence[Mapping[str, str]], *, kept: bool
) -> None:
    """Hold a run, new or found, to the number of unreadable items the user allows."""
    reasons = {each["id"]: each["reason"] for each in failed}
    if request.max_failed is None or len(reasons) <= request.max_failed:
        return
    first, reason = next(iter(reasons.items()))
    raise RunError(
        f"--max-failed allows {request.max_failed} unreadable items and there are {len(reasons)};"
        f" the first is {failure_in_words(first, reason)}."
        f" {'The finished record stays' if kept else 'No record was written'}."
    )
