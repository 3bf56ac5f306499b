"""The report card as a picture: a value of a group in each row, an expert in each column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from clerestory.models.moe.expert_report import ExpertCard

CELL_W, CELL_H, LABEL_W, HEAD_H = 46, 24, 150, 34
MOST_ROWS = 24
LETTERS = 20  # of a label
DARKEST = 0.5  # opacity at which the numbers stay readable on light and dark paper


def heat_map(card: ExpertCard, group: str, layer: str) -> str:
    """An ``<svg>`` element that stands alone and takes the colours of the page it is put into.

    Each cell says which share of the value's choices the expert got; the darker, the more. The last row is the load of
    all. Beyond 24 values the rarest are added up in one row.

    Raises:
        NotFound: there is no such group or layer.
    """
    table, names = _rows(card, group, layer)
    load = card.load[layer]
    shares = [_shares(row) for row in [*table, load]]
    labels = [*names, "all"]
    experts = len(load)
    width, height = LABEL_W + experts * CELL_W + 8, HEAD_H + len(labels) * CELL_H + 8
    top = max((float(share.max()) for share in shares), default=0.0) or 1.0
    parts = [_text(LABEL_W + e * CELL_W + CELL_W / 2, HEAD_H - 10, str(e + 1), "middle") for e in range(experts)]
    parts.append(_text(LABEL_W - 8, HEAD_H - 10, "expert", "end"))
    for row, (label, share) in enumerate(zip(labels, shares, strict=True)):
        y = HEAD_H + row * CELL_H + (4 if label == "all" and row == len(labels) - 1 else 0)
        parts.append(_text(LABEL_W - 8, y + 16, label if len(label) <= LETTERS else label[: LETTERS - 1] + "…", "end"))
        for e, value in enumerate(share.tolist()):
            x = LABEL_W + e * CELL_W
            parts.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{CELL_W - 2}" height="{CELL_H - 2}" rx="3" '
                f'fill="var(--sky, #2463a6)" fill-opacity="{DARKEST * value / top:.3f}"/>'
            )
            parts.append(_text(x + CELL_W / 2, y + 16, f"{100 * value:.0f} %", "middle"))
    title = f"Which experts of {layer} see which {group}"
    desc = _description(card, group, layer)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-size="12" '
        f'font-family="system-ui, sans-serif" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f"<desc>{escape(desc)}</desc>{''.join(parts)}</svg>"
    )


def heat_maps(card: ExpertCard, wanted: Sequence[tuple[str, str]]) -> str:
    """One ``<svg>`` file with a heat map below the other, each under its heading.

    Args:
        card: what is drawn.
        wanted: the group and layer of each map.
    """
    pieces, y, width = [], 0, 0
    for group, layer in wanted:
        picture = heat_map(card, group, layer)
        found = re.search(r'viewBox="0 0 (\d+) (\d+)"', picture)
        assert found is not None  # heat_map has written it
        pieces.append(_text(8, y + 20, f"{group} in {layer}", "start"))
        place = f'<svg x="0" y="{y + HEAD_H}" width="{found[1]}" height="{found[2]}" '
        pieces.append(picture.replace("<svg ", place, 1))
        y, width = y + HEAD_H + int(found[2]), max(width, int(found[1]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" font-size="12" '
        f'font-family="system-ui, sans-serif">{"".join(pieces)}</svg>'
    )


def _rows(card: ExpertCard, group: str, layer: str) -> tuple[list[np.ndarray], list[str]]:
    table, names = card.table(group, layer), list(card.values[group])
    order = np.argsort(-table.sum(axis=1), kind="stable")
    rows, labels = [table[i] for i in order], [names[i] for i in order]
    if len(rows) > MOST_ROWS:
        left = len(rows) - MOST_ROWS + 1
        rows = [*rows[: MOST_ROWS - 1], np.sum(rows[MOST_ROWS - 1 :], axis=0)]
        labels = [*labels[: MOST_ROWS - 1], f"{left} others"]
    return rows, labels


def _shares(row: np.ndarray) -> np.ndarray:
    return row / max(1, int(row.sum()))


def _description(card: ExpertCard, group: str, layer: str) -> str:
    dead = card.dead(layer)
    idle = f"experts without work: {', '.join(str(e + 1) for e in dead)}" if dead else "no expert without work"
    busiest = card.max_over_mean(layer)
    return (
        f"{int(card.load[layer].sum())} choices; the busiest expert has {busiest:.2f} times the mean; "
        f"{idle}; {group} and expert share {card.specialisation(group, layer):.2f} of their information (0 to 1)."
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="var(--ink, #1d2733)">{escape(words)}</text>'
