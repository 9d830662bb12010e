"""Never leaving a data root."""

from __future__ import annotations

import os

import pytest

from rsbench.data.files import RootGuard
from rsbench.errors import DataError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "outside.mp4").touch()
    root = tmp_path / "root"
    (root / "val").mkdir(parents=True)
    (root / "val" / "a.mp4").touch()
    return root


def _locate(root, entry):
    return RootGuard(root).locate(entry, bases=(root, root / "val"), where="list.txt, line 3")


def test_an_entry_is_found_under_any_of_the_bases(root):
    assert _locate(root, "val/a.mp4") == root / "val" / "a.mp4"
    assert _locate(root, "a.mp4") == root / "val" / "a.mp4"
    assert _locate(root, "b.mp4") is None


def test_an_absolute_path_inside_the_root_is_fine(root):
    found = _locate(root, str(root / "val" / "a.mp4"))

    assert found == root / "val" / "a.mp4"
    assert RootGuard(root).relative(found) == "val/a.mp4"


def test_an_absolute_path_through_another_name_of_the_root_is_fine(root, tmp_path):
    (tmp_path / "alias").symlink_to(root)

    found = _locate(root, str(tmp_path / "alias" / "val" / "a.mp4"))

    assert found is not None
    assert RootGuard(root).relative(found) == "val/a.mp4"


@pytest.mark.parametrize("entry", ["../outside.mp4", "val/../val/a.mp4", "/etc/../etc/passwd.mp4"])
def test_a_step_up_is_refused_by_its_line(root, entry):
    with pytest.raises(DataError, match=r"list.txt, line 3: .*'\.\.' part"):
        _locate(root, entry)


def test_an_absolute_path_outside_is_refused_by_its_line(root, tmp_path):
    with pytest.raises(DataError, match=r"list.txt, line 3: .*must lie below the data root"):
        _locate(root, str(tmp_path / "outside.mp4"))


def test_a_sibling_that_begins_like_the_root_is_outside(root, tmp_path):
    (tmp_path / "rootkit").mkdir()
    (tmp_path / "rootkit" / "a.mp4").touch()

    with pytest.raises(DataError, match="must lie below the data root"):
        _locate(root, str(tmp_path / "rootkit" / "a.mp4"))


def test_a_link_to_a_file_outside_is_refused(root, tmp_path):
    (root / "val" / "link.mp4").symlink_to(tmp_path / "outside.mp4")

    with pytest.raises(DataError, match=r"line 3: 'val/link.mp4' must lie below"):
        _locate(root, "val/link.mp4")
    with pytest.raises(DataError, match=r"'link.mp4' must lie below"):
        RootGuard(root).walk(root)


def test_a_link_to_a_folder_outside_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.mp4").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DataError, match="must lie below"):
        _locate(root, "linked/b.mp4")
    with pytest.raises(DataError, match="must lie below"):
        RootGuard(root).walk(root)


def test_a_broken_link_to_the_outside_is_refused_too(root, tmp_path):
    (root / "gone.mp4").symlink_to(tmp_path / "absent.mp4")

    with pytest.raises(DataError, match="must lie below"):
        _locate(root, "gone.mp4")


def test_links_inside_the_root_are_followed(root):
    (root / "validation").symlink_to(root / "val")
    (root / "b.mp4").symlink_to(root / "val" / "a.mp4")

    assert _locate(root, "b.mp4") == root / "b.mp4"
    assert root / "validation" / "a.mp4" in RootGuard(root).walk(root)


def test_a_folder_linked_into_itself_does_not_hang(root):
    (root / "val" / "again").symlink_to(root / "val")

    assert RootGuard(root).walk(root) == [root / "val" / "a.mp4"]


def test_hidden_files_are_not_listed(root):
    (root / "val" / ".a.mp4.partial").touch()
    (root / ".cache").mkdir()
    (root / ".cache" / "c.mp4").touch()

    assert RootGuard(root).walk(root) == [root / "val" / "a.mp4"]


def test_a_name_that_is_not_utf8_is_refused(root):
    with open(os.fsencode(root) + b"/b\xff.mp4", "wb"):  # noqa: PTH123 - Path takes no bytes
        pass

    with pytest.raises(DataError, match="must be UTF-8"):
        RootGuard(root).walk(root)


def test_a_name_with_a_line_break_is_refused(root):
    (root / "b\nc.mp4").touch()

    with pytest.raises(DataError, match=r"without line breaks, .*b\\nc.mp4"):
        RootGuard(root).walk(root)


def test_an_entry_too_long_for_the_disk_is_refused_by_its_line(root):
    with pytest.raises(DataError, match=r"list.txt, line 3: .*can't be looked up"):
        _locate(root, "a" * 5000 + ".mp4")


@pytest.mark.parametrize("entry", ["", "  ", "a\0b.mp4", "a\nb.mp4"])
def test_an_entry_that_is_no_path_is_refused(root, entry):
    with pytest.raises(DataError, match="line 3: a path must be given"):
        _locate(root, entry)


def test_a_folder_is_found_by_its_own_name_and_a_file_is_none(root):
    (root / "frames" / "7").mkdir(parents=True)
    (root / "frames" / "8").touch()
    bases, where = (root, root / "frames"), "list.txt, line 3"

    assert RootGuard(root).locate_folder("7", bases=bases, where=where) == root / "frames" / "7"
    assert RootGuard(root).locate_folder("8", bases=bases, where=where) is None
    assert RootGuard(root).locate("7", bases=bases, where=where) is None
    with pytest.raises(DataError, match=r"line 3: .*'\.\.' part"):
        RootGuard(root).locate_folder("../7", bases=bases, where=where)


def test_a_linked_folder_outside_is_refused_by_its_line(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "7").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DataError, match="line 3: '7' must lie below the data root"):
        RootGuard(root).locate_folder("7", bases=(root,), where="list.txt, line 3")


def test_the_files_of_a_folder_are_its_own_visible_ones(root):
    folder = root / "clips"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.mp4", "a.mp4", ".hidden.mp4", "deeper/c.mp4"):
        (folder / name).touch()

    assert RootGuard(root).files(folder) == [folder / "a.mp4", folder / "b.mp4"]
