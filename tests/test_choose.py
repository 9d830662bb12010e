"""Choosing a network: limits, minutes, and one sentence that says what the probes came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import contents_of, rsbench, write_pictures
from records_factory import make_predictions, make_record

from rsbench import runner
from rsbench.choosing import shortlist
from rsbench.choosing.answer import Judged, answer
from rsbench.choosing.shortlist import (
    Measured,
    Network,
    named_networks,
    networks_at_hand,
    task_of,
    within,
)
from rsbench.errors import DataError, RsbenchError, RunError
from rsbench.profiling import side_by_side
from rsbench.records import store
from rsbench.registry import find_backbone, find_task
from rsbench.weights.shelf import place_of

TWO = ("--backbone", "tiny_2d@16,tiny_3d@16", "--weights", "none", "--repeats", "2")


def _measured(
    name: str, *, ms: float, mib: float | None = 50.0, laps: Sequence[float] | None = None
) -> Measured:
    return Measured(
        network=Network(name, "none"),
        cell=SimpleNamespace(name=name),  # type: ignore[arg-type]  # only handed on
        cost=SimpleNamespace(),  # type: ignore[arg-type]  # likewise
        latency_seconds=ms / 1000,
        lap_seconds=tuple(each / 1000 for each in laps or [ms] * 10),
        memory_bytes=None if mib is None else int(mib * 2**20),
    )


# ---------------------------------------------------------------------------- the data


def test_a_list_is_read_as_csv_and_class_folders_as_folder(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "clips.csv").write_text("path,label\n")
    (tmp_path / "pictures" / "cat").mkdir(parents=True)

    assert task_of(tmp_path / "lists" / "clips.csv") == "csv"
    assert task_of(tmp_path / "lists") == "csv"
    assert task_of(tmp_path / "pictures") == "folder"
    with pytest.raises(DataError, match="is not there"):
        task_of(tmp_path / "nothing")


# ---------------------------------------------------------------------------- at hand


def test_only_networks_whose_weights_are_here_are_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine without any package of weights.
    monkeypatch.setattr("rsbench.weights.shelf.packaged_file", lambda name: None)
    images, videos = (find_task(name).spec for name in ("digits", "kinetics400"))
    with pytest.raises(RsbenchError, match="rsbench weights fetch"):
        networks_at_hand(images, cache_root=tmp_path)
    image_net = find_backbone("torchvision/resnet50").spec
    video_net = find_backbone("torchvision/r3d_18").spec
    for spec in (image_net, video_net):
        place = place_of(spec, spec.weights[0], cache_root=tmp_path)
        place.raw.parent.mkdir(parents=True)
        place.raw.write_bytes(b"only its place is looked at")

    of_images = networks_at_hand(images, cache_root=tmp_path)
    of_videos = networks_at_hand(videos, cache_root=tmp_path)

    assert of_images == (Network(image_net.name, image_net.weights[0].name),)
    assert {each.backbone for each in of_videos} == {image_net.name, video_net.name}


def test_a_named_network_without_weights_here_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(RsbenchError, match="rsbench weights fetch torchvision/resnet50"):
        named_networks(("torchvision/resnet50",), cache_root=tmp_path)
    with pytest.raises(RsbenchError, match="no published weights"):
        named_networks(("tiny_2d",), cache_root=tmp_path)


# ---------------------------------------------------------------------------- limits


def test_what_takes_too_long_too_much_or_an_unknown_amount_is_left_out_with_its_number() -> None:
    measured = [
        _measured("good", ms=50.0),
        _measured("slow", ms=50.1),
        _measured("large", ms=10.0, mib=101.0),
        _measured("unknown", ms=10.0, mib=None),
    ]

    kept, left_out = within(measured, most_latency_ms=50, most_memory_mib=100)

    assert [each.network.backbone for each in kept] == ["good"]
    assert {each.network.backbone: each.reason for each in left_out} == {
        "slow": "takes 50.1 ms, more than 50",
        "large": "takes 101 MiB, more than 100",
        "unknown": "its memory could not be measured, and --max-memory-mib asks for it",
    }
    assert len(within(measured, most_latency_ms=None, most_memory_mib=None)[0]) == 4


# ---------------------------------------------------------------------------- minutes


def _minutes(monkeypatch: pytest.MonkeyPatch, minutes: dict[str, float | None]) -> None:
    """Let probes take so long; None is finished."""

    def sized(cell: Any, *, speeds: Any) -> Any:
        took = minutes[cell.name]
        return SimpleNamespace(finished=took is None, seconds=None if took is None else 60 * took)

    monkeypatch.setattr(shortlist, "estimate", sized)


def test_the_slowest_networks_have_the_minutes_first_and_others_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _minutes(monkeypatch, {"fast": 1.0, "middle": 3.0, "slow": 4.0, "done": None})
    measured = [
        _measured("fast", ms=1),
        _measured("middle", ms=5),
        _measured("slow", ms=9),
        _measured("done", ms=2),
    ]

    plan = shortlist.plan(measured, most_minutes=6)

    # 4 of 6 for the slowest; 3 do not fit into 2; 1 does; what is finished takes none.
    assert [each.measured.network.backbone for each in plan.runs] == ["fast", "slow", "done"]
    assert plan.seconds == 60 * 5
    assert [each.network.backbone for each in plan.left_out] == ["middle"]
    assert shortlist.plan(measured, most_minutes=None).seconds == 60 * 8
    with pytest.raises(RsbenchError, match=r"the shortest takes about 1\.0"):
        shortlist.plan(measured[:1], most_minutes=0.5)


# ---------------------------------------------------------------------------- the answer


def _judged(root: Path, name: str, hits: Sequence[float], *, ms: float) -> Judged:
    record = make_record(backbone={"name": name}, hits=hits)
    path = store.write(root, record, {store.PREDICTIONS_SUFFIX: make_predictions(hits)})
    return Judged(_measured(name, ms=ms), store.Stored(path, store.read(path)))


def _hits(right: range) -> list[float]:
    return [float(number in right) for number in range(160)]


def test_the_answer_names_the_best_what_equals_it_and_what_speed_costs(tmp_path: Path) -> None:
    # Of 160 items the best has 120 right; the second the same but 2; the last a half of these.
    judged = [
        _judged(tmp_path, "last", _hits(range(60)), ms=5),
        _judged(tmp_path, "best", _hits(range(120)), ms=20),
        _judged(tmp_path, "second", _hits(range(118)), ms=10),
    ]

    found = answer(judged)

    best, second, last = found.options
    assert [each.verdict for each in found.options] == ["best", "indistinguishable", "worse"]
    assert (best.value, second.value, last.value) == (0.75, 118 / 160, 0.375)
    assert second.gain is not None and last.gain is not None
    assert second.gain.value == pytest.approx(-2 / 160)
    # Two items that only the best has right: binomtest(2, 2).pvalue is 0.5.
    assert second.p == pytest.approx(0.5)
    assert last.gain.value == pytest.approx(-60 / 160)
    assert (second.times_as_fast, last.times_as_fast) == (2, 4)
    assert found.sentence.startswith("Take best: 75.0 % top1 [")
    assert "on 160 items at 20.0 ms and 50 MiB an item" in found.sentence
    assert "second is indistinguishable from it (-1.2 points [" in found.sentence
    assert ", 2.0 times as fast)" in found.sentence
    assert "last is 4.0 times as fast (5.00 ms), at -37.5 points [" in found.sentence
    assert any("rather too high" in note for note in found.notes)
    assert second.detectable is not None
    shown = f"160 items could show a difference of {100 * second.detectable:.1f} points"
    assert any(note.startswith(shown) for note in found.notes)


def test_an_interval_without_nought_is_not_called_indistinguishable(tmp_path: Path) -> None:
    # Only the best has 8 of the items right, only the other 1: binomtest(1, 9).pvalue is 0.039,
    # and times 3 pairs 0.117; the interval of this pair alone, -4.4 -+ 1.96 * 3 / 1.6, is below 0.
    other = [float(number < 92 or number == 150) for number in range(160)]
    judged = [
        _judged(tmp_path, "best", _hits(range(100)), ms=20),
        _judged(tmp_path, "near", _hits(range(98)), ms=20),
        _judged(tmp_path, "other", other, ms=20),
    ]

    found = answer(judged)

    assert [each.verdict for each in found.options[1:]] == ["indistinguishable"] * 2
    assert found.options[2].q == pytest.approx(3 * 0.0390625)
    assert "other is not surely worse (-4.4 points [" in found.sentence
    assert "], q = 0.12, as fast)" in found.sentence
    assert "near is indistinguishable from it" in found.sentence


def test_what_is_worse_and_no_faster_is_counted_and_not_offered(tmp_path: Path) -> None:
    judged = [
        _judged(tmp_path, "best", _hits(range(120)), ms=20),
        _judged(tmp_path, "last", _hits(range(60)), ms=25),
    ]

    sentence = answer(judged).sentence

    assert "one is worse and no faster" in sentence
    assert "last" not in sentence


def test_speeds_that_the_laps_do_not_tell_apart_are_not_called_faster(tmp_path: Path) -> None:
    # 8 of 10 laps are faster: binomtest(2, 10).pvalue is 0.109; of 9, 0.021.
    best = _judged(tmp_path, "best", _hits(range(120)), ms=20)
    noisy, steady = (
        _judged(tmp_path, name, _hits(range(right)), ms=15)._replace(
            measured=_measured(name, ms=15, laps=[15.0] * num + [30.0] * (10 - num))
        )
        for name, right, num in (("noisy", 118, 8), ("steady", 117, 9))
    )

    found = answer([best, noisy, steady])

    assert [each.speed_told_apart for each in found.options] == [False, False, True]
    assert "noisy is indistinguishable from it (-1.2 points [" in found.sentence
    assert ", as fast as far as the timed passes tell)" in found.sentence
    assert ", 1.3 times as fast)" in found.sentence


def test_each_network_that_buys_speed_is_offered_and_none_that_does_not(tmp_path: Path) -> None:
    judged = [
        _judged(tmp_path, "best", _hits(range(150)), ms=20),
        _judged(tmp_path, "middle", _hits(range(110)), ms=10),
        _judged(tmp_path, "beaten", _hits(range(70)), ms=15),
        _judged(tmp_path, "quick", _hits(range(30)), ms=2),
    ]

    sentence = answer(judged).sentence

    assert "middle is 2.0 times as fast (10.0 ms), at -25.0 points [" in sentence
    assert "quick is 10.0 times as fast (2.00 ms), at -75.0 points [" in sentence
    assert "one is worse and no faster than a better one" in sentence
    assert "beaten" not in sentence


def test_of_many_that_buy_speed_the_best_and_the_fastest_are_named(tmp_path: Path) -> None:
    judged = [
        _judged(tmp_path, f"net{number}", _hits(range(155 - 25 * number)), ms=20 - 3 * number)
        for number in range(6)
    ]

    sentence = answer(judged).sentence

    assert all(f"; net{number} is" in sentence for number in (1, 2, 3, 5))
    assert "net4" not in sentence
    assert "1 more lies between the last two" in sentence


def test_probes_under_unequal_rulers_are_no_choice(tmp_path: Path) -> None:
    judged = [
        _judged(tmp_path, "one", _hits(range(120)), ms=20),
        _judged(tmp_path, "two", _hits(range(60)), ms=5),
    ]
    other = judged[1].stored.record
    other = replace(other, ruler={**other.ruler, "task_version": 2}, key="e" * 64)
    path = store.write(
        tmp_path, other, {store.PREDICTIONS_SUFFIX: make_predictions(_hits(range(60)))}
    )

    with pytest.raises(RunError, match="under one ruler"):
        answer([judged[0], Judged(judged[1].measured, store.Stored(path, store.read(path)))])


# ---------------------------------------------------------------------------- the command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data/; memory is not measured, which takes a process a network."""
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "_resident_peak", lambda *words: 50 * 2**20)
    write_pictures(tmp_path / "data")
    return tmp_path


def test_a_choice_leaves_ordinary_records_and_a_second_one_runs_nothing(here: Path) -> None:
    words = ("choose", "--data", "data", *TWO, "--yes", "--json")
    first = rsbench(*words)
    assert first.code == 0, first.err
    before = contents_of(here / "results" / "runs")

    again = rsbench(*words)

    said, second = json.loads(first.out), json.loads(again.out)
    assert contents_of(here / "results" / "runs") == before
    assert second["seconds_estimated"] == 0
    assert {each["backbone"] for each in said["options"]} == {"tiny_2d@16", "tiny_3d@16"}
    assert said["n"] == 8
    for each in said["options"]:
        record = store.read(here / each["record"])
        assert record.metrics[0].value == each["value"]
        assert record.protocol.name == "linear_probe"
        assert each["seconds_an_item"] > 0
    assert len(list((here / "results" / "profile").glob("*.json"))) == 2
    assert said["sentence"].startswith("Take tiny_")


def test_data_without_splits_is_cross_validated(here: Path) -> None:
    answered = rsbench("choose", "--data", "data/train", *TWO, "--yes", "--json")

    said = json.loads(answered.out)
    assert answered.code == 0, answered.err
    # Five folds of the 12 items: each is tested once.
    assert said["n"] == 12
    assert store.read(here / said["options"][0]["record"]).data.num_folds == 5


def test_a_probe_that_fails_is_named_and_the_others_are_judged(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run_cell

    def run(cell: Any) -> Any:
        if cell.backbone.spec.name.startswith("tiny_3d"):
            raise RunError("out of luck")
        return real(cell)

    monkeypatch.setattr(runner, "run_cell", run)

    answered = rsbench("choose", "--data", "data", *TWO, "--yes", "--json")

    said = json.loads(answered.out)
    assert answered.code == 0, answered.err
    assert [each["backbone"] for each in said["options"]] == ["tiny_2d@16"]
    assert [each["reason"] for each in said["left_out"]] == ["its probe failed: out of luck"]
    assert "it is the only one that was judged" in said["sentence"]


def test_nobody_to_ask_is_an_error_and_runs_nothing(here: Path) -> None:
    answered = rsbench("choose", "--data", "data", *TWO)

    assert answered.code == 2
    assert "--yes" in answered.err
    assert "To run: 2 linear probes, about" in answered.out
    assert not list((here / "results").glob("runs/**/*.json"))


def test_limits_that_nothing_holds_name_the_fastest_and_the_next_step(here: Path) -> None:
    answered = rsbench("choose", "--data", "data", *TWO, "--yes", "--max-latency-ms", "0.000001")

    assert answered.code == 2
    assert "the fastest, tiny_" in answered.err
    assert "--max-latency-ms" in answered.err


def test_words_that_say_nothing_to_choose_for_are_refused() -> None:
    assert "--data FOLDER" in rsbench("choose").err
    assert "--yes" in rsbench("choose", "--data", "x", "--json").err
