"""The optimum of the path solver is scikit-learn's, on five data sets and three conventions.

The second source is scikit-learn's Newton solver, whose steps do not slow down where the objective
is flat. It is given C as each convention's own code gives it (written out below), and features as
our solver gets them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.linear_model import LogisticRegression

from rsbench.probes import _objective, _path
from rsbench.probes.logistic import (
    Scale,
    Solution,
    fit_path,
    logits,
    objective,
    standardisation,
    to_c,
)

Set = tuple[np.ndarray, np.ndarray]


def _made() -> Set:
    return make_classification(
        600, 40, n_informative=12, n_redundant=20, n_classes=6, random_state=0, flip_y=0.1
    )


SETS: dict[str, Callable[[], Set]] = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    # Two fifths of it keep scikit-learn's Newton steps, of 640 unknowns, to a second or so.
    "digits": lambda: tuple(each[:700] for each in load_digits(return_X_y=True)),
    "made": _made,
}

# What each code hands to scikit-learn for its lambda: protocols that sum losses and halve nothing
# (linear_eval), that halve the penalty (CLIP), and that take the mean of losses.
CONVENTIONS: dict[Scale, Callable[[float, int], float]] = {
    "sum": lambda strength, num_examples: 1 / (2 * strength),
    "half-sum": lambda strength, num_examples: 1 / strength,
    "mean": lambda strength, num_examples: 1 / (2 * strength * num_examples),
}
STRENGTHS = {
    "sum": (1e-2, 1.0, 1e3),
    "half-sum": (1e-2, 1.0, 1e3),
    "mean": (1e-5, 1e-3, 1.0),
}


def _halves(name: str) -> tuple[Set, Set]:
    features, labels = SETS[name]()
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[::2], order[1::2]
    scaling = standardisation(features[train])
    return (scaling(features[train]), labels[train]), (scaling(features[test]), labels[test])


def _theirs(features: np.ndarray, labels: np.ndarray, c: float) -> Solution:
    """Fit by scikit-learn; two classes are one row w there, which is -w/2 and w/2 at twice C."""
    two = len(np.unique(labels)) == 2
    model = LogisticRegression(
        C=2 * c if two else c, solver="newton-cholesky", tol=1e-12, max_iter=500
    )
    with warnings.catch_warnings():
        # Its last step may bring nothing, which it says.
        warnings.simplefilter("ignore")
        model.fit(features, labels)
    weight, bias = model.coef_, model.intercept_
    if two:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Solution(
        c=c,
        weight_KD=weight,
        bias_K=bias,
        num_iterations=0,
        ended="gap",
        relative_gap=0.0,
        gradient_norm=0.0,
    )


def _ours(
    features: np.ndarray, labels: np.ndarray, cs: list[float], *, tolerance: float = 1e-7
) -> list[Solution]:
    return list(
        fit_path(
            features,
            labels,
            num_classes=int(labels.max()) + 1,
            cs=cs,
            tolerance=tolerance,
            max_iterations=2000,
        )
    )


@pytest.mark.parametrize("scale", CONVENTIONS)
@pytest.mark.parametrize("name", SETS)
def test_objective_and_test_predictions_are_those_of_scikit_learn(name: str, scale: Scale) -> None:
    (features, labels), (test_features, _) = _halves(name)
    strengths = sorted(STRENGTHS[scale], reverse=True)
    cs = [to_c(each, scale=scale, num_examples=len(labels)) for each in strengths]

    solutions = _ours(features, labels, cs)

    for strength, ours in zip(strengths, solutions, strict=True):
        theirs = _theirs(features, labels, CONVENTIONS[scale](strength, len(labels)))
        assert ours.converged
        least = objective(theirs, features, labels)
        assert abs(objective(ours, features, labels) / least - 1) < 1e-6
        np.testing.assert_array_equal(
            logits(ours.weight_KD, ours.bias_K, test_features).argmax(axis=1),
            logits(theirs.weight_KD, theirs.bias_K, test_features).argmax(axis=1),
        )


@pytest.mark.parametrize("exact", ["kept turned", "turned as it is read"])
def test_float32_passes_end_where_float64_does(monkeypatch: pytest.MonkeyPatch, exact: str) -> None:
    (features, labels), _ = _halves("made")
    cs = [1e-3, 1e-1, 10.0]
    in_float64 = _ours(features, labels, cs, tolerance=1e-9)

    monkeypatch.setattr(_path, "_WORTH_FLOAT32", 0)
    monkeypatch.setattr(_objective, "_EXAMPLES_AT_A_TIME", (32, 64))
    if exact == "turned as it is read":
        monkeypatch.setattr(_objective, "_LARGEST_COPY", 0)
    in_both = _ours(features, labels, cs, tolerance=1e-9)

    for one, other in zip(in_float64, in_both, strict=True):
        assert other.converged
        np.testing.assert_allclose(other.weight_KD, one.weight_KD, atol=1e-3)
        assert objective(other, features, labels) == pytest.approx(
            objective(one, features, labels), rel=2e-9
        )


@pytest.mark.parametrize(("num_examples", "width"), [(80, 12), (30, 90)], ids=["tall", "wide"])
def test_a_strength_ends_alike_alone_and_among_others(num_examples: int, width: int) -> None:
    generator = np.random.default_rng(3)
    features = generator.normal(size=(num_examples, width))
    labels = generator.integers(0, 5, num_examples)
    cs = list(np.geomspace(1e-4, 1e4, 33))

    path = _ours(features, labels, cs)

    for place in (0, 9, 18, 32):
        (alone,) = _ours(features, labels, [cs[place]])
        assert path[place].c == alone.c
        assert objective(path[place], features, labels) == pytest.approx(
            objective(alone, features, labels), rel=2e-7
        )
        # The strongest is begun alike; between others there is a cubic to begin from.
        assert place == 0 or path[place].num_iterations <= alone.num_iterations
    assert path[9].num_iterations < _ours(features, labels, [cs[9]])[0].num_iterations


def test_many_classes_go_one_strength_after_another_to_the_same_optimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (features, labels), _ = _halves("made")
    cs = list(np.geomspace(1e-3, 1e2, 9))
    together = _ours(features, labels, cs)

    # As with more classes than these, and with more than the metric has matrices for.
    monkeypatch.setattr(_path, "_MANY_ROWS", 2)
    monkeypatch.setattr(_objective, "_MOST_ROWS_IN_FULL", 2)
    apart = _ours(features, labels, cs)

    for one, other in zip(together, apart, strict=True):
        assert other.converged
        assert objective(other, features, labels) == pytest.approx(
            objective(one, features, labels), rel=2e-7
        )


@pytest.mark.parametrize("num_classes", [40, 300], ids=["matrix", "diagonal"])
@pytest.mark.parametrize("cs", [[1.0], [1e-2, 1.0], [100.0]], ids=["alone", "far apart", "weak"])
def test_few_examples_of_many_classes_are_solved_from_anywhere(
    num_classes: int, cs: list[float]
) -> None:
    # A class of four examples that all saturate has no second derivative, and yet a slope.
    generator = np.random.default_rng(0)
    labels = np.concatenate(
        [np.arange(num_classes), generator.integers(0, num_classes, 3 * num_classes)]
    )
    centres = 0.7 * generator.normal(size=(num_classes, 64))
    features = centres[labels] + generator.normal(size=(len(labels), 64))

    for ours in _ours(features, labels, cs):
        model = LogisticRegression(C=ours.c, tol=1e-7, max_iter=5000).fit(features, labels)
        theirs = replace(ours, weight_KD=model.coef_, bias_K=model.intercept_)
        assert ours.converged
        assert ours.num_iterations < 150
        assert objective(ours, features, labels) == pytest.approx(
            objective(theirs, features, labels), rel=1e-5
        )


def test_a_start_saves_iterations_and_moves_nothing() -> None:
    (features, labels), _ = _halves("digits")
    part = slice(0, 300)
    (before,) = _ours(features[part], labels[part], [10.0])
    (cold,) = _ours(features, labels, [10.0])

    (warm,) = fit_path(
        features,
        labels,
        num_classes=10,
        cs=[10.0],
        tolerance=1e-7,
        max_iterations=2000,
        start=before,
    )

    assert warm.converged
    assert warm.num_iterations < cold.num_iterations
    assert objective(warm, features, labels) == pytest.approx(
        objective(cold, features, labels), rel=2e-7
    )


def test_features_far_from_0_and_of_any_size_have_the_optimum_of_centred_ones() -> None:
    # A shift moves only the bias; features k times as large take weights a k-th as large, which is
    # C over k^2.
    (features, labels), (test_features, _) = _halves("wine")
    (plain,) = _ours(features, labels, [0.5], tolerance=1e-10)

    (moved,) = _ours(features * 1e6 + 3e7, labels, [0.5e-12], tolerance=1e-10)

    np.testing.assert_allclose(moved.weight_KD * 1e6, plain.weight_KD, atol=1e-4)
    np.testing.assert_allclose(
        logits(moved.weight_KD, moved.bias_K, test_features * 1e6 + 3e7),
        logits(plain.weight_KD, plain.bias_K, test_features),
        atol=1e-3,
    )


@pytest.mark.parametrize("c", [1e-99, 1e99])
def test_huge_strengths_give_numbers(c: float) -> None:
    (features, labels), _ = _halves("iris")

    (solution,) = fit_path(
        features, labels, num_classes=3, cs=[c], tolerance=1e-7, max_iterations=200
    )

    assert np.isfinite(solution.weight_KD).all()
    assert np.isfinite(solution.bias_K).all()
    assert np.isfinite([solution.relative_gap, solution.gradient_norm]).all()
    if c < 1:
        # Nothing but the bias is left: the classes' frequencies, as logarithms.
        assert solution.converged
        shares = np.bincount(labels) / len(labels)
        log_shares = np.log(shares) - np.log(shares).mean()
        np.testing.assert_allclose(solution.bias_K - solution.bias_K.mean(), log_shares, atol=1e-4)


def test_constant_features_learn_the_frequencies_and_nothing_else() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])

    (solution,) = fit_path(
        np.full((10, 4), 7.0), labels, num_classes=3, cs=[1.0], tolerance=1e-9, max_iterations=200
    )

    assert solution.converged
    assert (solution.weight_KD == 0).all()
    np.testing.assert_allclose(
        np.exp(solution.bias_K) / np.exp(solution.bias_K).sum(), [0.6, 0.3, 0.1], atol=1e-5
    )


def test_features_that_may_not_be_written_are_read() -> None:
    (features, labels), _ = _halves("iris")
    (one,) = _ours(features, labels, [1.0])
    locked = features.copy()
    locked.flags.writeable = False

    (other,) = _ours(locked, labels, [1.0])

    np.testing.assert_array_equal(one.weight_KD, other.weight_KD)


def test_small_fits_leave_pytorchs_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    (features, labels), _ = _halves("iris")
    torch.set_num_threads(2)
    try:
        _ours(features, labels, [1.0])

        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
