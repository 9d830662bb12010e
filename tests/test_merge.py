"""Results folders of several machines become one: nothing is overwritten, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import contents_of, rsbench
from records_factory import make_predictions, make_record, save_record, some_hits

from rsbench.digests import digest_bytes
from rsbench.errors import DiskError, RsbenchError
from rsbench.records import foreign, store
from rsbench.records.foreign import ForeignFile, ForeignRow
from rsbench.records.merging import Merged, differing_fields, merge
from rsbench.records.schema import to_json
from rsbench.tables import build

HITS = some_hits(80)


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: seeds 0 and 1 on the one machine, 2 and 3 on the other."""
    for number, seed in enumerate((0, 1, 2, 3)):
        machine = tmp_path / ("one" if number < 2 else "two")
        save_record(machine, some_hits(70 + seed), seed=seed)
    return tmp_path / "one", tmp_path / "two"


def only(results: tuple[Merged, ...]) -> Merged:
    (merged,) = results
    return merged


def records_in(folder: Path) -> dict[str, bytes | None]:
    return {name: content for name, content in contents_of(folder).items() if content is not None}


# ---------------------------------------------------------------------------- what is copied


def test_folders_become_one_to_the_last_byte(tmp_path: Path, machines: tuple[Path, Path]) -> None:
    into = tmp_path / "all"
    first, second = merge(machines, into)

    assert (len(first.copied), len(second.copied)) == (2, 2)
    assert first.is_whole
    assert second.is_whole
    assert records_in(into) == records_in(machines[0]) | records_in(machines[1])
    # The table has the four seeds in one row.
    assert build(store.read_all(into)).tables[0].rows[0].seeds == (0, 1, 2, 3)


def test_merging_again_copies_nothing(tmp_path: Path, machines: tuple[Path, Path]) -> None:
    merge(machines, tmp_path / "all")
    before = contents_of(tmp_path / "all")
    first, second = merge(machines, tmp_path / "all")

    assert (first.copied, second.copied) == ((), ())
    assert len(first.present) == len(second.present) == 2
    assert contents_of(tmp_path / "all") == before


def test_the_order_of_the_machines_does_not_matter(
    tmp_path: Path, machines: tuple[Path, Path]
) -> None:
    merge(machines, tmp_path / "all")
    merge(machines[::-1], tmp_path / "other")

    assert contents_of(tmp_path / "all") == contents_of(tmp_path / "other")


def test_sources_are_only_read(tmp_path: Path, machines: tuple[Path, Path]) -> None:
    before = [contents_of(machine) for machine in machines]
    merge(machines, tmp_path / "all")

    assert [contents_of(machine) for machine in machines] == before


def test_scores_of_single_views_come_along_where_they_are(tmp_path: Path) -> None:
    files = {store.PREDICTIONS_SUFFIX: make_predictions(HITS), store.VIEWS_SUFFIX: b"views"}
    with_views = store.write(tmp_path / "one", make_record(), files)
    without = store.write(tmp_path / "one", make_record(seed=1), files)
    without.with_name(f"{without.stem}.{store.VIEWS_SUFFIX}").unlink()
    merged = only(merge([tmp_path / "one"], tmp_path / "all"))

    assert len(merged.copied) == 2
    assert merged.is_whole
    assert records_in(tmp_path / "all") == records_in(tmp_path / "one")
    copied = {path.name for path in (tmp_path / "all").rglob(f"*.{store.VIEWS_SUFFIX}")}
    assert copied == {f"{with_views.stem}.{store.VIEWS_SUFFIX}"}


@pytest.mark.parametrize("suffix", [store.VIEWS_SUFFIX, store.PREDICTIONS_SUFFIX])
def test_what_is_missing_beside_a_record_that_is_there_is_copied(
    tmp_path: Path, suffix: str
) -> None:
    files = {store.PREDICTIONS_SUFFIX: make_predictions(HITS), store.VIEWS_SUFFIX: b"views"}
    path = store.write(tmp_path / "one", make_record(), files)
    merge([tmp_path / "one"], tmp_path / "all")
    (lost,) = (tmp_path / "all").rglob(f"*.{suffix}")
    lost.unlink()
    foretold = only(merge([tmp_path / "one"], tmp_path / "all", dry_run=True))
    assert not lost.exists()
    merged = only(merge([tmp_path / "one"], tmp_path / "all"))

    assert merged == foretold
    assert merged.is_whole
    assert len(merged.present) == 1
    assert merged.copied == (f"{path.parent.relative_to(tmp_path / 'one').as_posix()}/{lost.name}",)
    assert records_in(tmp_path / "all") == records_in(tmp_path / "one")


def test_a_record_that_is_there_and_was_damaged_is_no_reason_to_remove_the_source(
    tmp_path: Path,
) -> None:
    save_record(tmp_path / "one", HITS)
    merge([tmp_path / "one"], tmp_path / "all")
    (damaged,) = (tmp_path / "all").rglob(f"*.{store.PREDICTIONS_SUFFIX}")
    damaged.write_bytes(b"other")
    merged = only(merge([tmp_path / "one"], tmp_path / "all"))

    assert not merged.is_whole
    assert "not whole: remove it, and merge again" in merged.problems[0]
    assert damaged.read_bytes() == b"other"


def test_a_record_that_was_written_while_another_was_merged_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_record(tmp_path / "one", some_hits(81), key="e" * 64)
    real = store.adopt

    def late(root: Path, stored: store.Stored) -> Path:
        save_record(tmp_path / "all", some_hits(80), key="e" * 64)
        return real(root, stored)

    monkeypatch.setattr(store, "adopt", late)
    merged = only(merge([tmp_path / "one"], tmp_path / "all"))

    assert "another process has just written" in merged.problems[0]
    (kept,) = store.read_all(tmp_path / "all").records
    assert kept.record.metrics[0].value == 0.5
    assert len(merge([tmp_path / "one"], tmp_path / "all")[0].conflicts) == 1


def test_a_record_whose_name_is_taken_by_another_has_a_longer_one(tmp_path: Path) -> None:
    keys = ["e" * 8 + "0" * 56, "e" * 8 + "1" * 56]
    for machine, key in zip(("one", "two"), keys, strict=True):
        save_record(tmp_path / machine, HITS, key=key)
    first, second = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    contents = store.read_all(tmp_path / "all")

    assert first.is_whole
    assert second.is_whole
    assert {stored.record.key for stored in contents.records} == set(keys)
    for stored in contents.records:
        assert store.read_predictions(stored.path).ids
    # It is known again.
    assert len(merge([tmp_path / "two"], tmp_path / "all")[0].twins) == 1


# ---------------------------------------------------------------------------- conflicts


def test_two_records_of_one_run_that_differ_are_a_conflict_and_stay(tmp_path: Path) -> None:
    here = save_record(tmp_path / "one", some_hits(81), key="e" * 64)
    there = save_record(tmp_path / "all", some_hits(80), key="e" * 64)
    before = contents_of(tmp_path / "all")
    merged = only(merge([tmp_path / "one"], tmp_path / "all"))

    assert contents_of(tmp_path / "all") == before
    assert not merged.is_whole
    (conflict,) = merged.conflicts
    assert (conflict.source, conflict.target) == (here, there)
    # By hand: 80 and 81 of 160.
    assert conflict.fields[0] == ("metrics.top1", 0.5, 0.50625)


def test_equal_metrics_of_other_predictions_are_a_conflict(tmp_path: Path) -> None:
    save_record(tmp_path / "one", some_hits(80, seed=1), key="e" * 64)
    save_record(tmp_path / "all", some_hits(80, seed=2), key="e" * 64)

    assert len(only(merge([tmp_path / "one"], tmp_path / "all")).conflicts) == 1


def test_a_run_made_twice_with_the_same_outcome_is_a_twin(tmp_path: Path) -> None:
    save_record(tmp_path / "one", HITS, created="2026-02-02T00:00:00+00:00")
    there = save_record(tmp_path / "all", HITS, cost={"seconds_total": 99.0})
    before = there.read_bytes()
    merged = only(merge([tmp_path / "one"], tmp_path / "all"))

    assert (len(merged.twins), merged.copied, merged.conflicts) == (1, (), ())
    assert merged.is_whole
    assert there.read_bytes() == before


def test_the_first_of_two_sources_that_conflict_goes_in(tmp_path: Path) -> None:
    first = save_record(tmp_path / "one", some_hits(81), key="e" * 64)
    save_record(tmp_path / "two", some_hits(80), key="e" * 64)
    one, two = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")

    assert (len(one.copied), len(two.conflicts)) == (1, 1)
    assert two.conflicts[0].target.read_bytes() == first.read_bytes()


def test_fields_that_differ_are_named_metrics_first() -> None:
    first = make_record(hits=HITS, cost={"seconds_total": 1.0, "views": 2})
    second = replace(
        make_record(hits=some_hits(81), cost={"seconds_total": 2.0}),
        environment={**first.environment, "device": "cuda"},
        selection=({"strength": 1.0},),
    )
    fields = [each.field for each in differing_fields(first, second)]

    assert fields[0] == "metrics.top1"
    assert set(fields) == {
        *("metrics", "metrics.top1", "selection", "cost.seconds_total", "cost.views"),
        "environment.device",
    }
    assert differing_fields(first, first) == ()


# ---------------------------------------------------------------------------- what can't be


def test_what_is_broken_is_named_and_the_rest_is_merged(
    tmp_path: Path, machines: tuple[Path, Path]
) -> None:
    whole, broken = sorted((machines[0] / "runs").rglob("*.json"))
    torn = save_record(machines[0], HITS, seed=7)
    torn.write_text("{")
    next(broken.parent.glob(f"{broken.stem}.*parquet")).write_bytes(b"other")
    merged = only(merge([machines[0]], tmp_path / "all"))

    assert merged.copied == (whole.relative_to(machines[0]).as_posix(),)
    assert not merged.is_whole
    assert len(merged.problems) == 2
    assert any(torn.name in problem and "cut short" in problem for problem in merged.problems)
    assert any("was changed" in problem for problem in merged.problems)
    assert len(list((tmp_path / "all").rglob("*.parquet"))) == 1


def test_a_record_can_not_bring_a_file_from_elsewhere(tmp_path: Path) -> None:
    path = save_record(tmp_path / "one", HITS)
    (tmp_path / "secret").write_bytes(b"secret")
    # The last one lies beside it, and would take another record's place.
    path.with_name("another.parquet").write_bytes(b"secret")
    for name in ("../../../../secret", "secret", f"{path.stem}.json", "another.parquet"):
        record = make_record(files={name: digest_bytes(b"secret")})
        path.write_text(to_json(record))
        merged = only(merge([tmp_path / "one"], tmp_path / "all"))
        assert merged.copied == ()
        assert len(merged.problems) == 1, name
    assert not list((tmp_path / "all").rglob("*.*"))


def test_a_disk_that_refuses_leaves_whole_records(
    tmp_path: Path, machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    real = os.fsync

    def refuse(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(28, os.strerror(28))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match="free some space"):
        merge(machines, tmp_path / "all")
    monkeypatch.undo()
    contents = store.read_all(tmp_path / "all")

    assert len(contents.records) == 1
    assert contents.problems == ()
    assert not list((tmp_path / "all").rglob(".*.tmp"))
    assert all(merged.is_whole for merged in merge(machines, tmp_path / "all"))
    assert len(store.read_all(tmp_path / "all").records) == 4


def test_what_is_no_results_folder_is_refused(tmp_path: Path, machines: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()
    for source, said in (
        (tmp_path / "nowhere", "No results folder"),
        (tmp_path / "empty", "must be a results folder"),
        (machines[0] / "." / "..", "must be a results folder"),
    ):
        with pytest.raises(RsbenchError, match=said):
            merge([machines[0], source], tmp_path / "all")
    with pytest.raises(RsbenchError, match="into itself"):
        merge([machines[0]], machines[1] / ".." / "one")
    # Nothing of the good source was copied before the other was looked at.
    assert not (tmp_path / "all").exists()


# ---------------------------------------------------------------------------- other files


def foreign_row(value: float) -> ForeignRow:
    return ForeignRow(
        source="somebody's results file",
        tool="timm",
        model="resnet50",
        backbone=None,
        weights=None,
        task="imagenet1k",
        split="val",
        protocol="evaluate",
        metric="top1",
        value=value,
    )


def test_rows_of_others_and_costs_merge_by_their_bytes(tmp_path: Path) -> None:
    for machine, values in (("one", (0.8, 0.7)), ("two", (0.8, 0.6))):
        for value in values:
            rows = ForeignFile(tool="timm", source="results.csv", rows=(foreign_row(value),))
            foreign.write(tmp_path / machine, rows, stem="results", predictions=b"parquet")
        (tmp_path / machine / "profile").mkdir()
        for name, content in (("same.json", "1"), (f"{machine}.json", "2"), ("x.json", machine)):
            (tmp_path / machine / "profile" / name).write_text(content)
        (tmp_path / machine / "profile" / "README.md").write_text("drawn")
        (tmp_path / machine / "profile" / ".hidden.json").write_text("hidden")
    one, two = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")

    assert one.is_whole
    assert (len(one.copied), len(two.copied), len(two.present)) == (4 + 3, 2 + 1, 2 + 1)
    (conflict,) = two.conflicts
    assert conflict.target == tmp_path / "all" / "profile" / "x.json"
    assert conflict.target.read_text() == "one"
    assert len(foreign.read_all(tmp_path / "all").files) == 3
    assert foreign.read_all(tmp_path / "all").problems == ()
    names = {path.name for path in (tmp_path / "all" / "profile").iterdir()}
    assert names == {"same.json", "one.json", "two.json", "x.json"}


# ---------------------------------------------------------------------------- the command line


def test_a_dry_run_foretells_all_and_copies_nothing(tmp_path: Path) -> None:
    save_record(tmp_path / "one", some_hits(81), key="e" * 64)
    save_record(tmp_path / "two", some_hits(80), key="e" * 64)
    for machine in ("one", "two"):
        save_record(tmp_path / machine, HITS, seed=3)
        (tmp_path / machine / "profile").mkdir()
        (tmp_path / machine / "profile" / "x.json").write_text(machine)
    broken = save_record(tmp_path / "two", HITS, seed=4)
    next(broken.parent.glob(f"{broken.stem}.*parquet")).unlink()
    sources = (tmp_path / "one", tmp_path / "two")
    foretold = merge(sources, tmp_path / "all", dry_run=True)
    assert not (tmp_path / "all").exists()
    done = merge(sources, tmp_path / "all")

    assert not done[1].is_whole
    for before, after in zip(foretold, done, strict=True):
        assert replace(before, conflicts=()) == replace(after, conflicts=())
        assert [each.fields for each in before.conflicts] == [
            each.fields for each in after.conflicts
        ]


def test_the_command_says_what_it_did(tmp_path: Path, machines: tuple[Path, Path]) -> None:
    shutil.copytree(machines[0], tmp_path / "all")
    answer = rsbench("merge", *machines, "--into", tmp_path / "all")

    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.splitlines() == [
        f"{machines[0]}: 0 copied, 2 there already",
        f"{machines[1]}: 2 copied, 0 there already",
        f"`rsbench table {tmp_path / 'all'} --write` draws {tmp_path / 'all'}/README.md anew.",
    ]


def test_a_conflict_is_named_and_ends_with_1(tmp_path: Path) -> None:
    here = save_record(tmp_path / "one", some_hits(81), key="e" * 64)
    there = save_record(tmp_path / "all", some_hits(80), key="e" * 64)
    answer = rsbench("merge", tmp_path / "one", "--into", tmp_path / "all")
    printed = json.loads(
        rsbench("merge", tmp_path / "one", "--into", tmp_path / "all", "--json").out
    )

    assert answer.code == 1
    assert answer.out == f"{tmp_path / 'one'}: 0 copied, 0 there already, 1 conflict\n"
    assert answer.err.startswith(f"rsbench: conflict: {here} is not what {there} is (metrics.top1")
    assert "0.5 there, 0.50625 here" in answer.err
    assert answer.err.count("\n") == 1
    assert printed["whole"] is False
    (conflict,) = printed["from"][0]["conflicts"]
    assert conflict["fields"][0] == {"field": "metrics.top1", "target": 0.5, "source": 0.50625}


def test_words_from_records_are_no_escape_codes_on_the_screen(tmp_path: Path) -> None:
    evil = "\x1b[2J\u202egood"
    save_record(tmp_path / "one", some_hits(81), key="e" * 64, environment={evil: evil})
    save_record(tmp_path / "all", some_hits(80), key="e" * 64)
    (tmp_path / "one" / "runs" / f"{evil}.json").write_text("{")
    answer = rsbench("merge", tmp_path / "one", "--into", tmp_path / "all")
    shown = answer.out + answer.err

    assert "good" in answer.err
    assert len(answer.err.splitlines()) == 2
    assert "\x1b" not in shown
    assert "\u202e" not in shown
