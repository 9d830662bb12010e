"""pytorchvideo's own networks behind the backbone contract; see `_library_modules.py`.

The heads of its convolutional networks pool over the extent of the training clip and slide over
anything larger: they classify at each position, then average. Features here are the average over
these positions, before the classifier. That gives the library's logits, as classifier and average
are both linear. X3D and R(2+1)D give probabilities, with a softmax between the two: the softmax of
our logits where there is one position, and close to it where there are several.

Only `pytorchvideo.models` is imported: `pytorchvideo.transforms` needs a torchvision before 0.17.
"""

# pytorchvideo is not typed, so its classes are Any to mypy.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import Any, cast

import torch
from pytorchvideo.models import hub
from pytorchvideo.models.net import Net
from pytorchvideo.models.resnet import ResStage
from pytorchvideo.models.vision_transformers import MultiscaleVisionTransformers
from torch import Tensor, nn

from ._library_modules import (
    PLACEHOLDER_CLASSES,
    InputSizeError,
    LibraryNetwork,
    adapt,
    check_size,
    tokens_to_maps,
)

ALPHA = 4
"""Fast frames for each slow one: SLOWFAST.ALPHA of PySlowFast's configurations, and the temporal
stride of pytorchvideo's fusion."""

STAGES = ("c2", "c3", "c4", "c5")


class OnePathway(LibraryNetwork, Net):
    """Slow, C2D, I3D, CSN, R(2+1)D and X3D."""

    def _classifier_name(self) -> str:
        return f"blocks.{len(self.blocks) - 1}.proj"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): the average over the head's pooled positions."""
        *blocks, head = self.blocks
        maps = batch
        for block in blocks:
            maps = block(maps)
        return cast("Tensor", head.pool(maps).mean((2, 3, 4)))

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each stage, "c2" (1/4 size) to "c5" (1/32)."""
        found = []
        for block in list(self.blocks)[:-1]:
            batch = block(batch)
            if isinstance(block, ResStage):
                found.append(batch)
        return dict(zip(STAGES, found, strict=True))


class SlowFast(LibraryNetwork, Net):
    """SlowFast: the clip is the fast pathway, of which the slow one sees every fourth frame."""

    def _classifier_name(self) -> str:
        return f"blocks.{len(self.blocks) - 1}.proj"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): both pathways' averages, slow before fast.

        Raises:
            InputSizeError: T is no multiple of 4, or more than the network was made for.
        """
        pathways = self._pathways(batch)
        # The last two pool both pathways into one map, and classify it.
        *stages, pool, _ = self.blocks
        for stage in stages:
            pathways = stage(pathways)
        return cast("Tensor", pool(pathways).mean((2, 3, 4)))

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give what each stage hands on, "fast_c2" and "slow_c2" to "fast_c5" and "slow_c5".

        Up to c4 the slow maps have the fast ones fused in.
        """
        pathways = self._pathways(batch)
        stem, *stages, _, _ = self.blocks
        pathways = stem(pathways)
        maps = {}
        for name, stage in zip(STAGES, stages, strict=True):
            # A stage writes its outputs into the list it is given.
            pathways = stage(list(pathways))
            slow, fast = pathways
            maps[f"fast_{name}"] = fast
            maps[f"slow_{name}"] = slow
        return maps

    def _pathways(self, batch: Tensor) -> list[Tensor]:
        num_frames = batch.shape[2]
        most = self.blocks[-2].pool[1].kernel_size[0]
        if num_frames % ALPHA or num_frames > most:
            raise InputSizeError(
                f"SlowFast takes a multiple of {ALPHA} frames up to {most}, and the input has"
                f" {num_frames}: say --frames {most}"
            )
        # On the CPU, where PySlowFast's pack_pathway_output computes it: rounding decides.
        chosen = torch.linspace(0, num_frames - 1, num_frames // ALPHA, device="cpu").long()
        return [batch.index_select(2, chosen.to(batch.device)), batch]


class MViT(LibraryNetwork, MultiscaleVisionTransformers):
    """MViT; takes clips of its own size only."""

    def _classifier_name(self) -> str:
        return "head.proj"

    def forward(self, batch: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to features (N, D): the normalised class token."""
        tokens, extent = self._tokens(batch)
        for block in self.blocks:
            tokens, extent = block(tokens, extent)
        library_head: Any = self._classifier_place()[0]
        return cast("Tensor", library_head.sequence_pool(self.norm_embed(tokens)))

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the patches behind each block, "block0" on, (N, D', T', H', W') each."""
        tokens, extent = self._tokens(batch)
        maps = {}
        for index, block in enumerate(self.blocks):
            tokens, extent = block(tokens, extent)
            maps[f"block{index}"] = tokens_to_maps(tokens, tuple(extent))
        return maps

    def _tokens(self, batch: Tensor) -> tuple[Tensor, list[int]]:
        extent = self.cls_positional_encoding.patch_embed_shape
        steps = self.patch_embed.patch_model.stride
        check_size(batch, tuple(e * step for e, step in zip(extent, steps, strict=True)))
        assert self.pos_drop is None and self.norm_patch_embed is None, "the hub's have neither"
        return self.cls_positional_encoding(self.patch_embed(batch)), extent


def build_network(name: str, num_classes: int | None) -> nn.Module:
    """Build a network by the name of its hub function, randomly initialised as the library does.

    Args:
        name: "slow_r50", "slowfast_r50", "mvit_base_16x4", ...
        num_classes: Width of the classifier; None for none.
    """
    builder = getattr(hub, name)
    width = num_classes or PLACEHOLDER_CLASSES
    if not name.startswith("mvit"):
        family = SlowFast if name.startswith("slowfast") else OnePathway
        return adapt(builder(pretrained=False, model_num_class=width), family, num_classes)
    device = torch.get_default_device()
    # Its builder reads the values of tensors it makes, and the meta device has none.
    with torch.device("cpu"):
        network = builder(pretrained=False, head_num_classes=width)
    return adapt(network, MViT, num_classes).to(device)
