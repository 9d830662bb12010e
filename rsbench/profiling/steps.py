"""A network at work: a forward pass, a training step, and what memory they take.

Inputs are random numbers of the right shape and labels are arbitrary: time depends on neither.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from rsbench.profile import with_head
from rsbench.profiling.timing import AUTOCAST, Fitting, Precision, Work, free_memory, largest_batch

Kind = Literal["inference", "training"]
"""A forward pass in eval mode, or forward, backward and one optimizer step in train mode."""

Layout = Literal["channels_last", "contiguous"]
"""Memory format of weights and batches."""

LEARNING_RATE = 1e-3
MOMENTUM = 0.9

_PASSES_BEFORE = 2
"""Untimed passes: the first chooses kernels, the second finds the optimizer's buffers there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How a network is run; together with its input, all that its time depends on."""

    device: str = "cpu"
    precision: Precision = "float32"
    layout: Layout = "channels_last"
    compiled: bool = False
    """Whether torch.compile makes one program of it."""


class _Classified(nn.Module):
    """A network and its head as one module, which torch.compile sees whole."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Tensor) -> Tensor:
        return with_head(self.module, batch)


class NetworkAtWork:
    """A network that comes to its device for its turn and leaves it afterwards.

    So that each network has a GPU's memory for itself, although several take turns.
    """

    def __init__(
        self, module: nn.Module, view_shape: Sequence[int], setting: Setting, *, num_outputs: int
    ) -> None:
        """Take a network.

        Args:
            module: A `rsbench.specs.BackboneModule` on the CPU.
            view_shape: (C, H, W) or (C, T, H, W), in pixels.
            setting: How to run it.
            num_outputs: Width of its logits, or of its features where it has no head.
        """
        self.setting = setting
        self.device = torch.device(setting.device)
        self.view_shape = tuple(view_shape)
        self.num_outputs = num_outputs
        self.network = _Classified(module)
        # Not nn.Module.to, which takes one memory format for networks of 2D and of 3D alone.
        for parameter in self.network.parameters():
            parameter.data = _laid_out(parameter.data, setting.layout)
        self.run = torch.compile(self.network, dynamic=False) if setting.compiled else self.network
        parameters = [each for each in self.network.parameters() if each.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)
        self.scaler = GradScaler(self.device.type, enabled=setting.precision == "fp16")

    def enter(self) -> None:
        """Come to the device."""
        self.network.to(self.device)

    def leave(self) -> None:
        """Leave the device, and nothing there."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            self.optimizer.state.clear()
            self.network.to("cpu")
            free_memory()

    def work(self, kind: Kind, batch_size: int) -> Work:
        """Give a function that does one pass, on a batch that lies on the device.

        Args:
            kind: "inference" sets the network to eval mode, "training" to train mode: batch norms
                use and update statistics, dropout drops.
            batch_size: Views in the batch.
        """
        generator = torch.Generator().manual_seed(0)
        batch = torch.randn(batch_size, *self.view_shape, generator=generator)
        batch = _laid_out(batch, self.setting.layout).to(self.device)
        if kind == "inference":
            return lambda: self._forward(batch)
        labels = torch.arange(batch_size, device=self.device) % self.num_outputs
        return lambda: self._step(batch, labels)

    def prepare(self, kind: Kind, batch_size: int) -> int | None:
        """Do the work until it runs as it will: kernels chosen, buffers there.

        Returns:
            The most bytes its tensors took on a GPU, parameters and batch included; None on a CPU,
            where nobody counts them.
        """
        work = self.work(kind, batch_size)
        if self.device.type != "cuda":
            for _ in range(_PASSES_BEFORE):
                work()
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(_PASSES_BEFORE):
            work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device)

    def fit(self, kind: Kind, batch_size: int) -> Fitting:
        """Find the largest batch, halved from the one asked for, whose work fits into memory.

        Raises:
            RunError: Not even one view fits.
        """
        return largest_batch(lambda size: self.prepare(kind, size), batch_size)

    def _forward(self, batch: Tensor) -> None:
        self.network.eval()
        with torch.inference_mode(), self._autocast():
            self.run(batch)

    def _step(self, batch: Tensor, labels: Tensor) -> None:
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = F.cross_entropy(self.run(batch), labels)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        dtype = AUTOCAST.get(self.setting.precision)
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype)


def _laid_out(tensor: Tensor, layout: Layout) -> Tensor:
    """Give a tensor in a layout; what has neither 4 nor 5 axes stays as it is."""
    if layout == "contiguous":
        return tensor.contiguous()
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if tensor.ndim not in formats:
        return tensor
    return tensor.contiguous(memory_format=formats[tensor.ndim])


def reset_peak_resident() -> int | None:
    """Forget the most memory that this process has had at once.

    Returns:
        What it has now, in bytes; None where the system can't forget (it is not Linux).
    """
    gc.collect()
    # What was freed may still be kept for later, and the next work would seem to need less.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _resident_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """Give the most memory that this process has had at once, since it began or since the reset.

    Read from Linux's ``VmHWM``: ``getrusage`` would count what the process was before ``exec``.

    Returns:
        Bytes, or None where the system does not say.
    """
    return _resident_bytes("VmHWM")


def _resident_bytes(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 if found else None
