"""The nouns carry more than classification: six plug-ins, each a file of tests/plugins, run whole.

Loading, predicting, recording and drawing the table go through the command line, as for any task.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    root_mean_squared_error,
)
from sklearn.preprocessing import MultiLabelBinarizer
from torchvision.ops import box_iou

from rsbench import cli, runner
from rsbench.checks import check_task
from rsbench.data.sample import sample_root, write_photograph_crops
from rsbench.digests import digest_file
from rsbench.errors import DataError
from rsbench.gathering import gather
from rsbench.records import store
from rsbench.records.schema import RunRecord
from rsbench.registry import find_task
from rsbench.specs import Item, Predictions, Split, TargetKind, Task
from rsbench.tables import build

PLUGINS = Path(__file__).parent / "plugins"
SIZES = (16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of task, and what its run must come to."""

    plugin: str
    task: str
    target: str
    metrics: tuple[str, ...]
    level: str
    num_train: int
    num_test: int
    backbone: str = "tiny_2d"
    protocol: str | None = None
    """None for the plug-in's own."""
    intervals: tuple[str, ...] = ("",)
    """How each metric's interval is made."""
    overrides: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return PLUGINS / f"{self.plugin}.py"


KINDS = (
    Kind(
        plugin="detection",
        task="rectangles",
        target="boxes",
        metrics=("mean_best_overlap",),
        intervals=("bootstrap",),
        level="box",
        num_train=0,
        num_test=8,
    ),
    Kind(
        plugin="segmentation",
        task="discs_and_bars",
        target="mask",
        metrics=("pixel_accuracy",),
        intervals=("bootstrap",),
        level="pixel",
        num_train=8,
        num_test=8,
    ),
    Kind(
        plugin="depth",
        task="foggy_walls",
        target="depth",
        metrics=("rmse",),
        level="pixel",
        num_train=8,
        num_test=8,
    ),
    Kind(
        plugin="multilabel",
        task="coloured_squares",
        target="multilabel",
        metrics=("mean_average_precision",),
        intervals=("bootstrap",),
        level="class",
        num_train=32,
        num_test=16,
    ),
    Kind(
        plugin="volumes",
        task="nodules",
        target="class",
        metrics=("top1",),
        intervals=("wilson",),
        level="item",
        num_train=32,
        num_test=16,
        backbone=f"{PLUGINS / 'volumes.py'}:BACKBONE",
        protocol="linear_probe",
        overrides=("--set", "strengths=5"),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A finished run, with what its protocol said before it was written down."""

    kind: Kind
    results: Path
    path: Path
    record: RunRecord
    said: tuple[Any, ...]
    printed: str = field(repr=False)

    @property
    def spec(self) -> Task:
        return find_task(str(self.kind.path)).spec


def rsbench(words: Sequence[str]) -> str:
    """Run a command in this process and give what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            cli.main(words)
        except SystemExit as end:
            assert not end.code, errors.getvalue()
    return printed.getvalue()


def run(kind: Kind, *, results: Path, data: Path | None = None, task: str | None = None) -> str:
    where = ("--data", str(data)) if data is not None else ()
    return rsbench(
        [
            *("run", "--task", task or str(kind.path), "--backbone", kind.backbone, *where),
            *("--protocol", kind.protocol or str(kind.path), *kind.overrides),
            *("--device", "cpu", "--workers", "0", "--results", str(results), "--json"),
        ]
    )


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.plugin)
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, session_cache: Path
) -> Iterator[Done]:
    kind: Kind = request.param
    results = tmp_path_factory.mktemp(kind.plugin)
    said: list[Any] = []
    predict = runner.predict_checked

    def watch(*args: Any) -> Predictions:
        predictions = predict(*args)
        said.extend(predictions.values)
        return predictions

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(session_cache))
        patch.setattr(runner, "predict_checked", watch)
        printed = run(kind, results=results, task=f"{kind.path}@sample")
    path = Path(json.loads(printed)["record"])
    yield Done(
        kind=kind,
        results=results,
        path=path,
        record=store.read(path),
        said=tuple(said),
        printed=printed,
    )


def equal(one: Any, other: Any) -> bool:
    """Whether two targets or predictions agree in kind, shape, type and every value."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and one.shape == other.shape and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


def targets_of(done: Done, cache: Path) -> list[Any]:
    spec = done.spec
    items = spec.load(sample_root(spec, cache), "test").items
    return [item.target if spec.read_target is None else spec.read_target(item) for item in items]


def test_the_record_says_what_kind_of_task_it_was_and_how_many_items_were_counted(
    done: Done,
) -> None:
    kind, record = done.kind, done.record

    assert (record.task.name, record.task.target) == (f"{kind.task}@sample", kind.target)
    assert record.task.modality == done.spec.modality
    data = record.data
    assert (data.num_train, data.num_expected) == (kind.num_train, kind.num_test)
    assert (data.num_evaluated, data.num_failed) == (kind.num_test, 0)


def test_the_metrics_are_recorded_with_level_count_and_interval(done: Done) -> None:
    kind, metrics = done.kind, done.record.metrics

    assert tuple(metric.name for metric in metrics) == kind.metrics
    assert tuple(metric.interval for metric in metrics) == kind.intervals
    assert {metric.level for metric in metrics} == {kind.level}
    assert {metric.n for metric in metrics} == {kind.num_test}
    for metric in metrics:
        if metric.interval:
            assert metric.low is not None and metric.high is not None
            assert metric.low <= metric.value <= metric.high
        else:
            assert metric.low is metric.high is None


def test_the_plug_in_file_is_part_of_the_record_and_of_the_ruler(done: Done) -> None:
    kind, record = done.kind, done.record
    sha256 = digest_file(kind.path)

    assert record.task.source_sha256 == record.ruler["task_source"] == sha256
    own_protocol = None if kind.protocol is not None else sha256
    assert record.protocol.source_sha256 == record.ruler.get("protocol_source") == own_protocol
    own_backbone = sha256 if str(kind.path) in kind.backbone else None
    assert record.backbone.source_sha256 == own_backbone


def test_the_ruler_names_metrics_with_their_levels_and_leaves_untrained_data_out(
    done: Done,
) -> None:
    kind, ruler = done.kind, done.record.ruler

    assert ruler["metrics"] == ", ".join(f"{name} by {kind.level}" for name in kind.metrics)
    assert ruler["sample"] is True
    assert ("train" in ruler) == (kind.num_train > 0)


def test_predictions_and_targets_come_back_as_they_were_given(
    done: Done, session_cache: Path
) -> None:
    table = store.read_predictions(done.path)

    assert table.kind == done.kind.target
    assert len(table.ids) == done.kind.num_test
    assert equal_all(table.predictions, done.said)
    assert equal_all(table.targets, targets_of(done, session_cache))


def equal_all(ones: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(ones) == len(others) and all(map(equal, ones, others))


def test_the_stored_predictions_give_the_recorded_numbers(done: Done) -> None:
    table = store.read_predictions(done.path)

    for metric, recorded in zip(done.spec.metrics, done.record.metrics, strict=True):
        assert metric.compute(table.targets, table.predictions) == recorded.value
        if metric.per_item is not None:
            np.testing.assert_array_equal(
                table.item_scores[metric.name], metric.per_item(table.targets, table.predictions)
            )


def test_the_table_shows_the_row(done: Done) -> None:
    contents = store.read_all(done.results)
    (table,) = build(contents).tables
    (row,) = table.rows

    assert table.task == done.record.task.name
    assert [column.metric for column in table.columns] == list(done.kind.metrics)
    assert [cell.value for cell in row.cells if cell] == [m.value for m in done.record.metrics]
    assert (row.num_evaluated, row.num_expected) == (done.kind.num_test, done.kind.num_test)
    assert {"random init", "sample"} <= set(row.marks)


def test_the_table_is_printed_with_the_row(done: Done) -> None:
    printed = rsbench(["table", str(done.results), "--format", "markdown"])

    assert done.record.task.name in printed
    assert done.record.backbone.name in printed
    assert all(name in printed for name in done.kind.metrics)


def test_the_same_run_is_found_and_not_run_again(done: Done) -> None:
    again = json.loads(run(done.kind, results=done.results, task=f"{done.kind.path}@sample"))

    assert again["reused"] is True
    assert Path(again["record"]) == done.path


def test_every_question_of_rsbench_check_is_answered_well(done: Done, session_cache: Path) -> None:
    found = find_task(str(done.kind.path))

    checks = check_task(found, data=None, cache_root=session_cache)

    assert [check for check in checks if not check.ok] == []


def test_an_unreadable_item_is_counted_and_named_and_scored_wrong(
    done: Done, tmp_path: Path
) -> None:
    done.spec.sample.write(tmp_path)
    whole = done.record
    split = done.spec.load(tmp_path, "test")
    item = split.items[-1]
    assert isinstance(item.source, Path)
    item.source.write_bytes(item.source.read_bytes()[:40])

    printed = run(done.kind, results=tmp_path / "results", data=tmp_path)

    path = Path(json.loads(printed)["record"])
    record, table = store.read(path), store.read_predictions(path)
    assert record.data.num_expected == done.kind.num_test
    assert (record.data.num_evaluated, record.data.num_failed) == (done.kind.num_test - 1, 1)
    assert [failed["id"] for failed in record.data.failed] == [item.id]
    assert [name for name, said in zip(table.ids, table.predictions, strict=True) if said is None]
    headline, before = record.metrics[0], whole.metrics[0]
    assert headline.n == before.n
    if headline.higher_is_better:
        assert headline.value < before.value
    else:
        assert headline.value > before.value


def is_array(value: Any, dtype: str, *shape: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape


def test_a_kind_of_target_has_predictions_of_its_own_form(done: Done) -> None:
    table = store.read_predictions(done.path)

    for target, said in zip(table.targets, table.predictions, strict=True):
        match done.kind.target:
            case "boxes":
                assert is_array(target, "float32", len(target), 4)
                assert is_array(said["boxes"], "float32", len(said["scores"]), 4)
                assert is_array(said["scores"], "float32", len(said["boxes"]))
            case "mask":
                assert is_array(target, "uint8", 32, 32) and is_array(said, "uint8", 32, 32)
            case "depth":
                assert is_array(target, "float32", 32, 32) and is_array(said, "float32", 32, 32)
            case "multilabel":
                assert isinstance(target, tuple) and is_array(said, "float32", 3)
            case "class":
                assert isinstance(target, int) and is_array(said, "float32", 2)


def test_the_headline_agrees_with_a_second_source(done: Done) -> None:
    table = store.read_predictions(done.path)
    targets, said = table.targets, table.predictions

    match done.kind.target:
        case "boxes":
            best = [
                box_iou(torch.tensor(true), torch.tensor(found["boxes"])).amax(dim=1).mean().item()
                for true, found in zip(targets, said, strict=True)
            ]
            expected = np.mean(best)
        case "mask":
            expected = accuracy_score(np.ravel(targets), np.ravel(said))
        case "depth":
            expected = root_mean_squared_error(np.ravel(targets), np.ravel(said))
        case "multilabel":
            truth = MultiLabelBinarizer().fit_transform(targets)
            expected = average_precision_score(truth, np.stack(said), average="macro")
        case "class":
            expected = accuracy_score(targets, np.stack(said).argmax(axis=1))
    assert done.record.metrics[0].value == pytest.approx(expected, rel=1e-5)


def test_the_headline_beats_an_answer_that_never_looks(done: Done) -> None:
    table = store.read_predictions(done.path)
    targets, num_items = table.targets, len(table.targets)

    match done.kind.target:
        case "boxes":
            everything = {"boxes": np.array([[0, 0, 32, 32]], np.float32)}
            blind: list[Any] = [everything] * num_items
        case "mask":
            blind = [np.zeros((32, 32), np.uint8)] * num_items
        case "depth":
            blind = [np.full((32, 32), np.mean(targets), np.float32)] * num_items
        case "multilabel" | "class":
            blind = [np.zeros(len(table.predictions[0]), np.float32)] * num_items
    headline = done.spec.metrics[0]
    value, never_looked = done.record.metrics[0].value, headline.compute(targets, blind)
    assert value > never_looked if headline.higher_is_better else value < never_looked


@pytest.fixture(scope="module")
def eleven(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    results, data = tmp_path_factory.mktemp("eleven"), tmp_path_factory.mktemp("crops")
    for seed, split in enumerate(("train", "test")):
        (data / split).mkdir()
        write_photograph_crops(data / split, layout="class folders", seed=seed)
    network = f"{PLUGINS / 'resolutions.py'}:BACKBONE"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(session_cache))
        printed = rsbench(
            [
                *("run", "--task", "folder", "--data", str(data), "--protocol", "linear_probe"),
                *("--backbone", ",".join(f"{network}@{pixels}" for pixels in SIZES)),
                *("--set", "strengths=2", "--device", "cpu", "--workers", "0"),
                *("--results", str(results), "--json"),
            ]
        )
    assert len(printed.splitlines()) == len(SIZES)
    return results


def test_one_network_at_eleven_resolutions_stands_in_one_table_of_eleven_rows(
    eleven: Path,
) -> None:
    (table,) = build(store.read_all(eleven)).tables

    assert table.task == "folder"
    assert sorted(row.pixels for row in table.rows) == sorted(SIZES)
    assert {row.backbone for row in table.rows} == {f"any_resolution@{size}" for size in SIZES}
    assert {row.num_parameters for row in table.rows} == {1_776}


def test_each_resolution_is_seen_by_the_same_parameters_at_its_own_cost(eleven: Path) -> None:
    records = [stored.record for stored in store.read_all(eleven).records]
    macs = {record.backbone.pixels: record.cost["macs_per_view"] for record in records}

    assert len({record.weights.digest for record in records}) == 1
    # Output cells x kernel x channels in and out, by hand: both convolutions halve the sides.
    assert macs == {
        size: (size // 2) ** 2 * 25 * 3 * 8 + (size // 4) ** 2 * 9 * 8 * 16 for size in SIZES
    }


def test_the_printed_table_shows_every_size(eleven: Path) -> None:
    printed = rsbench(["table", str(eleven), "--format", "markdown"])

    for size in SIZES:
        assert f"any_resolution@{size}" in printed
        assert any(f"1x1x{size} " in line for line in printed.splitlines())


def test_kinds_of_task_never_share_a_table(
    tmp_path: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSBENCH_CACHE", str(session_cache))
    for kind in KINDS:
        run(kind, results=tmp_path)

    tables = build(store.read_all(tmp_path)).tables

    assert sorted(table.task for table in tables) == sorted(f"{kind.task}@sample" for kind in KINDS)
    (depth,) = [table for table in tables if table.task == "foggy_walls@sample"]
    assert not depth.columns[0].percent and not depth.columns[0].higher_is_better


def fingerprint(*targets: Any, kind: TargetKind = "boxes") -> str:
    items = tuple(
        Item(id=str(number), source=Path("unread.png"), target=target)
        for number, target in enumerate(targets)
    )
    task = replace(
        find_task(str(PLUGINS / "detection.py")).spec,
        target=kind,
        load=lambda root, name: Split(items=items, classes=("a", "b")),
    )
    return gather(task, Path(), limit=None, trains=False).fingerprint


LONG = np.arange(5000, dtype=np.float32)
CHANGED = np.where(LONG == 2500, -1, LONG).astype(np.float32)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, CHANGED),
        # NumPy prints neither the middle of a long array nor the last digits of a number.
        ((LONG, 1), (CHANGED, 1)),
        ({"boxes": LONG}, {"boxes": CHANGED}),
        ((np.float32(0.1),), (np.nextafter(np.float32(0.1), np.float32(1)),)),
        (np.zeros(4, np.float32), np.zeros(4, np.int32)),
        (np.zeros((2, 2)), np.zeros(4)),
        ((0, 1), (1, 0)),
        ("1", 1),
    ],
)
def test_targets_of_other_content_have_another_fingerprint(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one, other) != fingerprint(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, LONG.copy()),
        (LONG.reshape(50, 100).T, np.ascontiguousarray(LONG.reshape(50, 100).T)),
        ({"a": 1, "b": LONG}, {"b": LONG, "a": 1}),
        (frozenset({"left", "right"}), frozenset({"right", "left"})),
        (np.int64(3), 3),
    ],
)
def test_targets_of_equal_content_have_one_fingerprint(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(other)


def test_a_target_without_content_is_refused_with_its_type() -> None:
    with pytest.raises(DataError, match="it was a object"):
        fingerprint(object())


def test_a_target_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask\.png must be readable: No such file"):
        fingerprint(tmp_path / "mask.png")


@pytest.mark.parametrize("labels", [(2,), (-1,), 1, ("a",), (0, 1.5)])
def test_labels_outside_the_classes_are_refused_with_the_item(labels: Any) -> None:
    with pytest.raises(DataError, match=r"Item '1' .* class indices from 0 to 1"):
        fingerprint((0,), labels, kind="multilabel")


def test_a_plug_in_is_one_file_that_imports_no_other() -> None:
    own = {path.stem for path in PLUGINS.glob("*.py")}

    for path in PLUGINS.glob("*.py"):
        tree = ast.parse(path.read_text())
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {(node.module or "").split(".")[0] for node in froms}
        names |= {
            alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert names.isdisjoint({*own, "rsbench_tasks", "rsbench_backbones", "tests"})
        assert not any(node.level for node in froms)
