"""The training loop: schedules, batch rules, and going on as if nothing had happened."""

from __future__ import annotations

import gc
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsbench.atomic import write_atomically
from rsbench.errors import RunError
from rsbench.training.batches import ReadEpoch
from rsbench.training.curve import Taken, Watch
from rsbench.training.interruption import Stopped
from rsbench.training.loop import (
    Checkpoint,
    DivergedError,
    Machine,
    ParameterGroup,
    Trained,
    TrainingBatch,
    TrainingPlan,
    named_tensors,
    train,
)
from rsbench.training.schedules import make_schedules

CPU = Machine(device="cpu", precision="float32")
PLAN = TrainingPlan(
    epochs=4,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-2,
    decay_norm_and_bias=False,
    warmup_share=0.25,
    warmup_factor=0.1,
    label_smoothing=0.0,
    largest_gradient=0.0,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)
    )


def _data(num_examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(num_examples) % 3
    inputs = torch.randn(num_examples, 4, generator=generator)
    inputs[torch.arange(num_examples), labels] += 2
    return inputs, labels


def _epochs(sizes: list[int], *, seen: list[list[str]] | None = None) -> ReadEpoch:
    inputs, labels = _data(sum(sizes))

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        order = np.random.default_rng(epoch).permutation(sum(sizes)).tolist()
        order = order[sum(sizes[:first]) :]
        for size in sizes[first:]:
            rows, order = order[:size], order[size:]
            names = tuple(f"item {row}" for row in rows)
            if seen is not None:
                seen.append(list(names))
            yield TrainingBatch(inputs[rows], labels[rows], names)

    return read


def _train(
    tmp_path: Path, network: nn.Module, plan: TrainingPlan = PLAN, **changes: Any
) -> Trained:
    given: dict[str, Any] = {
        "read_epoch": _epochs([4, 4, 4]),
        "steps_per_epoch": 3,
        "seed": 0,
        "machine": CPU,
        "checkpoint": Checkpoint(path=tmp_path / "c.pt", key="run"),
        # tests/test_rehearsal.py has that.
        "rehearse": False,
        **changes,
    }
    read_epoch = given.pop("read_epoch")
    return train(network, read_epoch, plan, **given)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    tensors = named_tensors(other)
    return all(torch.equal(value, tensors[name]) for name, value in named_tensors(one).items())


def test_it_learns_and_leaves_the_network_in_eval_mode(tmp_path: Path) -> None:
    network = _network()

    trained = _train(tmp_path, network, replace(PLAN, epochs=12))

    assert trained.losses[-1] < 0.6 * trained.losses[0]
    assert trained.num_steps == 36
    assert not any(module.training for module in network.modules())


def test_equal_seeds_give_equal_bits_and_others_do_not(tmp_path: Path) -> None:
    networks = [_network() for _ in range(3)]
    for place, (network, seed) in enumerate(zip(networks, (5, 5, 6), strict=True)):
        folder = tmp_path / str(place)
        folder.mkdir()
        _train(folder, network, seed=seed)

    assert _equal(networks[0], networks[1])
    assert not _equal(networks[0], networks[2])


def test_the_global_generator_is_left_as_it_was(tmp_path: Path) -> None:
    network = _network()
    torch.manual_seed(9)
    before = torch.random.get_rng_state()

    _train(tmp_path, network)

    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_in_epoch", [0, 1, 3])
def test_an_interrupted_training_ends_with_the_same_numbers(
    tmp_path: Path, optimizer: Any, stop_in_epoch: int
) -> None:
    plan = replace(PLAN, optimizer=optimizer)
    whole, parts = _network(), _network()
    (tmp_path / "whole").mkdir()
    expected = _train(tmp_path / "whole", whole, plan)
    steady = _epochs([4, 4, 4])

    def interrupted(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        batches = steady(epoch, first, failures)
        yield next(batches)
        if epoch == stop_in_epoch:
            raise KeyboardInterrupt
        yield from batches

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, parts, plan, read_epoch=interrupted)
    parts = _network()
    resumed = _train(tmp_path, parts, plan)

    assert resumed.resumed_after == stop_in_epoch
    assert resumed.losses == expected.losses
    assert resumed.num_steps == expected.num_steps
    assert _equal(whole, parts)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first, again = _network(), _network()
    _train(tmp_path, first)
    seen: list[list[str]] = []

    trained = _train(tmp_path, again, read_epoch=_epochs([4, 4, 4], seen=seen))

    assert seen == []
    assert trained.resumed_after == PLAN.epochs
    assert _equal(first, again)


@pytest.mark.parametrize("damage", ["cut", "not a checkpoint", "of another run", "code"])
def test_a_checkpoint_that_is_not_this_runs_is_not_gone_on_from(
    tmp_path: Path, damage: str
) -> None:
    _train(tmp_path, _network())
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "not a checkpoint":
        path.write_bytes(b"hello")
    elif damage == "of another run":
        path.unlink()
        _train(tmp_path, _network(), checkpoint=Checkpoint(path=tmp_path / "c.pt", key="other"))
    else:
        torch.save({"key": "run", "callback": print}, path)

    assert _train(tmp_path, _network()).resumed_after == 0


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    _train(tmp_path, _network())

    (path,) = tmp_path.iterdir()
    assert torch.load(path, weights_only=True)["place"] == (PLAN.epochs, 0)


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine(tmp_path: Path) -> None:
    class Shift(nn.Module):
        """Logits that stay 0, with the gradient of free logits."""

        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(3))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return (self.shift - self.shift.detach()).expand(len(batch), 3)

    network = Shift()
    places: list[float] = [0.0]

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for _ in range(3):
            yield TrainingBatch(torch.zeros(2, 1), torch.tensor([0, 0]), ("a", "b"))

    _train(
        tmp_path,
        network,
        replace(PLAN, momentum=0.0, weight_decay=0.0, learning_rate=1.0),
        read_epoch=read,
        progress=lambda done, total: places.append(float(network.shift.detach()[0])),
    )

    # The gradient of the first logit is softmax - 1 = -2/3 at every step, so a step is rate x 2/3.
    rates = np.diff(places) * 3 / 2
    # By hand: 12 steps, 3 of warm-up from 0.1 to 1, then (1 + cos(pi t / 9)) / 2.
    cosine = [(1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)]
    np.testing.assert_allclose(rates, [0.1, 0.55, 1.0, *cosine], atol=1e-5)


def test_weight_decay_spares_norms_and_biases_unless_told(tmp_path: Path) -> None:
    def shrinkage(plan: TrainingPlan) -> tuple[float, float]:
        network = _network()
        with torch.no_grad():
            network[1].bias.fill_(1.0)
            network[4].weight.fill_(1.0)
        # A label smoothed to the uniform and equal logits: the loss pulls at nothing.
        network[4].register_forward_hook(lambda module, inputs, output: output * 0)
        folder = tmp_path / str(plan.decay_norm_and_bias)
        folder.mkdir()
        _train(folder, network, plan)
        return float(network[1].bias.detach().mean()), float(network[4].weight.detach().mean())

    bias, weight = shrinkage(PLAN)
    bias_too, _ = shrinkage(replace(PLAN, decay_norm_and_bias=True))

    assert bias == 1.0
    assert weight < 1.0
    assert bias_too < 1.0


def test_a_last_batch_of_one_joins_the_batch_before_it_and_no_example_is_dropped(
    tmp_path: Path,
) -> None:
    network = _network()
    sizes: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))

    trained = _train(
        tmp_path, network, replace(PLAN, epochs=1), read_epoch=_epochs([4, 4, 1]), steps_per_epoch=3
    )

    assert sizes == [4, 5]
    assert trained.num_steps == 2


@pytest.mark.parametrize(
    ("given", "stepped"),
    [
        ([1, 4, 4], [5, 4]),
        ([4, 0, 4], [4, 4]),
        ([4, 1, 3], [5, 3]),
        ([1, 1], [2]),
        ([3, 2], [3, 2]),
    ],
)
def test_lone_examples_in_other_places_join_a_neighbour(
    tmp_path: Path, given: list[int], stepped: list[int]
) -> None:
    network = _network()
    sizes: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))

    _train(tmp_path, network, replace(PLAN, epochs=1), read_epoch=_epochs(given))

    assert sizes == stepped


@pytest.mark.parametrize("sizes", [[], [1], [0, 0]])
def test_fewer_than_two_examples_are_an_error(tmp_path: Path, sizes: list[int]) -> None:
    with pytest.raises(RunError, match="at least two examples"):
        _train(tmp_path, _network(), read_epoch=_epochs(sizes))


def test_a_loss_that_is_not_finite_names_epoch_and_items(tmp_path: Path) -> None:
    steady = _epochs([4, 4, 4])

    def poisoned(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for batch in steady(epoch, first, failures):
            inputs = batch.inputs * (float("nan") if epoch == 2 else 1.0)
            yield batch._replace(inputs=inputs)

    with pytest.raises(
        RunError, match=r"epoch 3 of 4, batch 1: the loss was nan on item \d+"
    ) as caught:
        _train(tmp_path, _network(), read_epoch=poisoned)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_failures_are_kept_over_an_interruption(tmp_path: Path) -> None:
    steady = _epochs([4, 4, 4])

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        if epoch == 0:
            failures["film"] = "cut short"
        if epoch == 2 and not (tmp_path / "second").exists():
            (tmp_path / "second").touch()
            raise KeyboardInterrupt
        yield from steady(epoch, first, failures)

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, _network(), read_epoch=read)

    assert _train(tmp_path, _network(), read_epoch=read).failures == {"film": "cut short"}


def test_clipping_bounds_a_step(tmp_path: Path) -> None:
    def moved(largest_gradient: float) -> float:
        network = _network()
        before = {name: tensor.clone() for name, tensor in named_tensors(network).items()}
        plan = replace(
            PLAN,
            epochs=1,
            momentum=0.0,
            weight_decay=0.0,
            warmup_share=0.0,
            learning_rate=1.0,
            largest_gradient=largest_gradient,
        )
        folder = tmp_path / str(largest_gradient)
        folder.mkdir()
        _train(folder, network, plan, read_epoch=_epochs([12]), steps_per_epoch=1)
        changes = [
            (parameter.detach() - before[name]).square().sum()
            for name, parameter in network.named_parameters()
        ]
        return float(torch.stack(changes).sum().sqrt())

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(0.0) > 0.1


def test_half_precision_trains_too(tmp_path: Path) -> None:
    network = _network()

    trained = _train(tmp_path, network, machine=Machine(device="cpu", precision="bf16"))

    assert trained.losses[-1] < trained.losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_tensors_keep_their_names_whatever_a_module_makes_of_its_state_dict() -> None:
    class Renaming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 2)

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return self.body.state_dict(*args, **kwargs)

    assert set(named_tensors(nn.Sequential(Renaming()))) == {"0.body.weight", "0.body.bias"}


def test_what_reading_remarked_on_is_gone_on_from_like_the_rest(tmp_path: Path) -> None:
    batches = _epochs([4, 4, 4])

    def run(remarks: dict[str, list[str]], last: int) -> None:
        def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
            if epoch == last:
                raise KeyboardInterrupt
            remarks[f"item {epoch}"] = ["odd"]
            return batches(epoch, first, failures)

        _train(tmp_path, _network(), read_epoch=read, remarks=remarks)

    with pytest.raises(KeyboardInterrupt):
        run({}, last=2)
    resumed: dict[str, list[str]] = {}
    run(resumed, last=PLAN.epochs)

    assert resumed == {f"item {epoch}": ["odd"] for epoch in range(PLAN.epochs)}


# ------------------------------------------------------------- several classifiers side by side


def _layers(number: int) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(number)
    )


def _group(network: nn.Module, learning_rate: float, weight_decay: float) -> ParameterGroup:
    return ParameterGroup(tuple(network.parameters()), learning_rate, weight_decay)


SETTINGS = ((0.1, 0.0), (0.003, 0.4), (0.02, 0.1))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_networks_side_by_side_end_as_each_does_alone(tmp_path: Path, optimizer: Any) -> None:
    plan = replace(PLAN, optimizer=optimizer)
    together, alone = _layers(3), _layers(3)
    (tmp_path / "together").mkdir()
    groups = [_group(each, *with_) for each, with_ in zip(together, SETTINGS, strict=True)]
    _train(tmp_path / "together", together, plan, groups=groups)

    for number, with_ in enumerate(SETTINGS):
        folder = tmp_path / str(number)
        folder.mkdir()
        _train(folder, alone[number], plan, groups=[_group(alone[number], *with_)])
        assert _equal(together[number], alone[number])
    assert not _equal(together[0], together[1])


def test_groups_have_the_rates_and_decays_that_torch_gives_them(tmp_path: Path) -> None:
    network = _layers(1)[0]
    plan = replace(PLAN, optimizer="adamw", warmup_share=0.0)
    expected = _layers(1)[0]
    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.01, weight_decay=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)

    _train(tmp_path, network, plan, groups=[_group(network, 0.01, 0.5)])

    for epoch in range(4):
        for batch in _epochs([4, 4, 4])(epoch, 0, {}):
            optimizer.zero_grad()
            nn.functional.cross_entropy(expected(batch.inputs), batch.labels).backward()
            optimizer.step()
            schedule.step()
    for one, other in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_one_that_diverges_takes_none_along_and_all_are_an_error(tmp_path: Path) -> None:
    sound, one_bad, all_bad = _layers(2), _layers(2), _layers(2)
    with torch.no_grad():
        for bad in (one_bad[1], *all_bad):
            next(bad.parameters()).fill_(float("nan"))
    for name, networks in (("sound", sound), ("bad", one_bad)):
        (tmp_path / name).mkdir()
        trained = _train(tmp_path / name, networks)
        assert all(math.isfinite(loss) for loss in trained.losses)

    assert _equal(sound[0], one_bad[0])
    with pytest.raises(DivergedError, match="epoch 1 of 4, batch 1: the loss was nan"):
        _train(tmp_path, all_bad)


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path: Path) -> None:
    # No batch norm, which would see the parts.
    whole, parts = _layers(1)[0], _layers(1)[0]
    (tmp_path / "parts").mkdir()

    one = _train(tmp_path, whole)
    other = _train(tmp_path / "parts", parts, replace(PLAN, examples_at_once=3))

    for first, second in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-5)
    assert other.losses == pytest.approx(one.losses, rel=1e-5)


def test_the_rate_drops_where_tensorflow_drops_it(tmp_path: Path) -> None:
    # tf.train.piecewise_constant(step, [3, 6], [1, .1, .01]): "1.0 when x <= boundaries[0]". With
    # gradients of 1 and no momentum, a weight falls by the rate in each step.
    weight = nn.Parameter(torch.zeros(1, 1))
    rates: list[float] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            rates.append(-float(self.weight.detach()))
            return torch.stack([self.weight[0].expand(len(batch)), torch.zeros(len(batch))], dim=1)

    plan = replace(
        PLAN,
        momentum=0.0,
        weight_decay=0.0,
        warmup_share=0.0,
        learning_rate=1e-4,
        drops_at=(0.3, 0.6),
    )
    inputs = torch.zeros(2, 1)

    def epoch(number: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for _ in range(min(4, 10 - 4 * number)):
            yield TrainingBatch(inputs, torch.ones(2, dtype=torch.int64), ("a", "b"))

    trained = _train(
        tmp_path,
        Watched(),
        replace(plan, epochs=3),
        read_epoch=epoch,
        steps_per_epoch=4,
        num_steps=10,
    )

    assert trained.num_steps == 10
    # The gradient is sigmoid(weight), a half to within the few 1e-4 that the weight moves.
    found = np.diff([*rates, -float(weight.detach())]) * 2
    expected = [1e-4] * 4 + [1e-5] * 3 + [1e-6] * 3
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("share", "num_steps", "kept"),
    # In floats 0.29 x 100 and 0.57 x 100 are a little less than 29 and 57; 0.3 x 5 is one and a
    # half steps, of which piecewise_constant drops at the second.
    [(0.29, 100, 29), (0.57, 100, 57), (0.3, 2500, 750), (0.9, 10_000, 9000), (0.3, 5, 1)],
)
def test_a_drop_comes_after_whole_steps(share: float, num_steps: int, kept: int) -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    plan = replace(PLAN, warmup_share=0.0, drops_at=(share,))
    (schedule,) = make_schedules(optimizer, plan, num_steps=num_steps)

    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()

    # The step numbered as the boundary, from 0, still has the rate: "1.0 when x <= boundaries[0]".
    assert [rate > 0.5 for rate in rates].index(False) == kept + 1


# ------------------------------------------------------------------- going on in mid-epoch


class _Killed(Exception):
    """Stands for SIGKILL: nothing of the training sees it coming."""


def _kill_after(steps: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == steps:
            raise _Killed

    return progress


EVERYTHING = replace(
    PLAN,
    optimizer="adamw",
    learning_rate=0.01,
    ema_decay=0.9,
    mixup=0.2,
    label_smoothing=0.1,
    largest_gradient=1.0,
    examples_at_once=3,
)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 11, 12])
def test_a_training_killed_after_any_step_ends_with_the_same_bits(
    tmp_path: Path, steps: int
) -> None:
    whole, parts = _network(), _network()
    expected = _train(tmp_path / "whole", whole, EVERYTHING, num_classes=3)
    often = Checkpoint(path=tmp_path / "c.pt", key="run", seconds=0.0)

    with pytest.raises(_Killed):
        _train(
            tmp_path,
            parts,
            EVERYTHING,
            num_classes=3,
            checkpoint=often,
            progress=_kill_after(steps),
        )
    parts = _network()
    seen: list[list[str]] = []
    read = _epochs([4, 4, 4], seen=seen)
    resumed = _train(tmp_path, parts, EVERYTHING, num_classes=3, checkpoint=often, read_epoch=read)

    # The step that was killed before it was kept is all that is done again.
    assert len(seen) == 12 - (steps - 1)
    assert resumed.num_steps == expected.num_steps == 12
    assert resumed.losses == expected.losses
    assert _equal(whole, parts)


class _Several(nn.Module):
    """Two classifiers of the same features, (B, 2, K)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = nn.ModuleList(nn.Linear(4, 3) for _ in range(2))
        self.dropout = nn.Dropout(0.3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([head(self.dropout(inputs)) for head in self.heads], dim=1)


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (_Several, {"optimizer": "lars", "mixup": 0.0}, {}),
        (lambda: nn.ModuleList([_network(), _network()]), {}, {}),
        (_network, {"cutmix": 0.0, "drops_at": (0.3, 0.6)}, {"keep": "best"}),
        (
            _network,
            {"optimizer": "sgd", "schedule": "whole cosine", "momentum_of": "steps"},
            {"machine": Machine(device="cpu", precision="fp16"), "keep": "best"},
        ),
    ],
    ids=["several classifiers", "side by side", "drops", "half precision"],
)
def test_whatever_trains_a_kill_in_every_epoch_changes_no_bit(
    tmp_path: Path, make: Callable[[], nn.Module], changes: dict[str, Any], words: dict[str, Any]
) -> None:
    plan = replace(EVERYTHING, epochs=3, **changes)
    # Rises and falls, by what the network is.
    given = {"num_classes": 3, "held_out": _sum_of_weights, "rehearse": True, **words}
    whole = make()
    expected = _train(tmp_path / "whole", whole, plan, **given)

    given["checkpoint"] = Checkpoint(path=tmp_path / "c.pt", key="run", seconds=0.0)
    for steps in (2, 5, 8):
        with pytest.raises(_Killed):
            _train(tmp_path, make(), plan, progress=_kill_after(steps), **given)
    parts = make()
    found = _train(tmp_path, parts, plan, **given)

    assert _equal(whole, parts)
    assert found.losses == expected.losses
    assert found.kept_epoch == expected.kept_epoch


def _sum_of_weights(network: nn.Module) -> float:
    total = sum(float(each.detach().double().abs().sum()) for each in network.parameters())
    return math.sin(10 * total) ** 2


def test_each_step_draws_anew(tmp_path: Path) -> None:
    network, dropped = _network(), []
    network[3].register_forward_hook(
        lambda module, inputs, output: dropped.append(tuple((output == 0).flatten().tolist()))
    )
    # The same examples each time, of which a ReLU's noughts are the same.
    inputs, labels = _data(4)
    batch = TrainingBatch(inputs, labels, tuple("abcd"))

    _train(
        tmp_path,
        network,
        replace(PLAN, learning_rate=0.0, weight_decay=0.0),
        read_epoch=lambda epoch, first, failures: [batch] * (3 - first),
    )

    assert len(set(dropped)) == 12


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_joined_batches_are_the_same_after_an_interruption(tmp_path: Path, steps: int) -> None:
    plan, sizes = replace(PLAN, epochs=1), [4, 1, 3, 0, 5, 1, 4]
    whole, parts = _network(), _network()
    _train(tmp_path / "whole", whole, plan, read_epoch=_epochs(sizes), steps_per_epoch=7)
    given: dict[str, Any] = {
        "read_epoch": _epochs(sizes),
        "steps_per_epoch": 7,
        "checkpoint": Checkpoint(path=tmp_path / "c.pt", key="run", seconds=0.0),
    }

    with pytest.raises(_Killed):
        _train(tmp_path, parts, plan, progress=_kill_after(steps), **given)
    parts = _network()
    trained = _train(tmp_path, parts, plan, **given)

    assert trained.num_steps == 4
    assert _equal(whole, parts)


@pytest.mark.parametrize(
    ("which", "code", "step", "where"),
    [
        (signal.SIGTERM, 143, 5, "in epoch 2 after batch 2"),
        (signal.SIGINT, 130, 5, "in epoch 2 after batch 2"),
        # The last of an epoch, of which nothing is left to read.
        (signal.SIGTERM, 143, 6, "in epoch 2 after batch 3"),
    ],
)
def test_a_training_told_to_stop_keeps_its_state_and_goes_on(
    tmp_path: Path, which: signal.Signals, code: int, step: int, where: str
) -> None:
    whole, parts = _network(), _network()
    _train(tmp_path / "whole", whole)

    def progress(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), which)

    with pytest.raises(Stopped, match=f"{where} of 4 epochs") as caught:
        _train(tmp_path, parts, progress=progress)
    parts = _network()
    seen: list[list[str]] = []
    _train(tmp_path, parts, read_epoch=_epochs([4, 4, 4], seen=seen))

    assert caught.value.exit_code == code
    assert len(seen) == 12 - step
    assert _equal(whole, parts)


def test_a_training_told_to_stop_at_an_epochs_end_goes_on_with_the_next(tmp_path: Path) -> None:
    def held_out(network: nn.Module) -> float:
        if not (tmp_path / "asked").exists():
            (tmp_path / "asked").touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.5

    with pytest.raises(Stopped, match="after epoch 1 of 4"):
        _train(tmp_path, _network(), held_out=held_out)

    assert _train(tmp_path, _network(), held_out=held_out).resumed_after == 1


def test_what_a_long_score_would_lose_is_kept_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsbench.training.pace._LONG_SECONDS", 0.0)
    whole, parts = _network(), _network()
    expected = _train(tmp_path / "whole", whole, held_out=lambda network: 0.5)

    def killed(network: nn.Module) -> float:
        if list(tmp_path.glob("*.000001-00000003.pt")):
            raise _Killed
        return 0.5

    with pytest.raises(_Killed):
        _train(tmp_path, parts, held_out=killed)
    parts = _network()
    seen: list[list[str]] = []
    found = _train(
        tmp_path, parts, held_out=lambda network: 0.5, read_epoch=_epochs([4, 4, 4], seen=seen)
    )

    assert len(seen) == 6
    assert _equal(whole, parts)
    assert [row["held_out_top1"] for row in found.curve] == [0.5] * 4
    assert found.losses == expected.losses


def test_a_state_that_takes_long_to_write_is_not_written_after_every_short_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsbench.training.pace._CHEAP_SECONDS", 0.0)
    monkeypatch.setattr("rsbench.training.pace._TIMES_AS_LONG", 1e6)
    written: list[str] = []

    def write(path: Path, content: bytes) -> None:
        written.append(path.name.split(".")[2])
        write_atomically(path, content)

    checkpoint = Checkpoint(path=tmp_path / "c.pt", key="run", write=write)
    # The best of all is that of the second epoch, which nothing else was kept of.
    scores = iter([0.1, 0.9, 0.2, 0.3])
    network, whole = _network(), _network()
    trained = _train(
        tmp_path,
        network,
        checkpoint=checkpoint,
        held_out=lambda network: next(scores),
        keep="best",
    )

    _train(tmp_path / "whole", whole, num_steps=12, held_out=_falling_after(2), keep="best")
    # Twice where the best network is one, and the last, from which predictions are made.
    assert written == [*["000001-00000000"] * 2, "000002-00000000", "000004-00000000"]
    assert trained.kept_epoch == 2
    assert _equal(network, whole)


def _falling_after(best: int) -> Callable[[nn.Module], float]:
    """Score the epochs so that a certain one, from 1, is the best."""
    epochs = iter(range(1, 100))
    return lambda network: 1.0 / (1 + abs(next(epochs) - best))


# ------------------------------------------------------------------- the average


def test_the_network_ends_as_the_average_of_what_it_was(tmp_path: Path) -> None:
    network = _network()
    averages: dict[str, torch.Tensor] = {}

    def progress(done: int, total: int) -> None:
        # tf-models-official 2.20, ema_optimizer.py: decay = min(0.9, (1 + n) / (10 + n)), from
        # noughts; batch norm's running statistics are averaged with the rest.
        decay = min(0.9, (1 + done) / (10 + done))
        for name, value in named_tensors(network).items():
            if value.is_floating_point():
                before = averages.get(name, torch.zeros_like(value))
                averages[name] = decay * before + (1 - decay) * value

    _train(tmp_path, network, replace(PLAN, ema_decay=0.9), progress=progress)

    found = named_tensors(network)
    assert "1.running_var" in averages
    for name, expected in averages.items():
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)
    assert int(found["1.num_batches_tracked"]) == 12


def test_what_is_held_out_is_scored_by_the_average_in_eval_mode(tmp_path: Path) -> None:
    plan = replace(PLAN, ema_decay=0.9)
    seen: list[dict[str, torch.Tensor]] = []

    def held_out(network: nn.Module) -> float:
        assert not any(module.training for module in network.modules())
        seen.append({name: each.clone() for name, each in named_tensors(network).items()})
        return 0.5

    watched, alone = _network(), _network()
    _train(tmp_path / "watched", watched, plan, held_out=held_out)
    _train(tmp_path / "alone", alone, plan)

    # The last one is what is left; to look at it changed nothing.
    assert len(seen) == 4
    assert all(torch.equal(each, seen[-1][name]) for name, each in named_tensors(watched).items())
    assert _equal(watched, alone)


@pytest.mark.filterwarnings("error:.*before.*optimizer.step")
def test_a_step_that_overflowed_in_half_precision_is_not_averaged(tmp_path: Path) -> None:
    network = _network()
    # In fp16, the scaler's first 65,536 times a gradient in the hundreds is infinite.
    network.register_forward_hook(lambda module, inputs, output: output * 100)
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    kept: list[int] = []

    def progress(done: int, total: int) -> None:
        same = all(torch.equal(each, before[name]) for name, each in network.named_parameters())
        kept.append(same)

    _train(
        tmp_path,
        network,
        replace(PLAN, ema_decay=0.9, learning_rate=1e-4),
        machine=Machine(device="cpu", precision="fp16"),
        progress=progress,
    )

    (path,) = tmp_path.iterdir()
    num_averaged = torch.load(path, weights_only=True)["learner"]["num_averaged"]
    assert kept[0]
    assert not kept[-1]
    assert num_averaged < 12


# ------------------------------------------------------------------- the best


def _scores(*given: float) -> Callable[[nn.Module], float]:
    left = list(given)
    return lambda network: left.pop(0)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_first_of_the_best_epochs_is_kept(tmp_path: Path, ema_decay: float) -> None:
    plan = replace(PLAN, ema_decay=ema_decay)
    seen: list[dict[str, torch.Tensor]] = []
    scores = _scores(0.2, 0.6, 0.6, 0.1)

    def held_out(network: nn.Module) -> float:
        seen.append({name: each.clone() for name, each in named_tensors(network).items()})
        return scores(network)

    network = _network()
    trained = _train(tmp_path, network, plan, held_out=held_out, keep="best")

    assert trained.kept_epoch == 2
    assert all(torch.equal(each, seen[1][name]) for name, each in named_tensors(network).items())
    assert [row["held_out_top1"] for row in trained.curve] == [0.2, 0.6, 0.6, 0.1]
    again = _network()
    assert _train(tmp_path, again, plan, held_out=held_out, keep="best").kept_epoch == 2
    assert _equal(again, network)


def test_the_best_is_remembered_over_an_interruption(tmp_path: Path) -> None:
    whole, parts = _network(), _network()
    _train(tmp_path / "whole", whole, held_out=_scores(0.2, 0.6, 0.3, 0.5), keep="best")

    with pytest.raises(_Killed):
        _train(
            tmp_path,
            parts,
            held_out=_scores(0.2, 0.6, 0.3),
            keep="best",
            progress=_kill_after(8),
        )
    parts = _network()
    trained = _train(tmp_path, parts, held_out=_scores(0.3, 0.5), keep="best")

    assert trained.kept_epoch == 2
    assert _equal(whole, parts)


def test_a_score_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be a number .* nan after epoch 1"):
        _train(tmp_path, _network(), held_out=_scores(float("nan")), keep="best")


# ------------------------------------------------------------------- the curve


def test_the_curve_has_a_row_an_epoch(tmp_path: Path) -> None:
    # At a rate of nought the network stays, and says of each example what it says now.
    plan = replace(PLAN, learning_rate=0.0, weight_decay=0.0)
    network = nn.Sequential(nn.Linear(4, 3))
    inputs, labels = _data(12)
    with torch.inference_mode():
        logits = network(inputs)
    expected = float((logits.argmax(dim=1) == labels).float().mean())

    trained = _train(tmp_path, network, plan, held_out=_scores(0.1, 0.2, 0.3, 0.4))

    assert [row["epoch"] for row in trained.curve] == [1, 2, 3, 4]
    assert [row["steps"] for row in trained.curve] == [3, 6, 9, 12]
    assert [row["train_loss"] for row in trained.curve] == list(trained.losses)
    for row in trained.curve:
        assert row["train_top1"] == pytest.approx(expected)
        assert row["train_loss"] == pytest.approx(
            float(nn.functional.cross_entropy(logits, labels)), rel=1e-5
        )
        assert row["seconds"] > 0
    assert trained.kept_epoch == 4


def test_the_curve_has_the_rate_of_each_epochs_last_step(tmp_path: Path) -> None:
    trained = _train(tmp_path, _network(), replace(PLAN, schedule="constant"))

    # Warm-up over 3 of 12 steps from a tenth of the rate: by hand 0.01, 0.055, 0.1, then 0.1.
    assert [row["learning_rate"] for row in trained.curve] == pytest.approx([0.1] * 4)
    falling = _train(tmp_path / "cosine", _network())
    rates = [(1 + math.cos(math.pi * step / 9)) / 20 for step in (2, 5, 8)]
    assert [row["learning_rate"] for row in falling.curve] == pytest.approx([0.1, *rates])


@pytest.mark.parametrize("steps", [2, 5])
def test_the_curve_is_the_same_over_an_interruption(tmp_path: Path, steps: int) -> None:
    whole = _train(tmp_path / "whole", _network())
    often = Checkpoint(path=tmp_path / "c.pt", key="run", seconds=0.0)
    with pytest.raises(_Killed):
        _train(tmp_path, _network(), checkpoint=often, progress=_kill_after(steps))
    parts = _train(tmp_path, _network(), checkpoint=often)

    def without_time(trained: Trained) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in trained.curve]

    assert without_time(parts) == without_time(whole)


def test_whoever_watches_hears_of_the_first_step(tmp_path: Path) -> None:
    heard: list[dict[str, float]] = []
    trained = _train(
        tmp_path,
        _network(),
        replace(PLAN, epochs=1),
        measured=lambda values: heard.append(dict(values)),
        read_epoch=_epochs([6, 6]),
        steps_per_epoch=2,
    )

    assert set(heard[0]) == {"loss", "top1", "learning_rate", "examples_per_second"}
    assert 0 < heard[0]["loss"] < 2 * trained.losses[0]
    assert heard[0]["examples_per_second"] > 0


def test_whoever_watches_hears_of_epochs_that_are_over_in_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("rsbench.training.curve.time", clock)
    heard: list[float] = []
    watch = Watch(lambda values: heard.append(values["examples_per_second"]), None)

    for epoch in range(1, 41):
        now[0] += 0.1
        watch.add(Taken(8.0, 4.0, 8), num_global=8, steps=epoch, learning_rate=0.1)
        # What is held out takes a minute, in which nothing is trained.
        now[0] += 60.0
        watch.end_epoch({"epoch": epoch, "steps": epoch, "seconds": 0.1}, seconds_away=60.0)

    # The first step, and then once a second of training: 80 examples in each.
    assert len(heard) in (4, 5)
    assert heard == pytest.approx([80.0] * len(heard), rel=0.01)


# ------------------------------------------------------------------- batch norms


class _Convolving(nn.Module):
    """A convolution, a batch norm and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.norm(self.convolution(inputs)).relu()
        logits: torch.Tensor = self.head(maps.mean((2, 3)))
        return logits


def _pictures(sizes: list[int]) -> ReadEpoch:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(sum(sizes), 3, 8, 8, generator=generator)
    labels = torch.arange(sum(sizes)) % 3

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for number in range(first, len(sizes)):
            part = slice(sum(sizes[:number]), sum(sizes[: number + 1]))
            names = tuple(f"picture {row}" for row in range(part.start, part.stop))
            yield TrainingBatch(inputs[part], labels[part], names)

    return read


@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
def test_parts_add_up_to_the_whole_batch_where_norms_are_frozen(
    tmp_path: Path, at_once: int
) -> None:
    plan = replace(PLAN, freeze_norm=True, largest_gradient=0.5)
    whole, parts = _Convolving(), _Convolving()
    given: dict[str, Any] = {"read_epoch": _pictures([6, 5]), "steps_per_epoch": 2}

    one = _train(tmp_path / "whole", whole, plan, **given)
    other = _train(tmp_path / "parts", parts, replace(plan, examples_at_once=at_once), **given)

    assert other.losses == pytest.approx(one.losses, rel=1e-6)
    found = named_tensors(parts)
    for name, value in named_tensors(whole).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-6)


def test_frozen_norms_keep_their_statistics_and_learn_the_rest(tmp_path: Path) -> None:
    network = _Convolving()
    before = {name: each.clone() for name, each in named_tensors(network).items()}

    _train(
        tmp_path,
        network,
        replace(PLAN, freeze_norm=True),
        read_epoch=_pictures([4, 4]),
        steps_per_epoch=2,
        held_out=_scores(0.1, 0.2, 0.3, 0.4),
    )

    for name, each in named_tensors(network).items():
        is_statistic = name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
        assert torch.equal(each, before[name]) == is_statistic, name


def test_a_norm_momentum_of_one_keeps_the_newest_batch_alone(tmp_path: Path) -> None:
    network = _Convolving()
    read = _pictures([4, 4])
    plan = replace(PLAN, epochs=1, learning_rate=0.0, weight_decay=0.0, norm_momentum=1.0)

    _train(tmp_path, network, plan, read_epoch=read, steps_per_epoch=2)

    *_, last = read(0, 0, {})
    with torch.inference_mode():
        maps = network.convolution(last.inputs)
    torch.testing.assert_close(network.norm.running_mean, maps.mean((0, 2, 3)))
    torch.testing.assert_close(network.norm.running_var, maps.var((0, 2, 3)))
    assert network.norm.momentum == 0.1


# ------------------------------------------------------------------- layout, compilation, mixing


def test_pictures_are_trained_on_in_the_layout_that_is_faster(tmp_path: Path) -> None:
    network = _Convolving()
    seen: list[bool] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tensors = (inputs[0], network.convolution.weight)
        seen.extend(each.is_contiguous(memory_format=torch.channels_last) for each in tensors)

    network.convolution.register_forward_pre_hook(look)
    _train(tmp_path, network, read_epoch=_pictures([4, 4]), steps_per_epoch=2)

    assert seen == [True] * 16
    # Whoever saves it gets the usual one.
    assert all(each.is_contiguous() for each in named_tensors(network).values())


def test_a_compiled_network_trains_as_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, compiled = _Convolving(), _Convolving()
    given: dict[str, Any] = {"read_epoch": _pictures([4, 4]), "steps_per_epoch": 2}
    _train(tmp_path / "plain", plain, **given)
    # Without a code generator, which takes a minute, but for everything else of it.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))

    _train(
        tmp_path / "compiled",
        compiled,
        machine=Machine(device="cpu", precision="float32", compile=True),
        **given,
    )

    found = named_tensors(compiled)
    assert found.keys() == named_tensors(plain).keys()
    for name, value in named_tensors(plain).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


def test_mixing_blends_examples_and_keeps_their_sum(tmp_path: Path) -> None:
    network = _network()
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    read = _epochs([4, 4, 4])

    _train(tmp_path, network, replace(PLAN, epochs=1, mixup=0.8), num_classes=3)

    given = [batch.inputs for batch in read(0, 0, {})]
    for shown, whole in zip(seen, given, strict=True):
        assert not torch.allclose(shown, whole)
        # s x + (1 - s) neighbour: each example goes in with a whole share.
        torch.testing.assert_close(shown.sum(0), whole.sum(0), atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------- what goes wrong


def test_a_training_that_diverged_goes_on_from_before_it(tmp_path: Path) -> None:
    steady = _epochs([4, 4, 4])

    def poisoned(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for number, batch in enumerate(steady(epoch, first, failures)):
            bad = (epoch, number) == (2, 1)
            yield batch._replace(inputs=batch.inputs * (float("nan") if bad else 1.0))

    with pytest.raises(DivergedError, match=r"epoch 3 of 4, batch 2: .* on item \d+, item"):
        _train(tmp_path, _network(), read_epoch=poisoned)
    network, whole = _network(), _network()

    assert _train(tmp_path, network).resumed_after == 2
    _train(tmp_path / "whole", whole)
    assert _equal(network, whole)


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    network = _network()

    with pytest.raises(DivergedError, match="epoch 2 of 4: the loss was finite, but weights"):
        _train(tmp_path, network, progress=_spoil_at(network, 6))
    assert _train(tmp_path, _network()).resumed_after == 1
    often = Checkpoint(path=tmp_path / "often.pt", key="run", seconds=0.0)
    with pytest.raises(DivergedError, match="epoch 2 of 4: the loss was finite, but weights"):
        network = _network()
        _train(tmp_path, network, progress=_spoil_at(network, 5), checkpoint=often)


def _spoil_at(network: nn.Module, steps: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == steps:
            with torch.no_grad():
                network[4].bias.fill_(float("inf"))

    return progress


class _Hungry(nn.Module):
    """Runs out of memory at more than a number of examples."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.most, self.error = most, error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.most:
            raise self.error
        logits: torch.Tensor = self.layer(inputs)
        return logits


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        # c10/core/impl/alloc_cpu.cpp
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
@pytest.mark.parametrize(("most", "said"), [(11, 8), (8, 8), (7, 4), (2, 2)])
def test_a_batch_beyond_memory_names_the_part_that_fits(
    tmp_path: Path, error: Exception, most: int, said: int
) -> None:
    with pytest.raises(RunError, match=f"batch of 12 .*--set examples_at_once={said},") as caught:
        _train(tmp_path, _Hungry(most, error), read_epoch=_epochs([12]), steps_per_epoch=1)
    assert "\n" not in str(caught.value)

    plan = replace(PLAN, examples_at_once=said)
    _train(tmp_path, _Hungry(most, error), plan, read_epoch=_epochs([12]), steps_per_epoch=1)


def test_a_part_beyond_memory_is_told_from_a_batch_and_may_not_fit_at_all(tmp_path: Path) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory.")
    plan = replace(PLAN, examples_at_once=6)
    given: dict[str, Any] = {"read_epoch": _epochs([12]), "steps_per_epoch": 1}

    with pytest.raises(RunError, match=r"part of 6 of 12 .*examples_at_once=4,"):
        _train(tmp_path, _Hungry(5, error), plan, **given)
    with pytest.raises(RunError, match="not even 2 do"):
        _train(tmp_path, _Hungry(1, error), plan, **given)


def test_a_lone_example_that_a_norm_cant_train_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"lone example, .* one of item \d, .* in epoch 1") as caught:
        _train(tmp_path, _network(), replace(PLAN, examples_at_once=1))
    assert "\n" not in str(caught.value)


def test_other_faults_of_a_network_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        _train(tmp_path, _Hungry(1, RuntimeError("a shape is wrong")))


# ------------------------------------------------------------------- soak

NUM_SOAK_EPOCHS = 3 if "RSBENCH_SOAK" not in os.environ else 10
"""Of a hundred steps."""


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_steps(tmp_path: Path) -> None:
    resident: list[int] = []

    def progress(done: int, total: int) -> None:
        if done % 50 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE"))

    _train(
        tmp_path,
        _Convolving(),
        replace(EVERYTHING, epochs=NUM_SOAK_EPOCHS, examples_at_once=8),
        read_epoch=_pictures([16] * 100),
        steps_per_epoch=100,
        num_classes=3,
        progress=progress,
        checkpoint=Checkpoint(path=tmp_path / "c.pt", key="run", keep=2),
    )

    # To keep the batch of each step would take 12 KiB each, its maps 18 KiB: 1.5 MiB in fifty.
    assert max(resident[2:]) - min(resident[2:]) < 2**20
