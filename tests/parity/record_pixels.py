"""Record what TensorFlow makes of pictures in the evaluation of ResNet-RS: crops, resizes, scaling.

    python tests/parity/record_pixels.py [--update]

Compares with ``recorded/pixels.npz`` beside this file, or writes it, with --update. Needs
tensorflow and tf-models-official (2.20 when it was written); no torch and nothing of rsbench.

For each case of `pictures.CASES` it keeps every 13th pixel on both axes and the sum of all, of

- ``tpu``: the evaluation of tensorflow/tpu, ``models/official/resnet/resnet_preprocessing.py`` at
  8b3e577: a centre square of pixels / (pixels + 32) of the short side, then the legacy bicubic
  kernel of TensorFlow 1, which TensorFlow 2 still has. That file is in no package, so its rule is
  said again here, in TensorFlow's own operations;
- ``model_garden``: the evaluation of tf-models-official itself, normalisation included.
"""

from __future__ import annotations

import os

# Before TensorFlow is imported, which prints a page on starting.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from official.vision.dataloaders.classification_input import Parser
from pictures import CASES, STRIDE, draw_picture

CROP_PADDING = 32


def tpu(picture: np.ndarray, pixels: int) -> np.ndarray:
    """Crop and resize as the TPU code does: float32 in grey levels, (pixels, pixels, 3)."""
    height, width = tf.shape(picture)[0], tf.shape(picture)[1]
    short_side = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(pixels / (pixels + CROP_PADDING) * short_side, tf.int32)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    square = tf.image.crop_to_bounding_box(picture, top, left, side, side)
    return tf.compat.v1.image.resize_bicubic([square], [pixels, pixels])[0].numpy()


def model_garden(picture: np.ndarray, pixels: int) -> np.ndarray:
    """Prepare a decoded picture as the Model Garden evaluates it: normalised float32."""
    parser = Parser(output_size=[pixels, pixels], num_classes=1000, decode_jpeg_only=False)
    fields = {"image/encoded": tf.constant(picture), "image/class/label": tf.constant(0)}
    image, _ = parser._parse_eval_data(fields)
    return image.numpy()


def record() -> dict[str, np.ndarray]:
    """Prepare all cases in both ways."""
    recorded = {}
    for resizer in (tpu, model_garden):
        for case in CASES:
            prepared = resizer(draw_picture(case.height, case.width), case.pixels)
            assert prepared.dtype == np.float32 and prepared.shape == (case.pixels, case.pixels, 3)
            name = f"{resizer.__name__} {case.name}"
            recorded[name] = prepared[::STRIDE, ::STRIDE]
            recorded[f"{name} sum"] = prepared.sum(axis=(0, 1), dtype=np.float64)
    return recorded


def main() -> None:
    path = Path(__file__).parent / "recorded" / "pixels.npz"
    now = record()
    if sys.argv[1:] == ["--update"]:
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **now)
    with np.load(path) as before:
        assert set(before) == set(now), f"other cases than in {path}: record with --update"
        for name, values in now.items():
            np.testing.assert_allclose(values, before[name], rtol=1e-6, atol=1e-4, err_msg=name)
    sys.stdout.write(f"{len(now)} arrays of TensorFlow {tf.__version__} are those of {path}\n")


if __name__ == "__main__":
    main()
