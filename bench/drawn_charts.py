"""Drawn charts of many kinds and looks, for fitting the probe that tells photographs from drawings.

A chart is an SVG made of random data: some twenty kinds of panels in looks that resemble those of common libraries,
spreadsheets, newspapers and dashboards; with and without titles, legends, axes and grids; alone, several in an image,
or on a page of text. The charts that the probe is measured on are made by other programs (``image_sources.csv``).
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Literal

import resvg_py
from PIL import Image

from chart_panels import PANELS, Panel
from chart_styles import WORDS, Box, ChartStyle, rect, text

SIZES: tuple[tuple[int, int], ...] = (
    (640, 480),
    (640, 480),
    (600, 400),
    (480, 480),
    (400, 300),
    (800, 400),
    (900, 300),
    (360, 540),
    (300, 200),
)
SIZES += ((1000, 700), (720, 360), (250, 250), (200, 420))


def legend(look: ChartStyle, x: float, y: float) -> str:
    """Names of series beside their colours."""
    parts = []
    for i in range(look.rng.randint(2, 5)):
        at = y + i * (look.size + 6)
        parts.append(rect((x, at, look.size, look.size), look.colour(i)))
        parts.append(text(look, x + look.size + 5, at + look.size - 1, look.words(1), anchor="start"))
    return "".join(parts)


def framed(look: ChartStyle, panel: Panel, box: Box) -> str:
    """A panel with what is around it: title, names of the axes, legend."""
    rng, parts = look.rng, []
    left, right, top, bottom = look.size * 3, look.size * 1.5, look.size * 1.5, look.size * 2.5
    if rng.random() < 0.55:
        place_of = rng.choice((("middle", box.x + box.w / 2), ("start", box.x + 4)))
        weight = rng.choice(('font-weight="bold"', ""))
        parts.append(
            text(look, place_of[1], box.y + look.size * 1.6, look.words(4), look.size * 1.4, place_of[0], weight)
        )
        top += look.size * 1.8
    if rng.random() < 0.4:
        x, y = box.x + look.size * 1.2, box.y + box.h / 2
        parts.append(text(look, x, y, look.words(3), more=f'transform="rotate(-90 {x:.1f} {y:.1f})"'))
        parts.append(text(look, box.x + box.w / 2, box.y + box.h - 4, look.words(3)))
        left, bottom = left + look.size * 1.5, bottom + look.size * 1.3
    if look.has_legend and box.w > 220:
        inside = rng.random() < 0.5
        right += 0 if inside else look.size * 6
        parts.append(legend(look, box.x + box.w - look.size * (8 if inside else 6.5), box.y + top + 6))
    inner = Box(box.x + left, box.y + top, box.w - left - right, box.h - top - bottom)
    if inner.w < 40 or inner.h < 40:
        inner = Box(box.x + 6, box.y + 6, box.w - 12, box.h - 12)
    return panel(look, inner) + "".join(parts)


def chart(rng: random.Random) -> tuple[str, int, int]:
    """The SVG of a random chart or of several, with its width and height."""
    look = ChartStyle.draw(rng)
    w, h = rng.choice(SIZES)
    columns, rows = rng.choice(((1, 1),) * 8 + ((2, 1), (1, 2), (2, 2), (3, 2), (3, 3)))
    if columns * rows > 1:
        look.size *= 0.75
    panels = [rng.choice(PANELS)] * (columns * rows) if rng.random() < 0.6 else rng.choices(PANELS, k=columns * rows)
    top = 0.0
    parts = [rect((0, 0, w, h), look.page)]
    if rng.random() < 0.12:  # on a page of text
        top = h * rng.uniform(0.15, 0.4)
        heights = [look.size * 1.5 * (i + 1) for i in range(int(top // (look.size * 1.5)))]
        parts += [text(look, 12, y, " ".join(rng.choices(WORDS, k=40)), anchor="start") for y in heights]
    for i, panel in enumerate(panels):
        wide, high = w / columns, (h - top) / rows
        parts.append(framed(look, panel, Box(wide * (i % columns), top + high * (i // columns), wide, high)))
    if rng.random() < 0.1:
        parts.append(rect((0.5, 0.5, w - 1, h - 1), "none", f'stroke="{look.ink}"'))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
    arrow = '<defs><marker id="arrow" markerWidth="9" markerHeight="7" refX="8" refY="3.5" orient="auto">'
    arrow += f'<polygon points="0 0, 9 3.5, 0 7" fill="{look.ink}"/></marker></defs>'
    return head + arrow + "".join(parts) + "</svg>", w, h


def charts(number: int, rng: random.Random) -> Iterator[Image.Image]:
    """Random charts, a tenth of them without anti-aliasing."""
    for _ in range(number):
        svg, w, _ = chart(rng)
        shapes: Literal["crisp_edges", "geometric_precision"]
        shapes = "crisp_edges" if rng.random() < 0.1 else "geometric_precision"
        zoom = rng.choice((0.6, 1, 1, 1, 1.5))
        png = resvg_py.svg_to_bytes(svg_string=svg, width=round(w * zoom), shape_rendering=shapes)
        yield Image.open(io.BytesIO(bytes(png))).convert("RGB")
