"""The description of the API at ``/openapi.json``, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from clerestory import __version__
from clerestory.web.openapi_schemas import json_content, schemas

Json = dict[str, Any]


def _header(description: str, kind: str = "string") -> Json:
    return {"description": description, "schema": {"type": kind}}


REQUEST_ID = {"X-Request-ID": _header("the id of the request: that of the client, or one made by the server")}
SPENDING = {
    "X-RateLimit-Limit": _header("price units that the key may spend at once", "integer"),
    "X-RateLimit-Remaining": _header("price units that it may spend now", "integer"),
    "X-RateLimit-Reset": _header("seconds until it may spend all of them again", "integer"),
}
RELEASE = {"Clerestory-Release": _header("the release that answered")}
RESPONSE = {"Clerestory-Response": _header("the id of the response, which feedback on it names")}
RETRY = {"Retry-After": _header("seconds until it may be worth trying again", "integer")}
CHALLENGE = {"WWW-Authenticate": _header("Bearer")}
REJECTIONS = {
    400: "the request is invalid, or the model cannot do what it asks for",
    401: "the server demands an API key, and there is no valid one",
    403: "the request came from a page of another site, or the key does not have the scope",
    404: "there is no such model, or it is not the served one",
    409: "the key is that of other feedback",
    408: "the client was too slow",
    413: "the request exceeds a limit",
    415: "the body is not JSON in UTF-8, or its compression is not supported; or an image is not JPEG, PNG or WEBP",
    421: "the host name is not one of this server",
    429: "too much waits for the model, or the key has spent what it may",
    502: "the model failed to answer",
    503: "no model is loaded yet, or the disk is full",
    504: "the request could not be answered within its time",
}
INFERENCE = (400, 401, 403, 404, 408, 413, 415, 421, 429, 502, 503, 504)
READING = (401, 403, 421, 429, 503)
STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


def description() -> Json:
    """The document, with the limits of this version."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Clerestory",
            "version": __version__,
            "description": "Embeddings, captions, answers, classification and search of images and texts; embeddings "
            "and chat completions in the format of OpenAI's API. A parameter that is null counts as absent. An API key "
            "is needed where the server demands one.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": {
            "/v1/embeddings": _post("createEmbeddings", "Embed texts and images", "EmbeddingRequest", "EmbeddingList"),
            "/v1/chat/completions": _chat(),
            "/v1/classify": _post("classify", "Score labels for images", "ClassifyRequest", "ClassificationList"),
            "/v1/search": _post("search", "Search the served images", "SearchRequest", "SearchResultList"),
            "/v1/feedback": _feedback("sendFeedback", "Say whether an answer was right", "FeedbackRequest", "Feedback"),
            "/v1/feedback/batch": _feedback(
                "sendFeedbackBatch",
                "Send much feedback at once, such as late labels",
                "FeedbackBatch",
                "FeedbackCounts",
            ),
            "/v1/models": {"get": _read("listModels", "The served model, as a list", "ModelList", *READING)},
            "/v1/models/{model}": {
                "get": _read("retrieveModel", "The served model, by any of its names", "Model", 404, *READING),
                "parameters": [
                    {
                        "name": "model",
                        "in": "path",
                        "required": True,
                        "description": "such as icons, icons@live, icons@2 or a digest",
                        "schema": {"type": "string", "minLength": 1},
                    }
                ],
            },
            "/healthz": {
                "get": _public(_read("health", "Whether the process responds", "Health", 421, of_model=False))
            },
            "/readyz": {"get": _public(_ready())},
            "/openapi.json": {
                "get": _public(_read("describeApi", "This document", "OpenApiDocument", 421, of_model=False)),
            },
        },
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer clr_…"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _post(operation: str, summary: str, request: str, response: str) -> Json:
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "parameters": [
                {
                    "name": "X-Request-Timeout",
                    "in": "header",
                    "description": "the seconds within which the answer has to be there",
                    "schema": {"type": "number", "exclusiveMinimum": 0},
                }
            ],
            "requestBody": {"required": True, "content": json_content(request)},
            "responses": {
                "200": {
                    "description": summary,
                    "headers": {**REQUEST_ID, **RELEASE, **RESPONSE, **SPENDING},
                    "content": json_content(response),
                },
                **_rejections(*INFERENCE),
            },
        }
    }


def _chat() -> Json:
    path = _post("createChatCompletion", "Caption an image, or answer about it", "ChatRequest", "ChatCompletion")
    ok = path["post"]["responses"]["200"]
    ok["content"] = {**ok["content"], **STREAM}
    ok["description"] = "one object; with stream, events whose data is a ChatCompletionChunk, then [DONE]"
    return path


def _feedback(operation: str, summary: str, request: str, response: str) -> Json:
    ok: Json = {"description": "it is on the disk", "headers": {**REQUEST_ID, **SPENDING}}
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "requestBody": {"required": True, "content": json_content(request)},
            "responses": {
                "200": ok | {"content": json_content(response)},
                **_rejections(400, 401, 403, 404, 408, 409, 413, 415, 421, 429, 503),
            },
        }
    }


def _read(operation: str, summary: str, schema: str, *rejections: int, of_model: bool = True) -> Json:
    headers = {**REQUEST_ID, **(RELEASE | SPENDING if of_model else {})}
    ok: Json = {"description": summary, "headers": headers, "content": json_content(schema)}
    return {"operationId": operation, "summary": summary, "responses": {"200": ok, **_rejections(*rejections)}}


def _public(operation: Json) -> Json:
    """An operation that never needs a key."""
    return {**operation, "security": []}


def _ready() -> Json:
    operation = _read("ready", "Whether a model is loaded and served", "Ready", 421, of_model=False)
    operation["responses"]["200"]["headers"] |= RELEASE
    not_ready: Json = {"description": "not ready, with the reason", "headers": {**REQUEST_ID, **RETRY}}
    operation["responses"]["503"] = not_ready | {"content": json_content("NotReady")}
    return operation


def _rejections(*statuses: int) -> Json:
    headers = {401: CHALLENGE, 429: {**RETRY, **SPENDING}, 503: RETRY}
    return {
        str(status): {
            "description": REJECTIONS[status],
            "headers": {**REQUEST_ID, **headers.get(status, {})},
            "content": json_content("Error"),
        }
        for status in sorted(statuses)
    }
