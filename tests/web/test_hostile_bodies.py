"""The server answers every body with the status that fits, as its own description says; never with a 500.

``bench/serving.py`` sends two thousand, larger ones among them, and watches health checks and memory meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import jsonschema
import pytest
from schemathesis import Case, GenerationMode
from tests.support.hostile_bodies import for_each_case, hostile_bodies
from tests.web.small_server import running

from clerestory.store import open_store
from clerestory.web import create_app
from clerestory.web.openapi import description

POSTS = [path for path, operations in description()["paths"].items() if "post" in operations and "feed" not in path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[str]:
    store = open_store(tmp_path_factory.mktemp("hostile") / "home")
    with running(create_app(store, None, model=str(tiny_model))) as url:
        yield url


def check_response(status: int, body: object, path: str = "/v1/embeddings") -> None:
    """The response is described, and an error is one sentence that ends with its remedy."""
    document = description()
    operations = document["paths"][path]
    responses = operations.get("post", operations.get("get"))["responses"]
    assert str(status) in responses
    schema = responses[str(status)]["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**schema, "components": document["components"]})


def test_a_body_written_by_hand_gets_an_answer_below_500(base: str) -> None:
    anew = httpx.Limits(max_keepalive_connections=0)  # each body has a connection of its own
    with httpx.Client(base_url=base, timeout=300, limits=anew) as client:
        for body in hostile_bodies(megabytes=2):
            headers = {name: value.encode("latin-1") for name, value in body.headers.items()}
            answer = client.post("/v1/embeddings", content=body.content, headers=headers)  # type: ignore[arg-type]  # bytes
            assert answer.status_code < 500, body.name
            check_response(answer.status_code, answer.json())
            assert client.get("/healthz").status_code == 200, body.name


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_a_request_drawn_from_the_description_gets_a_described_answer(
    base: str, mode: GenerationMode, path: str
) -> None:
    def check(case: Case) -> None:
        response = case.call(base_url=base, timeout=300)
        assert response.status_code < 500 or (response.status_code == 504 and "X-Request-Timeout" in case.headers)
        if mode is GenerationMode.NEGATIVE:
            assert response.status_code >= 400
        if not 300 <= response.status_code < 400:
            check_response(response.status_code, response.json(), path)

    for_each_case(base, 40, 1, check, mode, path)


def test_every_route_of_the_api_is_described(base: str, tmp_path: Path) -> None:
    paths = description()["paths"]
    app = create_app(open_store(tmp_path), None)
    served = {route.path.replace(":path", "") for route in app.routes}
    assert {path for path in served if path.startswith(("/v1/", "/healthz", "/readyz", "/openapi"))} == set(paths)
    for path in ("/v1/models", "/healthz", "/readyz", "/openapi.json"):
        answer = httpx.get(base + path)
        schema = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": description()["components"]})
