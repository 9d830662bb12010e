"""Versions out of range and packages that do not import are found."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from rsbench import installation
from rsbench.findings import Check
from rsbench.installation import fits, look_at_installation


def answers() -> dict[str, Check]:
    return {check.name: check for check in look_at_installation()}


@pytest.fixture
def _no_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "IMPORTS", {})


def plant_version(monkeypatch: pytest.MonkeyPatch, name: str, version: str | None) -> None:
    real = metadata.version

    def planted(distribution: str) -> str:
        if distribution != name:
            return real(distribution)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", planted)


@pytest.mark.usefixtures("_no_imports")
def test_this_environment_is_sound() -> None:
    checks = answers()

    assert list(checks) == [
        "versions: python",
        "versions: packages",
        "versions: torch and torchvision",
    ]
    assert [check for check in checks.values() if not check.ok] == []


# As PEP 440 has it, for plain releases.
@pytest.mark.parametrize(
    ("version", "ranges", "wanted"),
    [
        ("2.11.0", ">=2.6", True),
        ("2.5.1", ">=2.6", False),
        ("2.10", ">=2.9", True),
        ("2.6", ">=2.6.0", True),
        ("2.11.0+cpu", "==2.11.0", True),
        ("2.11.1", "==2.11.0", False),
        ("2.11.1", "==2.11.*", True),
        ("2.12.0", "==2.11.*", False),
        ("8.3.2", "!=8.3.*,>=5.3.0", False),
        ("10.0", "!=8.3.*,>=5.3.0", True),
        ("3.0", ">=2.6,<3", False),
        ("2.7.0a0+git1", ">2.6", True),
        ("1.0", "", True),
        ("1", "<=1.0", True),
    ],
)
def test_ranges_are_understood(version: str, ranges: str, wanted: bool) -> None:
    assert fits(version, ranges) is wanted


@pytest.mark.parametrize(("version", "ranges"), [("new", ">=1"), ("1.0", "~1")])
def test_what_is_no_version_or_range_is_refused(version: str, ranges: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        fits(version, ranges)


@pytest.mark.usefixtures("_no_imports")
def test_a_package_below_its_range_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_version(monkeypatch, "av", "9.2.0")

    check = answers()["versions: packages"]

    assert not check.ok
    # What the installed metadata declares: setup.cfg as it was when this environment was made.
    declared = next(each for each in metadata.requires("rsbench") or [] if each.startswith("av>"))
    assert check.detail == f"av must be {declared.removeprefix('av')}, is 9.2.0"
    assert "pip install" in check.next_step


@pytest.mark.usefixtures("_no_imports")
def test_a_missing_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_version(monkeypatch, "mmengine", None)

    check = answers()["versions: packages"]

    assert check.detail == "mmengine must be >=0.10.7, is missing"


@pytest.mark.usefixtures("_no_imports")
def test_a_python_out_of_range_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.platform, "python_version", lambda: "3.10.14")

    check = answers()["versions: python"]

    assert check.detail == "Python must be >=3.11; it is 3.10.14"


@pytest.mark.usefixtures("_no_imports")
def test_torch_beside_another_torch_s_torchvision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_version(monkeypatch, "torch", "2.9.1")

    check = answers()["versions: torch and torchvision"]

    assert not check.ok
    assert "torch is 2.9.1" in check.detail


# The table of pairs in torchvision's README: 2.6 with 0.21, 2.7 with 0.22, 2.8 with 0.23.
@pytest.mark.usefixtures("_no_imports")
@pytest.mark.parametrize(
    ("torch", "torchvision", "ok"),
    [("2.6.0", "0.21.0", True), ("2.8.0", "0.23.0", True), ("2.8.0", "0.22.1", False)],
)
def test_a_pair_is_judged_where_torchvision_names_no_torch(
    torch: str, torchvision: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"torch": torch, "torchvision": torchvision}
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name, "99"))
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy"])

    assert answers()["versions: torch and torchvision"].ok is ok


def plant_module(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str) -> None:
    """Put a broken module where a fresh Python finds it first."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize("name", ["av", "torch", "torchvision"])
def test_a_package_that_does_not_import_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    question = "av" if name == "av" else "torch and torchvision"
    programs = {question: f"import {name}"}
    assert f"{name}" in installation.IMPORTS[question]
    monkeypatch.setattr(installation, "IMPORTS", programs)
    plant_module(monkeypatch, tmp_path, name, "raise OSError('undefined symbol: planted')")

    check = answers()[f"imports: {question}"]

    assert not check.ok
    assert check.detail == "can't be imported: OSError: undefined symbol: planted"


def test_operators_that_are_missing_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant_module(monkeypatch, tmp_path, "torch", "def rand(*shape): return None")
    # What a torchvision of another torch does: it imports, and its operators do not exist.
    (tmp_path / "torchvision.py").write_text(
        "class ops:\n"
        "    @staticmethod\n"
        "    def nms(*boxes, iou_threshold):\n"
        "        raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    program = installation.IMPORTS["torch and torchvision"]
    monkeypatch.setattr(installation, "IMPORTS", {"torch and torchvision": program})

    check = answers()["imports: torch and torchvision"]

    assert "operator torchvision::nms does not exist" in check.detail


def test_a_package_that_ends_the_process_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant_module(monkeypatch, tmp_path, "av", "import os; os.abort()")
    monkeypatch.setattr(installation, "IMPORTS", {"av": installation.IMPORTS["av"]})

    check = answers()["imports: av"]

    # SIGABRT.
    assert check.detail == "importing it ended the process with signal 6"


def test_a_package_that_never_ends_importing_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant_module(monkeypatch, tmp_path, "av", "import time; time.sleep(60)")
    monkeypatch.setattr(installation, "IMPORTS", {"av": installation.IMPORTS["av"]})
    monkeypatch.setattr(installation, "IMPORT_SECONDS", 1)

    assert "must import within 1 s" in answers()["imports: av"].detail


def test_the_real_decoder_library_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "IMPORTS", {"av": installation.IMPORTS["av"]})

    assert answers()["imports: av"].ok
