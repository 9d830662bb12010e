"""What `video.py` measured, and the Markdown tables and verdicts that are drawn from it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from _video_peers import Entry

OURS = "rsbench, index kept"
GOALS: tuple[tuple[str, str | None, float], ...] = (
    ("torchcodec", None, 1.3),
    ("decord", None, 1.5),
    ("pytorchvideo", "W1", 4.0),
    ("pytorchvideo", "W2", 8.0),
)
"""Family, workload (None: each) and how many times our CPU time its best reader should take."""
LIMIT_GOAL = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A reader on one corpus and workload."""

    corpus: str
    workload: str
    reader: str
    milliseconds: tuple[float, ...]
    """CPU time a video, one value a repeat."""
    ratios: tuple[float, ...]
    """The same over ours in the same repeat."""
    of_limit: tuple[float, ...]
    """The limit over the time; empty without ffmpeg."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """How a reader's frames compare with the reference."""

    corpus: str
    reader: str
    num_exact: int
    num_asked: int
    median_decibels: float
    """PSNR to the reference's picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """A reader inside a DataLoader."""

    corpus: str
    workload: str
    reader: str
    videos_per_cpu_second: tuple[float, ...]
    """Of workers and parent together, one value a repeat."""


def lines_of_rows(rows: Sequence[Row]) -> Iterator[str]:
    """Give a Markdown table of one corpus and workload, fastest first."""
    yield "| reader | CPU ms a video | least, most | times ours | of limit |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for row in sorted(rows, key=lambda row: statistics.median(row.milliseconds)):
        limit = f"{statistics.median(row.of_limit):.2f}" if row.of_limit else ""
        yield (
            f"| {row.reader} | {statistics.median(row.milliseconds):.1f}"
            f" | {min(row.milliseconds):.1f}, {max(row.milliseconds):.1f}"
            f" | {statistics.median(row.ratios):.2f} | {limit} |"
        )


def lines_of_summary(rows: Sequence[Row]) -> Iterator[str]:
    """Give a Markdown table of everything, a column a corpus and workload.

    Yields:
        Cells with the median CPU time in milliseconds, the least and the most, and times ours.
    """
    places = list(dict.fromkeys((row.corpus, row.workload) for row in rows))
    heads = " | ".join(" ".join(place) for place in places)
    yield f"| CPU ms a video (least, most), times ours | {heads} |"
    yield f"| --- |{' --- |' * len(places)}"
    for name in dict.fromkeys(row.reader for row in rows):
        found = {(row.corpus, row.workload): row for row in rows if row.reader == name}
        cells = []
        for place in places:
            row = found.get(place)
            if row is None:
                cells.append("")
                continue
            times = row.milliseconds
            cells.append(
                f"{statistics.median(times):.0f} ({min(times):.0f}, {max(times):.0f})"
                f" {statistics.median(row.ratios):.2f}x"
            )
        yield f"| {name} | {' | '.join(cells)} |"


def lines_of_frames(found: Sequence[Frames]) -> Iterator[str]:
    """Give a Markdown table of how exact each reader is, a column a corpus."""
    corpora = list(dict.fromkeys(each.corpus for each in found))
    yield f"| frames as asked; PSNR | {' | '.join(corpora)} |"
    yield f"| --- |{' --- |' * len(corpora)}"
    for name in dict.fromkeys(each.reader for each in found):
        cells = [
            f"{each.num_exact}/{each.num_asked}; {each.median_decibels:.0f} dB"
            for each in found
            if each.reader == name
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def lines_of_throughput(found: Sequence[Throughput]) -> Iterator[str]:
    """Give a Markdown table of videos a CPU second, a column a corpus and workload."""
    places = list(dict.fromkeys((each.corpus, each.workload) for each in found))
    yield f"| videos a CPU second | {' | '.join(' '.join(place) for place in places)} |"
    yield f"| --- |{' ---: |' * len(places)}"
    for name in dict.fromkeys(each.reader for each in found):
        cells = [
            f"{statistics.median(each.videos_per_cpu_second):.1f}"
            f" ({min(each.videos_per_cpu_second):.1f}, {max(each.videos_per_cpu_second):.1f})"
            for each in found
            if each.reader == name
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def lines_of_goals(rows: Sequence[Row], readers: Mapping[str, Entry]) -> Iterator[str]:
    """Say of each goal where it is met: a family's best reader over ours, in each corpus.

    Yields:
        A table of the ratios, those that miss their goal marked by an asterisk.
    """
    places = list(dict.fromkeys((row.corpus, row.workload) for row in rows))
    yield f"| goal | {' | '.join(' '.join(place) for place in places)} |"
    yield f"| --- |{' ---: |' * len(places)}"
    for family, only, goal in GOALS:
        cells = []
        for place in places:
            best = _best(rows, readers, family, place)
            if best is None or only not in (None, place[1]):
                cells.append("")
            else:
                cells.append(f"{best:.2f}{'' if best >= goal else ' *'}")
        where = "" if only is None else f" on {only}"
        if any(cells):
            yield f"| {family}'s best / ours{where}, {goal:g} | {' | '.join(cells)} |"
    limits = {(row.corpus, row.workload): row.of_limit for row in rows if row.reader == OURS}
    if all(limits.values()):
        middles = [statistics.median(limits[place]) for place in places]
        cells = [f"{each:.2f}{'' if each >= LIMIT_GOAL else ' *'}" for each in middles]
        yield f"| of the limit, {LIMIT_GOAL:g} | {' | '.join(cells)} |"


def _best(
    rows: Sequence[Row], readers: Mapping[str, Entry], family: str, place: tuple[str, str]
) -> float | None:
    """Give the least median ratio to ours of a family's readers; None without any."""
    ratios = [
        statistics.median(row.ratios)
        for row in rows
        if (row.corpus, row.workload) == place and readers[row.reader].family == family
    ]
    return min(ratios, default=None)
