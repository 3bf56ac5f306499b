"""API keys: only their hash is stored, they end when they should, and the journal knows who made them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.cli.main import run
from clerestory.core.errors import InputError, NotFound
from clerestory.store import Store, open_store
from clerestory.store.operations.api_keys import (
    IssuedKey,
    KeyRing,
    KeyScope,
    create_key,
    hash_key,
    list_keys,
    parse_scopes,
    revoke_key,
    rotate_key,
)

INFER = (KeyScope.INFER,)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        yield opened


def make(store: Store, label: str = "laptop", expires: float = 0.0) -> IssuedKey:
    return create_key(store, label, INFER, "ada", "a test", expires=expires)


def test_a_key_has_256_random_bits_and_a_visible_id(store: Store) -> None:
    first, second = make(store), make(store)
    assert first.secret.startswith(f"{first.key.id}_")
    assert len(first.secret.split("_", 2)[2]) == 43  # 32 bytes in base64
    assert first.secret != second.secret
    assert first.key.id != second.key.id


def test_neither_the_database_nor_the_journal_has_the_key(store: Store) -> None:
    issued = make(store)
    rotated = rotate_key(store, issued.key.id, 60, "ada", "yearly")
    store.close()
    content = b"".join(file.read_bytes() for file in store.home.rglob("*") if file.is_file())
    for each in (issued, rotated):
        assert each.secret.encode() not in content
        assert each.secret.split("_", 2)[2].encode() not in content
        assert hash_key(each.secret).encode() in content
    kinds = [record.event.kind for record in store.journal.records()]
    assert kinds == ["api_key_created", "api_key_rotated"]
    assert not store.journal.verify()


def test_the_ring_recognises_valid_keys_only(store: Store) -> None:
    now = time.time()
    valid, ending, revoked = make(store), make(store, expires=now + 100), make(store)
    revoke_key(store, revoked.key.id, "ada", "lost")
    ring = KeyRing.of(store)
    assert len(ring) == 3
    assert ring.check(valid.secret, now) == (valid.key, "valid")
    assert ring.check(ending.secret, now)[1] == "valid"
    assert ring.check(ending.secret, now + 100)[1] == "expired"
    assert ring.check(revoked.secret, now)[1] == "revoked"
    for wrong in (
        "",
        valid.key.id,
        valid.secret[:-1],
        valid.secret + "x",
        f"{ending.key.id}{valid.secret[12:]}",
        "\ud800",
    ):
        assert ring.check(wrong, now) == (None, "unknown"), wrong


@given(st.text(max_size=300))
def test_no_other_text_is_a_key(text: str) -> None:
    assert KeyRing().check(text, 0.0) == (None, "unknown")


def test_a_rotated_key_overlaps_and_ends(store: Store) -> None:
    old = make(store)
    new = rotate_key(store, old.key.id[:8], 3600, "ada", "yearly")
    assert (new.key.replaces, new.key.scopes, new.key.label) == (old.key.id, old.key.scopes, old.key.label)
    ring, now = KeyRing.of(store), time.time()
    assert ring.check(old.secret, now + 3500)[1] == "valid"
    assert ring.check(old.secret, now + 3700)[1] == "expired"
    assert ring.check(new.secret, now + 3700)[1] == "valid"
    revoke_key(store, old.key.id, "ada", "done")
    with pytest.raises(InputError, match="is revoked"):
        rotate_key(store, old.key.id, 1, "ada", "again")


def test_a_rotation_never_prolongs_the_old_key(store: Store) -> None:
    old = make(store, expires=time.time() + 10)
    rotate_key(store, old.key.id, 3600, "ada", "soon")
    assert {key.id: key.expires for key in list_keys(store)}[old.key.id] == old.key.expires


def test_revoking_twice_changes_nothing(store: Store) -> None:
    key = make(store).key
    first = revoke_key(store, key.id, "ada", "lost")
    assert revoke_key(store, key.id, "bob", "lost too") == first
    assert len(store.journal.records(kinds=["api_key_revoked"])) == 1


def test_what_cannot_be_a_key_is_refused_in_one_sentence(store: Store) -> None:
    with pytest.raises(InputError, match="no usable label"):
        create_key(store, " ", INFER, "ada", "why")
    with pytest.raises(InputError, match="no usable label"):
        create_key(store, "a\nb", INFER, "ada", "why")
    with pytest.raises(InputError, match="in the past"):
        make(store, expires=1.0)
    with pytest.raises(InputError, match="not a scope") as unknown:
        parse_scopes(["infr"])
    assert unknown.value.closest == ("infer",)
    with pytest.raises(InputError, match="no scope"):
        parse_scopes([])
    with pytest.raises(NotFound):
        revoke_key(store, "clr_nothing", "ada", "why")
    make(store), make(store)
    with pytest.raises(NotFound, match="begins 2 keys"):
        revoke_key(store, "clr_", "ada", "why")
    assert len(list_keys(store)) == 2


def test_an_admin_may_do_everything(store: Store) -> None:
    key = create_key(store, "root", (KeyScope.ADMIN,), "ada", "why").key
    assert all(key.allows(scope) for scope in KeyScope)
    assert [scope for scope in KeyScope if make(store).key.allows(scope)] == [KeyScope.INFER]


def test_the_commands_show_the_key_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home"), "--json"]
    assert run(["api-key", "create", "ci", "--scope", "infer", "--why", "tests", *home]) == 0
    made = json.loads(capsys.readouterr().out)
    assert run(["api-key", "list", *home]) == 0
    listed = capsys.readouterr().out
    assert made["key"] not in listed
    assert [each["id"] for each in json.loads(listed)] == [made["id"]]
    assert run(["api-key", "rotate", made["id"], "--overlap-hours", "1", "--why", "tests", *home]) == 0
    assert json.loads(capsys.readouterr().out)["replaces"] == made["id"]
    assert run(["api-key", "revoke", made["id"], "--why", "tests", *home]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "revoked"
    assert run(["api-key", "create", "ci", "--expires", "tomorrow", "--why", "tests", *home]) == 2
    with sqlite3.connect(tmp_path / "home" / "store.db") as database:
        assert database.execute("select count(*) from api_keys").fetchone() == (2,)
