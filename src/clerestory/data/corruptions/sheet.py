"""A contact sheet: one image under every corruption and severity.

``python -m clerestory.data.corruptions.sheet docs/images/corruptions.png`` draws the contact sheet of the
documentation, of an icon; a second argument is another image file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from clerestory.core.errors import InputError
from clerestory.data.corruptions.arrays import Bytes
from clerestory.data.corruptions.engine import corrupt
from clerestory.data.corruptions.parameters import FAMILIES, SEVERITIES
from clerestory.data.icons import open_icons
from clerestory.data.images import decode_image

ICON = "noto/parrot"
SIDE, GAP, LABEL, HEAD, COLOURS = 72, 4, 150, 22, 256


def sheet(image_HWC: Bytes) -> Image.Image:
    """A row for each corruption: its name, then severities 1 to 5 of the image."""
    names = [(family, name) for family, members in FAMILIES.items() for name in members]
    step = SIDE + GAP
    out = Image.new("RGB", (LABEL + step * len(SEVERITIES) + GAP, HEAD + step * len(names) + GAP), "white")
    draw = ImageDraw.Draw(out)
    for column, severity in enumerate(SEVERITIES):
        draw.text(
            (LABEL + column * step + SIDE // 2 - 3, 5), str(severity), fill="black", font=ImageFont.load_default(14)
        )
    for row, (family, name) in enumerate(names):
        top = HEAD + GAP + row * step
        draw.text((8, top + SIDE // 2 - 14), name.replace("_", " "), fill="black", font=ImageFont.load_default(14))
        draw.text((8, top + SIDE // 2 + 4), family, fill="#595959", font=ImageFont.load_default(11))
        for column, severity in enumerate(SEVERITIES):
            tile = Image.fromarray(corrupt(image_HWC, name, severity, "sheet"))
            out.paste(tile.resize((SIDE, SIDE), Image.Resampling.BOX), (LABEL + column * step, top))
    return out


def _outdoors(icon: Image.Image) -> Image.Image:
    """The icon in front of sky and meadow: on white, neither snow nor frost would be visible."""
    sky, haze, grass = (Image.new("RGB", icon.size, colour) for colour in ("#7aa7d8", "#e9efe4", "#8fae62"))
    fall = Image.linear_gradient("L").resize(icon.size)
    back = Image.composite(haze, sky, fall)
    back.paste(grass, mask=fall.point(lambda level: 255 if level > 190 else 0))
    return ImageChops.multiply(icon, back)


def main(arguments: Sequence[str]) -> None:
    """Draw the sheet into the first file, of the image in the second one or of an icon."""
    if not 1 <= len(arguments) <= 2:
        raise InputError("the output file is missing", "name it, optionally followed by an image file")
    if len(arguments) == 2:
        image = decode_image(Path(arguments[1]).read_bytes())
    else:
        icons = open_icons()
        image = _outdoors(decode_image(icons.read(next(sample for sample in icons if sample.id == ICON))))
    square = np.asarray(image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS))
    contact_sheet = sheet(square).quantize(COLOURS, dither=Image.Dither.NONE)
    contact_sheet.save(arguments[0], optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
