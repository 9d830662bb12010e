"""The benchmark of results folders, at a size for tests: records are sound, commands are timed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rsbench.records import store
from rsbench.tables.table import build

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    sys.path.insert(0, str(FOLDER))  # as Python does for a program of this folder
    spec = importlib.util.spec_from_file_location("benchmark_results", FOLDER / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    return module


def test_its_records_are_whole_and_as_many_as_asked_for(
    program: ModuleType, tmp_path: Path
) -> None:
    shape = program.Shape(num_records=21, num_networks=3, num_seeds=2, num_items=40)
    counts = list(program.write_records(tmp_path, shape))

    contents = store.read_all(tmp_path)
    tables = build(contents)

    assert counts == list(range(1, 22))
    assert (len(contents.records), contents.problems, tables.problems) == (21, (), ())
    # By hand: 6 records a ruler are 3 rulers and a half; two protocols a task.
    assert shape.num_rulers == 4
    found = [(table.task, table.protocol, len(table.rows)) for table in tables.tables]
    assert found == [
        ("task_000", "knn", 3),
        ("task_000", "linear_probe", 3),
        ("task_001", "knn", 2),
        ("task_001", "linear_probe", 3),
    ]
    assert all(row.difference is not None for table in tables.tables for row in table.rows[1:])
    again = tmp_path / "again"
    list(program.write_records(again, shape))
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((again / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


def test_its_commands_are_timed_and_print_the_same_when_warm(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    words = "--records 6 --networks 3 --seeds 1 --items 40 --repeats 1 --commands table,compare"
    program.main([*words.split(), "--json", str(found)])

    rows = json.loads(found.read_text(encoding="utf-8"))["rows"]
    assert [row["command"] for row in rows] == ["table", "compare"]
    for row in rows:
        assert row["cold"]["digest"] == row["warm"][0]["digest"]
        assert row["cold"]["cpu_seconds"] > 0
        assert row["cold"]["peak_mib"] > 10
    assert "6 records of 40 items" in capsys.readouterr().out


def test_a_command_that_fails_is_told(program: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        program.run_once(["table", "--no-such-flag"], tmp_path)
    with pytest.raises(SystemExit):
        program.main(["--commands", "no such command"])
