"""Weights that learned on what a run tests are refused, whichever way they come."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import rsbench
from rsbench_tasks import folder, hmdb51, ucf101
from safetensors.numpy import load_file, save_file

from rsbench.cells import RunRequest
from rsbench.data.fingerprints import Fingerprints
from rsbench.data.sample import write_motion_segments, write_photograph_crops
from rsbench.digests import digest_file, digest_json
from rsbench.errors import RecordError, WeightsError
from rsbench.records import heads
from rsbench.registry import find_backbone
from rsbench.runner import Finished, run
from rsbench.specs import Fold, InputSpec, Item
from rsbench.weights import choosing, shelf
from rsbench.weights.choosing import ChosenWeights
from rsbench.weights.history import item_key, item_keys, refuse_learned

# ------------------------------------------------------------------------------- by key and name

FOLDS = (Fold(train="rest1", test="1", name="one"), Fold(train="rest2", test="2", name="two"))
"""Two folds over four items: a and b are tested by the first, c and d by the second."""

TESTED = {"one": "ab", "two": "cd", "": "abcd"}

NOWHERE = Fingerprints(Path("remembers nothing of arrays")).digest


def items(contents: Iterable[str], *, called: str = "") -> tuple[Item, ...]:
    """Give one item a letter: it names the content, and the item where it is not called else."""
    return tuple(
        Item(id=f"{called}{letter}", source=np.full((2, 2, 3), ord(letter), dtype=np.uint8))
        for letter in contents
    )


TASK = replace(ucf101.TASK, name="toy", folds=FOLDS)
OWN = replace(TASK, name="own", folds=lambda root: FOLDS)


def refuse(
    trained_on: Sequence[str],
    *folds: str,
    learned: str = "",
    ids: str = "",
    known: bool = True,
    task: object = TASK,
    offered: tuple[Fold, ...] = FOLDS,
    called: str = "",
) -> None:
    weights = ChosenWeights(
        name="mine",
        input=InputSpec(pixels=8),
        trained_on=tuple(trained_on),
        is_history_known=known,
        learned=item_keys(items(learned), NOWHERE),
        learned_ids=frozenset(ids),
    )
    refuse_learned(
        weights,
        task,  # type: ignore[arg-type]  # a Task
        task_name=task.name,  # type: ignore[attr-defined]
        folds=offered,
        tested={name: items(TESTED[name], called=called) for name in folds},
        digest_of=NOWHERE,
    )


def test_a_fold_s_own_network_may_be_tested_on_it() -> None:
    refuse(["toy:one"], "one")
    refuse(["toy:one"], "one", learned="cd")
    refuse(["kinetics400", "toy:two"], "two", learned="abx")


@pytest.mark.parametrize("learned", ["", "x", "a"])
def test_a_published_split_s_network_is_refused_in_another_whatever_this_disk_holds(
    learned: str,
) -> None:
    # By name alone: the clips may lie here in another encoding, the lists may be shorter.
    with pytest.raises(WeightsError, match=r"in one of toy on most items that two tests.* --folds"):
        refuse(["toy:one"], "two", learned=learned)


def test_what_was_learned_is_counted_where_it_is_known() -> None:
    with pytest.raises(WeightsError, match=r"in one of toy on 2 of the 2 items that two tests"):
        refuse(["toy:one"], "two", learned="cd")
    with pytest.raises(WeightsError, match=r"on 1 of the 2 items that one tests.* --folds two"):
        refuse(["toy:two"], "one", "two", learned="ax")


def test_what_was_learned_before_another_task_is_refused_too() -> None:
    with pytest.raises(WeightsError, match="learned in one of toy"):
        refuse(["toy:one", "hmdb51:split1"], "two")
    with pytest.raises(WeightsError, match="learned in one of toy on 1 of the 2"):
        refuse(["toy:one", "hmdb51:split1"], "two", learned="c")


def test_weights_of_an_unknown_fold_are_refused_and_those_of_other_tasks_are_not() -> None:
    with pytest.raises(WeightsError, match="it is not known in which of its folds one, two"):
        refuse(["toy"], "one")
    refuse(["toy@sample:one", "toys:one", "kinetics400"], "one", "two")
    refuse([], "one", "two")


def test_weights_that_come_of_a_fold_of_nobody_knows_what_are_refused_where_folds_have_names() -> (
    None
):
    with pytest.raises(WeightsError, match=r"a task that their file does not name, and toy has"):
        refuse([], "one", known=False)
    refuse([], "one", known=False, task=OWN)
    whole = (Fold(train="train", test="test"),)
    refuse([], "", known=False, task=replace(TASK, folds=whole), offered=whole)


@pytest.mark.parametrize("trained_on", [["toy"], ["own:two"], ["other:one"], []])
@pytest.mark.parametrize("task", [TASK, OWN], ids=["its own folds", "made here"])
def test_the_same_content_is_refused_under_any_name_and_any_id(
    trained_on: list[str], task: object
) -> None:
    with pytest.raises(WeightsError, match="1 of the 2 items that one tests"):
        refuse(trained_on, "one", learned="bx", task=task, called="else/")


def test_folds_that_rsbench_makes_have_the_same_names_everywhere_and_say_nothing() -> None:
    refuse(["own"], "one", "two", learned="xyz", task=OWN)
    refuse(["own:two"], "one", "two", learned="xyz", task=OWN)


def test_one_pairing_is_held_to_what_was_learned_too() -> None:
    whole = (Fold(train="train", test="test"),)
    with pytest.raises(
        WeightsError, match=r"1 of the 4 items that own tests, in training on own: .*again"
    ):
        refuse(["own"], "", learned="dx", task=OWN, offered=whole)
    refuse(["own"], "", learned="xyz", task=OWN, offered=whole)


def test_the_folds_that_shifted_are_named() -> None:
    # Folds that rsbench makes shift when data is added: what was in one is in two now.
    with pytest.raises(
        WeightsError, match=r"on 1 of the 2 items that one tests: .* folds have changed since"
    ):
        refuse(["own:one"], "one", learned="bx", task=OWN)
    refuse(["own:one"], "two", learned="bx", task=OWN)


def test_of_an_older_file_the_ids_in_its_record_are_held_against_its_own_task_alone() -> None:
    with pytest.raises(WeightsError, match=r"learned in two of own on 1 of the 2 items"):
        refuse(["own:two"], "one", ids="bx", task=OWN)
    refuse(["own:two"], "two", ids="bx", task=OWN)
    refuse(["own:two", "else:two"], "one", ids="bx", task=OWN)


def test_a_key_names_content_and_window_and_an_unreadable_item_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "b.bin").write_bytes(b"abc")
    digest_of = Fingerprints(tmp_path / "cache").digest

    def key(name: str, start: float | None = None) -> int | None:
        return item_key(Item(id=name, source=tmp_path / name, start_seconds=start), digest_of)

    # FIPS 180-2, appendix B.1: the sha256 of "abc" begins ba7816bf 8f01cfea.
    assert key("a.bin") == key("b.bin") == 0xBA7816BF8F01CFEA
    assert len({key("a.bin"), key("a.bin", 0.0), key("a.bin", 1.5)}) == 3
    assert key("a.bin", 1.5) == key("b.bin", 1.5)
    assert key("none.bin") is None


# ------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny data sets in the layouts of both tasks."""
    root = tmp_path_factory.mktemp("official")
    for seed, task in enumerate((ucf101.TASK, hmdb51.TASK)):
        (root / task.name).mkdir()
        # Another seed, other clips: what both held would be refused.
        write_motion_segments(root / task.name, layout=task.layouts[0], num_scenes=4, seed=seed)
    return root


def finished(world: Path, protocol: str, *, task: str = "ucf101", **changes: object) -> Finished:
    overrides = {"epochs": "1"} if protocol == "finetune" else {}
    given: dict[str, object] = {
        "task": task,
        "data": world / task,
        "backbone": "tiny_2d",
        "protocol": protocol,
        "results": world / "results",
        "cache_root": world / "cache",
        "pixels": 16,
        "frames": 2,
        "overrides": overrides,
        **changes,
    }
    return run(RunRequest(**given))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tuned(world: Path) -> Path:
    """The record of one network for each of three splits."""
    return finished(world, "finetune").path


def test_each_split_gets_a_head_of_its_own_and_the_mean_of_three_is_the_score(
    world: Path, tuned: Path
) -> None:
    record = finished(world, "finetune").record
    headline = record.metrics[0]

    assert record.ruler["split"] == "test1+test2+test3"
    assert (record.ruler["averaging"], record.data.num_folds) == ("mean", 3)
    assert len(headline.folds) == 3
    assert headline.value == pytest.approx(sum(headline.folds) / 3)
    assert {f"split{n}.num_steps" for n in (1, 2, 3)} <= set(record.protocol.chosen)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_split_s_own_network_scores_there_as_it_did(
    world: Path, tuned: Path, number: int
) -> None:
    fold = f"split{number}"
    again = finished(world, "evaluate", weights=f"{tuned}:{fold}", folds=(fold,)).record
    before = finished(world, "finetune").record

    assert [part.value for part in again.metrics] == [
        part.folds[number - 1] for part in before.metrics
    ]
    assert again.weights.trained_on == (f"ucf101:{fold}",)
    assert again.weights.name.endswith(f".head.safetensors:{fold}")
    assert (again.ruler["split"], again.data.num_folds) == (f"test{number}", 1)


@pytest.mark.parametrize("protocol", ["evaluate", "linear_probe", "finetune"])
@pytest.mark.parametrize("folds", [("split2",), ("split1", "split3"), ()])
def test_a_split_1_head_on_another_split_is_refused(
    world: Path, tuned: Path, protocol: str, folds: tuple[str, ...]
) -> None:
    # Of 32 clips split 1 learns 24, among them all 8 that split 2 and all 8 that split 3 tests.
    other = "split3" if "split3" in folds else "split2"
    with pytest.raises(
        WeightsError, match=rf"learned in split1 of ucf101 on 8 of the 8 items that {other} tests"
    ):
        finished(world, protocol, weights=f"{tuned}:split1", folds=folds)


def test_a_record_of_three_networks_must_be_asked_for_one(world: Path, tuned: Path) -> None:
    with pytest.raises(WeightsError, match=r"one for each of split1, split2, split3: name one"):
        finished(world, "evaluate", weights=str(tuned), folds=("split1",))
    with pytest.raises(WeightsError, match="no network of the fold 'split4': it has split1, spli"):
        finished(world, "evaluate", weights=f"{tuned}:split4")


def test_a_record_of_one_split_needs_no_name_and_is_held_to_its_split(world: Path) -> None:
    one = finished(world, "finetune", folds=("split3",))

    assert (
        finished(world, "evaluate", weights=str(one.path), folds=("split3",))
        .record.metrics[0]
        .value
        == one.record.metrics[0].value
    )
    with pytest.raises(WeightsError, match="learned in split3 of ucf101 on 8 of the 8 items"):
        finished(world, "evaluate", weights=str(one.path), folds=("split1",))


def test_a_network_that_went_on_to_another_task_still_knows_its_first_split(
    world: Path, tuned: Path
) -> None:
    later = finished(world, "finetune", task="hmdb51", weights=f"{tuned}:split1", folds=("split2",))

    assert later.record.weights.trained_on == ("ucf101:split1",)
    with pytest.raises(WeightsError, match="learned in split1 of ucf101"):
        finished(world, "linear_probe", weights=str(later.path), folds=("split2",))
    own = finished(world, "linear_probe", weights=str(later.path), folds=("split1",),
                   overrides={"strengths": "3"})  # fmt: skip
    assert own.record.weights.trained_on == ("ucf101:split1", "hmdb51:split2")


def test_a_fold_of_weights_without_folds_is_refused(world: Path, tuned: Path) -> None:
    plain = world / "plain.safetensors"
    shutil.copy(tuned.with_name(f"{tuned.stem}.head.safetensors"), plain)
    save_file(load_file(plain), plain)

    with pytest.raises(WeightsError, match="leave the fold out"):
        finished(world, "evaluate", weights=f"{plain}:split1")


def test_a_fold_of_a_cross_validation_is_held_to_the_split_its_record_keeps(
    tmp_path: Path,
) -> None:
    (tmp_path / "folder").mkdir()
    write_photograph_crops(tmp_path / "folder", layout="class folders", num_per_class=6, pixels=32)
    tuned = finished(
        tmp_path, "finetune", task="folder", frames=None, folds=("fold2",),
        overrides={"epochs": "1", "batch_size": "4"},
    ).path  # fmt: skip
    split = tuned.with_name(f"{tuned.stem}.split.csv").read_text()

    # All five folds are kept, though one was run: what the others test is what was learned.
    assert {line.split(",")[2] for line in split.splitlines()[1:]} == {
        fold.name for fold in folder.task_for(tmp_path / "folder").folds(tmp_path / "folder")
    }
    again = finished(
        tmp_path, "evaluate", task="folder", frames=None, folds=("fold2",), weights=str(tuned)
    )
    assert again.record.weights.trained_on == ("folder:fold2",)
    with pytest.raises(WeightsError, match="learned in fold2 of folder on"):
        finished(tmp_path, "evaluate", task="folder", frames=None, weights=str(tuned))

    # More pictures shift the folds: what fold2 tests now was in other folds, and was learned.
    for picture in sorted((tmp_path / "folder").rglob("*.png")):
        shutil.copy(picture, picture.with_name(f"again {picture.name}"))
    with pytest.raises(
        WeightsError, match=r"that fold2 tests: .* The data or its folds have chang"
    ):
        finished(
            tmp_path, "evaluate", task="folder", frames=None, folds=("fold2",), weights=str(tuned)
        )


def head_of(record: Path) -> Path:
    return record.with_name(f"{record.stem}.head.safetensors")


@pytest.mark.parametrize("name", ["renamed.safetensors", None], ids=["renamed", "copied"])
def test_a_head_away_from_its_record_still_knows_its_split(
    world: Path, tuned: Path, tmp_path: Path, name: str | None
) -> None:
    copy = tmp_path / (name or head_of(tuned).name)
    shutil.copy(head_of(tuned), copy)

    with pytest.raises(WeightsError, match="learned in split1 of ucf101 on 8 of the 8 items that"):
        finished(world, "evaluate", weights=f"{copy}:split1", folds=("split2",))
    own = finished(world, "evaluate", weights=f"{copy}:split1", folds=("split1",)).record
    assert own.weights.trained_on == ("ucf101:split1",)


def without_history(head: Path, path: Path) -> Path:
    """Write a head as it was written before it kept what was learned."""
    facts = json.loads(shelf.metadata_of(head)[heads.FACTS])
    del facts["history"]
    arrays = {
        name: array
        for name, array in load_file(head).items()
        if not name.startswith("rsbench.learned/")
    }
    save_file(arrays, path, metadata={heads.FACTS: json.dumps(facts)})
    return path


def test_an_older_head_without_its_record_is_refused_where_folds_have_names(
    world: Path, tuned: Path, tmp_path: Path
) -> None:
    older = without_history(head_of(tuned), tmp_path / "older.safetensors")

    for fold in ("split1", "split2"):
        with pytest.raises(WeightsError, match="task that their file does not name, and ucf101 ha"):
            finished(world, "evaluate", weights=f"{older}:split1", folds=(fold,))


def test_an_older_head_beside_its_record_is_held_to_its_split_by_name(
    world: Path, tuned: Path, tmp_path: Path
) -> None:
    older = without_history(head_of(tuned), tmp_path / head_of(tuned).name)
    record = json.loads(tuned.read_text())
    record["files"] = {older.name: digest_file(older)}
    del record["digest"]
    record["digest"] = digest_json(record)
    (tmp_path / tuned.name).write_text(json.dumps(record))

    found = finished(
        world,
        "evaluate",
        weights=f"{older}:split1",
        folds=("split1",),
        results=tmp_path / "results",
    ).record
    assert any("too old to say which items" in note for note in found.weights.notes)
    with pytest.raises(WeightsError, match="learned in split1 of ucf101 on most items that split2"):
        finished(world, "evaluate", weights=f"{older}:split1", folds=("split2",))


def test_lists_that_are_shorter_here_than_where_a_network_learned_change_nothing(
    world: Path, tuned: Path, tmp_path: Path
) -> None:
    # Encoded anew, so that no content is known again; and split 1 trains on none of split 2's.
    data = tmp_path / "ucf101"
    shutil.copytree(world / "ucf101", data)
    tested = next(data.rglob("testlist02.txt")).read_text()
    train = next(data.rglob("trainlist01.txt"))
    lines = train.read_text().splitlines(keepends=True)
    train.write_text("".join(line for line in lines if line.split()[0] not in tested))
    for clip in data.rglob("*.avi"):
        with clip.open("ab") as stream:
            stream.write(b"JUNK\0\0\0\0")

    with pytest.raises(WeightsError, match="learned in split1 of ucf101 on most items that split2"):
        finished(world, "evaluate", data=data, weights=f"{tuned}:split1", folds=("split2",))


def table(data: Path, name: str, files: Iterable[Path], split: Callable[[int], str]) -> Path:
    rows = [f"{file.relative_to(data)},{file.parent.name},{split(i)}\n"
            for i, file in enumerate(files)]  # fmt: skip
    (data / name).write_text("path,label,split\n" + "".join(rows))
    return data / name


def test_the_same_files_under_another_task_s_name_are_refused(
    world: Path, tuned: Path, tmp_path: Path
) -> None:
    data = tmp_path / "ucf101"
    shutil.copytree(world / "ucf101", data)
    own = table(data, "own.csv", sorted(data.rglob("*.avi")), lambda row: "test")

    # Of 32 clips split 1 learns 24.
    with pytest.raises(
        WeightsError, match="on 24 of the 32 items that csv tests, in training on ucf101:split1: "
    ):
        finished(world, "evaluate", task="csv", data=own, weights=f"{tuned}:split1")


def pictures(root: Path, *, seed: int = 0) -> Path:
    """Write 24 pictures in class folders."""
    root.mkdir(parents=True)
    write_photograph_crops(root, layout="class folders", num_per_class=6, pixels=32, seed=seed)
    return root


def tuned_on(world: Path, data: Path, *, folds: tuple[str, ...] = ()) -> str:
    return str(on_own(world, "finetune", data, folds=folds, epochs="1", batch_size="4").path)


def on_own(
    world: Path,
    protocol: str,
    data: Path,
    *,
    weights: str = "none",
    folds: tuple[str, ...] = (),
    **overrides: str,
) -> Finished:
    task = "csv" if data.suffix == ".csv" else "folder"
    return finished(
        world, protocol, task=task, data=data, frames=None, weights=weights, folds=folds,
        overrides=overrides,
    )  # fmt: skip


def test_train_and_test_turned_round_is_refused(tmp_path: Path) -> None:
    data = pictures(tmp_path / "own")
    files = sorted(data.rglob("*.png"))
    one = table(data, "a.csv", files, lambda row: ("train", "test")[row % 2])
    other = table(data, "b.csv", files, lambda row: ("test", "train")[row % 2])
    weights = tuned_on(tmp_path, one)

    on_own(tmp_path, "evaluate", one, weights=weights)
    for name in (weights, str(shutil.copy(head_of(Path(weights)), tmp_path / "n.safetensors"))):
        with pytest.raises(WeightsError, match="on 12 of the 12 items that csv tests"):
            on_own(tmp_path, "evaluate", other, weights=name)


def test_the_pictures_of_a_fold_sorted_into_train_and_test_are_known_again(tmp_path: Path) -> None:
    data = pictures(tmp_path / "own")
    weights = tuned_on(tmp_path, data, folds=("fold2",))
    for row, file in enumerate(sorted(data.rglob("*.png"))):
        place = tmp_path / "sorted" / ("test", "train")[row % 2] / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)

    with pytest.raises(
        WeightsError, match="in fold2 of folder on 10 of the 12 items that folder tests"
    ):
        on_own(tmp_path, "evaluate", tmp_path / "sorted", weights=weights)


@pytest.mark.parametrize("folds", [(), ("fold2",)])
def test_own_data_that_a_network_never_saw_may_be_probed_whatever_it_is_called(
    tmp_path: Path, folds: tuple[str, ...]
) -> None:
    first, second = pictures(tmp_path / "first"), pictures(tmp_path / "second", seed=1)
    ids = {path.relative_to(first) for path in first.rglob("*.png")}
    assert ids == {path.relative_to(second) for path in second.rglob("*.png")}
    if not folds:
        first = table(first, "a.csv", sorted(first.rglob("*.png")),
                      lambda row: ("test", "train")[row % 2])  # fmt: skip
        second = table(second, "b.csv", sorted(second.rglob("*.png")),
                       lambda row: ("train", "test")[row % 2])  # fmt: skip
    weights = tuned_on(tmp_path, first, folds=folds)

    found = on_own(tmp_path, "linear_probe", second, weights=weights, strengths="3").record

    assert found.weights.trained_on == (f"folder:{folds[0]}" if folds else "csv",)


def test_a_file_that_a_data_set_holds_in_train_and_in_test_does_not_stop_its_own_network(
    tmp_path: Path,
) -> None:
    data = pictures(tmp_path / "own")
    files = sorted(data.rglob("*.png"))
    shutil.copy(files[0], files[1])
    one = table(data, "a.csv", files, lambda row: ("train", "test")[row % 2])

    on_own(tmp_path, "evaluate", one, weights=tuned_on(tmp_path, one))


def test_what_could_not_be_read_was_not_learned(tmp_path: Path) -> None:
    data = pictures(tmp_path / "own")
    files = sorted(data.rglob("*.png"))
    for file in files[:4]:
        file.write_bytes(f"no picture: {file}".encode())
    one = table(data, "a.csv", files, lambda row: ("train", "test")[row % 2])
    weights = Path(tuned_on(tmp_path, one))

    history = heads.read_history(head_of(weights), shelf.metadata_of(head_of(weights)), fold="")
    assert history is not None
    # The even rows are train, and of them the first two can't be read.
    readable = [Item(id=file.name, source=file) for file in files[4::2]]
    assert history.learned[""] == item_keys(readable, Fingerprints(tmp_path / "cache").digest)


def test_a_probe_leaves_no_history_and_no_network(tmp_path: Path) -> None:
    data = pictures(tmp_path / "own")
    probe = on_own(tmp_path, "linear_probe", data, folds=("fold2",), strengths="3").path

    assert "history" not in json.loads(shelf.metadata_of(head_of(probe))[heads.FACTS])
    with pytest.raises(WeightsError, match="holds what a protocol fitted on a frozen one"):
        on_own(tmp_path, "evaluate", data, folds=("fold2",), weights=str(probe))


def test_inflated_weights_know_what_they_learned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = find_backbone("resnet_rs_3d_50").spec
    flat = ChosenWeights(
        name="mine",
        input=InputSpec(pixels=8),
        path=tmp_path / "mine",
        fold="fold2",
        trained_on=("csv:fold2",),
        is_history_known=False,
        learned=frozenset({1, 2}),
        learned_ids=frozenset("ab"),
        notes=("a note",),
    )
    with monkeypatch.context() as patch:
        patch.setattr(choosing, "choose_weights", lambda *_, **__: flat)
        found = choosing._to_inflate(backbone, "mine", cache_root=tmp_path)

    for name in ("fold", "trained_on", "is_history_known", "learned", "learned_ids", "notes"):
        assert getattr(found, name) == getattr(flat, name)


def test_a_head_whose_history_is_cut_off_is_one_line(tmp_path: Path) -> None:
    history = heads.History(
        task="toy", version=1, before=(), is_complete=True, learned={"one": {1}}
    )
    (tmp_path / "head").write_bytes(heads.to_bytes({"one": {}}, classes=(), history=history))
    metadata = shelf.metadata_of(tmp_path / "head")

    with pytest.raises(RecordError, match=r"^head must be the safetensors file a run wrote"):
        heads.read_history(tmp_path / "head", metadata, fold="two")


def test_the_command_line_says_it_in_one_line(
    world: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSBENCH_CACHE", str(world / "cache"))
    words = ("run", "--task", "ucf101", "--data", world / "ucf101", "--backbone", "tiny_2d")
    words += ("--protocol", "evaluate", "--pixels", "16", "--frames", "2")
    words += ("--results", world / "results", "--weights", f"{tuned}:split1")

    refused = rsbench(*map(str, words), "--folds", "split2,split1")
    unknown = rsbench(*map(str, words), "--folds", "split9")
    fine = rsbench(*map(str, words), "--folds", "split1", "--json")

    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "its score would be no measure. Run --folds split1" in refused.err
    assert "has no fold 'split9'; it has split1, split2, split3" in unknown.err
    assert fine.code == 0
    assert '"n_official": 8,' in fine.out
