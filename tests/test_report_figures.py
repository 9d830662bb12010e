"""Figures of the report: drawings that are valid, and numbers in them that are those of records."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest
import vl_convert
from costs_factory import cost, timing
from numpy.typing import NDArray
from records_factory import make_record, save_record, some_hits

from rsbench.comparison import compare
from rsbench.errors import RsbenchError
from rsbench.metrics import TOP1
from rsbench.profiling.costs import Cost
from rsbench.records import store
from rsbench.records import views as view_files
from rsbench.records.predictions import to_parquet
from rsbench.records.views import ViewsHeader, ids_digest
from rsbench.report import drawing
from rsbench.report.anchors import anchor_of, row_anchor
from rsbench.report.figure import (
    BETTER,
    MAX_FIGURES,
    NEUTRAL,
    PALETTE,
    SHAPES,
    WORSE,
    Figure,
    log_domain,
    log_ticks,
)
from rsbench.report.figures import figures_of
from rsbench.report.figures_views import view_curve
from rsbench.report.pareto import Spot, name_sides, pareto_front
from rsbench.specs import ViewScores
from rsbench.tables import build
from rsbench.view_scores import average_views, log_softmax, to_halves

RESULTS = Path(__file__).parents[1] / "results"


def drawn(root: Path, costs: Sequence[Cost] = ()) -> dict[str, Figure]:
    """Draw the figures of a results folder, by their names, of which there are no two alike."""
    contents = store.read_all(root)
    figures = figures_of(contents, build(contents), compare(contents), costs)
    by_name = {figure.name: figure for figure in figures}
    assert len(by_name) == len(figures)
    return by_name


def one(figures: Mapping[str, Figure], kind: str) -> Figure:
    (found,) = [each for name, each in figures.items() if name.startswith(f"{kind}-")]
    return found


def data_of(figure: Figure) -> list[dict[str, Any]]:
    """Give every datum of a drawing, of all its layers."""
    return [datum for values in figure.spec["datasets"].values() for datum in values]


def points_of(figure: Figure, field: str) -> list[dict[str, Any]]:
    """Give the data of a drawing that stand for runs and have a field, each once."""
    found = {
        json.dumps(each, sort_keys=True): each
        for each in data_of(figure)
        if "record" in each and field in each
    }
    return list(found.values())


@pytest.fixture(scope="module")
def committed() -> dict[str, Figure]:
    """The figures of the repository's own results."""
    return drawn(RESULTS)


# ------------------------------------------------------------------------------- what is drawn


def test_every_figure_of_the_committed_results_is_valid_vega_lite(
    committed: Mapping[str, Figure],
) -> None:
    assert {each.section for each in committed.values()} == {
        *("cost", "differences", "learning", "selection")
    }
    for figure in committed.values():
        # Data is any JSON to the schema, and would take most of the time.
        altair.Chart.from_dict({**figure.spec, "datasets": {}}, validate=True)
        json.dumps(figure.spec["datasets"], allow_nan=False)


def test_no_drawing_asks_for_anything_or_colours_its_surroundings(
    committed: Mapping[str, Figure],
) -> None:
    for figure in committed.values():
        text = json.dumps(figure.spec)
        assert not re.search(r'"(url|href|loader|image)"', text), figure.name
        assert re.findall(r"https?://[^\"]*", text) == [figure.spec["$schema"]]
        assert "config" not in figure.spec
        assert figure.spec["width"] == "container"


def test_names_of_figures_are_names_of_files(committed: Mapping[str, Figure]) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", name) for name in committed)


def test_every_mark_of_a_run_leads_to_a_record_of_the_results(
    committed: Mapping[str, Figure],
) -> None:
    tables = build(store.read_all(RESULTS)).tables
    rows = [row for table in tables for row in table.rows]
    known = {row_anchor(row.records) for row in rows}
    known |= {anchor_of(name) for row in rows for name in row.records}
    for figure in committed.values():
        found = {each["record"] for each in data_of(figure) if "record" in each}
        assert found and found <= known, figure.name


def test_a_mark_leads_to_the_run_of_the_network_it_is_named_after(
    committed: Mapping[str, Figure],
) -> None:
    named: dict[str, set[str]] = {}
    for table in build(store.read_all(RESULTS)).tables:
        for row in table.rows:
            anchors = {row_anchor(row.records), *map(anchor_of, row.records)}
            named.setdefault(row.backbone, set()).update(anchors)
    for figure in committed.values():
        for datum in points_of(figure, "network"):
            assert datum["record"] in named[datum["network"]], figure.name


def test_a_network_named_like_markup_is_a_text_like_any_other(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\u202e\n"
    for place, backbone in enumerate((name, "tame")):
        save_record(
            tmp_path,
            some_hits(80 + 20 * place),
            backbone={"name": backbone},
            cost={"macs_per_view": 10**9, "views": 1},
        )

    figure = one(drawn(tmp_path), "macs")

    names = {each["network"] for each in points_of(figure, "network")}
    assert names == {"<script>alert(1)</script>\ufffd\ufffd", "tame"}
    # As an XML reader sees it, and by no element of that name.
    assert "<script" not in drawing.to_svg(figure)


def test_no_records_give_no_figures(tmp_path: Path) -> None:
    assert drawn(tmp_path) == {}


def test_a_section_says_that_it_has_more_figures_than_are_drawn(tmp_path: Path) -> None:
    for place in range(MAX_FIGURES + 1):
        for backbone in ("a", "b"):
            save_record(
                tmp_path,
                some_hits(80, seed=place),
                backbone={"name": backbone},
                task={"name": f"task{place:02d}"},
                cost={"macs_per_view": 10**9, "views": 1},
            )

    figures = [each for each in drawn(tmp_path).values() if each.section == "cost"]

    assert len(figures) == MAX_FIGURES
    assert ["further tables" in each.caption for each in figures] == [False] * 11 + [True]


# -------------------------------------------------------------------------- accuracy against cost


def _is_dominated(point: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """The definition, word for word: some other point is no worse in both, and better in one."""
    cost, score = point
    return any(
        (other_cost <= cost and other_score >= score) and (other_cost < cost or other_score > score)
        for other_cost, other_score in others
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_front_is_what_no_other_point_dominates(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Few different values, so that there are ties of all kinds.
    points = [(float(a), float(b)) for a, b in generator.integers(0, 8, size=(25, 2))]

    found = pareto_front([a for a, _ in points], [b for _, b in points])

    assert found == [not _is_dominated(point, points) for point in points]


def test_the_front_of_an_error_rate_is_that_of_its_negative() -> None:
    generator = np.random.default_rng(0)
    costs, scores = generator.random(30).tolist(), generator.random(30)

    assert pareto_front(costs, scores.tolist(), higher_is_better=False) == pareto_front(
        costs, (-scores).tolist()
    )


def test_scores_intervals_and_multiply_adds_are_those_of_the_records(
    committed: Mapping[str, Figure],
) -> None:
    (figure,) = [
        each for name, each in committed.items() if name.startswith("macs-digits-linear-probe")
    ]
    found = {each["network"]: each for each in points_of(figure, "cost")}
    for path in (RESULTS / "runs" / "digits" / "linear_probe").glob("*.json"):
        record = json.loads(path.read_text())
        datum = found[record["backbone"]["name"]]
        part = record["metrics"][0]
        expected = [100 * part["value"], 100 * part["low"], 100 * part["high"]]
        assert [datum["value"], datum["low"], datum["high"]] == pytest.approx(expected, rel=1e-12)
        assert datum["cost"] * 1e9 == pytest.approx(
            record["cost"]["macs_per_view"] * record["cost"]["views"], rel=1e-12
        )


def three_networks(root: Path) -> None:
    """Write cheap, dear and silly: 40, 80 and 60 of 160 right at 1, 2 and 4 G multiply-adds."""
    for name, num_hits, giga in (("cheap", 40, 1), ("dear", 80, 2), ("silly", 60, 4)):
        save_record(
            root,
            some_hits(num_hits, seed=giga),
            backbone={"name": name},
            cost={"macs_per_view": giga * 10**8, "views": 10},
        )


def test_the_figure_of_multiply_adds_counts_all_views_and_says_who_is_on_the_front(
    tmp_path: Path,
) -> None:
    three_networks(tmp_path)

    figure = one(drawn(tmp_path), "macs")

    found = {each["network"]: each for each in points_of(figure, "cost")}
    assert {name: each["cost"] for name, each in found.items()} == {
        "cheap": 1.0,
        "dear": 2.0,
        "silly": 4.0,
    }
    assert [name for name, each in found.items() if each["on_front"]] == ["dear", "cheap"]
    assert "cheap (1 G multiply-adds, 25.0%), dear (2 G multiply-adds, 50.0%)" in figure.alt
    assert "silly" not in figure.alt


def test_latency_and_memory_come_from_measurements_of_the_same_input(tmp_path: Path) -> None:
    three_networks(tmp_path)
    measured = [
        cost(
            name,
            modality="video",
            frames=16,
            pixels=pixels,
            timings=(
                timing("inference", (0.5, 0.03, 0.01), batch_size=1, batch_asked=1),
                timing("inference", (0.2,), peak_bytes=mebibytes * 2**20),
            ),
        )
        for name, pixels, mebibytes in (("cheap", 64, 7), ("dear", 64, 9), ("silly", 65, 1))
    ]

    figures = drawn(tmp_path, measured)

    latency, memory = one(figures, "latency"), one(figures, "memory")
    # The median of 10, 30 and 500 ms.
    assert {each["network"]: each["cost"] for each in points_of(latency, "cost")} == {
        "cheap": 30.0,
        "dear": 30.0,
    }
    assert {each["network"]: each["cost"] for each in points_of(memory, "cost")} == {
        "cheap": 7.0,
        "dear": 9.0,
    }
    for figure in (latency, memory):
        assert "Not drawn, not measured there: silly." in figure.caption
        assert "Some CPU" in figure.caption


def test_two_settings_of_measurement_never_share_a_figure(tmp_path: Path) -> None:
    three_networks(tmp_path)
    measured = [
        cost(name, modality="video", frames=16, pixels=64, device=device)
        for name, device in itertools.product(("cheap", "dear"), ("One CPU", "Another CPU"))
    ]

    figures = [each for name, each in drawn(tmp_path, measured).items() if "latency" in name]

    assert len(figures) == 2
    assert ["Another CPU" in each.caption for each in figures] == [True, False]


def test_a_network_without_a_count_is_named_and_not_drawn(tmp_path: Path) -> None:
    three_networks(tmp_path)
    save_record(tmp_path, some_hits(100), backbone={"name": "older"}, cost={})

    figure = one(drawn(tmp_path), "macs")

    assert "Not drawn, whose records hold no count: older." in figure.caption
    assert "older" not in {each["network"] for each in points_of(figure, "cost")}


def test_names_beside_a_front_cross_neither_each_other_nor_the_front() -> None:
    def boxes(spots: Sequence[Spot], sides: Sequence[str]) -> Iterator[tuple[float, ...]]:
        for spot, side in zip(spots, sides, strict=True):
            length = 6.2 * len(spot.name)
            left = spot.x - 8 - length if side == "left" else spot.x - 2
            if side != "none":
                yield left, left + length, spot.y + 4, spot.y + 17

    generator = np.random.default_rng(0)
    num_named = 0
    for _ in range(50):
        along, up = np.sort(generator.random((2, 12)))
        spots = [
            Spot(580 * x, 320 * y, "n" * int(generator.integers(3, 30)))
            for x, y in zip(along, up, strict=True)
        ]
        sides = name_sides(spots, width=580)
        found = list(boxes(spots, sides))
        num_named += len(found)
        for one, other in itertools.combinations(found, 2):
            assert (
                one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            )
        for left, right, bottom, top in found:
            assert left >= 0 and right <= 580
            assert not any(left < spot.x < right and bottom < spot.y < top for spot in spots)
    assert num_named > 50 * 4, "most fronts have room for a third of their names and more"


# ------------------------------------------------------------------------------ differences


def test_the_forest_plot_holds_the_pairs_of_the_comparison(tmp_path: Path) -> None:
    three_networks(tmp_path)
    (family,) = compare(store.read_all(tmp_path)).families

    figure = one(drawn(tmp_path), "differences")

    found = {(each["first"], each["second"]): each for each in points_of(figure, "difference")}
    assert set(found) == {("dear", "silly"), ("dear", "cheap"), ("silly", "cheap")}
    for pair in family.pairs:
        names = (family.rows[pair.first].backbone, family.rows[pair.second].backbone)
        datum = found[names]
        assert datum["record"] == row_anchor(family.rows[pair.first].records)
        assert datum["difference"] == 100 * pair.difference
        assert (datum["low"], datum["high"]) == (
            100 * (pair.low or math.nan),
            100 * (pair.high or math.nan),
        )
        sure = pair.q is not None and pair.q <= 0.05
        assert (datum["verdict"] == "not told apart") is not sure
    # By hand: 80 of 160 are 25 points more than 40.
    assert found["dear", "cheap"]["difference"] == 25.0
    assert "dear +25.0 points against cheap" in figure.alt


def test_the_thin_bar_of_a_pair_is_over_items_and_seeds(tmp_path: Path) -> None:
    for name, counts in (("steady", (100, 104, 96)), ("shaky", (60, 90, 30))):
        for seed, num_hits in enumerate(counts):
            save_record(
                tmp_path, some_hits(num_hits, seed=seed), backbone={"name": name}, seed=seed
            )
    (family,) = compare(store.read_all(tmp_path)).families

    figure = one(drawn(tmp_path), "differences")

    (datum,), (pair,) = points_of(figure, "difference"), family.pairs
    assert pair.low_with_seeds is not None and pair.high_with_seeds is not None
    assert datum["low_with_seeds"] == 100 * pair.low_with_seeds < datum["low"]
    assert datum["high_with_seeds"] == 100 * pair.high_with_seeds > datum["high"]
    assert "over items and seeds" in figure.caption


# --------------------------------------------------------------------- learning and selection


def test_a_learning_curve_has_a_point_an_epoch_a_training_and_a_fold(tmp_path: Path) -> None:
    epochs = [
        {
            "epoch": epoch,
            "fold": fold,
            "train_loss": 2.0 / epoch,
            "train_top1": 0.1 * epoch,
            "held_out_top1": 0.05 * epoch,
            "learning_rate": 0.1,
        }
        for fold in ("first", "second")
        for epoch in (1, 2, 3)
    ]
    save_record(tmp_path, some_hits(80), curve=tuple(epochs))

    figures = drawn(tmp_path)

    scores = points_of(one(figures, "learning"), "value")
    assert len(scores) == 12
    mine = [
        each["value"]
        for each in scores
        if each["part"] == "held out" and each["training"] == "seed 0, fold second"
    ]
    assert mine == pytest.approx([5, 10, 15])
    losses = points_of(one(figures, "loss"), "value")
    assert sorted(each["value"] for each in losses) == [2 / 3, 2 / 3, 1.0, 1.0, 2.0, 2.0]


def test_a_long_curve_is_thinned_to_a_bound_and_keeps_its_last_epoch(tmp_path: Path) -> None:
    epochs = [{"epoch": epoch, "train_loss": 1.0 / epoch} for epoch in range(1, 5_001)]
    save_record(tmp_path, some_hits(80), curve=tuple(epochs))

    found = points_of(one(drawn(tmp_path), "loss"), "value")

    assert len(found) <= 2_001
    assert max(each["epoch"] for each in found) == 5_000


def test_a_selection_trace_shows_every_candidate_and_rings_the_chosen_one(
    committed: Mapping[str, Figure],
) -> None:
    (figure,) = [
        each for name, each in committed.items() if name.startswith("selection-digits-linear")
    ]
    found = points_of(figure, "setting")
    for path in (RESULTS / "runs" / "digits" / "linear_probe").glob("*.json"):
        record = json.loads(path.read_text())
        mine = [each for each in found if each["network"] == record["backbone"]["name"]]
        assert {(each["setting"], each["value"], each["chosen"]) for each in mine} == {
            (row["strength"], 100 * row["held_out_top1"], row["chosen"])
            for row in record["selection"]
        }
        assert sum(each["chosen"] for each in mine) == 1


def test_a_trace_of_two_settings_has_a_line_for_each_value_of_the_second(tmp_path: Path) -> None:
    rows = tuple(
        {
            "learning_rate": rate,
            "weight_decay": decay,
            "held_out_top1": None if rate == 1.0 else 0.5,
            "diverged": rate == 1.0,
            "chosen": (rate, decay) == (0.1, 0.0),
        }
        for rate, decay in itertools.product((0.01, 0.1, 1.0), (0.0, 0.001))
    )
    save_record(tmp_path, some_hits(80), selection=rows)

    figure = one(drawn(tmp_path), "selection")

    found = points_of(figure, "setting")
    assert {(each["setting"], each["run"]) for each in found} == set(
        itertools.product((0.01, 0.1), ("seed 0, weight decay 0.0", "seed 0, weight decay 0.001"))
    ), "what diverged has no score to be drawn"
    assert figure.title.startswith("Selection of the learning rate")


# -------------------------------------------------------------------------------------- views


def view_scores(num_items: int, num_views: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Give log-probabilities of three classes, the right one (row % 3) a little ahead."""
    generator = np.random.default_rng(seed)
    logits_NVK = generator.normal(size=(num_items, num_views, 3))
    logits_NVK[np.arange(num_items), :, np.arange(num_items) % 3] += 0.7
    return log_softmax(logits_NVK)


def save_with_views(root: Path, scores_NVK: NDArray[np.float64], **parts: Any) -> Path:
    """Write a record of 2 x 2 views, its predictions their average, its views beside it."""
    halves = to_halves(scores_NVK, "softmax")
    means_NK = average_views(halves, "softmax", average="probability")
    mean_scores_NK = average_views(halves, "softmax", average="score")
    num_items = len(scores_NVK)
    ids = [f"clip_{row:03d}.mp4" for row in range(num_items)]
    targets = [row % 3 for row in range(num_items)]
    hits = [
        float(mean_K.argmax() == target) for mean_K, target in zip(means_NK, targets, strict=True)
    ]
    predictions = to_parquet(
        ids=ids,
        targets=targets,
        predictions=list(means_NK),
        item_scores={"top1": np.array(hits)},
    )
    header = ViewsHeader(
        kept="all",
        activation="softmax",
        sampler="mmaction2@1",
        frames=16,
        stride=1,
        clips=2,
        crops=2,
        cropper="resizer@1",
        ids=ids_digest(ids, [""] * num_items),
    )
    views = view_files.to_parts(
        header,
        [
            ViewScores(
                activation="softmax",
                halves=halves,
                mean_probabilities=means_NK,
                mean_scores=mean_scores_NK,
            )
        ],
        [None] * num_items,
    )
    record = make_record(
        hits=hits,
        protocol={"clips": 2, "crops": 2},
        views={"kept": "all", "activation": "softmax", "num_bytes": 0},
        **parts,
    )
    return store.write(
        root,
        record,
        {store.PREDICTIONS_SUFFIX: predictions, store.VIEWS_SUFFIX: views},
    )


def test_the_curve_of_views_ends_at_the_record_and_begins_at_the_mean_of_single_views(
    tmp_path: Path,
) -> None:
    scores_NVK = view_scores(90, 4)
    path = save_with_views(tmp_path, scores_NVK)

    figure = one(drawn(tmp_path), "views")

    found = {each["views"]: each for each in points_of(figure, "views")}
    assert sorted(found) == [1, 2, 3, 4]
    record = store.read(path)
    assert found[4]["value"] == 100 * record.metrics[0].value
    # By hand: each view's own best class, right or not.
    right_NV = scores_NVK.argmax(axis=2) == np.arange(90)[:, None] % 3
    singles = 100 * right_NV.mean(axis=0)
    assert (found[1]["least"], found[1]["greatest"]) == (
        pytest.approx(singles.min()),
        pytest.approx(singles.max()),
    )
    assert singles.min() < found[1]["value"] < singles.max() < found[4]["value"]


def test_every_number_of_views_averages_views_of_the_run_and_the_same_for_all_items(
    tmp_path: Path,
) -> None:
    from rsbench.deriving import open_source

    scores_NVK = view_scores(60, 4, seed=1)
    targets = [row % 3 for row in range(60)]

    def confidence(targets: Sequence[int], predictions: Sequence[Any]) -> float:
        """Unlike hits, it moves with every view."""
        return float(
            np.mean([row[target] for row, target in zip(predictions, targets, strict=True)])
        )

    source = open_source(save_with_views(tmp_path, scores_NVK))
    headline = replace(TOP1, compute=confidence)

    curve = view_curve(replace(source, metrics=(headline,)), num_orders=6)

    assert curve is not None
    assert curve.counts == (1, 2, 3, 4)
    halves = to_halves(scores_NVK, "softmax")
    for count, values in zip(curve.counts[:-1], curve.values[:-1], strict=True):
        # All subsets of so many views, averaged by the function that runs average with.
        possible = [
            confidence(
                targets,
                average_views(
                    halves,
                    "softmax",
                    average="probability",
                    views_NM=np.broadcast_to(chosen, (60, count)),
                ),
            )
            for chosen in itertools.combinations(range(4), count)
        ]
        for value in values:
            assert min(abs(value - each) for each in possible) < 1e-7
        assert len({round(value, 7) for value in values}) > 1, "orders differ"
    assert curve.values[-1] == (source.stored.record.metrics[0].value,)
    assert [len(values) for values in curve.values] == [6, 6, 6, 1]


def test_views_that_would_be_too_much_work_are_left_out_and_named(tmp_path: Path) -> None:
    from rsbench.deriving import open_source

    source = open_source(save_with_views(tmp_path, view_scores(30, 4)))

    # 30 items x 4 views x 3 classes are 360 scores an order.
    assert view_curve(source, max_work=359) is None
    fewer = view_curve(source, max_work=2 * 360)
    assert fewer is not None and len(fewer.values[0]) == 2


def test_a_run_whose_views_are_elsewhere_is_named_beside_one_whose_views_are_here(
    tmp_path: Path,
) -> None:
    save_with_views(tmp_path, view_scores(30, 4))
    gone = save_with_views(tmp_path, view_scores(30, 4, seed=2), backbone={"name": "elsewhere"})
    (tmp_path / gone.relative_to(tmp_path)).with_suffix(".views.safetensors").unlink()

    figure = one(drawn(tmp_path), "views")

    assert "Not drawn, whose views do not lie beside the record, or are too many: elsewhere." in (
        figure.caption
    )


def test_a_record_can_not_make_the_report_run_a_file(tmp_path: Path) -> None:
    plugin = tmp_path / "evil.py"
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    save_with_views(tmp_path / "results", view_scores(30, 4), task={"name": str(plugin)})

    drawn(tmp_path / "results")

    assert not (tmp_path / "ran").exists()


# ------------------------------------------------------------------------------------- axes


def test_ticks_of_a_logarithmic_axis_are_round_and_within_it() -> None:
    # By hand: powers of ten where there are three, else 1, 2, 5, else finer steps.
    assert log_ticks(0.9, 1100) == [1, 10, 100, 1000]
    assert log_ticks(0.4, 7) == [0.5, 1, 2, 5]
    assert log_ticks(0.092, 0.165) == [0.1, 0.12, 0.14, 0.16]  # evenly, on so narrow an axis
    for low, high in ((3.1, 3.4), (0.02, 0.021), (1e-6, 1e5)):
        ticks = log_ticks(low, high)
        assert all(low <= tick <= high for tick in ticks)
        assert 3 <= len(ticks) <= 10


def test_equal_costs_have_an_axis_all_the_same() -> None:
    low, high = log_domain([3.0, 3.0])

    assert low == pytest.approx(1.5)
    assert high == pytest.approx(6.0)


# ----------------------------------------------------------------------------------- colours


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("paper", [drawing.LIGHT, drawing.DARK], ids=["light", "dark"])
def test_colours_are_readable_on_both_papers(paper: Mapping[str, str]) -> None:
    """WCAG 2.2: 3 for graphics (1.4.11), 4.5 for text (1.4.3)."""
    for colour in (*PALETTE, BETTER, WORSE, NEUTRAL):
        assert _contrast(colour, paper["background"]) >= 3, colour
    for text in ("ink", "muted"):
        assert _contrast(paper[text], paper["background"]) >= 4.5


# Machado, Oliveira and Fernandes 2009, table of severity 1.0; on linear RGB.
_SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _lab(colour: str, sight: str) -> NDArray[np.float64]:
    """CIELAB under D65 of a colour as someone sees it."""
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    seen = np.clip(_SIGHT[sight] @ linear, 0, 1)
    x, y, z = np.cbrt(_TO_XYZ @ seen / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", sorted(_SIGHT))
def test_the_colour_blind_tell_the_colours_of_networks_apart(sight: str) -> None:
    # 2.3 is a difference that is just seen (Mahy et al. 1994); ten times that is plain.
    for one, other in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(_lab(one, sight) - _lab(other, sight)) > 20, (one, other)
    assert len(set(SHAPES)) == len(PALETTE), "and shapes tell the same"


# ---------------------------------------------------------------------------------- pictures


def test_svg_and_png_are_drawn_offline_with_the_title_and_every_name(tmp_path: Path) -> None:
    three_networks(tmp_path / "results")
    figures = list(drawn(tmp_path / "results").values())

    paths = drawing.write_figures(figures, tmp_path / "figures")

    assert {path.suffix for path in paths} == {".svg", ".png"}
    assert len(paths) == 2 * len(figures)
    svg = next(path for path in paths if path.name.startswith("macs") and path.suffix == ".svg")
    text = svg.read_text()
    assert "top1 against multiply-adds: kinetics400@sample, linear_probe" in text
    assert all(name in text for name in ("cheap", "dear", "silly"))
    png = next(path for path in paths if path.name.startswith("macs") and path.suffix == ".png")
    # Width of the image header, two pixels for each of the SVG's.
    assert int.from_bytes(png.read_bytes()[16:20], "big") == 2 * drawing.PIXELS_WIDE


def test_the_dark_picture_differs_in_surroundings_alone(tmp_path: Path) -> None:
    three_networks(tmp_path)
    figure = one(drawn(tmp_path), "macs")

    light, dark = drawing.to_svg(figure), drawing.to_svg(figure, dark=True)

    assert drawing.LIGHT["background"] in light and drawing.DARK["background"] in dark
    for paper in ("ink", "muted", "grid"):
        dark = dark.replace(drawing.DARK[paper], drawing.LIGHT[paper])
    assert dark.replace(drawing.DARK["background"], drawing.LIGHT["background"]) == light


def test_the_script_draws_by_itself_and_closes_no_element() -> None:
    script = drawing.javascript()

    assert "</script" not in script.lower()
    assert "window.vegaEmbed" in script
    assert not re.search(r"\bimport\s*\(|importScripts", script)


def test_without_the_extra_a_figure_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_networks(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "altair", None)

    with pytest.raises(RsbenchError, match=r"pip install 'rsbench\[report\]'"):
        drawn(tmp_path)


def test_vega_lite_compiles_every_kind_of_figure_without_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    three_networks(tmp_path)
    save_with_views(tmp_path, view_scores(30, 4))
    save_record(
        tmp_path,
        some_hits(80),
        task={"name": "another"},
        curve=({"epoch": 1, "train_loss": 1.0, "held_out_top1": 0.5},),
        selection=(
            {"strength": 1.0, "held_out_top1": 0.5, "chosen": True},
            {"strength": 2.0, "held_out_top1": 0.25, "chosen": False},
        ),
    )
    figures = drawn(tmp_path)

    for figure in figures.values():
        vl_convert.vegalite_to_vega(dict(figure.spec), show_warnings=True)

    assert {each.section for each in figures.values()} == {
        *("cost", "differences", "views", "learning", "selection")
    }
    assert "WARN" not in capfd.readouterr().err
