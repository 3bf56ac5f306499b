"""Rollouts: a candidate answers a share of the requests of its model name, until it is promoted or taken back.

A rollout has a generation; a change states the one that it expects, and is one transaction with its journal record and
the alias ``candidate``. The functions take part in a write transaction of the caller.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import Connection, Row, select, update

from clerestory.core.codec import Tags, decode, encode
from clerestory.core.digest import canonical
from clerestory.core.errors import Conflict, InputError, NotFound
from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.core.settings import Range, check_settings
from clerestory.store import registry
from clerestory.store.journal import Journal
from clerestory.store.operations.release_notices import notify_release
from clerestory.store.operations.schema import rollout_evidence, rollout_subjects
from clerestory.store.operations.schema import rollouts as table
from clerestory.store.registry import NO_RELEASE, AliasMove
from clerestory.store.registry_check import move_details

CANDIDATE = "candidate"
SHADOW = "shadow"  # in place of a guardrail: the comparisons of a shadow rollout
DOUBT = math.log(10)  # the logarithm of the e-value from which no further step is taken
MAX_SHOWN = math.log(1e9)
STARTED, STEPPED, PAUSED, RESUMED, READIED = (
    "canary_started",
    "canary_step",
    "canary_paused",
    "canary_resumed",
    "canary_ready",
)
ABORTED, ROLLED_BACK = "canary_aborted", "canary_rolled_back"
Share = Annotated[float, Range(0, 1, exclusive_minimum=True, exclusive_maximum=True)]


class RolloutState(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"  # the share stays, the schedule stops; the guardrails go on
    READY = "ready"  # after the last step: somebody promotes it
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"  # by a guardrail
    ABORTED = "aborted"  # by a person, or because another release was made live


ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.READY)


class Guardrail(StrEnum):
    """What a candidate must not do more often than the stable release."""

    ERRORS = "errors"  # answers with a status of 500 or above
    LATENCY = "latency"  # answers later than the limit
    EMBEDDINGS = "embeddings"  # embeddings that are not finite, or of length zero
    FEEDBACK = "feedback"  # thumbs down
    QUALITY = "quality"  # answers that somebody marked as wrong


OF_REQUESTS = (Guardrail.ERRORS, Guardrail.LATENCY, Guardrail.EMBEDDINGS)


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a rollout proceeds.

    Attributes:
        steps: the shares of the requests that the candidate answers, one after the other, each below 1; promotion
            follows the last one. Empty for a shadow rollout.
        step_every_s: how long each step lasts at least.
        min_requests: how many requests of the candidate the guardrails must have counted in a step before the next.
        auto_promote: whether the servers promote the candidate after the last step; else a person does.
        shadow: whether the candidate only computes along, in spare capacity, and nobody receives its answers.
        keep_inputs: whether a shadow rollout keeps the inputs whose answers differ.
        new_space: whether indexes of embeddings from the API are made again, so that another embedding space is fine.
        alpha: the probability, for all guardrails together, of rolling back a candidate that is as good.
        max_latency_s: an answer later than this is late.
        error_tolerance, latency_tolerance, embedding_tolerance: by how much the candidate's rate may exceed the stable
            one.
        feedback_ratio, quality_ratio: how many times as often the candidate's answers may be rejected.
    """

    steps: tuple[Share, ...] = (0.05, 0.25)
    step_every_s: Annotated[float, Range(0)] = 1_800.0
    min_requests: Annotated[int, Range(1)] = 100
    auto_promote: bool = False
    shadow: bool = False
    keep_inputs: bool = False
    new_space: bool = False
    alpha: Annotated[float, Range(0, 0.5, exclusive_minimum=True)] = 0.01
    max_latency_s: Annotated[float, Range(0, exclusive_minimum=True)] = 2.0
    error_tolerance: Annotated[float, Range(0, 0.99)] = 0.005
    latency_tolerance: Annotated[float, Range(0, 0.99)] = 0.02
    embedding_tolerance: Annotated[float, Range(0, 0.99)] = 0.001
    feedback_ratio: Annotated[float, Range(1, 100)] = 1.25
    quality_ratio: Annotated[float, Range(1, 100)] = 1.25

    def __post_init__(self) -> None:
        check_settings(self)
        if bool(self.steps) == self.shadow:
            raise InputError(
                "a rollout has steps, or it is a shadow rollout without any", "give --steps, or --shadow alone"
            )
        if list(self.steps) != sorted(set(self.steps)):
            raise InputError("the steps of a rollout must rise", "for example --steps 5%,25%")

    @property
    def log_limit(self) -> float:
        """The logarithm of the e-value at which a guardrail rolls back: each has an equal share of ``alpha``."""
        return math.log(len(Guardrail) / self.alpha)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout of one release beside the live one.

    Attributes:
        id: unguessable; it also salts the split, so that each rollout has its own.
        name: the model name.
        stable, candidate: release numbers.
        state: running, paused, …
        weight: the share of the requests that the candidate answers; 0 in a shadow rollout and after the end.
        generation: raised with each change.
        started, updated: seconds since the epoch.
        plan: how it proceeds.
        step: the position of the current step.
        step_started: when it began, in seconds since the epoch.
        step_requests: how many requests of the candidate had been counted when it began.
        who, why: who started it, and why.
        reason: why it is in its state.
    """

    id: str
    name: str
    stable: int
    candidate: int
    state: RolloutState
    weight: float
    generation: int
    started: float
    updated: float
    plan: RolloutPlan
    step: int = 0
    step_started: float = 0.0
    step_requests: int = 0
    who: str = ""
    why: str = ""
    reason: str = ""

    @property
    def ref(self) -> str:
        """The candidate, such as ``icons@4``."""
        return f"{self.name}@{self.candidate}"

    @property
    def stable_ref(self) -> str:
        """The stable release, such as ``icons@3``."""
        return f"{self.name}@{self.stable}"

    @property
    def is_active(self) -> bool:
        """Whether the candidate receives requests, or copies of them."""
        return self.state in ACTIVE


def add_rollout(
    connection: Connection,
    journal: Journal,
    name: str,
    stable: int,
    candidate: int,
    plan: RolloutPlan,
    who: str,
    why: str,
    details: Tags,
) -> Rollout:
    """Begin a rollout, and point the alias ``candidate`` at its release.

    Raises:
        Conflict: another one of this model name is active.
    """
    running = active_rollout(connection, name)
    if running is not None:
        raise Conflict(
            f"a rollout of {running.ref} is {running.state.value} already",
            f"end it first: clerestory release canary abort {name} --why '...'",
        )
    at = time.time()
    weight = plan.steps[0] if plan.steps else 0.0
    new = Rollout(
        f"ro_{secrets.token_hex(12)}",
        name,
        stable,
        candidate,
        RolloutState.RUNNING,
        weight,
        1,
        at,
        at,
        plan,
        step_started=at,
        who=who,
        why=why,
    )
    connection.execute(table.insert().values(_row(new)))
    _record(connection, journal, new, STARTED, who, why, details, candidate)
    return new


def change_rollout(
    connection: Connection, journal: Journal, rollout: Rollout, kind: str, who: str, why: str, **changes: Any
) -> Rollout:
    """Change a rollout from the state that the caller has read.

    Args:
        connection: a write transaction.
        journal: receives the record.
        rollout: as it was read.
        kind: of the journal record.
        who: the author; ``clerestory`` for a server.
        why: the reason.
        changes: new values of attributes.

    Raises:
        Conflict: somebody else changed it first.
    """
    new = compare_and_swap(connection, rollout, reason=why, **changes)
    target = None if new.is_active else NO_RELEASE
    _record(connection, journal, new, kind, who, why, Tags(), target)
    return new


def compare_and_swap(connection: Connection, rollout: Rollout, **changes: Any) -> Rollout:
    """Replace the row of a rollout without a journal record; ended rollouts lose their subjects.

    Raises:
        Conflict: somebody else changed it first.
    """
    new = replace(rollout, generation=rollout.generation + 1, updated=time.time(), **changes)
    if not new.is_active:
        new = replace(new, weight=0.0)
        connection.execute(rollout_subjects.delete().where(rollout_subjects.c.rollout == rollout.id))
    expected = (table.c.id == rollout.id) & (table.c.generation == rollout.generation)
    if connection.execute(update(table).where(expected).values(_row(new))).rowcount != 1:
        raise Conflict(
            f"the rollout of {rollout.ref} was changed by somebody else", "look at it: clerestory release canary status"
        )
    return new


def close_rollout(connection: Connection, name: str, number: int) -> Tags:
    """End the rollout of a name in the transaction that makes release ``number`` live; details for its record."""
    rollout = active_rollout(connection, name)
    if rollout is None:
        return Tags()
    promoted = number == rollout.candidate
    state = RolloutState.PROMOTED if promoted else RolloutState.ABORTED
    reason = "it is live" if promoted else f"{name}@{number} was made live"
    compare_and_swap(connection, rollout, state=state, reason=reason)
    return Tags(rollout=rollout.id, rollout_state=state.value, **_move_candidate(connection, name, NO_RELEASE))


def active_rollout(connection: Connection, name: str) -> Rollout | None:
    """The rollout of a model name that has not ended; None if there is none."""
    states = [state.value for state in ACTIVE]
    query = select(table).where(table.c.name == name, table.c.state.in_(states))
    row = connection.execute(query.order_by(table.c.started.desc()).limit(1)).first()
    return _read(row) if row else None


def require_rollout(connection: Connection, name: str) -> Rollout:
    """The rollout of a model name that has not ended.

    Raises:
        NotFound: there is none.
    """
    rollout = active_rollout(connection, name)
    if rollout is None:
        raise NotFound(
            f"no rollout of {name} is active", f"start one: clerestory release canary start {name}@N --why '...'"
        )
    return rollout


def list_rollouts(connection: Connection, name: str = "", limit: int | None = None) -> list[Rollout]:
    """The rollouts of a model name, or of all, newest first."""
    query = select(table).order_by(table.c.started.desc()).limit(limit)
    return [_read(row) for row in connection.execute(query.where(table.c.name == name) if name else query)]


def one_rollout(connection: Connection, id: str) -> Rollout:
    """A rollout by its id.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(select(table).where(table.c.id == id)).first()
    if row is None:
        raise NotFound(f"there is no rollout {id}", "list them: clerestory release canary status")
    return _read(row)


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """How many requests of each arm a guardrail has counted, and how many of them were bad."""

    stable: int = 0
    stable_bad: int = 0
    candidate: int = 0
    candidate_bad: int = 0

    def plus(self, other: ArmCounts) -> ArmCounts:
        """The sum of two."""
        return ArmCounts(
            self.stable + other.stable,
            self.stable_bad + other.stable_bad,
            self.candidate + other.candidate,
            self.candidate_bad + other.candidate_bad,
        )


@dataclass(frozen=True, slots=True)
class GuardrailEvidence:
    """The evidence of all servers on one guardrail: the product of their e-values, and the sum of their counts."""

    guardrail: Guardrail
    log_e: float
    counts: ArmCounts


class StepOutcome(StrEnum):
    """What may happen to a rollout now."""

    WAIT = "wait"  # the step has not lasted long enough
    HOLD = "hold"  # there is not enough evidence, or it is doubtful
    ADVANCE = "advance"
    BREACH = "breach"


def judge_step(
    rollout: Rollout, evidence: Mapping[Guardrail, GuardrailEvidence], elapsed_s: float
) -> tuple[StepOutcome, str]:
    """What may happen to a rollout now, and why, in one sentence.

    Args:
        rollout: an active one.
        evidence: of all servers.
        elapsed_s: since the step began.
    """
    worst = max(evidence.values(), key=lambda each: each.log_e)
    if worst.log_e >= rollout.plan.log_limit:
        return StepOutcome.BREACH, _describe_breach(rollout, worst)
    if worst.log_e >= DOUBT:
        return StepOutcome.HOLD, f"{_describe_breach(rollout, worst)}, which is doubtful but does not prove it"
    counted = evidence[Guardrail.ERRORS].counts.candidate - rollout.step_requests
    needed = rollout.plan.min_requests
    if counted < needed:
        return StepOutcome.HOLD, f"{counted} of the {needed} requests that a step needs were counted"
    if elapsed_s < rollout.plan.step_every_s:
        return StepOutcome.WAIT, f"the next step is due in {rollout.plan.step_every_s - elapsed_s:.0f} s"
    return StepOutcome.ADVANCE, f"{counted} requests of the candidate were counted, and no guardrail objects"


def _describe_breach(rollout: Rollout, worst: GuardrailEvidence) -> str:
    counts = worst.counts
    e_value = f"{math.exp(worst.log_e):,.0f}" if worst.log_e < MAX_SHOWN else f"10^{worst.log_e / math.log(10):.0f}"
    return (
        f"guardrail {worst.guardrail.value}: {counts.candidate_bad} of {counts.candidate} of {rollout.ref}, "
        f"{counts.stable_bad} of {counts.stable} of {rollout.stable_ref} (e-value {e_value})"
    )


def write_evidence(
    connection: Connection, rollout: str, server: str, guardrail: Guardrail, log_e: float, body: dict[str, Any]
) -> None:
    """Replace the evidence of one server on one guardrail; ``body`` has its ``counts``."""
    key = {"rollout": rollout, "server": server, "guardrail": guardrail.value}
    values = {"log_e": log_e, "updated": time.time(), "body": canonical(body).decode()}
    chosen = [rollout_evidence.c[column] == value for column, value in key.items()]
    if not connection.execute(update(rollout_evidence).where(*chosen).values(values)).rowcount:
        connection.execute(rollout_evidence.insert().values(key | values))


def evidence_body(connection: Connection, rollout: str, server: str, guardrail: Guardrail) -> dict[str, Any]:
    """What ``write_evidence`` wrote last; empty if it did not yet."""
    key = {"rollout": rollout, "server": server, "guardrail": guardrail.value}
    chosen = [rollout_evidence.c[column] == value for column, value in key.items()]
    body = connection.execute(select(rollout_evidence.c.body).where(*chosen)).scalar()
    return dict(json.loads(body)) if body else {}


def read_evidence(connection: Connection, rollout: str) -> dict[Guardrail, GuardrailEvidence]:
    """The evidence on every guardrail of a rollout."""
    found = {each: GuardrailEvidence(each, 0.0, ArmCounts()) for each in Guardrail}
    of_guardrails = rollout_evidence.c.guardrail != SHADOW
    for row in connection.execute(select(rollout_evidence).where(rollout_evidence.c.rollout == rollout, of_guardrails)):
        before = found[Guardrail(row.guardrail)]
        counts = decode(ArmCounts, json.loads(row.body)["counts"])
        found[before.guardrail] = GuardrailEvidence(
            before.guardrail, before.log_e + row.log_e, before.counts.plus(counts)
        )
    return found


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What all servers have seen of a candidate that computes along.

    Attributes:
        compared, differing, failed: requests that it embedded too, that differ, and on which it failed.
        skipped: requests for which there was no spare capacity.
        examples: of those that differ: keyed hash of the input, cosine, and the text where it may be kept.
    """

    compared: int = 0
    differing: int = 0
    failed: int = 0
    skipped: int = 0
    examples: tuple[tuple[str, float, str], ...] = ()


def write_shadow(connection: Connection, rollout: str, server: str, body: dict[str, Any]) -> None:
    """Replace what one server has seen of a shadow rollout: the fields of ``ShadowCounts``."""
    key = {"rollout": rollout, "server": server, "guardrail": SHADOW}
    values = {"log_e": 0.0, "updated": time.time(), "body": canonical(body).decode()}
    chosen = [rollout_evidence.c[column] == value for column, value in key.items()]
    if not connection.execute(update(rollout_evidence).where(*chosen).values(values)).rowcount:
        connection.execute(rollout_evidence.insert().values(key | values))


def read_shadow(connection: Connection, rollout: str) -> ShadowCounts:
    """What all servers have seen of a shadow rollout."""
    totals = dict.fromkeys(("compared", "differing", "failed", "skipped"), 0)
    examples: list[tuple[str, float, str]] = []
    query = select(rollout_evidence.c.body).where(
        rollout_evidence.c.rollout == rollout, rollout_evidence.c.guardrail == SHADOW
    )
    for text in connection.execute(query).scalars():
        body = json.loads(text)
        totals = {name: count + body[name] for name, count in totals.items()}
        examples += [(each["input"], each["cosine"], each["text"]) for each in body["examples"]]
    return ShadowCounts(**totals, examples=tuple(sorted(examples, key=lambda each: each[1])))


def claim_subjects(connection: Connection, rollout: str, subjects: list[str]) -> set[str]:
    """Those of the subjects that no server has counted before; from here on they are."""
    known: set[str] = set()
    for start in range(0, len(subjects), 500):
        some = subjects[start : start + 500]
        query = select(rollout_subjects.c.subject).where(
            rollout_subjects.c.rollout == rollout, rollout_subjects.c.subject.in_(some)
        )
        known.update(connection.execute(query).scalars())
    new = set(subjects) - known
    if new:
        connection.execute(rollout_subjects.insert(), [{"rollout": rollout, "subject": each} for each in sorted(new)])
    return new


def _record(
    connection: Connection,
    journal: Journal,
    rollout: Rollout,
    kind: str,
    who: str,
    why: str,
    details: Tags,
    candidate: int | None,
) -> None:
    """Journal record and alias of a change."""
    facts = {
        "rollout": rollout.id,
        "stable": rollout.stable_ref,
        "weight": f"{rollout.weight:g}",
        "generation": str(rollout.generation),
    }
    if candidate is not None:
        facts |= _move_candidate(connection, rollout.name, candidate)
    event = Event(kind, rollout.ref, who, why, now(), Tags(details, **facts))
    journal.write(connection, event)
    notify_release(connection, event)


def _move_candidate(connection: Connection, name: str, number: int) -> dict[str, str]:
    moved = registry.move(connection, name, [AliasMove(CANDIDATE, number, None)])
    return move_details(moved[0])


def _row(rollout: Rollout) -> dict[str, Any]:
    columns = ("id", "name", "stable", "candidate", "weight", "generation", "started", "updated")
    values: dict[str, Any] = {column: getattr(rollout, column) for column in columns}
    return values | {"state": rollout.state.value, "body": canonical(encode(rollout)).decode()}


def _read(row: Row[Any]) -> Rollout:
    values = json.loads(row.body)
    values |= {"state": RolloutState(values["state"]), "plan": decode(RolloutPlan, values["plan"])}
    return Rollout(**values)
