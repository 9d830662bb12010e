"""What acts on a network in training alone, set as a recipe asks: dropout and stochastic depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rsbench.errors import RsbenchError
from rsbench.protocols._networks import head_dropout
from rsbench.protocols._training_recipe import NETWORK, TrainingRecipe, resolved
from rsbench.specs import InputSpec, Model

if TYPE_CHECKING:
    from torch import nn

_SKIPPING = ("DropPath", "StochasticDepth")
"""Modules of timm and torchvision that skip residual branches."""


class Regularisation(NamedTuple):
    """What a network trains with, as a record shows it."""

    dropout: float
    """Probability that the classifier does not see a feature."""
    stochastic_depth: float | str
    """Probability that a block of the last stage is skipped, or "network" for what it has."""


def regularisation_of(recipe: TrainingRecipe, model: Model, input: InputSpec) -> Regularisation:
    """Say with which dropout and stochastic depth a recipe trains a network; nothing is changed.

    Args:
        recipe: What it asks for.
        model: The network; it knows what is published of training it.
        input: What it is tested on.

    Raises:
        RsbenchError: The recipe asks for what is published and nothing is, or for a stochastic
            depth of a network that does not let it be set.
    """
    dropout = head_dropout(model.module)
    if recipe.dropout != NETWORK:
        dropout = resolved(recipe, "dropout", recipe.dropout, model, input)
    depth = recipe.stochastic_depth
    if depth != NETWORK:
        depth = resolved(recipe, "stochastic_depth", depth, model, input)
        skips = any(type(part).__name__ in _SKIPPING for part in model.module.modules())
        if _owner(model.module) is None and (depth > 0 or skips):
            raise RsbenchError(
                "stochastic_depth must be 'network' for this network, which does not let it be"
                f" set; it was {depth:g}: train it as it is with --set stochastic_depth=network."
            )
    return Regularisation(dropout, depth)


def regularise(
    network: nn.Sequential, recipe: TrainingRecipe, model: Model, input: InputSpec
) -> Regularisation:
    """Give a network of `with_classifier` the dropout and stochastic depth that a recipe asks for.

    Args:
        network: Changed in place.
        recipe: What it asks for.
        model: What the network is a copy of.
        input: What it is tested on.

    Raises:
        RsbenchError: As `regularisation_of`.
    """
    found = regularisation_of(recipe, model, input)
    cast("Any", network.get_submodule("dropout")).p = found.dropout
    owner = _owner(network.get_submodule("backbone"))
    if found.stochastic_depth != NETWORK and owner is not None:
        owner.set_regularisation(
            head_dropout=found.dropout,
            stochastic_depth=found.stochastic_depth,
            per=recipe.stochastic_depth_per,
        )
    return found


# Any: that member of a backbone is optional.
def _owner(backbone: nn.Module) -> Any:  # noqa: ANN401
    """Give the module that lets itself be set; a network that was lifted lies inside another."""
    owners = (part for part in backbone.modules() if hasattr(part, "set_regularisation"))
    return next(owners, None)
