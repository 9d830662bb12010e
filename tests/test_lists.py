"""Lists of labelled media, and class names."""

from __future__ import annotations

import pytest

from rsbench.data.lists import (
    ClassList,
    clip_id,
    is_clip_csv,
    normal_class_name,
    read_class_names,
    read_clip_csv,
    read_flags,
    read_path_labels,
    read_paths,
    read_table,
    source_of_clip,
)
from rsbench.errors import DataError

HEADER = "label,youtube_id,time_start,time_end,split\n"


def _file(tmp_path, content, name="list.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _pairs(path):
    return [(line.path, line.label) for line in read_path_labels(path)]


# ---------------------------------------------------------------------------- path label lists


@pytest.mark.parametrize("separator", [" ", ",", "\t", ", ", "   "])
def test_a_path_and_a_label_are_told_apart_whatever_separates_them(tmp_path, separator):
    path = _file(tmp_path, f"abseiling/a.mp4{separator}0\nair drumming/b c.mp4{separator}17\n")

    assert _pairs(path) == [("abseiling/a.mp4", "0"), ("air drumming/b c.mp4", "17")]
    assert [line.index for line in read_path_labels(path)] == [0, 17]


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_class_names_may_hold_blanks_and_brackets(tmp_path, separator):
    label = "passing American football (not in game)"
    path = _file(tmp_path, f"val/my clips, old/a.b.mkv{separator}{label}\n")

    assert _pairs(path) == [("val/my clips, old/a.b.mkv", label)]


def test_a_folder_named_like_a_video_does_not_end_the_path(tmp_path):
    assert _pairs(_file(tmp_path, "old.mp4 files/a.webm riding a bike\n")) == [
        ("old.mp4 files/a.webm", "riding a bike")
    ]


def test_quotes_are_taken_off(tmp_path):
    assert _pairs(_file(tmp_path, '"val/a, b.mp4","petting animal (not cat)"\n')) == [
        ("val/a, b.mp4", "petting animal (not cat)")
    ]


def test_blank_lines_comments_byte_order_marks_and_windows_line_ends_are_read_over(tmp_path):
    path = _file(tmp_path, b"\xef\xbb\xbf# mine\r\n\r\na.mp4 1\r\n")

    assert _pairs(path) == [("a.mp4", "1")]
    assert read_path_labels(path)[0].where == "list.txt, line 3"


@pytest.mark.parametrize("line", ["a.mp4", "a.mp4,", "abseiling/a 300 5", "abseiling 5"])
def test_a_line_without_video_or_label_is_named(tmp_path, line):
    path = _file(tmp_path, f"a.mp4 1\n{line}\n")

    with pytest.raises(DataError, match=r"list.txt, line 2: a line must be 'path label'"):
        read_path_labels(path)


def test_text_that_is_not_utf8_is_refused_by_its_line(tmp_path):
    with pytest.raises(DataError, match=r"list.txt, line 2: the text must be UTF-8"):
        read_path_labels(_file(tmp_path, b"a.mp4 1\nb\xe9.mp4 2\n"))


def test_a_binary_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="NUL bytes"):
        read_path_labels(_file(tmp_path, b"a.mp4 1\n\0\0"))


def test_a_name_that_starts_with_a_hash_is_no_comment(tmp_path):
    # "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi" is a clip of HMDB51.
    path = _file(tmp_path, "# a.mp4 1\n#b\n#20_Rhythm.avi 3\n")

    assert _pairs(path) == [("#20_Rhythm.avi", "3")]


def test_paths_may_come_without_labels(tmp_path):
    path = _file(tmp_path, "Archery/v_Archery_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi 101\n")

    assert [(line.path, line.label, line.index) for line in read_paths(path)] == [
        ("Archery/v_Archery_g01_c01.avi", "", None),
        ("YoYo/v_YoYo_g01_c01.avi", "101", 101),
    ]
    with pytest.raises(DataError, match=r"list.txt, line 1: a line must be 'path label'"):
        read_paths(_file(tmp_path, "Archery\n"))


def test_a_flag_is_what_stands_after_the_last_blank(tmp_path):
    path = _file(tmp_path, "#20 a.avi 1 \r\n\n(x)'s_[y];.avi 2\n")

    assert [(line.path, line.label) for line in read_flags(path)] == [
        ("#20 a.avi", "1"),
        ("(x)'s_[y];.avi", "2"),
    ]
    with pytest.raises(DataError, match=r"list.txt, line 1: a line must be 'name flag'"):
        read_flags(_file(tmp_path, "a.avi\n"))


# ---------------------------------------------------------------------------- official CSVs


def test_an_official_csv_is_told_by_its_header(tmp_path):
    assert is_clip_csv(_file(tmp_path, HEADER))
    assert is_clip_csv(_file(tmp_path, "\ufeff" + HEADER.upper()))
    assert not is_clip_csv(_file(tmp_path, "val/a.mp4,0\n"))
    assert not is_clip_csv(_file(tmp_path, ""))


def test_an_official_row_gives_the_official_name(tmp_path):
    # File names of https://github.com/cvdfoundation/kinetics-dataset.
    path = _file(tmp_path, HEADER + "testifying,---QUuC4vJs,84,94,validate\n")

    (clip,) = read_clip_csv(path)

    assert clip.id == "---QUuC4vJs_000084_000094"
    assert (clip.label, clip.split, clip.where) == ("testifying", "validate", "list.txt, line 2")


def test_more_columns_and_no_split_column_are_fine(tmp_path):
    path = _file(tmp_path, "youtube_id,label,time_start,time_end,is_cc\nabc,yoga,1.0,11,0\n")

    assert [(clip.id, clip.split) for clip in read_clip_csv(path)] == [("abc_000001_000011", "")]


def test_a_clip_listed_twice_is_refused_by_both_lines(tmp_path):
    path = _file(tmp_path, HEADER + "yoga,abc,0,10,val\nzumba,abc,0,10,val\n")

    with pytest.raises(DataError, match=r"line 3: clip abc_000000_000010 .* list.txt, line 2"):
        read_clip_csv(path)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("yoga,abc,ten,20,val", "time_start must be whole seconds"),
        ("yoga,abc,1.5,20,val", "time_start must be whole seconds"),
        ("yoga,abc,-1,20,val", "time_start must be whole seconds"),
        ("yoga,,0,10,val", "youtube_id must not be empty"),
        ("yoga,abc,0,10", "a row must have 5 fields"),
        ('"yoga,abc,0,10,val', "the row can't be read"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, fault):
    with pytest.raises(DataError, match=f"list.txt, line 2: {fault}"):
        read_clip_csv(_file(tmp_path, HEADER + row + "\n"))


def test_clip_names_are_made_and_taken_apart():
    assert clip_id("a_b-c", 7, 17) == "a_b-c_000007_000017"
    assert source_of_clip("a_b-c_000007_000017") == "a_b-c"
    assert source_of_clip("a_b-c") == "a_b-c"


# ---------------------------------------------------------------------------- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_separator_is_the_one_of_the_header(tmp_path, delimiter):
    path = _file(tmp_path, delimiter.join(("Path", " label ")) + f"\na,b;c{delimiter}x\n")
    if delimiter in ",;":
        path = _file(tmp_path, delimiter.join(("Path", " label ")) + f'\n"a,b;c"{delimiter}x\n')

    (row,) = read_table(path, required=("path", "label"))

    assert row.values == {"path": "a,b;c", "label": "x"}


def test_a_row_after_a_quoted_line_break_is_named_by_its_own_line(tmp_path):
    path = _file(tmp_path, 'path,label\n"a\nb",x\n\nc\n')

    with pytest.raises(DataError, match="line 5: a row must have 2 fields"):
        read_table(path, required=("path", "label"))


def test_a_header_without_the_columns_or_with_one_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"line 1: the header must name the columns path, label"):
        read_table(_file(tmp_path, "a.mp4,x\n"), required=("path", "label"))
    with pytest.raises(DataError, match="'label' is there twice"):
        read_table(_file(tmp_path, "path,label,label\n"), required=("path", "label"))


# ---------------------------------------------------------------------------- class names


@pytest.mark.parametrize(
    "spelling", ["air_drumming", "Air Drumming", " air  drumming ", "AIR_drumming"]
)
def test_spellings_of_a_class_are_one(spelling):
    assert normal_class_name(spelling) == "air drumming"


def test_composed_and_decomposed_accents_are_one():
    assert normal_class_name("cafe\u0301") == normal_class_name("caf\u00e9")


def test_an_unknown_class_is_refused_with_the_nearest_name():
    classes = ClassList(["abseiling", "air drumming"], of="kinetics400")

    assert classes.index_of("Air_drumming", where="x") == 1
    with pytest.raises(DataError, match=r"x: label 'air druming' .*did you mean 'air drumming'\?"):
        classes.index_of("air druming", where="x")


def test_an_index_outside_the_classes_is_refused():
    classes = ClassList(["abseiling", "air drumming"], of="kinetics400")

    assert classes.name_at(1, where="x") == "air drumming"
    with pytest.raises(DataError, match="x: label 2 must be a class index from 0 to 1"):
        classes.name_at(2, where="x")


def test_two_spellings_of_one_class_make_no_list():
    with pytest.raises(DataError, match="'Yoga' and 'yoga' do not"):
        ClassList(["Yoga", "yoga"], of="mine")


def test_class_names_are_read_one_a_line(tmp_path):
    assert read_class_names(_file(tmp_path, "yoga\n\n zumba \n")) == ("yoga", "zumba")
    with pytest.raises(DataError, match="one class name a line, it is empty"):
        read_class_names(_file(tmp_path, "\n"))
