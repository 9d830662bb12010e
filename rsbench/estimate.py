"""What a run would do and cost, without doing it: `rsbench run --dry-run`."""

from __future__ import annotations

import statistics
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
from rsbench.digests import digest_lines
from rsbench.errors import MediaError
from rsbench.recording import content_of, keeps_views, key_of, ruler_of, view_bytes
from rsbench.records import store
from rsbench.specs import Item, Output, Reading, Settings, Views

_MOST_SECONDS = 5.0
"""A batch is cut to what takes about so long to compute."""


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
    """Scores of every test view, as they are kept; 0 where items are not classified."""
    keeps_views: bool
    """Whether these are kept."""
    mean_score_bytes: int
    """What is kept of them otherwise."""
    seconds: float | None
    """Rough: reading and a forward pass of one batch, measured, times the views; None where no
    item of the first few could be read."""
    num_trained: int
    """Classifiers that are trained on what the network gave; `seconds` leaves that out."""
    looks: tuple[Look, ...]
    """What of this is computed once for all cells that ask for the same."""

    @property
    def own_seconds(self) -> float | None:
        """What `seconds` has beside the looks: no other cell has use for it."""
        if self.seconds is None:
            return None
        return self.seconds - sum(look.seconds or 0.0 for look in self.looks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A network's outputs of some items, which the cache keeps."""

    key: str
    """The same exactly for the same outputs of the same items."""
    num_bytes: int
    seconds: float | None


def estimate(cell: Cell) -> Estimate:
    """Count what a cell would read, keep and take; measures one batch."""
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
    speed = _measured(cell, assembled, items, settings)
    train_views = protocol.train_views(cell.recipe) * len(gathered.folds)
    if protocol.learns_backbone(cell.recipe):
        # The network changes from fold to fold: nothing is shared or kept of train.
        num_views = num_test_views + gathered.num_train
        shown = passes * gathered.num_train + train_views
        # Of three passes over an item two are its backward pass, which reads nothing.
        read = float(gathered.num_train)
        if not protocol.keeps_train_views:
            read = shown / 3
        tested = tuple(item.id for fold in gathered.folds for item in fold.test.items)
        kept = [(tested, cell.predict_reading)]
        made_by, width, output = key, len(gathered.classes), "logits"
    else:
        kept = _frozen_looks(cell)
        num_views = sum(len(ids) * reading.views.num_views for ids, reading in kept)
        shown, read = train_views, float(train_views)
        made_by, output = assembled.model.digest, protocol.output
        width = assembled.model.feature_width if speed is None else speed.width
    looks = tuple(
        Look(
            key=digest_lines([cell.task_name, made_by, output, repr(reading), *ids]),
            num_bytes=extraction_bytes(
                len(ids), reading, settings, width=width, output=protocol.output
            ),
            seconds=None
            if speed is None
            else len(ids) * reading.views.num_views * (speed.read_seconds + speed.seconds),
        )
        for ids, reading in kept
    )
    seconds = None
    if speed is not None:
        seconds = sum(look.seconds or 0.0 for look in looks)
        seconds += shown * speed.seconds + read * speed.read_seconds
    return Estimate(
        finished=store.find(cell.request.results, key, all_views=keeps_views(cell)) is not None,
        num_train=gathered.num_train,
        num_test=gathered.num_expected,
        num_views=num_views,
        media_bytes=sum(_bytes_of(item.source) for item in items if isinstance(item.source, Path)),
        cache_bytes=sum(look.num_bytes for look in looks),
        cache_room_bytes=None
        if settings.cache_limit_bytes is None
        else max(0, settings.cache_limit_bytes - bytes_in_use(settings.cache_root)),
        view_score_bytes=view_bytes(cell, kept_all=True),
        keeps_views=keeps_views(cell),
        mean_score_bytes=view_bytes(cell, kept_all=False),
        seconds=seconds,
        num_trained=protocol.num_trained(cell.recipe) * len(gathered.folds),
        looks=looks,
    )


def _frozen_looks(cell: Cell) -> list[tuple[tuple[str, ...], Reading]]:
    """Give what a frozen network looks at: which items, how; folds share what they look at."""
    looks: dict[tuple[tuple[str, ...], Reading], None] = {}
    for fold in cell.gathered.folds:
        for item_set, reading in (
            (fold.train, cell.fit_reading),
            (fold.validation, cell.fit_reading),
            (fold.test, cell.predict_reading),
            (fold.test if cell.request.allow_test_selection else None, cell.fit_reading),
        ):
            if item_set is not None:
                ids = tuple(item.id for item in item_set.pool)
                looks[ids, reading] = None
    return list(looks)


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


class _Speed(NamedTuple):
    """What one view takes, of many."""

    read_seconds: float
    seconds: float
    """Of a forward pass in a batch."""
    width: int
    """Floats kept of it."""


def _measured(
    cell: Cell, assembled: Assembled, items: Sequence[Item], settings: Settings
) -> _Speed | None:
    """Read a view of a few items and compute a batch of such, with all that is used warm."""
    reading: Reading = replace(cell.predict_reading, views=Views())
    output: Output = cell.protocol.spec.output
    if output == "logits" and assembled.model.head is None:
        output = "features"  # The run will refuse it, in its own words.
    network = Outputs(assembled.model, reading, settings, output)
    read_seconds: list[float] = []
    for item in items[:5]:
        try:
            read_views(item, reading)
            started = time.perf_counter()
            views = read_views(item, reading)
        except MediaError:
            continue
        read_seconds.append(time.perf_counter() - started)
    if not read_seconds:
        return None
    with torch.inference_mode():
        width = network(views)[0].cpu().numel()
        seconds = _seconds_of(network, views)
        # A network that is slow on one view gains little by more, and is not waited for.
        most = min(settings.batch_size, len(items), int(_MOST_SECONDS / max(seconds, 1e-9)))
        if most > 1:
            batch = views.repeat(most, *[1] * (views.dim() - 1))
            network(batch)
            seconds = _seconds_of(network, batch) / most
    # What else the machine does now and then is not the reading's.
    return _Speed(statistics.median(read_seconds), seconds, width)


def _seconds_of(network: Outputs, views: torch.Tensor) -> float:
    started = time.perf_counter()
    network(views)[0].cpu()  # Waits for the device.
    return time.perf_counter() - started
