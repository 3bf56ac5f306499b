"""A server that is killed under load loses nothing that it acknowledged.

It starts a server three times, which takes most of its time; ``bench/operations_feedback.py`` does it 200 times.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.feedback_under_kill import Acknowledged, compare_reviews, compare_with_disk, kill_under_load
from tests.support.released_store import released_store

from clerestory.store import open_store


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with open_store(home) as store:
        released_store(store, tmp_path, count=1)
    acknowledged = Acknowledged()
    for attempt, kill_after_s in enumerate((0.2, 0.5, 0.9)):
        kill_under_load(home, acknowledged, kill_after_s, attempt)
        compare_with_disk(home, acknowledged)
    compare_reviews(home, acknowledged)
    assert acknowledged.lost == []
    assert len(acknowledged.feedback) > 3
    assert len(acknowledged.journal) > 3
