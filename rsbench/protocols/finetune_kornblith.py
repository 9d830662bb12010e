"""`finetune_kornblith`: 20,000 steps, the best of 56 settings on validation data, then all of it.

Kornblith, Shlens and Le 2019, "Do Better ImageNet Models Transfer Better?" (arXiv 1805.08974), in
the words of SimCLR's appendix B.8 (arXiv 2002.05709): batches of 256, SGD with Nesterov momentum
0.9, seven rates from 1e-4 to 1e-1 and seven weight decays from 1e-6 to 1e-3, both evenly spaced in
their logarithms, and no decay; *a decay is divided by the rate it goes with*. Batch norm's
statistics move by max(1 - 10 / s, 0.9), s being the steps of an epoch ("kornblith"). Crops with
resize and flips, nothing else. The best setting on the validation data is trained again on train
and validation together, and tested once. A tie goes to the smaller rate, then to the larger decay.

That is 57 trainings. Before the first is under way the run says what the rest will take, and
``rsbench run --dry-run`` says it before anything starts. A smaller grid is a ``--set
learning_rates=LIST`` away, another length ``--set steps=N``.

What is otherwise here, and why:

- The sources at hand do not say how the rate goes: it follows a cosine without a warm-up.
- A task without official validation data holds a fifth of train out, by class with groups whole.
- The test takes what the weights were made for: pixels, resize and crop are theirs (the paper
  resizes to 256 and cuts 224).
- Weights decay in convolutions and classifiers alone.
- For networks that start at random the paper has another grid, rates up to 1 for 40,000 steps:
  ``--set`` it.

Settings are compared by top-1 accuracy, or by mean average precision where an item may have several
labels.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rsbench.digests import digest_json
from rsbench.protocols._recipes import number, numbers
from rsbench.protocols._trained import Scored, best_of, checkpoint_of, split_items
from rsbench.protocols._training import (
    check_model,
    named_failures,
    named_remarks,
    predict,
    train_network,
)
from rsbench.protocols._training_examples import Examples
from rsbench.protocols._training_recipe import (
    BY_EPOCH_LENGTH,
    NEUTRAL,
    TrainingRecipe,
    train_passes,
    train_views,
)
from rsbench.protocols._training_score import HeldOut
from rsbench.specs import FitRequest, Fitted, Protocol, Scalar

if TYPE_CHECKING:
    from rsbench.training.checkpoints import Checkpoint

_STEPS_TO_TIME = 20
"""Steps of the first training after which the rest is estimated, the first few not counted."""
_STEPS_TO_WARM = 3


def fit(request: FitRequest) -> Fitted:
    """Train with each setting, choose one on held-out data, and train with it on all of it.

    Raises:
        RsbenchError: A value of the recipe is out of its range, or at odds with the network.
        DataError: Nothing can be held out, or nothing held out can be read.
        RunError: All settings diverged, a worker died, or a checkpoint can't be written.
    """
    grid = _Grid.of(request.recipe)
    settings = list(grid.settings())
    split = split_items(request, held_out=grid.held_out)
    held = HeldOut(request, split.held, where=split.where)
    examples = Examples.of(request, split.kept, protocol=PROTOCOL)
    hours = _Hours(request, num_trainings=len(settings) + 1)
    base = _checkpoint(request, examples, name="grid")
    tried = [_try(request, each, examples, held, base=base, hours=hours) for each in settings]
    candidates = [
        Scored(
            settings={
                "learning_rate": setting.learning_rate,
                "weight_decay": setting.weight_decay,
            },
            preference=(setting.learning_rate, -setting.weight_decay),
            score=result.score,
            metric=held.metric,
        )
        for setting, result in zip(settings, tried, strict=True)
    ]
    best = best_of(candidates)
    everything = Examples.of(request, split.everything(), protocol=PROTOCOL)
    outcome = train_network(
        request,
        PROTOCOL,
        settings[best].recipe,
        everything,
        checkpoint=_checkpoint(request, everything, name="best", about=settings[best].name),
        progress=hours.next_training(),
        rehearse=False,
    )
    unread = {name: reason for each in tried for name, reason in each.held_failures.items()}
    failures = {name: reason for each in tried for name, reason in each.failures.items()}
    failures.update(outcome.trained.failures)
    remarks = {name: lines for each in tried for name, lines in each.held_remarks.items()}
    # What is reported names what is to be said of it itself.
    if split.where == "test":
        remarks.clear()
    else:
        failures.update(unread)
    return Fitted(
        arrays=outcome.arrays(),
        selection=tuple(each.row(chosen=place == best) for place, each in enumerate(candidates)),
        chosen={
            **outcome.chosen(),
            **candidates[best].settings,
            "selected_on": split.where,
            "num_selected_on": len(held) - len(unread),
        },
        curve=(
            *(row for each in tried for row in each.curve),
            *_named(outcome.trained.curve, "best"),
        ),
        failures=named_failures(failures),
        remarks=named_remarks({**remarks, **outcome.remarks}),
        notes=outcome.notes,
        seconds=sum(each.seconds for each in tried) + outcome.trained.seconds,
    )


class _Setting(NamedTuple):
    """One of the grid."""

    learning_rate: float
    weight_decay: float
    """As the grid has it, before it is divided by the rate."""
    recipe: TrainingRecipe

    @property
    def name(self) -> str:
        """What a reader of the curves calls it."""
        return f"rate {self.learning_rate:g}, decay {self.weight_decay:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grid:
    """The recipe: what is tried, and what all that is tried have in common."""

    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    held_out: float
    common: Mapping[str, Scalar]

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> _Grid:
        """Read a recipe, and try it with each setting.

        Raises:
            RsbenchError: A value is out of its range, or contradicts another.
        """
        grid = cls(
            learning_rates=numbers(recipe, "learning_rates", least=1e-12),
            weight_decays=numbers(recipe, "weight_decays"),
            held_out=number(recipe, "held_out", most=1.0, without_ends=True),
            # A training holds nothing out for itself: it is scored once, in the end.
            common={**NEUTRAL, **recipe, "held_out": 0.0},
        )
        TrainingRecipe.of(grid.first())
        return grid

    def settings(self) -> Iterator[_Setting]:
        """Give what is tried, the largest rate last."""
        for rate, decay in product(self.learning_rates, self.weight_decays):
            values = {**self.common, "learning_rate": rate, "weight_decay": decay / rate}
            yield _Setting(rate, decay, TrainingRecipe.of(values))

    def first(self) -> dict[str, Scalar]:
        """Give the recipe of one training, as long as all of them are."""
        return {**self.common, "learning_rate": self.learning_rates[0]}


class _Hours:
    """Says, once the first training is under way, what all of them will take."""

    def __init__(self, request: FitRequest, *, num_trainings: int) -> None:
        self._settings = request.settings
        self._num_trainings = num_trainings
        self._num_begun = 0
        self._warm: tuple[int, float] | None = None
        """Steps done when the clock was started, and what it showed."""
        self._said = False

    @property
    def is_first(self) -> bool:
        """Whether it is the first training that is under way."""
        return self._num_begun == 1

    def next_training(self) -> Callable[[int, int], None]:
        """Begin the next training; give what is to be called with its progress."""
        self._num_begun += 1
        first = None
        stage = f"train {self._num_begun} of {self._num_trainings}"

        def progress(done: int, total: int) -> None:
            nonlocal first
            self._settings.progress(stage, done, total)
            first = done if first is None else first
            if not self._said and done >= first + _STEPS_TO_WARM:
                self._estimate(done, total)

        self._warm = None
        return progress

    def _estimate(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._warm is None:
            self._warm = (done, now)
            return
        if done < min(self._warm[0] + _STEPS_TO_TIME, total):
            return
        step_seconds = (now - self._warm[1]) / (done - self._warm[0])
        left = total * (self._num_trainings - self._num_begun + 1) - done
        self._settings.say(
            f"{PROTOCOL.name} trains {self._num_trainings} times for {total:,} steps:"
            f" {step_seconds:.3g} s a step, about {left * step_seconds / 3600:,.1f} hours to go on"
            f" {self._settings.device}"
        )
        self._said = True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tried:
    """What came of one setting; it is kept in place of the checkpoints of its training."""

    score: float | None
    """On what is held out, in [0, 1]; None where the training diverged."""
    curve: list[dict[str, Scalar]]
    failures: dict[str, str]
    """Reason by id, of training items that could not be read."""
    held_failures: dict[str, str]
    held_remarks: dict[str, list[str]]
    seconds: float


def _try(
    request: FitRequest,
    setting: _Setting,
    examples: Examples,
    held: HeldOut,
    *,
    base: Checkpoint,
    hours: _Hours,
) -> _Tried:
    """Train with one setting and score it, or find that this was done before the run was killed."""
    from rsbench.training.distribution import from_lead

    progress, ranks = hours.next_training(), request.settings.ranks
    key = digest_json([base.key, setting.learning_rate, setting.weight_decay])
    folder = base.path.parent / f"{base.path.stem}-{key[:12]}"
    kept = folder.with_suffix(".json")
    found: dict[str, Any] | None = from_lead(lambda: _read(kept, key), ranks)
    if found is not None:
        return _Tried(**found)
    checkpoint = replace(base, path=folder / base.path.name, key=key)
    tried = _trained(
        request,
        setting,
        examples,
        held,
        checkpoint=checkpoint,
        progress=progress,
        rehearse=hours.is_first,
    )
    if ranks is None or ranks.rank == 0:
        base.write(kept, json.dumps({"key": key, **asdict(tried)}).encode())
        # 56 states of a network and its optimizer are tens of GiB.
        shutil.rmtree(folder, ignore_errors=True)
    return tried


def _trained(
    request: FitRequest,
    setting: _Setting,
    examples: Examples,
    held: HeldOut,
    *,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
    rehearse: bool,
) -> _Tried:
    from rsbench.training.loop import DivergedError

    try:
        outcome = train_network(
            request,
            PROTOCOL,
            setting.recipe,
            examples,
            checkpoint=checkpoint,
            progress=progress,
            rehearse=rehearse,
        )
    except DivergedError:
        return _Tried(
            score=None, curve=[], failures={}, held_failures={}, held_remarks={}, seconds=0.0
        )
    started = time.perf_counter()
    score = held.score(outcome.network)
    return _Tried(
        # Weights may be finite and outputs not.
        score=score if math.isfinite(score) else None,
        curve=_named(outcome.trained.curve, setting.name),
        failures=dict(outcome.trained.failures),
        held_failures=held.all_failures(),
        held_remarks=held.all_remarks(),
        seconds=outcome.trained.seconds + time.perf_counter() - started,
    )


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """Read the fields of what came of a setting; None where it is not known, or of another run."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop("key", None) != key:
        return None
    # Another version of this file may have kept other fields.
    return content if content.keys() == {each.name for each in fields(_Tried)} else None


def _checkpoint(
    request: FitRequest, examples: Examples, *, name: str, about: object = None
) -> Checkpoint:
    return checkpoint_of(
        request,
        PROTOCOL,
        items=examples.items,
        labels=examples.labels,
        name=f"{PROTOCOL.name}-{name}",
        about=about,
    )


def _named(curve: Iterable[Mapping[str, Scalar]], name: str) -> list[dict[str, Scalar]]:
    return [{"training": name, **row} for row in curve]


def _num_trainings(recipe: Mapping[str, Scalar]) -> int:
    grid = _Grid.of(recipe)
    return len(grid.learning_rates) * len(grid.weight_decays) + 1


def _train_passes(recipe: Mapping[str, Scalar]) -> float:
    return _num_trainings(recipe) * train_passes(_Grid.of(recipe).first())


def _train_views(recipe: Mapping[str, Scalar]) -> int:
    return _num_trainings(recipe) * train_views(_Grid.of(recipe).first())


def _log_spaced(low: float, high: float, count: int) -> str:
    """Give numbers evenly spaced in their logarithms, as a recipe's list."""
    ratio = high / low
    return ",".join(f"{low * ratio ** (place / (count - 1)):.6g}" for place in range(count))


PROTOCOL = Protocol(
    name="finetune_kornblith",
    version=1,
    recipe={
        **{
            key: value
            for key, value in NEUTRAL.items()
            # The grid has the first two; each training keeps its last weights.
            if key not in ("learning_rate", "weight_decay", "learning_rate_batch", "keep")
        },
        "learning_rates": _log_spaced(1e-4, 1e-1, 7),
        "weight_decays": f"0,{_log_spaced(1e-6, 1e-3, 7)}",
        "epochs": 0,
        "steps": 20_000,
        "batch_size": 256,
        "full_batches": True,
        "warmup_share": 0.0,
        "warmup_factor": 1.0,
        "smallest_crop": 0.08,
        "norm_momentum": BY_EPOCH_LENGTH,
        "held_out": 0.2,
    },
    targets=frozenset({"class", "multilabel"}),
    trains=True,
    selects_on="official validation, else held-out train",
    trains_backbone=True,
    train_passes=_train_passes,
    train_views=_train_views,
    output="logits",
    check=_Grid.of,
    check_model=lambda recipe, model, input: check_model(_Grid.of(recipe).first(), model, input),
    fit=fit,
    predict=predict,
    title="Kornblith's fine-tuning: 20,000 steps, the best of 56 settings on validation data",
    citation="Kornblith, Shlens, Le 2019 (arXiv 1805.08974); SimCLR, appendix B.8.",
)
