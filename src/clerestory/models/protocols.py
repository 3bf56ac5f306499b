"""What other rooms may ask of a model, and nothing more: capabilities, not a list of models.

Our own model and the adapters to other people's models implement these. A task asks for a capability with ``need``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.errors import CapabilityError, InputError

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]
Capability = Literal["Embedder", "Scorer", "Captioner", "Generator"]


@dataclass(frozen=True, slots=True)
class CaptionCandidate:
    """A caption the model proposes.

    Attributes:
        text: the words.
        score: the model's own probability for the words, as the geometric mean over words and the end mark, 0..1;
            NaN where the model does not tell it.
    """

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a generator is asked.

    Attributes:
        prompt: the words, without any marks for images: the adapter knows where its model wants those.
        images: the pictures the words are about, in order; none is a question without a picture.
        max_tokens: the longest answer.
        temperature: of sampling; 0 takes the most likely token every time.
    """

    prompt: str
    images: tuple[Image.Image, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a generator answered.

    Attributes:
        text: the words, without the prompt and special tokens; empty where there is an ``error``.
        tokens_in: tokens read, pictures included; 0 where it is not told.
        tokens_out: tokens written; 0 where it is not told.
        ms: wall-clock milliseconds from asking to the whole answer, retries included.
        error: why there is no answer, in words; empty when there is one. Such a sample is unscored, never wrong.
    """

    text: str
    tokens_in: int
    tokens_out: int
    ms: float
    error: str = ""


@runtime_checkable
class AnyModel(Protocol):
    """What every model can tell, whatever else it can do.

    Attributes:
        digest: content address: SHA-256 of the model's files, or of what is known of a remote model.
    """

    digest: str

    def facts(self) -> dict[str, str]:
        """What it is, in short strings."""


@runtime_checkable
class Embedder(Protocol):
    """Puts pictures and texts into one space, where the dot product says how well they fit.

    It may also tell a ``logit_scale``, see ``logit_scale_of``.

    Attributes:
        digest: SHA-256 of the model folder.
        dims: widths at which a prefix of an embedding is an embedding too, ascending.
    """

    digest: str
    dims: tuple[int, ...]

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)``, float32, one for each picture; ``dim`` picks one of ``dims``, None the widest."""

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)``, float32, one for each text; ``dim`` picks one of ``dims``, None the widest."""


@runtime_checkable
class Scorer(Protocol):
    """Says how probable each of some answers is.

    Attributes:
        digest: content address of the model.
        order_matters: whether the order in which options are given may change the scores. A task then asks in every
            cyclic order.
    """

    digest: str
    order_matters: bool

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Natural log-probabilities of each item's options.

        Args:
            images: N pictures; None asks *blind*, without a picture (what the model sees then is in ``facts``).
            questions: N questions; an empty one compares the bare options.
            options: for each item the answers to choose from, at least one.

        Returns:
            For each item one float64 number per option, whose exponentials add up to 1. An item that could not be
            scored is all NaN.
        """


@runtime_checkable
class Captioner(Protocol):
    """Writes captions."""

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each picture, best first."""


@runtime_checkable
class Generator(Protocol):
    """Answers in words."""

    digest: str

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        """One reply for each request, in order; what goes wrong with one is told in its ``error``."""


CAPABILITIES: dict[Capability, type] = {
    "Embedder": Embedder,
    "Scorer": Scorer,
    "Captioner": Captioner,
    "Generator": Generator,
}
CAPABILITY_TEXT: dict[Capability, str] = {
    "Embedder": "put pictures and texts into one space",
    "Scorer": "say how probable each of some answers is",
    "Captioner": "describe pictures",
    "Generator": "answer questions in words",
}
SUITABLE_MODELS: dict[Capability, str] = {
    "Embedder": "a Clerestory release, or a Hugging Face dual encoder such as CLIP or SigLIP 2 (hf:org/name)",
    "Scorer": "a Clerestory release, or a Hugging Face dual encoder or image-text-to-text model (hf:org/name)",
    "Captioner": "a Clerestory release, a Hugging Face image-text-to-text model (hf:org/name), "
    "or a vision model behind an endpoint (openai:http://host/v1#model)",
    "Generator": "a Hugging Face image-text-to-text model (hf:org/name), "
    "or a vision model behind an endpoint (openai:http://host/v1#model)",
}


def capabilities(model: object) -> tuple[Capability, ...]:
    """The names of the capabilities a model has, in a fixed order."""
    return tuple(name for name, protocol in CAPABILITIES.items() if isinstance(model, protocol))


AvailableModels = Iterable[tuple[str, Sequence[str]]]


@overload
def require_capability(
    model: object, capability: Literal["Embedder"], task: str = "", known: AvailableModels = ()
) -> Embedder: ...
@overload
def require_capability(
    model: object, capability: Literal["Scorer"], task: str = "", known: AvailableModels = ()
) -> Scorer: ...
@overload
def require_capability(
    model: object, capability: Literal["Captioner"], task: str = "", known: AvailableModels = ()
) -> Captioner: ...
@overload
def require_capability(
    model: object, capability: Literal["Generator"], task: str = "", known: AvailableModels = ()
) -> Generator: ...
def require_capability(model: object, capability: Capability, task: str = "", known: AvailableModels = ()) -> Any:
    """The model itself, as what a task needs it to be.

    Args:
        model: any model.
        capability: what the task needs.
        task: its name, for people.
        known: models at hand with their capabilities, as ``(reference, capabilities)``.

    Raises:
        CapabilityError: the model lacks it; the models that fit are named.
    """
    if isinstance(model, CAPABILITIES[capability]):
        return model
    has = ", ".join(CAPABILITY_TEXT[name] for name in capabilities(model)) or "none of what is asked here"
    needed = (
        f"{task} needs a model that can {CAPABILITY_TEXT[capability]} ({capability})" if task else f"no {capability}"
    )
    fits = [ref for ref, able in known if capability in able]
    here = f"here fits {', '.join(fits[:6])}; or use " if fits else "use "
    raise CapabilityError(f"{needed}; this one can {has}", here + SUITABLE_MODELS[capability])


def logit_scale_of(model: object) -> float | None:
    """What to multiply similarities by before the softmax (1 / temperature), None where the model does not tell."""
    told = getattr(model, "logit_scale", None)
    return float(told) if isinstance(told, int | float) and told > 0 else None


def check_items(
    images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
) -> None:
    """Raise ``InputError`` unless there is one question and at least one option for each image."""
    if not len(images) == len(questions) == len(options):
        raise InputError(
            f"{len(images)} images, {len(questions)} questions and {len(options)} lists of options do not belong "
            "together",
            "give one question and one list of options for each image",
        )
    empty = next((i for i, some in enumerate(options) if not len(some)), None)
    if empty is not None:
        raise InputError(f"item {empty} has no options", "give at least one option for each item")
