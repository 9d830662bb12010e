"""Time what is drawn from thousands of records: table, compare, report, ls results.

    OMP_NUM_THREADS=1 python benchmarks/results.py [--records 10000] [--at FOLDER] [--json FILE]

The records are synthetic (_results_records.py) and lie in a folder of their own, which is removed
unless `--at` names it; a folder that is there is taken as it is. Each command runs as a process of
its own, first with an empty cache (cold: every record and its predictions are read and held to
their digests) and then again (warm). Wall clock, CPU time and peak memory are the process's own.
Cold and warm must print the same to the letter: a faster answer that differs is no answer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from _results_records import Shape, write_records

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "ls results": ("ls", "results", "--results", "{results}"),
    "table": ("table", "{results}"),
    "table --ranked": ("table", "{results}", "--ranked"),
    "compare --baseline net_00": ("compare", "{results}", "--baseline", "net_00"),
    "compare": ("compare", "{results}"),
    "report": ("report", "{results}", "--out", "{report}"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One process, from its start to its end."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    digest: str
    """sha256 of what it printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One command."""

    command: str
    cold: Run
    warm: tuple[Run, ...]
    written_mib: float
    """Of the report; 0 of what only prints."""

    @property
    def is_same(self) -> bool:
        """Whether it printed the same each time."""
        return {self.cold.digest} == {run.digest for run in self.warm}


def run_once(words: Sequence[str], cache: Path) -> Run:
    """Run one rsbench command to its end.

    Raises:
        RuntimeError: It failed; with the end of what it printed.
    """
    environment = {**os.environ, "RSBENCH_CACHE": str(cache), "COLUMNS": "200"}
    with tempfile.TemporaryFile() as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "rsbench", *words],
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if process.returncode != 0:
        raise RuntimeError(f"rsbench {' '.join(words)} failed: {text[-2000:].decode()}")
    return Run(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        digest=hashlib.sha256(text).hexdigest(),
    )


def measure(name: str, results: Path, *, repeats: int) -> Row:
    """Run one command cold, then warm as often as is said."""
    with tempfile.TemporaryDirectory() as scratch:
        cache, report = Path(scratch) / "cache", Path(scratch) / "report.html"
        words = [word.format(results=results, report=report) for word in COMMANDS[name]]
        cold = run_once(words, cache)
        warm = tuple(run_once(words, cache) for _ in range(repeats))
        written = report.stat().st_size if report.exists() else 0
    return Row(command=name, cold=cold, warm=warm, written_mib=written / 2**20)


def shown(rows: Sequence[Row]) -> str:
    """Give the rows as a markdown table; of the warm runs the median."""
    lines = [
        "| command | cold s | CPU s | warm s | CPU s | peak MiB | written MiB | same |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        warm, warm_cpu = (
            statistics.median(getattr(run, field) for run in row.warm)
            for field in ("seconds", "cpu_seconds")
        )
        peak = max(run.peak_mib for run in (row.cold, *row.warm))
        written = f"{row.written_mib:.1f}" if row.written_mib else ""
        lines.append(
            f"| {row.command} | {row.cold.seconds:.2f} | {row.cold.cpu_seconds:.2f} | {warm:.2f} |"
            f" {warm_cpu:.2f} | {peak:.0f} | {written} | {'yes' if row.is_same else 'NO'} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the records unless they are there, run the commands, print a line each."""
    shape = Shape()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=shape.num_records)
    parser.add_argument("--networks", type=int, default=shape.num_networks, help="a ruler")
    parser.add_argument("--seeds", type=int, default=shape.num_seeds, help="a network and ruler")
    parser.add_argument("--items", type=int, default=shape.num_items, help="a task")
    parser.add_argument("--repeats", type=int, default=3, help="warm runs of each command")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="some of them, by commas")
    parser.add_argument("--at", type=Path, help="folder of the records, kept; made if missing")
    parser.add_argument("--json", type=Path, help="write all that was measured here")
    given = parser.parse_args(arguments)
    names = given.commands.split(",")
    unknown = [name for name in names if name not in COMMANDS]
    if unknown:
        parser.error(f"--commands must be of {', '.join(COMMANDS)}, was {unknown[0]}")
    shape = Shape(
        num_records=given.records,
        num_networks=given.networks,
        num_seeds=given.seeds,
        num_items=given.items,
    )
    with tempfile.TemporaryDirectory() as scratch:
        results = given.at or Path(scratch) / "results"
        if not results.exists():
            for count in write_records(results, shape):
                if count % 1000 == 0:
                    print(f"{count} records written", file=sys.stderr)
        num_records = sum(1 for _ in results.glob("runs/*/*/*.json"))
        rows = [measure(name, results, repeats=given.repeats) for name in names]
    print(f"{num_records} records of {shape.num_items} items\n\n{shown(rows)}")
    if given.json is not None:
        found = {"records": num_records, "shape": asdict(shape), "rows": [*map(asdict, rows)]}
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if not all(row.is_same for row in rows):
        sys.exit("a command printed something else when it was warm")


if __name__ == "__main__":
    main()
