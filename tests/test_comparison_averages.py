"""Averages over a suite: every column counts alike, and items that columns share are one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_world import hits_of, save_run
from records_factory import some_hits
from test_comparison import _labels_and_scores

from rsbench.comparison import Average, Comparison, compare
from rsbench.errors import RsbenchError
from rsbench.metrics import MEAN_AVERAGE_PRECISION
from rsbench.records import store
from rsbench.suites import Suite

SUITE = Suite(
    name="duo",
    tasks=("plain", "fancy"),
    protocols=("linear_probe",),
    title="Two tasks",
    citation="none",
)
BOTH = Suite(
    name="both",
    tasks=("plain",),
    protocols=("linear_probe", "knn"),
    title="One task, two protocols",
    citation="none",
)


def _save(
    root: Path,
    task: str,
    backbone: str,
    hits: list[float],
    *,
    limit: int | None = None,
    **parts: Any,
) -> None:
    ids = [f"{task}{row}" for row in range(len(hits))]
    save_run(root, backbone, hits, ids=ids, task={"name": task, "limit": limit}, **parts)


def _compared(root: Path, suite: Suite = SUITE, **options: Any) -> Comparison:
    return compare(store.read_all(root), suite=suite, **options)


def _average(root: Path, suite: Suite = SUITE, **options: Any) -> Average:
    (average,) = _compared(root, suite, **options).averages
    return average


def _p_of_all_flips(values: np.ndarray) -> float:
    """Go through all signs of a few values."""
    signs = itertools.product((1, -1), repeat=len(values))
    sums = np.array([np.dot(each, values) for each in signs])
    return float(np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9))


def test_columns_count_alike_however_many_items_they_have(tmp_path: Path) -> None:
    rows = {
        "a": (hits_of("1111"), hits_of("1100000000")),
        "b": (hits_of("1000"), hits_of("1111100000")),
    }
    for name, (plain, fancy) in rows.items():
        _save(tmp_path, "plain", name, plain)
        _save(tmp_path, "fancy", name, fancy)
    average = _average(tmp_path)
    (pair,) = average.pairs

    assert [row.label for row in average.rows] == ["a", "b"]
    # By hand: (4/4 + 2/10) / 2 and (1/4 + 5/10) / 2.
    assert [row.mean.value for row in average.rows] == pytest.approx([0.6, 0.375])
    assert pair.difference == pytest.approx(0.225)
    assert average.columns == ("plain linear_probe", "fancy linear_probe")
    # An item of the first column weighs 1/4, one of the second 1/10: all signs are gone through.
    gain = np.array([0, 1, 1, 1, *[0, 0, -1, -1, -1, 0, 0, 0, 0, 0]], dtype=float)
    weighted = gain * ([1 / 8] * 4 + [1 / 20] * 10)
    assert pair.p == pytest.approx(_p_of_all_flips(weighted[weighted != 0]), rel=1e-9)
    assert pair.n == 14


def test_items_that_two_columns_share_are_flipped_whole(tmp_path: Path) -> None:
    for protocol in ("linear_probe", "knn"):
        for name, hits in (("a", hits_of("111111")), ("b", hits_of("000111"))):
            save_run(tmp_path, name, hits, protocol={"name": protocol})
    average = _average(tmp_path, BOTH)
    (pair,) = average.pairs

    assert pair.n == 6
    # Three items differ, alike under both protocols: 2 of 2^3 flips; of six, 2 of 2^6.
    assert pair.p == pytest.approx(2 / 8)


def test_the_interval_of_an_average_is_resampled_within_each_column(tmp_path: Path) -> None:
    # In one column a is right alone everywhere, in the other nowhere: however items are drawn
    # within the columns the mean difference is 1/2. Drawn from all together it would vary.
    for name, plain in (("a", [1.0] * 20), ("b", [0.0] * 20)):
        _save(tmp_path, "plain", name, plain)
        _save(tmp_path, "fancy", name, [1.0] * 30)
    (pair,) = _average(tmp_path).pairs

    assert (pair.low, pair.difference, pair.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_network_without_a_column_is_named_and_has_no_average(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path, "plain", name, some_hits(80))
        _save(tmp_path, "fancy", name, some_hits(90))
    _save(tmp_path, "plain", "half", some_hits(150))
    average = _average(tmp_path)

    assert sorted(row.label for row in average.rows) == ["a", "b"]
    assert average.incomplete == ("half (none) has no fancy linear_probe",)


def test_a_column_that_nobody_has_is_missing_and_the_sentence_says_so(tmp_path: Path) -> None:
    for name, num_hits in (("a", 150), ("b", 20)):
        _save(tmp_path, "plain", name, some_hits(num_hits))
    comparison = _compared(tmp_path)

    assert comparison.averages[0].missing == ("fancy linear_probe",)
    assert "on average over 1 columns of suite duo (1 more are missing)" in comparison.sentences[-1]


def test_several_rulers_of_one_column_are_not_chosen_from(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path, "plain", name, some_hits(80))
        _save(tmp_path, "fancy", name, some_hits(80))
        _save(tmp_path, "fancy", name, some_hits(80), protocol={"clips": 3})
    average = _average(tmp_path)

    assert average.rows == ()
    assert "several rulers of fancy linear_probe: none of them is chosen" in average.incomplete[0]


def test_limited_runs_have_an_average_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for task in SUITE.tasks:
            _save(tmp_path, task, name, some_hits(80))
            _save(tmp_path, task, name, some_hits(30), limit=160)

    assert len(_compared(tmp_path).averages) == 2


def test_a_column_of_average_precision_enters_by_its_resampled_values(tmp_path: Path) -> None:
    for name, noise, num_hits in (("a", 0.3, 140), ("b", 1.5, 60)):
        _save(tmp_path, "plain", name, some_hits(num_hits, seed=num_hits))
        targets, scores = _labels_and_scores(noise)
        save_run(
            tmp_path,
            name,
            targets=targets,
            predictions=scores,
            metric=MEAN_AVERAGE_PRECISION,
            kind="multilabel",
            task={"name": "fancy"},
        )
    average = _average(tmp_path)
    (pair,) = average.pairs

    assert pair.test == "bootstrap"
    assert pair.verdict == "win"
    assert pair.difference == pytest.approx(average.rows[0].mean.value - average.rows[1].mean.value)
    assert pair.low is not None and pair.high is not None
    assert 0 < pair.low < pair.difference < pair.high


def test_the_baseline_of_an_average_is_found_by_its_name(tmp_path: Path) -> None:
    for name, num_hits in (("a", 120), ("b", 100), ("c", 60)):
        for task in SUITE.tasks:
            _save(tmp_path, task, name, some_hits(num_hits, seed=num_hits))
    average = _average(tmp_path, baseline="b")

    assert average.baseline == 1
    assert [(pair.first, pair.second) for pair in average.pairs] == [(0, 1), (2, 1)]
    assert [row.rank for row in average.rows] == [None, None, None]
    with pytest.raises(RsbenchError, match="No result is of 'd'"):
        _average(tmp_path, baseline="d")


def test_ranks_of_averages_are_shared_by_what_is_not_told_apart(tmp_path: Path) -> None:
    base = some_hits(80, seed=1)
    for name, hits in (("best", [1.0] * 160), ("x", base), ("y", base)):
        for task in SUITE.tasks:
            _save(tmp_path, task, name, hits)
    average = _average(tmp_path)

    assert {row.label: row.rank for row in average.rows} == {"best": 1, "x": 2, "y": 2}
