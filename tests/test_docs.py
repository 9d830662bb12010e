"""What README and docs/ tell people to type works: every command and program in them is run.

Each page is one story, run from top to bottom in one empty folder. HTML comments before a code
block speak to this test and are invisible on the page:

- ``<!-- tested with: OPTIONS -->`` adds options to the `rsbench run` and `rsbench ablate` lines of
  the next block: the size a reader wants is not the size a test has time for. A repeated option
  wins over the page's.
- ``<!-- file: NAME -->`` writes the next block to that file; ``<!-- file: NAME, run -->`` runs it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rsbench.cli import main
from rsbench.registry import find_backbone

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

_BLOCK = re.compile(r"((?:<!--.*?-->\s*)*)^```(\w+)\n(.*?)^```$", re.S | re.M)
_OPTIONS = re.compile(r"<!-- tested with: (.*?) -->")
_FILE = re.compile(r"<!-- file: (\S+?)(, run)? -->")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One fenced block of a page, with what the comments before it say."""

    language: str
    text: str
    options: tuple[str, ...]
    file: str | None
    run_file: bool


def _blocks(page: Path) -> Iterator[Block]:
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        options = _OPTIONS.search(match[1])
        file = _FILE.search(match[1])
        yield Block(
            language=match[2],
            text=match[3],
            options=tuple(shlex.split(options[1])) if options else (),
            file=file[1] if file else None,
            run_file=bool(file and file[2]),
        )


def _lines(block: Block) -> list[str]:
    """Give the command lines of a shell block, continued lines joined."""
    text = block.text.replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Somebody who types what a page says, in an empty folder."""

    folder: Path
    """The current folder."""
    environment: pytest.MonkeyPatch

    def type(self, line: str, *, options: tuple[str, ...] = ()) -> None:
        """Run one line of a shell block; what fails fails with the line's name."""
        words = [os.path.expandvars(word) for word in shlex.split(line, comments=True)]
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environment.setenv(name, value)
        elif words[0] == "make":
            _assert_make_knows(words[1])
        else:
            assert words[0] == "rsbench", f"nobody tests {line!r}"
            extra = options if words[1] in {"run", "ablate"} else ()
            with pytest.raises(SystemExit) as stopped:
                main([*words[1:], *extra])
            assert stopped.value.code == 0, line

    def write(self, block: Block) -> None:
        """Write a block to the file it names, and run that if it says so."""
        assert block.file is not None
        (self.folder / block.file).write_text(block.text, encoding="utf-8")
        if block.run_file:
            subprocess.run([sys.executable, block.file], cwd=self.folder, check=True, timeout=300)


def _assert_make_knows(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"make {target}: no such target"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Reader(folder=folder, environment=monkeypatch)


def _kinetics(reader: Reader) -> Path:
    """Write the sample in the official layout: what stands for the reader's own copy."""
    folder = reader.folder.parent / "kinetics"
    if not folder.exists():
        reader.type(f"rsbench data sample kinetics400 {shlex.quote(str(folder))}")
    return folder


def _weights(reader: Reader) -> Path:
    """Save a tiny_3d with a head for the eight classes of the sample."""
    import torch

    path = reader.folder.parent / "weights.pth"
    torch.save(find_backbone("tiny_3d").spec.build(8).state_dict(), path)
    return path


def _clip(reader: Reader) -> Path:
    """Give any item of the data the page has written before."""
    return min(path for path in reader.folder.rglob("*") if path.suffix in {".mp4", ".png", ".jpg"})


def _record(reader: Reader) -> Path:
    """Give the newest record."""
    records = (reader.folder / "results").rglob("*.json")
    return max(records, key=lambda path: path.stat().st_mtime)


# What the variables on the pages stand for.
VARIABLES: dict[str, Callable[[Reader], Path]] = {
    "KINETICS": _kinetics,
    "WEIGHTS": _weights,
    "CLIP": _clip,
    "RECORD": _record,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_program_of_a_page_works(page: Path, reader: Reader) -> None:
    for block in _blocks(page):
        if block.file is not None:
            reader.write(block)
        elif block.language == "bash":
            for line in _lines(block):
                for name, find in VARIABLES.items():
                    if f"${name}" in line:
                        reader.environment.setenv(name, str(find(reader)))
                reader.type(line, options=block.options)
        elif block.language == "toml":
            assert tomllib.loads(block.text)
        else:
            assert block.language in {"text", "bibtex"}, f"nobody tests {block.language} blocks"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("http")]

    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in text] == []


def test_the_house_in_the_readme_stands() -> None:
    block = next(
        block for block in _blocks(ROOT / "README.md") if block.text.startswith("rsbench/")
    )
    missing = []
    for line in block.text.splitlines():
        names = [word for word in line.split() if word.endswith(("/", ".py"))]
        top = ROOT / "rsbench" if line.startswith("  ") else ROOT
        missing += [name for name in names if not (top / name).exists()]

    assert missing == []


def test_make_offers_what_it_says() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r'@echo "make (\w+)', makefile):
        _assert_make_knows(target)


def test_continuous_integration_runs_the_same_command() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("make test")


def test_the_tested_versions_satisfy_the_declared_ranges() -> None:
    import configparser

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"] + config["options.extras_require"]["dev"]
    ranges = [Requirement(line) for line in lines.split("\n") if line.strip()]
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = version

    assert [str(each) for each in ranges if not each.specifier.contains(pinned[each.name])] == []
