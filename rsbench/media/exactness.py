"""Prove on this machine that the reader gives the frame asked for: write barcode videos, read them.

Each trial is a short video in one codec, container and way of timing, whose frames carry their
number (`rsbench.media.barcode`). It is read whole, frame by frame out of order, in clips that cross
the borders between groups of pictures, with and without a kept packet index, and by a window of
seconds. What a codec loses does not matter: a frame is right if it is the one that was asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt

from rsbench.errors import MediaError
from rsbench.media import video
from rsbench.media.barcode import barcode_frames, read_barcode

NUM_FRAMES = 40
"""Frames of a trial video: three groups of pictures and a part of one."""
GROUP = 12
"""Frames from one key frame to the next, where a trial does not say otherwise."""
FPS = 25
NUM_RANDOM_CLIPS, FRAMES_PER_CLIP = 3, 6

Timing = Literal["even", "variable", "late"]
_STEPS = {"even": (2,), "variable": (1, 2, 6), "late": (2,)}
"""Ticks from one frame to the next, taken in turn."""
_TICK = Fraction(1, 2 * FPS)
_LATE_SECONDS = 7

_X264_GROUP = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:b-adapt=0"
_X265_GROUP = f"log-level=none:keyint={GROUP}:min-keyint={GROUP}:scenecut=0:b-adapt=0:bframes=3"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A trial video: how it is written."""

    name: str
    """Codec, what is special, container."""
    codec: str
    """Encoder of libavcodec."""
    suffix: str
    pixel_format: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("g", str(GROUP)),)
    timing: Timing = "even"
    height: int = 64
    """Pixels."""
    width: int = 96
    """Pixels."""
    short: bool = False
    """Whether the short proof holds it too."""
    required: bool = False
    """Whether rsbench itself writes it (the samples)."""


def _h264(
    special: str, suffix: str, parameters: str = "bframes=3", *, pixel_format: str = "yuv420p",
    timing: Timing = "even", short: bool = False, required: bool = False,
    height: int = 64, width: int = 96,
) -> Trial:  # fmt: skip
    return Trial(
        name=f"H.264, {special}, {suffix[1:]}",
        codec="libx264",
        suffix=suffix,
        pixel_format=pixel_format,
        options=(("x264-params", f"{_X264_GROUP}:{parameters}"),),
        timing=timing,
        short=short,
        required=required,
        height=height,
        width=width,
    )


def _hevc(
    special: str, suffix: str, parameters: str, *, pixel_format: str = "yuv420p",
    timing: Timing = "even", short: bool = False,
) -> Trial:  # fmt: skip
    return Trial(
        name=f"HEVC, {special}, {suffix[1:]}",
        codec="libx265",
        suffix=suffix,
        pixel_format=pixel_format,
        options=(("x265-params", f"{_X265_GROUP}:{parameters}"),),
        timing=timing,
        short=short,
    )


_CLOSED, _OPEN = "open-gop=0", "open-gop=1"
_AV1 = (("g", str(GROUP)), ("preset", "8"), ("crf", "20"))
"""Coarser, the cells of a barcode were coded as their neighbours' colour."""
_B_FRAMES = (("g", str(GROUP)), ("bf", "2"))

TRIALS = (
    _h264("B-frames", ".mp4", short=True, required=True),
    _hevc("B-frames", ".mp4", _CLOSED, short=True),
    Trial(name="MPEG-4, avi", codec="mpeg4", suffix=".avi", short=True),
    Trial(name="VP8, webm", codec="libvpx", suffix=".webm", short=True),
    Trial(name="VP9, webm", codec="libvpx-vp9", suffix=".webm", short=True),
    Trial(name="AV1, mp4", codec="libsvtav1", suffix=".mp4", options=_AV1, short=True),
    Trial(
        name="MPEG-2, B-frames, mpg",
        codec="mpeg2video",
        suffix=".mpg",
        options=_B_FRAMES,
        short=True,
    ),
    Trial(
        name="MJPEG, full range, avi",
        codec="mjpeg",
        suffix=".avi",
        pixel_format="yuvj420p",
        options=(),
        short=True,
    ),
    _h264("open groups", ".mp4", "bframes=3:open-gop=1"),
    _h264("open groups", ".mkv", "bframes=3:open-gop=1"),
    _h264("open groups", ".ts", "bframes=3:open-gop=1"),
    _h264("intra refresh", ".mp4", "bframes=2:intra-refresh=1"),
    _h264("interlaced", ".mp4", "bframes=2:interlaced=1"),
    _h264("no presentation times", ".avi"),
    _h264("B-frames", ".flv"),
    _h264("B-frames", ".mov"),
    _h264("10 bits", ".mkv", pixel_format="yuv420p10le"),
    _h264("4:2:2", ".mp4", pixel_format="yuv422p"),
    _h264("4:4:4, odd size", ".mkv", pixel_format="yuv444p", height=67, width=93),
    _h264("variable rate", ".mp4", timing="variable"),
    _h264("variable rate", ".mkv", timing="variable"),
    _h264("late start", ".mp4", timing="late"),
    _h264("late start", ".ts", timing="late"),
    _hevc("open groups", ".mp4", _OPEN),
    _hevc("open groups", ".mkv", _OPEN),
    _hevc("open groups", ".ts", _OPEN),
    _hevc("10 bits", ".mkv", _OPEN, pixel_format="yuv420p10le"),
    _hevc("variable rate", ".mp4", _OPEN, timing="variable"),
    Trial(name="VP9, mp4", codec="libvpx-vp9", suffix=".mp4"),
    Trial(name="VP9, variable rate, webm", codec="libvpx-vp9", suffix=".webm", timing="variable"),
    Trial(
        name="VP9, 4:4:4, webm", codec="libvpx-vp9", suffix=".webm", pixel_format="yuv444p"
    ),
    Trial(
        name="VP9, 10 bits, webm", codec="libvpx-vp9", suffix=".webm", pixel_format="yuv420p10le"
    ),
    Trial(name="AV1, webm", codec="libsvtav1", suffix=".webm", options=_AV1),
    Trial(
        name="AV1, 10 bits, mkv",
        codec="libsvtav1",
        suffix=".mkv",
        pixel_format="yuv420p10le",
        options=_AV1,
    ),
    Trial(
        name="AV1, variable rate, mp4",
        codec="libsvtav1",
        suffix=".mp4",
        options=_AV1,
        timing="variable",
    ),
    Trial(name="MPEG-4, B-frames, avi", codec="mpeg4", suffix=".avi", options=_B_FRAMES),
    Trial(name="MPEG-4, B-frames, mp4", codec="mpeg4", suffix=".mp4", options=_B_FRAMES),
    Trial(name="MPEG-2, open groups, ts", codec="mpeg2video", suffix=".ts", options=_B_FRAMES),
    Trial(name="Windows Media 8, wmv", codec="wmv2", suffix=".wmv"),
    Trial(
        name="ProRes, 10 bits, mov",
        codec="prores_ks",
        suffix=".mov",
        pixel_format="yuv422p10le",
        options=(),
    ),
    Trial(name="FFV1, RGB, mkv", codec="ffv1", suffix=".mkv", pixel_format="bgr0"),
)  # fmt: skip
"""What video data sets come in. Which encoders there are is the installed library's choice."""


def write_trial(trial: Trial, folder: Path) -> Path:
    """Write a trial video, frames numbered from 0; give the file.

    Raises:
        MediaError: This library has no such encoder, or it can't do what is asked of it.
    """
    path = folder / f"trial{trial.suffix}"
    with _quiet_encoders():
        video.write_video(
            path,
            barcode_frames(NUM_FRAMES, trial.height, trial.width),
            fps=FPS,
            codec=trial.codec,
            pixel_format=trial.pixel_format,
            options=dict(trial.options),
            # Equal steps from 0 are what the rate alone says, which AVI needs.
            times=None if trial.timing == "even" else times_of(trial.timing),
            time_base=None if trial.timing == "even" else _TICK,
        )
    return path


def hold_exact(trial: Trial, path: Path) -> str:
    """Hold every way of reading a trial video to the frames that were drawn.

    Args:
        trial: How it was written.
        path: Its file; a packet index is kept beside it for a moment.

    Returns:
        What was found exact, in words.

    Raises:
        MediaError: Another frame than the one asked for, or it can't be read.
    """
    _hold("reading all frames", range(NUM_FRAMES), video.read_all_frames(path))
    borders = [0, NUM_FRAMES - 1]
    for border in range(GROUP, NUM_FRAMES, GROUP):
        borders += [border - 1, border, border + 1]
    # Random, and the same on every machine.
    chance = np.random.default_rng(crc32(trial.name.encode()))
    singles = chance.permutation(borders)
    for single in singles:
        _hold_clips(f"reading frame {single} alone", path, np.array([[single]]), None)
    kept = path.with_name(f"{path.name}.index")
    clips = chance.integers(NUM_FRAMES, size=(NUM_RANDOM_CLIPS, FRAMES_PER_CLIP))
    across = np.array([[GROUP + 2, GROUP, GROUP - 1, GROUP, GROUP - 2, GROUP - 1]])
    for index_file in (None, kept, kept):  # unknown, made, used
        _hold_clips("reading random clips", path, clips, index_file)
        _hold_clips("reading across a group's border", path, across, index_file)
    kept.unlink(missing_ok=True)
    first, last = NUM_FRAMES // 4, NUM_FRAMES // 2
    times = times_of(trial.timing)
    start, end = (float(times[place] - times[0]) for place in (first, last))
    window = video.read_all_frames(path, start_seconds=start, end_seconds=end)
    _hold(f"reading {start:g} s to {end:g} s", range(first, last), window)
    return (
        f"all {NUM_FRAMES} frames, {len(singles)} single ones, {NUM_RANDOM_CLIPS} random clips and"
        " a window are exact"
    )


def times_of(timing: Timing) -> list[Fraction]:
    """Give the presentation time in seconds of each of a trial's frames."""
    steps = _STEPS[timing]
    start = Fraction(_LATE_SECONDS if timing == "late" else 0)
    ticks = [sum(steps[place % len(steps)] for place in range(n)) for n in range(NUM_FRAMES)]
    return [start + tick * _TICK for tick in ticks]


def _hold_clips(
    what: str, path: Path, rows: npt.NDArray[np.int64], index_file: Path | None
) -> None:
    told: list[int] = []

    def choose(num_frames: int, fps: float) -> npt.NDArray[np.int64]:
        told.append(num_frames)
        return rows

    clips = video.read_clips(path, choose, index_file=index_file)
    if clips.num_frames != NUM_FRAMES or told[-1] != NUM_FRAMES:
        raise MediaError(f"{what} must count {NUM_FRAMES} frames; it counted {clips.num_frames}")
    _hold(what, rows.ravel(), clips.frames.reshape(-1, *clips.frames.shape[2:]))


def _hold(
    what: str, wanted: range | npt.NDArray[np.int64], frames: npt.NDArray[np.uint8 | np.float32]
) -> None:
    asked = [int(index) for index in wanted]
    read = [read_barcode(frame.astype(np.uint8)) for frame in frames]
    if asked == read:
        return
    pairs = zip(asked, read, strict=False)
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    first = f", the first other one is {differing[1]} for {differing[0]}" if differing else ""
    raise MediaError(
        f"{what} must give the {len(asked)} frames asked for; it gave {len(read)}{first}"
    )


@contextlib.contextmanager
def _quiet_encoders() -> Iterator[None]:
    """Keep SVT-AV1 from writing its settings to the terminal, past every other switch."""
    before = os.environ.get("SVT_LOG")
    os.environ["SVT_LOG"] = "1"  # errors only
    try:
        yield
    finally:
        if before is None:
            del os.environ["SVT_LOG"]
        else:
            os.environ["SVT_LOG"] = before
