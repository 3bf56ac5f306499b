"""How a drawn chart looks: colours, fonts, grids and axes, and the SVG elements it is made of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

WORD_LIST = (
    "north south east west sales energy cost total mean rate error time year month value group class control "
    "treated income age weight speed output users traffic load memory price index growth change share rain "
    "temperature height depth signal noise test train model loss score alpha beta gamma first second other"
)
WORDS = tuple(WORD_LIST.split())
FONTS = ("Liberation Sans", "DejaVu Sans", "Liberation Serif", "DejaVu Serif", "Liberation Mono", "DejaVu Sans Mono")
PALETTES = (
    "1f77b4 ff7f0e 2ca02c d62728 9467bd 8c564b e377c2",
    "4e79a7 f28e2b e15759 76b7b2 59a14f edc948 b07aa1",
    "4472c4 ed7d31 a5a5a5 ffc000 5b9bd5 70ad47 264478",
    "4f81bd c0504d 9bbb59 8064a2 4bacc6 f79646 2c4d75",
    "f8766d 00ba38 619cff c77cff 00bfc4 e76bf3 a3a500",
    "9400d3 009e73 56b4e9 e69f00 f0e442 0072b2 e51e10",
    "ff0000 00c000 0000ff ff00ff 00ffff c0c000 000000",
    "66c2a5 fc8d62 8da0cb e78ac3 a6d854 ffd92f e5c494",
    "440154 3b528b 21908c 5dc863 fde725 31688e 35b779",
    "000004 51127c b63679 fb8861 fcfdbf 832681 e65164",
    "222222 555555 888888 aaaaaa cccccc 333333 777777",
    "00e396 008ffb feb019 ff4560 775dd0 26a69a 546e7a",
    "36a2eb ff6384 ffce56 4bc0c0 9966ff ff9f40 c9cbcf",
    "a6cee3 b2df8a fb9a99 fdbf6f cab2d6 ffff99 b15928",
    "0b3954 bfd7ea ff6663 e0ff4f fefffe 087e8b c81d25",
)
RAMPS = (
    ("440154", "21908c", "fde725"),
    ("000004", "b63679", "fcfdbf"),
    ("ffffff", "6baed6", "08306b"),
    ("67001f", "f7f7f7", "053061"),
    ("0000ff", "00ff00", "ff0000"),
    ("000000", "888888", "ffffff"),
    ("ffffcc", "fd8d3c", "800026"),
    ("00441b", "74c476", "f7fcf5"),
)


class Box(NamedTuple):
    """A rectangle, in pixels."""

    x: float
    y: float
    w: float
    h: float


@dataclass
class ChartStyle:
    """What all panels of an image have in common."""

    rng: random.Random
    data: np.random.Generator
    colours: list[str] = field(default_factory=list)
    ramp: tuple[str, ...] = RAMPS[0]
    page: str = "#ffffff"
    plot: str = "none"
    ink: str = "#222222"
    grid: str = "#dddddd"
    grid_lines: str = "xy"
    grid_dash: str = ""
    axes: str = "lb"
    tick: float = 4
    font: str = FONTS[0]
    size: float = 11
    line: float = 1.5
    opacity: float = 1
    edge: str = "none"
    rounded: float = 0
    has_legend: bool = True
    has_labels: bool = True
    form: str = "{:.1f}"
    largest: float = 1

    @classmethod
    def draw(cls, rng: random.Random) -> ChartStyle:
        """A random look: one that resembles a known one, with changes, or a random mixture."""
        look = cls(rng, np.random.default_rng(rng.randrange(2**32)))
        look.colours = ["#" + colour for colour in rng.choice(PALETTES).split()]
        rng.shuffle(look.colours)
        look.ramp = rng.choice(RAMPS)
        if rng.random() < 0.25:
            look.colours = [f"hsl({rng.randrange(360)},{rng.randrange(20, 100)}%,{rng.randrange(25, 75)}%)"] * (
                7 if rng.random() < 0.3 else 1
            ) + look.colours[1:]
        look.font, look.size = rng.choice(FONTS[:4] * 2 + FONTS), rng.choice((8, 9, 10, 11, 12, 13, 15, 18))
        look.line, look.opacity = rng.choice((0.7, 1, 1.5, 2, 3, 4)), rng.choice((1, 1, 1, 0.8, 0.6, 0.4))
        look.edge = rng.choice(("none", "none", "none", "#000000", "#ffffff"))
        look.rounded = rng.choice((0, 0, 0, 3, 8))
        look.form = rng.choice(("{:.1f}", "{:.2g}", "{:.0%}", "{:,.0f}", "{:.0f}", "${:.0f}"))
        look.largest = 1 if look.form in ("{:.2g}", "{:.0%}") else rng.choice((5, 10, 100, 2500, 100_000))
        look.has_legend, look.has_labels = rng.random() < 0.5, rng.random() < 0.8
        known = rng.choice(("plain", "ggplot", "sheet", "gnuplot", "web", "dark", "dark", "paper", "colour", "bare"))
        grey = rng.choice(("#e5e5e5", "#cccccc", "#f0f0f0"))
        looks: dict[str, dict[str, str]] = {
            "plain": {"axes": "box", "ink": "#000000", "grid_lines": ""},
            "ggplot": {"plot": "#ebebeb", "grid": "#ffffff", "axes": "", "ink": "#4d4d4d"},
            "sheet": {"axes": "b", "grid_lines": "y", "grid": "#d9d9d9", "ink": "#595959"},
            "gnuplot": {"axes": "box", "ink": "#000000", "grid_dash": "1 3", "grid": "#888888"},
            "web": {"axes": "", "grid_lines": "y", "grid": grey, "ink": "#666666"},
            "dark": {"page": rng.choice(("#000000", "#111217", "#1e1e2f", "#002b36", "#2b2b2b", "#343a46"))}
            | {"ink": rng.choice(("#ffffff", "#cccccc", "#9aa5b1")), "grid": rng.choice(("#444444", "#2c3235"))},
            "paper": {"page": rng.choice(("#fff1e5", "#fdf6e3", "#f4f1ea", "#e8eef2")), "axes": "b", "grid_lines": "y"},
            "colour": {"page": f"hsl({rng.randrange(360)},{rng.randrange(15, 90)}%,{rng.randrange(60, 95)}%)"}
            | {"plot": rng.choice(("none", "#ffffff", "#eeeeee"))},
            "bare": {"axes": "", "grid_lines": ""},
        }
        for name, value in looks[known].items():
            setattr(look, name, value)
        if rng.random() < 0.3:
            look.axes, look.grid_lines = rng.choice(("", "b", "lb", "box", "cross")), rng.choice(("", "y", "x", "xy"))
        return look

    def colour(self, i: int) -> str:
        """The colour of a series."""
        return self.colours[i % len(self.colours)]

    def shade(self, value: float) -> str:
        """A colour of the ramp, at 0 to 1."""
        place = min(max(value, 0), 0.9999) * (len(self.ramp) - 1)
        low, high = self.ramp[int(place)], self.ramp[int(place) + 1]
        share = place % 1
        mixed = (int(low[k : k + 2], 16) * (1 - share) + int(high[k : k + 2], 16) * share for k in (0, 2, 4))
        return "#" + "".join(f"{round(part):02x}" for part in mixed)

    def words(self, most: int = 2) -> str:
        """One or more words, sometimes with a number."""
        text = " ".join(self.rng.choices(WORDS, k=self.rng.randint(1, most)))
        text = text.capitalize() if self.rng.random() < 0.6 else text
        return f"{text} {self.rng.randrange(2030)}" if self.rng.random() < 0.15 else text

    def number(self, value: float) -> str:
        """A number as this look writes it."""
        return self.form.format(value * self.largest)


def text(
    look: ChartStyle, x: float, y: float, words: str, size: float = 0, anchor: str = "middle", more: str = ""
) -> str:
    """A line of text; ``more`` are further attributes."""
    size = size or look.size
    paint = "" if "fill=" in more else f'fill="{look.ink}"'
    at = f'x="{x:.1f}" y="{y:.1f}" font-family="{look.font}" font-size="{size:.1f}" text-anchor="{anchor}"'
    return f"<text {at} {paint} {more}>{words}</text>"


def rect(box: Sequence[float], fill: str, more: str = "") -> str:
    """A rectangle; negative sizes are turned around. ``fill`` is a colour or whole attributes."""
    x, y, w, h = box
    x, w = (x + w, -w) if w < 0 else (x, w)
    y, h = (y + h, -h) if h < 0 else (y, h)
    paint = fill if "=" in fill else f'fill="{fill}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" {paint} {more}/>'


def line(x: float, y: float, x2: float, y2: float, stroke: str, width: float = 1, more: str = "") -> str:
    """A straight line."""
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="{width:.1f}" {more}/>'


def circle(x: float, y: float, r: float, fill: str, more: str = "") -> str:
    """A circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{max(r, 0.5):.1f}" fill="{fill}" {more}/>'


def path(points: Sequence[tuple[float, float]], more: str, is_closed: bool = False) -> str:
    """A polygon or a polyline."""
    tag = "polygon" if is_closed else "polyline"
    return f'<{tag} points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {more}/>'


def filled(look: ChartStyle, i: int) -> str:
    """The attributes of an area of a series."""
    edge = "" if look.edge == "none" else f' stroke="{look.edge}" stroke-width="{min(look.line, 1.5)}"'
    return f'fill="{look.colour(i)}" fill-opacity="{look.opacity}"{edge}'
