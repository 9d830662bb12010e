"""`linear_probe_clip`: CLIP's logistic regression, strength found by a search that halves steps.

Radford et al. 2021 (arXiv 2103.00020, App. A.3): features as the network gives them, scikit-learn's
logistic regression, and lambda among 96 log-spaced steps in [1e-6, 1e6], which are 97 points, 8 a
decade. Its ``lambda / 2 |W|^2`` beside the sum of losses makes lambda 1 / C. Only some of the
points are tried: every 16th first, then the two at half the step beside the best so far, until the
step is 1, which is up to 15 fits. The search finds the best point of the grid where the score
rises to one peak and falls; elsewhere it may stop at a lower one, as it would there.

It selects on the official validation set, else on a share of train held out by class with groups
kept whole, and fits again on train and validation. The paper leaves open how much is held out where
there is no validation set, and what a tie means: here a fifth, and the stronger regularisation.
Features are not standardised (`--set standardise=true` is another ruler). For a CLIP network itself
the features meant are those before the projection into the space that images and texts share.

Clips, views and several labels are as in `linear_probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rsbench.errors import RsbenchError
from rsbench.protocols._logistic import (
    SOLVER_RECIPE,
    Candidate,
    Fitting,
    Score,
    better_of,
    fit_by,
    predict,
)
from rsbench.protocols._recipes import whole
from rsbench.specs import FitRequest, Fitted, Protocol, Scalar


def fit(request: FitRequest) -> Fitted:
    """Search for a strength and refit on everything.

    Raises:
        DataError: Fewer than two classes could be read, or nothing can be held out.
        RsbenchError: A value of the recipe is out of its range.
        RunError: A feature is not finite, or the cache can't be written.
    """
    fitting, step = _parsed(request.recipe)

    def search(score: Score) -> list[Candidate]:
        return search_by_halving(
            lambda points: score([fitting.strengths[point] for point in points]),
            place_of=lambda each: fitting.strengths.index(each.strength),
            num_points=len(fitting.strengths),
            step=step,
        )

    return fit_by(request, fitting, search)


def _parsed(recipe: Mapping[str, Scalar]) -> tuple[Fitting, int]:
    """Give how every fit is made, and the first step of the search."""
    fitting = Fitting.of(recipe)
    step = whole(recipe, "coarse_step")
    if step & (step - 1):
        raise RsbenchError(
            f"coarse_step must be a power of two, for the search halves it down to 1; it was"
            f" {step}: give another with --set coarse_step=NUMBER."
        )
    return fitting, step


def search_by_halving(
    score: Callable[[Sequence[int]], Sequence[Candidate]],
    *,
    place_of: Callable[[Candidate], int],
    num_points: int,
    step: int,
) -> list[Candidate]:
    """Try every `step`-th point of a grid, then those at half the step beside the best, down to 1.

    Args:
        score: Scores some points, each one once.
        place_of: Says which point a candidate is.
        num_points: Points of the grid, counted from 0.
        step: A power of two.

    Returns:
        All that was tried, in the order of trying.
    """
    tried = [*score(range(0, num_points, step))]
    while step > 1:
        step //= 2
        best = place_of(better_of(tried))
        known = {place_of(each) for each in tried}
        around = [point for point in (best - step, best + step) if 0 <= point < num_points]
        fresh = [point for point in around if point not in known]
        if fresh:
            tried += score(fresh)
    return tried


PROTOCOL = Protocol(
    name="linear_probe_clip",
    version=1,
    recipe={
        "strengths": 97,
        "strength_min": 1e-6,
        "strength_max": 1e6,
        "strength_scale": "half-sum",
        "coarse_step": 16,
        "held_out": 0.2,
        "standardise": False,
        **SOLVER_RECIPE,
    },
    targets=frozenset({"class", "multilabel"}),
    trains=True,
    selects_on="official validation, else held-out train",
    check=_parsed,
    fit=fit,
    predict=predict,
    title="CLIP's logistic regression on frozen features, strength searched on held-out train",
    citation="Radford et al. 2021 (arXiv 2103.00020), App. A.3.",
)
