"""Whose a file is: names, shapes and the width of the head, compared without computing anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from weights_world import TINY_2D, TINY_3D, tiny_state

from rsbench.cells import backbones
from rsbench.errors import WeightsError
from rsbench.registry import find_backbone
from rsbench.specs import Backbone
from rsbench.weights.fitting import (
    Tensors,
    fits,
    fitting_network,
    has_names_of,
    head_width,
    hold_to_outline,
    name_tensors,
    outline,
    read_tensors,
    shapes_of,
)


def shapes_from(name: str, num_classes: int | None = 1000) -> dict[str, tuple[int, ...]]:
    """What a file of this backbone holds, without building it for real."""
    with torch.device("meta"):
        return shapes_of(find_backbone(name).spec.build(num_classes).state_dict())


class ConvolutionalHead(nn.Module):
    """A network whose classifier is a convolution, as X3D's and Slow's are."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.body = nn.Conv3d(3, 8, 3)
        self.head = None if num_classes is None else nn.Conv3d(8, num_classes, 1)


class Careful(nn.Module):
    """Reads values while it is built, so that the meta device can't build it."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        self.body = nn.Conv2d(3, 8, 3)
        self.head = None if num_classes is None else nn.Linear(8, num_classes)


# ---------------------------------------------------------------------------------------- the head


@pytest.mark.parametrize("num_classes", [None, 1, 400, 1000, 1001])
def test_the_width_of_the_head_is_read_off_the_file(num_classes: int | None) -> None:
    assert head_width(TINY_2D, shapes_of(tiny_state(num_classes=num_classes))) == num_classes


@pytest.mark.parametrize("build", [ConvolutionalHead, Careful])
def test_a_head_of_any_form_has_its_width_read(build: type[nn.Module]) -> None:
    backbone = replace(TINY_2D, build=build)

    assert head_width(backbone, shapes_of(build(17).state_dict())) == 17
    assert head_width(backbone, shapes_of(build(None).state_dict())) is None


def test_a_network_that_reads_values_while_it_is_built_disturbs_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)

    torch.manual_seed(0)
    found = outline(Careful, 5)

    assert torch.equal(torch.rand(3), expected)
    assert {tensor.device.type for tensor in found.values()} == {"meta"}


def test_an_outline_is_made_once() -> None:
    built = []

    def build(num_classes: int | None) -> nn.Module:
        built.append(num_classes)
        return Careful(num_classes)

    assert outline(build, 5) is outline(build, 5)
    assert built == [5, 5]  # on the meta device, then for real


# --------------------------------------------------------------------------------------- own names


def test_the_network_s_own_names_are_known_with_and_without_head_and_counters() -> None:
    for num_classes in (None, 9):
        state = tiny_state(num_classes=num_classes)
        assert has_names_of(TINY_2D, state)
        assert has_names_of(TINY_2D, [name for name in state if "num_batches" not in name])
    assert not has_names_of(TINY_2D, [*tiny_state(), "more"])
    assert not has_names_of(TINY_2D, [*tiny_state()][1:])


def test_equal_names_of_other_shapes_do_not_fit() -> None:
    assert fits(TINY_2D, shapes_of(tiny_state()))
    assert not fits(TINY_2D, shapes_of(tiny_state(backbone=TINY_3D)))


# ----------------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize(
    ("file", "put_into"),
    [
        ("resnet_rs_101", "resnet_rs_50"),
        ("resnet_rs_50", "resnet_rs_garden_50"),
        ("resnet_rs_garden_50", "resnet_rs_50"),
        ("resnet_rs_3d_50", "resnet_rs_50"),
        ("torchvision/resnet50", "resnet_rs_50"),
        ("torchvision/r3d_18", "resnet_rs_3d_50"),
    ],
)
@pytest.mark.parametrize("num_classes", [None, 51])
def test_a_file_names_the_network_it_fits(
    file: str, put_into: str, num_classes: int | None
) -> None:
    tensors = shapes_from(file, num_classes)

    assert not fits(find_backbone(put_into).spec, tensors)
    assert fitting_network(tensors, backbones(), instead_of=put_into) == file


def test_of_two_that_fit_the_nearer_name_is_given() -> None:
    twins = [replace(TINY_2D, name=name) for name in ("other_net", "tiny_2d_b", "zoo")]

    assert fitting_network(shapes_of(tiny_state()), twins, instead_of="tiny_2d_a") == "tiny_2d_b"


def test_a_file_that_fits_nothing_names_nothing() -> None:
    tensors = shapes_of(tiny_state()) | {"more": (3,)}

    assert fitting_network(tensors, backbones(), instead_of="resnet_rs_50") is None
    assert fitting_network({}, backbones(), instead_of="resnet_rs_50") is None


def test_a_network_that_can_not_be_built_is_passed_over() -> None:
    def broken(num_classes: int | None) -> nn.Module:
        raise ImportError("no such library")

    candidates = [replace(TINY_2D, name="tiny_2d_x", build=broken), TINY_2D]

    assert fitting_network(shapes_of(tiny_state()), candidates, instead_of="tiny_2d_xy") == (
        "tiny_2d"
    )


def test_networks_of_another_size_are_not_even_built() -> None:
    def never(num_classes: int | None) -> nn.Module:
        raise AssertionError("built")

    big = replace(TINY_2D, name="tiny_2d_big", build=never, num_parameters=100_000_000)

    assert fitting_network(shapes_of(tiny_state()), [big], instead_of="x") is None


# ------------------------------------------------------------------------------------- other names


def spelled_otherwise(format: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names "other/X", kernels with their outputs last: for any format."""
    if not all(name.startswith("other/") for name in arrays):
        raise WeightsError(f"these {format} names are not those of tiny_2d")
    return {
        name.removeprefix("other/"): np.moveaxis(array, -1, 0) if array.ndim == 4 else array
        for name, array in arrays.items()
    }


KNOWING = replace(TINY_2D, rename=spelled_otherwise)


def otherwise(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        f"other/{name}": tensor.movedim(0, -1) if tensor.ndim == 4 else tensor
        for name, tensor in state.items()
    }


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("format", ["torch", "tf1", "keras-h5"])
def test_other_names_are_translated_by_the_network(format: str) -> None:
    state = tiny_state(num_classes=5)

    found = name_tensors(KNOWING, otherwise(state), name="f", format=format)

    assert equal(dict(found.state), state)
    assert found.num_classes == 5
    assert found.state["stages.0.1.num_batches_tracked"].ndim == 0


def test_own_names_are_left_alone_in_a_torch_file_and_never_in_a_foreign_one() -> None:
    state = tiny_state()

    assert equal(dict(name_tensors(KNOWING, state, name="f").state), state)
    with pytest.raises(WeightsError, match="these tf1 names are not"):
        name_tensors(KNOWING, state, name="f", format="tf1")


def test_names_that_nobody_knows_are_left_for_the_explanation() -> None:
    strange = {f"strange.{name}": tensor for name, tensor in tiny_state().items()}

    with pytest.raises(WeightsError, match=r"strange\.stages\.0\.0\.weight"):
        hold_to_outline(KNOWING, name_tensors(KNOWING, strange, name="f"), name="f")


def test_a_network_without_translation_refuses_foreign_files() -> None:
    with pytest.raises(WeightsError, match="tiny_2d does not know the names of tf2 files"):
        name_tensors(TINY_2D, tiny_state(), name="f", format="tf2")


def test_a_foreign_file_of_another_network_names_that_network() -> None:
    def other(format: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise WeightsError("not mine")

    asked = replace(TINY_2D, name="tiny_2d_b", rename=other)

    with pytest.raises(WeightsError, match="not mine: it fits tiny_2d: name --backbone tiny_2d"):
        name_tensors(
            asked, otherwise(tiny_state()), name="f", format="tf1", candidates=lambda: [KNOWING]
        )


def test_bfloat16_passes_through_a_translation_and_is_noted() -> None:
    state = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tiny_state().items()}

    found = name_tensors(KNOWING, otherwise(state), name="f")

    assert found.notes == ("weights stored as bfloat16, loaded as float32",)
    assert torch.equal(found.state["head.weight"], state["head.weight"].float())


@pytest.mark.parametrize("asked", [TINY_2D, replace(TINY_2D, name="tiny_2d_b")])
def test_what_does_not_fit_is_told_with_its_keys_and_its_network(asked: Backbone) -> None:
    state = tiny_state(backbone=TINY_3D)
    tensors = Tensors(state=state, num_classes=3)

    with pytest.raises(WeightsError) as caught:
        hold_to_outline(asked, tensors, name="f.pth", candidates=backbones)

    message = str(caught.value)
    assert "stages.0.0.weight is (8, 3, 3, 3), in the file (8, 3, 3, 3, 3)" in message
    assert message.endswith(": it fits tiny_3d: name --backbone tiny_3d, or a file for this one")
    assert "\n" not in message


# ------------------------------------------------------------- what stands before a network's names


class Wrapped(nn.Module):
    """A network whose own names begin as DistributedDataParallel's do."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 8, 3)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "net."])
def test_a_network_whose_names_begin_with_module_takes_its_own_file(tmp_path, prefix: str) -> None:
    state = Wrapped(None).state_dict()
    path = tmp_path / "net.pth"
    torch.save({f"{prefix}{name}": tensor for name, tensor in state.items()}, path)

    found = read_tensors(replace(TINY_2D, build=Wrapped), path)

    assert equal(dict(found.state), dict(state))


@pytest.mark.parametrize("prefix", ["model.", "net.body.", "module.model.", "_orig_mod.module."])
def test_one_common_prefix_is_taken_off_where_the_names_then_fit(tmp_path, prefix: str) -> None:
    state = tiny_state()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"{prefix}{name}": t for name, t in state.items()}}, path)

    found = read_tensors(TINY_2D, path)

    assert equal(dict(found.state), state)
    assert found.notes == ()


def test_a_prefix_of_a_stranger_is_left_for_the_explanation(tmp_path) -> None:
    torch.save({f"model.{name}": tensor for name, tensor in tiny_state().items()}, tmp_path / "f")

    found = read_tensors(replace(TINY_2D, build=Careful), tmp_path / "f")

    assert all(name.startswith("model.") for name in found.state)


def test_an_averaged_model_of_torch_is_taken_and_noted(tmp_path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(TINY_2D.build(3))
    torch.save(averaged.state_dict(), tmp_path / "f.pth")

    found = read_tensors(TINY_2D, tmp_path / "f.pth")

    assert equal(dict(found.state), averaged.module.state_dict())
    assert found.notes == ("moving average taken (AveragedModel)",)


def test_the_notes_of_a_checkpoint_are_passed_on(tmp_path) -> None:
    torch.save({"model": tiny_state(0), "ema": tiny_state(1)}, tmp_path / "f.pth")

    assert read_tensors(TINY_2D, tmp_path / "f.pth").notes == ("moving average taken (ema)",)


# -------------------------------------------------------------------------- marks of equal networks


def test_an_unmarked_file_is_not_given_to_the_unmarked_network() -> None:
    asked = find_backbone("resnet_rs_garden_50").spec
    with torch.device("meta"):
        state = find_backbone("resnet_rs_50").spec.build(None).state_dict()

    with pytest.raises(WeightsError, match="does not say which of the two") as caught:
        hold_to_outline(
            asked, Tensors(state=state, num_classes=None), name="f", candidates=backbones
        )

    message = str(caught.value)
    assert "resnet_rs_garden_50 and resnet_rs_50 have the same tensors" in message
    assert "if as the latter, it fits resnet_rs_50" in message
    assert "if as the former, add model_garden to it" in message


def test_a_marked_file_names_its_network() -> None:
    asked = find_backbone("resnet_rs_50").spec
    with torch.device("meta"):
        state = find_backbone("resnet_rs_garden_50").spec.build(None).state_dict()

    with pytest.raises(WeightsError, match="it fits resnet_rs_garden_50: name"):
        hold_to_outline(
            asked, Tensors(state=state, num_classes=None), name="f", candidates=backbones
        )
