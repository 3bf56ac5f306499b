"""The kinds of drawn charts: each panel fills a rectangle with random data in a look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi, sin

import numpy as np

from chart_styles import Box, ChartStyle, circle, filled, line, path, rect, text


def walk(look: ChartStyle, n: int) -> list[float]:
    """A random series between 0 and 1."""
    kind = look.rng.randrange(4)
    x = np.linspace(0, 1, n)
    values = look.data.normal(size=n).cumsum() if kind == 0 else look.data.random(n)
    if kind == 2:
        values = np.sin(x * look.rng.uniform(2, 30) + look.rng.random() * 6) * np.exp(-x * look.rng.choice((0, 2)))
    if kind == 3:
        values = x ** look.rng.uniform(0.3, 4) + look.data.normal(size=n) * look.rng.choice((0, 0.05))
    low, high = float(values.min()), float(values.max())
    start, end = sorted((look.rng.random() * 0.5, 0.5 + look.rng.random() * 0.45))
    return [float(start + (end - start) * (value - low) / (high - low or 1)) for value in values]


def place(box: Box, values: Sequence[float]) -> list[tuple[float, float]]:
    """Points at equal distances."""
    step = box.w / max(len(values) - 1, 1)
    return [(box.x + step * i, box.y + box.h * (1 - value)) for i, value in enumerate(values)]


def axes(look: ChartStyle, box: Box, names: Sequence[str] = (), is_across: bool = False) -> str:
    """Background, grid, axis lines, ticks and their labels.

    Args:
        look: the look.
        box: the plot area.
        names: categories; numbers without.
        is_across: whether the categories are on the vertical axis.
    """
    parts = [rect(box, look.plot)] if look.plot != "none" else []
    dash = f'stroke-dasharray="{look.grid_dash}"' if look.grid_dash else ""
    n = look.rng.randint(3, 8)
    across = [box.x + box.w * i / n for i in range(n + 1)]
    up = [box.y + box.h * i / n for i in range(n + 1)]
    if "x" in look.grid_lines and (is_across or not names):
        parts += [line(x, box.y, x, box.y + box.h, look.grid, more=dash) for x in across]
    if "y" in look.grid_lines and not (is_across and names):
        parts += [line(box.x, y, box.x + box.w, y, look.grid, more=dash) for y in up]
    right, bottom = box.x + box.w, box.y + box.h
    if "b" in look.axes:
        parts.append(line(box.x, bottom, right, bottom, look.ink))
    if "l" in look.axes or look.axes == "box":
        parts.append(line(box.x, box.y, box.x, bottom, look.ink))
    if look.axes == "box":
        parts.append(rect(box, "none", f'stroke="{look.ink}"'))
    if look.axes == "cross":
        parts.append(line(box.x, box.y + box.h / 2, right, box.y + box.h / 2, look.ink))
        parts.append(line(box.x + box.w / 2, box.y, box.x + box.w / 2, bottom, look.ink))
    if not look.has_labels:
        return "".join(parts)
    along = [look.number(i / n) for i in range(n + 1)]
    if names and is_across:
        parts += [
            text(look, box.x - 5, box.y + box.h * (i + 0.6) / len(names), name, anchor="end")
            for i, name in enumerate(names)
        ]
        parts += [text(look, x, bottom + look.size + 4, label) for x, label in zip(across, along, strict=True)]
        return "".join(parts)
    parts += [text(look, box.x - 6, y + 4, label, anchor="end") for y, label in zip(up[::-1], along, strict=True)]
    if look.tick and look.axes in ("lb", "box"):
        parts += [line(box.x, y, box.x + look.rng.choice((-1, 1)) * look.tick, y, look.ink) for y in up]
    if not names:
        parts += [text(look, x, bottom + look.size + 4, label) for x, label in zip(across, along, strict=True)]
        return "".join(parts)
    slant = look.rng.choice((0, 0, 45, 90)) if len(names) > 4 else 0
    for i, name in enumerate(names):
        x, y = box.x + box.w * (i + 0.5) / len(names), bottom + look.size + 3
        turn = f'transform="rotate(-{slant} {x:.1f} {y:.1f})"' if slant else ""
        parts.append(text(look, x, y, name, anchor="end" if slant else "middle", more=turn))
    return "".join(parts)


def names_of(look: ChartStyle, n: int) -> list[str]:
    """Categories."""
    numbered = look.rng.random() < 0.3
    return [str(1990 + i) if numbered else look.words(1) for i in range(n)]


def lines(look: ChartStyle, box: Box) -> str:
    """One or more lines, with markers, steps, bands or areas."""
    n, parts = look.rng.choice((5, 8, 12, 30, 100, 300)), [axes(look, box)]
    marker, style = look.rng.random() < 0.4 and n < 40, look.rng.choice(("", "", "", "6 4", "2 3"))
    has_area, has_step, has_band = (look.rng.random() < share for share in (0.25, 0.1, 0.15))
    for i in range(look.rng.choice((1, 1, 2, 3, 5, 8))):
        points = place(box, walk(look, n))
        if has_step:
            points = [p for (x, y), (x2, _) in zip(points, points[1:], strict=False) for p in ((x, y), (x2, y))]
        if has_area:
            ground = [(box.x + box.w, box.y + box.h), (box.x, box.y + box.h)]
            parts.append(path(points + ground, f'fill="{look.colour(i)}" fill-opacity="{look.opacity * 0.6}"', True))
        if has_band:
            width = look.rng.uniform(4, 20)
            around = [(x, y - width) for x, y in points] + [(x, y + width) for x, y in points[::-1]]
            parts.append(path(around, f'fill="{look.colour(i)}" fill-opacity="0.25"', True))
        dash = f'stroke-dasharray="{style}"' if style and i else ""
        parts.append(path(points, f'fill="none" stroke="{look.colour(i)}" stroke-width="{look.line}" {dash}'))
        if marker:
            parts += [circle(x, y, look.line + 2, look.colour(i)) for x, y in points]
    return "".join(parts)


def bars(look: ChartStyle, box: Box) -> str:
    """Bars: simple, grouped, stacked, negative, with errors or values; upright or lying."""
    n, k = look.rng.randint(2, 14), look.rng.choice((1, 1, 2, 3, 4))
    is_stacked, lies, many = look.rng.random() < 0.5, look.rng.random() < 0.35, look.rng.random() < 0.3
    names = names_of(look, n)
    parts = [axes(look, box, names, lies)]
    room, gap = (box.h if lies else box.w) / n, look.rng.uniform(0, 0.6)
    length = box.w if lies else box.h
    has_values, has_errors, zero = look.rng.random() < 0.3, look.rng.random() < 0.15, look.rng.choice((0, 0, 0, 0.4))
    more = f'rx="{look.rounded}"'
    for i in range(n):
        base = zero
        for j in range(k):
            value = look.rng.random() * (1 / k if is_stacked else 1) * (1 - zero)
            value *= -1 if zero and look.rng.random() < 0.4 else 1
            value = max(value, -zero)
            wide = room * (1 - gap) / (1 if is_stacked else k)
            at = room * (i + gap / 2) + (0 if is_stacked else wide * j)
            style = filled(look, i if many and k == 1 else j)
            if lies:
                bar = (box.x + length * base, box.y + at, length * value, wide)
                end = (bar[0] + bar[2] + 4, bar[1] + wide / 2 + 4)
            else:
                bar = (box.x + at, box.y + length * (1 - base), wide, -length * value)
                end = (bar[0] + wide / 2, bar[1] + bar[3] - 4)
            parts.append(rect(bar, style, more))
            if has_values:
                parts.append(text(look, *end, look.number(value), look.size * 0.9))
            if has_errors and not lies:
                parts.append(line(end[0], end[1] - 8, end[0], end[1] + 14, look.ink))
            base += value if is_stacked else 0
    return "".join(parts)


def histogram(look: ChartStyle, box: Box) -> str:
    """Bars without gaps, of a random distribution."""
    counts, _ = np.histogram(look.data.normal(size=500) ** look.rng.choice((1, 1, 2)), look.rng.choice((8, 20, 50)))
    wide, parts = box.w / len(counts), [axes(look, box)]
    for i, share in enumerate(counts / counts.max() * 0.95):
        bar = (box.x + wide * i, box.y + box.h * (1 - share), wide * look.rng.choice((1, 0.95)), box.h * share)
        parts.append(rect(bar, look.colour(0), f'stroke="{look.edge}"'))
    return "".join(parts)


def slices(look: ChartStyle, box: Box) -> str:
    """Pies, rings, gauges, roses and rings of rings."""
    shares = look.data.dirichlet(np.ones(look.rng.randint(2, 9)) * 2)
    r = min(box.w, box.h) / 2 * look.rng.uniform(0.7, 1)
    x, y = box.x + box.w / 2, box.y + box.h / 2
    kind, parts = look.rng.choice(("pie", "pie", "ring", "ring", "gauge", "rose", "sun")), []
    start, whole = (pi, pi) if kind == "gauge" else (look.rng.random() * 6, 2 * pi)
    if kind == "rose":
        shares = np.ones(len(shares)) / len(shares)
    inner = {"pie": 0.0, "rose": 0.0}.get(kind, look.rng.uniform(0.3, 0.85))
    for i, share in enumerate(shares):
        outer = r * (look.rng.uniform(0.3, 1) if kind == "rose" else 1)
        angles = np.linspace(start, start + share * whole, 24)
        outside = [(x + outer * cos(a), y + outer * sin(a)) for a in angles]
        inside = [(x + r * inner * cos(a), y + r * inner * sin(a)) for a in angles[::-1]]
        parts.append(path(outside + inside, filled(look, i), True))
        if kind == "sun":
            middle = [(x + r * inner * 0.95 * cos(a), y + r * inner * 0.95 * sin(a)) for a in angles]
            parts.append(path([*middle, (x, y)], filled(look, i + 1), True))
        a, away = start + share * whole / 2, look.rng.choice((0.65, 1.12))
        if look.has_labels:
            parts.append(text(look, x + outer * away * cos(a), y + outer * away * sin(a), look.words(1)))
        start += share * whole
    if kind == "ring" and look.rng.random() < 0.4:
        parts.append(text(look, x, y + 8, look.number(shares[0]), r * 0.4))
    return "".join(parts)


def scatter(look: ChartStyle, box: Box) -> str:
    """Points or bubbles, in groups, sometimes with a line through them."""
    n, parts = look.rng.choice((8, 30, 100, 400)), [axes(look, box)]
    is_open, is_square, has_sizes = (look.rng.random() < share for share in (0.25, 0.15, 0.3))
    most = look.rng.choice((1.5, 2.5, 4, 6))
    for i in range(look.rng.choice((1, 1, 2, 3))):
        slope, noise = look.rng.uniform(-0.8, 0.8), look.rng.uniform(0.02, 0.25)
        for x in look.data.random(n):
            y = 0.5 + slope * (x - 0.5) + look.data.normal() * noise
            at = (box.x + box.w * x, box.y + box.h * (1 - min(max(y, 0.01), 0.99)))
            r = most * (look.rng.uniform(0.5, 5) if has_sizes else 1)
            fill = look.colour(i)
            paint = f'fill-opacity="{look.opacity}"' if not is_open else f'stroke="{fill}"'
            fill = "none" if is_open else fill
            parts.append(rect((at[0] - r, at[1] - r, 2 * r, 2 * r), fill, paint) if is_square else "")
            parts.append("" if is_square else circle(*at, r, fill, paint))
        if look.rng.random() < 0.3:
            ends = place(box, [min(max(0.5 - slope / 2, 0), 1), min(max(0.5 + slope / 2, 0), 1)])
            parts.append(path(ends, f'fill="none" stroke="{look.colour(i + 1)}" stroke-width="{look.line}"'))
    return "".join(parts)


def spreads(look: ChartStyle, box: Box) -> str:
    """Box plots, violins, error bars, candlesticks and lollipops."""
    n = look.rng.randint(2, 12)
    kind = look.rng.choice(("box", "box", "violin", "error", "candle", "lollipop"))
    n = n * 4 if kind == "candle" else n
    parts = [axes(look, box, names_of(look, n) if n < 13 else ())]
    room = box.w / n
    for i in range(n):
        x, values = box.x + room * (i + 0.5), sorted(look.rng.random() for _ in range(5))
        low, first, middle, third, high = (box.y + box.h * (1 - value) for value in values)
        if kind == "violin":
            w = [sin(pi * j / 12) ** look.rng.uniform(0.7, 2) * room * 0.4 for j in range(13)]
            side = [(w[j], low + (high - low) * j / 12) for j in range(13)]
            shape = [(x + a, b) for a, b in side] + [(x - a, b) for a, b in side[::-1]]
            parts.append(path(shape, filled(look, i), True))
        elif kind == "error":
            parts += [line(x, first, x, third, look.colour(0), look.line), circle(x, middle, 4, look.colour(0))]
            parts += [line(x - 5, y, x + 5, y, look.colour(0), look.line) for y in (first, third)]
        elif kind == "lollipop":
            parts += [
                line(x, box.y + box.h, x, middle, look.colour(0), look.line),
                circle(x, middle, 6, look.colour(0)),
            ]
        elif kind == "candle":
            parts.append(line(x, middle - 25, x, middle + 25, look.ink))
            parts.append(rect((x - room * 0.3, middle - 12, room * 0.6, look.rng.uniform(4, 24)), look.colour(i % 2)))
        else:
            parts.append(line(x, low, x, high, look.ink))
            parts.append(rect((x - room * 0.3, first, room * 0.6, third - first), look.colour(i), 'stroke="#333333"'))
            parts.append(line(x - room * 0.3, middle, x + room * 0.3, middle, look.ink, 2))
    return "".join(parts)


def tiles(look: ChartStyle, box: Box) -> str:
    """Heat maps, calendars, confusion matrices and waffles, with a colour bar or without."""
    across, down = look.rng.choice(((4, 4), (8, 8), (20, 20), (7, 24), (40, 12), (10, 10), (3, 5)))
    smooth, has_numbers, gap = (
        look.rng.random() < 0.5,
        across < 9 and look.rng.random() < 0.6,
        look.rng.choice((0, 0, 1, 3)),
    )
    parts = [axes(look, box, names_of(look, across) if across < 9 else ())]
    w, h, (a, b) = box.w / across, box.h / down, (look.rng.uniform(0.2, 2), look.rng.uniform(0.2, 2))
    for i in range(across):
        for j in range(down):
            wave = 0.5 + 0.25 * sin(i * 6 / across * a) + 0.25 * cos(j * 6 / down * b)
            value = wave if smooth else look.rng.random()
            fill = look.shade(value)
            parts.append(
                rect(
                    (box.x + w * i, box.y + h * j, w - gap, h - gap),
                    fill,
                    f'stroke="{fill}" stroke-width="0.3"' if not gap else "",
                )
            )
            if has_numbers:
                more = f'fill="{"#ffffff" if look.rng.random() < 0.5 else "#000000"}"'
                parts.append(text(look, box.x + w * (i + 0.5), box.y + h * (j + 0.6), look.number(value), more=more))
    if look.rng.random() < 0.5:
        bar = [
            rect((box.x + box.w + 8, box.y + box.h * i / 40, 12, box.h / 40 + 1), look.shade(1 - i / 40))
            for i in range(40)
        ]
        parts += bar
    return "".join(parts)


def levels(look: ChartStyle, box: Box) -> str:
    """Contours around some centres, filled or not; level sets of a sum of bumps would look the same."""
    parts, is_filled = [axes(look, box)], look.rng.random() < 0.5
    if is_filled:
        parts.append(rect(box, look.shade(0)))
    number = look.rng.randint(5, 14)
    centres = [(look.rng.uniform(0.25, 0.75), look.rng.uniform(0.25, 0.75)) for _ in range(look.rng.randint(1, 3))]
    bends = [look.rng.uniform(0, 0.3) for _ in centres]
    for i in range(1, number):
        for (u, v), bend in zip(centres, bends, strict=True):
            r = 0.25 * (1 - i / number) + 0.01
            shape = [
                (
                    box.x + box.w * (u + r * (1 + bend * sin(3 * t)) * cos(t)),
                    box.y + box.h * (v + r * (1 + bend * cos(2 * t)) * sin(t)),
                )
                for t in np.linspace(0, 2 * pi, 60)
            ]
            shade = look.shade(i / number)
            parts.append(
                path(
                    shape, f'fill="{shade if is_filled else "none"}" stroke="{shade}" stroke-width="{look.line}"', True
                )
            )
    return "".join(parts)


def radar(look: ChartStyle, box: Box) -> str:
    """Radar charts and curves in polar coordinates."""
    n, r = look.rng.randint(3, 10), min(box.w, box.h) / 2 * 0.85
    x, y = box.x + box.w / 2, box.y + box.h / 2
    turn = [2 * pi * i / n - pi / 2 for i in range(n)]
    is_round, parts = look.rng.random() < 0.4, []
    for level in range(1, 6):
        ring = [(x + r * level / 5 * cos(a), y + r * level / 5 * sin(a)) for a in turn]
        style = f'fill="none" stroke="{look.grid}"'
        parts.append(
            circle(x, y, r * level / 5, "none", f'stroke="{look.grid}"') if is_round else path(ring, style, True)
        )
    parts += [line(x, y, x + r * cos(a), y + r * sin(a), look.grid) for a in turn]
    if look.has_labels:
        parts += [text(look, x + r * 1.12 * cos(a), y + r * 1.12 * sin(a), look.words(1)) for a in turn]
    for i in range(look.rng.randint(1, 4)):
        shape = [(x + r * f * cos(a), y + r * f * sin(a)) for a in turn for f in (look.rng.uniform(0.2, 1),)]
        opacity = look.rng.choice((0, 0.2, 0.5))
        parts.append(
            path(
                shape,
                f'fill="{look.colour(i)}" fill-opacity="{opacity}" stroke="{look.colour(i)}" stroke-width="2"',
                True,
            )
        )
    return "".join(parts)


def table(look: ChartStyle, box: Box) -> str:
    """A table of words and numbers."""
    rows, columns = look.rng.randint(3, 16), look.rng.randint(2, 7)
    w, h, parts = box.w / columns, box.h / rows, []
    banded, ruled = look.rng.random() < 0.4, look.rng.choice(("", "rows", "all"))
    size = min(look.size, h * 0.7, w / 5)
    for j in range(rows):
        fill = look.colour(0) if j == 0 and look.rng.random() < 0.5 else look.grid if banded and j % 2 else "none"
        parts.append(rect((box.x, box.y + h * j, box.w, h), fill, f'stroke="{look.grid if ruled else "none"}"'))
        for i in range(columns):
            words = look.words(1) if j == 0 or i == 0 else look.number(look.rng.random())
            parts.append(
                text(
                    look,
                    box.x + w * (i + 0.5),
                    box.y + h * (j + 0.65),
                    words,
                    size,
                    more='font-weight="bold"' if j == 0 else "",
                )
            )
    if ruled == "all":
        parts += [line(box.x + w * i, box.y, box.x + w * i, box.y + box.h, look.grid) for i in range(columns + 1)]
    return "".join(parts)


def boxes(look: ChartStyle, box: Box) -> str:
    """Boxes and arrows: flow charts, trees, layers, state machines, architectures."""
    kind, parts, places = look.rng.choice(("flow", "across", "tree", "grid", "ring")), [], []
    n = look.rng.randint(3, 7)
    if kind == "flow":
        places = [(0.5 + look.rng.choice((0, 0, -0.25, 0.25)), (i + 0.5) / n) for i in range(n)]
    elif kind == "across":
        places = [((i + 0.5) / n, 0.5 + look.rng.choice((0, 0, -0.2, 0.2))) for i in range(n)]
    elif kind == "ring":
        places = [(0.5 + 0.38 * cos(2 * pi * i / n), 0.5 + 0.38 * sin(2 * pi * i / n)) for i in range(n)]
    elif kind == "grid":
        places = [((i % 3 + 0.5) / 3, (i // 3 + 0.5) / 3) for i in range(look.rng.randint(4, 9))]
    else:
        places = [((i + 0.5) / 2**level, (level + 0.5) / 3) for level in range(3) for i in range(2**level)]
    at = [(box.x + box.w * u, box.y + box.h * v) for u, v in places]
    before = [(i - 1) // 2 if kind == "tree" else i - 1 for i in range(len(at))]
    w = box.w / (n * 1.5 if kind == "across" else 3.6 if kind != "flow" else 2.6)
    h = min(box.h / (n * 1.8 if kind == "flow" else 5), w * 0.7)
    arrow = f'stroke="{look.ink}" fill="none" stroke-width="{min(look.line, 2)}" marker-end="url(#arrow)"'
    for (x, y), j in zip(at[1:], before[1:], strict=True):
        x1, y1 = at[j]
        down = abs(y - y1) > abs(x - x1)
        start, end = ((x1, y1 + h / 2), (x, y - h / 2)) if down else ((x1 + w / 2, y1), (x - w / 2, y))
        bend = [start, (start[0], (start[1] + end[1]) / 2), (end[0], (start[1] + end[1]) / 2), end]
        parts.append(path(bend if look.rng.random() < 0.5 and down else [start, end], arrow))
    shape, is_outline = look.rng.choice(("rect", "round", "mixed", "circle")), look.rng.random() < 0.5
    for i, (x, y) in enumerate(at):
        fill = look.page if is_outline else look.colour(i if look.rng.random() < 0.5 else 0)
        style = f'stroke="{look.ink}" stroke-width="{min(look.line, 2)}"'
        if shape == "circle":
            parts.append(circle(x, y, min(w, h) * 0.6, fill, style))
        elif shape == "mixed" and i % 3 == 1:
            parts.append(
                path(
                    [(x, y - h * 0.7), (x + w / 2, y), (x, y + h * 0.7), (x - w / 2, y)], f'fill="{fill}" {style}', True
                )
            )
        else:
            parts.append(rect((x - w / 2, y - h / 2, w, h), fill, style + f' rx="{h / 3 if shape == "round" else 0}"'))
        parts.append(text(look, x, y + 4, look.words(1 if shape == "circle" else 2), min(look.size, w / 6)))
    return "".join(parts)


def network(look: ChartStyle, box: Box) -> str:
    """Nodes and the lines between them."""
    n = look.rng.randint(5, 40)
    at = [(box.x + box.w * look.rng.random(), box.y + box.h * look.rng.random()) for _ in range(n)]
    r, parts = look.rng.uniform(2, 14), []
    for i, (x, y) in enumerate(at):
        others = look.rng.sample(at, look.rng.choice((1, 1, 2)))
        parts += [line(x, y, *other, look.rng.choice((look.grid, look.ink)), min(look.line, 2)) for other in others]
        parts.append(circle(x, y, r, look.colour(i % 3), f'stroke="{look.edge}"'))
        if look.has_labels and n < 20:
            parts.append(text(look, x, y + r + look.size, look.words(1)))
    return "".join(parts)


def timeline(look: ChartStyle, box: Box) -> str:
    """Gantt charts."""
    n = look.rng.randint(3, 14)
    parts, h = [axes(look, box, names_of(look, n), True)], box.h / n
    for i in range(n):
        start = look.rng.random() * 0.7
        bar = (box.x + box.w * start, box.y + h * (i + 0.2), box.w * look.rng.uniform(0.05, 1 - start), h * 0.6)
        parts.append(rect(bar, look.colour(i % look.rng.randint(1, 4)), f'rx="{look.rounded}"'))
    return "".join(parts)


def layers(look: ChartStyle, box: Box) -> str:
    """Stacked areas, ridges and flows."""
    n, k, parts = 40, look.rng.randint(2, 6), [axes(look, box)]
    is_ridge = look.rng.random() < 0.4
    base = np.zeros(n)
    for i in range(k):
        values = np.convolve(look.data.random(n + 8), np.ones(9) / 9, "valid") / k
        if is_ridge:
            centre, width = look.rng.uniform(0.2, 0.8), look.rng.uniform(0.05, 0.15)
            values = np.exp(-(((np.linspace(0, 1, n) - centre) / width) ** 2)) * 1.4 / k
            base = np.full(n, 1 - (i + 1) / k)
        top = np.minimum(base + values, 1)
        shape = place(box, top.tolist()) + place(box, base.tolist())[::-1]
        parts.append(path(shape, filled(look, i), True))
        base = top
    return "".join(parts)


def rectangles(look: ChartStyle, box: Box) -> str:
    """Tree maps."""
    parts, open_boxes = [], [box]
    for _ in range(look.rng.randint(3, 25)):
        open_boxes.sort(key=lambda b: b.w * b.h)
        x, y, w, h = open_boxes.pop()
        share = look.rng.uniform(0.25, 0.75)
        halves = (Box(x, y, w * share, h), Box(x + w * share, y, w * (1 - share), h))
        open_boxes += halves if w > h else (Box(x, y, w, h * share), Box(x, y + h * share, w, h * (1 - share)))
    for i, each in enumerate(open_boxes):
        parts.append(rect(each, look.colour(i), f'fill-opacity="{look.opacity}" stroke="{look.page}" stroke-width="2"'))
        if each.w > 60 and each.h > 20:
            parts.append(text(look, each.x + 5, each.y + look.size + 3, look.words(1), anchor="start"))
    return "".join(parts)


def regions(look: ChartStyle, box: Box) -> str:
    """Maps of regions, in shades."""
    n, parts = look.rng.randint(4, 9), []
    grid = [
        [
            (
                box.x + box.w * (i + look.rng.uniform(-0.3, 0.3)) / n,
                box.y + box.h * (j + look.rng.uniform(-0.3, 0.3)) / n,
            )
            for i in range(n + 1)
        ]
        for j in range(n + 1)
    ]
    for j in range(n):
        for i in range(n):
            if (i - n / 2) ** 2 + (j - n / 2) ** 2 < (n / 2) ** 2 * look.rng.uniform(0.6, 1.4):
                corners = [grid[j][i], grid[j][i + 1], grid[j + 1][i + 1], grid[j + 1][i]]
                shade = look.shade(look.rng.random())
                parts.append(
                    path(corners, f'fill="{shade}" stroke="{look.page}" stroke-width="{min(look.line, 2)}"', True)
                )
    return "".join(parts)


def funnel(look: ChartStyle, box: Box) -> str:
    """Funnels and pyramids."""
    n, parts, wide = look.rng.randint(3, 7), [], 1.0
    for i in range(n):
        narrow = wide * look.rng.uniform(0.6, 0.95)
        middle, y, h = box.x + box.w / 2, box.y + box.h * i / n, box.h / n - 2
        a, b = box.w * wide / 2, box.w * narrow / 2
        parts.append(
            path([(middle - a, y), (middle + a, y), (middle + b, y + h), (middle - b, y + h)], filled(look, i), True)
        )
        parts.append(text(look, middle, y + h / 2 + 4, look.words(1)))
        wide = narrow
    return "".join(parts)


Panel = Callable[[ChartStyle, Box], str]
PANELS: tuple[Panel, ...] = (
    lines,
    lines,
    lines,
    bars,
    bars,
    bars,
    histogram,
    slices,
    slices,
    scatter,
    scatter,
    spreads,
)
PANELS += (spreads, tiles, levels, radar, table, boxes, boxes, network, timeline, layers, rectangles, regions, funnel)
