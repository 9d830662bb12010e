"""Outputs of more items than memory should hold, read by row from the shards that they lie in.

Nothing is copied before it is asked for: rows are taken from memory maps of the shards, which are
opened for as long as it takes, so that thousands of shards need no thousand open files.

Shape letters: N items, V views; "..." is D, or S x D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rsbench.data.shards import ShardStore
from rsbench.errors import RunError

_ROWS_AT_ONCE = 32
"""Read together where all rows are gone through."""


class ShardRows:
    """A read-only float32 array (N, V, ...) that lies in shards; NaN for items that failed."""

    def __init__(
        self,
        store: ShardStore,
        parts: Sequence[str | np.ndarray],
        *,
        part_N: np.ndarray,
        entry_N: np.ndarray,
        shape: tuple[int, ...],
    ) -> None:
        """Say where each row is.

        Args:
            store: Whose shards they are, checked before.
            parts: Keys of shards in the store; arrays (n, V, ...) of what is not kept there.
            part_N: int64, the part a row lies in; -1 for items that failed.
            entry_N: int64, its place in there.
            shape: (N, V, ...).
        """
        self._store = store
        self._parts = tuple(parts)
        self._part_N = part_N
        self._entry_N = entry_N
        self.shape = shape

    def __len__(self) -> int:
        """Give N."""
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of all of it."""
        return math.prod(self.shape) * np.dtype(np.float32).itemsize

    def __getitem__(self, key: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Read one row, (V, ...), or some, (n, V, ...), in the order asked for: a copy.

        Raises:
            RunError: A shard has been removed meanwhile, or memory can't hold what was asked for.
        """
        asked = np.arange(len(self))[key]
        rows = np.atleast_1d(asked)
        try:
            found = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        except MemoryError as error:
            num_bytes = len(rows) * self.nbytes // len(self)
            raise RunError(
                f"Outputs of {len(rows)} items must be in memory at once here, {num_bytes:,} bytes,"
                " which is more than there is: use --limit, or a protocol that reads them batch by"
                " batch, such as linear_probe_dino."
            ) from error
        part_of = self._part_N[rows]
        order = np.argsort(part_of, kind="stable")
        cuts = np.flatnonzero(np.diff(part_of[order])) + 1
        for places in np.split(order, cuts) if len(rows) else ():
            number = int(part_of[places[0]])
            found[places] = (
                np.nan if number < 0 else self._values(number)[self._entry_N[rows[places]]]
            )
        return found if asked.ndim else found[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Read all of it, for whoever asks for an array."""
        assert copy is not False, "it is a copy"
        return self[:].astype(dtype or np.float32, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read one row after another, (V, ...)."""
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield from self[start : start + _ROWS_AT_ONCE]

    def _values(self, number: int) -> np.ndarray:
        part = self._parts[number]
        return self._store.mapped(part) if isinstance(part, str) else part
