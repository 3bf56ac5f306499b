"""Tampering with the journal is detected."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, create_engine
from tests.support.postgresql import ON_SQLITE

from clerestory.core.errors import IntegrityError
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.store import Store
from clerestory.store.schema import journal

MakeEvent = Callable[..., Event]


@pytest.fixture
def full(store: Store, make_event: MakeEvent) -> Store:
    """A store with ten records and checkpoints after the fifth and the tenth."""
    for number in range(1, 11):
        store.journal.append(make_event(f"icons@{number}", note="ü" * number))
        if number % 5 == 0:
            store.journal.checkpoint(now())
    assert store.journal.verify() == []
    return store


_TRIGGERS = {
    "sqlite": "SELECT name, '' FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname, ' ON ' || tgrelid::regclass FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid "
    "WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace",
}


@contextmanager
def tamper(store: Store) -> Iterator[Connection]:
    """The database as its owner sees it, who removes the triggers first."""
    engine = create_engine(store.database.url)
    with engine.begin() as connection:
        for name, on in connection.exec_driver_sql(_TRIGGERS[engine.dialect.name]).all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}{on}")
        yield connection
    engine.dispose()


def codes(findings: list[Finding]) -> set[str]:
    assert all(finding.state == "fail" for finding in findings)
    return {finding.code for finding in findings}


def test_the_chain_is_what_the_specification_says(full: Store) -> None:
    """An oracle from the two standard parts: RFC 8785 and SHA-256."""
    previous = bytes(32)
    for number, record in enumerate(full.journal.records(), start=1):
        event = record.event
        plain = {
            "kind": event.kind,
            "subject": event.subject,
            "who": event.who,
            "why": event.why,
            "when": event.when,
            "details": dict(event.details),
        }
        digest = hashlib.sha256(previous + rfc8785.dumps(plain)).digest()
        assert (record.seq, record.previous, record.hash) == (number, previous.hex(), digest.hex())
        previous = digest


def test_records_by_subject_and_the_newest_few(full: Store, make_event: MakeEvent) -> None:
    full.journal.append(make_event("Icons@1"))
    full.journal.append(make_event("icons_2@1"))
    assert [record.seq for record in full.journal.records("icons@1")] == [1, 10]
    assert [record.seq for record in full.journal.records("icons_")] == [12]
    assert [record.seq for record in full.journal.records("icons@", limit=3)] == [8, 9, 10]
    assert [record.seq for record in full.journal.records(limit=2)] == [11, 12]


@pytest.mark.parametrize("table", ["journal", "evidence", "releases", "datasets"])
@pytest.mark.parametrize("sql", ["UPDATE {} SET position = position", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_change_what_is_append_only(
    store: Store,
    make_event: MakeEvent,
    add_releases: Callable[[int], str],
    make_evidence: Callable[..., Evidence],
    table: str,
    sql: str,
) -> None:
    add_releases(1)
    store.put_evidence(make_evidence())
    store.put_dataset("icons", "icons", "a" * 64, 1, make_event("icons", "data_added"))
    sql = sql.replace("position", "seq") if table == "journal" else sql
    with pytest.raises(IntegrityError, match=f"{table} is append-only"), store.database.writing() as connection:
        connection.exec_driver_sql(sql.format(table))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "UPDATE journal SET record = replace(record, 'Ada', 'Eve') WHERE seq = 4",
            "record 4 .* does not match its hash",
        ),
        ("UPDATE journal SET kind = 'gated' WHERE seq = 4", "record 4 .*is indexed as gated"),
        ("UPDATE journal SET subject = 'icons@9' WHERE seq = 4", "record 4 .*is indexed as promoted icons@9"),
        ("UPDATE journal SET hash = 'x' WHERE seq = 10", "record 10 .* does not match its hash"),
        ("DELETE FROM journal WHERE seq = 4", "record 4 is missing"),
        ("DELETE FROM journal WHERE seq = 1", "record 1 is missing"),
        ("DELETE FROM journal WHERE seq = 10", "the journal had 10 records on .* and has 9 now"),
        ("DELETE FROM journal", "the journal had 5 records on .* and has 0 now"),
    ],
)
def test_a_changed_or_removed_record_is_found(full: Store, sql: str, message: str) -> None:
    with tamper(full) as connection:
        connection.exec_driver_sql(sql)
    findings = full.journal.verify()
    assert codes(findings) == {"CLR-S004"}
    assert re.search(message, findings[0].message), findings[0].message


def test_a_chain_written_anew_does_not_fit_its_signed_checkpoints(full: Store) -> None:
    """Whoever can write the database can hash everything again; not sign it."""
    with tamper(full) as connection:
        previous = bytes(32)
        for seq, record in connection.exec_driver_sql("SELECT seq, record FROM journal ORDER BY seq").all():
            changed = record.replace("Ada", "Eve") if seq == 7 else record
            digest = hashlib.sha256(previous + changed.encode()).digest()
            values = {"record": changed, "hash": digest.hex(), "previous": previous.hex()}
            connection.execute(journal.update().where(journal.c.seq == seq).values(values))
            previous = digest
    (finding,) = full.journal.verify()
    assert finding.where.endswith("0000000010.json")
    assert "record 10 of the journal differs from the one signed" in finding.message


def test_every_flipped_byte_of_a_checkpoint_is_found(full: Store) -> None:
    path = full.home / "checkpoints" / "0000000005.json"
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        findings = full.journal.verify()
        assert [finding.where for finding in findings] == [str(path)], f"byte {at}"
    path.write_bytes(content)
    assert full.journal.verify() == []


def test_another_or_a_missing_key_is_found(full: Store) -> None:
    key = full.home / "keys" / "journal.ed25519"
    assert key.stat().st_mode & 0o777 == 0o600
    content = key.read_bytes()
    key.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert "signed by another key" in full.journal.verify()[0].message
    key.unlink()
    assert codes(full.journal.verify()) == {"CLR-S002"}


def test_a_checkpoint_can_be_checked_by_others_with_its_public_key(full: Store) -> None:
    point = json.loads((full.home / "checkpoints" / "0000000010.json").read_text(encoding="utf-8"))
    signature = bytes.fromhex(point.pop("signature"))
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(point["key"])).verify(signature, rfc8785.dumps(point))
    assert (point["length"], point["head"]) == full.journal.head()


@ON_SQLITE
def test_every_flipped_byte_of_a_record_in_the_database_file_is_found(full: Store) -> None:
    full.close()
    with closing(sqlite3.connect(full.home / "store.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        record = connection.execute("SELECT record FROM journal WHERE seq = 6").fetchone()[0].encode()
    path: Path = full.home / "store.db"
    content = path.read_bytes()
    start = content.index(record)
    for at in range(start, start + len(record), 11):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        findings = full.journal.verify() + full.database.verify()
        assert findings, f"byte {at - start} of the record"
        full.close()


def test_tables_that_differ_from_the_journal_are_found(
    store: Store, make_event: MakeEvent, add_releases: Callable[[int], str]
) -> None:
    add_releases(3)
    store.move_alias("icons", "live", 1, 0, make_event("icons@1"))
    assert store.verify_registry("icons") == []
    with tamper(store) as connection:
        connection.exec_driver_sql("UPDATE aliases SET number = 2")
        connection.exec_driver_sql("UPDATE releases SET body = replace(body, 'Ada', 'Eve') WHERE number = 1")
        connection.exec_driver_sql("UPDATE releases SET body = '{' WHERE number = 2")
        connection.exec_driver_sql("DELETE FROM releases WHERE number = 3")
        connection.exec_driver_sql(
            "INSERT INTO releases SELECT 99, name, 4, model, body FROM releases WHERE number = 1"
        )
    findings = store.verify_registry("icons")
    assert codes(findings) == {"CLR-S001"}
    assert [finding.where.rpartition(", ")[2] for finding in findings] == [
        *("icons@1", "icons@2", "icons@3", "icons@4"),
        "icons@live",
    ]
    with pytest.raises(IntegrityError, match="icons@2 in the database is damaged"):
        store.release("icons", 2)


def test_what_was_added_since_is_verified_and_an_earlier_change_by_the_whole(
    full: Store, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerestory.store.journal.SHORT", 3)
    monkeypatch.setattr("clerestory.store.journal.PAGE", 4)
    assert full.journal.verify() == []
    full.journal.append(make_event("icons@11"))
    full.journal.checkpoint(now())
    assert full.journal.verify_new() == []
    with tamper(full) as connection:
        connection.execute(journal.update().where(journal.c.seq == 2).values(record="{}"))
    assert full.journal.verify_new() == []  # it is not read again
    assert codes(full.journal.verify()) == {"CLR-S004"}
    with tamper(full) as connection:
        connection.execute(journal.update().where(journal.c.seq == 11).values(hash="f" * 64))
    assert codes(full.journal.verify_new()) == {"CLR-S004"}


def test_a_truncated_journal_is_found_by_what_was_verified_before(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerestory.store.journal.SHORT", 3)
    with tamper(full) as connection:
        connection.execute(journal.delete().where(journal.c.seq > 8))
    assert codes(full.journal.verify_new()) == {"CLR-S004"}


def test_the_history_of_a_name_is_read_once_and_again_after_the_store_was_restored(
    full: Store, make_event: MakeEvent
) -> None:
    def history() -> list[str]:
        with full.database.reading() as connection:
            return [record.event.subject for record in full.journal.history(connection, "icons@")]

    assert history() == [f"icons@{number}" for number in range(1, 11)]
    full.journal.append(make_event("photos@1"))
    full.journal.append(make_event("icons@11"))
    assert history() == [f"icons@{number}" for number in range(1, 12)]
    with tamper(full) as connection:
        connection.execute(journal.delete().where(journal.c.seq > 8))
    assert history() == [f"icons@{number}" for number in range(1, 9)]
    full.journal.append(make_event("icons@9"))
    assert history()[-1] == "icons@9"
    with suppress(ZeroDivisionError), full.database.writing() as connection:
        full.journal.write(connection, make_event("icons@10"))
        assert full.journal.history(connection, "icons@")[-1].event.subject == "icons@10"
        raise ZeroDivisionError
    assert history()[-1] == "icons@9"
