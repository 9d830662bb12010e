"""Detection: bright rectangles in noisy pictures; what stands out of a network's map is boxed.

Looks for ROOT/test/*.png and ROOT/test/boxes.json: ``{"0.png": [[x0, y0, x1, y1], ...]}``, in
pixels, x1 and y1 excluded. Pictures are as large as the network's input. Nothing is trained.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from rsbench import specs
from rsbench.data.loaders import read_views
from rsbench.errors import MediaError
from rsbench.media.image import write_image
from rsbench.media.transforms import normalise


def load(root: Path, split: str) -> specs.Split:
    boxes = json.loads((root / split / "boxes.json").read_text())
    rows = [(root / split / name, np.array(boxes[name], np.float32)) for name in sorted(boxes)]
    items = (specs.Item(id=path.name, source=path, target=target) for path, target in rows)
    return specs.Split(items=tuple(items))


def write_sample(root: Path) -> None:
    (root / "test").mkdir()
    random = np.random.default_rng(0)
    boxes: dict[str, list[list[int]]] = {}
    for name in (f"{number}.png" for number in range(8)):
        pixels = random.integers(0, 40, (32, 32, 3), np.uint8)
        corners = [(2, 3), (18, 16)][: random.integers(1, 3)]
        sizes = random.integers(8, 13, (len(corners), 2)).tolist()
        found = zip(corners, sizes, strict=True)
        boxes[name] = [[x, y, x + width, y + height] for (x, y), (width, height) in found]
        for x0, y0, x1, y1 in boxes[name]:
            pixels[y0:y1, x0:x1] += 200
        write_image(root / "test" / name, pixels)
    (root / "test" / "boxes.json").write_text(json.dumps(boxes))


def overlaps(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Give the intersections over unions of boxes (n, 4) and (m, 4): (n, m)."""
    first, last = np.maximum(true[:, None], found), np.minimum(true[:, None], found)
    both = (last[..., 2:] - first[..., :2]).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (true, found)]
    return both / (areas[0][:, None] + areas[1] - both)


def best_overlaps(targets: Sequence, predictions: Sequence) -> np.ndarray:
    """Give (N,): the best overlap of each true box, averaged over an item's; 0 where it failed."""
    found = [np.empty((0, 4)) if each is None else each["boxes"] for each in predictions]
    pairs = zip(targets, found, strict=True)
    return np.array([overlaps(*pair).max(axis=1, initial=0).mean() for pair in pairs])


def boxes_of(cells: np.ndarray, *, cell_pixels: float, threshold: float) -> dict[str, np.ndarray]:
    """Box the connected parts of a map (C, H, W) that are far from its median."""
    distance = np.linalg.norm(cells - np.median(cells, axis=(1, 2), keepdims=True), axis=0)
    standing_out = ndimage.binary_fill_holes(distance > threshold * distance.max())
    parts, num_parts = ndimage.label(standing_out, np.ones((3, 3)))
    found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
    scores = ndimage.mean(distance, parts, range(1, num_parts + 1)) / distance.max()
    boxes = np.array(found, np.float32).reshape(-1, 4) * np.float32(cell_pixels)
    return {"boxes": boxes, "scores": np.array(scores, np.float32)}


def predict(request: specs.PredictRequest) -> specs.Predictions:
    values: list[dict[str, np.ndarray] | None] = []
    failures = []
    for item in request.test.items:
        try:
            view = read_views(item, request.reading).to(request.settings.device)
        except MediaError as error:
            values.append(None)
            failures.append(specs.Failure(id=item.id, reason=str(error)))
            continue
        with torch.inference_mode():
            maps = request.model.module.stage_maps(normalise(view, request.reading.input))
        cells = next(iter(maps.values()))[0].cpu().numpy()
        cell_pixels = request.reading.input.pixels / cells.shape[-1]
        threshold = float(request.recipe["threshold"])
        values.append(boxes_of(cells, cell_pixels=cell_pixels, threshold=threshold))
    return specs.Predictions(values=tuple(values), failures=tuple(failures))


PROTOCOL = specs.Protocol(
    name="boxes_of_what_stands_out",
    version=1,
    recipe={"threshold": 0.5},
    targets=frozenset({"boxes"}),
    trains=False,
    selects_on="nothing",
    fit=lambda request: specs.Fitted(),
    predict=predict,
    title="Boxes around what is far from the median of the finest map",
    citation="none: a test",
)

TASK = specs.Task(
    name="rectangles",
    version=1,
    modality="image",
    target="boxes",
    metrics=(
        specs.Metric(
            name="mean_best_overlap",
            compute=lambda targets, predictions: float(best_overlaps(targets, predictions).mean()),
            per_item=best_overlaps,
            level="box",
        ),
    ),
    load=load,
    folds=(specs.Fold(test="test"),),
    sample=specs.Sample(write=write_sample, pixels=32),
    how_to_get="ROOT/test holds pictures and boxes.json.",
    title="Bright rectangles in noise",
    licence="Apache-2.0",
    citation="none: a test",
)
