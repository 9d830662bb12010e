"""Renaming of TensorFlow's and Keras's tensors: what fits, and what is said where it does not.

Layouts are those that the official code wrote (`tests/parity/record.py`); that the numbers land in
the right places is shown in `test_resnet_rs_parity.py`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rsbench_backbones._resnet_rs_names import count_blocks, rename_garden, rename_paper_2d

from rsbench.errors import WeightsError

LAYOUTS = Path(__file__).parent / "parity" / "recorded" / "layouts.json"
BLOCKS_50 = (3, 4, 6, 3)
BLOCKS_101 = (3, 4, 23, 3)


@cache
def shapes(name: str) -> dict[str, tuple[int, ...]]:
    layouts = json.loads(LAYOUTS.read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in layouts[name].items()}


def tensors(name: str) -> dict[str, np.ndarray]:
    """Arrays of the right shapes that take no memory."""
    zero = np.zeros((), np.int8)
    return {key: np.broadcast_to(zero, shape) for key, shape in shapes(name).items()}


def without_head(name: str) -> dict[str, np.ndarray]:
    heads = re.compile(r"(dense|predictions|model/layer_with_weights-1)/.*")
    return {key: value for key, value in tensors(name).items() if not heads.fullmatch(key)}


def as_published(key: str) -> str:
    """Spell a layer as the published .h5 files do, which came before tf_keras's own names.

    From github.com/sebastian-sz/resnet-rs-keras, resnet_rs/resnet_rs_model.py; the md5 of its
    files are those in keras.applications.
    """
    key = re.sub(r"^stem_\d+_stem_", "stem_", key)
    key = re.sub(r"^BlockGroup(\d)__block_(\d+)_+", r"c\1_block_\2_", key)
    return key.replace("_se_se_", "_se_")


def test_published_keras_names_are_those_of_todays_files() -> None:
    published = {as_published(key): value for key, value in tensors("keras_2d").items()}
    assert {"stem_conv_1/kernel", "c2_block_0_projection_batch_norm/gamma"} <= set(published)
    assert {"c5_block_2_se_reduce/bias", "c2_block_0_batch_norm_1/beta"} <= set(published)

    renamed = rename_paper_2d("keras-h5", published, blocks=BLOCKS_50)

    assert list(renamed) == list(rename_paper_2d("tf1", tensors("tpu_2d"), blocks=BLOCKS_50))


def test_the_first_numbers_of_a_tpu_checkpoint_are_these_layers() -> None:
    # By hand, after resnet_model.py: four stem convolutions, then the first block's projection,
    # three convolutions, reduce, expand; the second block has no projection.
    marked = {
        key: np.full(1, int(re.sub(r"\D", "", key.split("/")[0].removeprefix("conv2d")) or 0))
        for key in shapes("tpu_2d")
        if key.startswith("conv2d") and key.endswith("kernel")
    }
    renamed = rename_paper_2d("tf1", tensors("tpu_2d") | marked, blocks=BLOCKS_50)

    numbers = {name: value.item() for name, value in renamed.items() if value.shape == (1,)}
    assert [
        numbers[f"{name}.weight"] for name in ("conv1.0", "conv1.3", "conv1.6", "maxpool.0")
    ] == [
        0,
        1,
        2,
        3,
    ]
    parts = ("downsample.1", "conv1", "conv2", "conv3", "se.fc1", "se.fc2")
    assert [numbers[f"layer1.0.{part}.weight"] for part in parts] == [4, 5, 6, 7, 8, 9]
    assert [numbers[f"layer1.1.{part}.weight"] for part in parts[1:]] == [10, 11, 12, 13, 14]


def test_kernels_are_turned_to_output_input_and_extent() -> None:
    renamed = rename_garden("tf2", tensors("garden_3d"), blocks=BLOCKS_50, dimensions=3)

    # (T, H, W, in, out) = (5, 3, 3, 3, 32), (3, 1, 1, 1024, 256), (1, 1, 1024, 256), (2048, 400).
    assert renamed["conv1.0.weight"].shape == (32, 3, 5, 3, 3)
    assert renamed["layer3.1.conv1.weight"].shape == (256, 1024, 3, 1, 1)
    assert renamed["layer3.1.se.fc1.weight"].shape == (256, 1024, 1, 1, 1)
    assert renamed["fc.weight"].shape == (400, 2048)
    assert all(value.flags.c_contiguous for value in renamed.values())


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("tpu_2d", lambda given: rename_paper_2d("tf1", given, blocks=BLOCKS_50)),
        ("keras_2d", lambda given: rename_paper_2d("keras-h5", given, blocks=BLOCKS_50)),
        (
            "garden_2d",
            lambda given: rename_garden("tf2", given, blocks=BLOCKS_50, dimensions=2),
        ),
        (
            "garden_3d",
            lambda given: rename_garden("tf2", given, blocks=BLOCKS_50, dimensions=3),
        ),
    ],
)
def test_a_file_may_lack_the_head(name, rename) -> None:
    whole, headless = rename(tensors(name)), rename(without_head(name))

    assert set(whole) - set(headless) == {"fc.weight", "fc.bias"}


def test_the_width_of_the_head_is_the_files() -> None:
    given = tensors("garden_2d") | {
        "model/layer_with_weights-1/kernel": np.zeros((2048, 7), np.float32),
        "model/layer_with_weights-1/bias": np.zeros(7, np.float32),
    }

    renamed = rename_garden("tf2", given, blocks=BLOCKS_50, dimensions=2)

    assert (renamed["fc.weight"].shape, renamed["fc.bias"].shape) == ((7, 2048), (7,))


def test_the_2d_network_of_the_model_garden_is_marked_and_the_others_are_not() -> None:
    garden = rename_garden("tf2", tensors("garden_2d"), blocks=BLOCKS_50, dimensions=2)
    others = [
        rename_garden("tf2", tensors("garden_3d"), blocks=BLOCKS_50, dimensions=3),
        rename_paper_2d("tf1", tensors("tpu_2d"), blocks=BLOCKS_50),
    ]

    mark = garden["model_garden"]
    assert (mark.dtype, mark.shape, mark.item()) == (np.uint8, (), 1)
    assert not any("model_garden" in each for each in others)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_files_with_our_own_names_pass_as_they_are(kind) -> None:
    own = {"conv1.0.weight": np.ones(3)}

    assert rename_paper_2d(kind, own, blocks=BLOCKS_50) == own
    # Not marked: a file of the paper's network must not become one of the Model Garden's.
    assert rename_garden(kind, own, blocks=BLOCKS_50, dimensions=2) == own


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["tpu_2d", "keras_2d", "garden_2d", "garden_3d"])
def test_blocks_are_counted_in_every_layout(name) -> None:
    assert count_blocks(tensors(name)) == BLOCKS_50


@pytest.mark.parametrize(("kind", "name"), [("tf1", "tpu_2d"), ("keras-h5", "keras_2d")])
def test_a_file_of_another_depth_says_which_it_has(kind, name) -> None:
    with pytest.raises(
        WeightsError, match=r"the file has 3-4-6-3 blocks a stage and the network 3-4-23-3"
    ):
        rename_paper_2d(kind, tensors(name), blocks=BLOCKS_101)


@pytest.mark.parametrize(("dimensions", "name"), [(2, "garden_2d"), (3, "garden_3d")])
def test_a_checkpoint_of_another_depth_says_which_it_has(dimensions, name) -> None:
    with pytest.raises(
        WeightsError, match=r"the file has 3-4-6-3 blocks a stage and the network 3-4-23-3"
    ):
        rename_garden("tf2", tensors(name), blocks=BLOCKS_101, dimensions=dimensions)


def test_a_tensor_too_many_is_named() -> None:
    given = tensors("tpu_2d") | {"conv2d_999/kernel": np.zeros((1, 1, 2, 2))}

    with pytest.raises(WeightsError, match=r"holds 1 that it has not \(conv2d_999/kernel\)"):
        rename_paper_2d("tf1", given, blocks=BLOCKS_50)


def test_a_tensor_too_few_is_named() -> None:
    given = tensors("keras_2d")
    del given["predictions/bias"]

    with pytest.raises(WeightsError, match=r"lacks 1 tensors that it needs \(fc\.bias\)"):
        rename_paper_2d("keras-h5", given, blocks=BLOCKS_50)


def test_two_names_for_one_tensor_are_refused() -> None:
    given = tensors("keras_2d")
    given["c2_block_0_conv_1/kernel"] = given["BlockGroup2__block_0__conv_1/kernel"]

    with pytest.raises(WeightsError, match=r"holds 1 that it has not \(c2_block_0_conv_1/kernel\)"):
        rename_paper_2d("keras-h5", given, blocks=BLOCKS_50)


def test_the_two_2d_networks_do_not_take_each_others_files() -> None:
    with pytest.raises(WeightsError, match="resnet_rs_garden_DEPTH"):
        rename_paper_2d("tf2", tensors("garden_2d"), blocks=BLOCKS_50)
    with pytest.raises(WeightsError, match="name the backbone resnet_rs_DEPTH"):
        rename_garden("tf1", tensors("tpu_2d"), blocks=BLOCKS_50, dimensions=2)


def test_images_and_videos_do_not_take_each_others_files() -> None:
    with pytest.raises(WeightsError, match=r"3D ResNet-RS must have .*_temporal_conv/kernel"):
        rename_garden("tf2", tensors("garden_2d"), blocks=BLOCKS_50, dimensions=3)
    with pytest.raises(WeightsError, match=r"2D ResNet-RS must have .*_conv1/kernel"):
        rename_garden("tf2", tensors("garden_3d"), blocks=BLOCKS_50, dimensions=2)
