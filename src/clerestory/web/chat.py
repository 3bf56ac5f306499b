"""``POST /v1/chat/completions``: captions of images and answers to questions about them, in OpenAI's format."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from clerestory.apps.captioning import suggest_captions
from clerestory.apps.confidence import NOT_MEASURED
from clerestory.apps.describing import look_at_images, tag_encoder
from clerestory.apps.right_model import PHOTOGRAPH
from clerestory.apps.tags import NOT_SURE, encode_tag
from clerestory.core.errors import UploadError
from clerestory.data.images import decode_beside_requests
from clerestory.models.protocols import GenerationRequest, Generator, Scorer
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.answering import ModelRequest, ability, count_tokens, model_request
from clerestory.web.chat_request import ChatRequest, parse_chat_request, texts_of
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState
from clerestory.web.views import release_header

EVENT_STREAM = "text/event-stream; charset=utf-8"
_PIECES = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One answer.

    Attributes:
        text: its content.
        facts: how it came about: its kind, confidence, tags or probability.
        is_cut: whether it ended at the maximum length.
        probability: where the model states one.
    """

    text: str
    facts: Mapping[str, Any]
    is_cut: bool = False
    probability: float | None = None


async def chat_completions(request: Request) -> Response:
    """Describe an image, choose one of given answers, or generate text, as far as the loaded model can."""

    def parse(body: dict[str, Any], loaded: LoadedModel) -> ChatRequest:
        wanted = parse_chat_request(body, request.app.state.server.store, loaded)
        check_ability(wanted, loaded)
        return wanted

    async with model_request(request, RequestKind.CAPTION, "messages", parse) as (asked, wanted):
        if not wanted.wants_caption:
            asked.trace.kind = RequestKind.ANSWER
        asked.occupy(texts_of(wanted), wanted.images)
        choices = await asked.in_model_thread(_answer, asked.server, asked.loaded, wanted)
        body = await asked.server.in_thread(_body, asked, wanted, choices)
        _record(asked, choices)
    headers = release_header(asked.loaded.ref)
    if not wanted.stream:
        return JSONResponse(body, headers=headers)
    headers |= {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(body, wanted), media_type=EVENT_STREAM, headers=headers)


def check_ability(wanted: ChatRequest, loaded: LoadedModel) -> None:
    """Reject what the loaded model cannot answer, with a sentence on what it can.

    Raises:
        RequestRejected: 400.
    """
    can = ability(loaded)
    if isinstance(loaded.model, Generator):
        return
    if not wanted.images:
        raise RequestRejected(
            f"the request has no image, and this model does not chat: {can}",
            'add {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}} to the message',
            code="image_required",
            param="messages",
        )
    if len(wanted.images) > 1:
        problem = f"the message has {len(wanted.images)} images, and this model answers about one: {can}"
        raise RequestRejected(problem, "send one request for each image", code="too_many_images", param="messages")
    if wanted.options:
        if not isinstance(loaded.model, Scorer):
            problem = f"this model cannot choose among answers: {can}"
            raise RequestRejected(problem, "leave guided_choice out", code="unsupported_model", param="model")
        return
    if not wanted.wants_caption:
        if isinstance(loaded.model, Scorer):
            fix = 'send the possible answers as "guided_choice": ["yes", "no"]'
            fix += ', or ask "Describe this image."' if loaded.can_describe else ""
        else:
            fix = 'ask "Describe this image.", or start the server with a model that generates text'
        raise RequestRejected(
            f"this model does not answer questions in words of its own: {can}",
            fix,
            code="question_not_supported",
            param="messages",
        )
    if not loaded.can_describe:
        raise RequestRejected(
            f"this model does not write captions: {can}",
            'send the possible answers as "guided_choice", or start the server with a model that describes',
            code="unsupported_model",
            param="model",
        )


def _answer(server: ServerState, loaded: LoadedModel, wanted: ChatRequest) -> list[ChatChoice]:
    """The answers, best first; runs in the model's thread."""
    images = [decode_beside_requests(content) for content in wanted.images]
    model = loaded.model
    if wanted.options and isinstance(model, Scorer):
        (scores,) = model.score_options(images[:1] or [None], [wanted.question], [wanted.options])
        return _chosen(wanted, scores.tolist())
    if isinstance(model, Generator):
        return _generated(model, wanted, images)
    return [_cut(choice, wanted.max_tokens) for choice in _described(server, loaded, images, wanted.n)]


def _chosen(wanted: ChatRequest, scores: Sequence[float]) -> list[ChatChoice]:
    if any(math.isnan(score) for score in scores):
        raise UploadError("the model could not score the answers", "send others, or another image", status=502)
    pairs = [(text, math.exp(score)) for text, score in zip(wanted.options, scores, strict=True)]
    ordered = sorted(pairs, key=lambda pair: -pair[1])
    options = [{"text": text, "probability": round(p, 6)} for text, p in ordered]
    facts = {"kind": "choice", "options": options}
    return [ChatChoice(text, facts, probability=p) for text, p in ordered[: wanted.n]]


def _generated(model: Generator, wanted: ChatRequest, images: Sequence[Any]) -> list[ChatChoice]:
    number = wanted.n if wanted.temperature > 0 else 1  # without chance all of them would be the same
    one = GenerationRequest(wanted.prompt, tuple(images), wanted.max_tokens, wanted.temperature)
    replies = model.generate([one] * number)
    if failed := next((reply.error for reply in replies if reply.error), ""):
        raise UploadError(f"the model returned no answer: {failed}", "try again later", status=502)
    return [ChatChoice(reply.text, {"kind": "text"}, reply.cut_off) for reply in replies]


def _described(server: ServerState, loaded: LoadedModel, images: Sequence[Any], n: int) -> list[ChatChoice]:
    """Captions, or the tags of a photograph: what the page Describe shows."""
    if loaded not in server.tag_encoders:  # digests of files and look-ups in the store: too slow for each image
        server.tag_encoders[loaded] = tag_encoder(server.store, loaded.model, loaded.ref)
    encoder = server.tag_encoders[loaded]
    (seen,) = look_at_images(encoder, images[:1], n) if encoder else (None,)
    if seen and (seen.kind == PHOTOGRAPH or encoder is loaded.model):
        tags = [encode_tag(tag) for tag in seen.tags] if seen.kind == PHOTOGRAPH else []
        facts = {"tags": tags, "image": str(seen.kind)}
        if seen.drafts:
            return [ChatChoice(d.text, {"kind": "draft", **facts}) for d in seen.drafts[:n]]
        text = ", ".join(str(tag["text"]) for tag in tags) or NOT_SURE
        return [ChatChoice(text, {"kind": "tags", **facts})]
    (suggested,) = suggest_captions(loaded.model, images[:1], n, loaded.reference)
    if not suggested.suggestions:
        problem = getattr(loaded.model, "last_error", "") or "it has none for this image"
        raise UploadError(f"the model returned no caption: {problem}", "try another image", status=502)
    return [
        ChatChoice(
            each.text,
            {"kind": "caption", "confidence": each.confidence.label if each.confidence else NOT_MEASURED},
            probability=None if math.isnan(each.score) else each.score,
        )
        for each in suggested.suggestions
    ]


def _cut(choice: ChatChoice, max_tokens: int) -> ChatChoice:
    """The caption, cut to its first ``max_tokens`` words."""
    pieces = _PIECES.findall(choice.text)
    if len(pieces) <= max_tokens:
        return choice
    return ChatChoice("".join(pieces[:max_tokens]).rstrip(), choice.facts, True, choice.probability)


def _body(asked: ModelRequest, wanted: ChatRequest, choices: Sequence[ChatChoice]) -> dict[str, Any]:
    prompt = count_tokens(asked.loaded, texts_of(wanted))
    completion = count_tokens(asked.loaded, [choice.text for choice in choices])
    ignored = list(wanted.ignored)
    if wanted.temperature and not isinstance(asked.loaded.model, Generator):
        ignored.append("temperature")
    return {
        "id": asked.trace.response,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.loaded.ref,
        "choices": [
            {
                "index": i,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": None,
                "finish_reason": "length" if choice.is_cut else "stop",
            }
            for i, choice in enumerate(choices)
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "images": len(wanted.images),
        },
        "clerestory": {"choices": [dict(choice.facts) for choice in choices], "ignored": ignored},
    }


def _record(asked: ModelRequest, choices: Sequence[ChatChoice]) -> None:
    """The record has the kind of answer, never its words."""
    asked.trace.describe(label=str(choices[0].facts["kind"]), confidence=choices[0].probability)


def _events(body: Mapping[str, Any], wanted: ChatRequest) -> Iterator[bytes]:
    """The answer as server-sent events, a word at a time."""
    head = {
        "id": body["id"],
        "object": "chat.completion.chunk",
        "created": body["created"],
        "model": body["model"],
    }
    if wanted.include_usage:
        head["usage"] = None

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None, **more: object) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**head, "choices": [choice], **more})

    for choice in body["choices"]:
        index = choice["index"]
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None}, None)
        for piece in _PIECES.findall(choice["message"]["content"]):
            yield chunk(index, {"content": piece}, None)
    last = len(body["choices"]) - 1
    for choice in body["choices"]:
        more = {"clerestory": body["clerestory"]} if choice["index"] == last else {}
        yield chunk(choice["index"], {}, choice["finish_reason"], **more)
    if wanted.include_usage:
        yield _event({**head, "choices": [], "usage": body["usage"]})
    yield b"data: [DONE]\n\n"


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
