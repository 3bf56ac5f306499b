"""Answers kept by content."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from clerestory.store.answer_cache import Memo, memo_key


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "deep" / "memo.db")


def test_what_was_put_is_got_and_nothing_else(memo: Memo) -> None:
    answers = {memo_key("a", str(i)): f"answer {i}".encode() for i in range(1200)}
    memo.put(answers)
    assert memo.get([*answers, memo_key("b", "1")]) == answers
    assert len(memo) == 1200
    assert Memo(memo.file).get(list(answers)[:3]) == dict(list(answers.items())[:3])


def test_keys_tell_the_parts_apart() -> None:
    assert len({memo_key("ab", "c"), memo_key("a", "bc"), memo_key("abc"), memo_key("ab", "c", "")}) == 4


def test_a_flipped_bit_makes_an_answer_unknown(memo: Memo) -> None:
    key = memo_key("a")
    memo.put({key: b"yes", memo_key("b"): b"no"})
    with closing(sqlite3.connect(memo.file)) as connection, connection:
        value = connection.execute("SELECT value FROM memo WHERE key = ?", (key,)).fetchone()[0]
        connection.execute("UPDATE memo SET value = ? WHERE key = ?", (value[:-1] + b"\x00", key))
    assert memo.get([key, memo_key("b")]) == {memo_key("b"): b"no"}


def test_a_file_that_is_no_database_is_put_aside(memo: Memo) -> None:
    memo.put({memo_key("a"): b"yes"})
    for file in memo.file.parent.iterdir():
        file.write_bytes(b"not a database at all" * 300)
    assert memo.get([memo_key("a")]) == {}
    memo.put({memo_key("a"): b"yes"})
    assert memo.get([memo_key("a")]) == {memo_key("a"): b"yes"}


def test_threads_share_it(memo: Memo) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: memo.put({memo_key(str(i)): str(i).encode()}), range(40)))
    assert len(memo) == 40


def test_a_file_damaged_in_its_middle_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "memo.db"
    keys = [memo_key("q", str(i)) for i in range(400)]
    Memo(file).put(dict.fromkeys(keys, b"x" * 900))
    content = bytearray(file.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    file.write_bytes(content)

    assert len(Memo(file).get(keys)) < len(keys)
    assert file.with_suffix(".damaged").exists()
    Memo(file).put({keys[0]: b"again"})
    assert Memo(file).get(keys)[keys[0]] == b"again"


def test_putting_into_a_damaged_file_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "memo.db"
    keys = [memo_key("q", str(i)) for i in range(400)]
    Memo(file).put(dict.fromkeys(keys, b"x" * 900))
    content = bytearray(file.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    file.write_bytes(content)

    Memo(file).put({keys[7]: b"new"})
    assert Memo(file).get(keys) == {keys[7]: b"new"}
