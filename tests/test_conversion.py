"""Files of other formats and names become safetensors that load as they are, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from weights_world import TINY_2D, TINY_3D, tiny_file, tiny_state, weights

from rsbench.cells import backbones
from rsbench.digests import digest_file
from rsbench.errors import WeightsError
from rsbench.specs import Backbone
from rsbench.weights import shelf
from rsbench.weights.choosing import choose_weights
from rsbench.weights.conversion import convert, convert_known, source_digest
from rsbench.weights.loading import load_network
from rsbench.weights.state import load_state
from rsbench.weights.verification import verify


def from_keras(format: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo what `keras_file` does to names and layouts."""
    if format != "keras-h5":
        raise WeightsError(f"no {format} names are known")
    if any(not name.startswith("tiny/") for name in arrays):
        raise WeightsError("names must begin with tiny/")
    return {
        name.removeprefix("tiny/"): np.moveaxis(array, -1, 0) if array.ndim >= 4 else array
        for name, array in arrays.items()
    }


KERAS_2D = replace(TINY_2D, rename=from_keras)


def keras_file(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """Write what Keras's save_weights writes: lists of names, and kernels with outputs last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t for name, t in state.items() if "num_batches" not in name}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"tiny"]
        group = file.create_group("tiny")
        group.attrs["weight_names"] = [f"tiny/{name}:0".encode() for name in tensors]
        for name, tensor in tensors.items():
            array = tensor.numpy()
            group[f"tiny/{name}:0"] = np.moveaxis(array, 0, -1) if array.ndim >= 4 else array
    return path


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def without_counters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t for name, t in state.items() if "num_batches" not in name}


# -------------------------------------------------------------------------------------- conversions


def test_a_torch_file_becomes_safetensors_that_say_what_they_are(tmp_path: Path) -> None:
    tiny_file(tmp_path / "best.pth", num_classes=7)

    done = convert(tmp_path / "best.pth", TINY_2D, tmp_path / "new" / "best.safetensors")

    assert (done.num_classes, done.num_tensors) == (7, 20)
    assert equal(load_file(done.path), tiny_state(num_classes=7))
    assert shelf.metadata_of(done.path) == {
        "rsbench_backbone": "tiny_2d",
        "source_sha256": digest_file(tmp_path / "best.pth"),
        "source_name": "best.pth",
    }
    assert done.source_sha256 == digest_file(tmp_path / "best.pth")


@pytest.mark.parametrize("num_classes", [None, 1001])
def test_a_keras_file_gets_the_network_s_names_and_layout(
    num_classes: int | None, tmp_path: Path
) -> None:
    state = tiny_state(num_classes=num_classes)
    source = keras_file(tmp_path / "tiny.h5", state)

    done = convert(source, KERAS_2D, tmp_path / "tiny.safetensors")

    assert done.format == "keras-h5"
    # The file says how many classes there are, whatever anybody declares.
    assert done.num_classes == num_classes
    assert equal(load_file(done.path), without_counters(state))


def test_a_checkpoint_of_training_is_unwrapped_on_the_way(tmp_path: Path) -> None:
    state = tiny_state()
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": t for name, t in state.items()}}
    torch.save(wrapped, tmp_path / "last.pth")

    assert equal(
        load_file(convert(tmp_path / "last.pth", TINY_2D, tmp_path / "a.safetensors").path), state
    )


def test_half_precision_stays_as_it_is_and_is_noted(tmp_path: Path) -> None:
    state = {name: t.half() if t.is_floating_point() else t for name, t in tiny_state().items()}
    torch.save(state, tmp_path / "half.pth")

    done = convert(tmp_path / "half.pth", TINY_2D, tmp_path / "half.safetensors")

    assert equal(load_file(done.path), state)
    assert done.notes == ("weights stored as float16, loaded as float32",)
    assert shelf.metadata_of(done.path)["rsbench_notes"] == done.notes[0]


class Tied(nn.Module):
    """Two names for one tensor, which safetensors do not write."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        del num_classes
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    torch.save(Tied(None).state_dict(), tmp_path / "tied.pth")

    done = convert(tmp_path / "tied.pth", replace(TINY_2D, build=Tied), tmp_path / "t.safetensors")

    state = load_file(done.path)
    assert torch.equal(state["first.weight"], state["second.weight"])


def test_what_was_converted_converts_again(tmp_path: Path) -> None:
    tiny_file(tmp_path / "a.pth")
    first = convert(tmp_path / "a.pth", TINY_2D, tmp_path / "a.safetensors")

    second = convert(first.path, TINY_2D, tmp_path / "b.safetensors")

    assert equal(load_file(second.path), load_file(first.path))


def test_options_and_pixels_do_not_enter_the_name_it_is_made_for(tmp_path: Path) -> None:
    tiny_file(tmp_path / "a.pth")
    varied = replace(TINY_2D, name="tiny_2d+dropout=0.5@64")

    done = convert(tmp_path / "a.pth", varied, tmp_path / "a.safetensors")

    assert shelf.metadata_of(done.path)["rsbench_backbone"] == "tiny_2d"


def test_the_digest_of_a_checkpoint_in_parts_is_that_of_all_its_parts(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("model.index", "model.data-00000-of-00001", "other.txt"):
        (folder / name).write_text(name)
    by_prefix, by_folder = source_digest(folder / "model"), source_digest(folder)

    (folder / "model.data-00000-of-00001").write_text("changed")

    assert source_digest(folder / "model") != by_prefix
    assert source_digest(folder) != by_folder


# ---------------------------------------------------------------------------------------- refusals


def refused(source: Path, backbone: Backbone, tmp_path: Path) -> str:
    destination = tmp_path / "refused.safetensors"
    with pytest.raises(WeightsError) as caught:
        convert(source, backbone, destination, candidates=backbones)
    assert "\n" not in str(caught.value)
    assert not destination.exists()
    return str(caught.value)


def test_a_file_of_another_network_names_that_network(tmp_path: Path) -> None:
    tiny_file(tmp_path / "3d.pth", backbone=TINY_3D)

    line = refused(tmp_path / "3d.pth", TINY_2D, tmp_path)

    assert "3d.pth into tiny_2d" in line
    assert line.endswith("it fits tiny_3d: name --backbone tiny_3d, or a file for this one")


def test_a_keras_file_without_a_translation_is_refused(tmp_path: Path) -> None:
    source = keras_file(tmp_path / "tiny.h5", tiny_state())

    assert "tiny_2d does not know the names of keras-h5 files" in refused(source, TINY_2D, tmp_path)


def test_a_keras_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    state = tiny_state()
    del state["stages.1.1.running_mean"]
    source = keras_file(tmp_path / "tiny.h5", state)

    assert "stages.1.1.running_mean" in refused(source, KERAS_2D, tmp_path)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".h5", ".pth"])
def test_a_truncated_file_is_refused(part: float, suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"tiny{suffix}"
    if suffix == ".h5":
        keras_file(source, tiny_state())
    else:
        tiny_file(source)
    content = source.read_bytes()
    source.write_bytes(content[: int(part * len(content))])

    assert str(source) in refused(source, KERAS_2D, tmp_path)


def test_a_pickle_with_code_is_refused_and_has_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": tiny_state(), "extra": Trap()}, tmp_path / "bad.pth")

    assert "could run code" in refused(tmp_path / "bad.pth", TINY_2D, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = tiny_state()
    state["stages.0.1.weight"][3] = torch.nan
    torch.save(state, tmp_path / "nan.pth")

    assert "stages.0.1.weight holds NaN" in refused(tmp_path / "nan.pth", TINY_2D, tmp_path)


# ------------------------------------------------------------------------------------ on the shelf


def test_a_fetched_keras_file_is_converted_beside_it_and_chosen(tmp_path: Path) -> None:
    state = tiny_state(num_classes=1001)
    entry = weights(format="keras-h5", num_classes=None)
    backbone = replace(KERAS_2D, weights=(entry,))
    place = shelf.place_of(backbone, entry, cache_root=tmp_path)
    keras_file(place.raw, state)

    with pytest.raises(WeightsError, match="`rsbench weights convert one --backbone tiny_2d`"):
        choose_weights(backbone, "one", cache_root=tmp_path)
    convert_known(place, backbone)

    chosen = choose_weights(backbone, "one", cache_root=tmp_path)
    loaded = load_network(backbone, chosen, seed=0)
    assert chosen.path == place.converted
    assert chosen.input == entry.input
    assert loaded.module.head.out_features == 1001
    assert equal(without_counters(dict(loaded.module.state_dict())), without_counters(state))


def shelved(tmp_path: Path, **fields: object) -> tuple[Backbone, shelf.Place]:
    """A torch file of tiny_2d on the shelf, converted."""
    entry = weights(**fields)
    backbone = replace(TINY_2D, weights=(entry,))
    place = shelf.place_of(backbone, entry, cache_root=tmp_path)
    tiny_file(place.raw)
    convert_known(place, backbone)
    return backbone, place


def test_a_converted_file_is_as_verified_as_what_it_was_made_of(tmp_path: Path) -> None:
    tiny_file(tmp_path / "one.pth")  # torch.save writes the name into the file
    sha256 = digest_file(tmp_path / "one.pth")
    for declared, verified in ((sha256, True), (sha256[:8], True), (None, False)):
        backbone, place = shelved(tmp_path, sha256=declared)
        place.raw.unlink()
        chosen = choose_weights(backbone, "one", cache_root=tmp_path)

        assert load_network(backbone, chosen, seed=0).weights.verified is verified


def test_a_conversion_of_another_file_than_the_declared_is_refused(tmp_path: Path) -> None:
    backbone, place = shelved(tmp_path)
    other = replace(backbone, weights=(weights(sha256="0" * 64),))

    with pytest.raises(WeightsError, match="made of must have sha256 0000"):
        choose_weights(other, "one", cache_root=tmp_path)
    assert place.converted.is_file()


def test_a_conversion_for_another_network_is_refused(tmp_path: Path) -> None:
    backbone, place = shelved(tmp_path)
    convert(place.raw, replace(TINY_2D, name="tiny_2d_twin"), place.converted)

    with pytest.raises(WeightsError, match="it says tiny_2d_twin: delete it"):
        choose_weights(backbone, "one", cache_root=tmp_path)


def test_a_safetensors_file_that_says_nothing_is_no_conversion(tmp_path: Path) -> None:
    backbone, place = shelved(tmp_path)
    save_file(tiny_state(), place.converted)

    with pytest.raises(WeightsError, match="it says nothing: delete it"):
        choose_weights(backbone, "one", cache_root=tmp_path)


def test_a_raw_file_that_is_not_the_declared_one_is_not_converted(tmp_path: Path) -> None:
    entry = weights(sha256="0" * 64)
    place = shelf.place_of(TINY_2D, entry, cache_root=tmp_path)
    tiny_file(place.raw)

    with pytest.raises(WeightsError, match="must have sha256"):
        convert_known(place, TINY_2D)
    assert not place.converted.exists()


def test_weights_that_are_not_fetched_say_so(tmp_path: Path) -> None:
    place = shelf.place_of(TINY_2D, weights(), cache_root=tmp_path)

    with pytest.raises(WeightsError, match="run `rsbench weights fetch tiny_2d one` first"):
        convert_known(place, TINY_2D)


def test_weights_published_as_safetensors_need_no_conversion(tmp_path: Path) -> None:
    place = shelf.place_of(TINY_2D, weights(format="safetensors"), cache_root=tmp_path)

    with pytest.raises(WeightsError, match="load as they are"):
        convert_known(place, TINY_2D)


def test_a_converted_file_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    tiny_file(tmp_path / "a.pth")
    convert(tmp_path / "a.pth", replace(TINY_2D, name="tiny_2d_twin"), tmp_path / "a.safetensors")
    path = str(tmp_path / "a.safetensors")

    with pytest.raises(WeightsError, match="was converted for tiny_2d_twin"):
        choose_weights(TINY_2D, path, cache_root=tmp_path)
    for name in ("tiny_2d_twin@64", "tiny_2d_twin+dropout=0.5"):
        twin = replace(TINY_2D, name=name)
        assert choose_weights(twin, path, cache_root=tmp_path).path == Path(path)


def test_the_header_is_plain_json_that_other_tools_read(tmp_path: Path) -> None:
    tiny_file(tmp_path / "a.pth")
    content = convert(tmp_path / "a.pth", TINY_2D, tmp_path / "a.safetensors").path.read_bytes()

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["rsbench_backbone"] == "tiny_2d"
    assert equal(load_state(tmp_path / "a.safetensors"), tiny_state())


def test_a_converted_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    backbone, place = shelved(tmp_path)
    content = bytearray(place.converted.read_bytes())
    content[-1] ^= 1
    place.converted.write_bytes(content)

    with pytest.raises(WeightsError, match="it was changed; run `rsbench weights convert one"):
        choose_weights(backbone, "one", cache_root=tmp_path)
    with pytest.raises(WeightsError, match="it was changed"):
        verify(backbone, place)
    convert_known(place, backbone)
    assert choose_weights(backbone, "one", cache_root=tmp_path).path == place.converted


def test_a_conversion_without_a_note_of_it_is_made_again(tmp_path: Path) -> None:
    backbone, place = shelved(tmp_path)
    place.pin.unlink()

    with pytest.raises(WeightsError, match="none is noted there: run `rsbench weights convert"):
        choose_weights(backbone, "one", cache_root=tmp_path)


def test_converting_pins_the_file_that_was_converted(tmp_path: Path) -> None:
    backbone, place = shelved(tmp_path)
    pin = shelf.read_pin(place)
    assert pin is not None
    assert pin.sha256 == digest_file(place.raw)
    assert pin.converted_sha256 == digest_file(place.converted)

    tiny_file(place.raw, seed=1)

    with pytest.raises(WeightsError, match="rsbench weights fetch tiny_2d one --again"):
        verify(backbone, place)


def test_a_raw_file_that_is_cut_short_is_not_called_whole(tmp_path: Path) -> None:
    entry = weights(format="keras-h5")
    backbone = replace(KERAS_2D, weights=(entry,))
    place = shelf.place_of(backbone, entry, cache_root=tmp_path)
    keras_file(place.raw, tiny_state())

    assert "whole, and not converted yet" in verify(backbone, place)
    place.raw.write_bytes(place.raw.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="cut short or damaged"):
        verify(backbone, place)
