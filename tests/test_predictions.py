from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from rsbench.errors import RecordError
from rsbench.records.predictions import (
    PredictionTable,
    from_parquet,
    read_item_scores,
    to_parquet,
)


def _round_trip(values: list[Any], *, kind: Any = "class") -> PredictionTable:
    ids = [str(row) for row in range(len(values))]
    content = to_parquet(ids=ids, targets=values, predictions=values, kind=kind)
    return from_parquet(content, where="p")


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray | np.generic):
        return (
            type(first) is type(second)
            and first.dtype == second.dtype
            and first.shape == second.shape
            and first.tobytes() == second.tobytes()
        )
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            _equal(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, list | tuple):
        return (
            type(first) is type(second)
            and len(first) == len(second)
            and all(map(_equal, first, second))
        )
    return type(first) is type(second) and first == second


def test_class_scores_come_back_to_the_bit() -> None:
    scores = list(np.random.default_rng(0).random((20, 7)).astype(np.float32))
    scores[3][2] = np.nan
    content = to_parquet(
        ids=[f"ü {row}" for row in range(21)],
        folds=["a"] * 10 + ["b"] * 11,
        targets=list(range(21)),
        predictions=[*scores, None],
        item_scores={"top1": np.arange(21) / 3},
    )
    table = from_parquet(content, where="p")
    assert all(map(_equal, scores, table.predictions[:20]))
    assert table.predictions[20] is None
    assert table.ids[20] == "ü 20"
    assert table.folds == ("a",) * 10 + ("b",) * 11
    assert table.targets == tuple(range(21))
    assert table.item_scores["top1"].tolist() == (np.arange(21) / 3).tolist()
    assert table.kind == "class"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (
            "boxes",
            {
                "boxes": np.array([[0, 0, 1, 2.5]]),
                "labels": np.array([3]),
                "scores": np.array([0.5], np.float32),
            },
        ),
        ("boxes", {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}),
        ("mask", np.random.default_rng(0).integers(0, 255, (5, 6)).astype(np.uint8)),
        ("mask", np.array([[True, False]])),
        ("depth", np.random.default_rng(0).random((4, 3)).astype(np.float16)),
        ("volume", np.random.default_rng(0).random((2, 3, 4)).transpose(2, 0, 1)),
        ("volume", np.arange(6, dtype=">i2").reshape(1, 2, 3)),
        ("multilabel", (1, 5)),
        ("multilabel", frozenset({"cat", "dog"})),
        ("multilabel", ()),
        ("class", 3),
        ("class", np.int64(3)),
        ("class", "cat"),
        ("depth", 0.1),
        ("depth", np.array(2.5)),
        ("depth", np.array([1 + 2j])),
        ("class", np.array(["a", "bc"])),
        ("boxes", [{"a": None, "$array": 1, "nested": (np.zeros(2), [np.ones(1)])}]),
        ("depth", float("inf")),
    ],
)
def test_any_kind_of_value_comes_back_to_the_bit(kind: str, value: Any) -> None:
    table = _round_trip([value, None, value], kind=kind)
    for back in (table.predictions, table.targets):
        assert back[1] is None
        assert _equal(value, back[0]), (value, back[0])
        assert _equal(value, back[2])
    assert table.kind == kind


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        some.one_of(
            arrays.floating_dtypes(),
            arrays.integer_dtypes(),
            arrays.unsigned_integer_dtypes(),
            arrays.boolean_dtypes(),
        ),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_to_the_bit(array: np.ndarray) -> None:
    table = _round_trip([array, None])
    assert _equal(array, table.predictions[0])


def test_an_array_read_back_can_be_written_to() -> None:
    table = _round_trip([np.zeros((2, 2)), np.zeros(3, np.float32)])
    table.predictions[0][0, 0] = 1
    table = _round_trip([np.zeros(3, np.float32)])
    table.predictions[0][0] = 1


def test_one_metric_is_read_alone() -> None:
    content = to_parquet(
        ids=["a", "b"], targets=[0, 1], predictions=[None, None], item_scores={"top1": np.eye(2)[0]}
    )
    found = read_item_scores(content, "top1", where="p")
    assert found is not None
    assert (found.ids, found.folds, found.scores.tolist()) == (("a", "b"), ("", ""), [1, 0])
    assert read_item_scores(content, "top5", where="p") is None


def test_equal_columns_give_equal_bytes() -> None:
    def content() -> bytes:
        return to_parquet(ids=["a"], targets=[0], predictions=[np.ones(3, np.float32)])

    assert content() == content()


def test_the_file_is_plain_parquet_for_others(tmp_path: Path) -> None:
    # Second source: pyarrow reads the columns by their names.
    import pyarrow.parquet as parquet

    path = tmp_path / "p.parquet"
    scores = np.array([0.25, 0.75], np.float32)
    path.write_bytes(to_parquet(ids=["a", "b"], targets=[1, 0], predictions=[scores, None]))
    rows = parquet.read_table(path).to_pylist()
    assert rows[0]["scores"] == [0.25, 0.75]
    assert [row["failed"] for row in rows] == [False, True]
    assert [row["target"] for row in rows] == ["1", "0"]


def test_a_damaged_file_is_refused_by_name() -> None:
    content = to_parquet(
        ids=[str(row) for row in range(50)],
        targets=[1] * 50,
        predictions=[np.full(8, row, np.float32) for row in range(50)],
    )
    for broken in (b"", b"PAR1", content[:-10], content[: len(content) // 2], b"x" * 1000):
        with pytest.raises(RecordError, match=r"^p\.parquet must be predictions"):
            from_parquet(broken, where="p.parquet")


def test_another_parquet_file_is_not_taken_for_predictions() -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as parquet

    stream = io.BytesIO()
    parquet.write_table(pa.table({"id": ["a"]}), stream)
    with pytest.raises(RecordError, match="another Parquet file"):
        from_parquet(stream.getvalue(), where="p")


def test_an_object_array_in_a_file_is_never_unpickled() -> None:
    # By hand: the file claims objects, which numpy could only make by running a pickle.
    import pyarrow as pa

    from rsbench.records import predictions

    content = to_parquet(ids=["a"], targets=[0], predictions=[np.zeros(1)])
    table = predictions._read_table(content, "p", None)
    claim = '{"$array":0,"dtype":"|O","shape":[1]}'
    column = table.column_names.index("prediction")
    with pytest.raises(ValueError, match="object"):
        predictions._values(table.set_column(column, "prediction", pa.array([claim])), "prediction")


@pytest.mark.parametrize(
    "value", [np.array([object()]), Path("mask.png"), object(), {3: 4}, np.array(["2020"], "M8[D]")]
)
def test_what_can_not_be_kept_is_refused(value: Any) -> None:
    with pytest.raises(RecordError, match=r"prediction of row 1 must"):
        to_parquet(ids=["a", "b"], targets=[0, 0], predictions=[None, value])


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(RecordError, match="2 ids and 1 predictions"):
        to_parquet(ids=["a", "b"], targets=[0, 0], predictions=[None])
    with pytest.raises(RecordError, match="scores of top1"):
        to_parquet(ids=["a"], targets=[0], predictions=[None], item_scores={"top1": np.zeros(2)})


def test_an_item_twice_in_a_fold_is_refused_and_in_two_folds_is_not() -> None:
    twice: dict[str, Any] = {"ids": ["a", "a"], "targets": [0, 0], "predictions": [None, None]}
    with pytest.raises(RecordError, match="'a' is twice"):
        to_parquet(**twice)
    assert to_parquet(**twice, folds=["1", "2"])


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(RecordError, match="top1 of item 'a' must be finite"):
        to_parquet(
            ids=["a"], targets=[0], predictions=[None], item_scores={"top1": np.array([np.nan])}
        )


def test_an_id_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(RecordError, match="rename that file"):
        to_parquet(ids=["\udcff.mp4"], targets=[0], predictions=[None])
