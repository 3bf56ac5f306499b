"""Bounded JSON reads what ``json`` reads, and refuses by size before it decodes."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.web.json_body import MAX_ESCAPES, MAX_SKELETON_BYTES, MAX_STRING_BYTES, MAX_STRINGS, parse_json
from clerestory.web.security import RequestRejected

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 0, 2]))
def test_every_json_value_is_read_as_json_reads_it(value: object, escaped: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=escaped, indent=indent).encode()
    assert parse_json(body) == value
    assert parse_json(b"\xef\xbb\xbf" + body) == value


# Pieces of JSON in any order, and any bytes at all.
PIECES = st.lists(st.sampled_from(["\\u00e9", '\\"', *'{}[]"\\a1-,: \n']))


@settings(deadline=None)
@given(st.binary() | PIECES.map(lambda pieces: "".join(pieces).encode()))
def test_what_is_not_json_is_rejected_and_what_is_json_is_read(body: bytes) -> None:
    try:
        expected = json.loads(body.decode("utf-8-sig"), strict=False)
    except (ValueError, RecursionError):
        with pytest.raises(RequestRejected) as rejected:
            parse_json(body)
        assert (rejected.value.status, rejected.value.code) == (400, "invalid_json")
    else:
        assert parse_json(body) == expected


@pytest.mark.parametrize("half", [r"\ud800", r"\udfff", r"\udc00\ud800", r"x\ud83dx", r"\uD83D"])
@pytest.mark.parametrize("form", ['{"input": "%s"}', '{"%s": 1}', '["ok", {"a": ["%s"]}]'])
def test_half_of_a_surrogate_pair_is_rejected_wherever_it_is(half: str, form: str) -> None:
    with pytest.raises(RequestRejected, match="valid JSON in UTF-8"):
        parse_json((form % half).encode())


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "😀"


def test_a_quote_ends_a_string_only_after_an_even_number_of_backslashes() -> None:
    for backslashes in range(9):
        text = "a" + "\\" * backslashes + '"b'
        assert parse_json(json.dumps([text, text]).encode()) == [text, text]


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 16_000_000 + b"0]",
        b"[" + b'"",' * 16_000_000 + b"0]",
        b"1" * 48_000_000,
        b" " * 48_000_000,
        b'{"input": "' + b"a" * 47_000_000 + b'"}',
        b'{"input": "' + "😀".encode() * 11_000_000 + b'"}',
        b'{"input": "' + rb"\n" * 23_000_000 + b'"}',
        b'{"input": "' + rb"\"" * 23_000_000 + b'"}',
        b'{"input": "' + b"\\" * 48_000_000,
    ],
    ids=["lists", "strings", "digits", "blanks", "text", "emoji", "escapes", "quotes", "backslashes"],
)
def test_a_large_body_is_rejected_without_being_decoded(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestRejected) as rejected:
            parse_json(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rejected.value.status == 413
    assert rejected.value.fix
    assert peak < 1_000_000


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 2_000, b"[" * 900 + b"]" * 900 + b","])
def test_deep_nesting_is_rejected(body: bytes) -> None:
    with pytest.raises(RequestRejected):
        parse_json(body)


def test_the_limits_themselves_are_accepted() -> None:
    strings = ["x"] * MAX_STRINGS
    assert parse_json(json.dumps(strings, separators=(",", ":")).encode()) == strings
    blanks = b" " * (MAX_SKELETON_BYTES - 2)
    assert parse_json(b"[" + blanks + b"]") == []
    long = "a" * (MAX_STRING_BYTES - 1)
    assert parse_json(f'"{long}"'.encode()) == long
    assert parse_json(b'"' + rb"\n" * MAX_ESCAPES + b'"') == "\n" * MAX_ESCAPES


def test_line_breaks_within_a_string_are_accepted() -> None:
    assert parse_json(b'{"input": "data:image/png;base64,AAAA\r\nBBBB"}') == {
        "input": "data:image/png;base64,AAAA\r\nBBBB"
    }
