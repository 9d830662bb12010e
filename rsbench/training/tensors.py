"""Parameters and buffers of a network by name: what is saved, averaged and put back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def named_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Give parameters and buffers by name, detached and not copied.

    Unlike `state_dict`, it does not depend on what modules of other people make of their names.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def load_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy values into a network in place; names and shapes are those of `named_tensors`."""
    with torch.no_grad():
        for name, own in named_tensors(network).items():
            own.copy_(tensors[name])
