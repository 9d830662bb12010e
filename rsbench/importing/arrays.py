"""Arrays of what numpy and torch write into a pickle, each statement of which may be a lie.

A type, a shape and bytes are checked against each other before an array is made: it is as large as
the bytes in the file, and lies within them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Refused(Exception):
    """A pickle asks for what plain data does not need, or is damaged; the message says which."""


class Name(NamedTuple):
    """A global that a pickle names; only a mark."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class PlainType:
    """A numpy type, in the two steps in which a pickle tells it."""

    code: str
    order: str = "|"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type as numpy has it."""
        return np.dtype(self.order + self.code)


@dataclass(slots=True)
class Shell:
    """A numpy array before and after a pickle has said what it holds."""

    values: np.ndarray | None = None


class Storage(NamedTuple):
    """The memory of a torch tensor: one-dimensional."""

    values: np.ndarray


_TYPES = frozenset({"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))}) | {
    *("f2", "f4", "f8"),
}
"""Types of plain bytes that arrays may have."""

_STORAGES: Mapping[str, str] = MappingProxyType(
    {
        "FloatStorage": "<f4",
        "DoubleStorage": "<f8",
        "HalfStorage": "<f2",
        # Upper halves of float32.
        "BFloat16Storage": "<u2",
        "LongStorage": "<i8",
        "IntStorage": "<i4",
        "ShortStorage": "<i2",
        "CharStorage": "|i1",
        "ByteStorage": "|u1",
        "BoolStorage": "|b1",
    }
)
"""torch's kinds of memory -> numpy's types."""

_MAX_DIMENSIONS = 8
_MAX_LENGTH = 2**48
"""More than any memory holds; numbers of a million digits take hours to multiply."""


# ---------------------------------------------------------------------------- numpy


def plain_type(code: object, *how: object) -> PlainType:
    """Give a type by its code, "f4".

    Raises:
        Refused: It is none of plain numbers.
    """
    # Not `in` and `repr` of anything: to hash or show what a file says may take all there is.
    if type(code) is not str or code not in _TYPES:
        what = repr(code[:20]) if type(code) is str else f"a {type(code).__name__}"
        raise Refused(f"arrays must hold plain numbers, one holds {what}")
    return PlainType(code)


def complete(kind: PlainType, state: object) -> None:
    """Take the rest of what a pickle says of a type: the order of its bytes.

    Raises:
        Refused: It says more, fields or metadata.
    """
    match state:
        case (3 | 4, ("<" | ">" | "|") as order, None, None, None, -1, -1, 0):
            kind.order = order
        case _:
            raise Refused("arrays must hold plain numbers, one has a type of its own")


def fill(array: Shell, state: object) -> None:
    """Take what a pickle says of an array: version, shape, type, order, bytes.

    Raises:
        Refused: They do not fit each other.
    """
    match state:
        case (1, tuple(shape), PlainType() as kind, bool(is_fortran), bytes(content)):
            array.values = _shaped(content, kind.dtype, shape, order="F" if is_fortran else "C")
        case _:
            raise Refused("an array must say its shape, type and bytes, one does not")


def from_buffer(content: object, kind: object, shape: object, order: object) -> np.ndarray:
    """Give the array that protocol 5 makes of bytes.

    Raises:
        Refused: Bytes, type and shape do not fit each other.
    """
    if not isinstance(content, bytes | bytearray) or type(kind) is not PlainType:
        raise Refused("an array must say its shape, type and bytes, one does not")
    if type(shape) is not tuple:
        raise Refused("it is damaged")
    return _shaped(bytes(content), kind.dtype, shape, order="F" if order == "F" else "C")


def _shaped(
    content: bytes, dtype: np.dtype[Any], shape: tuple[Any, ...], *, order: str
) -> np.ndarray:
    _check_lengths(shape)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise Refused(f"an array of {len(content)} bytes can't have the shape {shape}")
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def scalar(kind: object, content: object) -> int | float | bool:
    """Give one number of numpy's.

    Raises:
        Refused: Its type and bytes do not fit each other.
    """
    if type(kind) is not PlainType or type(content) is not bytes:
        raise Refused("a number must say its type and bytes, one does not")
    value: int | float | bool = _shaped(content, kind.dtype, (), order="C").item()
    return value


def _check_lengths(lengths: tuple[Any, ...]) -> None:
    if len(lengths) > _MAX_DIMENSIONS or not all(
        type(length) is int and 0 <= length <= _MAX_LENGTH for length in lengths
    ):
        raise Refused("the shape of an array must be a few whole numbers, one is not")


# ---------------------------------------------------------------------------- torch


def storage_of(place: object, keys: object, stream: io.BytesIO) -> Storage:
    """Read a tensor's numbers where they begin in an old torch file.

    Args:
        place: What lies there, as the file says: kind, key, device and count.
        keys: Which memories the file holds, in their order: this one alone.
        stream: Stands before their number.

    Raises:
        Refused: They are of no plain type, or cut short.
    """
    match place:
        case ("storage", Name("torch", kind), key, _, int(count), None) if kind in _STORAGES:
            dtype = np.dtype(_STORAGES[kind])
        case _:
            raise Refused("a tensor must be of plain numbers, one is not")
    length = int.from_bytes(stream.read(8), "little", signed=True)
    numbers = stream.read()
    # Only text is compared: lists in lists may be as many as 2 to the length of the file.
    is_named = type(keys) is list and [type(each) for each in keys] == [str] and type(key) is str
    if not is_named or keys != [key]:
        raise Refused("a tensor must have one memory, one has not")
    if length != count or len(numbers) != count * dtype.itemsize:
        raise Refused("a tensor's numbers are cut short")
    values = np.frombuffer(numbers, dtype)
    if kind == "BFloat16Storage":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return Storage(values)


def tensor(
    storage: object, offset: object, size: object, stride: object, *how: object
) -> np.ndarray:
    """Cut a tensor out of its memory.

    Args:
        storage: The memory.
        offset: Of the first number, in numbers.
        size: Length of each dimension.
        stride: Numbers from one entry of each dimension to the next.
        how: Gradients and hooks, which plain data has none of.

    Raises:
        Refused: It reaches beyond its memory, or repeats it.
    """
    match storage, offset, size, stride:
        case Storage(values), int(first), tuple(lengths), tuple(steps):
            _check_lengths(lengths)
            _check_lengths(steps)
        case _:
            raise Refused("a tensor must say its memory, offset, size and strides, one does not")
    last = first + sum((length - 1) * step for length, step in zip(lengths, steps, strict=True))
    count = math.prod(lengths)
    # More numbers than there are would be the same ones again and again.
    if first < 0 or count > values.size or (count and last >= values.size):
        raise Refused("a tensor reaches beyond its memory")
    if not count:
        return np.empty(lengths, values.dtype)
    bytes_apart = [step * values.itemsize for step in steps]
    view = np.lib.stride_tricks.as_strided(values[first:], lengths, bytes_apart, writeable=False)
    return np.ascontiguousarray(view).reshape(lengths)
