"""Time the commands that must answer at once, beside starting Python and importing torch.

    python benchmarks/starting.py [--repeats 5]

`rsbench --help`, `ls` and `table` import neither torch nor scikit-learn. Each command runs as a
process of its own, in turn with the others; the median of the wall clock is printed, and its ratio
to `import torch`, which is what a command line that imports its engine pays before its first word.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"

COMMANDS: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "rsbench --help": ["-m", "rsbench", "--help"],
    "rsbench ls backbones": ["-m", "rsbench", "ls", "backbones"],
    "rsbench table": ["-m", "rsbench", "table", str(RESULTS)],
    "import torch": ["-c", "import torch"],
}


def seconds_of(words: list[str]) -> float:
    """Run one process to its end and give its wall clock."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print a line a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="processes of each command")
    repeats = parser.parse_args().repeats
    for words in COMMANDS.values():
        seconds_of(words)  # the first one reads files from the disk
    rounds = [{name: seconds_of(words) for name, words in COMMANDS.items()} for _ in range(repeats)]
    print(f"{'command':24} {'seconds':>8} {'of import torch':>16}")
    for name in COMMANDS:
        median = statistics.median(each[name] for each in rounds)
        ratio = statistics.median(each[name] / each["import torch"] for each in rounds)
        print(f"{name:24} {median:8.2f} {ratio:16.2f}")


if __name__ == "__main__":
    main()
