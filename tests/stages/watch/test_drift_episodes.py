"""A replay goes on after a shift: its end is found, and the next one; one that lasts is one alarm."""

from __future__ import annotations

import numpy as np
import pytest

from clerestory.stages.watch.drift.observations import ObservationTable
from clerestory.stages.watch.drift.replay import DriftReplay, replay_drift
from clerestory.stages.watch.drift.settings import DriftSettings

WINDOW = 16


def _replay(shifts: dict[tuple[int, int], tuple[int, float]], num_windows: int) -> DriftReplay:
    """Replay noise with shifts: of each its first window, the window after its last, its column and its size."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((num_windows * WINDOW, 8)).astype(np.float32)
    for (begin, end), (column, size) in shifts.items():
        rows[begin * WINDOW : end * WINDOW, column] += size
    known = rng.standard_normal((6_000, 8)).astype(np.float32)
    live = ObservationTable([str(i) for i in range(len(rows))], rows, name="live")
    reference = ObservationTable([str(i) for i in range(len(known))], known, name="reference")
    return replay_drift(live, reference, DriftSettings(window=WINDOW))


def test_two_shifts_are_two_alarms_with_their_beginnings_and_ends() -> None:
    result = _replay({(40, 80): (0, 1.5), (140, 200): (3, -1.5)}, 200)
    first, second = (result.episode_of(alarm) for alarm in result.alarms)
    assert first.alarm.began_window == pytest.approx(41, abs=3)
    assert first.until_window == pytest.approx(80, abs=3)
    assert second.alarm.began_window == pytest.approx(141, abs=3)
    assert second.until_window is None


@pytest.mark.parametrize("size", [0.6, 1.0, 3.0])
def test_a_shift_that_lasts_is_one_alarm(size: float) -> None:
    result = _replay({(40, 250): (0, size)}, 250)
    (alarm,) = result.alarms
    assert result.episode_of(alarm).until_window is None
