"""Independent logistic regressions, one a class, for items that may have several classes.

There is one objective a class, and every strength is stated as its C::

    sum over n of BCE(y_nk, w_k x_n + b_k) + |w_k|^2 / (2 C)       the bias b_k is not penalised

so the sum over classes is that of `rsbench.probes.logistic` with the binary cross-entropy in place
of the multinomial, and the strengths of other codes convert alike (`logistic.to_c`).

The K problems share nothing but the features. They are solved side by side, because one product
with the weights of all costs little more than one with a few: 157 classes of 6,400 examples of
2,048 features would otherwise stream the features through memory 157 times an iteration. Each has a
gap of its own, and leaves when that is small (`rsbench.probes._path`).

Shape letters: N examples, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rsbench.errors import DataError
from rsbench.probes.logistic import Array, Solution, ending, logits, refuse_unless_finite

Truth = npt.NDArray[np.bool_]


def fit_path(
    features_ND: npt.NDArray[np.floating],
    truth_NK: Truth,
    *,
    cs: Sequence[float],
    tolerance: float,
    max_iterations: int,
    device: str = "cpu",
    start: Solution | None = None,
) -> Iterator[Solution]:
    """Solve at each strength; all are solved when the first is asked for.

    Args:
        features_ND: (N, D), finite.
        truth_NK: Whether an example has a class.
        cs: Values of C from 1e-120 to 1e120, in any order.
        tolerance: The relative gap at which a class stops, above 0; `converged` says that every
            class got there.
        max_iterations: Iterations a class and strength.
        device: Where to compute, as PyTorch names it; it must know float64.
        start: A solution for features that mean the same, to begin from where `cs` is near; the
            optimum does not depend on it, the time does.

    Yields:
        One solution a value of C, in rising order of C. A class that no example has, or all have,
        is not learned: its weights are 0 and its bias the log-odds of half an example more on
        either side.

    Raises:
        DataError: No class is had by some examples and not by others.
        RsbenchError: A feature is not finite or out of range, a strength is out of range or there
            is none, or the device can't be computed on.
    """
    import torch

    from rsbench.probes._objective import Sigmoid
    from rsbench.probes._path import Start, check_path, solve_path

    refuse_unless_finite(features_ND)
    check_path(cs, device=device)
    num_positive_K = truth_NK.sum(axis=0)
    learned = np.flatnonzero((num_positive_K > 0) & (num_positive_K < len(truth_NK)))
    if not len(learned):
        raise DataError(
            "A classifier needs a class that some examples have and others have not; of"
            f" {len(truth_NK)} examples and {truth_NK.shape[1]} classes there is none: add data."
        )
    log_odds_K = np.log((num_positive_K + 0.5) / (len(truth_NK) - num_positive_K + 0.5))
    begin = None
    if start is not None:
        begin = Start(c=start.c, weights_KD=start.weight_KD[learned], bias_K=start.bias_K[learned])
    fits = solve_path(
        features_ND,
        Sigmoid(torch.from_numpy(truth_NK[:, learned].T.astype(np.float32)).to(device)),
        num_labels=len(learned),
        cs=sorted(cs),
        tolerance=tolerance,
        max_iterations=max_iterations,
        device=device,
        start=begin,
    )
    for fit in fits:
        weight_KD = np.zeros((truth_NK.shape[1], features_ND.shape[1]))
        bias_K = log_odds_K.copy()
        weight_KD[learned], bias_K[learned] = fit.weights_KD, fit.bias_K
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


def objective(solution: Solution, features_ND: npt.NDArray[np.floating], truth_NK: Truth) -> Array:
    """Give the value of each class's objective at a solution, (K,)."""
    scores_NK = logits(solution.weight_KD, solution.bias_K, features_ND)
    small = np.exp(-np.abs(scores_NK))
    losses_NK = np.maximum(scores_NK, 0.0) + np.log1p(small) - np.where(truth_NK, scores_NK, 0.0)
    penalties_K = (solution.weight_KD**2).sum(axis=1) / (2 * solution.c)
    values: Array = losses_NK.sum(axis=0) + penalties_K
    return values
