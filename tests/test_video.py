"""Every trap of the reader is read through barcodes: the picture itself says which frame it is."""

from __future__ import annotations

import csv
import math
import os
import random
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rsbench.errors import MediaError, RsbenchError, UnknownNameError
from rsbench.media import barcode, video
from rsbench.media.barcode import barcode_frames, read_barcode
from rsbench.media.sampling import SAMPLERS, chooser, sample_clips
from rsbench.media.video import (
    count_frames,
    decoder_version,
    read_all_frames,
    read_clips,
    write_video,
)
from rsbench.specs import ClipSpec

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real clips (../shared) are absent")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program")

NUM_FRAMES = 40
HEIGHT, WIDTH = 64, 96

B_FRAMES = {"bf": "3", "g": "250"}

CODECS = [
    pytest.param("a.mp4", "libx264", "yuv420p", B_FRAMES, id="h264-b-frames-gop-250"),
    pytest.param("a.avi", "mpeg4", "yuv420p", {}, id="mpeg4-avi"),
    pytest.param("a.avi", "mpeg4", "yuv420p", {"bf": "2"}, id="mpeg4-b-frames-avi"),
    # AVI stores no presentation times: those that libavformat can invent are in the wrong order.
    pytest.param("a.avi", "libx264", "yuv420p", B_FRAMES, id="h264-b-frames-avi"),
    pytest.param("a.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8"}, id="vp9-webm"),
    pytest.param("a.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none"}, id="h265"),
    pytest.param("a.mp4", "libsvtav1", "yuv420p", {"preset": "8", "crf": "20"}, id="av1"),
    pytest.param("a.mkv", "libx264", "yuv420p10le", B_FRAMES, id="h264-ten-bits"),
    pytest.param("a.ts", "libx264", "yuv420p", B_FRAMES, id="h264-transport-stream"),
    pytest.param("a.mpg", "mpeg2video", "yuv420p", {"bf": "2"}, id="mpeg2-program-stream"),
    pytest.param("a.flv", "libx264", "yuv420p", B_FRAMES, id="h264-flv"),
    pytest.param("a.wmv", "wmv2", "yuv420p", {}, id="wmv2-asf"),
    pytest.param("a.avi", "mjpeg", "yuvj420p", {}, id="mjpeg-full-range"),
    pytest.param("a.mkv", "ffv1", "bgr0", {}, id="ffv1-rgb"),
    pytest.param("a.gif", "gif", "rgb8", {}, id="gif"),
    pytest.param("a.h264", "libx264", "yuv420p", B_FRAMES, id="bare-stream-without-times"),
]


@pytest.fixture(autouse=True)
def _quiet_av1_encoder(monkeypatch):
    monkeypatch.setenv("SVT_LOG", "0")


@pytest.fixture(scope="module")
def barcodes():
    return barcode_frames(NUM_FRAMES, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def mp4(tmp_path_factory, barcodes):
    """40 frames at 25 a second, H.264 with B-frames and one key frame, with sound."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, barcodes, fps=25, options=B_FRAMES, audio_codec="aac")
    return path


def _codes(frames):
    return [read_barcode(frame) for frame in frames]


def _has_encoder(codec):
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


# --- which frame is which


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), CODECS)
def test_every_frame_of_every_codec_is_read_in_its_place(
    tmp_path, barcodes, name, codec, pixel_format, options
):
    if not _has_encoder(codec):
        pytest.skip(f"this libav has no {codec}")
    path = tmp_path / name
    write_video(path, barcodes, fps=25, codec=codec, pixel_format=pixel_format, options=options)

    assert _codes(read_all_frames(path)) == list(range(NUM_FRAMES))
    assert count_frames(path) == NUM_FRAMES


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("stride", [1, 3])
def test_clips_hold_exactly_the_sampled_frames(mp4, sampler, stride):
    clip, num_clips = ClipSpec(frames=6, stride=stride), 4
    if sampler in ("ssv2@1", "linspace@1", "uniform@1"):
        num_clips = 1
    if sampler == "tsn@1":
        clip = ClipSpec(frames=1, stride=stride)
    expected = sample_clips(
        sampler, num_frames=NUM_FRAMES, clip=clip, num_clips=num_clips, fps=25.0
    )

    clips = read_clips(mp4, chooser(sampler, clip=clip, num_clips=num_clips)).frames

    assert clips.shape == (num_clips, clip.frames, HEIGHT, WIDTH, 3)
    assert clips.dtype == np.uint8
    assert [_codes(frames) for frames in clips] == expected.tolist()


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.webm"])
def test_pictures_equal_those_of_the_ffmpeg_program(tmp_path, barcodes, name):
    codec = {"a.mp4": "libx264", "a.avi": "mpeg4", "a.webm": "libvpx-vp9"}[name]
    path = tmp_path / name
    write_video(path, barcodes, fps=25, codec=codec, options={"bf": "2"} if name[-1] != "m" else {})
    command = ["ffmpeg", "-v", "error", "-i", path, "-vsync", "passthrough", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], check=True, capture_output=True)
    reference = np.frombuffer(raw.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)

    frames = read_all_frames(path)

    assert frames.shape == reference.shape
    assert np.abs(frames.astype(int) - reference).mean() < 1


def test_a_wrong_guess_from_the_packets_changes_nothing(mp4, monkeypatch):
    clip = ClipSpec(frames=8, stride=2)
    expected = read_clips(mp4, chooser("mmaction2@1", clip=clip, num_clips=3)).frames
    wrong = video._Timeline(np.arange(7), 11.0)

    for guess in (None, wrong):
        monkeypatch.setattr(video, "_guess", lambda path, window, guess=guess: guess)
        clips = read_clips(mp4, chooser("mmaction2@1", clip=clip, num_clips=3)).frames
        assert np.array_equal(clips, expected)


def test_only_sampled_frames_are_transformed_and_kept(mp4):
    shapes = []

    def shrink(pixels):
        shapes.append(pixels.shape)
        return pixels[::2, ::2]

    clip = ClipSpec(frames=4, stride=4)
    clips = read_clips(mp4, chooser("mmaction2", clip=clip, num_clips=2), transform=shrink).frames

    # Hand calculation: span 13, starts 0 and 27: frames 0 4 8 12 and 27 31 35 39, all different.
    assert len(shapes) == 8
    assert set(shapes) == {(HEIGHT, WIDTH, 3)}
    assert clips.shape == (2, 4, HEIGHT // 2, WIDTH // 2, 3)
    assert [_codes(frames) for frames in clips] == [[0, 4, 8, 12], [27, 31, 35, 39]]


def test_an_error_of_the_transform_is_not_blamed_on_the_file(mp4):
    def fail(pixels):
        raise ValueError("my own fault")

    with pytest.raises(ValueError, match="my own fault"):
        read_clips(
            mp4, chooser("tsn", clip=ClipSpec(frames=1, stride=1), num_clips=1), transform=fail
        )


# --- time


def test_windows_follow_presentation_time_at_a_variable_rate(tmp_path, barcodes):
    # Frames 0-19 every 40 ms (to 0.76 s), then 20-39 every 200 ms from 0.8 s.
    times = [Fraction(4 * i, 100) for i in range(20)]
    times += [Fraction(80 + 20 * i, 100) for i in range(20)]
    path = tmp_path / "variable.mp4"
    write_video(
        path, barcodes, fps=25, times=times, time_base=Fraction(1, 100), options={"bf": "2"}
    )

    def window(start, end):
        return _codes(read_all_frames(path, start_seconds=start, end_seconds=end))

    assert window(None, None) == list(range(40))
    assert window(0.8, 1.6) == [20, 21, 22, 23]
    assert window(0.7, 1.0) == [18, 19, 20]
    assert window(0.72, 1.01) == [18, 19, 20, 21]
    assert window(4.5, None) == [39]
    assert window(None, 0.04) == [0]
    assert window(-1.0, math.inf) == list(range(40))


def test_the_sampler_gets_the_frames_of_the_window_only(mp4):
    clips = read_clips(
        mp4,
        chooser("mmaction2", clip=ClipSpec(frames=3, stride=2), num_clips=2),
        start_seconds=0.4,
        end_seconds=1.2,
    ).frames

    # 25 frames a second: [0.4, 1.2) is frames 10 to 29, n = 20; span 5, starts 0 and 15.
    assert [_codes(frames) for frames in clips] == [[10, 12, 14], [25, 27, 29]]


def test_bounds_in_floating_point_hit_the_frame_they_mean(tmp_path, barcodes):
    path = tmp_path / "thirty.mp4"
    write_video(path, barcodes, fps=30)

    for first in range(0, NUM_FRAMES - 1):
        frames = read_all_frames(path, start_seconds=first / 30, end_seconds=(first + 1) / 30)
        assert _codes(frames) == [first]


@pytest.mark.parametrize("name", ["late.mkv", "late.ts", "late.mp4"])
def test_seconds_count_from_the_first_frame_of_a_file_that_starts_late(tmp_path, barcodes, name):
    times = [7 + Fraction(i, 25) for i in range(NUM_FRAMES)]
    path = tmp_path / name
    write_video(path, barcodes, fps=25, times=times, options={"bf": "2"})
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).time > 6

    assert _codes(read_all_frames(path, start_seconds=1.0, end_seconds=1.2)) == [25, 26, 27, 28, 29]


@pytest.mark.parametrize("suffix", [".ts", ".wmv", ".mkv"])
def test_negative_time_stamps_are_times_like_others(tmp_path, barcodes, suffix):
    plain, shifted = tmp_path / f"plain{suffix}", tmp_path / f"shifted{suffix}"
    write_video(plain, barcodes, fps=25, codec="mpeg4", options={"bf": "2"})
    _remux(plain, shifted, shift_seconds=-0.6, options={"avoid_negative_ts": "disabled"})
    with av.open(str(shifted)) as container:
        assert next(container.decode(video=0)).time < -0.5

    assert _codes(read_all_frames(shifted)) == list(range(NUM_FRAMES))
    assert _codes(read_all_frames(shifted, start_seconds=0.2, end_seconds=0.28)) == [5, 6]


def test_frames_that_an_edit_list_cuts_away_are_not_presented(tmp_path, barcodes):
    plain, cut = tmp_path / "plain.mp4", tmp_path / "cut.mp4"
    write_video(plain, barcodes, fps=25, options={"bf": "2"})
    # What lies before 0 becomes the part of the media that the edit list leaves out.
    _remux(plain, cut, shift_seconds=-0.6, options={"avoid_negative_ts": "disabled"})

    assert _codes(read_all_frames(cut)) == list(range(15, NUM_FRAMES))
    assert count_frames(cut) == 25


def test_a_clock_that_is_set_back_does_not_interleave_two_recordings(tmp_path, barcodes):
    part = tmp_path / "part.ts"
    write_video(part, barcodes[:30], fps=25, options=B_FRAMES)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(part.read_bytes() * 2)

    assert _codes(read_all_frames(whole)) == [*range(30), *range(30)]


@pytest.mark.parametrize(
    ("name", "fps"),
    [
        ("a.mp4", Fraction(30)),
        ("a.mkv", Fraction(30)),  # stamps in whole milliseconds: 33, 67, 100
        ("a.mkv", Fraction(30000, 1001)),
        ("a.avi", Fraction(25)),
        ("a.webm", Fraction(239, 8)),
    ],
)
def test_the_sampler_is_told_the_rate_of_the_file(tmp_path, barcodes, name, fps):
    path = tmp_path / name
    codec = {"avi": "mpeg4", "ebm": "libvpx-vp9"}.get(name[-3:], "libx264")
    write_video(path, barcodes, fps=fps, codec=codec)

    assert _rate_told(path) == pytest.approx(float(fps), rel=1e-12)


def test_at_a_variable_rate_the_sampler_is_told_the_average(tmp_path, barcodes):
    times = [Fraction(i * i, 100) for i in range(11)]
    path = tmp_path / "variable.mkv"
    write_video(path, barcodes[:11], fps=100, times=times, time_base=Fraction(1, 100))

    # Ten steps in one second.
    assert _rate_told(path) == pytest.approx(10)


@pytest.mark.parametrize("name", ["one.mp4", "one.gif", "one.h264"])
def test_a_video_of_one_frame_has_a_rate_and_fills_a_clip(tmp_path, barcodes, name):
    path = tmp_path / name
    gif = name.endswith("gif")
    codec, pixel_format = ("gif", "rgb8") if gif else ("libx264", "yuv420p")
    write_video(path, barcodes[:1], fps=25, codec=codec, pixel_format=pixel_format)
    rate = _rate_told(path)

    clips = read_clips(
        path, chooser("mmaction2", clip=ClipSpec(frames=4, stride=2), num_clips=2)
    ).frames

    assert math.isfinite(rate) and rate > 0
    assert [_codes(frames) for frames in clips] == [[0] * 4] * 2


# --- picture


# Display matrices (a, b, c, d): the stored picture's right goes to (a, b), its down to (c, d), as
# libavutil/display.h says; the other column is how to turn an upright picture into the stored one.
MATRICES = [
    pytest.param((1, 0, 0, 1), lambda x: x, id="upright"),
    pytest.param((0, 1, -1, 0), lambda x: np.rot90(x, 1), id="turn-clockwise"),
    pytest.param((-1, 0, 0, -1), lambda x: np.rot90(x, 2), id="half-turn"),
    pytest.param((0, -1, 1, 0), lambda x: np.rot90(x, 3), id="turn-anticlockwise"),
    pytest.param((-1, 0, 0, 1), lambda x: x[:, ::-1], id="mirror"),
    pytest.param((1, 0, 0, -1), lambda x: x[::-1], id="flip"),
    pytest.param((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2), id="transpose"),
]


@pytest.mark.parametrize(("matrix", "store"), MATRICES)
def test_display_matrices_are_applied(tmp_path, barcodes, matrix, store):
    path = tmp_path / "turned.mp4"
    write_video(path, [store(frame) for frame in barcodes[:12]], fps=25, options={"bf": "2"})
    _set_display_matrix(path, matrix)

    frames = read_all_frames(path)

    assert frames.shape == (12, HEIGHT, WIDTH, 3)
    assert _codes(frames) == list(range(12))


@needs_ffmpeg
@pytest.mark.parametrize(("matrix", "store"), MATRICES)
def test_display_matrices_mean_what_the_ffmpeg_program_takes_them_for(tmp_path, matrix, store):
    path = tmp_path / "turned.mp4"
    write_video(path, [store(barcode_frames(4, HEIGHT, WIDTH)[3])], fps=25)
    _set_display_matrix(path, matrix)
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout

    assert read_barcode(np.frombuffer(raw, np.uint8).reshape(HEIGHT, WIDTH, 3)) == 3


def test_a_slanted_display_matrix_is_refused(tmp_path, barcodes):
    path = tmp_path / "slanted.mp4"
    write_video(path, barcodes[:3], fps=25)
    _set_display_matrix(path, (0.7071, 0.7071, -0.7071, 0.7071))

    with pytest.raises(MediaError, match=r"slanted\.mp4: must be shown at a multiple of 90"):
        read_all_frames(path)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("a.mp4", "libx264", "yuv444p"), ("a.avi", "mpeg4", "yuv420p"), ("a.mkv", "ffv1", "yuv420p")],
)
def test_odd_sizes_keep_every_row_and_column(tmp_path, name, codec, pixel_format):
    path = tmp_path / name
    write_video(path, barcode_frames(9, 67, 45), fps=25, codec=codec, pixel_format=pixel_format)

    frames = read_all_frames(path)

    assert frames.shape == (9, 67, 45, 3)
    assert _codes(frames) == list(range(9))


def test_a_change_of_size_is_scaled_to_the_first_frames_size(tmp_path):
    small, large, both = (tmp_path / f"{name}.h264" for name in ("small", "large", "both"))
    write_video(small, barcode_frames(6, 64, 96), fps=25, options={"bf": "0"})
    write_video(large, barcode_frames(6, 96, 144), fps=25, options={"bf": "0"})
    both.write_bytes(small.read_bytes() + large.read_bytes())

    frames = read_all_frames(both)

    assert frames.shape == (12, 64, 96, 3)
    assert _codes(frames) == [*range(6), *range(6)]


# Kr and Kb of the matrices: ITU-R BT.601-7 and BT.709-6, section 3.
@pytest.mark.parametrize(
    ("matrix", "kr", "kb"), [(5, 0.299, 0.114), (1, 0.2126, 0.0722), (2, 0.299, 0.114)]
)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_files_own_matrix_and_range(tmp_path, matrix, kr, kb, full_range):
    luma, blue, red = 120, 90, 170
    path = tmp_path / "colour.mkv"
    _write_flat_yuv(path, (luma, blue, red), matrix=matrix, full_range=full_range)
    y = luma / 255 if full_range else (luma - 16) / 219
    pb, pr = ((c - 128) / (255 if full_range else 224) for c in (blue, red))
    r, b = y + 2 * (1 - kr) * pr, y + 2 * (1 - kb) * pb
    g = (y - kr * r - kb * b) / (1 - kr - kb)

    pixel = read_all_frames(path)[0, 20, 20]

    assert pixel.astype(float) == pytest.approx([255 * r, 255 * g, 255 * b], abs=1.5)


# --- what else is in the file


def test_sound_changes_nothing(tmp_path, barcodes, mp4):
    silent = tmp_path / "silent.mp4"
    write_video(silent, barcodes, fps=25, options=B_FRAMES)
    with av.open(str(mp4)) as container:
        assert len(container.streams.audio) == 1

    assert np.array_equal(read_all_frames(silent), read_all_frames(mp4))


def test_broken_sound_changes_nothing(tmp_path, mp4):
    content = bytearray(mp4.read_bytes())
    with av.open(str(mp4)) as container:
        packets = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    for position, size in packets:
        content[position : position + size] = b"\xff" * size
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content)

    assert np.array_equal(read_all_frames(broken), read_all_frames(mp4))


@pytest.mark.parametrize("name", ["tag.mkv", "tag.mp4", "tag.avi"])
def test_tags_that_are_not_utf_8_are_ignored(tmp_path, barcodes, name):
    plain, tagged = tmp_path / f"plain{name[3:]}", tmp_path / name
    write_video(plain, barcodes[:5], fps=25, codec="mpeg4")
    _remux(plain, tagged, metadata={"title": "TITLETITLE"})
    content = tagged.read_bytes()
    assert b"TITLETITLE" in content
    tagged.write_bytes(content.replace(b"TITLETITLE", b"\xff\xfe\xc3\x28\xa0\xa1\x80\x81\xf8\xf5"))

    assert _codes(read_all_frames(tagged)) == list(range(5))


def test_cover_art_is_not_a_video(tmp_path):
    path = tmp_path / "song.m4a"
    _write_song_with_cover(path)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1

    with pytest.raises(MediaError, match=r"song\.m4a: must hold a video stream"):
        count_frames(path)


# --- files that lie, are cut, or are something else


def test_a_header_that_claims_more_frames_is_not_believed(tmp_path, barcodes):
    path = tmp_path / "liar.avi"
    write_video(path, barcodes, fps=25, codec="mpeg4")
    content = bytearray(path.read_bytes())
    main, stream = content.index(b"avih"), content.index(b"strh")
    content[main + 8 + 16 : main + 8 + 20] = struct.pack("<I", 4_000_000_000)
    content[stream + 8 + 32 : stream + 8 + 36] = struct.pack("<I", 4_000_000_000)
    path.write_bytes(content)

    clips = read_clips(
        path, chooser("mmaction2", clip=ClipSpec(frames=5, stride=1), num_clips=2)
    ).frames

    assert count_frames(path) == NUM_FRAMES
    assert [_codes(frames) for frames in clips] == [[0, 1, 2, 3, 4], [35, 36, 37, 38, 39]]


@pytest.mark.parametrize("name", ["cut.avi", "cut.mkv", "cut.ts", "cut.mp4"])
def test_of_a_file_cut_short_the_frames_that_decode_count(tmp_path, barcodes, name):
    path = tmp_path / name
    write_video(path, barcodes, fps=25, codec="mpeg4", options={"g": "10"})
    if name.endswith("mp4"):
        fast = tmp_path / "index_first.mp4"
        _remux(path, fast, options={"movflags": "+faststart"})
        path = fast
    with av.open(str(path)) as container:
        ends = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[24] + 5])
    num_decoded = count_frames(path)
    expected = sample_clips(
        "mmaction2", num_frames=num_decoded, clip=ClipSpec(frames=4, stride=2), num_clips=3, fps=25
    )

    clips = read_clips(
        path, chooser("mmaction2", clip=ClipSpec(frames=4, stride=2), num_clips=3)
    ).frames

    assert 20 <= num_decoded <= 25
    intact = expected < num_decoded - 1  # the last one may be half a picture
    for frames, indices, whole in zip(clips, expected, intact, strict=True):
        codes = [read_barcode(f) for f, ok in zip(frames, whole, strict=True) if ok]
        assert codes == indices[whole].tolist()


def test_a_table_that_claims_four_billion_samples_ends_soon(tmp_path, barcodes):
    path = tmp_path / "bomb.mp4"
    write_video(path, barcodes, fps=25, codec="mpeg4")
    content = bytearray(path.read_bytes())
    sizes = content.index(b"stsz")
    # One constant sample size of one byte, for 2**32 - 1 samples.
    content[sizes + 8 : sizes + 16] = struct.pack(">II", 1, 0xFFFFFFFF)
    path.write_bytes(content)

    try:
        assert count_frames(path) <= path.stat().st_size
    except MediaError as error:
        assert "bomb.mp4" in str(error)


def _text(path):
    path.write_text("label,path\n" * 100)


def _random_bytes(path):
    path.write_bytes(random.Random(0).randbytes(5000))


def _only_a_head(path):
    whole = path.with_name("whole.mp4")
    write_video(whole, barcode_frames(5, 64, 96), fps=25)
    path.write_bytes(whole.read_bytes()[:200])


def _picture(path):
    write_video(path, barcode_frames(1, 64, 96), fps=25, codec="png", pixel_format="rgb24")


def _playlist(path):
    other = path.with_name("other.ts")
    write_video(other, barcode_frames(5, 64, 96), fps=25)
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n"
    )


def _list_of_files(path):
    other = path.with_name("other.mp4")
    write_video(other, barcode_frames(5, 64, 96), fps=25)
    path.write_text(f"ffconcat version 1.0\nfile {other.name}\n")


def _sound_only(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        for sound in video._tone(Fraction(1, 2)):
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (Path.touch, ".mp4"),
        (_text, ".mp4"),
        (_text, ".txt"),
        (_random_bytes, ".mp4"),
        (_only_a_head, ".mp4"),
        (_picture, ".png"),
        (_playlist, ".m3u8"),
        (_list_of_files, ".ffconcat"),
        (_sound_only, ".m4a"),
        (Path.mkdir, ".mp4"),
        (os.mkfifo, ".mp4"),
        (lambda path: path.symlink_to(path.with_name("gone")), ".mp4"),
        (lambda path: None, ".mp4"),
    ],
    ids=[
        "empty", "text", "text-by-name", "random", "head-only", "picture", "playlist",
        "list-of-files", "sound-only", "folder", "pipe", "dangling-link", "missing",
    ],
)  # fmt: skip
def test_what_is_no_video_is_one_line_with_its_name(tmp_path, make, suffix):
    path = tmp_path / f"strange{suffix}"
    make(path)

    for read in (count_frames, read_all_frames):
        with pytest.raises(MediaError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"strange{suffix}: must ")
        assert "\n" not in message
        assert "Traceback" not in message


@pytest.mark.parametrize("name", ["two\nlines.mp4", "http:x.mp4", "100%d.mp4", "ü ñ 中.mp4", "-i"])
def test_odd_names_are_names_of_files(tmp_path, monkeypatch, barcodes, name):
    monkeypatch.chdir(tmp_path)
    write_video(Path("plain.mp4"), barcodes[:3], fps=25)
    Path("plain.mp4").rename(name)

    assert count_frames(Path(name)) == 3
    Path(name).write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        count_frames(Path(name))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_utf_8_can_be_read(tmp_path, barcodes):
    write_video(tmp_path / "plain.mp4", barcodes[:3], fps=25)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    (tmp_path / "plain.mp4").rename(odd)

    assert count_frames(odd) == 3


@pytest.mark.parametrize(
    ("start", "end"), [(5.0, None), (1.0, 1.0), (1.0, 0.5), (0.001, 0.002), (float("nan"), None)]
)
def test_a_window_without_frames_is_named(mp4, start, end):
    with pytest.raises(MediaError, match=r"^clip\.mp4: [^\n]*start and end[^\n]*$"):
        read_all_frames(mp4, start_seconds=start, end_seconds=end)


def test_an_unknown_sampler_is_the_users_word_not_the_files_fault():
    with pytest.raises(UnknownNameError, match="mmaction2"):
        chooser("mmaction", clip=ClipSpec(frames=1, stride=1), num_clips=1)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")]
)
def test_damage_anywhere_gives_frames_or_a_media_error(tmp_path, barcodes, name, codec):
    path = tmp_path / name
    write_video(path, barcodes[:20], fps=25, codec=codec)
    content = path.read_bytes()
    for seed in range(15):
        chance = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(20):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.randrange(len(damaged) // 2, len(damaged))])
        try:
            frames = read_all_frames(path)
        except MediaError as error:
            assert str(error).startswith(f"{name}: ") and "\n" not in str(error)
        else:
            assert len(frames) == count_frames(path) >= 1


# --- writing


@pytest.mark.parametrize(
    ("name", "codec", "audio"),
    [("a.mp4", "libx264", "aac"), ("a.avi", "mpeg4", "mp2"), ("a.webm", "libvpx-vp9", "libopus")],
)
def test_equal_arguments_give_equal_bytes(tmp_path, barcodes, name, codec, audio):
    contents = set()
    for _ in range(4):
        write_video(tmp_path / name, barcodes, fps=25, codec=codec, audio_codec=audio)
        contents.add((tmp_path / name).read_bytes())

    assert len(contents) == 1


def test_flat_blocks_are_encoded_to_equal_bytes(tmp_path):
    # Index and check sum as blocks of one grey that fill whole macroblocks: with x264's macroblock
    # tree, eight repeats of this very video gave seven different files.
    words = [index << 8 | barcode._check_sum(index) for index in range(NUM_FRAMES)]
    bits = [[word >> 23 - place & 1 for place in range(24)] for word in words]
    grids = np.where(np.array(bits).reshape(-1, 4, 6), 240, 16).astype(np.uint8)
    frames = np.repeat(np.kron(grids, np.ones((1, 16, 16), np.uint8))[..., None], 3, axis=3)
    contents = set()
    for _ in range(8):
        write_video(tmp_path / "a.mp4", frames, fps=25, options=B_FRAMES)
        contents.add((tmp_path / "a.mp4").read_bytes())

    assert len(contents) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"frames": []}, "at least one frame"),
        ({"frames": [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)]}, "frame 1"),
        ({"frames": [np.zeros((8, 8), np.uint8)]}, "frame 0"),
        ({"frames": [np.zeros((8, 8, 3), np.float32)]}, "float32"),
        ({"codec": "no_such_codec"}, "no_such_codec"),
        ({"codec": "aac"}, "aac is no video encoder"),
        ({"audio_codec": "mpeg4"}, "mpeg4 is no audio encoder"),
        ({"frames": [np.zeros((9, 9, 3), np.uint8)]}, "libx264"),
        ({"times": [Fraction(0), Fraction(0)]}, "must rise"),
        ({"times": [Fraction(1, 1000)]}, "whole ticks"),
        ({"times": [Fraction(0)]}, "times"),
    ],
)
def test_what_can_not_be_written_leaves_no_file(tmp_path, arguments, reason):
    frames = arguments.get("frames", barcode_frames(2, 64, 96))
    others = {key: value for key, value in arguments.items() if key != "frames"}

    with pytest.raises(MediaError, match=reason):
        write_video(tmp_path / "a.mp4", frames, fps=25, **others)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_media_error(tmp_path, barcodes):
    with pytest.raises(MediaError, match=r"a\.mp4: can't be written"):
        write_video(tmp_path / "none" / "a.mp4", barcodes[:2], fps=25)


def test_the_decoder_names_itself_in_one_word():
    version = decoder_version()

    assert version.startswith(f"av-{av.__version__}/libavformat-")
    assert version.split() == [version]


# --- barcodes


def test_barcodes_read_back_at_any_size():
    for height, width in [(10, 12), (31, 47), (240, 320)]:
        frames = barcode_frames(300, height, width)
        assert frames.shape == (300, height, width, 3)
        assert _codes(frames) == list(range(300))


def test_a_blend_of_two_frames_is_no_frame(barcodes):
    blend = barcodes[5] // 2 + barcodes[10] // 2

    with pytest.raises(MediaError, match="blended"):
        read_barcode(blend)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (96, 64)])
def test_a_turned_or_mirrored_frame_is_refused(height, width):
    for frame in barcode_frames(300, height, width):
        turned = [np.rot90(x, k) for x in (frame, frame[:, ::-1]) for k in range(4)][1:]
        for picture in turned:
            with pytest.raises(MediaError, match="barcode"):
                read_barcode(picture)


@pytest.mark.parametrize(
    ("num_frames", "height", "width"), [(0, 64, 64), (70_000, 64, 64), (5, 4, 4)]
)
def test_barcodes_out_of_range_are_refused(num_frames, height, width):
    with pytest.raises(RsbenchError, match="must be"):
        barcode_frames(num_frames, height, width)


# --- real files


@needs_shared
def test_the_real_avi_clips_decode_to_the_measured_counts():
    folder = SHARED / "ut_interaction_set1"
    with (folder / "annotations.csv").open() as stream:
        rows = list(csv.DictReader(stream))[::6]

    counts = {row["path"]: count_frames(folder / row["path"]) for row in rows}

    assert counts == {row["path"]: int(row["frames_decoded"]) for row in rows}
    assert all(counts[row["path"]] < int(row["frames_header"]) for row in rows)


@needs_shared
def test_the_real_webm_clips_decode_to_the_measured_counts():
    folder = SHARED / "egogestar_ssv2"
    with (folder / "annotations.csv").open() as stream:
        rows = list(csv.DictReader(stream))[::16]

    counts = {row["id"]: count_frames(folder / "videos" / f"{row['id']}.webm") for row in rows}

    assert counts == {row["id"]: int(row["frames_decoded"]) for row in rows}


# --- tools


def _rate_told(path):
    """Give the last rate that a sampler is told while a clip of this file is read."""
    told = []

    def spy(num_frames, fps):
        told.append(fps)
        return np.zeros((1, 1), dtype=np.int64)

    clips = read_clips(path, spy)
    assert told[-1] == clips.fps
    return told[-1]


def _set_display_matrix(path, matrix):
    """Write a 2 x 2 matrix into the track header of an MP4 (ISO/IEC 14496-12, 8.3.2)."""
    a, b, c, d = (round(value * 65536) for value in matrix)
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")
    assert content[header + 4] == 0  # version 0: the matrix is 44 bytes after the type
    content[header + 44 : header + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def _remux(source, target, *, shift_seconds=0.0, options=None, metadata=None):
    """Copy the video packets into another file."""
    with (
        av.open(str(source)) as container,
        av.open(str(target), "w", container_options=options or {}) as made,
    ):
        stream = container.streams.video[0]
        copy = made.add_stream_from_template(stream)
        made.metadata.update(metadata or {})
        for packet in container.demux(stream):
            if packet.dts is None:
                continue
            shift = round(shift_seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copy
            made.mux(packet)


def _write_flat_yuv(path, colour, *, matrix, full_range):
    """Write one flat frame of given Y, Cb, Cr, losslessly, with its matrix and range named."""
    frame = av.VideoFrame(64, 48, "yuv444p")
    for plane, value in zip(frame.planes, colour, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace = frame.colorspace = matrix
        stream.codec_context.color_range = frame.color_range = 2 if full_range else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_song_with_cover(path):
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=48000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(barcode_frames(1, 64, 96)[0], format="rgb24")
        container.mux(cover.encode(picture.reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        for tone in video._tone(Fraction(1, 2)):
            container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
