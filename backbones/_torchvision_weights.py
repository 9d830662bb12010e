"""Weights that torchvision publishes, as its own metadata has them.

Every figure is that of `torchvision.models.get_model_weights(NAME)`; a test compares them all, so
a torchvision that changes one is noticed. They stand here because lists of backbones must not wait
for torchvision to be imported.

- The eight digits in a file's name are the first of its sha256; torchvision checks them too.
- Sizes are published in megabytes with three decimals, which is no exact number of bytes: absent.
- torchvision names a licence for the SWAG weights only, and says of all others that terms may
  derive from the data they were trained on: absent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from rsbench.kinetics_names import KINETICS400
from rsbench.specs import InputSpec, Views, Weights
from rsbench.synsets import IMAGENET1K

FOLDER = "https://download.pytorch.org/models"

V1, V2 = "IMAGENET1K_V1", "IMAGENET1K_V2"
SWAG_E2E, SWAG_LINEAR = "IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1"

ImageRow = tuple[str, str, int, int, Literal["bilinear", "bicubic"], float, float]
"""Name, file, pixels of the crop and of the short side it is cut from, interpolation, top-1 and
top-5 on ImageNet-1k in percent."""

IMAGE_ROWS: dict[str, tuple[ImageRow, ...]] = {
    "resnet18": ((V1, "resnet18-f37072fd", 224, 256, "bilinear", 69.758, 89.078),),
    "resnet34": ((V1, "resnet34-b627a593", 224, 256, "bilinear", 73.314, 91.42),),
    "resnet50": (
        (V1, "resnet50-0676ba61", 224, 256, "bilinear", 76.13, 92.862),
        (V2, "resnet50-11ad3fa6", 224, 232, "bilinear", 80.858, 95.434),
    ),
    "resnet101": (
        (V1, "resnet101-63fe2227", 224, 256, "bilinear", 77.374, 93.546),
        (V2, "resnet101-cd907fc2", 224, 232, "bilinear", 81.886, 95.78),
    ),
    "resnet152": (
        (V1, "resnet152-394f9c45", 224, 256, "bilinear", 78.312, 94.046),
        (V2, "resnet152-f82ba261", 224, 232, "bilinear", 82.284, 96.002),
    ),
    "wide_resnet50_2": (
        (V1, "wide_resnet50_2-95faca4d", 224, 256, "bilinear", 78.468, 94.086),
        (V2, "wide_resnet50_2-9ba9bcbe", 224, 232, "bilinear", 81.602, 95.758),
    ),
    "resnext50_32x4d": (
        (V1, "resnext50_32x4d-7cdf4587", 224, 256, "bilinear", 77.618, 93.698),
        (V2, "resnext50_32x4d-1a0047aa", 224, 232, "bilinear", 81.198, 95.34),
    ),
    "efficientnet_b0": (
        (V1, "efficientnet_b0_rwightman-7f5810bc", 224, 256, "bicubic", 77.692, 93.532),
    ),
    "efficientnet_b1": (
        (V1, "efficientnet_b1_rwightman-bac287d4", 240, 256, "bicubic", 78.642, 94.186),
        (V2, "efficientnet_b1-c27df63c", 240, 255, "bilinear", 79.838, 94.934),
    ),
    "efficientnet_b2": (
        (V1, "efficientnet_b2_rwightman-c35c1473", 288, 288, "bicubic", 80.608, 95.31),
    ),
    "efficientnet_b3": (
        (V1, "efficientnet_b3_rwightman-b3899882", 300, 320, "bicubic", 82.008, 96.054),
    ),
    "efficientnet_b4": (
        (V1, "efficientnet_b4_rwightman-23ab8bcd", 380, 384, "bicubic", 83.384, 96.594),
    ),
    "efficientnet_b5": (
        (V1, "efficientnet_b5_lukemelas-1a07897c", 456, 456, "bicubic", 83.444, 96.628),
    ),
    "efficientnet_b6": (
        (V1, "efficientnet_b6_lukemelas-24a108a5", 528, 528, "bicubic", 84.008, 96.916),
    ),
    "efficientnet_b7": (
        (V1, "efficientnet_b7_lukemelas-c5b4e57e", 600, 600, "bicubic", 84.122, 96.908),
    ),
    "efficientnet_v2_s": (
        (V1, "efficientnet_v2_s-dd5fe13b", 384, 384, "bilinear", 84.228, 96.878),
    ),
    "efficientnet_v2_m": (
        (V1, "efficientnet_v2_m-dc08266a", 480, 480, "bilinear", 85.112, 97.156),
    ),
    "efficientnet_v2_l": ((V1, "efficientnet_v2_l-59c71312", 480, 480, "bicubic", 85.808, 97.788),),
    "convnext_tiny": ((V1, "convnext_tiny-983f1562", 224, 236, "bilinear", 82.52, 96.146),),
    "convnext_small": ((V1, "convnext_small-0c510722", 224, 230, "bilinear", 83.616, 96.65),),
    "convnext_base": ((V1, "convnext_base-6075fbad", 224, 232, "bilinear", 84.062, 96.87),),
    "convnext_large": ((V1, "convnext_large-ea097f82", 224, 232, "bilinear", 84.414, 96.976),),
    "vit_b_16": (
        (V1, "vit_b_16-c867db91", 224, 256, "bilinear", 81.072, 95.318),
        (SWAG_E2E, "vit_b_16_swag-9ac1b537", 384, 384, "bicubic", 85.304, 97.65),
        (SWAG_LINEAR, "vit_b_16_lc_swag-4e70ced5", 224, 224, "bicubic", 81.886, 96.18),
    ),
    "vit_b_32": ((V1, "vit_b_32-d86f8d99", 224, 256, "bilinear", 75.912, 92.466),),
    "vit_l_16": (
        (V1, "vit_l_16-852ce7e3", 224, 242, "bilinear", 79.662, 94.638),
        (SWAG_E2E, "vit_l_16_swag-4f3808c9", 512, 512, "bicubic", 88.064, 98.512),
        (SWAG_LINEAR, "vit_l_16_lc_swag-4d563306", 224, 224, "bicubic", 85.146, 97.422),
    ),
    "swin_t": ((V1, "swin_t-704ceda3", 224, 232, "bicubic", 81.474, 95.776),),
    "swin_s": ((V1, "swin_s-5e29d889", 224, 246, "bicubic", 83.196, 96.36),),
    "swin_b": ((V1, "swin_b-68c6b09e", 224, 238, "bicubic", 83.582, 96.64),),
    "swin_v2_t": ((V1, "swin_v2_t-b137f0e2", 256, 260, "bicubic", 82.072, 96.132),),
    "swin_v2_s": ((V1, "swin_v2_s-637d8ceb", 256, 260, "bicubic", 83.712, 96.816),),
    "swin_v2_b": ((V1, "swin_v2_b-781e5279", 256, 272, "bicubic", 84.112, 96.864),),
}

HALF_MEAN = ("efficientnet_v2_l",)
"""Networks whose mean and std are 0.5 throughout; all other image networks have ImageNet's."""

# torchvision.transforms._presets.VideoClassification: never antialiased, and these mean and std
# unless the weights name others.
_VIDEO = InputSpec(
    pixels=224,
    antialias=False,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
)
# Frames are those of "clip_len"; the stride is 30 frames a second, as most of Kinetics has, over
# "frame_rate": both in the `_docs` of each weights' meta.
_VIDEO_RESNET = replace(_VIDEO, pixels=112, frames=16, stride=2, resize_to=(128, 171))
_S3D = replace(_VIDEO, frames=128, stride=2, resize_to=(256, 256))
_MVIT = replace(
    _VIDEO, frames=16, stride=4, crop_ratio=224 / 256, mean=(0.45,) * 3, std=(0.225,) * 3
)
_SWIN3D = replace(
    _VIDEO,
    frames=32,
    stride=2,
    crop_ratio=224 / 256,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

SAMPLER = "ptv@1"
"""Nearest to the clips of torchvision's evaluation (references/video_classification): frames at a
fixed rate in seconds, and `UniformClipSampler`, from the first possible start to the last, a single
clip at the first. A frame lies at most two strides from torchvision's own."""

K400, K400_22K = "KINETICS400_V1", "KINETICS400_IMAGENET22K_V1"

VideoRow = tuple[str, str, InputSpec, int, tuple[str, ...], float, float]
"""Name, file, input, clips a video, what was seen before Kinetics-400, top-1 and top-5 there in
percent."""

# Video Swin was pretrained on images: the table of its README, which the meta's recipe points to.
VIDEO_ROWS: dict[str, tuple[VideoRow, ...]] = {
    "r3d_18": ((K400, "r3d_18-b3b3357e", _VIDEO_RESNET, 5, (), 63.2, 83.479),),
    "mc3_18": ((K400, "mc3_18-a90a0ba3", _VIDEO_RESNET, 5, (), 63.96, 84.13),),
    "r2plus1d_18": ((K400, "r2plus1d_18-91a641e6", _VIDEO_RESNET, 5, (), 67.463, 86.175),),
    "s3d": ((K400, "s3d-d76dad2f", _S3D, 1, (), 68.368, 88.05),),
    "mvit_v1_b": ((K400, "mvit_v1_b-dbeb1030", _MVIT, 5, (), 78.477, 93.582),),
    "mvit_v2_s": ((K400, "mvit_v2_s-ae3be167", _MVIT, 5, (), 80.757, 94.665),),
    "swin3d_t": ((K400, "swin3d_t-7615ae03", _SWIN3D, 12, ("imagenet1k",), 77.715, 93.519),),
    "swin3d_s": ((K400, "swin3d_s-da41c237", _SWIN3D, 12, ("imagenet1k",), 79.521, 94.158),),
    "swin3d_b": (
        (K400, "swin3d_b_1k-24f7c7c6", _SWIN3D, 12, ("imagenet1k",), 79.427, 94.386),
        (K400_22K, "swin3d_b_22k-7c6ae6fa", _SWIN3D, 12, ("imagenet22k",), 81.643, 95.574),
    ),
}


def weights_of(network: str) -> tuple[Weights, ...]:
    """Give all weights of a network, by its torchvision name."""
    if network in VIDEO_ROWS:
        return tuple(_video_weights(network, row) for row in VIDEO_ROWS[network])
    return tuple(_image_weights(network, row) for row in IMAGE_ROWS[network])


def _image_weights(network: str, row: ImageRow) -> Weights:
    name, file, crop, resized, interpolation, top1, top5 = row
    given = InputSpec(pixels=crop, crop_ratio=crop / resized, interpolation=interpolation)
    if network in HALF_MEAN:
        given = replace(given, mean=(0.5,) * 3, std=(0.5,) * 3)
    swag = "SWAG" in name
    return Weights(
        name=name,
        url=f"{FOLDER}/{file}.pth",
        sha256=file.rpartition("-")[2],
        format="torch",
        # SWAG: 3.6 billion images of Instagram by their hashtags, arXiv:2201.08371.
        trained_on=("ig3.6b", "imagenet1k") if swag else ("imagenet1k",),
        num_classes=1000,
        classes=IMAGENET1K,
        input=given,
        published={"imagenet1k/top1": top1, "imagenet1k/top5": top5},
        published_conditions=(
            f"torchvision's own evaluation, one centre crop of {crop} out of {resized} pixels"
        ),
        licence="CC-BY-NC-4.0" if swag else "",
        source=f"torchvision.models.get_model_weights('{network}').{name}",
    )


def _video_weights(network: str, row: VideoRow) -> Weights:
    name, file, given, clips, seen_before, top1, top5 = row
    level = "clip" if network == "s3d" else "video"
    return Weights(
        name=name,
        url=f"{FOLDER}/{file}.pth",
        sha256=file.rpartition("-")[2],
        format="torch",
        trained_on=(*seen_before, "kinetics400"),
        num_classes=400,
        classes=KINETICS400,
        input=given,
        published={"kinetics400/top1": top1, "kinetics400/top5": top5},
        published_conditions=(
            f"torchvision's own evaluation, {level} level, {clips} centre-cropped clips a video,"
            f" {given.frames} frames at {30 / given.stride:g} a second whatever the video's rate"
        ),
        views=Views(clips=clips),
        sampler=SAMPLER,
        source=f"torchvision.models.get_model_weights('{network}').{name}",
    )
