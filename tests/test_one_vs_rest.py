"""Several labels an item: each class's optimum is scikit-learn's for that class alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rsbench.errors import DataError, RsbenchError
from rsbench.probes.logistic import logits, to_c
from rsbench.probes.one_vs_rest import fit_path, objective
from rsbench.protocols.linear_probe import PROTOCOL


def world(num_examples: int, width: int, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Noisy features and labels that overlap: an item has two classes on average."""
    random = np.random.default_rng(0)
    features = random.normal(size=(num_examples, width))
    planes = random.normal(size=(width, num_classes)) / np.sqrt(width)
    truth = features @ planes + random.normal(size=(num_examples, num_classes)) > 0
    return features, truth


# More examples than features, and fewer: the second is solved in the span of the examples.
@pytest.mark.parametrize(("num_examples", "width"), [(80, 6), (30, 50)])
def test_each_class_has_the_optimum_that_scikit_learn_finds_for_it_alone(num_examples, width):
    features, truth = world(num_examples, width)
    cs = [10.0, 0.01, 1.0]

    solutions = list(fit_path(features, truth, cs=cs, tolerance=1e-11, max_iterations=2000))

    assert [solution.c for solution in solutions] == sorted(cs)
    for solution in solutions:
        assert solution.converged
        for k in range(truth.shape[1]):
            alone = LogisticRegression(C=solution.c, tol=1e-10, max_iter=5000)
            alone.fit(features, truth[:, k])
            np.testing.assert_allclose(solution.weight_KD[k], alone.coef_[0], atol=1e-4)
            np.testing.assert_allclose(solution.bias_K[k], alone.intercept_[0], atol=1e-4)
            np.testing.assert_allclose(
                1 / (1 + np.exp(-logits(solution.weight_KD, solution.bias_K, features)[:, k])),
                alone.predict_proba(features)[:, 1],
                atol=1e-5,
            )


# The Newton steps of the other solver stop by rounding, beyond what is asked for here, and say so.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
# The ends and the middle of the protocol's strengths, at its own tolerance. Where there are more
# features than examples every class can be told apart without a fault.
@pytest.mark.parametrize(("num_examples", "width"), [(200, 20), (60, 150)])
def test_the_protocols_own_tolerance_gives_the_objective_of_scikit_learn(num_examples, width):
    recipe = PROTOCOL.recipe
    ends = (float(recipe["strength_min"]), float(recipe["strength_max"]))
    cs = [to_c(strength, scale="sum", num_examples=0) for strength in (*ends, 1e-3, 0.5)]
    features, truth = world(num_examples, width)

    solutions = fit_path(
        features,
        truth,
        cs=cs,
        tolerance=float(recipe["tolerance"]),
        max_iterations=int(recipe["max_iterations"]),
    )
    for solution in solutions:
        assert solution.converged
        for k in range(truth.shape[1]):
            # Newton's steps do not slow down where the objective is flat.
            alone = LogisticRegression(C=solution.c, tol=1e-12, max_iter=500, solver="newton-cg")
            alone.fit(features, truth[:, k])
            theirs = replace(solution, weight_KD=alone.coef_, bias_K=alone.intercept_)
            least = objective(theirs, features, truth[:, [k]])[0]
            assert objective(solution, features, truth)[k] <= least * (1 + 1e-4)


def test_the_objective_is_the_sum_of_losses_and_the_penalty_by_hand():
    features, truth = world(12, 3, num_classes=2)
    (solution,) = fit_path(features, truth, cs=[0.5], tolerance=1e-9, max_iterations=500)

    for k in range(2):
        by_hand = sum(w * w for w in solution.weight_KD[k]) / (2 * 0.5)
        for x, y in zip(features, truth[:, k], strict=True):
            p = 1 / (1 + np.exp(-(x @ solution.weight_KD[k] + solution.bias_K[k])))
            by_hand -= np.log(p if y else 1 - p)
        assert objective(solution, features, truth)[k] == pytest.approx(by_hand)


def test_classes_that_nobody_or_everybody_has_are_scored_by_their_number_alone():
    features, truth = world(20, 3, num_classes=3)
    truth[:, 0], truth[:, 2] = False, True

    (solution,) = fit_path(features, truth, cs=[1.0], tolerance=1e-8, max_iterations=500)

    assert (solution.weight_KD[[0, 2]] == 0).all()
    # Half an example more on either side: log(0.5 / 20.5) and its opposite.
    np.testing.assert_allclose(solution.bias_K[[0, 2]], [np.log(0.5 / 20.5), np.log(20.5 / 0.5)])
    assert np.abs(solution.weight_KD[1]).max() > 0


def test_huge_scores_do_not_overflow():
    features = np.array([[-1e6], [1e6]])
    truth = np.array([[False], [True]])

    with np.errstate(all="raise", under="ignore"):
        (solution,) = fit_path(features, truth, cs=[1e6], tolerance=1e-6, max_iterations=50)

    assert np.isfinite(solution.weight_KD).all()
    assert np.isfinite(objective(solution, features, truth)).all()


def test_iterations_that_run_out_are_told():
    features, truth = world(200, 30)

    (solution,) = fit_path(features, truth, cs=[1e4], tolerance=1e-12, max_iterations=2)

    assert not solution.converged
    assert solution.num_iterations == 2


def test_labels_that_tell_nothing_apart_are_refused():
    features, truth = world(10, 3)

    with pytest.raises(DataError, match="10 examples and 4 classes there is none"):
        next(fit_path(features, truth | True, cs=[1.0], tolerance=1e-6, max_iterations=10))


def test_features_that_are_not_finite_are_refused():
    features, truth = world(10, 3)
    features[3, 1] = np.nan

    with pytest.raises(RsbenchError, match="1 of 10 examples"):
        next(fit_path(features, truth, cs=[1.0], tolerance=1e-6, max_iterations=10))
