from __future__ import annotations

import getpass
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import rsbench
from rsbench import environment


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    environment._collected_once.cache_clear()


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "rsbench").mkdir()
    (tmp_path / "rsbench" / "__init__.py").write_text('"""One."""\n')
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_the_description_is_flat_and_goes_into_a_record() -> None:
    described = environment.describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    for value in described.values():
        assert value is None or type(value) in (str, int, float, bool)
        assert not isinstance(value, float) or math.isfinite(value)


def test_versions_are_those_the_libraries_state() -> None:
    described = environment.describe()
    assert described["rsbench"] == rsbench.__version__
    assert described["python"] == platform.python_version()
    assert described["numpy"] == np.__version__
    assert str(described["torch"]) == str(torch.__version__).partition("+")[0] or (
        described["torch"] == str(torch.__version__)
    )
    assert described["threads"] == torch.get_num_threads()
    assert described["cores"] == os.cpu_count()


def test_no_host_user_or_folder_is_named() -> None:
    text = json.dumps(environment.describe())
    # A host or user called "x86" would be in the text by chance: names of a few letters prove nil.
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 5 or name not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert str(Path.cwd()) not in text


def test_a_collector_that_fails_costs_a_note_and_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmengine.utils.dl_utils", None)  # an import of it now fails
    described = environment.describe()
    assert "mmengine raised" in str(described["environment_note"])
    assert "gcc" not in described
    assert described["rsbench"] == rsbench.__version__


def test_the_commit_is_gits(checkout: Path) -> None:
    assert environment.commit_of(checkout) == (_git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("path", ["rsbench/__init__.py", "rsbench/fresh.py"])
def test_changed_and_untracked_code_is_dirty(checkout: Path, path: str) -> None:
    (checkout / path).write_text('"""Two."""\n')
    assert environment.commit_of(checkout)[1] is True


def test_results_do_not_make_a_checkout_dirty(checkout: Path) -> None:
    (checkout / "results").mkdir()
    (checkout / "results" / "README.md").write_text("# Results\n")
    assert environment.commit_of(checkout)[1] is False


def test_a_copy_inside_another_checkout_has_no_commit(checkout: Path) -> None:
    site = checkout / "venv" / "site-packages"
    (site / "rsbench").mkdir(parents=True)
    (site / "rsbench" / "__init__.py").write_text('"""Installed."""\n')
    assert environment.commit_of(site) == (None, None)
    _git(checkout, "add", "-f", "venv")
    assert environment.commit_of(site) == (None, None)


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert environment.commit_of(tmp_path) == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.commit_of(checkout) == (None, None)


def test_a_hooks_surroundings_do_not_mislead(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    expected = _git_head_file(checkout)
    assert environment.commit_of(checkout)[0] == expected


def _git_head_file(checkout: Path) -> str:
    head = (checkout / ".git" / "HEAD").read_text().split()[1]
    return (checkout / ".git" / head).read_text().strip()
