"""ResNet-RS against the official TensorFlow code: recorded outputs, and mistakes that must show.

`tests/parity/record.py` ran the official networks (tf-models-official 2.20.0, tf_keras 2.20.1, in
float64 on a CPU) with weights and running statistics drawn from the names of the variables, and
kept logits and a summary of each stage. Here the same numbers are drawn again, renamed as a
checkpoint's would be, and loaded into our networks. `make parity` records anew and adds what only
it can do: tensors read from checkpoints that the official code wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from parity.seeding import INPUTS, draw, draw_input, summarise
from rsbench_backbones._resnet_rs_modules import Bottleneck, ResNetRS
from rsbench_backbones.resnet_rs import BACKBONES, GARDEN_2D, GARDEN_3D, PAPER_2D

from rsbench.weights.state import COUNTER

RECORDED = Path(__file__).parent / "parity" / "recorded"
READ = Path(__file__).parents[1] / "build" / "parity" / "read"

AGREEMENT = 1e-9
"""Of the largest number of an output: what float64 leaves after some fifty layers, with room."""
SHOWS = 1e-6
"""What a mistake must change at least: a thousand times the agreement."""

FORMATS = {"garden_2d": "tf2", "garden_3d": "tf2", "tpu_2d": "tf1", "keras_2d": "keras-h5"}
ARCHITECTURES = {
    "garden_2d": GARDEN_2D,
    "garden_3d": GARDEN_3D,
    "tpu_2d": PAPER_2D,
    "keras_2d": PAPER_2D,
}
BACKBONE_NAMES = {
    "garden_2d": "resnet_rs_garden_50",
    "garden_3d": "resnet_rs_3d_50",
    "tpu_2d": "resnet_rs_50",
    "keras_2d": "resnet_rs_50",
}
BY_NAME = {backbone.name: backbone for backbone in BACKBONES}

# Checkpoints that `make parity` has the official code write, and whose network they hold.
CHECKPOINTS = {
    "garden_2d-trained": "garden_2d",
    "garden_2d-best": "garden_2d",
    "garden_2d-plain": "garden_2d",
    "garden_2d-backbone": "garden_2d",
    "garden_2d-save_weights": "garden_2d",
    "garden_3d-trained": "garden_3d",
    "garden_3d-plain": "garden_3d",
    "tpu_2d-trained": "tpu_2d",
    "keras_2d-h5": "keras_2d",
}

State = Mapping[str, torch.Tensor]


def layout(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's variables, as the official code has them."""
    layouts = json.loads((RECORDED / "layouts.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in layouts[name].items()}


def renamed(name: str, kind: str, tensors: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    rename = BY_NAME[BACKBONE_NAMES[name]].rename
    assert rename is not None
    ours = rename(kind, tensors)
    return {key: torch.from_numpy(np.asarray(value)) for key, value in ours.items()}


# Some 300 MB each, so only the last one is kept.
@lru_cache(maxsize=1)
def drawn(name: str) -> State:
    tensors = {key: draw(key, shape) for key, shape in layout(name).items()}
    return renamed(name, FORMATS[name], tensors)


def filled(architecture, state: State) -> ResNetRS:
    """A network in eval mode with these tensors; those of another shape are cut to fit."""
    head = state.get("fc.bias")
    with torch.device("meta"):
        network = ResNetRS(architecture, None if head is None else len(head)).eval()
    expected = network.state_dict()
    cut = {
        key: state[key][tuple(slice(extent) for extent in value.shape)]
        for key, value in expected.items()
        if key in state
    }
    counters = {key: torch.zeros(()) for key in expected if key.endswith(COUNTER)}
    network.load_state_dict(cut | counters, assign=True)
    return network


@torch.inference_mode()
def deviation(network: ResNetRS, name: str, size: str) -> float:
    """Largest difference to the recorded outputs, each relative to its largest number."""
    batch = torch.from_numpy(np.moveaxis(draw_input(size, INPUTS[name][size]), -1, 1).copy())
    outputs = network.stage_maps(batch)
    if network.head is not None:
        outputs["logits"] = network.head(network(batch))
    found = summarise({key: np.moveaxis(value.numpy(), 1, -1) for key, value in outputs.items()})
    assert {"c2", "c3", "c4", "c5"} <= set(found)
    with np.load(RECORDED / f"{name}.npz") as recorded:
        right = {key: recorded[f"{size}/{key}"] for key in found}
    return max(
        float(np.abs(found[key] - right[key]).max() / np.abs(right[key]).max()) for key in found
    )


@cache
def deviation_of_ours(name: str, size: str) -> float:
    return deviation(filled(ARCHITECTURES[name], drawn(name)), name, size)


# -------------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize("size", ["even", "odd"])
@pytest.mark.parametrize("name", FORMATS)
def test_stages_and_logits_are_those_of_the_official_code(name, size) -> None:
    assert deviation_of_ours(name, size) <= AGREEMENT


@pytest.mark.parametrize("name", FORMATS)
def test_the_official_names_are_renamed_to_exactly_ours(name) -> None:
    state = drawn(name)
    with torch.device("meta"):
        expected = BY_NAME[BACKBONE_NAMES[name]].build(len(state["fc.bias"])).state_dict()

    shapes = {k: tuple(v.shape) for k, v in expected.items() if not k.endswith(COUNTER)}
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes


def test_the_recorded_data_is_small() -> None:
    assert sum(path.stat().st_size for path in RECORDED.iterdir()) < 1_000_000


@pytest.mark.parity
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_a_checkpoint_written_by_the_official_code_gives_its_logits(checkpoint) -> None:
    if not (READ / f"{checkpoint}.npz").is_file():
        pytest.skip("tensors read from official checkpoints are not here; `make parity` makes them")
    name = CHECKPOINTS[checkpoint]
    kind = json.loads((READ / f"{checkpoint}.json").read_text())["format"]
    with np.load(READ / f"{checkpoint}.npz") as read:
        tensors = {key: read[key].astype(np.float64) for key in read}
    network = filled(ARCHITECTURES[name], renamed(name, kind, tensors))

    assert (network.head is None) == (checkpoint == "garden_2d-backbone")
    assert deviation(network, name, "even") <= AGREEMENT


# --------------------------------------------------------------------------------- planted mistakes


def assert_caught(
    name: str,
    size: str,
    *,
    architecture=None,
    change: Callable[[Bottleneck], None] | None = None,
) -> None:
    """Plant one mistake; what passes for our network must fail for the mistaken one.

    Args:
        name: Of the recorded network.
        size: Of its input, "even" or "odd".
        architecture: The mistake, where an architecture can express it.
        change: The mistake, made in every block of a filled network.
    """
    mistaken = filled(architecture or ARCHITECTURES[name], drawn(name))
    for block in mistaken.modules():
        if change and isinstance(block, Bottleneck):
            change(block)

    assert deviation_of_ours(name, size) <= AGREEMENT
    assert deviation(mistaken, name, size) > SHOWS


@pytest.mark.parametrize("name", ["garden_2d", "garden_3d"])
def test_symmetric_padding_for_same_is_caught(name) -> None:
    symmetric = replace(ARCHITECTURES[name], padding="symmetric")

    # On odd sizes they are the same padding.
    assert_caught(name, "even", architecture=symmetric)


@pytest.mark.parametrize("name", ["garden_2d", "tpu_2d", "garden_3d"])
def test_a_batch_norm_epsilon_of_a_thousandth_is_caught(name) -> None:
    def with_default_of_keras(block: Bottleneck) -> None:
        block.bn1.eps = block.bn2.eps = block.bn3.eps = 1e-3

    assert_caught(name, "odd", change=with_default_of_keras)


def test_relu_for_swish_is_caught() -> None:
    assert_caught("garden_2d", "odd", architecture=replace(GARDEN_2D, activation="relu"))


def test_a_pool_of_stage_2_left_out_is_caught() -> None:
    without = replace(GARDEN_2D, shortcut="average_pool")

    assert_caught("garden_2d", "even", architecture=without)


@pytest.mark.parametrize("name", ["garden_2d", "garden_3d"])
def test_squeezing_to_a_quarter_of_the_bottleneck_width_is_caught(name) -> None:
    # The expanded width is four times the bottleneck's.
    narrow = replace(ARCHITECTURES[name], squeeze_ratio=0.25 / 4)

    assert_caught(name, "odd", architecture=narrow)


@pytest.mark.parametrize("name", ["garden_2d", "garden_3d"])
def test_the_stride_on_the_first_convolution_of_a_block_is_caught(name) -> None:
    def exchange_strides(block: Bottleneck) -> None:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride

    assert_caught(name, "odd", change=exchange_strides)


def test_squeezing_before_gating_is_caught() -> None:
    def exchange(block: Bottleneck) -> None:
        if block.gate is not None:
            # Both map averages to factors; a block takes its gate first.
            block.gate, block.se = block.se, block.gate

    assert_caught("garden_3d", "odd", change=exchange)


def test_gating_left_out_is_caught() -> None:
    def leave_out(block: Bottleneck) -> None:
        block.gate = None

    assert_caught("garden_3d", "odd", change=leave_out)
