"""The cache of model answers."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.disks import can_mount, small_disk

from clerestory.store.answer_cache import AnswerCache, answer_key


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "deep" / "answers.db")


def test_get_returns_exactly_what_was_put(cache: AnswerCache) -> None:
    answers = {answer_key("a", str(i)): f"answer {i}".encode() for i in range(1200)}
    cache.put(answers)
    assert cache.get([*answers, answer_key("b", "1")]) == answers
    assert len(cache) == 1200
    assert AnswerCache(cache.file).get(list(answers)[:3]) == dict(list(answers.items())[:3])


def test_keys_depend_on_the_boundaries_of_their_parts() -> None:
    assert len({answer_key("ab", "c"), answer_key("a", "bc"), answer_key("abc"), answer_key("ab", "c", "")}) == 4


def test_a_flipped_bit_makes_an_answer_unknown(cache: AnswerCache) -> None:
    key = answer_key("a")
    cache.put({key: b"yes", answer_key("b"): b"no"})
    with closing(sqlite3.connect(cache.file)) as connection, connection:
        value = connection.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()[0]
        connection.execute("UPDATE answers SET value = ? WHERE key = ?", (value[:-1] + b"\x00", key))
    assert cache.get([key, answer_key("b")]) == {answer_key("b"): b"no"}


def test_a_file_that_is_not_a_database_is_moved_aside(cache: AnswerCache) -> None:
    cache.put({answer_key("a"): b"yes"})
    for file in cache.file.parent.iterdir():
        file.write_bytes(b"not a database at all" * 300)
    assert cache.get([answer_key("a")]) == {}
    cache.put({answer_key("a"): b"yes"})
    assert cache.get([answer_key("a")]) == {answer_key("a"): b"yes"}


@pytest.mark.skipif(not can_mount(), reason="a small disk cannot be mounted here")
def test_a_damaged_file_on_a_read_only_disk_has_no_answers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        cache = AnswerCache(disk.folder / "answers.db")
        cache.put({answer_key("a"): b"yes"})
        cache.file.write_bytes(b"not a database at all" * 300)
        disk.make_read_only()
        assert cache.get([answer_key("a")]) == {}
        cache.put({answer_key("a"): b"yes"})


def test_the_log_of_a_damaged_file_is_not_replayed_into_the_new_one(cache: AnswerCache) -> None:
    cache.put({answer_key("a"): b"yes"})
    with closing(sqlite3.connect(cache.file)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("DELETE FROM answers")
        connection.commit()
        log = cache.file.with_name(cache.file.name + "-wal").read_bytes()
    cache.file.with_name(cache.file.name + "-wal").write_bytes(log)
    cache.file.write_bytes(b"not a database at all" * 300)
    cache.get([answer_key("a")])
    cache.put({answer_key("b"): b"yes"})
    assert cache.get([answer_key("a"), answer_key("b")]) == {answer_key("b"): b"yes"}
    assert len(cache) == 1


def test_threads_share_a_cache(cache: AnswerCache) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: cache.put({answer_key(str(i)): str(i).encode()}), range(40)))
    assert len(cache) == 40


def test_a_file_damaged_in_its_middle_is_moved_aside(tmp_path: Path) -> None:
    file = tmp_path / "answers.db"
    keys = [answer_key("q", str(i)) for i in range(400)]
    AnswerCache(file).put(dict.fromkeys(keys, b"x" * 900))
    content = bytearray(file.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    file.write_bytes(content)

    assert len(AnswerCache(file).get(keys)) < len(keys)
    assert file.with_suffix(".damaged").exists()
    AnswerCache(file).put({keys[0]: b"again"})
    assert AnswerCache(file).get(keys)[keys[0]] == b"again"


def test_putting_into_a_damaged_file_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "answers.db"
    keys = [answer_key("q", str(i)) for i in range(400)]
    AnswerCache(file).put(dict.fromkeys(keys, b"x" * 900))
    content = bytearray(file.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    file.write_bytes(content)

    AnswerCache(file).put({keys[7]: b"new"})
    assert AnswerCache(file).get(keys) == {keys[7]: b"new"}
