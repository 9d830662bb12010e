"""Fits over a path of strengths, each begun where those beside it say that it will end.

Solutions move smoothly with the logarithm of the strength. So every few strengths are solved first,
a decade apart, and those between begin from the cubic through their neighbours: 924 passes over the
examples in place of 1,697 on one synthetic set (10,000 x 512, 10 classes, 45 strengths). Where a
fit has many rows, products are efficient for one problem alone, and strengths are taken one after
another, from strong to weak, each begun by extrapolation.

Most work is done in float32. Every fit is looked at in float64 at the end, and taken further there
if its gap is not yet proven to be small (`rsbench.probes._descent`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsbench.errors import RsbenchError
from rsbench.probes._descent import Found, Problems, descend
from rsbench.probes._objective import (
    Frame,
    Loss,
    Objective,
    coarse_inputs,
    exact_inputs,
    look,
)

Array = npt.NDArray[np.float64]

_COLUMNS = 512
"""Rows of weights that share a pass: as many as keep processors busy, as few as keep the remembered
steps small (2,048 features: 84 MB)."""

_MANY_ROWS = 40
"""Rows from which a pass for one problem takes no longer a row than a pass for many: 10,000 x 512
in float32 took 6.5 ms for 10 rows, 13 ms for 40, 27 ms for 110, one thread."""

_REACH = 2.0
"""Decades of strength within which a solution tells something of another."""

_WORTH_FLOAT32 = 4_000_000
"""N x D x K from which float32 is worth a second copy of the features."""

_WORTH_THREADS = 20_000_000
"""N x D x K from which a pass over the data is given more than one thread. A pass below it takes a
few milliseconds, to which a second thread adds nothing but its waiting: 45 strengths of
400 x 64 x 8 took 0.33 s either way on two quiet cores, and 0.65 s of CPU against 0.32 s."""

_SLOW = 600
"""Iterations of L-BFGS after which a fit goes on in float64 by Newton's steps. 10,000 x 512 x 10
with strengths down to 1e-6 beside the sum took 612 at most, and a third more time with 300; of 256
examples of 2,048 features, 8 classes, rank-poor, 45 strengths took as long with 30, 300 and 600."""

_FLOAT64_SLOW = 10
"""The same for what float32 has not ended in so many."""

_CS = (1e-120, 1e120)
"""Values of C whose squares float64 still holds beside those of features."""

_FLOAT32_STRENGTHS = (1e-25, 1e25)
"""Strengths whose squares float32 still holds beside those of weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """One strength's fit, of all its labels."""

    c: float
    weights_KD: Array
    bias_K: Array
    num_iterations: int
    """The most that one of its problems took."""
    relative_gap: float
    """The largest of its problems."""
    gradient_norm: float
    """Of all its problems together, divided by N."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A solution of a fit like the ones wanted, on other examples perhaps."""

    c: float
    weights_KD: Array
    bias_K: Array


def check_path(cs: Sequence[float], *, device: str) -> None:
    """Hold strengths and device to what the solver can do.

    Raises:
        RsbenchError: There are no strengths, one is out of range, or PyTorch can't compute in
            float64 on such a device.
    """
    least, most = _CS
    if not len(cs):
        raise RsbenchError("cs must hold at least one strength; there are none: give one.")
    outside = [c for c in cs if not least <= c <= most]
    if outside:
        raise RsbenchError(
            f"Each C must be from {least:g} to {most:g}; one was {outside[0]:g}: give another."
        )
    try:
        torch.ones(1, dtype=torch.float64, device=device)
    # PyTorch raises each of these: unknown names, absent devices, and those without float64.
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise RsbenchError(
            f"device must be one on which PyTorch computes in float64; it was {device!r}"
            f" ({reason}): use cpu."
        ) from error


def solve_path(
    features_ND: npt.NDArray[np.floating],
    loss: Loss,
    *,
    num_labels: int,
    cs: Sequence[float],
    tolerance: float,
    max_iterations: int,
    device: str,
    start: Start | None,
) -> list[Fit]:
    """Solve at each strength.

    Args:
        features_ND: (N, D), finite.
        loss: Of labels that are on the device.
        num_labels: How many separate problems a strength has.
        cs: Values of C, rising.
        tolerance: The proven relative gap to stop at.
        max_iterations: Of each problem.
        device: Where to compute, as PyTorch names it; it must know float64.
        start: Where to begin.

    Raises:
        RsbenchError: Features are farther from their mean than squares can be taken of.
    """
    num_columns = loss.num_rows * num_labels
    with _threads(1 if features_ND.size * num_columns < _WORTH_THREADS else None):
        frame, features = look(features_ND, device=device)
        path = _Path(frame, features, loss, cs, num_labels=num_labels)
        for places in path.rounds():
            path.solve(places, start, tolerance=tolerance, max_iterations=max_iterations)
        return path.fits()


class _Path:
    """What is known of the fits of a path so far."""

    def __init__(
        self, frame: Frame, features_ND: Tensor, loss: Loss, cs: Sequence[float], *, num_labels: int
    ) -> None:
        self._frame = frame
        self._loss = loss
        self._cs = cs
        self._num_labels = num_labels
        # Twice the same strength is solved twice; a shift of rounding keeps positions apart.
        self._decades = np.log10(cs) + 1e-9 * np.arange(len(cs))
        width = len(frame.moments_P)
        self._found: list[Found | None] = [None] * len(cs)
        self._shape = (num_labels, loss.num_rows, width)
        # W x = (W scale) (x / scale): the penalty of the scaled weights is less by its square.
        of_frame = len(features_ND) * frame.scale**2
        self._strengths = [1 / (c * of_frame) for c in cs]
        self._exact = Objective(exact_inputs(frame, features_ND), loss, frame)
        least, most = _FLOAT32_STRENGTHS
        self._coarse: Objective | None = None
        large = features_ND.numel() * loss.num_rows * num_labels >= _WORTH_FLOAT32
        if large and least < min(self._strengths) and max(self._strengths) < most:
            self._coarse = Objective(coarse_inputs(frame, features_ND), loss, frame)

    def rounds(self) -> Iterator[list[int]]:
        """Say which strengths are solved together, and in which order."""
        rows = self._loss.num_rows
        count = len(self._cs)
        if rows >= _MANY_ROWS:
            yield from ([place] for place in range(count))
            return
        spacing = (self._decades[-1] - self._decades[0]) / max(count - 1, 1)
        stride = 1 if spacing >= 1 else 2 ** round(math.log2(min(1 / max(spacing, 1e-3), count)))
        together = max(1, _COLUMNS // (rows * self._num_labels))
        done: set[int] = set()
        while stride:
            places = sorted({*range(0, count, stride), count - 1} - done)
            for first in range(0, len(places), together):
                yield places[first : first + together]
            done |= set(places)
            stride //= 2

    def solve(
        self, places: Sequence[int], start: Start | None, *, tolerance: float, max_iterations: int
    ) -> None:
        """Solve some strengths, all labels of each."""
        starts = torch.cat([self._begin(place, start) for place in places])
        device = starts.device
        labels = torch.arange(self._num_labels, device=device)
        strengths = torch.tensor(
            [self._strengths[place] for place in places], dtype=torch.float64, device=device
        )
        problems = Problems(
            strengths_B=strengths.repeat_interleave(self._num_labels),
            labels_B=labels.repeat(len(places)),
        )
        most = max(1, _COLUMNS // self._loss.num_rows)
        parts = [
            self._solve(
                problems.at(part), starts[part], tolerance=tolerance, max_iterations=max_iterations
            )
            for part in torch.split(torch.arange(len(problems), device=device), most)
        ]
        found = Found.joined(parts)
        for index, place in enumerate(places):
            first = index * self._num_labels
            self._found[place] = found.at(slice(first, first + self._num_labels))

    def _solve(
        self, problems: Problems, starts: Tensor, *, tolerance: float, max_iterations: int
    ) -> Found:
        budgets = torch.full((len(problems),), max_iterations, device=starts.device)
        if self._coarse is None:
            return descend(
                self._exact,
                problems,
                starts,
                tolerance=tolerance,
                budgets_B=budgets,
                prove=True,
                newton_from_B=torch.full_like(budgets, _SLOW),
            )
        # Half: what float32 takes for less than that, float64 finds less than the whole.
        coarse = descend(
            self._coarse,
            problems,
            starts,
            tolerance=tolerance / 2,
            budgets_B=budgets.clamp_max(_SLOW),
            prove=False,
        )
        exact = descend(
            self._exact,
            problems,
            coarse.parameters_BRP,
            tolerance=tolerance,
            budgets_B=budgets - coarse.num_iterations_B,
            prove=True,
            settle_first=True,
            newton_from_B=(_SLOW - coarse.num_iterations_B).clamp_min(_FLOAT64_SLOW),
        )
        return exact.after(coarse)

    def _begin(self, place: int, start: Start | None) -> Tensor:
        """Foretell a solution, (labels, R, P), of those that are known."""
        here = self._decades[place]
        known = [each for each, found in enumerate(self._found) if found is not None]
        near = sorted(known, key=lambda each: abs(self._decades[each] - here))
        near = [each for each in near if abs(self._decades[each] - here) <= _REACH]
        between = near and self._decades[near].min() < here < self._decades[near].max()
        near = near[: 4 if between else 3]
        if near:
            weights = _through(self._decades[near], here)
            parts = [self._parameters(each) * w for each, w in zip(near, weights, strict=True)]
            return torch.stack(parts).sum(0)
        device = self._frame.moments_P.device
        if start is not None and abs(math.log10(start.c) - here) <= _REACH:
            weights_KD, bias_K = (
                torch.from_numpy(np.array(each)).to(device)
                for each in (start.weights_KD, start.bias_K)
            )
            return self._frame.from_features(weights_KD, bias_K).view(self._shape)
        return torch.zeros(self._shape, dtype=torch.float64, device=device)

    def _parameters(self, place: int) -> Tensor:
        found = self._found[place]
        assert found is not None, "it was solved"
        return found.parameters_BRP

    def fits(self) -> list[Fit]:
        """Give the fits in the terms of the features."""
        fits = []
        for c, found in zip(self._cs, self._found, strict=True):
            assert found is not None, "every strength was solved"
            rows = found.parameters_BRP.reshape(-1, found.parameters_BRP.shape[2])
            weights, bias = self._frame.to_features(rows)
            fits.append(
                Fit(
                    c=c,
                    weights_KD=weights.cpu().numpy(),
                    bias_K=bias.cpu().numpy(),
                    num_iterations=int(found.num_iterations_B.max()),
                    relative_gap=float(found.gaps_B.max()),
                    gradient_norm=float(found.gradient_norms_B.square().sum().sqrt()),
                )
            )
        return fits


def _through(positions: Array, at: float) -> list[float]:
    """Give the weights of the polynomial through values at some positions (Lagrange's)."""
    weights = []
    for each in positions:
        others = positions[positions != each]
        weights.append(float(np.prod((at - others) / (each - others))))
    return weights


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads in here; None leaves it as it is."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
