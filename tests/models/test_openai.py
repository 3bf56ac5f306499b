"""An endpoint that answers, is busy, breaks, talks garbage or is late: a real server on the loopback address."""

from __future__ import annotations

import hashlib
import io
import math
import socket

import numpy as np
import pytest
from PIL import Image
from tests.support.endpoint import MODEL, endpoint

from clerestory.core.errors import InputError, NotFound, Undecided
from clerestory.models import GenerationRequest, capabilities, open_reference
from clerestory.models.adapters.http_client import MAX_CONSECUTIVE_FAILURES, RetryPolicy
from clerestory.models.adapters.openai import MAX_CONCURRENT_REQUESTS, Endpoint, ScoringEndpoint, open_endpoint
from clerestory.models.resolve import remote_host

QUICK = RetryPolicy(timeout=5.0, retries=2, backoff=0.0)
RED = Image.new("RGB", (5, 4), (255, 0, 0))


def opened(ref: str, retry_policy: RetryPolicy = QUICK) -> Endpoint:
    model = open_endpoint(ref, retry_policy)
    assert isinstance(model, Endpoint)
    return model


def png_digest(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG")
    return hashlib.sha256(content.getvalue()).hexdigest()[:8]


def test_the_picture_and_the_words_arrive_and_the_answer_comes_back() -> None:
    with endpoint() as server:
        model = open_reference(server.ref)
        assert capabilities(model) == ("Captioner", "Generator")
        assert isinstance(model, Endpoint)
        replies = model.generate([GenerationRequest("what is it", (RED,), 9, 0.5), GenerationRequest("hello")])
        assert replies[0].text == f"1. {png_digest(RED)} | what is it"
        assert (replies[0].tokens_in, replies[0].tokens_out, replies[0].error) == (8, 3, "")
        assert replies[1].text == "1. hello"
        asked = next(body for body in server.asked if "what is it" in str(body))
        assert (asked["model"], asked["max_tokens"], asked["temperature"]) == (MODEL, 9, 0.5)
        candidates = model.caption_images([RED], 2)[0]
        assert candidates[0].text.startswith(png_digest(RED))
        assert math.isnan(candidates[0].score)
    assert model.generate([]) == []


@pytest.mark.parametrize(
    ("mood", "reason", "tries"),
    [
        ("busy", "429 Too Many Requests: too many requests (3 attempts)", 3),
        ("broken", "500 Internal Server Error: out of memory (3 attempts)", 3),
        ("garbage", "not a JSON object (3 attempts)", 3),
        ("empty", "has no completion", 1),
        ("refuses", "400 Bad Request: pictures are not taken", 1),
        ("error", "responded with an error: the model is being loaded (3 attempts)", 3),
        ("declines", "the model refused to answer: I cannot help with that", 1),
    ],
)
def test_what_stays_wrong_is_a_reason_and_no_exception(mood: str, reason: str, tries: int) -> None:
    with endpoint() as server:
        model = opened(server.ref)
        server.always, before = mood, len(server.asked)
        reply = model.generate([GenerationRequest("x", (RED,))])[0]
        assert reply.text == ""
        assert reply.error.endswith(reason)
        assert len(server.asked) - before == tries
        assert model.caption_images([RED], 2) == [[]]
        assert model.last_error == reply.error


@pytest.mark.parametrize("moods", [["busy", "ok"], ["broken", "garbage", "ok"]])
def test_what_passes_is_tried_again(moods: list[str]) -> None:
    with endpoint() as server:
        model = opened(server.ref)
        server.moods = list(moods)
        reply = model.generate([GenerationRequest("x")])[0]
        assert (reply.text, reply.error) == ("1. x", "")


def test_it_waits_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("clerestory.models.adapters.http_client.time.sleep", waits.append)
    with endpoint() as server:
        model = opened(server.ref, RetryPolicy(timeout=5.0, retries=4, backoff=0.5))
        server.moods, server.after = ["busy"] * 4, ["7", "100000", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"]
        assert model.generate([GenerationRequest("x")])[0].text == "1. x"
        assert waits == [7.0, 60.0, 0.0, 4.0]
        waits.clear()
        server.moods = ["broken"] * 2
        assert model.generate([GenerationRequest("x")])[0].text == "1. x"
        assert waits == [0.5, 1.0]


def test_an_answer_that_is_too_late_is_a_reason() -> None:
    with endpoint() as server:
        model = opened(server.ref, RetryPolicy(timeout=0.2, retries=1, backoff=0.0))
        server.always = "late"
        assert (
            model.generate([GenerationRequest("x")])[0].error
            == "the endpoint did not respond within 0.2 s (2 attempts)"
        )


def test_an_endpoint_that_is_down_is_not_asked_for_hours() -> None:
    with endpoint() as server:
        model = opened(server.ref, RetryPolicy(timeout=5.0, retries=0))
        server.always = "broken"
        server.asked.clear()
        replies = model.generate([GenerationRequest(f"question {i}") for i in range(100)])
        assert len(server.asked) <= MAX_CONSECUTIVE_FAILURES + MAX_CONCURRENT_REQUESTS
        assert all(reply.error for reply in replies)
        assert replies[-1].error == "8 requests in a row failed, so no request was sent for a while"
        server.always = "ok"
        model.client._circuit_open_until = 0.0
        assert model.generate([GenerationRequest("again")])[0].text


def test_refused_requests_do_not_make_an_endpoint_down() -> None:
    with endpoint(always="refuses") as server:
        model = opened(server.ref, QUICK)
        server.asked.clear()
        model.generate([GenerationRequest(f"question {i}") for i in range(30)])
        assert len(server.asked) == 30


def test_the_reason_why_options_are_not_scored_is_told() -> None:
    with endpoint(logprobs={"A": -0.1, "B": -2.0}) as server:
        model = opened(server.ref, RetryPolicy(timeout=5.0, retries=0))
        server.always = "broken"
        scores = model.score_options([None], ["Which?"], [["a", "b"]])
        assert np.isnan(scores[0]).all()
        assert "500" in model.last_error
        server.always = "ok"
        assert np.isfinite(model.score_options([None], ["Which?"], [["a", "b"]])[0]).all()
        assert model.last_error == ""


def test_one_bad_answer_spoils_no_other() -> None:
    with endpoint() as server:
        model = opened(server.ref, RetryPolicy(timeout=5.0, retries=0))
        server.moods = ["broken"]
        replies = model.generate([GenerationRequest(f"question {i}") for i in range(8)])
        assert sum(bool(reply.error) for reply in replies) == 1
        assert [r.text for i, r in enumerate(replies) if not r.error and r.text != f"1. question {i}"] == []


def test_newer_endpoints_get_the_limit_under_its_new_name() -> None:
    with endpoint(always="new") as server:
        reply = opened(server.ref).generate([GenerationRequest("x", max_tokens=5)])[0]
        assert reply.text == "1. x"
        assert server.asked[-1]["max_completion_tokens"] == 5


def test_a_new_name_that_concurrent_requests_learn_at_once_fails_none_of_them() -> None:
    with endpoint() as server:
        model = opened(server.ref, RetryPolicy(timeout=5.0, retries=0))
        server.always = "new"
        replies = model.generate([GenerationRequest(f"question {i}") for i in range(16)])
        assert [reply.error for reply in replies] == [""] * 16
        server.asked.clear()
        assert not model.generate([GenerationRequest("x")])[0].error
        assert len(server.asked) == 1, "what was learnt is kept"


def test_what_the_probe_learns_is_not_learnt_again() -> None:
    with endpoint(always="new", refused=("temperature",)) as server:
        model = opened(server.ref)
        server.asked.clear()
        assert model.generate([GenerationRequest("x")])[0].text == "1. x"
        assert len(server.asked) == 1
        assert model.facts()["parameters_not_accepted"] == ("temperature",)


@pytest.mark.parametrize("most", [1, 3, 5, 19])
def test_fewer_probabilities_are_requested_where_fewer_are_reported(most: int) -> None:
    likely = {"A": math.log(0.5), "B": math.log(0.2)}
    with endpoint(logprobs=likely, most_logprobs=most) as server:
        model = opened(server.ref)
        assert np.isfinite(model.score_options([None], ["which?"], [["red", "blue"]])[0]).all()
        assert 1 <= model.facts()["lowered_top_logprobs"] <= most


def test_a_parameter_that_cannot_be_dropped_is_the_reason() -> None:
    with endpoint(refused=("messages",)) as server:
        reply = opened(server.ref).generate([GenerationRequest("x")])[0]
        assert "400 Bad Request: Unsupported value: 'messages'" in reply.error


def test_an_endpoint_that_is_busy_is_not_taken_for_one_without_probabilities() -> None:
    with endpoint(logprobs={"A": -0.1}, moods=["busy"]) as server:
        assert isinstance(opened(server.ref), ScoringEndpoint)
    for mood in ("busy", "broken"):
        with (
            endpoint(logprobs={"A": -0.1}, always=mood) as server,
            pytest.raises(Undecided, match="did not answer"),
        ):
            opened(server.ref)
    with endpoint(always="rude") as server, pytest.raises(InputError, match="requires a key"):
        opened(server.ref)


def test_a_scoring_endpoint_has_another_digest_than_one_without_probabilities() -> None:
    with endpoint() as server:
        plain = opened(server.ref)
        server.logprobs = {"A": -0.1}
        assert opened(server.ref).digest != plain.digest


def test_models_may_be_listed_without_an_object_around_them() -> None:
    with endpoint(listing="bare") as server:
        assert opened(f"openai:{server.address}").model == MODEL


@pytest.mark.parametrize("key", ["sk-secret\r", " sk-secret\n", "sk-secret\t"])
def test_blanks_around_a_key_are_not_part_of_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with endpoint() as server:
        opened(server.ref)
        assert server.keys[-1] == "Bearer sk-secret"


@pytest.mark.parametrize("key", ["sk-söcret", "sk-se\ncret", "sk-se cret", "sk-\x07secret", "“sk-secret”"])
def test_a_key_that_no_request_can_carry_is_told_without_showing_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with endpoint() as server, pytest.raises(InputError, match="the key in OPENAI_API_KEY has") as caught:
        open_endpoint(server.ref, QUICK)
    assert not any(part in str(caught.value) for part in ("cret", "sk-"))


def test_letters_are_scored_where_probabilities_are_told() -> None:
    likely = {"A": math.log(0.5), " B": math.log(0.2), "b": math.log(0.1), "The": math.log(0.01)}
    with endpoint(logprobs=likely) as server:
        model = opened(server.ref)
        assert isinstance(model, ScoringEndpoint)
        assert capabilities(model) == ("Scorer", "Captioner", "Generator")
        scores = model.score_options([RED, None], ["which?", "which?"], [["red", "blue", "green"], ["x", "y"]])
        np.testing.assert_allclose(np.exp(scores[0]), np.array([0.5, 0.3, 0.01]) / 0.81, atol=1e-9)
        np.testing.assert_allclose(np.exp(scores[1]), np.array([0.5, 0.3]) / 0.8, atol=1e-9)
        prompts = [str(body["messages"][0]["content"]) for body in server.asked]
        assert any("A. red\\nB. blue\\nC. green" in prompt for prompt in prompts)
        server.always = "refuses"
        assert np.isnan(model.score_options([RED], ["which?"], [["red", "blue"]])[0]).all()
        with pytest.raises(InputError, match="at most 20"):
            model.score_options([RED], ["which?"], [[str(i) for i in range(21)]])


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with endpoint() as server:
        model = opened(server.ref)
        server.always = "rude"
        error = model.generate([GenerationRequest("x")])[0].error
        assert server.keys[-1] == "Bearer sk-very-secret"
        assert "401" in error
        assert "sk-very-secret" not in error + repr(model.facts()) + repr(model) + repr(vars(model))
        server.listing = "key"
        with pytest.raises(InputError, match="requires a key") as caught:
            open_endpoint(server.ref, QUICK)
        assert "sk-very-secret" not in str(caught.value)
        monkeypatch.setenv("CLERESTORY_API_KEY", "other")
        with pytest.raises(InputError):
            open_endpoint(server.ref, QUICK)
        assert server.keys[-1] == "Bearer other"


def test_models_are_found_by_name() -> None:
    with endpoint(models=[{"id": "small"}, {"id": MODEL}]) as server:
        with pytest.raises(NotFound, match="did you mean tiny-vision"):
            open_endpoint(f"openai:{server.address}#tiny-visoin", QUICK)
        with pytest.raises(InputError, match="serves 2 models"):
            open_endpoint(f"openai:{server.address}", QUICK)
        server.models = server.models[1:]
        assert opened(f"openai:{server.address}").model == MODEL


def test_a_url_that_leads_nowhere_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        with pytest.raises(InputError, match="cannot be reached"):
            open_endpoint(f"openai:http://127.0.0.1:{taken.getsockname()[1]}/v1#x", QUICK)
    for bad in ("openai:", "openai:localhost:8000#x", "openai:ftp://host/v1#x", "openai:http://a:b@host/v1#x"):
        with pytest.raises(InputError):
            open_reference(bad)
    with endpoint(listing="garbage") as server, pytest.raises(InputError, match="not a JSON object"):
        open_endpoint(server.ref, QUICK)


def test_the_digest_is_of_what_is_known() -> None:
    with endpoint(models=[{"id": "a"}, {"id": "b"}]) as server:
        first, again, other = (opened(f"openai:{server.address}#{name}") for name in "aab")
        assert first.digest == again.digest != other.digest
        assert "cannot be pinned" in first.facts()["pinned"]


def test_it_is_known_what_leaves_this_computer() -> None:
    assert remote_host("openai:https://api.example.com/v1#m") == "api.example.com"
    assert remote_host("openai:http://192.168.1.5:8000/v1") == "192.168.1.5"
    for here in ("openai:http://127.0.0.1:8000/v1#m", "openai:http://localhost/v1", "openai:http://[::1]/v1", "hf:a/b"):
        assert remote_host(here) == ""
