"""Record how the official code trains: rates, optimizers, moving averages, and what decays.

    PYTHONPATH=tests python tests/parity/record_training.py FOLDER [--update]

Compares with ``recorded/training.npz`` and ``recorded/decaying.json`` beside this file, or writes
them, with --update. FOLDER is for files in passing. Needs tensorflow and tf-models-official (2.20.0
when it was written); no torch and nothing of rsbench. It keeps

- the learning rate of the registered experiments `resnet_rs_imagenet` and, as the yaml of 3D
  ResNet-RS sets it, `video_classification_kinetics400`: the first thousand steps, and others up to
  the last of 109,200 and 73,682;
- traces of the variables of `training_problem` over a thousand steps, under SGD and LARS as
  `OptimizerFactory` makes them, both with Nesterov's momentum and without, rates going up and down,
  and of the moving averages of all variables; SGD decays through the loss, by `regularizers.l2`,
  as the official tasks do;
- what becomes of a small network in sixty steps that the official task takes itself, with label
  smoothing, decay, the batch norm that it uses (momentum 0) and the moving average;
- the same variables under TensorFlow 1's MomentumOptimizer, which the code in tensorflow/tpu uses;
- which variables of the official 2D and 3D networks have a part in the loss of the decay.
"""

from __future__ import annotations

import os

# Before TensorFlow is imported, which prints a page on starting.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory
from official.modeling import optimization
from parity import tensorflow_networks as networks
from parity.training_problem import (
    CASES,
    KEPT,
    LABEL_SMOOTHING,
    LEARNING,
    MOMENTUM,
    NETWORK_AVERAGE_DECAY,
    NETWORK_BATCH,
    NETWORK_CLASSES,
    NETWORK_STEPS,
    NETWORK_TOP_RATE,
    NETWORK_WARMUP,
    NUM_STEPS,
    STATISTICS,
    WARMUP_STEPS,
    WEIGHT_DECAY,
    Case,
    beginnings,
    flat,
    gradient_of,
    network_batch,
    network_beginnings,
    statistic_of,
)

RECORDED = Path(__file__).parent / "recorded"

# What k400_resnet3drs_50_tpu.yaml says of the rate (tensorflow/models,
# official/vision/configs/experiments/video_classification; the file is not in the package).
K400_TRAINER = {
    "trainer": {
        "train_steps": 73682,
        "optimizer_config": {
            "learning_rate": {"cosine": {"initial_learning_rate": 0.8, "decay_steps": 73682}},
            "warmup": {"linear": {"warmup_steps": 1050}},
        },
    },
    "task": {"losses": {"l2_weight_decay": 4e-5, "label_smoothing": 0.1}},
}


def imagenet() -> Any:
    """Give the registered experiment of 2D ResNet-RS."""
    return exp_factory.get_exp_config("resnet_rs_imagenet")


def kinetics() -> Any:
    """Give the experiment of 3D ResNet-RS."""
    config = exp_factory.get_exp_config("video_classification_kinetics400")
    config.override(networks.K400_RESNET_3D_RS_50, is_strict=True)
    config.override(K400_TRAINER, is_strict=True)
    return config


def rates(config: Any) -> dict[str, np.ndarray]:
    """Give the rate of steps, from 0, of a whole training."""
    trainer = config.trainer
    factory = optimization.OptimizerFactory(trainer.optimizer_config)
    rate = factory.build_learning_rate()
    warmup, total = trainer.optimizer_config.warmup.linear.warmup_steps, trainer.train_steps
    around = range(warmup - 3, warmup + 4)
    steps = sorted({*range(1000), *around, *range(1000, total, 997), total - 2, total - 1, total})
    return {
        "steps": np.array(steps),
        "rates": np.array([float(rate(step)) for step in steps], np.float32),
        "warmup and total": np.array([warmup, total]),
    }


def trace(case: Case) -> dict[str, np.ndarray]:
    """Take all steps; give variables and averages after those of `KEPT`, float32."""
    variables = {
        name: tf.Variable(value, trainable=name in LEARNING, name=name)
        for name, value in beginnings().items()
    }
    learning = [variables[name] for name in LEARNING]
    optimizer = _optimizer(case)
    if case.average_decay:
        optimizer.shadow_copy(
            SimpleNamespace(trainable_variables=learning, variables=list(variables.values()))
        )
    # LARS has the decay in the optimizer; the tasks have it in the loss.
    penalty = tf_keras.regularizers.l2(WEIGHT_DECAY / 2)
    kernels = [] if case.optimizer == "lars" else [v for v in learning if "kernel" in v.name]
    kept: dict[str, list[np.ndarray]] = {"variables": [], "averages": []}
    for step in range(1, NUM_STEPS + 1):
        for name in STATISTICS:
            variables[name].assign(statistic_of(step, name))
        with tf.GradientTape() as tape:
            loss = tf.add_n(
                [tf.reduce_sum(variables[name] * gradient_of(step, name)) for name in LEARNING]
            )
            for kernel in kernels:
                loss += penalty(kernel)
        gradients = tape.gradient(loss, learning)
        optimizer.apply_gradients(zip(gradients, learning, strict=True))
        if step in KEPT:
            kept["variables"].append(flat({n: v.numpy() for n, v in variables.items()}))
            if case.average_decay:
                slots = {n: optimizer.get_slot(v, "average") for n, v in variables.items()}
                kept["averages"].append(flat({n: slot.numpy() for n, slot in slots.items()}))
    return {name: np.array(rows, np.float32) for name, rows in kept.items() if rows}


def _optimizer(case: Case, *, num_steps: int = NUM_STEPS, warmup_steps: int = WARMUP_STEPS) -> Any:
    config: dict[str, Any] = {
        "optimizer": {
            "type": "sgd",
            "sgd": {"momentum": MOMENTUM, "nesterov": case.nesterov},
        },
        "learning_rate": {
            "type": "cosine",
            "cosine": {"initial_learning_rate": case.top_rate, "decay_steps": num_steps},
        },
        "warmup": {
            "type": "linear",
            "linear": {"warmup_steps": warmup_steps, "warmup_learning_rate": 0},
        },
    }
    if case.optimizer == "lars":
        config["optimizer"] = {
            "type": "lars",
            "lars": {
                "momentum": MOMENTUM,
                "nesterov": case.nesterov,
                "weight_decay_rate": WEIGHT_DECAY,
                "exclude_from_weight_decay": ["gamma", "beta", "bias"],
            },
        }
    if case.average_decay:
        config["ema"] = {"average_decay": case.average_decay, "trainable_weights_only": False}
    factory = optimization.OptimizerFactory(optimization.OptimizationConfig(config))
    rate = factory.build_learning_rate()
    if case.optimizer != "tpu":
        return factory.build_optimizer(rate)
    steps_done = iter(range(num_steps))
    return tf.compat.v1.train.MomentumOptimizer(
        lambda: rate(next(steps_done)), MOMENTUM, use_nesterov=case.nesterov
    )


def network() -> dict[str, np.ndarray]:
    """Let a small network learn by the official task's step; give variables and averages."""
    config = imagenet()
    config.task.model.num_classes = NETWORK_CLASSES
    config.task.losses.label_smoothing = LABEL_SMOOTHING
    task = task_factory.get_task(config.task)
    penalty = tf_keras.regularizers.l2(WEIGHT_DECAY / 2)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input(NETWORK_BATCH[1:]),
            layers.Conv2D(4, 3, use_bias=False, kernel_regularizer=penalty, name="convolution"),
            layers.BatchNormalization(momentum=0.0, epsilon=1e-5, name="norm"),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(NETWORK_CLASSES, kernel_regularizer=penalty, name="dense"),
        ]
    )
    variables = {variable.name.partition(":")[0]: variable for variable in model.variables}
    for name, value in network_beginnings().items():
        variables[name].assign(value)
    optimizer = _optimizer(
        Case(
            optimizer="sgd",
            nesterov=True,
            top_rate=NETWORK_TOP_RATE,
            average_decay=NETWORK_AVERAGE_DECAY,
        ),
        num_steps=NETWORK_STEPS,
        warmup_steps=NETWORK_WARMUP,
    )
    optimizer.shadow_copy(model)
    for step in range(1, NETWORK_STEPS + 1):
        pictures, labels = network_batch(step)
        task.train_step((tf.constant(pictures), tf.constant(labels)), model, optimizer)
    averages = {name: optimizer.get_slot(v, "average") for name, v in variables.items()}
    return {
        **{f"variables/{name}": variable.numpy() for name, variable in variables.items()},
        **{f"averages/{name}": average.numpy() for name, average in averages.items()},
    }


def decaying(config: Any, folder: Path) -> list[str]:
    """Name the variables that the official task decays, by their keys in a checkpoint."""
    model = task_factory.get_task(config.task).build_model()
    keys = networks.checkpoint_keys(networks.GardenNetwork(model, None, None), folder)
    names = {id(variable): key for key, variable in keys.items()}
    with tf.GradientTape() as tape:
        loss = tf.add_n(model.losses)
    learning = model.trainable_variables
    gradients = tape.gradient(loss, learning)
    found = []
    for variable, gradient in zip(learning, gradients, strict=True):
        if gradient is not None:
            share = config.task.losses.l2_weight_decay
            np.testing.assert_allclose(gradient, share * variable, rtol=1e-6)
            found.append(names[id(variable)])
    return sorted(found)


def main() -> None:
    folder = Path(sys.argv[1])
    now = {
        f"{name}/{key}": values
        for name, found in {
            **{f"rate {config.__name__}": rates(config()) for config in (imagenet, kinetics)},
            **{name: trace(case) for name, case in CASES.items()},
            "network": network(),
        }.items()
        for key, values in found.items()
    }
    names = {
        "garden_2d": decaying(imagenet(), folder),
        "garden_3d": decaying(kinetics(), folder),
    }
    if sys.argv[2:] == ["--update"]:
        np.savez_compressed(RECORDED / "training.npz", **now)
        (RECORDED / "decaying.json").write_text(json.dumps(names, indent=0) + "\n")
    with np.load(RECORDED / "training.npz") as before:
        assert set(before) == set(now), "other traces than recorded: record with --update"
        for name, values in now.items():
            # What a library may round otherwise: after a thousand steps, and in convolutions.
            limit = 1e-4 if name.startswith("network/") else 1e-6
            np.testing.assert_allclose(values, before[name], rtol=limit, atol=limit, err_msg=name)
    assert json.loads((RECORDED / "decaying.json").read_text()) == names, "other variables decay"
    sys.stdout.write(f"{len(now)} traces and rates, and what decays, are as recorded\n")


if __name__ == "__main__":
    main()
