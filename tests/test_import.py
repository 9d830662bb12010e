"""Other tools' results become foreign rows; a pickle is read as data, whatever it asks for.

Second sources: torch, numpy and mmengine write what is read here; scikit-learn computes the metrics
again; lines of timm's own table.
"""

from __future__ import annotations

import collections
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import rsbench
from mmengine.evaluator import DumpResults
from mmengine.structures import BaseDataElement, LabelData
from records_factory import save_record, some_hits
from sklearn.metrics import top_k_accuracy_score

from rsbench.errors import DataError, RsbenchError
from rsbench.importing import Claims, import_mmaction, import_timm, read_mmaction, read_timm
from rsbench.importing.pickles import Element, read_plain
from rsbench.metrics import TOP1, TOP5
from rsbench.records import foreign
from rsbench.registry import find_backbone, find_task

# github.com/huggingface/pytorch-image-models, results/results-imagenet.csv
TIMM = """\
model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation
eva02_large_patch14_448.mim_m38m_ft_in22k_in1k,90.052,9.948,99.048,0.952,305.08,448,1.000,bicubic
eva_giant_patch14_560.m30m_ft_in22k_in1k,89.786,10.214,98.992,1.008,"1,014.45",560,1.000,bicubic
volo_d5_512.sail_in1k,87.058,12.942,97.970,2.030,296.09,512,1.150,bicubic
resnetrs50.tf_in1k,79.934,20.066,94.964,5.036,35.69,224,0.910,bicubic
"""


# --------------------------------------------------------------------------- timm


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def timm_rows(path: Path, **changes: Any) -> tuple[foreign.ForeignRow, ...]:
    said = {"task": "imagenet1k", "split": "validation", "source": "results.csv", **changes}
    return read_timm(path, **said)


def test_a_line_of_timm_s_is_two_rows_with_its_conditions(tmp_path: Path) -> None:
    rows = timm_rows(write(tmp_path / "results.csv", TIMM))

    top1, top5 = rows[2:4]
    assert len(rows) == 8
    assert (top1.model, top1.metric, top1.value, top1.decimals) == (
        "eva_giant_patch14_560.m30m_ft_in22k_in1k",
        "top1",
        0.89786,
        3,
    )
    assert (top5.metric, top5.value) == ("top5", 0.98992)
    assert (top1.backbone, top1.weights) == ("timm/eva_giant_patch14_560", "m30m_ft_in22k_in1k")
    assert (top1.n, top1.pixels, top1.clips, top1.crops) == (50_000, 560, 1, 1)
    assert top1.conditions == {"resizer": "timm", "interpolation": "bicubic", "crop_ratio": 1.0}


def test_weights_that_rsbench_has_are_called_as_it_calls_them(tmp_path: Path) -> None:
    path = write(tmp_path / "results.csv", TIMM)

    row = timm_rows(path, backbones=[find_backbone("resnet_rs_50").spec])[-1]

    assert (row.backbone, row.weights) == ("resnet_rs_50", "resnetrs50.tf_in1k")
    assert timm_rows(path)[-1].backbone == "timm/resnetrs50"


def test_tables_of_before_tags_are_read(tmp_path: Path) -> None:
    # results/results-imagenet.csv of 2021: "cropt_pct", and models without a tag.
    text = (
        "model,top1,top1_err,top5,top5_err,param_count,img_size,cropt_pct,interpolation\n"
        "resnetrs50,79.892,20.108,94.968,5.032,35.69,224,0.91,bicubic\n"
    )

    row = timm_rows(write(tmp_path / "results.csv", text))[0]

    assert (row.backbone, row.weights) == ("timm/resnetrs50", None)
    assert row.conditions["crop_ratio"] == 0.91


def test_scores_by_other_labels_are_not_imagenet_s(tmp_path: Path) -> None:
    # results/results-imagenet-real.csv
    text = (
        "model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation,top1_diff,"
        "top5_diff,rank_diff\n"
        "volo_d5_512.sail_in1k,90.614,9.386,98.698,1.302,296.09,512,1.150,bicubic,+3.556,+0.728,+48\n"
    )

    with pytest.raises(DataError, match="must be of imagenet1k, and is of another set"):
        timm_rows(write(tmp_path / "results-imagenet-real.csv", text))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model,top1,", "model,top2,", "'top1' is missing"),
        ("87.058", "870.58", "line 4: top1 must be a number from 0 to 100, was '870.58'"),
        ("87.058", "nan", "line 4: top1 must be a number"),
        # As many digits as a number says would be printed again.
        ("87.058", "1E-999999", "line 4: top1 must be a number"),
        ("87.058", "8_7.0", "line 4: top1 must be a number"),
        ("1.150", "-1", "line 4: crop_pct must be a ratio such as 0.875, was '-1'"),
        ("97.970", "", "line 4: top5 must be a number"),
        (",512,", ",512.5,", "img_size must be a whole number"),
        (",1.150,bicubic", "", "line 4: it must have 9 cells"),
        (",1.150,bicubic", ",1.150,bicubic,1", "line 4: it must have 9 cells"),
        (
            "volo_d5_512.sail_in1k,87.058,12.942,97.970,2.030,296.09,512,1.150",
            "eva_giant_patch14_560.m30m_ft_in22k_in1k,87.058,12.942,97.970,2.030,296.09,560,1.150",
            "line 4: eva_giant_patch14_560.m30m_ft_in22k_in1k at 560 must stand once",
        ),
    ],
)
def test_a_table_that_is_broken_is_named_with_the_line(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert old in TIMM
    path = write(tmp_path / "results.csv", TIMM.replace(old, new, 1))

    with pytest.raises(DataError, match=r"^results\.csv") as raised:
        timm_rows(path)

    assert said in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"model\n"])
def test_what_is_no_table_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"^results\.csv must be a table of timm's results"):
        timm_rows(path)


def test_importing_timm_twice_keeps_it_once(tmp_path: Path) -> None:
    path = write(tmp_path / "results-imagenet.csv", TIMM)
    words = ("import", path, "--from", "timm", "--task", "imagenet1k", "--results", tmp_path / "r")

    first, second = rsbench(*words), rsbench(*words)
    stored = foreign.read_all(tmp_path / "r")

    assert (first.code, second.code) == (0, 0)
    assert "is kept: measured by timm, not here" in first.out
    assert "was imported already" in second.out
    assert len(stored.files) == 1
    assert len(stored.rows) == 8
    # Found by the address of our own weights.
    assert stored.rows[-1].backbone == "resnet_rs_50"
    assert str(tmp_path) not in stored.files[0].path.read_text()


def test_an_imported_number_stands_beside_what_was_measured_here(tmp_path: Path) -> None:
    path = write(tmp_path / "results-imagenet.csv", TIMM)
    rsbench("import", path, "--from", "timm", "--task", "imagenet1k", "--results", tmp_path / "r")
    save_record(
        tmp_path / "r",
        some_hits(788, num_items=1000),
        task={"name": "imagenet1k", "modality": "image", "split": "validation", "sample": False},
        backbone={
            **{"name": "resnet_rs_50", "modality": "image", "pixels": 224, "crop_ratio": 0.91},
            **{"interpolation": "bicubic", "resizer": "timm"},
        },
        weights={
            **{"name": "resnetrs50.tf_in1k", "init_seed": None, "digest": "f" * 64},
            "verified": True,
        },
        protocol={"name": "evaluate", "recipe": {}, "trains": False},
        data={"num_official": 50_000},
    )

    words = ("compare", tmp_path / "r", "--published", "--format", "json")
    pairs = json.loads(rsbench(*words).out)["published"]["pairs"]

    # All agrees but that 49,000 pictures are missing; the weights' own score is at 160 pixels.
    assert pairs[0]["foreign"]["value"] == 0.79934
    assert pairs[0]["reasons"] == ["1,000 of 50,000 official items are here"]
    assert pairs[0]["difference"]["difference"] == pytest.approx(0.788 - 0.79934)
    assert pairs[1]["foreign"]["value"] == 0.77858
    assert pairs[1]["reasons"][:1] == ["pixels: 224 here, 160 there"]


def test_import_timm_says_which_file_it_read(tmp_path: Path) -> None:
    path = write(tmp_path / "results-imagenet.csv", TIMM)

    stored = import_timm(path, tmp_path / "r", task="imagenet1k", split="validation")
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout

    assert stored.file.source == f"results-imagenet.csv (sha256 {digest[:8]})"
    assert {row.source for row in stored.file.rows} == {stored.file.source}


# --------------------------------------------------------------------------- mmaction2

NUM_VIDEOS, NUM_CLASSES = 40, 8
SCORES_NK = np.random.default_rng(0).dirichlet(np.ones(NUM_CLASSES), NUM_VIDEOS).astype(np.float32)
LABELS = [place % NUM_CLASSES for place in range(NUM_VIDEOS)]
NAMES = [f"v_{place:03d}_000010_000020" for place in range(NUM_VIDEOS)]


def write_list(folder: Path, labels: Sequence[int] = LABELS) -> Path:
    """What ann_file names: paths below data_prefix, with the index of the class."""
    lines = [f"class {place % 3}/{NAMES[place]}.mp4 {labels[place]}" for place in range(NUM_VIDEOS)]
    return write(folder / "val_list.txt", "\n".join(lines) + "\n")


def scores_of(place: int) -> torch.Tensor:
    return torch.from_numpy(SCORES_NK[place])


def entry_of_1_1(place: int) -> dict[str, Any]:
    """ActionDataSample.to_dict() of 1.1 on; batches are cut up, so memory is shared."""
    batch = torch.from_numpy(SCORES_NK)
    return {
        "num_classes": NUM_CLASSES,
        "img_shape": (256, 256),
        "pred_score": batch[place],
        "pred_label": batch[place].argmax(0, keepdim=True),
        "gt_label": torch.LongTensor([LABELS[place]]),
    }


def entry_of_1_0(place: int) -> dict[str, Any]:
    return {
        "pred_scores": {"item": scores_of(place)},
        "gt_labels": {"item": torch.LongTensor([LABELS[place]])},
    }


def entry_as_element(place: int) -> BaseDataElement:
    """What a dump of elements holds, by mmengine's own classes."""
    return BaseDataElement(
        pred_scores=LabelData(item=scores_of(place)),
        gt_labels=LabelData(item=torch.LongTensor([LABELS[place]])),
    )


def entry_of_0_x(place: int) -> np.ndarray:
    return SCORES_NK[place]


def dump(folder: Path, entry: Callable[[int], Any] = entry_of_1_1) -> Path:
    """Let mmengine itself write a dump, as tools/test.py --dump does."""
    path = folder / "out.pkl"
    metric = DumpResults(str(path))
    metric.process(None, [entry(place) for place in range(NUM_VIDEOS)])
    metric.evaluate(NUM_VIDEOS)
    return path


@pytest.mark.parametrize(
    "entry", [entry_of_1_1, entry_of_1_0, entry_as_element, entry_of_0_x], ids=lambda e: e.__name__
)
def test_dumps_of_all_versions_give_scikit_learn_s_metrics(
    entry: Callable[[int], Any], tmp_path: Path
) -> None:
    read = read_mmaction(dump(tmp_path, entry), write_list(tmp_path), metrics=[TOP1, TOP5])

    values = {metric.name: score.value for metric, score in read.metrics}
    classes = list(range(NUM_CLASSES))
    for name, k in (("top1", 1), ("top5", 5)):
        expected = top_k_accuracy_score(LABELS, SCORES_NK, k=k, labels=classes)
        assert values[name] == pytest.approx(expected, abs=1e-12)
    assert read.ids == tuple(NAMES)
    assert np.array_equal(np.stack(read.scores), SCORES_NK)
    assert read.targets == tuple(LABELS)
    assert bool(read.notes) is (entry is entry_of_0_x)  # which has no labels


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_other_precisions_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    path = dump(tmp_path, lambda place: {"pred_score": scores_of(place).to(dtype)})

    read = read_mmaction(path, write_list(tmp_path), metrics=[TOP1])

    expected = torch.from_numpy(SCORES_NK).to(dtype).to(torch.float32).numpy()
    assert np.array_equal(np.stack(read.scores), expected)


def test_a_list_in_another_order_is_found_by_its_labels(tmp_path: Path) -> None:
    turned = write_list(tmp_path, LABELS[::-1])

    with pytest.raises(
        DataError, match=r"out\.pkl, entry 0 must be of val_list\.txt, line 1, whose"
    ):
        read_mmaction(dump(tmp_path), turned, metrics=[TOP1])


def test_a_list_of_frames_is_read_and_videos_are_named_by_their_folders(tmp_path: Path) -> None:
    lines = [f"val/{NAMES[place]} 120 {LABELS[place]}" for place in range(NUM_VIDEOS)]
    path = write(tmp_path / "frames.txt", "\n".join(lines) + "\n")

    read = read_mmaction(dump(tmp_path), path, metrics=[TOP1])
    by_path = read_mmaction(dump(tmp_path), path, metrics=[TOP1], ids="path")

    assert read.ids == tuple(NAMES)
    assert by_path.ids == tuple(f"val/{name}" for name in NAMES)


def test_two_videos_of_one_name_are_refused_and_told_apart_by_their_paths(tmp_path: Path) -> None:
    lines = [f"{place}/clip.mp4 {LABELS[place]}" for place in range(NUM_VIDEOS)]
    path = write(tmp_path / "val_list.txt", "\n".join(lines) + "\n")

    with pytest.raises(DataError, match=r"'clip' is that of val_list\.txt, line 1 too; --ids path"):
        read_mmaction(dump(tmp_path), path, metrics=[TOP1])
    assert read_mmaction(dump(tmp_path), path, metrics=[TOP1], ids="path").ids[3] == "3/clip"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (lambda place: {"pred": 1}, "must have class scores (pred_score), has none"),
        (lambda place: {"pred_score": "high"}, "must have class scores (pred_score), has a str"),
        (lambda place: {"pred_score": torch.zeros(10, 8)}, "has an array of the shape (10, 8)"),
        (lambda place: {"pred_score": torch.full((8,), torch.nan)}, "must have finite scores"),
        (lambda place: {"pred_score": torch.zeros(8 + place)}, "entry 1 must have 8 scores"),
        (lambda place: {"pred_score": torch.zeros(4)}, "a label must be from 0 to 3"),
        (
            lambda place: {**entry_of_1_1(place), "gt_label": torch.tensor([1, 2])},
            "must have the index of one class as label, has 2 values",
        ),
    ],
)
def test_an_entry_that_is_not_as_it_must_be_is_named(
    entry: Callable[[int], Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as raised:
        read_mmaction(dump(tmp_path, entry), write_list(tmp_path), metrics=[TOP1])

    assert said in str(raised.value)


def test_one_array_for_all_videos_is_not_copied_for_each(tmp_path: Path) -> None:
    path = tmp_path / "out.pkl"
    path.write_bytes(pickle.dumps([np.zeros(100_000, np.float16)] * NUM_VIDEOS))

    with pytest.raises(DataError, match="must hold scores for each of its 40 videos, holds fewer"):
        read_mmaction(path, write_list(tmp_path), metrics=[TOP1])


def test_a_label_of_lists_in_lists_is_named_and_never_shown(tmp_path: Path) -> None:
    # 2 to the 60 lists, were they shown.
    label: list[Any] = []
    for _ in range(60):
        label = [label, label]
    entry = {"pred_score": scores_of(0), "gt_label": [label]}
    path = tmp_path / "out.pkl"
    path.write_bytes(pickle.dumps([{"pred_score": scores_of(0), "gt_label": [0]}, entry]))

    with pytest.raises(DataError, match="entry 1 must have the index of one class as label, has a"):
        read_mmaction(path, write(tmp_path / "list.txt", "a.mp4 0\nb.mp4 1\n"), metrics=[TOP1])


def test_a_dump_and_a_list_of_other_lengths_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "short.txt", "a.mp4 0\nb.mp4 1\n")

    with pytest.raises(DataError, match="must be of the same videos, but have 40 and 2"):
        read_mmaction(dump(tmp_path), path, metrics=[TOP1])


@pytest.mark.parametrize("content", [{}, [], "text", None])
def test_a_pickle_of_something_else_is_named(content: object, tmp_path: Path) -> None:
    path = tmp_path / "out.pkl"
    path.write_bytes(pickle.dumps(content))

    with pytest.raises(DataError, match=r"out\.pkl must hold a list with an entry a video"):
        read_mmaction(path, write_list(tmp_path), metrics=[TOP1])


def kept(folder: Path, **changes: Any) -> foreign.ForeignStored:
    said: dict[str, Any] = {
        "task": find_task("kinetics400").spec,
        "split": "validation",
        "protocol": "evaluate",
        "claims": Claims(model="slowonly_r50"),
        **changes,
    }
    return import_mmaction(dump(folder), write_list(folder), folder / "results", **said)


def test_a_dump_is_kept_with_each_video_s_part(tmp_path: Path) -> None:
    stored = kept(tmp_path)

    scores = foreign.read_scores(stored, "top1")
    table = foreign.read_predictions(stored)
    assert scores is not None
    assert table is not None
    hits = [float(SCORES_NK[place].argmax() == LABELS[place]) for place in range(NUM_VIDEOS)]
    assert scores.scores.tolist() == hits
    assert table.ids == tuple(NAMES)
    assert [row.metric for row in stored.file.rows] == ["top1", "top5"]
    assert stored.file.rows[0].value == pytest.approx(sum(hits) / NUM_VIDEOS)
    assert stored.file.rows[0].n == NUM_VIDEOS
    assert (stored.file.rows[0].backbone, stored.file.rows[0].clips) == (None, None)


def test_what_was_reported_must_be_what_is_computed(tmp_path: Path) -> None:
    percent = 100 * kept(tmp_path).file.rows[0].value

    kept(tmp_path, reported={"top1": round(percent, 1)})
    with pytest.raises(RsbenchError, match="must be the reported"):
        kept(tmp_path, reported={"top1": percent + 0.2})
    with pytest.raises(RsbenchError, match="No metric 'top2'"):
        kept(tmp_path, reported={"top2": percent})


def test_tasks_of_several_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RsbenchError, match="one class an item, and charades has"):
        kept(tmp_path, task=find_task("charades").spec)


def test_the_command_keeps_what_the_user_says_of_a_dump(tmp_path: Path) -> None:
    spec = find_backbone("pytorchvideo/slow_r50").spec
    answer = rsbench(
        *("import", dump(tmp_path), "--from", "mmaction2", "--task", "kinetics400"),
        *("--list", write_list(tmp_path), "--results", tmp_path / "results", "--json"),
        *("--backbone", spec.name, "--weights", spec.weights[0].name, "--input", "8x8x256"),
        *("--views", "10x3", "--sampler", "mmaction2"),
    )

    row = json.loads(answer.out)["rows"][0]
    assert answer.code == 0
    assert (row["model"], row["backbone"]) == ("out", "pytorchvideo/slow_r50")
    assert (row["frames"], row["stride"], row["pixels"]) == (8, 8, 256)
    assert (row["clips"], row["crops"]) == (10, 3)
    assert row["conditions"] == {"sampler": "mmaction2@1"}
    page = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
    block = page.split("\n## import\n", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    assert json.loads(answer.out).keys() == json.loads(block).keys()
    assert row.keys() == json.loads(block)["rows"][0].keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "mmaction2"), "needs --list"),
        (("--from", "timm", "--views", "1x1"), "--views is for --from mmaction2"),
        (("--from", "timm", "--protocol", "knn"), "--protocol is for --from mmaction2"),
        (("--from", "timm", "--ids", "path"), "--ids is for --from mmaction2"),
        (
            ("--from", "mmaction2", "--list", "LIST", "--split", "val"),
            "kinetics400 reports validation, not 'val'",
        ),
        (
            ("--from", "mmaction2", "--list", "LIST", "--input", "8x8"),
            "must be FRAMESxSTRIDExPIXELS",
        ),
        (("--from", "mmaction2", "--list", "LIST", "--weights", "w"), "--weights needs --backbone"),
        (("--from", "mmaction2", "--list", "LIST"), "No task"),
        (
            (
                *("--from", "mmaction2", "--list", "LIST", "--backbone", "resnet_rs_50"),
                *("--weights", "tpu.i16"),
            ),
            "Did you mean tpu.i160",
        ),
        (
            ("--from", "mmaction2", "--list", "LIST", "--reported", "top1"),
            "--reported must give each metric once",
        ),
    ],
)
def test_words_that_do_not_fit_are_refused_in_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    path = write_list(tmp_path)
    task = "kinetics40" if said == "No task" else "kinetics400"

    answer = rsbench(
        *("import", dump(tmp_path), "--task", task, "--results", tmp_path / "results"),
        *(str(path) if word == "LIST" else word for word in words),
    )

    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


# --------------------------------------------------------------------------- pickles


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_back_as_it_was(protocol: int) -> None:
    shared = [1, 2]
    generator = np.random.default_rng(0)
    plain = {
        "numbers": [0, 1, -5, 255, 65_536, 10**30, 2.5, True, False, None],
        "text": ["", "x", "\u20ac \U0001f600", b"", b"ab\xff"],
        "nested": (1, (2, (3, ())), [[]], {}),
        "shared": [shared, shared],
        "set": {1, "x"},
        7: "a key that is a number",
    }
    arrays = {
        "c": generator.normal(size=(2, 3, 4)),
        "fortran": np.asfortranarray(generator.normal(size=(3, 4))),
        "big": np.arange(6, dtype=">i2").reshape(2, 3),
        "empty": np.empty((0, 3), np.float32),
        "scalar array": np.array(3.5),
        "bool": np.array([True, False]),
        "half": generator.normal(size=3).astype(np.float16),
    }

    read = read_plain(pickle.dumps({**plain, **arrays}, protocol=protocol), where="x")

    assert {key: read[key] for key in plain} == plain
    for name, array in arrays.items():
        assert np.array_equal(read[name], array)
        assert read[name].shape == array.shape
    assert read_plain(pickle.dumps(np.float32(1.5), protocol=protocol), where="x") == 1.5
    ordered = collections.OrderedDict(b=1, a=2)
    assert read_plain(pickle.dumps(ordered, protocol=protocol), where="x") == {"b": 1, "a": 2}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).reshape(3, 4),
        torch.arange(12).reshape(3, 4).T,
        torch.arange(12)[3:9:2],
        torch.tensor(1.5),
        torch.empty(0, 3),
        torch.tensor([True, False]),
        torch.arange(4, dtype=torch.uint8),
        torch.randn(5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16),
    ],
    ids=str,
)
def test_tensors_come_back_as_torch_has_them(tensor: torch.Tensor, protocol: int) -> None:
    read = read_plain(pickle.dumps(tensor, protocol=protocol), where="x")

    whole = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    assert np.array_equal(read, whole.numpy())
    assert read.shape == tuple(tensor.shape)


def test_elements_are_their_state_and_nothing_of_them_runs() -> None:
    element = BaseDataElement(a=1, metainfo={"b": "x"})

    read = read_plain(pickle.dumps(element, protocol=2), where="x")

    assert isinstance(read, Element)
    assert read.kind == "mmengine.structures.base_data_element.BaseDataElement"
    assert (read.state["a"], read.state["b"]) == (1, "x")


class Caller:
    """Pickles as a call of anything."""

    def __init__(self, *called: Any) -> None:
        self.called = called

    def __reduce__(self) -> Any:
        return self.called


def tensor_of(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Caller:
    """A tensor of four numbers that says of itself what it likes."""
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.arange(4.0).untyped_storage(), dtype=torch.float32, _internal=True
    )
    return Caller(torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, {}))


HOSTILE = {
    "a command": Caller(os.system, ("touch ran",)),
    "code": Caller(eval, ("open('ran', 'w')",)),
    "an attribute": Caller(getattr, ("x", "upper")),
    "a set of tuples": {(1, 2)},
    "a frozen set": frozenset({1}),
    "a path": Path("x"),
    "a complex number": 1j,
    "an object array": np.array([{}], dtype=object),
    "a record array": np.zeros(2, dtype=[("a", "i4")]),
    "dates": np.array(["2020-01-01"], dtype="M8[D]"),
    "text in an array": np.array(["x"]),
    "a random generator": np.random.default_rng(0),
    "a network": torch.nn.Linear(1, 1),
    "a tensor beyond its memory": tensor_of(0, (5,), (1,)),
    "a tensor far beyond it": tensor_of(0, (2,), (2**60,)),
    "a tensor before it": tensor_of(-2, (2,), (1,)),
    "a tensor that goes back": tensor_of(3, (2,), (-1,)),
    "a tensor of one number again and again": tensor_of(0, (2**40,), (0,)),
    "a tensor of many dimensions": tensor_of(0, (1,) * 40, (1,) * 40),
    "a tensor of no memory": Caller(
        torch._utils._rebuild_tensor_v2, ([1.0], 0, (1,), (1,), False, {})
    ),
    "bytes in another encoding": Caller(__import__("_codecs").encode, ("aa", "hex")),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_is_no_plain_data_is_refused(
    what: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps([HOSTILE[what]], protocol=protocol)

    with pytest.raises(DataError, match=r"^out\.pkl must be a pickle of lists") as raised:
        read_plain(content, where="out.pkl")

    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def _short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


TYPE_F4 = b"cnumpy\ndtype\n(" + _short("f4") + b"\x89\x88tR"
_DEEP = 20_000


def _ladder(num_rungs: int) -> bytes:
    """A tuple that holds the one before twice: 2 to the rungs when it is shown or compared."""
    rungs = b"".join(b"h%ch%c\x86q%c0" % (rung, rung, rung + 1) for rung in range(num_rungs))
    return b"]q\x000" + rungs + b"h%c" % num_rungs


def _bytes_of(content: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content


def _storage_of(key: bytes, keys: bytes) -> bytes:
    """A tensor's memory of one number in an old torch file, under a key and in a list of keys."""
    parts = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {})]
    kind = b"X\x07\0\0\0storagectorch\nFloatStorage\n"
    parts += [b"\x80\x02(" + kind + key + b"X\x03\0\0\0cpuK\x01NtQ.", b"\x80\x02" + keys + b"."]
    whole = b"".join(parts) + struct.pack("<qf", 1, 0.5)
    return b"\x80\x02ctorch.storage\n_load_from_bytes\n" + _bytes_of(whole) + b"\x85R."


_HUGE = b"\x8b" + struct.pack("<i", 2_000_000) + b"\x7f" * 2_000_000
BENT = {
    "cut short": pickle.dumps([np.arange(3.0)])[:-20],
    "nothing": b"",
    "no pickle": b"PK\x03\x04 a zip file",
    "a name that is asked for outside": b"\x80\x02Px\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a key that is a list": b"\x80\x02}]N s.".replace(b" ", b""),
    # Python would hash it without looking how deep it goes, and die.
    "a key that is very deep": b"\x80\x02}N" + b"\x85" * _DEEP + b"Ns.",
    "a type that is very deep": b"\x80\x02cnumpy\ndtype\n(N" + b"\x85" * _DEEP + b"\x89\x88tR.",
    "a shape that is very deep": b"\x80\x02cnumpy._core.multiarray\nscalar\n("
    + TYPE_F4
    + b"N"
    + b"\x85" * _DEEP
    + b"tR.",
    "a type of lists in lists": b"\x80\x02cnumpy\ndtype\n(" + _ladder(60) + b"\x89\x88tR.",
    "a shape of millions of digits": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01("
    + _HUGE
    + b"q\x05"
    + b"h\x05" * 7
    + b"t"
    + TYPE_F4
    + b"\x89C\x00tb.",
    "keys of lists in lists": _storage_of(_ladder(60), b"](" + _ladder(60) + b"e"),
    "a memory within a memory": b"\x80\x02ctorch.storage\n_load_from_bytes\n"
    + _bytes_of(_storage_of(b"X\x01\0\0\0a", b"](X\x01\0\0\0ae"))
    + b"\x85R.",
    "an end without a beginning": b"\x80\x02]Ne.",
    "a memory that was never written": b"\x80\x02h\x05.",
    "an append to a dict": b"\x80\x02}Na.",
    "an entry of a list": b"\x80\x02]NNs.",
    "an instance of a stranger": b"\x80\x02cos\nPathLike\n)\x81.",
    "a change to a list": b"\x80\x02]}b.",
    "a change to a name": b"\x80\x02cos\nenviron\n}b.",
    "a call of a text": b"\x80\x02" + _short("x") + b")R.",
    "bytes of a length beyond the file": b"\x80\x05\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a bytearray of a length beyond the file": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"x.",
    "a number that is very long": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
}


@pytest.mark.parametrize("what", BENT)
def test_a_bent_pickle_is_refused_and_kills_nothing(what: str) -> None:
    refusals: list[str] = []

    def read() -> None:
        try:
            read_plain(BENT[what], where="out.pkl")
        except DataError as refusal:
            refusals.append(str(refusal))

    # On a stack so small that what is as deep as this would exhaust it, and end Python.
    former = threading.stack_size(256 * 1024)
    try:
        reader = threading.Thread(target=read)
        reader.start()
    finally:
        threading.stack_size(former)
    reader.join()

    assert len(refusals) == 1
    assert refusals[0].startswith("out.pkl must be a pickle of lists")


def test_the_same_bytes_are_not_made_into_something_again_and_again() -> None:
    # A text of 1 MB, then 200 times: give its bytes. 200 MB of a file of 1 MB.
    text = "x" * 1_000_000
    once = b"X" + struct.pack("<I", len(text)) + text.encode() + b"q\x00"
    again = b"c_codecs\nencode\n(h\x00" + _short("latin1") + b"tR"
    content = b"\x80\x02(" + once + again * 200 + b"l."

    with pytest.raises(DataError, match="made to exhaust the memory"):
        read_plain(content.replace(b"l.", b"t."), where="out.pkl")


_NUMBERS = b"".join(b"J" + struct.pack("<i", 70_000 + place) for place in range(5000))
_PAIRS = b"".join(b"J" + struct.pack("<i", 70_000 + place) + b"N" for place in range(5000))


@pytest.mark.parametrize(
    ("once", "again"),
    [
        (b"](" + _NUMBERS + b"eq\x00cbuiltins\nset\nq\x01", b"h\x01h\x00\x85R"),
        (b"](" + _NUMBERS + b"eq\x00ctorch\nSize\nq\x01", b"h\x01h\x00\x85R"),
        (b"}(" + _PAIRS + b"uq\x00cmmengine.structures\nX\nq\x01", b"h\x01)\x81h\x00b"),
        (b"]q\x00q\x01", b"\x8f"),
    ],
    ids=["sets", "sizes", "states of elements", "empty sets"],
)
def test_a_few_bytes_do_not_make_the_same_again_and_again(once: bytes, again: bytes) -> None:
    content = b"\x80\x04(" + once + again * 5000 + b"t."

    with pytest.raises(DataError, match="made to exhaust the memory"):
        read_plain(content, where="out.pkl")


def test_a_name_in_a_refusal_can_not_rewrite_a_terminal() -> None:
    content = b"\x80\x04" + _short("os\x1b[2J\n") + _short("x") + b"\x93)R."

    with pytest.raises(DataError, match="it calls os") as raised:
        read_plain(content, where="out.pkl")

    assert str(raised.value).isprintable()


def test_any_byte_of_a_dump_may_be_another_and_it_is_read_or_refused(tmp_path: Path) -> None:
    content = bytearray(
        pickle.dumps([entry_of_1_1(0), np.arange(6.0).reshape(2, 3), entry_as_element(1)], 2)
    )
    generator = np.random.default_rng(0)

    num_refused = 0
    for _ in range(1000):
        bent = bytearray(content)
        for place in generator.integers(0, len(bent), generator.integers(1, 4)):
            bent[place] = generator.integers(0, 256)
        try:
            read_plain(bytes(bent), where="out.pkl")
        except DataError:
            num_refused += 1

    assert 100 < num_refused < 1000


def test_reading_a_dump_imports_neither_torch_nor_what_it_names(tmp_path: Path) -> None:
    path = dump(tmp_path)
    program = (
        "import sys; from pathlib import Path; from rsbench.importing.pickles import read_plain\n"
        f"read_plain(Path({str(path)!r}).read_bytes(), where='x')\n"
        "print(sorted({'torch', 'mmengine', 'pickle'} & sys.modules.keys()))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    # pickletools imports pickle; nobody else is there.
    assert done.stdout in ("['pickle']\n", "[]\n")
    assert "REDUCE" in {opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes())}
