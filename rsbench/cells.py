"""One cell of a grid: a request in the user's words, and the same with every word resolved.

`prepare` finds task, backbone, protocol, data, splits, weights and input; it runs nothing, so a dry
run and a real one share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from rsbench import environment
from rsbench.assembly import Assembled, assemble, check_device, resolve_input
from rsbench.data.fingerprints import Fingerprints
from rsbench.data.refolding import folding_of, refolded, regrouped
from rsbench.data.roots import Root, find_root
from rsbench.data.sample import sample_root
from rsbench.data.team import Helpers
from rsbench.errors import DataError, RsbenchError, UnknownNameError
from rsbench.gathering import Gathered, folds_of, gather
from rsbench.registry import (
    Found,
    everything,
    find_backbone,
    find_protocol,
    find_task,
    is_built_in,
    split_sample,
    suggest,
)
from rsbench.specs import Backbone, InputSpec, Protocol, Reading, Scalar, Settings, Task, Views
from rsbench.viewing import resolve_reading, resolve_recipe
from rsbench.weights.choosing import (
    INFLATE,
    MADE_FOR,
    OWN,
    RANDOM,
    ChosenWeights,
    choose_weights,
)
from rsbench.weights.history import refuse_learned
from rsbench.weights.shelf import known_weights, metadata_of

_CHECKPOINT_MINUTES = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """One cell of a grid, in the user's words; a run is a pure function of it."""

    task: str
    backbone: str
    protocol: str
    results: Path
    """Folder of records."""
    cache_root: Path
    data: Path | None = None
    """The data root; None looks in the environment and the configuration file."""
    weights: str = "none"
    seed: int = 0
    limit: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Changes to the recipe, as typed."""
    pixels: int | None = None
    frames: int | None = None
    stride: int | None = None
    views: Views | None = None
    """Test views; None leaves them to the task or the protocol."""
    sampler: str | None = None
    """Clip sampler of the test, and of frozen training clips; None likewise."""
    cropper: str | None = None
    """Where the crops of the test lie; None likewise."""
    folds: tuple[str, ...] = ()
    """Names of the folds to run; empty for all."""
    cross_validate: str | None = None
    """A number of folds, or "groups", in place of the task's own folds; None keeps those."""
    group_by: str | None = None
    """Regular expression that takes an item's group from its id; None keeps the task's groups."""
    keep_views_up_to_gib: float = 2.0
    """Largest file of single views' scores that is kept; of what would be larger, the means are.
    Held in memory once while a run lasts; Kinetics-700 at ten clips of three crops is 1.4 GiB."""
    max_failed: int | None = None
    """Fail if more items than this can't be read; None counts them and goes on."""
    device: str = "cpu"
    batch_size: int = 16
    num_workers: int = 0
    cache_clips_gib: float = 0.0
    """Most decoded views that are kept on disk; 0 keeps none."""
    cache_limit_gib: float | None = None
    """Most of networks' outputs that is kept on disk; None sets no limit."""
    precision: str = "float32"
    helpers: Helpers | None = None
    """Processes that train and extract with this one; None: it is alone."""
    again: bool = False
    """Run even if the same run is finished."""
    allow_test_selection: bool = False
    """Let the protocol select its settings on the test set, to show what that leak is worth; the
    record says so, and tables leave it out."""
    compile: bool = False
    """Whether what trains goes through `torch.compile`."""
    keep_checkpoints: int = 1
    """Latest checkpoints of a training that stay on the disk while it lasts."""
    checkpoint_minutes: float = _CHECKPOINT_MINUTES
    """Longest time between two of them; each epoch ends with one, unless that takes a good part
    of the time."""
    log_root: Path | None = None
    """Folder for TensorBoard's event files of trainings; None writes none."""
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    measured: Callable[[Mapping[str, float]], None] = lambda values: None
    """Called now and then with what a training is at; see `Settings.measured`."""
    purpose: str = ""
    """What the cell is in a larger plan, for whoever is watching."""
    say: Callable[[str], None] = lambda line: None
    """Called with a line that whoever is watching should read: what became of inflated weights."""

    @property
    def num_processes(self) -> int:
        """Processes that run it, this one among them."""
        return 1 if self.helpers is None else self.helpers.num_processes


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A request with every word resolved; nothing has run yet."""

    request: RunRequest
    task: Task
    task_name: str
    """With "@sample" where the sample stands in."""
    task_source: str | None
    sample: bool
    backbone: Found[Backbone]
    protocol: Found[Protocol]
    recipe: Mapping[str, Scalar]
    overrides: Mapping[str, Scalar]
    weights: ChosenWeights
    input: InputSpec
    fit_reading: Reading
    predict_reading: Reading
    gathered: Gathered
    notes: tuple[str, ...] = ()
    """What came of the user's words otherwise than they may read: another network was chosen."""


def prepare(request: RunRequest) -> Cell:
    """Resolve names, data, splits, weights and input; run nothing.

    Raises:
        RsbenchError: Whatever is wrong with the user's words or data, one line.
    """
    check_device(request.device)
    environment.commit_of(environment.CHECKOUT)  # of the code as it is now, before a long run
    protocol = find_protocol(request.protocol)
    backbone = find_backbone(request.backbone)
    found_task, root = find_task_and_data(request.task, request.data)
    path = sample_root(found_task.spec, request.cache_root) if root is None else root.path
    task = found_task.for_root(path) if found_task.for_root is not None else found_task.spec
    task = _with_folds(task, path, request)
    if task.target not in protocol.spec.targets:
        raise RsbenchError(
            f"Protocol {protocol.spec.name} gives {', '.join(sorted(protocol.spec.targets))};"
            f" task {task.name} asks for {task.target}."
        )
    overrides = _parse_overrides(protocol.spec, request.overrides)
    recipe = resolve_recipe(protocol.spec, task, overrides)
    protocol.spec.check(recipe)
    if request.allow_test_selection and protocol.spec.selects(recipe) == "nothing":
        raise RsbenchError(
            f"--allow-test-selection must go with a protocol that selects something, and"
            f" {protocol.spec.name} selects nothing: leave it out."
        )
    _check_training_words(request, protocol.spec, recipe)
    _check_start(protocol.spec, request.weights)
    backbone, notes = network_of(backbone, request.weights)
    weights = choose_weights(backbone.spec, request.weights, cache_root=request.cache_root)
    sample = task.sample if root is None else None
    seen, clip = resolve_input(
        weights.input,
        backbone_modality=backbone.spec.modality,
        task=task,
        sample=sample,
        pixels=request.pixels or backbone.pixels,
        frames=request.frames,
        stride=request.stride,
    )
    predict_reading = resolve_reading(
        task,
        protocol.spec,
        sample=sample,
        input=seen,
        clip=clip,
        views=request.views,
        sampler=request.sampler,
        cropper=request.cropper,
        read_key="" if task.read is None else _read_key(task, found_task.source_sha256),
    )
    gathered = gather(
        task,
        path,
        limit=request.limit,
        trains=protocol.spec.trains,
        folds=request.folds,
        # A sample's clips are in no data set.
        trained_on=weights.trained_on if sample is None else (),
    )
    task_name = f"{task.name}@sample" if sample is not None else task.name
    refuse_learned(
        weights,
        task,
        task_name=task_name,
        folds=folds_of(task, path),
        tested={fold.name: fold.test.items for fold in gathered.folds},
        digest_of=Fingerprints(request.cache_root / "fingerprints").digest,
    )
    return Cell(
        request=request,
        task=task,
        task_name=task_name,
        task_source=found_task.source_sha256,
        sample=sample is not None,
        backbone=backbone,
        protocol=protocol,
        recipe=recipe,
        overrides=overrides,
        weights=weights,
        input=seen,
        fit_reading=replace(predict_reading, views=Views()),
        predict_reading=predict_reading,
        gathered=gathered,
        notes=notes,
    )


def check_overrides(protocol: Protocol, typed: Mapping[str, str]) -> None:
    """Hold changes of a recipe to what it allows, whatever the task.

    Raises:
        UnknownNameError: The recipe has no such entry.
        RsbenchError: A value is of another type, or out of its range.
    """
    protocol.check({**protocol.recipe, **_parse_overrides(protocol, typed)})


def _check_training_words(
    request: RunRequest, protocol: Protocol, recipe: Mapping[str, Scalar]
) -> None:
    """Refuse words about a training where nothing is trained step by step."""
    if protocol.learns_backbone(recipe) or protocol.num_trained(recipe):
        return
    given = {
        "--compile": request.compile,
        "--keep-checkpoints": request.keep_checkpoints > 1,
        "--checkpoint-minutes": request.checkpoint_minutes != _CHECKPOINT_MINUTES,
        "--tensorboard": request.log_root is not None,
    }
    word = next((word for word, is_given in given.items() if is_given), None)
    if word is not None:
        raise RsbenchError(
            f"{word} must go with a protocol that trains step by step, and {protocol.name} does"
            " not: leave it out."
        )


def _check_start(protocol: Protocol, weights: str) -> None:
    """Refuse weights that have learned something under a protocol that begins with none."""
    if protocol.from_scratch and weights not in {RANDOM, OWN}:
        raise RsbenchError(
            f"{protocol.name} trains a network from random weights, so --weights must be {RANDOM};"
            f" it was {weights!r}: leave it out, or tune these weights with --protocol finetune."
        )


def _with_folds(task: Task, root: Path, request: RunRequest) -> Task:
    """Give the task with the groups and the folds that the user asks for."""
    if request.group_by is not None:
        task = regrouped(task, request.group_by)
    if request.cross_validate is None:
        return task
    folding = folding_of(request.cross_validate)
    return refolded(task, root, folding, own_folds=folds_of(task, root))


def network_of(found: Found[Backbone], weights: str) -> tuple[Found[Backbone], tuple[str, ...]]:
    """Give the network that the named weights belong to, which may be a sibling of the one named.

    Args:
        found: The backbone as named.
        weights: As typed: a name, a file, "inflate:" before one of these, or "none".

    Returns:
        The backbone, or its sibling, or the backbone that inflates a sibling of its image network;
        and a line that says so, where it is not simply the backbone.

    Raises:
        UnknownNameError: The weights name a network that does not exist.
    """
    flat = found.spec.flat
    if weights.startswith(INFLATE) and flat is not None:
        name = weights.removeprefix(INFLATE)
        known = known_weights(flat, name)
        network = _marked_for(flat, Path(name)) if known is None else known.network
        if network in (None, flat.name):
            return found, ()
        sibling = find_backbone(network).spec
        name = Path(name).name if known is None else known.name
        note = f"weights {name} belong to {sibling.name}: they are inflated from that network"
        return replace(found, spec=replace(found.spec, flat=sibling)), (note,)
    known = known_weights(found.spec, weights)
    if known is None or known.network is None:
        return found, ()
    pixels = "" if found.pixels is None else f"@{found.pixels}"
    other = find_backbone(f"{known.network}{pixels}")
    if other.spec.name == found.spec.name:
        return found, ()
    note = f"weights {known.name} belong to {other.spec.name}: it runs instead of {found.spec.name}"
    return other, (note,)


def _marked_for(flat: Backbone, path: Path) -> str | None:
    """Give the sibling of an image network that a converted file says it was made for."""
    siblings = {known.network for known in flat.weights}
    made_for = metadata_of(path).get(MADE_FOR)
    return made_for if made_for in siblings else None


def backbones() -> tuple[Backbone, ...]:
    """Give every backbone that has a name: where to look for the one that a file fits."""
    return tuple(cast("Backbone", found.spec) for found in everything("backbone")[0])


def _read_key(task: Task, source_sha256: str | None) -> str:
    """Name a task's own reader by content: an edited file must not meet the features of the old."""
    return f"{task.name}@{task.version} {source_sha256 or ''}".rstrip()


def find_task_and_data(name: str, data: Path | None) -> tuple[Found[Task], Root | None]:
    """Find a task and where its data lies.

    Args:
        name: The task, with "@sample" if its sample is meant.
        data: What the user said of the data's place, if anything.

    Returns:
        The task, fitted to its data where it is one on own data, and the data; None where the
        sample stands in.

    Raises:
        UnknownNameError: No such task.
        DataError: The place does not exist, or data is needed and none is configured.
    """
    base_name, sample_asked = split_sample(name)
    found = find_task(base_name)
    if sample_asked:
        if data is not None:
            raise DataError(
                f"{name} brings its own data; leave --data out, or name the task {base_name}."
            )
        return found, None
    root = find_root(found.spec, data)
    if root is None and found.spec.without_data == "error":
        raise DataError(
            f"Task {base_name} needs your data: give --data PATH. {found.spec.how_to_get}"
        )
    if root is not None and found.for_root is not None:
        found = replace(found, spec=found.for_root(root.path))
    return found, root


def assemble_cell(cell: Cell) -> Assembled:
    """Build and load the network of a cell on its device.

    Raises:
        WeightsError: The file is damaged, of another network, or not the declared one.
        RsbenchError: The network must begin at random, and its own code sets its weights; or it
            does not suit the recipe.
    """
    assembled = assemble(
        cell.backbone.spec,
        cell.weights,
        input=cell.input,
        task_modality=cell.task.modality,
        seed=cell.request.seed,
        device=cell.request.device,
        built_in=is_built_in(cell.backbone),
        candidates=backbones,
        say=cell.request.say,
    )
    if cell.protocol.spec.from_scratch and assembled.weights.name != RANDOM:
        raise RsbenchError(
            f"{cell.protocol.spec.name} trains a network from random weights, and the code of"
            f" {cell.backbone.spec.name} sets weights of its own: build it with random ones, or"
            " tune these with --protocol finetune."
        )
    cell.protocol.spec.check_model(cell.recipe, assembled.model, cell.input)
    return assembled


def settings_of(request: RunRequest, key: str) -> Settings:
    """Give the machine's side of a request; checkpoints of a run lie under its key."""
    assert request.precision in {"float32", "bf16", "fp16"}
    return Settings(
        device=request.device,
        batch_size=request.batch_size,
        num_workers=request.num_workers,
        precision=request.precision,  # type: ignore[arg-type]  # asserted just above
        cache_root=request.cache_root,
        work_root=request.cache_root / "work" / key,
        cache_clips_bytes=int(request.cache_clips_gib * 2**30),
        cache_limit_bytes=None
        if request.cache_limit_gib is None
        else int(request.cache_limit_gib * 2**30),
        helpers=request.helpers,
        compile=request.compile,
        keep_checkpoints=request.keep_checkpoints,
        checkpoint_seconds=60 * request.checkpoint_minutes,
        log_root=request.log_root,
        progress=request.progress,
        measured=request.measured,
        say=_once(request.say),
    )


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say a line the first time only: what holds for every epoch is said once."""
    said: set[str] = set()

    def say_new(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return say_new


def _parse_overrides(protocol: Protocol, typed: Mapping[str, str]) -> dict[str, Scalar]:
    """Give ``--set`` values the type of the recipe's own."""
    parsed: dict[str, Scalar] = {}
    for key, text in typed.items():
        if key not in protocol.recipe:
            raise UnknownNameError(
                f"The recipe of {protocol.name} has no {key!r}."
                f"{suggest(key, protocol.recipe)} It has {', '.join(sorted(protocol.recipe))}."
            )
        parsed[key] = _parse_like(protocol.recipe[key], text, where=f"{protocol.name}.{key}")
    return parsed


def _parse_like(default: Scalar, text: str, *, where: str) -> Scalar:
    if isinstance(default, bool):
        if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        raise RsbenchError(f"{where} must be true or false; it was {text!r}.")
    try:
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError as error:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise RsbenchError(f"{where} must be {kind}; it was {text!r}.") from error
    return text
