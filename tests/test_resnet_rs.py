"""ResNet-RS against its papers, the official code's counts, timm and hand calculation."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from rsbench_backbones._resnet_rs_modules import (
    Bottleneck,
    ResNetRS,
    SameConvolution3d,
    SameMaxPool3d,
    SelfGating,
    pad_same,
)
from rsbench_backbones.resnet_rs import BACKBONES, GARDEN_3D, PAPER_2D, TIMM_WEIGHTS
from torch.utils.flop_counter import FlopCounterMode

from rsbench.lifting import lift
from rsbench.specs import Backbone

BY_NAME = {backbone.name: backbone for backbone in BACKBONES}

# One block a stage: every kind of layer, in a fraction of the time.
SHALLOW_2D = replace(PAPER_2D, blocks=(1, 1, 1, 1))
SHALLOW_3D = replace(GARDEN_3D, blocks=(1, 1, 1, 1))


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(architecture, num_classes):
    with torch.device("meta"):
        return ResNetRS(architecture, num_classes).eval()


@cache
def published(name: str) -> torch.nn.Module:
    """A backbone of the table with the head of its declared count, without memory for numbers."""
    backbone = BY_NAME[name]
    with torch.device("meta"):
        return backbone.build(backbone.parameters_with_classes).eval()


def billion_operations(module, *shape: int) -> float:
    """Twice the multiply-adds of convolutions and dense layers, of one view with the head."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        module.head(module(torch.empty(1, 3, *shape)))
    return counter.get_total_flops() / 1e9


def randomised(architecture, *, seed: int, num_classes: int | None = None) -> ResNetRS:
    """A float64 network in eval mode whose every parameter and running statistic is random."""
    module = ResNetRS(architecture, num_classes).double().eval()
    randomise(module, seed)
    return module


def randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            value.copy_(noise.abs() + 0.5)
        elif value.dim() == 1:
            value.copy_(noise * 0.3 + (1.0 if name.endswith("weight") else 0.0))
        else:
            value.copy_(noise * math.sqrt(2 / value[0].numel()))


# ------------------------------------------------------------------------------------- the specs


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_every_declared_parameter_count_is_exact(backbone: Backbone):
    # The declared counts are those of the TensorFlow codes (graph mode) and of timm.
    assert count(published(backbone.name)) == backbone.num_parameters


@pytest.mark.parametrize(
    ("change", "num_classes", "expected"),
    [
        # Counted in the Model Garden code for 3D-50.
        ({}, 600, 48_539_640),
        ({}, 700, 48_744_540),
        ({"self_gating": False}, 400, 42_555_440),
        ({"squeeze_ratio": 0.2}, 400, 46_097_972),
    ],
)
def test_variants_of_the_3d_network_have_the_official_counts(change, num_classes, expected):
    assert count(on_meta(replace(GARDEN_3D, **change), num_classes)) == expected


def test_the_parts_of_the_3d_network_have_hand_counted_parameters():
    module = on_meta(GARDEN_3D, 400)
    # 5x3x3 3->32, 1x3x3 32->32, 1x3x3 32->64 without bias; scale and shift of each BatchNorm.
    assert count(module.conv1) + count(module.bn1) == (
        5 * 9 * 3 * 32 + 9 * 32 * 32 + 9 * 32 * 64 + 2 * (32 + 32 + 64)
    )
    assert count(module.maxpool) == 0
    assert count(module.head) == 2048 * 400 + 400
    gates = [part for part in module.modules() if isinstance(part, SelfGating)]
    assert [count(gate) for gate in gates] == [c * c + c for c in (256, 512, 1024, 2048)]
    # A middle block of c4: temporal 3x1x1, 1x3x3, 1x1x1, three BatchNorms, SE 1024 -> 256 -> 1024.
    assert count(module.layer3[1]) == (
        3 * 1024 * 256 + 9 * 256 * 256 + 256 * 1024 + 2 * (256 + 256 + 1024)
    ) + (1024 * 256 + 256 + 256 * 1024 + 1024)


@pytest.mark.parametrize(
    ("depth", "pixels", "expected"),
    [
        # Counted from timm; the paper's table 3 gives 69 for 350@256 and 128 for 420@320.
        (50, 160, 4.6),
        (101, 192, 12.0),
        pytest.param(152, 256, 31.1, marks=pytest.mark.slow),
        pytest.param(200, 256, 40.2, marks=pytest.mark.slow),
        pytest.param(270, 256, 53.9, marks=pytest.mark.slow),
        pytest.param(350, 256, 68.8, marks=pytest.mark.slow),
        pytest.param(420, 320, 127.9, marks=pytest.mark.slow),
    ],
)
def test_2d_operations_are_the_published_ones(depth, pixels, expected):
    module = published(f"resnet_rs_{depth}")
    assert round(billion_operations(module, pixels, pixels), 1) == expected


@pytest.mark.parametrize(
    ("depth", "at_224", "at_256"),
    [
        # Counted in the Model Garden code: convolutions and dense layers, one view of 32 frames.
        (50, 176.0, 229.9),
        (101, 350.8, 458.1),
        pytest.param(152, 512.3, 669.1, marks=pytest.mark.slow),
        pytest.param(200, 624.1, 815.2, marks=pytest.mark.slow),
        pytest.param(270, 851.0, 1111.5, marks=pytest.mark.slow),
        pytest.param(300, 910.2, 1188.8, marks=pytest.mark.slow),
        pytest.param(350, 1095.2, 1430.5, marks=pytest.mark.slow),
    ],
)
def test_3d_operations_are_those_of_the_official_code(depth, at_224, at_256):
    module = published(f"resnet_rs_3d_{depth}")
    assert round(billion_operations(module, 32, 224, 224), 1) == at_224
    assert round(billion_operations(module, 32, 256, 256), 1) == at_256


def test_the_specs_are_made_without_torch():
    code = "import sys, rsbench_backbones.resnet_rs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------- timm, for the 2D


@pytest.mark.parity
@pytest.mark.parametrize("size", [(64, 64), (45, 63)])
def test_the_2d_network_computes_what_timms_resnetrs50_computes(size):
    timm = pytest.importorskip("timm")
    reference = timm.create_model("resnetrs50").double().eval()
    randomise(reference, seed=1)
    module = ResNetRS(PAPER_2D, 1000).double().eval()
    module.load_state_dict(reference.state_dict())
    pictures = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        features, wanted = (
            module(pictures),
            reference.forward_head(reference.forward_features(pictures), pre_logits=True),
        )
        logits, wanted_logits = module.head(features), reference(pictures)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(features, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits, wanted_logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize(
    "depth", [50, *(pytest.param(d, marks=pytest.mark.slow) for d in TIMM_WEIGHTS if d > 50)]
)
def test_names_and_shapes_of_the_2d_parameters_are_timms(depth):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"resnetrs{depth}").state_dict()
    ours = published(f"resnet_rs_{depth}").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parity
@pytest.mark.parametrize("depth", TIMM_WEIGHTS)
def test_the_preprocessing_of_timms_weights_is_timms(depth):
    timm = pytest.importorskip("timm")
    (weights,) = BY_NAME[f"resnet_rs_{depth}"].weights
    theirs = timm.get_pretrained_cfg(weights.name)
    assert weights.url == theirs.hf_hub_id
    assert weights.num_classes == theirs.num_classes
    assert (3, weights.input.pixels, weights.input.pixels) == theirs.input_size
    assert weights.input.crop_ratio == theirs.crop_pct
    assert weights.input.interpolation == theirs.interpolation
    assert weights.input.mean == theirs.mean
    assert weights.input.std == theirs.std


# ------------------------------------------------------------------------- the 3D network by hand


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [
        # TensorFlow: ceil(size / stride) outputs, total = (outputs - 1) * stride + kernel - size.
        (32, 5, 2, 1, 2),
        (16, 5, 2, 1, 2),
        (7, 5, 2, 2, 2),
        (224, 3, 2, 0, 1),
        (225, 3, 2, 1, 1),
        (56, 1, 2, 0, 0),
        (56, 3, 1, 1, 1),
    ],
)
def test_same_padding_puts_the_odd_element_behind(size, kernel, stride, before, after):
    line = torch.ones(1, 1, size)
    padded = pad_same(line, (kernel,), (stride,))
    assert padded.shape[-1] == before + size + after
    assert padded[0, 0, :before].sum() == 0
    assert padded[0, 0, padded.shape[-1] - after :].sum() == 0


def test_a_same_convolution_is_the_sum_over_its_window():
    # By definition: out[i] = sum_k w[k] x[2 i + k - 1], zero outside (before = 1 for 8, k 5, s 2).
    line, kernel = torch.arange(1.0, 9.0), torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])
    expected = [
        sum(
            float(kernel[k] * line[2 * i + k - 1])
            for k in range(5)
            if 0 <= 2 * i + k - 1 < len(line)
        )
        for i in range(4)
    ]
    convolution = SameConvolution3d(1, 1, (5, 1, 1), (2, 1, 1), bias=False)
    with torch.no_grad():
        convolution.weight.copy_(kernel.view(1, 1, 5, 1, 1))
        found = convolution(line.view(1, 1, 8, 1, 1)).flatten().tolist()
    assert found == expected


def test_a_same_max_pool_ignores_what_it_adds():
    # 4 wide, window 3, stride 2: windows [0, 1, 2] and [2, 3, -]; zeros must not win over -4.
    line = torch.tensor([-1.0, -2.0, -5.0, -4.0])
    pooled = SameMaxPool3d((1, 1, 3), (1, 1, 2))(line.view(1, 1, 1, 1, 4))
    assert pooled.flatten().tolist() == [-1.0, -4.0]


def test_stage_maps_have_half_the_frames_and_the_strides_of_the_paper():
    maps = on_meta(GARDEN_3D, None).stage_maps(torch.empty(1, 3, 32, 224, 224, device="meta"))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        "c2": (256, 16, 56, 56),
        "c3": (512, 16, 28, 28),
        "c4": (1024, 16, 14, 14),
        "c5": (2048, 16, 7, 7),
    }


def test_temporal_kernels_gates_and_shortcuts_are_where_the_official_code_has_them():
    stages = [getattr(on_meta(GARDEN_3D, None), f"layer{number}") for number in (1, 2, 3, 4)]
    for stage, frames in zip(stages, (1, 1, 3, 3), strict=True):
        assert {block.conv1.kernel_size for block in stage} == {(frames, 1, 1)}
        assert [block.gate is not None for block in stage] == [False] * (len(stage) - 1) + [True]
        assert [block.downsample is not None for block in stage] == [True] + [False] * (
            len(stage) - 1
        )
    for stage in stages[1:]:
        assert stage[0].conv1.stride == (1, 1, 1)
        assert stage[0].conv2.stride == (1, 2, 2)
        pool, convolution, _ = stage[0].downsample
        assert isinstance(pool, torch.nn.Identity)
        assert (convolution.kernel_size, convolution.stride) == ((1, 1, 1), (1, 2, 2))


def block_by_hand(block: Bottleneck, maps: torch.Tensor, order: str) -> torch.Tensor:
    """The block of nn_blocks_3d.py, written out; `order` says when it gates ("g") and squeezes."""

    def norm(value, layer):
        shape = (1, -1, 1, 1, 1)
        scale = layer.weight / (layer.running_var + 1e-5).sqrt()
        return (value - layer.running_mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)

    frames = block.conv1.kernel_size[0]
    inside = F.conv3d(maps, block.conv1.weight, padding=(frames // 2, 0, 0))
    inside = norm(inside, block.bn1).relu()
    # Height and width are even here: SAME adds one row below and one column on the right.
    inside = F.conv3d(F.pad(inside, (0, 1, 0, 1)), block.conv2.weight, stride=(1, 2, 2))
    inside = norm(inside, block.bn2).relu()
    inside = norm(F.conv3d(inside, block.conv3.weight), block.bn3)
    for step in order:
        average = inside.mean((2, 3, 4))
        if step == "g":
            logits = average @ block.gate.fc.weight.flatten(1).T + block.gate.fc.bias
        else:
            hidden = (average @ block.se.fc1.weight.flatten(1).T + block.se.fc1.bias).relu()
            logits = hidden @ block.se.fc2.weight.flatten(1).T + block.se.fc2.bias
        inside = inside * logits.sigmoid()[..., None, None, None]
    _, convolution, layer = block.downsample
    shortcut = norm(F.conv3d(maps[..., ::2, ::2], convolution.weight), layer)
    return (inside + shortcut).relu()


def test_a_block_gates_before_it_squeezes():
    torch.manual_seed(0)
    block = Bottleneck(GARDEN_3D, 32, 16, frames=3, stride=2, gated=True).double().eval()
    randomise(block, seed=2)
    maps = torch.randn(2, 32, 4, 6, 8, dtype=torch.float64)
    with torch.no_grad():
        found = block(maps)
        torch.testing.assert_close(found, block_by_hand(block, maps, "gs"), rtol=1e-9, atol=1e-9)
        for wrong in ("sg", "s", "g"):
            assert not torch.allclose(found, block_by_hand(block, maps, wrong), atol=1e-3)


@pytest.mark.parametrize(
    "mistake",
    [{"padding": "symmetric"}, {"self_gating": False}, {"stage_frames": (3, 3, 1, 1)}],
    ids=str,
)
def test_a_mistake_in_the_architecture_changes_the_features(mistake):
    right = randomised(SHALLOW_3D, seed=3)
    wrong = randomised(replace(SHALLOW_3D, **mistake), seed=3)
    if "stage_frames" not in mistake:
        missing, _ = wrong.load_state_dict(right.state_dict(), strict=False)
        assert not missing
    clips = torch.randn(1, 3, 8, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        assert (right(clips) - wrong(clips)).abs().max() > 1e-3


def test_reversed_time_changes_3d_features_and_not_the_frame_mean_of_2d():
    torch.manual_seed(0)
    video = ResNetRS(GARDEN_3D, None).eval()
    image, _ = lift(
        randomised(SHALLOW_2D, seed=4).float(), backbone_modality="image", task_modality="video"
    )
    clips = torch.rand(1, 3, 8, 32, 32)
    with torch.inference_mode():
        forward, backward = video(clips), video(clips.flip(2))
        torch.testing.assert_close(image(clips), image(clips.flip(2)), rtol=1e-4, atol=1e-5)
    assert (forward - backward).norm() > 0.01 * forward.norm()


# --------------------------------------------------------------------- initialisation and training


@pytest.mark.parametrize("architecture", [SHALLOW_2D, SHALLOW_3D], ids=["2d", "3d"])
def test_kernels_start_with_variance_one_over_fan_in_cut_at_two_deviations(architecture):
    # tf.variance_scaling_initializer(): scale 1, fan_in, truncated normal.
    torch.manual_seed(0)
    block = ResNetRS(architecture, 10).layer4[0]
    for weight in (block.conv1.weight, block.conv2.weight, block.conv3.weight, block.se.fc1.weight):
        deviation = 1 / math.sqrt(weight[0].numel())
        assert weight.std().item() == pytest.approx(deviation, rel=0.01)
        assert weight.abs().max().item() <= 2 * deviation / 0.8796 * 1.001
    assert not block.se.fc1.bias.any()


def test_residual_branches_start_at_zero_in_2d_only():
    # TPU code: init_zero=True in bottleneck_block; BottleneckBlock3D has no such thing.
    torch.manual_seed(0)
    assert not ResNetRS(SHALLOW_2D, None).layer1[0].bn3.weight.any()
    assert ResNetRS(SHALLOW_3D, None).layer1[0].bn3.weight.eq(1).all()


def test_heads_and_gates_start_as_in_the_official_code():
    torch.manual_seed(0)
    # tf.random_normal_initializer(stddev=.01); Keras "random_uniform" is +-0.05; the gate's is
    # TruncatedNormal(0.01), whose cut leaves 0.88 of the deviation.
    image, video = ResNetRS(SHALLOW_2D, 100), ResNetRS(SHALLOW_3D, 100)
    assert image.head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert video.head.weight.abs().max().item() == pytest.approx(0.05, rel=0.01)
    assert video.head.weight.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.01)
    assert video.layer4[0].gate.fc.weight.std().item() == pytest.approx(0.0088, rel=0.01)
    assert not image.head.bias.any()
    assert not video.head.bias.any()


def test_one_seed_builds_one_network():
    torch.manual_seed(7)
    first = ResNetRS(SHALLOW_2D, 10).state_dict()
    torch.manual_seed(7)
    second = ResNetRS(SHALLOW_2D, 10).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_head_set_from_outside_is_the_one_in_use():
    module = ResNetRS(SHALLOW_2D, None)
    assert module.head is None
    module.head = torch.nn.Linear(2048, 5)
    assert module.head.out_features == 5
    assert {"fc.weight", "fc.bias"} <= module.state_dict().keys()


def test_regularisation_is_off_in_eval_and_grows_by_stage():
    module = randomised(SHALLOW_2D, seed=5, num_classes=4)
    pictures = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        before = module.head(module(pictures))
        module.set_regularisation(head_dropout=0.5, stochastic_depth=0.1)
        assert torch.equal(module.head(module(pictures)), before)
    # tensorflow/tpu, get_drop_connect_rate: rate * 2 / 5 ... rate * 5 / 5.
    found = [getattr(module, f"layer{number}")[0].skip_probability for number in (1, 2, 3, 4)]
    assert found == pytest.approx([0.04, 0.06, 0.08, 0.1])


def test_a_skipped_block_passes_its_shortcut_and_the_others_are_scaled_up():
    torch.manual_seed(0)
    block = Bottleneck(PAPER_2D, 64, 16, frames=1, stride=1, gated=False)
    block.skip_probability = 0.5
    torch.nn.init.ones_(block.bn3.weight)
    maps = torch.rand(64, 64, 4, 4)
    # Statistics of the batch must not depend on who is skipped: BatchNorm alone stays in eval.
    block.train()
    for layer in (block.bn1, block.bn2, block.bn3):
        layer.eval()
    with torch.no_grad():
        found = block(maps)
        block.skip_probability = 0.0
        branch = block.se(block.bn3(block.conv3(F.relu(block.conv2(F.relu(block.conv1(maps)))))))
    skipped = (found - maps).abs().amax((1, 2, 3)) < 1e-6
    assert 16 < skipped.sum() < 48
    torch.testing.assert_close(
        found[~skipped], F.relu(maps + 2 * branch)[~skipped], rtol=1e-3, atol=1e-3
    )


# ----------------------------------------------------------------------------- layouts and compile


@pytest.mark.parametrize(
    ("architecture", "size", "layout"),
    [
        (SHALLOW_2D, (33, 32), torch.channels_last),
        (SHALLOW_3D, (4, 33, 32), torch.channels_last_3d),
    ],
    ids=["2d", "3d"],
)
def test_the_memory_layout_does_not_change_the_features(architecture, size, layout):
    module = randomised(architecture, seed=6).float()
    batch = torch.randn(2, 3, *size)
    with torch.inference_mode():
        plain = module(batch)
        other = module.to(memory_format=layout)(batch.to(memory_format=layout))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        pytest.param(SHALLOW_2D, (32, 32), marks=pytest.mark.slow),
        (SHALLOW_3D, (4, 32, 32)),
    ],
    ids=["2d", "3d"],
)
def test_torch_compile_sees_one_graph(architecture, size):
    torch.compiler.reset()
    module = randomised(architecture, seed=6)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    batch = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(batch), module(batch))
