"""What training sees of a frame: one random crop, perhaps mirrored, that follows from a seed.

Nothing here touches a global generator, so what a model is shown does not depend on how many
processes read. One crop holds for all frames of a clip; which frames these are is the business of
`rsbench.media.random_sampling`.

Letters: H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rsbench.specs import InputSpec

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
    clip_sampler: str = "dense_random@1"
    """By which rule clips of videos are cut; see `rsbench.media.random_sampling`."""


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
