"""A full or read-only disk is called by its name, reading goes on, and writing goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.disks import FULL, READ_ONLY, SmallDisk, can_mount, small_disk

from clerestory.cli.main import run
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence
from clerestory.core.release import Event
from clerestory.store import Store, open_store
from clerestory.store.answer_cache import AnswerCache, answer_key

MakeEvent, MakeEvidence, AddReleases = Callable[..., Event], Callable[..., Evidence], Callable[[int], str]
pytestmark = pytest.mark.skipif(
    not can_mount(), reason="a small disk cannot be mounted here; only the quota in test_processes.py is tested"
)
STATES = {"full": FULL, "read-only": READ_ONLY}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture
def store(disk: SmallDisk, database: str) -> Iterator[Store]:
    """A store on that disk (its records on PostgreSQL are not)."""
    with open_store(disk.folder / "home") as opened:
        yield opened


@pytest.fixture(params=list(STATES))
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(disk: SmallDisk, state: str) -> None:
    disk.fill() if state == "full" else disk.make_read_only()


def assert_readable(store: Store, digest: str, evidence: Evidence) -> None:
    assert [release.ref for release in store.releases()] == ["icons@2", "icons@1"]
    assert store.resolve("icons").digest == digest
    assert store.evidence(evidence.id) == evidence
    assert store.datasets() == []
    assert store.verify_model(digest) == store.verify_evidence(evidence.id) == store.verify_registry("icons") == []
    assert store.journal.verify() == store.database.verify() == []


def assert_unwritable(store: Store, model: Path, make_event: MakeEvent, reason: str, database: str) -> None:
    (model / "config.json").write_text("another model", encoding="utf-8")
    steps: list[Callable[[], object]] = [lambda: store.blobs.put(os.urandom(9000)), lambda: store.put_model(model)]
    if database == "sqlite":
        steps += [
            lambda: store.journal.append(make_event("icons@1", note="x" * 9000)),
            lambda: store.cache_put("x" * 9000, "a" * 64),
            lambda: store.put_dataset("cats", "x" * 9000, "a" * 64, 1, make_event("cats")),
            lambda: store.move_alias("icons", "live", 2, 1, make_event("icons@2", note="x" * 9000)),
        ]
    for step in steps:
        with pytest.raises(InputError) as error:
            step()
        message = str(error.value)
        assert f"cannot be written: {reason} — " in message
        assert "free space" in message
        assert "\n" not in message
        assert not {"damaged", "restore", "backup"} & set(message.split()), message


def test_a_cache_that_was_never_written_is_empty_on_such_a_disk(disk: SmallDisk, state: str) -> None:
    cache = AnswerCache(disk.folder / "answers.db")
    make(disk, state)
    for _ in range(2):
        assert cache.get([answer_key("a")]) == {}
        cache.put({answer_key("a"): bytes(9000)})
    if state == "full":
        disk.free()
        cache.put({answer_key("a"): b"yes"})
        assert cache.get([answer_key("a")]) == {answer_key("a"): b"yes"}


@pytest.mark.parametrize("left", ["closed", "killed", "killed, index lost"])
def test_a_store_is_read_from_a_full_or_read_only_disk_and_errors_name_it(
    disk: SmallDisk,
    store: Store,
    database: str,
    state: str,
    left: str,
    model: Path,
    add_releases: AddReleases,
    make_evidence: MakeEvidence,
    make_event: MakeEvent,
) -> None:
    digest = add_releases(2)
    evidence = make_evidence()
    store.put_evidence(evidence)
    store.answer_cache.put({answer_key("a"): b"yes"})
    store.close()
    moved = (
        "import os, sys; from clerestory.store import open_store; from clerestory.core.release import Event\n"
        "store = open_store(sys.argv[1])\n"
        "store.move_alias('icons', 'live', 1, 0, Event('promoted', 'icons@1', 'A', 'y', 'z'))\n"
        + ("store.close()" if left == "closed" else "os._exit(0)")
    )
    subprocess.run([sys.executable, "-c", moved, str(store.home)], check=True)
    log = store.home / "store.db-wal"
    if database == "sqlite":
        assert log.exists() == (left != "closed"), "the last record is only in the log of a killed process"
        if left == "killed, index lost":
            (store.home / "store.db-shm").unlink()
    make(disk, state)

    for _ in range(2):
        with open_store(store.home) as again:
            assert_readable(again, digest, evidence)
            assert again.answer_cache.get([answer_key("a"), answer_key("b")]) == {answer_key("a"): b"yes"}
            again.answer_cache.put({answer_key("big"): os.urandom(100_000)})
            assert again.put_evidence(evidence) == evidence.id, "what is there need not be written"
            assert again.put_model(again.model_folder(digest)) == digest
            again.cache_content("a key", os.urandom(9000))
            assert again.cache_get("a key") is None
            assert_unwritable(again, model, make_event, STATES[state], database)
    if state == "full":
        disk.free()
        with open_store(store.home) as again:
            again.move_alias("icons", "live", 2, 1, make_event("icons@2"))
            assert again.resolve("icons").release == again.release("icons", 2)
            assert_readable(again, digest, evidence)


def test_an_open_store_goes_on_while_the_disk_is_full(
    disk: SmallDisk,
    store: Store,
    database: str,
    model: Path,
    add_releases: AddReleases,
    make_evidence: MakeEvidence,
    make_event: MakeEvent,
) -> None:
    digest = add_releases(2)
    evidence = make_evidence()
    store.put_evidence(evidence)
    store.move_alias("icons", "live", 1, 0, make_event("icons@1"))
    disk.fill()
    length = store.journal.head()[0]
    assert_unwritable(store, model, make_event, FULL, database)
    assert_readable(store, digest, evidence)
    assert store.journal.head()[0] == length
    disk.free()
    store.journal.append(make_event("icons@2"))
    assert_readable(store, digest, evidence)


def test_a_store_that_cannot_be_created_is_one_sentence_and_leaves_nothing(
    disk: SmallDisk, database: str, state: str, capsys: pytest.CaptureFixture[str], make_event: MakeEvent
) -> None:
    home = disk.folder / "new"
    home.mkdir()
    make(disk, state)
    for command in (["release", "list"], ["data", "list"]):
        assert run([*command, "--home", str(home)]) == 2
        err = capsys.readouterr().err
        assert f"cannot be written: {STATES[state]}" in err
        assert "fix: " in err
        assert not {"damaged", "unexpected", "restore"} & set(err.split()), err
        assert not (home / "store.db").exists()
        assert [path for path in home.rglob("*") if path.is_file() and path.stat().st_size] == []
    if state == "full":
        disk.free()
        with open_store(home) as store:
            assert store.journal.append(make_event("icons@1")).seq == 1


def test_lists_are_printed_from_a_full_or_read_only_disk(
    disk: SmallDisk, store: Store, state: str, add_releases: AddReleases, capsys: pytest.CaptureFixture[str]
) -> None:
    add_releases(2)
    store.close()
    make(disk, state)
    assert run(["release", "list", "--home", str(store.home)]) == 0
    assert "icons@2" in capsys.readouterr().out
    assert run(["data", "list", "--home", str(store.home)]) == 0
    assert run(["release", "promote", "icons@1", "--why", "x", "--home", str(store.home)]) in (1, 2)
    assert not {"damaged", "unexpected"} & set(capsys.readouterr().err.split())


def test_whether_results_can_be_stored_is_known_before_the_work(disk: SmallDisk, store: Store, state: str) -> None:
    store.check_writable()
    store.close()  # a disk with a file that is open for writing cannot become read-only
    make(disk, state)
    with pytest.raises(InputError, match=f"{store.files} cannot be written: {STATES[state]} — "):
        store.check_writable()
    if state == "full":
        disk.free()
        store.check_writable()
    assert list((store.files / "tmp").iterdir()) == []
