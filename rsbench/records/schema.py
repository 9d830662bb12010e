"""RunRecord: all that one run leaves behind, as one JSON object with a declared schema version.

Everything the tables print comes from here. Fields that name a machine's folders do not exist: a
record can be published as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.records.deferral import Deferring
from rsbench.records.migrations import migrate
from rsbench.records.plain import Place, check_digest, from_plain, parse_object, to_plain
from rsbench.specs import Scalar

SCHEMA_VERSION = 1
"""Raised whenever a reader of the former version would misread a record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPart:
    """What was asked."""

    name: str
    """With "@sample" where the embedded sample stood in for the data."""
    version: int
    modality: str
    target: str
    split: str
    """Names of the reported splits, joined by "+"."""
    sample: bool
    limit: int | None
    """`--limit N`: a seeded, stratified subset; None for all items."""
    num_classes: int
    own_reader: bool
    """Whether the task reads its items itself, so that `rsbench predict` can't read others."""
    source_sha256: str | None
    """Digest of the plug-in file where the task was named by a path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackbonePart:
    """What was judged."""

    name: str
    version: int
    modality: str
    num_parameters: int
    """Of the features alone, as built for this run (without head)."""
    feature_width: int
    frames: int
    """Frames x stride x pixels as seen in this run."""
    stride: int
    pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    antialias: bool
    crop_ratio: float
    lifting: str
    """"none"; "frame_mean": an image network on video; "still_clip": a video network on images."""
    numeric_digest: str
    """Digest of the rounded outputs on a fixed input."""
    source_sha256: str | None
    resizer: str = "torchvision"
    """Whose resize and crop was followed; what records say that are older than the choice."""
    resize_to: tuple[int, ...] = ()
    """(height, width) of frames before the crop; empty where their aspect was kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsPart:
    """What it had learned before."""

    name: str
    """"none" for random initialisation, a known name, or a file's name (without its folder)."""
    digest: str
    """sha256 over the names, shapes and bytes of all parameters and buffers."""
    trained_on: tuple[str, ...]
    verified: bool
    """Whether the file's sha256 is the declared one."""
    init_seed: int | None
    """Seed of the random initialisation; None where everything was loaded."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolPart:
    """How it was judged."""

    name: str
    version: int
    recipe: Mapping[str, Scalar]
    """The rule, with the user's changes applied."""
    overrides: Mapping[str, Scalar]
    """What `--set` changed."""
    chosen: Mapping[str, Scalar]
    """What the rule came to here."""
    selects_on: str
    sampler: str
    clips: int
    crops: int
    trains: bool
    trains_backbone: bool
    """Whether the network itself learned; else random weights stayed random."""
    source_sha256: str | None
    cropper: str = "resizer@1"
    """By which rule the crops lay; what records say that are older than the choice."""
    selected_on_test: bool = False
    """Whether settings were selected on the reported items themselves
    (`--allow-test-selection`): the number is then no measure, and stands in no table."""
    notes: tuple[str, ...] = ()
    """Where a fit was not what the recipe's words promise; of all folds, each once."""
    marks: tuple[str, ...] = ()
    """The same in the few words that stand beside the score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPart:
    """On what. `num_official` >= `num_expected` (present here) = `num_evaluated` + `num_failed`."""

    fingerprint: str
    """sha256 of the reported ids and labels with the ordered class names."""
    content: str
    """sha256 of the bytes of all media that were read, by id."""
    train_fingerprint: str | None
    validation_fingerprint: str | None
    media: str
    num_official: int | None
    num_expected: int
    num_evaluated: int
    num_failed: int
    failed: tuple[Mapping[str, str], ...]
    """{"id", "reason"} of each present and unreadable item of the reported set."""
    num_missing: int
    missing: tuple[str, ...]
    """Ids of listed and absent items of the reported set, fold by fold: one that several folds test
    is there for each."""
    num_train: int
    train_failed: tuple[Mapping[str, str], ...]
    num_folds: int
    split_sha256: str | None
    """Digest of the saved split file where rsbench made the split itself."""
    notes: tuple[str, ...]
    remarked: tuple[Mapping[str, str], ...] = ()
    """{"id", "reason"} of what is odd about an item of the reported set that could be read, one
    entry a remark: a header that claims more frames than decode, a tail that is cut off."""
    train_remarked: tuple[Mapping[str, str], ...] = ()
    """Likewise of the items that were learned or selected on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricPart:
    """One number with its interval and its count."""

    name: str
    value: float
    low: float | None
    high: float | None
    """95% interval; None where no interval is defined for this metric."""
    n: int
    """Items it was computed over, failed ones included."""
    level: str
    interval: str
    """How the interval was made: "wilson", "bootstrap", "" for none."""
    higher_is_better: bool
    folds: tuple[float, ...] = ()
    """The value of each fold where folds are averaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord(Deferring):
    """One finished run."""

    schema: int = SCHEMA_VERSION
    key: str
    """sha256 of all that decides the result: the same key is not run again."""
    created: str
    """UTC, ISO 8601."""
    seed: int
    task: TaskPart
    backbone: BackbonePart
    weights: WeightsPart
    protocol: ProtocolPart
    data: DataPart
    ruler: Mapping[str, Scalar]
    """What must be equal for two numbers to share a column; see `rsbench.records.ruler`."""
    metrics: tuple[MetricPart, ...]
    """The headline first."""
    selection: tuple[Mapping[str, Scalar], ...] = ()
    curve: tuple[Mapping[str, Scalar], ...] = ()
    """One row an epoch of each training of the network: epoch, steps, train_loss, train_top1,
    learning_rate, seconds; held_out_top1 (held_out_map of several labels) where something was held
    out, training where there were several, fold where folds have names. Empty where nothing was
    trained step by step, and in records older than this."""
    cost: Mapping[str, Scalar] = field(default_factory=dict)
    """num_parameters, macs_per_view, views; seconds_fit and seconds_predict (reading and extraction
    included, cached features not computed again), seconds_solve (the solver or training alone),
    seconds_total; peak_gib on a GPU, process_peak_gib on a CPU. Of the frozen network, where one
    ran: views_computed, views_cached (taken from the cache), seconds_extract (of computing, reading
    included), seconds_extract_waited (of these, the network waiting for views to be read),
    views_per_second (null where none was computed). Older records lack these."""
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    """rsbench version, commit, dirty flag; versions; device; threads; decoder; precision; batch."""
    views: Mapping[str, Scalar] = field(default_factory=dict)
    """What is kept of single views: kept ("all", or "means" where all would have been larger than
    the run was told to keep), activation, num_bytes. Empty where a protocol gives no class scores,
    and in records older than this."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name beside the record -> sha256: predictions, head, split, views. Filled by the store."""
    digest: str = ""
    """sha256 of the canonical JSON of all other fields: it finds slips of the hand, not forgers.
    Filled by `to_json`, checked by `from_json`."""


def seal(record: RunRecord) -> RunRecord:
    """Give the record with its digest filled in, as `to_json` writes it.

    Raises:
        RecordError: A field holds what a record can't hold, NaN for instance; names the field.
    """
    return replace(record, digest=digest_json(_checked_plain(record)))


def to_json(record: RunRecord) -> str:
    """Give the record as JSON text: fields in their order, mappings sorted, floats exact.

    Equal records give equal text; it ends with a newline, and the digest in it is computed here.

    Raises:
        RecordError: A field holds what a record can't hold, NaN for instance; names the field.
    """
    plain = _checked_plain(record)
    plain["digest"] = digest_json(plain)
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, *, where: str) -> RunRecord:
    """Read a record, holding every field to its type and the whole to its digest.

    One of an older schema is led to this one: see `rsbench.records.migrations`.

    Args:
        text: The JSON text.
        where: Name of the file, for messages.

    Raises:
        RecordError: It is cut short, not JSON, of a newer schema, has a field too many, too few or
            of another type, or was edited by hand; names the file and the field.
    """
    place = Place(where, SCHEMA_VERSION)
    plain = parse_object(text, place, remedy="delete it and run it again")
    if plain["schema"] < SCHEMA_VERSION:
        return _from_older(plain, place)
    record = from_plain(RunRecord, plain, place, "record")
    _check_sense(record, where)
    check_digest(plain, where, again="run it again")
    return record


def _from_older(plain: dict[str, Any], place: Place) -> RunRecord:
    """Hold a record to its digest as it was written, then read it as one of now.

    What it gives has the schema of now and the digest of the file: `seal` makes its own.
    """
    digest = plain.get("digest", "")
    check_digest(plain, place.file, again="run it again")
    plain = migrate(plain, to=place.schema, where=place.file) | {"digest": digest}
    record = from_plain(RunRecord, plain, place, "record")
    _check_sense(record, place.file)
    return record


def _checked_plain(record: RunRecord) -> dict[str, Any]:
    """Give the record as JSON values without its digest, sure that it can be read back."""
    plain: dict[str, Any] = to_plain(record, "record")
    place = Place("this run", SCHEMA_VERSION)
    _check_sense(from_plain(RunRecord, plain, place, "record"), place.file)
    del plain["digest"]
    try:
        digest_json(plain)
    except ValueError:
        raise RecordError(
            "A record must hold Unicode text, but a name or id in this run does not encode as "
            "UTF-8; rename that file."
        ) from None
    return plain


def _check_sense(record: RunRecord, file: str) -> None:
    """Hold what types can't say: there is a score, and the counts add up."""
    data = record.data
    if not record.metrics:
        raise RecordError(f"{file}: record.metrics must hold at least one metric, was empty.")
    if data.num_expected != data.num_evaluated + data.num_failed:
        raise RecordError(
            f"{file}: record.data.num_expected must be num_evaluated + num_failed, was "
            f"{data.num_expected} with {data.num_evaluated} + {data.num_failed}."
        )
