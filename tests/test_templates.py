"""What `rsbench new` writes works, reads well, and overwrites nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from rsbench.checks import check_backbone, check_task
from rsbench.errors import RsbenchError
from rsbench.registry import find_backbone, find_task
from rsbench.templates import LONGEST_NAME, plugin_text, still_to_write, write_plugin

ROOT = Path(__file__).parents[1]
KINDS = ("task", "backbone")


def test_a_written_task_passes_its_check_unedited(tmp_path: Path) -> None:
    path = write_plugin("task", "stripes", tmp_path)

    checks = check_task(find_task(str(path)), data=None, cache_root=tmp_path / "cache")

    assert path == tmp_path / "stripes.py"
    assert len(checks) >= 12
    assert [check for check in checks if not check.ok] == []


def test_a_written_backbone_passes_its_check_unedited(tmp_path: Path) -> None:
    path = write_plugin("backbone", "small_net", tmp_path)

    checks = check_backbone(find_backbone(str(path)))

    assert len(checks) >= 12
    assert [check for check in checks if not check.ok] == []


def test_the_check_says_which_texts_are_still_the_template_s(tmp_path: Path) -> None:
    path = write_plugin("backbone", "small_net", tmp_path)

    description = check_backbone(find_backbone(str(path)))[0]

    assert description.detail.endswith("still to be written: licence, citation")
    assert still_to_write({"licence": "MIT"}) == ""


def test_a_written_task_lists_data_of_its_layout_and_refuses_a_stranger_s_folder(
    tmp_path: Path,
) -> None:
    task = find_task(str(write_plugin("task", "stripes", tmp_path))).spec
    root = tmp_path / "data"
    root.mkdir()
    task.sample.write(root)

    train, test = task.load(root, "train"), task.load(root, "test")

    assert (len(train.items), len(test.items)) == (24, 12)
    assert [item.id for item in test.items[:2]] == [
        "test/horizontal/00.png",
        "test/horizontal/01.png",
    ]
    (root / "test" / "vertical").rename(root / "test" / "diagonal")
    with pytest.raises(RsbenchError, match=r"diagonal.*must lie in a folder"):
        task.load(root, "test")


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_plugin_is_about_forty_lines_of_code(kind: str) -> None:
    text = plugin_text(kind, "n")  # type: ignore[arg-type]
    lines = [line for line in text.splitlines() if line.strip()]

    assert 30 <= len(lines) <= 55
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["n", "n" * LONGEST_NAME])
def test_a_written_plugin_is_clean_and_formatted(kind: str, name: str, tmp_path: Path) -> None:
    path = write_plugin(kind, name, tmp_path)  # type: ignore[arg-type]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    # Told so, because isort sees "rsbench" as its own only inside the checkout.
    ours = ["--config", 'lint.isort.known-first-party=["rsbench"]']

    for words in (["check", "--no-cache", *ours], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", words[0], *settings, *words[1:], str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_written_plugins_pass_mypy_strict(tmp_path: Path) -> None:
    paths = [write_plugin("task", "stripes", tmp_path), write_plugin("backbone", "net", tmp_path)]

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("my-net", "for example my_net"),
        ("MyNet", "for example mynet"),
        ("2fast", "beginning with a letter"),
        ("_hidden", "beginning with a letter"),
        ("", "beginning with a letter"),
        ("../escape", "lower-case letters"),
        ("naïve", "lower-case letters"),
        ("class", "a word of Python"),
        ("random", "the name of a Python module"),
        ("torch", "the name of a Python module"),
        ("n" * (LONGEST_NAME + 1), "at most 40 characters"),
    ],
)
def test_a_name_that_can_t_be_used_is_refused(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(RsbenchError, match="must") as caught:
        write_plugin("task", name, tmp_path)

    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_registered_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RsbenchError, match="'kinetics400' is registered already"):
        write_plugin("task", "kinetics400", tmp_path, taken=["folder", "kinetics400"])

    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "stripes.py"
    mine.write_text("precious\n")

    with pytest.raises(RsbenchError, match=r"stripes\.py must not exist yet"):
        write_plugin("task", "stripes", tmp_path)

    assert mine.read_text() == "precious\n"


def test_a_broken_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "stripes.py").symlink_to(tmp_path / "elsewhere.py")

    with pytest.raises(RsbenchError, match="must not exist yet"):
        write_plugin("task", "stripes", tmp_path)

    assert not (tmp_path / "elsewhere.py").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RsbenchError, match=r"nowhere.*can't be written: No such file") as caught:
        write_plugin("task", "stripes", tmp_path / "nowhere")

    assert "--into" in str(caught.value)
