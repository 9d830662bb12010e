"""Where a task's data is looked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rsbench_tasks.kinetics400 import TASK

from rsbench.data.roots import Root, cache_root, config_path, find_root, variable_name
from rsbench.errors import DataError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in ("RSBENCH_DATA_KINETICS400", "RSBENCH_CONFIG", "RSBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def _configure(tmp_path, text):
    path = tmp_path / "config" / "rsbench" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def _folder(path):
    path.mkdir()
    return path


def test_nothing_configured_gives_none():
    assert find_root(TASK) is None


def test_what_is_given_goes_before_the_environment_and_that_before_the_config_file(
    tmp_path, monkeypatch
):
    given, named, written = (_folder(tmp_path / name) for name in ("given", "named", "written"))
    config = _configure(tmp_path, f'[data]\nkinetics400 = "{written}"\n')

    assert find_root(TASK) == Root(path=written, said_by=str(config))
    monkeypatch.setenv("RSBENCH_DATA_KINETICS400", str(named))
    assert find_root(TASK) == Root(path=named, said_by="RSBENCH_DATA_KINETICS400")
    assert find_root(TASK, given) == Root(path=given, said_by="--data")


def test_a_given_folder_that_is_missing_is_an_error_that_says_how_to_get_the_data(tmp_path):
    with pytest.raises(DataError) as error:
        find_root(TASK, tmp_path / "absent")

    message = str(error.value)
    assert str(tmp_path / "absent") in message
    assert "--data" in message
    assert TASK.how_to_get in message
    assert "\n" not in message


def test_a_missing_folder_never_falls_through_to_the_next_place(tmp_path, monkeypatch):
    written = _folder(tmp_path / "written")
    _configure(tmp_path, f'[data]\nkinetics400 = "{written}"\n')
    monkeypatch.setenv("RSBENCH_DATA_KINETICS400", str(tmp_path / "absent"))

    with pytest.raises(DataError, match="as RSBENCH_DATA_KINETICS400 says"):
        find_root(TASK)


def test_a_missing_folder_of_the_config_file_names_the_file(tmp_path):
    config = _configure(tmp_path, '[data]\nkinetics400 = "/nowhere/k400"\n')

    with pytest.raises(DataError, match=f"as {config} says"):
        find_root(TASK)


def test_relative_paths_of_the_config_file_start_at_its_folder(tmp_path):
    config = _configure(tmp_path, '[data]\nkinetics400 = "clips"\n')
    folder = _folder(config.parent / "clips")

    root = find_root(TASK)

    assert root is not None
    assert root.path == folder


def test_a_file_may_be_given(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("path,label\n")

    assert find_root(TASK, path) == Root(path=path, said_by="--data")


def test_a_home_folder_is_expanded(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()

    assert find_root(TASK, Path("~")) == Root(path=folder, said_by="--data")


def test_the_variable_of_a_task_is_its_name_in_capitals():
    assert variable_name("kinetics400") == "RSBENCH_DATA_KINETICS400"
    assert variable_name("my-clips.v2") == "RSBENCH_DATA_MY_CLIPS_V2"


@pytest.mark.parametrize("text", ["[data\n", "[data]\nkinetics400 = 3\n", 'data = "x"\n'])
def test_a_config_file_that_can_not_be_understood_is_named(tmp_path, text):
    config = _configure(tmp_path, text)

    with pytest.raises(DataError, match=str(config)):
        find_root(TASK)


def test_a_named_config_file_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("RSBENCH_CONFIG", str(tmp_path / "absent.toml"))

    with pytest.raises(DataError, match="RSBENCH_CONFIG must name a config file"):
        find_root(TASK)


def test_other_tasks_of_the_config_file_are_none_of_ours(tmp_path):
    _configure(tmp_path, '[data]\nucf101 = "/nowhere"\n')

    assert find_root(TASK) is None
    with pytest.raises(DataError):
        find_root(replace(TASK, name="ucf101"))


def test_the_xdg_folders_are_obeyed_at_call_time(monkeypatch, tmp_path):
    # XDG Base Directory Specification 0.8: ~/.config and ~/.cache unless the variables say else.
    assert config_path() == tmp_path / "config" / "rsbench" / "config.toml"
    assert cache_root() == tmp_path / "home" / ".cache" / "rsbench"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert config_path() == tmp_path / "home" / ".config" / "rsbench" / "config.toml"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "rsbench"
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
