"""How many false alarms a person accepts, as what a detector may spend on a window; see ``clerestory.stats.drift``.

Spending goes by the clock: a year without drift spends the budget of a year, whether it has a hundred windows or a
million. What several detectors spend adds up, so each gets a share.
"""

from __future__ import annotations

import math

YEAR_S = 365.25 * 86_400
MIN_WINDOWS_PER_ALARM = 1_000  # with little traffic a year has few windows, and a budget of one alarm a year is loose


def window_spend(max_false_alarms_per_year: float, elapsed_s: float, share: float = 1.0) -> float:
    """What a detector may spend on a window that took a time to fill.

    It never spends more than one false alarm in ``MIN_WINDOWS_PER_ALARM`` windows: after a silence of months one window
    must not use up the budget of these months.

    Args:
        max_false_alarms_per_year: the budget of all detectors together.
        elapsed_s: the time from the end of the previous window to the end of this one.
        share: of this detector; the shares of all detectors add up to 1.
    """
    by_clock = max_false_alarms_per_year * max(elapsed_s, 0.0) / YEAR_S
    return share * max(min(by_clock, 1 / MIN_WINDOWS_PER_ALARM), 1e-12)


def min_windows(spend: float) -> int:
    """The smallest number of windows after which an alarm is possible.

    A window at most doubles the evidence, and the first one only shows a direction.
    """
    windows, evidence = 1, spend
    while evidence < 1:
        windows, evidence = windows + 1, 2 * (evidence + spend)
    return windows


def share_of(num_detectors: int) -> float:
    """The share of each detector when all are equal (Bonferroni)."""
    return 1 / max(1, num_detectors)


def per_day(count: int, seconds: float) -> float:
    """A rate per day; NaN if no time has passed."""
    return count * 86_400 / seconds if seconds > 0 else math.nan
