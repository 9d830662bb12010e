"""Scores of single views in halves: what they lose, and what is averaged of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import average_precision_score

from rsbench import view_scores
from rsbench.metrics import MAP_11, MEAN_AVERAGE_PRECISION
from rsbench.records import views as view_files
from rsbench.specs import Activation, Halves, ViewScores
from rsbench.view_scores import PROBABILITY_ERROR, average_views, to_halves


def _softmax_halves(logits_NVK: np.ndarray) -> Halves:
    return to_halves(view_scores.log_softmax(logits_NVK), "softmax")


def test_log_probabilities_are_those_of_scipy() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 4, 20))

    np.testing.assert_allclose(
        view_scores.log_softmax(logits), log_softmax(logits, axis=-1), atol=1e-12
    )


@pytest.mark.parametrize("spread", [0.01, 0.5, 1, 3, 10, 100, 3e4])
@pytest.mark.parametrize("num_classes", [2, 5, 400])
def test_a_probability_is_off_by_no_more_than_stated(num_classes: int, spread: float) -> None:
    generator = np.random.default_rng(num_classes)
    logits = generator.normal(0, spread, (20_000 // num_classes, 3, num_classes))

    halves = _softmax_halves(logits)

    for view in range(3):
        found = average_views(
            halves, "softmax", average="probability", views_NM=np.full((len(logits), 1), view)
        )
        # Second source: SciPy's softmax in float64.
        exact = softmax(logits[:, view], axis=-1)
        assert np.abs(found - exact).max() < PROBABILITY_ERROR
        best = exact.argmax(axis=1)[:, None]
        assert np.abs(np.take_along_axis(found - exact, best, axis=1)).max() < 1e-6
        np.testing.assert_array_equal(found.argmax(axis=1), exact.argmax(axis=1))


def test_the_stated_error_is_met_where_it_is_largest() -> None:
    # Two classes, the lower one d below: its p is 1 / (1 + e^d), its half is off by up to 2^-11
    # for d in [1, 2); the largest error is just above d = 1, 2^-11 / (1 + e).
    d = 1 + 2**-11 * 0.999
    found = average_views(
        _softmax_halves(np.array([[[0.0, -d]]])), "softmax", average="probability"
    )

    worst = abs(float(found[0, 1]) - 1 / (1 + math.exp(d)))

    assert worst == pytest.approx(2**-11 / (1 + math.e), rel=0.01)
    assert 0.9 * PROBABILITY_ERROR < worst < PROBABILITY_ERROR


def test_nearly_uniform_scores_stay_in_their_order() -> None:
    """Untrained networks say much the same of all classes; halves of ln p alone would make ties."""
    logits = np.random.default_rng(0).normal(0, 1e-3, (200, 1, 400))

    found = average_views(_softmax_halves(logits), "softmax", average="score")

    np.testing.assert_array_equal(found.argmax(axis=1), logits[:, 0].argmax(axis=1))
    of_five = np.argsort(-logits[:, 0], axis=1)[:, :5] == np.argsort(-found, axis=1)[:, :5]
    assert of_five.mean() > 0.99


@pytest.mark.parametrize("spread", [0.1, 1, 5, 30, 3e5])
def test_a_probability_of_a_label_is_off_by_no_more_than_stated(spread: float) -> None:
    logits = np.random.default_rng(1).normal(0, spread, (4000, 1, 5))

    found = average_views(to_halves(logits, "sigmoid"), "sigmoid", average="probability")

    # 2e-8 of the log-odds, and half a unit in the last place of a float32 below 1.
    assert np.abs(found - expit(logits[:, 0])).max() < 2e-8 + 2**-25


@pytest.mark.parametrize("num_views", [1, 3])
def test_average_precision_is_that_of_scores_in_full_precision(num_views: int) -> None:
    # As many items and classes as VOC2007's test set, positives some way above the others.
    generator = np.random.default_rng(0)
    truth = generator.random((4952, 20)) < 0.07
    logits = -6 + 3.5 * truth[:, None] + 1.5 * generator.normal(size=(4952, num_views, 20))
    targets = [tuple(np.flatnonzero(row)) for row in truth]

    found = average_views(to_halves(logits, "sigmoid"), "sigmoid", average="probability")

    exact = expit(logits).mean(axis=1)
    # Second source: scikit-learn on the float64 probabilities. As halves they were 1.6e-4 off.
    expected = average_precision_score(truth, exact, average="macro")
    assert MEAN_AVERAGE_PRECISION.compute(targets, list(found)) == pytest.approx(expected, abs=1e-6)
    by_eleven = MAP_11.compute(targets, list(exact))
    assert MAP_11.compute(targets, list(found)) == pytest.approx(by_eleven, abs=1e-6)


def test_scores_too_large_for_halves_stay_finite_and_classes_that_cannot_be_stay_out() -> None:
    logits = np.array([[[0.0, -1e5, -np.inf]]])

    halves = _softmax_halves(logits)

    assert halves.scores[0, 0].tolist() == [0.0, -65504.0, -np.inf]
    means = average_views(halves, "softmax", average="score")
    assert means[0].tolist() == [0.0, -65504.0, -np.inf]
    probabilities = average_views(halves, "softmax", average="probability")
    assert probabilities[0].tolist() == [1.0, 0.0, 0.0]


def test_probability_and_score_averages_are_those_worked_out_by_hand_and_differ() -> None:
    # Two views say class 0, and one is surer of class 1 than they are together of theirs.
    probabilities = np.array([[[0.8, 0.2], [0.8, 0.2], [0.01, 0.99]]])
    halves = to_halves(np.log(probabilities), "softmax")

    by_probability = average_views(halves, "softmax", average="probability")[0]
    by_score = average_views(halves, "softmax", average="score")[0]

    # Sums 1.61 and 1.39: class 0. Products 0.8 x 0.8 x 0.01 and 0.2 x 0.2 x 0.99: class 1.
    np.testing.assert_allclose(by_probability, [1.61 / 3, 1.39 / 3], atol=PROBABILITY_ERROR)
    np.testing.assert_allclose(by_score, [math.log(0.0064) / 3, math.log(0.0396) / 3], atol=1e-3)
    assert (by_probability.argmax(), by_score.argmax()) == (0, 1)


def test_the_mean_score_ranks_as_the_mean_logit_does() -> None:
    logits = np.random.default_rng(2).normal(0, 2, (100, 6, 30))

    found = average_views(_softmax_halves(logits), "softmax", average="score")

    np.testing.assert_array_equal(found.argmax(axis=1), logits.mean(axis=1).argmax(axis=1))


def test_all_views_named_one_by_one_give_the_same_bits_as_all() -> None:
    halves = _softmax_halves(np.random.default_rng(3).normal(0, 3, (40, 6, 7)))
    named = np.tile(np.arange(6), (40, 1))

    for average in ("probability", "score"):
        every = average_views(halves, "softmax", average=average)
        assert every.dtype == np.float32
        np.testing.assert_array_equal(
            every, average_views(halves, "softmax", average=average, views_NM=named)
        )


def test_each_item_is_averaged_over_its_own_views() -> None:
    halves = _softmax_halves(np.random.default_rng(4).normal(0, 3, (3, 4, 5)))
    chosen = np.array([[0, 1], [3, 3], [2, 0]])

    found = average_views(halves, "softmax", average="score", views_NM=chosen)

    for item, views in enumerate(chosen):
        rows = [
            halves.scores[item, view].astype(np.float64) + np.float64(halves.offsets[item, view])
            for view in views
        ]
        np.testing.assert_array_equal(found[item], ((rows[0] + rows[1]) / 2).astype(np.float32))


def test_a_failed_item_stays_without_numbers() -> None:
    halves = _softmax_halves(np.zeros((2, 3, 4)))
    halves.scores[1], halves.offsets[1] = np.nan, np.nan

    found = average_views(halves, "softmax", average="probability")

    assert found[0].tolist() == [0.25] * 4
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_averages_of_the_file_are_those_of_the_run_to_the_last_bit(
    tmp_path: Path, activation: Activation
) -> None:
    logits = np.random.default_rng(5).normal(0, 3, (40, 6, 7))
    halves = to_halves(logits, activation)
    means = [
        average_views(halves, activation, average=average) for average in ("probability", "score")
    ]
    header = view_files.ViewsHeader(
        kept="all", activation=activation, sampler="psf@1", frames=1, stride=1, clips=6, crops=1,
        cropper="psf@1", ids="",
    )  # fmt: skip
    scores = ViewScores(
        activation=activation, halves=halves, mean_probabilities=means[0], mean_scores=means[1]
    )
    path = tmp_path / "of a record.safetensors"
    path.write_bytes(b"".join(view_files.to_parts(header, [scores], [None] * 40)))

    stored = view_files.from_file(path, where="the file").halves

    assert stored is not None
    for average, mean in zip(("probability", "score"), means, strict=True):
        np.testing.assert_array_equal(average_views(stored, activation, average=average), mean)
    foretold = view_files.num_bytes(40, 6, 7, activation=activation, kept_all=True)
    assert 0 < path.stat().st_size - foretold < 1000
