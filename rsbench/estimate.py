"""What a run would do and cost, without doing it: `rsbench run --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rsbench.assembly import Assembled
from rsbench.cells import Cell, assemble_cell
from rsbench.data.loaders import read_views
from rsbench.errors import MediaError
from rsbench.media.transforms import normalise
from rsbench.recording import key_of, ruler_of
from rsbench.records import store
from rsbench.specs import Item, Reading, Views

_FLOAT_BYTES = 4
_HALF_BYTES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The size of one cell."""

    finished: bool
    """The same run is finished: it would be shown, not run."""
    num_train: int
    num_test: int
    num_views: int
    """Forward passes over train and test views together."""
    media_bytes: int
    """Size of the files to be read, once each."""
    cache_bytes: int
    """Features of all views, float32, as the cache keeps them."""
    view_score_bytes: int
    """Scores of every test view in half precision, if all were kept."""
    seconds: float | None
    """Rough: reading and a forward pass of one item, measured, times the views; None where no
    item of the first few could be read."""


def estimate(cell: Cell) -> Estimate:
    """Count what a cell would read, keep and take; measures one item."""
    gathered = cell.gathered
    views = cell.predict_reading.views.num_views
    passes = cell.protocol.spec.train_passes(cell.recipe) if cell.protocol.spec.trains else 0.0
    num_test_views = gathered.num_expected * views
    assembled = assemble_cell(cell)
    key = key_of(cell, assembled, ruler_of(cell))
    width = assembled.model.feature_width
    items = _distinct_items(cell)
    per_view = _seconds_per_view(cell, assembled, items)
    return Estimate(
        finished=store.find(cell.request.results, key) is not None,
        num_train=gathered.num_train,
        num_test=gathered.num_expected,
        num_views=num_test_views + gathered.num_train,
        media_bytes=sum(
            item.source.stat().st_size for item in items if isinstance(item.source, Path)
        ),
        cache_bytes=(num_test_views + gathered.num_train) * width * _FLOAT_BYTES,
        view_score_bytes=num_test_views * len(gathered.classes) * _HALF_BYTES,
        seconds=None
        if per_view is None
        else per_view * (num_test_views + passes * gathered.num_train),
    )


def _distinct_items(cell: Cell) -> list[Item]:
    items = {
        item.id: item
        for fold in cell.gathered.folds
        for each in (fold.train, fold.validation, fold.test)
        if each is not None
        for item in each.items
    }
    return list(items.values())


def _seconds_per_view(cell: Cell, assembled: Assembled, items: Sequence[Item]) -> float | None:
    """Time one view of the first readable item; the forward pass is timed when warm."""
    reading: Reading = replace(cell.predict_reading, views=Views())
    for item in items[:5]:
        started = time.perf_counter()
        try:
            views = read_views(item, reading)
        except MediaError:
            continue
        reading_seconds = time.perf_counter() - started
        batch = normalise(views.to(cell.request.device), cell.input)
        with torch.inference_mode():
            assembled.model.module(batch)
            started = time.perf_counter()
            assembled.model.module(batch)
            if batch.is_cuda:
                torch.cuda.synchronize()
        return reading_seconds + time.perf_counter() - started
    return None
