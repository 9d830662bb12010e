from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from rsbench.errors import DataError
from rsbench.metrics import (
    BY_NAME,
    MAP_11,
    MEAN_AVERAGE_PRECISION,
    MEAN_PER_CLASS,
    TOP1,
    TOP5,
    evaluate_metric,
    fold_weights,
    resampled_values,
)
from rsbench.specs import Labels, Metric
from rsbench.stats import PairedDifference, resampled_counts, resampled_difference, wilson


def _random(num_items: int = 200, num_classes: int = 9) -> tuple[list[int], list[np.ndarray]]:
    generator = np.random.default_rng(0)
    targets = [int(target) for target in generator.integers(num_classes, size=num_items)]
    return targets, list(generator.random((num_items, num_classes)).astype(np.float32))


def test_top1_and_top5_are_scikit_learns() -> None:
    targets, scores = _random()
    for metric, k in ((TOP1, 1), (TOP5, 5)):
        expected = sklearn_metrics.top_k_accuracy_score(targets, np.stack(scores), k=k)
        assert metric.compute(targets, scores) == pytest.approx(expected)


def test_mean_per_class_is_scikit_learns_balanced_accuracy() -> None:
    targets, scores = _random()
    expected = sklearn_metrics.balanced_accuracy_score(targets, np.stack(scores).argmax(1))
    assert MEAN_PER_CLASS.compute(targets, scores) == pytest.approx(expected)


def test_mean_average_precision_is_scikit_learns_macro_average() -> None:
    generator = np.random.default_rng(1)
    truth = generator.random((60, 4)) < 0.3
    scores = generator.random((60, 4))
    targets = [tuple(np.flatnonzero(row)) for row in truth]
    expected = sklearn_metrics.average_precision_score(truth, scores, average="macro")
    assert MEAN_AVERAGE_PRECISION.compute(targets, list(scores)) == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    # Ranks 1 and 3 are positive: (1/1 + 2/3) / 2; the other class has no positive and is left out.
    targets = [(0,), (), (0,), ()]
    scores = [np.array([value, 0.5]) for value in (0.9, 0.8, 0.7, 0.1)]
    assert MEAN_AVERAGE_PRECISION.compute(targets, scores) == pytest.approx((1 + 2 / 3) / 2)


def _voc_devkit_ap(scores: np.ndarray, truth: np.ndarray) -> float:
    """VOCevalcls.m of the VOC 2007 development kit, line by line; truth is 1, -1, or 0: difficult.

    Its recalls are compared with 0:0.1:1 in floats; here with what these are meant to be.
    """
    order = np.argsort(-scores)
    true_positives = np.cumsum(truth[order] > 0)
    false_positives = np.cumsum(truth[order] < 0)
    recall = true_positives / (truth > 0).sum()
    with np.errstate(invalid="ignore"):
        precision = true_positives / (false_positives + true_positives)
    total = 0.0
    for tenth in range(11):
        reached = precision[recall >= tenth / 10 - 1e-9]
        total += (np.nanmax(reached) if reached.size else 0.0) / 11
    return total


def test_eleven_point_precision_is_the_voc_development_kits() -> None:
    generator = np.random.default_rng(2)
    truth = generator.choice([-1, 0, 1], p=[0.6, 0.15, 0.25], size=(80, 5))
    scores = generator.random((80, 5))
    targets = [
        Labels(np.flatnonzero(row > 0).tolist(), uncounted=np.flatnonzero(row == 0).tolist())
        for row in truth
    ]

    expected = np.mean([_voc_devkit_ap(scores[:, k], truth[:, k]) for k in range(5)])

    assert MAP_11.compute(targets, list(scores)) == pytest.approx(expected, abs=1e-12)
    # What is left out of account matters here: as plain negatives these items cost precision.
    assert MAP_11.compute([tuple(each) for each in targets], list(scores)) < expected - 0.01


def test_eleven_point_precision_by_hand() -> None:
    # Positives at ranks 1 and 3 of 4: precision 1 up to recall 0.5 (6 points), then 2/3 (5 points).
    targets = [(0,), (), (0,), ()]
    scores = [np.array([value]) for value in (0.9, 0.8, 0.7, 0.1)]
    assert MAP_11.compute(targets, scores) == pytest.approx((6 + 5 * 2 / 3) / 11)
    # Ten positives at ranks 1 to 3 and 5 to 11: a recall of exactly 0.3 is reached at precision 1.
    targets = [(0,), (0,), (0,), (), *[(0,)] * 7]
    scores = [np.array([-float(place)]) for place in range(11)]
    assert MAP_11.compute(targets, scores) == pytest.approx((4 + 7 * 10 / 11) / 11)


def test_equal_scores_are_retrieved_together_whatever_their_order() -> None:
    scores = [np.array([value]) for value in (0.5, 0.5, 0.5, 0.1)]
    for targets in ([(0,), (), (), ()], [(), (), (0,), ()]):
        assert MAP_11.compute(targets, scores) == pytest.approx(1 / 3)


def test_eleven_point_precision_has_failed_items_last() -> None:
    # By hand: the second positive is third of three.
    scores = [np.array([0.1]), None, np.array([0.5])]
    assert MAP_11.compute([(0,), (0,), ()], scores) == pytest.approx(2 / 3)
    assert MAP_11.compute([(0,), ()], [None, None]) == 0
    with pytest.raises(DataError, match="must have one positive item"):
        MAP_11.compute([(), ()], [np.array([0.5]), np.array([0.1])])


def test_a_failed_item_is_wrong_and_stays_in_the_count() -> None:
    scores = [np.array([1.0, 0.0]), None, np.array([1.0, 0.0]), np.array([1.0, 0.0])]
    score = evaluate_metric(TOP1, [0, 0, 0, 1], scores)
    assert (score.value, score.n) == (0.5, 4)
    assert score.per_item is not None
    assert score.per_item.tolist() == [1, 0, 1, 0]


def test_all_items_failed_is_nought_of_all() -> None:
    for metric in (TOP1, TOP5, MEAN_PER_CLASS):
        assert evaluate_metric(metric, [0, 1], [None, None]).value == 0


def test_a_failed_item_ranks_last_for_its_labels() -> None:
    # By hand: positives at ranks 1 and 3 of 3.
    scores = [np.array([-np.inf]), None, np.array([0.5])]
    found = MEAN_AVERAGE_PRECISION.compute([(), (0,), (0,)], scores)
    assert found == pytest.approx((1 + 2 / 3) / 2)


def test_a_failed_item_ranks_behind_every_item_that_was_read() -> None:
    # By hand: the positive, whatever its score, is first of 2, and not tied with the failed one.
    scores = [np.array([-np.inf]), None]
    assert MEAN_AVERAGE_PRECISION.compute([(0,), ()], scores) == pytest.approx(1.0)


def test_where_all_items_failed_no_label_is_found() -> None:
    assert MEAN_AVERAGE_PRECISION.compute([(0,), (0, 1)], [None, None]) == 0


def test_tied_scores_share_the_precision_of_the_last_of_them() -> None:
    # By hand: 3 items tied, 1 of them positive: precision 1/3 at recall 1, whatever their order.
    for targets in ([(0,), (), ()], [(), (), (0,)]):
        found = MEAN_AVERAGE_PRECISION.compute(targets, [np.array([0.5])] * 3)
        assert found == pytest.approx(1 / 3)


def test_labels_of_nobody_leave_nothing_to_average() -> None:
    with pytest.raises(DataError, match="one positive item at least"):
        MEAN_AVERAGE_PRECISION.compute([(), ()], [np.array([0.5]), np.array([0.1])])


def test_a_tie_goes_to_the_lower_class_as_in_argmax() -> None:
    scores = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    targets = [0, 1, 2]
    expected = np.mean(scores.argmax(1) == targets)
    assert TOP1.compute(targets, list(scores)) == pytest.approx(expected) == pytest.approx(1 / 3)


def test_constant_scores_earn_chance_only() -> None:
    # By hand: each class once, all tied: top-1 is 1 of 10, top-5 is 5 of 10.
    targets, scores = list(range(10)), [np.zeros(10)] * 10
    assert TOP1.compute(targets, scores) == 0.1
    assert TOP5.compute(targets, scores) == 0.5


def test_scores_that_are_nan_are_refused_and_located() -> None:
    scores = [None, np.array([0.1, 0.9]), np.array([np.nan, 0.1])]
    with pytest.raises(DataError, match="row 2 hold NaN"):
        TOP1.compute([0, 1, 1], scores)


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_outside_the_classes_is_refused(target: int) -> None:
    with pytest.raises(DataError, match="from 0 to 1"):
        TOP1.compute([target], [np.array([0.5, 0.5])])
    with pytest.raises(DataError, match="from 0 to 1"):
        MEAN_AVERAGE_PRECISION.compute([(target,)], [np.array([0.5, 0.5])])


def test_a_target_that_is_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="class index"):
        TOP1.compute(["cat"], [np.array([0.5, 0.5])])


def test_predictions_of_different_widths_are_refused() -> None:
    with pytest.raises(DataError, match="one score a class"):
        TOP1.compute([0, 0], [np.zeros(2), np.zeros(3)])


def test_no_examples_have_no_score() -> None:
    for metric in (TOP1, TOP5, MEAN_PER_CLASS, MEAN_AVERAGE_PRECISION):
        with pytest.raises(DataError, match="No examples, no score"):
            evaluate_metric(metric, [], [])


def test_a_dropped_prediction_is_noticed() -> None:
    with pytest.raises(DataError, match="2 items and 1 predictions"):
        evaluate_metric(TOP1, [0, 1], [np.zeros(2)])


def test_a_proportion_has_wilsons_interval() -> None:
    targets, scores = _random()
    score = evaluate_metric(TOP1, targets, scores)
    assert score.interval == "wilson"
    assert (score.low, score.high) == pytest.approx(wilson(round(score.value * 200), 200))


def test_per_item_scores_average_to_the_value() -> None:
    targets, scores = _random()
    for metric in (TOP1, TOP5, MEAN_PER_CLASS):
        score = evaluate_metric(metric, targets, scores)
        assert score.per_item is not None
        assert score.per_item.mean() == pytest.approx(score.value)
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.value < score.high


def test_a_metric_that_can_not_be_resampled_has_no_interval() -> None:
    plain = Metric(name="plain", compute=lambda targets, predictions: 0.5)
    score = evaluate_metric(plain, [1], [1])
    assert (score.low, score.high, score.interval, score.per_item) == (None, None, "", None)


def _multilabel(num_items: int = 40) -> tuple[list[Labels | tuple[int, ...]], list[Any]]:
    """Give labels with ties, uncounted items, a rare class, and an item that failed."""
    generator = np.random.default_rng(5)
    truth = generator.random((num_items, 4)) < [0.4, 0.3, 0.2, 1 / num_items]
    scores = np.round(generator.random((num_items, 4)) + 0.4 * truth, 1)
    targets: list[Labels | tuple[int, ...]] = [
        Labels(
            np.flatnonzero(row).tolist(), uncounted=(0,) if place % 7 == 3 and not row[0] else ()
        )
        for place, row in enumerate(truth)
    ]
    return targets, [None, *scores[1:]]


@pytest.mark.parametrize("metric", [MEAN_AVERAGE_PRECISION, MAP_11], ids=lambda metric: metric.name)
def test_resampled_precisions_are_those_of_lists_with_repeated_items(metric: Metric) -> None:
    targets, predictions = _multilabel()
    counts = resampled_counts(len(targets), np.random.default_rng(0), num_resamples=30)
    assert metric.resampled is not None

    found = metric.resampled(targets, predictions, counts)

    # Second source: the metric itself, of items written down as often as they were drawn.
    for resample, value in enumerate(found):
        rows = np.repeat(np.arange(len(targets)), counts[:, resample])
        again = [targets[row] for row in rows], [predictions[row] for row in rows]
        assert value == pytest.approx(metric.compute(*again), abs=1e-12)


def test_a_resample_without_any_label_has_no_value() -> None:
    counts = np.array([[0, 1], [2, 1]], dtype=np.int16)
    assert MAP_11.resampled is not None
    found = MAP_11.resampled([(0,), ()], [np.array([0.9]), np.array([0.1])], counts)
    np.testing.assert_array_equal(found, [np.nan, 1.0])


@pytest.mark.parametrize("metric", [MEAN_AVERAGE_PRECISION, MAP_11], ids=lambda metric: metric.name)
def test_average_precision_has_a_bootstrap_interval_whatever_the_order_of_items(
    metric: Metric,
) -> None:
    targets, predictions = _multilabel(120)
    score = evaluate_metric(metric, targets, predictions)
    back = evaluate_metric(metric, targets[::-1], predictions[::-1])

    assert score.interval == "bootstrap"
    assert score.low is not None and score.high is not None
    assert score.low < score.value < score.high
    assert (score.low, score.high) == pytest.approx((back.low, back.high), abs=1e-12)


def test_an_average_precision_of_folds_is_resampled_within_them() -> None:
    # By hand: fold a is perfect however it is drawn, fold b is one item: nothing varies.
    targets = [(0,), (0,), (), (0,)]
    scores = [np.array([value]) for value in (0.9, 0.8, 0.1, 0.5)]
    score = evaluate_metric(MAP_11, targets, scores, folds=["a", "a", "a", "b"], averaging="mean")
    assert (score.low, score.value, score.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("metric", [MEAN_AVERAGE_PRECISION, MAP_11], ids=lambda metric: metric.name)
def test_resampled_values_are_of_the_same_items_for_every_network(metric: Metric) -> None:
    targets, predictions = _multilabel(60)
    other = [None if scores is None else scores[::-1] for scores in predictions]

    found = resampled_values(metric, targets, predictions, seed=3)

    # Second source: the metric itself, of items written down as often as numpy draws them.
    counts = resampled_counts(60, np.random.default_rng((3, 0)), num_resamples=5)
    for resample in range(5):
        rows = np.repeat(np.arange(60), counts[:, resample])
        again = [targets[row] for row in rows], [predictions[row] for row in rows]
        assert found[resample] == pytest.approx(metric.compute(*again), abs=1e-12)
    assert not np.allclose(found, resampled_values(metric, targets, other, seed=3))
    assert not np.allclose(found, resampled_values(metric, targets, predictions, seed=4))


def test_a_paired_difference_of_precisions_is_sharper_than_two_intervals() -> None:
    generator = np.random.default_rng(6)
    truth = generator.random((150, 3)) < 0.3
    targets = [tuple(np.flatnonzero(row).tolist()) for row in truth]
    predictions = list(truth + generator.normal(size=(150, 3)))
    better = list(np.stack(predictions) + 0.2 * truth)

    def paired(first: list[np.ndarray], second: list[np.ndarray]) -> PairedDifference:
        gain = MAP_11.compute(targets, first) - MAP_11.compute(targets, second)
        drawn = [resampled_values(MAP_11, targets, each) for each in (first, second)]
        return resampled_difference(gain, drawn[0] - drawn[1])

    value, low, high = paired(better, predictions)
    back = paired(predictions, better)
    nothing = paired(better, list(better))

    assert back == pytest.approx((-value, -high, -low))
    assert nothing == (0.0, 0.0, 0.0)
    alone = evaluate_metric(MAP_11, targets, better)
    assert alone.low is not None and alone.high is not None
    assert high - low < (alone.high - alone.low) / 2


def test_a_paired_difference_of_precisions_averages_folds_as_the_metric_does() -> None:
    # By hand: in fold a the first is perfect and the second finds its one label last of two, 1/2 in
    # every resample that has both; fold b is one item, right for both.
    targets = [(0,), (), (0,)]
    first = [np.array([value]) for value in (0.9, 0.1, 0.5)]
    second = [np.array([value]) for value in (0.1, 0.9, 0.5)]
    first_R, second_R = (
        resampled_values(
            MEAN_AVERAGE_PRECISION, targets, each, folds=["a", "a", "b"], averaging="mean"
        )
        for each in (first, second)
    )
    # Of fold a one in four resamples has no label to find; one of its label alone finds it first.
    assert 150 < np.isnan(first_R).sum() < 350
    assert set(first_R[~np.isnan(first_R)]) == {1.0}
    assert set(second_R[~np.isnan(second_R)]) == {(0.5 + 1) / 2, 1.0}


def test_metrics_are_found_by_name() -> None:
    assert BY_NAME["map_11"] is MAP_11
    assert all(name == metric.name for name, metric in BY_NAME.items())


def test_a_value_that_is_no_number_is_refused() -> None:
    broken = Metric(name="broken", compute=lambda targets, predictions: float("nan"))
    with pytest.raises(DataError, match="broken must be finite"):
        evaluate_metric(broken, [1], [1])


def test_the_mean_of_folds_counts_each_fold_alike() -> None:
    # By hand: fold a is right 1 of 1, fold b 0 of 3: the mean of folds is 0.5, pooled it is 0.25.
    right, wrong = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    arguments = ([0, 0, 0, 0], [right, wrong, wrong, wrong])
    folds = ["a", "b", "b", "b"]
    apart = evaluate_metric(TOP1, *arguments, folds=folds, averaging="mean")
    assert (apart.value, apart.folds, apart.interval) == (0.5, (1.0, 0.0), "bootstrap")
    assert apart.per_item is not None
    assert np.mean(fold_weights(folds) * apart.per_item) == pytest.approx(0.5)
    pooled = evaluate_metric(TOP1, *arguments, folds=folds, averaging="pooled")
    assert (pooled.value, pooled.folds, pooled.interval) == (0.25, (), "wilson")


def test_the_interval_of_a_mean_per_class_stays_inside_the_possible_values():
    # Two classes of unequal size, one of them always right: by hand, the mean per class lies
    # between 1/2 (the other class all wrong) and 1; resampling over classes' borders left it.
    targets = [0] * 3 + [1] * 17
    right, wrong = np.array([0.9, 0.1]), np.array([0.9, 0.1])
    predictions = [right] * 3 + [np.array([0.1, 0.9])] * 12 + [wrong] * 5

    score = evaluate_metric(MEAN_PER_CLASS, targets, predictions)

    assert score.value == pytest.approx((1 + 12 / 17) / 2)
    assert score.low is not None and score.high is not None
    assert 0.5 <= score.low < score.value < score.high <= 1.0
