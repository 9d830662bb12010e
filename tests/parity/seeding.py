"""Numbers that two environments make alike: weights, statistics and inputs, each from its name.

The weights of the comparisons with TensorFlow are never stored. Whoever needs the tensor of a
variable draws it here, from a generator seeded by the variable's name in the checkpoint. Only numpy
is used, and of numpy the one stream that its compatibility policy (NEP 19) freezes for good.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

# The two inputs of each network, channels last: (N, H, W, C) or (N, T, H, W, C). Even sizes are
# where TensorFlow's SAME padding is one-sided, odd ones where pools have a border.
INPUTS_2D = {"even": (2, 64, 64, 3), "odd": (1, 75, 61, 3)}
INPUTS = {
    "garden_2d": INPUTS_2D,
    "tpu_2d": INPUTS_2D,
    "keras_2d": INPUTS_2D,
    "garden_3d": {"even": (2, 6, 48, 48, 3), "odd": (1, 7, 37, 45, 3)},
}

# Half the width of a uniform distribution with standard deviation 1.
HALF_WIDTH = math.sqrt(3)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Give the tensor of a variable, float64 but exact in float32, so that both can be stored.

    Scales are such that maps neither die nor grow: the last stage has a root mean square near 3,
    and sigmoids stay off their ends. The running statistics are as random as the weights.

    Args:
        name: Of the variable; its last part says what it is: "kernel", "gamma", ...
        shape: As TensorFlow has it, output channels last.
    """
    kind = name.rpartition("/")[2]
    noise = _noise(name, shape)
    if kind == "kernel":
        values = noise * math.sqrt(1.2 / math.prod(shape[:-1]))
    elif kind == "gamma":
        values = 1 + 0.2 * noise
    elif kind == "moving_variance":
        # From 0.48 to 1.52.
        values = 1 + 0.3 * noise
    else:
        assert kind in ("beta", "bias", "moving_mean"), name
        values = 0.2 * noise
    return values.astype(np.float32).astype(np.float64)


def draw_input(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Give a batch with mean 0 and deviation 1, channels last, float64."""
    return _noise(name, shape)


def summarise(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make outputs small enough to keep: logits whole, of each stage map 24 numbers.

    Args:
        outputs: "logits" (N, K), and stage maps (N, [T], H, W, C).

    Returns:
        By the same names; for a map its root mean square, seven of its elements, and sixteen random
        projections of all of it, each about as large as an element: maps that differ differ there.
    """
    return {name: value if name == "logits" else _summary(value) for name, value in outputs.items()}


def _summary(maps: np.ndarray) -> np.ndarray:
    flat = maps.reshape(-1)
    directions = [_noise(f"{index} {maps.shape}", flat.shape) for index in range(16)]
    projections = [direction @ flat / math.sqrt(len(flat)) for direction in directions]
    some = flat[np.linspace(0, len(flat) - 1, 7).astype(int)]
    return np.array([math.sqrt(flat @ flat / len(flat)), *some, *projections])


def _noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    generator = np.random.RandomState(seed)
    return (2 * generator.random_sample(shape) - 1) * HALF_WIDTH
