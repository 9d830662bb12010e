"""What a training minimises in one step, and with which optimizer.

Losses, SGD and AdamW are PyTorch's. How the rate goes is in `rsbench.training.schedules`.

Shape letters: B batch, K classes, M classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from rsbench.training.lars import TRUST_COEFFICIENT, StepMomentum

Loss = Literal["cross-entropy", "binary cross-entropy"]
"""One class an example, or any number of them."""

Optimizer = Literal["sgd", "lars", "adamw"]
"""SGD, LARS (You et al. 2017, https://arxiv.org/abs/1708.03888), AdamW."""

MomentumOf = Literal["gradients", "steps"]
"""What momentum sums: "gradients", the rate of now scaling the sum (PyTorch, and the TPU code's
MomentumOptimizer); or "steps", each of which keeps the rate it was made with (Keras, and so the
Model Garden). They are the same while the rate stands still."""

Schedule = Literal["cosine", "whole cosine", "constant"]
"""How the rate goes: "cosine", the warm-up rises to the top and a cosine takes the rate to 0 over
the steps that are left; "whole cosine", the cosine runs from the first step on and the warm-up ends
on its value there (Model Garden); "constant", the top all the way after the warm-up."""


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
    optimizer: Optimizer
    learning_rate: float
    """At the top of `schedule`. Where parameters come in groups, these have their own."""
    momentum: float
    """Of SGD and LARS; AdamW has PyTorch's betas, 0.9 and 0.999."""
    weight_decay: float
    decay_norm_and_bias: bool
    """Whether parameters with one axis (biases, norms) decay as well."""
    warmup_share: float
    """Part of all steps in which the rate rises linearly, in [0, 1]."""
    warmup_factor: float
    """Rate of the first step over the top, in (0, 1]; 0 too with "whole cosine"."""
    label_smoothing: float
    """Share s of each target that goes evenly to all classes; of noughts and ones, y becomes
    y (1 - s) + s / 2."""
    largest_gradient: float
    """Norm to which the gradient of all parameters is clipped; 0 does not clip."""
    loss: Loss = "cross-entropy"
    nesterov: bool = True
    """Whether momentum looks ahead (SGD, LARS)."""
    momentum_of: MomentumOf = "gradients"
    """What the momentum of SGD sums. LARS sums steps, whatever is said here."""
    schedule: Schedule = "cosine"
    """How the rate goes after, or under, the warm-up, where `drops_at` does not say it."""
    drops_at: tuple[float, ...] = ()
    """Shares of all steps, rising, after each of which the rate is a tenth of what it was, in place
    of the cosine."""
    examples_at_once: int = 0
    """Largest part of a batch that goes through the network at one time, the gradients of the parts
    being added up; 0 takes the whole. Batch norm would see the parts alone."""
    ema_decay: float = 0.0
    """Highest decay of the moving average of weights and float buffers that is kept and tested in
    place of them, in [0, 1); 0 keeps none. See `rsbench.training.averaging`."""
    mixup: float = 0.0
    """Alpha of the Beta distribution that the shares of mixup are drawn from; 0 mixes nothing."""
    cutmix: float = 0.0
    """The same of cutmix; where both are given, each batch gets one of them at random."""
    freeze_norm: bool = False
    """Whether batch norms keep their running statistics and use these in training too; their
    affine parameters still learn."""
    sync_norm: bool = False
    """Whether the statistics of a batch are those over all processes."""
    norm_momentum: float | None = None
    """Share of the newest batch in the running statistics, PyTorch's convention: 1.0 is what
    TensorFlow calls momentum 0. None leaves what each batch norm has."""


def losses_of(plan: TrainingPlan, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Give the mean loss of a batch for each classifier, (M,), one for logits (B, K).

    Of binary cross-entropies it is the mean over the classes too.

    Args:
        plan: Kind of loss and label smoothing.
        logits: (B, K), or (B, M, K) of several classifiers.
        labels: int64 (B,), or shares of classes float32 (B, K), which mixing makes; for binary
            cross-entropies always float32 (B, K).
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

    SGD and LARS decay weights through the gradient, as a term of weight_decay / 2 x the sum of
    squares in the loss would; AdamW takes them off beside it.

    Args:
        network: All of its parameters that need a gradient learn, where no groups are named. Those
            of a module with a true `spared_from_decay` decay only if norms and biases do.
        plan: Its kind, rate, momentum and decay.
        groups: Parameters with rates and decays of their own, in place of the plan's.
    """
    groups = groups or _groups(network, plan)
    if plan.optimizer == "adamw":
        return torch.optim.AdamW([_values(group) for group in groups])
    nesterov = plan.nesterov and plan.momentum > 0
    if plan.optimizer == "sgd" and plan.momentum_of == "gradients":
        return torch.optim.SGD(
            [_values(group) for group in groups], momentum=plan.momentum, nesterov=nesterov
        )
    adapts = plan.optimizer == "lars"
    return StepMomentum(
        [each for group in groups for each in _with_trust(group, plan, adapts=adapts)],
        lr=plan.learning_rate,
        momentum=plan.momentum,
        nesterov=nesterov,
    )


# Any: PyTorch's groups are dicts of mixed values.
def _values(group: ParameterGroup) -> dict[str, Any]:
    return {
        "params": list(group.parameters),
        "lr": group.learning_rate,
        "weight_decay": group.weight_decay,
    }


def _with_trust(group: ParameterGroup, plan: TrainingPlan, *, adapts: bool) -> list[dict[str, Any]]:
    """Cut a group into what LARS gives rates of their own and what it does not.

    Norms and biases have the plain rate where they do not decay: the official code's lists of what
    to leave out are one list unless two are given.
    """
    if not adapts:
        return [_values(group)]
    is_adapted = [each.ndim > 1 or plan.decay_norm_and_bias for each in group.parameters]
    return [
        {**_values(group), "params": parameters, "trust_coefficient": coefficient}
        for wanted, coefficient in ((True, TRUST_COEFFICIENT), (False, 0.0))
        if (
            parameters := [
                each
                for each, is_one in zip(group.parameters, is_adapted, strict=True)
                if is_one is wanted
            ]
        )
    ]


def _groups(network: nn.Module, plan: TrainingPlan) -> list[ParameterGroup]:
    """Give all parameters the plan's rate, and its decay to those that the plan lets decay."""
    spared = {
        id(parameter)
        for module in network.modules()
        if getattr(module, "spared_from_decay", False)
        for parameter in module.parameters()
    }
    parameters = [each for each in network.parameters() if each.requires_grad]
    decays = [
        plan.decay_norm_and_bias or (each.ndim > 1 and id(each) not in spared)
        for each in parameters
    ]
    groups = [
        ParameterGroup(
            tuple(each for each, does in zip(parameters, decays, strict=True) if does is decaying),
            plan.learning_rate,
            plan.weight_decay if decaying else 0.0,
        )
        for decaying in (True, False)
    ]
    return [group for group in groups if group.parameters]
