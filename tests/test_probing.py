"""What probes share: examples as numbers, what is selected on, and what bad examples come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

from rsbench.data import assembling
from rsbench.data.features import extract
from rsbench.errors import DataError, RunError
from rsbench.protocols import (
    attentive_probe,
    fewshot,
    knn,
    linear_probe,
    linear_probe_clip,
    linear_probe_dino,
    vtab1k,
)
from rsbench.protocols._probing import (
    Examples,
    held_out_places,
    read_by_row,
    read_examples,
    read_training,
    selection_sets,
)
from rsbench.specs import FitRequest, Fitted, ItemSet, Predictions, Protocol

PROTOCOLS = pytest.mark.parametrize(
    "protocol",
    [linear_probe.PROTOCOL, linear_probe_clip.PROTOCOL],
    ids=lambda protocol: protocol.name,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _request(tmp_path: Path, train: ItemSet, **changes: Any) -> FitRequest:
    network = changes.pop("network", None) or model()
    return fit_request(linear_probe.PROTOCOL, network, train, settings(tmp_path), **changes)


def _examples(labels: Sequence[int], groups: Sequence[str | None] | None = None) -> Examples:
    return Examples(
        features_ND=np.arange(2.0 * len(labels), dtype=np.float32).reshape(-1, 2),
        labels=np.array(labels),
        ids=tuple(f"{row}" for row in range(len(labels))),
        groups=tuple(groups) if groups is not None else (None,) * len(labels),
    )


# ---------------------------------------------------------------------------- examples


def test_examples_keep_features_labels_ids_and_groups_of_readable_items_together(
    tmp_path: Path,
) -> None:
    items, labels = pictures(12)
    items, labels = (*items[:3], broken_item(), *items[3:]), (*labels[:3], 1, *labels[3:])
    rows = [9, 3, 0, 12, 5]

    found = read_examples(
        _request(tmp_path, item_set(items, labels)), item_set(items, labels, rows=rows)
    )

    readable = [9, 0, 12, 5]
    features_NVD = extract(
        model(), items, image_reading(), settings(tmp_path), output="features", rows=readable
    ).values
    np.testing.assert_array_equal(found.features_ND, features_NVD[:, 0])
    assert found.labels.tolist() == [labels[row] for row in readable]
    assert found.labels.dtype == np.int64
    assert found.ids == tuple(items[row].id for row in readable)
    assert found.groups == tuple(items[row].group for row in readable)
    assert [failure.id for failure in found.failures] == ["broken"]


def test_several_labels_an_item_become_a_table_of_truth(tmp_path: Path) -> None:
    items, _ = pictures(4)
    labels: Any = [(0, 2), (), (1,), (0, 1, 2)]
    train = item_set(items, labels)

    found = read_examples(_request(tmp_path, train, target="multilabel"), train)

    assert found.labels.dtype == np.bool_
    assert found.labels.tolist() == [
        [True, False, True],
        [False, False, False],
        [False, True, False],
        [True, True, True],
    ]


def test_some_of_the_examples_and_then_others(tmp_path: Path) -> None:
    first, second = _examples([0, 1, 2]), _examples([3, 4])

    assert first.joined(None) is first
    both = first.joined(second)
    assert len(both) == 5
    assert both.labels.tolist() == [0, 1, 2, 3, 4]
    assert both.ids == ("0", "1", "2", "0", "1")
    picked = both.at([4, 0])
    assert picked.labels.tolist() == [4, 0]
    assert picked.ids == ("1", "0")
    np.testing.assert_array_equal(picked.features_ND, [[2, 3], [0, 1]])


def test_features_that_lie_in_a_memory_map_stay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsbench.data import features

    items, labels = pictures(6)
    real = features.extract
    mapped = np.memmap(tmp_path / "values", dtype=np.float32, mode="w+", shape=(6, 1, 12))

    def from_disk(*args: Any, **rest: Any) -> Any:
        extracted = real(*args, **rest)
        mapped[:] = extracted.values
        return replace(extracted, values=mapped)

    monkeypatch.setattr(features, "extract", from_disk)
    train = item_set(items, labels)

    found = read_examples(_request(tmp_path, train), train)

    assert np.shares_memory(found.features_ND, mapped)


def test_examples_by_row_are_those_in_memory_wherever_their_features_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, labels = pictures(40)
    items, labels = (*items[:3], broken_item(), *items[3:]), (*labels[:3], 1, *labels[3:])
    train = item_set(items, labels)
    request = _request(tmp_path, train)
    expected = read_examples(request, train)
    rows = np.array([30, 0, 3, 39, 3])
    for most in (assembling.LARGEST_IN_MEMORY_BYTES, 100):
        monkeypatch.setattr(assembling, "LARGEST_IN_MEMORY_BYTES", most)
        found = read_by_row(request, train, output="features")
        np.testing.assert_array_equal(found.features_ND[rows], expected.features_ND[rows])
        np.testing.assert_array_equal(found.features_ND.whole(), expected.features_ND)
        np.testing.assert_array_equal(
            read_examples(request, train).features_ND, expected.features_ND
        )
        assert found.features_ND.shape == expected.features_ND.shape == (40, 12)
        assert (found.ids, found.failures) == (expected.ids, expected.failures)


# ---------------------------------------------------------------------------- what is selected on


def test_a_share_of_each_class_is_held_out_with_groups_whole() -> None:
    labels = [row % 2 for row in range(40)]
    groups = [f"g{row // 4}" for row in range(40)]

    kept, held = held_out_places(_examples(labels, groups), share=0.2, seed=3)

    assert sorted([*kept, *held]) == list(range(40))
    assert [sum(labels[row] == k for row in held) for k in (0, 1)] == [4, 4]
    assert not {groups[row] for row in kept} & {groups[row] for row in held}


def test_official_validation_goes_before_a_share_of_train(tmp_path: Path) -> None:
    items, labels = pictures(30)
    request = _request(
        tmp_path,
        item_set(items, labels, rows=range(20)),
        validation=item_set(items, labels, rows=range(20, 30)),
    )

    training = read_training(request)
    sets = selection_sets(request, *training, held_out=0.2)

    assert sets.where == "validation"
    assert (len(sets.kept), len(sets.held)) == (20, 10)
    assert training.everything.ids == tuple(item.id for item in items)


def test_validation_data_that_can_not_be_read_is_an_error_that_says_why(tmp_path: Path) -> None:
    items, labels = pictures(12)
    request = _request(tmp_path, item_set(items, labels), validation=item_set([broken_item()], [0]))

    with pytest.raises(DataError, match=r"validation data, and no item .*the first is broken"):
        selection_sets(request, *read_training(request), held_out=0.2)


def _small(protocol: Protocol, **changes: Any) -> Protocol:
    return replace(protocol, recipe={**protocol.recipe, **changes})


LEARNERS = pytest.mark.parametrize(
    "protocol",
    [
        linear_probe.PROTOCOL,
        linear_probe_clip.PROTOCOL,
        knn.PROTOCOL,
        fewshot.PROTOCOL,
        _small(linear_probe_dino.PROTOCOL, epochs=1, epoch_iterations=8, batch_size=4),
        _small(
            linear_probe_dino.PROTOCOL, epochs=1, epoch_iterations=8, batch_size=4, augment=False
        ),
        _small(vtab1k.PROTOCOL, steps="8", batch_size=4),
        _small(vtab1k.PROTOCOL, steps="8", batch_size=4, train="head"),
        _small(attentive_probe.PROTOCOL, epochs=1, batch_size=4, num_blocks=1, num_heads=3),
    ],
    ids=lambda protocol: (
        f"{protocol.name}-{protocol.recipe.get('augment')}-{protocol.recipe.get('train')}"
    ),
)


@LEARNERS
def test_one_class_is_refused_by_all_that_learn(tmp_path: Path, protocol: Protocol) -> None:
    items, _ = pictures(24)
    train = item_set(items, [0] * 24)

    with pytest.raises(DataError, match=r"^A classifier needs examples of at least two classes"):
        protocol.fit(fit_request(protocol, model(), train, settings(tmp_path)))


@LEARNERS
def test_a_lone_readable_example_is_refused_by_all_that_learn(
    tmp_path: Path, protocol: Protocol
) -> None:
    items, labels = pictures(25)
    broken = [broken_item(f"broken_{number}") for number in range(4)]
    train = item_set((*broken, items[0]), (1, 2, 0, 1, labels[0]))
    request = fit_request(
        protocol,
        model(),
        train,
        settings(tmp_path),
        validation=item_set(items[1:], labels[1:]),
    )

    said = r"^A classifier .* there are 1 examples of 1: .*; 4 others .*, the first is broken_\d: "
    with pytest.raises(DataError, match=said):
        protocol.fit(request)


@LEARNERS
def test_train_data_of_which_nothing_can_be_read_are_refused_by_all_that_learn(
    tmp_path: Path, protocol: Protocol
) -> None:
    items, labels = pictures(24)
    train = item_set([broken_item(f"broken_{number}") for number in range(6)], [0, 1, 2, 0, 1, 2])
    request = fit_request(
        protocol, model(), train, settings(tmp_path), validation=item_set(items, labels)
    )

    # Random views are read as they are trained on, and the loop says that there are none.
    is_random = protocol.recipe.get("augment") is True
    kind = RunError if is_random else DataError
    said = (
        "^Training needs at least two examples that can be read"
        if is_random
        else "^A classifier .* there are 0 examples of 0: .*; 6 others .*, the first is broken_0: "
    )
    with pytest.raises(kind, match=said):
        protocol.fit(request)


def test_labels_of_nothing_readable_are_refused_too(tmp_path: Path) -> None:
    items, _ = pictures(4)
    labels: Any = [(0, 2), (), (1,), (0, 1, 2)]
    request = _request(
        tmp_path,
        item_set([broken_item()], labels[:1]),
        validation=item_set(items, labels),
        target="multilabel",
    )

    with pytest.raises(DataError, match=r"^A classifier needs examples .* the first is broken: "):
        linear_probe.PROTOCOL.fit(request)


# ---------------------------------------------------------------------------- bad features


class _Poisoned(Quarters):
    """NaN for pictures without any contrast."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = super().forward(batch)
        features[batch.flatten(2).std(dim=2).amax(dim=1) < 1e-3] = math.nan
        return features


def _probe(
    tmp_path: Path, protocol: Protocol, network: Any, train: ItemSet, test: ItemSet, **changes: Any
) -> tuple[Fitted, Predictions]:
    recipe = {**protocol.recipe, **changes.pop("recipe", {})}
    machine = settings(tmp_path)
    request = fit_request(protocol, network, train, machine, recipe=recipe, **changes)
    fitted = protocol.fit(request)
    return fitted, protocol.predict(
        predict_request(protocol, network, fitted, test, machine, recipe=recipe)
    )


@PROTOCOLS
@pytest.mark.parametrize("where", ["train", "validation", "test", "allowed_test"])
def test_an_item_whose_features_are_not_numbers_is_named(
    tmp_path: Path, protocol: Protocol, where: str
) -> None:
    items, labels = pictures(40)
    grey = replace(items[0], id="grey", source=np.full((8, 8, 3), 90, np.uint8))
    rows = {"train": range(20), "validation": range(20, 30), "test": range(30, 40)}
    pool = list(items)
    at = "test" if where == "allowed_test" else where
    pool[rows[at][2]] = grey
    sets = {name: item_set(pool, labels, rows=some) for name, some in rows.items()}
    allowed = {"allowed_test": sets["test"]} if where == "allowed_test" else {}

    with pytest.raises(RunError, match=r"NaN or infinite for 1 of \d+ items: grey\.") as caught:
        _probe(
            *(tmp_path, protocol, model(_Poisoned()), sets["train"]),
            replace(sets["test"], targets=None),
            validation=sets["validation"],
            **allowed,
        )
    assert "\n" not in str(caught.value)


class _Same(Quarters):
    """The same features for every picture."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.full((len(batch), self.width), 3.0)


@PROTOCOLS
def test_features_that_are_all_constant_give_the_class_shares_and_are_counted(
    tmp_path: Path, protocol: Protocol
) -> None:
    items, _ = pictures(20)
    labels = [0] * 10 + [1] * 6 + [2] * 4

    fitted, said = _probe(
        *(tmp_path, protocol, model(_Same()), item_set(items, labels)), item_set(items, None)
    )

    # With nothing to tell items apart the likeliest probabilities are the shares of train.
    np.testing.assert_allclose(np.stack(said.values), [[0.5, 0.3, 0.2]] * 20, atol=1e-3)
    assert fitted.chosen["num_constant_features"] == 12
    assert fitted.chosen["converged"]


@PROTOCOLS
def test_a_class_that_train_lacks_and_validation_has_is_learned_at_the_refit(
    tmp_path: Path, protocol: Protocol
) -> None:
    items, labels = pictures(60)
    no_class_2 = [row for row in range(40) if labels[row] != 2]

    fitted, said = _probe(
        *(tmp_path, protocol, model(), item_set(items, labels, rows=no_class_2)),
        item_set(items, None, rows=[*no_class_2, *range(40, 60)]),
        validation=item_set(items, labels, rows=range(40, 60)),
    )

    # While selecting, a third of the validation items can't be right.
    best = max(float(row["held_out_top1"]) for row in fitted.selection)  # type: ignore[arg-type]
    assert best <= 14 / 20
    # Where the bias is free and the fit is done, mean probabilities are the class shares fitted on.
    mean_K = np.stack(said.values).mean(axis=0)
    np.testing.assert_allclose(mean_K, np.array([20, 20, 7]) / 47, atol=1e-3)


@PROTOCOLS
def test_a_class_that_nobody_has_can_not_be_said(tmp_path: Path, protocol: Protocol) -> None:
    items, labels = pictures(30)

    _, said = _probe(
        *(tmp_path, protocol, model(), item_set(items, labels, num_classes=5)),
        item_set(items, None, num_classes=5),
    )

    assert (np.stack(said.values)[:, 3:] == 0).all()


@PROTOCOLS
def test_one_class_alone_is_an_error(tmp_path: Path, protocol: Protocol) -> None:
    items, _ = pictures(12)

    with pytest.raises(DataError, match="at least two classes"):
        _probe(tmp_path, protocol, model(), item_set(items, [1] * 12), item_set(items, None))


@PROTOCOLS
@pytest.mark.parametrize("scale", ["mean", "C"])
def test_the_hugest_strengths_that_a_recipe_takes_give_numbers(
    tmp_path: Path, protocol: Protocol, scale: str
) -> None:
    items, labels = pictures(30, noise=60)
    huge = {
        "strength_min": 1e-100,
        "strength_max": 1e100,
        "strengths": 5,
        "strength_scale": scale,
        "max_iterations": 50,
    }

    fitted, said = _probe(
        *(tmp_path, protocol, model(), item_set(items, labels), item_set(items, None)),
        recipe={**huge, **({"coarse_step": 2} if "coarse_step" in protocol.recipe else {})},
    )

    values = np.stack(said.values)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-3)
    for row in fitted.selection:
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    # The strongest of all leaves the weights at nothing: every item is given the class shares.
    strongest = min(fitted.selection, key=lambda row: float(row["c"]))  # type: ignore[arg-type]
    assert strongest["held_out_top1"] == pytest.approx(1 / 3)


@PROTOCOLS
def test_a_fit_that_runs_out_of_iterations_is_recorded_with_its_gap(
    tmp_path: Path, protocol: Protocol
) -> None:
    items, labels = pictures(60, noise=120)
    train, test = item_set(items, labels), item_set(items, None)

    weak = {"strengths": 9, "strength_min": 1e-4, "strength_max": 1e-1, "coarse_step": 4}
    recipe = {key: value for key, value in weak.items() if key in protocol.recipe}

    short, _ = _probe(
        tmp_path, protocol, model(), train, test, recipe={**recipe, "max_iterations": 1}
    )
    whole, _ = _probe(tmp_path, protocol, model(), train, test, recipe=recipe)

    assert not short.chosen["converged"]
    assert short.chosen["relative_gap"] > protocol.recipe["tolerance"]  # type: ignore[operator]
    assert whole.chosen["converged"]
    assert whole.chosen["relative_gap"] <= protocol.recipe["tolerance"]  # type: ignore[operator]
    for row in whole.selection:
        assert {"iterations", "converged", "relative_gap", "gradient_norm"} <= row.keys()
        assert row["converged"] == (row["relative_gap"] <= protocol.recipe["tolerance"])  # type: ignore[operator]
