"""Splits the requests of one server between the live release and a candidate, and watches the candidate.

A request is assigned when it is admitted: by a hash of its subject, so that a person stays with one release, or at
random if it names nobody. A thread takes the outcomes to the database five times a second, multiplies the evidence of
all servers, and ends the rollout in the same transaction in which a guardrail reaches its limit. Until the other
servers read that, a fifth of a second later, they still send the candidate its share.

If the database cannot be written, the evidence of this server alone stops the candidate on this server.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError, Conflict
from clerestory.core.provenance import now
from clerestory.stats.sequential import RateExcess, event_weight
from clerestory.store import Store
from clerestory.store.operations import incidents, rollouts
from clerestory.store.operations.feedback import DOWN, WRONG, FeedbackKind
from clerestory.store.operations.prediction import Arm, Prediction
from clerestory.store.operations.predictions import prediction_of
from clerestory.store.operations.rollouts import (
    OF_REQUESTS,
    ArmCounts,
    Guardrail,
    Rollout,
    RolloutPlan,
    RolloutState,
    StepOutcome,
    judge_step,
)
from clerestory.store.operations.schema import feedback, predictions

LOG = logging.getLogger("clerestory.serve")
FLUSH_SECONDS = 0.2
MAX_PENDING = 200_000  # outcomes that wait for the database
MAX_ADMITTED = 100_000  # first requests of subjects that are not answered yet
MAX_SUBJECTS = 2_000_000  # of one rollout, that this server remembers; those beyond it are not counted
FEEDBACK_DELAY = 2.0  # seconds until the request log has the prediction that a feedback names
SERVER_OF_FEEDBACK = "feedback"  # its evidence belongs to no server
SYSTEM = "clerestory"


class Assignment(NamedTuple):
    """Who answers a request, and with which probability that was chosen; outside of a rollout, the live release."""

    arm: Arm = Arm.STABLE
    rollout: str = ""
    propensity: float = 1.0


class RequestOutcome(NamedTuple):
    """What the guardrails need of an answered request."""

    subject: str
    candidate: bool
    weight: float
    bad: tuple[bool, ...]  # for each of OF_REQUESTS


NO_ROLLOUT = Assignment()


@dataclass(slots=True)
class _Evidence:
    """The evidence of this server in one rollout, as a value: a transaction that fails leaves it as it was."""

    processes: dict[Guardrail, RateExcess] = field(default_factory=dict)
    counts: dict[Guardrail, ArmCounts] = field(default_factory=dict)

    @classmethod
    def for_plan(cls, plan: RolloutPlan) -> _Evidence:
        tolerances = (plan.error_tolerance, plan.latency_tolerance, plan.embedding_tolerance)
        processes = {each: RateExcess(tolerance) for each, tolerance in zip(OF_REQUESTS, tolerances, strict=True)}
        return cls(processes, {each: ArmCounts() for each in OF_REQUESTS})

    def with_outcomes(self, outcomes: Iterable[RequestOutcome]) -> _Evidence:
        new = _Evidence(
            {each: RateExcess(old.tolerance, old.log_stakes.copy()) for each, old in self.processes.items()},
            dict(self.counts),
        )
        outcomes = list(outcomes)
        if not outcomes:
            return new
        candidate = np.array([each.candidate for each in outcomes])
        weight = np.array([each.weight for each in outcomes])
        for position, guardrail in enumerate(OF_REQUESTS):
            bad = np.array([each.bad[position] for each in outcomes])
            new.processes[guardrail].add_all(bad, candidate, weight)
            counts = (~candidate, bad & ~candidate, candidate, bad & candidate)
            new.counts[guardrail] = new.counts[guardrail].plus(ArmCounts(*(int(each.sum()) for each in counts)))
        return new


class RolloutRouter:
    """Assigns requests to the arms of the active rollout of one model name; an observer of requests.

    Args:
        store: holds the rollout.
        name: the model name.
        server: the id of this server.
        promote: makes the candidate of a rollout live; called after the last step if its plan says so.
        is_loaded: whether this server has a release in memory, by its number.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        server: str,
        promote: Callable[[Rollout, str], object],
        is_loaded: Callable[[int], bool],
    ) -> None:
        self._store, self._name, self._server = store, name, server
        self._promote, self._is_loaded = promote, is_loaded
        self.rollout: Rollout | None = None
        self.problem = ""
        self._stopped = ""  # the rollout that this server has left on its own evidence
        self._finished = ""  # the rollout whose candidate this server has tried to promote
        self._evidence = _Evidence()
        self._pending: deque[RequestOutcome] = deque(maxlen=MAX_PENDING)
        self._admitted: OrderedDict[str, None] = OrderedDict()  # first requests of subjects, by response
        self._seen: set[str] = set()
        self._step_seen: tuple[int, float] = (0, 0.0)  # a step, and when it began by the monotonic clock
        self._feedback_position = -1
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)

    @property
    def candidate(self) -> int:
        """The number of the release that is rolled out; 0 if none is."""
        rollout = self.rollout
        return rollout.candidate if rollout is not None else 0

    def assign(self, subject: str, response: str) -> Assignment:
        """Choose who answers a request.

        Args:
            subject: the keyed hash of the caller's user id; empty if the request names nobody.
            response: the id of the response.
        """
        rollout = self.rollout
        if rollout is None or not rollout.weight or rollout.id == self._stopped:
            return NO_ROLLOUT
        if not self._is_loaded(rollout.candidate):
            return NO_ROLLOUT
        draw = position_of(rollout.id, subject) if subject else random.random()
        if not subject or (subject not in self._seen and len(self._seen) < MAX_SUBJECTS):
            if subject:
                self._seen.add(subject)
            self._admitted[response] = None
            if len(self._admitted) > MAX_ADMITTED:
                self._admitted.popitem(last=False)
        if draw < rollout.weight:
            return Assignment(Arm.CANDIDATE, rollout.id, rollout.weight)
        return Assignment(Arm.STABLE, rollout.id, 1 - rollout.weight)

    def observe(self, prediction: Prediction, embeddings: object = None, images: Sequence[bytes] = ()) -> None:
        """Take in the outcome of a request that was assigned; only the first one of a subject counts."""
        rollout = self.rollout
        if not prediction.rollout or self._admitted.pop(prediction.response, self) is self:
            return
        if rollout is None or rollout.id != prediction.rollout:
            return
        candidate = prediction.arm is Arm.CANDIDATE
        weight = prediction.propensity if candidate else 1 - prediction.propensity
        bad = (
            prediction.status >= 500,
            prediction.latency_s > rollout.plan.max_latency_s,
            not prediction.finite,
        )
        self._pending.append(RequestOutcome(prediction.subject, candidate, weight, bad))

    def start(self) -> None:
        """Begin to follow the rollouts of the model name."""
        self._thread.start()

    def close(self) -> None:
        """Write the evidence that is not written yet, and end."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self.step()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self.step()

    def step(self) -> None:
        """Read the rollout, write the evidence, and do what that calls for."""
        try:
            self.refresh()
            if self.rollout is not None:
                self._flush(self.rollout)
            if self.rollout is not None:
                self._finish(self.rollout)
            self.problem = ""
        except ClerestoryError as error:
            self.problem = error.message
        except Exception:  # requests are answered all the same
            LOG.exception("the rollout cannot be followed")
            self.problem = "the rollout cannot be followed; the server's log has the reason"

    def refresh(self) -> None:
        """Read the active rollout of the model name."""
        self._store.database.ensure_operations()
        with self._store.database.reading() as connection:
            rollout = rollouts.active_rollout(connection, self._name)
        self._take(rollout)

    def _take(self, rollout: Rollout | None) -> None:
        before = self.rollout
        if rollout is not None and (before is None or before.id != rollout.id):
            self._evidence = _Evidence.for_plan(rollout.plan)
            self._seen, self._feedback_position = set(), -1
            self._admitted.clear()
            self._pending.clear()
        if rollout is not None and (before is None or before.generation != rollout.generation):
            # From here on the monotonic clock counts, which does not jump.
            elapsed = min(max(time.time() - rollout.step_started, 0.0), rollout.plan.step_every_s)
            if self._step_seen[0] != rollout.generation:
                self._step_seen = (rollout.generation, time.monotonic() - elapsed)
        self.rollout = rollout if rollout is not None and rollout.is_active else None

    def _flush(self, rollout: Rollout) -> None:
        outcomes = [self._pending.popleft() for _ in range(len(self._pending))]
        if not outcomes and not self._is_due(rollout) and not self._has_feedback(rollout):
            return
        new = self._evidence
        try:
            with self._store.database.writing() as connection:
                current = rollouts.one_rollout(connection, rollout.id)
                if current.is_active:
                    new = self._evidence.with_outcomes(self._counted(connection, rollout, outcomes))
                    self._write(connection, rollout, new)
                    self._judge_feedback(connection, rollout)
                    current = self._judge(connection, current)
        except Conflict:
            self._pending.extendleft(reversed(outcomes))
            return
        except ClerestoryError:
            new = self._evidence.with_outcomes(outcomes)
            self._stop_alone(rollout, new)
            self._evidence = new
            raise
        self._evidence = new
        ended = rollout.generation != current.generation
        self._take(current)
        if ended:
            self._store.journal.checkpoint(now())

    def _finish(self, rollout: Rollout) -> None:
        """Promote a candidate after its last step if the plan says so; each server tries it once."""
        if rollout.state is RolloutState.READY and rollout.plan.auto_promote and rollout.id != self._finished:
            self._finished = rollout.id
            self._promote(rollout, rollout.reason)
            self.refresh()

    def _counted(
        self, connection: Connection, rollout: Rollout, outcomes: Sequence[RequestOutcome]
    ) -> list[RequestOutcome]:
        """Those whose subject no other server has counted."""
        subjects = [each.subject for each in outcomes if each.subject]
        mine = rollouts.claim_subjects(connection, rollout.id, subjects) if subjects else set()
        return [each for each in outcomes if not each.subject or each.subject in mine]

    def _write(self, connection: Connection, rollout: Rollout, evidence: _Evidence) -> None:
        for guardrail, process in evidence.processes.items():
            body = {"counts": evidence.counts[guardrail]}
            rollouts.write_evidence(connection, rollout.id, self._server, guardrail, process.log_e, body)

    def _judge(self, connection: Connection, rollout: Rollout) -> Rollout:
        """Roll back, or take the next step, in the transaction that wrote the evidence."""
        outcome, reason = judge_step(rollout, rollouts.read_evidence(connection, rollout.id), self._elapsed(rollout))
        if outcome is StepOutcome.BREACH:
            return self._roll_back(connection, rollout, reason)
        if outcome is not StepOutcome.ADVANCE or rollout.state is not RolloutState.RUNNING or not rollout.weight:
            return rollout
        journal = self._store.journal
        if rollout.step + 1 < len(rollout.plan.steps):
            counted = rollouts.read_evidence(connection, rollout.id)[Guardrail.ERRORS].counts.candidate
            return rollouts.change_rollout(
                connection,
                journal,
                rollout,
                rollouts.STEPPED,
                SYSTEM,
                reason,
                step=rollout.step + 1,
                weight=rollout.plan.steps[rollout.step + 1],
                step_started=time.time(),
                step_requests=counted,
            )
        return rollouts.change_rollout(
            connection, journal, rollout, rollouts.READIED, SYSTEM, reason, state=RolloutState.READY
        )

    def _roll_back(self, connection: Connection, rollout: Rollout, reason: str) -> Rollout:
        """End a rollout; the incident is mitigated at once, since the stable release answers everything again."""
        ended = rollouts.change_rollout(
            connection,
            self._store.journal,
            rollout,
            rollouts.ROLLED_BACK,
            SYSTEM,
            reason,
            state=RolloutState.ROLLED_BACK,
        )
        alert = incidents.Alert(
            incidents.AlertKind.ROLLOUT,
            f"the candidate {rollout.ref} was rolled back: {reason}",
            name=rollout.name,
            subject=rollout.ref,
            details=Tags(rollout=rollout.id, stable=rollout.stable_ref),
            begun=rollout.started,
        )
        opened = incidents.open_or_update(self._store, alert, connection)
        why = f"{rollout.stable_ref} answers every request again"
        if opened.state is incidents.IncidentState.OPEN:
            incidents.transition(
                self._store,
                opened.number,
                incidents.IncidentState.MITIGATED,
                who=SYSTEM,
                why=why,
                connection=connection,
            )
        LOG.warning("rollout of %s: %s", rollout.ref, reason)
        return ended

    def _stop_alone(self, rollout: Rollout, evidence: _Evidence) -> None:
        """Send the candidate nothing more from this server, if its own evidence is enough."""
        if max(each.log_e for each in evidence.processes.values()) >= rollout.plan.log_limit:
            self._stopped = rollout.id

    def _elapsed(self, rollout: Rollout) -> float:
        generation, began = self._step_seen
        return time.monotonic() - began if generation == rollout.generation else 0.0

    def _is_due(self, rollout: Rollout) -> bool:
        return (
            rollout.state is RolloutState.RUNNING
            and bool(rollout.weight)
            and self._elapsed(rollout) >= rollout.plan.step_every_s
        )

    def _has_feedback(self, rollout: Rollout) -> bool:
        with self._store.database.reading() as connection:
            query = select(feedback.c.position).where(
                feedback.c.position > self._feedback_position, feedback.c.received < time.time() - FEEDBACK_DELAY
            )
            return connection.execute(query.limit(1)).first() is not None

    def _judge_feedback(self, connection: Connection, rollout: Rollout) -> None:
        """Take in new feedback on the requests of a rollout; one server does it for all, once.

        Only what people reject is seen, so the test is one of events: of the rejections, the candidate's share is at
        most what its share of the requests and the allowed ratio give. Each subject rejects once.
        """
        body = rollouts.evidence_body(connection, rollout.id, SERVER_OF_FEEDBACK, Guardrail.FEEDBACK)
        last = int(body.get("position", 0))
        query = (
            select(feedback, predictions.c.body.label("prediction"))
            .join(predictions, predictions.c.response == feedback.c.response)
            .where(
                feedback.c.position > last,
                feedback.c.received < time.time() - FEEDBACK_DELAY,
                predictions.c.rollout == rollout.id,
            )
            .order_by(feedback.c.position)
            .limit(2_000)
        )
        rows = connection.execute(query).all()
        newest = connection.execute(
            select(feedback.c.position)
            .where(feedback.c.received < time.time() - FEEDBACK_DELAY)
            .order_by(feedback.c.position.desc())
            .limit(1)
        ).scalar()
        self._feedback_position = rows[-1].position if len(rows) == 2_000 else int(newest or 0)
        if not rows:
            return
        ratios = {
            Guardrail.FEEDBACK: rollout.plan.feedback_ratio,
            Guardrail.QUALITY: rollout.plan.quality_ratio,
        }
        for guardrail, ratio in ratios.items():
            self._judge_rejections(connection, rollout, guardrail, ratio, rows)

    def _judge_rejections(
        self, connection: Connection, rollout: Rollout, guardrail: Guardrail, ratio: float, rows: Sequence[object]
    ) -> None:
        body = rollouts.evidence_body(connection, rollout.id, SERVER_OF_FEEDBACK, guardrail)
        counts = ArmCounts(**body.get("counts", {}))
        rejecting = set(body.get("rejecting", ()))
        process = RateExcess(0.0)
        process.log_stakes += body.get("stakes", 0.0)
        for row in rows:
            prediction = prediction_of(row.prediction)  # type: ignore[attr-defined]  # of the query
            says = _rejects(guardrail, row.kind, row.value, prediction)  # type: ignore[attr-defined]
            if says is None:
                continue
            candidate = prediction.arm is Arm.CANDIDATE
            counts = counts.plus(_one(candidate, says))
            who = prediction.subject or prediction.response
            if says and who not in rejecting:
                rejecting.add(who)
                weight = prediction.propensity if candidate else 1 - prediction.propensity
                process.add(True, candidate, event_weight(weight, ratio))
        rollouts.write_evidence(
            connection,
            rollout.id,
            SERVER_OF_FEEDBACK,
            guardrail,
            process.log_e,
            {
                "counts": counts,
                "position": self._feedback_position,
                "rejecting": sorted(rejecting),
                "stakes": process.log_stakes.tolist(),
            },
        )


def position_of(rollout: str, subject: str) -> float:
    """The place of a subject in the split, from 0 to below 1; the candidate answers those below its share."""
    hashed = hashlib.blake2b(subject.encode(), key=rollout.encode()[:64], digest_size=8).digest()
    return int.from_bytes(hashed, "big") / 2**64


def _one(candidate: bool, bad: bool) -> ArmCounts:
    return ArmCounts(not candidate, bad and not candidate, candidate, bad and candidate)


def _rejects(guardrail: Guardrail, kind: str, value: str, prediction: Prediction) -> bool | None:
    """Whether a feedback rejects an answer; None if it says nothing about this guardrail."""
    if guardrail is Guardrail.FEEDBACK:
        return value == DOWN if kind == FeedbackKind.THUMBS else None
    if kind == FeedbackKind.VERDICT:
        return value == WRONG
    if kind == FeedbackKind.LABEL and prediction.label and value:
        return value.casefold() != prediction.label.casefold()
    return None
