"""Processes that meet in a file, forked from the test: they have its libraries loaded."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rsbench.cli import main
from rsbench.data.launching import loopback
from rsbench.data.team import Team, joined
from rsbench.errors import RunError

Outcome = tuple[str, Any]
"""("ok", what a process gave) or the type and words of what it raised."""


def in_processes(
    folder: Path,
    size: int,
    work: Callable[[Team], Any],
    *,
    killed: int | None = None,
    seconds: float = 60.0,
) -> list[Outcome]:
    """Run some work in each process of a team that meets in a file; give what came of each.

    One of them may be expected to be killed by signal 9; nothing comes of it. A test whose
    processes still wait for each other after so many seconds fails, and they are ended.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def one(rank: int) -> Outcome:
        told = {
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "RENDEZVOUS": f"file://{folder / 'rendezvous'}",
        }
        try:
            with joined(told) as team:
                assert team is not None
                return ("ok", work(team))
        except RunError as error:
            return ("RunError", str(error))
        except Exception as error:
            return (type(error).__name__, str(error))

    outcomes, codes = forked([partial(one, rank) for rank in range(size)], seconds=seconds)
    assert codes == [-signal.SIGKILL if rank == killed else 0 for rank in range(size)], outcomes
    return [each for rank, each in enumerate(outcomes) if rank != killed]


def forked(works: list[Callable[[], Any]], *, seconds: float = 60.0) -> tuple[list[Any], list[int]]:
    """Do each work in a process of its own; give what came of each, and the exit codes.

    Nothing (None) comes of a process that was killed.
    """
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + seconds
    ours: list[Connection] = []
    children = []
    for work in works:
        own, its = context.Pipe(duplex=False)
        children.append(context.Process(target=_send, args=(its, work)))
        children[-1].start()
        its.close()
        ours.append(own)
    outcomes: dict[Connection, Any] = {}
    while len(outcomes) < len(ours):
        ready = wait([own for own in ours if own not in outcomes], end - time.monotonic())
        if not ready:
            break
        for own in ready:
            assert isinstance(own, Connection)
            try:
                outcomes[own] = own.recv()
            except EOFError:
                outcomes[own] = None
    for child in children:
        child.join(max(0.0, end - time.monotonic()))
    hanging = [number for number, child in enumerate(children) if child.exitcode is None]
    for child in children:
        child.kill()
        child.join()
    if hanging:
        pytest.fail(f"processes {hanging} of {len(works)} did not end in {seconds:g} seconds")
    return [outcomes[own] for own in ours], [child.exitcode or 0 for child in children]


def _send(its: Connection, work: Callable[[], Any]) -> None:
    # Nobody else on the network has a word in this.
    os.environ["GLOO_SOCKET_IFNAME"] = loopback() or ""
    its.send(work())


class Ended(NamedTuple):
    """What came of a command."""

    code: int
    output: str
    errors: str
    pid: int


def command(words: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run the command line `rsbench` in this process, forked from the test."""
    for name in [name for name in os.environ if name.startswith("RSBENCH_")]:
        del os.environ[name]
    os.environ.update(environment)
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        main(words)
    code = ended.value.code
    assert isinstance(code, int)
    return Ended(code, output.getvalue(), errors.getvalue(), os.getpid())
