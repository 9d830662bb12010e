"""The weights' own head: classes matched by name, softmax over classes, views averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
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
from torch import nn

from rsbench.data.features import extract
from rsbench.errors import WeightsError
from rsbench.protocols.evaluate import PROTOCOL, class_columns, fit, predict
from rsbench.specs import ItemSet
from rsbench.view_scores import PROBABILITY_ERROR


def _head(num_classes: int) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(12, num_classes).eval()


def _predicted(tmp_path: Path, network: object, test: ItemSet, *, crops: int = 1) -> np.ndarray:
    machine = settings(tmp_path)
    fitted = fit(fit_request(PROTOCOL, network, None, machine))  # type: ignore[arg-type]
    predictions = predict(
        predict_request(
            PROTOCOL,
            network,  # type: ignore[arg-type]
            fitted,
            test,
            machine,
            reading=image_reading(crops=crops),
        )
    )
    return np.stack(predictions.values)


def test_probabilities_are_the_mean_over_views_of_a_softmax_over_classes(tmp_path: Path) -> None:
    head = _head(3)
    items, _ = pictures(5)

    found = _predicted(tmp_path, model(head=head), item_set(items, None), crops=3)

    features = extract(
        model(), items, image_reading(crops=3), settings(tmp_path), output="features"
    ).values
    logits = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    exponentials = np.exp(logits)
    by_hand = (exponentials / exponentials.sum(axis=2, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(found, by_hand, atol=PROBABILITY_ERROR)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=3 * PROBABILITY_ERROR)


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    head = _head(4)
    items, _ = pictures(5)
    as_they_are = _predicted(tmp_path, model(head=head), item_set(items, None, num_classes=4))

    named = model(head=head, head_classes=("other", "class_2", "Class 0", "class  1"))
    found = _predicted(tmp_path, named, item_set(items, None, num_classes=3))

    np.testing.assert_array_equal(found, as_they_are[:, [2, 3, 1]])


def test_names_are_alike_but_for_spaces_underscores_and_case() -> None:
    columns = class_columns(
        ["riding a bike", "air drumming"], ["Air_drumming", "riding_a  bike"], num_outputs=2
    )

    assert columns.tolist() == [1, 0]


def test_a_head_without_names_is_taken_on_trust_and_says_so(tmp_path: Path) -> None:
    network = model(head=_head(3))

    fitted = fit(fit_request(PROTOCOL, network, None, settings(tmp_path)))
    named = fit(
        fit_request(PROTOCOL, model(head=_head(1), head_classes=("a",)), None, settings(tmp_path))
    )

    assert str(fitted.chosen["class_order"]).startswith("unverified")
    assert named.chosen["class_order"] == "matched by name"
    assert not fitted.arrays


def test_equal_lists_match_even_where_a_name_is_there_twice() -> None:
    # ImageNet-1k has "crane" and "maillot" twice.
    names = ["crane", "drake", "crane"]

    assert class_columns(names, names, num_outputs=3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("head", "task", "num_outputs", "message"),
    [
        (["a", "b"], ["a", "c"], 2, "1 of 2 are absent or there twice: 'c'"),
        (["a", "a", "b"], ["a", "b"], 3, "1 of 2 are absent or there twice: 'a'"),
        ([], ["a", "b"], 3, "3 classes without names and the task has 2"),
        (["a", "b"], ["a", "b"], 3, "3 outputs and its weights name 2 classes"),
    ],
    ids=["absent", "ambiguous", "another width", "names do not fit the head"],
)
def test_classes_that_do_not_match_are_an_error(
    head: list[str], task: list[str], num_outputs: int, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        class_columns(head, task, num_outputs=num_outputs)


def test_weights_without_a_head_are_an_error_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="use --protocol linear_probe"):
        fit(fit_request(PROTOCOL, model(), None, settings(tmp_path)))


def test_unreadable_items_are_named(tmp_path: Path) -> None:
    network = model(head=_head(3))
    machine = settings(tmp_path)
    fitted = fit(fit_request(PROTOCOL, network, None, machine))

    for items in ([*pictures(2)[0], broken_item()], [broken_item()]):
        predictions = predict(
            predict_request(PROTOCOL, network, fitted, item_set(items, None), machine)
        )
        assert predictions.values[-1] is None
        assert [failure.id for failure in predictions.failures] == ["broken"]


def test_a_head_of_more_classes_keeps_its_probabilities(tmp_path: Path) -> None:
    head = _head(4)
    items, _ = pictures(3)
    network = model(head=head, head_classes=("class 0", "class 1", "class 2", "something else"))

    found = _predicted(tmp_path, network, item_set(items, None))

    assert (found.sum(axis=1) < 1).all()


def test_nothing_is_trained() -> None:
    assert not PROTOCOL.trains
    assert PROTOCOL.selects_on == "nothing"
