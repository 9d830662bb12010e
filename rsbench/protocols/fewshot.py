"""`fewshot`: a linear classifier of a few examples a class, in closed form; nothing is selected.

The rule is big_vision's (evaluators/fewshot_lsr.py): `shots` training examples of each class, drawn
at random, features standardised by those examples alone, and penalised least squares of strength
2^10 on targets of -1 and 1; see `rsbench.probes.ridge`.

A record is one draw: its metric is that of `shots` a class, 10 unless another number is set (the
one that big_vision's configurations show first), and which examples they are hangs on the run's
seed. The published figure is the mean over three draws: run --seeds 0,1,2, and the table gives mean
and deviation over them. 1, 5 and 25 shots are rulers of their own (--set shots=5). All of them ask
for the same features, so that a further one costs no extraction.

So that one record shows the whole curve, its selection trace has 1, 5, 10 and 25 shots, three draws
each, scored on training examples that were not drawn (up to 50 a class; of groups without a shot).
No test label is needed for it, and the trace decides nothing.

An example's rank in a draw is the digest of seed, draw and its id: fewer shots are a subset of
more, and an item that is missing moves no other. (big_vision permutes by numpy's generator: the
draws are as random, and others.) A class with fewer examples than shots gives all it has: it
is named in the record, and the score is marked with it. A class without any is never predicted.

Over several views the softmax of the fitted values is averaged, which of one view has their order.

Shape letters: N examples, V views, D features, K classes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rsbench.findings import NUM_SHOWN
from rsbench.protocols._probing import Examples, check_classes, read_examples
from rsbench.protocols._recipes import number, whole
from rsbench.protocols._views import predict_views
from rsbench.specs import FitRequest, Fitted, Predictions, PredictRequest, Protocol, Scalar

if TYPE_CHECKING:
    import numpy as np

    from rsbench.probes.ridge import Ridge

_SHOTS = (1, 5, 10, 25)
"""Of the trace (fewshot_lsr.py's customary `shots`)."""
_DRAWS = 3
"""Of the trace (its `num_seeds`)."""
_SCORED_PER_CLASS = 50
"""Examples of a class that the trace is scored on at most: 50,000 of ImageNet's million."""


def fit(request: FitRequest) -> Fitted:
    """Draw the shots, solve, and score the curve on examples that were not drawn.

    Raises:
        DataError: Fewer than two classes could be read.
        RsbenchError: A value of the recipe is out of its range.
        RunError: A feature is not finite, or the cache can't be written.
    """
    import numpy as np

    assert request.train is not None, "fewshot learns from train"
    shots, strength = _Recipe.of(request.recipe)
    train = read_examples(request, request.train)
    check_classes(train.labels, train.failures)
    started = time.perf_counter()
    rows: list[dict[str, Scalar]] = []
    chosen: Ridge | None = None
    for draw in range(_DRAWS):
        ranking = _rank(train, seed=request.seed, draw=draw)
        for count in sorted({*_SHOTS, shots}):
            drawn = _draw(train, ranking, shots=count)
            ridge = _solved(train, drawn.shots, request, strength)
            is_chosen = draw == 0 and count == shots
            if is_chosen:
                chosen = ridge
            rows.append(
                {
                    "shots": count,
                    "draw": draw,
                    "held_out_top1": _top1(ridge, train, drawn.others),
                    "num_fitted_on": len(drawn.shots),
                    "num_scored": len(drawn.others),
                    "chosen": is_chosen,
                }
            )
    assert chosen is not None, "the shots asked for are among those drawn"
    counts_K = np.bincount(train.labels, minlength=len(request.train.classes))
    short = _short_classes(request.train.classes, counts_K, shots=shots)
    return Fitted(
        arrays={
            "weight": chosen.weight_KD,
            "bias": chosen.bias_K,
            "mean": chosen.mean_D,
            "std": chosen.std_D,
        },
        selection=tuple(rows),
        chosen={"shots": shots, "num_classes_short": short.num, "classes_short": short.named},
        failures=train.failures,
        remarks=train.remarks,
        notes=short.notes,
        marks=short.marks,
        seconds=time.perf_counter() - started,
    )


def predict(request: PredictRequest) -> Predictions:
    """Give the softmax of the fitted values, averaged over all views: float32 (K,) an item.

    Raises:
        RunError: A feature is not finite, or the cache can't be written.
    """
    from rsbench.probes.ridge import Ridge
    from rsbench.view_scores import log_softmax

    arrays = request.fitted.arrays
    ridge = Ridge(
        mean_D=arrays["mean"],
        std_D=arrays["std"],
        weight_KD=arrays["weight"],
        bias_K=arrays["bias"],
    )

    def scores(features_NVD: np.ndarray) -> np.ndarray:
        return log_softmax(ridge.scores(features_NVD))

    return predict_views(
        request.model, request, output="features", scores=scores, activation="softmax"
    )


class _Recipe(NamedTuple):
    """The recipe with its types."""

    shots: int
    strength: float

    @classmethod
    def of(cls, recipe: Mapping[str, Scalar]) -> _Recipe:
        return cls(whole(recipe, "shots"), number(recipe, "strength", without_ends=True))


class _Drawn(NamedTuple):
    """Places of a train set, class after class."""

    shots: list[int]
    others: list[int]
    """Not drawn, and of no group of which something was."""


def _rank(train: Examples, *, seed: int, draw: int) -> list[list[int]]:
    """Order each class's examples for a draw: places, by rising class."""
    places: dict[int, list[tuple[str, int]]] = {}
    for place, (label, item_id) in enumerate(zip(train.labels.tolist(), train.ids, strict=True)):
        digest = hashlib.sha256(f"fewshot:{seed}:{draw}:{item_id}".encode()).hexdigest()
        places.setdefault(label, []).append((digest, place))
    return [[place for _, place in sorted(places[label])] for label in sorted(places)]


def _draw(train: Examples, ranking: Sequence[Sequence[int]], *, shots: int) -> _Drawn:
    drawn = [place for ranked in ranking for place in ranked[:shots]]
    groups = {train.groups[place] for place in drawn} - {None}
    others = []
    for ranked in ranking:
        apart = [place for place in ranked[shots:] if train.groups[place] not in groups]
        others += apart[:_SCORED_PER_CLASS]
    return _Drawn(drawn, others)


def _solved(train: Examples, places: Sequence[int], request: FitRequest, strength: float) -> Ridge:
    from rsbench.probes.ridge import solve

    assert request.train is not None, "fewshot learns from train"
    examples = train.at(places)
    return solve(
        examples.features_ND,
        examples.labels,
        num_classes=len(request.train.classes),
        strength=strength,
    )


def _top1(ridge: Ridge, train: Examples, places: Sequence[int]) -> float | None:
    """Give the share of right answers; None where there is no example to ask about."""
    if not places:
        return None
    asked = train.at(places)
    return float((ridge.scores(asked.features_ND).argmax(axis=1) == asked.labels).mean())


class _Short(NamedTuple):
    """The classes with fewer examples than shots."""

    num: int
    named: str
    """The first of them, with their numbers of examples."""
    notes: tuple[str, ...]
    marks: tuple[str, ...]


def _short_classes(classes: Sequence[str], counts_K: np.ndarray, *, shots: int) -> _Short:
    """Count and name the classes with fewer examples than shots."""
    short = [label for label in range(len(classes)) if counts_K[label] < shots]
    if not short:
        return _Short(0, "", (), ())
    named = ", ".join(f"{classes[label]} ({counts_K[label]})" for label in short[:NUM_SHOWN])
    named += ", ..." if len(short) > NUM_SHOWN else ""
    few, many = min(counts_K), max(counts_K[label] for label in short)
    span = f"{few}" if few == many else f"{few} to {many}"
    where = "" if len(short) == len(classes) else f" in {len(short)} of {len(classes)} classes"
    note = (
        f"{len(short)} of {len(classes)} classes have fewer training examples than {shots} shots"
        f" and give all they have: {named}"
    )
    return _Short(len(short), named, (note,), (f"{span} of {shots} shots{where}",))


PROTOCOL = Protocol(
    name="fewshot",
    version=1,
    recipe={"shots": 10, "strength": 1024.0},
    targets=frozenset({"class"}),
    trains=True,
    selects_on="nothing",
    check=_Recipe.of,
    fit=fit,
    predict=predict,
    title="Penalised least squares on 10 examples a class, drawn by the seed",
    citation="Kolesnikov et al. 2020 (arXiv 1912.11370); big_vision, evaluators/fewshot_lsr.py.",
)
