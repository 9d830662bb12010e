"""Tables of costs, alone and beside scores: what stands in them, and that they fit the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from costs_factory import cost, timing
from records_factory import save_record, some_hits

from rsbench.profiling.cost_tables import cost_grids, join, joined_grids, joined_json, page
from rsbench.profiling.grids import WIDTH, Grid, to_markdown, to_terminal
from rsbench.records import store
from rsbench.tables import build

LONG = "./a/long/way/down/to/my_own_network_with_a_name.py:build_the_largest_of_all"


def _cells(grid: Grid, row: int = 0) -> dict[str, str]:
    return dict(zip(grid.headers, grid.rows[row], strict=True))


def test_a_network_s_counts_times_and_details_stand_in_three_tables() -> None:
    counted, timed, detailed = cost_grids([cost()])

    assert _cells(counted) == {
        "network": "tiny_2d",
        "input": "32",
        "parameters": "1,000,000",
        "without head": "900,000",
        "GMACs": "0.500",
        "x views": "15.000",  # 30 views
        "M activations": "2.50",
    }
    assert _cells(timed) == {
        "network": "tiny_2d",
        "batch": "4",
        "1 view ms": "60.0",
        "forward ms": "200",
        "step ms": "800",
        "step / forward": "4.00",
        "views/s": "20.0",
        "trained/s": "5.00",
    }
    assert _cells(detailed) == {
        "network": "tiny_2d",
        "forward CPU ms": "100",
        "step CPU ms": "400",
        "step / forward": "4.00",
        "spread": "100%",
        "forward of peak": "20%",
        "step of peak": "15%",
        "forward MiB": "3",
        "step MiB": "8",
    }
    assert "Peak: 100.0 GFLOP/s." in detailed.remarks


def test_what_was_not_measured_is_a_dash() -> None:
    bare = cost(
        timings=(timing("inference", (0.2,), peak_bytes=None),),
        counts=dict.fromkeys(cost().counts) | {"parameters": 1, "parameters_with_head": 1},
        peak_flops_per_second=None,
    )
    counted, timed, detailed = cost_grids([bare])

    assert (_cells(counted)["GMACs"], _cells(counted)["M activations"]) == ("-", "-")
    assert (_cells(timed)["1 view ms"], _cells(timed)["step ms"]) == ("-", "-")
    assert _cells(timed)["step / forward"] == "-"
    assert (_cells(detailed)["forward of peak"], _cells(detailed)["forward MiB"]) == ("-", "-")
    assert "No peak is known: no matrix product was measured." in detailed.remarks


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "Another CPU"},
        {"precision": "bf16"},
        {"layout": "contiguous"},
        {"threads": 2},
        {"compiled": True},
        {"rounds": 9},
        {"environment": {"torch": "3.0"}},
        {"device_type": "cuda", "tf32": True, "cudnn_benchmark": True},
    ],
)
def test_numbers_of_two_settings_never_share_a_table(changes: dict[str, Any]) -> None:
    grids = cost_grids([cost("a"), cost("b", **changes), cost("c")])

    assert [[row[0] for row in grid.rows] for grid in grids[::3]] in (
        [["a", "c"], ["b"]],
        [["b"], ["a", "c"]],
    )
    assert len({grid.title for grid in grids[::3]}) == 2


def test_conditions_stand_above_the_table() -> None:
    on_gpu = cost(
        device="Some GPU",
        device_type="cuda",
        tf32=True,
        cudnn_benchmark=True,
        compiled=True,
        environment={"torch": "2.9.0", "cuda": "13.0", "commit": "0123456789abcdef", "dirty": True},
    )

    assert cost_grids([cost()])[0].title == (
        "Some CPU, float32, channels_last, 1 thread, 3 rounds;"
        " torch 2.9.0, rsbench 0123456789ab, 2026-01-02"
    )
    assert cost_grids([on_gpu])[0].title == (
        "Some GPU, float32, channels_last, torch.compile, TF32 allowed, cudnn.benchmark, 3 rounds;"
        " torch 2.9.0, cuda 13.0, rsbench 0123456789ab with changes, 2026-01-02"
    )


def test_the_cheapest_network_stands_first_and_a_note_below() -> None:
    large = cost("large", counts=cost().counts | {"macs_with_head": 10**12}, notes=("halved",))
    grids = cost_grids([large, cost("small")])

    assert [row[0] for row in grids[0].rows] == ["small", "large"]
    assert grids[0].remarks == ("large: halved",)


def test_a_terminal_s_table_fits_a_hundred_letters() -> None:
    # The longest numbers that are measured, and names that are longer than a line.
    slow = timing("training", (12_345.6, 23_456.7), peak_bytes=99_999 * 2**20, batch_size=128)
    largest = cost(
        LONG,
        modality="video",
        frames=128,
        pixels=1024,
        counts={key: 12_345_678_901_234 for key in cost().counts}
        | {"parameters": 1_234_567_890, "parameters_with_head": 1_234_567_890},
        timings=(
            timing("inference", (1_234.5,), batch_size=1, batch_asked=1),
            timing("inference", (1_234.5,), batch_size=256, peak_bytes=99_999 * 2**20),
            slow,
        ),
    )
    text = to_terminal(cost_grids([largest, cost("torchvision/efficientnet_b5@456")]))

    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" in text
    assert "256/128" in text  # batches of inference and training where they differ


def test_a_name_of_the_paper_is_shown_whole() -> None:
    assert "torchvision/efficientnet_b5@456" in to_terminal(
        cost_grids([cost("torchvision/efficientnet_b5@456")])
    )


def test_the_page_holds_every_row_and_no_name_breaks_it() -> None:
    text = page([cost("a|b"), cost(LONG)])

    assert text.startswith("# What networks cost\n")
    assert LONG in text
    assert "| a\\|b |" in text
    assert all(line.count(" | ") in (6, 7, 8) for line in text.splitlines() if line[:2] == "| ")


def test_nothing_measured_makes_a_page_without_tables() -> None:
    assert "|" not in page([])
    assert to_terminal([]) == ""


def test_markdown_and_terminal_hold_the_same_numbers() -> None:
    grid = Grid(title="t", headers=("name", "one", "two words"), rows=(("n", "1", "22"),))

    assert to_markdown([grid]) == (
        "## t\n\n| name | one | two words |\n| :-- | --: | --: |\n| n | 1 | 22 |\n"
    )
    assert to_terminal([grid]).split() == ["t", "two", "name", "one", "words", "n", "1", "22"]


# ---------------------------------------------------------------------------- beside scores


def _seen(**changes: Any) -> dict[str, Any]:
    return {"name": "tiny_2d", "version": 1, "pixels": 32, "frames": 1, "lifting": "none"} | changes


def _results(folder: Path) -> Path:
    save_record(folder, some_hits(80), backbone=_seen(), protocol={"clips": 2, "crops": 3})
    return folder


def test_scores_stand_beside_the_cost_of_the_same_network_at_the_same_input(
    tmp_path: Path,
) -> None:
    (joined,) = join(build(store.read_all(_results(tmp_path))), [cost()])
    (grid,) = joined_grids([joined])
    cells = _cells(grid)

    # 80 of 160 right; 6 views of 0.5 G multiply-adds each, whatever views were profiled.
    assert (cells["network"], cells["top1 %"]) == ("tiny_2d", "50.0")
    assert cells["GMACs x views"] == "3.000"
    assert (cells["1 view ms"], cells["views/s"], cells["forward MiB"]) == ("60.0", "20.0", "3")
    assert "Some CPU" in grid.title
    shown = joined_json(joined, results="results")
    assert (shown["value"], shown["views"], shown["macs_all_views"]) == (0.5, 6, 3_000_000_000)
    assert shown["records"][0].startswith("results/runs/")


@pytest.mark.parametrize(
    "other",
    [
        cost("tiny_3d"),
        cost(pixels=64),
        cost(version=2),
        cost(frames=8, lifting="frame_mean"),
    ],
)
def test_another_network_or_input_is_not_put_beside_a_score(other: Any, tmp_path: Path) -> None:
    (joined,) = join(build(store.read_all(_results(tmp_path))), [other])
    (grid,) = joined_grids([joined])

    assert joined.cost is None
    assert _cells(grid)["1 view ms"] == "-"
    assert "Measure it: rsbench profile tiny_2d --pixels 32 --results FOLDER" in grid.remarks


def test_a_still_clip_costs_what_a_clip_does(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80), backbone=_seen(frames=8, lifting="still_clip"))
    (joined,) = join(build(store.read_all(tmp_path)), [cost(modality="video", frames=8)])

    assert joined.cost is not None


def test_a_network_named_at_its_size_is_the_same_network(tmp_path: Path) -> None:
    (joined,) = join(build(store.read_all(_results(tmp_path))), [cost("tiny_2d@32")])

    assert joined.cost is not None


def test_rulers_and_settings_never_share_a_table(tmp_path: Path) -> None:
    results = _results(tmp_path)
    save_record(results, some_hits(40), backbone=_seen(), protocol={"clips": 1, "crops": 1})
    rows = join(build(store.read_all(results)), [cost(), cost(precision="bf16")])
    grids = joined_grids(rows)

    # Two rulers, each under two settings.
    assert len(rows) == len(grids) == 4
    assert len({grid.title for grid in grids}) == 4
    assert {len(grid.rows) for grid in grids} == {1}


def test_what_no_reader_of_a_score_may_miss_stands_below(tmp_path: Path) -> None:
    (grid,) = joined_grids(join(build(store.read_all(_results(tmp_path))), [cost()]))

    assert any("random init" in remark and "sample" in remark for remark in grid.remarks)
