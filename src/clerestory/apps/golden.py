"""The golden inputs, and what a model answers to them: eight texts and eight drawn images, the same for every model.

The images are computed and need no data set, so that any machine can replay them without the training data.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.errors import IntegrityError
from clerestory.core.release import Release
from clerestory.models import AnyModel, Captioner, Embedder
from clerestory.store import Store
from clerestory.store.operations.golden_outputs import (
    GoldenOutputs,
    describe_difference,
    read_golden,
    write_golden,
)

TEXTS = (
    "a red heart",
    "a photo of a dog on a beach",
    "two people riding bicycles",
    "a cup of hot coffee",
    "the flag of France",
    "a white house behind trees",
    "night sky with stars",
    "a smiling face",
)
SIDE = 96
CAPTIONED = 2  # images


@cache
def golden_images() -> tuple[Image.Image, ...]:
    """Gradients, stripes, discs and noise in several colours."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    noise = np.random.default_rng(0).random((SIDE, SIDE))
    disc = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1).astype(float)
    planes = [
        (x, y, 1 - x),
        (disc, 0.2 * (1 - disc), 0.2 * (1 - disc)),
        ((x * 8 % 2 > 1).astype(float), (y * 8 % 2 > 1).astype(float), np.zeros_like(x)),
        (noise, noise, noise),
        (1 - disc, 1 - disc * 0.1, 1 - disc),
        (y**2, x * y, (1 - y) ** 2),
        (np.sin(12 * x) * 0.5 + 0.5, np.sin(9 * y) * 0.5 + 0.5, disc),
        (np.full_like(x, 0.1), np.full_like(x, 0.3), 0.4 + 0.5 * noise * y),
    ]
    return tuple(_image(np.stack(each, axis=-1)) for each in planes)


def _image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray((values * 255).round().astype(np.uint8))


def golden_outputs(model: AnyModel) -> GoldenOutputs:
    """What a model answers to the golden inputs; takes a fraction of a second, and warms it up."""
    texts = images = None
    if isinstance(model, Embedder):
        texts = np.asarray(model.embed_texts(list(TEXTS)), dtype=np.float32)
        images = np.asarray(model.embed_images(list(golden_images())), dtype=np.float32)
    captions: tuple[str, ...] = ()
    if isinstance(model, Captioner):
        drafts = model.caption_images(list(golden_images()[:CAPTIONED]), n=1)
        captions = tuple(each[0].text if each else "" for each in drafts)
    return GoldenOutputs(texts, images, captions)


def replay_golden(store: Store, release: Release, model: AnyModel) -> GoldenOutputs:
    """Compare the answers of a loaded model with the stored ones; the first time, store them.

    Raises:
        IntegrityError: they differ by more than the tolerance, so this is not the model that was promoted.
    """
    actual = golden_outputs(model)
    expected = read_golden(store, release.model)
    if expected is None:
        write_golden(store, release.model, actual)
    elif difference := describe_difference(expected, actual):
        raise IntegrityError(
            f"{release.ref} does not answer the golden inputs as before: {difference}",
            "check the installed versions and the machine, or restore the store from a backup",
        )
    return actual
