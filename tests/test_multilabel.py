"""Items with several labels: probe, fine-tuning and evaluation against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from small_world import (
    PIXELS,
    Quarters,
    broken_item,
    fit_request,
    image_reading,
    model,
    predict_request,
    settings,
)
from torch import nn

from rsbench.cells import RunRequest, assemble_cell, prepare, settings_of
from rsbench.data.features import extract
from rsbench.data.splits import hold_out
from rsbench.errors import DataError
from rsbench.metrics import MEAN_AVERAGE_PRECISION
from rsbench.protocols import evaluate, finetune, linear_probe
from rsbench.protocols._networks import trained_model
from rsbench.records import store
from rsbench.runner import run
from rsbench.specs import Fitted, Item, ItemSet
from rsbench.training.loop import Checkpoint, Machine, TrainingBatch, TrainingPlan, train
from rsbench.view_scores import PROBABILITY_ERROR

pytestmark = pytest.mark.usefixtures("one_thread")


def lights(num_items: int, *, seed: int = 0) -> tuple[tuple[Item, ...], np.ndarray]:
    """Noisy pictures of which any number of quarters are bright, and which are: bool (N, 4)."""
    generator = np.random.default_rng(seed)
    truth = generator.random((num_items, 4)) < 0.4
    items = []
    for number in range(num_items):
        pixels = generator.normal(90, 30, (PIXELS, PIXELS, 3))
        for label in np.flatnonzero(truth[number]):
            row, column = divmod(int(label), 2)
            pixels[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 12
        source = pixels.clip(0, 255).astype(np.uint8)
        items.append(Item(id=f"lights_{number:03d}", source=source))
    return tuple(items), truth


def item_set(items: tuple[Item, ...], truth: np.ndarray | None, rows: range) -> ItemSet:
    targets = None
    if truth is not None:
        targets = tuple(tuple(np.flatnonzero(truth[row]).tolist()) for row in rows)
    return ItemSet(pool=items, rows=tuple(rows), targets=targets, classes=("a", "b", "c", "d"))


def features_of(items: tuple[Item, ...], tmp_path: Path) -> np.ndarray:
    found = extract(model(), items, image_reading(), settings(tmp_path), output="features")
    return found.values[:, 0].astype(np.float64)


def scikit_learns(features: np.ndarray, truth: np.ndarray, *, c: float) -> list[LogisticRegression]:
    return [
        LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(features, truth[:, k])
        for k in range(truth.shape[1])
    ]


# ---------------------------------------------------------------------------- linear_probe


def probe_recipe(**changes: Any) -> dict[str, Any]:
    return {**linear_probe.PROTOCOL.recipe, "strengths": 5, "strength_min": 1e-2, **changes}


def test_the_probe_is_one_logistic_regression_a_class_chosen_by_mean_average_precision(tmp_path):
    items, truth = lights(120)
    train, test = item_set(items, truth, range(80)), item_set(items, None, range(80, 120))
    asked = {"recipe": probe_recipe(), "target": "multilabel"}

    fitted = linear_probe.fit(
        fit_request(linear_probe.PROTOCOL, model(), train, settings(tmp_path), **asked)
    )
    predictions = linear_probe.predict(
        predict_request(linear_probe.PROTOCOL, model(), fitted, test, settings(tmp_path), **asked)
    )

    # Second source: scikit-learn on the same features, standardised as the protocol says.
    features = features_of(items, tmp_path)
    kept, held = map(list, hold_out([()] * 80, [None] * 80, share=0.2, seed=0))
    best = (-1.0, 0.0)
    for row in fitted.selection:
        mean, std = features[kept].mean(axis=0), features[kept].std(axis=0)
        probes = scikit_learns((features[kept] - mean) / std, truth[kept], c=row["c"])
        scores = [probe.decision_function((features[held] - mean) / std) for probe in probes]
        expected = average_precision_score(truth[held], np.stack(scores, axis=1), average="macro")
        assert row["held_out_map"] == pytest.approx(expected, abs=2e-3)
        best = max(best, (float(row["held_out_map"]), float(row["strength"])))
    assert fitted.chosen["strength"] == best[1]
    mean, std = features[:80].mean(axis=0), features[:80].std(axis=0)
    probes = scikit_learns((features[:80] - mean) / std, truth[:80], c=fitted.chosen["c"])
    expected = [probe.predict_proba((features[80:] - mean) / std)[:, 1] for probe in probes]
    np.testing.assert_allclose(
        np.stack(predictions.values), np.stack(expected, axis=1), atol=PROBABILITY_ERROR + 1e-4
    )
    assert predictions.views.activation == "sigmoid"
    # The four quarters are told apart: chance is the share of positives, two fifths.
    targets = [tuple(np.flatnonzero(row)) for row in truth[80:]]
    assert MEAN_AVERAGE_PRECISION.compute(targets, predictions.values) > 0.7


def test_items_without_labels_train_and_unreadable_ones_are_named(tmp_path):
    items, truth = lights(40)
    truth[:3] = False
    items = (*items, broken_item())
    truth = np.concatenate([truth, truth[:1]])
    asked = {"recipe": probe_recipe(strengths=2), "target": "multilabel"}

    fitted = linear_probe.fit(
        fit_request(
            linear_probe.PROTOCOL,
            model(),
            item_set(items, truth, range(41)),
            settings(tmp_path),
            **asked,
        )
    )
    predictions = linear_probe.predict(
        predict_request(
            linear_probe.PROTOCOL,
            model(),
            fitted,
            item_set(items, None, range(38, 41)),
            settings(tmp_path),
            **asked,
        )
    )

    assert fitted.chosen["num_fitted_on"] == 40
    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert [value is None for value in predictions.values] == [False, False, True]
    assert [failure.id for failure in predictions.failures] == ["broken"]


def test_nothing_can_be_selected_where_no_held_out_item_has_a_label(tmp_path):
    items, truth = lights(20)
    _, held = hold_out([()] * 20, [None] * 20, share=0.2, seed=0)
    truth[list(held)] = False

    with pytest.raises(DataError, match="one positive item at least"):
        linear_probe.fit(
            fit_request(
                linear_probe.PROTOCOL,
                model(),
                item_set(items, truth, range(20)),
                settings(tmp_path),
                recipe=probe_recipe(strengths=2),
                target="multilabel",
            )
        )


# ---------------------------------------------------------------------------- evaluate


def test_a_head_answers_each_label_with_a_sigmoid_averaged_over_views(tmp_path):
    items, _ = lights(6)
    torch.manual_seed(0)
    head = nn.Linear(Quarters.width, 4)
    reading = image_reading(crops=3)

    predictions = evaluate.predict(
        predict_request(
            evaluate.PROTOCOL,
            model(head=head, head_classes=("d", "c", "b", "a")),
            Fitted(),
            item_set(items, None, range(6)),
            settings(tmp_path),
            target="multilabel",
            reading=reading,
        )
    )

    features = extract(model(), items, reading, settings(tmp_path), output="features").values
    with torch.inference_mode():
        expected = torch.sigmoid(head(torch.from_numpy(features))).mean(dim=1).numpy()[:, ::-1]
    np.testing.assert_allclose(np.stack(predictions.values), expected, atol=PROBABILITY_ERROR)


# ---------------------------------------------------------------------------- finetune

PLAN = TrainingPlan(
    epochs=1,
    optimizer="sgd",
    learning_rate=0.0,
    momentum=0.0,
    weight_decay=0.0,
    decay_norm_and_bias=False,
    warmup_share=0.0,
    warmup_factor=1.0,
    label_smoothing=0.0,
    largest_gradient=0.0,
    loss="binary cross-entropy",
)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_binary_cross_entropy_by_hand(tmp_path, smoothing):
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    inputs, labels = torch.randn(4, 3), torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1]])
    with torch.inference_mode():
        probabilities = torch.sigmoid(network(inputs)).double().numpy()

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        yield TrainingBatch(inputs, labels, ("a", "b", "c", "d"))

    trained = train(
        network,
        read,
        replace(PLAN, label_smoothing=smoothing),
        steps_per_epoch=1,
        seed=0,
        machine=Machine(device="cpu", precision="float32"),
        checkpoint=Checkpoint(path=tmp_path / "none", key=""),
    )

    truth = labels.numpy() * (1 - smoothing) + smoothing / 2
    losses = -truth * np.log(probabilities) - (1 - truth) * np.log(1 - probabilities)
    assert trained.losses[0] == pytest.approx(losses.mean(), rel=1e-5)


def test_a_fine_tuned_network_learns_several_labels_and_predicts_sigmoids(tmp_path):
    items, truth = lights(64)
    train_set, test = item_set(items, truth, range(48)), item_set(items, None, range(48, 64))
    recipe = {
        **finetune.PROTOCOL.recipe,
        "epochs": 30,
        "learning_rate": 0.3,
        "flip_probability": 0.0,
        "smallest_crop": 1.0,
        "widest_aspect": 1.0,
    }
    asked = {"recipe": recipe, "target": "multilabel", "flip": False}
    network = model()

    fitted = finetune.PROTOCOL.fit(
        fit_request(finetune.PROTOCOL, network, train_set, settings(tmp_path), **asked)
    )
    del asked["flip"]
    predictions = finetune.PROTOCOL.predict(
        predict_request(finetune.PROTOCOL, network, fitted, test, settings(tmp_path), **asked)
    )

    values = np.stack(predictions.values)
    assert values.shape == (16, 4)
    # A softmax's rows would add up to 1.
    assert np.abs(values.sum(axis=1) - 1).max() > 0.3
    targets = [tuple(np.flatnonzero(row)) for row in truth[48:]]
    assert MEAN_AVERAGE_PRECISION.compute(targets, list(values)) > 0.7
    trained = trained_model(network, fitted.arrays, classes=test.classes, device="cpu")
    logits = extract(
        trained, items, image_reading(), settings(tmp_path), output="logits", rows=range(48, 64)
    ).values[:, 0]
    np.testing.assert_allclose(values, 1 / (1 + np.exp(-logits)), atol=PROBABILITY_ERROR)


# ---------------------------------------------------------------------------- from end to end


def test_charades_sample_through_the_linear_probe_scores_what_scikit_learn_does(
    tmp_path: Path, session_cache: Path
) -> None:
    request = RunRequest(
        task="charades@sample",
        backbone="tiny_2d",
        protocol="linear_probe",
        results=tmp_path / "results",
        cache_root=session_cache,
        overrides={"strengths": "3", "strength_min": "1"},
    )

    finished = run(request)

    (metric,) = finished.record.metrics
    assert metric.name == "mean_average_precision"
    cell = prepare(request)
    (fold,) = cell.gathered.folds
    truth = np.zeros((len(fold.test), len(fold.test.classes)), dtype=bool)
    for row, labels in enumerate(fold.test_targets):
        truth[row, list(labels)] = True
    # The number is scikit-learn's for the predictions that were kept.
    kept = np.stack(store.read_predictions(finished.path).predictions)
    assert metric.value == pytest.approx(average_precision_score(truth, kept, average="macro"))
    # And scikit-learn's own regressions on the same features, at the strength that was chosen, give
    # nearly these predictions.
    assembled = assemble_cell(cell)
    machine = settings_of(request, "second source")

    def features(items: ItemSet) -> np.ndarray:
        found = extract(
            assembled.model, items.pool, cell.fit_reading, machine, output="features",
            rows=items.rows,
        )  # fmt: skip
        return found.values[:, 0].astype(np.float64)

    assert fold.train is not None and fold.train.targets is not None
    train_truth = np.zeros((len(fold.train), len(fold.train.classes)), dtype=bool)
    for row, labels in enumerate(fold.train.targets):
        train_truth[row, list(labels)] = True
    train_features, test_features = features(fold.train), features(fold.test)
    mean, std = train_features.mean(axis=0), train_features.std(axis=0)
    c = finished.record.protocol.chosen["c"]
    assert isinstance(c, float)
    probes = scikit_learns((train_features - mean) / std, train_truth, c=c)
    scores = [probe.predict_proba((test_features - mean) / std)[:, 1] for probe in probes]
    np.testing.assert_allclose(kept, np.stack(scores, axis=1), atol=2e-3)
    assert metric.value == pytest.approx(
        average_precision_score(truth, np.stack(scores, axis=1), average="macro"), abs=0.01
    )


def test_classes_that_no_test_item_has_are_named_in_the_record(
    tmp_path: Path, session_cache: Path
) -> None:
    # Four test videos are one scene's at most twice: one photograph or some motions are not seen.
    request = RunRequest(
        task="charades@sample",
        backbone="tiny_2d",
        protocol="linear_probe",
        results=tmp_path / "results",
        cache_root=session_cache,
        limit=4,
    )

    cell = prepare(request)

    (fold,) = cell.gathered.folds
    seen = {label for labels in fold.test_targets for label in labels}
    unseen = [name for index, name in enumerate(fold.test.classes) if index not in seen]
    assert unseen
    (note,) = [note for note in cell.gathered.notes if "left out of the mean" in note]
    assert note.startswith(f"{len(unseen)} of 10 classes have no test item")
    assert unseen[0] in note
