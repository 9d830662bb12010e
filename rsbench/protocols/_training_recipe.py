"""The one vocabulary of recipes that train a whole network, and what its values mean.

Each protocol that trains is `NEUTRAL` with other values, so a word means the same in all of them,
and one recipe becomes another by ``--set``, switch by switch. Values that are a word or a number
("network", "published", 0.25) are kept as text.

Nothing here knows a data set or a network: what a word comes to for these is resolved by
`length_of`, `plan_of` and `augmentation_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from rsbench.errors import RsbenchError
from rsbench.protocols._recipes import (
    choice,
    flag,
    number,
    number_or_word,
    numbers,
    whole,
)
from rsbench.specs import InputSpec, Model, Scalar, TargetKind

if TYPE_CHECKING:
    from rsbench.media.augment import Augmentation
    from rsbench.training.optimisation import TrainingPlan

NETWORK = "network"
"""The word for what the network has of itself."""
PUBLISHED = "published"
"""The word for what the network's paper says of training it at this size."""
BY_EPOCH_LENGTH = "kornblith"
"""The word for the share of the newest batch that Kornblith et al. give batch norm's statistics:
TensorFlow's momentum is max(1 - 10 / s, 0.9), s being the batches of an epoch."""

NEUTRAL: Mapping[str, Scalar] = MappingProxyType(
    {
        # How long, and in which batches.
        "epochs": 30,
        "steps": 0,
        "batch_size": 16,
        "full_batches": False,
        "examples_at_once": 0,
        # The optimizer and its rate.
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "learning_rate_batch": 0,
        "momentum": 0.9,
        "momentum_of": "gradients",
        "nesterov": True,
        "weight_decay": 1e-4,
        "decay_norm_and_bias": False,
        "schedule": "cosine",
        "drops_at": "",
        "warmup_share": 0.1,
        "warmup_factor": 0.1,
        "largest_gradient": 0.0,
        # What keeps the network from learning by heart.
        "label_smoothing": 0.0,
        "dropout": NETWORK,
        "stochastic_depth": NETWORK,
        "stochastic_depth_per": "stage",
        "mixup": 0.0,
        "cutmix": 0.0,
        # What it is shown.
        "smallest_crop": 0.35,
        "widest_aspect": 4 / 3,
        "flip_probability": 0.5,
        "scale_jitter": "",
        "train_pixels": 0,
        "train_sampler": "dense_random@1",
        "randaugment_layers": 0,
        "randaugment_magnitude": PUBLISHED,
        "randaugment_rule": "model_garden",
        "colour_jitter": 0.0,
        "random_erasing": 0.0,
        # Batch norm, and which weights are tested.
        "freeze_norm": False,
        "sync_norm": False,
        "norm_momentum": NETWORK,
        "ema_decay": 0.0,
        "keep": "last",
        "held_out": 0.0,
    }
)
"""Every key. A protocol may add `epochs_by_size`."""

_STEPS_PER_STRETCH = 250
"""Least number of steps between two checkpoints where steps are counted: passes over small data are
too short to keep a checkpoint of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecipe:
    """A recipe with its types; each value within its range, and none at odds with another."""

    epochs: int
    """0 where `epochs_by_size` says it."""
    epochs_by_size: tuple[tuple[int, int], ...]
    """(least number of training items, epochs), rising in the first; empty for no such rule."""
    steps: int
    """Steps in all, in place of epochs; 0 counts epochs."""
    batch_size: int
    """Examples a step, of all processes together."""
    full_batches: bool
    """Whether batches are cut of one endless stream of shuffled passes, so that all are full; else
    each epoch ends with what is left."""
    optimizer: Literal["sgd", "lars", "adamw"]
    learning_rate: float
    """At the top, for this batch size."""
    momentum: float
    momentum_of: Literal["gradients", "steps"]
    nesterov: bool
    weight_decay: float
    decay_norm_and_bias: bool
    schedule: Literal["cosine", "whole cosine", "constant"]
    drops_at: tuple[float, ...]
    """Empty unless the schedule is "drops"."""
    warmup_share: float
    warmup_factor: float
    largest_gradient: float
    label_smoothing: float
    examples_at_once: int
    ema_decay: float
    mixup: float
    cutmix: float
    freeze_norm: bool
    sync_norm: bool
    norm_momentum: float | str
    """Share of the newest batch, `NETWORK` or `BY_EPOCH_LENGTH`."""
    dropout: float | str
    """Probability that the classifier does not see a feature, `NETWORK` or `PUBLISHED`."""
    stochastic_depth: float | str
    """Probability that a block of the last stage is skipped, `NETWORK` or `PUBLISHED`."""
    stochastic_depth_per: Literal["stage", "block"]
    smallest_crop: float
    widest_aspect: float
    flip_probability: float
    scale_jitter: tuple[int, int] | None
    train_pixels: int
    train_sampler: str
    randaugment_layers: int
    randaugment_magnitude: float | str
    """Of 10, or `PUBLISHED`."""
    randaugment_rule: Literal["model_garden", "tpu"]
    """Whose operations; see `rsbench.media.randaugment`."""
    colour_jitter: float
    random_erasing: float
    keep: Literal["last", "best"]
    held_out: float
    """Share of train on which the network is scored after each epoch; 0 for none."""

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> TrainingRecipe:
        """Read a recipe that has every key of `NEUTRAL`.

        Raises:
            RsbenchError: A value is out of its range, or contradicts another.
        """
        by_size = _epochs_by_size(recipe)
        steps = whole(recipe, "steps", least=0, most=100_000_000)
        batch_size = whole(recipe, "batch_size", least=2)
        rate = number(recipe, "learning_rate")
        rate_batch = whole(recipe, "learning_rate_batch", least=0)
        schedule = choice(recipe, "schedule", among=("cosine", "whole cosine", "constant", "drops"))
        drops = schedule == "drops"
        found = cls(
            epochs=whole(recipe, "epochs", least=0 if by_size or steps else 1),
            epochs_by_size=by_size,
            steps=steps,
            batch_size=batch_size,
            full_batches=flag(recipe, "full_batches"),
            optimizer=cast(
                "Literal['sgd', 'lars', 'adamw']",
                choice(recipe, "optimizer", among=("sgd", "lars", "adamw")),
            ),
            learning_rate=rate * batch_size / rate_batch if rate_batch else rate,
            momentum=number(recipe, "momentum", most=1.0),
            momentum_of=cast(
                "Literal['gradients', 'steps']",
                choice(recipe, "momentum_of", among=("gradients", "steps")),
            ),
            nesterov=flag(recipe, "nesterov"),
            weight_decay=number(recipe, "weight_decay"),
            decay_norm_and_bias=flag(recipe, "decay_norm_and_bias"),
            # Drops take the place of the cosine in the plan, whichever it is.
            schedule=cast(
                "Literal['cosine', 'whole cosine', 'constant']", "constant" if drops else schedule
            ),
            drops_at=tuple(sorted(numbers(recipe, "drops_at", most=1.0))) if drops else (),
            warmup_share=number(recipe, "warmup_share", most=1.0),
            warmup_factor=number(
                recipe,
                "warmup_factor",
                least=0.0 if schedule == "whole cosine" else 1e-6,
                most=1.0,
            ),
            largest_gradient=number(recipe, "largest_gradient"),
            label_smoothing=number(recipe, "label_smoothing", most=1.0),
            examples_at_once=whole(recipe, "examples_at_once", least=0),
            ema_decay=number(recipe, "ema_decay", most=1.0 - 1e-9),
            mixup=number(recipe, "mixup"),
            cutmix=number(recipe, "cutmix"),
            freeze_norm=flag(recipe, "freeze_norm"),
            sync_norm=flag(recipe, "sync_norm"),
            norm_momentum=number_or_word(
                recipe, "norm_momentum", words=(NETWORK, BY_EPOCH_LENGTH), most=1.0
            ),
            dropout=number_or_word(recipe, "dropout", words=(NETWORK, PUBLISHED), most=0.99),
            stochastic_depth=number_or_word(
                recipe, "stochastic_depth", words=(NETWORK, PUBLISHED), most=0.99
            ),
            stochastic_depth_per=cast(
                "Literal['stage', 'block']",
                choice(recipe, "stochastic_depth_per", among=("stage", "block")),
            ),
            smallest_crop=number(recipe, "smallest_crop", least=0.01, most=1.0),
            widest_aspect=number(recipe, "widest_aspect", least=1.0, most=10.0),
            flip_probability=number(recipe, "flip_probability", most=1.0),
            scale_jitter=_scale_jitter(recipe),
            train_pixels=whole(recipe, "train_pixels", least=0, most=10_000),
            train_sampler=str(recipe["train_sampler"]),
            randaugment_layers=whole(recipe, "randaugment_layers", least=0, most=20),
            randaugment_magnitude=number_or_word(
                recipe, "randaugment_magnitude", words=(PUBLISHED,), most=30.0
            ),
            randaugment_rule=cast(
                "Literal['model_garden', 'tpu']",
                choice(recipe, "randaugment_rule", among=("model_garden", "tpu")),
            ),
            colour_jitter=number(recipe, "colour_jitter", most=1.0),
            random_erasing=number(recipe, "random_erasing", most=1.0),
            keep=cast("Literal['last', 'best']", choice(recipe, "keep", among=("last", "best"))),
            held_out=number(recipe, "held_out", most=0.9),
        )
        _refuse_contradictions(found)
        return found


def _refuse_contradictions(recipe: TrainingRecipe) -> None:
    """Hold values to each other: none may make another idle.

    Raises:
        RsbenchError: Two of them contradict each other.
    """
    if recipe.keep == "best" and recipe.held_out == 0:
        raise RsbenchError(
            "keep=best must have something to be the best on: held_out was 0; hold a part of train"
            " out with --set held_out=0.02, or keep the last epoch with --set keep=last."
        )
    if recipe.freeze_norm and (recipe.sync_norm or recipe.norm_momentum != NETWORK):
        word = "sync_norm=false" if recipe.sync_norm else f"norm_momentum={NETWORK}"
        raise RsbenchError(
            "freeze_norm=true leaves the statistics of batch norm as they are, and"
            f" {word.partition('=')[0]} says how they change: leave freeze_norm out, or add --set"
            f" {word}."
        )
    if recipe.stochastic_depth == NETWORK and recipe.stochastic_depth_per != "stage":
        raise RsbenchError(
            "stochastic_depth_per=block must go with a stochastic_depth that the recipe sets; it"
            " was 'network', which has its own: add --set stochastic_depth=NUMBER."
        )
    if recipe.scale_jitter is not None and recipe.train_pixels > recipe.scale_jitter[0]:
        low, high = recipe.scale_jitter
        raise RsbenchError(
            f"scale_jitter must not go below the side that is trained on: it was {low}-{high}, and"
            f" train_pixels {recipe.train_pixels}; raise the one, or lower the other."
        )


class Length(NamedTuple):
    """How long a training of so many examples is, and where it is cut."""

    num_steps: int
    steps_per_epoch: int
    """Batches between two rows of the curve, each of which a checkpoint ends. It is an epoch, but
    where steps are counted and passes are short."""

    @property
    def num_epochs(self) -> int:
        """Of which the last may be shorter."""
        return -(-self.num_steps // self.steps_per_epoch)

    def steps_of(self, epoch: int) -> int:
        """Give the number of batches of an epoch, counted from 0."""
        return min(self.steps_per_epoch, self.num_steps - epoch * self.steps_per_epoch)


def length_of(recipe: TrainingRecipe, *, num_examples: int) -> Length:
    """Say how many steps a recipe means for so many examples, at least 1."""
    per_pass = -(-num_examples // recipe.batch_size)
    if recipe.steps:
        stretch = per_pass
        if recipe.full_batches:
            stretch = min(max(per_pass, _STEPS_PER_STRETCH), recipe.steps)
        return Length(recipe.steps, stretch)
    epochs = epochs_of(recipe, num_examples=num_examples)
    if recipe.full_batches:
        return Length(-(-epochs * num_examples // recipe.batch_size), per_pass)
    return Length(epochs * per_pass, per_pass)


def epochs_of(recipe: TrainingRecipe, *, num_examples: int) -> int:
    """Give the epochs that a recipe means for so many examples, where it does not count steps."""
    if recipe.epochs:
        return recipe.epochs
    return [epochs for least, epochs in recipe.epochs_by_size if num_examples >= least][-1]


def plan_of(recipe: TrainingRecipe, *, num_examples: int, target: TargetKind) -> TrainingPlan:
    """Give the optimisation that a recipe means for so many examples, at least 1."""
    from rsbench.training.optimisation import TrainingPlan

    return TrainingPlan(
        epochs=length_of(recipe, num_examples=num_examples).num_epochs,
        loss="binary cross-entropy" if target == "multilabel" else "cross-entropy",
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        momentum_of=recipe.momentum_of,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        decay_norm_and_bias=recipe.decay_norm_and_bias,
        schedule=recipe.schedule,
        drops_at=recipe.drops_at,
        warmup_share=recipe.warmup_share,
        warmup_factor=recipe.warmup_factor,
        label_smoothing=recipe.label_smoothing,
        largest_gradient=recipe.largest_gradient,
        examples_at_once=recipe.examples_at_once,
        ema_decay=recipe.ema_decay,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        freeze_norm=recipe.freeze_norm,
        sync_norm=recipe.sync_norm,
        norm_momentum=_norm_momentum(recipe, num_examples=num_examples),
    )


def _norm_momentum(recipe: TrainingRecipe, *, num_examples: int) -> float | None:
    if isinstance(recipe.norm_momentum, float):
        return recipe.norm_momentum
    if recipe.norm_momentum == BY_EPOCH_LENGTH:
        # PyTorch's momentum is one less TensorFlow's.
        return min(10 * recipe.batch_size / num_examples, 0.1)
    return None


def augmentation_of(
    recipe: TrainingRecipe, model: Model, input: InputSpec, *, flip: bool
) -> Augmentation:
    """Give what training may do to the views of a network.

    Args:
        recipe: What it asks for.
        model: It knows what is published of training it.
        input: What the network is tested on.
        flip: Whether a horizontal flip keeps the label; if not, nothing is mirrored, not even
            beyond the edges of what RandAugment shifts.

    Raises:
        RsbenchError: The recipe asks for what is published, and nothing is.
    """
    from rsbench.media.augment import Augmentation

    magnitude = 0.0
    if recipe.randaugment_layers:
        magnitude = resolved(
            recipe, "randaugment_magnitude", recipe.randaugment_magnitude, model, input
        )
    return Augmentation(
        smallest_crop=recipe.smallest_crop,
        widest_aspect=recipe.widest_aspect,
        flip_probability=recipe.flip_probability if flip else 0.0,
        clip_sampler=recipe.train_sampler,
        scale_jitter=recipe.scale_jitter,
        pixels=recipe.train_pixels,
        randaugment_layers=recipe.randaugment_layers,
        randaugment_magnitude=magnitude,
        randaugment_rule=recipe.randaugment_rule,
        randaugment_edges=None if flip else "grey",
        colour_jitter=recipe.colour_jitter,
        random_erasing=recipe.random_erasing,
    )


def resolved(
    recipe: TrainingRecipe, key: str, value: float | str, model: Model, input: InputSpec
) -> float:
    """Give a number of a recipe, or what is published of it for a network at the side it trains on.

    Args:
        recipe: It may train on another side than that of the input.
        key: Name of the number.
        value: As the recipe has it.
        model: It knows what is published.
        input: What the network is tested on.

    Raises:
        RsbenchError: Nothing is.
    """
    if isinstance(value, float):
        return value
    assert value == PUBLISHED, "other words are resolved by who knows what they mean"
    found = model.published_training(recipe.train_pixels or input.pixels).get(key)
    if not isinstance(found, int | float):
        raise RsbenchError(
            f"{key} must be a number for this network, because nothing is published of training"
            f" it; it was {value!r}: give one with --set {key}=NUMBER."
        )
    return float(found)


def selects_on(recipe: Mapping[str, Scalar]) -> str:
    """Say what the epoch is selected on whose network is tested."""
    best = recipe["keep"] == "best"
    return "official validation, else held-out train" if best else "nothing"


def train_passes(recipe: Mapping[str, Scalar]) -> float:
    """Give the forward passes over train that a recipe is worth, a backward pass counted as two.

    A part that is held out is looked at once an epoch. Where the number of epochs hangs on the data
    it is the largest.
    """
    asked = TrainingRecipe.of(recipe)
    if asked.steps:
        return 0.0
    epochs = asked.epochs or max(epochs for _, epochs in asked.epochs_by_size)
    return epochs * (3.0 * (1 - asked.held_out) + asked.held_out)


def train_views(recipe: Mapping[str, Scalar]) -> int:
    """Give the views that a recipe shows the network where it counts steps, likewise."""
    asked = TrainingRecipe.of(recipe)
    return 3 * asked.steps * asked.batch_size


def _scale_jitter(recipe: Mapping[str, Scalar]) -> tuple[int, int] | None:
    text = str(recipe["scale_jitter"])
    if not text:
        return None
    low, _, high = text.partition("-")
    if not (low.isdigit() and high.isdigit() and 8 <= int(low) <= int(high) <= 10_000):
        raise RsbenchError(
            "scale_jitter must be two lengths in pixels, the smaller one first, such as 256-320, or"
            f" nothing; it was {text!r}: give others with --set scale_jitter=LOW-HIGH."
        )
    return int(low), int(high)


def _epochs_by_size(recipe: Mapping[str, Scalar]) -> tuple[tuple[int, int], ...]:
    """Read "0:40,50000:22": from 0 items on 40 epochs, from 50,000 on 22."""
    text = str(recipe.get("epochs_by_size", ""))
    if not text:
        return ()
    pairs = [part.partition(":")[::2] for part in text.split(",")]
    if all(least.isdigit() and epochs.isdigit() for least, epochs in pairs):
        found = tuple((int(least), int(epochs)) for least, epochs in pairs)
        sizes = [least for least, _ in found]
        rising = sizes == sorted(set(sizes)) and sizes[0] == 0
        if rising and all(epochs >= 1 for _, epochs in found):
            return found
    raise RsbenchError(
        "epochs_by_size must be pairs of a number of training items, rising from 0, and of epochs,"
        f" such as 0:40,50000:22; it was {text!r}: give others with --set epochs_by_size=LIST."
    )
