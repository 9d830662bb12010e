"""From the words of `rsbench run` to its cells: every task, backbone, protocol and seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rsbench.cli.options import default_device, views_of
from rsbench.cores import usable_cores
from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rsbench.cells import RunRequest

MOST_SEED = 2**32 - 1
"""The largest seed that numpy's generators, torch's and Python's all take."""

MOST_WORKERS = 32
"""Each holds up to two batches in memory."""


def requests_of(words: dict[str, Any]) -> list[RunRequest]:
    """Take the words apart: one request a cell; names and data are found before anything runs."""
    from rsbench.cells import RunRequest, find_task_and_data
    from rsbench.data.roots import cache_root
    from rsbench.registry import find_backbone, find_protocol

    tasks, protocols = names_of(words["tasks"]), names_of(words["protocols"])
    seeds = _seeds(words["seed"], words["seeds"])
    overrides = _overrides(words["overrides"])
    views = None if words["views"] is None else views_of(words["views"])
    for name in protocols:
        find_protocol(name)
    cells = []
    for task in tasks:
        found, _ = find_task_and_data(task, words["data"])
        backbones = names_of(words["backbones"] or _default_backbones(found.spec.modality))
        for name in backbones:
            find_backbone(name)
        cells += list(itertools.product([task], backbones, protocols, seeds))
    device = words["device"] or default_device()
    workers = _default_workers(device) if words["workers"] is None else words["workers"]
    return [
        RunRequest(
            task=task,
            backbone=backbone,
            protocol=protocol,
            results=words["results"],
            cache_root=cache_root(),
            data=words["data"],
            weights=words["weights"],
            seed=seed,
            limit=words["limit"],
            overrides=overrides,
            pixels=words["pixels"],
            frames=words["frames"],
            stride=words["stride"],
            views=views,
            sampler=words["sampler"],
            cropper=words["cropper"],
            folds=() if words["folds"] is None else tuple(names_of(words["folds"])),
            keep_views_up_to_gib=words["keep_views_up_to"],
            max_failed=words["max_failed"],
            device=device,
            batch_size=words["batch_size"],
            num_workers=workers,
            cache_clips_gib=words["cache_clips"],
            precision=words["precision"],
            again=words["again"],
        )
        for task, backbone, protocol, seed in cells
    ]


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


def _overrides(texts: Sequence[str]) -> dict[str, str]:
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


def _default_backbones(modality: str) -> str:
    """The paper's network, and beside it on video the same one without a sense of time."""
    return "resnet_rs_3d_50,resnet_rs_50" if modality == "video" else "resnet_rs_50"


def _default_workers(device: str) -> int:
    """Give loader processes: on a CPU the network needs the cores itself; one feeds a GPU."""
    return 0 if device == "cpu" else min(MOST_WORKERS, max(1, usable_cores() - 1))
