"""`rsbench profile`: what it prints, saves, draws and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import contents_of, rsbench
from costs_factory import cost
from records_factory import save_record, some_hits
from test_cli import _documented, _unlike

from rsbench.profiling import side_by_side
from rsbench.profiling.costs import read_all, save
from rsbench.profiling.grids import WIDTH

ROOT = Path(__file__).parents[1]
QUICK = ("--pixels", "16", "--batch-size", "2", "--repeats", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder, and give a process's memory without starting one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "_resident_peak", lambda *_: 5 * 2**20)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_networks_are_measured_side_by_side_and_nothing_is_saved_unasked() -> None:
    answer = rsbench("profile", "tiny_2d,tiny_3d", *QUICK, "--train")
    shown = [line.split()[0] for line in answer.out.splitlines() if line.startswith("tiny")]

    assert answer.code == 0
    assert shown == ["tiny_2d", "tiny_3d"] * 3
    assert max(map(len, answer.out.splitlines())) <= WIDTH
    assert [*Path.cwd().iterdir()] == []


def test_json_is_one_object_a_network_and_nothing_else() -> None:
    answer = rsbench("profile", "tiny_2d,tiny_3d@24", *QUICK[2:], "--json")
    rows = _lines(answer.out)

    assert answer.code == 0
    assert [(row["backbone"], row["pixels"], row["file"]) for row in rows] == [
        ("tiny_2d", 32, None),
        ("tiny_3d@24", 24, None),
    ]
    assert [len(row["timings"][0]["seconds"]) for row in rows] == [2, 2]


def test_json_has_the_documented_shape() -> None:
    save_record(Path("mine"), some_hits(80), backbone={"name": "tiny_2d", "pixels": 16})
    words = ("profile", "tiny_2d,tiny_3d", *QUICK, "--train", "--results", "mine", "--json")
    measured = _lines(rsbench(*words).out)
    joined = _lines(rsbench("profile", "--join", "--results", "mine", "--json").out)

    assert [_unlike(_documented()["profile"], row) for row in measured] == [[], []]
    assert [_unlike(_documented()["profile --join"], row) for row in joined] == [[]]


def test_saved_costs_are_shown_again_as_they_were_printed() -> None:
    measured = rsbench("profile", "tiny_2d", *QUICK, "--results", "mine", "--json")
    shown = rsbench("profile", "--show", "--results", "mine", "--json")
    (row,) = _lines(measured.out)

    assert Path(row["file"]).parent == Path("mine/profile")
    assert _lines(shown.out) == [row]


def test_a_list_with_a_failing_network_keeps_the_others(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import torch\n"
        "class Network(torch.nn.Conv2d):\n"
        "    def forward(self, batch):\n"
        "        assert len(batch) < 2, 'planted'\n"
        "        return super().forward(batch)\n"
        "def build():\n"
        "    return Network(3, 4, 3)\n"
    )
    answer = rsbench("profile", f"{broken}:build,tiny_2d,tiny_4d", *QUICK, "--json")

    assert answer.code == 2
    assert [row["backbone"] for row in _lines(answer.out)] == [f"{broken}:build", "tiny_2d"]
    assert f"rsbench: {broken}:build, inference: stopped by this AssertionError:" in answer.err
    assert "rsbench: tiny_4d, building: No backbone is called 'tiny_4d'" in answer.err


def test_a_stranger_s_fault_alone_is_code_1(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import torch\n"
        "class Network(torch.nn.Conv2d):\n"
        "    def forward(self, batch):\n"
        "        assert len(batch) < 2, 'planted'\n"
        "        return super().forward(batch)\n"
        "def build():\n"
        "    return Network(3, 4, 3)\n"
    )

    assert rsbench("profile", f"{broken}:build,tiny_2d", *QUICK).code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give exactly one of these four"),
        (("tiny_2d", "--show"), "give exactly one of these four"),
        (("--show", "--join"), "give exactly one of these four"),
        (("tiny_2d,,tiny_3d",), "separated by single commas; it was 'tiny_2d,,tiny_3d'"),
        (("tiny_2d", "--views", "10"), "--views must be CLIPSxCROPS"),
        (("tiny_2d", "--views", "0x3"), "it was '0x3'"),
        (("tiny_4d",), "Did you mean tiny_"),
        (("tiny_2d@24", "--pixels", "16"), "say different sides"),
        (("tiny_2d", "--stride", "2"), "--stride is for clips"),
        (("tiny_2d", "--device", "cuda:99"), "--device must be one of this machine's"),
        (("--show", "--results", "nowhere"), "No results folder nowhere"),
    ],
)
def test_wrong_words_are_one_line_and_code_2(words: tuple[str, ...], said: str) -> None:
    answer = rsbench("profile", *words)

    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""


def test_a_folder_that_can_t_be_written_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("mine").write_text("in the way")
    monkeypatch.setattr(side_by_side, "profile", lambda request: pytest.fail("it measured"))
    answer = rsbench("profile", "tiny_2d", "--results", Path("mine") / "below")

    assert answer.code == 2
    assert "Can't write" in answer.err


def test_views_multiply_the_counts() -> None:
    (row,) = _lines(rsbench("profile", "tiny_3d", *QUICK, "--views", "10x3", "--json").out)

    assert (row["clips"], row["crops"]) == (10, 3)
    assert row["macs_all_views"] == 30 * row["counts"]["macs_with_head"]


# ---------------------------------------------------------------------------- what was saved


def test_the_page_is_drawn_from_the_files() -> None:
    save(Path("mine"), cost())
    answer = rsbench("profile", "--write", "--results", "mine")
    page = Path("mine/profile/README.md").read_text(encoding="utf-8")

    assert (answer.code, answer.out) == (0, "mine/profile/README.md is drawn from 1 costs.\n")
    assert "| tiny_2d | 4 | 60.0 | 200 | 800 | 4.00 | 20.0 | 5.00 |" in page


def test_scores_are_joined_with_what_they_cost() -> None:
    save_record(
        Path("mine"),
        some_hits(80),
        backbone={"name": "tiny_2d", "pixels": 32, "frames": 1},
    )
    save(Path("mine"), cost())
    told = rsbench("profile", "--join", "--results", "mine")
    (row,) = _lines(rsbench("profile", "--join", "--results", "mine", "--json").out)

    assert told.code == 0
    assert "50.0" in told.out
    assert max(map(len, told.out.splitlines())) <= WIDTH
    assert (row["value"], row["seconds_one_view"]) == (0.5, 0.06)


def test_a_file_that_can_t_be_read_is_named_and_the_rest_is_shown() -> None:
    path = save(Path("mine"), cost())
    path.with_name("cut.json").write_text("{")
    answer = rsbench("profile", "--show", "--results", "mine")

    assert answer.code == 0
    assert "tiny_2d" in answer.out
    assert answer.err.startswith("rsbench: left out: profile/cut.json must be a file of")


@pytest.mark.parametrize("mode", ["--show", "--join"])
def test_an_empty_folder_is_said_to_be_empty(mode: str) -> None:
    Path("mine").mkdir()
    answer = rsbench("profile", mode, "--results", "mine")

    assert answer.code == 0
    assert "holds no" in answer.out


def test_costs_trip_neither_tables_nor_lists() -> None:
    save_record(Path("mine"), some_hits(80))
    before = [rsbench("table", "mine"), rsbench("ls", "results", "--results", "mine", "--json")]
    save(Path("mine"), cost())
    rsbench("profile", "--write", "--results", "mine")

    assert before == [
        rsbench("table", "mine"),
        rsbench("ls", "results", "--results", "mine", "--json"),
    ]


def test_drawing_imports_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "rsbench", "profile"]
    done = subprocess.run(
        [*command, "--show", "--results", str(ROOT / "results")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}

    assert done.returncode == 0, done.stderr[-2000:]
    assert imported.isdisjoint({"torch", "torchvision", "timm", "sklearn", "mmengine"})


# ---------------------------------------------------------------------------- committed figures


def test_the_page_of_the_committed_costs_is_drawn_from_them(tmp_path: Path) -> None:
    page = ROOT / "results" / "profile" / "README.md"
    if not page.is_file():
        pytest.skip("no costs are committed")
    contents = read_all(ROOT / "results")
    for each in contents.costs:
        save(tmp_path, each)
    rsbench("profile", "--write", "--results", tmp_path)
    names = {path.name for path in (ROOT / "results" / "profile").glob("*.json")}

    assert contents.problems == ()
    assert (tmp_path / "profile" / "README.md").read_bytes() == page.read_bytes()
    # Saved again, every file has its name and its bytes: nothing in it was written by hand.
    saved = contents_of(tmp_path / "profile")
    assert {name for name in saved if name.endswith(".json")} == names
    for name in names:
        assert saved[name] == (ROOT / "results" / "profile" / name).read_bytes()


def test_committed_costs_name_no_machine_and_no_place() -> None:
    for each in read_all(ROOT / "results").costs:
        assert {*each.environment} == {*side_by_side.RECORDED, *side_by_side.LIBRARIES}
        assert "/" not in each.device


def test_committed_costs_were_measured_by_committed_code_in_full() -> None:
    for each in read_all(ROOT / "results").costs:
        assert each.environment["commit"]
        assert each.environment["dirty"] is False
        assert [timing.work for timing in each.timings] == ["inference", "inference", "training"]
        assert each.notes == ()
