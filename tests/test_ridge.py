"""The closed form of few-shot evaluation: its optimum, both of its forms, and its edges.

Second sources: scikit-learn's Ridge on the columns as the module states them, and big_vision's
fewshot_lsr.py written out in numpy (an eigendecomposition, where ours is a Cholesky factor).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import lstsq
from sklearn.linear_model import Ridge as RidgeOfScikitLearn

from rsbench.errors import DataError, RsbenchError
from rsbench.probes.ridge import solve


def _blobs(num_examples: int, width: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(num_examples) % num_classes
    centres = generator.normal(size=(num_classes, width))
    features = 3.0 + centres[labels] + 1.5 * generator.normal(size=(num_examples, width))
    return features.astype(np.float32), labels


def of_big_vision(
    features: np.ndarray, labels: np.ndarray, asked: np.ndarray, *, num_classes: int, l2: float
) -> np.ndarray:
    """Their `_precompute_cache` and `_eig_fewshot_acc_fn`, up to the argmax, in float64."""
    x = features.astype(np.float64)
    mean, std = x.mean(axis=0, keepdims=True), x.std(axis=0, keepdims=True) + 1e-5
    x = np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=100.0)
    y = 2.0 * np.eye(num_classes)[labels] - 1.0
    if x.shape[0] >= x.shape[1]:
        eigs, q = np.linalg.eigh(x.T @ x)
        rhs, lhs = q.T @ (x.T @ y), q
    else:
        eigs, q = np.linalg.eigh(x @ x.T)
        rhs, lhs = q.T @ y, x.T @ q
    w = (lhs / (eigs + l2)) @ rhs
    asked_columns = np.concatenate([(asked - mean) / std, np.full((len(asked), 1), 100.0)], axis=1)
    return asked_columns @ w


# Fewer examples than columns, as many but one, as many, and more: both forms and their border.
@pytest.mark.parametrize("num_examples", [10, 19, 20, 21, 60])
@pytest.mark.parametrize("strength", [1e-3, 2.0**10])
def test_the_optimum_is_that_of_scikit_learn_and_of_big_vision(
    num_examples: int, strength: float
) -> None:
    features, labels = _blobs(num_examples, 20, 5)
    asked, _ = _blobs(7, 20, 5)

    found = solve(features, labels, num_classes=5, strength=strength)

    x = features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-5
    columns = np.concatenate([(x - mean) / std, np.full((num_examples, 1), 100.0)], axis=1)
    peer = RidgeOfScikitLearn(alpha=strength, fit_intercept=False, solver="svd")
    peer.fit(columns, 2.0 * np.eye(5)[labels] - 1.0)
    np.testing.assert_allclose(found.weight_KD, peer.coef_[:, :-1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.bias_K, 100 * peer.coef_[:, -1], rtol=1e-6, atol=1e-9)
    theirs = of_big_vision(features, labels, asked, num_classes=5, l2=strength)
    np.testing.assert_allclose(found.scores(asked), theirs, rtol=1e-6, atol=1e-8)


def test_two_examples_of_one_feature_are_solved_as_by_hand() -> None:
    # Standardised they are -1 and 1 (but for the 1e-5). X = [[-1, 100], [1, 100]], X'X is
    # diag(2, 20000), X'Y of class 1 is (2, 0): the weight is 2 / (2 + strength), the bias 0.
    found = solve(np.array([[5.0], [7.0]]), np.array([0, 1]), num_classes=2, strength=2.0)

    np.testing.assert_allclose(found.weight_KD, [[-0.5], [0.5]], atol=1e-4)
    np.testing.assert_allclose(found.bias_K, [0.0, 0.0], atol=1e-9)


def test_a_class_without_examples_is_never_given() -> None:
    features, labels = _blobs(30, 6, 3)

    with_gap = solve(features, labels * 2, num_classes=6, strength=1.0)
    without = solve(features, labels, num_classes=3, strength=1.0)

    scores = with_gap.scores(features)
    assert (scores[:, 1::2] == -np.inf).all()
    np.testing.assert_array_equal(scores[:, ::2], without.scores(features))


def test_constant_features_are_ignored() -> None:
    features, labels = _blobs(30, 6, 3)
    with_constant = np.concatenate([features, np.full((30, 1), 0.1, dtype=np.float32)], axis=1)

    found = solve(with_constant, labels, num_classes=3, strength=1.0)

    plain = solve(features, labels, num_classes=3, strength=1.0)
    np.testing.assert_allclose(found.scores(with_constant), plain.scores(features), atol=1e-6)
    all_constant = solve(np.ones((30, 6)), labels, num_classes=3, strength=1.0)
    assert np.isfinite(all_constant.scores(features)).all()
    assert np.ptp(all_constant.scores(np.ones((1, 6)))) < 1e-9


def test_a_huge_strength_leaves_no_class_and_a_tiny_one_fits_the_examples() -> None:
    features, labels = _blobs(12, 20, 3)

    huge = solve(features, labels, num_classes=3, strength=1e30)
    tiny = solve(features, labels, num_classes=3, strength=1e-8)

    assert np.abs(huge.scores(features)).max() < 1e-20
    np.testing.assert_allclose(tiny.scores(features), 2 * np.eye(3)[labels] - 1, atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_examples", [20, 60])
@pytest.mark.parametrize("strength", [1e-12, 1e-300])
def test_repeated_columns_of_next_to_no_strength_have_the_least_weights(
    num_examples: int, strength: float
) -> None:
    # The limit for strengths toward 0 is the fit of least weights: scipy's lstsq.
    features, labels = _blobs(num_examples, 9, 3)
    repeated = np.repeat(features, 3, axis=1)

    found = solve(repeated, labels, num_classes=3, strength=strength)

    x = repeated.astype(np.float64)
    columns = np.concatenate(
        [(x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5), np.full((num_examples, 1), 100.0)], axis=1
    )
    least, *_ = lstsq(columns, 2.0 * np.eye(3)[labels] - 1.0)
    np.testing.assert_allclose(found.weight_KD, least[:-1].T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.bias_K, 100 * least[-1], rtol=1e-8, atol=1e-10)


def test_one_class_and_features_that_are_not_finite_are_refused() -> None:
    features, labels = _blobs(12, 4, 3)

    with pytest.raises(DataError, match=r"at least two classes.* 12 examples of 1"):
        solve(features, np.zeros(12, dtype=np.int64), num_classes=3, strength=1.0)
    features[3, 1] = np.nan
    features[5, 0] = np.inf
    with pytest.raises(RsbenchError, match="2 of 12 examples have NaN or infinity"):
        solve(features, labels, num_classes=3, strength=1.0)
