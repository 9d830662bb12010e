"""Reading processes: stopped by their parent, and by nobody who tells the whole job to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from rsbench.data.workers import prepare_worker, signals_held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere senders have no names")


def signal_from_a_stranger(process: int, which: signal.Signals) -> None:
    """Send as a scheduler or a terminal would: from a process that is not the parent."""
    subprocess.run(["/bin/kill", f"-{which.value}", str(process)], check=True)


class Slow(Dataset[int]):
    def __getitem__(self, row: int) -> int:
        time.sleep(0.02)
        return row


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_readers_go_on_when_the_whole_job_is_told_to_stop(which: signal.Signals) -> None:
    loader = DataLoader(
        Slow(),
        batch_sampler=[[row] for row in range(40)],
        num_workers=2,
        worker_init_fn=prepare_worker,
    )
    before = multiprocessing.active_children()
    with signals_held():
        batches = iter(loader)
    seen = [next(batches)]
    readers = [each for each in multiprocessing.active_children() if each not in before]
    assert len(readers) == 2

    for reader in readers:
        assert reader.pid is not None
        signal_from_a_stranger(reader.pid, which)
    seen.extend(batches)

    assert torch.cat(seen).tolist() == list(range(40))


def test_a_signal_that_comes_while_workers_are_started_is_heard_afterwards() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with signals_held():
            # To this thread: one that is sent to a process may be taken by another thread of it.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert heard == []
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def hang(started: Connection) -> None:
    """Be a worker that hangs where no Python handler is run: in a lock that nobody opens."""
    prepare_worker(0)
    started.send(os.getpid())
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hanging() -> BaseProcess:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=hang, args=(sender,), daemon=True)
    process.start()
    receiver.recv()
    return process


def test_a_reader_that_hangs_ends_by_its_parents_signal() -> None:
    process = hanging()

    process.terminate()
    process.join(30)

    assert process.exitcode == 0


def test_a_reader_that_a_stranger_told_to_stop_still_ends_by_its_parents_signal() -> None:
    process = hanging()
    assert process.pid is not None
    signal_from_a_stranger(process.pid, signal.SIGTERM)
    process.join(0.3)
    assert process.is_alive()

    process.terminate()
    process.join(30)

    assert process.exitcode == 0
