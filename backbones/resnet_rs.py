"""ResNet-RS: both 2D networks that bear the name, and the 3D one of the TensorFlow Model Garden.

- 2D: Bello et al. 2021, "Revisiting ResNets: Improved Training and Scaling Strategies",
  https://arxiv.org/abs/2103.07579. `resnet_rs_50` to `resnet_rs_420` are the networks of the
  released TPU code and checkpoints: ReLU, symmetric padding, ResNet-D average-pool shortcuts.
  timm's `resnetrs50` to `resnetrs420` are the same networks and their files load unchanged.
- 2D of the Model Garden: `resnet_rs_garden_50` to `resnet_rs_garden_420`, of
  `official/vision/modeling/backbones/resnet.py` with the configurations `imagenet_resnetrs*.yaml`:
  swish, TensorFlow's SAME padding, a pool on stage 2's shortcut too. Names and shapes of its
  parameters are the paper network's, so its files carry a mark: neither loads the other's.
- 3D: Du et al. 2021, "Revisiting 3D ResNets for Video Recognition",
  https://arxiv.org/abs/2109.01696. `resnet_rs_3d_50` to `resnet_rs_3d_350` follow
  `official/vision/modeling/backbones/resnet_3d.py` with the Kinetics-400 configuration
  `k400_resnet3drs_50_tpu.yaml`: TensorFlow's SAME padding in space and time, self-gating in the
  last block of a stage, strided 1x1x1 shortcuts; in training dropout 0.5 and stochastic depth 0.1,
  as it says for all. There is no 3D 420, and no public weights exist.

One block definition serves all three (`_resnet_rs_modules.py`); an `Architecture` says what
differs. Any other size is named by options, ``resnet_rs_50+width=0.5+squeeze_ratio=0.125``
(`_resnet_rs_options.py`).

Inputs without weights are those of the official evaluation:

- 2D: the smallest that the paper trained the depth at, ImageNet mean and std; bicubic *without*
  antialias and 32 pixels of margin as `tensorflow/tpu` does, or bilinear and a crop of 0.875 as the
  Model Garden does. timm's weights bring timm's own preprocessing (antialiased, other crops),
  under which the same ResNet-RS-50 at the same 160 pixels scores 77.9 where the paper has 78.8.
- 3D: 32 frames x stride 2 in [0, 1] without mean and std, bilinear without antialias
  (`tf.image.resize`), and the 224 pixels of training without margin. The official evaluation runs
  the same network fully convolutionally on 256 pixels, three crops a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from rsbench.specs import Backbone, InputSpec, Scalar, Weights, WeightsFormat

from ._resnet_rs_options import TRAINING_ONLY, read_options, words_for
from ._resnet_rs_weights import weights_2d, weights_garden

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """What tells one ResNet-RS from another; the modules read nothing else."""

    dimensions: Literal[2, 3]
    """2 maps (N, C, H, W), 3 maps (N, C, T, H, W)."""
    blocks: tuple[int, ...]
    """Blocks a stage, c2 to c5."""
    activation: Literal["relu", "swish"]
    """After every convolution with its BatchNorm in stem and branches, the last of a branch apart,
    and after every addition. Inside squeeze-and-excitation it is always ReLU."""
    padding: Literal["symmetric", "same"]
    """Of strided convolutions: k // 2 on both sides, or TensorFlow's SAME, which puts the odd one
    behind. With stride 1 they are equal."""
    stem_end: Literal["convolution", "max_pool"]
    """What halves the map a second time, at the end of a deep stem; of a plain one it is always a
    3x3 max pool."""
    shortcut: Literal["average_pool", "average_pool_throughout", "strided"]
    """How a shortcut shrinks: by a 2x2 average pool before its 1x1 convolution (ResNet-D), with
    such a pool in stage 2 as well, where it has stride 1, or by the convolution's own stride."""
    stem: Literal["deep", "plain"] = "deep"
    """What the stem begins with: three 3x3 convolutions (ResNet-D), or the one 7x7 convolution of
    ResNet as it was before."""
    self_gating: bool
    """Whether the last block of each stage gates its channels, before squeeze-and-excitation."""
    zero_last_gamma: bool
    """Whether a residual branch starts as zero: the scale of its last BatchNorm."""
    head_init: Literal["normal", "uniform"]
    """Classifier kernel: N(0, 0.01), or uniform in +-0.05."""
    stem_frames: int = 1
    """Temporal kernel of the first convolution."""
    stem_frame_stride: int = 1
    """Temporal stride of the first convolution."""
    stage_frames: tuple[int, ...] = (1, 1, 1, 1)
    """Temporal kernel of the first convolution of every block, by stage."""
    stem_pool_stride: int = 1
    """Temporal stride of the stem's max pool, 1 or 2."""
    squeeze_ratio: float = 0.25
    """Width inside squeeze-and-excitation, over the *expanded* width of the block; 0 has none."""
    width: float = 1.0
    """Multiplies the channels of stem and stages; fractions are cut off, as resnet.py does."""
    head_dropout: float = 0.0
    """Probability, in training, that the classifier does not see a feature."""
    stochastic_depth: float = 0.0
    """Probability, in training, that a block of the last stage is skipped; 2/5, 3/5 and 4/5 of it
    in the stages before."""
    mark: str = ""
    """Name of a tensor that is saved with the parameters and says whose they are, for a network
    whose shapes are another's; empty for none."""


PAPER_2D = Architecture(
    dimensions=2,
    blocks=(3, 4, 6, 3),
    activation="relu",
    padding="symmetric",
    stem_end="convolution",
    shortcut="average_pool",
    self_gating=False,
    zero_last_gamma=True,
    head_init="normal",
)
"""Depth 50 of tensorflow/tpu, `models/official/resnet/resnet_model.py`."""

GARDEN_2D = Architecture(
    dimensions=2,
    blocks=(3, 4, 6, 3),
    activation="swish",
    padding="same",
    stem_end="convolution",
    shortcut="average_pool_throughout",
    self_gating=False,
    zero_last_gamma=False,
    head_init="uniform",
    mark="model_garden",
)
"""Depth 50 of tensorflow/models, `official/vision/modeling/backbones/resnet.py`."""

GARDEN_3D = Architecture(
    dimensions=3,
    blocks=(3, 4, 6, 3),
    activation="relu",
    padding="same",
    stem_end="max_pool",
    shortcut="strided",
    self_gating=True,
    zero_last_gamma=False,
    head_init="uniform",
    stem_frames=5,
    stem_frame_stride=2,
    stage_frames=(1, 1, 3, 3),
    head_dropout=0.5,
    stochastic_depth=0.1,
)
"""Depth 50 of tensorflow/models, `official/vision/modeling/backbones/resnet_3d.py`."""

# Blocks a stage, c2 to c5. Paper, table 11; 300 and 400 are of its scaling study (appendix E).
# resnet_model.py and resnet.py (2D) lack these two; resnet_3d.py has 300 and lacks 420.
BLOCKS: dict[int, tuple[int, ...]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    300: (4, 36, 54, 4),
    350: (4, 36, 72, 4),
    400: (6, 48, 72, 6),
    420: (4, 44, 87, 4),
}


class PublishedRow(NamedTuple):
    """One model at one resolution, as the paper trained it for 350 epochs."""

    depth: int
    pixels: int
    top1: float
    """ImageNet validation, one view, in percent."""
    randaugment: int
    """Magnitude of RandAugment's two layers."""
    dropout: float
    """Of the classifier's input."""
    stochastic_depth: float
    """Rate of the last stage."""


# Top-1: tensorflow/tpu, models/official/resnet/resnet_rs/README.md; the rest: configs/*.yaml there.
PUBLISHED_ROWS = (
    # depth @ pixels, top-1, RandAugment, dropout, stochastic depth
    PublishedRow(50, 160, 78.8, 10, 0.25, 0.0),
    PublishedRow(101, 160, 80.3, 10, 0.25, 0.0),
    PublishedRow(101, 192, 81.2, 15, 0.25, 0.0),
    PublishedRow(152, 192, 82.0, 15, 0.25, 0.0),
    PublishedRow(152, 224, 82.2, 15, 0.25, 0.0),
    PublishedRow(152, 256, 83.0, 15, 0.25, 0.0),
    PublishedRow(200, 256, 83.4, 15, 0.25, 0.1),
    PublishedRow(270, 256, 83.8, 15, 0.25, 0.1),
    PublishedRow(350, 256, 84.0, 15, 0.25, 0.1),
    PublishedRow(350, 320, 84.2, 15, 0.4, 0.1),
    PublishedRow(420, 320, 84.4, 15, 0.4, 0.1),
)

# k400_resnet3drs_50_tpu.yaml, which says it for all depths. RandAugment is not used on clips.
PUBLISHED_3D: Mapping[str, Scalar] = {
    "dropout": GARDEN_3D.head_dropout,
    "stochastic_depth": GARDEN_3D.stochastic_depth,
}

# Trainable parameters with 1000 classes. The TPU code, the Model Garden and timm agree; 300 and 400
# are counted from timm's ResNet of these blocks.
PARAMETERS_2D = {
    50: 35_691_912,
    101: 63_618_696,
    152: 86_621_576,
    200: 93_209_992,
    270: 129_861_448,
    300: 134_386_632,
    350: 163_956_168,
    400: 182_229_064,
    420: 191_891_656,
}
PARAMETERS_GARDEN = {
    depth: number for depth, number in PARAMETERS_2D.items() if depth not in (300, 400)
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

# The smallest that each depth was trained at; the study's own two have what lies around them.
PIXELS_2D = {
    **{row.depth: row.pixels for row in reversed(PUBLISHED_ROWS)},
    300: 256,
    400: 256,
}

INPUTS_2D = {
    depth: InputSpec(
        pixels=pixels,
        interpolation="bicubic",
        antialias=False,
        # resnet_preprocessing.py leaves 32 pixels of what it resizes: 0.875 at 224 alone.
        crop_ratio=pixels / (pixels + 32),
        resizer="tpu",
    )
    for depth, pixels in PIXELS_2D.items()
}
INPUTS_GARDEN = {
    depth: replace(
        INPUTS_2D[depth], interpolation="bilinear", crop_ratio=0.875, resizer="model_garden"
    )
    for depth in PARAMETERS_GARDEN
}
INPUT_3D = InputSpec(
    pixels=224,
    frames=32,
    stride=2,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    interpolation="bilinear",
    antialias=False,
)

Tensors = Mapping[str, "np.ndarray"]
"""What a file holds, by name."""


def _rename_paper(architecture: Architecture, format: WeightsFormat, tensors: Tensors) -> Tensors:
    from ._resnet_rs_names import rename_paper_2d

    return rename_paper_2d(format, tensors, blocks=architecture.blocks)


def _rename_garden(architecture: Architecture, format: WeightsFormat, tensors: Tensors) -> Tensors:
    from ._resnet_rs_names import rename_garden

    return rename_garden(
        format, tensors, blocks=architecture.blocks, dimensions=architecture.dimensions
    )


def _no_weights(depth: int) -> tuple[Weights, ...]:
    del depth
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Networks of one kind, which differ in depth."""

    name: str
    title: str
    architecture: Architecture
    """Of depth 50."""
    parameters: Mapping[int, int]
    """By depth, with a head of `num_classes`."""
    num_classes: int
    inputs: Mapping[int, InputSpec]
    """By depth."""
    weights: Callable[[int], tuple[Weights, ...]]
    """Depth -> what is published."""
    rename: Callable[[Architecture, WeightsFormat, Tensors], Tensors]
    """(the network, format of a file, its tensors) -> the same by the network's names."""
    flat: Family | None = None
    """Of video networks: the image networks whose weights can be inflated into them."""
    citation: str


PAPER = Family(
    name="resnet_rs",
    title="ResNet-RS",
    architecture=PAPER_2D,
    parameters=PARAMETERS_2D,
    num_classes=1000,
    inputs=INPUTS_2D,
    weights=weights_2d,
    rename=_rename_paper,
    citation=(
        "Bello et al., Revisiting ResNets: Improved Training and Scaling Strategies, "
        "NeurIPS 2021, arXiv:2103.07579"
    ),
)

GARDEN = Family(
    name="resnet_rs_garden",
    title="Model Garden ResNet-RS",
    architecture=GARDEN_2D,
    parameters=PARAMETERS_GARDEN,
    num_classes=1000,
    inputs=INPUTS_GARDEN,
    weights=weights_garden,
    rename=_rename_garden,
    citation=f"{PAPER.citation}; as in TensorFlow Model Garden, tensorflow/models",
)

VIDEO = Family(
    name="resnet_rs_3d",
    title="3D ResNet-RS",
    architecture=GARDEN_3D,
    parameters=PARAMETERS_3D,
    num_classes=400,
    inputs=dict.fromkeys(PARAMETERS_3D, INPUT_3D),
    weights=_no_weights,
    rename=_rename_garden,
    flat=PAPER,
    citation="Du et al., Revisiting 3D ResNets for Video Recognition, 2021, arXiv:2109.01696",
)


def _backbone(family: Family, architecture: Architecture) -> Backbone:
    """Describe a network, named after the depth that has its blocks, or 50 and its blocks."""
    depths = {BLOCKS[depth]: depth for depth in family.parameters}
    depth = depths.get(architecture.blocks, 50)
    standard = replace(family.architecture, blocks=BLOCKS[depth])
    words = words_for(architecture, standard)
    options = "".join(f"+{key}={value}" for key, value in words.items())
    same_parameters = words.keys() <= set(TRAINING_ONLY)
    name = f"{family.name}_{depth}{options}"
    return Backbone(
        name=name,
        version=1,
        modality="image" if architecture.dimensions == 2 else "video",
        input=family.inputs[depth],
        feature_width=4 * int(512 * architecture.width),
        num_parameters=(
            family.parameters[depth]
            if same_parameters
            else _counted(architecture, family.num_classes)
        ),
        parameters_with_classes=family.num_classes,
        build=partial(_build, architecture),
        weights=_with_options(family.weights(depth), options) if same_parameters else (),
        vary=partial(_vary, family, architecture, name),
        rename=partial(family.rename, architecture),
        flat=_flat(family.flat, architecture) if family.flat is not None else None,
        published_training=_published_training(architecture),
        title=f"{family.title}-{depth}{options}",
        licence="Apache-2.0",
        citation=family.citation,
    )


def _published_training(
    architecture: Architecture,
) -> Callable[[int], Mapping[str, Scalar]] | None:
    """Give what is published of training a network; None where nothing is of its depth or width.

    Stem, shortcut and squeeze do not count: the paper's additive study puts them in last.
    """
    if architecture.width != 1:
        return None
    if architecture.dimensions == 3:
        return _published_3d
    rows = tuple(row for row in PUBLISHED_ROWS if BLOCKS[row.depth] == architecture.blocks)
    return partial(_published_2d, rows) if rows else None


def _published_2d(rows: tuple[PublishedRow, ...], pixels: int) -> Mapping[str, Scalar]:
    """Give the regularisation of the published size nearest to this one, of two the smaller."""
    row = min(rows, key=lambda row: (abs(row.pixels - pixels), row.pixels))
    return {
        "dropout": row.dropout,
        "stochastic_depth": row.stochastic_depth,
        "randaugment_magnitude": row.randaugment,
    }


def _published_3d(pixels: int) -> Mapping[str, Scalar]:
    del pixels
    return PUBLISHED_3D


def _vary(
    family: Family, architecture: Architecture, name: str, typed: Mapping[str, str]
) -> Backbone:
    depths = {depth: BLOCKS[depth] for depth in family.parameters}
    return _backbone(family, read_options(typed, architecture, name=name, depths=depths))


def _flat(family: Family, architecture: Architecture) -> Backbone:
    """Give the image network of a video network's sizes."""
    return _backbone(
        family,
        replace(
            family.architecture,
            blocks=architecture.blocks,
            width=architecture.width,
            squeeze_ratio=architecture.squeeze_ratio,
            stem=architecture.stem,
        ),
    )


def _with_options(weights: tuple[Weights, ...], options: str) -> tuple[Weights, ...]:
    """Let weights that choose a sibling choose the one with the same options."""
    return tuple(
        each if each.network is None else replace(each, network=f"{each.network}{options}")
        for each in weights
    )


def _build(architecture: Architecture, num_classes: int | None) -> nn.Module:
    from ._resnet_rs_modules import ResNetRS

    return ResNetRS(architecture, num_classes)


def _counted(architecture: Architecture, num_classes: int) -> int:
    import torch

    from rsbench.profile import count_parameters

    with torch.device("meta"):
        return count_parameters(_build(architecture, num_classes))


BACKBONES: tuple[Backbone, ...] = tuple(
    _backbone(family, replace(family.architecture, blocks=BLOCKS[depth]))
    for family in (PAPER, GARDEN, VIDEO)
    for depth in family.parameters
)
