"""A file's tensors by a network's names, and where they do not fit, the network that they would.

Names and shapes are compared and nothing is computed: networks are looked at on the meta device,
where building one takes no memory and no numbers. How many classes a classifier has is never part
of the question: it is read off the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rsbench.errors import WeightsError
from rsbench.specs import Backbone, WeightsFormat
from rsbench.weights.shelf import READY
from rsbench.weights.state import (
    AVERAGE_COUNTER,
    COUNTER,
    MisfitError,
    check_fit,
    read_state,
    without_prefixes,
)

Shapes = Mapping[str, tuple[int, ...]]

Candidates = Callable[[], Iterable[Backbone]]
"""Gives the networks among which the one is looked for that a file fits; called only then."""

_FEW, _MORE = 2, 3
"""Two trial numbers of classes: what differs between the two networks belongs to the classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensors:
    """What a file holds for a network, by the network's names; whether it fits is not said."""

    state: Mapping[str, Tensor]
    num_classes: int | None
    """Of the classifier in the file; None where it brings none."""
    notes: tuple[str, ...] = ()


def nobody() -> Iterable[Backbone]:
    """Give no candidates, where nobody is to be asked which network a file fits."""
    return ()


def read_tensors(backbone: Backbone, path: Path, *, candidates: Candidates = nobody) -> Tensors:
    """Read a safetensors or torch file by a network's names, however it calls them itself.

    Raises:
        WeightsError: The file is missing, damaged, of another format, or would run code on loading.
    """
    found = read_state(path)
    state = _unprefixed(backbone, found.tensors)
    notes = found.notes
    if AVERAGE_COUNTER in found.tensors and AVERAGE_COUNTER not in state:
        notes += ("moving average taken (AveragedModel)",)
    tensors = name_tensors(backbone, state, name=path.name, candidates=candidates)
    return replace(tensors, notes=(*notes, *tensors.notes))


def name_tensors(
    backbone: Backbone,
    state: Mapping[str, Tensor],
    *,
    name: str,
    format: WeightsFormat = "torch",
    candidates: Candidates = nobody,
) -> Tensors:
    """Give tensors by a network's names.

    Names of a foreign format are always the network's to translate; those of a torch or safetensors
    file where they are not its own and it knows them.

    Args:
        backbone: The network.
        state: Tensors by the names in the file.
        name: The file, for messages.
        format: Of the file.
        candidates: Where to look for the network that foreign tensors belong to.

    Raises:
        WeightsError: The names are foreign, and the network does not know them.
    """
    notes: tuple[str, ...] = ()
    is_foreign = format not in READY
    if is_foreign or (backbone.rename is not None and not has_names_of(backbone, state)):
        arrays, notes = _as_arrays(state)
        try:
            renamed = _rename(backbone, arrays, format)
        except WeightsError as error:
            if is_foreign:
                shapes = shapes_of(state)
                other = fitting_network(
                    shapes, candidates(), instead_of=backbone.name, format=format
                )
                found = f"can't load {name}: {error}"
                raise WeightsError(_led_on(found, other) if other else found) from error
            # Its own words tell more: which of the network's names are missing from the file.
            renamed = None
        if renamed is not None:
            # Transposed views can't be saved; a number of its own (0-dim) stays one.
            state = {
                key: torch.from_numpy(np.array(value, order="C")) for key, value in renamed.items()
            }
    return Tensors(state=state, num_classes=head_width(backbone, shapes_of(state)), notes=notes)


def hold_to_outline(
    backbone: Backbone, tensors: Tensors, *, name: str, candidates: Candidates = nobody
) -> list[str]:
    """Hold a file's tensors to a network without building it for real; notes as `load_into`.

    Raises:
        WeightsError: They do not fit; says which names and shapes, and the network that they fit.
    """
    expected = outline(backbone.build, tensors.num_classes)
    try:
        return check_fit(expected, tensors.state, name=f"{name} into {backbone.name}")
    except MisfitError as error:
        raise explained(error, backbone, tensors.state, candidates) from error


def explained(
    error: MisfitError,
    backbone: Backbone,
    state: Mapping[str, Tensor],
    candidates: Candidates,
) -> WeightsError:
    """Give the error of tensors that do not fit, with the network that they would fit."""
    networks = {each.name: each for each in candidates()}
    other = fitting_network(shapes_of(state), networks.values(), instead_of=backbone.name)
    if other is None:
        return error
    if marks := _marks_missing(backbone, networks[other], state):
        return WeightsError(
            f"{error.found}: but for that mark {backbone.name} and {other} have the same tensors, "
            "and the file does not say which of the two it was trained as: if as the latter, it "
            f"fits {other}: name --backbone {other}; if as the former, add {', '.join(marks)} to "
            f"it as {backbone.name} saves it"
        )
    return WeightsError(_led_on(error.found, other))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Give the shapes of named tensors."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@lru_cache(maxsize=64)
def outline(
    build: Callable[[int | None], nn.Module], num_classes: int | None
) -> Mapping[str, Tensor]:
    """Give a network's state for its names, shapes and types: meta tensors, remembered.

    Args:
        build: As `rsbench.specs.Backbone.build`.
        num_classes: Of the classifier; None for no classifier.
    """
    try:
        with torch.device("meta"):
            state = build(num_classes).state_dict()
    except (RuntimeError, NotImplementedError):
        # It computes with values while it is built, which takes real ones.
        with torch.random.fork_rng(devices=[]):
            state = build(num_classes).state_dict()
    return {name: torch.empty_like(value, device="meta") for name, value in state.items()}


def head_width(backbone: Backbone, tensors: Shapes) -> int | None:
    """Read the number of classes off a file's tensors: never assumed (1000 or 1001, 400 or 600).

    Args:
        backbone: The network they are for.
        tensors: Shapes by this network's names.

    Returns:
        Classes of the classifier; None where the file brings none, or where its classifier is not
        of this network's form.
    """
    few, more = outline(backbone.build, _FEW), outline(backbone.build, _MORE)
    widths = set()
    for name in few.keys() & more.keys() & tensors.keys():
        axes = _differing_axes(few[name], more[name])
        shape = tensors[name]
        widths |= {shape[axis] for axis in axes if len(shape) == few[name].ndim}
    return widths.pop() if len(widths) == 1 else None


def has_names_of(backbone: Backbone, names: Iterable[str]) -> bool:
    """Say whether names are this network's own, with a classifier or without."""
    given = _counted(names)
    return any(given == _counted(outline(backbone.build, width)) for width in (_FEW, None))


def fits(backbone: Backbone, tensors: Shapes) -> bool:
    """Say whether tensors are this network's in name and shape, with any number of classes."""
    if not _counted(tensors) <= _counted(outline(backbone.build, _FEW)):
        return False
    expected = outline(backbone.build, head_width(backbone, tensors))
    return _counted(tensors) == _counted(expected) and all(
        tuple(expected[name].shape) == tuple(shape)
        for name, shape in tensors.items()
        if name in expected
    )


def fitting_network(
    tensors: Shapes,
    candidates: Iterable[Backbone],
    *,
    instead_of: str,
    format: WeightsFormat = "torch",
) -> str | None:
    """Find the network that a file belongs to; those of the same family are tried first.

    Args:
        tensors: Shapes by the names in the file.
        candidates: Networks to look among; one that can't be built is passed over.
        instead_of: Name of the network that the file did not fit; left out.
        format: Of the file: its names may be foreign ones, which a network may know.

    Returns:
        The name of the nearest one that fits, or None.
    """
    sizes = [tuple(shape) for name, shape in tensors.items() if not name.endswith(COUNTER)]

    def distance(backbone: Backbone) -> tuple[float, str]:
        return -SequenceMatcher(None, backbone.name, instead_of).ratio(), backbone.name

    for backbone in sorted(candidates, key=distance):
        if backbone.name == instead_of or not _may_fit(backbone, sizes):
            continue
        try:
            if fits(backbone, tensors) or fits(backbone, _renamed(backbone, tensors, format)):
                return backbone.name
        # A stranger's code may raise anything, a family may lack the library that it wraps, and
        # names that a network does not know are not its own.
        except Exception:
            continue
    return None


def _unprefixed(backbone: Backbone, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Take off what stands before a network's own names; nothing where they are its own already."""
    if has_names_of(backbone, state):
        return state
    bare = without_prefixes(state)
    if not bare or has_names_of(backbone, bare):
        return bare
    # What wraps a network for training calls it by a name of its own ("model.", "net.body.").
    for start in (state, bare):
        first, *others = _counted(start) - {AVERAGE_COUNTER} or {""}
        for place, character in enumerate(first):
            prefix = first[: place + 1]
            if not all(name.startswith(prefix) for name in others):
                break
            if character == ".":
                inner = {
                    name.removeprefix(prefix): tensor
                    for name, tensor in start.items()
                    if name.startswith(prefix)
                }
                if has_names_of(backbone, inner):
                    return inner
    return bare


def _marks_missing(backbone: Backbone, other: Backbone, state: Mapping[str, Tensor]) -> list[str]:
    """Name the marks (single numbers) that alone tell a network from another one of equal tensors.

    Empty where more tells them apart, or where the file has the mark of either.
    """
    width = head_width(other, shapes_of(state))
    asked, fitted = (outline(each.build, width) for each in (backbone, other))
    missing = _counted(asked) - _counted(state)
    is_equal = _counted(state) == _counted(fitted) == _counted(asked) - missing and all(
        asked[name].shape == fitted[name].shape for name in _counted(fitted)
    )
    is_marked = all(asked[name].numel() == 1 for name in missing)
    return sorted(missing) if missing and is_equal and is_marked else []


def _differing_axes(one: Tensor, other: Tensor) -> list[int]:
    pairs = zip(one.shape, other.shape, strict=False)
    return [axis for axis, (first, second) in enumerate(pairs) if first != second]


def _counted(names: Iterable[str]) -> set[str]:
    """Leave BatchNorm's counters out, which older files lack."""
    return {name for name in names if not name.endswith(COUNTER)}


def _may_fit(backbone: Backbone, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Compare numbers of parameters, which are declared, before anything is built.

    Running statistics come on top of the parameters, a few hundredths; a classifier may be there,
    as a tensor that maps the features, or not.
    """
    declared = backbone.parameters_with_classes or 0
    body = backbone.num_parameters - declared * (backbone.feature_width + 1)
    size = sum(map(math.prod, shapes))
    heads = {math.prod(s) for s in shapes if math.prod(s[1:]) == backbone.feature_width}
    return any(0.97 * body <= size - head <= 1.1 * body for head in {0, *heads})


def _renamed(backbone: Backbone, tensors: Shapes, format: WeightsFormat) -> Shapes:
    """Give the shapes by this network's names, where it knows those of the file."""
    if backbone.rename is None:
        return {}
    # One number seen at every place: arrays of these shapes that take no memory.
    number = np.zeros((), dtype=np.float32)
    arrays = {name: np.broadcast_to(number, shape) for name, shape in tensors.items()}
    return {name: array.shape for name, array in backbone.rename(format, arrays).items()}


def _rename(
    backbone: Backbone, arrays: Mapping[str, np.ndarray], format: WeightsFormat
) -> Mapping[str, np.ndarray]:
    if backbone.rename is None:
        raise WeightsError(f"{backbone.name} does not know the names of {format} files")
    return backbone.rename(format, arrays)


def _as_arrays(state: Mapping[str, Tensor]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Give tensors as numpy arrays, which know no bfloat16."""
    narrow = [name for name, tensor in state.items() if tensor.dtype == torch.bfloat16]
    notes = ("weights stored as bfloat16, loaded as float32",) if narrow else ()
    wide = {name: state[name].float() for name in narrow}
    return {name: wide.get(name, tensor).numpy() for name, tensor in state.items()}, notes


def _led_on(found: str, other: str) -> str:
    """End a message with the network that the file fits."""
    return f"{found.rstrip('.')}: it fits {other}: name --backbone {other}, or a file for this one"
