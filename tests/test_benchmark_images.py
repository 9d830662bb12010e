"""The benchmark of image loading, at a size for tests: all read the same, and ratios are ratios."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FILE = Path(__file__).parents[1] / "benchmarks" / "images.py"


@pytest.fixture(scope="module")
def images() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_images", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


def test_everybody_makes_the_same_views_of_the_same_pictures(
    images: ModuleType, tmp_path: Path
) -> None:
    paths = images.make_pictures(tmp_path, 3)
    readers, _ = images.available()

    for seed, path in enumerate(paths):
        wanted = images.Wanted(path, seed)
        for work in images.WORK:
            expected = readers["Pillow"][work](wanted)
            for name, by_work in readers.items():
                found = by_work[work](wanted)
                assert found.dtype == torch.uint8
                assert found.shape == expected.shape
                error = float(((found.double() - expected.double()) ** 2).mean())
                # OpenCV's filter aliases; another box would be off by 10 decibels.
                least = 25 if name == "OpenCV" else 50
                assert images._decibels(error) > least, (name, work)
            assert images.READERS["rsbench"][1]["decode"](wanted).shape == (3, 375, 500)


def test_the_table_has_a_line_a_reader_and_a_verdict_a_goal(
    images: ModuleType, tmp_path: Path
) -> None:
    readers = {name: images.READERS[name][1] for name in ("rsbench", "Pillow")}
    rows = images.measure(images.make_pictures(tmp_path, 2), readers, 2)

    lines = list(images.lines_of(rows, 2))

    decoded = next(row for row in rows if (row.work, row.reader) == ("decode", "rsbench"))
    assert decoded.num_exact == 2
    assert sum(line.startswith("| ") for line in lines) == 2 + 3 * 2
    assert "train: simplejpeg, decode is not installed, so the goal of 0.5x is open." in lines


def test_a_ratio_is_the_median_over_repeats(images: ModuleType) -> None:
    def row(*microseconds: float) -> object:
        return images.Row(
            work="train", reader="", microseconds=microseconds, decibels=None, num_exact=None
        )

    # 2, 4 and 3 times as fast.
    assert images.speed_ratio(row(1.0, 1.0, 2.0), row(2.0, 4.0, 6.0)) == 3.0
