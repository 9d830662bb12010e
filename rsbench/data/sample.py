"""Samples: tiny stand-ins for data sets, made by code, kept in the cache under their content.

The video sample can be told only from motion. Crops of the two photographs that ship with
scikit-learn are panned, zoomed and rotated; the eight classes are four pairs, each the other run
backwards, and all eight go through one and the same middle picture:

- what ignores the order of frames sees equal sets of frames in both classes of a pair, so it is
  right half of the time at most;
- the centre frame is one picture in all eight, so it says nothing.

A scene draws its crop, scale, colours and the size of its motions once and shares them among its
eight clips. No test scene is centred where a train scene may be; that their surroundings overlap
gives nothing away, because whatever is to be seen in a scene is seen in all eight classes alike.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.metadata
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rsbench.data import (
    annotated_layouts,
    examples,
    layouts,
    official_layouts,
    picture_layouts,
    vtab_layouts,
)
from rsbench.data.examples import Example, SplitWord
from rsbench.data.layouts import LAYOUTS
from rsbench.digests import digest_file, digest_json
from rsbench.errors import DiskError
from rsbench.specs import Task

if TYPE_CHECKING:
    from PIL import Image

MOTIONS = (
    "pan down",
    "pan left",
    "pan right",
    "pan up",
    "rotate clockwise",
    "rotate counterclockwise",
    "zoom in",
    "zoom out",
)
"""The classes, sorted. "Pan left": the camera goes left, so the picture goes right; "rotate
clockwise": the picture turns clockwise."""

REVERSED = MappingProxyType(
    {
        "pan down": "pan up",
        "pan left": "pan right",
        "rotate clockwise": "rotate counterclockwise",
        "zoom in": "zoom out",
    }
)
"""Each pair once: the second class is the first one run backwards."""

NUM_FRAMES = 24
HEIGHT, WIDTH = 64, 80
"""Frames of a clip, and their size in pixels."""

Part = Literal["train", "test"]

COLUMNS = ((0, 640), (60, 540))
"""Columns of china.jpg and flower.jpg that all pictures stay in, first included, last excluded:
outside them the flower is out of focus."""

CELL = 24
"""Side in pixels of the squares, coloured like a chess board, that scenes are centred in: train
scenes in the white ones, test scenes in the black ones."""

MIN_CONTRAST = 20.0
"""Least standard deviation, in grey levels, of each quarter of a middle picture: in the sky over
the
temple, motion can't be seen."""

_LIBRARIES = ("av", "numpy", "pillow", "scikit-learn", "scipy")
"""What writes the bytes of a sample: its version is part of the cache's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What the eight clips of one scene share."""

    photograph: int
    """0 is china.jpg, 1 is flower.jpg."""
    centre: tuple[float, float]
    """Column and row, in pixels of the photograph, that the middle picture is centred on."""
    scale: float
    """Pixels of the photograph a pixel of the clip, in the middle picture."""
    gain: tuple[float, float, float]
    """Factor of each colour."""
    offset: float
    """Added to every colour, in grey levels."""
    pan: tuple[float, float]
    """Whole way of a pan, as parts of the picture's width and height."""
    zoom: float
    """Ratio of the scales at both ends of a zoom."""
    turn: float
    """Whole angle of a rotation, in radians."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionClip:
    """One rendered clip."""

    scene: int
    """From 0 on."""
    motion: str
    """One of `MOTIONS`: the class."""
    frames: np.ndarray
    """uint8 (T, H, W, 3), RGB."""


@functools.cache
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Load china.jpg and flower.jpg of scikit-learn: uint8 (427, 640, 3) each, RGB."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg"), load_sample_image("flower.jpg")


def draw_scene(random: np.random.Generator, *, number: int, part: Part) -> Scene:
    """Draw one scene.

    Args:
        random: Where the numbers come from.
        number: Of the scene: even ones are cut from china.jpg, odd ones from flower.jpg.
        part: What it is for, which says where it may be centred.

    Returns:
        A scene with contrast everywhere, none of whose eight motions leaves the photograph.
    """
    photograph = number % 2
    scale = random.uniform(1.05, 1.5)
    pan = (random.uniform(0.5, 0.7), random.uniform(0.5, 0.7))
    zoom = random.uniform(2.2, 2.8)
    reach_x, reach_y = (
        scale * max(side * math.sqrt(zoom), side * (1 + way), math.hypot(WIDTH, HEIGHT)) / 2
        for side, way in zip((WIDTH, HEIGHT), pan, strict=True)
    )
    left, right = COLUMNS[photograph]
    height = photographs()[photograph].shape[0]
    while True:
        x = random.uniform(left + reach_x, right - reach_x)
        y = random.uniform(reach_y, height - reach_y)
        allowed = (x // CELL + y // CELL) % 2 == (part == "test")
        if allowed and _contrast(photograph, x=x, y=y, scale=scale) >= MIN_CONTRAST:
            break
    gain = random.uniform(0.9, 1.1, size=3)
    return Scene(
        photograph=photograph,
        centre=(x, y),
        scale=scale,
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        offset=random.uniform(-10, 10),
        pan=pan,
        zoom=zoom,
        turn=math.radians(random.uniform(75, 105)),
    )


def motion_clips(seed: int, num_scenes: int, *, part: Part = "train") -> Iterator[MotionClip]:
    """Render eight clips of each of a number of scenes, in the order of `MOTIONS`.

    Args:
        seed: Of the scenes; a smaller number of scenes gives the first ones of a larger number.
        num_scenes: How many.
        part: What they are for, which says where they may be centred.

    Yields:
        Clips of `NUM_FRAMES` frames of `HEIGHT` x `WIDTH`. Frames 11 and 12, the two in the middle,
        are one picture, equal in all clips of a scene.
    """
    random = np.random.default_rng(seed)
    for number in range(num_scenes):
        scene = draw_scene(random, number=number, part=part)
        picture = _coloured(scene)
        frames: dict[str, np.ndarray] = {}
        for motion, backwards in REVERSED.items():
            frames[motion] = _render(scene, motion, picture)
            frames[backwards] = frames[motion][::-1]
        for motion in MOTIONS:
            yield MotionClip(scene=number, motion=motion, frames=frames[motion])


def moment(frame: int) -> float:
    """Give the moment of a frame in [-1, 1]: odd about the middle, 0 in both middle frames."""
    half = NUM_FRAMES // 2
    return (frame - half + (frame < half)) / (half - 1)


def write_motion_sample(
    root: Path,
    *,
    layout: str,
    seed: int = 0,
    num_train_scenes: int = 40,
    num_test_scenes: int = 20,
) -> None:
    """Write the motion clips as a data set of eight classes with a train and a validation split.

    Args:
        root: An existing empty folder.
        layout: One of `LAYOUTS`.
        seed: Of the scenes.
        num_train_scenes: Eight clips each.
        num_test_scenes: Eight clips each, reported as "validation".
    """
    LAYOUTS[layout](root, _motion_examples(seed, num_train_scenes, num_test_scenes), MOTIONS)


def write_motion_segments(root: Path, *, layout: str, seed: int = 0, num_scenes: int = 6) -> None:
    """Write the motion clips of a few scenes without splits; a scene is a group.

    Args:
        root: An existing empty folder.
        layout: One of `LAYOUTS`.
        seed: Of the scenes.
        num_scenes: Eight clips each.
    """
    clips = motion_clips(seed, num_scenes)
    LAYOUTS[layout](root, (_example(clip, split="") for clip in clips), MOTIONS)


def write_photograph_crops(
    root: Path, *, layout: str, seed: int = 0, num_per_class: int = 10, pixels: int = 64
) -> None:
    """Write small crops of both photographs, in colour and in grey, as four classes of pictures.

    Args:
        root: An existing empty folder.
        layout: One of `LAYOUTS`.
        seed: Of the crops.
        num_per_class: Pictures of each class.
        pixels: Side of a picture.
    """
    names = ("china (colour)", "china (grey)", "flower (colour)", "flower (grey)")
    random = np.random.default_rng(seed)

    def crops() -> Iterator[Example]:
        for index, name in enumerate(names):
            picture = photographs()[index // 2]
            for number in range(num_per_class):
                row, column = (int(random.integers(0, side - pixels)) for side in picture.shape[:2])
                crop = picture[row : row + pixels, column : column + pixels]
                if index % 2:
                    grey = np.rint(crop.mean(axis=2, keepdims=True))
                    crop = np.broadcast_to(grey, crop.shape).astype(np.uint8)
                source = f"crop {number:02d}"
                yield Example(
                    split="",
                    label=name,
                    source=source,
                    start_seconds=index,
                    end_seconds=index + 1,
                    pixels=np.ascontiguousarray(crop),
                )

    LAYOUTS[layout](root, crops(), names)


# ---------------------------------------------------------------------------- the cache


def sample_root(task: Task, cache_root: Path) -> Path:
    """Give the folder of a task's sample, written now if it is not there or was tampered with.

    It lies in ``samples/<task>-v<version>-<digest>/data``, named by everything that makes it; the
    sha256 of each file stands in ``manifest.json`` beside it and is checked on every call. It is
    written elsewhere and moved there whole, by one process at a time.

    Args:
        task: Whose sample.
        cache_root: Folder of the caches; created if need be.

    Returns:
        The sample's root, to be given to `task.load`.

    Raises:
        DiskError: The cache can't be written.
    """
    samples = cache_root / "samples"
    folder = samples / _cache_name(task)
    if not _is_whole(folder):
        try:
            samples.mkdir(parents=True, exist_ok=True)
            with _locked(samples / f".{folder.name}.lock"):
                if not _is_whole(folder):
                    _build(task, folder)
        except OSError as error:
            raise DiskError(
                f"the sample of {task.name} must be written below {samples}, which failed: "
                f"{error}; free some space, or set RSBENCH_CACHE to a folder that can be written"
            ) from error
    return folder / "data"


def _cache_name(task: Task) -> str:
    write = task.sample.write
    arguments: list[Any] = []
    while isinstance(write, functools.partial):
        arguments.append([repr(write.args), repr(sorted(write.keywords.items()))])
        write = write.func
    code = getattr(write, "__code__", None)
    modules = (
        annotated_layouts,
        examples,
        layouts,
        official_layouts,
        picture_layouts,
        vtab_layouts,
    )
    sources = {__file__, *(str(module.__file__) for module in modules)}
    sources.add(code.co_filename if code else __file__)
    parts = {
        "arguments": arguments,
        "writer": getattr(write, "__qualname__", type(write).__qualname__),
        "sources": [digest_file(Path(source)) for source in sorted(sources)],
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in task.name)
    return f"{name}-v{task.sample.version}-{digest_json(parts)[:16]}"


def _build(task: Task, folder: Path) -> None:
    """Write the sample elsewhere and put it where it belongs; the caller holds the lock."""
    for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        made.chmod(0o755)
        (made / "data").mkdir()
        task.sample.write(made / "data")
        manifest = json.dumps(_digests(made / "data"), indent=1, ensure_ascii=False)
        (made / "manifest.json").write_text(manifest + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(made / "replaced")
        made.rename(folder)
        shutil.rmtree(folder / "replaced", ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return bool(manifest) and _digests(folder / "data") == manifest
    except (OSError, ValueError):
        return False


def _digests(data: Path) -> dict[str, str]:
    files = sorted(path for path in data.rglob("*") if path.is_file())
    return {path.relative_to(data).as_posix(): digest_file(path) for path in files}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------- rendering


def _contrast(photograph: int, *, x: float, y: float, scale: float) -> float:
    """Give the standard deviation of the least varied quarter of a box, in grey levels."""
    rows, columns = round(scale * HEIGHT / 2), round(scale * WIDTH / 2)
    grey = photographs()[photograph].mean(axis=2)
    return min(
        float(grey[top : top + rows, left : left + columns].std())
        for top in (round(y) - rows, round(y))
        for left in (round(x) - columns, round(x))
    )


def _coloured(scene: Scene) -> Image.Image:
    from PIL import Image

    pixels = photographs()[scene.photograph] * np.array(scene.gain) + scene.offset
    return Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))


def _render(scene: Scene, motion: str, picture: Image.Image) -> np.ndarray:
    """Give uint8 (T, H, W, 3); equal moments are rendered once."""
    from PIL import Image

    moments = [moment(frame) for frame in range(NUM_FRAMES)]
    rendered = {
        when: np.asarray(
            picture.transform(
                (WIDTH, HEIGHT),
                Image.Transform.AFFINE,
                data=_affine(scene, motion, when),
                resample=Image.Resampling.BILINEAR,
            )
        )
        for when in set(moments)
    }
    return np.stack([rendered[when] for when in moments])


def _affine(scene: Scene, motion: str, when: float) -> Sequence[float]:
    """Map a clip's pixels to the photograph's: x' = ax + by + c, y' = dx + ey + f."""
    scale, angle, right, down = scene.scale, 0.0, 0.0, 0.0
    if motion == "pan left":
        right = -when * scene.pan[0] / 2 * WIDTH
    elif motion == "pan down":
        down = when * scene.pan[1] / 2 * HEIGHT
    elif motion == "zoom in":
        scale *= scene.zoom ** (-when / 2)
    else:
        assert motion == "rotate clockwise", "the other four are these backwards"
        angle += when * -scene.turn / 2
    a, b = scale * math.cos(angle), -scale * math.sin(angle)
    d, e = -b, a
    x, y = right - WIDTH / 2, down - HEIGHT / 2
    return (
        a,
        b,
        scene.centre[0] + a * x + b * y,
        d,
        e,
        scene.centre[1] + d * x + e * y,
    )


def _motion_examples(seed: int, num_train: int, num_test: int) -> Iterator[Example]:
    for clip in motion_clips(seed, num_train, part="train"):
        yield _example(clip, split="train")
    # Another seed: the same numbers would pair each test scene with a train scene like it.
    for clip in motion_clips(seed + 1, num_test, part="test"):
        yield _example(clip, split="validation", first_scene=num_train)


def _example(clip: MotionClip, *, split: SplitWord, first_scene: int = 0) -> Example:
    start = 10 * MOTIONS.index(clip.motion)
    return Example(
        split=split,
        label=clip.motion,
        # Eleven characters, as YouTube's ids have.
        source=f"scene-{first_scene + clip.scene:05d}",
        start_seconds=start,
        end_seconds=start + 10,
        pixels=clip.frames,
    )
