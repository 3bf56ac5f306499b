"""A dual encoder as a ``Scorer``: the softmax over the similarities of a picture with each option.

Shape suffixes: N pictures or texts, D width of an embedding, O options of one item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from clerestory.models.protocols import Embedder, Scores, check_items

GREY = Image.new("RGB", (224, 224), (128, 128, 128))
BLIND = "without an image the model sees a plain grey picture (128, 128, 128)"


def joined(question: str, option: str) -> str:
    """The text of one option: the question, a blank, the option; the bare option without a question."""
    return f"{question.strip()} {option.strip()}".strip()


def log_softmax(x_O: Scores) -> Scores:
    """Log-probabilities of logits, in float64."""
    shifted_O = x_O - x_O.max()
    out_O: Scores = shifted_O - np.log(np.exp(shifted_O).sum())
    return out_O


def score_by_similarity(
    model: Embedder,
    logit_scale: float,
    images: Sequence[Image.Image | None],
    questions: Sequence[str],
    options: Sequence[Sequence[str]],
) -> list[Scores]:
    """Log-probabilities of each item's options: log softmax of ``logit_scale`` × similarity.

    Every distinct text is embedded once. A picture that is None is a plain grey one.

    Args:
        model: embeds pictures and texts.
        logit_scale: 1 / the temperature of the softmax.
        images: N pictures or None.
        questions: N questions, put before each option.
        options: for each item what to choose from.

    Raises:
        InputError: the numbers of items differ, or an item has no options.
    """
    check_items(images, questions, options)
    if not images:
        return []
    texts = [[joined(q, o) for o in some] for q, some in zip(questions, options, strict=True)]
    place = {text: i for i, text in enumerate(dict.fromkeys(t for some in texts for t in some))}
    text_ND = model.embed_texts(list(place)).astype(np.float64)
    image_ND = model.embed_images([GREY if image is None else image for image in images]).astype(np.float64)
    return [
        log_softmax(logit_scale * (text_ND[[place[t] for t in some]] @ image_D))
        for some, image_D in zip(texts, image_ND, strict=True)
    ]
