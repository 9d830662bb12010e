"""A world whose scores are worked out by hand: numbered frames, networks that read the numbers.

The videos and the networks are those of plugins/numbered_frames.py. What stands here is the second
source: which frames the protocol must look at, after mmaction2's rule, and what follows from them.

Shape letters: N items, V views, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from rsbench import runner
from rsbench.cells import RunRequest
from rsbench.records import store
from rsbench.records.predictions import PredictionTable
from rsbench.records.schema import RunRecord
from rsbench.registry import find_task
from rsbench.runner import Finished
from rsbench.view_scores import PROBABILITY_ERROR

PLUGIN = Path(__file__).parent / "plugins" / "numbered_frames.py"
FRAME_READER = f"{PLUGIN}:FRAME_READER"
PICTURE_READER = f"{PLUGIN}:PICTURE_READER"
CLASSES = ("short", "middling", "long")

LENGTHS = {
    "train/h_07.mp4": 7,
    "train/c_08.mp4": 8,
    "train/f_07.mp4": 7,
    "train/a_08.mp4": 8,
    "train/e_10.mp4": 10,
    "train/b_11.mp4": 11,
    "train/g_13.mp4": 13,
    "train/d_12.mp4": 12,
    "train/l_20.mp4": 20,
    "train/i_24.mp4": 24,
    "train/k_21.mp4": 21,
    "train/j_26.mp4": 26,
    "test/h_13.mp4": 13,
    "test/c_08.mp4": 8,
    "test/f_20.mp4": 20,
    "test/a_05.mp4": 5,
    "test/e_10.mp4": 10,
    "test/b_07.mp4": 7,
    "test/g_24.mp4": 24,
    "test/d_11.mp4": 11,
}
"""Frames of each video that can be read."""

LABELS = {
    name: 0 if length in (5, 7, 8) else 1 if length in (10, 11, 12, 13) else 2
    for name, length in LENGTHS.items()
}
LABELS_OF_TEST = {
    **{name: label for name, label in LABELS.items() if name.startswith("test/")},
    "test/damaged.mp4": 0,
}

STARTS = {
    5: ((0, 0, 0), 0),
    7: ((0, 0, 0), 0),
    8: ((0, 0, 1), 0),
    10: ((0, 2, 3), 1),
    11: ((0, 2, 4), 2),
    12: ((0, 2, 5), 2),
    13: ((0, 3, 6), 3),
    20: ((0, 6, 13), 6),
    21: ((0, 7, 14), 7),
    24: ((0, 8, 17), 8),
    26: ((0, 10, 19), 9),
}
"""Length -> first frames of three clips, and of one, by hand after mmaction2's `SampleFrames`: a
clip of 4 frames at stride 2 spans 7, three clips start at 0, half and all of what is left (halves
to the even number), one clip at half of it, rounded down. Shorter videos loop."""

WEIGHT_KD = np.array([[-2.0, 0.5, 0.25, 0.0], [0.5, 0.5, -0.75, 0.25], [0.75, 0.25, 0.5, -0.25]])
BIAS_K = np.array([1.5, 0.5, -1.0])
"""The head of the protocol `evaluate`."""


def numbers_of(name: str, *, clips: int, crops: int) -> np.ndarray:
    """Give the numbers that the views of a video show, clips before crops: (V, 4)."""
    length = LENGTHS[name]
    starts = STARTS[length][0] if clips == 3 else (STARTS[length][1],)
    parts = (0, 1, 2) if crops == 3 else (1,)
    return np.array(
        [
            [3 * ((start + step) % length) + part for step in (0, 2, 4, 6)]
            for start in starts
            for part in parts
        ],
        dtype=np.float64,
    )


def features_of(name: str, *, clips: int = 3, crops: int = 3, pictures: bool = False) -> np.ndarray:
    """Give what a reader makes of them, behind a fresh batch norm in eval mode: (V, D)."""
    read = numbers_of(name, clips=clips, crops=crops) / 16 / np.sqrt(1 + 1e-5)
    return read.mean(axis=1, keepdims=True) if pictures else read


def probabilities_by_hand(
    features_VD: np.ndarray, weight_KD: np.ndarray, bias_K: np.ndarray
) -> np.ndarray:
    """Give the mean over views of the softmax over classes: (K,)."""
    exponentials = np.exp(features_VD @ weight_KD.T + bias_K)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A finished run of this world."""

    record: RunRecord
    path: Path
    table: PredictionTable
    protocol: str
    pictures: bool

    @property
    def by_id(self) -> dict[str, Any]:
        return dict(zip(self.table.ids, self.table.predictions, strict=True))


def write_world(root: Path) -> Path:
    """Write the videos, and the head of `evaluate` beside them; give the data's root."""
    data = root / "data"
    data.mkdir()
    find_task(str(PLUGIN)).spec.sample.write(data)
    state = {
        "norm.weight": torch.ones(4),
        "norm.bias": torch.zeros(4),
        "norm.running_mean": torch.zeros(4),
        "norm.running_var": torch.ones(4),
        "norm.num_batches_tracked": torch.tensor(0),
        "head.weight": torch.tensor(WEIGHT_KD, dtype=torch.float32),
        "head.bias": torch.tensor(BIAS_K, dtype=torch.float32),
    }
    save_file(state, root / "head.safetensors")
    return data


def request_of(data: Path, folder: Path, **changes: Any) -> RunRequest:
    """Ask for the linear probe of `FRAME_READER`, with everything below `folder`."""
    given: dict[str, Any] = {
        "task": str(PLUGIN),
        "backbone": FRAME_READER,
        "protocol": "linear_probe",
        "data": data,
        "results": folder / "results",
        "cache_root": folder / "cache",
        # 27 views are 3 videos: 9 videos make a last shard and a last batch that are not full.
        "batch_size": 27,
        **changes,
    }
    if given["protocol"] == "linear_probe":
        given["overrides"] = {"strengths": "3", **given.get("overrides", {})}
    if given["protocol"] == "evaluate":
        given.setdefault("weights", str(data.parent / "head.safetensors"))
    return RunRequest(**given)


def run_world(data: Path, folder: Path, **changes: Any) -> Done:
    """Run `request_of` and read what it left."""
    request = request_of(data, folder, **changes)
    return read_done(runner.run(request))


def read_done(finished: Finished) -> Done:
    """Read a finished run."""
    return Done(
        record=finished.record,
        path=finished.path,
        table=store.read_predictions(finished.path),
        protocol=finished.record.protocol.name,
        pictures=finished.record.backbone.modality == "image",
    )


# ------------------------------------------------------------------------------- what must hold


def head_of(done: Done) -> tuple[np.ndarray, np.ndarray]:
    """Give weight (K, D) and bias (K,) on features as they are."""
    from safetensors.numpy import load

    if done.protocol == "evaluate":
        return WEIGHT_KD, BIAS_K
    kept = load(store.read_file(store.Stored(done.path, done.record), store.HEAD_SUFFIX))
    weight_KD = kept["weight"] / kept["std"]
    return weight_KD, kept["bias"] - weight_KD @ kept["mean"]


def expected_probabilities(done: Done) -> dict[str, np.ndarray]:
    """Work out the probabilities of every test video that can be read."""
    weight_KD, bias_K = head_of(done)
    return {
        name: probabilities_by_hand(features_of(name, pictures=done.pictures), weight_KD, bias_K)
        for name in LABELS_OF_TEST
        if name in LENGTHS
    }


def check_every_item_is_counted_once(done: Done) -> None:
    data = done.record.data
    assert sorted(done.table.ids) == sorted(LABELS_OF_TEST)
    assert (data.num_official, data.num_expected, data.num_evaluated) == (9, 9, 8)
    assert [failed["id"] for failed in data.failed] == ["test/damaged.mp4"]
    assert [metric.n for metric in done.record.metrics] == [9]
    unread = [name for name, value in done.by_id.items() if value is None]
    assert unread == ["test/damaged.mp4"]


def check_labels_stay_with_their_items(done: Done) -> None:
    assert dict(zip(done.table.ids, done.table.targets, strict=True)) == LABELS_OF_TEST


def check_probabilities_are_those_worked_out_by_hand(done: Done) -> None:
    expected, found = expected_probabilities(done), done.by_id
    for name, probabilities_K in expected.items():
        np.testing.assert_allclose(
            found[name], probabilities_K, atol=PROBABILITY_ERROR, err_msg=name
        )


def check_the_score_is_that_counted_by_hand(done: Done) -> None:
    found = expected_probabilities(done)
    hits = [name for name, values in found.items() if int(values.argmax()) == LABELS[name]]
    assert done.record.metrics[0].value == len(hits) / 9


def check_the_head_is_that_of_another_solver(done: Done) -> None:
    """Fit scikit-learn's own solver to hand-made features of one centre clip a video."""
    from sklearn.linear_model import LogisticRegression

    names = [name for name in LENGTHS if name.startswith("train/")]
    features_ND = np.concatenate(
        [features_of(name, clips=1, crops=1, pictures=done.pictures) for name in names]
    )
    mean_D, std_D = features_ND.mean(axis=0), features_ND.std(axis=0)
    inputs_ND = (features_ND - mean_D) / std_D
    solver = LogisticRegression(
        C=float(done.record.protocol.chosen["c"]), solver="newton-cg", tol=1e-10, max_iter=2000
    ).fit(inputs_ND, [LABELS[name] for name in names])
    weight_KD, bias_K = head_of(done)
    for features_D, expected_K in zip(features_ND, solver.predict_proba(inputs_ND), strict=True):
        found_K = probabilities_by_hand(features_D[None], weight_KD, bias_K)
        np.testing.assert_allclose(found_K, expected_K, atol=1e-3)


CHECKS = (
    check_every_item_is_counted_once,
    check_labels_stay_with_their_items,
    check_probabilities_are_those_worked_out_by_hand,
    check_the_score_is_that_counted_by_hand,
)


def check_all(done: Done) -> None:
    """Hold a run to all that was worked out by hand."""
    for check in CHECKS:
        check(done)
    if done.protocol == "linear_probe":
        check_the_head_is_that_of_another_solver(done)


def scores_of(done: Done, names: Sequence[str]) -> np.ndarray:
    """Give the recorded probabilities of items, (N, K)."""
    return np.stack([done.by_id[name] for name in names])
