"""The description of the API at ``/openapi.json``, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from clerestory import __version__
from clerestory.web.embedding_request import ENCODING_FORMATS, MAX_INPUTS, MAX_TEXT_CHARACTERS

Json = dict[str, Any]
RELEASE = {"Clerestory-Release": {"description": "the release that answered", "schema": {"type": "string"}}}
RETRY = {"Retry-After": {"description": "seconds until it may be worth trying again", "schema": {"type": "integer"}}}
REJECTIONS = {
    400: "the request is invalid",
    403: "the request came from a page of another site",
    404: "there is no such model, or it is not the served one",
    408: "the client was too slow",
    413: "the request exceeds a limit",
    415: "the body is not JSON in UTF-8, or its compression is not supported; or an image is not JPEG, PNG or WEBP",
    421: "the host name is not one of this computer",
    429: "too much waits for the model",
    504: "the request could not be answered within its time",
    503: "no model is loaded yet, or the disk is full",
}


def description() -> Json:
    """The document, with the limits of this version."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Clerestory",
            "version": __version__,
            "description": "Embeddings of texts and images in one space, in the format of OpenAI's API.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/embeddings": {"post": _embeddings()},
            "/v1/models": {"get": _read("listModels", "The served model, as a list", "ModelList", 403, 421, 503)},
            "/v1/models/{model}": {
                "get": _read("retrieveModel", "The served model, by any of its names", "Model", 403, 404, 421, 503),
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
            "/healthz": {"get": _read("health", "Whether the process responds", "Health", 421, release=False)},
            "/readyz": {"get": _ready()},
            "/openapi.json": {
                "get": _read("describeApi", "This document", "OpenApiDocument", 421, release=False),
            },
        },
        "components": {"schemas": _schemas()},
    }


def _embeddings() -> Json:
    return {
        "operationId": "createEmbeddings",
        "summary": "Embed texts and images",
        "requestBody": {"required": True, "content": _json("EmbeddingRequest")},
        "responses": {
            "200": {"description": "one embedding per input", "headers": RELEASE, "content": _json("EmbeddingList")},
            **_rejections(400, 403, 404, 408, 413, 415, 421, 429, 503, 504),
        },
    }


def _read(operation: str, summary: str, schema: str, *rejections: int, release: bool = True) -> Json:
    ok: Json = {"description": summary, "content": _json(schema)} | ({"headers": RELEASE} if release else {})
    return {"operationId": operation, "summary": summary, "responses": {"200": ok, **_rejections(*rejections)}}


def _ready() -> Json:
    operation = _read("ready", "Whether a model is loaded and served", "Ready", 421)
    operation["responses"]["503"] = {"description": "not ready, with the reason", "content": _json("NotReady")}
    return operation


def _rejections(*statuses: int) -> Json:
    return {
        str(status): {"description": REJECTIONS[status], "content": _json("Error")}
        | ({"headers": RETRY} if status in (429, 503) else {})
        for status in statuses
    }


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _object(required: Json, optional: Json | None = None) -> Json:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _schemas() -> Json:
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    served = {"live": text, "served": text, "loading": text}
    usage = _object({"prompt_tokens": count, "total_tokens": count, "images": count})
    row = {
        "oneOf": [
            {"type": "array", "items": {"type": "number"}},
            {"type": "string", "description": "base64 of little-endian float32"},
        ]
    }
    embedding = _object({"object": {"const": "embedding"}, "index": count, "embedding": row})
    model = {"$ref": "#/components/schemas/Model"}
    error = _object(
        {"message": text, "type": text, "code": text, "param": {"type": ["string", "null"]}, "fix": text},
        {"request_id": text},
    )
    return {
        "EmbeddingRequest": _request(),
        "EmbeddingList": _object(
            {"object": {"const": "list"}, "data": {"type": "array", "items": embedding}, "model": text, "usage": usage},
            {"id": text, "warnings": {"type": "array", "items": _object({"index": count, "message": text})}},
        ),
        "Model": _object(
            {
                "id": text,
                "object": {"const": "model"},
                "created": count,
                "owned_by": text,
                "digest": text,
                "dimensions": {"type": "array", "items": count},
                "capabilities": {"type": "array", "items": text},
                "languages": {"type": "array", "items": text},
            },
            {"alias": text, "facts": {"type": "object"}},
        ),
        "ModelList": _object({"object": {"const": "list"}, "data": {"type": "array", "items": model}}),
        "Health": _object({"status": {"const": "ok"}}),
        "Ready": _object({"status": {"const": "ready"}, **served, "digest": text}, {"warning": text}),
        "NotReady": _object({"status": {"const": "not ready"}, "reason": text, **served}),
        "OpenApiDocument": _object({"openapi": text, "info": {"type": "object"}, "paths": {"type": "object"}}),
        "Error": _object({"error": error}),
    }


def _request() -> Json:
    entry = {
        "type": "string",
        "minLength": 1,
        "description": f"a text of at most {MAX_TEXT_CHARACTERS:,} characters and as many tokens as the model accepts, "
        "or an image as data:image/png;base64,…",
    }
    optional = {
        "model": {"type": ["string", "null"], "description": "a name of the served model; may be omitted"},
        "dimensions": {
            "type": ["integer", "null"],
            "description": "one of the model's; the largest if null",
        },
        "encoding_format": {"enum": [*ENCODING_FORMATS, None]},
        "user": {"description": "a user id of yours; the request log has a keyed hash of it, so that it can be erased"},
    }
    several = {"type": "array", "items": entry, "minItems": 1, "maxItems": MAX_INPUTS}
    return {**_object({"input": {"oneOf": [entry, several]}}, optional), "additionalProperties": False}
