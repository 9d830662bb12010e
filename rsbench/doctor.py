"""`rsbench doctor`: is this machine fit for runs whose numbers can be believed?

Nothing heavy is imported before the question that needs it, so that a broken package is a finding
and not the end of the examination. Nothing is written but trial files in temporary folders.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rsbench.data.roots import config_path, find_root, variable_name
from rsbench.errors import DataError, MediaError, WeightsError
from rsbench.findings import Check, Fault, attempt, explain, some
from rsbench.installation import look_at_installation
from rsbench.registry import Found, Kind, everything, suggest
from rsbench.specs import Backbone, Protocol, Task

if TYPE_CHECKING:
    from rsbench.media.exactness import Trial

RESULTS_BYTES = 200 * 1024**2
"""Free space wanted for results: one record of Kinetics-400 keeps 19,907 x 400 float32 scores,
32 MB, and half a dozen of them make a small grid."""
CACHE_BYTES = 4 * 1024**3
"""Free space wanted for caches: features of Kinetics-400, 240,000 train clips and 30 views of
19,907 test clips, take 2048 float32 each, 6.9 GB; a smaller set, or a linear probe on one view,
takes a part of it."""
SHARDS_READ = 100
"""Shards of the feature cache that are read, evenly spaced."""


def examine(*, results: Path, cache_root: Path) -> list[Check]:
    """Examine versions, plug-ins, data, weights, decoder, disk, results and the feature cache.

    Args:
        results: Folder of records; need not exist.
        cache_root: Folder of the caches; need not exist.

    Returns:
        One finding a question; everything is well if all are ok.
    """
    return [
        *look_at_installation(),
        *look_at_plugins(),
        *look_at_data(),
        look_at_weights(cache_root),
        *look_at_decoder(),
        *look_at_disk(results=results, cache_root=cache_root),
        look_at_results(results),
        look_at_feature_cache(cache_root),
    ]


def _bind(look: Callable[..., str], *arguments: object) -> Callable[[], str]:
    return lambda: look(*arguments)


# ----------------------------------------------------------------------------------- plug-ins


def look_at_plugins() -> Iterator[Check]:
    """Ask whether every task, backbone and protocol that is offered can be imported."""
    kinds: tuple[Kind, ...] = ("task", "backbone", "protocol")
    for kind in kinds:
        yield attempt(
            f"plug-ins: {kind}s", _bind(_look_at_kind, kind), next_step="Install rsbench again."
        )


def _look_at_kind(kind: Kind) -> str:
    works, broken = everything(kind)
    if broken:
        reasons = "; ".join(each.reason for each in broken)
        raise Fault(
            f"every {kind} must import; {len(broken)} of {len(works) + len(broken)} do not:"
            f" {reasons}",
            next_step="Mend, rename or uninstall what offers it; the others work.",
        )
    return f"{len(works)} work"


def _works(kind: Kind) -> tuple[Found[Task | Backbone | Protocol], ...]:
    """Give what works of a kind; why the rest does not is a finding of its own."""
    try:
        return everything(kind)[0]
    except Exception:
        return ()


# --------------------------------------------------------------------------------------- data


def look_at_data() -> Iterator[Check]:
    """Ask whether every configured data root exists and its task finds the reported split there."""
    entries: list[str] = []
    mend = f"Mend {config_path()}, or move it away."
    check = attempt("data: config file", _bind(_read_config, entries), next_step=mend)
    yield check
    if not check.ok:
        return
    tasks = [cast("Found[Task]", found) for found in _works("task")]
    names = [found.spec.name for found in tasks]
    yield attempt("data: names", _bind(_look_at_names, entries, names), next_step=mend)
    for found in tasks:
        try:
            root = find_root(found.spec)
        except DataError as error:
            mend = "Correct the place that says so, or get the data."
            yield Check(
                name=f"data: {found.spec.name}", ok=False, detail=str(error), next_step=mend
            )
            continue
        if root is not None:
            mend = f"Look closer with: rsbench data check {found.spec.name}"
            look = _bind(_look_at_root, found, root.path)
            yield attempt(f"data: {found.spec.name}", look, next_step=mend)


def _read_config(entries: list[str]) -> str:
    """Fill in the tasks that the config file names data of."""
    path = config_path()
    if not path.exists():
        if os.environ.get("RSBENCH_CONFIG"):
            raise Fault(
                f"RSBENCH_CONFIG must name a config file; {path} does not exist",
                next_step="Create it, or unset the variable.",
            )
        return f"none at {path}, and none is needed"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("data", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Fault(
            f"{path} must be readable TOML: {error}", next_step="Mend it, or move it away."
        ) from error
    if not isinstance(table, dict):
        raise Fault(
            f'{path} must have a table [data] with lines TASK = "FOLDER"; data is {table!r}',
            next_step="Mend it, or move it away.",
        )
    entries.extend(sorted(table))
    return f"{path} is readable"


def _look_at_names(entries: list[str], tasks: list[str]) -> str:
    """Find places that are configured for a task that does not exist: a slip of the pen."""
    prefix = variable_name("")
    by_variable = {variable_name(name): name for name in tasks}
    variables = sorted(name for name in os.environ if name.startswith(prefix))
    for known, given in ((list(by_variable), variables), (tasks, entries)):
        wrong = next((name for name in given if name not in known), None)
        if wrong is not None:
            raise Fault(
                f"{wrong} says where data lies, and there is no task of that name."
                f"{suggest(wrong, known)}",
                next_step="Correct or remove it; `rsbench ls tasks` lists the tasks.",
            )
    if not variables and not entries:
        return (
            "no data is configured: runs use the embedded samples, or --data;"
            f" {variable_name('TASK')} or {config_path()} can say where data lies"
        )
    return f"configured: {', '.join([*variables, *entries])}"


def _look_at_root(found: Found[Task], root: Path) -> str:
    from rsbench.gathering import gather

    task = found.for_root(root) if found.for_root is not None else found.spec
    gathered = gather(task, root, limit=None, trains=False)
    of = "" if gathered.num_official is None else f" of {gathered.num_official} official"
    missing = f", {len(gathered.missing)} missing" if gathered.missing else ""
    return f"{gathered.num_expected}{of} items in {gathered.split}{missing}"


# ------------------------------------------------------------------------------------ weights


def look_at_weights(cache_root: Path) -> Check:
    """Ask whether the known weights that are here are the declared ones and fit."""
    return attempt(
        "weights",
        _bind(_look_at_files, cache_root),
        next_step="Delete the file that is named and get it again.",
    )


def _look_at_files(cache_root: Path) -> str:
    from rsbench.weights.shelf import base_name, look, place_of
    from rsbench.weights.verification import HELD_WORDS, verify

    def candidates() -> tuple[Backbone, ...]:
        return tuple(cast("Backbone", found.spec) for found in _works("backbone"))

    num_known, here, unverified, faults = 0, [], [], []
    for found in _works("backbone"):
        backbone = cast("Backbone", found.spec)
        for weights in backbone.weights:
            place = place_of(backbone, weights, cache_root=cache_root)
            if place.network != base_name(backbone.name):
                continue  # In the list of the network that they belong to.
            num_known += 1
            if look(place).standing == "absent":
                continue
            here.append(weights.name)
            try:
                line = verify(backbone, place, candidates=candidates)
            except WeightsError as error:
                faults.append(str(error))
                continue
            # A sha256 given at the fetch, or stated by the hub, verifies as well as a declared one.
            if HELD_WORDS["nothing"] in line:
                unverified.append(weights.name)
    if faults:
        raise Fault(
            f"{len(faults)} of {len(here)} weights files can't be used: {'; '.join(faults)}",
            next_step="Delete these files and get them again.",
        )
    note = f"; unverified, as no sha256 is declared: {some(unverified)}" if unverified else ""
    return (
        f"{len(here)} of {num_known} known files are here, all fit{note}; `--weights none` needs"
        " none"
    )


# ------------------------------------------------------------------------------------ decoder


def look_at_decoder(*, short: bool = True) -> Iterator[Check]:
    """Write videos whose frames carry their number, and read them as runs do.

    Args:
        short: Hold one video a codec; otherwise every trial there is, and end with a verdict.
    """
    try:
        from rsbench.media import exactness
        from rsbench.media.video import decoder_version
    except ImportError as error:
        yield Check(name="decoder", ok=False, detail=explain(error), next_step=_TESTED_DECODER)
        return
    trials = [trial for trial in exactness.TRIALS if trial.short or not short]
    num_exact, absent, wrong = 0, [], []
    for trial in trials:
        check = attempt(
            f"decoder: {trial.name}", _bind(_look_at_trial, trial), next_step=_TESTED_DECODER
        )
        if check.ok and check.detail.startswith(_NO_ENCODER):
            absent.append(trial.name)
            continue
        num_exact += check.ok
        wrong += [] if check.ok else [trial.name]
        yield check
    if absent:
        yield Check(
            name="decoder: not tried",
            ok=True,
            detail=f"this library has no encoder to try them with: {'; '.join(absent)}",
        )
    if not short:
        faults = f"; not exact: {'; '.join(wrong)}" if wrong else ""
        yield Check(
            name="decoder: verdict",
            ok=not wrong,
            detail=f"{decoder_version()} is frame-exact on {num_exact} of {len(trials)} kinds of"
            f" video, {len(absent)} were not tried{faults}",
            next_step=_TESTED_DECODER if wrong else "",
        )


_NO_ENCODER = "no encoder"
_TESTED_DECODER = (
    "Do not trust video scores of this machine; install the tested decoder: pip install -c"
    " constraints.txt av"
)


def _look_at_trial(trial: Trial) -> str:
    from rsbench.media.exactness import hold_exact, write_trial

    with tempfile.TemporaryDirectory(prefix="rsbench-doctor-") as folder:
        try:
            path = write_trial(trial, Path(folder))
        except MediaError as error:
            if trial.required:
                raise
            return f"{_NO_ENCODER}: {error}"
        return hold_exact(trial, path)


# --------------------------------------------------------------------------- disk and results


def look_at_disk(*, results: Path, cache_root: Path) -> Iterator[Check]:
    """Ask whether both folders can be written and have room; neither is made."""
    for what, folder, wanted_bytes, option in (
        ("results", results, RESULTS_BYTES, "--results"),
        ("cache", cache_root, CACHE_BYTES, "RSBENCH_CACHE"),
    ):
        yield attempt(
            f"disk: {what}",
            _bind(_look_at_folder, folder, wanted_bytes, option),
            next_step=f"Name another folder with {option}.",
        )


def _look_at_folder(folder: Path, wanted_bytes: int, option: str) -> str:
    """Look at a folder, or at the nearest one above it that exists, and leave it as it is."""
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise Fault(
            f"{folder} must be a folder or free to become one; {place} is no folder",
            next_step=f"Move it away, or name another folder with {option}.",
        )
    try:
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(bytes(1024))
    except OSError as error:
        raise Fault(
            f"{place} must be writable; writing failed: {error.strerror or error}",
            next_step=f"Change its rights, or name another folder with {option}.",
        ) from error
    free = shutil.disk_usage(place).free
    if free < wanted_bytes:
        raise Fault(
            f"{place} must have {_size(wanted_bytes)} free; it has {_size(free)}",
            next_step=f"Free some space, or name another folder with {option}.",
        )
    return f"{folder} is writable, {_size(free)} free"


def _size(num_bytes: int) -> str:
    gib = num_bytes / 1024**3
    return f"{gib:.1f} GiB" if gib >= 1 else f"{num_bytes / 1024**2:.0f} MiB"


def look_at_results(results: Path) -> Check:
    """Ask whether every record below the results folder can be read."""

    def look() -> str:
        from rsbench.records import store

        contents = store.read_all(results)
        if contents.problems:
            num_files = len(contents.problems) + len(contents.records)
            raise Fault(
                f"{len(contents.problems)} of {num_files} records can't be read:"
                f" {some(contents.problems)}",
                next_step="Move these files away, or run them again; tables leave them out.",
            )
        return f"{len(contents.records)} records are readable"

    return attempt("results", look, next_step="Look at the rights of the results folder.")


def look_at_feature_cache(cache_root: Path) -> Check:
    """Ask whether shards of features are whole: all of a few, some of many."""
    root = cache_root / "shards"

    def look() -> str:
        from rsbench.data.shards import ShardStore

        paths = sorted(root.glob("*/*.safetensors"))
        chosen = paths[:: -(-len(paths) // SHARDS_READ) or 1]
        store = ShardStore(root)
        damaged = [path for path in chosen if store.load(path.stem) is None]
        if damaged:
            raise Fault(
                f"{len(damaged)} of {len(chosen)} shards are damaged: {some(damaged)}",
                next_step="Delete these files, they are made again; and look at the disk.",
            )
        return f"{len(chosen)} of {len(paths)} shards were read, all whole"

    return attempt("feature cache", look, next_step=f"Delete {root}; runs make it again.")
