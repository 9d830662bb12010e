"""The video sample can be told from motion only, and the cache holds it whole or not."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
from rsbench_tasks import kinetics400, kinetics600, kinetics700
from sklearn.linear_model import RidgeClassifierCV

from rsbench.data.sample import (
    CELL,
    COLUMNS,
    HEIGHT,
    MOTIONS,
    NUM_FRAMES,
    REVERSED,
    WIDTH,
    draw_scene,
    moment,
    motion_clips,
    sample_root,
    write_motion_sample,
)
from rsbench.errors import RunError
from rsbench.media.sampling import chooser, sample_clips
from rsbench.media.video import read_clips
from rsbench.specs import ClipSpec, Sample, Views

CLIP = ClipSpec(frames=16, stride=1)

NUM_TRAIN, NUM_TEST = 20, 12
"""Scenes, eight clips each: less than the sample's 40 and 20, to be fast."""


def _tiny(*, scenes=1, version=1):
    write = functools.partial(
        write_motion_sample,
        layout="kinetics csv, flat", num_train_scenes=scenes, num_test_scenes=1,
    )  # fmt: skip
    return replace(kinetics400.TASK, sample=Sample(write=write, version=version))


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """Centre clips of a written sample: {split: (grey float32 (N, T, H, W), classes (N,))}."""
    root = tmp_path_factory.mktemp("sample")
    write_motion_sample(
        root,
        layout="kinetics csv, class folders",
        num_train_scenes=NUM_TRAIN,
        num_test_scenes=NUM_TEST,
    )
    found = {}
    for name in ("train", "validation"):
        split = kinetics400.TASK.load(root, name)
        clips = [
            read_clips(item.source, chooser("mmaction2@1", clip=CLIP, num_clips=1)).frames[0]
            for item in split.items
        ]
        grey = np.stack(clips).astype(np.float32).mean(axis=-1)[..., 8:-8]
        found[name] = grey, np.array([item.target for item in split.items])
    return found


def _accuracy(decoded, features):
    train, test = decoded["train"], decoded["validation"]
    model = RidgeClassifierCV(alphas=np.logspace(-2, 4, 13))
    x_train, x_test = (np.stack([features(clip) for clip in clips]) for clips, _ in (train, test))
    mean, std = x_train.mean(axis=0), x_train.std(axis=0) + 1e-6
    model.fit((x_train - mean) / std, train[1])
    return model.score((x_test - mean) / std, test[1])


def _margin(chance):
    """Three standard deviations of a guesser's accuracy over the test clips."""
    return 3 * math.sqrt(chance * (1 - chance) / (8 * NUM_TEST))


# ---------------------------------------------------------------------------- by construction


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_classes_of_a_pair_are_each_other_run_backwards(part):
    clips = list(motion_clips(0, 2, part=part))
    for scene in range(2):
        frames = {clip.motion: clip.frames for clip in clips if clip.scene == scene}
        assert tuple(frames) == MOTIONS
        for motion, backwards in REVERSED.items():
            assert np.array_equal(frames[motion], frames[backwards][::-1])


def test_the_pairs_stay_reversed_in_the_clip_that_is_sampled():
    (rows,) = sample_clips("mmaction2@1", num_frames=NUM_FRAMES, clip=CLIP, num_clips=1, fps=15)

    assert list(rows) == list(range(4, 20))
    assert list(NUM_FRAMES - 1 - rows[::-1]) == list(rows)


def test_the_middle_picture_is_one_and_the_same_in_all_eight_classes():
    clips = list(motion_clips(0, 1))
    # The one frame that a single-frame clip is, and its mirror in time.
    ((row,),) = sample_clips(
        "mmaction2@1", num_frames=NUM_FRAMES, clip=ClipSpec(frames=1, stride=1), num_clips=1, fps=15
    )

    assert row == NUM_FRAMES // 2 - 1
    for clip in clips:
        assert np.array_equal(clip.frames[row], clips[0].frames[row])
        assert np.array_equal(clip.frames[row + 1], clips[0].frames[row])


def test_moments_are_odd_about_the_middle():
    moments = [moment(frame) for frame in range(NUM_FRAMES)]

    assert (moments[0], moments[11], moments[12], moments[-1]) == (-1, 0, 0, 1)
    assert [-value for value in reversed(moments)] == moments


def test_the_eight_motions_are_different_and_all_move():
    clips = [clip.frames.astype(int) for clip in motion_clips(0, 1)]

    for index, clip in enumerate(clips):
        assert np.abs(clip[0] - clip[-1]).mean() > 5
        for other in clips[:index]:
            assert np.abs(clip - other).mean() > 2


@pytest.mark.parametrize(
    ("motion", "start", "moved"),
    [
        # A dot right of the centre; hand calculation, rows count downwards.
        ("pan left", (0, 15), "right"),
        ("pan down", (0, 15), "up"),
        ("zoom in", (0, 15), "right"),
        ("rotate clockwise", (0, 15), "down"),
    ],
)
def test_a_motion_is_what_its_name_says(monkeypatch, motion, start, moved):
    from rsbench.data import sample

    photograph = np.zeros((427, 640, 3), dtype=np.uint8)
    photograph[200 + start[0] - 2 : 203 + start[0], 200 + start[1] - 2 : 203 + start[1]] = 255
    monkeypatch.setattr(sample, "photographs", lambda: (photograph, photograph))
    monkeypatch.setattr(
        sample,
        "draw_scene",
        lambda *_, **__: sample.Scene(
            photograph=0, centre=(200.5, 200.5), scale=1.0, gain=(1.0, 1.0, 1.0),
            offset=0.0, pan=(0.3, 0.3), zoom=1.8, turn=1.0,
        ),
    )  # fmt: skip
    frames = {clip.motion: clip.frames.mean(axis=-1) for clip in motion_clips(0, 1)}[motion]
    before, middle, after = (frames[n] for n in (4, 12, 19))

    def centre(frame):
        rows, columns = np.indices(frame.shape)
        return (rows * frame).sum() / frame.sum(), (columns * frame).sum() / frame.sum()

    assert centre(middle) == pytest.approx((HEIGHT / 2 + start[0], WIDTH / 2 + start[1]), abs=0.6)
    rows, columns = np.subtract(centre(after), centre(before))
    way = {"right": columns, "up": -rows, "down": rows}
    assert way[moved] > 5
    assert way[moved] == max(abs(rows), abs(columns))


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_motion_leaves_the_photograph(part):
    random = np.random.default_rng(0)
    for number in range(30):
        scene = draw_scene(random, number=number, part=part)
        left, right = COLUMNS[scene.photograph]
        # Corners of a rotated picture, sides of the widest one, and of the farthest pans.
        radius = math.hypot(WIDTH, HEIGHT) / 2
        reach_x, reach_y = (
            scene.scale * max(radius, side / 2 * math.sqrt(scene.zoom), side / 2 + side * pan / 2)
            for side, pan in zip((WIDTH, HEIGHT), scene.pan, strict=True)
        )
        x, y = scene.centre
        assert left <= x - reach_x
        assert x + reach_x <= right
        assert y - reach_y >= 0
        assert y + reach_y <= 427


def test_no_test_scene_is_centred_where_a_train_scene_may_be():
    def cells(part):
        random = np.random.default_rng(0)
        scenes = [draw_scene(random, number=number, part=part) for number in range(60)]
        return {(s.photograph, s.centre[0] // CELL, s.centre[1] // CELL) for s in scenes}

    assert len(cells("train")) > 20
    assert not cells("train") & cells("test")


def test_a_seed_gives_the_same_scenes_and_another_seed_others():
    first, again, other = (next(motion_clips(seed, 1)).frames for seed in (0, 0, 1))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# ---------------------------------------------------------------------------- as decoded


def test_decoded_clips_have_the_sample_s_size(decoded):
    clips, classes = decoded["validation"]

    assert clips.shape == (8 * NUM_TEST, 16, HEIGHT, WIDTH - 16)
    assert list(np.bincount(classes)) == [NUM_TEST] * 8


def _order_blind(clip):
    """What is left of a clip once the order of its frames is gone: their moments and extremes."""
    cells = clip.reshape(16, 8, 8, 8, 8).mean(axis=(2, 4))
    spread = cells.std(axis=0)
    frames = np.sort(cells.reshape(16, -1), axis=0)
    halves = np.sort(np.stack([clip[t].std() for t in range(16)]))
    centre = cells[:, 2:6, 2:6].mean(axis=(1, 2)).std()
    pairs = np.abs(cells[:, None] - cells[None]).mean(axis=(0, 1))
    return np.concatenate(
        [
            cells.mean(axis=0).ravel(), spread.ravel(), (spread / spread.mean()).ravel(),
            frames[[0, -1]].ravel(), halves, [centre], pairs.ravel(),
        ]
    )  # fmt: skip


def test_a_model_that_is_blind_to_order_is_right_half_of_the_time_at_most(decoded):
    assert _accuracy(decoded, _order_blind) <= 0.5 + _margin(0.5)


def test_even_a_model_that_knows_the_pair_is_at_half_when_order_is_gone(decoded):
    # The best order-blind model there can be: told the pair, it chooses within it by an order-blind
    # difference between the two clips of a scene, which coding alone makes.
    clips, classes = decoded["train"]
    features = np.stack([_order_blind(clip) for clip in clips])
    scenes = features.reshape(NUM_TRAIN, 8, -1)
    order = classes.reshape(NUM_TRAIN, 8)
    assert (order == np.arange(8)).all()
    scale = features.std(axis=0) + 1e-6

    for motion, backwards in REVERSED.items():
        one, two = (scenes[:, MOTIONS.index(name)] / scale for name in (motion, backwards))
        assert np.abs(one - two).mean() < 0.1


def test_a_single_frame_is_at_chance(decoded):
    def centre(clip):
        return clip[7].reshape(16, 4, 16, 4).mean(axis=(1, 3)).ravel()

    assert _accuracy(decoded, centre) <= 1 / 8 + _margin(1 / 8)


def _motion(clip):
    """Fit pan, zoom and turn to the brightness changes by least squares, once over the clip."""
    smooth = clip.reshape(16, 32, 2, 32, 2).mean(axis=(2, 4))
    change = np.diff(smooth, axis=0)
    middle = (smooth[1:] + smooth[:-1]) / 2
    down, right = np.gradient(middle, axis=(1, 2))
    y, x = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5, indexing="ij")
    columns = [right, down, x * right + y * down, x * down - y * right]
    matrix = np.stack([column.ravel() for column in columns], axis=1)
    flow, *_ = np.linalg.lstsq(matrix, -change.ravel(), rcond=None)
    return flow * (1, 1, 16, 16)


def test_motion_tells_the_classes_apart(decoded):
    # Brightness constancy (Lucas and Kanade 1981): far above what order-blind models can reach.
    assert _accuracy(decoded, _motion) >= 0.8


# ---------------------------------------------------------------------------- the cache


def _tree(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_sample_is_written_once_and_loads(tmp_path):
    root = sample_root(_tiny(), tmp_path)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    assert sample_root(_tiny(), tmp_path) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert root.is_relative_to(tmp_path / "samples")
    split = kinetics400.TASK.load(root, "validation")
    assert len(split.items) == 8
    assert split.classes == MOTIONS
    assert len(kinetics400.TASK.load(root, "train").items) == 8


def test_two_caches_hold_the_same_bytes(tmp_path):
    first, second = (sample_root(_tiny(), tmp_path / name) for name in ("a", "b"))

    assert first.relative_to(tmp_path / "a") == second.relative_to(tmp_path / "b")
    assert _tree(first) == _tree(second)


def test_another_version_or_another_size_is_another_sample(tmp_path):
    roots = {sample_root(task, tmp_path) for task in (_tiny(), _tiny(version=2), _tiny(scenes=2))}

    assert len(roots) == 3


@pytest.mark.parametrize("fault", ["changed", "missing", "added", "manifest", "cut manifest"])
def test_a_sample_that_was_tampered_with_is_written_again(tmp_path, fault):
    root = sample_root(_tiny(), tmp_path)
    whole = _tree(root)
    clip = next(root.rglob("*.mp4"))
    manifest = root.parent / "manifest.json"
    match fault:
        case "changed":
            clip.write_bytes(clip.read_bytes()[:-1] + b"\0")
        case "missing":
            clip.unlink()
        case "added":
            (clip.parent / "more.mp4").write_bytes(b"")
        case "manifest":
            manifest.unlink()
        case "cut manifest":
            manifest.write_text(manifest.read_text()[:40])

    assert sample_root(_tiny(), tmp_path) == root
    assert _tree(root) == whole
    assert json.loads(manifest.read_text()).keys() == whole.keys()
    assert not [path for path in root.parent.parent.iterdir() if ".tmp-" in path.name]


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    def write(root):
        (root / "half").touch()
        raise OSError("No space left on device")

    task = replace(_tiny(), sample=Sample(write=write))

    with pytest.raises(RunError, match=r"sample of kinetics400 .* No space left .* RSBENCH_CACHE"):
        sample_root(task, tmp_path)
    assert [path.name for path in (tmp_path / "samples").iterdir() if path.is_dir()] == []


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    root = sample_root(_tiny(), tmp_path)
    leftover = root.parent.parent / f".{root.parent.name}.tmp-killed"
    leftover.mkdir()
    (root.parent / "manifest.json").unlink()

    sample_root(_tiny(), tmp_path)

    assert not leftover.exists()


def test_a_cache_that_is_no_folder_is_a_fault_in_one_line(tmp_path):
    (tmp_path / "cache").touch()

    with pytest.raises(RunError) as error:
        sample_root(_tiny(), tmp_path / "cache")
    assert "\n" not in str(error.value)


def _slow_write(root):
    # Waits between files, so that two processes are sure to meet.
    import time

    for number in range(4):
        (root / f"{number}.txt").write_text(str(number))
        time.sleep(0.1)


def _in_process(cache, results):
    task = replace(kinetics400.TASK, sample=Sample(write=_slow_write))
    results.put(sorted(_tree(sample_root(task, cache))))


def test_two_processes_at_the_same_time_get_one_whole_sample(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_in_process, args=(tmp_path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)

    assert found == [["0.txt", "1.txt", "2.txt", "3.txt"]] * 3
    assert len([path for path in (tmp_path / "samples").iterdir() if path.is_dir()]) == 1


def test_all_kinetics_tasks_share_the_sample_s_terms():
    for module in (kinetics400, kinetics600, kinetics700):
        sample = module.TASK.sample
        assert (sample.clip, sample.pixels, sample.views) == (CLIP, 64, Views())
