"""Names to specs: one file imported a look-up, entry points of other packages, and file paths.

Where plug-ins come from, for each kind:

- ``tasks/NAME.py`` (``TASK``), ``backbones/FAMILY.py`` (``BACKBONES``; a family's file name is the
  longest one that begins the backbone's name) and ``rsbench/protocols/NAME.py`` (``PROTOCOL``);
- the entry points ``rsbench.tasks``, ``rsbench.backbones`` and ``rsbench.protocols`` of other
  installed packages;
- a path, ``./mine.py`` or ``./net.py:build``, whose sha256 is kept for the record.

A family whose networks can't be listed (``timm/NAME``) defines ``backbone_for(name)`` beside its
``BACKBONES``; it is asked for names that are not in the tuple.

Suffixes are part of the grammar: ``TASK@sample`` is a task on its embedded sample, and
``BACKBONE+KEY=VALUE@PIXELS`` is a backbone with other options, as many as it has
(``resnet_rs_50+width=0.5``), or at another input side (``resnet_rs_50@160``), or both.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Generic, Literal, TypeVar, cast

from rsbench.digests import digest_bytes, digest_file
from rsbench.errors import DuplicateNameError, PluginError, RsbenchError, UnknownNameError
from rsbench.errors import suggest as suggest
from rsbench.specs import Backbone, InputSpec, Protocol, Task
from rsbench.suites import SAMPLE

Kind = Literal["task", "backbone", "protocol"]
Spec = Task | Backbone | Protocol
S = TypeVar("S", bound=Task | Backbone | Protocol, covariant=True)

_PATH = re.compile(r"^(?P<path>.+\.py)(?::(?P<attribute>\w+))?$")
_PATH_WITHIN = re.compile(r"\.py(?!\w)")
"""A file's name, suffixes of the grammar behind it or none."""
LEAST_PIXELS = 8
"""Smallest side of an input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found(Generic[S]):
    """A plug-in and where it was found."""

    spec: S
    origin: str
    """Module, entry point, or file that offers it; for messages only."""
    source_sha256: str | None = None
    """sha256 of the file where it was named by a path."""
    for_root: Callable[[Path | None], Task] | None = None
    """Of tasks on the user's own data: makes the task that fits a data root."""
    pixels: int | None = None
    """What ``@PIXELS`` said, if it was there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A plug-in that can't be used, and why."""

    kind: Kind
    origin: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """One kind of plug-in: which package and entry-point group, and under which names in a file."""

    package: str
    group: str
    attributes: tuple[str, ...]
    any_name: str = ""
    """Function of a file that makes plug-ins of names it does not list."""


_PLACES: dict[Kind, _Place] = {
    "task": _Place(package="rsbench_tasks", group="rsbench.tasks", attributes=("TASK",)),
    "backbone": _Place(
        package="rsbench_backbones",
        group="rsbench.backbones",
        attributes=("BACKBONES", "BACKBONE", "build"),
        any_name="backbone_for",
    ),
    "protocol": _Place(
        package="rsbench.protocols", group="rsbench.protocols", attributes=("PROTOCOL",)
    ),
}


def find_task(name: str) -> Found[Task]:
    """Find a task by name or file path; ``@sample`` must be cut off before (`split_sample`).

    Raises:
        UnknownNameError: Nothing has this name; the message says the nearest ones.
        DuplicateNameError: Two places offer it.
        PluginError: Its file can't be imported or holds something else.
    """
    return cast("Found[Task]", _find("task", name))


def find_backbone(name: str) -> Found[Backbone]:
    """Find a backbone by name, ``NAME+KEY=VALUE@PIXELS`` or file path (``./net.py:build``).

    Raises:
        UnknownNameError: Nothing has this name; the message says the nearest ones.
        DuplicateNameError: Two places offer it.
        PluginError: Its file can't be imported or holds something else.
        RsbenchError: It has no such option, or no options.
    """
    before, at, size = name.rpartition("@")
    if at and not _PATH.match(name):
        found, pixels = find_backbone(before), _side(name, size)
        if found.pixels is not None:
            raise RsbenchError(f"{name} gives pixels twice; write NAME+KEY=VALUE@PIXELS.")
        return replace(found, spec=_at_pixels(found.spec, pixels), pixels=pixels)
    base, *options = [name] if _PATH.match(name) else name.split("+")
    found = cast("Found[Backbone]", _find("backbone", base))
    return replace(found, spec=_varied(found.spec, options)) if options else found


def find_protocol(name: str) -> Found[Protocol]:
    """Find a protocol by name or file path.

    Raises:
        UnknownNameError: Nothing has this name; the message says the nearest ones.
        DuplicateNameError: Two places offer it.
        PluginError: Its file can't be imported or holds something else.
    """
    return cast("Found[Protocol]", _find("protocol", name))


def is_plain_name(name: str) -> bool:
    """Say whether a name is one that a plug-in may have, and no file to import or list of several.

    What a record names was written by anybody, and must be looked up as a name alone. Names that
    look-ups cut suffixes off count as what is left: `./mine.py@32` is a file.
    """
    return _PATH_WITHIN.search(name) is None and "," not in name and not name.startswith("-")


def is_built_in(found: Found[Backbone]) -> bool:
    """Say whether a backbone is rsbench's own, not of another package or a file."""
    return found.origin.startswith(f"{_PLACES['backbone'].package}.")


def split_sample(name: str) -> tuple[str, bool]:
    """Split ``kinetics400@sample`` into the task's name and whether its sample is meant."""
    return (name.removesuffix(SAMPLE), True) if name.endswith(SAMPLE) else (name, False)


def everything(
    kind: Kind,
) -> tuple[tuple[Found[Task | Backbone | Protocol], ...], tuple[Broken, ...]]:
    """Import every plug-in of a kind, for lists.

    Returns:
        What works, by name, and what does not with the reason: a plug-in that fails to import, or a
        name that two places offer, breaks nothing else.
    """
    works: dict[str, Found[Spec]] = {}
    broken: list[Broken] = []
    for origin, load in _sources(kind):
        try:
            offered = load()
        except RsbenchError as error:
            broken.append(Broken(kind=kind, origin=origin, reason=str(error)))
            continue
        for found in offered:
            name = found.spec.name
            if name in works:
                reason = _twice(kind, name, [works[name].origin, found.origin])
                broken.append(Broken(kind=kind, origin=origin, reason=reason))
            else:
                works[name] = found
    return tuple(works[name] for name in sorted(works)), tuple(broken)


def _find(kind: Kind, name: str) -> Found[Spec]:
    path = _PATH.match(name)
    if path is not None:
        return _from_file(kind, Path(path["path"]), path["attribute"])
    offered: list[Found[Spec]] = []
    for load in _candidates(kind, name):
        offered += [found for found in load() if found.spec.name == name]
    if len(offered) > 1:
        raise DuplicateNameError(_twice(kind, name, [found.origin for found in offered]))
    if not offered:
        offered += _made_for(kind, name)
    if not offered:
        works, _ = everything(kind)
        known = [found.spec.name for found in works]
        raise UnknownNameError(
            f"No {kind} is called {name!r}.{suggest(name, known)} `rsbench ls {kind}s` lists all"
            f" {len(known)}; a path such as ./{kind}.py works as a name too."
        )
    return offered[0]


def _made_for(kind: Kind, name: str) -> list[Found[Spec]]:
    """Ask the families whose networks can't be listed; they raise at a name of theirs they lack."""
    place = _PLACES[kind]
    modules = [module for module in _module_names(kind) if name.startswith(f"{module}/")]
    for full_name in (f"{place.package}.{module}" for module in modules):
        make = getattr(importlib.import_module(full_name), place.any_name or "-", None)
        if make is not None:
            return [_checked(kind, make(name), origin=full_name)]
    return []


def _twice(kind: Kind, name: str, origins: Sequence[str]) -> str:
    places = " and ".join(origins)
    return f"The {kind} {name!r} is offered by {places}; remove or rename one of them."


_Load = Callable[[], "list[Found[Spec]]"]


def _candidates(kind: Kind, name: str) -> Iterator[_Load]:
    """Give the loaders of the places that can hold `name`, importing nothing else."""
    modules = _module_names(kind)
    if kind == "backbone":
        families = [module for module in modules if name.startswith(module)]
        modules = [max(families, key=len)] if families else []
    else:
        modules = [module for module in modules if module == name]
    for module in modules:
        yield _module_loader(kind, module)
    for point in importlib.metadata.entry_points(group=_PLACES[kind].group):
        if point.name == name:
            yield _entry_point_loader(kind, point)


def _sources(kind: Kind) -> Iterator[tuple[str, _Load]]:
    for module in _module_names(kind):
        yield f"{_PLACES[kind].package}.{module}", _module_loader(kind, module)
    for point in importlib.metadata.entry_points(group=_PLACES[kind].group):
        yield _origin(point), _entry_point_loader(kind, point)


def _module_names(kind: Kind) -> list[str]:
    package = importlib.import_module(_PLACES[kind].package)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def _module_loader(kind: Kind, module_name: str) -> _Load:
    place = _PLACES[kind]
    full_name = f"{place.package}.{module_name}"

    def load() -> list[Found[Spec]]:
        module = _guarded(full_name, lambda: importlib.import_module(full_name))
        return _specs_of(kind, module, place.attributes, origin=full_name)

    return load


def _origin(point: importlib.metadata.EntryPoint) -> str:
    package = point.dist.name if point.dist is not None else "an installed package"
    return f"{package} ({point.value})"


def _entry_point_loader(kind: Kind, point: importlib.metadata.EntryPoint) -> _Load:
    origin = _origin(point)

    def load() -> list[Found[Spec]]:
        spec = _guarded(origin, point.load)
        found = _checked(kind, spec, origin=origin)
        if found.spec.name != point.name:
            raise PluginError(
                f"{origin} is registered as {point.name!r} and calls itself {found.spec.name!r};"
                " the two must be equal."
            )
        return [found]

    return load


_Loaded = TypeVar("_Loaded")


def _guarded(origin: str, load: Callable[[], _Loaded]) -> _Loaded:
    """Run a plug-in's import; whatever it raises becomes one line that names it."""
    try:
        return load()
    except (Exception, SystemExit) as error:
        cause = str(error).splitlines()[0] if str(error) else "no message"
        raise PluginError(f"{origin} can't be imported: {type(error).__name__}: {cause}") from error


def _specs_of(
    kind: Kind, module: ModuleType, attributes: Sequence[str], *, origin: str
) -> list[Found[Spec]]:
    for attribute in attributes:
        if not hasattr(module, attribute):
            continue
        value = getattr(module, attribute)
        specs = value if isinstance(value, tuple) else (value,)
        found = [_checked(kind, spec, origin=origin) for spec in specs]
        if kind == "task" and hasattr(module, "task_for"):
            return [replace(each, for_root=module.task_for) for each in found]
        return found
    raise PluginError(f"{origin} must define {' or '.join(attributes)}; it defines none of them.")


def _checked(kind: Kind, spec: object, *, origin: str) -> Found[Spec]:
    wanted = {"task": Task, "backbone": Backbone, "protocol": Protocol}[kind]
    if not (isinstance(spec, Spec) and isinstance(spec, wanted)):
        raise PluginError(
            f"{origin} must give a rsbench.specs.{wanted.__name__};"
            f" it gave a {type(spec).__name__}."
        )
    return Found(spec=spec, origin=origin)


def _from_file(kind: Kind, path: Path, attribute: str | None) -> Found[Spec]:
    if not path.is_file():
        raise UnknownNameError(
            f"No file {path} to take a {kind} from; give the path of a Python file that exists, or"
            f" a name of `rsbench ls {kind}s`."
        )
    sha256 = digest_file(path)
    module = _guarded(str(path), lambda: _import_file(path, sha256))
    attributes = (attribute,) if attribute else _PLACES[kind].attributes
    held = next((name for name in attributes if hasattr(module, name)), "")
    value = getattr(module, held, None)
    if kind == "backbone" and callable(value) and not isinstance(value, Backbone):
        spec = _bare_backbone(module, value, name=f"{path.stem}:{held}", origin=str(path))
        return Found(spec=spec, origin=str(path), source_sha256=sha256)
    offered = _specs_of(kind, module, attributes, origin=str(path))
    if len(offered) > 1:
        names = ", ".join(found.spec.name for found in offered)
        raise PluginError(f"{path} holds several {kind}s ({names}); name one as {path}:ATTRIBUTE.")
    return replace(offered[0], source_sha256=sha256)


def _import_file(path: Path, sha256: str) -> ModuleType:
    """Import a file under a name of its place and content: no other file, no older text is met."""
    place = digest_bytes(f"{path.resolve()}\n{sha256}".encode())
    name = f"rsbench_plugin_{path.stem}_{place[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # DataLoader workers unpickle by module name, so the module must be findable there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _bare_backbone(
    module: ModuleType, build: Callable[[], object], *, name: str, origin: str
) -> Backbone:
    """Describe any function that gives an nn.Module as a backbone, by building and trying it."""
    from rsbench.adapt import adapt_bare_module

    declared = getattr(module, "INPUT", None)
    if declared is not None and not isinstance(declared, InputSpec):
        raise PluginError(
            f"{origin}: INPUT must be a rsbench.specs.InputSpec; it is a {type(declared).__name__}."
        )
    return adapt_bare_module(build, name=name, origin=origin, declared=declared)


def _side(name: str, text: str) -> int:
    """Read the pixels of ``NAME@PIXELS``; fewer than the command line's --pixels takes are none."""
    if not (text.isascii() and text.isdigit() and int(text) >= LEAST_PIXELS):
        raise RsbenchError(
            f"What follows @ must be the side of the input, a whole number of {LEAST_PIXELS} pixels"
            f" or more, after any options (NAME+KEY=VALUE@PIXELS); it was {text!r} in {name}."
        )
    return int(text)


def _varied(backbone: Backbone, options: Sequence[str]) -> Backbone:
    """Give the network that ``KEY=VALUE`` words describe."""
    if backbone.vary is None:
        raise RsbenchError(
            f"{backbone.name} has no options, +{options[0]} was given; leave it out, or name a"
            " network that has them (resnet_rs_50+width=0.5)."
        )
    chosen: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value) or key in chosen:
            raise RsbenchError(
                f"Options of {backbone.name} must be KEY=VALUE after a plus sign, each key once;"
                f" it was +{option}."
            )
        chosen[key] = value
    return backbone.vary(chosen)


def _at_pixels(backbone: Backbone, pixels: int) -> Backbone:
    """Give the same network at another input side, its weights' preprocessing kept."""
    weights = tuple(replace(each, input=each.input.at(pixels)) for each in backbone.weights)
    return replace(
        backbone,
        name=f"{backbone.name}@{pixels}",
        input=backbone.input.at(pixels),
        weights=weights,
    )
