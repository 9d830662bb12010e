"""What a frozen network makes of items: features or logits of each view, kept in shards.

Each number is computed once. A shard holds whole batches of consecutive items of the pool and is
named by content: the network, the reading, the decoder, the items' bytes, and what bit-identity
needs besides (batch, precision, threads, device). So an extraction that was killed goes on at the
shard it was at, folds of one pool share what they have in common, and a file that changes takes
only its own shard with it. Nothing is written twice: what memory should not hold is read by row
from the shards themselves, and what a limit keeps out of the cache is handed on or held in memory.

Several processes take shards in turn (`rsbench.data.sharing`); each is computed by one of them from
whole batches, so the numbers are the same however many there are.

Shape letters: N items, V views of an item, C channels, S tokens, D width of the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from rsbench.data import extractions
from rsbench.data.assembling import Assembly, Plan, Take
from rsbench.data.computing import (
    Clock,
    Computed,
    Look,
    computed,
    items_per_shard,
    look_up,
    pool_key,
    shard_key,
)
from rsbench.data.fingerprints import Fingerprints
from rsbench.data.keeping import Keeper
from rsbench.data.loaders import Lookup, batches, dead_workers_named, views_per_item
from rsbench.data.outputs import tell_if_emulated
from rsbench.data.rows import ShardRows
from rsbench.data.shards import Shard, ShardStore
from rsbench.data.sharing import computed_by_all, order_of
from rsbench.specs import Extraction, Item, MediaFacts, Model, Reading, Settings
from rsbench.specs import Output as Output

_SHARD_OVERHEAD_BYTES = 300
"""Header of a shard: sha256, shape, names of the fields."""

_ITEM_OVERHEAD_BYTES = 20
"""Facts of an item in it: frames, rate, height, width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extracted:
    """The output for each view of each item asked for."""

    values: np.ndarray | ShardRows
    """float32 (N, V, D), for tokens (N, V, S, D), in the order asked for; rows of NaN for items
    that failed. Without width where they were taken as they came. An array up to 1 GiB; what is
    larger is read by row from the shards, `values[rows]`, and can't be changed."""
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
        RsbenchError: The reading itself is at fault, whatever the item; or a limit keeps out of the
            cache what memory should not hold.
    """
    assert not any(module.training for module in model.module.modules()), "must be in eval mode"
    assert reading.read is None or reading.read_key, "a task's own reader must be named"
    started = time.perf_counter()
    wanted = tuple(range(len(items))) if rows is None else tuple(rows)
    look = Look(model=model, reading=reading, settings=settings, output=output)
    plan = Plan(items=items, wanted=wanted, items_per_shard=look.items_per_shard)
    common = look.key
    fingerprints = Fingerprints(settings.cache_root / "fingerprints")
    keys = {
        number: shard_key(plan, number, common, fingerprints)
        for number in sorted({plan.shard_of(row) for row in plan.wanted})
    }
    store = ShardStore(settings.cache_root / extractions.SHARDS)
    assembly = Assembly(
        plan,
        num_views=views_per_item(reading),
        num_axes=2 if output == "tokens" else 1,
        take=take,
        store=store,
    )
    num_all = sum(len(plan.rows_of(number)) for number in keys)
    stage = "predict" if output == "logits" else "extract features"
    num_done = num_cached = num_computed = 0

    def count_cached(number: int, shard: Shard) -> None:
        nonlocal num_done, num_cached
        assembly.add(number, shard, key=keys[number])
        num_done += len(plan.rows_of(number))
        num_cached += len(shard.values)

    missing, lookup = _take_cached(plan, keys, look, store, count_cached)
    _tell_damaged(store, settings)
    if missing:
        tell_if_emulated(settings)
    settings.progress(stage, num_done, num_all)
    keeper = Keeper(store, settings, is_needed=bool(missing))
    if keeper.has_room or num_cached:
        _note(plan, keys, look)
    clock = Clock()

    def share(numbers: Sequence[int]) -> Iterator[Computed]:
        return computed(plan, numbers, look, lookup, clock=clock)

    by_all = computed_by_all(order_of(look, items, missing), share, settings)
    with torch.inference_mode(), dead_workers_named(), closing(by_all):
        for number, shard, lasting in clock.timed(by_all):
            keeper.foresee(shard, plan, missing, streams=take is not None)
            # A file that was replaced meanwhile has no part in a shard named by the old one.
            is_named = lasting and keys[number] == shard_key(plan, number, common, fingerprints)
            is_kept = is_named and keeper.keep(keys[number], shard)
            assembly.add(number, shard, key=keys[number] if is_kept else None)
            num_computed += len(shard.values)
            num_done += len(plan.rows_of(number))
            settings.progress(stage, num_done, num_all)
    num_views = views_per_item(reading)
    settings.extracted(
        Extraction(
            views_computed=num_computed * num_views,
            views_cached=num_cached * num_views,
            seconds=clock.seconds,
            seconds_waited=clock.seconds_waited,
        )
    )
    values = assembly.finished()
    return Extracted(
        values=values,
        failures=dict(sorted(assembly.failures.items())),
        facts=tuple(assembly.facts),
        seconds=time.perf_counter() - started,
        num_bytes=values.nbytes,
    )


def extraction_bytes(
    num_items: int,
    reading: Reading,
    settings: Settings,
    *,
    width: int,
    output: Output = "features",
) -> int:
    """Say how much disk an extraction takes: N x V x `width` floats and the shards' headers.

    Args:
        num_items: Items of the pool that will be read.
        reading: Which views.
        settings: Their batch size and device decide how many items share a shard.
        width: Width of the features, or number of classes; of tokens S x D.
        output: What is kept.
    """
    num_shards = -(-num_items // items_per_shard(reading, settings, output=output))
    num_values = num_items * views_per_item(reading) * width
    headers = num_shards * _SHARD_OVERHEAD_BYTES + num_items * _ITEM_OVERHEAD_BYTES
    return num_values * np.dtype(np.float32).itemsize + headers


def _take_cached(
    plan: Plan,
    keys: Mapping[int, str],
    look: Look,
    store: ShardStore,
    take: Callable[[int, Shard], None],
) -> tuple[list[int], Lookup | None]:
    """Hand on the shards that are whole; give the numbers of the others and what to read them with.

    A shard that remembers failures is taken if they are found again, else computed again.
    """
    missing = []
    doubtful: dict[int, Mapping[int, str]] = {}
    for number, key in keys.items():
        shard = store.load(key)
        if shard is None:
            missing.append(number)
        elif shard.failures:
            first = plan.rows_of(number).start
            doubtful[number] = {first + each: why for each, why in shard.failures.items()}
        else:
            take(number, shard)
    lookup = look_up(plan, [*missing, *doubtful], look)
    if lookup is not None:
        for number in _confirmed(plan, doubtful, look, lookup):
            shard = store.load(keys[number])
            if shard is not None:
                take(number, shard)
                del doubtful[number]
    return sorted([*missing, *doubtful]), lookup


def _tell_damaged(store: ShardStore, settings: Settings) -> None:
    damaged = list(dict.fromkeys(store.damaged))
    if damaged:
        what = "1 shard" if len(damaged) == 1 else f"{len(damaged)} shards"
        settings.say(
            f"{what} of the feature cache {'is' if len(damaged) == 1 else 'are'} not as written and"
            f" will be computed again: {damaged[0]}{', ...' if len(damaged) > 1 else ''}"
        )


def _note(plan: Plan, keys: Mapping[int, str], look: Look) -> None:
    """Write into the index for whom these shards are."""
    reading, settings = look.reading, look.settings
    entry = extractions.Entry(
        made_for=dict(settings.cached_for),
        output=look.output,
        reading={
            "modality": reading.modality,
            "frames": reading.clip.frames,
            "pixels": reading.input.pixels,
            "views": views_per_item(reading),
        },
        precision=settings.precision,
        num_items=len(plan.items),
        shards={str(number): key for number, key in keys.items()},
    )
    extractions.note(settings.cache_root, entry, name=(look.key, pool_key(plan.items)))


def _confirmed(
    plan: Plan,
    doubtful: Mapping[int, Mapping[int, str]],
    look: Look,
    lookup: Lookup,
) -> list[int]:
    """Give the shards whose failed items fail still, in the same words.

    The failures that a shard remembers are asked for again: of the quarantine, which says that it
    was asked, or else of the files.
    """
    expected = {row: why for failures in doubtful.values() for row, why in failures.items()}
    found = {
        failure.row: failure.reason
        for batch in batches(
            plan.items, look.reading, look.settings, rows=sorted(expected), lookup=lookup
        )
        for failure in batch.failures
    }
    return [
        number
        for number, failures in doubtful.items()
        if all(found.get(row) == why for row, why in failures.items())
    ]
