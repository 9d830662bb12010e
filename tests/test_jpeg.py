"""The header of JPEGs: what it says is what Pillow says, and what decoders differ on is left."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rsbench.media.jpeg import sequential_header


def _jpeg(size: tuple[int, int] = (40, 24), mode: str = "RGB", **how: Any) -> bytes:
    """Give a JPEG, width before height as Pillow counts."""
    stream = io.BytesIO()
    Image.new(mode, size, 100 if mode == "L" else None).save(stream, format="JPEG", **how)
    return stream.getvalue()


def _with_segment(content: bytes, marker: int, segment: bytes) -> bytes:
    return content[:2] + struct.pack(">BBH", 0xFF, marker, len(segment) + 2) + segment + content[2:]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (40, 24), (300, 7), (65500, 2)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("how", [{}, {"optimize": True}, {"restart_marker_blocks": 1}])
def test_the_size_is_pillows(width: int, height: int, mode: str, how: dict[str, Any]) -> None:
    content = _jpeg((width, height), mode, **how)

    assert sequential_header(content) == (height, width, True)
    assert sequential_header(_with_segment(content, 0xFE, b"a comment")) == (height, width, True)


def test_a_segment_that_may_turn_or_replace_the_picture_is_told() -> None:
    content = _jpeg()
    exif = Image.Exif()
    exif[0x0112] = 6
    told = (24, 40, False)

    assert sequential_header(_jpeg(exif=exif)) == told
    assert sequential_header(_with_segment(content, 0xE1, b"http://ns.adobe.com/xap/\0")) == told
    assert sequential_header(_with_segment(content, 0xE2, b"MPF\0")) == told
    assert sequential_header(_with_segment(content, 0xEE, b"Adobe" + bytes(7))) == told
    assert sequential_header(_jpeg(keep_rgb=True)) == told, "it says so by a segment of Adobe's"
    assert sequential_header(_jpeg(exif=exif)[:-2] + b"Exif") == told, "the rest is not looked at"


def test_of_all_samplings_the_four_usual_ones_are_accepted() -> None:
    # ITU-T T.81, B.2.2: per colour its number, horizontal and vertical factor (4 bits each), table.
    content = _jpeg(subsampling="4:4:4")
    at = content.index(b"\xff\xc0") + 11
    assert content[at : at + 7 : 3] == b"\x11\x11\x11"
    factors = [16 * across + down for across in (1, 2, 3, 4) for down in (1, 2, 3, 4)]
    accepted = set()
    for luma in factors:
        for blue in factors:
            for red in (0x11, 0x12, 0x21, 0x22, blue):
                sampled = bytearray(content)
                sampled[at : at + 7 : 3] = bytes((luma, blue, red))
                if sequential_header(bytes(sampled)) is not None:
                    accepted.add((luma, blue, red))

    assert accepted == {(luma, 0x11, 0x11) for luma in (0x11, 0x21, 0x22, 0x41)}


def test_what_is_not_sequential_or_of_other_colours_is_left_alone() -> None:
    content = _jpeg()

    assert sequential_header(_jpeg(mode="CMYK")) is None
    assert sequential_header(_jpeg(progressive=True)) is None
    assert sequential_header(_jpeg(mode="L", progressive=True)) is None
    for marker in (0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCF):
        assert sequential_header(content.replace(b"\xff\xc0", bytes((0xFF, marker)))) is None
    assert sequential_header(_with_segment(content, 0xCC, b"\0\0")) is None
    scan = content.index(b"\xff\xda")
    first_colour_alone = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    assert sequential_header(content[:scan] + first_colour_alone + content[scan + 14 :]) is None


def test_what_is_no_jpeg_or_is_damaged_is_left_alone() -> None:
    content = _jpeg()
    end_of_header = content.index(b"\xff\xda")

    assert sequential_header(b"") is None
    assert sequential_header(b"\x89PNG" + content[4:]) is None
    for length in range(end_of_header):
        assert sequential_header(content[:length]) is None, length
    without_frame = content.replace(b"\xff\xc0", b"\xff\xfe")
    assert sequential_header(without_frame) is None
    twelve_bits = content.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c")
    assert sequential_header(twelve_bits) is None
    one_colour_of_three = content.replace(b"\x00\x28\x03", b"\x00\x28\x01")
    assert one_colour_of_three != content
    assert sequential_header(one_colour_of_three) is None
    frame = content.index(b"\xff\xc0")
    two_frames = content[: frame + 19] + content[frame : frame + 19] + content[frame + 19 :]
    assert sequential_header(two_frames) is None
    for marker in (0x01, 0xD0, 0xD8, 0xD9, 0xFF):
        assert sequential_header(_with_segment(content, marker, b"")) is None, marker


def test_whatever_it_accepts_pillow_opens_with_the_same_size() -> None:
    content = _jpeg(quality=60)
    end_of_header = content.index(b"\xff\xda")
    generator = np.random.default_rng(0)
    num_accepted = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for place in generator.integers(2, end_of_header, size=int(generator.integers(1, 4))):
            damaged[place] = int(generator.integers(256))
        header = sequential_header(bytes(damaged))
        if header is None or not header.says_no_more:
            continue
        num_accepted += 1
        with Image.open(io.BytesIO(bytes(damaged)), formats=("JPEG",)) as picture:
            assert (picture.height, picture.width) == (header.height, header.width)
            assert picture.mode in ("RGB", "L")
            assert picture.getexif().get(0x0112, 1) == 1
    assert num_accepted > 500
