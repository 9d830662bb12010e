"""`knn`: the weighted vote of the nearest training examples; nothing is fitted.

The rule is DINOv2's (dinov2/eval/knn.py; DINO, arXiv 2104.14294, App. F.1): features of length 1,
cosine similarity s, a vote of weight exp(s / 0.07) from each of the k nearest, k of 10, 20, 100 and
200. The originals print all four and quote the best on the set they report; here k is selected as
every setting is: on the official validation set, else on a fifth of train, held out by class with
groups kept whole, the same that `linear_probe` selects on. A tie goes to the smaller k: a k above
the number of examples of a class calls on other classes whatever the features, which a small
held-out set may not show. Then all of train and validation votes.

A k larger than the number of examples that vote while it is selected is left out, and a note of the
record says so; where all are, the run is refused. The search is exact and the same on every device;
see `rsbench.probes.knn`.

A class that none of the k nearest has is given the probability 0. Over several views the shares of
the vote are averaged; the mean of their logarithms, which an offline score average takes, is minus
infinity for a class that one view leaves without vote.

What a run leaves to predict with is the examples: 4 x D bytes each.

Shape letters: N examples, V views, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rsbench.errors import DataError
from rsbench.protocols._probing import Examples, read_training, selection_sets
from rsbench.protocols._recipes import number, wholes
from rsbench.protocols._views import predict_views
from rsbench.specs import FitRequest, Fitted, Predictions, PredictRequest, Protocol, Scalar

if TYPE_CHECKING:
    import numpy as np


def fit(request: FitRequest) -> Fitted:
    """Select the number of neighbours on held-out data, and keep all examples.

    Raises:
        DataError: Fewer than two classes could be read, nothing can be held out, or there are fewer
            examples than neighbours.
        RsbenchError: A value of the recipe is out of its range, or the device has no room for the
            examples.
        RunError: A feature is not finite, or the cache can't be written.
    """
    import numpy as np

    from rsbench.probes.knn import build_bank

    assert request.train is not None, "knn learns from train"
    recipe = _Recipe.of(request.recipe)
    train, official = read_training(request)
    sets = selection_sets(request, train, official, held_out=recipe.held_out)
    started = time.perf_counter()
    candidates = _score_neighbours(sets.kept, sets.held, recipe, request)
    best = max(candidates, key=lambda each: (each.top1, -each.num_neighbours))
    everything = train.joined(official)
    bank = build_bank(everything.features_ND, everything.labels)
    return Fitted(
        arrays={
            "features": bank.features_MD.numpy(),
            "labels": bank.labels_M,
            "num_neighbours": np.array(best.num_neighbours, dtype=np.int64),
        },
        selection=tuple(each.row(chosen=each is best) for each in candidates),
        chosen={
            "neighbours": best.num_neighbours,
            "selected_on": sets.where,
            "num_selected_on": len(sets.held),
            "num_fitted_on": len(everything),
        },
        failures=everything.failures,
        remarks=everything.remarks,
        notes=_left_out(recipe.neighbours, len(sets.kept)),
        seconds=time.perf_counter() - started,
    )


def predict(request: PredictRequest) -> Predictions:
    """Give the classes' shares of the vote, averaged over all views: float32 (K,) an item.

    Raises:
        RsbenchError: The device has no room for the examples.
        RunError: A feature is not finite, or the cache can't be written.
    """
    import numpy as np

    from rsbench.probes.knn import build_bank, find_neighbours, vote

    arrays = request.fitted.arrays
    temperature = _Recipe.of(request.recipe).temperature
    bank = build_bank(arrays["features"], arrays["labels"], device=request.settings.device)
    num_neighbours = int(arrays["num_neighbours"])

    def scores(features_NVD: np.ndarray) -> np.ndarray:
        flat_ND = features_NVD.reshape(-1, features_NVD.shape[-1])
        shares = vote(
            find_neighbours(bank, flat_ND, num_neighbours=num_neighbours),
            num_voting=num_neighbours,
            temperature=temperature,
            num_classes=len(request.test.classes),
        )
        # The logarithm of no vote at all is what it should be.
        with np.errstate(divide="ignore"):
            return np.log(shares).reshape(*features_NVD.shape[:-1], -1)

    return predict_views(
        request.model, request, output="features", scores=scores, activation="softmax"
    )


class _Recipe(NamedTuple):
    """The recipe with its types."""

    neighbours: tuple[int, ...]
    temperature: float
    held_out: float

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> _Recipe:
        return cls(
            neighbours=wholes(recipe, "neighbours"),
            temperature=number(recipe, "temperature", without_ends=True),
            held_out=number(recipe, "held_out", most=1.0, without_ends=True),
        )


class _Candidate(NamedTuple):
    """One number of neighbours with its score on held-out data."""

    num_neighbours: int
    top1: float
    """In [0, 1]."""

    def row(self, *, chosen: bool) -> Mapping[str, Scalar]:
        return {"neighbours": self.num_neighbours, "held_out_top1": self.top1, "chosen": chosen}


def _score_neighbours(
    kept: Examples, held: Examples, recipe: _Recipe, request: FitRequest
) -> list[_Candidate]:
    """Score the held-out examples by each number of neighbours, in one search."""
    from rsbench.probes.knn import build_bank, find_neighbours, vote

    assert request.train is not None, "knn learns from train"
    bank = build_bank(kept.features_ND, kept.labels, device=request.settings.device)
    possible = sorted(each for each in recipe.neighbours if each <= len(bank))
    if not possible:
        raise DataError(
            f"neighbours must hold a number of at most {len(bank)}, the examples that vote while it"
            f" is selected; it was {_listed(recipe.neighbours)}: give others with --set"
            " neighbours=LIST."
        )
    found = find_neighbours(bank, held.features_ND, num_neighbours=max(possible))
    candidates = []
    for num_neighbours in possible:
        shares_NK = vote(
            found,
            num_voting=num_neighbours,
            temperature=recipe.temperature,
            num_classes=len(request.train.classes),
        )
        top1 = float((shares_NK.argmax(axis=1) == held.labels).mean())
        candidates.append(_Candidate(num_neighbours, top1))
    return candidates


def _left_out(asked: Sequence[int], num_voting: int) -> tuple[str, ...]:
    """Name the numbers of neighbours that could not be tried; nothing where all could."""
    too_large = [each for each in asked if each > num_voting]
    if not too_large:
        return ()
    are = "is" if len(too_large) == 1 else "are"
    return (
        f"{_listed(too_large)} neighbours {are} more than the {num_voting} training examples that"
        " vote while their number is selected, and left out",
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


PROTOCOL = Protocol(
    name="knn",
    version=1,
    recipe={"neighbours": "10,20,100,200", "temperature": 0.07, "held_out": 0.2},
    targets=frozenset({"class"}),
    trains=True,
    selects_on="official validation, else held-out train",
    check=_Recipe.of,
    fit=fit,
    predict=predict,
    title="Weighted vote of the nearest training examples, their number selected on held-out train",
    citation="Caron et al. 2021 (arXiv 2104.14294); Oquab et al. 2023 (arXiv 2304.07193).",
)
