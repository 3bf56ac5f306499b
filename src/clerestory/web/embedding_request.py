"""The request of ``POST /v1/embeddings``: from JSON to texts and images, or one sentence on what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clerestory.core.errors import InputError, NotWritable, closest
from clerestory.models.protocols import Embedder
from clerestory.store import Store
from clerestory.web.data_uri import decode_payload
from clerestory.web.json_body import parse_json
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.security import RequestRejected
from clerestory.web.uploads import MAX_IMAGE_BYTES

MAX_INPUTS = 2_048
MAX_TEXT_CHARACTERS = 16_000
MAX_REQUEST_CHARACTERS = 2_000_000
MAX_DATA_URI_HEAD = 1_000  # characters up to the comma, blanks before it included
MAX_ECHO = 80  # characters of the request in an error
PARAMETERS = ("input", "model", "dimensions", "encoding_format", "user")
ENCODING_FORMATS = ("float", "base64")

# RFC 2397, with blanks around it as they come from copying. A sentence such as "data: the new oil, they say" is a text.
_DATA_URI = re.compile(r"[\s\ufeff]*data:\s*([^\s,/;]+/[^\s,;]+\s*(?=[;,])|(?=[;,])|[^,]{0,200};\s*base64)", re.I)
_DATA_URI_WITHOUT_DATA = re.compile(r"[\s\ufeff]*data:\s*[^\s,/;]+/[^\s,]+\s*", re.I)
_BASE64_OF_AN_IMAGE = re.compile(r"\s*(iVBORw0KGgo|/9j/[A-Za-z0-9+/]{4}|UklGR)[A-Za-z0-9+/=\s]{64}")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A validated request for embeddings; an input is a text or the bytes of an image."""

    inputs: tuple[str | bytes, ...]
    dimensions: int
    as_base64: bool


def parse_embedding_request(content: bytes, store: Store, loaded: LoadedModel) -> EmbeddingRequest:
    """The request in a JSON body; takes up to a second, so not for the event loop.

    Raises:
        RequestRejected: 400, 404 or 413.
    """
    body = parse_json(content)
    if not isinstance(body, dict):
        raise RequestRejected("the body is not a JSON object", 'send {"input": ...}', code="invalid_json")
    _check_parameters(body)
    inputs = _input_list(body.get("input"))
    dimensions = _dimensions(body.get("dimensions"), loaded)
    encoding = "float" if body.get("encoding_format") in (None, "") else body["encoding_format"]
    if encoding not in ENCODING_FORMATS:
        problem = f"encoding_format {_echo(encoding)} is not supported"
        raise RequestRejected(problem, "use float or base64", code="invalid_value", param="encoding_format")
    check_model(body.get("model"), store, loaded)
    _check_lengths(inputs)
    parsed = tuple(_parse_input(each, f"input[{i}]") for i, each in enumerate(inputs))
    return EmbeddingRequest(parsed, dimensions, encoding == "base64")


def check_model(ref: object, store: Store, loaded: LoadedModel) -> None:
    """Accept any reference to the loaded model; reject all others, since no other model is loaded.

    Raises:
        RequestRejected: 404.
    """
    release = loaded.release
    names = {loaded.ref, loaded.model.digest} | ({release.name, f"{release.name}@live"} if release else set())
    if ref is None or ref == "" or (isinstance(ref, str) and ref in names):
        return
    fix = f"use {loaded.ref}{f' or {release.name}@live' if release else ''}, or omit model"
    if not isinstance(ref, str):
        raise RequestRejected("model is not a string", fix, code="invalid_type", param="model")
    problem = f"unknown model {_echo(ref)}"
    try:
        if store.resolve(ref).digest == loaded.model.digest:
            return
        problem = f"{ref[:MAX_ECHO]} is not the served release"
    except NotWritable:  # not the fault of the reference
        raise
    except InputError:
        pass
    raise RequestRejected(problem, fix, 404, "not_found", code="model_not_found", param="model")


def embedder_of(loaded: LoadedModel) -> Embedder:
    """The loaded model as an Embedder.

    Raises:
        RequestRejected: the model does not produce embeddings.
    """
    if loaded.embedder is None:
        raise RequestRejected(
            f"{loaded.ref} does not produce embeddings",
            "start the server with a model that does, such as hf:org/name of a CLIP",
            code="unsupported_model",
            param="model",
        )
    return loaded.embedder


def _check_parameters(body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if name not in PARAMETERS and value is not None:
            near = closest(name, PARAMETERS)
            hint = f"did you mean {near[0]}?" if near else f"the parameters are {', '.join(PARAMETERS)}"
            problem = f"unknown parameter {_echo(name)}"
            raise RequestRejected(problem, hint, code="unknown_parameter", param=name[:MAX_ECHO])


def _input_list(value: object) -> list[str]:
    inputs = value if isinstance(value, list) else [value]
    for each in inputs:
        token = each[0] if isinstance(each, list) and each else each
        if isinstance(token, int) and not isinstance(token, bool):
            raise RequestRejected(
                "input is not a text but token ids, whose meaning depends on the tokenizer",
                "send texts; in LangChain, set check_embedding_ctx_length=False",
                code="token_ids_not_supported",
                param="input",
            )
    if not inputs or not all(isinstance(each, str) for each in inputs):
        raise RequestRejected(
            "input is not a text or a list of texts",
            "send a string, a list of strings, or data: URIs of images",
            code="missing_parameter" if value is None else "invalid_type",
            param="input",
        )
    if len(inputs) > MAX_INPUTS:
        problem = f"the request has {len(inputs):,} inputs"
        fix = f"send at most {MAX_INPUTS:,} at once"
        raise RequestRejected(problem, fix, 413, "too_large", code="too_many_inputs", param="input")
    return [str(each) for each in inputs]


def _dimensions(value: object, loaded: LoadedModel) -> int:
    dims = embedder_of(loaded).dims
    if value is None:
        return dims[-1]
    if not isinstance(value, int) or isinstance(value, bool) or value not in dims:
        problem = f"dimensions={_echo(value)} is not supported by this model"
        fix = f"the model supports {', '.join(map(str, dims))}"
        raise RequestRejected(problem, fix, code="invalid_value", param="dimensions")
    return value


def _check_lengths(inputs: list[str]) -> None:
    """Bound the texts before anything else is done with them."""
    total = 0
    for i, text in enumerate(inputs):
        if _is_data_uri(text):
            continue
        total += len(text)
        if len(text) > MAX_TEXT_CHARACTERS:
            raise RequestRejected(
                f"input[{i}] has {len(text):,} characters; the maximum is {MAX_TEXT_CHARACTERS:,}",
                "shorten it, or split it into several inputs; an image begins with data:image/png;base64,",
                413,
                "too_large",
                code="text_too_long",
                param=f"input[{i}]",
            )
    if total > MAX_REQUEST_CHARACTERS:
        problem = f"the texts have {total:,} characters together; the maximum is {MAX_REQUEST_CHARACTERS:,}"
        raise RequestRejected(
            problem, "send fewer at once", 413, "too_large", code="too_many_characters", param="input"
        )


def _is_data_uri(text: str) -> bool:
    return _DATA_URI.match(text, 0, MAX_DATA_URI_HEAD) is not None


def _parse_input(text: str, where: str) -> str | bytes:
    if not _is_data_uri(text):
        return _check_text(text, where)
    _, comma, payload = text.partition(",")
    if not comma:
        raise _not_a_data_uri(where)
    is_base64 = text[: len(text) - len(payload)].rstrip(" ,\t\r\n").lower().endswith("base64")
    # A line break after every 76 characters adds 3 %.
    if len(payload) > MAX_IMAGE_BYTES * 4 // 3 * 1.05:
        raise _image_too_large(where)
    try:
        content = decode_payload(payload, is_base64)
    except ValueError as error:
        problem = f"{where} is not valid base64"
        fix = "encode the whole image file"
        raise RequestRejected(problem, fix, kind="invalid_image", code="invalid_base64", param=where) from error
    if len(content) > MAX_IMAGE_BYTES:
        raise _image_too_large(where)
    return content


def _check_text(text: str, where: str) -> str:
    if not text.strip():
        raise RequestRejected(f"{where} is empty", "send at least one word", code="empty_input", param=where)
    if _DATA_URI_WITHOUT_DATA.fullmatch(text):
        raise _not_a_data_uri(where)
    if _BASE64_OF_AN_IMAGE.match(text):
        problem = f"{where} is an image in base64 without its type"
        fix = "send it as data:image/png;base64,..."
        raise RequestRejected(problem, fix, kind="invalid_image", code="invalid_data_uri", param=where)
    return text


def _not_a_data_uri(where: str) -> RequestRejected:
    return RequestRejected(
        f"{where} is not a data: URI",
        "send data:image/png;base64,...",
        kind="invalid_image",
        code="invalid_data_uri",
        param=where,
    )


def _image_too_large(where: str) -> RequestRejected:
    limit = f"{MAX_IMAGE_BYTES // 1_000_000} MB"
    problem = f"{where} is larger than {limit}"
    return RequestRejected(problem, f"send an image smaller than {limit}", 413, "too_large", param=where)


def _echo(value: object) -> str:
    """A value of the request for an error: a short scalar, cut, or the name of its type."""
    if isinstance(value, str):
        return repr(value[:MAX_ECHO])
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**20):
        return str(value)
    return {int: "a large number", list: "a list", dict: "an object"}.get(type(value), "invalid")
