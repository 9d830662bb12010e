"""Small pictures of items: of the right item, the right frames, bounded, and refused in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rsbench.data.sample import sample_root
from rsbench.media import image, video
from rsbench.places import cache_root
from rsbench.registry import find_task
from rsbench.report import thumbnails
from rsbench.report.thumbnails import HEIGHT, MAX_BYTES, MAX_WIDTH, thumbnails_of

START = "data:image/jpeg;base64,"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What was found for one test is not there for the next."""
    thumbnails._items_of.cache_clear()
    yield
    thumbnails._items_of.cache_clear()


def opened(uri: str) -> NDArray[np.uint8]:
    """Decode a data URI as a browser would: uint8 (H, W, 3)."""
    assert uri.startswith(START)
    content = base64.b64decode(uri.removeprefix(START), validate=True)
    assert len(content) <= MAX_BYTES
    return np.asarray(Image.open(io.BytesIO(content), formats=("JPEG",)).convert("RGB"))


def plain(colour: tuple[int, int, int], *, height: int = 120, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of images as `--task folder` reads it: red and blue, train and test."""
    for split in ("train", "test"):
        for name, colour in (("red", (220, 20, 20)), ("blue", (20, 20, 220))):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for place in range(3):
                image.write_image(folder / f"{name}{place}.png", plain(colour))
    return tmp_path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Videos of 30 frames: ten red ones, ten green ones, ten blue ones."""
    colours = [(200, 30, 30)] * 10 + [(30, 200, 30)] * 10 + [(30, 30, 200)] * 10
    frames = np.stack([plain(colour, height=96, width=128) for colour in colours])
    for split in ("train", "test"):
        for name in ("one", "other"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for place in range(2):
                video.write_video(folder / f"{name}{place}.mp4", frames, fps=10)
    return tmp_path


def test_an_image_is_shown_small_and_in_its_own_colours(pictures: Path) -> None:
    found = thumbnails_of(
        "folder", "test", ["test/red/red1.png", "test/blue/blue2.png"], data=pictures, limit=9
    )

    assert found.note == ""
    red, blue = (
        opened(found.images[name]) for name in ("test/red/red1.png", "test/blue/blue2.png")
    )
    # 120 x 200 pixels at a height of 96.
    assert red.shape == blue.shape == (HEIGHT, 160, 3)
    np.testing.assert_allclose(red.mean(axis=(0, 1)), (220, 20, 20), atol=4)
    np.testing.assert_allclose(blue.mean(axis=(0, 1)), (20, 20, 220), atol=4)


def test_a_video_is_shown_by_its_beginning_middle_and_end(videos: Path) -> None:
    found = thumbnails_of("folder", "test", ["test/one/one0.mp4"], data=videos, limit=9)

    strip = opened(found.images["test/one/one0.mp4"])
    assert strip.shape[1] <= MAX_WIDTH
    first, middle, last = np.array_split(strip, 3, axis=1)
    for part, channel in ((first, 0), (middle, 1), (last, 2)):
        inner = part[8:-8, 8:-8].mean(axis=(0, 1))
        assert inner.argmax() == channel
        assert inner[channel] > 150 and np.delete(inner, channel).max() < 80


def test_pictures_of_noise_are_kept_below_the_bound(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, width in (("small", 160), ("large", 320)):
            noise = generator.integers(0, 256, size=(HEIGHT, width, 3), dtype=np.uint8)
            (tmp_path / split / name).mkdir(parents=True)
            image.write_image(tmp_path / split / name / f"{name}.png", noise)

    found = thumbnails_of(
        "folder", "test", ["test/small/small.png", "test/large/large.png"], data=tmp_path, limit=9
    )

    assert opened(found.images["test/small/small.png"]).shape == (HEIGHT, 160, 3)
    assert opened(found.images["test/large/large.png"]).shape == (HEIGHT, 320, 3)


def test_a_wide_picture_keeps_its_shape_and_the_bound_of_its_width(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            image.write_image(
                tmp_path / split / name / f"{name}.png", plain((9, 9, 9), height=40, width=400)
            )

    found = thumbnails_of("folder", "test", ["test/a/a.png"], data=tmp_path, limit=1)

    assert opened(found.images["test/a/a.png"]).shape == (MAX_WIDTH // 10, MAX_WIDTH, 3)


def test_what_can_not_be_read_or_is_not_there_is_named_and_the_rest_is_shown(
    pictures: Path,
) -> None:
    (pictures / "test" / "red" / "red0.png").write_bytes(b"\x89PNG no more")
    wanted = ["test/red/red0.png", "test/red/gone.png", "test/blue/blue0.png"]

    found = thumbnails_of("folder", "test", wanted, data=pictures, limit=9)

    assert set(found.images) == {"test/blue/blue0.png"}
    assert "red0.png" in found.note
    assert "gone.png is not in the data" in found.note
    assert str(pictures) not in found.note, "a report shows no folders of the machine"


def test_no_more_pictures_than_asked_for_are_made(pictures: Path) -> None:
    wanted = [f"test/red/red{place}.png" for place in (0, 1, 1, 2)]

    found = thumbnails_of("folder", "test", wanted, data=pictures, limit=2)

    assert list(found.images) == ["test/red/red0.png", "test/red/red1.png"]
    assert "1 more are not shown" in found.note


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("kinetics400", "no data of kinetics400 is configured"),
        ("folder", "can't be read here"),
        ("no_such_task", "can't be read here"),
    ],
)
def test_data_that_is_not_here_is_said_without_naming_a_folder(
    task: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSBENCH_CONFIG", str(tmp_path / "none.toml"))
    (tmp_path / "none.toml").write_text("")
    data = tmp_path / "nowhere" if task == "folder" else None

    found = thumbnails_of(task, "test", ["a"], data=data, limit=3)

    assert found.images == {}
    assert reason in found.note
    assert str(tmp_path) not in found.note


def test_a_record_can_not_name_a_file_that_is_then_run(tmp_path: Path) -> None:
    plugin = tmp_path / "evil.py"
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    found = thumbnails_of(str(plugin), "test", ["a"], data=tmp_path, limit=3)

    assert "a task of a file" in found.note
    assert not (tmp_path / "ran").exists()


def test_arrays_that_a_task_brings_are_shown_too() -> None:
    root = sample_root(find_task("digits").spec, cache_root())
    items = find_task("digits").spec.load(root, "test").items[:2]

    found = thumbnails_of("digits@sample", "test", [item.id for item in items], data=None, limit=2)

    for item in items:
        assert isinstance(item.source, np.ndarray)
        side = Image.fromarray(item.source).resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC)
        apart = opened(found.images[item.id]).astype(float) - np.asarray(side)
        assert np.abs(apart).mean() < 6, "what JPEG leaves of it"


def test_folds_that_a_run_made_itself_are_looked_up_in_all_splits(pictures: Path) -> None:
    wanted = ["test/red/red0.png", "train/blue/blue1.png"]

    found = thumbnails_of("folder", "fold 1 of 5", wanted, data=pictures, limit=9)

    assert set(found.images) == set(wanted)
