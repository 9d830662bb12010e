"""What the protocols of logistic regression share: one flow, in which the search for λ differs.

Read the examples, fit at the strengths that the search asks for, compare them on examples that were
not fitted on, fit again on everything at the best, predict by the mean over views. A tie goes to
the stronger regularisation.

Where an item may have several labels, each class has a logistic regression of its own, all of one
strength, which is selected by mean average precision; the sigmoid takes the place of the softmax.

Shape letters: N examples, V views, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rsbench.protocols._multilabel import mean_average_precision
from rsbench.protocols._probing import Examples, SelectionSets, read_training, selection_sets
from rsbench.protocols._recipes import choice, flag, number, whole
from rsbench.protocols._views import activation_of, predict_views
from rsbench.specs import FitRequest, Fitted, Predictions, PredictRequest, Scalar

if TYPE_CHECKING:
    import numpy as np

    from rsbench.probes.logistic import Scale, Solution, Standardisation

SOLVER_RECIPE: Mapping[str, Scalar] = {"tolerance": 1e-7, "max_iterations": 1000}
"""The part of a recipe that says when a fit is done: at an objective at most so much above the
least one, relative to it; a fit that runs out of iterations first is recorded as not converged."""


_ROUNDING = 1e-6
"""What varies by less than this, relative to its mean, varies by rounding (float32: 6e-8)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitting:
    """How every fit of a protocol is made, the strength apart."""

    strengths: tuple[float, ...]
    """The grid, rising."""
    scale: Scale
    """What a strength multiplies; see `rsbench.probes.logistic.to_c`."""
    held_out: float
    standardise: bool
    tolerance: float
    max_iterations: int

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> Fitting:
        """Read it out of a recipe.

        Raises:
            RsbenchError: A value is out of its range.
        """
        import numpy as np

        # The squares of weights as large as strengths allow must still be numbers.
        least = number(recipe, "strength_min", least=1e-100, most=1e100)
        most = number(recipe, "strength_max", least=least, most=1e100)
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
class Candidate:
    """One strength with its score on the examples that settings are selected on."""

    strength: float
    c: float
    """The same as `rsbench.probes.logistic` states it; smaller is stronger regularisation."""
    metric: str
    score: float
    """Top-1 in [0, 1], or mean average precision."""
    certificate: Mapping[str, Scalar]
    """How near to the least objective its fit came."""

    def row(self, *, chosen: bool) -> Mapping[str, Scalar]:
        """Give its line of the record's selection trace."""
        return {
            "strength": self.strength,
            "c": self.c,
            f"held_out_{self.metric}": self.score,
            **self.certificate,
            "chosen": chosen,
        }


Score = Callable[[Sequence[float]], list[Candidate]]
"""Fits at some strengths and scores each, strongest regularisation first."""


def fit_by(
    request: FitRequest, fitting: Fitting, search: Callable[[Score], Sequence[Candidate]]
) -> Fitted:
    """Select a strength and fit with it on all there is.

    Args:
        request: What may be seen.
        fitting: How each fit is made.
        search: Given the means to score strengths, tries some and gives all that it tried.

    Raises:
        DataError: Fewer than two classes could be read, or there is nothing to select on.
        RunError: A feature is not finite, or the cache can't be written.
    """
    assert request.train is not None, "a probe trains"
    num_classes = len(request.train.classes)
    training = read_training(request)
    sets = selection_sets(request, training.train, training.validation, held_out=fitting.held_out)
    started = time.perf_counter()
    device = request.settings.device
    comparison = _Comparison(sets, fitting, num_classes=num_classes, device=device)
    candidates = search(comparison.score)
    best, nearby = better_of(candidates), comparison.solution
    selected_on, num_selected_on = sets.where, len(sets.held)
    # Their copies of the features make room for that of all of them.
    del comparison, sets
    everything = training.everything
    scaling = _scaling(everything, fitting)
    (solution,) = _solutions(
        _Problem(
            inputs_ND=scaling(everything.features_ND),
            labels=everything.labels,
            num_classes=num_classes,
            device=device,
        ),
        fitting,
        [best.strength],
        start=nearby,
    )
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
            "selected_on": selected_on,
            "num_selected_on": num_selected_on,
            "num_fitted_on": len(everything),
            "num_constant_features": _num_constant(everything),
            **_certificate(solution),
        },
        failures=everything.failures,
        remarks=everything.remarks,
        seconds=time.perf_counter() - started,
    )


def better_of(candidates: Sequence[Candidate]) -> Candidate:
    """Give the candidate of the best score; of equals the one of the stronger regularisation."""
    return max(candidates, key=lambda each: (each.score, -each.c))


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
class _Problem:
    """What is fitted, the strength apart."""

    inputs_ND: np.ndarray
    """float64 (N, D)."""
    labels: np.ndarray
    num_classes: int
    device: str


class _Comparison:
    """Fits on some examples, scored on others; the best fit so far is kept to start others from."""

    def __init__(
        self, sets: SelectionSets, fitting: Fitting, *, num_classes: int, device: str
    ) -> None:
        scaling = _scaling(sets.kept, fitting)
        self._fitting = fitting
        self._problem = _Problem(
            inputs_ND=scaling(sets.kept.features_ND),
            labels=sets.kept.labels,
            num_classes=num_classes,
            device=device,
        )
        self._held_ND = scaling(sets.held.features_ND)
        self._held_labels = sets.held.labels
        self._best: tuple[Candidate, Solution] | None = None

    @property
    def solution(self) -> Solution | None:
        """The solution of the best candidate scored so far."""
        return None if self._best is None else self._best[1]

    def score(self, strengths: Sequence[float]) -> list[Candidate]:
        """Fit and score each strength, strongest regularisation first."""
        by_c = {_c_of(each, self._fitting, len(self._problem.labels)): each for each in strengths}
        ordered = [by_c[c] for c in sorted(by_c)]
        solutions = _solutions(self._problem, self._fitting, ordered, start=self.solution)
        return [
            self._scored(strength, solution)
            for strength, solution in zip(ordered, solutions, strict=True)
        ]

    def _scored(self, strength: float, solution: Solution) -> Candidate:
        from rsbench.probes.logistic import logits

        scores_NK = logits(solution.weight_KD, solution.bias_K, self._held_ND)
        candidate = Candidate(
            strength=strength,
            c=solution.c,
            metric="top1" if self._held_labels.ndim == 1 else "map",
            score=_score_of(scores_NK, self._held_labels),
            certificate=_certificate(solution),
        )
        if self._best is None or better_of([self._best[0], candidate]) is candidate:
            self._best = (candidate, solution)
        return candidate


def _score_of(scores_NK: np.ndarray, labels: np.ndarray) -> float:
    """Give what candidates are compared by."""
    if labels.ndim == 2:
        return mean_average_precision(scores_NK, labels)
    return float((scores_NK.argmax(axis=1) == labels).mean())


def _certificate(solution: Solution) -> dict[str, Scalar]:
    """Say how near to the least objective a fit came."""
    return {
        "iterations": solution.num_iterations,
        "converged": solution.converged,
        "ended": solution.ended,
        "relative_gap": solution.relative_gap,
        "gradient_norm": solution.gradient_norm,
    }


def _num_constant(examples: Examples) -> int:
    """Count the features that are the same in all examples: nothing can be learned from them."""
    import numpy as np

    features_ND = examples.features_ND
    rounding_D = _ROUNDING * np.abs(features_ND.mean(axis=0))
    return int(np.count_nonzero(np.ptp(features_ND, axis=0) <= rounding_D))


def _c_of(strength: float, fitting: Fitting, num_examples: int) -> float:
    from rsbench.probes.logistic import to_c

    return to_c(strength, scale=fitting.scale, num_examples=num_examples)


def _scaling(examples: Examples, fitting: Fitting) -> Standardisation:
    import numpy as np

    from rsbench.probes.logistic import Standardisation, standardisation

    if fitting.standardise and len(examples):
        return standardisation(examples.features_ND)
    width = examples.features_ND.shape[1]
    return Standardisation(mean_D=np.zeros(width), std_D=np.ones(width))


def _solutions(
    problem: _Problem, fitting: Fitting, strengths: Sequence[float], *, start: Solution | None
) -> Iterator[Solution]:
    """Solve at some strengths, given in the order of rising C."""
    from rsbench.probes import logistic, one_vs_rest

    cs = [_c_of(each, fitting, len(problem.labels)) for each in strengths]
    if problem.labels.ndim == 2:
        return one_vs_rest.fit_path(
            problem.inputs_ND,
            problem.labels,
            cs=cs,
            tolerance=fitting.tolerance,
            max_iterations=fitting.max_iterations,
            device=problem.device,
            start=start,
        )
    return logistic.fit_path(
        problem.inputs_ND,
        problem.labels,
        num_classes=problem.num_classes,
        cs=cs,
        tolerance=fitting.tolerance,
        max_iterations=fitting.max_iterations,
        device=problem.device,
        start=start,
    )
