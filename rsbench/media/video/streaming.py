"""Every frame of a video one after the other, for what must not hold a long video in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from rsbench.media.video.conversion import Converter, Kept, Transform
from rsbench.media.video.decoding import decode_whole, frames_of
from rsbench.media.video.opening import name_of, open_video
from rsbench.media.video.timeline import Window, presentation, timeline_of


class Stream(NamedTuple):
    """A whole video, its times known and its frames still to come."""

    times: tuple[Fraction, ...]
    """Seconds of each frame from the first one presented, exact, in presentation order."""
    fps: float
    """Average rate, as `Clips.fps` has it."""
    frames: Iterator[Kept]
    """Each frame in presentation order, as `read_all_frames` gives it; no more are in memory than
    a decoder holds back to reorder."""


def stream_frames(path: Path, *, transform: Transform | None = None) -> Stream:
    """Give the times of a video at once, and its frames as they are asked for.

    The file is decoded twice: only what really decodes says which frame is the first, and when it
    is shown.

    Args:
        path: A file with a video stream.
        transform: Applied to each frame, uint8 (H, W, 3).

    Raises:
        MediaError: The file can't be read as a video; also while frames are taken, if one can't be
            converted.
        OSError: The machine can't read it just now; also while frames are taken, if the file
            decodes otherwise than the first time.
    """
    decoded = decode_whole(path, lambda place, frame: None)
    order, times, unit = presentation(decoded.ticks, decoded.header)
    return Stream(
        times=tuple((time - times[0]) * unit for time in times),
        fps=timeline_of(path, decoded.ticks, decoded.header, Window(None, None)).fps,
        frames=_in_order(path, order, transform),
    )


def _in_order(path: Path, order: Sequence[int], transform: Transform | None) -> Iterator[Kept]:
    rank_of = {place: rank for rank, place in enumerate(order)}
    waiting: dict[int, Kept] = {}
    num_given = 0
    converter: Converter | None = None
    with open_video(path) as (container, stream):
        for place, frame in enumerate(frames_of(path, container, stream)):
            if place not in rank_of:
                break
            if converter is None:
                size = frame.width, frame.height
                converter = Converter(path, size, transform, reuse_memory=False)
            waiting[rank_of[place]] = converter.kept(frame)
            while num_given in waiting:
                yield waiting.pop(num_given)
                num_given += 1
    if num_given != len(order):
        raise OSError(
            f"{name_of(path)}: must decode alike each time, but {num_given} of {len(order)} frames"
            " came the second time; is the file being written?"
        )
