"""Record what the official TensorFlow code computes, and let its checkpoints be read by rsbench.

    PYTHONPATH=. python tests/parity/record.py build/parity [--update]

Runs in the environment of `requirements.txt`, which has no torch. For each of four networks it

1. fills every weight and every running statistic from generators seeded by the variable's name,
2. runs an even and an odd input size and keeps logits and a summary of each stage,
3. compares them with `recorded/` (or writes that folder, with --update),
4. lets the official code write checkpoints, each in every layout it has, reads them back with
   `rsbench.weights.foreign`, and leaves the tensors in FOLDER/read for the tests that have torch.

The numbers in a checkpoint that must *not* be taken (training weights beside their averages) are
other random numbers, so that taking them shows.
"""

from __future__ import annotations

import os

# Before TensorFlow is imported, which prints a page on starting.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_networks as networks
import tf_keras
from seeding import INPUTS, draw, draw_input, summarise

from rsbench.weights.foreign import read_foreign

HERE = Path(__file__).parent
AVERAGE = "/ExponentialMovingAverage"
# Two builds of one library agree to rounding; anything else is another network.
AGREEMENT = 1e-11

Tensors = dict[str, np.ndarray]


class Recording:
    """What one call of this program writes, and where."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, Tensors] = {}
        self.layouts: dict[str, Any] = {}

    def network(
        self,
        name: str,
        layout: Mapping[str, tuple[int, ...]],
        run: Callable[[np.ndarray], networks.Outputs],
    ) -> None:
        """Run a network that is filled with the numbers of its layout."""
        self.layouts[name] = {key: list(shape) for key, shape in sorted(layout.items())}
        self.outputs[name] = {
            f"{size}/{key}": value
            for size, shape in INPUTS[name].items()
            for key, value in summarise(run(draw_input(size, shape))).items()
        }
        logits = self.outputs[name]["even/logits"]
        say(f"{name}: {len(layout)} tensors, logits {logits.shape}, deviation {logits.std():.3f}")

    def checkpoint(self, name: str, save: Callable[[Path], str], expected: Tensors) -> None:
        """Write a checkpoint, read it by rsbench, compare tensor by tensor, leave the tensors."""
        folder = self.folder / "checkpoints" / name
        folder.mkdir(parents=True)
        path = Path(save(folder))
        notes: list[str] = []
        kind, tensors = read_foreign(path, note=notes.append)
        assert sorted(tensors) == sorted(expected), sorted(set(tensors) ^ set(expected))[:6]
        for key, value in expected.items():
            np.testing.assert_allclose(tensors[key], value, rtol=1e-12, atol=1e-14, err_msg=key)
        shutil.rmtree(folder)
        read = self.folder / "read"
        read.mkdir(exist_ok=True)
        # The numbers are exact in float32, see seeding.
        small = {key: value.astype(np.float32) for key, value in tensors.items()}
        np.savez(read / f"{name}.npz", **small)
        (read / f"{name}.json").write_text(json.dumps({"format": kind}))
        say(f"  {name}: {kind}, {len(tensors)} tensors as written; {'; '.join(notes) or '-'}")


def record_garden(
    recording: Recording, name: str, build: Callable[[], networks.GardenNetwork]
) -> None:
    """Record a Model Garden network and its checkpoints."""
    network = build()
    keys = networks.checkpoint_keys(network, recording.folder)
    layout = {key: tuple(variable.shape) for key, variable in keys.items()}
    right = {key: draw(key, shape) for key, shape in layout.items()}
    _fill(keys, right)
    recording.network(name, layout, network.run)
    recording.checkpoint(f"{name}-plain", network.save_plain, right)
    if name == "garden_2d":
        backbone = {key: value for key, value in right.items() if key.startswith("backbone/")}
        recording.checkpoint(f"{name}-backbone", network.save_backbone, backbone)
        # Without the names that the trainer gives to model and backbone.
        unnamed = {_unnamed(key): value for key, value in right.items()}
        recording.checkpoint(f"{name}-save_weights", network.save_weights, unnamed)

    averages = {key: network.optimizer.get_slot(v, "average") for key, v in keys.items()}
    _fill(averages, right)
    for key, variable in keys.items():
        variable.assign(draw(f"decoy/{key}", layout[key]))
    recording.checkpoint(f"{name}-trained", network.save_trained, right)
    if name == "garden_2d":
        recording.checkpoint(f"{name}-best", network.save_best, right)


def record_tpu(recording: Recording) -> None:
    """Record the TPU network and its checkpoint."""
    network = networks.TpuNetwork()
    layout = {
        key: tuple(variable.shape)
        for key, variable in network.variables.items()
        if not key.endswith((AVERAGE, "/Momentum")) and key != "global_step"
    }
    right = {key: draw(key, shape) for key, shape in layout.items()}
    network.assign(right)
    recording.network("tpu_2d", layout, network.run)
    network.assign({f"{key}{AVERAGE}": value for key, value in right.items()})
    network.assign({key: draw(f"decoy/{key}", shape) for key, shape in layout.items()})
    recording.checkpoint("tpu_2d-trained", network.save, right)


def record_keras(recording: Recording) -> None:
    """Record the network of keras.applications and its file."""
    models: dict[tuple[int, int], tf_keras.Model] = {}

    def model(height: int, width: int) -> tf_keras.Model:
        if (height, width) not in models:
            models[height, width] = networks.keras_2d(height, width)
            _fill(named(models[height, width]), right)
        return models[height, width]

    def named(model: tf_keras.Model) -> dict[str, tf.Variable]:
        return {variable.name.removesuffix(":0"): variable for variable in model.variables}

    def save(folder: Path) -> str:
        path = str(folder / "weights.h5")
        model(64, 64).save_weights(path)
        return path

    layout = {key: tuple(v.shape) for key, v in named(networks.keras_2d(64, 64)).items()}
    right = {key: draw(key, shape) for key, shape in layout.items()}
    recording.network(
        "keras_2d", layout, lambda batch: networks.run_keras(model(*batch.shape[1:3]), batch)
    )
    recording.checkpoint("keras_2d-h5", save, right)


def compare(recording: Recording) -> list[str]:
    """Name what differs from the recorded files."""
    wrong = []
    if json.loads((HERE / "recorded" / "layouts.json").read_text()) != recording.layouts:
        wrong.append("layouts.json")
    for name, outputs in recording.outputs.items():
        with np.load(HERE / "recorded" / f"{name}.npz") as recorded:
            wrong += [f"{name}: {key}" for key in {*recorded} ^ {*outputs}]
            for key in {*recorded} & {*outputs}:
                scale = np.abs(recorded[key]).max()
                if np.abs(recorded[key] - outputs[key]).max() > AGREEMENT * scale:
                    wrong.append(f"{name}: {key}")
    return wrong


def write(recording: Recording) -> None:
    """Write the recorded files."""
    (HERE / "recorded").mkdir(exist_ok=True)
    text = json.dumps(recording.layouts, separators=(",", ":"))
    # One tensor a line: a diff then shows what changed.
    (HERE / "recorded" / "layouts.json").write_text(text.replace("],", "],\n") + "\n")
    for name, outputs in recording.outputs.items():
        np.savez_compressed(HERE / "recorded" / f"{name}.npz", **outputs)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Record, compare or write, and say so."""
    parser = argparse.ArgumentParser(description="Record the official ResNet-RS networks.")
    parser.add_argument("folder", type=Path, help="where checkpoints and read tensors go")
    parser.add_argument("--update", action="store_true", help="write recorded/ anew")
    arguments = parser.parse_args()
    for part in ("checkpoints", "read"):
        shutil.rmtree(arguments.folder / part, ignore_errors=True)
    tf_keras.backend.set_floatx("float64")
    recording = Recording(arguments.folder)
    record_tpu(recording)
    record_keras(recording)
    record_garden(recording, "garden_2d", networks.garden_2d)
    record_garden(recording, "garden_3d", networks.garden_3d)
    if arguments.update:
        write(recording)
        say(f"wrote {HERE / 'recorded'}")
        return 0
    wrong = compare(recording)
    if wrong:
        say(f"the official code gives other numbers than recorded: {', '.join(wrong)}")
        return 1
    say("the official code gives the recorded numbers")
    return 0


def _fill(variables: Mapping[str, tf.Variable], values: Tensors) -> None:
    assert variables.keys() == values.keys()
    for key, variable in variables.items():
        variable.assign(values[key])


def _unnamed(key: str) -> str:
    return key.replace("backbone/", "layer_with_weights-0/").replace("model/", "")


if __name__ == "__main__":
    sys.exit(main())
