"""Extraction: each item once, frozen, cached by content, and going on after any interruption."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import (
    INPUT,
    PIXELS,
    Quarters,
    broken_item,
    image_reading,
    model,
    pictures,
    settings,
    video_reading,
)
from torch import nn

from rsbench import atomic
from rsbench.data import computing
from rsbench.data.features import Extracted, extract, extraction_bytes
from rsbench.data.loaders import read_views
from rsbench.data.shards import Shard, ShardStore
from rsbench.errors import RunError
from rsbench.media.image import write_image
from rsbench.media.transforms import normalise
from rsbench.specs import Item, MediaFacts, Reading

FACTS = MediaFacts(num_frames=1, fps=0.0, height=8, width=9)


pytestmark = pytest.mark.usefixtures("one_thread")


def _shard_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "shards").rglob("*.safetensors"))


def _quarters_by_hand(item: Item) -> np.ndarray:
    """Mean of each channel's quarters, normalised: what `Quarters` gives before its norm."""
    assert isinstance(item.source, np.ndarray)
    scaled = item.source.astype(np.float64) / 255
    normal = (scaled - np.array(INPUT.mean)) / np.array(INPUT.std)
    half = PIXELS // 2
    corners = [normal[r : r + half, c : c + half] for r in (0, half) for c in (0, half)]
    return np.stack([corner.mean(axis=(0, 1)) for corner in corners], axis=1).ravel()


def test_features_are_those_of_the_network_on_the_normalised_picture(tmp_path: Path) -> None:
    items, _ = pictures(5)

    extracted = extract(model(), items, image_reading(), settings(tmp_path), output="features")

    expected = np.stack([_quarters_by_hand(item) for item in items])
    # A fresh batch norm divides by sqrt(1 + 1e-5) in eval mode.
    np.testing.assert_allclose(extracted.values[:, 0], expected / np.sqrt(1 + 1e-5), atol=1e-5)
    assert extracted.values.dtype == np.float32
    assert extracted.num_bytes == 5 * 1 * 12 * 4


def test_features_of_a_resizer_that_does_not_round_are_of_its_fractions(tmp_path: Path) -> None:
    items, _ = pictures(3)
    spec = replace(INPUT, interpolation="bicubic", antialias=False, crop_ratio=0.8, resizer="tpu")
    reading = replace(image_reading(), input=spec)
    views = torch.stack([read_views(item, reading)[0] for item in items])

    extracted = extract(model(), items, reading, settings(tmp_path), output="features")

    # Both sides go through the same network; what is compared is what it was shown.
    with torch.inference_mode():
        expected = model().module(normalise(views, spec)).numpy()
        rounded = model().module(normalise(views.round(), spec)).numpy()
    np.testing.assert_allclose(extracted.values[:, 0], expected, atol=1e-6)
    assert np.abs(rounded - expected).max() > 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"resizer": "timm"},
        {"resizer": "model_garden", "antialias": False},
        {"resize_to": (PIXELS, PIXELS + 1)},
    ],
)
def test_another_resizer_is_another_shard(tmp_path: Path, changes: dict[str, Any]) -> None:
    items, _ = pictures(3)
    other = replace(image_reading(), input=replace(INPUT, **changes))

    extract(model(), items, image_reading(), settings(tmp_path), output="features")
    first = _shard_files(tmp_path)
    extract(model(), items, other, settings(tmp_path), output="features")

    assert len(first) == 1
    assert len(_shard_files(tmp_path)) == 2


def test_the_last_batch_is_not_dropped(tmp_path: Path) -> None:
    items, _ = pictures(7)

    extracted = extract(
        model(), items, image_reading(), settings(tmp_path, batch_size=3), output="features"
    )

    assert extracted.values.shape == (7, 1, 12)
    assert np.isfinite(extracted.values).all()


def test_no_item_is_padded_doubled_or_seen_twice(tmp_path: Path) -> None:
    items, _ = pictures(7)
    network = Quarters()

    extract(
        model(network),
        items,
        image_reading(crops=3),
        settings(tmp_path, batch_size=4),
        output="features",
    )

    assert network.num_views_seen == 7 * 3


def test_batch_norm_uses_and_keeps_its_running_statistics(tmp_path: Path) -> None:
    network = Quarters()
    network.norm.running_mean = torch.arange(12.0)
    network.norm.running_var = torch.full((12,), 4.0)
    items, _ = pictures(6)

    extracted = extract(
        model(network), items, image_reading(), settings(tmp_path), output="features"
    )

    expected = np.stack([_quarters_by_hand(item) for item in items])
    by_hand = (expected - np.arange(12)) / np.sqrt(4 + 1e-5)
    np.testing.assert_allclose(extracted.values[:, 0], by_hand, atol=1e-5)
    assert torch.equal(network.norm.running_mean, torch.arange(12.0))


def test_a_network_left_in_train_mode_is_refused(tmp_path: Path) -> None:
    frozen = model()
    frozen.module.train()

    with pytest.raises(AssertionError, match="eval mode"):
        extract(frozen, pictures(2)[0], image_reading(), settings(tmp_path), output="features")


def test_logits_are_those_of_the_head_view_by_view(tmp_path: Path) -> None:
    head = nn.Linear(12, 3).eval()
    items, _ = pictures(5)
    plain = extract(model(), items, image_reading(crops=3), settings(tmp_path), output="features")

    scored = extract(
        model(head=head), items, image_reading(crops=3), settings(tmp_path), output="logits"
    )

    by_hand = plain.values @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(scored.values, by_hand, atol=1e-5)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batch_size_and_workers_move_nothing_by_more_than_a_rounding_error(
    tmp_path: Path, batch_size: int, num_workers: int
) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    items, _ = pictures(10)
    reading = image_reading(crops=3)
    expected = extract(model(network), items, reading, settings(tmp_path), output="features")

    extracted = extract(
        model(network),
        items,
        reading,
        settings(tmp_path / "other", batch_size=batch_size, num_workers=num_workers),
        output="features",
    )

    np.testing.assert_allclose(extracted.values, expected.values, atol=1e-4)


def test_clips_become_features_of_the_mean_frame(tmp_path: Path) -> None:
    still = pictures(1)[0][0]
    assert isinstance(still.source, np.ndarray)
    clip = Item(id="clip", source=np.repeat(still.source[None], 9, axis=0))

    moving = extract(model(), [clip], video_reading(clips=2), settings(tmp_path), output="features")
    standing = extract(model(), [still], image_reading(), settings(tmp_path), output="features")

    assert moving.values.shape == (1, 2, 12)
    np.testing.assert_allclose(moving.values[0, 0], standing.values[0, 0], atol=1e-5)


def test_a_failed_item_is_a_row_of_nan_with_its_reason(tmp_path: Path) -> None:
    items = [*pictures(2)[0], broken_item(), *pictures(1, seed=1)[0]]

    extracted = extract(model(), items, image_reading(), settings(tmp_path), output="features")
    again = extract(model(), items, image_reading(), settings(tmp_path), output="features")

    for found in (extracted, again):
        assert np.isnan(found.values[2]).all()
        assert list(found.failures) == [2]
        assert "must be a uint8 array" in found.failures[2]
        assert found.readable.tolist() == [0, 1, 3]


def test_where_every_item_fails_there_are_reasons_and_no_width(tmp_path: Path) -> None:
    items = [broken_item("a"), broken_item("b")]

    extracted = extract(model(), items, image_reading(), settings(tmp_path), output="features")

    assert extracted.values.shape == (2, 1, 0)
    assert set(extracted.failures) == {0, 1}


def test_rows_come_in_the_order_asked_for_with_failures_by_place(tmp_path: Path) -> None:
    items = [*pictures(4)[0], broken_item()]
    everything = extract(model(), items, image_reading(), settings(tmp_path), output="features")

    some = extract(
        model(), items, image_reading(), settings(tmp_path), output="features", rows=[4, 3, 0]
    )

    np.testing.assert_array_equal(some.values[1:], everything.values[[3, 0]])
    assert list(some.failures) == [0]


def test_folds_of_one_pool_share_what_was_computed(tmp_path: Path) -> None:
    items, _ = pictures(40)
    network = Quarters()

    def fold(rows: list[int]) -> None:
        extract(
            model(network),
            items,
            image_reading(),
            settings(tmp_path, batch_size=4),
            output="features",
            rows=rows,
        )

    fold(list(range(0, 40, 2)))
    fold(list(range(1, 40, 2)))

    assert network.num_views_seen == 40


def test_only_shards_that_hold_wanted_rows_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)
    items, _ = pictures(20)
    network = Quarters()

    extract(
        model(network),
        items,
        image_reading(),
        settings(tmp_path, batch_size=4),
        output="features",
        rows=[9],
    )

    assert network.num_views_seen == 4


def _extract_small_shards(tmp_path: Path, network: nn.Module, items: Any) -> Extracted:
    return extract(
        model(network), items, image_reading(), settings(tmp_path, batch_size=4), output="features"
    )


def _killed(work: Callable[[], object]) -> None:
    """Run some work in a child that is expected to be killed by signal 9."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", ["1st forward", "3rd forward", "5th forward"])
def test_a_kill_while_computing_leaves_what_was_done_and_changes_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)
    items = [*pictures(17)[0], broken_item()]
    expected = _extract_small_shards(tmp_path / "uninterrupted", Quarters(), items)
    num_before = int(moment[0]) - 1

    class Doomed(Quarters):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            if self.num_views_seen >= 4 * num_before:
                _kill_self()
            return super().forward(batch)

    _killed(lambda: _extract_small_shards(tmp_path, Doomed(), items))
    network = Quarters()
    resumed = _extract_small_shards(tmp_path, network, items)

    np.testing.assert_array_equal(resumed.values, expected.values)
    assert resumed.failures == expected.failures
    assert network.num_views_seen == 17 - 4 * num_before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_while_writing_leaves_no_half_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)
    items, _ = pictures(12)
    expected = _extract_small_shards(tmp_path / "uninterrupted", Quarters(), items)

    def doomed() -> None:
        # The child's own copies: the parent's functions stay.
        if call == "fsync":
            os.fsync = lambda descriptor: _kill_self()  # type: ignore[assignment]
        else:
            Path.replace = lambda self, target: _kill_self()  # type: ignore[assignment,method-assign,return-value]
        _extract_small_shards(tmp_path, Quarters(), items)

    _killed(doomed)
    assert _shard_files(tmp_path) == []
    network = Quarters()
    resumed = _extract_small_shards(tmp_path, network, items)

    np.testing.assert_array_equal(resumed.values, expected.values)
    assert network.num_views_seen == 12


def test_a_second_extraction_computes_nothing_and_gives_the_same_bits(tmp_path: Path) -> None:
    items, _ = pictures(9)
    first = _extract_small_shards(tmp_path, Quarters(), items)
    network = Quarters()

    second = _extract_small_shards(tmp_path, network, items)

    assert network.num_views_seen == 0
    np.testing.assert_array_equal(first.values, second.values)


def test_facts_come_with_the_outputs_and_from_the_cache_as_they_were(tmp_path: Path) -> None:
    items = [
        Item(id="a", source=np.zeros((9, PIXELS, PIXELS, 3), dtype=np.uint8)),
        broken_item(),
        Item(id="b", source=np.zeros((7, PIXELS + 1, PIXELS, 3), dtype=np.uint8)),
    ]

    first, again = (
        extract(
            model(), items, video_reading(), settings(tmp_path), output="features", rows=[2, 1, 0]
        )
        for _ in range(2)
    )

    shape = {"fps": 30.0, "width": PIXELS}
    assert first.facts == (
        MediaFacts(num_frames=7, height=PIXELS + 1, **shape),
        None,
        MediaFacts(num_frames=9, height=PIXELS, **shape),
    )
    assert again.facts == first.facts


def test_remarks_and_rates_survive_a_shard_to_the_last_bit(tmp_path: Path) -> None:
    odd = MediaFacts(
        num_frames=299, fps=30000 / 1001, height=340, width=256, remarks=('tag "ü"', "cut short")
    )
    store = ShardStore(tmp_path)
    shard = Shard(values=np.ones((1, 2, 3), np.float32), failures={0: "bad"}, facts=(odd,))

    store.save("a" * 64, shard)

    loaded = store.load("a" * 64)
    assert loaded is not None
    assert (loaded.facts, loaded.failures) == (shard.facts, shard.failures)


def test_outputs_can_be_taken_as_they_come_instead_of_being_kept(tmp_path: Path) -> None:
    items = [*pictures(5)[0], broken_item(), *pictures(3, seed=1)[0]]
    machine = settings(tmp_path, batch_size=2)
    rows = [7, 0, 5, 3]
    kept = extract(model(), items, image_reading(), machine, output="features", rows=rows)
    taken: dict[int, np.ndarray] = {}

    streamed = extract(
        model(),
        items,
        image_reading(),
        machine,
        output="features",
        rows=rows,
        take=lambda places, outputs: taken.update(zip(places, outputs, strict=True)),
    )

    assert streamed.values.shape == (4, 1, 0)
    assert streamed.failures == kept.failures == {2: kept.failures[2]}
    assert sorted(taken) == [0, 1, 3]
    for place, outputs in taken.items():
        np.testing.assert_array_equal(outputs, kept.values[place])


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_shard_is_computed_again(tmp_path: Path, damage: str) -> None:
    items, _ = pictures(6)
    first = _extract_small_shards(tmp_path, Quarters(), items)
    (path,) = _shard_files(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[-3] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        other = ShardStore(tmp_path / "cache" / "shards")
        zeros = np.zeros((6, 1, 12), np.float32)
        other.save("0" * 64, Shard(values=zeros, failures={}, facts=(FACTS,) * 6))
        content = bytearray(other.path("0" * 64).read_bytes())
    path.write_bytes(content)
    network = Quarters()

    again = _extract_small_shards(tmp_path, network, items)

    assert network.num_views_seen == 6
    np.testing.assert_array_equal(first.values, again.values)


def _with_task_reader(reading: Reading, version: int) -> Reading:
    return replace(reading, read_key=f"scans@{version}")


@pytest.mark.parametrize(
    "change",
    [
        {"network": "another network"},
        {"reading": image_reading(crops=3)},
        {"reading": replace(image_reading(), input=replace(INPUT, mean=(0.0, 0.0, 0.0)))},
        {"reading": replace(image_reading(), sampler="psf@1")},
        {"machine": {"batch_size": 5}},
        {"machine": {"precision": "bf16"}},
    ],
    ids=["weights", "views", "normalisation", "sampler", "batch", "precision"],
)
def test_whatever_moves_a_bit_names_other_shards(tmp_path: Path, change: dict[str, Any]) -> None:
    items, _ = pictures(4)
    extract(model(), items, image_reading(), settings(tmp_path), output="features")
    network = Quarters()

    extract(
        model(network, digest=change.get("network", "network")),
        items,
        change.get("reading", image_reading()),
        settings(tmp_path, **change.get("machine", {})),
        output="features",
    )

    assert network.num_views_seen > 0


def test_workers_and_progress_do_not_name_other_shards(tmp_path: Path) -> None:
    items, _ = pictures(4)
    extract(model(), items, image_reading(), settings(tmp_path), output="features")
    network = Quarters()

    extract(
        model(network),
        items,
        image_reading(),
        settings(tmp_path, num_workers=2),
        output="features",
    )

    assert network.num_views_seen == 0


def test_a_changed_file_takes_only_its_own_shard_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)
    items = []
    for item in pictures(12)[0]:
        assert isinstance(item.source, np.ndarray)
        write_image(tmp_path / f"{item.id}.png", item.source)
        items.append(Item(id=item.id, source=tmp_path / f"{item.id}.png"))
    before = _extract_small_shards(tmp_path, Quarters(), items)
    write_image(items[5].source, np.zeros((PIXELS, PIXELS, 3), np.uint8))  # type: ignore[arg-type]
    network = Quarters()

    after = _extract_small_shards(tmp_path, network, items)

    assert network.num_views_seen == 4
    same = np.isclose(before.values, after.values).all(axis=(1, 2))
    assert np.flatnonzero(~same).tolist() == [5]


def test_an_item_that_was_unreadable_is_read_when_its_file_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"cut short")
    items = [Item(id="a", source=path)]
    machine = settings(tmp_path)
    broken = extract(model(), items, image_reading(), machine, output="features")
    write_image(path, np.zeros((PIXELS, PIXELS, 3), np.uint8))

    mended = extract(model(), items, image_reading(), machine, output="features")

    assert 0 in broken.failures
    assert not mended.failures


def test_a_failure_that_is_not_the_contents_is_tried_again(tmp_path: Path) -> None:
    calls = []

    def read(item: Item) -> np.ndarray:
        calls.append(item.id)
        if len(calls) == 1:
            raise OSError("the disk did not answer")
        return np.zeros((3, PIXELS, PIXELS), dtype=np.float32)

    reading = replace(image_reading(), read=read, read_key="slow@1")
    items = [Item(id="a", source=np.zeros(1, dtype=np.uint8))]
    first = extract(model(), items, reading, settings(tmp_path), output="features")

    second = extract(model(), items, reading, settings(tmp_path), output="features")

    assert first.failures == {0: "OSError: the disk did not answer"}
    assert not second.failures


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)

    with pytest.raises(RunError, match="No space left on device") as caught:
        extract(model(), pictures(3)[0], image_reading(), settings(tmp_path), output="features")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert [path for path in (tmp_path / "cache" / "shards").rglob("*") if path.is_file()] == []


def test_two_extractions_at_once_both_end_well(tmp_path: Path) -> None:
    items, _ = pictures(30)
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=_extract_small_shards, args=(tmp_path, Quarters(), items))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)

    assert [child.exitcode for child in children] == [0, 0]
    network = Quarters()
    _extract_small_shards(tmp_path, network, items)
    assert network.num_views_seen == 0


def test_progress_ends_at_all_items(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    machine = settings(tmp_path, progress=lambda *report: told.append(report))

    extract(model(), pictures(5)[0], image_reading(), machine, output="features")

    assert told[0] == ("extract features", 0, 5)
    assert told[-1] == ("extract features", 5, 5)


def test_the_foretold_bytes_are_those_on_disk(tmp_path: Path) -> None:
    items, _ = pictures(70)
    reading = image_reading(crops=3)
    machine = settings(tmp_path, batch_size=8)

    extract(model(), items, reading, machine, output="features")

    on_disk = sum(path.stat().st_size for path in _shard_files(tmp_path))
    foretold = extraction_bytes(len(items), reading, machine, width=12)
    assert abs(foretold - on_disk) < 0.05 * on_disk
