"""A candidate beside the live release: split, guardrails, steps, several servers, a database that cannot be written."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from tests.support.released_store import add_release
from tests.support.rollouts import router_of, send, two_releases

from clerestory.core.errors import Conflict, InputError, NotFound, NotWritable, Refused
from clerestory.stages.release import promote
from clerestory.stages.release.promotion import change_canary, promote_canary, start_canary
from clerestory.stages.serve.rollout_router import NO_ROLLOUT, RequestOutcome, position_of
from clerestory.store import Store
from clerestory.store.operations import incidents
from clerestory.store.operations.feedback import Feedback, FeedbackKind, add_feedback, check_feedback
from clerestory.store.operations.prediction import Arm, Prediction
from clerestory.store.operations.predictions import add_predictions, row_of
from clerestory.store.operations.rollouts import (
    Guardrail,
    Rollout,
    RolloutPlan,
    RolloutState,
    active_rollout,
    list_rollouts,
    read_evidence,
)

QUICK = RolloutPlan(steps=(0.2, 0.5), step_every_s=0.0, min_requests=20)


def bad_candidate(arm: Arm) -> float:
    return 0.9 if arm is Arm.CANDIDATE else 0.01


def good(_: Arm) -> float:
    return 0.01


def current(store: Store) -> Rollout:
    with store.database.reading() as connection:
        return list_rollouts(connection, "icons")[0]


@pytest.fixture
def started(store: Store, tmp_path: Path) -> Store:
    two_releases(store, tmp_path)
    start_canary("icons@2", store, QUICK, "ada", "try it")
    return store


def test_a_start_is_recorded_and_the_alias_points_at_the_candidate(started: Store) -> None:
    alias = started.alias("icons", "candidate")
    assert alias is not None
    assert alias.number == 2
    record = started.journal.records("icons@", limit=1)[0].event
    assert (record.kind, record.subject, record.details["weight"]) == ("canary_started", "icons@2", "0.2")
    assert started.verify_registry("icons") == []
    assert started.journal.verify() == []


def test_what_cannot_begin(started: Store) -> None:
    with pytest.raises(Conflict, match="running already"):
        start_canary("icons@2", started, QUICK, "ada", "again")
    with pytest.raises(InputError, match="live already"):
        start_canary("icons@1", started, QUICK, "ada", "again")
    with pytest.raises(InputError, match="needs a reason"):
        start_canary("icons@2", started, QUICK, "ada", " ")
    with pytest.raises(NotFound, match="no rollout of photos"):
        change_canary("photos", started, "pause", "ada", "stop")


def test_a_refused_release_is_no_candidate(store: Store, tmp_path: Path) -> None:
    two_releases(store, tmp_path)
    add_release(store, tmp_path / "icons2", verdict="refuse")
    with pytest.raises(Refused, match="cannot be promoted"):
        start_canary("icons@3", store, QUICK, "ada", "try it")


def test_a_worse_candidate_is_rolled_back_and_an_incident_is_mitigated(started: Store) -> None:
    router = router_of(started)
    send(router, 400, bad_candidate)
    router.step()
    assert router.rollout is None
    assert router.assign("", "resp") == NO_ROLLOUT
    ended = current(started)
    assert (ended.state, ended.weight) == (RolloutState.ROLLED_BACK, 0.0)
    assert "guardrail errors" in ended.reason
    assert started.alias("icons", "candidate") is None
    live = started.alias("icons", "live")
    assert live is not None
    assert live.number == 1
    opened = incidents.incidents(started)[0]
    assert (opened.kind.value, opened.state.value) == ("rollout", "mitigated")
    assert started.verify_registry("icons") + started.journal.verify() == []
    with started.database.reading() as connection:
        assert active_rollout(connection, "icons") is None


def test_without_data_nothing_proceeds(started: Store) -> None:
    router = router_of(started)
    send(router, 30, good)
    for _ in range(3):
        router.step()
    assert (current(started).step, current(started).weight) == (0, 0.2)
    with pytest.raises(Refused, match="so no guardrail could object"):
        promote_canary("icons", started, "ada", "impatient")
    assert promote_canary("icons", started, "ada", "impatient", without_evidence=True).number == 2


def test_steps_and_the_end_need_a_person_unless_the_plan_says_otherwise(started: Store) -> None:
    router = router_of(started)
    for seed in range(3):
        send(router, 200, good, seed)
        router.step()
    ready = current(started)
    assert (ready.state, ready.step, ready.weight) == (RolloutState.READY, 1, 0.5)
    assert router.assign("", "resp").rollout == ready.id  # it goes on until somebody decides
    alias = promote_canary("icons", started, "ada", "good")
    assert (alias.alias, alias.number) == ("live", 2)
    ended = current(started)
    assert ended.state is RolloutState.PROMOTED
    record = started.journal.records("icons@", limit=1)[0].event
    assert (record.kind, record.details["rollout"], record.details["to.candidate"]) == ("promoted", ended.id, "0")
    assert started.verify_registry("icons") == []


def test_a_plan_may_promote_by_itself(store: Store, tmp_path: Path) -> None:
    two_releases(store, tmp_path)
    plan = RolloutPlan(steps=(0.5,), step_every_s=0.0, min_requests=20, auto_promote=True)
    start_canary("icons@2", store, plan, "ada", "try it")
    router = router_of(store)
    send(router, 100, good)
    router.step()
    live = store.alias("icons", "live")
    assert live is not None
    assert live.number == 2
    assert router.rollout is None


def test_another_promotion_ends_a_rollout(started: Store, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("3", encoding="utf-8")
    add_release(started, other)
    promote("icons@3", started, "ada", "urgent")
    assert current(started).state is RolloutState.ABORTED
    assert current(started).reason == "icons@3 was made live"


def test_people_pause_resume_and_abort(started: Store) -> None:
    router = router_of(started)
    change_canary("icons", started, "pause", "ada", "lunch")
    with pytest.raises(InputError, match="is paused"):
        change_canary("icons", started, "pause", "ada", "lunch")
    router.refresh()
    send(router, 300, good)
    router.step()
    assert current(started).step == 0  # no step while it is paused
    change_canary("icons", started, "resume", "ada", "back")
    router.step()
    send(router, 5, good)
    router.step()
    assert current(started).step == 1
    change_canary("icons", started, "abort", "ada", "enough")
    router.step()
    assert router.assign("", "resp") == NO_ROLLOUT
    kinds = [record.event.kind for record in started.journal.records("icons@", limit=5)]
    assert kinds[-1] == "canary_aborted"


def test_a_subject_stays_with_one_release_and_counts_once(started: Store) -> None:
    router = router_of(started)
    arms = {who: {router.assign(who, f"{who}{i}").arm for i in range(5)} for who in map(str, range(200))}
    assert all(len(each) == 1 for each in arms.values())
    share = Counter(next(iter(each)) for each in arms.values())[Arm.CANDIDATE] / 200
    assert 0.1 < share < 0.3
    assert position_of("ro_1", "ada") != position_of("ro_2", "ada")
    send(router, 300, good, subject=lambda rng: f"s{rng.randrange(10)}")
    router.step()
    with started.database.reading() as connection:
        counts = read_evidence(connection, current(started).id)[Guardrail.ERRORS].counts
    assert counts.stable + counts.candidate == 10


def test_two_servers_multiply_their_evidence_and_count_a_subject_once(started: Store) -> None:
    first, second = router_of(started, "a"), router_of(started, "b")
    for router in (first, second):
        send(router, 50, good, subject=lambda rng: f"s{rng.randrange(10)}")
        router.step()
    with started.database.reading() as connection:
        counts = read_evidence(connection, current(started).id)[Guardrail.ERRORS].counts
    assert counts.stable + counts.candidate == 10
    worse = {Arm.CANDIDATE: 1.0, Arm.STABLE: 0.0}
    sent = 0
    while current(started).is_active:
        for router in (first, second):
            send(router, 5, lambda arm: worse[arm], seed=sent)
            router.step()
            sent += 5
    assert sent < 150
    second.step()
    first.step()
    assert first.rollout is second.rollout is None


def test_a_candidate_that_is_not_in_memory_receives_nothing(started: Store) -> None:
    router = router_of(started)
    router._is_loaded = lambda number: False
    assert {router.assign("", str(i)) for i in range(50)} == {NO_ROLLOUT}


def test_rejections_by_people_roll_back(started: Store) -> None:
    router = router_of(started)
    kept: list[Prediction] = []
    send(router, 400, lambda _: 0.0, kept=kept)
    rejected = [
        Feedback(each.response, FeedbackKind.THUMBS, "down" if each.arm is Arm.CANDIDATE else "up", at=1.0)
        for each in kept
    ]
    with started.database.writing() as connection:
        add_predictions(connection, [row_of(each) for each in kept])
        add_feedback(connection, [check_feedback(each) for each in rejected], time.time() - 60)
    router.step()
    ended = current(started)
    assert ended.state is RolloutState.ROLLED_BACK
    assert "guardrail feedback" in ended.reason


def test_where_nothing_can_be_written_the_own_evidence_stops_the_candidate(
    started: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = router_of(started)
    send(router, 400, bad_candidate)

    def full(*_: object) -> None:
        raise NotWritable("the disk is full", "free space")

    monkeypatch.setattr("clerestory.store.operations.rollouts.one_rollout", full)
    router.step()
    assert router.problem == "the disk is full"
    assert router.assign("", "resp") == NO_ROLLOUT
    monkeypatch.undo()
    router._pending.append(
        RequestOutcome("", False, 0.2, (False, False, False))
    )  # a request that was answered meanwhile
    router.step()
    assert current(started).state is RolloutState.ROLLED_BACK


@pytest.mark.parametrize(
    "settings",
    [{"steps": ()}, {"steps": (0.5, 0.2)}, {"steps": (1.0,)}, {"steps": (0.1,), "shadow": True}, {"alpha": 0.0}],
)
def test_plans_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        RolloutPlan(**settings)  # type: ignore[arg-type]
