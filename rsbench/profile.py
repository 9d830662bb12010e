"""What a network costs before any clock runs: parameters, multiply-adds, activations.

Counted on the meta device, which computes shapes and no numbers, so that the largest network is
counted in seconds and without memory. A multiply-add is half of a FLOP pair: the paper's "4.6 B
FLOPs" of ResNet-RS-50 at 160 pixels are 2.3 G multiply-adds. Convolutions, matrix products and
attention count, everything else (normalisation, activation functions, pooling) does not, as in the
papers. Activations are what convolutions and matrix products put out: Radosavovic et al. 2020,
"Designing Network Design Spaces", https://arxiv.org/abs/2003.13678, section 3.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, flop_registry


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What one network costs for one view; None where it can't be counted."""

    parameters: int
    """Of the features alone."""
    parameters_with_head: int
    macs: int | None
    """Multiply-adds of the features alone."""
    macs_with_head: int | None
    macs_training: int | None
    """Multiply-adds of a forward and a backward pass with head; about three times the former."""
    activations: int | None
    """Numbers that convolutions and matrix products put out, head included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passed:
    """What one forward pass came to."""

    macs: int
    """Multiply-adds of the features alone."""
    macs_with_head: int
    activations: int
    """Numbers that convolutions and matrix products put out, head included."""


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, trained or frozen; BatchNorm's running statistics are buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(build: Callable[[int | None], nn.Module], batch_shape: Sequence[int]) -> int | None:
    """Count the multiply-adds of one forward pass without a head (half of the FLOPs).

    Args:
        build: As `rsbench.specs.Backbone.build`; called with None on the meta device.
        batch_shape: (N, C, H, W) or (N, C, T, H, W), in pixels.

    Returns:
        Multiply-adds of convolutions and matrix products. Modules that can't run on the meta device
        (those that compute with values while they run) are counted in one real pass on the CPU;
        None for those that can't run there either.
    """
    passed = _count_anywhere(lambda: build(None), batch_shape)[1]
    return None if passed is None else passed.macs


def count(build: Callable[[], nn.Module], view_shape: Sequence[int]) -> Counts:
    """Count a network on one view.

    Args:
        build: Gives a `rsbench.specs.BackboneModule`, with the head that shall count.
        view_shape: (C, H, W) or (C, T, H, W), in pixels: without batch axis.

    Returns:
        The counts of one view, training counted in a batch of two (BatchNorm takes no single one).
    """
    module, passed = _count_anywhere(build, (1, *view_shape))
    head = getattr(module, "head", None)
    num_all = count_parameters(module)
    return Counts(
        parameters=num_all - (count_parameters(head) if isinstance(head, nn.Module) else 0),
        parameters_with_head=num_all,
        macs=None if passed is None else passed.macs,
        macs_with_head=None if passed is None else passed.macs_with_head,
        macs_training=_training_macs(module, (2, *view_shape)),
        activations=None if passed is None else passed.activations,
    )


def _count_anywhere(
    build: Callable[[], nn.Module], batch_shape: Sequence[int]
) -> tuple[nn.Module, Passed | None]:
    """Build and count without values, or with them where the network looks at them."""
    # Any module may come here, and may raise anything where it computes with values.
    with contextlib.suppress(Exception), torch.device("meta"):
        module = build()
        return module, count_pass(module, batch_shape)
    with torch.random.fork_rng(devices=[]):
        module = build()
    with contextlib.suppress(Exception):
        return module, count_pass(module, batch_shape)
    return module, None


def count_pass(module: nn.Module, batch_shape: Sequence[int]) -> Passed:
    """Count one forward pass in eval mode on zeros, on the default device (``torch.device``).

    Args:
        module: A `rsbench.specs.BackboneModule`.
        batch_shape: (N, C, H, W) or (N, C, T, H, W), in pixels.
    """
    macs, outputs = _multiply_adds(), _activations()
    module.eval()
    with torch.inference_mode(), _plain_attention():
        batch = torch.zeros(tuple(batch_shape))
        with macs, outputs:
            features = module(batch)
        alone = macs.get_total_flops() // 2
        head, activations = getattr(module, "head", None), outputs.get_total_flops()
        if isinstance(head, nn.Module):
            # A counter begins anew each time it is entered.
            with macs, outputs:
                head(features)
            return Passed(
                macs=alone,
                macs_with_head=alone + macs.get_total_flops() // 2,
                activations=activations + outputs.get_total_flops(),
            )
    return Passed(macs=alone, macs_with_head=alone, activations=activations)


def _training_macs(module: nn.Module, batch_shape: Sequence[int]) -> int | None:
    """Count a forward and a backward pass, a view; only of a network that needs no values."""
    if any(parameter.device.type != "meta" for parameter in module.parameters()):
        return None
    counter = _multiply_adds()
    module.train()
    # As above: what runs forward on the meta device may still fail backward.
    with contextlib.suppress(Exception), torch.device("meta"), _plain_attention():
        with counter:
            # The gradient of a sum is a tensor of ones, as good as any loss's: none multiplies.
            with_head(module, torch.zeros(tuple(batch_shape))).sum().backward()  # type: ignore[no-untyped-call]
        return counter.get_total_flops() // 2 // batch_shape[0]
    return None


def with_head(module: nn.Module, batch: Tensor) -> Tensor:
    """Give a `rsbench.specs.BackboneModule`'s logits (N, K), or its features where it has no head.

    Args:
        module: Maps a batch to features (N, D).
        batch: A normalised float batch, (N, C, H, W) or (N, C, T, H, W).
    """
    features: Tensor = module(batch)
    head = getattr(module, "head", None)
    if not isinstance(head, nn.Module):
        return features
    logits: Tensor = head(features)
    return logits


def _multiply_adds() -> FlopCounterMode:
    return FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_flops},
    )


def _convolution_backward_flops(
    gradient: torch.Size,
    maps: torch.Size,
    weight: torch.Size,
    *others: Any,  # noqa: ANN401 - of any kind, as the operation takes them
    out_shape: Any = None,  # noqa: ANN401 - as above
) -> int:
    """Count a convolution's backward pass: each gradient that is wanted costs as much as forward.

    PyTorch's own formula takes every weight of a grouped convolution for a dense one's.
    """
    del out_shape
    *_, transposed, _, _, wanted = others
    forward = conv_flop_count([*maps], [*weight], [*gradient], transposed=transposed)
    return int(forward * (bool(wanted[0]) + bool(wanted[1])))


def _activations() -> FlopCounterMode:
    """Give a counter that adds up how many numbers each counted operation puts out."""
    return FlopCounterMode(
        display=False, custom_mapping={operation: _num_outputs for operation in flop_registry}
    )


def _num_outputs(*inputs: Any, out_shape: Any = None, **others: Any) -> int:  # noqa: ANN401 - of any operation
    del inputs, others
    # Attention and backward passes put out several tensors; the first is the result.
    while not isinstance(out_shape, torch.Size):
        out_shape = out_shape[0]
    return math.prod(out_shape)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Take attention apart into matrix products: fused kernels hide them from the counter."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
