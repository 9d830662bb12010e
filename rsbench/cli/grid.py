"""From the words of `rsbench run` to its cells: every task, backbone, protocol and seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rsbench.cli.options import default_device, own_device, views_of
from rsbench.cores import usable_cores
from rsbench.errors import RsbenchError
from rsbench.suites import SAMPLE, Suite, find_suite

if TYPE_CHECKING:
    from rsbench.cells import RunRequest
    from rsbench.specs import Task

MOST_SEED = 2**32 - 1
"""The largest seed that numpy's generators, torch's and Python's all take."""

MOST_WORKERS = 32
"""Each holds up to two batches in memory."""


class _Cell(NamedTuple):
    """The names of one request, and where its data lies."""

    task: str
    backbone: str
    weights: str
    protocol: str
    data: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """What a command line asks for: one request a cell, task by task."""

    requests: tuple[RunRequest, ...]
    suite: Suite | None = None
    """With the protocols that are run, where a suite was named."""
    without_data: tuple[str, ...] = ()
    """Tasks of the suite whose data is not configured: left out."""
    faults: tuple[tuple[str, RsbenchError], ...] = ()
    """Backbones that can't run in any cell of the suite, each with the reason: left out."""


def requests_of(words: dict[str, Any]) -> list[RunRequest]:
    """Take the words apart: one request a cell; names and data are found before anything runs."""
    return list(grid_of(words).requests)


def grid_of(words: dict[str, Any]) -> Grid:
    """Take the words apart; names, data and a suite's weights are found before anything runs.

    Raises:
        RsbenchError: A word is wrong, or nothing of the suite can run.
    """
    from rsbench.cells import check_overrides
    from rsbench.registry import find_protocol

    if words["tasks"] is not None and words["suite"] is not None:
        raise RsbenchError(
            f"--task {words['tasks']} and --suite {words['suite']} exclude each other, for a suite"
            " names its tasks; give one."
        )
    if words["tasks"] is None and words["suite"] is None:
        raise RsbenchError(
            "Name what to run: --task NAME, or --suite NAME. `rsbench ls tasks` and `rsbench ls"
            " suites` list them."
        )
    suite = None if words["suite"] is None else find_suite(words["suite"])
    default = "linear_probe" if suite is None else ",".join(suite.protocols)
    protocols = names_of(words["protocols"] or default)
    found = [find_protocol(name).spec for name in protocols]
    overrides = overrides_of(words["overrides"])
    for protocol in found:
        check_overrides(protocol, overrides)
    if suite is not None:
        named = replace(suite, protocols=tuple(protocol.name for protocol in found))
        return _suite_grid(named, protocols, words)
    return Grid(requests=_requests(_plain_cells(words, protocols), words))


def _plain_cells(words: dict[str, Any], protocols: Sequence[str]) -> list[_Cell]:
    from rsbench.cells import find_task_and_data
    from rsbench.registry import find_backbone

    cells = []
    for task in names_of(words["tasks"]):
        found, _ = find_task_and_data(task, words["data"])
        named = words["backbones"] or _default_backbones([found.spec.modality])
        pairs = backbones_with_weights(named, words["weights"])
        for name, _ in pairs:
            find_backbone(name)
        cells += [
            _Cell(task, backbone, weights, protocol, words["data"])
            for (backbone, weights), protocol in itertools.product(pairs, protocols)
        ]
    return cells


def _suite_grid(suite: Suite, protocols: Sequence[str], words: dict[str, Any]) -> Grid:
    """Give the cells of a suite, without the tasks and backbones that can't run.

    A task of a published suite is never run on its sample because its data is absent, and a
    network never on random weights because those asked for are.
    """
    from rsbench.registry import find_task, split_sample

    specs = {name: find_task(split_sample(name)[0]).spec for name in suite.tasks}
    places = {name: _place(name, specs[name], words["data"]) for name in suite.tasks}
    without_data = tuple(name for name, place in places.items() if place is None)
    if len(without_data) == len(suite.tasks):
        raise RsbenchError(f"Nothing of suite {suite.name} can run: {no_data(suite, without_data)}")
    default = _default_backbones([spec.modality for spec in specs.values()])
    pairs = backbones_with_weights(words["backbones"] or default, words["weights"])
    faults = {pair: fault for pair in pairs if (fault := _fault(*pair)) is not None}
    if len(faults) == len(pairs):
        raise next(iter(faults.values()))
    cells = [
        _Cell(task, *pair, protocol, place.data)
        for task, place in places.items()
        if place is not None
        for pair in pairs
        if pair not in faults
        for protocol in protocols
    ]
    return Grid(
        requests=_requests(cells, words),
        suite=suite,
        without_data=without_data,
        faults=tuple((backbone, fault) for (backbone, _), fault in faults.items()),
    )


class _Place(NamedTuple):
    """Where the data of a suite's task lies; None leaves it to the configuration."""

    data: Path | None


def _place(name: str, task: Task, data: Path | None) -> _Place | None:
    """Find the data of one task of a suite; None where there is none and no sample is meant."""
    from rsbench.data.roots import find_root
    from rsbench.registry import split_sample

    if split_sample(name)[1]:
        return _Place(None)
    if data is not None and not data.is_dir():
        raise RsbenchError(
            f"--data of a suite must be a folder with a folder named like each task; {data} is"
            " none."
        )
    below = None if data is None else data / name
    if below is not None and below.exists():
        return _Place(below)
    return None if find_root(task) is None else _Place(None)


def no_data(suite: Suite, names: Sequence[str]) -> str:
    """Say which tasks of a suite have no data, and what would give them some."""
    from rsbench.data.roots import variable_name

    first = names[0]
    return (
        f"no data of {', '.join(names)} is configured. Give --data DIR with a folder DIR/{first},"
        f" or set {variable_name(first)}; `rsbench show {first}` says how to get it, and --suite"
        f" {suite.name.removesuffix(SAMPLE)}{SAMPLE} runs embedded samples."
    )


def _fault(backbone: str, weights: str) -> RsbenchError | None:
    """Say why a backbone can't begin with the weights asked for; names that are wrong are raised.

    Raises:
        RsbenchError: There is no such backbone.
    """
    from rsbench.cells import network_of
    from rsbench.data.roots import cache_root
    from rsbench.registry import find_backbone
    from rsbench.weights.choosing import choose_weights

    found = find_backbone(backbone)
    try:
        found, _ = network_of(found, weights)
        choose_weights(found.spec, weights, cache_root=cache_root())
    except RsbenchError as fault:
        return fault
    return None


def backbones_with_weights(backbones: str, weights: str) -> list[tuple[str, str]]:
    """Pair backbones with what each begins with: one word for all of them, or one a backbone.

    Raises:
        RsbenchError: A name is empty, or there are more or fewer weights than backbones.
    """
    words = weights.split(",")
    if len(words) == 1 or Path(weights).exists():
        return [(name, weights) for name in names_of(backbones)]
    names = backbones.split(",")
    if len(names) != len(words) or not all(names) or not all(words):
        raise RsbenchError(
            "--weights must be one for all backbones, or one a backbone by commas"
            f" (pretrained,none); there are {len(names)} backbones and {len(words)} weights."
        )
    pairs = zip(names, words, strict=True)
    return list(dict.fromkeys((name.strip(), word.strip()) for name, word in pairs))


def _requests(cells: Sequence[_Cell], words: dict[str, Any]) -> tuple[RunRequest, ...]:
    """Give one request a cell and seed."""
    from rsbench.cells import RunRequest
    from rsbench.data.launching import processes_here
    from rsbench.data.roots import cache_root

    seeds = _seeds(words["seed"], words["seeds"])
    device = own_device(words["device"] or default_device())
    return tuple(
        RunRequest(
            task=cell.task,
            backbone=cell.backbone,
            protocol=cell.protocol,
            data=cell.data,
            weights=cell.weights,
            seed=seed,
            results=words["results"],
            cache_root=cache_root(),
            limit=words["limit"],
            overrides=overrides_of(words["overrides"]),
            pixels=words["pixels"],
            frames=words["frames"],
            stride=words["stride"],
            views=None if words["views"] is None else views_of(words["views"]),
            sampler=words["sampler"],
            cropper=words["cropper"],
            folds=() if words["folds"] is None else tuple(names_of(words["folds"])),
            cross_validate=words["cross_validate"],
            group_by=words["group_by"],
            keep_views_up_to_gib=words["keep_views_up_to"],
            max_failed=words["max_failed"],
            device=device,
            batch_size=words["batch_size"],
            num_workers=_default_workers(device, shared_by=words["gpus"] or processes_here())
            if words["workers"] is None
            else words["workers"],
            cache_clips_gib=words["cache_clips"],
            cache_limit_gib=words["cache_limit"],
            precision=words["precision"],
            compile=words["compile"],
            keep_checkpoints=words["keep_checkpoints"],
            checkpoint_minutes=words["checkpoint_minutes"],
            log_root=words["tensorboard"],
            again=words["again"],
            allow_test_selection=words["allow_test_selection"],
        )
        for cell in cells
        for seed in seeds
    )


def say_left_out(grid: Grid) -> int:
    """Say what of a suite can't run, before anything does; give the exit code it is worth.

    Data that nobody has is a fact of the machine, weights that can't be had are the user's words.
    """
    if grid.suite is not None and grid.without_data:
        text = no_data(grid.suite, grid.without_data)
        click.echo(f"rsbench: left out of suite {grid.suite.name}: {text}", err=True)
    for backbone, fault in grid.faults:
        click.echo(
            f"rsbench: {backbone} is left out of the suite: {fault} (--weights pretrained,none"
            " gives each backbone its own.)",
            err=True,
        )
    return max((fault.exit_code for _, fault in grid.faults), default=0)


def names_of(text: str) -> list[str]:
    """Give the names of a list by commas, each once.

    Raises:
        RsbenchError: One of them is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RsbenchError(f"A list of names must be separated by single commas; it was {text!r}.")
    return list(dict.fromkeys(names))


def _seeds(one: int | None, several: str | None) -> list[int]:
    if several is None:
        return [one or 0]
    if one is not None:
        raise RsbenchError(f"--seed {one} and --seeds {several} exclude each other; give one.")
    try:
        seeds = [int(part) for part in several.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) > MOST_SEED:
        raise RsbenchError(
            f"--seeds must be whole numbers from 0 to {MOST_SEED} by commas (0,1,2);"
            f" it was {several!r}."
        )
    return list(dict.fromkeys(seeds))


def overrides_of(texts: Sequence[str]) -> dict[str, str]:
    """Give the entries after ``--set`` by their keys.

    Raises:
        RsbenchError: One is not KEY=VALUE, or a key stands twice.
    """
    pairs = [_pair(text) for text in texts]
    overrides = dict(pairs)
    if len(overrides) < len(pairs):
        twice = next(key for key, _ in pairs if [each for each, _ in pairs].count(key) > 1)
        raise RsbenchError(f"--set gives {twice} more than once; give each key one value.")
    return overrides


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise RsbenchError(f"--set must be KEY=VALUE, such as --set lr=0.1; it was {text!r}.")
    return key, value


def _default_backbones(modalities: Sequence[str]) -> str:
    """The paper's network, and beside it on video the same one without a sense of time."""
    return "resnet_rs_3d_50,resnet_rs_50" if "video" in modalities else "resnet_rs_50"


def _default_workers(device: str, *, shared_by: int = 1) -> int:
    """Give loader processes: on a CPU the network needs the cores itself; one feeds a GPU.

    Args:
        device: Where the network runs.
        shared_by: Processes of this run on this machine, which share its cores.
    """
    return 0 if device == "cpu" else min(MOST_WORKERS, max(1, usable_cores() // shared_by - 1))
