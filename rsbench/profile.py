"""What a network costs: exact parameter counts and multiply-adds, counted on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, trained or frozen; BatchNorm's running statistics are buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(build: Callable[[int | None], nn.Module], batch_shape: Sequence[int]) -> int | None:
    """Count the multiply-adds of one forward pass without a head (half of the FLOPs).

    Args:
        build: As `rsbench.specs.Backbone.build`; called with None on the meta device.
        batch_shape: (N, C, H, W) or (N, C, T, H, W), in pixels.

    Returns:
        Multiply-adds of convolutions and matrix products, or None for modules that can't run on the
        meta device (those that compute with values while they run).
    """
    counter = FlopCounterMode(display=False)
    try:
        with torch.device("meta"), torch.inference_mode():
            module = build(None).eval()
            with counter:
                module(torch.empty(tuple(batch_shape), device="meta"))
    except Exception:
        # Any module may come here, and may raise anything where it computes with values.
        return None
    return counter.get_total_flops() // 2
