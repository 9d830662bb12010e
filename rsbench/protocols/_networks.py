"""Networks that train with a new classifier, and what they are shown: for protocols that tune them.

Shape letters: B batch, C channels, D features, K classes.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from rsbench.digests import digest_bytes, digest_json
from rsbench.errors import RsbenchError, RunError, WeightsError
from rsbench.specs import Item, Model, Reading, Settings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from rsbench.data.loaders import Batch
    from rsbench.training.machine import Machine


def with_classifier(model: Model, *, num_classes: int, weight_std: float) -> nn.Sequential:
    """Copy a network and give it a new classifier: (B, C, ...) -> (B, K).

    Args:
        model: The network; it is not touched.
        num_classes: K.
        weight_std: Deviation of the classifier's weights, drawn from torch's global generator; its
            biases are 0.
    """
    from torch import nn

    backbone = copy.deepcopy(model.module)
    if getattr(backbone, "head", None) is not None:
        # The old classifier takes no part; keeping it would save it with the record.
        cast("Any", backbone).head = None
    head = nn.Linear(model.feature_width, num_classes)
    nn.init.normal_(head.weight, std=weight_std)
    nn.init.zeros_(head.bias)
    dropout = nn.Dropout(head_dropout(backbone))
    return nn.Sequential(OrderedDict(backbone=backbone, dropout=dropout, head=head))


def refuse_lone_examples(model: Model, *, examples_at_once: int) -> None:
    """Hold the parts of batches to what a network can train on.

    Args:
        model: The network, whose batch norms, if any, are to take the statistics of a part.
        examples_at_once: Examples in a part; 0 for whole batches.

    Raises:
        RsbenchError: Parts of one example, and a batch norm.
    """
    from rsbench.training.learner import batch_norms

    if examples_at_once == 1 and batch_norms(model.module):
        raise RsbenchError(
            "examples_at_once must be at least 2 for a network with batch norm, which can't train"
            " on a lone example; it was 1: give another with --set examples_at_once=NUMBER."
        )


def head_dropout(network: nn.Module) -> float:
    """Give the probability with which a network drops features before a classifier; 0 for none."""
    # A network that was lifted, or given a classifier, lies inside another module.
    owners = (part for part in network.modules() if hasattr(part, "head_dropout"))
    return next((float(cast("Any", owner).head_dropout) for owner in owners), 0.0)


def trained_model(
    model: Model, arrays: Mapping[str, np.ndarray], *, classes: Sequence[str], device: str
) -> Model:
    """Put what was learned into a copy of the network that it started from.

    Args:
        model: The network before training.
        arrays: `named_tensors` of a trained network of `with_classifier`.
        classes: Names of the classifier's outputs.
        device: Where it will run.

    Raises:
        WeightsError: The arrays are not those of this network with a classifier.
    """
    import torch

    from rsbench.training.tensors import load_tensors, named_tensors

    head = arrays.get("head.weight")
    network = with_classifier(
        model, num_classes=0 if head is None else head.shape[0], weight_std=0.0
    )
    wanted = {name: tuple(tensor.shape) for name, tensor in named_tensors(network).items()}
    given = {name: tuple(array.shape) for name, array in arrays.items()}
    if wanted != given:
        wrong = min(name for name in wanted.keys() | given if wanted.get(name) != given.get(name))
        must = f"have shape {wanted[wrong]}" if wrong in wanted else "not be there"
        was = f"has {given[wrong]}" if wrong in given else "is missing"
        raise WeightsError(
            f"The fine-tuned tensors must be those of this network: {wrong} must {must}, it {was};"
            " name the backbone that was fine-tuned."
        )
    load_tensors(network, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    network.to(device).eval()
    return replace(
        model,
        module=network.get_submodule("backbone"),
        head=network.get_submodule("head"),
        head_classes=tuple(classes),
        digest=trained_digest(model, arrays),
    )


def trained_digest(model: Model, arrays: Mapping[str, np.ndarray]) -> str:
    """Give the digest of `trained_model` without making it."""
    content = {name: digest_bytes(array.tobytes()) for name, array in arrays.items()}
    return digest_json([model.digest, content])


def network_inputs(views: torch.Tensor, reading: Reading, *, device: str) -> torch.Tensor:
    """Give views as the network takes them: float32 (B, C, ...), normalised, on the device.

    Args:
        views: (B, C, ...), as they were read; what a task reads itself is taken as it is.
        reading: How they were read.
        device: Where the network lies; the copy there may still be under way.
    """
    from rsbench.media.transforms import normalise

    # Loaders for a GPU give pinned memory, from which the copy runs beside the computation.
    on_device = views.to(device, non_blocking=True)
    return on_device.float() if reading.read is not None else normalise(on_device, reading.input)


def machine_of(settings: Settings) -> Machine:
    """Say where a network is trained, and how exactly."""
    from rsbench.training.machine import Machine

    return Machine(device=settings.device, precision=settings.precision, compile=settings.compile)


def alike(views: torch.Tensor | list[torch.Tensor], *, protocol: str) -> torch.Tensor:
    """Hold views to being of one shape, as batches need them.

    Raises:
        RunError: They differ, which views of a task's own reader may.
    """
    if isinstance(views, list):
        raise RunError(
            f"{protocol} needs items of one shape to make batches of; the task's reader gives"
            f" {', '.join(str(tuple(view.shape)) for view in views[:3])}."
        )
    return views


def note_remarks(remarks: dict[str, list[str]], items: Sequence[Item], batch: Batch) -> None:
    """Write down what is odd about the items of a batch, each remark once in all epochs."""
    for row, facts in zip(batch.rows, batch.facts, strict=True):
        if facts.remarks:
            said = remarks.setdefault(items[row].id, [])
            said += [remark for remark in facts.remarks if remark not in said]
