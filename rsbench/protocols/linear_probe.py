"""`linear_probe`: logistic regression on frozen features, strength selected on held-out train.

The flow is that of Kornblith et al. 2019 (arXiv 1805.08974) and SimCLR (arXiv 2002.05709, App.
B.8): 45 strengths lambda, log-spaced in [1e-6, 1e5], in ``sum of CE + lambda |W|^2`` (so
C = 1/(2 lambda)); the best on the official validation set, else on a fifth of train held out by
class with groups kept whole; a tie goes to the stronger regularisation; then one fit on all of
train and validation, and one test. Ours is that features are standardised by the mean and deviation
of the examples fitted on, since features of untrained networks differ in scale by orders of
magnitude.

Where an item may have several labels, each class has a logistic regression of its own, all of one
strength, which is selected by mean average precision; nothing balances the classes of the held-out
fifth. The sigmoid takes the place of the softmax.

It trains on the sampler's single clip of each video, the sampler being that of the test, and
averages the softmax over all test views. That clip is not always the centre: mmaction2,
model_garden and psf_offset cut the middle, while that of psf and of ptv starts at frame 0.

Version 2 averages the probabilities as they are kept, in half precision (`rsbench.view_scores`);
version 1 averaged doubles, so that a probability may differ by 1.4e-4.

Shape letters: N examples, V views, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rsbench.errors import DataError
from rsbench.findings import failure_in_words
from rsbench.protocols._multilabel import mean_average_precision, truth_of
from rsbench.protocols._recipes import choice, flag, number, whole
from rsbench.protocols._views import activation_of, look, named, predict_views, remarked
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
    best = max(candidates, key=lambda each: (each.score, each.strength_rank))
    everything = train if official is None else train.joined(official)
    solution, scaling = _refit(everything, best.strength, recipe, num_classes=num_classes)
    return Fitted(
        arrays={
            "weight": solution.weight_KD,
            "bias": solution.bias_K,
            "mean": scaling.mean_D,
            "std": scaling.std_D,
        },
        selection=tuple(each.row(chosen=each is best) for each in candidates),
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
        remarks=everything.remarks,
        seconds=time.perf_counter() - started,
    )


def predict(request: PredictRequest) -> Predictions:
    """Give softmax(W x + b), or the sigmoid, averaged over all views: float32 (K,) an item.

    Raises:
        RunError: A feature is not finite, or the cache can't be written.
    """
    from rsbench.probes.logistic import Standardisation, logits
    from rsbench.view_scores import log_softmax

    arrays = request.fitted.arrays
    scaling = Standardisation(mean_D=arrays["mean"], std_D=arrays["std"])

    activation = activation_of(request.target)

    def scores(features_NVD: np.ndarray) -> np.ndarray:
        scores_NVK = logits(arrays["weight"], arrays["bias"], scaling(features_NVD))
        return log_softmax(scores_NVK) if activation == "softmax" else scores_NVK

    return predict_views(
        request.model, request, output="features", scores=scores, activation=activation
    )


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
    labels: np.ndarray
    """int64 (N,) class indices, or bool (N, K) where an item may have several."""
    groups: tuple[str | None, ...]
    failures: tuple[Failure, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Sequence[int]) -> _Examples:
        return _Examples(
            features_ND=self.features_ND[list(places)],
            labels=self.labels[list(places)],
            groups=tuple(self.groups[place] for place in places),
        )

    def joined(self, other: _Examples) -> _Examples:
        import numpy as np

        return _Examples(
            features_ND=np.concatenate([self.features_ND, other.features_ND]),
            labels=np.concatenate([self.labels, other.labels]),
            groups=self.groups + other.groups,
            failures=self.failures + other.failures,
            remarks=self.remarks + other.remarks,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """One strength with its score on held-out data."""

    strength: float
    strength_rank: int
    """Larger for stronger regularisation."""
    c: float
    metric: str
    score: float
    """Top-1 in [0, 1], or mean average precision."""
    iterations: int
    converged: bool

    def row(self, *, chosen: bool) -> Mapping[str, Scalar]:
        return {
            "strength": self.strength,
            "c": self.c,
            f"held_out_{self.metric}": self.score,
            "iterations": self.iterations,
            "converged": self.converged,
            "chosen": chosen,
        }


def _examples(request: FitRequest, item_set: ItemSet) -> _Examples:
    """Look at one view of each item; items that can't be read are left out and named."""
    assert item_set.targets is not None, "train targets are given"
    extracted = look(request.model, item_set, request.reading, request.settings, output="features")
    places = extracted.readable.tolist()
    return _Examples(
        features_ND=extracted.values[places].mean(axis=1),
        labels=_labels(request, [item_set.targets[place] for place in places]),
        groups=tuple(item_set.items[place].group for place in places),
        failures=named(extracted.failures, item_set),
        remarks=remarked(extracted.facts, item_set),
    )


def _labels(request: FitRequest, targets: Sequence[Any]) -> np.ndarray:
    import numpy as np

    assert request.train is not None, "linear_probe trains"
    if request.target == "multilabel":
        return truth_of(targets, num_classes=len(request.train.classes))
    return np.array(targets, dtype=np.int64)


def _hold_out(train: _Examples, recipe: _Recipe, *, seed: int) -> tuple[_Examples, _Examples]:
    from rsbench.data.splits import hold_out

    kept, held = hold_out(train.labels.tolist(), train.groups, share=recipe.held_out, seed=seed)
    if not held:
        unread = "".join(
            f"; {len(train.failures)} others can't be read, the first is"
            f" {failure_in_words(first.id, first.reason)}"
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
    """Fit at every strength, strongest first, and score the held-out examples."""
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
        scores_NK = logits(solution.weight_KD, solution.bias_K, held_features)
        metric, score = _scored(scores_NK, held.labels)
        candidates.append(
            _Candidate(
                strength=strength_of[solution.c],
                strength_rank=-len(candidates),
                c=solution.c,
                metric=metric,
                score=score,
                iterations=solution.num_iterations,
                converged=solution.converged,
            )
        )
    return candidates


def _scored(scores_NK: np.ndarray, labels: np.ndarray) -> tuple[str, float]:
    """Give the name and the value of what candidates are compared by."""
    if labels.ndim == 2:
        return "map", mean_average_precision(scores_NK, labels)
    return "top1", float((scores_NK.argmax(axis=1) == labels).mean())


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
    from rsbench.probes import logistic, one_vs_rest

    if examples.labels.ndim == 2:
        return one_vs_rest.fit_path(
            scaling(examples.features_ND),
            examples.labels,
            cs=cs,
            tolerance=recipe.tolerance,
            max_iterations=recipe.max_iterations,
        )
    return logistic.fit_path(
        scaling(examples.features_ND),
        examples.labels,
        num_classes=num_classes,
        cs=cs,
        tolerance=recipe.tolerance,
        max_iterations=recipe.max_iterations,
    )


PROTOCOL = Protocol(
    name="linear_probe",
    version=2,
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
    targets=frozenset({"class", "multilabel"}),
    trains=True,
    selects_on="official validation, else held-out train",
    fit=fit,
    predict=predict,
    title="Logistic regression on frozen features, strength selected on held-out train",
    citation="Kornblith, Shlens, Le 2019 (arXiv 1805.08974); Chen et al. 2020 (arXiv 2002.05709).",
)
