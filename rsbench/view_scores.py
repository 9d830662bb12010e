"""Scores of single views as they are kept, and the averages that are made of them.

A run keeps what its classifier said of each view in few bits and works out its own predictions from
what it kept, by `average_views`. So whoever averages the same views later, offline, gets the same
bits; and both are off from the average in full precision by what was rounded.

What is kept of a class is its *score* less the view's *offset*, a float32 beside it:

- one class an item ("softmax"): the score is the log-probability ln p, a float16, and the offset
  that of the view's best class. Halves have 11 significant bits, so that the best class and those
  close to it are kept (nearly) as they were, and no tie arises that was none. A class that lies d
  below the best is off by d / 2^11 at most, its probability by p d / 2^11; p is 1 / (1 + e^d) at
  most, and d / (1 + e^d) is below 0.2785 for all d: a probability is off by less than 1.4e-4
  (`PROBABILITY_ERROR`), that of the best class by less than 1e-6. Log-probabilities rather than
  logits, because these do not say what a head leaves to classes that the task does not have.
  Probabilities themselves would lose everything below 6e-8, and with it the order of the classes
  that a score average looks at.
- any number of classes ("sigmoid"): the score is the log-odds x = ln(p / (1 - p)), the offset 0.
  The logarithm of p alone would lose 1 - p. Average precision ranks all items by one class, where
  no score is near 0 by rule: as halves, those of 4,952 items would be 1,749 different ones, and
  mean average precision would move by 1e-4 to 2e-4 (simulated scores of 20 classes). So they are
  float32, and p is off by p (1 - p) |x| / 2^24, less than 2e-8; the mean, a float32 too, can't tell
  probabilities above 1 - 6e-8 apart.

The mean of log-probabilities over views is the mean of the logits less one number an item, the same
for all classes: both rank alike.

Two runs of one network that differ in the last bits of a float (another batch size) may round a
score to neighbouring halves: a probability then moves by up to 2.8e-4, seldom (one score in about a
thousand), and by that over V in the mean.

Shape letters: N items, V views of an item (clips before crops), K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rsbench.specs import Activation, Halves

Average = Literal["probability", "score"]
"""What is averaged over views: probabilities, or scores (log-probabilities or log-odds)."""

PROBABILITY_ERROR = 1.4e-4
"""How far a probability whose score was kept as a half may be from what it was."""

SCORE_TYPES: Mapping[Activation, type[np.floating]] = {"softmax": np.float16, "sigmoid": np.float32}
"""What a score is kept as. Files older than this table have float16 of both."""


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give log-probabilities along the last axis in float64; a logit of -inf gives -inf."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return exact


def to_halves(scores_NVK: NDArray[np.floating], activation: Activation) -> Halves:
    """Round scores to what is kept of them.

    Args:
        scores_NVK: Log-probabilities or log-odds; -inf is a class that can't be. At least one class
            of each view must be finite for "softmax".
        activation: Which of the two they are.
    """
    exact = scores_NVK.astype(np.float64)
    offsets_NV = np.zeros(exact.shape[:2], dtype=np.float32)
    if activation == "softmax":
        offsets_NV = exact.max(axis=2).astype(np.float32)
        exact -= offsets_NV[:, :, None]
    kept_as = SCORE_TYPES[activation]
    largest = float(np.finfo(kept_as).max)
    clipped = np.where(np.isfinite(exact), np.clip(exact, -largest, largest), exact)
    return Halves(clipped.astype(kept_as), offsets_NV)


def to_probabilities(scores: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    """Give the probabilities of scores of any shape."""
    if activation == "softmax":
        return np.exp(scores)
    # Rows of failed items are NaN, of which logaddexp warns.
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -scores))


def average_views(
    halves: Halves,
    activation: Activation,
    *,
    average: Average,
    views_NM: NDArray[np.integer] | None = None,
) -> NDArray[np.float32]:
    """Average probabilities or scores over views: in float64, one view after the other.

    Args:
        halves: As they are kept; rows of NaN give NaN.
        activation: What makes probabilities of them.
        average: What is averaged.
        views_NM: Which views of each item, in order; None is all.

    Returns:
        float32 (N, K).
    """
    num_items, num_views, num_classes = halves.scores.shape
    if views_NM is None:
        views_NM = np.broadcast_to(np.arange(num_views), (num_items, num_views))
    assert views_NM.shape[1] > 0, "an average is of one view at least"
    items_N = np.arange(num_items)
    sum_NK = np.zeros((num_items, num_classes))
    for view_N in views_NM.T:
        scores_NK = halves.scores[items_N, view_N].astype(np.float64)
        scores_NK += halves.offsets[items_N, view_N, None]
        sum_NK += to_probabilities(scores_NK, activation) if average == "probability" else scores_NK
    mean_NK: NDArray[np.float32] = (sum_NK / views_NM.shape[1]).astype(np.float32)
    return mean_NK
