"""The knn protocol: k selected on what did not vote, then everything votes, views averaged.

Second source: scikit-learn's KNeighborsClassifier with cosine distances and the weights of
DINOv2 (exp of similarity over temperature).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from small_world import (
    broken_item,
    fit_request,
    image_reading,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)

from rsbench.data.features import extract
from rsbench.errors import DataError, RsbenchError
from rsbench.protocols.knn import PROTOCOL, fit, predict
from rsbench.records import heads
from rsbench.specs import Fitted, Item, ItemSet, Predictions
from rsbench.view_scores import PROBABILITY_ERROR


def _fit(tmp_path: Path, train: ItemSet, **changes: Any) -> Fitted:
    return fit(fit_request(PROTOCOL, model(), train, settings(tmp_path), **changes))


def _predict(tmp_path: Path, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    return predict(predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path), **changes))


def _features(tmp_path: Path, items: tuple[Item, ...], **reading: Any) -> np.ndarray:
    return extract(
        model(), items, image_reading(**reading), settings(tmp_path), output="features"
    ).values.astype(np.float64)


def _shares_of_scikit_learn(
    features: np.ndarray, labels: np.ndarray, asked: np.ndarray, *, num_neighbours: int
) -> np.ndarray:
    peer = KNeighborsClassifier(
        num_neighbours,
        metric="cosine",
        algorithm="brute",
        weights=lambda distances: np.exp((1 - distances) / 0.07),
    )
    shares: np.ndarray = peer.fit(features, labels).predict_proba(asked)
    return shares


@pytest.mark.parametrize("num_neighbours", [1, 7])
def test_probabilities_are_those_of_scikit_learn(tmp_path: Path, num_neighbours: int) -> None:
    items, labels = pictures(90, noise=60)
    recipe = {**PROTOCOL.recipe, "neighbours": str(num_neighbours)}
    fitted = _fit(tmp_path, item_set(items, labels, rows=range(60)), recipe=recipe)

    predictions = _predict(tmp_path, fitted, item_set(items, None, rows=range(60, 90)))

    features = _features(tmp_path, items)[:, 0]
    expected = _shares_of_scikit_learn(
        features[:60], np.array(labels[:60]), features[60:], num_neighbours=num_neighbours
    )
    found = np.stack(predictions.values)
    np.testing.assert_allclose(found, expected, atol=2 * PROBABILITY_ERROR)
    assert found.dtype == np.float32


def test_k_is_the_best_on_held_out_train_and_a_tie_goes_to_the_smaller(tmp_path: Path) -> None:
    items, labels = pictures(150, noise=90)
    recipe = {**PROTOCOL.recipe, "neighbours": "100,1,9,25,400", "held_out": 0.2}

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe)

    # 400 neighbours of fewer than 150 examples there are none.
    assert [row["neighbours"] for row in fitted.selection] == [1, 9, 25, 100]
    scores = {int(row["neighbours"]): row["held_out_top1"] for row in fitted.selection}  # type: ignore[arg-type]
    best = min(k for k, score in scores.items() if score == max(scores.values()))  # type: ignore[type-var]
    assert [row["neighbours"] for row in fitted.selection if row["chosen"]] == [best]
    assert fitted.chosen == {
        "neighbours": best,
        "selected_on": "held-out train",
        "num_selected_on": 30,
        "num_fitted_on": 150,
    }
    easy_items, easy_labels = pictures(60, noise=1)
    easy = _fit(tmp_path / "easy", item_set(easy_items, easy_labels), recipe=recipe)
    assert easy.selection[0]["held_out_top1"] == easy.selection[1]["held_out_top1"] == 1.0
    assert easy.chosen["neighbours"] == 1


def test_held_out_scores_are_those_of_examples_that_do_not_vote(tmp_path: Path) -> None:
    # Mostly noise: only who asks the example itself gets all of them right.
    items, labels = pictures(40, noise=200)
    recipe = {**PROTOCOL.recipe, "neighbours": "1", "held_out": 0.5}

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe)

    assert fitted.selection[0]["held_out_top1"] < 0.9  # type: ignore[operator]
    known = _predict(tmp_path, fitted, item_set(items, None))
    assert [int(np.argmax(value)) for value in known.values] == list(labels)


def test_official_validation_data_selects_and_then_votes_too(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train = item_set(items, labels, rows=range(40))
    validation = item_set(items, labels, rows=range(40, 60))

    fitted = _fit(tmp_path, train, validation=validation)

    assert fitted.chosen["selected_on"] == "validation"
    assert fitted.chosen["num_selected_on"] == 20
    assert fitted.chosen["num_fitted_on"] == len(fitted.arrays["labels"]) == 60


def test_where_every_k_is_too_large_the_run_is_refused(tmp_path: Path) -> None:
    items, labels = pictures(9)
    lone = tuple(replace(item, group=None) for item in items)

    with pytest.raises(DataError) as caught:
        _fit(tmp_path, item_set(lone, labels))

    # A third of nine is held out.
    assert str(caught.value) == (
        "neighbours must hold a number of at most 6, the examples that vote while it is selected;"
        " it was 10, 20, 100, 200: give others with --set neighbours=LIST."
    )


def test_a_k_that_is_left_out_is_noted(tmp_path: Path) -> None:
    items, labels = pictures(60)

    fitted = _fit(tmp_path, item_set(items, labels))
    small = _fit(tmp_path, item_set(items, labels), recipe={**PROTOCOL.recipe, "neighbours": "3"})

    num_voting = 60 - int(str(fitted.chosen["num_selected_on"]))
    assert fitted.notes == (
        f"100, 200 neighbours are more than the {num_voting} training examples that vote while"
        " their number is selected, and left out",
    )
    assert small.notes == ()


def test_views_are_averaged_as_shares_of_the_vote(tmp_path: Path) -> None:
    items, labels = pictures(30, noise=60)
    wide = tuple(
        replace(item, source=np.hstack([item.source, item.source[:, ::-1]])) for item in items
    )
    fitted = _fit(tmp_path, item_set(items, labels))

    predictions = _predict(tmp_path, fitted, item_set(wide, None), reading=image_reading(crops=3))

    features = _features(tmp_path, items)[:, 0]
    views = _features(tmp_path, wide, crops=3)
    expected = np.mean(
        [
            _shares_of_scikit_learn(features, np.array(labels), views[:, view], num_neighbours=10)
            for view in range(3)
        ],
        axis=0,
    )
    assert fitted.chosen["neighbours"] == 10
    np.testing.assert_allclose(np.stack(predictions.values), expected, atol=2 * PROBABILITY_ERROR)


def test_a_class_missing_from_train_is_given_no_vote(tmp_path: Path) -> None:
    items, labels = pictures(30)
    without = [row for row in range(30) if labels[row] != 1]

    fitted = _fit(tmp_path, item_set(items, labels, rows=without))

    predictions = _predict(tmp_path, fitted, item_set(items, None))
    assert all(value[1] == 0 for value in predictions.values)


def test_what_predicts_later_is_the_saved_file_alone(tmp_path: Path) -> None:
    items, labels = pictures(40, noise=60)
    fitted = _fit(tmp_path, item_set(items, labels))
    content = heads.to_bytes({"": fitted.arrays}, classes=["a", "b", "c"])

    again = Fitted(arrays=heads.from_bytes(content, fold=None, where="here").arrays)

    test = item_set(items, None)
    for now, later in zip(
        _predict(tmp_path, fitted, test).values,
        _predict(tmp_path, again, test).values,
        strict=True,
    ):
        np.testing.assert_array_equal(now, later)


def test_items_that_can_not_be_read_are_named_and_do_not_vote(tmp_path: Path) -> None:
    items, labels = pictures(30)

    fitted = _fit(tmp_path, item_set((*items, broken_item()), (*labels, 0)))

    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_fitted_on"] == 30


def test_one_class_is_refused(tmp_path: Path) -> None:
    items, _ = pictures(12)

    with pytest.raises(DataError, match="at least two classes"):
        _fit(tmp_path, item_set(items, [0] * 12))


@pytest.mark.parametrize(
    ("key", "value"),
    [("neighbours", "10,ten"), ("neighbours", "0"), ("temperature", 0.0), ("held_out", 1.0)],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _fit(tmp_path, item_set(*pictures(12)), recipe={**PROTOCOL.recipe, key: value})
    assert "\n" not in str(caught.value)
