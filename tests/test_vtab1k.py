"""VTAB-1k's flow: choose on the validation part, train again on both parts, test once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import (
    INPUT,
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
from rsbench.errors import DataError, RsbenchError, RunError, WeightsError
from rsbench.protocols import vtab1k
from rsbench.protocols.vtab1k import PROTOCOL, fit, predict
from rsbench.specs import Fitted, ItemSet, Predictions
from rsbench.view_scores import PROBABILITY_ERROR

BOTH = pytest.mark.parametrize("train_what", ["all", "head"])


pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(train: str = "all", **changes: Any) -> dict[str, Any]:
    """The recipe with few steps of small batches."""
    return {**PROTOCOL.recipe, "train": train, "steps": "6,10", "batch_size": 16, **changes}


def _fit(tmp_path: Path, train: ItemSet, **changes: Any) -> Fitted:
    machine = changes.pop("machine", None) or settings(tmp_path)
    network = changes.pop("network", None) or model()
    asked = {"recipe": _recipe(), **changes}
    return fit(fit_request(PROTOCOL, network, train, machine, **asked))


def _predict(tmp_path: Path, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    return predict(predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path), **changes))


def _same(one: Fitted, other: Fitted) -> bool:
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


@BOTH
def test_classes_that_differ_are_learned(tmp_path: Path, train_what: str) -> None:
    items, labels = pictures(120, noise=20)
    shuffled = np.random.default_rng(1).permutation(120).tolist()
    recipe = _recipe(train_what, steps="60", learning_rates="0.1")

    fitted = _fit(
        tmp_path,
        item_set(items, labels, rows=shuffled[:72]),
        validation=item_set(items, labels, rows=shuffled[72:90]),
        recipe=recipe,
    )
    predictions = _predict(tmp_path, fitted, item_set(items, None, rows=shuffled[90:]))

    found = [int(np.argmax(value)) for value in predictions.values]
    assert found == [labels[row] for row in shuffled[90:]]
    assert fitted.chosen["selected_on"] == "validation"
    assert (fitted.chosen["num_selected_on"], fitted.chosen["num_fitted_on"]) == (18, 90)


def test_the_sweep_is_the_lightweight_one_of_the_paper(tmp_path: Path) -> None:
    quick = {**PROTOCOL.recipe, "train": "head", "batch_size": 2}

    fitted = _fit(tmp_path, item_set(*pictures(12)), recipe={**quick, "steps": "2,3"})

    # Zhai et al. 2019, lightweight mode, and adapt_and_eval.py: four settings, momentum 0.9, a
    # tenth of the rate after 750, 1,500 and 2,250 of 2,500 steps.
    found = [(row["learning_rate"], row["steps"]) for row in fitted.selection]
    assert found == [(0.1, 2), (0.1, 3), (0.01, 2), (0.01, 3)]
    assert (PROTOCOL.recipe["learning_rates"], PROTOCOL.recipe["steps"]) == (
        "0.1,0.01",
        "2500,10000",
    )
    kept = [PROTOCOL.recipe[key] for key in ("batch_size", "momentum", "weight_decay", "train")]
    assert kept == [512, 0.9, 0.0, "all"]
    assert [float(share) * 2500 for share in str(PROTOCOL.recipe["drops_at"]).split(",")] == [
        750,
        1500,
        2250,
    ]


def _by_hand(
    network: nn.Module, inputs: torch.Tensor, labels: tuple[int, ...], *, rate: float, steps: int
) -> nn.Module:
    """Train as trainer.py of task_adaptation does: momentum without Nesterov, rates in steps.

    tf.train.piecewise_constant keeps the rate up to and including step `boundary`.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    boundaries = [int(share * steps) for share in (0.3, 0.6, 0.9)]
    stream = np.concatenate(
        [np.random.default_rng([0, n]).permutation(len(labels)) for n in range(40)]
    )
    network.train()
    for step in range(steps):
        drops = sum(step > boundary for boundary in boundaries)
        optimizer.param_groups[0]["lr"] = rate * 0.1**drops
        rows = stream[step * 16 : step * 16 + 16]
        optimizer.zero_grad()
        target = torch.tensor([labels[row] for row in rows])
        nn.CrossEntropyLoss()(network(inputs[rows]), target).backward()
        optimizer.step()
    return network.eval()


def test_a_classifier_ends_where_torchs_sgd_ends_by_hand(tmp_path: Path) -> None:
    items, labels = pictures(30)
    recipe = _recipe("head", learning_rates="0.1", steps="20")

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe)

    # The last training: on what was kept, then on what was held out.
    features = extract(
        model(), items, image_reading(), settings(tmp_path), output="features"
    ).values[:, 0]
    rows = _rows_in_order(fitted, tmp_path, item_set(items, labels), recipe)
    layer = nn.Linear(12, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    ordered = tuple(labels[row] for row in rows)
    _by_hand(layer, torch.from_numpy(features[rows]), ordered, rate=0.1, steps=20)
    np.testing.assert_allclose(fitted.arrays["weight"], layer.weight.detach(), atol=1e-5)
    np.testing.assert_allclose(fitted.arrays["bias"], layer.bias.detach(), atol=1e-5)
    predictions = _predict(tmp_path, fitted, item_set(items, None), recipe=recipe)
    with torch.inference_mode():
        expected = layer(torch.from_numpy(features)).softmax(dim=1).numpy()
    np.testing.assert_allclose(np.stack(predictions.values), expected, atol=PROBABILITY_ERROR)


def _rows_in_order(
    fitted: Fitted, tmp_path: Path, train: ItemSet, recipe: dict[str, Any]
) -> list[int]:
    """Say which rows the last training saw, in its order: what was kept, what was held out."""
    from rsbench.protocols._trained import split_items

    request = fit_request(PROTOCOL, model(), train, settings(tmp_path), recipe=recipe)
    split = split_items(request, held_out=float(recipe["held_out"]))
    assert len(split.held) == fitted.chosen["num_selected_on"]
    return [row for each in split.everything() for row in each.rows]


def test_a_whole_network_ends_where_torchs_sgd_takes_it_by_hand(tmp_path: Path) -> None:
    items, labels = pictures(30)
    recipe = _recipe(learning_rates="0.1", steps="20")
    network = Quarters()

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe, network=model(network))

    rows = _rows_in_order(fitted, tmp_path, item_set(items, labels), recipe)
    mean, std = np.array(INPUT.mean), np.array(INPUT.std)
    pixels = np.stack([(np.asarray(items[row].source) / 255 - mean) / std for row in rows])
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    head = nn.Linear(12, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    ordered = tuple(labels[row] for row in rows)
    _by_hand(nn.Sequential(Quarters(), head), inputs, ordered, rate=0.1, steps=20)
    np.testing.assert_allclose(fitted.arrays["head.weight"], head.weight.detach(), atol=1e-4)
    # The network that was given stays as it was.
    assert torch.equal(network.norm.running_mean, torch.zeros(12))
    assert not network.training
    assert not np.array_equal(fitted.arrays["backbone.norm.running_mean"], np.zeros(12))


def test_the_best_is_chosen_and_a_tie_goes_to_the_smaller_rate_then_to_fewer_steps(
    tmp_path: Path,
) -> None:
    fitted = _fit(
        tmp_path, item_set(*pictures(60, noise=10)), recipe=_recipe("head", steps="20,30")
    )

    best = max(float(row["held_out_top1"]) for row in fitted.selection)  # type: ignore[arg-type]
    tied = [row for row in fitted.selection if row["held_out_top1"] == best]
    assert len(tied) > 1, "an easy world has ties"
    expected = min(tied, key=lambda row: (row["learning_rate"], row["steps"]))
    assert [row for row in fitted.selection if row["chosen"]] == [expected]
    assert fitted.chosen["selected_on"] == "held-out train"
    assert fitted.chosen["num_fitted_on"] == 60


@BOTH
def test_an_allowed_test_set_is_selected_on_and_never_trained_on(
    tmp_path: Path, train_what: str
) -> None:
    items, labels = pictures(40)
    train, test = (item_set(items, labels, rows=rows) for rows in (range(24), range(24, 40)))

    fitted = _fit(tmp_path, train, allowed_test=test, recipe=_recipe(train_what))

    assert fitted.chosen["selected_on"] == "test"
    assert (fitted.chosen["num_selected_on"], fitted.chosen["num_fitted_on"]) == (16, 24)


@BOTH
def test_equal_seeds_give_equal_bits_whatever_reads(tmp_path: Path, train_what: str) -> None:
    train, recipe = item_set(*pictures(24)), _recipe(train_what)

    first = _fit(tmp_path / "a", train, recipe=recipe)
    machine = settings(tmp_path / "b", num_workers=2)
    again = _fit(tmp_path / "b", train, recipe=recipe, machine=machine)
    other = _fit(tmp_path / "c", train, recipe=recipe, seed=1)

    assert _same(first, again)
    assert first.selection == again.selection
    assert not _same(first, other)


@BOTH
@pytest.mark.parametrize("stop_at", [3, 9, 30])
def test_an_interrupted_run_ends_with_the_same_numbers(
    tmp_path: Path, train_what: str, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vtab1k, "_STEPS_PER_CHECKPOINT", 4)
    train, recipe = item_set(*pictures(24)), _recipe(train_what)
    expected = _fit(tmp_path / "whole", train, recipe=recipe)
    done_in_all = 0

    def interrupt(stage: str, done: int, total: int) -> None:
        nonlocal done_in_all
        done_in_all += stage.startswith("train ")
        if done_in_all == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, train, recipe=recipe, machine=settings(tmp_path, progress=interrupt))
    resumed = _fit(tmp_path, train, recipe=recipe)

    assert _same(resumed, expected)
    assert resumed.selection == expected.selection


@BOTH
def test_unreadable_items_are_named(tmp_path: Path, train_what: str) -> None:
    items, labels = pictures(23)
    with_broken = (*items, broken_item())

    fitted = _fit(tmp_path, item_set(with_broken, (*labels, 0)), recipe=_recipe(train_what))
    predictions = _predict(tmp_path, fitted, item_set(with_broken, None, rows=[23, 0]))

    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_fitted_on"] == 23
    assert predictions.values[0] is None


class Exploding(Quarters):
    """A network whose features are lost once its weights have moved far."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = super().forward(batch)
        far = (self.norm.weight - 1).abs().max() > 1e-3
        return torch.where(far, torch.full_like(features, float("nan")), features)


def test_a_setting_that_diverges_is_no_candidate(tmp_path: Path) -> None:
    train = item_set(*pictures(24))

    fitted = _fit(
        tmp_path, train, network=model(Exploding()), recipe=_recipe(learning_rates="0.1,0.001")
    )

    found = {row["learning_rate"]: row["diverged"] for row in fitted.selection}
    assert found == {0.1: True, 0.001: False}
    assert fitted.chosen["learning_rate"] == 0.001
    with pytest.raises(RunError, match="diverged with each of 2 settings"):
        _fit(
            tmp_path / "b",
            train,
            network=model(Exploding()),
            recipe=_recipe(learning_rates="0.1"),
        )


def test_more_than_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vtab1k, "_MOST_VIEW_BYTES", 8 * 8 * 3 * 10)

    with pytest.raises(RsbenchError, match="keeps its training views in memory") as caught:
        _fit(tmp_path, item_set(*pictures(24)))
    assert "\n" not in str(caught.value)
    _fit(tmp_path, item_set(*pictures(24)), recipe=_recipe("head"))


def test_the_recipe_decides_whether_the_network_learns() -> None:
    assert PROTOCOL.learns_backbone(_recipe("all"))
    assert not PROTOCOL.learns_backbone(_recipe("head"))
    # Four settings of 2,500 or 10,000 steps and the longest once more, three passes a step.
    assert PROTOCOL.train_views(PROTOCOL.recipe) == 3 * 512 * (2 * 12_500 + 10_000)
    assert PROTOCOL.train_views({**PROTOCOL.recipe, "train": "head"}) == 0


def test_arrays_of_another_network_are_refused(tmp_path: Path) -> None:
    items, labels = pictures(24)
    fitted = _fit(tmp_path, item_set(items, labels))
    arrays = {**fitted.arrays, "backbone.norm.weight": np.zeros(5, dtype=np.float32)}

    with pytest.raises(WeightsError, match=r"backbone\.norm\.weight must have shape \(12,\)"):
        _predict(tmp_path, Fitted(arrays=arrays), item_set(items, None))


@BOTH
def test_only_what_was_drawn_counts_as_fitted_on(tmp_path: Path, train_what: str) -> None:
    items, labels = pictures(60)
    recipe = _recipe(train_what, learning_rates="0.1", steps="2")

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe)

    assert fitted.chosen["num_fitted_on"] == 2 * 16


@BOTH
def test_nothing_that_can_be_held_out_or_read_is_named(tmp_path: Path, train_what: str) -> None:
    with pytest.raises(DataError, match="none of 3 examples can be held out"):
        _fit(tmp_path, item_set(*pictures(3)), recipe=_recipe(train_what))
    items, labels = pictures(12)
    unread = item_set([broken_item()], [0])
    with pytest.raises(DataError, match="no item of it could be read; 1 other can't be read"):
        _fit(tmp_path, item_set(items, labels), validation=unread, recipe=_recipe(train_what))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train", "tail"),
        ("learning_rates", "0.1;0.01"),
        ("steps", "2.5"),
        ("steps", "0"),
        ("learning_rates", "0.1,inf"),
        ("learning_rates", "nan"),
        ("batch_size", 1),
        ("drops_at", "0.5,1.5"),
        ("held_out", 1.0),
        ("weight_decay", -1.0),
    ],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _fit(tmp_path, item_set(*pictures(24)), recipe=_recipe(**{key: value}))
    assert "\n" not in str(caught.value)


def test_progress_says_which_of_the_trainings_it_is(tmp_path: Path) -> None:
    stages: dict[str, None] = {}
    machine = settings(tmp_path, progress=lambda stage, done, total: stages.setdefault(stage))
    _fit(
        tmp_path,
        item_set(*pictures(24)),
        recipe=_recipe("head", learning_rates="0.1,0.01", steps="3,4"),
        machine=machine,
    )

    assert [stage for stage in stages if stage.startswith("train")] == [
        f"train {n} of 5" for n in range(1, 6)
    ]
