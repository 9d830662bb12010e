"""Items in a few large buffers, so that reader processes share them and start at once.

A forked process shares its parent's memory until either writes to a page, and Python writes to an
object whenever it looks at it (it counts references there). A list of 240,000 items, looked at one
by one, is so copied into every worker within an epoch; a buffer of bytes never is.

Digests of what the items hold lie beside them, 32 bytes an item, so that workers hash nothing; and
beside each the size and time stamps that its file had then: a file that was replaced since has no
known content.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from rsbench.data.fingerprints import Fingerprints
from rsbench.specs import Item

_DIGEST_BYTES = 32


class PackedItems(Sequence[Item]):
    """A sequence of items that are made when they are asked for, without their targets."""

    def __init__(
        self,
        items: Sequence[Item],
        *,
        fingerprints: Fingerprints | None = None,
        rows: Iterable[int] | None = None,
    ) -> None:
        """Pack items; arrays in memory are kept as they are.

        Args:
            items: The examples.
            fingerprints: Gives the content of files and folders; None leaves it unknown.
            rows: Whose content is asked for; None is all.
        """
        packed = [_pack(item) for item in items]
        self._arrays = {
            row: item.source
            for row, item in enumerate(items)
            if isinstance(item.source, np.ndarray)
        }
        self._text = b"".join(packed)
        ends = np.fromiter(itertools.accumulate(map(len, packed)), np.int64, count=len(packed))
        self._bounds = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        self._contents = np.zeros((len(items), _DIGEST_BYTES), dtype=np.uint8)
        self._stamps = np.zeros((len(items), 3), dtype=np.int64)
        if fingerprints is not None:
            for row in range(len(items)) if rows is None else rows:
                if row not in self._arrays:
                    # Before the digest: a change between the two then shows.
                    self._stamps[row] = _stamp(items[row]) or (-1, -1, -1)
                    content = _digest_or_nothing(fingerprints, items[row])
                    self._contents[row] = np.frombuffer(content, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._contents)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        """Give one item, or a list of them; the target is None."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        start, end = self._bounds[row : row + 2].tolist()
        facts = json.loads(self._text[start:end])
        path = facts.pop("source")
        return Item(source=self._arrays[row] if path is None else Path(path), **facts)

    def content(self, row: int) -> str | None:
        """Give the digest of what an item holds, 64 hexadecimal digits.

        None for arrays, for what could not be hashed, where it was not asked for, and where the
        file is not the one any more that was hashed. Who keeps something under this name asks
        again after reading.
        """
        digest: bytes = self._contents[row].tobytes()
        if not any(digest) or _stamp(self[row]) != tuple(self._stamps[row].tolist()):
            return None
        return digest.hex()


def _pack(item: Item) -> bytes:
    facts = {
        "id": item.id,
        "source": None if isinstance(item.source, np.ndarray) else str(item.source),
        "start_seconds": item.start_seconds,
        "end_seconds": item.end_seconds,
        "group": item.group,
        "fps": item.fps,
        "num_frames_listed": item.num_frames_listed,
    }
    # What is None by default is left out; Python's JSON gives every float back to the last bit.
    return json.dumps(
        {name: value for name, value in facts.items() if value is not None or name == "source"}
    ).encode()


def _stamp(item: Item) -> tuple[int, int, int] | None:
    """Give bytes, latest modification and latest change in nanoseconds of a file or folder."""
    assert isinstance(item.source, Path), "arrays have no stamp"
    try:
        facts = [item.source.stat()]
        if item.source.is_dir():
            facts += [path.stat() for path in item.source.rglob("*")]
    except OSError:
        return None
    return (
        sum(each.st_size for each in facts),
        max(each.st_mtime_ns for each in facts),
        max(each.st_ctime_ns for each in facts),
    )


def _digest_or_nothing(fingerprints: Fingerprints, item: Item) -> bytes:
    digest = fingerprints.digest(item.source)
    try:
        content = bytes.fromhex(digest)
    except ValueError:  # "unreadable: ..."
        return bytes(_DIGEST_BYTES)
    return content if len(content) == _DIGEST_BYTES else bytes(_DIGEST_BYTES)
