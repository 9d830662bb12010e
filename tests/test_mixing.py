"""Mixup and CutMix against torchvision's own, drawn from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from rsbench.errors import RsbenchError
from rsbench.media.mixing import mixed

CLASSES = 5
SHAPES = {"pictures": (6, 3, 20, 33), "clips": (4, 3, 2, 9, 12), "alone": (1, 3, 8, 8)}


def _batch(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator), torch.arange(shape[0]) % CLASSES


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_a_batch_is_mixed_as_torchvision_mixes_it(
    shape: tuple[int, ...], mixup: float, cutmix: float
) -> None:
    inputs, labels = _batch(shape)
    kinds = [
        kind(alpha=alpha, num_classes=CLASSES)
        for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        if alpha
    ]
    # Its classes take clips only when told that they are; plain tensors must have four axes.
    wrap = v2.functional.to_image if len(shape) == 4 else _as_video
    for seed in range(20):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            chosen = kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)
            wanted, wanted_labels = chosen(wrap(inputs), labels)

        given, given_labels = mixed(
            inputs, labels, mixup=mixup, cutmix=cutmix, num_classes=CLASSES, generator=_seeded(seed)
        )

        assert torch.equal(given, wanted.as_subclass(torch.Tensor))
        assert given_labels.dtype == torch.float32
        assert torch.equal(given_labels, wanted_labels)


def _as_video(inputs: torch.Tensor) -> torch.Tensor:
    from torchvision import tv_tensors

    return tv_tensors.Video(inputs)


def test_labels_keep_their_sum_and_say_what_is_seen() -> None:
    # Each example is one number, its own: a picture then tells by its mean what it was mixed of.
    labels = torch.arange(CLASSES)
    inputs = labels.float()[:, None, None, None].expand(-1, 3, 40, 40)
    for seed in range(10):
        for mixup, cutmix in ((1.0, 0.0), (0.0, 1.0)):
            given, shares = mixed(
                inputs,
                labels,
                mixup=mixup,
                cutmix=cutmix,
                num_classes=CLASSES,
                generator=_seeded(seed),
            )
            np.testing.assert_allclose(shares.sum(dim=1), 1.0, atol=1e-6)
            np.testing.assert_allclose(
                given.mean(dim=(1, 2, 3)), (shares * labels).sum(dim=1), atol=1e-4
            )


def test_several_labels_are_mixed_as_they_stand() -> None:
    inputs, _ = _batch((3, 3, 8, 8))
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])

    given, shares = mixed(
        inputs, labels, mixup=0.4, cutmix=0.0, num_classes=3, generator=_seeded(1)
    )

    kept = float(shares[0, 0])
    assert 0 < kept < 1
    torch.testing.assert_close(shares, kept * labels + (1 - kept) * labels.roll(1, 0))
    torch.testing.assert_close(given, kept * inputs + (1 - kept) * inputs.roll(1, 0))


def test_nothing_is_mixed_or_drawn_without_a_parameter() -> None:
    inputs, labels = _batch((4, 3, 8, 8))
    generator = _seeded(0)
    before = generator.get_state()

    given, shares = mixed(
        inputs, labels, mixup=0.0, cutmix=0.0, num_classes=CLASSES, generator=generator
    )

    assert torch.equal(given, inputs)
    assert torch.equal(shares.argmax(dim=1), labels)
    assert torch.equal(generator.get_state(), before)


def test_the_batch_and_the_global_generator_are_left_as_they_were() -> None:
    inputs, labels = _batch((4, 3, 8, 8))
    kept = inputs.clone()
    before = torch.default_generator.get_state()

    for mixup, cutmix in ((0.3, 0.0), (0.0, 1.0)):
        mixed(
            inputs,
            labels,
            mixup=mixup,
            cutmix=cutmix,
            num_classes=CLASSES,
            generator=_seeded(2),
        )

    assert torch.equal(inputs, kept)
    assert torch.equal(torch.default_generator.get_state(), before)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_parameter_below_nought_is_refused(name: str, value: float) -> None:
    inputs, labels = _batch((2, 3, 8, 8))
    words = {"mixup": 0.0, "cutmix": 0.0, name: value}
    with pytest.raises(RsbenchError, match=rf"^{name} must be a number of at least 0, was"):
        mixed(inputs, labels, **words, num_classes=CLASSES, generator=_seeded(0))


def test_boxes_need_pictures() -> None:
    with pytest.raises(RsbenchError, match=r"^cutmix needs pictures .* shape \(2, 7\)"):
        mixed(
            torch.zeros(2, 7),
            torch.tensor([0, 1]),
            mixup=0.0,
            cutmix=1.0,
            num_classes=2,
            generator=_seeded(0),
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_device_mixes_what_the_cpu_mixes() -> None:
    inputs, labels = _batch((4, 3, 16, 16))
    for words in ({"mixup": 0.3, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}):
        wanted = mixed(inputs, labels, **words, num_classes=CLASSES, generator=_seeded(4))
        given = mixed(
            inputs.cuda(), labels.cuda(), **words, num_classes=CLASSES, generator=_seeded(4)
        )
        for one, other in zip(given, wanted, strict=True):
            assert one.is_cuda
            torch.testing.assert_close(one.cpu(), other)
