"""Suites: what they name exists, and what they run, leave out and say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import rsbench, write_broken_network

from rsbench.cli.grid import backbones_with_weights
from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.registry import find_protocol, find_task, split_sample
from rsbench.suites import KORNBLITH12, OFFLINE, SUITES, VTAB1K, Suite, find_suite

QUICK = ("--limit", "20", "--pixels", "16", "--set", "strengths=2", "--protocol", "linear_probe")
SUITE = ("run", "--suite", "offline", *QUICK)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_suite_names_tasks_and_protocols_that_exist_and_go_together(suite: Suite) -> None:
    tasks = [find_task(split_sample(name)[0]).spec for name in suite.tasks]
    protocols = [find_protocol(name).spec for name in suite.protocols]

    assert len(set(suite.tasks)) == len(suite.tasks)
    assert {task.target for task in tasks} <= frozenset.intersection(
        *(protocol.targets for protocol in protocols)
    )
    assert all(task.metrics[0].higher_is_better for task in tasks)
    assert {name for names in suite.groups.values() for name in names} <= set(suite.tasks)


def test_the_published_suites_have_as_many_tasks_as_their_papers() -> None:
    # Kornblith et al. 2019, table 1: 12 data sets. Zhai et al. 2019, section 3: 19 tasks, of which
    # 7 natural, 4 specialised and 8 structured.
    assert len(KORNBLITH12.tasks) == 12
    assert len(VTAB1K.tasks) == 19
    assert {group: len(names) for group, names in VTAB1K.groups.items()} == {
        "natural": 7,
        "specialised": 4,
        "structured": 8,
    }
    assert [name for names in VTAB1K.groups.values() for name in names] == list(VTAB1K.tasks)


def test_a_suite_on_samples_is_the_same_suite_with_every_task_its_sample() -> None:
    sampled = find_suite("vtab1k@sample")

    assert sampled.tasks == tuple(f"{name}@sample" for name in VTAB1K.tasks)
    assert sampled.groups["natural"] == sampled.tasks[:7]
    assert sampled.protocols == VTAB1K.protocols
    # What is a sample stays one.
    assert find_suite("offline@sample").tasks == ("digits@sample", "kinetics400@sample")


def test_a_suite_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"called 'kornblith'\. Did you mean kornblith12"):
        find_suite("kornblith")


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, session_cache: Path
) -> Iterator[tuple[Path, str]]:
    """The offline suite on two networks; a third has no weights of the name asked for."""
    folder = tmp_path_factory.mktemp("suite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(session_cache))
        patch.chdir(folder)
        answer = rsbench(
            *(*SUITE, "--backbone", "tiny_2d,tiny_3d,resnet_rs_50"),
            *("--weights", "none,none,resnetrs50.tf_in1k"),
        )
        assert answer.code == 2, answer.err
        assert answer.err.splitlines()[0].startswith(
            "rsbench: resnet_rs_50 is left out of the suite: Weights resnetrs50.tf_in1k of"
            " resnet_rs_50 are not here: run `rsbench weights fetch"
        )
        yield folder, answer.out


def test_a_suite_runs_every_cell_and_ends_with_one_ranked_table(done: tuple[Path, str]) -> None:
    folder, out = done
    records = [json.loads(path.read_text()) for path in folder.glob("results/runs/**/*.json")]

    cells = {(each["task"]["name"], each["backbone"]["name"]) for each in records}
    assert cells == {(task, net) for task in OFFLINE.tasks for net in ("tiny_2d", "tiny_3d")}
    assert out.count("Suite offline (2 tasks, at most 20 items a split)") == 1
    assert "1. tiny_" in out
    assert "2= tiny_" in out, "twenty items tell no two networks apart"
    assert "Left out of this run: resnet_rs_50" in out


def test_the_ranking_can_be_drawn_again_from_the_records(
    done: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done[0])
    ranking = json.loads(rsbench("table", "--suite", "offline", "--format", "json").out)
    [table] = ranking["rankings"]

    assert [row["rank"] for row in table["rows"]] == [1, 2]
    assert [column["label"] for column in table["columns"]] == [
        "digits linear_probe",
        "kinetics400@sample linear_probe",
    ]
    # The suite has a second protocol, which these runs left out.
    assert table["missing"] == ["digits knn", "kinetics400@sample knn"]
    drawn = rsbench("table", "--suite", "offline", "--format", "markdown").out
    assert "| 1 | tiny_" in drawn
    assert "- Missing: no result on digits knn, kinetics400@sample knn." in drawn


def test_a_published_suite_without_data_runs_nothing_and_says_where_it_would_look() -> None:
    answer = rsbench("run", "--suite", "video-core", "--backbone", "tiny_2d")

    assert answer.code == 2
    assert answer.out == ""
    assert "Nothing of suite video-core can run: no data of kinetics400, ucf101," in answer.err
    assert "RSBENCH_DATA_KINETICS400" in answer.err
    assert "--suite video-core@sample runs embedded samples" in answer.err


def test_data_of_a_suite_lies_in_a_folder_a_task_and_the_rest_is_left_out_by_name(
    tmp_path: Path,
) -> None:
    written = rsbench("data", "sample", "ucf101", tmp_path / "data" / "ucf101")
    answer = rsbench(
        *("run", "--suite", "video-core", "--backbone", "tiny_2d", *QUICK, "--folds", "split1"),
        *("--data", tmp_path / "data", "--results", tmp_path / "results"),
    )

    assert (written.code, answer.code) == (0, 0), answer.err
    assert "left out of suite video-core: no data of kinetics400, hmdb51, something" in answer.err
    assert "Suite video-core (1 of 6 tasks, at most 20 items a split)" in answer.out
    assert "Missing: no result on kinetics400, hmdb51, something_something_v2" in answer.out


def test_a_network_that_breaks_costs_its_own_cells_only(tmp_path: Path) -> None:
    broken = write_broken_network(tmp_path / "net.py")
    answer = rsbench(
        *(*SUITE, "--backbone", f"tiny_2d,{broken}", "--results", tmp_path / "results")
    )

    assert answer.code == 1
    assert "planted" in answer.err
    assert "Suite offline (2 tasks" in answer.out
    assert "\n tiny_2d" in answer.out, "alone it is first of nothing"


def test_one_word_of_weights_is_for_all_and_several_are_one_a_backbone(tmp_path: Path) -> None:
    odd = tmp_path / "a,b.safetensors"
    odd.touch()

    assert backbones_with_weights("a, b,a", "none") == [("a", "none"), ("b", "none")]
    assert backbones_with_weights("a,a", "none, x") == [("a", "none"), ("a", "x")]
    assert backbones_with_weights("a,b", str(odd)) == [("a", str(odd)), ("b", str(odd))]
    with pytest.raises(RsbenchError, match="there are 1 backbones and 2 weights"):
        backbones_with_weights("a", "none,x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "Name what to run: --task NAME, or --suite NAME"),
        (
            ("run", "--suite", "offline", "--task", "digits"),
            "--task digits and --suite offline exclude each other",
        ),
    ],
    ids=["none", "both"],
)
def test_a_run_is_of_tasks_or_of_a_suite(words: tuple[str, ...], said: str) -> None:
    answer = rsbench(*words)

    assert answer.code == 2
    assert said in answer.err


def test_suites_are_listed_and_shown() -> None:
    listed = rsbench("ls", "suites").out
    shown = json.loads(rsbench("show", "kornblith12", "--json").out)

    assert [line.split()[0] for line in listed.splitlines()[:-1]] == [each.name for each in SUITES]
    assert shown["tasks"] == list(KORNBLITH12.tasks)
    assert "natural: vtab_caltech101, " in rsbench("show", "vtab1k").out
