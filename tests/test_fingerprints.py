"""Digests of content: right, remembered, and never stale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rsbench.data import fingerprints
from rsbench.data.fingerprints import Fingerprints


def test_a_file_is_hashed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    hashed: list[Path] = []
    real = fingerprints.digest_file
    monkeypatch.setattr(
        fingerprints, "digest_file", lambda path: (hashed.append(path), real(path))[1]
    )
    # As if the file had been lying there for an hour.
    clock = fingerprints.time.time_ns
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: clock() + 3600 * 10**9)

    first = Fingerprints(tmp_path / "memory").digest(path)
    again = Fingerprints(tmp_path / "memory").digest(path)
    path.write_bytes(b"two!")
    changed = Fingerprints(tmp_path / "memory").digest(path)

    # sha256 of "one", as the command `printf one | sha256sum` gives it.
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert again == first
    assert changed != first
    assert len(hashed) == 2


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")

    Fingerprints(tmp_path / "memory").digest(path)

    assert not (tmp_path / "memory").exists()


def test_a_torn_line_of_the_memory_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    clock = fingerprints.time.time_ns
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: clock() + 3600 * 10**9)
    expected = Fingerprints(tmp_path / "memory").digest(path)
    (memory,) = (tmp_path / "memory").iterdir()
    memory.write_bytes(memory.read_bytes()[:-20])

    assert Fingerprints(tmp_path / "memory").digest(path) == expected


def test_a_folder_is_named_by_the_files_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(b"1")
    first = Fingerprints(tmp_path / "memory").digest(folder)
    (folder / "deep" / "a").rename(folder / "deep" / "b")

    assert Fingerprints(tmp_path / "memory").digest(folder) != first


def test_an_array_is_named_by_values_shape_and_type(tmp_path: Path) -> None:
    memory = Fingerprints(tmp_path)
    array = np.arange(6, dtype=np.uint8)

    digests = {
        memory.digest(each)
        for each in (array, array.copy(), array.reshape(2, 3), array.astype(np.int8), array + 1)
    }

    assert len(digests) == 4


def test_a_file_that_is_not_there_has_a_digest_until_it_is(tmp_path: Path) -> None:
    memory = Fingerprints(tmp_path / "memory")
    before = memory.digest(tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes(b"one")

    assert before == "unreadable: FileNotFoundError"
    assert memory.digest(tmp_path / "a.bin") != before
