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

Where crops lie, for a side of length L and a crop of c pixels; one crop, on both axes:

- torchvision, timm: round((L - c) / 2), half to even (torchvision's CenterCrop);
- tpu: (L - c + 1) // 2;
- model_garden: floor((L - c') / 2) with c' before it is cut to a whole number of pixels.

Three crops along the longer side: 0, the middle, L - c, and the middle on the other axis. The
middle is ceil((L - c) / 2) for the first two (PySlowFast slowfast/datasets/transform.py
`uniform_crop`; mmaction2's ThreeCrop has the floor there) and that of one crop for the last two,
whose originals have no three crops. A square picture counts as wide.

Letters: H height, W width, V crops, S side of the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms.v2 import functional as tv

from rsbench.errors import MediaError, RsbenchError
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


def cut_squares(frame: Frame, input: InputSpec, num_crops: int) -> Squares:
    """Resize one frame and cut the test crops, in the order of the input's resizer.

    Args:
        frame: uint8 (H, W, 3).
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: 1, the centre, or 3 along the longer side, left to right or top to bottom.

    Returns:
        (V, S, S, 3) with V crops and S = input.pixels: uint8 of torchvision and timm; float32 of
        tpu, a little below 0 and above 255 where bicubic overshoots, and of model_garden.

    Raises:
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: A frame more than `MAX_ASPECT` times as long as wide, empty, or so small that
            the crop would have no pixel.
    """
    check_resizer(input)
    if num_crops not in (1, 3):
        raise RsbenchError(f"crops must be 1 or 3, was {num_crops}")
    height, width = frame.shape[:2]
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(
            f"a frame must be at most {MAX_ASPECT} times as long as wide, was {width} x {height}"
        )
    return _RESIZERS[input.resizer](frame, input, num_crops)


class _Square(NamedTuple):
    """A square of a frame, in pixels."""

    top: int
    left: int
    side: int

    def cut(self, frame: Frame) -> Frame:
        return frame[self.top : self.top + self.side, self.left : self.left + self.side]


def _spread(
    height: int, width: int, *, side: int, middle: tuple[int, int], num_crops: int
) -> list[_Square]:
    """Give the middle square, or three along the longer side; `middle` is its top and left."""
    top, left = middle
    if num_crops == 1:
        return [_Square(top, left, side)]
    if height > width:
        return [_Square(each, left, side) for each in (0, top, height - side)]
    return [_Square(top, each, side) for each in (0, left, width - side)]


# ---------------------------------------------------------------------- resized, then cropped


def _torchvision(frame: Frame, input: InputSpec, num_crops: int) -> Squares:
    frame_CHW = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
    interpolation, antialias = InterpolationMode(input.interpolation), input.antialias
    if input.resize_to is None:
        short_side = max(round(input.pixels / input.crop_ratio), input.pixels)
        resized_CHW = tv.resize(frame_CHW, [short_side], interpolation, antialias=antialias)
    else:
        resized_CHW = functional.resize(
            frame_CHW.contiguous(), list(input.resize_to), interpolation, antialias=antialias
        )
    return _cropped(resized_CHW.permute(1, 2, 0).numpy(), input.pixels, num_crops)


def _timm(frame: Frame, input: InputSpec, num_crops: int) -> Squares:
    resized = tv.resize(
        Image.fromarray(np.ascontiguousarray(frame)),
        [math.floor(input.pixels / input.crop_ratio)],
        interpolation=InterpolationMode(input.interpolation),
    )
    return _cropped(np.asarray(resized), input.pixels, num_crops)


def _cropped(frame: Frame, side: int, num_crops: int) -> Squares:
    """Cut crops of the final size from a resized frame: uint8 (V, S, S, 3)."""
    height, width = frame.shape[:2]
    assert min(height, width) >= side, (frame.shape, side)
    rows, columns = (height - side) / 2, (width - side) / 2
    middle = (round(rows), round(columns))
    if num_crops == 3:
        middle = (math.ceil(rows), math.ceil(columns))
    squares = _spread(height, width, side=side, middle=middle, num_crops=num_crops)
    return np.stack([square.cut(frame) for square in squares])


# ---------------------------------------------------------------------- cropped, then resized


def _tpu(frame: Frame, input: InputSpec, num_crops: int) -> Squares:
    height, width = frame.shape[:2]
    side = int(_exact_side(height, width, input))
    middle = ((height - side + 1) // 2, (width - side + 1) // 2)
    squares = _spread(height, width, side=side, middle=middle, num_crops=num_crops)
    return np.stack([_legacy_bicubic(square.cut(frame), input.pixels) for square in squares])


def _model_garden(frame: Frame, input: InputSpec, num_crops: int) -> Squares:
    height, width = frame.shape[:2]
    exact_side = _exact_side(height, width, input)
    middle = (
        int((np.float32(height) - exact_side) / np.float32(2)),
        int((np.float32(width) - exact_side) / np.float32(2)),
    )
    squares = _spread(height, width, side=int(exact_side), middle=middle, num_crops=num_crops)
    return np.stack([_half_pixel_bilinear(square.cut(frame), input.pixels) for square in squares])


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


_RESIZERS: dict[Resizer, Callable[[Frame, InputSpec, int], Squares]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "tpu": _tpu,
    "model_garden": _model_garden,
}
