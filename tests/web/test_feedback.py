"""Feedback by the API and by the controls of pages, and the pages that show it."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import BASE, World

from clerestory.store.operations.feedback import Feedback, read_feedback
from clerestory.store.operations.predictions import find_prediction

PATH = "/v1/feedback"


def answered(client: TestClient, **values: object) -> str:
    """The id of a response."""
    answer = client.post("/v1/embeddings", json={"input": "a cat", **values})
    assert answer.status_code == 200
    return str(answer.json()["id"])


def said_about(world: World, response: str) -> list[Feedback]:
    with world.store.database.reading() as connection:
        return read_feedback(connection, [response])


def test_feedback_is_on_the_disk_when_it_is_acknowledged(client: TestClient, world: World) -> None:
    response = answered(client, user="grace")
    answer = client.post(PATH, json={"response": response, "kind": "thumbs", "value": "down"})
    assert answer.status_code == 200
    (item,) = said_about(world, response)
    assert (item.value, item.source) == ("down", "api")
    with world.store.database.reading() as connection:
        recorded = find_prediction(connection, response)
    assert recorded.subject == item.subject != ""
    assert "grace" not in recorded.subject
    assert len(recorded.input_hash) == 64


def test_the_same_key_gets_the_same_answer_and_another_content_a_conflict(client: TestClient, world: World) -> None:
    response = answered(client)
    body = {"response": response, "kind": "verdict", "value": "right"}
    first = client.post(PATH, json=body, headers={"idempotency-key": "k-1-" + response})
    again = client.post(PATH, json={**body, "key": "k-1-" + response})
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    other = client.post(PATH, json={**body, "value": "wrong", "key": "k-1-" + response})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "key_reused")
    assert len(said_about(world, response)) == 1
    both = client.post(PATH, json={**body, "key": "a"}, headers={"idempotency-key": "b"})
    assert both.status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"response": "resp_" + "0" * 32, "kind": "thumbs", "value": "up"}, 404, "no response has the id"),
        ({"response": "x", "kind": "thumb", "value": "up"}, 400, "did you mean thumbs"),
        ({"response": "x", "kind": "thumbs", "value": "sideways"}, 400, "up or down"),
        ({"response": "x", "kind": "text", "value": "a\u0000b"}, 400, "zero character"),
        ({"response": "x", "kind": "text", "value": 7}, 400, "not text"),
        ({"response": "x", "kind": "text", "value": "x", "colour": "red"}, 400, "no field"),
        ({"response": "x", "kind": "text"}, 400, "lacks the field"),
        ({"response": "x", "kind": "text", "value": "x", "at": "yesterday"}, 400, "not a time"),
        ([1], 400, "JSON object"),
    ],
)
def test_what_cannot_be_recorded_says_why(client: TestClient, body: object, status: int, words: str) -> None:
    answer = client.post(PATH, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_bad_bodies_are_refused(client: TestClient) -> None:
    assert client.post(PATH, content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert client.post(PATH, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    for path in (PATH, f"{PATH}/batch"):
        large = client.post(path, content=b" " * 2_000_000, headers={"content-type": "application/json"})
        assert large.status_code == 413
        deep = client.post(path, content=b"[" * 60_000, headers={"content-type": "application/json"})
        assert deep.status_code in (400, 413)
    lone = b'{"response": "x", "kind": "text", "value": "\\ud800"}'
    assert client.post(PATH, content=lone, headers={"content-type": "application/json"}).status_code == 400


def test_a_batch_adds_what_it_can_and_names_the_rest(client: TestClient, world: World) -> None:
    response = answered(client)
    items = [
        {"response": response, "kind": "label", "value": "cat", "key": "a" + response, "source": "labels"},
        {"response": response, "kind": "label", "value": "cat", "key": "a" + response, "source": "labels"},
        {"response": "unknown", "kind": "label", "value": "cat"},
        {"response": response, "kind": "nonsense", "value": "cat"},
    ]
    answer = client.post(f"{PATH}/batch", json={"items": items}).json()
    assert (answer["added"], answer["known"]) == (1, 1)
    assert [(each["index"], each["status"]) for each in answer["rejected"]] == [(2, 404), (3, 400)]
    assert client.post(f"{PATH}/batch", json={"items": []}).status_code == 400


def forms(page: str) -> list[dict[str, str]]:
    """The hidden fields of the controls of a page."""
    found = re.findall(r'<form class="say.*?</form>', page, re.S)
    return [dict(re.findall(r'name="(\w+)" value="([^"]*)"', form.replace("&amp;", "&"))) for form in found]


def test_a_search_can_be_judged_without_a_script(client: TestClient, world: World) -> None:
    assert not forms(client.get("/").text)  # nothing was searched for
    page = client.get("/?q=cat")
    controls = forms(page.text)
    assert len(controls) > 10
    assert controls[0]["response"] == page.headers["clerestory-response"]
    fields = {name: controls[0][name] for name in ("response", "item", "back", "anchor", "suggested")}
    thanks = client.post("/feedback", data={**fields, "say": "verdict:wrong"})
    assert thanks.status_code == 200  # after the redirect
    assert "Thank you" in thanks.text
    assert 'href="/?q=cat"' in thanks.text
    more = {"response": fields["response"], "item": fields["item"], "back": "/?q=cat", "more": "1"}
    back = client.post("/feedback", data={**more, "say": "caption:", "value": "a tabby"}, follow_redirects=False)
    assert back.headers["location"] == "/?q=cat"
    assert [each.value for each in said_about(world, fields["response"])] == ["wrong", "a tabby"]
    fragment = client.post("/feedback", data={**fields, "say": "thumbs:up"}, headers={"hx-request": "true"})
    assert "<html" not in fragment.text
    assert "Thank you" in fragment.text


def test_a_control_leads_to_no_other_site(client: TestClient) -> None:
    response = client.get("/?q=dog").headers["clerestory-response"]
    for back in ("//evil.example", "https://evil.example/", "/\\evil.example", "/ok\r\nX: 1"):
        data = {"response": response, "say": "thumbs:up", "back": back, "more": "1"}
        assert client.post("/feedback", data=data, follow_redirects=False).headers["location"] == "/"
        assert "evil" not in client.get("/feedback/received", params={"back": back}).text
    foreign = client.post("/feedback", data={"response": response}, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert client.post("/feedback", data={"response": response, "say": "x"}).status_code == 400
    assert BASE


def test_the_page_shows_complaints_first_with_their_trace(client: TestClient) -> None:
    response = client.get("/?q=bird").headers["clerestory-response"]
    client.post(PATH, json={"response": response, "kind": "verdict", "value": "wrong", "item": "x"})
    page = client.get("/feedback").text
    assert f"/trace/{response}" in page
    assert "Latest complaints" in page
    for period in ("day", "month", "nonsense"):
        assert client.get(f"/feedback?period={period}").status_code == 200


def test_a_correction_is_decided_on_the_page(client: TestClient, world: World) -> None:
    sample = world.data.samples[0]
    response = client.get("/?q=house").headers["clerestory-response"]
    body = {"response": response, "kind": "caption", "value": "a <b>house</b>", "item": sample.id}
    client.post(PATH, json=body)
    page = client.get("/feedback").text
    assert "a &lt;b&gt;house&lt;/b&gt;" in page
    number = max(map(int, re.findall(r'value="decline-(\d+)"', page)))
    step = {"do": f"decline-{number}", "who": "Ada", "why": ""}
    assert client.post("/feedback/corrections", data=step).status_code == 400
    assert client.post("/feedback/corrections", data={**step, "why": "not a house"}).status_code == 200
    assert said_about(world, response)[0].decision == "declined"
    assert world.store.journal.verify() == []
    assert client.post("/feedback/corrections", data={"do": "burn-1"}).status_code == 400


def test_the_trace_names_the_people_and_the_numbers(client: TestClient, world: World) -> None:
    response = client.get("/?q=horse").headers["clerestory-response"]
    client.post(PATH, json={"response": response, "kind": "text", "value": "no horse at all"})
    page = client.get(f"/trace/{response[:20]}").text
    for words in (world.live.ref, "grace", "it holds every rule", "no horse at all", world.live.model):
        assert words in page, words
    assert client.get("/trace/resp_0000000000").status_code == 404
    assert client.get("/trace/%00").status_code == 404
    assert client.get("/trace").status_code == 200
    assert client.get(f"/trace?id={response}", follow_redirects=False).headers["location"] == f"/trace/{response}"
    assert client.get("/trace?id=a%20b").status_code == 200


def test_reviewed_captions_are_feedback_on_the_suggestions(client: TestClient, world: World) -> None:
    start = client.post("/describe/examples", follow_redirects=False).headers["location"]
    review = client.app.state.server.reviews.get(start.rpartition("/")[2])  # type: ignore[attr-defined]  # Starlette's
    first, second = review.page.items[:2]
    assert first.response
    assert "None is right" in client.get(start).text
    client.post(start, data={"do": "wrong-1"})
    client.post(start, data={"do": "accept-1", "caption-1": "quite another"})
    client.post(start, data={"do": "use-2-1"})
    assert [(each.kind, each.value) for each in said_about(world, first.response)] == [
        ("verdict", "wrong"),
        ("caption", "quite another"),
    ]
    (said,) = said_about(world, second.response)
    assert said.value == said.suggested == second.proposals[0].text
    client.post(start, data={"do": "undo"})
    assert [each.value for each in said_about(world, second.response)] == [said.value, ""]
    page = client.get("/feedback").text
    assert "Should be: “quite another”" in page
    assert "its image was not kept" in page
