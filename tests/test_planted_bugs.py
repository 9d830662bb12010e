"""Bugs that evaluations are known for, planted one by one: each is caught by a check of its own.

A healthy run meets every check (the first tests); then a bug is planted into the same run and the
same check must fail. What the checks expect is worked out by hand in numbered_world.py. Some bugs
the run refuses by itself, before there is anything to check; then its words are what is held. The
same bugs stand one floor lower in test_loaders.py, test_features.py and test_finetune.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered_world import (
    CLASSES,
    LABELS_OF_TEST,
    PICTURE_READER,
    Done,
    check_all,
    check_labels_stay_with_their_items,
    check_probabilities_are_those_worked_out_by_hand,
    check_the_head_is_that_of_another_solver,
    check_the_score_is_that_counted_by_hand,
    run_world,
    write_world,
)
from torch import nn

from rsbench import recording, runner, view_scores
from rsbench.data import assembling, computing, loaders
from rsbench.data.loaders import Batch
from rsbench.errors import RsbenchError
from rsbench.media import augment, sampling, transforms
from rsbench.protocols import _logistic, evaluate

Check = Callable[[Done], None]
Patch = pytest.MonkeyPatch
BOTH = ("evaluate", "linear_probe")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("numbered"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """One bug at one place."""

    where: str
    plant: Callable[[Patch], None]
    caught_by: Check | str
    """The check that fails, or what the run itself says, before there is anything to check."""
    protocol: str

    def __str__(self) -> str:
        return f"{self.where}, {self.protocol}"


def plants(
    where: str, plant: Callable[[Patch], None], caught_by: Check | str, *protocols: str
) -> list[Plant]:
    return [
        Plant(where=where, plant=plant, caught_by=caught_by, protocol=protocol)
        for protocol in protocols
    ]


def assert_caught(planted: Plant, data: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    """Plant the bug and run: the run refuses it, or the check that a healthy run meets fails."""
    planted.plant(monkeypatch)
    if isinstance(planted.caught_by, str):
        with pytest.raises((AssertionError, RsbenchError), match=planted.caught_by):
            run_world(data, tmp_path, protocol=planted.protocol)
    else:
        done = run_world(data, tmp_path, protocol=planted.protocol)
        with pytest.raises(AssertionError):
            planted.caught_by(done)


# ---------------------------------------------------------------------------- the healthy run


@pytest.mark.parametrize(
    "asked",
    [{"protocol": "evaluate"}, {"protocol": "linear_probe"}, {"backbone": PICTURE_READER}],
    ids=["evaluate", "linear_probe", "linear_probe of an image network"],
)
def test_a_healthy_run_comes_to_what_was_worked_out_by_hand(
    data: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    done = run_world(data, tmp_path, **asked)

    check_all(done)
    # Neither all right nor all wrong: a bug could hide behind either.
    assert 1 / len(CLASSES) < done.record.metrics[0].value < 1


# ------------------------------------------------------------------------ the last batch dropped


def drop_last_batch(monkeypatch: Patch) -> None:
    read = loaders.batches

    def short(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        yield from list(read(*args, **kwargs))[:-1]

    monkeypatch.setattr(computing, "batches", short)


def drop_predictions_of_last_batch(monkeypatch: Patch) -> None:
    for protocol in (evaluate, _logistic):
        predict = protocol.predict_views

        def short(*args: Any, predict: Any = predict, **kwargs: Any) -> Any:
            found = predict(*args, **kwargs)
            return replace(found, values=found.values[:-3])

        monkeypatch.setattr(protocol, "predict_views", short)


def drop_last_items_everywhere(monkeypatch: Patch) -> None:
    """Cut the fold itself, so that targets and predictions agree on fewer items."""
    run_fold = runner._run_fold

    def short(cell: Any, assembled: Any, fold: Any, settings: Any) -> Any:
        cut = replace(
            fold,
            test=replace(fold.test, rows=fold.test.rows[:-1]),
            test_targets=fold.test_targets[:-1],
        )
        return run_fold(cell, assembled, cut, settings)

    monkeypatch.setattr(runner, "_run_fold", short)


@pytest.mark.parametrize(
    "planted",
    [
        *plants(
            "reading",
            drop_last_batch,
            "every row asked for is read",
            *BOTH,
        ),
        *plants(
            "prediction",
            drop_predictions_of_last_batch,
            "one prediction for each of 9 items; it gave 6",
            *BOTH,
        ),
        *plants(
            "counting",
            drop_last_items_everywhere,
            "every expected item is scored",
            *BOTH,
        ),
    ],
    ids=str,
)
def test_a_dropped_last_batch_is_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# ------------------------------------------------------------------------ labels shuffled at test


def rolled(values: Sequence[Any]) -> list[Any]:
    return [*values[1:], values[0]]


def shuffle_labels(monkeypatch: Patch) -> None:
    right = recording._targets
    monkeypatch.setattr(recording, "_targets", lambda outcomes: rolled(right(outcomes)))


def shuffle_predictions(monkeypatch: Patch) -> None:
    right = recording._values
    monkeypatch.setattr(recording, "_values", lambda outcomes: rolled(right(outcomes)))


def shuffle_features(monkeypatch: Patch) -> None:
    right = assembling.Assembly.add

    def wrong(assembly: Any, number: int, shard: Any, *, key: str | None) -> None:
        right(assembly, number, replace(shard, values=np.roll(shard.values, 1, axis=0)), key=key)

    monkeypatch.setattr(assembling.Assembly, "add", wrong)


def pool_in_the_order_of_the_list(monkeypatch: Patch) -> None:
    """Take the n-th item of the pool for the n-th of the list: one is sorted, the other is not."""
    run_fold = runner._run_fold

    def wrong(cell: Any, assembled: Any, fold: Any, settings: Any) -> Any:
        outcome = run_fold(cell, assembled, fold, settings)
        test = replace(fold.test, rows=tuple(sorted(fold.test.rows)))
        return replace(outcome, fold=replace(fold, test=test))

    monkeypatch.setattr(runner, "_run_fold", wrong)


@pytest.mark.parametrize(
    "planted",
    [
        *plants("labels", shuffle_labels, check_labels_stay_with_their_items, *BOTH),
        *plants(
            "labels, scored", shuffle_labels, check_the_score_is_that_counted_by_hand, "evaluate"
        ),
        *plants(
            "predictions",
            shuffle_predictions,
            check_probabilities_are_those_worked_out_by_hand,
            "evaluate",
        ),
        *plants(
            "features", shuffle_features, check_probabilities_are_those_worked_out_by_hand, *BOTH
        ),
        *plants(
            "ids", pool_in_the_order_of_the_list, check_labels_stay_with_their_items, "evaluate"
        ),
    ],
    ids=str,
)
def test_labels_shuffled_at_test_are_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# ---------------------------------------------------------------- augmentation left on at test


def leave_augmentation_on(monkeypatch: Patch) -> None:
    right = loaders.read_item

    def augmented(item: Any, reading: Any, **kwargs: Any) -> loaders.ItemViews:
        if reading.views.num_views == 1:
            return right(item, reading, **kwargs)
        read = [
            loaders.read_training_item(item, reading, augment.Augmentation(), seed=seed)
            for seed in range(reading.views.num_views)
        ]
        return loaders.ItemViews(torch.stack([each.views for each in read]), read[0].facts)

    monkeypatch.setattr(loaders, "read_item", augmented)


def leave_random_clips_on(monkeypatch: Patch) -> None:
    """Whole, upright frames of clips that begin anywhere."""
    right = sampling.sample_clips

    def anywhere(sampler: str, *, num_frames: int, clip: Any, num_clips: int, fps: float) -> Any:
        asked = right(sampler, num_frames=num_frames, clip=clip, num_clips=num_clips, fps=fps)
        if num_clips == 1:
            return asked
        random = np.random.default_rng(num_frames)
        return (asked + random.integers(0, num_frames, (num_clips, 1))) % num_frames

    monkeypatch.setattr(sampling, "sample_clips", anywhere)


def leave_mirroring_on(monkeypatch: Patch) -> None:
    right = transforms.stack_views

    def mirrored(*args: Any, **kwargs: Any) -> Any:
        return np.ascontiguousarray(right(*args, **kwargs)[..., ::-1])

    monkeypatch.setattr(transforms, "stack_views", mirrored)


@pytest.mark.parametrize(
    "planted",
    [
        *plants(
            "clip, crop and mirror",
            leave_augmentation_on,
            check_probabilities_are_those_worked_out_by_hand,
            *BOTH,
        ),
        *plants(
            "clip alone",
            leave_random_clips_on,
            check_probabilities_are_those_worked_out_by_hand,
            *BOTH,
        ),
        *plants(
            "mirror alone",
            leave_mirroring_on,
            check_probabilities_are_those_worked_out_by_hand,
            "evaluate",
        ),
    ],
    ids=str,
)
def test_augmentation_left_on_at_test_is_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# ------------------------------------------------------------------------ clip start off by one


def start_clips_late(monkeypatch: Patch) -> None:
    right = sampling.SAMPLERS["mmaction2@1"]

    def late(num_frames: int, *rest: Any) -> Any:
        return (right(num_frames, *rest) + 1) % num_frames

    monkeypatch.setattr(sampling, "SAMPLERS", {"mmaction2@1": late})


def start_the_clip_of_training_late(monkeypatch: Patch) -> None:
    right = sampling.SAMPLERS["mmaction2@1"]

    def late(num_frames: int, clip: Any, num_clips: int, fps: float) -> Any:
        return (right(num_frames, clip, num_clips, fps) + (num_clips == 1)) % num_frames

    monkeypatch.setattr(sampling, "SAMPLERS", {"mmaction2@1": late})


def round_starts_down(monkeypatch: Patch) -> None:
    """One frame early, and only where the start is no whole number."""
    monkeypatch.setattr(sampling.np, "round", np.floor)


@pytest.mark.parametrize(
    "planted",
    [
        *plants(
            "all clips", start_clips_late, check_probabilities_are_those_worked_out_by_hand, *BOTH
        ),
        *plants(
            "clips of training",
            start_the_clip_of_training_late,
            check_the_head_is_that_of_another_solver,
            "linear_probe",
        ),
        *plants(
            "rounding",
            round_starts_down,
            check_probabilities_are_those_worked_out_by_hand,
            "evaluate",
        ),
    ],
    ids=str,
)
def test_a_clip_that_starts_one_frame_off_is_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# ------------------------------------------------------------------ softmax over the wrong axis


def softmax_over(axis: int) -> Callable[[Patch], None]:
    def wrong(logits: np.ndarray) -> np.ndarray:
        return logits - np.log(np.exp(logits).sum(axis=axis, keepdims=True))

    return lambda monkeypatch: monkeypatch.setattr(view_scores, "log_softmax", wrong)


@pytest.mark.parametrize(
    "planted",
    [
        *plants(
            "over items",
            softmax_over(0),
            check_probabilities_are_those_worked_out_by_hand,
            *BOTH,
        ),
        *plants(
            "over views",
            softmax_over(1),
            check_probabilities_are_those_worked_out_by_hand,
            *BOTH,
        ),
    ],
    ids=str,
)
def test_a_softmax_over_the_wrong_axis_is_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# ------------------------------------------------------------------ BatchNorm left in train mode


def forget_eval_mode(monkeypatch: Patch) -> None:
    assemble = runner.assemble_cell

    def training(cell: Any) -> Any:
        assembled = assemble(cell)
        assembled.model.module.train()
        return assembled

    monkeypatch.setattr(runner, "assemble_cell", training)


def normalise_by_the_batch(monkeypatch: Patch) -> None:
    """As train mode does, in a network that says it is in eval mode."""
    right = nn.BatchNorm1d.forward

    def forward(norm: nn.BatchNorm1d, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) == 1:
            return right(norm, batch)
        return nn.functional.batch_norm(batch, None, None, norm.weight, norm.bias, training=True)

    monkeypatch.setattr(nn.BatchNorm1d, "forward", forward)


@pytest.mark.parametrize(
    "planted",
    [
        *plants(
            "said",
            forget_eval_mode,
            "must be in eval mode",
            *BOTH,
        ),
        *plants(
            "silent",
            normalise_by_the_batch,
            check_probabilities_are_those_worked_out_by_hand,
            *BOTH,
        ),
    ],
    ids=str,
)
def test_batch_norm_left_in_train_mode_is_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# ------------------------------------------------------------------ duplicate padding counted


def pad_last_batch(monkeypatch: Patch) -> None:
    """Fill the last batch up with the first item's views, as distributed samplers do."""
    read = loaders.batches

    def padded(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        found = list(read(*args, **kwargs))
        if not found:
            return
        first, last = found[0], found[-1]
        assert isinstance(first.views, torch.Tensor) and isinstance(last.views, torch.Tensor)
        found[-1] = last._replace(
            rows=(*last.rows, first.rows[0]),
            views=torch.cat([last.views, first.views[:1]]),
            facts=(*last.facts, first.facts[0]),
        )
        yield from found

    monkeypatch.setattr(computing, "batches", padded)


def count_padding_as_predictions(monkeypatch: Patch) -> None:
    for protocol in (evaluate, _logistic):
        predict = protocol.predict_views

        def padded(*args: Any, predict: Any = predict, **kwargs: Any) -> Any:
            found = predict(*args, **kwargs)
            return replace(found, values=(*found.values, found.values[0]))

        monkeypatch.setattr(protocol, "predict_views", padded)


def count_padding_everywhere(monkeypatch: Patch) -> None:
    """Pad the fold itself, so that targets and predictions agree on more items."""
    run_fold = runner._run_fold

    def padded(cell: Any, assembled: Any, fold: Any, settings: Any) -> Any:
        longer = replace(
            fold,
            test=replace(fold.test, rows=(*fold.test.rows, fold.test.rows[0])),
            test_targets=[*fold.test_targets, fold.test_targets[0]],
        )
        return run_fold(cell, assembled, longer, settings)

    monkeypatch.setattr(runner, "_run_fold", padded)


@pytest.mark.parametrize(
    "planted",
    [
        *plants(
            "reading",
            pad_last_batch,
            "a batch holds the rows asked for",
            *BOTH,
        ),
        *plants(
            "prediction",
            count_padding_as_predictions,
            "one prediction for each of 9 items; it gave 10",
            *BOTH,
        ),
        *plants(
            "counting",
            count_padding_everywhere,
            "every expected item is scored",
            *BOTH,
        ),
    ],
    ids=str,
)
def test_duplicate_padding_that_is_counted_is_caught(
    data: Path, tmp_path: Path, monkeypatch: Patch, planted: Plant
) -> None:
    assert_caught(planted, data, tmp_path, monkeypatch)


# --------------------------------------------------------------------------- what is expected


def test_the_hand_made_table_covers_the_world_as_it_lies_on_disk(data: Path) -> None:
    lines = (data / "labels.csv").read_text().splitlines()[1:]
    listed = {path: label for path, split, label in (line.split(",") for line in lines)}
    tested = {path: CLASSES.index(label) for path, label in listed.items() if "test/" in path}

    assert tested == LABELS_OF_TEST
