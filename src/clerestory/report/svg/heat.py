"""A heat map: shares as shaded cells with their numbers, a name in each row and a column for each expert."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from clerestory.report.svg.canvas import SvgCanvas, shorten
from clerestory.report.svg.charts import CHARACTER, GAP, LABEL, WIDTH

ROW, HEAD = 26.0, 24.0
MAX_OPACITY = 0.45  # at which numbers stay readable on a light and a dark background
MIN_CELL = 2.4 * CHARACTER  # width of a cell that has room for its number


def heat_map(
    name: str, title: str, desc: str, rows: Sequence[tuple[str, Sequence[float]]], columns: Sequence[str]
) -> Markup:
    """One row of cells for each label; darker is higher, and the number in a cell is its share of 100.

    Args:
        name: unique on the page.
        title: what it shows.
        desc: the same in words.
        rows: labels with one share (0 to 1) for each column; the last row is set off from the others.
        columns: their heads.
    """
    drawing = SvgCanvas(name, WIDTH, HEAD + len(rows) * ROW + 10, title, desc)
    labels = min(LABEL + GAP, max(len("expert"), *(len(label) for label, _ in rows)) * CHARACTER + GAP)
    start = labels + GAP
    letters = int((labels - GAP) / CHARACTER + 0.01)
    cell = (WIDTH - start) / max(1, len(columns))
    numbered = cell >= MIN_CELL
    drawing.text(labels + 4, HEAD - 8, "expert", "t soft scale", "end")
    for i, head in enumerate(columns):
        if numbered or i % 5 == 0:
            drawing.text(start + (i + 0.5) * cell, HEAD - 8, head, "t soft scale", "middle")
    top = max((share for _, shares in rows for share in shares), default=0.0) or 1.0
    for place, (label, shares) in enumerate(rows):
        y = HEAD + place * ROW + (6 if place == len(rows) - 1 else 0)
        drawing.text(labels + 4, y + ROW / 2 + 4.5, shorten(label, letters), "t", "end")
        for i, share in enumerate(shares):
            x = start + i * cell
            opacity = f"{MAX_OPACITY * share / top:.3f}"
            drawing.add("rect", class_="heat", x=x + 1, y=y + 1, width=cell - 2, height=ROW - 2, rx=3.0,
                        fill_opacity=opacity)  # fmt: skip
            if numbered:
                drawing.text(x + cell / 2, y + ROW / 2 + 4.5, f"{100 * share:.0f}", "t num", "middle")
    return drawing.render()
