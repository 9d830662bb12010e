"""`finetune_vtab`: VTAB's flow with the whole network: 800 examples, 200 to choose with, then all.

It is `vtab1k` (which see: sweep, splits, sources, and what is otherwise here than in VTAB) with
``train=all`` and nothing to set there, so that a table of it holds fine-tuned networks alone; its
name says that the network learns, and several processes may train one network together. A batch
of 512 that does not fit a device goes through it in parts with ``--set examples_at_once=64``: batch
norm then sees the parts alone, which is why it is part of the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping

from rsbench.protocols import vtab1k
from rsbench.protocols._networks import refuse_lone_examples
from rsbench.protocols.vtab1k import SweepRecipe, fit_by_sweep, sweep_views
from rsbench.specs import FitRequest, Fitted, InputSpec, Model, Protocol, Scalar


def fit(request: FitRequest) -> Fitted:
    """Train with each setting, choose one on held-out data, and train with it on all of it.

    Raises:
        DataError: Nothing can be held out, nothing held out can be read, or fewer than two classes
            can be read to train on.
        RsbenchError: A value of the recipe is out of its range, or the views of the training set
            take too much memory.
        RunError: All settings diverged, a worker died, or a checkpoint can't be written.
    """
    return fit_by_sweep(request, PROTOCOL)


def check_model(recipe: Mapping[str, Scalar], model: Model, input: InputSpec) -> None:
    """Hold a recipe to the network that it is to train.

    Raises:
        RsbenchError: A part of a batch would be a lone example of a network that normalises it.
    """
    del input
    refuse_lone_examples(model, examples_at_once=SweepRecipe.of(recipe).examples_at_once)


PROTOCOL = Protocol(
    name="finetune_vtab",
    version=1,
    recipe={
        **{key: value for key, value in vtab1k.PROTOCOL.recipe.items() if key != "train"},
        "examples_at_once": 0,
    },
    targets=frozenset({"class"}),
    trains=True,
    selects_on="official validation, else held-out train",
    trains_backbone=True,
    train_passes=lambda recipe: 0.0,
    train_views=sweep_views,
    keeps_train_views=True,
    output="logits",
    check=SweepRecipe.of,
    check_model=check_model,
    fit=fit,
    predict=vtab1k.predict,
    title="VTAB-1k with the whole network: choose on 200 examples, train on 1,000",
    citation="Zhai et al. 2019, VTAB (arXiv 1910.04867).",
)
