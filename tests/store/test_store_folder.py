"""One store is one database and one folder of files, from whichever folder it is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.postgresql import PostgresServer

from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence
from clerestory.core.release import Event
from clerestory.store import Store, open_store

MakeEvent, MakeEvidence, AddReleases = Callable[..., Event], Callable[..., Evidence], Callable[[int], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database outside the folder of the store."""
    monkeypatch.delenv("CLERESTORY_DB", raising=False)
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'elsewhere' / 'records.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    with server.schema() as schema:
        yield server.url(schema)


@pytest.fixture
def store(tmp_path: Path, url: str) -> Iterator[Store]:
    with open_store(tmp_path / "first", url) as opened:
        yield opened


def test_a_second_folder_has_the_models_blobs_evidence_and_key_of_the_first(
    store: Store,
    url: str,
    tmp_path: Path,
    add_releases: AddReleases,
    make_evidence: MakeEvidence,
    make_event: MakeEvent,
) -> None:
    digest = add_releases(2)
    made = make_evidence()
    store.put_evidence(made)
    store.move_alias("icons", "live", 1, 0, make_event("icons@1"))
    with open_store(tmp_path / "second", url) as second:
        assert (second.home, second.files) == (tmp_path / "second", store.files)
        assert second.verify_model(digest) == []
        assert second.model_folder(digest) == store.model_folder(digest)
        assert second.evidence(made.id) == made
        second.move_alias("icons", "live", 2, 1, make_event("icons@2"))
        assert second.journal.verify() == []
        assert second.blobs.put(b"from the second")
    assert store.journal.verify() == []
    assert store.blobs.has(store.blobs.put(b"from the second"))
    assert not (tmp_path / "second" / "keys").exists()
    assert not (tmp_path / "second" / "blobs").exists()


def test_a_folder_of_a_database_is_never_opened_without_it(store: Store, url: str, tmp_path: Path) -> None:
    open_store(tmp_path / "second", url).close()
    for folder in (store.home, tmp_path / "second"):
        with pytest.raises(InputError, match="belongs to the store in .*, and CLERESTORY_DB is not set"):
            open_store(folder)
        assert not (folder / "store.db").exists()


def test_a_folder_whose_store_has_records_is_not_opened_with_another_database(
    tmp_path: Path, url: str, make_event: MakeEvent
) -> None:
    home = tmp_path / "old"
    with open_store(home) as old:
        old.journal.append(make_event("icons@1"))
    with pytest.raises(InputError, match=r"has a store in its own file store\.db") as error:
        open_store(home, url)
    assert "clerestory store copy NEW_FOLDER --database" in error.value.fix
    with open_store(home) as old:
        assert len(old.journal.records()) == 1
    with open_store(home, f"sqlite:///{home}/store.db") as same:
        assert len(same.journal.records()) == 1


def test_a_folder_of_another_store_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belongs to another store, whose database is"):
        open_store(store.home, f"sqlite:///{tmp_path}/third/records.db")


@pytest.mark.parametrize("what", ["gone", "empty", "of another store"])
def test_files_that_cannot_be_reached_are_named(store: Store, url: str, tmp_path: Path, what: str) -> None:
    """As on a machine where the disk is not mounted, or where another folder has the same path."""
    open_store(tmp_path / "second", url).close()
    moved = store.home.rename(tmp_path / "moved")
    if what != "gone":
        store.home.mkdir()
    if what == "of another store":
        mark = {**json.loads((moved / "store.json").read_text(encoding="utf-8")), "store": "other"}
        (store.home / "store.json").write_text(json.dumps(mark), encoding="utf-8")
    with pytest.raises(InputError, match=f"are in {store.home}, which cannot be reached from here") as error:
        open_store(tmp_path / "second", url)
    assert "--home" in error.value.fix
    if what == "empty":
        with pytest.raises(InputError, match="cannot be reached from here"):
            open_store(store.home, url)
    with open_store(moved, url) as found:
        assert found.files == moved


def test_a_folder_that_was_moved_is_found_when_it_is_named(
    store: Store, url: str, tmp_path: Path, add_releases: AddReleases
) -> None:
    digest = add_releases(1)
    moved = store.home.rename(tmp_path / "moved")
    with open_store(moved, url) as found:
        assert found.verify_model(digest) == []
        assert found.journal.verify() == []


def test_a_database_with_records_is_not_given_a_folder_without_their_files(
    store: Store, url: str, tmp_path: Path, add_releases: AddReleases
) -> None:
    """As an earlier version left it: no folder is recorded."""
    digest = add_releases(1)
    with store.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM meta WHERE key <> 'schema'")
    (store.home / "store.json").unlink()
    with pytest.raises(InputError, match="has records, and their files are not in"):
        open_store(tmp_path / "second", url)
    with open_store(store.home, url) as found:
        assert found.verify_model(digest) == []
    with open_store(tmp_path / "second", url) as second:
        assert second.files == store.home


def test_a_damaged_mark_is_one_sentence(store: Store, url: str) -> None:
    for content in (b"", b"{", b"[]", b'{"store": 1}', b"\xff"):
        (store.home / "store.json").write_bytes(content)
        for database in (url, None):
            with pytest.raises(InputError, match=r"store\.json cannot be read") as error:
                open_store(store.home, database)
            assert "\n" not in str(error.value)


def test_a_store_with_its_database_in_its_folder_can_be_moved(tmp_path: Path, model: Path) -> None:
    with open_store(tmp_path / "one") as store:
        digest = store.put_model(model)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "three")
    for folder in ("two", "three"):
        with open_store(tmp_path / folder) as moved:
            assert moved.files == tmp_path / folder
            assert moved.verify_model(digest) == []
