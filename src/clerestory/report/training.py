"""The training log (JSON lines) as curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TypeGuard

from clerestory.report.model import LogSeries, TrainingLog
from clerestory.stats.metrics import metric

MAX_POINTS = 120
LOSSES = ("loss", "contrastive", "caption")
VALIDATION = "val_"
RECALL = "recall@{k}"


def read_log(content: bytes, early_step: int = 0) -> TrainingLog | None:
    """The curves of a training log; None when it contains no loss at all.

    Long curves are merged to at most ``MAX_POINTS`` points, each the mean of equally many neighbouring values.
    Lines that are not JSON objects with a step are counted, not guessed at.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    lines = unreadable = n = 0
    for raw in content.splitlines():
        if not raw.strip():
            continue
        row = _row(raw)
        if row is None:
            unreadable += 1
            continue
        lines += 1
        step, values = row
        n = int(values.pop("n", n))
        for name, value in values.items():
            found.setdefault(name, []).append((step, value))
    if "loss" not in found:
        return None
    losses = tuple(_merged(name, found[name]) for name in LOSSES if name in found)
    recalls = sorted((name for name in found if _k(name)), key=lambda name: -_k(name))
    validation = tuple(LogSeries(name, _by_step(found[name]), n=n) for name in recalls)
    return TrainingLog(losses, validation, lines, unreadable, early_step)


def _k(name: str) -> int:
    """The k of a key such as ``val_recall@10``; 0 for any other key."""
    known = metric(name.removeprefix(VALIDATION))
    return known.parameter or 0 if name != known.name and known.base == RECALL else 0


def _row(raw: bytes) -> tuple[int, dict[str, float]] | None:
    """The step and the wanted numbers of one line; None when it is not an object with a step."""
    try:
        row = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(row, dict) or not _is_number(row.get("step")):
        return None
    return int(row["step"]), {name: float(v) for name, v in row.items() if _is_wanted(name) and _is_number(v)}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_wanted(name: str) -> bool:
    return name in LOSSES or name == "n" or bool(_k(name))


def _by_step(points: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """One value for each step, the last one logged: a resumed run may log a step again."""
    return tuple(sorted(dict(points).items()))


def _merged(name: str, points: list[tuple[int, float]]) -> LogSeries:
    whole = _by_step(points)
    size = math.ceil(len(whole) / MAX_POINTS)
    if size <= 1:
        return LogSeries(name, whole)
    chunks = [whole[i : i + size] for i in range(0, len(whole), size)]
    return LogSeries(name, tuple((chunk[-1][0], sum(v for _, v in chunk) / len(chunk)) for chunk in chunks), size)
