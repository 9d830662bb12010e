"""What all tests share: one root of the code, no user's settings, few threads, small clips."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to mix an installed rsbench with this checkout's tests: half of it would be old."""
    del config
    for name, folder in (("rsbench", "rsbench"), ("rsbench_tasks", "tasks")):
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} can't be imported; run `pip install -e .[dev]`"
        assert spec.origin is not None
        found = Path(spec.origin).resolve().parent
        wanted = ROOT / folder
        assert found == wanted, f"{name} comes from {found}, not {wanted}; `pip install -e .[dev]`"
    # A shell lets its background jobs ignore control-C, and all that they start: a test that sends
    # it would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of a worker: samples and features are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _backward_once() -> None:
    """Let autograd count the devices before any test can make it see one that is not there.

    It does so at its first backward pass, and with a device no forked process can train any more.
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch, session_cache: Path, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("RSBENCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RSBENCH_CACHE", str(session_cache))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: the same bits on every machine, and no crowd of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
