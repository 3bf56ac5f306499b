"""Bodies for ``POST /v1/embeddings`` that should trouble a server: written by hand, and drawn from its description."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from schemathesis import Case, GenerationMode
from tests.support.images import encode_image, noise_images, solid_image

JSON = "application/json"
IMAGE = "data:image/png;base64," + base64.b64encode(solid_image()).decode()


class HostileBody(NamedTuple):
    """One body with its headers, and a name for messages."""

    name: str
    content: bytes
    headers: dict[str, str]


def hostile_bodies(megabytes: int) -> Iterator[HostileBody]:
    """The bodies written by hand; the large ones have about this size."""
    for name, content in _texts(megabytes * 1_000_000):
        yield HostileBody(name, content, {"content-type": JSON})
    plain = json.dumps({"input": "a cat"}).encode()
    bomb = gzip.compress(b'{"input": "' + b"a" * megabytes * 4_000_000 + b'"}', compresslevel=1)
    for name, content, encoding in (
        ("gzip bomb", bomb, "gzip"),
        ("gzip of gzip", gzip.compress(gzip.compress(plain)), "gzip, gzip"),
        ("truncated gzip", gzip.compress(plain)[:-5], "gzip"),
        ("many gzip members", gzip.compress(b"") * (megabytes * 20_000), "gzip"),
        ("zlib", zlib.compress(plain), "deflate"),
        ("not gzip", plain, "gzip"),
        ("unknown compression", plain, "\u00e9"),
    ):
        yield HostileBody(name, content, {"content-type": JSON, "content-encoding": encoding})
    for kind in (
        "",
        "application/json; charset=utf-16",
        "application/json; charset=\u00ff",
        "text/html",
        ";;;=",
        "a" * 9000,
    ):
        yield HostileBody(f"content type {kind[:40]!r}", plain, {"content-type": kind})


def _texts(size: int) -> Iterator[tuple[str, bytes]]:
    def body(value: object) -> bytes:
        return json.dumps({"input": value}).encode()

    yield "words", body("word " * (size // 5))
    yield "one word", body("a" * size)
    yield "blanks", body(" " * size)
    yield "emoji", json.dumps({"input": "😀" * (size // 4)}, ensure_ascii=False).encode()
    yield "combining characters", body("e\u0301" * 8_000)
    yield "longest texts", body(["a b " * 4_000] * 120)
    yield "most texts", body(["a cat"] * 2_048)
    yield "too many texts", body(["a"] * 100_000)
    yield "lists", b'{"input": [' + b"[]," * (size // 3) + b"[]]}"
    yield "objects", b"[" + b'{"a":1},' * (size // 8) + b"1]"
    yield "token ids", b'{"input": [' + b"1," * (size // 2) + b"1]}"
    yield "digits", b'{"dimensions": ' + b"1" * size + b"}"
    yield "fraction", b'{"input": "a", "dimensions": 0.' + b"1" * 60_000 + b"}"
    yield "nested lists", b"[" * (size // 2)
    yield "nested objects", b'{"a":' * 10_000
    yield "backslashes", b'{"input": "' + b"\\" * size
    yield "escapes", b'{"input": "' + rb"\u0041" * (size // 6) + b'"}'
    yield "quotes", b'"' * size
    yield "zeros", b"\0" * size
    yield "long key", b'{"' + b"k" * size + b'": 1}'
    yield "similar key", b'{"' + b"inpu" * 40 + b'": 1}'
    yield "many keys", b"{" + b",".join(b'"%d": 1' % i for i in range(50_000)) + b"}"
    yield "image of nothing", body("data:image/png;base64," + "A" * size)
    yield "not base64", body("data:image/png;base64," + "!" * 1_000_000)
    yield "percent", body("data:image/png," + "%41" * (size // 3))
    yield "percent within the limit", body("data:image/png," + "%41" * (min(size, 13_900_000) // 3))
    yield "large WEBP", body("data:image/webp;base64," + base64.b64encode(_large_webp(size // 2)).decode())
    yield "blanks before an image", body(" " * 1_000_000 + IMAGE)
    yield "many images", body([IMAGE] * 200)
    for name, text in (
        ("half a surrogate pair", r"\ud800"),
        ("reversed surrogate pair", r"\udc00\ud800"),
        ("NUL", r"\u0000"),
        ("last character", "\U0010ffff"),
        ("controls", "\x01\x7f"),
    ):
        for form in ('{"input": "%s"}', '{"input": "a", "model": "%s"}', '{"%s": 1}', '{"input": "a", "user": "%s"}'):
            yield f"{name} in {form}", (form % text).encode()
    for value in ("NaN", "-Infinity", "1e999", "-0", "9" * 40, "9" * 5000, "true", "null", "[]", "{}", '""', "1.0"):
        for name in ("input", "dimensions", "model", "encoding_format"):
            parameters = {"input": '"a cat"'} | {name: value}
            yield f"{name} {value[:40]}", ("{" + ",".join(f'"{k}": {v}' for k, v in parameters.items()) + "}").encode()
    for ref in (
        "icons@" + "9" * 23,
        "icons@" + "9" * 5000,
        "@",
        "icons@",
        "@live",
        "'; drop table releases",
        "%",
        "../..",
    ):
        yield f"model {ref[:40]}", json.dumps({"input": "a cat", "model": ref}).encode()
    yield "nothing", b""
    yield "not UTF-8", b'{"input": "\xff\xfe"}'
    yield "surrogate in UTF-8", b'{"input": "\xed\xa0\x80"}'


def _large_webp(pixels: int) -> bytes:
    """At most 25 megapixels, which is the limit."""
    side = int(min(pixels, 25_000_000) ** 0.5)
    return encode_image(noise_images((side // 8, side // 8))[0].resize((side, side)), "WEBP", method=0)


def for_each_case(
    base: str,
    examples: int,
    seed: int,
    check: Callable[[Case[Any]], None],
    mode: GenerationMode,
    path: str = "/v1/embeddings",
) -> None:
    """Call ``check`` with requests that schemathesis draws from the description of a running server.

    Args:
        base: URL of the server.
        examples: how many to draw.
        seed: for the same requests again.
        check: sends a request and judges the response.
        mode: requests that conform to the description, or that do not.
        path: of the endpoint; the method is POST for those that have it, else GET.
    """
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    method = "POST" if "post" in schema.raw_schema["paths"][path] else "GET"

    @with_seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(mode))
    def run(case: Case[Any]) -> None:
        check(case)

    run()
