"""A dual encoder as a ``Scorer``: a softmax over the similarities of an image with each option, as in CLIP.

Shape suffixes: N images or texts, D width of an embedding, O options of one item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from clerestory.models.protocols import Embedder, Scores, check_items

GREY = Image.new("RGB", (224, 224), (128, 128, 128))
NO_IMAGE = "without an image the input is a plain grey image (128, 128, 128)"


def join_question(question: str, option: str) -> str:
    """The text of one option: the question, a space and the option; the option alone without a question."""
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

    Every distinct text is embedded once. An image that is None is replaced by a plain grey one.

    Args:
        model: embeds images and texts.
        logit_scale: 1 / the temperature of the softmax.
        images: N images or None.
        questions: N questions, prepended to each option.
        options: the options of each item.

    Raises:
        InputError: the numbers of items differ, or an item has no options.
    """
    check_items(images, questions, options)
    if not images:
        return []
    texts = [[join_question(q, o) for o in item_options] for q, item_options in zip(questions, options, strict=True)]
    row_of = {text: i for i, text in enumerate(dict.fromkeys(t for item_texts in texts for t in item_texts))}
    text_ND = model.embed_texts(list(row_of)).astype(np.float64)
    image_ND = model.embed_images([GREY if image is None else image for image in images]).astype(np.float64)
    return [
        log_softmax(logit_scale * (text_ND[[row_of[t] for t in item_texts]] @ image_D))
        for item_texts, image_D in zip(texts, image_ND, strict=True)
    ]
