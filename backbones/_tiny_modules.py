"""The module of the tiny networks: three strided convolutions and a global average."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class TinyNetwork(nn.Module):
    """Map (N, 3, H, W), or (N, 3, T, H, W) in 3D, to features (N, 32)."""

    def __init__(self, dimensions: Literal[2, 3], num_classes: int | None) -> None:
        super().__init__()
        convolution, norm = (
            (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d)
        )

        def stage(width_in: int, width_out: int) -> nn.Sequential:
            return nn.Sequential(
                convolution(width_in, width_out, 3, stride=2, padding=1, bias=False),
                norm(width_out),
                nn.ReLU(),
            )

        self.stages = nn.ModuleList([stage(3, 8), stage(8, 16), stage(16, 32)])
        self.head = None if num_classes is None else nn.Linear(32, num_classes)

    def forward(self, batch: Tensor) -> Tensor:
        """Map a normalised batch to features (N, 32)."""
        for stage in self.stages:
            batch = stage(batch)
        return batch.flatten(2).mean(2)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the map of each stage, "s1" (stride 2) to "s3" (stride 8)."""
        found = {}
        for number, stage in enumerate(self.stages, start=1):
            batch = stage(batch)
            found[f"s{number}"] = batch
        return found
