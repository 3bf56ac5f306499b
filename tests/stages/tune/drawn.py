"""Pictures that tiny models can learn in seconds: one to three shapes in four colours, and what they are called."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample

COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("circle", "square")
COUNTS = ("one", "two", "three")


def picture(colour: str, shape: str, count: str, seed: int) -> bytes:
    """Some shapes on white, a little different for every seed."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (32, 32), "white")
    draw = ImageDraw.Draw(image)
    for i in range(COUNTS.index(count) + 1):
        x, y = 2 + 10 * i + int(random.integers(2)), 4 + int(random.integers(18))
        box = (x, y, x + 8, y + 8)
        (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colour)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def shapes(name: str = "shapes", each: int = 6, words: str = "{count} {colour} {shape}", offset: int = 0) -> Dataset:
    """``each`` training pictures and two to validate for each of 24 captions."""
    samples, content = [], {}
    for colour, shape, count in product(COLOURS, SHAPES, COUNTS):
        for i in range(each + 2):
            bytes_ = picture(colour, shape, count, offset + i)
            place = f"{colour}-{shape}-{count}-{i}"
            content[place] = bytes_
            caption = Caption(words.format(colour=colour, shape=shape, count=count))
            split = "train" if i < each else "val"
            samples.append(
                Sample(place, digest_bytes(bytes_), (caption,), concept=f"{colour}-{shape}-{count}", split=split)
            )
    return Dataset(name, samples, lambda sample: content[sample.id])


def write(data: Dataset, folder: Path) -> Path:
    """The pictures as a folder with a table, for the command line."""
    folder.mkdir(parents=True)
    lines = ["image,caption,concept,split"]
    for sample in data:
        (folder / f"{sample.id}.png").write_bytes(data.read(sample))
        lines.append(f"{sample.id}.png,{sample.caption},{sample.concept},{sample.split}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
