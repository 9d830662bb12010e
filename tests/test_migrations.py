"""Old records: those of this repository's past load and count, and a raised schema has a way up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from records_factory import make_record

from rsbench.cli.reproduce import as_written
from rsbench.comparison import compare
from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.records import migrations, schema, store
from rsbench.records.migrations import MIGRATIONS, migrate
from rsbench.records.ruler import differences
from rsbench.records.schema import SCHEMA_VERSION, from_json, seal, to_json
from rsbench.tables import build, render
from rsbench.verifying import verify_folder

GOLDEN = Path(__file__).parent / "golden"
GENERATIONS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())

# -------------------------------------------------------------------------------- golden records


@pytest.mark.parametrize("generation", GENERATIONS)
def test_records_of_every_past_load_and_are_sound(generation: str) -> None:
    contents = store.read_all(GOLDEN / generation)

    assert contents.problems == ()
    assert len(contents.records) >= 2
    for verified in verify_folder(GOLDEN / generation):
        assert verified.problems == ()
        assert verified.num_items in (160, 899)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_old_records_keep_their_numbers(generation: str) -> None:
    """Second source: hits counted in the Parquet file by pyarrow, without a line of rsbench."""
    for stored in store.read_all(GOLDEN / generation).records:
        rows = parquet.read_table(stored.path.with_suffix(".predictions.parquet")).to_pylist()
        hits = [
            row["scores"].index(max(row["scores"])) == json.loads(row["target"]) for row in rows
        ]

        headline = stored.record.metrics[0]
        assert headline.name == "top1"
        assert headline.value == sum(hits) / len(rows)
        assert headline.n == stored.record.data.num_expected == len(rows)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_old_records_are_drawn_and_compared(generation: str) -> None:
    contents = store.read_all(GOLDEN / generation)

    tables = build(contents)
    compared = compare(contents)

    assert tables.problems == ()
    assert sum(len(table.rows) for table in tables.tables) == len(contents.records)
    assert all(row.cells[0] is not None for table in tables.tables for row in table.rows)
    assert sum(len(table.warnings) for table in tables.tables) == 0
    for form in ("terminal", "markdown", "csv", "latex", "json"):
        assert "resnet_rs_50" in render(tables, form).replace("\\", "") or "digits" in render(
            tables, form
        )
    # The two of a generation were made alike, so that one is held to the other.
    (pair,) = [pair for family in compared.families for pair in family.pairs]
    assert pair.n in (160, 899)
    assert pair.p is not None and 0 <= pair.p <= 1


def test_records_of_different_pasts_share_no_column() -> None:
    records = [stored for each in GENERATIONS for stored in store.read_all(GOLDEN / each).records]
    contents = store.Contents(tuple(records), ())

    tables = build(contents)

    # Digits; and the sample under the probe's versions 1, 2 and 3. The first two generations differ
    # in whose resize was followed, which is a matter of the row.
    rulers = [table.ruler for table in tables.tables]
    versions = [ruler["protocol_version"] for ruler in rulers if ruler["task"] != "digits"]
    assert sorted(versions) == [1, 2, 3]
    assert len(rulers) == 4
    for place, first in enumerate(rulers):
        assert all(differences(first, second) for second in rulers[place + 1 :])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_an_old_record_written_again_says_the_same(generation: str) -> None:
    for stored in store.read_all(GOLDEN / generation).records:
        again = from_json(to_json(stored.record), where="again")

        assert again == seal(stored.record)
        written = json.loads(stored.path.read_text())
        plain = json.loads(to_json(stored.record))
        assert _without_younger(plain, written) == written | {"digest": plain["digest"]}


def test_an_old_record_edited_by_hand_is_found() -> None:
    path = next((GOLDEN / "994291b").rglob("*.json"))
    text = path.read_text().replace('"seed": 0', '"seed": 3', 1)

    with pytest.raises(RecordError, match="edited by hand"):
        from_json(text, where="r.json")


def _without_younger(plain: Any, written: Any) -> Any:
    """Give JSON without the fields that an older text lacks."""
    if isinstance(plain, dict):
        return {key: _without_younger(plain[key], written[key]) for key in written if key in plain}
    if isinstance(plain, list):
        return [_without_younger(new, old) for new, old in zip(plain, written, strict=True)]
    return plain


# -------------------------------------------------------------------------------- raised schemas


def test_every_schema_that_ever_was_has_a_way_up() -> None:
    assert set(MIGRATIONS) == set(range(1, SCHEMA_VERSION))


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    """From a schema that said "random_seed" where this one says "seed"."""
    content["seed"] = content.pop("random_seed")
    return content


def _counted_up(content: dict[str, Any]) -> dict[str, Any]:
    """From a schema that counted seeds from 1; after `_renamed`, or there is none to count."""
    content["seed"] -= 1
    return content


@pytest.fixture
def at_schema_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be an rsbench that has raised its schema twice."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: _renamed, 2: _counted_up})


def _written(version: int, change: Callable[[dict[str, Any]], object]) -> str:
    """Give a record's text as an older rsbench would have written it, its own digest in it."""
    content = json.loads(to_json(make_record(seed=4)))
    content["schema"] = version
    change(content)
    content["digest"] = digest_json({k: v for k, v in content.items() if k != "digest"})
    return json.dumps(content)


def _at_1(content: dict[str, Any]) -> None:
    content["random_seed"] = content.pop("seed") + 1


def _at_2(content: dict[str, Any]) -> None:
    content["seed"] += 1


@pytest.mark.usefixtures("at_schema_3")
@pytest.mark.parametrize(("version", "change"), [(1, _at_1), (2, _at_2)])
def test_a_record_is_led_through_all_schemas_since_its_own(
    version: int, change: Callable[[dict[str, Any]], object]
) -> None:
    text = _written(version, change)

    record = from_json(text, where="r.json")

    # make_record seals nothing; what was 5 then is 4 now, and all the rest is as it was.
    assert (record.seed, record.schema) == (4, 3)
    assert record.digest == json.loads(text)["digest"], "the file's own, as it lies there"
    assert record.metrics == make_record(seed=4).metrics


@pytest.mark.usefixtures("at_schema_3")
def test_an_older_record_is_held_to_its_digest_before_it_is_migrated() -> None:
    text = _written(1, _at_1).replace('"random_seed": 5', '"random_seed": 7')

    with pytest.raises(RecordError, match=r"r\.json was edited by hand"):
        from_json(text, where="r.json")


@pytest.mark.usefixtures("at_schema_3")
def test_a_record_that_lacks_what_a_migration_needs_is_one_line() -> None:
    text = _written(1, lambda content: content)

    with pytest.raises(RecordError) as caught:
        from_json(text, where="r.json")

    assert str(caught.value) == (
        "r.json was written under schema 1 and can't be brought to schema 2"
        " (KeyError: 'random_seed'); run it again."
    )


@pytest.mark.usefixtures("at_schema_3")
def test_a_migrated_record_is_held_to_the_types_of_now() -> None:
    def as_text(content: dict[str, Any]) -> None:
        content["random_seed"] = 1
        content["key"] = 3
        del content["seed"]

    with pytest.raises(RecordError, match=r"record\.key must be text, was 3"):
        from_json(_written(1, as_text), where="r.json")


@pytest.mark.usefixtures("at_schema_3")
def test_an_older_record_is_reproduced_under_the_names_of_now(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(_written(1, _at_1))

    plain = as_written(store.Stored(path, store.read(path)))

    assert (plain["seed"], plain["schema"]) == (4, 3)
    assert "random_seed" not in plain


def test_a_gap_in_the_chain_is_refused() -> None:
    with pytest.raises(RecordError, match="nothing leads from schema 2 to 3"):
        migrate({"schema": 1, "random_seed": 5}, to=3, where="r.json", migrations={1: _renamed})


def test_migrating_leaves_what_was_read_as_it_was() -> None:
    plain = {"schema": 1, "random_seed": 5, "cost": {"a": 1}}

    def emptied(content: dict[str, Any]) -> dict[str, Any]:
        content["cost"].clear()
        return _counted_up(content)

    moved = migrate(plain, to=3, where="r", migrations={1: _renamed, 2: emptied})

    assert moved == {"schema": 3, "seed": 4, "cost": {}}
    assert plain == {"schema": 1, "random_seed": 5, "cost": {"a": 1}}


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_before_the_first_is_refused(version: int) -> None:
    with pytest.raises(RecordError, match=r"must have a schema from 1 to \d+, was"):
        from_json(_written(version, lambda content: content), where="r.json")
