"""The machine's side of a training: where, how exactly and in which layout it is computed.

Nothing here is part of a recipe. What it moves, it moves by rounding, and random numbers: these
follow from the kind of device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where and how exactly it is computed."""

    device: str
    precision: Literal["float32", "bf16", "fp16"]
    compile: bool = False
    """Whether the network goes through `torch.compile`."""

    @property
    def device_type(self) -> str:
        """Kind of device: "cpu", "cuda"."""
        return torch.device(self.device).type


def autocast(machine: Machine) -> AbstractContextManager[Any]:
    """Compute in the machine's precision where PyTorch deems that safe, for a forward pass."""
    if machine.precision == "float32":
        return nullcontext()
    return torch.autocast(machine.device_type, _AUTOCAST[machine.precision])


@contextmanager
def repeatable() -> Iterator[None]:
    """Let cuDNN choose among algorithms that give the same numbers each time."""
    # Not by `cudnn.flags`, which also allows TF32 to whoever had forbidden it.
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def sent_home(numbers: torch.Tensor) -> Callable[[], list[float]]:
    """Send a few numbers to the CPU on their way; what is given waits for them alone.

    To ask a GPU for a number waits for all that it was told to do until then, the step after the
    number's own included; meanwhile nobody tells it what comes next.

    Args:
        numbers: (n,), on any device; not changed afterwards.
    """
    if numbers.device.type != "cuda":
        return numbers.tolist
    copied = numbers.to("cpu", non_blocking=True)
    arrived = torch.cuda.current_stream(numbers.device).record_event()

    def read() -> list[float]:
        arrived.synchronize()
        found: list[float] = copied.tolist()
        return found

    return read


@contextmanager
def own_randomness(machine: Machine) -> Iterator[None]:
    """Give PyTorch's generators, as far as a training sets them, back as they were."""
    devices = [torch.device(machine.device)] if machine.device_type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed_step(machine: Machine, *words: int) -> int:
    """Set the generators that a network draws from; what it draws then follows from the words.

    A training that does so before each step can go on at any of them, and keeps no generator.

    Args:
        machine: The generators of the CPU and of its device are set, and no other device's.
        words: Non-negative, such as seed, epoch, batch and rank.

    Returns:
        A seed, unrelated to theirs, for what else is drawn in the step.
    """
    network_seed, other_seed = np.random.SeedSequence(words).generate_state(2).tolist()
    torch.default_generator.manual_seed(network_seed)
    if machine.device_type == "cuda":
        index = torch.device(machine.device).index
        place = torch.cuda.current_device() if index is None else index
        torch.cuda.default_generators[place].manual_seed(network_seed)
    return int(other_seed)


@contextmanager
def laid_out(network: nn.Module) -> Iterator[None]:
    """Keep the weights of 2D networks in the layout that matrix units are made for.

    A training step on a CPU with AVX-512, one thread, times the speed of the usual layout: 1.6 for
    ResNet-RS-50 at 64 pixels, 1.1 at 160, 1.4 for EfficientNet-Lite0 at 224. A 3D network keeps the
    usual one, for ResNet-RS-3D-50 at 8 x 96 came to 0.9 there; on GPUs that is not measured.
    """
    is_2d = all(each.dim() < 5 for each in network.parameters())
    if is_2d:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        if is_2d:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def as_laid_out(inputs: torch.Tensor) -> torch.Tensor:
    """Give pictures (B, C, H, W) the layout of `laid_out`; other inputs stay as they are."""
    if inputs.ndim != 4:
        return inputs
    return inputs.contiguous(memory_format=torch.channels_last)
