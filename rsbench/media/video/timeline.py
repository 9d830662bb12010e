"""Which frames are shown in a window, in which order and how fast: time stamps made sense of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rsbench.errors import MediaError
from rsbench.media.video.opening import Header, name_of

Indices = npt.NDArray[np.int64]

DEFAULT_FPS = 30.0
"""Rate told to samplers where neither time stamps nor header give one (a single frame)."""

MAX_REORDERED_FRAMES = 16
"""Most frames a decoder holds back to reorder (MaxDpbFrames, ITU-T H.264 A.3.1 and H.265 A.4.2)."""

_MICROSECONDS = 1_000_000


class Timeline(NamedTuple):
    """The frames of a window in presentation order."""

    order: Indices
    """Place of each frame among all that the decoder gives: (n,)."""
    fps: float
    """Average rate, finite and above 0."""


class Window(NamedTuple):
    """Bounds in seconds from the first frame presented; None is open."""

    start_seconds: float | None
    end_seconds: float | None


class Presentation(NamedTuple):
    """All frames of a file in the order in which they are shown."""

    order: Sequence[int]
    """Place of each among all that the decoder gives."""
    times: Sequence[int | Fraction]
    """When each is shown, in the same order, in units."""
    unit: Fraction
    """Seconds a unit."""


def presentation(ticks: Sequence[int | None], header: Header) -> Presentation:
    """Put frames into the order of presentation.

    Args:
        ticks: Time stamp of each frame in decoder order; at least one frame.
        header: Seconds a tick, and the rate for frames without time stamps.
    """
    places = range(len(ticks))
    stamps = [tick for tick in ticks if tick is not None]
    if len(stamps) == len(ticks):
        order = sorted(places, key=stamps.__getitem__)
        if all(abs(rank - place) <= MAX_REORDERED_FRAMES for rank, place in enumerate(order)):
            return Presentation(order, [stamps[place] for place in order], header.time_base)
    return Presentation(places, _filled_in(ticks, header), Fraction(1))


def timeline_of(
    path: Path, ticks: Sequence[int | None], header: Header, window: Window
) -> Timeline:
    """Put frames into presentation order and cut the window.

    Args:
        path: Named in messages.
        ticks: Time stamp of each frame in decoder order; at least one frame.
        header: Seconds a tick, and the rate for frames without time stamps.
        window: Bounds in seconds from the first frame presented.

    Raises:
        MediaError: No frame in the window, or the window is not one.
    """
    order, times, unit = presentation(ticks, header)
    start, end = (_microseconds(path, bound) for bound in window)
    if start is not None or end is not None:
        scale, first = unit * _MICROSECONDS, times[0]
        shown = [
            rank
            for rank, moment in enumerate(round((time - first) * scale) for time in times)
            if (start is None or start <= moment) and (end is None or moment < end)
        ]
        if not shown:
            last = float((times[-1] - first) * unit)
            raise MediaError(
                f"{name_of(path)}: must have a frame between {window.start_seconds or 0:g} s and "
                f"{'its end' if window.end_seconds is None else f'{window.end_seconds:g} s'}, but "
                f"its last frame is at {last:.3f} s; check the start and end of the item"
            )
        order = [order[rank] for rank in shown]
        times = [times[rank] for rank in shown]
    span = (times[-1] - times[0]) * unit
    return Timeline(np.array(order, dtype=np.int64), _rate(len(order) - 1, span, header))


def _filled_in(ticks: Sequence[int | None], header: Header) -> list[Fraction]:
    """Give every frame a time: between stamped neighbours evenly, outside them at average rate.

    Stamps that do not rise are no use: then all frames follow each other at the header's rate.
    """
    step = 1 / (header.average_rate or Fraction(DEFAULT_FPS))
    known = [
        (place, tick * header.time_base) for place, tick in enumerate(ticks) if tick is not None
    ]
    if not known or any(late <= early for (_, early), (_, late) in pairwise(known)):
        return [place * step for place in range(len(ticks))]
    (first_place, first), (last_place, last) = known[0], known[-1]
    if last_place > first_place:
        step = (last - first) / (last_place - first_place)
    seconds = [first + (place - first_place) * step for place in range(first_place)]
    for (left, early), (right, late) in pairwise(known):
        even = (late - early) / (right - left)
        seconds.extend(early + even * i for i in range(right - left))
    seconds.extend(last + (place - last_place) * step for place in range(last_place, len(ticks)))
    return seconds


def _rate(num_steps: int, span: Fraction, header: Header) -> float:
    """Give frames per second: the header's where the stamps agree with it to a tick, else theirs.

    Time stamps are rounded to ticks (milliseconds in Matroska), which must not make 29.9994 of 30.
    """
    rate = header.average_rate
    if num_steps == 0 or span <= 0:
        return float(rate) if rate is not None else DEFAULT_FPS
    if rate is not None and abs(num_steps / rate - span) <= header.time_base:
        return float(rate)
    return float(num_steps / span)


def _microseconds(path: Path, bound: float | None) -> int | None:
    if bound is None or bound == math.inf:
        return None
    if not math.isfinite(bound):
        raise MediaError(f"{name_of(path)}: start and end must be seconds, was {bound}")
    return round(bound * _MICROSECONDS)
