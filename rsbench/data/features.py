"""What a frozen network makes of items: features or logits of each view, kept in shards.

Each number is computed once. A shard holds whole batches of consecutive items of the pool and is
named by content: the network, the reading, the decoder, the items' bytes, and what bit-identity
needs besides (batch, precision, threads, device). So an extraction that was killed goes on at the
shard it was at, folds of one pool share what they have in common, and a file that changes takes
only its own shard with it.

Shape letters: N items, V views of an item, C channels, D width of the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from rsbench.data.fingerprints import Fingerprints
from rsbench.data.loaders import (
    Batch,
    Lookup,
    ReadFailure,
    batches,
    dead_workers_named,
    items_per_batch,
    views_per_item,
)
from rsbench.data.readings import reading_facts
from rsbench.data.shards import Shard, ShardStore
from rsbench.digests import digest_json
from rsbench.media import transforms
from rsbench.specs import Item, MediaFacts, Model, Reading, Settings

Output = Literal["features", "logits"]
"""What is kept of a view: the pooled features (D wide), or the outputs of the model's head (K)."""

Take = Callable[[Sequence[int], np.ndarray], None]
"""Called with the places of some items among those asked for, (n,), and their float32 (n, V, D)."""

VIEWS_PER_SHARD = 64
"""What a killed process may have to compute again. A shard costs one fsync beside
seconds of computing 64 views on a CPU."""

_FORMAT = 2
"""Raised whenever this file, the loaders or the transforms would give other numbers."""

_SHARD_OVERHEAD_BYTES = 300
"""Header of a shard: sha256, shape, names of the fields."""

_ITEM_OVERHEAD_BYTES = 20
"""Facts of an item in it: frames, rate, height, width."""

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Extracted:
    """The output for each view of each item asked for."""

    values: np.ndarray
    """float32 (N, V, D), in the order asked for; rows of NaN for items that failed. Without width
    where they were taken as they came."""
    failures: Mapping[int, str]
    """Reason by place among the items asked for, for those that could not be read."""
    facts: tuple[MediaFacts | None, ...]
    """What reading found of each, (N,); None for those that failed."""
    seconds: float
    """Wall clock, reading included; next to nothing where all shards were there."""
    num_bytes: int
    """Size of `values`."""

    @property
    def readable(self) -> np.ndarray:
        """Places of the items that could be read, int64, rising."""
        places = [place for place in range(len(self.values)) if place not in self.failures]
        return np.array(places, dtype=np.int64)


def extract(
    model: Model,
    items: Sequence[Item],
    reading: Reading,
    settings: Settings,
    *,
    output: Output,
    rows: Sequence[int] | None = None,
    take: Take | None = None,
) -> Extracted:
    """Run a frozen network over items, or take from the cache what it gave before.

    The numbers depend on the pool only through the composition of batches (to about 1e-6), never on
    `rows`, workers, or how often the extraction was interrupted.

    Args:
        model: The network, in eval mode.
        items: The pool; folds of one task give the same one.
        reading: Which views.
        settings: Device, batch, workers, precision, cache.
        output: What to keep of a view on disk. "logits" needs `model.head`.
        rows: Which items of the pool are wanted, in order; None is all.
        take: Given the outputs of a few items at a time, in any order, where not all are to lie in
            memory at once; None keeps them in `Extracted.values`.

    Raises:
        RunError: A worker died, or the cache can't be written.
        RsbenchError: The reading itself is at fault, whatever the item.
    """
    assert not any(module.training for module in model.module.modules()), "must be in eval mode"
    assert reading.read is None or reading.read_key, "a task's own reader must be named"
    started = time.perf_counter()
    wanted = tuple(range(len(items))) if rows is None else tuple(rows)
    plan = _Plan(items=items, wanted=wanted, items_per_shard=_items_per_shard(reading, settings))
    store = ShardStore(settings.cache_root / "shards")
    common = _common_key(model, reading, settings, output=output)
    fingerprints = Fingerprints(settings.cache_root / "fingerprints")
    keys = {
        number: _shard_key(plan, number, common, fingerprints)
        for number in sorted({plan.shard_of(row) for row in plan.wanted})
    }
    assembly = _Assembly(plan, num_views=views_per_item(reading), take=take)
    missing = []
    doubtful: dict[int, Mapping[int, str]] = {}
    num_done = 0
    for number, key in keys.items():
        shard = store.load(key)
        if shard is None:
            missing.append(number)
        elif shard.failures:
            first = plan.rows_of(number).start
            doubtful[number] = {first + each: why for each, why in shard.failures.items()}
        else:
            assembly.add(number, shard)
            num_done += len(plan.rows_of(number))
    lookup = _look_up(plan, [*missing, *doubtful], reading, settings)
    if lookup is not None:
        for number in _confirmed(plan, doubtful, reading, settings, lookup):
            shard = store.load(keys[number])
            if shard is not None:
                assembly.add(number, shard)
                num_done += len(plan.rows_of(number))
                del doubtful[number]
    missing = sorted([*missing, *doubtful])
    num_all = sum(len(plan.rows_of(number)) for number in keys)
    stage = "extract features" if output == "features" else "predict"
    settings.progress(stage, num_done, num_all)
    _lay_out(model.module)
    with torch.inference_mode(), dead_workers_named():
        computed = _computed(plan, missing, model, reading, settings, lookup, output=output)
        for number, shard, lasting in computed:
            # A file that was replaced meanwhile has no part in a shard named by the old one.
            if lasting and keys[number] == _shard_key(plan, number, common, fingerprints):
                store.save(keys[number], shard)
            assembly.add(number, shard)
            num_done += len(plan.rows_of(number))
            settings.progress(stage, num_done, num_all)
    values = assembly.values
    return Extracted(
        values=values,
        failures=dict(sorted(assembly.failures.items())),
        facts=tuple(assembly.facts),
        seconds=time.perf_counter() - started,
        num_bytes=values.nbytes,
    )


def extraction_bytes(num_items: int, reading: Reading, settings: Settings, *, width: int) -> int:
    """Say how much disk an extraction takes: N x V x `width` floats and the shards' headers.

    Args:
        num_items: Items of the pool that will be read.
        reading: Which views.
        settings: Their batch size decides how many items share a shard.
        width: Width of the features, or number of classes.
    """
    num_shards = -(-num_items // _items_per_shard(reading, settings))
    num_values = num_items * views_per_item(reading) * width
    headers = num_shards * _SHARD_OVERHEAD_BYTES + num_items * _ITEM_OVERHEAD_BYTES
    return num_values * np.dtype(np.float32).itemsize + headers


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """How a pool is cut into shards, and which rows of it are wanted."""

    items: Sequence[Item]
    wanted: Sequence[int]
    items_per_shard: int

    def shard_of(self, row: int) -> int:
        return row // self.items_per_shard

    def rows_of(self, number: int) -> range:
        start = number * self.items_per_shard
        return range(start, min(start + self.items_per_shard, len(self.items)))


def _items_per_shard(reading: Reading, settings: Settings) -> int:
    batch = items_per_batch(reading, settings)
    return batch * max(1, VIEWS_PER_SHARD // (batch * views_per_item(reading)))


def _common_key(model: Model, reading: Reading, settings: Settings, *, output: Output) -> str:
    """Name all that the numbers of every shard depend on."""
    shared = {
        "format": _FORMAT,
        "model": model.digest,
        "output": output,
        "reading": reading_facts(reading),
        "precision": settings.precision,
        "batch_size": settings.batch_size,
        "device": _device_kind(settings),
    }
    return digest_json(shared)


def _shard_key(plan: _Plan, number: int, common: str, fingerprints: Fingerprints) -> str:
    """Name a shard by all that its numbers depend on, its items' content as it is now."""
    content = [
        [
            item.id,
            fingerprints.digest(item.source),
            item.start_seconds,
            item.end_seconds,
            item.fps,
            item.num_frames_listed,
        ]
        for item in (plan.items[row] for row in plan.rows_of(number))
    ]
    return digest_json([common, content])


def _look_up(
    plan: _Plan, numbers: Sequence[int], reading: Reading, settings: Settings
) -> Lookup | None:
    """Look up the items of some shards once; None where there is nothing to read."""
    rows = sorted(row for number in numbers for row in plan.rows_of(number))
    if not rows:
        return None
    return Lookup(plan.items, reading, settings, rows=rows, is_random=False)


def _confirmed(
    plan: _Plan,
    doubtful: Mapping[int, Mapping[int, str]],
    reading: Reading,
    settings: Settings,
    lookup: Lookup,
) -> list[int]:
    """Give the shards whose failed items fail still, in the same words.

    The failures that a shard remembers are asked for again: of the quarantine, which says that it
    was asked, or else of the files.
    """
    expected = {row: why for failures in doubtful.values() for row, why in failures.items()}
    found = {
        failure.row: failure.reason
        for batch in batches(plan.items, reading, settings, rows=sorted(expected), lookup=lookup)
        for failure in batch.failures
    }
    return [
        number
        for number, failures in doubtful.items()
        if all(found.get(row) == why for row, why in failures.items())
    ]


def _device_kind(settings: Settings) -> str:
    device = torch.device(settings.device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _computed(
    plan: _Plan,
    numbers: Sequence[int],
    model: Model,
    reading: Reading,
    settings: Settings,
    lookup: Lookup | None,
    *,
    output: Output,
) -> Iterator[tuple[int, Shard, bool]]:
    """Compute shards in order, and say of each whether its failures lie in the items' content."""
    rows = [row for number in numbers for row in plan.rows_of(number)]
    values: list[np.ndarray] = []
    failures: list[ReadFailure] = []
    facts: list[MediaFacts] = []
    num_seen = 0
    if lookup is None:
        return
    for batch in batches(plan.items, reading, settings, rows=rows, lookup=lookup):
        read = sorted([*batch.rows, *(failure.row for failure in batch.failures)])
        assert read == rows[num_seen : num_seen + len(read)], "a batch holds the rows asked for"
        number = plan.shard_of(rows[num_seen])
        values.extend(_outputs(batch, model, reading, settings, output=output))
        failures.extend(batch.failures)
        facts.extend(batch.facts)
        num_seen += len(read)
        if num_seen == len(rows) or plan.shard_of(rows[num_seen]) != number:
            start = plan.rows_of(number).start
            shard = Shard(
                values=np.stack(values) if values else np.empty((0, 0, 0), dtype=np.float32),
                failures={failure.row - start: failure.reason for failure in failures},
                facts=tuple(facts),
            )
            assert len(values) + len(failures) == len(plan.rows_of(number))
            yield number, shard, all(failure.lasting for failure in failures)
            values, failures, facts = [], [], []
    assert num_seen == len(rows), "every row asked for is read"


def _outputs(
    batch: Batch, model: Model, reading: Reading, settings: Settings, *, output: Output
) -> list[np.ndarray]:
    """Run the network over the views of a batch: one float32 (V, D) an item."""
    if isinstance(batch.views, list):
        return [_run(views, model, reading, settings, output=output) for views in batch.views]
    num_items, num_views = batch.views.shape[:2]
    flat = _run(batch.views.flatten(0, 1), model, reading, settings, output=output)
    return list(flat.reshape(num_items, num_views, -1))


def _run(
    views: torch.Tensor, model: Model, reading: Reading, settings: Settings, *, output: Output
) -> np.ndarray:
    """Run the network over views (n, C, ...), at most a batch at a time: float32 (n, D)."""
    chunks = []
    for chunk in torch.split(views, settings.batch_size):
        on_device = chunk.to(settings.device, non_blocking=True)
        # What a task reads itself is the network's input as it is.
        inputs = (
            on_device.float()
            if reading.read is not None
            else transforms.normalise(on_device, reading.input)
        )
        with _autocast(settings):
            outputs = model.module(inputs)
            if output == "logits":
                assert model.head is not None, "logits need a head"
                outputs = model.head(outputs)
        chunks.append(outputs.float())
    return torch.cat(chunks).cpu().numpy()


def _autocast(settings: Settings) -> AbstractContextManager[Any]:
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(settings.device).type, _AUTOCAST[settings.precision])


def _lay_out(module: nn.Module) -> None:
    """Give 2D networks the layout that a GPU's matrix units are made for.

    On a CPU it depends: 0.90 times the speed for ResNet-RS-50 at 64 pixels, 1.04 at 160 (one
    thread); outputs differ by less than 1e-6 of the largest.
    """
    if all(parameter.dim() < 5 for parameter in module.parameters()):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _Assembly:
    """Shards put together in the order asked for, each as it comes and dropped then."""

    def __init__(self, plan: _Plan, *, num_views: int, take: Take | None) -> None:
        self.failures: dict[int, str] = {}
        self.facts: list[MediaFacts | None] = [None] * len(plan.wanted)
        self.values = np.empty((len(plan.wanted), num_views, 0), dtype=np.float32)
        self._take = take or self._put
        self._plan = plan
        self._wanted: dict[int, list[tuple[int, int]]] = {}
        for place, row in enumerate(plan.wanted):
            self._wanted.setdefault(plan.shard_of(row), []).append((place, row))

    def add(self, number: int, shard: Shard) -> None:
        rows = self._plan.rows_of(number)
        readable = [row for position, row in enumerate(rows) if position not in shard.failures]
        entry_of = {row: entry for entry, row in enumerate(readable)}
        places, entries = [], []
        for place, row in self._wanted[number]:
            if row not in entry_of:
                self.failures[place] = shard.failures[row - rows.start]
                continue
            places.append(place)
            entries.append(entry_of[row])
            self.facts[place] = shard.facts[entry_of[row]]
        if not places:
            return
        self._take(places, shard.values[entries])

    def _put(self, places: Sequence[int], outputs_NVD: np.ndarray) -> None:
        if self.values.shape[2] == 0:
            shape = (*self.values.shape[:2], outputs_NVD.shape[2])
            self.values = np.full(shape, np.nan, dtype=np.float32)
        self.values[places] = outputs_NVD
