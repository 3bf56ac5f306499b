"""The schemas of the API's JSON, for ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from clerestory.apps.confidence import LEVELS, NOT_MEASURED
from clerestory.store.operations.feedback import FeedbackKind
from clerestory.web import chat_request, classify, search_api
from clerestory.web.embedding_request import ENCODING_FORMATS, MAX_INPUTS, MAX_TEXT_CHARACTERS

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
NAMED_MODEL: Json = {"type": ["string", "null"], "description": "a name of the served model; may be omitted"}
USER: Json = {
    "type": ["string", "null"],
    "description": "who asks; kept as a keyed hash only, and the same person stays with one release of a rollout",
}
IMAGE: Json = {
    "type": "string",
    "minLength": 1,
    "description": "an image as data:image/png;base64,…; JPEG, PNG or WEBP; no address, since nothing is fetched",
}


def json_content(schema: str) -> Json:
    """The content of a body with a schema."""
    return {"application/json": {"schema": reference(schema)}}


def reference(schema: str) -> Json:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}


def schemas() -> Json:
    """Every schema by name."""
    served = {"live": TEXT, "served": TEXT, "loading": TEXT}
    error = _object(
        {
            "message": TEXT,
            "type": TEXT,
            "code": TEXT,
            "param": {"type": ["string", "null"]},
            "fix": TEXT,
            "request_id": TEXT,
        }
    )
    return {
        "EmbeddingRequest": _embedding_request(),
        "EmbeddingList": _embedding_list(),
        "ChatRequest": _chat_request(),
        "ChatMessage": _chat_message(),
        "ChatCompletion": _chat_completion(),
        "ChatCompletionChunk": _chat_chunk(),
        "ClassifyRequest": _classify_request(),
        "ClassificationList": _classification_list(),
        "SearchRequest": _search_request(),
        "SearchResultList": _search_result_list(),
        "FeedbackRequest": _feedback_request(),
        "Feedback": _object(
            dict.fromkeys(("response", "kind", "value", "source", "item", "key", "received"), TEXT)
            | {"object": {"const": "feedback"}}
        ),
        "FeedbackBatch": {
            "oneOf": [
                _object({"items": _array(reference("FeedbackRequest"), 1)}),
                _array(reference("FeedbackRequest"), 1),
            ]
        },
        "FeedbackCounts": _object(
            {
                "object": {"const": "feedback.batch"},
                "added": COUNT,
                "known": COUNT,
                "rejected": _array(_object({"index": COUNT, "status": COUNT, "message": TEXT})),
            }
        ),
        "Model": _object(
            {
                "id": TEXT,
                "object": {"const": "model"},
                "created": COUNT,
                "owned_by": TEXT,
                "digest": TEXT,
                "dimensions": _array(COUNT),
                "capabilities": _array(TEXT),
                "languages": _array(TEXT),
            },
            {"alias": TEXT, "facts": {"type": "object"}},
        ),
        "ModelList": _object({"object": {"const": "list"}, "data": _array(reference("Model"))}),
        "Health": _object({"status": {"const": "ok"}}),
        "Ready": _object({"status": {"const": "ready"}, **served, "digest": TEXT}, {"warning": TEXT}),
        "NotReady": _object({"status": {"const": "not ready"}, "reason": TEXT, **served}),
        "OpenApiDocument": _object({"openapi": TEXT, "info": {"type": "object"}, "paths": {"type": "object"}}),
        "Error": _object({"error": error}),
    }


def _object(required: Json, optional: Json | None = None) -> Json:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _closed(required: Json, optional: Json | None = None) -> Json:
    """An object in which an unknown parameter is an error, unless it is null."""
    return {**_object(required, optional), "additionalProperties": {"type": "null"}}


def _array(items: Json, minimum: int | None = None, maximum: int | None = None) -> Json:
    bounds = {"minItems": minimum, "maxItems": maximum}
    return {"type": "array", "items": items} | {name: value for name, value in bounds.items() if value is not None}


def _integer(minimum: int, maximum: int, default: int) -> Json:
    return {"type": ["integer", "null"], "minimum": minimum, "maximum": maximum, "default": default}


def _usage(*more: str) -> Json:
    return _object(dict.fromkeys(("prompt_tokens", *more, "total_tokens", "images"), COUNT))


def _warnings() -> Json:
    return {"warnings": _array(_object({"index": COUNT, "message": TEXT}))}


def _embedding_request() -> Json:
    entry = {
        "type": "string",
        "minLength": 1,
        "description": f"a text of at most {MAX_TEXT_CHARACTERS:,} characters and as many tokens as the model accepts, "
        "or an image as data:image/png;base64,…",
    }
    optional = {
        "model": NAMED_MODEL,
        "dimensions": {"type": ["integer", "null"], "description": "one of the model's; the largest if null"},
        "encoding_format": {"enum": [*ENCODING_FORMATS, "", None]},
        "user": {"description": USER["description"]},
    }
    return _closed({"input": {"oneOf": [entry, _array(entry, 1, MAX_INPUTS)]}}, optional)


def _embedding_list() -> Json:
    row = {"oneOf": [_array({"type": "number"}), {**TEXT, "description": "base64 of little-endian float32"}]}
    embedding = _object({"object": {"const": "embedding"}, "index": COUNT, "embedding": row})
    required = {"object": {"const": "list"}, "data": _array(embedding), "model": TEXT, "usage": _usage()}
    return _object(required, {"id": TEXT, **_warnings()})


def _chat_message() -> Json:
    text = _closed({"type": {"const": "text"}, "text": {**TEXT, "maxLength": chat_request.MAX_CHARACTERS}})
    detail = {"enum": ["auto", "low", "high", None]}
    address = _closed({"url": IMAGE}, {"detail": detail})
    image = _closed({"type": {"const": "image_url"}, "image_url": {"oneOf": [address, IMAGE]}})
    content = {
        "oneOf": [
            {**TEXT, "maxLength": chat_request.MAX_CHARACTERS},
            _array({"oneOf": [text, image]}),
            {"type": "null"},
        ]
    }
    return _closed(
        {"role": {"enum": list(chat_request.ROLES)}, "content": content},
        {"name": {"type": ["string", "null"]}, "refusal": {"type": ["string", "null"]}},
    )


def _chat_request() -> Json:
    limit = _integer(1, chat_request.MAX_TOKENS, chat_request.DEFAULT_TOKENS)
    choices: Json = {"type": ["array", "null"], "items": {**TEXT, "minLength": 1, "maxLength": 1_000}}
    choices |= {"minItems": 2, "maxItems": chat_request.MAX_OPTIONS, "uniqueItems": True}
    optional = {
        "model": NAMED_MODEL,
        "n": _integer(1, chat_request.MAX_CHOICES, 1),
        "max_tokens": limit,
        "max_completion_tokens": limit,
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2, "default": 0},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            **_closed({}, {"include_usage": {"type": ["boolean", "null"]}, "include_obfuscation": {}}),
            "type": ["object", "null"],
        },
        "guided_choice": {**choices, "description": "the answers to choose from, for a model that scores answers"},
        "response_format": {
            "type": ["object", "null"],
            "description": "text, or a JSON schema of a string with an enum, which is the same as guided_choice",
        },
        "user": USER,
        "seed": {"description": "ignored: the same request has the same answer, unless the temperature is above 0"},
        "metadata": {"description": "ignored"},
    }
    optional |= {
        name: {"enum": [*values, None], "description": "makes no difference; other values are refused"}
        for name, values in chat_request.NEUTRAL.items()
    }
    return _closed({"messages": _array(reference("ChatMessage"), 1, chat_request.MAX_MESSAGES)}, optional)


def _chat_facts() -> Json:
    tag = _object({"text": TEXT, "probability": SHARE})
    facts = _object(
        {"kind": {"enum": ["caption", "tags", "draft", "choice", "text"]}},
        {"confidence": _confidence(), "tags": _array(tag), "image": TEXT, "options": _array(tag)},
    )
    return _object({"choices": _array(facts), "ignored": _array(TEXT)})


def _chat_completion() -> Json:
    refusal = {"refusal": {"type": "null"}}
    message = _object({"role": {"const": "assistant"}, "content": TEXT}, refusal)
    reason = {"enum": ["stop", "length"]}
    choice = _object({"index": COUNT, "message": message, "finish_reason": reason}, {"logprobs": {"type": "null"}})
    return _object(
        {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": COUNT,
            "model": TEXT,
            "choices": _array(choice, 1),
            "usage": _usage("completion_tokens"),
            "clerestory": _chat_facts(),
        }
    )


def _chat_chunk() -> Json:
    delta = _object({}, {"role": TEXT, "content": TEXT, "refusal": {"type": "null"}})
    reason = {"enum": ["stop", "length", None]}
    choice = _object({"index": COUNT, "delta": delta, "finish_reason": reason}, {"logprobs": {"type": "null"}})
    return _object(
        {
            "id": TEXT,
            "object": {"const": "chat.completion.chunk"},
            "created": COUNT,
            "model": TEXT,
            "choices": _array(choice),
        },
        {"usage": {"oneOf": [_usage("completion_tokens"), {"type": "null"}]}, "clerestory": _chat_facts()},
    )


def _confidence() -> Json:
    return {"enum": [*(label for _, _, label in LEVELS), NOT_MEASURED]}


def _classify_request() -> Json:
    label = {**TEXT, "minLength": 1, "maxLength": classify.MAX_LABEL}
    template = {**label, "description": "with one {}, such as: a photo of a {}"}
    optional = {
        "template": {"oneOf": [template, _array(template, 1, classify.MAX_TEMPLATES), {"type": "null"}]},
        "model": NAMED_MODEL,
        "user": USER,
    }
    labels = {**_array(label, 2, classify.MAX_LABELS), "uniqueItems": True}
    images = {"oneOf": [IMAGE, _array(IMAGE, 1, classify.MAX_IMAGES)]}
    return _closed({"input": images, "labels": labels}, optional)


def _classification_list() -> Json:
    score = _object(
        {
            "label": TEXT,
            "score": {**SHARE, "description": "probability among the labels"},
            "calibrated": {
                "type": ["number", "null"],
                "description": "how many of the labels with such a score were right; null if not measured",
            },
            "confidence": _confidence(),
        }
    )
    one = _object(
        {
            "object": {"const": "classification"},
            "index": COUNT,
            "label": TEXT,
            "confidence": _confidence(),
            "scores": _array(score, 2),
        }
    )
    calibration = _object({"measured": {"type": "boolean"}, "images": COUNT, "held_out": {"type": "boolean"}})
    required = {"id": TEXT, "object": {"const": "list"}, "data": _array(one, 1), "model": TEXT}
    return _object({**required, "calibration": calibration, "usage": _usage()})


def _feedback_request() -> Json:
    required = {
        "response": {**TEXT, "description": "the id of a response"},
        "kind": {"enum": [str(kind) for kind in FeedbackKind]},
        "value": TEXT,
    }
    optional = dict.fromkeys(("source", "item", "key", "suggested"), {"type": ["string", "null"]})
    return _closed(required, {**optional, "at": {"type": ["string", "number", "null"]}})


def _search_request() -> Json:
    optional = {
        "query": {"type": ["string", "null"], "description": "words, those after a minus to avoid; or an image"},
        "image": {**IMAGE, "type": ["string", "null"]},
        "without": {
            "type": ["array", "null"],
            "items": {**TEXT, "minLength": 1, "maxLength": 300},
            "maxItems": search_api.MAX_WITHOUT,
            "uniqueItems": True,
        },
        "k": _integer(1, search_api.MAX_HITS, search_api.DEFAULT_HITS),
        "model": NAMED_MODEL,
        "user": USER,
    }
    return _closed({}, optional)


def _search_result_list() -> Json:
    hit = _object(
        {
            "object": {"const": "search_result"},
            "index": COUNT,
            "id": TEXT,
            "score": {"type": "number", "description": "cosine similarity"},
            "confidence": _confidence(),
            "caption": TEXT,
            "url": {**TEXT, "description": "of the image, on this server"},
        }
    )
    query = _object({"words": TEXT, "without": _array(TEXT), "image": {"type": "boolean"}})
    required = {"id": TEXT, "object": {"const": "list"}, "data": _array(hit), "model": TEXT, "query": query}
    return _object({**required, "usage": _usage()}, _warnings())
