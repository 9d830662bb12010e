"""What training sees of a frame: one random crop, perhaps mirrored, that follows from a seed.

Nothing here touches a global generator, so what a model is shown does not depend on how many
processes read. The rule is that of torchvision's RandomResizedCrop, to the last bit; it is written
out because the original draws from the global generator, and saving and restoring that took as long
as drawing (together 0.37 ms beside 0.17, of the 2.8 that a photograph took).

One crop holds for all frames of a clip; which frames these are is the business of
`rsbench.media.random_sampling`.

Letters: H height, W width.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rsbench.specs import InputSpec

Pixels = npt.NDArray[np.uint8]

_TRIES = 10
"""Boxes that are drawn before the largest one of an allowed shape is taken from the middle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How far training views may differ from the item."""

    smallest_crop: float = 0.35
    """Least share of the picture's area that a crop keeps, in (0, 1]; the largest is all of it."""
    widest_aspect: float = 4 / 3
    """Crops are between 1 to this and this to 1, before they are made square."""
    flip_probability: float = 0.5
    """0 where a mirror image has another label."""
    clip_sampler: str = "dense_random@1"
    """By which rule clips of videos are cut; see `rsbench.media.random_sampling`."""


class RandomCrop(NamedTuple):
    """Which part of a picture is shown, in pixels, and whether mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


def draw_crop(height: int, width: int, augmentation: Augmentation, *, seed: int) -> RandomCrop:
    """Draw which part of a picture is shown, as torchvision's RandomResizedCrop does, then whether.

    Args:
        height: Of the picture, in pixels.
        width: Likewise.
        augmentation: How far the crop may go.
        seed: Equal seeds give equal crops of equally large pictures.
    """
    generator = torch.Generator()
    generator.manual_seed(seed)
    box = _draw_box(height, width, augmentation, generator)
    mirrored = float(torch.rand((), generator=generator)) < augmentation.flip_probability
    return RandomCrop(*box, mirrored)


def _draw_box(
    height: int, width: int, augmentation: Augmentation, generator: torch.Generator
) -> tuple[int, int, int, int]:
    narrowest, widest = 1 / augmentation.widest_aspect, augmentation.widest_aspect
    log_narrowest, log_widest = _logarithms(narrowest, widest)
    for _ in range(_TRIES):
        share = torch.empty(1).uniform_(augmentation.smallest_crop, 1.0, generator=generator)
        area = height * width * share.item()
        log_aspect = torch.empty(1).uniform_(log_narrowest, log_widest, generator=generator)
        aspect = log_aspect.exp_().item()
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = torch.randint(0, height - box_height + 1, size=(1,), generator=generator)
            left = torch.randint(0, width - box_width + 1, size=(1,), generator=generator)
            return int(top.item()), int(left.item()), box_height, box_width
    box_height, box_width = height, width
    if width / height < narrowest:
        box_height = round(width / narrowest)
    elif width / height > widest:
        box_width = round(height * widest)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@functools.lru_cache(maxsize=16)
def _logarithms(narrowest: float, widest: float) -> tuple[float, float]:
    """Give the logarithms in float32, as the original takes them."""
    low, high = torch.log(torch.tensor([narrowest, widest])).tolist()
    return low, high


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
        uint8 (spec.pixels, spec.pixels, 3), in any order in memory.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    picture_CHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    crop = draw_crop(pixels.shape[0], pixels.shape[1], augmentation, seed=seed)
    cropped = tv.resized_crop(
        picture_CHW,
        crop.top,
        crop.left,
        crop.height,
        crop.width,
        [spec.pixels, spec.pixels],
        interpolation=InterpolationMode(spec.interpolation),
        antialias=spec.antialias,
    )
    if crop.mirrored:
        cropped = tv.horizontal_flip(cropped)
    # As it lies: torchvision gives planes, which is what the network reads, and the way to packed
    # pixels and back takes half as long as the crop.
    view: Pixels = cropped.permute(1, 2, 0).numpy()
    return view
