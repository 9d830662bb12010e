"""What training sees of an item: one random clip, one random crop, perhaps mirrored, all seeded.

Nothing here touches a global generator, and every choice follows from a seed, so what a model is
shown does not depend on how many processes read. One crop holds for all frames of a clip.

Letters: T frames a clip, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from rsbench.media.video import read_clips
from rsbench.specs import ClipSpec, InputSpec

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How far training views may differ from the item."""

    smallest_crop: float = 0.35
    """Least share of the picture's area that a crop keeps, in (0, 1]; the largest is all of it."""
    widest_aspect: float = 4 / 3
    """Crops are between 1 to this and this to 1, before they are made square."""
    flip_probability: float = 0.5
    """0 where a mirror image has another label."""


def random_clip(num_frames: int, clip: ClipSpec, *, position: float) -> npt.NDArray[np.int64]:
    """Give the frames of one dense clip that starts anywhere it fits, int64 (T,).

    The rule of mmaction2's `SampleFrames` in training (mmaction/datasets/transforms/loading.py):
    every start from 0 to num_frames - span is equally likely; a shorter video loops.

    Args:
        num_frames: Frames of the video, at least 1.
        clip: Frames and stride.
        position: Uniform in [0, 1).
    """
    span = (clip.frames - 1) * clip.stride + 1
    start = int(position * (max(num_frames - span, 0) + 1))
    return (start + np.arange(clip.frames, dtype=np.int64) * clip.stride) % num_frames


def read_random_clip(
    path: Path,
    clip: ClipSpec,
    *,
    position: float,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    transform: Callable[[Pixels], Pixels],
) -> Pixels:
    """Read the clip that `random_clip` cuts from a video, (T, h, w, 3), in one decoding.

    Args:
        path: A file with a video stream.
        clip: Frames and stride.
        position: Uniform in [0, 1).
        start_seconds: First moment, included; None is the first frame.
        end_seconds: Last moment, excluded; None is the end.
        transform: Applied to each frame of the clip, uint8 (H, W, 3) -> uint8 (h, w, 3).

    Raises:
        MediaError: The file can't be read as a video or has no frame in the window.
    """
    clips = read_clips(
        path,
        lambda num_frames, fps: random_clip(num_frames, clip, position=position)[None],
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        transform=transform,
    )
    return cast(Pixels, clips.frames[0])


def random_crop(
    pixels: Pixels, spec: InputSpec, augmentation: Augmentation, *, seed: int
) -> Pixels:
    """Cut a random crop, make it the square the network sees, and perhaps mirror it.

    The filter is the input's interpolation and antialias by torchvision, whatever its resizer and
    crop: what the four resizers differ in beyond that, by fractions of a pixel, is less than what a
    random crop moves. No resize goes before it, so `resize_to` has no say.

    Args:
        pixels: uint8 (H, W, 3).
        spec: Side and interpolation of the input.
        augmentation: How far the crop may go (torchvision's RandomResizedCrop, whose rule it is).
        seed: Equal seeds give equal crops of equally large pictures.

    Returns:
        uint8 (spec.pixels, spec.pixels, 3).
    """
    from torchvision.transforms import InterpolationMode, RandomResizedCrop
    from torchvision.transforms.v2 import functional

    picture_CHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also restart the generators of all GPUs.
        torch.default_generator.manual_seed(seed)
        top, left, height, width = RandomResizedCrop.get_params(
            picture_CHW,
            scale=[augmentation.smallest_crop, 1.0],
            ratio=[1 / augmentation.widest_aspect, augmentation.widest_aspect],
        )
        mirrored = float(torch.rand(())) < augmentation.flip_probability
    cropped = functional.resized_crop(
        picture_CHW,
        top,
        left,
        height,
        width,
        [spec.pixels, spec.pixels],
        interpolation=InterpolationMode(spec.interpolation),
        antialias=spec.antialias,
    )
    if mirrored:
        cropped = functional.horizontal_flip(cropped)
    return np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())
