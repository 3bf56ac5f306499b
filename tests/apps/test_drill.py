"""A drill with a real server: half a minute, because the server loads a model."""

from __future__ import annotations

from clerestory.apps.drill import drill


def test_a_changed_alias_is_detected_and_nobody_gets_a_bad_answer() -> None:
    result = drill("changed-alias")
    assert result.detected
    assert result.bad_answers == 0
    assert result.failed == 0
