"""Any nn.Module as a backbone: what is read off it, what it gives, how its checkpoints load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsbench.adapt import IMAGE_INPUT, VIDEO_INPUT, BareModule, adapt_bare_module
from rsbench.assembly import assemble
from rsbench.cells import RunRequest
from rsbench.data.sample import sample_root
from rsbench.digests import digest_file
from rsbench.errors import PluginError, WeightsError
from rsbench.media.image import read_image
from rsbench.media.transforms import normalise
from rsbench.records import store
from rsbench.registry import find_backbone, find_task
from rsbench.runner import Finished, run
from rsbench.specs import Backbone, InputSpec
from rsbench.view_scores import PROBABILITY_ERROR
from rsbench.weights.choosing import choose_weights

CLASSIFIER = """
import torch
from torch import nn
from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=4), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""


def adapted(build: Any, declared: InputSpec | None = None) -> Backbone:
    return adapt_bare_module(build, name="net:build", origin="net.py", declared=declared)


def small_image_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())


def test_a_module_of_2d_convolutions_sees_pictures() -> None:
    backbone = adapted(small_image_network)

    assert (backbone.modality, backbone.input) == ("image", IMAGE_INPUT)
    assert backbone.feature_width == 4
    # Kernels of 3 x 3 from 3 to 4 channels, and 4 biases.
    assert backbone.num_parameters == 3 * 3 * 3 * 4 + 4
    assert backbone.weights == ()


def test_a_module_of_3d_convolutions_sees_clips() -> None:
    backbone = adapted(lambda: nn.Conv3d(3, 2, 1, stride=8))

    assert (backbone.modality, backbone.input) == ("video", VIDEO_INPUT)
    assert backbone.feature_width == 2


def test_a_module_without_convolutions_sees_pictures() -> None:
    backbone = adapted(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()))

    assert (backbone.modality, backbone.feature_width) == ("image", 12)


@pytest.mark.parametrize(("frames", "modality"), [(1, "image"), (8, "video")])
def test_a_declared_input_says_what_is_seen(frames: int, modality: str) -> None:
    declared = InputSpec(pixels=40, frames=frames, stride=2)

    backbone = adapted(lambda: nn.Flatten(start_dim=1), declared)

    assert (backbone.modality, backbone.input) == (modality, declared)
    assert backbone.feature_width == 3 * 40 * 40 * frames


def test_describing_a_module_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)

    adapted(small_image_network)

    assert torch.equal(torch.rand(3), expected)


def test_maps_are_averaged_over_space_and_time_and_vectors_stay() -> None:
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)

    # By hand: the means of 0..11 and 12..23.
    assert BareModule(nn.Identity())(maps).tolist() == [[5.5, 17.5]]
    assert BareModule(nn.Identity())(maps[:, :, None]).tolist() == [[5.5, 17.5]]
    assert torch.equal(BareModule(nn.Identity())(maps[0, 0]), maps[0, 0])


def test_the_output_is_its_only_stage_map() -> None:
    network = small_image_network().eval()
    batch = torch.rand(2, 3, 16, 16)

    maps = BareModule(network).stage_maps(batch)

    assert list(maps) == ["output"]
    assert torch.equal(maps["output"], network(batch))


def test_the_parameters_keep_their_own_names_also_inside_another_module() -> None:
    network = small_image_network()

    assert list(BareModule(network).state_dict()) == ["0.weight", "0.bias"]
    assert list(nn.Sequential(BareModule(network)).state_dict()) == ["0.0.weight", "0.0.bias"]


def test_a_state_loads_by_the_modules_own_names() -> None:
    source, target = small_image_network(), BareModule(small_image_network())

    target.load_state_dict(source.state_dict())

    assert torch.equal(target.body[0].weight, source[0].weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        target.load_state_dict({"0.weight": source[0].weight})


def takes_an_argument(width: int) -> nn.Module:
    return nn.Linear(width, width)


def gives_a_class() -> type:
    return nn.Linear


def trips() -> nn.Module:
    return nn.Linear(*([3] / 2))  # type: ignore[operator]  # the fault is the point


def looks_for_a_file() -> nn.Module:
    raise FileNotFoundError("no checkpoint.pth here")


class Asserts(nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        raise AssertionError  # what `assert` without a message comes to


class GivesADict(nn.Module):
    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": batch}


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (takes_an_argument, "must take no argument: missing a required argument: 'width'"),
        (gives_a_class, "must return a torch.nn.Module; it returned a type"),
        (trips, "must return a module, and raised TypeError: unsupported operand"),
        (looks_for_a_file, "raised FileNotFoundError: no checkpoint.pth here"),
        (small_image_network(), "must name a function that returns the module, and names a Seq"),
        (lambda: nn.Conv2d(5, 4, 3), "can't read image batches (1, 3, 224, 224): Given groups=1"),
        (Asserts, "can't read image batches (1, 3, 224, 224): AssertionError"),
        (GivesADict, "must return a tensor (N, D) or a map (N, D, ...); it returned a dict"),
        (lambda: nn.Flatten(0), "it returned a tensor (150528,)"),
    ],
)
def test_what_is_no_backbone_is_one_line_that_names_the_file(build: Any, cause: str) -> None:
    with pytest.raises(PluginError) as caught:
        adapted(build)

    message = str(caught.value)
    assert message.startswith("net.py: ")
    assert cause in message
    assert "\n" not in message


def assembled(backbone: Backbone, weights: str = "none") -> Any:
    return assemble(
        backbone,
        choose_weights(backbone, weights, cache_root=Path()),
        input=backbone.input,
        task_modality=backbone.modality,
        seed=0,
        device="cpu",
        built_in=False,
    )


def test_a_network_of_one_size_only_is_assembled() -> None:
    # A flattened map ties the classifier to 72 pixels, more than the probe input has.
    backbone = adapted(
        lambda: nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.Flatten(), nn.Linear(162, 5)),
        InputSpec(pixels=72),
    )

    done = assembled(backbone)

    assert done.model.feature_width == 5
    # By hand: 81 cells x kernels of 8 x 8 x 3 to 2 channels, then 162 x 5.
    assert done.macs_per_view == 81 * 8 * 8 * 3 * 2 + 162 * 5


class Graded(nn.Module):
    """Reads values while it is built, as schedules of drop rates do."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.layer(batch)
        return maps


def test_a_network_that_reads_values_while_it_is_built_loads_its_weights(tmp_path: Path) -> None:
    torch.save(Graded().state_dict(), tmp_path / "best.pth")

    done = assembled(adapted(Graded, InputSpec(pixels=16)), str(tmp_path / "best.pth"))

    assert (done.weights.name, done.weights.init_seed) == ("best.pth", None)
    # By hand: 14 x 14 places x kernels of 3 x 3 x 3 to 4 channels, counted in a real pass.
    assert done.macs_per_view == 14 * 14 * 27 * 4


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")

    with pytest.raises(WeightsError, match=r"0\.weight") as caught:
        assembled(adapted(small_image_network), str(tmp_path / "other.pth"))

    assert "\n" not in str(caught.value)


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(CLASSIFIER)
    return path


def save_checkpoint(path: Path, network_file: Path, *, seed: int) -> nn.Module:
    """Save as a distributed training program does: wrapped, and with "module." before the names."""
    torch.manual_seed(seed)
    body = find_backbone(f"{network_file}:build").spec.build(None).eval()
    state = {f"module.{name}": value for name, value in body.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, path)
    return body


def evaluate(network_file: Path, weights: str, *, results: Path, cache: Path) -> Finished:
    return run(
        RunRequest(
            task="folder@sample",
            backbone=f"{network_file}:build",
            protocol="evaluate",
            weights=weights,
            results=results,
            cache_root=cache,
        )
    )


def test_a_trained_classifier_is_evaluated_by_its_own_output(
    tmp_path: Path, network_file: Path, session_cache: Path
) -> None:
    network = save_checkpoint(tmp_path / "best.pth", network_file, seed=1)

    finished = evaluate(
        network_file, str(tmp_path / "best.pth"), results=tmp_path / "results", cache=session_cache
    )

    table = store.read_predictions(finished.path)
    root = sample_root(find_task("folder").spec, session_cache)
    spec = InputSpec(pixels=64, mean=(0.5,) * 3, std=(0.25,) * 3)
    for name, said in zip(table.ids, table.predictions, strict=True):
        picture = torch.from_numpy(read_image(root / name)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            expected = network(normalise(picture, spec)).softmax(dim=1)[0].numpy()
        np.testing.assert_allclose(said, expected, atol=PROBABILITY_ERROR)


def test_the_record_of_a_file_has_its_sha256_and_its_weights(
    tmp_path: Path, network_file: Path, session_cache: Path
) -> None:
    save_checkpoint(tmp_path / "best.pth", network_file, seed=1)

    record = evaluate(
        network_file, str(tmp_path / "best.pth"), results=tmp_path / "results", cache=session_cache
    ).record

    assert record.backbone.name == "net:build"
    assert record.backbone.source_sha256 == digest_file(network_file)
    assert (record.weights.name, record.weights.verified) == ("best.pth", False)
    assert record.backbone.mean == (0.5, 0.5, 0.5)
    assert record.data.num_expected == record.data.num_evaluated == 40


def test_other_weights_under_the_same_file_name_are_another_run(
    tmp_path: Path, network_file: Path, session_cache: Path
) -> None:
    keys, reused = set(), []
    for seed in (1, 2, 2):
        save_checkpoint(tmp_path / "best.pth", network_file, seed=seed)
        finished = evaluate(
            network_file,
            str(tmp_path / "best.pth"),
            results=tmp_path / "results",
            cache=session_cache,
        )
        keys.add(finished.record.key)
        reused.append(finished.reused)

    assert len(keys) == 2
    assert reused == [False, False, True]
