"""Read clips of videos: rsbench beside torchcodec, decord, mmaction2, pytorchvideo, OpenCV, PyAV.

    pip install -r benchmarks/requirements-video.txt
    python benchmarks/video.py [--videos 4] [--repeats 5] [--markdown FILE] [--json FILE]

Videos are made here (`_video_corpus.py`), 340 x 256 and 1280 x 720, a keyframe every 12 and every
250 frames. Every reader gives the same frames of three workloads (`_video_work.py`), short side 256
and the centre 224, uint8. First each reader's frames are held to ffmpeg's own: the frame asked for
must be nearer than its neighbours, and how near is printed. Then readers take turns on each video,
each repeat in another order. Figures are CPU milliseconds a video of this process (user and
system), on one thread; a ratio is the median over repeats of another reader's time over that of
rsbench with its index kept. "Of limit" is the time that ffmpeg needs for the packets that must be
decoded, over the reader's. At last videos come through PyTorch's DataLoader.

A library that is not installed is left out, which is said; without ffmpeg frames are held to PyAV's
whole decode, and there is no limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from _video_corpus import SIZES, Corpus, make_corpus
from _video_peers import Entry, available, versions
from _video_tables import (
    OURS,
    Frames,
    Row,
    Throughput,
    lines_of_frames,
    lines_of_goals,
    lines_of_rows,
    lines_of_summary,
    lines_of_throughput,
)
from _video_work import (
    INPUT,
    WORKLOADS,
    Wanted,
    children_seconds,
    decoding_milliseconds,
    packets_needed,
    packets_of,
    reference_frames,
    signal_to_noise,
    wanted_frames,
)
from torch.utils.data import DataLoader, Dataset

# -------------------------------------------------------------------------------------- measuring


def verify(corpus: Corpus, readers: Mapping[str, Entry], *, ffmpeg: bool) -> list[Frames]:
    """Hold every reader's frames of every workload and video to the reference."""
    exact, asked = dict.fromkeys(readers, 0), dict.fromkeys(readers, 0)
    decibels: dict[str, list[float]] = {name: [] for name in readers}
    for path in corpus.paths:
        reference = reference_frames(path, ffmpeg=ffmpeg)
        for workload in WORKLOADS:
            wanted = wanted_frames(workload, path, 0)
            for name, entry in readers.items():
                frames = entry.read(path, wanted).reshape(-1, INPUT.pixels, INPUT.pixels, 3)
                for place, frame in zip(wanted.ravel().tolist(), frames, strict=True):
                    near = range(max(0, place - 1), min(len(reference), place + 2))
                    found = {
                        each: max(
                            signal_to_noise(frame, reference[each][:, shift : shift + INPUT.pixels])
                            for shift in (0, 1)
                        )
                        for each in near
                    }
                    exact[name] += found[place] == max(found.values())
                    asked[name] += 1
                    decibels[name].append(found[place])
    return [
        Frames(
            corpus=corpus.size.name,
            reader=name,
            num_exact=exact[name],
            num_asked=asked[name],
            median_decibels=statistics.median(decibels[name]),
        )
        for name in readers
    ]


def measure(
    corpus: Corpus,
    workload: str,
    readers: Mapping[str, Entry],
    *,
    repeats: int,
    decoding: Mapping[Path, float],
) -> list[Row]:
    """Give each reader's CPU time a video; on each video the turns begin with another reader."""
    names = [*readers]
    spent: dict[str, list[float]] = {name: [] for name in names}
    limits = []
    for repeat in range(repeats):
        total = dict.fromkeys(names, 0.0)
        limit = 0.0
        for number, path in enumerate(corpus.paths):
            wanted = wanted_frames(workload, path, repeat)
            limit += packets_needed(packets_of(path), wanted) * decoding.get(path, 0.0)
            for name in _turned(names, number + repeat):
                started = time.process_time()
                readers[name].read(path, wanted)
                total[name] += time.process_time() - started
        limits.append(limit / len(corpus.paths))
        for name in names:
            spent[name].append(1000 * total[name] / len(corpus.paths))
    return [
        Row(
            corpus=corpus.size.name,
            workload=workload,
            reader=name,
            milliseconds=tuple(spent[name]),
            ratios=tuple(a / b for a, b in zip(spent[name], spent[OURS], strict=True)),
            of_limit=tuple(a / b for a, b in zip(limits, spent[name], strict=True))
            if decoding
            else (),
        )
        for name in names
    ]


class _Videos(Dataset[torch.Tensor]):
    def __init__(
        self, requests: Sequence[tuple[Path, Wanted]], read: Callable[[Path, Wanted], np.ndarray]
    ) -> None:
        self._requests = requests
        self._read = read

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._read(*self._requests[row]))


def throughput(
    corpus: Corpus,
    workload: str,
    readers: Mapping[str, Entry],
    *,
    repeats: int,
    num_workers: int,
    passes: int,
) -> list[Throughput]:
    """Give videos a CPU second through a DataLoader: start, collation and transfer included."""
    requests = [
        (path, wanted_frames(workload, path, turn))
        for turn in range(passes)
        for path in corpus.paths
    ]
    names = [*readers]
    found: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in _turned(names, repeat):
            loader = DataLoader(
                _Videos(requests, readers[name].read),
                batch_size=4,
                num_workers=num_workers,
                multiprocessing_context="fork",
            )
            started = time.process_time() + children_seconds()
            videos = sum(len(batch) for batch in loader)
            found[name].append(videos / (time.process_time() + children_seconds() - started))
    return [
        Throughput(
            corpus=corpus.size.name,
            workload=workload,
            reader=name,
            videos_per_cpu_second=tuple(found[name]),
        )
        for name in names
    ]


def _turned(names: Sequence[str], turn: int) -> list[str]:
    first = turn % len(names)
    return [*names[first:], *names[:first]]


# ---------------------------------------------------------------------------------------- machine


def machine() -> str:
    """Name the processor and how many cores this process may use."""
    model = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        lines = listed.read_text(encoding="utf-8").splitlines()
        model = next((each.split(":")[1].strip() for each in lines if "model name" in each), model)
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def _ffmpeg_version() -> str | None:
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    said = subprocess.run([program, "-version"], check=True, capture_output=True, text=True)
    return said.stdout.split()[2]


# -------------------------------------------------------------------------------------------- main


def _words(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = ",".join(size.name for size in SIZES)
    parser.add_argument("--corpora", default=sizes, help=f"by commas, of {sizes}")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="by commas")
    parser.add_argument("--readers", help="by slashes, of those in the table; all by default")
    parser.add_argument("--videos", type=int, default=4, help="videos of each corpus")
    parser.add_argument("--large-videos", type=int, default=2, help="videos of 1280 x 720")
    parser.add_argument("--seconds", type=float, default=10, help="length of a video")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each reader")
    parser.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    parser.add_argument("--passes", type=int, default=4, help="times it goes over the videos")
    parser.add_argument("--no-loader", action="store_true", help="leave the DataLoader out")
    parser.add_argument("--folder", type=Path, help="where videos are made and kept")
    parser.add_argument("--json", type=Path, help="every value, into this file")
    parser.add_argument("--markdown", type=Path, help="what is printed, into this file too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the videos, verify, measure, print."""
    words = _words(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        lines, values = _run(words, words.folder or Path(folder))
    if words.markdown is not None:
        words.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if words.json is not None:
        words.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _run(words: argparse.Namespace, folder: Path) -> tuple[list[str], dict[str, object]]:
    lines: list[str] = []

    def say(text: str = "") -> None:
        """Print a line that belongs into the report too; the rest is to be seen as it comes."""
        lines.append(text)
        print(text, flush=True)

    readers, missing = available()
    if words.readers is not None:
        asked = {OURS, *words.readers.split("/")}
        readers = {name: entry for name, entry in readers.items() if name in asked}
    ffmpeg = _ffmpeg_version()
    say(f"{machine()}; {', '.join(f'{name} {each}' for name, each in versions().items())};")
    say(f"ffmpeg {ffmpeg or 'is not installed: no limit'}; medians of {words.repeats}, one thread")
    for name, fault in missing.items():
        say(f"left out: {name} ({fault})")
    corpora = [
        make_corpus(
            folder,
            size,
            num_videos=words.large_videos if size.width > 640 else words.videos,
            seconds=words.seconds,
        )
        for size in SIZES
        if size.name in words.corpora.split(",")
    ]
    frames: list[Frames] = []
    rows: list[Row] = []
    for corpus in corpora:
        frames += verify(corpus, readers, ffmpeg=ffmpeg is not None)
        decoding = {} if ffmpeg is None else {p: decoding_milliseconds(p) for p in corpus.paths}
        for workload in words.workloads.split(","):
            found = measure(corpus, workload, readers, repeats=words.repeats, decoding=decoding)
            rows += found
            said = f"{corpus.size.name} {workload}: {len(corpus.paths)} videos, {corpus.source}"
            print("", said, "", *lines_of_rows(found), sep="\n", flush=True)
    say()
    summary, exact, goals = (
        lines_of_summary(rows),
        lines_of_frames(frames),
        lines_of_goals(rows, readers),
    )
    for line in (*summary, "", *exact, "", *goals):
        say(line)
    through: list[Throughput] = []
    if not words.no_loader:
        # mmaction2 and the like take long to import: the workers inherit them.
        small = corpora[-1] if corpora[-1].size.width <= 640 else corpora[min(1, len(corpora) - 1)]
        for workload in words.workloads.split(","):
            through += throughput(
                small,
                workload,
                readers,
                repeats=words.repeats,
                num_workers=words.workers,
                passes=words.passes,
            )
        say(f"\nDataLoader, {words.workers} workers, batches of 4, {words.passes} passes\n")
        for line in lines_of_throughput(through):
            say(line)
    values: dict[str, object] = {
        "machine": machine(),
        "versions": {**versions(), "ffmpeg": ffmpeg},
        "command": " ".join(sys.argv),
        "frames": [asdict(each) for each in frames],
        "rows": [asdict(each) for each in rows],
        "throughput": [asdict(each) for each in through],
    }
    return lines, values


if __name__ == "__main__":
    main()
