"""Random erasing: one box of a view is painted over (Zhong et al. 2017, arXiv 1708.04896).

The box is that of torchvision's RandomErasing, to the last bit, from a generator of its own: 2% to
33% of the picture, 0.3 to 3.3 times as high as wide. It takes the input's mean colour, which is 0
to the network, or as near to it as a grey level is. All frames of a clip have the same box. (The
Model Garden paints noise, in boxes of up to a third.)

Letters: T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

_SMALLEST, _LARGEST = 0.02, 0.33
"""Share of the picture's area."""
_LOWEST, _HIGHEST = 0.3, 3.3
"""Height over width."""
_TRIES = 10


class Box(NamedTuple):
    """Which part of a picture is painted over, in pixels."""

    top: int
    left: int
    height: int
    width: int


def erase_box(
    clip: torch.Tensor, *, probability: float, mean: Sequence[float], seed: int
) -> torch.Tensor:
    """Paint over one box of a clip, or none.

    Args:
        clip: uint8 (3, T, H, W) on any device, left as it is.
        probability: That there is a box.
        mean: Its colour, one value in [0, 1] a channel.
        seed: At least 0.

    Returns:
        uint8 (3, T, H, W).
    """
    box = draw_erased(clip.shape[2], clip.shape[3], probability=probability, seed=seed)
    if box is None:
        return clip
    colour = torch.tensor(mean, device=clip.device).mul(255).round().clamp(0, 255).byte()
    erased = clip.clone()
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    erased[:, :, rows, columns] = colour[:, None, None, None]
    return erased


def draw_erased(height: int, width: int, *, probability: float, seed: int) -> Box | None:
    """Draw the box to paint over; None for none, and where ten boxes did not fit."""
    generator = torch.Generator().manual_seed(seed)
    if float(torch.rand(1, generator=generator)) >= probability:
        return None
    # In float32, as the original takes them.
    lowest, highest = torch.log(torch.tensor([_LOWEST, _HIGHEST])).tolist()
    for _ in range(_TRIES):
        share = torch.empty(1).uniform_(_SMALLEST, _LARGEST, generator=generator).item()
        log_aspect = torch.empty(1).uniform_(lowest, highest, generator=generator)
        area, aspect = height * width * share, log_aspect.exp_().item()
        box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if box_height < height and box_width < width:
            top = torch.randint(0, height - box_height + 1, size=(1,), generator=generator)
            left = torch.randint(0, width - box_width + 1, size=(1,), generator=generator)
            return Box(int(top), int(left), box_height, box_width)
    return None
