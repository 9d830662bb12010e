"""Networks on items of another modality, against the loop written out."""

from __future__ import annotations

import pytest
import torch
from rsbench_backbones.tiny import BACKBONES

from rsbench.errors import RsbenchError
from rsbench.lifting import lift

TINY_2D, TINY_3D = BACKBONES


@pytest.fixture
def image_net():
    torch.manual_seed(0)
    return TINY_2D.build(4).double().eval()


@pytest.fixture
def video_net():
    torch.manual_seed(0)
    return TINY_3D.build(4).double().eval()


def clips(num: int = 3, frames: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(num, 3, frames, 32, 32, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("modality", ["image", "video", "volume"])
def test_equal_modalities_leave_the_network_as_it_is(image_net, modality):
    lifted, lifting = lift(image_net, backbone_modality=modality, task_modality=modality)
    assert lifted is image_net
    assert lifting == "none"


@torch.inference_mode()
def test_an_image_network_averages_its_features_over_the_frames(image_net):
    lifted, lifting = lift(image_net, backbone_modality="image", task_modality="video")
    batch = clips()
    expected = [
        sum(image_net(batch[n : n + 1, :, t]) for t in range(5))[0] / 5 for n in range(len(batch))
    ]
    assert lifting == "frame_mean"
    torch.testing.assert_close(lifted(batch), torch.stack(expected))


@torch.inference_mode()
def test_a_frame_mean_does_not_see_the_order_of_frames(image_net):
    lifted, _ = lift(image_net, backbone_modality="image", task_modality="video")
    torch.testing.assert_close(lifted(clips()), lifted(clips().flip(2)))


@torch.inference_mode()
def test_a_video_network_sees_a_picture_as_a_still_clip(video_net):
    lifted, lifting = lift(video_net, backbone_modality="video", task_modality="image", frames=8)
    pictures = clips()[:, :, 0]
    expected = video_net(torch.stack([pictures] * 8, dim=2))
    assert lifting == "still_clip"
    torch.testing.assert_close(lifted(pictures), expected)


@torch.inference_mode()
def test_maps_of_a_frame_mean_keep_their_frames(image_net):
    lifted, _ = lift(image_net, backbone_modality="image", task_modality="video")
    batch = clips()
    maps = lifted.stage_maps(batch)
    assert maps["s3"].shape == (3, 32, 5, 4, 4)
    torch.testing.assert_close(maps["s2"][:, :, 3], image_net.stage_maps(batch[:, :, 3])["s2"])


@torch.inference_mode()
def test_maps_of_a_still_clip_are_averaged_over_time(video_net):
    lifted, _ = lift(video_net, backbone_modality="video", task_modality="image", frames=8)
    maps = lifted.stage_maps(clips()[:, :, 0])
    assert maps["s3"].shape == (3, 32, 4, 4)


def test_the_head_is_the_one_inside_and_its_names_are_not_doubled(image_net):
    lifted, _ = lift(image_net, backbone_modality="image", task_modality="video")
    assert lifted.head is image_net.head
    assert len(lifted.state_dict()) == len(image_net.state_dict())
    lifted.head = torch.nn.Linear(32, 9)
    assert image_net.head.out_features == 9
    assert lifted.head is image_net.head


def test_a_network_without_a_head_lifts_without_one():
    bare = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    lifted, _ = lift(bare, backbone_modality="image", task_modality="video")
    assert lifted.head is None
    assert lifted(clips()).shape == (3, 3)


@torch.inference_mode()
def test_eval_mode_reaches_the_network_inside(image_net):
    lifted, _ = lift(image_net.train(), backbone_modality="image", task_modality="video")
    lifted.eval()
    assert not image_net.training


def test_a_still_clip_without_a_length_is_an_error(video_net):
    with pytest.raises(RsbenchError, match="frames of its InputSpec"):
        lift(video_net, backbone_modality="video", task_modality="image")


@pytest.mark.parametrize(
    ("backbone", "task"), [("image", "volume"), ("volume", "image"), ("volume", "video")]
)
def test_a_pair_without_a_rule_is_an_error(image_net, backbone, task):
    with pytest.raises(RsbenchError, match=f"for {backbone} items can't read {task} items"):
        lift(image_net, backbone_modality=backbone, task_modality=task)
