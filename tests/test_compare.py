"""`rsbench compare`: from two runs to an answer in plain words, its forms, what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import rsbench
from comparison_world import save_run
from records_factory import some_hits

from rsbench.comparison import compare, render_comparison
from rsbench.records import store


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def _two_runs(root: Path) -> list[Path]:
    """Write A, right on 5 of 40 items, and B, right on 21: B alone on 20, A alone on 4."""
    a = [1.0] * 5 + [0.0] * 35
    b = [0.0] * 4 + [1.0] * 21 + [0.0] * 15
    return [save_run(root, "A", a), save_run(root, "B", b)]


# ------------------------------------------------------------------------------- answers


def test_two_runs_end_with_the_answer_in_plain_words(tmp_path: Path) -> None:
    _two_runs(tmp_path)
    answer = rsbench("compare", tmp_path)

    assert (answer.code, answer.err) == (0, "")
    # By hand: 21/40 = 52.5 %, 5/40 = 12.5 %; p of scipy.stats.binomtest(20, 24) is 0.0015.
    assert _last_line(answer.out).startswith(
        "B is better than A on plain under linear_probe: 52.5 against 12.5 %, +40.0 points ["
    )
    assert _last_line(answer.out).endswith("], p = 0.002; other seeds may turn it.")


@pytest.mark.parametrize(
    ("weights", "protocol", "turned"),
    [
        ({"init_seed": 0}, {}, True),
        ({"init_seed": None}, {"trains_backbone": True}, True),
        ({"init_seed": None}, {"recipe": {"shots": 10}}, True),
        ({"init_seed": None}, {}, False),
    ],
    ids=["drawn weights", "trained network", "drawn examples", "frozen features"],
)
def test_what_hangs_on_a_single_seed_is_said_to_be_turned_by_others(
    tmp_path: Path, weights: dict[str, object], protocol: dict[str, object], turned: bool
) -> None:
    for name, num_hits in (("A", 20), ("B", 150)):
        save_run(tmp_path, name, some_hits(num_hits), weights=weights, protocol=protocol)
    out = rsbench("compare", tmp_path).out

    assert "B is better than A on plain" in _last_line(out)
    assert _last_line(out).endswith("; other seeds may turn it.") == turned
    assert ("Warning: of one seed, which other seeds may turn: B, A" in out) == turned


def test_one_that_has_several_seeds_adds_their_spread_to_one_that_hangs_on_none(
    tmp_path: Path,
) -> None:
    save_run(tmp_path, "fixed", some_hits(40), weights={"init_seed": None})
    for seed, num_hits in enumerate((20, 90, 130)):
        save_run(tmp_path, "drawn", some_hits(num_hits, seed=seed), seed=seed)
    found = json.loads(rsbench("compare", tmp_path, "--format", "json").out)
    (pair,) = found["families"][0]["pairs"]

    assert pair["verdict"] == "win"
    assert pair["seeds_may_turn"]
    # By hand: shares 20/160, 90/160, 130/160 have a standard error of 0.2009, t of 2 degrees 4.303.
    half = 4.3027 * np.std([20 / 160, 90 / 160, 130 / 160], ddof=1) / np.sqrt(3)
    below = np.hypot(pair["difference"] - pair["low"], half)
    assert pair["low_with_seeds"] == pytest.approx(pair["difference"] - below, abs=1e-4)
    assert found["sentences"][0].endswith("; other seeds may turn it.")


def test_the_leader_says_of_whom_other_seeds_may_turn_it(tmp_path: Path) -> None:
    fixed = {"weights": {"init_seed": None}}
    save_run(tmp_path, "first", some_hits(150), **fixed)
    save_run(tmp_path, "second", some_hits(90), **fixed)
    save_run(tmp_path, "drawn", some_hits(20))
    line = _last_line(rsbench("compare", tmp_path).out)

    assert (
        "it is better than all others (q at most 0.05), though other seeds may turn it for drawn;"
    ) in line


def test_beside_a_baseline_of_many_it_is_said_which_answers_other_seeds_may_turn(
    tmp_path: Path,
) -> None:
    fixed = {"weights": {"init_seed": None}}
    save_run(tmp_path, "base", some_hits(90), **fixed)
    for place in range(13):
        save_run(tmp_path, f"net_{place:02d}", some_hits(150, seed=place), **fixed)
    save_run(tmp_path, "drawn", some_hits(20))
    line = _last_line(rsbench("compare", tmp_path, "--baseline", "base").out)

    assert line.endswith("1 worse: drawn, though other seeds may turn it for drawn.")


def test_what_is_not_told_apart_comes_with_what_so_many_items_could_show(tmp_path: Path) -> None:
    save_run(tmp_path, "A", some_hits(80, seed=1))
    save_run(tmp_path, "B", some_hits(82, seed=2))
    line = _last_line(rsbench("compare", tmp_path).out)

    assert line.startswith("Not told apart: B and A on plain under linear_probe: 51.2 against 50.0")
    assert "; 160 items could show a difference of " in line
    assert line.endswith(" points.")


def test_of_many_networks_the_leader_is_told_and_whom_it_is_not_told_apart_from(
    tmp_path: Path,
) -> None:
    base = some_hits(120, seed=1)
    nearly = [*base]
    nearly[base.index(1.0)] = 0.0
    for name, hits in (("first", base), ("second", nearly), ("last", [0.0] * 160)):
        save_run(tmp_path, name, hits)
    line = _last_line(rsbench("compare", tmp_path).out)

    assert line.startswith(
        "first has the highest of 3 numbers on plain under linear_probe, 75.0 %: it is better than"
        " last (q at most 0.05), though other seeds may turn it; it is not told apart from second;"
        " the next, second, has 74.4 %: +0.6 points ["
    )
    assert line.endswith("p = 1.00, q = 1.00.")


def test_each_pair_with_a_baseline_has_a_sentence_with_its_q(tmp_path: Path) -> None:
    for name, num_hits in (("A", 120), ("B", 100), ("C", 20)):
        save_run(tmp_path, name, some_hits(num_hits, seed=num_hits))
    answer = rsbench("compare", tmp_path, "--baseline", "B")
    lines = answer.out.strip().splitlines()[-2:]

    assert lines[0].startswith(("A is better than B", "Not told apart: A and B"))
    # C minus B is negative; what is said is B's gain, its interval turned as well.
    assert lines[1].startswith(
        "B is better than C on plain under linear_probe: 62.5 against 12.5 %, +50.0 points ["
    )
    low, high = lines[1].partition("[")[2].partition("]")[0].split(", ")
    assert 0 < float(low) < 50 < float(high)
    assert ", q < 0.001;" in lines[1]


def test_an_interval_over_seeds_that_holds_zero_is_said_to_turn_the_answer(tmp_path: Path) -> None:
    # Each seed of A and of B is far from the others: over items A is better, over seeds unknown.
    for seed, (a, b) in enumerate(((150, 20), (20, 90), (150, 60))):
        save_run(tmp_path, "A", some_hits(a, seed=seed), seed=seed)
        save_run(tmp_path, "B", some_hits(b, seed=10 + seed), seed=seed)
    line = _last_line(rsbench("compare", tmp_path).out)

    assert line.startswith("A is better than B on plain")
    assert " over seeds too)" in line
    assert line.endswith("p < 0.001; other seeds may turn it.")


def test_one_run_has_nothing_beside_it(tmp_path: Path) -> None:
    save_run(tmp_path, "A", some_hits(80))
    answer = rsbench("compare", tmp_path)

    assert answer.code == 0
    assert _last_line(answer.out).startswith("Nothing to compare: no two networks")


# ------------------------------------------------------------------------------ what is named


def test_records_are_compared_by_their_paths(tmp_path: Path) -> None:
    a, b = _two_runs(tmp_path)
    save_run(tmp_path, "C", some_hits(39, num_items=40))
    answer = rsbench("compare", a, b)

    assert answer.code == 0
    assert _last_line(answer.out).startswith("B is better than A")
    assert "C" not in answer.out.replace("Compared", "")


def test_networks_are_compared_by_their_names(tmp_path: Path) -> None:
    for name, num_hits in (("A", 120), ("B", 100), ("C", 20)):
        save_run(tmp_path, name, some_hits(num_hits, seed=num_hits))
    answer = rsbench("compare", tmp_path, "C", "B")

    assert answer.code == 0
    assert _last_line(answer.out).startswith("B is better than C")


def test_a_near_miss_of_a_name_is_one_line_with_a_suggestion(tmp_path: Path) -> None:
    save_run(tmp_path, "resnet_rs_50", some_hits(80))
    answer = rsbench("compare", tmp_path, "--baseline", "resnet_50")

    assert answer.code == 2
    assert "Did you mean resnet_rs_50?" in answer.err
    assert answer.err.count("\n") == 1


def test_a_name_that_a_folder_here_has_too_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, num_hits in (("A", 120), ("B", 100), ("C", 20)):
        save_run(tmp_path / "results", name, some_hits(num_hits))
    (tmp_path / "A").mkdir()
    monkeypatch.chdir(tmp_path)
    out = rsbench("compare", "results", "A", "B").out

    assert "B on plain" in _last_line(out) or "B is better" in _last_line(out)
    assert "C" not in {line.strip().partition(" ")[2][:1] for line in out.splitlines()}


def test_unlike_protocols_are_refused_in_a_line_that_counts_their_rules(tmp_path: Path) -> None:
    save_run(tmp_path, "A", some_hits(80))
    other = {"name": "knn", "recipe": {f"knob_{number}": number for number in range(30)}}
    save_run(tmp_path, "B", some_hits(80), protocol=other)
    (refusal,) = [
        line
        for line in rsbench("compare", tmp_path, "--by", "task").out.splitlines()
        if line.startswith("Refused: ")
    ]

    assert "protocol is knn there and linear_probe here; with it 3" in refusal
    assert "knob" not in refusal


def test_records_under_unequal_rulers_are_refused_naming_the_field(tmp_path: Path) -> None:
    a = save_run(tmp_path, "A", some_hits(80))
    b = save_run(tmp_path, "B", some_hits(80), protocol={"clips": 10})
    answer = rsbench("compare", a, b)

    assert (answer.code, answer.out) == (2, "")
    assert "does not compare with" in answer.err
    assert "clips is 1 there and 10 here." in answer.err


def test_two_lists_are_refused_then_compared_on_what_they_share_with_both_counts(
    tmp_path: Path,
) -> None:
    ids = [f"clip{row:03d}.mp4" for row in range(100)]
    a = save_run(tmp_path, "A", [1.0] * 90 + [0.0] * 10, ids=ids)
    b = save_run(tmp_path, "B", [0.0] * 80, ids=ids[:80])
    refused = rsbench("compare", a, b)
    compared = rsbench("compare", a, b, "--common-subset")

    assert refused.code == 2
    assert "data is " in refused.err
    assert "--common-subset compares them on the items they share." in refused.err
    assert compared.code == 0
    assert "80 of 100 items" in compared.out
    assert "80 of 80 items" in compared.out
    assert _last_line(compared.out).startswith(
        "A is better than B on plain under linear_probe (on the 80 items that all of them were"
        " judged on): 100.0 against 0.0 %"
    )


def test_a_folder_says_what_it_refuses_and_compares_the_rest(tmp_path: Path) -> None:
    _two_runs(tmp_path)
    save_run(tmp_path, "C", some_hits(80), protocol={"clips": 10})
    answer = rsbench("compare", tmp_path)

    assert answer.code == 0
    assert "Refused: plain v1, val: linear_probe v1" in answer.out
    assert _last_line(answer.out).startswith("B is better than A")
    assert "refused: plain v1" in rsbench("compare", tmp_path, "--format", "csv").err


def test_what_is_left_out_is_said_on_standard_error(tmp_path: Path) -> None:
    _two_runs(tmp_path)
    path = save_run(tmp_path, "C", some_hits(20, num_items=40))
    path.with_name(next(iter(store.read(path).files))).unlink()
    answer = rsbench("compare", tmp_path)

    assert answer.code == 0
    assert answer.err.startswith("rsbench: left out: runs/plain/linear_probe/C-none-s0")
    assert _last_line(answer.out).startswith("B is better than A")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("absent-folder/",), "No result is of"),
        (("absent.json",), "must be a record, but can't be read"),
        (("--by", ","), "--by must be fields, such as task,protocol"),
        (("--by", "tasks"), "Did you mean task"),
        (("--allow-other-training",), "must stand with --common-subset"),
        (("--suite", "ofline"), "Did you mean offline?"),
    ],
)
def test_wrong_words_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _two_runs(tmp_path / "results")
    answer = rsbench("compare", *words)

    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = rsbench("compare")

    assert answer.code == 2
    assert "No results folder results" in answer.err


# ---------------------------------------------------------------------------------- forms


def _world(root: Path) -> Any:
    for name, num_hits in (("A", 120), ("B", 100), ("C", 20)):
        for seed in (0, 1):
            save_run(root, name, some_hits(num_hits, seed=num_hits + seed), seed=seed)
    return compare(store.read_all(root))


def test_json_holds_every_pair_exactly(tmp_path: Path) -> None:
    comparison = _world(tmp_path)
    (family,) = comparison.families
    content = json.loads(rsbench("compare", tmp_path, "--format", "json").out)

    (found,) = content["families"]
    assert content["sentences"] == list(comparison.sentences)
    assert [each["p"] for each in found["pairs"]] == [pair.p for pair in family.pairs]
    assert found["pairs"][0]["low_with_seeds"] == family.pairs[0].low_with_seeds
    assert [row["backbone"] for row in found["rows"]] == ["A", "B", "C"]
    assert content == json.loads(render_comparison(comparison, "json"))


def test_json_has_the_documented_fields(tmp_path: Path) -> None:
    _two_runs(tmp_path)
    printed = json.loads(rsbench("compare", tmp_path, "--format", "json").out)
    page = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
    section = page.partition("## compare --format json\n")[2]
    shown = json.loads(section.partition("```text\n")[2].partition("```")[0])

    assert printed.keys() == shown.keys()
    (family,), (listed,) = printed["families"], shown["families"]
    assert family.keys() == listed.keys()
    for parts in ("pairs", "standings"):
        assert family[parts][0].keys() == listed[parts][0].keys()
    assert set(listed["rows"][0]) <= set(family["rows"][0])


def test_csv_holds_one_line_a_pair(tmp_path: Path) -> None:
    comparison = _world(tmp_path)
    (family,) = comparison.families
    lines = list(csv.DictReader(io.StringIO(render_comparison(comparison, "csv"))))

    assert [(line["first"], line["second"]) for line in lines] == [
        ("A", "B"),
        ("A", "C"),
        ("B", "C"),
    ]
    assert [float(line["difference"]) for line in lines] == [
        pair.difference for pair in family.pairs
    ]
    assert [line["verdict"] for line in lines] == [pair.verdict for pair in family.pairs]


def test_markdown_and_latex_hold_the_table_and_markdown_the_answers(tmp_path: Path) -> None:
    comparison = _world(tmp_path)
    page, paper = (render_comparison(comparison, form) for form in ("markdown", "latex"))

    assert page.startswith("## Compared\n\n- A has the highest of 3 numbers")
    assert "| rank | backbone | weights | top1 % | difference to first | p; q |" in page
    assert "## To read" in page
    assert r"\begin{tabular}{lllrrrrrl}" in paper
    assert r"difference to first" in paper


def test_names_from_records_are_text_in_every_form(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>|\x1b[31m"
    save_run(tmp_path, name, some_hits(120, seed=1))
    save_run(tmp_path, "=cmd()", some_hits(20, seed=2))
    comparison = compare(store.read_all(tmp_path))
    forms = {
        form: render_comparison(comparison, form)
        for form in ("terminal", "markdown", "latex", "csv")
    }

    assert all("\x1b" not in text for text in forms.values())
    assert "<script>" not in forms["markdown"]
    assert "&lt;script&gt;" in forms["markdown"]
    assert r"\textless{}script" in forms["latex"]
    assert "'=cmd()" in forms["csv"]


def test_an_average_over_a_suite_is_drawn_below_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in ("digits", "kinetics400@sample"):
        for name, num_hits in (("A", 150), ("B", 20)):
            ids = [f"{task}{row}" for row in range(160)]
            sample = task.endswith("@sample")
            save_run(
                tmp_path,
                name,
                some_hits(num_hits),
                ids=ids,
                task={"name": task, "sample": sample},
            )
    answer = rsbench("compare", tmp_path, "--suite", "offline")

    assert "Suite offline, on average" in answer.out
    assert "Missing: no result on digits knn, kinetics400@sample knn." in answer.out
    assert _last_line(answer.out).startswith(
        "A is better than B on average over 2 columns of suite offline (2 more are missing): 93.8"
        " against 12.5 %"
    )


def test_published_numbers_may_stand_beside(tmp_path: Path) -> None:
    _two_runs(tmp_path)
    answer = rsbench("compare", tmp_path, "--published", "--format", "json")

    assert set(json.loads(answer.out)["published"]) == {"pairs", "problems", "absence"}
