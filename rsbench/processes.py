"""Commands that run beside each other on the devices of one machine, each job on one or on all.

What a job's first process prints is its outcome; what any of them says on standard error is passed
on as it comes. Where one process of a job fails, the others are given a little while to notice, and
are ended then: nothing is left behind. A signal that is to stop this process goes to all of them,
which may save what they have, and no further job is begun. Should this process be killed, they see
their standard input end, and end with it (`end_with_starter`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO, NamedTuple

_SECONDS_TO_NOTICE = 30.0
"""How long the other processes of a job have to end by themselves when one has failed."""

_SECONDS_TO_END = 10.0
"""How long a process that was told to end has before it is killed."""

_SECONDS_TO_SAVE = 60.0
"""How long a process has to end whose starter is gone: enough for a checkpoint."""

ENDS_WITH_STARTER = "RSBENCH_ENDS_WITH_STARTER"
"""Word of the environment of a process that is to call `end_with_starter`."""

_SECONDS_BETWEEN_LOOKS = 0.05

_MOST_LINES = 200
"""Of standard error that are kept of a process."""


class Command(NamedTuple):
    """What one process runs."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    """All of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Something to run on one device, or on all of them."""

    number: int
    on_all: bool
    key: str = ""
    """Jobs with the same one are not run at the same time: they would make the same files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a job ended."""

    codes: tuple[int, ...]
    """Of its processes; the negative number of a signal that killed one."""
    output: str
    """What the first process printed."""
    said: tuple[tuple[str, ...], ...]
    """Last lines of standard error, of each process."""
    first_failed: int | None
    """The process that failed first; None where none did."""


def run_jobs(
    jobs: Sequence[Job],
    *,
    num_devices: int,
    commands_of: Callable[[Job, Sequence[int]], Sequence[Command]],
    heard: Callable[[Job, int, str], None],
    done: Callable[[Job, Outcome], None],
) -> int | None:
    """Run jobs, those on one device first; give the signal that stopped it, if one did.

    Args:
        jobs: In the order in which they are begun, as far as devices and keys are free.
        num_devices: Their numbers are 0 and on.
        commands_of: (job, numbers of its devices) -> a command for each process.
        heard: Called with (job, process, line) for what processes say on standard error, from
            threads of their own.
        done: Called when a job has ended.
    """
    with _forwarded() as forwarder, _ended(forwarder.processes):
        for on_all in (False, True):
            waiting = [job for job in jobs if job.on_all is on_all]
            running: list[_Running] = []
            while running or (waiting and forwarder.signal is None):
                if forwarder.signal is None:
                    for job, devices in _startable(waiting, running, num_devices):
                        waiting.remove(job)
                        started = _start(job, devices, commands_of(job, devices), heard)
                        running.append(started)
                        forwarder.watch(started.processes)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for each in list(running):
                    if _has_ended(each):
                        running.remove(each)
                        for process in each.processes:
                            forwarder.processes.remove(process)
                        done(each.job, _outcome_of(each))
    return forwarder.signal


class _Process:
    """A process, and threads that read what it says."""

    def __init__(self, command: Command, heard: Callable[[str], None]) -> None:
        self.popen = subprocess.Popen(
            command.words,
            env={**command.environment, ENDS_WITH_STARTER: "1"},
            # Nothing is ever written: it ends when this process does, however that may be.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A terminal's interrupt would reach it twice, from there and from here.
            start_new_session=True,
        )
        self.output: list[str] = []
        self.said: deque[str] = deque(maxlen=_MOST_LINES)

        def note(line: str) -> None:
            self.said.append(line)
            heard(line)

        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self._threads = [
            threading.Thread(target=_read, args=(self.popen.stdout, self.output.append)),
            threading.Thread(target=_read, args=(self.popen.stderr, note)),
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait until all that it said has been read."""
        for thread in self._threads:
            thread.join()
        assert self.popen.stdin is not None
        self.popen.stdin.close()


def end_with_starter() -> None:
    """In a process that `run_jobs` started: end when its starter is gone, as at its SIGTERM."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        # Who read this is gone too, and a line to nobody would end a process before it has saved.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_SAVE)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(kw_only=True, slots=True)
class _Running:
    """A job at work."""

    job: Job
    devices: tuple[int, ...]
    processes: list[_Process]
    first_failed: int | None = None
    failed_at: float = 0.0
    is_told_to_end: bool = False


@dataclass(kw_only=True, slots=True)
class _Forwarder:
    """Hands a signal on to all processes."""

    processes: list[_Process] = field(default_factory=list)
    signal: int | None = None
    told: set[_Process] = field(default_factory=set)

    def __call__(self, number: int, frame: object) -> None:
        # The second one means that the first was not soon enough.
        sent = number if self.signal is None else signal.SIGKILL
        self.signal = number
        self._tell(self.processes, sent)

    def watch(self, processes: Sequence[_Process]) -> None:
        """Take on processes that were started; a signal that came meanwhile is for them too."""
        self.processes += processes
        if self.signal is not None:
            self._tell([each for each in processes if each not in self.told], self.signal)

    def _tell(self, processes: Sequence[_Process], number: int) -> None:
        self.told.update(processes)
        for process in processes:
            _send(process, number)


def _read(stream: IO[str], take: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            take(line.rstrip("\n"))


def _startable(
    waiting: Sequence[Job], running: Sequence[_Running], num_devices: int
) -> Iterator[tuple[Job, tuple[int, ...]]]:
    """Give the jobs that can begin now, each with its devices."""
    taken = {device for each in running for device in each.devices}
    free = deque(device for device in range(num_devices) if device not in taken)
    keys = {each.job.key for each in running if each.job.key}
    for job in list(waiting):
        if job.key in keys:
            continue
        if job.on_all and len(free) == num_devices:
            yield job, tuple(free)
            return
        if not job.on_all and free:
            if job.key:
                keys.add(job.key)
            yield job, (free.popleft(),)


def _start(
    job: Job,
    devices: tuple[int, ...],
    commands: Sequence[Command],
    heard: Callable[[Job, int, str], None],
) -> _Running:
    processes = [
        _Process(command, partial(heard, job, number)) for number, command in enumerate(commands)
    ]
    return _Running(job=job, devices=devices, processes=processes)


def _has_ended(running: _Running) -> bool:
    """Look after a job's processes; say whether all have ended."""
    codes = [process.popen.poll() for process in running.processes]
    alive = [each for each, code in zip(running.processes, codes, strict=True) if code is None]
    failed = [number for number, code in enumerate(codes) if code]
    if failed and running.first_failed is None:
        # Of two in one look, one that a signal killed is what the other failed of.
        running.first_failed = min(failed, key=lambda number: (codes[number] or 0, number))
        running.failed_at = time.monotonic()
    if not alive:
        return True
    if running.first_failed is not None:
        waited = time.monotonic() - running.failed_at
        if waited > _SECONDS_TO_NOTICE + _SECONDS_TO_END:
            for process in alive:
                _send(process, signal.SIGKILL)
        elif waited > _SECONDS_TO_NOTICE and not running.is_told_to_end:
            running.is_told_to_end = True
            for process in alive:
                _send(process, signal.SIGTERM)
    return False


def _send(process: _Process, number: int) -> None:
    if process.popen.poll() is not None:
        return
    with suppress(ProcessLookupError):
        if number == signal.SIGKILL:
            # With its loader processes, which have no one then to end them.
            os.killpg(process.popen.pid, number)
        else:
            process.popen.send_signal(number)


def _outcome_of(running: _Running) -> Outcome:
    for process in running.processes:
        process.finish()
    first = running.processes[0]
    return Outcome(
        codes=tuple(process.popen.returncode for process in running.processes),
        output="\n".join(first.output),
        said=tuple(tuple(process.said) for process in running.processes),
        first_failed=running.first_failed,
    )


@contextmanager
def _ended(processes: Sequence[_Process]) -> Iterator[None]:
    """Leave none of the processes behind, whatever is raised here."""
    try:
        yield
    finally:
        for process in processes:
            _send(process, signal.SIGTERM)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(_SECONDS_TO_END)
            _send(process, signal.SIGKILL)
            process.finish()
            process.popen.wait()


@contextmanager
def _forwarded() -> Iterator[_Forwarder]:
    """Hand signals that ask to stop on to processes, as long as this lasts."""
    forwarder = _Forwarder()
    stopping = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's alone.
        yield forwarder
        return
    before = {number: signal.signal(number, forwarder) for number in stopping}
    try:
        yield forwarder
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
