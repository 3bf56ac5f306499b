"""Promotions, rollbacks and canaries are reported to the channels that want them, in the transaction of the change."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.receivers import web_receiver
from tests.support.rollouts import two_releases

from clerestory.core.errors import Conflict, SettingError
from clerestory.stages.release import promote, rollback
from clerestory.stages.release.promotion import change_canary, start_canary
from clerestory.stages.watch.incident_policy import IncidentPolicy
from clerestory.stages.watch.notify.config import NotifyChannel
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.stages.watch.notify.senders import headline, message
from clerestory.store import Store
from clerestory.store.operations.outbox import OutboxState, outbox_rows
from clerestory.store.operations.rollouts import RolloutPlan


def titles(store: Store) -> list[str]:
    with store.database.reading() as connection:
        return [str(row.payload["title"]) for row in outbox_rows(connection)]


def test_every_change_of_a_release_is_queued_with_its_reason(store: Store, tmp_path: Path) -> None:
    two_releases(store, tmp_path)
    start_canary("icons@2", store, RolloutPlan(steps=(0.5,)), "ada", "try it")
    change_canary("icons", store, "abort", "ada", "not today")
    promote("icons@2", store, "ada", "better captions")
    rollback("icons", store, "grace", "worse on maps")
    assert titles(store) == [
        "icons@1 was promoted by ada",
        "the rollout of icons@2 was started by ada",
        "the rollout of icons@2 was ended by ada",
        "icons@2 was promoted by ada",
        "icons@2 was rolled back by grace; icons@1 is live again",
    ]
    with store.database.reading() as connection:
        last = outbox_rows(connection)[-1].payload
    assert headline(last) == "[release] icons@2 was rolled back by grace; icons@1 is live again"
    assert "because    worse on maps" in message(last)


def test_a_promotion_that_fails_reports_nothing(store: Store, tmp_path: Path) -> None:
    two_releases(store, tmp_path)
    before = titles(store)
    with pytest.raises(Conflict):
        promote("icons@2", store, "ada", "too late", expected_generation=7)
    assert titles(store) == before


def test_channels_say_which_changes_they_want(store: Store, tmp_path: Path) -> None:
    two_releases(store, tmp_path)
    promote("icons@2", store, "ada", "better")
    rollback("icons", store, "grace", "worse")
    with web_receiver() as receiver:
        channels = (
            NotifyChannel("team", "webhook", receiver.url, releases=("rollback",), allow_private=True),
            NotifyChannel("on-call", "webhook", receiver.url, allow_private=True),
            NotifyChannel("other", "webhook", receiver.url, releases=("rollback",), models=("x",), allow_private=True),
        )
        assert Deliverer(store, channels, IncidentPolicy()).once() == (1, 0)
        (received,) = receiver.received
    sent = received.json
    assert (sent["event"], sent["kind"], sent["subject"], sent["why"]) == ("release", "rollback", "icons@1", "worse")
    with store.database.reading() as connection:
        assert outbox_rows(connection, OutboxState.WAITING) == []


def test_a_pager_takes_no_notice_of_releases() -> None:
    with pytest.raises(SettingError, match="is for incidents"):
        NotifyChannel("pager", "pagerduty", secret_env="KEY", releases=("rollback",))
