"""Every layout that can be written is read back by the real loader with the same ids and labels."""

from __future__ import annotations

import numpy as np
import pytest
from rsbench_tasks import csv as csv_task
from rsbench_tasks import folder, kinetics400, kinetics600, kinetics700

from rsbench.data.layouts import LAYOUTS, Example, untested_layouts

CLASSES = ("pan left", "zoom in")

KINETICS = [
    name
    for name in LAYOUTS
    # The name of mmaction2's list says which data set it is of; see test_kinetics.
    if ("kinetics" in name and "mmaction2" not in name) or name == "path label list"
]


def _examples(*, splits=("train", "validation"), sources=2, picture=False):
    for split in splits:
        for number in range(sources):
            for index, label in enumerate(CLASSES):
                yield Example(
                    split=split,
                    label=label,
                    source=f"{split[:5] or 'scene'}-{number}{index}",
                    start_seconds=10,
                    end_seconds=20,
                    pixels=np.full((32, 32, 3) if picture else (3, 32, 32, 3), 60, dtype=np.uint8),
                )


@pytest.mark.parametrize("module", [kinetics400, kinetics600, kinetics700])
@pytest.mark.parametrize("layout", KINETICS)
def test_the_kinetics_loader_reads_every_kinetics_layout(tmp_path, layout, module):
    LAYOUTS[layout](tmp_path, _examples(), CLASSES)

    for name, prefix in (("train", "train"), ("validation", "valid")):
        split = module.TASK.load(tmp_path, name)
        labels = {item.id: split.classes[item.target] for item in split.items}
        assert labels == {
            f"{prefix}-{number}{index}_000010_000020": label
            for number in range(2)
            for index, label in enumerate(CLASSES)
        }
        assert [item.group for item in split.items] == [item.id[:8] for item in split.items]
        assert split.classes == CLASSES
        assert split.missing == ()


def test_class_folders_are_written_with_and_without_splits(tmp_path):
    for name, splits in (("split", ("train", "test")), ("plain", ("",))):
        root = tmp_path / name
        root.mkdir()
        LAYOUTS["class folders"](root, _examples(splits=splits, picture=True), CLASSES)

    assert folder.read_folder(tmp_path / "split").splits == {"train", "test"}
    plain = folder.read_folder(tmp_path / "plain")
    assert plain.kind == "image"
    assert plain.splits == frozenset()
    assert plain.items[0].id == "pan left/scene-00_000010_000020.png"


def test_a_csv_file_s_segments_meet_half_a_frame_before_their_first_frame(tmp_path):
    examples = [
        Example(
            split="", label=label, source="scene", start_seconds=0, end_seconds=1,
            pixels=np.zeros((3, 32, 32, 3), dtype=np.uint8),
        )
        for label in CLASSES
    ]  # fmt: skip
    LAYOUTS["csv file"](tmp_path, examples, CLASSES)

    items = csv_task.read_csv(tmp_path).items

    # At 15 frames a second the second segment's first frame, number 3, is shown at 0.2 s.
    assert [(item.start_seconds, item.end_seconds) for item in items] == [
        (0.0, 0.1667),
        (0.1667, 0.3667),
    ]


def test_writing_twice_gives_the_same_bytes(tmp_path):
    contents = []
    for name in ("first", "second"):
        root = tmp_path / name
        root.mkdir()
        LAYOUTS["kinetics csv, flat"](root, _examples(sources=1), CLASSES)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        contents.append([(path.relative_to(root), path.read_bytes()) for path in files])

    assert contents[0] == contents[1]


def test_a_layout_without_writer_is_listed_as_untested():
    assert untested_layouts(["class folders", "frames in zip files"]) == ("frames in zip files",)
