"""Multinomial logistic regression over a path of strengths.

There is one objective, and every strength is stated as its C::

    sum over n of CE(y_n, W x_n + b) + |W|^2 / (2 C)          the bias b is not penalised

`to_c` turns the strengths of other codes into it. `rsbench.probes._path` says how a path is solved,
`rsbench.probes._descent` how a fit is, and what proves that it is done.

Shape letters: N examples, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rsbench.errors import DataError, RsbenchError

Array = npt.NDArray[np.float64]

Scale = Literal["sum", "half-sum", "mean", "C"]
"""What a strength multiplies: lambda |W|^2 beside the sum of losses (linear_eval, Kornblith et al.
2019), lambda/2 |W|^2 beside the sum (CLIP, ssl-transfer), lambda |W|^2 beside the mean, or C itself
(DINOv2)."""

Ending = Literal["gap", "iterations", "rounding"]
"""Why a fit ended: its gap was proven to be small; its iterations were used up (of one class at
least, where each is fitted alone); or float64 tells no way down, or no progress, any more. What
ended by rounding may be as good as can be, but that is not proven."""

_CONSTANT = 1e-6
"""A feature that varies by less than this, relative to its mean, holds rounding errors of float32
(resolution 6e-8) and is not blown up to unit variance."""


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
    ended: Ending
    relative_gap: float
    """A proven bound of how much the objective lies above the least one, relative to that: from
    duality, in float64, up to the rounding of its sums (`rsbench.probes._descent`). Where each
    class is fitted alone, the largest of the classes. 1e150 stands for nothing proven."""
    gradient_norm: float
    """Euclidean norm of the gradient of the objective divided by N, for features that are centred
    and, by one number for all, scaled to a largest entry near 1."""

    @property
    def converged(self) -> bool:
        """Whether the gap was proven to be within the tolerance."""
        return self.ended == "gap"


def ending(
    *, relative_gap: float, num_iterations: int, tolerance: float, max_iterations: int
) -> Ending:
    """Say why a fit of such a gap and so many iterations ended."""
    if relative_gap <= tolerance:
        return "gap"
    return "iterations" if num_iterations >= max_iterations else "rounding"


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
    device: str = "cpu",
    start: Solution | None = None,
) -> Iterator[Solution]:
    """Solve at each strength; all are solved when the first is asked for.

    Args:
        features_ND: (N, D), finite.
        labels_N: (N,) in [0, num_classes).
        num_classes: K; classes without examples are given probability 0.
        cs: Values of C from 1e-120 to 1e120, in any order.
        tolerance: The relative gap to stop at, above 0; see `Solution.relative_gap`.
        max_iterations: Iterations a strength, each at least one pass over the examples.
        device: Where to compute, as PyTorch names it; it must know float64.
        start: A solution for features that mean the same, to begin from where `cs` is near; the
            optimum does not depend on it, the time does.

    Yields:
        One solution a value of C, in rising order of C.

    Raises:
        DataError: Fewer than two classes have examples.
        RsbenchError: A feature is not finite or out of range, a strength is out of range or there
            is none, or the device can't be computed on.
    """
    import torch

    from rsbench.probes._objective import Softmax
    from rsbench.probes._path import Start, check_path, solve_path

    refuse_unless_finite(features_ND)
    check_path(cs, device=device)
    present, relabelled = np.unique(labels_N, return_inverse=True)
    if len(present) < 2:
        raise DataError(
            "A classifier needs examples of at least two classes to train on; there are"
            f" {len(labels_N)} examples of {len(present)}: add data of other classes."
        )
    begin = None
    if start is not None and np.isfinite(start.bias_K[present]).all():
        begin = Start(c=start.c, weights_KD=start.weight_KD[present], bias_K=start.bias_K[present])
    fits = solve_path(
        features_ND,
        Softmax(torch.from_numpy(relabelled).to(device), num_classes=len(present)),
        num_labels=1,
        cs=sorted(cs),
        tolerance=tolerance,
        max_iterations=max_iterations,
        device=device,
        start=begin,
    )
    for fit in fits:
        weight_KD = np.zeros((num_classes, features_ND.shape[1]))
        bias_K = np.full(num_classes, -np.inf)
        weight_KD[present], bias_K[present] = fit.weights_KD, fit.bias_K
        yield Solution(
            c=fit.c,
            weight_KD=weight_KD,
            bias_K=bias_K,
            num_iterations=fit.num_iterations,
            ended=ending(
                relative_gap=fit.relative_gap,
                num_iterations=fit.num_iterations,
                tolerance=tolerance,
                max_iterations=max_iterations,
            ),
            relative_gap=fit.relative_gap,
            gradient_norm=fit.gradient_norm,
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
