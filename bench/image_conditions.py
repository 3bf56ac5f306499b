"""Images of each kind under each condition, for the probe that tells photographs from drawings."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from clerestory.data import packages, pictograms, render
from clerestory.models.pixels import to_rgb

CONDITIONS = ("plain", "grey", "small", "jpeg", "colours")
SCAN = "scan"
MAX_SIDE = 640
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FITTED_SETS = (
    "fluent-emoji-flat",
    "noto",
    "openmoji",
    "flat-color-icons",
    "ph",
    "lucide",
    "game-icons",
    "fxemoji",
    "meteocons",
) + ("streamline-color", "fluent-emoji-high-contrast", "icon-park", "fluent-emoji")
HELD_OUT_SETS = (
    "emojione",
    "emojione-v1",
    "streamline-freehand-color",
    "streamline-kameleon-color",
    "mdi",
    "healthicons",
) + ("fluent-color", "solar", "streamline-emojis", "noto-v1")
SIZES = (64, 64, 96, 128, 256, 384, 512)
DARK = "#202830"
BACKGROUNDS = ("#ffffff", "#ffffff", "#ffffff", "#ffffff", "#f4e9d8", DARK, "#cfe8ff", "#ffd34d")


def edited(image: Image.Image, condition: str, rng: random.Random) -> Image.Image:
    """An image under a condition: as it is, grey, 64 to 96 pixels (some enlarged), JPEG of quality 20 to 60, 16
    colours, or as a scanned page."""
    image = to_rgb(image)
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    if condition == "grey":
        return image.convert("L").convert("RGB")
    if condition == "small":
        factor = rng.choice((64, 80, 96)) / min(image.size)
        small = image.resize([max(1, round(side * factor)) for side in image.size])
        return small.resize((small.width * 4, small.height * 4)) if rng.random() < 0.5 else small
    if condition == "jpeg":
        return _jpeg(image, rng.choice((20, 30, 40, 50, 60)))
    if condition == "colours":
        return image.quantize(16).convert("RGB")
    if condition == SCAN:
        page = np.asarray(image.convert("L").rotate(rng.uniform(-2, 2), fillcolor=240), dtype=np.float64)
        noise = np.random.default_rng(rng.randrange(10**6)).normal(0, 6, page.shape)
        scanned = (page * rng.uniform(0.8, 1) + noise).clip(0, 255).astype(np.uint8)
        return _jpeg(Image.fromarray(scanned).convert("RGB"), rng.choice((40, 60, 80)))
    return image


def drawings(sets: Sequence[str], number: int, rng: random.Random) -> Iterator[Image.Image]:
    """Icons and emoji of some sets, rendered at several sizes on several backgrounds."""
    pinned = {package.name.rsplit("/", 1)[-1]: package for package in packages.ALL_PACKAGES}
    pinned |= pictograms.sets()
    for name in sets:
        icons = packages.read_json(packages.read_package(pinned[name]), "icons.json")["icons.json"]
        for each in rng.sample(sorted(icons["icons"]), min(len(icons["icons"]), number // len(sets) + 1)):
            svg, size = render.svg_document(icons["icons"][each], icons), rng.choice(SIZES)
            background = rng.choice(BACKGROUNDS)
            if background == DARK:
                svg = svg.replace("<svg ", '<svg color="#eeeeee" ', 1)
            png = resvg_py.svg_to_bytes(
                svg_string=svg, width=size, height=size, background=background, skip_system_fonts=True
            )
            yield Image.open(io.BytesIO(bytes(png))).convert("RGB")


def sheets(images: Sequence[Image.Image], number: int, rng: random.Random) -> Iterator[Image.Image]:
    """Contact sheets: some images, or parts of one, in rows, with margins between them or without."""
    for _ in range(number):
        columns, rows = rng.choice(((2, 1), (2, 2), (3, 2), (4, 3), (6, 4), (1, 3)))
        width, margin, height = 720 // columns, rng.choice((0, 2, 6, 16)), rng.randint(300, 700) // rows
        page = Image.new("RGB", (columns * width, rows * height), rng.choice(("#ffffff", "#000000", "#d8cfc0")))
        some = rng.sample(images, columns * rows) if rng.random() < 0.5 else [rng.choice(images)] * (columns * rows)
        is_grey = rng.random() < 0.5
        for i, image in enumerate(some):
            w, h = image.size
            left, top, share = rng.uniform(0, 0.3) * w, rng.uniform(0, 0.3) * h, rng.uniform(0.5, 0.7)
            part = image.crop((round(left), round(top), round(left + share * w), round(top + share * h)))
            part = part.convert("L" if is_grey else "RGB").resize((width - margin, height - margin))
            page.paste(part.convert("RGB"), (i % columns * width + margin // 2, i // columns * height + margin // 2))
        yield page


def at_night(image: Image.Image, rng: random.Random) -> Image.Image:
    """A photograph with little light: most of it black, with bright spots and noise."""
    values = np.asarray(to_rgb(image), dtype=np.float64) / 255
    noise = np.random.default_rng(rng.randrange(10**6)).normal(0, rng.choice((0, 4, 10)), values.shape)
    return Image.fromarray((255 * values ** rng.uniform(2, 6) + noise).clip(0, 255).astype(np.uint8))


def image_files(folder: Path) -> list[Path]:
    """The images of a folder and its subfolders."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out, formats=["JPEG"]).convert("RGB")
