"""V-JEPA 2's attentive probe: all probes on the same batches, selected on held-out data."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import (
    INPUT,
    PIXELS,
    Quarters,
    broken_item,
    fit_request,
    image_reading,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
    video_reading,
)

from rsbench.errors import RsbenchError, RunError
from rsbench.lifting import FrameMean
from rsbench.probes.attentive import AttentiveProbe
from rsbench.protocols import attentive_probe
from rsbench.protocols.attentive_probe import PROTOCOL, fit, predict
from rsbench.specs import Fitted, Item, ItemSet, Model, Predictions
from rsbench.view_scores import PROBABILITY_ERROR

NUM_TOKENS, WIDTH = 16, 12


pytestmark = pytest.mark.usefixtures("one_thread")


class Patches(Quarters):
    """A map of 4 x 4 positions, each with the twelve numbers of its four pixels."""

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"s1": torch.nn.functional.pixel_unshuffle(batch, 2)}


def _network() -> Model:
    return model(Patches())


def _recipe(**changes: Any) -> dict[str, Any]:
    """The recipe with two probes, small ones, and few steps."""
    small = {
        "num_blocks": 2,
        "num_heads": 2,
        "learning_rates": "3e-3,1e-5",
        "weight_decays": "0.01",
        "epochs": 2,
        "batch_size": 16,
        "held_out": 0.2,
    }
    return {**PROTOCOL.recipe, **small, **changes}


def _fit(tmp_path: Path, train: ItemSet, **changes: Any) -> Fitted:
    machine = changes.pop("machine", None) or settings(tmp_path)
    asked = {"recipe": _recipe(), **changes}
    return fit(fit_request(PROTOCOL, _network(), train, machine, **asked))


def _predict(tmp_path: Path, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    asked = {"recipe": _recipe(), **changes}
    return predict(predict_request(PROTOCOL, _network(), fitted, test, settings(tmp_path), **asked))


def _same(one: Fitted, other: Fitted) -> bool:
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def _patterns(num_items: int) -> tuple[tuple[Item, ...], tuple[int, ...]]:
    """An edge and its negative, lying or standing, on grey: the mean of all positions is grey."""
    generator = np.random.default_rng(0)
    edges = np.array([[[1, 1], [-1, -1]], [[1, -1], [1, -1]]]) * 100
    items, labels = [], []
    for number in range(num_items):
        label = number % 2
        pixels = np.full((PIXELS, PIXELS, 3), 120)
        for place, sign in zip(generator.permutation(NUM_TOKENS)[:2], (1, -1), strict=True):
            row, column = divmod(int(place), 4)
            window = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            window += sign * edges[label][:, :, None]
        items.append(Item(id=f"pattern_{number:03d}", source=pixels.astype(np.uint8)))
        labels.append(label)
    return tuple(items), tuple(labels)


def test_it_learns_what_the_mean_of_the_tokens_does_not_tell(tmp_path: Path) -> None:
    items, labels = _patterns(120)
    recipe = _recipe(epochs=15, batch_size=8, learning_rates="3e-3", refit=False)

    fitted = _fit(tmp_path, item_set(items, labels, rows=range(100), num_classes=2), recipe=recipe)
    test = item_set(items, None, rows=range(100, 120), num_classes=2)
    predictions = _predict(tmp_path, fitted, test, recipe=recipe)

    patches = np.stack([np.asarray(item.source, dtype=int) for item in items])
    means = patches.reshape(-1, 4, 2, 4, 2, 3).mean(axis=(1, 3))
    assert (means == 120).all()
    assert [int(np.argmax(value)) for value in predictions.values] == list(labels[100:])


def test_the_grid_is_the_published_one(tmp_path: Path) -> None:
    recipe = {**PROTOCOL.recipe, "num_heads": 2, "num_blocks": 1, "epochs": 1}

    fitted = _fit(tmp_path, item_set(*pictures(12)), recipe=recipe)

    # configs/eval/vitl/ssv2.yaml of V-JEPA 2, `multihead_kwargs`: 20 of them.
    published = {*product((5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8))}
    found = [(row["learning_rate"], row["weight_decay"]) for row in fitted.selection]
    assert (len(found), {*found}) == (20, published)
    kept = [PROTOCOL.recipe[key] for key in ("num_blocks", "num_heads", "epochs", "batch_size")]
    assert kept == [4, 16, 20, 256]


def test_a_probe_ends_where_torchs_adamw_ends_by_hand(tmp_path: Path) -> None:
    items, labels = pictures(24)
    recipe = _recipe(learning_rates="3e-3", weight_decays="0.4", examples_at_once=5)

    fitted = _fit(tmp_path, item_set(items, labels), recipe=recipe, seed=3)

    # By hand, on all 24: tokens are the 2 x 2 patches of the normalised picture.
    mean, std = np.array(INPUT.mean), np.array(INPUT.std)
    pixels = np.stack([(np.asarray(item.source) / 255 - mean) / std for item in items])
    pictures_NCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    tokens = torch.nn.functional.pixel_unshuffle(pictures_NCHW, 2).flatten(2).transpose(1, 2)
    probe = AttentiveProbe(
        WIDTH,
        num_classes=3,
        num_blocks=2,
        num_heads=2,
        mlp_ratio=4.0,
        seed=int(np.random.SeedSequence([3, 0]).generate_state(1)[0]),
    )
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=0.4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for epoch in range(2):
        order = np.random.default_rng([3, epoch]).permutation(24)
        for rows in (order[:16], order[16:]):
            optimizer.zero_grad()
            target = torch.tensor([labels[row] for row in rows])
            torch.nn.functional.cross_entropy(probe(tokens[rows]), target).backward()
            optimizer.step()
            schedule.step()
    for name, parameter in probe.named_parameters():
        np.testing.assert_allclose(fitted.arrays[name], parameter.detach(), atol=2e-4)
    predictions = _predict(tmp_path, fitted, item_set(items, None), recipe=recipe)
    with torch.inference_mode():
        expected = probe.eval()(tokens).softmax(dim=1).numpy()
    np.testing.assert_allclose(
        np.stack(predictions.values), expected, atol=PROBABILITY_ERROR + 1e-3
    )


def test_rounds_and_probes_alone_end_as_all_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = item_set(*pictures(24, noise=60))
    recipe = _recipe(learning_rates="3e-3,1e-3,3e-4")

    together = _fit(tmp_path / "a", train, recipe=recipe)
    monkeypatch.setattr(attentive_probe, "_STATE_BYTES", 1)
    apart = _fit(tmp_path / "b", train, recipe=recipe)
    # The first of the grid has the same first weights, whatever follows it.
    alone = _fit(tmp_path / "c", train, recipe=_recipe(learning_rates="3e-3"))

    assert together.selection == apart.selection
    assert _same(together, apart)
    assert alone.selection[0]["held_out_top1"] == together.selection[0]["held_out_top1"]


def test_without_a_refit_the_selected_probe_is_the_result(tmp_path: Path) -> None:
    train = item_set(*pictures(24))

    whole = _fit(tmp_path / "a", train)
    kept = _fit(tmp_path / "b", train, recipe=_recipe(refit=False))

    assert whole.selection == kept.selection
    assert whole.chosen["num_fitted_on"] == 24
    assert kept.chosen["num_fitted_on"] == 24 - int(kept.chosen["num_selected_on"])  # type: ignore[arg-type]
    assert not _same(whole, kept)


def test_a_tie_goes_to_the_smaller_rate_and_then_to_the_stronger_decay(tmp_path: Path) -> None:
    # Rates of next to nothing: all stay where they began, at the same score or another.
    recipe = _recipe(learning_rates="1e-12,1e-13", weight_decays="0.01,0.8", epochs=1)

    fitted = _fit(tmp_path, item_set(*pictures(24)), recipe=recipe)

    best = max(float(row["held_out_top1"]) for row in fitted.selection)  # type: ignore[arg-type]
    tied = [row for row in fitted.selection if row["held_out_top1"] == best]
    expected = min(tied, key=lambda row: (row["learning_rate"], -float(row["weight_decay"])))  # type: ignore[arg-type]
    assert [row for row in fitted.selection if row["chosen"]] == [expected]


def test_official_validation_and_allowed_test_sets_are_selected_on(tmp_path: Path) -> None:
    items, labels = pictures(30)
    train, other = (item_set(items, labels, rows=rows) for rows in (range(20), range(20, 30)))

    validated = _fit(tmp_path, train, validation=other)
    peeked = _fit(tmp_path, train, allowed_test=other)

    assert (validated.chosen["selected_on"], peeked.chosen["selected_on"]) == ("validation", "test")
    assert (validated.chosen["num_fitted_on"], peeked.chosen["num_fitted_on"]) == (30, 20)


def test_equal_seeds_give_equal_bits_and_others_do_not(tmp_path: Path) -> None:
    train = item_set(*pictures(24))

    first, again, other = (
        _fit(tmp_path / name, train, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )

    assert _same(first, again)
    assert not _same(first, other)


@pytest.mark.parametrize("refit", [True, False])
def test_an_interrupted_run_ends_with_the_same_numbers(tmp_path: Path, refit: bool) -> None:
    train = item_set(*pictures(24))
    recipe = _recipe(refit=refit, epochs=3)
    expected = _fit(tmp_path / "whole", train, recipe=recipe)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage.startswith("train ") and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, train, recipe=recipe, machine=settings(tmp_path, progress=interrupt))
    resumed = _fit(tmp_path, train, recipe=recipe)

    assert _same(resumed, expected)
    assert resumed.selection == expected.selection


def test_clips_give_the_tokens_of_all_frames(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    clips = [
        Item(id=str(n), source=generator.integers(0, 256, (7, PIXELS, PIXELS, 3), dtype=np.uint8))
        for n in range(9)
    ]
    train = item_set(clips, [n % 3 for n in range(9)])
    network = replace(_network(), module=FrameMean(Patches()).eval(), lifting="frame_mean")
    asked = fit_request(
        PROTOCOL, network, train, settings(tmp_path), recipe=_recipe(), reading=video_reading()
    )

    fitted = fit(asked)

    # small_world: clips of four frames.
    assert fitted.chosen["num_tokens"] == 4 * NUM_TOKENS


def test_views_are_averaged_as_probabilities(tmp_path: Path) -> None:
    items, labels = pictures(12)
    fitted = _fit(tmp_path, item_set(items, labels))

    predictions = _predict(tmp_path, fitted, item_set(items, None), reading=image_reading(crops=3))

    assert predictions.views is not None
    np.testing.assert_allclose(np.stack(predictions.values).sum(axis=1), 1, atol=1e-3)


def test_unreadable_items_are_named_once(tmp_path: Path) -> None:
    items, labels = pictures(23)

    fitted = _fit(tmp_path, item_set((*items, broken_item()), (*labels, 0)))

    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_fitted_on"] == 23


def test_a_probe_that_diverges_is_no_candidate(tmp_path: Path) -> None:
    recipe = _recipe(learning_rates="3e-3,1e30")

    fitted = _fit(tmp_path, item_set(*pictures(24)), recipe=recipe)

    found = {row["learning_rate"]: row["diverged"] for row in fitted.selection}
    assert found == {3e-3: False, 1e30: True}
    assert fitted.chosen["learning_rate"] == 3e-3
    with pytest.raises(RunError, match="diverged"):
        _fit(tmp_path / "b", item_set(*pictures(24)), recipe=_recipe(learning_rates="1e30"))


def test_widths_that_heads_can_not_share_and_fp16_are_refused(tmp_path: Path) -> None:
    train = item_set(*pictures(24))

    with pytest.raises(RsbenchError, match="num_heads must divide the width of the tokens, 12; it"):
        _fit(tmp_path, train, recipe=_recipe(num_heads=16))
    with pytest.raises(RsbenchError, match="give --precision bf16 or float32"):
        _fit(tmp_path, train, machine=settings(tmp_path, precision="fp16"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_blocks", 0),
        ("mlp_ratio", 0.0),
        ("learning_rates", "fast"),
        ("weight_decays", "-0.1"),
        ("epochs", 0),
        ("batch_size", 1),
        ("examples_at_once", 0),
        ("held_out", 0.0),
        ("refit", "yes"),
    ],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _fit(tmp_path, item_set(*pictures(12)), recipe=_recipe(**{key: value}))
    assert "\n" not in str(caught.value)


def test_progress_says_which_of_the_trainings_it_is(tmp_path: Path) -> None:
    stages: dict[str, None] = {}
    machine = settings(tmp_path, progress=lambda stage, done, total: stages.setdefault(stage))
    _fit(tmp_path, item_set(*pictures(24)), recipe=_recipe(refit=True), machine=machine)

    assert [stage for stage in stages if stage.startswith("train")] == [
        "train 1 of 2",
        "train 2 of 2",
    ]
