"""Measured rows beside foreign ones: compared where conditions agree, else with the reasons.

Second sources: scipy's Wilson interval and paired bootstrap; differences by hand.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from command_line import rsbench
from records_factory import make_predictions, save_record, some_hits

from rsbench.others import besides_of
from rsbench.published import published_of, read_published
from rsbench.records import foreign, store
from rsbench.records.foreign import ForeignFile, ForeignRow
from rsbench.registry import find_backbone
from rsbench.tables import build
from rsbench.tables.beside import Beside, Besides, against
from rsbench.tables.beside_layout import (
    beside_csv,
    beside_json,
    conditions_in_words,
    lay_out_beside,
    lay_out_foreign,
    verdict_in_words,
)
from rsbench.tables.markdown import layout_to_markdown
from rsbench.tables.terminal import layout_to_terminal

HITS = some_hits(788, num_items=1000)
IDS = [f"clip_{place:04d}.mp4" for place in range(1000)]
"""As the factory of records names them."""

ROW = ForeignRow(
    source="github.com/someone/zoo",
    tool="zoo",
    model="R3D-50",
    backbone="resnet_rs_3d_50",
    weights="zoo.k400",
    task="kinetics400",
    split="validation",
    protocol="evaluate",
    metric="top1",
    value=0.8,
    decimals=1,
    n=1000,
    frames=32,
    stride=2,
    pixels=256,
    clips=10,
    crops=3,
    conditions={"sampler": "mmaction2@1", "resizer": "torchvision", "crop_ratio": 1.0004},
)


def measure(root: Path, hits: Sequence[float] = HITS, **parts: dict[str, Any]) -> None:
    """Save a run under the conditions of `ROW`; `parts` change some of them."""
    whole: dict[str, dict[str, Any]] = {
        "task": {"name": "kinetics400", "split": "validation", "sample": False},
        "backbone": {"frames": 32, "stride": 2, "pixels": 256},
        "weights": {
            "name": "zoo.k400",
            "digest": "f" * 64,
            "init_seed": None,
            "verified": True,
            "trained_on": ("kinetics400",),
        },
        "protocol": {
            "name": "evaluate",
            "clips": 10,
            "crops": 3,
            "trains": False,
            "recipe": {},
            "chosen": {},
        },
        "data": {},
    }
    merged = {name: {**part, **parts.get(name, {})} for name, part in whole.items()}
    others = {name: value for name, value in parts.items() if name not in whole}
    save_record(root, hits, **merged, **others)


def beside(root: Path, *rows: ForeignRow) -> tuple[Beside, ...]:
    return against(store.read_all(root), rows).pairs


# --------------------------------------------------------------------------- where they agree


def test_under_equal_conditions_the_difference_has_the_interval_of_what_was_measured(
    tmp_path: Path,
) -> None:
    measure(tmp_path)

    (pair,) = beside(tmp_path, ROW)
    wilson = scipy.stats.binomtest(788, 1000).proportion_ci(method="wilson")

    assert pair.agrees
    assert pair.reasons == ()
    assert pair.difference is not None
    assert pair.difference.difference == pytest.approx(0.788 - 0.8, abs=1e-12)
    assert pair.difference.low == pytest.approx(wilson.low - 0.8, abs=1e-9)
    assert pair.difference.high == pytest.approx(wilson.high - 0.8, abs=1e-9)
    assert (pair.num_paired, pair.inside) == (None, True)
    assert verdict_in_words(pair) == "conditions agree, and so does the number"


def test_a_number_outside_the_interval_is_said(tmp_path: Path) -> None:
    measure(tmp_path)

    # Wilson's interval of 788 in 1000 ends at 81.22 %.
    (pair,) = beside(tmp_path, replace(ROW, value=0.85))

    assert pair.agrees
    assert pair.inside is False
    assert verdict_in_words(pair) == "conditions agree, and so does not the number"


@pytest.mark.parametrize(
    ("value", "decimals", "inside"),
    [
        # Wilson's interval ends at 81.2206. What is printed as 81.26 was at least 81.255, as 81.27
        # to one digit at least 81.22, as 81.30 at least 81.25.
        (0.8126, 2, False),
        (0.8127, 1, True),
        (0.8130, 1, False),
        (0.8127, None, False),
    ],
)
def test_what_rounding_hid_is_given_to_the_number(
    value: float, decimals: int | None, inside: bool, tmp_path: Path
) -> None:
    measure(tmp_path)

    (pair,) = beside(tmp_path, replace(ROW, value=value, decimals=decimals))

    assert pair.inside is inside


def test_a_metric_without_interval_has_a_bare_difference(tmp_path: Path) -> None:
    measure(tmp_path)
    path = next(iter(store.read_all(tmp_path).records)).path
    record = store.read(path)
    bare = replace(record.metrics[0], low=None, high=None, interval="")
    store.write(tmp_path, replace(record, metrics=(bare,)), {})

    (pair,) = beside(tmp_path, ROW)

    assert pair.difference is not None
    assert pair.difference.low == pair.difference.high == pair.difference.difference
    assert pair.inside is None
    assert verdict_in_words(pair) == "conditions agree"
    assert "[" not in str(lay_out_beside(Besides(pairs=(pair,), problems=(), absence=""))[0].rows)


# --------------------------------------------------------------------------- where they do not


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("backbone", {"pixels": 224}, "pixels: 224 here, 256 there"),
        ("backbone", {"frames": 16}, "frames: 16 here, 32 there"),
        ("backbone", {"stride": 4}, "stride: 4 here, 2 there"),
        ("backbone", {"resizer": "timm"}, "resizer: timm here, torchvision there"),
        ("backbone", {"crop_ratio": 0.875}, "crop_ratio: 0.875 here, 1.0004 there"),
        ("protocol", {"clips": 1}, "clips: 1 here, 10 there"),
        ("protocol", {"crops": 1}, "crops: 1 here, 3 there"),
        ("protocol", {"sampler": "psf@1"}, "sampler: psf@1 here, mmaction2@1 there"),
        ("protocol", {"overrides": {"lr": 0.1}}, "changed here: lr=0.1"),
        ("weights", {"name": "other"}, "weights: other here, zoo.k400 there"),
        ("task", {"limit": 1000}, "1,000 drawn items here"),
        ("data", {"num_official": None}, "the items here are of no published list"),
        (
            "data",
            {"num_official": 1200},
            "1,000 of 1,200 official items are here, 1,000 were there",
        ),
        (
            "data",
            {"num_evaluated": 990, "num_failed": 10},
            "10 items here could not be read and count as wrong",
        ),
        ("data", {"num_official": 900}, "1,000 items here, 900 on the official list"),
        (
            "data",
            {"num_missing": 2},
            "2 official items are missing here, and others are here instead",
        ),
        ("data", {"media": "short-256"}, "media: short-256 here, not said there"),
        ("task", {"source_sha256": "a" * 64}, "the task here is a file of its own"),
        ("protocol", {"source_sha256": "a" * 64}, "the protocol here is a file of its own"),
    ],
)
def test_each_condition_that_differs_is_the_one_reason(
    part: str, change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    measure(tmp_path, **{part: change})

    (pair,) = beside(tmp_path, ROW)

    assert pair.reasons == (reason,)
    assert not pair.agrees
    assert pair.difference is not None  # shown, with its reason
    assert verdict_in_words(pair) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weights": None}, "which weights is not said there"),
        ({"pixels": None, "clips": None}, "not said there: pixels, clips"),
        ({"n": 1234}, "1,000 items here, 1,234 there"),
        ({"conditions": {"cropper": "other@1"}}, "cropper: resizer@1 here, other@1 there"),
        ({"conditions": {"antialias": False}}, "antialias: True here, False there"),
        ({"conditions": {"media": "short-320"}}, "media: original here, short-320 there"),
        ({"conditions": {"flips": 2}}, "flips: 2 there, not said here"),
    ],
)
def test_what_the_source_says_otherwise_or_not_at_all_is_the_one_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    measure(tmp_path)

    (pair,) = beside(tmp_path, replace(ROW, **change))

    assert pair.reasons == (reason,)


def test_a_count_that_nobody_says_is_no_reason(tmp_path: Path) -> None:
    measure(tmp_path)

    (pair,) = beside(tmp_path, replace(ROW, n=None))

    assert pair.agrees


@pytest.mark.parametrize("change", [{"protocol": "linear_probe"}, {"split": "test"}])
def test_under_another_protocol_or_split_there_is_no_difference(
    change: dict[str, str], tmp_path: Path
) -> None:
    measure(tmp_path)

    (pair,) = beside(tmp_path, replace(ROW, **change))
    ((field, there),) = change.items()

    assert pair.difference is None
    assert pair.inside is None
    assert (
        pair.reasons[0] == f"{field}: {'validation' if field == 'split' else 'evaluate'} here,"
        f" {there} there"
    )


# --------------------------------------------------------------------------- who stands by whom


def test_a_sample_stands_beside_nothing(tmp_path: Path) -> None:
    measure(tmp_path, task={"name": "kinetics400@sample", "sample": True})

    found = against(store.read_all(tmp_path), [ROW, replace(ROW, task="kinetics400@sample")])

    assert found.pairs == ()
    assert found.absence == "No published number is of a sample, and every result here is."


def test_what_was_selected_on_the_test_set_stands_beside_nothing(tmp_path: Path) -> None:
    measure(tmp_path, protocol={"selected_on_test": True})

    assert beside(tmp_path, ROW) == ()


@pytest.mark.parametrize("field", ["backbone", "task", "metric"])
def test_another_network_task_or_metric_is_no_neighbour(field: str, tmp_path: Path) -> None:
    measure(tmp_path)

    assert beside(tmp_path, replace(ROW, **{field: "other"})) == ()


def test_a_network_from_a_file_is_not_the_published_one_of_its_name(tmp_path: Path) -> None:
    measure(tmp_path, backbone={"source_sha256": "a" * 64})

    assert beside(tmp_path, ROW) == ()


def test_random_weights_under_a_probe_stand_beside_no_trained_network(tmp_path: Path) -> None:
    trained = replace(ROW, weights="none", protocol="linear_probe")
    measure(
        tmp_path,
        weights={"name": "none", "init_seed": 0, "trained_on": ()},
        protocol={"name": "linear_probe", "trains": True},
    )

    assert beside(tmp_path, trained) == ()


def test_a_network_that_was_trained_here_stands_beside_the_published_training(
    tmp_path: Path,
) -> None:
    trained = replace(ROW, weights="none", protocol="train_rs_k400")
    measure(
        tmp_path,
        weights={"name": "none", "init_seed": 0, "trained_on": ()},
        protocol={"name": "train_rs_k400", "trains": True, "trains_backbone": True},
    )

    (pair,) = beside(tmp_path, trained)

    assert pair.agrees


def test_other_weights_are_shown_only_where_the_same_are_not(tmp_path: Path) -> None:
    measure(tmp_path)
    other = replace(ROW, weights="zoo.k600", value=0.7)

    assert [pair.foreign.value for pair in beside(tmp_path, other, ROW)] == [0.8]
    assert [pair.foreign.value for pair in beside(tmp_path, other)] == [0.7]


def test_the_fewest_reasons_come_first(tmp_path: Path) -> None:
    measure(tmp_path)
    far = replace(ROW, pixels=224, clips=1)
    near = replace(ROW, pixels=224)

    found = beside(tmp_path, far, near, ROW)

    assert [len(pair.reasons) for pair in found] == [0, 1, 2]


def test_seeds_are_one_row_beside_one_number(tmp_path: Path) -> None:
    for seed, num_hits in ((0, 780), (1, 796)):
        measure(tmp_path, some_hits(num_hits, num_items=1000, seed=seed), seed=seed)

    (pair,) = beside(tmp_path, ROW)

    assert pair.cell.num_seeds == 2
    assert pair.difference is not None
    assert pair.difference.difference == pytest.approx(0.788 - 0.8)


# --------------------------------------------------------------------------- item by item


def imported(root: Path, hits: Sequence[float], ids: Sequence[str], **changes: Any) -> None:
    row = replace(ROW, value=float(np.mean(hits)), decimals=None, n=len(hits), **changes)
    foreign.write(
        root,
        ForeignFile(tool="zoo", source="zoo.pkl", rows=(row,)),
        stem="zoo",
        predictions=make_predictions(hits, ids=ids),
    )


def paired(root: Path) -> Besides:
    return against(store.read_all(root), (), imported=foreign.read_all(root).files)


def test_where_their_predictions_are_known_the_difference_is_paired(tmp_path: Path) -> None:
    theirs = list(HITS)
    # 30 items that they get right and we don't, 10 the other way: 20 in 1000 of a difference.
    wrong = [place for place, hit in enumerate(HITS) if not hit]
    right = [place for place, hit in enumerate(HITS) if hit]
    for place in wrong[:30]:
        theirs[place] = 1.0
    for place in right[:10]:
        theirs[place] = 0.0
    measure(tmp_path)
    order = np.random.default_rng(3).permutation(1000)
    imported(tmp_path, [theirs[place] for place in order], [IDS[place] for place in order])

    (pair,) = paired(tmp_path).pairs
    drawn = scipy.stats.bootstrap(
        (np.asarray(HITS) - np.asarray(theirs),), np.mean, method="percentile", rng=1
    ).confidence_interval

    assert pair.agrees
    assert pair.num_paired == 1000
    assert pair.difference is not None
    assert pair.difference.difference == pytest.approx(-0.020, abs=1e-12)
    assert pair.difference.low == pytest.approx(drawn.low, abs=0.0015)
    assert pair.difference.high == pytest.approx(drawn.high, abs=0.0015)
    # Paired, 20 points in a thousand are seen; apart, they are not.
    assert pair.inside is False
    assert beside(tmp_path, pair.foreign)[0].inside is True


def test_items_that_one_side_lacks_are_left_out_and_said(tmp_path: Path) -> None:
    measure(tmp_path)
    imported(tmp_path, HITS[:600], IDS[:600])

    (pair,) = paired(tmp_path).pairs

    assert pair.num_paired == 600
    assert pair.difference is not None
    assert pair.difference.difference == 0
    assert pair.reasons == (
        "1,000 items here, 600 there",
        "the difference is over the 600 items both have",
    )


def test_items_of_other_names_are_not_paired(tmp_path: Path) -> None:
    measure(tmp_path)
    imported(tmp_path, HITS, [f"other_{place}" for place in range(1000)])

    (pair,) = paired(tmp_path).pairs

    assert pair.num_paired is None
    assert pair.difference is not None


def test_a_number_that_was_published_and_imported_stands_once(tmp_path: Path) -> None:
    measure(tmp_path)
    for value in (ROW.value, 0.81):
        file = ForeignFile(tool="zoo", source="zoo.csv", rows=(replace(ROW, value=value),))
        foreign.write(tmp_path, file, stem="zoo")

    files = foreign.read_all(tmp_path).files
    found = against(store.read_all(tmp_path), [ROW], imported=files).pairs

    assert sorted(pair.foreign.value for pair in found) == [0.8, 0.81]


def test_an_imported_row_says_what_the_published_table_leaves_out(tmp_path: Path) -> None:
    measure(tmp_path)
    said = {**ROW.conditions, "interpolation": "bicubic"}
    row = replace(ROW, conditions=said, n=990)
    foreign.write(tmp_path, ForeignFile(tool="zoo", source="zoo.csv", rows=(row,)), stem="zoo")

    files = foreign.read_all(tmp_path).files
    (pair,) = against(store.read_all(tmp_path), [replace(ROW, n=None)], imported=files).pairs

    assert pair.foreign.source == ROW.source
    assert pair.reasons == (
        "interpolation: bilinear here, bicubic there",
        "1,000 items here, 990 there",
    )


def test_predictions_that_were_changed_are_named_and_not_paired(tmp_path: Path) -> None:
    measure(tmp_path)
    imported(tmp_path, HITS, IDS)
    for path in (tmp_path / "foreign").glob("*.parquet"):
        path.write_bytes(b"PAR1")

    found = paired(tmp_path)

    assert found.pairs[0].num_paired is None
    assert len(found.problems) == 1
    assert "was changed" in found.problems[0]


@pytest.mark.parametrize(
    ("hits", "ids", "said"),
    [
        (HITS, [*IDS[:-1], IDS[0]], "must hold each item once, holds one twice"),
        ([*HITS[:-1], float("nan")], IDS, "top1 must be finite, one is not"),
        (HITS[:-1], IDS[:-1], "must hold the 1,000 items of its row, holds 999"),
    ],
)
def test_predictions_that_can_not_be_are_named_and_not_paired(
    hits: list[float], ids: list[str], said: str, tmp_path: Path
) -> None:
    measure(tmp_path)
    file = ForeignFile(tool="zoo", source="zoo.pkl", rows=(replace(ROW, value=0.788),))
    # No writer of ours writes them so.
    table = pq.read_table(io.BytesIO(make_predictions(HITS[: len(hits)])))
    for name, values in (("id", ids), ("score:top1", hits)):
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(values, field.type))
    stream = io.BytesIO()
    pq.write_table(table, stream)
    foreign.write(tmp_path, file, stem="zoo", predictions=stream.getvalue())

    found = paired(tmp_path)

    assert found.pairs[0].num_paired is None
    assert len(found.problems) == 1
    assert said in found.problems[0]


# --------------------------------------------------------------------------- never in a ranking


def test_tables_are_the_same_whatever_others_measured(tmp_path: Path) -> None:
    measure(tmp_path)
    without = build(store.read_all(tmp_path))
    imported(tmp_path, [1.0] * 1000, IDS)

    assert build(store.read_all(tmp_path)) == without


def test_the_same_records_and_rows_in_any_order_give_the_same(tmp_path: Path) -> None:
    measure(tmp_path)
    measure(tmp_path, some_hits(700, num_items=1000), backbone={"pixels": 224})
    rows = [ROW, replace(ROW, pixels=224)]
    contents = store.read_all(tmp_path)
    turned = store.Contents(contents.records[::-1], ())

    assert against(contents, rows) == against(turned, rows)


# --------------------------------------------------------------------------- words


def test_each_number_says_that_it_was_not_measured_here(tmp_path: Path) -> None:
    measure(tmp_path)
    found = against(store.read_all(tmp_path), [ROW])
    (layout,) = lay_out_beside(found)

    text = layout_to_markdown(layout)
    terminal = layout_to_terminal(layout, width=100, styled=False)

    assert "| zoo (not measured here) | 78.8 [76.2, 81.2] | 80.0 | -1.20 [-3.84, 1.22] |" in text
    assert "zoo: github.com/someone/zoo" in text
    assert "not measured here" in terminal
    assert "conditions agree" in terminal
    # As they printed it: two digits more would be ours.
    assert "80.00" not in text


def test_names_from_files_are_text_and_nothing_else(tmp_path: Path) -> None:
    measure(tmp_path)
    row = replace(
        ROW,
        tool="zoo|<b>",
        source="[x](javascript:1)\x1b[2J",
        notes=("=cmd()\u202e",),
    )
    found = against(store.read_all(tmp_path), [row])

    text = layout_to_markdown(lay_out_beside(found)[0])
    line = next(csv.DictReader(io.StringIO(beside_csv(found))))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<b>" not in text
    assert "[x](javascript" not in text
    assert "zoo\\|" in text
    assert "\x1b" not in line["source"]


def test_a_formula_in_a_name_is_text_in_csv(tmp_path: Path) -> None:
    measure(tmp_path)
    found = against(store.read_all(tmp_path), [replace(ROW, model="=HYPERLINK(1)")])

    line = next(csv.DictReader(io.StringIO(beside_csv(found))))

    assert line["model"] == "'=HYPERLINK(1)"
    assert float(line["measured"]) == 0.788
    assert float(line["difference"]) == pytest.approx(-0.012)
    assert line["agrees"] == "true"


def test_machines_get_fractions_and_all_that_the_row_says(tmp_path: Path) -> None:
    measure(tmp_path)
    found = beside_json(against(store.read_all(tmp_path), [replace(ROW, pixels=224)]))

    (pair,) = json.loads(json.dumps(found))["pairs"]

    assert pair["measured"]["value"] == 0.788
    assert pair["foreign"]["value"] == 0.8
    assert pair["agrees"] is False
    assert pair["reasons"] == ["pixels: 256 here, 224 there"]
    assert pair["difference"]["difference"] == pytest.approx(-0.012)
    assert len(pair["records"]) == 1


def test_foreign_rows_by_themselves_are_marked_and_the_best_first() -> None:
    layouts = lay_out_foreign([ROW, replace(ROW, model="better", value=0.9, n=None)])

    (layout,) = layouts
    assert layout.caption == "not measured here"
    assert [row[0].main for row in layout.rows] == ["better", "R3D-50"]
    assert [row[2].main for row in layout.rows] == ["90.0", "80.0"]
    assert [row[3].main for row in layout.rows] == ["-", "1000"]
    assert conditions_in_words(ROW).startswith("evaluate, 32x2, 256 pixels, 10x3 views, crop_ratio")


# --------------------------------------------------------------------------- a results folder


def test_a_results_folder_stands_beside_what_its_weights_carry(tmp_path: Path) -> None:
    # pytorchvideo's model zoo: X3D-M has 75.94 % with 10 x 3 views.
    spec = find_backbone("pytorchvideo/x3d_m").spec
    weights = spec.weights[0]
    measure(
        tmp_path,
        backbone={
            "name": spec.name,
            "frames": 16,
            "stride": 5,
            "pixels": weights.input.pixels,
            "crop_ratio": weights.input.crop_ratio,
            "interpolation": weights.input.interpolation,
            "antialias": weights.input.antialias,
            "resizer": weights.input.resizer,
        },
        weights={"name": weights.name},
        protocol={"sampler": weights.sampler},
    )

    (pair,) = besides_of(tmp_path, store.read_all(tmp_path)).pairs

    assert pair.foreign.value == 0.7594
    assert pair.reasons == ()


def test_a_name_in_a_record_has_no_file_run(tmp_path: Path) -> None:
    plugin = tmp_path / "trap.py"
    plugin.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    measure(tmp_path, backbone={"name": str(plugin)})
    measure(tmp_path, backbone={"name": "no_such_network"})

    besides_of(tmp_path, store.read_all(tmp_path))

    assert not (tmp_path / "ran").exists()


def test_compare_puts_published_numbers_below(tmp_path: Path) -> None:
    measure(tmp_path)
    imported(tmp_path, HITS, IDS)

    shown = rsbench("compare", tmp_path, "--published", "--format", "markdown")
    plain = json.loads(rsbench("compare", tmp_path, "--published", "--format", "json").out)

    assert shown.code == 0
    assert "Beside others' numbers: kinetics400, validation (evaluate)" in shown.out
    assert plain["published"]["pairs"][0]["num_paired"] == 1000
    assert "zoo" not in rsbench("compare", tmp_path).out


def test_weights_that_no_sha256_proves_are_said_below(tmp_path: Path) -> None:
    for verified, said in ((True, 0), (False, 1)):
        root = tmp_path / str(verified)
        measure(root, weights={"verified": verified})
        found = against(store.read_all(root), [ROW])
        (layout,) = lay_out_beside(found)
        lines = [line for line in layout.remarks if line.startswith("Unverified weights")]

        assert found.pairs[0].agrees
        assert len(lines) == said
        assert all(line.endswith(": resnet_rs_3d_50 zoo.k400.") for line in lines)


def documented(heading: str) -> Any:
    """What docs/json.md shows below a heading."""
    page = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return json.loads(section.split("```text\n", 1)[1].split("```", 1)[0])


def test_what_is_printed_for_programs_has_the_documented_fields(tmp_path: Path) -> None:
    measure(tmp_path)
    imported(tmp_path, HITS, IDS)
    shown = documented("compare --published")["published"]

    words = ("compare", tmp_path, "--published", "--format", "json")
    printed = json.loads(rsbench(*words).out)["published"]
    (listed,) = json.loads(rsbench("ls", "others", "--results", tmp_path, "--json").out)

    assert printed.keys() == shown.keys()
    for name, value in shown["pairs"][0].items():
        if isinstance(value, dict):
            inner = printed["pairs"][0][name]
            assert inner.keys() == value.keys()
    assert printed["pairs"][0].keys() == shown["pairs"][0].keys()
    assert listed.keys() == documented("ls others")[0].keys()


def test_no_neighbour_is_a_comment_in_latex(tmp_path: Path) -> None:
    measure(tmp_path)

    shown = rsbench("compare", tmp_path, "--published", "--format", "latex")

    assert shown.out.splitlines()[-1] == "% No published or imported numbers to stand beside."


def test_others_are_listed_by_themselves_and_filtered_by_name(tmp_path: Path) -> None:
    imported(tmp_path, HITS, IDS)
    rows = json.loads(rsbench("ls", "others", "--results", tmp_path, "--json").out)
    shown = rsbench("ls", "others", "--results", tmp_path, "--task", "kinetics*")
    none = rsbench("ls", "others", "--results", tmp_path, "--backbone", "resnet_rs_3d_5")

    assert [row["value"] for row in rows] == [0.788]
    assert "Measured by others: kinetics400, validation" in shown.out
    assert "not measured here" in shown.out
    assert none.code == 2
    assert "Did you mean resnet_rs_3d_50" in none.err
    assert rsbench("ls", "others", "--results", tmp_path / "none").out.endswith(
        "holds nothing that others measured.\n"
    )
    assert rsbench("ls", "others", "--seed", "1").code == 2


def test_the_committed_results_stand_beside_the_committed_tables() -> None:
    root = Path(__file__).parents[1] / "results"
    contents = store.read_all(root)

    found = besides_of(root, contents)

    assert found.problems == ()
    assert read_published(root)
    assert published_of([]) == ()
    for pair in found.pairs:
        assert "@sample" not in pair.task
        assert pair.foreign.backbone == pair.row.backbone
