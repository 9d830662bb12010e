"""Inflation: still clips give what pictures gave, and no tensor goes unnamed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rsbench_backbones._resnet_rs_modules import ResNetRS
from rsbench_backbones.resnet_rs import BACKBONES, GARDEN_3D, PAPER_2D
from test_resnet_rs import randomise
from torch import Tensor

from rsbench.errors import WeightsError
from rsbench.weights.inflation import Inflated, inflate

BY_NAME = {backbone.name: backbone for backbone in BACKBONES}


def shallow(dimensions: int, **changes) -> ResNetRS:
    """One block a stage, and nothing that only one of the two dimensions has."""
    architecture = replace(
        PAPER_2D,
        blocks=(1, 1, 1, 1),
        dimensions=dimensions,
        shortcut="strided",
        **({"stem_frames": 5, "stage_frames": (1, 1, 3, 3)} if dimensions == 3 else {}),
        **changes,
    )
    return ResNetRS(architecture, None).double().eval()


def resnet_rs_50(
    num_classes_2d: int | None, num_classes_3d: int | None
) -> tuple[dict[str, Tensor], ResNetRS]:
    with torch.device("meta"):
        video = BY_NAME["resnet_rs_3d_50"]
        assert video.flat is not None
        module = video.build(num_classes_3d)
        return video.flat.build(num_classes_2d).state_dict(), module


def names(fates) -> list[str]:
    return [fate.name for fate in fates]


def reasons(inflated: Inflated) -> dict[str, str]:
    fates = (*inflated.copied, *inflated.changed, *inflated.dropped)
    return dict(fates)


# -------------------------------------------------------------------------------- the arithmetic


def test_a_kernel_is_divided_by_its_frames_and_repeated():
    # By hand: 1x1x2x2 over three frames is three times a third.
    kernel = torch.tensor([[[[3.0, 6.0], [9.0, -3.0]]]])

    inflated = inflate({"conv.weight": kernel}, {"conv.weight": torch.empty(1, 1, 3, 2, 2)})

    expected = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert torch.equal(inflated.state["conv.weight"], expected.expand(1, 1, 3, 2, 2))
    assert inflated.complete


def test_a_still_clip_gives_a_convolutions_answer_to_the_picture():
    torch.manual_seed(0)
    kernel = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    pictures = torch.randn(2, 3, 9, 8, dtype=torch.float64)

    inflated = inflate({"weight": kernel}, {"weight": torch.empty(4, 3, 5, 3, 3)}).state["weight"]
    clips = pictures.unsqueeze(2).expand(-1, -1, 7, -1, -1)
    answer = F.conv3d(clips, inflated, padding=(2, 1, 1))

    # Frames 2 to 4 of 7 see five frames each; the outer ones see the zeros beyond the clip too.
    wanted = F.conv2d(pictures, kernel, padding=1)
    for frame in (2, 3, 4):
        torch.testing.assert_close(answer[:, :, frame], wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(answer[:, :, 0], wanted * 3 / 5, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_still_clip_gives_a_networks_answer_to_the_picture(padding):
    # Without squeeze-and-excitation, whose averages carry the ends of the clip into every frame.
    image = shallow(2, padding=padding, squeeze_ratio=0.0)
    video = shallow(3, padding=padding, squeeze_ratio=0.0)
    randomise(image, seed=1)

    inflated = inflate(image.state_dict(), video.state_dict())
    video.load_state_dict(inflated.state)
    pictures = torch.randn(2, 3, 45, 64, dtype=torch.float64)
    with torch.inference_mode():
        wanted = image.stage_maps(pictures)
        found = video.stage_maps(pictures.unsqueeze(2).expand(-1, -1, 11, -1, -1))

    assert inflated.complete
    assert inflated.note == f"inflated from image weights: all {len(inflated.state)} tensors copied"
    # The stem looks 2 frames to each side, c4 and c5 one more each: frame 5 of 11 sees no end.
    for name, maps in wanted.items():
        assert maps.std() > 1e-3
        torch.testing.assert_close(found[name][:, :, 5], maps, rtol=1e-9, atol=1e-9)


def test_running_statistics_are_copied():
    image, video = shallow(2), shallow(3)
    randomise(image, seed=2)

    state = inflate(image.state_dict(), video.state_dict()).state

    kept = [name for name in image.state_dict() if "running" in name]
    # Four BatchNorms in the stem, four in each of the four blocks.
    assert len(kept) == 2 * (4 + 4 * 4)
    assert all(torch.equal(state[name], image.state_dict()[name]) for name in kept)


# ----------------------------------------------------------------------------------- the account


def test_every_tensor_of_both_networks_is_accounted_for_once():
    flat, module = resnet_rs_50(1000, 400)
    expected = module.state_dict()

    inflated = inflate(flat, expected, notes=module.inflation_notes)

    kept = [*names(inflated.copied), *names(inflated.changed)]
    assert sorted([*kept, *names(inflated.dropped)]) == sorted(flat)
    assert sorted([*kept, *names(inflated.new)]) == sorted(expected)
    assert inflated.state.keys() == set(kept)
    assert all(inflated.state[name].shape == expected[name].shape for name in kept)


def test_what_differs_between_the_two_resnet_rs_is_named():
    flat, module = resnet_rs_50(1000, 400)

    inflated = inflate(flat, module.state_dict(), notes=module.inflation_notes)

    # resnet_3d.py against the TPU code: no stem convolution at its end, another head ...
    assert {name.split(".")[0] for name in names(inflated.dropped)} == {"maxpool", "fc"}
    # ... a gate in the last block of each stage (3-4-6-3), ...
    gates = {"layer1.2.gate", "layer2.3.gate", "layer3.5.gate", "layer4.2.gate"}
    assert {name.rpartition(".fc")[0] for name in names(inflated.new)} == {*gates, ""}
    # ... strided shortcuts, and SAME padding of what strides.
    assert {name.rpartition(".weight")[0] for name in names(inflated.changed)} >= {
        "conv1.0",
        *(f"layer{number}.0.conv2" for number in (2, 3, 4)),
        *(f"layer{number}.0.downsample.1" for number in (2, 3, 4)),
    }
    assert "layer1.0.downsample.1.weight" in names(inflated.copied)
    assert reasons(inflated)["layer3.0.downsample.1.weight"].startswith("strides where")
    assert reasons(inflated)["layer3.1.conv1.weight"] == "kernel over 3 frames, each 1/3"
    assert reasons(inflated)["fc.weight"] == "is 1000x2048, there 400x2048"
    assert not inflated.complete


def test_weights_of_the_model_garden_meet_another_activation_everywhere():
    with torch.device("meta"):
        flat = BY_NAME["resnet_rs_garden_50"].build(None).state_dict()
        module = BY_NAME["resnet_rs_3d_50"].build(None)

    inflated = inflate(flat, module.state_dict(), notes=module.inflation_notes)

    # resnet.py: swish, and SAME padding as in resnet_3d.py; stage 2's shortcut pools as well.
    assert inflated.copied == ()
    told = reasons(inflated)
    assert told["layer3.1.conv2.weight"] == "relu follows, in the image network swish"
    assert told["layer2.0.conv2.weight"] == told["layer3.1.conv2.weight"]
    assert told["layer1.0.downsample.1.weight"] == "sees what the image network pools first"
    assert {name.split(".")[0] for name in names(inflated.dropped)} == {"maxpool", "model_garden"}


def test_a_head_of_equal_width_is_copied():
    flat, module = resnet_rs_50(400, 400)

    inflated = inflate(flat, module.state_dict())

    assert {"fc.weight", "fc.bias"} <= inflated.state.keys()


def test_new_tensors_keep_their_random_start():
    torch.manual_seed(0)
    video = ResNetRS(replace(GARDEN_3D, blocks=(1, 1, 1, 1)), None)
    image = ResNetRS(replace(PAPER_2D, blocks=(1, 1, 1, 1)), None)
    before = {name: value.clone() for name, value in video.state_dict().items()}

    inflated = inflate(image.state_dict(), before)
    video.load_state_dict(inflated.state, strict=False)

    after = video.state_dict()
    assert "layer1.0.gate.fc.weight" in names(inflated.new)
    assert all(torch.equal(after[name], before[name]) for name in names(inflated.new))
    assert all(torch.equal(after[name], value) for name, value in inflated.state.items())


def test_the_report_names_every_tensor_that_is_not_simply_copied():
    flat, module = resnet_rs_50(1000, 400)
    inflated = inflate(flat, module.state_dict(), notes=module.inflation_notes)

    report = "\n".join(inflated.lines())

    for fate in (*inflated.changed, *inflated.dropped, *inflated.new):
        assert fate.name in report
        assert fate.reason in report
    # By hand, of layer1's tensors: 3 blocks of 3 kernels, 3 BatchNorms of 5 tensors and 4 of SE,
    # and a shortcut's kernel and BatchNorm: 22 x 3 + 6 = 72, of which 10 + 6 are kernels.
    assert "as it is: conv1 10, bn1 5, layer1 56," in report
    assert "kernel of 1 frame: conv1 2, layer1 16," in report


def test_a_partial_inflation_says_so_in_one_line():
    flat, module = resnet_rs_50(None, None)

    note = inflate(flat, module.state_dict(), notes=module.inflation_notes).note

    # By hand: 24 tensors in the stem and 16 blocks of 22 with 4 shortcuts of 6 are 400; the stem's
    # last 6 are left. Four kernels and three shortcuts change; four gates have two tensors each.
    assert note.startswith("partial inflation: 394 tensors copied, 22 of them compute otherwise (")
    assert "6 dropped (maxpool.0, maxpool.1)" in note
    assert "8 new (layer1.2.gate.fc, layer2.3.gate.fc, ...)" in note
    assert "\n" not in note


def test_a_file_of_another_kind_of_network_is_refused():
    with pytest.raises(WeightsError, match="none of these 2 tensors"):
        inflate(
            {"blocks.0.weight": torch.zeros(3, 3), "norm.bias": torch.zeros(3)},
            {"conv.weight": torch.empty(1, 1, 3, 2, 2), "norm.bias": torch.empty(3)},
        )
