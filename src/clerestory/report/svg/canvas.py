"""Inline SVG from small functions: everything is escaped, every length is in the drawing's own units."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup


def _attributes(attributes: dict[str, object]) -> Markup:
    parts = []
    for name, value in attributes.items():
        if value is None or value == "":
            continue
        text = trim(value) if isinstance(value, float) else str(value)
        parts.append(Markup(' {}="{}"').format(Markup(name.rstrip("_").replace("_", "-")), text))
    return Markup("").join(parts)


def trim(value: float) -> str:
    """A length with at most two decimals and no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


class SvgCanvas:
    """A drawing of ``width`` × ``height`` units that scales with its place on the page.

    Args:
        name: unique on the page; the ids of title and description derive from it.
        width, height: the view box.
        title: of the drawing, for people who do not see it.
        desc: its content, in words with the numbers.
    """

    def __init__(self, name: str, width: float, height: float, title: str, desc: str) -> None:
        self.name, self.width, self.height, self.title, self.desc = name, width, height, title, desc
        self._parts: list[Markup] = []

    def add(self, tag: str, **attributes: object) -> None:
        """An element without content; ``class_`` gives ``class``, ``stroke_width`` gives ``stroke-width``."""
        self._parts.append(Markup("<{}{}/>").format(Markup(tag), _attributes(attributes)))

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        """A straight line."""
        self.add("line", class_=class_, x1=x1, y1=y1, x2=x2, y2=y2)

    def bar(self, x: float, y: float, width: float, height: float, class_: str, radius: float = 0.0) -> None:
        """A rectangle."""
        self.add("rect", class_=class_, x=x, y=y, width=max(0.0, width), height=height, rx=radius or None)

    def dot(self, x: float, y: float, radius: float, class_: str) -> None:
        """A circle."""
        self.add("circle", class_=class_, cx=x, cy=y, r=radius)

    def path(self, points: Sequence[tuple[float, float]], class_: str) -> None:
        """A line through points; nothing for fewer than two."""
        if len(points) > 1:
            steps = " ".join(f"{trim(x)},{trim(y)}" for x, y in points)
            self.add("polyline", class_=class_, points=steps)

    def area(self, points: Sequence[tuple[float, float]], class_: str) -> None:
        """A filled outline; nothing for fewer than three points."""
        if len(points) > 2:
            self.add("polygon", class_=class_, points=" ".join(f"{trim(x)},{trim(y)}" for x, y in points))

    def text(self, x: float, y: float, words: str, class_: str = "t", anchor: str = "start") -> None:
        """One line of text; ``anchor`` is ``start``, ``middle`` or ``end``."""
        self._parts.append(
            Markup("<text{}>{}</text>").format(
                _attributes({"class": class_, "x": x, "y": y, "text-anchor": None if anchor == "start" else anchor}),
                words,
            )
        )

    def render(self) -> Markup:
        """The ``<svg>`` element, announced by its title and description."""
        title, desc = f"{self.name}-title", f"{self.name}-desc"
        return Markup(
            '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{} {}"><title id="{}">{}</title>'
            '<desc id="{}">{}</desc>{}</svg>'
        ).format(
            trim(self.width),
            trim(self.height),
            title,
            desc,
            title,
            self.title,
            desc,
            self.desc,
            Markup("").join(self._parts),
        )


class AxisScale:
    """A straight map from a range of values to a range of lengths; values outside are clipped to the ends."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = (low, high) if high > low else (low, low + 1.0)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        """The length of a value."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, about: int = 4) -> tuple[float, ...]:
    """Round values from ``low`` to ``high``, steps of 1, 2 or 5 times a power of ten, about ``about`` steps."""
    if not high > low:
        return (low,)
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def ceiling(value: float, about: int = 4) -> float:
    """The smallest round value that is at least ``value`` and ends an axis from zero in whole steps."""
    if value < 1e-9:
        return 1.0
    step = ticks(0.0, value, about)
    width = step[1] - step[0] if len(step) > 1 else value
    return float(f"{math.ceil(value / width - 1e-9) * width:.12g}")


def tick_text(value: float) -> str:
    """A tick's label without trailing zeros: ``0``, ``0.25``, ``1,000``, ``2k``."""
    return f"{value:,.6g}" if abs(value) < 10000 else f"{value / 1000:,.4g}k"


def shorten(words: str, limit: int) -> str:
    """At most ``limit`` characters, cut with an ellipsis; drawings cannot wrap."""
    return words if len(words) <= limit else words[: max(1, limit - 1)].rstrip() + "…"
