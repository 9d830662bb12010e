"""What training sees of a picture or clip: a random crop, perhaps mirrored and distorted.

All of it follows from a seed: nothing here touches a global generator, so what a model is shown
does not depend on how many processes read. `random_crop` takes one frame at a time, while a clip is
being read, and makes it the square that is trained on; `distorted` takes the whole clip afterwards,
in this order: colour jitter, RandAugment, random erasing. (The Model Garden jitters before it
resizes, and erases after it normalises.) Pictures are clips of one frame, and one draw holds for
all frames; which frames these are is the business of `rsbench.media.random_sampling`.

Crops are torchvision's RandomResizedCrop, to the last bit; it is written out because the original
draws from the global generator, and saving and restoring that took as long as drawing (together
0.37 ms beside 0.17, of the 2.8 that a photograph took). With `Augmentation.scale_jitter` they are
those of SlowFast (`random_short_side_scale_jitter` and `random_crop` of slowfast/datasets/
transform.py), but for its last row and column, which it never shows.

Letters: C channels, T frames, H height, W width.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rsbench.errors import RsbenchError
from rsbench.media.colour import jitter_colours
from rsbench.media.distortions import Edges
from rsbench.media.erasing import erase_box
from rsbench.media.randaugment import RULES, RuleName, randaugment
from rsbench.media.resizers import refuse_sliver
from rsbench.specs import InputSpec

Pixels = npt.NDArray[np.uint8]

_DISTORTIONS = 1
"""Which child of a view's seed is the distortions'; crop and clip take words of the seed itself."""
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
    scale_jitter: tuple[int, int] | None = None
    """Least and greatest length in pixels that the shorter side is resized to before a random
    square of the training side is cut from it, as SlowFast trains; None: crop with resize.
    `smallest_crop` and `widest_aspect` have a say in the latter only."""
    pixels: int = 0
    """Side of the square that is trained on; 0 for the input's."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation change by a factor of at most 1 +- this, at least 0."""
    randaugment_layers: int = 0
    """Operations drawn one after another by RandAugment; 0 for none."""
    randaugment_magnitude: float = 0.0
    """How strong they are, in [0, 30]: 10 is the full range of its table, more goes beyond."""
    randaugment_rule: RuleName = "model_garden"
    """Whose version of it; see `rsbench.media.randaugment`."""
    randaugment_edges: Edges | None = None
    """What it shows outside of a picture that it shifts: "grey" where a mirror image has another
    label; None for what the version does."""
    random_erasing: float = 0.0
    """Probability that one box of the view is painted over."""


class RandomCrop(NamedTuple):
    """Which part of a picture is shown, in pixels, and whether mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


class ScaledCrop(NamedTuple):
    """To which size a picture is brought, which square of that is shown, and whether mirrored."""

    height: int
    width: int
    top: int
    left: int
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


def draw_scaled_crop(
    height: int, width: int, augmentation: Augmentation, *, side: int, seed: int
) -> ScaledCrop:
    """Draw the length of the shorter side, then a square, then whether it is mirrored.

    Args:
        height: Of the picture, in pixels.
        width: Likewise.
        augmentation: With `scale_jitter`.
        side: Of the square.
        seed: Equal seeds give equal crops of equally large pictures.

    Raises:
        RsbenchError: A shorter side might be shorter than the square, or the bounds are swapped.
        MediaError: The picture is a sliver.
    """
    assert augmentation.scale_jitter is not None
    check_scales(augmentation, side)
    refuse_sliver(height, width)
    least, most = augmentation.scale_jitter
    generator = torch.Generator()
    generator.manual_seed(seed)
    short = round(torch.empty(1).uniform_(least, most, generator=generator).item())
    long = math.floor(max(height, width) / min(height, width) * short)
    new_height, new_width = (long, short) if height > width else (short, long)
    top = torch.randint(0, new_height - side + 1, size=(1,), generator=generator)
    left = torch.randint(0, new_width - side + 1, size=(1,), generator=generator)
    mirrored = float(torch.rand((), generator=generator)) < augmentation.flip_probability
    return ScaledCrop(new_height, new_width, int(top), int(left), mirrored)


def edges_of(augmentation: Augmentation) -> Edges:
    """Say what RandAugment shows outside of a picture that it shifts."""
    return augmentation.randaugment_edges or RULES[augmentation.randaugment_rule].edges


def check_scales(augmentation: Augmentation, side: int) -> None:
    """Hold scale jitter, where there is some, to the side that is trained on.

    Raises:
        RsbenchError: A shorter side might be shorter than the square, or the bounds are swapped.
    """
    if augmentation.scale_jitter is None:
        return
    least, most = augmentation.scale_jitter
    if not side <= least <= most:
        raise RsbenchError(
            f"scale_jitter must be two lengths of at least the {side} pixels that are trained on,"
            f" the smaller one first; it was {least}-{most}: {round(side * 8 / 7)}-"
            f"{round(side * 10 / 7)} is what SlowFast has for {side}."
        )


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
    """Cut a random crop, make it the square that is trained on, and perhaps mirror it.

    The filter is the input's interpolation and antialias by torchvision, whatever its resizer and
    crop: what the four resizers differ in beyond that, by fractions of a pixel, is less than what a
    random crop moves. No resize goes before it, so `resize_to` has no say.

    Args:
        pixels: uint8 (H, W, 3).
        spec: Side and interpolation of the input.
        augmentation: How far the crop may go.
        seed: Equal seeds give equal crops of equally large pictures.

    Returns:
        uint8 (S, S, 3), S = augmentation.pixels or else spec.pixels, in any order in memory.

    Raises:
        RsbenchError: `augmentation.scale_jitter` does not suit the side.
        MediaError: The picture is a sliver, and its scale is to be jittered.
    """
    from torchvision.transforms.v2 import functional as tv

    side = augmentation.pixels or spec.pixels
    picture_CHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    height, width = pixels.shape[:2]
    crop: RandomCrop | ScaledCrop
    if augmentation.scale_jitter is None:
        crop = draw_crop(height, width, augmentation, seed=seed)
        box_CHW = tv.crop(picture_CHW, crop.top, crop.left, crop.height, crop.width)
        cropped = _resized(box_CHW, side, side, spec)
    else:
        crop = draw_scaled_crop(height, width, augmentation, side=side, seed=seed)
        scaled_CHW = _resized(picture_CHW, crop.height, crop.width, spec)
        cropped = tv.crop(scaled_CHW, crop.top, crop.left, side, side)
    if crop.mirrored:
        cropped = tv.horizontal_flip(cropped)
    # As it lies: torchvision gives planes, which is what the network reads, and the way to packed
    # pixels and back takes half as long as the crop.
    view: Pixels = cropped.permute(1, 2, 0).numpy()
    return view


def _resized(picture_CHW: torch.Tensor, height: int, width: int, spec: InputSpec) -> torch.Tensor:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    interpolation = InterpolationMode(spec.interpolation)
    resized: torch.Tensor = tv.resize(
        picture_CHW, [height, width], interpolation, antialias=spec.antialias
    )
    return resized


def distorted(
    view: torch.Tensor, spec: InputSpec, augmentation: Augmentation, *, seed: int
) -> torch.Tensor:
    """Change the colours of a view, apply RandAugment and paint over a box, as far as is wanted.

    Args:
        view: uint8 (3, T, H, W), (3, H, W) for a picture, on any device; left as it is.
        spec: Mean colour of the input.
        augmentation: How far the view may go.
        seed: That of the view; the draws do not share words with those of crop and clip.

    Returns:
        uint8, same shape; the view itself where nothing is wanted.

    Raises:
        RsbenchError: Layers or magnitude of RandAugment are out of range.
    """
    if not (
        augmentation.colour_jitter or augmentation.randaugment_layers or augmentation.random_erasing
    ):
        return view
    clip = view if view.ndim == 4 else view[:, None]
    words = np.random.SeedSequence(seed, spawn_key=(_DISTORTIONS,)).generate_state(3)
    colour_seed, layers_seed, box_seed = words.tolist()
    if augmentation.colour_jitter:
        clip = jitter_colours(clip, strength=augmentation.colour_jitter, seed=colour_seed)
    if augmentation.randaugment_layers:
        clip = randaugment(
            clip,
            num_layers=augmentation.randaugment_layers,
            magnitude=augmentation.randaugment_magnitude,
            rule=augmentation.randaugment_rule,
            seed=layers_seed,
            edges=augmentation.randaugment_edges,
        )
    if augmentation.random_erasing:
        clip = erase_box(
            clip, probability=augmentation.random_erasing, mean=spec.mean, seed=box_seed
        )
    return clip.reshape(view.shape)
