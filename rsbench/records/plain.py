"""JSON to frozen data classes and back, strictly: records, and rows that others measured.

A file is one JSON object with a declared schema and a digest of all that it says. Every field is
held to its type, and a field too many or too few is named with its file.
"""

from __future__ import annotations

import functools
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import (
    Any,
    NamedTuple,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.specs import Scalar

Kind = TypeVar("Kind")


class Place(NamedTuple):
    """Where a value stands, for messages."""

    file: str
    schema: int
    """The version that the reader knows."""


def parse_object(text: str, place: Place, *, remedy: str) -> dict[str, Any]:
    """Read one JSON object that names its schema.

    Args:
        text: The JSON text.
        place: Name of the file, and the newest schema that can be read.
        remedy: What to do about a broken file: "delete it and run it again".

    Raises:
        RecordError: It is cut short, not JSON, no object, has a name twice or NaN, or is of a newer
            schema; names the file.
    """
    file, known = place
    try:
        plain = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as fault:
        message = " ".join(str(fault).split())
        raise RecordError(
            f"{file} must be one whole JSON object, but it is cut short or not JSON ({message}); "
            f"{remedy}."
        ) from None
    if not isinstance(plain, dict):
        raise RecordError(f"{file} must be a JSON object, was {_shown(plain)}.")
    schema = plain.get("schema")
    if type(schema) is not int:
        raise RecordError(f"{file} must name its schema as an integer, was {_shown(schema)}.")
    if schema > known:
        raise RecordError(
            f"{file} was written by a newer rsbench (schema {schema}, this one reads {known}); "
            "update rsbench to read it."
        )
    if schema < 1:
        raise RecordError(f"{file} must have a schema from 1 to {known}, was {schema}.")
    return plain


def check_digest(plain: dict[str, Any], file: str, *, again: str) -> None:
    """Hold an object to the digest in it: it finds slips of the hand, not forgers.

    Args:
        plain: What `parse_object` gave; its "digest" is taken out.
        file: Name of the file, for messages.
        again: How it is made anew: "run it again".

    Raises:
        RecordError: The digest is another, or the object holds text that is not Unicode.
    """
    stated = plain.pop("digest", "")
    try:
        actual = digest_json(plain)
    except ValueError:
        raise RecordError(f"{file} holds text that is not Unicode; {again}.") from None
    if stated != actual:
        raise RecordError(
            f"{file} was edited by hand (its digest does not match its content); restore it, or "
            f"delete it and {again}."
        )


def to_plain(value: object, where: str) -> Any:  # noqa: ANN401 - any JSON value
    """Give a data class as JSON values: fields in their order, mappings sorted.

    Raises:
        RecordError: Something in it is none of text, number, truth value, null, list, mapping or
            data class; `where` begins the name of the field.
    """
    if is_dataclass(value):
        return {
            entry.name: to_plain(getattr(value, entry.name), f"{where}.{entry.name}")
            for entry in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(value[key], f"{where}.{key}") for key in sorted(value, key=str)}
    if isinstance(value, tuple | list):
        return [to_plain(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise RecordError(
        f"{where} must be text, a number, true, false or null in a record, was a "
        f"{type(value).__name__}; convert it before it is recorded."
    )


def from_plain(kind: type[Kind], value: object, place: Place, name: str) -> Kind:
    """Make a data class of JSON values, holding every field to its type.

    Args:
        kind: The data class.
        value: A JSON object.
        place: Name of the file and its schema, for messages.
        name: Of the value in the file, for messages.

    Raises:
        RecordError: A field is too many, missing, of another type, or not finite; names it.
    """
    decode: _Decoder = _decoder_of_fields(cast(Any, kind))
    made: Kind = decode(value, place, name)
    return made


_Decoder = Callable[[Any, Place, str], Any]
"""From a JSON value, its place and its name in it, to what a type hint asks for."""

# What a hint asks for is worked out once a type and kept as a function: a record has hundreds of
# values, and a results folder thousands of records.


def _decoder(hint: Any) -> _Decoder:  # noqa: ANN401 - any hint
    if is_dataclass(hint):
        return _decoder_of_fields(cast(Any, hint))
    origin = get_origin(hint)
    if origin is tuple:
        return _decoder_of_list(get_args(hint)[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _decoder_of_mapping(get_args(hint)[1])
    return _decoder_of_leaf(_accepted(hint))


def _accepted(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any hint
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@functools.cache
def _decoder_of_fields(kind: Any) -> _Decoder:  # noqa: ANN401 - a data class
    decoders = {name: _decoder(hint) for name, hint in get_type_hints(kind).items()}
    required = frozenset(
        entry.name
        for entry in fields(kind)
        if entry.default is MISSING and entry.default_factory is MISSING
    )

    def decode_fields(value: Any, place: Place, name: str) -> Any:  # noqa: ANN401
        if not isinstance(value, dict):
            _mistyped(place, name, "an object", value)
        if unknown := value.keys() - decoders.keys():
            raise RecordError(
                f"{place.file}: {name} has no field {min(unknown)!r} in schema {place.schema}."
            )
        if missing := required - value.keys():
            raise RecordError(
                f"{place.file}: {name} must have the field {min(missing)!r}, which is missing."
            )
        return kind(
            **{key: decoders[key](entry, place, f"{name}.{key}") for key, entry in value.items()}
        )

    return decode_fields


def _decoder_of_list(hint: Any) -> _Decoder:  # noqa: ANN401 - any hint
    decode = _decoder(hint)

    def decode_list(value: Any, place: Place, name: str) -> Any:  # noqa: ANN401
        if not isinstance(value, list):
            _mistyped(place, name, "a list", value)
        entries = [decode(entry, place, f"{name}[{index}]") for index, entry in enumerate(value)]
        return tuple(entries)

    return decode_list


def _decoder_of_mapping(hint: Any) -> _Decoder:  # noqa: ANN401 - any hint
    decode = _decoder(hint)
    # Of these types every value may stand as it is; numbers with a point may be infinite.
    plain = frozenset(_accepted(hint)) & {str, int, bool, types.NoneType}

    def decode_mapping(value: Any, place: Place, name: str) -> Any:  # noqa: ANN401
        if not isinstance(value, dict):
            _mistyped(place, name, "an object", value)
        return {
            key: entry if type(entry) in plain else decode(entry, place, f"{name}.{key}")
            for key, entry in value.items()
        }

    return decode_mapping


def _decoder_of_leaf(accepted: tuple[Any, ...]) -> _Decoder:
    kinds = frozenset(accepted)
    becomes_float = float in kinds and int not in kinds
    words = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
    expected = " or ".join(words.get(kind, "null") for kind in accepted)

    def decode_leaf(value: Any, place: Place, name: str) -> Scalar:  # noqa: ANN401
        if becomes_float and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                _mistyped(place, name, "a finite number", value)
        if type(value) not in kinds:
            _mistyped(place, name, expected, value)
        if type(value) is float and not math.isfinite(value):
            _mistyped(place, name, "a finite number", value)
        leaf: Scalar = value
        return leaf

    return decode_leaf


def _mistyped(place: Place, name: str, expected: str, value: object) -> NoReturn:
    raise RecordError(f"{place.file}: {name} must be {expected}, was {_shown(value)}.")


def _shown(value: object) -> str:
    try:
        text = "missing" if value is None else " ".join(repr(value).split())
    except RecursionError:  # What could just be read may be too deep to be shown.
        text = f"a very deep {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return mapping


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
