"""Kornblith's fine-tuning: the grid of the paper, chosen on what is held out, and trained anew."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import (
    Quarters,
    broken_item,
    fit_request,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)

from rsbench.errors import DataError, RsbenchError, RunError
from rsbench.protocols import finetune, finetune_kornblith
from rsbench.protocols._trained import split_items
from rsbench.protocols._training_recipe import NEUTRAL
from rsbench.protocols.finetune_kornblith import PROTOCOL, fit
from rsbench.specs import Fitted, ItemSet, Settings

pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(**changes: Any) -> dict[str, Any]:
    """The recipe with few steps of small batches, on views that are the pictures themselves."""
    still = {"smallest_crop": 1.0, "widest_aspect": 1.0, "flip_probability": 0.0}
    few = {"learning_rates": "0.001,0.1", "weight_decays": "0,0.0001"}
    return {**PROTOCOL.recipe, **still, **few, "steps": 6, "batch_size": 8, **changes}


def _fit(machine: Settings, train: ItemSet, **changes: Any) -> Fitted:
    network = changes.pop("network", None) or model()
    asked = {"recipe": _recipe(), **changes}
    return fit(fit_request(PROTOCOL, network, train, machine, **asked))


def _same(one: Fitted, other: Fitted) -> bool:
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def test_the_grid_is_that_of_the_paper() -> None:
    # SimCLR, appendix B.8: 7 log-spaced rates from 1e-4 to 1e-1, and 7 log-spaced decays from 1e-6
    # to 1e-3 and none.
    rates = [float(word) for word in str(PROTOCOL.recipe["learning_rates"]).split(",")]
    decays = [float(word) for word in str(PROTOCOL.recipe["weight_decays"]).split(",")]
    np.testing.assert_allclose(rates, np.logspace(-4, -1, 7), rtol=1e-5)
    np.testing.assert_allclose(decays, [0, *np.logspace(-6, -3, 7)], rtol=1e-5)
    kept = {
        "steps": 20_000,
        "batch_size": 256,
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "norm_momentum": "kornblith",
        "label_smoothing": 0.0,
        "randaugment_layers": 0,
        "colour_jitter": 0.0,
        "flip_probability": 0.5,
    }
    assert {key: PROTOCOL.recipe[key] for key in kept} == kept
    # 56 trainings and the last one, three passes a view.
    assert PROTOCOL.train_views(PROTOCOL.recipe) == 57 * 3 * 20_000 * 256
    assert PROTOCOL.train_passes(PROTOCOL.recipe) == 0


def test_the_chosen_network_is_the_one_that_finetune_makes_with_the_chosen_setting(
    tmp_path: Path,
) -> None:
    items, labels = pictures(48, noise=60)
    train, validation = (item_set(items, labels, rows=rows) for rows in (range(32), range(32, 48)))

    fitted = _fit(
        settings(tmp_path), train, validation=validation, recipe=_recipe(weight_decays="0.001")
    )

    # The second source trains with the chosen numbers on both sets, its decay divided by hand.
    rate, decay = fitted.chosen["learning_rate"], fitted.chosen["weight_decay"]
    assert isinstance(rate, float)
    assert isinstance(decay, float)
    recipe = {
        **NEUTRAL,
        **{key: value for key, value in _recipe().items() if key in NEUTRAL},
        "held_out": 0.0,
        "learning_rate": rate,
        "weight_decay": decay / rate,
    }
    asked = fit_request(
        finetune.PROTOCOL,
        model(),
        train,
        settings(tmp_path / "b"),
        validation=validation,
        recipe=recipe,
    )
    expected = finetune.PROTOCOL.fit(asked)
    assert _same(fitted, expected)
    assert (fitted.chosen["num_selected_on"], fitted.chosen["num_fitted_on"]) == (16, 48)
    assert fitted.chosen["selected_on"] == "validation"


def test_every_setting_is_tried_and_a_tie_goes_to_the_smaller_rate_then_the_larger_decay(
    tmp_path: Path,
) -> None:
    fitted = _fit(settings(tmp_path), item_set(*pictures(48, noise=5)), recipe=_recipe(steps=25))

    tried = [(row["learning_rate"], row["weight_decay"]) for row in fitted.selection]
    assert tried == [(0.001, 0.0), (0.001, 1e-4), (0.1, 0.0), (0.1, 1e-4)]
    scores = [float(row["held_out_top1"]) for row in fitted.selection]  # type: ignore[arg-type]
    tied = [
        row for row, score in zip(fitted.selection, scores, strict=True) if score == max(scores)
    ]
    assert len(tied) > 1, "an easy world has ties"
    expected = min(tied, key=lambda row: (row["learning_rate"], -float(row["weight_decay"])))  # type: ignore[arg-type]
    assert [row for row in fitted.selection if row["chosen"]] == [expected]
    names = {str(row["training"]): None for row in fitted.curve}
    assert list(names) == [
        "rate 0.001, decay 0",
        "rate 0.001, decay 0.0001",
        "rate 0.1, decay 0",
        "rate 0.1, decay 0.0001",
        "best",
    ]


def test_nothing_that_is_held_out_is_trained_on_before_the_choice(tmp_path: Path) -> None:
    items, labels = pictures(48)
    train = item_set(items, labels)
    recipe = _recipe(learning_rates="0.1", weight_decays="0")
    request = fit_request(PROTOCOL, model(), train, settings(tmp_path), recipe=recipe)
    split = split_items(request, held_out=0.2)
    # Labels of what is held out that are all wrong move its score, and no weight but the last.
    wrong = [
        label if row in split.kept[0].rows else (label + 1) % 3 for row, label in enumerate(labels)
    ]

    true = _fit(settings(tmp_path / "a"), train, recipe=recipe)
    false = _fit(settings(tmp_path / "b"), item_set(items, wrong), recipe=recipe)

    def losses(fitted: Fitted) -> list[object]:
        return [row["train_loss"] for row in fitted.curve if row["training"] != "best"]

    assert true.chosen["selected_on"] == "held-out train"
    assert losses(true) == losses(false)
    assert not _same(true, false)


@pytest.mark.parametrize("stop_at", [3, 9, 20, 27])
def test_a_killed_run_goes_on_with_what_is_not_yet_tried(tmp_path: Path, stop_at: int) -> None:
    train = item_set(*pictures(36, noise=60))
    expected = _fit(settings(tmp_path / "whole"), train)
    # One call a step, in all trainings.
    calls: list[int] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(settings(tmp_path, progress=interrupt, checkpoint_seconds=0.0), train)
    calls.clear()
    stop_at = 0
    resumed = _fit(settings(tmp_path, progress=interrupt), train)

    assert _same(resumed, expected)
    assert resumed.selection == expected.selection
    assert resumed.chosen == expected.chosen
    # Five trainings of six steps, less the whole ones that were behind.
    assert len(calls) <= 5 * 6 - 2, "what was tried is not tried again"
    # What was tried leaves a note, and no state of a network.
    assert len(list((tmp_path / "whole").rglob("*grid*.json"))) == 4
    assert not list((tmp_path / "whole").rglob("*grid*/*.pt"))


def test_unreadable_items_are_named_once_and_after_going_on_too(tmp_path: Path) -> None:
    items, labels = pictures(36)
    pool = (*items, broken_item("broken in train"), broken_item("broken in validation"))
    all_labels = (*labels, 0, 0)
    train = item_set(pool, all_labels, rows=[*range(24), 36])
    validation = item_set(pool, all_labels, rows=[*range(24, 36), 37])

    first = _fit(settings(tmp_path), train, validation=validation)
    again = _fit(settings(tmp_path), train, validation=validation)

    for fitted in (first, again):
        assert [each.id for each in fitted.failures] == ["broken in train", "broken in validation"]
        assert fitted.chosen["num_selected_on"] == 12
        assert fitted.chosen["num_fitted_on"] == 36


class Exploding(Quarters):
    """A network whose features are lost once its weights have moved far."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = super().forward(batch)
        far = (self.norm.weight - 1).abs().max() > 1e-3
        return torch.where(far, torch.full_like(features, float("nan")), features)


def test_a_setting_that_diverges_is_no_candidate(tmp_path: Path) -> None:
    train = item_set(*pictures(24))
    recipe = _recipe(learning_rates="0.1,0.00001", weight_decays="0")

    fitted = _fit(settings(tmp_path), train, network=model(Exploding()), recipe=recipe)

    found = {row["learning_rate"]: row["diverged"] for row in fitted.selection}
    assert found == {0.1: True, 0.00001: False}
    assert fitted.chosen["learning_rate"] == 0.00001
    with pytest.raises(RunError, match="diverged with each of 1 settings"):
        _fit(
            settings(tmp_path / "b"),
            train,
            network=model(Exploding()),
            recipe={**recipe, "learning_rates": "0.1"},
        )


def test_the_hours_are_said_once_after_the_first_steps(tmp_path: Path) -> None:
    said: list[str] = []

    _fit(settings(tmp_path, say=said.append), item_set(*pictures(36)), recipe=_recipe(steps=40))

    (line,) = [each for each in said if each.startswith("finetune_kornblith trains")]
    pattern = r"finetune_kornblith trains 5 times for 40 steps: \S+ s a step, about \S+ hours .*cpu"
    assert re.fullmatch(pattern, line)


def test_the_test_set_is_selected_on_where_a_run_allows_it_and_is_not_trained_on(
    tmp_path: Path,
) -> None:
    items, labels = pictures(40)
    train, test = (item_set(items, labels, rows=rows) for rows in (range(24), range(24, 40)))

    fitted = _fit(settings(tmp_path), train, allowed_test=test)

    assert fitted.chosen["selected_on"] == "test"
    assert (fitted.chosen["num_selected_on"], fitted.chosen["num_fitted_on"]) == (16, 24)


def test_several_labels_are_chosen_by_mean_average_precision(tmp_path: Path) -> None:
    items, classes = pictures(36)
    targets = [
        (label,) if row % 3 else tuple(sorted({label, (label + 1) % 3}))
        for row, label in enumerate(classes)
    ]
    train = replace(item_set(items, classes), targets=tuple(targets))
    machine = settings(tmp_path)

    fitted = _fit(machine, train, target="multilabel", recipe=_recipe(steps=20))
    asked = predict_request(
        PROTOCOL, model(), fitted, replace(train, targets=None), machine, target="multilabel"
    )

    assert all(0 <= float(row["held_out_map"]) <= 1 for row in fitted.selection)  # type: ignore[arg-type]
    # Sigmoids: each class for itself.
    sums = np.stack(PROTOCOL.predict(asked).values).sum(axis=1)
    assert np.abs(sums - 1).max() > 0.01


def test_nothing_that_can_be_held_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 3 examples can be held out"):
        _fit(settings(tmp_path), item_set(*pictures(3)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rates", "0.1;0.01"),
        ("learning_rates", "0"),
        ("weight_decays", "-1"),
        ("held_out", 0.0),
        ("steps", -1),
        ("norm_momentum", "often"),
        ("batch_size", 1),
    ],
)
def test_a_recipe_out_of_range_is_named_before_anything_runs(key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=rf"^{key} must be") as caught:
        PROTOCOL.check(_recipe(**{key: value}))
    assert "\n" not in str(caught.value)


def test_a_result_that_another_version_kept_is_not_taken(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    fields = {
        "score": 0.5,
        "curve": [],
        "failures": {},
        "held_failures": {},
        "held_remarks": {},
        "seconds": 1.0,
    }

    def read(**content: Any) -> dict[str, Any] | None:
        kept.write_text(json.dumps(content))
        return finetune_kornblith._read(kept, "a")

    assert read(key="a", **fields) == fields
    assert read(key="b", **fields) is None
    assert read(key="a", top1=0.5) is None
    kept.write_text("{")
    assert finetune_kornblith._read(kept, "a") is None


def test_a_setting_whose_outputs_are_not_finite_is_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([float("nan"), 0.25])
    monkeypatch.setattr(finetune_kornblith.HeldOut, "score", lambda held, network: next(scores))
    recipe = _recipe(steps=4, learning_rates="0.01,0.1", weight_decays="0")

    fitted = _fit(settings(tmp_path), item_set(*pictures(36)), recipe=recipe)

    found = [(row["held_out_top1"], row["diverged"], row["chosen"]) for row in fitted.selection]
    assert found == [(None, True, False), (0.25, False, True)]
