"""What a packet will give, read from its first bits: whether it shows a frame, and who needs it.

Nothing is decoded here. A codec is listed only where three things are known of its bitstream:

- which packets show a frame (VP8 and VP9 have hidden ones, MPEG-4 has place holders);
- which keyframes are *entries*: decoding may begin there, and all that is shown from there on is
  what it would have been (a keyframe flag alone also marks the middle of an intra refresh);
- which packets are *disposable*: no other picture refers to them, so they need not be decoded
  (ITU-T H.264 7.4.1 nal_ref_idc = 0; H.265 7.4.2.2 the sub-layer non-reference types, which
  need a single temporal layer; B pictures of MPEG-1, 2 and 4).

All others are decoded whole. What is not seen here is H.264 of which a few frames only are coded as
two fields (PAFF), if its container gives each field a packet: its slice headers are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntFlag


class Holds(IntFlag):
    """What one packet holds."""

    NOTHING = 0
    SHOWN = 1
    """Gives a frame that is shown."""
    ENTRY = 2
    """Decoding may begin here, if the container calls it a keyframe."""
    DISPOSABLE = 4
    """Nothing else refers to it."""
    FORWARD = 8
    """Is shown only when the next one that is no B picture arrives (MPEG-4)."""


_ALWAYS = Holds.SHOWN | Holds.ENTRY
_INTRA_ONLY = _ALWAYS | Holds.DISPOSABLE

Reader = Callable[[bytes, Iterable[bytes]], list[Holds] | None]
"""(extra data, packets in decoding order) -> what each holds; None where that can't be known."""


def what_packets_hold(codec: str, extradata: bytes, packets: Iterable[bytes]) -> list[Holds] | None:
    """Say what each packet holds.

    Args:
        codec: libavcodec's name of the decoder.
        extradata: What the container keeps of the codec's headers.
        packets: All packets of the stream in decoding order, taken one by one to the last.

    Returns:
        One entry a packet; None of a codec that is not listed, or of a stream that is too odd.
    """
    reader = _READERS.get(codec)
    each = iter(packets)
    held = None if reader is None else reader(extradata, each)
    for _ in each:
        pass
    return held


def is_packed(codec: str, extradata: bytes, first_packet: bytes) -> bool:
    """Say whether B pictures travel in the packet of another picture, as DivX marks by a "p".

    Then every packet must reach the decoder, and unwanted ones are skipped inside it.
    """
    if codec != "mpeg4":
        return False
    for headers in (extradata, first_packet[:4096]):
        start = headers.find(b"\x00\x00\x01\xb2DivX")
        if start >= 0:
            words = headers[start + 4 : start + 64].split(b"\x00", 1)[0]
            return words.endswith(b"p")
    return False


# ------------------------------------------------------------------------------- H.264 and H.265


def _start_codes(data: bytes) -> Iterator[int]:
    """Give where each thing begins that follows 00 00 01."""
    start = data.find(b"\x00\x00\x01")
    while 0 <= start < len(data) - 3:
        yield start + 3
        start = data.find(b"\x00\x00\x01", start + 3)


def _units(data: bytes, length_size: int) -> Iterator[tuple[int, int]]:
    """Give where each NAL unit begins and ends; a length size of 0 means start codes (Annex B)."""
    if length_size == 0:
        starts = list(_start_codes(data))
        yield from zip(starts, [*(start - 3 for start in starts[1:]), len(data)], strict=False)
        return
    position, end = 0, len(data)
    while position + length_size < end:
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
        yield start, position


class _Headers:
    """Parameter sets on their way to the decoder: an entry behind a change must bring its own."""

    def __init__(self, extradata: bytes, kinds: tuple[int, ...]) -> None:
        self._known = extradata
        self._kinds = kinds
        self._changed = False

    def allow(self, brought: dict[int, bytes]) -> bool:
        """Note what a packet brings, by kind; say whether decoding may begin with it."""
        self._changed = self._changed or any(each not in self._known for each in brought.values())
        return not self._changed or all(kind in brought for kind in self._kinds)


def _h264(extradata: bytes, packets: Iterable[bytes]) -> list[Holds]:
    length_size = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0
    # Sequence and picture parameter sets (H.264 Table 7-1).
    headers = _Headers(extradata, (7, 8))
    held = []
    for packet in packets:
        entry = disposable = shown = False
        brought: dict[int, bytes] = {}
        for start, end in _units(packet, length_size):
            kind = packet[start] & 31
            if kind in (1, 2, 5):
                disposable = (not shown or disposable) and not packet[start] & 0x60
                shown = True
                entry = entry or kind == 5
            elif kind == 6:
                entry = entry or _recovers_at_once(packet, start + 1)
            elif kind in (7, 8, 13, 15):
                brought[kind] = packet[start:end].rstrip(b"\x00")
        # A parameter set is needed by whoever comes later.
        held.append(
            _holds(
                shown=shown,
                entry=headers.allow(brought) and entry,
                disposable=disposable and not brought,
            )
        )
    return held


def _recovers_at_once(data: bytes, position: int) -> bool:
    """Say whether an SEI unit marks a recovery point that is exact from its own picture on.

    H.264 D.1.8: recovery_frame_cnt = 0 (one bit, 1), exact_match_flag = 1, broken_link_flag = 0.
    """
    end = min(len(data), position + 512)
    while position + 2 < end:
        kind = size = 0
        while position < end and data[position] == 255:
            kind, position = kind + 255, position + 1
        if position >= end:
            return False
        kind, position = kind + data[position], position + 1
        while position < end and data[position] == 255:
            size, position = size + 255, position + 1
        if position >= end:
            return False
        size, position = size + data[position], position + 1
        if kind == 6:
            return position < end and data[position] & 0b11100000 == 0b11000000
        if size == 0 or data[position : position + 1] == b"\x80":
            return False
        position += size
    return False


def _hevc(extradata: bytes, packets: Iterable[bytes]) -> list[Holds] | None:
    """Follow the units of each packet; say nothing of a stream that hides pictures.

    A decoder drops the pictures that lead a BLA picture, or the first one behind the end of a
    sequence (RASL, H.265 8.3.1), those still waiting at a no_output_of_prior_pics_flag (C.5.2.2),
    and those that a pic_output_flag marks (7.4.7.1).
    """
    if _may_mark_hidden(extradata):
        return None
    length_size = (extradata[21] & 3) + 1 if len(extradata) > 22 and extradata[0] == 1 else 0
    # Video, sequence and picture parameter sets (H.265 Table 7-1).
    headers = _Headers(extradata, (32, 33, 34))
    held: list[Holds] = []
    one_layer = True
    has_ended = False
    for packet in packets:
        shown = entry = disposable = False
        brought: dict[int, bytes] = {}
        for start, end in _units(packet, length_size):
            if start + 1 >= len(packet):
                break
            kind = packet[start] >> 1 & 63
            one_layer = one_layer and packet[start + 1] & 7 == 1
            if kind in (16, 17, 18) or (kind < 32 and has_ended):
                return None
            # The second bit of such a slice is no_output_of_prior_pics_flag; the first has none.
            if (
                16 <= kind < 24
                and held
                and any(byte & 0x40 for byte in packet[start + 2 : start + 3])
            ):
                return None
            has_ended = has_ended or kind in (36, 37)
            if kind < 32:
                disposable = (not shown or disposable) and kind < 16 and kind % 2 == 0
                shown = True
                # BLA, IDR and CRA pictures.
                entry = entry or 16 <= kind <= 21
            elif kind in (32, 33, 34):
                if kind == 34 and _marks_hidden(packet[start + 2 : end]):
                    return None
                brought[kind] = packet[start:end].rstrip(b"\x00")
        held.append(
            _holds(
                shown=shown,
                entry=headers.allow(brought) and entry,
                disposable=disposable and not brought,
            )
        )
    if one_layer:
        return held
    return [each & ~Holds.DISPOSABLE for each in held]


def _may_mark_hidden(extradata: bytes) -> bool:
    """Look through the parameter sets of the container (ISO/IEC 14496-15, 8.3.3.1.2)."""
    if extradata[:1] != b"\x01":
        units = [extradata[start:end] for start, end in _units(extradata, 0)]
    else:
        units, position = [], 23
        for _ in range(extradata[22] if len(extradata) > 22 else 0):
            count = int.from_bytes(extradata[position + 1 : position + 3], "big")
            position += 3
            for _ in range(count):
                start = position + 2
                position = start + int.from_bytes(extradata[position:start], "big")
                units.append(extradata[start:position])
                if position >= len(extradata):
                    break
    return any(len(unit) > 2 and unit[0] >> 1 == 34 and _marks_hidden(unit[2:]) for unit in units)


def _marks_hidden(picture_set: bytes) -> bool:
    """Read output_flag_present_flag of a picture parameter set.

    H.265 7.3.2.3: two ue(v), the ids of this set and of its sequence's, then
    dependent_slice_segments_enabled_flag and output_flag_present_flag.
    """
    bits = "".join(f"{byte:08b}" for byte in picture_set[:16])
    position = 0
    for _ in range(2):
        one = bits.find("1", position)
        if one < 0:
            return False
        position = 2 * one - position + 1
    return bits[position + 1 : position + 2] == "1"


def _holds(*, shown: bool, entry: bool, disposable: bool) -> Holds:
    return Holds(
        (Holds.SHOWN if shown else 0)
        | (Holds.ENTRY if entry else 0)
        | (Holds.DISPOSABLE if disposable else 0)
    )


# ------------------------------------------------------------------------------ MPEG-1, 2 and 4


def _mpeg12(extradata: bytes, packets: Iterable[bytes]) -> list[Holds]:
    held = []
    for packet in packets:
        kinds = [
            packet[start + 2] >> 3 & 7
            for start in _start_codes(packet)
            if packet[start] == 0 and start + 2 < len(packet)
        ]
        # Quantiser matrices come with the sequence header.
        headed = any(packet[start] == 0xB3 for start in _start_codes(packet))
        held.append(
            _holds(
                shown=bool(kinds),
                entry=headed and kinds[:1] == [1],
                disposable=bool(kinds) and not headed and all(kind == 3 for kind in kinds),
            )
        )
    return held


_FORWARD_KINDS = "IPS"


def _mpeg4(extradata: bytes, packets: Iterable[bytes]) -> list[Holds] | None:
    """Follow `ff_h263_decode_frame` and `ff_mpeg4_frame_end` of libavcodec.

    One picture is decoded a packet. Of a packet with two, the second waits for the next packet, and
    takes the place of that one's own (a place holder that is not coded, or the next to wait).
    """
    packed = False
    first_headers = b""
    held: list[Holds] = []
    waiting: tuple[str, bool] | None = None
    for packet in packets:
        headers = _mpeg4_headers(packet)
        if not held:
            packed = is_packed("mpeg4", extradata, packet)
            first_headers = headers
        objects = _mpeg4_objects(packet)
        if not packed and len(objects) > 1:
            return None
        now = waiting or (objects[0] if objects else None)
        rest = objects if waiting else objects[1:]
        waiting = None
        if now is None or not now[1]:
            held.append(Holds.NOTHING)
            continue
        # Its first is what libavcodec looks at, and takes if it is an I or B picture.
        if packed and rest and rest[0][0] in "IB" and len(packet) > 7:
            if len(rest) > 1:
                return None
            waiting = rest[0]
        kind = now[0]
        held.append(
            Holds.SHOWN
            | (Holds.FORWARD if kind in _FORWARD_KINDS else 0)
            # What waits must be taken up, so that its packet can't be skipped.
            | (Holds.DISPOSABLE if kind == "B" and waiting is None else 0)
            # Other headers than the first might change how all that follows is decoded.
            | (Holds.ENTRY if kind == "I" and headers == first_headers else 0)
        )
    return held


def _mpeg4_objects(packet: bytes) -> list[tuple[str, bool]]:
    """Give the kind of each video object plane of a packet, and whether it is coded.

    ISO/IEC 14496-2 6.2.5: vop_coding_type, modulo_time_base (ones up to a zero), a marker,
    vop_time_increment of a length that the headers say, a marker, vop_coded. Place holders are so
    short that what is not coded can be told by length alone (MAX_NVOP_SIZE of libavcodec is 19).
    """
    starts = [start for start in _start_codes(packet) if packet[start] == 0xB6]
    ends = [*(start - 4 for start in starts), len(packet)][1:]
    return [
        ("IPBS"[packet[start + 1] >> 6], end - start > 4)
        for start, end in zip(starts, ends, strict=True)
        if start + 1 < len(packet)
    ]


def _mpeg4_headers(packet: bytes) -> bytes:
    """Give what stands before the first picture of a packet, but its group's time."""
    for start in _start_codes(packet):
        if packet[start] in (0xB3, 0xB6):
            return packet[: start - 3]
    return b""


# --------------------------------------------------------------------------------- VP8, VP9, AV1


def _vp8(extradata: bytes, packets: Iterable[bytes]) -> list[Holds]:
    # RFC 6386 9.1: bit 0 is 0 of a keyframe, bit 4 is show_frame.
    return [
        _holds(shown=bool(packet[0] & 16), entry=not packet[0] & 1, disposable=False)
        for packet in packets
    ]


def _vp9(extradata: bytes, packets: Iterable[bytes]) -> list[Holds]:
    return [_vp9_packet(packet) for packet in packets]


def _vp9_packet(packet: bytes) -> Holds:
    """Read a frame header (VP9 bitstream 6.2), or trust a superframe to show its last frame."""
    bits = packet[0]
    profile = bits >> 5 & 1 | bits >> 3 & 2
    shift = 3 if profile < 3 else 2
    shows_old = bits >> shift & 1
    shown = bits >> (shift - 2) & 1
    is_key = not shows_old and not bits >> (shift - 1) & 1
    shows = bool(_is_superframe(packet) or shows_old or shown)
    return _holds(shown=shows, entry=is_key, disposable=False)


def _is_superframe(packet: bytes) -> bool:
    """Look for a superframe's index (VP9 annex B): the same marker 110xxxxx before and behind it.

    The marker's lower bits are the bytes of a size less one (2 bits) and the frames less one (3).
    """
    marker = packet[-1]
    size = 2 + ((marker >> 3 & 3) + 1) * ((marker & 7) + 1)
    return marker & 0xE0 == 0xC0 and len(packet) >= size and packet[-size] == marker


def _mjpeg(extradata: bytes, packets: Iterable[bytes]) -> list[Holds]:
    """Look whether each picture brings its tables: FF DB to quantise and, if the first does, FF C4.

    ITU-T T.81 B.2.4: tables stay as they are until they are defined again.
    """
    heads = [packet[: packet.find(b"\xff\xda")] for packet in packets]
    needs_huffman = any(b"\xff\xc4" in head for head in heads)
    own = [b"\xff\xdb" in head and (b"\xff\xc4" in head or not needs_huffman) for head in heads]
    if all(own):
        return [_INTRA_ONLY] * len(heads)
    return [_holds(shown=True, entry=each, disposable=False) for each in own]


def _each(held: Holds) -> Reader:
    return lambda extradata, packets: [held for _ in packets]


_READERS: dict[str, Reader] = {
    "h264": _h264,
    "hevc": _hevc,
    "mpeg1video": _mpeg12,
    "mpeg2video": _mpeg12,
    "mpeg4": _mpeg4,
    "vp8": _vp8,
    "vp9": _vp9,
    "libdav1d": _each(_ALWAYS),
    "av1": _each(_ALWAYS),
    "ffv1": _each(_ALWAYS),
    "mjpeg": _mjpeg,
    "prores": _each(_INTRA_ONLY),
    "dnxhd": _each(_INTRA_ONLY),
}
