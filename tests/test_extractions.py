"""The index of the feature cache, its limit, and what is collected as garbage."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import NUM_TEST, NUM_TRAIN, QUICK, TINY, rsbench, write_pictures
from small_world import (
    PIXELS,
    Quarters,
    broken_item,
    image_reading,
    model,
    pictures,
    settings,
)

from rsbench.atomic import write_atomically
from rsbench.data import assembling, computing, extractions, keeping, shards
from rsbench.data.extractions import Entry, bytes_in_use, collect_garbage, contents, note
from rsbench.data.features import Extracted, extract
from rsbench.data.rows import ShardRows
from rsbench.data.shards import ShardStore
from rsbench.errors import DiskError, RsbenchError
from rsbench.media.image import write_image
from rsbench.records import store
from rsbench.specs import Extraction, Item, Output

DAY = 86400.0

SHORT = {
    "linear_probe_dino": ("augment=false", "epochs=1", "epoch_iterations=3"),
    "attentive_probe": ("epochs=1", "num_heads=4"),
}
"""Changes that make protocols short, and let them read what is cached."""


def run(tmp_path: Path, *, task: str = "pictures", num: int = 12, **changes: Any) -> Extracted:
    """Extract a dozen pictures into shards of four for a task; other seeds are other pictures."""
    seed = changes.pop("seed", 0)
    network = changes.pop("network", Quarters())
    rows = changes.pop("rows", None)
    made_for = {"task": task, "backbone": changes.pop("backbone", "quarters"), "weights": "none"}
    machine = settings(tmp_path, batch_size=4, cached_for=made_for, **changes)
    items = pictures(num, seed=seed)[0]
    return extract(model(network), items, image_reading(), machine, output="features", rows=rows)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_of(cache: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in (cache / "shards").rglob("*.safetensors")}


def grow_old(cache: Path, days: float) -> None:
    """Set all that is there back in time."""
    for path in cache.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - days * DAY
            os.utime(path, (then, then))


# ---------------------------------------------------------------------------- what is listed


def test_an_extraction_is_listed_with_whose_it_is_and_the_bytes_on_disk(
    tmp_path: Path, cache: Path
) -> None:
    run(tmp_path, num=10)

    found = contents(cache)
    (kept,) = found.kept
    assert kept.entry.made_for == {"task": "pictures", "backbone": "quarters", "weights": "none"}
    assert (kept.entry.output, kept.entry.num_items) == ("features", 10)
    assert kept.entry.reading["pixels"] == PIXELS
    assert kept.num_shards == 3
    assert kept.is_whole
    assert kept.num_bytes == found.num_bytes == bytes_in_use(cache) == sum(files_of(cache).values())
    assert abs(kept.used - time.time()) < 60


def test_folds_of_a_pool_are_one_extraction(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, rows=[0, 1])
    run(tmp_path, rows=[9])

    (kept,) = contents(cache).kept
    assert set(kept.entry.shards) == {"0", "2"}
    assert set(kept.entry.shards.values()) == set(files_of(cache))


def test_the_last_used_comes_first(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, task="early")
    grow_old(cache, 3)
    run(tmp_path, task="late", seed=1)
    grow_old(cache, 2)
    order = [each.entry.made_for["task"] for each in contents(cache).kept]
    run(tmp_path, task="early")

    assert order == ["late", "early"]
    assert [each.entry.made_for["task"] for each in contents(cache).kept] == ["early", "late"]


def test_what_two_tasks_share_counts_for_both_and_once_in_all(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, task="one")
    run(tmp_path, task="other")

    found = contents(cache)
    assert [each.num_bytes for each in found.kept] == [found.num_bytes] * 2


def test_a_killed_extraction_is_listed_with_the_shards_it_left(tmp_path: Path, cache: Path) -> None:
    class Doomed(Quarters):
        def forward(self, batch):
            if self.num_views_seen == 8:
                raise KeyboardInterrupt
            return super().forward(batch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, network=Doomed())

    (kept,) = contents(cache).kept
    assert (kept.num_shards, len(kept.entry.shards), kept.is_whole) == (2, 3, False)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"{}",
        b'{"made_for": 3}',
        b'{"shards": {"0"',
        b"[" * 100_000,
        {"shards": {"0": ["x"]}},
        {"shards": {"0": 7}},
        {"shards": ["x"]},
        {"made_for": {"task": ["x"]}},
        {"made_for": {"task": None}},
        {"reading": None},
        {"output": {}},
        {"precision": 1},
        {"num_items": "12"},
        {"another": 1},
    ],
    ids=lambda damage: str(damage)[:24],
)
def test_a_damaged_index_costs_the_name_and_no_feature(
    tmp_path: Path, cache: Path, damage: bytes | dict[str, object]
) -> None:
    before = run(tmp_path)
    (index,) = (cache / "extractions").glob("*.json")
    if isinstance(damage, dict):
        damage = json.dumps({**json.loads(index.read_bytes()), **damage}).encode()
    index.write_bytes(damage)
    listed = contents(cache)
    assert rsbench("cache", "ls").code == rsbench("cache", "gc", "--json").code == 0
    network = Quarters()
    after = run(tmp_path, network=network)

    assert (listed.kept, listed.num_orphans) == ((), 3)
    assert network.num_views_seen == 0
    np.testing.assert_array_equal(before.values, after.values)
    assert contents(cache).kept[0].is_whole


# ---------------------------------------------------------------------------- garbage


def test_without_words_only_what_no_run_can_use_is_removed(tmp_path: Path, cache: Path) -> None:
    items = []
    for item in pictures(8)[0]:
        write_image(tmp_path / f"{item.id}.png", item.source)  # type: ignore[arg-type]
        items.append(Item(id=item.id, source=tmp_path / f"{item.id}.png"))

    def look() -> None:
        machine = settings(tmp_path, batch_size=4)
        extract(model(), items, image_reading(), machine, output="features")

    look()
    old = files_of(cache)
    write_image(tmp_path / f"{items[6].id}.png", np.zeros((PIXELS, PIXELS, 3), np.uint8))
    look()
    young = collect_garbage(cache, dry_run=True)
    grow_old(cache, 1)
    removed = collect_garbage(cache)

    stale = [key for key in old if key not in files_of(cache)]
    assert young.num_shards == 0  # it may be a run's that is about to name it
    assert (removed.num_shards, removed.extractions) == (1, ())
    assert removed.num_bytes == old[stale[0]]
    assert len(files_of(cache)) == 2
    assert contents(cache).kept[0].is_whole


def test_what_another_process_removes_meanwhile_is_left_out(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, task="one")
    run(tmp_path, task="other")
    read = extractions._read

    def read_then_lose(path: Path) -> Entry | None:
        entry = read(path)
        if entry is not None and entry.made_for["task"] == "one":
            path.unlink()
        return entry

    monkeypatch.setattr(extractions, "_read", read_then_lose)

    assert [each.entry.made_for["task"] for each in contents(cache).kept] == ["other"]


def test_an_extraction_that_has_just_begun_keeps_its_name(tmp_path: Path, cache: Path) -> None:
    class Watched(Quarters):
        def forward(self, batch):
            collect_garbage(cache)
            return super().forward(batch)

    run(tmp_path, network=Watched())
    begun = contents(cache).kept
    for path in (cache / "shards").rglob("*.safetensors"):
        path.unlink()
    young = collect_garbage(cache)
    grow_old(cache, 1)
    old = collect_garbage(cache)

    assert [(each.num_shards, each.is_whole) for each in begun] == [(3, True)]
    assert (len(young.extractions), len(old.extractions)) == (0, 1)


def _note_in_turn(cache: Path, first: int, barrier: Any) -> None:
    """Note 40 shards of one extraction, one at a time; those of others lie between."""
    barrier.wait()
    for number in range(first, 120, 3):
        entry = Entry(
            made_for={"task": "t"},
            output="features",
            reading={},
            precision="float32",
            num_items=1,
            shards={str(number): f"key{number}"},
        )
        note(cache, entry, name=("same",))


def test_processes_that_note_one_extraction_at_once_lose_no_name(cache: Path) -> None:
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    processes = [
        fork.Process(target=_note_in_turn, args=(cache, first, barrier)) for first in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    (kept,) = contents(cache).kept
    assert kept.entry.shards == {str(number): f"key{number}" for number in range(120)}


def _extract_as_process(tmp_path: Path, rows: list[int], barrier: Any) -> None:
    computing.VIEWS_PER_SHARD = 4
    torch.set_num_threads(1)
    barrier.wait()
    run(tmp_path, num=96, rows=rows)


def test_processes_that_fill_one_cache_during_gc_leave_it_whole(
    tmp_path: Path, cache: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = run(tmp_path / "alone", num=96)
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    # Half of the shards are wanted by both.
    wanted = [list(range(72)), list(range(24, 96))]
    processes = [
        fork.Process(target=_extract_as_process, args=(tmp_path, rows, barrier)) for rows in wanted
    ]
    for process in processes:
        process.start()
    barrier.wait()
    while any(process.is_alive() for process in processes):
        collect_garbage(cache)
        contents(cache)
    network = Quarters()
    try:
        found = run(tmp_path, num=96, network=network)
    finally:
        torch.set_num_threads(threads)

    assert [process.exitcode for process in processes] == [0, 0]
    assert network.num_views_seen == 0
    np.testing.assert_array_equal(found.values, expected.values)
    (kept,) = contents(cache).kept
    assert (kept.num_shards, kept.is_whole, contents(cache).num_orphans) == (24, True, 0)


def test_the_longest_unused_go_until_the_rest_fits(tmp_path: Path, cache: Path) -> None:
    for number, task in enumerate("abc"):
        run(tmp_path, task=task, seed=number)
        grow_old(cache, 1)
    each = contents(cache).num_bytes // 3
    removed = collect_garbage(cache, most_bytes=each + 10)

    assert [gone.entry.made_for["task"] for gone in removed.extractions] == ["a", "b"]
    assert [kept.entry.made_for["task"] for kept in contents(cache).kept] == ["c"]
    assert removed.left_bytes == bytes_in_use(cache) == each


def test_a_shard_stays_while_one_extraction_needs_it(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, task="one")
    run(tmp_path, task="other")
    removed = collect_garbage(cache, task="one")

    assert (len(removed.extractions), removed.num_shards) == (1, 0)
    assert contents(cache).kept[0].is_whole
    assert collect_garbage(cache, task="other").num_shards == 3


def test_days_tasks_and_backbones_narrow_what_goes(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, task="old", backbone="x")
    grow_old(cache, 10)
    run(tmp_path, task="old", backbone="y", seed=1)
    run(tmp_path, task="new", backbone="x", seed=2)

    def gone(**words: Any) -> set[tuple[str, str]]:
        removed = collect_garbage(cache, dry_run=True, **words)
        return {
            (e.entry.made_for["task"], e.entry.made_for["backbone"]) for e in removed.extractions
        }

    assert gone() == set()
    assert gone(unused_days=5) == {("old", "x")}
    assert gone(task="old") == {("old", "x"), ("old", "y")}
    assert gone(task="old", backbone="y") == {("old", "y")}
    assert gone(task="new", unused_days=5) == set()
    assert gone(most_bytes=0) == {("old", "x"), ("old", "y"), ("new", "x")}
    assert len(contents(cache).kept) == 3


def test_what_was_removed_is_computed_again_to_the_same_bits(tmp_path: Path, cache: Path) -> None:
    before = run(tmp_path)
    collect_garbage(cache, most_bytes=0)
    network = Quarters()
    after = run(tmp_path, network=network)

    assert network.num_views_seen == 12
    np.testing.assert_array_equal(before.values, after.values)


def test_a_folder_that_may_not_be_changed_is_one_line(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DiskError, match="Permission denied"):
        collect_garbage(cache, most_bytes=0)


# ---------------------------------------------------------------------------- the limit


@pytest.mark.parametrize(("limit", "num_kept"), [(0, 0), (1100, 2), (1400, 2), (10**6, 3)])
def test_beyond_the_limit_outputs_are_handed_on_without_being_kept(
    tmp_path: Path, cache: Path, limit: int, num_kept: int
) -> None:
    expected = run(tmp_path / "without limit")
    size = max(files_of(tmp_path / "without limit" / "cache").values())
    assert 2 * size < 1100 < 1400 < 3 * size - 50
    lines: list[str] = []
    taken: list[np.ndarray] = []
    found = run(tmp_path, cache_limit_bytes=limit, say=lines.append)
    extract(
        model(),
        pictures(12)[0],
        image_reading(),
        settings(tmp_path, batch_size=4, cache_limit_bytes=limit),
        output="features",
        take=lambda places, outputs: taken.append(outputs),
    )

    np.testing.assert_array_equal(found.values, expected.values)
    assert sum(len(each) for each in taken) == 12
    assert len(files_of(cache)) == num_kept
    assert bytes_in_use(cache) <= limit
    assert bool(lines) == (num_kept < 3)
    # Where nothing may be kept at all, there is no room to be made.
    assert all(("rsbench cache gc makes room" in line) == (limit > 0) for line in lines)
    assert all(line.startswith("--cache-limit 0 keeps no features") for line in lines if not limit)


def test_what_others_keep_counts_towards_the_limit(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, task="first")
    full = bytes_in_use(cache)
    run(tmp_path, task="second", seed=1, cache_limit_bytes=full)

    assert bytes_in_use(cache) == full
    assert [each.entry.made_for["task"] for each in contents(cache).kept] == ["first"]


def test_what_another_run_keeps_meanwhile_counts_towards_the_limit(
    tmp_path: Path, cache: Path
) -> None:
    run(tmp_path / "alone")
    size = max(files_of(tmp_path / "alone" / "cache").values())
    limit = 3 * size + 50
    others: list[Extracted] = []

    def progress(stage: str, num_done: int, num_all: int) -> None:
        # Two of three shards are there, or are about to be.
        if num_done == 8 and not others:
            others.append(run(tmp_path, task="other", seed=1, cache_limit_bytes=limit))

    run(tmp_path, cache_limit_bytes=limit, progress=progress)

    assert others
    assert len(files_of(cache)) == 3
    assert bytes_in_use(cache) <= limit


@pytest.mark.parametrize("output", ["features", "tokens"])
@pytest.mark.parametrize("limit", [0, 1200, 10**6])
def test_large_outputs_are_held_as_far_as_memory_may_and_never_written_beside_the_limit(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, limit: int, output: Output
) -> None:
    def look(folder: Path, **changes: Any) -> Extracted:
        machine = settings(folder, batch_size=4, **changes)
        return extract(model(), pictures(12)[0], image_reading(), machine, output=output)

    # Of (12, 1, 12) or (12, 1, 1, 12) float32, 576 bytes, two shards of three may be held.
    monkeypatch.setattr(assembling, "LARGEST_IN_MEMORY_BYTES", 400)
    expected = np.asarray(look(tmp_path / "without limit").values)
    written = 0

    def count(path: Path, content: bytes) -> None:
        nonlocal written
        written += len(content) if path.suffix == ".safetensors" else 0
        write_atomically(path, content)

    monkeypatch.setattr(shards, "write_atomically", count)
    if limit == 0:
        with pytest.raises(RsbenchError, match="raise --cache-limit") as caught:
            look(tmp_path, cache_limit_bytes=limit)
        assert "\n" not in str(caught.value)
    else:
        found = look(tmp_path, cache_limit_bytes=limit)
        assert isinstance(found.values, ShardRows)
        np.testing.assert_array_equal(found.values, expected)
    assert written == bytes_in_use(cache) <= limit
    assert set(cache.rglob("*.safetensors")) == {
        path for path in (cache / "shards").rglob("*") if path.is_file()
    }


def test_a_dry_run_says_what_a_limit_would_refuse(
    here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", *QUICK, "--data", "data", "--cache-limit", "0")
    small = " ".join(rsbench(*words, "--dry-run").out.split())
    monkeypatch.setattr(assembling, "LARGEST_IN_MEMORY_BYTES", 100)
    large = " ".join(rsbench(*words, "--dry-run").out.split())
    answer = rsbench(*words)

    said = "computes it again; refused if more than 100 B of it is learned from at once"
    assert [said in each for each in (small, large)] == [False, True]
    assert answer.code == 2
    assert "of the outputs that are learned from may lie outside the feature cache" in answer.err


def test_what_the_disk_can_not_hold_is_refused_after_the_first_shard(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping.shutil, "disk_usage", lambda path: SimpleNamespace(free=575))
    network = Quarters()
    # Twelve items of 12 floats.
    with pytest.raises(DiskError, match="must have room for 576 bytes of outputs and has 575"):
        run(tmp_path, network=network)
    assert network.num_views_seen == 4
    assert bytes_in_use(cache) == 0
    # What is not to be kept needs no room.
    run(tmp_path, cache_limit_bytes=0)


@pytest.mark.parametrize("protocol", ["linear_probe_dino", "attentive_probe", "linear_probe"])
def test_scores_do_not_depend_on_whether_outputs_are_in_memory(
    here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    changes = [word for change in SHORT.get(protocol, ()) for word in ("--set", change)]
    words = ("run", *TINY, "--data", "data", "--protocol", protocol, *changes)
    first = rsbench(*words, "--results", "in memory")
    before = files_of(cache)
    monkeypatch.setattr(assembling, "LARGEST_IN_MEMORY_BYTES", 100)
    second = rsbench(*words, "--results", "by row")

    assert (first.code, second.code) == (0, 0), second.err
    assert files_of(cache) == before
    (one,) = store.read_all(here / "in memory").records
    (other,) = store.read_all(here / "by row").records
    assert one.record.files == other.record.files
    assert one.record.metrics == other.record.metrics


# ---------------------------------------------------------------------------- what it took


def test_views_computed_and_cached_are_counted(tmp_path: Path) -> None:
    told: list[Extraction] = []
    items = [*pictures(9)[0], broken_item()]
    machine = settings(tmp_path, batch_size=6, extracted=told.append)
    reading = image_reading(crops=3)
    extract(model(), items, reading, machine, output="features", rows=[0])
    for _ in range(2):
        extract(model(), items, reading, machine, output="features")

    # Two items of three views share a shard.
    counted = [(each.views_computed, each.views_cached) for each in told]
    assert counted == [(2 * 3, 0), (7 * 3, 2 * 3), (0, 9 * 3)]
    assert all(0 <= each.seconds_waited <= each.seconds for each in told)
    assert told[2].seconds < 0.01 < told[1].seconds + 0.01


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_shard_that_was_tampered_with_is_told_and_rebuilt(
    tmp_path: Path, cache: Path, how: str
) -> None:
    before = run(tmp_path)
    path = sorted((cache / "shards").rglob("*.safetensors"))[1]
    whole = path.read_bytes()
    damaged = whole[:-9] if how == "cut" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    path.write_bytes(damaged)
    lines: list[str] = []
    network = Quarters()
    after = run(tmp_path, network=network, say=lines.append)

    assert network.num_views_seen == 4
    np.testing.assert_array_equal(before.values, after.values)
    assert ShardStore(cache / "shards").load(path.stem) is not None
    (line,) = lines
    assert line.startswith("1 shard of the feature cache is not as written")
    assert str(path) in line


# ---------------------------------------------------------------------------- the command line


def test_the_cache_is_listed_and_cleared_from_the_command_line(tmp_path: Path, cache: Path) -> None:
    empty = rsbench("cache", "ls")
    run(tmp_path, task="one")
    run(tmp_path, task="other", seed=1)
    listed = rsbench("cache", "ls")
    foretold = rsbench("cache", "gc", "--task", "one", "--dry-run")
    still = len(files_of(cache))
    removed = json.loads(rsbench("cache", "gc", "--task", "one", "--json").out)

    assert "0 B in 0 extractions" in " ".join(empty.out.split())
    rows = [line.split() for line in listed.out.splitlines()[1:3]]
    assert [row[1] for row in rows] == ["other", "one"]
    assert "would remove" in foretold.out
    assert (still, len(files_of(cache))) == (6, 3)
    assert (removed["num_extractions"], removed["num_shards"]) == (1, 3)
    assert removed["left_bytes"] == bytes_in_use(cache)


def test_extractions_of_the_same_words_are_told_apart_by_a_key(tmp_path: Path, cache: Path) -> None:
    run(tmp_path)
    run(tmp_path, num=11)
    shown = [line.split() for line in rsbench("cache", "ls").out.splitlines()[1:3]]
    plain = [json.loads(line) for line in rsbench("cache", "ls", "--json").out.splitlines()]

    assert shown[0][1:6] == shown[1][1:6]
    assert [row[0] for row in shown] == [row["key"][:8] for row in plain]
    assert len({row["key"] for row in plain}) == 2


@pytest.mark.parametrize("noun", ["task", "backbone"])
def test_clearing_what_the_cache_has_not_names_what_is_near(
    tmp_path: Path, cache: Path, noun: str
) -> None:
    run(tmp_path, task="digits")
    answer = rsbench("cache", "gc", f"--{noun}", "digit")

    assert answer.code == 2
    assert f"The feature cache holds nothing of {noun} 'digit'." in answer.err
    assert ("Did you mean digits?" in answer.err) == (noun == "task")
    assert len(files_of(cache)) == 3


def test_the_json_of_the_cache_is_the_documented_one(tmp_path: Path, cache: Path) -> None:
    from test_cli import _documented, _unlike

    run(tmp_path)
    line = json.loads(rsbench("cache", "ls", "--json").out)
    removed = json.loads(rsbench("cache", "gc", "--json").out)

    assert _unlike(_documented()["cache ls"], line) == []
    assert line["num_bytes"] == bytes_in_use(cache)
    assert _unlike(_documented()["cache gc"], removed) == []


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_pictures(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_second_protocol_on_a_backbone_costs_no_extraction(here: Path, cache: Path) -> None:
    for protocol in ("linear_probe", "knn"):
        words = QUICK if protocol == "linear_probe" else TINY
        answer = rsbench("run", *words, "--data", "data", "--protocol", protocol)
        assert answer.code == 0, answer.err

    costs = {
        each.record.protocol.name: each.record.cost
        for each in store.read_all(here / "results").records
    }
    num_items = NUM_TRAIN + NUM_TEST
    first, second = costs["linear_probe"], costs["knn"]
    assert (first["views_computed"], first["views_cached"]) == (num_items, 0)
    assert (second["views_computed"], second["views_per_second"]) == (0, None)
    assert second["views_cached"] >= num_items
    # The seconds are kept to a thousandth.
    seconds = num_items / float(first["views_per_second"])  # type: ignore[arg-type]
    assert seconds == pytest.approx(first["seconds_extract"], abs=0.001)
    tasks = {each.entry.made_for["backbone"] for each in contents(cache).kept}
    assert tasks == {"tiny_2d"}


@pytest.mark.parametrize("limit", ["0", "1"])
def test_a_limit_is_foretold_and_kept_and_moves_no_score(
    here: Path, cache: Path, limit: str
) -> None:
    words = ("run", *QUICK, "--data", "data")
    limited = (*words, "--cache-limit", limit, "--results", "limited")
    foretold = json.loads(rsbench(*limited, "--dry-run", "--json").out)
    said = " ".join(rsbench(*limited, "--dry-run").out.split())
    answer = rsbench(*limited)
    kept = bytes_in_use(cache)
    whole = rsbench(*words)

    assert (answer.code, whole.code) == (0, 0)
    assert foretold["cache_room_bytes"] == int(limit) * 2**30
    assert ("--cache-limit leaves room for 0 B" in said) == (limit == "0")
    assert ("  note: --cache-limit 0 keeps no features: " in answer.out) == (limit == "0")
    assert (kept == 0) == (limit == "0")
    (one,) = store.read_all(here / "limited").records
    (other,) = store.read_all(here / "results").records
    assert one.record.files == other.record.files


@pytest.mark.parametrize("protocol", ["linear_probe_dino", "attentive_probe"])
def test_a_dry_run_foretells_the_bytes_of_stages_and_tokens(
    here: Path, cache: Path, protocol: str
) -> None:
    changes = [word for change in SHORT[protocol] for word in ("--set", change)]
    words = ("run", *TINY, "--data", "data", "--protocol", protocol, *changes)
    foretold = json.loads(rsbench(*words, "--dry-run", "--json").out)
    answer = rsbench(*words)

    assert answer.code == 0, answer.err
    assert bytes_in_use(cache) == pytest.approx(foretold["cache_bytes"], rel=0.2)
