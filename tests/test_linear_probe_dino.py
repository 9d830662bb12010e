"""DINOv2's grid of linear heads: one pass, selected on held-out data, then the best once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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

from rsbench.data import loaders
from rsbench.data.features import extract
from rsbench.errors import DataError, LeakError, RsbenchError, RunError
from rsbench.protocols.linear_probe_dino import PROTOCOL, fit, predict
from rsbench.specs import Fitted, ItemSet, Predictions
from rsbench.view_scores import PROBABILITY_ERROR

pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(**changes: Any) -> dict[str, Any]:
    """The recipe with few steps, and rates that get somewhere in them."""
    small = {
        "epochs": 2,
        "epoch_iterations": 15,
        "batch_size": 16,
        "learning_rates": "0.01,1,10",
        "held_out": 0.2,
    }
    return {**PROTOCOL.recipe, **small, **changes}


STILL = {"smallest_crop": 1.0, "widest_aspect": 1.0, "flip_probability": 0.0}
"""Crops and mirrors would move the bright quarter of the small world's pictures."""


def _fit(tmp_path: Path, train: ItemSet, **changes: Any) -> Fitted:
    machine = changes.pop("machine", None) or settings(tmp_path)
    network = changes.pop("network", None) or model()
    asked = {"recipe": _recipe(augment=False), **changes}
    return fit(fit_request(PROTOCOL, network, train, machine, **asked))


def _predict(tmp_path: Path, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    asked = {"recipe": _recipe(augment=False), **changes}
    return predict(predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path), **asked))


def _same(one: Fitted, other: Fitted) -> bool:
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


@pytest.mark.parametrize("recipe", [_recipe(augment=False), _recipe(**STILL)])
def test_classes_that_differ_are_learned(tmp_path: Path, recipe: dict[str, Any]) -> None:
    items, labels = pictures(120, noise=20)
    shuffled = np.random.default_rng(1).permutation(120).tolist()

    fitted = _fit(tmp_path, item_set(items, labels, rows=shuffled[:90]), recipe=recipe)
    test = item_set(items, None, rows=shuffled[90:])
    predictions = _predict(tmp_path, fitted, test, recipe=recipe)

    found = [int(np.argmax(value)) for value in predictions.values]
    assert found == [labels[row] for row in shuffled[90:]]


def test_the_grid_is_the_published_one(tmp_path: Path) -> None:
    quick = {**PROTOCOL.recipe, "epochs": 1, "epoch_iterations": 2, "augment": False}

    fitted = _fit(tmp_path, item_set(*pictures(30)), recipe=quick)

    # dinov2/eval/linear.py, setup of `learning_rates`; its feature types are a transformer's.
    published = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1]
    assert [(row["features"], row["base_learning_rate"]) for row in fitted.selection] == [
        (kind, rate) for kind in ("features", "stages") for rate in published
    ]
    kept = {key: PROTOCOL.recipe[key] for key in ("epochs", "epoch_iterations", "batch_size")}
    assert kept == {"epochs": 10, "epoch_iterations": 1250, "batch_size": 128}
    assert (PROTOCOL.recipe["momentum"], PROTOCOL.recipe["weight_decay"]) == (0.9, 0.0)


def test_a_head_ends_where_torchs_sgd_ends_by_hand(tmp_path: Path) -> None:
    items, labels = pictures(24)
    recipe = _recipe(
        augment=False, feature_types="features", learning_rates="2", epochs=1, batch_size=10
    )

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe, seed=3)

    # The recipe of dinov2/eval/linear.py on all 24, from the head's own first weights.
    features = extract(
        model(), items, image_reading(), settings(tmp_path), output="features"
    ).values[:, 0]
    first = np.random.SeedSequence([3, 0]).generate_state(1)[0]
    generator = torch.Generator().manual_seed(int(first))
    layer = nn.Linear(12, 3)
    layer.weight.data = torch.randn(3, 12, generator=generator) * 0.01
    layer.bias.data.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=2 * 10 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15)
    stream = np.concatenate(
        [np.random.default_rng([3, number]).permutation(24) for number in range(7)]
    )
    for step in range(15):
        rows = stream[step * 10 : step * 10 + 10]
        optimizer.zero_grad()
        logits = layer(torch.from_numpy(features[rows]))
        nn.CrossEntropyLoss()(logits, torch.tensor([labels[row] for row in rows])).backward()
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(fitted.arrays["weight"], layer.weight.detach(), atol=1e-5)
    np.testing.assert_allclose(fitted.arrays["bias"], layer.bias.detach(), atol=1e-5)
    predictions = _predict(tmp_path, fitted, item_set(items, None), recipe=recipe)
    with torch.inference_mode():
        expected = layer(torch.from_numpy(features)).softmax(dim=1).numpy()
    np.testing.assert_allclose(np.stack(predictions.values), expected, atol=PROBABILITY_ERROR)


def test_the_narrow_heads_are_those_of_a_grid_without_the_wide_ones(tmp_path: Path) -> None:
    train = item_set(*pictures(60, noise=60))

    both = _fit(tmp_path, train)
    narrow = _fit(tmp_path, train, recipe=_recipe(augment=False, feature_types="features"))

    assert [row["held_out_top1"] for row in narrow.selection] == [
        row["held_out_top1"] for row in both.selection if row["features"] == "features"
    ]
    assert narrow.arrays["weight"].shape == (3, 12)
    # small_world: three channels of the stage before, and twelve features.
    wide = _fit(tmp_path, train, recipe=_recipe(augment=False, feature_types="stages"))
    assert wide.arrays["weight"].shape == (3, 15)


def test_the_best_on_held_out_data_is_chosen_and_a_tie_goes_to_the_smaller_rate(
    tmp_path: Path,
) -> None:
    fitted = _fit(tmp_path, item_set(*pictures(60, noise=10)))

    best = max(float(row["held_out_top1"]) for row in fitted.selection)  # type: ignore[arg-type]
    tied = [row for row in fitted.selection if row["held_out_top1"] == best]
    smallest = min(tied, key=lambda row: (row["base_learning_rate"], row["features"]))
    assert len(tied) > 1, "an easy world has ties"
    assert [row for row in fitted.selection if row["chosen"]] == [smallest]
    assert fitted.chosen["selected_on"] == "held-out train"
    assert fitted.chosen["base_learning_rate"] == smallest["base_learning_rate"]


def test_the_refit_is_on_all_of_train_unless_it_is_not_wanted(tmp_path: Path) -> None:
    train = item_set(*pictures(60))

    whole = _fit(tmp_path, train)
    kept = _fit(tmp_path, train, recipe=_recipe(augment=False, refit=False))

    assert (whole.chosen["num_fitted_on"], whole.chosen["num_selected_on"]) == (60, 12)
    assert (kept.chosen["num_fitted_on"], kept.chosen["num_selected_on"]) == (48, 12)
    assert whole.selection == kept.selection
    assert not _same(whole, kept)


def test_official_validation_data_is_selected_on_and_then_trained_on(tmp_path: Path) -> None:
    items, labels = pictures(60)

    fitted = _fit(
        tmp_path,
        item_set(items, labels, rows=range(40)),
        validation=item_set(items, labels, rows=range(40, 60)),
    )

    assert fitted.chosen["selected_on"] == "validation"
    assert (fitted.chosen["num_selected_on"], fitted.chosen["num_fitted_on"]) == (20, 60)


def test_the_test_set_is_selected_on_only_where_the_run_allows_it(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train, test = (item_set(items, labels, rows=rows) for rows in (range(40), range(40, 60)))

    fitted = _fit(tmp_path, train, allowed_test=test)

    assert fitted.chosen["selected_on"] == "test"
    assert (fitted.chosen["num_selected_on"], fitted.chosen["num_fitted_on"]) == (20, 40)
    with pytest.raises(LeakError):
        fit_request(PROTOCOL, model(), train, settings(tmp_path)).test_for_selection()


def test_no_view_is_shown_twice_in_a_pass_and_each_pass_shows_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    read = loaders.read_training_item

    def watched(*args: Any, seed: int, **rest: Any) -> Any:
        seeds.append(seed)
        return read(*args, seed=seed, **rest)

    monkeypatch.setattr(loaders, "read_training_item", watched)
    recipe = _recipe(epochs=2, epoch_iterations=4, batch_size=10, refit=False)
    _fit(tmp_path, item_set(*pictures(15)), recipe=recipe)

    # Eight batches of ten, of a stream of passes over the twelve or so that are kept.
    assert len(seeds) == 80
    assert len(set(seeds)) == 80


def test_random_views_make_a_difference_and_no_mirror_where_it_changes_the_label(
    tmp_path: Path,
) -> None:
    train = item_set(*pictures(24))
    mirrored = {**STILL, "flip_probability": 1.0}

    still = _fit(tmp_path / "a", train, recipe=_recipe(**STILL))
    forbidden = _fit(tmp_path / "b", train, recipe=_recipe(**mirrored), flip=False)
    allowed = _fit(tmp_path / "c", train, recipe=_recipe(**mirrored))
    wild = _fit(tmp_path / "d", train, recipe=_recipe())

    assert _same(still, forbidden)
    assert not _same(still, allowed)
    assert not _same(still, wild)
    assert (forbidden.chosen["flip_probability"], allowed.chosen["flip_probability"]) == (0, 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_equal_seeds_give_equal_bits_whatever_reads(tmp_path: Path, num_workers: int) -> None:
    train = item_set(*pictures(24))
    recipe = _recipe(epoch_iterations=3)

    first = _fit(tmp_path / "a", train, recipe=recipe)
    machine = settings(tmp_path / "b", num_workers=num_workers)
    again = _fit(tmp_path / "b", train, recipe=recipe, machine=machine)
    other = _fit(tmp_path / "c", train, recipe=recipe, seed=1)

    assert _same(first, again)
    assert not _same(first, other)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("stop_at", [4, 7, 13])
def test_an_interrupted_run_ends_with_the_same_numbers(
    tmp_path: Path, augment: bool, stop_at: int
) -> None:
    train = item_set(*pictures(24))
    recipe = _recipe(augment=augment, epochs=3, epoch_iterations=3)
    expected = _fit(tmp_path / "whole", train, recipe=recipe)
    done_in_all = 0

    def interrupt(stage: str, done: int, total: int) -> None:
        nonlocal done_in_all
        done_in_all += stage.startswith("train ")
        if done_in_all == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, train, recipe=recipe, machine=settings(tmp_path, progress=interrupt))
    steps: list[int] = []

    def note(stage: str, done: int, total: int) -> None:
        if stage.startswith("train "):
            steps.append(done)

    count = settings(tmp_path, progress=note)
    resumed = _fit(tmp_path, train, recipe=recipe, machine=count)

    assert _same(resumed, expected)
    assert resumed.selection == expected.selection
    # Nine steps of the grid and nine of the last training, but for whole epochs that were kept.
    assert len(steps) == 18 - (stop_at - 1) // 3 * 3


@pytest.mark.parametrize("augment", [True, False])
def test_unreadable_items_are_named(tmp_path: Path, augment: bool) -> None:
    items, labels = pictures(23)
    train = item_set((*items, broken_item()), (*labels, 0))
    recipe = _recipe(augment=augment)

    fitted = _fit(tmp_path, train, recipe=recipe)

    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_fitted_on"] == 23


@pytest.mark.parametrize("augment", [True, False])
def test_only_what_was_drawn_counts_as_fitted_on(tmp_path: Path, augment: bool) -> None:
    items, labels = pictures(40)
    broken = [broken_item(f"broken_{number}") for number in range(10)]
    train = item_set((*items, *broken), (*labels, *[0] * 10))
    recipe = _recipe(augment=augment, epochs=1, epoch_iterations=2, batch_size=8, refit=False)

    fitted = _fit(tmp_path, train, validation=item_set(items, labels), recipe=recipe)

    # The first 16 of the first pass over the 50, or over the 40 that the cache has.
    order = np.random.default_rng([0, 0]).permutation(50 if augment else 40)[:16]
    assert fitted.chosen["num_fitted_on"] == (np.count_nonzero(order < 40) if augment else 16)
    named = {f"broken_{row - 40}" for row in order if row >= 40}
    assert augment is False or {each.id for each in fitted.failures} == named


def test_the_network_is_not_touched(tmp_path: Path) -> None:
    network = Quarters()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    _fit(tmp_path, item_set(*pictures(24)), network=model(network), recipe=_recipe())

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_random_views_whose_features_are_not_finite_are_named(tmp_path: Path) -> None:
    class InfiniteInTraining(Quarters):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            # What the cache keeps is computed in inference mode.
            factor = 1.0 if torch.is_inference_mode_enabled() else float("inf")
            return super().forward(batch) * factor

    with pytest.raises(RunError, match="infinite for 16 views of a training batch: picture_"):
        _fit(
            tmp_path,
            item_set(*pictures(24)),
            network=model(InfiniteInTraining()),
            recipe=_recipe(),
        )


def test_settings_that_would_move_nothing_are_refused(tmp_path: Path) -> None:
    recipe = _recipe(augment=False, smallest_crop=0.5)

    with pytest.raises(RsbenchError, match=r"^smallest_crop must be left out where augment=false"):
        _fit(tmp_path, item_set(*pictures(24)), recipe=recipe)


def test_classes_of_one_item_each_leave_nothing_to_select_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 3 examples can be held out"):
        _fit(tmp_path, item_set(*pictures(3)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feature_types", "tokens"),
        ("learning_rates", "0.1,0.1"),
        ("learning_rates", ""),
        ("learning_rates", "-1"),
        ("epochs", 0),
        ("epoch_iterations", 0),
        ("batch_size", 1),
        ("augment", 1),
        ("held_out", 1.0),
        ("smallest_crop", 0.0),
        ("momentum", 1.5),
    ],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _fit(tmp_path, item_set(*pictures(24)), recipe=_recipe(**{key: value}))
    assert "\n" not in str(caught.value)


def test_a_dry_run_is_told_of_the_random_views_alone() -> None:
    # 10 x 1,250 x 128 for the grid, and as many for the chosen head.
    assert PROTOCOL.train_views(PROTOCOL.recipe) == 2 * 1_600_000
    assert PROTOCOL.train_views({**PROTOCOL.recipe, "refit": False}) == 1_600_000
    assert PROTOCOL.train_views({**PROTOCOL.recipe, "augment": False}) == 0


def test_progress_says_which_of_the_trainings_it_is(tmp_path: Path) -> None:
    stages: dict[str, None] = {}
    machine = settings(tmp_path, progress=lambda stage, done, total: stages.setdefault(stage))
    _fit(tmp_path, item_set(*pictures(24)), recipe=_recipe(augment=False), machine=machine)

    assert [stage for stage in stages if stage.startswith("train")] == [
        "train 1 of 2",
        "train 2 of 2",
    ]
