"""Plain data out of a pickle that nobody trusts: it is read here, never unpickled.

Unpickling calls whatever a file names. This reader knows what the opcodes of a pickle mean for
numbers, text, lists, dicts, numpy arrays and torch tensors, and gives those; every other name that
a file calls is refused with that name, and nothing is ever imported or called by a name in a file.
What numpy and torch write into a pickle is made into arrays by `rsbench.importing.arrays`.

Instances of mmaction2's and mmengine's data elements come back as `Element`: the name of the class
and the state, both inert.
"""

from __future__ import annotations

import io
import pickletools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rsbench.errors import DataError
from rsbench.importing.arrays import (
    Name,
    PlainType,
    Refused,
    Shell,
    Storage,
    complete,
    fill,
    from_buffer,
    plain_type,
    scalar,
    storage_of,
    tensor,
)


class Element(NamedTuple):
    """An instance of somebody else's class, of which only what it held is known."""

    kind: str
    """Dotted name of the class."""
    state: dict[str, Any]


@dataclass(slots=True)
class _Instance:
    """An instance before its state is known."""

    kind: Name
    state: dict[str, Any]


_ELEMENTS = re.compile(r"(mmaction|mmengine)\.structures(\.\w+)*")
"""Modules whose classes hold nothing but data."""

_GROWTH = 8
"""Bytes that all that is made of other values may take together, times the bytes of the file: a
tensor of bfloat16 under protocol 2 takes five. More is the same made into something again and
again."""
_SMALL = 65_536
"""Bytes that a file has besides, however short it is."""
_MARK = object()


def read_plain(content: bytes, *, where: str) -> Any:  # noqa: ANN401 - whatever plain data it holds
    """Read the plain data of a pickle, protocol 2 to 5.

    Args:
        content: The bytes of the file.
        where: Name of the file, for messages.

    Returns:
        Numbers, text, bytes, None, lists, tuples, dicts by text or numbers, sets of these, numpy
        arrays (torch tensors too: bfloat16 as float32), `Element`, and where a class or function
        is named and not called, only its name. Values that the file has once and refers to twice
        are one object; walking all of them may never end.

    Raises:
        DataError: It is damaged, or asks for anything else; names it.
    """
    try:
        allowed = _GROWTH * len(content) + _SMALL
        reader = _Reader(io.BytesIO(content), calls=_CALLS, num_bytes_left=allowed)
        return _finished(reader.read())
    except Refused as fault:
        reason = str(fault)
    # What a damaged pickle trips over is anything; a file's content is never a fault of ours.
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as fault:
        reason = " ".join(str(fault).split()) or type(fault).__name__
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in reason[:160]
    )
    raise DataError(
        f"{where} must be a pickle of lists, dicts, numbers and arrays, and is not:"
        f" {shown}; write it again by the tool that it is from."
    )


class _Reader:
    """Reads one pickle from a stream: a stack machine that computes nothing."""

    __slots__ = ("calls", "memo", "num_bytes_left", "persistent", "stack", "stream")

    def __init__(
        self,
        stream: io.BytesIO,
        *,
        calls: Mapping[Name, Callable[..., Any]] = MappingProxyType({}),
        num_bytes_left: int = 0,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        """Begin where the stream stands.

        Args:
            stream: Stands after the pickle when it was read.
            calls: Names that the pickle may call, with what they mean here.
            num_bytes_left: What may be made of other values in all, in bytes.
            persistent: What to make of an object that lies elsewhere in the file; None refuses it.
        """
        self.stream = stream
        self.calls = calls
        self.num_bytes_left = num_bytes_left
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:  # noqa: ANN401 - whatever it holds
        """Give what the pickle holds; arrays still in their shells."""
        stack = self.stack
        for opcode, argument, _ in pickletools.genops(self.stream):
            name = opcode.name
            if name in _PUSHES:
                stack.append(argument)
            elif name == "STOP":
                return stack.pop()
            else:
                step = _STEPS.get(name)
                if step is None:
                    raise Refused(f"it has the opcode {name}, which no plain data needs")
                step(self, argument)
        raise Refused("it is cut short")

    def charge(self, made: object) -> None:
        """Count what was made of other values, which a few bytes of the file may ask for."""
        values = made.values if type(made) is Storage else made
        self.num_bytes_left -= (
            values.nbytes if isinstance(values, np.ndarray) else sys.getsizeof(values)
        )
        if self.num_bytes_left < 0:
            raise Refused("it is made to exhaust the memory")

    def since_mark(self) -> list[Any]:
        """Take all that was pushed since the last mark, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            if place == 0:
                raise Refused("it ends something that did not begin")
            place -= 1
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def set_items(self, pairs: list[Any]) -> None:
        """Put keys and values, in turn, into the dict on the stack."""
        into = self.stack[-1]
        if type(into) is not dict or len(pairs) % 2:
            raise Refused("it sets entries of something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Others might be deep enough to exhaust the stack when they are hashed.
            if type(key) not in (str, int):
                raise Refused(f"a key of a dict must be text or a number, one is a {_kind(key)}")
            into[key] = _finished(value)

    def add_items(self, values: list[Any]) -> None:
        """Put values into the set on the stack."""
        into = self.stack[-1]
        if type(into) is not set:
            raise Refused("it adds to something that is no set")
        into.update(_set_of(values))

    def append(self, values: list[Any]) -> None:
        """Put values at the end of the list on the stack."""
        into = self.stack[-1]
        if type(into) is not list:
            raise Refused("it appends to something that is no list")
        into.extend(map(_finished, values))

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the last values."""
        taken = self.stack[-count:]
        if len(taken) < count:
            raise Refused("it is damaged")
        del self.stack[-count:]
        self.stack.append(tuple(map(_finished, taken)))


def _finished(value: Any) -> Any:  # noqa: ANN401 - whatever it holds
    """Give an array for its shell, and an element for its instance."""
    if type(value) is Shell:
        # Shells that are not filled yet are filled by a later step, and finished with their use.
        return value if value.values is None else value.values
    if type(value) is _Instance:
        return Element(str(value.kind), value.state)
    return value


def _kind(value: object) -> str:
    return str(value) if isinstance(value, Name) else type(value).__name__.strip("_").lower()


# ---------------------------------------------------------------------------- steps


def _reduce(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    arguments = reader.stack.pop()
    called = reader.stack.pop()
    make = reader.calls.get(called) if isinstance(called, Name) else None
    if make is None:
        raise Refused(f"it calls {_kind(called)}, which no plain data needs")
    if type(arguments) is not tuple:
        raise Refused("it is damaged")
    made = make(*arguments)
    reader.charge(made)
    reader.stack.append(made)


def _new_object(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    arguments = reader.stack.pop()
    reader.stack.append(_instance(reader.stack.pop(), *arguments))


def _instance(kind: object, *arguments: object) -> _Instance:
    if not isinstance(kind, Name) or arguments or _ELEMENTS.fullmatch(kind.module) is None:
        raise Refused(f"it makes {_kind(kind)}, which no plain data needs")
    return _Instance(kind, {})


def _build(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    state = reader.stack.pop()
    value = reader.stack[-1]
    if type(value) is Shell:
        fill(value, state)
    elif type(value) is PlainType:
        complete(value, state)
    elif type(value) is _Instance and type(state) is dict:
        reader.charge(state)
        value.state.update(state)
    else:
        raise Refused(f"it changes a {_kind(value)}")


def _global(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    module, _, name = str(argument).partition(" ")
    reader.stack.append(Name(module, name))


def _stack_global(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    name, module = reader.stack.pop(), reader.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise Refused("it is damaged")
    reader.stack.append(Name(module, name))


def _persistent(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    if reader.persistent is None:
        raise Refused("it refers to something outside itself")
    reader.stack.append(reader.persistent(reader.stack.pop()))


def _put(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    reader.memo[len(reader.memo) if argument is None else argument] = reader.stack[-1]


def _empty_set(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    # A byte of the file, and two hundred of memory.
    made: set[str | int] = set()
    reader.charge(made)
    reader.stack.append(made)


def _set_item(reader: _Reader, argument: Any) -> None:  # noqa: ANN401 - of an opcode
    pair = reader.stack[-2:]
    del reader.stack[-2:]
    reader.set_items(pair)


_PUSHES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
        *("FLOAT", "BINFLOAT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
"""Opcodes whose argument is a value."""

_STEPS: Mapping[str, Callable[[_Reader, Any], object]] = MappingProxyType(
    {
        "PROTO": lambda reader, argument: None,
        "FRAME": lambda reader, argument: None,
        "READONLY_BUFFER": lambda reader, argument: None,
        "NONE": lambda reader, argument: reader.stack.append(None),
        "NEWTRUE": lambda reader, argument: reader.stack.append(True),
        "NEWFALSE": lambda reader, argument: reader.stack.append(False),
        "MARK": lambda reader, argument: reader.stack.append(_MARK),
        "POP": lambda reader, argument: reader.stack.pop(),
        "POP_MARK": lambda reader, argument: reader.since_mark(),
        "EMPTY_LIST": lambda reader, argument: reader.stack.append([]),
        "EMPTY_DICT": lambda reader, argument: reader.stack.append({}),
        "EMPTY_TUPLE": lambda reader, argument: reader.stack.append(()),
        "EMPTY_SET": _empty_set,
        "ADDITEMS": lambda reader, argument: reader.add_items(reader.since_mark()),
        "APPEND": lambda reader, argument: reader.append([reader.stack.pop()]),
        "APPENDS": lambda reader, argument: reader.append(reader.since_mark()),
        "SETITEM": _set_item,
        "SETITEMS": lambda reader, argument: reader.set_items(reader.since_mark()),
        "TUPLE": lambda reader, argument: reader.stack.append(
            tuple(map(_finished, reader.since_mark()))
        ),
        "TUPLE1": lambda reader, argument: reader.tuple_of(1),
        "TUPLE2": lambda reader, argument: reader.tuple_of(2),
        "TUPLE3": lambda reader, argument: reader.tuple_of(3),
        "PUT": _put,
        "BINPUT": _put,
        "LONG_BINPUT": _put,
        "MEMOIZE": _put,
        "GET": lambda reader, argument: reader.stack.append(reader.memo[argument]),
        "BINGET": lambda reader, argument: reader.stack.append(reader.memo[argument]),
        "LONG_BINGET": lambda reader, argument: reader.stack.append(reader.memo[argument]),
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "NEWOBJ": _new_object,
        "BUILD": _build,
        "BINPERSID": _persistent,
    }
)
"""All other opcodes that plain data needs."""


# ---------------------------------------------------------------------------- what may be called


def _storage(content: object) -> Storage:
    """Read what torch writes of a tensor's memory: five pickles, then numbers, in old torch files.

    Those are a magic number, a version, the machine, what lies where, and in which order; none of
    them calls anything.
    """
    if type(content) is not bytes:
        raise Refused("it is damaged")
    stream = io.BytesIO(content)
    magic, version, _ = (_Reader(stream).read() for _ in range(3))
    if (magic, version) != (0x1950A86A20F9469CFC6C, 1001):
        raise Refused("a tensor's numbers are not as torch writes them")
    place = _Reader(stream, persistent=lambda key: key).read()
    return storage_of(place, _Reader(stream).read(), stream)


def _latin1(text: object, encoding: object) -> bytes:
    """Give bytes that protocol 2 holds as text."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise Refused("it is damaged")
    return text.encode("latin1")


def _no_bytes(*arguments: object) -> bytes:
    if arguments:
        raise Refused("it is damaged")
    return b""


def _ordered(*arguments: object) -> dict[Any, Any]:
    """Give the dict that an OrderedDict begins as; its entries follow."""
    if arguments:
        raise Refused("it is damaged")
    return {}


def _set_of(values: object) -> set[str | int]:
    """Give a set of what can be hashed without looking how deep it goes."""
    if type(values) is not list or not all(type(value) in (str, int) for value in values):
        raise Refused("a set must be of text or numbers, one is not")
    return set(values)


def _size(lengths: object) -> tuple[Any, ...]:
    if not isinstance(lengths, tuple | list):
        raise Refused("it is damaged")
    return tuple(lengths)


def _reconstructed(kind: object, base: object, state: object) -> _Instance:
    """Give an instance as protocols before 2 name it."""
    if base not in (Name("builtins", "object"), Name("__builtin__", "object")) or state:
        raise Refused("it is damaged")
    return _instance(kind)


_CALLS: Mapping[Name, Callable[..., Any]] = MappingProxyType(
    {
        Name("_codecs", "encode"): _latin1,
        Name("builtins", "bytes"): _no_bytes,
        Name("__builtin__", "bytes"): _no_bytes,
        Name("builtins", "set"): _set_of,
        Name("__builtin__", "set"): _set_of,
        Name("collections", "OrderedDict"): _ordered,
        Name("copyreg", "_reconstructor"): _reconstructed,
        Name("copy_reg", "_reconstructor"): _reconstructed,
        Name("numpy", "dtype"): plain_type,
        **{
            Name(f"numpy.{core}.{module}", name): call
            # numpy 2 put an underscore before the module's name.
            for core in ("core", "_core")
            for module, name, call in (
                ("multiarray", "_reconstruct", lambda *ignored: Shell()),
                ("multiarray", "scalar", scalar),
                ("numeric", "_frombuffer", from_buffer),
            )
        },
        Name("torch", "Size"): _size,
        Name("torch._utils", "_rebuild_tensor_v2"): tensor,
        Name("torch.storage", "_load_from_bytes"): _storage,
    }
)
"""The names that plain data calls, with what they mean here."""
