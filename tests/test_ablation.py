"""What each step of a study is worth, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from records_factory import save_record, some_hits

from rsbench.errors import RecordError
from rsbench.plans import RS, Plan, plan_of
from rsbench.records import store
from rsbench.stats import paired_difference, wilson
from rsbench.tables import Ablation, ablation_json, build_ablation, render_ablation

RECIPE = {"epochs": 9, "label_smoothing": 0.0}


@pytest.fixture
def plan() -> Plan:
    """Three rows: the start, cosine, more epochs; the other steps are held by the user."""
    held = {key: "0" for step in RS.steps[2:] for key in step.overrides}
    return plan_of(RS, "net", held=held, times_epochs=1.0, has_option=lambda key, value: False)


def _row(
    root: Path, hits: Sequence[Sequence[float]], *, epochs: int, **data: object
) -> list[store.Stored]:
    """Save a record for each seed of a row; rows differ in the recipe's epochs."""
    protocol = {"recipe": {**RECIPE, "epochs": epochs}}
    return [
        store.Stored(path, store.read(path))
        for path in (
            save_record(root, each, seed=seed, protocol=protocol, data=data)
            for seed, each in enumerate(hits)
        )
    ]


def _table(root: Path, plan: Plan, *hits: Sequence[Sequence[float]]) -> Ablation:
    return build_ablation(
        plan, [_row(root, each, epochs=number) for number, each in enumerate(hits)]
    )


def test_a_row_is_counted_from_the_row_above_item_by_item(tmp_path: Path, plan: Plan) -> None:
    first, second, third = some_hits(80), some_hits(100, seed=1), some_hits(90, seed=2)
    table = _table(tmp_path, plan, [first], [second], [third])
    # Second source: the same pairing written out; predictions lie in the order of their ids.
    expected = paired_difference(third, second)

    assert [row.planned.name for row in table.rows] == [
        "ResNet",
        "+ cosine LR decay",
        "+ more epochs",
    ]
    assert table.rows[0].change is None
    assert table.rows[1].change is not None
    assert table.rows[1].change.difference == pytest.approx(20 / 160)
    assert table.rows[2].change == expected
    assert expected.difference == pytest.approx(-10 / 160)


def test_seeds_are_averaged_and_their_spread_is_said(tmp_path: Path, plan: Plan) -> None:
    seeds = [some_hits(80), some_hits(100, seed=1)]
    table = _table(tmp_path, plan, seeds, seeds, seeds)
    cell = table.rows[0].cell

    assert cell is not None
    # By hand: 50 % and 62.5 %; their sample deviation is 12.5 / sqrt(2).
    assert (cell.value, cell.num_seeds) == (pytest.approx(0.5625), 2)
    assert cell.std == pytest.approx(0.125 / 2**0.5)
    assert table.rows[1].change is not None
    assert table.rows[1].change.difference == 0
    assert "± standard deviation over 2 seeds (0, 1)" in " ".join(
        render_ablation(table, "terminal").split()
    )


def test_the_table_has_the_papers_form_and_its_numbers_beside(tmp_path: Path, plan: Plan) -> None:
    table = _table(tmp_path, plan, *([some_hits(number)] for number in (80, 100, 90)))
    lines = render_ablation(table, "markdown").splitlines()
    low, high = (f"{100 * end:.1f}" for end in wilson(80, 160))
    change = table.rows[2].change
    assert change is not None

    assert "| step | top1 % | change | paper % | paper's change | marks |" in lines
    assert f"| ResNet | 50.0 [{low}, {high}] |  | 79.0 |  |  |" in lines
    ends = f"[{100 * change.low:.1f}, {100 * change.high:.1f}]"
    last = next(line for line in lines if line.startswith("| + more epochs"))
    assert f"| -6.2 {ends} | 78.8 | -0.5 |" in last
    assert any("ResNet-200 on ImageNet" in line for line in lines)
    assert any('"+ EMA of weights" is left out' in line for line in lines)


def test_what_is_not_finished_is_no_number_and_nothing_is_counted_from_it(
    tmp_path: Path, plan: Plan
) -> None:
    table = _table(tmp_path, plan, [some_hits(80)], [], [some_hits(90)])
    described = ablation_json(table)["rows"]
    assert isinstance(described, list)

    assert [row.cell is None for row in table.rows] == [False, True, False]
    assert table.rows[2].change is None
    assert "not finished" in table.rows[1].marks
    assert [row["score"] is None for row in described] == [False, True, False]
    lines = render_ablation(table, "markdown").splitlines()
    assert "| + cosine LR decay | - | - | 79.3 | +0.3 | not finished |" in lines


def test_a_row_with_fewer_seeds_says_so(tmp_path: Path, plan: Plan) -> None:
    one, two = some_hits(80), some_hits(90, seed=1)
    table = _table(tmp_path, plan, [one, two], [one], [one, two])

    assert "1 of 2 seeds" in table.rows[1].marks
    assert table.rows[1].change is not None


def test_the_object_for_machines_holds_exact_numbers(tmp_path: Path, plan: Plan) -> None:
    table = _table(tmp_path, plan, *([some_hits(number)] for number in (80, 100, 90)))
    described = ablation_json(table)
    rows = described["rows"]
    assert isinstance(rows, list)

    assert (described["study"], described["metric"]) == ("rs", "top1")
    assert rows[1]["change"]["difference"] == pytest.approx(0.125)
    assert rows[1]["score"]["value"] == 100 / 160
    assert rows[1]["published_change"] == 0.3
    assert rows[2]["overrides"]["epochs"] == "350"
    assert len(rows[2]["records"]) == 1


def test_rows_of_other_items_never_stand_in_one_table(tmp_path: Path, plan: Plan) -> None:
    hits = [some_hits(80)]
    rows = [_row(tmp_path, hits, epochs=number) for number in range(2)]
    rows.append(_row(tmp_path, hits, epochs=2, fingerprint="e" * 64))

    with pytest.raises(RecordError, match=r"must differ in their recipe alone, and .* data \("):
        build_ablation(plan, rows)
