"""From frames to network input: squares of the network's size, and `normalise` at the very end.

What comes before `normalise` is in grey levels of 0 to 255: uint8 where the resizer rounds
(torchvision, timm), so that caches and workers carry a quarter of the bytes, and float32 where it
does not (tpu, model_garden). See `rsbench.media.resizers` for the four and for where crops lie.

Letters: N clips, T frames, H height, W width, V crops, C channels, S side of the views, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rsbench.errors import RsbenchError
from rsbench.media.resizers import Frame, Squares, cut_squares
from rsbench.specs import InputSpec


def view_frame(frame: Frame, input: InputSpec, num_crops: int) -> Squares:
    """Resize one frame and cut the test crops.

    Args:
        frame: uint8 (H, W, 3).
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: 1 or 3.

    Returns:
        uint8 or float32 (V, S, S, 3) with S = input.pixels, to be put together by `stack_views`.

    Raises:
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: A frame that is empty, a sliver, or too small for its crop.
    """
    return cut_squares(frame, input, num_crops)


def view_frames(frames: Sequence[Frame] | Frame, input: InputSpec, num_crops: int) -> Squares:
    """Resize the frames of one clip and cut the test crops.

    Args:
        frames: uint8 (T, H, W, 3); T is 1 for a still.
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: 1 or 3.

    Returns:
        uint8 or float32 (V, C, T, S, S), contiguous.

    Raises:
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: A frame that is empty, a sliver, or too small for its crop.
    """
    clip_TVHWC = np.stack([view_frame(frame, input, num_crops) for frame in frames])
    return stack_views(clip_TVHWC[None])


def stack_views(clips_NTVHWC: Squares) -> Squares:
    """Bring the views of an item's clips into a network's layout, clips before crops.

    Args:
        clips_NTVHWC: What `view_frame` gave for each frame of each clip.

    Returns:
        (N x V, C, T, S, S), contiguous, in the same type.
    """
    views_NVCTHW = np.ascontiguousarray(clips_NTVHWC.transpose(0, 2, 5, 1, 3, 4))
    return views_NVCTHW.reshape(-1, *views_NVCTHW.shape[2:])


def normalise(batch: torch.Tensor, input: InputSpec) -> torch.Tensor:
    """Turn views into what a network reads: (x / 255 - mean) / std.

    Args:
        batch: uint8 or float32 (B, C, ...) in grey levels, channels on axis 1, on any device; it is
            left as it is.
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
    return batch.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)
