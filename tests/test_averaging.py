"""The moving average: the official one's trace, and what it keeps beside weights."""

from __future__ import annotations

import pytest
import torch
from parity.training_problem import CASES
from torch import nn
from training_traces import deviation, plan_of, trace

from rsbench.training.averaging import Average, decay_after

AVERAGED = [name for name, case in CASES.items() if case.average_decay]

AGREEMENT = 2e-6
"""Of the largest number: the official code computes decay and rate in float32."""


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def _copied(average: Average) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in average.tensors().items()}


@pytest.mark.parametrize("name", AVERAGED)
def test_a_thousand_updates_give_the_official_averages(name) -> None:
    # tests/parity/record_training.py: weights and running statistics, with the decay rising.
    averages = trace(plan_of(CASES[name]))["averages"]

    assert deviation(averages, f"{name}/averages") <= AGREEMENT


def test_a_decay_that_does_not_rise_shows() -> None:
    wrong = trace(plan_of(CASES["sgd nesterov"], ema_decay=0.95), last=300)["averages"]

    assert deviation(wrong, "sgd nesterov/averages") > 1000 * AGREEMENT


def test_the_decay_rises_to_the_highest() -> None:
    # By hand from ema_optimizer.py, the counter being 1 at the first update.
    assert decay_after(1, highest=0.9999) == 2 / 11
    assert decay_after(2, highest=0.9999) == 3 / 12
    assert decay_after(80, highest=0.9) == 81 / 90
    assert decay_after(90_000, highest=0.9999) == 0.9999


def test_before_the_first_update_it_is_the_network_and_not_its_memory() -> None:
    network = _network()
    weight = network[0].weight.detach().clone()
    average = Average(network, 0.9)
    with torch.no_grad():
        network[0].weight.zero_()

    assert torch.equal(average.tensors()["0.weight"], weight)
    assert average.num_updates == 0


def test_two_updates_are_those_of_the_rule_by_hand() -> None:
    network = _network()
    average = Average(network, 0.9)
    with torch.no_grad():
        network[0].weight.fill_(11.0)
        average.update()
        # From nought: 11 x 9/11.
        assert average.tensors()["0.weight"].flatten().tolist() == pytest.approx([9.0, 9.0])
        network[0].weight.fill_(1.0)
        average.update()

    # 3/12 of 9 and 9/12 of 1.
    assert average.tensors()["0.weight"].flatten().tolist() == pytest.approx([3.0, 3.0])
    assert average.num_updates == 2


def test_running_statistics_are_averaged_and_counters_are_the_network_s() -> None:
    network = _network()
    # PyTorch's word for TensorFlow's momentum 0: the statistics of the newest batch.
    network[1].momentum = 1.0
    average = Average(network, 0.9999)
    means = []
    for number in (1.0, 5.0):
        network(torch.full((2, 1, 1, 2), number))
        means.append(network[1].running_mean.clone())
        average.update()

    expected = 3 / 12 * (9 / 11 * means[0]) + 9 / 12 * means[1]
    torch.testing.assert_close(average.tensors()["1.running_mean"], expected)
    assert int(average.tensors()["1.num_batches_tracked"]) == 2


def test_a_tensor_that_a_module_puts_in_the_place_of_another_is_the_one_averaged() -> None:
    network = _network()
    average = Average(network, 0.9)
    network[1].running_mean = torch.full((2,), 11.0)
    average.update()

    # From nought: 11 x 9/11.
    assert average.tensors()["1.running_mean"].tolist() == pytest.approx([9.0, 9.0])


def test_an_average_that_is_put_back_goes_on_to_the_last_bit() -> None:
    network = _network()
    whole = Average(network, 0.99)
    stopped = Average(network, 0.99)

    def step(*averages: Average) -> None:
        network(torch.randn(4, 1, 2, 2))
        with torch.no_grad():
            network[0].weight.add_(0.1)
        for average in averages:
            average.update()

    for _ in range(3):
        step(whole, stopped)
    saved, num_updates = _copied(stopped), stopped.num_updates
    gone_on = Average(network, 0.99)
    gone_on.load(saved, num_updates)
    for _ in range(3):
        step(whole, gone_on)

    assert gone_on.num_updates == whole.num_updates == 6
    for name, value in whole.tensors().items():
        assert torch.equal(gone_on.tensors()[name], value), name


def test_what_it_is_loaded_from_is_copied() -> None:
    network = _network()
    average = Average(network, 0.9)
    saved = _copied(average)
    average.load(saved, 5)
    average.update()

    assert torch.equal(saved["0.weight"], network[0].weight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_average_lies_where_its_network_does() -> None:
    network = _network().cuda()
    average = Average(network, 0.9)
    average.update()

    assert {value.device.type for value in average.tensors().values()} == {"cuda"}
