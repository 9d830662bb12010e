"""CT volumes: is there a nodule? With a small 3D network; the protocol is rsbench's linear_probe.

Looks for ROOT/SPLIT/CLASS/*.npz, each with "volume": float32 (1, D, H, W), scaled to about [0, 1].
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rsbench import specs
from rsbench.metrics import TOP1

CLASSES = ("clear", "nodule")


def load(root: Path, split: str) -> specs.Split:
    items = (
        specs.Item(id=path.relative_to(root).as_posix(), source=path, target=index)
        for index, name in enumerate(CLASSES)
        for path in sorted((root / split / name).glob("*.npz"))
    )
    return specs.Split(items=tuple(items), classes=CLASSES)


def read(item: specs.Item) -> np.ndarray:
    """Give float32 (1, D, H, W), as the network takes it."""
    with Path(item.source).open("rb") as stream, np.load(stream) as archive:
        return archive["volume"]


def write_sample(root: Path) -> None:
    random = np.random.default_rng(0)
    z, y, x = np.mgrid[:12, :16, :16]
    for number in range(48):
        kind, split = CLASSES[number % 2], "train" if number < 32 else "test"
        volume = random.normal(0.3, 0.1, (1, 12, 16, 16))
        if kind == "nodule":
            a, b, c = random.integers((4, 4, 4), (8, 12, 12))
            volume += (z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 < 16
        (root / split / kind).mkdir(parents=True, exist_ok=True)
        np.savez(root / split / kind / f"{number:02}.npz", volume=volume.astype(np.float32))


class Network(nn.Module):
    """Map volumes (N, 1, D, H, W) to features (N, 16)."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        widths = (1, 8, 16)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv3d(width_in, width, 3, stride=2, padding=1), nn.ReLU())
            for width_in, width in pairwise(widths)
        )
        self.head = None if num_classes is None else nn.Linear(widths[-1], num_classes)

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {}
        for number, stage in enumerate(self.stages, start=1):
            maps[f"s{number}"] = batch = stage(batch)
        return maps

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.stage_maps(batch)["s2"].mean(dim=(2, 3, 4))


BACKBONE = specs.Backbone(
    name="small_volume_network",
    version=1,
    modality="volume",
    # The task reads the volumes; mean and std of one channel say that there is one.
    input=specs.InputSpec(pixels=16, mean=(0.0,), std=(1.0,)),
    feature_width=16,
    # Kernels of 27 and a bias: 8 * (1 * 27 + 1) + 16 * (8 * 27 + 1).
    num_parameters=3_696,
    parameters_with_classes=None,
    build=Network,
    title="Two convolutions over volumes",
    licence="Apache-2.0",
    citation="none: a test",
)

TASK = specs.Task(
    name="nodules",
    version=1,
    modality="volume",
    target="class",
    metrics=(TOP1,),
    load=load,
    folds=(specs.Fold(train="train", test="test"),),
    read=read,
    sample=specs.Sample(write=write_sample),
    how_to_get="ROOT/SPLIT/CLASS holds .npz files with one array, volume.",
    title="Nodules in made-up CT volumes",
    licence="Apache-2.0",
    citation="none: a test",
)
