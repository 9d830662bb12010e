"""Four ways from a frame to the squares a network sees; each is another project's, to the rounding.

Published scores were measured through one of them, and the same words (bicubic, crop 0.875) give
other pixels in each. An `InputSpec` names its own in `resizer`:

``torchvision``: short side to round(pixels / crop_ratio) by torchvision v2 on uint8 tensors, then
  the crop. Single values differ by a grey level or two from torchvision's own presets, which resize
  PIL images, or clips in floats. With `resize_to` the whole frame is resized, aspect or not, in
  floats and rounded: equal bit by bit to the preset of torchvision's older video networks.
``timm``: short side to floor(pixels / crop_ratio) by Pillow, which always widens its filter as it
  shrinks; then the crop. Equal bit by bit to `timm.data.create_transform` in evaluation.
``tpu``: a centre square of crop_ratio of the short side first, then TensorFlow 1's legacy bicubic:
  no antialias, corners not aligned, *no half-pixel centres*, a = -0.75 in a table of 1024 steps,
  borders repeated; float32, neither rounded nor clipped. This is the evaluation of
  ``models/official/resnet/resnet_preprocessing.py`` of tensorflow/tpu, with which ResNet-RS was
  trained (commit 8b3e577, which brought the RandAugment that its configurations name; the
  re-evaluation in sebastian-sz/resnet-rs-keras, which gives the published scores, cites the same
  function at acb331c). Its square is pixels / (pixels + 32) of the short side, so 0.875 at 224
  pixels only: weights must declare crop_ratio = 160 / 192 for 160, and so on.
``model_garden``: a centre square first (0.875 by default), then `tf.image.resize`: bilinear with
  half-pixel centres, no antialias; float32. Evaluation of ``official/vision/dataloaders/
  classification_input.py`` of tensorflow/models.

Where crops lie is the business of `rsbench.media.crops`. Its default, resizer@1, leaves the middle
to the resizer. For a side of length L and one crop of c pixels it is, on both axes:

- torchvision, timm: round((L - c) / 2), half to even (torchvision's CenterCrop);
- tpu: (L - c + 1) // 2;
- model_garden: floor((L - c') / 2) with c' before it is cut to a whole number of pixels.

The middle of three crops is ceil((L - c) / 2) for the first two (PySlowFast, since their originals
have no three crops) and that of one crop for the last two, likewise.

Letters: H height, W width, V crops, S side of the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms.v2 import functional as tv

from rsbench.errors import MediaError, RsbenchError
from rsbench.media.crops import DEFAULT_CROPPER, Crop, check_cropper, crop_boxes
from rsbench.specs import InputSpec, Resizer

Frame = npt.NDArray[np.uint8]
Squares = npt.NDArray[np.uint8 | np.float32]

MAX_ASPECT = 64
"""Longest side over shortest that is resized: beyond it the short side is a few stray pixels, and
enlarging it would take any amount of memory."""

_FIXED_FILTERS = {"tpu": ("bicubic", False), "model_garden": ("bilinear", False)}
"""Interpolation and antialias of the resizers that have no others."""

_CUBIC_STEPS = 1024
"""Resolution of TensorFlow's table of bicubic weights (kTableSize in resize_bicubic_op.cc)."""
_CUBIC_A = -0.75
"""Its sharpness where corners are not aligned and centres are not half pixels."""


def check_resizer(input: InputSpec) -> None:
    """Refuse what the named resizer can't do, so that no field of an input is ignored.

    Raises:
        RsbenchError: An interpolation or antialias that the resizer does not have, or `resize_to`
            without torchvision or smaller than the crop.
    """
    asked = (input.interpolation, input.antialias)
    wanted = _FIXED_FILTERS.get(input.resizer, asked)
    if input.resizer == "timm":
        wanted = (input.interpolation, True)
    if asked != wanted:
        raise RsbenchError(
            f"The {input.resizer} resize must be {wanted[0]} with antialias={wanted[1]}, was"
            f" {asked[0]} with antialias={asked[1]}: correct the InputSpec, or name another resizer"
        )
    if input.resize_to is None:
        return
    if input.resizer != "torchvision":
        raise RsbenchError(
            f"resize_to is for the torchvision resizer, the InputSpec names {input.resizer}: leave"
            " one of them out"
        )
    if min(input.resize_to) < input.pixels:
        raise RsbenchError(
            f"resize_to must hold the crop of {input.pixels} pixels on both axes, was"
            f" {input.resize_to[0]} x {input.resize_to[1]}"
        )


def cut_squares(
    frame: Frame, input: InputSpec, num_crops: int, cropper: str = DEFAULT_CROPPER
) -> Squares:
    """Resize one frame and cut the test crops, in the order of the input's resizer.

    Args:
        frame: uint8 (H, W, 3).
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: 1, the centre; 3 along the longer side, left to right or top to bottom; or 10
            where the cropper has them.
        cropper: Where the crops lie, see `rsbench.media.crops`.

    Returns:
        (V, S, S, 3) with V crops and S = input.pixels: uint8 of torchvision and timm; float32 of
        tpu, a little below 0 and above 255 where bicubic overshoots, and of model_garden.

    Raises:
        UnknownNameError: No such cropper.
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: A frame more than `MAX_ASPECT` times as long as wide, empty, or so small that
            the crop would have no pixel.
    """
    height, width = frame.shape[:2]
    crops = crops_of(height, width, input, num_crops, cropper)
    squares = _RESIZERS[input.resizer](frame, input, crops)
    if any(crop.mirrored for crop in crops):
        pairs = zip(squares, crops, strict=True)
        squares = np.stack([square[:, :: -1 if crop.mirrored else 1] for square, crop in pairs])
    return squares


def looked_at(
    height: int, width: int, input: InputSpec, crops: Sequence[Crop]
) -> tuple[int, int, int, int]:
    """Say which part of a frame `cut_squares` looks at: what lies outside moves no bit of it.

    Args:
        height: Of the frame, in pixels.
        width: Likewise.
        input: As in `cut_squares`.
        crops: What `crops_of` gives for these.

    Returns:
        Top, left, and one behind the last row and column, within the frame.
    """
    ends = [[crop.top for crop in crops], [crop.left for crop in crops]]
    sides = [max(crop.side for crop in crops)] * 2
    box: list[tuple[int, int]] = []
    resized = resized_size(height, width, input) if _resizes_first(input) else (height, width)
    for starts, side, source, target in zip(ends, sides, (height, width), resized, strict=True):
        first, last = min(starts), max(starts) + side
        if source != target:
            scale = source / target
            # A filter reaches as far as its taps, twice as far if cubic; two pixels for rounding.
            reach = math.ceil((2 if input.interpolation == "bicubic" else 1) * max(scale, 1)) + 2
            first, last = math.floor(first * scale) - reach, math.ceil(last * scale) + reach
        box.append((max(first, 0), min(last, source)))
    return box[0][0], box[1][0], box[0][1], box[1][1]


def keeps_size(height: int, width: int, input: InputSpec) -> bool:
    """Say whether a frame of this size is only cropped, not resized."""
    return _resizes_first(input) and resized_size(height, width, input) == (height, width)


def _resizes_first(input: InputSpec) -> bool:
    return input.resizer in ("torchvision", "timm")


@functools.lru_cache(maxsize=1024)
def refuse_sliver(height: int, width: int) -> None:
    """Refuse a frame whose longer side would fill the memory where the shorter one is resized.

    Raises:
        MediaError: It is more than `MAX_ASPECT` times as long as wide, or empty.
    """
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(
            f"a frame must be at most {MAX_ASPECT} times as long as wide, was {width} x {height}"
        )


def crops_of(
    height: int, width: int, input: InputSpec, num_crops: int, cropper: str = DEFAULT_CROPPER
) -> tuple[Crop, ...]:
    """Say which squares `cut_squares` cuts; views of a frame are alike exactly if these are equal.

    Args:
        height: Of the frame, in pixels.
        width: Likewise.
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: As in `cut_squares`.
        cropper: As in `cut_squares`.

    Returns:
        Squares of the resized frame (torchvision, timm), or of the frame as it is (tpu,
        model_garden), in the order of the views.

    Raises:
        UnknownNameError: No such cropper.
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: As `cut_squares`.
    """
    check_resizer(input)
    check_cropper(cropper, num_crops)
    refuse_sliver(height, width)
    if _resizes_first(input):
        height, width = resized_size(height, width, input)
        exact_side = np.float32(input.pixels)
    else:
        exact_side = _exact_side(height, width, input)
    own = functools.partial(_own_middle, exact_side=exact_side, input=input, num_crops=num_crops)
    return crop_boxes(
        cropper,
        height=height,
        width=width,
        side=int(exact_side),
        num_crops=num_crops,
        own_middle=(own(height), own(width)),
    )


def resized_size(height: int, width: int, input: InputSpec) -> tuple[int, int]:
    """Give (height, width) of a frame after the resize of torchvision and timm, before the crop.

    Sizes are torchvision's: the long side is truncated to whole pixels.
    """
    if input.resize_to is not None:
        return input.resize_to
    if input.resizer == "timm":
        short_side = math.floor(input.pixels / input.crop_ratio)
    else:
        short_side = max(round(input.pixels / input.crop_ratio), input.pixels)
    long_side = int(short_side * max(height, width) / min(height, width))
    return (short_side, long_side) if height <= width else (long_side, short_side)


def _own_middle(length: int, *, exact_side: np.float32, input: InputSpec, num_crops: int) -> int:
    """Say where the resizer itself puts the middle crop on an axis of this length."""
    if input.resizer == "tpu":
        return (length - int(exact_side) + 1) // 2
    if input.resizer == "model_garden":
        return int((np.float32(length) - exact_side) / np.float32(2))
    middle = (length - input.pixels) / 2
    return math.ceil(middle) if num_crops == 3 else round(middle)


# ---------------------------------------------------------------------- resized, then cropped


def _torchvision(frame: Frame, input: InputSpec, crops: Sequence[Crop]) -> Squares:
    if keeps_size(frame.shape[0], frame.shape[1], input):
        return _cropped(frame, crops)
    # Planes and packed pixels are both fine; only what runs backwards is not.
    forward = frame if min(frame.strides) > 0 else np.ascontiguousarray(frame)
    frame_CHW = torch.from_numpy(forward).permute(2, 0, 1)
    interpolation, antialias = InterpolationMode(input.interpolation), input.antialias
    size = list(resized_size(frame.shape[0], frame.shape[1], input))
    if input.resize_to is None:
        resized_CHW = tv.resize(frame_CHW, size, interpolation, antialias=antialias)
    else:
        resized_CHW = functional.resize(
            frame_CHW.contiguous(), size, interpolation, antialias=antialias
        )
    return _cropped(resized_CHW.permute(1, 2, 0).numpy(), crops)


def _timm(frame: Frame, input: InputSpec, crops: Sequence[Crop]) -> Squares:
    if keeps_size(frame.shape[0], frame.shape[1], input):
        return _cropped(frame, crops)
    resized = tv.resize(
        Image.fromarray(np.ascontiguousarray(frame)),
        list(resized_size(frame.shape[0], frame.shape[1], input)),
        interpolation=InterpolationMode(input.interpolation),
    )
    return _cropped(np.asarray(resized), crops)


def _cropped(frame: Frame, crops: Sequence[Crop]) -> Squares:
    """Cut crops of the final size from a resized frame: uint8 (V, S, S, 3); one is a view of it."""
    if len(crops) == 1:
        return _cut(frame, crops[0])[None]
    return np.stack([_cut(frame, crop) for crop in crops])


def _cut(frame: Frame, crop: Crop) -> Frame:
    return frame[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]


# ---------------------------------------------------------------------- cropped, then resized


def _tpu(frame: Frame, input: InputSpec, crops: Sequence[Crop]) -> Squares:
    return np.stack([_legacy_bicubic(_cut(frame, crop), input.pixels) for crop in crops])


def _model_garden(frame: Frame, input: InputSpec, crops: Sequence[Crop]) -> Squares:
    return np.stack([_half_pixel_bilinear(_cut(frame, crop), input.pixels) for crop in crops])


def _exact_side(height: int, width: int, input: InputSpec) -> np.float32:
    """Give the side of the square before it is cut to whole pixels, in TensorFlow's float32."""
    exact_side = np.float32(input.crop_ratio) * np.float32(min(height, width))
    if exact_side < 1:
        raise MediaError(
            f"a frame must be large enough for a crop of {input.crop_ratio:g} of its short side,"
            f" was {width} x {height}"
        )
    return exact_side


def _legacy_bicubic(square: Frame, side: int) -> npt.NDArray[np.float32]:
    """Resize like `tf.compat.v1.image.resize_bicubic`: (c, c, 3) -> float32 (S, S, 3).

    Rows are brought together before columns and four products added from first to last, as the
    kernel does, so that the sums round alike.
    """
    rows = _four_together(square, side)
    return _four_together(np.ascontiguousarray(rows.swapaxes(0, 1)), side).swapaxes(0, 1)


def _four_together(lines: Squares, side: int) -> npt.NDArray[np.float32]:
    """Make each of `side` lines of four: (c, ..., 3) -> float32 (S, ..., 3)."""
    places, weights = _bicubic_taps(len(lines), side)
    total = np.zeros((side, *lines.shape[1:]), dtype=np.float32)
    for place, weight in zip(places, weights, strict=True):
        total += lines.take(place, axis=0) * weight[:, None, None]
    return total


@functools.lru_cache(maxsize=1024)
def _bicubic_taps(length: int, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Give which four pixels of `length` make each of `side`, and their weights: both (4, S)."""
    scale = np.float32(length) / np.float32(side)
    exact = np.arange(side, dtype=np.float32) * scale
    first = np.floor(exact)
    steps = np.rint((exact - first) * np.float32(_CUBIC_STEPS)).astype(np.int64)
    near, far = _cubic_table()
    weights = np.stack(
        [far[steps], near[steps], near[_CUBIC_STEPS - steps], far[_CUBIC_STEPS - steps]]
    )
    places = first.astype(np.int64) + np.arange(-1, 3)[:, None]
    return places.clip(0, length - 1), weights


@functools.cache
def _cubic_table() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Give Keys' weights of a pixel at distance i / 1024, and at 1 + i / 1024."""
    near = np.arange(_CUBIC_STEPS + 1) / _CUBIC_STEPS
    far = near + 1
    a = _CUBIC_A
    return (
        (((a + 2) * near - (a + 3)) * near * near + 1).astype(np.float32),
        (((a * far - 5 * a) * far + 8 * a) * far - 4 * a).astype(np.float32),
    )


def _half_pixel_bilinear(square: Frame, side: int) -> npt.NDArray[np.float32]:
    """Resize like `tf.image.resize` by default: (c, c, 3) -> float32 (S, S, 3).

    Columns are brought together before rows, as the kernel does, so that the sums round alike.
    """
    return _two_together(_two_together(square, side, axis=1), side, axis=0)


def _two_together(lines: Squares, side: int, *, axis: int) -> npt.NDArray[np.float32]:
    """Make each of `side` lines along an axis of the two it lies between."""
    before, after, share = _bilinear_taps(lines.shape[axis], side)
    start = lines.take(before, axis=axis).astype(np.float32)
    way = lines.take(after, axis=axis).astype(np.float32)
    way -= start
    way *= share.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
    way += start
    return way


@functools.lru_cache(maxsize=1024)
def _bilinear_taps(
    length: int, side: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Give the pixel before and after each of `side` places, and how far it is on the way: (S,)."""
    half = np.float32(0.5)
    scale = np.float32(length) / np.float32(side)
    exact = (np.arange(side, dtype=np.float32) + half) * scale - half
    first = np.floor(exact)
    return (
        np.maximum(first, 0).astype(np.int64),
        np.minimum(np.ceil(exact), length - 1).astype(np.int64),
        exact - first,
    )


_RESIZERS: dict[Resizer, Callable[[Frame, InputSpec, Sequence[Crop]], Squares]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "tpu": _tpu,
    "model_garden": _model_garden,
}
