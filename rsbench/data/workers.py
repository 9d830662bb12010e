"""What a process that reads for another one does as its first act."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals that stop wait while workers are started in the block.

    Workers are born with them held, so none comes before `prepare_worker` has said whose they heed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker(worker: int) -> None:
    """Make a freshly forked reading process thrifty with memory, and leave stopping to its parent.

    Args:
        worker: Its number; they are all alike.
    """
    del worker
    # The garbage collector writes to every object that it looks at, and each page of those it was
    # forked with that is written to is copied.
    gc.freeze()
    _heed_the_parent_alone()


def _heed_the_parent_alone() -> None:
    """Die by the parent's SIGTERM and by nobody else's, nor by control-C.

    Terminals and clusters send both to all processes of a job at once. A parent that trains would
    then lose its readers in the middle of a step, before it could keep its state.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Elsewhere nobody says who sent a signal.
    if sys.platform == "linux":
        # Blocked first, so that all threads to come block it too and the one that waits has it.
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        threading.Thread(target=_await_the_end, args=(os.getppid(),), daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _await_the_end(parent: int) -> None:
    if sys.platform == "linux":
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        # As PyTorch's own handler does: also where the main thread hangs in a read.
        os._exit(0)
