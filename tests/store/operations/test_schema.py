"""A store of an earlier version gets the tables of operations when they are used, and not before."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text

from clerestory.store import open_store
from clerestory.store.operations.schema import TABLES

NAMES = {table.name for table in TABLES}


def test_a_sqlite_store_of_an_earlier_version_gets_the_missing_tables(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, store.database.writing() as connection:
        for name in NAMES:
            connection.execute(text(f"DROP TABLE {name}"))
    with open_store(tmp_path) as store:
        with store.database.reading() as connection:
            assert not NAMES & set(inspect(connection).get_table_names())
        store.database.ensure_operations()
        store.database.ensure_operations()
        with store.database.reading() as connection:
            assert set(inspect(connection).get_table_names()) >= NAMES
