"""Synthetic images: plain colours, noise, and simple shapes on white."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Colour = str | tuple[int, int, int]


def encode_image(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file; ``options`` go to Pillow's ``save``."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def solid_image(colour: Colour = "red", size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    """An image file of one colour."""
    return encode_image(Image.new("RGB", size, colour), kind)


def noise_images(*sizes: tuple[int, int], seed: int = 0) -> list[Image.Image]:
    """Random pixels, one image for each ``(height, width)``."""
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def shape_image(colour: str, shape: str, inset: int, side: int = 32) -> bytes:
    """A PNG of one coloured shape on white, ``inset`` pixels away from the border."""
    image = Image.new("RGB", (side, side), "white")
    draw, low, high, mid = ImageDraw.Draw(image), inset, side - 1 - inset, side // 2
    match shape:
        case "square":
            draw.rectangle((low, low, high, high), fill=colour)
        case "circle":
            draw.ellipse((low, low, high, high), fill=colour)
        case "triangle":
            draw.polygon([(mid, low), (low, high), (high, high)], fill=colour)
        case "bar":
            draw.rectangle((low, 13, high, 19), fill=colour)
        case "pole":
            draw.rectangle((13, low, 19, high), fill=colour)
        case "ring":
            draw.ellipse((low, low, high, high), outline=colour, width=4)
        case "cross":
            draw.line((low, low, high, high), fill=colour, width=5)
            draw.line((low, high, high, low), fill=colour, width=5)
        case "diamond":
            draw.polygon([(mid, low), (high, mid), (mid, high), (low, mid)], fill=colour)
        case _:
            raise ValueError(f"unknown shape {shape!r}")
    return encode_image(image)


def write_circle_images(folder: Path, *colours: str, shift: int = 0) -> Path:
    """Files ``<colour> circle.png`` in a folder; each circle lies ``shift`` pixels to the right of the one before."""
    for i, colour in enumerate(colours):
        image = Image.new("RGB", (60, 40), "white")
        left = 5 + i * shift
        ImageDraw.Draw(image).ellipse((left, 5, left + 30, 35), fill=colour)
        image.save(folder / f"{colour} circle.png")
    return folder


def data_uri(image: bytes, kind: str = "png") -> str:
    """An image as the APIs accept it within JSON."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
