"""From frames to network input: squares of the network's size, and `normalise` at the very end.

What comes before `normalise` is in grey levels of 0 to 255: uint8 where the resizer rounds
(torchvision, timm), so that caches and workers carry a quarter of the bytes, and float32 where it
does not (tpu, model_garden). See `rsbench.media.resizers` for the four and for where crops lie.

Letters: N clips, T frames, H height, W width, V crops, C channels, S side of the views, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rsbench.errors import RsbenchError
from rsbench.media.crops import DEFAULT_CROPPER
from rsbench.media.looking import Look
from rsbench.media.resizers import Frame, Squares, crops_of, cut_squares, keeps_size, looked_at
from rsbench.specs import InputSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameViews:
    """What makes the test crops of each frame; a reader may ask it what it looks at."""

    input: InputSpec
    num_crops: int
    cropper: str = DEFAULT_CROPPER

    def __call__(self, frame: Frame, /) -> Squares:
        """Give what `view_frame` gives; it may be a view of the frame."""
        return view_frame(frame, self.input, self.num_crops, self.cropper)

    def look(self, height: int, width: int) -> Look:
        """Say which part of a frame the crops are made of."""
        crops = crops_of(height, width, self.input, self.num_crops, self.cropper)
        box = looked_at(height, width, self.input, crops)
        only_cuts = keeps_size(height, width, self.input) and not any(
            crop.mirrored for crop in crops
        )
        squares = tuple((crop.top, crop.left, crop.side) for crop in crops)
        return Look(*box, squares=squares if only_cuts else None)


def view_frame(
    frame: Frame, input: InputSpec, num_crops: int, cropper: str = DEFAULT_CROPPER
) -> Squares:
    """Resize one frame and cut the test crops.

    Args:
        frame: uint8 (H, W, 3).
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: 1, 3, or 10 where the cropper has them.
        cropper: Where the crops lie, see `rsbench.media.crops`.

    Returns:
        uint8 or float32 (V, S, S, 3) with S = input.pixels, to be put together by `stack_views`.

    Raises:
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: A frame that is empty, a sliver, or too small for its crop.
    """
    return cut_squares(frame, input, num_crops, cropper)


def view_frames(
    frames: Sequence[Frame] | Frame,
    input: InputSpec,
    num_crops: int,
    cropper: str = DEFAULT_CROPPER,
) -> Squares:
    """Resize the frames of one clip and cut the test crops.

    Args:
        frames: uint8 (T, H, W, 3); T is 1 for a still.
        input: Side, crop ratio, resizer, interpolation and antialias.
        num_crops: 1, 3, or 10 where the cropper has them.
        cropper: Where the crops lie, see `rsbench.media.crops`.

    Returns:
        uint8 or float32 (V, C, T, S, S), contiguous.

    Raises:
        RsbenchError: Another number of crops, or an input that its resizer can't give.
        MediaError: A frame that is empty, a sliver, or too small for its crop.
    """
    frames_TVHWC = [view_frame(frame, input, num_crops, cropper) for frame in frames]
    # A stack of one would be a copy more: `stack_views` makes one.
    clip_TVHWC = frames_TVHWC[0][None] if len(frames_TVHWC) == 1 else np.stack(frames_TVHWC)
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
