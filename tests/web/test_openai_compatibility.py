"""OpenAI's own client, and what other clients of its API send."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from starlette.applications import Starlette
from tests.support.images import solid_image
from tests.web.small_server import running

from clerestory.store import open_store
from clerestory.web import create_app
from clerestory.web.embedding_request import MAX_INPUTS, MAX_REQUEST_CHARACTERS, MAX_TEXT_CHARACTERS

PATH = "/v1/embeddings"
IMAGE = solid_image()
BASE64 = base64.b64encode(IMAGE).decode()
WRAPPED = base64.encodebytes(IMAGE * 3).decode()
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Starlette:
    return create_app(open_store(tmp_path_factory.mktemp("openai") / "home"), None, model=str(tiny_model))


@pytest.fixture(scope="module")
def base(app: Starlette) -> Iterator[str]:
    with running(app) as url:
        yield url


@pytest.fixture(scope="module")
def http(base: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base, timeout=300) as client:
        yield client


@pytest.fixture(scope="module")
def client(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base}/v1", api_key="any", max_retries=0) as made:
        yield made


def rows(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([each["embedding"] for each in answer.json()["data"]], dtype=np.float32)


def error(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    return found


def test_openais_client_lists_retrieves_and_embeds(client: openai.OpenAI) -> None:
    (listed,) = client.models.list().data
    assert client.models.retrieve(listed.id) == listed
    made = client.embeddings.create(model=listed.id, input=["a cat", "a dog"])
    floats = client.embeddings.create(model=listed.id, input=["a cat", "a dog"], encoding_format="float")
    assert [each.index for each in made.data] == [0, 1]
    np.testing.assert_array_equal(
        np.array([each.embedding for each in made.data], np.float32),
        np.array([each.embedding for each in floats.data], np.float32),
    )


def test_openais_client_shows_the_problem_and_the_remedy(client: openai.OpenAI) -> None:
    with pytest.raises(
        openai.BadRequestError,
        match="dimensions=65 is not supported by this model — the model supports 64, 128, 256, 384",
    ) as bad:
        client.embeddings.create(model="", input="a cat", dimensions=65)
    assert (bad.value.code, bad.value.param, bad.value.type) == ("invalid_value", "dimensions", "invalid_request")
    with pytest.raises(openai.NotFoundError, match="unknown model 'gpt-4'") as missing:
        client.models.retrieve("gpt-4")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("name", ["icons@" + "9" * 23, "icons@" + "9" * 5000, "a/b/c", "\x00", "%", "é" * 90])
def test_a_model_that_no_store_can_hold_is_not_found(http: httpx.Client, name: str) -> None:
    assert http.get(f"/v1/models/{httpx.QueryParams({'q': name})!s}".replace("q=", "")).status_code == 404
    assert error(http.post(PATH, json={"input": "cat", "model": name}))["code"] == "model_not_found"


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]], [[1]] * 2048, [0]])
def test_token_ids_are_refused_with_the_reason(http: httpx.Client, tokens: object) -> None:
    answer = http.post(PATH, json={"input": tokens})
    assert answer.status_code == 400
    assert error(answer)["code"] == "token_ids_not_supported"
    assert "check_embedding_ctx_length=False" in error(answer)["message"]


def test_very_many_token_ids_are_refused_too(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"input": [[101] * 300] * 500})
    assert answer.status_code == 413
    assert "token ids" in error(answer)["message"]


def test_2048_inputs_are_answered_and_one_more_is_not(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"input": ["cat", "a dog"] * (MAX_INPUTS // 2), "dimensions": 64})
    assert rows(answer).shape == (MAX_INPUTS, 64)
    np.testing.assert_allclose(rows(answer)[:2], rows(answer)[-2:], atol=1e-6)
    assert [each["index"] for each in answer.json()["data"]] == list(range(MAX_INPUTS))
    more = http.post(PATH, json={"input": ["cat"] * (MAX_INPUTS + 1)})
    assert (more.status_code, error(more)["code"], error(more)["param"]) == (413, "too_many_inputs", "input")


def test_parameters_that_are_null_count_as_absent(http: httpx.Client) -> None:
    names = ("model", "dimensions", "encoding_format", "user", "input_type")
    given = http.post(PATH, json={"input": "a cat"} | dict.fromkeys(names))
    np.testing.assert_array_equal(rows(given), rows(http.post(PATH, json={"input": "a cat"})))
    assert error(http.post(PATH, json={"input": None}))["code"] == "missing_parameter"


@pytest.mark.parametrize(
    "uri",
    [
        f" data:image/png;base64,{BASE64}",
        f"\n\t data:image/png;base64,{BASE64} \n",
        f"\u00a0data:image/png;base64,{BASE64}",
        f"\ufeffdata:image/png;base64,{BASE64}",
        f"DATA:IMAGE/PNG;BASE64,{BASE64}",
        f"data: image/png; base64, {BASE64}",
        f"data:;base64,{BASE64}",
        f"data:image/png;charset=utf-8;base64,{BASE64}",
        "data:image/png;base64," + BASE64.rstrip("="),
        "data:image/png;base64," + base64.urlsafe_b64encode(IMAGE).decode(),
        "data:image/png;base64," + BASE64.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png;base64," + "\n".join(BASE64[i : i + 40] for i in range(0, len(BASE64), 40)),
        "data:image/png;base64," + "\r\n ".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76)),
        "data:image/png," + "".join(f"%{each:02x}" for each in IMAGE),
    ],
)
def test_every_spelling_of_an_image_is_the_image(http: httpx.Client, uri: str) -> None:
    plain = http.post(PATH, json={"input": f"data:image/png;base64,{BASE64}"})
    answer = http.post(PATH, json={"input": uri})
    np.testing.assert_array_equal(rows(answer), rows(plain))
    assert answer.json()["usage"]["images"] == 1


def test_escapes_and_line_breaks_in_the_json_of_an_image_are_read(http: httpx.Client) -> None:
    plain = http.post(PATH, json={"input": f"data:image/png;base64,{BASE64}"})
    for written in (BASE64.replace("/", r"\/"), BASE64.replace("+", r"\u002B"), BASE64[:40] + "\n" + BASE64[40:]):
        body = '{"input": "data:image\\/png;base64,' + written + '"}'
        np.testing.assert_array_equal(rows(http.post(PATH, content=body, headers=JSON)), rows(plain))


@pytest.mark.parametrize("text", ["data: the new oil, they say", "data:", "metadata:image/png;base64,AA", "data entry"])
def test_a_sentence_about_data_is_a_text(http: httpx.Client, text: str) -> None:
    answer = http.post(PATH, json={"input": text})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["images"] == 0


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        (BASE64 * 2, 400, "invalid_data_uri"),
        ("data:image/png;base64", 400, "invalid_data_uri"),
        ("data:image/png", 400, "invalid_data_uri"),
        ("data:image/png;base64,A", 400, "invalid_base64"),
        ("data:image/png;base64,é", 400, "invalid_base64"),
        ("data:image/png;base64,!!!!", 400, "invalid_base64"),
        ("data:image/png;base64,", 400, "invalid_image"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", 415, "unsupported_media_type"),
        ("data:application/pdf;base64,JVBERi0xLjQK", 415, "unsupported_media_type"),
        ("\u2003 ", 400, "empty_input"),
        ("a" * (MAX_TEXT_CHARACTERS + 1), 413, "text_too_long"),
        ("word " * 300, 400, "too_many_tokens"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(http: httpx.Client, value: str, status: int, code: str) -> None:
    answer = http.post(PATH, json={"input": ["cat", value]})
    assert answer.status_code == status
    assert error(answer)["code"] == code
    assert "input[1]" in error(answer)["message"]
    assert error(answer)["fix"] in error(answer)["message"]


def test_the_texts_of_a_request_have_a_limit_together(http: httpx.Client) -> None:
    text = "a" * MAX_TEXT_CHARACTERS
    answer = http.post(PATH, json={"input": [text] * (MAX_REQUEST_CHARACTERS // len(text) + 1)})
    assert (answer.status_code, error(answer)["code"]) == (413, "too_many_characters")


BODY = json.dumps({"input": "a cat"}).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("GZIP", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
)
def test_a_compressed_body_is_read(http: httpx.Client, encoding: str, body: bytes) -> None:
    answer = http.post(PATH, content=body, headers=JSON | {"content-encoding": encoding})
    np.testing.assert_array_equal(rows(answer), rows(http.post(PATH, json={"input": "a cat"})))


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(b" " * 48_000_001), 413),
        ("deflate", zlib.compress(b'{"input": "' + b"a" * 60_000_000), 413),
        ("gzip", gzip.compress(BODY)[:-9], 400),
        ("gzip", gzip.compress(BODY) + b"more", 400),
        ("gzip", BODY, 400),
        ("gzip", b"", 400),
        ("br", BODY, 415),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY, mtime=0)), 415),
    ],
    ids=["bomb", "zlib bomb", "truncated", "trailing bytes", "not gzip", "empty", "brotli", "twice"],
)
def test_a_compressed_body_that_cannot_be_read_is_rejected(
    http: httpx.Client, encoding: str, body: bytes, status: int
) -> None:
    answer = http.post(PATH, content=body, headers=JSON | {"content-encoding": encoding})
    assert answer.status_code == status
    assert error(answer)["fix"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/json; charset=us-ascii", 200),
        ("application/json; charset=iso-8859-1", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=\xff", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_the_charset_is_utf8_or_refused(http: httpx.Client, kind: str, status: int) -> None:
    answer = http.post(PATH, content=BODY, headers={"content-type": kind.encode("latin-1")})  # type: ignore[dict-item]
    assert answer.status_code == status
