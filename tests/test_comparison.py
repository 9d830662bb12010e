"""Comparisons: differences, p, q, ranks and verdicts, what is refused, and what is left out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from comparison_world import hits_of, save_run, scores_of
from records_factory import some_hits
from scipy import stats as scipy_stats
from sklearn.metrics import average_precision_score, recall_score

from rsbench.comparison import Comparison, Family, Pairwise, compare, families
from rsbench.digests import digest_bytes
from rsbench.errors import RecordError, RsbenchError, UnknownNameError
from rsbench.metrics import MEAN_AVERAGE_PRECISION, MEAN_PER_CLASS
from rsbench.records import store
from rsbench.records.schema import to_json
from rsbench.specs import Metric
from rsbench.tables import table as tables


def _compared(root: Path, **options: Any) -> Comparison:
    return compare(store.read_all(root), **options)


def _only(comparison: Comparison) -> tuple[Family, Pairwise]:
    """Give the one family and its one pair."""
    (family,) = comparison.families
    (pair,) = family.pairs
    return family, pair


def _labels(family: Family) -> list[str]:
    return [standing.label for standing in family.standings]


# --------------------------------------------------------------------------------- one pair


def test_single_runs_are_compared_by_mcnemars_exact_test(tmp_path: Path) -> None:
    first, second = some_hits(84, seed=1), some_hits(60, seed=2)
    save_run(tmp_path, "good", first)
    save_run(tmp_path, "poor", second)
    family, pair = _only(_compared(tmp_path))
    first_only = sum(a > b for a, b in zip(first, second, strict=True))
    second_only = sum(a < b for a, b in zip(first, second, strict=True))

    assert _labels(family) == ["good", "poor"]
    assert (pair.wins_items, pair.losses_items) == (first_only, second_only)
    # scipy.stats.binomtest: the exact test of the items that only one got right.
    expected = scipy_stats.binomtest(first_only, first_only + second_only).pvalue
    assert pair.p == pytest.approx(expected, rel=1e-12)
    assert (pair.test, pair.exact) == ("mcnemar", True)
    # By hand: (84 - 60) / 160.
    assert pair.difference == pytest.approx(0.15, abs=1e-12)
    assert pair.first_value == 84 / 160
    assert pair.second_value == 60 / 160
    assert pair.low is not None and pair.high is not None
    assert pair.low < 0.15 < pair.high


def test_the_interval_of_a_difference_is_that_of_resampled_items(tmp_path: Path) -> None:
    first, second = np.array(some_hits(84, seed=1)), np.array(some_hits(60, seed=2))
    save_run(tmp_path, "good", first.tolist())
    save_run(tmp_path, "poor", second.tolist())
    _, pair = _only(_compared(tmp_path))

    # scipy.stats.bootstrap of the items' differences; both are drawn, so they agree to a point.
    expected = scipy_stats.bootstrap(
        (first - second,), np.mean, method="percentile", n_resamples=20_000, random_state=3
    ).confidence_interval
    assert pair.low == pytest.approx(expected.low, abs=0.01)
    assert pair.high == pytest.approx(expected.high, abs=0.01)


def test_several_seeds_are_averaged_by_item_and_their_signs_are_flipped(tmp_path: Path) -> None:
    seeds_a = [hits_of("1111011101"), hits_of("1111111001"), hits_of("1101011101")]
    seeds_b = [hits_of("0101010101"), hits_of("1101010001"), hits_of("0101110001")]
    for name, seeds in (("a", seeds_a), ("b", seeds_b)):
        for seed, hits in enumerate(seeds):
            save_run(tmp_path, name, hits, seed=seed)
    _, pair = _only(_compared(tmp_path))
    gain_N = np.mean(seeds_a, axis=0) - np.mean(seeds_b, axis=0)

    assert pair.test == "permutation"
    assert pair.exact
    # All 2^10 flips of signs, gone through here.
    flips = [
        abs(np.dot(signs, gain_N)) >= abs(gain_N.sum()) - 1e-9
        for signs in itertools.product((1, -1), repeat=10)
    ]
    assert pair.p == pytest.approx(np.mean(flips), rel=1e-9)
    assert pair.difference == pytest.approx(gain_N.mean())


def test_an_item_that_several_folds_test_is_flipped_whole(tmp_path: Path) -> None:
    ids = ["a", "b", "c", "d", "a", "b", "c", "d"]
    folds = ["1"] * 4 + ["2"] * 4
    first, second = hits_of("11111111"), hits_of("00100010")
    for name, hits in (("good", first), ("poor", second)):
        save_run(
            tmp_path, name, hits, ids=ids, folds=folds, targets=[0, 1, 2, 3] * 2, averaging="mean"
        )
    _, pair = _only(_compared(tmp_path))

    assert pair.n == 4, "four different clips"
    # Three clips differ, each in both folds: 2 of 2^3 flips are as far. Eight items that were
    # flipped one by one would give 2 of 2^6.
    assert pair.p == pytest.approx(2 / 8)
    assert pair.difference == pytest.approx(6 / 8)


def test_folds_of_unequal_size_count_alike(tmp_path: Path) -> None:
    ids = [f"clip{row}" for row in range(10)]
    folds = ["1"] * 2 + ["2"] * 8
    for name, hits in (("good", hits_of("1100000000")), ("poor", hits_of("0011000000"))):
        save_run(tmp_path, name, hits, ids=ids, folds=folds, averaging="mean")
    family, pair = _only(_compared(tmp_path))

    # By hand: (2/2 + 0/8) / 2 against (0/2 + 2/8) / 2.
    assert (pair.first_value, pair.second_value) == (0.5, 0.125)
    assert pair.difference == pytest.approx(0.375)
    assert pair.test == "permutation", "weighted hits are no hits"
    assert _labels(family) == ["good", "poor"]


def test_equal_predictions_are_not_told_apart_and_what_could_be_seen_is_said(
    tmp_path: Path,
) -> None:
    hits = some_hits(80)
    save_run(tmp_path, "one", hits)
    save_run(tmp_path, "two", hits)
    comparison = _compared(tmp_path)
    _, pair = _only(comparison)

    assert (pair.p, pair.verdict, pair.difference) == (1.0, "tie", 0.0)
    # Six one-sided items are the fewest whose exact p (2 / 2^6) is below 0.05: 6 of 160.
    assert pair.detectable == pytest.approx(6 / 160)
    assert comparison.sentences[0].startswith("Not told apart: one and two on plain")
    assert "160 items could show a difference of 3.8 points" in comparison.sentences[0]


def test_where_less_is_better_the_lower_number_wins(tmp_path: Path) -> None:
    error = Metric(
        name="error",
        compute=lambda targets, predictions: float(np.mean(_errors(targets, predictions))),
        per_item=lambda targets, predictions: _errors(targets, predictions),
        higher_is_better=False,
    )
    generator = np.random.default_rng(0)
    targets = generator.normal(size=40).tolist()
    for name, noise in (("near", 0.1), ("far", 3.0)):
        predictions = [np.float64(target + noise) for target in targets]
        save_run(
            tmp_path, name, targets=targets, predictions=predictions, metric=error, kind="value"
        )
    family, pair = _only(_compared(tmp_path))

    assert _labels(family) == ["near", "far"]
    assert pair.difference < 0
    assert pair.verdict == "win"
    assert family.standings[0].wins == 1


def _errors(targets: Sequence[float], predictions: Sequence[float]) -> np.ndarray:
    return np.abs(np.asarray(targets) - np.asarray(predictions, dtype=np.float64))


# --------------------------------------------------------------------------- families and ranks


def test_q_is_benjamini_and_hochbergs_over_all_pairs_of_a_family(tmp_path: Path) -> None:
    for name, num_hits in (("a", 120), ("b", 100), ("c", 95), ("d", 60)):
        save_run(tmp_path, name, some_hits(num_hits, seed=num_hits))
    comparison = _compared(tmp_path)
    (family,) = comparison.families

    assert len(family.pairs) == 6
    # scipy.stats.false_discovery_control.
    expected = scipy_stats.false_discovery_control([pair.p for pair in family.pairs])
    assert [pair.q for pair in family.pairs] == pytest.approx(expected.tolist(), rel=1e-12)
    assert any("Benjamini and Hochberg over 6 pairs" in note for note in comparison.notes)


def test_a_rank_is_one_more_than_the_rows_that_are_surely_better(tmp_path: Path) -> None:
    base = some_hits(80, seed=1)
    nearly = [*base]
    nearly[base.index(1.0)] = 0.0
    save_run(tmp_path, "best", [1.0] * 160)
    save_run(tmp_path, "middle", base)
    save_run(tmp_path, "equal", nearly)
    save_run(tmp_path, "worst", [0.0] * 160)
    (family,) = _compared(tmp_path).families

    ranks = {each.label: each.rank for each in family.standings}
    assert ranks == {"best": 1, "middle": 2, "equal": 2, "worst": 4}
    counts = {each.label: (each.wins, each.ties, each.losses) for each in family.standings}
    assert counts == {
        "best": (3, 0, 0),
        "middle": (1, 1, 1),
        "equal": (1, 1, 1),
        "worst": (0, 0, 3),
    }


def test_verdicts_follow_q_and_not_p(tmp_path: Path) -> None:
    hits = some_hits(80, seed=0)
    # Seven items more, none less: p = 2 / 2^7 = 0.0156 alone, and q above 0.05 among many equals.
    better = [*hits]
    for place in [row for row, hit in enumerate(hits) if not hit][:7]:
        better[place] = 1.0
    save_run(tmp_path / "two", "better", better)
    save_run(tmp_path / "two", "same0", hits)
    for name in ("better", *(f"same{number}" for number in range(9))):
        save_run(tmp_path / "many", name, better if name == "better" else hits)
    two, many = (_compared(tmp_path / name).families[0] for name in ("two", "many"))

    assert two.pairs[0].p == many.pairs[0].p == pytest.approx(2 / 2**7)
    assert two.pairs[0].verdict == "win"
    # By hand: nine of 45 p are 0.0156 and the rest 1, so that q = 0.0156 * 45 / 9.
    assert many.pairs[0].q == pytest.approx(2 / 2**7 * 45 / 9)
    assert many.pairs[0].verdict == "tie"


def test_a_baseline_is_the_second_of_every_pair(tmp_path: Path) -> None:
    for name, num_hits in (("a", 120), ("b", 100), ("c", 60)):
        save_run(tmp_path, name, some_hits(num_hits, seed=num_hits))
    (family,) = _compared(tmp_path, baseline="b").families

    assert family.baseline == 1
    assert [(pair.first, pair.second) for pair in family.pairs] == [(0, 1), (2, 1)]
    assert family.pairs[1].difference == pytest.approx((60 - 100) / 160)
    assert [standing.rank for standing in family.standings] == [None, None, None]
    expected = scipy_stats.false_discovery_control([pair.p for pair in family.pairs])
    assert [pair.q for pair in family.pairs] == pytest.approx(expected.tolist())


def test_a_near_miss_of_a_baseline_gets_a_suggestion(tmp_path: Path) -> None:
    save_run(tmp_path, "resnet_rs_50", some_hits(80))
    save_run(tmp_path, "x3d_m", some_hits(90))
    with pytest.raises(UnknownNameError, match=r"Did you mean resnet_rs_50\?"):
        _compared(tmp_path, baseline="resnet_50")


def test_a_baseline_of_several_rows_must_say_which(tmp_path: Path) -> None:
    for weights in ("k400", "in1k"):
        part = {"name": weights, "digest": weights.ljust(64, "0"), "init_seed": None}
        save_run(tmp_path, "x3d_m", some_hits(80), weights=part)
    save_run(tmp_path, "tiny_3d", some_hits(90))
    with pytest.raises(RsbenchError, match="'x3d_m in1k', 'x3d_m k400'; name one of these"):
        _compared(tmp_path, baseline="x3d_m")
    (family,) = _compared(tmp_path, baseline="x3d_m k400").families

    assert family.baseline is not None
    assert family.rows[family.baseline].weights == "k400"


def test_a_baseline_may_be_named_by_its_record(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(80))
    path = save_run(tmp_path, "b", some_hits(90))
    (family,) = _compared(tmp_path, baseline=str(path)).families

    assert family.baseline is not None
    assert family.rows[family.baseline].backbone == "b"


def test_names_leave_the_other_rows_out_and_an_unknown_one_is_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save_run(tmp_path, name, some_hits(80, seed=ord(name)))
    family, _ = _only(_compared(tmp_path, names=("a", "c")))

    assert sorted(_labels(family)) == ["a", "c"]
    with pytest.raises(UnknownNameError, match=r"No result is of 'd'.*There are a, b, c"):
        _compared(tmp_path, names=("a", "d"))


def test_fields_part_results_and_an_unknown_field_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for pixels in (64, 128):
            hits = some_hits(80, seed=pixels + ord(name))
            save_run(tmp_path, name, hits, network={"pixels": pixels})
    families = _compared(tmp_path, by=("task", "protocol", "pixels")).families

    assert [family.group for family in families] == [(("pixels", "64"),), (("pixels", "128"),)]
    assert [len(family.pairs) for family in families] == [1, 1]
    with pytest.raises(UnknownNameError, match="Did you mean pixels"):
        _compared(tmp_path, by=("task", "pixel"))


def test_one_network_alone_is_said_to_have_nothing_beside_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        save_run(tmp_path, "a", some_hits(80, seed=seed), seed=seed)
    comparison = _compared(tmp_path)

    assert comparison.sentences == ()
    assert comparison.families[0].pairs == ()
    assert any("one network alone" in note for note in comparison.notes)


def test_the_order_of_the_records_changes_nothing(tmp_path: Path) -> None:
    for name, num_hits in (("a", 120), ("b", 100), ("c", 60)):
        for seed in (0, 1):
            save_run(tmp_path, name, some_hits(num_hits, seed=num_hits + seed), seed=seed)
    contents = store.read_all(tmp_path)

    backwards = compare(contents._replace(records=contents.records[::-1]))
    assert backwards == compare(contents)


# ------------------------------------------------------------------------- unequal rulers


def test_unequal_rulers_are_refused_naming_the_fields(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(80))
    save_run(tmp_path, "b", some_hits(80), protocol={"clips": 3, "crops": 2})
    comparison = _compared(tmp_path)
    (refusal,) = comparison.refusals

    assert [each.field for each in refusal.fields] == ["clips", "crops"]
    assert refusal.way_out == ""
    assert all(not family.pairs for family in comparison.families)


def test_a_sample_is_never_beside_the_real_task(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(80))
    save_run(tmp_path, "b", some_hits(80), task={"name": "plain@sample", "sample": True})
    comparison = _compared(tmp_path)

    assert [family.task for family in comparison.families] == ["plain", "plain@sample"]
    assert all(not family.pairs for family in comparison.families)
    (refusal,) = _compared(tmp_path, by=("protocol",)).refusals
    assert {"task", "sample"} <= {each.field for each in refusal.fields}


IDS_A = [f"clip{row:03d}" for row in range(100)]
IDS_B = [f"clip{row:03d}" for row in range(10, 90)]
TARGETS = {name: row % 8 for row, name in enumerate(IDS_A)}


def _save_lists(root: Path, **of_second: Any) -> tuple[list[float], list[float]]:
    """Write "a" on 100 clips and "b" on 80 of them; give their hits."""
    first = some_hits(70, num_items=100, seed=1)
    second = some_hits(30, num_items=80, seed=2)
    save_run(root, "a", first, ids=IDS_A, targets=[TARGETS[name] for name in IDS_A])
    targets = [TARGETS[name] for name in IDS_B]
    save_run(root, "b", second, ids=IDS_B, targets=of_second.pop("targets", targets), **of_second)
    return first, second


def test_two_lists_are_refused_and_compared_on_what_they_share(tmp_path: Path) -> None:
    first, second = _save_lists(tmp_path)
    refused = _compared(tmp_path)

    assert [each.field for each in refused.refusals[0].fields] == ["data"]
    assert refused.refusals[0].way_out == "--common-subset"
    family, pair = _only(_compared(tmp_path, common_subset=True))
    shared = first[10:90]
    assert family.is_common_subset
    assert len(family.digests) == 2
    assert (pair.n, pair.n_first, pair.n_second) == (80, 100, 80)
    # By hand: both anew on the 80 shared clips.
    assert pair.first_value == pytest.approx(sum(shared) / 80)
    assert pair.second_value == pytest.approx(30 / 80)
    only_a = sum(a > b for a, b in zip(shared, second, strict=True))
    only_b = sum(a < b for a, b in zip(shared, second, strict=True))
    assert pair.p == pytest.approx(scipy_stats.binomtest(only_a, only_a + only_b).pvalue, rel=1e-12)


def test_shared_items_whose_right_answers_differ_are_left_out_and_counted(tmp_path: Path) -> None:
    targets = [TARGETS[name] for name in IDS_B]
    targets[:3] = [(target + 1) % 8 for target in targets[:3]]
    _save_lists(tmp_path, targets=targets)
    family, pair = _only(_compared(tmp_path, common_subset=True))

    assert pair.n == 77
    assert any(line.startswith("3 shared items are left out") for line in family.warnings)


def test_other_training_items_stay_refused_unless_allowed_and_the_sentence_says_so(
    tmp_path: Path,
) -> None:
    _save_lists(tmp_path, data={"train_fingerprint": "e" * 64})
    refused = _compared(tmp_path, common_subset=True)

    assert {each.field for each in refused.refusals[0].fields} == {"data", "train"}
    assert refused.refusals[0].way_out == "--common-subset --allow-other-training"
    allowed = _compared(tmp_path, common_subset=True, allow_other_training=True)
    family, pair = _only(allowed)
    assert pair.n == 80
    assert family.other_training
    assert "though they did not learn from the same items" in allowed.sentences[0]


def test_lists_without_a_shared_item_are_told(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(5, num_items=10), ids=IDS_A[:10])
    save_run(tmp_path, "b", some_hits(5, num_items=10), ids=IDS_A[50:60])
    comparison = _compared(tmp_path, common_subset=True)

    assert comparison.families == ()
    assert any("share no item" in problem for problem in comparison.problems)


def test_lists_of_other_numbers_of_classes_share_nothing(tmp_path: Path) -> None:
    _save_lists(tmp_path, task={"num_classes": 6})
    comparison = _compared(tmp_path, common_subset=True)

    (problem,) = comparison.problems
    assert "classes must be the" in problem
    assert comparison.families == ()


def test_a_mean_per_class_is_computed_anew_on_the_shared_items(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    targets_a = generator.integers(0, 3, size=60).tolist()
    ids = [f"clip{row:02d}" for row in range(60)]
    hits = {"a": some_hits(40, num_items=60, seed=3), "b": some_hits(20, num_items=45, seed=5)}
    save_run(tmp_path, "a", hits["a"], ids=ids, targets=targets_a, metric=MEAN_PER_CLASS)
    save_run(tmp_path, "b", hits["b"], ids=ids[:45], targets=targets_a[:45], metric=MEAN_PER_CLASS)
    _, pair = _only(_compared(tmp_path, common_subset=True))

    # Macro recall of sklearn.metrics.recall_score on the 45 shared clips.
    for value, name in ((pair.first_value, "a"), (pair.second_value, "b")):
        scores = np.stack(scores_of(targets_a[:45], hits[name][:45]))
        guessed = scores.argmax(axis=1)
        expected = recall_score(targets_a[:45], guessed, labels=[0, 1, 2], average="macro")
        assert value == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------ metrics of no items


def _labels_and_scores(noise: float, num_items: int = 120) -> tuple[list[Any], list[np.ndarray]]:
    generator = np.random.default_rng(11)
    truth = generator.random((num_items, 5)) < 0.3
    own = np.random.default_rng(int(1000 * noise))
    scores = (truth + own.normal(0, noise, truth.shape)).astype(np.float32)
    targets = [tuple(int(k) for k in np.flatnonzero(row)) for row in truth]
    return targets, list(scores)


def test_mean_average_precision_is_compared_on_resampled_items(tmp_path: Path) -> None:
    for name, noise in (("sharp", 0.3), ("dull", 1.5), ("dull too", 1.501)):
        targets, scores = _labels_and_scores(noise)
        save_run(
            tmp_path,
            name,
            targets=targets,
            predictions=scores,
            metric=MEAN_AVERAGE_PRECISION,
            kind="multilabel",
        )
    (family,) = _compared(tmp_path).families
    by_names = {
        (_labels(family)[pair.first], _labels(family)[pair.second]): pair for pair in family.pairs
    }
    dull = [label for label in _labels(family) if label != "sharp"]

    clear = by_names["sharp", dull[0]]
    assert (clear.test, clear.interval, clear.verdict) == ("bootstrap", "bootstrap", "win")
    assert clear.low is not None and clear.high is not None
    assert 0 < clear.low < clear.difference < clear.high
    unclear = by_names[dull[0], dull[1]]
    assert unclear.verdict == "tie"
    assert unclear.low is not None and unclear.high is not None
    assert unclear.low < 0 < unclear.high
    assert family.standings[0].rank == 1
    assert {standing.rank for standing in family.standings[1:]} == {2}


def test_mean_average_precision_is_computed_anew_on_the_shared_items(tmp_path: Path) -> None:
    for name, noise, num in (("a", 0.3, 120), ("b", 1.5, 90)):
        targets, scores = _labels_and_scores(noise)
        save_run(
            tmp_path,
            name,
            targets=targets[:num],
            predictions=scores[:num],
            metric=MEAN_AVERAGE_PRECISION,
            kind="multilabel",
        )
    _, pair = _only(_compared(tmp_path, common_subset=True))

    targets, scores = _labels_and_scores(0.3)
    truth = np.array([[k in target for k in range(5)] for target in targets[:90]])
    # sklearn.metrics.average_precision_score of each class, averaged.
    expected = average_precision_score(truth, np.stack(scores[:90]), average="macro")
    assert pair.first_value == pytest.approx(expected, rel=1e-9)
    assert (pair.n, pair.n_first, pair.n_second) == (90, 120, 90)


def test_a_metric_of_the_task_alone_has_an_interval_as_if_of_other_items_and_no_p(
    tmp_path: Path,
) -> None:
    own = replace(MEAN_AVERAGE_PRECISION, name="own_map")
    for name, noise in (("sharp", 0.3), ("dull", 1.5)):
        targets, scores = _labels_and_scores(noise)
        save_run(tmp_path, name, targets=targets, predictions=scores, metric=own, kind="multilabel")
    comparison = _compared(tmp_path)
    family, pair = _only(comparison)

    assert (pair.p, pair.q, pair.test, pair.verdict) == (None, None, "none", "untested")
    assert pair.interval == "independent"
    assert family.standings[0].rank is None
    assert "can't be tested" in comparison.sentences[0]


# ------------------------------------------------------------------------------- bad input


def _rewrite(path: Path, change: Any) -> None:
    """Change the predictions of a record, and its digest of them, as a broken writer would."""
    record = store.read(path)
    (name,) = record.files
    beside = path.with_name(name)
    table = change(parquet.read_table(beside))
    parquet.write_table(table, beside)
    changed = replace(record, files={name: digest_bytes(beside.read_bytes())})
    path.write_text(to_json(changed))


def _with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.column_names.index(name)
    metadata = table.schema.metadata
    column = pa.array(values, table.schema.field(name).type)
    return table.set_column(place, name, column).replace_schema_metadata(metadata)


def _twice(table: pa.Table) -> pa.Table:
    ids = table["id"].to_pylist()
    return _with_column(table, "id", [ids[1], *ids[1:]])


def _not_a_number(table: pa.Table) -> pa.Table:
    scores = table["score:top1"].to_pylist()
    return _with_column(table, "score:top1", [float("nan"), *scores[1:]])


def _shorter(table: pa.Table) -> pa.Table:
    return table.slice(1)


def _other_items(table: pa.Table) -> pa.Table:
    ids = table["id"].to_pylist()
    return _with_column(table, "id", ["another.mp4", *ids[1:]])


def _other_scores(table: pa.Table) -> pa.Table:
    scores = table["score:top1"].to_pylist()
    return _with_column(table, "score:top1", [1.0 - scores[0], *scores[1:]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_twice, "an item stands twice in its predictions"),
        (_not_a_number, "a score in its predictions is not a number"),
        (_shorter, "its predictions must be of 160 items, were of 159"),
        (_other_items, "its predictions are of other items than those of the other runs"),
        (_other_scores, "its top1 must be the mean of its items' scores"),
    ],
)
def test_predictions_that_are_not_what_the_record_says_are_named_and_left_out(
    tmp_path: Path, change: Any, said: str
) -> None:
    save_run(tmp_path, "a", some_hits(120, seed=1))
    save_run(tmp_path, "b", some_hits(80, seed=2))
    path = save_run(tmp_path, "broken", some_hits(100, seed=3))
    _rewrite(path, change)
    comparison = _compared(tmp_path)
    family, _ = _only(comparison)

    assert _labels(family) == ["a", "b"]
    (problem,) = comparison.problems
    assert said in problem
    assert path.name in problem


def test_a_broken_seed_is_left_out_of_its_row_and_the_others_stay(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(120, seed=1))
    paths = [save_run(tmp_path, "b", some_hits(80, seed=9), seed=seed) for seed in (0, 1)]
    store.read(paths[1])
    paths[1].with_name(next(iter(store.read(paths[1]).files))).unlink()
    comparison = _compared(tmp_path)
    family, pair = _only(comparison)

    assert [row.seeds for row in family.rows] == [(0,), (0,)]
    assert pair.test == "mcnemar"
    assert len(comparison.problems) == 1
    assert paths[1].stem in comparison.problems[0]


def test_a_record_edited_by_hand_is_named_and_left_out(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(120, seed=1))
    save_run(tmp_path, "b", some_hits(80, seed=2))
    path = save_run(tmp_path, "edited", some_hits(100, seed=3))
    path.write_text(path.read_text().replace('"value": 0.625', '"value": 0.925'))
    comparison = _compared(tmp_path)

    assert len(comparison.families[0].rows) == 2
    assert "was edited by hand" in comparison.problems[0]


def test_nan_scores_of_a_metric_of_no_items_are_named_and_left_out(tmp_path: Path) -> None:
    for name, noise in (("a", 0.3), ("b", 1.5), ("broken", 0.7)):
        targets, scores = _labels_and_scores(noise)
        path = save_run(
            tmp_path,
            name,
            targets=targets,
            predictions=scores,
            metric=MEAN_AVERAGE_PRECISION,
            kind="multilabel",
        )

    def spoil(table: pa.Table) -> pa.Table:
        rows = table["scores"].to_pylist()
        rows[0] = [float("nan"), *rows[0][1:]]
        return _with_column(table, "scores", rows)

    _rewrite(path, spoil)
    comparison = _compared(tmp_path)
    family, _ = _only(comparison)

    assert sorted(_labels(family)) == ["a", "b"]
    assert "can't be computed from its predictions" in comparison.problems[0]


def test_runs_selected_on_the_test_set_are_in_no_comparison_and_counted(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(120, seed=1))
    save_run(tmp_path, "b", some_hits(80, seed=2))
    save_run(tmp_path, "cheat", some_hits(150, seed=3), protocol={"selected_on_test": True})
    comparison = _compared(tmp_path)
    family, _ = _only(comparison)

    assert _labels(family) == ["a", "b"]
    assert any("1 run that selected its settings on the test set" in x for x in comparison.problems)


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    records = []
    for folder in ("here", "there"):
        path = save_run(tmp_path / folder, folder, some_hits(80))
        records.append(store.Stored(tmp_path / folder / "record.json", store.read(path)))
    with pytest.raises(RecordError, match=r"both called record.json"):
        compare(store.Contents(tuple(records), ()))


# --------------------------------------------------------------------------------- memory


def test_a_second_comparison_is_the_same_and_sees_what_was_changed(tmp_path: Path) -> None:
    save_run(tmp_path, "a", some_hits(120, seed=1))
    path = save_run(tmp_path, "b", some_hits(80, seed=2))
    first = _compared(tmp_path)

    assert _compared(tmp_path) == first
    path.with_name(next(iter(store.read(path).files))).write_bytes(b"other")
    again = _compared(tmp_path)
    assert "was changed" in again.problems[0]
    assert again.families[0].pairs == ()


def test_pairs_that_were_compared_before_are_not_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, num_hits in enumerate((120, 80, 40)):
        save_run(tmp_path, f"net_{place}", some_hits(num_hits, seed=place))
    first = _compared(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pair was compared again")

    monkeypatch.setattr(families, "compare_pair", refuse)
    assert _compared(tmp_path) == first
    with pytest.raises(AssertionError, match="compared again"):
        _compared(tmp_path, baseline="net_2")


def test_what_other_seeds_may_turn_is_not_recalled_for_runs_that_hang_on_none(
    tmp_path: Path,
) -> None:
    turned = []
    for folder, init_seed in (("drawn", 0), ("loaded", None)):
        for name, num_hits in (("a", 120), ("b", 40)):
            weights = {"init_seed": init_seed}
            save_run(tmp_path / folder, name, some_hits(num_hits), weights=weights)
        turned.append(_only(_compared(tmp_path / folder))[1].seeds_may_turn)

    assert turned == [True, False]


@pytest.mark.parametrize(
    "parts",
    [
        {"metric": MEAN_PER_CLASS, "targets": [0] * 30 + [1] * 6 + [2] * 4},
        {
            "ids": [f"clip{row % 20:02d}" for row in range(40)],
            "folds": ["1"] * 20 + ["2"] * 20,
            "targets": [0] * 40,
            "averaging": "mean",
        },
    ],
    ids=["classes of unequal size", "folds that share items"],
)
def test_a_table_gives_the_same_difference_as_a_comparison(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    save_run(tmp_path, "good", some_hits(30, num_items=40, seed=1), **parts)
    save_run(tmp_path, "poor", some_hits(15, num_items=40, seed=2), **parts)
    _, pair = _only(_compared(tmp_path, baseline="good"))
    (table,) = tables.build(store.read_all(tmp_path)).tables
    difference = table.rows[1].difference

    assert pair.low is not None and pair.high is not None and difference is not None
    assert difference == (pair.difference, pair.low, pair.high)
    assert pair.high - pair.low > 0.1


def test_the_same_run_in_two_folders_is_one_and_the_first_is_taken(tmp_path: Path) -> None:
    save_run(tmp_path / "here", "a", some_hits(120, seed=1))
    save_run(tmp_path / "here", "b", some_hits(80, seed=2))
    save_run(tmp_path / "there", "b", some_hits(20, seed=3))
    here, there = (store.read_all(tmp_path / name).records for name in ("here", "there"))
    comparison = compare(store.Contents((*here, *there), ()))
    _, pair = _only(comparison)

    assert pair.second_value == 80 / 160
    assert any("is the same run as" in problem for problem in comparison.problems)
