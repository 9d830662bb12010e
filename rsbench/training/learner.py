"""A network with all that changes while it trains, and one step of it.

A step is: the batch mixed where the plan mixes, parts of it through the network, the loss, its
gradient, clipping, the optimizer, the schedules, the average. Nothing else happens in one.

Several classifiers may train side by side on the same batches, each by its own loss, rate and
decay: a network that gives (B, M, K), or an `nn.ModuleList`. They share nothing, so one that
diverges takes none of the others along.

Shape letters: B batch, K classes, M classifiers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm

from rsbench.errors import RsbenchError
from rsbench.media.mixing import mixed
from rsbench.specs import Ranks
from rsbench.training.averaging import Average
from rsbench.training.batches import TrainingBatch, parts_of
from rsbench.training.distribution import Together, gradient_weight, wrapped
from rsbench.training.machine import Machine, as_laid_out, autocast, laid_out
from rsbench.training.optimisation import ParameterGroup, TrainingPlan, losses_of, make_optimizer
from rsbench.training.schedules import make_schedules
from rsbench.training.tensors import load_tensors, named_tensors


class Learner:
    """A network, its optimizer, schedules, scaler and average."""

    def __init__(
        self,
        network: nn.Module,
        plan: TrainingPlan,
        *,
        groups: Sequence[ParameterGroup],
        num_steps: int,
        machine: Machine,
        ranks: Ranks | None,
        runs: Sequence[Together],
    ) -> None:
        """Make what the plan says around a network; `learning` does all that goes with it."""
        self.network = network
        self.plan = plan
        self.machine = machine
        self.members = members_of(network)
        self.num_classifiers = len(self.members)
        """As far as is known: a network may turn out to be several, after its first step."""
        self._ranks = ranks
        self._runs = runs
        self.optimizer = make_optimizer(network, plan, groups)
        self.schedules = make_schedules(self.optimizer, plan, num_steps=num_steps)
        self.scaler = GradScaler(machine.device_type, enabled=machine.precision == "fp16")
        self.average = Average(network, plan.ema_decay) if plan.ema_decay > 0 else None
        # A scaler that met an overflow leaves a step out, which the average must not count.
        self.optimizer.register_step_post_hook(self._after_step)

    @property
    def rate(self) -> float:
        """Learning rate of the next step, of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def top_rate(self) -> float:
        """Learning rate at the top of its schedule, of the first group of parameters."""
        group = self.optimizer.param_groups[0]
        return float(group.get("initial_lr", group["lr"]))

    def begin(self) -> None:
        """Go into training mode, batch norms as the plan says."""
        self.network.train()
        for norm in batch_norms(self.network):
            norm.train(not self.plan.freeze_norm)

    def step(
        self,
        batch: TrainingBatch,
        *,
        absent_shape: Sequence[int],
        mixing_seed: int,
        num_classes: int | None,
    ) -> torch.Tensor:
        """Take one step; the rate stays as it is.

        Args:
            batch: This process's examples, perhaps none; `num_global` is set, and at least 1.
            absent_shape: Of one example, where this process has none.
            mixing_seed: What mixing draws follows from it.
            num_classes: K; needed where the plan mixes.

        Returns:
            Float32 (M + 1,), on the device: the loss of each classifier, summed over the examples
            of this process, and how many of these were classified right (the mean of the M).
        """
        self.optimizer.zero_grad(set_to_none=True)
        if batch.names:
            mixed_batch = self._mixed(batch, seed=mixing_seed, num_classes=num_classes)
            totals = self._gradient_of(mixed_batch)
        else:
            totals = self._gradient_of_none(absent_shape)
        for run in self._runs:
            run.settle(len(batch.names), batch.num_global)
        if self.plan.largest_gradient > 0:
            self.scaler.unscale_(self.optimizer)
            for each in self.members:
                nn.utils.clip_grad_norm_(each.parameters(), self.plan.largest_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.num_classifiers = len(totals) - 1
        return totals

    def advance(self) -> None:
        """Let the schedules set the rate of the next step."""
        with _silence_on_overflow() if self.scaler.is_enabled() else nullcontext():
            for schedule in self.schedules:
                schedule.step()

    def _gradient_of(self, batch: TrainingBatch) -> torch.Tensor:
        """Add the gradient of a batch's mean loss, part by part; give what `step` gives."""
        parts = list(parts_of(batch, self.plan.examples_at_once))
        weight = gradient_weight(len(batch.names), batch.num_global, self._ranks)
        totals = []
        for number, part in enumerate(parts, start=1):
            # The processes' gradients meet with that of the last part.
            with nullcontext() if number == len(parts) else self._unsynced():
                share = weight * len(part.names) / len(batch.names)
                totals.append(self._part(part, share, self._runs))
        return totals[0] if len(totals) == 1 else torch.stack(totals).sum(0)

    def _gradient_of_none(self, shape: Sequence[int]) -> torch.Tensor:
        """Take part in a step without examples."""
        for run in self._runs:
            self.scaler.scale(run.absent(shape)).backward()  # type: ignore[no-untyped-call]
        return torch.zeros(len(self._runs) + 1)

    def gradient_alone(self, batch: TrainingBatch) -> None:
        """Add the gradient of a batch's mean loss as one part, heard of by no other process."""
        self._part(batch, 1.0, self.members)

    def _part(
        self,
        part: TrainingBatch,
        share: float,
        forwards: Sequence[Callable[[torch.Tensor], torch.Tensor]],
    ) -> torch.Tensor:
        inputs = as_laid_out(part.inputs)
        losses, right = [], []
        for forward in forwards:
            with autocast(self.machine):
                logits = forward(inputs)
            losses_M = losses_of(self.plan, logits.float(), part.labels)
            # What is not finite goes into the gradient of its own classifier and of no other.
            self.scaler.scale(losses_M.sum() * share).backward()  # type: ignore[no-untyped-call]
            losses.append(losses_M.detach() * len(part.names))
            right.append(num_right(logits.detach(), part.labels))
        return torch.cat([*losses, torch.cat(right).mean(dim=0, keepdim=True)])

    def _mixed(self, batch: TrainingBatch, *, seed: int, num_classes: int | None) -> TrainingBatch:
        plan = self.plan
        if plan.mixup == 0 and plan.cutmix == 0:
            return batch
        assert num_classes is not None, "mixing needs the number of classes"
        inputs, labels = mixed(
            batch.inputs,
            batch.labels,
            mixup=plan.mixup,
            cutmix=plan.cutmix,
            num_classes=num_classes,
            generator=torch.Generator().manual_seed(seed),
        )
        return batch._replace(inputs=inputs, labels=labels)

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        """Keep gradients to this process for a while."""
        with ExitStack() as held:
            for run in self._runs:
                held.enter_context(run.no_sync())
            yield

    def _after_step(self, optimizer: torch.optim.Optimizer, *given: object) -> None:
        del optimizer, given
        if self.average is not None:
            self.average.update()

    def tested_tensors(self) -> dict[str, torch.Tensor]:
        """Give the tensors that are tested, not copied: the average's where there is one."""
        return named_tensors(self.network) if self.average is None else self.average.tensors()

    @contextmanager
    def as_tested(self) -> Iterator[nn.Module]:
        """Lend the network as it would be tested: averaged, in eval mode, which it stays in."""
        own = None
        if self.average is not None:
            own = {name: each.clone() for name, each in named_tensors(self.network).items()}
            load_tensors(self.network, self.average.tensors())
        self.network.eval()
        try:
            yield self.network
        finally:
            if own is not None:
                load_tensors(self.network, own)

    def is_finite(self) -> bool:
        """Say whether all weights that learn are finite."""
        weights = [each.detach() for each in self.network.parameters() if each.requires_grad]
        return bool(torch.stack([each.isfinite().all() for each in weights]).all())

    # Any: what PyTorch's and mmengine's state dicts hold.
    def state(self) -> dict[str, Any]:
        """Give all that a checkpoint must have, tensors not copied."""
        average = self.average
        return {
            "network": named_tensors(self.network),
            "optimizer": self.optimizer.state_dict(),
            "schedules": [each.state_dict() for each in self.schedules],
            "scaler": self.scaler.state_dict(),
            "average": {} if average is None else average.tensors(),
            "num_averaged": 0 if average is None else average.num_updates,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        load_tensors(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for schedule, values in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(values)
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load(state["average"], state["num_averaged"])


@contextmanager
def learning(
    network: nn.Module,
    plan: TrainingPlan,
    *,
    groups: Sequence[ParameterGroup],
    num_steps: int,
    machine: Machine,
    ranks: Ranks | None,
) -> Iterator[Learner]:
    """Let a network learn for a while; then layout and norms are as they were.

    Args:
        network: What learns, on the machine's device; it is trained in place.
        plan: The optimisation.
        groups: All parameters that learn, where not all have the plan's rate and decay.
        num_steps: Steps that the schedules are laid over.
        machine: Device, precision, whether to compile.
        ranks: Which of the processes that train it together this one is.

    Raises:
        RsbenchError: The plan's `sync_norm` can't be had of this network or device.
    """
    if ranks is not None and plan.sync_norm and plan.examples_at_once:
        # Processes may cut unequal numbers of parts, and the norms would wait for each other.
        raise RsbenchError(
            "sync_norm by several processes must see batches whole, and examples_at_once was"
            f" {plan.examples_at_once}: give --set examples_at_once=0, or --set sync_norm=false."
        )
    with ExitStack() as held:
        held.enter_context(laid_out(network))
        held.enter_context(_with_norm_momentum(network, plan.norm_momentum))
        # Compiled, a network is another module of the same tensors: names and states stay.
        compiled = [
            cast("nn.Module", torch.compile(each)) if machine.compile else each
            for each in members_of(network)
        ]
        runs = [
            held.enter_context(wrapped(each, ranks, machine, sync_norm=plan.sync_norm))
            for each in compiled
        ]
        yield Learner(
            network,
            plan,
            groups=groups,
            num_steps=num_steps,
            machine=machine,
            ranks=ranks,
            runs=runs,
        )


@contextmanager
def _silence_on_overflow() -> Iterator[None]:
    """Keep schedules from complaining of an optimizer that made no step yet.

    In fp16 the first steps overflow, and are left out, until the scaler has found its scale.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*scheduler.step.* before .*optimizer.step")
        yield


def members_of(network: nn.Module) -> tuple[nn.Module, ...]:
    """Give the networks that train side by side; a network that is alone, as the only one."""
    return tuple(network) if isinstance(network, nn.ModuleList) else (network,)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Give the batch norms of a network, those over several processes included."""
    return [each for each in network.modules() if isinstance(each, _BatchNorm)]


@contextmanager
def _with_norm_momentum(network: nn.Module, momentum: float | None) -> Iterator[None]:
    """Let running statistics take so large a share of the newest batch; None leaves each its own.

    Args:
        network: Whose batch norms.
        momentum: In [0, 1], PyTorch's convention.
    """
    norms = batch_norms(network)
    before = [norm.momentum for norm in norms]
    try:
        if momentum is not None:
            for norm in norms:
                norm.momentum = momentum
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own


def num_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Count the examples whose highest score is of a right class: float32 (M,).

    Args:
        logits: (B, K), one classifier's, or (B, M, K).
        labels: int64 (B,); or (B, K) of shares, of which the largest are right, or of noughts and
            ones.
    """
    predicted_BM = (logits[:, None] if logits.ndim == 2 else logits).argmax(dim=-1)
    if labels.ndim == 1:
        is_right_BM = predicted_BM == labels[:, None]
    else:
        most_B1 = labels.amax(dim=1, keepdim=True)
        is_right_BM = (labels.gather(1, predicted_BM) == most_B1) & (most_B1 > 0)
    return is_right_BM.sum(dim=0).float()
