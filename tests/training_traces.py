"""Our optimizers, schedules and averages on the problem of `parity.training_problem`.

`tests/parity/record_training.py` ran the official code (tf-models-official 2.20.0) on it; `make
parity` runs it anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from parity.training_problem import (
    KEPT,
    LEARNING,
    MOMENTUM,
    NUM_STEPS,
    STATISTICS,
    WARMUP_STEPS,
    WEIGHT_DECAY,
    Case,
    beginnings,
    flat,
    gradient_of,
    statistic_of,
)
from torch import nn

from rsbench.training.averaging import Average
from rsbench.training.optimisation import TrainingPlan, make_optimizer
from rsbench.training.schedules import make_schedules

RECORDED = Path(__file__).parent / "parity" / "recorded" / "training.npz"


def recorded(name: str) -> np.ndarray:
    """What the official code gave, by the name in the file."""
    with np.load(RECORDED) as arrays:
        return arrays[name].astype(np.float64)


def plan_of(case: Case, **changes: object) -> TrainingPlan:
    """The plan that says what the official code was told."""
    values = {
        "epochs": 1,
        "optimizer": "lars" if case.optimizer == "lars" else "sgd",
        "learning_rate": case.top_rate,
        "momentum": MOMENTUM,
        "momentum_of": "gradients" if case.optimizer == "tpu" else "steps",
        "nesterov": case.nesterov,
        "weight_decay": WEIGHT_DECAY,
        "decay_norm_and_bias": False,
        "schedule": "whole cosine",
        "warmup_share": WARMUP_STEPS / NUM_STEPS,
        "warmup_factor": 0.0,
        "label_smoothing": 0.0,
        "largest_gradient": 0.0,
        "ema_decay": case.average_decay,
    }
    return TrainingPlan(**(values | changes))


class Problem(nn.Module):
    """The variables, those that learn as parameters and the statistics as buffers, float64."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in beginnings().items():
            if name in LEARNING:
                self.register_parameter(name, nn.Parameter(torch.from_numpy(value)))
            else:
                self.register_buffer(name, torch.from_numpy(value))

    def values(self) -> dict[str, np.ndarray]:
        return {name: value.detach().numpy() for name, value in self.state_dict().items()}


def trace(plan: TrainingPlan, *, last: int = NUM_STEPS) -> dict[str, np.ndarray]:
    """Take the steps up to the last; give variables and averages after those of `KEPT`."""
    problem = Problem()
    optimizer = make_optimizer(problem, plan)
    schedules = make_schedules(optimizer, plan, num_steps=NUM_STEPS)
    average = Average(problem, plan.ema_decay) if plan.ema_decay else None
    kept: dict[str, list[np.ndarray]] = {"variables": [], "averages": []}
    for step in range(1, last + 1):
        for name in STATISTICS:
            problem.get_buffer(name).copy_(torch.from_numpy(statistic_of(step, name)))
        for name in LEARNING:
            problem.get_parameter(name).grad = torch.from_numpy(gradient_of(step, name))
        optimizer.step()
        for schedule in schedules:
            schedule.step()
        if average is not None:
            average.update()
        if step in KEPT:
            kept["variables"].append(flat(problem.values()))
            if average is not None:
                kept["averages"].append(
                    flat({name: value.numpy() for name, value in average.tensors().items()})
                )
    return {name: np.array(rows) for name, rows in kept.items() if rows}


def deviation(found: np.ndarray, name: str) -> float:
    """Largest difference to what is recorded, over the largest number of the same variable."""
    right = recorded(name)[: len(found)]
    assert found.shape == right.shape
    return float((np.abs(found - right) / np.abs(right).max(axis=0)).max())
