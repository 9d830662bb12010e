"""Newton's steps by conjugate gradients, for many problems side by side.

The equations H x = g of each are solved as far as is of use, each product with H being one pass
over the examples for all that are not done (Nocedal & Wright 2006, algorithm 7.1; preconditioned,
algorithm 5.3). Whatever the pass at which one is left, its x goes down.

Shape letters: B problems, R rows of a problem, P parameters of a row.
"""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor


class Equations(Protocol):
    """H x = g of several problems, H being symmetric and its products never below 0."""

    def times(self, moves_BRP: Tensor) -> Tensor:
        """Give H x."""
        ...

    def measured(self, residuals_BRP: Tensor) -> Tensor:
        """Give what solves the equations of a metric, which is near H and quickly inverted."""
        ...

    def left(self, residuals_BRP: Tensor) -> Tensor:
        """Say how much a residual g - H x leaves undone, (B,)."""
        ...

    def at(self, going_B: Tensor) -> Self:
        """Give some of the problems."""
        ...


def solve(
    equations: Equations, gradients_BRP: Tensor, *, enough_B: Tensor, most_products: int
) -> Tensor:
    """Give x, (B, R, P).

    Args:
        equations: What to solve.
        gradients_BRP: g.
        enough_B: What may be left undone.
        most_products: After which x is given as it is.
    """
    found = torch.zeros_like(gradients_BRP)
    places = torch.arange(len(found), device=found.device)
    solution, residual = torch.zeros_like(found), gradients_BRP
    measured = equations.measured(residual)
    towards, square_B = measured, _inner(residual, measured)
    for _ in range(most_products):
        product = equations.times(towards)
        length_B = square_B / _inner(towards, product)
        # Nothing is left to divide by where rounding has used up what there was.
        usable_B = length_B.isfinite() & (length_B > 0)
        length = torch.where(usable_B, length_B, 0.0)[:, None, None]
        solution = solution + length * towards
        residual = residual - length * product
        going_B = usable_B & (equations.left(residual) > enough_B)
        if not going_B.all():
            found[places] = solution
            if not going_B.any():
                return found
            equations, enough_B, places = equations.at(going_B), enough_B[going_B], places[going_B]
            solution, residual, towards = (each[going_B] for each in (solution, residual, towards))
            square_B = square_B[going_B]
        measured = equations.measured(residual)
        before_B, square_B = square_B, _inner(residual, measured)
        towards = measured + (square_B / before_B)[:, None, None] * towards
    found[places] = solution
    return found


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2))
