"""What is odd about items that could be read: named in the record, and counted in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import rsbench
from numbered_world import request_of, run_world, write_world
from records_factory import make_record

from rsbench.checks import reading
from rsbench.cli.printing import record_in_words, remarks_in_words
from rsbench.data import loaders
from rsbench.data.loaders import ItemViews
from rsbench.specs import Item

LIES = ("header claims 96 frames, 13 decode", "tags are not UTF-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("numbered"))


@pytest.fixture
def _lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one test video be read with two remarks and another with one."""
    right = loaders.read_item

    def remarked(item: Item, *args: Any, **kwargs: Any) -> ItemViews:
        views, facts = right(item, *args, **kwargs)
        said = {"test/h_13.mp4": LIES, "test/f_20.mp4": ("header claims 9 frames, 20 decode",)}
        if item.id.startswith("train/"):
            return ItemViews(views, replace(facts, remarks=("header claims 5 frames, 4 decode",)))
        return ItemViews(views, replace(facts, remarks=said.get(item.id, ())))

    monkeypatch.setattr(loaders, "read_item", remarked)


@pytest.mark.usefixtures("_lying")
@pytest.mark.parametrize("protocol", ["evaluate", "linear_probe"])
def test_remarks_stand_in_the_record_and_move_no_score(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    done = run_world(data, tmp_path, protocol=protocol)
    again = run_world(data, tmp_path, protocol=protocol, again=True)
    monkeypatch.undo()
    plain = run_world(data, tmp_path / "plain", protocol=protocol)

    assert done.record.data.remarked == (
        {"id": "test/f_20.mp4", "reason": "header claims 9 frames, 20 decode"},
        {"id": "test/h_13.mp4", "reason": LIES[0]},
        {"id": "test/h_13.mp4", "reason": LIES[1]},
    )
    assert again.record.data.remarked == done.record.data.remarked, "out of the cache likewise"
    assert plain.record.data.remarked == ()
    assert plain.record.key == done.record.key
    assert plain.record.metrics == done.record.metrics
    assert [failed["id"] for failed in done.record.data.failed] == ["test/damaged.mp4"]


@pytest.mark.usefixtures("_lying")
def test_a_run_says_in_one_line_how_many_items_were_read_with_remarks(
    data: Path, tmp_path: Path
) -> None:
    asked = request_of(data, tmp_path)
    words = ("run", "--task", asked.task, "--data", data, "--backbone", asked.backbone)
    own = ("--set", "strengths=3", "--device", "cpu", "--results", tmp_path / "results")

    answer = rsbench(*words, *own)
    (cell,) = (json.loads(line) for line in rsbench(*words, *own, "--json").out.splitlines())

    trained = json.loads(Path(cell["record"]).read_text())["data"]["train_remarked"]
    assert len(trained) > 2
    lines = [line for line in answer.out.splitlines() if "with remarks" in line]
    assert lines == [
        f"  2 test and {len(trained)} train items were read with remarks: header claims N frames,"
        f" N decode ({2 + len(trained)}); tags are not UTF-8 (1); see data.remarked and"
        " data.train_remarked in the record"
    ]
    assert cell["n_remarked"] == 2


def test_remarks_on_what_was_learned_from_are_named_in_the_record(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "header claims 5 frames, 4 decode"
    for name in ("read_item", "read_training_item"):
        right = getattr(loaders, name)

        def remarked(*args: Any, right: Any = right, **kwargs: Any) -> ItemViews:
            views, facts = right(*args, **kwargs)
            return ItemViews(views, replace(facts, remarks=(said,)))

        monkeypatch.setattr(loaders, name, remarked)
    short = {"epochs": "2"}

    probed = run_world(data, tmp_path, protocol="linear_probe").record.data
    tuned = run_world(data, tmp_path, protocol="finetune", overrides=short).record.data

    assert {each["reason"] for each in probed.train_remarked} == {said}
    assert len(probed.train_remarked) == probed.num_train - len(probed.train_failed)
    assert tuned.train_remarked == probed.train_remarked
    assert not {each["id"] for each in probed.train_remarked} & {
        each["id"] for each in probed.remarked
    }


def test_no_remarks_are_no_line() -> None:
    assert remarks_in_words(make_record()) == ""


def test_a_check_of_data_counts_remarks_and_names_an_item(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = reading.read_item

    def remarked(item: Item, *args: Any, **kwargs: Any) -> ItemViews:
        views, facts = right(item, *args, **kwargs)
        said = ("header claims 9 frames, 20 decode",) if item.id == "test/f_20.mp4" else ()
        return ItemViews(views, replace(facts, remarks=said))

    sound = shutil.copytree(data, tmp_path / "sound")
    for damaged in sound.rglob("damaged.mp4"):
        damaged.unlink()
    monkeypatch.setattr(reading, "read_item", remarked)

    answer = rsbench("data", "check", request_of(data, tmp_path).task, "--data", sound)

    (line,) = (line for line in answer.out.splitlines() if " decoding:" in line)
    assert line.endswith(
        " items read; 1 with remarks: header claims N frames, N decode (1), e.g. test/f_20.mp4"
    )


def test_a_run_s_line_says_what_was_left_out_of_training() -> None:
    record = make_record()
    left_out = replace(
        record, data=replace(record.data, train_failed=({"id": "a", "reason": "b"},))
    )

    assert "left out" not in record_in_words(record)
    assert record_in_words(left_out).endswith(", 1 unreadable left out of training")


def test_a_folder_named_as_a_record_is_sent_to_the_files_below_it(tmp_path: Path) -> None:
    answer = rsbench("views", tmp_path)

    assert answer.code == 2
    assert "is a folder; name a .json below it" in answer.err


def test_data_check_takes_folds_by_name(data: Path, tmp_path: Path) -> None:
    answer = rsbench(
        "data", "check", request_of(data, tmp_path).task, "--data", data, "--folds", "x"
    )

    assert answer.code == 1
    assert "no folds to choose from; leave --folds out" in answer.out
