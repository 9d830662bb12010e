"""Mixup and CutMix: examples of a batch are blended with their neighbours, and so are their labels.

The rule is that of torchvision's v2 transforms, to the last bit, where each example's partner is
the one before it in the batch; it is written out because the original draws from the global
generator. One share and one box are drawn for the whole batch, and hold for all frames of a clip.
(The Model Garden draws a share for each example, and pairs the batch with itself reversed.)

- mixup (Zhang et al. 2018, arXiv 1710.09412): x = s x + (1 - s) partner, s from Beta(a, a).
- CutMix (Yun et al. 2019, arXiv 1905.04899): a box with a share of 1 - s of the picture shows the
  partner; labels are mixed by what is left of the box inside the picture.

Letters: B batch, K classes, H height, W width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from rsbench.errors import RsbenchError


class _Box(NamedTuple):
    """Where the partner shows, in pixels; `bottom` and `right` lie one behind."""

    top: int
    left: int
    bottom: int
    right: int


def mixed(
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    mixup: float,
    cutmix: float,
    num_classes: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each example of a batch with the one before it, the first with the last.

    Args:
        inputs: Floats (B, ..., H, W) on any device, as the network takes them; left as they are.
        labels: Class indices, int64 (B,), or float (B, K) of shares.
        mixup: Parameter of the symmetric Beta distribution; 0 for none.
        cutmix: Likewise. Where both are above 0, a batch gets one of the two, equally likely.
        num_classes: K.
        generator: On the CPU, whatever the device: a seed then draws the same everywhere.

    Returns:
        Mixed inputs, and float32 (B, K) of shares, both on their devices. With both parameters 0
        the inputs as they are, and nothing is drawn.

    Raises:
        RsbenchError: A parameter below 0, or inputs without height and width.
    """
    _check(inputs, mixup=mixup, cutmix=cutmix)
    shares_BK = _shares(labels, num_classes)
    if mixup > 0 and cutmix > 0:
        cuts = int(torch.multinomial(torch.tensor([0.5, 0.5]), 1, generator=generator)) == 1
    else:
        cuts = cutmix > 0
    if cuts:
        kept = _draw_share(cutmix, generator)
        height, width = inputs.shape[-2:]
        box, kept = _draw_box(kept, height, width, generator)
        return _pasted(inputs, box), _blended(shares_BK, kept)
    if mixup > 0:
        kept = _draw_share(mixup, generator)
        return _blended(inputs, kept), _blended(shares_BK, kept)
    return inputs, shares_BK


def _check(inputs: torch.Tensor, *, mixup: float, cutmix: float) -> None:
    for name, value in (("mixup", mixup), ("cutmix", cutmix)):
        if not (math.isfinite(value) and value >= 0):
            raise RsbenchError(
                f"{name} must be a number of at least 0, was {value:g}: 0.2 is usual for mixup, 1"
                " for cutmix, 0 switches it off."
            )
    if cutmix > 0 and inputs.ndim < 4:
        raise RsbenchError(
            "cutmix needs pictures or clips, (B, C, H, W) or (B, C, T, H, W); the batch has shape"
            f" {tuple(inputs.shape)}: set cutmix=0."
        )


def _shares(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    if labels.ndim == 1:
        return torch.nn.functional.one_hot(labels, num_classes).float()
    return labels.float()


def _draw_share(parameter: float, generator: torch.Generator) -> float:
    """Draw from Beta(a, a), by the words of the generator that `torch.distributions.Beta` takes."""
    concentration = torch.tensor([[parameter, parameter]])
    return float(torch._sample_dirichlet(concentration, generator=generator)[0, 0])


def _draw_box(
    kept: float, height: int, width: int, generator: torch.Generator
) -> tuple[_Box, float]:
    """Draw a box of a share of 1 - kept around a random point, and say what it really leaves."""
    column = int(torch.randint(width, size=(1,), generator=generator))
    row = int(torch.randint(height, size=(1,), generator=generator))
    half = 0.5 * math.sqrt(1.0 - kept)
    half_width, half_height = int(half * width), int(half * height)
    box = _Box(
        top=max(row - half_height, 0),
        left=max(column - half_width, 0),
        bottom=min(row + half_height, height),
        right=min(column + half_width, width),
    )
    covered = (box.right - box.left) * (box.bottom - box.top)
    return box, 1.0 - covered / (width * height)


def _pasted(inputs: torch.Tensor, box: _Box) -> torch.Tensor:
    pasted = inputs.clone()
    part = (..., slice(box.top, box.bottom), slice(box.left, box.right))
    pasted[part] = inputs[part].roll(1, 0)
    return pasted


def _blended(values: torch.Tensor, kept: float) -> torch.Tensor:
    """Blend along the batch, in the original's order of operations."""
    return values.roll(1, 0).mul_(1.0 - kept).add_(values.mul(kept))
