"""Values out of a recipe, each held to what it must be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rsbench.errors import RsbenchError
from rsbench.specs import Scalar


def number(
    recipe: Mapping[str, Scalar],
    key: str,
    *,
    least: float = 0.0,
    most: float = float("inf"),
    without_ends: bool = False,
) -> float:
    """Give a number of a recipe.

    Args:
        recipe: The recipe, overrides merged in.
        key: Its name.
        least: Smallest value allowed.
        most: Largest value allowed.
        without_ends: Whether both ends themselves are forbidden.

    Raises:
        RsbenchError: It is no number or outside its range.
    """
    value = recipe[key]
    inside = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (least < value < most if without_ends else least <= value <= most)
    )
    if not inside:
        raise RsbenchError(
            f"{key} must be a number {_range(least, most, without_ends=without_ends)}; it was"
            f" {value!r}: give another with --set {key}=NUMBER."
        )
    assert isinstance(value, int | float)
    return float(value)


def _range(least: float, most: float, *, without_ends: bool = False) -> str:
    if math.isinf(most):
        return f"above {least:g}" if without_ends else f"of at least {least:g}"
    ends = "both excluded" if without_ends else "both included"
    return f"between {least:g} and {most:g}, {ends}"


def number_or_word(
    recipe: Mapping[str, Scalar],
    key: str,
    *,
    words: Sequence[str],
    least: float = 0.0,
    most: float = float("inf"),
) -> float | str:
    """Give a number of a recipe that is kept as text, or one of a few words in its place.

    Raises:
        RsbenchError: It is none of the words, and no number from `least` to `most`.
    """
    text = str(recipe[key])
    if text in words:
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not least <= value <= most:
        raise RsbenchError(
            f"{key} must be {' or '.join(map(repr, words))}, or a number"
            f" {_range(least, most)}; it was {text!r}: give another with --set {key}=VALUE."
        )
    return value


def whole(recipe: Mapping[str, Scalar], key: str, *, least: int = 1, most: int = 1_000_000) -> int:
    """Give a whole number of a recipe, from `least` to `most`.

    Raises:
        RsbenchError: It is no whole number, too small or too large.
    """
    value = recipe[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RsbenchError(
            f"{key} must be a whole number from {least} to {most}; it was {value!r}:"
            f" give another with --set {key}=NUMBER."
        )
    return value


def flag(recipe: Mapping[str, Scalar], key: str) -> bool:
    """Give a yes or no of a recipe.

    Raises:
        RsbenchError: It is neither.
    """
    value = recipe[key]
    if not isinstance(value, bool):
        raise RsbenchError(f"{key} must be true or false; it was {value!r}: use --set {key}=true.")
    return value


def choice(recipe: Mapping[str, Scalar], key: str, *, among: Sequence[str]) -> str:
    """Give a word of a recipe, one of a few.

    Raises:
        RsbenchError: It is none of them.
    """
    value = recipe[key]
    if value not in among:
        raise RsbenchError(
            f"{key} must be one of {', '.join(map(repr, among))}; it was {value!r}:"
            f" give another with --set {key}=WORD."
        )
    return str(value)


def numbers(
    recipe: Mapping[str, Scalar],
    key: str,
    *,
    least: float = 0.0,
    most: float = float("inf"),
) -> tuple[float, ...]:
    """Give the numbers of a recipe's list, written with commas: "0.1,0.01".

    Raises:
        RsbenchError: It is no list of finite numbers from `least` to `most`, or names one twice.
    """
    text = recipe[key]
    try:
        found = tuple(float(word) for word in str(text).split(","))
    except ValueError:
        found = ()
    inside = all(math.isfinite(each) and least <= each <= most for each in found)
    if not found or not inside or len(set(found)) < len(found):
        raise RsbenchError(
            f"{key} must be different numbers with commas between them, such as 0.1,0.01, each"
            f" {_range(least, most)}; it was {text!r}: give others with --set {key}=LIST."
        )
    return found


def wholes(
    recipe: Mapping[str, Scalar], key: str, *, least: int = 1, most: int = 10_000_000
) -> tuple[int, ...]:
    """Give the whole numbers of a recipe's list, written with commas: "2500,10000".

    Raises:
        RsbenchError: It is no list of whole numbers from `least` to `most`, or names one twice.
    """
    try:
        found = tuple(int(word) for word in str(recipe[key]).split(","))
    except ValueError:
        found = ()
    inside = all(least <= each <= most for each in found)
    if not found or not inside or len(set(found)) < len(found):
        raise RsbenchError(
            f"{key} must be different whole numbers from {least} to {most} with commas between"
            f" them, such as {least},{2 * least}; it was {recipe[key]!r}: give others with --set"
            f" {key}=LIST."
        )
    return found
