"""What a record says of its items, whether an exported network says the same, and if not, why.

Records keep log-probabilities less that of the best class in half precision
(`rsbench.view_scores`), so that a number is held to this: some probability within the tolerance of
the exported one is kept as the one that the record has.

Shape letters: V views of an item, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rsbench.cells import find_task_and_data
from rsbench.data.loaders import read_views
from rsbench.data.sample import sample_root
from rsbench.errors import DataError, MediaError, RunError
from rsbench.gathering import folds_of
from rsbench.predicting import Rebuilt
from rsbench.records import store
from rsbench.specs import Activation, Item

_STORED_ROUNDING = 1e-7
"""Of a mean of probabilities that is kept as float32."""


class Compared(NamedTuple):
    """What came of comparing an exported network with the items of its record."""

    num_items: int
    num_views: int
    """Of each item."""
    difference: float
    """Largest one between a recorded probability and the exported one, beyond what the record
    rounds."""


class RecordedItem(NamedTuple):
    """An item, and what its record says of it."""

    item: Item
    recorded_K: np.ndarray


class RecordedItems(NamedTuple):
    """Items of a record that are here."""

    items: tuple[RecordedItem, ...]
    why_not: str
    """Why there are none; empty where there are."""


def recorded_items(
    rebuilt: Rebuilt, data: Path | None, *, cache_root: Path, fold: str | None, num_items: int
) -> RecordedItems:
    """Find some of the items that a record reports, spread over all of them.

    Raises:
        DataError: `data` is not the data of the run.
    """
    stored = rebuilt.stored
    wanted = _recorded_scores(stored, fold=fold)
    chosen = {wanted[row][0]: wanted[row][1] for row in _spread(len(wanted), num_items)}
    name = stored.record.task.name
    if stored.record.task.source_sha256 is not None:
        return RecordedItems((), f"the task {name} came from a file")
    try:
        here = _items_here(stored.record.task.name, data, chosen, cache_root=cache_root)
    except DataError as error:
        if data is not None:
            raise
        return RecordedItems((), str(error))
    found = tuple(RecordedItem(here[each], chosen[each]) for each in chosen if each in here)
    if not found:
        said = "found here" if data is None else f"found at {data}"
        return RecordedItems((), f"no item of the run on {name} is {said}; --data names its data")
    return RecordedItems(found, "")


def _recorded_scores(stored: store.Stored, *, fold: str | None) -> list[tuple[str, np.ndarray]]:
    """Give ids and probabilities of the items that could be read, of one fold, in their order."""
    table = store.read_predictions(stored.path)
    return [
        (item_id, np.asarray(scores))
        for item_id, scores, of in zip(table.ids, table.predictions, table.folds, strict=True)
        if scores is not None and (fold is None or of == fold)
    ]


def _spread(num: int, num_chosen: int) -> Sequence[int]:
    """Choose places evenly over so many, for lists are often sorted by class."""
    if num <= num_chosen:
        return range(num)
    return [int(place) for place in np.linspace(0, num - 1, num_chosen).round()]


def _items_here(
    task_name: str, data: Path | None, wanted: Mapping[str, object], *, cache_root: Path
) -> dict[str, Item]:
    """Give the wanted items by id, as far as they are here; splits that are not needed stay shut.

    Raises:
        DataError: The data is not there, or not of this task.
    """
    found, root = find_task_and_data(task_name, data)
    if root is None and not task_name.endswith("@sample"):
        raise DataError(f"no data of {task_name} is configured; --data names it")
    path = sample_root(found.spec, cache_root) if root is None else root.path
    task = found.spec
    if found.for_root is not None:
        task = found.for_root(path)
    folds = folds_of(task, path)
    # What was cross-validated reports items of the other splits too.
    tested = [fold.test for fold in folds]
    others = [name for fold in folds for name in (fold.validation, fold.train) if name is not None]
    here: dict[str, Item] = {}
    for name in dict.fromkeys([*tested, *others]):
        here |= {item.id: item for item in task.load(path, name).items if item.id in wanted}
        if len(here) == len(wanted):
            break
    return here


def compare_with_record(
    session: Callable[[Tensor], np.ndarray],
    network: nn.Module,
    rebuilt: Rebuilt,
    items: Sequence[RecordedItem],
    *,
    tolerance: float,
) -> Compared:
    """Read items as the run did, and hold what the exported network says of them to the record.

    Args:
        session: Gives the exported network's probabilities of views.
        network: What was exported, laid out in memory as the run had it.
        rebuilt: The run.
        items: Of its record.
        tolerance: How far a probability may be off.

    Raises:
        RunError: A recorded probability is none that the exported one could be kept as.
    """
    activation: Activation = (
        "sigmoid" if rebuilt.stored.record.task.target == "multilabel" else "softmax"
    )
    largest = 0.0
    for item, recorded_K in items:
        try:
            views = read_views(item, rebuilt.reading)
        except MediaError as error:
            raise RunError(
                f"{item.id} could be read when the record was made, and can't now ({error}):"
                " give the data of the run with --data, or compare nothing with --items 0."
            ) from error
        probabilities_VK = session(views).astype(np.float64)
        difference = least_tolerance(probabilities_VK, recorded_K, activation, most=tolerance)
        if difference is None:
            off = least_tolerance(probabilities_VK, recorded_K, activation, most=1.0)
            own_VK, exact_VK = _computed(network, views), _computed_exactly(network, views)
            own = least_tolerance(own_VK, recorded_K, activation, most=1.0)
            reason = _reason(rebuilt) or (
                _of_rounding(own, probabilities_VK, own_VK, exact_VK)
                if own is not None and own <= tolerance
                else f"PyTorch's, computed here and now, are off by {_in_words(own)}: the media,"
                " their decoder or the libraries are others than the record names."
            )
            raise RunError(
                f"The exported network must reproduce the recorded probabilities to {tolerance:g},"
                f" and those of {item.id} are off by {_in_words(off)}; nothing was written."
                f" {reason} --tolerance allows more."
            )
        largest = max(largest, difference)
    return Compared(len(items), rebuilt.reading.views.num_views, largest)


def _in_words(tolerance: float | None) -> str:
    return "more than any rounding" if tolerance is None else f"{tolerance:.1e}"


def _computed(network: nn.Module, views: Tensor) -> np.ndarray:
    with torch.inference_mode():
        probabilities_VK: np.ndarray = network(views)[0].numpy().astype(np.float64)
    return probabilities_VK


def _computed_exactly(network: nn.Module, views: Tensor) -> np.ndarray | None:
    """Compute in double precision; None where a network has code for single floats alone."""
    try:
        return _computed(copy.deepcopy(network).double(), views)
    except RuntimeError:
        return None


def _reason(rebuilt: Rebuilt) -> str:
    """Say which of the run's own settings make other numbers; empty where none does."""
    precision = rebuilt.stored.record.environment.get("precision", "float32")
    device = str(rebuilt.stored.record.environment.get("device", "cpu"))
    if precision != "float32":
        return f"The run was computed in {precision}, and the file computes in float32."
    if not device.startswith("cpu"):
        return f"The run was computed on {device}, whose convolutions may be less exact."
    return ""


def _of_rounding(
    own: float, exported_VK: np.ndarray, own_VK: np.ndarray, exact_VK: np.ndarray | None
) -> str:
    """Say whose error it is where PyTorch reproduces the record and the file does not."""
    said = f"PyTorch reproduces them here to {own:.1e}"
    if exact_VK is None:
        return f"{said}, so that it is the file's error."
    of_file, of_pytorch = (float(np.abs(each - exact_VK).max()) for each in (exported_VK, own_VK))
    return (
        f"{said}; of the same network in double precision, the file is off by {of_file:.1e} and"
        f" PyTorch by {of_pytorch:.1e}. Where both are, single precision says no more than that of"
        " this network: a probe makes rounding large where features hardly vary, as an untrained"
        " network's."
    )


def least_tolerance(
    probabilities_VK: np.ndarray, recorded_K: np.ndarray, activation: Activation, *, most: float
) -> float | None:
    """Say how far off probabilities must be taken to be for a record to be what is kept of them.

    Args:
        probabilities_VK: float64, of the views of one item.
        recorded_K: float32, their mean as it is kept.
        activation: Of the classifier.
        most: Where the search ends.

    Returns:
        To a part in a hundred, from above; None where `most` is not enough.
    """

    def explains(tolerance: float) -> bool:
        low_K, high_K = kept_between(probabilities_VK, activation, tolerance=tolerance)
        return bool(((low_K <= recorded_K) & (recorded_K <= high_K)).all())

    if not explains(most):
        return None
    low, high = 0.0, most
    if explains(low):
        return low
    while high - low > max(high / 100, _STORED_ROUNDING / 100):
        middle = (low + high) / 2
        low, high = (low, middle) if explains(middle) else (middle, high)
    return high


def kept_between(
    probabilities_VK: np.ndarray, activation: Activation, *, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give the least and the largest mean that probabilities this near could be kept as.

    Records round log-probabilities, less that of the best class, to half precision: two numbers
    that are as near to each other as one likes may be kept as neighbours.

    Args:
        probabilities_VK: float64, of the views of one item.
        activation: Of the classifier.
        tolerance: How far each may be off.

    Returns:
        float64 (K,) each.
    """
    if activation == "sigmoid":
        mean_K = probabilities_VK.mean(axis=0)
        return mean_K - tolerance - _STORED_ROUNDING, mean_K + tolerance + _STORED_ROUNDING
    best_V1 = probabilities_VK.max(axis=1, keepdims=True)
    offset_V1, slack_V1 = np.log(best_V1), np.log1p(tolerance / best_V1)
    ends = []
    for sign in (-1, 1):
        with np.errstate(divide="ignore"):
            moved_VK = np.log(np.clip(probabilities_VK + sign * tolerance, 0, None))
        kept_VK = (moved_VK - offset_V1 + sign * slack_V1).astype(np.float16).astype(np.float64)
        kept_VK += offset_V1 + sign * slack_V1
        ends.append(np.exp(kept_VK).mean(axis=0) + sign * _STORED_ROUNDING)
    return ends[0], ends[1]
