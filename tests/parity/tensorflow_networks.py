"""ResNet-RS in TensorFlow, as its authors' code builds it, in float64 on the CPU.

Three of the four are the official code itself. The TPU code was never packaged, so its network is
written down here with TensorFlow 1's own layers, in the order in which that code creates them
(https://github.com/tensorflow/tpu, models/official/resnet/resnet_model.py): names and numbers of
the variables are given by those layers, not by us.

Only the environment of `requirements.txt` can import this file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import base_trainer, exp_factory, task_factory, train_utils
from official.vision import registry_imports  # noqa: F401 - importing it registers experiments
from official.vision.modeling import factory, factory_3d
from tf_keras.api._v1.keras.__internal__.legacy import layers

# What a TensorFlow 2 checkpoint appends to the key of a variable.
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
LEVELS = ("2", "3", "4", "5")
BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)

# What k400_resnet3drs_50_tpu.yaml sets beside the registered experiment (tensorflow/models,
# official/vision/configs/experiments/video_classification; the file is not in the package).
K400_RESNET_3D_RS_50 = {
    "task": {
        "model": {
            "aggregate_endpoints": False,
            "backbone": {
                "type": "resnet_3d_rs",
                "resnet_3d_rs": {
                    "model_id": 50,
                    "stem_type": "v1",
                    "stem_conv_temporal_kernel_size": 5,
                    "stem_conv_temporal_stride": 2,
                    "stem_pool_temporal_stride": 1,
                    "stochastic_depth_drop_rate": 0.1,
                    "se_ratio": 0.25,
                },
            },
            "dropout_rate": 0.5,
            "model_type": "video_classification",
            "norm_activation": {
                "activation": "relu",
                "norm_epsilon": 1e-5,
                "norm_momentum": 0.0,
                "use_sync_bn": False,
            },
        }
    },
    "trainer": {
        "optimizer_config": {"ema": {"average_decay": 0.9999, "trainable_weights_only": False}}
    },
}

Outputs = dict[str, np.ndarray]
"""Stage maps "c2" to "c5" with channels last, and "logits"."""


class FoldedMaxPool3D(tf_keras.layers.Layer):
    """`MaxPool3D` over space alone, for float64: TensorFlow has that kernel in 2D only."""

    def __init__(self, pool_size: Any, strides: Any, padding: str = "valid") -> None:
        super().__init__()
        frames, *self.pool_size = pool_size
        frame_stride, *self.strides = strides
        self.padding = padding.upper()
        assert frames == frame_stride == 1

    def call(self, clips: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(clips)
        folded = tf.reshape(clips, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
        pooled = tf.nn.max_pool2d(folded, self.pool_size, self.strides, self.padding)
        return tf.reshape(pooled, tf.concat([shape[:2], tf.shape(pooled)[1:]], 0))


@dataclass(frozen=True)
class GardenNetwork:
    """A network of the Model Garden with the trainer that owns its checkpoints."""

    model: tf_keras.Model
    trainer: base_trainer.Trainer
    run: Callable[[np.ndarray], Outputs]

    @property
    def optimizer(self) -> Any:
        """The official moving average around the official SGD."""
        return self.trainer.optimizer

    def save_trained(self, folder: Path) -> str:
        """Save as the trainer does at its intervals."""
        return self.trainer.checkpoint.save(str(folder / "ckpt"))

    def save_best(self, folder: Path) -> str:
        """Save as the trainer does after its best evaluation: with the averages swapped in."""
        with tf.distribute.OneDeviceStrategy("cpu:0").scope():
            self.optimizer.swap_weights()
        exporter = train_utils.BestCheckpointExporter(str(folder), "accuracy", "higher")
        exporter.maybe_export_checkpoint(self.trainer.checkpoint, {"accuracy": 1.0}, 1)
        return exporter.best_ckpt_path

    def save_plain(self, folder: Path) -> str:
        """Save model and backbone alone, without the optimizer and its averages."""
        items = {"model": self.model, **self.model.checkpoint_items}
        return tf.train.Checkpoint(**items).write(str(folder / "model.ckpt"))

    def save_backbone(self, folder: Path) -> str:
        """Save the backbone alone: no head."""
        return tf.train.Checkpoint(backbone=self.model.backbone).write(str(folder / "model.ckpt"))

    def save_weights(self, folder: Path) -> str:
        """Save as `Model.save_weights` does, which names nothing "model" or "backbone"."""
        self.model.save_weights(str(folder / "weights"), save_format="tf")
        return str(folder / "weights")


def garden_2d() -> GardenNetwork:
    """Build ResNet-RS-50 of the registered experiment `resnet_rs_imagenet`."""
    config = exp_factory.get_exp_config("resnet_rs_imagenet")
    model = factory.build_classification_model(
        input_specs=tf_keras.layers.InputSpec(shape=[None, None, None, 3]),
        model_config=config.task.model,
    )
    return _with_trainer(config, model, lambda images: images)


def garden_3d() -> GardenNetwork:
    """Build 3D ResNet-RS-50 with its Kinetics-400 configuration."""
    config = exp_factory.get_exp_config("video_classification_kinetics400")
    config.override(K400_RESNET_3D_RS_50, is_strict=True)
    with mock.patch.object(tf_keras.layers, "MaxPool3D", FoldedMaxPool3D):
        model = factory_3d.build_model(
            config.task.model.model_type,
            input_specs=tf_keras.layers.InputSpec(shape=[None, None, None, None, 3]),
            model_config=config.task.model,
            num_classes=config.task.train_data.num_classes,
        )
    return _with_trainer(config, model, lambda clips: {"image": clips})


def _with_trainer(
    config: Any, model: tf_keras.Model, as_input: Callable[..., Any]
) -> GardenNetwork:
    task = task_factory.get_task(config.task)
    optimizer = task.create_optimizer(config.trainer.optimizer_config)
    trainer = base_trainer.Trainer(config, task, model, optimizer, train=False, evaluate=False)
    # One step, so that momentum has its slots, as in any checkpoint of a training.
    optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])

    def run(batch: np.ndarray) -> Outputs:
        maps = model.backbone(batch, training=False)
        outputs = {f"c{level}": maps[level].numpy() for level in LEVELS}
        return outputs | {"logits": model(as_input(batch), training=False).numpy()}

    return GardenNetwork(model, trainer, run)


def checkpoint_keys(network: GardenNetwork, folder: Path) -> dict[str, tf.Variable]:
    """Find the checkpoint key of each variable: number them, save them, look which is where."""
    variables = network.model.variables
    for number, variable in enumerate(variables):
        variable.assign(tf.fill(variable.shape, tf.cast(number, variable.dtype)))
    place = folder / "checkpoints" / "numbered"
    place.mkdir(parents=True)
    reader = tf.train.load_checkpoint(network.save_plain(place))
    keys = {
        key.removesuffix(VALUE): variables[int(reader.get_tensor(key).flat[0])]
        for key in reader.get_variable_to_shape_map()
        if key.endswith(VALUE)
    }
    assert len(keys) == len(variables)
    shutil.rmtree(place)
    return keys


def keras_2d(height: int, width: int) -> tf_keras.Model:
    """Build `tf_keras.applications.resnet_rs.ResNetRS50`, whose files are converted TPU weights."""
    tf_keras.backend.clear_session()
    return tf_keras.applications.resnet_rs.ResNetRS50(
        weights=None,
        input_shape=(height, width, 3),
        classifier_activation=None,
        include_preprocessing=False,
    )


def run_keras(model: tf_keras.Model, batch: np.ndarray) -> Outputs:
    """Give stage maps and logits of what `keras_2d` builds."""
    ends = [
        f"BlockGroup{level}__block_{count - 1}__output_act"
        for level, count in zip(LEVELS, BLOCKS, strict=True)
    ]
    tensors = [*(model.get_layer(end).output for end in ends), model.output]
    values = tf_keras.Model(model.input, tensors)(batch, training=False)
    names = [*(f"c{level}" for level in LEVELS), "logits"]
    return {name: value.numpy() for name, value in zip(names, values, strict=True)}


class TpuNetwork:
    """ResNet-RS-50 of the TPU code, as a TensorFlow 1 graph with its averages and momenta."""

    def __init__(self) -> None:
        v1 = tf.compat.v1
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.images = v1.placeholder(tf.float64, [None, None, None, 3])
            self.outputs = _tpu_graph(self.images)
            step = v1.train.get_or_create_global_step()
            averaged = [v for v in v1.global_variables() if v is not step]
            average = v1.train.ExponentialMovingAverage(0.9999, num_updates=step)
            self.average_step = average.apply(averaged)
            optimizer = v1.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True)
            loss = tf.reduce_sum(self.outputs["logits"])
            self.train_step = optimizer.minimize(loss, global_step=step)
            self.session = v1.Session(graph=self.graph)
            self.session.run(v1.global_variables_initializer())
            self.saver = v1.train.Saver()
            self.variables = {variable.op.name: variable for variable in v1.global_variables()}

    def assign(self, values: Mapping[str, np.ndarray]) -> None:
        """Set variables by name."""
        setters = [(self.variables[name].initializer, value) for name, value in values.items()]
        feeds = {setter.inputs[1]: value for setter, value in setters}
        self.session.run([setter for setter, _ in setters], feeds)

    def run(self, batch: np.ndarray) -> Outputs:
        """Give stage maps and logits."""
        return self.session.run(self.outputs, {self.images: batch})

    def save(self, folder: Path) -> str:
        """Save as the TPU code does; the `checkpoint` file is left out, as it is in most tars."""
        prefix = str(folder / "model.ckpt")
        with self.graph.as_default():
            return self.saver.save(self.session, prefix, write_meta_graph=False, write_state=False)


def _tpu_graph(images: tf.Tensor) -> dict[str, tf.Tensor]:
    def convolve(maps: tf.Tensor, width: int, kernel: int, stride: int = 1) -> tf.Tensor:
        padding = "same"
        if stride > 1:
            before, after = (kernel - 1) // 2, kernel // 2
            maps = tf.pad(maps, [[0, 0], [before, after], [before, after], [0, 0]])
            padding = "valid"
        return layers.conv2d(maps, width, kernel, stride, padding, use_bias=False)

    def normalise(maps: tf.Tensor) -> tf.Tensor:
        return layers.batch_normalization(maps, momentum=0.0, epsilon=1e-5)

    def squeeze(maps: tf.Tensor, width: int) -> tf.Tensor:
        reduce, expand = layers.Conv2D(width // 4, 1), layers.Conv2D(width, 1)
        inside = tf.nn.relu(reduce(tf.reduce_mean(maps, [1, 2], keepdims=True)))
        return maps * tf.sigmoid(expand(inside))

    def block(maps: tf.Tensor, width: int, stride: int, first: bool) -> tf.Tensor:
        shortcut = maps
        if first:
            if stride > 1:
                shortcut = tf.nn.avg_pool2d(maps, 2, 2, "SAME")
            shortcut = normalise(convolve(shortcut, 4 * width, 1))
        maps = tf.nn.relu(normalise(convolve(maps, width, 1)))
        maps = tf.nn.relu(normalise(convolve(maps, width, 3, stride)))
        maps = squeeze(normalise(convolve(maps, 4 * width, 1)), 4 * width)
        return tf.nn.relu(maps + shortcut)

    maps = images
    for width, stride in ((32, 2), (32, 1), (64, 1), (64, 2)):
        maps = tf.nn.relu(normalise(convolve(maps, width, 3, stride)))
    outputs = {}
    for level, width, count in zip(LEVELS, WIDTHS, BLOCKS, strict=True):
        for index in range(count):
            maps = block(maps, width, 2 if index == 0 and level != "2" else 1, index == 0)
        outputs[f"c{level}"] = maps
    outputs["logits"] = layers.dense(tf.reduce_mean(maps, [1, 2]), 1000)
    return outputs
