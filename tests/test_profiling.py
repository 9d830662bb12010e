"""Networks side by side: what is measured of each, and what one that fails costs the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.profiling import side_by_side
from rsbench.profiling.costs import Cost
from rsbench.profiling.side_by_side import ProfileRequest, find_subject, profile
from rsbench.profiling.steps import Setting
from rsbench.profiling.timing import Lap
from rsbench.specs import Views

QUICK = ProfileRequest(
    backbones=("tiny_2d",), pixels=16, batch_size=4, training=True, rounds=3, threads=1
)


@pytest.fixture(autouse=True)
def _no_other_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a process's memory without starting one, except where that is what is tested."""
    if "resident" not in request.node.name:
        monkeypatch.setattr(side_by_side, "_resident_peak", lambda *_: 5 * 2**20)


class FakeClock:
    """Does the work and says that each lap took a second longer than the one before."""

    def __init__(self) -> None:
        self.laps: Iterator[int] = iter(range(1, 10_000))

    def lap(self, work: Any) -> Lap:
        work()
        seconds = next(self.laps)
        return Lap(float(seconds), seconds / 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    monkeypatch.setattr(side_by_side, "clock_of", lambda device: made)
    return made


def _write(path: Path, forward: str) -> str:
    """Write a network of one convolution that does something in its forward pass."""
    path.write_text(
        "import torch\n"
        "class Network(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Conv2d(3, 4, 3)\n"
        "    def forward(self, batch):\n"
        f"        {forward}\n"
        "        return self.layer(batch)\n"
        "def build():\n"
        "    return Network()\n"
    )
    return f"{path}:build"


def _by_name(costs: tuple[Cost, ...]) -> dict[str, Cost]:
    return {cost.backbone: cost for cost in costs}


def test_every_network_has_its_laps_in_every_round(clock: FakeClock) -> None:
    costs, faults = profile(replace(QUICK, backbones=("tiny_2d", "tiny_3d")))

    assert faults == ()
    assert [cost.backbone for cost in costs] == ["tiny_2d", "tiny_3d"]
    for cost in costs:
        assert [(each.work, each.batch_size) for each in cost.timings] == [
            ("inference", 1),
            ("inference", 4),
            ("training", 4),
        ]
        assert [len(each.seconds) for each in cost.timings] == [3, 3, 3]
    # The first round: three laps of tiny_2d, three of tiny_3d, three of the matrix product; the
    # second begins with tiny_3d, and so the third lap of tiny_2d comes 6 + 3 later.
    first, second = costs
    assert first.timings[0].seconds[0] == 1.0
    assert second.timings[0].seconds[:2] == (4.0, 10.0)
    assert first.timings[0].seconds[1] == 16.0
    assert first.timings[0].cpu_seconds[1] == 8.0
    assert (first.beside, second.beside) == (("tiny_3d",), ("tiny_2d",))


def test_the_peak_is_the_fastest_matrix_product_of_all_rounds(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "product_flops", lambda device: 140)
    (cost,), _ = profile(QUICK)

    # Its first lap of the first round is the fourth in all, after three of the network.
    assert cost.peak_flops_per_second == 140 / 4


@pytest.mark.parametrize(
    ("setting", "peak", "memory"),
    [
        (Setting(), True, 5 * 2**20),
        (Setting(precision="fp16"), False, 5 * 2**20),
        (Setting(compiled=True), True, None),
    ],
)
def test_what_would_mislead_is_not_measured(
    setting: Setting,
    peak: bool,
    memory: int | None,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    (cost,), _ = profile(replace(QUICK, setting=setting, training=False))

    assert (cost.peak_flops_per_second is not None) is peak
    assert cost.timings[1].peak_bytes == memory


def test_a_cost_says_how_it_was_measured(clock: FakeClock) -> None:
    request = replace(
        QUICK,
        setting=Setting(precision="bf16", layout="contiguous"),
        views=Views(clips=10, crops=3),
    )
    (cost,), _ = profile(request)

    assert (cost.precision, cost.layout, cost.compiled, cost.threads) == (
        *("bf16", "contiguous", False),
        1,
    )
    assert (cost.clips, cost.crops, cost.rounds, cost.device_type) == (10, 3, 3, "cpu")
    assert (cost.tf32, cost.cudnn_benchmark) == (None, None)
    assert cost.environment["torch"] == torch.__version__.partition("+")[0]
    assert cost.device == cost.environment["cpu"]
    assert cost.timings[2].peak_bytes == 5 * 2**20
    assert cost.timings[2].peak_source == "resident"
    # By hand, 16 x 16 pixels: 3 to 8 channels on 8 x 8 places, 8 to 16 on 4 x 4, 16 to 32 on 2 x 2.
    macs = 9 * (64 * 3 * 8 + 16 * 8 * 16 + 4 * 16 * 32)
    assert cost.counts["macs"] == macs
    assert cost.counts["macs_with_head"] == macs + 32 * 1000


def test_threads_and_random_numbers_are_put_back(clock: FakeClock) -> None:
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    state = torch.get_rng_state()
    profile(replace(QUICK, threads=threads + 1))

    assert torch.get_num_threads() == threads
    assert torch.backends.cudnn.benchmark is benchmark
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_covers_fitting_and_laps(clock: FakeClock) -> None:
    said: list[tuple[str, int, int]] = []
    profile(replace(QUICK, progress=lambda *words: said.append(words)))

    assert said[0] == ("counting and fitting", 0, 1)
    # One network and the matrix product, three rounds.
    assert said[-1] == ("laps", 6, 6)


# ---------------------------------------------------------------------------- what fails


def test_a_network_that_raises_is_named_and_the_others_stay(
    clock: FakeClock, tmp_path: Path
) -> None:
    broken = _write(tmp_path / "broken.py", "1 / (len(batch) < 2)")
    costs, faults = profile(replace(QUICK, backbones=(broken, "unheard_of", "tiny_2d")))

    assert [*_by_name(costs)] == [broken, "tiny_2d"]
    assert [(fault.backbone, fault.what) for fault in faults] == [
        (broken, "inference"),
        (broken, "training"),
        ("unheard_of", "building"),
    ]
    assert isinstance(faults[0].error, ZeroDivisionError)
    assert isinstance(faults[2].error, UnknownNameError)
    # What it could do, it did.
    cost = _by_name(costs)[broken]
    assert [(each.work, each.batch_size) for each in cost.timings] == [("inference", 1)]
    assert cost.notes[0] == "inference failed: ZeroDivisionError"


def test_a_network_that_breaks_during_the_laps_is_left_out(
    clock: FakeClock, tmp_path: Path
) -> None:
    # Told one, two, three ...: it works while it is counted and fitted, then no more.
    tired = _write(
        tmp_path / "tired.py",
        "self.told = getattr(self, 'told', 0) + 1; 1 / (self.told < 8)",
    )
    costs, faults = profile(replace(QUICK, backbones=(tired, "tiny_2d")))

    assert [*_by_name(costs)] == ["tiny_2d"]
    assert [(fault.backbone, fault.what) for fault in faults] == [(tired, "laps")]


def test_a_batch_that_does_not_fit_is_halved_and_said(clock: FakeClock, tmp_path: Path) -> None:
    large = _write(
        tmp_path / "large.py",
        "if self.training and len(batch) > 3: raise torch.OutOfMemoryError('CUDA out of memory')",
    )
    costs, faults = profile(replace(QUICK, backbones=(large, "tiny_2d"), batch_size=8))
    timings = {each.work: each for each in _by_name(costs)[large].timings}

    assert faults == ()
    assert (timings["inference"].batch_size, timings["training"].batch_size) == (8, 2)
    assert timings["training"].batch_asked == 8
    assert _by_name(costs)[large].notes == (
        "training: a batch of 8 did not fit into memory, 2 did",
    )
    assert _by_name(costs)["tiny_2d"].notes == ()


def test_nothing_left_is_no_cost_and_every_fault(clock: FakeClock) -> None:
    costs, faults = profile(replace(QUICK, backbones=("unheard_of", "neither")))

    assert costs == ()
    assert [fault.backbone for fault in faults] == ["unheard_of", "neither"]


def test_a_device_that_is_not_there_is_refused_before_anything_is_built() -> None:
    with pytest.raises(RsbenchError, match="--device must be one of this machine's"):
        profile(replace(QUICK, setting=Setting(device="cuda:99")))


# ---------------------------------------------------------------------------- what a network sees


@pytest.mark.parametrize(
    ("name", "words", "shape", "lifting"),
    [
        ("tiny_2d", {}, (3, 32, 32), "none"),
        ("tiny_2d@24", {}, (3, 24, 24), "none"),
        ("tiny_2d", {"pixels": 16}, (3, 16, 16), "none"),
        ("tiny_3d", {}, (3, 8, 32, 32), "none"),
        ("tiny_3d", {"frames": 4, "pixels": 16}, (3, 4, 16, 16), "none"),
        # An image network on clips reads each frame.
        ("tiny_2d", {"frames": 4}, (3, 4, 32, 32), "frame_mean"),
    ],
)
def test_a_network_sees_its_own_input_or_what_the_words_say(
    name: str, words: Mapping[str, int], shape: tuple[int, ...], lifting: str
) -> None:
    subject = find_subject(name, replace(QUICK, **{"pixels": None, **words}))

    assert (subject.view_shape, subject.lifting) == (shape, lifting)


def test_an_image_network_on_clips_costs_its_frames(clock: FakeClock) -> None:
    (one,), _ = profile(QUICK)
    (four,), _ = profile(replace(QUICK, frames=4))

    assert four.counts["macs"] == 4 * (one.counts["macs"] or 0)
    assert four.counts["parameters"] == one.counts["parameters"]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("tiny_2d@24", {"pixels": 16}, "--pixels 16 and tiny_2d@24 say different sides"),
        ("tiny_2d", {"stride": 2}, "--stride is for clips, and tiny_2d sees images"),
    ],
)
def test_words_that_contradict_or_move_nothing_are_refused(
    name: str, words: Mapping[str, int], said: str
) -> None:
    with pytest.raises(RsbenchError, match=said):
        find_subject(name, replace(QUICK, **words))


# ---------------------------------------------------------------------------- memory on a CPU


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_resident_peak_is_what_the_network_takes(tmp_path: Path) -> None:
    # 256 MiB at once during the pass, a network of a few hundred bytes.
    hungry = _write(tmp_path / "hungry.py", "batch = batch + torch.ones(64, 2**20).sum() * 0")
    request = replace(QUICK, backbones=(hungry,), training=False, rounds=1)
    (cost,), faults = profile(request)
    timing = cost.timing("inference")

    assert faults == ()
    assert timing is not None
    assert timing.peak_bytes is not None
    assert 250 < timing.peak_bytes / 2**20 < 320
    # Not the single view's: that takes its own process, for a number nobody asks for.
    assert cost.timings[0].peak_bytes is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_memory_is_counted_and_networks_leave() -> None:
    before = torch.cuda.memory_allocated()
    costs, faults = profile(
        replace(QUICK, backbones=("tiny_2d", "tiny_3d"), setting=Setting(device="cuda"))
    )

    assert faults == ()
    for cost in costs:
        assert cost.device == torch.cuda.get_device_name()
        assert cost.tf32 is not None
        assert {each.peak_source for each in cost.timings} == {"allocated"}
        assert all(each.peak_bytes for each in cost.timings)
    assert torch.cuda.memory_allocated() == before
