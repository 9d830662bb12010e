"""Small items, networks and settings that the tests of loaders, features and protocols share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rsbench.specs import (
    ClipSpec,
    FitRequest,
    Fitted,
    InputSpec,
    Item,
    ItemSet,
    Model,
    PredictRequest,
    Protocol,
    Reading,
    Settings,
    Views,
)

PIXELS = 8
INPUT = InputSpec(pixels=PIXELS, frames=4, stride=1)


class Quarters(nn.Module):
    """Mean colour of each quarter of the picture, frames averaged, behind a batch norm: (N, 12)."""

    width = 12

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module | None = None
        self.norm = nn.BatchNorm1d(self.width)
        self.num_views_seen = 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.num_views_seen += len(batch)
        pictures = batch.mean(2) if batch.ndim == 5 else batch
        return self.norm(nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1))

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the pixels of a small copy, then the features as a map of one position."""
        pictures = batch.mean(2) if batch.ndim == 5 else batch
        small = nn.functional.adaptive_avg_pool2d(pictures, 4)
        return {"s1": small, "s2": self.forward(batch)[:, :, None, None]}


def model(
    module: nn.Module | None = None,
    *,
    head: nn.Module | None = None,
    head_classes: Sequence[str] = (),
    digest: str = "network",
    maps_digest: str = "its maps",
) -> Model:
    return Model(
        module=(module or Quarters()).eval(),
        head=head,
        head_classes=tuple(head_classes),
        feature_width=Quarters.width,
        lifting="none",
        digest=digest,
        maps_digest=lambda: maps_digest,
    )


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(cache_root=tmp_path / "cache", work_root=tmp_path / "work", **changes)


def image_reading(*, crops: int = 1) -> Reading:
    return Reading(
        modality="image",
        input=INPUT,
        clip=ClipSpec(frames=1, stride=1),
        sampler="mmaction2@1",
        views=Views(crops=crops),
    )


def video_reading(*, clips: int = 1, crops: int = 1) -> Reading:
    return Reading(
        modality="video",
        input=INPUT,
        clip=ClipSpec(frames=4, stride=1),
        sampler="mmaction2@1",
        views=Views(clips=clips, crops=crops),
    )


def pictures(
    num_items: int, *, num_classes: int = 3, noise: float = 30.0, seed: int = 0
) -> tuple[tuple[Item, ...], tuple[int, ...]]:
    """Noisy pictures whose bright quarter says the class: items without targets, and labels."""
    generator = np.random.default_rng(seed)
    items, labels = [], []
    for number in range(num_items):
        label = number % num_classes
        pixels = generator.normal(100, noise, (PIXELS, PIXELS, 3))
        row, column = divmod(label, 2)
        pixels[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 60
        source = pixels.clip(0, 255).astype(np.uint8)
        items.append(Item(id=f"picture_{number:03d}", source=source, group=f"g{number // 6}"))
        labels.append(label)
    return tuple(items), tuple(labels)


def broken_item(name: str = "broken") -> Item:
    """An item that is present and is no picture."""
    return Item(id=name, source=np.zeros((3, 3), dtype=np.uint8))


def item_set(
    items: Sequence[Item],
    labels: Sequence[int] | None,
    *,
    rows: Sequence[int] | None = None,
    num_classes: int = 3,
) -> ItemSet:
    chosen = tuple(range(len(items))) if rows is None else tuple(rows)
    return ItemSet(
        pool=tuple(items),
        rows=chosen,
        targets=None if labels is None else tuple(labels[row] for row in chosen),
        classes=tuple(f"class {number}" for number in range(num_classes)),
    )


def fit_request(
    protocol: Protocol, network: Model, train: ItemSet | None, machine: Settings, **changes: Any
) -> FitRequest:
    given: dict[str, Any] = {
        "validation": None,
        "target": "class",
        "recipe": protocol.recipe,
        "reading": image_reading(),
        "flip": True,
        "seed": 0,
        **changes,
    }
    return FitRequest(model=network, train=train, settings=machine, **given)


def predict_request(
    protocol: Protocol,
    network: Model,
    fitted: Fitted,
    test: ItemSet,
    machine: Settings,
    **changes: Any,
) -> PredictRequest:
    given: dict[str, Any] = {
        "target": "class",
        "recipe": protocol.recipe,
        "reading": image_reading(),
        "seed": 0,
        **changes,
    }
    return PredictRequest(model=network, fitted=fitted, test=test, settings=machine, **given)
