"""Segmentation: red discs and blue bars, told by least squares on a network's features a pixel.

Looks for ROOT/SPLIT/images/*.png and ROOT/SPLIT/masks/*.png, whose grey levels are class indices.
Pictures are as large as the network's input.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rsbench import specs
from rsbench.data.features import Extracted, extract
from rsbench.media.image import read_image, write_image


def load(root: Path, split: str) -> specs.Split:
    paths = sorted((root / split / "images").glob("*.png"))
    rows = [(path, root / split / "masks" / path.name) for path in paths]
    items = (specs.Item(id=f"{split}/{path.name}", source=path, target=mask) for path, mask in rows)
    return specs.Split(items=tuple(items), classes=("background", "disc", "bar"))


def write_sample(root: Path) -> None:
    random = np.random.default_rng(0)
    colours = np.array([(40, 40, 40), (200, 40, 40), (40, 40, 200)], np.uint8)
    rows, columns = np.mgrid[:32, :32]
    for split, number in [(split, number) for split in ("train", "test") for number in range(8)]:
        x, y, left = random.integers((8, 8, 20), (12, 24, 26))
        disc = (columns - x) ** 2 + (rows - y) ** 2 < 36
        mask = np.where(disc, 1, 2 * ((left <= columns) & (columns < left + 5))).astype(np.uint8)
        pixels = colours[mask] + random.integers(0, 40, (32, 32, 3), np.uint8)
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
            write_image(root / split / folder / f"{number}.png", content)


def right_pixels(targets: Sequence, predictions: Sequence) -> np.ndarray:
    """Give (N,): the share of each item's pixels that are right; 0 where it failed."""
    pairs = zip(targets, predictions, strict=True)
    return np.array([0.0 if found is None else np.mean(true == found) for true, found in pairs])


class PixelFeatures(nn.Module):
    """A network whose features are its finest map at every pixel: (N, H * W * C')."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        finest = next(iter(self.network.stage_maps(batch).values()))
        maps = functional.interpolate(finest, batch.shape[2:], mode="bilinear")
        return maps.movedim(1, 3).flatten(1)


def look(
    request: specs.FitRequest | specs.PredictRequest, items: specs.ItemSet
) -> tuple[Extracted, tuple[specs.Failure, ...]]:
    """Give the features of a set's pixels, and which of its items failed."""
    network = PixelFeatures(request.model.module).eval()
    model = replace(request.model, module=network, digest=f"{request.model.digest}, pixels")
    args = (model, items.pool, request.reading, request.settings)
    seen = extract(*args, output="features", rows=items.rows)
    failed = seen.failures.items()
    return seen, tuple(specs.Failure(id=items.items[at].id, reason=why) for at, why in failed)


def fit(request: specs.FitRequest) -> specs.Fitted:
    """Solve for "this pixel is of class k" by least squares."""
    assert request.train is not None and request.train.targets is not None
    seen, failures = look(request, request.train)
    true = np.stack([request.train.targets[row] for row in seen.readable]).ravel()
    pixels = seen.values[seen.readable].reshape(len(true), -1)
    ones = np.eye(len(request.train.classes), dtype=np.float32)[true]
    inputs = np.pad(pixels, ((0, 0), (0, 1)), constant_values=1)
    weight = np.linalg.lstsq(inputs, ones, rcond=None)[0]
    return specs.Fitted(arrays={"weight": weight}, failures=failures)


def predict(request: specs.PredictRequest) -> specs.Predictions:
    """Give uint8 (H, W), the class of each pixel."""
    seen, failures = look(request, request.test)
    side, weight = request.reading.input.pixels, request.fitted.arrays["weight"]
    values: list[np.ndarray | None] = [None] * len(request.test)
    for row in seen.readable:
        scores = seen.values[row].reshape(side, side, -1) @ weight[:-1] + weight[-1]
        values[row] = scores.argmax(axis=2).astype(np.uint8)
    return specs.Predictions(values=tuple(values), failures=failures)


PROTOCOL = specs.Protocol(
    name="least_squares_a_pixel",
    version=1,
    recipe={"map": "finest"},
    targets=frozenset({"mask"}),
    trains=True,
    selects_on="nothing",
    fit=fit,
    predict=predict,
    title="Least squares on the finest map, at every pixel",
    citation="none: a test",
)

TASK = specs.Task(
    name="discs_and_bars",
    version=1,
    modality="image",
    target="mask",
    metrics=(
        specs.Metric(
            name="pixel_accuracy",
            compute=lambda targets, predictions: float(right_pixels(targets, predictions).mean()),
            per_item=right_pixels,
            level="pixel",
        ),
    ),
    load=load,
    folds=(specs.Fold(train="train", test="test"),),
    read_target=lambda item: read_image(item.target)[..., 0],
    sample=specs.Sample(write=write_sample, pixels=32),
    how_to_get="ROOT/SPLIT holds images and masks of the same names.",
    title="Discs and bars",
    licence="Apache-2.0",
    citation="none: a test",
)
