"""The command line: its words are frozen, its JSON is documented, and its exit codes mean it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from command_line import (
    NUM_TEST,
    NUM_TRAIN,
    QUICK,
    rsbench,
    write_broken_network,
    write_pictures,
)
from records_factory import save_record, some_hits

from rsbench.cli import commands, progress
from rsbench.cli.gpus import Told
from rsbench.records import store
from rsbench.records.schema import MetricPart

ROOT = Path(__file__).parents[1]
JSON_PAGE = ROOT / "docs" / "json.md"

# Changing a word here breaks scripts of strangers; a new one is added to the list on purpose.
WORDS = {
    "": ["--help", "--version"],
    "ablate": [
        *("--again", "--backbone", "--batch-size", "--batch-sizes", "--cache-clips"),
        *("--cache-limit", "--checkpoint-minutes", "--compile", "--cropper", "--cross-validate"),
        *("--data", "--device", "--dry-run", "--folds", "--frames", "--gpus", "--group-by"),
        *("--help", "--json"),
        *("--keep-checkpoints", "--keep-views-up-to", "--limit", "--max-failed", "--pixels"),
        *("--precision", "--protocol", "--results", "--sampler", "--seed", "--seeds", "--set"),
        *("--stride", "--study", "--task", "--tensorboard", "--times-epochs", "--views"),
        *("--weights", "--workers", "--write"),
    ],
    "cache": ["--help"],
    "cache gc": [
        *("--backbone", "--dry-run", "--help", "--json", "--task", "--to", "--unused"),
    ],
    "cache ls": ["--help", "--json"],
    "check": ["KIND", "NAME", "--data", "--help", "--json"],
    "check-reference": [
        *("BACKBONES", "WEIGHTS", "--batch-size", "--data", "--device", "--expect", "--help"),
        *("--json", "--limit", "--results", "--task", "--workers"),
    ],
    "choose": [
        *("--backbone", "--cross-validate", "--data", "--device", "--group-by", "--help"),
        *("--json", "--limit", "--max-latency-ms", "--max-memory-mib", "--minutes", "--repeats"),
        *("--results", "--seed", "--task", "--weights", "--yes"),
    ],
    "compare": [
        *("WORDS", "--allow-other-training", "--baseline", "--by", "--common-subset", "--format"),
        *("--help", "--published", "--suite"),
    ],
    "data": ["--help"],
    "data check": ["TASK", "--data", "--folds", "--help", "--json"],
    "data prepare": [
        *("TASK", "--crf", "--data", "--dry-run", "--gop", "--help", "--json", "--short-side"),
        *("--to", "--workers"),
    ],
    "data quarantine": ["--clear", "--help", "--json"],
    "data sample": ["TASK", "FOLDER", "--help"],
    "data where": ["TASK", "--data", "--help"],
    "doctor": ["--decoder", "--help", "--json", "--results"],
    "export": [
        *("RECORD", "--backbone", "--data", "--fold", "--help", "--items", "--json", "--onnx"),
        *("--tolerance", "--weights"),
    ],
    "import": [
        *("FILE", "--backbone", "--from", "--help", "--ids", "--input", "--json", "--list"),
        *("--model", "--protocol", "--reported", "--results", "--sampler", "--split", "--task"),
        *("--views", "--weights"),
    ],
    "ls": [
        *("WHAT", "--backbone", "--help", "--image", "--json", "--pretrained", "--protocol"),
        *("--results", "--seed", "--since", "--sort", "--task", "--video", "--weights"),
    ],
    "merge": ["SOURCES", "--dry-run", "--help", "--into", "--json"],
    "new": ["KIND", "NAME", "--help", "--into"],
    "predict": [
        *("RECORD", "FILES"),
        *("--backbone", "--device", "--fold", "--help", "--json", "--protocol", "--top"),
        "--weights",
    ],
    "profile": [
        *("BACKBONES", "--batch-size", "--compile", "--device", "--frames", "--help", "--join"),
        *("--json", "--layout", "--pixels", "--precision", "--repeats", "--results", "--show"),
        *("--stride", "--threads", "--train", "--views", "--write"),
    ],
    "report": [
        *("RESULTS", "--data", "--figures", "--help", "--json", "--no-figures", "--out"),
        *("--suite", "--title"),
    ],
    "reproduce": [
        *("RECORD", "--backbone", "--data", "--device", "--dry-run", "--fresh-cache", "--gpus"),
        *("--help", "--json", "--protocol", "--results", "--task", "--tolerance", "--weights"),
    ],
    "run": [
        *("--again", "--allow-test-selection", "--backbone", "--batch-size", "--cache-clips"),
        *("--cache-limit", "--checkpoint-minutes", "--compile", "--cropper", "--cross-validate"),
        *("--data", "--device", "--dry-run"),
        *("--folds", "--frames", "--gpus", "--group-by", "--help", "--json"),
        *("--keep-checkpoints", "--keep-views-up-to", "--limit"),
        *("--max-failed", "--pixels"),
        *("--precision", "--protocol", "--results", "--sampler", "--seed", "--seeds", "--set"),
        *("--stride", "--suite", "--task", "--tensorboard", "--views", "--weights", "--workers"),
    ],
    "show": ["NAME", "--help", "--json"],
    "table": [
        *("RESULTS", "--check", "--format", "--help", "--ranked", "--suite", "--write"),
    ],
    "verify": ["PATHS", "--help", "--json", "--task"],
    "views": ["RECORD", "--average", "--help", "--json", "--level", "--task", "--views"],
    "weights": ["--help"],
    "weights convert": ["SOURCE", "--backbone", "--help", "--to"],
    "weights fetch": ["BACKBONE", "NAME", "--again", "--from", "--help", "--mirror", "--sha256"],
    "weights list": ["BACKBONE", "--help", "--json"],
    "weights verify": ["BACKBONE", "NAME", "--help"],
}


def _verbs(group: click.Group = commands, above: str = "") -> Iterator[tuple[str, click.Command]]:
    yield above, group
    for name, command in group.commands.items():
        path = f"{above} {name}".strip()
        if isinstance(command, click.Group):
            yield from _verbs(command, path)
        else:
            yield path, command


VERBS = dict(_verbs())


def _words(command: click.Command) -> list[str]:
    parameters = command.get_params(click.Context(command))
    arguments = [each.name.upper() for each in parameters if isinstance(each, click.Argument)]
    options = [name for each in parameters if isinstance(each, click.Option) for name in each.opts]
    return [*arguments, *sorted(name for name in options if name.startswith("--"))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and results/: two seeds of one run, which no test may change."""
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        answer = rsbench("run", *QUICK, "--data", "data", "--seeds", "0,1", "--json")
    assert answer.code == 0, answer.err
    (folder / "answer.txt").write_text(answer.out)
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own copy of the world as the working folder."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.setenv("RSBENCH_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def records(here: Path) -> list[Path]:
    """The records of `here`, seed 0 first."""
    return sorted((here / "results").rglob("*.json"))


def _lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------------------- words and help


def test_the_words_of_the_command_line_are_a_frozen_list() -> None:
    assert {verb: _words(command) for verb, command in VERBS.items()} == WORDS


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb or "rsbench")
def test_every_verb_has_help_with_an_example_that_can_be_typed(verb: str) -> None:
    answer = rsbench(*verb.split(), "--help")
    _, _, end = answer.out.partition("Example")
    examples = [line.strip() for line in end.splitlines()[1:] if line.strip()]

    assert answer.code == 0
    assert examples
    for example in examples:
        first, *words = shlex.split(example)
        assert first == "rsbench"
        assert " ".join(words).startswith(verb)
        command: click.Command = commands
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context("rsbench", words)  # raises on a word that does not exist


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb or "rsbench")
def test_every_option_says_what_it_is(verb: str) -> None:
    options = [each for each in VERBS[verb].params if isinstance(each, click.Option)]

    assert [each.name for each in options if not each.help] == []


def test_python_m_rsbench_is_the_command_line(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rsbench", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)

    good, bad = run("ls", "results"), run("foretell")

    assert (good.returncode, good.stdout) == (0, "results holds no records.\n")
    assert (bad.returncode, bad.stderr) == (2, "rsbench: No such command 'foretell'.\n")


def test_a_reader_that_goes_away_hears_no_complaint() -> None:
    # What `| head -1` does. click ends with 1 where the pipe is broken.
    command = [sys.executable, "-m", "rsbench", "ls", "backbones", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)

    assert (ended.returncode, ended.stderr) == (1, b"")


def test_an_interrupt_is_said_and_has_the_shell_s_code(tmp_path: Path) -> None:
    # What Ctrl-C raises, from a place where a user could press it.
    (tmp_path / "slow.py").write_text("raise KeyboardInterrupt\n")
    answer = rsbench("show", tmp_path / "slow.py")

    assert answer.code == 130  # 128 + SIGINT
    assert answer.err.strip() == "rsbench: stopped; what was finished is kept."


# ---------------------------------------------------------------------------- JSON for machines

FREE_KEYS = {
    *("groups", "metrics", "scores", "recipe", "ruler", "published_percent"),
    *("overrides", "start", "without"),
}
"""Fields whose own keys are names of metrics, classes and numbers of a recipe."""


def _documented() -> dict[str, Any]:
    """Give what docs/json.md shows below each heading."""
    page = JSON_PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^## (.+?)$.*?^```text\n(.*?)^```$", page, re.S | re.M)
    return {heading: json.loads(text) for heading, text in blocks}


def _unlike(shown: Any, printed: Any, where: str = "") -> list[str]:
    """Name the places where what is printed has other keys or types than what is shown."""
    if printed is None or shown is None:
        return []  # any field may be null that the page's words say so of
    if isinstance(shown, dict) and isinstance(printed, dict):
        if where.rpartition(".")[2] in FREE_KEYS:
            first = next(iter(shown.values()))
            return [fault for key in printed for fault in _unlike(first, printed[key], f"{key}?")]
        if shown.keys() != printed.keys():
            return [f"{where}: {sorted(shown.keys() ^ printed.keys())}"]
        return [
            fault for key in shown for fault in _unlike(shown[key], printed[key], f"{where}.{key}")
        ]
    if isinstance(shown, list) and isinstance(printed, list):
        return [fault for each in printed for fault in _unlike(shown[0], each, f"{where}[]")]
    if where.endswith("recipe?") or type(shown) is type(printed):
        return []
    numbers = (int, float)
    both_numbers = isinstance(shown, numbers) and isinstance(printed, numbers)
    return [] if both_numbers else [f"{where}: {type(printed).__name__}"]


@pytest.mark.parametrize(
    "heading",
    ["ls tasks", "ls backbones", "ls protocols", "ls suites", "ls studies", "ls results"],
)
def test_a_list_has_the_documented_shape(heading: str, here: Path) -> None:
    printed = json.loads(rsbench(*heading.split(), "--json").out)

    assert printed
    if heading == "ls protocols":
        printed = [each | {"recipe": None} for each in printed]
    assert _unlike(_documented()[heading], printed) == []


def test_backbones_are_listed_with_their_exact_parameters() -> None:
    rows = {each["name"]: each for each in json.loads(rsbench("ls", "backbones", "--json").out)}

    # timm's resnetrs50 has 35,691,912 parameters with its classifier; tiny_2d is counted by hand in
    # backbones/tiny.py.
    assert rows["resnet_rs_50"]["parameters"] == 35_691_912
    assert rows["resnet_rs_50"]["parameters_with_classes"] == 1000
    assert rows["tiny_2d"]["parameters"] == 6_088
    assert rows["tiny_2d"]["modality"] == "image"
    assert rows["tiny_3d"]["weights"] == ["none"]


def test_backbones_are_filtered_by_modality() -> None:
    rows = json.loads(rsbench("ls", "backbones", "--video", "--json").out)

    assert {each["modality"] for each in rows} == {"video"}
    assert "tiny_3d" in [each["name"] for each in rows]


def test_a_run_prints_one_object_a_finished_cell(world: Path) -> None:
    printed = _lines_of((world / "answer.txt").read_text())

    assert _unlike(_documented()["run"], printed[0]) == []
    assert [each["seed"] for each in printed] == [0, 1]
    for each in printed:
        record = store.read(world / each["record"])
        assert (each["task"], each["backbone"]) == ("folder", "tiny_2d")
        assert (each["protocol"], each["reused"]) == ("linear_probe", False)
        assert each["metrics"]["top1"]["value"] == record.metrics[0].value
        assert (each["n_expected"], each["n_evaluated"], each["n_failed"]) == (
            NUM_TEST,
            NUM_TEST,
            0,
        )


def test_a_dry_run_prints_the_documented_object(here: Path) -> None:
    answer = rsbench("run", *QUICK, "--data", "data", "--seeds", "0,7", "--dry-run", "--json")
    printed = _lines_of(answer.out)

    assert answer.code == 0
    assert _unlike(_documented()["run --dry-run"], printed[1]) == []
    assert [each["finished"] for each in printed] == [True, False]


def test_a_study_is_printed_in_the_documented_shape(here: Path) -> None:
    held = ("batch_size=4", "stochastic_depth=0", "randaugment_layers=0", "epochs=1")
    words = ("--task", "folder", "--data", "data", "--backbone", "tiny_2d", "--pixels", "16")
    study = ("ablate", *words, *(word for each in held for word in ("--set", each)), "--json")
    foretold = _lines_of(rsbench(*study, "--dry-run").out)
    *cells, printed = _lines_of(rsbench(*study).out)
    shown = _documented()["ablate"]
    # The first row is compared with none.
    changed = printed | {"rows": printed["rows"][1:]}

    assert [_unlike(_documented()["ablate --dry-run"], each) for each in foretold] == [[]] * 6
    assert [_unlike(_documented()["run"], each) for each in cells] == [[]] * 6
    assert _unlike(shown, changed) == []
    assert printed["rows"][0]["change"] is None


def test_a_check_prints_the_documented_list(here: Path) -> None:
    answer = rsbench("data", "check", "folder", "--data", "data", "--json")
    printed = json.loads(answer.out)

    assert answer.code == 0
    assert _unlike(_documented()["check, data check, doctor"], printed) == []
    assert all(each["ok"] for each in printed)


@pytest.mark.parametrize("name", ["folder", "tiny_2d", "linear_probe"])
def test_show_prints_the_line_of_the_list_and_more(name: str) -> None:
    kind = {"folder": "tasks", "tiny_2d": "backbones", "linear_probe": "protocols"}[name]
    listed = {each["name"]: each for each in json.loads(rsbench("ls", kind, "--json").out)}
    shown = json.loads(rsbench("show", name, "--json").out)

    assert shown.items() >= listed[name].items()
    assert "citation" in shown


def test_the_tables_are_printed_in_the_documented_shape(here: Path) -> None:
    printed = json.loads(rsbench("table", "--format", "json").out)
    shown = _documented()["table --format json"]

    assert printed.keys() == shown.keys()
    assert set(shown["tables"][0]) <= set(printed["tables"][0])
    assert set(shown["tables"][0]["rows"][0]) <= set(printed["tables"][0]["rows"][0])


def test_a_verification_is_printed_in_the_documented_shape(here: Path) -> None:
    printed = _lines_of(rsbench("verify", "results", "--json").out)

    assert len(printed) == 2
    assert [_unlike(_documented()["verify"], each) for each in printed] == [[]] * 2


def test_a_reproduction_is_printed_in_the_documented_shape(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted((here / "results").glob("runs/*/*/*.json"))
    # The run of another seed stands in for the one made again, so that there is much to tell.
    made = Told(path=second, reused=False, fault=None)
    monkeypatch.setattr("rsbench.cli.gpus.run_in_processes", lambda *_, told, **more: told(0, made))
    printed = json.loads(rsbench("reproduce", first, "--data", "data", "--json").out)

    assert printed["changes"]
    assert printed["items"]["changed"]
    for change in printed["changes"]:
        change["before"] = change["after"] = None  # Any value of a record.
    assert _unlike(_documented()["reproduce"], printed) == []


def test_a_ranking_is_printed_in_the_documented_shape(here: Path) -> None:
    printed = json.loads(rsbench("table", "--ranked", "--format", "json").out)

    assert printed["rankings"]
    assert _unlike(_documented()["table --suite, table --ranked"], printed) == []


# ---------------------------------------------------------------------------- run


def test_bare_kinetics_says_in_its_first_line_that_it_runs_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--task", "kinetics400", "--backbone", "tiny_2d", "--limit", "16", "--set")
    answer = rsbench("run", *words, "strengths=3")

    first, second, *_ = answer.out.splitlines()
    assert answer.code == 0
    assert first.startswith("kinetics400: no data is configured, so this runs the embedded sample")
    assert second.startswith("kinetics400@sample · tiny_2d · linear_probe")
    # Every row is marked, and the words stand above the table.
    assert "random init, sample, limit 16" in answer.out
    assert "untrained features: shows motion sensitivity, not quality" in answer.out


def test_a_grid_is_every_task_backbone_protocol_and_seed(here: Path) -> None:
    answer = rsbench(
        "run", *QUICK, "--data", "data", "--backbone", "tiny_3d,tiny_2d", "--seeds", "1,0", "--json"
    )
    cells = [(each["backbone"], each["seed"]) for each in _lines_of(answer.out)]

    assert answer.code == 0
    assert cells == [("tiny_3d", 1), ("tiny_3d", 0), ("tiny_2d", 1), ("tiny_2d", 0)]


@pytest.mark.parametrize(("fault", "code"), [("data", 2), ("code", 1)])
def test_one_failing_cell_of_a_grid_costs_no_other(fault: str, code: int, here: Path) -> None:
    if fault == "code":
        words = ("--backbone", f"{write_broken_network(here / 'broken.py')},tiny_3d")
        named = "broken.py:build, linear_probe, seed 3: stopped by this ZeroDivisionError"
    else:
        words = ("--backbone", "tiny_2d,tiny_3d", "--frames", "4")
        named = "folder, tiny_2d, linear_probe, seed 3: --frames is for videos"
    answer = rsbench("run", *QUICK, "--data", "data", "--seed", "3", *words)

    assert answer.code == code
    assert named in answer.err
    assert "  record: results/runs/folder/linear_probe/tiny_3d-none-s3-" in answer.out
    assert len(store.read_all(here / "results").records) == 3


def test_a_finished_run_is_shown_with_its_commit_and_not_run_again(
    here: Path, records: list[Path]
) -> None:
    before = records[0].read_bytes()
    commit = store.read(records[0]).environment["commit"]
    answer = rsbench("run", *QUICK, "--data", "data")

    assert answer.code == 0
    assert f"finished before, not run again: results/runs/{records[0].parts[-3]}" in answer.out
    assert f"(commit {str(commit)[:12]})" in answer.out
    assert records[0].read_bytes() == before


def test_again_runs_a_finished_run_anew(here: Path, records: list[Path]) -> None:
    answer = rsbench("run", *QUICK, "--data", "data", "--again", "--json")

    assert _lines_of(answer.out)[0]["reused"] is False
    assert len(store.read_all(here / "results").records) == len(records)


def test_changing_the_recipe_gives_another_table_with_the_field_named(here: Path) -> None:
    answer = rsbench("run", *QUICK, "--data", "data", "--set", "held_out=0.4")
    printed = rsbench("table").out

    assert answer.code == 0
    assert printed.count("folder v1, test: linear_probe v3") == 2
    assert "recipe.held_out" in printed


def test_standard_output_of_json_holds_nothing_else(here: Path) -> None:
    answer = rsbench("run", *QUICK, "--data", "data", "--seed", "5", "--json")

    assert len(_lines_of(answer.out)) == 1
    assert answer.err == ""


def test_progress_that_goes_to_a_file_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.0, 20.0, 40.0, 50.0, 80.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with progress.reporter() as report:
        for done in (10, 20, 30, 35, 100):
            report("features", done, 100)
    printed = capsys.readouterr()

    # At 20 s, 10 items since the first word at 0 s: 80 more take 160 s. Half a minute must pass
    # between two lines (at 50 s 25 items: 65 more take 130 s), and the end needs none.
    assert printed.err == (
        "  features: 20 of 100, about 3 min left\n  features: 35 of 100, about 2 min left\n"
    )
    assert printed.out == ""


# ---------------------------------------------------------------------------- dry run


def test_a_dry_run_says_what_would_run_and_leaves_no_trace_in_results(here: Path) -> None:
    answer = rsbench("run", *QUICK, "--data", "data", "--results", "elsewhere", "--dry-run")

    assert answer.code == 0
    assert not (here / "elsewhere").exists()
    said = " ".join(answer.out.split())
    size = sum(path.stat().st_size for path in (here / "data").rglob("*.png"))
    assert f"would run: {NUM_TRAIN} train, {NUM_TEST} test items, 20 views" in said
    assert f"reads {size / 1024:.1f} KiB of media" in said
    # 8 items x (2 classes x 2 bytes + 4 of the view's offset + 4 facts of 8 bytes).
    assert "beside the record: 320 B of scores of single views" in said
    assert re.search(r"time: roughly \d+ (s|min), from one batch measured", said)


@pytest.mark.parametrize("splits", ["given", "folds"])
def test_a_dry_run_foretells_the_cache(splits: str, here: Path) -> None:
    data = here / "data" if splits == "given" else here / "data" / "train"
    words = ("run", *QUICK, "--data", data, "--seed", "9")
    foretold = _lines_of(rsbench(*words, "--dry-run", "--json").out)[0]
    shutil.rmtree(here / "cache")
    answer = rsbench(*words)

    assert answer.code == 0, answer.err
    shards = [path for path in (here / "cache" / "shards").rglob("*") if path.is_file()]
    kept = sum(path.stat().st_size for path in shards)
    assert kept == pytest.approx(foretold["cache_bytes"], rel=0.2)
    # Five folds train on each item four times, and the frozen network looks at it once.
    assert foretold["num_views"] == (NUM_TRAIN + NUM_TEST if splits == "given" else NUM_TRAIN)


# ---------------------------------------------------------------------------- tables


def test_the_page_of_results_is_written_checked_and_found_stale(here: Path) -> None:
    missing = rsbench("table", "--check")
    written = rsbench("table", "results", "--write")
    fresh = rsbench("table", "results", "--check")
    save_record(here / "results", some_hits(40))
    stale = rsbench("table", "results", "--check")

    assert (missing.code, written.code, fresh.code, stale.code) == (1, 0, 0, 1)
    assert "`rsbench table results --write` draws it" in stale.err
    assert "tiny_2d" in (here / "results" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (here / "results").glob(".*")] == []


def test_different_rulers_stand_in_separate_tables_with_the_fields_named(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80))
    save_record(tmp_path, some_hits(60), protocol={"clips": 10, "crops": 3}, seed=1)
    answer = rsbench("table", tmp_path)

    assert answer.code == 0
    assert answer.out.count("kinetics400@sample v1, val: linear_probe v1") == 2
    assert re.search(r"clips\W.*crops\W", " ".join(answer.out.split()))


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "latex", "json"])
def test_a_table_is_drawn_in_every_form(form: str, here: Path) -> None:
    answer = rsbench("table", "results", "--format", form)

    assert answer.code == 0
    assert "tiny" in answer.out
    assert answer.err == ""


# ---------------------------------------------------------------------------- show, ls results


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kinetics400", "how_to_get:"),
        ("kinetics400@sample", "kinetics400"),
        ("resnet_rs_3d_50", "48129840"),
        ("resnet_rs_50@224", "pixels=224"),
        ("finetune", "recipe:"),
    ],
)
def test_show_describes_each_kind(name: str, said: str) -> None:
    answer = rsbench("show", name)

    assert answer.code == 0
    assert said in answer.out


@pytest.mark.parametrize("kind", ["task", "backbone"])
def test_show_describes_a_file_of_one_kind(kind: str, here: Path) -> None:
    rsbench("new", kind, "mine")
    answer = rsbench("show", "./mine.py")

    assert answer.code == 0
    assert re.search(r"^name: +mine", answer.out, re.M)


def test_show_prints_a_record_as_it_lies(records: list[Path]) -> None:
    answer = rsbench("show", records[0])

    assert answer.code == 0
    assert answer.out == records[0].read_text(encoding="utf-8")


def test_results_are_listed_with_their_counts_and_limits(here: Path) -> None:
    save_record(here / "results", some_hits(40), task={"limit": 160})
    answer = rsbench("ls", "results")

    assert re.search(r"tiny_2d-none-s0-\w+\.json +top1 .* on 8 items$", answer.out, re.M)
    assert re.search(r"resnet_rs_3d_50-.*top1 25\.0 .* on 160 items, limit 160$", answer.out, re.M)


def test_a_metric_in_its_own_unit_is_not_shown_in_percent(here: Path) -> None:
    error = MetricPart(
        name="rmse",
        value=0.281,
        low=None,
        high=None,
        n=160,
        level="item",
        interval="",
        higher_is_better=False,
    )
    save_record(here / "results", some_hits(40), metrics=(error,))

    assert "rmse 0.281 on 160 items" in rsbench("ls", "results").out


# ---------------------------------------------------------------------------- data


def test_data_where_says_where_it_looks_and_what_it_found(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = rsbench("data", "where", "kinetics400")
    monkeypatch.setenv("RSBENCH_DATA_KINETICS400", str(here / "data"))
    found = rsbench("data", "where", "kinetics400")

    assert (nothing.code, found.code) == (0, 0)
    assert "--data, RSBENCH_DATA_KINETICS400, then [data] kinetics400 in" in nothing.out
    assert f"{here / 'data'} (named by RSBENCH_DATA_KINETICS400)" in found.out


def test_a_written_sample_passes_the_check_and_runs(here: Path) -> None:
    written = rsbench("data", "sample", "folder", "mine")
    checked = rsbench("data", "check", "folder", "--data", "mine")
    ran = rsbench("run", *QUICK, "--data", "mine", "--dry-run")

    assert (written.code, checked.code, ran.code) == (0, 0, 0)
    assert "FAILED" not in checked.out
    assert f"{len([*(here / 'mine').rglob('*.*')])} files" in written.out


def test_a_check_that_finds_a_fault_exits_with_1(here: Path) -> None:
    (here / "data" / "test" / "dark" / "dark0.png").write_bytes(b"no picture")
    answer = rsbench("data", "check", "folder", "--data", "data")

    assert answer.code == 1
    assert "FAILED  decoding" in answer.out
    assert "next: " in answer.out


# ---------------------------------------------------------------------------- predict


def test_predict_gives_the_recorded_scores_of_the_run_s_own_items(records: list[Path]) -> None:
    table = store.read_predictions(records[0])
    files = [f"data/{name}" for name in table.ids]
    answer = rsbench("predict", records[0], *files, "--json")
    printed = _lines_of(answer.out)

    assert answer.code == 0
    assert _unlike(_documented()["predict"], printed[0]) == []
    assert [each["file"] for each in printed] == files
    scores_NK = np.array([list(each["scores"].values()) for each in printed])
    assert list(printed[0]["scores"]) == ["bright", "dark"]
    np.testing.assert_allclose(scores_NK, np.stack(table.predictions), atol=1e-4)


def test_predict_names_the_best_classes_first(records: list[Path]) -> None:
    answer = rsbench("predict", records[0], "data/test/dark/dark0.png", "--top", "1")

    assert answer.code == 0
    assert re.fullmatch(r"data/test/dark/dark0\.png: (bright|dark) \d+\.\d%\n", answer.out)


def test_predict_goes_on_behind_a_file_it_can_not_read_and_exits_with_1(
    here: Path, records: list[Path]
) -> None:
    (here / "bad.png").write_bytes(b"no picture")
    answer = rsbench("predict", records[0], "bad.png", "data/test/dark/dark0.png", "--json")

    assert answer.code == 1
    assert [each["file"] for each in _lines_of(answer.out)] == ["data/test/dark/dark0.png"]
    assert answer.err.startswith("rsbench: bad.png can't be read: ")


def test_predict_takes_the_files_that_a_record_s_names_came_from(here: Path) -> None:
    (here / "net.py").write_text(
        "import torch\n"
        "def build():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())\n"
    )
    source = ROOT / "rsbench" / "protocols" / "linear_probe.py"
    (here / "probe.py").write_text(source.read_text().replace('name="linear_probe"', 'name="own"'))
    mine = ("--backbone", "./net.py:build", "--protocol", "./probe.py")
    ran = rsbench("run", *QUICK, "--data", "data", *mine, "--json")
    record = _lines_of(ran.out)[0]["record"]
    bare = rsbench("predict", record, "data/test/dark/dark0.png")
    named = rsbench("predict", record, "data/test/dark/dark0.png", *mine)

    assert bare.code == 2
    assert bare.err.startswith("rsbench: No protocol is called 'own'")
    assert named.code == 0


# ---------------------------------------------------------------------------- new, check


@pytest.mark.parametrize("kind", ["task", "backbone"])
def test_a_new_plug_in_passes_its_check_unedited(kind: str, here: Path) -> None:
    written = rsbench("new", kind, "mine")
    checked = rsbench("check", kind, "mine", "--json")

    assert written.out == f"mine.py is written; `rsbench check {kind} mine.py` tries it.\n"
    assert checked.code == 0
    assert all(each["ok"] for each in json.loads(checked.out))
