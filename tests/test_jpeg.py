"""The header of simple JPEGs: what it says is what Pillow says, and the rest is left alone."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rsbench.media.jpeg import plain_jpeg_size


def _jpeg(size: tuple[int, int] = (40, 24), mode: str = "RGB", **how: Any) -> bytes:
    """Give a JPEG, width before height as Pillow counts."""
    stream = io.BytesIO()
    Image.new(mode, size, 100 if mode == "L" else None).save(stream, format="JPEG", **how)
    return stream.getvalue()


def _with_segment(content: bytes, marker: int, segment: bytes) -> bytes:
    return content[:2] + struct.pack(">BBH", 0xFF, marker, len(segment) + 2) + segment + content[2:]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (40, 24), (300, 7), (65500, 2)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_the_size_is_pillows(width: int, height: int, mode: str, how: dict[str, Any]) -> None:
    content = _jpeg((width, height), mode, **how)

    assert plain_jpeg_size(content) == (height, width)
    assert plain_jpeg_size(_with_segment(content, 0xFE, b"a comment")) == (height, width)


def test_what_may_turn_or_replace_the_picture_is_left_alone() -> None:
    content = _jpeg()
    exif = Image.Exif()
    exif[0x0112] = 6

    assert plain_jpeg_size(_jpeg(mode="CMYK")) is None
    assert plain_jpeg_size(_jpeg(exif=exif)) is None
    assert plain_jpeg_size(_with_segment(content, 0xE1, b"http://ns.adobe.com/xap/1.0/\0")) is None
    assert plain_jpeg_size(_with_segment(content, 0xE2, b"MPF\0")) is None
    assert plain_jpeg_size(_with_segment(content, 0xEE, b"Adobe" + bytes(7))) is None
    assert plain_jpeg_size(_jpeg(keep_rgb=True)) is None, "it says so by a segment of Adobe's"


def test_what_is_no_jpeg_or_is_damaged_is_left_alone() -> None:
    content = _jpeg()
    end_of_header = content.index(b"\xff\xda")

    assert plain_jpeg_size(b"") is None
    assert plain_jpeg_size(b"\x89PNG" + content[4:]) is None
    for length in range(end_of_header):
        assert plain_jpeg_size(content[:length]) is None, length
    without_frame = content.replace(b"\xff\xc0", b"\xff\xfe")
    assert plain_jpeg_size(without_frame) is None
    twelve_bits = content.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c")
    assert plain_jpeg_size(twelve_bits) is None
    one_colour_of_three = content.replace(b"\x00\x28\x03", b"\x00\x28\x01")
    assert one_colour_of_three != content
    assert plain_jpeg_size(one_colour_of_three) is None
    frame = content.index(b"\xff\xc0")
    two_frames = content[: frame + 19] + content[frame : frame + 19] + content[frame + 19 :]
    assert plain_jpeg_size(two_frames) is None
    lossless = content.replace(b"\xff\xc0", b"\xff\xc3")
    assert plain_jpeg_size(lossless) is None


def test_whatever_it_accepts_pillow_opens_with_the_same_size() -> None:
    content = _jpeg(quality=60)
    end_of_header = content.index(b"\xff\xda")
    generator = np.random.default_rng(0)
    num_accepted = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for place in generator.integers(2, end_of_header, size=int(generator.integers(1, 4))):
            damaged[place] = int(generator.integers(256))
        size = plain_jpeg_size(bytes(damaged))
        if size is None:
            continue
        num_accepted += 1
        with Image.open(io.BytesIO(bytes(damaged)), formats=("JPEG",)) as picture:
            assert (picture.height, picture.width) == size
            assert picture.mode in ("RGB", "L")
            assert picture.getexif().get(0x0112, 1) == 1
    assert num_accepted > 500
