"""PostgreSQL as the database of a store.

What a role, a database or a connection pooler may set differently is set here for every transaction, so that the
guarantees of the store do not depend on it. Session settings would not survive PgBouncer's transaction mode.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from clerestory.store import database_errors

DRIVER = "postgresql+psycopg"
WRITER_LOCK = 0x636C6572  # first key of the advisory lock: a single writer, as in SQLite
IDLE_SECONDS = 15  # a writer that has stopped inside a transaction is disconnected, before the others give up waiting

_CONNECTION = {
    "prepare_threshold": None,  # a pooler gives each transaction another session, which has not prepared anything
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "application_name": "clerestory",
}

_SETTINGS = text(
    "SELECT set_config('lock_timeout', :lock, true), set_config('idle_in_transaction_session_timeout', :idle, true), "
    "set_config('synchronous_commit', "
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, "
    "true)"
)

# The second key is the schema that holds the tables, which is not always the first one of the search path: stores in
# several schemas of one database do not wait for each other, and roles with other search paths do.
_LOCK = text(
    "SELECT pg_advisory_xact_lock(:lock, hashtext(coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n "
    "ON n.oid = c.relnamespace WHERE c.oid = to_regclass('meta')), current_schema())))"
)


def postgresql_engine(url: URL) -> Engine:
    """An engine that checks a pooled connection before it uses it."""
    arguments: dict[str, Any] = {key: value for key, value in _CONNECTION.items() if key not in url.query}
    engine = create_engine(url, pool_pre_ping=True, connect_args=arguments, use_native_hstore=False)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    timeouts = {"lock": f"{database_errors.BUSY_SECONDS}s", "idle": f"{IDLE_SECONDS}s"}
    connection.execute(_SETTINGS, timeouts)
    if connection.get_execution_options().get("clerestory_writes", False):
        connection.execute(_LOCK, {"lock": WRITER_LOCK})


def reader(engine: Engine) -> Engine:
    """Its transactions see one state and change nothing."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def writer(engine: Engine) -> Engine:
    """Its transactions see what the writer before them has committed, whatever the default of the role."""
    return engine.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False, clerestory_writes=True)
