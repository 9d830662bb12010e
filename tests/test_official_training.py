"""Our loop beside the official task: a small network learns the same from the same pictures.

`tests/parity/record_training.py` took sixty steps of tf-models-official 2.20.0's image
classification: its step, its losses with label smoothing and decay, Keras's batch norm with
momentum 0, SGD with look-ahead under its schedule, its moving average. `make parity` takes them
anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from parity.training_problem import (
    LABEL_SMOOTHING,
    NETWORK,
    NETWORK_AVERAGE_DECAY,
    NETWORK_CLASSES,
    NETWORK_STEPS,
    NETWORK_TOP_RATE,
    NETWORK_WARMUP,
    Case,
    network_batch,
    network_beginnings,
)
from torch import nn
from training_traces import plan_of, recorded

from rsbench.training.loop import Checkpoint, Machine, TrainingBatch, train
from rsbench.training.optimisation import TrainingPlan

NAMES = {
    "convolution/kernel": "0.weight",
    "norm/gamma": "1.weight",
    "norm/beta": "1.bias",
    "norm/moving_mean": "1.running_mean",
    "norm/moving_variance": "1.running_var",
    "dense/kernel": "5.weight",
    "dense/bias": "5.bias",
}

AGREEMENT = 1e-5
"""Of the largest number of a tensor, after sixty steps in float32."""
SHOWS = 1e-3
"""What a mistake must change at least."""

PLAN: TrainingPlan = plan_of(
    Case(optimizer="sgd", nesterov=True, top_rate=NETWORK_TOP_RATE),
    warmup_share=NETWORK_WARMUP / NETWORK_STEPS,
    label_smoothing=LABEL_SMOOTHING,
    norm_momentum=1.0,
)
AVERAGED = replace(PLAN, ema_decay=NETWORK_AVERAGE_DECAY)


def _turned(value: np.ndarray) -> np.ndarray:
    """Put output channels first, as PyTorch has kernels."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
    return np.ascontiguousarray(value.transpose(axes))


def _network() -> nn.Sequential:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4, eps=1e-5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, NETWORK_CLASSES),
    )
    state = {NAMES[name]: _turned(value) for name, value in network_beginnings().items()}
    network.load_state_dict(
        {name: torch.from_numpy(value) for name, value in state.items()}, strict=False
    )
    return network


def _read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
    del epoch, failures
    for step in range(first + 1, NETWORK_STEPS + 1):
        pictures, labels = network_batch(step)
        inputs = torch.from_numpy(np.moveaxis(pictures, -1, 1).copy())
        names = tuple(f"{step}/{place}" for place in range(len(labels)))
        yield TrainingBatch(inputs, torch.from_numpy(labels).long(), names)


def _deviation(tmp_path: Path, plan: TrainingPlan, kind: str, **changes: object) -> float:
    """Largest difference of a tensor to the official one, over its largest number."""
    network = _network()
    train(
        network,
        _read,
        plan,
        steps_per_epoch=NETWORK_STEPS,
        seed=0,
        machine=Machine(device="cpu", precision="float32"),
        checkpoint=Checkpoint(path=tmp_path / "run.pt", key="run"),
        **changes,
    )
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    deviations = []
    for name in NETWORK:
        right = _turned(recorded(f"network/{kind}/{name}"))
        found = state[NAMES[name]]
        deviations.append(float(np.abs(found - right).max() / np.abs(right).max()))
    return max(deviations)


@pytest.mark.parametrize(("plan", "kind"), [(PLAN, "variables"), (AVERAGED, "averages")])
def test_the_loop_trains_a_network_as_the_official_task_does(tmp_path, plan, kind) -> None:
    assert _deviation(tmp_path, plan, kind) <= AGREEMENT


@pytest.mark.parametrize(
    "changes",
    [
        {"label_smoothing": 0.09},
        {"decay_norm_and_bias": True},
        {"weight_decay": 0.0},
        {"nesterov": False},
        {"momentum_of": "gradients"},
        {"schedule": "cosine", "warmup_factor": 1e-9},
        {"norm_momentum": None},
        {"norm_momentum": 0.99},
        {"freeze_norm": True},
        {"examples_at_once": 4},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()),
)
def test_another_recipe_shows_in_the_network(tmp_path, changes) -> None:
    assert _deviation(tmp_path, replace(PLAN, **changes), "variables") > SHOWS


@pytest.mark.parametrize("decay", [0.0, 0.75, 0.85])
def test_another_average_shows_in_the_network(tmp_path, decay) -> None:
    assert _deviation(tmp_path, replace(AVERAGED, ema_decay=decay), "averages") > SHOWS
