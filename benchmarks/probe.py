"""Fit linear probes: rsbench beside scikit-learn and torch.optim.LBFGS, all strengths of a sweep.

    python benchmarks/probe.py [--examples 10000] [--features 512] [--classes 10] [--strengths 45]
    python benchmarks/probe.py --examples 50000 --features 2048 --classes 100 --peers-every 22

Features are made here: class means in a 256-dimensional subspace whose spread decays, noise of the
same spread, and a leaky rectifier, standardised; the best probe is right for about four in five.
The objective is ``sum of cross-entropy + lambda/2 |W|^2``, the strengths log-spaced from 1e-6 to
1e5, times the number of examples (``--scale mean``) or as they are (``--scale sum``, much weaker).

Solvers take turns, each repeat beginning with another. Figures are CPU seconds of this process,
user and system, on one thread, everything included that a solver does with the features as they
were given. A ratio is the median over repeats of another's time over that of rsbench. A fast answer
to another question is no answer, so each solver's objective is evaluated in float64 at every
strength and compared with the least that any solver reached: the largest relative gap is printed
beside the time, with the bound that rsbench proves for its own, and how many test predictions
differ from those at the least objective.

scikit-learn's solver is its lbfgs: "cold" as `LogisticRegression(C=...)` gives it for each
strength, with 1,000 iterations and the features in float32; "warm" begins each from the one before,
strong to weak; "tight" is warm, in float64, at ``--tight-tolerance``, to come to the same gap.
torch.optim.LBFGS is warm too, with strong Wolfe line search, autograd and float32. With
``--peers-every M`` they solve each M-th strength, and their times are scaled: it is said so.

Nearest neighbours are timed beside scikit-learn's (``--queries``, brute force by cosine, k = 20).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from rsbench.probes import knn, logistic

OURS = "rsbench"
SPECTRUM = 256
NOISE = {10: 5.0, 100: 3.6}
"""Of the class means' spread, by the most classes it is for: it makes about four in five right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What all solvers are given."""

    train_ND: np.ndarray
    train_labels: np.ndarray
    test_ND: np.ndarray
    test_labels: np.ndarray
    num_classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A solver's weights at one strength."""

    weight_KD: np.ndarray
    bias_K: np.ndarray
    proven_gap: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What came out for one solver."""

    solver: str
    num_solved: int
    seconds: tuple[float, ...]
    """Of each repeat, times the strengths that one solved stands for."""
    ratio: float
    largest_gap: float
    proven_gap: float | None
    best_accuracy: float
    num_other_predictions: int
    """Test predictions unlike those of the least objective, at the strength where most are."""


Solver = Callable[[World, Sequence[float]], list[Answer]]


def make_world(*, examples: int, features: int, classes: int, tests: int, seed: int = 0) -> World:
    """Draw features and labels."""
    generator = np.random.default_rng(seed)
    rank = min(features, SPECTRUM)
    means = generator.standard_normal((classes, rank)).astype(np.float32)
    mixing = generator.standard_normal((rank, features)).astype(np.float32) / np.sqrt(rank)
    spread = 4 / np.sqrt(1 + np.arange(rank, dtype=np.float32))
    labels = generator.integers(0, classes, examples + tests)
    noise = next((value for most, value in NOISE.items() if classes <= most), NOISE[100])
    inner = generator.standard_normal((len(labels), rank)).astype(np.float32)
    drawn = (means[labels] + noise * inner) * spread @ mixing
    drawn += 0.3 * generator.standard_normal(drawn.shape).astype(np.float32)
    np.maximum(drawn, 0.1 * drawn, out=drawn)
    mean, std = drawn[:examples].mean(0), drawn[:examples].std(0) + 1e-6
    drawn = ((drawn - mean) / std).astype(np.float32)
    return World(
        train_ND=drawn[:examples],
        train_labels=labels[:examples],
        test_ND=drawn[examples:],
        test_labels=labels[examples:],
        num_classes=classes,
    )


# ------------------------------------------------------------------------------------ the solvers


def by_rsbench(world: World, cs: Sequence[float], *, tolerance: float) -> list[Answer]:
    """Solve all strengths at once."""
    return [
        Answer(weight_KD=each.weight_KD, bias_K=each.bias_K, proven_gap=each.relative_gap)
        for each in logistic.fit_path(
            world.train_ND,
            world.train_labels,
            num_classes=world.num_classes,
            cs=cs,
            tolerance=tolerance,
            max_iterations=2000,
        )
    ]


def by_scikit_learn(
    world: World,
    cs: Sequence[float],
    *,
    warm: bool,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
    exact: bool = False,
) -> list[Answer]:
    """Solve one strength after another, from strong to weak."""
    features = world.train_ND.astype(np.float64) if exact else world.train_ND
    model = LogisticRegression(tol=tolerance, max_iter=max_iterations, warm_start=warm)
    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in cs:
            model.set_params(C=c)
            model.fit(features, world.train_labels)
            answers.append(Answer(weight_KD=model.coef_.copy(), bias_K=model.intercept_.copy()))
    return answers


def by_torch(world: World, cs: Sequence[float]) -> list[Answer]:
    """Solve one strength after another with PyTorch's own L-BFGS."""
    features = torch.from_numpy(world.train_ND)
    labels = torch.from_numpy(world.train_labels)
    weight = torch.zeros(world.num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(world.num_classes, requires_grad=True)
    answers = []
    for c in cs:
        strength = 1 / (c * len(features))
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=1000,
            history_size=10,
            tolerance_grad=1e-7,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(_closure(optimizer, features, labels, weight, bias, strength))
        answers.append(
            Answer(weight_KD=weight.detach().numpy().copy(), bias_K=bias.detach().numpy().copy())
        )
    return answers


def _closure(
    optimizer: torch.optim.Optimizer,
    features: torch.Tensor,
    labels: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    strength: float,
) -> Callable[[], float]:
    def evaluate() -> float:
        optimizer.zero_grad()
        scores = torch.nn.functional.linear(features, weight, bias)
        loss = torch.nn.functional.cross_entropy(scores, labels)
        loss = loss + strength / 2 * weight.square().sum()
        loss.backward()
        return float(loss.detach())

    return evaluate


def solvers(*, tolerance: float, tight_tolerance: float) -> Mapping[str, Solver]:
    """Name them all."""
    return {
        OURS: lambda world, cs: by_rsbench(world, cs, tolerance=tolerance),
        "scikit-learn cold": lambda world, cs: by_scikit_learn(world, cs, warm=False),
        "scikit-learn warm": lambda world, cs: by_scikit_learn(world, cs, warm=True),
        "scikit-learn tight": lambda world, cs: by_scikit_learn(
            world, cs, warm=True, tolerance=tight_tolerance, max_iterations=10_000, exact=True
        ),
        "torch.optim.LBFGS": by_torch,
    }


# -------------------------------------------------------------------------------------- measuring


def objectives(world: World, cs: Sequence[float], answers: Sequence[Answer]) -> list[float]:
    """Evaluate each answer in float64: sum of losses + |W|^2 / (2 C)."""
    return [
        logistic.objective(
            logistic.Solution(
                c=c,
                weight_KD=each.weight_KD.astype(np.float64),
                bias_K=each.bias_K.astype(np.float64),
                num_iterations=0,
                ended="gap",
                relative_gap=0.0,
                gradient_norm=0.0,
            ),
            world.train_ND,
            world.train_labels,
        )
        for c, each in zip(cs, answers, strict=True)
    ]


def predictions(world: World, answer: Answer) -> np.ndarray:
    """Label the test examples."""
    return logistic.logits(answer.weight_KD, answer.bias_K, world.test_ND).argmax(axis=1)


def measure(
    world: World, cs: Sequence[float], named: Mapping[str, Solver], *, every: int, repeats: int
) -> list[Row]:
    """Let solvers take turns, and compare what they reach at the strengths that all solve."""
    names = [*named]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    answers: dict[str, list[Answer]] = {}
    shared = list(range(0, len(cs), every))
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            places = range(len(cs)) if name == OURS else shared
            started = time.process_time()
            solved = named[name](world, [cs[place] for place in places])
            spent = time.process_time() - started
            seconds[name].append(spent * len(cs) / len(places))
            answers[name] = [solved[place] for place in shared] if name == OURS else solved
            print(f"  {name}: {spent:.2f} s for {len(places)} strengths", flush=True)
            if name == OURS:
                proven = max(each.proven_gap or 0.0 for each in solved)
    shared_cs = [cs[place] for place in shared]
    values = {name: objectives(world, shared_cs, answers[name]) for name in names}
    rows = []
    nearest = [min(names, key=lambda name: values[name][place]) for place in range(len(shared))]
    for name in names:
        labels = [predictions(world, each) for each in answers[name]]
        others = [
            int((mine != predictions(world, answers[best][place])).sum())
            for place, (mine, best) in enumerate(zip(labels, nearest, strict=True))
        ]
        rows.append(
            Row(
                solver=name,
                num_solved=len(cs) if name == OURS else len(shared),
                seconds=tuple(seconds[name]),
                ratio=statistics.median(
                    theirs / ours for theirs, ours in zip(seconds[name], seconds[OURS], strict=True)
                ),
                largest_gap=max(
                    values[name][place] / values[best][place] - 1
                    for place, best in enumerate(nearest)
                ),
                proven_gap=proven if name == OURS else None,
                best_accuracy=max(float((each == world.test_labels).mean()) for each in labels),
                num_other_predictions=max(others),
            )
        )
    return rows


def measure_neighbours(world: World, *, queries: int, repeats: int) -> tuple[float, float, float]:
    """Give our seconds, scikit-learn's, and the share of queries with the same neighbours."""
    asked = world.test_ND[:queries]
    spent: tuple[list[float], list[float]] = ([], [])

    def ours() -> np.ndarray:
        bank = knn.build_bank(world.train_ND, world.train_labels)
        found = knn.find_neighbours(bank, asked, num_neighbours=20)
        knn.vote(found, num_voting=20, temperature=0.07, num_classes=world.num_classes)
        return found.places_NT

    def theirs() -> np.ndarray:
        model = KNeighborsClassifier(20, algorithm="brute", metric="cosine")
        return model.fit(world.train_ND, world.train_labels).kneighbors(asked)[1]

    places: list[np.ndarray] = [np.empty(0), np.empty(0)]
    for repeat in range(repeats):
        for which in (repeat % 2, 1 - repeat % 2):
            started = time.process_time()
            places[which] = (ours, theirs)[which]()
            spent[which].append(time.process_time() - started)
    equal = float((np.sort(places[0]) == np.sort(places[1])).all(axis=1).mean())
    return statistics.median(spent[0]), statistics.median(spent[1]), equal


def lines_of(rows: Sequence[Row], *, num_strengths: int) -> Iterator[str]:
    """Draw the table."""
    yield "| solver | strengths solved | CPU s for all | x | largest gap | proven | best accuracy |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        scaled = "" if row.num_solved == num_strengths else " (scaled)"
        proven = "" if row.proven_gap is None else f"{row.proven_gap:.0e}"
        yield (
            f"| {row.solver} | {row.num_solved} of {num_strengths} |"
            f" {statistics.median(row.seconds):.1f}{scaled} | {row.ratio:.1f} |"
            f" {row.largest_gap:.0e} | {proven} | {row.best_accuracy:.4f} |"
        )
    for row in rows:
        yield (
            f"\n{row.solver}: up to {row.num_other_predictions} test predictions at a strength are"
            " unlike those of the least objective"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--strengths", type=int, default=45)
    parser.add_argument("--scale", choices=("mean", "sum"), default="mean")
    parser.add_argument("--tests", type=int, default=5_000, help="test examples")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of rsbench: a proven gap")
    parser.add_argument("--tight-tolerance", type=float, default=1e-7, help="of scikit-learn")
    parser.add_argument("--peers-every", type=int, default=1)
    parser.add_argument("--only", default="", help="solvers beside ours, comma-separated")
    parser.add_argument("--queries", type=int, default=2_000, help="of neighbours; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    world = make_world(
        examples=given.examples, features=given.features, classes=given.classes, tests=given.tests
    )
    strengths = np.logspace(-6, 5, given.strengths) * (
        given.examples if given.scale == "mean" else 1
    )
    cs = sorted(float(1 / each) for each in strengths)
    named = solvers(tolerance=given.tolerance, tight_tolerance=given.tight_tolerance)
    wanted = [each.strip() for each in given.only.split(",") if each.strip()]
    unknown = set(wanted) - set(named)
    if unknown:
        parser.error(f"--only takes {', '.join(named)}; got {', '.join(sorted(unknown))}")
    named = {name: each for name, each in named.items() if not wanted or name in (OURS, *wanted)}
    about = (
        f"{given.examples} x {given.features}, {given.classes} classes, {given.strengths} strengths"
        f" ({given.scale}); {platform.machine()}, one thread, Python {platform.python_version()},"
        f" torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    )
    print(about, flush=True)
    # What a first call imports and sets up is nobody's time.
    small = make_world(examples=100, features=8, classes=3, tests=1)
    for solve in named.values():
        solve(small, [0.1, 1.0])
    rows = measure(world, cs, named, every=given.peers_every, repeats=given.repeats)
    print("\n".join(lines_of(rows, num_strengths=given.strengths)))
    found: dict[str, object] = {"about": about, "rows": [asdict(row) for row in rows]}
    if given.queries:
        ours, theirs, equal = measure_neighbours(
            world, queries=given.queries, repeats=max(given.repeats, 2)
        )
        print(
            f"\nneighbours: rsbench {ours:.2f} s, scikit-learn {theirs:.2f} s"
            f" ({theirs / ours:.1f} x), {100 * equal:.2f} % of queries have the same"
        )
        found["neighbours"] = {"ours": ours, "theirs": theirs, "equal": equal}
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
