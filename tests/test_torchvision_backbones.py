"""torchvision's networks and weights: what is declared is torchvision's own, and so are outputs.

torchvision is the second source throughout: its metadata for what is declared, its own forward of
the same parameters for what is computed.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable

import pytest
import torch
from command_line import rsbench, write_pictures
from rsbench_backbones._library_modules import InputSizeError, LibraryNetwork, adapt
from rsbench_backbones._torchvision_modules import (
    S3D,
    ConvNeXt,
    EfficientNet,
    MViT,
    PointwiseClassifier,
    ResNet,
    SwinTransformer,
    SwinTransformer3d,
    VideoResNet,
    VisionTransformer,
    build_network,
)
from rsbench_backbones.torchvision import BACKBONES, VITS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.datasets.video_utils import VideoClips
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.video import resnet as library_video
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.models.video.mvit import MViT as LibraryMViT
from torchvision.models.video.s3d import S3D as LibraryS3D
from torchvision.models.video.swin_transformer import SwinTransformer3d as LibrarySwin3d
from torchvision.transforms._presets import VideoClassification

from rsbench.media.sampling import sample_clips
from rsbench.registry import find_backbone
from rsbench.specs import Backbone, ClipSpec, Weights
from rsbench.weights.fitting import read_tensors
from rsbench.weights.state import load_into

# Read now: no test sees the user's RSBENCH_ variables.
SOAK = "RSBENCH_SOAK" in os.environ
BY_NAME = {backbone.name: backbone for backbone in BACKBONES}
SMALLEST = list({backbone.citation: backbone for backbone in reversed(BACKBONES)}.values())
"""The first network of each paper."""
LIGHT = [backbone for backbone in BACKBONES if backbone.num_parameters < 30_000_000]
PUBLISHED = [
    (backbone, weights)
    for backbone in BACKBONES
    for weights in backbone.weights
    if weights.network is None
]


def library_name(backbone: Backbone) -> str:
    name = backbone.name.removeprefix("torchvision/")
    return VITS[name][0] if name in VITS else name


def library_weights(backbone: Backbone, weights: Weights):
    return models.get_model_weights(library_name(backbone))[weights.name]


def ids(backbone: Backbone) -> str:
    return backbone.name


def published_ids(value: object) -> str:
    return value.name if isinstance(value, Backbone | Weights) else str(value)


# ------------------------------------------------------------------------------------ as declared


def test_the_networks_are_those_people_compare_with():
    wanted = {
        *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
        *("wide_resnet50_2", "resnext50_32x4d", "s3d", "mvit_v1_b", "mvit_v2_s"),
        *(f"efficientnet_b{size}" for size in range(8)),
        *(f"efficientnet_v2_{size}" for size in "sml"),
        *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
        *("vit_b_16", "vit_b_16_384", "vit_b_32", "vit_l_16", "vit_l_16_512"),
        *(f"{family}_{size}" for family in ("swin", "swin_v2", "swin3d") for size in "tsb"),
        *("r3d_18", "mc3_18", "r2plus1d_18"),
    }

    assert {backbone.name for backbone in BACKBONES} == {f"torchvision/{name}" for name in wanted}
    assert find_backbone("torchvision/r3d_18").spec is BY_NAME["torchvision/r3d_18"]


@pytest.mark.parametrize("name", sorted({library_name(backbone) for backbone in BACKBONES}))
def test_all_weights_of_a_network_are_declared(name: str):
    declared = [weights.name for weights in BY_NAME[f"torchvision/{name}"].weights]

    assert declared == [weights.name for weights in models.get_model_weights(name)]


@pytest.mark.parametrize(("backbone", "weights"), PUBLISHED, ids=published_ids)
def test_the_file_and_what_it_was_trained_on_are_torchvisions(backbone, weights):
    library = library_weights(backbone, weights)
    task = "kinetics400" if backbone.modality == "video" else "imagenet1k"

    assert weights.url == library.url
    assert weights.url.endswith(f"-{weights.sha256}.pth")
    assert weights.format == "torch"
    assert weights.size_bytes is None
    if backbone.modality == "video":
        assert list(weights.classes) == library.meta["categories"]
    assert (
        weights.num_classes
        == len(library.meta["categories"])
        == (1000 if task == "imagenet1k" else 400)
    )
    assert backbone.num_parameters == library.meta["num_params"]
    assert backbone.parameters_with_classes == weights.num_classes
    assert weights.trained_on[-1] == task
    assert ("SWAG" in weights.name) == (weights.trained_on[0] == "ig3.6b")
    assert ("IMAGENET22K" in weights.name) == (weights.trained_on[0] == "imagenet22k")


@pytest.mark.parametrize(("backbone", "weights"), PUBLISHED, ids=published_ids)
def test_the_licence_is_the_one_torchvision_names(backbone, weights):
    # Of the SWAG weights: https://github.com/facebookresearch/SWAG#license. Of others, nothing.
    named = library_weights(backbone, weights).meta.get("license")

    assert named in (None, "https://github.com/facebookresearch/SWAG/blob/main/LICENSE")
    assert weights.licence == ("" if named is None else "CC-BY-NC-4.0")


@pytest.mark.parametrize(("backbone", "weights"), PUBLISHED, ids=published_ids)
def test_the_scores_and_their_conditions_are_torchvisions(backbone, weights):
    meta = library_weights(backbone, weights).meta
    (metrics,) = meta["_metrics"].values()
    task = {"ImageNet-1K": "imagenet1k", "Kinetics-400": "kinetics400"}[
        next(iter(meta["_metrics"]))
    ]

    assert dict(weights.published) == {
        f"{task}/top1": metrics["acc@1"],
        f"{task}/top5": metrics["acc@5"],
    }
    if backbone.modality == "image":
        assert weights.views is None
        return
    said = dict(re.findall(r"`(\w+)=([\d.]+)`", meta["_docs"]))
    assert weights.input.frames == int(said["clip_len"])
    assert weights.input.stride == 30 / float(said["frame_rate"])
    assert weights.views is not None
    assert (weights.views.clips, weights.views.crops) == (int(said["clips_per_video"]), 1)
    assert f"{'clip' if 'clip-level' in meta['_docs'] else 'video'} level" in (
        weights.published_conditions
    )


@pytest.mark.parametrize(("backbone", "weights"), PUBLISHED, ids=published_ids)
def test_the_preprocessing_is_torchvisions(backbone, weights):
    library = library_weights(backbone, weights)
    transform, given = library.transforms(), weights.input
    is_video = isinstance(transform, VideoClassification)

    assert {*transform.crop_size} == {given.pixels}
    if len(transform.resize_size) == 2:
        assert given.resize_to == tuple(transform.resize_size)
    else:
        assert given.resize_to is None
        assert [round(given.pixels / given.crop_ratio)] == transform.resize_size
    assert given.interpolation == transform.interpolation.value
    assert given.antialias == (False if is_video else transform.antialias)
    assert given.mean == tuple(transform.mean)
    assert given.std == tuple(transform.std)
    assert given.resizer == "torchvision"
    if library_name(backbone) in ("vit_b_16", "vit_b_32", "vit_l_16", "mvit_v1_b", "mvit_v2_s"):
        # Position embeddings: no other size is possible.
        assert library.meta["min_size"] == (given.pixels, given.pixels)
    assert library.meta.get("min_temporal_size", 1) <= given.frames


def test_weights_of_another_size_name_their_network():
    for name, other in (("vit_b_16", "vit_b_16_384"), ("vit_l_16", "vit_l_16_512")):
        listed = {each.name: each.network for each in BY_NAME[f"torchvision/{name}"].weights}
        (own,) = BY_NAME[f"torchvision/{other}"].weights

        assert listed == {
            "IMAGENET1K_V1": None,
            "IMAGENET1K_SWAG_E2E_V1": f"torchvision/{other}",
            "IMAGENET1K_SWAG_LINEAR_V1": None,
        }
        assert (own.name, own.network) == ("IMAGENET1K_SWAG_E2E_V1", None)


@pytest.mark.parametrize("fps", [15.0, 24.0, 25.0, 30_000 / 1001, 30.0])
@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_clips_are_those_of_torchvisions_evaluation_to_two_strides(name: str, fps: float):
    (weights,) = BY_NAME[f"torchvision/{name}"].weights
    clip = ClipSpec(frames=weights.input.frames, stride=weights.input.stride)
    assert weights.views is not None
    assert weights.sampler is not None
    # references/video_classification/train.py: clips from every frame on, UniformClipSampler.
    every, _ = VideoClips.compute_clips_for_video(
        torch.arange(300), clip.frames, 1, fps, 30 / clip.stride
    )
    # The line of UniformClipSampler.__iter__.
    chosen = torch.linspace(0, len(every) - 1, steps=weights.views.clips).floor().long()
    ours = sample_clips(
        weights.sampler, num_frames=300, clip=clip, num_clips=weights.views.clips, fps=fps
    )

    assert abs(ours - every[chosen].numpy()).max() <= 2 * clip.stride


# --------------------------------------------------------------------------------------- as built


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("building must not download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def on_meta(backbone: Backbone, num_classes: int | None):
    with torch.device("meta"):
        return backbone.build(num_classes).eval()


@pytest.mark.parametrize("backbone", BACKBONES if SOAK else SMALLEST, ids=ids)
@pytest.mark.usefixtures("no_download")
def test_the_names_in_files_are_torchvisions(backbone: Backbone):
    with torch.device("meta"):
        size = VITS.get(backbone.name.removeprefix("torchvision/"), (None, None))[1]
        options = {} if size is None else {"image_size": size}
        library = models.get_model(library_name(backbone), weights=None, num_classes=7, **options)
        expected = {name: value.shape for name, value in library.state_dict().items()}
    with_head, without = on_meta(backbone, 7), on_meta(backbone, None)
    prefix = with_head._classifier_name() + "."
    trunk = {name: shape for name, shape in expected.items() if not name.startswith(prefix)}

    assert {name: value.shape for name, value in with_head.state_dict().items()} == expected
    assert {name: value.shape for name, value in without.state_dict().items()} == trunk
    assert [name for name, _ in with_head.named_parameters()] == [
        name for name, _ in library.named_parameters()
    ]
    assert without.head is None
    head = sum(value.numel() for value in with_head.head.parameters())
    assert head == 7 * (backbone.feature_width + 1)


@pytest.mark.parametrize("backbone", BACKBONES if SOAK else LIGHT, ids=ids)
def test_the_operations_at_the_declared_input_are_torchvisions(backbone: Backbone):
    # torchvision counts clips of 16 frames, whatever the length of the published scores.
    frames = (16,) if backbone.modality == "video" else ()
    side = backbone.input.pixels
    weights = next(each for each in backbone.weights if each.network is None)
    module = on_meta(backbone, weights.num_classes)

    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        features = module(torch.empty(1, 3, *frames, side, side))
        logits = module.head(features)

    assert features.shape == (1, backbone.feature_width)
    assert logits.shape == (1, weights.num_classes)
    published = library_weights(backbone, weights).meta["_ops"]
    assert round(counter.get_total_flops() / 2e9, 3) == published


@pytest.mark.parametrize(
    ("name", "sides", "widths"),
    [
        ("resnet50", (56, 28, 14, 7), (256, 512, 1024, 2048)),
        # Table 1 of each paper: the last stage of a size.
        ("efficientnet_b0", (56, 28, 14, 7), (24, 40, 112, 320)),
        ("efficientnet_v2_s", (96, 48, 24, 12), (48, 64, 160, 256)),
        ("convnext_tiny", (56, 28, 14, 7), (96, 192, 384, 768)),
        ("swin_t", (56, 28, 14, 7), (96, 192, 384, 768)),
        ("swin_v2_t", (64, 32, 16, 8), (96, 192, 384, 768)),
        ("r3d_18", (56, 28, 14, 7), (64, 128, 256, 512)),
        ("s3d", (56, 28, 14, 7), (192, 480, 832, 1024)),
        ("swin3d_t", (56, 28, 14, 7), (96, 192, 384, 768)),
    ],
)
def test_the_stage_maps_have_the_papers_sizes(name, sides, widths):
    backbone = BY_NAME[f"torchvision/{name}"]
    side = backbone.input.pixels
    frames = (16,) if backbone.modality == "video" else ()

    with torch.device("meta"), torch.inference_mode():
        maps = on_meta(backbone, None).stage_maps(torch.empty(1, 3, *frames, side, side))

    assert list(maps) == ["c2", "c3", "c4", "c5"]
    assert tuple(each.shape[-1] for each in maps.values()) == sides
    assert tuple(each.shape[-2] for each in maps.values()) == sides
    assert tuple(each.shape[1] for each in maps.values()) == widths


# -------------------------------------------------------------------------------------- as it runs

NUM_CLASSES = 5

_swin = functools.partial(
    models.SwinTransformer, patch_size=[4, 4], embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1] * 4
)


def _mvit(*, version: int) -> nn.Module:
    def block(width_in: int, width_out: int, stride: int) -> MSBlockConfig:
        return MSBlockConfig(
            num_heads=2,
            input_channels=width_in,
            output_channels=width_out,
            kernel_q=[3, 3, 3] if stride > 1 else [],
            kernel_kv=[3, 3, 3],
            stride_q=[1, stride, stride] if stride > 1 else [],
            stride_kv=[1, 2, 2],
        )

    return LibraryMViT(
        spatial_size=(32, 32),
        temporal_size=4,
        block_setting=[block(8, 16, 1), block(16, 16, 2), block(16, 16, 1)],
        # What mvit_v1_b and mvit_v2_s say.
        residual_pool=version == 2,
        residual_with_cls_embed=False,
        rel_pos_embed=version == 2,
        proj_after_attn=version == 2,
        num_classes=NUM_CLASSES,
    )


# Each family as small as its class can be: what makes the library's network, and a batch for it.
SMALL: dict[str, tuple[Callable[[], nn.Module], type[LibraryNetwork], tuple[int, ...]]] = {
    "resnet": (
        lambda: models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=NUM_CLASSES),
        ResNet,
        (64, 48),
    ),
    "efficientnet": (
        lambda: models.efficientnet_b0(num_classes=NUM_CLASSES),
        EfficientNet,
        (65, 48),
    ),
    "efficientnet_v2": (
        lambda: models.efficientnet_v2_s(num_classes=NUM_CLASSES),
        EfficientNet,
        (40, 48),
    ),
    "convnext": (
        lambda: models.ConvNeXt(
            [CNBlockConfig(8 * 2**i, 8 * 2 ** (i + 1) if i < 3 else None, 1) for i in range(4)],
            num_classes=NUM_CLASSES,
        ),
        ConvNeXt,
        (64, 48),
    ),
    "vit": (
        lambda: models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=3,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
            num_classes=NUM_CLASSES,
        ),
        VisionTransformer,
        (32, 32),
    ),
    "swin": (
        lambda: _swin(window_size=[7, 7], num_classes=NUM_CLASSES),
        SwinTransformer,
        (64, 48),
    ),
    "swin_v2": (
        lambda: _swin(
            window_size=[8, 8],
            num_classes=NUM_CLASSES,
            block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
        ),
        SwinTransformer,
        (64, 48),
    ),
    "video_resnet": (
        lambda: library_video.VideoResNet(
            library_video.BasicBlock,
            [library_video.Conv3DSimple] * 4,
            [1] * 4,
            library_video.BasicStem,
            num_classes=NUM_CLASSES,
        ),
        VideoResNet,
        (8, 32, 40),
    ),
    # The smallest that torchvision's own pool of 2 x 7 x 7 takes, and a position more in time.
    "s3d": (lambda: LibraryS3D(num_classes=NUM_CLASSES), S3D, (24, 209, 209)),
    "mvit": (lambda: _mvit(version=1), MViT, (4, 32, 32)),
    "mvit_v2": (lambda: _mvit(version=2), MViT, (4, 32, 32)),
    "swin3d": (
        lambda: LibrarySwin3d(
            patch_size=[2, 4, 4],
            embed_dim=8,
            depths=[1, 2, 1, 1],
            num_heads=[1] * 4,
            window_size=[2, 7, 7],
            num_classes=NUM_CLASSES,
        ),
        SwinTransformer3d,
        (6, 64, 48),
    ),
}


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
            value.add_(noise * 0.5 / max(value[0].numel(), 1) ** 0.5)


@functools.cache
def both(family: str) -> tuple[nn.Module, LibraryNetwork, torch.Tensor]:
    """torchvision's network, ours of the same parameters, and a batch."""
    make, kind, size = SMALL[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        library, ours = make().eval(), make()
        batch = torch.randn(1 if family == "s3d" else 2, 3, *size)
    randomise(library)
    if family == "s3d":
        ours.classifier.__class__ = PointwiseClassifier
    adapted = adapt(ours, kind, NUM_CLASSES).eval()
    adapted.load_state_dict(library.state_dict())
    return library, adapted, batch


def small(family: str) -> torch.Tensor:
    """A batch that ours reads in no time, if need be smaller than the library's takes."""
    batch = both(family)[2]
    return batch[..., :8, :64, :64] if family == "s3d" else batch


def penultimate(library: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the library's own forward feeds its last linear layer, and its logits."""
    last = [part for part in library.modules() if isinstance(part, nn.Linear | nn.Conv3d)][-1]
    seen: list[torch.Tensor] = []
    with last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
        logits = library(batch)
    return seen[-1], logits


@pytest.mark.parametrize("family", SMALL)
@torch.inference_mode()
def test_features_and_logits_are_those_of_the_librarys_own_forward(family: str):
    library, ours, batch = both(family)

    expected, expected_logits = penultimate(library, batch)
    features = ours(batch)
    logits = ours.head(features)

    assert logits.shape == (len(batch), NUM_CLASSES)
    assert expected_logits.std() > 1e-3
    if family == "s3d":
        # It classifies at two positions, then averages: equal, but for the order of adding up.
        assert expected.shape[2:] == (2, 1, 1)
        torch.testing.assert_close(features, expected.mean((2, 3, 4)))
        torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(features, expected)
        assert torch.equal(logits, expected_logits)


@pytest.mark.parametrize("family", SMALL)
@torch.inference_mode()
def test_stage_maps_are_the_maps_that_features_come_from(family: str):
    library, ours, _ = both(family)
    batch = small(family)

    maps = ours.stage_maps(batch)
    last = list(maps.values())[-1]
    sides = [each.shape[-1] for each in maps.values()]

    assert sides == sorted(sides, reverse=True)
    assert all(each.dim() == batch.dim() for each in maps.values())
    if family in ("resnet", "video_resnet"):
        torch.testing.assert_close(last.flatten(2).mean(2), ours(batch))
    elif family.startswith("efficientnet"):
        torch.testing.assert_close(library.features[-1](last).flatten(2).mean(2), ours(batch))
    elif family == "convnext":
        pooled = last.mean((2, 3), keepdim=True)
        torch.testing.assert_close(library.classifier[0](pooled).flatten(1), ours(batch))
    elif family.startswith("swin"):
        channels_last = last.movedim(1, -1)
        torch.testing.assert_close(library.norm(channels_last).flatten(1, -2).mean(1), ours(batch))
    elif family == "s3d":
        assert torch.equal(last, library.features(batch))
    else:
        assert_blocks_are(library, batch, maps)


def assert_blocks_are(library: nn.Module, batch: torch.Tensor, maps: dict) -> None:
    """Each map is the output of a block of the library, class token aside, laid out row by row."""
    blocks = library.blocks if hasattr(library, "blocks") else library.encoder.layers
    outputs = []
    for block in blocks:
        block.register_forward_hook(
            lambda module, inputs, output: outputs.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
    library(batch)
    for block in blocks:
        block._forward_hooks.clear()

    assert list(maps) == [f"block{index}" for index in range(len(blocks))]
    for mapped, tokens in zip(maps.values(), outputs, strict=True):
        row = mapped.shape[-1]
        assert torch.equal(mapped.flatten(2).transpose(1, 2), tokens[:, 1:])
        # The first of the second row of patches.
        first_frame = mapped if mapped.dim() == 4 else mapped[:, :, 0]
        assert torch.equal(first_frame[:, :, 1, 0], tokens[:, 1 + row])


@torch.inference_mode()
def test_s3d_reads_less_than_its_pool():
    library, ours, _ = both("s3d")
    batch = small("s3d")

    with pytest.raises(RuntimeError):
        library(batch)
    torch.testing.assert_close(ours(batch), library.features(batch).mean((2, 3, 4)))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "r3d_18"])
def test_the_random_start_is_torchvisions(name: str):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = BY_NAME[f"torchvision/{name}"].build(NUM_CLASSES)
        torch.manual_seed(3)
        library = models.get_model(name, weights=None, num_classes=NUM_CLASSES)

    expected = library.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())


# --------------------------------------------------------------------------- what is done to them


@pytest.mark.parametrize("family", SMALL)
def test_the_classifier_can_be_taken_out_and_replaced(family: str):
    ours, batch = both(family)[1], small(family)
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
    assert ours.head is not None


def test_a_vit_says_which_size_it_takes():
    _, vit, _ = both("vit")
    _, mvit, _ = both("mvit")

    with pytest.raises(InputSizeError) as of_vit:
        vit(torch.zeros(1, 3, 32, 48))
    with pytest.raises(InputSizeError) as of_mvit:
        mvit.stage_maps(torch.zeros(1, 3, 8, 16, 32))

    assert str(of_vit.value) == (
        "its position embeddings are for 32 x 32 pixels and the input has 32 x 48 pixels: say"
        " --pixels 32"
    )
    assert str(of_mvit.value) == (
        "its position embeddings are for 4 frames of 32 x 32 pixels and the input has 8 frames of"
        " 16 x 32 pixels: say --frames 4 --pixels 32"
    )


@pytest.mark.parametrize("old_names", [False, True])
def test_a_published_vit_loads_by_the_names_of_its_time(tmp_path, old_names):
    # Names before MLPBlock's version 2: torchvision/models/vision_transformer.py.
    old = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."}
    make, kind, _ = SMALL["vit"]
    library, _, _ = both("vit")
    state = library.state_dict()
    if old_names:
        state = {
            functools.reduce(lambda key, pair: key.replace(*pair), old.items(), name): value
            for name, value in state.items()
        }
        assert state.keys() != library.state_dict().keys()
        make().load_state_dict(state)
    torch.save(state, tmp_path / "vit.pth")

    def build(num_classes: int | None) -> nn.Module:
        return adapt(make(), kind, num_classes)

    spec = dataclasses.replace(BY_NAME["torchvision/vit_b_16"], build=build)
    tensors = read_tensors(spec, tmp_path / "vit.pth")
    module = build(NUM_CLASSES)
    load_into(module, tensors.state, name="vit.pth")

    loaded = module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in library.state_dict().items())


def test_a_builder_of_torchvision_gives_its_family():
    with torch.device("meta"):
        assert type(build_network("swin_v2_t", None, image_size=None)) is SwinTransformer
        assert type(build_network("wide_resnet50_2", None, image_size=None)) is ResNet
        module = build_network("vit_b_32", None, image_size=64)
    assert module.encoder.pos_embedding.shape == (1, 5, 768)


# ---------------------------------------------------------------------------- on the command line


def test_a_network_of_a_library_runs_and_its_files_have_safe_names(tmp_path):
    words = ("--task", "folder", "--data", write_pictures(tmp_path / "data"), "--pixels", "32")
    results = tmp_path / "results"

    answer = rsbench(
        "run",
        *words,
        "--backbone",
        "torchvision/resnet18",
        "--set",
        "strengths=3",
        "--results",
        results,
    )

    assert answer.code == 0, answer.err
    (record,) = results.glob("runs/folder/linear_probe/*.json")
    assert record.name.startswith("torchvision_resnet18~")
    assert json.loads(record.read_text())["backbone"]["name"] == "torchvision/resnet18"
    assert "torchvision/resnet18" in rsbench("table", results).out


def test_a_size_that_a_vit_does_not_take_is_one_line(tmp_path):
    words = ("--task", "folder", "--data", write_pictures(tmp_path / "data"), "--pixels", "64")

    answer = rsbench("run", *words, "--backbone", "torchvision/vit_b_32", "--results", tmp_path)

    assert answer.code == 2
    fault = [line for line in answer.err.splitlines() if line.startswith("rsbench: ")]
    assert len(fault) == 1
    assert "for 224 x 224 pixels and the input has 64 x 64 pixels: say --pixels 224" in fault[0]


@pytest.mark.parametrize(
    ("name", "probability"),
    [
        # torchvision 0.26: the `dropout` of each builder's classifier.
        ("torchvision/resnet50", 0.0),
        ("torchvision/efficientnet_b0", 0.2),
        ("torchvision/efficientnet_v2_l", 0.4),
        ("torchvision/s3d", 0.2),
        ("torchvision/mvit_v2_s", 0.5),
    ],
)
def test_a_new_classifier_is_told_the_dropout_of_the_library_s_own(
    name: str, probability: float
) -> None:
    with torch.device("meta"):
        assert BY_NAME[name].build(None).head_dropout == probability
