"""One process has a folder to itself: two runs of one cell do not take each other's checkpoints."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import write_pictures

from rsbench import claims, runner
from rsbench.cells import RunRequest
from rsbench.claims import claimed, remove_abandoned
from rsbench.errors import DiskError
from rsbench.records import store
from rsbench.runner import Finished

HOLDER = """
import sys, time
from pathlib import Path
from rsbench.claims import claimed
with claimed(Path(sys.argv[1]), waiting=lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


def nobody() -> None:
    raise AssertionError("nobody has the folder")


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that has the folder until it is killed."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_free_folder_is_had_at_once_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "key"
    for name in ("one", "two"):
        with claimed(folder, waiting=nobody) as waited:
            assert not waited
            (folder / name).write_text(name)

    assert {path.name for path in folder.iterdir()} == {"one", "two"}


def test_an_empty_folder_does_not_stay(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "key", waiting=nobody):
        raise ZeroDivisionError

    assert not (tmp_path / "key").exists()


def test_a_killed_process_has_nothing_any_more(tmp_path: Path) -> None:
    process = hold(tmp_path / "key")
    says: list[str] = []

    def killing() -> None:
        says.append("waiting")
        process.send_signal(signal.SIGKILL)

    with claimed(tmp_path / "key", waiting=killing) as waited:
        assert waited
    process.wait(timeout=60)

    assert says == ["waiting"]


def test_who_waited_has_the_folder_that_is_there(tmp_path: Path) -> None:
    # The holder removes the folder at its end, as a run does; a third one must not have it beside
    # the one that waited.
    folder = tmp_path / "key"
    is_waiting, has_it = threading.Event(), threading.Event()
    release = threading.Event()

    def wait() -> None:
        with claimed(folder, waiting=is_waiting.set) as waited:
            assert waited
            has_it.set()
            release.wait(60)

    with claimed(folder, waiting=nobody):
        thread = threading.Thread(target=wait)
        thread.start()
        assert is_waiting.wait(60)
        shutil.rmtree(folder)
        assert not has_it.is_set()
    assert has_it.wait(60)
    assert folder.is_dir()
    descriptor = os.open(folder, os.O_RDONLY)
    assert not claims._is_free(descriptor)
    os.close(descriptor)
    release.set()
    thread.join(60)


def test_many_at_once_have_it_one_after_the_other(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            with claimed(tmp_path / "key", waiting=lambda: None):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.002)
                inside.remove(number)
                shutil.rmtree(tmp_path / "key")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert most == [1] * 30


def test_a_claim_ends_though_a_child_has_the_descriptor_too(tmp_path: Path) -> None:
    # A worker that reads data is forked while its run has the folder, and may outlive the run.
    reading, writing = os.pipe()
    with claimed(tmp_path / "key", waiting=nobody):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # Until the parent is done.
            os._exit(0)
    try:
        with claimed(tmp_path / "key", waiting=nobody) as waited:
            assert not waited
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "fresh"
    process = hold(folder)
    (folder / "kept").write_text("x")
    (tmp_path / "weights").mkdir()
    (folder / "weights").symlink_to(tmp_path / "weights", target_is_directory=True)

    remove_abandoned(folder)
    assert (folder / "kept").is_file()
    process.kill()
    process.wait(timeout=60)
    remove_abandoned(folder)
    remove_abandoned(folder)

    assert not folder.exists()
    assert (tmp_path / "weights").is_dir(), "what a link leads to stays"


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="RSBENCH_CACHE"):  # noqa: SIM117 - only the entry raises
        with claimed(tmp_path / "file" / "key", waiting=nobody):
            raise AssertionError


def test_the_same_cell_in_another_process_is_waited_for_and_not_run_again(tmp_path: Path) -> None:
    is_waiting = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "waiting for it" in line:
            is_waiting.set()

    request = RunRequest(
        task="folder",
        backbone="tiny_2d",
        protocol="linear_probe",
        pixels=16,
        data=write_pictures(tmp_path / "data"),
        overrides={"strengths": "3"},
        results=tmp_path / "results",
        cache_root=tmp_path / "cache",
        say=say,
    )
    first = runner.run(request)
    aside = (tmp_path / "results").rename(tmp_path / "aside")
    work = tmp_path / "cache" / "work" / first.record.key
    found: list[Finished] = []
    thread = threading.Thread(target=lambda: found.append(runner.run(request)))
    with claimed(work, waiting=nobody):
        thread.start()
        assert is_waiting.wait(120)
        # The other process writes its record, and ends.
        written = aside / first.path.relative_to(tmp_path / "results")
        store.adopt(tmp_path / "results", store.Stored(written, first.record))
    thread.join(120)

    (second,) = found
    assert second.reused
    assert second.record == first.record
    assert sum("another process is running tiny_2d on folder" in line for line in said) == 1
    assert not work.exists()
