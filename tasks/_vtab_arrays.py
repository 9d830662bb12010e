"""Original files of VTAB's data sets that come as arrays; pictures are parts of these in memory.

TFDS numbers their examples from 0 on in the order of the file. Only what is wanted is kept, or the
file is mapped where it is not compressed.

Shape letters: N examples, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
import functools
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from rsbench.data.files import RootGuard
from rsbench.errors import DataError
from rsbench.specs import Item

from ._mat import mat_shapes, read_mat
from ._vtab import Found, Originals
from ._vtab_labels import binned
from ._vtab_order import Pool
from .cifar100 import TASK as CIFAR100_TASK

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]
"""Of the type that a file says."""


def _opened(guard: RootGuard, folder: Path, name: str) -> Path:
    path = guard.locate(name, bases=[folder], where=str(folder))
    if path is None:
        raise DataError(f"{folder / name} must be there, and is not; unpack it there")
    return path


def _numbered(
    count: Callable[[RootGuard, Path, Pool], int], guard: RootGuard, folder: Path, pool: Pool
) -> Sequence[int]:
    """Give the keys of examples that are numbered from 0 on."""
    return range(count(guard, folder, pool))


def _rgb(grey_HW: Pixels) -> Pixels:
    """Look at a grey picture as three equal channels, without copying it."""
    return np.broadcast_to(grey_HW[..., None], (*grey_HW.shape, 3))


# ---------------------------------------------------------------------------- CIFAR-100


def _cifar_count(guard: RootGuard, folder: Path, pool: Pool) -> int:
    return len(CIFAR100_TASK.load(folder, pool).items)


def _find_cifar(guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[int]) -> Found:
    items = CIFAR100_TASK.load(folder, pool).items
    found = Found([], [])
    for key in keys:
        source = items[key].source
        assert isinstance(source, np.ndarray)
        # Copied, so that the pictures that nobody wants can be let go.
        found.items.append(replace(items[key], source=source.copy()))
    return found


_CIFAR_FORM = Originals(
    folders=("", "cifar-100-binary"),
    markers=("fine_label_names.txt", "train.bin", "test.bin"),
    num_keys={"train": 50_000, "test": 10_000},
    keys=functools.partial(_numbered, _cifar_count),
    find=_find_cifar,
    layout="cifar-100 binary",
)
CIFAR100 = (
    _CIFAR_FORM,
    replace(
        _CIFAR_FORM,
        folders=("", "cifar-100-python"),
        markers=("meta", "train", "test"),
        layout="cifar-100 python",
    ),
)
"""CIFAR-100, the binary or the python version, as the task cifar100 reads and names it."""


# ---------------------------------------------------------------------------- SVHN

_SVHN_PICTURES, _SVHN_LABELS = "X", "y"
_SVHN_SIDE = 32
"""Height and width of a picture, in pixels."""


def _svhn_variables(guard: RootGuard, folder: Path, pool: Pool) -> tuple[Pixels, Numbers]:
    """Read pictures (H, W, 3, N) and labels (N,), in which ten means zero."""
    path = _opened(guard, folder, f"{pool}_32x32.mat")
    variables = read_mat(path, required=_SVHN_PICTURES)
    pictures, labels = variables[_SVHN_PICTURES], variables.get(_SVHN_LABELS)
    if not (
        isinstance(pictures, np.ndarray)
        and isinstance(labels, np.ndarray)
        and pictures.dtype == np.uint8
        and labels.dtype.kind in "iu"
        and pictures.shape == (_SVHN_SIDE, _SVHN_SIDE, 3, labels.size)
        and labels.ndim == 1
    ):
        raise DataError(
            f"{path} must hold uint8 X (32, 32, 3, N) and whole numbers y (N), it holds "
            f"{_form(pictures)} and {_form(labels)}; fetch it again"
        )
    wrong = labels[(labels < 1) | (labels > 10)]
    if wrong.size:
        raise DataError(f"{path} must hold y from 1 to 10, it holds {wrong[0]}; fetch it again")
    return pictures, labels


def _form(value: object) -> str:
    """Name type and shape of what a file holds: "uint8 (32, 32, 3, 5)"."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {value.shape}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _svhn_count(guard: RootGuard, folder: Path, pool: Pool) -> int:
    """Count the labels alone: the pictures need not be unpacked for that."""
    path = _opened(guard, folder, f"{pool}_32x32.mat")
    shape = mat_shapes(path).get(_SVHN_LABELS, ())
    if len(shape) != 2 or shape[0] < 1:
        raise DataError(f"{path} must hold y (N, 1), it holds {shape or 'none'}; fetch it again")
    return shape[0]


def _find_svhn(guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[int]) -> Found:
    pictures_HWCN, labels = _svhn_variables(guard, folder, pool)
    # One copy of what is wanted lets go of the rest.
    wanted_NHWC = np.ascontiguousarray(pictures_HWCN[..., list(keys)].transpose(3, 0, 1, 2))
    items = [
        Item(id=f"{pool}_{key:06d}", source=picture_HWC, target=int(labels[key]) % 10)
        for key, picture_HWC in zip(keys, wanted_NHWC, strict=True)
    ]
    return Found(items, [])


SVHN = Originals(
    folders=("", "svhn"),
    markers=("train_32x32.mat", "test_32x32.mat"),
    num_keys={"train": 73_257, "test": 26_032},
    keys=functools.partial(_numbered, _svhn_count),
    find=_find_svhn,
)
"""SVHN, cropped digits: ``{train,test}_32x32.mat``."""


# ---------------------------------------------------------------------------- dSprites

_DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
_DSPRITES_FACTORS: Mapping[str, tuple[int, int]] = {"orientation": (3, 40), "x": (4, 32)}
"""Column among the latent classes, and how many values it has."""
_DSPRITES_COUNT = 737_280
_DSPRITES_ROWS: Mapping[str, tuple[int, ...]] = {"imgs": (64, 64), "latents_classes": (6,)}
"""Shape of an example's part of each array."""
_DSPRITES_BINS = 16
_BLOCK_BYTES = 2**24
"""The pictures are 3 GB unpacked: they are read in blocks, and only what is wanted is kept."""


def _dsprites_count(guard: RootGuard, folder: Path, pool: Pool) -> int:
    path = _opened(guard, folder, _DSPRITES)
    with _npz_member(path, "imgs") as stream:
        return _dsprites_header(stream, path, "imgs")[0]


def _dsprites_header(stream: IO[bytes], path: Path, name: str) -> tuple[int, np.dtype[Any]]:
    """Read number and type of an array's examples, and hold them to the published form."""
    shape, dtype = _npy_header(stream, path)
    kinds = "u" if name == "imgs" else "iu"
    is_right = dtype.kind in kinds and (name != "imgs" or dtype.itemsize == 1)
    row_shape = _DSPRITES_ROWS[name]
    if not is_right or shape[1:] != row_shape or not 1 <= shape[0] <= _DSPRITES_COUNT:
        lengths = ", ".join(map(str, ("N", *row_shape)))
        raise DataError(
            f"{path} must hold {name} as {'uint8' if name == 'imgs' else 'whole numbers'} "
            f"({lengths}), N at most {_DSPRITES_COUNT}; it holds {dtype} {str(shape)[:60]}; fetch "
            "it again"
        )
    return shape[0], dtype


def _find_dsprites(
    factor: str, guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[int]
) -> Found:
    path = _opened(guard, folder, _DSPRITES)
    column, num_values = _DSPRITES_FACTORS[factor]
    classes = _npy_rows(path, "latents_classes", keys)
    pictures_NHW = _npy_rows(path, "imgs", keys)
    values = classes[:, column]
    if pictures_NHW.max() > 1 or values.min() < 0 or values.max() >= num_values:
        raise DataError(
            f"{path} must hold 0 and 1 in imgs, and 0 to {num_values - 1} in column {column} of "
            "latents_classes, and holds others; fetch it again"
        )
    # 0 and 1 become 0 and 255, as VTAB has them.
    pictures_NHW *= 255
    items = [
        Item(
            id=f"{key:06d}",
            source=_rgb(picture_HW),
            target=binned(int(value), num_values=num_values, num_bins=_DSPRITES_BINS),
        )
        for key, picture_HW, value in zip(keys, pictures_NHW, values, strict=True)
    ]
    return Found(items, [])


@contextlib.contextmanager
def _npz_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            yield stream
    # RuntimeError: it is encrypted, or packed in a way that Python doesn't know.
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} must be numpy's .npz with {name} in it: {error}; fetch it again"
        ) from error


def _npy_header(stream: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and type, and stop before the data."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read(stream)
    except (ValueError, TypeError, KeyError, EOFError, RecursionError) as error:
        raise DataError(f"{path} holds no plain array: {error}; fetch it again") from error
    if is_fortran or dtype.hasobject or not shape:
        raise DataError(f"{path} must hold arrays of numbers in C order; fetch it again")
    return shape, dtype


def _npy_rows(path: Path, name: str, rows: Sequence[int]) -> Numbers:
    """Read some rows of one of dSprites' arrays without unpacking it whole, in the order asked."""
    row_shape = _DSPRITES_ROWS[name]
    with _npz_member(path, name) as stream:
        num_rows, dtype = _dsprites_header(stream, path, name)
        if max(rows) >= num_rows:
            raise DataError(f"{path} must hold {max(rows) + 1} {name}, it holds {num_rows}")
        row_bytes = dtype.itemsize * math.prod(row_shape)
        per_block = max(1, _BLOCK_BYTES // row_bytes)
        wanted = np.asarray(rows, np.int64)
        order = np.argsort(wanted)
        ascending = wanted[order]
        kept = np.empty((len(wanted), *row_shape), dtype)
        for start in range(0, num_rows, per_block):
            length = min(per_block, num_rows - start)
            content = stream.read(length * row_bytes)
            if len(content) < length * row_bytes:
                raise DataError(f"{path} is cut short in {name}; fetch it again")
            first, last = np.searchsorted(ascending, (start, start + length))
            block = np.frombuffer(content, dtype).reshape(length, *row_shape)
            kept[order[first:last]] = block[ascending[first:last] - start]
        return kept


def dsprites(factor: Literal["orientation", "x"]) -> Originals:
    """Read dSprites' .npz file, which has no splits of its own.

    Args:
        factor: What is asked: one of 40 angles or 32 columns, in 16 classes.
    """
    return Originals(
        folders=("", "dsprites-dataset"),
        markers=(_DSPRITES,),
        num_keys={"train": _DSPRITES_COUNT},
        keys=functools.partial(_numbered, _dsprites_count),
        find=functools.partial(_find_dsprites, factor),
    )


# ---------------------------------------------------------------------------- smallNORB

_SMALLNORB_STEMS: Mapping[Pool, str] = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
_SMALLNORB_TYPES: Mapping[int, np.dtype[Any]] = {
    0x1E3D4C55: np.dtype("u1"),
    0x1E3D4C54: np.dtype("<i4"),
}
"""Magic number of a "binary matrix" -> type of its numbers
(https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/)."""
_SMALLNORB_COLUMNS = {"elevation": (1, 1, 9), "azimuth": (2, 2, 18)}
"""Column of the info, what its numbers are divided by (azimuths are 0, 2, ... 34), and classes."""


def _binary_matrix(path: Path) -> Numbers:
    """Map an array in NORB's own format: magic number, number of axes, lengths, numbers."""
    head = np.fromfile(path, "<i4", count=8)
    dtype = _SMALLNORB_TYPES.get(int(head[0])) if len(head) >= 5 else None
    num_axes = int(head[1]) if dtype is not None else 0
    if dtype is None or not 1 <= num_axes <= min(6, len(head) - 2):
        raise DataError(f"{path} must be a binary matrix of NORB; unpack the .mat.gz file again")
    shape = tuple(int(length) for length in head[2 : 2 + num_axes])
    # The lengths of at least three axes are written.
    offset = 4 * (2 + max(3, num_axes))
    size = path.stat().st_size
    if min(shape) < 1 or size != offset + dtype.itemsize * math.prod(shape):
        raise DataError(
            f"{path} must hold {shape} numbers, it has {size} bytes; unpack the .mat.gz file again"
        )
    matrix: Numbers = np.memmap(path, dtype, mode="r", offset=offset, shape=shape)
    return matrix


def _smallnorb_matrix(guard: RootGuard, folder: Path, pool: Pool, kind: str) -> Numbers:
    return _binary_matrix(_opened(guard, folder, f"{_SMALLNORB_STEMS[pool]}-{kind}.mat"))


def _smallnorb_count(guard: RootGuard, folder: Path, pool: Pool) -> int:
    return len(_smallnorb_matrix(guard, folder, pool, "info"))


def _find_smallnorb(
    factor: str, guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[int]
) -> Found:
    info = _smallnorb_matrix(guard, folder, pool, "info")
    pictures = _smallnorb_matrix(guard, folder, pool, "dat")
    if pictures.shape != (len(info), 2, 96, 96) or pictures.dtype != np.uint8:
        raise DataError(
            f"{folder}: the dat file must hold uint8 pictures (N, 2, 96, 96), one pair an entry of "
            f"the info file's {len(info)}; it holds {pictures.dtype} {pictures.shape}"
        )
    column, divisor, num_classes = _SMALLNORB_COLUMNS[factor]
    if info.shape != (len(info), 4) or info.dtype != np.int32:
        raise DataError(
            f"{folder}: the info file must hold int32 (N, 4), it holds {info.dtype} {info.shape}"
        )
    values = info[:, column]
    if values.min() < 0 or values.max() >= divisor * num_classes or (values % divisor).any():
        raise DataError(
            f"{folder}: column {column} of the info file must hold 0 to "
            f"{divisor * (num_classes - 1)} in steps of {divisor}, it holds {values.min()} to "
            f"{values.max()}"
        )
    items = [
        Item(
            id=f"{pool}_{key:05d}",
            # The first of the two cameras.
            source=_rgb(np.asarray(pictures[key, 0])),
            target=int(values[key]) // divisor,
        )
        for key in keys
    ]
    return Found(items, [])


def smallnorb(factor: Literal["elevation", "azimuth"]) -> Originals:
    """Read smallNORB's binary matrices, unpacked: ``*-{dat,info}.mat``.

    Args:
        factor: What is asked: one of 9 elevations or of 18 azimuths.
    """
    return Originals(
        folders=("", "smallnorb"),
        markers=tuple(
            f"{stem}-{kind}.mat" for stem in _SMALLNORB_STEMS.values() for kind in ("dat", "info")
        ),
        num_keys={"train": 24_300, "test": 24_300},
        keys=functools.partial(_numbered, _smallnorb_count),
        find=functools.partial(_find_smallnorb, factor),
    )
