"""Least squares with a penalty, in closed form: the linear classifier of few-shot evaluation.

The rule is that of big_vision (evaluators/fewshot_lsr.py; there since Kolesnikov et al. 2020, Big
Transfer, arXiv 1912.11370): features standardised by the mean and deviation of the examples, a
constant column of 100 for the bias, targets of 1 for the class and -1 for the others, and::

    min over W of |X W - Y|^2 + strength |W|^2

The bias is penalised with the rest; the constant being 100, that hardly holds it back.

W = (X'X + strength I)^-1 X'Y = X' (XX' + strength I)^-1 Y; the second form is solved where there
are fewer examples than columns. Either matrix is positive definite, so that the optimum is one, is
exact to rounding, and asks for no iterations. Where the strength is so small beside X'X that the
sum loses it, the same W is made of X's singular values; what of them is rounding counts as 0.

Shape letters: N examples, D features, K classes, P columns (the features and the constant).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsbench.probes._given import check_examples

Array = npt.NDArray[np.float64]

BIAS_COLUMN = 100.0
"""The constant column (fewshot_lsr.py, BIAS_CONSTANT)."""

_ADDED_DEVIATION = 1e-5
"""Added to each deviation, so that a constant feature stays 0 (fewshot_lsr.py)."""

_SMALL = 1e-12
"""Strength over the trace of X'X below which float64 (resolution 2e-16) loses digits of the sum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ridge:
    """The optimum, as a classifier of features as they are."""

    mean_D: Array
    std_D: Array
    """With what was added to it."""
    weight_KD: Array
    """Of standardised features. Rows of classes without examples are 0."""
    bias_K: Array
    """-inf for classes without examples, which are never given."""

    def scores(self, features_ND: npt.NDArray[np.floating]) -> Array:
        """Give the fitted values of features (..., D): float64 (..., K), near 1 for the class."""
        standardised = (features_ND.astype(np.float64) - self.mean_D) / self.std_D
        scores: Array = standardised @ self.weight_KD.T + self.bias_K
        return scores


def solve(
    features_ND: npt.NDArray[np.floating],
    labels_N: npt.NDArray[np.integer],
    *,
    num_classes: int,
    strength: float,
) -> Ridge:
    """Fit a linear classifier by penalised least squares.

    Args:
        features_ND: (N, D), finite.
        labels_N: (N,) in [0, num_classes).
        num_classes: K.
        strength: What |W|^2 is multiplied by, above 0.

    Raises:
        DataError: Fewer than two classes have examples.
        RsbenchError: A feature is not finite.
    """
    assert strength > 0, "without a penalty the optimum need not be one"
    present = check_examples(features_ND, labels_N)
    features = features_ND.astype(np.float64)
    mean_D, std_D = features.mean(axis=0), features.std(axis=0) + _ADDED_DEVIATION
    columns_NP = np.concatenate(
        [(features - mean_D) / std_D, np.full((len(features), 1), BIAS_COLUMN)], axis=1
    )
    targets_NK = np.where(labels_N[:, None] == present, 1.0, -1.0)
    found_PK = _least_squares(columns_NP, targets_NK, strength)
    weight_KD = np.zeros((num_classes, columns_NP.shape[1] - 1))
    weight_KD[present] = found_PK[:-1].T
    bias_K = np.full(num_classes, -np.inf)
    bias_K[present] = BIAS_COLUMN * found_PK[-1]
    return Ridge(mean_D=mean_D, std_D=std_D, weight_KD=weight_KD, bias_K=bias_K)


def _least_squares(columns_NP: Array, targets_NK: Array, strength: float) -> Array:
    """Minimise |X W - Y|^2 + strength |W|^2: (P, K)."""
    from scipy.linalg import solve as solve_linear
    from scipy.linalg import svd

    num_examples, num_columns = columns_NP.shape
    found_PK: Array
    if strength < _SMALL * np.square(columns_NP).sum():
        left_NS, singular_S, right_SP = svd(columns_NP, full_matrices=False)
        rounding = np.finfo(np.float64).eps * max(columns_NP.shape) * singular_S[0]
        singular_S = singular_S[singular_S > rounding]
        rank = len(singular_S)
        shares_SK = left_NS[:, :rank].T @ targets_NK
        shares_SK /= (singular_S + strength / singular_S)[:, None]
        found_PK = right_SP[:rank].T @ shares_SK
    elif num_examples < num_columns:
        products_NN = columns_NP @ columns_NP.T
        products_NN[np.diag_indices(num_examples)] += strength
        found_PK = columns_NP.T @ solve_linear(products_NN, targets_NK, assume_a="pos")
    else:
        products_PP = columns_NP.T @ columns_NP
        products_PP[np.diag_indices(num_columns)] += strength
        found_PK = solve_linear(products_PP, columns_NP.T @ targets_NK, assume_a="pos")
    return found_PK
