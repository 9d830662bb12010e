"""The numbers: what is computed of targets and predictions of the same items.

A prediction is None where the item could not be read. It is then scored wrong: it hits no class,
and ranks last for each label. Class scores tie now and then (saturated softmax); a tie is never
decided for the true class because it is the true one: the lower class index comes first, as in
``numpy.argmax``.

With five classes or fewer top-5 is 1 by definition of the question; a task with so few does not
offer it.

Shape letters: N items, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsbench.errors import DataError
from rsbench.specs import Labels, Metric
from rsbench.stats import bootstrap_mean, centred_percentiles, resampled_counts, wilson

_NUM_RESAMPLES = 1_000
"""Of metrics that are computed anew on each resample."""
_COUNTS_AT_A_TIME = 16_000_000
"""Bounds the memory of resampling to some hundreds of megabytes."""


class Score(NamedTuple):
    """One number with its interval, its count and what it is made of."""

    value: float
    low: float | None
    high: float | None
    """95% interval; None where none is defined for this metric."""
    n: int
    """Items it was computed over, failed ones included."""
    interval: str
    """How the interval was made: "wilson", "bootstrap", "" for none."""
    folds: tuple[float, ...]
    """The value of each fold, in order of first appearance, where folds are averaged."""
    per_item: NDArray[np.float64] | None
    """float64 (N,): the items' parts of the number, to be kept beside the record."""


def evaluate_metric(
    metric: Metric,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    *,
    folds: Sequence[str] = (),
    averaging: Literal["pooled", "mean"] = "pooled",
    seed: int = 0,
) -> Score:
    """Compute a metric with its 95% interval: Wilson's for proportions, else a bootstrap of items.

    The bootstrap is of means where the metric has parts of single items, else of the metric itself
    (`Metric.resampled`), and there is none where it has neither.

    Args:
        metric: What to compute.
        targets: One an item, (N,).
        predictions: One an item, None where it failed, (N,).
        folds: Name of each item's fold, (N,); empty where there is one fold only.
        averaging: "pooled" computes the metric over all items; "mean" a fold, then averages. An
            average over several folds gets a bootstrap interval (items weighted by their fold).
        seed: Of the bootstrap.

    Raises:
        DataError: There are no items, lengths differ, a prediction is NaN or of a wrong shape, a
            target lies outside the classes, or the value is not finite.
    """
    _check_lengths(targets, predictions)
    rows_of = _rows_of_folds(len(targets), folds, averaging)
    values = []
    per_item = None if metric.per_item is None else np.empty(len(targets))
    for rows in rows_of:
        fold_targets = [targets[row] for row in rows]
        fold_predictions = [predictions[row] for row in rows]
        values.append(float(metric.compute(fold_targets, fold_predictions)))
        if metric.per_item is not None and per_item is not None:
            per_item[rows] = metric.per_item(fold_targets, fold_predictions)
    value = math.fsum(values) / len(values)
    if not math.isfinite(value):
        raise DataError(f"The metric {metric.name} must be finite, was {value}; check its input.")
    strata = list(targets) if metric.level == "class" else []
    if metric.resampled is None:
        apart_folds = folds if len(values) > 1 else ()
        low, high, kind = _interval(metric, per_item, apart_folds, strata, seed)
    else:
        low, high = _resampled_interval(metric, value, targets, predictions, rows_of, seed)
        kind = "bootstrap"
    apart = tuple(values) if len(values) > 1 else ()
    return Score(value, low, high, len(targets), kind, apart, per_item)


def _interval(
    metric: Metric,
    per_item: NDArray[np.float64] | None,
    folds: Sequence[str],
    strata: Sequence[Hashable],
    seed: int,
) -> tuple[float | None, float | None, str]:
    if per_item is None:
        return None, None, ""
    if folds:
        per_item = fold_weights(folds) * per_item
        strata = list(zip(folds, strata, strict=True)) if strata else folds
        return *bootstrap_mean(per_item, strata=strata, seed=seed), "bootstrap"
    if metric.proportion:
        return *wilson(float(per_item.sum()), len(per_item)), "wilson"
    return *bootstrap_mean(per_item, strata=strata, seed=seed), "bootstrap"


def _resampled_interval(
    metric: Metric,
    value: float,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    rows_of: Sequence[Sequence[int]],
    seed: int,
) -> tuple[float, float]:
    """Compute a metric anew on resamples of each fold's items, averaged over folds."""
    # In an order of their own: how the items were listed decides nothing.
    ordered_of = [
        sorted(rows, key=lambda row: _in_bytes(targets[row], predictions[row])) for rows in rows_of
    ]
    means_R = _resampled_means(metric, targets, predictions, ordered_of, seed)
    return centred_percentiles(value, means_R)


def _resampled_means(
    metric: Metric,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    rows_of: Sequence[Sequence[int]],
    seed: int,
) -> NDArray[np.float64]:
    """Compute a metric on resamples of each fold's items, averaged over folds, (R,)."""
    assert metric.resampled is not None
    means_R = np.zeros(_NUM_RESAMPLES)
    for fold, rows in enumerate(rows_of):
        of_fold = [targets[row] for row in rows], [predictions[row] for row in rows]
        generator = np.random.default_rng((seed, fold))
        at_a_time = max(1, _COUNTS_AT_A_TIME // len(rows))
        drawn = [
            metric.resampled(
                *of_fold,
                resampled_counts(
                    len(rows), generator, num_resamples=min(at_a_time, _NUM_RESAMPLES - done)
                ),
            )
            for done in range(0, _NUM_RESAMPLES, at_a_time)
        ]
        means_R += np.concatenate(drawn) / len(rows_of)
    return means_R


def resampled_values(
    metric: Metric,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    *,
    folds: Sequence[str] = (),
    averaging: Literal["pooled", "mean"] = "pooled",
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute a metric that is no mean over items on resamples of the items.

    Which items a resample holds depends on the seed, the folds and the number of items alone: of
    two networks that are given the same items in the same order the r-th values belong together,
    and their differences are those of a paired bootstrap.

    Args:
        metric: One that can be computed on resamples (`Metric.resampled`).
        targets: One an item, (N,).
        predictions: One an item, None where it failed, (N,).
        folds: Name of each item's fold, (N,); empty where there is one fold only.
        averaging: As of `evaluate_metric`.
        seed: Of the drawing.

    Returns:
        Its value in each resample, (R,); NaN where a resample has none.

    Raises:
        DataError: There are no items, lengths differ, a prediction is NaN or of a wrong shape, or a
            target lies outside the classes.
    """
    assert metric.resampled is not None, f"{metric.name} has scores of single items"
    _check_lengths(targets, predictions)
    rows_of = _rows_of_folds(len(targets), folds, averaging)
    return _resampled_means(metric, targets, predictions, rows_of, seed)


def _rows_of_folds(
    n: int, folds: Sequence[str], averaging: Literal["pooled", "mean"]
) -> list[list[int]]:
    """Give the rows of each fold that is averaged, in order of first appearance."""
    names = list(dict.fromkeys(folds)) if averaging == "mean" else []
    if len(names) < 2:
        return [list(range(n))]
    return [[row for row, fold in enumerate(folds) if fold == name] for name in names]


def _in_bytes(target: Labels | Sequence[int], prediction: Any) -> tuple[bytes, str]:  # noqa: ANN401 - any prediction
    scores = b"" if prediction is None else np.asarray(prediction).tobytes()
    uncounted = sorted(target.uncounted) if isinstance(target, Labels) else []
    return scores, f"{sorted(target)} {uncounted}"


def fold_weights(folds: Sequence[str]) -> NDArray[np.float64]:
    """Give weights (N,) that turn a mean over items into the mean of the folds' means."""
    _, fold_of_N, count_F = np.unique(np.asarray(folds), return_inverse=True, return_counts=True)
    weights_N: NDArray[np.float64] = len(folds) / (len(count_F) * count_F[fold_of_N])
    return weights_N


def _check_lengths(targets: Sequence[Any], predictions: Sequence[Any]) -> None:
    if not targets:
        raise DataError("No examples, no score: at least one item must be evaluated, were 0.")
    if len(targets) != len(predictions):
        raise DataError(
            f"Each item must have one prediction, but there are {len(targets)} items and "
            f"{len(predictions)} predictions."
        )


def _stacked(predictions: Sequence[Any]) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Give the scores of items that were read, (N', K), and which those are, (N,)."""
    read_N = np.array([prediction is not None for prediction in predictions])
    rows = [np.asarray(prediction) for prediction in predictions if prediction is not None]
    if not rows:
        return None, read_N
    for scores_K in rows:
        if scores_K.ndim != 1 or scores_K.shape != rows[0].shape:
            raise DataError(
                f"Each prediction must be one score a class, ({rows[0].size},), was "
                f"{scores_K.shape}."
            )
    scores_NK = np.stack(rows).astype(np.float64, copy=False)
    if np.isnan(scores_NK).any():
        row = int(np.flatnonzero(read_N)[np.isnan(scores_NK).any(axis=1).argmax()])
        raise DataError(f"Scores must be numbers, but those of row {row} hold NaN.")
    return scores_NK, read_N


def _ranks(targets: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
    """Give how many classes stand before the true one, (N,); infinity where the item failed."""
    _check_lengths(targets, predictions)
    scores_NK, read_N = _stacked(predictions)
    ranks_N = np.full(len(targets), np.inf)
    if scores_NK is None:
        return ranks_N
    target_N = np.asarray(targets)[read_N]
    num_classes = scores_NK.shape[1]
    if target_N.dtype.kind not in "iu" or target_N.ndim != 1:
        raise DataError(f"Each target must be a class index, was for instance {targets[0]!r}.")
    if target_N.min() < 0 or target_N.max() >= num_classes:
        raise DataError(
            f"Each target must be a class index from 0 to {num_classes - 1}, but they go from "
            f"{target_N.min()} to {target_N.max()}."
        )
    true_N1 = np.take_along_axis(scores_NK, target_N[:, None], axis=1)
    lower_NK = np.arange(num_classes) < target_N[:, None]
    before_NK = (scores_NK > true_N1) | ((scores_NK == true_N1) & lower_NK)
    ranks_N[read_N] = before_NK.sum(axis=1)
    return ranks_N


def _hits_top1(targets: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
    return (_ranks(targets, predictions) < 1).astype(np.float64)


def _hits_top5(targets: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
    return (_ranks(targets, predictions) < 5).astype(np.float64)


def _top1(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    return float(_hits_top1(targets, predictions).mean())


def _top5(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    return float(_hits_top5(targets, predictions).mean())


def _class_weighted_hits(targets: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
    """Give hits weighted by N / (classes present x items of the class): mean = mean per class."""
    hits_N = _hits_top1(targets, predictions)
    _, class_of_N, count_K = np.unique(np.asarray(targets), return_inverse=True, return_counts=True)
    weighted_N: NDArray[np.float64] = hits_N * len(targets) / (len(count_K) * count_K[class_of_N])
    return weighted_N


def _mean_per_class(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    return math.fsum(_class_weighted_hits(targets, predictions)) / len(targets)


def _mean_average_precision(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Average precision of each class that some item has, averaged over these classes.

    A target is a collection of class indices, a prediction one score a class.
    """
    precisions = average_precisions(MEAN_AVERAGE_PRECISION, targets, predictions)
    return 0.0 if precisions is None else _mean_over_classes(precisions.values())


def _mean_eleven_point_precision(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    """11-point average precision of each class that some item has, averaged over these classes.

    Targets are as of `_mean_average_precision`; items that are not counted for a class (`Labels`)
    are left out when items are ranked for it.
    """
    precisions = average_precisions(MAP_11, targets, predictions)
    return 0.0 if precisions is None else _mean_over_classes(precisions.values())


def average_precisions(
    metric: Metric, targets: Sequence[Any], predictions: Sequence[Any]
) -> dict[int, float] | None:
    """Give what a mean of average precisions is the mean of.

    Args:
        metric: `MEAN_AVERAGE_PRECISION` or `MAP_11`.
        targets: Class indices of each item, (N,).
        predictions: One score a class of each item, None where it failed, (N,).

    Returns:
        Class -> its average precision, of the classes that some item has; None where all failed.
    """
    from sklearn.metrics import average_precision_score

    ranked = _ranked_labels(targets, predictions)
    if ranked is None:
        return None
    ranks_NK, truth_NK, counted_NK = ranked
    present = [int(k) for k in np.flatnonzero(truth_NK.any(axis=0))]
    if metric.name == MEAN_AVERAGE_PRECISION.name:
        return {k: float(average_precision_score(truth_NK[:, k], ranks_NK[:, k])) for k in present}
    assert metric.name == MAP_11.name, metric.name
    return {
        k: _eleven_point_precision(truth_NK[counted_NK[:, k], k], ranks_NK[counted_NK[:, k], k])
        for k in present
    }


def _resampled_average_precision(
    targets: Sequence[Any], predictions: Sequence[Any], counts_NR: NDArray[np.int16]
) -> NDArray[np.float64]:
    """Give `_mean_average_precision` of each resample, (R,)."""
    ranked = _ranked_labels(targets, predictions)
    if ranked is None:
        return np.zeros(counts_NR.shape[1])
    ranks_NK, truth_NK, counted_NK = ranked

    def precision(found_GR: NDArray[np.int32], got_GR: NDArray[np.int32]) -> NDArray[np.float64]:
        new_GR = np.diff(found_GR, axis=0, prepend=0)
        summed_R = (new_GR * (found_GR / np.maximum(got_GR, 1))).sum(axis=0)
        mean_R: NDArray[np.float64] = summed_R / found_GR[-1]
        return mean_R

    everything_NK = np.ones_like(counted_NK)
    return _resampled_precision(ranks_NK, truth_NK, everything_NK, counts_NR, precision)


def _resampled_eleven_point_precision(
    targets: Sequence[Any], predictions: Sequence[Any], counts_NR: NDArray[np.int16]
) -> NDArray[np.float64]:
    """Give `_mean_eleven_point_precision` of each resample, (R,)."""
    ranked = _ranked_labels(targets, predictions)
    if ranked is None:
        return np.zeros(counts_NR.shape[1])
    ranks_NK, truth_NK, counted_NK = ranked

    def precision(found_GR: NDArray[np.int32], got_GR: NDArray[np.int32]) -> NDArray[np.float64]:
        here_GR = found_GR / np.maximum(got_GR, 1)
        best = [
            np.where(10 * found_GR >= tenth * found_GR[-1], here_GR, 0).max(axis=0)
            for tenth in range(11)
        ]
        mean_R: NDArray[np.float64] = np.mean(best, axis=0)
        return mean_R

    return _resampled_precision(ranks_NK, truth_NK, counted_NK, counts_NR, precision)


def _resampled_precision(
    ranks_NK: NDArray[np.float64],
    truth_NK: NDArray[np.bool_],
    counted_NK: NDArray[np.bool_],
    counts_NR: NDArray[np.int16],
    precision: Callable[[NDArray[np.int32], NDArray[np.int32]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Average a precision over the classes that each resample has, (R,); NaN where it has none.

    Args:
        ranks_NK: As of `_ranked_labels`, like the next two.
        truth_NK: Which labels an item has.
        counted_NK: Which classes an item is ranked for.
        counts_NR: How often each resample has each item.
        precision: (positives found, items retrieved) down to each of G ranks at which a positive
            may be found, (G, R) each -> its value in each resample, (R,).
    """
    total_R = np.zeros(counts_NR.shape[1])
    num_present_R = np.zeros(counts_NR.shape[1])
    for k in np.flatnonzero(truth_NK.any(axis=0)):
        items = np.flatnonzero(counted_NK[:, k])
        items = items[np.argsort(-ranks_NK[items, k], kind="stable")]
        is_true_N, rank_N = truth_NK[items, k], ranks_NK[items, k]
        # A positive is found where its tie ends; what is retrieved between two such ranks is summed
        # at once.
        ends_G = np.unique(np.searchsorted(-rank_N, -rank_N[is_true_N], side="right"))
        starts_G = np.concatenate([[0], ends_G[:-1]])
        drawn_NR = counts_NR[items[: ends_G[-1]]]
        got_GR = _summed(drawn_NR, starts_G)
        true_NR = drawn_NR[is_true_N[: ends_G[-1]]]
        first_G = np.concatenate([[0], is_true_N.cumsum()[ends_G[:-1] - 1]])
        found_GR = _summed(true_NR, first_G)
        is_present_R = found_GR[-1] > 0
        total_R[is_present_R] += precision(found_GR[:, is_present_R], got_GR[:, is_present_R])
        num_present_R += is_present_R
    with np.errstate(invalid="ignore"):
        mean_R: NDArray[np.float64] = total_R / num_present_R
    return mean_R


def _summed(drawn_NR: NDArray[np.int16], starts_G: NDArray[np.int64]) -> NDArray[np.int32]:
    """Count what was drawn down to the end of each part, (G, R); parts begin at the rows given."""
    parts_GR = np.add.reduceat(drawn_NR, starts_G, axis=0, dtype=np.int32)
    return parts_GR.cumsum(axis=0, dtype=np.int32)


def _eleven_point_precision(truth_N: NDArray[np.bool_], rank_N: NDArray[np.float64]) -> float:
    """Give the mean, over recalls of 0, 0.1 ... 1, of the best precision at that recall or more.

    Items of one score are retrieved together, as everywhere in scikit-learn: the order of the list
    decides nothing.
    """
    order_N = np.argsort(-rank_N, kind="stable")
    num_found_N = np.cumsum(truth_N[order_N])
    is_last_of_tie_N = np.append(np.diff(rank_N[order_N]) != 0, True)
    num_retrieved = np.flatnonzero(is_last_of_tie_N) + 1
    num_found = num_found_N[is_last_of_tie_N]
    precision = num_found / num_retrieved
    # In whole numbers: 3 of 10 found is a recall of 0.3, and 3 * 0.1 is more than that in floats.
    best = [precision[10 * num_found >= tenth * num_found[-1]].max() for tenth in range(11)]
    return math.fsum(best) / len(best)


def _mean_over_classes(values: Iterable[float]) -> float:
    present = list(values)
    if not present:
        raise DataError("Average precision must have one positive item at least, but has none.")
    return math.fsum(present) / len(present)


def _ranked_labels(
    targets: Sequence[Any], predictions: Sequence[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Give each item's rank for each class, which label it has, and whether it counts: (N, K) each.

    Ranks rise with the score, because infinite scores are fair and scikit-learn refuses them; 0 is
    for failed items. None where all have failed.
    """
    _check_lengths(targets, predictions)
    scores_NK, read_N = _stacked(predictions)
    if scores_NK is None:
        return None
    num_classes = scores_NK.shape[1]
    ranks_NK = np.zeros((len(targets), num_classes))
    for k in range(num_classes):
        ranks_NK[read_N, k] = 1 + np.unique(scores_NK[:, k], return_inverse=True)[1]
    truth_NK = np.zeros((len(targets), num_classes), dtype=bool)
    counted_NK = np.ones((len(targets), num_classes), dtype=bool)
    for row, labels in enumerate(targets):
        for label in labels:
            if not 0 <= label < num_classes:
                raise DataError(
                    f"Each label must be a class index from 0 to {num_classes - 1}, but row {row} "
                    f"has {label}."
                )
            truth_NK[row, label] = True
        if isinstance(labels, Labels):
            counted_NK[row, list(labels.uncounted)] = False
    return ranks_NK, truth_NK, counted_NK


TOP1 = Metric(name="top1", compute=_top1, per_item=_hits_top1, proportion=True)
"""Share of items whose true class has the highest score."""

TOP5 = Metric(name="top5", compute=_top5, per_item=_hits_top5, proportion=True)
"""Share of items whose true class is among the five highest scores."""

MEAN_PER_CLASS = Metric(
    name="mean_per_class", compute=_mean_per_class, per_item=_class_weighted_hits, level="class"
)
"""Top-1 of each class that occurs, averaged over these classes. Its bootstrap resamples within
classes."""

MEAN_AVERAGE_PRECISION = Metric(
    name="mean_average_precision",
    compute=_mean_average_precision,
    resampled=_resampled_average_precision,
    level="class",
)
"""Multi-label: average precision a class, averaged over classes with a positive (no interpolation).
A failed item ranks last for every class: none of its labels is found."""

MAP_11 = Metric(
    name="map_11",
    compute=_mean_eleven_point_precision,
    resampled=_resampled_eleven_point_precision,
    level="class",
)
"""Multi-label: the 11-point interpolated average precision of PASCAL VOC until 2009 (Everingham et
al. 2010, section 4.2), averaged over classes with a positive. Items marked as not to be counted for
a class (`rsbench.specs.Labels`) are neither right nor wrong there. A failed item ranks last for
every class."""

BY_NAME: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (TOP1, TOP5, MEAN_PER_CLASS, MEAN_AVERAGE_PRECISION, MAP_11)}
)
"""The metrics above; a task may have others of its own."""
