"""The training loop: schedules, batch rules, and going on as if nothing had happened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsbench.errors import RunError
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
from rsbench.training.optimisation import make_schedules

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


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def _epochs(
    sizes: list[int], *, seen: list[list[str]] | None = None
) -> Callable[[int, dict[str, str]], Iterator[TrainingBatch]]:
    inputs, labels = _data(sum(sizes))

    def read(epoch: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        order = np.random.default_rng(epoch).permutation(sum(sizes)).tolist()
        for size in sizes:
            rows, order = order[:size], order[size:]
            names = tuple(f"item {row}" for row in rows)
            if seen is not None:
                seen.append(list(names))
            yield TrainingBatch(inputs[rows], labels[rows], names)

    return read


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _train(
    tmp_path: Path, network: nn.Module, plan: TrainingPlan = PLAN, **changes: Any
) -> Trained:
    given: dict[str, Any] = {
        "read_epoch": _epochs([4, 4, 4]),
        "steps_per_epoch": 3,
        "seed": 0,
        "machine": CPU,
        "checkpoint": Checkpoint(path=tmp_path / "c.pt", key="run", write=_write),
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

    def interrupted(epoch: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        batches = steady(epoch, failures)
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
    path = tmp_path / "c.pt"
    _train(tmp_path, _network())
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "not a checkpoint":
        path.write_bytes(b"hello")
    elif damage == "of another run":
        _train(tmp_path, _network(), checkpoint=Checkpoint(path=path, key="other", write=_write))
    else:
        torch.save({"key": "run", "callback": print}, path)

    assert _train(tmp_path, _network()).resumed_after == 0


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    _train(tmp_path, _network())

    assert torch.load(tmp_path / "c.pt", weights_only=True)["epochs_done"] == PLAN.epochs


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

    def read(epoch: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
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

    def poisoned(epoch: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for batch in steady(epoch, failures):
            inputs = batch.inputs * (float("nan") if epoch == 2 else 1.0)
            yield batch._replace(inputs=inputs)

    with pytest.raises(RunError, match=r"epoch 3 of 4: the loss was nan on item \d+") as caught:
        _train(tmp_path, _network(), read_epoch=poisoned)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_failures_are_kept_over_an_interruption(tmp_path: Path) -> None:
    steady = _epochs([4, 4, 4])

    def read(epoch: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        if epoch == 0:
            failures["film"] = "cut short"
        if epoch == 2 and not (tmp_path / "second").exists():
            (tmp_path / "second").touch()
            raise KeyboardInterrupt
        yield from steady(epoch, failures)

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
        def read(epoch: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
            if epoch == last:
                raise KeyboardInterrupt
            remarks[f"item {epoch}"] = ["odd"]
            return batches(epoch, failures)

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
        for batch in _epochs([4, 4, 4])(epoch, {}):
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
    with pytest.raises(DivergedError, match="epoch 1 of 4: the loss was nan"):
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

    def epoch(number: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
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
