"""What ResNet-RS does in training alone: what is skipped, what decays, and what is published."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from rsbench_backbones._resnet_rs_modules import Bottleneck, ResNetRS, SelfGating
from rsbench_backbones.resnet_rs import BACKBONES, BLOCKS, GARDEN_3D, PAPER_2D

from rsbench.assembly import assemble
from rsbench.specs import Backbone
from rsbench.weights.choosing import choose_weights

BY_NAME = {backbone.name: backbone for backbone in BACKBONES}


def varied(name: str, **options: str) -> Backbone:
    vary = BY_NAME[name].vary
    assert vary is not None
    return vary(options)


def skipped(network: torch.nn.Module) -> list[float]:
    """Probability of each block, from the first."""
    return [block.skip_probability for block in network.modules() if isinstance(block, Bottleneck)]


def on_meta(architecture) -> ResNetRS:
    with torch.device("meta"):
        return ResNetRS(architecture, None)


# -------------------------------------------------------------------------------- what is skipped


@pytest.mark.parametrize("depth", [50, 200])
def test_stochastic_depth_by_block_is_timm_s(depth) -> None:
    layers = pytest.importorskip("timm.layers")
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"resnetrs{depth}", drop_path_rate=0.1)
    # timm leaves the module out where nothing is dropped: the first block.
    expected = [
        block.drop_path.drop_prob if isinstance(block.drop_path, layers.DropPath) else 0.0
        for number in (1, 2, 3, 4)
        for block in getattr(theirs, f"layer{number}")
    ]

    network = on_meta(replace(PAPER_2D, blocks=BLOCKS[depth]))
    network.set_regularisation(head_dropout=0.0, stochastic_depth=0.1, per="block")

    assert skipped(network) == pytest.approx(expected)
    assert len(expected) == sum(BLOCKS[depth])


@pytest.mark.parametrize("architecture", [PAPER_2D, GARDEN_3D])
def test_stochastic_depth_by_stage_is_one_for_all_blocks_of_a_stage(architecture) -> None:
    # tf-models-official, nn_layers.get_stochastic_depth_rate(0.2, stage, 5) of stages 2 to 5.
    network = on_meta(architecture)
    network.set_regularisation(head_dropout=0.0, stochastic_depth=0.2, per="stage")

    assert skipped(network) == pytest.approx([0.08] * 3 + [0.12] * 4 + [0.16] * 6 + [0.2] * 3)


def test_regularisation_can_be_taken_off_again() -> None:
    network = on_meta(GARDEN_3D)
    assert max(skipped(network)) == pytest.approx(0.1)
    network.set_regularisation(head_dropout=0.0, stochastic_depth=0.0)

    assert network.head_dropout == 0.0
    assert set(skipped(network)) == {0.0}


@pytest.mark.parametrize("per", ["stage", "block"])
def test_blocks_are_skipped_as_often_as_they_are_told(per) -> None:
    torch.manual_seed(0)
    network = ResNetRS(replace(PAPER_2D, blocks=(1, 1, 1, 2), width=0.125), None).train()
    network.set_regularisation(head_dropout=0.0, stochastic_depth=0.5, per=per)
    # The last block adds nothing but what it is told to: a branch of ones, and no squeeze.
    last = network.get_submodule("layer4")[-1]
    last.se = None
    torch.nn.init.zeros_(last.bn3.weight)
    torch.nn.init.ones_(last.bn3.bias)
    last.eval()
    last.training = True
    maps = torch.zeros(2000, last.conv1.in_channels, 1, 1)
    with torch.no_grad():
        added = last(maps)[:, 0, 0, 0]

    assert sorted(added.unique().tolist()) == [0.0, 2.0]
    # Four deviations of a fair coin thrown 2000 times.
    assert float((added == 0).float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


# -------------------------------------------------------------------------------- what decays


def test_only_gates_are_spared_from_decay_as_kernels() -> None:
    network = on_meta(GARDEN_3D)
    spared = [each for each in network.modules() if getattr(each, "spared_from_decay", False)]

    # One in the last block of each stage (resnet_3d.py).
    assert [type(each) for each in spared] == [SelfGating] * 4


# -------------------------------------------------------------------------------- what is published


@pytest.mark.parametrize(
    ("name", "pixels", "magnitude", "dropout", "depth"),
    [
        # tensorflow/tpu, models/official/resnet/resnet_rs/configs/*.yaml.
        ("resnet_rs_50", 160, 10, 0.25, 0.0),
        ("resnet_rs_101", 160, 10, 0.25, 0.0),
        ("resnet_rs_101", 192, 15, 0.25, 0.0),
        ("resnet_rs_152", 256, 15, 0.25, 0.0),
        ("resnet_rs_200", 256, 15, 0.25, 0.1),
        ("resnet_rs_350", 256, 15, 0.25, 0.1),
        ("resnet_rs_350", 320, 15, 0.4, 0.1),
        ("resnet_rs_420", 320, 15, 0.4, 0.1),
        ("resnet_rs_garden_50", 160, 10, 0.25, 0.0),
    ],
)
def test_the_regularisation_of_a_size_is_the_published_one(
    name, pixels, magnitude, dropout, depth
) -> None:
    published = BY_NAME[name].published_training
    assert published is not None

    assert published(pixels) == {
        "randaugment_magnitude": magnitude,
        "dropout": dropout,
        "stochastic_depth": depth,
    }


@pytest.mark.parametrize(
    ("pixels", "magnitude"), [(32, 10), (170, 10), (176, 10), (177, 15), (224, 15)]
)
def test_a_size_between_has_that_of_the_nearest_and_of_two_the_smaller(pixels, magnitude) -> None:
    # ResNet-RS-101 was trained at 160 and at 192 pixels.
    published = BY_NAME["resnet_rs_101"].published_training
    assert published is not None

    assert published(pixels)["randaugment_magnitude"] == magnitude


@pytest.mark.parametrize("pixels", [112, 224])
@pytest.mark.parametrize("depth", [50, 350])
def test_clips_have_one_regularisation_and_no_randaugment(depth, pixels) -> None:
    # k400_resnet3drs_50_tpu.yaml.
    published = BY_NAME[f"resnet_rs_3d_{depth}"].published_training
    assert published is not None

    assert published(pixels) == {"dropout": 0.5, "stochastic_depth": 0.1}


@pytest.mark.parametrize(
    "backbone",
    [
        BY_NAME["resnet_rs_300"],
        BY_NAME["resnet_rs_400"],
        varied("resnet_rs_50", blocks="1-1-1-1"),
        varied("resnet_rs_50", width="0.5"),
        varied("resnet_rs_3d_50", width="0.5"),
    ],
    ids=lambda backbone: backbone.name,
)
def test_nothing_is_published_of_other_depths_and_widths(backbone) -> None:
    assert backbone.published_training is None


def test_the_steps_of_the_additive_study_have_the_regularisation_of_their_depth() -> None:
    plain = varied("resnet_rs_200", squeeze_ratio="0")
    assert plain.published_training is not None

    assert plain.published_training(256) == {
        "randaugment_magnitude": 15,
        "dropout": 0.25,
        "stochastic_depth": 0.1,
    }


def test_a_model_knows_what_is_published_of_it(tmp_path: Path) -> None:
    backbone = varied("resnet_rs_3d_50", blocks="1-1-1-1", width="0.0625")

    def published(pixels: int) -> dict[str, float]:
        return {"dropout": pixels / 100}

    model = partial(
        assemble,
        chosen=choose_weights(backbone, "none", cache_root=tmp_path),
        input=backbone.input.at(32),
        task_modality="video",
        seed=0,
        device="cpu",
        built_in=True,
    )

    assert model(backbone).model.published_training(32) == {}
    found = model(replace(backbone, published_training=published)).model
    # By the side that is trained on, which a recipe may set.
    assert found.published_training(30) == {"dropout": 0.3}
