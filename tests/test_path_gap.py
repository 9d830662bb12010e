"""The gap is a proof: at no iterate is the objective further from the least than it says.

The least objective is that of scikit-learn's Newton solver. Iterates are those of fits that were
stopped early, near the optimum and far from it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rsbench.probes import _descent, one_vs_rest
from rsbench.probes.logistic import Solution, fit_path, objective

EARLY = (0, 1, 2, 3, 5, 8, 13, 21)
CS = (1e-3, 1.0, 1e3)


def _world(num_examples: int, width: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(num_examples + width)
    labels = np.arange(num_examples) % num_classes
    # Uneven classes, so that biases have something to do.
    labels[: num_examples // 4] = 0
    centres = generator.normal(size=(num_classes, width))
    return centres[labels] + 2.0 * generator.normal(size=(num_examples, width)) + 1.0, labels


def _newton(features: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-13, max_iter=500)
    return model.fit(features, labels)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("settling", [0, _descent._SETTLING], ids=["as it is", "biases settled"])
@pytest.mark.parametrize(("num_examples", "width"), [(90, 7), (24, 40)], ids=["tall", "wide"])
@pytest.mark.parametrize("c", CS)
def test_an_early_fit_is_no_further_from_the_least_objective_than_its_gap_says(
    monkeypatch: pytest.MonkeyPatch, c: float, num_examples: int, width: int, settling: int
) -> None:
    monkeypatch.setattr(_descent, "_SETTLING", settling)
    features, labels = _world(num_examples, width, 3)
    model = _newton(features, labels, c)
    gaps = []
    for max_iterations in EARLY:
        (early,) = fit_path(
            features, labels, num_classes=3, cs=[c], tolerance=1e-13, max_iterations=max_iterations
        )
        theirs = replace(early, weight_KD=model.coef_, bias_K=model.intercept_)
        least = objective(theirs, features, labels)
        true_gap = objective(early, features, labels) / least - 1
        assert true_gap <= early.relative_gap + 1e-12
        gaps.append(early.relative_gap)
    # And it says something: it falls as fits go on.
    assert gaps[-1] < 1e-2 * gaps[0]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("settling", [0, _descent._SETTLING], ids=["as it is", "biases settled"])
@pytest.mark.parametrize("c", CS)
def test_a_class_fitted_alone_is_no_further_than_its_gap_says(
    monkeypatch: pytest.MonkeyPatch, c: float, settling: int
) -> None:
    monkeypatch.setattr(_descent, "_SETTLING", settling)
    features, labels = _world(90, 7, 2)
    truth = labels[:, None] == [[1]]
    model = _newton(features, labels, c)
    for max_iterations in EARLY:
        (early,) = one_vs_rest.fit_path(
            features, truth, cs=[c], tolerance=1e-13, max_iterations=max_iterations
        )
        theirs = replace(early, weight_KD=model.coef_, bias_K=model.intercept_)
        least = one_vs_rest.objective(theirs, features, truth)[0]
        true_gap = one_vs_rest.objective(early, features, truth)[0] / least - 1
        assert true_gap <= early.relative_gap + 1e-12


def test_a_solution_at_a_gap_has_converged_and_one_that_ran_out_has_not() -> None:
    features, labels = _world(90, 7, 3)

    def fit(max_iterations: int) -> Solution:
        (solution,) = fit_path(
            features,
            labels,
            num_classes=3,
            cs=[10.0],
            tolerance=1e-8,
            max_iterations=max_iterations,
        )
        return solution

    short, enough = fit(3), fit(1000)

    assert short.num_iterations == 3
    assert not short.converged
    assert short.ended == "iterations"
    assert short.relative_gap > 1e-8
    assert enough.converged
    assert enough.ended == "gap"
    assert enough.relative_gap <= 1e-8
    assert enough.gradient_norm < short.gradient_norm


def test_what_float64_can_not_prove_ended_by_rounding() -> None:
    # The bound divides the gradient's rounding by a strength of next to nothing.
    features, labels = _world(90, 7, 3)

    (fit,) = fit_path(
        features, labels, num_classes=3, cs=[1e16], tolerance=1e-7, max_iterations=1000
    )

    assert fit.ended == "rounding"
    assert not fit.converged
    assert fit.num_iterations < 1000
    # And yet it is as good as one of a strength that makes no difference any more.
    (proven,) = fit_path(
        features, labels, num_classes=3, cs=[1e12], tolerance=1e-7, max_iterations=1000
    )
    theirs = objective(replace(proven, c=1e16), features, labels)
    assert objective(fit, features, labels) == pytest.approx(theirs, rel=1e-7)


@pytest.mark.parametrize("max_iterations", [1, 4])
@pytest.mark.parametrize("c", [0.3, 30.0])
def test_the_gap_is_to_the_dual_objective_of_mended_probabilities(
    monkeypatch: pytest.MonkeyPatch, c: float, max_iterations: int
) -> None:
    # By hand, from the definition: probabilities p' with the classes' true frequencies have the
    # dual objective  entropy(p') - C/2 |sum of (p' - y) x|^2  (sums over examples), of which the
    # entropy of the constant part is left out; features are centred, as biases are free.
    monkeypatch.setattr(_descent, "_SETTLING", 0)
    features, labels = _world(90, 7, 3)
    (early,) = fit_path(
        features, labels, num_classes=3, cs=[c], tolerance=1e-13, max_iterations=max_iterations
    )
    scores = features @ early.weight_KD.T + early.bias_K
    probabilities = np.exp(scores - np.logaddexp.reduce(scores, axis=1)[:, None])
    truth = np.eye(3)[labels]
    surplus = (probabilities - truth).mean(axis=0)
    assert np.abs(surplus).max() > 1e-6
    share = (surplus / probabilities.mean(axis=0)).max()
    mended = (1 - share) * probabilities + share * (probabilities.mean(axis=0) - surplus / share)
    assert (mended >= -1e-12).all()
    np.testing.assert_allclose(mended.mean(axis=0), truth.mean(axis=0))
    entropy = -(1 - share) * (probabilities * np.log(probabilities)).sum()
    moved = (mended - truth).T @ (features - features.mean(axis=0))
    least = entropy - c / 2 * (moved**2).sum()

    expected = objective(early, features, labels) / least - 1

    if least > 0:
        assert early.relative_gap == pytest.approx(expected, rel=1e-6)
    else:
        assert early.relative_gap == 1e150
