"""CIFAR-10 and CIFAR-100: 32 x 32 pictures in a few files of numbers, binary or pickled.

The binary version is a row of records, and what one needs no pickle for. The "python version" is
pickles of Python 2: they are read by an unpickler that knows arrays of bytes, and nothing else that
a pickle may ask for; numpy's own functions are not given out, since they make any type of any
bytes. (Sizes and the order of colours: https://www.cs.toronto.edu/~kriz/cifar.html.)

Shape letters: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rsbench.data.files import RootGuard
from rsbench.data.lists import read_class_names
from rsbench.errors import DataError
from rsbench.specs import Item, Split

from ._pictures import PictureSet, check_split, hold_to_official

SIDE = 32
"""Height and width of a picture, in pixels."""

_PIXEL_BYTES = 3 * SIDE * SIDE


@dataclass(frozen=True, kw_only=True, slots=True)
class CifarFiles:
    """How one of the two data sets is written, in both versions."""

    binary_folder: str
    binary_classes: str
    """File of class names, in the binary version."""
    label_bytes: int
    """Before the pixels of a record; the last of them is the class."""
    pickled_folder: str
    pickled_classes: tuple[str, str]
    """File, and key of the class names in it."""
    pickled_labels: str
    """Key of the classes in each file of pictures."""
    parts: Mapping[str, tuple[str, ...]]
    """Split -> its files in order, without ending."""


class _Part(NamedTuple):
    """One file of pictures."""

    pictures_NHWC: np.ndarray
    """uint8."""
    labels: Sequence[int]


def load_cifar(of: PictureSet, files: CifarFiles, root: Path, split: str) -> Split:
    """Read one split into memory: 3 kB a picture.

    Args:
        of: The data set; its folders are not used.
        files: How it is written.
        root: Holds the folder of the binary or of the python version, or is it. Where both are
            there, the binary one is read.
        split: "train" or "test".

    Returns:
        Pictures in the order of the files, with ids "train/00000" and so on, the same in both
        versions.

    Raises:
        DataError: No such split, no such folder, a file that is missing, of a wrong length or no
            such file at all, a label that is no class, or more pictures than were published.
    """
    check_split(of, split)
    guard = RootGuard(root)
    classes, parts = _read(of, files, guard, split)
    items: list[Item] = []
    for pictures_NHWC, labels in parts:
        for picture, label in zip(pictures_NHWC, labels, strict=True):
            items.append(Item(id=f"{split}/{len(items):05d}", source=picture, target=int(label)))
    if not items:
        raise DataError(f"{of.name} {split} must hold pictures, its files hold none; fetch again")
    official = hold_to_official(of, split, num_listed=len(items), classes=classes)
    return Split(
        items=tuple(items),
        classes=classes,
        num_official=official.num_pictures,
        notes=official.notes,
    )


def _read(
    of: PictureSet, files: CifarFiles, guard: RootGuard, split: str
) -> tuple[tuple[str, ...], list[_Part]]:
    """Give the classes, and the files of a split, from whichever version is there."""
    read_part: Callable[[Path, CifarFiles, int], _Part]
    where = f"{of.name} below {guard.root}"
    bases = [guard.root / files.binary_folder, guard.root]
    path = guard.locate(files.binary_classes, bases=bases, where=where)
    if path is not None:
        classes, ending, read_part = read_class_names(path), ".bin", _read_binary
    else:
        name, key = files.pickled_classes
        bases = [guard.root / files.pickled_folder, guard.root]
        path = guard.locate(name, bases=bases, where=where)
        if path is None:
            raise DataError(
                f"{of.name} must be the folder {files.binary_folder}/ or {files.pickled_folder}/ "
                f"below {guard.root}, and neither is there; unpack the archive there, or point "
                "--data at its folder"
            )
        classes, ending, read_part = _pickled_names(path, key), "", _read_pickled
    parts = []
    for name in files.parts[split]:
        part = guard.locate(f"{name}{ending}", bases=[path.parent], where=where)
        if part is None:
            raise DataError(
                f"{of.name} {split} must have the file {name}{ending} in {path.parent}, and it is "
                "not there; unpack the archive again"
            )
        parts.append(read_part(part, files, len(classes)))
    return classes, parts


def _read_binary(path: Path, files: CifarFiles, num_classes: int) -> _Part:
    """Read records of label bytes and of pixels in the order (C, H, W)."""
    content = np.fromfile(path, dtype=np.uint8)
    record_bytes = files.label_bytes + _PIXEL_BYTES
    if content.size % record_bytes:
        raise DataError(
            f"{path.name} must hold records of {record_bytes} bytes, and its {content.size} bytes "
            "are no multiple of that; it is cut short or another file, fetch it again"
        )
    records = content.reshape(-1, record_bytes)
    labels_N = records[:, files.label_bytes - 1]
    _check_labels(path, labels_N, num_classes)
    return _Part(_as_pictures(records[:, files.label_bytes :]), labels_N.tolist())


def _read_pickled(path: Path, files: CifarFiles, num_classes: int) -> _Part:
    content = _unpickle(path)
    held, labels = content.get("data"), content.get(files.pickled_labels)
    data = held.values if isinstance(held, _Array) else None
    if data is None or not isinstance(labels, list):
        raise DataError(
            f"{path.name} must hold 'data' of type uint8 and the list '{files.pickled_labels}', and"
            " holds others; is it of another data set?"
        )
    if data.shape != (len(labels), _PIXEL_BYTES):
        raise DataError(
            f"{path.name} must hold {_PIXEL_BYTES} numbers for each of its {len(labels)} labels, "
            f"'data' is {data.shape}; fetch it again"
        )
    # Not by np.asarray, which runs methods of what it is given.
    strange = next((label for label in labels if type(label) is not int), None)
    if strange is not None:
        raise DataError(
            f"{path.name} must have whole numbers as labels, has a {type(strange).__name__}"
        )
    _check_labels(path, np.asarray(labels), num_classes)
    return _Part(_as_pictures(data), labels)


def _as_pictures(rows_NP: np.ndarray) -> np.ndarray:
    """Turn rows of red, green and blue planes into uint8 (N, H, W, C)."""
    planes_NCHW = rows_NP.reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes_NCHW.transpose(0, 2, 3, 1))


def _check_labels(path: Path, labels_N: np.ndarray, num_classes: int) -> None:
    if labels_N.dtype.kind not in "iu" and labels_N.size:
        raise DataError(f"{path.name} must have whole numbers as labels, has {labels_N.dtype}")
    wrong = labels_N[(labels_N < 0) | (labels_N >= num_classes)]
    if wrong.size:
        raise DataError(
            f"{path.name} must have labels from 0 to {num_classes - 1}, has {wrong[0]}; is it of "
            "another data set?"
        )


# ---------------------------------------------------------------------------- pickles


def _pickled_names(path: Path, key: str) -> tuple[str, ...]:
    names = _unpickle(path).get(key)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path.name} must hold class names as {key!r}, and does not; fetch again")
    return tuple(names)


_NUM_TUPLES = 1_000
"""Tuples that a pickle may make; an array has six. Python hashes one in another without looking how
deep they go, and dies of some ten thousand."""
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_UINT8_STATE = (3, "|", None, None, None, -1, -1, 0)
"""What numpy says of the type uint8 in a pickle."""


class _Frozen:
    """What a pickle may name, and can't change."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Refuse: a pickle may otherwise set what it likes on what it names.

        Raises:
            UnpicklingError: Always.
        """
        raise pickle.UnpicklingError("it changes what it is given")


class _Uint8(_Frozen):
    """Stands for the type of the numbers; numpy makes none of what a pickle says."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Take the one state that the type has.

        Raises:
            UnpicklingError: It is another.
        """
        if state != _UINT8_STATE:
            raise pickle.UnpicklingError("its arrays must be of plain uint8, one is not")


class _Array:
    """An array of bytes, empty until a pickle says what it holds."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.values: np.ndarray | None = None
        """uint8; can't be written to."""

    def __setstate__(self, state: object) -> None:
        """Take the state of numpy's arrays: version, shape, type, order, bytes.

        Raises:
            UnpicklingError: It is no table of uint8 in C order, or has another number of bytes.
        """
        match state:
            case (1, tuple(shape), _Uint8(), False, str() | bytes() as content):
                # Bytes of Python 2 come as text.
                content = content.encode("latin1") if isinstance(content, str) else content
            case _:
                raise pickle.UnpicklingError("its arrays must be of uint8 in C order, one is not")
        are_lengths = all(type(length) is int and length >= 0 for length in shape)
        if len(shape) != 2 or not are_lengths or math.prod(shape) != len(content):
            raise pickle.UnpicklingError(f"two lengths must fit an array's {len(content)} bytes")
        self.values = np.frombuffer(content, np.uint8).reshape(shape)


class _Reconstruct(_Frozen):
    __slots__ = ()

    def __call__(self, kind: object, shape: object, code: object) -> _Array:
        """Make an array to be filled, whatever it is said to be before."""
        return _Array()


class _Dtype(_Frozen):
    __slots__ = ()

    def __call__(self, code: object, *how: object) -> _Uint8:
        """Give the one type there is.

        Raises:
            UnpicklingError: Another is asked for.
        """
        if code != "u1":
            raise pickle.UnpicklingError("its arrays must be of plain uint8, one is not")
        return _Uint8()


class _Latin1(_Frozen):
    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        """Give bytes that a pickle of protocol 2 holds as text, which Python 3 writes.

        Raises:
            UnpicklingError: The encoding is another.
        """
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"the encoding {encoding!r:.40} is not one of arrays")
        return text.encode("latin1")


_ALLOWED: Mapping[tuple[str, str], _Frozen] = MappingProxyType(
    {
        # The first is numpy 1's name, and of the published files.
        ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
        ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
        ("numpy", "ndarray"): _Frozen(),
        ("numpy", "dtype"): _Dtype(),
        ("_codecs", "encode"): _Latin1(),
    }
)
"""What an array is made of, in our own words; nothing is imported by the name that a file says."""


class _ArraysOnly(pickle.Unpickler):
    """Reads texts, numbers, lists, dicts and arrays; refuses everything else."""

    def find_class(self, module: str, name: str) -> _Frozen:
        """Give one of the few things that arrays need.

        Raises:
            UnpicklingError: It is none of them.
        """
        found = _ALLOWED.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no picture needs")
        return found


def _refuse_traps(content: bytes) -> None:
    """Refuse a pickle that fills the memory or the stack while it is read.

    Raises:
        UnpicklingError: It does.
    """
    num_tuples = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        num_tuples += opcode.name in _TUPLES
        # Objects are numbered as they come: there is room for as many as the largest number.
        if num_tuples > _NUM_TUPLES or (opcode.name in _PUTS and int(argument or 0) > number):
            raise pickle.UnpicklingError("it is made to exhaust the memory")


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        _refuse_traps(content)
        # latin1: so that the bytes of Python 2 become texts, and arrays their own bytes again.
        read = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except MemoryError:
        raise
    except Exception as error:  # A damaged pickle raises whatever it trips over.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path.name} must be a pickle of pictures as published: {reason[:160]}; fetch it "
            "again, or take the binary version"
        ) from error
    if not isinstance(read, dict):
        raise DataError(f"{path.name} must hold a dict, holds a {type(read).__name__}")
    return read
