"""Examples that samples are written of, and how their pixels become files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from rsbench.data.lists import clip_id

if TYPE_CHECKING:
    import numpy as np

FRAMES_PER_SECOND = 15
"""Of every video written here."""

_ENCODER_OPTIONS = {"crf": "10", "preset": "veryfast", "threads": "1"}
"""Near lossless: what coding adds to a frame must not tell in which direction time runs. One
thread:
the bytes do not depend on the machine's cores."""

_VP9_OPTIONS = {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "0"}
"""Constant quality, as fast as libvpx goes: 24 frames of 80 x 64 in a hundredth of a second."""

SplitWord = Literal["train", "validation", "test", ""]
"""Empty for data without splits."""


class Action(NamedTuple):
    """One of several labels of a video, and when it holds."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One labelled picture or video, not yet on disk."""

    split: SplitWord
    label: str
    """Class name; empty where there are `actions`."""
    source: str
    """What it was cut from: the YouTube id of a Kinetics clip, the group of own data."""
    start_seconds: int
    """Of the segment of its source; (source, start) is unique."""
    end_seconds: int
    pixels: np.ndarray
    """uint8 (H, W, 3) for a picture, (T, H, W, 3) for a video."""
    actions: tuple[Action, ...] = ()
    """What is seen in an example of several labels."""

    @property
    def id(self) -> str:
        """Its name in the official layout of Kinetics."""
        return clip_id(self.source, self.start_seconds, self.end_seconds)


Writer = Callable[[Path, Iterable[Example], Sequence[str]], None]
"""(root, examples, class names in index order): writes below an existing empty folder."""


def write_media(stem: Path, pixels: np.ndarray) -> Path:
    """Write a picture as ``stem.png`` or a video as ``stem.mp4``; give the path.

    Args:
        stem: Path without ending; its folder is made if need be.
        pixels: uint8 (H, W, 3) or (T, H, W, 3).
    """
    from rsbench.media.image import write_image
    from rsbench.media.video import write_video

    stem.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        path = stem.with_name(stem.name + ".png")
        write_image(path, pixels)
    else:
        path = stem.with_name(stem.name + ".mp4")
        write_video(path, pixels, fps=FRAMES_PER_SECOND, options=_ENCODER_OPTIONS)
    return path


def write_webm(path: Path, pixels: np.ndarray) -> None:
    """Write a VP9 video: uint8 (T, H, W, 3)."""
    from rsbench.media.video import write_video

    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, pixels, fps=FRAMES_PER_SECOND, codec="libvpx-vp9", options=_VP9_OPTIONS)


def write_frames(folder: Path, pixels: np.ndarray, *, form: str) -> None:
    """Write the frames of a video as numbered pictures.

    Args:
        folder: Made if need be.
        pixels: uint8 (T, H, W, 3).
        form: Name of a frame by its number from 1 on: "img_{:05}.jpg".
    """
    from rsbench.media.image import write_image

    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(pixels, start=1):
        write_image(folder / form.format(number), frame)
