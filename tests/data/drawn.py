"""A picture to write down."""

from __future__ import annotations

import io

from PIL import Image


def encoded(colour: str | tuple[int, int, int] = "red", size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    """A one-coloured picture."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()
