"""`rsbench verify`: what is not as recorded is found, one planted fault after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from command_line import rsbench
from numbered_world import PLUGIN, run_world, write_world
from records_factory import save_record, some_hits

from rsbench.digests import digest_file
from rsbench.metrics import MEAN_PER_CLASS, evaluate_metric
from rsbench.records import store
from rsbench.records.schema import MetricPart, RunRecord, to_json
from rsbench.specs import Views
from rsbench.verifying import verify, verify_folder

RESULTS = Path(__file__).parents[1] / "results"
HITS = some_hits(80)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound record of 160 items, 80 of them hit, below a results folder."""
    return save_record(tmp_path, HITS)


def reseal(path: Path, **changes: Any) -> None:
    """Write a record again after a change of it or of its files, with digests that fit."""
    record: RunRecord = replace(store.read(path), **changes)
    files = {
        name: digest_file(path.with_name(name)) if path.with_name(name).is_file() else digest
        for name, digest in record.files.items()
    }
    path.write_text(to_json(replace(record, files=files)))


def change_predictions(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the columns beside a record, as no run would write them, and reseal it."""
    file = path.with_name(f"{path.stem}.{store.PREDICTIONS_SUFFIX}")
    table = parquet.read_table(file)
    parquet.write_table(change(table).replace_schema_metadata(table.schema.metadata), file)
    reseal(path)


def with_row(column: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    """Give what sets one row of a column."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        place = table.column_names.index(column)
        return table.set_column(place, column, pa.array(values, table.schema.field(column).type))

    return change


def problems_of(path: Path) -> tuple[str, ...]:
    found = verify(path)
    assert found.is_sound == (not found.problems)
    return found.problems


# ----------------------------------------------------------------------------------- sound ones


def test_the_committed_records_are_sound() -> None:
    found = list(verify_folder(RESULTS))

    assert len(found) >= 20
    assert {each.name: each.problems for each in found if not each.is_sound} == {}
    assert all(each.metrics for each in found if "/runs/" in each.path.as_posix())


def test_a_sound_record_s_numbers_come_out_of_its_predictions(path: Path) -> None:
    found = verify(path)

    (metric,) = found.metrics
    assert found.problems == ()
    assert (found.num_files, found.num_items) == (1, 160)
    assert metric.recorded == metric.recomputed
    assert metric.recomputed[0] == 80 / 160


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with view scores, a split of its own and an unreadable item; no test may change it."""
    folder = tmp_path_factory.mktemp("world")
    done = run_world(
        write_world(folder), folder, protocol="evaluate", views=Views(clips=3, crops=3)
    )
    return done.path


@pytest.fixture
def run(world: Path, tmp_path: Path) -> Path:
    """A copy of that run's record and files."""
    for file in world.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / world.name


def test_a_run_with_view_scores_and_an_unreadable_item_is_sound(run: Path) -> None:
    found = verify(run)

    assert found.problems == ()
    assert found.notes == ()
    assert (found.num_files, found.num_items) == (3, 9)
    assert verify(run, task=str(PLUGIN)).problems == ()


# ------------------------------------------------------------------------------------- numbers


def test_a_metric_that_was_made_better_is_found(path: Path) -> None:
    (part,) = store.read(path).metrics
    reseal(path, metrics=(replace(part, value=0.75),))

    assert problems_of(path) == ("top1 is 0.75, and its predictions give 0.5",)


def test_an_interval_that_was_made_tighter_is_found(path: Path) -> None:
    (part,) = store.read(path).metrics
    reseal(path, metrics=(replace(part, low=0.49),))

    (problem,) = problems_of(path)
    assert problem.startswith("top1's interval is [0.49, 0.576")
    assert "and its predictions give [0.423" in problem


@pytest.mark.parametrize(("share", "kind"), [(0.05, "note"), (0.5, "problem")])
def test_a_resampled_interval_may_have_been_drawn_by_an_older_rule(
    path: Path, share: float, kind: str
) -> None:
    score = evaluate_metric(MEAN_PER_CLASS, *_judged(path))
    assert score.low is not None and score.high is not None
    part = MetricPart(
        name="mean_per_class",
        value=score.value,
        low=score.low + share * (score.high - score.low),
        high=score.high,
        n=160,
        level="class",
        interval="bootstrap",
        higher_is_better=True,
    )
    assert score.per_item is not None
    per_item = pa.array(score.per_item)
    change_predictions(path, lambda table: table.append_column("score:mean_per_class", per_item))
    ruler = {**store.read(path).ruler, "metrics": "mean_per_class by class"}
    reseal(path, metrics=(part,), ruler=ruler)

    found = verify(path)

    lines = found.notes if kind == "note" else found.problems
    assert len(found.notes) + len(found.problems) == 1
    assert lines[0].startswith("mean_per_class's interval is [")
    assert ("resampled by another rule" in lines[0]) == (kind == "note")


def _judged(path: Path) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    table = store.read_predictions(path)
    return table.targets, table.predictions


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"level": "class"}, "top1.level is 'class'"),
        ({"interval": "bootstrap"}, "top1.interval is 'bootstrap'"),
        ({"higher_is_better": False}, "top1.higher_is_better is False"),
        ({"folds": (0.5, 0.5)}, "top1.folds are not the values"),
        ({"n": 161}, "n of top1 is 161, and there are 160 rows"),
        ({"high": None}, "nothing], and its predictions give [0.423"),
    ],
)
def test_a_metric_that_says_something_else_of_itself_is_found(
    path: Path, change: Mapping[str, Any], said: str
) -> None:
    record = store.read(path)
    (part,) = record.metrics
    level = change.get("level", "item")
    ruler = {**record.ruler, "metrics": f"top1 by {level}"}
    reseal(path, metrics=(replace(part, **change),), ruler=ruler)

    (problem,) = problems_of(path)
    assert said in problem


def test_another_prediction_is_found_by_the_metric_and_by_the_item(path: Path) -> None:
    row = HITS.index(0.0)
    target = row % 8
    scores = [0.0] * 8
    scores[target] = 1.0
    change_predictions(path, with_row("scores", row, scores))

    value, items, interval = problems_of(path)
    assert value == "top1 is 0.5, and its predictions give 0.50625"  # 81 of 160
    assert interval.startswith("top1's interval is [")
    assert items.startswith(
        f"1 of its items have another top1 than their predictions give:"
        f" 'clip_{row:04d}.mp4' has 0, and they give 1"
    )


def test_a_score_of_an_item_that_was_changed_alone_is_found(path: Path) -> None:
    row = HITS.index(1.0)
    change_predictions(path, with_row("score:top1", row, 0.0))

    (problem,) = problems_of(path)
    assert f"'clip_{row:04d}.mp4' has 0, and they give 1" in problem


def test_a_metric_of_a_task_of_its_own_asks_for_the_task(path: Path) -> None:
    record = store.read(path)
    (part,) = record.metrics
    reseal(
        path,
        metrics=(replace(part, name="wit"),),
        task=replace(record.task, source_sha256="a" * 64),
        ruler={**record.ruler, "metrics": "wit by item", "task_source": "a" * 64},
    )

    (problem,) = problems_of(path)
    assert "has the metric 'wit', which is its task's own" in problem
    assert "--task" in problem


def test_a_record_of_a_task_that_is_not_installed_is_verified_by_common_metrics(
    path: Path,
) -> None:
    record = store.read(path)
    reseal(
        path,
        task=replace(record.task, name="of_elsewhere"),
        ruler={**record.ruler, "task": "of_elsewhere"},
    )

    found = verify(path)

    assert found.problems == ()
    assert found.metrics[0].recomputed[0] == 0.5


@pytest.mark.parametrize("suffix", ["", "@sample", "+width=1", "@32"])
def test_a_record_that_names_a_file_as_its_task_has_it_not_imported(
    path: Path, tmp_path: Path, suffix: str
) -> None:
    ran = tmp_path / "ran"
    plugin = tmp_path / "evil.py"
    plugin.write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
    record = store.read(path)
    name = f"{plugin}{suffix}"
    reseal(path, task=replace(record.task, name=name), ruler={**record.ruler, "task": name})

    assert problems_of(path) == ()  # top1 is everybody's
    assert not ran.exists()


def test_contents_that_no_run_writes_are_a_problem_and_no_crash(path: Path) -> None:
    reseal(path, data=replace(store.read(path).data, failed=({"reason": "nobody's"},)))

    found = verify(path)

    assert found.problems == (
        "it can't be judged: its contents are not what a run writes (KeyError: 'id')",
    )
    assert found.metrics[0].recomputed[0] == 0.5, "the rest is looked at all the same"


# ------------------------------------------------------------------------------ items and counts


def test_an_item_twice_is_found(path: Path) -> None:
    change_predictions(path, with_row("id", 7, "clip_0003.mp4"))

    (problem,) = problems_of(path)
    assert problem == "the item 'clip_0003.mp4' stands 2 times in its predictions"


def test_nan_among_scores_is_found(path: Path) -> None:
    change_predictions(path, with_row("scores", 3, [float("nan")] * 8))

    first, second = problems_of(path)
    assert first == "the prediction of 'clip_0003.mp4' holds NaN"
    assert second.startswith("Scores must be numbers, but those of row 3 hold NaN")


def test_a_prediction_of_another_length_is_found(path: Path) -> None:
    change_predictions(path, with_row("scores", 5, [0.5, 0.5]))

    first, second = problems_of(path)
    assert first.startswith("the prediction of 'clip_0005.mp4' must be 8 scores")
    assert "Each prediction must be one score a class" in second


def test_rows_that_were_left_out_are_found(path: Path) -> None:
    keep = [row for row in range(160) if HITS[row]]
    change_predictions(path, lambda table: table.take(keep))

    found = problems_of(path)
    assert "data.num_expected is 160, and there are 80 rows of predictions" in found
    assert "n of top1 is 160, and there are 80 rows of predictions" in found
    assert "top1 is 0.5, and its predictions give 1" in found


def test_an_unreadable_item_that_is_named_nowhere_is_found(run: Path) -> None:
    record = store.read(run)
    reseal(run, data=replace(record.data, failed=({"id": "test/other.mp4", "reason": "x"},)))

    assert problems_of(run) == (
        "data.failed names test/other.mp4, and the predictions lack test/damaged.mp4",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_missing": 2}, "data.num_missing is 2, and there are 0 ids in data.missing"),
        ({"num_official": 3}, "data.num_official is 3, fewer than the 160 that are present"),
        ({"split_sha256": "b" * 64}, "data.split_sha256 is bbbbbbbbbbbb"),
    ],
)
def test_counts_that_do_not_add_up_are_found(
    path: Path, change: Mapping[str, Any], said: str
) -> None:
    reseal(path, data=replace(store.read(path).data, **change))

    (problem,) = problems_of(path)
    assert said in problem


# ----------------------------------------------------------------------------- ruler and selection


@pytest.mark.parametrize("field", ["clips", "data", "recipe.strengths", "split", "metrics"])
def test_a_ruler_that_its_parts_do_not_give_is_found(path: Path, field: str) -> None:
    reseal(path, ruler={**store.read(path).ruler, field: "other"})

    (problem,) = problems_of(path)
    assert problem.startswith(f"its ruler says {field} = 'other', and its parts say ")


@pytest.mark.parametrize(("field", "now"), [("failure_policy", "wrong"), ("averaging", "pooled")])
def test_a_rule_that_no_run_follows_is_found(path: Path, field: str, now: str) -> None:
    reseal(path, ruler={**store.read(path).ruler, field: "left out"})

    assert problems_of(path) == (f"its ruler says {field} = 'left out', and its parts say {now!r}",)


def test_a_ruler_with_other_content_than_the_data_is_found(path: Path) -> None:
    reseal(path, ruler={**store.read(path).ruler, "content": "c" * 64})

    (problem,) = problems_of(path)
    assert problem.startswith("its ruler says content = 'ccc")


def test_a_leak_that_was_made_to_look_honest_is_found(path: Path) -> None:
    record = store.read(path)
    chosen = {**record.protocol.chosen, "selected_on": "test"}
    reseal(path, protocol=replace(record.protocol, chosen=chosen))

    assert problems_of(path) == (
        "protocol.chosen tells of selection on the test set, and protocol.selected_on_test is"
        " False",
    )


# ------------------------------------------------------------------------------------------ files


def test_a_changed_file_is_found_and_not_read(path: Path) -> None:
    file = path.with_name(f"{path.stem}.{store.PREDICTIONS_SUFFIX}")
    file.write_bytes(file.read_bytes() + b"x")

    (problem,) = problems_of(path)
    assert f"its file {file.name} was changed" in problem
    assert verify(path).metrics == ()


@pytest.mark.parametrize("suffix", [store.HEAD_SUFFIX, store.VIEWS_SUFFIX])
def test_a_changed_file_that_may_be_absent_is_found_too(run: Path, suffix: str) -> None:
    file = run.with_name(f"{run.stem}.{suffix}")
    file.write_bytes(file.read_bytes() + b"x")

    (problem,) = problems_of(run)
    assert problem.startswith(f"its file {file.name} was changed: it has sha256 ")


def test_missing_predictions_are_found_and_a_missing_head_is_told(run: Path) -> None:
    run.with_name(f"{run.stem}.{store.HEAD_SUFFIX}").unlink()
    absent = verify(run)
    run.with_name(f"{run.stem}.{store.PREDICTIONS_SUFFIX}").unlink()
    gone = verify(run)

    assert absent.problems == ()
    assert absent.notes == (
        f"{run.stem}.head.safetensors is not here: large files stay where they were made",
    )
    assert f"its file {run.stem}.predictions.parquet is missing" in gone.problems[0]


def test_view_scores_that_average_to_other_predictions_are_found(run: Path) -> None:
    table = store.read_predictions(run)
    row = next(row for row, value in enumerate(table.predictions) if value is not None)
    moved = table.predictions[row].astype(np.float64) * [1.01, 1, 1]
    change_predictions(run, with_row("scores", row, moved.tolist()))

    (problem,) = [each for each in problems_of(run) if "view scores" in each]
    assert "must average to its predictions, and do not for" in problem


def test_a_head_of_other_folds_is_found(run: Path) -> None:
    change_predictions(run, with_row("fold", 0, "second"))

    assert any("holds what was fitted in the folds" in each for each in problems_of(run))


def test_a_file_that_is_named_elsewhere_is_not_looked_at(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    record = store.read(path)
    files = {**record.files, "../../../secret": "d" * 64}
    path.write_text(to_json(replace(record, files=files)))

    (problem,) = problems_of(path)
    assert problem == "its file '../../../secret' must lie beside it, and is named elsewhere"


def test_a_record_edited_by_hand_is_one_problem(path: Path) -> None:
    path.write_text(path.read_text().replace('"value": 0.5', '"value": 0.9'))

    (problem,) = problems_of(path)
    assert "was edited by hand" in problem


# -------------------------------------------------------------------------------- the command line


def test_a_folder_is_verified_record_by_record(path: Path, tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(90, seed=1), seed=1)
    (part,) = store.read(path).metrics
    reseal(path, metrics=(replace(part, value=0.75),))
    (path.parent / "left-behind.csv").write_text("x")

    answer = rsbench("verify", tmp_path)
    printed = [json.loads(line) for line in rsbench("verify", tmp_path, "--json").out.splitlines()]

    assert answer.code == 1
    name = path.relative_to(tmp_path).as_posix()
    assert answer.out.splitlines() == [
        f"{name}: top1 is 0.75, and its predictions give 0.5",
        "2 records: 1 is not as recorded; 2 metrics computed anew, 2 files held to their digests,"
        " 1 remark on what is not here.",
    ]
    assert [each["sound"] for each in printed] == [False, True, True]
    assert [each["kind"] for each in printed] == ["run", "run", "stray"]
    metric = printed[0]["metrics"]["top1"]
    assert (metric["recorded"]["value"], metric["recomputed"]["value"]) == (0.75, 0.5)
    assert printed[2]["notes"] == ["it belongs to no record here"]


def test_a_sound_record_is_said_with_its_numbers(path: Path) -> None:
    answer = rsbench("verify", path)

    assert answer.code == 0
    assert answer.out.splitlines() == [
        "  top1 50.0 [42.3, 57.7]",
        "1 record: all as recorded; 1 metric computed anew, 1 file held to their digests.",
    ]


def test_what_is_said_of_a_record_can_t_rewrite_a_terminal(path: Path) -> None:
    record = store.read(path)
    failed = ({"id": "\x1b[2J", "reason": "x"},)
    data = replace(record.data, failed=failed)
    reseal(path, data=data)

    answer = rsbench("verify", path)

    assert "data.failed names \ufffd[2J" in answer.out
    assert "\x1b" not in answer.out
    # To programs the name is told as it is.
    assert "\x1b[2J" in json.loads(rsbench("verify", path, "--json").out)["problems"][0]


def test_an_error_is_shown_as_it_is_and_not_in_percent(path: Path) -> None:
    (part,) = store.read(path).metrics
    reseal(path, metrics=(replace(part, higher_is_better=False),))

    assert "  top1 0.5 [0.423" in rsbench("verify", path).out


def test_nothing_to_verify_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()

    answer = rsbench("verify", tmp_path)

    assert answer.code == 0
    assert answer.out.startswith("0 records: there is nothing to verify; ")


def test_a_path_that_holds_no_records_is_the_user_s_fault(tmp_path: Path) -> None:
    nowhere = rsbench("verify", RESULTS, tmp_path / "nowhere")
    empty = rsbench("verify", tmp_path)

    assert (nowhere.code, empty.code) == (2, 2)
    assert nowhere.out == "", "words are looked at before records are"
    assert "does not exist" in nowhere.err
    assert "must be a results folder" in empty.err
