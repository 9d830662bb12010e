"""What a process is told of the others of its run, by whoever started it.

    torchrun --nproc-per-node 8 -m rsbench run ...     on one machine, or on many as torchrun has it
    srun --ntasks-per-node 8 rsbench run ...           within a SLURM job, on its machines
    rsbench run --gpus 8 ...                           on one machine, started by the command itself

torchrun and `--gpus` set RANK, WORLD_SIZE and LOCAL_RANK, and where to meet: MASTER_ADDR and
MASTER_PORT, or RENDEZVOUS, any address of `init_process_group` (file:///shared/path). srun sets
words of its own (https://slurm.schedmd.com/srun.html, "OUTPUT ENVIRONMENT VARIABLES"); the
processes meet then at the first machine of the step, at a port that follows from the job's number
unless MASTER_ADDR and MASTER_PORT say otherwise. A script of a job that runs rsbench without srun
has one process, however many tasks the job may have.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rsbench.errors import RunError

_FIRST_PORT = 20_000
_NUM_PORTS = 10_000
"""Below what Linux gives to programs that ask for any port, 32,768 and on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One process of several, as it was told."""

    rank: int
    """Its number, from 0."""
    size: int
    """Of all processes, two or more."""
    local_rank: int
    """Its number on its machine, from 0."""
    address: str
    """Where they meet, as `torch.distributed.init_process_group` takes it."""
    by: Literal["torchrun", "srun"]
    """Whose words said so; `--gpus` speaks like torchrun."""


def launch_of(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Read what this process was told; None where it is alone.

    Raises:
        RunError: The words contradict each other, or do not say where to meet.
    """
    rank, size = _whole(environment, "RANK"), _whole(environment, "WORLD_SIZE")
    if rank is not None and size is not None:
        if size < 2:
            return None
        address = environment.get("RENDEZVOUS", "env://")
        local_rank = _whole(environment, "LOCAL_RANK")
        launch = Launch(
            rank=rank,
            size=size,
            local_rank=rank if local_rank is None else local_rank,
            address=address,
            by="torchrun",
        )
        return _checked(launch, words="RANK and WORLD_SIZE")
    return _launch_of_slurm(environment)


def processes_here(environment: Mapping[str, str] = os.environ) -> int:
    """Give the number of processes of this run that share the cores of this machine, at least 1.

    Tasks of srun are bound to cores of their own.
    """
    launch = launch_of(environment)
    if launch is None or launch.by == "srun":
        return 1
    return max(1, _whole(environment, "LOCAL_WORLD_SIZE") or 1)


def loopback() -> str | None:
    """Name the network of this machine with itself alone, for gloo's GLOO_SOCKET_IFNAME.

    Processes of one machine need no other: nobody else can speak to them there, and whether the
    machine knows its own name does not matter.
    """
    here = {name for _, name in socket.if_nameindex()}
    return next((name for name in ("lo", "lo0") if name in here), None)


def _launch_of_slurm(environment: Mapping[str, str]) -> Launch | None:
    """Read srun's words; a job's own script has some of them too, but is no step."""
    step = _whole(environment, "SLURM_STEP_ID")
    rank = _whole(environment, "SLURM_PROCID")
    size = _whole(environment, "SLURM_STEP_NUM_TASKS")
    size = _whole(environment, "SLURM_NTASKS") if size is None else size
    if step is None or rank is None or size is None or size < 2:
        return None
    hosts = next(
        (
            environment[name]
            for name in ("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST")
            if environment.get(name)
        ),
        None,
    )
    host = environment.get("MASTER_ADDR") or (hosts and first_host(hosts))
    job = _whole(environment, "SLURM_JOB_ID")
    port = _whole(environment, "MASTER_PORT")
    if port is None and job is not None:
        # Two steps of a job may run at once on one machine.
        port = _FIRST_PORT + (job + 997 * step) % _NUM_PORTS
    if host is None or port is None:
        raise RunError(
            f"srun must say where its {size} processes meet: SLURM_STEP_NODELIST and SLURM_JOB_ID"
            " are not both set; set MASTER_ADDR to the first machine's name and MASTER_PORT to a"
            " free port."
        )
    local_rank = _whole(environment, "SLURM_LOCALID")
    launch = Launch(
        rank=rank,
        size=size,
        local_rank=0 if local_rank is None else local_rank,
        address=f"tcp://{host}:{port}",
        by="srun",
    )
    return _checked(launch, words="SLURM_PROCID and SLURM_STEP_NUM_TASKS")


def first_host(hosts: str) -> str:
    """Give the first name of a list as SLURM writes it: "gpu[03-05,09],login1" is gpu03."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    assert first is not None, "it may be empty, and is then found so"
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0])


def _checked(launch: Launch, *, words: str) -> Launch:
    if launch.rank >= launch.size:
        raise RunError(
            f"{words} must name one of the processes, from 0; they say {launch.rank} of"
            f" {launch.size}: start all of them with torchrun, srun or --gpus."
        )
    return launch


def _whole(environment: Mapping[str, str], name: str) -> int | None:
    """Give a word's number; None where it is absent, as it may be of another program's kind."""
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
