"""`vtab1k`: 800 examples to train on, 200 to choose with, then all 1,000, and the full test set.

The flow and the lightweight sweep are those of VTAB (Zhai et al. 2019, arXiv 1910.04867; code:
google-research/task_adaptation): four settings, rates {0.1, 0.01} x {2,500; 10,000} steps; batches
of 512 cut of an endless stream of shuffled passes; SGD with momentum 0.9, no weight decay; the rate
falls to a tenth after 30 %, 60 % and 90 % of the steps (750, 1,500 and 2,250 of 2,500 in its
README); a new classifier that starts at zero; no augmentation at all. The best on the validation
200 is trained again on the 1,000, and tested once. A tie goes to the smaller rate, then to fewer
steps.

``--set train=all``, the default and VTAB's score, trains the whole network; ``--set train=head``
trains the classifier alone, on features that the cache keeps (the paper's linear evaluation).

What is otherwise here, and why:

- Any task of classes is accepted. One without an official validation set holds a fifth of train
  out, by class with groups kept whole.
- VTAB squashes every image to 224 x 224. Pixels, resize and crop belong to the weights here.
- Batch norm keeps its own momentum (PyTorch's 0.1, unless the network says otherwise); VTAB took
  what a hub module brought.
- Runs are repeated by seeds, of which a table shows all; the paper reports the median of three.

Training views of all examples are kept in memory, decoded once.

Shape letters: N items, V views, B batch, C channels, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal, cast

from rsbench.errors import RsbenchError
from rsbench.protocols._networks import (
    alike,
    machine_of,
    network_inputs,
    note_remarks,
    trained_model,
    with_classifier,
)
from rsbench.protocols._probing import check_classes, check_held
from rsbench.protocols._recipes import choice, number, numbers, whole, wholes
from rsbench.protocols._trained import (
    Cached,
    Scored,
    Steps,
    Stopwatch,
    Tally,
    best_of,
    blocks,
    checkpoint_of,
    labelled_items,
    log_of,
    named_once,
    remarks_once,
    split_items,
)
from rsbench.protocols._views import predict_views
from rsbench.specs import (
    Failure,
    FitRequest,
    Fitted,
    ItemSet,
    Predictions,
    PredictRequest,
    Protocol,
    Remark,
    Scalar,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from rsbench.training.loop import Machine, TrainingBatch, TrainingPlan
    from rsbench.training.order import Pass

_STEPS_PER_CHECKPOINT = 250
"""What a killed process may have to compute again; it moves no number but those of dropout."""

_MOST_VIEW_BYTES = 8 * 2**30
"""Views of a training set that are kept in memory, at most: 1,000 pictures of 224 pixels take
0.14 GiB."""


def fit(request: FitRequest) -> Fitted:
    """Train with each setting, choose one on held-out data, and train with it on all of it.

    Raises:
        DataError: Nothing can be held out, nothing held out can be read, or fewer than two classes
            can be read to train on.
        RsbenchError: A value of the recipe is out of its range, or the views of the training set
            take too much memory.
        RunError: All settings diverged, a worker died, or a checkpoint can't be written.
    """
    return fit_by_sweep(request, PROTOCOL)


def fit_by_sweep(request: FitRequest, protocol: Protocol) -> Fitted:
    """Fit as `fit` does, for a protocol of this flow.

    Args:
        request: Its recipe has no "train" where the protocol trains the whole network.
        protocol: Whose fit it is.

    Raises:
        RsbenchError: As `fit`.
    """
    recipe = SweepRecipe.of(request.recipe)
    split = split_items(request, held_out=recipe.held_out)
    held = _read(request, protocol, recipe, (split.held,))
    check_held(held, split.where)
    first = _read(request, protocol, recipe, split.kept)
    check_classes(first.labels, first.failures)
    clock = Stopwatch()
    sweep = [_Setting(*each) for each in product(recipe.learning_rates, recipe.steps)]
    candidates = []
    curves: dict[str, list[Mapping[str, Scalar]]] = {}
    with clock:
        for place, setting in enumerate(sweep):
            network = _train(
                request,
                protocol,
                recipe,
                split.kept,
                first,
                setting,
                name=f"sweep-{place}",
                stage=f"train {place + 1} of {len(sweep) + 1}",
                curve=curves.setdefault(
                    f"rate {setting.learning_rate:g}, steps {setting.steps}", []
                ),
            )
            candidates.append(_scored(request, recipe, setting, network, held))
    best = best_of(candidates)
    sets = split.everything()
    last = _read(request, protocol, recipe, sets)
    with clock:
        network = _train(
            request,
            protocol,
            recipe,
            sets,
            last,
            sweep[best],
            name="best",
            stage=f"train {len(sweep) + 1} of {len(sweep) + 1}",
            may_diverge=False,
            curve=curves.setdefault("best", []),
        )
    assert network is not None, "a training that diverges for good has raised"
    # What is reported names its own failures.
    not_reported = () if split.where == "test" else (held,)
    return Fitted(
        arrays=_arrays(network),
        selection=tuple(each.row(chosen=place == best) for place, each in enumerate(candidates)),
        chosen={
            **candidates[best].settings,
            "selected_on": split.where,
            "num_selected_on": len(held),
            "num_fitted_on": len(recipe.stretches(sweep[best]).drawn(len(last), seed=request.seed)),
        },
        curve=tuple({"training": name, **row} for name, rows in curves.items() for row in rows),
        failures=named_once(each.failures for each in (first, last, *not_reported)),
        remarks=remarks_once(each.remarks for each in (first, last, *not_reported)),
        seconds=clock.seconds,
    )


def predict(request: PredictRequest) -> Predictions:
    """Give the softmax of what was trained, averaged over all views: float32 (K,) an item.

    Raises:
        WeightsError: The arrays are those of another network.
        RunError: An output is not finite, or the cache can't be written.
    """
    import numpy as np

    from rsbench.view_scores import log_softmax

    arrays = request.fitted.arrays
    if arrays.keys() == {"weight", "bias"}:
        weight_KD = arrays["weight"].astype(np.float64)

        def scores(features_NVD: np.ndarray) -> np.ndarray:
            return log_softmax(features_NVD @ weight_KD.T + arrays["bias"])

        return predict_views(
            request.model, request, output="features", scores=scores, activation="softmax"
        )
    model = trained_model(
        request.model, arrays, classes=request.test.classes, device=request.settings.device
    )
    return predict_views(model, request, output="logits", scores=log_softmax, activation="softmax")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecipe:
    """The recipe with its types; "train" is "all" where it is not said."""

    train: Literal["all", "head"]
    learning_rates: tuple[float, ...]
    steps: tuple[int, ...]
    batch_size: int
    momentum: float
    weight_decay: float
    drops_at: tuple[float, ...]
    held_out: float
    examples_at_once: int

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> SweepRecipe:
        """Read a recipe.

        Raises:
            RsbenchError: A value is out of its range.
        """
        recipe = {"train": "all", "examples_at_once": 0, **recipe}
        train = choice(recipe, "train", among=("all", "head"))
        return cls(
            train=cast("Literal['all', 'head']", train),
            learning_rates=numbers(recipe, "learning_rates"),
            steps=wholes(recipe, "steps"),
            batch_size=whole(recipe, "batch_size", least=2),
            momentum=number(recipe, "momentum", most=1.0),
            weight_decay=number(recipe, "weight_decay"),
            drops_at=tuple(sorted(numbers(recipe, "drops_at", most=1.0))),
            held_out=number(recipe, "held_out", most=1.0, without_ends=True),
            examples_at_once=whole(recipe, "examples_at_once", least=0),
        )

    def plan(self, setting: _Setting) -> TrainingPlan:
        """Give the optimisation of one setting."""
        from rsbench.training.loop import TrainingPlan

        return TrainingPlan(
            epochs=self.stretches(setting).num_stretches,
            optimizer="sgd",
            learning_rate=setting.learning_rate,
            momentum=self.momentum,
            # tf.train.MomentumOptimizer, without use_nesterov.
            nesterov=False,
            weight_decay=self.weight_decay,
            decay_norm_and_bias=True,
            warmup_share=0.0,
            warmup_factor=1.0,
            label_smoothing=0.0,
            largest_gradient=0.0,
            drops_at=self.drops_at,
            examples_at_once=self.examples_at_once,
        )

    def stretches(self, setting: _Setting) -> Steps:
        """Say how long a setting trains, and where it is cut."""
        return Steps(
            num_steps=setting.steps,
            batch_size=self.batch_size,
            steps_per_stretch=min(_STEPS_PER_CHECKPOINT, setting.steps),
        )

    def machine(self, request: FitRequest) -> Machine:
        """Say where it trains; a classifier alone is small, and precision is for the network."""
        machine = machine_of(request.settings)
        return machine if self.train == "all" else replace(machine, precision="float32")


@dataclass(frozen=True, slots=True)
class _Setting:
    """One of the sweep."""

    learning_rate: float
    steps: int


class _Views:
    """One view of each item of several sets, in memory as it was decoded."""

    def __init__(self, request: FitRequest, protocol: Protocol, sets: Sequence[ItemSet]) -> None:
        import numpy as np
        import torch

        from rsbench.data.loaders import batches

        items, labels = labelled_items(sets)
        self._reading = request.reading
        found: list[torch.Tensor] = []
        rows: list[int] = []
        reasons: dict[str, str] = {}
        remarks: dict[str, list[str]] = {}
        for batch in batches(items, request.reading, request.settings):
            reasons.update({items[each.row].id: each.reason for each in batch.failures})
            note_remarks(remarks, items, batch)
            if batch.rows:
                # One view an item: the axis of views is dropped.
                views = alike(batch.views, protocol=protocol.name)[:, 0]
                _refuse_beyond_memory(views, protocol, num_items=len(items))
                found.append(views)
                rows.extend(batch.rows)
        self._views = torch.cat(found) if found else torch.empty(0)
        self.labels = np.array([labels[row] for row in rows], dtype=np.int64)
        self.ids = tuple(items[row].id for row in rows)
        self.failures = tuple(Failure(id=name, reason=why) for name, why in reasons.items())
        self.remarks = tuple(
            Remark(id=name, reason=why) for name, said in remarks.items() for why in said
        )

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int], *, device: str) -> TrainingBatch:
        """Give some examples as the training loop takes them."""
        import torch

        from rsbench.training.loop import TrainingBatch

        return TrainingBatch(
            network_inputs(self._views[list(rows)], self._reading, device=device),
            torch.from_numpy(self.labels[list(rows)]).to(device),
            tuple(self.ids[row] for row in rows),
        )


def _refuse_beyond_memory(views: torch.Tensor, protocol: Protocol, *, num_items: int) -> None:
    num_bytes = views[0].numel() * views.element_size() * num_items
    if num_bytes > _MOST_VIEW_BYTES:
        raise RsbenchError(
            f"{protocol.name} keeps its training views in memory, up to"
            f" {_MOST_VIEW_BYTES / 2**30:.0f} GiB;"
            f" {num_items} of them take {num_bytes / 2**30:.1f} GiB: use finetune, or train on"
            " fewer with --limit."
        )


def _read(
    request: FitRequest, protocol: Protocol, recipe: SweepRecipe, sets: Sequence[ItemSet]
) -> Cached | _Views:
    if recipe.train == "head":
        return Cached.of(request, sets, output="features")
    return _Views(request, protocol, sets)


def _train(
    request: FitRequest,
    protocol: Protocol,
    recipe: SweepRecipe,
    sets: Sequence[ItemSet],
    examples: Cached | _Views,
    setting: _Setting,
    *,
    name: str,
    stage: str,
    curve: list[Mapping[str, Scalar]],
    may_diverge: bool = True,
) -> nn.Module | None:
    """Train with one setting, or go on where an interrupted run stopped; None if it diverged.

    `curve` gets the rows of a training that did not.
    """
    from rsbench.training.distribution import share_of
    from rsbench.training.loop import DivergedError, train

    settings = request.settings
    network = _fresh(request, recipe)
    steps = recipe.stretches(setting)
    items, labels = labelled_items(sets)

    def read(each: Pass) -> Iterator[TrainingBatch]:
        for piece in each.pieces:
            yield examples.batch(share_of(piece.rows, settings.ranks), device=settings.device)

    checkpoint = checkpoint_of(
        request,
        protocol,
        items=items,
        labels=labels,
        name=f"{protocol.name}-{name}",
        about=[setting.learning_rate, setting.steps],
    )
    try:
        trained = train(
            network,
            lambda number, first, failures: steps.stretch(
                number, first, num_examples=len(examples), seed=request.seed, read=read
            ),
            recipe.plan(setting),
            steps_per_epoch=steps.steps_per_stretch,
            num_steps=steps.num_steps,
            seed=request.seed,
            machine=recipe.machine(request),
            checkpoint=checkpoint,
            progress=lambda done, total: settings.progress(stage, done, total),
            ranks=settings.ranks,
            log=log_of(settings, checkpoint),
            measured=settings.measured,
            # Of several trainings that go one way one rehearses, and features are soon read.
            rehearse=recipe.train == "all" and name == "sweep-0",
        )
    except DivergedError:
        if not may_diverge:
            raise
        return None
    curve += trained.curve
    return network


def _fresh(request: FitRequest, recipe: SweepRecipe) -> nn.Module:
    """Give what is trained: the network with a classifier of zeros, or that classifier alone."""
    from torch import nn

    assert request.train is not None, "it trains"
    num_classes = len(request.train.classes)
    if recipe.train == "all":
        network: nn.Module = with_classifier(request.model, num_classes=num_classes, weight_std=0.0)
        network.requires_grad_(True)
    else:
        network = nn.Linear(request.model.feature_width, num_classes)
        nn.init.zeros_(network.weight)
        nn.init.zeros_(network.bias)
    return network.to(request.settings.device)


def _scored(
    request: FitRequest,
    recipe: SweepRecipe,
    setting: _Setting,
    network: nn.Module | None,
    held: Cached | _Views,
) -> Scored:
    import torch

    from rsbench.training.loop import autocast

    top1 = None
    if network is not None:
        settings, tally = request.settings, Tally(1)
        for rows in blocks(len(held), settings.batch_size):
            batch = held.batch(rows, device=settings.device)
            with torch.inference_mode(), autocast(recipe.machine(request)):
                logits_NK = network(batch.inputs)
            tally.add(logits_NK[:, None].float().cpu().numpy(), batch.labels.cpu().numpy())
        top1 = tally.top1(0)
    return Scored(
        settings={"learning_rate": setting.learning_rate, "steps": setting.steps},
        preference=(setting.learning_rate, setting.steps),
        score=top1,
    )


def _arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Give what was trained: a classifier's weight and bias, or all tensors of a network."""
    from rsbench.training.tensors import named_tensors

    return {name: tensor.cpu().numpy() for name, tensor in named_tensors(network).items()}


def sweep_views(recipe: Mapping[str, Scalar]) -> int:
    """Count what the sweep and the longest last training show the network; nothing where frozen."""
    asked = SweepRecipe.of(recipe)
    if asked.train == "head":
        return 0
    num_steps = len(asked.learning_rates) * sum(asked.steps) + max(asked.steps)
    return 3 * num_steps * asked.batch_size


def _num_trained(recipe: Mapping[str, Scalar]) -> int:
    """Count the classifiers of the sweep, and the last one, where the network is frozen."""
    asked = SweepRecipe.of(recipe)
    if asked.train == "all":
        return 0
    return len(asked.learning_rates) * len(asked.steps) + 1


PROTOCOL = Protocol(
    name="vtab1k",
    version=1,
    recipe={
        "train": "all",
        "learning_rates": "0.1,0.01",
        "steps": "2500,10000",
        "batch_size": 512,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "drops_at": "0.3,0.6,0.9",
        "held_out": 0.2,
    },
    targets=frozenset({"class"}),
    trains=True,
    selects_on="official validation, else held-out train",
    trains_backbone=lambda recipe: recipe["train"] == "all",
    train_passes=lambda recipe: 0.0,
    train_views=sweep_views,
    keeps_train_views=True,
    num_trained=_num_trained,
    check=SweepRecipe.of,
    fit=fit,
    predict=predict,
    title="VTAB-1k: choose on 200 examples, train on 1,000, test on the full test set",
    citation="Zhai et al. 2019, VTAB (arXiv 1910.04867).",
)
