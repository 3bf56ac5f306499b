from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.support.images import solid_image
from tests.web.conftest import World

from clerestory.models import open_model
from clerestory.models.text_tower_files import MAX_TOKENS

PATH = "/v1/embeddings"


def uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def rows(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([each["embedding"] for each in answer.json()["data"]], dtype=np.float32)


def test_a_text_returns_the_models_own_unit_row_in_openais_format(client: TestClient, world: World) -> None:
    answer = client.post(PATH, json={"input": "a red heart"})
    body = answer.json()
    own = open_model(world.store.model_folder(world.live.model)).embed_texts(["a red heart"])
    np.testing.assert_allclose(rows(answer), own, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows(answer), axis=1), 1, atol=1e-5)
    assert body["object"] == "list"
    assert body["data"][0]["object"] == "embedding"
    assert body["data"][0]["index"] == 0
    assert body["model"] == answer.headers["clerestory-release"] == world.live.ref
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5, "images": 0}


def test_a_text_in_another_language_has_a_warning_and_the_model_names_its_languages(client: TestClient) -> None:
    body = client.post(
        PATH, json={"input": ["a red heart", "ein Mann mit einem roten Fahrrad", uri(solid_image())]}
    ).json()
    assert [each["index"] for each in body["warnings"]] == [1]
    assert "German" in body["warnings"][0]["message"]
    assert "warnings" not in client.post(PATH, json={"input": "a red heart"}).json()
    assert client.get("/v1/models").json()["data"][0]["languages"] == ["en"]


def test_texts_and_pictures_keep_their_order(client: TestClient, world: World) -> None:
    red, blue = solid_image(), solid_image("navy", kind="WEBP")
    mixed = rows(client.post(PATH, json={"input": ["sun", uri(red), "moon", uri(blue, "image/webp")]}))
    model = open_model(world.store.model_folder(world.live.model))
    images = model.embed_images([Image.open(io.BytesIO(each)).convert("RGB") for each in (red, blue)])
    np.testing.assert_allclose(mixed[[1, 3]], images, atol=1e-5)
    np.testing.assert_allclose(mixed[[0, 2]], model.embed_texts(["sun", "moon"]), atol=1e-5)


@pytest.mark.parametrize("dim", [64, 128, 256, 384])
def test_fewer_dimensions_are_the_beginning_brought_to_length_one(client: TestClient, dim: int) -> None:
    full = rows(client.post(PATH, json={"input": ["cat", uri(solid_image())]}))[:, :dim]
    cut = rows(client.post(PATH, json={"input": ["cat", uri(solid_image())], "dimensions": dim}))
    np.testing.assert_allclose(cut, full / np.linalg.norm(full, axis=1, keepdims=True), atol=1e-5)


def test_base64_holds_the_same_numbers(client: TestClient) -> None:
    plain = rows(client.post(PATH, json={"input": "cat"}))
    packed = client.post(PATH, json={"input": "cat", "encoding_format": "base64"}).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), dtype="<f4"), plain[0])


@pytest.mark.parametrize("ref", ["icons@2", "icons", "icons@live", ""])
def test_every_name_of_the_served_release_is_accepted(client: TestClient, ref: str) -> None:
    assert client.post(PATH, json={"input": "cat", "model": ref}).status_code == 200


def test_a_digest_prefix_names_the_model_too(client: TestClient, world: World) -> None:
    assert client.post(PATH, json={"input": "cat", "model": world.live.model[:12]}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "input is not a text"),
        ({"input": []}, 400, "input is not a text"),
        ({"input": [[1, 2]]}, 400, "input is not a text"),
        ({"input": " "}, 400, "input[0] is empty"),
        ({"input": "cat", "dimension": 64}, 400, "did you mean dimensions?"),
        ({"input": "cat", "dimensions": 65}, 400, "64, 128, 256, 384"),
        ({"input": "cat", "dimensions": True}, 400, "64, 128, 256, 384"),
        ({"input": "cat", "dimensions": "64"}, 400, "64, 128, 256, 384"),
        ({"input": "cat", "encoding_format": "int8"}, 400, "float or base64"),
        ({"input": "cat", "model": "icons@1"}, 404, "not the served release"),
        ({"input": "cat", "model": "gpt"}, 404, "unknown model"),
        ({"input": "cat", "model": 3}, 400, "not a string"),
        ({"input": ["x"] * 2049}, 413, "at most 2,048"),
        ({"input": ["fine", "word " * 400]}, 400, f"the maximum is {MAX_TOKENS}"),
        ({"input": "data:image/png;base64,%%%"}, 400, "not valid base64"),
        ({"input": "data:image/png;base64"}, 400, "not a data: URI"),
    ],
)
def test_a_wrong_request_gets_one_sentence_and_the_fix(
    client: TestClient, body: dict[str, object], status: int, message: str
) -> None:
    answer = client.post(PATH, json=body)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert set(error) == {"type", "message", "fix", "code", "param", "request_id"}
    assert message in error["message"]
    assert error["fix"]
    assert error["message"].endswith(error["fix"])


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b"[" * 100_000, "application/json", 413),
        (b"[1]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"input": "cat"}', "text/plain", 415),
    ],
)
def test_a_body_that_is_not_a_json_object_is_rejected(
    client: TestClient, content: bytes, kind: str, status: int
) -> None:
    answer = client.post(PATH, content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_models_lists_release_digest_and_dimensions(client: TestClient, world: World) -> None:
    (entry,) = client.get("/v1/models").json()["data"]
    assert entry["id"] == world.live.ref
    assert entry["digest"] == world.live.model
    assert entry["dimensions"] == [64, 128, 256, 384]


def test_health_and_readiness(client: TestClient, world: World) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ref = world.live.ref
    expected = {"status": "ready", "live": ref, "served": ref, "loading": "", "digest": world.live.model}
    assert client.get("/readyz").json() == expected


def test_an_unknown_url_of_the_api_responds_in_json(client: TestClient) -> None:
    assert client.get("/v1/nothing").json()["error"]["type"] == "not_found"
    assert client.get(PATH).json()["error"]["type"] == "wrong_method"


def test_a_full_queue_rejects_with_a_time_to_retry(client: TestClient) -> None:
    queue = client.app.state.server.queue  # type: ignore[attr-defined]  # Starlette's, behind the ASGI type
    queue.admitted += queue.config.max_requests
    try:
        answer = client.post(PATH, json={"input": "cat"})
        page = client.get("/", params={"q": "cat"})
    finally:
        queue.admitted -= queue.config.max_requests
    assert answer.status_code == page.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["type"] == "busy"
    assert client.post(PATH, json={"input": "cat"}).status_code == 200


def test_programs_need_no_origin_and_foreign_pages_are_rejected(client: TestClient) -> None:
    plain, foreign = (client.build_request("POST", PATH, json={"input": "cat"}) for _ in range(2))
    del plain.headers["origin"]
    foreign.headers["origin"] = "https://evil.example"
    assert client.send(plain).status_code == 200
    assert client.send(foreign).status_code == 403
