"""The training loop: everything trains, epoch by epoch, and an interrupted run goes on unnoticed.

What a run computes follows from its seed, data and plan. Each step starts from random states of its
own, so a checkpoint holds no generator: a run that was killed and goes on, at the last finished
epoch or in the middle of one, ends with the same numbers, on the same machine, as one that was not.

What a step is, is said in `rsbench.training.learner`; how planned batches become steps, in
`rsbench.training.batches`; what is exchanged with other processes, in
`rsbench.training.distribution`. Autocast and scaling are PyTorch's; loss, optimizer and rates are
those of `rsbench.training.optimisation`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from rsbench.specs import Ranks
from rsbench.training.batches import ReadEpoch
from rsbench.training.batches import TrainingBatch as TrainingBatch
from rsbench.training.checkpoints import Checkpoint as Checkpoint
from rsbench.training.course import Course, Keep, Terms
from rsbench.training.course import DivergedError as DivergedError
from rsbench.training.curve import Watch
from rsbench.training.interruption import Interruption
from rsbench.training.learner import learning
from rsbench.training.logs import event_file
from rsbench.training.machine import Machine as Machine
from rsbench.training.machine import autocast as autocast
from rsbench.training.machine import own_randomness, repeatable
from rsbench.training.optimisation import ParameterGroup as ParameterGroup
from rsbench.training.optimisation import TrainingPlan as TrainingPlan
from rsbench.training.tensors import load_tensors as load_tensors
from rsbench.training.tensors import named_tensors as named_tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How the training went."""

    losses: tuple[float, ...]
    """Mean loss of each epoch's examples, while they were trained on."""
    resumed_after: int
    """Whole epochs taken from a checkpoint; 0 where there was none."""
    num_steps: int
    """Optimizer steps, those taken from the checkpoint included."""
    failures: dict[str, str]
    """Reason by name, for examples that could not be read in some epoch, by any process."""
    seconds: float
    """Wall clock of this process, reading included."""
    curve: tuple[Mapping[str, float], ...]
    """One row an epoch, as `Fitted.curve` says; "seconds" without those of the held-out score."""
    kept_epoch: int
    """The epoch, from 1, after which the network had the weights that it has now."""


def train(
    network: nn.Module,
    read_epoch: ReadEpoch,
    plan: TrainingPlan,
    *,
    steps_per_epoch: int,
    seed: int,
    machine: Machine,
    checkpoint: Checkpoint,
    groups: Sequence[ParameterGroup] = (),
    num_steps: int | None = None,
    remarks: dict[str, list[str]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    ranks: Ranks | None = None,
    held_out: Callable[[nn.Module], float] | None = None,
    keep: Keep = "last",
    num_classes: int | None = None,
    log: Path | None = None,
    measured: Callable[[Mapping[str, float]], None] = lambda values: None,
    rehearse: bool = True,
) -> Trained:
    """Train a network in place on the plan's loss, and leave it in eval mode.

    In the end it holds the weights that are kept: those of the average, where the plan keeps one.

    Args:
        network: (B, ...) -> logits (B, K), or (B, M, K) of M classifiers, on the device; or an
            `nn.ModuleList` of such networks, each of which is shown every batch.
        read_epoch: (epoch from 0, first, failures) -> its batches in training order from planned
            batch `first` on, one for each, empty where nothing of it can be read. Adds to failures,
            by name, what it could not read.
        plan: The optimisation.
        steps_per_epoch: Batches an epoch has if all can be read; the schedule is laid over them.
        seed: Of dropout and whatever else the network draws, at least 0.
        machine: Device, precision, whether to compile.
        checkpoint: Gone on from if it is there and of this run; written after each epoch, unless
            that takes a good part of the time, and in between as often as it says.
        groups: All parameters that learn, where not all have the plan's rate and decay.
        num_steps: Steps in all where the last epoch is shorter than the others; None takes whole
            epochs.
        remarks: What `read_epoch` writes down of examples that it could read, by name: kept with
            the checkpoint, and filled with what stands there.
        progress: Called as (steps done, steps in all).
        ranks: Which of the processes that train this network together this one is; each calls
            this function, and is given its own share of each batch.
        held_out: Score of the network as it would be tested (the average where the plan keeps
            one, in eval mode), in [0, 1], higher is better. Called after each epoch, by all ranks;
            the first one's score is what counts.
        keep: Which weights the network holds in the end; "best" needs `held_out`.
        num_classes: K; needed where the plan mixes examples.
        log: Folder for TensorBoard's event files of this training alone; None writes none.
        measured: Called about once a second with "loss", "top1", "learning_rate" and
            "examples_per_second".
        rehearse: Whether the first batch of a run that is not gone on with goes through a whole
            step, and a checkpoint there and back, before anything counts. It leaves no trace.

    Raises:
        DivergedError: The loss is not finite (names epoch, batch and examples; of several
            classifiers, that of each), or a weight is not. The last checkpoint is from before.
        Stopped: The process was told to end, by SIGTERM or Control-C; its state is kept.
        RunError: An epoch has fewer than two examples, a checkpoint can't be written, or a batch
            does not fit the memory (names the largest part that does).
        RsbenchError: TensorBoard is wanted and not installed, or norms can't be synchronised.
    """
    assert keep == "last" or held_out is not None, "the best needs a score"
    assert num_classes is not None or not (plan.mixup or plan.cutmix), "mixing needs num_classes"
    started = time.perf_counter()
    total = plan.epochs * steps_per_epoch if num_steps is None else num_steps
    terms = Terms(
        checkpoint=checkpoint,
        seed=seed,
        ranks=ranks,
        num_classes=num_classes,
        held_out=held_out,
        keep=keep,
        rehearses=rehearse,
        progress=lambda done: progress(done, total),
    )
    with ExitStack() as held:
        held.enter_context(own_randomness(machine))
        held.enter_context(repeatable())
        interruption = held.enter_context(Interruption())
        learner = held.enter_context(
            learning(network, plan, groups=groups, num_steps=total, machine=machine, ranks=ranks)
        )
        course = Course(learner, terms, interruption, remarks={} if remarks is None else remarks)
        course.restore()
        first_epoch = course.place.epoch
        folder = log if terms.is_first else None
        events = held.enter_context(event_file(folder, first_step=course.num_steps))
        course.watch = Watch(measured, events)
        while course.place.epoch < plan.epochs:
            course.run_epoch(read_epoch)
            course.end_epoch()
        course.take_kept()
    network.eval()
    return Trained(
        losses=course.curve.losses,
        resumed_after=first_epoch,
        num_steps=course.num_steps,
        failures=dict(course.failures),
        seconds=time.perf_counter() - started,
        curve=tuple(course.curve.rows),
        kept_epoch=course.kept_epoch,
    )
