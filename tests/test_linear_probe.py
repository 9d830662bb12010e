"""The linear probe: select on held-out train, refit on all, average softmax over views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from small_world import (
    Quarters,
    broken_item,
    fit_request,
    image_reading,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)
from torch import nn

from rsbench.data.features import extract
from rsbench.errors import DataError, RsbenchError, RunError
from rsbench.protocols.linear_probe import PROTOCOL, fit, predict
from rsbench.specs import Fitted, ItemSet, Predictions
from rsbench.view_scores import PROBABILITY_ERROR

pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(**changes: Any) -> dict[str, Any]:
    """The recipe with nine strengths: the path at its full length takes seconds."""
    return {**PROTOCOL.recipe, "strengths": 9, **changes}


def _fit(tmp_path: Path, train: ItemSet, **changes: Any) -> Fitted:
    asked = {"recipe": _recipe(), **changes}
    return fit(fit_request(PROTOCOL, model(), train, settings(tmp_path), **asked))


def _predict(tmp_path: Path, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    return predict(predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path), **changes))


def test_classes_that_differ_are_learned_and_labels_stay_with_their_items(tmp_path: Path) -> None:
    items, labels = pictures(120, noise=20)
    shuffled = np.random.default_rng(1).permutation(120).tolist()
    train = item_set(items, labels, rows=shuffled[:90])
    test = item_set(items, None, rows=shuffled[90:])

    predictions = _predict(tmp_path, _fit(tmp_path, train), test)

    found = [int(np.argmax(value)) for value in predictions.values]
    assert found == [labels[row] for row in shuffled[90:]]
    assert all(value.dtype == np.float32 and value.shape == (3,) for value in predictions.values)


def test_the_strengths_are_those_of_kornblith(tmp_path: Path) -> None:
    items, labels = pictures(30)

    fitted = _fit(tmp_path, item_set(items, labels), recipe=PROTOCOL.recipe)

    # protocols.md 5.1: 45 log-spaced lambda in [1e-6, 1e5], a quarter of a decade apart.
    strengths = sorted(float(row["strength"]) for row in fitted.selection)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.log10(strengths), np.arange(-6, 5.01, 0.25), atol=1e-9)
    for row in fitted.selection:
        assert row["c"] == pytest.approx(1 / (2 * row["strength"]))  # type: ignore[operator]


def test_the_choice_is_the_best_held_out_score_and_a_tie_goes_to_the_stronger(
    tmp_path: Path,
) -> None:
    items, labels = pictures(60, noise=60)

    fitted = _fit(tmp_path, item_set(items, labels))

    best = max(float(row["held_out_top1"]) for row in fitted.selection)  # type: ignore[arg-type]
    strongest = max(
        float(row["strength"])  # type: ignore[arg-type]
        for row in fitted.selection
        if row["held_out_top1"] == best
    )
    assert [row["strength"] for row in fitted.selection if row["chosen"]] == [strongest]
    assert fitted.chosen["strength"] == strongest
    assert fitted.chosen["selected_on"] == "held-out train"


def test_the_refit_is_on_all_of_train(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train = item_set(items, labels)

    fitted = _fit(tmp_path, train)

    features = extract(
        model(), items, image_reading(), settings(tmp_path), output="features"
    ).values[:, 0]
    assert fitted.chosen["num_fitted_on"] == 60
    assert fitted.chosen["num_selected_on"] == 12
    np.testing.assert_allclose(fitted.arrays["mean"], features.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(fitted.arrays["std"], features.std(axis=0), atol=1e-5)


def test_groups_are_not_split_between_kept_and_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsbench.data import splits

    asked: list[Any] = []
    real = splits.hold_out

    def spy(targets: Any, groups: Any, **rest: Any) -> Any:
        asked.append(groups)
        return real(targets, groups, **rest)

    monkeypatch.setattr(splits, "hold_out", spy)
    items, labels = pictures(60)

    _fit(tmp_path, item_set(items, labels))

    assert asked == [tuple(item.group for item in items)]


def test_official_validation_data_selects_and_then_trains_too(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train = item_set(items, labels, rows=range(40))
    validation = item_set(items, labels, rows=range(40, 60))

    fitted = _fit(tmp_path, train, validation=validation)

    assert fitted.chosen["selected_on"] == "validation"
    assert fitted.chosen["num_selected_on"] == 20
    assert fitted.chosen["num_fitted_on"] == 60


def test_views_are_averaged_as_probabilities_over_classes(tmp_path: Path) -> None:
    items, labels = pictures(30)
    wide = [replace(item, source=np.hstack([item.source, item.source[:, ::-1]])) for item in items]
    fitted = _fit(tmp_path, item_set(items, labels))
    test = item_set(wide, None)

    predictions = _predict(tmp_path, fitted, test, reading=image_reading(crops=3))

    features = extract(
        model(), wide, image_reading(crops=3), settings(tmp_path), output="features"
    ).values.astype(np.float64)
    arrays = fitted.arrays
    standard = (features - arrays["mean"]) / arrays["std"]
    scores = np.einsum("nvd,kd->nvk", standard, arrays["weight"]) + arrays["bias"]
    exponentials = np.exp(scores)
    by_hand = (exponentials / exponentials.sum(axis=2, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(np.stack(predictions.values), by_hand, atol=PROBABILITY_ERROR)


def test_what_was_fitted_gives_the_same_scores_after_saving(tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    items, labels = pictures(30)
    fitted = _fit(tmp_path, item_set(items, labels))
    test = item_set(pictures(6, seed=3)[0], None)

    kept = Fitted(arrays=load(save(dict(fitted.arrays))))

    for one, other in zip(
        _predict(tmp_path, fitted, test).values,
        _predict(tmp_path, kept, test).values,
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_unreadable_items_are_named_and_left_out_of_training_and_prediction(
    tmp_path: Path,
) -> None:
    items, labels = pictures(30)
    with_broken = (*items, broken_item())

    fitted = _fit(tmp_path, item_set(with_broken, (*labels, 0)))
    predictions = _predict(tmp_path, fitted, item_set(with_broken, None, rows=[2, 30, 5]))

    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_fitted_on"] == 30
    assert predictions.values[1] is None
    assert [failure.id for failure in predictions.failures] == ["broken"]
    assert predictions.values[0] is not None
    assert predictions.values[2] is not None


def test_where_no_test_item_can_be_read_all_are_named(tmp_path: Path) -> None:
    fitted = _fit(tmp_path, item_set(*pictures(30)))

    predictions = _predict(tmp_path, fitted, item_set([broken_item()], None))

    assert predictions.values == (None,)
    assert [failure.id for failure in predictions.failures] == ["broken"]


def test_a_class_without_training_items_has_probability_0(tmp_path: Path) -> None:
    items, labels = pictures(30)
    fitted = _fit(tmp_path, item_set(items, labels, num_classes=5))

    predictions = _predict(tmp_path, fitted, item_set(items, None, num_classes=5))

    assert all(value[3] == 0 and value[4] == 0 for value in predictions.values)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batch_size_and_workers_leave_labels_and_scores(
    tmp_path: Path, batch_size: int, num_workers: int
) -> None:
    items, labels = pictures(40, noise=60)
    train, test = item_set(items, labels, rows=range(30)), item_set(items, None, rows=range(30, 40))

    def scores(folder: Path, **machine: Any) -> np.ndarray:
        chosen = settings(folder, **machine)
        fitted = fit(fit_request(PROTOCOL, model(), train, chosen, recipe=_recipe()))
        predicted = predict(
            predict_request(PROTOCOL, model(), fitted, test, chosen, reading=image_reading(crops=3))
        )
        return np.stack(predicted.values)

    expected = scores(tmp_path / "plain")
    found = scores(tmp_path / "other", batch_size=batch_size, num_workers=num_workers)

    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_features_that_are_not_finite_name_their_items(tmp_path: Path) -> None:
    class Exploding(Quarters):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return super().forward(batch) / 0

    train = item_set(*pictures(12))

    with pytest.raises(RunError, match=r"12 of 12 items: picture_000, picture_001"):
        fit(fit_request(PROTOCOL, model(Exploding()), train, settings(tmp_path)))


def test_one_class_alone_is_an_error(tmp_path: Path) -> None:
    items, _ = pictures(12)

    with pytest.raises(DataError, match="at least two classes"):
        _fit(tmp_path, item_set(items, [1] * 12))


def test_nothing_to_hold_out_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two items"):
        _fit(tmp_path, item_set(*pictures(3)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("held_out", 1.0),
        ("held_out", 0.0),
        ("strengths", 0),
        ("strength_min", 0.0),
        ("strength_max", 1e-9),
        ("strength_scale", "lambda"),
        ("standardise", "yes"),
        ("max_iterations", -1),
        ("tolerance", float("nan")),
    ],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _fit(tmp_path, item_set(*pictures(12)), recipe=_recipe(**{key: value}))
    assert "\n" not in str(caught.value)


def test_every_number_of_the_recipe_is_obeyed(tmp_path: Path) -> None:
    train = item_set(*pictures(30))

    plain = _fit(tmp_path, train, recipe=_recipe(standardise=False, strengths=3))
    other = _fit(tmp_path, train, recipe=_recipe(held_out=0.5, strength_scale="C", strengths=3))

    assert (plain.arrays["std"] == 1).all()
    assert (plain.arrays["mean"] == 0).all()
    assert len(plain.selection) == 3
    # Groups hold six items each: of 30 items, a fifth is one group and half is two.
    assert other.chosen["num_selected_on"] == 12
    assert all(row["c"] == row["strength"] for row in other.selection)


def test_one_optimum_stated_in_four_conventions_is_the_same_classifier(tmp_path: Path) -> None:
    c, num_items = 0.25, 60
    train = item_set(*pictures(num_items, noise=80))
    # By hand from protocols.md 5.2: what each code's grid variable is where scikit-learn's C is c.
    strengths = {
        "sum": 1 / (2 * c),
        "half-sum": 1 / c,
        "mean": 1 / (2 * c * num_items),
        "C": c,
    }

    fitted = {
        scale: _fit(
            tmp_path,
            train,
            recipe=_recipe(
                strengths=1, strength_min=strength, strength_max=strength, strength_scale=scale
            ),
        )
        for scale, strength in strengths.items()
    }

    for scale, each in fitted.items():
        assert each.chosen["c"] == pytest.approx(c), scale
        for name in ("weight", "bias"):
            np.testing.assert_allclose(
                each.arrays[name], fitted["C"].arrays[name], atol=1e-3, err_msg=scale
            )
    inputs_ND = (
        extract(model(), train.pool, image_reading(), settings(tmp_path), output="features")
        .values[:, 0]
        .astype(np.float64)
    )
    inputs_ND = (inputs_ND - inputs_ND.mean(axis=0)) / inputs_ND.std(axis=0)
    solver = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=2000)
    solver.fit(inputs_ND, list(train.targets or ()))
    np.testing.assert_allclose(fitted["C"].arrays["weight"], solver.coef_, atol=1e-3)


def test_the_seed_decides_what_is_held_out_and_nothing_else_is_random(tmp_path: Path) -> None:
    train = item_set(*pictures(60, noise=80))

    first, again, other = (_fit(tmp_path, train, seed=seed) for seed in (0, 0, 1))

    np.testing.assert_array_equal(first.arrays["weight"], again.arrays["weight"])
    assert first.selection == again.selection
    assert first.selection != other.selection


def test_a_network_is_not_changed_by_being_probed(tmp_path: Path) -> None:
    network = Quarters()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    fit(fit_request(PROTOCOL, model(network), item_set(*pictures(12)), settings(tmp_path)))

    assert isinstance(network, nn.Module)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
