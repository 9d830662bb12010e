"""Rankings: who gets a rank, what the mean is made of, and what is said to be missing."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records_factory import make_record, save_record, some_hits

from rsbench.records import store
from rsbench.records.predictions import to_parquet
from rsbench.stats import Estimate, wilson
from rsbench.suites import KORNBLITH12, VTAB1K, Suite
from rsbench.tables import Rankings, rank, readme, render_ranking

SUITE = Suite(
    name="trio",
    tasks=("plain", "fancy", "moving"),
    protocols=("linear_probe",),
    groups={"still": ("plain", "fancy"), "video": ("moving",)},
    title="Three tasks",
    citation="none",
)


def _save(root: Path, task: str, backbone: str, num_hits: int, /, **parts: Any) -> None:
    data = {"fingerprint": task.ljust(64, "0"), **parts.pop("data", {})}
    save_record(
        root,
        some_hits(num_hits, seed=len(task)),
        task={"name": task, "sample": False, **parts.pop("task", {})},
        backbone={"name": backbone, **parts.pop("backbone", {})},
        data=data,
        **parts,
    )


def _ranked(root: Path, suite: Suite | None = SUITE) -> Rankings:
    return rank(store.read_all(root), suite)


def _names(rankings: Rankings) -> list[tuple[int | None, str]]:
    return [(row.rank, row.backbone) for row in rankings.rankings[0].rows]


def test_networks_are_ranked_by_the_mean_of_all_columns_and_equal_means_share_a_rank(
    tmp_path: Path,
) -> None:
    for backbone, hits in (("low", (16, 32)), ("high", (80, 160)), ("even", (160, 80))):
        for task, num_hits in zip(("plain", "fancy"), hits, strict=True):
            _save(tmp_path, task, backbone, num_hits)
    rows = _ranked(tmp_path).rankings[0].rows

    assert [(row.rank, row.backbone) for row in rows] == [(1, "even"), (1, "high"), (3, "low")]
    # By hand: (80 / 160 + 160 / 160) / 2 and (16 / 160 + 32 / 160) / 2.
    assert [row.mean.value for row in rows if row.mean] == [0.75, 0.75, pytest.approx(0.15)]


def test_a_network_without_a_column_has_neither_rank_nor_mean_and_is_named(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "whole", 10)
    _save(tmp_path, "fancy", "whole", 10)
    _save(tmp_path, "plain", "half", 150)
    rankings = _ranked(tmp_path)

    assert _names(rankings) == [(None, "whole"), (None, "half")], "the only one is first of nothing"
    assert rankings.rankings[0].rows[0].mean is not None
    assert rankings.rankings[0].rows[1].mean is None
    assert rankings.rankings[0].missing == ("moving",)
    shown = render_ranking(rankings, "markdown")
    assert "## Suite trio (2 of 3 tasks): Three tasks" in shown
    assert "- Missing: no result on moving." in shown
    assert "- Missing: half (none) has no fancy linear_probe." in shown


def test_the_interval_of_the_mean_is_made_of_the_columns_intervals(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "net", 40)
    _save(tmp_path, "fancy", "net", 120)
    mean = _ranked(tmp_path).rankings[0].rows[0].mean

    # Zou, Huang, Zhang 2009, equation for a sum with coefficients 1/2, of Wilson's intervals.
    low, high = wilson(40, 160), wilson(120, 160)
    below = math.sqrt((0.25 - low.low) ** 2 + (0.75 - high.low) ** 2) / 2
    above = math.sqrt((low.high - 0.25) ** 2 + (high.high - 0.75) ** 2) / 2
    assert mean == pytest.approx(Estimate(0.5, 0.5 - below, 0.5 + above))


def test_two_protocols_on_the_same_items_make_the_interval_no_narrower(tmp_path: Path) -> None:
    # The second protocol says nothing new of the items: hits and misses are the same ones.
    for protocol in ("linear_probe", "knn"):
        _save(tmp_path, "plain", "net", 40, protocol={"name": protocol})
    ranking = _ranked(tmp_path, None).rankings[0]
    [row] = ranking.rows

    assert len(ranking.columns) == 2
    assert row.mean == pytest.approx(Estimate(0.25, *wilson(40, 160)))
    assert any("columns of the same items" in note for note in ranking.notes)


def test_the_difference_to_the_first_is_paired_over_items(tmp_path: Path) -> None:
    # Same seed of hits: the second network misses 10 of the items that the first one hits.
    for task in ("plain", "fancy"):
        _save(tmp_path, task, "first", 80)
        _save(tmp_path, task, "second", 70)
    rows = _ranked(tmp_path).rankings[0].rows
    assert rows[0].difference is None
    assert rows[1].difference is not None
    unpaired = rows[0].mean.value - rows[0].mean.low if rows[0].mean else 0.0

    assert rows[1].difference.value == pytest.approx(-10 / 160)
    assert -0.13 < rows[1].difference.low < rows[1].difference.value
    assert rows[1].difference.value - rows[1].difference.low < unpaired * math.sqrt(2)


def test_groups_have_means_of_their_own(tmp_path: Path) -> None:
    for task, num_hits in (("plain", 16), ("fancy", 48), ("moving", 160)):
        _save(tmp_path, task, "net", num_hits)
    ranking = _ranked(tmp_path).rankings[0]

    assert ranking.groups == ("still", "video")
    assert [group.value for group in ranking.rows[0].groups if group] == [
        pytest.approx((0.1 + 0.3) / 2),
        1.0,
    ]
    assert [column.task for column in ranking.columns] == list(SUITE.tasks)


def test_limited_runs_have_a_ranking_of_their_own(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "net", 16)
    _save(tmp_path, "plain", "net", 16, task={"limit": 160})

    assert [each.limit for each in _ranked(tmp_path).rankings] == [None, 160]


def test_a_network_under_two_inputs_has_a_row_for_each(tmp_path: Path) -> None:
    for frames, num_hits in ((16, 16), (32, 48)):
        _save(tmp_path, "plain", "net", num_hits, backbone={"frames": frames})
    _save(tmp_path, "fancy", "net", 16, backbone={"frames": 16})
    rows = _ranked(tmp_path).rankings[0].rows

    # What was run once stands in both: it says nothing for or against either.
    assert [(row.rank, row.inputs) for row in rows] == [
        (1, ("32x1x64", "16x1x64")),
        (2, ("16x1x64",)),
    ]
    assert [row.mean.value for row in rows if row.mean] == [0.2, 0.1]


def test_inputs_that_differ_from_task_to_task_do_not_part_a_network(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "net", 16, backbone={"frames": 1, "pixels": 224})
    _save(tmp_path, "fancy", "net", 16, backbone={"frames": 16, "pixels": 64})
    [row] = _ranked(tmp_path).rankings[0].rows

    assert (row.rank, row.inputs) == (None, ("1x1x224", "16x1x64"))


def test_rows_that_a_table_can_t_tell_apart_are_not_chosen_from(tmp_path: Path) -> None:
    # The same ids with other bytes, as of two encodings of one data set.
    for content in ("d", "e"):
        weights = {"name": "w", "digest": "f" * 64, "init_seed": None}
        data = {"content": content * 64}
        _save(tmp_path, "plain", "net", 16, data=data, weights=weights, key=content * 64)
    ranking = _ranked(tmp_path).rankings[0]

    assert [row.cells for row in ranking.rows] == [(None,)]
    assert _names(_ranked(tmp_path)) == [(None, "net")]
    assert "net has 2 results on plain linear_probe that differ in precision" in ranking.notes[1]


def test_seeds_are_averaged_and_seconds_stand_beside_every_cell(tmp_path: Path) -> None:
    for seed, num_hits in ((0, 40), (1, 80)):
        cost = {"seconds_total": 10.0 + seed}
        _save(tmp_path, "plain", "net", num_hits, seed=seed, cost=cost)
    [row] = _ranked(tmp_path).rankings[0].rows
    [cell] = [cell for cell in row.cells if cell]

    assert cell.score.value == pytest.approx(60 / 160)
    assert cell.score.num_seeds == 2
    assert (cell.seconds, row.seconds) == (10.5, 10.5)


def test_columns_of_one_name_are_told_apart_by_what_their_rulers_differ_in(tmp_path: Path) -> None:
    for strengths in (45, 3):
        _save(tmp_path, "plain", "net", 16, protocol={"recipe": {"strengths": strengths}})
    labels = [column.label for column in _ranked(tmp_path).rankings[0].columns]

    assert sorted(labels) == [
        "plain linear_probe (recipe.strengths 3)",
        "plain linear_probe (recipe.strengths 45)",
    ]


def test_own_data_sets_of_one_name_are_columns_of_their_own(tmp_path: Path) -> None:
    for letter in "ef":
        _save(tmp_path, "folder", "net", 16, data={"fingerprint": letter * 64})
    labels = [column.label for column in _ranked(tmp_path, None).rankings[0].columns]

    assert sorted(labels) == [
        "folder linear_probe (8 classes, data eeeeeeee)",
        "folder linear_probe (8 classes, data ffffffff)",
    ]


def test_columns_that_words_can_t_tell_apart_have_the_digests_of_their_rulers(
    tmp_path: Path,
) -> None:
    for letter in "ef":
        _save(tmp_path, "plain", "net", 16, data={"train_fingerprint": letter * 64})
    ranking = _ranked(tmp_path).rankings[0]

    assert len({column.label for column in ranking.columns}) == 2
    assert all(column.label.endswith(column.ruler[:8]) for column in ranking.columns)


def test_what_is_no_share_of_right_answers_is_shown_and_left_out_of_the_mean(
    tmp_path: Path,
) -> None:
    _save(tmp_path, "plain", "net", 40)
    record = make_record(
        task={"name": "fancy", "sample": False},
        backbone={"name": "net"},
        data={"fingerprint": "9" * 64},
    )
    error = replace(record.metrics[0], name="rmse", value=3.5, higher_is_better=False)
    store.write(tmp_path, replace(record, metrics=(error,)), {})
    ranking = _ranked(tmp_path).rankings[0]

    assert [row.mean.value for row in ranking.rows if row.mean] == [0.25]
    assert "left out of the mean: fancy linear_probe" in ranking.notes[0]
    assert "| 3.5 " in render_ranking(_ranked(tmp_path), "markdown")


def test_runs_selected_on_the_test_set_have_no_rank(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "honest", 40)
    _save(tmp_path, "plain", "leaky", 150, protocol={"selected_on_test": True})
    rankings = _ranked(tmp_path)

    assert _names(rankings) == [(None, "honest")]
    assert any("on the test set" in problem for problem in rankings.problems)


def test_every_form_draws_the_same_numbers(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "net_a", 40)
    _save(tmp_path, "plain", "net_b", 20)
    rankings = _ranked(tmp_path)
    lines = list(csv.DictReader(io.StringIO(render_ranking(rankings, "csv"))))
    [table] = json.loads(render_ranking(rankings, "json"))["rankings"]

    assert [line["rank"] for line in lines] == ["1", "2"]
    assert [float(line["mean"]) for line in lines] == [0.25, 0.125]
    assert [row["mean"]["value"] for row in table["rows"]] == [0.25, 0.125]
    assert table["rows"][0]["groups"].keys() == {"still", "video"}
    for form, name in (
        ("markdown", "| 1 | net_a |"),
        ("terminal", "1. net_a"),
        ("latex", r"net\_a"),
    ):
        shown = render_ranking(rankings, form)
        assert name in shown
        assert "25.0" in shown
        # By hand: two networks of one cell each, 12.5 s: 12 to the nearest even.
        sums = {"markdown": "| 12 |", "terminal": "12 s", "latex": "{12}"}
        assert sums[form] in shown


def test_columns_that_do_not_fit_the_screen_go_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        _save(tmp_path, f"task_of_a_rather_long_name_{number}", "net", 16 * number)
        _save(tmp_path, f"task_of_a_rather_long_name_{number}", "worse", 0)
    monkeypatch.setenv("COLUMNS", "80")
    shown = render_ranking(_ranked(tmp_path, None), "terminal")

    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("1. net") > 2
    assert shown.count("random init") == 2, "once a network, however often its name is repeated"
    assert shown.count("16x1x64") == 1, "what all rows share stands below"
    for number in range(1, 9):
        assert f"{10 * number}.0" in shown


def test_a_mean_over_a_column_without_an_interval_has_none_and_names_it(tmp_path: Path) -> None:
    for backbone, num_hits in (("net", 40), ("worse", 20)):
        _save(tmp_path, "plain", backbone, num_hits)
        record = make_record(
            task={"name": "fancy", "sample": False},
            backbone={"name": backbone},
            data={"fingerprint": "9" * 64},
        )
        old = replace(record.metrics[0], name="map_11", low=None, high=None, interval="")
        store.write(tmp_path, replace(record, metrics=(old,)), {})
    ranking = _ranked(tmp_path).rankings[0]
    row, worse = ranking.rows

    assert row.mean == (pytest.approx((0.25 + 0.5) / 2), None, None)
    assert worse.difference == (pytest.approx((0.125 - 0.25) / 2), None, None)
    assert not worse.is_separated
    assert any("has no interval" in note and "fancy" in note for note in ranking.notes)
    for form in ("markdown", "terminal", "latex", "csv", "json"):
        assert "37.5" in render_ranking(_ranked(tmp_path), form) or form in {"csv", "json"}


def test_a_metric_without_scores_of_single_items_is_compared_as_unpaired(tmp_path: Path) -> None:
    for backbone, value in (("net", 0.5), ("worse", 0.4)):
        record = make_record(task={"name": "plain", "sample": False}, backbone={"name": backbone})
        metric = replace(
            *record.metrics, name="map_11", value=value, low=value - 0.03, high=value + 0.04
        )
        store.write(
            tmp_path,
            replace(record, metrics=(metric,)),
            {store.PREDICTIONS_SUFFIX: to_parquet(ids=["a"], targets=[0], predictions=[None])},
        )
    difference = _ranked(tmp_path).rankings[0].rows[1].difference

    # By hand, of independent estimates: 0.03 below the one and 0.04 above the other make 0.05.
    assert difference == pytest.approx(Estimate(-0.1, -0.15, -0.05))


def test_what_the_first_is_not_separated_from_is_marked(tmp_path: Path) -> None:
    for backbone, num_hits in (("net_a", 81), ("net_b", 80), ("net_c", 20)):
        _save(tmp_path, "plain", backbone, num_hits)
    rankings = _ranked(tmp_path)

    assert [row.is_separated for row in rankings.rankings[0].rows] == [False, False, True]
    shown = render_ranking(rankings, "terminal")
    assert "1. net_a" in shown
    assert "2= net_b" in shown
    assert "3. net_c" in shown
    assert "not separated from the first" in shown


def test_the_banner_of_untrained_networks_stands_over_a_ranking_of_them_alone(
    tmp_path: Path,
) -> None:
    _save(tmp_path, "plain", "net", 40)
    assert "untrained features" in _ranked(tmp_path).rankings[0].caption
    weights = {"name": "learned", "digest": "f" * 64, "init_seed": None, "verified": True}
    _save(tmp_path, "plain", "net", 40, weights=weights)
    assert _ranked(tmp_path).rankings[0].caption == ""


def test_what_a_fit_lacked_stands_beside_the_cell(tmp_path: Path) -> None:
    _save(tmp_path, "plain", "net", 40, protocol={"marks": ("6 of 10 shots",)})
    for form in ("markdown", "terminal", "latex"):
        assert "6 of 10" in render_ranking(_ranked(tmp_path), form)


def test_a_suite_without_results_says_what_is_there(tmp_path: Path) -> None:
    _save(tmp_path, "cifar10@sample", "net", 40, task={"sample": True})
    _save(tmp_path, "plain", "leaky", 150, protocol={"selected_on_test": True})
    for suite, said in (
        (KORNBLITH12, "No results of suite kornblith12 among 2 records; there are some of"),
        (VTAB1K, "No results of suite vtab1k among 2 records."),
        (SUITE, "No results of suite trio to rank: all 1 records of it are left out."),
    ):
        shown = {
            form: " ".join(render_ranking(_ranked(tmp_path, suite), form).split())
            for form in ("terminal", "markdown")
        }
        assert shown["terminal"].startswith(said)
        assert shown["markdown"].startswith(said)


def test_the_page_of_a_folder_ranks_networks_on_suites_of_two_tasks(tmp_path: Path) -> None:
    _save(tmp_path, "cifar10", "net", 40)
    assert "Suite" not in readme(store.read_all(tmp_path))
    _save(tmp_path, "dtd", "net", 40)
    page = readme(store.read_all(tmp_path))
    assert "## Suite kornblith12 (2 of 12 tasks)" in page
    assert page.count("## Suite") == 1
    assert page.index("## Suite") < page.index("## cifar10") < page.index("## Records")


def test_a_wide_table_is_scaled_to_the_page_in_latex(tmp_path: Path) -> None:
    _save(tmp_path, "task0", "net", 16)
    narrow = render_ranking(_ranked(tmp_path, None), "latex")
    for number in range(1, 12):
        _save(tmp_path, f"task{number}", "net", 16)
    wide = render_ranking(_ranked(tmp_path, None), "latex")

    assert r"\resizebox{\textwidth}{!}{%" in wide
    assert "\\end{tabular}}\n" in wide
    assert "graphicx" in wide
    assert "resizebox" not in narrow
    [caption] = [line for line in wide.splitlines() if line.startswith(r"\caption")]
    assert caption.startswith(r"\caption{All results side by side. untrained features")
    assert "brackets" not in caption
    assert "brackets" in wide


def test_no_results_are_said_to_be_none(tmp_path: Path) -> None:
    assert render_ranking(_ranked(tmp_path), "terminal") == "No results yet.\n"
    assert render_ranking(_ranked(tmp_path), "markdown") == "No results yet.\n"
