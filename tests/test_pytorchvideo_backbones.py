"""pytorchvideo's networks: declared as its zoo has them, and computing what its own code does.

Second sources: the zoo's table (docs/source/model_zoo.md of facebookresearch/pytorchvideo, copied
below), the docstrings and file addresses of the hub functions, and the library's own forward of the
same parameters.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import pytest
import torch
from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler
from pytorchvideo.models import hub
from pytorchvideo.models.csn import create_csn
from pytorchvideo.models.r2plus1d import create_r2plus1d
from pytorchvideo.models.resnet import create_resnet
from pytorchvideo.models.slowfast import create_slowfast
from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers
from pytorchvideo.models.x3d import create_x3d
from rsbench_backbones._library_modules import InputSizeError, LibraryNetwork, adapt
from rsbench_backbones._pytorchvideo_modules import MViT, OnePathway, SlowFast
from rsbench_backbones.pytorchvideo import BACKBONES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rsbench.media.sampling import sample_clips
from rsbench.registry import find_backbone
from rsbench.specs import Backbone, ClipSpec

# Read now: no test sees the user's RSBENCH_ variables.
SOAK = "RSBENCH_SOAK" in os.environ
BY_NAME = {backbone.name.removeprefix("pytorchvideo/"): backbone for backbone in BACKBONES}


class Line(NamedTuple):
    """A line of the zoo: clip, top-1, top-5, operations x crops x clips, million parameters."""

    clip: str
    top1: float
    top5: float
    cost: str
    million_parameters: float


# Kinetics-400 in docs/source/model_zoo.md, with the hub function of each file.
ZOO = {
    "c2d_r50": Line("8x8", 71.46, 89.68, "25.89 x 3 x 10", 24.33),
    "i3d_r50": Line("8x8", 73.27, 90.70, "37.53 x 3 x 10", 28.04),
    "slow_r50": Line("8x8", 74.58, 91.63, "54.52 x 3 x 10", 32.45),
    "slowfast_r50": Line("8x8", 76.94, 92.69, "65.71 x 3 x 10", 34.57),
    "slowfast_r101": Line("8x8", 77.90, 93.27, "127.20 x 3 x 10", 62.83),
    "slowfast_16x8_r101_50_50": Line("16x8", 78.70, 93.61, "215.61 x 3 x 10", 53.77),
    "csn_r101": Line("32x2", 77.00, 92.90, "75.62 x 3 x 10", 22.21),
    "r2plus1d_r50": Line("16x4", 76.01, 92.23, "76.45 x 3 x 10", 28.11),
    "x3d_xs": Line("4x12", 69.12, 88.63, "0.91 x 3 x 10", 3.79),
    "x3d_s": Line("13x6", 73.33, 91.27, "2.96 x 3 x 10", 3.79),
    "x3d_m": Line("16x5", 75.94, 92.72, "6.72 x 3 x 10", 3.79),
    "x3d_l": Line("16x5", 77.44, 93.31, "26.64 x 3 x 10", 6.15),
    "mvit_base_16x4": Line("16x4", 78.85, 93.85, "70.80 x 1 x 5", 36.61),
    "mvit_base_32x3": Line("32x3", 80.30, 94.69, "170.37 x 1 x 5", 36.61),
}

# TRAIN_CROP_SIZE, then the test's short side (TRAIN_JITTER_SCALES[0]) and TEST_CROP_SIZE, of
# configs/Kinetics/pytorchvideo in PySlowFast; every other network has 224, 256, 256.
CROPS = {
    "x3d_xs": (160, 182, 182),
    "x3d_s": (160, 182, 182),
    "x3d_l": (312, 356, 356),
    "mvit_base_16x4": (224, 256, 224),
    "mvit_base_32x3": (224, 256, 224),
}

# Where the docstring was written before the zoo's last measurement, or rounds.
OTHER_DOCSTRINGS = {"slowfast_r50": 76.4, "mvit_base_16x4": 78.9, "mvit_base_32x3": 80.3}


# ------------------------------------------------------------------------------------ as declared


def test_the_networks_are_the_hubs_for_classifying_clips():
    functions = {name for name, value in vars(hub).items() if inspect.isfunction(value)}
    left_out = {
        *("slow_r50_detection", "slowfast_r50_detection"),
        *("efficient_x3d_s", "efficient_x3d_xs", "mvit_base_16"),
    }

    assert {*BY_NAME} == functions - left_out == {*ZOO}
    assert find_backbone("pytorchvideo/x3d_xs").spec is BY_NAME["x3d_xs"]


@pytest.mark.parametrize("name", ZOO)
def test_scores_clips_and_views_are_the_zoos(name: str):
    backbone, line = BY_NAME[name], ZOO[name]
    (weights,) = backbone.weights
    frames, stride = (int(each) for each in line.clip.split("x"))
    # The zoo speaks of the slow pathway; the fast one has four times the frames.
    alpha = 4 if name.startswith("slowfast") else 1
    _, crops, clips = line.cost.split(" x ")

    assert dict(weights.published) == {"kinetics400/top1": line.top1, "kinetics400/top5": line.top5}
    assert (weights.input.frames, weights.input.stride) == (frames * alpha, stride // alpha)
    assert (backbone.input.frames, backbone.input.stride) == (frames * alpha, stride // alpha)
    assert weights.views is not None
    assert (weights.views.clips, weights.views.crops) == (int(clips), int(crops))
    assert round(backbone.num_parameters / 1e6, 2) == line.million_parameters
    assert weights.trained_on == ("kinetics400",)
    assert (weights.num_classes, weights.format, weights.sha256) == (400, "torch", None)


@pytest.mark.parametrize("name", ZOO)
def test_the_file_and_the_score_are_the_hub_functions(name: str):
    function = getattr(hub, name)
    (weights,) = BY_NAME[name].weights
    said = re.search(r"top1\s+accuracy of (\d+\.\d+)", inspect.getdoc(function) or "")

    assert weights.url == sys.modules[function.__module__].checkpoint_paths[name]
    assert said is not None
    expected = OTHER_DOCSTRINGS.get(name, weights.published["kinetics400/top1"])
    assert float(said[1]) == expected


@pytest.mark.parametrize("name", ZOO)
def test_crops_are_those_of_the_configurations(name: str):
    backbone = BY_NAME[name]
    (weights,) = backbone.weights
    train, short_side, test = CROPS.get(name, (224, 256, 256))

    assert (backbone.input.pixels, backbone.input.crop_ratio) == (train, 1.0)
    assert weights.input.pixels == test
    assert round(test / weights.input.crop_ratio) == short_side
    for given in (backbone.input, weights.input):
        # https://pytorch.org/hub/facebookresearch_pytorchvideo_resnet
        assert (given.mean, given.std) == ((0.45,) * 3, (0.225,) * 3)
        assert (given.interpolation, given.antialias) == ("bilinear", False)
        assert (given.resizer, given.resize_to) == ("torchvision", None)


@pytest.mark.parametrize("fps", [15, 24, 25, Fraction(30_000, 1001), 30])
@pytest.mark.parametrize("name", ["slow_r50", "slowfast_r50", "x3d_m", "mvit_base_32x3"])
def test_clips_are_those_of_the_librarys_sampler_to_a_frame(name: str, fps: Fraction):
    (weights,) = BY_NAME[name].weights
    frames, stride = weights.input.frames, weights.input.stride
    assert weights.views is not None
    assert weights.sampler is not None
    num_frames = 300
    theirs = ConstantClipsPerVideoSampler(Fraction(frames * stride, 30), weights.views.clips)
    clips = [theirs(0, num_frames / Fraction(fps), {}) for _ in range(weights.views.clips)]
    inside = [
        [
            k
            for k in range(num_frames)
            if clip.clip_start_sec <= k / Fraction(fps) < clip.clip_end_sec
        ]
        for clip in clips
    ]
    # UniformTemporalSubsample; its module does not import beside this torchvision.
    expected = [
        [each[place] for place in torch.linspace(0, len(each) - 1, frames).long().tolist()]
        for each in inside
    ]
    ours = sample_clips(
        weights.sampler,
        num_frames=num_frames,
        clip=ClipSpec(frames=frames, stride=stride),
        num_clips=weights.views.clips,
        fps=float(fps),
    )

    assert abs(ours - expected).max() <= 1


# --------------------------------------------------------------------------------------- as built


def on_meta(backbone: Backbone, num_classes: int | None):
    with torch.device("meta"):
        return backbone.build(num_classes).eval()


@pytest.mark.parametrize("name", ZOO)
def test_the_zoos_operations_come_out_at_the_test_crop(name: str):
    """Multiply-adds, and 5 for each normalised element: fvcore's count at that time.

    Slow-R50 and SlowFast-R50 were counted without the latter. The library classifies at each
    position of its head and then averages; ours averages first, and classifies once.
    """
    (weights,) = BY_NAME[name].weights
    shape = (1, 3, weights.input.frames, weights.input.pixels, weights.input.pixels)
    module = on_meta(BY_NAME[name], 400)
    normalised, positions = [], [1]
    for part in module.modules():
        if isinstance(part, nn.BatchNorm3d | nn.LayerNorm):
            part.register_forward_hook(lambda *seen: normalised.append(seen[2].numel()))
        if isinstance(part, nn.AvgPool3d):
            part.register_forward_hook(lambda *seen: positions.append(seen[2][0, 0].numel()))

    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        features = module(torch.empty(shape))
        logits = module.head(features)

    assert features.shape == (1, BY_NAME[name].feature_width)
    assert logits.shape == (1, 400)
    operations = counter.get_total_flops() // 2
    operations += (positions[-1] - 1) * 400 * BY_NAME[name].feature_width
    if name not in ("slow_r50", "slowfast_r50"):
        operations += 5 * sum(normalised)
    counted = f"{operations / 1e9:.2f}"
    assert counted == ZOO[name].cost.split(" x ")[0]
    assert f"{float(counted):g} billion" in weights.published_conditions


@pytest.mark.parametrize("name", ZOO if SOAK else ["slow_r50", "slowfast_r50", "x3d_s"])
def test_the_names_in_files_are_the_librarys(name: str):
    with torch.device("meta"):
        library = getattr(hub, name)(pretrained=False, model_num_class=7)
    expected = {key: value.shape for key, value in library.state_dict().items()}
    with_head, without = on_meta(BY_NAME[name], 7), on_meta(BY_NAME[name], None)
    prefix = with_head._classifier_name() + "."
    trunk = {key: shape for key, shape in expected.items() if not key.startswith(prefix)}

    assert {key: value.shape for key, value in with_head.state_dict().items()} == expected
    assert {key: value.shape for key, value in without.state_dict().items()} == trunk
    assert without.head is None
    assert len(expected) - len(trunk) == 2


def test_the_random_start_is_the_librarys():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = BY_NAME["x3d_xs"].build(5)
        torch.manual_seed(3)
        library = hub.x3d_xs(pretrained=False, model_num_class=5)

    expected = library.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())


def test_what_today_s_torchvision_lacks_is_not_asked_for():
    # pytorchvideo.transforms imports torchvision.transforms.functional_tensor, gone since 0.17.
    assert "pytorchvideo.transforms" not in sys.modules


@pytest.mark.parametrize(
    ("name", "sides", "widths"),
    [
        ("slow_r50", (56, 28, 14, 7), (256, 512, 1024, 2048)),
        ("i3d_r50", (56, 28, 14, 7), (256, 512, 1024, 2048)),
        ("csn_r101", (56, 28, 14, 7), (256, 512, 1024, 2048)),
        ("r2plus1d_r50", (56, 28, 14, 7), (256, 512, 1024, 2048)),
        # X3D, table 1: widths of res2 to res5.
        ("x3d_m", (56, 28, 14, 7), (24, 48, 96, 192)),
    ],
)
def test_the_stage_maps_have_the_papers_sizes(name, sides, widths):
    backbone = BY_NAME[name]
    shape = (1, 3, backbone.input.frames, backbone.input.pixels, backbone.input.pixels)

    with torch.device("meta"), torch.inference_mode():
        maps = on_meta(backbone, None).stage_maps(torch.empty(shape))

    assert list(maps) == ["c2", "c3", "c4", "c5"]
    assert tuple(each.shape[-1] for each in maps.values()) == sides
    assert tuple(each.shape[1] for each in maps.values()) == widths


# -------------------------------------------------------------------------------------- as it runs

NUM_CLASSES = 5

# Each builder as small as it can be: what makes the library's network, and a clip that its head
# has one position for.
SMALL: dict[str, tuple[Callable[[], nn.Module], type[LibraryNetwork], tuple[int, ...]]] = {
    "resnet": (
        lambda: create_resnet(
            stem_dim_out=8, head_pool_kernel_size=(4, 2, 2), model_num_class=NUM_CLASSES
        ),
        OnePathway,
        (4, 64, 64),
    ),
    "csn": (
        lambda: create_csn(
            stem_dim_out=8,
            stem_pool=nn.MaxPool3d,
            head_pool_kernel_size=(1, 2, 2),
            model_num_class=NUM_CLASSES,
        ),
        OnePathway,
        (8, 64, 64),
    ),
    "r2plus1d": (
        lambda: create_r2plus1d(
            stem_dim_out=8, head_pool_kernel_size=(1, 2, 2), model_num_class=NUM_CLASSES
        ),
        OnePathway,
        (4, 64, 64),
    ),
    "x3d": (
        lambda: create_x3d(input_clip_length=4, input_crop_size=64, model_num_class=NUM_CLASSES),
        OnePathway,
        (4, 64, 64),
    ),
    "slowfast": (
        lambda: create_slowfast(
            model_depth=18,
            stem_dim_outs=(16, 2),
            head_pool_kernel_sizes=((4, 2, 2), (16, 2, 2)),
            model_num_class=NUM_CLASSES,
        ),
        SlowFast,
        (16, 64, 64),
    ),
    "mvit": (
        lambda: create_multiscale_vision_transformers(
            spatial_size=32,
            temporal_size=4,
            depth=4,
            patch_embed_dim=8,
            embed_dim_mul=[[1, 2.0], [3, 2.0]],
            atten_head_mul=[[1, 2.0], [3, 2.0]],
            pool_q_stride_size=[[1, 1, 2, 2], [3, 1, 2, 2]],
            pool_kv_stride_adaptive=[1, 4, 4],
            pool_kvq_kernel=[3, 3, 3],
            head_num_classes=NUM_CLASSES,
        ),
        MViT,
        (4, 32, 32),
    ),
}
CONVOLUTIONAL = [family for family in SMALL if family != "mvit"]
GIVES_PROBABILITIES = ("r2plus1d", "x3d")


def randomise(network: nn.Module) -> None:
    """Give every parameter and running statistic a value that moves the outputs."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(noise.abs() + 0.5)
        elif value.dim() == 1:
            value.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
        else:
            value.copy_(noise * (2 / max(value[0].numel(), 1)) ** 0.5)


@functools.cache
def both(family: str) -> tuple[nn.Module, LibraryNetwork, torch.Tensor]:
    """The library's network, ours of the same parameters, and a batch of two clips."""
    make, kind, size = SMALL[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        library, ours = make().eval(), make()
        batch = torch.randn(2, 3, *size)
    randomise(library)
    adapted = adapt(ours, kind, NUM_CLASSES).eval()
    adapted.load_state_dict(library.state_dict())
    return library, adapted, batch


def library_logits(family: str, batch: torch.Tensor) -> torch.Tensor:
    """The library's own output, the softmax of some heads left out."""
    library = both(family)[0]
    head = library.head if family == "mvit" else library.blocks[-1]
    if family == "slowfast":
        # By hand from PySlowFast's rule for 16 frames: 0, 5, 10, 15.
        assert batch.shape[2] == 16
        batch = [batch[:, :, ::5], batch]
    activation, head.activation = head.activation, None
    try:
        return library(batch)
    finally:
        head.activation = activation


@pytest.mark.parametrize("family", SMALL)
@torch.inference_mode()
def test_logits_are_those_of_the_librarys_own_forward(family: str):
    library, ours, batch = both(family)

    logits = ours.head(ours(batch))

    expected = library_logits(family, batch)
    assert logits.shape == expected.shape == (2, NUM_CLASSES)
    assert expected.std() > 1e-2
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
    if family in GIVES_PROBABILITIES:
        torch.testing.assert_close(logits.softmax(1), library(batch), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", SMALL)
@torch.inference_mode()
def test_features_are_what_the_library_classifies(family: str):
    library, ours, batch = both(family)
    projection = (library.head if family == "mvit" else library.blocks[-1]).proj
    seen: list[torch.Tensor] = []
    with projection.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
        library_logits(family, batch)

    features = ours(batch)

    # Convolutional heads classify channels-last maps of one position here.
    assert torch.equal(features, seen[0].reshape(features.shape))


@pytest.mark.parametrize("family", CONVOLUTIONAL)
@torch.inference_mode()
def test_a_larger_crop_gives_the_librarys_average_over_positions(family: str):
    _, ours, batch = both(family)
    larger = torch.cat([batch, batch.flip(-1)], dim=-1)

    logits = ours.head(ours(larger))

    expected = library_logits(family, larger)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits, library_logits(family, batch), atol=1e-3)


@pytest.mark.parametrize("family", CONVOLUTIONAL)
@torch.inference_mode()
def test_a_smaller_clip_is_averaged_whole(family: str):
    _, ours, batch = both(family)
    smaller = batch[:, :, : batch.shape[2] // 2, :32, :32]
    last = [each for name, each in ours.stage_maps(smaller).items() if name.endswith("c5")]

    features = ours(smaller)

    if family == "x3d":
        # Its head has convolutions before and after the average.
        pool = ours.blocks[-1].pool
        maps = pool.pre_act(pool.pre_norm(pool.pre_conv(last[0])))
        expected = pool.post_act(pool.post_conv(maps.mean((2, 3, 4), keepdim=True))).flatten(1)
    else:
        # SlowFast lists the fast pathway first and classifies the slow one first.
        expected = torch.cat([each.mean((2, 3, 4)) for each in reversed(last)], dim=1)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", SMALL)
@torch.inference_mode()
def test_stage_maps_are_maps_of_every_clip(family: str):
    _, ours, batch = both(family)

    maps = ours.stage_maps(batch)

    sides = [each.shape[-1] for each in maps.values()]
    assert sides == sorted(sides, reverse=True)
    assert all(each.dim() == 5 and len(each) == 2 for each in maps.values())
    for name, each in ours.stage_maps(batch[1:]).items():
        torch.testing.assert_close(each, maps[name][1:], rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_the_maps_of_mvit_are_its_blocks_laid_out_row_by_row():
    library, ours, batch = both("mvit")
    outputs = []
    handles = [
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
        for block in library.blocks
    ]
    library(batch)
    for handle in handles:
        handle.remove()

    maps = ours.stage_maps(batch)

    assert list(maps) == ["block0", "block1", "block2", "block3"]
    for mapped, tokens in zip(maps.values(), outputs, strict=True):
        assert torch.equal(mapped.flatten(2).transpose(1, 2), tokens[:, 1:])
        assert torch.equal(mapped[:, :, 0, 1, 0], tokens[:, 1 + mapped.shape[-1]])


@torch.inference_mode()
def test_both_pathways_hand_on_maps_and_the_slow_one_takes_in_the_fast():
    _, ours, batch = both("slowfast")

    maps = ours.stage_maps(batch)

    assert [*maps] == [f"{way}_c{level}" for level in (2, 3, 4, 5) for way in ("fast", "slow")]
    assert all(each.shape[2] == (16 if "fast" in name else 4) for name, each in maps.items())
    # Widths of stem 16: slow 64 and twice the fast 8 up to c4, then 512 alone.
    assert [maps[f"slow_c{level}"].shape[1] for level in (2, 3, 4, 5)] == [80, 160, 320, 512]
    pooled = [maps[name].mean((2, 3, 4)) for name in ("slow_c5", "fast_c5")]
    torch.testing.assert_close(torch.cat(pooled, dim=1), ours(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        # linspace(0, T - 1, T // 4), cut to whole frames: steps of 31 / 7 and of 7.
        (32, [0, 4, 8, 13, 17, 22, 26, 31]),
        (8, [0, 7]),
        (4, [0]),
    ],
)
def test_the_slow_pathway_sees_the_frames_that_pyslowfast_packs(num_frames, expected):
    module = on_meta(BY_NAME["slowfast_r50"], None)
    clip = torch.arange(num_frames).view(1, 1, -1, 1, 1).expand(1, 3, -1, 2, 2).float()

    slow, fast = module._pathways(clip)

    assert slow[0, 0, :, 0, 0].tolist() == expected
    assert torch.equal(fast, clip)


@pytest.mark.parametrize("num_frames", [6, 20])
def test_a_slowfast_says_which_clips_it_takes(num_frames):
    _, ours, _ = both("slowfast")

    with pytest.raises(InputSizeError) as refused:
        ours(torch.zeros(1, 3, num_frames, 64, 64))

    assert str(refused.value) == (
        f"SlowFast takes a multiple of 4 frames up to 16, and the input has {num_frames}: say"
        " --frames 16"
    )


def test_an_mvit_says_which_clips_it_takes():
    _, ours, _ = both("mvit")

    with pytest.raises(InputSizeError) as refused:
        ours(torch.zeros(1, 3, 8, 16, 16))

    assert str(refused.value) == (
        "its position embeddings are for 4 frames of 32 x 32 pixels and the input has 8 frames of"
        " 16 x 16 pixels: say --frames 4 --pixels 32"
    )


@pytest.mark.parametrize("family", SMALL)
def test_the_classifier_can_be_taken_out_and_replaced(family: str):
    _, ours, batch = both(family)
    module = copy.deepcopy(ours)
    prefix = module._classifier_name() + "."
    assert type(module) is type(ours)
    assert module.head is not ours.head

    module.head = None
    assert module.head is None
    assert not [name for name in module.state_dict() if name.startswith(prefix)]
    with torch.inference_mode():
        assert torch.equal(module(batch), ours(batch))

    module.head = nn.Linear(3, 2)
    assert {f"{prefix}weight", f"{prefix}bias"} <= {*module.state_dict()}
    assert isinstance(ours.head, nn.Linear)
