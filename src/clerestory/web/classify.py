"""``POST /v1/classify``: which of the user's own labels fits each image, with the calibrated confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clerestory.apps.label_scores import check_templates, label_prompts, label_scores, probabilities_of
from clerestory.core.errors import CapabilityError, InputError
from clerestory.models.zero_shot import mean_of_prompts
from clerestory.store import Store
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.answering import ModelRequest, count_tokens, model_request
from clerestory.web.embedding_request import check_model, embedder_of
from clerestory.web.input_values import check_parameters, image, text, text_list
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.security import RequestRejected
from clerestory.web.views import release_header

MAX_IMAGES = 64
MAX_LABELS = 1_000
MAX_LABEL = 300
MAX_TEMPLATES = 16
MAX_PROMPTS = 4_000
PARAMETERS = ("input", "labels", "template", "model", "user")


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """A validated request for a classification; no templates are those of an evaluation."""

    images: tuple[bytes, ...]
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    user: str


async def classify(request: Request) -> Response:
    """Score every label for every image."""

    def parse(body: dict[str, Any], loaded: LoadedModel) -> ClassifyRequest:
        return parse_classify_request(body, request.app.state.server.store, loaded)

    async with model_request(request, RequestKind.CLASSIFY, "input", parse) as (asked, wanted):
        prompts = label_prompts(wanted.labels, wanted.templates)
        asked.occupy(prompts, wanted.images)
        embedder = embedder_of(asked.loaded)
        inputs: list[str | bytes] = [*wanted.images, *prompts]
        rows = await asked.server.batcher.embed(embedder, inputs, embedder.dims[-1], asked.place)
        body = await asked.server.in_thread(_body, asked, wanted, prompts, rows)
    return JSONResponse(body, headers=release_header(asked.loaded.ref))


def parse_classify_request(body: Mapping[str, Any], store: Store, loaded: LoadedModel) -> ClassifyRequest:
    """The request in a JSON object; not for the event loop.

    Raises:
        RequestRejected: 400, 404 or 413.
    """
    check_parameters(body, PARAMETERS)
    value = body.get("input")
    images = value if isinstance(value, list) else [value]
    if not 0 < len(images) <= MAX_IMAGES:
        problem = f"input has {len(images):,} images"
        fix = f"send 1 to {MAX_IMAGES} at once"
        raise RequestRejected(problem, fix, 413, "too_large", code="too_many_inputs", param="input")
    labels = text_list(body.get("labels"), "labels", 2, MAX_LABELS, MAX_LABEL)
    template = body.get("template")
    if isinstance(template, list):
        templates = text_list(template, "template", 1, MAX_TEMPLATES, MAX_LABEL)
    else:
        templates = tuple(filter(None, [text(template, "template", MAX_LABEL)]))
    try:
        templates = check_templates(templates)
    except InputError as error:
        raise RequestRejected(error.message, error.fix, code="invalid_value", param="template") from error
    if len(labels) * len(templates) > MAX_PROMPTS:
        problem = f"{len(labels):,} labels with {len(templates)} templates are {len(labels) * len(templates):,} prompts"
        fix = f"send one template, or fewer labels: at most {MAX_PROMPTS:,} prompts"
        raise RequestRejected(problem, fix, 413, "too_large", code="too_many_inputs", param="labels")
    check_model(body.get("model"), store, loaded)
    embedder_of(loaded)
    parsed = tuple(image(each, f"input[{i}]") for i, each in enumerate(images))
    return ClassifyRequest(parsed, labels, templates, text(body.get("user"), "user", 1_000))


def _body(
    asked: ModelRequest, wanted: ClassifyRequest, prompts: Sequence[str], rows: NDArray[np.float32]
) -> dict[str, Any]:
    loaded, count = asked.loaded, len(wanted.images)
    labels_KD = mean_of_prompts(rows[count:], len(wanted.labels))
    probabilities_NK = probabilities_of(loaded.model, rows[:count], labels_KD)
    if not np.isfinite(probabilities_NK).all():
        raise CapabilityError("the model's embedding of an image or a label is not finite", "send other ones")
    scores = [label_scores(wanted.labels, row_K, loaded.labels) for row_K in probabilities_NK]
    calibrator = loaded.labels.of(len(wanted.labels))
    best = scores[0][0]
    asked.trace.embeddings = rows[:count]
    asked.trace.describe(label=best.label, confidence=best.calibrated if calibrator else None)
    tokens = count_tokens(loaded, prompts)
    return {
        "id": asked.trace.response,
        "object": "list",
        "data": [
            {
                "object": "classification",
                "index": i,
                "label": each[0].label,
                "confidence": each[0].confidence,
                "scores": [asdict(score) for score in each],
            }
            for i, each in enumerate(scores)
        ],
        "model": loaded.ref,
        "calibration": {
            "measured": calibrator is not None,
            "images": calibrator.num_queries if calibrator else 0,
            "held_out": calibrator.held_out if calibrator else False,
        },
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "images": count},
    }
