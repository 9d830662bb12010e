"""A network at work: what a pass and a training step really do to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rsbench.errors import RunError
from rsbench.profiling.steps import (
    LEARNING_RATE,
    MOMENTUM,
    Layout,
    NetworkAtWork,
    Setting,
    peak_resident_bytes,
    reset_peak_resident,
)

VIEW = (3, 8, 8)
CLASSES = 5


class Small(nn.Module):
    """A convolution, a batch norm and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)
        self.seen: list[Tensor] = []

    def forward(self, batch: Tensor) -> Tensor:
        self.seen.append(batch)
        return self.norm(self.convolution(batch)).mean((2, 3))


def _small() -> Small:
    torch.manual_seed(0)
    return Small()


def _at_work(module: nn.Module, view: tuple[int, ...] = VIEW, **setting: Any) -> NetworkAtWork:
    return NetworkAtWork(module, view, Setting(**setting), num_outputs=CLASSES)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_training_step_changes_every_weight_and_the_running_statistics() -> None:
    module = _small()
    before = _state(module)
    _at_work(module).work("training", 4)()
    after = module.state_dict()

    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert int(after["norm.num_batches_tracked"]) == 1


def test_training_steps_are_those_of_pytorch_s_sgd_by_the_cross_entropy() -> None:
    module, reference = _small(), _small()
    step = _at_work(module, layout="contiguous").work("training", 4)
    step()
    step()

    # Written out: v = momentum v + gradient; w = w - rate v (Sutskever et al. 2013, as in PyTorch).
    batch, labels = module.seen[0], torch.tensor([0, 1, 2, 3])
    velocity = {name: torch.zeros_like(each) for name, each in reference.named_parameters()}
    for _ in range(2):
        logits = reference.head(reference(batch))
        loss = (logits.logsumexp(1) - logits[range(4), labels]).mean()
        names, parameters = zip(*reference.named_parameters(), strict=True)
        for name, parameter, gradient in zip(
            names, parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            velocity[name] = MOMENTUM * velocity[name] + gradient
            parameter.data -= LEARNING_RATE * velocity[name]
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value)


def test_inference_changes_nothing_and_keeps_no_graph() -> None:
    module = _small().train()
    before = _state(module)
    _at_work(module).work("inference", 4)()

    assert not module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.seen[0].is_inference() or not module.seen[0].requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_batch_has_the_size_asked_for_and_is_the_same_every_time() -> None:
    module = _small()
    network = _at_work(module)
    for _ in range(2):
        network.work("inference", 6)()

    assert module.seen[0].shape == (6, *VIEW)
    assert torch.equal(module.seen[0], module.seen[1])


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)],
)
def test_weights_and_batches_lie_in_the_layout(layout: Layout, wanted: torch.memory_format) -> None:
    module = _small()
    _at_work(module, layout=layout).work("inference", 2)()

    assert module.convolution.weight.is_contiguous(memory_format=wanted)
    assert module.seen[0].is_contiguous(memory_format=wanted)


def test_clips_lie_in_the_layout_of_three_dimensions() -> None:
    class Video(Small):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv3d(3, 4, 3, bias=False)
            self.norm = nn.BatchNorm3d(4)

        def forward(self, batch: Tensor) -> Tensor:
            self.seen.append(batch)
            return self.norm(self.convolution(batch)).mean((2, 3, 4))

    module = Video()
    _at_work(module, (3, 4, 8, 8)).work("training", 2)()

    assert module.convolution.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert module.seen[0].is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_precision_is_the_one_convolutions_run_in(precision: str, dtype: torch.dtype) -> None:
    module, found = _small(), []
    module.convolution.register_forward_hook(lambda _, __, output: found.append(output.dtype))
    network = _at_work(module, precision=precision)
    network.work("inference", 2)()
    network.work("training", 2)()

    assert found == [dtype, dtype]
    assert module.convolution.weight.dtype == torch.float32


def test_compiling_is_left_to_torch_and_sees_network_and_head_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[nn.Module] = []

    def compile_(network: nn.Module, **_: Any) -> nn.Module:
        compiled.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    _at_work(_small()).work("inference", 2)()
    assert compiled == []
    _at_work(_small(), compiled=True).work("inference", 2)()
    assert compiled[0](torch.zeros(2, *VIEW)).shape == (2, CLASSES)


def test_leaving_drops_the_gradients() -> None:
    module = _small()
    network = _at_work(module)
    network.work("training", 2)()
    assert module.head.weight.grad is not None
    network.leave()

    assert module.head.weight.grad is None


def test_a_network_without_head_trains_on_its_own_output() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, CLASSES, 3)

        def forward(self, batch: Tensor) -> Tensor:
            return self.layer(batch).mean((2, 3))

    module = Bare()
    before = _state(module)
    # More items than outputs: labels must stay below their number.
    _at_work(module).work("training", CLASSES + 3)()

    assert not torch.equal(before["layer.weight"], module.layer.weight)


# ---------------------------------------------------------------------------- memory


class Hungry(Small):
    """Runs out of memory at more than a number of items."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, batch: Tensor) -> Tensor:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(batch)


@pytest.mark.parametrize("kind", ["inference", "training"])
def test_a_network_s_batch_is_halved_until_it_fits(kind: Any) -> None:
    assert _at_work(Hungry(5)).fit(kind, 16).batch_size == 4


def test_a_network_that_never_fits_is_the_user_s_to_shrink() -> None:
    with pytest.raises(RunError, match="fewer --pixels"):
        _at_work(Hungry(0)).fit("inference", 16)


def test_a_cpu_counts_no_tensors() -> None:
    assert _at_work(_small()).prepare("training", 2) is None


def test_the_most_memory_of_a_process_is_what_it_had_since_the_reset() -> None:
    mebibyte = 2**20
    torch.ones(512 * mebibyte, dtype=torch.uint8)
    before = reset_peak_resident()
    if before is None:
        pytest.skip("this system can't forget what memory a process had at most")
    torch.ones(256 * mebibyte, dtype=torch.uint8)
    after = peak_resident_bytes()

    assert after is not None
    # Not the 512 from before the reset; a few MiB are the test's own.
    assert 250 < (after - before) / mebibyte < 300


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_network_comes_is_measured_and_leaves_nothing() -> None:
    network = _at_work(_small(), device="cuda")
    before = torch.cuda.memory_allocated()
    network.enter()
    small, large = (network.prepare("training", size) for size in (2, 64))
    network.leave()

    assert small is not None
    assert large is not None
    # The larger batch alone is 64 x 3 x 8 x 8 floats.
    assert large >= small + 62 * 3 * 8 * 8 * 4
    assert torch.cuda.memory_allocated() == before
    assert {each.device.type for each in network.network.parameters()} == {"cpu"}
