"""What packets hold, by bits written here after the standards that are named beside them."""

from __future__ import annotations

import pytest

from rsbench.media.video.bitstreams import Holds, is_packed, what_packets_hold

SHOWN, ENTRY, DISPOSABLE, FORWARD = Holds.SHOWN, Holds.ENTRY, Holds.DISPOSABLE, Holds.FORWARD

START = b"\x00\x00\x01"


def _held(codec, *packets, extradata=b""):
    return what_packets_hold(codec, extradata, packets)


# H.264 7.3.1: forbidden_zero_bit, nal_ref_idc (2), nal_unit_type (5); Table 7-1: 1 slice, 5 IDR
# slice, 6 SEI, 7 and 8 parameter sets.


@pytest.mark.parametrize("length_size", [0, 4])
def test_an_h264_slice_that_nothing_refers_to_is_disposable(length_size):
    def packet(*units):
        if length_size == 0:
            return b"".join(START + unit for unit in units)
        return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)

    extradata = b"\x01\x64\x00\x0d\xff\xe1\x00" if length_size else b""
    idr, reference, spare = b"\x65abc", b"\x41abc", b"\x01abc"

    held = _held(
        "h264",
        *(packet(idr), packet(reference), packet(spare), packet(spare, spare)),
        # A field that is referred to, and one that is not; and a parameter set for who comes later.
        *(packet(spare, reference), packet(reference, spare), packet(b"\x68abc", spare)),
        extradata=extradata,
    )

    assert held == [
        *(SHOWN | ENTRY, SHOWN, SHOWN | DISPOSABLE, SHOWN | DISPOSABLE),
        *(SHOWN, SHOWN, SHOWN),
    ]


@pytest.mark.parametrize(
    ("first_bits", "is_entry"),
    [
        (0b11000100, True),  # recovery_frame_cnt 0, exact, link whole
        (0b10000100, False),  # not exact
        (0b11100100, False),  # the link is broken
        (0b01011000, False),  # one frame later (ue(1) is 010)
    ],
)
def test_an_h264_recovery_point_is_an_entry_if_it_is_exact_at_once(first_bits, is_entry):
    # H.264 7.3.2.3: payload type 6, size 1; another message (5, user data) stands before it.
    sei = b"\x06\x05\x03xyz\x06\x01" + bytes([first_bits]) + b"\x80"

    (held,) = _held("h264", START + sei + START + b"\x41abc")

    assert bool(held & ENTRY) == is_entry


def test_an_h264_entry_behind_a_change_of_headers_must_bring_its_own():
    known, other, picture = b"\x67sps", b"\x67SPS", b"\x68pps"
    idr = START + b"\x65abc"
    extradata = START + known + START + picture

    same = START + known + START + picture + idr
    changed = START + other + START + picture + idr
    held = _held("h264", idr, same, idr, changed, idr, changed, extradata=extradata)

    assert [bool(each & ENTRY) for each in held] == [True, True, True, True, False, True]


# H.265 7.3.1.2: forbidden_zero_bit, nal_unit_type (6), layer (6), temporal id + 1 (3); Table 7-1:
# 0 TRAIL_N, 1 TRAIL_R, 19 IDR_W_RADL, 21 CRA.


def _h265(kind, temporal_id=0, content=b"\xafbc"):
    return START + bytes([kind << 1, temporal_id + 1]) + content


def test_h265_pictures_without_reference_are_disposable_in_a_single_layer_only():
    one_layer = _held("hevc", _h265(19), _h265(1), _h265(0), _h265(21))
    two_layers = _held("hevc", _h265(19), _h265(1, 1), _h265(0), _h265(21))

    assert one_layer == [SHOWN | ENTRY, SHOWN, SHOWN | DISPOSABLE, SHOWN | ENTRY]
    assert two_layers == [SHOWN | ENTRY, SHOWN, SHOWN, SHOWN | ENTRY]


@pytest.mark.parametrize("kind", [16, 17, 18])
def test_h265_with_a_broken_link_promises_nothing(kind):
    # H.265 8.3.1: the RASL pictures (8, 9) that lead a BLA picture (16 to 18) are not shown.
    assert _held("hevc", _h265(19), _h265(21), _h265(9)) is not None
    assert _held("hevc", _h265(19), _h265(kind), _h265(9)) is None


@pytest.mark.parametrize("kind", [36, 37])
def test_h265_that_goes_on_behind_an_end_promises_nothing(kind):
    # H.265 Table 7-1: 36 ends a sequence, 37 a bitstream; what follows begins as a BLA does.
    at_the_end = _h265(1) + _h265(kind, content=b"")

    assert _held("hevc", _h265(19), at_the_end) == [SHOWN | ENTRY, SHOWN]
    assert _held("hevc", _h265(19), at_the_end, _h265(21)) is None


def test_h265_that_throws_waiting_pictures_away_promises_nothing():
    # H.265 7.3.6.1: first_slice_segment_in_pic_flag, no_output_of_prior_pics_flag.
    thrown = _h265(19, content=b"\xc0bc")

    assert _held("hevc", thrown, _h265(1), _h265(19)) is not None
    assert _held("hevc", _h265(19), _h265(1), thrown) is None


@pytest.mark.parametrize("place", ["packet", "Annex B", "hvcC"])
def test_h265_that_may_mark_pictures_as_hidden_promises_nothing(place):
    # H.265 7.3.2.3: ue(v) 1 (010), ue(v) 0 (1), dependent_slice_segments_enabled_flag,
    # output_flag_present_flag.
    for flag, bits in ((0, 0b0101_1000), (1, 0b0101_1100)):
        unit = bytes([34 << 1, 1, bits, 0x80])
        extradata, first = b"", _h265(19)
        if place == "packet":
            first = START + unit + first
        elif place == "Annex B":
            extradata = START + b"\x42\x01sps" + START + unit
        else:
            # ISO/IEC 14496-15 8.3.3.1.2: 22 bytes, the number of arrays, then of each its kind and
            # how many units it has, each behind its length; lengths of four bytes in packets.
            sets = b"\xa1\0\1\0\3\x42\1s" + b"\xa2\0\1\0\4" + unit
            extradata = b"\1" + bytes(20) + b"\3\2" + sets
            first = b"\0\0\0\5" + first[3:]

        held = _held("hevc", first, extradata=extradata)

        assert (held is None) == bool(flag)


# ISO/IEC 14496-2 6.2.5: 00 00 01 B6, then vop_coding_type (2): 0 I, 1 P, 2 B.
I_, P_, B_ = (START + b"\xb6" + bytes([kind << 6 | 16]) + b"some picture" for kind in range(3))
EMPTY = bytes.fromhex("000001b651cf")  # as XviD writes it into packed files
DIVX_PACKED = START + b"\xb2DivX503b1393p"


def test_mpeg4_b_pictures_are_disposable_and_others_wait_for_their_turn():
    assert _held("mpeg4", I_, P_, B_) == [
        SHOWN | ENTRY | FORWARD,
        SHOWN | FORWARD,
        SHOWN | DISPOSABLE,
    ]


def test_of_packed_mpeg4_the_second_picture_is_shown_by_the_next_packet():
    # The order of UT-Interaction's 27_5_1.avi, where libavcodec gives frames to 0, 3, 4, 5, 6: the
    # one-byte packets show none, 4 shows what waited in 3, and 5 shows what came in 4.
    packets = [I_, b"\x7f", b"\x7f", P_ + B_, B_, EMPTY, P_]

    held = _held("mpeg4", *packets, extradata=DIVX_PACKED)

    assert [number for number, each in enumerate(held) if each & SHOWN] == [0, 3, 4, 5, 6]
    assert [number for number, each in enumerate(held) if each & FORWARD] == [0, 3, 6]
    # Who skips 4 loses 5.
    assert [number for number, each in enumerate(held) if each & DISPOSABLE] == [5]


def test_two_pictures_in_a_packet_without_the_mark_promise_nothing():
    assert _held("mpeg4", I_, P_ + B_) is None
    assert is_packed("mpeg4", DIVX_PACKED, b"")
    assert not is_packed("mpeg4", START + b"\xb2DivX503b1393", b"")


def test_mpeg4_with_other_headers_than_the_first_is_no_entry():
    first, other = START + b"\x20first", START + b"\x20other"

    held = _held("mpeg4", first + I_, P_, first + I_, other + I_)

    assert [bool(each & ENTRY) for each in held] == [True, False, True, False]


def test_mpeg2_needs_a_sequence_header_to_begin_and_no_b_picture_to_go_on():
    # ISO/IEC 13818-2 6.2.3: 00 00 01 00, temporal_reference (10), picture_coding_type (3).
    def picture(kind):
        return START + bytes([0, 0, kind << 3, 0]) + b"abc"

    sequence = START + b"\xb3abcdefgh"

    held = _held("mpeg2video", sequence + picture(1), picture(1), picture(2), picture(3))

    assert held == [SHOWN | ENTRY, SHOWN, SHOWN, SHOWN | DISPOSABLE]


def test_hidden_frames_of_vp8_and_vp9_are_not_counted():
    # RFC 6386 9.1: bit 0 is 0 of a keyframe, bit 4 is show_frame.
    assert _held("vp8", b"\x10abc", b"\x11abc", b"\x01abc") == [SHOWN | ENTRY, SHOWN, Holds(0)]
    # VP9 6.2: marker 10, profile 00, show_existing_frame, frame_type (0 is key), show_frame.
    key, shown, hidden, old = (bytes([bits]) + b"ab\x00" for bits in (0x82, 0x86, 0x84, 0x88))
    # A superframe (annex B) ends in its index, which stands between two markers 110xxxxx (here two
    # frames, sizes of one byte), and shows its last frame.
    together = bytes([0x84]) + b"ab\xc1\3\1\xc1"
    assert _held("vp9", key, shown, hidden, old, together) == [
        *(SHOWN | ENTRY, SHOWN, Holds(0), SHOWN, SHOWN),
    ]


def test_a_hidden_vp9_frame_that_ends_like_a_superframe_is_none():
    # The marker c5 claims six sizes of one byte: eight bytes that begin with it again.
    assert _held("vp9", b"\x84\1\2\3\xc5", b"\x84" + bytes(9) + b"\xc5") == [Holds(0)] * 2
    assert _held("vp9", b"\x84\xc5" + bytes(6) + b"\xc5") == [SHOWN]


def test_a_jpeg_without_its_own_tables_is_no_entry():
    # ITU-T T.81 table B.1: FF DB quantisation, FF C4 Huffman, FF DA scan.
    whole = b"\xff\xd8\xff\xdb12\xff\xc434\xff\xda56"
    bare = b"\xff\xd8\xff\xda56"

    assert _held("mjpeg", whole, whole) == [SHOWN | ENTRY | DISPOSABLE] * 2
    assert _held("mjpeg", whole, bare) == [SHOWN | ENTRY, SHOWN]


def test_of_a_codec_that_is_not_listed_nothing_is_said():
    taken = []

    assert what_packets_hold("wmv2", b"", (taken.append(n) or b"x" for n in range(3))) is None
    assert taken == [0, 1, 2]
