"""Lists of frame folders, with lines as the docstrings of mmaction2 and SlowFast show them."""

from __future__ import annotations

import pytest

from rsbench.data.frame_lists import (
    is_frame_list,
    is_rawframe_list,
    read_frame_list,
    read_rawframe_list,
)
from rsbench.errors import DataError

HEADER = "original_vido_id video_id frame_id path labels"


def write(tmp_path, *lines, name="list.txt"):
    path = tmp_path / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# ---------------------------------------------------------------------------- mmaction2


def test_a_line_is_a_folder_its_frames_and_its_labels(tmp_path):
    # The examples of mmaction2, mmaction/datasets/rawframe_dataset.py.
    path = write(tmp_path, "some/directory-1 163 1 3 5", "", "# a note", "some/directory-2 122 1")

    first, second = read_rawframe_list(path)

    assert (first.path, first.num_frames, first.labels) == ("some/directory-1", 163, (1, 3, 5))
    assert (second.path, second.num_frames, second.labels) == ("some/directory-2", 122, (1,))
    assert second.where == "list.txt, line 4"
    assert is_rawframe_list(path)


@pytest.mark.parametrize("line", ["a b/c 12 7", "a b/c,12,7", "a b/c\t12\t7", "a b/c/ 12 7"])
def test_paths_may_hold_blanks_and_commas_may_separate(tmp_path, line):
    (listed,) = read_rawframe_list(write(tmp_path, line))

    assert (listed.path, listed.num_frames, listed.labels) == ("a b/c", 12, (7,))


@pytest.mark.parametrize("line", ["74225.webm 3", "abseiling/a.mp4 abseiling", "x 12", ""])
def test_lists_of_files_are_told_apart(tmp_path, line):
    assert not is_rawframe_list(write(tmp_path, line))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("folder 12", "line 2: a line must be 'folder frames label'"),
        ("folder twelve 1", "line 2: a line must be 'folder frames label'"),
        ("folder 0 1", "line 2: a folder must have at least 1 frame"),
        ("folder 12 3 3", "line 2: labels must differ"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        read_rawframe_list(write(tmp_path, "folder 12 1", line))


# ---------------------------------------------------------------------------- SlowFast


def test_the_frames_of_a_video_become_one_entry_with_all_labels(tmp_path):
    path = write(
        tmp_path,
        HEADER,
        '46GP8 0 0 46GP8/46GP8-000001.jpg ""',
        '46GP8 0 1 46GP8/46GP8-000002.jpg "97"',
        'N11GT 1 0 N11GT/N11GT-000001.jpg "59,97"',
        '46GP8 0 2 46GP8/46GP8-000003.jpg "92,97"',
    )

    first, second = read_frame_list(path)

    assert (first.id, first.path, first.num_frames, first.labels) == ("46GP8", "46GP8", 3, (92, 97))
    assert (second.id, second.path, second.num_frames, second.labels) == (
        "N11GT", "N11GT", 1, (59, 97),
    )  # fmt: skip
    assert second.where == "list.txt, line 4"
    assert is_frame_list(path)
    assert not is_frame_list(write(tmp_path, "46GP8 12 3", name="other.txt"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['a 0 0 a/1.jpg "1"', "a 0 1 a/2.jpg"], "line 3: a line must be"),
        (['a 0 0 a/1.jpg "one"'], "line 2: labels must be class indices"),
        (['a 0 0 a/1.jpg "1"', 'a 0 1 b/2.jpg "1"'], "line 3: the frames of a must lie in one"),
        (['a 0 0 a/1.jpg "1"', 'b 1 0 a/2.jpg "1"'], "line 3: b must have a folder of its own"),
    ],
)
def test_a_frame_that_does_not_fit_is_named(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_frame_list(write(tmp_path, HEADER, *lines))


def test_another_header_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"line 1: the header must be 'original_vido_id"):
        read_frame_list(write(tmp_path, "id label", "a 1"))


def test_text_that_is_not_utf_8_is_named_by_its_line(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(HEADER.encode() + b'\na 0 0 a/1.jpg "1"\n' + b"\xff\xfe\n")

    with pytest.raises(DataError, match="must be UTF-8"):
        read_frame_list(path)
