"""From frames to network input: resize the short side, crop, and normalise at the very end.

Everything up to `normalise` is uint8, so that caches and workers carry a quarter of the bytes.
Resizing is torchvision's on uint8 tensors (v2.functional), with the interpolation and antialias of
the weights' `InputSpec`; aspect is kept, small pictures are enlarged.

Where crops lie, for a side of length L and a crop of c pixels:

- one crop: torchvision's CenterCrop, round((L - c) / 2) on both axes (half to even);
- three crops, along the longer side: 0, ceil((L - c) / 2), L - c, and ceil((L - c) / 2) on the
  other axis (PySlowFast slowfast/datasets/transform.py `uniform_crop`; mmaction2's ThreeCrop has
  the floor in the middle). A square picture counts as wide.

Letters: T frames, H height, W width, V crops, C channels, B batch.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from rsbench.errors import MediaError, RsbenchError
from rsbench.specs import InputSpec

Pixels = npt.NDArray[np.uint8]

MAX_ASPECT = 64
"""Longest side over shortest that is resized: beyond it the short side is a few stray pixels, and
enlarging it would take any amount of memory."""


def view_frames(frames: Pixels, input: InputSpec, num_crops: int) -> Pixels:
    """Resize frames and cut the test crops.

    Args:
        frames: uint8 (T, H, W, 3); T is 1 for a still.
        input: Side, crop ratio, interpolation and antialias.
        num_crops: 1 or 3.

    Returns:
        uint8 (V, C, T, h, w) with V crops and h = w = input.pixels.

    Raises:
        RsbenchError: Another number of crops.
        MediaError: A frame more than `MAX_ASPECT` times as long as wide, or empty.
    """
    resized = np.stack([resize_short_side(frame, input) for frame in frames])
    return crop_views(resized, input, num_crops)


def resize_short_side(pixels: Pixels, input: InputSpec) -> Pixels:
    """Resize one frame so that its short side is round(input.pixels / input.crop_ratio).

    Args:
        pixels: uint8 (H, W, 3).
        input: Side, crop ratio, interpolation and antialias.

    Returns:
        uint8 (h, w, 3); the long side is cut to a whole number of pixels, as torchvision's Resize.

    Raises:
        MediaError: A frame more than `MAX_ASPECT` times as long as wide, or empty.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(
            f"a frame must be at most {MAX_ASPECT} times as long as wide, was {width} x {height}"
        )
    frame_CHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    resized_CHW = tv.resize(
        frame_CHW,
        [_short_side(input)],
        interpolation=InterpolationMode(input.interpolation),
        antialias=input.antialias,
    )
    return np.ascontiguousarray(resized_CHW.permute(1, 2, 0).numpy())


def crop_views(frames: Pixels, input: InputSpec, num_crops: int) -> Pixels:
    """Cut the test crops from frames that `resize_short_side` gave.

    Args:
        frames: uint8 (T, h, w, 3), both sides at least input.pixels.
        input: Side of the crop.
        num_crops: 1, the centre, or 3 along the longer side, left to right or top to bottom.

    Returns:
        uint8 (V, C, T, input.pixels, input.pixels), contiguous.

    Raises:
        RsbenchError: Another number of crops.
    """
    side = input.pixels
    height, width = frames.shape[1:3]
    assert min(height, width) >= side, (frames.shape, side)
    corners = _corners(height, width, side, num_crops)
    views = [frames[:, top : top + side, left : left + side] for top, left in corners]
    return np.ascontiguousarray(np.stack(views).transpose(0, 4, 1, 2, 3))


def normalise(batch: torch.Tensor, input: InputSpec) -> torch.Tensor:
    """Turn uint8 views into what a network reads: (x / 255 - mean) / std.

    Args:
        batch: uint8 (B, C, ...), channels on axis 1, on any device.
        input: Mean and std, one value a channel.

    Returns:
        float32, same shape and device.

    Raises:
        RsbenchError: The batch has another number of channels than mean and std.
    """
    num_channels = batch.shape[1]
    if len(input.mean) != num_channels or len(input.std) != num_channels:
        raise RsbenchError(
            f"mean and std must have one value for each of {num_channels} channels, "
            f"had {len(input.mean)} and {len(input.std)}"
        )
    along_channels = (1, num_channels, *([1] * (batch.ndim - 2)))
    mean = torch.tensor(input.mean, dtype=torch.float32, device=batch.device).view(along_channels)
    std = torch.tensor(input.std, dtype=torch.float32, device=batch.device).view(along_channels)
    return batch.to(torch.float32).div_(255).sub_(mean).div_(std)


def _short_side(input: InputSpec) -> int:
    """Give the short side to resize to, in pixels, at least the crop's."""
    return max(round(input.pixels / input.crop_ratio), input.pixels)


def _corners(height: int, width: int, side: int, num_crops: int) -> list[tuple[int, int]]:
    """Give the (top, left) of each crop."""
    if num_crops == 1:
        return [(round((height - side) / 2), round((width - side) / 2))]
    if num_crops != 3:
        raise RsbenchError(f"crops must be 1 or 3, was {num_crops}")
    top, left = math.ceil((height - side) / 2), math.ceil((width - side) / 2)
    if height > width:
        return [(0, left), (top, left), (height - side, left)]
    return [(top, 0), (top, left), (top, width - side)]
