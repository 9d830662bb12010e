"""pytorchvideo's networks by `pytorchvideo/NAME`, NAME being its hub function: `slow_r50`, `x3d_m`.

They are built by the library itself (`_pytorchvideo_modules.py`). Facts and their sources:

- scores, operations, views and files: the library's model zoo,
  https://github.com/facebookresearch/pytorchvideo/blob/main/docs/source/model_zoo.md; where a hub
  function's docstring has another top-1 (SlowFast-R50 76.4, MViT 78.9), the zoo's stands;
- clips, and crops of training and test: configs/Kinetics/pytorchvideo of PySlowFast, with which
  the zoo was measured, and its test transform `Ptvkinetics`; mean and std: the library's pages on
  PyTorch Hub. The zoo's operations come out at these test crops and no others, which a test shows;
- the sampler of the scores: `Ptvkinetics` (slowfast/datasets/ptv_datasets.py) asks the library for
  `constant_clips_per_video`, which up to release 0.1.5 starts clip i of N at i/N of the room left
  by a clip: those of psf@1, and frames inside a clip at most one apart from its.

Without weights a network sees its training crop, where its head has one position; with them the
larger test crop. The zoo averaged probabilities over the positions of the head and over views; here
logits are averaged over positions, and probabilities over views.

Left out: detection networks, networks for mobile processors, MViT for images, and what the zoo
lists without a hub function (Slow and SlowFast 4x16). The zoo names no licence of the files.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rsbench.specs import Backbone, InputSpec, Views, Weights

if TYPE_CHECKING:
    from torch import nn

FOLDER = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"

LICENCE = "Apache-2.0"
"""Of the library, which the networks are part of."""

SAMPLER = "psf@1"
"""Of the zoo's scores."""

SLOWFAST = "Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019, 1812.03982"
C2D = "Wang et al., Non-local Neural Networks, CVPR 2018, arXiv:1711.07971"
I3D = (
    "Carreira and Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset,"
    " CVPR 2017, arXiv:1705.07750"
)
CSN = (
    "Tran et al., Video Classification with Channel-Separated Convolutional Networks, ICCV 2019,"
    " arXiv:1904.02811"
)
R2PLUS1D = (
    "Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018,"
    " arXiv:1711.11248"
)
X3D = (
    "Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, CVPR 2020,"
    " arXiv:2004.04730"
)
MVIT = "Fan et al., Multiscale Vision Transformers, ICCV 2021, arXiv:2104.11227"


class Network(NamedTuple):
    """A network and the clip it was trained on."""

    title: str
    num_parameters: int
    """With 400 classes."""
    feature_width: int
    frames: int
    """Of SlowFast those of the fast pathway: "8x8" is the slow one, of four times fewer."""
    stride: int
    pixels: int
    """Side of the training crop."""
    citation: str


class Published(NamedTuple):
    """A line of the zoo."""

    file: str
    short_side: int
    """What frames are resized to at test, in pixels."""
    pixels: int
    """Side of the test crop."""
    views: Views
    top1: float
    top5: float
    billion_operations: float
    """Multiply-adds a view; all but Slow-R50 and SlowFast-R50 count 5 more for each normalised
    element, as fvcore did."""


NETWORKS: dict[str, Network] = {
    "c2d_r50": Network("C2D-R50 8x8", 24_327_632, 2048, 8, 8, 224, C2D),
    "i3d_r50": Network("I3D-R50 8x8", 28_043_472, 2048, 8, 8, 224, I3D),
    "slow_r50": Network("Slow-R50 8x8", 32_454_096, 2048, 8, 8, 224, SLOWFAST),
    "slowfast_r50": Network("SlowFast-R50 8x8", 34_566_488, 2304, 32, 2, 224, SLOWFAST),
    "slowfast_r101": Network("SlowFast-R101 8x8", 62_826_968, 2304, 32, 2, 224, SLOWFAST),
    "slowfast_16x8_r101_50_50": Network(
        "SlowFast-R101 16x8", 53_774_808, 2304, 64, 2, 224, SLOWFAST
    ),
    "csn_r101": Network("CSN-R101 32x2", 22_213_776, 2048, 32, 2, 224, CSN),
    "r2plus1d_r50": Network("R(2+1)D-R50 16x4", 28_107_600, 2048, 16, 4, 224, R2PLUS1D),
    "x3d_xs": Network("X3D-XS 4x12", 3_794_274, 2048, 4, 12, 160, X3D),
    "x3d_s": Network("X3D-S 13x6", 3_794_274, 2048, 13, 6, 160, X3D),
    "x3d_m": Network("X3D-M 16x5", 3_794_274, 2048, 16, 5, 224, X3D),
    "x3d_l": Network("X3D-L 16x5", 6_153_384, 2048, 16, 5, 312, X3D),
    "mvit_base_16x4": Network("MViT-B 16x4", 36_610_672, 768, 16, 4, 224, MVIT),
    "mvit_base_32x3": Network("MViT-B 32x3", 36_611_440, 768, 32, 3, 224, MVIT),
}

_DENSE, _SPARSE = Views(clips=10, crops=3), Views(clips=5)

ZOO: dict[str, Published] = {
    "c2d_r50": Published("C2D_8x8_R50", 256, 256, _DENSE, 71.46, 89.68, 25.89),
    "i3d_r50": Published("I3D_8x8_R50", 256, 256, _DENSE, 73.27, 90.70, 37.53),
    "slow_r50": Published("SLOW_8x8_R50", 256, 256, _DENSE, 74.58, 91.63, 54.52),
    "slowfast_r50": Published("SLOWFAST_8x8_R50", 256, 256, _DENSE, 76.94, 92.69, 65.71),
    "slowfast_r101": Published("SLOWFAST_8x8_R101", 256, 256, _DENSE, 77.90, 93.27, 127.20),
    "slowfast_16x8_r101_50_50": Published(
        "SLOWFAST_16x8_R101_50_50", 256, 256, _DENSE, 78.70, 93.61, 215.61
    ),
    "csn_r101": Published("CSN_32x2_R101", 256, 256, _DENSE, 77.00, 92.90, 75.62),
    "r2plus1d_r50": Published("R2PLUS1D_16x4_R50", 256, 256, _DENSE, 76.01, 92.23, 76.45),
    "x3d_xs": Published("X3D_XS", 182, 182, _DENSE, 69.12, 88.63, 0.91),
    "x3d_s": Published("X3D_S", 182, 182, _DENSE, 73.33, 91.27, 2.96),
    "x3d_m": Published("X3D_M", 256, 256, _DENSE, 75.94, 92.72, 6.72),
    "x3d_l": Published("X3D_L", 356, 356, _DENSE, 77.44, 93.31, 26.64),
    "mvit_base_16x4": Published("MVIT_B_16x4", 256, 224, _SPARSE, 78.85, 93.85, 70.80),
    "mvit_base_32x3": Published("MVIT_B_32x3_f294077834", 256, 224, _SPARSE, 80.30, 94.69, 170.37),
}
"""By the network's name."""


def _build(name: str, num_classes: int | None) -> nn.Module:
    from ._pytorchvideo_modules import build_network

    return build_network(name, num_classes)


def _input(network: Network, *, pixels: int, short_side: int) -> InputSpec:
    return InputSpec(
        pixels=pixels,
        frames=network.frames,
        stride=network.stride,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        antialias=False,
        crop_ratio=pixels / short_side,
    )


def _weights(name: str, network: Network) -> Weights:
    published = ZOO[name]
    views = published.views
    return Weights(
        name=published.file,
        url=f"{FOLDER}/{published.file}.pyth",
        format="torch",
        trained_on=("kinetics400",),
        num_classes=400,
        input=_input(network, pixels=published.pixels, short_side=published.short_side),
        published={"kinetics400/top1": published.top1, "kinetics400/top5": published.top5},
        published_conditions=(
            f"PySlowFast, {views.clips} clips x {views.crops} crops of {published.pixels} pixels,"
            f" {published.billion_operations:g} billion multiply-adds each"
        ),
        views=views,
        sampler=SAMPLER,
        source=f"model zoo of pytorchvideo, torch.hub name {name}",
    )


def _backbone(name: str, network: Network) -> Backbone:
    return Backbone(
        name=f"pytorchvideo/{name}",
        version=1,
        modality="video",
        input=_input(network, pixels=network.pixels, short_side=network.pixels),
        feature_width=network.feature_width,
        num_parameters=network.num_parameters,
        parameters_with_classes=400,
        build=partial(_build, name),
        weights=(_weights(name, network),),
        title=f"{network.title} of pytorchvideo",
        licence=LICENCE,
        citation=network.citation,
    )


BACKBONES: tuple[Backbone, ...] = tuple(
    _backbone(name, network) for name, network in NETWORKS.items()
)
