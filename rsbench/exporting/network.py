"""Network and classifier of a finished run as one module: grey levels in, probabilities out.

Shape letters: N views, C channels, T frames, H height, W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from rsbench.errors import RecordError
from rsbench.predicting import Rebuilt
from rsbench.protocols._networks import trained_model
from rsbench.protocols.evaluate import class_columns
from rsbench.registry import find_protocol
from rsbench.specs import Activation, Reading

_LINEAR = ("linear_probe", "linear_probe_clip", "fewshot")
"""Protocols that fit one linear map on standardised features."""


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
        inputs = (views.to(self.mean.dtype) / 255 - self.mean) / self.std
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


def exported_network(rebuilt: Rebuilt) -> _Exported:
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


def random_views(reading: Reading, *, num_views: int) -> Tensor:
    """Give noise in the type and shape of views as they are read; equal calls give equal noise."""
    side = reading.input.pixels
    frames = () if reading.modality == "image" else (reading.clip.frames,)
    generator = torch.Generator().manual_seed(num_views)
    shape = (num_views, len(reading.input.mean), *frames, side, side)
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    # See `rsbench.media.resizers`: these two do not round.
    return noise.float() if reading.input.resizer in {"tpu", "model_garden"} else noise
