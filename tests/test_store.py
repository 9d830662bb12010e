from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records_factory import make_predictions, make_record, save_record, some_hits

from rsbench.errors import RecordError, RunError
from rsbench.records import store
from rsbench.records.schema import RunRecord, from_json, to_json

HITS = some_hits(80)
FILES = {
    store.PREDICTIONS_SUFFIX: make_predictions(HITS),
    store.HEAD_SUFFIX: b"head",
    store.SPLIT_SUFFIX: b"path,label,split\n",
}


def _everything(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def _start(program: str, *words: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{program}", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_record_lies_where_the_design_says(tmp_path: Path) -> None:
    record = make_record(seed=3)
    path = store.write(tmp_path, record, FILES)
    stem = f"resnet_rs_3d_50-none-s3-{record.key[:8]}"
    folder = tmp_path / "runs" / "kinetics400@sample" / "linear_probe"
    assert path == folder / f"{stem}.json"
    assert {entry.name for entry in folder.iterdir()} == {
        f"{stem}.{suffix}" for suffix in ("json", *FILES)
    }


def test_a_record_comes_back_with_its_files(tmp_path: Path) -> None:
    record = make_record()
    path = store.write(tmp_path, record, FILES)
    back = store.read(path)
    assert back == replace(record, files=back.files, digest=back.digest)
    # Second source: hashlib over the files as they lie there.
    assert back.files == {
        f"{path.stem}.{suffix}": hashlib.sha256(content).hexdigest()
        for suffix, content in FILES.items()
    }
    for suffix, content in FILES.items():
        assert store.read_file(store.Stored(path, back), suffix) == content
    assert len(store.read_predictions(path).ids) == 160
    scores = store.read_scores(store.Stored(path, back), "top1")
    assert scores is not None
    assert scores.scores.tolist() == HITS
    assert store.find(tmp_path, record.key) == (path, back)
    assert store.find(tmp_path, "f" * 64) is None
    assert store.read_all(tmp_path) == (((path, back),), ())


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    assert store.read_all(tmp_path / "nowhere") == ((), ())
    assert store.find(tmp_path / "nowhere", "a" * 64) is None


HOSTILE = (
    "../../../outside",
    "/etc/passwd",
    "..",
    ".",
    "",
    "timm/vit",
    "timm_vit",
    "a\nb",
    "a\x00b",
    "ü",
    "é",
    "x" * 300,
    "x" * 301,
    ".hidden",
    "-rf",
    "net.py:build",
    "CON",
)


def test_no_name_leaves_the_folder_or_collides_with_another(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "results"
    paths = set()
    for name in HOSTILE:
        for part in ("backbone", "weights", "task", "protocol"):
            changes: dict[str, Any] = {part: {"name": name}, "key": "e" * 64}
            path = store.write(root, make_record(**changes), FILES)
            assert path.resolve().is_relative_to(root.resolve())
            assert len(path.relative_to(root).parts) == 4
            assert not path.name.startswith((".", "-"))
            paths.add(path)
    assert len(paths) == 4 * len(HOSTILE)
    assert len(store.read_all(root).records) == len(paths)
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]


def test_the_same_key_replaces_its_record(tmp_path: Path) -> None:
    record = make_record()
    store.write(tmp_path, record, FILES)
    path = store.write(tmp_path, replace(record, cost={"seconds_total": 1.0}), FILES)
    assert store.read(path).cost == {"seconds_total": 1.0}
    assert len(store.read_all(tmp_path).records) == 1


def test_keys_that_begin_alike_do_not_replace_each_other(tmp_path: Path) -> None:
    keys = ["e" * 8 + "0" * 56, "e" * 8 + "1" * 56, "e" * 16 + "2" * 48, "e" * 16 + "3" * 48]
    for key in keys:
        store.write(tmp_path, make_record(key=key), FILES)
    assert {stored.record.key for stored in store.read_all(tmp_path).records} == set(keys)
    for key in keys:
        found = store.find(tmp_path, key)
        assert found is not None
        assert found.record.key == key


BROKEN = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "words": lambda text: "hello",
    "list": lambda text: "[]",
    "newer": lambda text: json.dumps({**json.loads(text), "schema": 2}),
    "edited": lambda text: text.replace('"seed": 0', '"seed": 1'),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_record_is_named_and_left_alone(tmp_path: Path, how: str) -> None:
    whole = store.write(tmp_path, make_record(seed=5), FILES)
    record = make_record()
    broken = store.write(tmp_path, record, FILES)
    text = BROKEN[how](broken.read_text())
    broken.write_text(text)
    contents = store.read_all(tmp_path)
    assert [stored.path for stored in contents.records] == [whole]
    assert len(contents.problems) == 1
    assert contents.problems[0].startswith(broken.relative_to(tmp_path).as_posix())
    assert "\n" not in contents.problems[0]
    # Running the cell again neither takes it for finished nor writes over it.
    assert store.find(tmp_path, record.key) is None
    again = store.write(tmp_path, record, FILES)
    assert again != broken
    assert broken.read_text() == text
    assert store.find(tmp_path, record.key) == (again, store.read(again))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = store.write(tmp_path, make_record(), FILES)
    path.write_bytes(b"\xff\xfe\x00")
    assert "not text" in store.read_all(tmp_path).problems[0]


def test_a_folder_named_like_a_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs" / "odd.json").mkdir(parents=True)
    assert "is a folder" in store.read_all(tmp_path).problems[0]


@pytest.mark.parametrize("suffix", FILES)
def test_a_run_whose_files_are_gone_or_changed_is_not_finished(tmp_path: Path, suffix: str) -> None:
    record = make_record()
    path = store.write(tmp_path, record, FILES)
    beside = path.with_name(f"{path.stem}.{suffix}")
    beside.write_bytes(b"other")
    stored = store.Stored(path, store.read(path))
    with pytest.raises(RecordError, match="was changed"):
        store.read_file(stored, suffix)
    assert store.find(tmp_path, record.key) is None
    beside.unlink()
    with pytest.raises(RecordError, match="can't be read"):
        store.read_file(stored, suffix)
    assert store.find(tmp_path, record.key) is None
    assert store.write(tmp_path, record, FILES) == path
    assert store.find(tmp_path, record.key) is not None


def test_a_record_without_a_head_says_so(tmp_path: Path) -> None:
    path = save_record(tmp_path, HITS)
    with pytest.raises(RecordError, match=r"head\.safetensors"):
        store.read_file(store.Stored(path, store.read(path)), store.HEAD_SUFFIX)


def test_a_record_can_not_point_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.predictions.parquet").write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    path = save_record(tmp_path, HITS)
    record = make_record(files={"../../../secret.predictions.parquet": digest})
    path.write_text(to_json(record))
    with pytest.raises(RecordError, match="beside it"):
        store.read_predictions(path)


def test_nan_in_a_record_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cost\.seconds"):
        store.write(tmp_path, make_record(cost={"seconds": float("nan")}), FILES)
    assert _everything(tmp_path) == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("failing_write", [1, 2, 4])
def test_a_disk_that_refuses_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, failing_write: int
) -> None:
    record = make_record()
    store.write(tmp_path, record, FILES)
    before = _everything(tmp_path)
    count = 0
    real = os.fsync

    def refuse(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == failing_write:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    changed = {**FILES, store.SPLIT_SUFFIX: b"other"}
    with pytest.raises(RunError) as caught:
        store.write(tmp_path, record, changed)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert os.strerror(number) in message
    assert "resnet_rs_3d_50" in message
    assert str(tmp_path) in message
    assert "\n" not in message
    assert _everything(tmp_path) == before


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    # The kernel itself refuses here: no file of this process may grow beyond 1,500 bytes.
    program = """
import resource
from pathlib import Path
from records_factory import make_record
from rsbench.errors import RunError
from rsbench.records import store
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
try:
    store.write(Path(sys.argv[1]), make_record(), {store.SPLIT_SUFFIX: b"x" * 1000})
except RunError as fault:
    print(fault)
"""
    process = _start(program, str(tmp_path))
    printed, errors = process.communicate(timeout=120)
    assert "could not be saved" in printed, errors
    assert "free some space" in printed
    assert _everything(tmp_path) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told_before_the_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="make it writable"):
        store.check_writable(tmp_path / "results")
    with pytest.raises(RunError, match="make it writable"):
        store.write(tmp_path / "results", make_record(), FILES)


def test_a_file_in_place_of_the_folder_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    for attempt in (
        lambda: store.check_writable(tmp_path / "results"),
        lambda: store.write(tmp_path / "results", make_record(), FILES),
    ):
        with pytest.raises(RunError, match="results") as caught:
            attempt()
        assert caught.value.exit_code == 2
    assert (tmp_path / "results").read_text() == "mine"


def test_a_read_only_file_system_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> object:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match="Read-only file system"):
        store.check_writable(tmp_path)


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    store.check_writable(tmp_path / "results")
    assert _everything(tmp_path) == {}


def test_leftovers_are_ignored_and_old_ones_removed(tmp_path: Path) -> None:
    path = store.write(tmp_path, make_record(), FILES)
    old, fresh = path.with_name(".old.tmp"), path.with_name(".fresh.tmp")
    mine = path.with_name("mine.tmp")
    for leftover in (old, fresh, mine):
        leftover.write_bytes(b'{"schema"')
    long_ago = time.time() - 2 * 3600
    for leftover in (old, mine):
        os.utime(leftover, (long_ago, long_ago))
    assert len(store.read_all(tmp_path).records) == 1
    assert store.read_all(tmp_path).problems == ()
    store.write(tmp_path, make_record(seed=1), FILES)
    assert not old.exists()
    assert fresh.exists()
    assert mine.exists()


@pytest.mark.parametrize("moment", range(9))
def test_a_write_killed_at_any_moment_leaves_all_or_nothing(tmp_path: Path, moment: int) -> None:
    # The process kills itself on entering its n-th call to the file system.
    program = """
import os, signal
from pathlib import Path
from records_factory import make_record
from rsbench.records import store
root, moment, count = Path(sys.argv[1]), int(sys.argv[2]), -1
def counted(real):
    def call(*arguments, **options):
        global count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
os.fsync, Path.replace, Path.unlink = map(counted, (os.fsync, Path.replace, Path.unlink))
files = {store.HEAD_SUFFIX: b"head two", store.SPLIT_SUFFIX: b"split two"}
store.write(root, make_record(cost={"n": 2}), files)
"""
    first = {store.HEAD_SUFFIX: b"head one", store.SPLIT_SUFFIX: b"split one"}
    store.write(tmp_path, make_record(cost={"n": 1}), first)
    process = _start(program, str(tmp_path), str(moment))
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGKILL, 0), errors
    contents = store.read_all(tmp_path)
    assert contents.problems == ()
    for stored in contents.records:
        # Whatever record is there stands beside its own files.
        word = {1: b"one", 2: b"two"}[int(str(stored.record.cost["n"]))]
        assert store.read_file(stored, store.HEAD_SUFFIX) == b"head " + word
        assert store.read_file(stored, store.SPLIT_SUFFIX) == b"split " + word
    path = store.write(tmp_path, make_record(cost={"n": 3}), FILES)
    assert store.find(tmp_path, make_record().key) == (path, store.read(path))


def test_two_processes_write_into_one_folder_at_once(tmp_path: Path) -> None:
    program = """
from pathlib import Path
from records_factory import make_record
from rsbench.records import store
who = sys.argv[2]
for turn in range(25):
    # Seed 0 is shared: the same key from both, with other files.
    files = {store.HEAD_SUFFIX: who.encode() * 50_000, store.SPLIT_SUFFIX: who.encode()}
    store.write(Path(sys.argv[1]), make_record(cost={"who": who}), files)
    store.write(Path(sys.argv[1]), make_record(seed=int(who) * 100 + turn), files)
"""
    processes = [_start(program, str(tmp_path), who) for who in ("1", "2")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    contents = store.read_all(tmp_path)
    assert contents.problems == ()
    assert len(contents.records) == 51
    for stored in contents.records:
        store.read_file(stored, store.HEAD_SUFFIX)
        store.read_file(stored, store.SPLIT_SUFFIX)
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    record = make_record(data={"missing": tuple(f"clip {n}" for n in range(2000))})
    path = store.write(tmp_path, record, {})
    seen: list[RunRecord] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(from_json(path.read_text(), where="r"))

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(20):
        store.write(tmp_path, replace(record, cost={"turn": turn}), {})
    done.set()
    reader.join()
    assert seen
    assert all(each.key == record.key for each in seen)
