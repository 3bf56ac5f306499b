"""A measurement drawn on a horizontal axis: its value, its confidence interval and the bound of its rule."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.evidence import Measurement
from clerestory.report import format
from clerestory.web import labels

LEFT, RIGHT = 6.0, 234.0


@dataclass(frozen=True, slots=True)
class IntervalBar:
    """Positions along an axis of 240 units; ``limit`` is None where there is no bound."""

    tone: str
    low: float
    point: float
    high: float
    limit: float | None = None
    limit_label_at: float = 0.0
    limit_label: str = ""


def interval_bar(measurement: Measurement, tone: str, limit: float | None = None) -> IntervalBar:
    """Place a measurement: a share on an axis from 0 to 1, any other unit from 0 to 1.15 times the largest value."""
    low, high = measurement.value, measurement.value
    if measurement.interval is not None:
        low, high = measurement.interval.low, measurement.interval.high
    top = 1.0 if measurement.unit == format.SHARE else 1.15 * max(high, measurement.value, limit or 0.0, 1e-9)

    def position(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, value / top)), 1)

    value_at = position(measurement.value)
    if limit is None:
        return IntervalBar(tone, position(low), value_at, position(high))
    limit_at, label = position(limit), f"required: {labels.percent(limit, measurement.unit)}"
    half_width = 3.0 * len(label)  # of the centred label, which must stay within the axis
    label_at = round(min(RIGHT - half_width, max(LEFT + half_width, limit_at)), 1)
    return IntervalBar(tone, position(low), value_at, position(high), limit_at, label_at, label)
