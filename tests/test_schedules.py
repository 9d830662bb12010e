"""How the rate goes: the official schedule at every step, and the others by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from training_traces import recorded

from rsbench.training.optimisation import TrainingPlan
from rsbench.training.schedules import make_schedules, whole_cosine

PLAN = TrainingPlan(
    epochs=1,
    optimizer="sgd",
    learning_rate=2.0,
    momentum=0.9,
    weight_decay=0.0,
    decay_norm_and_bias=False,
    warmup_share=0.0,
    warmup_factor=0.1,
    label_smoothing=0.0,
    largest_gradient=0.0,
)

# What float32, in which the official code computes rates, leaves of the top.
ROUNDING = 2e-7


def _plan(**changes: object) -> TrainingPlan:
    values = {name: getattr(PLAN, name) for name in PLAN.__dataclass_fields__}
    return TrainingPlan(**(values | changes))


def _optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups)


def _rates(plan: TrainingPlan, num_steps: int) -> list[float]:
    """The rate of each step, and of the one after the last."""
    optimizer = _optimizer(plan.learning_rate)
    schedules = make_schedules(optimizer, plan, num_steps=num_steps)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(num_steps):
        optimizer.step()
        for schedule in schedules:
            schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    ("experiment", "top", "sizes"),
    [("imagenet", 1.6, (1560, 109_200)), ("kinetics", 0.8, (1050, 73_682))],
)
def test_the_rate_of_a_whole_training_is_the_official_one(experiment, top, sizes) -> None:
    # tests/parity/record_training.py: the registered experiments of tf-models-official 2.20.0.
    warmup, total = recorded(f"rate {experiment}/warmup and total").astype(int)
    assert (warmup, total) == sizes
    steps = recorded(f"rate {experiment}/steps").astype(int)
    assert len(steps) > 1000
    assert list(steps[:1000]) == list(range(1000))
    assert steps[-1] == total

    ours = [top * whole_cosine(int(step), num_steps=total, warmup=warmup) for step in steps]

    np.testing.assert_allclose(ours, recorded(f"rate {experiment}/rates"), atol=top * ROUNDING)


def test_stepping_a_whole_training_gives_the_official_rates() -> None:
    steps = recorded("rate kinetics/steps").astype(int)
    plan = _plan(
        schedule="whole cosine",
        learning_rate=0.8,
        warmup_factor=0.0,
        warmup_share=1050 / 73_682,
    )

    ours = np.array(_rates(plan, 73_682))[steps]

    np.testing.assert_allclose(ours, recorded("rate kinetics/rates"), atol=0.8 * ROUNDING)


def test_a_whole_cosine_is_not_the_cosine_over_what_is_left() -> None:
    # By hand, 100 steps, 20 of warm-up: a line from 0 to the cosine at 20/100; half at step 50.
    whole = _rates(_plan(schedule="whole cosine", warmup_share=0.2, warmup_factor=0.0), 100)
    left = _rates(_plan(warmup_share=0.2), 100)

    top_of_line = 1 + math.cos(0.2 * math.pi)
    assert whole[0] == 0
    assert whole[10] == pytest.approx(top_of_line / 2)
    assert whole[20] == pytest.approx(top_of_line)
    assert whole[50] == pytest.approx(1.0)
    assert whole[100] == 0
    assert left[20] == pytest.approx(2.0)
    assert left[60] == pytest.approx(1.0)


def test_after_its_end_a_whole_cosine_stays_at_nought() -> None:
    # As tf.keras's CosineDecay, which counts no steps beyond `decay_steps`.
    assert whole_cosine(101, num_steps=100, warmup=0) == 0
    assert whole_cosine(150, num_steps=100, warmup=0) == 0


def test_a_warm_up_of_the_whole_cosine_may_begin_above_nought() -> None:
    rates = _rates(_plan(schedule="whole cosine", warmup_share=0.2, warmup_factor=0.25), 100)

    # Half way from a quarter of the top to the cosine's value at step 20.
    assert rates[0] == pytest.approx(0.5)
    assert rates[10] == pytest.approx((0.5 + 1 + math.cos(0.2 * math.pi)) / 2)


def test_a_constant_rate_stands_still_after_the_warm_up() -> None:
    rates = _rates(_plan(schedule="constant", warmup_share=0.1), 50)

    # From a tenth of the top, in equal parts, to the top at the last step of the warm-up.
    assert rates[:5] == pytest.approx([0.2, 0.65, 1.1, 1.55, 2.0])
    assert rates[5:] == pytest.approx([2.0] * 46)


@pytest.mark.parametrize("schedule", ["cosine", "whole cosine", "constant"])
def test_drops_take_the_place_of_the_schedule(schedule) -> None:
    rates = _rates(_plan(schedule=schedule, drops_at=(0.3, 0.6)), 10)

    assert rates == pytest.approx([2.0] * 4 + [0.2] * 3 + [0.02] * 4)


def test_groups_keep_rates_of_their_own() -> None:
    optimizer = _optimizer(1.0, 3.0)
    (schedule,) = make_schedules(optimizer, _plan(schedule="whole cosine"), num_steps=4)
    for _ in range(2):
        optimizer.step()
        schedule.step()

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "whole cosine", "warmup_share": 0.3, "warmup_factor": 0.0},
        {"schedule": "cosine", "warmup_share": 0.3},
        {"schedule": "constant", "warmup_share": 0.3},
        {"drops_at": (0.5, 0.8)},
    ],
)
@pytest.mark.parametrize("stop", [2, 7])
def test_schedules_that_are_put_back_go_on_to_the_last_bit(changes, stop) -> None:
    plan = _plan(**changes)
    before = _optimizer(plan.learning_rate)
    stopped = make_schedules(before, plan, num_steps=10)
    for _ in range(stop):
        before.step()
        for schedule in stopped:
            schedule.step()

    after = _optimizer(plan.learning_rate)
    going_on = make_schedules(after, plan, num_steps=10)
    after.load_state_dict(before.state_dict())
    for schedule, saved in zip(going_on, stopped, strict=True):
        schedule.load_state_dict(saved.state_dict())
    rates = [after.param_groups[0]["lr"]]
    for _ in range(stop, 10):
        after.step()
        for schedule in going_on:
            schedule.step()
        rates.append(after.param_groups[0]["lr"])

    assert rates == _rates(plan, 10)[stop:]
