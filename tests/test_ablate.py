"""`rsbench ablate` on pictures whose brightness tells the class, with networks made here."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer, rsbench, write_pictures

from rsbench.cli.progress import Reporter

HELD = {
    "epochs": "1",
    "warmup_share": "0",
    "batch_size": "4",
    "ema_decay": "0",
    "norm_momentum": "0.1",
    "stochastic_depth": "0",
    "randaugment_layers": "0",
    "randaugment_magnitude": "0",
    "dropout": "0",
    "weight_decay": "0",
}
"""What leaves three rows of the study: the start, cosine, label smoothing."""

STUDY = ("ablate", "--task", "folder", "--data", "data", "--backbone", "tiny_2d", "--pixels", "16")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data")
    return tmp_path


def _set(held: Mapping[str, str]) -> list[str]:
    return [word for key, value in held.items() for word in ("--set", f"{key}={value}")]


def _ablate(*words: str) -> Answer:
    return rsbench(*STUDY, *_set(HELD), *words)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_study_runs_its_rows_records_each_and_ends_with_their_table(here: Path) -> None:
    answer = _ablate("--seeds", "0,1", "--write", "study.md")

    assert answer.code == 0, answer.err
    assert len(list((here / "results").rglob("*.json"))) == 6
    assert "rs, row 2 of 3: + cosine LR decay" in answer.out
    table = (here / "study.md").read_text()
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["| step", "| :--", "| ResNet", "| + cosine LR decay", "| + label smoothing"]
    assert "over 2 seeds (0, 1)" in table
    assert '"+ ResNet-D" is left out: tiny_2d has no option stem or shortcut.' in table


def test_an_interrupted_study_goes_on_and_its_first_row_is_a_run_like_any_other(
    here: Path,
) -> None:
    words = ("--task", "folder", "--data", "data", "--backbone", "tiny_2d", "--pixels", "16")
    rsbench("run", *words, "--protocol", "train_baseline", *_set(HELD))
    lines = _lines(_ablate("--json").out)
    study = lines[-1]

    assert [line["reused"] for line in lines[:-1]] == [True, False, False]
    assert [row["records"] for row in study["rows"]] == [
        [str(Path(line["record"]).relative_to("results"))] for line in lines[:-1]
    ]
    assert study["rows"][1]["overrides"]["schedule"] == "whole cosine"
    assert study["rows"][1]["change"]["difference"] == pytest.approx(
        study["rows"][1]["score"]["value"] - study["rows"][0]["score"]["value"]
    )


def test_what_a_step_sets_is_in_its_record_and_stays_in_the_next(here: Path) -> None:
    study = _lines(_ablate("--json").out)[-1]
    recipes = [
        json.loads((here / "results" / row["records"][0]).read_text())["protocol"]["recipe"]
        for row in study["rows"]
    ]

    assert [recipe["schedule"] for recipe in recipes] == ["drops", "whole cosine", "whole cosine"]
    assert [recipe["label_smoothing"] for recipe in recipes] == [0.0, 0.0, 0.1]
    assert {recipe["epochs"] for recipe in recipes} == {1}


def test_a_row_that_fails_is_said_and_the_others_are_shown(here: Path) -> None:
    held = {key: word for key, word in HELD.items() if key != "stochastic_depth"}
    answer = rsbench(*STUDY, *_set(held), "--write", "study.md")

    # tiny_2d has no blocks to skip.
    assert answer.code == 2
    assert "stochastic_depth" in answer.err
    row = next(
        line for line in (here / "study.md").read_text().splitlines() if "stochastic" in line
    )
    assert row.startswith("| + stochastic depth | - | - | 80.6 | +0.2 | not finished |")


def test_optimizers_are_compared_with_the_first_row_under_another_protocol_too(here: Path) -> None:
    words = ("--study", "optimizers", "--batch-sizes", "4", "--protocol", "finetune")
    answer = rsbench(*STUDY, *words, "--set", "epochs=1", "--json")
    study = _lines(answer.out)[-1]

    assert answer.code == 0, answer.err
    assert [row["step"] for row in study["rows"]] == [
        "SGD, batch 4",
        "LARS, batch 4",
        "AdamW, batch 4",
    ]
    assert [row["compared_with"] for row in study["rows"]] == [None, 0, 0]
    assert study["protocol"] == "finetune"
    scores = [row["score"]["value"] for row in study["rows"]]
    assert study["rows"][2]["change"]["difference"] == pytest.approx(scores[2] - scores[0])


def test_a_study_that_is_told_to_end_begins_no_other_row_and_goes_on_later(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [False]

    def tell(self: Reporter, stage: str, done: int, total: int) -> None:
        if stage == "train" and done == 2 and not told[0]:
            told[0] = True
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Reporter, "__call__", tell)
    stopped = _ablate()
    gone_on = _ablate("--json")

    # Shells give a process that SIGTERM ended 128 + 15.
    assert stopped.code == 143
    assert "row 2 of 3" not in stopped.out
    assert "run the same command again" in stopped.err
    assert gone_on.code == 0
    assert [line["reused"] for line in _lines(gone_on.out)[:-1]] == [False] * 3


def test_a_dry_run_foretells_each_row_and_the_sum_and_runs_nothing(here: Path) -> None:
    answer = _ablate("--seeds", "0,1", "--dry-run", "--device", "cpu")
    described = _lines(_ablate("--seeds", "0,1", "--dry-run", "--json").out)

    assert answer.code == 0
    assert answer.out.startswith(
        "The ResNet-RS recipe and network, switch by switch: tiny_2d on folder, 6 runs\n"
    )
    assert not (here / "results").exists()
    # 12 items, batches of 4, one epoch.
    assert re.search(r"\+ cosine LR decay +3 +\S+ s +\S+ s\n", answer.out)
    assert re.search(r"in all: 6 runs, about \S+ s of one CPU;", answer.out)
    assert [line["step"] for line in described] == [
        "ResNet",
        "+ cosine LR decay",
        "+ label smoothing",
    ]
    for line in described:
        assert (line["num_runs"], line["num_finished"], line["train_steps"]) == (2, 0, 3)
        assert line["seconds_ahead"] == pytest.approx(2 * line["seconds_per_run"])


def test_a_dry_run_says_first_that_it_is_of_the_sample(here: Path) -> None:
    words = ("ablate", "--task", "imagenet1k", *STUDY[5:], *_set(HELD), "--limit", "8", "--dry-run")
    first, second, *_ = rsbench(*words).out.splitlines()

    assert first.startswith("imagenet1k: no data is configured, so this runs the embedded sample")
    assert second.endswith(": tiny_2d on imagenet1k@sample, 3 runs")


def test_a_dry_run_leaves_out_what_is_finished(here: Path) -> None:
    _ablate()
    said = _ablate("--dry-run").out
    some = _lines(_ablate("--seeds", "0,1", "--dry-run", "--json").out)

    assert said.count("finished before\n") == 3
    assert "in all: 3 runs, 3 of them finished before, about 0 s of one" in said
    assert [line["num_finished"] for line in some] == [1, 1, 1]
    assert some[0]["seconds_ahead"] == pytest.approx(some[0]["seconds_per_run"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--study", "rx"), "No study is called 'rx'. Did you mean rs"),
        (("--batch-sizes", "8"), "--batch-sizes must go with the study that varies them"),
        (("--study", "optimizers", "--batch-sizes", "8,x"), "--batch-sizes must be whole numbers"),
        (("--protocol", "linear_probe"), "The recipe of linear_probe has no"),
        (("--backbone", "tiny_2d,tiny_3d"), "A study is of one backbone on one task"),
        (("--backbone", "tiny_4d"), "No backbone is called 'tiny_4d'"),
        (("--times-epochs", "nan"), "nan is not a finite number"),
        (("--checkpoint-minutes", "inf"), "inf is not a finite number"),
        (("--study", "optimizers"), "nothing is left: "),
        (("--times-epochs", "0.5"), "--times-epochs 0.5 changes the epochs that --set epochs=1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_one_line_before_anything_runs(
    here: Path, words: tuple[str, ...], message: str
) -> None:
    answer = _ablate(*words)

    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not (here / "results").exists()
