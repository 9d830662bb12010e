"""Folders of frames: order, what is left out, what is refused, and that only chosen ones decode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsbench.errors import MediaError
from rsbench.media.frames import frame_names, read_frame_clips
from rsbench.media.sampling import chooser
from rsbench.specs import ClipSpec


def write_frames(folder: Path, names: Sequence[str], *, size: tuple[int, int] = (6, 4)) -> Path:
    """Write grey pictures whose level is ten times their place in `names`: PNG is exact."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        Image.new("RGB", size, (10 * place, 10 * place, 10 * place)).save(folder / name)
    return folder


def choose_all(num_frames: int, fps: float) -> np.ndarray:
    return np.arange(num_frames)[None]


def levels(folder: Path, **arguments: object) -> list[int]:
    clips = read_frame_clips(folder, choose_all, fps=12.0, **arguments)  # type: ignore[arg-type]
    return clips.frames[0, :, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    "form",
    ["img_{:05}.png", "{:05}.png", "001YG-{:06}.png", "video_{:06}.png", "{}.PNG", "f2_{}.png"],
)
def test_frames_of_every_customary_form_come_in_the_order_of_their_numbers(tmp_path, form):
    folder = write_frames(tmp_path / "clip", [form.format(number) for number in range(1, 13)])

    assert levels(folder) == [10 * place for place in range(12)]


def test_pictures_are_those_that_pillow_reads(tmp_path):
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 256, (9, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:05}.jpg", quality=90)

    clips = read_frame_clips(tmp_path, lambda n, fps: np.array([[2, 0], [1, 2]]), fps=24.0)

    assert clips.frames.shape == (2, 2, 9, 7, 3)
    assert clips.frames.dtype == np.uint8
    for clip, place, number in ((0, 0, 2), (0, 1, 0), (1, 0, 1), (1, 1, 2)):
        expected = np.asarray(Image.open(tmp_path / f"{number:05}.jpg").convert("RGB"))
        np.testing.assert_array_equal(clips.frames[clip, place], expected)


def test_the_sampler_is_told_count_and_rate_and_its_frames_are_given(tmp_path):
    folder = write_frames(tmp_path / "clip", [f"{number:05}.png" for number in range(1, 11)])
    told = []

    def choose(num_frames, fps):
        told.append((num_frames, fps))
        return chooser("mmaction2@1", clip=ClipSpec(frames=4, stride=2), num_clips=1)(
            num_frames, fps
        )

    clips = read_frame_clips(folder, choose, fps=12.0)

    # mmaction2, one clip: span (4 - 1) * 2 + 1 = 7, start (10 - 7) // 2 = 1.
    assert clips.frames[0, :, 0, 0, 0].tolist() == [10, 30, 50, 70]
    assert told == [(10, 12.0)]
    assert (clips.num_frames, clips.fps, clips.remarks) == (10, 12.0, ())


def test_optical_flow_hidden_files_and_notes_are_left_out(tmp_path):
    folder = write_frames(tmp_path / "clip", ["img_00001.png", "img_00002.png"])
    write_frames(folder, ["flow_x_00001.png", "flow_y_00001.png", ".thumb1.png"])
    (folder / "n_frames").write_text("2")

    assert frame_names(folder) == ("img_00001.png", "img_00002.png")


def test_numbers_may_start_at_nought(tmp_path):
    folder = write_frames(tmp_path / "clip", ["0.png", "1.png", "2.png"])

    assert levels(folder) == [0, 10, 20]


def test_only_chosen_frames_are_decoded_and_each_once(tmp_path, monkeypatch):
    folder = write_frames(tmp_path / "clip", [f"{number:05}.png" for number in range(1, 6)])
    (folder / "00002.png").write_bytes(b"damaged")
    seen = []

    def transform(pixels):
        seen.append(int(pixels[0, 0, 0]))
        return pixels[:2, :3].astype(np.float32) / 2

    clips = read_frame_clips(
        folder, lambda n, fps: np.array([[0, 4], [4, 2]]), fps=1.0, transform=transform
    )

    assert seen == [0, 20, 40]
    assert clips.frames.shape == (2, 2, 2, 3, 3)
    assert clips.frames.dtype == np.float32
    assert clips.frames[:, :, 0, 0, 0].tolist() == [[0.0, 20.0], [20.0, 10.0]]
    with pytest.raises(MediaError, match=r"^clip: 00002\.png: must be a picture that decodes"):
        read_frame_clips(folder, lambda n, fps: np.array([[1]]), fps=1.0)


def test_a_list_s_other_count_is_remarked_on_and_the_folder_s_holds(tmp_path):
    folder = write_frames(tmp_path / "clip", ["1.png", "2.png", "3.png"])

    clips = read_frame_clips(folder, choose_all, fps=12.0, num_listed=5)

    assert clips.num_frames == 3
    assert clips.remarks == ("list claims 5 frames, the folder has 3",)
    assert read_frame_clips(folder, choose_all, fps=12.0, num_listed=3).remarks == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "must hold numbered frames"),
        (["flow_x_00001.png"], "must hold numbered frames"),
        (["img_00001.png", "img_00003.png"], r"number 2 is missing before img_00003\.png"),
        (["00002.png", "00003.png"], r"number 1 is missing before 00002\.png"),
        (["img_00001.png", "00002.png"], r"img_00001\.png and 00002\.png have two"),
        (["00001.png", "00002.jpg"], r"00001\.png and 00002\.jpg have two"),
        (["1.png", "01.png"], "number 1 is there twice"),
        (["00001.png", "cover.png"], "'cover.png' does not"),
    ],
)
def test_a_folder_that_is_no_whole_extraction_is_refused(tmp_path, names, message):
    folder = write_frames(tmp_path / "clip", names)

    with pytest.raises(MediaError, match=message) as error:
        read_frame_clips(folder, choose_all, fps=12.0)

    assert str(error.value).startswith("clip: ")
    assert "\n" not in str(error.value)


def test_chosen_frames_of_two_sizes_are_refused_by_name(tmp_path):
    folder = write_frames(tmp_path / "clip", ["1.png", "2.png"])
    Image.new("RGB", (8, 4)).save(folder / "3.png")

    with pytest.raises(MediaError, match=r"1\.png is 6 x 4 and 3\.png is 8 x 4"):
        read_frame_clips(folder, choose_all, fps=12.0)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(tmp_path, fps):
    with pytest.raises(MediaError, match="frames per second must be a number above 0"):
        read_frame_clips(write_frames(tmp_path / "clip", ["1.png"]), choose_all, fps=fps)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(MediaError, match=r"^absent: must be a folder of frames"):
        read_frame_clips(tmp_path / "absent", choose_all, fps=12.0)
