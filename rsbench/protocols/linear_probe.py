"""`linear_probe`: logistic regression on frozen features, strength selected on held-out train.

The flow is that of Kornblith et al. 2019 (arXiv 1805.08974) and SimCLR (arXiv 2002.05709, App.
B.8): 45 strengths lambda, log-spaced in [1e-6, 1e5], in ``sum of CE + lambda |W|^2`` (so
C = 1/(2 lambda)); the best on the official validation set, else on a fifth of train held out by
class with groups kept whole; a tie goes to the stronger regularisation; then one fit on all of
train and validation, and one test. Ours is that features are standardised by the mean and deviation
of the examples fitted on, since features of untrained networks differ in scale by orders of
magnitude.

Where an item may have several labels, each class has a logistic regression of its own, all of one
strength, which is selected by mean average precision; nothing balances the classes of the held-out
fifth. The sigmoid takes the place of the softmax.

It trains on the sampler's single clip of each video, the sampler being that of the test, and
averages the softmax over all test views. That clip is not always the centre: mmaction2,
model_garden and psf_offset cut the middle, while that of psf and of ptv starts at frame 0.

Version 3 stops a fit by its objective (within 1e-7 of the least one, relative to it) where version
2 stopped by its gradient (1e-6): on scikit-learn's digits, 899 examples of 64 features, that left
the weakest strength at 6.1 times its least objective, since nothing moved at the last seven.
Version 2 averaged the probabilities as they are kept, in half precision (`rsbench.view_scores`);
version 1 averaged doubles, so that a probability may differ by 1.4e-4.
"""

from __future__ import annotations

from rsbench.protocols._logistic import SOLVER_RECIPE, Fitting, fit_by, predict
from rsbench.specs import FitRequest, Fitted, Protocol


def fit(request: FitRequest) -> Fitted:
    """Select a strength among all of the grid and refit on everything.

    Raises:
        DataError: Fewer than two classes could be read, or nothing can be held out.
        RsbenchError: A value of the recipe is out of its range.
        RunError: A feature is not finite, or the cache can't be written.
    """
    fitting = Fitting.of(request.recipe)
    return fit_by(request, fitting, lambda score: score(fitting.strengths))


PROTOCOL = Protocol(
    name="linear_probe",
    version=3,
    recipe={
        "strengths": 45,
        "strength_min": 1e-6,
        "strength_max": 1e5,
        "strength_scale": "sum",
        "held_out": 0.2,
        "standardise": True,
        **SOLVER_RECIPE,
    },
    targets=frozenset({"class", "multilabel"}),
    trains=True,
    selects_on="official validation, else held-out train",
    check=Fitting.of,
    fit=fit,
    predict=predict,
    title="Logistic regression on frozen features, strength selected on held-out train",
    citation="Kornblith, Shlens, Le 2019 (arXiv 1805.08974); Chen et al. 2020 (arXiv 2002.05709).",
)
