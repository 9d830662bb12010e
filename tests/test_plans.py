"""Studies laid out for a network: what each row changes, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from command_line import rsbench

from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.plans import OPTIMIZERS, RS, RS_VIDEO, STUDIES, Plan, Step, Study, find_study, plan_of
from rsbench.plans import with_options as with_options_of
from rsbench.registry import find_backbone, find_protocol

PLAIN = "+squeeze_ratio=0+stem=plain+shortcut=strided"


def _plan(
    study: Study = RS,
    backbone: str = "resnet_rs_50",
    *,
    held: Mapping[str, str] | None = None,
    times_epochs: float = 1.0,
    options: tuple[str, ...] = ("squeeze_ratio", "stem", "shortcut"),
) -> Plan:
    return plan_of(
        study,
        backbone,
        held=held or {},
        times_epochs=times_epochs,
        has_option=lambda key, value: key in options,
    )


# Bello et al. 2021 (arXiv 2103.07579), table 1: step, top-1, change.
TABLE_1 = (
    ("ResNet", 79.0, None),
    ("+ cosine LR decay", 79.3, 0.3),
    ("+ more epochs", 78.8, -0.5),
    ("+ EMA of weights", 79.1, 0.3),
    ("+ label smoothing", 80.4, 1.3),
    ("+ stochastic depth", 80.6, 0.2),
    ("+ RandAugment", 81.0, 0.4),
    ("+ dropout on FC", 80.7, -0.3),
    ("+ less weight decay", 82.2, 1.5),
    ("+ squeeze-and-excitation", 82.9, 0.7),
    ("+ ResNet-D", 83.4, 0.5),
)


def test_the_study_has_the_papers_steps_in_the_papers_order() -> None:
    rows = _plan().rows

    assert [(row.name, row.published, row.published_change) for row in rows] == list(TABLE_1)
    assert [row.compared_with for row in rows] == [None, *range(10)]


def test_the_study_begins_with_the_baseline_and_a_plain_network() -> None:
    first = _plan().rows[0]
    protocol = find_protocol(RS.protocol).spec
    typed = {key: type(protocol.recipe[key])(word) for key, word in first.overrides.items()}

    assert {**protocol.recipe, **typed} == protocol.recipe, "the first row is the protocol itself"
    assert first.backbone == f"resnet_rs_50{PLAIN}"


def test_the_study_ends_with_the_published_recipe_and_network() -> None:
    last = _plan(backbone="resnet_rs_200").rows[-1]
    protocol = find_protocol("train_rs_imagenet").spec
    published = find_backbone("resnet_rs_200").spec.published_training
    assert published is not None
    expected = {**protocol.recipe, **published(256)}

    assert last.backbone == "resnet_rs_200"
    # What the study does not vary is the baseline's: batch, crops, rate; drops_at is then idle.
    for key in last.overrides.keys() - {"drops_at"}:
        word, value = last.overrides[key], expected[key]
        same = float(word) == float(value) if word[:1].isdigit() else word == value
        assert same, f"{key} is {word} after the last step, and {value} in the official recipe"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_step_changes_the_row_before_it_in_words_the_protocol_knows(study: Study) -> None:
    rows = _plan(study, "net").rows
    recipe = find_protocol(study.protocol).spec.recipe

    assert len({(row.backbone, tuple(sorted(row.overrides.items()))) for row in rows}) == len(rows)
    for row in rows:
        assert row.overrides.keys() <= recipe.keys()


def test_the_video_study_jitters_the_scale_where_images_have_randaugment() -> None:
    # Bello et al. 2021, section 8; k400_resnet3drs_50_tpu.yaml: dropout 0.5; table 6 has the ends.
    rows = _plan(RS_VIDEO, "resnet_rs_3d_50", options=("squeeze_ratio", "stem")).rows
    last = rows[-1]

    assert "+ RandAugment" not in {row.name for row in rows}
    assert (last.overrides["scale_jitter"], last.overrides["dropout"]) == ("256-320", "0.5")
    assert (rows[0].published, rows[-3].published, last.published) == (73.4, 77.4, 78.2)
    assert [row.published_change for row in rows] == [None] * len(rows)


def test_rates_of_the_optimizers_grow_with_the_batch() -> None:
    rows = _plan(OPTIMIZERS, options=()).rows
    rates = {
        row.name: float(row.overrides["learning_rate"])
        * int(row.overrides["batch_size"])
        / int(row.overrides["learning_rate_batch"])
        for row in rows
    }

    # By hand: ResNet-RS 0.1 x 4096 / 256; SimCLR says 4.8 for 4,096; DeiT 5e-4 for 512.
    assert rates["SGD, batch 4096"] == pytest.approx(1.6)
    assert rates["LARS, batch 4096"] == pytest.approx(4.8)
    assert rates["AdamW, batch 1024"] == pytest.approx(1e-3)
    assert [row.compared_with for row in rows] == [None, *[0] * 8]


def test_batch_sizes_can_be_named() -> None:
    steps = find_study("optimizers", batch_sizes=(64, 8, 64)).steps

    assert [step.name for step in steps][:3] == ["SGD, batch 64", "SGD, batch 8", "LARS, batch 64"]


def test_an_alternative_does_not_keep_the_one_before_it() -> None:
    steps = (Step(name="a", overrides={"momentum": "0"}), Step(name="b", restores=("stem",)))
    study = replace(OPTIMIZERS, first="start", steps=steps, without={"stem": "plain"})
    rows = _plan(study, "net").rows

    assert [row.overrides.get("momentum") for row in rows] == [None, "0", None]
    assert [row.backbone for row in rows] == ["net+stem=plain", "net+stem=plain", "net"]
    assert [row.compared_with for row in rows] == [None, 0, 0]


def test_what_the_user_holds_leaves_its_step_out_and_keeps_the_papers_changes() -> None:
    plan = _plan(held={"label_smoothing": "0.2", "batch_size": "64"})
    by_name = {row.name: row for row in plan.rows}

    assert "+ label smoothing" not in by_name
    assert all(row.overrides["label_smoothing"] == "0.2" for row in plan.rows)
    assert all(row.overrides["batch_size"] == "64" for row in plan.rows)
    assert by_name["+ stochastic depth"].published_change == 0.2
    # It is compared with what is above it now.
    assert plan.rows[4].name == "+ stochastic depth"
    assert plan.rows[4].compared_with == 3
    assert plan.notes == (
        '"+ label smoothing" is left out: --set label_smoothing=0.2 holds it for all.',
    )


def test_a_step_that_sets_more_than_is_held_stays() -> None:
    plan = _plan(held={"randaugment_magnitude": "10"})
    row = next(row for row in plan.rows if row.name == "+ RandAugment")

    assert (row.overrides["randaugment_layers"], row.overrides["randaugment_magnitude"]) == (
        "2",
        "10",
    )


def test_what_a_step_brings_along_goes_with_what_it_is_about() -> None:
    """Statistics of the last batch alone are for the average; a warm-up is not "more epochs"."""
    plan = _plan(held={"ema_decay": "0", "epochs": "5"})

    assert not {"+ EMA of weights", "+ more epochs"} & {row.name for row in plan.rows}
    assert {row.overrides["norm_momentum"] for row in plan.rows} == {"0.1"}
    assert len({row.overrides["warmup_share"] for row in plan.rows}) == 1


@pytest.mark.parametrize("held", [{"batch_size": "64"}, {"optimizer": "lars"}], ids=str)
def test_no_row_has_a_name_that_the_user_has_made_untrue(held: Mapping[str, str]) -> None:
    with pytest.raises(RsbenchError, match=r"of optimizers nothing is left: .* --batch-sizes"):
        _plan(OPTIMIZERS, held=held)


def test_epochs_shrink_together() -> None:
    rows = _plan(times_epochs=0.1).rows

    # By hand: a tenth of 90 and of 350; at least one stays.
    assert [row.overrides["epochs"] for row in rows[:3]] == ["9", "9", "35"]
    assert _plan(times_epochs=0.001).rows[0].overrides["epochs"] == "1"


def test_epochs_are_not_held_and_multiplied() -> None:
    with pytest.raises(RsbenchError, match=r"--times-epochs 0\.1 .* --set epochs=5 holds"):
        _plan(held={"epochs": "5"}, times_epochs=0.1)


def test_a_network_without_these_options_keeps_its_form_and_that_is_said() -> None:
    plan = _plan(backbone="tiny_2d", options=())

    assert {row.backbone for row in plan.rows} == {"tiny_2d"}
    assert [row.name for row in plan.rows][-1] == "+ less weight decay"
    assert plan.notes == (
        '"+ squeeze-and-excitation" is left out: tiny_2d has no option squeeze_ratio.',
        '"+ ResNet-D" is left out: tiny_2d has no option stem or shortcut.',
    )


def test_a_network_with_some_of_the_options_takes_the_step_with_these() -> None:
    plan = _plan(backbone="resnet_rs_3d_50", options=("squeeze_ratio", "stem"))

    assert plan.rows[0].backbone == "resnet_rs_3d_50+squeeze_ratio=0+stem=plain"
    assert plan.rows[-2].backbone == "resnet_rs_3d_50+stem=plain"
    assert plan.rows[-1].backbone == "resnet_rs_3d_50"
    assert plan.notes == ('"+ ResNet-D" is all but option shortcut: resnet_rs_3d_50 has none.',)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("net", {}, "net"),
        ("net", {"a": "1"}, "net+a=1"),
        ("net@160", {"a": "1", "b": "2"}, "net+a=1+b=2@160"),
        ("net+b=3+c=4@160", {"b": "2"}, "net+b=2+c=4@160"),
        ("timm/net@v2", {"a": "1"}, "timm/net@v2+a=1"),
    ],
)
def test_options_are_put_into_a_name(name: str, options: dict[str, str], expected: str) -> None:
    assert with_options_of(name, options) == expected


def test_a_network_of_its_own_options_gets_them_back() -> None:
    rows = _plan(backbone="resnet_rs_50+squeeze_ratio=0.125@64").rows

    assert rows[0].backbone == "resnet_rs_50+squeeze_ratio=0+stem=plain+shortcut=strided@64"
    assert rows[-1].backbone == "resnet_rs_50+squeeze_ratio=0.125@64"


def test_a_wrong_name_gets_the_near_one_and_batch_sizes_their_study() -> None:
    with pytest.raises(UnknownNameError, match=r"No study is called 'optimisers'.* optimizers"):
        find_study("optimisers")
    with pytest.raises(RsbenchError, match=r"--batch-sizes must go with .* optimizers; .* was rs"):
        find_study("rs", batch_sizes=(8,))


def test_studies_are_listed_with_what_each_step_sets() -> None:
    words = rsbench("ls", "studies").out.splitlines()
    listed = json.loads(rsbench("ls", "studies", "--json").out)

    assert "  + label smoothing: label_smoothing=0.1" in words
    assert "  + ResNet-D: no longer stem=plain, no longer shortcut=strided" in words
    assert [study["name"] for study in listed] == [study.name for study in STUDIES]
    assert listed[0]["steps"][-1] == {
        "name": "+ ResNet-D",
        "overrides": {},
        "restores": ["stem", "shortcut"],
        "published": 83.4,
    }
