"""What one step of a training minimises, how, and at which rate.

Schedules and warm-up are mmengine's, optimizers and losses PyTorch's.

Shape letters: B batch, K classes, M classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR, MultiStepLR
from torch import nn
from torch.nn import functional

Loss = Literal["cross-entropy", "binary cross-entropy"]
"""One class an example, or any number of them."""


class ParameterGroup(NamedTuple):
    """Parameters with a rate and a decay of their own."""

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    """At the top, as `TrainingPlan.learning_rate`."""
    weight_decay: float
    """Of all of them, those with one axis too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """Every number of the optimisation that moves a score."""

    epochs: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    """At the top, after the warm-up; a cosine takes it to 0 over the steps that are left, unless
    `drops_at` says otherwise. Where parameters come in groups, these have their own."""
    momentum: float
    """Of SGD; AdamW has PyTorch's betas, 0.9 and 0.999."""
    weight_decay: float
    decay_norm_and_bias: bool
    """Whether parameters with one axis (biases, norms) decay as well."""
    warmup_share: float
    """Part of all steps in which the rate rises linearly, in [0, 1]."""
    warmup_factor: float
    """Rate of the first step over the top, in (0, 1]."""
    label_smoothing: float
    """Share s of each target that goes evenly to all classes; of noughts and ones, y becomes
    y (1 - s) + s / 2."""
    largest_gradient: float
    """Norm to which the gradient of all parameters is clipped; 0 does not clip."""
    loss: Loss = "cross-entropy"
    nesterov: bool = True
    """Whether SGD with momentum looks ahead."""
    drops_at: tuple[float, ...] = ()
    """Shares of all steps, rising, after each of which the rate is a tenth of what it was, in place
    of the cosine."""
    examples_at_once: int = 0
    """Largest part of a batch that goes through the network at one time, the gradients of the parts
    being added up; 0 takes the whole. Batch norm would see the parts alone."""


def losses_of(plan: TrainingPlan, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Give the mean loss of a batch for each classifier, (M,), one for logits (B, K).

    Of binary cross-entropies it is the mean over the classes too.
    """
    logits_MBK = logits[None] if logits.ndim == 2 else logits.transpose(0, 1)
    if plan.loss == "cross-entropy":
        return torch.stack(
            [
                functional.cross_entropy(each_BK, labels, label_smoothing=plan.label_smoothing)
                for each_BK in logits_MBK
            ]
        )
    smoothed_BK = labels * (1 - plan.label_smoothing) + plan.label_smoothing / 2
    return torch.stack(
        [
            functional.binary_cross_entropy_with_logits(each_BK, smoothed_BK)
            for each_BK in logits_MBK
        ]
    )


def make_optimizer(
    network: nn.Module, plan: TrainingPlan, groups: Sequence[ParameterGroup] = ()
) -> torch.optim.Optimizer:
    """Give the plan's optimizer of the parameters that learn.

    Args:
        network: All of its parameters that need a gradient learn, where no groups are named.
        plan: Its kind, rate, momentum and decay.
        groups: Parameters with rates and decays of their own, in place of the plan's.
    """
    given = [
        {
            "params": list(group.parameters),
            "lr": group.learning_rate,
            "weight_decay": group.weight_decay,
        }
        for group in groups or _groups(network, plan)
    ]
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(given)
    return torch.optim.SGD(
        given, momentum=plan.momentum, nesterov=plan.nesterov and plan.momentum > 0
    )


def _groups(network: nn.Module, plan: TrainingPlan) -> list[ParameterGroup]:
    """Give all parameters the plan's rate, and its decay to those that the plan lets decay."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    decays = [each.ndim > 1 or plan.decay_norm_and_bias for each in parameters]
    groups = [
        ParameterGroup(
            tuple(each for each, does in zip(parameters, decays, strict=True) if does is decaying),
            plan.learning_rate,
            plan.weight_decay if decaying else 0.0,
        )
        for decaying in (True, False)
    ]
    return [group for group in groups if group.parameters]


# Any: mmengine is not typed; both schedules have `step`, `state_dict` and `load_state_dict`.
def make_schedules(
    optimizer: torch.optim.Optimizer, plan: TrainingPlan, *, num_steps: int
) -> list[Any]:
    """Give the warm-up, and the cosine or the drops, each minding its own steps."""
    warmup = round(plan.warmup_share * num_steps)
    schedules: list[Any] = []
    if warmup > 0:
        schedules.append(
            LinearLR(
                optimizer, start_factor=plan.warmup_factor, by_epoch=False, begin=0, end=warmup
            )
        )
    if plan.drops_at:
        # Whole steps that have passed; 0.29 of 100 is 28.999999999999996 in floats.
        milestones = [int(round(share * num_steps, 6)) + 1 for share in plan.drops_at]
        schedules.append(MultiStepLR(optimizer, milestones=milestones, gamma=0.1, by_epoch=False))
    elif num_steps > warmup:
        schedules.append(
            CosineAnnealingLR(
                optimizer,
                T_max=num_steps - warmup,
                eta_min=0.0,
                by_epoch=False,
                begin=warmup,
                end=num_steps,
            )
        )
    return schedules
