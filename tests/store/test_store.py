"""The store returns what was put into it; every error is one sentence."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.postgresql import ON_SQLITE

from clerestory.core.errors import Conflict, InputError, IntegrityError, MissingExtra, NotFound
from clerestory.core.evidence import Evidence
from clerestory.core.release import Decision, Event
from clerestory.store import AliasMove, Store, open_store

MakeEvidence, MakeEvent, AddReleases = Callable[..., Evidence], Callable[..., Event], Callable[[int], str]


def flip(path: Path, at: int) -> None:
    """Turn one bit of one byte round."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_importing_the_store_does_not_import_torch() -> None:
    heavy = "import sys, clerestory.store; print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "[]\n"


def test_home_comes_from_the_environment_else_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLERESTORY_HOME", raising=False)
    assert open_store().home == tmp_path / ".clerestory"
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "other"))
    assert open_store().home == tmp_path / "other"
    monkeypatch.setenv("CLERESTORY_DB", f"sqlite:///{tmp_path}/elsewhere/my.db")
    with open_store(tmp_path / "third") as store:
        assert store.database.location == str(tmp_path / "elsewhere" / "my.db")
        assert not (tmp_path / "third" / "store.db").exists()


# Blobs.


def test_a_blob_has_the_name_of_its_content_and_fans_out(store: Store) -> None:
    digest = store.blobs.put(b"content")
    assert store.blobs.path(digest) == store.home / "blobs" / digest[:2] / digest[2:4] / digest
    assert store.blobs.get(digest) == b"content"
    assert store.blobs.put(b"content") == digest
    assert not store.blobs.has("0" * 64)
    assert not store.blobs.has("")
    with pytest.raises(NotFound, match="0000"):
        store.blobs.get("0" * 64)


@pytest.mark.parametrize("at", [0, 500, 999])
def test_a_flipped_byte_in_a_blob_is_detected_and_putting_it_again_repairs_it(store: Store, at: int) -> None:
    content = bytes(1000)
    digest = store.blobs.put(content)
    path = store.blobs.path(digest)
    flip(path, at)
    with pytest.raises(IntegrityError, match=str(path)):
        store.blobs.get(digest)
    assert [(f.code, f.where) for f in store.blobs.verify(digest, "it")] == [("CLR-S001", str(path))]
    store.blobs.put(content)
    assert store.blobs.verify(digest, "it") == []


def test_leftovers_of_killed_processes_are_removed_after_a_day(store: Store) -> None:
    old, new, folder = (store.home / "tmp" / name for name in ("old", "new", "folder"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    (folder / "deep").mkdir(parents=True)
    two_days_ago = time.time() - 48 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    os.utime(folder, (two_days_ago, two_days_ago))
    open_store(store.home).close()
    assert not old.exists()
    assert not folder.exists()
    assert new.exists()


# Evidence and cached results.


def test_evidence_comes_back_equal_by_id_and_by_prefix(store: Store, make_evidence: MakeEvidence) -> None:
    made = make_evidence()
    assert store.put_evidence(made) == made.id == store.put_evidence(made)
    assert store.evidence(made.id) == made == store.evidence(made.id[:8])
    assert store.evidence(made.id).id == made.id
    with pytest.raises(NotFound, match="at least 8"):
        store.evidence(made.id[:7])
    with pytest.raises(NotFound, match="did you mean " + made.id[:12]):
        store.evidence(made.id[:11] + ("0" if made.id[11] != "0" else "1"))


def test_evidence_is_found_by_its_subject_newest_first(store: Store, make_evidence: MakeEvidence) -> None:
    made = [make_evidence(value, data=data) for value, data in ((0.1, "b" * 64), (0.2, "c" * 64), (0.3, "b" * 64))]
    for each in made:
        store.put_evidence(each)
    assert store.find_evidence("evaluate") == made[::-1]
    assert store.find_evidence("evaluate", model="a" * 64, data="b" * 64) == [made[2], made[0]]
    assert store.find_evidence("evaluate", model="f" * 64) == []
    assert store.find_evidence("train") == []


def test_evidence_whose_files_are_missing_is_refused(store: Store, make_evidence: MakeEvidence) -> None:
    made = make_evidence()
    store.blobs.path(made.artifacts["log"]).unlink()
    with pytest.raises(IntegrityError, match="log"):
        store.put_evidence(made)
    assert store.find_evidence("evaluate") == []


@pytest.mark.parametrize("part", ["json", "rows", "log"])
def test_a_flipped_byte_in_any_file_of_evidence_is_found(store: Store, make_evidence: MakeEvidence, part: str) -> None:
    made = make_evidence()
    store.put_evidence(made)
    assert store.verify_evidence(made.id) == []
    digest = {"json": made.id, "rows": made.rows, "log": made.artifacts["log"]}[part]
    flip(store.blobs.path(digest), 2)
    (finding,) = store.verify_evidence(made.id)
    assert (finding.code, finding.where) == ("CLR-S001", str(store.blobs.path(digest)))
    store.blobs.path(digest).unlink()
    (finding,) = store.verify_evidence(made.id)
    assert (finding.code, finding.where) == ("CLR-S002", str(store.blobs.path(digest)))
    if part == "json":
        with pytest.raises(NotFound):
            store.evidence(made.id)


def test_a_cache_key_follows_the_newest_blob_and_ignores_a_missing_one(store: Store) -> None:
    one, two = store.blobs.put(b"1"), store.blobs.put(b"2")
    assert store.cache_get("embeddings/x") is None
    store.cache_put("embeddings/x", one)
    store.cache_put("embeddings/x", two)
    assert store.cache_get("embeddings/x") == two
    store.blobs.path(two).unlink()
    assert store.cache_get("embeddings/x") is None


# Models and datasets.


def test_a_model_is_copied_whole_and_only_once(store: Store, model: Path) -> None:
    digest = store.put_model(model)
    assert store.put_model(str(model)) == digest
    assert store.model_folder(digest) == store.home / "models" / digest
    assert sorted(store.model_files(digest)) == ["config.json", "model.safetensors", "tokenizer/vocab.txt"]
    assert store.verify_model(digest) == []
    assert list((store.home / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer/vocab.txt"])
def test_a_flipped_lost_or_foreign_file_of_a_model_is_named(store: Store, model: Path, name: str) -> None:
    digest = store.put_model(model)
    file = store.model_folder(digest) / name
    flip(file, file.stat().st_size - 1)
    foreign = file.with_name("evil.py")
    foreign.write_bytes(b"import os")
    assert {(f.code, f.where) for f in store.verify_model(digest)} == {
        ("CLR-S001", str(file)),
        ("CLR-S003", str(foreign)),
    }
    file.unlink()
    assert ("CLR-S002", str(file)) in {(f.code, f.where) for f in store.verify_model(digest)}
    assert store.put_model(model) == digest, "putting the model in again repairs it"
    assert store.verify_model(digest) == []


def test_invalid_models_are_refused(store: Store, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        store.put_model(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is empty"):
        store.put_model(tmp_path / "empty")
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"pytorch_model\.bin may contain pickled code"):
        store.put_model(model)
    with pytest.raises(NotFound, match="no model named 'ffffffffffff'"):
        store.model_folder("f" * 64)


def test_the_newest_data_set_of_a_name_counts_and_each_change_is_in_the_journal(
    store: Store, make_event: MakeEvent
) -> None:
    for digest in ("a" * 64, "a" * 64, "b" * 64, "a" * 64):
        store.put_dataset("icons", "icons", digest, 3, make_event("icons", "data_added"))
    store.put_dataset("cats", "/cats", "c" * 64, 1, make_event("cats", "data_added"))
    assert [(row.name, row.digest) for row in store.datasets()] == [("cats", "c" * 64), ("icons", "a" * 64)]
    assert store.dataset("cats").size == 1
    assert [record.event.subject for record in store.journal.records()] == ["icons", "icons", "icons", "cats"]
    with pytest.raises(NotFound, match="did you mean icons"):
        store.dataset("icon")


# Releases and aliases.


def test_releases_are_numbered_within_their_name_with_the_live_release_as_parent(
    store: Store, add_releases: AddReleases, make_event: MakeEvent
) -> None:
    digest = add_releases(1)
    store.move_alias("icons", "live", 1, 0, make_event("icons@1"))
    decision = Decision("refuse", "p version 1", "0" * 64, digest, ())
    second = store.add_release("icons", digest, [], decision, "Bo", "better")
    other = store.add_release("cats", digest, [], decision, "Bo", "first of its name")
    assert (second.ref, second.parent, other.ref, other.parent) == ("icons@2", 1, "cats@1", 0)
    assert [release.ref for release in store.releases()] == ["cats@1", "icons@2", "icons@1"]
    assert store.releases("icons")[0] == store.release("icons", 2) == second
    gated = store.journal.records("icons@2")[0].event
    assert (gated.kind, gated.who, gated.why, gated.details["verdict"]) == ("gated", "Bo", "better", "refuse")


def test_a_release_needs_a_stored_model_stored_evidence_and_a_plain_name(
    store: Store, add_releases: AddReleases
) -> None:
    digest = add_releases(1)
    decision = Decision("ship", "p", "0" * 64, digest, ())
    with pytest.raises(NotFound, match="no model"):
        store.add_release("icons", "f" * 64, [], decision, "a", "b")
    with pytest.raises(NotFound, match="no evidence"):
        store.add_release("icons", digest, ["f" * 64], decision, "a", "b")
    with pytest.raises(InputError, match="is not a valid name of a model"):
        store.add_release("icons@3", digest, [], decision, "a", "b")
    assert len(store.releases()) == 1


def test_an_alias_moves_only_from_the_generation_that_was_seen(
    store: Store, add_releases: AddReleases, make_event: MakeEvent
) -> None:
    add_releases(2)
    assert store.alias("icons", "live") is None
    assert store.move_alias("icons", "live", 1, 0, make_event("icons@1")).generation == 1
    length = store.journal.head()[0]
    for stale in (0, 2):
        with pytest.raises(
            Conflict, match=r"icons@live was moved by another process: it points at icons@1 \(generation 1"
        ):
            store.move_alias("icons", "live", 2, stale, make_event("icons@2"))
    with pytest.raises(NotFound, match="did you mean icons@2"):
        store.move_alias("icons", "live", 22, 1, make_event("icons@22"))
    assert store.journal.head()[0] == length, "a move that did not happen is not in the journal"
    assert store.move_alias("icons", "live", 2, 1, make_event("icons@2", alias="x")).generation == 2
    details = store.journal.records()[-1].event.details
    assert dict(details) == {"alias": "x", "to.live": "2", "generation.live": "2"}


def test_two_aliases_move_together_or_not_at_all(
    store: Store, add_releases: AddReleases, make_event: MakeEvent
) -> None:
    add_releases(2)
    store.move_alias("icons", "live", 1, 0, make_event("icons@1"))
    with pytest.raises(Conflict):
        store.move_aliases("icons", [AliasMove("previous", 1, None), AliasMove("live", 2, 0)], make_event("icons@2"))
    assert store.alias("icons", "previous") is None
    store.move_aliases("icons", [AliasMove("live", 2, 1), AliasMove("previous", 1, None)], make_event("icons@2"))
    assert [(each.alias, each.number) for each in store.aliases("icons")] == [("live", 2), ("previous", 1)]
    store.move_aliases("icons", [AliasMove("previous", 0, 1)], make_event("icons@2"))
    assert [each.alias for each in store.aliases()] == ["live"]
    assert store.move_alias("icons", "previous", 1, 0, make_event("icons@2")).generation == 3


def test_references_resolve_to_one_model(store: Store, add_releases: AddReleases, make_event: MakeEvent) -> None:
    digest = add_releases(2)
    with pytest.raises(NotFound, match="no release of icons is live"):
        store.resolve("icons")
    store.move_alias("icons", "live", 2, 0, make_event("icons@2"))
    for ref, number in (("icons@1", 1), ("icons@2", 2), ("icons@live", 2), ("icons", 2)):
        resolved = store.resolve(ref)
        assert resolved.release is not None
        assert (resolved.digest, resolved.release.number) == (digest, number)
    for ref in (digest, digest[:8]):
        assert store.resolve(ref).digest == digest
        assert store.resolve(ref).release is None


@pytest.mark.parametrize(
    ("ref", "near"),
    [
        ("icon@2", "icons@2"),
        ("icons@7", "icons@1"),
        ("icons@liv", "icons@live"),
        ("icns", "icons"),
        ("icons@²", "icons@2"),
    ],
)
def test_unknown_references_name_the_closest(
    store: Store, add_releases: AddReleases, make_event: MakeEvent, ref: str, near: str
) -> None:
    add_releases(2)
    store.move_alias("icons", "live", 2, 0, make_event("icons@2"))
    with pytest.raises(NotFound) as caught:
        store.resolve(ref)
    assert near in caught.value.closest
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("digits", [9, 10, 19, 20, 40, 5000])
def test_a_release_number_of_any_length_is_only_unknown(store: Store, add_releases: AddReleases, digits: int) -> None:
    add_releases(1)
    with pytest.raises(NotFound, match="icons@999"):
        store.resolve("icons@" + "9" * digits)


def test_an_empty_store_names_the_first_command(store: Store) -> None:
    with pytest.raises(NotFound, match="photos or starter; or train one: clerestory train"):
        store.resolve("icons@live")


# Unwritable folders and unusable databases.


@pytest.mark.parametrize("home", ["file/home", "file"])
def test_a_home_that_cannot_be_created_is_reported_in_one_sentence(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot be written: (Not a directory|File exists) — choose another folder"):
        open_store(tmp_path / home)


def test_a_home_that_is_not_writable_is_reported_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"/proc/clerestory cannot be written: .+ — choose another folder with --home"):
        open_store("/proc/clerestory")


def test_a_missing_blob_folder_is_reported_in_one_sentence(store: Store) -> None:
    (store.home / "blobs").rmdir()
    (store.home / "blobs").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written: (Not a directory|File exists)"):
        store.blobs.put(b"x")


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("not a url", InputError, "is not a database url"),
        ("mysql://host/x", InputError, "cannot use the database mysql"),
        ("sqlite://", InputError, "cannot be in memory"),
        ("postgresql+nodriver://u:secret@host/x", MissingExtra, "needs a driver"),
    ],
)
def test_invalid_databases_are_refused(tmp_path: Path, url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_store(tmp_path, url)
    assert "secret" not in str(caught.value)


@ON_SQLITE
def test_a_database_file_that_is_damaged_is_named(store: Store, tmp_path: Path) -> None:
    store.close()
    (store.home / "store.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(IntegrityError, match=r"store\.db is damaged"):
        open_store(store.home)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_format(home: Path, version: str) -> Path:
    """Make a closed store one of another format."""
    with closing(sqlite3.connect(home / "store.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = ?", (version,))
    return home


@ON_SQLITE
def test_a_store_of_an_earlier_version_is_left_alone_and_the_error_names_the_command(
    store: Store, model: Path, make_evidence: MakeEvidence
) -> None:
    digest = store.put_model(model)
    store.put_evidence(make_evidence())
    store.close()
    home = as_format(store.home, "1")
    (home / "tmp" / "leftover").write_bytes(b"half")
    os.utime(home / "tmp" / "leftover", (0, 0))
    before, entries = contents(home), sorted(home.rglob("*"))
    with pytest.raises(InputError, match=r"created by an earlier version .*format 1, and this version reads") as caught:
        open_store(home)
    message = str(caught.value)
    assert "\n" not in message
    assert f"clerestory evaluate {home}/models/{digest} --data icons --home" in message
    assert contents(home) == before
    assert sorted(home.rglob("*")) == entries


@ON_SQLITE
def test_an_earlier_database_that_a_url_names_is_refused_too(store: Store) -> None:
    store.close()
    home = as_format(store.home, "1")
    with pytest.raises(InputError, match="created by an earlier version"):
        open_store(home, f"sqlite:///{home}/store.db")


def test_a_store_of_a_newer_version_says_to_upgrade(store: Store) -> None:
    with store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = '99'")
    with pytest.raises(InputError, match="created by a newer version .*format 99, .* — upgrade Clerestory"):
        open_store(store.home)


def test_a_damaged_cached_result_is_computed_again(store: Store) -> None:
    store.cache_content("results/x", b"cached")
    assert store.cache_read("results/x") == b"cached"
    blob = store.cache_get("results/x")
    assert blob
    store.blobs.path(blob).chmod(0o600)
    store.blobs.path(blob).write_bytes(b"damage")
    assert store.cache_read("results/x") is None
    assert store.cache_read("results/y") is None
