"""The book of scores: what it remembers is of files that are still what their records state."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from records_factory import make_predictions, make_record, save_record, some_hits

from rsbench.errors import RecordError
from rsbench.records import databases, scorebook, signatures, store
from rsbench.records.predictions import to_parquet
from rsbench.records.scorebook import Scorebook, open_scorebook
from rsbench.tables import build
from rsbench.tables.pairing import Pair, paired_with_first

HITS = some_hits(80)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own, in which files count as untouched for long."""
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    real = time.time_ns
    monkeypatch.setattr(signatures.time, "time_ns", lambda: real() + 60_000_000_000)
    return tmp_path / "cache" / databases.FOLDER


def saved(root: Path, hits: Sequence[float] = HITS, *, seed: int = 0) -> store.Stored:
    path = save_record(root, hits, seed=seed)
    return store.Stored(path, store.read(path))


def predictions_of(stored: store.Stored) -> Path:
    return stored.path.with_name(f"{stored.path.stem}.{store.PREDICTIONS_SUFFIX}")


def edit_unseen(path: Path) -> None:
    """Change one byte and set the time of the last writing back."""
    time.sleep(0.03)  # The file system's clock ticks every few milliseconds.
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def unread(*arguments: object, **options: object) -> bytes:
    raise AssertionError("nothing needs to be read")


def write_unchecked(root: Path, *, ids: Sequence[str], scores: Sequence[float]) -> store.Stored:
    """Save a record of 160 items beside predictions that `to_parquet` would refuse."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as parquet

    source = parquet.read_table(io.BytesIO(make_predictions(HITS[: len(ids)])))
    for name, values in (("id", ids), ("score:top1", scores)):
        place = source.column_names.index(name)
        source = source.set_column(place, name, pa.array(values))
    stream = io.BytesIO()
    parquet.write_table(source, stream)
    path = store.write(root, make_record(hits=HITS), {store.PREDICTIONS_SUFFIX: stream.getvalue()})
    return store.Stored(path, store.read(path))


# ---------------------------------------------------------------------------- scores


def test_scores_stand_in_the_order_of_fold_and_id(tmp_path: Path) -> None:
    ids, folds = ["b", "a", "c", "a"], ["one", "two", "one", "one"]
    scores = np.array([0.25, 0.5, 0.75, 1.0])
    content = to_parquet(
        ids=ids, targets=[0] * 4, predictions=[None] * 4, folds=folds, item_scores={"top1": scores}
    )
    record = make_record(hits=[1.0, 0.0, 1.0, 0.0])
    path = store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
    with open_scorebook() as book:
        found = book.scores(store.Stored(path, store.read(path)), "top1")

    # By hand.
    assert found is not None
    assert found.keys == (("one", "a"), ("one", "b"), ("one", "c"), ("two", "a"))
    assert found.scores.tolist() == [1.0, 0.25, 0.75, 0.5]


def test_runs_of_the_same_items_share_their_keys_in_whatever_order_they_lie(tmp_path: Path) -> None:
    ids = [f"clip_{row:04d}.mp4" for row in range(len(HITS))]
    stored = []
    for seed, order in enumerate([ids, ids[::-1]]):
        content = make_predictions(HITS, ids=order)
        record = make_record(hits=HITS, seed=seed)
        path = store.write(tmp_path, record, {store.PREDICTIONS_SUFFIX: content})
        stored.append(store.Stored(path, store.read(path)))
    with open_scorebook() as book:
        first, second = (book.scores(each, "top1") for each in stored)

    assert first is not None
    assert second is not None
    assert first.keys is second.keys
    assert second.scores.tolist() == HITS[::-1]


def test_a_metric_without_scores_of_items_has_none(tmp_path: Path) -> None:
    with open_scorebook() as book:
        assert book.scores(saved(tmp_path), "mean_average_precision") is None


IDS = [f"clip_{row:04d}.mp4" for row in range(160)]
WRONG = {
    "an item stands twice": ([*IDS[:-1], IDS[0]], HITS),
    "must be of 160 items, were of 159": (IDS[:-1], HITS[:-1]),
    "is not a number": (IDS, [float("nan"), *HITS[1:]]),
}


@pytest.mark.parametrize("said", WRONG)
def test_predictions_that_can_not_be_are_named(tmp_path: Path, said: str) -> None:
    ids, scores = WRONG[said]
    stored = write_unchecked(tmp_path, ids=ids, scores=scores)
    for _ in range(2):
        with open_scorebook() as book, pytest.raises(RecordError, match=said) as caught:
            book.scores(stored, "top1")
        assert str(caught.value).startswith(stored.name)


# ---------------------------------------------------------------------------- content


def test_a_file_that_stayed_the_same_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = saved(tmp_path)
    stated = stored.record.files[predictions_of(stored).name]
    with open_scorebook() as book:
        assert book.content(stored) == stated
    monkeypatch.setattr(store, "read_beside", unread)
    with open_scorebook() as book:
        assert book.content(stored) == stated


def test_a_file_that_was_changed_or_is_gone_is_named_whatever_is_remembered(tmp_path: Path) -> None:
    stored = saved(tmp_path)
    with open_scorebook() as book:
        book.content(stored)
    edit_unseen(predictions_of(stored))
    with open_scorebook() as book, pytest.raises(RecordError, match="was changed"):
        book.content(stored)
    predictions_of(stored).unlink()
    with open_scorebook() as book, pytest.raises(RecordError, match="can't be read"):
        book.content(stored)


def test_a_digest_that_is_remembered_of_a_file_is_not_that_of_another_record(
    tmp_path: Path,
) -> None:
    # The same file, and a record that states another digest of it.
    stored = saved(tmp_path)
    with open_scorebook() as book:
        book.content(stored)
    files = {predictions_of(stored).name: "0" * 64}
    other = stored._replace(record=make_record(files=files))
    with open_scorebook() as book, pytest.raises(RecordError, match="was changed"):
        book.content(other)


def test_folders_whose_names_begin_alike_and_are_no_ascii_keep_their_files_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "a0", "a.b", "ü", os.fsdecode(b"\xff"), "a%", "a'")
    stored = [saved(tmp_path / name, some_hits(40 + n)) for n, name in enumerate(names)]
    with open_scorebook() as book:
        contents = [book.content(each) for each in stored]
    assert len(set(contents)) == len(names)
    monkeypatch.setattr(store, "read_beside", unread)
    with open_scorebook() as book:
        assert [book.content(each) for each in stored] == contents


# ---------------------------------------------------------------------------- memory


def test_what_was_remembered_is_recalled_by_kind_and_key() -> None:
    values = {f"key {number}": [number / 3, None, "ü"] for number in range(1200)}
    with open_scorebook() as book:
        book.remember("difference@1", values)
    with open_scorebook() as book:
        assert book.recall("difference@1", [*values, "another key"]) == values
        assert book.recall("difference@2", [*values]) == {}
        assert book.recall("difference@1", []) == {}


def test_what_other_code_has_made_is_not_recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_scorebook() as book:
        book.remember("difference@1", {"key": 1})
    real = databases.code_digest
    statistics = Path(scorebook.stats.__file__).parent

    def changed(folder: Path) -> str:
        return "f" * 64 if folder == statistics else real(folder)

    monkeypatch.setattr(scorebook, "code_digest", changed)
    with open_scorebook() as book:
        assert book.recall("difference@1", ["key"]) == {}


def test_a_memory_that_was_altered_is_not_believed(own_cache: Path) -> None:
    with open_scorebook() as book:
        book.remember("difference@1", {"key": 1, "other": 2})
    with sqlite3.connect(databases.database_path("statistics")) as connection:
        connection.execute("UPDATE statistics SET text = '7' WHERE text = '1'")
    with open_scorebook() as book:
        assert book.recall("difference@1", ["key", "other"]) == {"other": 2}


def test_without_a_cache_nothing_is_remembered_and_all_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "file" / "cache"))
    stored = saved(tmp_path / "results")
    with open_scorebook() as book:
        book.remember("difference@1", {"key": 1})
        assert book.recall("difference@1", ["key"]) == {}
        assert book.content(stored) == stored.record.files[predictions_of(stored).name]
        assert book.scores(stored, "top1") is not None


# ---------------------------------------------------------------------------- differences


def rows_of(root: Path, *, num_rows: int = 3) -> list[list[list[store.Stored]]]:
    """Give rows of two seeds each."""
    return [
        [
            [saved(root / f"{row}", some_hits(90 - 10 * row, seed=seed), seed=seed)]
            for seed in (0, 1)
        ]
        for row in range(num_rows)
    ]


def differences_of(rows: list[list[list[store.Stored]]]) -> list[Pair]:
    return paired_with_first(rows, "top1", averaging="pooled")


def test_differences_are_recalled_as_they_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(tmp_path)
    made = differences_of(rows)
    monkeypatch.setattr(Scorebook, "scores", unread)

    assert made[2].difference is not None
    # By hand: 70 hits against 90 of 160.
    assert made[2].difference.difference == pytest.approx(-20 / 160)
    assert differences_of(rows) == made
    with pytest.raises(AssertionError, match="nothing needs to be read"):
        paired_with_first(rows, "top1", averaging="mean")
    with pytest.raises(AssertionError, match="nothing needs to be read"):
        differences_of([rows[1], rows[0], rows[2]])


@pytest.mark.parametrize("row", [0, 1])
def test_no_difference_is_recalled_for_files_that_were_changed(tmp_path: Path, row: int) -> None:
    rows = rows_of(tmp_path)
    made = differences_of(rows)
    edit_unseen(predictions_of(rows[row][1][0]))
    found = differences_of(rows)

    assert "was changed" in found[row].problems[0]
    assert found[row].difference is None
    assert found[2] == (made[2] if row == 1 else Pair(None, ()))


def test_that_there_is_no_difference_is_recalled_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(tmp_path)
    none = [Pair(None, ())] * 3
    monkeypatch.setattr(scorebook, "read_item_scores", lambda *given, **named: None)
    assert differences_of(rows) == none
    monkeypatch.setattr(Scorebook, "scores", unread)
    assert differences_of(rows) == none


@pytest.mark.parametrize("row", [0, 1])
def test_what_is_wrong_with_a_file_is_said_every_time(tmp_path: Path, row: int) -> None:
    # Its bytes are what the record states, and an item stands twice in them.
    rows = rows_of(tmp_path)
    stored = write_unchecked(tmp_path / "wrong", ids=[*IDS[:-1], IDS[0]], scores=HITS)
    rows[row] = [[stored]]
    for _ in range(3):
        found = differences_of(rows)
        assert "an item stands twice" in found[row].problems[0]
        assert found[row].difference is None


def test_a_table_is_the_same_from_memory_as_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row, num_hits in enumerate((120, 80, 40)):
        for seed in (0, 1):
            hits = some_hits(num_hits, seed=seed)
            save_record(tmp_path, hits, seed=seed, backbone={"name": f"net{row}"})
    cold = build(store.read_all(tmp_path))
    warm = build(store.read_all(tmp_path))
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "another"))

    assert cold.tables[0].rows[1].difference is not None
    assert warm == cold
    assert build(store.read_all(tmp_path)) == cold
