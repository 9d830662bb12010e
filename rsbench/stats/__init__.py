"""Intervals, tests and paired differences, from per-item scores.

Everything is deterministic: resampling takes a seed, and no result depends on the order of items.
Nothing here imports scipy: tables are drawn with it, and start in less time than scipy takes to
import. What would need it has a closed form at the few points that are asked for; tests hold each
to scipy.
"""

from rsbench.stats.intervals import (
    NUM_RESAMPLES,
    Estimate,
    Interval,
    bootstrap_mean,
    centred_percentiles,
    resampled_counts,
    t_interval,
    wilson,
)
from rsbench.stats.paired import (
    PairedDifference,
    detectable_share,
    minimum_detectable,
    paired_difference,
    resampled_difference,
    resampled_p,
)
from rsbench.stats.several import (
    MeanStd,
    difference_with_seeds,
    mean_of,
    mean_std,
    unpaired_difference,
    with_seeds,
)
from rsbench.stats.significance import (
    NUM_FLIPS,
    PValue,
    benjamini_hochberg,
    mcnemar,
    permutation_p,
)

__all__ = [
    "NUM_FLIPS",
    "NUM_RESAMPLES",
    "Estimate",
    "Interval",
    "MeanStd",
    "PValue",
    "PairedDifference",
    "benjamini_hochberg",
    "bootstrap_mean",
    "centred_percentiles",
    "detectable_share",
    "difference_with_seeds",
    "mcnemar",
    "mean_of",
    "mean_std",
    "minimum_detectable",
    "paired_difference",
    "permutation_p",
    "resampled_counts",
    "resampled_difference",
    "resampled_p",
    "t_interval",
    "unpaired_difference",
    "wilson",
    "with_seeds",
]
