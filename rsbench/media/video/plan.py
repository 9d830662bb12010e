"""Which packets are decoded for the wanted frames: from the entry before each, and no further."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from rsbench.media.video.bitstreams import Holds
from rsbench.media.video.index import Index

# Plain numbers: an enumeration's operators cost as much as decoding a small packet.
_ENTRY, _DISPOSABLE = int(Holds.ENTRY), int(Holds.DISPOSABLE)


class Run(NamedTuple):
    """Packets that one after the other go through the decoder."""

    packets: list[int]
    """Numbers of those that must be decoded, rising."""
    expected: list[int]
    """Those of them that must give a frame, in the order in which the decoder gives them."""
    lenient: frozenset[int]
    """Those that may give a frame or none: what is shown before the entry, or not at all."""


def plan_runs(index: Index, wanted: Iterable[int]) -> list[Run]:
    """Plan the decoding of some frames, each packet at most once.

    A frame needs the packets from its entry on: the last one that comes no later than it, neither
    in decoding order nor in that of presentation (the leading pictures of an open group of pictures
    refer to the group before). From there up to the frame's own packet, what is disposable and not
    wanted is left out.

    Args:
        index: What the packets promise.
        wanted: Packets whose frames are wanted.

    Returns:
        Runs in decoding order, each beginning with an entry.
    """
    rank_of = {number: rank for rank, number in enumerate(index.output)}
    # A damaged entry may give no frame: then it is no place to begin at.
    entries = [
        number for number, held in enumerate(index.holds) if held & _ENTRY and number in rank_of
    ]
    chosen = sorted(wanted)
    spans = sorted((_entry(entries, rank_of, number), number) for number in chosen)
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    kept = frozenset(chosen)
    return [_run(index, rank_of, start, end, kept) for start, end in merged]


def _entry(entries: list[int], rank_of: dict[int, int], number: int) -> int:
    """Give the entry that governs a packet; the first one governs whatever comes before it."""
    rank = rank_of[number]
    for place in range(bisect_right(entries, number) - 1, 0, -1):
        if rank_of[entries[place]] <= rank:
            return entries[place]
    return entries[0]


def _run(
    index: Index, rank_of: dict[int, int], start: int, end: int, wanted: frozenset[int]
) -> Run:
    packets = [
        number
        for number in range(start, end + 1)
        if number in wanted or index.is_packed or not index.holds[number] & _DISPOSABLE
    ]
    hidden = set(index.left_out)
    first = rank_of[start]
    expected: list[int] = []
    lenient: set[int] = set()
    for number in packets:
        if number not in rank_of:
            continue
        skipped = index.holds[number] & _DISPOSABLE and number not in wanted
        if skipped or number in hidden or rank_of[number] < first:
            lenient.add(number)
        else:
            expected.append(number)
    expected.sort(key=rank_of.__getitem__)
    return Run(packets, expected, frozenset(lenient))
