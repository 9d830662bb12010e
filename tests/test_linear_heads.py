"""A grid of linear heads in one pass ends where each head ends alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from rsbench.probes.linear_heads import LinearHeads
from rsbench.training.loop import (
    Checkpoint,
    Machine,
    ParameterGroup,
    TrainingBatch,
    TrainingPlan,
    train,
)

NUM_STEPS, BATCH, WIDTH, CLASSES = 12, 8, 6, 3
WIDTHS, RATES = (4, 4, 6, 6), (0.5, 0.01, 0.1, 2.0)
PLAN = TrainingPlan(
    epochs=3,
    optimizer="sgd",
    learning_rate=1.0,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    decay_norm_and_bias=True,
    warmup_share=0.0,
    warmup_factor=1.0,
    label_smoothing=0.0,
    largest_gradient=0.0,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _heads(places: tuple[int, ...] = (0, 1, 2, 3)) -> LinearHeads:
    return LinearHeads(
        [WIDTHS[place] for place in places],
        num_classes=CLASSES,
        seeds=[100 + place for place in places],
        weight_std=0.01,
    )


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(BATCH, WIDTH, generator=generator) * 3,
            torch.randint(CLASSES, (BATCH,), generator=generator),
        )
        for _ in range(NUM_STEPS)
    ]


def _train(heads: LinearHeads, tmp_path: Path, places: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    given = _batches()

    def epoch(number: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for features, labels in given[number * 4 : number * 4 + 4]:
            yield TrainingBatch(features, labels, tuple("abcdefgh"))

    train(
        heads,
        epoch,
        PLAN,
        steps_per_epoch=4,
        seed=0,
        machine=Machine(device="cpu", precision="float32"),
        checkpoint=Checkpoint(path=tmp_path / f"{places}.pt", key="k"),
        groups=[
            ParameterGroup(heads.parameters_of(number), RATES[place], 0.0)
            for number, place in enumerate(places)
        ],
    )


def test_a_head_is_a_linear_layer_on_the_last_columns() -> None:
    heads = _heads()
    features_BD = torch.randn(5, WIDTH)

    logits_BMK = heads(features_BD)

    assert logits_BMK.shape == (5, 4, CLASSES)
    for place, width in enumerate(WIDTHS):
        weight, bias = heads.parameters_of(place)
        expected = functional.linear(features_BD[:, WIDTH - width :], weight, bias)
        torch.testing.assert_close(logits_BMK[:, place], expected)


def test_heads_trained_together_end_as_torchs_own_sgd_takes_each_alone(tmp_path: Path) -> None:
    heads = _heads()

    _train(heads, tmp_path)

    # DINOv2's eval/linear.py with one head: torch's SGD, its cosine a step, cross-entropy.
    for place, (width, rate) in enumerate(zip(WIDTHS, RATES, strict=True)):
        layer = nn.Linear(width, CLASSES)
        weight, bias = _heads().parameters_of(place)
        layer.load_state_dict({"weight": weight.data, "bias": bias.data})
        optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9, weight_decay=0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS, eta_min=0)
        for features, labels in _batches():
            loss = nn.CrossEntropyLoss()(layer(features[:, WIDTH - width :]), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        found_weight, found_bias = heads.parameters_of(place)
        torch.testing.assert_close(found_weight.data, layer.weight.data, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found_bias.data, layer.bias.data, atol=1e-5, rtol=1e-4)


def test_a_head_alone_is_the_head_of_the_grid(tmp_path: Path) -> None:
    together = _heads()
    _train(together, tmp_path)

    for place in range(4):
        alone = _heads((place,))
        _train(alone, tmp_path, (place,))
        for one, other in zip(alone.parameters_of(0), together.parameters_of(place), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_head_that_overflows_takes_none_along(tmp_path: Path) -> None:
    sound, one_bad = _heads(), _heads()
    with torch.no_grad():
        one_bad.weights[1].fill_(float("nan"))

    _train(sound, tmp_path / "sound")
    _train(one_bad, tmp_path / "one bad")

    assert one_bad.weights[1].isnan().all()
    for place in (0, 2, 3):
        assert torch.equal(one_bad.weights[place], sound.weights[place])


def test_weights_follow_from_their_seed_and_zero_deviation_is_zero() -> None:
    one, other = _heads((0, 2)), _heads((2, 0))

    assert torch.equal(one.weights[0], other.weights[1])
    assert 0.005 < float(_heads().weights[2].detach().std()) < 0.02
    zero = LinearHeads([4], num_classes=3, seeds=[0], weight_std=0.0)
    assert not zero.weights[0].any()
