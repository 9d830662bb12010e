"""Record what RandAugment's operations make of pictures and a clip in TensorFlow.

    PYTHONPATH=tests python tests/parity/record_augmentation.py [--update]

Compares with ``recorded/augmentation.npz`` beside this file, or writes it, with --update. Needs
tensorflow and tf-models-official (2.20 when it was written); no torch and nothing of rsbench.

- ``model_garden``: the functions and the table of magnitudes of tf-models-official itself,
  ``official/vision/ops/augment.py``; only their draws (direction, middle of a cutout) are given.
- ``tpu``: what tensorflow/tpu does otherwise in ``models/official/efficientnet/autoaugment.py`` at
  181b860: 100 pixels instead of 10, grey outside of the picture, another contrast. That file is in
  no package and needs TensorFlow 1, so these are said again here, in the functions above where
  they are the same.
"""

from __future__ import annotations

import os

# Before TensorFlow is imported, which prints a page on starting.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf
from official.vision.ops import augment
from parity.augmentation_cases import SIGNED, Case, cases_of, draw_clips, summary_of

GREY = [128, 128, 128]
CUTOUT = 40.0
GARDEN_TRANSLATION = 10.0
TPU_TRANSLATION = 100.0
OPERATIONS = tuple(augment.RandAugment().available_ops)
PICTURES = ("wide", "square", "tall", "flat")

Distort = Callable[[str, Case, tf.Tensor], tf.Tensor]


def model_garden(operation: str, case: Case, image: tf.Tensor) -> tf.Tensor:
    """Apply an operation with its argument of this magnitude."""
    with mock.patch.object(augment, "_randomly_negate_tensor", signed(case)):
        function, _, arguments = augment._parse_policy_info(
            operation, 1.0, float(case.magnitude), GREY, CUTOUT, GARDEN_TRANSLATION
        )
    height, width = image.shape[-3:-1]
    middle = [int(case.row * height), int(case.column * width)]
    with mock.patch.object(tf.random, "uniform", mock.Mock(side_effect=middle)):
        distorted, _ = function(image, None, *arguments)
    return distorted


def tpu(operation: str, case: Case, image: tf.Tensor) -> tf.Tensor:
    """Apply an operation that the TPU code has otherwise."""
    with mock.patch.object(augment, "_randomly_negate_tensor", signed(case)):
        (value,) = augment.level_to_arg(CUTOUT, TPU_TRANSLATION)[operation](float(case.magnitude))
    if operation == "Contrast":
        return tpu_contrast(image, value)
    height, width = (tf.cast(side, tf.float32) for side in image.shape[:2])
    matrices = {
        "Rotate": lambda: augment._convert_angles_to_transform(
            tf.cast(value * np.pi / 180.0, tf.float32), width, height
        ),
        "ShearX": lambda: [1.0, value, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        "ShearY": lambda: [1.0, 0.0, 0.0, value, 1.0, 0.0, 0.0, 0.0],
        "TranslateX": lambda: augment._convert_translation_to_transform([-value, 0.0]),
        "TranslateY": lambda: augment._convert_translation_to_transform([0.0, -value]),
    }
    moved = augment.transform(
        augment.wrap(image), matrices[operation](), fill_mode="constant", fill_value=0.0
    )
    return augment.unwrap(moved, GREY)


def tpu_contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Blend with a grey that its histogram is summed to, which is the number of pixels."""
    degenerate = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
    histogram = tf.histogram_fixed_width(degenerate, [0, 255], nbins=256)
    mean = tf.reduce_sum(tf.cast(histogram, tf.float32)) / 256.0
    degenerate = tf.clip_by_value(tf.ones_like(degenerate, dtype=tf.float32) * mean, 0.0, 255.0)
    degenerate = tf.image.grayscale_to_rgb(tf.cast(degenerate, tf.uint8))
    return augment.blend(degenerate, image, factor)


def signed(case: Case) -> Callable[[float], float]:
    """Give the direction of a case instead of a random one."""
    return lambda value: value if case.is_positive else -value


def record() -> dict[str, np.ndarray]:
    """Distort all clips by all operations."""
    clips = draw_clips()
    recorded = {"operations": np.array(OPERATIONS)}
    # A clip is cut out in its own way, at random in time, which is not ours.
    of_garden = {name: (*PICTURES, "clip") if name != "Cutout" else PICTURES for name in OPERATIONS}
    of_tpu = dict.fromkeys((*SIGNED, "Contrast"), PICTURES)
    rules: tuple[tuple[Distort, dict[str, tuple[str, ...]]], ...] = (
        (model_garden, of_garden),
        (tpu, of_tpu),
    )
    for rule, pictures_of in rules:
        for operation, pictures in pictures_of.items():
            results = {
                case: rule(operation, case, tf.constant(clips[case.picture])).numpy()
                for case in cases_of(operation, pictures)
            }
            assert all(pixels.dtype == np.uint8 for pixels in results.values())
            for name, values in summary_of(operation, results).items():
                recorded[f"{rule.__name__} {operation} {name}"] = values
    return recorded


def main() -> None:
    path = Path(__file__).parent / "recorded" / "augmentation.npz"
    now = record()
    if sys.argv[1:] == ["--update"]:
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **now)
    with np.load(path) as before:
        assert set(before) == set(now), f"other cases than in {path}: record with --update"
        for name, values in now.items():
            np.testing.assert_array_equal(values, before[name], err_msg=name)
    sys.stdout.write(f"{len(now)} arrays of TensorFlow {tf.__version__} are those of {path}\n")


if __name__ == "__main__":
    main()
