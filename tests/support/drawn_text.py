"""Images with lines of text, as an OCR engine meets them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIZE = (640, 400)


def draw_text(texts: Sequence[str], height: int, colours: tuple[str, str] = ("white", "black")) -> Image.Image:
    """An image of 640 x 400 pixels with lines of text in the font of Pillow.

    Args:
        texts: the lines, from the top.
        height: size of the font in pixels.
        colours: of the background and of the text.
    """
    image = Image.new("RGB", SIZE, colours[0])
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(height)
    for line, text in enumerate(texts):
        draw.text((24, 24 + line * 2 * height), text, fill=colours[1], font=font)
    return image
