"""Read and write single pictures: always upright, always RGB, uint8 (H, W, 3).

- The EXIF orientation is applied; where the EXIF block is damaged, the picture stays as stored.
- Alpha and transparent colours are dropped, not blended, as torchvision's and timm's loaders do:
  published scores were measured so.
- 16-bit grey is scaled to 8 bits (65535 becomes 255) and rounded. 32-bit samples have no range to
  scale from and are refused.
- Of a file with several pictures (GIF, TIFF) the first is read.

What these mean in pixels, and which files are pictures at all, is Pillow's word. JPEGs are decoded
by torchvision, which takes two thirds of the time (benchmarks/images.py), because its pixels are
the same: both call libjpeg-turbo with the same settings. That was compared bit by bit on 5,900
photographs and scans; on 8,320 pictures of 104 sizes to 101 x 77, of each subsampling, four
qualities, grey and colour, progressive or not, with and without restart markers; and on 3,600
damaged files, whose pixels were the same wherever both decoded them. Left to Pillow is whatever is
not plain: print colours (CMYK), several pictures in one file, and all that torchvision refuses.
Headers are Pillow's too, but for those that say nothing but how to decode (`rsbench.media.jpeg`).
Of a file that is damaged and still decodes libjpeg writes a line to stderr ("Corrupt JPEG data:
..."), which Pillow alone would keep quiet.

Nothing is decoded to a smaller size than it has, though libjpeg could do it to an eighth, a quarter
and a half: the pixels would be others, and published scores were not measured on them.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from rsbench.errors import MediaError
from rsbench.media.jpeg import Header, sequential_header
from rsbench.media.machine import is_of_machine

Pixels = npt.NDArray[np.uint8]

MAX_IMAGE_PIXELS = 1024**3 // 4 // 3
"""Largest picture that is read: a quarter of a GiB as RGB (where Pillow itself begins to warn)."""

_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "WEBP",
    "PPM",
    "TGA",
    "JPEG2000",
    "AVIF",
)
"""What is opened. Left out on purpose: what calls other programs (EPS) and what is no picture."""

_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture stored in each EXIF orientation is made upright (EXIF 2.32, tag 0x0112)."""

_JPEG_START = b"\xff\xd8\xff"
_MOST_JPEG_BYTES = 3 * MAX_IMAGE_PIXELS
"""As much as the largest picture that is read takes in memory: a JPEG is smaller, and what is
longer is not read whole before Pillow has seen its header."""


def read_image(path: Path) -> Pixels:
    """Read a picture of any mode as upright RGB.

    Args:
        path: A file of one of the usual formats; its suffix plays no part.

    Returns:
        uint8 (H, W, 3).

    Raises:
        MediaError: No such file, no picture, cut short, damaged, too large, or of a kind of sample
            that has no 8-bit meaning.
        OSError: The machine can't read it just now (too many open files, a disk that fails).
        MemoryError: The machine has no memory left.
    """
    if not path.is_file():
        raise _no_file(path)
    try:
        return _read(path)
    except MediaError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever they trip over.
        if is_of_machine(error):
            raise
        raise MediaError(
            f"{_name(path)}: must be a picture that decodes ({_reason(error, path)}); "
            "the file is damaged or of another kind, fetch it again"
        ) from error


def write_image(path: Path, pixels: Pixels) -> None:
    """Write a picture in the format of the suffix, whole or not at all; JPEG at quality 95.

    Args:
        path: Where to: ".png", ".jpg", ".bmp", ...
        pixels: uint8 (H, W, 3), RGB, or (H, W), grey.

    Raises:
        MediaError: No such format, another shape or type of pixels, or the disk refuses.
    """
    grey_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not grey_or_rgb or pixels.size == 0:
        raise MediaError(
            f"{_name(path)}: pixels must be uint8 (H, W, 3) or (H, W), "
            f"were {pixels.dtype} {pixels.shape}"
        )
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, quality=95)
        partial.replace(path)
    except (OSError, ValueError) as error:
        raise MediaError(f"{_name(path)}: can't be written ({_reason(error, partial)})") from error
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> Pixels:
    content = _jpeg_content(path)
    header = None if content is None else sequential_header(content)
    if content is not None and header is not None:
        pixels = _decoded(content, header)
        if pixels is not None:
            return pixels
    # Pillow warns of odd metadata and large sizes; what matters of it is raised.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _read_by_pillow(path)


def _jpeg_content(path: Path) -> bytes | None:
    """Give the bytes of a JPEG; None for what is none, by its first bytes."""
    with path.open("rb", buffering=0) as file:
        start = file.read(len(_JPEG_START))
        if start != _JPEG_START or os.fstat(file.fileno()).st_size > _MOST_JPEG_BYTES:
            return None
        return start + file.read()


def _decoded(content: bytes, header: Header) -> Pixels | None:
    """Decode a JPEG, upright; None for what is too large, damaged or Pillow's."""
    if header.height * header.width > MAX_IMAGE_PIXELS:
        return None
    try:
        orientation = 1 if header.says_no_more else _orientation_told(content, header)
        stored = None if orientation is None else _decode_jpeg(content)
    except Exception as error:  # torchvision raises RuntimeErrors, of whatever cause.
        if is_of_machine(error):
            raise
        return None
    if stored is None or stored.shape != (header.height, header.width, 3):
        return None
    if orientation not in _ORIENTATIONS:
        return stored
    return np.array(Image.fromarray(stored).transpose(_ORIENTATIONS[orientation]), dtype=np.uint8)


def _orientation_told(content: bytes, header: Header) -> int | None:
    """Give the EXIF orientation that Pillow finds; None for what is no single picture in RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # It reads no further than the header here.
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            is_plain = opened.format == "JPEG" and opened.mode in ("RGB", "L")
            is_same = (opened.height, opened.width) == (header.height, header.width)
            return _orientation(opened) if is_plain and is_same else None


def _decode_jpeg(content: bytes) -> Pixels:
    """Decode to RGB (H, W, 3), as stored.

    Raises:
        RuntimeError: It is damaged or cut short.
    """
    # PyTorch takes a second to import, and whoever reads no JPEG need not wait for it.
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    # torch.frombuffer warns of bytes, which can't be written to; nobody writes.
    encoded = torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8))
    # (3, H, W) by its axes, (H, W, 3) as it lies in memory: nothing is copied.
    decoded: Pixels = decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    return decoded


def _read_by_pillow(path: Path) -> Pixels:
    Image.init()
    formats = tuple(name for name in _FORMATS if name in Image.OPEN)
    with Image.open(path, formats=formats) as image:
        width, height = image.size
        if width * height > MAX_IMAGE_PIXELS:
            raise MediaError(
                f"{_name(path)}: must have at most {MAX_IMAGE_PIXELS} pixels, "
                f"was {width} x {height}"
            )
        image.load()
        operation = _ORIENTATIONS.get(_orientation(image))
        upright = image.transpose(operation) if operation is not None else image
        return _to_rgb(path, upright, image.format)


def _orientation(image: Image.Image) -> int:
    """Give the EXIF orientation, 1 (upright) where there is none or the block is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # Pillow's EXIF parser raises whatever it trips over.
        return 1


def _to_rgb(path: Path, image: Image.Image, format: str | None) -> Pixels:
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image).astype(np.uint32))
    if image.mode == "I" and format == "PNG":
        # Older Pillows give 16-bit grey PNG as 32-bit integers.
        return _from_16_bits(np.asarray(image).astype(np.uint32))
    if image.mode in ("I", "F"):
        raise MediaError(
            f"{_name(path)}: samples must have 8 or 16 bits, have 32; "
            "convert the picture with the range that its values mean"
        )
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _from_16_bits(grey: npt.NDArray[np.uint32]) -> Pixels:
    """Scale grey (H, W) in [0, 65535] to uint8 (H, W, 3), rounding to nearest."""
    eight_bits = ((grey + 128) // 257).astype(np.uint8)
    return np.repeat(eight_bits[..., None], 3, axis=2)


def _no_file(path: Path) -> MediaError:
    if path.is_dir():
        return MediaError(f"{_name(path)}: must be a picture file, is a folder")
    if not path.exists():
        return MediaError(f"{_name(path)}: must be a picture file, is not there ({path.parent})")
    return MediaError(f"{_name(path)}: must be a plain file, is a device or a pipe")


def _name(path: Path) -> str:
    """Give a file's name on one line, whatever bytes it is made of."""
    return path.name if path.name.isprintable() else ascii(path.name)


def _reason(error: BaseException, path: Path) -> str:
    """Give the cause in one line, without the folder."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).replace(str(path), path.name).split())
