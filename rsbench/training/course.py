"""One training on its way: its place, what it counts, what it keeps, and when it stops.

The loss of a step is looked at one step later, when the device has it anyway: until then the next
step is already under way, and nobody waited. It is looked at before anything is kept.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from rsbench.errors import RunError
from rsbench.specs import Ranks
from rsbench.training.batches import Planned, ReadEpoch, TrainingBatch, without_lone_examples
from rsbench.training.checkpoints import Checkpoint, Place, load, load_best, save, save_best
from rsbench.training.curve import Curve, Taken, Watch
from rsbench.training.distribution import (
    Word,
    from_lead,
    gathered,
    gathered_sum,
    merged,
    same_everywhere,
    spoken,
)
from rsbench.training.interruption import Interruption
from rsbench.training.learner import Learner
from rsbench.training.machine import seed_step, sent_home
from rsbench.training.memory import does_not_fit, is_out_of_memory
from rsbench.training.pace import Pace
from rsbench.training.rehearsal import rehearse
from rsbench.training.tensors import load_tensors

Keep = Literal["last", "best"]
"""The weights after the last epoch, or after the first of those that the held-out score likes
best."""


_LONE_EXAMPLE = "Expected more than 1 value per channel when training"
"""What PyTorch's batch norms say of one, where maps have a single position."""


class DivergedError(RunError):
    """The loss was not finite: the same recipe can't train this network on this data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a training was called with; see `rsbench.training.loop.train`."""

    checkpoint: Checkpoint
    seed: int
    ranks: Ranks | None
    num_classes: int | None
    held_out: Callable[[nn.Module], float] | None
    keep: Keep
    rehearses: bool
    progress: Callable[[int], None]
    """Called with the steps so far."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.ranks is None or self.ranks.rank == 0

    @property
    def rank(self) -> int:
        """Of this process, 0 where it is alone."""
        return 0 if self.ranks is None else self.ranks.rank


class _Pending(NamedTuple):
    """A step whose loss is not looked at yet; its batch is let go of."""

    read_totals: Callable[[], list[float]]
    """Gives what the step gave."""
    names: tuple[str, ...]
    num_global: int
    epoch: int
    end: int
    steps: int
    learning_rate: float


class Course:
    """All of a training that a checkpoint keeps, and the steps that move it."""

    def __init__(
        self,
        learner: Learner,
        terms: Terms,
        interruption: Interruption,
        *,
        remarks: dict[str, list[str]],
    ) -> None:
        """Begin at the first step; `restore` goes on from a later one."""
        self.place = Place(0, 0)
        self.num_steps = 0
        self.curve = Curve()
        self.failures: dict[str, str] = {}
        self.remarks = remarks
        self.watch = Watch(lambda values: None, None)
        self._learner = learner
        self._terms = terms
        self._interruption = interruption
        self._best: Place | None = None
        self._best_score = -math.inf
        self._last_rate = learner.rate
        self._pending: _Pending | None = None
        self._is_rehearsed = not terms.rehearses
        self._pace = Pace(terms.checkpoint.seconds)
        # What the processes said to each other last.
        self._stops = self._saves = False
        self._shape: tuple[int, ...] = ()

    @property
    def kept_epoch(self) -> int:
        """The epoch, from 1, after which the network had the weights that are kept."""
        return self.place.epoch if self._best is None else self._best.epoch

    def run_epoch(self, read_epoch: ReadEpoch) -> None:
        """Take the steps of an epoch, or those that are left of it."""
        epoch, first = self.place
        self._learner.begin()
        read = read_epoch(epoch, first, self.failures)
        for planned in without_lone_examples(self._counted(read), first=first):
            if planned.batch.num_global < 2:
                raise _too_few(epoch, planned.batch.num_global)
            self._take(planned, epoch)
        if self.place.batch == 0:
            raise _too_few(epoch, 0)
        self._settle()

    def _counted(self, batches: Iterable[TrainingBatch]) -> Iterator[TrainingBatch]:
        """Count the examples of all processes, which speak to each other once a batch."""
        for batch in batches:
            shape = tuple(batch.inputs.shape[1:]) if batch.names else ()
            words = self._spoken(
                saves=self._pace.is_due(), num_examples=len(batch.names), shape=shape
            )
            self._shape = next((each.shape for each in words if each.shape), self._shape)
            yield batch._replace(num_global=sum(each.num_examples for each in words))

    def _spoken(
        self, *, saves: bool, num_examples: int = 0, shape: tuple[int, ...] = ()
    ) -> list[Word]:
        """Exchange a word, and hear whether somebody was told to stop and the first one saves."""
        word = Word(num_examples, stops=self._interruption.asked, saves=saves, shape=shape)
        words = spoken(word, self._terms.ranks)
        self._stops |= any(each.stops for each in words)
        self._saves |= words[0].saves
        return words

    def _keep_and_leave_if_told(self) -> None:
        if self._stops or self._saves:
            self.save()
        self._leave_if_told()

    def _take(self, planned: Planned, epoch: int) -> None:
        step = partial(self._step, planned, epoch)
        if not self._is_rehearsed:
            rehearse(self._learner, step, self._terms.checkpoint, writes=self._terms.is_first)
            self._is_rehearsed = True
        self._last_rate = self._learner.rate
        totals = step()
        self._learner.advance()
        self.num_steps += 1
        self.place = Place(epoch, planned.end)
        self._settle()
        self._pending = _Pending(
            read_totals=sent_home(totals),
            names=planned.batch.names,
            num_global=planned.batch.num_global,
            epoch=epoch,
            end=planned.end,
            steps=self.num_steps,
            learning_rate=self._last_rate,
        )
        self._terms.progress(self.num_steps)
        if self._terms.ranks is None:
            # Nobody else needs to be told before.
            self._stops, self._saves = self._interruption.asked, self._pace.is_due()
        self._keep_and_leave_if_told()

    def _step(self, planned: Planned, epoch: int) -> torch.Tensor:
        terms, machine = self._terms, self._learner.machine
        mixing_seed = seed_step(machine, terms.seed, epoch, planned.end, terms.rank)
        try:
            return self._learner.step(
                planned.batch,
                absent_shape=self._shape,
                mixing_seed=mixing_seed,
                num_classes=terms.num_classes,
            )
        except Exception as error:
            if _LONE_EXAMPLE in str(error):
                raise _lone(planned.batch, epoch) from error
            if not is_out_of_memory(error):
                raise
        # Not above: an error that is being handled holds what the step had computed.
        raise does_not_fit(self._learner, planned.batch)

    def _settle(self) -> None:
        """Look at the loss of the last step, and count it.

        Raises:
            DivergedError: It is not finite, or of several classifiers none is.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        *losses, right = pending.read_totals()
        # What one process meets, all stop at: some protocols go on with another setting.
        of_all = gathered_sum(losses, self._terms.ranks)
        if not any(math.isfinite(loss) for loss in of_all):
            raise self._diverged(pending, losses, of_all[0])
        finite = [loss for loss in losses if math.isfinite(loss)]
        taken = Taken(sum(finite), right, len(pending.names))
        self.curve.add(taken)
        self.watch.add(
            taken,
            num_global=pending.num_global,
            steps=pending.steps,
            learning_rate=pending.learning_rate,
        )

    def _diverged(self, pending: _Pending, losses: Sequence[float], loss: float) -> DivergedError:
        names: Sequence[str] = pending.names
        if self._terms.ranks is not None:
            # Those of the processes in which it happened, whichever it is that says so.
            own = () if any(map(math.isfinite, losses)) else names
            names = [each for some in gathered(own, self._terms.ranks) for each in some]
        return DivergedError(
            f"Training diverged in epoch {pending.epoch + 1} of {self._learner.plan.epochs}, batch"
            f" {pending.end}: the loss was {loss} on {', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''}; {self._remedy()}"
        )

    def _remedy(self) -> str:
        return (
            f"lower the learning rate (it was {self._learner.top_rate:g}) or clip the gradient."
            " What was kept before stays."
        )

    def end_epoch(self) -> None:
        """Score the network where something is held out, and keep what is to be kept.

        Raises:
            DivergedError: A weight is not finite.
            Stopped: The process was told to end; what there is, is kept.
            DiskError: It can't be kept.
        """
        terms, seconds = self._terms, self.curve.seconds
        score = None if terms.held_out is None else self._score(terms.held_out)
        self.curve.close(
            steps=self.num_steps,
            learning_rate=self._last_rate,
            seconds=seconds,
            held_out=score,
            ranks=terms.ranks,
        )
        away = 0.0 if score is None else self._pace.score_seconds
        self.watch.end_epoch(self.curve.rows[-1], seconds_away=away)
        self.place = Place(self.place.epoch + 1, 0)
        if terms.keep == "best" and score is not None and score > self._best_score:
            self._best, self._best_score = self.place, score
            if terms.is_first:
                save_best(terms.checkpoint, self._learner.tested_tensors(), self.place)
        is_last = self.place.epoch == self._learner.plan.epochs
        self._spoken(saves=is_last or self._pace.is_due_after_epoch())
        self._keep_and_leave_if_told()

    def _score(self, held_out: Callable[[nn.Module], float]) -> float:
        """Score the network on what is held out; what it learned is kept before, if that is long.

        Raises:
            Stopped: The process was told to end before it began.
        """
        self._spoken(saves=self._pace.is_due_before_score())
        self._keep_and_leave_if_told()
        with self._pace.scoring(), self._learner.as_tested() as network:
            score = float(held_out(network))
        score = float(from_lead(lambda: score, self._terms.ranks))
        if not math.isfinite(score):
            raise RunError(
                "The score on what is held out must be a number in [0, 1], and was"
                f" {score} after epoch {self.place.epoch + 1}: {self._remedy()}"
            )
        return score

    def take_kept(self) -> None:
        """Give the network the weights that are kept, the same in all processes.

        Raises:
            RunError: The best of them are no longer on the disk.
        """
        terms, network = self._terms, self._learner.network
        best = self._best
        if terms.keep == "best":
            assert best is not None, "the first epoch was the best so far"
            load_tensors(network, from_lead(lambda: load_best(terms.checkpoint, best), terms.ranks))
        else:
            load_tensors(network, self._learner.tested_tensors())
        same_everywhere(network, terms.ranks)

    def _leave_if_told(self) -> None:
        """Raise `Stopped` where this process, or one that trains with it, was told to end."""
        if not self._stops:
            return
        epoch, batch = self.place
        where = (
            f"after epoch {epoch}" if batch == 0 else f"in epoch {epoch + 1} after batch {batch}"
        )
        if not self._interruption.asked:
            self._interruption.note(signal.SIGTERM)
        raise self._interruption.stopped(where=f"{where} of {self._learner.plan.epochs} epochs")

    def save(self) -> None:
        """Keep all that going on needs; all processes call it.

        Raises:
            DivergedError: What there is to keep is not finite.
            DiskError: It can't be written.
        """
        self._settle()
        learner, place = self._learner, self.place
        if learner.num_classifiers == 1 and not learner.is_finite():
            raise DivergedError(
                f"Training diverged in epoch {place.epoch + (place.batch > 0)} of"
                f" {learner.plan.epochs}: the loss was finite, but weights are not any more;"
                f" {self._remedy()}"
            )
        with self._pace.saving():
            self._save()
        self._saves = False

    def _save(self) -> None:
        terms = self._terms
        curve = self.curve.state(terms.ranks)
        self.failures.update(merged(self.failures, terms.ranks))
        self.remarks.update(merged(self.remarks, terms.ranks))
        if terms.is_first:
            state = {
                "learner": self._learner.state(),
                "curve": curve,
                "best_score": self._best_score,
                "num_steps": self.num_steps,
                "last_rate": self._last_rate,
                "failures": self.failures,
                "remarks": self.remarks,
            }
            save(terms.checkpoint, state, self.place, best=self._best)

    def restore(self) -> None:
        """Go on from what was kept, where something was; all processes call it."""
        state = from_lead(self._load, self._terms.ranks)
        if state is None:
            return
        self._learner.restore(state["learner"])
        self.curve.restore(state["curve"], self._terms.ranks)
        self._best = None if state["best"] is None else Place(*state["best"])
        self._best_score = state["best_score"]
        self.num_steps = state["num_steps"]
        self._last_rate = state["last_rate"]
        self.failures = dict(state["failures"])
        self.remarks.update(state["remarks"])
        self.place = Place(*state["place"])
        self._is_rehearsed = True

    # Any: what a checkpoint holds.
    def _load(self) -> dict[str, Any] | None:
        state = load(self._terms.checkpoint)
        if state is None:
            return None
        # Places cross to other processes as plain tuples.
        best = None if state["best"] is None else tuple(state["best"])
        return {**state, "place": tuple(state["place"]), "best": best}


def _lone(batch: TrainingBatch, epoch: int) -> RunError:
    return RunError(
        "Batch norms can't train on a lone example, and this network's were given one of"
        f" {', '.join(batch.names[:3])}{', ...' if len(batch.names) > 3 else ''} in epoch"
        f" {epoch + 1}: give larger batches, larger parts of them or fewer processes."
    )


def _too_few(epoch: int, num_examples: int) -> RunError:
    return RunError(
        f"Training needs at least two examples that can be read; epoch {epoch + 1} had"
        f" {num_examples}."
    )
