"""One video, re-encoded with a shorter short side: the same frames at the same times, proved.

Resized to exactly `short_side` on the short side and the nearest even number on the long one, by
Pillow's bicubic filter with antialias, upright (rotation is applied), without sound, H.264 in
yuv420p. The container is Matroska where the name says so (.webm, .mkv), whose clock ticks in
milliseconds like the source's; else MP4, which takes any clock: so times and rate stay exact. Names
stay whole for the sake of lists and ids, and every reader on FFmpeg goes by content.

What was written is decoded again before it counts: as many frames, the very same times, the size
asked for, and enough likeness to the resized source on frames spread over the video.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from rsbench.errors import DiskError, MediaError
from rsbench.media.video import Indices, Kept, Pixels, read_clips, write_video
from rsbench.media.video.streaming import Stream, stream_frames

NUM_COMPARED = 32
"""Frames at least that are compared with the source, of videos that have so many; at most twice."""

_LOWEST_PSNR = 30.0
"""Decibels of luma that the worst compared frame must reach at crf 18, one less for each step above
it. On ten clips of Kinetics, UCF101 and a gesture set at short side 128 the worst frames had 33.8
at crf 18, 32.3 at 20, 30.4 at 23."""

_CRF_OF_LOWEST_PSNR = 18

_MATROSKA_SUFFIXES = (".webm", ".mkv")

_FINEST_TICKS = 1_000_000_000
"""Ticks a second beyond which an MP4's 32 bit counters would not hold a frame's duration."""

_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How prepared videos are written; equal encodings of equal files give equal bytes."""

    short_side: int = 256
    """Pixels, even."""
    crf: int = 18
    """Constant rate factor of x264, 0 (lossless) to 40; smaller is better and larger."""
    gop: int = 32
    """Most frames from one key frame to the next."""
    preset: str = "medium"
    """Of x264: "ultrafast" ... "veryslow"; how long it looks for a smaller file."""

    @property
    def lowest_psnr(self) -> float:
        """Decibels below which a written video does not count: one less for each step of crf."""
        return _LOWEST_PSNR - max(0, self.crf - _CRF_OF_LOWEST_PSNR)


class NotExactError(MediaError):
    """A video that decodes, whose copy would not have the same frames at the same times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortened:
    """What was written."""

    num_frames: int
    height: int
    width: int
    psnr: float | None
    """Decibels of luma of the worst compared frame, None where the picture is equal bit by bit."""


def size_at(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Give (height, width) of a frame with this short side: the long one even, aspect kept."""
    scale = Fraction(short_side, 2 * min(height, width))
    return 2 * round(height * scale), 2 * round(width * scale)


def shorten(source: Path, target: Path, encoding: Encoding) -> Shortened | None:
    """Write a video with a shorter short side and prove it.

    Args:
        source: A video file.
        target: Where to; a name ending in .mkv is written as Matroska, .mp4 as MP4: see
            `container_suffix`. Written whole or not at all.
        encoding: Size and quality.

    Returns:
        What was written; None if the short side is not above the one asked for: such a video is
        never enlarged, and would lose by being encoded again. Nothing is written then.

    Raises:
        NotExactError: The source decodes, and a copy of it would have other frames or times.
        MediaError: The source can't be read.
        DiskError: The disk can't take the copy.
    """
    stream = stream_frames(source)
    frames = _Frames(stream.frames)
    first = next(frames)
    height, width = first.shape[:2]
    if min(height, width) <= encoding.short_side:
        return None
    size = size_at(height, width, short_side=encoding.short_side)
    compared = _Compared(len(stream.times))
    tick = _tick(stream, target)
    try:
        write_video(
            target,
            _resized(first, frames, size, compared),
            fps=Fraction(stream.fps).limit_denominator(100_000),
            options={
                "crf": str(encoding.crf),
                "g": str(encoding.gop),
                "preset": encoding.preset,
            },
            times=stream.times,
            time_base=tick,
        )
    except MediaError as error:
        if frames.fault is not None:
            raise frames.fault from error
        if getattr(error.__cause__, "errno", None) in _DISK_FAULTS:
            raise DiskError(
                f"Can't write {target}: {error}; free some space, then run the same command again."
            ) from error
        raise NotExactError(f"its copy {error}") from error
    try:
        return _proved(target, stream, size, compared, encoding)
    except MediaError as error:
        target.unlink(missing_ok=True)
        raise NotExactError(str(error)) from error


def remarks_on(source: Path, made: Shortened | None) -> tuple[str, ...]:
    """Say what is odd about a video that can be read, as `read_clips` has it.

    Args:
        source: A video file.
        made: What was written of it, all frames that decode; None if it is copied as it is, whose
            readers will remark the rest themselves.

    Raises:
        MediaError: The source can't be read.
    """
    first = read_clips(source, _first, transform=_corner)
    if made is None or made.num_frames == first.num_frames:
        return first.remarks
    # Its packets promise other frames than decode: only a reading of all says why.
    return read_clips(source, _every, transform=_corner).remarks


def _first(num_frames: int, fps: float) -> Indices:
    del num_frames, fps
    return np.zeros((1, 1), dtype=np.int64)


def _every(num_frames: int, fps: float) -> Indices:
    del fps
    return np.arange(num_frames, dtype=np.int64)[None]


def _corner(frame: Pixels) -> Kept:
    return frame[:1, :1]


def container_suffix(name: str) -> str:
    """Give the ending under which the copy of a video of this name is written: .mkv or .mp4."""
    return ".mkv" if Path(name).suffix.lower() in _MATROSKA_SUFFIXES else ".mp4"


class _Frames:
    """The frames of a source, which tell its own faults from those of the copy."""

    def __init__(self, frames: Iterator[Kept]) -> None:
        self._frames = frames
        self.fault: MediaError | None = None

    def __iter__(self) -> Iterator[Kept]:
        return self

    def __next__(self) -> Kept:
        try:
            return next(self._frames)
        except MediaError as error:
            self.fault = error
            raise


class _Compared:
    """Resized frames kept for the comparison: some spread evenly over the video."""

    def __init__(self, num_frames: int) -> None:
        self._step = max(1, num_frames // NUM_COMPARED)
        self.frames: dict[int, Pixels] = {}

    def offer(self, number: int, frame: Pixels) -> None:
        if number % self._step == 0:
            self.frames[number] = frame


def _resized(
    first: Kept, others: Iterator[Kept], size: tuple[int, int], compared: _Compared
) -> Iterator[Pixels]:
    height, width = size
    for number, frame in enumerate(chain([first], others)):
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
        compared.offer(number, pixels)
        yield pixels


def _tick(stream: Stream, target: Path) -> Fraction:
    """Give the seconds a tick of the copy, in which all of its times are whole.

    Raises:
        NotExactError: No tick of the container holds these times, or two frames share one.
    """
    ticks = math.lcm(*{time.denominator for time in stream.times})
    if any(late <= early for early, late in pairwise(stream.times)):
        raise NotExactError("two of its frames are shown at the same time")
    if target.suffix == ".mkv":
        if 1000 % ticks:
            raise NotExactError("its times are no whole milliseconds, as Matroska has them")
        return Fraction(1, 1000)
    if ticks > _FINEST_TICKS:
        raise NotExactError(f"its times need a clock of {ticks} ticks a second")
    return Fraction(1, ticks)


def _proved(
    target: Path, source: Stream, size: tuple[int, int], compared: _Compared, encoding: Encoding
) -> Shortened:
    """Decode what was written and hold it to the source.

    Raises:
        NotExactError: It has other frames, times or sizes, or too little likeness.
    """
    written = stream_frames(target)
    if written.times != source.times:
        raise NotExactError(
            f"the copy has {len(written.times)} frames, the source {len(source.times)},"
            " or their times differ"
        )
    if abs(written.fps - source.fps) > 1e-6 * source.fps:
        raise NotExactError(f"the copy runs at {written.fps}, the source at {source.fps}")
    worst: float | None = None
    for number, frame in enumerate(written.frames):
        if frame.shape[:2] != size:
            raise NotExactError(f"frame {number} of the copy is {frame.shape[:2]}, must be {size}")
        if number in compared.frames:
            found = _psnr(compared.frames[number], frame)
            worst = found if worst is None else min(worst, found)
    if worst is not None and worst < encoding.lowest_psnr:
        raise NotExactError(
            f"a frame of the copy is {worst:.1f} dB like the source, must be"
            f" {encoding.lowest_psnr:g} at least"
        )
    height, width = size
    return Shortened(
        num_frames=len(source.times),
        height=height,
        width=width,
        psnr=None if worst is None or math.isinf(worst) else round(worst, 2),
    )


def _psnr(one: Kept, other: Kept) -> float:
    """Give the peak signal-to-noise ratio of two pictures' luma (BT.601) in decibels.

    Of luma, because halved chroma, which every yuv420p video has, says nothing of the encoding.
    """
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    error = (one.astype(np.float32) - other.astype(np.float32)) @ weights
    mean_square = float(np.square(error).mean())
    return math.inf if mean_square == 0 else 10 * math.log10(255**2 / mean_square)
