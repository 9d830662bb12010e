"""A network as an ONNX graph, sound and with what a caller must know in its metadata."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rsbench import __version__
from rsbench.errors import RunError
from rsbench.predicting import Rebuilt

OPSET = 18
"""Of the standard operators; every runtime since 2023 knows it."""

_MOST_BYTES = 2_000_000_000
"""A protocol buffer ends at 2 GiB, graph included."""


def to_onnx(network: nn.Module, example: Tensor, *, name: str) -> Any:  # noqa: ANN401 - a ModelProto, whose module is imported late
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


def with_metadata(
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
