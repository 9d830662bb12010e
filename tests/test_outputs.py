"""What is kept of a view: features, logits, pooled stages and tokens, against sums written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rsbench_backbones.tiny import BACKBONES
from safetensors.numpy import load_file
from small_world import (
    PIXELS,
    broken_item,
    image_reading,
    model,
    pictures,
    settings,
    video_reading,
)
from torch import nn

from rsbench.adapt import BareModule
from rsbench.assembly import assemble
from rsbench.data import assembling, outputs
from rsbench.data.features import extract, extraction_bytes
from rsbench.data.loaders import read_views
from rsbench.data.rows import ShardRows
from rsbench.data.shards import ShardStore
from rsbench.errors import RsbenchError, RunError
from rsbench.lifting import lift
from rsbench.media.transforms import normalise
from rsbench.specs import Item, Model, Output, Reading
from rsbench.weights.choosing import choose_weights

TINY_2D, TINY_3D = BACKBONES
READING = replace(image_reading(), input=replace(image_reading().input, pixels=PIXELS))


def network(spec=TINY_2D) -> nn.Module:
    torch.manual_seed(0)
    return spec.build(None).eval()


def given(module: nn.Module, width: int = 32) -> Model:
    return replace(model(module), feature_width=width)


def shown(items: tuple[Item, ...], reading: Reading) -> torch.Tensor:
    """What the network is shown of each item's one view."""
    return torch.stack([normalise(read_views(item, reading), reading.input)[0] for item in items])


@torch.inference_mode()
def maps_of(module: nn.Module, items: tuple[Item, ...], reading: Reading) -> list[np.ndarray]:
    return [each.numpy() for each in module.stage_maps(shown(items, reading)).values()]


class Normed(nn.Module):
    """Features are not the average of the last map: a norm comes between, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = network()
        self.norm = nn.LayerNorm(32)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.norm(self.inside(batch))

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.inside.stage_maps(batch)


class TwoPathways(nn.Module):
    """Maps named as SlowFast's, and features that are both last maps' averages."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        maps = self.stage_maps(batch)
        return torch.cat([maps["slow_c5"].mean((2, 3)), maps["fast_c5"].mean((2, 3))], dim=1)

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        half = nn.functional.avg_pool2d(batch, 2)
        quarter = nn.functional.avg_pool2d(half, 2)
        return {"fast_c4": half, "slow_c4": 2 * half, "fast_c5": quarter, "slow_c5": 3 * quarter}


def test_stages_are_the_average_of_the_last_map_but_one_and_then_of_the_last(
    tmp_path: Path,
) -> None:
    items, _ = pictures(5)
    found = extract(given(network()), items, READING, settings(tmp_path), output="stages")

    *_, former, last = maps_of(network(), items, READING)
    expected = np.concatenate([former.mean(axis=(2, 3)), last.mean(axis=(2, 3))], axis=1)
    assert found.values.shape == (5, 1, 16 + 32)
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("build", [network, Normed], ids=["averaged", "normed"])
def test_the_last_columns_of_stages_are_the_features(tmp_path: Path, build) -> None:
    items, _ = pictures(5)
    torch.manual_seed(1)
    module = build().eval()
    # Three batches: what the first one shows of the network serves the others.
    machine = settings(tmp_path, batch_size=2)
    stages = extract(given(module), items, READING, machine, output="stages")
    features = extract(given(module), items, READING, machine, output="features")

    np.testing.assert_allclose(stages.values[..., -32:], features.values, atol=1e-6)
    assert np.ptp(features.values) > 0.01


def test_the_two_pathways_of_a_stage_are_one_stage(tmp_path: Path) -> None:
    items, _ = pictures(3)
    found = extract(given(TwoPathways(), 6), items, READING, settings(tmp_path), output="stages")

    means = shown(items, READING).mean((2, 3)).numpy()
    expected = np.concatenate([means, 2 * means, 3 * means, means], axis=1)
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-6)


def test_tokens_are_the_last_map_position_by_position(tmp_path: Path) -> None:
    items, _ = pictures(4)
    reading = replace(READING, input=replace(READING.input, pixels=32))
    found = extract(given(network()), items, reading, settings(tmp_path), output="tokens")

    last = maps_of(network(), items, reading)[-1]
    assert last.shape == (4, 32, 4, 4)
    assert found.values.shape == (4, 1, 16, 32)
    for row in range(4):
        for column in range(4):
            np.testing.assert_allclose(
                found.values[:, 0, 4 * row + column], last[:, :, row, column], atol=1e-6
            )


def _clips() -> tuple[Item, ...]:
    generator = np.random.default_rng(0)
    return tuple(
        Item(id=str(each), source=generator.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
        for each in range(3)
    )


def _video_reading() -> Reading:
    reading = video_reading(clips=2)
    return replace(reading, input=replace(reading.input, pixels=32))


def test_an_image_network_s_outputs_of_a_clip_are_averaged_or_in_order_of_frames(
    tmp_path: Path,
) -> None:
    lifted, _ = lift(network(), backbone_modality="image", task_modality="video")
    items, reading = _clips(), _video_reading()

    stages = extract(given(lifted), items, reading, settings(tmp_path), output="stages")
    tokens = extract(given(lifted), items, reading, settings(tmp_path), output="tokens")

    assert stages.values.shape == (3, 2, 48)
    assert tokens.values.shape == (3, 2, 4 * 16, 32)
    views = [normalise(read_views(item, reading), reading.input) for item in items]
    with torch.inference_mode():
        for number, views_VCTHW in enumerate(views):
            for view in range(2):
                frames_TCHW = views_VCTHW[view].transpose(0, 1)
                maps = [network().stage_maps(frame[None]) for frame in frames_TCHW]
                former = torch.stack([each["s2"][0].mean((1, 2)) for each in maps]).mean(0)
                np.testing.assert_allclose(stages.values[number, view, :16], former, atol=1e-5)
                for frame, each in enumerate(maps):
                    np.testing.assert_allclose(
                        tokens.values[number, view, 16 * frame + 5],
                        each["s3"][0, :, 1, 1],
                        atol=1e-5,
                    )


def test_a_video_network_s_tokens_are_frame_by_frame(tmp_path: Path) -> None:
    items, reading = _clips(), _video_reading()
    found = extract(given(network(TINY_3D)), items, reading, settings(tmp_path), output="tokens")

    with torch.inference_mode():
        views = normalise(read_views(items[1], reading), reading.input)
        last = network(TINY_3D).stage_maps(views)["s3"].numpy()
    _, width, frames, height, columns = last.shape
    assert found.values.shape == (3, 2, frames * height * columns, width)
    expected = last.reshape(2, width, -1).transpose(0, 2, 1)
    np.testing.assert_allclose(found.values[1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "output", "told"),
    [
        (nn.Conv2d(3, 32, 3), "stages", "two stage maps or more, and this one has 1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 32)), "tokens", r"'output' as \(2, 32\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 32)), "stages", r"'output' as \(2, 32\)"),
    ],
)
def test_a_network_whose_maps_cannot_serve_is_named_in_one_line(
    tmp_path: Path, body: nn.Module, output: Output, told: str
) -> None:
    with pytest.raises(RsbenchError, match=told) as caught:
        extract(
            given(BareModule(body).eval()),
            pictures(2)[0],
            READING,
            settings(tmp_path),
            output=output,
        )
    assert "\n" not in str(caught.value)
    assert "linear_probe" in str(caught.value)


def test_outputs_of_one_network_do_not_meet_in_the_cache(tmp_path: Path) -> None:
    items, _ = pictures(3)
    outputs: tuple[Output, ...] = ("features", "stages", "tokens")
    first = {
        output: extract(given(network()), items, READING, settings(tmp_path), output=output)
        for output in outputs
    }
    for output, found in first.items():
        again = extract(given(Normed()), items, READING, settings(tmp_path), output=output)
        np.testing.assert_array_equal(again.values, found.values)


@pytest.mark.parametrize("output", ["stages", "tokens"])
def test_other_maps_of_the_same_features_do_not_meet_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    items, _ = pictures(3)

    def found() -> np.ndarray:
        assembled = assemble(
            TINY_2D,
            choose_weights(TINY_2D, "none", cache_root=tmp_path),
            input=READING.input,
            task_modality="image",
            seed=0,
            device="cpu",
            built_in=True,
        )
        extracted = extract(assembled.model, items, READING, settings(tmp_path), output=output)
        return np.array(extracted.values)

    first = found()
    kind = type(TINY_2D.build(None))
    before = kind.stage_maps
    monkeypatch.setattr(
        kind,
        "stage_maps",
        lambda self, batch: {name: 2 * each for name, each in before(self, batch).items()},
    )
    changed = found()

    width = 32 if output == "stages" else 0  # The last columns are the features, as they were.
    end = first.shape[-1] - width
    np.testing.assert_allclose(changed[..., :end], 2 * first[..., :end], rtol=1e-6)


@pytest.mark.parametrize("output", ["features", "logits"])
def test_maps_are_digested_only_where_they_are_kept(tmp_path: Path, output: Output) -> None:
    def refuse() -> str:
        raise AssertionError("nobody asked for maps")

    items, _ = pictures(1)
    asked = replace(given(network()), maps_digest=refuse, head=nn.Linear(32, 2).eval())

    extract(asked, items, READING, settings(tmp_path), output=output)


def test_tokens_of_an_item_that_fails_are_nan_and_where_all_fail_there_is_no_width(
    tmp_path: Path,
) -> None:
    items = [*pictures(2)[0], broken_item()]
    found = extract(given(network()), items, READING, settings(tmp_path), output="tokens")
    nothing = extract(given(network()), items[2:], READING, settings(tmp_path), output="tokens")

    assert np.isnan(found.values[2]).all()
    assert np.isfinite(found.values[:2]).all()
    assert nothing.values.shape == (1, 1, 0, 0)


def test_what_is_larger_than_memory_may_hold_is_read_from_the_shards_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [*pictures(40)[0], broken_item()]
    rows = [40, 3, 17, 5]
    plain = extract(given(network()), items, READING, settings(tmp_path), output="tokens")
    monkeypatch.setattr(assembling, "LARGEST_IN_MEMORY_BYTES", 100)
    before = _files(tmp_path / "cache")
    by_row = extract(
        given(network()), items, READING, settings(tmp_path), output="tokens", rows=rows
    )

    values = by_row.values
    assert isinstance(plain.values, np.ndarray)
    assert isinstance(values, ShardRows)
    assert (values.shape, values.nbytes) == ((4, *plain.values.shape[1:]), by_row.num_bytes)
    for some in (slice(None), [3, 0, 3], [], -1, 2, np.array([1, 2])):
        np.testing.assert_array_equal(values[some], plain.values[rows][some])
    np.testing.assert_array_equal(np.stack(list(values)), plain.values[rows])
    np.testing.assert_array_equal(np.asarray(values), plain.values[rows])
    # What was there was not written again.
    assert _files(tmp_path / "cache") == before


def test_shards_are_mapped_where_they_lie(tmp_path: Path) -> None:
    extract(given(network()), pictures(3)[0], READING, settings(tmp_path), output="tokens")
    (path,) = (tmp_path / "cache" / "shards").rglob("*.safetensors")
    store = ShardStore(tmp_path / "cache" / "shards")
    shard = store.load(path.stem)
    assert shard is not None
    expected = load_file(path)["values"]
    for values in (shard.values, store.mapped(path.stem)):
        np.testing.assert_array_equal(values, expected)
        assert isinstance(values.base, np.memmap)
        assert not values.flags.writeable


def test_a_shard_that_is_removed_while_it_is_needed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembling, "LARGEST_IN_MEMORY_BYTES", 100)
    found = extract(given(network()), pictures(3)[0], READING, settings(tmp_path), output="tokens")
    (path,) = (tmp_path / "cache" / "shards").rglob("*.safetensors")
    path.unlink()

    with pytest.raises(RunError, match="let rsbench cache gc wait until it has ended") as caught:
        found.values[[0]]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_memory_can_not_hold_at_once_is_one_line(tmp_path: Path) -> None:
    nowhere = np.full(4, -1)
    rows = ShardRows(ShardStore(tmp_path), [], part_N=nowhere, entry_N=nowhere, shape=(4, 1, 2**50))

    with pytest.raises(RunError, match=r"Outputs of 4 items must be .* 18,014,398,509,481,984"):
        np.asarray(rows)


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Give what lies in a folder, with inodes and times of change."""
    files = [path for path in folder.rglob("*.safetensors") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_the_foretold_bytes_of_tokens_are_those_on_disk(tmp_path: Path) -> None:
    items, _ = pictures(70)
    extract(given(network()), items, READING, settings(tmp_path), output="tokens")

    on_disk = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.safetensors"))
    foretold = extraction_bytes(70, READING, settings(tmp_path), width=32, output="tokens")
    assert on_disk == pytest.approx(foretold, rel=0.1)


@pytest.mark.parametrize("emulated", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_precision_that_the_cpu_has_not_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, emulated: bool
) -> None:
    monkeypatch.setattr(outputs, "_is_emulated", lambda asked: emulated)
    lines: list[str] = []
    machine = settings(tmp_path, precision=precision, say=lines.append)
    for _ in range(2):  # the second time nothing is computed
        extract(given(network()), pictures(2)[0], READING, machine, output="features")

    said = [line for line in lines if "emulated on this CPU" in line]
    assert len(said) == (precision == "bf16" and emulated)
