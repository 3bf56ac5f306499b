"""The tables, portable between SQLite and PostgreSQL, and the triggers that make some of them append-only."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Index, Integer, MetaData, String, Table, Text, UniqueConstraint, text

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


def create_all(connection: Connection) -> None:
    """Create missing tables, triggers and the schema version; the caller holds the write lock."""
    metadata.create_all(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(text(_POSTGRESQL_FUNCTION))
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            connection.execute(text(_trigger(connection.dialect.name, table.name, verb)))
    if connection.execute(meta.select().where(meta.c.key == "schema")).first() is None:
        connection.execute(meta.insert().values(key="schema", value=SCHEMA_VERSION))


def _trigger(dialect: str, table: str, verb: str) -> str:
    name = f"{table}_no_{verb.lower()}"
    if dialect == "postgresql":
        return (
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {verb} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION clerestory_append_only()"
        )
    return (
        f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
