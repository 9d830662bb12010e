"""Measuring time side by side: clocks, turns in rotating order, batches that fit, the peak.

What is compared is measured in turns, one lap each a round, and each round begins with another
one: a machine that slows down or is shared slows all of them alike. All laps are kept.
"""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple
from typing import Protocol as Interface

import torch

from rsbench.errors import RunError

Precision = Literal["float32", "bf16", "fp16"]
"""What a network computes in; bf16 and fp16 by autocast."""

AUTOCAST: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The type that autocast computes in."""

_SIDES = {False: 1024, True: 8192}
"""Rows of the square matrices, on a CPU and on a GPU: large enough to keep all of it busy."""

Work = Callable[[], object]


class Lap(NamedTuple):
    """How long one piece of work took once."""

    seconds: float
    """By the clock on the wall, or by the GPU's own."""
    cpu_seconds: float
    """What this process computed meanwhile, all its threads together: other processes that want
    the same cores lengthen it little."""


class Clock(Interface):
    """Measures one piece of work."""

    def lap(self, work: Work) -> Lap:
        """Do the work and say how long it took."""
        ...


class WallClock:
    """For work that is done when its call returns: on a CPU."""

    def lap(self, work: Work) -> Lap:
        """Do the work and say how long it took."""
        cpu_before, before = time.process_time(), time.perf_counter()
        work()
        return Lap(time.perf_counter() - before, time.process_time() - cpu_before)


class CudaClock:
    """For work that a GPU does after its call returned: between two events in its own queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def lap(self, work: Work) -> Lap:
        """Do the work, wait until the GPU has done it, and say how long it took there."""
        begin, end = _event(), _event()
        torch.cuda.synchronize(self.device)
        cpu_before = time.process_time()
        with torch.cuda.device(self.device):
            begin.record()
            work()
            end.record()
        torch.cuda.synchronize(self.device)
        return Lap(begin.elapsed_time(end) / 1000, time.process_time() - cpu_before)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def clock_of(device: torch.device) -> Clock:
    """Give the clock that measures work on a device."""
    return CudaClock(device) if device.type == "cuda" else WallClock()


class Turns(NamedTuple):
    """What came of measuring in turns."""

    laps: dict[str, dict[str, list[Lap]]]
    """Contestant -> piece of work -> one lap a round; only of those that went through."""
    faults: dict[str, Exception]
    """Contestant -> what it raised."""


def take_turns(
    contestants: Mapping[str, Callable[[], Mapping[str, Lap]]],
    *,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Turns:
    """Let every contestant have its turn in each round; each round begins with another one.

    Args:
        contestants: Name -> its turn, which gives one lap for each piece of its work. One that
            raises has no further turn, and costs the others nothing.
        rounds: How many turns each one has.
        progress: Called as (turns done, turns in all).
    """
    names = list(contestants)
    laps: dict[str, dict[str, list[Lap]]] = {name: {} for name in names}
    faults: dict[str, Exception] = {}
    for number in range(rounds):
        first = number % max(len(names), 1)
        for place, name in enumerate(names[first:] + names[:first]):
            progress(number * len(names) + place, rounds * len(names))
            if name in faults:
                continue
            try:
                for work, lap in contestants[name]().items():
                    laps[name].setdefault(work, []).append(lap)
            # A network is anybody's code, and may raise anything.
            except Exception as error:
                forget_frames(error)
                faults[name] = error
                del laps[name]
    progress(rounds * len(names), rounds * len(names))
    return Turns(laps, faults)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a device's memory is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # cuDNN, cuBLAS and the CPU's allocator say it in words only.
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def forget_frames(error: BaseException) -> None:
    """Drop what the functions that an error went through still hold: tensors, a GPU full of them.

    The error can still be printed with its traceback.
    """
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__


def free_memory() -> None:
    """Give back what nothing refers to any more, on the CPU and on the GPU."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


class Fitting(NamedTuple):
    """The largest batch that was possible."""

    batch_size: int
    """What was asked for, halved until it fitted."""
    peak_bytes: int | None
    """What the attempt that succeeded gave."""


def largest_batch(attempt: Callable[[int], int | None], batch_size: int) -> Fitting:
    """Halve a batch until it fits, as the ResNet-RS paper did for its latencies.

    Args:
        attempt: Does the work once with a batch of the size it is given; gives its peak memory in
            bytes, or None where it was not measured.
        batch_size: The first size to try.

    Raises:
        RunError: Not even one item fits.
    """
    asked = batch_size
    while True:
        try:
            return Fitting(batch_size, attempt(batch_size))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                raise RunError(
                    f"Not even a batch of 1 fits into the device's memory (asked for {asked});"
                    " give fewer --pixels or --frames."
                ) from error
        # Outside of the handler: the error's frames hold the tensors that filled the memory.
        free_memory()
        batch_size //= 2


class MatrixProduct:
    """A large matrix product: what a network on the same device can reach at best.

    In float32 on a GPU it may use TF32 if convolutions may.
    """

    def __init__(self, device: torch.device, precision: Precision) -> None:
        side = _side(device)
        dtype = AUTOCAST.get(precision, torch.float32)
        self.matrix = torch.full((side, side), 0.5, device=device, dtype=dtype)
        self.out = torch.empty_like(self.matrix)

    def __call__(self) -> None:
        """Multiply once."""
        with _tf32_as_in_convolutions():
            torch.mm(self.matrix, self.matrix, out=self.out)


def product_flops(device: torch.device) -> int:
    """Give the floating-point operations of a `MatrixProduct`, two for a multiply-add."""
    return int(2 * _side(device) ** 3)


def _side(device: torch.device) -> int:
    return _SIDES[device.type == "cuda"]


@contextlib.contextmanager
def _tf32_as_in_convolutions() -> Iterator[None]:
    """Allow matrix products of a GPU what its convolutions are allowed."""
    flags = torch.backends.cuda.matmul
    before = flags.allow_tf32
    flags.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        flags.allow_tf32 = before
