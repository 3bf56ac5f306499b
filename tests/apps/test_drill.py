"""Drills with a real server: ten seconds each, because the server loads models."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.released_store import released_store

from clerestory.apps.drill import DRILLS, drill
from clerestory.apps.drill_store import copy_for_drill
from clerestory.core.digest import digest_file
from clerestory.core.errors import NotFound
from clerestory.flows import describe_drill, rehearse_bad_model
from clerestory.store import Store, open_store


def contents(store: Store) -> dict[str, str]:
    """The digests of every file of a store, without those that SQLite keeps while it is open."""
    files = sorted(path for path in store.home.rglob("*") if path.is_file())
    return {str(path): digest_file(path) for path in files if not path.name.startswith(("store.db-", "answers.db"))}


def test_a_changed_alias_is_detected_and_nobody_gets_a_bad_answer() -> None:
    result = drill("changed-alias")
    assert result.detected
    assert result.bad_answers == 0
    assert result.failed == 0


def test_a_bad_model_is_taken_back_in_a_copy_and_the_store_is_only_read(store: Store, tmp_path: Path) -> None:
    (release,) = released_store(store, tmp_path / "models", 1)
    records, before = len(list(store.journal.records())), contents(store)
    result, is_cached = rehearse_bad_model(store, release)
    assert result.release == "icons@1"
    assert result.detected
    assert not is_cached
    assert 1 <= result.bad_answers + result.failed < result.requests / 2
    assert result.recover_s is not None
    assert (len(list(store.journal.records())), contents(store)) == (records, before)
    assert [each.ref for each in store.releases()] == ["icons@1"]
    assert rehearse_bad_model(store, release) == (result, True)
    assert f"{result.bad_answers} got a bad answer" in describe_drill(result)[1]


def test_a_slow_disk_is_detected_and_requests_are_answered_meanwhile() -> None:
    result = drill("slow-disk")
    assert result.detected
    assert result.failed == 0
    assert result.requests > 0


def test_a_store_without_a_live_release_gives_way_to_the_starter(store: Store, tmp_path: Path) -> None:
    assert copy_for_drill(store, "", tmp_path / "copy") == ("drill", "drill@1")
    with open_store(tmp_path / "copy") as copy:
        assert [each.ref for each in copy.releases()] == ["drill@1"]
    with pytest.raises(NotFound, match="no release of shoes is live"):
        copy_for_drill(store, "shoes", tmp_path / "other")


def test_every_drill_is_explained() -> None:
    assert all(len(words) > 20 for words in DRILLS.values())
