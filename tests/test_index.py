"""The index of records: fast where a file stayed the same, and never believed where it did not."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from records_factory import make_predictions, make_record, save_record, some_hits

from rsbench.errors import RecordError
from rsbench.records import databases, index, signatures, store
from rsbench.records.schema import RunRecord, to_json

HITS = some_hits(80)
TRACES = {
    "selection": ({"strength": 0.1, "score": 1 / 3, "chosen": True, "note": None},),
    "curve": ({"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 1e-320}),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own, in which files count as untouched for long."""
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    settle(monkeypatch)
    return tmp_path / "cache" / databases.FOLDER


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute seem to have passed since any file was written."""
    real = time.time_ns
    monkeypatch.setattr(signatures.time, "time_ns", lambda: real() + 60_000_000_000)


def wait_a_tick() -> None:
    """Wait until the file system's clock, which ticks every few milliseconds, has moved on."""
    time.sleep(0.03)


def refuse(*arguments: object, **options: object) -> RunRecord:
    raise AssertionError("nothing needs to be read")


def some_records(root: Path, num_records: int = 3) -> list[Path]:
    return [save_record(root, HITS, seed=seed, **TRACES) for seed in range(num_records)]


def test_a_folder_that_stayed_the_same_is_read_without_reading_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_records(tmp_path)
    first = store.read_all(tmp_path)
    monkeypatch.setattr(store, "from_json", refuse)
    monkeypatch.setattr(store, "read_signed", refuse)
    second = store.read_all(tmp_path)

    assert len(first.records) == 3
    assert second == first
    assert second.records[0].record.selection == TRACES["selection"]


def test_what_comes_from_the_index_is_the_record_to_the_last_digit(tmp_path: Path) -> None:
    cost = {"a": 0.1 + 0.2, "b": 1e-320, "c": 2**53 + 1.0, "d": -0.0, "e": 1.0, "f": 1, "g": True}
    path = save_record(
        tmp_path,
        HITS,
        cost=cost,
        protocol={"recipe": {"z": 1, "a": 1.0}, "chosen": {"ü": "é"}, "notes": ("one", "two")},
        data={"missing": ("a", "b"), "remarked": ({"id": "ü", "reason": "cut"},)},
        **TRACES,
    )
    store.read_all(tmp_path)
    (stored,) = store.read_all(tmp_path).records

    # Second source: the text of the file itself, fields and their order included.
    assert to_json(stored.record) == path.read_text()
    assert stored.record == store.read(path)
    assert hash(stored.record.metrics) == hash(store.read(path).metrics)


def test_traces_are_unpacked_when_somebody_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_records(tmp_path)
    store.read_all(tmp_path)
    monkeypatch.setattr(index.zlib, "decompress", refuse)
    (stored, *_) = store.read_all(tmp_path).records
    assert stored.record.metrics[0].value == 0.5
    with pytest.raises(AssertionError, match="nothing needs to be read"):
        _ = stored.record.curve
    monkeypatch.undo()

    assert stored.record.curve == TRACES["curve"]
    with pytest.raises(AttributeError, match="no attribute 'curves'"):
        _ = stored.record.curves  # type: ignore[attr-defined]


def edit_in_place(path: Path) -> None:
    with path.open("r+b") as stream:
        content = stream.read()
        stream.seek(content.index(b'"created": "2026') + 12)
        stream.write(b"1999")


def edit_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    edit_in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_an_edited_copy(path: Path) -> None:
    before = path.stat()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    edit_in_place(copy)
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def link_to_another(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    edit_in_place(other)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize(
    "edit",
    [edit_in_place, edit_and_set_the_time_back, replace_by_an_edited_copy, cut, link_to_another],
    ids=lambda edit: edit.__name__,
)
def test_an_edited_record_is_found_whatever_the_index_says(
    tmp_path: Path, edit: Callable[[Path], None]
) -> None:
    edited, *_ = some_records(tmp_path)
    assert store.read_all(tmp_path).problems == ()
    wait_a_tick()
    edit(edited)
    contents = store.read_all(tmp_path)

    assert len(contents.records) == 2
    assert len(contents.problems) == 1
    assert contents.problems[0].startswith(edited.relative_to(tmp_path).as_posix())
    with pytest.raises(RecordError):
        store.read(edited)


def test_records_that_change_places_are_told_apart(tmp_path: Path) -> None:
    first, second, _ = some_records(tmp_path)
    store.read_all(tmp_path)
    aside = first.with_suffix(".aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    seeds = {stored.path: stored.record.seed for stored in store.read_all(tmp_path).records}

    assert (seeds[first], seeds[second]) == (1, 0)


def test_a_record_that_is_gone_leaves_the_index(tmp_path: Path, own_cache: Path) -> None:
    gone, *_ = some_records(tmp_path)
    store.read_all(tmp_path)
    gone.unlink()

    assert len(store.read_all(tmp_path).records) == 2
    assert len(rows_of(own_cache)) == 2


def test_a_file_written_a_moment_ago_is_read_again_the_next_time(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another change within the same tick of the file system's clock would leave the same times.
    monkeypatch.undo()
    monkeypatch.setenv("RSBENCH_CACHE", str(own_cache.parent))
    some_records(tmp_path)
    store.read_all(tmp_path)
    assert rows_of(own_cache) == []
    settle(monkeypatch)
    store.read_all(tmp_path)

    assert len(rows_of(own_cache)) == 3


def database_in(cache: Path) -> Path:
    (path,) = (path for path in cache.glob("*.sqlite") if not path.stem.startswith("statistics"))
    return path


def rows_of(cache: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(database_in(cache)) as connection:
        return connection.execute("SELECT * FROM records").fetchall()


CHANGES = {
    "another score": "UPDATE records SET own = replace(own, '\"value\":0.5', '\"value\":0.9')",
    "another signature": "UPDATE records SET signature = signature || '1'",
    "other traces": "UPDATE records SET traces = x'789c030000000001'",
    "no checksum": "UPDATE records SET checksum = x''",
    "another row": "UPDATE records SET own = (SELECT own FROM records ORDER BY name LIMIT 1)",
    "another part": "UPDATE parts SET text = replace(text, 'kinetics400', 'kinetics500')",
    "parts exchanged": "UPDATE records SET parts = substr(parts, 33) || substr(parts, 1, 32)",
    "parts gone": "DELETE FROM parts",
    "a table gone": "DROP TABLE parts",
    "no JSON": "UPDATE records SET own = '{'",
    "bytes for a text": "UPDATE records SET own = x'00ff', signature = x'00'",
    "bytes in a text": "UPDATE parts SET text = CAST(x'ff00' AS TEXT)",
    "numbers for texts": "UPDATE records SET own = 7, signature = 8",
}


@pytest.mark.parametrize("how", CHANGES)
def test_an_index_that_was_altered_is_not_believed(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    with sqlite3.connect(database_in(own_cache)) as connection:
        connection.execute(CHANGES[how])

    assert store.read_all(tmp_path) == truth
    assert store.read_all(tmp_path) == truth
    assert store.read_all(tmp_path) == truth
    # By then it is whole again.
    monkeypatch.setattr(store, "from_json", refuse)
    assert store.read_all(tmp_path) == truth


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_index_is_made_anew(tmp_path: Path, own_cache: Path, content: bytes) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    database_in(own_cache).write_bytes(content)

    assert store.read_all(tmp_path) == truth
    assert len(rows_of(own_cache)) == 3


def test_an_index_cut_anywhere_costs_time_and_nothing_else(tmp_path: Path, own_cache: Path) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    whole = database_in(own_cache).read_bytes()
    for length in range(0, len(whole), 1777):
        database_in(own_cache).write_bytes(whole[:length])
        assert store.read_all(tmp_path) == truth, length


def test_an_index_of_other_code_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some_records(tmp_path)
    store.read_all(tmp_path)
    monkeypatch.setattr(index, "code_digest", lambda *folders: "f" * 64)
    num_read = 0
    real = store.from_json

    def counted(text: str, *, where: str) -> RunRecord:
        nonlocal num_read
        num_read += 1
        return real(text, where=where)

    monkeypatch.setattr(store, "from_json", counted)
    store.read_all(tmp_path)
    store.read_all(tmp_path)

    assert num_read == 3


def test_the_code_that_reads_records_names_the_index() -> None:
    folder = Path(index.__file__).parent
    assert databases.code_digest(folder) == databases.code_digest(folder)
    assert databases.code_digest(folder) != databases.code_digest(folder.parent)


def test_a_cache_that_can_not_be_made_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "file" / "cache"))
    some_records(tmp_path / "results")

    assert len(store.read_all(tmp_path / "results").records) == 3
    assert len(store.read_all(tmp_path / "results").records) == 3


def test_an_index_that_another_process_holds_stops_nobody(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    monkeypatch.setattr(databases, "_WAIT_SECONDS", 0.01)
    with sqlite3.connect(database_in(own_cache)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert store.read_all(tmp_path) == truth
        save_record(tmp_path, HITS, seed=9)
        assert len(store.read_all(tmp_path).records) == 4


def test_processes_that_read_at_once_do_not_trouble_each_other(
    tmp_path: Path, own_cache: Path
) -> None:
    some_records(tmp_path, 20)
    program = """
import sys, time
from pathlib import Path
from rsbench.records import signatures, store
signatures._SETTLED_NS = -1
for turn in range(10):
    contents = store.read_all(Path(sys.argv[1]))
    assert len(contents.records) == 20 and not contents.problems, contents.problems
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert len(rows_of(own_cache)) == 20


def test_indexes_that_nobody_uses_go_and_others_stay(tmp_path: Path, own_cache: Path) -> None:
    for name in ("one", "two"):
        some_records(tmp_path / name, 1)
    store.read_all(tmp_path / "one")
    unused = database_in(own_cache)
    store.read_all(tmp_path / "two")
    (used,) = set(own_cache.glob("*.sqlite")) - {unused}
    long_ago = time.time() - 91 * 86400
    for path in (unused, used):
        os.utime(path, (long_ago, long_ago))
    store.read_all(tmp_path / "two")
    assert unused.exists()
    some_records(tmp_path / "three", 1)
    store.read_all(tmp_path / "three")

    assert not unused.exists()
    assert used.exists()
    assert len(list(own_cache.glob("*.sqlite"))) == 2


def test_an_index_that_somebody_else_made_is_not_opened(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    mine = database_in(own_cache)
    with sqlite3.connect(mine) as connection:
        connection.execute(
            "UPDATE records SET own = replace(own, '\"value\":0.5', '\"value\":0.9')"
        )
        rows = connection.execute("SELECT name, signature, parts, own, traces FROM records")
        for row in rows.fetchall():
            checksum = index._Row(*row[1:], b"").expected_checksum(row[0])
            connection.execute("UPDATE records SET checksum = ? WHERE name = ?", (checksum, row[0]))
    # The rows are sound, and nothing but who made them tells that they are false.
    assert store.read_all(tmp_path) != truth
    user = os.geteuid()
    monkeypatch.setattr(databases.os, "geteuid", lambda: user + 1)
    mine.rename(mine.with_name(mine.name.replace(f"-{user}.", f"-{user + 1}.")))
    before = database_in(own_cache).read_bytes()

    assert store.read_all(tmp_path) == truth
    assert database_in(own_cache).read_bytes() == before


def test_a_link_in_place_of_an_index_empties_no_other_database(
    tmp_path: Path, own_cache: Path
) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE precious (name TEXT)")
    before = (tmp_path / "other.sqlite").read_bytes()
    path = database_in(own_cache)
    path.unlink()
    path.symlink_to(tmp_path / "other.sqlite")

    assert store.read_all(tmp_path) == truth
    assert (tmp_path / "other.sqlite").read_bytes() == before


def test_a_name_that_is_no_unicode_is_kept_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, *_ = some_records(tmp_path)
    try:
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xc3.json"))
    except OSError:
        pytest.skip("this file system takes no such names")
    truth = store.read_all(tmp_path)
    monkeypatch.setattr(store, "from_json", refuse)

    assert len(truth.records) == 3
    assert store.read_all(tmp_path) == truth


def test_an_index_that_has_grown_too_large_begins_anew(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_records(tmp_path)
    truth = store.read_all(tmp_path)
    monkeypatch.setattr(databases, "_MOST_BYTES", 1000)
    before = database_in(own_cache).stat().st_ino
    (own_cache / "aside").hardlink_to(database_in(own_cache))

    assert store.read_all(tmp_path) == truth
    assert database_in(own_cache).stat().st_ino != before


def test_parts_that_records_share_become_one_object(tmp_path: Path) -> None:
    some_records(tmp_path)
    store.read_all(tmp_path)
    first, second, _ = (stored.record for stored in store.read_all(tmp_path).records)

    assert first.ruler is second.ruler
    assert first.task is second.task
    assert first.weights is not second.weights


def test_broken_files_are_named_as_without_an_index(tmp_path: Path) -> None:
    path, *_ = some_records(tmp_path)
    odd = path.with_name("odd.json")
    odd.mkdir()
    (odd / "inside.json").write_text("[]")
    path.with_name("torn.json").write_text('{"schema"')
    path.with_name("newer.json").write_text(json.dumps({"schema": 99}))
    path.with_name("bytes.json").write_bytes(b"\xff")
    path.with_name(".hidden.json").write_text("no record")
    path.with_name("nowhere.json").symlink_to(tmp_path / "nowhere")
    cold, warm = store.read_all(tmp_path), store.read_all(tmp_path)

    assert len(cold.records) == 3
    assert [problem.split(" ")[0].rsplit("/", 1)[1] for problem in cold.problems] == [
        *("bytes.json", "newer.json", "nowhere.json", "odd.json", "inside.json", "torn.json"),
    ]
    assert warm == cold


def test_a_large_folder_is_one_question_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = make_predictions(HITS)
    for seed in range(30):
        store.write(tmp_path, make_record(seed=seed), {store.PREDICTIONS_SUFFIX: predictions})
    store.read_all(tmp_path)
    statements: list[str] = []
    real = index.Index.__init__

    def traced(self: index.Index, connection: sqlite3.Connection | None) -> None:
        assert connection is not None
        connection.set_trace_callback(statements.append)
        real(self, connection)

    monkeypatch.setattr(index.Index, "__init__", traced)
    store.read_all(tmp_path)

    assert len([line for line in statements if line.startswith("SELECT")]) == 2
