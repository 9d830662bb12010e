"""Plans: studies that run one network under a row of recipes, to see what each change is worth.

A study begins with one recipe and changes it step by step: each step is added to those before it
(the additive study of the ResNet-RS paper), or takes the place of the others. Of each row comes one
cell, which is run and recorded like any other; `rsbench ablate` draws the rows as one table.

A plan is words: overrides as they are typed after ``--set`` and options as they are typed after a
network's name. Nothing here knows a protocol or a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rsbench.errors import RsbenchError, UnknownNameError, suggest


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One change of a study."""

    name: str
    """As the table has it: "+ label smoothing"."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Entries of the recipe that it sets, as typed."""
    named_by: tuple[str, ...] = ()
    """Those of them that its name speaks of; empty for the first alone. A user who holds one has
    nothing left of the step: the others go with it."""
    restores: tuple[str, ...] = ()
    """Options of the network (`Study.without`) that it takes back."""
    published: float | None = None
    """What the paper reached after this step, in percent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A row of recipes for one network."""

    name: str
    title: str
    protocol: str
    """Whose recipe is changed, unless the user names another that has the same entries."""
    start: Mapping[str, str]
    """Entries of the recipe as all rows begin: whatever the steps set, and what they rest on."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Options by which the network is made plain, until a step restores them."""
    first: str = ""
    """Name of the row before any step; empty where the first step is the first row."""
    first_published: float | None = None
    """What the paper reached there, in percent."""
    steps: tuple[Step, ...]
    adds_up: bool
    """Whether each step keeps those before it; else each stands alone upon the start."""
    published_on: str = ""
    """What the paper's column is of; empty where nothing is published."""
    citation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRow:
    """One row of a study, ready to be a cell for each seed."""

    name: str
    backbone: str
    """With its options, as typed."""
    overrides: Mapping[str, str]
    """As typed."""
    published: float | None
    """In percent."""
    published_change: float | None
    """In points, from the row that the paper has before it; None where that is not known."""
    compared_with: int | None
    """Number of the row that its change is counted from; None for the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A study for one network and the user's words."""

    study: Study
    backbone: str
    """As named."""
    rows: tuple[PlannedRow, ...]
    notes: tuple[str, ...]
    """What of the study is left out or done otherwise, and why; one line each."""


_EPOCHS = 90
_MORE_EPOCHS = 350
_WARMUP_EPOCHS = 5

_RS_START = {
    "epochs": str(_EPOCHS),
    "schedule": "drops",
    "drops_at": ",".join(str(epoch / _EPOCHS) for epoch in (30, 60, 80)),
    "warmup_share": str(_WARMUP_EPOCHS / _EPOCHS),
    "ema_decay": "0",
    "norm_momentum": "0.1",
    "label_smoothing": "0",
    "stochastic_depth": "0",
    "randaugment_layers": "0",
    "scale_jitter": "",
    "dropout": "0",
    "weight_decay": "1e-4",
}

_COSINE = {"schedule": "whole cosine"}
_LONGER = {"epochs": str(_MORE_EPOCHS), "warmup_share": str(_WARMUP_EPOCHS / _MORE_EPOCHS)}
# The statistics of the last batch alone (TensorFlow's momentum 0), which the average then averages.
_AVERAGE = {"ema_decay": "0.9999", "norm_momentum": "1.0"}

RS = Study(
    name="rs",
    title="The ResNet-RS recipe and network, switch by switch",
    protocol="train_baseline",
    start=_RS_START,
    without={"squeeze_ratio": "0", "stem": "plain", "shortcut": "strided"},
    first="ResNet",
    first_published=79.0,
    # Names and order: table 1. Magnitude, rates and decay: configs/resnet_rs_200_i256.yaml of
    # tensorflow/tpu, models/official/resnet/resnet_rs, the network of that table.
    steps=(
        Step(name="+ cosine LR decay", overrides=_COSINE, published=79.3),
        Step(name="+ more epochs", overrides=_LONGER, published=78.8),
        Step(name="+ EMA of weights", overrides=_AVERAGE, published=79.1),
        Step(name="+ label smoothing", overrides={"label_smoothing": "0.1"}, published=80.4),
        Step(name="+ stochastic depth", overrides={"stochastic_depth": "0.1"}, published=80.6),
        Step(
            name="+ RandAugment",
            overrides={"randaugment_layers": "2", "randaugment_magnitude": "15"},
            published=81.0,
        ),
        Step(name="+ dropout on FC", overrides={"dropout": "0.25"}, published=80.7),
        Step(name="+ less weight decay", overrides={"weight_decay": "4e-5"}, published=82.2),
        Step(name="+ squeeze-and-excitation", restores=("squeeze_ratio",), published=82.9),
        Step(name="+ ResNet-D", restores=("stem", "shortcut"), published=83.4),
    ),
    adds_up=True,
    published_on="ResNet-200 on ImageNet",
    citation="Bello et al. 2021, table 1 (arXiv 2103.07579).",
)

RS_VIDEO = Study(
    name="rs_video",
    title="The ResNet-RS recipe and network for video, switch by switch",
    protocol="train_baseline",
    start=_RS_START,
    without={"squeeze_ratio": "0", "stem": "plain"},
    first="3D ResNet",
    first_published=73.4,
    # The order is that of images: the paper's table 6 has only its ends here. Scale jitter takes
    # RandAugment's place (section 8); dropout, rates and decay: k400_resnet3drs_50_tpu.yaml of
    # tensorflow/models, official/vision.
    steps=(
        Step(name="+ cosine LR decay", overrides=_COSINE),
        Step(name="+ more epochs", overrides=_LONGER),
        Step(name="+ EMA of weights", overrides=_AVERAGE),
        Step(name="+ label smoothing", overrides={"label_smoothing": "0.1"}),
        Step(name="+ stochastic depth", overrides={"stochastic_depth": "0.1"}),
        Step(name="+ scale jitter", overrides={"scale_jitter": "256-320"}),
        Step(name="+ dropout on FC", overrides={"dropout": "0.5"}),
        Step(name="+ less weight decay", overrides={"weight_decay": "4e-5"}, published=77.4),
        Step(name="+ squeeze-and-excitation", restores=("squeeze_ratio",)),
        Step(name="+ ResNet-D stem", restores=("stem",), published=78.2),
    ),
    adds_up=True,
    published_on="3D ResNet-50 on Kinetics-400",
    citation="Bello et al. 2021, section 7.5 and table 6 (arXiv 2103.07579).",
)

BATCH_SIZES = (256, 1024, 4096)
"""Of the study of optimizers, unless the user names others."""

# Rates for a batch, which grow with it: SGD as the baseline (tensorflow/tpu, resnet_config.py).
# LARS as SimCLR (google-research/simclr, run.py: 0.3 a 256), at which MLPerf's 10 for up to 16,384
# (mlcommons/training, image_classification/tensorflow2/lars_util.py) is met at 8,533. AdamW as DeiT
# (facebookresearch/deit, main.py: 5e-4 a 512, decay 0.05).
_OPTIMIZERS: Mapping[str, Mapping[str, str]] = {
    "SGD": {
        "optimizer": "sgd",
        "learning_rate": "0.1",
        "learning_rate_batch": "256",
        "weight_decay": "1e-4",
    },
    "LARS": {
        "optimizer": "lars",
        "learning_rate": "0.3",
        "learning_rate_batch": "256",
        "weight_decay": "1e-4",
    },
    "AdamW": {
        "optimizer": "adamw",
        "learning_rate": "5e-4",
        "learning_rate_batch": "512",
        "weight_decay": "0.05",
    },
}


def _optimizer_steps(batch_sizes: Sequence[int]) -> tuple[Step, ...]:
    return tuple(
        Step(
            name=f"{name}, batch {size}",
            overrides={**words, "batch_size": str(size)},
            named_by=("optimizer", "batch_size"),
        )
        for name, words in _OPTIMIZERS.items()
        for size in dict.fromkeys(batch_sizes)
    )


OPTIMIZERS = Study(
    name="optimizers",
    title="SGD, LARS and AdamW at small and large batches",
    protocol="train_baseline",
    start={
        "epochs": str(_EPOCHS),
        "schedule": "whole cosine",
        "warmup_share": str(_WARMUP_EPOCHS / _EPOCHS),
    },
    steps=_optimizer_steps(BATCH_SIZES),
    adds_up=False,
    citation=(
        "Ours; rates as Bello et al. 2021 (arXiv 2103.07579), Chen et al. 2020 (arXiv 2002.05709)"
        " and Touvron et al. 2021 (arXiv 2012.12877)."
    ),
)

STUDIES = (RS, RS_VIDEO, OPTIMIZERS)


def find_study(name: str, *, batch_sizes: Sequence[int] = ()) -> Study:
    """Find a study by its name.

    Args:
        name: One of `STUDIES`.
        batch_sizes: In place of `BATCH_SIZES`, for a study that varies them; each at least 2.

    Raises:
        UnknownNameError: There is none; the message says the nearest one.
        RsbenchError: Batch sizes are given for a study that does not vary them.
    """
    known = {study.name: study for study in STUDIES}
    if name not in known:
        raise UnknownNameError(
            f"No study is called {name!r}.{suggest(name, known)} There are {', '.join(known)}."
        )
    if not batch_sizes:
        return known[name]
    if name != OPTIMIZERS.name:
        raise RsbenchError(
            f"--batch-sizes must go with the study that varies them, {OPTIMIZERS.name}; the study"
            f" was {name}: hold one for all with --set batch_size={batch_sizes[0]}."
        )
    return replace(OPTIMIZERS, steps=_optimizer_steps(batch_sizes))


def plan_of(
    study: Study,
    backbone: str,
    *,
    held: Mapping[str, str],
    times_epochs: float,
    has_option: Callable[[str, str], bool],
) -> Plan:
    """Lay a study out for a network: one row a step that changes something.

    Args:
        study: What is varied.
        backbone: As typed, perhaps with options of its own and a side; these stay.
        held: Entries of the recipe that the user sets for all rows, as typed. A step that is about
            one of them is left out.
        times_epochs: Multiplies the epochs of all rows, above 0; at least one epoch stays.
        has_option: (key, value) -> whether the network has this option.

    Raises:
        RsbenchError: The user holds epochs and multiplies them, or holds what all steps vary.
    """
    if "epochs" in held and times_epochs != 1:
        raise RsbenchError(
            f"--times-epochs {times_epochs:g} changes the epochs that --set epochs={held['epochs']}"
            " holds; give one of the two."
        )
    without = {key: word for key, word in study.without.items() if has_option(key, word)}
    notes: list[str] = []
    rows: list[PlannedRow] = []
    overrides = dict(study.start)
    restored: tuple[str, ...] = ()
    before = study.first_published

    def add(name: str, published: float | None, change: float | None) -> None:
        options = {key: word for key, word in without.items() if key not in restored}
        previous = len(rows) - 1 if study.adds_up else 0
        rows.append(
            PlannedRow(
                name=name,
                backbone=with_options(backbone, options),
                overrides=_multiplied({**overrides, **held}, times_epochs),
                published=published,
                published_change=change,
                compared_with=previous if rows else None,
            )
        )

    if study.first:
        add(study.first, study.first_published, None)
    for step in study.steps:
        change = _difference(before, step.published)
        before = step.published
        reason = _held_in_words(step, held)
        if not step.overrides and not set(step.restores) & without.keys():
            reason = f"{backbone} has no {_options_of(step.restores)}"
        if reason:
            notes.append(f'"{step.name}" is left out: {reason}.')
            continue
        absent = [key for key in step.restores if key not in without]
        if absent:
            notes.append(f'"{step.name}" is all but {_options_of(absent)}: {backbone} has none.')
        overrides = {**(overrides if study.adds_up else study.start), **step.overrides}
        restored = (*restored, *step.restores) if study.adds_up else step.restores
        add(step.name, step.published, change)
    if not rows:
        raise RsbenchError(
            f"A study must have something to vary, and of {study.name} nothing is left: {notes[0]}"
            " Leave that --set out; --batch-sizes names other batches."
        )
    return Plan(study=study, backbone=backbone, rows=tuple(rows), notes=tuple(notes))


def _difference(before: float | None, after: float | None) -> float | None:
    """Give a change of published scores, which have one decimal; None where one is not known."""
    return None if before is None or after is None else round(after - before, 1)


def _held_in_words(step: Step, held: Mapping[str, str]) -> str:
    """Say which words of the user's hold what a step is about; empty where none does."""
    names = step.named_by or tuple(step.overrides)[:1]
    words = " ".join(f"--set {key}={held[key]}" for key in names if key in held)
    return f"{words} holds it for all" if words else ""


def _options_of(keys: Sequence[str]) -> str:
    return f"option {' or '.join(keys)}"


def _multiplied(overrides: Mapping[str, str], times_epochs: float) -> dict[str, str]:
    if times_epochs == 1 or "epochs" not in overrides:
        return dict(overrides)
    return {**overrides, "epochs": str(max(1, round(int(overrides["epochs"]) * times_epochs)))}


def with_options(backbone: str, options: Mapping[str, str]) -> str:
    """Give a network's name with options, which take the place of its own of the same key.

    ``with_options("net+width=0.5@160", {"width": "1"})`` is ``net+width=1@160``.
    """
    if not options:
        return backbone
    before, at, side = backbone.rpartition("@")
    if not at or not side.isdigit():
        before, at, side = backbone, "", ""
    base, *given = before.split("+")
    words = dict(word.partition("=")[::2] for word in given) | dict(options)
    return "+".join([base, *(f"{key}={value}" for key, value in words.items())]) + at + side
