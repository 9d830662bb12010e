"""The curve of a training, from the loop into the record; and what a training is told and tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import TINY, rsbench, write_pictures

from rsbench.cells import RunRequest, settings_of
from rsbench.runner import run

SHORT = ("--set", "epochs=2", "--set", "batch_size=4")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data")
    return tmp_path


def _record(*words: str) -> dict[str, Any]:
    answer = rsbench("run", *TINY, "--data", "data", *words, "--json")
    assert answer.code == 0, answer.err
    described = json.loads(answer.out)
    record: dict[str, Any] = json.loads(Path(described["record"]).read_text())
    return record


def test_a_record_has_the_curve_of_its_training_epoch_by_epoch(here: Path) -> None:
    curve = _record("--protocol", "finetune", *SHORT)["curve"]

    # 12 items in batches of 4, twice.
    assert [(row["epoch"], row["steps"]) for row in curve] == [(1, 3), (2, 6)]
    for row in curve:
        assert row.keys() >= {"train_loss", "train_top1", "learning_rate", "seconds"}
        assert 0 <= row["train_top1"] <= 1
        assert "fold" not in row


def test_curves_of_folds_are_told_apart(here: Path) -> None:
    record = _record("--protocol", "finetune", *SHORT, "--cross-validate", "2")
    folds = [row["fold"] for row in record["curve"]]

    assert len(set(folds)) == 2
    assert folds == sorted(folds)
    assert [row["epoch"] for row in record["curve"]] == [1, 2, 1, 2]


def test_a_frozen_network_leaves_no_curve(here: Path) -> None:
    assert _record("--set", "strengths=3")["curve"] == []


def test_words_about_a_training_reach_it(tmp_path: Path) -> None:
    heard: list[dict[str, float]] = []
    request = RunRequest(
        task="folder",
        backbone="tiny_2d",
        protocol="finetune",
        results=tmp_path,
        cache_root=tmp_path / "cache",
        compile=True,
        keep_checkpoints=3,
        checkpoint_minutes=2.5,
        log_root=tmp_path / "logs",
        measured=lambda values: heard.append(dict(values)),
    )
    settings = settings_of(request, "key")
    settings.measured({"loss": 1.0})

    assert (settings.compile, settings.keep_checkpoints) == (True, 3)
    assert settings.checkpoint_seconds == 150
    assert settings.log_root == tmp_path / "logs"
    assert heard == [{"loss": 1.0}]


@pytest.mark.parametrize(
    ("protocol", "recipe", "names"),
    [
        ("finetune", ("epochs=1",), ("finetune",)),
        (
            "linear_probe_dino",
            ("epochs=1", "epoch_iterations=2", "batch_size=4", "augment=false", "held_out=0.4"),
            ("linear_probe_dino-best", "linear_probe_dino-grid"),
        ),
        (
            "attentive_probe",
            (
                *("epochs=1", "num_blocks=1", "num_heads=1", "batch_size=4", "held_out=0.4"),
                *("learning_rates=1e-3", "weight_decays=0.1", "refit=false"),
            ),
            ("attentive_probe-grid-0",),
        ),
    ],
)
def test_what_is_trained_step_by_step_is_logged_where_it_can_be_told_from_others(
    here: Path, protocol: str, recipe: tuple[str, ...], names: tuple[str, ...]
) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard comes with the dev extra")
    words = [word for each in recipe for word in ("--set", each)]
    _record("--protocol", protocol, *words, "--tensorboard", "logs")

    files = list((here / "logs").rglob("events.out.*"))
    # Task, backbone and weights; then each training of the run.
    assert {each.parent.parent.name for each in files} == {"folder-tiny_2d-none"}
    assert sorted({each.parent.name.rpartition(".")[0] for each in files}) == list(names)


@pytest.mark.parametrize(
    "words",
    [
        ("--compile",),
        ("--keep-checkpoints", "2"),
        ("--checkpoint-minutes", "2"),
        ("--tensorboard", "logs"),
    ],
)
def test_words_about_a_training_are_refused_where_there_is_none(
    here: Path, words: tuple[str, ...]
) -> None:
    answer = rsbench("run", *TINY, "--data", "data", *words)

    assert answer.code == 2
    assert f"{words[0]} must go with a protocol that trains step by step" in answer.err
    assert not (here / "logs").exists()


def test_a_training_says_what_it_is_at(here: Path) -> None:
    heard: list[dict[str, float]] = []
    run(
        RunRequest(
            task="folder",
            backbone="tiny_2d",
            protocol="finetune",
            data=here / "data",
            results=here / "results",
            cache_root=here / "cache",
            pixels=16,
            overrides={"epochs": "2", "batch_size": "4"},
            measured=lambda values: heard.append(dict(values)),
        )
    )

    assert heard
    assert heard[0].keys() >= {"loss", "learning_rate", "examples_per_second"}
