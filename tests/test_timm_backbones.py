"""timm's networks by name: what timm itself computes, by timm's names, as its own files have it."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Any

import pytest
import timm
import torch
from rsbench_backbones import timm as family
from timm.data import resolve_data_config
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from rsbench.checks import check_backbone
from rsbench.errors import PluginError, UnknownNameError, WeightsError
from rsbench.registry import find_backbone
from rsbench.specs import Backbone, InputSpec

SOAK = "RSBENCH_SOAK" in os.environ

# Networks of timm's own tests: under a second each, one a kind of design.
SMALL = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_nfnet")


pytestmark = pytest.mark.usefixtures("one_thread")


def spec_of(architecture: str) -> Backbone:
    return find_backbone(f"timm/{architecture}").spec


def pair(architecture: str, num_classes: int = 5) -> tuple[Any, nn.Module]:
    """Give one network twice, ours and timm's, with the same parameters and random statistics."""
    generator = torch.Generator().manual_seed(1)
    theirs = timm.create_model(architecture, num_classes=num_classes).eval()
    for name, value in theirs.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if "running_var" in name else 0.2 * (noise - 0.5))
    ours = spec_of(architecture).build(num_classes).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def batch(pixels: int = 160) -> torch.Tensor:
    return torch.randn((2, 3, pixels, pixels), generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------- by name


# Second sources of the counts: `num_params` of torchvision's ResNet50_Weights and
# ConvNeXt_Tiny_Weights; timm's results-imagenet.csv has 22.05 million for the ViT.
@pytest.mark.parametrize(
    ("architecture", "parameters", "width"),
    [
        ("resnet50", 25_557_032, 2048),
        ("convnext_tiny", 28_589_128, 768),
        ("vit_small_patch16_224", 22_050_664, 384),
    ],
)
def test_a_network_is_counted_with_the_classifier_of_its_weights(
    architecture: str, parameters: int, width: int
) -> None:
    spec = spec_of(architecture)

    assert spec.name == f"timm/{architecture}"
    assert (spec.num_parameters, spec.parameters_with_classes) == (parameters, 1000)
    assert (spec.feature_width, spec.modality, spec.requires) == (width, "image", "timm")


def test_a_network_that_timm_has_without_classifier_is_counted_so() -> None:
    # DINOv2 is published as features alone: 21 M in its paper's table (arXiv 2304.07193, table 4).
    spec = spec_of("vit_small_patch14_dinov2")

    assert spec.parameters_with_classes is None
    assert 21e6 < spec.num_parameters < 22.5e6
    assert {each.num_classes for each in spec.weights} == {None}


def test_a_near_miss_is_named_with_its_family() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet5O'.* Did you mean timm/resnet50 or"):
        find_backbone("timm/resnet5O")


def test_weights_in_the_name_are_led_to_their_option() -> None:
    with pytest.raises(UnknownNameError, match="--backbone timm/resnet50 --weights a1_in1k"):
        find_backbone("timm/resnet50.a1_in1k")


def test_a_name_that_timm_gave_up_is_not_taken_silently_for_another() -> None:
    # timm warns and builds resnet50.gluon_in1k under this older name.
    assert "gluon_resnet50_v1b" in timm.models.get_deprecated_models()
    with pytest.raises(UnknownNameError, match="has no network 'gluon_resnet50_v1b'"):
        find_backbone("timm/gluon_resnet50_v1b")


@pytest.mark.parametrize(
    "architecture", ["levit_128s", "deit_tiny_distilled_patch16_224", "volo_d1_224"]
)
def test_a_network_with_two_heads_is_refused(architecture: str) -> None:
    with pytest.raises(PluginError, match="classifies with several heads at once"):
        find_backbone(f"timm/{architecture}")


def test_an_encoder_of_another_model_is_refused_in_one_line() -> None:
    with pytest.raises(PluginError, match="can't be built as a classifier by timm") as caught:
        find_backbone("timm/qwen3_vit_88m_enc")
    assert "\n" not in str(caught.value)


def test_without_timm_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    family.backbone_for.cache_clear()
    # What Python does with a module that is not there: ModuleNotFoundError naming it.
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("timm/resnet50", "timm/anything"):
        with pytest.raises(PluginError, match=r'pip install "rsbench\[timm\]"'):
            find_backbone(name)


def test_a_network_s_title_says_whose_code_it_is() -> None:
    assert importlib.metadata.version("timm") in spec_of("test_resnet").title


# ---------------------------------------------------------------------------------- as timm has it


@pytest.mark.parametrize("architecture", [*SMALL, "resnetv2_18"])
def test_features_and_logits_are_timm_s_own(architecture: str) -> None:
    ours, theirs = pair(architecture)
    with torch.inference_mode():
        features = ours(batch())
        wanted = theirs.forward_head(theirs.forward_features(batch()), pre_logits=True)
        torch.testing.assert_close(features, wanted, rtol=0, atol=0)
        torch.testing.assert_close(ours.head(features), theirs(batch()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", SMALL)
def test_parameters_keep_timm_s_names_in_its_order(architecture: str) -> None:
    ours, theirs = pair(architecture)

    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
    assert [name for name, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]


def test_names_hold_inside_another_module_too() -> None:
    # Where a picture network reads video it lies inside the module that averages over frames.
    ours, theirs = pair("test_resnet")
    outer = nn.ModuleDict({"frames": ours})
    state = {name: value.clone() for name, value in outer.state_dict().items()}

    assert list(state) == [f"frames.{name}" for name in theirs.state_dict()]
    with torch.no_grad():
        ours.network.conv1[0].weight.zero_()
    assert list(outer.load_state_dict(state)) == [[], []]
    assert ours.network.conv1[0].weight.abs().sum() > 0


def test_features_need_no_head_and_are_the_same_with_one() -> None:
    ours, theirs = pair("test_convnext")
    without: Any = spec_of("test_convnext").build(None).eval()
    state = ours.state_dict()
    without.load_state_dict({name: state[name] for name in without.state_dict()})

    assert without.head is None
    assert {name for name in state if name not in without.state_dict()} == {
        "head.fc.weight",
        "head.fc.bias",
    }
    with torch.inference_mode():
        torch.testing.assert_close(without(batch()), ours(batch()), rtol=0, atol=0)
    del theirs


def test_another_head_can_take_the_place_of_timm_s() -> None:
    # `finetune` leaves a linear layer, which its weights put where the classifier is.
    ours, _ = pair("test_nfnet")
    layer = nn.Linear(spec_of("test_nfnet").feature_width, 3)
    ours.head = layer

    assert ours.head is layer
    assert ours.state_dict()["head.fc.weight"].shape[0] == 3


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_stage_maps_are_those_of_timm_s_feature_extractor(architecture: str) -> None:
    # timm's other way to maps: a network rebuilt by features_only, its parameters renamed there.
    ours, theirs = pair(architecture)
    extractor = timm.create_model(architecture, features_only=True).eval()
    # The same layers in the same order, the head and what follows the last map left out.
    state = list(theirs.state_dict().values())
    extractor.load_state_dict(
        dict(zip(extractor.state_dict(), state[: len(extractor.state_dict())], strict=True))
    )
    with torch.inference_mode():
        maps, wanted = ours.stage_maps(batch(96)), extractor(batch(96))

    assert list(maps) == list(extractor.feature_info.module_name())
    for ours_map, their_map in zip(maps.values(), wanted, strict=True):
        torch.testing.assert_close(ours_map, their_map, rtol=1e-5, atol=1e-5)


def test_a_transformer_gives_the_patches_of_one_block_a_quarter() -> None:
    ours, theirs = pair("test_vit2")
    seen = {}
    for number, block in enumerate(theirs.blocks):
        block.register_forward_hook(
            lambda module, inputs, output, number=number: seen.update({number: output})
        )
    with torch.inference_mode():
        maps = ours.stage_maps(batch())
        theirs.forward_features(batch())

    # Eight blocks: the last of each two. 160 pixels in patches of 16 are 10 x 10.
    assert list(maps) == ["blocks.1", "blocks.3", "blocks.5", "blocks.7"]
    for number, found in zip((1, 3, 5, 7), maps.values(), strict=True):
        patches = seen[number][:, theirs.num_prefix_tokens :]
        wanted = patches.transpose(1, 2).reshape(2, -1, 10, 10)
        torch.testing.assert_close(found, wanted)


def test_another_size_than_the_embeddings_says_what_to_type() -> None:
    ours: Any = spec_of("vit_tiny_patch16_224").build(None)

    for ask in (ours, ours.stage_maps):
        with pytest.raises(ValueError, match=r"are for 224 x 224 pixels .* say --pixels 224"):
            ask(batch(96))


@pytest.mark.parametrize("architecture", SMALL)
def test_a_network_of_timm_keeps_the_whole_contract(architecture: str) -> None:
    checks = check_backbone(find_backbone(f"timm/{architecture}"))

    assert [check for check in checks if not check.ok] == []
    assert {"parameters", "features", "stage maps", "head", "weights"} <= {c.name for c in checks}


# -------------------------------------------------------------------------------------- weights


def weights_of(architecture: str) -> dict[str, Any]:
    return {each.name: each for each in spec_of(architecture).weights}


@pytest.mark.parametrize("architecture", ["resnet50", "swin_tiny_patch4_window7_224", "gcvit_tiny"])
def test_weights_want_to_see_what_timm_evaluates_them_on(architecture: str) -> None:
    configs = get_arch_pretrained_cfgs(architecture)
    found = weights_of(architecture)

    assert found.keys() == {config.tag for config in configs.values() if config.has_weights}
    for config in configs.values():
        if not config.has_weights:
            continue
        wanted = resolve_data_config(pretrained_cfg=config.to_dict(), use_test_size=True)
        seen: InputSpec = found[config.tag].input
        assert (3, seen.pixels, seen.pixels) == wanted["input_size"]
        assert seen.crop_ratio == wanted["crop_pct"]
        assert seen.interpolation == wanted["interpolation"]
        assert (seen.mean, seen.std) == (wanted["mean"], wanted["std"])
        assert (seen.resizer, seen.antialias) == ("timm", True)
        assert found[config.tag].num_classes == (config.num_classes or None)


def test_weights_say_where_they_are_and_what_they_may_be_used_for() -> None:
    resnet = weights_of("resnet50")["a1_in1k"]
    swag = weights_of("regnety_160")["swag_ft_in1k"]

    assert (resnet.url, resnet.format) == ("timm/resnet50.a1_in1k", "safetensors")
    assert (resnet.sha256, resnet.licence) == (None, "Apache-2.0")
    # SWAG's weights are not for commercial use: github.com/facebookresearch/SWAG.
    assert swag.licence == "CC-BY-NC-4.0"


def test_a_file_under_https_is_held_to_the_digits_in_its_name() -> None:
    found = weights_of("gcvit_tiny")["in1k"]

    assert found.url.endswith("/gcvit_tiny_224_nvidia-ac783954.pth")
    assert (found.sha256, found.format) == ("ac783954", "torch")


# By the papers: ConvNeXt was pre-trained on ImageNet-22K and tuned on 1K (arXiv 2201.03545);
# Noisy Student on JFT-300M beside ImageNet (1911.04252); DINO's tag says nothing of the data.
@pytest.mark.parametrize(
    ("architecture", "tag", "data"),
    [
        ("convnext_tiny", "fb_in22k_ft_in1k", ("imagenet22k", "imagenet1k")),
        ("convnext_tiny", "fb_in22k", ("imagenet22k",)),
        ("tf_efficientnet_b0", "ns_jft_in1k", ("jft300m", "imagenet1k")),
        ("resnet50", "a1_in1k", ("imagenet1k",)),
        ("vit_small_patch16_224", "dino", ()),
    ],
)
def test_what_weights_have_seen_is_read_off_their_tag(
    architecture: str, tag: str, data: tuple[str, ...]
) -> None:
    assert weights_of(architecture)[tag].trained_on == data


def test_weights_for_pictures_that_no_input_can_say_are_left_out() -> None:
    # EfficientNetV2-M is shown whole pictures squashed into the square, Sapiens 1024 x 768 pixels.
    for architecture, tag in (("tf_efficientnetv2_m", "in1k"), ("vit_base_patch16_sapiens2", "fb")):
        assert f"{architecture}.{tag}" in get_arch_pretrained_cfgs(architecture)
        assert tag not in weights_of(architecture)


def test_a_file_of_the_original_authors_is_read_as_timm_reads_it() -> None:
    # microsoft/Swin-Transformer counts its downsampling one stage earlier, calls its classifier
    # "head" and keeps index buffers; timm's checkpoint_filter_fn knows that.
    spec = spec_of("swin_tiny_patch4_window7_224")
    state = spec.build(1000).state_dict()
    original = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49).numpy()}
    for name, value in state.items():
        layer, _, rest = name.removeprefix("layers.").partition(".")
        if rest.startswith("downsample"):
            name = f"layers.{int(layer) - 1}.{rest}"
        original[name.replace("head.fc.", "head.")] = value.numpy()

    assert spec.rename is not None
    renamed = spec.rename("torch", original)

    assert renamed.keys() == state.keys()
    assert all((renamed[name] == value.numpy()).all() for name, value in state.items())


def test_tensors_of_another_network_are_not_taken_for_this_one() -> None:
    spec, other = spec_of("test_resnet"), spec_of("test_vit")
    tensors = {name: value.numpy() for name, value in other.build(1000).state_dict().items()}

    assert spec.rename is not None
    with pytest.raises(WeightsError, match="timm does not take these torch tensors for its test_r"):
        spec.rename("torch", tensors)


# ----------------------------------------------------------------------------------- all of timm


def one_of_each_file() -> list[str]:
    """Give one network a source file of timm: the one with the shortest name, then the first."""
    found = []
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names:
            found.append(min(names, key=lambda name: (len(name), name)))
    return found


def all_of(spec: Backbone) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Give features, logits and stage maps of two black pictures."""
    module: Any = spec.build(7).eval()
    with torch.inference_mode():
        pictures = torch.zeros(2, 3, spec.input.pixels, spec.input.pixels)
        features = module(pictures)
        return features, module.head(features), module.stage_maps(pictures)


@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="a second and more a network: RSBENCH_SOAK is not set")
@pytest.mark.parametrize("architecture", one_of_each_file() if SOAK else [])
def test_a_network_of_every_file_of_timm_gives_features_head_and_maps(architecture: str) -> None:
    try:
        spec = spec_of(architecture)
    except PluginError as refused:
        pytest.skip(str(refused))
    try:
        with torch.device("meta"):
            features, logits, maps = all_of(spec)
    # One looks at values, which the meta device has none of.
    except RuntimeError as error:
        assert "item() cannot be called on meta" in str(error)
        features, logits, maps = all_of(spec)

    assert tuple(features.shape) == (2, spec.feature_width)
    assert tuple(logits.shape) == (2, 7)
    sides = [each.shape[-1] for each in maps.values()]
    assert sides == sorted(sides, reverse=True)
    assert {(each.ndim, len(each)) for each in maps.values()} == {(4, 2)}
