"""Bad words and bad data: one line each, the right exit code, nothing lost or half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import (
    QUICK,
    TINY,
    Answer,
    contents_of,
    rsbench,
    write_broken_network,
    write_pictures,
)
from records_factory import save_record, some_hits

from rsbench.media.video import write_video
from rsbench.records import store
from rsbench.registry import find_backbone, find_protocol

PLUGINS = Path(__file__).parent / "plugins"

CLIPS = ("--backbone", "tiny_2d", "--pixels", "16", "--frames", "2", "--set", "strengths=3")
"""A run of a second on what `_write_clips` writes."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and results/: one finished run."""
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSBENCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        answer = rsbench("run", *QUICK, "--data", "data")
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture(autouse=True)
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own copy of the world as the working folder."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.setenv("RSBENCH_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return folder


def refused(*words: str | Path, code: int = 2) -> str:
    """Run what must be refused: by one line, and with the results untouched. Gives the line."""
    results = Path("results")
    before = contents_of(results)
    answer = rsbench(*words)
    assert answer.code == code, answer
    assert contents_of(results) == before
    return _only_line(answer)


def _only_line(answer: Answer) -> str:
    (line,) = answer.err.splitlines()
    assert line.startswith("rsbench: ")
    assert "Traceback" not in answer.out
    return line


def _run(*words: str | Path, code: int = 2) -> str:
    recipe_said = any(str(word).startswith("strengths") for word in words)
    return refused("run", *(TINY if recipe_said else QUICK), "--data", "data", *words, code=code)


# ---------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("option", "typed", "nearest"),
    [
        ("--task", "kinetic400", "kinetics400"),
        ("--backbone", "resnet_rs3d_50", "resnet_rs_3d_50"),
        ("--protocol", "linear_prob", "linear_probe"),
    ],
)
def test_a_near_miss_is_named(option: str, typed: str, nearest: str) -> None:
    line = _run(option, typed)

    assert f"called {typed!r}. Did you mean {nearest}" in line
    assert f"`rsbench ls {option[2:]}s`" in line


def test_one_wrong_name_of_a_grid_is_told_before_anything_runs() -> None:
    assert "'tini_2d'" in _run("--backbone", "tiny_2d,tini_2d", "--seed", "4")


@pytest.mark.parametrize("typed", ["", ",", "tiny_2d,", "tiny_2d,,tiny_3d"])
def test_a_list_with_a_hole_is_refused(typed: str) -> None:
    assert repr(typed) in _run("--task", typed)


def test_show_names_near_misses_of_every_kind() -> None:
    assert "Did you mean finetune" in refused("show", "finetun")


# ---------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "strength=3"), "has no 'strength'. Did you mean strengths"),
        (("--set", "strengths=many"), "strengths must be a whole number; it was 'many'"),
        (("--set", "strengths=2.5"), "strengths must be a whole number; it was '2.5'"),
        (("--set", "held_out=much"), "held_out must be a number; it was 'much'"),
        (("--set", "standardise=perhaps"), "standardise must be true or false; it was 'perhaps'"),
        (("--set", "strengths"), "--set must be KEY=VALUE"),
        (("--set", "=3"), "--set must be KEY=VALUE"),
        (("--set", "held_out=2"), "held_out must be a number between 0 and 1"),
        (("--set", "held_out=nan"), "held_out must be a number between 0 and 1"),
        (("--set", "strength_max=inf"), "strength_max must be a number"),
        (("--set", "strengths=99999999999999"), "strengths must be a whole number from 1 to"),
        (("--set", "strength_scale=banana"), "must be one of 'sum', 'half-sum', 'mean', 'C'"),
        (("--seeds", "one,two"), "--seeds must be whole numbers from 0"),
        (("--seeds", "0,-1"), "it was '0,-1'"),
        (("--seeds", "0,,1"), "it was '0,,1'"),
        (("--seeds", "99999999999999999999"), "from 0 to 4294967295"),
        (("--seed", "99999999999999999999"), "0<=x<=4294967295"),
        (("--seed", "1", "--seeds", "1,2"), "--seed 1 and --seeds 1,2 exclude each other"),
        (("--limit", "0"), "x>=1"),
        (("--batch-size", "many"), "'many' is not a valid integer"),
        (("--precision", "int8"), "'float32', 'bf16', 'fp16'"),
        (("--device", "toaster"), "must be one of this machine's: cpu"),
        (("--device", "meta"), "must be one of this machine's: cpu"),
        (("--device", "cuda:99"), "must be one of this machine's: cpu"),
        (("--frames", "4"), "--frames is for videos"),
        (("--stride", "4"), "--stride is for videos"),
        (("--protocl", "knn"), "No such option '--protocl'. Did you mean '--protocol'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_word_that_can_not_be_is_refused(words: tuple[str, ...], said: str) -> None:
    assert said in _run(*words)


def test_a_limit_that_leaves_too_little_to_learn_from_is_refused() -> None:
    assert "raise --limit, or add data" in _run("--limit", "1")


def test_write_and_check_exclude_each_other() -> None:
    assert "exclude each other" in refused("table", "results", "--write", "--check")


# ---------------------------------------------------------------------------- where data lies


@pytest.mark.parametrize("said_by", ["--data", "RSBENCH_DATA_KINETICS400", "config file"])
def test_a_missing_data_folder_says_what_was_looked_for_and_how_to_get_it(
    said_by: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "--task", "kinetics400", "--backbone", "tiny_2d"]
    if said_by == "--data":
        words += ["--data", "nowhere"]
    elif said_by == "config file":
        said_by = str(here / "config.toml")
        Path(said_by).write_text('[data]\nkinetics400 = "nowhere"\n')
        monkeypatch.setenv("RSBENCH_CONFIG", said_by)
    else:
        monkeypatch.setenv(said_by, str(here / "nowhere"))
    line = refused(*words)

    assert f"{here / 'nowhere'}, as {said_by} says" in line
    assert "https://github.com/cvdfoundation/kinetics-dataset" in line
    assert "val.csv with ID_ssssss_eeeeee.mp4 files" in line


def test_a_config_file_that_is_no_toml_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "config.toml").write_text("[data\n")
    monkeypatch.setenv("RSBENCH_CONFIG", str(here / "config.toml"))

    assert "config.toml must be readable TOML" in refused("run", "--task", "kinetics400")


def test_what_is_wrong_with_the_data_of_a_whole_grid_is_said_once(here: Path) -> None:
    (here / "data" / "list.csv").write_text("path,label\n../x.png,a\n")
    words = ("run", "--task", "csv", "--data", "data/list.csv")

    assert "'..'" in refused(*words, "--backbone", "tiny_2d,tiny_3d", "--seeds", "0,1")


def test_own_data_must_be_named() -> None:
    assert "give --data PATH" in refused("run", "--task", "folder")


def test_a_sample_brings_its_own_data() -> None:
    line = refused("run", *QUICK, "--task", "folder@sample", "--data", "data")

    assert "leave --data out, or name the task folder" in line


# ---------------------------------------------------------------------------- splits and labels

TASK_FILE = """
from pathlib import Path
import numpy as np
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task

def load(root, split):
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    items = tuple(
        Item(id=f"{split}/{number}", source=picture, target=target)
        for number, target in enumerate(TARGETS[split])
    )
    return Split(items=items, classes=("a", "b"))

TASK = Task(
    name="planted", version=1, modality="image", target="class", metrics=(TOP1,), load=load,
    folds=(Fold(train="train", test="test"),), sample=Sample(write=lambda root: None, pixels=16),
    how_to_get="Ask.", title="Planted", licence="none", citation="none",
)
"""


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"train": [0, 1], "test": []}, "Split 'test' of planted is empty"),
        ({"train": [], "test": [0, 1]}, "Split 'train' of planted is empty"),
        ({"train": [0, 1], "test": [0, 2]}, "has label 2; it must be a class index from 0 to 1"),
        ({"train": [0, -1], "test": [0, 1]}, "has label -1; it must be a class index from 0 to 1"),
        ({"train": [0, "b"], "test": [0, 1]}, "has label 'b'; it must be a class index"),
    ],
)
def test_an_empty_split_or_a_label_outside_the_classes_is_refused(
    targets: dict[str, list[int]], said: str, here: Path
) -> None:
    (here / "planted.py").write_text(f"TARGETS = {targets!r}\n{TASK_FILE}")

    assert said in refused("run", "--task", "./planted.py", "--backbone", "tiny_2d")


def _write_list(root: Path, *lines: str, split: str = "val") -> None:
    root.mkdir(exist_ok=True)
    (root / "classes.txt").write_text("walk left\nwalk right\n")
    (root / f"{split}_list.txt").write_text("".join(f"{line}\n" for line in lines))


def _kinetics(*lines: str) -> str:
    """Refuse a Kinetics list; its files are empty, as it is read before anything is decoded."""
    for split in ("train", "val"):
        for number in range(2):
            path = Path(f"clips/{split}/{split}{number}.mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    _write_list(Path("clips"), "train/train0.mp4 0", "train/train1.mp4 1", split="train")
    _write_list(Path("clips"), *lines)
    return refused("run", "--task", "kinetics400", *CLIPS, "--data", "clips")


def test_a_listed_index_outside_the_classes_is_refused_by_its_line() -> None:
    line = _kinetics("val/val0.mp4 0", "val/val1.mp4 2")

    assert "val_list.txt, line 2" in line
    assert "from 0 to 1" in line


def test_a_listed_name_outside_the_classes_is_refused_with_the_nearest() -> None:
    line = _kinetics("val/val0.mp4 walk_rihgt")

    assert "val_list.txt, line 1" in line
    assert "did you mean 'walk right'" in line


def test_a_list_whose_files_are_all_missing_is_refused() -> None:
    assert "none of the 2 clips" in _kinetics("val/gone0.mp4 0", "val/gone1.mp4 1")


@pytest.mark.parametrize("step", ["../outside.mp4", "/etc/outside.mp4", "val/link.mp4"])
def test_a_list_entry_that_leaves_the_root_is_refused_by_its_line(step: str, here: Path) -> None:
    (here / "outside.mp4").touch()
    (here / "clips" / "val").mkdir(parents=True)
    (here / "clips" / "val" / "link.mp4").symlink_to(here / "outside.mp4")
    line = _kinetics("val/val0.mp4 0", f"{step} 1")

    assert "val_list.txt, line 2" in line
    assert "the data root" in line


def test_a_linked_folder_that_leaves_the_root_is_refused(here: Path) -> None:
    (here / "elsewhere").mkdir()
    (here / "data" / "test" / "linked").symlink_to(here / "elsewhere")

    assert "'linked' must lie below the data root" in _run()


GOOD_ROWS = [
    f"{split}/{name}/{name}{number}.png,{name},{split}"
    for split in ("train", "test")
    for name in ("bright", "dark")
    for number in range(4)
]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("../data/train/dark/dark5.png,dark,train", "'..'"),
        ("/etc/hostname.png,dark,train", "must lie below the data root"),
        ("link.png,dark,train", "must lie below the data root"),
        (",dark,train", "path must not be empty"),
        ("train/dark/dark5.png,,train", "label must not be empty"),
        ("train/dark/dark5.png,dark", "must have 3 fields like the header, it has 2"),
        ("train/dark/dark5.png,dark,practice", "split must be train, val or test"),
        ("train/dark/dark0.png,dark,train", "must be listed once"),
        ("train/dark/notes.txt,dark,train", "must name an image"),
        ('"train/dark/dark5.png,dark,train', "check its quotes"),
    ],
)
def test_a_bad_row_of_a_csv_is_refused_by_its_line(row: str, said: str, here: Path) -> None:
    (here / "data" / "link.png").symlink_to("/etc/hostname")
    rows = ["path,label,split", *GOOD_ROWS, row]
    (here / "data" / "list.csv").write_text("".join(f"{line}\n" for line in rows))
    line = _run("--task", "csv", "--data", "data/list.csv")

    assert "list.csv, line 18" in line
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "line 1: the header must name the columns path, label"),
        (b"file,class\na.png,b\n", "line 1: the header must name the columns path, label"),
        (b"path,label\n", "must list at least one item"),
        (b"path,label\na.png,caf\xe9\n", "line 2: the text must be UTF-8"),
        (b"path,label\na.png,\0b\n", "NUL bytes"),
    ],
)
def test_a_csv_that_is_none_is_refused(text: bytes, said: str, here: Path) -> None:
    (here / "data" / "list.csv").write_bytes(text)

    assert said in _run("--task", "csv", "--data", "data/list.csv")


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("train/dark", "A classifier needs examples of at least two classes"),
        ("test", "gives a train split and nothing to test on"),
        ("train", "has no train split to learn from"),
        ("", "data must be a folder of class folders|must lie at"),
    ],
)
def test_a_folder_without_enough_in_it_is_refused(removed: str, said: str, here: Path) -> None:
    shutil.rmtree(here / "data" / removed)

    assert any(part in _run() for part in said.split("|"))


# ---------------------------------------------------------------------------- unreadable media


@pytest.fixture
def clips(here: Path) -> Path:
    """Videos in the official layout's class folders; one test clip of four is no video."""
    root = here / "clips"
    for split, num_clips in (("train", 4), ("val", 2)):
        for shade, name in ((60, "dark"), (180, "bright")):
            for number in range(num_clips):
                path = root / split / name / f"{split}{name}{number}_000000_000010.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(number).integers(0, 40, (4, 16, 16, 3))
                write_video(path, (noise + shade).astype(np.uint8), fps=8)
    (root / "classes.txt").write_text("dark\nbright\n")
    (root / "val" / "dark" / "valdark0_000000_000010.mp4").write_bytes(b"no video" * 100)
    return root


def test_an_unreadable_video_is_counted_named_and_scored_wrong(clips: Path) -> None:
    answer = rsbench("run", "--task", "kinetics400", *CLIPS, "--data", clips, "--json")
    printed = json.loads(answer.out)
    record = store.read(Path(printed["record"]))
    table = store.read_predictions(Path(printed["record"]))
    row = table.ids.index("valdark0_000000_000010")

    assert answer.code == 0, answer.err
    assert (printed["n_expected"], printed["n_evaluated"], printed["n_failed"]) == (4, 3, 1)
    (failed,) = record.data.failed
    assert failed["id"] == "valdark0_000000_000010"
    assert failed["reason"]
    assert table.predictions[row] is None
    # Brightness tells the classes apart, so the other three are right: 3 of 4, not 3 of 3.
    assert printed["metrics"]["top1"]["value"] == pytest.approx(3 / 4)


def test_no_allowed_failure_stops_the_run_with_1_whether_or_not_it_is_finished(clips: Path) -> None:
    words = ("run", "--task", "kinetics400", *CLIPS, "--data", clips)
    first = refused(*words, "--max-failed", "0", code=1)
    allowed = rsbench(*words, "--max-failed", "1")
    later = refused(*words, "--max-failed", "0", code=1)

    assert "--max-failed allows 0 unreadable items and there are 1" in first
    assert "valdark0_000000_000010" in first
    assert first.endswith("No record was written.")
    assert allowed.code == 0, allowed.err
    assert later.endswith("The finished record stays.")


def test_an_unreadable_training_item_is_named_and_counts_as_well(here: Path) -> None:
    (here / "data" / "train" / "dark" / "dark0.png").write_bytes(b"no picture")
    line = _run("--max-failed", "0", code=1)
    answer = rsbench("run", *QUICK, "--data", "data", "--json")
    record = store.read(Path(json.loads(answer.out)["record"]))

    assert "train/dark/dark0.png" in line
    assert [each["id"] for each in record.data.train_failed] == ["train/dark/dark0.png"]


@pytest.mark.parametrize(
    ("split", "code", "said"),
    [
        ("test", 1, "No item of folder could be read, so there is no score"),
        ("train", 2, "12 others can't be read, the first is train/bright/bright0.png"),
    ],
)
def test_without_any_readable_item_there_is_no_record(
    split: str, code: int, said: str, here: Path
) -> None:
    for path in (here / "data" / split).rglob("*.png"):
        path.write_bytes(b"no picture")

    assert said in _run(code=code)


# ---------------------------------------------------------------------------- protocols, weights


def test_a_protocol_that_gives_something_else_is_refused() -> None:
    line = refused("run", "--task", PLUGINS / "depth.py", "--backbone", "tiny_2d")

    assert "Protocol linear_probe gives class" in line
    assert "asks for depth" in line


def test_evaluate_needs_weights_with_a_classifier() -> None:
    line = refused("run", *QUICK[:4], "--data", "data", "--protocol", "evaluate")

    assert "evaluate needs weights that bring a classifier" in line


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("missing.pth", "No weights 'missing.pth' for tiny_2d: it is no file"),
        ("garbage.pth", "weights file garbage.pth must"),
        ("garbage.safetensors", "must be a whole safetensors file and can't be read"),
        ("empty.pth", "(0 bytes) must be a whole torch file"),
        ("cut.pth", "cut short or damaged"),
        ("shallower.pth", "stages.2.0.weight"),
        ("3d.pth", "of another shape in the file"),
        ("code.pth", "could run code on loading, so it was not loaded"),
    ],
)
def test_weights_that_can_not_be_are_refused(file: str, said: str, here: Path) -> None:
    path = here / file
    state = find_backbone("tiny_2d").spec.build(None).state_dict()
    if file.startswith("garbage"):
        path.write_bytes(b"\x00no weights at all")
    elif file == "empty.pth":
        path.touch()
    elif file == "cut.pth":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:2000])
    elif file == "shallower.pth":
        torch.save({k: v for k, v in state.items() if not k.startswith("stages.2")}, path)
    elif file == "3d.pth":
        torch.save(find_backbone("tiny_3d").spec.build(None).state_dict(), path)
    elif file == "code.pth":
        torch.save({"state": Path("a path is an object")}, path)

    assert said in _run("--weights", file)


def test_known_weights_that_are_not_here_say_where_to_put_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    line = _run("--backbone", "resnet_rs_50", "--weights", "resnetrs50.tf_in1k")

    assert "run `rsbench weights fetch resnet_rs_50 resnetrs50.tf_in1k`, or download" in line
    assert "https://huggingface.co/timm/resnetrs50.tf_in1k/resolve/main/model.safetensors" in line


# ---------------------------------------------------------------------------- plug-ins


@pytest.mark.parametrize("kind", ["task", "backbone", "protocol"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def build(:\n", "can't be imported: SyntaxError"),
        ("import sys\nsys.exit(0)\n", "can't be imported: SystemExit"),
        ("raise ValueError('two\\nlines')\n", "can't be imported: ValueError: two"),
        ("import nothing_of_this_name\n", "can't be imported: ModuleNotFoundError"),
        ("", "must define"),
        ("TASK = BACKBONES = PROTOCOL = 3\n", "it gave a int"),
    ],
    ids=["syntax", "exit", "raise", "import", "empty", "number"],
)
def test_a_plug_in_that_fails_is_named(kind: str, text: str, said: str, here: Path) -> None:
    (here / "mine.py").write_text(text)
    line = _run(f"--{kind}", "./mine.py")

    assert "mine.py" in line
    assert said in line


def test_a_file_that_is_not_there_is_named() -> None:
    assert "No file gone.py to take a backbone from" in _run("--backbone", "./gone.py:build")


def test_a_network_that_fails_leaves_no_record(here: Path) -> None:
    # A traceback here is right: it is the network's author who must read it.
    before = contents_of(here / "results")
    with pytest.raises(ZeroDivisionError, match="planted"):
        rsbench(
            "run", *QUICK, "--data", "data", "--backbone", write_broken_network(here / "net.py")
        )

    assert contents_of(here / "results") == before


# ---------------------------------------------------------------------------- the disk


@contextlib.contextmanager
def _no_file_larger_than(num_bytes: int) -> Iterator[None]:
    """Let writes beyond a size fail with EFBIG, as a full disk lets them fail with ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("num_bytes", "when"), [(1000, "before the run"), (8000, "when the record is written")]
)
def test_a_full_disk_leaves_the_results_as_they_were(num_bytes: int, when: str) -> None:
    # The probe before a run is 7,168 bytes, the record of a run about 9,000 and more.
    words = ("--seed", "11", "--set", "strengths=40")
    with _no_file_larger_than(num_bytes):
        line = _run(*words)
    answer = rsbench("run", *TINY, "--data", "data", *words)

    assert ("A result could not" if when.startswith("before") else "The record of tiny_2d") in line
    assert "free some space" in line
    assert answer.code == 0, answer.err


def test_a_full_disk_leaves_the_page_of_results_as_it_was(here: Path) -> None:
    assert rsbench("table", "results", "--write").code == 0
    rsbench("run", *QUICK, "--data", "data", "--seed", "1")
    with _no_file_larger_than(100):
        line = refused("table", "results", "--write")

    assert "README.md could not be saved in results" in line


def test_a_full_cache_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "file").touch()
    monkeypatch.setenv("RSBENCH_CACHE", str(here / "file" / "cache"))

    assert "Can't write" in _run("--seed", "12")
    assert "must be written below" in refused("run", "--task", "kinetics400@sample", *CLIPS)


@pytest.mark.parametrize("folder", ["file/results", "/proc/rsbench", "file"])
def test_a_results_folder_that_can_not_be_written_is_told_before_the_run(
    folder: str, here: Path
) -> None:
    (here / "file").touch()
    answer = rsbench("run", *QUICK, "--data", "data", "--results", folder, "--seed", "13")

    assert answer.code == 2
    assert folder in _only_line(answer)
    assert "top1" not in answer.out


def test_a_read_only_file_system_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # chmod does not bind root, so the disk's answer is planted.
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if "x" in mode and "results" in path.parts:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", read_only)

    assert "Read-only file system); make it writable" in _run("--seed", "14")


@pytest.mark.parametrize(
    "words", [("data", "sample", "folder"), ("new", "task", "birds", "--into")]
)
def test_what_can_not_be_written_elsewhere_is_one_line(words: Sequence[str], here: Path) -> None:
    (here / "file").touch()

    assert "Not a directory" in refused(*words, here / "file" / "below")


def test_a_sample_is_not_written_over_what_is_there() -> None:
    assert "must be new or empty" in refused("data", "sample", "folder", "data")


# ---------------------------------------------------------------------------- broken records

FAULTS = {
    "cut.json": "cut short or not JSON",
    "hello.json": "cut short or not JSON",
    "newer.json": "was written by a newer rsbench (schema 999",
    "edited.json": "was edited by hand",
}


@pytest.fixture
def broken(here: Path) -> Path:
    """The folder of the finished record, with broken ones beside it."""
    (record,) = (here / "results").rglob("*.json")
    text = record.read_text()
    folder = record.parent
    (folder / "cut.json").write_text(text[:700])
    (folder / "hello.json").write_text("hello")
    (folder / "newer.json").write_text(text.replace('"schema": 1,', '"schema": 999,', 1))
    (folder / "edited.json").write_text(text.replace('"seed": 0', '"seed": 1', 1))
    return folder


@pytest.mark.parametrize("words", [("table", "results"), ("ls", "results")])
def test_broken_records_are_named_and_left_alone_and_the_rest_is_drawn(
    words: Sequence[str], broken: Path
) -> None:
    before = contents_of(broken)
    answer = rsbench(*words)

    assert answer.code == 0
    assert "tiny_2d" in answer.out
    lines = answer.err.splitlines()
    assert len(lines) == len(FAULTS)
    for (name, fault), line in zip(sorted(FAULTS.items()), lines, strict=True):
        assert line.startswith(f"rsbench: left out: runs/folder/linear_probe/{name}")
        assert fault in line
    assert contents_of(broken) == before


def test_the_page_of_results_names_broken_records(broken: Path) -> None:
    answer = rsbench("table", "results", "--write")
    page = Path("results/README.md").read_text(encoding="utf-8")

    assert answer.code == 0
    assert all(f"linear_probe/{name}" in page for name in FAULTS)
    assert "tiny_2d" in page


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_record_is_refused_by_name(name: str, broken: Path) -> None:
    picture = "data/test/dark/dark0.png"

    assert FAULTS[name] in refused("show", broken / name)
    assert FAULTS[name] in refused("predict", broken / name, picture)


def test_a_run_beside_broken_records_is_saved(broken: Path) -> None:
    before = contents_of(broken)
    answer = rsbench("run", *QUICK, "--data", "data", "--seed", "2")

    assert answer.code == 0
    assert contents_of(broken).items() > before.items()


# ---------------------------------------------------------------------------- predict


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone.png",), "No file gone.png to predict"),
        (("data",), "No file data to predict"),
        (("data/test/dark/dark0.png", "--fold", "fold1"), "has no fold 'fold1'"),
        (("data/test/dark/dark0.png", "--weights", "gone"), "No weights 'gone'"),
        (("data/test/dark/dark0.png", "--backbone", "tiny_3d"), "was made with weights"),
        ((), "Missing argument 'FILES...'"),
    ],
)
def test_predict_refuses_what_does_not_fit(words: Sequence[str], said: str, here: Path) -> None:
    (record,) = (here / "results").rglob("*.json")

    assert said in refused("predict", record, *words)


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_predict_refuses_a_head_that_is_not_the_fitted_one(harm: str, here: Path) -> None:
    (record,) = (here / "results").rglob("*.json")
    head = record.with_name(f"{record.stem}.{store.HEAD_SUFFIX}")
    head.unlink()
    if harm == "changed":
        head.write_bytes(b"another head")

    line = refused("predict", record, "data/test/dark/dark0.png")
    assert head.name in line


@pytest.mark.parametrize("part", ["backbone", "protocol"])
def test_predict_imports_no_file_that_a_record_names(part: str, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    name = f"{tmp_path}/evil.py{'@32' if part == 'backbone' else ''}"
    now = {"protocol": {"version": find_protocol("linear_probe").spec.version}}
    path = save_record(tmp_path, some_hits(80), **(now | {part: {"name": name}}))
    (tmp_path / "clip.mp4").write_bytes(b"")

    assert f"The {part} {name} of this record came from a file" in refused(
        "predict", path, tmp_path / "clip.mp4"
    )


def test_predict_refuses_a_run_that_gave_no_class_scores() -> None:
    plugin = PLUGINS / "depth.py"
    words = ("--backbone", "tiny_2d", "--protocol", plugin, "--results", "depth", "--json")
    ran = rsbench("run", "--task", plugin, *words)
    line = refused("predict", json.loads(ran.out)["record"], "data/test/dark/dark0.png")

    assert "asks for depth of image items" in line


# ---------------------------------------------------------------------------- two at once


def test_runs_at_the_same_time_on_one_results_folder_all_end_well(here: Path) -> None:
    # Two processes with cold caches: at first the same cell, then each one of its own.
    shutil.rmtree(here / "cache")
    shutil.rmtree(here / "results")
    words = [sys.executable, "-m", "rsbench", "run", *QUICK, "--data", "data", "--json"]
    started = [
        subprocess.Popen(
            [*words, "--seeds", seeds],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seeds in ("0,1", "0,2")
    ]
    ended = [process.communicate(timeout=300) for process in started]

    assert [process.returncode for process in started] == [0, 0], ended
    # Of the cell that both begin with, the later one waits, unless it comes after the end.
    said = [line for _, err in ended for line in err.splitlines()]
    assert len(said) <= 1
    assert all("another process is running tiny_2d on folder" in line for line in said)
    cells = [json.loads(line)["record"] for out, _ in ended for line in out.splitlines()]
    assert len(cells) == 4
    assert len(set(cells)) == 3
    contents = store.read_all(here / "results")
    assert contents.problems == ()
    assert [each.record.seed for each in contents.records] == [0, 1, 2]
    for stored in contents.records:
        assert len(store.read_predictions(stored.path).ids) == 8
        assert store.find(here / "results", stored.record.key).path.name == stored.path.name
    assert [*(here / "results").rglob(".*")] == []
