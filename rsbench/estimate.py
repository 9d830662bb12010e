"""What a run would do and cost, without doing it: `rsbench run --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from rsbench.assembly import Assembled
from rsbench.cells import Cell, assemble_cell, settings_of
from rsbench.data.extractions import bytes_in_use
from rsbench.data.features import extraction_bytes
from rsbench.data.loaders import read_views
from rsbench.data.outputs import Outputs
from rsbench.errors import MediaError
from rsbench.recording import content_of, keeps_views, key_of, ruler_of, view_bytes
from rsbench.records import store
from rsbench.specs import Item, Output, Reading, Settings, Views


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
    """What the cache keeps: the outputs of all views that the protocol reads, in float32."""
    cache_room_bytes: int | None
    """What `--cache-limit` leaves of them room for; the rest is handed on without being kept. None
    without a limit."""
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
    items = _distinct_items(cell)
    one = _one_view(cell, assembled, items, settings)
    width = assembled.model.feature_width if one is None else one.width
    train_views = protocol.train_views(cell.recipe) * len(gathered.folds)
    if protocol.learns_backbone(cell.recipe):
        # The network changes from fold to fold: nothing is shared or kept of train.
        num_views = num_test_views + gathered.num_train
        num_passes = num_test_views + passes * gathered.num_train + train_views
        kept = [(gathered.num_expected, cell.predict_reading)]
    else:
        kept = _frozen_looks(cell)
        num_views = sum(count * reading.views.num_views for count, reading in kept)
        num_passes = num_views + train_views
    return Estimate(
        finished=store.find(cell.request.results, key, all_views=keeps_views(cell)) is not None,
        num_train=gathered.num_train,
        num_test=gathered.num_expected,
        num_views=num_views,
        media_bytes=sum(_bytes_of(item.source) for item in items if isinstance(item.source, Path)),
        cache_bytes=sum(
            extraction_bytes(count, reading, settings, width=width, output=protocol.output)
            for count, reading in kept
        ),
        cache_room_bytes=None
        if settings.cache_limit_bytes is None
        else max(0, settings.cache_limit_bytes - bytes_in_use(settings.cache_root)),
        view_score_bytes=view_bytes(cell, kept_all=True),
        keeps_views=keeps_views(cell),
        mean_score_bytes=view_bytes(cell, kept_all=False),
        seconds=None if one is None else one.seconds * num_passes,
    )


def _frozen_looks(cell: Cell) -> list[tuple[int, Reading]]:
    """Give what a frozen network looks at: how many items, how; folds share what they look at."""
    looks: dict[tuple[tuple[str, ...], Reading], int] = {}
    for fold in cell.gathered.folds:
        for item_set, reading in (
            (fold.train, cell.fit_reading),
            (fold.validation, cell.fit_reading),
            (fold.test, cell.predict_reading),
            (fold.test if cell.request.allow_test_selection else None, cell.fit_reading),
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


class _OneView(NamedTuple):
    seconds: float
    width: int
    """Floats kept of it."""


def _one_view(
    cell: Cell, assembled: Assembled, items: Sequence[Item], settings: Settings
) -> _OneView | None:
    """Look at one view of a readable item, when the reader and the network are warm."""
    reading: Reading = replace(cell.predict_reading, views=Views())
    output: Output = cell.protocol.spec.output
    if output == "logits" and assembled.model.head is None:
        output = "features"  # The run will refuse it, in its own words.
    network = Outputs(assembled.model, reading, settings, output)
    for item in items[:5]:
        try:
            read_views(item, reading)
            started = time.perf_counter()
            views = read_views(item, reading)
        except MediaError:
            continue
        reading_seconds = time.perf_counter() - started
        with torch.inference_mode():
            network(views)
            started = time.perf_counter()
            width = network(views)[0].cpu().numel()
        return _OneView(reading_seconds + time.perf_counter() - started, width)
    return None
