"""Every trap of the reader is read through barcodes: the picture itself says which frame it is."""

from __future__ import annotations

import csv
import errno
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
from rsbench.media import barcode, image, machine
from rsbench.media.barcode import barcode_frames, read_barcode
from rsbench.media.frames import frame_names
from rsbench.media.looking import Look
from rsbench.media.sampling import SAMPLERS, chooser, sample_clips
from rsbench.media.video import (
    conversion,
    count_frames,
    decoder_version,
    decoding,
    index,
    read_all_frames,
    read_clips,
    reading,
    streaming,
    timeline,
    write_video,
    writing,
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

    # Some other libav decoded for the reference; both decoders are exact by their standards, and
    # MPEG-4's inverse transform may be off by a level.
    assert frames.shape == reference.shape
    assert np.abs(frames.astype(int) - reference).max() <= (2 if name == "a.avi" else 0)


def test_a_wrong_guess_from_the_packets_changes_nothing(mp4, monkeypatch):
    clip = ClipSpec(frames=8, stride=2)
    expected = read_clips(mp4, chooser("mmaction2@1", clip=clip, num_clips=3)).frames
    wrong = timeline.Timeline(np.arange(7), 11.0)

    _as_if_departed(monkeypatch)
    for guess in (None, wrong):
        monkeypatch.setattr(reading, "_guess", lambda *words, guess=guess: guess)
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


# --- only what is needed is decoded


def _as_if_departed(monkeypatch):
    """Make every promise fail, so that files are decoded whole: the second source."""

    def depart(*words, **named):
        raise decoding.Departure("not as promised")

    monkeypatch.setattr(reading, "decode_runs", depart)


def _moving_noise(num_frames, height, width, seed):
    """Give pictures of which each pixel tells the frame: noise that moves over a still ground."""
    chance = np.random.default_rng(seed)
    ground = chance.integers(0, 256, (height, width + 4 * num_frames, 3), dtype=np.uint8)
    for number in range(num_frames):
        frame = ground[:, :width].copy()
        frame[: height // 2] = ground[: height // 2, 4 * number : 4 * number + width]
        frame[:, :8] = chance.integers(0, 256, (height, 8, 3), dtype=np.uint8)
        yield frame


def _random_video(folder, seed):
    """Write a video whose codec, groups of pictures, rate and start are drawn by lot."""
    chance = random.Random(seed)
    codec, suffixes = chance.choice(
        [
            ("libx264", (".mp4", ".mkv", ".ts", ".flv", ".mov")),
            ("libx264", (".mp4", ".mkv", ".ts")),
            ("libx265", (".mp4", ".mkv", ".ts")),
            ("mpeg4", (".mp4", ".avi", ".mkv")),
            ("mpeg2video", (".mpg", ".ts", ".mkv")),
            ("libvpx-vp9", (".webm", ".mp4")),
            ("libvpx", (".webm",)),
            ("libsvtav1", (".mp4", ".mkv")),
            ("mjpeg", (".avi", ".mov")),
            ("ffv1", (".mkv",)),
        ]
    )
    group = chance.choice([4, 7, 12, 30, 250])
    options = {"g": str(group)}
    if codec == "libx264":
        options |= {
            "bf": str(chance.choice([0, 1, 3, 8])),
            "crf": "30",
            "x264-params": f"open-gop={chance.choice([0, 1])}:b-pyramid={chance.choice([0, 2])}"
            f":ref={chance.choice([1, 3, 8])}:intra-refresh={int(chance.random() < 0.15)}"
            f":sliced-threads=0:slices={chance.choice([1, 3])}:weightp={chance.choice([0, 2])}",
        }
    elif codec == "libx265":
        options["x265-params"] = (
            f"log-level=none:pools=none:frame-threads=1:keyint={group}"
            f":open-gop={chance.choice([0, 1])}:bframes={chance.choice([0, 2, 4])}"
            f":b-pyramid={chance.choice([0, 1])}:temporal-layers={chance.choice([0, 1])}"
        )
    elif codec in ("mpeg4", "mpeg2video"):
        options["bf"] = str(chance.choice([0, 1, 2]))
    elif codec in ("libvpx-vp9", "libvpx"):
        options |= {"cpu-used": "8", "lag-in-frames": "12", "auto-alt-ref": "1", "b": "300k"}
    elif codec == "libsvtav1":
        options |= {"preset": "12", "crf": "40"}
    num_frames = chance.randrange(20, 60)
    times = None
    if suffixes == (".mp4", ".mkv", ".ts") and chance.random() < 0.5:
        steps = [chance.choice([1, 1, 2, 5]) for _ in range(num_frames)]
        start = chance.choice([0, 0, 77])
        times = [Fraction(start + sum(steps[:place]), 100) for place in range(num_frames)]
    path = folder / f"{seed}{chance.choice(suffixes)}"
    write_video(
        path,
        _moving_noise(num_frames, 64, 96, seed),
        fps=25,
        codec=codec,
        pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p",
        options=options,
        times=times,
        time_base=Fraction(1, 100) if times is not None else None,
        audio_codec=chance.choice([None, "aac"]) if path.suffix in (".mp4", ".mkv") else None,
    )
    return path


@pytest.mark.parametrize("part", range(8))
def test_what_is_needed_gives_the_pictures_of_the_whole(tmp_path, monkeypatch, part):
    num_videos = max(1, round(4 * float(os.environ.get("RSBENCH_SOAK", "1"))))
    num_read = num_decoded_whole = 0
    for number in range(num_videos):
        seed = 1000 * part + number
        try:
            path = _random_video(tmp_path, seed)
        except MediaError:
            continue  # this libav has no such encoder
        chance = np.random.default_rng(seed)
        index_file = tmp_path / f"{seed}.index"
        with monkeypatch.context() as whole:
            _as_if_departed(whole)
            everything = read_all_frames(path)
        count = len(everything)
        for _ in range(6):
            shape = (int(chance.integers(1, 5)), int(chance.integers(1, 7)))
            rows = chance.integers(0, count, shape)

            clips = read_clips(path, lambda n, fps, rows=rows: rows, index_file=index_file)

            assert clips.num_frames == count, path.name
            assert np.array_equal(clips.frames, everything[rows]), path.name
            num_read += 1
            num_decoded_whole += any("decoded whole" in remark for remark in clips.remarks)

    # An intra refresh, or pictures that come in two packets, may not keep what packets promise.
    assert num_decoded_whole <= num_read / 2


def _num_decoded(path, rows, monkeypatch, **named):
    """Count the packets that go through the decoder for some frames."""
    numbers = []
    real = reading.plan_runs

    def spy(index, wanted):
        runs = real(index, wanted)
        numbers.extend(number for run in runs for number in run.packets)
        return runs

    with monkeypatch.context() as patch:
        patch.setattr(reading, "plan_runs", spy)
        read_clips(path, lambda n, fps: np.array(rows), **named)
    return len(numbers)


def test_no_more_is_decoded_than_the_frames_need(tmp_path, barcodes, monkeypatch):
    path = tmp_path / "groups.mp4"
    options = {"g": "10", "bf": "0", "sc_threshold": "0"}
    write_video(path, barcodes, fps=25, options=options)

    # Groups of ten frames that each refer to the one before: a frame needs its group up to it.
    assert _num_decoded(path, [[0]], monkeypatch) == 1
    assert _num_decoded(path, [[9]], monkeypatch) == 10
    assert _num_decoded(path, [[12, 32]], monkeypatch) == 6
    # Clips that overlap are decoded once.
    assert _num_decoded(path, [[20, 22, 24], [21, 23, 25], [20, 22, 24]], monkeypatch) == 6
    assert _num_decoded(path, [list(range(40))], monkeypatch) == 40


def test_pictures_that_nothing_refers_to_are_not_decoded(tmp_path, barcodes, monkeypatch):
    path = tmp_path / "b.mp4"
    options = {"g": "250", "bf": "1", "sc_threshold": "0", "x264-params": "b-adapt=0"}
    write_video(path, barcodes, fps=25, options=options)

    # Every second one is a B picture: of frames 0 to 30 those that are even, or the one wanted.
    assert _num_decoded(path, [[0, 30]], monkeypatch) <= 17
    assert _num_decoded(path, [[0, 29, 30]], monkeypatch) <= 18


# --- the index on disk


def test_an_index_saves_reading_the_file_through(mp4, tmp_path, monkeypatch):
    index_file = tmp_path / "deep" / "index"
    rows = np.array([[3, 30, 3]])
    first = read_clips(mp4, lambda n, fps: rows, index_file=index_file)

    def fail(*words):
        raise AssertionError("read through again")

    monkeypatch.setattr(index, "make_index", fail)
    second = read_clips(mp4, lambda n, fps: rows, index_file=index_file)

    assert [path.name for path in index_file.parent.iterdir()] == ["index"]
    assert np.array_equal(first.frames, second.frames)
    assert first[1:] == second[1:]
    assert [_codes(frames) for frames in second.frames] == rows.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_an_index_that_is_broken_is_made_again(mp4, tmp_path, seed):
    index_file = tmp_path / "index"
    rows = np.array([[3, 30, 3]])
    expected = read_clips(mp4, lambda n, fps: rows, index_file=index_file)
    whole = index_file.read_bytes()
    chance = random.Random(seed)
    broken = bytearray(whole)
    broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    index_file.write_bytes(broken[: chance.choice([len(broken), chance.randrange(len(broken))])])

    clips = read_clips(mp4, lambda n, fps: rows, index_file=index_file)

    assert np.array_equal(clips.frames, expected.frames)
    assert index_file.read_bytes() == whole


def test_an_index_of_another_file_is_made_again(mp4, tmp_path, barcodes):
    other, index_file = tmp_path / "other.mp4", tmp_path / "index"
    write_video(other, barcodes[:30], fps=25, options={"g": "5"})
    read_clips(other, lambda n, fps: np.array([[1]]), index_file=index_file)

    clips = read_clips(mp4, lambda n, fps: np.array([[n - 1, 2]]), index_file=index_file)

    assert [_codes(frames) for frames in clips.frames] == [[39, 2]]


@pytest.mark.parametrize("place", ["file/in/the/way", "/proc/nothing/may/be/made/here"])
def test_an_index_that_can_not_be_kept_is_done_without(mp4, tmp_path, place):
    (tmp_path / "file").touch()

    clips = read_clips(mp4, lambda n, fps: np.array([[5, 6]]), index_file=tmp_path / place)

    assert [_codes(frames) for frames in clips.frames] == [[5, 6]]


def test_an_index_of_other_libraries_is_made_again(mp4, tmp_path, monkeypatch):
    index_file = tmp_path / "index"
    rows = np.array([[3, 30]])
    read_clips(mp4, lambda n, fps: rows, index_file=index_file)
    first = index_file.read_bytes()

    # The same PyAV may be built against another libavformat.
    other = {**av.library_versions, "libavformat": (1, 2, 3)}
    monkeypatch.setattr(av, "library_versions", other)
    read_clips(mp4, lambda n, fps: rows, index_file=index_file)

    assert b'"libavformat": [1, 2, 3]' in index_file.read_bytes()
    assert index_file.read_bytes() != first


@pytest.mark.parametrize("moment", ["before it is opened", "behind its end"])
def test_of_a_file_that_changes_while_it_is_read_no_index_is_kept(
    mp4, tmp_path, monkeypatch, moment
):
    path, index_file = tmp_path / "a.mp4", tmp_path / "index"
    shutil.copyfile(mp4, path)
    name = "open_video" if moment == "before it is opened" else "kept_index"
    module = reading if name == "open_video" else index
    name = name if module is reading else "make_index"
    real = getattr(module, name)

    def replace(*words):
        # The size stays, so that nothing but the times tells.
        os.utime(path, ns=(1, 1))
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, replace)
        read_clips(path, lambda n, fps: np.array([[0]]), index_file=index_file)
    assert not index_file.exists()

    read_clips(path, lambda n, fps: np.array([[0]]), index_file=index_file)
    assert index_file.exists()


def test_a_full_disk_never_fails_a_read(mp4, tmp_path, monkeypatch):
    def refuse(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)

    clips = read_clips(mp4, lambda n, fps: np.array([[5]]), index_file=tmp_path / "index")

    assert _codes(clips.frames[0]) == [5]
    assert list(tmp_path.iterdir()) == []


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


def _random_yuv(name, width, height, seed):
    """Give a frame of noise, with every value that its format has."""
    frame = av.VideoFrame(width, height, name)
    chance = np.random.default_rng(seed)
    for plane in frame.planes:
        values = chance.integers(0, 256, plane.buffer_size, dtype=np.uint8)
        if name.endswith("10le"):
            values = chance.integers(0, 1024, plane.buffer_size // 2, dtype=np.uint16).view(
                np.uint8
            )
        plane.update(values.tobytes())
    return frame


@pytest.mark.parametrize("name", sorted(conversion._PLANAR - {"yuvj420p10le", "yuvj422p10le"}))
@pytest.mark.parametrize(("width", "height"), [(96, 64), (98, 66), (45, 67), (340, 256)])
def test_planes_hold_the_values_of_packed_pixels(tmp_path, name, width, height):
    try:
        frame = _random_yuv(name, width, height, seed=width)
    except ValueError:
        pytest.skip(f"this libav has no {name}")
    for matrix, full_range in [(1, False), (5, True), (9, False), (2, False)]:
        frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
        is_plain = name in conversion._PLAIN_FORMATS and width % 2 == height % 2 == 0
        flags = conversion.PLAIN if is_plain else conversion.ACCURATE
        packed = frame.reformat(format="rgb24", interpolation=flags, threads=1).to_ndarray()

        made = conversion.Converter(tmp_path, (width, height), None, reuse_memory=True)

        assert np.array_equal(made(frame), packed)


class _Window:
    """A transform that looks at a part, and spoils what it was given for the next."""

    def __init__(self, top, left, bottom, right, squares=None):
        self._look = Look(top, left, bottom, right, squares=squares)

    def look(self, height, width):
        return self._look

    def __call__(self, pixels):
        top, left, bottom, right = self._look[:4]
        return pixels[top:bottom, left:right].copy()


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_looked_at_has_the_pixels_of_the_whole(tmp_path, name, seed):
    chance = random.Random(seed)
    width, height = 2 * chance.randrange(16, 90), 2 * chance.randrange(16, 90)
    top, left = chance.randrange(height - 8), chance.randrange(width - 8)
    bottom, right = chance.randrange(top + 8, height + 1), chance.randrange(left + 8, width + 1)
    frame = _random_yuv(name, width, height, seed)
    whole = conversion.Converter(tmp_path, (width, height), None, reuse_memory=False)(frame)
    side = min(bottom - top, right - left)
    squares = ((top, left, side), (bottom - side, right - side, side))

    part = _Window(top, left, bottom, right)
    seen = conversion.Converter(tmp_path, (width, height), part, reuse_memory=True)(frame)
    part = _Window(top, left, bottom, right, squares)
    cut = conversion.Converter(tmp_path, (width, height), part, reuse_memory=True).kept(frame)

    assert np.array_equal(seen, whole[top:bottom, left:right])
    for square, (row, column, _) in zip(cut, squares, strict=True):
        assert np.array_equal(square, whole[row : row + side, column : column + side])


@pytest.mark.parametrize("has_squares", [False, True])
def test_a_format_that_changes_midway_spoils_no_pixel(tmp_path, has_squares):
    width, height = 96, 64
    squares = ((20, 30, 24), (16, 26, 24)) if has_squares else None
    part = _Window(16, 26, 44, 54, squares)
    one = conversion.Converter(tmp_path, (width, height), part, reuse_memory=True)
    names = ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p", "yuv420p"]

    for seed, name in enumerate(names):
        frame = _random_yuv(name, width, height, seed)
        whole = conversion.Converter(tmp_path, (width, height), None, reuse_memory=True)(frame)

        seen = one.kept(frame)

        if squares is None:
            assert np.array_equal(seen, whole[16:44, 26:54]), name
        else:
            for square, (row, column, side) in zip(seen, squares, strict=True):
                cut = whole[row : row + side, column : column + side]
                assert np.array_equal(square, cut), name


def test_a_display_matrix_that_turns_midway_is_one_line(tmp_path, barcodes):
    plain, turned = (tmp_path / f"{name}.h264" for name in ("plain", "turned"))
    write_video(plain, barcodes[:6], fps=25, options={"bf": "0"})
    with av.open(str(plain)) as source, av.open(str(turned), "w") as made:
        stream = source.streams.video[0]
        copy = made.add_stream_from_template(stream)
        # It stands in the stream itself, at the first picture, and holds for that one alone
        # (H.264 D.1.27, display orientation).
        words = "h264_metadata=display_orientation=insert:rotate=90"
        filtered = av.bitstream.BitStreamFilterContext(words, stream)
        for packet in source.demux(stream):
            for each in filtered.filter(packet if packet.size else None):
                each.pts = each.dts = 0
                each.stream = copy
                made.mux(each)

    first, later = (
        read_clips(turned, lambda n, fps, row=row: np.array([row])) for row in ([0], [1, 5])
    )
    assert first.frames.shape == (1, 1, WIDTH, HEIGHT, 3)
    assert later.frames.shape == (1, 2, HEIGHT, WIDTH, 3)
    with pytest.raises(
        MediaError, match=r"turned\.h264: must be shown one way round.*64 x 96 to 96"
    ):
        read_all_frames(turned)


def test_clips_lie_as_a_network_reads_them(mp4):
    frames = read_clips(mp4, lambda n, fps: np.array([[1, 2], [3, 2]])).frames

    assert [_codes(clip) for clip in frames] == [[1, 2], [3, 2]]
    assert frames.shape == (2, 2, HEIGHT, WIDTH, 3)
    assert frames.transpose(0, 4, 1, 2, 3).flags.c_contiguous


# --- what is odd is remarked


def _remarks(path):
    return read_clips(path, lambda n, fps: np.array([[0, n - 1]])).remarks


def test_a_sound_file_gets_no_remarks(mp4):
    assert _remarks(mp4) == ()


def test_tags_that_are_not_utf_8_are_remarked(tmp_path, mp4):
    tagged = tmp_path / "tagged.mp4"
    _remux(mp4, tagged, metadata={"title": "TITLETITLE"})
    assert _remarks(tagged) == ()
    content = tagged.read_bytes()
    tagged.write_bytes(content.replace(b"TITLETITLE", b"\xff\xfe\xc3\x28\xa0\xa1\x80\x81\xf8\xf5"))

    assert _remarks(tagged) == ("tags are not UTF-8",)


def test_a_picture_that_its_packet_does_not_hold_is_not_counted(tmp_path, barcodes):
    path = tmp_path / "hole.avi"
    write_video(path, barcodes, fps=25, codec="mpeg4", options={"g": "10"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    position, size = packets[25]
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)

    assert count_frames(path) == 39
    clips = read_clips(path, lambda n, fps: np.array([[24, 25]]))

    assert clips.num_frames == 39
    assert read_barcode(clips.frames[0, 0]) == 24
    assert "header claims 40 frames, 39 decode" in clips.remarks
    # Who does not come near it is told what the packets say.
    assert _remarks(path)[0].startswith("header claims 40 frames, ")
    far = read_clips(path, lambda n, fps: np.array([[n - 1]]))
    assert far.num_frames == 39
    assert far.remarks == ("header claims 40 frames, its packets hold 39",)
    assert _codes(far.frames[0]) == [39]


@pytest.mark.parametrize("row", [[0], [5], [30], [0, 20, 30]])
def test_pictures_that_a_broken_link_hides_are_not_counted(tmp_path, barcodes, row):
    if not _has_encoder("libx265"):
        pytest.skip("no HEVC encoder")
    path = tmp_path / "spliced.mkv"
    words = "open-gop=1:keyint=16:min-keyint=16:bframes=3:b-adapt=0:scenecut=0:log-level=none"
    write_video(path, barcodes, fps=25, codec="libx265", options={"x265-params": words})
    # An editor that joins here names the first CRA picture (21) behind the start BLA_W_LP (16); the
    # three pictures that lead it (RASL) are not shown then (H.265 8.3.1).
    content, leading = bytearray(path.read_bytes()), 0
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    kinds = [[unit[0] >> 1 for unit in _units_of(packet)][-1] for packet in packets]
    splice = kinds.index(21, 1)
    for kind in kinds[splice + 1 :]:
        if kind not in (8, 9):
            break
        leading += 1
    start = content.index(packets[splice])
    last = _units_of(packets[splice])[-1]
    content[start + len(packets[splice]) - len(last)] = 16 << 1
    path.write_bytes(content)

    clips = read_clips(path, lambda n, fps: np.array([row]))

    assert leading == 3
    assert clips.num_frames == count_frames(path) == NUM_FRAMES - leading


def _units_of(packet):
    """Split a packet at its lengths of four bytes (ISO/IEC 14496-15)."""
    units = []
    while packet:
        end = 4 + int.from_bytes(packet[:4], "big")
        units.append(packet[4:end])
        packet = packet[end:]
    return units


def test_damage_met_while_decoding_is_remarked_and_the_file_decoded_whole(tmp_path, barcodes):
    path = tmp_path / "hole.mp4"
    write_video(path, barcodes, fps=25, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    position, size = packets[25]
    # The header of its slice stays, what it holds does not.
    content[position + 12 : position + size] = b"\xff" * (size - 12)
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as whole:
        _as_if_departed(whole)
        everything = read_all_frames(path)

    near = read_clips(path, lambda n, fps: np.array([[24, 28]]))
    far = read_clips(path, lambda n, fps: np.array([[4, 38]]))

    # By the package's definition: what is asked for decides whether the damage is met.
    assert any(remark.startswith("decoded whole: ") for remark in near.remarks)
    assert near.num_frames == len(everything)
    assert np.array_equal(near.frames[0], everything[[24, 28]])
    assert far.remarks == ()
    assert _codes(far.frames[0]) == [4, 38]


@pytest.mark.parametrize("name", ["cut.mp4", "cut.avi"])
def test_a_file_cut_short_says_so(tmp_path, barcodes, name):
    path, fast = tmp_path / f"whole{name[3:]}", tmp_path / name
    write_video(path, barcodes, fps=25, codec="mpeg4", options={"g": "10"})
    _remux(path, fast, options={"movflags": "+faststart"} if name.endswith("mp4") else None)
    with av.open(str(fast)) as container:
        ends = [packet.pos for packet in container.demux(video=0) if packet.size]
    fast.write_bytes(fast.read_bytes()[: ends[24] + 5])
    num_decoded = count_frames(fast)

    remarks = _remarks(fast)

    assert f"header claims 40 frames, {num_decoded} decode" in remarks
    assert "cut or damaged packets: 1" in remarks


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.mkv", "libx264", None),
        ("a.mkv", "libx264", "aac"),
        ("a.webm", "libvpx-vp9", None),
        ("a.flv", "libx264", None),
        ("a.flv", "flv", None),
    ],
)
def test_a_tail_that_the_duration_misses_is_remarked(tmp_path, barcodes, name, codec, sound):
    path = tmp_path / name
    write_video(path, barcodes, fps=25, codec=codec, audio_codec=sound)
    with av.open(str(path)) as container:
        ends = [packet.pos for packet in container.demux(video=0) if packet.size]
    assert _remarks(path) == ()
    path.write_bytes(path.read_bytes()[: ends[24]])
    num_decoded = count_frames(path)

    remarks = _remarks(path)

    assert 20 <= num_decoded <= 25
    assert len(remarks) == 1
    # 25 frames a second; the container was told of 40 of them (FLV counts what B pictures wait).
    words = remarks[0].split()
    assert words[:2] == ["ends", "at"]
    assert words[3:6] == ["s,", "its", "container"]
    assert float(words[2]) == pytest.approx(num_decoded / 25, abs=0.09)
    assert float(words[7]) == pytest.approx(1.6, abs=0.09)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv"])
def test_a_last_frame_that_stays_long_is_no_missing_tail(tmp_path, barcodes, suffix):
    path = tmp_path / f"a{suffix}"
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    times = [Fraction(i, 25) + (2 if i > 20 else 0) + (2 if i == 39 else 0) for i in range(40)]
    write_video(path, barcodes, fps=25, times=times, time_base=Fraction(1, 25), codec=codec)

    assert _remarks(path) == ()


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
        for sound in writing._tone(Fraction(1, 2)):
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


@pytest.mark.parametrize(
    "number",
    [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES],
)
def test_a_machine_in_trouble_is_not_the_files_fault(mp4, tmp_path, monkeypatch, number):
    def fail(*words, **named):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(machine, "_has_memory", lambda: False)

    picture = tmp_path / "folder" / "img_00001.png"
    picture.parent.mkdir()
    image.write_image(picture, np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(av, "open", fail)
    monkeypatch.setattr(image, "_read", fail)

    with pytest.raises(OSError, match=r"clip\.mp4: can't be read just now") as caught:
        count_frames(mp4)
    assert caught.value.errno == number
    with pytest.raises(OSError):
        image.read_image(picture)
    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(OSError):
        frame_names(picture.parent)


def test_an_input_error_is_the_files_fault_where_the_disk_gives_all_bytes(mp4, monkeypatch):
    def fail(*words, **named):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(MediaError, match=r"clip\.mp4: must be a video file \(Input/output error"):
        count_frames(mp4)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        count_frames(mp4)


def test_a_lack_of_memory_is_the_files_fault_where_there_is_memory(mp4, monkeypatch):
    # Damaged tables ask for gigabytes.
    def fail(*words, **named):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", fail)

    with pytest.raises(MediaError, match="Cannot allocate memory"):
        count_frames(mp4)


def test_too_many_open_files_are_told_as_such(mp4, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with pytest.raises(OSError):
            while len(held) < 1000:
                held.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(OSError, match="open files"):
            count_frames(mp4)
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_file_that_decodes_otherwise_the_second_time_is_not_at_fault(mp4, monkeypatch):
    _as_if_departed(monkeypatch)
    monkeypatch.setattr(reading, "_guess", lambda *words: None)
    real = reading.decode_whole
    calls = []

    def shorter(path, take):
        calls.append(path)
        is_first = len(calls) == 1
        return real(path, lambda place, frame: take(place, frame) if is_first else None)

    monkeypatch.setattr(reading, "decode_whole", shorter)
    with pytest.raises(OSError, match=r"clip\.mp4: must decode alike each time"):
        read_all_frames(mp4)

    monkeypatch.setattr(streaming, "frames_of", lambda *words: iter(()))
    with pytest.raises(OSError, match=r"clip\.mp4: must decode alike each time"):
        list(streaming.stream_frames(mp4).frames)


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
        for tone in writing._tone(Fraction(1, 2)):
            container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
