"""Nearest neighbours by cosine similarity, exact and the same everywhere, and their weighted vote.

The rule is that of DINO and DINOv2 (dinov2/eval/knn.py): features of length 1, similarity s = their
product, the first k neighbours vote for their class with the weight exp(s / temperature). The
softmax of the original is over the largest k of a sweep and is cut to k after; that is the same
vote up to scale.

*Exact* means: the neighbours are those that float64 finds. A product in float32 is fast and off by
up to `D 2^-24`, so it only proposes candidates. These are measured again in float64, and a query
whose proposal can't be shown to hold all its neighbours (too many lie within the error of the last
one) is measured against every example in float64.

*The same everywhere* means: whatever the device, the threads, and the blocks of the work.
Similarities are rounded to a grid of 2^-30, sixty times finer than float32 features are and a
million times coarser than float64's errors here, and among equals the example that was given first
is nearer. Similarity and place make one 64-bit key, so that no two examples are ever equal.

Shape letters: N queries, M examples, D features, T neighbours, K classes, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rsbench.errors import RsbenchError
from rsbench.probes._given import check_examples, check_finite

_GRID_BITS = 30
_PLACE_BITS = 32
"""Similarities from -1 to 1 take 32 bits with their sign, places 32: together they fill an int64
but for one bit."""
_MAX_EXAMPLES = 2**_PLACE_BITS

_BLOCK_FLOATS = 2**24
"""Numbers in a block of similarities: 64 MiB in float32."""
_CACHED_FLOATS = 2**17
"""The same of candidates on a CPU, whose nearer caches hold 1 MiB of float64: measuring 250
candidates of 256 queries of 512 features took 0.04 s so, and 0.26 s in one block (one core)."""
_QUERIES_PER_BLOCK = 256
_TINY = np.finfo(np.float64).tiny
_SPARE_CANDIDATES = 24
"""Candidates proposed beyond the neighbours asked for, and beyond a quarter as many: with fewer,
more queries have to be measured twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bank:
    """Examples that can be asked for neighbours of others."""

    units_MD: torch.Tensor
    """float32, of length 1, on the device that searches; a feature of length 0 stays 0."""
    labels_M: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels_M)


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The nearest examples of each query, nearest first."""

    places_NT: npt.NDArray[np.int64]
    """Which of the bank's examples, in the order in which they were given."""
    labels_NT: npt.NDArray[np.int64]
    """Their classes."""
    similarities_NT: npt.NDArray[np.float64]
    """Cosine similarities, in [-1, 1] but for rounding, on the grid of 2^-30."""
    num_measured_again: int
    """Queries that float32 could not decide and that were measured in float64 against all."""


def build_bank(
    features_MD: npt.NDArray[np.floating],
    labels_M: npt.NDArray[np.integer],
    *,
    device: str = "cpu",
) -> Bank:
    """Keep examples for searching.

    Args:
        features_MD: (M, D), finite.
        labels_M: (M,) class indices, at least 0.
        device: Where to search: "cuda", or any other for the CPU (Apple's GPUs have no float64).

    Raises:
        DataError: Fewer than two classes have examples.
        RsbenchError: A feature is not finite, or the device has no room for the examples.
    """
    check_examples(features_MD, labels_M)
    return restore_bank(_units(features_MD).numpy(), labels_M, device=device)


def restore_bank(
    units_MD: npt.NDArray[np.float32], labels_M: npt.NDArray[np.integer], *, device: str = "cpu"
) -> Bank:
    """Make a bank of what `Bank.units_MD` and `Bank.labels_M` of another were.

    Raises:
        RsbenchError: The device has no room for the examples.
    """
    assert len(labels_M) <= _MAX_EXAMPLES, "places must fit their bits of a key"
    try:
        on_device = torch.from_numpy(units_MD).to(_searching(device))
    except torch.OutOfMemoryError as error:
        raise RsbenchError(
            f"The examples' features take {units_MD.nbytes / 2**30:.1f} GiB, more than {device} has"
            " free: run with --device cpu (features that were extracted are kept)."
        ) from error
    return Bank(units_MD=on_device, labels_M=labels_M.astype(np.int64))


def find_neighbours(
    bank: Bank, features_ND: npt.NDArray[np.floating], *, num_neighbours: int
) -> Neighbours:
    """Find the examples most similar to each query.

    Args:
        bank: Where to look.
        features_ND: (N, D), finite. A query that is an example finds itself.
        num_neighbours: T, from 1 to the number of examples.

    Raises:
        RsbenchError: A feature is not finite.
    """
    assert 1 <= num_neighbours <= len(bank), "there are as many neighbours as examples at most"
    check_finite(features_ND)
    keys_NT = np.empty((len(features_ND), num_neighbours), dtype=np.int64)
    num_again = 0
    for start in range(0, len(features_ND), _QUERIES_PER_BLOCK):
        rows = slice(start, start + _QUERIES_PER_BLOCK)
        units_ND = _units(features_ND[rows]).to(bank.units_MD.device)
        keys, undecided = _proposed(bank, units_ND, num_neighbours)
        if len(undecided):
            keys[undecided] = _measured_all(bank, units_ND[undecided], num_neighbours)
            num_again += len(undecided)
        keys_NT[rows] = keys.cpu().numpy()
    places_NT = (2**_PLACE_BITS - 1) - (keys_NT & (2**_PLACE_BITS - 1))
    return Neighbours(
        places_NT=places_NT,
        labels_NT=bank.labels_M[places_NT],
        similarities_NT=(keys_NT >> _PLACE_BITS) / 2.0**_GRID_BITS,
        num_measured_again=num_again,
    )


def vote(
    neighbours: Neighbours, *, num_voting: int, temperature: float, num_classes: int
) -> npt.NDArray[np.float64]:
    """Let the first neighbours vote for their classes, the nearer the heavier.

    Args:
        neighbours: Of each query.
        num_voting: k, how many of them vote, from 1 to T.
        temperature: Above 0; a neighbour less similar by this much counts 1/e.
        num_classes: K.

    Returns:
        Shares of the vote, (N, K), rows summing to 1; exactly 0 for a class that none of the k has.
    """
    assert 1 <= num_voting <= neighbours.labels_NT.shape[1], "only neighbours that are known vote"
    nearest = neighbours.similarities_NT[:, :num_voting]
    # Less the largest, which any temperature then leaves at weight 1.
    weights_NT = np.exp((nearest - nearest[:, :1]) / temperature)
    weights_NT /= weights_NT.sum(axis=1, keepdims=True)
    num_queries = len(weights_NT)
    slots_NT = np.arange(num_queries)[:, None] * num_classes + neighbours.labels_NT[:, :num_voting]
    shares = np.bincount(
        slots_NT.ravel(), weights=weights_NT.ravel(), minlength=num_queries * num_classes
    )
    return shares.astype(np.float64, copy=False).reshape(num_queries, num_classes)


def _searching(device: str) -> torch.device:
    named = torch.device(device)
    return named if named.type == "cuda" else torch.device("cpu")


def _units(features_ND: npt.NDArray[np.floating]) -> torch.Tensor:
    """Give the directions of features: float32 (N, D); what has no direction stays 0."""
    units_ND = np.empty(features_ND.shape, dtype=np.float32)
    rows_per_block = max(1, _BLOCK_FLOATS // max(1, features_ND.shape[1]))
    for start in range(0, len(features_ND), rows_per_block):
        block = features_ND[start : start + rows_per_block].astype(np.float64)
        # Features of an untrained network may be so large that their squares overflow.
        block /= np.maximum(np.abs(block).max(axis=1, keepdims=True, initial=0.0), _TINY)
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), _TINY)
        units_ND[start : start + rows_per_block] = block
    return torch.from_numpy(units_ND)


def _proposed(
    bank: Bank, units_ND: torch.Tensor, num_neighbours: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the best keys among candidates of float32, (N, T), and the rows they may be wrong in."""
    num_candidates = min(len(bank), num_neighbours + max(_SPARE_CANDIDATES, num_neighbours // 4))
    values_NC: torch.Tensor | None = None
    places_NC: torch.Tensor | None = None
    for start, block_MD in _blocks(bank):
        similarities = torch.nn.functional.linear(units_ND, block_MD)
        best = similarities.topk(min(num_candidates, len(block_MD)), dim=1, sorted=False)
        values, places = best.values, best.indices + start
        if values_NC is not None and places_NC is not None:
            values = torch.cat([values_NC, values], dim=1)
            places = torch.cat([places_NC, places], dim=1)
            best = values.topk(min(num_candidates, values.shape[1]), dim=1, sorted=False)
            values, places = best.values, places.gather(1, best.indices)
        values_NC, places_NC = values, places
    assert values_NC is not None and places_NC is not None, "a bank has examples"
    keys = _keys_of_candidates(bank, units_ND, places_NC).topk(num_neighbours, dim=1).values
    if num_candidates == len(bank):
        return keys, torch.empty(0, dtype=torch.int64, device=keys.device)
    # What was not proposed is at most as similar as the last candidate, by float32's measure.
    unseen_N = values_NC.amin(dim=1).double() + _float32_error(units_ND.shape[1])
    worst_N = (keys[:, -1] >> _PLACE_BITS).double() / 2.0**_GRID_BITS
    return keys, (worst_N <= unseen_N + 2.0**-_GRID_BITS).nonzero()[:, 0]


def _measured_all(bank: Bank, units_ND: torch.Tensor, num_neighbours: int) -> torch.Tensor:
    """Give the best keys of all, measured in float64: (N, T)."""
    queries = units_ND.double()
    best_NT: torch.Tensor | None = None
    for start, block_MD in _blocks(bank):
        places = torch.arange(start, start + len(block_MD), device=block_MD.device)
        keys = _keys(torch.nn.functional.linear(queries, block_MD.double()), places)
        if best_NT is not None:
            keys = torch.cat([best_NT, keys], dim=1)
        best_NT = keys.topk(min(num_neighbours, keys.shape[1]), dim=1).values
    assert best_NT is not None, "a bank has examples"
    return best_NT


def _keys_of_candidates(
    bank: Bank, units_ND: torch.Tensor, places_NC: torch.Tensor
) -> torch.Tensor:
    """Measure candidates in float64: keys (N, C)."""
    num_floats = _BLOCK_FLOATS if units_ND.is_cuda else _CACHED_FLOATS
    width = units_ND.shape[1]
    rows_per_block = max(1, num_floats // (places_NC.shape[1] * width))
    keys = []
    for queries_ND, places in zip(
        torch.split(units_ND, rows_per_block),
        torch.split(places_NC, rows_per_block),
        strict=True,
    ):
        candidates = bank.units_MD.index_select(0, places.ravel()).double()
        candidates_NCD = candidates.view(*places.shape, width)
        products = torch.bmm(candidates_NCD, queries_ND.double()[:, :, None])[:, :, 0]
        keys.append(_keys(products, places))
    return torch.cat(keys)


def _keys(similarities: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Make one int64 of a similarity and a place: larger is nearer, and of equals the first."""
    on_grid = (similarities * 2.0**_GRID_BITS).round().long()
    keys: torch.Tensor = (on_grid << _PLACE_BITS) + ((2**_PLACE_BITS - 1) - places)
    return keys


def _blocks(bank: Bank) -> Iterator[tuple[int, torch.Tensor]]:
    """Cut a bank so that a block of queries has a block of similarities with it."""
    rows_per_block = _BLOCK_FLOATS // _QUERIES_PER_BLOCK
    for start in range(0, len(bank), rows_per_block):
        yield start, bank.units_MD[start : start + rows_per_block]


def _float32_error(width: int) -> float:
    """Bound how far a product of two units is off, as float32 sums it in whatever order.

    It is width x u / (1 - width x u) for the rounding u (Higham, Accuracy and Stability, 3.5),
    because the magnitudes of the terms sum to 1 at most (Cauchy and Schwarz), but for the rounding
    of the units.
    """
    highest = torch.get_float32_matmul_precision() == "highest"
    # TF32 and bfloat16 keep 10 and 7 bits of each factor.
    rounding = 2.0**-24 if highest else 2.0**-7
    share = width * rounding
    return 1.001 * share / (1 - share) if share < 0.5 else 2.0
