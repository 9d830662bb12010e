from __future__ import annotations

import csv
import io
import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import make_predictions, make_record, save_record, some_hits
from rsbench_tasks import kinetics400

from rsbench.errors import UnknownNameError
from rsbench.records import store
from rsbench.records.knowledge import shared_data_notes
from rsbench.records.predictions import to_parquet
from rsbench.stats import paired_difference, wilson
from rsbench.tables import Tables, build, readme, render
from rsbench.tables.latex import to_latex
from rsbench.tables.machine import to_csv, to_json
from rsbench.tables.markdown import to_markdown
from rsbench.tables.terminal import to_terminal

FLAT: dict[str, Any] = {"name": "resnet_rs_50", "modality": "image", "lifting": "frame_mean"}
LEARNED: dict[str, Any] = {
    "name": "k400",
    "digest": "f" * 64,
    "trained_on": ("imagenet1k", "kinetics400"),
    "init_seed": None,
    "verified": True,
}


def _tables(root: Path) -> Tables:
    contents = store.read_all(root)
    return build(contents)


def _printed(tables: Tables, width: int = 160) -> str:
    return to_terminal(tables, width=width, styled=False)


RENDERERS = {
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
    "terminal": _printed,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in range(3):
        save_record(tmp_path, some_hits(80 + 4 * seed, seed=seed), seed=seed)
        save_record(tmp_path, some_hits(40, seed=9 + seed), seed=seed, backbone=FLAT)
    return tmp_path


def test_a_table_is_a_pure_function_of_records(root: Path) -> None:
    save_record(root, some_hits(70), protocol={"sampler": "psf@1"})
    save_record(root, some_hits(70), weights=LEARNED, environment={"device": "cuda"})
    contents = store.read_all(root)
    expected = {
        name: draw(build(contents._replace(problems=("b", "a"))))
        for name, draw in RENDERERS.items()
    }
    for shuffle in range(5):
        records = list(contents.records)
        random.Random(shuffle).shuffle(records)
        again = build(store.Contents(tuple(records), ("a", "b")))
        assert {name: draw(again) for name, draw in RENDERERS.items()} == expected


def test_seeds_are_aggregated_and_none_is_chosen(root: Path) -> None:
    (table,) = _tables(root).tables
    first, second = table.rows
    assert (first.backbone, second.backbone) == ("resnet_rs_3d_50", "resnet_rs_50")
    assert first.seeds == (0, 1, 2)
    cell = first.cells[0]
    assert cell is not None
    # Second source: numpy over 80, 84 and 88 of 160.
    shares = np.array([80, 84, 88]) / 160
    assert cell.value == pytest.approx(shares.mean())
    assert cell.std == pytest.approx(shares.std(ddof=1))
    assert (cell.num_seeds, cell.n) == (3, 160)
    # By hand: to the ends of Wilson's intervals on average, and Student's t of 2 degrees of freedom
    # (4.3027, any printed table) times the standard error of 80, 84 and 88 of 160, in quadrature.
    low, high = np.mean([wilson(hits, 160) for hits in (80, 84, 88)], axis=0)
    over_seeds = 4.3027 * (4 / 160) / math.sqrt(3)
    assert cell.low == pytest.approx(0.525 - math.hypot(0.525 - low, over_seeds), abs=1e-5)
    assert cell.high == pytest.approx(0.525 + math.hypot(high - 0.525, over_seeds), abs=1e-5)
    assert "52.5 ± 2.5" in to_markdown(_tables(root))
    assert "3 seeds (0, 1, 2)" in to_markdown(_tables(root))
    assert "over seeds, which the intervals hold too" in to_markdown(_tables(root))


def test_one_seed_has_the_interval_of_its_record(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(40))
    (cell,) = _tables(tmp_path).tables[0].rows[0].cells
    assert cell is not None
    assert (cell.low, cell.high) == pytest.approx(wilson(40, 160))


def test_the_interval_of_a_share_over_seeds_stays_within_0_and_1(tmp_path: Path) -> None:
    # By hand: t of 1 degree of freedom is 12.7, times 0.125 / 2 is far beyond both ends.
    for seed, num_hits in ((0, 70), (1, 90)):
        save_record(tmp_path, some_hits(num_hits), seed=seed)
    (cell,) = _tables(tmp_path).tables[0].rows[0].cells
    assert cell is not None
    assert (cell.low, cell.high) == (0.0, 1.0)


def test_the_paired_difference_is_of_items_averaged_over_seeds(root: Path) -> None:
    (table,) = _tables(root).tables
    first = np.mean([some_hits(80 + 4 * seed, seed=seed) for seed in range(3)], axis=0)
    second = np.mean([some_hits(40, seed=9 + seed) for seed in range(3)], axis=0)
    assert table.rows[0].difference is None
    assert table.rows[1].difference == pytest.approx(paired_difference(second, first))


def test_items_are_paired_by_id_and_not_by_place(tmp_path: Path) -> None:
    hits = some_hits(80)
    save_record(tmp_path, hits)
    order = np.random.default_rng(3).permutation(160)
    ids = [f"clip_{row:04d}.mp4" for row in order]
    shuffled = [hits[row] for row in order]
    record = make_record(hits=hits, backbone=FLAT)
    content = make_predictions(shuffled, ids=ids)
    store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
    (table,) = _tables(tmp_path).tables
    assert table.rows[1].difference == (0.0, 0.0, 0.0)


def test_rows_of_other_items_are_not_paired(tmp_path: Path) -> None:
    hits = some_hits(80)
    save_record(tmp_path, hits)
    record = make_record(hits=hits, backbone=FLAT)
    content = make_predictions(hits, ids=[f"other {row}" for row in range(160)])
    store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
    (table,) = _tables(tmp_path).tables
    assert [row.difference for row in table.rows] == [None, None]
    assert any("other items" in warning for warning in table.warnings)


def test_predictions_of_another_length_are_named(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(90))
    record = make_record(hits=some_hits(80), backbone=FLAT)
    content = make_predictions(some_hits(80)[:-1])
    store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
    (table,) = _tables(tmp_path).tables
    assert any("must be of 160 items, were of 159" in warning for warning in table.warnings)
    assert len(table.rows) == 2


@pytest.mark.parametrize("how", ["gone", "changed"])
@pytest.mark.parametrize("backbone", ["resnet_rs_3d_50", "resnet_rs_50"])
def test_missing_or_changed_predictions_are_said_in_the_table(
    root: Path, how: str, backbone: str
) -> None:
    path = next(root.rglob(f"{backbone}-none-s1-*.parquet"))
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(make_predictions(some_hits(160)))
    (table,) = _tables(root).tables
    assert len(table.rows) == 2
    assert [row.difference for row in table.rows] == [None, None]
    assert [path.name in warning for warning in table.warnings] == [True]
    assert path.name in _printed(_tables(root), width=1000)


def test_a_single_rows_missing_predictions_are_said_too(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80)).with_suffix(".predictions.parquet").unlink()
    (table,) = _tables(tmp_path).tables
    assert len(table.warnings) == 1


def test_a_metric_without_per_item_scores_has_no_difference(tmp_path: Path) -> None:
    for backbone in ({}, FLAT):
        record = make_record(backbone=backbone)
        content = to_parquet(ids=["a"], targets=[0], predictions=[None])
        store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
    (table,) = _tables(tmp_path).tables
    assert [row.difference for row in table.rows] == [None, None]
    assert "difference" not in to_markdown(_tables(tmp_path))


def test_folds_count_alike_in_the_difference_where_they_do_in_the_metric(tmp_path: Path) -> None:
    # By hand: fold a has 1 item, fold b 3. Right: (a) against (none): the mean of folds is 0.5.
    folds, ids = ["a", "b", "b", "b"], ["1", "2", "3", "4"]
    for backbone, hits in (({}, [1.0, 0, 0, 0]), (FLAT, [0.0, 0, 0, 0])):
        record = make_record(backbone=backbone, hits=hits, data={"num_folds": 2})
        part = replace(record.metrics[0], value=float(hits[0] / 2))
        record = replace(record, metrics=(part,), ruler={**record.ruler, "averaging": "mean"})
        content = to_parquet(
            ids=ids,
            folds=folds,
            targets=[0] * 4,
            predictions=[None] * 4,
            item_scores={"top1": np.array(hits)},
        )
        store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
    (table,) = _tables(tmp_path).tables
    assert table.rows[1].difference is not None
    assert table.rows[1].difference.difference == pytest.approx(-0.5)


def test_unequal_rulers_never_share_a_table(root: Path) -> None:
    save_record(root, some_hits(70), protocol={"recipe": {"strengths": 45, "held_out": 0.1}})
    tables = _tables(root).tables
    assert len(tables) == 2
    for table in tables:
        names = {name for row in table.rows for name in row.records}
        records = [each.record for each in store.read_all(root).records if each.name in names]
        assert len({json.dumps(dict(record.ruler), sort_keys=True) for record in records}) == 1
    unlike = [table.unlike_first for table in tables]
    assert unlike[0] == ()
    assert [difference.field for difference in unlike[1]] == ["recipe.held_out"]
    assert "recipe.held_out: " in to_markdown(_tables(root))
    assert "recipe.held_out" in _printed(_tables(root))


def test_a_sample_never_shares_a_table_with_real_data(root: Path) -> None:
    save_record(root, some_hits(70), task={"name": "kinetics400", "sample": False})
    real, sample = _tables(root).tables
    assert (real.task, sample.task) == ("kinetics400", "kinetics400@sample")
    assert {difference.field for difference in sample.unlike_first} == {"task", "sample"}


def test_marks_stand_in_every_row(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(70), task={"limit": 160})
    save_record(tmp_path, some_hits(60), task={"limit": 160}, weights=LEARNED)
    save_record(
        tmp_path,
        some_hits(50),
        task={"limit": 160},
        weights={**LEARNED, "name": "mine", "verified": False},
    )
    (table,) = _tables(tmp_path).tables
    assert [row.marks for row in table.rows] == [
        ("random init", "sample", "limit 160"),
        ("sample", "limit 160"),
        ("unverified weights", "sample", "limit 160"),
    ]
    lines = [line for line in to_markdown(_tables(tmp_path)).splitlines() if "16x1x64" in line]
    assert [("sample, limit 160" in line) for line in lines] == [True] * 3


def test_weights_that_know_the_task_are_flagged(root: Path) -> None:
    save_record(root, some_hits(120), weights=LEARNED)
    (table,) = _tables(root).tables
    assert [row.knows_task for row in table.rows] == [True, False, False]
    assert "trained on imagenet1k, kinetics400 (knows this task)" in to_markdown(_tables(root))


def test_weights_that_know_its_data_through_a_larger_set_are_flagged(tmp_path: Path) -> None:
    """The validation set of Kinetics-400 is largely in the train set of Kinetics-700."""
    learned = {**LEARNED, "trained_on": ("kinetics700",)}
    notes = shared_data_notes(("kinetics700",), kinetics400.TASK.shares_data_with)
    save_record(tmp_path, some_hits(60), weights=learned, data={"notes": notes})
    # Another row of the same table, whose weights saw nothing of it.
    save_record(
        tmp_path,
        some_hits(50),
        weights={**learned, "trained_on": ("imagenet1k",), "name": "other"},
        data={"notes": notes},
    )

    (table,) = _tables(tmp_path).tables

    assert [row.knows_task for row in table.rows] == [True, False]
    drawn = to_markdown(_tables(tmp_path))
    assert "trained on kinetics700 (knows this task)" in drawn
    assert "weights that learned on kinetics700 know this task's data through it: most" in drawn


@pytest.mark.parametrize(
    ("parts", "caption"),
    [
        ({}, "untrained features: shows motion sensitivity, not quality"),
        ({"task": {"modality": "image"}}, "untrained features: not quality"),
        (
            {"protocol": {"name": "finetune", "trains_backbone": True}},
            "every network began with random weights: not the quality of a pretrained one",
        ),
        ({"weights": LEARNED}, ""),
    ],
)
def test_the_caption_says_what_random_weights_show(
    tmp_path: Path, parts: dict[str, Any], caption: str
) -> None:
    save_record(tmp_path, some_hits(80), **parts)
    (table,) = _tables(tmp_path).tables
    assert table.caption == caption
    for name in ("markdown", "latex", "json", "terminal"):
        assert caption in RENDERERS[name](_tables(tmp_path))


def test_counts_stand_beside_every_score(tmp_path: Path) -> None:
    save_record(
        tmp_path,
        some_hits(80),
        data={"num_official": 19907, "num_failed": 3, "num_evaluated": 157, "num_missing": 9},
    )
    text = to_markdown(_tables(tmp_path))
    assert "157 / 160 / 19907 [3 failed]" in text
    (line,) = list(csv.DictReader(io.StringIO(to_csv(_tables(tmp_path)))))
    assert [line[f"num_{name}"] for name in ("evaluated", "failed", "expected", "missing")] == [
        "157",
        "3",
        "160",
        "9",
    ]


def test_what_differs_among_machines_is_warned_of(root: Path) -> None:
    save_record(
        root, some_hits(70), weights=LEARNED, environment={"torch": "2.6.0", "device": "cpu"}
    )
    (table,) = _tables(root).tables
    assert table.warnings == ("torch differs among the runs: 2.11.0 (6), 2.6.0 (1).",)
    assert "torch differs" in to_markdown(_tables(root))


def test_other_outputs_under_the_same_weights_are_warned_of(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(70), weights=LEARNED, seed=0)
    changed = {"numeric_digest": "d" * 64}
    save_record(tmp_path, some_hits(71), weights=LEARNED, seed=1, backbone=changed)
    (table,) = _tables(tmp_path).tables
    assert len(table.rows) == 2
    assert any("other outputs" in warning for warning in table.warnings)


def test_a_copied_record_is_no_second_seed(root: Path) -> None:
    original = next(root.rglob("*.json"))
    copy = root / "runs" / "copy" / "of" / original.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(original.read_bytes())
    tables = _tables(root)
    assert [len(row.records) for row in tables.tables[0].rows] == [3, 3]
    assert len(tables.problems) == 1
    assert "is the same run as" in tables.problems[0]


def test_two_runs_of_one_seed_count_as_one_seed(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80), key="1" * 64)
    save_record(tmp_path, some_hits(84), key="2" * 64)
    save_record(tmp_path, some_hits(60), seed=1)
    (table,) = _tables(tmp_path).tables
    cell = table.rows[0].cells[0]
    assert cell is not None
    assert cell.value == pytest.approx((82 + 60) / 320)  # by hand: (82 + 60) / 2 of 160
    assert cell.num_seeds == 2
    assert any("ran 2 times under seed 0" in warning for warning in table.warnings)


def test_networks_that_differ_in_input_are_rows_of_their_own(tmp_path: Path) -> None:
    for change in ({}, {"pixels": 96}, {"frames": 8}, {"crop_ratio": 0.875}, {"mean": (0, 0.5)}):
        mean = {"mean": (0.0, 0.5)} if "mean" in change else {}
        backbone = {**change, **mean}
        save_record(tmp_path, some_hits(80), backbone=backbone, key=str(sorted(backbone.items())))
    (table,) = _tables(tmp_path).tables
    assert len(table.rows) == 5
    text = to_markdown(_tables(tmp_path))
    for shown in ("16x1x96", "8x1x64", "crop 0.875", "mean 0/0.5"):
        assert shown in text


def test_rows_say_whose_resize_it_was(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"resizer": "timm", "interpolation": "bicubic"},
        {"resizer": "tpu", "interpolation": "bicubic", "antialias": False},
        {"resizer": "model_garden", "antialias": False},
        {"resize_to": (128, 171), "antialias": False},
    ]
    for number, backbone in enumerate(changes):
        save_record(tmp_path, some_hits(80), backbone=backbone, key=str(number))

    (table,) = _tables(tmp_path).tables
    assert len(table.rows) == 5
    lines = to_markdown(_tables(tmp_path))
    for shown in (
        "| bilinear resize |",
        "| timm bicubic resize |",
        "| tpu bicubic resize, no antialias |",
        "| model_garden bilinear resize, no antialias |",
        "| bilinear resize to 128x171, no antialias |",
    ):
        assert shown in lines
    rows = list(csv.DictReader(io.StringIO(to_csv(_tables(tmp_path)))))
    assert {row["resizer"] for row in rows} == {"torchvision", "timm", "tpu", "model_garden"}
    assert sorted(row["resize_to"] for row in rows) == ["", "", "", "", "128x171"]


def _with_metric(root: Path, name: str, values: list[float], *, higher: bool) -> None:
    for number, value in enumerate(values):
        record = make_record(backbone={"name": f"net{number}"})
        part = replace(
            record.metrics[0],
            name=name,
            value=value,
            low=None,
            high=None,
            interval="",
            higher_is_better=higher,
        )
        content = make_predictions(some_hits(80))
        files = {store.PREDICTIONS_SUFFIX: content}
        store.write(root, replace(record, metrics=(part,)), files)


def test_an_error_is_not_shown_in_percent_and_the_lowest_is_first(tmp_path: Path) -> None:
    _with_metric(tmp_path, "rmse_metres", [0.9, 0.25], higher=False)
    (table,) = _tables(tmp_path).tables
    assert [row.backbone for row in table.rows] == ["net1", "net0"]
    text = to_markdown(_tables(tmp_path))
    assert "rmse_metres (lower is better)" in text
    assert "| 0.25 |" in text


def test_a_score_beyond_one_is_not_shown_in_percent(tmp_path: Path) -> None:
    _with_metric(tmp_path, "psnr_db", [31.25, 0.5], higher=True)
    assert "| 31.25 |" in to_markdown(_tables(tmp_path))


EVIL = "<script>|`*_$%&#{}\\ [a](http://b) \x1b[31m\u202e =1+1"


def test_names_from_records_are_text_everywhere(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80), backbone={"name": EVIL}, data={"notes": (EVIL,)})
    tables = _tables(tmp_path)
    for name, draw in RENDERERS.items():
        if name != "json":
            assert "\x1b" not in draw(tables), name
            assert "\u202e" not in draw(tables), name
    markdown = readme(store.read_all(tmp_path))
    assert "<script>" not in markdown
    assert "[a](" not in markdown
    row = next(line for line in markdown.splitlines() if "16x1x64" in line)
    header = next(line for line in markdown.splitlines() if line.startswith("| backbone"))
    assert row.replace("\\|", "").count("|") == header.count("|")
    latex = to_latex(tables)
    assert r"\textless{}script\textgreater{}" in latex
    assert r"\$\%\&\#\{\}\textbackslash{}" in latex
    assert json.loads(to_json(tables))["tables"][0]["rows"][0]["backbone"] == EVIL


def test_a_spreadsheet_runs_no_formula(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80), backbone={"name": "=HYPERLINK(1)"})
    (line,) = list(csv.DictReader(io.StringIO(to_csv(_tables(tmp_path)))))
    assert line["backbone"] == "'=HYPERLINK(1)"


def test_numbers_for_machines_are_exact(root: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(_tables(root)))))
    rows = json.loads(to_json(_tables(root)))["tables"][0]["rows"]
    assert float(lines[0]["value"]) == rows[0]["cells"][0]["value"] == pytest.approx(84 / 160)
    assert rows[0]["cells"][0]["metric"] == lines[0]["metric"] == "top1"
    assert float(lines[1]["difference"]) == rows[1]["difference"]["difference"] < 0
    assert lines[0]["difference"] == ""


def test_latex_has_as_many_cells_as_columns(root: Path) -> None:
    text = to_latex(_tables(root))
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.count(" & ") == len(columns) - 1


def test_a_narrow_terminal_loses_no_number_and_no_mark(root: Path) -> None:
    contents = store.read_all(root)
    records = []
    for stored in contents.records:
        part = stored.record.metrics[0]
        metrics = (part, replace(part, name="top5"))
        records.append(stored._replace(record=replace(stored.record, metrics=metrics)))
    text = _printed(build(contents._replace(records=tuple(records))), width=80)
    for whole in ("52.5 ± 2.5", "25.0 ± 0.0", "resnet_rs_3d_50", "random init,", "sample"):
        assert text.count(whole) >= 1
    assert text.count("[") == 5  # two intervals a row, and one of the difference
    assert text.count("160") == 6
    assert max(len(line) for line in text.splitlines()) <= 80


def test_problems_are_named_below_the_tables(root: Path) -> None:
    (root / "runs" / "bad.json").write_text("{")
    assert _tables(root).problems[0].startswith("runs/bad.json must be")
    for text in (to_markdown(_tables(root)), to_json(_tables(root)), readme(store.read_all(root))):
        assert "runs/bad.json must be" in text


def test_the_readme_is_stale_after_a_new_run_and_only_then(root: Path) -> None:
    text = readme(store.read_all(root))
    assert readme(store.read_all(root)) == text
    save_record(root, some_hits(80), seed=3)
    assert readme(store.read_all(root)) != text


def test_the_readmes_links_lead_to_records(root: Path) -> None:
    links = [
        line.split("](<")[1][:-2]
        for line in readme(store.read_all(root)).splitlines()
        if "](<" in line
    ]
    assert len(links) == 6
    assert all((root / link).is_file() for link in links)


def test_only_what_is_left_out_is_not_called_no_results(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(70), protocol={"selected_on_test": True})
    tables = _tables(tmp_path)
    assert tables.absence == "No results to show: all 1 records are left out."
    assert tables.absence in _printed(tables)
    assert tables.absence in to_markdown(tables)


def test_what_a_fit_says_of_itself_is_a_mark_and_a_note(tmp_path: Path) -> None:
    said = {"marks": ("6 of 10 shots",), "notes": ("all classes have fewer than 10 shots",)}
    save_record(tmp_path, some_hits(70), protocol=said)
    [table] = _tables(tmp_path).tables
    [row] = table.rows
    assert row.fit_marks == ("6 of 10 shots",)
    assert row.marks[-1] == "6 of 10 shots"
    assert f"{row.backbone}: all classes have fewer than 10 shots" in table.notes


def test_the_sampler_of_clips_is_no_heading_of_images(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(70), task={"name": "images", "modality": "image"})
    save_record(tmp_path, some_hits(70))
    images, clips = to_markdown(_tables(tmp_path)).split("## ")[1:3]
    assert "(1 x 1 views)" in images.splitlines()[0]
    assert "(mmaction2@1, 1 x 1 views)" in clips.splitlines()[0]


def test_no_records_make_no_table(tmp_path: Path) -> None:
    tables = _tables(tmp_path)
    assert tables == Tables(tables=(), problems=(), absence="No results yet.")
    assert "No results yet" in to_markdown(tables)
    assert "No results yet" in _printed(tables)


def test_drawing_a_table_imports_nothing_slow(root: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from rsbench.records.store import read_all;"
        "from rsbench.tables import readme;"
        "print(len(readme(read_all(Path(sys.argv[1])))));"
        "print([name for name in ('torch', 'scipy', 'sklearn', 'av', 'torchvision', 'mmengine')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "[]"


def test_every_form_is_rendered_and_no_other(root: Path) -> None:
    for name, draw in RENDERERS.items():
        if name != "terminal":
            assert render(_tables(root), name) == draw(_tables(root))
    assert "52.5 ± 2.5" in render(_tables(root), "terminal")
    with pytest.raises(UnknownNameError, match="there are terminal, markdown"):
        render(_tables(root), "html")


def test_only_a_styled_terminal_gets_escape_codes(root: Path) -> None:
    assert "\x1b" not in to_terminal(_tables(root), width=100, styled=False)
    assert "\x1b[1m" in to_terminal(_tables(root), width=100, styled=True)


@pytest.mark.parametrize(
    ("order", "told"), [("matched by name", False), ("unverified: the head has no names", True)]
)
def test_a_head_without_class_names_is_told(tmp_path: Path, order: str, told: bool) -> None:
    save_record(tmp_path, some_hits(80), protocol={"chosen": {"fold1.class_order": order}})
    (table,) = _tables(tmp_path).tables
    assert any("head's classes is taken on trust" in note for note in table.notes) is told


@pytest.mark.parametrize(("converged", "told"), [(True, False), (False, True)])
def test_a_fit_that_stopped_early_is_told(tmp_path: Path, converged: bool, told: bool) -> None:
    chosen = {"strength": 0.5, "fold1.converged": converged}
    save_record(tmp_path, some_hits(80), protocol={"chosen": chosen})
    (table,) = _tables(tmp_path).tables
    assert any("stopped before it converged" in note for note in table.notes) is told


def test_the_largest_gap_of_the_fits_that_stopped_early_is_told(tmp_path: Path) -> None:
    chosen = {
        "split1.converged": False,
        "split1.relative_gap": 2.4e-05,
        "split2.converged": False,
        "split2.relative_gap": 3.6e-04,
        "split3.converged": True,
        "split3.relative_gap": 0.5,
    }
    save_record(tmp_path, some_hits(80), protocol={"chosen": chosen})
    (table,) = _tables(tmp_path).tables
    assert table.notes == (
        "resnet_rs_3d_50: a fit stopped before it converged (relative gap 4e-04)",
    )


def test_a_fit_of_which_nothing_is_proven_is_told_so(tmp_path: Path) -> None:
    chosen = {"converged": False, "relative_gap": 1e150}
    save_record(tmp_path, some_hits(80), protocol={"chosen": chosen})
    (table,) = _tables(tmp_path).tables
    assert table.notes == ("resnet_rs_3d_50: a fit stopped before it converged (no gap proven)",)


@pytest.mark.parametrize(
    ("ends", "note"),
    [
        (("rounding", "rounding"), "a fit ended where rounding leaves no proof that it converged"),
        (("rounding", "iterations"), "a fit stopped before it converged"),
    ],
)
def test_fits_that_rounding_ended_are_told_from_those_that_ran_out(
    tmp_path: Path, ends: tuple[str, str], note: str
) -> None:
    chosen = {f"split{place}.ended": end for place, end in enumerate(ends, 1)}
    chosen |= {"split1.converged": False, "split2.converged": False}
    chosen |= {"split1.relative_gap": 2e-6, "split2.relative_gap": 1e-6}
    save_record(tmp_path, some_hits(80), protocol={"chosen": chosen})
    (table,) = _tables(tmp_path).tables
    assert table.notes == (f"resnet_rs_3d_50: {note} (relative gap 2e-06)",)


@pytest.mark.parametrize(("num_constant", "told"), [(2047, False), (2048, True)])
def test_features_that_are_all_constant_are_told(
    tmp_path: Path, num_constant: int, told: bool
) -> None:
    chosen = {"num_constant_features": num_constant}
    save_record(tmp_path, some_hits(80), protocol={"chosen": chosen})
    (table,) = _tables(tmp_path).tables
    assert any("no feature tells any training item" in note for note in table.notes) is told


def test_official_splits_are_shown_one_by_one_beside_their_mean(tmp_path: Path) -> None:
    # protocols.md 5.6: "report the unweighted mean of three top-1 and each value".
    for seed, folds in ((0, (0.5, 0.25, 0.75)), (1, (0.6, 0.35, 0.85))):
        record = make_record(
            hits=some_hits(80), seed=seed, task={"name": "ucf101", "split": "test1+test2+test3"}
        )
        part = replace(record.metrics[0], value=sum(folds) / 3, folds=folds)
        predictions = make_predictions(some_hits(80))
        store.write(
            tmp_path, replace(record, metrics=(part,)), {store.PREDICTIONS_SUFFIX: predictions}
        )

    tables = _tables(tmp_path)
    (cell,) = tables.tables[0].rows[0].cells
    (line,) = list(csv.DictReader(io.StringIO(to_csv(tables))))

    assert cell is not None
    assert cell.folds == pytest.approx((0.55, 0.3, 0.8))
    assert cell.value == pytest.approx(0.55)
    assert [float(value) for value in line["folds"].split()] == pytest.approx([0.55, 0.3, 0.8])
    for text in (to_markdown(tables), _printed(tables)):
        assert "(55.0 / 30.0 / 80.0)" in text
        assert "in parentheses: test1 / test2 / test3, of which it is the mean" in text


def test_weights_that_learned_in_one_split_know_the_task(tmp_path: Path) -> None:
    weights = {**LEARNED, "trained_on": ("kinetics400", "ucf101:split1")}
    save_record(tmp_path, some_hits(70), weights=weights, task={"name": "ucf101"})

    assert "trained on kinetics400, ucf101:split1 (knows this task)" in to_markdown(
        _tables(tmp_path)
    )
