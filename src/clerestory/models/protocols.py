"""The capabilities of a model, as protocols: the interface that the other packages use for any model.

Clerestory's own models and the adapters to other people's models implement them. Callers check a capability with
``require_capability``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.codec import Fact
from clerestory.core.errors import CapabilityError, InputError

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]
Capability = Literal["Embedder", "Scorer", "Captioner", "Generator"]


@dataclass(frozen=True, slots=True)
class CaptionCandidate:
    """A caption that the model proposes.

    Attributes:
        text: the caption.
        score: the model's probability of the text, as the geometric mean over its tokens and the end token, 0..1; NaN
            if the model does not report it.
    """

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt for a generator.

    Attributes:
        prompt: the text, without placeholders for images: the adapter inserts those of its model.
        images: the images of the prompt, in order; may be empty.
        max_tokens: maximum length of the reply.
        temperature: of sampling; 0 is greedy decoding.
    """

    prompt: str
    images: tuple[Image.Image, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a generator to one request.

    Attributes:
        text: the generated text, without the prompt and special tokens; empty if there is an ``error``.
        tokens_in: tokens of the prompt, images included; 0 if unknown.
        tokens_out: generated tokens; 0 if unknown.
        ms: wall-clock milliseconds from the request to the complete reply, retries included.
        error: the reason why there is no reply; empty if there is one. Such a sample is unscored, not incorrect.
        cut_off: whether the text ended at ``max_tokens``; it may then be empty, as all tokens went into reasoning.
    """

    text: str
    tokens_in: int
    tokens_out: int
    ms: float
    error: str = ""
    cut_off: bool = False


@runtime_checkable
class AnyModel(Protocol):
    """The attributes of every model, whatever its capabilities.

    Attributes:
        digest: content address: SHA-256 of the model's files, or of the known properties of a remote model.
    """

    digest: str

    def facts(self) -> dict[str, Fact]:
        """Properties of the model, for evidence and the HTTP API."""


@runtime_checkable
class Embedder(Protocol):
    """Embeds images and texts into one space, in which the dot product is the similarity.

    It may have a ``logit_scale`` too, see ``logit_scale_of``.

    Attributes:
        digest: SHA-256 of the model folder.
        dims: widths of the prefixes of an embedding that are embeddings too, ascending.
    """

    digest: str
    dims: tuple[int, ...]

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)``, float32, one for each image; ``dim`` is one of ``dims``, None the largest."""

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)``, float32, one for each text; ``dim`` is one of ``dims``, None the largest."""


@runtime_checkable
class Scorer(Protocol):
    """Assigns probabilities to candidate answers.

    Attributes:
        digest: content address of the model.
        order_matters: whether the order of the options may change the scores. A task then scores every cyclic order.

    It may have ``max_options`` too, the most options that an item can have.
    """

    digest: str
    order_matters: bool

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Natural log-probabilities of each item's options.

        Args:
            images: N images; None is the ablation without an image (``facts`` describes the input that replaces it).
            questions: N questions; an empty one compares the options alone.
            options: the answers to choose from for each item, at least one.

        Returns:
            For each item one float64 number per option; their exponentials sum to 1. An item that cannot be scored is
            all NaN.
        """


@runtime_checkable
class Captioner(Protocol):
    """Generates captions."""

    digest: str

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each image, best first."""


@runtime_checkable
class Generator(Protocol):
    """Replies to prompts with generated text."""

    digest: str

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        """One reply for each request, in order; a failed request has its reason in ``Reply.error``."""


CAPABILITIES: dict[Capability, type] = {
    "Embedder": Embedder,
    "Scorer": Scorer,
    "Captioner": Captioner,
    "Generator": Generator,
}
CAPABILITY_TEXT: dict[Capability, str] = {
    "Embedder": "embed images and texts into one space",
    "Scorer": "score given answers",
    "Captioner": "generate captions",
    "Generator": "generate text from prompts",
}
SUITABLE_MODELS: dict[Capability, str] = {
    "Embedder": "a Clerestory release, or a Hugging Face dual encoder such as CLIP or SigLIP 2 (hf:org/name)",
    "Scorer": "a Clerestory release, or a Hugging Face dual encoder or image-text-to-text model (hf:org/name)",
    "Captioner": "a Clerestory release, a Hugging Face image-text-to-text model (hf:org/name), "
    "or a vision model behind an endpoint (openai:http://host/v1#model)",
    "Generator": "a Hugging Face image-text-to-text model (hf:org/name), "
    "or a vision model behind an endpoint (openai:http://host/v1#model)",
}
MAX_NAMED_MODELS = 6  # in a message


def capabilities(model: object) -> tuple[Capability, ...]:
    """The names of a model's capabilities, in a fixed order."""
    return tuple(name for name, protocol in CAPABILITIES.items() if isinstance(model, protocol))


AvailableModels = Iterable[tuple[str, Sequence[str]]]


@overload
def require_capability(
    model: object, capability: Literal["Embedder"], task: str = "", available: AvailableModels = ()
) -> Embedder: ...
@overload
def require_capability(
    model: object, capability: Literal["Scorer"], task: str = "", available: AvailableModels = ()
) -> Scorer: ...
@overload
def require_capability(
    model: object, capability: Literal["Captioner"], task: str = "", available: AvailableModels = ()
) -> Captioner: ...
@overload
def require_capability(
    model: object, capability: Literal["Generator"], task: str = "", available: AvailableModels = ()
) -> Generator: ...
def require_capability(model: object, capability: Capability, task: str = "", available: AvailableModels = ()) -> Any:
    """The model itself, typed as the required capability.

    Args:
        model: any model.
        capability: required by the task.
        task: its name, for the message.
        available: models of the store with their capabilities, as ``(reference, capabilities)``.

    Raises:
        CapabilityError: the model lacks the capability; the message names models that have it.
    """
    if isinstance(model, CAPABILITIES[capability]):
        return model
    present = ", ".join(CAPABILITY_TEXT[name] for name in capabilities(model))
    ability = f"this model can {present}" if present else "this model has none of the known capabilities"
    suitable = [ref for ref, supported in available if capability in supported]
    store = f"use {', '.join(suitable[:MAX_NAMED_MODELS])}, or " if suitable else "use "
    raise CapabilityError(
        f"{task or 'this operation'} needs a model that can {CAPABILITY_TEXT[capability]} ({capability}); {ability}",
        store + SUITABLE_MODELS[capability],
    )


def logit_scale_of(model: object) -> float | None:
    """The factor of the similarities before a softmax (1 / temperature); None if the model has none."""
    scale = getattr(model, "logit_scale", None)
    return float(scale) if isinstance(scale, int | float) and scale > 0 else None


def tokenizer_folder_of(model: object) -> Path | None:
    """The folder with the tokenizer of a model that brings its own text tower along; None for any other."""
    folder = getattr(getattr(model, "text_tower", None), "folder", None)
    return folder if isinstance(folder, Path) else None


def check_items(
    images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
) -> None:
    """Raise ``InputError`` unless there is one question and at least one option for each image."""
    if not len(images) == len(questions) == len(options):
        raise InputError(
            f"the numbers of images ({len(images)}), questions ({len(questions)}) and lists of options "
            f"({len(options)}) differ",
            "pass one question and one list of options for each image",
        )
    empty = next((i for i, item in enumerate(options) if not len(item)), None)
    if empty is not None:
        raise InputError(f"item {empty} has no options", "pass at least one option for each item")


def check_caption_count(n: int) -> None:
    """Raise ``InputError`` unless at least one caption is requested."""
    if n < 1:
        raise InputError(f"the number of captions is {n}", "request at least one")


def unknown_dim(dim: int, dims: Sequence[int]) -> CapabilityError:
    """The error for embeddings of a width that the model does not have."""
    return CapabilityError(
        f"the model has no embeddings of width {dim}", f"use one of its widths: {', '.join(map(str, dims))}"
    )
