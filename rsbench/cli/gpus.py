"""`--gpus N`: the cells of a grid in processes of their own, on the GPUs of this machine.

A cell is run by all GPUs together, cell by cell, or by one while the others run other cells:

- a network that learns is trained by all of them, but for small trainings of a grid, of which each
  GPU takes one: small shares of a batch are slower, and no longer the batch the recipe means to
  batch normalisation;
- a frozen network goes over the data on one GPU where the grid has as many of these as there are
  GPUs, and on all of them where it has fewer.

Each cell is a process, or one a GPU, of the command ``rsbench run`` with the cell's own words: the
same that anybody could type, or that another machine could run. This process computes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rsbench.errors import RsbenchError, RunError
from rsbench.processes import Command, Job, Outcome, run_jobs

if TYPE_CHECKING:
    from rsbench.cells import Cell, RunRequest

SMALL_TRAINING_FRAMES = 10_000_000
"""Frames through the network, a backward pass counted as two, up to which a training is small: 30
epochs of 110,000 pictures."""


class Told(NamedTuple):
    """What came of a cell."""

    path: Path | None
    """Of its record; None where it failed."""
    reused: bool
    fault: RsbenchError | None


def check_gpus(num: int, device: str | None) -> str:
    """Give the kind of device that all processes use, "cpu" or "cuda".

    Raises:
        RsbenchError: There are fewer GPUs, or processes have been started by others already.
    """
    import torch

    from rsbench.data.launching import launch_of

    launch = launch_of()
    if launch is not None:
        raise RsbenchError(
            f"--gpus {num} starts processes of its own, and {launch.by} has started {launch.size}"
            " already: leave --gpus out."
        )
    num_here = torch.cuda.device_count()
    kind = device or ("cuda" if num_here else "cpu")
    if kind not in {"cpu", "cuda"}:
        raise RsbenchError(
            f"--gpus {num} takes the first {num} GPUs, and --device must be cuda or cpu beside it;"
            f" it was {kind!r}: choose others by CUDA_VISIBLE_DEVICES."
        )
    if device is None and kind == "cpu":
        raise RsbenchError(
            f"--gpus {num} must have as many GPUs, and there is none here; --device cpu starts"
            f" {num} processes of the CPU instead."
        )
    if kind == "cuda" and num > num_here:
        raise RsbenchError(
            f"--gpus must be at most the number of GPUs here, {num_here}; it was {num}."
        )
    return kind


def processes_of(requests: Sequence[RunRequest], num: int) -> list[int]:
    """Give how many processes would run each cell of a grid on so many GPUs."""
    from rsbench.cells import prepare

    def cells() -> Iterator[Cell | None]:
        for request in requests:
            try:
                cell: Cell | None = prepare(request)
            except RsbenchError:
                cell = None
            yield cell

    return [num if job.on_all else 1 for job in jobs_of(cells(), num)]


class _Work(NamedTuple):
    """What a cell asks of the GPUs, without its items."""

    frames: float | None
    """That a network learns from, a backward pass counted as two; None for a frozen network."""
    key: str
    """See `_key_of`."""


def jobs_of(cells: Iterable[Cell | None], num: int) -> list[Job]:
    """Say which cells take one GPU and which all of them.

    Args:
        cells: Those of a grid, looked at one after another and not kept; None for one that can't be
            prepared, and fails on one GPU.
        num: GPUs.
    """
    works = [None if cell is None else _Work(_frames_of(cell), _key_of(cell)) for cell in cells]
    frozen = {work.key for work in works if work is not None and work.frames is None}
    jobs = []
    for number, work in enumerate(works):
        if work is None:
            jobs.append(Job(number=number, on_all=False))
        elif work.frames is None:
            jobs.append(Job(number=number, on_all=len(frozen) < num, key=work.key))
        else:
            on_all = len(works) == 1 or work.frames > SMALL_TRAINING_FRAMES
            jobs.append(Job(number=number, on_all=on_all))
    return jobs


def _frames_of(cell: Cell) -> float | None:
    protocol = cell.protocol.spec
    if not protocol.learns_backbone(cell.recipe):
        return None
    num_views = protocol.train_passes(cell.recipe) * cell.gathered.num_train
    return (num_views + protocol.train_views(cell.recipe)) * cell.fit_reading.clip.frames


def _key_of(cell: Cell) -> str:
    """Name what a frozen network gives: cells that share it wait for one another's cache."""
    request = cell.request
    drawn = str(request.seed) if cell.weights.name == "none" else ""
    return " ".join([request.task, request.backbone, request.weights, drawn])


def run_in_processes(
    requests: Sequence[RunRequest],
    jobs: Sequence[Job],
    *,
    num: int,
    kind: str,
    heard: Callable[[str], None],
    told: Callable[[int, Told], None],
    threads: int | None = None,
) -> int | None:
    """Run each request in one process, or in one a GPU; give the signal that stopped it, if any.

    Args:
        requests: Those that the jobs are numbered by; one that names its GPU ("cuda:1") has that.
        jobs: On one GPU or on all.
        num: GPUs, or processes of the CPU.
        kind: "cpu" or "cuda".
        heard: Called with lines that processes say meanwhile.
        told: Called with the number of a request and what came of it.
        threads: Of each process; None leaves them to OMP_NUM_THREADS, or shares the cores.
    """
    from rsbench.data.launching import loopback

    with tempfile.TemporaryDirectory(prefix="rsbench-") as folder:

        def commands_of(job: Job, devices: Sequence[int]) -> list[Command]:
            request = requests[job.number]
            if not job.on_all:
                device = "cpu" if kind == "cpu" else f"cuda:{devices[0]}"
                if ":" in request.device:
                    device = request.device
                environment = _environment(request, num, threads)
                return [Command(_command(dataclasses.replace(request, device=device)), environment)]
            words = _command(dataclasses.replace(request, device=kind))
            meeting = f"file://{folder}/{job.number}"
            near = loopback()
            return [
                Command(
                    words,
                    {
                        **({} if near is None else {"GLOO_SOCKET_IFNAME": near}),
                        **_environment(request, num, threads),
                        "RANK": str(rank),
                        "WORLD_SIZE": str(num),
                        "LOCAL_RANK": str(rank),
                        "RENDEZVOUS": meeting,
                    },
                )
                for rank in range(num)
            ]

        def pass_on(job: Job, process: int, line: str) -> None:
            if process == 0 and not line.startswith("rsbench: "):
                name = "" if job.on_all or len(jobs) == 1 else f"  {_named(requests[job.number])}:"
                heard(f"{name}{line}")

        return run_jobs(
            jobs,
            num_devices=num,
            commands_of=commands_of,
            heard=pass_on,
            done=lambda job, outcome: told(job.number, _told(outcome)),
        )


def _named(request: RunRequest) -> str:
    return f"{request.task}, {request.backbone}, {request.protocol}, seed {request.seed}"


def _told(outcome: Outcome) -> Told:
    """Read what the first process printed, or say what went wrong."""
    if not any(outcome.codes):
        # What a plug-in prints comes before, and may come after.
        lines = [line for line in outcome.output.splitlines() if line.startswith('{"')]
        if not lines:
            return Told(None, False, RunError("its process ended without a word of its record."))
        described = json.loads(lines[-1])
        return Told(Path(described["record"]), bool(described["reused"]), None)
    lines_of = [
        [line.removeprefix("rsbench: ") for line in said if line.startswith("rsbench: ")]
        for said in outcome.said
    ]
    first = outcome.first_failed or 0
    if outcome.codes[first] == -signal.SIGABRT:
        # So NCCL ends processes that waited for one that failed, which says why.
        first = next((number for number, lines in enumerate(lines_of) if lines), first)
    code, num = outcome.codes[first], len(outcome.codes)
    which = "its process" if num == 1 else f"process {first + 1} of {num}"
    if code < 0:
        name = signal.Signals(-code).name
        words = f"{which} was ended by {name}; what was computed is kept, start it again."
    elif lines_of[first]:
        words = lines_of[first][-1]
    else:
        last = f": {outcome.said[first][-1].strip()}" if outcome.said[first] else "."
        words = f"{which} ended with exit code {code}{last}"
    kind = RsbenchError if code == RsbenchError.exit_code else RunError
    return Told(None, False, kind(words))


def _environment(request: RunRequest, num: int, threads: int | None) -> dict[str, str]:
    """Give a process the environment of this one, and its share of the cores."""
    from rsbench.cores import usable_cores

    share = str(max(1, usable_cores() // num))
    return {
        "OMP_NUM_THREADS": share,
        **os.environ,
        **({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
        "RSBENCH_CACHE": str(request.cache_root),
    }


def _command(request: RunRequest) -> tuple[str, ...]:
    return (sys.executable, "-m", "rsbench", "run", *words_of(request), "--json")


def words_of(request: RunRequest) -> list[str]:
    """Give the words of `rsbench run` that ask for a cell, all of them that move anything."""
    views = request.views
    given: Mapping[str, object] = {
        "--task": request.task,
        "--backbone": request.backbone,
        "--protocol": request.protocol,
        "--results": request.results,
        "--data": request.data,
        "--weights": request.weights,
        "--seed": request.seed,
        "--limit": request.limit,
        "--pixels": request.pixels,
        "--frames": request.frames,
        "--stride": request.stride,
        "--views": None if views is None else f"{views.clips}x{views.crops}",
        "--sampler": request.sampler,
        "--cropper": request.cropper,
        "--folds": ",".join(request.folds) or None,
        "--cross-validate": request.cross_validate,
        "--group-by": request.group_by,
        "--keep-views-up-to": request.keep_views_up_to_gib,
        "--max-failed": request.max_failed,
        "--device": request.device,
        "--batch-size": request.batch_size,
        "--workers": request.num_workers,
        "--cache-clips": request.cache_clips_gib,
        "--cache-limit": request.cache_limit_gib,
        "--precision": request.precision,
        "--keep-checkpoints": request.keep_checkpoints,
        "--checkpoint-minutes": request.checkpoint_minutes,
        "--tensorboard": request.log_root,
    }
    flags = {
        "--again": request.again,
        "--allow-test-selection": request.allow_test_selection,
        "--compile": request.compile,
    }
    return [
        *(f"{name}={value}" for name, value in given.items() if value is not None),
        *(f"--set={key}={value}" for key, value in request.overrides.items()),
        *(name for name, is_set in flags.items() if is_set),
    ]
