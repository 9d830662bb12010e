"""Shards put together in the order asked for, each as it comes and dropped then.

What would take more than `LARGEST_IN_MEMORY_BYTES` stays in the shards and is read by row
(`rsbench.data.rows`); of what a limit keeps out of the cache as much again is held in memory.

Shape letters: N items asked for, V views, D width of an output, S tokens; "..." is D, or S x D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rsbench.data.rows import ShardRows
from rsbench.data.shards import Shard, ShardStore
from rsbench.errors import RsbenchError
from rsbench.specs import Item, MediaFacts

Take = Callable[[Sequence[int], np.ndarray], None]
"""Called with the places of some items among those asked for, (n,), and their float32 (n, V, ...).
"""

LARGEST_IN_MEMORY_BYTES = 2**30
"""Outputs larger than this are read from the shards: the features of 130,000 images, 2,048 wide,
and the tokens of 2,700."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a pool is cut into shards, and which rows of it are wanted."""

    items: Sequence[Item]
    wanted: Sequence[int]
    items_per_shard: int

    def shard_of(self, row: int) -> int:
        """Give the number of the shard in which a row of the pool lies."""
        return row // self.items_per_shard

    def rows_of(self, number: int) -> range:
        """Give the rows of the pool that lie in a shard."""
        start = number * self.items_per_shard
        return range(start, min(start + self.items_per_shard, len(self.items)))


class Assembly:
    """What was found so far of the rows wanted."""

    def __init__(
        self, plan: Plan, *, num_views: int, num_axes: int, take: Take | None, store: ShardStore
    ) -> None:
        """Begin with nothing.

        Args:
            plan: Which rows are wanted, in which order.
            num_views: V.
            num_axes: Of an output: 1 for (D,), 2 for (S, D).
            take: Given outputs as they come; None keeps them, or where they lie.
            store: Where shards are kept.
        """
        self.failures: dict[int, str] = {}
        """Reason by place."""
        self.facts: list[MediaFacts | None] = [None] * len(plan.wanted)
        self._values = np.empty((len(plan.wanted), num_views, *[0] * num_axes), dtype=np.float32)
        """(N, V, ...); without width until the first output comes, and where they are taken."""
        self._rows: _Rows | None = None
        """Where outputs lie, if they are too large for `_values`."""
        self._take = take
        self._store = store
        self._plan = plan
        self._wanted: dict[int, list[tuple[int, int]]] = {}
        for place, row in enumerate(plan.wanted):
            self._wanted.setdefault(plan.shard_of(row), []).append((place, row))
        self._awaited = set(self._wanted)

    def add(self, number: int, shard: Shard, *, key: str | None) -> None:
        """Take from a shard what is wanted of it; each shard once.

        Args:
            number: Of the shard.
            shard: What was found.
            key: Its name in the store; None where it is not kept there.

        Raises:
            RsbenchError: More is not kept than memory should hold.
        """
        self._awaited.remove(number)
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
        if self._take is not None:
            self._take(places, shard.values[entries])
            return
        self._make_room(shard.values.shape)
        if self._rows is None:
            self._values[places] = shard.values[entries]
        elif key is not None:
            self._rows.put(places, entries, key)
        else:
            self._rows.put(places, range(len(entries)), shard.values[entries])

    def finished(self) -> np.ndarray | ShardRows:
        """Give the outputs (N, V, ...): NaN for items that failed."""
        assert not self._awaited, "every shard wanted was cached or computed"
        if self._rows is not None:
            return self._rows.finished(self._store)
        if self._values.size:
            self._values[list(self.failures)] = np.nan
        return self._values

    def _make_room(self, shape_of_shard: tuple[int, ...]) -> None:
        if self._values.size or self._rows is not None:
            return
        shape = (*self._values.shape[:2], *shape_of_shard[2:])
        if is_large(shape):
            self._rows = _Rows(shape)
        else:
            self._values = np.empty(shape, dtype=np.float32)


class _Rows:
    """Where rows lie, as far as it is known."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._parts: list[str | np.ndarray] = []
        self._part_N = np.full(shape[0], -1, dtype=np.int64)
        self._entry_N = np.zeros(shape[0], dtype=np.int64)
        self._held_bytes = 0

    def put(self, places: Sequence[int], entries: Sequence[int], part: str | np.ndarray) -> None:
        if not isinstance(part, str):
            self._held_bytes += part.nbytes
            refuse_unless_held(self._held_bytes)
        self._part_N[places] = len(self._parts)
        self._entry_N[places] = entries
        self._parts.append(part)

    def finished(self, store: ShardStore) -> ShardRows:
        return ShardRows(
            store, self._parts, part_N=self._part_N, entry_N=self._entry_N, shape=self._shape
        )


def is_large(shape: Sequence[int]) -> bool:
    """Say whether float32 outputs of a shape are read from the shards, not held in memory."""
    return math.prod(shape) * np.dtype(np.float32).itemsize > LARGEST_IN_MEMORY_BYTES


def refuse_unless_held(num_bytes: int) -> None:
    """Hold what the cache doesn't keep of large outputs to what memory may hold.

    Raises:
        RsbenchError: It is more than `LARGEST_IN_MEMORY_BYTES`.
    """
    if num_bytes > LARGEST_IN_MEMORY_BYTES:
        raise RsbenchError(
            f"At most {LARGEST_IN_MEMORY_BYTES / 2**30:.2f} GiB of the outputs that are learned"
            f" from may lie outside the feature cache, and here it is {num_bytes / 2**30:.2f} GiB:"
            " raise --cache-limit, make room with rsbench cache gc, or run fewer items with"
            " --limit."
        )
