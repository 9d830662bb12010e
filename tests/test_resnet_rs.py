"""ResNet-RS against its papers, the official code's counts, timm and hand calculation."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from rsbench_backbones._resnet_rs_modules import (
    Bottleneck,
    ResNetRS,
    SameAveragePool2d,
    SameConvolution2d,
    SameConvolution3d,
    SameMaxPool3d,
    SelfGating,
    pad_same,
)
from rsbench_backbones.resnet_rs import (
    BACKBONES,
    BLOCKS,
    GARDEN_2D,
    GARDEN_3D,
    PAPER_2D,
    PUBLISHED_ROWS,
)
from torch.utils.flop_counter import FlopCounterMode

from rsbench.errors import RsbenchError, WeightsError
from rsbench.lifting import lift
from rsbench.registry import find_backbone
from rsbench.specs import Backbone
from rsbench.weights.state import load_into, numeric_digest, state_digest

BY_NAME = {backbone.name: backbone for backbone in BACKBONES}

# One block a stage: every kind of layer, in a fraction of the time.
SHALLOW_2D = replace(PAPER_2D, blocks=(1, 1, 1, 1))
SHALLOW_GARDEN = replace(GARDEN_2D, blocks=(1, 1, 1, 1))
SHALLOW_3D = replace(GARDEN_3D, blocks=(1, 1, 1, 1))

TIMM_DEPTHS = (50, 101, 152, 200, 270, 350, 420)


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
        if not value.is_floating_point():
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
    ("depth", "pixels", "millions", "billions"),
    [
        # Counted from timm, as 2 x multiply-adds; the paper's table 3 gives 69 for 350@256 and 128
        # for 420@320, and parameters as here (it has none for 200).
        (50, 160, 36, 4.6),
        (101, 160, 64, 8.4),
        (101, 192, 64, 12.0),
        pytest.param(152, 192, 87, 17.5, marks=pytest.mark.slow),
        pytest.param(152, 224, 87, 23.8, marks=pytest.mark.slow),
        pytest.param(152, 256, 87, 31.1, marks=pytest.mark.slow),
        pytest.param(200, 256, 93, 40.2, marks=pytest.mark.slow),
        pytest.param(270, 256, 130, 53.9, marks=pytest.mark.slow),
        pytest.param(350, 256, 164, 68.8, marks=pytest.mark.slow),
        pytest.param(350, 320, 164, 107.4, marks=pytest.mark.slow),
        pytest.param(420, 320, 192, 127.9, marks=pytest.mark.slow),
    ],
)
def test_the_papers_rows_have_the_published_size_and_cost(depth, pixels, millions, billions):
    found = find_backbone(f"resnet_rs_{depth}@{pixels}").spec
    assert (depth, pixels) in {(row.depth, row.pixels) for row in PUBLISHED_ROWS}
    assert round(found.num_parameters / 1e6) == millions
    operations = billion_operations(
        published(f"resnet_rs_{depth}"), found.input.pixels, found.input.pixels
    )
    assert round(operations, 1) == billions


def test_the_papers_rows_are_eleven_and_set_the_default_input():
    assert len(PUBLISHED_ROWS) == len({(row.depth, row.pixels) for row in PUBLISHED_ROWS}) == 11
    # The first row of each depth in the paper's table 7.
    smallest = {50: 160, 101: 160, 152: 192, 200: 256, 270: 256, 350: 256, 420: 320}
    for depth, pixels in smallest.items():
        assert BY_NAME[f"resnet_rs_{depth}"].input.pixels == pixels
        assert BY_NAME[f"resnet_rs_garden_{depth}"].input.pixels == pixels


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


def test_the_paper_and_the_model_garden_have_their_own_preprocessing():
    # TPU code, resnet_preprocessing.py: CROP_PADDING = 32 of size + 32, tf.image.resize_bicubic.
    # Model Garden: center_crop_image takes 0.875 of the short side, tf.image.resize bilinear.
    paper, garden = (BY_NAME[name].input for name in ("resnet_rs_50", "resnet_rs_garden_50"))
    assert (paper.resizer, paper.interpolation) == ("tpu", "bicubic")
    assert (garden.resizer, garden.interpolation) == ("model_garden", "bilinear")
    assert (paper.antialias, garden.antialias) == (False, False)
    assert (paper.crop_ratio, garden.crop_ratio) == (160 / 192, 0.875)


# ------------------------------------------------------------------------------- timm, for the 2D


@pytest.mark.parity
@pytest.mark.parametrize("size", [(64, 64), (45, 63)], ids=["even", "odd"])
@pytest.mark.parametrize(
    "depth", [50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (101, 200))]
)
def test_the_2d_network_computes_what_timms_resnetrs_computes(depth, size):
    timm = pytest.importorskip("timm")
    reference = timm.create_model(f"resnetrs{depth}").double().eval()
    randomise(reference, seed=1)
    module = ResNetRS(replace(PAPER_2D, blocks=BLOCKS[depth]), 1000).double().eval()
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
    "depth", [50, *(pytest.param(d, marks=pytest.mark.slow) for d in TIMM_DEPTHS if d > 50)]
)
def test_names_and_shapes_of_the_2d_parameters_are_timms(depth):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"resnetrs{depth}").state_dict()
    ours = published(f"resnet_rs_{depth}").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def timms_resnet(blocks, *, width=1.0, squeeze_ratio=0.25):
    """timm's ResNet with the arguments of its resnetrs50, of any size."""
    resnet, layers = pytest.importorskip("timm.models.resnet"), pytest.importorskip("timm.layers")
    squeeze = partial(layers.get_attn("se"), rd_ratio=squeeze_ratio)
    with torch.device("meta"):
        return resnet.ResNet(
            resnet.Bottleneck,
            blocks,
            channels=tuple(int(width * channels) for channels in (64, 128, 256, 512)),
            stem_width=int(width * 32),
            stem_type="deep",
            replace_stem_pool=True,
            avg_down=True,
            block_args={"attn_layer": squeeze},
        )


@pytest.mark.parity
@pytest.mark.parametrize(
    # Blocks: the paper's appendix E.
    ("depth", "blocks"),
    [(300, (4, 36, 54, 4)), (400, (6, 48, 72, 6))],
)
def test_the_depths_of_the_scaling_study_have_timms_count(depth, blocks):
    assert BY_NAME[f"resnet_rs_{depth}"].num_parameters == count(timms_resnet(blocks))


@pytest.mark.parity
def test_a_scaled_network_has_timms_count_and_names():
    theirs = timms_resnet((3, 4, 6, 3), width=0.5, squeeze_ratio=0.125)
    spec = find_backbone("resnet_rs_50+width=0.5+squeeze_ratio=0.125").spec
    with torch.device("meta"):
        ours = spec.build(1000).state_dict()
    assert spec.num_parameters == count(theirs)
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


@pytest.mark.parity
@pytest.mark.parametrize("depth", TIMM_DEPTHS)
def test_the_preprocessing_of_timms_weights_is_timms(depth):
    timm = pytest.importorskip("timm")
    weights = {each.name: each for each in BY_NAME[f"resnet_rs_{depth}"].weights}[
        f"resnetrs{depth}.tf_in1k"
    ]
    theirs = timm.get_pretrained_cfg(weights.name)
    assert weights.url == theirs.hf_hub_id
    assert weights.num_classes == theirs.num_classes
    assert (3, weights.input.pixels, weights.input.pixels) == theirs.input_size
    assert weights.input.crop_ratio == theirs.crop_pct
    assert weights.input.interpolation == theirs.interpolation
    assert weights.input.mean == theirs.mean
    assert weights.input.std == theirs.std
    assert weights.input.resizer == "timm"


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


# ------------------------------------------------------------- the Model Garden's network by hand


def test_a_same_average_pool_divides_by_what_it_covers():
    # tf.keras.layers.AveragePooling2D(2, 1, "same") of [[1, 2], [3, 6]], by hand: the last column
    # and row are behind the picture, and do not count.
    maps = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(1, 1, 2, 2)
    expected = torch.tensor([[3.0, 4.0], [4.5, 6.0]]).view(1, 1, 2, 2)
    assert torch.equal(SameAveragePool2d()(maps), expected)


def garden_block_by_hand(block: Bottleneck, maps: torch.Tensor, *, stride: int) -> torch.Tensor:
    """The first block of a stage of nn_blocks.py, written out for even sizes."""

    def norm(value, layer):
        shape = (1, -1, 1, 1)
        scale = layer.weight / (layer.running_var + 1e-5).sqrt()
        return (value - layer.running_mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)

    def swish(value):
        return value * value.sigmoid()

    inside = swish(norm(F.conv2d(maps, block.conv1.weight), block.bn1))
    # SAME: one row and column behind where it strides, one on each side where it does not.
    padding = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
    inside = F.conv2d(F.pad(inside, padding), block.conv2.weight, stride=stride)
    inside = norm(F.conv2d(swish(norm(inside, block.bn2)), block.conv3.weight), block.bn3)
    average = inside.mean((2, 3))
    assert block.se.fc1.out_channels == inside.shape[1] // 4
    hidden = (average @ block.se.fc1.weight.flatten(1).T + block.se.fc1.bias).relu()
    logits = hidden @ block.se.fc2.weight.flatten(1).T + block.se.fc2.bias
    inside = inside * logits.sigmoid()[..., None, None]
    # A 2x2 average, whose last window sees one row and column when it does not stride.
    ones = F.pad(torch.ones_like(maps), (0, 1, 0, 1))
    sums, seen = (F.avg_pool2d(each, 2, stride) for each in (F.pad(maps, (0, 1, 0, 1)), ones))
    shortcut = norm(F.conv2d(sums / seen, block.downsample[1].weight), block.downsample[2])
    return swish(inside + shortcut)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_of_the_model_garden_is_what_its_code_says(stride):
    block = Bottleneck(GARDEN_2D, 32, 16, frames=1, stride=stride, gated=False).double().eval()
    randomise(block, seed=7)
    maps = torch.randn(2, 32, 6, 8, dtype=torch.float64)
    with torch.no_grad():
        found, wanted = block(maps), garden_block_by_hand(block, maps, stride=stride)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "mistake",
    [{"activation": "relu"}, {"padding": "symmetric"}, {"shortcut": "average_pool"}],
    ids=str,
)
@pytest.mark.parametrize("size", [(64, 64), (45, 63)], ids=["even", "odd"])
def test_the_two_2d_networks_differ_in_each_of_three_things(mistake, size):
    garden = randomised(SHALLOW_GARDEN, seed=8)
    mixed = ResNetRS(replace(SHALLOW_GARDEN, **mistake), None).double().eval()
    mixed.load_state_dict(garden.state_dict())
    pictures = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        assert (garden(pictures) - mixed(pictures)).abs().max() > 1e-3


def test_strided_convolutions_of_the_model_garden_pad_behind():
    module = on_meta(GARDEN_2D, None)
    strided = [
        part
        for part in module.modules()
        if isinstance(part, torch.nn.Conv2d) and part.stride == (2, 2)
    ]
    # Two in the stem, and the middle one of the first block of c3, c4 and c5.
    assert len(strided) == 5
    assert {type(part) for part in strided} == {SameConvolution2d}
    assert strided[-1] is module.layer4[0].conv2


def test_neither_2d_network_takes_the_others_file():
    paper, garden = ResNetRS(SHALLOW_2D, None), ResNetRS(SHALLOW_GARDEN, None)
    assert paper.state_dict().keys() ^ garden.state_dict().keys() == {"model_garden"}
    with pytest.raises(WeightsError, match=r"missing from the file \(model_garden"):
        load_into(garden, paper.state_dict(), name="paper's")
    with pytest.raises(WeightsError, match=r"not in the network \(model_garden"):
        load_into(paper, garden.state_dict(), name="garden's")
    load_into(garden, ResNetRS(SHALLOW_GARDEN, None).state_dict(), name="its own")


def test_the_mark_of_the_model_garden_changes_nothing():
    torch.manual_seed(0)
    marked = ResNetRS(SHALLOW_GARDEN, 10).eval()
    torch.manual_seed(0)
    plain = ResNetRS(replace(SHALLOW_GARDEN, mark=""), 10).eval()
    assert count(marked) == count(plain)
    assert numeric_digest(marked, (1, 3, 32, 32)) == numeric_digest(plain, (1, 3, 32, 32))
    assert state_digest(marked) != state_digest(plain)
    halved = marked.half()
    assert halved.model_garden.dtype == torch.uint8
    assert halved.model_garden.item() == 1


# ---------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (
            "resnet_rs_50+squeeze_ratio=.125+width=0.50",
            "resnet_rs_50+width=0.5+squeeze_ratio=0.125",
        ),
        ("resnet_rs_50+width=1+dropout=0", "resnet_rs_50"),
        ("resnet_rs_50+depth=101", "resnet_rs_101"),
        ("resnet_rs_420+blocks=3-4-23-3", "resnet_rs_101"),
        ("resnet_rs_101+blocks=2-2-2-2", "resnet_rs_50+blocks=2-2-2-2"),
        ("resnet_rs_garden_50+depth=152+dropout=0.25", "resnet_rs_garden_152+dropout=0.25"),
        ("resnet_rs_3d_50+self_gating=true+stem_pool_stride=1", "resnet_rs_3d_50"),
        (
            "resnet_rs_3d_50+stage_frames=3-3-3-3+self_gating=false+stem_pool_stride=2",
            "resnet_rs_3d_50+self_gating=false+stem_pool_stride=2+stage_frames=3-3-3-3",
        ),
    ],
)
def test_a_network_has_one_name_however_it_was_asked_for(typed, name):
    spec = find_backbone(typed).spec
    assert spec.name == name
    assert find_backbone(name).spec.num_parameters == spec.num_parameters
    assert find_backbone(name).spec.input == spec.input


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Counted in the Model Garden code, 400 classes.
        ("resnet_rs_3d_50+self_gating=false", 42_555_440),
        ("resnet_rs_3d_50+squeeze_ratio=0.2", 46_097_972),
        # What does not move the shapes does not move the count.
        ("resnet_rs_3d_50+stem_pool_stride=2", 48_129_840),
        ("resnet_rs_420+dropout=0.4+stochastic_depth=0.1", 191_891_656),
    ],
)
def test_a_varied_network_declares_its_exact_count(name, parameters):
    spec = find_backbone(name).spec
    with torch.device("meta"):
        module = spec.build(spec.parameters_with_classes)
    assert spec.num_parameters == count(module) == parameters


def test_without_gates_and_squeezing_it_is_the_baseline_but_for_its_stem():
    module = on_meta(replace(GARDEN_3D, self_gating=False, squeeze_ratio=0.0), None)
    stem = count(module.conv1) + count(module.bn1)
    # By hand: the baseline's 5x7x7 convolution 3->64 and its BatchNorm. Its R3D-50 has 31,672,128
    # parameters (tensorflow/models, official/projects/video_ssl/README.md: 31.7M).
    assert count(module) - stem + 5 * 49 * 3 * 64 + 2 * 64 == 31_672_128


def test_widths_are_cut_off_as_the_official_code_does():
    # resnet.py: int(spec[1] * depth_multiplier), and int(32 * ...) in the stem; SE int(ratio * 4w).
    spec = find_backbone("resnet_rs_50+width=0.33").spec
    with torch.device("meta"):
        module = spec.build(None)
    assert [module.conv1[0].out_channels, module.bn1.num_features] == [10, 21]
    found = [getattr(module, f"layer{number}")[0].conv1.out_channels for number in (1, 2, 3, 4)]
    assert found == [21, 42, 84, 168]
    assert module.layer1[0].se.fc1.out_channels == 21
    assert spec.feature_width == 4 * 168
    assert module.eval()(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 4 * 168)


def test_a_strided_stem_pool_halves_the_frames_again():
    with torch.device("meta"):
        module = find_backbone("resnet_rs_3d_50+stem_pool_stride=2").spec.build(None)
    # resnet_3d.py: kernel 3 in time where the pool strides in time, else 1.
    assert module.maxpool.kernel_size == (3, 3, 3)
    maps = module.eval().stage_maps(torch.empty(1, 3, 32, 64, 64, device="meta"))
    assert maps["c2"].shape[2:] == (8, 16, 16)


def test_weights_stay_known_where_only_training_differs():
    plain = find_backbone("resnet_rs_50").spec
    dropped = find_backbone("resnet_rs_50+dropout=0.25+stochastic_depth=0.1").spec
    assert [each.name for each in dropped.weights] == [each.name for each in plain.weights] != []
    assert find_backbone("resnet_rs_50+width=0.5").spec.weights == ()
    assert find_backbone("resnet_rs_50+squeeze_ratio=0").spec.weights == ()
    # Weights that choose a sibling choose the one with the same options.
    assert {each.network for each in plain.weights} == {None, "resnet_rs_garden_50"}
    siblings = [
        (each.network, varied.network)
        for each, varied in zip(plain.weights, dropped.weights, strict=True)
    ]
    for sibling, varied in siblings:
        assert varied == (sibling and f"{sibling}+stochastic_depth=0.1+dropout=0.25")


def test_options_of_training_reach_the_network():
    module = find_backbone(
        "resnet_rs_50+blocks=1-1-1-1+dropout=0.25+stochastic_depth=0.1"
    ).spec.build(3)
    assert module.head_dropout == module.head.dropout == 0.25
    found = [getattr(module, f"layer{number}")[0].skip_probability for number in (1, 2, 3, 4)]
    assert found == pytest.approx([0.04, 0.06, 0.08, 0.1])


@pytest.mark.parametrize(
    ("name", "flat"),
    [
        *(
            (f"resnet_rs_3d_{depth}", f"resnet_rs_{depth}")
            for depth in (50, 101, 152, 200, 270, 300, 350)
        ),
        ("resnet_rs_3d_50+width=0.5+self_gating=false", "resnet_rs_50+width=0.5"),
        ("resnet_rs_3d_50+dropout=0.5", "resnet_rs_50"),
    ],
)
def test_a_3d_network_is_inflated_from_the_2d_one_of_its_size(name, flat):
    found = find_backbone(name).spec.flat
    assert found is not None
    assert found.name == flat
    assert find_backbone(flat).spec.num_parameters == found.num_parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_rs_50+widht=0.5", "no option 'widht'. Did you mean width?"),
        ("resnet_rs_50+pixels=160", "its input is written resnet_rs_50@PIXELS"),
        ("resnet_rs_50+self_gating=false", "no option 'self_gating'"),
        ("resnet_rs_50+width=wide", "must be a number from 0.0625 to 8; it was 'wide'"),
        ("resnet_rs_50+width=nan", "must be a number from 0.0625 to 8; it was 'nan'"),
        ("resnet_rs_50+squeeze_ratio=1.5", "must be a number from 0 to 1; it was '1.5'"),
        ("resnet_rs_50+dropout=1", "must be a number from 0 to 0.9; it was '1'"),
        ("resnet_rs_50+stochastic_depth=-0.1", "must be a number from 0 to 0.9"),
        ("resnet_rs_50+blocks=3-4-6", "must be four whole numbers from 1 to 200 such as 3-4-6-3"),
        ("resnet_rs_50+blocks=3-4-0-3", "must be four whole numbers from 1 to 200"),
        ("resnet_rs_50+depth=26", "must be one of 50, 101, 152, 200, 270, 300, 350, 400, 420"),
        ("resnet_rs_3d_50+depth=420", "must be one of 50, 101, 152, 200, 270, 300, 350; it was"),
        ("resnet_rs_50+depth=101+blocks=1-1-1-1", "depth or blocks, not both"),
        ("resnet_rs_3d_50+self_gating=no", "must be true or false; it was 'no'"),
        ("resnet_rs_3d_50+stage_frames=1-1-2-3", "must be four odd numbers from 1 to 9"),
        ("resnet_rs_3d_50+stem_pool_stride=3", "must be 1 or 2; it was '3'"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(name, message):
    with pytest.raises(RsbenchError) as caught:
        find_backbone(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------- initialisation and training


@pytest.mark.parametrize(
    "architecture", [SHALLOW_2D, SHALLOW_GARDEN, SHALLOW_3D], ids=["2d", "garden", "3d"]
)
def test_kernels_start_with_variance_one_over_fan_in_cut_at_two_deviations(architecture):
    # tf.variance_scaling_initializer(): scale 1, fan_in, truncated normal.
    torch.manual_seed(0)
    block = ResNetRS(architecture, 10).layer4[0]
    for weight in (block.conv1.weight, block.conv2.weight, block.conv3.weight, block.se.fc1.weight):
        deviation = 1 / math.sqrt(weight[0].numel())
        assert weight.std().item() == pytest.approx(deviation, rel=0.01)
        assert weight.abs().max().item() <= 2 * deviation / 0.8796 * 1.001
    assert not block.se.fc1.bias.any()


def test_residual_branches_start_at_zero_in_the_paper_only():
    # TPU code: init_zero=True in bottleneck_block; the Model Garden's blocks have no such thing.
    torch.manual_seed(0)
    assert not ResNetRS(SHALLOW_2D, None).layer1[0].bn3.weight.any()
    assert ResNetRS(SHALLOW_GARDEN, None).layer1[0].bn3.weight.eq(1).all()
    assert ResNetRS(SHALLOW_3D, None).layer1[0].bn3.weight.eq(1).all()


def test_heads_and_gates_start_as_in_the_official_code():
    torch.manual_seed(0)
    # tf.random_normal_initializer(stddev=.01); Keras "random_uniform" is +-0.05; the gate's is
    # TruncatedNormal(0.01), whose cut leaves 0.88 of the deviation.
    image, video = ResNetRS(SHALLOW_2D, 100), ResNetRS(SHALLOW_3D, 100)
    garden = ResNetRS(SHALLOW_GARDEN, 100)
    assert image.head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    for uniform in (garden, video):
        assert uniform.head.weight.abs().max().item() == pytest.approx(0.05, rel=0.01)
        assert uniform.head.weight.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.01)
    gate = video.layer4[0].gate.fc
    assert gate.weight.std().item() == pytest.approx(0.0088, rel=0.01)
    assert gate.weight.abs().max().item() <= 0.02 * 1.001
    assert not any(part.bias.any() for part in (image.head, garden.head, video.head, gate))


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
        branch = block.conv3(F.relu(block.conv2(F.relu(block.conv1(maps)))))
        # BatchNorms are at their start, where they divide by sqrt(1 + 1e-5).
        branch = branch * block.se(branch.mean((2, 3), keepdim=True))
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
        (SHALLOW_GARDEN, (33, 32), torch.channels_last),
        (SHALLOW_3D, (4, 33, 32), torch.channels_last_3d),
    ],
    ids=["2d", "garden", "3d"],
)
def test_the_memory_layout_does_not_change_the_features(architecture, size, layout):
    module = randomised(architecture, seed=6).float()
    batch = torch.randn(2, 3, *size)
    with torch.inference_mode():
        plain = module(batch)
        other = module.to(memory_format=layout)(batch.to(memory_format=layout))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4)


NARROW = {"blocks": (1, 1, 1, 1), "width": 0.25}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        (replace(PAPER_2D, **NARROW), (33, 32)),
        (replace(GARDEN_2D, **NARROW), (33, 32)),
        (replace(GARDEN_3D, **NARROW), (4, 33, 32)),
    ],
    ids=["2d", "garden", "3d"],
)
def test_torch_compile_sees_one_graph(architecture, size, mode):
    torch.compiler.reset()
    module = randomised(architecture, seed=6).train(mode == "train")
    batch = torch.randn(2, 3, *size, dtype=torch.float64)
    # fullgraph: a graph break is an error.
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.set_grad_enabled(mode == "train"):
        torch.testing.assert_close(compiled(batch), module(batch))
    if mode == "train":
        compiled(batch).sum().backward()
        assert module.conv1[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("architecture", [SHALLOW_2D, SHALLOW_3D], ids=["2d", "3d"])
def test_gradients_being_off_does_not_change_the_features(architecture):
    # Without them the branch is scaled in place.
    module = randomised(architecture, seed=9)
    frames = (4,) if architecture.dimensions == 3 else ()
    batch = torch.randn(2, 3, *frames, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        found = module(batch)
    assert torch.equal(found, module(batch))


def test_torch_compile_follows_skipped_blocks_and_dropped_features():
    torch.compiler.reset()
    module = ResNetRS(replace(PAPER_2D, **NARROW, stochastic_depth=0.5, head_dropout=0.5), 3)

    def logits(batch):
        return module.head(module(batch))

    compiled = torch.compile(logits, backend="aot_eager", fullgraph=True)
    assert compiled(torch.randn(4, 3, 32, 32)).shape == (4, 3)
