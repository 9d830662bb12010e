"""The mark of a root of prepared copies."""

from __future__ import annotations

import pytest
from rsbench_tasks import csv as csv_task
from rsbench_tasks import folder

from rsbench.data.prepared import MANIFEST, prepared_form, video_form
from rsbench.errors import DataError


def test_a_marked_root_is_another_form_of_media(tmp_path):
    assert prepared_form(tmp_path) is None
    assert video_form(tmp_path) == "original"

    (tmp_path / MANIFEST).write_text('{"format": 1, "short_side": 256, "finished": true}')

    assert prepared_form(tmp_path) == "short-256"
    assert video_form(tmp_path) == "short-256"


def test_frames_are_another_form_by_their_size_and_rate(tmp_path):
    assert video_form(tmp_path, folders=True) == "frames"
    assert video_form(tmp_path, folders=True, fps=12.0) == "frames@12"
    assert video_form(tmp_path, folders=True, fps=29.97) == "frames@29.97"

    (tmp_path / MANIFEST).write_text('{"short_side": 256}')

    assert video_form(tmp_path, folders=True) == "frames-short-256"
    assert video_form(tmp_path, folders=True, fps=12.0) == "frames-short-256@12"
    # A video has a clock of its own.
    assert video_form(tmp_path, fps=12.0) == "short-256"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "{}", '{"short_side": "256"}', '{"short_side": true}', '{"short_side": 0}'],
)
def test_a_mark_that_says_nothing_is_refused(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)

    with pytest.raises(DataError, match='a whole "short_side" in pixels'):
        prepared_form(tmp_path)


def test_a_root_that_is_still_being_prepared_is_refused(tmp_path):
    (tmp_path / MANIFEST).write_text('{"short_side": 256, "finished": false}')

    with pytest.raises(DataError, match="being prepared and not finished"):
        prepared_form(tmp_path)


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_own_videos_of_a_prepared_root_are_another_form_of_media(tmp_path, name):
    task = {"folder": folder, "csv": csv_task}[name]
    for clip in ("cat/1.mp4", "cat/2.mp4", "dog/1.mp4", "dog/2.mp4"):
        for part in ("train", "test"):
            path = tmp_path / part / clip
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    lines = [
        f"{part}/{label}/{number}.mp4,{label},{part}"
        for part in ("train", "test") for label in ("cat", "dog") for number in (1, 2)
    ]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    root = tmp_path / "list.csv" if name == "csv" else tmp_path

    before = task.TASK.load(root, "test").media
    (tmp_path / MANIFEST).write_text('{"short_side": 256}')

    assert (before, task.TASK.load(root, "test").media) == ("original", "short-256")
