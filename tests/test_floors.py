"""The house stands: imports go down, each dependency has one door, and light words stay light."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

import rsbench

ROOT = Path(__file__).parents[1]
PACKAGES = {"rsbench": "rsbench", "rsbench_tasks": "tasks", "rsbench_backbones": "backbones"}

# Dependency -> where it may be imported, by the start of the path.
DOORS = {
    "altair": ("rsbench/report/",),
    "av": ("rsbench/media/video/",),
    "click": ("rsbench/cli/",),
    "h5py": ("rsbench/weights/foreign.py", "tasks/_vtab_hdf5.py"),
    "mmengine": ("rsbench/training/", "rsbench/environment.py"),
    "onnx": ("rsbench/exporting/",),
    "onnxruntime": ("rsbench/exporting/",),
    "pyarrow": ("rsbench/records/",),
    "pytorchvideo": ("backbones/_pytorchvideo_modules.py",),
    "rich": ("rsbench/cli/progress.py", "rsbench/tables/terminal.py"),
    "sklearn": (
        "rsbench/probes/",
        "rsbench/metrics.py",
        "rsbench/data/sample.py",
        "tasks/digits.py",
    ),
    "tensorflow": ("rsbench/weights/foreign.py",),
    "timm": ("backbones/timm.py",),
    "torchvision": ("rsbench/media/", "tasks/", "backbones/"),
    "vl_convert": ("rsbench/report/drawing.py",),
}

# Each of these costs a tenth of a second to several seconds to import.
HEAVY = (
    "altair",
    "av",
    "h5py",
    "mmengine",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "pytorchvideo",
    "scipy",
    "sklearn",
    "tensorflow",
    "timm",
    "torch",
    "torchvision",
    "vl_convert",
)


When = Literal["import", "call", "never"]


class Import(NamedTuple):
    """One imported module, and when the statement runs."""

    name: str
    when: When
    """On importing the file, on calling a function, or for type checkers only."""
    line: int


def _name(path: Path) -> str:
    """Dotted name of a source file: tasks/folder.py is rsbench_tasks.folder."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts[0] = next(package for package, folder in PACKAGES.items() if folder == parts[0])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _files() -> dict[str, Path]:
    files = (path for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.py"))
    return {_name(path): path for path in sorted(files)}


def _statements(node: ast.AST, when: When) -> Iterator[tuple[ast.stmt, When]]:
    for child in ast.iter_child_nodes(node):
        runs = when
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            runs = "never"
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and when == "import":
            runs = "call"
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, runs
        yield from _statements(child, runs)


@cache
def _imports(module: str) -> tuple[Import, ...]:
    """Every module that a file imports anywhere, absolute; submodules count as what they are."""
    path = _files()[module]
    found: list[Import] = []
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for statement, when in _statements(tree, "import"):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            assert isinstance(statement, ast.ImportFrom)
            start = statement.module or ""
            if statement.level:
                package = (
                    module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                )
                anchor = package[: len(package) - statement.level + 1]
                start = ".".join([*anchor, *([start] if start else [])])
            inside = [f"{start}.{alias.name}" for alias in statement.names]
            names = [name if name in _files() else start for name in inside]
        found += [Import(name, when, statement.lineno) for name in dict.fromkeys(names)]
    return tuple(found)


@cache
def _floors() -> dict[str, tuple[int, int]]:
    """Read the drawing in rsbench's docstring: unit -> (floor, which of its strangers)."""
    floors: dict[str, tuple[int, int]] = {}
    for line in (rsbench.__doc__ or "").splitlines():
        match = re.match(r"^ {4}(\d+) {1,2}(.+?)(?:\s{2,}\(.*\))?$", line)
        if match is None:
            continue
        names = re.split(r"[,|]", match[2])
        for position, name in enumerate(word.strip() for word in names if word.strip()):
            full = name if name.startswith("rsbench_") else f"rsbench.{name}"
            floors[full] = (int(match[1]), position)
    return floors


def _unit(module: str) -> str:
    """What stands on a floor: a plug-in package, or a file or package right below rsbench."""
    parts = module.split(".")
    return parts[0] if parts[0] != "rsbench" else ".".join(parts[:2])


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def test_the_drawing_in_the_docstring_names_every_file() -> None:
    free = {"rsbench", "rsbench.__main__"}
    units = {_unit(module) for module in _files()} - free

    assert units == set(_floors()), "rsbench/__init__.py draws the floors; keep it complete"


def test_imports_go_down() -> None:
    floors = _floors()
    wrong = []
    for module, path in _files().items():
        here = _unit(module)
        if here not in floors:
            continue
        for imported in _imports(module):
            there = _unit(imported.name) if _is_ours(imported.name) else here
            if there in (here, "rsbench"):
                continue
            if there not in floors or floors[there][0] >= floors[here][0]:
                wrong.append(f"{path.relative_to(ROOT)}:{imported.line} imports {imported.name}")

    assert not wrong, "\n".join(wrong)


def test_the_main_module_starts_only_the_command_line() -> None:
    assert [each.name for each in _imports("rsbench.__main__") if _is_ours(each.name)] == [
        "rsbench.cli"
    ]


def test_nobody_imports_the_plug_in_packages_by_name() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{imported.line} imports {imported.name}"
        for module, path in _files().items()
        for imported in _imports(module)
        if imported.name.split(".")[0] in ("rsbench_tasks", "rsbench_backbones")
        and _unit(imported.name) != _unit(module)
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dependency", sorted(DOORS))
def test_a_dependency_comes_in_by_its_door_only(dependency: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{imported.line}"
        for module, path in _files().items()
        for imported in _imports(module)
        if imported.name.split(".")[0] == dependency
        and not path.relative_to(ROOT).as_posix().startswith(DOORS[dependency])
    ]

    assert not wrong, f"{dependency} is imported outside {DOORS[dependency]}: {', '.join(wrong)}"


def test_every_dependency_is_declared() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = ("timm", "keras", "tensorflow", "report", "onnx")
    lines = config["options"]["install_requires"] + "".join(
        config["options.extras_require"][extra] for extra in extras
    )
    declared = {re.split(r"[><=~\[; ]", line)[0] for line in lines.split()}
    import_names = {
        "pillow": "PIL",
        "scikit-learn": "sklearn",
        "tensorflow-cpu": "tensorflow",
        "vl-convert-python": "vl_convert",
    }
    known = {import_names.get(name, name) for name in declared}
    used = {
        imported.name.split(".")[0]
        for module in _files()
        for imported in _imports(module)
        if imported.when != "never"
    } - set(PACKAGES)

    assert used - set(sys.stdlib_module_names) <= known


def _import_closure(roots: Iterator[str]) -> dict[str, str]:
    """Modules that importing the roots brings in -> the file that brings each one in."""
    brought: dict[str, str] = {}
    waiting = [(root, "the root") for root in roots]
    while waiting:
        name, by = waiting.pop()
        if name in brought:
            continue
        brought[name] = by
        if not _is_ours(name):
            continue
        parts = name.split(".")
        waiting += [(".".join(parts[:length]), by) for length in range(1, len(parts))]
        if name in _files():
            waiting += [(each.name, name) for each in _imports(name) if each.when == "import"]
    return brought


def test_importing_the_command_line_or_any_plug_in_imports_nothing_heavy() -> None:
    plug_ins = ("rsbench_tasks.", "rsbench_backbones.", "rsbench.protocols.")
    light = ("rsbench.records", "rsbench.tables", "rsbench.metrics", "rsbench.stats")
    roots = (
        module
        for module in _files()
        if (module.startswith(plug_ins) and not module.split(".")[-1].startswith("_"))
        or module.startswith(light)
        or module in ("rsbench.cli", "rsbench.registry", "rsbench.specs", "rsbench.media.sampling")
    )
    heavy = {name: by for name, by in _import_closure(roots).items() if name.split(".")[0] in HEAVY}

    assert not heavy


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("ls", "tasks"),
        ("ls", "protocols"),
        ("ls", "backbones"),
        ("ls", "backbones", "--pretrained"),
        ("check-reference",),
        ("ls", "results"),
        ("weights", "list"),
        ("table", str(ROOT / "results")),
    ],
    ids=lambda words: " ".join(word for word in words if "/" not in word),
)
def test_a_light_command_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    # -X importtime prints one line a module: "import time: self | cumulative | name".
    command = [sys.executable, "-X", "importtime", "-m", "rsbench", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}

    # Paired differences are made of the predictions beside the records, which are Parquet.
    heavy = set(HEAVY) - ({"pyarrow"} if words[0] == "table" else set())
    assert done.returncode == 0, done.stderr[-2000:]
    assert imported.isdisjoint(heavy), sorted(imported & heavy)
