"""The triggers that refuse changes are there, are missed when they are not, and come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from clerestory.core.errors import IntegrityError
from clerestory.core.release import Event
from clerestory.store import Store, migrate_store, open_store
from clerestory.store.schema import APPEND_ONLY, missing_triggers

TABLES = [table.name for table in APPEND_ONLY]
COUNT = {"sqlite": 8, "postgresql": 12}  # UPDATE and DELETE of four tables; TRUNCATE as well
_QUERIES = {
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT count(*) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid "
    "WHERE tgenabled = 'O' AND relnamespace = current_schema()::regnamespace",
}


def count(connection: Connection) -> int:
    return int(connection.execute(text(_QUERIES[connection.dialect.name])).scalar_one())


def drop(connection: Connection, name: str) -> None:
    on = f" ON {name.partition('_no_')[0]}" if connection.dialect.name == "postgresql" else ""
    connection.execute(text(f"DROP TRIGGER {name}{on}"))


def test_every_record_table_has_its_triggers_also_after_migrations(store: Store, database: str) -> None:
    for _ in range(2):
        with store.database.reading() as connection:
            assert count(connection) == COUNT[database]
            assert missing_triggers(connection) == []
        assert store.database.migrate() == []
    assert store.database.verify() == []


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_was_made_anew_has_lost_its_triggers_and_migrating_brings_them_back(
    store: Store, database: str, make_event: Callable[..., Event], table: str
) -> None:
    """As some migration tools do on SQLite: they copy a table, drop it and rename the copy."""
    with store.database.writing() as connection:
        connection.execute(text(f"CREATE TABLE made_anew AS SELECT * FROM {table}"))
        connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text(f"ALTER TABLE made_anew RENAME TO {table}"))
    (finding,) = store.database.verify()
    assert (finding.code, finding.state) == ("CLR-S005", "fail")
    lost = [f"{table}_no_update", f"{table}_no_delete", f"{table}_no_truncate"][: COUNT[database] // 4]
    assert all(name in finding.message for name in lost)
    location, created = migrate_store(store.home)
    assert location == store.database.location
    assert created == lost
    assert store.database.verify() == []


def test_a_disabled_trigger_is_missed_and_enabled_again(store: Store, database: str) -> None:
    with store.database.writing() as connection:
        if database == "postgresql":
            connection.execute(text("ALTER TABLE journal DISABLE TRIGGER journal_no_update"))
        else:
            drop(connection, "journal_no_update")
    with open_store(store.home) as second:
        (finding,) = second.database.verify()
        assert "journal_no_update" in finding.message
        assert "journal_no_delete" not in finding.message
        assert second.database.migrate() == ["journal_no_update"]
        assert second.database.verify() == []
        second.journal.append(Event("k", "s", "w", "y", "2026-01-01"))
    with (
        pytest.raises(IntegrityError, match="journal is append-only"),
        store.database.writing() as connection,
    ):
        connection.execute(text("UPDATE journal SET kind = 'x'"))


def test_migrating_creates_a_store_that_does_not_exist(tmp_path: Path, database: str) -> None:
    home = tmp_path / "home"
    _, created = migrate_store(home)
    if database == "postgresql":
        assert {"journal", "meta", "journal_no_truncate"} <= set(created)
        assert not home.exists(), "the owner of the database need not have the folder"
    with open_store(home) as opened:
        assert opened.database.verify() == []
