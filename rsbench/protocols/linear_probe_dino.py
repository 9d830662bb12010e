"""`linear_probe_dino`: a grid of linear classifiers trained by SGD on frozen features, in one pass.

The recipe is that of DINOv2 (arXiv 2304.07193; dinov2/eval/linear.py of its code): for each type of
features, 13 base learning rates, times batch / 256; SGD with momentum 0.9 and no weight decay; a
cosine to 0 over 10 x 1,250 batches of 128 that are cut of an endless stream of shuffled passes;
random crops with 8 % of the area or more, mirrored where that keeps the label, through the frozen
network in eval mode. Weights start from a normal of deviation 0.01.

What is otherwise here, and why:

- DINOv2 reports the best of all heads on the set that it reports. Here the head is selected on the
  official validation set, else on a tenth of train held out by class with groups kept whole; then
  the chosen settings alone train once more on all of it (`refit`; without it, the selected head is
  the result at half the cost). A tie goes to the smaller rate, then to the narrower features.
- Its four types of features are class tokens of a transformer. Here there are two: "features", the
  pooled last stage, and "stages", the last two stages pooled and side by side.
- Pixels, interpolation and the crop of the test are those of the weights.
- The reference multiplies 128 by its number of GPUs, in the batch and in the rate; this is one GPU.

``--set augment=false`` trains on features of one view of each item, which the cache keeps: hours
become seconds, and it is another ruler.

Shape letters: N examples, V views, B batch, D features, K classes, M heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from rsbench.errors import RsbenchError
from rsbench.protocols._probing import check_classes, check_held
from rsbench.protocols._recipes import choice, flag, number, numbers, whole
from rsbench.protocols._streams import CachedStream, RandomStream
from rsbench.protocols._trained import (
    Cached,
    Scored,
    Steps,
    Tally,
    best_of,
    blocks,
    checkpoint_of,
    labelled_items,
    log_of,
    named_once,
    remarks_once,
    seeds_of,
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

    from rsbench.data.features import Output
    from rsbench.media.augment import Augmentation
    from rsbench.probes.linear_heads import LinearHeads
    from rsbench.training.loop import Trained, TrainingPlan

_WEIGHT_STD = 0.01
"""Of a head's first weights (`LinearClassifier` of dinov2/eval/linear.py)."""

_ROWS_AT_ONCE = 4096
"""Held-out examples scored together: bounds the memory that the logits of all heads take."""

_FEATURE_TYPES = ("features,stages", "features", "stages")

_AUGMENTATION = ("smallest_crop", "widest_aspect", "flip_probability")
"""Entries of the recipe that move nothing where training views are not random."""


def fit(request: FitRequest) -> Fitted:
    """Train all heads in one pass, select one on held-out data, and train it again on all of it.

    Raises:
        DataError: Nothing can be held out, nothing held out can be read, or fewer than two classes
            can be read to train on.
        RsbenchError: A value of the recipe is out of its range, or the network has no stage maps.
        RunError: A feature is not finite, no item can be read, all heads diverged, a worker died,
            or the cache or a checkpoint can't be written.
    """
    recipe = _Recipe.of(request.recipe, flip=request.flip)
    split = split_items(request, held_out=recipe.held_out)
    held = Cached.of(request, (split.held,), output=recipe.output)
    check_held(held, split.where)
    grid = recipe.heads(
        widest=held.shape[0], feature_width=request.model.feature_width, seed=request.seed
    )
    num_stages = 1 + recipe.refit
    stage = f"train 1 of {num_stages}"
    first = _fit_heads(request, recipe, split.kept, grid, name="grid", stage=stage)
    candidates = _score(first.heads, grid, held, device=request.settings.device)
    best = best_of(candidates)
    last, place = first, best
    if recipe.refit:
        chosen, stage = grid[best : best + 1], f"train {num_stages} of {num_stages}"
        sets = split.everything()
        last, place = _fit_heads(request, recipe, sets, chosen, name="best", stage=stage), 0
    weight, bias = last.heads.parameters_of(place)
    # What is reported names its own failures.
    not_reported = () if split.where == "test" else (held,)
    return Fitted(
        arrays={
            "weight": weight.detach().cpu().numpy(),
            "bias": bias.detach().cpu().numpy(),
        },
        selection=tuple(each.row(chosen=number == best) for number, each in enumerate(candidates)),
        chosen={
            **candidates[best].settings,
            "selected_on": split.where,
            "num_selected_on": len(held),
            "num_fitted_on": last.num_examples,
            "num_steps": last.num_steps,
            "flip_probability": recipe.augmentation.flip_probability if recipe.augments else 0.0,
        },
        failures=named_once(each.failures for each in (first, last, *not_reported)),
        remarks=remarks_once(each.remarks for each in (first, last, *not_reported)),
        seconds=first.seconds + (last.seconds if recipe.refit else 0.0),
    )


def predict(request: PredictRequest) -> Predictions:
    """Give the chosen head's softmax, averaged over all views: float32 (K,) an item.

    Raises:
        RunError: A feature is not finite, or the cache can't be written.
    """
    import numpy as np

    from rsbench.view_scores import log_softmax

    weight_KD = request.fitted.arrays["weight"].astype(np.float64)
    bias_K = request.fitted.arrays["bias"]

    def scores(features_NVD: np.ndarray) -> np.ndarray:
        seen = features_NVD[..., features_NVD.shape[-1] - weight_KD.shape[1] :]
        return log_softmax(seen @ weight_KD.T + bias_K)

    return predict_views(
        request.model,
        request,
        output=_output_of(str(request.recipe["feature_types"])),
        scores=scores,
        activation="softmax",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """The recipe with its types."""

    feature_types: tuple[str, ...]
    base_rates: tuple[float, ...]
    momentum: float
    weight_decay: float
    steps: Steps
    augments: bool
    augmentation: Augmentation
    held_out: float
    refit: bool

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar], *, flip: bool) -> _Recipe:
        from rsbench.media.augment import Augmentation

        augments = flag(recipe, "augment")
        if not augments:
            _refuse_idle(recipe)
        flip_probability = number(recipe, "flip_probability", most=1.0)
        epoch_iterations = whole(recipe, "epoch_iterations")
        return cls(
            feature_types=tuple(choice(recipe, "feature_types", among=_FEATURE_TYPES).split(",")),
            base_rates=numbers(recipe, "learning_rates"),
            momentum=number(recipe, "momentum", most=1.0),
            weight_decay=number(recipe, "weight_decay"),
            steps=Steps(
                num_steps=whole(recipe, "epochs") * epoch_iterations,
                batch_size=whole(recipe, "batch_size", least=2),
                steps_per_stretch=epoch_iterations,
            ),
            augments=augments,
            augmentation=Augmentation(
                smallest_crop=number(recipe, "smallest_crop", least=0.01, most=1.0),
                widest_aspect=number(recipe, "widest_aspect", least=1.0, most=10.0),
                flip_probability=flip_probability if flip else 0.0,
                clip_sampler=str(recipe["train_sampler"]),
            ),
            held_out=number(recipe, "held_out", most=1.0, without_ends=True),
            refit=flag(recipe, "refit"),
        )

    @property
    def output(self) -> Output:
        """What the network gives: all that any head sees."""
        return "stages" if "stages" in self.feature_types else "features"

    def heads(self, *, widest: int, feature_width: int, seed: int) -> list[_Head]:
        """Give the grid, heads that see the same columns together."""
        # The widest features are what the network gives; the others are their last columns.
        widths = {"features": feature_width, "stages": widest}
        grid = list(product(self.feature_types, self.base_rates))
        return [
            _Head(kind=kind, base_rate=base_rate, width=widths[kind], seed=head_seed)
            for (kind, base_rate), head_seed in zip(grid, seeds_of(seed, len(grid)), strict=True)
        ]

    def rate(self, base_rate: float) -> float:
        """Scale a base rate with the batch, as `scale_lr` of the code does."""
        return base_rate * self.steps.batch_size / 256

    @property
    def plan(self) -> TrainingPlan:
        from rsbench.training.loop import TrainingPlan

        return TrainingPlan(
            epochs=self.steps.num_stretches,
            optimizer="sgd",
            learning_rate=self.rate(max(self.base_rates)),
            momentum=self.momentum,
            nesterov=False,
            weight_decay=self.weight_decay,
            decay_norm_and_bias=True,
            warmup_share=0.0,
            warmup_factor=1.0,
            label_smoothing=0.0,
            largest_gradient=0.0,
        )


def _refuse_idle(recipe: Mapping[str, Scalar]) -> None:
    """Refuse changes that would move nothing without augmentation."""
    idle = [key for key in _AUGMENTATION if recipe[key] != PROTOCOL.recipe[key]]
    if idle:
        raise RsbenchError(
            f"{' and '.join(idle)} must be left out where augment=false, because training views"
            " are then not random; leave out --set augment=false to train on random ones."
        )


def _output_of(feature_types: str) -> Output:
    return "features" if feature_types == "features" else "stages"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """One classifier of the grid."""

    kind: str
    base_rate: float
    width: int
    """Columns that it sees, the last ones."""
    seed: int
    """Of its first weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _FittedHeads:
    """Heads after training, and what they were trained on."""

    heads: LinearHeads
    num_examples: int
    """Those that were trained on once or more, and could be read each time."""
    num_steps: int
    failures: tuple[Failure, ...]
    remarks: tuple[Remark, ...]
    seconds: float
    """Of the training, with the forward passes of random views."""


def _fit_heads(
    request: FitRequest,
    recipe: _Recipe,
    sets: Sequence[ItemSet],
    grid: Sequence[_Head],
    *,
    name: str,
    stage: str,
) -> _FittedHeads:
    """Train heads side by side on the same batches, or go on where an interrupted run stopped."""
    from rsbench.probes.linear_heads import LinearHeads
    from rsbench.training.loop import Machine, ParameterGroup, train

    assert request.train is not None, "it trains"
    settings = request.settings
    heads = LinearHeads(
        [each.width for each in grid],
        num_classes=len(request.train.classes),
        seeds=[each.seed for each in grid],
        weight_std=_WEIGHT_STD,
    ).to(settings.device)
    source: RandomStream | CachedStream = (
        RandomStream(
            request,
            sets,
            output=recipe.output,
            augmentation=recipe.augmentation,
            protocol=PROTOCOL.name,
        )
        if recipe.augments
        else CachedStream(request, sets, output=recipe.output)
    )
    check_classes(source.labels, source.failures)
    items, labels = labelled_items(sets)
    checkpoint = checkpoint_of(
        request,
        PROTOCOL,
        items=items,
        labels=labels,
        name=f"linear_probe_dino-{name}",
        about=[[each.kind, each.base_rate] for each in grid],
    )
    trained: Trained = train(
        heads,
        lambda epoch, first, failures: recipe.steps.stretch(
            epoch,
            first,
            num_examples=len(source),
            seed=request.seed,
            read=partial(source.read, failures),
        ),
        recipe.plan,
        steps_per_epoch=recipe.steps.steps_per_stretch,
        seed=request.seed,
        # The heads are small; precision is for the network below them.
        machine=Machine(device=settings.device, precision="float32"),
        checkpoint=checkpoint,
        groups=[
            ParameterGroup(
                heads.parameters_of(place), recipe.rate(each.base_rate), recipe.weight_decay
            )
            for place, each in enumerate(grid)
        ],
        remarks=source.remarks,
        progress=lambda done, total: settings.progress(stage, done, total),
        log=log_of(settings, checkpoint),
        measured=settings.measured,
    )
    failures = (
        *source.failures,
        *(Failure(id=key, reason=why) for key, why in trained.failures.items()),
    )
    # Of random views it is known by now only which of the items that were drawn can be read.
    drawn = recipe.steps.drawn(len(source), seed=request.seed)
    seen = [row for row in drawn if source.ids[row] not in trained.failures]
    check_classes(source.labels[seen], failures)
    return _FittedHeads(
        heads=heads,
        num_examples=len(seen),
        num_steps=trained.num_steps,
        failures=failures,
        remarks=tuple(
            Remark(id=key, reason=why) for key, reasons in source.remarks.items() for why in reasons
        ),
        seconds=trained.seconds,
    )


def _score(heads: LinearHeads, grid: Sequence[_Head], held: Cached, *, device: str) -> list[Scored]:
    import torch

    tally = Tally(len(grid))
    with torch.inference_mode():
        for rows in blocks(len(held), _ROWS_AT_ONCE):
            logits_NMK = heads(torch.from_numpy(held.features(rows)).to(device))
            tally.add(logits_NMK.cpu().numpy(), held.labels[rows.start : rows.stop])
    return [
        Scored(
            settings={"features": each.kind, "base_learning_rate": each.base_rate},
            preference=(each.base_rate, each.width),
            score=tally.top1(place),
        )
        for place, each in enumerate(grid)
    ]


def _train_views(recipe: Mapping[str, Scalar]) -> int:
    """Count the random views of the grid and of the last training; none where there are none."""
    asked = _Recipe.of(recipe, flip=True)
    num_views = asked.steps.num_steps * asked.steps.batch_size
    return num_views * (1 + asked.refit) if asked.augments else 0


def _num_trained(recipe: Mapping[str, Scalar]) -> int:
    """Count the heads of the grid."""
    asked = _Recipe.of(recipe, flip=True)
    return len(asked.feature_types) * len(asked.base_rates)


PROTOCOL = Protocol(
    name="linear_probe_dino",
    version=1,
    recipe={
        "feature_types": "features,stages",
        "learning_rates": "1e-5,2e-5,5e-5,1e-4,2e-4,5e-4,1e-3,2e-3,5e-3,1e-2,2e-2,5e-2,0.1",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "epochs": 10,
        "epoch_iterations": 1250,
        "batch_size": 128,
        "augment": True,
        "smallest_crop": 0.08,
        "widest_aspect": 4 / 3,
        "flip_probability": 0.5,
        "train_sampler": "dense_random@1",
        "held_out": 0.1,
        "refit": True,
    },
    targets=frozenset({"class"}),
    trains=True,
    selects_on="official validation, else held-out train",
    output="stages",
    train_views=_train_views,
    num_trained=_num_trained,
    check=lambda recipe: _Recipe.of(recipe, flip=True),
    fit=fit,
    predict=predict,
    title="A grid of linear classifiers trained by SGD on frozen features",
    citation="Oquab et al. 2023, DINOv2 (arXiv 2304.07193).",
)
