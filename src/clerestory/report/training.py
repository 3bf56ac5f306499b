"""The training log (JSON lines) as curves."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import TypeGuard

from clerestory.report.model import Series, Training

MOST_POINTS = 120
LOSSES = ("loss", "contrastive", "caption")


def read_log(content: bytes, early_step: int = 0) -> Training | None:
    """The curves of a training log; None when it holds no loss at all.

    Long curves are merged to at most ``MOST_POINTS`` points, each the mean of equally many neighbouring values.
    Lines that are not JSON objects with a step are counted, not guessed at.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    lines = unreadable = examined = 0
    for raw in content.splitlines():
        if not raw.strip():
            continue
        row = _row(raw)
        if row is None:
            unreadable += 1
            continue
        lines += 1
        step, values = row
        examined = int(values.pop("n", examined))
        for name, value in values.items():
            found.setdefault(name, []).append((step, value))
    if "loss" not in found:
        return None
    losses = tuple(_merged(name, found[name]) for name in LOSSES if name in found)
    validation = tuple(Series(name, _by_step(found[name]), n=examined) for name in _widest_first(found))
    return Training(losses, validation, lines, unreadable, early_step)


def _widest_first(found: Iterable[str]) -> list[str]:
    names = [name for name in found if name.startswith("val_")]
    return sorted(names, key=lambda name: -int(name.partition("@")[2]))


def _row(raw: bytes) -> tuple[int, dict[str, float]] | None:
    """The step and the wanted numbers of one line; None when it is not an object with a step."""
    try:
        row = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(row, dict) or not _is_number(row.get("step")):
        return None
    return int(row["step"]), {name: float(v) for name, v in row.items() if _wanted(name) and _is_number(v)}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wanted(name: str) -> bool:
    return name in LOSSES or name == "n" or bool(re.fullmatch(r"val_recall@\d+", name))


def _by_step(points: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """One value for each step, the last one logged: a resumed run may log a step again."""
    return tuple(sorted(dict(points).items()))


def _merged(name: str, points: list[tuple[int, float]]) -> Series:
    whole = _by_step(points)
    size = math.ceil(len(whole) / MOST_POINTS)
    if size <= 1:
        return Series(name, whole)
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    return Series(name, tuple((piece[-1][0], sum(v for _, v in piece) / len(piece)) for piece in pieces), size)
