"""Test labels stay with the harness, unless a run says aloud that it selects on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import NUM_TEST, NUM_TRAIN, QUICK, TINY, rsbench, write_pictures
from plugins.best_of_twenty import NUM_HEADS
from plugins.best_of_twenty import PROTOCOL as BEST_OF_TWENTY
from records_factory import make_record, save_record, some_hits
from scipy.stats import binom
from small_world import (
    fit_request,
    image_reading,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)
from torch import nn

from rsbench.errors import LeakError
from rsbench.protocols import linear_probe
from rsbench.protocols._probing import read_training, selection_sets
from rsbench.records import store
from rsbench.records.ruler import differences, make_ruler, ruler_digest, selected_on_test
from rsbench.records.schema import ProtocolPart, from_json, to_json
from rsbench.specs import InputSpec, Item, Withheld
from rsbench.tables import build, render

PLUGINS = Path(__file__).parent / "plugins"
PEEKING = PLUGINS / "peeking.py"
ALLOWED = "--allow-test-selection"


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("bright"))


def _run(data: Path, results: Path, *words: str) -> Any:
    answer = rsbench("run", *QUICK, "--data", data, "--results", results, "--json", *words)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


# ------------------------------------------------------------------------------ labels withheld


@pytest.mark.parametrize(
    "look",
    [
        lambda targets: targets[0],
        lambda targets: targets[:2],
        len,
        list,
        bool,
        lambda targets: 1 in targets,
        lambda targets: np.array([*targets]),
    ],
    ids=["index", "slice", "len", "list", "bool", "in", "array"],
)
def test_any_look_at_withheld_targets_is_an_error_of_one_line(
    look: Callable[[Any], object],
) -> None:
    with pytest.raises(LeakError, match="must not see labels") as caught:
        look(Withheld())

    assert "\n" not in str(caught.value)


def test_a_request_gives_no_test_set_unless_the_run_allows_it(tmp_path: Path) -> None:
    items, labels = pictures(12)
    test = item_set(items, labels, rows=range(6, 12))
    request = fit_request(
        linear_probe.PROTOCOL, model(), item_set(items, labels, rows=range(6)), settings(tmp_path)
    )

    assert not request.allows_test_selection
    with pytest.raises(LeakError, match=r"--allow-test-selection, which keeps the result out"):
        request.test_for_selection()
    assert replace(request, allowed_test=test).test_for_selection() is test


@pytest.mark.parametrize(
    ("protocol", "words", "told"),
    [
        ("READS_LABELS", (), "must not see labels of the items it predicts on"),
        ("READS_LABELS", (ALLOWED,), "must select on the test set where the run allows it"),
        ("ASKS_FOR_TEST", (), "must not select on the test set, and this one asked for it"),
        ("CLAIMS_TEST", (), "says that it selected on the test set, which this run does not allow"),
        ("HONEST", (ALLOWED,), "must select on the test set where the run allows it"),
    ],
)
def test_a_protocol_that_looks_where_it_must_not_leaves_no_record(
    bright: Path, tmp_path: Path, protocol: str, words: tuple[str, ...], told: str
) -> None:
    results = tmp_path / "results"
    answer = rsbench(
        *("run", *TINY, "--data", bright, "--results", results),
        *("--protocol", f"{PEEKING}:{protocol}", *words),
    )

    assert answer.code == 2
    (line,) = answer.err.strip().splitlines()
    assert told in line
    assert not list(results.rglob("*.json"))


def test_a_protocol_that_asks_is_given_the_test_set_where_the_run_allows_it(
    bright: Path, tmp_path: Path
) -> None:
    answer = rsbench(
        *("run", *TINY, "--data", bright, "--results", tmp_path, "--json"),
        *("--protocol", f"{PEEKING}:ASKS_FOR_TEST", ALLOWED),
    )

    assert answer.code == 0, answer.err
    record = store.read(Path(json.loads(answer.out)["record"]))
    assert record.protocol.chosen["num_seen"] == NUM_TEST


def test_a_protocol_that_selects_nothing_has_nothing_to_be_allowed(bright: Path) -> None:
    answer = rsbench("run", *TINY, "--data", bright, "--protocol", "evaluate", ALLOWED)

    assert answer.code == 2
    assert "evaluate selects nothing" in answer.err


# ------------------------------------------------------------------------------ what is selected on


def test_with_the_test_set_allowed_all_else_is_fitted_on(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train, validation, test = (
        item_set(items, labels, rows=rows) for rows in (range(30), range(30, 40), range(40, 60))
    )
    request = fit_request(
        *(linear_probe.PROTOCOL, model(), train, settings(tmp_path)),
        validation=validation,
        allowed_test=test,
    )

    sets = selection_sets(request, *read_training(request), held_out=0.2)

    assert sets.where == "test"
    assert sets.kept.ids == tuple(item.id for item in items[:40])
    assert sets.held.ids == tuple(item.id for item in items[40:])
    assert sets.held.labels.tolist() == list(labels[40:])


def test_the_best_of_the_selection_is_what_a_leaking_probe_reports(tmp_path: Path) -> None:
    items, labels = pictures(90, noise=400)
    test = item_set(items, labels, rows=range(60, 90))
    request = fit_request(
        linear_probe.PROTOCOL,
        model(),
        item_set(items, labels, rows=range(60)),
        settings(tmp_path),
        recipe={**linear_probe.PROTOCOL.recipe, "strengths": 9},
        allowed_test=test,
    )

    fitted = linear_probe.fit(request)
    predictions = linear_probe.predict(
        predict_request(
            linear_probe.PROTOCOL,
            request.model,
            fitted,
            replace(test, targets=Withheld()),
            request.settings,
        )
    )

    hits = [
        int(np.argmax(said)) == label
        for said, label in zip(predictions.values, labels[60:], strict=True)
    ]
    scores = [row["held_out_top1"] for row in fitted.selection]
    assert len(set(scores)) > 1, "strengths that all score alike would leave nothing to select"
    assert np.mean(hits) == pytest.approx(max(scores))
    assert fitted.chosen["selected_on"] == "test"


class _Flat(nn.Module):
    """The pixels themselves as features: (N, C, H, W) to (N, C H W)."""

    head: nn.Module | None = None

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.flatten(1)


_PIXELS, _NUM_TRAIN, _NUM_NOISE_TEST, _NUM_DRAWS = 16, 60, 60, 20


def _score_on_noise(folder: Path, *, seed: int, leaking: bool) -> float:
    """Give what the best of twenty scores on pictures whose labels were drawn by lot."""
    random = np.random.default_rng(seed)
    num_items = _NUM_TRAIN + _NUM_NOISE_TEST
    pixels = random.integers(0, 256, (num_items, _PIXELS, _PIXELS, 3), np.uint8)
    items = tuple(Item(id=f"{row:03}", source=each) for row, each in enumerate(pixels))
    labels = random.permutation(np.arange(num_items) % 2).tolist()
    train, test = (
        item_set(items, labels, rows=rows, num_classes=2)
        for rows in (range(_NUM_TRAIN), range(_NUM_TRAIN, num_items))
    )
    reading = replace(image_reading(), input=InputSpec(pixels=_PIXELS))
    network = replace(model(_Flat()), feature_width=3 * _PIXELS**2)
    request = fit_request(
        *(BEST_OF_TWENTY, network, train, settings(folder)),
        reading=reading,
        seed=seed,
        allowed_test=test if leaking else None,
    )
    said = BEST_OF_TWENTY.predict(
        predict_request(
            *(BEST_OF_TWENTY, network, BEST_OF_TWENTY.fit(request)),
            *(replace(test, targets=Withheld()), request.settings),
            reading=reading,
        )
    )
    hits = [
        int(np.argmax(value)) == label
        for value, label in zip(said.values, labels[_NUM_TRAIN:], strict=True)
    ]
    return float(np.mean(hits))


def test_the_best_of_twenty_on_noise_beats_chance_only_where_it_may_select_on_test(
    tmp_path: Path,
) -> None:
    leaking, honest = (
        np.mean([_score_on_noise(tmp_path, seed=seed, leaking=leak) for seed in range(_NUM_DRAWS)])
        for leak in (True, False)
    )

    # Second source: the largest of twenty binomial counts, exactly, by its distribution function.
    counts = np.arange(_NUM_NOISE_TEST + 1)
    below = binom.cdf(counts, _NUM_NOISE_TEST, 0.5) ** NUM_HEADS
    chances = np.diff(below, prepend=0.0)
    expected = float(chances @ counts) / _NUM_NOISE_TEST
    variance = float(chances @ (counts / _NUM_NOISE_TEST - expected) ** 2)
    assert 0.61 < expected < 0.63
    assert leaking == pytest.approx(expected, abs=3 * np.sqrt(variance / _NUM_DRAWS))
    assert honest == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / _NUM_NOISE_TEST / _NUM_DRAWS))


# ------------------------------------------------------------------------------ record and tables


def test_a_leaking_run_is_tagged_in_record_ruler_and_output_and_kept_out_of_tables(
    bright: Path, tmp_path: Path
) -> None:
    honest = _run(bright, tmp_path)
    leaking = _run(bright, tmp_path, ALLOWED)

    assert (honest["selected_on_test"], leaking["selected_on_test"]) == (False, True)
    assert not leaking["reused"], "an honest run must not answer for a leaking one"
    record = store.read(Path(leaking["record"]))
    assert record.protocol.selected_on_test
    assert record.protocol.chosen["selected_on"] == record.ruler["selected_on"] == "test"
    assert record.protocol.chosen["num_selected_on"] == NUM_TEST
    table = rsbench("table", tmp_path)
    assert table.out.count("linear_probe") == 1
    name = Path(leaking["record"]).relative_to(tmp_path).as_posix()
    assert table.err.strip() == (
        "rsbench: left out: 1 run that selected its settings on the test set"
        f" (--allow-test-selection): {name}."
    )
    listed = rsbench("ls", "results", "--results", tmp_path)
    assert listed.out.count("SELECTED ON THESE ITEMS") == 1


def test_a_leaking_run_says_so_where_a_table_would_stand(bright: Path, tmp_path: Path) -> None:
    answer = rsbench("run", *QUICK, "--data", bright, "--results", tmp_path, ALLOWED)

    assert answer.code == 0
    assert "SELECTED ON THESE ITEMS" in answer.out
    assert answer.out.endswith("Selected on the test set: no table shows this.\n")


def test_a_dry_run_counts_the_second_look_at_the_test_set(bright: Path, tmp_path: Path) -> None:
    words = ("run", *QUICK, "--data", bright, "--results", tmp_path, "--dry-run", "--json")

    honest, leaking = (
        json.loads(rsbench(*words, "--views", "1x3", *extra).out)["num_views"]
        for extra in ((), (ALLOWED,))
    )

    # Three crops of each test item to report, and one, as of train, to select on.
    assert honest == NUM_TRAIN + 3 * NUM_TEST
    assert leaking == honest + NUM_TEST


@pytest.mark.parametrize(
    ("num_leaking", "told"),
    [(1, "1 run that selected its settings"), (4, "4 runs that selected their settings")],
)
def test_tables_count_what_they_leave_out(tmp_path: Path, num_leaking: int, told: str) -> None:
    save_record(tmp_path, some_hits(100))
    for seed in range(num_leaking):
        save_record(tmp_path, some_hits(150), seed=seed, protocol={"selected_on_test": True})

    tables = build(store.read_all(tmp_path))

    (table,) = tables.tables
    (row,) = table.rows
    cell = row.cells[0]
    assert cell is not None and cell.value == 100 / 160
    (problem,) = tables.problems
    assert problem.startswith(told)
    assert problem.endswith(" and 1 more." if num_leaking > 3 else ".json.")
    assert told in render(tables, "markdown")


def test_records_older_than_the_guard_share_the_ruler_of_honest_ones() -> None:
    record = make_record()
    plain = json.loads(to_json(record))
    del plain["protocol"]["selected_on_test"]
    assert "selected_on" not in plain["ruler"]
    tagged = make_record(protocol={"selected_on_test": True})

    old = ProtocolPart(**plain["protocol"])

    assert not old.selected_on_test
    assert not selected_on_test(record.ruler)
    assert selected_on_test(tagged.ruler)
    assert ruler_digest(record.ruler) != ruler_digest(tagged.ruler)
    (difference,) = differences(record.ruler, tagged.ruler)
    assert difference == ("selected_on", "other items", "test")


def test_a_tagged_record_survives_being_written_and_read() -> None:
    tagged = make_record(protocol={"selected_on_test": True})

    read = from_json(to_json(tagged), where="here")

    assert read.protocol.selected_on_test
    assert read.ruler == make_ruler(
        task=read.task,
        protocol=read.protocol,
        data=read.data,
        metrics=[],
        averaging="pooled",
    ) | {"metrics": read.ruler["metrics"]}
