"""Kept views: the same bits, within bounds, and nothing believed that was changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import settings, video_reading

from rsbench.data import loaders, readings
from rsbench.data.clip_cache import CachedViews, ClipCache
from rsbench.errors import DiskError
from rsbench.media import video
from rsbench.media.augment import Augmentation
from rsbench.media.video import write_video
from rsbench.specs import Item, MediaFacts

LARGE = 2**30


def _items(folder: Path, number: int = 5) -> list[Item]:
    items = []
    for row in range(number):
        noise = np.random.default_rng(row).integers(0, 256, (12, 16, 24, 3), dtype=np.uint8)
        write_video(folder / f"{row}.mp4", noise, fps=10)
        items.append(Item(id=str(row), source=folder / f"{row}.mp4"))
    (folder / "bad.mp4").write_bytes(b"bad")
    items.insert(2, Item(id="bad", source=folder / "bad.mp4"))
    return items


def _read(items: list[Item], folder: Path, **changes: object) -> list[loaders.Batch]:
    machine = settings(folder, batch_size=12, **changes)
    return list(loaders.batches(items, video_reading(clips=2, crops=3), machine))


def _assert_equal(one: list[loaders.Batch], other: list[loaders.Batch]) -> None:
    assert [each.rows for each in one] == [each.rows for each in other]
    assert [each.failures for each in one] == [each.failures for each in other]
    assert [each.facts for each in one] == [each.facts for each in other]
    for left, right in zip(one, other, strict=True):
        assert torch.equal(torch.as_tensor(left.views), torch.as_tensor(right.views))


def _entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "clips").rglob("*.clip"))


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_views_are_the_same_bits_from_the_cache_and_from_any_number_of_workers(
    tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _items(tmp_path)
    plain = _read(items, tmp_path / "plain")
    filled = _read(items, tmp_path, num_workers=num_workers, cache_clips_bytes=LARGE)
    assert len(_entries(tmp_path)) == 5

    # Whoever opens a video now fails, in workers too, which are forked.
    monkeypatch.setattr(video, "read_clips", lambda *words, **more: 1 / 0)
    cached = _read(items, tmp_path, num_workers=num_workers, cache_clips_bytes=LARGE)

    _assert_equal(plain, filled)
    _assert_equal(plain, cached)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_random_views_follow_from_seed_epoch_and_row_alone(
    tmp_path: Path, num_workers: int
) -> None:
    items = _items(tmp_path)
    augmentation = Augmentation(smallest_crop=0.3, widest_aspect=1.3, flip_probability=0.5)
    seen = []
    for folder, workers, cached, plan in (
        ("a", 0, 0, [[0, 1], [2, 3], [4, 5]]),
        ("b", num_workers, LARGE, [[5, 3, 1], [4, 0, 2]]),
    ):
        machine = settings(tmp_path / folder, num_workers=workers, cache_clips_bytes=cached)
        read = loaders.training_batches(
            items, video_reading(), machine, plan=plan, augmentation=augmentation, seed=3, epoch=1
        )
        seen.append(
            {row: view for batch in read for row, view in zip(batch.rows, batch.views, strict=True)}
        )

    assert sorted(seen[0]) == sorted(seen[1]) == [0, 1, 3, 4, 5]
    assert all(torch.equal(seen[0][row], seen[1][row]) for row in seen[0])
    assert _entries(tmp_path / "b") == []


@pytest.mark.parametrize("damage", ["cut", "a bit", "the header", "empty", "another entry"])
def test_a_damaged_entry_is_read_again_from_the_video(tmp_path: Path, damage: str) -> None:
    items = _items(tmp_path)
    plain = _read(items, tmp_path, cache_clips_bytes=LARGE)
    for path, other in zip(_entries(tmp_path), reversed(_entries(tmp_path)), strict=True):
        content = bytearray(path.read_bytes())
        if damage == "cut":
            content = content[:-1]
        elif damage == "a bit":
            content[-7] ^= 1
        elif damage == "the header":
            content = content.replace(b'"num_frames": 12', b'"num_frames": 13')
        elif damage == "empty":
            content = bytearray()
        elif path < other:
            content = bytearray(other.read_bytes())
        path.write_bytes(content)

    _assert_equal(plain, _read(items, tmp_path, cache_clips_bytes=LARGE))


def test_the_folder_stays_within_its_bound_and_what_does_not_fit_is_still_read(
    tmp_path: Path,
) -> None:
    items = _items(tmp_path)
    plain = _read(items, tmp_path / "plain")
    _read(items, tmp_path, cache_clips_bytes=LARGE)
    one = _entries(tmp_path)[0].stat().st_size

    bounded = _read(items, tmp_path, num_workers=3, cache_clips_bytes=2 * one + one // 2)

    _assert_equal(plain, bounded)
    assert len(_entries(tmp_path)) == 2


def _entry(number: int) -> CachedViews:
    views = torch.full((1, 3, 2, 4, 4), number, dtype=torch.float32)
    facts = MediaFacts(num_frames=number, fps=30.0, height=4, width=4, remarks=("odd",))
    return CachedViews(views, facts)


def test_another_reading_that_lay_untouched_makes_room_and_one_at_work_does_not(
    tmp_path: Path,
) -> None:
    item = Item(id="a", source=tmp_path / "a.mp4")
    old, new = (ClipCache(tmp_path / "clips", key * 64, limit_bytes=900) for key in "ab")
    old.open()
    assert old.store("content", item, _entry(1))
    new.open()
    assert not new.store("content", item, _entry(2))

    os.utime(tmp_path / "clips" / ("a" * 32), (0, 0))

    assert new.store("content", item, _entry(2))
    assert old.load("content", item) is None
    found = new.load("content", item)
    assert found is not None
    assert torch.equal(found.views, _entry(2).views)
    assert found.facts == _entry(2).facts


def test_a_folder_that_can_not_be_written_costs_no_result(tmp_path: Path) -> None:
    item = Item(id="a", source=tmp_path / "a.mp4")
    cache = ClipCache(tmp_path / "clips", "a" * 64, limit_bytes=LARGE)
    cache.open()
    (tmp_path / "clips" / ("a" * 32)).rmdir()
    (tmp_path / "clips" / ("a" * 32)).touch()

    assert not cache.store("content", item, _entry(1))
    assert cache.load("content", item) is None


def _padded(video_bytes: bytes, size: int) -> bytes:
    """Fill an MP4 up by a box that says nothing."""
    room = size - len(video_bytes)
    return video_bytes + room.to_bytes(4, "big") + b"free" + bytes(room - 8)


@pytest.mark.parametrize("cached", [0, LARGE])
def test_a_file_that_is_replaced_while_it_is_read_leaves_nothing_under_the_old_name(
    tmp_path: Path, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, fps in (("old", 60, 10), ("new", 200, 20)):
        grey = np.full((12, 16, 24, 3), value, dtype=np.uint8)
        write_video(tmp_path / f"{name}.mp4", grey, fps=fps)
    contents = [(tmp_path / f"{name}.mp4").read_bytes() for name in ("old", "new")]
    size = max(map(len, contents)) + 16
    old, new = (_padded(content, size) for content in contents)
    path = tmp_path / "a.mp4"
    path.write_bytes(old)
    items = [Item(id="a", source=path)]
    plain = _read(items, tmp_path / "plain")
    real = loaders.read_item

    def replaced(*words: object, **more: object) -> loaders.ItemViews:
        time.sleep(0.02)  # The kernel's clock for time stamps ticks every few milliseconds.
        path.write_bytes(new)
        return real(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loaders, "read_item", replaced)
    (between,) = _read(items, tmp_path, cache_clips_bytes=cached)
    monkeypatch.undo()
    path.write_bytes(old)

    assert between.facts[0].fps == 20
    _assert_equal(plain, _read(items, tmp_path, cache_clips_bytes=cached))


def test_what_is_being_written_counts_when_another_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item(id="a", source=tmp_path / "a.mp4")
    first, second = (ClipCache(tmp_path / "clips", key * 64, limit_bytes=900) for key in "ab")
    first.open()
    write = first._write

    def slow(*words: object) -> bool:
        second.open()
        return write(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(first, "_write", slow)
    assert first.store("content", item, _entry(1))
    assert not second.store("content", item, _entry(2))

    sizes = [path.stat().st_size for path in (tmp_path / "clips").rglob("*.clip")]
    assert len(sizes) == 1
    assert int((tmp_path / "clips" / "bytes").read_text()) == sum(sizes)


def test_a_write_that_fails_gives_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item(id="a", source=tmp_path / "a.mp4")
    cache = ClipCache(tmp_path / "clips", "a" * 64, limit_bytes=900)
    cache.open()

    def refuse(*words: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        assert not cache.store("content", item, _entry(1))

    assert int((tmp_path / "clips" / "bytes").read_text()) == 0
    assert cache.store("content", item, _entry(1))


def test_a_count_that_is_lost_is_made_again(tmp_path: Path) -> None:
    item = Item(id="a", source=tmp_path / "a.mp4")
    cache = ClipCache(tmp_path / "clips", "a" * 64, limit_bytes=900)
    cache.open()
    assert cache.store("content", item, _entry(1))
    (tmp_path / "clips" / "bytes").write_bytes(b"")

    assert not cache.store("other", item, _entry(2))


def test_a_place_that_can_not_be_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("a file")

    with pytest.raises(DiskError, match=r"clips \(.*\), where decoded clips.*--cache-clips"):
        ClipCache(tmp_path / "clips", "a" * 64, limit_bytes=900).open()


def test_other_pixels_of_ours_are_another_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _items(tmp_path, 1)
    _read(items, tmp_path, cache_clips_bytes=LARGE)
    monkeypatch.setattr(readings, "PIXELS_FORMAT", readings.PIXELS_FORMAT + 1)
    monkeypatch.setattr(video, "read_clips", lambda *words, **more: 1 / 0)

    read = _read(items, tmp_path, cache_clips_bytes=LARGE)

    assert "ZeroDivisionError" in read[0].failures[0].reason
