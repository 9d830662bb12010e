"""What every registered task, backbone and protocol must keep, found through the registry.

A plug-in that is added is tried here without a line being written. Tasks are tried on their
samples, made of fewer scenes where they are long; networks on the meta device, where only shapes
are computed. With RSBENCH_SOAK set, the slow tests try samples of their full size, and every
network with numbers.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import (
    Quarters,
    broken_item,
    fit_request,
    image_reading,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)
from torch import nn

from rsbench.cells import _parse_like
from rsbench.checks import check_backbone, check_task
from rsbench.checks.loading import class_indices
from rsbench.data.multilabel_sample import write_multilabel_sample
from rsbench.data.sample import sample_root, write_motion_sample, write_motion_segments
from rsbench.media.crops import resolve_cropper
from rsbench.media.random_sampling import resolve_random_sampler
from rsbench.media.sampling import resolve_sampler, sample_clips
from rsbench.profile import count_parameters
from rsbench.records import heads
from rsbench.registry import Found, everything, find_backbone, find_protocol, find_task
from rsbench.specs import Backbone, Fitted, Protocol, Task
from rsbench.view_scores import PROBABILITY_ERROR
from rsbench.viewing import TRAIN_SAMPLER

# Read now: no test sees the user's RSBENCH_ variables.
SOAK = "RSBENCH_SOAK" in os.environ
SMALL = 1_000_000
"""Parameters up to which a network is tried with numbers."""


def names_of(kind: Any) -> list[str]:
    return [found.spec.name for found in everything(kind)[0]]


TASKS, BACKBONES, PROTOCOLS = names_of("task"), names_of("backbone"), names_of("protocol")
SMALL_BACKBONES = [name for name in BACKBONES if find_backbone(name).spec.num_parameters <= SMALL]


pytestmark = pytest.mark.usefixtures("one_thread")


def test_everything_that_is_registered_can_be_imported() -> None:
    broken = [found for kind in ("task", "backbone", "protocol") for found in everything(kind)[1]]

    assert broken == []
    assert {"kinetics400", "kinetics600", "kinetics700", "folder", "csv"} <= {*TASKS}
    assert {"ucf101", "hmdb51"} <= {*TASKS}
    assert {"food101", "cifar10", "cifar100", "birdsnap", "sun397", "stanford_cars"} <= {*TASKS}
    assert {"fgvc_aircraft", "voc2007", "dtd", "oxford_iiit_pet", "caltech101"} <= {*TASKS}
    assert "oxford_flowers102" in TASKS
    assert {"something_something_v2", "jester", "diving48", "charades"} <= {*TASKS}
    assert {"resnet_rs_50", "resnet_rs_3d_50", "tiny_2d", "tiny_3d"} <= {*BACKBONES}
    assert {"linear_probe", "finetune", "evaluate"} <= {*PROTOCOLS}


@pytest.mark.parametrize("name", [*TASKS, *BACKBONES, *PROTOCOLS])
def test_a_name_is_one_word_that_files_and_commands_can_hold(name: str) -> None:
    # A network of another library is LIBRARY/NAME; files of records and caches have it without "/".
    assert re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)?", name)
    assert "/" not in name or name in BACKBONES


# ------------------------------------------------------------------------------------- tasks

TYPE_OF_TARGET = {"class": int, "multilabel": tuple}


def shortened(found: Found[Task]) -> Found[Task]:
    """Let a sample of motion clips have few scenes; it is written in the same layout."""
    write = found.spec.sample.write
    if not isinstance(write, functools.partial):
        return found
    if write.func is write_motion_segments and found.spec.fold_average == "mean":
        # Four scenes are the fewest of which each official split tests and trains on some.
        short = functools.partial(write, num_scenes=4)
        return replace(
            found, spec=replace(found.spec, sample=replace(found.spec.sample, write=short))
        )
    if write.func not in {write_motion_sample, write_multilabel_sample}:
        return found
    short = functools.partial(write, num_train_scenes=2, num_test_scenes=1)
    return replace(found, spec=replace(found.spec, sample=replace(found.spec.sample, write=short)))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_answers_every_question_well(name: str, session_cache: Path) -> None:
    found = shortened(find_task(name))

    checks = check_task(found, data=None, cache_root=session_cache)

    assert [check for check in checks if not check.ok] == []
    # What rsbench.checks asks; a task whose sample did not load would be asked less.
    asked = {check.name for check in checks}
    assert {"counts", "ids", "labels", "separation", "stable order", "decoding"} <= asked
    assert {"preprocessing", "repeatable reading"} <= asked
    assert {f"metric {metric.name}" for metric in found.spec.metrics} <= asked


@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="half a minute a task: RSBENCH_SOAK is not set")
@pytest.mark.parametrize("name", TASKS)
def test_a_task_at_full_size_answers_every_question_well(name: str, session_cache: Path) -> None:
    checks = check_task(find_task(name), data=None, cache_root=session_cache)

    assert [check for check in checks if not check.ok] == []


@pytest.mark.parametrize("name", TASKS)
def test_a_sample_comes_through_the_loader_whole(name: str, session_cache: Path) -> None:
    found = shortened(find_task(name))
    root = sample_root(found.spec, session_cache)
    task = found.for_root(root) if found.for_root is not None else found.spec

    folds = task.folds(root) if callable(task.folds) else task.folds

    assert folds
    assert len({fold.name for fold in folds}) == len(folds)
    tested = []
    for fold in folds:
        loaded = {
            each: task.load(root, each)
            for each in (fold.train, fold.validation, fold.test)
            if each is not None
        }
        ids = [item.id for split in loaded.values() for item in split.items]
        assert len(ids) == len(set(ids))
        for split in loaded.values():
            assert split.items
            assert split.missing == ()
            assert split.num_official == len(split.items)
            assert split.classes == loaded[fold.test].classes
            assert all(isinstance(item.target, TYPE_OF_TARGET[task.target]) for item in split.items)
            labels = [label for item in split.items for label in class_indices(item.target)]
            assert all(type(each) is int and 0 <= each < len(split.classes) for each in labels)
        tested += [item.id for item in loaded[fold.test].items]
    assert len(tested) == len(set(tested))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_all_that_a_reader_needs(name: str) -> None:
    found = find_task(name)
    task = found.spec

    assert task.name == name
    assert min(task.version, task.sample.version) >= 1
    assert all(text.strip() for text in (task.title, task.licence, task.how_to_get))
    assert task.citation or found.for_root is not None
    assert len({metric.name for metric in task.metrics}) == len(task.metrics) >= 1
    # An average precision is no mean over items.
    assert (task.metrics[0].per_item is None) == (task.target == "multilabel")
    assert min(task.views.clips, task.views.crops, task.sample.views.num_views) >= 1


@pytest.mark.parametrize("name", TASKS)
def test_the_samplers_of_a_task_cut_its_own_clips(name: str) -> None:
    task = find_task(name).spec
    if task.sampler is not None:
        assert resolve_sampler(task.sampler) == task.sampler, "a sampler carries its version"
        looks = [(task.clip, task.views), (task.sample.clip or task.clip, task.sample.views)]
        for clip, views in looks:
            assert clip is not None
            sample_clips(task.sampler, num_frames=30, clip=clip, num_clips=views.clips, fps=30.0)
    if task.train_sampler is not None:
        named = resolve_random_sampler(task.train_sampler)
        assert named == task.train_sampler, "a sampler carries its version"


# --------------------------------------------------------------------------------- backbones


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_has_exactly_the_parameters_it_declares(name: str) -> None:
    spec = find_backbone(name).spec

    with torch.device("meta"):
        module = spec.build(spec.parameters_with_classes)

    assert count_parameters(module) == spec.num_parameters
    assert (module.head is None) == (spec.parameters_with_classes is None)
    if spec.num_parameters < 100 * SMALL:
        assert_features_on_meta(spec, module)


def assert_features_on_meta(spec: Backbone, module: nn.Module) -> None:
    """Run two items, as small as a network of stride 32 can take; no number is computed.

    Position embeddings tie some networks to the declared size.
    """
    frames = (min(spec.input.frames, 8),) if spec.modality == "video" else ()
    small = (2, len(spec.input.mean), *frames, 64, 64)
    declared = (*small[:2], *([spec.input.frames] if frames else []), *[spec.input.pixels] * 2)

    with torch.inference_mode():
        try:
            features = module.eval()(torch.empty(small, device="meta"))
        except ValueError:
            features = module.eval()(torch.empty(declared, device="meta"))

    assert tuple(features.shape) == (2, spec.feature_width)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_says_all_that_a_reader_needs(name: str) -> None:
    spec = find_backbone(name).spec

    assert spec.name == name
    assert spec.version >= 1
    assert all(text.strip() for text in (spec.title, spec.licence, spec.citation))
    for given in (spec.input, *(weights.input for weights in spec.weights)):
        assert min(given.pixels, given.frames, given.stride) >= 1
        assert (given.frames == 1) == (spec.modality == "image")
        assert len(given.mean) == len(given.std)
        assert 0 < given.crop_ratio <= 1
    names = [weights.name for weights in spec.weights]
    assert len(names) == len({*names, "none", "pretrained"}) - 2
    for weights in spec.weights:
        assert weights.url or weights.source
        assert weights.sha256 is None or re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", weights.sha256)
        assert weights.published_conditions or not weights.published


@pytest.mark.parametrize("name", SMALL_BACKBONES)
def test_a_small_backbone_answers_every_question_well(name: str) -> None:
    checks = check_backbone(find_backbone(name))

    assert [check for check in checks if not check.ok] == []
    assert {"features", "stage maps", "head", "batch independence"} <= {
        each.name for each in checks
    }


@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="half a minute a network: RSBENCH_SOAK is not set")
@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in SMALL_BACKBONES])
def test_a_large_backbone_answers_every_question_well(name: str) -> None:
    assert [check for check in check_backbone(find_backbone(name)) if not check.ok] == []


# --------------------------------------------------------------------------------- protocols

QUICK = {"strengths": 5, "epochs": 1, "epoch_iterations": 3, "steps": "2,3", "num_heads": 4}
"""What makes a recipe quick, where it has it."""


QUICK_TRAINING = {
    "epochs": 1,
    "batch_size": 8,
    # Nothing is published of the network of this world, and it skips nothing.
    "dropout": "0.2",
    "stochastic_depth": "0",
    "randaugment_magnitude": "10",
    "learning_rates": "0.1,0.01",
    "weight_decays": "0,0.001",
}
"""The same of those that train a whole network by the common recipe."""


def quick(protocol: Protocol) -> Mapping[str, Any]:
    if "full_batches" not in protocol.recipe:
        return {key: QUICK.get(key, value) for key, value in protocol.recipe.items()}
    steps = {"steps": 5 if protocol.recipe["steps"] else 0}
    return {
        key: {**QUICK_TRAINING, **steps}.get(key, value) for key, value in protocol.recipe.items()
    }


def head() -> nn.Module:
    """Weights' own head, for protocols that train nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(Quarters.width, 3)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_says_all_that_moves_its_scores(name: str) -> None:
    protocol = find_protocol(name).spec

    assert protocol.name == name
    assert protocol.version >= 1
    assert all(
        text.strip()
        for text in (protocol.title, protocol.citation, protocol.selects(protocol.recipe))
    )
    assert protocol.targets
    assert resolve_sampler(protocol.sampler) == protocol.sampler, "a sampler carries its version"
    assert resolve_cropper(protocol.cropper) == protocol.cropper, "a cropper carries its version"
    if TRAIN_SAMPLER in protocol.recipe:
        named = str(protocol.recipe[TRAIN_SAMPLER])
        assert resolve_random_sampler(named) == named, "a sampler carries its version"
    assert json.loads(json.dumps(dict(protocol.recipe), allow_nan=False)) == protocol.recipe
    assert {type(value) for value in protocol.recipe.values()} <= {str, int, float, bool}
    assert protocol.train_passes(protocol.recipe) >= 0


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_value_of_a_recipe_survives_being_typed(name: str) -> None:
    for key, value in find_protocol(name).spec.recipe.items():
        typed = str(value).lower() if isinstance(value, bool) else str(value)
        parsed = _parse_like(value, typed, where=key)
        assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_gives_one_prediction_an_item_that_outlives_its_file(
    name: str, tmp_path: Path
) -> None:
    protocol = find_protocol(name).spec
    if "class" not in protocol.targets:
        pytest.skip(f"{name} gives {', '.join(sorted(protocol.targets))}, this world has classes")
    items, labels = pictures(24)
    pool = (*items, broken_item())
    train = item_set(pool, (*labels, 0), rows=[*range(18), 24])
    test = item_set(pool, None, rows=[20, 24, 19, 18, 23, 22, 21])
    network = functools.partial(model, head=head())
    machine = settings(tmp_path)

    def fit(seed: int) -> Fitted:
        asked = fit_request(
            protocol,
            network(),
            train if protocol.trains else None,
            machine,
            recipe=quick(protocol),
            seed=seed,
        )
        return protocol.fit(asked)

    def predict(fitted: Fitted) -> Any:
        asked = predict_request(
            protocol,
            network(),
            fitted,
            test,
            machine,
            recipe=quick(protocol),
            reading=image_reading(crops=3),
        )
        return protocol.predict(asked)

    fitted = fit(0)
    predictions = predict(fitted)

    assert len(predictions.values) == 7
    assert [failure.id for failure in predictions.failures] == ["broken"]
    assert predictions.values[1] is None
    readable = [value for value in predictions.values if value is not None]
    assert all(value.shape == (3,) and value.dtype == np.float32 for value in readable)
    np.testing.assert_allclose(np.stack(readable).sum(axis=1), 1, atol=3 * PROBABILITY_ERROR)
    assert [each.id for each in fitted.failures] == (["broken"] if protocol.trains else [])
    json.dumps([dict(fitted.chosen), *map(dict, fitted.selection)], allow_nan=False)

    content = heads.to_bytes({"": fitted.arrays}, classes=test.classes)
    kept = predict(Fitted(arrays=heads.from_bytes(content, fold=None, where="kept").arrays))
    again = predict(fit(0))
    for value, from_file, second in zip(predictions.values, kept.values, again.values, strict=True):
        np.testing.assert_array_equal(value, from_file)
        np.testing.assert_array_equal(value, second)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_selects_on_the_test_set_where_it_may_and_nowhere_else(
    name: str, tmp_path: Path
) -> None:
    protocol = find_protocol(name).spec
    if protocol.selects(protocol.recipe) == "nothing" or "class" not in protocol.targets:
        pytest.skip(f"{name} selects nothing, or no classes")
    items, labels = pictures(36)
    train, validation, test = (
        item_set(items, labels, rows=rows) for rows in (range(24), range(24, 30), range(30, 36))
    )

    def selected_on(**sets: Any) -> tuple[object, object]:
        request = fit_request(
            protocol, model(), train, settings(tmp_path), recipe=quick(protocol), **sets
        )
        chosen = protocol.fit(request).chosen
        return chosen["selected_on"], chosen["num_selected_on"]

    assert selected_on()[0] == "held-out train"
    assert selected_on(validation=validation, allowed_test=test) == ("test", 6)
