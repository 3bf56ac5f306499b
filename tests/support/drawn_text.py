"""Images with lines of text, as an OCR engine meets them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, MARGIN = 640, 400, 24


def draw_text(texts: Sequence[str], height: int, colours: tuple[str, str] = ("white", "black")) -> Image.Image:
    """An image of 640 x 400 pixels, or wider for longer lines, with lines of text in the font of Pillow.

    Args:
        texts: the lines, from the top.
        height: size of the font in pixels.
        colours: of the background and of the text.
    """
    font = ImageFont.load_default(height)
    width = max([WIDTH, *(round(font.getlength(text)) + 2 * MARGIN for text in texts)])
    image = Image.new("RGB", (width, HEIGHT), colours[0])
    draw = ImageDraw.Draw(image)
    for line, text in enumerate(texts):
        draw.text((MARGIN, MARGIN + line * 2 * height), text, fill=colours[1], font=font)
    return image
