"""What a long run says while it lasts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from rich import console as rich_console

from rsbench.cli import progress
from rsbench.cli.progress import reporter, values_in_words

VALUES = {
    "loss": 2.3104,
    "top1": 0.4125,
    "held_out_top1": 0.5,
    "learning_rate": 0.0125,
    "examples_per_second": 85.34,
    "gradient_norm": 12.3456,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds that pass as a test says."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_values_are_said_in_words_with_their_units() -> None:
    assert values_in_words(VALUES) == (
        "loss 2.310, top-1 41.2%, held out top-1 50.0%, rate 0.0125, 85.3 examples/s,"
        " gradient norm 12.3"
    )


def test_a_line_of_progress_ends_with_what_the_training_is_at(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with reporter() as report:
        report("train", 0, 100)
        report.measured({"loss": 2.0})
        report.measured({"loss": 1.5, "learning_rate": 0.1})
        clock[0] = 20.0
        report("train", 50, 100)

    assert capsys.readouterr().err == (
        "  train: 50 of 100, about 20 s left; loss 1.500, rate 0.1\n"
    )


def test_another_stage_does_not_show_the_values_of_the_one_before(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with reporter() as report:
        report("train", 0, 100)
        report.measured({"loss": 2.0})
        report("predict", 0, 100)
        clock[0] = 20.0
        report("predict", 50, 100)

    assert capsys.readouterr().err == "  predict: 50 of 100, about 20 s left\n"


def test_bars_on_a_terminal_show_the_values_too(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    real = rich_console.Console

    def terminal(*, stderr: bool) -> rich_console.Console:
        assert stderr
        return real(file=screen, force_terminal=True, width=200)

    monkeypatch.setattr(rich_console, "Console", terminal)
    with reporter() as report:
        report("train", 0, 10)
        report.measured({"loss": 2.0})
        report("train", 5, 10)

    assert "train" in screen.getvalue()
    assert "loss 2.000" in screen.getvalue()
