"""Multi-label: which coloured squares are in a picture, by ridge regression on its features.

Looks for ROOT/labels.csv (``path,split,labels``; labels by semicolons, none is allowed) and the
pictures it names.
"""

import csv
from pathlib import Path

import numpy as np

from rsbench import specs
from rsbench.data.features import Extracted, extract
from rsbench.media.image import write_image
from rsbench.metrics import MEAN_AVERAGE_PRECISION

CLASSES = ("red", "green", "blue")


def load(root: Path, split: str) -> specs.Split:
    """List the pictures of a split, each with a tuple of class indices."""
    with (root / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == split]
    items = []
    for row in rows:
        labels = filter(None, row["labels"].split(";"))
        target = tuple(sorted(CLASSES.index(label) for label in labels))
        items.append(specs.Item(id=row["path"], source=root / row["path"], target=target))
    return specs.Split(items=tuple(items), classes=CLASSES, num_official=len(items))


def write_sample(root: Path) -> None:
    """Write every combination of squares a few times, at random places in noise."""
    random = np.random.default_rng(0)
    lines = ["path,split,labels"]
    for number in range(48):
        present = [k for k in range(3) if number >> k & 1]
        pixels = random.integers(0, 80, (32, 32, 3), np.uint8)
        for k in present:
            y, x = random.integers(0, 22, 2)
            pixels[y : y + 10, x : x + 10, k] = 255
        write_image(root / f"{number:02}.png", pixels)
        split = "train" if number < 32 else "test"
        lines.append(f"{number:02}.png,{split},{';'.join(CLASSES[k] for k in present)}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def look(
    request: specs.FitRequest | specs.PredictRequest, items: specs.ItemSet
) -> tuple[Extracted, tuple[specs.Failure, ...]]:
    """Give the features of a set, (N, V, D), and which of its items failed."""
    args = (request.model, items.pool, request.reading, request.settings)
    seen = extract(*args, output="features", rows=items.rows)
    failed = seen.failures.items()
    return seen, tuple(specs.Failure(id=items.items[at].id, reason=why) for at, why in failed)


def fit(request: specs.FitRequest) -> specs.Fitted:
    """Solve for "the picture shows class k" by ridge regression on standardised features."""
    assert request.train is not None and request.train.targets is not None
    seen, failures = look(request, request.train)
    features = seen.values[seen.readable].mean(axis=1).astype(np.float64)
    present = np.zeros((len(features), len(request.train.classes)))
    for row, at in enumerate(seen.readable):
        present[row, list(request.train.targets[at])] = 1
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = (features - mean) / std
    ridge = float(request.recipe["ridge"]) * np.eye(inputs.shape[1])
    weight = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (present - present.mean(axis=0)))
    arrays = {"mean": mean, "std": std, "weight": weight, "bias": present.mean(axis=0)}
    return specs.Fitted(arrays=arrays, failures=failures)


def predict(request: specs.PredictRequest) -> specs.Predictions:
    """Give float32 (K,), one score a class."""
    seen, failures = look(request, request.test)
    learned = request.fitted.arrays
    inputs = (seen.values.mean(axis=1) - learned["mean"]) / learned["std"]
    scores = (inputs @ learned["weight"] + learned["bias"]).astype(np.float32)
    values = (None if row in seen.failures else scores[row] for row in range(len(scores)))
    return specs.Predictions(values=tuple(values), failures=failures)


PROTOCOL = specs.Protocol(
    name="ridge_a_class",
    version=1,
    recipe={"ridge": 1.0},
    targets=frozenset({"multilabel"}),
    trains=True,
    selects_on="nothing",
    fit=fit,
    predict=predict,
    title="Ridge regression a class on frozen features",
    citation="none: a test",
)

TASK = specs.Task(
    name="coloured_squares",
    version=1,
    modality="image",
    target="multilabel",
    metrics=(MEAN_AVERAGE_PRECISION,),
    load=load,
    folds=(specs.Fold(train="train", test="test"),),
    sample=specs.Sample(write=write_sample, pixels=32),
    how_to_get="ROOT holds labels.csv and the pictures it names.",
    title="Coloured squares",
    licence="Apache-2.0",
    citation="none: a test",
)
