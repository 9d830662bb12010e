"""One network at any resolution: `./resolutions.py:BACKBONE@96` reads the task's pictures at 96."""

import torch
from torch import nn

from rsbench.specs import Backbone, InputSpec


class Network(nn.Module):
    """Two strided convolutions, and the mean and deviation of each channel: (N, 32)."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.body = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = None if num_classes is None else nn.Linear(32, num_classes)

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        stem = self.stem(batch).relu()
        return {"stem": stem, "body": self.body(stem).relu()}

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        cells = self.stage_maps(batch)["body"].flatten(2)
        return torch.cat([cells.mean(dim=2), cells.std(dim=2)], dim=1)


BACKBONE = Backbone(
    name="any_resolution",
    version=1,
    modality="image",
    input=InputSpec(pixels=64),
    feature_width=32,
    # Kernels of 25 and 9, and a bias: 8 * (3 * 25 + 1) + 16 * (8 * 9 + 1).
    num_parameters=1_776,
    parameters_with_classes=None,
    build=Network,
    title="Two convolutions, for any resolution",
    licence="Apache-2.0",
    citation="none: a test",
)
