"""Options of ResNet-RS as they are typed, ``NAME+width=0.5+squeeze_ratio=0.125``.

They are read into the fields of an `Architecture`, and named from it again: in one order, and
without what is standard. So a network has one name, however it was asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from .resnet_rs import Architecture

Value = float | int | str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One thing of a network that can be chosen."""

    field: str
    """Of the `Architecture`."""
    must_be: str
    """Completes "KEY must be ..."."""
    read: Callable[[str], Value | None]
    """What a text means; None for nothing."""


def _number(field: str, least: float, most: float) -> Option:
    def read(text: str) -> float | None:
        try:
            value = float(text)
        except ValueError:
            return None
        return value if least <= value <= most else None

    return Option(field=field, must_be=f"a number from {least:g} to {most:g}", read=read)


def _four(field: str, allowed: range, *, example: str) -> Option:
    def read(text: str) -> tuple[int, ...] | None:
        words = text.split("-")
        if len(words) != 4 or not all(word.isascii() and word.isdecimal() for word in words):
            return None
        values = tuple(int(word) for word in words)
        return values if all(value in allowed for value in values) else None

    kind = "whole" if allowed.step == 1 else "odd"
    must_be = f"four {kind} numbers from {allowed[0]} to {allowed[-1]} such as {example}"
    return Option(field=field, must_be=must_be, read=read)


def _one_of(field: str, meanings: Mapping[str, Value]) -> Option:
    return Option(field=field, must_be=" or ".join(meanings), read=meanings.get)


# In the order of a name. 0.0625 leaves the narrowest layer two channels.
OPTIONS = {
    "blocks": _four("blocks", range(1, 201), example="3-4-6-3"),
    "width": _number("width", 0.0625, 8),
    "squeeze_ratio": _number("squeeze_ratio", 0, 1),
    "stem": _one_of("stem", {"deep": "deep", "plain": "plain"}),
    "shortcut": Option(
        field="shortcut", must_be="strided, or left out", read={"strided": "strided"}.get
    ),
    "self_gating": _one_of("self_gating", {"true": True, "false": False}),
    "stem_pool_stride": _one_of("stem_pool_stride", {"1": 1, "2": 2}),
    "stage_frames": _four("stage_frames", range(1, 10, 2), example="1-1-3-3"),
    "stochastic_depth": _number("stochastic_depth", 0, 0.9),
    "dropout": _number("head_dropout", 0, 0.9),
}
"""All options but `depth`, which names a row of the table of blocks."""

VIDEO_ONLY = ("self_gating", "stem_pool_stride", "stage_frames")
"""Options that image networks do not have."""

IMAGE_ONLY = ("shortcut",)
"""Options that video networks do not have: their shortcuts are strided by themselves."""

TRAINING_ONLY = ("stochastic_depth", "dropout")
"""Options that change nothing in evaluation, so that weights go on fitting."""


def read_options(
    typed: Mapping[str, str],
    architecture: Architecture,
    *,
    name: str,
    depths: Mapping[int, tuple[int, ...]],
) -> Architecture:
    """Change an architecture as it was typed.

    Args:
        typed: Values by key, as texts.
        architecture: What holds where nothing was typed.
        name: Of the network, for messages.
        depths: Blocks a stage by the depths that `depth` may name.

    Raises:
        RsbenchError: A key is unknown or a value out of its range.
    """
    absent = VIDEO_ONLY if architecture.dimensions == 2 else IMAGE_ONLY
    known = [key for key in OPTIONS if key not in absent]
    changes: dict[str, Value] = {}
    for key, text in typed.items():
        if key == "depth":
            changes["blocks"] = _blocks_of(text, typed, name=name, depths=depths)
        elif key in known:
            option = OPTIONS[key]
            value = option.read(text)
            if value is None:
                raise RsbenchError(f"{key} of {name} must be {option.must_be}; it was {text!r}.")
            changes[option.field] = value
        else:
            near = difflib.get_close_matches(key, ["depth", *known], n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise RsbenchError(
                f"{name} has no option {key!r}.{hint} It has depth, {', '.join(known)}; the side"
                f" of its input is written {name}@PIXELS."
            )
    # Any: `replace` can't know that each value is of its field's type.
    given: dict[str, Any] = dict(changes)
    return replace(architecture, **given)


def words_for(architecture: Architecture, standard: Architecture) -> dict[str, str]:
    """Give the options, as typed and in their order, that make an architecture of a standard one.

    Every field in which the two differ must be one of `OPTIONS`.
    """
    values = {key: getattr(architecture, option.field) for key, option in OPTIONS.items()}
    plain = {key: getattr(standard, option.field) for key, option in OPTIONS.items()}
    return {key: _word(values[key]) for key in OPTIONS if values[key] != plain[key]}


def _blocks_of(
    text: str,
    typed: Mapping[str, str],
    *,
    name: str,
    depths: Mapping[int, tuple[int, ...]],
) -> tuple[int, ...]:
    if "blocks" in typed:
        raise RsbenchError(
            f"{name} takes depth or blocks, not both; it was given depth={text} and"
            f" blocks={typed['blocks']}: leave one out."
        )
    by_text = {str(depth): blocks for depth, blocks in depths.items()}
    if text not in by_text:
        raise RsbenchError(
            f"depth of {name} must be one of {', '.join(by_text)}; it was {text!r}. Any other"
            " network is named by its blocks a stage, blocks=3-4-6-3."
        )
    return by_text[text]


def _word(value: Value) -> str:
    """Write a value as `read_options` reads it, exactly."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return str(value).removesuffix(".0")
