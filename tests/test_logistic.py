"""The logistic-regression path: one objective, its optimum, and its edges.

The second source is scipy's general minimiser (BFGS-type, gradient written here by hand) on the
objective as the module states it: sum of CE + |W|^2 / (2 C).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.optimize
from scipy.special import softmax

from rsbench.errors import DataError, RsbenchError
from rsbench.probes import one_vs_rest
from rsbench.probes.logistic import (
    Solution,
    fit_path,
    logits,
    objective,
    standardisation,
    to_c,
)


def _blobs(
    num_examples: int, width: int, num_classes: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(num_examples) % num_classes
    centres = generator.normal(size=(num_classes, width))
    return centres[labels] + 1.5 * generator.normal(size=(num_examples, width)), labels


def _solve(
    features: np.ndarray, labels: np.ndarray, *, num_classes: int, cs: list[float]
) -> list[Solution]:
    return list(
        fit_path(
            features,
            labels,
            num_classes=num_classes,
            cs=cs,
            tolerance=1e-8,
            max_iterations=5000,
        )
    )


def _optimum_by_scipy(
    features: np.ndarray, labels: np.ndarray, *, num_classes: int, c: float
) -> tuple[np.ndarray, np.ndarray, float]:
    num_examples, width = features.shape
    one_hot = np.eye(num_classes)[labels]

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat[: num_classes * width].reshape(num_classes, width)
        scores = features @ weight.T + flat[num_classes * width :]
        log_sums = scipy.special.logsumexp(scores, axis=1)
        value = (log_sums - scores[np.arange(num_examples), labels]).sum()
        slope = np.exp(scores - log_sums[:, None]) - one_hot
        gradient = np.concatenate([(slope.T @ features + weight / c).ravel(), slope.sum(axis=0)])
        return value + (weight**2).sum() / (2 * c), gradient

    found = scipy.optimize.minimize(
        value_and_gradient,
        np.zeros(num_classes * (width + 1)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    weight = found.x[: num_classes * width].reshape(num_classes, width)
    return weight, found.x[num_classes * width :], float(found.fun)


@pytest.mark.parametrize(
    ("num_examples", "width", "num_classes"),
    [(60, 5, 3), (60, 5, 2), (20, 50, 4), (20, 50, 2)],
    ids=["tall", "tall, two classes", "wide", "wide, two classes"],
)
@pytest.mark.parametrize("c", [0.01, 1.0, 10.0])
def test_the_optimum_is_that_of_a_general_minimiser(
    num_examples: int, width: int, num_classes: int, c: float
) -> None:
    features, labels = _blobs(num_examples, width, num_classes)
    weight, bias, least = _optimum_by_scipy(features, labels, num_classes=num_classes, c=c)

    (solution,) = _solve(features, labels, num_classes=num_classes, cs=[c])

    assert objective(solution, features, labels) == pytest.approx(least, rel=1e-7)
    np.testing.assert_allclose(solution.weight_KD, weight, atol=2e-4)
    # The bias is free up to a constant, which the softmax does not see.
    np.testing.assert_allclose(
        solution.bias_K - solution.bias_K.mean(), bias - bias.mean(), atol=2e-3
    )


def test_the_objective_is_the_one_written_at_the_top() -> None:
    # By hand: both scores 0, so CE is ln 2 an example; |W|^2 / (2 C) = (9 + 16) / 4.
    solution = Solution(
        c=2.0,
        weight_KD=np.array([[3.0, 0.0], [0.0, 4.0]]),
        bias_K=np.zeros(2),
        num_iterations=0,
        ended="gap",
        relative_gap=0.0,
        gradient_norm=0.0,
    )

    value = objective(solution, np.zeros((5, 2)), np.array([0, 1, 0, 1, 0]))

    assert value == pytest.approx(5 * np.log(2) + 25 / 4)


def test_the_mappings_of_other_codes_reach_the_same_optimum() -> None:
    # protocols.md 5.2: the same problem stated as linear_eval, CLIP, DINOv2 and mean-loss codes do.
    features, labels = _blobs(40, 4, 3)
    c = 0.25
    stated = {
        "sum": 1 / (2 * c),  # sum CE + lambda |W|^2
        "half-sum": 1 / c,  # sum CE + lambda/2 |W|^2
        "C": c,
        "mean": 1 / (2 * c * 40),  # mean CE + lambda |W|^2
    }

    cs = {
        scale: to_c(strength, scale=scale, num_examples=40)  # type: ignore[arg-type]
        for scale, strength in stated.items()
    }

    assert cs == pytest.approx(dict.fromkeys(stated, c))
    first, *others = (
        _solve(features, labels, num_classes=3, cs=[value])[0].weight_KD for value in cs.values()
    )
    for other in others:
        np.testing.assert_allclose(first, other, atol=1e-5)


def test_kornblith_strengths_become_these_c() -> None:
    # linear_eval: C = 1 / (2 lambda), protocols.md 5.2.
    assert to_c(1e-6, scale="sum", num_examples=1) == pytest.approx(500_000)
    assert to_c(1e5, scale="sum", num_examples=1) == pytest.approx(5e-6)


def test_the_path_goes_from_strong_to_weak_and_gives_each_strength_its_own_optimum() -> None:
    features, labels = _blobs(40, 4, 3)

    path = _solve(features, labels, num_classes=3, cs=[1.0, 1e-3, 0.1])

    assert [solution.c for solution in path] == [1e-3, 0.1, 1.0]
    for solution in path:
        least = _optimum_by_scipy(features, labels, num_classes=3, c=solution.c)[2]
        assert objective(solution, features, labels) == pytest.approx(least, rel=1e-7)
    norms = [np.linalg.norm(solution.weight_KD) for solution in path]
    assert norms == sorted(norms)


def test_a_class_without_examples_has_probability_0_and_moves_nothing() -> None:
    features, labels = _blobs(30, 4, 3)
    spread = np.array([0, 2, 4])[labels]

    (solution,) = _solve(features, spread, num_classes=5, cs=[1.0])
    (dense,) = _solve(features, labels, num_classes=3, cs=[1.0])

    probabilities = softmax(logits(solution.weight_KD, solution.bias_K, features), axis=-1)
    assert (probabilities[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(solution.weight_KD[[0, 2, 4]], dense.weight_KD)


def test_one_class_alone_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        _solve(np.zeros((4, 2)), np.full(4, 2), num_classes=3, cs=[1.0])


def test_features_that_are_not_finite_are_an_error() -> None:
    features, labels = _blobs(10, 3, 2)
    features[4, 1] = np.nan

    with pytest.raises(RsbenchError, match="1 of 10 examples"):
        _solve(features, labels, num_classes=2, cs=[1.0])


@pytest.mark.parametrize(
    ("cs", "message"),
    [
        ([], "cs must hold at least one strength"),
        ([1.0, 0.0], "Each C must be .* one was 0"),
        ([-1.0], "one was -1"),
        ([np.inf], "one was inf"),
        ([np.nan], "one was nan"),
    ],
)
def test_strengths_out_of_range_are_named(cs: list[float], message: str) -> None:
    features, labels = _blobs(10, 3, 2)

    with pytest.raises(RsbenchError, match=message):
        _solve(features, labels, num_classes=2, cs=cs)
    with pytest.raises(RsbenchError, match=message):
        next(
            one_vs_rest.fit_path(
                features, labels[:, None] == [[0, 1]], cs=cs, tolerance=1e-6, max_iterations=9
            )
        )


@pytest.mark.parametrize("device", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_there_is_named_in_one_line(device: str) -> None:
    features, labels = _blobs(10, 3, 2)
    fits = fit_path(
        features,
        labels,
        num_classes=2,
        cs=[1.0],
        tolerance=1e-6,
        max_iterations=9,
        device=device,
    )

    with pytest.raises(RsbenchError, match=f"it was '{device}'") as caught:
        next(fits)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e308])
def test_features_whose_squares_are_no_numbers_are_refused(scale: float) -> None:
    features, labels = _blobs(10, 3, 2)
    largest = features / np.abs(features).max()

    with pytest.raises(RsbenchError, match="away from their mean"):
        _solve(largest * scale, labels, num_classes=2, cs=[1.0])


def test_what_did_not_converge_is_recorded_and_does_not_warn() -> None:
    features, labels = _blobs(200, 10, 4)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (short,) = fit_path(
            features, labels, num_classes=4, cs=[1e5], tolerance=1e-10, max_iterations=2
        )
        (enough,) = fit_path(
            features, labels, num_classes=4, cs=[0.1], tolerance=1e-4, max_iterations=1000
        )

    assert not short.converged
    assert short.num_iterations == 2
    assert enough.converged


def test_constant_features_are_not_blown_up_by_standardising() -> None:
    # 0.1 in float32 is 0.100000001490116...: its deviation is rounding, not signal.
    features = np.full((50, 3), 0.1, dtype=np.float32)
    features[:, 1] = np.nextafter(np.float32(0.1), np.float32(1)) * np.ones(50, dtype=np.float32)
    features[::2, 1] = np.float32(0.1)
    features[:, 2] = np.linspace(0, 1e-9, 50)

    scaling = standardisation(features)
    scaled = scaling(features)

    assert np.abs(scaled[:, :2]).max() < 1e-6
    assert scaled[:, 2].std() == pytest.approx(1)
    assert scaled[:, 2].mean() == pytest.approx(0, abs=1e-12)


def test_equal_input_gives_equal_bits() -> None:
    features, labels = _blobs(30, 60, 3)

    first, again = (_solve(features, labels, num_classes=3, cs=[0.1, 1.0]) for _ in range(2))

    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.weight_KD, other.weight_KD)
