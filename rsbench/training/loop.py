"""The training loop: everything trains, epoch by epoch, and an interrupted run goes on unnoticed.

What a run computes follows from its seed, data and plan. Each epoch starts from random states of
its own, so a checkpoint holds no generator: a run that was killed and goes on at the last finished
epoch ends with the same numbers, on the same machine, as one that was not.

Several classifiers may train side by side on the same batches, each by its own loss, rate and
decay: a network that gives (B, M, K), or an `nn.ModuleList`. They share nothing, so one that
diverges takes none of the others along.

Batch normalisation can't train on a lone example. No example is dropped for that: a batch of one
joins the batch before it (or after it, if it is the first).

Autocast and scaling are PyTorch's; loss, optimizer and rates are those of
`rsbench.training.optimisation`.

Shape letters: B batch, C channels, T frames, H height, W width, K classes, M classifiers.
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from rsbench.errors import RunError
from rsbench.training.optimisation import ParameterGroup as ParameterGroup
from rsbench.training.optimisation import TrainingPlan as TrainingPlan
from rsbench.training.optimisation import losses_of, make_optimizer, make_schedules

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DivergedError(RunError):
    """The loss was not finite: the same recipe can't train this network on this data."""


class TrainingBatch(NamedTuple):
    """What one step sees."""

    inputs: torch.Tensor
    """What the network maps, on the device: float32 (B, C, H, W) or (B, C, T, H, W), normalised;
    or what a frozen network made of it."""
    labels: torch.Tensor
    """int64 (B,); for binary cross-entropy float32 (B, K) of noughts and ones. On the device."""
    names: tuple[str, ...]
    """Ids of the examples, for messages."""

    @classmethod
    def joined(cls, parts: Sequence[TrainingBatch]) -> TrainingBatch:
        """Give one batch of the examples of several, at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.inputs for part in parts]),
            torch.cat([part.labels for part in parts]),
            tuple(name for part in parts for name in part.names),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where and how exactly it is computed."""

    device: str
    precision: Literal["float32", "bf16", "fp16"]

    @property
    def device_type(self) -> str:
        """Kind of device: "cpu", "cuda"."""
        return torch.device(self.device).type


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Where the state after the last finished epoch is kept."""

    path: Path
    key: str
    """Digest of all that the run depends on: the state of another run is not gone on from."""
    write: Callable[[Path, bytes], None]
    """Writes a file whole or not at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How the training went."""

    losses: tuple[float, ...]
    """Mean loss of each epoch's examples, while they were trained on."""
    resumed_after: int
    """Epochs taken from a checkpoint; 0 where there was none."""
    num_steps: int
    """Optimizer steps, those taken from the checkpoint included."""
    failures: dict[str, str]
    """Reason by name, for examples that could not be read in some epoch."""
    seconds: float
    """Wall clock of this process, reading included."""


def train(
    network: nn.Module,
    read_epoch: Callable[[int, dict[str, str]], Iterable[TrainingBatch]],
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
) -> Trained:
    """Train a network in place on the plan's loss, and leave it in eval mode.

    Args:
        network: (B, ...) -> logits (B, K), or (B, M, K) of M classifiers, on the device; or an
            `nn.ModuleList` of such networks, each of which is shown every batch.
        read_epoch: (epoch from 0, failures) -> its batches in training order. Adds to failures, by
            name, what it could not read.
        plan: The optimisation.
        steps_per_epoch: Batches an epoch has if all can be read; the schedule is laid over them.
        seed: Of dropout and whatever else the network draws.
        machine: Device and precision.
        checkpoint: Gone on from if it is there and of this run; written after each epoch.
        groups: All parameters that learn, where not all have the plan's rate and decay.
        num_steps: Steps in all where the last epoch is shorter than the others; None takes whole
            epochs.
        remarks: What `read_epoch` writes down of examples that it could read, by name: kept with
            the checkpoint, and filled with what stands there.
        progress: Called as (steps done, steps in all).

    Raises:
        DivergedError: The loss is not finite (names the epoch and the examples); of several
            classifiers, that of each.
        RunError: An epoch has fewer than two examples, or a checkpoint can't be written.
    """
    started = time.perf_counter()
    total = plan.epochs * steps_per_epoch if num_steps is None else num_steps
    state = _State(network, plan, groups=groups, num_steps=total, machine=machine)
    if remarks is not None:
        state.remarks = remarks
    first_epoch = state.restore(checkpoint)
    devices = [torch.device(machine.device)] if machine.device_type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _repeatable():
        for epoch in range(first_epoch, plan.epochs):
            torch.manual_seed(_epoch_seed(seed, epoch))
            network.train()
            batches = _without_lone_examples(read_epoch(epoch, state.failures), epoch=epoch)
            state.losses.append(
                _train_epoch(
                    state,
                    batches,
                    epoch=epoch,
                    total=total,
                    progress=progress,
                )
            )
            state.save(checkpoint, epochs_done=epoch + 1)
    network.eval()
    return Trained(
        losses=tuple(state.losses),
        resumed_after=first_epoch,
        num_steps=state.num_steps,
        failures=dict(state.failures),
        seconds=time.perf_counter() - started,
    )


def named_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Give parameters and buffers by name, detached and not copied.

    Unlike `state_dict`, it does not depend on what modules of other people make of their names.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def load_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy values into a network in place; names and shapes are those of `named_tensors`."""
    with torch.no_grad():
        for name, own in named_tensors(network).items():
            own.copy_(tensors[name])


def autocast(machine: Machine) -> AbstractContextManager[Any]:
    """Compute in the machine's precision where PyTorch deems that safe, for a forward pass."""
    if machine.precision == "float32":
        return nullcontext()
    return torch.autocast(machine.device_type, _AUTOCAST[machine.precision])


class _State:
    """All that changes while training, and how it is kept."""

    def __init__(
        self,
        network: nn.Module,
        plan: TrainingPlan,
        *,
        groups: Sequence[ParameterGroup],
        num_steps: int,
        machine: Machine,
    ) -> None:
        self.network = network
        self.plan = plan
        self.machine = machine
        self.optimizer = make_optimizer(network, plan, groups)
        self.schedules = make_schedules(self.optimizer, plan, num_steps=num_steps)
        self.scaler = GradScaler(machine.device_type, enabled=machine.precision == "fp16")
        self.losses: list[float] = []
        self.failures: dict[str, str] = {}
        self.remarks: dict[str, list[str]] = {}
        self.num_steps = 0

    def save(self, checkpoint: Checkpoint, *, epochs_done: int) -> None:
        content = io.BytesIO()
        torch.save(
            {
                "key": checkpoint.key,
                "epochs_done": epochs_done,
                "network": named_tensors(self.network),
                "optimizer": self.optimizer.state_dict(),
                "schedules": [schedule.state_dict() for schedule in self.schedules],
                "scaler": self.scaler.state_dict(),
                "losses": self.losses,
                "failures": self.failures,
                "remarks": self.remarks,
                "num_steps": self.num_steps,
            },
            content,
        )
        checkpoint.write(checkpoint.path, content.getvalue())

    def restore(self, checkpoint: Checkpoint) -> int:
        """Take up a checkpoint of the same run; give the number of epochs it has behind it."""
        saved = _load(checkpoint, device=self.machine.device)
        if saved is None:
            return 0
        load_tensors(self.network, saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for schedule, values in zip(self.schedules, saved["schedules"], strict=True):
            schedule.load_state_dict(values)
        self.scaler.load_state_dict(saved["scaler"])
        self.losses = list(saved["losses"])
        self.failures = dict(saved["failures"])
        # A checkpoint older than remarks has none.
        self.remarks.update(saved.get("remarks", {}))
        self.num_steps = int(saved["num_steps"])
        return int(saved["epochs_done"])


def _train_epoch(
    state: _State,
    batches: Iterator[TrainingBatch],
    *,
    epoch: int,
    total: int,
    progress: Callable[[int, int], None],
) -> float:
    """Take one step a batch; give the mean loss of the epoch's examples."""
    loss_sum, num_examples = 0.0, 0
    for batch in batches:
        loss = _step(state, batch, epoch=epoch)
        loss_sum += loss * len(batch.names)
        num_examples += len(batch.names)
        state.num_steps += 1
        progress(state.num_steps, total)
    return loss_sum / num_examples


def _step(state: _State, batch: TrainingBatch, *, epoch: int) -> float:
    """Take one step; give the sum of the classifiers' losses, of those alone that are finite."""
    plan, optimizer, scaler = state.plan, state.optimizer, state.scaler
    optimizer.zero_grad(set_to_none=True)
    values: list[float] = []
    for part in _parts(batch, plan.examples_at_once):
        share = len(part.names) / len(batch.names)
        for network in _members(state.network):
            with autocast(state.machine):
                logits = network(part.inputs)
            losses_M = losses_of(plan, logits.float(), part.labels)
            # What is not finite goes into the gradient of its own classifier and of no other.
            scaler.scale(losses_M.sum() * share).backward()  # type: ignore[no-untyped-call]
            values += (losses_M.detach() * share).tolist()
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise DivergedError(
            f"Training diverged in epoch {epoch + 1} of {plan.epochs}: the loss was {values[0]} on"
            f" {', '.join(batch.names[:3])}{', ...' if len(batch.names) > 3 else ''}; lower the"
            f" learning rate (it was {optimizer.param_groups[0]['initial_lr']:g}) or clip the"
            " gradient."
        )
    if plan.largest_gradient > 0:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), plan.largest_gradient)
    scaler.step(optimizer)
    scaler.update()
    for schedule in state.schedules:
        schedule.step()
    return sum(finite)


def _members(network: nn.Module) -> Iterable[nn.Module]:
    return network if isinstance(network, nn.ModuleList) else (network,)


def _parts(batch: TrainingBatch, examples_at_once: int) -> Iterator[TrainingBatch]:
    """Cut a batch into parts of at most so many examples, in order; 0 leaves it whole."""
    if examples_at_once == 0:
        yield batch
        return
    for start in range(0, len(batch.names), examples_at_once):
        part = slice(start, start + examples_at_once)
        yield TrainingBatch(batch.inputs[part], batch.labels[part], batch.names[part])


def _without_lone_examples(
    batches: Iterable[TrainingBatch], *, epoch: int
) -> Iterator[TrainingBatch]:
    """Let each batch of one join its neighbour; empty batches vanish."""
    waiting: TrainingBatch | None = None
    for batch in batches:
        if not batch.names:
            continue
        if waiting is None:
            waiting = batch
        elif len(batch.names) == 1 or len(waiting.names) == 1:
            waiting = TrainingBatch.joined([waiting, batch])
        else:
            yield waiting
            waiting = batch
    if waiting is None or len(waiting.names) == 1:
        raise RunError(
            f"Training needs at least two examples that can be read; epoch {epoch + 1} had"
            f" {0 if waiting is None else 1}."
        )
    yield waiting


def _load(checkpoint: Checkpoint, *, device: str) -> dict[str, Any] | None:
    """Read a checkpoint without running code from it; None if absent, damaged or of another run."""
    if not checkpoint.path.is_file():
        return None
    try:
        saved = torch.load(checkpoint.path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        return None
    return saved if isinstance(saved, dict) and saved.get("key") == checkpoint.key else None


def _repeatable() -> AbstractContextManager[Any]:
    """Let cuDNN choose among algorithms that give the same numbers each time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


def _epoch_seed(seed: int, epoch: int) -> int:
    """Mix seed and epoch into 32 bits: PyTorch's CPU generator does not look at higher ones."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
