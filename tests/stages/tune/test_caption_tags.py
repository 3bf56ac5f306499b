"""``tune photos`` learns tags from captions, stores them with the model, and names them.

Half a minute: 300 images go through the network, since those that look alike count as one, and a word is learned only
if other images confirm its cut-off.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clerestory.apps.tags import tagger_of
from clerestory.cli.main import run
from clerestory.models.photo.encoder import PhotoEncoder
from clerestory.models.resolve import open_folder
from clerestory.store import open_store

COLOURS = {"red": (210, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210), "yellow": (230, 210, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
NUM_IMAGES, NUM_NEW = 300, 40


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


def test_tune_learns_tags_and_the_model_uses_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, data, home = np.random.default_rng(0), tmp_path / "data", tmp_path / "home"
    data.mkdir()
    with (data / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "caption"))
        for i in range(NUM_IMAGES):
            image, colour, shape = scene(rng)
            image.save(data / f"{i}.png")
            table.writerow((f"{i}.png", f"a {colour} {shape} in front of the wall"))
    command = ["tune", "photos", "--data", str(data), "--home", str(home)]
    assert run([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    words = result["facts"]["learned_tags"]
    assert set(SHAPES) & set(words)
    assert set(words) <= {*SHAPES, *COLOURS}, "neither function words nor what every caption says"
    assert run(command) == 0
    assert f"{len(words)} words of your captions learned: {', '.join(words)}" in " ".join(
        capsys.readouterr().out.split()
    )

    folder = open_store(home).model_folder(result["model"])
    assert f"tags learned from the captions: {', '.join(words)}" in (folder / "README.md").read_text(encoding="utf-8")
    model = open_folder(folder)
    assert isinstance(model, PhotoEncoder)
    new = [scene(rng) for _ in range(NUM_NEW)]
    tags = tagger_of(model).tags(model.features([image for image, _, _ in new]))
    said = [
        (tag.text in said, tag.probability)
        for some, (_, *said) in zip(tags, new, strict=True)
        for tag in some
        if tag.text in words
    ]
    assert len(said) >= 10
    assert np.mean([right for right, _ in said]) >= 0.8
