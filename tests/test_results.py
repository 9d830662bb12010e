"""The committed results: whole, as their files say, and shown by a page that is not stale."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import rsbench

from rsbench.metrics import TOP1
from rsbench.records import store

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(
    ["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split("\0")
COMMITTED = [ROOT / name for name in LISTED if name]
# Published tables (reference/) and measured costs (profile/) have tests of their own.
RECORDS = tuple(
    store.Stored(path, store.read(path))
    for path in COMMITTED
    if path.suffix == ".json" and path.is_relative_to(ROOT / "results" / "runs")
)

pytestmark = pytest.mark.skipif(not COMMITTED, reason="no git, or no checkout of it, to ask")


def test_the_page_of_the_committed_results_is_drawn_from_them(tmp_path: Path) -> None:
    # A user's own records may lie beside the committed ones; they are not looked at.
    for path in COMMITTED:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    answer = rsbench("table", tmp_path / "results", "--check")
    assert answer.code == 0, answer.err


def test_every_committed_record_can_be_read() -> None:
    # `make results`: two networks with three seeds, probed; two trained likewise; two on two tasks
    # under two protocols.
    assert len(RECORDS) == 2 * 3 + 2 * 3 + 2 * 2 * 2


@pytest.mark.parametrize("stored", RECORDS, ids=lambda stored: stored.path.stem)
def test_a_committed_number_follows_from_the_predictions_beside_it(stored: store.Stored) -> None:
    table = store.read_predictions(stored.path)
    headline = stored.record.metrics[0]
    assert headline.name == "top1"
    assert TOP1.compute(table.targets, table.predictions) == pytest.approx(headline.value)
    assert len(table.ids) == headline.n == stored.record.data.num_expected


@pytest.mark.parametrize("stored", RECORDS, ids=lambda stored: stored.path.stem)
def test_a_committed_record_was_made_by_committed_code(stored: store.Stored) -> None:
    assert stored.record.environment["commit"]
    assert stored.record.environment["dirty"] is False


def test_the_readme_shows_a_real_run() -> None:
    text = (ROOT / "README.md").read_text()
    assert "<!-- demo output -->" not in text
    assert "untrained features: shows motion sensitivity, not quality" in text
