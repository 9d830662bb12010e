"""Foreign rows are kept whole, found again, held to their digest, and named by their content."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import make_predictions

from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.records import foreign
from rsbench.records.foreign import ForeignFile, ForeignRow


def row(**changes: Any) -> ForeignRow:
    """A row that says all it can."""
    whole = ForeignRow(
        source="results-imagenet.csv (sha256 01234567)",
        tool="timm",
        model="resnetrs50.tf_in1k",
        backbone="resnet_rs_50",
        weights="resnetrs50.tf_in1k",
        task="imagenet1k",
        split="validation",
        protocol="evaluate",
        metric="top1",
        value=0.79934,
        decimals=3,
        n=50_000,
        frames=None,
        stride=None,
        pixels=224,
        clips=1,
        crops=1,
        conditions={"crop_ratio": 0.91, "interpolation": "bicubic", "antialias": True},
        notes=("a note",),
    )
    return replace(whole, **changes)


def file_of(*rows: ForeignRow) -> ForeignFile:
    return ForeignFile(tool="timm", source="results-imagenet.csv (sha256 01234567)", rows=rows)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = (row(), row(metric="top5", value=0.94964, backbone=None, n=None, conditions={}))

    stored = foreign.write(tmp_path, file_of(*rows), stem="results-imagenet")

    assert foreign.read(stored.path) == stored.file
    assert foreign.read_all(tmp_path).rows == rows
    assert foreign.read_all(tmp_path).problems == ()
    assert stored.name == f"foreign/{stored.path.name}"
    assert stored.path.name.startswith("timm-imagenet1k-results-imagenet-")


def test_the_digest_is_the_sha256_of_all_else_in_canonical_json(tmp_path: Path) -> None:
    stored = foreign.write(tmp_path, file_of(row()), stem="a")

    content = json.loads(stored.path.read_text())
    stated = content.pop("digest")

    # digest_json is held to hashlib over json.dumps by its own tests.
    assert stated == digest_json(content) == stored.file.digest
    assert stored.path.stem.endswith(stated[:8])


def test_equal_content_is_one_file_and_other_content_another(tmp_path: Path) -> None:
    first = foreign.write(tmp_path, file_of(row()), stem="a")
    again = foreign.write(tmp_path, file_of(row()), stem="a")
    other = foreign.write(tmp_path, file_of(row(value=0.8)), stem="a")

    assert again == first
    assert other.path != first.path
    assert sorted(path.name for path in first.path.parent.iterdir()) == sorted(
        [first.path.name, other.path.name]
    )


def test_predictions_lie_beside_and_are_read_by_metric(tmp_path: Path) -> None:
    hits = [1.0, 0.0, 1.0]
    stored = foreign.write(
        tmp_path,
        file_of(row(n=3)),
        stem="a",
        predictions=make_predictions(hits, ids=["x", "y", "z"]),
    )

    scores = foreign.read_scores(stored, "top1")
    table = foreign.read_predictions(stored)

    assert scores is not None
    assert table is not None
    assert (scores.ids, scores.scores.tolist()) == (("x", "y", "z"), hits)
    assert table.ids == ("x", "y", "z")
    assert foreign.read_scores(stored, "top5") is None


def test_without_predictions_there_are_no_scores(tmp_path: Path) -> None:
    stored = foreign.write(tmp_path, file_of(row()), stem="a")

    assert foreign.read_scores(stored, "top1") is None
    assert foreign.read_predictions(stored) is None


def test_changed_or_lost_predictions_are_named(tmp_path: Path) -> None:
    stored = foreign.write(
        tmp_path, file_of(row()), stem="a", predictions=make_predictions([1.0, 0.0])
    )
    beside = stored.path.with_name(f"{stored.path.stem}.predictions.parquet")

    beside.write_bytes(make_predictions([1.0, 1.0]))
    with pytest.raises(RecordError, match=r"was changed .another sha256.; import it again"):
        foreign.read_scores(stored, "top1")
    beside.unlink()
    with pytest.raises(RecordError, match=r"predictions. can't be read"):
        foreign.read_predictions(stored)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": 0.9}, "was edited by hand"),
        ({"value": "0.9"}, "value must be a number, was '0.9'"),
        ({"n": 1.5}, "n must be an integer or null"),
        ({"surplus": 1}, "has no field 'surplus'"),
        ({"model": None}, "model must be text"),
    ],
)
def test_a_file_that_was_edited_is_named_and_the_others_are_read(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    whole = foreign.write(tmp_path, file_of(row()), stem="whole")
    edited = foreign.write(tmp_path, file_of(row(value=0.5)), stem="edited")
    content = json.loads(edited.path.read_text())
    content["rows"][0].update(change)
    edited.path.write_text(json.dumps(content))

    found = foreign.read_all(tmp_path)

    assert found.files == (whole,)
    assert len(found.problems) == 1
    assert edited.path.name in found.problems[0]
    assert said in found.problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cut short or not JSON"),
        ("[]", "must be a JSON object"),
        ('{"schema": 2}', "written by a newer rsbench"),
        ('{"schema": 1, "tool": "t", "source": "s", "rows": []}', "at least one row"),
    ],
)
def test_what_is_no_such_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "bad.json").write_text(text)

    problems = foreign.read_all(tmp_path).problems

    assert len(problems) == 1
    assert problems[0].startswith("foreign/bad.json")
    assert said in problems[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decimals": 10**9}, "decimals must be from 0 to 12, was 1000000000"),
        ({"decimals": -1}, "decimals must be from 0 to 12"),
        ({"n": 0}, "n must be 1 or more, was 0"),
        ({"clips": -3}, "clips must be 1 or more, was -3"),
    ],
)
def test_a_count_that_is_none_is_neither_written_nor_read(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match=said):
        foreign.write(tmp_path, file_of(row(**change)), stem="a")
    stored = foreign.write(tmp_path, file_of(row()), stem="a")
    content = json.loads(stored.path.read_text())
    content["rows"][0].update(change)
    del content["digest"]
    stored.path.write_text(json.dumps({**content, "digest": digest_json(content)}))

    (problem,) = foreign.read_all(tmp_path).problems

    assert f"{stored.name}: import.rows[0].{said}" in problem


def test_lists_in_lists_are_named_however_deep_they_are(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    start = '{"schema": 1, "source": "s", "rows": [], "tool": '

    # Some depths can just be read and not be shown; which, depends on the stack.
    for depth in range(900, 1010):
        text = f"{start}{'[' * depth}{']' * depth}}}"
        (tmp_path / "foreign" / "bad.json").write_text(text)
        assert len(foreign.read_all(tmp_path).problems) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("78.8", (0.788, 1)), ("100", (1.0, 0)), ("0.10", (0.001, 2)), ("7.", (0.07, 0))],
)
def test_a_printed_percentage_is_the_nearest_share_and_its_digits(
    text: str, value: tuple[float, int]
) -> None:
    assert foreign.percentage(text) == value


@pytest.mark.parametrize(
    "text", ["", "100.01", "-1", "1e1", "nan", "\u0663", " 7", "0." + "0" * 13]
)
def test_what_is_no_printed_percentage_is_none(text: str) -> None:
    assert foreign.percentage(text) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_written(value: float, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="value must be a finite number"):
        foreign.write(tmp_path, file_of(row(value=value)), stem="a")

    assert not list(tmp_path.rglob("*.json"))


def test_numbers_of_numpy_are_refused_rather_than_written_as_something_else(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="value must be text, a number"):
        foreign.write(tmp_path, file_of(row(value=np.float32(0.5))), stem="a")


def test_a_name_with_folders_in_it_stays_in_its_folder(tmp_path: Path) -> None:
    stored = foreign.write(tmp_path, file_of(row(task="../../etc")), stem="../.. /x\n")

    assert stored.path.parent == tmp_path / "foreign"
    assert stored.path.is_file()


def test_no_folder_holds_nothing(tmp_path: Path) -> None:
    assert foreign.read_all(tmp_path / "none") == foreign.ForeignContents((), ())
