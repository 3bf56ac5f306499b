"""JSON from strangers, in bounded time and memory.

``json.loads`` takes a gigabyte for 48 MB of ``[[],[],…``, four bytes for each character of a text with one emoji, and
stops all other threads while it runs. Here the strings are cut out first. What is left, the skeleton, is small in every
valid request, so a large one is rejected unread; a string is decoded only when its length is known.
"""

from __future__ import annotations

import json
from typing import Any

from clerestory.web.security import RequestRejected

MAX_STRINGS = 2_200
MAX_SKELETON_BYTES = 64_000
MAX_ESCAPES = 4_000_000
MAX_STRING_BYTES = 20_000_000
_SLICE = 1 << 20
_BOM = b"\xef\xbb\xbf"


def parse_json(body: bytes | bytearray) -> Any:
    """The JSON value of a body in UTF-8; line breaks within strings are accepted.

    Raises:
        RequestRejected: 400 if it is not JSON or not UTF-8, 413 if it has more than ``MAX_STRINGS`` strings, more than
            ``MAX_SKELETON_BYTES`` outside of strings, ``MAX_ESCAPES`` escapes, or a string of ``MAX_STRING_BYTES``.
    """
    escapes = sum(body.count(b"\\", start, start + _SLICE) for start in range(0, len(body), _SLICE))
    if escapes > MAX_ESCAPES:
        raise _too_large(f"{escapes:,} escaped characters", "send fewer texts at once, not escaped")
    try:
        skeleton, strings = _split(body)
        # The keys and strings of the skeleton are indexes into `strings`.
        return _fill_in(json.loads(skeleton), strings)
    except (ValueError, RecursionError) as error:
        raise RequestRejected(
            "the body is not valid JSON in UTF-8", "check it with a JSON parser", code="invalid_json"
        ) from error


def _split(body: bytes | bytearray) -> tuple[str, list[bytes | bytearray]]:
    """The skeleton, with an index in place of each string, and the strings as they are written, quotes included."""
    parts: list[bytes | bytearray] = []
    strings: list[bytes | bytearray] = []
    size, position = 0, len(_BOM) if body.startswith(_BOM) else 0
    while True:
        start = body.find(b'"', position)
        end_of_gap = start if start >= 0 else len(body)
        size += end_of_gap - position
        if size > MAX_SKELETON_BYTES:
            raise _too_large(f"more than {MAX_SKELETON_BYTES // 1000} kB outside of texts", "send texts, not token ids")
        parts.append(body[position:end_of_gap])
        if start < 0:
            return b"".join(parts).decode("ascii"), strings
        end = _end_of_string(body, start + 1)
        if len(strings) == MAX_STRINGS:
            raise _too_large(f"more than {MAX_STRINGS:,} texts", "send fewer at once")
        if end - start > MAX_STRING_BYTES:
            megabytes = MAX_STRING_BYTES // 1_000_000
            raise _too_large(f"a text or image of more than {megabytes} MB", "send a smaller one")
        parts.append(b'"%d"' % len(strings))
        strings.append(body[start : end + 1])
        position = end + 1


def _end_of_string(body: bytes | bytearray, start: int) -> int:
    """The position of the closing quote: the first one after an even number of backslashes."""
    position = start
    while (quote := body.find(b'"', position)) >= 0:
        first = quote
        while first > start and body[first - 1] == 0x5C:
            first -= 1
        if (quote - first) % 2 == 0:
            return quote
        position = quote + 1
    raise ValueError("a string does not end")


def _fill_in(value: Any, strings: list[bytes | bytearray]) -> Any:
    if isinstance(value, str):
        return _decode(strings[int(value)])
    if isinstance(value, list):
        return [_fill_in(each, strings) for each in value]
    if isinstance(value, dict):
        return {_decode(strings[int(key)]): _fill_in(each, strings) for key, each in value.items()}
    return value


def _decode(literal: bytes | bytearray) -> str:
    if b"\\" not in literal:  # the same, but no other thread has to wait for long
        return literal[1:-1].decode("utf-8")
    text = json.loads(literal.decode("utf-8"), strict=False)
    if not text.isascii():
        text.encode("utf-8")  # half of a surrogate pair is a ValueError here
    return str(text)


def _too_large(has: str, fix: str) -> RequestRejected:
    return RequestRejected(f"the body has {has}", fix, status=413, kind="too_large")
