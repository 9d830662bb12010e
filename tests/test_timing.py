"""Measuring in turns: clocks, rotation, batches that are halved, the peak. No real time passes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from rsbench.errors import RunError
from rsbench.profiling import timing
from rsbench.profiling.timing import (
    CudaClock,
    Fitting,
    Lap,
    MatrixProduct,
    WallClock,
    clock_of,
    is_out_of_memory,
    largest_batch,
    product_flops,
    take_turns,
)

CPU = torch.device("cpu")


# ---------------------------------------------------------------------------- clocks


def test_a_lap_is_what_the_clocks_showed_after_it_minus_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall, computed = iter([10.0, 12.5]), iter([3.0, 3.75])
    done = []
    clocks = SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(computed))
    monkeypatch.setattr(timing, "time", clocks)

    assert WallClock().lap(lambda: done.append("work")) == Lap(seconds=2.5, cpu_seconds=0.75)
    assert done == ["work"]


def test_each_device_has_its_clock() -> None:
    assert isinstance(clock_of(CPU), WallClock)
    assert isinstance(clock_of(torch.device("cuda", 1)), CudaClock)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_s_lap_lasts_until_the_gpu_is_done() -> None:
    device = torch.device("cuda")
    product = MatrixProduct(device, "float32")
    product()
    ten = clock_of(device).lap(lambda: [product() for _ in range(10)])
    one = clock_of(device).lap(product)

    # Queued in a moment, done in ten times one product's time; half of that tells them apart.
    assert ten.seconds > 5 * one.seconds


# ---------------------------------------------------------------------------- turns


def _turn(name: str, order: list[str], laps: Iterator[float]) -> Callable[[], dict[str, Lap]]:
    def take() -> dict[str, Lap]:
        order.append(name)
        return {"work": Lap(next(laps), 0.0)}

    return take


def test_each_round_begins_with_another_contestant() -> None:
    order: list[str] = []
    contestants = {name: _turn(name, order, iter(range(9))) for name in "abc"}
    take_turns(contestants, rounds=4)

    assert "".join(order) == "abcbcacababc"


def test_every_lap_is_kept_in_its_order() -> None:
    laps = iter([1.0, 5.0, 2.0])
    turns = take_turns({"a": _turn("a", [], laps)}, rounds=3)

    assert [lap.seconds for lap in turns.laps["a"]["work"]] == [1.0, 5.0, 2.0]
    assert turns.faults == {}


def test_one_that_raises_is_named_and_costs_the_others_nothing() -> None:
    order: list[str] = []

    def broken() -> dict[str, Lap]:
        order.append("broken")
        if order.count("broken") == 2:
            raise ZeroDivisionError("planted")
        return {"work": Lap(1.0, 1.0)}

    turns = take_turns({"broken": broken, "good": _turn("good", order, iter(range(9)))}, rounds=3)

    assert {name: type(error) for name, error in turns.faults.items()} == {
        "broken": ZeroDivisionError
    }
    assert [*turns.laps] == ["good"]
    assert len(turns.laps["good"]["work"]) == 3
    assert order.count("broken") == 2


def test_progress_counts_turns_up_to_the_last() -> None:
    said: list[tuple[int, int]] = []
    contestants = {name: _turn(name, [], iter(range(9))) for name in "ab"}
    take_turns(contestants, rounds=2, progress=lambda done, total: said.append((done, total)))

    assert said == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


# ---------------------------------------------------------------------------- batches that fit


def _fits(
    most: int, tried: list[int], error: type[Exception] = torch.OutOfMemoryError
) -> Callable[[int], int]:
    def attempt(batch_size: int) -> int:
        tried.append(batch_size)
        if batch_size > most:
            raise error("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return 1000 * batch_size

    return attempt


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_is_halved_until_it_fits(error: type[Exception]) -> None:
    tried: list[int] = []

    assert largest_batch(_fits(40, tried, error), 128) == Fitting(batch_size=32, peak_bytes=32_000)
    assert tried == [128, 64, 32]


def test_a_batch_that_fits_is_tried_once() -> None:
    tried: list[int] = []

    assert largest_batch(_fits(128, tried), 128).batch_size == 128
    assert tried == [128]


def test_if_not_even_one_fits_the_user_is_told_so() -> None:
    with pytest.raises(RunError, match=r"Not even a batch of 1 .* \(asked for 4\)"):
        largest_batch(_fits(0, []), 4)


def test_another_error_is_not_taken_for_a_full_memory() -> None:
    def attempt(batch_size: int) -> int:
        raise ValueError("Expected more than 1 value per channel when training")

    with pytest.raises(ValueError, match="per channel"):
        largest_batch(attempt, 8)


# What PyTorch's CPU allocator, cuDNN and cuBLAS say.
@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory",
    ],
)
def test_a_full_memory_is_known_by_its_words(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))


def test_an_error_that_is_kept_holds_no_tensors() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def broken() -> dict[str, Lap]:
        activations = torch.ones(8)
        held.append(weakref.ref(activations))
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            raise RunError("nothing fits") from error

    faults = take_turns({"broken": broken}, rounds=1).faults

    assert [type(error) for error in faults.values()] == [RunError]
    assert held[0]() is None


def test_a_wrong_shape_is_no_full_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


# ---------------------------------------------------------------------------- the peak


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_matrix_product_is_one_and_its_operations_are_counted(
    precision: timing.Precision,
) -> None:
    product = MatrixProduct(CPU, precision)
    product()
    side = len(product.matrix)

    # Every entry is a sum of `side` products of 0.5 and 0.5, each multiplied once and added once.
    assert product.out.dtype == {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert torch.all(product.out == side / 4)
    assert product_flops(CPU) == 2 * side**3


def test_a_matrix_product_leaves_the_flags_as_they_were() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    MatrixProduct(CPU, "float32")()

    assert torch.backends.cuda.matmul.allow_tf32 is before
