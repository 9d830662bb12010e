"""Content-addressed shards: pieces of an extraction that are written whole, checked, and reused.

A shard is a safetensors file named by the digest of everything its numbers depend on. It carries
the sha256 of its own content: one that was cut short or changed is computed again like one that is
absent, and told from it. Files are written beside their place and moved into it, so a killed
process leaves whole shards only, and two processes that write the same shard leave one of two equal
files. Values are mapped into memory where they lie: checking them reads them once, and what is
taken of them is all that is copied.

Shape letters: N items that could be read, V views, S tokens, D features or classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.atomic import remove_stale, write_atomically
from rsbench.errors import RunError
from rsbench.specs import MediaFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """What extraction found for a few consecutive items."""

    values: np.ndarray
    """float32 (N, V, D), for tokens (N, V, S, D): the items that could be read, in order. Of a
    shard that was loaded, a read-only memory map of its file."""
    failures: Mapping[int, str]
    """Reason by position in the shard, for the items that could not."""
    facts: tuple[MediaFacts, ...]
    """One an entry of `values`."""


class ShardStore:
    """The folder in which shards lie, by key."""

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made when the first shard is written."""
        self._root = root
        self.damaged: list[Path] = []
        """Files that were there when they were asked for, and not what had been written."""

    def path(self, key: str) -> Path:
        """Give the place of a shard, whether or not it is there."""
        return self._root / key[:2] / f"{key}.safetensors"

    def load(self, key: str) -> Shard | None:
        """Give a shard, or None if it is absent, or cut short, changed, or of another key.

        What is there and can't be used is remembered in `damaged`.
        """
        from safetensors import SafetensorError

        path = self.path(key)
        try:
            header, values = _opened(path)
            text = header["items"]
            items = json.loads(text)
            shard = Shard(
                values=values,
                failures={int(row): str(reason) for row, reason in items["failures"]},
                facts=tuple(_decoded(fields) for fields in items["facts"]),
            )
            whole = header["sha256"] == _content_digest(key, values, text)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError):
            whole = False
        if not whole or len(shard.facts) != len(values):
            self.damaged.append(path)
            return None
        return shard

    def mapped(self, key: str) -> np.ndarray:
        """Give the values of a shard that was loaded or saved before; they are not checked again.

        Raises:
            RunError: It is there no more, or is another file now.
        """
        from safetensors import SafetensorError

        path = self.path(key)
        try:
            return _opened(path)[1]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise RunError(
                f"{path} was there when this run began and can't be read now"
                f" ({' '.join(str(error).split())}): start the run again, and let rsbench cache gc"
                " wait until it has ended."
            ) from error

    def save(self, key: str, shard: Shard, *, most_bytes: int | None = None) -> int:
        """Write a shard atomically; give its bytes, 0 where it has more than it may and was not.

        Args:
            key: Its name.
            shard: What was found.
            most_bytes: Of the file; None is any number.

        Raises:
            DiskError: The disk is full, or the folder can't be written.
        """
        from safetensors.numpy import save

        values = np.ascontiguousarray(shard.values, dtype=np.float32)
        # JSON keeps every bit of a float: Python writes the shortest text that reads back as it.
        text = json.dumps(
            {
                "failures": sorted(shard.failures.items()),
                "facts": [astuple(facts) for facts in shard.facts],
            }
        )
        header = {"items": text, "sha256": _content_digest(key, values, text)}
        content = save({"values": values}, metadata=header)
        if most_bytes is not None and len(content) > most_bytes:
            return 0
        path = self.path(key)
        remove_stale(path.parent)
        write_atomically(path, content)
        return len(content)


def _opened(path: Path) -> tuple[Mapping[str, str], np.ndarray]:
    """Give the header of a file and its float32 values, mapped."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = file.metadata() or {}
        values = file.get_slice("values")
        shape, kind, names = tuple(values.get_shape()), values.get_dtype(), file.keys()
        if kind != "F32" or len(names) != 1:
            raise ValueError(f"a shard holds float32 values alone, not {kind} of {len(names)}")
    num_bytes = math.prod(shape) * np.dtype(np.float32).itemsize
    if not num_bytes:
        return header, np.empty(shape, dtype=np.float32)
    # The one tensor of a file ends where the file ends: the format allows nothing behind it.
    offset = path.stat().st_size - num_bytes
    return header, np.asarray(np.memmap(path, np.dtype("<f4"), "r", offset, shape))


def _decoded(fields: list[Any]) -> MediaFacts:
    num_frames, fps, height, width, remarks = fields
    return MediaFacts(
        num_frames=int(num_frames),
        fps=float(fps),
        height=int(height),
        width=int(width),
        remarks=tuple(str(remark) for remark in remarks),
    )


def _content_digest(key: str, values: np.ndarray, items: str) -> str:
    state = hashlib.sha256(f"{key}\n{values.dtype.str}\n{values.shape}\n{items}\n".encode())
    state.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return state.hexdigest()
