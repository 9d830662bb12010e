"""A finished run as one ONNX file: `rsbench export RECORD --onnx FILE`.

The graph takes views as rsbench's readers give them, with nothing left to the caller but decoding,
resizing and cropping: scaling, mean and deviation, the network, and what the run fitted on it are
inside.

- Input ``views``: (N, 3, H, W) pictures or (N, 3, T, H, W) clips, RGB in grey levels of 0 to 255,
  N free: uint8, or float32 for resizers that do not round (tpu, model_garden).
- Output ``probabilities``, float32 (N, K): of each view. A run's score of an item is the mean over
  its views.
- Output ``features``, float32 (N, D): what the network gives before the classifier.

What a caller must know stands in the file's metadata, as JSON: ``rsbench.input`` (layout, frames,
side, resizer, sampler, views), ``rsbench.outputs``, ``rsbench.classes`` and ``rsbench.record`` (key
and digest of the record, so that a model can be traced to its number).

A file is written after it was held to the network it was made of, on random views, and where the
data of the run is here to what the record says of its items. Records keep log-probabilities in half
precision (`rsbench.view_scores`), so "to 1e-5" means: some probability within 1e-5 of the exported
one is kept as the one that the record has.

Shape letters: N items or views, V views of an item, C channels, T frames, H height, W width, D
features, K classes.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsbench import __version__
from rsbench.atomic import write_atomically
from rsbench.errors import RecordError, RsbenchError, RunError
from rsbench.exported_scores import Compared, compare_with_record, recorded_items
from rsbench.predicting import Rebuilt, rebuild
from rsbench.protocols._networks import trained_model
from rsbench.protocols.evaluate import class_columns
from rsbench.registry import find_protocol
from rsbench.specs import Activation, Reading

TOLERANCE = 1e-5
"""How far a probability may be from the one it is held to."""

OPSET = 18
"""Of the standard operators; every runtime since 2023 knows it."""

_LINEAR = ("linear_probe", "linear_probe_clip", "fewshot")
"""Protocols that fit one linear map on standardised features."""

_MOST_BYTES = 2_000_000_000
"""A protocol buffer ends at 2 GiB, graph included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    num_bytes: int
    input: Mapping[str, Any]
    """What the metadata say of it as ``rsbench.input``."""
    classes: tuple[str, ...]
    difference: float
    """Largest one between a probability of the network and of the exported one, on random views."""
    compared: Compared | None
    """None where no item of the record was at hand."""
    why_not: str
    """Why there was none; empty where there was."""


def export_onnx(
    record_path: Path,
    target: Path,
    *,
    cache_root: Path,
    data: Path | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    fold: str | None = None,
    num_items: int = 16,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a finished run as an ONNX file, held to the network and to the record.

    Args:
        record_path: A record with its head beside it.
        target: The file to write, a new one.
        cache_root: As in `RunRequest`.
        data: Where the data of the run lies; None looks where a run would.
        backbone: Needed where the record's backbone came from a file: ``./net.py:build``.
        weights: Needed where the record's weights came from a file.
        fold: Whose head, where the run fitted one a fold.
        num_items: Items of the record that are read again and compared; 0 for none.
        tolerance: How far a probability may be off.

    Raises:
        RecordError: The record is not of a protocol that can be exported, or not as it was written.
        RsbenchError: The file exists, a name can't be resolved, or the extra is not installed.
        RunError: The network can't be written as ONNX, or what was written gives other numbers.
    """
    _require_extra()
    if target.suffix != ".onnx" or target.exists():
        raise RsbenchError(
            f"--onnx must name a new file that ends in .onnx; it was {target}"
            f"{', which exists' if target.exists() else ''}: name another."
        )
    rebuilt = rebuild(
        record_path, cache_root=cache_root, backbone=backbone, weights=weights, fold=fold
    )
    network = _exported_network(rebuilt)
    example = _random_views(rebuilt.reading, num_views=2)
    model = _to_onnx(network, example, name=rebuilt.stored.record.backbone.name)
    described = input_in_metadata(rebuilt.reading)
    content = _with_metadata(model, rebuilt, described, fold=fold)
    session = _Session(content)
    difference = _difference(network, session, rebuilt.reading, tolerance=tolerance)
    compared, why_not = None, "none was asked for"
    if num_items:
        found = recorded_items(rebuilt, data, cache_root=cache_root, fold=fold, num_items=num_items)
        why_not = found.why_not
        if found.items:
            compared = compare_with_record(
                session, network, rebuilt, found.items, tolerance=tolerance
            )
    write_atomically(target, content)
    return Exported(
        path=target,
        num_bytes=len(content),
        input=described,
        classes=rebuilt.head.classes,
        difference=difference,
        compared=compared,
        why_not=why_not,
    )


def input_in_metadata(reading: Reading) -> dict[str, Any]:
    """Say what the input ``views`` must hold, as the metadata do."""
    example = _random_views(reading, num_views=1)
    seen = asdict(reading.input)
    # They are inside the graph: whoever applies them again gets other numbers.
    inside = {name: list(seen.pop(name)) for name in ("mean", "std")}
    return {
        "name": "views",
        "layout": "NCHW" if reading.modality == "image" else "NCTHW",
        "shape": [None, *example.shape[1:]],
        "dtype": str(example.dtype).removeprefix("torch."),
        "channels": "RGB",
        "range": [0, 255],
        **seen,
        "frames": reading.clip.frames,
        "stride": reading.clip.stride,
        "sampler": reading.sampler if reading.modality == "video" else None,
        "clips": reading.views.clips,
        "crops": reading.views.crops,
        "cropper": reading.cropper,
        "inside_the_graph": {"scale": 1 / 255, **inside},
    }


# ---------------------------------------------------------------------------- the graph


class _Exported(nn.Module):
    """From views in grey levels to probabilities and features."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, module: nn.Module, classifier: nn.Module, reading: Reading, activation: Activation
    ) -> None:
        super().__init__()
        self.module = module
        self.classifier = classifier
        self.activation = activation
        along_channels = (1, -1, *([1] * (2 if reading.modality == "image" else 3)))
        for name, values in (("mean", reading.input.mean), ("std", reading.input.std)):
            self.register_buffer(name, torch.tensor(values).view(along_channels))

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        # As `rsbench.media.transforms.normalise`, in its order.
        inputs = (views.to(torch.float32) / 255 - self.mean) / self.std
        features: Tensor = self.module(inputs)
        scores: Tensor = self.classifier(features)
        of = torch.softmax(scores, 1) if self.activation == "softmax" else torch.sigmoid(scores)
        # What follows a softmax: the columns of the task's classes, where a head has others too.
        chosen: Tensor = getattr(self.classifier, "columns", None)  # type: ignore[assignment]
        return (of if chosen is None else of[:, chosen]), features


class _Standardised(nn.Module):
    """A linear map on standardised features.

    The probe computes in doubles, which few devices have in their graphs. What single floats would
    lose is the mean: of an untrained network's features it is a thousand times their deviation. So
    it is taken away in two parts, of which the first leaves no rounding behind.
    """

    weight: Tensor
    bias: Tensor
    std: Tensor
    mean: Tensor
    rest_of_mean: Tensor

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        mean_D = arrays["mean"].astype(np.float32)
        rest_D = arrays["mean"] - mean_D
        parts = {**arrays, "mean": mean_D, "rest_of_mean": rest_D}
        for name in ("weight", "bias", "std", "mean", "rest_of_mean"):
            self.register_buffer(name, torch.from_numpy(parts[name].astype(np.float32)))

    def forward(self, features: Tensor) -> Tensor:
        standardised = (features - self.mean - self.rest_of_mean) / self.std
        return nn.functional.linear(standardised, self.weight, self.bias)


class _OwnHead(nn.Module):
    """The weights' own classifier, of which the task may have a part of the classes."""

    def __init__(self, head: nn.Module, columns: np.ndarray | None) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("columns", None if columns is None else torch.from_numpy(columns))

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.head(features)
        return scores


def _exported_network(rebuilt: Rebuilt) -> _Exported:
    """Put network and classifier of a run together.

    Raises:
        RecordError: The protocol leaves something that is no network.
    """
    record, model, arrays = rebuilt.stored.record, rebuilt.assembled.model, rebuilt.head.arrays
    protocol = rebuilt.protocol
    own = record.protocol.source_sha256 is None and _is_built_in(protocol.name)
    classifier: nn.Module | None = None
    if own and protocol.name in _LINEAR:
        classifier = _Standardised(arrays)
    elif own and protocol.name == "evaluate" and model.head is not None:
        classifier = _OwnHead(model.head, _columns(rebuilt, model.head))
    elif own and protocol.learns_backbone(record.protocol.recipe):
        model = trained_model(model, arrays, classes=rebuilt.head.classes, device="cpu")
        assert model.head is not None, "what was tuned has a classifier"
        classifier = model.head
    if classifier is None:
        raise RecordError(
            f"{rebuilt.stored.name} must be of {', '.join(_LINEAR)}, evaluate or a protocol that"
            f" trains the network to be exported, and it is of {protocol.name}, which leaves no"
            " classifier that is one map of the features: run linear_probe and export that."
        )
    activation: Activation = "sigmoid" if record.task.target == "multilabel" else "softmax"
    return _Exported(model.module, classifier, rebuilt.reading, activation).eval()


def _is_built_in(protocol: str) -> bool:
    """Say whether a protocol is rsbench's own, whose arrays mean what is written here."""
    return find_protocol(protocol).origin.startswith("rsbench.protocols.")


def _columns(rebuilt: Rebuilt, head: nn.Module) -> np.ndarray | None:
    """Say which outputs of a head are the task's classes; None where all are, in order."""
    width = rebuilt.assembled.model.feature_width
    with torch.inference_mode():
        num_outputs = head(torch.zeros(1, width)).shape[1]
    columns = class_columns(
        rebuilt.assembled.model.head_classes, rebuilt.head.classes, num_outputs=num_outputs
    )
    return None if np.array_equal(columns, np.arange(num_outputs)) else columns


def _random_views(reading: Reading, *, num_views: int) -> Tensor:
    """Give noise in the type and shape of views as they are read; equal calls give equal noise."""
    side = reading.input.pixels
    frames = () if reading.modality == "image" else (reading.clip.frames,)
    generator = torch.Generator().manual_seed(num_views)
    shape = (num_views, len(reading.input.mean), *frames, side, side)
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    # See `rsbench.media.resizers`: these two do not round.
    return noise.float() if reading.input.resizer in {"tpu", "model_garden"} else noise


def _to_onnx(network: nn.Module, example: Tensor, *, name: str) -> Any:  # noqa: ANN401 - a ModelProto, whose module is imported late
    """Write a network as an ONNX graph whose first axis is free.

    Raises:
        RunError: It is too large for one file, or has what ONNX can't say.
    """
    num_bytes = sum(each.numel() * each.element_size() for each in network.state_dict().values())
    if num_bytes > _MOST_BYTES:
        raise RunError(
            f"A network must have less than {_MOST_BYTES / 1e9:.0f} GB of parameters to be one ONNX"
            f" file; {name} has {num_bytes / 1e9:.1f} GB."
        )
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["views"],
                output_names=["probabilities", "features"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=OPSET,
                verbose=False,
            )
    # The exporter runs the network's code under tracers, and anything may come out of that.
    except Exception as error:
        raise RunError(
            f"{name} can't be written as ONNX: torch.onnx stopped with"
            f" {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    assert program is not None, "the exporter by tracing gives a program"
    model = program.model_proto
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise RunError(
            f"{name} can't be written as ONNX with any number of views: its code fixes the number"
            " that it is given (len(batch), for instance, where batch.shape[0] would not)."
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of its own steps from the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _with_metadata(
    model: Any,  # noqa: ANN401 - as above
    rebuilt: Rebuilt,
    described: Mapping[str, Any],
    *,
    fold: str | None,
) -> bytes:
    """Check a graph, take out what tells of this machine, and say what the caller must know.

    Raises:
        RunError: The graph is not sound, or too large.
    """
    import onnx

    record = rebuilt.stored.record
    # The exporter notes where in which file each operation was called.
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        _forget(part)
    for part in (*model.graph.value_info, *model.graph.initializer, *model.functions):
        _forget(part)
    del model.metadata_props[:]
    model.producer_name, model.producer_version = "rsbench", __version__
    model.graph.name = record.backbone.name
    views = described["clips"] * described["crops"]
    texts = {
        "rsbench.record": {
            "name": rebuilt.stored.name,
            "key": record.key,
            "digest": record.digest,
            "task": record.task.name,
            "protocol": record.protocol.name,
            "backbone": record.backbone.name,
            "weights": record.weights.name,
            "weights_digest": record.weights.digest,
            "seed": record.seed,
            "fold": fold,
            "metrics": {each.name: each.value for each in record.metrics},
        },
        "rsbench.input": described,
        "rsbench.outputs": {
            "probabilities": f"float32 (N, {len(rebuilt.head.classes)}), of each view; the score of"
            f" an item is the mean over its {views} view{'' if views == 1 else 's'}",
            "features": "float32 (N, D), before the classifier",
        },
        "rsbench.classes": list(rebuilt.head.classes),
    }
    for name, value in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value, ensure_ascii=False)
    try:
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
    except (onnx.checker.ValidationError, ValueError) as error:
        raise RunError(
            f"{record.backbone.name} can't be written as ONNX: {' '.join(str(error).split())[:300]}"
        ) from error
    return content


def _forget(part: Any) -> None:  # noqa: ANN401 - any message of ONNX
    part.doc_string = ""
    if hasattr(part, "metadata_props"):
        del part.metadata_props[:]


# ---------------------------------------------------------------------------- holding it


class _Session:
    """An exported file at work in onnxruntime, on the CPU."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, views: Tensor) -> np.ndarray:
        """Give the probabilities of views: float32 (N, K)."""
        (probabilities_NK,) = self._session.run(["probabilities"], {"views": views.numpy()})
        found: np.ndarray = probabilities_NK
        return found


def _difference(
    network: nn.Module, session: _Session, reading: Reading, *, tolerance: float
) -> float:
    """Compare the exported network with the one it was made of, on another number of views.

    Raises:
        RunError: They differ.
    """
    # Neither the number that the graph was traced with, nor one that may stand for any other.
    views = _random_views(reading, num_views=3)
    with torch.inference_mode():
        wanted_NK = network(views)[0].numpy()
    difference = float(np.abs(session(views) - wanted_NK).max())
    # Not `difference > tolerance`, which NaN never is.
    if not difference <= tolerance:
        raise RunError(
            f"The exported network must give the probabilities of the one it was made of to"
            f" {tolerance:g}, and on random views it is off by {difference:.1e}; nothing was"
            " written. --tolerance allows more."
        )
    return difference


def _require_extra() -> None:
    """Refuse before anything is built where what writes and runs ONNX is not installed.

    Raises:
        RsbenchError: It is not.
    """
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise RsbenchError(
            f"export needs {', '.join(missing)}, which the extra brings: run"
            ' `pip install "rsbench[onnx]"`.'
        )
