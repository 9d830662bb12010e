"""Counts: parameters, multiply-adds and activations, against the papers and other counters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from fvcore.nn import ActivationCountAnalysis
from torch import Tensor, nn

from rsbench.adapt import BareModule
from rsbench.profile import (
    Counts,
    Passed,
    count,
    count_macs,
    count_parameters,
    count_pass,
    with_head,
)
from rsbench.registry import find_backbone

# depth, pixels, FLOPs (two for a multiply-add) in billions, with the classifier of 1000 classes.
# Counted in timm's resnetrs networks; Bello et al. 2021 counts the same way (table 3 has 69 and 128
# for the last depths at 256 and 320; arXiv 2106.04803, table 13, has 31 for 152 at 256).
FLOPS_2D = (
    (50, 160, 4.6),
    (101, 160, 8.4),
    (101, 192, 12.0),
    (152, 192, 17.5),
    (152, 224, 23.8),
    (152, 256, 31.1),
    (200, 256, 40.2),
    (270, 256, 53.9),
    (350, 256, 68.8),
    (350, 320, 107.4),
    (420, 320, 127.9),
)

# depth: GFLOPs of 32 frames at 224 and at 256 pixels, with the classifier of 400 classes. Counted
# in the Model Garden's own code, convolutions and dense layers.
FLOPS_3D = {
    50: (176.0, 229.9),
    101: (350.8, 458.1),
    152: (512.3, 669.1),
    200: (624.1, 815.2),
    270: (851.0, 1111.5),
    300: (910.2, 1188.8),
    350: (1095.2, 1430.5),
}


@cache
def _outline(name: str) -> nn.Module:
    spec = find_backbone(name).spec
    with torch.device("meta"):
        return spec.build(spec.parameters_with_classes)


def _on_meta(module: nn.Module, *shape: int) -> Passed:
    with torch.device("meta"):
        return count_pass(module, shape)


@pytest.mark.parametrize(("depth", "pixels", "billions"), FLOPS_2D)
def test_multiply_adds_in_2d_are_half_the_published_flops(
    depth: int, pixels: int, billions: float
) -> None:
    passed = _on_meta(_outline(f"resnet_rs_{depth}"), 1, 3, pixels, pixels)

    assert round(2 * passed.macs_with_head / 1e9, 1) == billions


@pytest.mark.parametrize("depth", FLOPS_3D)
def test_multiply_adds_in_3d_are_half_of_what_the_official_code_does(depth: int) -> None:
    found = [
        _on_meta(_outline(f"resnet_rs_3d_{depth}"), 1, 3, 32, pixels, pixels).macs_with_head
        for pixels in (224, 256)
    ]

    assert [round(2 * macs / 1e9, 1) for macs in found] == [*FLOPS_3D[depth]]


# torchvision publishes multiply-adds, in billions, with its weights ("_ops").
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("efficientnet_b0", (1, 3, 224, 224)),
        ("efficientnet_b5", (1, 3, 456, 456)),
        ("resnext50_32x4d", (1, 3, 224, 224)),
        ("vit_b_32", (1, 3, 224, 224)),
        ("swin_t", (1, 3, 224, 224)),
        ("r3d_18", (1, 3, 16, 112, 112)),
        ("mvit_v1_b", (1, 3, 16, 224, 224)),
        # torchvision counted these two on 16 frames, not on those of their weights.
        ("s3d", (1, 3, 16, 224, 224)),
        ("swin3d_t", (1, 3, 16, 224, 224)),
    ],
)
def test_multiply_adds_are_those_that_torchvision_publishes(
    name: str, shape: tuple[int, ...]
) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    passed = _on_meta(_outline(f"torchvision/{name}"), *shape)

    assert round(passed.macs_with_head / 1e9, 3) == published


# pytorchvideo's model zoo, "Flops (G) x views": multiply-adds at its test crop of 256 pixels.
@pytest.mark.parametrize(
    ("name", "frames", "billions"), [("slow_r50", 8, 54.52), ("slowfast_r50", 32, 65.71)]
)
def test_multiply_adds_are_those_that_pytorchvideo_publishes(
    name: str, frames: int, billions: float
) -> None:
    passed = _on_meta(_outline(f"pytorchvideo/{name}"), 1, 3, frames, 256, 256)

    assert round(passed.macs_with_head / 1e9, 2) == billions


def test_attention_is_counted_with_its_products() -> None:
    # By hand: 4 projections of 5 x 8 by 8 x 8, and two products of 5 x 5 x 8 over all heads.
    with torch.device("meta"):
        layer = nn.MultiheadAttention(8, num_heads=2, batch_first=True)
        passed = count_pass(_Attending(layer), (1, 5, 8))

    assert passed.macs == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
    # Projections put out 4 x 5 x 8, the products 2 heads x 5 x 5 and 5 x 8.
    assert passed.activations == 4 * 5 * 8 + 2 * 5 * 5 + 5 * 8


class _Attending(nn.Module):
    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, batch: Tensor) -> Tensor:
        return self.layer(batch, batch, batch, need_weights=False)[0]


# In millions: Radosavovic et al. 2020 (arXiv 2003.13678) and the baselines its authors published
# (pycls, MODEL_ZOO.md): ResNet-50 11.1, EfficientNet-B0 6.7. They leave out the 1000 logits.
@pytest.mark.parametrize(("name", "millions"), [("resnet50", 11.1), ("efficientnet_b0", 6.7)])
def test_activations_are_the_published_ones(name: str, millions: float) -> None:
    with torch.device("meta"):
        module = torchvision.models.get_model(name)

    assert round(_on_meta(module, 1, 3, 224, 224).activations / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet_rs_50", (1, 3, 64, 64)),
        ("resnet_rs_3d_50", (1, 3, 4, 64, 64)),
        ("tiny_3d", (1, 3, 4, 16, 16)),
    ],
)
def test_activations_are_those_that_fvcore_counts(name: str, shape: tuple[int, ...]) -> None:
    spec = find_backbone(name).spec
    module = spec.build(10).eval()
    analysis = ActivationCountAnalysis(_WithHead(module), torch.zeros(shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)

    assert count_pass(module, shape).activations == analysis.total()


class _WithHead(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Tensor) -> Tensor:
        return with_head(self.module, batch)


# ---------------------------------------------------------------------------- all counts together


class _OneConvolution(nn.Module):
    """3 -> 4 channels by 3 x 3 kernels without bias, averaged, and a classifier of 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 5)

    def forward(self, batch: Tensor) -> Tensor:
        return self.convolution(batch).mean((2, 3))


class _Looking(_OneConvolution):
    """The same, and computes with values: it can't run on the meta device."""

    def forward(self, batch: Tensor) -> Tensor:
        if float(batch.sum()) > 1e9:
            raise ValueError("too bright")
        return super().forward(batch)


# 6 x 6 pixels, by hand: weights 3 x 4 x 9 and 4 x 5 + 5; each of 36 places costs 3 x 4 x 9.
# Backward: the gradient of the convolution's weights costs as much as forward (its input needs
# none), those of the classifier's weights and input 20 each.
BY_HAND = Counts(
    parameters=108,
    parameters_with_head=133,
    macs=36 * 108,
    macs_with_head=36 * 108 + 20,
    macs_training=2 * 36 * 108 + 3 * 20,
    activations=36 * 4 + 5,
)


def test_counts_are_those_worked_out_by_hand() -> None:
    assert count(_OneConvolution, (3, 6, 6)) == BY_HAND


def test_training_a_depthwise_convolution_is_counted_by_its_groups() -> None:
    class Depthwise(_OneConvolution):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)

        def forward(self, batch: Tensor) -> Tensor:
            return self.depthwise(self.convolution(batch)).mean((2, 3))

    counted = count(Depthwise, (3, 6, 6))

    # By hand, on 36 places: 108 before, then one kernel of 9 for each of 4 channels; backward the
    # weights of both, and the input of the second.
    assert counted.macs == 36 * (108 + 36)
    assert counted.macs_training == 36 * (2 * 108 + 3 * 36) + 3 * 20


@pytest.mark.parametrize(
    ("name", "pixels", "stem"),
    [
        # Multiply-adds of the first convolution, whose input needs no gradient: 3 to 32 channels.
        ("torchvision/efficientnet_b0", 224, 112 * 112 * 3 * 32 * 9),
        ("resnet_rs_50", 64, 32 * 32 * 3 * 32 * 9),
    ],
)
def test_a_training_step_is_three_forward_passes_but_for_the_first_layer_s_input(
    name: str, pixels: int, stem: int
) -> None:
    spec = find_backbone(name).spec
    counted = count(lambda: spec.build(1000), (3, pixels, pixels))

    assert counted.macs_with_head is not None
    assert counted.macs_training == 3 * counted.macs_with_head - stem


def test_a_network_that_looks_at_values_is_counted_in_a_real_pass() -> None:
    counted = count(_Looking, (3, 6, 6))

    assert counted.macs_training is None
    assert (counted.macs, counted.macs_with_head) == (BY_HAND.macs, BY_HAND.macs_with_head)
    assert counted.activations == BY_HAND.activations
    assert count_macs(lambda classes: _Looking(), (1, 3, 6, 6)) == BY_HAND.macs


def test_a_network_that_runs_nowhere_has_parameters_and_no_more() -> None:
    class Broken(_OneConvolution):
        def forward(self, batch: Tensor) -> Tensor:
            raise ZeroDivisionError

    counted = count(Broken, (3, 6, 6))

    assert (counted.parameters, counted.parameters_with_head) == (108, 133)
    assert (counted.macs, counted.macs_with_head, counted.activations) == (None, None, None)
    assert count_macs(lambda classes: Broken(), (1, 3, 6, 6)) is None


def test_the_own_output_of_a_bare_module_is_no_head() -> None:
    counted = count(lambda: BareModule(_OneConvolution().convolution), (3, 6, 6))

    assert counted.parameters == counted.parameters_with_head == 108
    assert counted.macs == counted.macs_with_head == 36 * 108


def test_counting_leaves_the_random_numbers_and_fast_attention_as_they_were() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for build in (_OneConvolution, _Looking):
        count(build, (3, 6, 6))

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled()


def test_frozen_parameters_count() -> None:
    module = nn.Linear(3, 2).requires_grad_(False)

    assert count_parameters(module) == 8


@pytest.mark.parametrize("build", [lambda classes: _OneConvolution()])
def test_multiply_adds_grow_with_the_batch(build: Callable[[Any], nn.Module]) -> None:
    assert count_macs(build, (4, 3, 6, 6)) == 4 * 36 * 108
