"""Shards put together in the order asked for, each as it comes and dropped then.

What would take more than `LARGEST_IN_MEMORY_BYTES` lies in a nameless file of the cache folder, a
memory map: the system keeps in memory what is looked at, and the file is gone with the array, or
with a process that is killed.

Shape letters: N items asked for, V views, D width of an output, S tokens; "..." is D, or S x D.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsbench.data.shards import Shard
from rsbench.errors import DiskError
from rsbench.specs import Item, MediaFacts

Take = Callable[[Sequence[int], np.ndarray], None]
"""Called with the places of some items among those asked for, (n,), and their float32 (n, V, ...).
"""

LARGEST_IN_MEMORY_BYTES = 2**30
"""Outputs larger than this are a memory map: the features of 130,000 images, 2,048 wide, and the
tokens of a thousand."""


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
        self, plan: Plan, *, num_views: int, num_axes: int, take: Take | None, folder: Path
    ) -> None:
        """Begin with nothing.

        Args:
            plan: Which rows are wanted, in which order.
            num_views: V.
            num_axes: Of an output: 1 for (D,), 2 for (S, D).
            take: Given outputs as they come; None keeps them in `values`.
            folder: Where a memory map's file may lie.
        """
        self.failures: dict[int, str] = {}
        """Reason by place."""
        self.facts: list[MediaFacts | None] = [None] * len(plan.wanted)
        self.values = np.empty((len(plan.wanted), num_views, *[0] * num_axes), dtype=np.float32)
        """(N, V, ...); without width until the first output comes, and where they are taken."""
        self._take = take or self._put
        self._plan = plan
        self._folder = folder
        self._wanted: dict[int, list[tuple[int, int]]] = {}
        for place, row in enumerate(plan.wanted):
            self._wanted.setdefault(plan.shard_of(row), []).append((place, row))
        self._awaited = set(self._wanted)

    def add(self, number: int, shard: Shard) -> None:
        """Take from a shard what is wanted of it; each shard once.

        Raises:
            DiskError: The file of a memory map can't be made.
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
        self._take(places, shard.values[entries])

    def finished(self) -> np.ndarray:
        """Give the outputs (N, V, ...): NaN for items that failed."""
        assert not self._awaited, "every shard wanted was cached or computed"
        if self.values.size:
            self.values[list(self.failures)] = np.nan
        return self.values

    def _put(self, places: Sequence[int], outputs: np.ndarray) -> None:
        if not self.values.size:
            shape = (*self.values.shape[:2], *outputs.shape[2:])
            self.values = _room(shape, self._folder)
        self.values[places] = outputs


def _room(shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """Give float32 room of a shape, in memory or in a file without a name."""
    num_bytes = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    if num_bytes <= LARGEST_IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.float32)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            # Room that is only promised would end a process in the middle of an assignment.
            os.posix_fallocate(stream.fileno(), 0, num_bytes)
            room = mmap.mmap(stream.fileno(), num_bytes)
    except OSError as error:
        raise DiskError(
            f"Can't make room in {folder} for {num_bytes} bytes of outputs, which are more than is"
            f" kept in memory: {error.strerror or error}; free some space or name another cache"
            " folder, then run the same command again."
        ) from error
    return np.frombuffer(room, dtype=np.float32).reshape(shape)
