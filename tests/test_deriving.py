"""Other views of a finished run, derived from the scores of its views, against runs of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import rsbench
from numbered_world import LABELS_OF_TEST, LENGTHS, Done, run_world, write_world
from test_cli import _documented, _unlike

from rsbench import deriving
from rsbench.deriving import derive, open_source
from rsbench.errors import RecordError
from rsbench.records import store
from rsbench.records import views as view_files
from rsbench.records.schema import to_json
from rsbench.specs import Views
from rsbench.stats import wilson
from rsbench.view_scores import PROBABILITY_ERROR, average_views

TEN_BY_THREE = Views(clips=10, crops=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("numbered"))


def run_views(data: Path, folder: Path, views: Views, **changes: Any) -> Done:
    return run_world(data, folder, **{"protocol": "evaluate", "views": views, **changes})


@pytest.fixture(scope="module")
def psf(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run_views(data, tmp_path_factory.mktemp("psf"), TEN_BY_THREE, sampler="psf")


@pytest.fixture(scope="module")
def mmaction2(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run_views(data, tmp_path_factory.mktemp("mmaction2"), TEN_BY_THREE, sampler="mmaction2")


def predictions_of(done: Done, views: Views) -> np.ndarray:
    """Give (N, K) of the items that could be read, derived."""
    source = open_source(done.path)
    scores_NCK = deriving._averages(source, views, "probability", "video")
    return scores_NCK[[value is not None for value in done.table.predictions], 0]


def recorded(done: Done) -> np.ndarray:
    return np.stack([value for value in done.table.predictions if value is not None])


# ------------------------------------------------------------------------- derived against run


@pytest.mark.parametrize("protocol", ["evaluate", "linear_probe"])
@pytest.mark.parametrize("sampler", ["psf", "mmaction2"])
def test_ten_by_three_derived_is_ten_by_three_run_to_the_last_bit(
    data: Path, tmp_path: Path, protocol: str, sampler: str
) -> None:
    done = run_views(data, tmp_path, TEN_BY_THREE, sampler=sampler, protocol=protocol)

    derived = derive(open_source(done.path), TEN_BY_THREE)

    np.testing.assert_array_equal(predictions_of(done, TEN_BY_THREE), recorded(done))
    (part,) = done.record.metrics
    ((_, score),) = derived.scores
    assert (score.value, score.low, score.high) == (part.value, part.low, part.high)
    assert derived.label == "30 of 10x3 views"


@pytest.mark.parametrize("views", [Views(), Views(clips=5, crops=3), Views(clips=2, crops=1)])
def test_fewer_views_derived_are_those_of_a_run_of_them(
    data: Path, tmp_path: Path, psf: Done, views: Views
) -> None:
    run = run_views(data, tmp_path, views, sampler="psf")

    derived = predictions_of(psf, views)

    np.testing.assert_allclose(derived, recorded(run), atol=1e-4)
    np.testing.assert_array_equal(derived.argmax(axis=1), recorded(run).argmax(axis=1))
    ((_, score),) = derive(open_source(psf.path), views).scores
    (part,) = run.record.metrics
    assert (score.value, score.low, score.high) == (part.value, part.low, part.high)
    assert np.abs(derived - recorded(psf)).max() > 1e-3, "other views say something else"


def test_the_scores_of_views_are_those_of_the_head_on_each_view(psf: Done) -> None:
    from numbered_world import BIAS_K, WEIGHT_KD

    stored = view_files.from_file(
        store.views_file(store.Stored(psf.path, psf.record)), where="views"
    )

    assert stored.halves is not None
    assert stored.halves.scores.shape == (9, 30, 3)
    place = psf.table.ids.index("test/b_07.mp4")
    # By hand: psf's clips of 4 frames of stride 2 in 7 frames all begin at 0 and are spread over
    # linspace(0, 7, 4) = 0, 2.3, 4.7, 7, clamped to 6; the three crops show 3 frame + 0, 1, 2.
    for view in range(30):
        numbers = np.array([3 * frame + view % 3 for frame in (0, 2, 4, 6)])
        logits = numbers / 16 / np.sqrt(1 + 1e-5) @ WEIGHT_KD.T + BIAS_K
        by_hand = np.exp(logits) / np.exp(logits).sum()
        kept = np.exp(
            stored.halves.scores[place, view].astype(float) + stored.halves.offsets[place, view]
        )
        np.testing.assert_allclose(kept, by_hand, atol=PROBABILITY_ERROR)


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("clips", "frames"), [(1, "146, 148, 150, 152"), (5, "73, 75, 77, 79")])
def test_clips_of_mmaction2_that_are_not_among_its_ten_are_refused(
    mmaction2: Done, clips: int, frames: str
) -> None:
    """Four frames two apart span 7 of 300: one clip begins at 293 // 2, five at round(73.25 i).

    The ten begin at round(32.56 i) = 0, 33, 65, 98, 130, 163, ... A video of 13 frames has so few
    places that the ten are at all of them.
    """
    source = open_source(mmaction2.path)
    views = Views(clips=clips, crops=3)
    derive(source, views)
    num_frames = source.views.num_frames.copy()
    num_frames[source.table.ids.index("test/h_13.mp4")] = 300

    with pytest.raises(RecordError) as caught:
        derive(replace(source, views=replace(source.views, num_frames=num_frames)), views)

    said = str(caught.value)
    assert f"{clips}x3 views can't be derived from the 10x3" in said
    assert f"no stored clip has the frames {frames}" in said
    assert "of the 300 of 'test/h_13.mp4'" in said
    assert f"--views {clips}x3" in said


def test_clips_of_mmaction2_that_are_among_its_ten_are_had(mmaction2: Done) -> None:
    """Of ten starts round(i r / 9) those of four clips, round(i r / 3), are every third."""
    source = open_source(mmaction2.path)

    derive(source, Views(clips=4, crops=3))
    derive(source, Views(clips=2, crops=3))


def test_one_item_that_was_not_looked_at_so_is_enough_to_refuse(psf: Done) -> None:
    source = open_source(psf.path)
    derive(source, Views(clips=5, crops=3))
    # psf cuts 5 of its 10 whatever the number of frames; one that nobody knows is no number.
    num_frames = source.views.num_frames.copy()
    row = source.table.ids.index("test/h_13.mp4")
    num_frames[row] = 0

    with pytest.raises(RecordError, match=r"number of frames of 'test/h_13\.mp4'"):
        derive(
            replace(source, views=replace(source.views, num_frames=num_frames)),
            Views(clips=5, crops=3),
        )


@pytest.mark.parametrize("views", [Views(clips=11, crops=3), Views(clips=10, crops=10)])
def test_more_views_than_there_are_are_refused(psf: Done, views: Views) -> None:
    with pytest.raises(RecordError, match="there are 10x3 views only"):
        derive(open_source(psf.path), views)


def test_the_one_crop_is_looked_for_in_every_size_of_frame(psf: Done) -> None:
    """One crop of resizer@1 lies at round((L - c) / 2), the middle of three at ceil of it."""
    source = open_source(psf.path)
    size = source.stored.record.backbone.pixels
    assert derive(source, Views(clips=10)).label == "10 of 10x3 views"
    width = source.views.width.copy()
    width[0] = size + 5  # 5 / 2 is 2 by round, half to even, and 3 by ceil.
    height = np.full_like(width, size)
    source = replace(source, views=replace(source.views, width=width, height=height))

    with pytest.raises(RecordError, match="no stored crop begins at row 0, column 2"):
        derive(source, Views(clips=10))


# ------------------------------------------------------------------------- averages and levels


def test_clips_are_examples_of_their_own_and_failed_videos_are_wrong_in_each(psf: Done) -> None:
    source = open_source(psf.path)
    derived = derive(source, TEN_BY_THREE, level="clip")

    halves = source.views.halves
    assert halves is not None
    hits = 0
    for place, name in enumerate(source.table.ids):
        for clip in range(10):
            if name not in LENGTHS:
                continue
            views = [3 * clip, 3 * clip + 1, 3 * clip + 2]
            exact = halves.scores[place, views] + halves.offsets[place, views, None]
            mean = np.exp(exact.astype(float)).mean(axis=0)
            hits += int(mean.argmax()) == LABELS_OF_TEST[name]
    ((_, score),) = derived.scores
    assert derived.num_examples == 90
    assert score.value == pytest.approx(hits / 90)
    assert score.interval == "bootstrap", "the clips of a video are no independent examples"
    low, high = wilson(hits, 90)
    assert score.low is not None and score.high is not None
    assert score.high - score.low > high - low, "nine videos say less than ninety"


def test_scores_are_averaged_where_that_is_asked(psf: Done) -> None:
    source = open_source(psf.path)
    assert source.views.halves is not None

    found = deriving._averages(source, TEN_BY_THREE, "score", "video")[:, 0]

    np.testing.assert_array_equal(
        found, average_views(source.views.halves, "softmax", average="score")
    )
    assert derive(source, TEN_BY_THREE, average="score").average == "score"


# ----------------------------------------------------------------------------------- the files


def copy_of(done: Done, folder: Path) -> Path:
    shutil.copytree(done.path.parents[3], folder / "results")
    return folder / "results" / done.path.relative_to(done.path.parents[3])


def test_a_record_without_its_view_scores_is_read_listed_drawn_and_found(
    psf: Done, tmp_path: Path
) -> None:
    path = copy_of(psf, tmp_path)
    path.with_suffix(".views.safetensors").unlink()

    results = tmp_path / "results"
    assert store.read(path) == psf.record
    assert len(store.read_all(results).records) == 1
    assert store.find(results, psf.record.key) is not None
    assert rsbench("table", results).code == 0
    assert rsbench("ls", "results", "--results", results).code == 0
    answer = rsbench("views", path)
    assert answer.code == 2
    assert "is not here" in answer.err and "--again" in answer.err


def test_view_scores_that_were_changed_are_refused_and_the_run_is_not_finished(
    psf: Done, tmp_path: Path
) -> None:
    path = copy_of(psf, tmp_path)
    views = path.with_suffix(".views.safetensors")
    content = bytearray(views.read_bytes())
    content[-3] ^= 1
    views.write_bytes(content)

    assert store.find(tmp_path / "results", psf.record.key) is None
    with pytest.raises(RecordError, match="was changed"):
        open_source(path)


def test_a_record_older_than_view_scores_says_so(psf: Done, tmp_path: Path) -> None:
    path = copy_of(psf, tmp_path)
    path.write_text(to_json(replace(psf.record, views={})))

    with pytest.raises(RecordError, match="it holds none"):
        open_source(path)


def test_view_scores_of_another_run_are_refused(psf: Done, mmaction2: Done, tmp_path: Path) -> None:
    path = copy_of(psf, tmp_path)
    name = path.with_suffix(".views.safetensors").name
    shutil.copyfile(mmaction2.path.with_suffix(".views.safetensors"), path.with_name(name))
    other = mmaction2.record.files[mmaction2.path.with_suffix(".views.safetensors").name]
    path.write_text(to_json(replace(psf.record, files={**psf.record.files, name: other})))

    with pytest.raises(RecordError, match="must average to its predictions"):
        open_source(path)


def test_the_file_is_as_large_as_foretold_and_any_reader_of_safetensors_reads_it(
    psf: Done,
) -> None:
    from safetensors.numpy import load_file

    path = psf.path.with_suffix(".views.safetensors")
    tensors = load_file(path)

    assert tensors["scores"].dtype == np.float16
    assert tensors["num_frames"].tolist() == [LENGTHS.get(name, 0) for name in psf.table.ids]
    foretold = view_files.num_bytes(9, 30, 3, activation="softmax", kept_all=True)
    assert foretold == sum(array.nbytes for array in tensors.values())
    assert 0 < path.stat().st_size - foretold < 2000


def test_above_the_limit_only_the_means_are_kept_and_the_record_says_so(
    data: Path, tmp_path: Path, psf: Done
) -> None:
    done = run_views(data, tmp_path, TEN_BY_THREE, sampler="psf", keep_views_up_to_gib=0.0)

    assert done.record.views["kept"] == "means"
    assert psf.record.views["kept"] == "all"
    assert done.record.key == psf.record.key
    np.testing.assert_array_equal(recorded(done), recorded(psf))
    source = open_source(done.path)
    assert source.views.halves is None
    for average in ("probability", "score"):
        ((_, score),) = derive(source, TEN_BY_THREE, average=average).scores
        ((_, full),) = derive(open_source(psf.path), TEN_BY_THREE, average=average).scores
        assert score[:6] == full[:6]
    for asked in ({"views": Views(clips=5, crops=3)}, {"views": TEN_BY_THREE, "level": "clip"}):
        # 9 items x 30 views of a few classes, rounded up to a hundredth of a GiB.
        hint = r"only the means over all .* Run them: --views 10x3 --keep-views-up-to 0\.01\."
        with pytest.raises(RecordError, match=hint):
            derive(source, **asked)
    with pytest.raises(RecordError, match=r"--views 11x3 --keep-views-up-to 0\.01\."):
        derive(source, Views(clips=11, crops=3))


def test_a_run_that_kept_the_means_is_run_again_where_all_views_are_to_be_kept(
    data: Path, tmp_path: Path, psf: Done
) -> None:
    def again(limit_gib: float) -> Done:
        return run_views(
            data, tmp_path, TEN_BY_THREE, sampler="psf", keep_views_up_to_gib=limit_gib
        )

    means, more, less = again(0.0), again(0.01), again(0.0)

    # What is kept of views moves no score: one record, written over, and never for fewer views.
    assert (means.path, means.record.views["kept"]) == (more.path, "means")
    assert more.record.views["kept"] == "all"
    asked = Views(clips=5, crops=3)
    ((_, score),) = derive(open_source(more.path), asked).scores
    ((_, of_psf),) = derive(open_source(psf.path), asked).scores
    assert score[:6] == of_psf[:6]
    assert less.record.created == more.record.created
    assert less.record.views["kept"] == "all"


# ------------------------------------------------------------------------------- the command line


def test_the_command_lists_what_can_be_derived_with_its_label(mmaction2: Done) -> None:
    answer = rsbench("views", mmaction2.path)

    assert answer.code == 0
    lines = answer.out.splitlines()
    assert "10x3 views (mmaction2@1, resizer@1) of 9 items" in lines[0]
    assert any(line.startswith("4x3") and "12 of 10x3 views" in line for line in lines)
    assert any(line.startswith("10x3") and "30 of 10x3 views" in line for line in lines)
    assert "not to be had: 6x1, 6x3," in answer.out


def test_the_command_gives_json_and_refuses_what_was_asked_for_alone(mmaction2: Done) -> None:
    answer = rsbench("views", mmaction2.path, "--views", "4x3", "--level", "clip", "--json")
    refused = rsbench("views", mmaction2.path, "--views", "6x3")

    (row,) = json.loads(answer.out)["derived"]
    assert (row["views"], row["label"], row["num_examples"]) == ([4, 3], "12 of 10x3 views", 36)
    every = json.loads(rsbench("views", mmaction2.path, "--json").out)
    assert every["derived"] and every["refused"]
    assert _unlike(_documented()["views"], every) == []
    assert refused.code == 2
    assert "6x3 views can't be derived" in refused.err
