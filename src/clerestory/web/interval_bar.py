"""A measurement on a line: where its interval lies, and where the bound is that it must meet."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.evidence import Measurement
from clerestory.report import format
from clerestory.web import labels

LEFT, RIGHT = 6.0, 234.0


@dataclass(frozen=True, slots=True)
class Gauge:
    """Places along a line of 240 units; ``limit`` is None where there is no bound."""

    tone: str
    low: float
    point: float
    high: float
    limit: float | None = None
    limit_text: float = 0.0
    limit_words: str = ""


def gauge(measured: Measurement, tone: str, limit: float | None = None) -> Gauge:
    """Place a measurement: a share between 0 and 1, anything else between 0 and a little more than the largest."""
    low, high = measured.value, measured.value
    if measured.interval is not None:
        low, high = measured.interval.low, measured.interval.high
    top = 1.0 if measured.unit == format.SHARE else 1.15 * max(high, measured.value, limit or 0.0, 1e-9)

    def place(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, value / top)), 1)

    if limit is None:
        return Gauge(tone, place(low), place(measured.value), place(high))
    at, said = place(limit), f"asked: {labels.percent(limit, measured.unit)}"
    return Gauge(tone, place(low), place(measured.value), place(high), at, min(200.0, max(40.0, at)), said)
