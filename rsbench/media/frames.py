"""Read clips from a folder of numbered pictures, one a frame, as data sets hand them out.

``img_00001.jpg`` (mmaction2, denseflow), ``00001.jpg`` (Jester), ``001YG-000001.jpg`` (Charades),
``video_000001.jpg`` (SlowFast) and the like, JPEG or PNG: a name is what stands before the number,
the number, and the ending. Frames are in the order of their numbers. Optical flow that lies beside
them (``flow_x_00001.jpg``), hidden files and files that are no pictures are left out.

A folder tells what it lacks: numbers start at 0 or 1 and leave none out, and all names have one
form. Anything else is a `MediaError` that names the file, for it means that an extraction was cut
short, or that two were mixed. So do chosen frames of different sizes, where a video's frames would
be scaled to the first one's: no encoder changes the size of a picture here.

Only the chosen frames are decoded, each once, by `rsbench.media.image`.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from rsbench.errors import MediaError
from rsbench.media import image
from rsbench.media.machine import is_of_machine
from rsbench.media.video import Choose, Clips, Kept, Transform

FRAME_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
"""Lower-case endings of pictures that are frames."""

FLOW_PREFIX = "flow_"
"""What names of optical flow begin with (denseflow, mmaction2)."""

_FRAME_NAME = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]+)", re.DOTALL)


class _Frame(NamedTuple):
    """One picture of a folder."""

    number: int
    form: tuple[str, str]
    """What stands before the number, and the ending."""
    name: str


def read_frame_clips(
    folder: Path,
    choose: Choose,
    *,
    fps: float,
    num_listed: int | None = None,
    transform: Transform | None = None,
) -> Clips:
    """Read the clips that `choose` cuts from a folder of numbered frames.

    Args:
        folder: With one picture a frame.
        choose: Which frames, from how many there are and how fast they go by.
        fps: Frames per second, finite and above 0: pictures have no clock.
        num_listed: Frames that a list claims; where the folder has another number, its own holds
            and a remark says so.
        transform: Applied to each chosen frame, uint8 (H, W, 3), to keep memory small; all its
            results must have one shape and one type.

    Raises:
        MediaError: No folder, no frames in it, a number missing or there twice, names of two forms,
            a chosen frame that does not decode, or chosen frames of different sizes.
        RsbenchError: Clips that can't be cut.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise MediaError(
            f"{_name(folder)}: frames per second must be a number above 0, was {fps:g}; correct "
            "what the data set says of its frames"
        )
    names = frame_names(folder)
    places = choose(len(names), fps)
    kept: dict[int, Kept] = {}
    first: tuple[str, tuple[int, ...]] | None = None
    for place in np.unique(places).tolist():
        pixels = _read(folder, names[place])
        first = first or (names[place], pixels.shape)
        if pixels.shape != first[1]:
            raise MediaError(
                f"{_name(folder)}: frames must be of one size, {first[0]} is {_size(first[1])} and "
                f"{names[place]} is {_size(pixels.shape)}; extract the frames again"
            )
        kept[place] = pixels if transform is None else transform(pixels)
    clips = np.stack([kept[place] for place in places.ravel().tolist()])
    return Clips(
        clips.reshape(*places.shape, *clips.shape[1:]),
        len(names),
        fps,
        _remarks(len(names), num_listed),
    )


def frame_names(folder: Path) -> tuple[str, ...]:
    """List the frames of a folder in the order of their numbers; decodes nothing.

    Raises:
        MediaError: No folder, no frames in it, a number missing or there twice, or names of two
            forms; the file is named.
        OSError: The machine can't read it just now.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries]
    except OSError as error:
        if is_of_machine(error):
            raise
        raise MediaError(
            f"{_name(folder)}: must be a folder of frames that can be read ({error.strerror})"
        ) from error
    frames = sorted(_frame(folder, name) for name in found if _is_frame(name))
    if not frames:
        raise MediaError(
            f"{_name(folder)}: must hold numbered frames (img_00001.jpg, 00001.png, ...), holds "
            "none; extract the frames again"
        )
    first = frames[0]
    other = next((frame for frame in frames if frame.form != first.form), None)
    if other is not None:
        raise MediaError(
            f"{_name(folder)}: names must have one form, {first.name} and {other.name} have two; "
            "keep the frames of one extraction"
        )
    for wanted, frame in enumerate(frames, start=min(first.number, 1)):
        if frame.number < wanted:
            raise MediaError(
                f"{_name(folder)}: each frame must be there once, number {frame.number} is there "
                f"twice ({frame.name}); keep the frames of one extraction"
            )
        if frame.number > wanted:
            raise MediaError(
                f"{_name(folder)}: frames must be numbered without gap, number {wanted} is missing "
                f"before {frame.name}; extract the frames again"
            )
    return tuple(frame.name for frame in frames)


def _is_frame(name: str) -> bool:
    is_picture = PurePath(name).suffix.lower() in FRAME_SUFFIXES
    return is_picture and not name.startswith((".", FLOW_PREFIX))


def _frame(folder: Path, name: str) -> _Frame:
    path = PurePath(name)
    match = _FRAME_NAME.fullmatch(path.stem)
    if match is None:
        raise MediaError(
            f"{_name(folder)}: a frame's name must end in its number (img_00001.jpg), {name!r} does"
            " not; move it elsewhere"
        )
    return _Frame(int(match["number"]), (match["prefix"], path.suffix), name)


def _read(folder: Path, name: str) -> image.Pixels:
    try:
        return image.read_image(folder / name)
    except MediaError as error:
        raise MediaError(f"{_name(folder)}: {error}") from error


def _remarks(num_frames: int, num_listed: int | None) -> tuple[str, ...]:
    if num_listed is None or num_listed == num_frames:
        return ()
    return (f"list claims {num_listed} frames, the folder has {num_frames}",)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _name(folder: Path) -> str:
    """Give a folder's name on one line, whatever bytes it is made of."""
    return folder.name if folder.name.isprintable() else ascii(folder.name)
