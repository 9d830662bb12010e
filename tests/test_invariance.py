"""What must not move a score does not, what must be told apart is, and a finished run is known.

Runs of tiny networks on small data, whole: batch and workers, reuse, seeds, limits, folds, groups,
and a finished run's head applied to its own items again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered_world import LABELS_OF_TEST, LENGTHS, Done, read_done, request_of, write_world

from rsbench import cli, runner
from rsbench.cells import RunRequest
from rsbench.errors import RecordError
from rsbench.media.barcode import barcode_frames
from rsbench.media.image import write_image
from rsbench.media.video import write_video
from rsbench.predicting import predict_files
from rsbench.records import store
from rsbench.records.ruler import ruler_digest
from rsbench.runner import Finished
from rsbench.tables import build

READABLE = [name for name in LABELS_OF_TEST if name in LENGTHS]

NETWORK = """
import torch
from torch import nn
from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=48, frames=4, stride=2)


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, stride=2), nn.BatchNorm3d(8), nn.ReLU(),
        nn.AdaptiveAvgPool3d((1, 4, 4)), nn.Flatten(), nn.Linear(128, 3),
    )
"""
"""A network with a head of its own, as a user's file has it."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("numbered"))


@pytest.fixture(scope="module")
def own_network(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A user's file and weights for it, its batch norm having seen something."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(NETWORK)
    scope: dict[str, Any] = {}
    exec(NETWORK, scope)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = scope["build"]()
        network(torch.randn(8, 3, 4, 48, 48) * 2 + 0.5)
        network[5].weight.data *= 5
    torch.save(network.state_dict(), folder / "best.pth")
    return {"backbone": f"{folder / 'net.py'}:build", "weights": str(folder / "best.pth")}


Asked = Mapping[str, Any]


@pytest.fixture(params=["probe of clips", "probe of pictures", "own head"])
def asked(request: pytest.FixtureRequest, own_network: Mapping[str, str]) -> Asked:
    """Three ways to a score: both kinds of network under the probe, and a head that is there."""
    # Strengths at which the scores of untrained features still differ from item to item.
    strengths = {"strength_min": "0.001", "strength_max": "1.0"}
    ways: dict[str, Asked] = {
        "probe of clips": {
            **{"backbone": "tiny_3d", "frames": 4, "stride": 2},
            "overrides": strengths,
        },
        "probe of pictures": {"backbone": "tiny_2d", "overrides": strengths},
        "own head": {**own_network, "protocol": "evaluate"},
    }
    return {"pixels": 48, "batch_size": 16, **ways[request.param]}


def run(data: Path, folder: Path, **changes: Any) -> Done:
    return read_done(runner.run(request_of(data, folder, **changes)))


def scores(done: Done) -> np.ndarray:
    """Give (N, K) in the order of `READABLE`."""
    return np.stack([done.by_id[name] for name in READABLE])


# ----------------------------------------------------------------------- batch size and workers


@pytest.fixture(scope="module")
def plain() -> dict[str, Done]:
    """Runs at batch 16 without workers, by backbone."""
    return {}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batch_size_and_workers_move_no_label_and_no_score(
    data: Path,
    tmp_path: Path,
    plain: dict[str, Done],
    asked: Asked,
    batch_size: int,
    num_workers: int,
) -> None:
    if asked["backbone"] not in plain:
        plain[asked["backbone"]] = run(data, tmp_path / "plain", **asked)
    expected = plain[asked["backbone"]]

    found = run(
        data,
        tmp_path / "cold",
        **{**asked, "batch_size": batch_size, "num_workers": num_workers},
    )

    assert found.table.ids == expected.table.ids
    assert found.record.metrics == expected.record.metrics
    np.testing.assert_array_equal(scores(found).argmax(axis=1), scores(expected).argmax(axis=1))
    np.testing.assert_allclose(scores(found), scores(expected), atol=1e-4)
    assert np.ptp(scores(found), axis=0).max() > 0.05, "scores that are all alike show nothing"


# ------------------------------------------------------------------------------------- reuse


def finish(data: Path, folder: Path, **changes: Any) -> Finished:
    given = {"backbone": "tiny_2d", "pixels": 48, "batch_size": 16}
    return runner.run(request_of(data, folder, **{**given, **changes}))


@pytest.fixture
def first(data: Path, tmp_path: Path) -> Finished:
    return finish(data, tmp_path)


def test_a_finished_run_is_not_run_again(data: Path, tmp_path: Path, first: Finished) -> None:
    stages: list[str] = []

    second = finish(data, tmp_path, progress=lambda stage, done, total: stages.append(stage))

    assert not first.reused
    assert second.reused
    assert (second.path, second.record) == (first.path, first.record)
    assert {*stages} <= {"check media"}, "nothing is read but for its digest"


@pytest.mark.parametrize(
    "machine", [{"batch_size": 5}, {"num_workers": 1}], ids=["batch", "workers"]
)
def test_what_must_not_move_a_score_does_not_make_another_run(
    data: Path, tmp_path: Path, first: Finished, machine: dict[str, Any]
) -> None:
    assert finish(data, tmp_path, **machine).path == first.path


def test_again_runs_again_and_replaces_its_record(
    data: Path, tmp_path: Path, first: Finished
) -> None:
    again = finish(data, tmp_path, again=True)

    assert not again.reused
    assert again.path == first.path
    assert again.record.files == first.record.files
    assert len(store.read_all(tmp_path / "results").records) == 1


def test_one_other_video_is_another_run_and_a_copy_is_not(
    data: Path, tmp_path: Path, first: Finished
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(data, copied)

    same = finish(copied, tmp_path)
    os.utime(copied / READABLE[0])
    touched = finish(copied, tmp_path)
    write_video(copied / READABLE[0], np.tile(barcode_frames(13, 48, 48), (1, 1, 3, 1)), fps=30)
    other = finish(copied, tmp_path)

    assert same.reused and touched.reused
    assert not other.reused
    assert other.record.key != first.record.key
    assert other.record.ruler == first.record.ruler, "ids and labels are what they were"
    assert len(store.read_all(tmp_path / "results").records) == 2


@pytest.mark.parametrize(
    ("changes", "same_ruler"),
    [
        ({"overrides": {"held_out": "0.3"}}, False),
        ({"seed": 1}, True),
        ({"pixels": 40}, True),
        ({"frames": 2}, True),
        ({"limit": 6}, False),
    ],
    ids=["recipe", "seed", "pixels", "frames", "limit"],
)
def test_what_moves_a_score_makes_another_record(
    data: Path, tmp_path: Path, first: Finished, changes: dict[str, Any], same_ruler: bool
) -> None:
    other = finish(data, tmp_path, **changes)

    assert not other.reused
    assert other.path != first.path
    assert (ruler_digest(other.record.ruler) == ruler_digest(first.record.ruler)) == same_ruler
    assert finish(data, tmp_path).reused, "the first record is still there"


def test_a_run_whose_predictions_are_gone_is_not_finished(
    data: Path, tmp_path: Path, first: Finished
) -> None:
    first.path.with_suffix(".predictions.parquet").unlink()

    mended = finish(data, tmp_path)

    assert not mended.reused
    assert mended.record.files == first.record.files


# ------------------------------------------------------------------------------------- seeds


def rsbench(*words: str) -> list[dict[str, Any]]:
    """Run a command in this process and give the JSON objects that it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            cli.main(words)
        except SystemExit as end:
            assert not end.code, errors.getvalue()
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def test_every_seed_is_a_record_and_all_are_one_row(data: Path, tmp_path: Path) -> None:
    asked = request_of(data, tmp_path)

    cells = rsbench(
        *("run", "--task", asked.task, "--data", str(data), "--backbone", "tiny_2d"),
        *("--seeds", "0,1,2", "--set", "strengths=3", "--pixels", "48", "--device", "cpu"),
        *("--results", str(asked.results), "--json"),
    )

    assert [cell["seed"] for cell in cells] == [0, 1, 2]
    contents = store.read_all(asked.results)
    assert len({each.record.weights.digest for each in contents.records}) == 3
    ((row,),) = [table.rows for table in build(contents).tables]
    values = [cell["metrics"]["top1"]["value"] for cell in cells]
    # Mean and standard deviation over seeds (of n - 1), drawn from the three records.
    assert row.cells[0].value == pytest.approx(np.mean(values))
    assert row.cells[0].std == pytest.approx(np.std(values, ddof=1))


# ----------------------------------------------------------------------------------- predict


def test_the_head_of_a_run_gives_its_own_items_their_scores_again(
    data: Path, tmp_path: Path, asked: Asked
) -> None:
    done = run(data, tmp_path, **asked)

    answer = predict_files(
        done.path,
        [data / name for name in [*READABLE, "test/damaged.mp4"]],
        cache_root=tmp_path / "elsewhere",
        backbone=asked["backbone"] if ":" in asked["backbone"] else None,
        weights=asked.get("weights"),
        batch_size=5,
    )

    assert answer.classes == ("short", "middling", "long")
    np.testing.assert_allclose(np.stack(answer.values[:-1]), scores(done), atol=1e-5)
    assert answer.values[-1] is None
    assert [failure.id for failure in answer.failures] == ["8:damaged.mp4"]


def test_a_network_whose_code_has_changed_is_not_taken_for_the_recorded_one(
    data: Path, tmp_path: Path, own_network: Mapping[str, str]
) -> None:
    done = run(data, tmp_path, **own_network, protocol="evaluate")
    (tmp_path / "net.py").write_text(NETWORK.replace("nn.ReLU()", "nn.GELU()"))

    with pytest.raises(RecordError, match="gave other outputs under the same weights"):
        predict_files(
            done.path,
            [data / READABLE[0]],
            cache_root=tmp_path / "cache",
            backbone=f"{tmp_path / 'net.py'}:build",
            weights=own_network["weights"],
        )


def test_predict_prints_the_recorded_scores(data: Path, tmp_path: Path) -> None:
    done = run(data, tmp_path, backbone="tiny_2d", pixels=48)
    files = [str(data / name) for name in READABLE]

    printed = rsbench("predict", str(done.path), *files, "--json", "--device", "cpu")

    assert [each["file"] for each in printed] == files
    found = np.array([list(each["scores"].values()) for each in printed])
    np.testing.assert_allclose(found, scores(done), atol=1e-5)


def test_a_fine_tuned_network_gives_its_own_items_their_scores_again(
    data: Path, tmp_path: Path
) -> None:
    done = run(
        data,
        tmp_path,
        backbone="tiny_2d",
        protocol="finetune",
        pixels=48,
        overrides={"epochs": "2", "batch_size": "6"},
    )

    answer = predict_files(
        done.path, [data / name for name in READABLE], cache_root=tmp_path / "elsewhere"
    )

    np.testing.assert_allclose(np.stack(answer.values), scores(done), atol=1e-5)


# ------------------------------------------------------------------------------------- limit


def test_a_limit_is_stratified_seeded_and_its_own_ruler(data: Path, tmp_path: Path) -> None:
    full = finish(data, tmp_path)
    six, eight, other_seed = (
        read_done(finish(data, tmp_path, limit=limit, seed=seed))
        for limit, seed in ((6, 0), (8, 0), (6, 1))
    )

    assert six.record.data.num_expected == six.record.metrics[0].n == 6
    assert six.record.data.num_train == 6
    assert six.record.data.num_official == full.record.data.num_official == 9
    # Of four short, three middling and two long videos, six are three, two and one.
    assert Counter(LABELS_OF_TEST[name] for name in six.table.ids) == {0: 3, 1: 2, 2: 1}
    assert {*six.table.ids} < {*eight.table.ids} < {*LABELS_OF_TEST}
    assert six.table.ids == other_seed.table.ids
    rulers = {ruler_digest(each.record.ruler) for each in (full, six, eight, other_seed)}
    assert len(rulers) == 3
    tables = build(store.read_all(tmp_path / "results")).tables
    assert len(tables) == 3
    marks = [row.marks for table in tables for row in table.rows]
    limits = sorted(mark for row in marks for mark in row if "limit" in mark)
    assert limits == ["limit 6", "limit 8"]


# ----------------------------------------------------------------------------------- own data


def write_own_pictures(root: Path, *, num_per_class: int = 8) -> dict[str, tuple[str, str]]:
    """Write noisy pictures of two colours in class folders: id -> class and group."""
    random = np.random.default_rng(0)
    written = {}
    for index, name in enumerate(("green tea", "red_wine")):
        (root / name).mkdir(parents=True)
        for number in range(num_per_class):
            pixels = random.normal(110, 30, (24, 28, 3))
            pixels[..., 1 - index] += 30
            path = root / name / f"{number}.png"
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
            written[f"{name}/{number}.png"] = (name, f"visit {number % 7}")
    return written


def run_own(task: str, data: Path, folder: Path) -> Finished:
    return runner.run(
        RunRequest(
            task=task,
            backbone="tiny_2d",
            protocol="linear_probe",
            data=data,
            results=folder / "results",
            cache_root=folder / "cache",
            overrides={"strengths": "3"},
        )
    )


def rows_of_split(finished: Finished) -> list[dict[str, str]]:
    kept = store.read_file(store.Stored(finished.path, finished.record), store.SPLIT_SUFFIX)
    return list(csv.DictReader(io.StringIO(kept.decode())))


def test_five_folds_of_own_data_test_every_item_once_and_are_pooled(tmp_path: Path) -> None:
    written = write_own_pictures(tmp_path / "data")

    finished = run_own("folder", tmp_path / "data", tmp_path)

    record = finished.record
    table = store.read_predictions(finished.path)
    assert sorted(table.ids) == sorted(written)
    assert (record.data.num_folds, record.data.num_expected, record.metrics[0].n) == (5, 16, 16)
    assert dict(zip(table.ids, table.targets, strict=True)) == {
        name: ["green tea", "red_wine"].index(label) for name, (label, _) in written.items()
    }
    hits = [
        int(value.argmax()) == target
        for value, target in zip(table.predictions, table.targets, strict=True)
    ]
    assert record.metrics[0].value == np.mean(hits)
    assert record.metrics[0].folds == ()
    assert {row["id"]: row["fold"] for row in rows_of_split(finished)} == dict(
        zip(table.ids, table.folds, strict=True)
    )
    assert any("without groups" in note for note in record.data.notes)


def test_each_item_is_scored_by_the_head_of_its_own_fold(tmp_path: Path) -> None:
    write_own_pictures(tmp_path / "data")
    finished = run_own("folder", tmp_path / "data", tmp_path)
    table = store.read_predictions(finished.path)

    for fold in sorted(set(table.folds)):
        rows = [row for row, name in enumerate(table.folds) if name == fold]
        answer = predict_files(
            finished.path,
            [tmp_path / "data" / table.ids[row] for row in rows],
            cache_root=tmp_path / "elsewhere",
            fold=fold,
        )
        recorded = np.stack([table.predictions[row] for row in rows])
        np.testing.assert_allclose(np.stack(answer.values), recorded, atol=1e-5)


def write_list(path: Path, written: Mapping[str, Sequence[str]], *, header: str) -> None:
    lines = [header, *(",".join([name, *values]) for name, values in written.items())]
    path.write_text("\n".join(lines) + "\n")


def test_groups_of_a_list_are_never_on_both_sides(tmp_path: Path) -> None:
    written = write_own_pictures(tmp_path / "data")
    write_list(tmp_path / "data" / "list.csv", written, header="path,label,group")

    finished = run_own("csv", tmp_path / "data" / "list.csv", tmp_path)

    folds_of: dict[str, set[str]] = {}
    for row in rows_of_split(finished):
        assert row["role"] == "test"
        folds_of.setdefault(written[row["id"]][1], set()).add(row["fold"])
    assert len(folds_of) == 7
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert not any("without groups" in note for note in finished.record.data.notes)
    assert finished.record.data.num_expected == 16


def test_a_list_with_a_split_is_obeyed(tmp_path: Path) -> None:
    written = write_own_pictures(tmp_path / "data")
    splits = {
        name: (label, "test" if int(name[-5]) < 3 else "train")
        for name, (label, _) in written.items()
    }
    write_list(tmp_path / "data" / "list.csv", splits, header="path,label,split")

    finished = run_own("csv", tmp_path / "data" / "list.csv", tmp_path)

    table = store.read_predictions(finished.path)
    assert sorted(table.ids) == sorted(
        name for name, (_, split) in splits.items() if split == "test"
    )
    assert finished.record.data.num_train == 10
    assert finished.record.data.split_sha256 is None
