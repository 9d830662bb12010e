"""Every layout of the annotated data sets is written and read back by the real loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rsbench_tasks import charades, diving48, jester, something_something_v2

from rsbench.data.examples import Action, Example
from rsbench.data.layouts import LAYOUTS, untested_layouts
from rsbench.data.loaders import read_item
from rsbench.data.multilabel_sample import PHOTOGRAPHS, write_multilabel_sample
from rsbench.data.sample import MOTIONS
from rsbench.specs import ClipSpec, InputSpec, Reading, Task, Views

CLASSES = ("pan left", "zoom in")
TASKS = [something_something_v2.TASK, jester.TASK, diving48.TASK, charades.TASK]
NUM_FRAMES = 6


def _examples(reported: str) -> list[Example]:
    """Two examples of each class and split; the second class's pictures are brighter."""
    return [
        Example(
            split=split,  # type: ignore[arg-type]
            label=label,
            source=f"{split}{number}",
            start_seconds=index,
            end_seconds=index + 1,
            pixels=np.full((NUM_FRAMES, 32, 48, 3), 60 + 120 * index, dtype=np.uint8),
            actions=(Action(label, 0.0, 0.4), Action(CLASSES[0], 0.2, 0.4)),
        )
        for split in ("train", reported)
        for number in range(2)
        for index, label in enumerate(CLASSES)
    ]


@pytest.mark.parametrize(
    ("task", "layout"),
    [(task, layout) for task in TASKS for layout in task.layouts],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_layout_comes_back_with_its_labels_and_its_pixels(
    tmp_path: Path, task: Task, layout: str
) -> None:
    assert not callable(task.folds)
    (fold,) = task.folds
    LAYOUTS[layout](tmp_path, _examples(fold.test), CLASSES)
    reading = Reading(
        modality="video",
        input=InputSpec(pixels=16, frames=4, stride=1),
        clip=ClipSpec(frames=4, stride=1),
        sampler="mmaction2@1",
        views=Views(),
    )

    for name in (fold.train, fold.test):
        assert name is not None
        split = task.load(tmp_path, name)
        names = tuple(each.replace("+", " ") for each in split.classes)
        assert names == CLASSES
        assert split.missing == ()
        assert split.num_official == len(split.items) == 4
        found = []
        for item in split.items:
            views, facts = read_item(item, reading)
            assert facts.num_frames == NUM_FRAMES
            assert facts.remarks == ()
            brightness = float(views.float().mean())
            found.append(item.target)
            is_bright = item.target in (1, (0, 1))
            assert brightness == pytest.approx(180 if is_bright else 60, abs=3)
        one, both = (1, 0) if task.target == "class" else ((0, 1), (0,))
        assert sorted(found) == sorted([one, both] * 2)


def test_no_layout_of_these_tasks_is_untested() -> None:
    assert untested_layouts(layout for task in TASKS for layout in task.layouts) == ()


def test_the_multi_label_sample_shows_each_scene_s_eight_motions_once(tmp_path: Path) -> None:
    write_multilabel_sample(tmp_path, layout="charades v1", num_train_scenes=2, num_test_scenes=1)

    train, test = (charades.TASK.load(tmp_path, split) for split in ("train", "test"))

    assert train.classes == (*MOTIONS, *PHOTOGRAPHS)
    assert (len(train.items), len(test.items)) == (8, 4)
    for scene, photograph in (("train-00000", 8), ("train-00001", 9)):
        targets = [item.target for item in train.items if item.group == scene]
        motions = [label for target in targets for label in target if label < 8]
        assert sorted(motions) == [*range(8)]
        assert all(target[-1] == photograph for target in targets)
        assert sorted(len(target) for target in targets) == [2, 3, 3, 4]


def test_a_folder_with_other_than_the_listed_frames_is_read_and_remarked_on(tmp_path: Path) -> None:
    LAYOUTS["jester v1, rawframe list"](tmp_path, _examples("validation"), CLASSES)
    (item, *_) = jester.TASK.load(tmp_path, "validation").items
    assert isinstance(item.source, Path)
    (item.source / f"img_{NUM_FRAMES:05}.jpg").unlink()

    _, facts = read_item(
        item,
        Reading(
            modality="video",
            input=InputSpec(pixels=16, frames=2, stride=1),
            clip=ClipSpec(frames=2, stride=1),
            sampler="psf@1",
            views=Views(),
        ),
    )

    assert (facts.num_frames, facts.fps) == (NUM_FRAMES - 1, 12.0)
    assert facts.remarks == (f"list claims {NUM_FRAMES} frames, the folder has {NUM_FRAMES - 1}",)
