"""Where task, backbone and protocol meet, once: a request in, a record out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rsbench import fits
from rsbench.assembly import Assembled
from rsbench.cells import Cell, RunRequest, assemble_cell, prepare, settings_of
from rsbench.claims import claimed
from rsbench.data.team import Team
from rsbench.errors import LeakError, RunError
from rsbench.findings import failure_in_words
from rsbench.fits import Assistant
from rsbench.gathering import FoldSets
from rsbench.predicting import predict_checked
from rsbench.recording import (
    FoldOutcome,
    cached_for,
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
from rsbench.specs import Extraction, Fitted, PredictRequest, Scalar, Settings


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
    fits.use_device(request)
    if request.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(request.device)
    assembled = assemble_cell(cell)
    content = content_of(cell)
    ruler = ruler_of(cell, content)
    key = key_of(cell, assembled, ruler, content, num_processes=request.num_processes)
    finished = _finished(cell, key)
    if finished is not None:
        return finished
    # One that runs the same cell would take this one's checkpoints away when it ends.
    with claimed(settings_of(request, key).work_root, waiting=lambda: _say_waiting(cell)):
        finished = _finished(cell, key)
        if finished is not None:
            return finished
        return _run_anew(cell, assembled, ruler, key, content, started=started)


def _finished(cell: Cell, key: str) -> Finished | None:
    """Find the run of a key that is finished already, unless it is to be run again."""
    request = cell.request
    if request.again:
        return None
    found = store.find(request.results, key, all_views=keeps_views(cell))
    if found is None:
        return None
    data = found.record.data
    _check_max_failed(request, [*data.failed, *data.train_failed], kept=True)
    return Finished(record=found.record, path=found.path, reused=True)


def _say_waiting(cell: Cell) -> None:
    cell.request.say(
        f"another process is running {cell.backbone.spec.name} on {cell.task_name} with the same"
        " settings: waiting for it; what it finishes is not run again"
    )


def _run_anew(
    cell: Cell,
    assembled: Assembled,
    ruler: Mapping[str, Scalar],
    key: str,
    content: str,
    *,
    started: float,
) -> Finished:
    request = cell.request
    settings = replace(
        settings_of(request, key),
        keep_views=keeps_views(cell),
        cached_for=cached_for(cell),
        helpers=None
        if request.helpers is None
        else replace(request.helpers, model=assembled.model.digest),
    )
    outcomes = [_run_fold(cell, assembled, fold, settings) for fold in cell.gathered.folds]
    _check_failures(cell, outcomes)
    scores = scores_of(cell, outcomes)
    seconds = time.perf_counter() - started
    record = record_of(cell, assembled, ruler, key, content, outcomes, scores, seconds=seconds)
    path = store.write(request.results, record, files_of(cell, outcomes, scores))
    shutil.rmtree(settings.work_root, ignore_errors=True)
    return Finished(record=store.read(path), path=path, reused=False)


def assist(requests: Sequence[RunRequest], team: Team) -> None:
    """Help the lead of a team, cell by cell, until it has no more to do.

    A helper writes no record and prints nothing.

    Args:
        requests: The cells of the grid, as the lead has them.
        team: All processes; this one is not the lead.

    Raises:
        RunError: A process has ended.
    """
    assistant = Assistant(requests, team)
    while (message := team.hear()) is not None:
        assistant.obey(*message)


def _run_fold(cell: Cell, assembled: Assembled, fold: FoldSets, settings: Settings) -> FoldOutcome:
    """Fit, then predict: the first never sees a test item, the second never sees a label.

    Where the run allows selection on the test set, the first sees it with its labels.
    """
    protocol = cell.protocol.spec
    work = settings.work_root / (fold.name or "all")
    extractions: list[Extraction] = []
    settings = replace(settings, work_root=work, extracted=extractions.append)
    started = time.perf_counter()
    fitted = fits.fitted(cell, assembled, fold, settings)
    _check_selection(cell, fitted)
    fitted_at = time.perf_counter()
    helpers = cell.request.helpers
    if helpers is not None:
        model = fits.network_after(cell, assembled, fitted)
        settings = replace(settings, helpers=replace(helpers, model=model))
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
        extractions=tuple(extractions),
    )


def _check_selection(cell: Cell, fitted: Fitted) -> None:
    """Hold a protocol to what the ruler said of its selection before it ran."""
    name, allowed = cell.protocol.spec.name, cell.request.allow_test_selection
    if (fitted.chosen.get("selected_on") == "test") != allowed:
        raise LeakError(
            f"Protocol {name} must select on the test set where the run allows it, and"
            " say so as chosen.selected_on; it did not: leave --allow-test-selection out."
            if allowed
            else f"Protocol {name} says that it selected on the test set, which this run does not"
            " allow: mend the protocol."
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
