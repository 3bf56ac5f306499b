"""The tables, portable between SQLite and PostgreSQL, and the triggers that make some of them append-only."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)

SCHEMA_VERSION = "2"
"""Raised when stored evidence, releases or tables of earlier versions can no longer be read."""

metadata = MetaData()
DIGEST = String(64)

meta = Table("meta", metadata, Column("key", String(40), primary_key=True), Column("value", Text, nullable=False))

journal = Table(
    "journal",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("hash", DIGEST, nullable=False, unique=True),
    Column("previous", DIGEST, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("record", Text, nullable=False),
)

evidence = Table(
    "evidence",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("id", DIGEST, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Index("evidence_by_subject", "kind", "model", "data"),
)

models = Table(
    "models",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("manifest", Text, nullable=False),
    Column("added", Text, nullable=False),
)

cache = Table(
    "cache",
    metadata,
    Column("key", Text, primary_key=True),
    Column("digest", DIGEST, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("digest", DIGEST, nullable=False),
    Column("size", Integer, nullable=False),
    Column("added", Text, nullable=False),
    Index("datasets_by_name", "name"),
)

releases = Table(
    "releases",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("model", DIGEST, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("name", "number"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
)

APPEND_ONLY = (journal, evidence, releases, datasets)

_POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION clerestory_append_only() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql
"""


def create_all(connection: Connection) -> list[str]:
    """Create missing tables, triggers and the schema version; the caller holds the write lock.

    Returns:
        The names of the tables and triggers that were missing.
    """
    present = set(inspect(connection).get_table_names())
    missing = [name for name in metadata.tables if name not in present]
    metadata.create_all(connection)
    triggers = missing_triggers(connection)
    if triggers and connection.dialect.name == "postgresql":
        connection.execute(text(_POSTGRESQL_FUNCTION))
    for name in triggers:
        for statement in _trigger(connection.dialect.name, name):
            connection.execute(text(statement))
    if connection.execute(meta.select().where(meta.c.key == "schema")).first() is None:
        connection.execute(meta.insert().values(key="schema", value=SCHEMA_VERSION))
    return missing + triggers


def missing_triggers(connection: Connection) -> list[str]:
    """The names of the triggers that refuse changes and are missing or disabled."""
    if connection.dialect.name == "postgresql":
        query = (
            "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal "
            "AND tgrelid = ANY(ARRAY["
            + ", ".join(f"to_regclass('{table.name}')" for table in APPEND_ONLY)
            + "]::oid[])"
        )
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    present = set(connection.execute(text(query)).scalars())
    verbs = ("update", "delete", "truncate") if connection.dialect.name == "postgresql" else ("update", "delete")
    wanted = [f"{table.name}_no_{verb}" for table in APPEND_ONLY for verb in verbs]
    return [name for name in wanted if name not in present]


def _trigger(dialect: str, name: str) -> list[str]:
    """The statements that create a trigger, or create it again."""
    table, _, verb = name.rpartition("_no_")
    if dialect == "postgresql":
        each = "STATEMENT" if verb == "truncate" else "ROW"
        return [
            f"DROP TRIGGER IF EXISTS {name} ON {table}",
            f"CREATE TRIGGER {name} BEFORE {verb.upper()} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION clerestory_append_only()",
        ]
    return [
        f"CREATE TRIGGER {name} BEFORE {verb.upper()} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    ]
