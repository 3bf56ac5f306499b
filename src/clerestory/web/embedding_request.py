"""The request of ``POST /v1/embeddings``: from JSON to texts and images, or one sentence on what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clerestory.core.errors import InputError, NotWritable
from clerestory.models.protocols import Embedder
from clerestory.store import Store
from clerestory.web.input_values import MAX_ECHO, check_parameters, echo, is_data_uri, json_object, text_or_image
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.security import RequestRejected

MAX_INPUTS = 2_048
MAX_TEXT_CHARACTERS = 16_000
MAX_REQUEST_CHARACTERS = 2_000_000
PARAMETERS = ("input", "model", "dimensions", "encoding_format", "user")
ENCODING_FORMATS = ("float", "base64")


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
    return embedding_request(json_object(content, "input"), store, loaded)


def embedding_request(body: Mapping[str, Any], store: Store, loaded: LoadedModel) -> EmbeddingRequest:
    """The request that a JSON object is; as ``parse_embedding_request``."""
    check_parameters(body, PARAMETERS)
    inputs = _input_list(body.get("input"))
    dimensions = _dimensions(body.get("dimensions"), loaded)
    encoding = "float" if body.get("encoding_format") in (None, "") else body["encoding_format"]
    if encoding not in ENCODING_FORMATS:
        problem = f"encoding_format {echo(encoding)} is not supported"
        raise RequestRejected(problem, "use float or base64", code="invalid_value", param="encoding_format")
    check_model(body.get("model"), store, loaded)
    _check_lengths(inputs)
    parsed = tuple(text_or_image(each, f"input[{i}]") for i, each in enumerate(inputs))
    return EmbeddingRequest(parsed, dimensions, encoding == "base64")


def check_model(ref: object, store: Store, loaded: LoadedModel) -> None:
    """Accept any reference to the loaded model; reject all others, since no other model is loaded.

    Raises:
        RequestRejected: 404.
    """
    if is_loaded(ref, loaded):
        return
    release = loaded.release
    fix = f"use {loaded.ref}{f' or {release.name}@live' if release else ''}, or omit model"
    if not isinstance(ref, str):
        raise RequestRejected("model is not a string", fix, code="invalid_type", param="model")
    problem = f"unknown model {echo(ref)}"
    try:
        if store.resolve(ref).digest == loaded.model.digest:
            return
        problem = f"{ref[:MAX_ECHO]} is not the served release"
    except NotWritable:  # not the fault of the reference
        raise
    except InputError:
        pass
    raise RequestRejected(problem, fix, 404, "not_found", code="model_not_found", param="model")


def is_loaded(ref: object, loaded: LoadedModel) -> bool:
    """Whether a reference names the loaded model, as far as that can be said without the store."""
    return ref is None or ref == "" or (isinstance(ref, str) and ref in loaded.names)


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
        problem = f"dimensions={echo(value)} is not supported by this model"
        fix = f"the model supports {', '.join(map(str, dims))}"
        raise RequestRejected(problem, fix, code="invalid_value", param="dimensions")
    return value


def _check_lengths(inputs: list[str]) -> None:
    """Bound the texts before anything else is done with them."""
    total = 0
    for i, text in enumerate(inputs):
        if is_data_uri(text):
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
