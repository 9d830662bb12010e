"""What `rsbench profile` leaves behind: one JSON file for a network under a setting.

Layout, below a results folder::

    profile/<backbone>-<frames>x<pixels>-<cpu or cuda>-<precision>-b<batch>-<8 of digest>.json

The digest names network, input and setting, so that measuring again replaces the file. Every lap
is kept; medians, rates and ratios are computed from the laps whenever they are shown.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from rsbench.atomic import temporary_path, write_atomically
from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.specs import Scalar

SCHEMA_VERSION = 1
"""Raised whenever a reader of the former version would misread a file."""

FOLDER = "profile"
"""Name of the folder below the results folder; no run's record lies there."""

COUNTS = (
    "parameters",
    "parameters_with_head",
    "macs",
    "macs_with_head",
    "macs_training",
    "activations",
)
"""What is counted, for one view; see `rsbench.profile.Counts`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One piece of work of one network, lap by lap."""

    work: str
    """"inference": a forward pass in eval mode; "training": forward, backward, optimizer step."""
    batch_size: int
    batch_asked: int
    """More than `batch_size` where only a half, a quarter, ... of it fitted into memory."""
    seconds: tuple[float, ...]
    """By the wall's clock, or the GPU's; one a lap."""
    cpu_seconds: tuple[float, ...]
    """What the process computed meanwhile, all threads together; one a lap."""
    peak_bytes: int | None
    """Most memory at once; None where it was not measured."""
    peak_source: str
    """How that was measured: "allocated" by torch on the GPU, parameters included; "resident":
    growth of a process of its own that builds the network and does nothing else; or ""."""

    @property
    def median_seconds(self) -> float:
        """The middle of the laps."""
        return statistics.median(self.seconds)

    @property
    def median_cpu_seconds(self) -> float:
        """The middle of the laps, in what the process computed."""
        return statistics.median(self.cpu_seconds)

    @property
    def spread(self) -> float:
        """Distance of the extremes over the median: 0 where all laps are equal."""
        return (max(self.seconds) - min(self.seconds)) / self.median_seconds

    @property
    def views_per_second(self) -> float:
        """How many views of a batch of this size are done in a second."""
        return self.batch_size / self.median_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one network costs under one setting."""

    schema: int = SCHEMA_VERSION
    created: str
    """UTC, ISO 8601."""
    backbone: str
    version: int
    modality: str
    lifting: str
    """"none", or "frame_mean": an image network that reads the frames of a clip."""
    frames: int
    stride: int
    pixels: int
    clips: int
    """Views an item: temporal clips x spatial crops."""
    crops: int
    classes: int | None
    """Of the head; None where the network was counted and run without one."""
    counts: Mapping[str, int | None]
    """`COUNTS`, for one view."""
    device: str
    """Model name of the CPU or GPU."""
    device_type: str
    precision: str
    layout: str
    compiled: bool
    threads: int
    rounds: int
    beside: tuple[str, ...]
    """The networks that took turns with this one."""
    tf32: bool | None
    """Whether convolutions in float32 may use TF32; None on a CPU."""
    cudnn_benchmark: bool | None
    peak_flops_per_second: float | None
    """Of a large matrix product on the same device, in the same type, in the same rounds."""
    timings: tuple[Timing, ...]
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know: what failed, what was halved."""
    environment: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def views(self) -> int:
        """Clips times crops."""
        return self.clips * self.crops

    def timing(self, work: str, *, single: bool = False) -> Timing | None:
        """Give a piece of work at the batch that was asked for, or of single views."""
        found = [each for each in self.timings if each.work == work]
        if single:
            found = [each for each in found if each.batch_size == 1]
        return max(found, key=lambda each: each.batch_asked, default=None)

    def flops_per_second(self, timing: Timing) -> float | None:
        """Give what a piece of work came to, two operations for a multiply-add."""
        counted = "macs_training" if timing.work == "training" else "macs_with_head"
        macs = self.counts[counted]
        return None if macs is None else 2 * macs * timing.views_per_second

    def of_peak(self, timing: Timing) -> float | None:
        """Give what part of the device's peak a piece of work reached."""
        reached = self.flops_per_second(timing)
        if reached is None or self.peak_flops_per_second is None:
            return None
        return reached / self.peak_flops_per_second

    def training_over_inference(self, *, cpu: bool = False) -> float | None:
        """Say how many times as long as a forward pass a training step takes, view for view.

        Args:
            cpu: By what the process computed, instead of by the clock.
        """
        inference, training = self.timing("inference"), self.timing("training")
        if inference is None or training is None:
            return None
        short, long = (
            (each.median_cpu_seconds if cpu else each.median_seconds) / each.batch_size
            for each in (inference, training)
        )
        return long / short


class Contents(NamedTuple):
    """What a results folder holds of costs."""

    files: tuple[tuple[Path, Cost], ...]
    """In the order of the files' names."""
    problems: tuple[str, ...]
    """One line for each file that could not be read; it is left alone."""

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What lies in the files."""
        return tuple(cost for _, cost in self.files)


def cost_json(cost: Cost) -> dict[str, Any]:
    """Give a cost as JSON values: all its fields, and what follows from them."""
    plain = dataclasses.asdict(cost)
    plain["counts"] = {name: cost.counts[name] for name in COUNTS}
    macs = cost.counts["macs_with_head"]
    plain["macs_all_views"] = None if macs is None else macs * cost.views
    plain["training_over_inference"] = cost.training_over_inference()
    plain["training_over_inference_cpu"] = cost.training_over_inference(cpu=True)
    plain["timings"] = [_timing_json(cost, timing) for timing in cost.timings]
    return plain


def _timing_json(cost: Cost, timing: Timing) -> dict[str, Any]:
    return {
        **dataclasses.asdict(timing),
        "median_seconds": timing.median_seconds,
        "median_cpu_seconds": timing.median_cpu_seconds,
        "least_seconds": min(timing.seconds),
        "most_seconds": max(timing.seconds),
        "spread": timing.spread,
        "views_per_second": timing.views_per_second,
        "flops_per_second": cost.flops_per_second(timing),
        "of_peak": cost.of_peak(timing),
    }


def check_writable(results: Path) -> None:
    """Make sure that costs can be saved, before they are measured rather than after it.

    Raises:
        DiskError: They can't; names the folder and the cause.
    """
    probe = temporary_path(results / FOLDER)
    write_atomically(probe, b"rsbench" * 1024)
    probe.unlink()


def save(results: Path, cost: Cost) -> Path:
    """Write a cost below a results folder, whole or not at all; the same setting is replaced.

    Raises:
        DiskError: The disk is full, or the folder can't be written.
    """
    path = results / FOLDER / f"{_name(cost)}.json"
    text = json.dumps(cost_json(cost), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())
    return path


def _name(cost: Cost) -> str:
    """Name network and setting; the laps and the machine's versions do not move the name."""
    timing = cost.timing("inference")
    batch = 0 if timing is None else timing.batch_asked
    named = (
        *(cost.backbone, cost.version, cost.lifting, cost.frames, cost.stride, cost.pixels),
        *(cost.clips, cost.crops, cost.classes, cost.device, cost.precision, cost.layout),
        *(cost.compiled, cost.threads, batch, cost.tf32, cost.timing("training") is not None),
    )
    slug = re.sub(r"[^\w@.+=-]", "-", cost.backbone.replace("/", "--"))
    seen = f"{cost.frames}x{cost.pixels}"
    return f"{slug}-{seen}-{cost.device_type}-{cost.precision}-b{batch}-{digest_json([*named])[:8]}"


def read_all(results: Path) -> Contents:
    """Read every cost below a results folder; what can't be read is named and left alone."""
    files, problems = [], []
    for path in sorted((results / FOLDER).glob("[!.]*.json")):
        name = f"{FOLDER}/{path.name}"
        try:
            files.append((path, from_json(path.read_text(encoding="utf-8"), where=name)))
        except RecordError as error:
            problems.append(str(error))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name} can't be read: {type(error).__name__}; measure it again.")
    return Contents(tuple(files), tuple(problems))


def from_json(text: str, *, where: str) -> Cost:
    """Read a cost; what follows from its laps is computed again, not believed.

    Args:
        text: The JSON text.
        where: Name of the file, for messages.

    Raises:
        RecordError: It is no cost, or one of a newer schema; names the file and the field.
    """
    try:
        plain = json.loads(text)
        if not isinstance(plain, dict) or type(plain.get("schema")) is not int:
            raise TypeError("it must be an object with a schema")
        if plain["schema"] > SCHEMA_VERSION:
            raise RecordError(
                f"{where} was written by a newer rsbench (schema {plain['schema']}, this one reads"
                f" {SCHEMA_VERSION}); update rsbench to read it."
            )
        return _decoded(plain)
    except (ValueError, TypeError) as error:
        raise RecordError(
            f"{where} must be a file of `rsbench profile`, and is cut short or another ({error});"
            " delete it and measure again."
        ) from error


def _decoded(plain: Mapping[str, Any]) -> Cost:
    values = _fields(Cost, plain)
    counts = {name: _typed(int | None, name, values["counts"].get(name)) for name in COUNTS}
    timings = tuple(_decoded_timing(timing) for timing in values["timings"])
    return Cost(**values | {"counts": counts, "timings": timings})


def _decoded_timing(plain: Mapping[str, Any]) -> Timing:
    values = _fields(Timing, plain)
    seconds, cpu_seconds = (_laps(values[name]) for name in ("seconds", "cpu_seconds"))
    if len(seconds) != len(cpu_seconds):
        raise ValueError("seconds and cpu_seconds must be equally many")
    return Timing(**values | {"seconds": seconds, "cpu_seconds": cpu_seconds})


def _fields(kind: Any, plain: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a data class
    """Take the fields of a data class out of JSON values; what follows from them is left there."""
    values = {}
    for name, hint in get_type_hints(kind).items():
        if name not in plain:
            raise ValueError(f"the field {name!r} is missing")
        values[name] = _typed(hint, name, plain[name])
    return values


def _typed(hint: Any, name: str, value: Any) -> Any:  # noqa: ANN401 - any hint, any JSON value
    """Hold a value to a type hint; lists become tuples."""
    wanted = get_origin(hint) or hint
    if wanted is tuple and isinstance(value, list):
        return tuple(value)
    if wanted is Mapping and isinstance(value, dict):
        return value
    accepted = get_args(hint) if wanted is types.UnionType else (hint,)
    if type(value) is int and float in accepted:
        return float(value)
    if type(value) not in accepted:
        raise TypeError(f"{name} can't be {value!r}")
    return value


def _laps(values: Sequence[float]) -> tuple[float, ...]:
    laps = tuple(float(value) for value in values)
    if not laps or not all(math.isfinite(lap) and lap >= 0 for lap in laps):
        raise ValueError("laps must be at least one number of seconds")
    return laps
