"""Archives are held whole without believing a word of what stands in them."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from rsbench.errors import WeightsError
from rsbench.weights.containers import hold_whole
from rsbench.weights.state import is_there

BOMB_BYTES = 64 << 20


def archive(**pax_headers: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("model.ckpt.index")
        entry.size, entry.pax_headers = 5, pax_headers
        tar.addfile(entry, io.BytesIO(b"index"))
    return stream.getvalue()


@pytest.mark.parametrize("packed", [gzip.compress, bytes])
def test_a_whole_archive_passes_and_each_cut_is_refused(tmp_path: Path, packed) -> None:
    whole = archive()
    path = tmp_path / "weights.tar.gz"
    path.write_bytes(packed(whole))
    hold_whole(path, "tf1", what="it")

    # The archive cut before its end, wrapped soundly; and the file itself cut.
    for content in (packed(whole[:1024]), packed(whole)[:40]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"cut short or damaged|begins with"):
            hold_whole(path, "tf1", what="it")


def test_an_archive_that_swells_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(archive(comment="a" * BOMB_BYTES), compresslevel=1))

    tracemalloc.start()
    try:
        hold_whole(path, "tf1", what="it")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < BOMB_BYTES / 4


def test_a_name_longer_than_any_file_s_is_no_file(tmp_path: Path) -> None:
    assert not is_there(tmp_path / ("a" * 300))
