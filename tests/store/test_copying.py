"""A store is copied whole, between any two databases, and the copy is the same store."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.postgresql import PostgresServer

from clerestory.cli.main import run
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence
from clerestory.core.release import Event
from clerestory.store import Store, copy_store

MakeEvent, MakeEvidence, AddReleases = Callable[..., Event], Callable[..., Evidence], Callable[[int], str]


@pytest.fixture
def full(store: Store, make_evidence: MakeEvidence, make_event: MakeEvent, add_releases: AddReleases) -> Store:
    """A store with everything that a store can hold."""
    add_releases(3)
    for value in (0.3, 0.1, 0.2):
        store.put_evidence(make_evidence(value))
    for number in range(25):
        store.put_dataset(f"set-{number % 7}", "ü🙂", f"{number:064x}", number, make_event("d", "data_added"))
    store.move_alias("icons", "live", 2, 0, make_event("icons@2"))
    store.move_alias("icons", "live", 3, 1, make_event("icons@3"))
    store.cache_put("embeddings/x", store.blobs.put(b"cached"))
    (store.files / "packs" / "mine").mkdir(parents=True)
    (store.files / "packs" / "mine" / "task.toml").write_text("x = 1", encoding="utf-8")
    return store


@pytest.fixture(params=["sqlite", "postgresql"])
def target_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The database of the copy."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    with server.schema() as schema:
        yield server.url(schema)


def everything(store: Store) -> dict[str, object]:
    """All that the store says of itself."""
    return {
        "records": store.journal.records(),
        "releases": store.releases(),
        "aliases": store.aliases(),
        "datasets": store.datasets(),
        "evidence": store.find_evidence("evaluate"),
        "model": store.model_files(store.resolve("icons").digest),
        "cached": store.cache_get("embeddings/x"),
        "key": (store.files / "keys" / "journal.ed25519").read_bytes(),
        "mode": (store.files / "keys" / "journal.ed25519").stat().st_mode & 0o777,
        "signed": [path.read_bytes() for path in store.journal.checkpoints.files()],
        "pack": (store.files / "packs" / "mine" / "task.toml").read_text(encoding="utf-8"),
    }


def assert_sound(store: Store) -> None:
    assert store.journal.verify() == store.database.verify() == store.verify_registry("icons") == []
    assert store.verify_model(store.resolve("icons").digest) == []
    assert [f for made in store.find_evidence("evaluate") for f in store.verify_evidence(made.id)] == []


def test_the_copy_is_the_same_store_and_goes_on_by_itself(
    full: Store, target_url: str | None, tmp_path: Path, make_event: MakeEvent, make_evidence: MakeEvidence
) -> None:
    before = everything(full)
    copied = copy_store(full, tmp_path / "copy", target_url)
    assert copied.findings == ()
    assert copied.records["releases"] == 3
    with Store(tmp_path / "copy", target_url) as target:
        assert everything(target) == before
        assert_sound(target)
        # New rows get new numbers, so that what is newest stays so.
        target.put_evidence(make_evidence(0.9))
        assert [e.measurements[0].value for e in target.find_evidence("evaluate")] == [0.9, 0.2, 0.1, 0.3]
        target.move_alias("icons", "live", 1, 2, make_event("icons@1"))
        assert_sound(target)
    assert everything(full) == before
    with Store(tmp_path / "copy", target_url) as again:
        assert again.alias("icons", "live").number == 1


def test_an_interrupted_copy_goes_on(full: Store, target_url: str | None, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class StopsAfterSomeFiles:
        @contextmanager
        def task(self, label: str, total: int) -> Iterator[StopsAfterSomeFiles]:
            self.left = total - 2
            yield self

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.left -= steps
            if self.left <= 0:
                raise Stop

    with pytest.raises(Stop):
        copy_store(full, tmp_path / "copy", target_url, StopsAfterSomeFiles())
    with Store(tmp_path / "copy", target_url) as target:
        assert target.releases() == []
        assert copy_store(full, tmp_path / "copy", target_url).findings == ()
        assert everything(target) == everything(full)


def test_a_store_with_records_or_another_key_is_not_copied_onto(
    full: Store, target_url: str | None, tmp_path: Path, make_event: MakeEvent
) -> None:
    with Store(tmp_path / "other", target_url) as other:
        other.journal.append(make_event("cats@1"))
        for folder in (other.home, *([tmp_path / "new"] if target_url else [])):
            with pytest.raises(InputError, match="has records already"):
                copy_store(full, folder, target_url)
        assert not (tmp_path / "new").exists()
        assert [record.event.subject for record in other.journal.records()] == ["cats@1"]
    key = tmp_path / "keyed" / "keys" / "journal.ed25519"
    key.parent.mkdir(parents=True)
    key.write_bytes(bytes(32))
    with pytest.raises(InputError, match="has the key of another store"):
        copy_store(full, tmp_path / "keyed")
    assert key.read_bytes() == bytes(32)


@pytest.mark.parametrize("folder", [".", "inside", "runs/x", ".."])
def test_a_copy_into_the_store_or_around_it_is_refused(
    full: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    before = sorted(full.home.rglob("*"))
    assert run(["store", "copy", str(full.home / folder), "--home", str(full.home)]) == 2
    assert "name a folder outside it" in capsys.readouterr().err
    assert sorted(full.home.rglob("*")) == before


def test_damage_is_copied_and_named(full: Store, target_url: str | None, tmp_path: Path) -> None:
    digest = full.resolve("icons").digest
    weights = full.model_folder(digest) / "model.safetensors"
    weights.write_bytes(b"?" + weights.read_bytes()[1:])
    (finding,) = copy_store(full, tmp_path / "copy", target_url).findings
    assert finding.code == "CLR-S001"
    assert finding.where == str(tmp_path / "copy" / "models" / digest / "model.safetensors")


def test_the_command_copies_and_its_next_command_works(
    full: Store,
    target_url: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "a copy"
    words = ["store", "copy", str(copy), "--home", str(full.home)]
    assert run([*words, *(["--database", target_url] if target_url else [])]) == 0
    out, err = capsys.readouterr()
    assert "every digest and signature verified" in out
    command = shlex.split(err.partition("next: ")[2])
    while command[0] != "clerestory":
        if command[0] == "env":
            monkeypatch.delenv(command[2])
            del command[:3]
        else:
            monkeypatch.setenv(*command.pop(0).split("=", 1))
    assert run([*command[1:], "--quiet"]) == 0
    listed = capsys.readouterr().out
    assert all(f"icons@{number}" in listed for number in (1, 2, 3))
