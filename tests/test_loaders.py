"""Reading items: views as declared, failures named, and workers that change nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import (
    PIXELS,
    broken_item,
    image_reading,
    pictures,
    settings,
    video_reading,
)

from rsbench.data import loaders
from rsbench.errors import DataError, MediaError, RsbenchError, RunError, UnknownNameError
from rsbench.media.augment import Augmentation, distorted
from rsbench.media.image import write_image
from rsbench.media.video import read_all_frames, write_video
from rsbench.specs import Item, MediaFacts, Reading


def _numbered_frames(num_frames: int, *, height: int = PIXELS, width: int = PIXELS) -> np.ndarray:
    """Frame t is grey of value 10 t."""
    grey = np.arange(num_frames, dtype=np.uint8) * 10
    return np.broadcast_to(grey[:, None, None, None], (num_frames, height, width, 3)).copy()


def _columns(width: int) -> np.ndarray:
    """A picture whose red is its column number: what is cropped and mirrored can be read off."""
    picture = np.zeros((PIXELS, width, 3), dtype=np.uint8)
    picture[..., 0] = np.arange(width)
    return picture


def _read_all(items: list[Item], reading: Reading, machine: object) -> list[loaders.Batch]:
    return list(loaders.batches(items, reading, machine))  # type: ignore[arg-type]


def test_an_image_has_one_view_a_crop_and_no_time_axis() -> None:
    views = loaders.read_views(pictures(1)[0][0], image_reading(crops=3))

    assert views.dtype == torch.uint8
    assert views.shape == (3, 3, PIXELS, PIXELS)


def test_a_clip_has_one_view_a_clip_and_crop_clips_first() -> None:
    item = Item(id="a", source=_numbered_frames(12, width=2 * PIXELS))

    views = loaders.read_views(item, video_reading(clips=3, crops=3))

    assert views.shape == (9, 3, 4, PIXELS, PIXELS)
    # mmaction2 with n = 12, span 4, 3 clips: starts 0, 4, 8 (protocols.md 5.6, row "mmaction2").
    assert views[:, 0, :, 0, 0].tolist() == [
        [10 * (start + step) for step in range(4)] for start in (0, 4, 8) for _ in range(3)
    ]


def test_a_clip_starts_on_the_frame_the_sampler_says_and_not_one_beside_it() -> None:
    # n = 11, span 4, one clip: start (11 - 4) // 2 = 3 by mmaction2's rule.
    views = loaders.read_views(Item(id="a", source=_numbered_frames(11)), video_reading())

    assert views[0, 0, :, 0, 0].tolist() == [30, 40, 50, 60]


def test_a_file_and_its_array_give_the_same_views(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", picture)
    clip = generator.integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", clip, fps=10)
    decoded = read_all_frames(tmp_path / "a.mp4")

    for source, array, reading in (
        (tmp_path / "a.png", picture, image_reading(crops=3)),
        (tmp_path / "a.mp4", decoded, video_reading(clips=2, crops=3)),
    ):
        from_file = loaders.read_views(Item(id="f", source=source), reading)
        from_array = loaders.read_views(Item(id="a", source=array), reading)
        assert torch.equal(from_file, from_array)


def _frame_folder(folder: Path, clip_THWC: np.ndarray) -> Path:
    folder.mkdir()
    for number, frame in enumerate(clip_THWC, start=1):
        write_image(folder / f"{number:05d}.png", frame)
    return folder


def test_facts_are_those_of_the_media_whatever_was_looked_at(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", clip, fps=10)
    write_image(tmp_path / "a.png", clip[0])
    folder = _frame_folder(tmp_path / "frames", clip)
    cases = {
        "file": (Item(id="v", source=tmp_path / "a.mp4"), video_reading(clips=2), (9, 10.0)),
        "window": (
            Item(id="w", source=tmp_path / "a.mp4", start_seconds=0.2, end_seconds=0.6),
            video_reading(),
            (4, 10.0),
        ),
        "array": (Item(id="a", source=clip), video_reading(clips=3), (9, 30.0)),
        "folder": (Item(id="f", source=folder, fps=12.0), video_reading(), (9, 12.0)),
        "picture": (Item(id="p", source=tmp_path / "a.png"), image_reading(crops=3), (1, 0.0)),
    }
    for name, (item, reading, (num_frames, fps)) in cases.items():
        wanted = MediaFacts(num_frames=num_frames, fps=fps, height=16, width=24)
        assert loaders.read_item(item, reading).facts == wanted, name
        trained = loaders.read_training_item(item, reading, Augmentation(), seed=3)
        assert trained.facts == wanted, name


def test_a_folder_of_frames_is_the_clip_and_says_what_its_list_did_not(tmp_path: Path) -> None:
    clip = np.random.default_rng(1).integers(0, 256, (9, 12, 12, 3), dtype=np.uint8)
    folder = _frame_folder(tmp_path / "frames", clip)
    reading = video_reading(clips=2)

    read = loaders.read_item(Item(id="f", source=folder, num_frames_listed=11), reading)

    assert torch.equal(read.views, loaders.read_views(Item(id="a", source=clip), reading))
    assert read.facts.remarks == ("list claims 11 frames, the folder has 9",)
    timed = Item(id="f", source=folder, start_seconds=0.5)
    with pytest.raises(MediaError, match="a folder of frames, which has no clock"):
        loaders.read_views(timed, reading)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_facts_stand_beside_the_views_they_are_of(tmp_path: Path, num_workers: int) -> None:
    lengths = (5, 9, 7)
    items = [Item(id=str(n), source=_numbered_frames(n)) for n in lengths]
    items.insert(1, broken_item())

    read = _read_all(items, video_reading(), settings(tmp_path, num_workers=num_workers))

    rows = [row for batch in read for row in batch.rows]
    facts = [each for batch in read for each in batch.facts]
    assert rows == [0, 2, 3]
    assert [each.num_frames for each in facts] == list(lengths)


def test_no_augmentation_is_left_on_at_test() -> None:
    item = Item(id="a", source=_columns(PIXELS + 6))

    seen = [loaders.read_views(item, image_reading())[0, 0, 0].tolist() for _ in range(20)]

    # The centre crop of 14 columns to 8 begins at column 3; nothing is mirrored or moved, ever.
    assert seen == [[3, 4, 5, 6, 7, 8, 9, 10]] * 20


def test_what_a_task_reads_itself_is_left_as_it_is() -> None:
    volume = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    reading = replace(
        image_reading(), modality="volume", read=lambda item: volume, read_key="scans@1"
    )

    views = loaders.read_views(Item(id="a", source=Path("scan.nii")), reading)

    assert np.array_equal(views.numpy(), volume[None])


def test_volumes_without_a_reader_of_the_task_are_refused() -> None:
    reading = replace(image_reading(), modality="volume")

    with pytest.raises(DataError, match=r"must set `Task\.read`"):
        loaders.read_views(broken_item(), reading)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 32])
def test_the_last_batch_is_kept_however_small(tmp_path: Path, batch_size: int) -> None:
    items, _ = pictures(7)

    read = _read_all(list(items), image_reading(), settings(tmp_path, batch_size=batch_size))

    assert [row for batch in read for row in batch.rows] == list(range(7))
    assert [len(batch.views) for batch in read] == [
        min(batch_size, 7 - start) for start in range(0, 7, batch_size)
    ]


def test_an_item_with_more_views_than_a_batch_still_is_one_batch(tmp_path: Path) -> None:
    items = [Item(id=str(number), source=_numbered_frames(8)) for number in range(3)]

    read = _read_all(items, video_reading(clips=2, crops=3), settings(tmp_path, batch_size=4))

    assert [tuple(batch.views.shape[:2]) for batch in read] == [(1, 6)] * 3  # type: ignore[union-attr]


def test_workers_change_nothing(tmp_path: Path) -> None:
    items = [*pictures(5)[0], broken_item(), *pictures(4, seed=1)[0]]

    alone = _read_all(items, image_reading(), settings(tmp_path, batch_size=3))
    helped = _read_all(items, image_reading(), settings(tmp_path, batch_size=3, num_workers=2))

    assert [batch.rows for batch in alone] == [batch.rows for batch in helped]
    assert [batch.failures for batch in alone] == [batch.failures for batch in helped]
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(torch.as_tensor(one.views), torch.as_tensor(other.views))


def test_reading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    items = list(pictures(4)[0])

    _read_all(items, image_reading(), settings(tmp_path, num_workers=2))
    loaders.read_training_item(items[0], image_reading(), Augmentation(), seed=1)

    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_file_is_a_named_failure_and_stops_nothing(tmp_path: Path, num_workers: int) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"not a video")
    (tmp_path / "cut.png").write_bytes(b"not a picture")
    good = list(pictures(2)[0])
    items = [
        good[0],
        Item(id="cut", source=tmp_path / "cut.png"),
        Item(id="film", source=tmp_path / "cut.mp4"),
        Item(id="gone", source=tmp_path / "gone.png"),
        good[1],
    ]

    read = _read_all(items, image_reading(), settings(tmp_path, num_workers=num_workers))

    assert [row for batch in read for row in batch.rows] == [0, 4]
    failures = [failure for batch in read for failure in batch.failures]
    assert [failure.row for failure in failures] == [1, 2, 3]
    assert all(failure.lasting and "\n" not in failure.reason for failure in failures)


def test_a_task_reader_that_raises_anything_fails_its_item_only(tmp_path: Path) -> None:
    def read(item: Item) -> np.ndarray:
        if item.id == "b":
            raise ZeroDivisionError("division\nby zero")
        return np.zeros((1, 2), dtype=np.float32)

    reading = replace(image_reading(), read=read, read_key="odd@1")
    items = [Item(id=name, source=Path(name)) for name in "abc"]

    (batch,) = _read_all(items, reading, settings(tmp_path))

    assert batch.rows == (0, 2)
    assert batch.failures == (
        loaders.ReadFailure(1, "ZeroDivisionError: division by zero", lasting=False),
    )


def test_views_of_different_shapes_come_as_a_list(tmp_path: Path) -> None:
    reading = replace(
        image_reading(),
        read=lambda item: np.zeros((1, int(item.id)), dtype=np.float32),
        read_key="odd@1",
    )

    (batch,) = _read_all(
        [Item(id=name, source=Path(name)) for name in "23"], reading, settings(tmp_path)
    )

    assert [tuple(views.shape) for views in batch.views] == [(1, 1, 2), (1, 1, 3)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_of_the_run_is_no_failure_of_an_item(tmp_path: Path, num_workers: int) -> None:
    reading = replace(video_reading(), sampler="mmaction3")
    items = [Item(id="a", source=_numbered_frames(5))]

    with pytest.raises(UnknownNameError, match="mmaction2"):
        _read_all(items, reading, settings(tmp_path, num_workers=num_workers))


def test_a_worker_that_dies_is_one_line(tmp_path: Path) -> None:
    def read(item: Item) -> np.ndarray:
        os._exit(7)

    reading = replace(image_reading(), read=read, read_key="deadly@1")

    with pytest.raises(RunError, match="reading process died") as caught:
        _read_all([broken_item()], reading, settings(tmp_path, num_workers=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((4, 4, 1), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
    ids=["no channels", "floats", "one channel", "empty"],
)
def test_an_array_of_another_form_is_a_media_error(source: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"must be a uint8 array \(H, W, 3\)"):
        loaders.read_views(Item(id="a", source=source), image_reading())


def test_an_array_has_no_clock() -> None:
    item = Item(id="a", source=_numbered_frames(5), start_seconds=1.0)

    with pytest.raises(MediaError, match="has no clock"):
        loaders.read_views(item, video_reading())


def test_training_views_follow_from_their_seed() -> None:
    item = Item(id="a", source=_columns(3 * PIXELS))

    first, again, other = (
        loaders.read_training_item(item, image_reading(), Augmentation(), seed=seed).views
        for seed in (5, 5, 6)
    )

    assert first.shape == (3, PIXELS, PIXELS)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_crop_and_one_mirror_hold_for_all_frames_of_a_clip() -> None:
    still = np.repeat(_columns(3 * PIXELS)[None], 6, axis=0)
    item = Item(id="a", source=still)

    for seed in range(10):
        clip = loaders.read_training_item(item, video_reading(), Augmentation(), seed=seed).views
        assert clip.shape == (3, 4, PIXELS, PIXELS)
        assert all(torch.equal(clip[:, 0], clip[:, step]) for step in range(4))


@pytest.mark.parametrize("reading", [image_reading(), video_reading()], ids=["image", "video"])
def test_training_views_are_distorted_alike_in_all_frames_after_the_crop(reading: Reading) -> None:
    still = np.repeat(_columns(3 * PIXELS)[None], 6, axis=0)
    item = Item(id="a", source=still[0] if reading.modality == "image" else still)
    kind = Augmentation(
        colour_jitter=0.4, randaugment_layers=2, randaugment_magnitude=10.0, random_erasing=0.5
    )
    num_changed = 0
    for seed in range(10):
        cropped = loaders.read_training_item(item, reading, Augmentation(), seed=seed).views
        view = loaders.read_training_item(item, reading, kind, seed=seed).views
        assert torch.equal(view, distorted(cropped, reading.input, kind, seed=seed))
        assert view.is_contiguous()
        num_changed += not torch.equal(view, cropped)
        if view.ndim == 4:
            assert all(torch.equal(view[:, 0], view[:, step]) for step in range(4))
    assert num_changed > 5


def test_an_augmentation_out_of_range_stops_the_run(tmp_path: Path) -> None:
    read = loaders.training_batches(
        list(pictures(2)[0]),
        image_reading(),
        settings(tmp_path),
        plan=[[0, 1]],
        augmentation=Augmentation(randaugment_layers=1, randaugment_magnitude=31.0),
        seed=1,
        epoch=0,
    )
    with pytest.raises(RsbenchError, match="randaugment_magnitude must be between 0 and 30"):
        list(read)


def test_an_epoch_of_training_views_does_not_depend_on_workers(tmp_path: Path) -> None:
    items = list(pictures(5)[0])
    plan = [[4, 0], [2, 1], [3]]

    def epoch(num_workers: int, number: int) -> torch.Tensor:
        read = loaders.training_batches(
            items,
            image_reading(),
            settings(tmp_path, num_workers=num_workers),
            plan=plan,
            augmentation=Augmentation(),
            seed=1,
            epoch=number,
        )
        read = list(read)
        assert [list(batch.rows) for batch in read] == plan
        return torch.cat([torch.as_tensor(batch.views) for batch in read])

    assert torch.equal(epoch(0, 0), epoch(2, 0))
    assert not torch.equal(epoch(0, 0), epoch(0, 1))


def test_rows_beyond_the_items_are_these_again_in_the_epochs_after(tmp_path: Path) -> None:
    items = [*pictures(4)[0], broken_item()]

    def read(plan: list[list[int]], epoch: int) -> list[loaders.Batch]:
        batches = loaders.training_batches(
            items,
            image_reading(),
            settings(tmp_path),
            plan=plan,
            augmentation=Augmentation(smallest_crop=0.1),
            seed=1,
            epoch=epoch,
        )
        return list(batches)

    (both,) = read([[1, 4, 5 + 1, 5 + 4, 10 + 3]], epoch=2)

    assert both.rows == (1, 1, 3)
    assert [failure.row for failure in both.failures] == [4, 4]
    expected = [read([[row]], epoch=epoch)[0].views[0] for row, epoch in ((1, 2), (1, 3), (3, 4))]
    assert torch.equal(torch.as_tensor(both.views), torch.stack(expected))
    assert not torch.equal(expected[0], expected[1])
