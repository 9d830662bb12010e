"""The nouns of rsbench: frozen, and importable without torch.

A plug-in is one of these objects in a file of its own: a `Task`, a `Backbone` or a `Protocol`. The
rest is what passes between them: items, sets of items, clips, views, and what protocols give back.

Shape letters: N items, V views of an item (clips x crops), C channels, T frames, H height, W width,
D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from typing import Protocol as Interface

from rsbench.errors import LeakError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

Modality = Literal["image", "video", "volume"]
"""What an item is: (C, H, W) pictures, (C, T, H, W) clips, or (C, D, H, W) volumes."""

TargetKind = Literal["class", "multilabel", "boxes", "mask", "depth", "volume"]
"""What a head must give: a class, a set of classes, boxes, a mask, a depth map, a dense volume."""

Activation = Literal["softmax", "sigmoid"]
"""What makes probabilities of a classifier's outputs: for one class an item, or for any number."""

Scalar = str | int | float | bool | None
"""What a recipe, a ruler or a JSON record may hold as a leaf."""

Output = Literal["features", "logits", "stages", "tokens"]
"""What is kept of a view of a frozen network, in float32: "features" (D,), pooled; "logits" (K,) of
the model's head; "stages" (D' + D,), the average of the last stage's map but one, then the features
(the average of the last); "tokens" (S, D), the coarsest map position by position, S = T' x H' x W'
and frames in order. An image network's stages are averaged over the frames of a clip."""

Resizer = Literal["torchvision", "timm", "tpu", "model_garden"]
"""Whose resize and crop is followed, to the last rounding; see `rsbench.media.transforms`."""

WeightsFormat = Literal["safetensors", "torch", "keras-h5", "tf1", "tf2"]
"""What kind of file parameters lie in."""

# ---------------------------------------------------------------------------- what is looked at


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSpec:
    """Which frames make one clip."""

    frames: int
    """Frames per clip, 1 for a still."""
    stride: int
    """Distance between two frames of a clip, in frames of the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """How many looks at one video or image are averaged at test."""

    clips: int = 1
    """Temporal clips per video."""
    crops: int = 1
    """Spatial crops per clip: 1 is the centre, 3 are left, centre, right along the longer side, 10
    are the corners and the centre, each mirrored too."""

    @property
    def num_views(self) -> int:
        """Clips times crops."""
        return self.clips * self.crops


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """The picture a network was trained to see; it belongs to the weights, not to the task."""

    pixels: int
    """Side of the square input, in pixels."""
    frames: int = 1
    """Frames per clip; 1 for image networks."""
    stride: int = 1
    """Frame stride of video networks."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Subtracted after scaling to [0, 1], one value a channel."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Divided by afterwards, one value a channel."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    """Whether the resize filter widens when it shrinks (PIL does; TensorFlow 1 did not)."""
    crop_ratio: float = 1.0
    """Side of the crop over the resized short side, in (0, 1]: 224 out of 256 is 0.875."""
    resizer: Resizer = "torchvision"
    """Whose arithmetic resizes and crops: the same words give other pixels elsewhere, which is
    worth up to a point of top-1."""
    resize_to: tuple[int, int] | None = None
    """(height, width) that frames are resized to before the crop, whatever their aspect; None
    keeps the aspect. Only torchvision's older video networks were trained so (128 x 171)."""

    def at(self, pixels: int) -> InputSpec:
        """Give the same input at another side.

        What is cropped keeps its share of the frame, but for the TPU code, whose margin is always
        32 pixels (tensorflow/tpu, resnet_preprocessing.py).
        """
        crop_ratio, resize_to = self.crop_ratio, self.resize_to
        if self.resizer == "tpu":
            crop_ratio = pixels / (pixels + 32)
        if resize_to is not None:
            height, width = (round(side * pixels / self.pixels) for side in resize_to)
            resize_to = (height, width)
        return replace(self, pixels=pixels, crop_ratio=crop_ratio, resize_to=resize_to)


# ---------------------------------------------------------------------------- data


class Labels(tuple[int, ...]):
    """Class indices of an item with several labels, where some classes are left out of account.

    It is the tuple of the classes that the item has. A plain tuple says "no" of all others; this
    one says nothing of some (the "difficult" objects of PASCAL VOC): a metric that knows of it
    leaves the item out when it ranks items for such a class.
    """

    uncounted: tuple[int, ...]
    """Classes for which the item counts neither as having the label nor as lacking it."""

    def __new__(cls, present: Iterable[int], *, uncounted: Iterable[int] = ()) -> Labels:
        """Hold the classes that are present, and those that are not counted."""
        labels = super().__new__(cls, present)
        labels.uncounted = tuple(uncounted)
        return labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One example, undecoded."""

    id: str
    """Unique in its task; relative and portable (never an absolute path)."""
    source: Path | np.ndarray
    """The media file, a folder of numbered frames, or the array itself: uint8 (H, W, C) image,
    (T, H, W, C) clip."""
    target: Any = None
    """What the task asks for: class index (int), tuple of indices (`Labels` where some do not
    count), boxes, a path to a mask, ...
    None where the reader may not know it (everything a protocol predicts on)."""
    start_seconds: float | None = None
    """Where the clip begins inside the file; None for the whole file."""
    end_seconds: float | None = None
    group: str | None = None
    """What must not be split between train and held-out (a person, a source video)."""
    fps: float | None = None
    """Frames per second of a folder of frames, which has no clock; None where nobody says."""
    num_frames_listed: int | None = None
    """Frames that a list claims for a folder; the folder's own count holds, and is remarked on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFacts:
    """What reading an item brought to light of it."""

    num_frames: int
    """Frames of its window that decode: what samplers cut clips from. 1 for a picture, and for
    what a task reads itself."""
    fps: float
    """Frames per second that samplers were told; 0 where there is no clip to cut."""
    height: int
    """Of the frames that crops were cut from, in pixels; 0 for what a task reads itself."""
    width: int
    remarks: tuple[str, ...] = ()
    """What is odd about media that could be read, one short line each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """What `Task.load` gives: one split as found on disk."""

    items: tuple[Item, ...]
    """Items present, in a stable order."""
    classes: tuple[str, ...] = ()
    """Class names in index order; empty where the target has none."""
    num_official: int | None = None
    """Length of the published (or listed) split; None if nobody published one."""
    missing: tuple[str, ...] = ()
    """Ids that are listed and not on disk: excluded, named, and they change the ruler."""
    media: str = "original"
    """Form of the media: "original", "short-256", "frames", ...: part of the ruler."""
    notes: tuple[str, ...] = ()
    """What a reader of the number must know: "class order unverified", ..."""
    fold_notes: tuple[str, ...] = ()
    """The same, of how the splits were cut: they say nothing where others are made instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One train/test pairing of a task's splits, by split name."""

    test: str
    train: str | None = None
    validation: str | None = None
    """Official data for selection; None lets a protocol hold out part of train."""
    name: str = ""
    """Empty where a task has one fold only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number computed from targets and predictions of the same items."""

    name: str
    compute: Callable[[Sequence[Any], Sequence[Any]], float]
    """(targets, predictions) -> value. A prediction is None where the item failed."""
    per_item: Callable[[Sequence[Any], Sequence[Any]], np.ndarray] | None = None
    """(targets, predictions) -> float64 (N,) whose mean is the value, if such a thing exists: it
    gives intervals and paired differences. Failed items score 0."""
    resampled: Callable[[Sequence[Any], Sequence[Any], np.ndarray], np.ndarray] | None = None
    """(targets, predictions, counts_NR) -> float64 (R,) in [0, 1]: the value of each of R
    resamples, in which item n occurs counts_NR[n, r] times; NaN where it has none. It gives an
    interval to a metric that is no mean over items."""
    proportion: bool = False
    """True if per-item scores are 0 or 1: the interval is then Wilson's."""
    higher_is_better: bool = True
    level: str = "item"
    """What is counted: "item" (image, video), "class" (mean per class), "box", "pixel", ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A tiny, synthetic stand-in for a data set, in the exact layout of the real one."""

    write: Callable[[Path], None]
    """Write the sample below an existing empty folder. Deterministic: same bytes every time on one
    machine and library version."""
    version: int = 1
    """Raised whenever `write` would write something else: part of the cache's name."""
    clip: ClipSpec | None = None
    """Clip of the sample where it differs from the task's."""
    pixels: int | None = None
    """Side of the input on the sample, so that it runs in seconds on a CPU."""
    views: Views = field(default_factory=Views)
    flip: bool = True
    """Whether a horizontal flip keeps the sample's labels; the task's own word does not hold here,
    because a sample may have classes of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A data set with its question, its splits and its metrics."""

    name: str
    version: int
    """Raised whenever a number of this task would change."""
    modality: Modality
    target: TargetKind
    metrics: tuple[Metric, ...]
    """The first one is the headline."""
    load: Callable[[Path, str], Split]
    """(root, split name) -> what is there. Decodes nothing. Raises `DataError`."""
    folds: tuple[Fold, ...] | Callable[[Path], tuple[Fold, ...]]
    """Train/test pairings: given, or worked out from the data (own data without splits)."""
    fold_average: Literal["pooled", "mean"] = "pooled"
    """"pooled": every item is tested once over all folds and the metric is computed over all of
    them (cross-validation); "mean": it is computed a fold, then averaged (official splits)."""
    sample: Sample
    clip: ClipSpec | None = None
    """Frames that image backbones are given of a video, so that 2D and 3D see the same ones."""
    views: Views = field(default_factory=Views)
    """Test views, unless the protocol names others."""
    sampler: str | None = None
    """The customary clip sampler, with its version ("ssv2@1"); None: the protocol's."""
    train_sampler: str | None = None
    """The same of random training clips ("ssv2_random@1"), for protocols that train on these."""
    read: Callable[[Item], np.ndarray] | None = None
    """Reads an item's media where the image and video readers can't: a volume, a point cloud.
    Gives the array the backbone takes, without batch axis: (C, D, H, W) for a volume."""
    read_target: Callable[[Item], Any] | None = None
    """Reads a target that lies in a file (a mask); None: `Item.target` is the target itself."""
    flip: bool = True
    """Whether a horizontal flip keeps the label (left/right gestures: False)."""
    shares_data_with: Mapping[str, str] = field(default_factory=dict)
    """Name of another task, in whose train split are items that this one tests -> why, with its
    source. Scores of weights that learned on it are marked."""
    without_data: Literal["sample", "error"] = "sample"
    """What a run does when no data is configured: the embedded sample, or an error."""
    package: str = ""
    """Real data that an installed Python package brings, as "DISTRIBUTION:PATH/IN/IT": it is the
    root where none is configured. Empty for none."""
    layouts: tuple[str, ...] = ()
    """On-disk layouts that `load` reads, by their names in `rsbench.data.layouts`; one without a
    writer there is listed as untested on disk."""
    how_to_get: str
    """One or two sentences: where the data is to be had, and the layout looked for."""
    title: str
    licence: str
    citation: str


# ---------------------------------------------------------------------------- backbones


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """One set of published parameters for a backbone."""

    name: str
    url: str | None = None
    """https URL or hub id; None for weights that come as a local file or in a package."""
    package: str | None = None
    """Weights that an installed Python package brings, as "DISTRIBUTION:PATH/IN/IT"; the file is
    found through the distribution's metadata, so that none of its code runs."""
    sha256: str | None = None
    """All 64 hexadecimal digits, or the first 8 where a file's publisher names only those. None is
    shown as unverified and pinned at the first fetch: absent beats guessed."""
    format: WeightsFormat = "safetensors"
    size_bytes: int | None = None
    """Of the file as published; None where nobody says."""
    network: str | None = None
    """Name of the backbone these belong to, where it is another of the same family: naming them
    chooses that network, and the record says so."""
    trained_on: tuple[str, ...] = ()
    """Names of the tasks these weights have seen, in order: ("imagenet1k", "kinetics400")."""
    num_classes: int | None = None
    """Width of the head that comes with them; None without head."""
    classes: tuple[str, ...] = ()
    """Class names of the head in index order, where known."""
    input: InputSpec
    published: Mapping[str, float] = field(default_factory=dict)
    """Published scores, as "task/metric": value in percent."""
    published_conditions: str = ""
    views: Views | None = None
    """Test views of the published scores of a video network."""
    sampler: str | None = None
    """Clip sampler of these scores, or the named one nearest to it, with its version: "psf@1"."""
    licence: str = ""
    source: str = ""


class BackboneModule(Interface):
    """What `Backbone.build` gives: an `nn.Module` with this contract."""

    head: nn.Module | None
    """Classifier on the features, (N, D) -> (N, K) logits; None where none was asked for."""

    # Three members are optional. `head_dropout`, a float: the probability that a new classifier
    # does not see a feature in training. `set_regularisation(head_dropout=, stochastic_depth=,
    # per=)`: sets that, and the probability that a residual block of the last stage ("stage": all
    # of a stage alike, as the official codes) or the last block ("block": rising block by block) is
    # skipped. `inflation_notes(flat)`, a dict: which of the tensors that are copied from the image
    # network's `flat` state are used otherwise here, and how.
    # A submodule with a true `spared_from_decay` decays only where norms and biases do.

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Map a normalised float batch, (N, C, H, W) or (N, C, T, H, W), to features (N, D)."""
        ...

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the last map of each stage by name, coarsest last: (N, C', H', W') or with T'."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """A network, what it wants to see, and what it costs."""

    name: str
    version: int
    """Raised whenever its outputs under equal weights would change."""
    modality: Modality
    input: InputSpec
    """Input without weights; each `Weights` brings its own."""
    feature_width: int
    num_parameters: int
    """Exact, with a head of `parameters_with_classes` classes; a test counts on the meta device."""
    parameters_with_classes: int | None
    """Classes of the head counted above; None counts the network without head."""
    build: Callable[[int | None], nn.Module]
    """(number of classes or None for no head) -> a `BackboneModule`, randomly initialised from
    torch's global generator."""
    weights: tuple[Weights, ...] = ()
    vary: Callable[[Mapping[str, str]], Backbone] | None = None
    """Options as typed (``NAME+width=0.5+squeeze_ratio=0.125``) -> the network they describe, for
    scaling studies; raises `RsbenchError` at a bad one. None: the network has no options."""
    rename: Callable[[WeightsFormat, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = (
        None
    )
    """(format of the file, its tensors by the names there) -> the same by this network's names, in
    its layout; raises `WeightsError`. None: files carry this network's own names."""
    flat: Backbone | None = None
    """Of a video network: the image network whose weights can be inflated into it."""
    published_training: Callable[[int], Mapping[str, Scalar]] | None = None
    """(side that is trained on in pixels) -> what its paper varies from size to size when it trains
    the network, by the names of recipes: "dropout", "stochastic_depth", "randaugment_magnitude".
    None: nothing is published."""
    requires: str = ""
    """The extra that has to be installed to build it: "timm"; empty for none."""
    title: str
    licence: str
    citation: str


# ---------------------------------------------------------------------------- protocols


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemSet:
    """Rows of a pool of items; folds share the pool, so features are computed once."""

    pool: tuple[Item, ...]
    """All items whose media may be read, targets removed, in a stable order."""
    rows: tuple[int, ...]
    """Which of the pool belong to this set, in order."""
    targets: Sequence[Any] | None
    """One a row; None where nobody knows them. A protocol is given `Withheld` ones of what it
    predicts on."""
    classes: tuple[str, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """The items of this set."""
        return tuple(self.pool[row] for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class Withheld(Sequence[Any]):
    """The targets of what a protocol predicts on: they exist, and any look at them is an error."""

    def __getitem__(self, index: object) -> Any:  # noqa: ANN401 - nothing is given
        """Refuse.

        Raises:
            LeakError: Always.
        """
        raise LeakError(
            "A protocol must not see labels of the items it predicts on, and this one asked for"
            " them: fit on `FitRequest.train`, select on `FitRequest.validation` or on held-out"
            " train."
        )

    def __len__(self) -> int:
        """Refuse as `__getitem__` does."""
        return len(self[:])


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An item that is present and can't be read."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """What is odd about an item that could be read."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How items become uint8 views: everything here is content of the cache key."""

    modality: Modality
    """Of the task's items."""
    input: InputSpec
    """Of the weights in use (or of the sample)."""
    clip: ClipSpec
    """Frames a clip; ClipSpec(frames=1, stride=1) for images."""
    sampler: str
    """Name of the clip sampler, with its version: "mmaction2@1"."""
    views: Views
    cropper: str = "resizer@1"
    """Name of the rule by which crops lie, with its version; see `rsbench.media.crops`."""
    read: Callable[[Item], np.ndarray] | None = None
    """The task's own reader, if it has one."""
    read_key: str = ""
    """Name and version of the task where `read` is set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """What it took to run a frozen network over some items."""

    views_computed: int
    views_cached: int
    """Taken from the cache."""
    seconds: float
    """Wall clock of reading and computing; nothing of it where all came from the cache."""
    seconds_waited: float
    """Part of it in which the network waited for views to be read."""


class Ranks(NamedTuple):
    """Which of the processes that train one network together this one is."""

    rank: int
    """From 0; 0 writes, counts and prints."""
    size: int
    """Two or more."""
    group: Any = None
    """PyTorch's process group of this one fit, so that a process that fails alone breaks this link
    and no other; None: the default group. Any: a light module must not name a type of torch."""


class Helpers(Interface):
    """Processes that compute shares of an extraction beside this one; see `rsbench.data.team`."""

    @property
    def model(self) -> str:
        """Digest of the network that they have; with another one they can't help."""
        ...

    @property
    def num_processes(self) -> int:
        """Processes that share the work, this one among them."""
        ...

    def lead(self, order: object, own: Iterator[Any], *, num_rounds: int) -> Iterator[Any]:
        """Send an order, and give what comes of it piece by piece."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What must not move a score: the machine's side of a run."""

    device: str = "cpu"
    batch_size: int = 16
    """Views a forward pass."""
    num_workers: int = 0
    """DataLoader processes; 0 reads in the main process."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    cache_root: Path
    """Folder of the content-addressed caches."""
    keep_views: bool = True
    """Whether the scores of every view are kept, or their means alone."""
    work_root: Path
    """Folder of this run for checkpoints; deleted after the record is written."""
    cache_clips_bytes: int = 0
    """Most bytes of decoded views that are kept on disk; 0 keeps none."""
    cache_limit_bytes: int | None = None
    """Most bytes of outputs of networks that are kept on disk; None sets no limit."""
    cached_for: Mapping[str, str] = field(default_factory=dict)
    """Whose the outputs are, in words for whoever lists the cache: task, backbone, weights."""
    helpers: Helpers | None = None
    """Processes that extract with this one; None: it is alone."""
    ranks: Ranks | None = None
    """Set while a network that learns is fitted by several processes, all of which run the same
    `Protocol.fit`; None: this one is alone."""
    compile: bool = False
    """Whether what trains goes through `torch.compile`."""
    keep_checkpoints: int = 1
    """Latest checkpoints of a training that stay on the disk, at least 1."""
    checkpoint_seconds: float = 600.0
    """Longest time between two checkpoints of a training; each epoch ends with one, unless that
    takes a good part of the time."""
    log_root: Path | None = None
    """Folder for TensorBoard's event files of trainings; None writes none."""
    extracted: Callable[[Extraction], None] = lambda extraction: None
    """Called with what each extraction took."""
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    """Called as (stage, items done, items in all)."""
    measured: Callable[[Mapping[str, float]], None] = lambda values: None
    """Called now and then with what a training is at, for whoever is watching: "loss", "top1",
    "learning_rate", "examples_per_second"."""
    say: Callable[[str], None] = lambda line: None
    """Called with a line that whoever is watching should read; lines may repeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What a protocol learned: arrays only, so that it can be saved as safetensors."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    selection: tuple[Mapping[str, Scalar], ...] = ()
    """One row a candidate: its settings, the held-out score, whether it was chosen."""
    chosen: Mapping[str, Scalar] = field(default_factory=dict)
    """Resolved values: the recipe says the rule, this what it came to here."""
    curve: tuple[Mapping[str, Scalar], ...] = ()
    """One row an epoch of a training: "epoch" from 1, "steps" in all, "train_loss", "train_top1",
    "learning_rate", "seconds", and "held_out_top1" ("held_out_map" where items may have several
    labels) where something is held out; shares in [0, 1]. Where several trainings are run,
    "training" names each."""
    failures: tuple[Failure, ...] = ()
    """Training items that could not be read; left out of training and named."""
    remarks: tuple[Remark, ...] = ()
    """What is odd about training items that could be read, validation items among them."""
    notes: tuple[str, ...] = ()
    """Lines for whoever reads the score: where the fit is not what the recipe's words promise."""
    marks: tuple[str, ...] = ()
    """What no reader of the score may miss, in a few words: "6 of 10 shots"."""
    seconds: float = 0.0
    """Fitting alone, without extraction."""


class Halves(NamedTuple):
    """Scores of views, those of one class an item in half precision; see `rsbench.view_scores`."""

    scores: np.ndarray
    """(N, V, K), less the offset, float16 for "softmax" and float32 for "sigmoid"; -inf where a
    class can't be; rows of NaN for items that failed."""
    offsets: np.ndarray
    """float32 (N, V): the score of each view's best class for "softmax", 0 for "sigmoid"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewScores:
    """What a classifier said of each view, from which other averages are derived offline."""

    activation: Activation
    """What makes probabilities of scores."""
    halves: Halves | None
    """Scores of every view, clips before crops: log-probabilities for "softmax", log-odds for
    "sigmoid". None where they would take more room than they are given (`Settings.keep_views`)."""
    mean_probabilities: np.ndarray
    """float32 (N, K): mean of the probabilities over all views, as they are kept; rows of NaN for
    items that failed."""
    mean_scores: np.ndarray
    """float32 (N, K): mean of the scores over all views."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """One prediction an item, aligned with the rows of the set; None where the item failed."""

    values: tuple[Any, ...]
    """For classes: float32 (K,) probabilities. Otherwise any numpy array or scalar."""
    failures: tuple[Failure, ...] = ()
    facts: tuple[MediaFacts | None, ...] = ()
    """What reading found of each item, None where it failed; empty where a protocol does not
    say."""
    views: ViewScores | None = None
    """What the values were averaged from, where they are class probabilities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A backbone ready to run: built, loaded, in eval mode, on the device, lifted to the task."""

    module: nn.Module
    """Maps a normalised float batch of *task* views ((N, C, H, W) or (N, C, T, H, W)) to (N, D)."""
    head: nn.Module | None
    """The weights' own classifier, (N, D) -> (N, K)."""
    head_classes: tuple[str, ...]
    """Names of the head's classes, where known."""
    feature_width: int
    lifting: Literal["none", "frame_mean", "still_clip"]
    """How a network of another modality reads the task's items."""
    digest: str
    """Digest of weights, and of outputs on a fixed input: names this network in cache keys."""
    published_training: Callable[[int], Mapping[str, Scalar]] = lambda pixels: {}
    """(side trained on) -> what its paper says of training the network so: see `Backbone`."""
    maps_digest: Callable[[], str]
    """Gives the digest of the stage maps on a fixed input, which names the network beside the
    other where maps are kept. Computed when it is first asked for: most protocols never do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How a backbone is judged on a task, to the last number that moves a score."""

    name: str
    version: int
    recipe: Mapping[str, Scalar]
    """Every number that moves a score, as a rule; `--set key=value` gives another ruler."""
    targets: frozenset[TargetKind]
    """Kinds of target it can give."""
    trains: bool
    """Whether it reads train data (and its digest enters the ruler)."""
    selects_on: str | Callable[[Mapping[str, Scalar]], str]
    """What hyper-parameters are selected on: "held-out train", "nothing", ...; recipe -> that,
    where the recipe decides. Ask `selects`."""
    trains_backbone: bool | Callable[[Mapping[str, Scalar]], bool] = False
    """Whether the network itself learns, or only what is put on top of it; recipe -> that, where
    the recipe decides. Ask `learns_backbone`."""
    from_scratch: bool = False
    """Whether it begins with random weights alone; with others a run is refused."""
    sampler: str = "mmaction2@1"
    """Clip sampler at test, and of frozen training clips, unless the task has its own."""
    cropper: str = "resizer@1"
    """Where the crops of the test lie; see `rsbench.media.crops`."""
    views: Views | None = None
    """Test views where the protocol fixes them; None takes the task's."""
    output: Output = "features"
    """What it keeps of a view of a frozen network; it serves the estimate of a dry run."""
    train_passes: Callable[[Mapping[str, Scalar]], float] = lambda recipe: 1.0
    """recipe -> forward passes over the train data that fitting is worth, a backward pass counted
    as two; it serves the estimate of a dry run."""
    train_views: Callable[[Mapping[str, Scalar]], int] = lambda recipe: 0
    """recipe -> further views that fitting shows the network, however many examples there are, a
    backward pass counted as two; it serves the estimate of a dry run."""
    keeps_train_views: bool = False
    """Whether views that fitting shows the network again are decoded once and kept in memory; it
    serves the estimate of a dry run."""
    num_trained: Callable[[Mapping[str, Scalar]], int] = lambda recipe: 0
    """recipe -> classifiers that are trained step by step on what a frozen network gave; a dry run
    says that it does not count their time."""
    check: Callable[[Mapping[str, Scalar]], object] = lambda recipe: None
    """recipe -> anything; raises `RsbenchError` where a value is out of its range. Asked when a run
    is planned, of the recipe that `fit` will be given."""
    check_model: Callable[[Mapping[str, Scalar], Model, InputSpec], None] = (
        lambda recipe, model, input: None
    )
    """Raises `RsbenchError` where a network, or the input that it is given, does not suit a recipe.
    Asked when the network is built, by a dry run too, before any media are read."""
    fit: Callable[[FitRequest], Fitted]
    predict: Callable[[PredictRequest], Predictions]
    title: str
    citation: str

    def learns_backbone(self, recipe: Mapping[str, Scalar]) -> bool:
        """Say whether the network itself learns under a recipe."""
        decided = self.trains_backbone
        return decided if isinstance(decided, bool) else decided(recipe)

    def selects(self, recipe: Mapping[str, Scalar]) -> str:
        """Say what hyper-parameters, or epochs, are selected on under a recipe."""
        decided = self.selects_on
        return decided if isinstance(decided, str) else decided(recipe)


@dataclass(frozen=True, kw_only=True, slots=True)
class FitRequest:
    """All that a protocol may see while it learns. No test item is in it by default."""

    model: Model
    train: ItemSet | None
    """None for protocols that do not train."""
    validation: ItemSet | None
    """Official selection data, where the task has it."""
    target: TargetKind
    recipe: Mapping[str, Scalar]
    reading: Reading
    """One centre clip of each training item."""
    flip: bool
    """Whether a horizontal flip keeps the label."""
    seed: int
    settings: Settings
    allowed_test: ItemSet | None = None
    """The test set with its targets where the run allows settings to be selected on it; None in
    every honest run. Ask `test_for_selection` for it."""

    @property
    def allows_test_selection(self) -> bool:
        """Whether settings may, and then must, be selected on the test set."""
        return self.allowed_test is not None

    def test_for_selection(self) -> ItemSet:
        """Give the test set with its targets, in a run that was told to select on it.

        Raises:
            LeakError: The run was not.
        """
        if self.allowed_test is None:
            raise LeakError(
                "A protocol must not select on the test set, and this one asked for it: select on"
                " held-out train, or show what the leak is worth with --allow-test-selection,"
                " which keeps the result out of tables."
            )
        return self.allowed_test


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictRequest:
    """All that a protocol may see while it predicts. No label is in it."""

    model: Model
    fitted: Fitted
    test: ItemSet
    """`targets` are `Withheld`, or None: any use of them is an error."""
    target: TargetKind
    recipe: Mapping[str, Scalar]
    reading: Reading
    """All test views."""
    seed: int
    settings: Settings
