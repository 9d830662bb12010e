"""Shards of an extraction, computed: from items by way of views to what is kept of them.

A shard holds whole batches of consecutive items of the pool, so that its numbers depend neither on
what else is asked for nor on which process computes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from rsbench.data.assembling import Plan
from rsbench.data.fingerprints import Fingerprints
from rsbench.data.loaders import (
    Batch,
    Lookup,
    ReadFailure,
    batches,
    items_per_batch,
    views_per_item,
)
from rsbench.data.naming import maps_part
from rsbench.data.outputs import Outputs, lay_out
from rsbench.data.readings import reading_facts
from rsbench.data.shards import Shard
from rsbench.digests import digest_json, digest_lines
from rsbench.specs import Item, MediaFacts, Model, Output, Reading, Settings

VIEWS_PER_SHARD = 64
"""What a killed process may have to compute again. A shard costs one fsync beside
seconds of computing 64 views on a CPU."""

VIEWS_PER_SHARD_ON_A_GPU = 1024
"""The same where 64 views take less time than a fsync. Tokens, a hundred times as large, stay at
the smaller number."""

_FORMAT = 2
"""Raised whenever this file, the loaders or the transforms would give other numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A frozen network that looks at items in one way."""

    model: Model
    reading: Reading
    settings: Settings
    output: Output

    @property
    def items_per_shard(self) -> int:
        """Whole batches of items, at least one."""
        return items_per_shard(self.reading, self.settings, output=self.output)

    @property
    def key(self) -> str:
        """Name of all that the numbers of every shard depend on, beside its items."""
        shared = {
            "format": _FORMAT,
            "model": self.model.digest,
            **maps_part(self.model, self.output),
            "output": self.output,
            "reading": reading_facts(self.reading),
            "precision": self.settings.precision,
            "batch_size": self.settings.batch_size,
            "device": _device_kind(self.settings),
        }
        return digest_json(shared)


def items_per_shard(reading: Reading, settings: Settings, *, output: Output) -> int:
    """Say how many items share a shard: those of whole batches, of at least one."""
    is_fast = torch.device(settings.device).type == "cuda" and output != "tokens"
    most_views = VIEWS_PER_SHARD_ON_A_GPU if is_fast else VIEWS_PER_SHARD
    batch = items_per_batch(reading, settings)
    return batch * max(1, most_views // (batch * views_per_item(reading)))


class Computed(NamedTuple):
    """One shard, new."""

    number: int
    shard: Shard
    lasting: bool
    """Whether its failures lie in the items' content."""


class Clock:
    """How long an extraction took, and how long of it the network waited for views."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.seconds = 0.0
        self.seconds_waited = 0.0

    def timed(self, computed: Iterator[Computed]) -> Iterator[Computed]:
        """Give the same, counting the time in which it is made."""
        while True:
            started = time.perf_counter()
            found = next(computed, None)
            self.seconds += time.perf_counter() - started
            if found is None:
                return
            yield found

    def waiting(self, read: Iterator[Batch]) -> Iterator[Batch]:
        """Give the same, counting the time that is waited for it."""
        while True:
            started = time.perf_counter()
            batch = next(read, None)
            self.seconds_waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def shard_key(plan: Plan, number: int, common: str, fingerprints: Fingerprints) -> str:
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


def pool_key(items: Sequence[Item]) -> str:
    """Name the items of a pool by their ids, whatever they hold."""
    return digest_lines(item.id for item in items)


def look_up(plan: Plan, numbers: Sequence[int], look: Look) -> Lookup | None:
    """Look up the items of some shards once; None where there is nothing to read."""
    rows = sorted(row for number in numbers for row in plan.rows_of(number))
    if not rows:
        return None
    return Lookup(plan.items, look.reading, look.settings, rows=rows, is_random=False)


def computed(
    plan: Plan, numbers: Sequence[int], look: Look, lookup: Lookup | None, *, clock: Clock
) -> Iterator[Computed]:
    """Compute shards in the order asked for.

    Args:
        plan: How the pool is cut.
        numbers: Which shards.
        look: The network, in eval mode, and how it looks.
        lookup: Made for the items of these shards and perhaps others; None where there are none.
        clock: Told how long the network waited for views.

    Raises:
        RunError: A worker died.
        RsbenchError: The reading itself is at fault, or the network has no such output.
    """
    if lookup is None:
        return
    lay_out(look.model.module)
    run = Outputs(look.model, look.reading, look.settings, look.output)
    rows = [row for number in numbers for row in plan.rows_of(number)]
    values: list[torch.Tensor] = []
    failures: list[ReadFailure] = []
    facts: list[MediaFacts] = []
    num_seen = 0
    read = batches(plan.items, look.reading, look.settings, rows=rows, lookup=lookup)
    for batch in clock.waiting(read):
        seen = sorted([*batch.rows, *(failure.row for failure in batch.failures)])
        assert seen == rows[num_seen : num_seen + len(seen)], "a batch holds the rows asked for"
        number = plan.shard_of(rows[num_seen])
        values.extend(_by_item(batch, run))
        failures.extend(batch.failures)
        facts.extend(batch.facts)
        num_seen += len(seen)
        if num_seen == len(rows) or plan.shard_of(rows[num_seen]) != number:
            start = plan.rows_of(number).start
            shard = Shard(
                values=_fetched(values, look.output),
                failures={failure.row - start: failure.reason for failure in failures},
                facts=tuple(facts),
            )
            assert len(shard.values) + len(failures) == len(plan.rows_of(number))
            yield Computed(number, shard, all(failure.lasting for failure in failures))
            values, failures, facts = [], [], []
    assert num_seen == len(rows), "every row asked for is read"


def _device_kind(settings: Settings) -> str:
    device = torch.device(settings.device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _by_item(batch: Batch, run: Outputs) -> list[torch.Tensor]:
    """Run the network over the views of a batch: some items' outputs, (n, V, ...) each."""
    if isinstance(batch.views, list):
        return [run(views)[None] for views in batch.views]
    num_items, num_views = batch.views.shape[:2]
    flat = run(batch.views.flatten(0, 1))
    return [flat.reshape(num_items, num_views, *flat.shape[1:])]


def _fetched(values: Sequence[torch.Tensor], output: Output) -> np.ndarray:
    """Bring a shard's outputs from the device at once: one wait for it a shard, not one a batch."""
    if not values:
        return np.empty((0, 0, 0, 0) if output == "tokens" else (0, 0, 0), dtype=np.float32)
    return torch.cat(list(values)).cpu().numpy()
