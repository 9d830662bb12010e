"""Small trainings that two environments run alike: variables, gradients and rates, step by step.

There are two. In the longer one gradients are fixed numbers, drawn from the step and the name of
the variable, plus that of the decay: what is compared is optimizers, rates and averages, and no
network. In the other a small network learns from pictures, by the official task's own step and by
our loop. Only numpy is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from parity.seeding import draw, draw_input

NUM_STEPS = 1000
WARMUP_STEPS = 150
TOP_RATE = 0.5
MOMENTUM = 0.9
WEIGHT_DECAY = 0.02
"""Five hundred times the recipe's, so that it shows in a thousand steps."""

LEARNING = {
    "convolution/kernel": (3, 2, 2, 2),
    "norm/gamma": (2,),
    "norm/beta": (2,),
    "dense/kernel": (4, 3),
    "dense/bias": (3,),
}
"""Variables that learn, with their shapes; kernels alone decay."""
STATISTICS = {"norm/moving_mean": (2,), "norm/moving_variance": (2,)}
"""Those that each step sets anew, as batch norm with TensorFlow's momentum 0 does."""

KEPT = tuple(sorted({*range(1, 21), *range(25, NUM_STEPS + 1, 25)}))
"""Steps after which all numbers are recorded: what happens between shows in what follows."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One optimizer at work."""

    optimizer: Literal["sgd", "lars", "tpu"]
    """Of tf-models-official's factory; "tpu" is TensorFlow 1's MomentumOptimizer, which the code in
    tensorflow/tpu uses."""
    nesterov: bool
    top_rate: float = TOP_RATE
    average_decay: float = 0.0
    """Highest decay of the moving average; 0 has none."""


CASES = {
    "sgd": Case(optimizer="sgd", nesterov=False, average_decay=0.9999),
    # Reached after 81 steps: (1 + 81) / (10 + 81) is 0.9011.
    "sgd nesterov": Case(optimizer="sgd", nesterov=True, average_decay=0.9),
    # Rates of some thousandths of this where a tensor has its own.
    "lars": Case(optimizer="lars", nesterov=False, top_rate=4.0),
    "lars nesterov": Case(optimizer="lars", nesterov=True, top_rate=4.0),
    "tpu": Case(optimizer="tpu", nesterov=False),
    "tpu nesterov": Case(optimizer="tpu", nesterov=True),
}


# ------------------------------------------------------------------------------ a whole network

NETWORK_STEPS = 60
NETWORK_WARMUP = 10
NETWORK_CLASSES = 3
NETWORK_TOP_RATE = 0.2
NETWORK_AVERAGE_DECAY = 0.8
"""Reached after 35 steps."""
LABEL_SMOOTHING = 0.1
NETWORK_BATCH = (8, 6, 6, 2)
"""(N, H, W, C)."""
NETWORK = {
    "convolution/kernel": (3, 3, 2, 4),
    "norm/gamma": (4,),
    "norm/beta": (4,),
    "norm/moving_mean": (4,),
    "norm/moving_variance": (4,),
    "dense/kernel": (4, NETWORK_CLASSES),
    "dense/bias": (NETWORK_CLASSES,),
}
"""A convolution without padding and bias, a batch norm, ReLU, the mean of the map, a classifier."""


def network_beginnings() -> dict[str, np.ndarray]:
    """Give the network's variables before the first step, float32."""
    return {
        name: draw(f"network/{name}", shape).astype(np.float32) for name, shape in NETWORK.items()
    }


def network_batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the pictures, float32 (N, H, W, C), and classes, int32 (N,), of a step, from 1."""
    labels = (np.arange(NETWORK_BATCH[0]) + step) % NETWORK_CLASSES
    pictures = draw_input(f"pictures {step}", NETWORK_BATCH)
    # Something to be learned: how bright the first channel is.
    pictures[..., 0] += labels[:, None, None]
    return pictures.astype(np.float32), labels.astype(np.int32)


# ------------------------------------------------------------------------------- fixed gradients


def beginnings() -> dict[str, np.ndarray]:
    """Give all variables before the first step, float64."""
    return {
        name: draw(f"training/{name}", shape) for name, shape in (LEARNING | STATISTICS).items()
    }


# Drawing takes longer than stepping, and all traces have the same.
@cache
def gradient_of(step: int, name: str) -> np.ndarray:
    """Give the fixed part of a variable's gradient in a step, from 1, float64."""
    return 0.1 * draw_input(f"gradient {step} {name}", LEARNING[name])


@cache
def statistic_of(step: int, name: str) -> np.ndarray:
    """Give what a step, from 1, sets a running statistic to, float64."""
    return draw(f"step {step}/{name}", STATISTICS[name])


def flat(values: dict[str, np.ndarray]) -> np.ndarray:
    """Give variables as one row, in the order of their names here."""
    return np.concatenate(
        [np.asarray(values[name]).reshape(-1) for name in LEARNING | STATISTICS if name in values]
    )
