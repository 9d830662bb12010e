"""`rsbench ls results`: records by name and day, in some order."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer, rsbench
from records_factory import save_record, some_hits


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two tasks, three networks, two seeds of one of them; days and seconds are told apart."""
    today = datetime.now(UTC)
    cells: list[tuple[str, str, int, int, int]] = [
        # task, backbone, seed, hits of 160, days ago
        ("digits", "resnet_rs_50", 0, 100, 1),
        ("digits", "resnet_rs_50", 1, 90, 3),
        ("digits", "resnet_rs_101", 0, 120, 10),
        ("folder", "net.py:build(a=[1,2])", 0, 40, 30),
    ]
    for number, (task, backbone, seed, hits, days) in enumerate(cells):
        save_record(
            tmp_path,
            some_hits(hits),
            seed=seed,
            task={"name": task},
            backbone={"name": backbone},
            weights={"name": "none" if number else "imagenet"},
            created=(today - timedelta(days=days)).isoformat(),
            cost={"seconds_total": 10.0 * number},
        )
    return tmp_path


def listed(results: Path, *words: str) -> list[tuple[str, str, int]]:
    """Give task, backbone and seed of each record that is listed, in order."""
    answer = rsbench("ls", "results", "--results", results, "--json", *words)
    assert answer.code == 0, answer.err
    rows: list[dict[str, Any]] = json.loads(answer.out)
    return [(row["task"], row["backbone"], row["seed"]) for row in rows]


def failed(results: Path, *words: str) -> str:
    answer = rsbench("ls", "results", "--results", results, *words)
    assert answer.code == 2
    assert answer.out == ""
    return answer.err


RS50 = [("digits", "resnet_rs_50", 0), ("digits", "resnet_rs_50", 1)]
RS101 = ("digits", "resnet_rs_101", 0)
OWN = ("folder", "net.py:build(a=[1,2])", 0)


def test_all_records_stand_in_the_order_of_their_names(results: Path) -> None:
    assert listed(results) == [RS101, *RS50, OWN]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--task", "digits"], [RS101, *RS50]),
        (["--task", "digits,folder"], [RS101, *RS50, OWN]),
        (["--backbone", "resnet_rs_50"], RS50),
        (["--backbone", "resnet_rs_*"], [RS101, *RS50]),
        (["--backbone", "*101, resnet_rs_50"], [RS101, *RS50]),
        (["--backbone", "*[1*"], [OWN]),
        (["--seed", "1"], RS50[1:]),
        (["--weights", "imagenet"], RS50[:1]),
        (["--protocol", "linear_probe", "--seed", "0", "--weights", "none"], [RS101, OWN]),
        (["--task", "folder", "--seed", "1"], []),
    ],
    ids=lambda words: " ".join(map(str, words)) if words and isinstance(words[0], str) else "",
)
def test_records_are_chosen_by_their_names(
    results: Path, words: list[str], expected: list[tuple[str, str, int]]
) -> None:
    assert listed(results, *words) == expected


def test_records_are_chosen_by_their_age(results: Path) -> None:
    day = (datetime.now(UTC) - timedelta(days=5)).date().isoformat()

    assert listed(results, "--since", "5d") == RS50
    assert listed(results, "--since", "36h") == RS50[:1]
    assert listed(results, "--since", day) == RS50
    assert listed(results, "--since", "2000-01-01T00:00+02:00") == listed(results)
    assert listed(results, "--since", "2999-01-01") == []


def test_records_are_sorted_as_asked(results: Path) -> None:
    # By hand, from the list in `results`.
    assert listed(results, "--sort", "score") == [RS101, *RS50, OWN]
    assert listed(results, "--sort", "created") == [*RS50, RS101, OWN]
    assert listed(results, "--sort", "seconds") == [OWN, RS101, *RS50[::-1]]


def test_what_was_selected_on_the_test_set_is_never_the_best(results: Path) -> None:
    save_record(
        results,
        some_hits(160),
        task={"name": "digits"},
        backbone={"name": "leaky"},
        protocol={"selected_on_test": True},
    )

    assert listed(results, "--sort", "score")[-1] == ("digits", "leaky", 0)


def test_a_near_miss_is_named(results: Path) -> None:
    said = failed(results, "--backbone", "resnet_rs_5O")

    assert (
        "holds no result of backbone 'resnet_rs_5O'. Did you mean resnet_rs_50 or resnet_rs_101?"
        in said
    )
    assert "Did you mean digits?" in failed(results, "--task", "folder,digit")
    assert "no result of seed '7'" in failed(results, "--seed", "7")


def test_a_day_that_is_none_is_said(results: Path) -> None:
    assert "it was 'yesterday'" in failed(results, "--since", "yesterday")
    assert "it was '2026-13-01'" in failed(results, "--since", "2026-13-01")
    assert "it was '999999999d'" in failed(results, "--since", "999999999d")


@pytest.mark.parametrize(
    "words", [("--task", "digits"), ("--since", "7d"), ("--sort", "score"), ("--seed", "0")]
)
def test_filters_of_results_are_for_results_alone(words: tuple[str, str]) -> None:
    answer = rsbench("ls", "tasks", *words)

    assert answer.code == 2
    assert f"{words[0]} is for `rsbench ls results`, not for ls tasks" in answer.err


def words_of(results: Path, *words: str) -> Answer:
    return rsbench("ls", "results", "--results", results, *words)


def test_an_empty_choice_is_no_empty_folder(results: Path, tmp_path: Path) -> None:
    said = words_of(results, "--task", "folder", "--seed", "1").out

    assert said == f"None of the 4 records of {results} is all of that.\n"
    assert "holds no records" in words_of(tmp_path / "nowhere").out


def test_a_name_of_a_file_is_no_escape_code_on_the_screen(results: Path) -> None:
    # A screen reads right to left from U+202E on; escape codes click takes out of pipes itself.
    path, other, *_ = sorted(results.rglob("*.json"))
    path.rename(path.with_name("\u202e\x1b[2Jevil.json"))
    other.with_name("\u202ebroken.json").write_text("{")
    answer = words_of(results)

    assert "evil.json" in answer.out
    assert "broken.json" in answer.err
    assert not {"\x1b", "\u202e"} & {*answer.out, *answer.err}
