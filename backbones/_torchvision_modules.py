"""torchvision's own networks behind the backbone contract; see `_library_modules.py`.

Features are what the network feeds its last linear layer, so they are normalised where the library
normalises there (ConvNeXt, the transformers). Position embeddings tie ViT and MViT to one input
size; all others take any.
"""

# torchvision is not typed, so its classes are Any to mypy.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.video.mvit import MViT as LibraryMViT
from torchvision.models.video.resnet import VideoResNet as LibraryVideoResNet
from torchvision.models.video.s3d import S3D as LibraryS3D
from torchvision.models.video.swin_transformer import SwinTransformer3d as LibrarySwin3d

from ._library_modules import (
    PLACEHOLDER_CLASSES,
    LibraryNetwork,
    adapt,
    check_size,
    collect,
    tokens_to_maps,
)


class ResNet(LibraryNetwork, models.ResNet):
    """ResNet, ResNeXt and Wide ResNet."""

    def _classifier_name(self) -> str:
        return "fc"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, D): the average of the last map."""
        maps = self._stem(batch)
        for stage in self._stages():
            maps = stage(maps)
        return torch.flatten(self.avgpool(maps), 1)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage, "c2" (1/4 size) to "c5" (1/32)."""
        return collect(self._stages(), self._stem(batch), {0: "c2", 1: "c3", 2: "c4", 3: "c5"})

    def _stem(self, batch: Tensor) -> Tensor:
        return cast("Tensor", self.maxpool(self.relu(self.bn1(self.conv1(batch)))))

    def _stages(self) -> tuple[nn.Module, ...]:
        return (self.layer1, self.layer2, self.layer3, self.layer4)


class EfficientNet(LibraryNetwork, models.EfficientNet):
    """EfficientNet and EfficientNetV2."""

    def _classifier_name(self) -> str:
        return "classifier"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, D): the average after the last 1x1 convolution."""
        return torch.flatten(self.avgpool(self.features(batch)), 1)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each size, "c2" (1/4) to "c5" (1/32), before the 1x1 convolution."""
        blocks = list(self.features)[:-1]
        halving = [index for index, block in enumerate(blocks) if _halves(block)]
        # The first halving begins 1/2, and a size ends where the next one begins.
        ends = [begin - 1 for begin in halving[2:]] + [len(blocks) - 1]
        return collect(blocks, batch, dict(zip(ends, ("c2", "c3", "c4", "c5"), strict=True)))


class ConvNeXt(LibraryNetwork, models.ConvNeXt):
    """ConvNeXt; its classifier's LayerNorm stays in the trunk."""

    def _classifier_name(self) -> str:
        return "classifier.2"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, D): the normalised average of the last map."""
        norm, flatten, _ = self.classifier
        return cast("Tensor", flatten(norm(self.avgpool(self.features(batch)))))

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage, "c2" (1/4 size) to "c5" (1/32)."""
        return collect(self.features, batch, {1: "c2", 3: "c3", 5: "c4", 7: "c5"})


class VisionTransformer(LibraryNetwork, models.VisionTransformer):
    """ViT; takes pictures of `image_size` only."""

    def _classifier_name(self) -> str:
        return "heads"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, D): the normalised class token."""
        return cast("Tensor", self.encoder(self._tokens(batch))[:, 0])

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the patches behind each block, "block0" on, (N, D, H', W') each."""
        side = self.image_size // self.patch_size
        tokens = self.encoder.dropout(self._tokens(batch) + self.encoder.pos_embedding)
        maps = collect(self.encoder.layers, tokens, _block_names(self.encoder.layers))
        return {name: tokens_to_maps(each, (side, side)) for name, each in maps.items()}

    def _tokens(self, batch: Tensor) -> Tensor:
        check_size(batch, (self.image_size, self.image_size))
        patches = self._process_input(batch)
        return torch.cat([self.class_token.expand(len(batch), -1, -1), patches], dim=1)


class SwinTransformer(LibraryNetwork, models.SwinTransformer):
    """Swin and Swin V2."""

    def _classifier_name(self) -> str:
        return "head"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, D): the average of the normalised last map."""
        maps = self.permute(self.norm(self.features(batch)))
        return cast("Tensor", self.flatten(self.avgpool(maps)))

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage, "c2" (1/4 size) to "c5" (1/32), not normalised."""
        maps = collect(self.features, batch, {1: "c2", 3: "c3", 5: "c4", 7: "c5"})
        return {name: each.permute(0, 3, 1, 2) for name, each in maps.items()}


class VideoResNet(LibraryNetwork, LibraryVideoResNet):
    """R3D, MC3 and R(2+1)D."""

    def _classifier_name(self) -> str:
        return "fc"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): the average of the last map."""
        maps = batch
        for child in self._children():
            maps = child(maps)
        return torch.flatten(self.avgpool(maps), 1)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage, "c2" (1/2 size: there is no pool) to "c5" (1/16)."""
        return collect(self._children(), batch, {1: "c2", 2: "c3", 3: "c4", 4: "c5"})

    def _children(self) -> tuple[nn.Module, ...]:
        return (self.stem, self.layer1, self.layer2, self.layer3, self.layer4)


class S3D(LibraryNetwork, LibraryS3D):
    """S3D. Its 1x1x1 classifier comes before the average, which changes nothing: both are linear.

    The library refuses what is smaller than 2 x 7 x 7 at the end; here the pool shrinks to fit.
    """

    def _classifier_name(self) -> str:
        return "classifier"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): the average over the pool's positions."""
        return cast("Tensor", self.avgpool(self.features(batch)).mean((2, 3, 4)))

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each size, "c2" (1/4) to "c5" (1/32)."""
        return collect(self.features, batch, {3: "c2", 6: "c3", 12: "c4", 15: "c5"})


class PointwiseClassifier(nn.Sequential):
    """S3D's dropout and 1x1x1 convolution, on features."""

    def forward(self, input: Tensor) -> Tensor:
        """Map features (N, D) to logits (N, K)."""
        dropout, convolution = self
        return cast("Tensor", convolution(dropout(input[:, :, None, None, None])).flatten(1))


class MViT(LibraryNetwork, LibraryMViT):
    """MViT and MViTv2; takes clips of its own size only."""

    def _classifier_name(self) -> str:
        return "head"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): the normalised class token."""
        tokens, extent = self._tokens(batch)
        for block in self.blocks:
            tokens, extent = block(tokens, extent)
        return cast("Tensor", self.norm(tokens)[:, 0])

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the patches behind each block, "block0" on, (N, D', T', H', W') each."""
        tokens, extent = self._tokens(batch)
        maps = {}
        for index, block in enumerate(self.blocks):
            tokens, extent = block(tokens, extent)
            maps[f"block{index}"] = tokens_to_maps(tokens, extent)
        return maps

    def _tokens(self, batch: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        extent = (self.pos_encoding.temporal_size, *self.pos_encoding.spatial_size)
        steps = self.conv_proj.stride
        check_size(batch, tuple(e * step for e, step in zip(extent, steps, strict=True)))
        patches = self.conv_proj(batch).flatten(2).transpose(1, 2)
        return self.pos_encoding(patches), extent


class SwinTransformer3d(LibraryNetwork, LibrarySwin3d):
    """Video Swin."""

    def _classifier_name(self) -> str:
        return "head"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): the average of the normalised last map."""
        maps = self.norm(self.features(self._patches(batch)))
        return torch.flatten(self.avgpool(maps.permute(0, 4, 1, 2, 3)), 1)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage, "c2" (1/4 size) to "c5" (1/32), not normalised."""
        ends = {0: "c2", 2: "c3", 4: "c4", 6: "c5"}
        maps = collect(self.features, self._patches(batch), ends)
        return {name: each.permute(0, 4, 1, 2, 3) for name, each in maps.items()}

    def _patches(self, batch: Tensor) -> Tensor:
        return cast("Tensor", self.pos_drop(self.patch_embed(batch)))


FAMILIES: tuple[type[LibraryNetwork], ...] = (
    ResNet,
    EfficientNet,
    ConvNeXt,
    VisionTransformer,
    SwinTransformer,
    VideoResNet,
    S3D,
    MViT,
    SwinTransformer3d,
)


def build_network(name: str, num_classes: int | None, *, image_size: int | None) -> nn.Module:
    """Build a network by its torchvision name, randomly initialised as torchvision does.

    Args:
        name: Of the builder: "resnet50".
        num_classes: Width of the classifier; None for none.
        image_size: Side that a ViT's position embeddings are for; None for the builder's own.
    """
    options = {} if image_size is None else {"image_size": image_size}
    network = models.get_model(
        name, weights=None, num_classes=num_classes or PLACEHOLDER_CLASSES, **options
    )
    family = next(each for each in FAMILIES if issubclass(each, type(network)))
    if isinstance(network, LibraryS3D):
        network.classifier.__class__ = PointwiseClassifier
    return adapt(network, family, num_classes)


def _halves(block: nn.Module) -> bool:
    """Tell whether a block halves the side of its map."""
    return any(part.stride == (2, 2) for part in block.modules() if isinstance(part, nn.Conv2d))


def _block_names(blocks: nn.Sequential) -> dict[int, str]:
    return {index: f"block{index}" for index in range(len(blocks))}
