"""What torchrun and srun tell a process, and what a job's own script does not."""

from __future__ import annotations

import socket
from functools import partial

import pytest
from team_world import forked

from rsbench.data.launching import Launch, first_host, launch_of
from rsbench.data.team import joined
from rsbench.errors import RunError

SRUN = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
    "SLURM_NODELIST": "gpu[03-04]",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
}
"""Of one task of `srun -n 16`, as srun's manual names them."""


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "8"},  # a scheduler's, without torchrun
        # The script of a job of 16 tasks, which has the first two words without srun.
        {"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7", "SLURM_NODELIST": "a"},
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_is_alone_unless_it_is_told_otherwise(environment: dict[str, str]) -> None:
    assert launch_of(environment) is None
    with joined(environment) as team:
        assert team is None


def test_torchrun_tells_rank_size_and_number_on_the_machine() -> None:
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert launch_of(told) == Launch(rank=5, size=8, local_rank=1, address="env://", by="torchrun")
    assert launch_of(SRUN | told) == launch_of(told)


def test_srun_tells_the_same_and_the_job_s_number_the_port() -> None:
    # 20000 + (1234567 + 997 x 2) mod 10000
    assert launch_of(SRUN) == Launch(
        rank=11, size=16, local_rank=3, address="tcp://gpu03:26561", by="srun"
    )


def test_another_place_to_meet_may_be_named_under_srun() -> None:
    named = launch_of(SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"})
    assert named is not None
    assert named.address == "tcp://10.0.0.1:29500"


@pytest.mark.parametrize("missing", ["SLURM_JOB_ID", "SLURM_STEP_NODELIST"])
def test_srun_that_does_not_say_where_to_meet_is_an_error(missing: str) -> None:
    told = {name: value for name, value in SRUN.items() if name not in {missing, "SLURM_NODELIST"}}
    with pytest.raises(RunError, match=r"must say where its 16 processes meet.*set MASTER_ADDR"):
        launch_of(told)


def test_a_rank_beyond_the_number_of_processes_is_an_error() -> None:
    with pytest.raises(RunError, match=r"RANK and WORLD_SIZE must name one .* they say 2 of 2"):
        launch_of({"RANK": "2", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("hosts", "first"),
    # What `scontrol show hostnames` gives first of each.
    [
        ("login", "login"),
        ("gpu7,gpu9", "gpu7"),
        ("gpu[03-05,09],login1", "gpu03"),
        ("gpu[7,9]", "gpu7"),
        ("rack[1-2]node[08-11]", "rack1node08"),
        ("a-1.cluster.org,b", "a-1.cluster.org"),
    ],
)
def test_the_first_host_of_a_list_is_found(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_processes_that_srun_started_find_each_other() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def one(rank: int) -> tuple[int, int]:
        told = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
        with joined(told | {"SLURM_PROCID": str(rank), "MASTER_PORT": port}) as team:
            assert team is not None
            return team.together(lambda ranks: (ranks.rank, ranks.size))

    found, codes = forked([partial(one, rank) for rank in range(2)])
    assert (found, codes) == ([(0, 2), (1, 2)], [0, 0])
