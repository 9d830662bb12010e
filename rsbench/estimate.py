"""What a run would do and cost, without doing it: `rsbench run --dry-run`.

Two things are measured: reading and a forward pass of some views, and where the network learns a
training step of a batch. What is drawn on views in training (RandAugment), what is averaged after a
step, and `torch.compile` are not.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from rsbench.assembly import Assembled
from rsbench.cells import Cell, assemble_cell, settings_of
from rsbench.data.extractions import bytes_in_use
from rsbench.data.features import extraction_bytes
from rsbench.data.loaders import read_views
from rsbench.data.outputs import Outputs
from rsbench.digests import digest_lines
from rsbench.errors import MediaError, RsbenchError
from rsbench.media import transforms
from rsbench.recording import content_of, keeps_views, key_of, ruler_of, view_bytes
from rsbench.records import store
from rsbench.specs import Item, Output, Reading, Scalar, Settings, Views
from rsbench.training.machine import Machine, as_laid_out, autocast, laid_out, repeatable
from rsbench.training.memory import is_out_of_memory

_MOST_SECONDS = 5.0
"""A batch is cut to what takes about so long to compute."""

_LONG_STEP_SECONDS = 1.0
"""A training step that takes so long has nothing to gain by more examples at once."""


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
    train_steps: int
    """Batches that the network learns from, in all folds and trainings together; 0 where it stays
    as it is."""
    train_seconds: float | None
    """Part of `seconds` that goes to these, on one device; None likewise."""
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


Speeds = MutableMapping[Hashable, "Speed | None"]
"""What was measured of a network and its reading, by what it hangs on."""


def estimate(cell: Cell, *, speeds: Speeds | None = None, num_processes: int = 1) -> Estimate:
    """Count what a cell would read, keep and take; measures one batch.

    Args:
        cell: What would run.
        speeds: What was measured for other cells, which is not measured again; gains what is.
        num_processes: That would run it, by which some finished runs are told from others.
    """
    gathered = cell.gathered
    views = cell.predict_reading.views.num_views
    protocol = cell.protocol.spec
    passes = protocol.train_passes(cell.recipe) if protocol.trains else 0.0
    num_test_views = gathered.num_expected * views
    assembled = assemble_cell(cell)
    content = content_of(cell)
    ruler = ruler_of(cell, content)
    key = key_of(cell, assembled, ruler, content, num_processes=num_processes)
    settings = settings_of(cell.request, key)
    items = _distinct_items(cell)
    speeds = {} if speeds is None else speeds
    measured_on = _measured_on(cell)
    if measured_on not in speeds:
        speeds[measured_on] = _measured(cell, assembled, items, settings)
    speed = speeds[measured_on]
    train_views = protocol.train_views(cell.recipe) * len(gathered.folds)
    learns = protocol.learns_backbone(cell.recipe)
    if learns:
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
    seconds = train_seconds = None
    if speed is not None:
        seconds = sum(look.seconds or 0.0 for look in looks)
        if learns:
            train_seconds = _training_seconds(shown / 3, read, speed, settings)
            seconds += train_seconds
        else:
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
        train_steps=math.ceil(shown / 3 / _batch_of(cell.recipe)) if learns else 0,
        train_seconds=train_seconds,
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


def _training_seconds(learned: float, read: float, speed: Speed, settings: Settings) -> float:
    """Give the time of learning from so many examples; workers read while the network learns."""
    computing, reading = learned * speed.step_seconds, read * speed.read_seconds
    if settings.num_workers == 0:
        return computing + reading
    return max(computing, reading / settings.num_workers)


def _batch_of(recipe: Mapping[str, Scalar]) -> int:
    """Give the examples of a training step: one entry that all recipes which train call alike."""
    size = recipe.get("batch_size", 1)
    return size if isinstance(size, int) and size > 0 else 1


def _at_once(recipe: Mapping[str, Scalar]) -> int:
    """Give the examples that go through the network together."""
    part = recipe.get("examples_at_once", 0)
    return part if isinstance(part, int) and part > 0 else _batch_of(recipe)


class Speed(NamedTuple):
    """What one view takes, of many."""

    read_seconds: float
    seconds: float
    """Of a forward pass in a batch."""
    width: int
    """Floats kept of it."""
    step_seconds: float
    """Of a training step, where the network learns, for each example of it; else 0."""


def _measured_on(cell: Cell) -> Hashable:
    """Give all that the speed of a cell hangs on; cells that share it are measured once."""
    recipe, request = cell.recipe, cell.request
    return (
        cell.task_name,
        request.data,
        cell.backbone.spec.name,
        cell.weights.name,
        repr(cell.predict_reading),
        (request.device, request.precision, request.batch_size),
        cell.protocol.spec.output,
        cell.protocol.spec.learns_backbone(recipe),
        (_at_once(recipe), recipe.get("train_pixels", 0)),
    )


def _measured(
    cell: Cell, assembled: Assembled, items: Sequence[Item], settings: Settings
) -> Speed | None:
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
    step_seconds = 0.0
    if cell.protocol.spec.learns_backbone(cell.recipe):
        step_seconds = _step_seconds(cell, assembled, views, settings)
    # What else the machine does now and then is not the reading's.
    return Speed(statistics.median(read_seconds), seconds, width, step_seconds)


def _seconds_of(network: Outputs, views: torch.Tensor) -> float:
    started = time.perf_counter()
    network(views)[0].cpu()  # Waits for the device.
    return time.perf_counter() - started


def _step_seconds(
    cell: Cell, assembled: Assembled, views: torch.Tensor, settings: Settings
) -> float:
    """Time training steps of a copy of the network on more and more copies of a view.

    It ends at what goes through the network together, at what fits into memory, or at what takes
    too long to wait for.

    Args:
        cell: What would run.
        assembled: Its network, which stays as it is.
        views: Of one item, (V, C, H, W) or (V, C, T, H, W).
        settings: Device and precision.

    Returns:
        Seconds for each example of the largest batch that was timed.
    """
    inputs = _inputs(cell, views[:1], settings)
    network = copy.deepcopy(assembled.model.module).requires_grad_(True).train()
    learning = [each for each in network.parameters() if each.requires_grad]
    # At a rate of nought it costs the same, and no value can leave its range.
    optimizer = torch.optim.SGD(learning, lr=0.0, momentum=0.9)
    machine = Machine(device=settings.device, precision=settings.precision)
    # Batch norm can't train on one example of a single place.
    num_examples = 2
    found: float | None = None
    with laid_out(network), repeatable():
        while True:
            batch = as_laid_out(inputs.repeat(num_examples, *[1] * (inputs.dim() - 1)))
            try:
                train_step(network, optimizer, batch, machine)
                started = time.perf_counter()
                train_step(network, optimizer, batch, machine)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                break
            seconds = time.perf_counter() - started
            found = seconds / num_examples
            num_examples *= 2
            if num_examples > _at_once(cell.recipe) or seconds > _LONG_STEP_SECONDS:
                break
    if found is None:
        raise RsbenchError(
            f"{cell.backbone.spec.name} must fit into the memory of {settings.device} with at least"
            " two examples to be trained, and it does not: lower --pixels or --frames."
        )
    return found


def _inputs(cell: Cell, views: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Give what the network maps of views, at the side that it is trained on."""
    on_device = views.to(settings.device)
    if cell.predict_reading.read is not None:
        return on_device.float()
    inputs = transforms.normalise(on_device, cell.input)
    side = cell.recipe.get("train_pixels", 0)
    if isinstance(side, int) and side > 0:
        shape = (*inputs.shape[2:-2], side, side)
        inputs = torch.nn.functional.interpolate(inputs, shape)
    return inputs


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor, machine: Machine
) -> None:
    """Take a training step as far as its time goes: forward, backward, update; wait for its end."""
    optimizer.zero_grad()
    with autocast(machine):
        features = network(batch)
    loss = features.float().square().mean()
    loss.backward()
    optimizer.step()
    loss.item()
