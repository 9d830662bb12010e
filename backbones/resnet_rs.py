"""ResNet-RS, in 2D as its paper has it and in 3D as the TensorFlow Model Garden has it.

- 2D: Bello et al. 2021, "Revisiting ResNets: Improved Training and Scaling Strategies",
  https://arxiv.org/abs/2103.07579. `resnet_rs_50` to `resnet_rs_420` are the networks of the
  released TPU code and checkpoints: ReLU, symmetric padding, ResNet-D average-pool shortcuts.
  timm's `resnetrs50` to `resnetrs420` are the same networks and their files load unchanged.
- 3D: Du et al. 2021, "Revisiting 3D ResNets for Video Recognition",
  https://arxiv.org/abs/2109.01696. `resnet_rs_3d_50` to `resnet_rs_3d_350` follow
  `official/vision/modeling/backbones/resnet_3d.py` with the Kinetics-400 configuration
  `k400_resnet3drs_50_tpu.yaml`: TensorFlow's SAME padding in space and time, self-gating in the
  last block of a stage, strided 1x1x1 shortcuts. There is no 3D 420, and no public weights exist.

One block definition serves both (`_resnet_rs_modules.py`); an `Architecture` says what differs.

Inputs without weights are those of the official evaluation:

- 2D: 160 pixels (the paper's smallest; it evaluates the deeper ones at up to 320), crop fraction
  0.875, bicubic *without* antialias, ImageNet mean and std, as `tensorflow/tpu` does. timm's
  weights bring timm's own preprocessing (antialiased, other crops), under which the same
  ResNet-RS-50 at the same 160 pixels scores 77.9 where the paper has 78.8.
- 3D: 32 frames x stride 2 in [0, 1] without mean and std, bilinear without antialias
  (`tf.image.resize`), and the 224 pixels of training without margin. The official evaluation runs
  the same network fully convolutionally on 256 pixels, three crops a clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from rsbench.specs import Backbone, InputSpec, Weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """What tells one ResNet-RS from another; the modules read nothing else."""

    dimensions: Literal[2, 3]
    """2 maps (N, C, H, W), 3 maps (N, C, T, H, W)."""
    blocks: tuple[int, ...]
    """Blocks a stage, c2 to c5."""
    padding: Literal["symmetric", "same"]
    """Of strided convolutions: k // 2 on both sides, or TensorFlow's SAME, which puts the odd one
    behind. With stride 1 they are equal."""
    stem_end: Literal["convolution", "max_pool"]
    """What halves the map a second time, at the end of the stem."""
    shortcut: Literal["average_pool", "strided"]
    """How a shortcut shrinks: 2x2 average pool before its 1x1 convolution (ResNet-D), or the
    convolution's own stride."""
    self_gating: bool
    """Whether the last block of each stage gates its channels, before squeeze-and-excitation."""
    zero_last_gamma: bool
    """Whether a residual branch starts as zero: the scale of its last BatchNorm."""
    head_init: Literal["normal", "uniform"]
    """Classifier kernel: N(0, 0.01), or uniform in +-0.05."""
    stem_frames: int = 1
    """Temporal kernel of the first convolution."""
    stem_frame_stride: int = 1
    """Temporal stride of the first convolution, the only one in time."""
    stage_frames: tuple[int, ...] = (1, 1, 1, 1)
    """Temporal kernel of the first convolution of every block, by stage."""
    squeeze_ratio: float = 0.25
    """Width inside squeeze-and-excitation, over the *expanded* width of the block."""


PAPER_2D = Architecture(
    dimensions=2,
    blocks=(3, 4, 6, 3),
    padding="symmetric",
    stem_end="convolution",
    shortcut="average_pool",
    self_gating=False,
    zero_last_gamma=True,
    head_init="normal",
)
"""Depth 50 of tensorflow/tpu, `models/official/resnet/resnet_model.py`."""

GARDEN_3D = Architecture(
    dimensions=3,
    blocks=(3, 4, 6, 3),
    padding="same",
    stem_end="max_pool",
    shortcut="strided",
    self_gating=True,
    zero_last_gamma=False,
    head_init="uniform",
    stem_frames=5,
    stem_frame_stride=2,
    stage_frames=(1, 1, 3, 3),
)
"""Depth 50 of tensorflow/models, `official/vision/modeling/backbones/resnet_3d.py`."""

# Paper, table 11; resnet_model.py (2D); RESNET_SPECS of resnet_3d.py (3D, which adds 300).
BLOCKS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    300: (4, 36, 54, 4),
    350: (4, 36, 72, 4),
    420: (4, 44, 87, 4),
}

# Trainable parameters with 1000 classes: the TPU code and timm agree for all seven.
PARAMETERS_2D = {
    50: 35_691_912,
    101: 63_618_696,
    152: 86_621_576,
    200: 93_209_992,
    270: 129_861_448,
    350: 163_956_168,
    420: 191_891_656,
}

# Trainable parameters with 400 classes, counted in the Model Garden code.
PARAMETERS_3D = {
    50: 48_129_840,
    101: 84_969_520,
    152: 114_788_144,
    200: 121_376_560,
    270: 169_038_064,
    300: 174_087_536,
    350: 213_094_256,
}

INPUT_2D = InputSpec(pixels=160, interpolation="bicubic", antialias=False, crop_ratio=0.875)
INPUT_3D = InputSpec(
    pixels=224,
    frames=32,
    stride=2,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    interpolation="bilinear",
    antialias=False,
)

# depth: pixels, crop ratio, top-1 there. Pixels and crops are timm's default_cfg; scores are its
# own evaluation, results/results-imagenet.csv, at these pixels.
TIMM_WEIGHTS = {
    50: (160, 0.91, 77.858),
    101: (192, 0.94, 80.706),
    152: (256, 1.0, 82.900),
    200: (256, 1.0, 83.884),
    270: (256, 1.0, 83.596),
    350: (288, 1.0, 84.304),
    420: (320, 1.0, 84.240),
}


def _timm_weights(depth: int) -> Weights:
    pixels, crop_ratio, top1 = TIMM_WEIGHTS[depth]
    # Despite its tag: timm's change log lists the file among the weights timm trained on TPUs.
    google = depth != 200
    return Weights(
        name=f"resnetrs{depth}.tf_in1k",
        url=f"timm/resnetrs{depth}.tf_in1k",
        format="safetensors",
        trained_on=("imagenet1k",),
        num_classes=1000,
        input=InputSpec(pixels=pixels, interpolation="bicubic", crop_ratio=crop_ratio),
        published={"imagenet1k/top1": top1},
        published_conditions=(
            f"timm's own evaluation, one view of {pixels} pixels, crop {crop_ratio}, PIL bicubic"
        ),
        licence="Apache-2.0",
        source=(
            "averaged (EMA) weights of the released TPU checkpoint, converted by timm"
            if google
            else "trained by timm, not Google's checkpoint in spite of the tag"
        ),
    )


def _build(architecture: Architecture, num_classes: int | None) -> nn.Module:
    from ._resnet_rs_modules import ResNetRS

    return ResNetRS(architecture, num_classes)


def _backbone_2d(depth: int) -> Backbone:
    return Backbone(
        name=f"resnet_rs_{depth}",
        version=1,
        modality="image",
        input=INPUT_2D,
        feature_width=2048,
        num_parameters=PARAMETERS_2D[depth],
        parameters_with_classes=1000,
        build=partial(_build, replace(PAPER_2D, blocks=BLOCKS[depth])),
        weights=(_timm_weights(depth),),
        title=f"ResNet-RS-{depth}",
        licence="Apache-2.0",
        citation=(
            "Bello et al., Revisiting ResNets: Improved Training and Scaling Strategies, "
            "NeurIPS 2021, arXiv:2103.07579"
        ),
    )


def _backbone_3d(depth: int) -> Backbone:
    return Backbone(
        name=f"resnet_rs_3d_{depth}",
        version=1,
        modality="video",
        input=INPUT_3D,
        feature_width=2048,
        num_parameters=PARAMETERS_3D[depth],
        parameters_with_classes=400,
        build=partial(_build, replace(GARDEN_3D, blocks=BLOCKS[depth])),
        title=f"3D ResNet-RS-{depth}",
        licence="Apache-2.0",
        citation=("Du et al., Revisiting 3D ResNets for Video Recognition, 2021, arXiv:2109.01696"),
    )


BACKBONES: tuple[Backbone, ...] = (
    *(_backbone_2d(depth) for depth in PARAMETERS_2D),
    *(_backbone_3d(depth) for depth in PARAMETERS_3D),
)
