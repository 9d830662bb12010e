"""`linear_probe`: logistic regression on frozen features, strength selected on held-out train.

The flow is that of Kornblith et al. 2019 (arXiv 1805.08974) and SimCLR (arXiv 2002.05709, App.
B.8): 45 strengths lambda, log-spaced in [1e-6, 1e5], in ``sum of CE + lambda |W|^2`` (so
C = 1/(2 lambda)); the best on the official validation set, else on a fifth of train held out by
class with groups kept whole; a tie goes to the stronger regularisation; then one fit on all of
train and validation, and one test. Ours is that features are standardised by the mean and deviation
of the examples fitted on, since features of untrained networks differ in scale by orders of
magnitude.

It trains on one centre clip a video and averages the softmax over all test views.

Shape letters: N examples, V views, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rsbench.errors import DataError
from rsbench.protocols._recipes import choice, flag, number, whole
from rsbench.protocols._views import average_views, look, named
from rsbench.specs import (
    Failure,
    FitRequest,
    Fitted,
    ItemSet,
    Predictions,
    PredictRequest,
    Protocol,
    Scalar,
)

if TYPE_CHECKING:
    import numpy as np

    from rsbench.probes.logistic import Scale, Solution, Standardisation


def fit(request: FitRequest) -> Fitted:
    """Select a strength on held-out data and refit on all of it.

    Raises:
        DataError: Fewer than two classes could be read, or nothing can be held out.
        RsbenchError: A value of the recipe is out of its range.
        RunError: A feature is not finite, or the cache can't be written.
    """
    assert request.train is not None, "linear_probe trains"
    recipe = _Recipe.of(request.recipe)
    train = _examples(request, request.train)
    official = None if request.validation is None else _examples(request, request.validation)
    started = time.perf_counter()
    if official is None:
        kept, held = _hold_out(train, recipe, seed=request.seed)
    else:
        kept, held = train, official
    num_classes = len(request.train.classes)
    candidates = _score_strengths(kept, held, recipe, num_classes=num_classes)
    best = max(candidates, key=lambda each: (each.correct, each.strength_rank))
    everything = train if official is None else train.joined(official)
    solution, scaling = _refit(everything, best.strength, recipe, num_classes=num_classes)
    return Fitted(
        arrays={
            "weight": solution.weight_KD,
            "bias": solution.bias_K,
            "mean": scaling.mean_D,
            "std": scaling.std_D,
        },
        selection=tuple(each.row(len(held), chosen=each is best) for each in candidates),
        chosen={
            "strength": best.strength,
            "c": solution.c,
            "selected_on": "held-out train" if official is None else "validation",
            "num_selected_on": len(held),
            "num_fitted_on": len(everything),
            "iterations": solution.num_iterations,
            "converged": solution.converged,
        },
        failures=everything.failures,
        seconds=time.perf_counter() - started,
    )


def predict(request: PredictRequest) -> Predictions:
    """Give softmax(W x + b), averaged over all views: float32 (K,) an item.

    Raises:
        RunError: A feature is not finite, or the cache can't be written.
    """
    from rsbench.probes.logistic import Standardisation, logits, softmax

    extracted = look(
        request.model, request.test, request.reading, request.settings, output="features"
    )
    arrays = request.fitted.arrays
    if len(extracted.failures) == len(request.test):
        return average_views(extracted.values, request.test, failures=extracted.failures)
    scaling = Standardisation(mean_D=arrays["mean"], std_D=arrays["std"])
    scores_NVK = logits(arrays["weight"], arrays["bias"], scaling(extracted.values))
    return average_views(softmax(scores_NVK), request.test, failures=extracted.failures)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """The recipe with its types."""

    strengths: tuple[float, ...]
    scale: Scale
    held_out: float
    standardise: bool
    tolerance: float
    max_iterations: int

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> _Recipe:
        import numpy as np

        least = number(recipe, "strength_min", without_ends=True)
        most = number(recipe, "strength_max", least=least)
        grid = np.geomspace(least, most, whole(recipe, "strengths"))
        scale = choice(recipe, "strength_scale", among=("sum", "half-sum", "mean", "C"))
        return cls(
            strengths=tuple(float(strength) for strength in grid),
            scale=cast("Scale", scale),
            held_out=number(recipe, "held_out", most=1.0, without_ends=True),
            standardise=flag(recipe, "standardise"),
            tolerance=number(recipe, "tolerance", without_ends=True),
            max_iterations=whole(recipe, "max_iterations"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Examples:
    """Training items that could be read, as numbers."""

    features_ND: np.ndarray
    labels_N: np.ndarray
    groups: tuple[str | None, ...]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.labels_N)

    def at(self, places: Sequence[int]) -> _Examples:
        return _Examples(
            features_ND=self.features_ND[list(places)],
            labels_N=self.labels_N[list(places)],
            groups=tuple(self.groups[place] for place in places),
        )

    def joined(self, other: _Examples) -> _Examples:
        import numpy as np

        return _Examples(
            features_ND=np.concatenate([self.features_ND, other.features_ND]),
            labels_N=np.concatenate([self.labels_N, other.labels_N]),
            groups=self.groups + other.groups,
            failures=self.failures + other.failures,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """One strength with its score on held-out data."""

    strength: float
    strength_rank: int
    """Larger for stronger regularisation."""
    c: float
    correct: int
    iterations: int
    converged: bool

    def row(self, num_held: int, *, chosen: bool) -> Mapping[str, Scalar]:
        return {
            "strength": self.strength,
            "c": self.c,
            "held_out_top1": self.correct / num_held,
            "iterations": self.iterations,
            "converged": self.converged,
            "chosen": chosen,
        }


def _examples(request: FitRequest, item_set: ItemSet) -> _Examples:
    """Look at one view of each item; items that can't be read are left out and named."""
    import numpy as np

    assert item_set.targets is not None, "train targets are given"
    extracted = look(request.model, item_set, request.reading, request.settings, output="features")
    places = extracted.readable.tolist()
    return _Examples(
        features_ND=extracted.values[places].mean(axis=1),
        labels_N=np.array([item_set.targets[place] for place in places], dtype=np.int64),
        groups=tuple(item_set.items[place].group for place in places),
        failures=named(extracted.failures, item_set),
    )


def _hold_out(train: _Examples, recipe: _Recipe, *, seed: int) -> tuple[_Examples, _Examples]:
    from rsbench.data.splits import hold_out

    kept, held = hold_out(train.labels_N.tolist(), train.groups, share=recipe.held_out, seed=seed)
    if not held:
        unread = "".join(
            f"; {len(train.failures)} others can't be read, the first is {first.id}: {first.reason}"
            for first in train.failures[:1]
        )
        raise DataError(
            f"linear_probe selects on held-out train, and none of {len(train)} examples can be held"
            " out: a class needs at least two items (of two groups, where there are groups)"
            f"{unread}."
        )
    return train.at(kept), train.at(held)


def _score_strengths(
    kept: _Examples, held: _Examples, recipe: _Recipe, *, num_classes: int
) -> list[_Candidate]:
    """Fit at every strength, strongest first, and count hits on the held-out examples."""
    from rsbench.probes.logistic import logits, to_c

    if not len(held):
        raise DataError(
            "linear_probe selects on the validation data, and no item of it could be read."
        )
    strength_of = {
        to_c(strength, scale=recipe.scale, num_examples=len(kept)): strength
        for strength in recipe.strengths
    }
    scaling = _scaling(kept, recipe)
    held_features = scaling(held.features_ND)
    candidates: list[_Candidate] = []
    for solution in _solutions(kept, scaling, sorted(strength_of), recipe, num_classes):
        labels = logits(solution.weight_KD, solution.bias_K, held_features).argmax(axis=1)
        candidates.append(
            _Candidate(
                strength=strength_of[solution.c],
                strength_rank=-len(candidates),
                c=solution.c,
                correct=int((labels == held.labels_N).sum()),
                iterations=solution.num_iterations,
                converged=solution.converged,
            )
        )
    return candidates


def _refit(
    examples: _Examples, strength: float, recipe: _Recipe, *, num_classes: int
) -> tuple[Solution, Standardisation]:
    from rsbench.probes.logistic import to_c

    scaling = _scaling(examples, recipe)
    c = to_c(strength, scale=recipe.scale, num_examples=len(examples))
    return next(_solutions(examples, scaling, [c], recipe, num_classes)), scaling


def _scaling(examples: _Examples, recipe: _Recipe) -> Standardisation:
    import numpy as np

    from rsbench.probes.logistic import Standardisation, standardisation

    if recipe.standardise and len(examples):
        return standardisation(examples.features_ND)
    width = examples.features_ND.shape[1]
    return Standardisation(mean_D=np.zeros(width), std_D=np.ones(width))


def _solutions(
    examples: _Examples,
    scaling: Standardisation,
    cs: Sequence[float],
    recipe: _Recipe,
    num_classes: int,
) -> Iterator[Solution]:
    from rsbench.probes.logistic import fit_path

    return fit_path(
        scaling(examples.features_ND),
        examples.labels_N,
        num_classes=num_classes,
        cs=cs,
        tolerance=recipe.tolerance,
        max_iterations=recipe.max_iterations,
    )


PROTOCOL = Protocol(
    name="linear_probe",
    version=1,
    recipe={
        "strengths": 45,
        "strength_min": 1e-6,
        "strength_max": 1e5,
        "strength_scale": "sum",
        "held_out": 0.2,
        "standardise": True,
        "tolerance": 1e-6,
        "max_iterations": 1000,
    },
    targets=frozenset({"class"}),
    trains=True,
    selects_on="official validation, else held-out train",
    fit=fit,
    predict=predict,
    title="Logistic regression on frozen features, strength selected on held-out train",
    citation="Kornblith, Shlens, Le 2019 (arXiv 1805.08974); Chen et al. 2020 (arXiv 2002.05709).",
)
