"""The objective of many fits at once: one reading of the features serves them all.

A *problem* is one fit at one strength. Problems differ in their strength and, where each class is
fitted alone, in their labels; the features they share, so that one product with the weights of all
gives every score. Inside, features are centred, divided by one power of two and turned so that
their second moments are a diagonal, and a 1 is put behind them for the bias. None of this moves the
optimum: the bias, which is not penalised, takes up the mean, and |W|^2 does not change as W turns.
Objectives are divided by N::

    mean over n of loss(y_n, W x_n + b) + strength / 2 |W|^2

Scores are compared with that of the right class before anything is exponentiated, so that a loss of
1e-6 has its digits in float32 too: weak strengths tell all examples apart, and nothing but such
losses is left.

Shape letters: N examples, D features, P parameters of a row (its weights, then its bias), B
problems, R rows of a problem, K classes, C examples read at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsbench.errors import RsbenchError

_ENTRIES_AT_A_TIME = 1 << 18
"""Scores made before they are turned into residuals: 1 MiB of float32 stays in a second-level
cache."""

_EXAMPLES_AT_A_TIME = (256, 8192)
"""Least and most of C. Products of fewer columns leave a core idle: at 512 directions and 10 rows
they took as long for 256 columns as for 512."""

_SPREADS = (1e-60, 1e60)
"""Distances from the mean whose squares float64 holds beside any strength: wider than float32's."""

_LARGEST_COPY = 1 << 27
"""Bytes of float64 features that are kept turned. Larger ones are read as they were given, and the
weights are turned instead, which costs B R P^2 products a pass."""

_MOST_ROWS_IN_FULL = 128
"""Classes up to which the metric knows how classes move together; beyond, its K x K matrices would
cost more than the passes they save."""


class Values(NamedTuple):
    """What one pass over the examples gives."""

    losses_B: Tensor
    """Mean losses, float64."""
    gradient_BRP: Tensor
    """Of the objective."""
    curvature_BRR: Tensor | None
    """Mean second derivatives by the scores; (B, R) where only the diagonal is made, with what
    `_in_hiding` adds."""


class Loss(Protocol):
    """What is summed over the examples."""

    num_rows: int
    rows_are_relative: bool
    """Whether adding one number to all biases of a problem changes nothing."""

    def residuals_(self, scores_BRC: Tensor, start: int, labels_B: Tensor) -> Tensor:
        """Turn scores of examples `start`... into probability - truth; give summed losses (B,)."""

    def curvature(self, residuals_BRC: Tensor, start: int, *, full: bool) -> Tensor:
        """Sum second derivatives by the scores over examples: (B, R, R), or its diagonal (B, R)."""

    def bent_(self, moves_BRC: Tensor, residuals_BRC: Tensor, start: int) -> Tensor:
        """Turn moves of scores into what they add to the residuals: second derivatives x moves."""

    def sums(self, inputs_CP: Tensor, start: int) -> Tensor:
        """Sum the inputs of each label's examples: (labels, R, P)."""


class Softmax:
    """One class an example: cross-entropy of the softmax."""

    rows_are_relative = True

    def __init__(self, labels_N: Tensor, *, num_classes: int) -> None:
        self.num_rows = num_classes
        self._labels_N = labels_N

    def residuals_(self, scores_BRC: Tensor, start: int, labels_B: Tensor) -> Tensor:
        """See `Loss`."""
        right_B1C = self._right(scores_BRC, start)
        scores_BRC -= scores_BRC.gather(1, right_B1C)
        largest_B1C = scores_BRC.amax(1, keepdim=True)
        scores_BRC -= largest_B1C
        scores_BRC.exp_()
        own = scores_BRC.gather(1, right_B1C)
        scores_BRC.scatter_(1, right_B1C, 0.0)
        others = scores_BRC.sum(1, keepdim=True)
        # Where the right class is the largest, own is 1 and the loss log1p(others), to its digits.
        losses_B = (largest_B1C + torch.log1p((own - 1) + others)).sum((1, 2))
        total = own + others
        scores_BRC /= total
        scores_BRC.scatter_(1, right_B1C, -others / total)
        return losses_B

    def curvature(self, residuals_BRC: Tensor, start: int, *, full: bool) -> Tensor:
        """See `Loss`."""
        if not full:
            size = residuals_BRC.abs()
            return (size - size * size).sum(2)
        right_B1C = self._right(residuals_BRC, start)
        probabilities = residuals_BRC.scatter(1, right_B1C, 1 + residuals_BRC.gather(1, right_B1C))
        products = -torch.bmm(probabilities, probabilities.transpose(1, 2))
        # Rows sum to 0; the sum of the others has the digits that p - p^2 loses where p is near 1.
        products.diagonal(dim1=1, dim2=2).zero_()
        products.diagonal(dim1=1, dim2=2).copy_(-products.sum(2))
        return products

    def bent_(self, moves_BRC: Tensor, residuals_BRC: Tensor, start: int) -> Tensor:
        """See `Loss`."""
        # Beside the move of the right class, so that where it is nearly sure the digits of the
        # others' small probabilities are kept.
        right_B1C = self._right(moves_BRC, start)
        moves_BRC -= moves_BRC.gather(1, right_B1C)
        mean_B1C = (residuals_BRC * moves_BRC).sum(1, keepdim=True)
        moves_BRC -= mean_B1C
        moves_BRC *= residuals_BRC
        return moves_BRC.scatter_add_(1, right_B1C, -mean_B1C)

    def sums(self, inputs_CP: Tensor, start: int) -> Tensor:
        """See `Loss`."""
        labels = self._labels_N[start : start + len(inputs_CP)]
        shape = (self.num_rows, inputs_CP.shape[1])
        return inputs_CP.new_zeros(shape).index_add_(0, labels, inputs_CP)[None]

    def _right(self, like_BRC: Tensor, start: int) -> Tensor:
        labels_C = self._labels_N[start : start + like_BRC.shape[2]]
        return labels_C.view(1, 1, -1).expand(len(like_BRC), 1, -1)


class Sigmoid:
    """Each class alone: binary cross-entropy; a problem has one row."""

    num_rows = 1
    rows_are_relative = False

    def __init__(self, truth_KN: Tensor) -> None:
        """Take the truth as 0 and 1, floating."""
        self._truth_KN = truth_KN

    def residuals_(self, scores_BRC: Tensor, start: int, labels_B: Tensor) -> Tensor:
        """See `Loss`."""
        stop = start + scores_BRC.shape[2]
        truth = self._truth_KN[labels_B, start:stop].to(scores_BRC.dtype)[:, None]
        signs = 2 * truth - 1
        scores_BRC *= -signs
        # Above 40 the sum 1 + exp(-z) is 1, in float64 too.
        losses_B = torch.nn.functional.softplus(scores_BRC, threshold=40).sum((1, 2))
        scores_BRC.sigmoid_()
        scores_BRC *= -signs
        return losses_B

    def curvature(self, residuals_BRC: Tensor, start: int, *, full: bool) -> Tensor:
        """See `Loss`."""
        size = residuals_BRC.abs()
        sums = (size - size * size).sum(2)
        return sums[:, :, None] if full else sums

    def bent_(self, moves_BRC: Tensor, residuals_BRC: Tensor, start: int) -> Tensor:
        """See `Loss`."""
        size = residuals_BRC.abs()
        moves_BRC *= size - size * size
        return moves_BRC

    def sums(self, inputs_CP: Tensor, start: int) -> Tensor:
        """See `Loss`."""
        truth = self._truth_KN[:, start : start + len(inputs_CP)].to(inputs_CP.dtype)
        return (truth @ inputs_CP)[:, None]


def _in_hiding(residuals_BRC: Tensor) -> Tensor:
    """Sum what r - r^2 lacks of r / 4 over examples, (B, R), r being the size of a residual.

    Where an example is surely wrong, r is near 1 and there is no second derivative, but a slope;
    divided by next to nothing it makes steps that no halving mends. With this a bias moves by 4 at
    most. A chord of the loss tells the same (Jaakkola & Jordan 2000, Statistics and Computing 10):
    its curvature falls with the score's size, not with its exponential. Below 3/4 it is 0.

    Only a metric of the diagonal needs it: where classes' axes are known such fits converged
    without, and weak strengths, where few examples count, took fewer iterations.
    """
    size = residuals_BRC.abs()
    return ((size - 0.75).clamp_min_(0) * size).sum(2)


class Inputs:
    """Features as the solver sees them, in one precision."""

    def __init__(
        self, *, turned_NP: Tensor | None, given_ND: Tensor, frame: Frame, dtype: torch.dtype
    ) -> None:
        self._turned_NP = turned_NP
        self._given_ND = given_ND
        self._frame = frame
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self._given_ND)

    def read(self, num_columns: int) -> Iterator[tuple[int, Tensor]]:
        """Give the examples in spans, (first, (C, P')), that suit products of so many columns."""
        least, most = _EXAMPLES_AT_A_TIME
        length = min(max(_ENTRIES_AT_A_TIME // num_columns, least), most)
        for start in range(0, len(self), length):
            if self._turned_NP is not None:
                yield start, self._turned_NP[start : start + length]
            else:
                yield start, self._frame.centred(self._given_ND[start : start + length], self.dtype)

    def outward(self, parameters_MP: Tensor) -> Tensor:
        """Turn parameters to where `read` gives the features."""
        if self._turned_NP is not None:
            return parameters_MP
        weights = parameters_MP[:, :-1] @ self._frame.turn_DP.T
        return torch.cat([weights, parameters_MP[:, -1:]], dim=1)

    def inward(self, gradient_MP: Tensor) -> Tensor:
        """Turn a gradient back."""
        if self._turned_NP is not None:
            return gradient_MP
        weights = gradient_MP[:, :-1] @ self._frame.turn_DP
        return torch.cat([weights, gradient_MP[:, -1:]], dim=1)


class Frame:
    """Where features are looked at from: their mean, one scale, and the axes of their spread."""

    def __init__(self, *, mean_D: Tensor, scale: float, turn_DP: Tensor, moments_P: Tensor) -> None:
        self.mean_D = mean_D
        self.scale = scale
        """A power of two, near the largest entry, so that squares neither overflow nor vanish."""
        self.turn_DP = turn_DP
        """Orthonormal columns, float64."""
        self.moments_P = moments_P
        """Mean square along each axis, and 1 for the bias, float64."""

    def centred(self, features_CD: Tensor, dtype: torch.dtype) -> Tensor:
        """Give centred, scaled features with a 1 behind them."""
        features = (features_CD.double() - self.mean_D) / self.scale
        return torch.nn.functional.pad(features, (0, 1), value=1.0).to(dtype)

    def turned(self, features_ND: Tensor, dtype: torch.dtype) -> Tensor:
        """Give all of them along the axes, in a precision."""
        turn = self.turn_DP.to(dtype)
        turned = torch.empty(len(features_ND), turn.shape[1] + 1, dtype=dtype, device=turn.device)
        for start in range(0, len(features_ND), _EXAMPLES_AT_A_TIME[1]):
            span = slice(start, start + _EXAMPLES_AT_A_TIME[1])
            turned[span, :-1] = self.centred(features_ND[span], dtype)[:, :-1] @ turn
        turned[:, -1] = 1.0
        return turned

    def to_features(self, parameters_RP: Tensor) -> tuple[Tensor, Tensor]:
        """Give weights (R, D) and biases (R,) for the features as they were given."""
        weights = parameters_RP[:, :-1] @ self.turn_DP.T / self.scale
        return weights, parameters_RP[:, -1] - weights @ self.mean_D

    def from_features(self, weights_RD: Tensor, bias_R: Tensor) -> Tensor:
        """Give parameters of such weights and biases; what lies across the examples is dropped."""
        bias = bias_R + weights_RD @ self.mean_D
        return torch.cat([weights_RD @ self.turn_DP * self.scale, bias[:, None]], dim=1)


def look(features_ND: npt.NDArray[np.floating], *, device: str) -> tuple[Frame, Tensor]:
    """Measure the frame of some features, (N, D) and finite; give them too, on the device.

    Raises:
        RsbenchError: The largest distance of an entry from its mean is out of range.
    """
    if not features_ND.flags.writeable:
        # PyTorch has no read-only arrays, and warns where it is lent one.
        features_ND = features_ND.copy()
    features = torch.from_numpy(features_ND).to(device)
    num_examples, width = features.shape
    mean_D = features.mean(0, dtype=torch.float64)
    spans = [slice(i, i + _EXAMPLES_AT_A_TIME[1]) for i in range(0, num_examples, 8192)]
    largest = max(float((features[span].double() - mean_D).abs().max()) for span in spans)
    least, most = _SPREADS
    if largest > 0 and not least <= largest <= most:
        raise RsbenchError(
            f"Features must be at most {least:g} to {most:g} away from their mean; the farthest is"
            f" {largest:g} away: scale them, or standardise them."
        )
    scale = float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0
    unturned = Frame(mean_D=mean_D, scale=scale, turn_DP=mean_D, moments_P=mean_D)
    if num_examples < width:
        # The optimum lies in the span of the examples: solve in its coordinates.
        everything = unturned.centred(features, torch.float64)[:, :-1]
        basis_DP, coordinates = torch.linalg.qr(everything.T)
        second = coordinates @ coordinates.T / num_examples
    else:
        dtype = torch.float64 if features.numel() * 8 <= _LARGEST_COPY else torch.float32
        second = torch.zeros(width, width, dtype=torch.float64, device=device)
        for span in spans:
            part = unturned.centred(features[span], dtype)[:, :-1]
            second += part.T @ part
        second /= num_examples
        basis_DP = None
    moments, axes = torch.linalg.eigh(second)
    turn_DP = axes if basis_DP is None else basis_DP @ axes
    moments_P = torch.nn.functional.pad(moments.clamp_min(0), (0, 1), value=1.0)
    return Frame(mean_D=mean_D, scale=scale, turn_DP=turn_DP, moments_P=moments_P), features


def exact_inputs(frame: Frame, features_ND: Tensor) -> Inputs:
    """Give the features in float64, turned beforehand where that is not too large."""
    width = frame.turn_DP.shape[1]
    small = len(features_ND) * width * 8 <= _LARGEST_COPY
    turned = frame.turned(features_ND, torch.float64) if small else None
    return Inputs(turned_NP=turned, given_ND=features_ND, frame=frame, dtype=torch.float64)


def coarse_inputs(frame: Frame, features_ND: Tensor) -> Inputs:
    """Give the features in float32."""
    turned = frame.turned(features_ND, torch.float32)
    return Inputs(turned_NP=turned, given_ND=features_ND, frame=frame, dtype=torch.float32)


class Objective:
    """Features and labels in one precision."""

    def __init__(self, inputs: Inputs, loss: Loss, frame: Frame) -> None:
        self._inputs = inputs
        self.loss = loss
        self.dtype = inputs.dtype
        self.num_examples = len(inputs)
        self.moments_P = frame.moments_P.to(inputs.dtype)
        sums = None
        for start, inputs_CP in inputs.read(1):
            part = loss.sums(inputs_CP, start).double()
            sums = part if sums is None else sums + part
        assert sums is not None, "there are examples"
        turned = torch.stack([inputs.inward(each) for each in sums.to(self.dtype)])
        self.target_sums: Tensor = turned / len(inputs)
        """Mean over the examples of truth x input, (labels, R, P)."""

    def evaluate(
        self,
        parameters_BRP: Tensor,
        strengths_B: Tensor,
        labels_B: Tensor,
        *,
        with_curvature: bool,
    ) -> Values:
        """Pass over the examples once.

        Args:
            parameters_BRP: In this objective's precision.
            strengths_B: Of each problem, in the same precision.
            labels_B: Which labels a problem has, where each class is fitted alone.
            with_curvature: Whether second derivatives are wanted.
        """
        num_problems, num_rows, num_parameters = parameters_BRP.shape
        columns = num_problems * num_rows
        outward = self._inputs.outward(parameters_BRP.reshape(columns, num_parameters))
        gradient = torch.zeros_like(outward)
        losses_B = torch.zeros(num_problems, dtype=torch.float64, device=outward.device)
        curvature: Tensor | None = None
        full = 1 < num_rows <= _MOST_ROWS_IN_FULL
        for start, inputs_CP in self._inputs.read(columns):
            scores = (outward @ inputs_CP.T).view(num_problems, num_rows, -1)
            losses_B += self.loss.residuals_(scores, start, labels_B)
            if with_curvature:
                part = self.loss.curvature(scores, start, full=full)
                if not full:
                    part += _in_hiding(scores)
                curvature = part if curvature is None else curvature + part
            gradient.addmm_(scores.view(columns, -1), inputs_CP)
        num_examples = len(self._inputs)
        gradient_BRP = self._inputs.inward(gradient).view_as(parameters_BRP) / num_examples
        gradient_BRP[..., :-1] += strengths_B[:, None, None] * parameters_BRP[..., :-1]
        return Values(
            losses_B=losses_B / num_examples,
            gradient_BRP=gradient_BRP,
            curvature_BRR=None if curvature is None else curvature / num_examples,
        )

    def by_bias(self, parameters_BRP: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """Give first and second derivatives by the biases alone, (B, R) and (B, R, R): half a pass.

        Args:
            parameters_BRP: In this objective's precision.
            labels_B: As for `evaluate`.
        """
        num_problems, num_rows, num_parameters = parameters_BRP.shape
        columns = num_problems * num_rows
        outward = self._inputs.outward(parameters_BRP.reshape(columns, num_parameters))
        first = outward.new_zeros(num_problems, num_rows)
        second = outward.new_zeros(num_problems, num_rows, num_rows)
        for start, inputs_CP in self._inputs.read(columns):
            scores = (outward @ inputs_CP.T).view(num_problems, num_rows, -1)
            self.loss.residuals_(scores, start, labels_B)
            first += scores.sum(2)
            second += self.loss.curvature(scores, start, full=True)
        return first / len(self._inputs), second / len(self._inputs)

    def residuals(self, parameters_BRP: Tensor, labels_B: Tensor) -> Tensor:
        """Give probability - truth of every example, (B, R, N): half a pass.

        Args:
            parameters_BRP: In this objective's precision.
            labels_B: As for `evaluate`.
        """
        num_problems, num_rows, num_parameters = parameters_BRP.shape
        columns = num_problems * num_rows
        outward = self._inputs.outward(parameters_BRP.reshape(columns, num_parameters))
        residuals = outward.new_empty(num_problems, num_rows, len(self._inputs))
        for start, inputs_CP in self._inputs.read(columns):
            scores = (outward @ inputs_CP.T).view(num_problems, num_rows, -1)
            self.loss.residuals_(scores, start, labels_B)
            residuals[..., start : start + len(inputs_CP)] = scores
        return residuals

    def bent(self, moves_BRP: Tensor, strengths_B: Tensor, residuals_BRN: Tensor) -> Tensor:
        """Multiply the second derivatives by moves of the parameters, (B, R, P): a pass.

        Args:
            moves_BRP: In this objective's precision.
            strengths_B: Of each problem, in the same precision.
            residuals_BRN: Where the derivatives are taken, as `residuals` gives it.
        """
        num_problems, num_rows, num_parameters = moves_BRP.shape
        columns = num_problems * num_rows
        outward = self._inputs.outward(moves_BRP.reshape(columns, num_parameters))
        bent = torch.zeros_like(outward)
        for start, inputs_CP in self._inputs.read(columns):
            moves = (outward @ inputs_CP.T).view(num_problems, num_rows, -1)
            residuals = residuals_BRN[..., start : start + len(inputs_CP)]
            bent.addmm_(self.loss.bent_(moves, residuals, start).view(columns, -1), inputs_CP)
        bent_BRP = self._inputs.inward(bent).view_as(moves_BRP) / len(self._inputs)
        bent_BRP[..., :-1] += strengths_B[:, None, None] * moves_BRP[..., :-1]
        return bent_BRP
