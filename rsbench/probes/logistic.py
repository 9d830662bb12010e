"""Multinomial logistic regression over a path of strengths.

There is one objective, and every strength is stated as its C::

    sum over n of CE(y_n, W x_n + b) + |W|^2 / (2 C)          the bias b is not penalised

`to_c` turns the strengths of other codes into it. The solver is scikit-learn's L-BFGS in float64,
from strong to weak, each start being the solution before. Two exact reformulations are made first:

- With fewer examples than features, X is replaced by R^T of X^T = Q R, n wide instead of D: the
  penalty does not change under rotation and the optimum lies in the span of X, so W = W' Q^T.
- scikit-learn solves two classes with one weight vector w, penalised by |w|^2; the two rows
  -w/2 and w/2 have the penalty |w|^2 / 2, so it is given 2 C.

Shape letters: N examples, D features, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no stubs

from rsbench.errors import DataError, RsbenchError

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

Scale = Literal["sum", "half-sum", "mean", "C"]
"""What a strength multiplies: lambda |W|^2 beside the sum of losses (linear_eval, Kornblith et al.
2019), lambda/2 |W|^2 beside the sum (CLIP, ssl-transfer), lambda |W|^2 beside the mean, or C itself
(DINOv2)."""

_CONSTANT = 1e-6
"""A feature that varies by less than this, relative to its mean, holds rounding errors of float32
(resolution 6e-8) and is not blown up to unit variance."""


_WORTH_THREADS = 20_000_000
"""N x D x K from which a pass over the data is given more than one thread. A pass below it takes a
few milliseconds, and where other processes want the cores, waiting for the second thread is dear:
45 strengths of 400 x 64 x 8 took 8.3 s with two threads and 0.6 s with one, on two busy cores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standardisation:
    """What makes features comparable: x -> (x - mean) / std."""

    mean_D: Array
    std_D: Array
    """1 where the feature is constant."""

    def __call__(self, features_ND: npt.NDArray[np.floating]) -> Array:
        """Standardise features (..., D), giving float64."""
        standardised: Array = (features_ND.astype(np.float64) - self.mean_D) / self.std_D
        return standardised


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """The optimum at one strength."""

    c: float
    weight_KD: Array
    """Rows of classes without examples are 0."""
    bias_K: Array
    """-inf for classes without examples: their probability is 0, as in the limit it must be."""
    num_iterations: int
    converged: bool
    """Whether the gradient fell below the tolerance before the iterations ran out."""


def to_c(strength: float, *, scale: Scale, num_examples: int) -> float:
    """Convert a strength to the C of this module's objective.

    Args:
        strength: As the other code states it, above 0.
        scale: What it multiplies there.
        num_examples: N of the fit; only "mean" needs it.
    """
    if scale == "C":
        return strength
    if scale == "half-sum":
        return 1 / strength
    return 1 / (2 * strength * (num_examples if scale == "mean" else 1))


def standardisation(features_ND: npt.NDArray[np.floating]) -> Standardisation:
    """Measure mean and standard deviation (of the N, not N - 1) of each feature.

    Args:
        features_ND: (N, D), finite.
    """
    features = features_ND.astype(np.float64)
    mean, std = features.mean(axis=0), features.std(axis=0)
    constant = std <= _CONSTANT * np.abs(mean)
    return Standardisation(mean_D=mean, std_D=np.where(constant, 1.0, std))


def fit_path(
    features_ND: npt.NDArray[np.floating],
    labels_N: npt.NDArray[np.integer],
    *,
    num_classes: int,
    cs: Sequence[float],
    tolerance: float,
    max_iterations: int,
) -> Iterator[Solution]:
    """Solve at each strength, strongest regularisation (smallest C) first.

    Args:
        features_ND: (N, D), finite.
        labels_N: (N,) in [0, num_classes).
        num_classes: K; classes without examples are given probability 0.
        cs: Values of C, in any order.
        tolerance: Largest entry of the gradient of the objective divided by N, at which to stop.
        max_iterations: L-BFGS iterations a strength.

    Yields:
        One solution a value of C, in rising order of C.

    Raises:
        DataError: Fewer than two classes have examples.
        RsbenchError: A feature is not finite.
    """
    refuse_unless_finite(features_ND)
    present, relabelled = np.unique(labels_N, return_inverse=True)
    if len(present) < 2:
        raise DataError(
            "A classifier needs examples of at least two classes to train on; there are"
            f" {len(labels_N)} examples of {len(present)}: add data of other classes."
        )
    num_threads = threads_worth(features_ND.size * len(present))
    with threadpool_limits(num_threads):
        features, basis = in_own_span(features_ND.astype(np.float64))
    solver = _solver(tolerance=tolerance, max_iterations=max_iterations)
    for c in sorted(cs):
        solver.set_params(C=2 * c if len(present) == 2 else c)
        with threadpool_limits(num_threads):
            converged = _fit(solver, features, relabelled)
            coefficients = solver.coef_ if basis is None else solver.coef_ @ basis.T
        weight, bias = _rows_for_all(
            coefficients, solver.intercept_, present=present, num_classes=num_classes
        )
        yield Solution(
            c=c,
            weight_KD=weight,
            bias_K=bias,
            num_iterations=int(np.max(solver.n_iter_)),
            converged=converged,
        )


def logits(weight_KD: Array, bias_K: Array, features_ND: npt.NDArray[np.floating]) -> Array:
    """Give W x + b for features (..., D), float64 (..., K)."""
    scores: Array = features_ND.astype(np.float64) @ weight_KD.T + bias_K
    return scores


def objective(
    solution: Solution, features_ND: npt.NDArray[np.floating], labels_N: npt.NDArray[np.integer]
) -> float:
    """Give the value of the objective at a solution: sum of losses + |W|^2 / (2 C)."""
    scores = logits(solution.weight_KD, solution.bias_K, features_ND)
    largest = scores.max(axis=1)
    log_normalisers = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
    losses = log_normalisers - scores[np.arange(len(scores)), labels_N]
    return float(losses.sum() + (solution.weight_KD**2).sum() / (2 * solution.c))


def refuse_unless_finite(features_ND: npt.NDArray[np.floating]) -> None:
    """Refuse features (N, D) with NaN or infinity.

    Raises:
        RsbenchError: Some are not finite; says how many examples.
    """
    if not np.isfinite(features_ND).all():
        bad = int((~np.isfinite(features_ND).all(axis=1)).sum())
        raise RsbenchError(
            f"Features must be finite; {bad} of {len(features_ND)} examples have NaN or infinity:"
            " look at the network's outputs, or run it in float32."
        )


def threads_worth(products: int) -> int | None:
    """Say how many threads a pass of N x D x K products is given: 1, or None for all there are."""
    return 1 if products < _WORTH_THREADS else None


def in_own_span(features_ND: Array) -> tuple[Array, Array | None]:
    """Give coordinates (N, r) and a basis (D, r) of the span of the examples.

    With at least as many examples as features they are given as they are, and None.
    """
    num_examples, width = features_ND.shape
    if num_examples >= width:
        return features_ND, None
    basis, coordinates = np.linalg.qr(features_ND.T)
    return np.ascontiguousarray(coordinates.T), basis


def _solver(*, tolerance: float, max_iterations: int) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        solver="lbfgs", tol=tolerance, max_iter=max_iterations, warm_start=True
    )


def _fit(solver: LogisticRegression, features: Array, labels: Labels) -> bool:
    """Fit in place; say whether it converged, which scikit-learn tells by a warning."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver.fit(features, labels)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _rows_for_all(
    weight: Array, bias: Array, *, present: npt.NDArray[np.integer], num_classes: int
) -> tuple[Array, Array]:
    """Give every class its row: (K, D) and (K,)."""
    if len(present) == 2:
        weight = np.concatenate([-weight / 2, weight / 2])
        bias = np.concatenate([-bias / 2, bias / 2])
    weight_KD = np.zeros((num_classes, weight.shape[1]))
    bias_K = np.full(num_classes, -np.inf)
    weight_KD[present], bias_K[present] = weight, bias
    return weight_KD, bias_K
