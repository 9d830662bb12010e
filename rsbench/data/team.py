"""Processes that work as one: the first one decides, the others help.

    torchrun --nproc-per-node 4 -m rsbench run --task imagenet1k --backbone resnet_rs_50

The first process, the lead, is an ordinary run. Whenever it has work that can be divided it sends
an order; every process then computes its share, piece by piece, and after each piece the lead
collects what all have made. So the lead alone writes, counts and prints, and a result does not
depend on how many helpers there were. Between orders the helpers wait: what is not divided (fitting
a probe) is the lead's alone. A network that learns is fitted by all of them at once, which talk
with each other meanwhile as equals (`Team.together`).

Messages are Python objects between processes of one run, over gloo, for GPUs too: what crosses is
small beside what was computed. A process that was killed breaks the link to the others, which end
then, each with one line: what has been written by then stays.
"""

from __future__ import annotations

import datetime
import gc
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as distributed

from rsbench.data.launching import launch_of
from rsbench.errors import RsbenchError, RunError
from rsbench.specs import Ranks

Result = TypeVar("Result")

_LEAD = 0
_LONGEST_WAIT = datetime.timedelta(days=30)
"""Helpers wait while the lead fits; torchrun ends them when it dies."""


class BrokenLinkError(RunError):
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
                with suppress(BrokenLinkError):
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
                piece = _Fault(reason=_in_words(error))
            self._collect(piece)
            if _broadcast(None):
                return

    def together(
        self, work: Callable[[Ranks], Result], prepared: Exception | None = None
    ) -> Result:
        """Do one piece of work in all processes at once, over a link of its own.

        Every process calls it. It begins when all are there, and ends in all of them: a process
        that fails leaves the link, at which the others stop waiting for it, and the team remains.

        Args:
            work: Done here; the others do the same beside it.
            prepared: What went wrong in this process when it made ready; nothing is begun then.

        Returns:
            What it came to here.

        Raises:
            Exception: What went wrong here.
            RunError: Something went wrong in another process alone, or one has ended.
        """
        verdict = self._agree(prepared)
        if verdict is not None:
            raise verdict
        fault: Exception | None = None
        with _over_the_link():
            group = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
        try:
            result = work(Ranks(rank=self.rank, size=self.size, group=group))
        # As in `help`: all must reach the others.
        except Exception as error:
            fault = error
            _forget_frames(error)
        distributed.destroy_process_group(group)
        del group
        verdict = self._agree(fault)
        if verdict is not None:
            raise verdict
        return result

    def _agree(self, fault: Exception | None) -> Exception | None:
        """Tell the others what went wrong here, and give what this process has to say of it all.

        That is its own fault, if it has one that is not another's doing; else the first of others.
        """
        told: list[str | None] = [None] * self.size
        own = None if fault is None else "" if _is_broken_link(fault) else _in_words(fault)
        try:
            with _over_the_link():
                distributed.all_gather_object(told, own)
        except BrokenLinkError as error:
            # NCCL ends the processes that waited on a GPU for this one: why, only this one knows.
            if own:
                raise BrokenLinkError(f"{own.removesuffix('.')}. {_ENDED}") from fault
            raise error
        if own:
            return fault
        for rank, words in enumerate(told):
            if words:
                return RunError(f"Process {rank + 1} of {self.size} failed: {words}")
        if all(words is None for words in told):
            return None
        return RunError("The link between the processes of this run broke; start it again.")

    def hear(self) -> Any:  # noqa: ANN401 - whatever the lead sends
        """Wait for the lead's next order; None when there will be no more.

        Raises:
            RunError: A process has ended.
        """
        return _broadcast(None)

    def dismiss(self) -> None:
        """Tell the helpers that there will be no more orders; one that has ended needs no word."""
        with suppress(BrokenLinkError):
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

    def order(self, order: object) -> None:
        """Send an order of this cell that all do together; see `Team.together`.

        Raises:
            RunError: A process has ended.
        """
        _broadcast((self.cell, order))


def _broadcast(message: object) -> Any:  # noqa: ANN401 - as `hear`
    """Give what the lead says here; what the others say is not heard."""
    box = [message]
    with _over_the_link():
        distributed.broadcast_object_list(box, src=_LEAD)
    return box[0]


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if isinstance(error, RsbenchError) else f"{type(error).__name__}: {words}"


def _is_broken_link(error: Exception) -> bool:
    """Say whether an error means no more than that another process does not answer."""
    if isinstance(error, distributed.DistError | BrokenLinkError):
        return True
    # Gloo has no type of its own: "[.../gloo/transport/tcp/pair.cc:547] Connection closed by ...".
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the functions that an error came through still hold: a link among it.

    A link is cut when nothing refers to it any more, and only then do others hear of it.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


@contextmanager
def _over_the_link() -> Iterator[None]:
    """Say in one line that a process has ended, and cut the link, so that the others hear of it.

    Over what is left of it a message might wait for ever, or be taken for another one.
    """
    if not distributed.is_initialized():
        raise BrokenLinkError(_ENDED)
    try:
        yield
    # What gloo raises when a connection is closed, in words of many kinds.
    except RuntimeError as error:
        distributed.destroy_process_group()
        raise BrokenLinkError(_ENDED) from error


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Team | None]:
    """Join the other processes of this run; None where this is the only one.

    Args:
        environment: The words of `rsbench.data.launching`.

    Raises:
        RunError: The processes don't find each other.
    """
    launch = launch_of(environment)
    if launch is None:
        yield None
        return
    team = Team(rank=launch.rank, size=launch.size)
    try:
        distributed.init_process_group(
            "gloo",
            init_method=launch.address,
            rank=launch.rank,
            world_size=launch.size,
            timeout=_LONGEST_WAIT,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"Process {team.rank + 1} of {team.size} can't join the others:"
            f" {' '.join(str(error).split())}; start all of them with torchrun, srun or --gpus, or"
            " unset WORLD_SIZE to run alone."
        ) from error
    try:
        yield team
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
