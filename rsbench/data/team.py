"""Processes that work as one, as torchrun starts them: the first one decides, the others help.

    torchrun --nproc-per-node 4 -m rsbench run --task imagenet1k --backbone resnet_rs_50

The first process, the lead, is an ordinary run. Whenever it has work that can be divided it sends
an order; every process then computes its share, piece by piece, and after each piece the lead
collects what all have made. So the lead alone writes, counts and prints, and a result does not
depend on how many helpers there were. Between orders the helpers wait: what is not divided (fitting
a probe, training) is the lead's alone.

Messages are Python objects between processes of one run, over gloo, for GPUs too: what crosses is
small beside what was computed. A process that was killed breaks the link to the others, which end
then, each with one line: what has been written by then stays.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch.distributed as distributed

from rsbench.errors import RsbenchError, RunError

_LEAD = 0
_LONGEST_WAIT = datetime.timedelta(days=30)
"""Helpers wait while the lead fits; torchrun ends them when it dies."""


class _LinkError(RunError):
    """A process has ended in the middle of a run, and no word reaches the others any more."""


_ENDED = "A process of this run has ended; what was computed is kept, start it again."


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fault:
    """What a process sends instead of a piece of work."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """The processes of a run, as one of them sees it."""

    rank: int
    """0 is the lead."""
    size: int
    """Two or more."""

    @property
    def leads(self) -> bool:
        """Whether this process is the lead."""
        return self.rank == _LEAD

    def lead(self, order: object, own: Iterator[Any], *, num_rounds: int) -> Iterator[Any]:
        """Send an order and give what comes of it, round by round, the lead's own piece first.

        The lead alone calls it, and closes it if it does not read to the end.

        Args:
            order: What helpers get from `hear`; picklable.
            own: The lead's share, a piece a round; it may be shorter.
            num_rounds: Pieces of the longest share.

        Raises:
            RunError: A helper failed, and the others have stopped then; or a process has ended.
        """
        _broadcast(order)
        num_asked = 0
        try:
            while num_asked < num_rounds:
                piece = next(own, None)
                num_asked += 1
                pieces = self._collect(piece)
                fault = self._fault(pieces)
                _broadcast(fault is not None)
                if fault is not None:
                    num_asked = num_rounds
                    raise RunError(fault)
                yield from (each for each in pieces if each is not None)
        finally:
            # Whatever stopped the lead, the helpers are at their next piece and wait for a word.
            # What stopped it is what is told, even if none of them is there to hear this.
            if num_asked < num_rounds:
                with suppress(_LinkError):
                    self._collect(None)
                    _broadcast(True)

    def help(self, own: Callable[[], Iterator[Any]], *, num_rounds: int) -> None:
        """Do this process's share of an order and send each piece to the lead.

        What goes wrong is the lead's to report.

        Args:
            own: Begins the share.
            num_rounds: As the lead has it.

        Raises:
            RunError: A process has ended.
        """
        share: Iterator[Any] | None = None
        for _ in range(num_rounds):
            try:
                if share is None:
                    share = own()
                piece = next(share, None)
            # Anything may go wrong in a task's own reader or on a device, and all of it must reach
            # the lead, which would wait for ever.
            except Exception as error:
                words = " ".join(str(error).split())
                known = isinstance(error, RsbenchError)
                piece = _Fault(reason=words if known else f"{type(error).__name__}: {words}")
            self._collect(piece)
            if _broadcast(None):
                return

    def hear(self) -> Any:  # noqa: ANN401 - whatever the lead sends
        """Wait for the lead's next order; None when there will be no more.

        Raises:
            RunError: A process has ended.
        """
        return _broadcast(None)

    def dismiss(self) -> None:
        """Tell the helpers that there will be no more orders; one that has ended needs no word."""
        with suppress(_LinkError):
            _broadcast(None)

    def _collect(self, piece: object) -> list[Any]:
        pieces: list[Any] = [None] * self.size
        with _over_the_link():
            distributed.gather_object(piece, pieces if self.leads else None, dst=_LEAD)
        return pieces

    def _fault(self, pieces: list[Any]) -> str | None:
        for rank, piece in enumerate(pieces):
            if isinstance(piece, _Fault):
                return f"Process {rank + 1} of {self.size} failed: {piece.reason}"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Helpers:
    """The helpers of one cell of a grid: what `Settings.helpers` holds in the lead."""

    team: Team
    cell: int
    """Number of the cell among those of the grid, the same in all processes."""
    model: str = ""
    """Digest of the cell's network: helpers have no other."""

    @property
    def num_processes(self) -> int:
        """Processes that share the work, the lead among them."""
        return self.team.size

    def lead(self, order: object, own: Iterator[Any], *, num_rounds: int) -> Iterator[Any]:
        """Send an order of this cell; see `Team.lead`."""
        return self.team.lead((self.cell, order), own, num_rounds=num_rounds)


def _broadcast(message: object) -> Any:  # noqa: ANN401 - as `hear`
    """Give what the lead says here; what the others say is not heard."""
    box = [message]
    with _over_the_link():
        distributed.broadcast_object_list(box, src=_LEAD)
    return box[0]


@contextmanager
def _over_the_link() -> Iterator[None]:
    """Say in one line that a process has ended, and cut the link, so that the others hear of it.

    Over what is left of it a message might wait for ever, or be taken for another one.
    """
    if not distributed.is_initialized():
        raise _LinkError(_ENDED)
    try:
        yield
    # What gloo raises when a connection is closed, in words of many kinds.
    except RuntimeError as error:
        distributed.destroy_process_group()
        raise _LinkError(_ENDED) from error


def local_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """Give this process's number on its machine, as torchrun says it; None without torchrun."""
    text = environment.get("LOCAL_RANK", "")
    return int(text) if text.isdigit() and _size(environment) > 1 else None


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Team | None]:
    """Join the processes that torchrun started; None where this is the only one.

    Args:
        environment: RANK and WORLD_SIZE of torchrun with MASTER_ADDR and MASTER_PORT, or with
            RENDEZVOUS, any address of `init_process_group` (file:///shared/path).

    Raises:
        RunError: The processes don't find each other.
    """
    size = _size(environment)
    if size < 2:
        yield None
        return
    team = Team(rank=int(environment["RANK"]), size=size)
    try:
        distributed.init_process_group(
            "gloo",
            init_method=environment.get("RENDEZVOUS", "env://"),
            rank=team.rank,
            world_size=team.size,
            timeout=_LONGEST_WAIT,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"Process {team.rank + 1} of {size} can't join the others:"
            f" {' '.join(str(error).split())}; start all of them with torchrun, or unset WORLD_SIZE"
            " to run alone."
        ) from error
    try:
        yield team
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _size(environment: Mapping[str, str]) -> int:
    """Give the number of processes; a cluster's scheduler may set one of the two words alone."""
    rank, size = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
    return int(size) if rank.isdigit() and size.isdigit() else 1
