"""CLIP's linear probe: its grid, its search, and scikit-learn's optimum at what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from small_world import (
    fit_request,
    image_reading,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)

from rsbench.data.features import extract
from rsbench.errors import RsbenchError
from rsbench.protocols._logistic import Candidate
from rsbench.protocols.linear_probe_clip import PROTOCOL, fit, predict, search_by_halving
from rsbench.specs import Fitted, ItemSet
from rsbench.view_scores import PROBABILITY_ERROR

NUM_POINTS, STEP = 97, 16


pytestmark = pytest.mark.usefixtures("one_thread")


def _searched(height: Callable[[int], float], *, num_points: int = NUM_POINTS) -> list[int]:
    """Give the points that a search tries where the score of a point is its height."""

    def score(points: Sequence[int]) -> list[Candidate]:
        assert points, "nothing is not scored"
        return [
            Candidate(
                strength=float(point),
                c=10.0**-point,
                metric="top1",
                score=height(point),
                certificate={},
            )
            for point in points
        ]

    tried = search_by_halving(
        score, place_of=lambda each: int(each.strength), num_points=num_points, step=STEP
    )
    return [int(each.strength) for each in tried]


def test_the_search_tries_every_sixteenth_and_closes_in_on_the_peak() -> None:
    # By hand for a peak at 39.6 (protocols.md 5.5): 32 is nearest among sixteenths (48 is farther),
    # then 40 of {24, 40}, which stays the best.
    tried = _searched(lambda point: -abs(point - 39.6))

    assert tried == [0, 16, 32, 48, 64, 80, 96, 24, 40, 36, 44, 38, 42, 39, 41]


@pytest.mark.parametrize("peak", range(NUM_POINTS))
def test_the_search_finds_the_peak_of_scores_that_rise_and_fall(peak: int) -> None:
    heights = [-((point - peak) ** 2) for point in range(NUM_POINTS)]

    tried = _searched(lambda point: heights[point])

    assert len(set(tried)) == len(tried) <= 15
    # Second source: looking at every point of the grid.
    assert max(tried, key=lambda point: heights[point]) == int(np.argmax(heights))


def test_among_equals_the_search_goes_to_the_stronger_regularisation() -> None:
    # The strongest point of all is best while none is better: nothing lies beyond it.
    assert _searched(lambda point: 1.0)[7:] == [88, 92, 94, 95]


def test_a_grid_smaller_than_the_step_is_searched_from_its_first_point(tmp_path: Path) -> None:
    assert sorted(_searched(lambda point: point, num_points=4)) == [0, 1, 2, 3]
    few = _fit(tmp_path, item_set(*pictures(30)), recipe={"strengths": 4})
    assert few.selection


def _fit(tmp_path: Path, train: ItemSet, **changes: Any) -> Fitted:
    recipe = {**PROTOCOL.recipe, **changes.pop("recipe", {})}
    request = fit_request(PROTOCOL, model(), train, settings(tmp_path), recipe=recipe, **changes)
    return fit(request)


def test_the_strengths_tried_are_of_the_96_steps_and_begin_as_the_paper_says(
    tmp_path: Path,
) -> None:
    items, labels = pictures(60, noise=120)

    fitted = _fit(tmp_path, item_set(items, labels))

    # arXiv 2103.00020, A.3: 96 log-spaced steps in [1e-6, 1e6], first at 1e-6, 1e-4, ..., 1e6.
    powers = np.log10([float(row["strength"]) for row in fitted.selection])  # type: ignore[arg-type]
    np.testing.assert_allclose(sorted(powers[:7]), range(-6, 7, 2), atol=1e-9)
    np.testing.assert_allclose(powers * 8, np.round(powers * 8), atol=1e-6)
    assert 11 <= len(powers) <= 15
    for row in fitted.selection:
        assert row["c"] == pytest.approx(1 / row["strength"])  # type: ignore[operator]


def test_the_chosen_strength_is_the_best_tried_and_of_equals_the_stronger(tmp_path: Path) -> None:
    items, labels = pictures(60, noise=200)

    fitted = _fit(tmp_path, item_set(items, labels))

    best = max(float(row["held_out_top1"]) for row in fitted.selection)  # type: ignore[arg-type]
    strongest = max(
        float(row["strength"])  # type: ignore[arg-type]
        for row in fitted.selection
        if row["held_out_top1"] == best
    )
    assert fitted.chosen["strength"] == strongest
    assert [row["strength"] for row in fitted.selection if row["chosen"]] == [strongest]


def _objective(
    weight_KD: np.ndarray,
    bias_K: np.ndarray,
    features_ND: np.ndarray,
    labels_N: np.ndarray,
    c: float,
) -> float:
    """Sum of cross-entropies and |W|^2 / (2 C)."""
    scores_NK = features_ND @ weight_KD.T + bias_K
    losses_N = logsumexp(scores_NK, axis=1) - scores_NK[np.arange(len(labels_N)), labels_N]
    return float(losses_N.sum() + (weight_KD**2).sum() / (2 * c))


def test_the_refit_is_scikit_learns_own_on_features_as_they_are(tmp_path: Path) -> None:
    items, labels = pictures(90, noise=150)
    train, test = item_set(items, labels, rows=range(60)), item_set(items, None, rows=range(60, 90))

    fitted = _fit(tmp_path, train)
    said = predict(predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path)))

    features_ND = extract(
        model(), items, image_reading(), settings(tmp_path), output="features"
    ).values[:, 0]
    # CLIP's README: LogisticRegression(C=..., max_iter=1000) on the features; lambda is 1 / C.
    solver = LogisticRegression(
        C=1 / float(fitted.chosen["strength"]),  # type: ignore[arg-type]
        solver="newton-cg",
        tol=1e-10,
        max_iter=2000,
    ).fit(features_ND[:60].astype(np.float64), labels[:60])
    expected_NK = solver.predict_proba(features_ND[60:].astype(np.float64))
    assert (fitted.arrays["mean"] == 0).all() and (fitted.arrays["std"] == 1).all()
    np.testing.assert_allclose(np.stack(said.values), expected_NK, atol=PROBABILITY_ERROR + 1e-3)
    given = (features_ND[:60].astype(np.float64), np.array(labels[:60]), solver.C)
    found = _objective(fitted.arrays["weight"], fitted.arrays["bias"], *given)
    least = _objective(solver.coef_, solver.intercept_, *given)
    assert abs(found - least) < 1e-6 * least


def test_official_validation_data_selects_and_then_trains_too(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train = item_set(items, labels, rows=range(40))
    validation = item_set(items, labels, rows=range(40, 60))

    fitted = _fit(tmp_path, train, validation=validation)

    assert fitted.chosen["selected_on"] == "validation"
    assert fitted.chosen["num_fitted_on"] == 60


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("coarse_step", 12, "coarse_step must be a power of two"),
        ("coarse_step", 0, "coarse_step must be a whole number from 1"),
        ("strengths", 0, "strengths must be a whole number from 1"),
        ("strength_scale", "lambda", "strength_scale must be one of"),
    ],
)
def test_a_recipe_out_of_range_is_named(tmp_path: Path, key: str, value: Any, told: str) -> None:
    with pytest.raises(RsbenchError, match=f"^{told}") as caught:
        _fit(tmp_path, item_set(*pictures(12)), recipe={key: value})
    assert "\n" not in str(caught.value)


def test_items_with_several_labels_are_compared_by_mean_average_precision(tmp_path: Path) -> None:
    items, labels = pictures(60, noise=60)
    sets = [(label, 2) if label == 0 else (label,) for label in labels]

    fitted = _fit(tmp_path, item_set(items, sets), target="multilabel")  # type: ignore[arg-type]

    assert all("held_out_map" in row for row in fitted.selection)
    assert fitted.arrays["weight"].shape == (3, 12)
