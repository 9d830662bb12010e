"""The engine of the protocols that train a whole network: recipe and sets in, a network out.

A copy of the network gets a new classifier and trains on random views, each of which follows from
(seed, pass over the data, item) alone. What it is scored on in between, where a recipe holds
something out, are the centre views of the test. The test itself is the mean over all views, of the
probabilities as they are kept, in half precision (`rsbench.view_scores`).

Where several processes train one network (`Settings.ranks`), each reads its share of every batch
and of what is held out.

Shape letters: N items, V views, B batch, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from rsbench.protocols._networks import (
    machine_of,
    refuse_lone_examples,
    trained_model,
    with_classifier,
)
from rsbench.protocols._regularisation import Regularisation, regularisation_of, regularise
from rsbench.protocols._trained import checkpoint_of, log_of, split_items
from rsbench.protocols._training_examples import Examples, Reader
from rsbench.protocols._training_recipe import (
    NEUTRAL,
    Length,
    TrainingRecipe,
    augmentation_of,
    length_of,
    plan_of,
    selects_on,
    train_passes,
    train_views,
)
from rsbench.protocols._training_score import HeldOut
from rsbench.protocols._views import activation_of, predict_views
from rsbench.specs import (
    Failure,
    FitRequest,
    Fitted,
    InputSpec,
    ItemSet,
    Model,
    Predictions,
    PredictRequest,
    Protocol,
    Remark,
    Scalar,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from rsbench.media.augment import Augmentation
    from rsbench.training.checkpoints import Checkpoint
    from rsbench.training.loop import Trained

_HEAD_STD = 0.01
"""Deviation of a new classifier's weights (mmaction2 I3DHead, `init_std`; tensorflow/tpu,
resnet_model.py); biases are 0."""


class _Views(TypedDict, total=False):
    """Rules of the test that a protocol has of its own; see `Protocol`."""

    sampler: str
    cropper: str


def training_protocol(
    *,
    name: str,
    version: int,
    title: str,
    citation: str,
    changes: Mapping[str, Scalar] | None = None,
    from_scratch: bool = False,
    **views: Unpack[_Views],
) -> Protocol:
    """Make a protocol that trains the whole network once, as its recipe says.

    Args:
        name: Of the protocol.
        version: Raised whenever the same recipe gives other numbers.
        title: A line on it.
        citation: Whose recipe it is.
        changes: What its recipe has otherwise than `NEUTRAL`.
        from_scratch: Whether it starts from random weights and from no others.
        views: `sampler` and `cropper` of the test, where they are not everybody's.
    """

    def fit(request: FitRequest) -> Fitted:
        return train_as_recipe_says(request, protocol)

    protocol = Protocol(
        name=name,
        version=version,
        recipe={**NEUTRAL, **(changes or {})},
        targets=frozenset({"class", "multilabel"}),
        trains=True,
        selects_on=selects_on,
        trains_backbone=True,
        from_scratch=from_scratch,
        train_passes=train_passes,
        train_views=train_views,
        output="logits",
        check=TrainingRecipe.of,
        check_model=check_model,
        fit=fit,
        predict=predict,
        title=title,
        citation=citation,
        **views,
    )
    return protocol


def check_model(recipe: Mapping[str, Scalar], model: Model, input: InputSpec) -> None:
    """Hold a recipe to the network that it is to train and to the side that it trains on.

    Raises:
        RsbenchError: It asks for what is published of the network and nothing is, for a stochastic
            depth that can't be set, for a scale jitter below the side, or for parts of one example
            of a network that normalises them.
    """
    from rsbench.media.augment import check_scales

    asked = TrainingRecipe.of(recipe)
    if not asked.freeze_norm:
        refuse_lone_examples(model, examples_at_once=asked.examples_at_once)
    regularisation_of(asked, model, input)
    augmentation = augmentation_of(asked, model, input, flip=True)
    check_scales(augmentation, augmentation.pixels or input.pixels)


def train_as_recipe_says(request: FitRequest, protocol: Protocol) -> Fitted:
    """Train a copy of the network, or go on where an interrupted run stopped.

    All but test items are trained on, less what the recipe holds out.

    Raises:
        RsbenchError: A value of the recipe is out of its range, or at odds with the network.
        DataError: Fewer than two items to train on, or nothing can be held out.
        RunError: Training diverged, a worker died, or a checkpoint can't be written.
    """
    recipe = TrainingRecipe.of(request.recipe)
    sets, held = _sets_of(request, recipe)
    examples = Examples.of(request, sets, protocol=protocol)
    outcome = train_network(
        request,
        protocol,
        recipe,
        examples,
        checkpoint=checkpoint_of(
            request,
            protocol,
            items=examples.items,
            labels=examples.labels,
            name=protocol.name,
        ),
        progress=lambda done, total: request.settings.progress("train", done, total),
        held=held,
    )
    remarks = dict(outcome.remarks)
    failures = dict(outcome.trained.failures)
    chosen = outcome.chosen()
    curve = outcome.trained.curve if held is None else held.named(outcome.trained.curve)
    selection: tuple[Mapping[str, Scalar], ...] = ()
    if held is not None:
        unread = held.all_failures()
        # What is reported names what is to be said of it itself.
        if held.where != "test":
            failures.update(unread)
            remarks.update(held.all_remarks())
        chosen["num_held_out"] = len(held) - len(unread)
    if held is not None and recipe.keep == "best":
        chosen["selected_on"] = held.where
        chosen["num_selected_on"] = chosen["num_held_out"]
        chosen["kept_epoch"] = outcome.trained.kept_epoch
        selection = tuple(
            {
                "epoch": row["epoch"],
                held.metric: row[held.metric],
                "chosen": row["epoch"] == outcome.trained.kept_epoch,
            }
            for row in curve
        )
    return Fitted(
        arrays=outcome.arrays(),
        selection=selection,
        chosen=chosen,
        curve=curve,
        failures=named_failures(failures),
        remarks=named_remarks(remarks),
        notes=outcome.notes,
        seconds=outcome.trained.seconds,
    )


def _sets_of(
    request: FitRequest, recipe: TrainingRecipe
) -> tuple[tuple[ItemSet, ...], HeldOut | None]:
    assert request.train is not None, "it trains"
    if recipe.held_out == 0:
        given = (request.train, request.validation)
        return tuple(each for each in given if each is not None), None
    split = split_items(request, held_out=recipe.held_out)
    return split.kept, HeldOut(request, split.held, where=split.where)


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
class Outcome:
    """A network that was trained, and how that went."""

    network: nn.Module
    """Backbone, dropout and classifier, in eval mode on the device."""
    trained: Trained
    recipe: TrainingRecipe
    length: Length
    regularisation: Regularisation
    augmentation: Augmentation
    norm_momentum: float | None
    num_shown: int
    """Items that training came round to, those among them that can't be read included."""
    remarks: Mapping[str, Sequence[str]]
    """What is odd about items that could be read, by name."""
    notes: tuple[str, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Give all tensors of the network by name."""
        from rsbench.training.tensors import named_tensors

        return {name: tensor.cpu().numpy() for name, tensor in named_tensors(self.network).items()}

    def chosen(self) -> dict[str, Scalar]:
        """Give what the recipe's rules came to."""
        from rsbench.media.augment import edges_of

        found: dict[str, Scalar] = {
            "num_fitted_on": self.num_shown - len(self.trained.failures),
            "head_dropout": self.regularisation.dropout,
            "stochastic_depth": self.regularisation.stochastic_depth,
            "num_steps": self.trained.num_steps,
            "learning_rate": self.recipe.learning_rate,
            "flip_probability": self.augmentation.flip_probability,
            "last_train_loss": self.trained.losses[-1],
        }
        if self.recipe.epochs_by_size and not self.recipe.epochs:
            found["epochs"] = self.length.num_epochs
        if self.augmentation.randaugment_layers:
            found["randaugment_magnitude"] = self.augmentation.randaugment_magnitude
            found["randaugment_edges"] = edges_of(self.augmentation)
        if self.norm_momentum is not None:
            found["norm_momentum"] = self.norm_momentum
        return found


def train_network(
    request: FitRequest,
    protocol: Protocol,
    recipe: TrainingRecipe,
    examples: Examples,
    *,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
    held: HeldOut | None = None,
    rehearse: bool = True,
) -> Outcome:
    """Train one copy of the request's network, or go on where an interrupted run stopped.

    Args:
        request: Network, reading, seed and machine.
        protocol: Whose training it is.
        recipe: How, with this training's own values.
        examples: What is trained on.
        checkpoint: Where its state is kept, one for each training of a run.
        progress: Called as (steps done, steps in all).
        held: What the network is scored on after each epoch; None for nothing.
        rehearse: Whether a batch goes all the way before the first step; of many trainings that go
            one way, one is enough.

    Raises:
        RsbenchError: The recipe is at odds with the network.
        DivergedError: The loss was not finite.
        RunError: A worker died, or a checkpoint can't be written.
    """
    from rsbench.data.loaders import Lookup, dead_workers_named
    from rsbench.training.loop import train

    settings = request.settings
    num_examples = len(examples.items)
    length = length_of(recipe, num_examples=num_examples)
    plan = plan_of(recipe, num_examples=num_examples, target=request.target)
    # What a task reads itself is shown as it is, and the record must not say otherwise.
    flip = request.flip and request.reading.read is None
    augmentation = augmentation_of(recipe, request.model, request.reading.input, flip=flip)
    network, regularisation = _fresh(request, recipe, num_classes=examples.num_classes)
    remarks: dict[str, list[str]] = {}
    every = range(num_examples)
    reader = Reader(
        request=request,
        protocol=protocol,
        recipe=recipe,
        examples=examples,
        augmentation=augmentation,
        length=length,
        lookup=Lookup(examples.items, request.reading, settings, rows=every, is_random=True),
        remarks=remarks,
    )

    with dead_workers_named():
        trained = train(
            network,
            reader.epoch,
            plan,
            steps_per_epoch=length.steps_per_epoch,
            num_steps=length.num_steps,
            seed=request.seed,
            machine=machine_of(settings),
            checkpoint=checkpoint,
            remarks=remarks,
            progress=progress,
            ranks=settings.ranks,
            held_out=None if held is None else held.score,
            keep=recipe.keep,
            num_classes=examples.num_classes,
            log=log_of(settings, checkpoint),
            measured=settings.measured,
            rehearse=rehearse,
        )
    return Outcome(
        network=network,
        trained=trained,
        recipe=recipe,
        length=length,
        regularisation=regularisation,
        augmentation=augmentation,
        norm_momentum=plan.norm_momentum,
        num_shown=min(num_examples, length.num_steps * recipe.batch_size),
        remarks=remarks,
        notes=tuple(_notes(request, recipe, num_examples=num_examples)),
    )


def named_failures(failures: Mapping[str, str]) -> tuple[Failure, ...]:
    """Give failures, reason by id, in the order of their ids."""
    return tuple(Failure(id=name, reason=reason) for name, reason in sorted(failures.items()))


def named_remarks(remarks: Mapping[str, Sequence[str]]) -> tuple[Remark, ...]:
    """Give remarks by id in the order of their ids."""
    return tuple(
        Remark(id=name, reason=reason)
        for name, reasons in sorted(remarks.items())
        for reason in reasons
    )


def _fresh(
    request: FitRequest, recipe: TrainingRecipe, *, num_classes: int
) -> tuple[nn.Module, Regularisation]:
    """Copy the network, with a new classifier, to the device."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(request.seed)
        network = with_classifier(request.model, num_classes=num_classes, weight_std=_HEAD_STD)
    regularisation = regularise(network, recipe, request.model, request.reading.input)
    return network.to(request.settings.device).requires_grad_(True), regularisation


def _notes(request: FitRequest, recipe: TrainingRecipe, *, num_examples: int) -> Iterator[str]:
    if recipe.full_batches and recipe.batch_size > num_examples:
        yield (
            f"batches of {recipe.batch_size} hold some of the {num_examples} examples more than"
            " once"
        )
    if recipe.norm_momentum == 1.0 and recipe.ema_decay == 0:
        yield (
            "batch norm is tested with the statistics of the last batch alone: norm_momentum is 1,"
            " and no average is kept (ema_decay is 0)"
        )
    if request.reading.read is not None:
        yield "the task reads its items itself: no view was cropped, mirrored or distorted"
