"""Fine-tuning: it learns on a copy, resumes, and tests without augmentation."""

from __future__ import annotations

from dataclasses import replace
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
from torch import nn

from rsbench.errors import DataError, RsbenchError, RunError, WeightsError
from rsbench.protocols._networks import trained_model
from rsbench.protocols.finetune import PROTOCOL
from rsbench.registry import find_backbone
from rsbench.specs import Fitted, Item, ItemSet, Predictions, Settings
from rsbench.view_scores import PROBABILITY_ERROR

pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(**changes: Any) -> dict[str, Any]:
    # Crops and mirrors would move the bright quarter: the small world wants neither.
    still = {"smallest_crop": 1.0, "widest_aspect": 1.0, "flip_probability": 0.0}
    return {**PROTOCOL.recipe, **still, "epochs": 3, "learning_rate": 0.1, **changes}


def _fit(machine: Settings, train: ItemSet, *, network: Any = None, **changes: Any) -> Fitted:
    asked = {"recipe": _recipe(), **changes}
    return PROTOCOL.fit(fit_request(PROTOCOL, network or model(), train, machine, **asked))


def _predict(machine: Settings, fitted: Fitted, test: ItemSet, **changes: Any) -> Predictions:
    return PROTOCOL.predict(predict_request(PROTOCOL, model(), fitted, test, machine, **changes))


def _same(one: Fitted, other: Fitted) -> bool:
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def test_it_learns_what_can_be_learned(tmp_path: Path) -> None:
    items, labels = pictures(60, noise=20)
    machine = settings(tmp_path)

    fitted = _fit(machine, item_set(items, labels, rows=range(48)), recipe=_recipe(epochs=12))
    predictions = _predict(machine, fitted, item_set(items, None, rows=range(48, 60)))

    assert [int(np.argmax(value)) for value in predictions.values] == list(labels[48:])
    assert all(value.shape == (3,) and value.dtype == np.float32 for value in predictions.values)
    assert fitted.selection == ()


def test_the_given_network_is_not_touched(tmp_path: Path) -> None:
    network = Quarters()
    network.head = nn.Linear(12, 7)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = model(network)

    fitted = _fit(settings(tmp_path), item_set(*pictures(12)), network=given)

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.head is not None
    assert not network.training
    # The old classifier is not kept with what was learned.
    assert sorted(fitted.arrays) == [
        "backbone.norm.bias",
        "backbone.norm.num_batches_tracked",
        "backbone.norm.running_mean",
        "backbone.norm.running_var",
        "backbone.norm.weight",
        "head.bias",
        "head.weight",
    ]


def test_it_tests_in_eval_mode_with_running_statistics(tmp_path: Path) -> None:
    items, labels = pictures(12)
    machine = settings(tmp_path)
    fitted = _fit(machine, item_set(items, labels))

    together = _predict(machine, fitted, item_set(items, None))
    alone = _predict(settings(tmp_path / "b", batch_size=1), fitted, item_set(items[:1], None))

    np.testing.assert_allclose(alone.values[0], together.values[0], atol=1e-6)
    tuned = trained_model(model(), fitted.arrays, classes=("a", "b", "c"), device="cpu")
    assert not any(module.training for module in tuned.module.modules())


def test_no_augmentation_is_left_on_at_test(tmp_path: Path) -> None:
    items, labels = pictures(12)
    machine = settings(tmp_path)
    wild = _recipe(flip_probability=1.0, smallest_crop=0.05)
    fitted = _fit(machine, item_set(items, labels), recipe=wild)
    tuned = trained_model(model(), fitted.arrays, classes=(), device="cpu")

    predictions = _predict(machine, fitted, item_set(items, None), recipe=wild)

    # By hand: the picture as it is, normalised with the ImageNet numbers of the input.
    mean, std = np.array(INPUT.mean), np.array(INPUT.std)
    for item, value in zip(items, predictions.values, strict=True):
        normal = ((np.asarray(item.source) / 255 - mean) / std).transpose(2, 0, 1)[None]
        with torch.inference_mode():
            assert tuned.head is not None
            logits = tuned.head(tuned.module(torch.from_numpy(normal.astype(np.float32))))
        np.testing.assert_allclose(value, logits.softmax(dim=1)[0].numpy(), atol=PROBABILITY_ERROR)


def test_views_are_averaged_as_probabilities_over_classes(tmp_path: Path) -> None:
    items, labels = pictures(12)
    machine = settings(tmp_path)
    fitted = _fit(machine, item_set(items, labels))

    predictions = _predict(machine, fitted, item_set(items, None), reading=image_reading(crops=3))

    sums = np.stack(predictions.values).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=3 * PROBABILITY_ERROR)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_equal_seeds_give_equal_bits_whatever_reads(tmp_path: Path, num_workers: int) -> None:
    train = item_set(*pictures(20))
    wild = PROTOCOL.recipe | {"epochs": 2}  # type: ignore[operator]

    first = _fit(settings(tmp_path / "a"), train, recipe=wild)
    again = _fit(settings(tmp_path / "b", num_workers=num_workers), train, recipe=wild)
    other = _fit(settings(tmp_path / "c"), train, recipe=wild, seed=1)

    assert _same(first, again)
    assert not _same(first, other)


def test_an_interrupted_run_ends_with_the_same_numbers(tmp_path: Path) -> None:
    train = item_set(*pictures(20))
    expected = _fit(settings(tmp_path / "whole"), train)
    steps: list[int] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        steps.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(settings(tmp_path, progress=interrupt), train)
    steps.clear()
    resumed = _fit(
        settings(tmp_path, progress=lambda stage, done, total: steps.append(done)), train
    )

    assert _same(resumed, expected)
    # Two steps an epoch: the first epoch was kept.
    assert steps == [3, 4, 5, 6]


def test_another_recipe_does_not_go_on_from_this_ones_checkpoint(tmp_path: Path) -> None:
    train = item_set(*pictures(12))
    _fit(settings(tmp_path), train)
    expected = _fit(settings(tmp_path / "b"), train, recipe=_recipe(learning_rate=0.01))

    found = _fit(settings(tmp_path), train, recipe=_recipe(learning_rate=0.01))

    assert _same(found, expected)


def test_what_was_fitted_gives_the_same_scores_after_saving(tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    items, labels = pictures(12)
    fitted = _fit(settings(tmp_path), item_set(items, labels))
    kept = Fitted(arrays=load(save(dict(fitted.arrays))))

    one = _predict(settings(tmp_path), fitted, item_set(items, None))
    other = _predict(settings(tmp_path / "b"), kept, item_set(items, None))

    np.testing.assert_array_equal(np.stack(one.values), np.stack(other.values))


def test_unreadable_items_are_named_in_training_and_test(tmp_path: Path) -> None:
    items, labels = pictures(17)
    with_broken = (*items, broken_item())
    machine = settings(tmp_path)

    fitted = _fit(machine, item_set(with_broken, (*labels, 0)))
    predictions = _predict(machine, fitted, item_set(with_broken, None, rows=[17, 0]))

    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_fitted_on"] == 17
    assert predictions.values[0] is None
    assert [failure.id for failure in predictions.failures] == ["broken"]


def test_official_validation_data_is_trained_on_too(tmp_path: Path) -> None:
    items, labels = pictures(20)

    fitted = _fit(
        settings(tmp_path),
        item_set(items, labels, rows=range(12)),
        validation=item_set(items, labels, rows=range(12, 20)),
    )

    assert fitted.chosen["num_fitted_on"] == 20


def test_no_mirror_where_it_changes_the_label(tmp_path: Path) -> None:
    train = item_set(*pictures(12))
    mirrored = _recipe(flip_probability=1.0)

    plain = _fit(settings(tmp_path / "a"), train)
    forbidden = _fit(settings(tmp_path / "b"), train, recipe=mirrored, flip=False)
    allowed = _fit(settings(tmp_path / "c"), train, recipe=mirrored, flip=True)

    assert _same(plain, forbidden)
    assert not _same(plain, allowed)
    assert forbidden.chosen["flip_probability"] == 0


def test_clips_train_as_well_as_pictures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    clips = [
        Item(id=str(n), source=generator.integers(0, 256, (7, PIXELS, PIXELS, 3), dtype=np.uint8))
        for n in range(5)
    ]
    machine = settings(tmp_path)
    reading = video_reading()

    fitted = _fit(machine, item_set(clips, [0, 1, 2, 0, 1]), reading=reading)
    predictions = _predict(
        machine, fitted, item_set(clips, None), reading=video_reading(clips=2, crops=3)
    )

    assert len(predictions.values) == 5
    assert fitted.chosen["num_steps"] == 3


def test_what_a_task_reads_itself_is_trained_on_as_it_is(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Watching(Quarters):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(batch)
            return super().forward(batch)

    reading = replace(
        image_reading(),
        modality="volume",
        read=lambda item: np.full((3, PIXELS, PIXELS), float(item.id), dtype=np.float32),
        read_key="scans@1",
    )
    scans = [Item(id=str(number), source=np.zeros(1, dtype=np.uint8)) for number in range(4)]

    _fit(
        settings(tmp_path),
        item_set(scans, [0, 1, 2, 0]),
        network=model(Watching()),
        reading=reading,
        recipe=_recipe(epochs=1),
    )

    assert sorted(seen[0][:, 0, 0, 0].tolist()) == [0.0, 1.0, 2.0, 3.0]


class Dropping(Quarters):
    """A network that says what it drops before a classifier."""

    head_dropout = 0.5


def test_a_new_classifier_has_the_networks_dropout(tmp_path: Path) -> None:
    train = item_set(*pictures(20))

    plain = _fit(settings(tmp_path / "a"), train)
    dropped = _fit(settings(tmp_path / "b"), train, network=model(Dropping()))
    again = _fit(settings(tmp_path / "c", num_workers=2), train, network=model(Dropping()))

    assert not _same(plain, dropped)
    assert _same(dropped, again)
    assert sorted(plain.arrays) == sorted(dropped.arrays)
    assert (plain.chosen["head_dropout"], dropped.chosen["head_dropout"]) == (0.0, 0.5)


def test_the_dropout_of_a_lifted_network_is_found(tmp_path: Path) -> None:
    from rsbench.lifting import FrameMean

    fitted = _fit(
        settings(tmp_path), item_set(*pictures(6)), network=model(_Flattened(FrameMean(Dropping())))
    )

    assert fitted.chosen["head_dropout"] == 0.5


class _Flattened(nn.Module):
    """Shows a lifted network pictures as clips of one frame."""

    def __init__(self, lifted: nn.Module) -> None:
        super().__init__()
        self.lifted = lifted
        self.head: nn.Module | None = None

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.lifted(batch.unsqueeze(2))
        return features


def test_dropout_is_off_at_test_and_fine_tuned_tensors_load_without_it(tmp_path: Path) -> None:
    items, labels = pictures(12)
    fitted = _fit(settings(tmp_path), item_set(items, labels), network=model(Dropping()))

    def predicted(network: Any, name: str) -> np.ndarray:
        machine = settings(tmp_path / name)
        asked = predict_request(PROTOCOL, network, fitted, item_set(items, None), machine)
        return np.stack(PROTOCOL.predict(asked).values)

    first = predicted(model(Dropping()), "a")
    np.testing.assert_array_equal(first, predicted(model(Dropping()), "b"))
    np.testing.assert_array_equal(first, predicted(model(), "c"))


def _resnet_rs(name: str, **changes: Any) -> Any:
    """A narrow ResNet-RS of one block a stage, by the names of the registry."""
    spec = find_backbone(f"{name}+blocks=1-1-1-1+width=0.0625").spec
    options = {key: str(value) for key, value in changes.items()}
    assert spec.vary is not None
    spec = spec.vary(options) if options else spec
    torch.manual_seed(0)
    module = spec.build(None)
    # A branch that starts at zero can be skipped without a trace.
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
    return replace(model(module), feature_width=spec.feature_width)


@pytest.mark.parametrize("option", ["dropout", "stochastic_depth"])
def test_options_of_a_resnet_rs_act_in_training_alone(tmp_path: Path, option: str) -> None:
    train, recipe = item_set(*pictures(8)), _recipe(epochs=1, batch_size=8)

    plain = _fit(settings(tmp_path / "a"), train, network=_resnet_rs("resnet_rs_50"), recipe=recipe)
    network = _resnet_rs("resnet_rs_50", **{option: 0.9})
    acting = _fit(settings(tmp_path / "b"), train, network=network, recipe=recipe)

    assert plain.chosen["last_train_loss"] != acting.chosen["last_train_loss"]
    pictures_NCHW = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        first = _resnet_rs("resnet_rs_50").module(pictures_NCHW)
        assert torch.equal(network.module(pictures_NCHW), first)


def test_the_mark_of_a_network_stays_with_what_was_fine_tuned(tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    items, labels = pictures(8)
    recipe = _recipe(epochs=1, batch_size=8)
    garden, paper = _resnet_rs("resnet_rs_garden_50"), _resnet_rs("resnet_rs_50")

    fitted = _fit(settings(tmp_path), item_set(items, labels), network=garden, recipe=recipe)
    kept = load(save(dict(fitted.arrays)))

    assert kept["backbone.model_garden"] == np.array(1, dtype=np.uint8)
    trained_model(garden, kept, classes=(), device="cpu")
    with pytest.raises(WeightsError, match=r"backbone\.model_garden must not be there"):
        trained_model(paper, kept, classes=(), device="cpu")


def test_a_training_that_diverges_says_where(tmp_path: Path) -> None:
    class Exploding(Quarters):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return super().forward(batch) * float("inf")

    with pytest.raises(RunError, match=r"epoch 1 of 3, batch 1: the loss was nan on picture_"):
        _fit(settings(tmp_path), item_set(*pictures(6)), network=model(Exploding()))


def test_arrays_of_another_network_are_refused(tmp_path: Path) -> None:
    items, labels = pictures(6)
    fitted = _fit(settings(tmp_path), item_set(items, labels))
    arrays = {**fitted.arrays, "backbone.norm.weight": np.zeros(5, dtype=np.float32)}

    with pytest.raises(WeightsError, match=r"backbone\.norm\.weight must have shape \(12,\)"):
        _predict(settings(tmp_path), Fitted(arrays=arrays), item_set(items, None))


def test_one_item_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two items"):
        _fit(settings(tmp_path), item_set(*pictures(1)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("optimizer", "adam"),
        ("learning_rate", -1.0),
        ("smallest_crop", 0.0),
        ("flip_probability", 1.5),
        ("decay_norm_and_bias", 1),
        ("label_smoothing", float("nan")),
    ],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be"):
        _fit(settings(tmp_path), item_set(*pictures(6)), recipe=_recipe(**{key: value}))


def test_a_dry_run_is_told_three_passes_an_epoch() -> None:
    assert PROTOCOL.train_passes({**PROTOCOL.recipe, "epochs": 7}) == 21
