"""The record of one answered request: which version answered, for whom, how fast; never the texts and images."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from clerestory.core.codec import Tags


class RequestKind(StrEnum):
    """What a request asks of the model."""

    EMBEDDINGS = "embeddings"
    CAPTION = "caption"
    ANSWER = "answer"
    CLASSIFY = "classify"
    SEARCH = "search"


class Arm(StrEnum):
    """Which side of a rollout computed an answer."""

    STABLE = "stable"
    CANDIDATE = "candidate"
    SHADOW = "shadow"  # by the candidate, and nobody received it


def new_response_id() -> str:
    """An unguessable id of a response, such as ``resp_3k9…``: knowing it is what allows feedback on it."""
    return f"resp_{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One request and the version that answered it.

    Attributes:
        response: the id of the response; feedback names it.
        request: the id of the request, from ``X-Request-ID`` or made by the server; several responses may share one.
        at: when it was admitted, in seconds since the epoch.
        kind: embeddings, a caption, …
        name, number, model: the model name and the number of the release (0 for another model), and the digest.
        arm: which side of a rollout answered.
        rollout: the id of the rollout; empty outside of one.
        propensity: the probability with which this arm was chosen; 1 outside of a rollout.
        status: the HTTP status.
        latency_s: from admission to the complete response.
        inputs, images, characters, pixels: how many inputs and images, and how long and large they are together.
        subject: keyed hash of the caller's user id; empty where the caller named nobody.
        key: the visible prefix of the API key; empty without one.
        input_hash: keyed hash of the inputs, to find repeated ones.
        label: the predicted label, or the keyed hash of a caption; empty if there is none.
        confidence: the calibrated confidence; None if it was not measured.
        finite: whether every embedding is finite and none has length zero.
        facts: further measured properties of the input, such as ``language`` or ``brightness``.
    """

    response: str
    request: str
    at: float
    kind: RequestKind
    name: str
    number: int
    model: str
    arm: Arm = Arm.STABLE
    rollout: str = ""
    propensity: float = 1.0
    status: int = 200
    latency_s: float = 0.0
    inputs: int = 1
    images: int = 0
    characters: int = 0
    pixels: int = 0
    subject: str = ""
    key: str = ""
    input_hash: str = ""
    label: str = ""
    confidence: float | None = None
    finite: bool = True
    facts: Tags = field(default_factory=Tags)
