"""torchvision's networks by `torchvision/NAME`, NAME being torchvision's own: `resnet50`, `r3d_18`.

They are built by torchvision itself (`_torchvision_modules.py`), so they start and compute as there
and their files load by name. Inputs, scores and licences of all their weights are in
`_torchvision_weights.py`; without weights a network sees what its first weights do.

Position embeddings tie a ViT to one size, and the SWAG weights that were fine-tuned whole are of a
larger one than torchvision's default of 224: `vit_b_16_384` and `vit_l_16_512` are for these.
Left out, but at hand as ``./net.py:build``: ViT-H/14, Wide ResNet-101, the larger ResNeXts, and
families older than ResNet or made for phones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rsbench.specs import Backbone, Weights, WeightsFormat

from ._torchvision_weights import VIDEO_ROWS, weights_of

if TYPE_CHECKING:
    from torch import nn

LICENCE = "BSD-3-Clause"
"""Of torchvision, which the networks are part of."""


class _Network(NamedTuple):
    """What is to be said of a network beside its weights."""

    name: str
    title: str
    num_parameters: int
    """With 1000 classes, a video network with 400: `num_params` of its weights' meta."""
    feature_width: int


RESNET = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385"
WIDE = "Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, arXiv:1605.07146"
RESNEXT = (
    "Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017,"
    " arXiv:1611.05431"
)
EFFICIENTNET = (
    "Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML"
    " 2019, arXiv:1905.11946"
)
EFFICIENTNET_V2 = (
    "Tan and Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021, arXiv:2104.00298"
)
CONVNEXT = "Liu et al., A ConvNet for the 2020s, CVPR 2022, arXiv:2201.03545"
VIT = (
    "Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at"
    " Scale, ICLR 2021, arXiv:2010.11929"
)
SWIN = (
    "Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV"
    " 2021, arXiv:2103.14030"
)
SWIN_V2 = (
    "Liu et al., Swin Transformer V2: Scaling Up Capacity and Resolution, CVPR 2022,"
    " arXiv:2111.09883"
)
R2PLUS1D = (
    "Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018,"
    " arXiv:1711.11248"
)
S3D = (
    "Xie et al., Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video"
    " Classification, ECCV 2018, arXiv:1712.04851"
)
MVIT = "Fan et al., Multiscale Vision Transformers, ICCV 2021, arXiv:2104.11227"
MVIT_V2 = (
    "Li et al., MViTv2: Improved Multiscale Vision Transformers for Classification and Detection,"
    " CVPR 2022, arXiv:2112.01526"
)
SWIN3D = "Liu et al., Video Swin Transformer, CVPR 2022, arXiv:2106.13230"

NETWORKS: dict[str, tuple[_Network, ...]] = {
    RESNET: (
        _Network("resnet18", "ResNet-18", 11_689_512, 512),
        _Network("resnet34", "ResNet-34", 21_797_672, 512),
        _Network("resnet50", "ResNet-50", 25_557_032, 2048),
        _Network("resnet101", "ResNet-101", 44_549_160, 2048),
        _Network("resnet152", "ResNet-152", 60_192_808, 2048),
    ),
    WIDE: (_Network("wide_resnet50_2", "Wide ResNet-50-2", 68_883_240, 2048),),
    RESNEXT: (_Network("resnext50_32x4d", "ResNeXt-50 32x4d", 25_028_904, 2048),),
    EFFICIENTNET: (
        _Network("efficientnet_b0", "EfficientNet-B0", 5_288_548, 1280),
        _Network("efficientnet_b1", "EfficientNet-B1", 7_794_184, 1280),
        _Network("efficientnet_b2", "EfficientNet-B2", 9_109_994, 1408),
        _Network("efficientnet_b3", "EfficientNet-B3", 12_233_232, 1536),
        _Network("efficientnet_b4", "EfficientNet-B4", 19_341_616, 1792),
        _Network("efficientnet_b5", "EfficientNet-B5", 30_389_784, 2048),
        _Network("efficientnet_b6", "EfficientNet-B6", 43_040_704, 2304),
        _Network("efficientnet_b7", "EfficientNet-B7", 66_347_960, 2560),
    ),
    EFFICIENTNET_V2: (
        _Network("efficientnet_v2_s", "EfficientNetV2-S", 21_458_488, 1280),
        _Network("efficientnet_v2_m", "EfficientNetV2-M", 54_139_356, 1280),
        _Network("efficientnet_v2_l", "EfficientNetV2-L", 118_515_272, 1280),
    ),
    CONVNEXT: (
        _Network("convnext_tiny", "ConvNeXt-T", 28_589_128, 768),
        _Network("convnext_small", "ConvNeXt-S", 50_223_688, 768),
        _Network("convnext_base", "ConvNeXt-B", 88_591_464, 1024),
        _Network("convnext_large", "ConvNeXt-L", 197_767_336, 1536),
    ),
    VIT: (
        _Network("vit_b_16", "ViT-B/16", 86_567_656, 768),
        _Network("vit_b_16_384", "ViT-B/16 at 384 pixels", 86_859_496, 768),
        _Network("vit_b_32", "ViT-B/32", 88_224_232, 768),
        _Network("vit_l_16", "ViT-L/16", 304_326_632, 1024),
        _Network("vit_l_16_512", "ViT-L/16 at 512 pixels", 305_174_504, 1024),
    ),
    SWIN: (
        _Network("swin_t", "Swin-T", 28_288_354, 768),
        _Network("swin_s", "Swin-S", 49_606_258, 768),
        _Network("swin_b", "Swin-B", 87_768_224, 1024),
    ),
    SWIN_V2: (
        _Network("swin_v2_t", "Swin V2-T", 28_351_570, 768),
        _Network("swin_v2_s", "Swin V2-S", 49_737_442, 768),
        _Network("swin_v2_b", "Swin V2-B", 87_930_848, 1024),
    ),
    R2PLUS1D: (
        _Network("r3d_18", "R3D-18", 33_371_472, 512),
        _Network("mc3_18", "MC3-18", 11_695_440, 512),
        _Network("r2plus1d_18", "R(2+1)D-18", 31_505_325, 512),
    ),
    S3D: (_Network("s3d", "S3D", 8_320_048, 1024),),
    MVIT: (_Network("mvit_v1_b", "MViT-B", 36_610_672, 768),),
    MVIT_V2: (_Network("mvit_v2_s", "MViTv2-S", 34_537_744, 768),),
    SWIN3D: (
        _Network("swin3d_t", "Video Swin-T", 28_158_070, 768),
        _Network("swin3d_s", "Video Swin-S", 49_816_678, 768),
        _Network("swin3d_b", "Video Swin-B", 88_048_984, 1024),
    ),
}
"""Paper -> its networks."""

VITS = {
    "vit_b_16": ("vit_b_16", 224),
    "vit_b_16_384": ("vit_b_16", 384),
    "vit_b_32": ("vit_b_32", 224),
    "vit_l_16": ("vit_l_16", 224),
    "vit_l_16_512": ("vit_l_16", 512),
}
"""ViT -> its torchvision name, and the side in pixels that its position embeddings are for."""

VIT_SIZE = 224
"""What torchvision builds a ViT for where nothing is said."""

_Tensor = TypeVar("_Tensor")


def _build(name: str, image_size: int | None, num_classes: int | None) -> nn.Module:
    from ._torchvision_modules import build_network

    return build_network(name, num_classes, image_size=image_size)


def _backbone(network: _Network, paper: str) -> Backbone:
    name, image_size = VITS.get(network.name, (network.name, None))
    is_video = name in VIDEO_ROWS
    weights = weights_of(name) if image_size is None else _vit_weights(name, image_size)
    return Backbone(
        name=f"torchvision/{network.name}",
        version=1,
        modality="video" if is_video else "image",
        input=next(each.input for each in weights if each.network is None),
        feature_width=network.feature_width,
        num_parameters=network.num_parameters,
        parameters_with_classes=400 if is_video else 1000,
        build=partial(_build, name, image_size),
        weights=weights,
        rename=None if image_size is None else _vit_names,
        title=f"{network.title} of torchvision",
        licence=LICENCE,
        citation=paper,
    )


def _vit_weights(name: str, image_size: int) -> tuple[Weights, ...]:
    """Give the weights for one size; torchvision's own name lists those of other sizes too."""
    weights = weights_of(name)
    if image_size != VIT_SIZE:
        return tuple(each for each in weights if each.input.pixels == image_size)
    return tuple(
        each
        if each.input.pixels == image_size
        else replace(each, network=f"torchvision/{name}_{each.input.pixels}")
        for each in weights
    )


def _vit_names(format: WeightsFormat, tensors: Mapping[str, _Tensor]) -> Mapping[str, _Tensor]:
    """Give tensors by today's names: published ViTs call the layers of an MLP linear_1, linear_2.

    torchvision renames them too while it loads (`MLPBlock._load_from_state_dict`).
    """
    del format  # all are torch files
    return {
        name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3."): tensor
        for name, tensor in tensors.items()
    }


BACKBONES: tuple[Backbone, ...] = tuple(
    _backbone(network, paper) for paper, networks in NETWORKS.items() for network in networks
)
