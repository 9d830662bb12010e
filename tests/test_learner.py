"""What counts as right, and which finite is finite: the parts of a step that need no loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rsbench.training.learner import batch_norms, members_of, num_right
from rsbench.training.machine import (
    Machine,
    as_laid_out,
    laid_out,
    own_randomness,
    repeatable,
    seed_step,
    sent_home,
)

CPU = Machine(device="cpu", precision="float32")


def test_right_is_the_class_with_the_highest_score() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 0.0]])

    assert num_right(logits, torch.tensor([0, 1, 1])).tolist() == [2.0]


def test_each_classifier_is_right_for_itself() -> None:
    logits_BMK = torch.tensor([[[2.0, 1.0], [1.0, 2.0]], [[2.0, 1.0], [2.0, 1.0]]])

    assert num_right(logits_BMK, torch.tensor([0, 0])).tolist() == [2.0, 1.0]


def test_of_mixed_labels_the_larger_share_is_right_and_of_several_any_is() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.3, 0.7, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])

    # The last example has no class, so nothing that is said of it is right.
    assert num_right(logits, shares).tolist() == [2.0]


def test_what_a_step_draws_follows_from_its_words_alone() -> None:
    def drawn(*words: int) -> tuple[int, list[float]]:
        seed = seed_step(CPU, *words)
        return seed, torch.rand(3).tolist()

    with own_randomness(CPU):
        first = drawn(0, 3, 12, 0)
        torch.rand(100)
        assert drawn(0, 3, 12, 0) == first
        others = [drawn(1, 3, 12, 0), drawn(0, 4, 12, 0), drawn(0, 3, 13, 0), drawn(0, 3, 12, 1)]

    assert first not in others
    assert len({seed for seed, _ in others} | {first[0]}) == 5


def test_the_generator_of_others_goes_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with own_randomness(CPU):
        seed_step(CPU, 1, 2)
        torch.rand(7)

    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("layer", "is_moved"), [(nn.Conv2d(4, 4, 3), True), (nn.Conv3d(4, 4, 3), False)]
)
def test_2d_networks_lie_in_the_faster_layout_for_a_while(layer: nn.Module, is_moved: bool) -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3), layer)
    weight = network[0].weight
    with laid_out(network):
        assert network[0].weight is weight
        assert weight.is_contiguous() != is_moved

    assert weight.is_contiguous()


def test_inputs_lie_as_the_weights_do() -> None:
    pictures, clips, features = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 2, 4, 4), torch.rand(2, 3)

    assert as_laid_out(pictures).is_contiguous(memory_format=torch.channels_last)
    assert as_laid_out(clips) is clips
    assert as_laid_out(features) is features


def test_batch_norms_of_all_kinds_are_found_and_networks_side_by_side_told_apart() -> None:
    norms = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)]
    network = nn.Sequential(*norms, nn.GroupNorm(1, 2), nn.LayerNorm(2))

    assert batch_norms(network) == norms
    assert members_of(network) == (network,)
    assert members_of(nn.ModuleList(norms)) == tuple(norms)


def test_convolutions_are_told_to_repeat_themselves_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", False)
    monkeypatch.setattr(cudnn, "benchmark", True)
    with repeatable():
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (False, True, False)

    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (True, False, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_numbers_come_home_before_what_was_asked_for_after_them() -> None:
    numbers = torch.tensor([1.0, 2.0], device="cuda") * 2
    read = sent_home(numbers)
    torch.cuda._sleep(2_000_000_000)
    after = torch.cuda.current_stream().record_event()

    assert read() == [2.0, 4.0]
    assert not after.query()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_its_generator_is_set_and_given_back() -> None:
    machine = Machine(device="cuda", precision="float32")
    torch.cuda.manual_seed(5)
    expected = torch.rand(2, device="cuda")
    torch.cuda.manual_seed(5)
    with own_randomness(machine):
        seed_step(machine, 1, 2)
        first = torch.rand(2, device="cuda")
        seed_step(machine, 1, 2)
        assert torch.equal(torch.rand(2, device="cuda"), first)

    assert torch.equal(torch.rand(2, device="cuda"), expected)
