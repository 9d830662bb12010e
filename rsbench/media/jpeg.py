"""The header of a JPEG, read without a picture library: which decoders agree on its pixels.

Decoders agree to the last bit on sequential JPEGs whose colours are stored at full size or, the
usual way, at half or a quarter of it. They part where libjpeg-turbo has changed over the years: how
it fills in colours stored at half the height alone (4:4:0), and how it smooths a progressive
picture of which later scans are missing.

Most JPEGs of data sets say nothing but what is needed to decode them. Pillow takes longer over
their headers than libjpeg over a small picture: 45 of 160 microseconds at 64 x 64. Whether a header
says more is seen here; what the rest of it means is nobody's business but Pillow's.

A JPEG is a row of segments: 0xFF, the marker, two bytes of length that count themselves, content
(ITU-T T.81, annex B).
"""

from __future__ import annotations

from typing import NamedTuple

_START_OF_IMAGE = b"\xff\xd8"
_SCAN, _FRAMES, _OTHER_FRAMES = 0xDA, (0xC0, 0xC1), range(0xC2, 0xD0)
"""Where the header ends; baseline and extended frames, coded by Huffman; frames of other kinds,
among them the tables of both codings."""
_HUFFMAN = 0xC4
_QUANTISATION, _APPLICATION_0 = 0xDB, 0xE0
_RESTARTS, _COMMENT = 0xDD, 0xFE
_LENGTHLESS = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)
"""Bytes after 0xFF that no length follows; in a header none of them has its place."""

_TABLE_BYTES = 65
"""A quantisation table of 8 bits an entry with its number."""
_JFIF_BYTES = 14

_SAMPLINGS = tuple(bytes((luma, 0x11, 0x11)) for luma in (0x11, 0x21, 0x22, 0x41))
"""Horizontal and vertical factors of three colours: 4:4:4, 4:2:2, 4:2:0, 4:1:1."""


class Header(NamedTuple):
    """Of a sequential JPEG that is grey or of three colours sampled in a usual way."""

    height: int
    width: int
    says_no_more: bool
    """Whether no segment may turn the picture, replace it or add others to it (EXIF, XMP, MPF,
    Adobe, ...)."""


def sequential_header(content: bytes) -> Header | None:
    """Read the header of a JPEG on whose pixels decoders agree.

    Args:
        content: Of the whole file.

    Returns:
        None for what is no JPEG, has a damaged header, is progressive, arithmetic or lossless, of
        other colours, precision or sampling, or stored colour by colour.
    """
    if not content.startswith(_START_OF_IMAGE):
        return None
    place, frame, says_no_more = len(_START_OF_IMAGE), b"", True
    # A segment too short to tell is cut off: its bytes are missing, and nothing compares equal.
    while content[place : place + 1] == b"\xff":
        marker = int.from_bytes(content[place + 1 : place + 2], "big")
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place + 4 : place + 2 + length]
        if marker in _LENGTHLESS or length < 2 or len(segment) != length - 2:
            return None
        if marker == _SCAN:
            # A scan of fewer colours than the frame: others follow, and may be missing.
            if not frame or segment[:1] != frame[5:6]:
                return None
            height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (1, 3))
            return Header(height, width, says_no_more)
        if marker in _FRAMES:
            if frame or not _is_usual(segment):
                return None
            frame = segment
        elif marker in _OTHER_FRAMES and marker != _HUFFMAN:
            return None
        else:
            says_no_more = says_no_more and _is_plain(marker, segment)
        place += 2 + length
    return None


def _is_usual(frame: bytes) -> bool:
    """Say whether a frame is whole, of 8 bits, of some size, and sampled in a usual way."""
    precision, height, width, num_colours = frame[:1], frame[1:3], frame[3:5], frame[5:6]
    if precision != b"\x08" or not any(height) or not any(width):
        return False
    if num_colours == b"\x01":
        return len(frame) == 9
    return num_colours == b"\x03" and len(frame) == 15 and frame[7::3] in _SAMPLINGS


def _is_plain(marker: int, segment: bytes) -> bool:
    """Say whether a segment is whole, and of those that only say how to decode."""
    if marker == _QUANTISATION:
        return len(segment) % _TABLE_BYTES == 0 and max(segment[::_TABLE_BYTES], default=16) < 16
    if marker == _APPLICATION_0:
        return segment.startswith(b"JFIF\0") and len(segment) >= _JFIF_BYTES
    return marker in (_HUFFMAN, _RESTARTS, _COMMENT)
