"""Two networks small enough for any test, and short enough to be read as examples.

`tiny_2d` sees pictures, `tiny_3d` sees clips and the order of their frames. Both are real networks
(convolutions, BatchNorm, global average) of a few thousand parameters that nobody should judge.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from rsbench.specs import Backbone, InputSpec

if TYPE_CHECKING:
    from torch import nn


def _build(dimensions: Literal[2, 3], num_classes: int | None) -> nn.Module:
    from ._tiny_modules import TinyNetwork

    return TinyNetwork(dimensions, num_classes)


BACKBONES: tuple[Backbone, ...] = (
    Backbone(
        name="tiny_2d",
        version=1,
        modality="image",
        input=InputSpec(pixels=32),
        feature_width=32,
        # Convolutions 3*8*9 + 8*16*9 + 16*32*9, BatchNorm scales and shifts 2*(8 + 16 + 32).
        num_parameters=6_088,
        parameters_with_classes=None,
        build=partial(_build, 2),
        title="Tiny 2D network for tests",
        licence="Apache-2.0",
        citation="none: a network of rsbench's own tests",
    ),
    Backbone(
        name="tiny_3d",
        version=1,
        modality="video",
        input=InputSpec(pixels=32, frames=8, stride=2),
        feature_width=32,
        # As above with kernels of 27 instead of 9.
        num_parameters=18_040,
        parameters_with_classes=None,
        build=partial(_build, 3),
        title="Tiny 3D network for tests",
        licence="Apache-2.0",
        citation="none: a network of rsbench's own tests",
    ),
)
