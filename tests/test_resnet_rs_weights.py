"""The published ResNet-RS weights, against the pages they were published on."""

from __future__ import annotations

import re

import pytest
from rsbench_backbones._resnet_rs_weights import weights_2d, weights_garden
from rsbench_backbones.resnet_rs import BLOCKS, PUBLISHED_ROWS

from rsbench.specs import Weights

# depth, pixels, and where the checkpoint differs from the rest of its row: tensorflow/tpu,
# models/official/resnet/resnet_rs/README.md (11 checkpoints).
TPU_CHECKPOINTS = {
    (50, 160),
    (101, 160),
    (101, 192),
    (152, 192),
    (152, 224),
    (152, 256),
    (200, 256),
    (270, 256),
    (350, 256),
    (350, 320),
    (420, 320),
}


def of_kind(prefix: str) -> dict[tuple[int, int], Weights]:
    return {
        (depth, each.input.pixels): each
        for depth in BLOCKS
        for each in weights_2d(depth)
        if each.name.startswith(prefix)
    }


def test_there_is_what_the_publishers_list() -> None:
    assert set(of_kind("tpu.")) == TPU_CHECKPOINTS
    assert set(of_kind("keras.")) == TPU_CHECKPOINTS
    # MODEL_GARDEN.md has ten: no 420.
    assert set(of_kind("garden.")) == TPU_CHECKPOINTS - {(420, 320)}
    assert {depth for depth, _ in of_kind("resnetrs")} == {50, 101, 152, 200, 270, 350, 420}


def test_names_are_unique_in_a_backbone() -> None:
    for depth in BLOCKS:
        names = [each.name for each in weights_2d(depth)]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("prefix", "row", "url"),
    [
        (
            "tpu.",
            (152, 256),
            "https://storage.googleapis.com/cloud-tpu-checkpoints/resnet-rs/resnet-rs-152-i256.tar.gz",
        ),
        (
            "garden.",
            (350, 320),
            "https://storage.googleapis.com/tf_model_garden/vision/resnet-rs/resnet-rs-350-i320.tar.gz",
        ),
        (
            # BASE_WEIGHTS_URL and a key of WEIGHT_HASHES in tf_keras's resnet_rs.py.
            "keras.",
            (50, 160),
            "https://storage.googleapis.com/tensorflow/keras-applications/resnet_rs/"
            "resnet-rs-50-i160.h5",
        ),
        ("resnetrs", (270, 256), "timm/resnetrs270.tf_in1k"),
    ],
)
def test_addresses_are_those_of_the_pages(prefix, row, url) -> None:
    assert of_kind(prefix)[row].url == url


def test_the_tpu_scores_are_the_papers() -> None:
    # The paper's rows carry their top-1 for the training recipe; it is the checkpoints'.
    scores = {row: each.published["imagenet1k/top1"] for row, each in of_kind("tpu.").items()}

    assert scores == {(row.depth, row.pixels): row.top1 for row in PUBLISHED_ROWS}


@pytest.mark.parametrize(
    ("prefix", "row", "top1", "top5"),
    [
        # imagenet_evaluation/README.md of resnet-rs-keras, MODEL_GARDEN.md.
        ("keras.", (152, 224), 82.9, 96.2),
        ("keras.", (420, 320), 84.4, 96.8),
        ("garden.", (50, 160), 79.1, 94.5),
        ("garden.", (350, 320), 84.2, 96.9),
    ],
)
def test_other_scores_are_those_of_their_own_evaluations(prefix, row, top1, top5) -> None:
    assert of_kind(prefix)[row].published == {"imagenet1k/top1": top1, "imagenet1k/top5": top5}


@pytest.mark.parametrize("prefix", ["tpu.", "keras."])
def test_the_tpu_preprocessing_leaves_a_margin_of_32_pixels(prefix) -> None:
    # resnet_preprocessing.py: CROP_PADDING = 32 whatever the size.
    for (_, pixels), each in of_kind(prefix).items():
        assert each.input.resizer == "tpu"
        assert (each.input.interpolation, each.input.antialias) == ("bicubic", False)
        assert each.input.crop_ratio == pytest.approx(pixels / (pixels + 32))
    assert of_kind(prefix)[152, 224].input.crop_ratio == 0.875


def test_the_model_gardens_preprocessing_crops_the_same_share_at_every_size() -> None:
    for each in of_kind("garden.").values():
        assert each.input.resizer == "model_garden"
        assert (each.input.interpolation, each.input.antialias) == ("bilinear", False)
        assert each.input.crop_ratio == 0.875


def test_the_model_gardens_weights_choose_its_network_from_the_papers() -> None:
    for (depth, _), each in of_kind("garden.").items():
        assert each.network == f"resnet_rs_garden_{depth}"
    assert all(each.network is None for depth in BLOCKS for each in weights_garden(depth))
    own = [each.name for each in weights_2d(152) if each.network]
    assert (
        [each.name for each in weights_garden(152)]
        == own
        == [
            "garden.i192",
            "garden.i224",
            "garden.i256",
        ]
    )


def test_timms_200_is_not_called_googles() -> None:
    # timm's change log: 83.85 at 256 is among its own TPU-trained weights; Google's is 83.4.
    weights = of_kind("resnetrs")
    assert "trained by timm" in weights[200, 256].source
    assert all("TPU checkpoint" in w.source for (depth, _), w in weights.items() if depth != 200)


def test_no_digest_is_made_up() -> None:
    # None of the four publishers names a sha256; Keras names an md5, which is kept as a remark.
    everything = [each for depth in BLOCKS for each in weights_2d(depth)]
    assert all(each.sha256 is None and each.size_bytes is None for each in everything)
    remarks = [each.source for each in everything if each.format == "keras-h5"]
    assert len({re.search(r"md5 ([0-9a-f]{32})$", remark)[1] for remark in remarks}) == 11
