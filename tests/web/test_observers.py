"""Each request has one record: its ids are in the response, and observers receive it with the embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.support.images import data_uri, solid_image
from tests.web.conftest import World

from clerestory.store.operations.prediction import Prediction, RequestKind
from clerestory.web.observers import Embeddings

PATH = "/v1/embeddings"


class Notes:
    """An observer that keeps what it receives."""

    def __init__(self) -> None:
        self.seen: list[tuple[Prediction, Embeddings | None, Sequence[bytes]]] = []

    def start(self) -> None: ...

    def observe(self, prediction: Prediction, embeddings: Embeddings | None, images: Sequence[bytes]) -> None:
        self.seen.append((prediction, embeddings, images))

    def close(self) -> None: ...


class Failing(Notes):
    """An observer with a bug."""

    def observe(self, prediction: Prediction, embeddings: Embeddings | None, images: Sequence[bytes]) -> None:
        raise ZeroDivisionError


@pytest.fixture
def notes(client: TestClient) -> Iterator[Notes]:
    observers = client.app.state.server.observers  # type: ignore[attr-defined]  # Starlette's, behind the ASGI type
    before, notes = list(observers._observers), Notes()
    observers.append(Failing())
    observers.append(notes)
    yield notes
    observers._observers[:] = before


def test_an_answer_is_observed_once_with_its_ids_and_embeddings(client: TestClient, notes: Notes, world: World) -> None:
    image = solid_image()
    answer = client.post(PATH, json={"input": ["a cat", data_uri(image)]}, headers={"x-request-id": "job-7/3"})
    assert answer.status_code == 200
    ((prediction, rows, images),) = notes.seen
    assert answer.headers["x-request-id"] == prediction.request == "job-7/3"
    assert answer.headers["clerestory-response"] == answer.json()["id"] == prediction.response
    assert (prediction.name, prediction.number, prediction.model) == ("icons", world.live.number, world.live.model)
    assert (prediction.kind, prediction.status, prediction.finite) == (RequestKind.EMBEDDINGS, 200, True)
    assert (prediction.inputs, prediction.images, prediction.characters) == (2, 1, 5)
    assert prediction.pixels > 0
    assert prediction.latency_s > 0
    assert images == (image,)
    assert rows is not None
    np.testing.assert_allclose(rows, [each["embedding"] for each in answer.json()["data"]], atol=1e-6)


@pytest.mark.parametrize("sent", ["", " ", "a b", "é", "x" * 65, "\x7f"])
def test_an_invalid_request_id_is_replaced(client: TestClient, sent: str) -> None:
    answer = client.get("/healthz", headers={"x-request-id": sent.encode()})
    assert answer.headers["x-request-id"].startswith("req_")


def test_an_error_names_its_request_and_is_observed_once_a_version_is_bound(client: TestClient, notes: Notes) -> None:
    answer = client.post(PATH, json={"input": ""})
    assert answer.status_code == 400
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    assert [prediction.status for prediction, _, _ in notes.seen] == [400]
    assert client.get("/v1/nothing").status_code == 404
    assert client.post(PATH, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert len(notes.seen) == 1
