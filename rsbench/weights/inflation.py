"""Weights of an image network put into the video network of its shape.

A 2D kernel (O, I, h, w) becomes a 3D one (O, I, t, h, w): repeated t times and divided by t, so
that a clip in which nothing moves gives what the picture gave, away from the clip's two ends
(Carreira and Zisserman 2017, https://arxiv.org/abs/1705.07750, section 3.1). Whatever else has
equal name and shape is copied, the running statistics of BatchNorm among it. The rest begins at
random, and nothing about that is silent: every tensor is listed as copied, changed, dropped or new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from rsbench.errors import WeightsError

NAMES_SHOWN = 2
"""Names that a record's note gives of each kind."""


class Fate(NamedTuple):
    """What became of one tensor, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inflated:
    """An image network's weights as a video network's, tensor by tensor."""

    state: Mapping[str, Tensor]
    """What is to be loaded, by the video network's names: those of `copied` and `changed`."""
    copied: tuple[Fate, ...]
    """Tensors that do in the video network what they did in the image network."""
    changed: tuple[Fate, ...]
    """Tensors that are copied too, and meet another computation there."""
    dropped: tuple[Fate, ...]
    """Tensors of the image network that the video network has no place for."""
    new: tuple[Fate, ...]
    """Tensors of the video network that keep their random start."""

    @property
    def complete(self) -> bool:
        """Whether every tensor of both networks was copied and does what it did."""
        return not (self.changed or self.dropped or self.new)

    @property
    def note(self) -> str:
        """Say in one line what a reader of the number must know."""
        num_loaded = len(self.copied) + len(self.changed)
        if self.complete:
            return f"inflated from image weights: all {num_loaded} tensors copied"
        parts = [
            f"{len(fates)} {what} ({_some(fates)})"
            for fates, what in (
                (self.changed, "of them compute otherwise"),
                (self.dropped, "dropped"),
                (self.new, "new"),
            )
            if fates
        ]
        return f"partial inflation: {num_loaded} tensors copied, {', '.join(parts)}"

    def lines(self) -> tuple[str, ...]:
        """Give the report a user reads: every tensor, grouped by what became of it and why."""
        return (
            *_report("copied", self.copied, _by_part),
            *_report("copied, but computes otherwise", self.changed, _each),
            *_report("dropped", self.dropped, _each),
            *_report("new, random start", self.new, _each),
        )


def inflate(
    flat: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    notes: Callable[[Mapping[str, Tensor]], Mapping[str, str]] | None = None,
) -> Inflated:
    """Give an image network's tensors the names and shapes of a video network.

    Args:
        flat: State of the image network.
        expected: State of the video network, for its names, shapes and types; nothing is read.
        notes: `flat` -> what the video network does otherwise, by the beginning of the names it
            concerns (a method `inflation_notes` of its module): tensors that are copied there count
            as changed, and of others these words are the reason. Of several beginnings that fit a
            name the first holds. None where nothing is otherwise.

    Returns:
        Tensors for the video network, and an account of all of both networks.

    Raises:
        WeightsError: No kernel of the image network has a place in the video network.
    """
    account = _Account(notes(flat) if notes is not None else {})
    for name, tensor in flat.items():
        account.place(name, tensor, expected.get(name))
    for name in expected:
        if name not in account.state:
            reason = "of another shape there" if name in flat else "not in the image network"
            account.add(account.new, name, reason)
    if not any(tensor.ndim > 1 for tensor in account.state.values()):
        raise WeightsError(
            "weights to inflate must be of the image network that the video network extends, and"
            f" none of these {len(flat)} tensors ({', '.join([*flat][:NAMES_SHOWN])}, ...) fits it:"
            " name the image network's own weights."
        )
    return Inflated(
        state=account.state,
        copied=tuple(account.copied),
        changed=tuple(account.changed),
        dropped=tuple(account.dropped),
        new=tuple(account.new),
    )


class _Account:
    """The lists while they grow."""

    def __init__(self, notes: Mapping[str, str]) -> None:
        self.notes = notes
        self.state: dict[str, Tensor] = {}
        self.copied: list[Fate] = []
        self.changed: list[Fate] = []
        self.dropped: list[Fate] = []
        self.new: list[Fate] = []

    def note_of(self, name: str) -> str | None:
        """Give what the network says of this tensor; "layer1" begins "layer1.0.conv1.weight"."""
        return next(
            (note for start, note in self.notes.items() if f"{name}.".startswith(f"{start}.")), None
        )

    def add(self, fates: list[Fate], name: str, reason: str) -> None:
        fates.append(Fate(name, self.note_of(name) or reason))

    def place(self, name: str, tensor: Tensor, wanted: Tensor | None) -> None:
        """Copy a tensor of the image network, or drop it."""
        if wanted is None:
            self.add(self.dropped, name, "not in the video network")
            return
        found = _fitted(tensor, wanted)
        if found is None:
            self.add(self.dropped, name, f"is {_shape(tensor)}, there {_shape(wanted)}")
            return
        self.state[name] = found
        fates = self.copied if self.note_of(name) is None else self.changed
        self.add(fates, name, _how(tensor, found))


def _fitted(tensor: Tensor, wanted: Tensor) -> Tensor | None:
    """Give a tensor in the wanted shape, or None where it can't be."""
    if tensor.shape == wanted.shape:
        return tensor
    if tensor.ndim != 4 or wanted.ndim != 5:
        return None
    frames = wanted.shape[2]
    if wanted.shape != (*tensor.shape[:2], frames, *tensor.shape[2:]):
        return None
    return tensor.unsqueeze(2).expand(wanted.shape).div(frames)


def _how(tensor: Tensor, found: Tensor) -> str:
    if found is tensor:
        return "as it is"
    frames = found.shape[2]
    return "kernel of 1 frame" if frames == 1 else f"kernel over {frames} frames, each 1/{frames}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _some(fates: Sequence[Fate]) -> str:
    """Name the parts that tensors are of, "fc.weight" and "fc.bias" as "fc"."""
    parts = [*dict.fromkeys(fate.name.rpartition(".")[0] or fate.name for fate in fates)]
    return ", ".join([*parts[:NAMES_SHOWN], *(["..."] if len(parts) > NAMES_SHOWN else [])])


def _report(
    title: str, fates: Sequence[Fate], names: Callable[[Iterable[str]], str]
) -> tuple[str, ...]:
    if not fates:
        return ()
    by_reason: dict[str, list[str]] = {}
    for fate in fates:
        by_reason.setdefault(fate.reason, []).append(fate.name)
    return (
        f"{title}: {len(fates)} tensors",
        *(f"  {reason}: {names(found)}" for reason, found in by_reason.items()),
    )


def _each(names: Iterable[str]) -> str:
    return ", ".join(names)


def _by_part(names: Iterable[str]) -> str:
    """Count the names of each part of the network: "layer1 57, layer2 75"."""
    counts: dict[str, int] = {}
    for name in names:
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} {count}" for part, count in counts.items())
