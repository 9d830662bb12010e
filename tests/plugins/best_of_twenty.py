"""Twenty small classifiers, each on features of its own, of which the best selected one predicts.

Each is the difference of two class means over its block of the features, cut at the mean training
score. On features of noise the twenty are right or wrong independently of each other, so that what
the best of them scores on the set it was chosen on can be worked out.
"""

import numpy as np

from rsbench import specs
from rsbench.protocols._probing import read_training, selection_sets
from rsbench.protocols._views import predict_views
from rsbench.view_scores import log_softmax

NUM_HEADS = 20


def fit(request: specs.FitRequest) -> specs.Fitted:
    """Fit all heads and keep the one that is right most often where settings are selected."""
    train, validation = read_training(request)
    sets = selection_sets(request, train, validation, held_out=0.2)
    width = sets.kept.features_ND.shape[1] // NUM_HEADS
    means_CD = np.stack([sets.kept.features_ND[sets.kept.labels == c].mean(axis=0) for c in (0, 1)])
    heads = []
    for number in range(NUM_HEADS):
        weight_D = np.zeros(sets.kept.features_ND.shape[1])
        block = slice(number * width, (number + 1) * width)
        weight_D[block] = means_CD[1, block] - means_CD[0, block]
        cut = float((sets.kept.features_ND @ weight_D).mean())
        said_N = sets.held.features_ND @ weight_D > cut
        heads.append((float((said_N == sets.held.labels).mean()), weight_D, cut))
    best = max(range(NUM_HEADS), key=lambda number: heads[number][0])
    return specs.Fitted(
        arrays={"weight": heads[best][1], "cut": np.array([heads[best][2]])},
        selection=tuple(
            {"head": number, "top1": head[0], "chosen": number == best}
            for number, head in enumerate(heads)
        ),
        chosen={"head": best, "selected_on": sets.where},
        failures=train.failures,
    )


def predict(request: specs.PredictRequest) -> specs.Predictions:
    """Give the softmax over the two sides of the cut."""

    def scores(features_NVD: np.ndarray) -> np.ndarray:
        margin = features_NVD @ request.fitted.arrays["weight"] - request.fitted.arrays["cut"]
        return log_softmax(np.stack([-margin, margin], axis=-1))

    return predict_views(
        request.model, request, output="features", scores=scores, activation="softmax"
    )


PROTOCOL = specs.Protocol(
    name="best_of_twenty",
    version=1,
    recipe={"heads": NUM_HEADS},
    targets=frozenset({"class"}),
    trains=True,
    selects_on="official validation, else held-out train",
    fit=fit,
    predict=predict,
    title="The best of twenty classifiers",
    citation="none: a test",
)
