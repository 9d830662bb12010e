"""The recipe of all trainings: what its words mean, and that the protocols say the papers' numbers.

The numbers are those of the official configurations, typed off them: Model Garden
`imagenet_resnetrs50_i160.yaml` and `k400_resnet3drs_50_tpu.yaml` (tensorflow/models), and the flags
of `resnet_main.py` (tensorflow/tpu).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_world import INPUT, model

from rsbench.errors import RsbenchError
from rsbench.media.augment import edges_of
from rsbench.protocols._training_recipe import (
    NEUTRAL,
    TrainingRecipe,
    augmentation_of,
    length_of,
    plan_of,
    train_passes,
    train_views,
)
from rsbench.registry import everything, find_protocol

TRAINING = (
    "finetune",
    "finetune_video",
    "train_baseline",
    "train_rs_imagenet",
    "train_rs_k400",
)
IMAGENET, KINETICS = 1_281_167, 215_570


def _read(**changes: Any) -> TrainingRecipe:
    return TrainingRecipe.of({**NEUTRAL, **changes})


def _of(name: str, **changes: Any) -> TrainingRecipe:
    return TrainingRecipe.of({**find_protocol(name).spec.recipe, **changes})


def _fields(subject: object, **expected: Any) -> dict[str, Any]:
    return {key: getattr(subject, key) for key in expected}


# ------------------------------------------------------------------------ the papers' numbers


def test_the_imagenet_recipe_is_that_of_the_model_garden() -> None:
    recipe = _of("train_rs_imagenet")
    plan = plan_of(recipe, num_examples=IMAGENET, target="class")

    expected = {
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "momentum_of": "steps",
        "weight_decay": 4e-5,
        "decay_norm_and_bias": False,
        "schedule": "whole cosine",
        "drops_at": (),
        "warmup_factor": 0.0,
        "label_smoothing": 0.1,
        "ema_decay": 0.9999,
        "norm_momentum": 1.0,
        "largest_gradient": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "loss": "cross-entropy",
    }
    assert _fields(plan, **expected) == expected
    assert (recipe.batch_size, plan.learning_rate) == (4096, pytest.approx(1.6, rel=1e-12))
    # The TPU configurations' train_steps; the yaml's 109,200 are 312 steps an epoch.
    assert length_of(recipe, num_examples=IMAGENET).num_steps == 109_475
    assert length_of(recipe, num_examples=IMAGENET).num_epochs == 350
    official = _of("train_rs_imagenet", steps=109_200)
    assert length_of(official, num_examples=IMAGENET).num_steps == 109_200
    # warmup_steps: 1560.
    assert round(official.warmup_share * 109_200) == 1560


def test_the_imagenet_recipe_shows_what_the_official_code_shows() -> None:
    published = {"dropout": 0.25, "stochastic_depth": 0.0, "randaugment_magnitude": 15}
    network = replace(model(), published_training=lambda pixels: published)

    shown = augmentation_of(_of("train_rs_imagenet"), network, INPUT, flip=True)

    expected = {
        "smallest_crop": 0.08,
        "widest_aspect": 4 / 3,
        "flip_probability": 0.5,
        "randaugment_layers": 2,
        "randaugment_magnitude": 15.0,
        "scale_jitter": None,
        "colour_jitter": 0.0,
        "random_erasing": 0.0,
        "pixels": 0,
    }
    assert _fields(shown, **expected) == expected


def test_the_kinetics_recipe_is_that_of_the_model_garden() -> None:
    recipe = _of("train_rs_k400")
    plan = plan_of(recipe, num_examples=KINETICS, target="class")
    protocol = find_protocol("train_rs_k400").spec

    expected = {
        "optimizer": "sgd",
        "learning_rate": 0.8,
        "momentum": 0.9,
        "nesterov": True,
        "momentum_of": "steps",
        "weight_decay": 4e-5,
        "decay_norm_and_bias": False,
        "schedule": "whole cosine",
        "warmup_factor": 0.0,
        "label_smoothing": 0.1,
        "ema_decay": 0.9999,
        "norm_momentum": 1.0,
    }
    assert _fields(plan, **expected) == expected
    assert recipe.batch_size == 1024
    assert (recipe.dropout, recipe.stochastic_depth, recipe.stochastic_depth_per) == (
        0.5,
        0.1,
        "stage",
    )
    length = length_of(recipe, num_examples=KINETICS)
    assert (length.num_steps, length.num_epochs) == (73_682, 350)
    assert round(plan.warmup_share * length.num_steps) == 1050
    shown = augmentation_of(recipe, model(), INPUT, flip=True)
    assert (shown.smallest_crop, shown.widest_aspect, shown.flip_probability) == (0.08, 2.0, 0.5)
    assert shown.randaugment_layers == 0
    assert (shown.clip_sampler, protocol.sampler, protocol.cropper) == (
        "model_garden_random@1",
        "model_garden@1",
        "model_garden@1",
    )


def test_the_baseline_is_the_old_recipe_of_the_tpu_code() -> None:
    recipe = _of("train_baseline", batch_size=1024)
    plan = plan_of(recipe, num_examples=IMAGENET, target="class")

    expected = {
        "optimizer": "sgd",
        "learning_rate": 0.4,
        "momentum": 0.9,
        "nesterov": True,
        "momentum_of": "gradients",
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "norm_momentum": 0.1,
    }
    assert _fields(plan, **expected) == expected
    # LR_SCHEDULE = [(1.0, 5), (0.1, 30), (0.01, 60), (0.001, 80)] over 90 epochs; train_steps is
    # 112590, an epoch rounded down to 1251 steps.
    assert [share * 90 for share in plan.drops_at] == pytest.approx([30, 60, 80], rel=1e-12)
    assert plan.warmup_share * 90 == pytest.approx(5, rel=1e-12)
    assert length_of(recipe, num_examples=IMAGENET).num_steps == 112_603
    assert (recipe.dropout, recipe.stochastic_depth, recipe.randaugment_layers) == (0.0, 0.0, 0)


@pytest.mark.parametrize("num_steps", [28_080, 90, 12_510])
def test_the_drops_of_the_baseline_fall_on_whole_epochs(num_steps: int) -> None:
    from torch import nn

    from rsbench.training.optimisation import make_optimizer
    from rsbench.training.schedules import make_schedules

    plan = plan_of(_of("train_baseline", warmup_share=0.0), num_examples=10_000, target="class")
    optimizer = make_optimizer(nn.Linear(2, 2), plan)
    schedules = make_schedules(optimizer, plan, num_steps=num_steps)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for schedule in schedules:
            schedule.step()

    # `rates` counts steps from 0, as epochs are counted. tf.where(epoch < start) is the old rate
    # before the start; our rule keeps it for the step at the start too, as piecewise_constant does.
    dropped = [step for step in range(1, num_steps) if rates[step] < rates[step - 1]]
    assert dropped == [num_steps * epoch // 90 + 1 for epoch in (30, 60, 80)]


def test_finetune_video_trains_for_as_long_as_the_public_recipes() -> None:
    recipe = _of("finetune_video")

    # HMDB51 and UCF101 (mmaction2, 40 epochs), Something-Something v2 (PySlowFast, MAX_EPOCH: 22).
    for num_videos, epochs in ((3570, 40), (9537, 40), (168_913, 22)):
        length = length_of(recipe, num_examples=num_videos)
        assert (length.num_epochs, length.steps_per_epoch) == (epochs, -(-num_videos // 64))
    assert recipe.dropout == 0.5
    assert length_of(_of("finetune_video", epochs=3), num_examples=100).num_epochs == 3


def test_finetune_has_the_numbers_it_always_had() -> None:
    plan = plan_of(_of("finetune"), num_examples=100, target="class")

    # Typed off version 2 of the protocol.
    expected = {
        "epochs": 30,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "decay_norm_and_bias": False,
        "warmup_share": 0.1,
        "warmup_factor": 0.1,
        "label_smoothing": 0.0,
        "largest_gradient": 0.0,
        "nesterov": True,
        "schedule": "cosine",
        "ema_decay": 0.0,
        "norm_momentum": None,
        "freeze_norm": False,
    }
    assert _fields(plan, **expected) == expected
    shown = augmentation_of(_of("finetune"), model(), INPUT, flip=True)
    assert (shown.smallest_crop, shown.widest_aspect, shown.flip_probability) == (0.35, 4 / 3, 0.5)
    assert (shown.clip_sampler, shown.pixels) == ("dense_random@1", 0)


@pytest.mark.parametrize("name", TRAINING)
def test_trainings_speak_one_vocabulary(name: str) -> None:
    recipe = find_protocol(name).spec.recipe

    assert recipe.keys() - {"epochs_by_size"} == NEUTRAL.keys()
    assert {key: type(recipe[key]) for key in NEUTRAL} == {
        key: type(value) for key, value in NEUTRAL.items()
    }


def test_what_begins_with_random_weights_says_so() -> None:
    found = {each.spec.name for each in everything("protocol")[0] if each.spec.from_scratch}

    assert found == {"train_baseline", "train_rs_imagenet", "train_rs_k400"}


# ------------------------------------------------------------------------ what the words mean


def test_a_rate_for_a_batch_goes_with_the_batch() -> None:
    assert _read(learning_rate=0.1, learning_rate_batch=256, batch_size=64).learning_rate == 0.025
    assert _read(learning_rate=0.1, batch_size=64).learning_rate == 0.1


def test_epochs_and_steps_are_counted_as_they_say() -> None:
    # 100 examples in batches of 16 are 6.25 batches.
    by_epochs = length_of(_read(epochs=3), num_examples=100)
    full = length_of(_read(epochs=3, full_batches=True), num_examples=100)
    steps = length_of(_read(steps=10), num_examples=100)
    stream = length_of(_read(steps=1000, full_batches=True), num_examples=100)

    assert by_epochs == (21, 7)
    assert full == (19, 7)
    assert (steps, steps.num_epochs, steps.steps_of(1)) == ((10, 7), 2, 3)
    # A checkpoint every 7 steps would be the most of the work.
    assert (stream, stream.num_epochs) == ((1000, 250), 4)


def test_the_share_of_the_newest_batch_goes_by_the_length_of_an_epoch() -> None:
    def share(num_examples: int) -> float | None:
        recipe = _read(norm_momentum="kornblith", batch_size=256)
        return plan_of(recipe, num_examples=num_examples, target="class").norm_momentum

    # max(1 - 10 / s, 0.9) is TensorFlow's; 75,750 pictures are 295.9 steps, 2,040 are 8.
    assert share(75_750) == pytest.approx(1 - (1 - 10 * 256 / 75_750))
    assert share(2_040) == pytest.approx(1 - 0.9)
    assert plan_of(_read(), num_examples=10, target="class").norm_momentum is None
    given = _read(norm_momentum="0.25")
    assert plan_of(given, num_examples=10, target="class").norm_momentum == 0.25


def test_drops_are_looked_at_where_the_schedule_is_drops() -> None:
    assert _read(schedule="drops", drops_at="0.6,0.3").drops_at == (0.3, 0.6)
    assert _read(schedule="cosine", drops_at="0.6,0.3").drops_at == ()


def test_nothing_is_mirrored_where_that_changes_the_label() -> None:
    recipe = _read(randaugment_layers=2, randaugment_magnitude="10")

    plain = augmentation_of(recipe, model(), INPUT, flip=True)
    directed = augmentation_of(recipe, model(), INPUT, flip=False)

    assert (plain.flip_probability, edges_of(plain)) == (0.5, "reflected")
    assert (directed.flip_probability, edges_of(directed)) == (0.0, "grey")


@pytest.mark.parametrize("name", [*TRAINING])
def test_a_training_selects_what_its_recipe_says(name: str) -> None:
    protocol = find_protocol(name).spec

    assert protocol.selects(protocol.recipe) == "nothing"
    best = {**protocol.recipe, "keep": "best", "held_out": 0.02}
    assert protocol.selects(best) == "official validation, else held-out train"


def test_what_is_published_is_taken_from_the_network_or_named_as_missing() -> None:
    recipe = _read(randaugment_layers=2)
    known = replace(model(), published_training=lambda pixels: {"randaugment_magnitude": pixels})

    # By the side that is trained on, be it another one than the test's.
    small = _read(randaugment_layers=2, train_pixels=6)
    assert augmentation_of(recipe, known, INPUT, flip=True).randaugment_magnitude == INPUT.pixels
    assert augmentation_of(small, known, INPUT, flip=True).randaugment_magnitude == 6.0
    with pytest.raises(RsbenchError, match=r"--set randaugment_magnitude=NUMBER") as caught:
        augmentation_of(recipe, model(), INPUT, flip=True)
    assert "\n" not in str(caught.value)
    # Without layers nobody asks.
    assert augmentation_of(_read(), model(), INPUT, flip=True).randaugment_magnitude == 0.0


def test_scale_jitter_is_two_lengths() -> None:
    assert _read(scale_jitter="256-320").scale_jitter == (256, 320)
    assert _read().scale_jitter is None


def test_a_dry_run_is_told_what_a_training_is_worth() -> None:
    # Forward and backward are three passes; what is held out is looked at once an epoch.
    assert train_passes({**NEUTRAL, "epochs": 10}) == 30
    assert train_passes({**NEUTRAL, "epochs": 10, "held_out": 0.25}) == pytest.approx(25)
    assert train_passes({**NEUTRAL, "steps": 100}) == 0
    assert train_views({**NEUTRAL, "steps": 100}) == 3 * 100 * 16
    assert train_passes(find_protocol("finetune_video").spec.recipe) == 120


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("steps", -1),
        ("batch_size", 1),
        ("optimizer", "adam"),
        ("learning_rate", float("inf")),
        ("learning_rate_batch", -1),
        ("momentum_of", "both"),
        ("schedule", "linear"),
        ("warmup_factor", 0.0),
        ("ema_decay", 1.0),
        ("mixup", -0.1),
        ("dropout", "1"),
        ("dropout", "often"),
        ("stochastic_depth", "nan"),
        ("stochastic_depth_per", "layer"),
        ("norm_momentum", "1.5"),
        ("randaugment_magnitude", "network"),
        ("randaugment_magnitude", "31"),
        ("scale_jitter", "320-256"),
        ("scale_jitter", "256"),
        ("train_pixels", -1),
        ("random_erasing", 1.5),
        ("colour_jitter", 2.0),
        ("keep", "all"),
        ("held_out", 1.0),
        ("epochs_by_size", "40"),
        ("epochs_by_size", "10:40"),
        ("epochs_by_size", "0:40,0:22"),
    ],
)
def test_a_value_out_of_its_range_is_named(key: str, value: Any) -> None:
    with pytest.raises(RsbenchError, match=f"^{key} must be") as caught:
        _read(**{key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"keep": "best"}, "held_out"),
        ({"freeze_norm": True, "norm_momentum": "0.5"}, "norm_momentum"),
        ({"freeze_norm": True, "sync_norm": True}, "sync_norm"),
        ({"stochastic_depth_per": "block"}, "stochastic_depth=NUMBER"),
        ({"scale_jitter": "128-160", "train_pixels": 224}, "train_pixels"),
        ({"schedule": "drops"}, "drops_at"),
    ],
)
def test_values_that_contradict_each_other_are_refused(changes: Any, named: str) -> None:
    with pytest.raises(RsbenchError, match=named) as caught:
        _read(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TRAINING)
def test_a_recipe_is_checked_before_anything_runs(name: str) -> None:
    protocol = find_protocol(name).spec

    with pytest.raises(RsbenchError, match=r"^batch_size must be"):
        protocol.check({**protocol.recipe, "batch_size": 0})
