"""Photographs are unlike the starter's training images, icons are like them, also as JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_sample_images

from clerestory.apps.captioning import suggest_captions
from clerestory.apps.confidence import UNLIKE
from clerestory.apps.image_statistics import fit_training_images
from clerestory.apps.training_reference import starter_reference, unlike_sentence
from clerestory.core.sample import Dataset
from clerestory.data.images import decode_sample
from clerestory.models import open_reference


def _photographs() -> list[Image.Image]:
    """Crops of two photographs, in colour and in grey."""
    whole = [Image.fromarray(image) for image in load_sample_images().images]
    crops = [image.crop((x, y, x + 260, y + 260)) for image in whole for x in (0, 180, 360) for y in (0, 150)]
    return crops + [image.convert("L") for image in crops]


def _jpeg(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=60)
    return Image.open(out)


def test_photographs_are_recognised_and_icons_are_not_mistaken_for_them(few_icons: Dataset) -> None:
    reference = starter_reference()
    assert reference is not None
    assert reference.images is not None
    assert reference.model == open_reference("starter").digest
    assert reference.images.false_alarms / reference.images.num_checked <= 0.05
    icons = [decode_sample(few_icons, sample) for sample in few_icons.samples[::5]]
    assert np.mean(reference.images.unlike(_photographs())) >= 0.7
    assert np.mean(reference.images.unlike(icons)) <= 0.1
    assert np.mean(reference.images.unlike([_jpeg(icon) for icon in icons])) <= 0.2


def test_captions_of_images_unlike_the_training_images_are_guesses() -> None:
    photographs = [image.convert("RGB") for image in _photographs()[:6]]
    results = suggest_captions(open_reference("starter"), photographs, 1, starter_reference())
    assert any(result.unlike for result in results)
    assert all(each.confidence == UNLIKE for result in results if result.unlike for each in result.suggestions)


def test_the_reference_of_photographs_finds_drawings_unlike() -> None:
    rng = np.random.default_rng(0)

    def noise() -> Image.Image:
        pixels = Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
        return pixels.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3))))

    fitted = fit_training_images([noise() for _ in range(200)])
    assert fitted is not None
    drawing = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(drawing).ellipse((20, 20, 70, 70), fill="red")
    assert fitted.unlike([drawing]) == [True]
    assert fit_training_images([drawing] * 20) is None


def test_a_few_unlike_images_are_no_reason_for_a_warning() -> None:
    assert unlike_sentence(2, 100, "icons") == ""
    assert unlike_sentence(0, 0, "icons") == ""
    assert unlike_sentence(60, 100, "icons").startswith("60 of 100 images do not look like")
    assert unlike_sentence(1, 1, "icons").startswith("this image does not")
