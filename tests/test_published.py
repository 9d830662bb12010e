"""Published tables become rows that say whose number it is, of what, under which conditions.

Second sources: the tables of the ResNet-RS paper and of the publishers' pages, by hand below; what
the weights of the registry carry, which was written down apart.
"""

from __future__ import annotations

import csv
import shutil
import tomllib
from pathlib import Path

import pytest

from rsbench.errors import DataError
from rsbench.published import joined, published_of, read_published
from rsbench.records.foreign import ForeignRow
from rsbench.registry import find_backbone, find_protocol, find_task

RESULTS = Path(__file__).parents[1] / "results"
ROWS = read_published(RESULTS)


def found(**wanted: object) -> list[ForeignRow]:
    return [
        row for row in ROWS if all(getattr(row, name) == value for name, value in wanted.items())
    ]


# ------------------------------------------------------------------------- the tables that we have


def test_a_published_checkpoint_is_a_row_with_its_conditions() -> None:
    # github.com/tensorflow/tpu, models/official/resnet/resnet_rs/README.md: 152 at 192 has 82.0.
    (row,) = found(backbone="resnet_rs_152", weights="tpu.i192", metric="top1")

    assert (row.value, row.decimals, row.n) == (0.82, 1, 50_000)
    assert (row.task, row.split, row.protocol) == ("imagenet1k", "validation", "evaluate")
    assert (row.pixels, row.clips, row.crops, row.frames) == (192, 1, 1, None)
    assert row.conditions == {"resizer": "tpu", "interpolation": "bicubic", "antialias": False}
    assert "tensorflow/tpu" in row.source


def test_the_model_garden_s_numbers_are_of_its_own_network() -> None:
    # MODEL_GARDEN.md: ResNet-RS-50 at 160 has 79.1 and 94.5, by another network than Google's TPUs.
    rows = found(backbone="resnet_rs_garden_50", weights="garden.i160")

    assert {row.metric: row.value for row in rows} == {"top1": 0.791, "top5": 0.945}
    assert not found(backbone="resnet_rs_50", tool="model_garden")


def test_a_3d_network_is_of_a_training_from_random_weights() -> None:
    # MODEL_GARDEN.md and k400_resnet3drs_50_tpu.yaml: 78.2, 32 frames x 2, 10 x 3 views of 256.
    (row,) = found(backbone="resnet_rs_3d_50", metric="top1", task="kinetics400")

    assert (row.value, row.weights, row.protocol) == (0.782, "none", "train_rs_k400")
    assert (row.frames, row.stride, row.pixels, row.clips, row.crops) == (32, 2, 256, 10, 3)
    assert row.n == 17_706


def test_what_nobody_says_of_a_row_is_absent_and_not_guessed() -> None:
    rows = found(backbone="resnet_rs_3d_200", metric="top1", task="kinetics400")

    # MODEL_GARDEN.md: 80.4 with 32 frames, 81.0 with 48.
    assert {row.frames: row.value for row in rows} == {32: 0.804, 48: 0.81}
    for row in rows:
        assert (row.pixels, row.clips, row.crops, row.n) == (None, None, None, None)
        assert row.notes


def test_a_set_that_was_tuned_on_is_another_split() -> None:
    # Paper, table 2: held-out training images, six rows at two weight decays.
    rows = found(split="minival")

    assert len(rows) == 12
    assert {row.value for row in rows if row.model.startswith("ResNet-200, RA-LS-SD-DO")} == {
        0.853,
        0.855,
    }


def test_every_score_of_the_tables_is_a_row_and_nothing_else_is() -> None:
    cells = 0
    for path in (RESULTS / "reference").glob("*.toml"):
        about = tomllib.loads(path.read_text(encoding="utf-8"))
        with path.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                units = {name: column.get("unit") for name, column in about["columns"].items()}
                cells += sum(units[name] == "percent" and text != "" for name, text in line.items())

    assert len(ROWS) == cells
    assert (
        len({(row.source, row.model, row.metric, row.pixels, row.frames, row.task) for row in ROWS})
        == cells
    )


def test_names_in_the_tables_are_names_of_rsbench() -> None:
    for row in ROWS:
        task = find_task(row.task).spec
        assert row.metric in [metric.name for metric in task.metrics]
        if row.backbone is not None:
            known = [weights.name for weights in find_backbone(row.backbone).spec.weights]
            assert row.weights in (*known, "none")
        if row.protocol != "training from scratch":
            find_protocol(row.protocol)


def test_weights_carry_what_the_tables_have() -> None:
    networks = sorted({row.backbone for row in ROWS if row.backbone is not None})
    carried = {
        (row.backbone, row.weights, row.metric): row
        for row in published_of(find_backbone(name).spec for name in networks)
    }

    for row in ROWS:
        of_weights = carried.get((row.backbone, row.weights, row.metric))
        if of_weights is not None and of_weights.pixels == row.pixels:
            assert of_weights.value == row.value
            for name, value in row.conditions.items():
                assert of_weights.conditions[name] == value


# ------------------------------------------------------------------------- what weights carry


def test_weights_of_a_video_network_say_their_views() -> None:
    # pytorchvideo's model zoo: X3D-M, 16x5, 75.94 and 92.72, 10 x 3 views of 256 pixels.
    rows = {row.metric: row for row in published_of([find_backbone("pytorchvideo/x3d_m").spec])}

    top1 = rows["top1"]
    assert (top1.value, top1.decimals, rows["top5"].value) == (0.7594, 2, 0.9272)
    assert (top1.frames, top1.stride, top1.clips, top1.crops) == (16, 5, 10, 3)
    assert top1.conditions["sampler"] == find_backbone("pytorchvideo/x3d_m").spec.weights[0].sampler


def test_weights_of_a_sibling_are_the_sibling_s() -> None:
    rows = published_of([find_backbone("resnet_rs_50").spec])

    assert {row.weights for row in rows} == {"resnetrs50.tf_in1k", "tpu.i160", "keras.i160"}


def test_a_number_that_was_written_down_twice_stands_once() -> None:
    carried = published_of([find_backbone("resnet_rs_50").spec])
    both = joined(ROWS, carried)

    assert [(row.source, row.value) for row in both] == [(row.source, row.value) for row in ROWS]
    assert joined((), carried) == carried


def test_a_number_that_was_written_down_twice_has_the_conditions_of_both() -> None:
    (row,) = found(weights="resnetrs50.tf_in1k", pixels=160)
    (whole,) = (
        each
        for each in joined([row], published_of([find_backbone("resnet_rs_50").spec]))
        if (each.weights, each.metric, each.pixels) == ("resnetrs50.tf_in1k", "top1", 160)
    )

    # The table says neither; timm/models/resnet.py: crop_pct=0.91, and PIL's filters widen.
    assert "crop_ratio" not in row.conditions
    assert whole.conditions == {**row.conditions, "crop_ratio": 0.91, "antialias": True}
    assert (whole.source, whole.n) == (row.source, 50_000)


# ------------------------------------------------------------------------- broken tables


def edited(tmp_path: Path, old: str, new: str, *, name: str = "kinetics_model_garden.toml") -> Path:
    """Give a results folder with one of the tables, in which something was replaced."""
    folder = tmp_path / "reference"
    folder.mkdir()
    for path in (RESULTS / "reference").glob(f"{Path(name).stem}.*"):
        shutil.copy(path, folder)
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('tool = "model_garden"', 'tools = "model_garden"', "no 'tools'"),
        ('split = "validation"\n', "", "must say their 'split'"),
        ('task = "kinetics400"\n', "", "must say their 'task'"),
        ("[[scores]]", "[scores]", "is not"),
        ('"{frames}"', '"{frame}"', "must name columns in braces: model, frames, stride"),
        ('"{frames}"', '"{frames!r}"', "must name columns in braces"),
        ('"{frames}"', '"{frames.__class__}"', "must name columns in braces"),
        ('"{frames}"', '"{frames"', "must name columns in braces"),
        ("pixels = 256", 'pixels = "many"', "must give whole numbers, and gives 'many'"),
        ("pixels = 256", "pixels = 0", "must be text"),
        ('"{frames}"', '"99999999999{frames}"', "must give whole numbers"),
        ('tool = "model_garden"', 'tool = ""', "must say their 'tool', one leaves it empty"),
        ('= "top1"', "= 1", "'metrics' of its scores must be a table of plain"),
        ('{ sampler = "model_garden@1" }', "{ sampler = [1] }", "'conditions' of its scores must"),
        ('"resnet_rs_3d_50"', "50", "'backbones' of its scores must be a table of plain"),
        ('rows = ["R3D-50"]', "rows = [50]", "'rows' of its scores must be a list of texts"),
        ("{ kinetics400_top1 =", "{ kinetics401_top1 =", "'kinetics401_top1' must name one of"),
        ('notes = ["nothing', 'rows = "R3D"\nnotes = ["nothing', "is not"),
    ],
)
def test_a_table_that_is_none_is_named_with_what_is_wrong(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"^kinetics_model_garden\.toml") as raised:
        read_published(edited(tmp_path, old, new))

    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("score", ["782", "-1", "NaN", "78,2", "much", "1E-999999", "100.1"])
def test_a_score_that_is_no_percentage_is_named(score: str, tmp_path: Path) -> None:
    root = edited(tmp_path, ",78.2,", f',"{score}",', name="kinetics_model_garden.csv")

    with pytest.raises(DataError, match="must be percentages, one is"):
        read_published(root)


@pytest.mark.parametrize("line", ["\nR3D-RS-50,32", "\nR3D-RS-50,32,2,1,1,1,1,1"])
def test_a_line_of_other_cells_than_the_header_is_named(line: str, tmp_path: Path) -> None:
    root = edited(tmp_path, "\nR3D-RS-50", f"{line}\nR3D-RS-50", name="kinetics_model_garden.csv")

    with pytest.raises(DataError, match="a line of the CSV has other cells than its header"):
        read_published(root)


def test_a_csv_that_is_missing_is_named(tmp_path: Path) -> None:
    root = edited(tmp_path, "title", "title")
    (root / "reference" / "kinetics_model_garden.csv").unlink()

    with pytest.raises(DataError, match="with a CSV of the same name beside it"):
        read_published(root)


def test_a_folder_without_tables_has_no_rows(tmp_path: Path) -> None:
    assert read_published(tmp_path) == ()
