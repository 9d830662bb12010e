"""Colour jitter: brightness, contrast and saturation change by random factors, in random order.

The draws and their order are those of torchvision's v2 ColorJitter without hue, to the last bit,
from a generator of their own; the arithmetic is torchvision's.

Letters: T frames, H height, W width.
"""

from __future__ import annotations

import torch

_NUM_KINDS = 4
"""torchvision shuffles four kinds; the fourth is hue, which is left alone."""


def jitter_colours(clip: torch.Tensor, *, strength: float, seed: int) -> torch.Tensor:
    """Change the colours of a clip, alike in all its frames.

    Args:
        clip: uint8 (3, T, H, W) on any device, left as it is.
        strength: Factors are drawn from [max(0, 1 - strength), 1 + strength], at least 0.
        seed: At least 0.

    Returns:
        uint8 (3, T, H, W).
    """
    from torchvision.transforms.v2 import functional as tv

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(_NUM_KINDS, generator=generator).tolist()
    least, most = max(0.0, 1.0 - strength), 1.0 + strength
    factors = [
        torch.empty(1).uniform_(least, most, generator=generator).item()
        for _ in range(_NUM_KINDS - 1)
    ]
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    frames_TCHW = clip.transpose(0, 1)
    for kind in order:
        if kind < len(adjust):
            frames_TCHW = adjust[kind](frames_TCHW, factors[kind])
    return frames_TCHW.transpose(0, 1).contiguous()
