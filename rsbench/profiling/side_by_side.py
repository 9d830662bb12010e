"""Networks side by side on one device: counted, fitted into memory, and timed in turns.

Each network is counted on the meta device, tried alone until a batch fits, and then takes its turn
in every round: one forward pass of a single view, one of the batch, one training step. A matrix
product takes turns with them; its best lap is the device's peak. What fails is named, and costs the
others nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from torch import nn

from rsbench import environment
from rsbench.assembly import check_device
from rsbench.errors import RsbenchError
from rsbench.lifting import lift
from rsbench.profile import Counts, count, count_parameters
from rsbench.profiling.costs import Cost, Timing
from rsbench.profiling.steps import (
    Kind,
    NetworkAtWork,
    Setting,
    peak_resident_bytes,
    reset_peak_resident,
)
from rsbench.profiling.timing import (
    Fitting,
    Lap,
    MatrixProduct,
    clock_of,
    forget_frames,
    free_memory,
    product_flops,
    take_turns,
)
from rsbench.registry import find_backbone
from rsbench.specs import Backbone, InputSpec, Modality, Views

CLASSES: Mapping[str, int] = {"image": 1000, "video": 400}
"""Head of a network whose declared parameters say none: ImageNet's and Kinetics' classes."""

_MATRIX_PRODUCT = "matrix product"
_PRODUCTS_A_TURN = 3

RECORDED = (
    *("rsbench", "commit", "dirty", "python", "torch", "torchvision", "cpu", "cores", "gpu"),
    *("cuda", "cudnn"),
)
"""What of `rsbench.environment.describe` moves a time; nothing in it names a machine or a place."""

LIBRARIES = ("timm", "pytorchvideo")
"""Libraries that networks come from, besides those that the environment names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileRequest:
    """What to measure."""

    backbones: tuple[str, ...]
    """Names or paths, as the registry takes them."""
    pixels: int | None = None
    """Side of the input; None takes each network's own."""
    frames: int | None = None
    """Frames a clip. An image network then reads every frame of a clip."""
    stride: int | None = None
    """Recorded with video networks; no time depends on it."""
    views: Views = field(default_factory=Views)
    """Views an item, which multiply the counts."""
    batch_size: int = 16
    """Views a pass, halved for a network that does not fit into memory."""
    setting: Setting = field(default_factory=Setting)
    training: bool = False
    """Whether training steps are measured too."""
    rounds: int = 5
    """Laps of everything."""
    threads: int | None = None
    """Threads of the CPU; None leaves torch's own number."""
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    """Called as (stage, done, total)."""


class Fault(NamedTuple):
    """A network, or one piece of its work, that failed."""

    backbone: str
    what: str
    """What it was doing: "building", "inference", "training", "laps"."""
    error: Exception


class Profiled(NamedTuple):
    """What came of it."""

    costs: tuple[Cost, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A network as it will be run."""

    name: str
    """As it was asked for."""
    spec: Backbone
    input: InputSpec
    """What it sees, the user's words applied."""
    modality: Modality
    """Of what it is shown: an image network with frames is shown clips."""

    @property
    def view_shape(self) -> tuple[int, ...]:
        """(C, H, W), (C, T, H, W) or (C, D, H, W)."""
        side = self.input.pixels
        depth = {"image": (), "video": (self.input.frames,), "volume": (side,)}[self.modality]
        return (len(self.input.mean), *depth, side, side)

    @property
    def classes(self) -> int | None:
        """Of the head it is given."""
        return self.spec.parameters_with_classes or CLASSES.get(self.spec.modality)

    @property
    def lifting(self) -> str:
        """How it reads what it is shown."""
        return "frame_mean" if self.modality != self.spec.modality else "none"

    def build(self) -> nn.Module:
        """Build the network with its head, reading what it is shown."""
        module = self.spec.build(self.classes)
        lifted, _ = lift(module, backbone_modality=self.spec.modality, task_modality=self.modality)
        return lifted


def find_subject(name: str, request: ProfileRequest) -> Subject:
    """Find a network and say what it sees.

    Raises:
        RsbenchError: There is none of this name, or the words contradict each other.
    """
    found = find_backbone(name)
    spec = found.spec
    if request.pixels is not None and found.pixels not in (None, request.pixels):
        raise RsbenchError(
            f"--pixels {request.pixels} and {name} say different sides; leave one of them out."
        )
    if request.stride is not None and spec.modality != "video" and request.frames is None:
        raise RsbenchError(f"--stride is for clips, and {name} sees images; give --frames too.")
    if request.frames is not None and spec.modality == "volume":
        raise RsbenchError(f"--frames is for clips, and {name} sees volumes; leave it out.")
    clips = spec.modality == "image" and request.frames is not None
    return Subject(
        name=name,
        spec=spec,
        input=replace(
            spec.input,
            pixels=request.pixels or spec.input.pixels,
            frames=request.frames or spec.input.frames,
            stride=request.stride or spec.input.stride,
        ),
        modality="video" if clips else spec.modality,
    )


def profile(request: ProfileRequest) -> Profiled:
    """Measure networks side by side.

    Returns:
        A cost for each network that could be measured, in the order asked for, and what failed.

    Raises:
        RsbenchError: The device is not there.
    """
    check_device(request.setting.device)
    faults: list[Fault] = []
    with _machine_of(request):
        entrants = []
        for number, name in enumerate(request.backbones):
            request.progress("counting and fitting", number, len(request.backbones))
            with _caught(faults, name, "building"):
                entrants.append(_Entrant(find_subject(name, request), request))
                faults += entrants[-1].faults
        request.progress("counting and fitting", len(request.backbones), len(request.backbones))
        able = [each for each in entrants if each.fittings]
        turns = _measured(able, request, faults)
        peak = _peak_of(turns.pop(_MATRIX_PRODUCT, {}), request.setting)
        measured = [each for each in able if each.subject.name in turns]
        names = tuple(each.subject.name for each in measured)
        surroundings = _surroundings(request, peak=peak, beside=names)
        costs = tuple(_cost(each, turns[each.subject.name], surroundings) for each in measured)
    return Profiled(costs, tuple(faults))


class _Entrant:
    """A network on its way: counted, then fitted, then timed."""

    def __init__(self, subject: Subject, request: ProfileRequest) -> None:
        self.subject = subject
        self.counts: Counts = count(subject.build, subject.view_shape)
        self.faults: list[Fault] = []
        self.fittings: dict[tuple[Kind, int], Fitting] = {}
        """(work, batch asked for) -> what fits."""
        self.network = _at_work(subject, request.setting)
        self._fit(request)

    def _fit(self, request: ProfileRequest) -> None:
        kinds: list[tuple[Kind, int]] = [("inference", 1), ("inference", request.batch_size)]
        if request.training:
            kinds.append(("training", request.batch_size))
        with self._there():
            for kind, batch_size in dict.fromkeys(kinds):
                with _caught(self.faults, self.subject.name, kind):
                    fitting = self.network.fit(kind, batch_size)
                    if fitting.peak_bytes is None and _wants_process(request, batch_size):
                        size = fitting.batch_size
                        peak = _resident_peak(self.subject.name, request, kind, size)
                        fitting = fitting._replace(peak_bytes=peak)
                    self.fittings[kind, batch_size] = fitting

    def turn(self) -> dict[str, Lap]:
        """Come to the device, do one lap of each piece of work, and leave."""
        clock = clock_of(self.network.device)
        laps = {}
        with self._there():
            for (kind, asked), fitting in self.fittings.items():
                work = self.network.work(kind, fitting.batch_size)
                if self.network.device.type == "cuda":
                    work()  # the network has just arrived, and the optimizer has no buffers yet
                laps[_key(kind, asked)] = clock.lap(work)
        return laps

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        try:
            self.network.enter()
            yield
        finally:
            self.network.leave()


def _at_work(subject: Subject, setting: Setting) -> NetworkAtWork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = subject.build()
    head = getattr(module, "head", None)
    learns = isinstance(head, nn.Module) and count_parameters(head) > 0
    outputs = subject.classes if learns else None
    return NetworkAtWork(
        module,
        subject.view_shape,
        setting,
        num_outputs=outputs or subject.spec.feature_width,
    )


def _key(kind: str, asked: int) -> str:
    return f"{kind} {asked}"


def _measured(
    entrants: Sequence[_Entrant], request: ProfileRequest, faults: list[Fault]
) -> dict[str, dict[str, list[Lap]]]:
    """Let networks and the matrix product take turns; give the laps of those that went through."""
    if not entrants:
        return {}
    contestants: dict[str, Callable[[], Mapping[str, Lap]]] = {
        each.subject.name: each.turn for each in entrants
    }
    # PyTorch multiplies matrices of halves on a CPU number by number, which is nobody's peak.
    if (torch.device(request.setting.device).type, request.setting.precision) != ("cpu", "fp16"):
        contestants[_MATRIX_PRODUCT] = lambda: _matrix_laps(request.setting)
    turns = take_turns(
        contestants,
        rounds=request.rounds,
        progress=lambda done, total: request.progress("laps", done, total),
    )
    faults += [Fault(name, "laps", error) for name, error in turns.faults.items()]
    return turns.laps


def _matrix_laps(setting: Setting) -> dict[str, Lap]:
    device = torch.device(setting.device)
    clock, product = clock_of(device), MatrixProduct(device, setting.precision)
    product()
    laps = {str(number): clock.lap(product) for number in range(_PRODUCTS_A_TURN)}
    del product
    free_memory()
    return laps


def _peak_of(laps: Mapping[str, Sequence[Lap]], setting: Setting) -> float | None:
    """Give the FLOP/s of the fastest matrix product; None where it failed."""
    seconds = [lap.seconds for each in laps.values() for lap in each]
    if not seconds:
        return None
    return product_flops(torch.device(setting.device)) / min(seconds)


@contextlib.contextmanager
def _caught(faults: list[Fault], name: str, what: str) -> Iterator[None]:
    """Keep what a network raises from the others: it is anybody's code."""
    try:
        yield
    except Exception as error:
        forget_frames(error)
        faults.append(Fault(name, what, error))


@contextlib.contextmanager
def _machine_of(request: ProfileRequest) -> Iterator[None]:
    """Set threads and cuDNN's choice of kernels, and put them back."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(request.threads or threads)
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


# ---------------------------------------------------------------------------- memory on a CPU


def _wants_process(request: ProfileRequest, batch_size: int) -> bool:
    """Say whether memory is worth a process of its own, which a compiler would fill as well."""
    return batch_size == request.batch_size and not request.setting.compiled


def _resident_peak(name: str, request: ProfileRequest, kind: Kind, batch_size: int) -> int | None:
    """Run the work in a process of its own, and say by how much that grew at most.

    A process that did other work before keeps memory for later, and would need no more.

    Returns:
        Bytes, parameters included; None where the system does not say, or ended that process.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    # Its own progress would not travel, and says nothing there.
    quiet = {
        each.name: getattr(request, each.name)
        for each in dataclasses.fields(request)
        if each.name != "progress"
    }
    process = context.Process(target=_send_peak, args=(there, name, quiet, kind, batch_size))
    process.start()
    there.close()
    try:
        peak: int | None = here.recv()
    except EOFError:
        peak = None
    finally:
        here.close()
        process.join()
    return peak


def _send_peak(
    there: Connection, name: str, words: Mapping[str, Any], kind: Kind, batch_size: int
) -> None:
    request = ProfileRequest(**words)
    with _machine_of(request):
        subject = find_subject(name, request)
        # What torch loads at its first convolution and step is not the network's.
        first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        NetworkAtWork(first, (3, 8, 8), request.setting, num_outputs=4).prepare(kind, 2)
        before = reset_peak_resident()
        _at_work(subject, request.setting).prepare(kind, batch_size)
        after = peak_resident_bytes()
    there.send(None if before is None or after is None else after - before)


# ---------------------------------------------------------------------------- rows


def _surroundings(
    request: ProfileRequest, *, peak: float | None, beside: tuple[str, ...]
) -> dict[str, Any]:
    """Give the fields of a cost that all networks of one measurement share."""
    device = torch.device(request.setting.device)
    described = environment.describe()
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else str(described["cpu"])
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "clips": request.views.clips,
        "crops": request.views.crops,
        "device": name,
        "device_type": device.type,
        "precision": request.setting.precision,
        "layout": request.setting.layout,
        "compiled": request.setting.compiled,
        "threads": torch.get_num_threads(),
        "rounds": request.rounds,
        "beside": beside,
        "tf32": torch.backends.cudnn.allow_tf32 if on_gpu else None,
        "cudnn_benchmark": torch.backends.cudnn.benchmark if on_gpu else None,
        "peak_flops_per_second": peak,
        "environment": {name: described.get(name) for name in RECORDED}
        | {name: _version(name) for name in LIBRARIES},
    }


def _cost(
    entrant: _Entrant, laps: Mapping[str, Sequence[Lap]], surroundings: Mapping[str, Any]
) -> Cost:
    subject = entrant.subject
    others = tuple(name for name in surroundings["beside"] if name != subject.name)
    return Cost(
        **{
            **surroundings,
            "beside": others,
            "backbone": subject.name,
            "version": subject.spec.version,
            "modality": subject.modality,
            "lifting": subject.lifting,
            "frames": subject.input.frames,
            "stride": subject.input.stride,
            "pixels": subject.input.pixels,
            "classes": subject.classes if _has_head(entrant.counts) else None,
            "counts": dataclasses.asdict(entrant.counts),
            "timings": tuple(
                _timing(
                    kind, asked, fitting, laps[_key(kind, asked)], on=surroundings["device_type"]
                )
                for (kind, asked), fitting in entrant.fittings.items()
            ),
            "notes": tuple(_notes(entrant)),
        }
    )


def _has_head(counts: Counts) -> bool:
    """Say whether a classifier was there; of a bare module its own output serves as one."""
    return counts.parameters_with_head > counts.parameters


def _timing(kind: Kind, asked: int, fitting: Fitting, laps: Sequence[Lap], *, on: str) -> Timing:
    source = ""
    if fitting.peak_bytes is not None:
        source = "allocated" if on == "cuda" else "resident"
    return Timing(
        work=kind,
        batch_size=fitting.batch_size,
        batch_asked=asked,
        seconds=tuple(lap.seconds for lap in laps),
        cpu_seconds=tuple(lap.cpu_seconds for lap in laps),
        peak_bytes=fitting.peak_bytes,
        peak_source=source,
    )


def _notes(entrant: _Entrant) -> Iterator[str]:
    for (kind, asked), fitting in entrant.fittings.items():
        if fitting.batch_size < asked:
            yield f"{kind}: a batch of {asked} did not fit into memory, {fitting.batch_size} did"
    for fault in entrant.faults:
        # A stranger's words may hold paths; they stand on the screen, not in a file.
        yield f"{fault.what} failed: {type(fault.error).__name__}"
    if entrant.counts.macs is None:
        yield "the network can't be counted: it runs neither without values nor on zeros"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
