"""Captions, answers, classification and search over HTTP, with curl's bodies and with OpenAI's own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.images import solid_image
from tests.web.conftest import World

from clerestory.web.chat_request import _CAPTION
from clerestory.web.openapi import description

URL = "messages[0].content[0].image_url.url"
IMAGE = "data:image/png;base64," + base64.b64encode(solid_image()).decode()
CHAT, CLASSIFY, SEARCH = "/v1/chat/completions", "/v1/classify", "/v1/search"
DOCUMENT = description()


@pytest.fixture(scope="module")
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="any", max_retries=0) as made:
        yield made


def message(text: str | None, *images: str) -> list[Any]:
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": each}} for each in images]
    parts += [{"type": "text", "text": text}] if text is not None else []
    return [{"role": "user", "content": parts}]


def validated(path: str, answer: httpx.Response) -> dict[str, Any]:
    responses = DOCUMENT["paths"][path]["post"]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    body: dict[str, Any] = answer.json()
    jsonschema.validate(body, {**schema, "components": DOCUMENT["components"]})
    return body


def send(http: httpx.Client, path: str, **body: object) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["clerestory-release"] == "icons@2"
    found = validated(path, answer)
    assert found["id"] == answer.headers["clerestory-response"]
    return found


def refused(http: httpx.Client, path: str, **body: object) -> tuple[int, str, str | None]:
    answer = http.post(path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    error = validated(path, answer)["error"]
    assert error["message"].endswith(error["fix"])
    assert error["fix"]
    return answer.status_code, error["code"], error["param"]


def test_openais_client_gets_captions(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        model="icons", messages=message("What's in this image?", IMAGE), n=2, max_completion_tokens=40, temperature=0
    )
    assert 1 <= len(made.choices) <= 2
    assert all(choice.message.role == "assistant" and choice.message.content for choice in made.choices)
    assert {choice.finish_reason for choice in made.choices} == {"stop"}
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens > 0
    facts = made.model_extra["clerestory"]["choices"]  # type: ignore[index]
    assert [each["kind"] for each in facts] == ["caption"] * len(made.choices)


def test_openais_client_streams_the_same_words(client: openai.OpenAI) -> None:
    asked = {"model": "icons@live", "messages": message("Describe this image.", IMAGE)}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    chunks = list(stream)
    said = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_openais_client_reads_headers_and_async_answers(client: openai.OpenAI, server: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model="icons", messages=message(None, IMAGE))
    assert raw.headers["clerestory-release"] == "icons@2"
    assert raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content
    assert client.models.retrieve("icons").id == "icons@2"
    with client.chat.completions.with_streaming_response.create(
        model="icons", messages=message("caption", IMAGE), stream=True
    ) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        schema = {"$ref": "#/components/schemas/ChatCompletionChunk", "components": DOCUMENT["components"]}
        jsonschema.validate(json.loads(line.removeprefix("data: ")), schema)


def test_openais_client_shows_what_the_model_can_do(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embed images and texts.*guided_choice") as problem:
        client.chat.completions.create(model="icons", messages=message("How many cats are there?", IMAGE))
    assert problem.value.code == "question_not_supported"
    with pytest.raises(openai.BadRequestError, match="has no image.*generate captions") as problem:
        client.chat.completions.create(model="icons", messages=[{"role": "user", "content": "Hello!"}])
    assert (problem.value.code, problem.value.param) == ("image_required", "messages")


def test_a_question_with_given_answers_is_answered(http: httpx.Client) -> None:
    options = ["a cat", "a red heart", "a car"]
    made = send(http, CHAT, messages=message("This shows", IMAGE), guided_choice=options, n=3)
    assert sorted(choice["message"]["content"] for choice in made["choices"]) == sorted(options)
    facts = made["clerestory"]["choices"][0]
    assert facts["kind"] == "choice"
    assert sum(each["probability"] for each in facts["options"]) == pytest.approx(1, abs=1e-4)
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string", "enum": options}}}
    same = send(http, CHAT, messages=message("This shows", IMAGE), response_format=form)
    assert same["choices"][0]["message"] == made["choices"][0]["message"]


def test_a_caption_is_cut_and_says_so(http: httpx.Client) -> None:
    made = send(http, CHAT, messages=message("caption", IMAGE), max_tokens=1, temperature=1.5, seed=3)
    (choice,) = made["choices"]
    assert len(choice["message"]["content"].split()) == 1
    assert choice["finish_reason"] in {"length", "stop"}
    assert made["clerestory"]["ignored"] == ["seed", "temperature"]


def test_parameters_that_are_null_or_neutral_are_accepted(http: httpx.Client) -> None:
    plain = send(http, CHAT, messages=message("caption", IMAGE))
    names = DOCUMENT["components"]["schemas"]["ChatRequest"]["properties"]
    nulls = dict.fromkeys(set(names) - {"messages"}, None) | {"unknown_thing": None}
    neutral = {"top_p": 1, "presence_penalty": 0.0, "logprobs": False, "tools": [], "stop": []}
    for more in (nulls, neutral):
        assert send(http, CHAT, messages=message("caption", IMAGE), **more)["choices"] == plain["choices"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_parameter", "messages"),
        ({"messages": []}, "invalid_type", "messages"),
        ({"messages": ["hello"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "tool": 1}]}, "unknown_parameter", "messages[0].tool"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "invalid_value", "messages"),
        ({"messages": message("a", "https://example.org/cat.png")}, "remote_image", URL),
        ({"messages": message("a", "file:///etc/passwd")}, "remote_image", URL),
        ({"messages": message("a", "cat.png")}, "invalid_data_uri", URL),
        ({"messages": message("a", IMAGE, IMAGE)}, "too_many_images", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "b"}]}]}, "invalid_value", "messages[0].content[0].type"),
        ({"messages": message("caption", IMAGE), "n": 0}, "invalid_value", "n"),
        ({"messages": message("caption", IMAGE), "n": True}, "invalid_value", "n"),
        ({"messages": message("caption", IMAGE), "max_tokens": 10**30}, "invalid_value", "max_tokens"),
        ({"messages": message("caption", IMAGE), "temperature": -1}, "invalid_value", "temperature"),
        ({"messages": message("caption", IMAGE), "stream": 1}, "invalid_type", "stream"),
        ({"messages": message("caption", IMAGE), "stream_options": {}}, "invalid_value", "stream_options"),
        ({"messages": message("caption", IMAGE), "tools": [{}]}, "unsupported_parameter", "tools"),
        ({"messages": message("caption", IMAGE), "top_p": 0.5}, "unsupported_parameter", "top_p"),
        ({"messages": message("caption", IMAGE), "tempreature": 1}, "unknown_parameter", "tempreature"),
        ({"messages": message("caption", IMAGE), "guided_choice": ["a"]}, "invalid_value", "guided_choice"),
        ({"messages": message("caption", IMAGE), "guided_choice": ["a", "a"]}, "invalid_value", "guided_choice[1]"),
        ({"messages": message("", IMAGE), "response_format": {}}, "unsupported_parameter", "response_format"),
        ({"messages": message("caption", IMAGE), "model": "gpt-4o"}, "model_not_found", "model"),
    ],
)  # fmt: skip
def test_a_chat_that_cannot_be_answered_is_refused_by_name(
    http: httpx.Client, body: dict[str, Any], code: str, param: str
) -> None:
    assert refused(http, CHAT, **body)[1:] == (code, param)


@pytest.mark.parametrize(
    "text",
    [
        "Describe this image.",
        "What’s in this image?",
        "what is this",
        "Please write a short caption for this picture",
        "Give me alt text for the photo.",
        "Can you describe the picture in one sentence?",
        "What does this icon show?",
        "caption",
    ],
)
def test_a_wish_for_a_caption_is_recognised(text: str) -> None:
    assert _CAPTION.fullmatch(text)


@pytest.mark.parametrize(
    "text",
    [
        "Describe the colour of the car.",
        "What is the capital of France?",
        "Is this a cat?",
        "describe this image as a poem",
    ],
)
def test_any_other_question_is_none(text: str) -> None:
    assert not _CAPTION.fullmatch(text)


@given(st.text(alphabet="describe thi image.please,?", max_size=2_000))
@settings(suppress_health_check=list(HealthCheck))
def test_recognising_a_wish_takes_no_long_time(text: str) -> None:
    _CAPTION.fullmatch("please " * 500 + text + "\n" * 500)


def test_labels_are_scored_as_in_an_evaluation(http: httpx.Client, world: World) -> None:
    samples = world.data.samples[:3]
    images = ["data:image/png;base64," + base64.b64encode(world.data.read(each)).decode() for each in samples]
    labels = [each.caption for each in samples] + ["a word of no image here"]
    labels = list(dict.fromkeys(labels))
    made = send(http, CLASSIFY, input=images, labels=labels)
    assert [each["index"] for each in made["data"]] == [0, 1, 2]
    for each in made["data"]:
        assert {score["label"] for score in each["scores"]} == set(labels)
        values = [score["score"] for score in each["scores"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)
        assert each["label"] == each["scores"][0]["label"]
    if made["calibration"]["measured"]:
        assert all(0 <= s["calibrated"] <= 1 for each in made["data"] for s in each["scores"])
    one = send(http, CLASSIFY, input=images[0], labels=labels, template="{}")
    rows = [
        each["embedding"] for each in http.post("/v1/embeddings", json={"input": [images[0], *labels]}).json()["data"]
    ]
    logits = np.array(rows[1:]) @ np.array(rows[0])
    assert one["data"][0]["label"] == labels[int(logits.argmax())]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"labels": ["a", "b"]}, "missing_parameter", "input[0]"),
        ({"input": "a cat", "labels": ["a", "b"]}, "invalid_data_uri", "input[0]"),
        ({"input": IMAGE}, "missing_parameter", "labels"),
        ({"input": IMAGE, "labels": ["a"]}, "invalid_value", "labels"),
        ({"input": IMAGE, "labels": ["a", " "]}, "empty_input", "labels[1]"),
        ({"input": IMAGE, "labels": ["a", "a"]}, "invalid_value", "labels[1]"),
        ({"input": IMAGE, "labels": ["a", "b"], "template": "a photo"}, "invalid_value", "template"),
        ({"input": IMAGE, "labels": ["a", "b"], "template": "{}{}"}, "invalid_value", "template"),
        ({"input": IMAGE, "labels": [str(i) for i in range(900)]}, "too_many_inputs", "labels"),
        ({"input": [IMAGE] * 65, "labels": ["a", "b"]}, "too_many_inputs", "input"),
        ({"input": [], "labels": ["a", "b"]}, "too_many_inputs", "input"),
        ({"input": IMAGE, "lables": ["a", "b"]}, "unknown_parameter", "lables"),
    ],
)
def test_a_classification_that_makes_no_sense_is_refused_by_name(
    http: httpx.Client, body: dict[str, Any], code: str, param: str
) -> None:
    assert refused(http, CLASSIFY, **body)[1:] == (code, param)


def test_images_are_found_by_words_by_an_image_and_by_both(http: httpx.Client, world: World) -> None:
    sample = world.data.samples[5]
    image = "data:image/png;base64," + base64.b64encode(world.data.read(sample)).decode()
    by_image = send(http, SEARCH, image=image, k=3)
    assert by_image["data"][0]["id"] == sample.id
    assert by_image["data"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert send(http, SEARCH, query=image, k=3)["data"] == by_image["data"]
    assert http.get(by_image["data"][0]["url"]).status_code == 200
    by_words = send(http, SEARCH, query=sample.caption)
    assert len(by_words["data"]) == 10
    assert [each["index"] for each in by_words["data"]] == list(range(10))
    avoiding = send(http, SEARCH, query=f"{sample.caption} -cat", without=["dog"])
    assert avoiding["query"] == {"words": sample.caption, "without": ["cat", "dog"], "image": False}
    assert {each["confidence"] for each in avoiding["data"]} == {"not measured"}
    assert send(http, SEARCH, query="cat", image=image)["query"]["image"] is True


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_parameter", "query"),
        ({"query": "-cat"}, "missing_parameter", "query"),
        ({"query": 5}, "invalid_type", "query"),
        ({"query": "a " * 400}, "text_too_long", "query"),
        ({"query": "cat", "k": 0}, "invalid_value", "k"),
        ({"query": "cat", "k": 10**40}, "invalid_value", "k"),
        ({"query": IMAGE, "image": IMAGE}, "invalid_value", "image"),
        ({"query": "cat", "without": "dog"}, "invalid_type", "without"),
        ({"query": "cat", "top_k": 3}, "unknown_parameter", "top_k"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_by_name(
    http: httpx.Client, body: dict[str, Any], code: str, param: str
) -> None:
    assert refused(http, SEARCH, **body)[1:] == (code, param)


@pytest.mark.parametrize("path", [CHAT, CLASSIFY, SEARCH])
@pytest.mark.parametrize(
    "content", [rb'{"query": "\ud800"}', b"[]", b"", b'{"k": 1e999}', b'{"model": "icons@' + b"9" * 30 + b'"}', b"\xff"]
)
def test_what_is_no_text_is_refused(http: httpx.Client, path: str, content: bytes) -> None:
    answer = http.post(path, content=content, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    validated(path, answer)
