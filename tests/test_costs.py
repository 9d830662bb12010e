"""Costs: what follows from the laps, and the files they lie in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import contents_of
from costs_factory import cost, timing

from rsbench.errors import DiskError, RecordError
from rsbench.profiling import costs
from rsbench.records import store


def test_rates_and_ratios_follow_from_the_laps() -> None:
    one = cost()
    single, inference, training = one.timings

    assert inference.median_seconds == 0.2
    assert inference.median_cpu_seconds == 0.1
    assert inference.spread == pytest.approx(1.0)  # (0.3 - 0.1) / 0.2
    assert inference.views_per_second == pytest.approx(20)
    # 20 views a second of 0.5 G multiply-adds are 20 GFLOP/s; a step does three times as many,
    # five views a second: 15.
    assert one.flops_per_second(inference) == pytest.approx(20e9)
    assert one.flops_per_second(training) == pytest.approx(15e9)
    assert one.of_peak(inference) == pytest.approx(0.20)
    assert one.training_over_inference() == pytest.approx(4.0)
    assert one.training_over_inference(cpu=True) == pytest.approx(4.0)
    assert one.timing("inference", single=True) is single
    assert one.timing("inference") is inference


def test_a_step_with_a_smaller_batch_is_compared_view_for_view() -> None:
    halved = timing("training", (0.8, 0.8, 0.8), batch_size=2)
    one = cost(timings=(*cost().timings[:2], halved))

    # 0.4 s a view against 0.05 s.
    assert one.training_over_inference() == pytest.approx(8.0)


def test_what_was_not_measured_is_absent() -> None:
    one = cost(timings=cost().timings[:2], peak_flops_per_second=None)

    assert one.timing("training") is None
    assert one.training_over_inference() is None
    assert one.of_peak(one.timings[0]) is None
    uncounted = cost(counts=dict.fromkeys(costs.COUNTS))
    assert uncounted.flops_per_second(uncounted.timings[0]) is None
    assert costs.cost_json(uncounted)["macs_all_views"] is None


def test_multiply_adds_are_given_for_all_views() -> None:
    assert costs.cost_json(cost())["macs_all_views"] == 30 * 500_000_000


def test_a_cost_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = [cost(), cost("torchvision/resnet50@160", notes=("training failed: OSError",))]
    paths = [costs.save(tmp_path, each) for each in written]
    contents = costs.read_all(tmp_path)

    assert sorted(contents.costs, key=lambda each: each.backbone) == written
    assert contents.problems == ()
    assert [path.parent for path in paths] == [tmp_path / "profile"] * 2
    assert paths[1].name.startswith("torchvision--resnet50@160-1x32-cpu-float32-b4-")
    assert all(each["median_seconds"] for each in json.loads(paths[0].read_text())["timings"])


def test_measuring_again_replaces_the_file_of_the_same_setting_only(tmp_path: Path) -> None:
    first = costs.save(tmp_path, cost())
    again = costs.save(
        tmp_path, cost(created="2026-05-06T07:08:09+00:00", environment={"torch": "3.0"})
    )
    others = {
        costs.save(tmp_path, changed)
        for changed in (
            cost(layout="contiguous"),
            cost(threads=2),
            cost(device="Another CPU"),
            cost(compiled=True),
            cost(precision="bf16"),
            cost(pixels=64),
            cost(frames=4, lifting="frame_mean"),
            cost(timings=cost().timings[:2]),
            cost(timings=tuple(replace(each, batch_asked=8) for each in cost().timings)),
        )
    }

    assert first == again
    assert costs.from_json(first.read_text(), where="").environment == {"torch": "3.0"}
    assert len(others - {first}) == 9


def test_costs_are_no_records_and_records_are_no_costs(tmp_path: Path) -> None:
    costs.save(tmp_path, cost())

    assert store.read_all(tmp_path) == ((), ())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "record.json").write_text("{}")
    assert len(costs.read_all(tmp_path).costs) == 1


def _broken(**changes: Any) -> str:
    return json.dumps(costs.cost_json(cost()) | changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_broken()[:-100], "is cut short or another"),
        ("[]", "must be an object with a schema"),
        ('{"schema": 1}', "the field 'created' is missing"),
        (_broken(pixels="many"), "pixels can't be 'many'"),
        (_broken(tf32=1), "tf32 can't be 1"),
        (_broken(schema=99), "was written by a newer rsbench (schema 99"),
        (_broken(timings=[{"work": "inference"}]), "the field 'batch_size' is missing"),
        (_broken(counts=dict.fromkeys(costs.COUNTS, "many")), "parameters can't be 'many'"),
    ],
)
def test_a_broken_file_is_named_and_left_alone(text: str, said: str, tmp_path: Path) -> None:
    costs.save(tmp_path, cost())
    (tmp_path / "profile" / "broken.json").write_text(text)
    before = contents_of(tmp_path)
    contents = costs.read_all(tmp_path)

    assert len(contents.costs) == 1
    assert len(contents.problems) == 1
    assert contents.problems[0].startswith("profile/broken.json")
    assert said in contents.problems[0]
    assert contents_of(tmp_path) == before


@pytest.mark.parametrize("laps", [[], [float("inf")], [-1.0]])
def test_laps_that_can_t_be_are_refused(laps: list[float]) -> None:
    plain = costs.cost_json(cost())
    plain["timings"][0] |= {"seconds": laps, "cpu_seconds": laps}

    with pytest.raises(RecordError, match="at least one number of seconds"):
        costs.from_json(json.dumps(plain), where="here")


def test_a_median_written_by_hand_is_not_believed() -> None:
    plain = costs.cost_json(cost())
    plain["timings"][1]["median_seconds"] = 1e-6

    assert costs.from_json(json.dumps(plain), where="").timings[1].median_seconds == 0.2


def test_a_folder_that_can_t_be_written_is_known_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("in the way")

    with pytest.raises(DiskError, match="Can't write"):
        costs.check_writable(tmp_path)


def test_looking_whether_a_folder_can_be_written_leaves_nothing_in_it(tmp_path: Path) -> None:
    costs.check_writable(tmp_path)

    assert [*(tmp_path / "profile").iterdir()] == []
