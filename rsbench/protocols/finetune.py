"""`finetune`: the whole network trains with a new classifier, for a fixed number of epochs.

Nothing is selected: the recipe says how long, and the network after the last epoch is tested.
Official validation data, where a task has it, is trained on too. Training looks at random clips,
dense ones unless the task or `train_sampler` says otherwise, and at random crops, mirrored where
that keeps the label; each view follows from (seed, epoch, item) alone. The test is the mean of the
softmax over all views; version 2 averages the probabilities as they are kept, in half precision
(`rsbench.view_scores`), version 1 averaged single floats, so that a probability may differ by
1.4e-4.

Where an item may have several labels, the loss is the mean binary cross-entropy of the classes, and
the sigmoid takes the place of the softmax. Label smoothing then draws ones and noughts towards a
half.

Dropout and stochastic depth are the network's own and no part of the recipe: a network that has
them (``resnet_rs_50+dropout=0.25+stochastic_depth=0.1``) trains with them, its dropout before the
new classifier.

Augmentation is crop-with-resize and flip only, SGD with Nesterov momentum and a cosine, as the
fine-tuning of Kornblith et al. 2019 (arXiv 1805.08974); the lengths are ours, made for small data.

Shape letters: N items, B batch, C channels, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from rsbench.errors import DataError
from rsbench.protocols._multilabel import truth_of
from rsbench.protocols._networks import (
    alike,
    head_dropout,
    network_inputs,
    note_remarks,
    trained_model,
    with_classifier,
)
from rsbench.protocols._recipes import choice, flag, number, whole
from rsbench.protocols._trained import checkpoint_of
from rsbench.protocols._views import activation_of, predict_views
from rsbench.specs import (
    Failure,
    FitRequest,
    Fitted,
    Item,
    Predictions,
    PredictRequest,
    Protocol,
    Remark,
    Scalar,
    TargetKind,
)

if TYPE_CHECKING:
    import numpy as np
    import torch

    from rsbench.data.loaders import Lookup
    from rsbench.media.augment import Augmentation
    from rsbench.training.loop import TrainingBatch, TrainingPlan

_HEAD_STD = 0.01
"""Deviation of a new classifier's weights (mmaction2 I3DHead, `init_std`); biases are 0."""


def fit(request: FitRequest) -> Fitted:
    """Train a copy of the network, or go on where an interrupted run stopped.

    Raises:
        RsbenchError: A value of the recipe is out of its range.
        DataError: Fewer than two items to train on.
        RunError: Training diverged, a worker died, or a checkpoint can't be written.
    """
    import torch

    from rsbench.data.loaders import Lookup, dead_workers_named
    from rsbench.training.loop import Machine, named_tensors, train

    recipe = _Recipe.of(request.recipe, flip=request.flip, target=request.target)
    examples = _Examples.of(request)
    settings = request.settings
    num_steps = -(-len(examples.items) // recipe.batch_size)
    remarks: dict[str, list[str]] = {}
    every = range(len(examples.items))
    lookup = Lookup(examples.items, request.reading, settings, rows=every, is_random=True)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(request.seed)
        network = with_classifier(
            request.model, num_classes=examples.num_classes, weight_std=_HEAD_STD
        )
    network = network.to(settings.device).requires_grad_(True)
    with dead_workers_named():
        trained = train(
            network,
            partial(_epoch, request, examples, recipe, lookup, remarks),
            recipe.plan,
            steps_per_epoch=num_steps,
            seed=request.seed,
            machine=Machine(device=settings.device, precision=settings.precision),
            checkpoint=checkpoint_of(
                request, PROTOCOL, items=examples.items, labels=examples.labels, name="finetune"
            ),
            remarks=remarks,
            progress=lambda done, total: settings.progress("train", done, total),
        )
    return Fitted(
        arrays={name: tensor.cpu().numpy() for name, tensor in named_tensors(network).items()},
        chosen={
            "num_fitted_on": len(examples.items) - len(trained.failures),
            "head_dropout": head_dropout(network),
            "num_steps": trained.num_steps,
            "flip_probability": recipe.augmentation.flip_probability,
            "last_train_loss": trained.losses[-1],
        },
        failures=tuple(
            Failure(id=name, reason=reason) for name, reason in sorted(trained.failures.items())
        ),
        remarks=tuple(
            Remark(id=name, reason=reason)
            for name, reasons in sorted(remarks.items())
            for reason in reasons
        ),
        seconds=trained.seconds,
    )


def predict(request: PredictRequest) -> Predictions:
    """Give the trained network's probabilities, averaged over all views: float32 (K,) an item.

    Raises:
        WeightsError: The arrays are not those of this network with a classifier.
        RunError: An output is not finite, or the cache can't be written.
    """
    from rsbench.view_scores import log_softmax

    model = trained_model(
        request.model,
        request.fitted.arrays,
        classes=request.test.classes,
        device=request.settings.device,
    )
    activation = activation_of(request.target)

    def scores(logits_NVK: np.ndarray) -> np.ndarray:
        return log_softmax(logits_NVK) if activation == "softmax" else logits_NVK

    return predict_views(model, request, output="logits", scores=scores, activation=activation)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """The recipe with its types."""

    batch_size: int
    plan: TrainingPlan
    augmentation: Augmentation

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar], *, flip: bool, target: TargetKind) -> _Recipe:
        from rsbench.media.augment import Augmentation
        from rsbench.training.loop import TrainingPlan

        flip_probability = number(recipe, "flip_probability", most=1.0)
        warmup_share = number(recipe, "warmup_share", most=1.0)
        optimizer = choice(recipe, "optimizer", among=("sgd", "adamw"))
        return cls(
            batch_size=whole(recipe, "batch_size", least=2),
            plan=TrainingPlan(
                epochs=whole(recipe, "epochs"),
                loss="binary cross-entropy" if target == "multilabel" else "cross-entropy",
                optimizer=cast("Literal['sgd', 'adamw']", optimizer),
                learning_rate=number(recipe, "learning_rate"),
                momentum=number(recipe, "momentum", most=1.0),
                weight_decay=number(recipe, "weight_decay"),
                decay_norm_and_bias=flag(recipe, "decay_norm_and_bias"),
                warmup_share=warmup_share,
                warmup_factor=number(recipe, "warmup_factor", least=1e-6, most=1.0),
                label_smoothing=number(recipe, "label_smoothing", most=1.0),
                largest_gradient=number(recipe, "largest_gradient"),
            ),
            augmentation=Augmentation(
                smallest_crop=number(recipe, "smallest_crop", least=0.01, most=1.0),
                widest_aspect=number(recipe, "widest_aspect", least=1.0, most=10.0),
                flip_probability=flip_probability if flip else 0.0,
                clip_sampler=str(recipe["train_sampler"]),
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Examples:
    """What is trained on: train, and the official validation data where there is some."""

    items: tuple[Item, ...]
    labels: tuple[Any, ...]
    """Class index of each, or tuple of them."""
    num_classes: int

    @classmethod
    def of(cls, request: FitRequest) -> _Examples:
        assert request.train is not None, "finetune trains"
        sets = [each for each in (request.train, request.validation) if each is not None]
        items = tuple(item for each in sets for item in each.items)
        if len(items) < 2:
            raise DataError(
                f"finetune needs at least two items to train on; there are {len(items)}: add data."
            )
        return cls(
            items=items,
            labels=tuple(
                tuple(sorted(target)) if request.target == "multilabel" else int(target)
                for each in sets
                for target in each.targets or ()
            ),
            num_classes=len(request.train.classes),
        )


def _epoch(
    request: FitRequest,
    examples: _Examples,
    recipe: _Recipe,
    lookup: Lookup,
    remarks: dict[str, list[str]],
    epoch: int,
    failures: dict[str, str],
) -> Iterator[TrainingBatch]:
    """Read the batches of an epoch in an order that follows from seed and epoch."""
    import numpy as np

    from rsbench.data.loaders import training_batches
    from rsbench.training.loop import TrainingBatch

    order = np.random.default_rng([request.seed, epoch]).permutation(len(examples.items)).tolist()
    starts = range(0, len(order), recipe.batch_size)
    device = request.settings.device
    for batch in training_batches(
        examples.items,
        request.reading,
        request.settings,
        plan=[order[start : start + recipe.batch_size] for start in starts],
        augmentation=recipe.augmentation,
        seed=request.seed,
        epoch=epoch,
        lookup=lookup,
    ):
        failures.update({examples.items[each.row].id: each.reason for each in batch.failures})
        note_remarks(remarks, examples.items, batch)
        if not batch.rows:
            continue
        yield TrainingBatch(
            inputs=network_inputs(
                alike(batch.views, protocol=PROTOCOL.name), request.reading, device=device
            ),
            labels=_labels(examples, batch.rows, target=request.target).to(device),
            names=tuple(examples.items[row].id for row in batch.rows),
        )


def _labels(examples: _Examples, rows: Sequence[int], *, target: TargetKind) -> torch.Tensor:
    """Give what the loss compares with: int64 (B,), or float32 (B, K) of noughts and ones."""
    import torch

    labels = [examples.labels[row] for row in rows]
    if target == "multilabel":
        return torch.from_numpy(truth_of(labels, num_classes=examples.num_classes)).float()
    return torch.tensor(labels)


def _train_passes(recipe: Mapping[str, Scalar]) -> float:
    return 3.0 * whole(recipe, "epochs")


PROTOCOL = Protocol(
    name="finetune",
    version=2,
    recipe={
        "epochs": 30,
        "batch_size": 16,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "decay_norm_and_bias": False,
        "warmup_share": 0.1,
        "warmup_factor": 0.1,
        "label_smoothing": 0.0,
        "largest_gradient": 0.0,
        "smallest_crop": 0.35,
        "widest_aspect": 4 / 3,
        "flip_probability": 0.5,
        "train_sampler": "dense_random@1",
    },
    targets=frozenset({"class", "multilabel"}),
    trains=True,
    selects_on="nothing",
    trains_backbone=True,
    train_passes=_train_passes,
    output="logits",
    check=lambda recipe: _Recipe.of(recipe, flip=True, target="class"),
    fit=fit,
    predict=predict,
    title="The whole network trains, with a new classifier",
    citation="Augmentation and schedule as Kornblith, Shlens, Le 2019 (arXiv 1805.08974).",
)
