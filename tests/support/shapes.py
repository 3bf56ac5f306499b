"""Datasets of coloured shapes that a tiny model can learn in seconds."""

from __future__ import annotations

import hashlib
from itertools import product

import numpy as np
from PIL import Image, ImageDraw
from tests.support.images import encode_image, shape_image

from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample

INSETS = (3, 5, 7)
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "grey")
SHAPES = ("square", "circle", "triangle", "bar", "ring")
MORE_COLOURS = (*COLOURS, "pink", "brown", "cyan", "navy")
MORE_SHAPES = (*SHAPES, "cross", "diamond", "pole")

COUNTED_COLOURS = ("red", "blue", "green", "yellow")
COUNTED_SHAPES = ("circle", "square")
COUNTS = ("one", "two", "three")


def shapes() -> Dataset:
    """40 combinations of colour and shape in three sizes; one in eight is for testing, one for validation."""
    contents: dict[str, bytes] = {}
    samples = []
    for i, (colour, shape) in enumerate(product(COLOURS, SHAPES)):
        split = {3: "val", 7: "test"}.get(i % 8, "train")
        for inset in INSETS:
            png = shape_image(colour, shape, inset)
            name = f"{colour}-{shape}-{inset}"
            contents[name] = png
            tone = "dark" if inset == 7 else "none"
            captions = (
                Caption(f"{colour} {shape}"),
                Caption(f"{split}word{i}", kind="keyword"),
                Caption(shape, "en", "keyword"),
            )
            samples.append(
                Sample(
                    name,
                    hashlib.sha256(png).hexdigest(),
                    captions,
                    f"{colour}-{shape}",
                    Tags(skin_tone=tone),
                    split=split,
                )
            )
    return Dataset("shapes", samples, lambda sample: contents[sample.id])


def more_shapes(leak: bool = False) -> Dataset:
    """96 combinations in three sizes; one in six is for validation, with ``leak`` also in the training split."""
    contents: dict[str, bytes] = {}
    samples: list[Sample] = []

    def add(name: str, png: bytes, caption: str, split: str) -> None:
        contents[name] = png
        digest = hashlib.sha256(png).hexdigest()
        samples.append(Sample(name, digest, (Caption(caption),), caption, Tags(skin_tone="none"), split=split))

    for i, (colour, shape) in enumerate(product(MORE_COLOURS, MORE_SHAPES)):
        for inset in INSETS:
            png, caption = shape_image(colour, shape, inset), f"{colour} {shape}"
            is_validation = i % 6 == 5
            add(f"{caption} {inset}", png, caption, "val" if is_validation else "train")
            if is_validation and leak:
                add(f"{caption} {inset} again", png, caption, "train")
    return Dataset("shapes", samples, lambda sample: contents[sample.id])


def counted_image(colour: str, shape: str, count: str, seed: int) -> bytes:
    """A PNG of one to three shapes on white; their positions depend on the seed."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (32, 32), "white")
    draw = ImageDraw.Draw(image)
    for i in range(COUNTS.index(count) + 1):
        x, y = 2 + 10 * i + int(random.integers(2)), 4 + int(random.integers(18))
        box = (x, y, x + 8, y + 8)
        (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colour)
    return encode_image(image)


def counted_shapes(
    name: str = "shapes", train_images: int = 6, template: str = "{count} {colour} {shape}", seed: int = 0
) -> Dataset:
    """24 captions, each with ``train_images`` training images and two validation images."""
    samples, contents = [], {}
    for colour, shape, count in product(COUNTED_COLOURS, COUNTED_SHAPES, COUNTS):
        for i in range(train_images + 2):
            content = counted_image(colour, shape, count, seed + i)
            sample_id = f"{colour}-{shape}-{count}-{i}"
            contents[sample_id] = content
            caption = Caption(template.format(colour=colour, shape=shape, count=count))
            split = "train" if i < train_images else "val"
            concept = f"{colour}-{shape}-{count}"
            samples.append(Sample(sample_id, digest_bytes(content), (caption,), concept=concept, split=split))
    return Dataset(name, samples, lambda sample: contents[sample.id])
