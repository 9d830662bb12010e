"""The modules of ResNet-RS: one block, one stem and one network for 2D and 3D.

Parameters are named as timm names those of `resnetrs50`, so that its files load unchanged; the 3D
network has the same names plus `gate`. Kernels and strides are written (T, H, W) everywhere; in 2D
the first entry is dropped. Shape letters: N batch, C channels, T frames, H height, W width,
D features, K classes; `[T]` is absent in 2D.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .resnet_rs import Architecture

STEM_WIDTHS = (32, 32, 64)
STAGE_WIDTHS = (64, 128, 256, 512)
STEM_POOL_FRAMES = {1: 1, 2: 3}
"""Temporal kernel of the stem's max pool by its temporal stride, as in resnet_3d.py."""
EXPANSION = 4
# Not Keras's default of 1e-3: both official configurations say 1e-5.
BATCH_NORM_EPSILON = 1e-5
# Standard deviation of a unit normal cut at two: TensorFlow divides by it, so that the cut
# distribution has the variance asked for.
TRUNCATED_STANDARD_DEVIATION = 0.87962566103423978

Extent = tuple[int, int, int]
"""A kernel or a stride, (T, H, W)."""


class ResNetRS(nn.Module):
    """Map (N, 3, [T], H, W) to features (N, D); `head` maps those to logits. D is 2048 x width.

    Momentum of the running statistics stays PyTorch's 0.1. The official recipes use TensorFlow's 0,
    that is the last batch's statistics (PyTorch's 1.0), together with a moving average over weights
    and statistics: both belong to a training recipe.
    """

    def __init__(self, architecture: Architecture, num_classes: int | None) -> None:
        super().__init__()
        width_in = scaled(STEM_WIDTHS[-1], architecture)
        self.conv1 = _stem_start(architecture)
        self.bn1 = _batch_norm(architecture.dimensions, width_in)
        self.act1 = _activation(architecture)
        # Named as in timm, where it once was one.
        self.maxpool = _stem_end(architecture, width_in)
        for index in range(len(STAGE_WIDTHS)):
            self.add_module(f"layer{index + 1}", _stage(architecture, index, width_in))
            width_in = EXPANSION * scaled(STAGE_WIDTHS[index], architecture)
        self.fc = None if num_classes is None else Classifier(width_in, num_classes)
        if architecture.mark:
            # Saved with the parameters, so that their file fits no network of the same shapes that
            # computes something else. Not a float: casts and averages leave it alone.
            self.register_buffer(architecture.mark, torch.ones((), dtype=torch.uint8))
        self.architecture = architecture
        _initialise(self, architecture)
        self.set_regularisation(
            head_dropout=architecture.head_dropout, stochastic_depth=architecture.stochastic_depth
        )

    @property
    def head(self) -> nn.Module | None:
        """Classifier (N, D) -> (N, K) logits, None where none was asked for; kept as `fc`."""
        return self.fc

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as in nn.Module
        # The property above would hide a module registered as "head".
        super().__setattr__("fc" if name == "head" else name, value)

    def forward(self, batch: Tensor) -> Tensor:
        """Map a normalised batch (N, 3, [T], H, W) to features (N, D)."""
        maps = self._stem(batch)
        for stage in self._stages():
            maps = stage(maps)
        return maps.flatten(2).mean(2)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage by its usual name, "c2" (1/4 size) to "c5" (1/32)."""
        maps = self._stem(batch)
        found = {}
        for level, stage in enumerate(self._stages(), start=2):
            maps = stage(maps)
            found[f"c{level}"] = maps
        return found

    def set_regularisation(
        self,
        *,
        head_dropout: float,
        stochastic_depth: float,
        per: Literal["stage", "block"] = "stage",
    ) -> None:
        """Set what acts in training only; building sets what the architecture says.

        Args:
            head_dropout: Probability that the classifier does not see a feature. It stays readable
                as `head_dropout` for whoever gives the network another classifier.
            stochastic_depth: Probability that the last block is skipped, in [0, 1).
            per: How it rises to that: "stage", 2/5, 3/5, 4/5 and 5/5 of it for the blocks of the
                four stages (the official codes); "block", in equal parts from none for the first
                block of the network (timm).
        """
        self.head_dropout = head_dropout
        if isinstance(self.fc, Classifier):
            self.fc.dropout = head_dropout
        levels = [
            (level, block)
            for level, stage in enumerate(self._stages(), start=2)
            for block in stage.children()
        ]
        for place, (level, block) in enumerate(levels):
            assert isinstance(block, Bottleneck)
            share = level / 5 if per == "stage" else place / (len(levels) - 1)
            block.skip_probability = stochastic_depth * share

    def inflation_notes(self, flat: Mapping[str, Tensor]) -> dict[str, str]:
        """Say what an image network's weights meet here otherwise.

        See `rsbench.weights.inflation.inflate`.

        Args:
            flat: State of `resnet_rs_DEPTH` or, by its mark, of `resnet_rs_garden_DEPTH`.
        """
        from ._resnet_rs_inflation import inflation_notes
        from .resnet_rs import GARDEN_2D, PAPER_2D

        image = GARDEN_2D if GARDEN_2D.mark in flat else PAPER_2D
        return inflation_notes(image, self.architecture)

    def _stem(self, batch: Tensor) -> Tensor:
        maps: Tensor = self.maxpool(self.act1(self.bn1(self.conv1(batch))))
        return maps

    def _stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.get_submodule(f"layer{index + 1}") for index in range(len(STAGE_WIDTHS)))


class Bottleneck(nn.Module):
    """Add to a shortcut: convolutions [t]x1x1, [1]x3x3 (strided), [1]x1x1, gate, squeeze."""

    def __init__(
        self,
        architecture: Architecture,
        width_in: int,
        width: int,
        *,
        frames: int,
        stride: int,
        gated: bool,
    ) -> None:
        super().__init__()
        dimensions = architecture.dimensions
        width_out = EXPANSION * width
        self.conv1 = _convolution(architecture, width_in, width, (frames, 1, 1))
        self.bn1 = _batch_norm(dimensions, width)
        self.act1 = _activation(architecture)
        self.conv2 = _convolution(architecture, width, width, (1, 3, 3), (1, stride, stride))
        self.bn2 = _batch_norm(dimensions, width)
        self.act2 = _activation(architecture)
        self.conv3 = _convolution(architecture, width, width_out, (1, 1, 1))
        self.bn3 = _batch_norm(dimensions, width_out)
        self.gate = SelfGating(dimensions, width_out) if gated else None
        # Of the expanded width, four times the bottleneck's.
        squeezed = max(1, int(width_out * architecture.squeeze_ratio))
        self.se = (
            SqueezeExcitation(dimensions, width_out, squeezed)
            if architecture.squeeze_ratio > 0
            else None
        )
        self.downsample = (
            _shortcut(architecture, width_in, width_out, stride) if width_in != width_out else None
        )
        self.act3 = _activation(architecture)
        self.skip_probability = 0.0

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, [T], H, W) to (N, 4 * width, [T], H / stride, W / stride), rounded up."""
        branch = self.act1(self.bn1(self.conv1(maps)))
        branch = self.act2(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        scale = self._scale(branch)
        # Not in one step with the addition (addcmul), which rounds otherwise than timm's code: 200
        # random layers make another answer of a last bit.
        if scale is not None:
            branch = branch * scale if torch.is_grad_enabled() else branch.mul_(scale)
        branch += maps if self.downsample is None else self.downsample(maps)
        activated: Tensor = self.act3(branch)
        return activated

    def _scale(self, branch: Tensor) -> Tensor | None:
        """Give what the branch is multiplied with, (N, C, [1], 1, 1) or (N, 1, ...); None for 1.

        Gate, squeeze and skip, in this order, all scale whole channels of an item. So their product
        meets the maps, once; gated maps are never made, for their average is the gated average.
        """
        scale: Tensor | None = None
        if self.gate is not None or self.se is not None:
            average = _global_average(branch)
            if self.gate is not None:
                scale = self.gate(average)
                average = average * scale
            if self.se is not None:
                squeezed = self.se(average)
                scale = squeezed if scale is None else scale * squeezed
        if self.training and self.skip_probability > 0:
            kept = _kept_or_skipped(branch, self.skip_probability)
            scale = kept if scale is None else scale * kept
        return scale


class SelfGating(nn.Module):
    """Weigh channels by a sigmoid of one 1x1x1 convolution of their averages (S3D-G)."""

    # The official code builds this convolution alone without a regulariser.
    spared_from_decay = True

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.fc = _CONVOLUTIONS[dimensions](width, width, 1)

    def forward(self, average: Tensor) -> Tensor:
        """Map averages (N, C, [1], 1, 1) to the factors of the channels, of the same shape."""
        return torch.sigmoid(self.fc(average))


class SqueezeExcitation(nn.Module):
    """Weigh channels by a sigmoid of a two-layer network of their averages.

    The inner activation is ReLU whatever the network's own is.
    """

    def __init__(self, dimensions: int, width: int, width_inside: int) -> None:
        super().__init__()
        self.fc1 = _CONVOLUTIONS[dimensions](width, width_inside, 1)
        self.fc2 = _CONVOLUTIONS[dimensions](width_inside, width, 1)

    def forward(self, average: Tensor) -> Tensor:
        """Map averages (N, C, [1], 1, 1) to the factors of the channels, of the same shape."""
        return torch.sigmoid(self.fc2(F.relu(self.fc1(average), inplace=True)))


class Classifier(nn.Linear):
    """A dense layer (N, D) -> (N, K) that drops features in training."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__(width, num_classes)
        self.dropout = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """Map features (N, D) to logits (N, K)."""
        if self.training and self.dropout > 0:
            input = F.dropout(input, self.dropout)
        return super().forward(input)


class SameConvolution2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which depends on the size of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride), rounded up."""
        return super().forward(pad_same(input, self.kernel_size, self.stride))


class SameConvolution3d(nn.Conv3d):
    """A convolution with TensorFlow's SAME padding, which depends on the size of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C', T / stride, ...), rounded up."""
        return super().forward(pad_same(input, self.kernel_size, self.stride))


class SameMaxPool2d(nn.MaxPool2d):
    """A max pool with TensorFlow's SAME padding; kernel and stride are one number each."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H / stride, W / stride), rounded up."""
        assert isinstance(self.kernel_size, int)
        assert isinstance(self.stride, int)
        kernel, stride = (self.kernel_size,) * 2, (self.stride,) * 2
        return F.max_pool2d(pad_same(input, kernel, stride, value=-math.inf), kernel, stride)


class SameMaxPool3d(nn.MaxPool3d):
    """A max pool with TensorFlow's SAME padding."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C, T / stride, ...), rounded up."""
        assert isinstance(self.kernel_size, tuple)
        assert isinstance(self.stride, tuple)
        padded = pad_same(input, self.kernel_size, self.stride, value=-math.inf)
        return F.max_pool3d(padded, self.kernel_size, self.stride)


class SameAveragePool2d(nn.Module):
    """A 2x2 average pool with stride 1 and TensorFlow's SAME padding: one row and column behind."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; the border divides by what it really covers."""
        # PyTorch pads both sides: the first row and column of windows are not SAME's.
        return F.avg_pool2d(maps, 2, stride=1, padding=1, count_include_pad=False)[..., 1:, 1:]


def pad_same(
    maps: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], *, value: float = 0.0
) -> Tensor:
    """Pad as TensorFlow's SAME does: ceil(size / stride) outputs, the odd element behind.

    Args:
        maps: (N, C, then one axis for each entry of `kernel`).
        kernel: Kernel size of each of those axes.
        stride: Stride of each of those axes.
        value: What to pad with; minus infinity for a max pool.

    Returns:
        The padded maps, or `maps` itself where nothing is missing.
    """
    padding: list[int] = []
    for size, extent, step in zip(maps.shape[2:], kernel, stride, strict=True):
        # What the last window reaches past the end; in integers, which torch.compile can follow.
        total = max(extent - (size % step or step), 0)
        # F.pad counts axes from the last.
        padding = [total // 2, total - total // 2, *padding]
    return F.pad(maps, padding, value=value) if any(padding) else maps


def scaled(width: int, architecture: Architecture) -> int:
    """Give a number of channels under the width multiplier, cut off as resnet.py cuts it off."""
    return int(width * architecture.width)


_CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_SAME_CONVOLUTIONS: dict[int, type[SameConvolution2d] | type[SameConvolution3d]] = {
    2: SameConvolution2d,
    3: SameConvolution3d,
}
_BATCH_NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


def _convolution(
    architecture: Architecture,
    width_in: int,
    width_out: int,
    kernel: Extent,
    stride: Extent = (1, 1, 1),
) -> nn.Module:
    dimensions = architecture.dimensions
    kernel_here, stride_here = kernel[3 - dimensions :], stride[3 - dimensions :]
    uneven = any(k > 1 and s > 1 for k, s in zip(kernel_here, stride_here, strict=True))
    same = architecture.padding == "same" and uneven
    # Any: takes tuples of two or of three, as the dimensions are.
    convolution: Any = (_SAME_CONVOLUTIONS if same else _CONVOLUTIONS)[dimensions]
    padding = tuple(0 if same else extent // 2 for extent in kernel_here)
    module: nn.Module = convolution(
        width_in, width_out, kernel_here, stride_here, padding=padding, bias=False
    )
    return module


def _batch_norm(dimensions: int, width: int) -> nn.Module:
    return _BATCH_NORMS[dimensions](width, eps=BATCH_NORM_EPSILON)


def _activation(architecture: Architecture) -> nn.Module:
    # Swish needs its input for the backward pass, which in place would be a copy.
    return nn.ReLU(inplace=True) if architecture.activation == "relu" else nn.SiLU()


def _stem_start(architecture: Architecture) -> nn.Module:
    """Give what halves the map first: three 3x3 convolutions, or the plain network's one of 7x7."""
    dimensions = architecture.dimensions
    stem_1, stem_2, stem_3 = (scaled(width, architecture) for width in STEM_WIDTHS)
    frames, stride = architecture.stem_frames, (architecture.stem_frame_stride, 2, 2)
    if architecture.stem == "plain":
        return _convolution(architecture, 3, stem_3, (frames, 7, 7), stride)
    return nn.Sequential(
        _convolution(architecture, 3, stem_1, (frames, 3, 3), stride),
        _batch_norm(dimensions, stem_1),
        _activation(architecture),
        _convolution(architecture, stem_1, stem_2, (1, 3, 3)),
        _batch_norm(dimensions, stem_2),
        _activation(architecture),
        _convolution(architecture, stem_2, stem_3, (1, 3, 3)),
    )


def _stem_end(architecture: Architecture, width: int) -> nn.Module:
    if architecture.dimensions == 3 and architecture.stem_end == "max_pool":
        frame_stride = architecture.stem_pool_stride
        return SameMaxPool3d((STEM_POOL_FRAMES[frame_stride], 3, 3), (frame_stride, 2, 2))
    if architecture.stem == "plain":
        if architecture.padding == "same":
            return SameMaxPool2d(3, 2)
        return nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(
        _convolution(architecture, width, width, (1, 3, 3), (1, 2, 2)),
        _batch_norm(architecture.dimensions, width),
        _activation(architecture),
    )


def _stage(architecture: Architecture, index: int, width_in: int) -> nn.Sequential:
    width = scaled(STAGE_WIDTHS[index], architecture)
    num_blocks = architecture.blocks[index]
    return nn.Sequential(
        *(
            Bottleneck(
                architecture,
                width_in if block == 0 else EXPANSION * width,
                width,
                frames=architecture.stage_frames[index],
                stride=2 if block == 0 and index > 0 else 1,
                gated=architecture.self_gating and block == num_blocks - 1,
            )
            for block in range(num_blocks)
        )
    )


def _shortcut(
    architecture: Architecture, width_in: int, width_out: int, stride: int
) -> nn.Sequential:
    pool: nn.Module = nn.Identity()
    strides = (1, stride, stride)
    if architecture.shortcut != "strided" and stride > 1:
        assert architecture.dimensions == 2
        # Equals TensorFlow's SAME pool on odd sizes: the border divides by what it really covers.
        pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        strides = (1, 1, 1)
    elif architecture.shortcut == "average_pool_throughout":
        assert architecture.dimensions == 2
        pool = SameAveragePool2d()
    # The pool keeps its place in the sequence even where it does nothing: timm's names count on it.
    return nn.Sequential(
        pool,
        _convolution(architecture, width_in, width_out, (1, 1, 1), strides),
        _batch_norm(architecture.dimensions, width_out),
    )


def _global_average(maps: Tensor) -> Tensor:
    return maps.mean(tuple(range(2, maps.dim())), keepdim=True)


def _kept_or_skipped(maps: Tensor, probability: float) -> Tensor:
    """Draw the factor of each item, (N, 1, ...): 0, or what keeps the expectation."""
    kept = maps.new_empty((len(maps), *[1] * (maps.dim() - 1))).bernoulli_(1 - probability)
    return kept / (1 - probability)


def _initialise(network: ResNetRS, architecture: Architecture) -> None:
    """Draw parameters as the official code does, from torch's global generator."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            deviation = 1 / math.sqrt(module.weight[0].numel()) / TRUNCATED_STANDARD_DEVIATION
            _truncated_normal(module.weight, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, SelfGating):
            _truncated_normal(module.fc.weight, 0.01)
        if isinstance(module, Bottleneck) and architecture.zero_last_gamma:
            assert isinstance(module.bn3.weight, Tensor)
            nn.init.zeros_(module.bn3.weight)
    if network.fc is not None:
        nn.init.zeros_(network.fc.bias)
        if architecture.head_init == "normal":
            nn.init.normal_(network.fc.weight, std=0.01)
        else:
            nn.init.uniform_(network.fc.weight, -0.05, 0.05)


def _truncated_normal(weight: Tensor, deviation: float) -> None:
    """Draw from N(0, deviation) cut at two deviations; the cut leaves 0.88 of the deviation."""
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
