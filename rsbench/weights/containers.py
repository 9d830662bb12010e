"""Whether a file of weights is whole, as far as its container tells: no tensor is read.

A safetensors file and an HDF5 file say in their beginning where they end, a zipped torch file has
its list of contents at its end, and an archive is unzipped to its end, which holds it to its sum.
Its entries are not looked at: what a stranger's archive claims of itself is for the one that reads
it (`rsbench.weights.foreign`) to bound.
A torch file of before 2020 is one plain pickle, which tells nothing short of loading it.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from rsbench.errors import WeightsError
from rsbench.specs import WeightsFormat

_HDF5 = b"\x89HDF\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_TAR, _TAR_PLACE = b"ustar", 257
_END_OF_TAR = bytes(2 * 512)
"""Two empty records (POSIX pax, "ustar Interchange Format")."""
_PICKLE = b"\x80"
_BLOCK_BYTES = 1 << 20
_OLD_SUPERBLOCKS: Mapping[int, int] = {0: 24, 1: 28}
"""Where the addresses begin in superblocks of HDF5 files, by version; size of one in byte 13."""


class _BrokenError(Exception):
    """What a container must be and is not."""


def hold_whole(
    path: Path, format: WeightsFormat, *, what: str, next_step: str = "Get it again."
) -> None:
    """See to it that a file is of its format and ends where its container says.

    Args:
        path: The file.
        format: What it is declared to be.
        what: Names the file in messages.
        next_step: Ends them.

    Raises:
        WeightsError: It is of another kind, cut short, or damaged.
    """
    with path.open("rb") as stream:
        start = stream.read(_TAR_PLACE + len(_TAR))
    begins, walk = _KINDS[format]
    if not begins(start):
        raise WeightsError(
            f"{what} must be a {format} file and begins with {start[:9]!r}, as none does."
            f" {next_step}"
        )
    try:
        walk(path)
    except _BrokenError as error:
        reason = str(error)
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as e:
        reason = str(e) or type(e).__name__
    else:
        return
    raise WeightsError(
        f"{what} must be a whole {format} file; it is cut short or damaged ({reason}). {next_step}"
    )


def _walk_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > size - 8:
            raise _BrokenError(f"a header of {length:,} bytes in {size:,}")
        header = json.loads(stream.read(length))
    try:
        ends = [each["data_offsets"][1] for key, each in header.items() if key != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise _BrokenError("its header is no list of tensors") from error
    if size != expected:
        raise _BrokenError(f"{size:,} bytes of {expected:,}")


def _walk_hdf5(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(128)
    if len(start) < 128:
        raise _BrokenError(f"{len(start)} bytes")
    version = start[8]
    if version in _OLD_SUPERBLOCKS:
        # Base address, free space, end of file.
        width, place = start[13], _OLD_SUPERBLOCKS[version]
    elif version in {2, 3}:
        # Base address, extension, end of file.
        width, place = start[9], 12
    else:
        raise _BrokenError(f"a superblock of version {version}, known are 0 to 3")
    expected = int.from_bytes(start[place + 2 * width : place + 3 * width], "little")
    size = path.stat().st_size
    if size < expected:
        raise _BrokenError(f"{size:,} bytes of {expected:,}")


def _walk_archive(path: Path) -> None:
    with path.open("rb") as raw:
        is_zipped = raw.read(2) == _GZIP
        raw.seek(0)
        if not is_zipped:
            _read_tar(raw)
            return
        with gzip.open(raw) as stream:
            _read_tar(stream)


def _read_tar(stream: IO[bytes] | gzip.GzipFile) -> None:
    block = stream.read(_BLOCK_BYTES)
    if not _is_tar(block):
        raise _BrokenError("no tar archive inside")
    end = b""
    while block:
        # A block may be short; the mark of the end is not.
        end = (end + block)[-len(_END_OF_TAR) :]
        block = stream.read(_BLOCK_BYTES)
    if end != _END_OF_TAR:
        raise _BrokenError("an archive without its end")


def _walk_torch(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(1) == _PICKLE:
            return
    with zipfile.ZipFile(path) as archive:
        if not archive.namelist():
            raise _BrokenError("an archive of nothing")


def _is_archive(start: bytes) -> bool:
    return start.startswith(_GZIP) or _is_tar(start)


def _is_tar(start: bytes) -> bool:
    return start[_TAR_PLACE : _TAR_PLACE + len(_TAR)] == _TAR


_KINDS: Mapping[WeightsFormat, tuple[Callable[[bytes], bool], Callable[[Path], None]]] = {
    # Eight bytes of length, then JSON.
    "safetensors": (lambda start: start[8:9] == b"{", _walk_safetensors),
    "torch": (lambda start: start.startswith((b"PK\x03\x04", _PICKLE)), _walk_torch),
    "keras-h5": (lambda start: start.startswith(_HDF5), _walk_hdf5),
    "tf1": (_is_archive, _walk_archive),
    "tf2": (_is_archive, _walk_archive),
}
"""How files of each format begin, and what is read of them."""
