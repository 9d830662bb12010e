"""The ResNet that the paper's additive study starts from, made of ResNet-RS by its options."""

from __future__ import annotations

import pytest
import torch
import torchvision

from rsbench.errors import RsbenchError
from rsbench.registry import find_backbone
from rsbench.specs import Backbone

PLAIN = "+squeeze_ratio=0+stem=plain+shortcut=strided"


def _network(name: str) -> Backbone:
    return find_backbone(name).spec


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        # torchvision's model pages give these of resnet50 and resnet101 with 1000 classes.
        (f"resnet_rs_50{PLAIN}", 25_557_032),
        (f"resnet_rs_101{PLAIN}", 44_549_160),
        # The 31.7 M of R3D-50 without a head, stem v0: tensorflow/models,
        # official/projects/video_ssl/README.md; the head of 400 classes is 2048 x 400 + 400.
        (
            "resnet_rs_3d_50+squeeze_ratio=0+stem=plain+self_gating=false",
            31_672_128 + 2048 * 400 + 400,
        ),
    ],
)
def test_the_plain_network_has_the_parameters_of_the_old_one(
    name: str, num_parameters: int
) -> None:
    assert _network(name).num_parameters == num_parameters


def test_the_plain_network_computes_what_torchvisions_resnet50_does() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().double().eval()
    ours = _network(f"resnet_rs_50{PLAIN}").build(1000).double().eval()
    # Ours keeps a place for the pool before the convolution of a shortcut.
    renamed = {
        name.replace("downsample.1", "downsample.2").replace("downsample.0", "downsample.1"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    ours.load_state_dict(renamed)
    pictures = torch.randn(2, 3, 65, 64, dtype=torch.double)
    with torch.inference_mode():
        logits = ours.get_submodule("head")(ours(pictures))

        assert torch.equal(logits, theirs(pictures))


def test_the_steps_of_the_study_end_with_the_network_itself() -> None:
    assert _network("resnet_rs_50+squeeze_ratio=0.25+stem=deep").name == "resnet_rs_50"
    assert _network(f"resnet_rs_50{PLAIN}").name == f"resnet_rs_50{PLAIN}"
    assert not _network(f"resnet_rs_50{PLAIN}").weights, "those are of another network"


def test_a_plain_stem_halves_odd_sides_as_tensorflow_does() -> None:
    # tf.keras.layers: Conv2D and MaxPool2D with padding="same" give ceil(size / 2) each.
    network = _network(f"resnet_rs_garden_50{PLAIN}").build(None).eval()
    with torch.inference_mode():
        maps = network.get_submodule("maxpool")(
            network.get_submodule("conv1")(torch.zeros(1, 3, 37, 30))
        )

    assert maps.shape[2:] == (10, 8)


def test_a_plain_video_network_takes_a_plain_image_networks_weights() -> None:
    video = _network("resnet_rs_3d_50+stem=plain+squeeze_ratio=0")

    assert video.flat is not None
    assert video.flat.name == "resnet_rs_50+squeeze_ratio=0+stem=plain"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_rs_50+stem=v0", "stem of resnet_rs_50 must be deep or plain; it was 'v0'"),
        ("resnet_rs_50+shortcut=pooled", "shortcut of .* must be strided, or left out"),
        ("resnet_rs_3d_50+shortcut=strided", "has no option 'shortcut'"),
    ],
)
def test_another_word_is_refused(name: str, message: str) -> None:
    with pytest.raises(RsbenchError, match=message):
        find_backbone(name)
