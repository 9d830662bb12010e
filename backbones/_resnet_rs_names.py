"""What TensorFlow and Keras call the tensors of ResNet-RS, and how they lay them out.

Our names are timm's (`_resnet_rs_modules.py`). Foreign ones come in three kinds:

- TPU code, TensorFlow 1 (tensorflow/tpu, models/official/resnet/resnet_model.py): layers numbered
  as they were built, ``conv2d``, ``conv2d_1``, ..., ``batch_normalization_N``, ``dense``: the
  stem's four; of each block its projection, three convolutions, then reduce and expand.
- Keras: spelled-out layers, ``c2_block_0_conv_1`` in the published files (they are, by their md5,
  those of github.com/sebastian-sz/resnet-rs-keras) and ``BlockGroup2__block_0__conv_1`` in what
  tf_keras.applications.resnet_rs writes.
- Model Garden, TensorFlow 2: places in a graph of objects,
  ``backbone/layer_with_weights-8/_conv1/kernel``: stem layers, then blocks, numbered as they come.

Layouts: a kernel (H, W, in, out) or (T, H, W, in, out) becomes (out, in, [T], H, W), a dense kernel
(in, out) becomes (out, in).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from rsbench.errors import WeightsError
from rsbench.specs import WeightsFormat

Tensors = Mapping[str, np.ndarray]

GARDEN_MARK = "model_garden"
"""Tensor of the Model Garden's 2D network that tells its files from the paper network's."""

OWN_FORMATS = ("safetensors", "torch")
"""Formats whose files carry our names already."""

HEAD = "fc"
STEM = ("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1", "maxpool.0", "maxpool.1")
"""Convolution, BatchNorm, convolution, ...; the last pair is not in the 3D network."""

_KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

_KERAS_STEM = re.compile(r"(?:stem_\d+_)?stem_(conv|batch_norm)_([1-4])")
_KERAS_BLOCK = re.compile(r"[A-Za-z]+([2-5])_+block_(\d+)_+(?:se_+(?=se_))?([a-z].*)")
_KERAS_PARTS = {
    "projection_conv": "downsample.1",
    "projection_batch_norm": "downsample.2",
    "conv_1": "conv1",
    "batch_norm_1": "bn1",
    "conv_2": "conv2",
    "batch_norm_2": "bn2",
    "conv_3": "conv3",
    "batch_norm_3": "bn3",
    "se_reduce": "se.fc1",
    "se_expand": "se.fc2",
}

_GARDEN_PARTS = {
    "_norm0": "downsample.2",
    "_norm1": "bn1",
    "_norm2": "bn2",
    "_norm3": "bn3",
    "_squeeze_excitation/_se_reduce": "se.fc1",
    "_squeeze_excitation/_se_expand": "se.fc2",
}
_GARDEN_CONVOLUTIONS = {
    2: {"_shortcut1": "downsample.1", "_conv1": "conv1", "_conv2": "conv2", "_conv3": "conv3"},
    3: {
        "_shortcut_conv": "downsample.1",
        "_temporal_conv": "conv1",
        "_spatial_conv": "conv2",
        "_expand_conv": "conv3",
        "_self_gating/_transformer_w": "gate.fc",
    },
}

_NAMES_SHOWN = 3


def rename_paper_2d(
    format: WeightsFormat, tensors: Tensors, *, blocks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Give a file of the paper's 2D network our names and layouts.

    Args:
        format: "tf1" (TPU code), "keras-h5", or a format whose files have our names already.
        tensors: By their names in the file.
        blocks: Blocks a stage of the network they are for.

    Returns:
        The tensors by our names; the head's are among them if the file has one.

    Raises:
        WeightsError: The file is of another network, or of another depth.
    """
    if format in OWN_FORMATS:
        return dict(tensors)
    if format == "tf2":
        raise WeightsError(
            "a TensorFlow 2 checkpoint of ResNet-RS must go with resnet_rs_garden_DEPTH, or with "
            "resnet_rs_3d_DEPTH if it is of videos: the Model Garden's network pads, pools and "
            "activates otherwise than the paper's; name that backbone"
        )
    layer_of = _tpu_layers(blocks).get if format == "tf1" else _keras_layer
    return _rename(tensors, layer_of, blocks, dimensions=2)


def rename_garden(
    format: WeightsFormat, tensors: Tensors, *, blocks: Sequence[int], dimensions: Literal[2, 3]
) -> dict[str, np.ndarray]:
    """Give a checkpoint of a Model Garden network our names and layouts.

    Args:
        format: "tf2", or a format whose files have our names already.
        tensors: By their names in the file.
        blocks: Blocks a stage of the network they are for.
        dimensions: 2 for images, 3 for videos.

    Returns:
        The tensors by our names; the head's are among them if the file has one. In 2D the mark of
        the Model Garden's network is added.

    Raises:
        WeightsError: The file is of another network, or of another depth.
    """
    if format in OWN_FORMATS:
        return dict(tensors)
    if format != "tf2":
        raise WeightsError(
            "weights of a Model Garden network must be a TensorFlow 2 checkpoint and are "
            f"{format}, which holds the paper's 2D network: name the backbone resnet_rs_DEPTH"
        )
    first = "_conv1" if dimensions == 2 else "_temporal_conv"
    start = f"layer_with_weights-{_num_stem_layers(dimensions)}/{first}/kernel"
    prefix = next((name.removesuffix(start) for name in tensors if name.endswith(start)), None)
    if prefix is None:
        raise WeightsError(
            f"a checkpoint of the Model Garden's {dimensions}D ResNet-RS must have a tensor "
            f"{start}, and has {_some(sorted(tensors)) or 'no tensors'}: name the backbone that "
            f"it was saved from{', or resnet_rs_garden_DEPTH for images' * (dimensions == 3)}"
        )

    def layer_of(foreign: str) -> str | None:
        return _garden_layer(foreign, prefix, blocks, dimensions)

    renamed = _rename(tensors, layer_of, blocks, dimensions)
    mark = {GARDEN_MARK: np.ones((), np.uint8)} if dimensions == 2 else {}
    return renamed | mark


def count_blocks(tensors: Tensors) -> tuple[int, ...]:
    """Count the blocks a stage of a ResNet-RS in any of TensorFlow's layouts.

    Each block has one spatial kernel that keeps the width: (..., 3, 3, width, width). Only the
    stem's have half the width of the first stage or, in 2D, lie beside its blocks.
    """
    shapes = [array.shape for array in tensors.values() if array.ndim in (4, 5)]
    spatial = [shape for shape in shapes if shape[-4:-2] == (3, 3)]
    widths = Counter(shape[-1] for shape in spatial if shape[-1] == shape[-2])
    stages = [number for _, number in sorted(widths.items())][1:]
    if stages and not any(len(shape) == 5 for shape in shapes):
        stages[0] -= 1
    return tuple(stages)


# --------------------------------------------------------------------------------- names of layers


def _tpu_layers(blocks: Sequence[int]) -> dict[str, str]:
    """Map TensorFlow 1's layers to ours, for a network built with these blocks."""
    convolutions, norms = [*STEM[0::2]], [*STEM[1::2]]
    for block, is_first in _blocks(blocks):
        if is_first:
            convolutions.append(f"{block}.downsample.1")
            norms.append(f"{block}.downsample.2")
        inside = ("conv1", "conv2", "conv3", "se.fc1", "se.fc2")
        convolutions += [f"{block}.{part}" for part in inside]
        norms += [f"{block}.{part}" for part in ("bn1", "bn2", "bn3")]
    return {
        **{_numbered("conv2d", number): ours for number, ours in enumerate(convolutions)},
        **{_numbered("batch_normalization", number): ours for number, ours in enumerate(norms)},
        "dense": HEAD,
    }


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _keras_layer(foreign: str) -> str | None:
    if foreign == "predictions":
        return HEAD
    if stem := _KERAS_STEM.fullmatch(foreign):
        return STEM[2 * (int(stem[2]) - 1) + (stem[1] == "batch_norm")]
    block = _KERAS_BLOCK.fullmatch(foreign)
    part = _KERAS_PARTS.get(block[3]) if block else None
    return f"layer{int(block[1]) - 1}.{block[2]}.{part}" if block and part else None


def _garden_layer(
    foreign: str, prefix: str, blocks: Sequence[int], dimensions: Literal[2, 3]
) -> str | None:
    if not foreign.startswith(f"{prefix}layer_with_weights-"):
        # What else a checkpoint of the whole model holds: its second layer with weights.
        return HEAD if foreign in ("model/layer_with_weights-1", "layer_with_weights-1") else None
    number, _, part = foreign.removeprefix(f"{prefix}layer_with_weights-").partition("/")
    num_stem_layers = _num_stem_layers(dimensions)
    names = [block for block, _ in _blocks(blocks)]
    index = int(number) - num_stem_layers
    if not part:
        return STEM[int(number)] if index < 0 else None
    ours = (_GARDEN_PARTS | _GARDEN_CONVOLUTIONS[dimensions]).get(part)
    return f"{names[index]}.{ours}" if ours and 0 <= index < len(names) else None


def _num_stem_layers(dimensions: Literal[2, 3]) -> int:
    return len(STEM) if dimensions == 2 else len(STEM) - 2


def _blocks(blocks: Sequence[int]) -> Iterator[tuple[str, bool]]:
    """Give our name of every block, in order, and whether it begins a stage."""
    for stage, number in enumerate(blocks, start=1):
        for index in range(number):
            yield f"layer{stage}.{index}", index == 0


# ----------------------------------------------------------------------------------------- tensors


def _rename(
    tensors: Tensors,
    layer_of: Callable[[str], str | None],
    blocks: Sequence[int],
    dimensions: Literal[2, 3],
) -> dict[str, np.ndarray]:
    expected = _expected(blocks, dimensions)
    renamed: dict[str, np.ndarray] = {}
    unknown: list[str] = []
    for name, array in tensors.items():
        foreign, _, kind = name.rpartition("/")
        layer = layer_of(foreign)
        ours = f"{layer}.{_KINDS[kind]}" if layer and kind in _KINDS else None
        if ours is None or ours not in expected or ours in renamed:
            unknown.append(name)
        else:
            renamed[ours] = _transpose(array, ours, dimensions)
    missing = [name for name in expected if name not in renamed]
    heads = [name for name in missing if name.startswith(f"{HEAD}.")]
    if len(heads) == 2:
        missing = [name for name in missing if name not in heads]
    if unknown or missing:
        raise WeightsError(_explain(unknown, missing, tensors, blocks))
    return {name: renamed[name] for name in expected if name in renamed}


def _expected(blocks: Sequence[int], dimensions: Literal[2, 3]) -> tuple[str, ...]:
    """Give our names of all tensors of a network, in its own order, head last."""
    names: list[str] = []
    for layer in STEM[: _num_stem_layers(dimensions)]:
        names += _convolution(layer) if layer.endswith((".0", ".3", ".6")) else _norm(layer)
    last = [f"layer{stage}.{number - 1}" for stage, number in enumerate(blocks, start=1)]
    for block, is_first in _blocks(blocks):
        for number in (1, 2, 3):
            names += [*_convolution(f"{block}.conv{number}"), *_norm(f"{block}.bn{number}")]
        gates = ["gate.fc"] if dimensions == 3 and block in last else []
        for part in [*gates, "se.fc1", "se.fc2"]:
            names += [f"{block}.{part}.weight", f"{block}.{part}.bias"]
        if is_first:
            names += [*_convolution(f"{block}.downsample.1"), *_norm(f"{block}.downsample.2")]
    return (*names, f"{HEAD}.weight", f"{HEAD}.bias")


def _convolution(layer: str) -> list[str]:
    return [f"{layer}.weight"]


def _norm(layer: str) -> list[str]:
    return [f"{layer}.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")]


def _transpose(array: np.ndarray, ours: str, dimensions: Literal[2, 3]) -> np.ndarray:
    """Put output channels first and input channels second; vectors stay as they are."""
    # The 3D code squeezes with a layer for images, whose kernels lack the temporal axis.
    if dimensions == 3 and array.ndim == 4 and ".se." in ours:
        array = array[np.newaxis]
    if array.ndim > 1:
        array = array.transpose(-1, -2, *range(array.ndim - 2))
    return np.ascontiguousarray(array)


def _explain(
    unknown: Sequence[str], missing: Sequence[str], tensors: Tensors, blocks: Sequence[int]
) -> str:
    found = count_blocks(tensors)
    parts = []
    if missing:
        parts.append(f"lacks {len(missing)} tensors that it needs ({_some(missing)})")
    if unknown:
        parts.append(f"holds {len(unknown)} that it has not ({_some(unknown)})")
    depths = (
        f"; the file has {_dashed(found)} blocks a stage and the network {_dashed(blocks)}"
        if found != tuple(blocks)
        else ""
    )
    return (
        f"the file must hold this network's tensors and {' and '.join(parts)}{depths}: name the "
        "backbone that it was saved from"
    )


def _dashed(numbers: Sequence[int]) -> str:
    return "-".join(map(str, numbers)) or "no"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown}, ..." if len(names) > _NAMES_SHOWN else shown
