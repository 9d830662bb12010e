"""SGD whose momentum sums steps, each with the rate that it was made with; and LARS, which is that.

PyTorch's SGD sums gradients, and the rate of now scales the sum. Keras's (so the Model Garden's)
sums steps: rate x gradient. While the rate moves, as in a warm-up, the two go different ways.

LARS (You et al. 2017, "Large Batch Training of Convolutional Networks",
https://arxiv.org/abs/1708.03888) has in addition a rate for each tensor, in proportion to its norm
over that of its gradient. PyTorch, torchvision and mmengine have no LARS; this one follows
tf-models-official 2.20, official/modeling/optimization/lars.py, with its defaults (trust
coefficient 0.001, classic momentum, a plain rate where a norm is nought).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...] | list[Tensor]

TRUST_COEFFICIENT = 0.001
"""Of LARS: `eeta` in the official code and in the paper's experiments."""


class StepMomentum(torch.optim.Optimizer):
    """SGD with v = momentum v + rate g, w = w - v, where g is the gradient + weight_decay w.

    Nesterov's takes momentum v + rate g from w instead, v being the new one.
    """

    # Any: groups of parameters are dicts of mixed values in PyTorch.
    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.0,
    ) -> None:
        """Hold parameters, or groups of them that override what follows.

        Args:
            parameters: As PyTorch's optimizers take them.
            lr: The rate.
            momentum: In [0, 1).
            nesterov: Whether it looks ahead.
            weight_decay: Added to the gradient as that of weight_decay / 2 x the sum of squares.
            trust_coefficient: Of LARS: a tensor's rate is multiplied by this and by the norm of the
                tensor over that of its gradient, decay included; 0 leaves the rate.
        """
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients that are there."""
        assert closure is None, "the loss is computed once a step"
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if parameters:
                self._step(parameters, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Move the parameters of one group, each kind of operation in one call for all of them."""
        gradients = [each.grad for each in parameters if each.grad is not None]
        # The one list that is made anew; all that follows works in place.
        steps = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        if group["trust_coefficient"]:
            torch._foreach_mul_(steps, _rates(parameters, steps, group))
        else:
            torch._foreach_mul_(steps, group["lr"])
        velocities = [self._velocity(each) for each in parameters]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, steps)
        if group["nesterov"]:
            torch._foreach_add_(steps, velocities, alpha=group["momentum"])
            torch._foreach_sub_(parameters, steps)
        else:
            torch._foreach_sub_(parameters, velocities)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter)
        velocity: Tensor = state["velocity"]
        return velocity


def _rates(parameters: Tensors, gradients: Tensors, group: dict[str, Any]) -> list[Tensor]:
    """Give each tensor's own rate, without asking the device for a number."""
    widths = torch.stack(torch._foreach_norm(parameters))
    slopes = torch.stack(torch._foreach_norm(gradients))
    trusts = group["trust_coefficient"] * widths / slopes
    trusts = torch.where((widths > 0) & (slopes > 0), trusts, torch.ones_like(trusts))
    return list((group["lr"] * trusts).unbind())
