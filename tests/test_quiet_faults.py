"""Numbers that could quietly be wrong, each planted end to end and refused, separated or named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import QUICK, Answer, rsbench, write_pictures
from PIL import Image

from rsbench.data.sample import MOTIONS, motion_clips
from rsbench.media.video import write_video
from rsbench.records import store
from rsbench.records.schema import RunRecord
from rsbench.registry import find_task


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def run(results: Path, *words: str | Path) -> Answer:
    return rsbench("run", *words, "--results", results, "--json")


def record_of(answer: Answer) -> RunRecord:
    assert answer.code == 0, answer.err
    return store.read(Path(json.loads(answer.out)["record"]))


TASK_FILE = """
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task
import numpy as np


def load(root, split):
    items = tuple(
        Item(id=f"{split}{number}", source=np.zeros((4, 4, 3), np.uint8), target=number % 2)
        for number in range(40)
    )
    return Split(items=items, classes=("even", "odd"))


def read(item):
    number = int(item.id.lstrip("trainseval"))
    return np.full((3, 32, 32), SIGNAL * (number % 2) + 0.001 * number, np.float32)


SIGNAL = 1.0
TASK = Task(
    name="parity", version=1, modality="image", target="class", metrics=(TOP1,), load=load,
    folds=(FOLD,), sample=Sample(write=lambda root: None), read=read, how_to_get="made here",
    title="Parity", licence="none", citation="none",
)
"""


def write_task(
    path: Path, *, signal: float = 1.0, fold: str = 'train="train", test="test"'
) -> Path:
    text = TASK_FILE.replace("SIGNAL = 1.0", f"SIGNAL = {signal}").replace(
        "FOLD,", f"Fold({fold}),"
    )
    path.write_text(text)
    return path


def test_an_edited_reader_does_not_meet_the_features_of_the_old_one(
    tmp_path: Path, results: Path
) -> None:
    words = ("--backbone", "tiny_2d", "--set", "strengths=3")
    task = f"{write_task(tmp_path / 'parity.py', signal=1.0)}@sample"
    with_signal = record_of(run(results, "--task", task, *words))
    write_task(tmp_path / "parity.py", signal=0.0)
    without = record_of(run(results, "--task", task, *words))
    # The signal tells the classes apart; without it an item's number says nothing of its parity.
    assert with_signal.metrics[0].value == 1.0
    assert without.metrics[0].value < 0.8


@pytest.mark.parametrize(
    "fold",
    [
        'train="train", test="test", validation="test"',
        'train="train", test="train"',
        'train="train", validation="train", test="test"',
    ],
)
def test_nothing_is_learned_or_selected_on_what_is_reported(
    tmp_path: Path, results: Path, fold: str
) -> None:
    task = f"{write_task(tmp_path / 'parity.py', fold=fold)}@sample"
    answer = run(results, "--task", task, "--backbone", "tiny_2d")
    assert answer.code == 2
    assert "each must be in one of them" in answer.err
    assert not list(results.rglob("*.json"))


def test_predict_refuses_a_task_that_reads_its_items_itself(tmp_path: Path, results: Path) -> None:
    task = f"{write_task(tmp_path / 'parity.py')}@sample"
    words = ("--backbone", "tiny_2d", "--set", "strengths=3")
    path = json.loads(run(results, "--task", task, *words).out)["record"]
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "new.png")
    answer = rsbench("predict", path, tmp_path / "new.png")
    assert answer.code == 2
    assert "reads its items itself" in answer.err


def test_equal_names_with_other_pictures_are_never_averaged(
    tmp_path: Path, pictures: Path, results: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    for path in other.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    one = record_of(run(results, *QUICK, "--data", pictures))
    two = record_of(run(results, *QUICK, "--data", other))
    assert one.data.fingerprint == two.data.fingerprint
    assert one.data.content != two.data.content
    tables = json.loads(rsbench("table", results, "--format", "json").out)
    assert len(tables["tables"]) == 2


def test_half_precision_stands_in_a_row_of_its_own_and_is_predicted_so(
    pictures: Path, results: Path
) -> None:
    record_of(run(results, *QUICK, "--data", pictures))
    answer = run(results, *QUICK, "--data", pictures, "--precision", "bf16")
    path = Path(json.loads(answer.out)["record"])
    (table,) = json.loads(rsbench("table", results, "--format", "json").out)["tables"]
    assert len(table["rows"]) == 2
    recorded = store.read_predictions(path)
    file = pictures / recorded.ids[0]
    said = json.loads(rsbench("predict", path, file, "--json").out)["scores"]
    assert list(said.values()) == pytest.approx(list(recorded.predictions[0]), abs=1e-6)


def test_a_network_that_brings_its_own_weights_is_not_called_random(
    tmp_path: Path, pictures: Path, results: Path
) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(7)  # stands for a checkpoint loaded here\n"
        "    return torch.nn.Conv2d(3, 4, 3)\n"
    )
    words = ("--task", "folder", "--pixels", "16", "--set", "strengths=3", "--data", pictures)
    weights = record_of(run(results, *words, "--backbone", f"{file}:build")).weights
    assert weights.name == "own"
    assert weights.init_seed is None
    assert not weights.verified
    assert "random init" not in rsbench("table", results).out


def test_a_key_set_twice_is_refused(pictures: Path, results: Path) -> None:
    answer = run(results, *QUICK, "--data", pictures, "--set", "strengths=5")
    assert answer.code == 2
    assert "--set gives strengths more than once" in answer.err


def test_segments_of_one_video_stay_on_one_side(tmp_path: Path) -> None:
    clips = list(motion_clips(0, 1))[:2]
    lines = ["path,label,start,end"]
    for number in range(5):
        write_video(tmp_path / f"{number}.mp4", clips[number % 2].frames, fps=12)
        lines += [f"{number}.mp4,{MOTIONS[0]},0,1", f"{number}.mp4,{MOTIONS[1]},1,2"]
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    task = find_task("csv").spec
    assert callable(task.folds)
    for fold in task.folds(tmp_path / "clips.csv"):
        assert fold.train is not None
        sides = [
            {item.id.partition("#")[0] for item in task.load(tmp_path / "clips.csv", name).items}
            for name in (fold.train, fold.test)
        ]
        assert not sides[0] & sides[1]
