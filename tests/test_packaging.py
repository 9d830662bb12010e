"""The wheel holds what it must, works away from the checkout, and takes plug-ins of other packages.

One wheel is built from a copy of the sources and installed, without its dependencies, into a fresh
environment that borrows the dependencies of this one. Nothing is fetched.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import rsbench

ROOT = Path(__file__).parents[1]
PACKAGES = {"rsbench", "rsbench_backbones", "rsbench_tasks"}


class Environment(NamedTuple):
    """A fresh environment and a folder away from the checkout to work in."""

    python: Path
    site_packages: Path
    home: Path

    def run(self, *words: str | Path) -> str:
        """Run a program of the environment in its own home; give what it printed."""
        names = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
        variables = {name: os.environ[name] for name in names if name in os.environ}
        variables |= {
            "HOME": str(self.home),
            "RSBENCH_CACHE": str(self.home / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [self.python.parent / words[0], *words[1:]],
            capture_output=True,
            text=True,
            cwd=self.home,
            env=variables,
            timeout=300,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def _config() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def _build_wheel(source: Path, into: Path) -> Path:
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", into, source]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    (wheel,) = into.glob("*.whl")
    return wheel


def _install(python: Path, wheel: Path) -> None:
    words = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    words += ["--disable-pip-version-check", "--no-deps", "--no-index", wheel]
    subprocess.run(words, check=True, timeout=300, capture_output=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="the wheel is built with the package `build`")
    source = tmp_path_factory.mktemp("source")
    for folder in ("rsbench", "tasks", "backbones"):
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return _build_wheel(source, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    pytest.importorskip("pip", reason="the wheel is installed with pip")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    printed = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True)
    site_packages = Path(printed.stdout.strip())
    # Folders named in a .pth file join sys.path, last, and their own .pth files are not read: the
    # dependencies are borrowed, an editable rsbench is not.
    borrowed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    _install(python, wheel)
    return Environment(python, site_packages, tmp_path_factory.mktemp("home"))


def _run_json(environment: Environment, *words: str) -> dict[str, object]:
    """Run one cell; give the object that `--json` prints for it."""
    printed = environment.run("rsbench", "run", *words, "--json")
    found = json.loads(printed)
    cell = found[0] if isinstance(found, list) else found
    assert isinstance(cell, dict)
    return cell


def test_the_package_list_equals_the_folders() -> None:
    listed = set(_config()["options"]["packages"].split())
    folders = {"rsbench": "rsbench", "tasks": "rsbench_tasks", "backbones": "rsbench_backbones"}
    present = set()
    for folder, package in folders.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            inside = path.parent.relative_to(ROOT / folder).parts
            present.add(".".join([package, *inside]))

    assert listed == present


def test_the_wheel_brings_no_general_name_and_all_markers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    static = {path.name for path in (ROOT / "rsbench" / "report" / "static").iterdir()}
    assert {f"rsbench/report/static/{name}" for name in static} <= names
    assert static >= {"page.css", "page.js"}
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_wheel_holds_every_source_file(wheel: Path) -> None:
    folders = {"rsbench": "rsbench", "tasks": "rsbench_tasks", "backbones": "rsbench_backbones"}
    wanted = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in folders.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}

    assert names == wanted


def test_the_installed_package_is_the_wheel_and_not_the_checkout(environment: Environment) -> None:
    program = (
        "import rsbench, rsbench_tasks, rsbench_backbones as b;"
        "print(rsbench.__file__); print(rsbench_tasks.__path__[0]); print(b.__path__[0])"
    )
    places = environment.run("python", "-c", program).split()

    assert len(places) == 3
    assert all(Path(place).is_relative_to(environment.site_packages) for place in places)


def test_the_installed_command_says_its_version(environment: Environment) -> None:
    assert rsbench.__version__ in environment.run("rsbench", "--version")
    assert rsbench.__version__ in environment.run("python", "-m", "rsbench", "--version")
    assert _config()["metadata"]["version"] == rsbench.__version__


def test_the_installed_command_lists_the_plug_ins_of_the_checkout(environment: Environment) -> None:
    listed = json.loads(environment.run("rsbench", "ls", "tasks", "--json"))
    files = {path.stem for path in (ROOT / "tasks").glob("[!_]*.py")}

    assert {each["name"] for each in listed} == files


def test_the_installed_command_runs_a_task_away_from_the_checkout(environment: Environment) -> None:
    words = ("--task", "folder@sample", "--backbone", "tiny_2d", "--results", "first")
    cell = _run_json(environment, *words)

    assert cell["task"] == "folder@sample"
    assert cell["n_expected"] == cell["n_evaluated"]
    assert "tiny_2d" in environment.run("rsbench", "table", "first")


def test_no_graphics_library_of_the_system_is_needed(environment: Environment) -> None:
    # OpenCV, which comes with mmengine, can't be imported where libGL is not installed.
    program = (
        "import sys; sys.modules['cv2'] = None;"
        "import rsbench.cli, rsbench.runner, rsbench.training.loop;"
        "from rsbench.environment import describe; print(sorted(describe()))"
    )

    assert "torch" in environment.run("python", "-c", program)


PLUG_IN = '''
"""Which way the stripes run: 32 small pictures, drawn by code."""

from pathlib import Path

from rsbench.metrics import TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task

CLASSES = ("across", "down")


def write(root: Path) -> None:
    import numpy as np
    from PIL import Image

    for split in ("train", "test"):
        (root / split).mkdir()
        for index in range(16):
            stripes = np.zeros((32, 32, 3), dtype=np.uint8)
            rows = stripes if index % 2 == 0 else stripes.swapaxes(0, 1)
            rows[index // 2 % 4 :: 4] = 255
            Image.fromarray(stripes).save(root / split / f"{CLASSES[index % 2]}_{index:02}.png")


def load(root: Path, split: str) -> Split:
    paths = sorted((root / split).glob("*.png"))
    items = tuple(
        Item(
            id=f"{split}/{path.name}", source=path, target=CLASSES.index(path.stem.split("_")[0])
        )
        for path in paths
    )
    return Split(items=items, classes=CLASSES, num_official=16)


TASK = Task(
    name="stripes",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1,),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(write=write, pixels=32),
    how_to_get="It is drawn by code: there is only the sample.",
    title="Which way the stripes run",
    licence="Apache-2.0",
    citation="none",
)
'''

PLUG_IN_SETUP = """
[metadata]
name = stripes-for-rsbench
version = 1.0

[options]
py_modules = stripes_task

[options.entry_points]
rsbench.tasks =
    stripes = stripes_task:TASK
"""


def _write_package(folder: Path, files: Sequence[tuple[str, str]]) -> Path:
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_task_of_another_installed_package_is_found_run_and_tabled(
    environment: Environment, tmp_path: Path
) -> None:
    build_system = '[build-system]\nrequires = ["setuptools"]\n'
    build_system += 'build-backend = "setuptools.build_meta"\n'
    (tmp_path / "source").mkdir()
    files = [
        ("stripes_task.py", PLUG_IN),
        ("setup.cfg", PLUG_IN_SETUP),
        ("pyproject.toml", build_system),
    ]
    source = _write_package(tmp_path / "source", files)
    _install(environment.python, _build_wheel(source, tmp_path / "dist"))

    listed = json.loads(environment.run("rsbench", "ls", "tasks", "--json"))
    words = ("--task", "stripes", "--backbone", "tiny_2d", "--results", "second")
    cell = _run_json(environment, *words)
    table = environment.run("rsbench", "table", "second")

    assert "stripes" in {each["name"] for each in listed}
    assert (cell["task"], cell["n_evaluated"]) == ("stripes@sample", 16)
    assert "stripes@sample" in table
    assert "tiny_2d" in table
