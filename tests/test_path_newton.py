"""Fits that L-BFGS does not end go on by Newton's steps, to the optimum of scikit-learn.

Slow are examples that come in nearly equal ones of different classes: weak strengths tell them
apart by the features in which they hardly differ.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rsbench.probes import _conjugate, _descent, _path, one_vs_rest
from rsbench.probes._objective import Loss, Objective, Sigmoid, Softmax, exact_inputs, look
from rsbench.probes.logistic import Solution, fit_path, logits, objective, standardisation

NUM_CLASSES = 4
CS = [10.0, 1e3, 1e4]


def _twins(num_places: int = 16, width: int = 48) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give standardised examples, one of each class near each of some places; labels; tests."""
    generator = np.random.default_rng(0)

    def near(places: np.ndarray) -> np.ndarray:
        distances = 10 ** generator.uniform(-4, -1, size=(len(places), 1))
        return places + distances * generator.normal(size=places.shape)

    spread = 10 ** (-np.arange(width) / width)
    places = np.repeat(generator.normal(size=(num_places, width)) * spread, NUM_CLASSES, axis=0)
    features, tests = near(places), near(places)
    scaling = standardisation(features)
    labels = np.arange(len(features)) % NUM_CLASSES
    return scaling(features), labels, scaling(tests)


def _fits(
    features: np.ndarray, labels: np.ndarray, *, max_iterations: int = 1000
) -> list[Solution]:
    return list(
        fit_path(
            features,
            labels,
            num_classes=NUM_CLASSES,
            cs=CS,
            tolerance=1e-7,
            max_iterations=max_iterations,
        )
    )


def _newton(features: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=500)
    with warnings.catch_warnings():
        # Its last step may bring nothing, which it says.
        warnings.simplefilter("ignore")
        return model.fit(features, labels)


@pytest.mark.parametrize("precision", ["float64", "float32 first"])
def test_nearly_equal_examples_are_told_apart_at_the_optimum_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    if precision == "float32 first":
        monkeypatch.setattr(_path, "_WORTH_FLOAT32", 0)
    features, labels, tests = _twins()

    fits = _fits(features, labels)

    for ours in fits:
        model = _newton(features, labels, ours.c)
        theirs = replace(ours, weight_KD=model.coef_, bias_K=model.intercept_)
        assert ours.converged
        assert objective(ours, features, labels) == pytest.approx(
            objective(theirs, features, labels), rel=1e-6
        )
        found = logits(ours.weight_KD, ours.bias_K, tests).argmax(axis=1)
        np.testing.assert_array_equal(found, model.predict(tests))
    # The last is slow.
    assert fits[-1].num_iterations > _path._SLOW


def test_features_that_differ_by_rounding_give_the_same_labels() -> None:
    # As those of a network differ that looks at batches of another size.
    features, labels, tests = _twins()
    noise = np.random.default_rng(1).uniform(-1, 1, size=features.shape)

    before, after = _fits(features, labels), _fits(features * (1 + 1e-7 * noise), labels)

    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(
            logits(one.weight_KD, one.bias_K, tests).argmax(axis=1),
            logits(other.weight_KD, other.bias_K, tests).argmax(axis=1),
        )


def test_classes_fitted_alone_are_told_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # One at a time, as where residuals are many.
    monkeypatch.setattr(_descent, "_LARGEST_RESIDUALS", 1)
    monkeypatch.setattr(_path, "_SLOW", 5)
    features, labels, _ = _twins()
    truth = labels[:, None] == np.arange(NUM_CLASSES)

    (ours,) = one_vs_rest.fit_path(features, truth, cs=[1e3], tolerance=1e-7, max_iterations=60)

    models = [_newton(features, truth[:, place], 1e3) for place in range(NUM_CLASSES)]
    theirs = replace(
        ours,
        weight_KD=np.concatenate([model.coef_ for model in models]),
        bias_K=np.concatenate([model.intercept_ for model in models]),
    )
    assert ours.converged
    np.testing.assert_allclose(
        one_vs_rest.objective(ours, features, truth),
        one_vs_rest.objective(theirs, features, truth),
        rtol=1e-6,
    )


def test_newtons_steps_are_iterations_that_can_be_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_path, "_SLOW", 20)
    features, labels, _ = _twins()

    short, enough = (_fits(features, labels, max_iterations=most)[-1] for most in (23, 200))

    assert short.ended == "iterations"
    assert short.num_iterations == 23
    assert enough.converged
    assert enough.num_iterations < 100


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_second_derivatives_are_those_of_autograd(kind: str) -> None:
    features, labels, _ = _twins(4, 6)
    frame, given = look(features, device="cpu")
    loss: Loss
    if kind == "softmax":
        loss = Softmax(torch.from_numpy(labels), num_classes=NUM_CLASSES)
    else:
        loss = Sigmoid(torch.from_numpy((labels == 1)[None].astype(np.float32)))
    ours = Objective(exact_inputs(frame, given), loss, frame)
    inputs = frame.turned(given, torch.float64)
    generator = torch.Generator().manual_seed(0)
    shape = (1, loss.num_rows, inputs.shape[1])
    at, move = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in "ab")
    first, strengths = torch.zeros(1, dtype=torch.long), torch.tensor([0.3], dtype=torch.float64)

    def by_hand(flat: torch.Tensor) -> torch.Tensor:
        weights = flat.view(shape)[0]
        scores = inputs @ weights.T
        if kind == "softmax":
            mean = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels))
        else:
            truth = torch.from_numpy(labels == 1).double()
            mean = torch.nn.functional.binary_cross_entropy_with_logits(scores[:, 0], truth)
        return mean + 0.3 / 2 * weights[:, :-1].square().sum()

    second = torch.autograd.functional.hessian(by_hand, at.flatten())

    bent = ours.bent(move, strengths, ours.residuals(at, first))

    torch.testing.assert_close(bent.flatten(), second @ move.flatten())


class _Dense:
    """Equations with matrices, measured by nothing."""

    def __init__(self, matrices: torch.Tensor) -> None:
        self.matrices = matrices

    def times(self, moves: torch.Tensor) -> torch.Tensor:
        return (self.matrices @ moves.flatten(1)[..., None]).view_as(moves)

    def measured(self, residuals: torch.Tensor) -> torch.Tensor:
        return residuals

    def left(self, residuals: torch.Tensor) -> torch.Tensor:
        return residuals.square().sum((1, 2))

    def at(self, going: torch.Tensor) -> _Dense:
        return _Dense(self.matrices[going])


def test_equations_are_solved_each_as_far_as_is_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    halves = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64)
    matrices = halves @ halves.transpose(1, 2) + torch.eye(8, dtype=torch.float64)
    rights = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    rights[2] = 0
    enough = torch.tensor([1e-20, 1e-2, 0.0], dtype=torch.float64)

    found = _conjugate.solve(_Dense(matrices), rights, enough_B=enough, most_products=100)

    expected = torch.linalg.solve(matrices, rights.flatten(1)[..., None]).view_as(rights)
    torch.testing.assert_close(found[0], expected[0])
    left = _Dense(matrices).left(rights - _Dense(matrices).times(found))
    assert (left <= enough).all()
    assert left[1] > 1e-12
