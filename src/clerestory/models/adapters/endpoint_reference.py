"""The reference of an endpoint as a model folder: base URL, name, prompts and a fingerprint of its answers.

The weights behind an endpoint cannot be pinned. What can be kept is how it answered a few fixed requests: while it
answers them alike it counts as the same model, and as another one as soon as it does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from clerestory.core.digest import canonical, digest, digest_bytes
from clerestory.core.errors import IntegrityError
from clerestory.models.protocols import GenerationRequest, Generator

ENDPOINT_FILE = "endpoint.json"
MAX_TOKENS = 16  # of an answer to a fixed request
QUESTIONS = {
    "count": "Count from one to eight in words.",
    "river": "Name three rivers, separated by commas.",
    "sentence": "Write one short sentence about a lighthouse.",
    "image": "Describe this image in a few words.",
}


def reference_digest(reference: Mapping[str, Any]) -> str:
    """The digest of a reference, which is that of the folder that contains it."""
    return digest({ENDPOINT_FILE: digest_bytes(canonical(dict(reference)))})


def write_reference(reference: Mapping[str, Any], folder: Path) -> Path:
    """Write a reference into a folder and return the folder."""
    (folder / ENDPOINT_FILE).write_bytes(canonical(dict(reference)))
    return folder


def read_reference(folder: Path) -> dict[str, Any] | None:
    """The reference in a folder; None if it is the folder of another model.

    Raises:
        IntegrityError: it is damaged.
    """
    file = folder / ENDPOINT_FILE
    if not file.is_file():
        return None
    try:
        reference = json.loads(file.read_text(encoding="utf-8"))
        texts = (reference["endpoint"], reference["model"], *reference.get("fingerprint", {}).values())
        if all(isinstance(text, str) for text in texts):
            return dict(reference)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    raise IntegrityError(f"{file} is not the reference of an endpoint", "evaluate the endpoint again")


def fingerprint(model: Generator) -> dict[str, str]:
    """The answers to the fixed requests that are the same twice; empty for an endpoint that never answers alike."""
    first, second = _answers(model), _answers(model)
    return {name: text for name, text in first.items() if second.get(name) == text}


def changed_answers(model: Generator, known: Mapping[str, str]) -> list[str] | None:
    """The fixed requests that are now answered in another way; None if none of them is answered at the moment."""
    now = _answers(model, known) if known else {}
    if known and not now:
        return None
    return [name for name, text in known.items() if name in now and now[name] != text]


def _answers(model: Generator, names: Mapping[str, str] = QUESTIONS) -> dict[str, str]:
    asked = [name for name in QUESTIONS if name in names]
    requests = [
        GenerationRequest(QUESTIONS[name], (_test_image(),) if name == "image" else (), MAX_TOKENS) for name in asked
    ]
    replies = zip(asked, model.generate(requests), strict=True)
    return {name: reply.text for name, reply in replies if reply.text and not reply.error}


def _test_image() -> Image.Image:
    """A red house with a blue door on a green field."""
    image = Image.new("RGB", (96, 96), "lightblue")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 64, 96, 96), fill="green")
    draw.rectangle((28, 36, 68, 76), fill="red")
    draw.rectangle((42, 54, 54, 76), fill="blue")
    return image
