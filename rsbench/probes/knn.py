"""Nearest neighbours by cosine similarity, exact and the same everywhere, and their weighted vote.

The rule is that of DINO and DINOv2 (dinov2/eval/knn.py): features of length 1, similarity s = their
product, the first k neighbours vote for their class with the weight exp(s / temperature). The
softmax of the original is over the largest k of a sweep and is cut to k after; that is the same
vote up to scale.

*Exact* means: the neighbours are those that float64 finds for the features as they were given. A
product in float32 is fast and off by up to `D 2^-24`, so it only proposes candidates. These are
measured again in float64, and a query whose proposal can't be shown to hold all its neighbours (too
many lie within the error of the last one) is measured against every example in float64.

*The same everywhere* means: whatever the device, the threads, and the blocks of the work.
Similarities are rounded to a grid of 2^-36 = 1.5e-11, a thousand times finer than float32 tells
them apart, and among equals the example that was given first is nearer. Similarity and place make
one 64-bit key, so that no two examples are ever equal. Float64's errors, near 1e-16 here, are small
beside the grid; only a similarity that lies so near a border of it may fall to either side, and
only an example within the same 1.5e-11 then changes places with it.

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

_GRID_BITS = 36
_PLACE_BITS = 26
"""Similarities from -1 to 1 take 38 bits with their sign, places 26: together they fill an int64.
Of near-parallel features (cosines of 1 - 4e-7, 512 wide) a grid of 2^-30 holds many in one step."""
_MAX_EXAMPLES = 2**_PLACE_BITS

_BLOCK_FLOATS = 2**24
"""Numbers in a block of similarities: 64 MiB in float32."""
_CACHED_FLOATS = 2**17
"""The same of candidates on a CPU, whose nearer caches hold 1 MiB of float64: measuring 250
candidates of 256 queries of 512 features took 0.04 s so, and 0.26 s in one block (one core)."""
_QUERIES_PER_BLOCK = 512
_SPARE_CANDIDATES = 24
"""Candidates proposed beyond the neighbours asked for, and beyond a quarter as many: with fewer,
more queries have to be measured twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bank:
    """Examples that can be asked for neighbours of others."""

    features_MD: torch.Tensor
    """As they were given, each up to a power of two that brings its largest entry to [1/2, 1), on
    the device that searches: float64 if given so, else float32."""
    inverse_lengths_M: torch.Tensor
    """Of these, float64; 0 for a feature of length 0, which is similar to none."""
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
    """Cosine similarities, in [-1, 1] but for rounding, on the grid of 2^-36."""
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
    assert len(labels_M) <= _MAX_EXAMPLES, "places must fit their bits of a key"
    scaled_MD, inverse_lengths_M = _scaled(features_MD)
    try:
        on_device = torch.from_numpy(scaled_MD).to(_searching(device))
    except torch.OutOfMemoryError as error:
        raise RsbenchError(
            f"The examples' features take {scaled_MD.nbytes / 2**30:.1f} GiB, more than {device}"
            " has free: run with --device cpu (features that were extracted are kept)."
        ) from error
    return Bank(
        features_MD=on_device,
        inverse_lengths_M=torch.from_numpy(inverse_lengths_M).to(on_device.device),
        labels_M=labels_M.astype(np.int64),
    )


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
        scaled_ND, inverse_lengths_N = _scaled(features_ND[rows])
        units_ND = torch.from_numpy(scaled_ND * inverse_lengths_N[:, None])
        units_ND = units_ND.to(bank.features_MD.device)
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


def _scaled(
    features_ND: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]:
    """Scale features by powers of two so that squares neither overflow nor vanish.

    Returns:
        The features, float32 or float64 (N, D), and one over their lengths, or 0, (N,).
    """
    dtype = np.float64 if features_ND.dtype == np.float64 else np.float32
    scaled_ND = np.empty(features_ND.shape, dtype=dtype)
    inverse_lengths_N = np.empty(len(features_ND))
    rows_per_block = max(1, _CACHED_FLOATS // max(1, features_ND.shape[1]))
    for start in range(0, len(features_ND), rows_per_block):
        rows = slice(start, start + rows_per_block)
        block = features_ND[rows].astype(dtype)
        exponents = np.frexp(np.abs(block).max(axis=1, initial=0.0))[1]
        # In two steps, as 2^148, which brings float32's least number there, is beyond float32.
        for part in (-exponents // 2, -exponents - -exponents // 2):
            block = block * np.ldexp(np.ones((), dtype=dtype), part)[:, None]
        lengths = np.linalg.norm(block.astype(np.float64), axis=1)
        scaled_ND[rows] = block
        inverse_lengths_N[rows] = np.divide(
            1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0
        )
    return scaled_ND, inverse_lengths_N


def _proposed(
    bank: Bank, units_ND: torch.Tensor, num_neighbours: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the best keys among candidates of float32, (N, T), and the rows they may be wrong in."""
    num_candidates = min(len(bank), num_neighbours + max(_SPARE_CANDIDATES, num_neighbours // 4))
    values_NC: torch.Tensor | None = None
    places_NC: torch.Tensor | None = None
    coarse_ND = units_ND.float()
    for rows in _blocks(bank):
        block_MD = bank.features_MD[rows].float()
        similarities = torch.nn.functional.linear(coarse_ND, block_MD)
        similarities *= bank.inverse_lengths_M[rows].float()
        best = similarities.topk(min(num_candidates, len(block_MD)), dim=1, sorted=False)
        values, places = best.values, best.indices + rows.start
        if values_NC is not None and places_NC is not None:
            values = torch.cat([values_NC, values], dim=1)
            places = torch.cat([places_NC, places], dim=1)
            best = values.topk(min(num_candidates, values.shape[1]), dim=1, sorted=False)
            values, places = best.values, places.gather(1, best.indices)
        values_NC, places_NC = values, places
    assert values_NC is not None and places_NC is not None, "a bank has examples"
    values_NC, order_NC = values_NC.double().sort(dim=1, descending=True)
    error = _float32_error(units_ND.shape[1]) + 2.0**-_GRID_BITS
    # Whoever is further off than the last in sight by two errors has so many before it.
    within_N = (values_NC >= values_NC[:, num_neighbours - 1, None] - 2 * error).sum(dim=1)
    keys = _best_of_candidates(
        bank, units_ND, places_NC.gather(1, order_NC), within_N, num_neighbours=num_neighbours
    )
    if num_candidates == len(bank):
        return keys, torch.empty(0, dtype=torch.int64, device=keys.device)
    # What was not proposed is at most as similar as the last candidate, by float32's measure.
    worst_N = (keys[:, -1] >> _PLACE_BITS).double() / 2.0**_GRID_BITS
    return keys, (worst_N <= values_NC[:, -1] + error).nonzero()[:, 0]


def _measured_all(bank: Bank, units_ND: torch.Tensor, num_neighbours: int) -> torch.Tensor:
    """Give the best keys of all, measured in float64: (N, T)."""
    best_NT: torch.Tensor | None = None
    for rows in _blocks(bank):
        products = torch.nn.functional.linear(units_ND, bank.features_MD[rows].double())
        places = torch.arange(rows.start, rows.stop, device=products.device)
        keys = _keys(products * bank.inverse_lengths_M[rows], places)
        if best_NT is not None:
            keys = torch.cat([best_NT, keys], dim=1)
        best_NT = keys.topk(min(num_neighbours, keys.shape[1]), dim=1).values
    assert best_NT is not None, "a bank has examples"
    return best_NT


def _best_of_candidates(
    bank: Bank,
    units_ND: torch.Tensor,
    places_NC: torch.Tensor,
    within_N: torch.Tensor,
    *,
    num_neighbours: int,
) -> torch.Tensor:
    """Measure the first so many candidates of each query in float64: the best keys (N, T)."""
    num_floats = _BLOCK_FLOATS if units_ND.is_cuda else _CACHED_FLOATS
    width = units_ND.shape[1]
    rows_per_block = max(1, num_floats // (places_NC.shape[1] * width))
    best = []
    for queries_ND, places, within in zip(
        torch.split(units_ND, rows_per_block),
        torch.split(places_NC, rows_per_block),
        torch.split(within_N, rows_per_block),
        strict=True,
    ):
        places = places[:, : int(within.max())]
        candidates = bank.features_MD.index_select(0, places.ravel()).double()
        candidates_NCD = candidates.view(*places.shape, width)
        products = torch.bmm(candidates_NCD, queries_ND[:, :, None])[:, :, 0]
        keys = _keys(products * bank.inverse_lengths_M[places], places)
        best.append(keys.topk(num_neighbours, dim=1).values)
    return torch.cat(best)


def _keys(similarities: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Make one int64 of a similarity and a place: larger is nearer, and of equals the first."""
    on_grid = (similarities * 2.0**_GRID_BITS).round().long()
    keys: torch.Tensor = (on_grid << _PLACE_BITS) + ((2**_PLACE_BITS - 1) - places)
    return keys


def _blocks(bank: Bank) -> Iterator[slice]:
    """Cut a bank so that a block of queries has a block of similarities with it."""
    rows_per_block = _BLOCK_FLOATS // _QUERIES_PER_BLOCK
    for start in range(0, len(bank), rows_per_block):
        yield slice(start, min(start + rows_per_block, len(bank)))


def _float32_error(width: int) -> float:
    """Bound how far a similarity is off, as float32 sums it in whatever order.

    It is n x u / (1 - n x u) for the rounding u (Higham, Accuracy and Stability, 3.5), because the
    magnitudes of the terms sum to 1 at most (Cauchy and Schwarz). Each term has width roundings of
    the sum and 4 more: of query and example to float32, of the inverse length, and of what it is
    multiplied into.
    """
    highest = torch.get_float32_matmul_precision() == "highest"
    # TF32 and bfloat16 keep 10 and 7 bits of each factor.
    rounding = 2.0**-24 if highest else 2.0**-7
    share = (width + 4) * rounding
    return 1.001 * share / (1 - share) if share < 0.5 else 2.0
