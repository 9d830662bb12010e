"""SGD that sums steps, and LARS: by hand, tensor by tensor, and beside PyTorch's SGD."""

from __future__ import annotations

import copy

import pytest
import torch
from parity.training_problem import CASES, NUM_STEPS
from torch import Tensor, nn
from training_traces import Problem, plan_of

from rsbench.training.lars import TRUST_COEFFICIENT, StepMomentum
from rsbench.training.optimisation import make_optimizer


def _parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def _step(optimizer: torch.optim.Optimizer, gradients: dict[nn.Parameter, list[float]]) -> None:
    for parameter, values in gradients.items():
        parameter.grad = torch.tensor(values, dtype=parameter.dtype)
    optimizer.step()


def test_a_tensor_s_rate_is_its_norm_over_that_of_its_gradient() -> None:
    # By hand (You et al. 2017, algorithm 1): norms 5 and 10, so 0.001 x 5 / 10 of a rate of 20.
    weight = _parameter(3.0, 4.0)
    optimizer = StepMomentum(
        [weight], lr=20.0, momentum=0.9, nesterov=False, trust_coefficient=0.001
    )
    _step(optimizer, {weight: [6.0, 8.0]})

    assert weight.tolist() == pytest.approx([3 - 0.01 * 6, 4 - 0.01 * 8])


def test_the_decay_has_a_part_in_the_gradient_s_norm() -> None:
    # The gradient with its decay is (0 + 0.5 x 3, 0 + 0.5 x 4): its norm is 2.5, half the weight's.
    weight = _parameter(3.0, 4.0)
    optimizer = StepMomentum(
        [weight],
        lr=1.0,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.5,
        trust_coefficient=0.1,
    )
    _step(optimizer, {weight: [0.0, 0.0]})

    assert weight.tolist() == pytest.approx([3 - 0.2 * 1.5, 4 - 0.2 * 2])


def test_momentum_sums_steps_with_the_rates_they_were_made_with() -> None:
    # By hand: v = 0.5 x (2 x 1) + 0.1 x 1; PyTorch's would be 0.1 x (0.5 x 1 + 1).
    weight = _parameter(0.0)
    optimizer = StepMomentum([weight], lr=2.0, momentum=0.5, nesterov=False)
    _step(optimizer, {weight: [1.0]})
    optimizer.param_groups[0]["lr"] = 0.1
    _step(optimizer, {weight: [1.0]})

    assert weight.tolist() == pytest.approx([-2 - 1.1])


@pytest.mark.parametrize("nesterov", [False, True])
def test_while_the_rate_stands_still_it_is_pytorch_s_sgd(nesterov) -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)) for _ in range(3)]
    theirs = copy.deepcopy(ours)
    optimizers = [
        StepMomentum(ours, lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01),
        torch.optim.SGD(theirs, lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01),
    ]
    for _ in range(20):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()

    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "gradient"), [([0.0, 0.0], [3.0, 4.0]), ([3.0, 4.0], [0.0, 0.0])]
)
def test_where_a_norm_is_nought_the_rate_is_the_plain_one(weight, gradient) -> None:
    # As the official code: a classifier that begins at nought must be able to leave it.
    parameter = _parameter(*weight)
    optimizer = StepMomentum(
        [parameter], lr=0.5, momentum=0.9, nesterov=False, trust_coefficient=0.001
    )
    _step(optimizer, {parameter: gradient})

    expected = [w - 0.5 * g for w, g in zip(weight, gradient, strict=True)]
    assert parameter.tolist() == pytest.approx(expected)


def test_each_tensor_has_a_rate_of_its_own_and_one_without_a_gradient_stays() -> None:
    # Together, the two would have one norm, and one rate.
    large, small, still = _parameter(30.0, 40.0), _parameter(0.3, 0.4), _parameter(1.0, 1.0)
    optimizer = StepMomentum(
        [large, small, still], lr=1.0, momentum=0.9, nesterov=False, trust_coefficient=0.1
    )
    _step(optimizer, {large: [0.6, 0.8], small: [0.6, 0.8]})

    assert large.tolist() == pytest.approx([30 - 5 * 0.6, 40 - 5 * 0.8])
    assert small.tolist() == pytest.approx([0.3 - 0.05 * 0.6, 0.4 - 0.05 * 0.8])
    assert still.tolist() == [1.0, 1.0]
    assert still not in optimizer.state


def _momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [each["velocity"] for each in optimizer.state.values()]


def test_an_optimizer_that_is_put_back_goes_on_to_the_last_bit() -> None:
    plan = plan_of(CASES["lars nesterov"])

    def run(problem: Problem, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            for parameter in problem.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()

    whole, stopped = Problem(), Problem()
    optimizer = make_optimizer(whole, plan)
    run(whole, optimizer, range(10))
    before = make_optimizer(stopped, plan)
    run(stopped, before, range(4))
    gone_on = Problem()
    gone_on.load_state_dict(stopped.state_dict())
    after = make_optimizer(gone_on, plan)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    run(gone_on, after, range(4, 10))

    for expected, found in zip(whole.parameters(), gone_on.parameters(), strict=True):
        assert torch.equal(expected, found)
    for expected, found in zip(_momenta(optimizer), _momenta(after), strict=True):
        assert torch.equal(expected, found)


def test_what_scales_losses_can_leave_a_step_out() -> None:
    # PyTorch's scaler for float16 asks for nothing else of an optimizer.
    weight = _parameter(1.0, 2.0)
    optimizer = StepMomentum([weight], lr=0.1, momentum=0.9, nesterov=False)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((weight * torch.tensor([float("inf"), 1.0])).sum()).backward()
    scaler.step(optimizer)

    assert weight.tolist() == [1.0, 2.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("trust", [0.0, TRUST_COEFFICIENT])
def test_a_gpu_takes_the_steps_that_a_cpu_takes(trust) -> None:
    torch.manual_seed(0)
    here = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(7))]
    there = [nn.Parameter(each.detach().cuda()) for each in here]
    optimizers = [
        StepMomentum(each, lr=0.5, momentum=0.9, nesterov=True, trust_coefficient=trust)
        for each in (here, there)
    ]
    for _ in range(NUM_STEPS // 100):
        for mine, other in zip(here, there, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.cuda()
        for optimizer in optimizers:
            optimizer.step()

    for mine, other in zip(here, there, strict=True):
        torch.testing.assert_close(other.cpu(), mine, rtol=1e-5, atol=1e-6)
