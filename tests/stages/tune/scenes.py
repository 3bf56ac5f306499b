"""Drawings of a coloured shape on a background of its own, with captions that name both."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (210, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210), "yellow": (230, 210, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
NUM_IMAGES = 300


def scene(rng: np.random.Generator) -> tuple[Image.Image, str, str]:
    """A shape somewhere on a background of its own, with its colour and its name."""
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    image = Image.new("RGB", (160, 120), tuple(rng.integers(0, 256, 3).tolist()))
    noise = Image.fromarray(rng.integers(0, 90, (12, 16, 3)).astype(np.uint8)).resize(image.size)
    image = Image.blend(image, noise, float(rng.uniform(0.2, 0.7)))
    radius = int(rng.integers(18, 45))
    x, y = int(rng.integers(radius, 160 - radius)), int(rng.integers(radius, 120 - radius))
    left, top, right, bottom = box = (x - radius, y - radius, x + radius, y + radius)
    draw, fill = ImageDraw.Draw(image), COLOURS[str(colour)]
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, top), (right, bottom), (left, bottom)], fill=fill)
    else:
        draw.line(box, fill=fill, width=12)
        draw.line((left, bottom, right, top), fill=fill, width=12)
    return image, str(colour), str(shape)


def write_scenes(folder: Path) -> None:
    """``NUM_IMAGES`` of them with their captions in a table, drawn with the seed 0."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "caption"))
        for i in range(NUM_IMAGES):
            image, colour, shape = scene(rng)
            image.save(folder / f"{i}.png")
            table.writerow((f"{i}.png", f"a {colour} {shape} in front of the wall"))
