"""L-BFGS for many problems side by side, each stopped by a proven bound of what is left to gain.

One pass over the examples serves every problem that is still going (`rsbench.probes._objective`).
Each has its own steps and memory (Nocedal & Wright 2006, algorithm 7.4), begun from a metric that
knows the spread of the features along their axes, e_p, and how the scores of classes move together,
A = mean of diag(p) - p p^T: the Hessian is taken for A (x) diag(e) + strength, which is diagonal in
the axes of A. A step that does not go down far enough is halved; only such problems are evaluated
again.

The metric takes all examples for alike. Where weak strengths tell them apart and few still count,
while features are as many as examples, ten remembered steps do not make up for that: a problem that
takes long goes on by Newton's steps (`rsbench.probes._conjugate`), each of them an iteration.

**The bound.** The mean loss has a convex conjugate, so that any probabilities p' with the classes'
true frequencies bound the least objective from below (Fenchel). Those of the iterate itself are
taken, mixed with a share s of constant ones that mends what their frequencies lack. With G the
gradient of the mean loss by the weights, g = G + strength W that of the objective, h that of the
biases, E the mean entropy of p and Q the mean of p x input::

    f - f* <= |g|^2 / (2 strength) + s E + <b, h> + (s^2 |Q|^2 - 2 s <G, Q>) / (2 strength)

where E = loss - <W, G> - <b, h>. It holds wherever the iterate came from, up to the rounding of
these sums. For h = 0 it is |g|^2 / (2 strength), and s grows with h; so before a problem is left,
Newton's steps by the biases alone make h as small as rounding lets it be.

Shape letters: B problems, R rows of a problem, P parameters of a row, the last of them its bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rsbench.probes import _conjugate
from rsbench.probes._objective import Objective, Values

_MEMORY = 10
"""Steps remembered. 20 and 40 took as many passes (within 2 %) where it was measured."""

_SUFFICIENT = 1e-4
"""Share of the promised decrease that a step must bring (Nocedal & Wright 2006, section 3.1)."""

_HALVINGS = 20
_REFRESH = 4
"""Iterations for which the metric's curvature is kept; the first few get a new one each."""

_NEAR = 0.8
"""Share of the tolerance within which the gap must seem to be before biases are settled."""

_SETTLING = 2
"""Newton's steps by the biases. Each squares what is left: 1e-4 leaves 1e-16 after two."""

_FORCING = 0.1
"""Share of the gap, and of the tolerance, that a step of Newton's may leave."""

_MOST_PRODUCTS = 2000
"""In a step of Newton's."""

_LARGEST_RESIDUALS = 1 << 27
"""Bytes of residuals that are kept for Newton's steps of several problems; those of one are kept
however large they are."""

_PATIENCE = 30
"""Iterations within which the bound must halve once the objective's digits are used up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problems:
    """What tells problems apart."""

    strengths_B: Tensor
    """Float64, beside the mean loss."""
    labels_B: Tensor
    """Which labels each is fitted to, where each class is fitted alone; else 0."""

    def __len__(self) -> int:
        return len(self.strengths_B)

    def at(self, places: Tensor) -> Problems:
        """Give some of them."""
        return Problems(strengths_B=self.strengths_B[places], labels_B=self.labels_B[places])


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Where problems were left."""

    parameters_BRP: Tensor
    """Float64."""
    gaps_B: Tensor
    """Proven bounds of (f - f*) / f*, float64."""
    gradient_norms_B: Tensor
    """Of the objective divided by N, along the solver's axes, float64."""
    num_iterations_B: Tensor

    def at(self, span: slice) -> Found:
        """Give some of them."""
        return Found(**{name: getattr(self, name)[span] for name in self.__slots__})

    def after(self, earlier: Found) -> Found:
        """Count the iterations that led here, too."""
        return replace(self, num_iterations_B=self.num_iterations_B + earlier.num_iterations_B)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Give all of several."""
        names = cls.__slots__
        return cls(**{name: torch.cat([getattr(each, name) for each in parts]) for name in names})


class _State(NamedTuple):
    """Everything that goes when a problem goes; each field's first dimension is B."""

    places: Tensor
    strengths: Tensor
    labels: Tensor
    budgets: Tensor
    num_iterations: Tensor
    parameters: Tensor
    objectives: Tensor
    """Float64."""
    losses: Tensor
    gradient: Tensor
    axes: Tensor
    """(B, R, R): the classes' axes in columns; (B, 0, 0) where the metric is along the rows."""
    metric: Tensor
    """(B, R, P) along them."""
    best_gaps: Tensor
    since_best: Tensor
    near: Tensor
    """Estimated gap at which the biases are settled."""
    promised: Tensor
    """What the last step should have brought the objective, were it straight."""
    restarted: Tensor
    """Whether the last step went nowhere, so that its memory is not to be used."""
    stuck: Tensor


class _Step(NamedTuple):
    """A remembered step."""

    move: Tensor
    change: Tensor
    """Of the gradient."""
    scale: Tensor
    """1 / <move, change>, or 0 where the step is not to be used."""


def descend(
    objective: Objective,
    problems: Problems,
    starts_BRP: Tensor,
    *,
    tolerance: float,
    budgets_B: Tensor,
    prove: bool,
    settle_first: bool = False,
    newton_from_B: Tensor | None = None,
) -> Found:
    """Lower every problem until its gap is small, its iterations are used up, or rounding rules.

    Args:
        objective: In float32 or float64; all is done in its precision.
        problems: What to solve.
        starts_BRP: Where to begin.
        tolerance: The relative gap to stop at.
        budgets_B: Iterations each may take.
        prove: Whether a problem is left at a proven gap, rather than at an estimate of it.
        settle_first: Whether the starts are near enough for their biases to be settled.
        newton_from_B: Iterations after which each goes on by Newton's steps; None leaves it at
            L-BFGS.
    """
    found = _nowhere(starts_BRP)
    starts = starts_BRP.to(objective.dtype)
    if settle_first:
        starts = _settled(objective, starts, problems.labels_B)
    state = _begin(objective, problems, starts, budgets_B, near=_NEAR * tolerance)
    memory: list[_Step] = []
    for iteration in range(int(budgets_B.max()) + 1):
        gaps_B = _estimated_gaps(state)
        halved = gaps_B < state.best_gaps / 2
        state = state._replace(
            best_gaps=torch.where(halved, gaps_B, state.best_gaps),
            since_best=torch.where(halved, 0, state.since_best + 1),
        )
        # Beyond the digits of the objective only the gradient can tell of progress.
        blind = state.promised <= _digits(objective) * state.objectives
        spent = (blind & (state.since_best > _PATIENCE)) | state.stuck
        spent |= state.num_iterations >= state.budgets
        if prove:
            state, gaps_B = _proven(objective, state, gaps_B, spent, tolerance=tolerance)
        done = (gaps_B <= tolerance) | spent
        if done.any():
            _put(found, state, gaps_B, done)
            going = ~done
            if not going.any():
                break
            state = _State(*(field[going] for field in state))
            memory = [_Step(*(field[going] for field in step)) for step in memory]
        direction = _direction(state, memory)
        slow = torch.zeros_like(state.stuck)
        if newton_from_B is not None:
            # A step that went nowhere is not to be made again.
            slow = (state.num_iterations >= newton_from_B[state.places]) & ~state.restarted
        if slow.any():
            some = _State(*(field[slow] for field in state))
            direction[slow] = _newton_direction(objective, some, tolerance=tolerance)
        promised_B = _dot(direction, state.gradient)
        refresh = iteration < _REFRESH or iteration % _REFRESH == 0 or bool(slow.any())
        state, step = _advance(objective, state, direction, promised_B, refresh=refresh)
        # A memory that promised what did not come is not used again: its steps count for nothing.
        kept = (~state.restarted).to(step.scale.dtype)
        memory = [each._replace(scale=each.scale * kept) for each in [*memory[1 - _MEMORY :], step]]
    return found


def _nowhere(starts_BRP: Tensor) -> Found:
    count = len(starts_BRP)
    unknown = torch.full((count,), _NOTHING_PROVEN, dtype=torch.float64, device=starts_BRP.device)
    return Found(
        parameters_BRP=starts_BRP.double().clone(),
        gaps_B=unknown,
        gradient_norms_B=unknown.clone(),
        num_iterations_B=torch.zeros(count, dtype=torch.long, device=starts_BRP.device),
    )


def _put(found: Found, state: _State, gaps_B: Tensor, done_B: Tensor) -> None:
    places = state.places[done_B]
    found.parameters_BRP[places] = state.parameters[done_B].double()
    found.gaps_B[places] = gaps_B[done_B]
    found.gradient_norms_B[places] = _squares(state.gradient[done_B].double()).sqrt()
    found.num_iterations_B[places] = state.num_iterations[done_B]


def _estimated_gaps(state: _State) -> Tensor:
    """Give what the bound would be near by, were the biases settled."""
    return _relative(_gaps_of(state, state.gradient), state)


def _gaps_of(state: _State, gradient: Tensor) -> Tensor:
    """Give the same, were the gradient another and the objective not divided by."""
    bias = gradient[..., -1:]
    if state.axes.numel():
        bias = state.axes.transpose(1, 2) @ bias
    by_bias = (bias[..., 0] ** 2 / state.metric[..., -1]).sum(1).double() / 2
    return _squares(gradient[..., :-1]) / (2 * state.strengths) + by_bias


def _proven(
    objective: Objective, state: _State, seeming_B: Tensor, spent_B: Tensor, *, tolerance: float
) -> tuple[_State, Tensor]:
    """Bound the gaps, and settle the biases where that is what a bound waits for."""
    gaps_B = relative_gaps(objective, state)
    waiting = (gaps_B > tolerance) & ((seeming_B <= state.near) | spent_B)
    if not waiting.any():
        return state, gaps_B
    some = _State(*(field[waiting] for field in state))
    parameters = _settled(objective, some.parameters, some.labels)
    values = _values(objective, some, parameters, with_curvature=False)
    some = some._replace(
        parameters=parameters,
        objectives=_objectives(values, parameters, some.strengths),
        losses=values.losses_B,
        gradient=values.gradient_BRP,
        # If that was not it, not before the gap is a good deal smaller.
        near=seeming_B[waiting] / 4,
    )
    places = waiting.nonzero()[:, 0]
    state = _State(
        *(field.index_copy(0, places, new) for field, new in zip(state, some, strict=True))
    )
    return state, gaps_B.index_copy(0, places, relative_gaps(objective, some))


def _settled(objective: Objective, parameters_BRP: Tensor, labels_B: Tensor) -> Tensor:
    """Move the biases to where their gradient is 0, or nearly, the weights being what they are."""
    parameters = parameters_BRP.clone()
    for _ in range(_SETTLING):
        first, second = objective.by_bias(parameters, labels_B)
        if objective.loss.rows_are_relative:
            # Along (1, ..., 1) there is neither slope nor curvature; any number keeps it from 0/0.
            second = second + second.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        move = torch.linalg.solve_ex(second, first[..., None])[0][..., 0]
        # Where scores saturate there is no telling how far to go.
        parameters[..., -1] -= move.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    return parameters


def relative_gaps(objective: Objective, state: _State) -> Tensor:
    """Bound (f - f*) / f* for each problem, float64: the formula at the top, over f less it."""
    gradient, parameters = state.gradient, state.parameters
    strengths = state.strengths.to(gradient.dtype)
    weights, bias = parameters[..., :-1], parameters[..., -1]
    by_bias = gradient[..., -1]
    loss_gradient = gradient[..., :-1] - strengths[:, None, None] * weights
    targets = objective.target_sums[state.labels]
    inputs = loss_gradient + targets[..., :-1]
    frequencies = targets[..., -1]
    if objective.loss.rows_are_relative:
        # Only differences of biases matter, as their gradient sums to 0: take the small numbers.
        bias = bias - bias.mean(1, keepdim=True)
    mixed = _share(by_bias, frequencies, both_ways=not objective.loss.rows_are_relative)
    along_bias = (bias * by_bias).sum(1).double()
    entropy = state.losses - (weights * loss_gradient).sum((1, 2)).double() - along_bias
    mended = mixed * (mixed * _squares(inputs) - 2 * (loss_gradient * inputs).sum((1, 2)).double())
    gap = (_squares(gradient[..., :-1]) + mended) / (2 * state.strengths)
    gap = gap + mixed * entropy + along_bias
    # It can't be below 0 but by rounding; a share above 1 proves nothing.
    return _relative(torch.where(mixed <= 1, gap.clamp_min(0), torch.nan), state)


def _relative(gap_B: Tensor, state: _State) -> Tensor:
    """Divide a gap by the least that the objective may be."""
    relative = gap_B / (state.objectives - gap_B)
    return torch.where(relative >= 0, relative, _NOTHING_PROVEN).clamp_max(_NOTHING_PROVEN)


_NOTHING_PROVEN = 1e150
"""Stands for infinity where records want numbers."""


def _share(by_bias_BR: Tensor, frequencies_BR: Tensor, *, both_ways: bool) -> Tensor:
    """Say how much of constant probabilities must be mixed in to mend the classes' frequencies."""
    predicted = (frequencies_BR + by_bias_BR).double()
    surplus = by_bias_BR.double()
    tiny = torch.finfo(torch.float64).tiny
    share = (surplus / predicted.clamp_min(tiny)).amax(1)
    if both_ways:
        share = torch.maximum(share, (-surplus / (1 - predicted).clamp_min(tiny)).amax(1))
    return share.clamp_min(0)


def _begin(
    objective: Objective, problems: Problems, starts_BRP: Tensor, budgets_B: Tensor, *, near: float
) -> _State:
    count, device = len(problems), starts_BRP.device
    zeros = torch.zeros(count, dtype=torch.long, device=device)
    state = _State(
        places=torch.arange(count, device=device),
        strengths=problems.strengths_B,
        labels=problems.labels_B,
        budgets=budgets_B,
        num_iterations=zeros,
        parameters=starts_BRP,
        objectives=zeros.double(),
        losses=zeros.double(),
        gradient=starts_BRP,
        axes=starts_BRP.new_empty(count, 0, 0),
        metric=torch.ones_like(starts_BRP),
        best_gaps=torch.full((count,), torch.inf, dtype=torch.float64, device=device),
        since_best=zeros,
        near=torch.full((count,), near, dtype=torch.float64, device=device),
        promised=torch.full((count,), torch.inf, dtype=torch.float64, device=device),
        restarted=zeros.bool(),
        stuck=zeros.bool(),
    )
    values = _values(objective, state, starts_BRP, with_curvature=True)
    state = state._replace(
        objectives=_objectives(values, starts_BRP, state.strengths),
        losses=values.losses_B,
        gradient=values.gradient_BRP,
    )
    return _with_metric(objective, state, values)


def _values(
    objective: Objective, state: _State, parameters: Tensor, *, with_curvature: bool
) -> Values:
    strengths = state.strengths.to(objective.dtype)
    return objective.evaluate(parameters, strengths, state.labels, with_curvature=with_curvature)


def _objectives(values: Values, parameters_BRP: Tensor, strengths_B: Tensor) -> Tensor:
    return values.losses_B + strengths_B / 2 * _squares(parameters_BRP[..., :-1])


def _with_metric(objective: Objective, state: _State, values: Values) -> _State:
    """Take a new metric of the second derivatives, if there are some."""
    curvature = values.curvature_BRR
    if curvature is None:
        return state
    relative = objective.loss.rows_are_relative
    if curvature.dim() == 3:
        if relative:
            # What is added makes (1, ..., 1) the last axis: all others have less than 1.
            curvature = _centred(curvature.double()) + 1 / curvature.shape[1]
        along, axes = torch.linalg.eigh(curvature.double())
        if relative:
            along[:, -1] = 0.0
        state = state._replace(axes=axes.to(objective.dtype))
    else:
        along = curvature.double()
    along = along.clamp_min(torch.finfo(torch.float32).tiny)
    strengths = state.strengths[:, None, None]
    metric = along[:, :, None] * objective.moments_P.double() + strengths
    metric[..., -1] = along
    if relative and curvature.dim() == 3:
        # Along the last axis all scores move alike, and no bias need move.
        metric[:, -1, -1] = torch.inf
    return state._replace(metric=metric.to(objective.dtype))


def _with_safe_metric(objective: Objective, state: _State) -> _State:
    """Where a step went nowhere, take a metric that no Hessian exceeds.

    Second derivatives by the scores are 1/2 at most (Boehning 1992, Ann. Inst. Statist. Math. 44),
    and features are centred, so that the bound is diagonal. But for rounding, its step goes down.
    """
    bound_B1P = objective.moments_P.double() / 2 + 0 * state.strengths[:, None, None]
    bound_B1P[..., :-1] += state.strengths[:, None, None]
    where = state.restarted[:, None, None]
    return state._replace(metric=torch.where(where, bound_B1P.to(objective.dtype), state.metric))


def _centred(matrices_BRR: Tensor) -> Tensor:
    """Take the mean off their rows and columns."""
    columns = matrices_BRR - matrices_BRR.mean(1, keepdim=True)
    return columns - columns.mean(2, keepdim=True)


def _direction(state: _State, memory: list[_Step]) -> Tensor:
    """Give the step down, to be subtracted: L-BFGS's two loops around the metric."""
    down = state.gradient
    shares: list[Tensor] = []
    for step in reversed(memory):
        share = step.scale * _inner(step.move, down)
        shares.append(share)
        down = down - share[:, None, None] * step.change
    down = _unmeasured(state, down)
    if memory:
        last = memory[-1]
        measured = _inner(last.change, _unmeasured(state, last.change))
        ratio = 1 / (last.scale * measured)
        usable = (last.scale > 0) & (measured > 0) & ratio.isfinite()
        down = down * torch.where(usable, ratio, 1.0)[:, None, None]
    for step, share in zip(memory, reversed(shares), strict=True):
        correction = share - step.scale * _inner(step.change, down)
        down = down + correction[:, None, None] * step.move
    return down


@dataclass(frozen=True, kw_only=True, slots=True)
class _Equations:
    """Newton's equations where problems are; see `rsbench.probes._conjugate`."""

    objective: Objective
    state: _State
    residuals_BRN: Tensor

    def times(self, moves_BRP: Tensor) -> Tensor:
        strengths = self.state.strengths.to(moves_BRP)
        return self.objective.bent(moves_BRP, strengths, self.residuals_BRN)

    def measured(self, residuals_BRP: Tensor) -> Tensor:
        return _unmeasured(self.state, residuals_BRP)

    def left(self, residuals_BRP: Tensor) -> Tensor:
        return _gaps_of(self.state, residuals_BRP)

    def at(self, going_B: Tensor) -> _Equations:
        return _Equations(
            objective=self.objective,
            state=_State(*(field[going_B] for field in self.state)),
            residuals_BRN=self.residuals_BRN[going_B],
        )


def _newton_direction(objective: Objective, state: _State, *, tolerance: float) -> Tensor:
    """Give Newton's step down, to be subtracted, as exactly as it is of use."""
    parts = []
    kept_bytes = objective.num_examples * state.gradient.shape[1] * state.gradient.itemsize
    most = max(1, _LARGEST_RESIDUALS // kept_bytes)
    places = torch.arange(len(state.places), device=state.places.device)
    for part in torch.split(places, most):
        some = _State(*(field[part] for field in state))
        gaps_B = _gaps_of(some, some.gradient)
        # What is left shrinks faster and faster (Nocedal & Wright 2006, theorem 7.2), but not
        # below what is asked for.
        shrinking = (gaps_B / some.objectives).clamp_max(_FORCING)
        enough_B = torch.maximum(shrinking * gaps_B, _FORCING * tolerance * some.objectives)
        equations = _Equations(
            objective=objective,
            state=some,
            residuals_BRN=objective.residuals(some.parameters, some.labels),
        )
        parts.append(
            _conjugate.solve(
                equations, some.gradient, enough_B=enough_B, most_products=_MOST_PRODUCTS
            )
        )
    return torch.cat(parts)


def _unmeasured(state: _State, gradient: Tensor) -> Tensor:
    """Divide by the metric."""
    if not state.axes.numel():
        return gradient / state.metric
    return state.axes @ ((state.axes.transpose(1, 2) @ gradient) / state.metric)


def _advance(
    objective: Objective,
    state: _State,
    direction: Tensor,
    promised_B: Tensor,
    *,
    refresh: bool,
) -> tuple[_State, _Step]:
    """Step down, and remember the step."""
    parameters = state.parameters - direction
    values = _values(objective, state, parameters, with_curvature=refresh)
    objectives = _objectives(values, parameters, state.strengths)
    lengths = torch.ones_like(promised_B)
    for _ in range(_HALVINGS):
        good = _good(objective, state, direction, promised_B, lengths, objectives, values)
        bad = (~good).nonzero()[:, 0]
        if not len(bad):
            break
        lengths[bad] /= 2
        trial = state.parameters[bad] - lengths[bad, None, None].to(direction) * direction[bad]
        some = _State(*(field[bad] for field in state))
        again = _values(objective, some, trial, with_curvature=refresh)
        parameters[bad] = trial
        objectives[bad] = _objectives(again, trial, some.strengths)
        for all_of_them, new in zip(values, again, strict=True):
            if all_of_them is not None and new is not None:
                all_of_them[bad] = new
    good = _good(objective, state, direction, promised_B, lengths, objectives, values)
    # Where nothing went down the problem stays, and goes on by a safe metric alone; if that was it
    # already, rounding leaves no way down.
    stuck = ~good & state.restarted
    stay = (~good)[:, None, None]
    parameters = torch.where(stay, state.parameters, parameters)
    gradient = torch.where(stay, state.gradient, values.gradient_BRP)
    move, change = parameters - state.parameters, gradient - state.gradient
    product = _inner(move, change)
    usable = product > torch.finfo(product.dtype).tiny
    step = _Step(move, change, torch.where(usable, 1 / product, 0.0))
    state = state._replace(
        parameters=parameters,
        gradient=gradient,
        objectives=torch.where(good, objectives, state.objectives),
        losses=torch.where(good, values.losses_B, state.losses),
        num_iterations=state.num_iterations + 1,
        promised=promised_B,
        restarted=~good,
        stuck=stuck,
    )
    return _with_safe_metric(objective, _with_metric(objective, state, values)), step


def _good(
    objective: Objective,
    state: _State,
    direction: Tensor,
    promised_B: Tensor,
    lengths_B: Tensor,
    objectives_B: Tensor,
    values: Values,
) -> Tensor:
    """Say which steps went down far enough.

    Where the objective's digits are used up, its slope decides, as in Hager & Zhang 2005 (SIAM J.
    Optim. 16(1), their approximate Wolfe condition).
    """
    enough = objectives_B <= state.objectives - _SUFFICIENT * lengths_B * promised_B
    rounding = _digits(objective) * state.objectives
    slopes = _dot(direction, values.gradient_BRP)
    flat = slopes >= -(1 - 2 * _SUFFICIENT) * promised_B
    return enough | ((objectives_B <= state.objectives + rounding) & flat)


def _digits(objective: Objective) -> float:
    """Say how far an objective can be trusted, relative to it: a score of 50 has 50 roundings."""
    return 64 * torch.finfo(objective.dtype).eps


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2))


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return _inner(one, other).double()


def _squares(values_BRP: Tensor) -> Tensor:
    return _inner(values_BRP, values_BRP).double()
