"""A sample of videos with several labels: which motions are seen, and in which photograph.

The motions are those of `rsbench.data.sample`, played one after another: the eight of a scene are
dealt out to four videos, of one to three motions. The photograph can be told from any frame, the
motions only from their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rsbench.data.examples import FRAMES_PER_SECOND, Action, Example

if TYPE_CHECKING:
    from rsbench.data.examples import SplitWord
    from rsbench.data.sample import MotionClip, Part

PHOTOGRAPHS = ("seeing a temple", "seeing a flower")
"""Labels of china.jpg and flower.jpg of scikit-learn."""

_MOTIONS_OF_VIDEO = (1, 2, 2, 3)
"""How many of a scene's eight motions each of its videos shows, in a random order."""


def write_multilabel_sample(
    root: Path,
    *,
    layout: str,
    seed: int = 0,
    num_train_scenes: int = 24,
    num_test_scenes: int = 12,
) -> None:
    """Write the videos as a data set of ten classes with a train and a test split.

    Args:
        root: An existing empty folder.
        layout: One of `rsbench.data.layouts.LAYOUTS` that holds several labels a video.
        seed: Of the scenes and of who shows what.
        num_train_scenes: Four videos each; two show every class.
        num_test_scenes: Four videos each.
    """
    from rsbench.data.layouts import LAYOUTS
    from rsbench.data.sample import MOTIONS

    train = _videos(seed, num_train_scenes, part="train", split="train")
    test = _videos(seed + 1, num_test_scenes, part="test", split="test")
    LAYOUTS[layout](root, itertools.chain(train, test), (*MOTIONS, *PHOTOGRAPHS))


def _videos(seed: int, num_scenes: int, *, part: Part, split: SplitWord) -> Iterator[Example]:
    from rsbench.data.sample import motion_clips

    random = np.random.default_rng([seed, 1])
    scenes = itertools.groupby(motion_clips(seed, num_scenes, part=part), lambda clip: clip.scene)
    for scene, clips in scenes:
        shuffled = list(clips)
        random.shuffle(shuffled)
        first = 0
        for num_motions in random.permutation(_MOTIONS_OF_VIDEO).tolist():
            shown = shuffled[first : first + num_motions]
            yield _video(shown, scene=scene, split=split, number=first)
            first += num_motions


def _video(clips: list[MotionClip], *, scene: int, split: SplitWord, number: int) -> Example:
    pixels = np.concatenate([clip.frames for clip in clips])
    seconds = len(pixels) / FRAMES_PER_SECOND
    each = seconds / len(clips)
    motions = [Action(clip.motion, i * each, (i + 1) * each) for i, clip in enumerate(clips)]
    return Example(
        split=split,
        label="",
        source=f"{split}-{scene:05d}",
        start_seconds=number,
        end_seconds=number + 1,
        pixels=pixels,
        actions=(Action(PHOTOGRAPHS[scene % 2], 0.0, seconds), *motions),
    )
