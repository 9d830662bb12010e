"""Networks compared over a whole suite: every column counts alike, every item is flipped whole.

The mean of a pair's differences over the columns is a weighted sum over items. An item that several
columns judge (two protocols on one data set) is one item: its parts are added up before signs are
flipped or items resampled, so that columns which rise and fall together count as such.

Shape letters: N items of a column, C columns, U different items of all columns, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsbench.comparison.compared import Average, AverageRow, Pairwise
from rsbench.comparison.evidence import Evidence
from rsbench.comparison.families import Made, place_of_baseline
from rsbench.comparison.judged import Judged
from rsbench.comparison.pairwise import compare_pair, counts_of, places_of, with_verdicts
from rsbench.comparison.row_names import is_called, labels_of
from rsbench.digests import digest_json
from rsbench.stats import Estimate, mean_of, resampled_counts
from rsbench.suites import Suite
from rsbench.tables.ranking import networks_of
from rsbench.tables.table import Row

_NUM_RESAMPLES = 1_000
"""As of metrics that are computed anew on each resample: their draws are put beside these."""


class _Network(NamedTuple):
    """A network that has one result in every column."""

    rows: tuple[Row, ...]
    """One a column, like the next."""
    places: tuple[int, ...]
    """Of its rows, as the juries of the columns number them."""


class _Units(NamedTuple):
    """The different items of all columns."""

    places: tuple[NDArray[np.int64], ...]
    """Of each column's items among all, (N,)."""
    num: int
    strata: tuple[Hashable, ...]
    """What they are resampled within, (U,)."""


def averages_of(
    made: Sequence[Made], suite: Suite, evidence: Evidence, baseline: str | None
) -> Iterator[Average]:
    """Compare networks over the columns of a suite, those of one `--limit` at a time.

    A metric that is no share of right answers is no column, as in rankings.

    Args:
        made: The families of the suite's tasks and protocols.
        suite: The suite.
        evidence: All runs.
        baseline: Compare all others with this network alone.

    Raises:
        RsbenchError: The baseline's name fits several networks.
    """
    by_limit: dict[object, list[Made]] = {}
    for each in made:
        by_limit.setdefault(each.family.ruler.get("limit"), []).append(each)
    for columns in by_limit.values():
        ordered = sorted(columns, key=lambda each: _place(each, suite))
        counting = [each for each in ordered if each.family.metric.percent]
        if not counting:
            continue
        names = [_name(each) for each in ordered]
        several = list(dict.fromkeys(name for name in names if names.count(name) > 1))
        if several:
            yield _undecided(counting, suite, several)
        else:
            yield _average(counting, suite, evidence, baseline)


def _place(made: Made, suite: Suite) -> tuple[int, int]:
    return suite.tasks.index(made.family.task), suite.protocols.index(made.family.protocol)


def _name(made: Made) -> str:
    return f"{made.family.task} {made.family.protocol}"


def _undecided(columns: Sequence[Made], suite: Suite, several: Sequence[str]) -> Average:
    """Give an average without rows where a task and protocol stand under several rulers."""
    return Average(
        suite=suite.name,
        title=suite.title,
        columns=tuple(_name(each) for each in columns),
        digests=tuple(each.family.digest for each in columns),
        rows=(),
        pairs=(),
        baseline=None,
        incomplete=(
            f"results under several rulers of {', '.join(several)}: none of them is chosen; name"
            " the records to be compared",
        ),
        missing=(),
    )


def _average(
    columns: Sequence[Made], suite: Suite, evidence: Evidence, baseline: str | None
) -> Average:
    networks, incomplete = _networks(columns)
    data = [str(each.family.ruler.get("data")) for each in columns]
    means = [
        mean_of([estimate for estimate in _estimates(network, columns)], clusters=data)
        for network in networks
    ]
    order = sorted(range(len(means)), key=lambda place: -means[place].value)
    networks = [networks[place] for place in order]
    means = [means[place] for place in order]
    labels = labels_of([network.rows[0] for network in networks], rulers=[""] * len(networks))
    based = None
    if baseline is not None:
        called = [
            any(is_called(row, label, baseline) for row in network.rows)
            for network, label in zip(networks, labels, strict=True)
        ]
        based = place_of_baseline(baseline, called, labels)
    places = places_of(len(networks), based, has_baseline=baseline is not None)
    pairs = _pairs(networks, means, places, columns, evidence)
    found = {_name(each) for each in columns}
    missing = [
        f"{task} {protocol}"
        for task in suite.tasks
        for protocol in suite.protocols
        if f"{task} {protocol}" not in found
    ]
    rows = []
    counts = counts_of(pairs, len(networks))
    for place, (network, count) in enumerate(zip(networks, counts, strict=True)):
        rows.append(
            AverageRow(
                label=labels[place],
                backbone=network.rows[0].backbone,
                weights=network.rows[0].weights,
                rank=count.rank,
                mean=means[place],
                values=tuple(each.value for each in _estimates(network, columns)),
                wins=count.wins,
                ties=count.ties,
                losses=count.losses,
            )
        )
    return Average(
        suite=suite.name,
        title=suite.title,
        columns=tuple(_name(each) for each in columns),
        digests=tuple(each.family.digest for each in columns),
        rows=tuple(rows),
        pairs=pairs,
        baseline=based,
        incomplete=tuple(incomplete),
        missing=tuple(missing),
    )


def _networks(columns: Sequence[Made]) -> tuple[list[_Network], list[str]]:
    """Give the networks that have one result in every column, and say what the others lack."""
    networks, incomplete = [], []
    for several in networks_of([each.family.rows for each in columns]):
        lacking = [
            f"{_name(column)} ({len(rows)} results, none chosen)" if rows else _name(column)
            for column, rows in zip(columns, several, strict=True)
            if len(rows) != 1
        ]
        if lacking:
            first = next(row for rows in several for row in rows)
            incomplete.append(f"{first.backbone} ({first.weights}) has no {', '.join(lacking)}")
            continue
        rows = tuple(here[0] for here in several)
        places = tuple(
            column.places[next(at for at, it in enumerate(column.family.rows) if it is row)]
            for column, row in zip(columns, rows, strict=True)
        )
        networks.append(_Network(rows, places))
    return networks, incomplete


def _units(columns: Sequence[Made]) -> _Units:
    """Give each different item of all columns a place; data sets are told apart by their lists."""
    parts: dict[tuple[str, str], list[Hashable]] = {}
    named = []
    for place, column in enumerate(columns):
        data = str(column.family.ruler.get("data"))
        names = [(data, name) for name in sorted({name for _, name in column.jury.items.keys})]
        strata = column.jury.items.strata or ((),) * len(names)
        for name, stratum in zip(names, strata, strict=True):
            parts.setdefault(name, []).append((place, stratum))
        named.append(names)
    place_of = {name: place for place, name in enumerate(parts)}
    return _Units(
        places=tuple(np.array([place_of[name] for name in names]) for names in named),
        num=len(parts),
        strata=tuple(tuple(each) for each in parts.values()),
    )


def _estimates(network: _Network, columns: Sequence[Made]) -> list[Estimate]:
    return [
        column.jury.estimate(place) for column, place in zip(columns, network.places, strict=True)
    ]


def _pairs(
    networks: Sequence[_Network],
    means: Sequence[Estimate],
    places: Sequence[tuple[int, int]],
    columns: Sequence[Made],
    evidence: Evidence,
) -> tuple[Pairwise, ...]:
    """Compare networks, or recall how they compared; the latter only without common subsets."""
    if not places:
        return ()
    key = ""
    if not any(column.jury.is_subset for column in columns):
        contents = [
            [
                (column.jury.content(place), column.jury.hangs_on_seed(place))
                for column, place in zip(columns, network.places, strict=True)
            ]
            for network in networks
        ]
        key = digest_json([[column.family.digest for column in columns], contents, places])
        known = evidence.recall_pairs(key)
        if known is not None:
            return known
    units = _units(columns)
    judged = [
        _judged(network, mean, columns, units)
        for network, mean in zip(networks, means, strict=True)
    ]
    found = [
        compare_pair(
            judged[first],
            judged[second],
            first=first,
            second=second,
            n=units.num,
            n_first=units.num,
            n_second=units.num,
            strata=units.strata,
        )
        for first, second in places
    ]
    pairs = with_verdicts(found, higher_is_better=True)
    if key:
        evidence.remember_pairs(key, pairs)
    return pairs


def _judged(network: _Network, mean: Estimate, columns: Sequence[Made], units: _Units) -> Judged:
    """Bring a network's columns together, each with the same weight."""
    judged = [
        column.jury.judged(place) for column, place in zip(columns, network.places, strict=True)
    ]
    seed_values = _seed_values(network, judged)
    is_hanging = any(each.hangs_on_seed for each in judged)
    scores = [each.scores_N for each in judged]
    if all(scores_N is not None for scores_N in scores):
        summed_U = np.zeros(units.num)
        for scores_N, places_N in zip(scores, units.places, strict=True):
            assert scores_N is not None
            # Of U items this one's part of the mean over columns, so that their mean is that mean.
            np.add.at(summed_U, places_N, scores_N * (units.num / (len(columns) * len(scores_N))))
        return Judged(
            mean, summed_U, are_hits=False, seed_values=seed_values, hangs_on_seed=is_hanging
        )
    drawn = [
        each.resampled_R
        if each.scores_N is None
        else _resampled(each.scores_N, str(column.family.ruler.get("data")))
        for each, column in zip(judged, columns, strict=True)
    ]
    found = [drawn_R for drawn_R in drawn if drawn_R is not None]
    resampled_R = np.mean(found, axis=0) if len(found) == len(drawn) else None
    return Judged(
        estimate=mean,
        scores_N=None,
        are_hits=False,
        seed_values=seed_values,
        resampled_R=resampled_R,
        hangs_on_seed=is_hanging,
    )


def _seed_values(network: _Network, judged: Sequence[Judged]) -> tuple[float, ...]:
    """Give the mean over columns of each seed; none unless all columns have the same seeds.

    Other seeds are then of unknown effect, as they are where there is a single one.
    """
    if len({row.seeds for row in network.rows}) > 1 or not all(each.seed_values for each in judged):
        return ()
    of_seeds = zip(*(each.seed_values for each in judged), strict=True)
    return tuple(math.fsum(values) / len(values) for values in of_seeds)


def _resampled(scores_N: NDArray[np.float64], data: str) -> NDArray[np.float64]:
    """Give the mean of resampled scores, (R,): the same draws for all that has the same items."""
    generator = np.random.default_rng(int(digest_json([data, len(scores_N)])[:8], 16))
    counts_NR = resampled_counts(len(scores_N), generator, num_resamples=_NUM_RESAMPLES)
    drawn_R: NDArray[np.float64] = scores_N @ counts_NR / len(scores_N)
    return drawn_R
