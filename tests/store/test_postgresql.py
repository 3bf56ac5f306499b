"""What only a store on PostgreSQL meets: locks, roles, poolers, settings of others, several stores in one database."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection
from tests.support.postgresql import PostgresServer, run_pgbouncer

from clerestory.core.errors import ClerestoryError, InputError, IntegrityError, MissingExtra
from clerestory.core.evidence import Evidence
from clerestory.core.release import Decision, Event
from clerestory.store import Store, database_errors, migrate_store, open_store
from clerestory.store.schema import APPEND_ONLY, metadata

MakeEvent, MakeEvidence, Start = Callable[..., Event], Callable[..., Evidence], Callable[..., subprocess.Popen[str]]
TABLES = [table.name for table in APPEND_ONLY]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "store-on-postgresql.md"


@pytest.fixture
def database(postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Only the one."""
    with postgresql.schema() as schema:
        monkeypatch.setenv("CLERESTORY_DB", postgresql.url(schema))
        yield schema


@pytest.fixture
def owner(postgresql: PostgresServer, database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Another connection of the owner of the tables, in the schema of the store."""
    with postgresql.connect(options=f"-csearch_path={database}") as connection:
        yield connection


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a lock gives up after a second."""
    monkeypatch.setattr(database_errors, "BUSY_SECONDS", 1)


def one_sentence(error: pytest.ExceptionInfo[ClerestoryError]) -> str:
    assert error.value.fix
    assert "\n" not in str(error.value)
    return str(error.value)


# Locks of others.


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("table", ["journal", "meta", "releases"])
def test_maintenance_of_a_table_holds_nobody_up(
    store: Store, owner: psycopg.Connection[object], make_event: MakeEvent, table: str
) -> None:
    """VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY hold this lock; CREATE TRIGGER would wait for them."""
    with owner.transaction():
        owner.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
        with open_store(store.home) as second:
            assert second.releases() == []
            assert second.journal.append(make_event("icons@1")).seq == 1
            assert second.database.migrate() == []


def test_opening_a_store_changes_nothing_in_the_database(
    postgresql: PostgresServer, store: Store, owner: psycopg.Connection[object]
) -> None:
    owner.execute("CREATE FUNCTION no_ddl() RETURNS event_trigger AS $$BEGIN RAISE 'DDL'; END$$ LANGUAGE plpgsql")
    owner.execute("CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()")
    try:
        with open_store(store.home) as second:
            assert second.releases() == []
    finally:
        owner.execute("DROP EVENT TRIGGER no_ddl")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("step", ["open", "read", "write", "migrate"])
def test_a_lock_that_is_not_released_becomes_one_sentence(
    store: Store, owner: psycopg.Connection[object], make_event: MakeEvent, step: str
) -> None:
    steps: dict[str, Callable[[], object]] = {
        "open": lambda: open_store(store.home),
        "read": lambda: store.journal.records(),
        "write": lambda: store.journal.append(make_event("icons@1")),
        "migrate": lambda: store.database.migrate(),
    }
    owner.execute("DROP TRIGGER journal_no_truncate ON journal")
    with owner.transaction():
        owner.execute("LOCK TABLE journal, meta IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ClerestoryError, match="kept the store locked for more than 1 s") as error:
            steps[step]()
    one_sentence(error)
    steps[step]()


def test_a_writer_that_has_stopped_is_disconnected_and_told_that_nothing_was_recorded(
    store: Store, workers: Start, make_event: MakeEvent
) -> None:
    process = hold(workers, store, idle_seconds=1)
    assert store.journal.append(make_event("icons@1")).seq == 1
    out, _ = process.communicate("go on\n", timeout=60)
    assert "was lost: " in out
    assert "nothing of the last step was recorded" in out
    assert [record.event.subject for record in store.journal.records()] == ["icons@1"]
    assert store.journal.verify() == []


def hold(workers: Start, store: Store, idle_seconds: int) -> subprocess.Popen[str]:
    """A process that stops in the middle of a write transaction until it reads a line."""
    process = workers("hold", store.home, idle_seconds)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "holding\n"
    return process


def test_stores_in_two_schemas_do_not_wait_for_each_other_and_two_roles_with_one_store_do(
    postgresql: PostgresServer, database: str, store: Store, tmp_path: Path, make_event: MakeEvent, patient: None
) -> None:
    with postgresql.schema() as other, store.database.writing():
        with open_store(tmp_path / "other", postgresql.url(other)) as second:
            assert second.journal.append(make_event("icons@1")).seq == 1
        # The same tables, found through a search path whose first schema is another.
        with postgresql.schema() as empty:
            third = open_store(store.home, postgresql.url(f"{empty},{database}"))
            with pytest.raises(ClerestoryError, match="kept the store locked"):
                third.journal.append(make_event("icons@1"))
            third.close()


# Settings of roles and servers.


@pytest.mark.parametrize("level", ["repeatable read", "serializable", "read uncommitted"])
def test_the_defaults_of_a_role_do_not_matter(
    postgresql: PostgresServer, database: str, store: Store, make_event: MakeEvent, level: str
) -> None:
    role = postgresql.new_name("role")
    settings = {
        "default_transaction_isolation": f"'{level}'",
        "default_transaction_read_only": "on",
        "synchronous_commit": "off",
        "lock_timeout": "1",
        "idle_in_transaction_session_timeout": "500",
        "client_encoding": "'LATIN1'",
        "timezone": "'Asia/Kathmandu'",
    }
    postgresql.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
    for name, value in settings.items():
        postgresql.execute(f"ALTER ROLE {role} SET {name} = {value}")
    stores = [open_store(store.home, postgresql.url(database, role)) for _ in range(4)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(lambda s: [s.journal.append(make_event(f"ü🙂@{i}")) for i in range(10)], stores))
    assert [record.seq for record in store.journal.records()] == list(range(1, 41))
    assert store.journal.verify() == []
    with stores[0].database.writing() as connection:
        shown = connection.exec_driver_sql("SELECT current_setting('synchronous_commit')").scalar()
        assert shown == "on"
    for each in stores:
        each.close()


def test_no_statement_is_prepared(store: Store, make_event: MakeEvent) -> None:
    for number in range(30):  # psycopg prepares what it has seen five times
        store.journal.append(make_event(f"icons@{number}"))
    with store.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
def test_a_pooler_in_transaction_mode_changes_nothing(
    postgresql: PostgresServer, tmp_path: Path, make_event: MakeEvent
) -> None:
    database = postgresql.new_name("pooled")
    postgresql.execute(f"CREATE DATABASE {database}")
    with run_pgbouncer(postgresql) as pooler:
        stores = [open_store(tmp_path / "home", pooler.url(database=database)) for _ in range(6)]
        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(lambda s: [s.journal.append(make_event(f"icons@{i}")) for i in range(20)], stores))
        assert [record.seq for record in stores[0].journal.records()] == list(range(1, 121))
        assert stores[0].journal.verify() == []
        for each in stores:
            each.close()


def test_names_are_sorted_by_code_point_whatever_the_collation(
    store: Store, add_releases: Callable[[int], str], make_event: MakeEvent
) -> None:
    digest = add_releases(1)
    names = ["icons", "a-b", "ab", "a_b", "a.c", "b", "a1", "1a"]
    for name in names:
        store.add_release(name, digest, [], decision(digest), "Ada", "a test")
        for alias in ("x-y", "xz", "x.a"):
            store.move_alias(name, alias, 1, 0, make_event(f"{name}@1"))
        store.put_dataset(name, name, "a" * 64, 1, make_event(name, "data_added"))
    assert [row.name for row in store.datasets()] == sorted(names)
    assert [(a.name, a.alias) for a in store.aliases()] == [
        (name, alias) for name in sorted(names) for alias in ("x-y", "x.a", "xz")
    ]


def decision(model: str) -> Decision:
    return Decision("ship", "p", "0" * 64, model, ())


# Who may do what.


def blocks(language: str) -> list[str]:
    """The code blocks of the page that people read."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_grants_of_the_page_let_the_application_work_and_nobody_change_a_record(
    postgresql: PostgresServer, tmp_path: Path, model: Path, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, grant = blocks("sql")
    for statement in create.split(";"):  # CREATE DATABASE cannot be part of several statements
        if statement.strip():
            postgresql.execute(statement, "postgres")
    urls = {who: postgresql.url("", f"clerestory_{who}", "clerestory") for who in ("owner", "app", "reader")}
    location, created = migrate_store(tmp_path / "nowhere", urls["owner"])
    assert "clerestory_owner" in location
    assert set(metadata.tables) <= set(created)
    assert not (tmp_path / "nowhere").exists()
    with postgresql.connect("clerestory_owner", "clerestory") as connection:
        connection.execute(grant)

    with open_store(tmp_path / "home", urls["app"]) as store:
        digest = store.put_model(model)
        store.cache_put("embeddings/x", store.blobs.put(b"1"))
        store.cache_put("embeddings/x", store.blobs.put(b"2"))
        store.put_dataset("icons", "icons", "a" * 64, 1, make_event("icons", "data_added"))
        for _ in range(2):
            store.add_release("icons", digest, [], decision(digest), "Ada", "a test")
        store.move_alias("icons", "live", 1, 0, make_event("icons@1"))
        store.move_alias("icons", "live", 2, 1, make_event("icons@2"))
        assert store.journal.verify() == store.database.verify() == store.verify_registry("icons") == []
        with (
            pytest.raises(InputError, match="lacks a right: permission denied") as error,
            store.database.writing() as connection,
        ):
            connection.exec_driver_sql("CREATE TABLE more (x int)")
        assert "docs/how-to/store-on-postgresql.md" in one_sentence(error)
    forbidden = [
        *(f"{verb} {table}" for table in TABLES for verb in ("DELETE FROM", "TRUNCATE", "DROP TABLE")),
        *(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in TABLES),
        "UPDATE journal SET kind = 'x'",
        "UPDATE meta SET value = '9'",
        "UPDATE models SET manifest = '{}'",
        "DROP FUNCTION clerestory_append_only CASCADE",
        "ALTER FUNCTION clerestory_append_only() RENAME TO harmless",
        "SET session_replication_role = replica",
    ]
    for role in ("clerestory_app", "clerestory_reader"):
        with postgresql.connect(role, "clerestory") as connection:
            for statement in forbidden:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)

    with open_store(tmp_path / "home", urls["reader"]) as reader:
        reader.cache_content("embeddings/x", b"what a server would like to keep")
        assert reader.put_model(model) == digest
        assert [release.ref for release in reader.releases()] == ["icons@2", "icons@1"]
        assert reader.resolve("icons").digest == digest
        assert reader.verify_registry("icons") == []
        with pytest.raises(InputError, match="lacks a right: permission denied for table") as error:
            reader.journal.append(make_event("icons@3"))
        one_sentence(error)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("sql", ["TRUNCATE {}", "TRUNCATE {} CASCADE", "TRUNCATE aliases, {} RESTART IDENTITY"])
def test_the_owner_cannot_truncate_records_by_accident(
    store: Store, owner: psycopg.Connection[object], table: str, sql: str
) -> None:
    """Also when the table is empty."""
    with pytest.raises(psycopg.errors.RaiseException, match=f"{table} is append-only"):
        owner.execute(sql.format(table))
    with (
        pytest.raises(IntegrityError, match=f"refuses the change: {table} is append-only") as error,
        store.database.writing() as connection,
    ):
        connection.exec_driver_sql(sql.format(table))
    one_sentence(error)


# Errors of the server.


def test_text_that_postgresql_cannot_hold_is_refused_in_one_sentence(store: Store, make_event: MakeEvent) -> None:
    for text in ("a\0b", "\ud800"):
        with pytest.raises(InputError, match="cannot be stored") as error:
            store.put_dataset("icons", text, "a" * 64, 1, make_event("icons", "data_added"))
        one_sentence(error)
    assert store.datasets() == []
    assert store.journal.records() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": "/nowhere"}, "cannot be reached"),
        ({"database": "nowhere"}, 'cannot be reached: .*database "nowhere" does not exist'),
        ({"username": "nobody_at_all"}, "cannot be reached: .*nobody_at_all"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_sentence_without_the_password(
    store: Store, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    url = store.database.url.set(password="hunter2")
    url = url.update_query_dict(change) if "host" in change else url.set(**change)  # type: ignore[arg-type]
    with pytest.raises(ClerestoryError, match=message) as error:
        open_store(tmp_path / "home", url.render_as_string(hide_password=False))
    assert "hunter2" not in one_sentence(error)
    assert "CLERESTORY_DB" in error.value.fix


def test_a_lost_connection_is_one_sentence_and_the_next_step_has_a_new_one(
    store: Store, owner: psycopg.Connection[object], make_event: MakeEvent
) -> None:
    def lose(connection: Connection) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        store.journal.write(connection, make_event("icons@1"))
        owner.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        store.journal.write(connection, make_event("icons@2"))

    with (
        pytest.raises(ClerestoryError, match=r"the connection to .* was lost: ") as error,
        store.database.writing() as connection,
    ):
        lose(connection)
    one_sentence(error)
    assert store.journal.append(make_event("icons@3")).seq == 1


@pytest.mark.parametrize("url", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_spellings_of_the_url_are_the_same(postgresql: PostgresServer, tmp_path: Path, url: str) -> None:
    with postgresql.schema() as schema, open_store(tmp_path, postgresql.url(schema).replace("postgresql", url, 1)) as s:
        assert s.database.url.drivername == "postgresql+psycopg"


def test_another_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match="needs a driver"):
        open_store(tmp_path, "postgresql+psycopg2://u@host/x")


@pytest.mark.parametrize("statement", ["CREATE TABLE models (id int)", "CREATE TABLE meta (id int)"])
def test_tables_of_another_application_are_left_alone(
    postgresql: PostgresServer, tmp_path: Path, statement: str
) -> None:
    with postgresql.schema() as schema:
        url = postgresql.url(schema)
        with postgresql.connect(options=f"-csearch_path={schema}") as connection:
            connection.execute(statement)
            with pytest.raises(InputError, match="another application") as error:
                open_store(tmp_path / "home", url)
            assert "schema of its own" in one_sentence(error)
            tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
            assert connection.execute(tables).fetchone() == (1,)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    postgresql: PostgresServer, tmp_path: Path, encoding: str
) -> None:
    name = postgresql.new_name("narrow")
    postgresql.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    )
    with pytest.raises(InputError, match=f"has the encoding {encoding}") as error:
        open_store(tmp_path / "home", postgresql.url("", database=name))
    one_sentence(error)
