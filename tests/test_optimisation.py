"""What a step minimises, with which optimizer, and what decays: beside the official code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from parity.training_problem import CASES, KEPT, LEARNING, WEIGHT_DECAY
from rsbench_backbones.resnet_rs import BACKBONES
from torch import nn
from training_traces import Problem, deviation, plan_of, trace

from rsbench.training.lars import TRUST_COEFFICIENT, StepMomentum
from rsbench.training.optimisation import ParameterGroup, losses_of, make_optimizer

RECORDED = Path(__file__).parent / "parity" / "recorded"

AGREEMENT = 2e-6
"""Of the largest number: the official code computes rates in float32."""
SHOWS = 1e-3
"""What a mistake must change at least."""


# --------------------------------------------------------------------------------------- the steps


@pytest.mark.parametrize("name", CASES)
def test_a_thousand_steps_are_those_of_the_official_optimizer(name) -> None:
    # tests/parity/record_training.py: OptimizerFactory of tf-models-official 2.20.0, the rate
    # rising and falling, decay in the loss as regularizers.l2 (LARS has its own).
    found = trace(plan_of(CASES[name]))["variables"]

    assert found.shape[0] == len(KEPT)
    assert deviation(found, f"{name}/variables") <= AGREEMENT


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sgd", {"momentum_of": "gradients"}),
        ("tpu", {"momentum_of": "steps"}),
        ("sgd", {"nesterov": True}),
        ("sgd nesterov", {"nesterov": False}),
        ("lars nesterov", {"nesterov": False}),
        ("sgd", {"decay_norm_and_bias": True}),
        ("lars", {"decay_norm_and_bias": True}),
        ("sgd", {"weight_decay": WEIGHT_DECAY / 2}),
        ("sgd", {"schedule": "cosine", "warmup_factor": 1e-9}),
        ("sgd", {"warmup_share": 0.149}),
    ],
)
def test_another_rule_shows_in_the_trace(name, changes) -> None:
    found = trace(plan_of(CASES[name], **changes), last=300)["variables"]

    assert deviation(found, f"{name}/variables") > SHOWS


def test_sgd_is_pytorch_s_unless_steps_are_summed() -> None:
    plan = plan_of(CASES["sgd"], momentum_of="gradients", nesterov=True)
    optimizer = make_optimizer(Problem(), plan)

    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["nesterov"]
    assert isinstance(make_optimizer(Problem(), plan_of(CASES["sgd"])), StepMomentum)


def test_nesterov_without_momentum_is_plain_descent() -> None:
    plan = plan_of(CASES["tpu nesterov"], momentum=0.0)

    assert not make_optimizer(Problem(), plan).param_groups[0]["nesterov"]


def test_adamw_takes_the_decay_off_beside_the_gradient() -> None:
    # By hand (Loshchilov & Hutter 2019, algorithm 2): after one step every moment cancels, so a
    # weight moves by the rate, and shrinks by rate x decay; one with one axis only moves.
    problem = Problem()
    before = {name: value.detach().clone() for name, value in problem.named_parameters()}
    plan = plan_of(CASES["sgd"], optimizer="adamw", learning_rate=0.25, weight_decay=0.5)
    optimizer = make_optimizer(problem, plan)
    for parameter in problem.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()

    for name, value in problem.named_parameters():
        shrunk = before[name] * (1 - 0.25 * 0.5 * ("kernel" in name))
        torch.testing.assert_close(value.detach(), shrunk - 0.25, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------- what decays


def _decaying(module: nn.Module, **changes: object) -> set[str]:
    """Names of the parameters that the plan's optimizer lets decay."""
    optimizer = make_optimizer(module, plan_of(CASES["sgd"], **changes))
    decays = {
        id(parameter): group["weight_decay"] > 0
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decays) == len(list(module.parameters()))
    return {name for name, parameter in module.named_parameters() if decays[id(parameter)]}


@pytest.mark.parametrize(
    ("name", "backbone_name"),
    [("garden_2d", "resnet_rs_garden_50"), ("garden_3d", "resnet_rs_3d_50")],
)
def test_what_decays_in_resnet_rs_is_what_the_official_task_regularises(
    name, backbone_name
) -> None:
    # tests/parity/record_training.py: the variables that the losses of the official model have a
    # gradient for; kernels of convolutions and of the classifier, without the gates'.
    official = json.loads((RECORDED / "decaying.json").read_text(encoding="utf-8"))[name]
    layout = json.loads((RECORDED / "layouts.json").read_text(encoding="utf-8"))[name]
    (backbone,) = [each for each in BACKBONES if each.name == backbone_name]
    # Of each tensor one number, 1 where the official code lets it decay.
    tensors = {
        key: np.broadcast_to(np.float32(key in official), shape) for key, shape in layout.items()
    }
    renamed = backbone.rename("tf2", tensors)
    with torch.device("meta"):
        module = backbone.build(10)
    parameters = dict(module.named_parameters())
    expected = {key for key, values in renamed.items() if key in parameters and values.flat[0] == 1}
    assert len(expected) == len(official)

    assert _decaying(module) == expected
    assert _decaying(module, decay_norm_and_bias=True) == set(parameters)


def test_what_does_not_learn_has_no_part() -> None:
    problem = Problem()
    problem.get_parameter("dense/bias").requires_grad_(False)
    optimizer = make_optimizer(problem, plan_of(CASES["sgd"]))

    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(LEARNING) - 1


def test_groups_have_rates_and_decays_of_their_own_under_every_optimizer() -> None:
    problem = Problem()
    kernel, bias = problem.get_parameter("dense/kernel"), problem.get_parameter("dense/bias")
    groups = [ParameterGroup((kernel, bias), 7.0, 0.25)]
    for case, changes in (("sgd", {}), ("tpu", {}), ("sgd", {"optimizer": "adamw"}), ("lars", {})):
        optimizer = make_optimizer(problem, plan_of(CASES[case], **changes), groups)
        for group in optimizer.param_groups:
            assert (group["lr"], group["weight_decay"]) == (7.0, 0.25)
        found = [each for group in optimizer.param_groups for each in group["params"]]
        assert [id(each) for each in found] == [id(kernel), id(bias)]


def test_lars_leaves_norms_and_biases_the_plain_rate() -> None:
    problem = Problem()
    optimizer = make_optimizer(problem, plan_of(CASES["lars"]))
    trusts = {
        id(parameter): group["trust_coefficient"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }

    assert {name: trusts[id(each)] for name, each in problem.named_parameters()} == {
        name: TRUST_COEFFICIENT if "kernel" in name else 0.0 for name in LEARNING
    }


# -------------------------------------------------------------------------------------- the losses


def test_soft_labels_of_one_class_are_hard_labels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 2])
    plan = plan_of(CASES["sgd"], label_smoothing=0.1)

    torch.testing.assert_close(
        losses_of(plan, logits, torch.eye(3)[labels]), losses_of(plan, logits, labels)
    )


def test_the_loss_of_soft_labels_is_their_share_of_log_probabilities() -> None:
    # By hand: shares 0.75 and 0.25 of two classes, smoothed by 0.2: 0.7 and 0.3.
    logits = torch.tensor([[math.log(3.0), 0.0]])
    plan = plan_of(CASES["sgd"], label_smoothing=0.2)
    expected = -(0.7 * math.log(0.75) + 0.3 * math.log(0.25))

    (loss,) = losses_of(plan, logits, torch.tensor([[0.75, 0.25]]))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_several_classifiers_take_soft_labels_too() -> None:
    torch.manual_seed(0)
    logits_BMK, labels_BK = torch.randn(5, 2, 3), torch.softmax(torch.randn(5, 3), 1)
    plan = plan_of(CASES["sgd"])

    losses_M = losses_of(plan, logits_BMK, labels_BK)

    assert losses_M.shape == (2,)
    for place in range(2):
        (alone,) = losses_of(plan, logits_BMK[:, place], labels_BK)
        torch.testing.assert_close(losses_M[place], alone)


def test_smoothed_binary_labels_move_towards_a_half() -> None:
    # By hand: 1 and 0 smoothed by 0.2 are 0.9 and 0.1; logits 0 give log 2 whatever the labels.
    plan = plan_of(CASES["sgd"], loss="binary cross-entropy", label_smoothing=0.2)
    logits = torch.tensor([[math.log(3.0), 0.0]])
    expected = (-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)) + math.log(2)) / 2

    (loss,) = losses_of(plan, logits, torch.tensor([[1.0, 0.0]]))
    assert float(loss) == pytest.approx(expected, rel=1e-6)
