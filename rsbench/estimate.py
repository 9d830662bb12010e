"""What a run would do and cost, without doing it: `rsbench run --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rsbench.assembly import Assembled
from rsbench.cells import Cell, assemble_cell, settings_of
from rsbench.data.features import extraction_bytes
from rsbench.data.loaders import read_views
from rsbench.errors import MediaError
from rsbench.media.transforms import normalise
from rsbench.recording import content_of, keeps_views, key_of, ruler_of, view_bytes
from rsbench.records import store
from rsbench.specs import Item, Reading, Views


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The size of one cell."""

    finished: bool
    """The same run is finished: it would be shown, not run."""
    num_train: int
    num_test: int
    num_views: int
    """Views of train, validation and test items that the network is shown, once each."""
    media_bytes: int
    """Size of the files to be read, once each."""
    cache_bytes: int
    """What the cache keeps: features of all views in float32, or class scores where nothing
    trains."""
    view_score_bytes: int
    """Scores of every test view in half precision; 0 where items are not classified."""
    keeps_views: bool
    """Whether these are kept."""
    mean_score_bytes: int
    """What is kept of them otherwise."""
    seconds: float | None
    """Rough: reading and a forward pass of one item, measured, times the views; None where no
    item of the first few could be read."""


def estimate(cell: Cell) -> Estimate:
    """Count what a cell would read, keep and take; measures one item."""
    gathered = cell.gathered
    views = cell.predict_reading.views.num_views
    protocol = cell.protocol.spec
    passes = protocol.train_passes(cell.recipe) if protocol.trains else 0.0
    num_test_views = gathered.num_expected * views
    assembled = assemble_cell(cell)
    content = content_of(cell)
    key = key_of(cell, assembled, ruler_of(cell, content), content)
    settings = settings_of(cell.request, key)
    width = assembled.model.feature_width if protocol.trains else len(gathered.classes)
    items = _distinct_items(cell)
    per_view = _seconds_per_view(cell, assembled, items)
    if passes > 1:  # The network changes from fold to fold: nothing is shared or kept of train.
        num_views = num_test_views + gathered.num_train
        num_passes = num_test_views + passes * gathered.num_train
        kept = [(gathered.num_expected, cell.predict_reading)]
    else:
        kept = _frozen_looks(cell)
        num_views = sum(count * reading.views.num_views for count, reading in kept)
        num_passes = num_views
    return Estimate(
        finished=store.find(cell.request.results, key, all_views=keeps_views(cell)) is not None,
        num_train=gathered.num_train,
        num_test=gathered.num_expected,
        num_views=num_views,
        media_bytes=sum(_bytes_of(item.source) for item in items if isinstance(item.source, Path)),
        cache_bytes=sum(
            extraction_bytes(count, reading, settings, width=width) for count, reading in kept
        ),
        view_score_bytes=view_bytes(cell, kept_all=True),
        keeps_views=keeps_views(cell),
        mean_score_bytes=view_bytes(cell, kept_all=False),
        seconds=None if per_view is None else per_view * num_passes,
    )


def _frozen_looks(cell: Cell) -> list[tuple[int, Reading]]:
    """Give what a frozen network looks at: how many items, how; folds share what they look at."""
    looks: dict[tuple[tuple[str, ...], Reading], int] = {}
    for fold in cell.gathered.folds:
        for item_set, reading in (
            (fold.train, cell.fit_reading),
            (fold.validation, cell.fit_reading),
            (fold.test, cell.predict_reading),
        ):
            if item_set is not None:
                ids = tuple(item.id for item in item_set.pool)
                looks[ids, reading] = len(ids)
    return [(count, reading) for (_, reading), count in looks.items()]


def _distinct_items(cell: Cell) -> list[Item]:
    items = {
        item.id: item
        for fold in cell.gathered.folds
        for each in (fold.train, fold.validation, fold.test)
        if each is not None
        for item in each.items
    }
    return list(items.values())


def _bytes_of(path: Path) -> int:
    """Give the size of a file, or of all files in a folder of frames."""
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)


def _seconds_per_view(cell: Cell, assembled: Assembled, items: Sequence[Item]) -> float | None:
    """Time one view of a readable item, when the reader and the network are warm."""
    reading: Reading = replace(cell.predict_reading, views=Views())
    for item in items[:5]:
        try:
            read_views(item, reading)
            started = time.perf_counter()
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
