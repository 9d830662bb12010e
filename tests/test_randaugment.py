"""RandAugment: its operations against TensorFlow's recorded pixels, and what is drawn."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from parity.augmentation_cases import (
    CORNER,
    SIGNED,
    SMOOTHED_STEP,
    Case,
    cases_of,
    digest_of,
    draw_clips,
)

from rsbench.errors import RsbenchError
from rsbench.media import distortions
from rsbench.media.randaugment import (
    OPERATIONS,
    RULES,
    Layer,
    RuleName,
    apply_layer,
    draw_layers,
    randaugment,
)

# Made by tests/parity/record_augmentation.py with TensorFlow and tf-models-official.
RECORDED = Path(__file__).parent / "parity" / "recorded" / "augmentation.npz"
CLIPS = draw_clips()
PICTURES = ("wide", "square", "tall", "flat")


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED) as arrays:
        return dict(arrays)


def test_other_edges_than_those_of_a_rule_show_no_mirror_image() -> None:
    # A bright left edge: shifted to the right, it would be seen twice in a mirror.
    clip = torch.zeros(3, 2, 40, 40, dtype=torch.uint8)
    clip[..., :4] = 255
    layer = Layer("TranslateX", False, row=0.5, column=0.5)

    mirrored = apply_layer(clip, layer, magnitude=10.0, rule="model_garden")
    grey = apply_layer(clip, layer, magnitude=10.0, rule="model_garden", edges="grey")

    assert int((mirrored[0, 0, 0] == 255).sum()) == 8
    assert int((grey[0, 0, 0] == 255).sum()) == 4
    assert torch.equal(grey[..., :10], torch.full_like(grey[..., :10], distortions.GREY))
    # All that it changes is what lies outside.
    assert torch.equal(grey[..., 10:], mirrored[..., 10:])


def _clip_of(name: str) -> torch.Tensor:
    pixels = CLIPS[name] if CLIPS[name].ndim == 4 else CLIPS[name][None]
    return torch.from_numpy(pixels.transpose(3, 0, 1, 2).copy())


def _distorted(operation: str, case: Case, rule: RuleName) -> np.ndarray:
    """Give (H, W, 3), or (T, H, W, 3) for the clip, as the recorded ones are."""
    clip = _clip_of(case.picture)
    before = clip.clone()
    layer = Layer(operation, case.is_positive, row=case.row, column=case.column)
    given = apply_layer(clip, layer, magnitude=float(case.magnitude), rule=rule)
    assert given.dtype == torch.uint8
    assert torch.equal(clip, before), "left as it was"
    frames_THWC = given.permute(1, 2, 3, 0).numpy()
    return frames_THWC if case.picture == "clip" else frames_THWC[0]


def _assert_equal_to_recorded(
    recorded: dict[str, np.ndarray], operation: str, pictures: tuple[str, ...], rule: RuleName
) -> None:
    cases = list(cases_of(operation, pictures))
    results = [_distorted(operation, case, rule) for case in cases]
    shown = cases.index(Case("wide", 15, True))
    np.testing.assert_array_equal(
        results[shown][-CORNER:, -CORNER:], recorded[f"{rule} {operation} corner"]
    )
    wanted = recorded[f"{rule} {operation} digests"].tolist()
    different = [
        case.name
        for case, result, digest in zip(cases, results, wanted, strict=True)
        if digest_of(result) != digest
    ]
    assert not different


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "Sharpness"])
def test_an_operation_gives_the_pixels_of_the_model_garden(
    recorded: dict[str, np.ndarray], operation: str
) -> None:
    # A cutout of a clip is ours: the official one ends in time (record_augmentation.py).
    pictures = (*PICTURES, "clip") if operation != "Cutout" else PICTURES
    _assert_equal_to_recorded(recorded, operation, pictures, "model_garden")


@pytest.mark.parametrize("operation", [*SIGNED, "Contrast"])
def test_what_the_tpu_code_does_otherwise_gives_its_pixels(
    recorded: dict[str, np.ndarray], operation: str
) -> None:
    _assert_equal_to_recorded(recorded, operation, PICTURES, "tpu")


def test_sharpened_pictures_are_the_model_gardens_but_for_its_rounding(
    recorded: dict[str, np.ndarray],
) -> None:
    rows, columns = SMOOTHED_STEP
    for case in cases_of("Sharpness", ("wide", "clip")):
        given = _distorted("Sharpness", case, "model_garden")[..., ::rows, ::columns, :]
        wanted = recorded[f"model_garden Sharpness {case.name}"]

        difference = np.abs(given.astype(int) - wanted)

        # Its smooth copy is a float sum of 13ths, cut off; ours is the whole number below the sum.
        # Where that is one more, the blend differs by what it goes beyond the original.
        beyond = case.magnitude / 10 * 1.8 + 0.1 - 1
        assert difference.max() <= math.ceil(beyond)
        assert (difference > 0).mean() < 0.01


def test_smooth_copies_are_those_of_pillow_but_for_its_rounding() -> None:
    # PIL.ImageFilter.SMOOTH is the same kernel; it rounds where TensorFlow cuts off.
    from PIL import Image, ImageFilter

    wanted = np.asarray(Image.fromarray(CLIPS["wide"]).filter(ImageFilter.SMOOTH)).astype(int)

    given = distortions.sharpness(_clip_of("wide"), 0.0)[:, 0].permute(1, 2, 0).numpy()

    assert set(np.unique(wanted - given)) <= {0, 1}


def test_operations_are_those_of_the_official_code_in_its_order(
    recorded: dict[str, np.ndarray],
) -> None:
    assert list(OPERATIONS) == recorded["operations"].tolist()


@pytest.mark.parametrize("rule", RULES)
def test_every_operation_is_drawn_as_often_as_the_others(rule: RuleName) -> None:
    # 17 in the Model Garden (maxval=len(available_ops) + 1), 16 in the TPU code.
    num_drawn = 4000
    layers = [
        layer
        for seed in range(num_drawn // 2)
        for layer in draw_layers(2, magnitude=10.0, rule=rule, seed=seed)
    ]
    names = Counter(layer.name for layer in layers)
    expected = set(OPERATIONS) | ({"Identity"} if rule == "model_garden" else set())
    assert set(names) == expected
    # Five deviations of a binomial: a fair draw passes but once in two million.
    share = 1 / len(expected)
    spread = 5 * (num_drawn * share * (1 - share)) ** 0.5
    assert all(abs(count - num_drawn * share) < spread for count in names.values())
    positive = sum(layer.is_positive for layer in layers)
    assert abs(positive - num_drawn / 2) < 5 * (num_drawn / 4) ** 0.5
    for shares in ([layer.row for layer in layers], [layer.column for layer in layers]):
        assert 0 <= min(shares) < 0.01
        assert 0.99 < max(shares) < 1
        assert abs(np.mean(shares) - 0.5) < 5 * (1 / 12 / num_drawn) ** 0.5


def test_a_seed_draws_the_same_for_ever() -> None:
    # The first words of numpy's SeedSequence(7), whose stream is frozen. By hand: of 17 choices it
    # is number 17 x 2083679832 / 2^32 = 8.2 and 17 x 1732601695 / 2^32 = 6.9, from nought; the
    # second word of four says which way, the others where.
    words = [2083679832, 3939563265, 4185785210, 142198000]
    words += [1732601695, 1648004171, 1614310572, 3007594413]

    drawn = draw_layers(2, magnitude=10.0, rule="model_garden", seed=7)

    assert drawn == (
        Layer("Brightness", True, row=words[2] / 2**32, column=words[3] / 2**32),
        Layer("Color", False, row=words[6] / 2**32, column=words[7] / 2**32),
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_frames_that_are_alike_stay_alike(operation: str) -> None:
    clip = _clip_of("wide").expand(-1, 3, -1, -1)
    for case in cases_of(operation, ("wide",)):
        layer = Layer(operation, case.is_positive, row=case.row, column=case.column)
        given = apply_layer(clip, layer, magnitude=float(case.magnitude), rule="model_garden")
        assert torch.equal(given, given[:, :1].expand(-1, 3, -1, -1))


def test_layers_follow_one_another() -> None:
    clip = _clip_of("clip")
    seed = next(
        seed
        for seed in range(1000)
        if [each.name for each in draw_layers(2, magnitude=10.0, rule="tpu", seed=seed)]
        == ["Invert", "Posterize"]
    )

    given = randaugment(clip, num_layers=2, magnitude=10.0, rule="tpu", seed=seed)

    assert torch.equal(given, distortions.posterize(255 - clip, 4))


def test_nothing_but_a_turn_of_a_half_reverses_what_lies_left_and_right() -> None:
    # Columns rise from left to right: so they must after every shift of pixels, edges aside, or a
    # gesture to the left becomes one to the right.
    ramp = torch.arange(0, 240, 4, dtype=torch.uint8).expand(3, 1, 60, 60)
    middle = (slice(None), slice(None), slice(25, 35), slice(20, 40))
    for operation in SIGNED:
        for case in cases_of(operation, ("wide",)):
            for rule in RULES:
                if (operation, rule) == ("TranslateX", "tpu"):
                    continue  # It shifts by as much as the picture is wide.
                layer = Layer(operation, case.is_positive, row=0.5, column=0.5)
                moved = apply_layer(ramp, layer, magnitude=case.magnitude, rule=rule)[middle]
                assert (moved.int().diff(dim=-1) >= 0).all(), (case.name, operation, rule)


def test_no_layers_are_no_change() -> None:
    clip = _clip_of("clip")

    assert torch.equal(
        randaugment(clip, num_layers=0, magnitude=10.0, rule="model_garden", seed=1), clip
    )


def test_more_bits_than_a_byte_has_are_all_of_them() -> None:
    clip = _clip_of("wide")
    layer = Layer("Posterize", True, row=0.5, column=0.5)

    assert torch.equal(apply_layer(clip, layer, magnitude=30.0, rule="model_garden"), clip)


def test_a_picture_of_one_pixel_survives_everything() -> None:
    for height, width in ((1, 1), (1, 5), (2, 2)):
        clip = torch.full((3, 2, height, width), 77, dtype=torch.uint8)
        for operation in OPERATIONS:
            for rule in RULES:
                layer = Layer(operation, True, row=0.5, column=0.5)
                given = apply_layer(clip, layer, magnitude=15.0, rule=rule)
                assert given.shape == clip.shape


@pytest.mark.parametrize("magnitude", [-1.0, 30.5, float("nan")])
def test_a_magnitude_out_of_range_is_refused(magnitude: float) -> None:
    with pytest.raises(
        RsbenchError, match=r"^randaugment_magnitude must be between 0 and 30, was .*10 and 15\.$"
    ):
        draw_layers(2, magnitude=magnitude, rule="model_garden", seed=0)


def test_fewer_layers_than_none_are_refused() -> None:
    with pytest.raises(RsbenchError, match=r"^randaugment_layers must be at least 0, was -1;"):
        draw_layers(-1, magnitude=10.0, rule="model_garden", seed=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_device_gives_the_pixels_of_the_cpu(operation: str) -> None:
    for case in cases_of(operation, ("wide", "clip")):
        layer = Layer(operation, case.is_positive, row=case.row, column=case.column)
        for rule in RULES:
            wanted = apply_layer(_clip_of(case.picture), layer, magnitude=case.magnitude, rule=rule)
            given = apply_layer(
                _clip_of(case.picture).cuda(), layer, magnitude=case.magnitude, rule=rule
            )
            # A product and a sum may be fused there, so that a float is cut off elsewhere.
            torch.testing.assert_close(given.cpu(), wanted, rtol=0, atol=1)
