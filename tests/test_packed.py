"""Packed items are the items, and what is known of their content lies beside them."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path

import numpy as np

from rsbench.data.fingerprints import Fingerprints
from rsbench.data.packed import PackedItems
from rsbench.specs import Item


def test_packed_items_are_the_items_without_their_targets(tmp_path: Path) -> None:
    items = [
        Item(id="plain", source=tmp_path / "a.mp4", target=3),
        Item(id="é ü\u2028", source=Path("rel") / "b\udc80.mp4", group="g"),
        Item(id="cut", source=tmp_path / "c.mp4", start_seconds=7 / 30, end_seconds=math.pi),
        Item(id="frames", source=tmp_path / "f", fps=29.97, num_frames_listed=0),
        Item(id="array", source=np.zeros((2, 2, 3), dtype=np.uint8)),
    ]

    packed = PackedItems(items)

    assert len(packed) == 5
    assert packed[0] == Item(id="plain", source=tmp_path / "a.mp4")
    assert list(packed[1:4]) == items[1:4]
    assert packed[-1].source is items[4].source
    assert packed.content(0) is None


def test_content_is_the_digest_of_the_file_and_none_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"content")
    names = ("a.mp4", "not there.mp4", "a.mp4")
    items = [Item(id=str(row), source=tmp_path / name) for row, name in enumerate(names)]

    packed = PackedItems(items, fingerprints=Fingerprints(tmp_path / "memory"), rows=[0, 1])

    assert packed.content(0) == hashlib.sha256(b"content").hexdigest()
    assert packed.content(1) is None
    assert packed.content(2) is None


def test_a_file_or_folder_that_is_replaced_has_no_known_content(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"content")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(b"picture")
    items = [Item(id=name, source=tmp_path / name) for name in ("a.mp4", "frames")]
    packed = PackedItems(items, fingerprints=Fingerprints(tmp_path / "memory"))
    assert None not in (packed.content(0), packed.content(1))

    for name in ("a.mp4", "frames/1.png"):
        time.sleep(0.02)  # The kernel's clock for time stamps ticks every few milliseconds.
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[::-1])

    assert packed.content(0) is None
    assert packed.content(1) is None
    (tmp_path / "a.mp4").unlink()
    assert packed.content(0) is None
