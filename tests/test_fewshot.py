"""The fewshot protocol: who is drawn, what is solved, and what the trace is scored on.

Second source: big_vision's fewshot_lsr.py written out in numpy, in `test_ridge.py`'s form.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
from test_ridge import of_big_vision

from rsbench.data.features import extract
from rsbench.errors import DataError, RsbenchError
from rsbench.protocols import fewshot
from rsbench.protocols._probing import Examples
from rsbench.protocols.fewshot import PROTOCOL, fit, predict
from rsbench.specs import Fitted, Item, ItemSet, Predictions
from rsbench.view_scores import PROBABILITY_ERROR


def _alone(num_items: int, **how: Any) -> tuple[tuple[Item, ...], tuple[int, ...]]:
    items, labels = pictures(num_items, **how)
    return tuple(replace(item, group=None) for item in items), labels


def _recipe(**changes: Any) -> dict[str, Any]:
    return {**PROTOCOL.recipe, **changes}


def _fit(
    tmp_path: Path, train: ItemSet, *, said: list[str] | None = None, **changes: Any
) -> Fitted:
    machine = settings(tmp_path) if said is None else settings(tmp_path, say=said.append)
    return fit(fit_request(PROTOCOL, model(), train, machine, **changes))


def _predict(tmp_path: Path, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    return predict(predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path), **changes))


def _features(tmp_path: Path, items: tuple[Item, ...]) -> np.ndarray:
    return extract(model(), items, image_reading(), settings(tmp_path), output="features").values[
        :, 0
    ]


def _drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: ItemSet, **changes: Any
) -> dict[tuple[int, int], tuple[frozenset[str], frozenset[str]]]:
    """Ids of the shots and of those that are scored, by (draw, shots)."""
    found: list[tuple[frozenset[str], frozenset[str]]] = []
    real = fewshot._draw

    def spy(examples: Examples, ranking: Any, *, shots: int) -> Any:
        drawn = real(examples, ranking, shots=shots)
        found.append(
            (
                frozenset(examples.ids[place] for place in drawn.shots),
                frozenset(examples.ids[place] for place in drawn.others),
            )
        )
        return drawn

    monkeypatch.setattr(fewshot, "_draw", spy)
    fitted = _fit(tmp_path, train, **changes)
    asked = [(int(row["draw"]), int(row["shots"])) for row in fitted.selection]  # type: ignore[arg-type]
    return dict(zip(asked, found, strict=True))


def test_probabilities_are_the_softmax_of_big_visions_fit_of_the_shots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items, labels = _alone(80, noise=60)
    train, test = (
        item_set(items, labels, rows=range(60)),
        item_set(items, None, rows=range(60, 80)),
    )
    shots, _ = _drawn(monkeypatch, tmp_path, train)[0, 10]
    fitted = _fit(tmp_path, train)

    predictions = _predict(tmp_path, fitted, test)

    features = _features(tmp_path, items)
    rows = [row for row in range(60) if items[row].id in shots]
    scores = of_big_vision(
        features[rows],
        np.array(labels)[rows],
        features[60:].astype(np.float64),
        num_classes=3,
        l2=2.0**10,
    )
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = np.stack(predictions.values)
    np.testing.assert_allclose(found, expected, atol=2 * PROBABILITY_ERROR)
    assert found.argmax(axis=1).tolist() == scores.argmax(axis=1).tolist()


def test_each_class_gives_as_many_as_asked_and_fewer_shots_are_among_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items, labels = _alone(120)
    label_of = {item.id: label for item, label in zip(items, labels, strict=True)}

    drawn = _drawn(monkeypatch, tmp_path, item_set(items, labels))

    # fewshot_lsr.py: 1, 5, 10 and 25 shots, three draws.
    assert sorted(drawn) == [(draw, shots) for draw in range(3) for shots in (1, 5, 10, 25)]
    for (draw, shots), (chosen, scored) in drawn.items():
        assert Counter(label_of[each] for each in chosen) == dict.fromkeys(range(3), shots)
        assert chosen <= drawn[draw, 25][0]
        assert not chosen & scored
        assert len(chosen | scored) == 120
    assert len({drawn[draw, 10][0] for draw in range(3)}) == 3


def test_the_seed_decides_who_is_drawn_and_an_item_that_is_gone_moves_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items, labels = _alone(60)
    first = _drawn(monkeypatch, tmp_path, item_set(items, labels))[0, 5][0]
    monkeypatch.undo()
    other = _drawn(monkeypatch, tmp_path, item_set(items, labels), seed=1)[0, 5][0]
    monkeypatch.undo()
    gone = sorted(first)[0]
    without = [row for row in range(60) if items[row].id != gone]

    left = _drawn(monkeypatch, tmp_path, item_set(items, labels, rows=without))[0, 5][0]

    assert other != first
    assert left >= first - {gone}
    assert len(left) == 15


def test_the_trace_is_scored_on_no_group_that_has_a_shot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items, labels = pictures(60)
    group_of = {item.id: item.group for item in items}

    drawn = _drawn(monkeypatch, tmp_path, item_set(items, labels))

    for chosen, scored in drawn.values():
        assert not {group_of[each] for each in chosen} & {group_of[each] for each in scored}
    assert drawn[0, 1][1], "one shot a class leaves whole groups"


def test_a_large_class_is_scored_on_fifty_examples(tmp_path: Path) -> None:
    items, labels = _alone(240)

    fitted = _fit(tmp_path, item_set(items, labels))

    assert {row["num_scored"] for row in fitted.selection} == {150}
    many = [row["held_out_top1"] for row in fitted.selection if row["shots"] == 25]
    assert min(many) > 0.9  # type: ignore[type-var,operator]


def test_the_record_is_the_first_draw_of_the_shots_asked_for(tmp_path: Path) -> None:
    items, labels = _alone(60, noise=60)

    fitted = _fit(tmp_path, item_set(items, labels), recipe=_recipe(shots=7))

    chosen = [row for row in fitted.selection if row["chosen"]]
    assert [(row["shots"], row["draw"], row["num_fitted_on"]) for row in chosen] == [(7, 0, 21)]
    assert [row["shots"] for row in fitted.selection if row["draw"] == 1] == [1, 5, 7, 10, 25]
    assert fitted.chosen == {"shots": 7, "num_classes_short": 0, "classes_short": ""}


def test_a_class_with_fewer_examples_than_shots_gives_all_and_is_named(tmp_path: Path) -> None:
    items, labels = _alone(60)
    rows = [row for row in range(60) if labels[row] != 2 or row < 12]
    said: list[str] = []

    fitted = _fit(tmp_path, item_set(items, labels, rows=rows), said=said)
    whole = _fit(tmp_path, item_set(items, labels))

    # Class 2 has rows 2, 5, 8 and 11.
    assert fitted.chosen["num_classes_short"] == 1
    assert fitted.chosen["classes_short"] == "class 2 (4)"
    chosen = next(row for row in fitted.selection if row["chosen"])
    assert chosen["num_fitted_on"] == 10 + 10 + 4
    assert fitted.marks == ("4 of 10 shots in 1 of 3 classes",)
    assert fitted.notes == (
        "1 of 3 classes have fewer training examples than 10 shots and give all they have:"
        " class 2 (4)",
    )
    assert said == [], "a note of the table, no line across the progress"
    assert (whole.marks, whole.notes) == ((), ())


def test_where_every_class_is_short_the_mark_says_how_many_shots_there_are(tmp_path: Path) -> None:
    items, labels = _alone(18)
    assert _fit(tmp_path, item_set(items, labels)).marks == ("6 of 10 shots",)
    uneven = _fit(tmp_path, item_set(items, labels, rows=range(17)))
    assert uneven.marks == ("5 to 6 of 10 shots",)


def test_where_all_are_drawn_the_trace_has_no_score(tmp_path: Path) -> None:
    items, labels = _alone(30)

    fitted = _fit(tmp_path, item_set(items, labels))

    ends = {row["shots"]: row["held_out_top1"] for row in fitted.selection if row["draw"] == 0}
    assert ends[5] is not None
    assert ends[10] is None
    assert ends[25] is None
    assert fitted.chosen["num_classes_short"] == 0, "ten of ten is enough"


def test_a_class_missing_from_train_is_never_predicted_and_named(tmp_path: Path) -> None:
    items, labels = _alone(60)
    without = [row for row in range(60) if labels[row] != 1]

    fitted = _fit(tmp_path, item_set(items, labels, rows=without))

    assert fitted.chosen["classes_short"] == "class 1 (0)"
    predictions = _predict(tmp_path, fitted, item_set(items, None))
    assert all(value[1] == 0 for value in predictions.values)


def test_items_that_can_not_be_read_are_named_and_not_drawn(tmp_path: Path) -> None:
    items, labels = _alone(30)

    fitted = _fit(tmp_path, item_set((*items, broken_item()), (*labels, 0)))

    assert [failure.id for failure in fitted.failures] == ["broken"]


def test_one_class_is_refused(tmp_path: Path) -> None:
    items, _ = _alone(12)

    with pytest.raises(DataError, match="at least two classes"):
        _fit(tmp_path, item_set(items, [0] * 12))


@pytest.mark.parametrize(("key", "value"), [("shots", 0), ("strength", 0.0), ("shots", 1.5)])
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _fit(tmp_path, item_set(*_alone(12)), recipe=_recipe(**{key: value}))
    assert "\n" not in str(caught.value)
