"""The moving average of a network that learns: weights, and running statistics with them.

The rule is that of the official trainer (tf-models-official 2.20,
official/modeling/optimization/ema_optimizer.py, `trainable_weights_only: false`): after the n-th
step, n from 1,

    average = decay * average + (1 - decay) * network,   decay = min(highest, (1 + n) / (10 + n)),

and the average before the first step is nought. What that leaves out of a whole average is the
product of the decays, 2/11 after one step, 6e-5 after ten, and nothing that float32 can hold after
forty. (TensorFlow 1 began at the first weights, with the same end.)

Neither mmengine nor PyTorch has that rule: 1 - decay is gamma / (gamma + n) in mmengine's
`MomentumAnnealingEMA`, and 9 / (10 + n) here; PyTorch's `AveragedModel` begins with a copy.

The recipe of ResNet-RS needs the running statistics in it: its batch norms keep the statistics of
the newest batch alone, and the average over these is what is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rsbench.training.tensors import named_tensors


class _Slot(NamedTuple):
    """Where a network has a tensor.

    To walk through all modules of a ResNet-50 takes a millisecond, so that is done once; what lies
    in the place by then is looked at each time.
    """

    holder: Mapping[str, Tensor | None]
    name: str

    @property
    def tensor(self) -> Tensor:
        """What the network has there now."""
        found = self.holder[self.name]
        assert found is not None, self.name
        return found


class Average:
    """Moving average of a network's parameters and float buffers, on the network's device."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Take a copy of the network's tensors.

        Args:
            network: What is averaged at each update; its integer buffers are copied as they are.
            decay: The highest, in (0, 1).
        """
        assert 0 < decay < 1, decay
        self.decay = decay
        self.num_updates = 0
        """Steps that went in."""
        self._tensors = {name: each.clone() for name, each in named_tensors(network).items()}
        self._averages: list[Tensor] = []
        self._values: list[_Slot] = []
        self._copies: list[Tensor] = []
        self._counters: list[_Slot] = []
        for name, each in self._tensors.items():
            own = _slot(network, name)
            if each.is_floating_point():
                self._averages.append(each)
                self._values.append(own)
            else:
                self._copies.append(each)
                self._counters.append(own)

    @torch.no_grad()
    def update(self) -> None:
        """Let in the network as it is after a step."""
        self.num_updates += 1
        share = 1 - decay_after(self.num_updates, highest=self.decay)
        if self.num_updates == 1:
            # The copy stands for the network until then, and has no part in the average.
            torch._foreach_zero_(self._averages)
        torch._foreach_lerp_(self._averages, [each.tensor for each in self._values], share)
        if self._copies:
            torch._foreach_copy_(self._copies, [each.tensor for each in self._counters])

    def tensors(self) -> dict[str, Tensor]:
        """Give the averages by name, not copied; before the first update, the network's own.

        Names are those of the network's parameters and buffers. Integer buffers are the network's.
        """
        return dict(self._tensors)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on from what `tensors` gave after so many updates; the values are copied."""
        assert set(tensors) == set(self._tensors), set(tensors) ^ set(self._tensors)
        for name, average in self._tensors.items():
            average.copy_(tensors[name])
        self.num_updates = num_updates


def _slot(network: nn.Module, name: str) -> _Slot:
    path, _, last = name.rpartition(".")
    module = network.get_submodule(path)
    return _Slot(module._parameters if last in module._parameters else module._buffers, last)


def decay_after(num_updates: int, *, highest: float) -> float:
    """Give the decay of the n-th update, n from 1: it warms up, so that few steps count early."""
    return min(highest, (1 + num_updates) / (10 + num_updates))
