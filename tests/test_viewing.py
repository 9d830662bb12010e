"""By which clips and crops a test looks: whose word counts, and what is refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import rsbench
from small_world import INPUT

from rsbench.cells import Cell, RunRequest, prepare
from rsbench.data.loaders import read_views
from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.media.random_sampling import RANDOM_SAMPLERS
from rsbench.media.resizers import cut_squares
from rsbench.media.sampling import SAMPLERS, sample_clips
from rsbench.media.video import read_all_frames, write_video
from rsbench.protocols import finetune, linear_probe
from rsbench.records import store
from rsbench.registry import find_task
from rsbench.specs import ClipSpec, InputSpec, Item, Protocol, Reading, Sample, Task, Views
from rsbench.viewing import resolve_reading, resolve_recipe

CLIP = ClipSpec(frames=4, stride=2)


def _task(**changes: Any) -> Task:
    """Kinetics-400 (10 x 3 views, no sampler of its own) with changes."""
    spec: Task = replace(find_task("kinetics400").spec, **changes)
    return spec


def _reading(
    task: Task,
    *,
    protocol: Protocol = linear_probe.PROTOCOL,
    sample: Sample | None = None,
    clip: ClipSpec = CLIP,
    views: Views | None = None,
    sampler: str | None = None,
    cropper: str | None = None,
) -> Reading:
    return resolve_reading(
        task,
        protocol,
        sample=sample,
        input=INPUT,
        clip=clip,
        views=views,
        sampler=sampler,
        cropper=cropper,
        read_key="",
    )


def test_without_a_word_the_views_are_the_tasks_and_the_rest_the_protocols() -> None:
    reading = _reading(_task())

    assert reading.views == Views(clips=10, crops=3)
    assert (reading.sampler, reading.cropper) == ("mmaction2@1", "resizer@1")
    one_view = replace(linear_probe.PROTOCOL, views=Views(), cropper="psf@1")
    assert _reading(_task(), protocol=one_view).views == Views()
    assert _reading(_task(), protocol=one_view).cropper == "psf@1"


def test_a_tasks_customary_sampler_comes_before_the_protocols_and_after_the_users() -> None:
    task = _task(sampler="ssv2@1", views=Views())

    assert _reading(task).sampler == "ssv2@1"
    assert _reading(task, sampler="uniform").sampler == "uniform@1"


def test_the_users_word_gets_its_version_and_comes_before_everybodys() -> None:
    fixed = replace(linear_probe.PROTOCOL, views=Views())
    reading = _reading(
        _task(), protocol=fixed, views=Views(clips=5, crops=10), sampler="psf", cropper="mmaction2"
    )

    assert reading.views == Views(clips=5, crops=10)
    assert (reading.sampler, reading.cropper) == ("psf@1", "mmaction2@1")


def test_clips_that_a_sampler_can_not_cut_are_refused_before_a_video_is_read() -> None:
    with pytest.raises(RsbenchError, match=r"sampler ssv2@1: .* clips must be 1, was 10"):
        _reading(_task(), sampler="ssv2")
    with pytest.raises(RsbenchError, match="tsn@1: a clip must be 1 frame, was 4"):
        _reading(_task(), sampler="tsn")
    one_frame = ClipSpec(frames=1, stride=1)
    reading = _reading(
        _task(),
        clip=one_frame,
        sampler="tsn",
        views=Views(clips=25, crops=10),
        cropper="mmaction2",
    )
    assert reading.views.num_views == 250


def test_crops_that_a_cropper_does_not_have_are_refused() -> None:
    with pytest.raises(RsbenchError, match="resizer@1: crops must be 1 or 3, was 10; mmaction2@1"):
        _reading(_task(), views=Views(crops=10))


def test_mirrored_crops_are_refused_where_a_mirror_image_has_another_label() -> None:
    task = _task(flip=False)
    ten = Views(crops=10)
    with pytest.raises(RsbenchError, match="another label in kinetics400: ask for 1 or 3 crops"):
        _reading(task, views=ten, cropper="mmaction2")
    assert _reading(task, views=Views(crops=3), cropper="mmaction2").views.crops == 3
    # A sample has classes of its own, and a word of its own.
    still = replace(task.sample, flip=True)
    assert _reading(task, sample=still, views=ten, cropper="mmaction2").views == ten


def test_near_misses_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mmaction2@1'"):
        _reading(_task(), sampler="mmaction")
    with pytest.raises(UnknownNameError, match="no cropper 'pfs'"):
        _reading(_task(), cropper="pfs")


def test_what_would_move_nothing_is_refused() -> None:
    picture = _task(modality="image", views=Views())
    with pytest.raises(RsbenchError, match="--sampler is for videos, and the items of kinetics400"):
        _reading(picture, sampler="psf")
    with pytest.raises(RsbenchError, match="1xCROPS, such as 1x3; it was 10x3"):
        _reading(picture, views=Views(clips=10, crops=3))
    assert _reading(picture, views=Views(crops=3), cropper="psf").cropper == "psf@1"
    own = _task(read=lambda item: np.zeros((3, 4, 8, 8)))
    with pytest.raises(RsbenchError, match="reads its items itself: leave --views and --cropper"):
        _reading(own, views=Views(), cropper="psf")
    assert _reading(own).views == Views(clips=10, crops=3)


# --- training clips


def test_training_clips_are_the_users_else_the_tasks_else_the_protocols() -> None:
    protocol, own = finetune.PROTOCOL, _task(train_sampler="ssv2_random@1")

    def cut(task: Task, **overrides: str) -> object:
        return resolve_recipe(protocol, task, overrides)["train_sampler"]

    assert cut(_task()) == "dense_random@1"
    assert cut(own) == "ssv2_random@1"
    assert cut(own, train_sampler="tsn_random") == "tsn_random@1"
    assert resolve_recipe(linear_probe.PROTOCOL, own, {}) == linear_probe.PROTOCOL.recipe


def test_training_clips_of_what_has_none_are_refused_and_left_alone() -> None:
    picture = _task(modality="image", train_sampler="ssv2_random@1")

    assert resolve_recipe(finetune.PROTOCOL, picture, {}) == finetune.PROTOCOL.recipe
    with pytest.raises(RsbenchError, match="--set train_sampler is for videos"):
        resolve_recipe(finetune.PROTOCOL, picture, {"train_sampler": "tsn_random"})
    with pytest.raises(UnknownNameError, match=r"no random sampler 'psf'.*Did you mean 'psf_rand"):
        resolve_recipe(finetune.PROTOCOL, _task(), {"train_sampler": "psf"})


# --- in a cell


def _cell(cache_root: Path, **words: Any) -> Cell:
    return prepare(
        RunRequest(
            task="kinetics400@sample",
            backbone="tiny_2d",
            results=Path("results"),
            cache_root=cache_root,
            **{"protocol": "linear_probe", **words},
        )
    )


def test_a_cell_is_tested_as_asked_and_trained_on_one_clip_alike(session_cache: Path) -> None:
    cell = _cell(session_cache, views=Views(clips=2, crops=3), sampler="psf_offset", cropper="psf")

    assert cell.predict_reading.views == Views(clips=2, crops=3)
    assert cell.fit_reading.views == Views()
    for reading in (cell.fit_reading, cell.predict_reading):
        assert (reading.sampler, reading.cropper) == ("psf_offset@1", "psf@1")


def test_a_recipe_names_its_training_clips_in_full(session_cache: Path) -> None:
    cell = _cell(session_cache, protocol="finetune", overrides={"train_sampler": "tsn_random"})

    assert cell.recipe["train_sampler"] == "tsn_random@1"


# --- as items are read


@pytest.mark.parametrize(
    ("cropper", "num_crops"),
    [("resizer@1", 3), ("psf@1", 3), ("mmaction2@1", 3), ("mmaction2@1", 10), ("psf@1", 1)],
)
@pytest.mark.parametrize("pixels", [32, 40])
def test_a_file_gives_the_views_that_its_frames_give(
    tmp_path: Path, cropper: str, num_crops: int, pixels: int
) -> None:
    # At 40 pixels of a short side of 48 the frames keep their size (crop ratio 40/48).
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 74, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", noise, fps=30)
    frames = read_all_frames(tmp_path / "a.mp4")
    clip = ClipSpec(frames=4, stride=3)
    reading = Reading(
        modality="video",
        input=InputSpec(pixels=pixels, frames=4, stride=3, crop_ratio=40 / 48),
        clip=clip,
        sampler="model_garden@1",
        views=Views(clips=2, crops=num_crops),
        cropper=cropper,
    )

    views = read_views(Item(id="a", source=tmp_path / "a.mp4"), reading).numpy()

    rows = sample_clips("model_garden", num_frames=30, clip=clip, num_clips=2, fps=30.0)
    for number, (start, crop) in enumerate(itertools.product(range(2), range(num_crops))):
        for place, row in enumerate(rows[start]):
            cut = cut_squares(frames[row], reading.input, num_crops, cropper)[crop]
            assert np.array_equal(views[number, :, place], cut.transpose(2, 0, 1))


# --- on the command line

RUN = ("run", "--task", "kinetics400", "--backbone", "tiny_2d", "--pixels", "16", "--limit", "10")
ASKED = ("--views", "2x3", "--sampler", "psf", "--cropper", "psf")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with the session's cache of samples."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_was_asked_is_recorded_and_stands_above_the_table(here: Path) -> None:
    answer = rsbench(*RUN, "--set", "strengths=3", *ASKED)

    assert answer.code == 0, answer.err
    (path,) = (here / "results").rglob("*.json")
    record = store.read(path)
    part = record.protocol
    assert (part.sampler, part.clips, part.crops, part.cropper) == ("psf@1", 2, 3, "psf@1")
    assert record.cost["views"] == 6
    assert record.ruler["cropper"] == "psf@1"
    title = "linear_probe v3 (psf@1, 2 x 3 views by psf@1)"
    assert title in " ".join(rsbench("table", "--format", "markdown").out.split())


def test_a_dry_run_counts_the_views_that_were_asked_for(here: Path) -> None:
    few, many = (
        json.loads(rsbench(*RUN, "--dry-run", "--json", *words).out) for words in ((), ASKED)
    )

    assert few["num_views"] == few["num_train"] + few["num_test"]
    assert many["num_views"] == few["num_train"] + 6 * few["num_test"]
    assert not (here / "results").exists()


@pytest.mark.parametrize("wrong", ["10", "10x", "0x3", "3x10x1", "x"])
def test_views_that_are_none_are_refused(wrong: str, here: Path) -> None:
    answer = rsbench(*RUN, "--dry-run", "--views", wrong)

    assert answer.code == 2
    assert f"--views must be CLIPSxCROPS, such as 10x3 for 30 views; it was '{wrong}'" in answer.err


def test_samplers_and_croppers_are_listed() -> None:
    listed = {row["name"]: row for row in json.loads(rsbench("ls", "samplers", "--json").out)}

    assert set(listed) == {*SAMPLERS, *RANDOM_SAMPLERS}
    assert listed["psf@1"]["of"] == "test"
    assert listed["dense_random@1"]["of"] == "training"
    assert all(row["title"].endswith(".") for row in listed.values())
    croppers = json.loads(rsbench("ls", "croppers", "--json").out)
    assert {row["name"]: row["of"] for row in croppers}["mmaction2@1"] == "1/3/10 crops"
    assert "N clips" in rsbench("ls", "samplers").out
