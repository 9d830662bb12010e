"""Depth: how far a foggy wall is at every pixel, by least squares on a network's finest map.

Looks for ROOT/SPLIT/*.png and, of the same name, ROOT/SPLIT/*.npy: float32 (H, W), in metres.
Pictures are as large as the network's input.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from rsbench import specs
from rsbench.data.loaders import batches
from rsbench.media.image import write_image
from rsbench.media.transforms import normalise


def load(root: Path, split: str) -> specs.Split:
    paths = [(path, path.with_suffix(".npy")) for path in sorted((root / split).glob("*.png"))]
    items = (specs.Item(id=f"{split}/{path.name}", source=path, target=npy) for path, npy in paths)
    return specs.Split(items=tuple(items))


def write_sample(root: Path) -> None:
    """Write slanted walls from 1 to 5 metres away; the fog brightens what is far."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32] / 31 - 0.5
    for split, number in [(split, number) for split in ("train", "test") for number in range(8)]:
        down, right = random.uniform(-2, 2, 2)
        depth = (3 + down * rows + right * columns).astype(np.float32)
        fog = 1 - np.exp(-depth[..., None] / 3)
        pixels = 230 * fog + random.uniform(0, 50, (32, 32, 3)) * (1 - fog)
        (root / split).mkdir(exist_ok=True)
        write_image(root / split / f"{number}.png", pixels.astype(np.uint8))
        np.save(root / split / f"{number}.npy", depth)


def rmse(targets: Sequence, predictions: Sequence) -> float:
    """Give the root of the mean square error over all pixels, in metres; a failed item says 0."""
    pairs = zip(targets, predictions, strict=True)
    errors = [true - (0 if found is None else found) for true, found in pairs]
    return float(np.mean(np.concatenate([error.ravel() for error in errors]) ** 2) ** 0.5)


def look(
    request: specs.FitRequest | specs.PredictRequest, items: specs.ItemSet
) -> Iterator[tuple[int, np.ndarray | specs.Failure]]:
    """Give the row of each item with its features a pixel, (H, W, C'), or why it failed."""
    for batch in batches(items.items, request.reading, request.settings):
        for failure in batch.failures:
            name = items.items[failure.row].id
            yield failure.row, specs.Failure(id=name, reason=failure.reason)
        for row, view in zip(batch.rows, batch.views, strict=True):
            inputs = normalise(view.to(request.settings.device), request.reading.input)
            with torch.inference_mode():
                finest = next(iter(request.model.module.stage_maps(inputs).values()))
                maps = functional.interpolate(finest, inputs.shape[2:], mode="bilinear")
            yield row, maps[0].movedim(0, 2).cpu().numpy()


def fit(request: specs.FitRequest) -> specs.Fitted:
    """Solve for depth = weight x (features, 1) by least squares."""
    assert request.train is not None and request.train.targets is not None
    gram, moment = np.float64(0), np.float64(0)
    failures = []
    for row, seen in look(request, request.train):
        if isinstance(seen, specs.Failure):
            failures.append(seen)
            continue
        inputs = np.pad(seen.reshape(-1, seen.shape[2]), ((0, 0), (0, 1)), constant_values=1)
        gram = gram + inputs.T @ inputs
        moment = moment + inputs.T @ request.train.targets[row].ravel()
    weight = np.linalg.solve(gram + request.recipe["ridge"] * np.eye(len(gram)), moment)
    return specs.Fitted(arrays={"weight": weight}, failures=tuple(failures))


def predict(request: specs.PredictRequest) -> specs.Predictions:
    """Give float32 (H, W), in metres."""
    weight = request.fitted.arrays["weight"].astype(np.float32)
    values: list[np.ndarray | None] = [None] * len(request.test)
    failures = []
    for row, seen in look(request, request.test):
        if isinstance(seen, specs.Failure):
            failures.append(seen)
        else:
            values[row] = seen @ weight[:-1] + weight[-1]
    return specs.Predictions(values=tuple(values), failures=tuple(failures))


PROTOCOL = specs.Protocol(
    name="depth_by_least_squares",
    version=1,
    recipe={"ridge": 1e-3},
    targets=frozenset({"depth"}),
    trains=True,
    selects_on="nothing",
    fit=fit,
    predict=predict,
    title="Least squares on the finest map, at every pixel",
    citation="none: a test",
)

TASK = specs.Task(
    name="foggy_walls",
    version=1,
    modality="image",
    target="depth",
    metrics=(specs.Metric(name="rmse", compute=rmse, higher_is_better=False, level="pixel"),),
    load=load,
    folds=(specs.Fold(train="train", test="test"),),
    read_target=lambda item: np.load(item.target),
    sample=specs.Sample(write=write_sample, pixels=32),
    how_to_get="ROOT/SPLIT holds NAME.png and NAME.npy.",
    title="Foggy walls",
    licence="Apache-2.0",
    citation="none: a test",
)
