"""Damaged videos neither crash, hang nor leak: each is read or failed, and a run goes on over them.

A child process reads them, so that a crash in a library is seen and named by its file. CI damages a
hundred; with RSBENCH_SOAK set, a thousand.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import rsbench
from mutation_world import mutate, write_mutants, write_seeds

from rsbench.media.video import write_video
from rsbench.records import store

# Read now: no test sees the user's RSBENCH_ variables.
NUM_MUTANTS = 1000 if "RSBENCH_SOAK" in os.environ else 100
LEAKED_BYTES = 8 * 1024**2
"""What a second, equal pass may add. Measured: 0.14 MiB after a thousand files, at 63 MiB."""


CHILD = Path(__file__).with_name("mutation_world.py")


def read_in_a_child(
    paths: list[Path], tmp_path: Path, program: Path = CHILD
) -> list[dict[str, Any]]:
    """Give the answer for each file; a child that dies is named by its file and followed by one."""
    answers: list[dict[str, Any]] = []
    while len(answers) < len(paths):
        rest = paths[len(answers) :]
        with (tmp_path / "stderr").open("wb") as errors:
            done = subprocess.run(
                [sys.executable, program],
                input="".join(f"{json.dumps(str(path))}\n" for path in rest),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                timeout=3600,
            )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        answers += [answer for answer in told if answer["outcome"] != "started"]
        if done.returncode != 0:
            trace = (tmp_path / "stderr").read_text(errors="replace")[-2000:]
            path = told[-1]["path"] if told else "nothing"
            answers.append({"path": path, "outcome": f"killed {done.returncode}", "what": trace})
    return answers


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_seeds(tmp_path_factory.mktemp("seeds"))


def test_sound_seeds_are_read(seeds: list[Path], tmp_path: Path) -> None:
    """What damage is done to: 24 kinds of video, less those that this library can't write."""
    answers = read_in_a_child(seeds, tmp_path)

    assert len(seeds) >= 15
    assert [answer["outcome"] for answer in answers] == ["read"] * len(seeds), answers
    assert {tuple(answer["num_frames"]) for answer in answers} == {(30,), (40,)}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc")
def test_damaged_videos_are_read_or_failed_and_leak_nothing(
    seeds: list[Path], tmp_path: Path
) -> None:
    mutants = write_mutants(tmp_path / "mutants", seeds, NUM_MUTANTS)

    first = read_in_a_child([*mutants, *mutants], tmp_path)

    outcomes = Counter(answer["outcome"] for answer in first)
    faults = [answer for answer in first if answer["outcome"] not in ("read", "failed")]
    assert not faults, f"{outcomes}; {faults[:3]}"
    # Both passes come to the same, pixels included, and damage of both degrees is there.
    facts = [
        {key: value for key, value in answer.items() if key not in ("memory", "files")}
        for answer in first
    ]
    assert facts[:NUM_MUTANTS] == facts[NUM_MUTANTS:]
    assert sum(bool(answer.get("uncertain")) for answer in first) < len(first) / 10
    assert sum(len(answer.get("num_frames", "")) > 1 for answer in first) < len(first) / 5
    assert min(outcomes["read"], outcomes["failed"]) > NUM_MUTANTS / 5
    # Equal work once more takes no more memory and leaves no file open.
    assert first[-1]["memory"] - first[NUM_MUTANTS - 1]["memory"] < LEAKED_BYTES
    assert {answer["files"] for answer in first} == {first[0]["files"]}


@pytest.mark.parametrize(
    ("deed", "outcome", "words"),
    [
        ("os.kill(os.getpid(), 11)", "killed -11", "Segmentation fault"),
        ("__import__('time').sleep(60)", "killed 1", "Timeout"),
        ("1 / 0", "raised", "ZeroDivisionError"),
    ],
    ids=["crash", "hang", "exception"],
)
def test_the_child_names_a_file_that_kills_it(
    seeds: list[Path], tmp_path: Path, deed: str, outcome: str, words: str
) -> None:
    """The watcher watches: a child that dies is answered for, and the rest is read."""
    program = tmp_path / "mutation_world.py"
    text, line = CHILD.read_text(), "            answer = judge(path)\n"
    assert line in text
    planted = f"            if 'deadly' in path.name:\n                {deed}\n{line}"
    text = text.replace(line, planted).replace("SECONDS_A_FILE = 20", "SECONDS_A_FILE = 2")
    program.write_text(text)
    deadly = tmp_path / "deadly.mp4"
    shutil.copyfile(seeds[0], deadly)

    answers = read_in_a_child([seeds[0], deadly, seeds[1]], tmp_path, program)

    assert [answer["outcome"] for answer in answers] == ["read", outcome, "read"]
    assert answers[1]["path"] == str(deadly)
    assert words in answers[1]["what"]


# -------------------------------------------------------------------------------------- a whole run


NUM_VIDEOS = {"train": 40, "test": 60}
HOPELESS = ("test/red/00.mp4", "test/blue/01.mp4")


def write_set(root: Path) -> list[Path]:
    """Write videos of two colours, a tenth of them damaged; give those."""
    damaged = []
    noise = np.random.default_rng(0)
    for split, number in NUM_VIDEOS.items():
        for count in range(number):
            colour = ("red", "blue")[count % 2]
            frames = noise.integers(90, 110, (12, 32, 32, 3), dtype=np.uint8)
            frames[..., 0 if colour == "red" else 2] += 100
            path = root / split / colour / f"{count:02d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames, fps=12, options={"g": "6"})
            if count % 10 == 3:
                chance = np.random.default_rng([5, count])
                path.write_bytes(mutate(path.read_bytes(), path.read_bytes(), chance))
                damaged.append(path)
    # Two that nobody can read, so that the counts below can't all be zero.
    for name, content in zip(HOPELESS, (b"", bytes(1000)), strict=True):
        (root / name).write_bytes(content)
        damaged.append(root / name)
    return damaged


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_over_a_set_of_which_a_tenth_is_damaged_counts_each(
    tmp_path: Path, workers: str
) -> None:
    root = tmp_path / "set"
    damaged = write_set(root)
    unreadable = {
        answer["path"]
        for answer in read_in_a_child(damaged, tmp_path)
        if answer["outcome"] == "failed"
    }

    answer = rsbench(
        *("run", "--task", "folder", "--backbone", "tiny_2d", "--pixels", "16"),
        *("--set", "strengths=3", "--data", root, "--results", tmp_path / "results"),
        *("--workers", workers, "--json"),
    )

    assert answer.code == 0, answer.err
    data = store.read(Path(json.loads(answer.out)["record"])).data
    failed = [
        {path for path in unreadable if path.endswith(tuple(item["id"] for item in items))}
        for items in (data.failed, data.train_failed)
    ]
    assert failed[0] | failed[1] == unreadable
    assert unreadable >= {str(root / name) for name in HOPELESS}
    assert (len(failed[0]), len(failed[1])) == (len(data.failed), len(data.train_failed))
    assert data.num_failed == len(failed[0])
    assert data.num_expected == NUM_VIDEOS["test"] == data.num_evaluated + data.num_failed
    assert data.num_train == NUM_VIDEOS["train"]
    assert all(item["reason"] for item in (*data.failed, *data.train_failed))
