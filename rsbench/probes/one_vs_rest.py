"""Independent logistic regressions, one a class, for items that may have several classes.

There is one objective a class, and every strength is stated as its C::

    sum over n of BCE(y_nk, w_k x_n + b_k) + |w_k|^2 / (2 C)       the bias b_k is not penalised

so the sum over classes is that of `rsbench.probes.logistic` with the binary cross-entropy in place
of the multinomial, and the strengths of other codes convert alike (`logistic.to_c`).

The K problems share nothing but the features. They are solved together, by SciPy's L-BFGS in
float64 on the sum of their objectives, because one product with all K weights costs little more
than one with a few: 157 classes of 6,400 examples of 2,048 features would otherwise stream the
features through memory 157 times an iteration. From strong to weak regularisation, each start is
the solution before.

A class is solved where its gradient is small beside the root of its objective f (divided by N),
because f is then near its least value: a gradient g of the weights leaves at most C N |g|^2 / 2 to
be gained. Where weak regularisation tells all examples apart, f falls to a millionth, and a
gradient small beside 1 is met where f is still several times what it could be. Weights are counted
in units of 1 / sqrt(1 + 1 / (C N)), in which strong regularisation makes them no stiffer than the
bias.

Shape letters: N examples, D features, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no stubs

from rsbench.errors import DataError
from rsbench.probes.logistic import (
    Array,
    Solution,
    in_own_span,
    logits,
    refuse_unless_finite,
    threads_worth,
)

Truth = npt.NDArray[np.bool_]

_LINE_SEARCH_STEPS = 50
_RELATIVE_DECREASE = 64 * np.finfo(np.float64).eps
"""What scikit-learn tells L-BFGS (LogisticRegression, `maxls` and `ftol`): the gradient decides."""

_LEAST_OBJECTIVE = 1e-12
"""An objective (divided by N) below which a class counts as being there: no score would change."""


def fit_path(
    features_ND: npt.NDArray[np.floating],
    truth_NK: Truth,
    *,
    cs: Sequence[float],
    tolerance: float,
    max_iterations: int,
) -> Iterator[Solution]:
    """Solve at each strength, strongest regularisation (smallest C) first.

    Args:
        features_ND: (N, D), finite.
        truth_NK: Whether an example has a class.
        cs: Values of C, in any order.
        tolerance: Largest entry of a class's gradient over the root of its objective, both divided
            by N, at which to stop; `converged` says that every class got there.
        max_iterations: L-BFGS iterations a strength.

    Yields:
        One solution a value of C, in rising order of C. A class that no example has, or all have,
        is not learned: its weights are 0 and its bias the log-odds of half an example more on
        either side.

    Raises:
        DataError: No class is had by some examples and not by others.
        RsbenchError: A feature is not finite.
    """
    refuse_unless_finite(features_ND)
    num_positive_K = truth_NK.sum(axis=0)
    learned = np.flatnonzero((num_positive_K > 0) & (num_positive_K < len(truth_NK)))
    if not len(learned):
        raise DataError(
            "A classifier needs a class that some examples have and others have not; of"
            f" {len(truth_NK)} examples and {truth_NK.shape[1]} classes there is none: add data."
        )
    num_threads = threads_worth(features_ND.size * len(learned))
    bias_K = np.log((num_positive_K + 0.5) / (len(truth_NK) - num_positive_K + 0.5))
    with threadpool_limits(num_threads):
        features, basis = in_own_span(features_ND.astype(np.float64))
    problem = _Problem(features, truth_NK[:, learned])
    parameters = np.concatenate(
        [np.zeros((len(learned), features.shape[1])), bias_K[learned, None]], axis=1
    )
    for c in sorted(cs):
        with threadpool_limits(num_threads):
            parameters, num_iterations, converged = problem.solve(
                parameters, c, tolerance=tolerance, max_iterations=max_iterations
            )
            weights = parameters[:, :-1] if basis is None else parameters[:, :-1] @ basis.T
        weight_KD = np.zeros((truth_NK.shape[1], weights.shape[1]))
        weight_KD[learned] = weights
        solved_bias_K = bias_K.copy()
        solved_bias_K[learned] = parameters[:, -1]
        yield Solution(
            c=c,
            weight_KD=weight_KD,
            bias_K=solved_bias_K,
            num_iterations=num_iterations,
            converged=converged,
        )


def objective(solution: Solution, features_ND: npt.NDArray[np.floating], truth_NK: Truth) -> Array:
    """Give the value of each class's objective at a solution, (K,)."""
    scores_NK = logits(solution.weight_KD, solution.bias_K, features_ND)
    losses_K = _losses(scores_NK, truth_NK)[0].sum(axis=0)
    penalties_K = (solution.weight_KD**2).sum(axis=1) / (2 * solution.c)
    values: Array = losses_K + penalties_K
    return values


class _Problem:
    """The classes' objectives, divided by N."""

    def __init__(self, features_ND: Array, truth_NK: Truth) -> None:
        self._features_ND = features_ND
        self._truth_NK = truth_NK

    def solve(
        self, start_KP: Array, c: float, *, tolerance: float, max_iterations: int
    ) -> tuple[Array, int, bool]:
        """Give (parameters, iterations, converged); a row is a class's weights and its bias."""
        from scipy.optimize import minimize

        parameters, num_iterations = start_KP, 0
        scales_P = np.ones(start_KP.shape[1])
        scales_P[:-1] = 1 / math.sqrt(1 + 1 / (c * len(self._features_ND)))
        while True:
            values_K, gradient_KP = self._values_and_gradients(parameters, c)
            units_K = np.sqrt(np.maximum(values_K, _LEAST_OBJECTIVE))
            largest_K = np.abs(gradient_KP * scales_P).max(axis=1)
            converged = bool((largest_K <= tolerance * units_K).all())
            if converged or num_iterations >= max_iterations:
                return parameters, num_iterations, converged
            # Each class in a unit of its own: the sum has the same optimum, and one tolerance does
            # for every class. As objectives fall the units are too large; another round mends them.
            found = minimize(
                self._value_and_gradient,
                (parameters / scales_P).ravel(),
                args=(c, units_K, scales_P),
                jac=True,
                method="L-BFGS-B",
                options={
                    "gtol": tolerance,
                    # It is held against the sum or 1, whichever is larger.
                    "ftol": _RELATIVE_DECREASE * min(1.0, float(units_K.sum())),
                    "maxiter": max_iterations - num_iterations,
                    # Every iteration may search along its line; the iterations are what is bounded.
                    "maxfun": max_iterations * _LINE_SEARCH_STEPS,
                    "maxls": _LINE_SEARCH_STEPS,
                },
            )
            if not found.nit:  # Rounding leaves no way down.
                return parameters, num_iterations, False
            parameters = found.x.reshape(start_KP.shape) * scales_P
            num_iterations += int(found.nit)

    def _value_and_gradient(
        self, flat: Array, c: float, units_K: Array, scales_P: Array
    ) -> tuple[float, Array]:
        """Give the sum of the classes' objectives, each in its unit, and its gradient."""
        parameters_KP = flat.reshape(len(units_K), -1) * scales_P
        values_K, gradient_KP = self._values_and_gradients(parameters_KP, c)
        gradient_KP *= scales_P / units_K[:, None]
        return float((values_K / units_K).sum()), gradient_KP.ravel()

    def _values_and_gradients(self, parameters_KP: Array, c: float) -> tuple[Array, Array]:
        """Give each class's objective divided by N, (K,), and its gradient, (K, P)."""
        num_examples = len(self._features_ND)
        weight_KD, bias_K = parameters_KP[:, :-1], parameters_KP[:, -1]
        scores_NK = self._features_ND @ weight_KD.T + bias_K
        losses_NK, probabilities_NK = _losses(scores_NK, self._truth_NK)
        values_K: Array = losses_NK.sum(axis=0) + (weight_KD**2).sum(axis=1) / (2 * c)
        residuals_NK = probabilities_NK - self._truth_NK
        gradient_KP = np.empty_like(parameters_KP)
        np.matmul(residuals_NK.T, self._features_ND, out=gradient_KP[:, :-1])
        gradient_KP[:, :-1] += weight_KD / c
        gradient_KP[:, -1] = residuals_NK.sum(axis=0)
        return values_K / num_examples, gradient_KP / num_examples


def _losses(scores_NK: Array, truth_NK: Truth) -> tuple[Array, Array]:
    """Give each entry's cross-entropy, log(1 + exp(z)) - y z, and 1 / (1 + exp(-z)).

    Neither overflows, and one exponential serves both.
    """
    small = np.exp(-np.abs(scores_NK))
    losses: Array = np.maximum(scores_NK, 0.0) + np.log1p(small)
    losses -= np.where(truth_NK, scores_NK, 0.0)
    probabilities: Array = np.where(scores_NK >= 0, 1.0, small) / (1.0 + small)
    return losses, probabilities
