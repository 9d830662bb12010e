"""The engine of the trainings: what is trained on, held out and kept, and how a network is set up.

Small worlds, made here; the numbers of the recipes are held in test_training_recipe.py, the loop in
test_loop.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import (
    INPUT,
    Quarters,
    broken_item,
    fit_request,
    item_set,
    model,
    pictures,
    predict_request,
    settings,
)
from torch import nn
from torchvision.ops import StochasticDepth

from rsbench import estimate as estimating
from rsbench import runner
from rsbench.cells import RunRequest, prepare
from rsbench.errors import DataError, RsbenchError
from rsbench.protocols import _training
from rsbench.protocols._networks import with_classifier
from rsbench.protocols._regularisation import regularise
from rsbench.protocols._trained import split_items
from rsbench.protocols._training_recipe import NEUTRAL, TrainingRecipe
from rsbench.protocols._training_score import HeldOut
from rsbench.protocols.finetune import PROTOCOL
from rsbench.registry import find_backbone
from rsbench.runner import run
from rsbench.specs import Fitted, ItemSet, Model

pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(**changes: Any) -> dict[str, Any]:
    # Crops and mirrors would move the bright quarter: the small world wants neither.
    still = {"smallest_crop": 1.0, "widest_aspect": 1.0, "flip_probability": 0.0}
    return {**NEUTRAL, **still, "epochs": 3, "learning_rate": 0.1, **changes}


def _fit(folder: Path, train: ItemSet, *, network: Model | None = None, **changes: Any) -> Fitted:
    asked = {"recipe": _recipe(), **changes}
    return PROTOCOL.fit(fit_request(PROTOCOL, network or model(), train, settings(folder), **asked))


def _same(one: Fitted, other: Fitted) -> bool:
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


# --------------------------------------------------------------------- what is held out and kept


def test_the_best_epoch_is_kept_and_is_the_one_that_a_training_of_its_length_ends_with(
    tmp_path: Path,
) -> None:
    # Hard to tell apart, so that the last epoch is not the best; a constant rate, so that a shorter
    # training is the beginning of a longer one.
    items, labels = pictures(60, noise=90)
    train = item_set(items, labels)
    held = {"held_out": 0.25, "schedule": "constant", "warmup_share": 0.0, "learning_rate": 0.3}

    best = _fit(tmp_path / "best", train, recipe=_recipe(epochs=6, keep="best", **held))

    scores = [float(row["held_out_top1"]) for row in best.curve]  # type: ignore[arg-type]
    first_best = scores.index(max(scores)) + 1
    assert first_best < 6, "a world in which the last epoch is the best tells nothing"
    assert best.chosen["kept_epoch"] == first_best
    assert best.chosen["selected_on"] == "held-out train"
    assert [row["epoch"] for row in best.selection if row["chosen"]] == [first_best]
    shorter = _fit(tmp_path / "short", train, recipe=_recipe(epochs=first_best, **held))
    assert _same(best, shorter)
    assert not _same(best, _fit(tmp_path / "last", train, recipe=_recipe(epochs=6, **held)))


def test_what_is_held_out_is_not_trained_on_and_leaves_no_trace(tmp_path: Path) -> None:
    items, labels = pictures(60)
    train = item_set(items, labels)
    request = fit_request(PROTOCOL, model(), train, settings(tmp_path), recipe=_recipe())
    kept = split_items(request, held_out=0.2).kept[0]

    watched = _fit(tmp_path / "a", train, recipe=_recipe(held_out=0.2))
    alone = _fit(tmp_path / "b", kept)

    assert _same(watched, alone)
    assert watched.chosen["num_fitted_on"] == len(kept)
    assert watched.chosen["num_held_out"] == 60 - len(kept)
    assert all("held_out_top1" in row for row in watched.curve)
    assert not any("held_out_top1" in row for row in alone.curve)
    # Groups of six are held out whole.
    assert {items[row].group for row in kept.rows}.isdisjoint(
        items[row].group for row in range(60) if row not in kept.rows
    )
    assert watched.selection == ()


def test_official_validation_data_takes_the_place_of_a_part_of_train(tmp_path: Path) -> None:
    items, labels = pictures(30)

    fitted = _fit(
        tmp_path,
        item_set(items, labels, rows=range(20)),
        validation=item_set(items, labels, rows=range(20, 30)),
        recipe=_recipe(held_out=0.1, keep="best"),
    )

    assert (fitted.chosen["num_fitted_on"], fitted.chosen["num_held_out"]) == (20, 10)
    assert fitted.chosen["selected_on"] == "validation"


def test_the_held_out_score_is_the_share_that_the_test_would_find_right(tmp_path: Path) -> None:
    items, labels = pictures(60, noise=120)
    pool = (*items, broken_item())
    held = item_set(pool, (*labels, 0), rows=range(30, 61))
    train = item_set(items, labels, rows=range(30))

    fitted = _fit(tmp_path, train, validation=held, recipe=_recipe(held_out=0.1))

    # The second source is the protocol's own test, of one centre view.
    test = replace(held, targets=None)
    asked = predict_request(PROTOCOL, model(), fitted, test, settings(tmp_path / "b"))
    predictions = PROTOCOL.predict(asked).values
    right = [
        int(np.argmax(value)) == target
        for value, target in zip(predictions, held.targets or (), strict=True)
        if value is not None
    ]
    assert len(right) == 30
    assert fitted.curve[-1]["held_out_top1"] == pytest.approx(np.mean(right), abs=1e-12)
    assert [failure.id for failure in fitted.failures] == ["broken"]
    assert fitted.chosen["num_held_out"] == 30


def test_several_labels_are_scored_by_mean_average_precision(tmp_path: Path) -> None:
    from sklearn.metrics import average_precision_score

    items, classes = pictures(20)
    targets = [
        (label,) if row % 3 else (label, (label + 1) % 3) for row, label in enumerate(classes)
    ]
    held = replace(item_set(items, classes), targets=tuple(targets))
    request = fit_request(PROTOCOL, model(), held, settings(tmp_path), target="multilabel")
    torch.manual_seed(3)
    network = with_classifier(request.model, num_classes=3, weight_std=1.0).eval()

    score = HeldOut(request, held, where="held-out train").score(network)

    mean, std = np.array(request.reading.input.mean), np.array(request.reading.input.std)
    pixels = np.stack([(np.asarray(item.source) / 255 - mean) / std for item in items])
    with torch.inference_mode():
        logits = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).numpy()
    truth = np.array([[number in target for number in range(3)] for target in targets])
    assert score == pytest.approx(average_precision_score(truth, logits, average="macro"), abs=1e-9)


def test_a_mean_average_precision_is_called_one_wherever_it_stands(tmp_path: Path) -> None:
    items, classes = pictures(24)
    train = replace(item_set(items, classes), targets=tuple((label,) for label in classes))

    recipe = _recipe(epochs=2, keep="best", held_out=0.25)
    fitted = _fit(tmp_path, train, target="multilabel", recipe=recipe)

    for rows in (fitted.curve, fitted.selection):
        assert all("held_out_map" in row and "held_out_top1" not in row for row in rows)
    assert [row["held_out_map"] for row in fitted.curve] == [
        row["held_out_map"] for row in fitted.selection
    ]


@pytest.mark.parametrize("target", ["class", "multilabel"])
def test_outputs_that_are_not_finite_have_no_score(target: Any, tmp_path: Path) -> None:
    items, classes = pictures(6)
    targets = classes if target == "class" else tuple((label,) for label in classes)
    held = replace(item_set(items, classes), targets=targets)
    request = fit_request(PROTOCOL, model(), held, settings(tmp_path), target=target)
    network = with_classifier(request.model, num_classes=3, weight_std=1.0).eval()
    held_out = HeldOut(request, held, where="held-out train")
    assert 0 <= held_out.score(network) <= 1

    # The best class of NaNs is the first one, which a third of the items have.
    network.get_submodule("head").bias.data.fill_(torch.nan)

    assert np.isnan(held_out.score(network))


def test_nothing_to_score_is_a_fault_of_the_data(tmp_path: Path) -> None:
    items, labels = pictures(12)
    unread = item_set([broken_item()], [0])

    with pytest.raises(DataError, match=r"no item of it could be read.*broken") as caught:
        _fit(
            tmp_path,
            item_set(items, labels),
            validation=unread,
            recipe=_recipe(held_out=0.1),
        )
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------- batches and passes


class Watching(Quarters):
    """Remembers the brightness of what it is shown in training, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[float]] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(batch.mean(dim=(1, 2, 3)).tolist())
        return super().forward(batch)

    def __deepcopy__(self, memo: dict[int, Any]) -> Watching:
        # The copy that trains tells what it saw to the one that the test holds.
        copied = Watching()
        copied.load_state_dict(self.state_dict())
        copied.seen = self.seen
        return copied


def test_full_batches_are_all_full_and_show_everything_equally_often(tmp_path: Path) -> None:
    network = Watching()

    fitted = _fit(
        tmp_path,
        item_set(*pictures(10)),
        network=model(network),
        recipe=_recipe(epochs=4, batch_size=8, full_batches=True),
    )

    # The first is the rehearsal's.
    batches = network.seen[1:]
    assert [len(batch) for batch in batches] == [8] * 5
    shown = [round(value, 4) for batch in batches for value in batch]
    assert sorted(shown.count(value) for value in set(shown)) == [4] * 10
    assert fitted.chosen["num_steps"] == 5


def test_an_example_is_shown_otherwise_in_each_pass_over_the_data(tmp_path: Path) -> None:
    network = Watching()

    _fit(
        tmp_path,
        item_set(*pictures(10)),
        network=model(network),
        recipe=_recipe(steps=5, batch_size=8, full_batches=True, smallest_crop=0.1),
    )

    # Four passes over ten; of so small pictures some crops are the same again.
    shown = {round(value, 6) for batch in network.seen[1:] for value in batch}
    assert len(shown) > 30


def test_a_counted_number_of_steps_may_end_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    network = Watching()
    totals: set[int] = set()
    machine = settings(tmp_path, progress=lambda stage, done, total: totals.add(total))
    recipe = _recipe(steps=5, batch_size=4)

    asked = fit_request(PROTOCOL, model(network), item_set(*pictures(10)), machine, recipe=recipe)
    fitted = PROTOCOL.fit(asked)

    assert [len(batch) for batch in network.seen[1:]] == [4, 4, 2, 4, 4]
    assert fitted.chosen["num_steps"] == 5
    # The schedule is laid over these.
    assert totals == {5}


def test_examples_that_batches_must_repeat_are_noted(tmp_path: Path) -> None:
    fitted = _fit(
        tmp_path,
        item_set(*pictures(6)),
        recipe=_recipe(epochs=4, batch_size=16, full_batches=True),
    )

    assert fitted.notes == ("batches of 16 hold some of the 6 examples more than once",)
    assert fitted.chosen["num_steps"] == 2


@pytest.mark.parametrize("full_batches", [False, True])
def test_a_training_that_is_interrupted_within_an_epoch_ends_with_the_same_numbers(
    tmp_path: Path, full_batches: bool
) -> None:
    train = item_set(*pictures(22))
    recipe = _recipe(epochs=3, batch_size=4, full_batches=full_batches, dropout="0.3")
    expected = _fit(tmp_path / "whole", train, recipe=recipe)

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    machine = settings(tmp_path, progress=interrupt, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        PROTOCOL.fit(fit_request(PROTOCOL, model(), train, machine, recipe=recipe))
    steps: list[int] = []
    machine = settings(tmp_path, progress=lambda stage, done, total: steps.append(done))
    resumed = PROTOCOL.fit(fit_request(PROTOCOL, model(), train, machine, recipe=recipe))

    assert _same(resumed, expected)
    assert min(steps) > 6, "it went on in the middle of the second epoch"


# ----------------------------------------------------------------- dropout and stochastic depth


def _regularised(given: Model, **changes: Any) -> tuple[nn.Sequential, Any]:
    network = with_classifier(given, num_classes=3, weight_std=0.01)
    return network, regularise(network, TrainingRecipe.of({**NEUTRAL, **changes}), given, INPUT)


def _narrow(name: str = "resnet_rs_50") -> Model:
    spec = find_backbone(f"{name}+blocks=1-2-1-1+width=0.0625").spec
    return replace(model(spec.build(None)), feature_width=spec.feature_width)


def test_a_number_takes_the_place_of_the_networks_dropout() -> None:
    class Dropping(Quarters):
        head_dropout = 0.5

    own, said = _regularised(model(Dropping()))
    assert (own.get_submodule("dropout").p, said.dropout) == (0.5, 0.5)
    other, said = _regularised(model(Dropping()), dropout="0.1")
    assert (other.get_submodule("dropout").p, said.dropout) == (0.1, 0.1)


def test_what_is_published_of_a_network_is_what_it_trains_with() -> None:
    # tensorflow/tpu, resnet_rs/configs: 350 at 320 pixels drops 0.4 and skips 0.1.
    published = {"dropout": 0.4, "stochastic_depth": 0.1}
    given = replace(_narrow(), published_training=lambda pixels: published)

    network, said = _regularised(given, dropout="published", stochastic_depth="published")

    assert said == (0.4, 0.1)
    assert network.get_submodule("dropout").p == 0.4
    # One rate a stage, as the official codes have it: r times 2/5, 3/5, 4/5 and 5/5.
    assert _skips(network) == pytest.approx([0.04, 0.06, 0.06, 0.08, 0.1])


def _skips(network: nn.Module) -> list[float]:
    found = (getattr(part, "skip_probability", None) for part in network.modules())
    return [each for each in found if each is not None]


def test_stochastic_depth_may_rise_block_by_block() -> None:
    network, _ = _regularised(_narrow(), stochastic_depth="0.4", stochastic_depth_per="block")

    # timm's rule, linear from 0 at the first block to r at the last.
    assert _skips(network) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_network_keeps_its_stochastic_depth_unless_the_recipe_says_one() -> None:
    given = _narrow("resnet_rs_50+stochastic_depth=0.2")

    assert max(_skips(_regularised(given)[0])) == 0.2
    assert max(_skips(_regularised(given, stochastic_depth="0")[0])) == 0.0
    assert max(_skips(given.module)) == 0.2, "the network that was given stays as it was"


def test_the_stochastic_depth_of_a_network_that_lets_nobody_set_it_is_refused() -> None:
    class Skipping(Quarters):
        def __init__(self) -> None:
            super().__init__()
            self.skip = StochasticDepth(0.2, "row")

    assert _regularised(model(), stochastic_depth="0")[1].stochastic_depth == 0.0
    for given, value in ((model(), "0.1"), (model(Skipping()), "0")):
        with pytest.raises(RsbenchError, match="--set stochastic_depth=network") as caught:
            _regularised(given, stochastic_depth=value)
        assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------- whole runs, end to end


def test_a_recipe_may_change_every_switch_at_once(tmp_path: Path) -> None:
    fitted = _fit(
        tmp_path,
        item_set(*pictures(24)),
        network=replace(_narrow(), published_training=lambda pixels: {"randaugment_magnitude": 10}),
        recipe=_recipe(
            epochs=1,
            batch_size=8,
            examples_at_once=4,
            full_batches=True,
            optimizer="lars",
            schedule="whole cosine",
            warmup_factor=0.0,
            label_smoothing=0.1,
            dropout="0.2",
            stochastic_depth="0.1",
            mixup=0.2,
            cutmix=1.0,
            randaugment_layers=2,
            colour_jitter=0.4,
            random_erasing=0.25,
            train_pixels=16,
            norm_momentum="1.0",
            ema_decay=0.9999,
            keep="best",
            held_out=0.25,
        ),
    )

    assert fitted.chosen["randaugment_magnitude"] == 10.0
    assert all(np.isfinite(array).all() for array in fitted.arrays.values())


TINY = (
    ("train_baseline", "digits@sample", "tiny_2d", {}),
    (
        "train_rs_imagenet",
        "digits@sample",
        "resnet_rs_50+blocks=1-1-1-1+width=0.125",
        # Nothing is published of so small a network.
        {"dropout": "0.25", "stochastic_depth": "0.1", "randaugment_magnitude": "10"},
    ),
    ("train_rs_k400", "kinetics400@sample", "tiny_3d", {"stochastic_depth": "network"}),
    ("finetune_video", "kinetics400@sample", "tiny_3d", {}),
)


@pytest.mark.parametrize(("protocol", "task", "backbone", "changes"), TINY)
def test_a_tiny_run_of_each_leaves_a_record_with_its_curve(
    protocol: str,
    task: str,
    backbone: str,
    changes: dict[str, str],
    tmp_path: Path,
    session_cache: Path,
) -> None:
    finished = run(
        RunRequest(
            task=task,
            backbone=backbone,
            protocol=protocol,
            results=tmp_path / "results",
            cache_root=session_cache,
            pixels=16,
            limit=4,
            overrides={"epochs": "1", "batch_size": "4", **changes},
        )
    )

    record = finished.record
    assert record.protocol.name == protocol
    assert record.protocol.trains_backbone
    assert [row["epoch"] for row in record.curve] == [1]
    assert record.data.num_evaluated == record.data.num_expected


def test_a_training_from_scratch_refuses_weights(tmp_path: Path) -> None:
    asked = RunRequest(
        task="digits@sample",
        backbone="resnet_rs_50",
        protocol="train_rs_imagenet",
        results=tmp_path / "results",
        cache_root=tmp_path / "cache",
        weights="pretrained",
    )

    with pytest.raises(RsbenchError, match="trains a network from random weights") as caught:
        prepare(asked)
    assert "--protocol finetune" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert prepare(replace(asked, weights="none")).protocol.spec.from_scratch


def test_a_training_from_scratch_refuses_a_network_that_sets_its_own_weights(
    tmp_path: Path,
) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(7)  # stands for a checkpoint loaded here\n"
        "    return torch.nn.Conv2d(3, 4, 3)\n"
    )
    asked = RunRequest(
        task="digits@sample",
        backbone=f"{file}:build",
        protocol="train_baseline",
        results=tmp_path / "results",
        cache_root=tmp_path / "cache",
        limit=4,
    )

    with pytest.raises(RsbenchError, match="sets weights of its own") as caught:
        run(asked)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").rglob("*.json"))


@pytest.mark.parametrize(
    ("protocol", "changes", "named"),
    [
        ("train_rs_imagenet", {}, "dropout"),
        ("finetune", {"stochastic_depth": "published"}, "stochastic_depth"),
        ("finetune", {"randaugment_layers": "2"}, "randaugment_magnitude"),
        ("finetune_kornblith", {"dropout": "published"}, "dropout"),
        ("train_rs_k400", {}, "stochastic_depth"),
        ("finetune", {"scale_jitter": "15-20"}, "scale_jitter"),
        ("finetune", {"examples_at_once": "1"}, "examples_at_once"),
        ("finetune_vtab", {"examples_at_once": "1"}, "examples_at_once"),
    ],
)
def test_a_recipe_that_does_not_suit_the_network_is_refused_before_media_are_read(
    protocol: str,
    changes: dict[str, str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unwanted(*asked: object) -> None:
        raise AssertionError("media are not looked at")

    for module in (runner, estimating):
        monkeypatch.setattr(module, "content_of", unwanted)
    # Nothing is published of it, and its stochastic depth can't be set.
    cell = prepare(
        RunRequest(
            task="digits@sample",
            backbone="tiny_2d",
            protocol=protocol,
            results=tmp_path / "results",
            cache_root=tmp_path / "cache",
            pixels=16,
            overrides=changes,
        )
    )

    for plan in (estimating.estimate, runner.run_cell):
        with pytest.raises(RsbenchError, match=f"^{named} must be") as caught:
            plan(cell)
        assert "\n" not in str(caught.value)


def test_a_record_says_what_an_epoch_was_selected_on(tmp_path: Path) -> None:
    asked = RunRequest(
        task="digits@sample",
        backbone="tiny_2d",
        protocol="finetune",
        results=tmp_path / "results",
        cache_root=tmp_path / "cache",
        pixels=16,
        overrides={
            "epochs": "2",
            "keep": "best",
            "held_out": "0.2",
            "randaugment_layers": "1",
            "randaugment_magnitude": "5",
        },
    )

    honest = run(asked).record.protocol
    leaking = run(replace(asked, allow_test_selection=True)).record.protocol

    assert honest.selects_on == "official validation, else held-out train"
    assert (honest.chosen["selected_on"], honest.selected_on_test) == ("held-out train", False)
    # A mirrored two is no two.
    assert honest.chosen["randaugment_edges"] == "grey"
    assert (leaking.chosen["selected_on"], leaking.selected_on_test) == ("test", True)
    with pytest.raises(RsbenchError, match="finetune selects nothing"):
        prepare(replace(asked, overrides={}, allow_test_selection=True))


def test_statistics_of_one_batch_are_named_where_no_average_is_tested(tmp_path: Path) -> None:
    train = item_set(*pictures(12))

    def notes(**changes: Any) -> str:
        recipe = _recipe(epochs=1, norm_momentum="1.0", **changes)
        return " ".join(_fit(tmp_path / str(changes), train, recipe=recipe).notes)

    assert "statistics of the last batch alone" in notes()
    assert notes(ema_decay=0.99) == ""


def test_predict_is_the_same_for_all_of_them() -> None:
    from rsbench.registry import find_protocol

    for name, *_ in TINY:
        assert find_protocol(name).spec.predict is _training.predict
