"""The origin of one answer: which release computed it, what that was made from, who approved it, and what followed.

Everything is read from the store; gaps are listed as missing, with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, select

from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError
from clerestory.core.release import VERDICT_TEXTS, Release
from clerestory.core.units import duration, plural
from clerestory.report import format
from clerestory.report.approvals import approval_view, approvals_or_none
from clerestory.report.chapters.provenance import provenance_view
from clerestory.report.provenance import components_of, training_of
from clerestory.store import JournalRecord, Store, alias_target
from clerestory.store.operations.feedback import Feedback, latest, read_feedback
from clerestory.store.operations.prediction import Arm, Prediction
from clerestory.store.operations.predictions import find_prediction, predictions_of_request
from clerestory.store.operations.schema import incidents, rollout_evidence, rollouts

MAX_FEEDBACK = 20
MAX_INCIDENTS = 10
INCIDENT_MARGIN_S = 3_600.0  # before an incident was opened: the problem may have begun then


class OriginState(StrEnum):
    """Whether one item of a trace is known."""

    KNOWN = "known"
    NONE = "none"  # there is none, as is usual
    MISSING = "missing"  # it should be recorded, and is not


@dataclass(frozen=True, slots=True)
class OriginItem:
    """One question about an answer.

    Attributes:
        topic: a short key, such as ``gate``.
        title: the question, for people.
        state: whether it is known.
        answer: one or two sentences.
        link: the page that shows it; empty if there is none.
        lines: further facts, such as the reasons of a decision.
    """

    topic: str
    title: str
    state: OriginState
    answer: str
    link: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResponseOrigin:
    """Where one answer came from.

    Attributes:
        prediction: its record in the request log.
        headline: the answer to "what served this request?".
        items: question by question.
        others: ids of further responses to the same request.
    """

    prediction: Prediction
    headline: str
    items: tuple[OriginItem, ...]
    others: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[OriginItem, ...]:
        """What should be recorded, and is not."""
        return tuple(item for item in self.items if item.state is OriginState.MISSING)


def trace_response(store: Store, id: str) -> ResponseOrigin:
    """The origin of the answer to a request.

    Args:
        store: holds the request log and everything that led to the answer.
        id: of the request or of the response, or the beginning of one.

    Raises:
        NotFound: no request has this id.
        InputError: several begin with it.
    """
    store.database.ensure_operations()
    with store.database.reading() as connection:
        item = find_prediction(connection, id)
        others = [other.response for other in predictions_of_request(connection, item.request)]
        said = read_feedback(connection, [item.response])
        canary = _canary(connection, item)
        problems = _incidents(connection, item)
    release = None
    if item.number:
        with contextlib.suppress(ClerestoryError):
            release = store.release(item.name, item.number)
    served = f"{item.name}@{item.number}" if item.number else item.name
    headline = f"{served} answered on {when(item.at)}" + (", as the candidate of a rollout" if canary.lines else "")
    items = (
        _request(item),
        _model(store, item, release),
        *_origin(store, item),
        _evaluations(store, release, item),
        _gate(release, item),
        _approvals(store, release),
        _promotion(store, item, release),
        canary,
        _feedback(said),
        problems,
    )
    return ResponseOrigin(item, headline, items, tuple(other for other in others if other != item.response))


def when(at: float) -> str:
    """A time for people."""
    return format.when(iso(at))


def iso(at: float) -> str:
    """A time in seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _request(item: Prediction) -> OriginItem:
    sizes = [plural(item.inputs, "input")]
    if item.images:
        sizes.append(f"{plural(item.images, 'image')} with {item.pixels:,} pixels")
    if item.characters:
        sizes.append(plural(item.characters, "character"))
    outcome = "answered" if item.status < 400 else "refused"
    answer = f"A request for {item.kind} ({', '.join(sizes)}), {outcome} with status {item.status} in "
    answer += f"{duration(item.latency_s) if item.latency_s >= 1 else f'{1000 * item.latency_s:.0f} ms'}."
    lines = [f"response {item.response}", f"request {item.request}"]
    lines += [f"{name}: {value}" for name, value in item.facts.items()]
    lines.append("the user is known by a keyed hash only" if item.subject else "the request named no user")
    lines.append(f"API key {item.key}…" if item.key else "sent without an API key")
    if item.confidence is not None:
        lines.append(f"confidence {item.confidence:.2f}")
    if not item.finite:
        lines.append("an embedding was not finite or had length zero")
    lines.append("texts and images are not stored in the request log")
    return OriginItem("request", "The request", OriginState.KNOWN, answer, lines=tuple(lines))


def _model(store: Store, item: Prediction, release: Release | None) -> OriginItem:
    title = "Which model answered?"
    link = f"/releases/{quote(item.name)}/{item.number}" if release else ""
    lines = [f"SHA-256 {item.model}"]
    if release is None:
        answer = f"{item.name}, which is not a release of this store, so nobody decided about it here."
        state = OriginState.MISSING if item.number else OriginState.NONE
        if item.number:
            answer = f"{item.name}@{item.number}, whose record cannot be read from this store."
        return OriginItem("model", title, state, answer, link, tuple(lines))
    answer = f"{release.ref}, submitted by {release.who} on {format.when(release.when)}: “{release.why}”."
    if release.model != item.model:
        answer = f"{release.ref} is another model now: the request log has {short(item.model)}, the release "
        answer += f"{short(release.model)}. One of them was changed outside Clerestory."
        return OriginItem("model", title, OriginState.MISSING, answer, link, tuple(lines))
    try:
        store.model_files(release.model)
    except ClerestoryError:
        lines.append("its files are no longer in this store")
    return OriginItem("model", title, OriginState.KNOWN, answer, link, tuple(lines))


def _origin(store: Store, item: Prediction) -> list[OriginItem]:
    """The training run, and the data and models that it was made from."""
    components = components_of(store, item.model)
    view = provenance_view(components)
    is_known = any(part.role == "training data" for part in components)
    state = OriginState.KNOWN if is_known else OriginState.MISSING
    link = f"/releases/{quote(item.name)}/{item.number}" if item.number else ""
    named = [part for part in components if part.digest]
    lines = tuple(f"{part.role}: {short(part.digest)}" for part in named)
    answer = " ".join(view.lines)
    data = OriginItem("data", "What was it made from?", state, answer, link, lines)
    run = training_of(store, item.model)
    if run is None:
        answer = "No training of this model is recorded in this store: it was trained elsewhere."
        return [data, OriginItem("training", "Which training run?", OriginState.MISSING, answer)]
    facts = [f"{name}: {value}" for name, value in run.facts.items() if name in ("preset", "steps", "seed", "data")]
    answer = f"A run of {format.when(run.created)} that took {duration(run.cost.seconds)}."
    link = f"/evidence/{run.id}"
    return [data, OriginItem("training", "Which training run?", OriginState.KNOWN, answer, link, tuple(facts))]


def _evaluations(store: Store, release: Release | None, item: Prediction) -> OriginItem:
    title = "How was it evaluated?"
    ids = release.evidence if release else tuple(e.id for e in store.find_evidence("evaluate", model=item.model))
    lines, link, damaged = [], "", 0
    for each in ids:
        try:
            evidence = store.evidence(each)
        except ClerestoryError:
            damaged += 1
            continue
        link = link or f"/evidence/{evidence.id}"
        lines.append(
            f"{format.kind(evidence.kind)} of {format.when(evidence.created)}, "
            f"{plural(len(evidence.measurements), 'measurement')} ({short(evidence.id)})"
        )
    if damaged:
        lines.append(f"{plural(damaged, 'piece')} of evidence cannot be read")
    if not lines:
        answer = "The decision rests on no evidence." if release else "No evaluation of this model is recorded."
        return OriginItem("evaluation", title, OriginState.MISSING, answer)
    answer = f"{plural(len(ids), 'piece')} of evidence; each has its measurements with their intervals."
    return OriginItem(
        "evaluation", title, OriginState.MISSING if damaged else OriginState.KNOWN, answer, link, tuple(lines)
    )


def _gate(release: Release | None, item: Prediction) -> OriginItem:
    title = "What did the gate decide?"
    if release is None:
        answer = "The gate was never asked: this model was served without a release (serve --model)."
        return OriginItem("gate", title, OriginState.MISSING if item.number else OriginState.NONE, answer)
    decision = release.decision
    answer = f"“{VERDICT_TEXTS[decision.verdict]}”, by the policy {decision.policy} ({short(decision.policy_digest)})."
    lines = tuple(f"{reason.rule}: {format.outcome(reason.outcome)}. {reason.message}" for reason in decision.reasons)
    link = f"/releases/{quote(release.name)}/{release.number}"
    return OriginItem("gate", title, OriginState.KNOWN, answer, link, lines or ("the policy has no rule",))


def _approvals(store: Store, release: Release | None) -> OriginItem:
    title = "Who approved it?"
    if release is None:
        return OriginItem("approval", title, OriginState.NONE, "Nobody: only releases are approved.")
    view = approval_view(approvals_or_none(store, release))
    link = f"/releases/{quote(release.name)}/{release.number}"
    if view is None:
        answer = f"The approvals cannot be read; clerestory release verify {release.ref} says why."
        return OriginItem("approval", title, OriginState.MISSING, answer, link)
    lines = []
    for role, person in view.people:
        notes = [each for each in (person.when, f"“{person.why}”" if person.why else "", person.void) if each]
        lines.append(f"{role}: {person.who}" + (f" ({', '.join(notes)})" if notes else ""))
    state = {"no": OriginState.MISSING, "unsure": OriginState.MISSING, "plain": OriginState.NONE}.get(view.state)
    answer = " ".join(filter(None, (view.sentence, view.rule if view.is_required else "", view.notice)))
    return OriginItem("approval", title, state or OriginState.KNOWN, answer, link, tuple(lines))


def _promotion(store: Store, item: Prediction, release: Release | None) -> OriginItem:
    """Who made the release live before the request."""
    title = "Who put it in service, and when?"
    if release is None:
        answer = "It was named when the server was started; no promotion is recorded."
        return OriginItem("promotion", title, OriginState.NONE, answer)
    link = f"/releases?name={quote(item.name)}&journal=all"
    until, made = "", None
    for record in store.journal.records(f"{item.name}@"):
        target = alias_target(record.event.details, "live")
        if target is None:
            continue
        if _time(record) <= item.at + 1:  # the journal has whole seconds
            made, until = (record if target == item.number else None), ""
        elif not until:
            until = f"until {format.when(record.event.when)}"
    if made is None:
        if item.arm is Arm.STABLE:
            answer = f"At that time the journal does not have {release.ref} as live. The alias may have moved while "
            answer += "the request was answered: a request uses one release from its beginning to its end."
            return OriginItem("promotion", title, OriginState.MISSING, answer, link)
        answer = f"{release.ref} was not live: it answered as the {item.arm} of a rollout."
        return OriginItem("promotion", title, OriginState.NONE, answer, link)
    event = made.event
    answer = f"{event.who} {format.event(event.kind)} on {format.when(event.when)}: “{event.why}”."
    lines = (f"journal record {made.seq}", f"live {until}" if until else "it is live still")
    return OriginItem("promotion", title, OriginState.KNOWN, answer, link, lines)


def _canary(connection: Connection, item: Prediction) -> OriginItem:
    title = "Was it part of a rollout?"
    if not item.rollout:
        return OriginItem("rollout", title, OriginState.NONE, "No: no other version was being tried at that time.")
    row = connection.execute(select(rollouts).where(rollouts.c.id == item.rollout)).first()
    if row is None:
        answer = f"Yes, of {item.rollout}, which is not recorded in this store."
        return OriginItem("rollout", title, OriginState.MISSING, answer)
    lines = [f"this answer is of the arm {item.arm}, chosen with probability {item.propensity:.3g}"]
    query = select(rollout_evidence).where(rollout_evidence.c.rollout == item.rollout)
    total: dict[str, float] = {}
    for each in connection.execute(query):  # of several servers, whose evidence is multiplied
        total[each.guardrail] = total.get(each.guardrail, 0.0) + each.log_e
    lines += [f"guardrail {name}: log e = {value:.2f}" for name, value in sorted(total.items())]
    answer = f"Yes: {row.name}@{row.candidate} was tried beside {row.name}@{row.stable}; the rollout is {row.state} "
    answer += f"with {100 * row.weight:.0f} % of the requests for the candidate."
    return OriginItem("rollout", title, OriginState.KNOWN, answer, "", tuple(lines))


def _feedback(said: Sequence[Feedback]) -> OriginItem:
    title = "What did people say about it?"
    if not said:
        return OriginItem("feedback", title, OriginState.NONE, "Nobody has said anything about it.")
    lines = [feedback_words(each) for each in latest(said)[-MAX_FEEDBACK:]]
    answer = f"{plural(len(said), 'piece')} of feedback."
    return OriginItem("feedback", title, OriginState.KNOWN, answer, "/feedback", tuple(lines))


def feedback_words(said: Feedback) -> str:
    """One feedback in a line."""
    about = f" about {said.item}" if said.item else ""
    return f"“{said.value}” ({said.kind}){about}, from {said.source}, {when(said.at)}"


def _incidents(connection: Connection, item: Prediction) -> OriginItem:
    """The incidents of the model that were open when it answered, or soon after."""
    title = "Was there an incident?"
    query = (
        select(incidents)
        .where(incidents.c.name.in_([item.name, ""]), incidents.c.opened <= item.at + INCIDENT_MARGIN_S)
        .order_by(incidents.c.number.desc())
    )
    covering: list[Any] = []
    for row in connection.execute(query):
        is_over = row.state in ("resolved", "postmortem") and row.updated < item.at
        if not is_over:
            covering.append(row)
    if not covering:
        answer = "No: no incident of this model was open at that time."
        return OriginItem("incident", title, OriginState.NONE, answer, "/incidents")
    lines = [f"incident {r.number}: {r.severity}, {r.state}, opened {when(r.opened)}" for r in covering]
    answer = f"Yes: {plural(len(covering), 'incident')} of this model covers that time, or began within an hour of it."
    link = f"/incidents/{covering[0].number}"
    return OriginItem("incident", title, OriginState.KNOWN, answer, link, tuple(lines[:MAX_INCIDENTS]))


def _time(record: JournalRecord) -> float:
    return datetime.fromisoformat(record.event.when).timestamp()
