"""``/releases``: the live release, the reasons for it, what it was made from and what changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from clerestory.core.codec import decode
from clerestory.core.errors import ClerestoryError, not_found
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.provenance import stage_code
from clerestory.core.release import Policy, Reason, Release, Rule
from clerestory.core.stage import stages
from clerestory.report import format
from clerestory.report.approvals import approval_view, approvals_or_none
from clerestory.report.chapters import baseline_table
from clerestory.report.chapters.provenance import provenance_view
from clerestory.report.collect import collect
from clerestory.report.headline import reason_views
from clerestory.report.model import EVALUATION, ComparedRelease, EvidenceRecord, ReportData
from clerestory.report.page import build
from clerestory.report.provenance import components_of
from clerestory.report.render import render_html
from clerestory.report.trust import trust_of
from clerestory.report.view import ApprovalView, ProvenanceView, ReasonView
from clerestory.stages.evaluate.fingerprint import suite_code
from clerestory.stages.evaluate.suites import SUITES
from clerestory.store import JournalRecord, Store, alias_target, live_events
from clerestory.store.approvals import DECLINED
from clerestory.web import labels
from clerestory.web.freshness import freshness_of
from clerestory.web.interval_bar import IntervalBar, interval_bar
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

MAX_RECORDS = 60
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
MODEL_FACTS = ("preset", "parameters", "steps", "image_size")


@dataclass(frozen=True, slots=True)
class RuleView:
    """The outcome of one rule of a decision.

    Attributes:
        view: the outcome as reports show it.
        label: the outcome for people.
        required: the bound of the rule, such as "at least 50 %"; empty for a relative rule or without a measurement.
        doubt: why the rule failed although the value alone meets the bound; empty otherwise.
        bar: the measurement and its bound as a drawing; None where ``required`` is empty.
    """

    view: ReasonView
    label: labels.StateLabel
    required: str = ""
    doubt: str = ""
    bar: IntervalBar | None = None


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """One release.

    Attributes:
        release: the release itself.
        label: its verdict for people, or that it was declined.
        summary: who declined it, and one sentence on the verdict.
        rules: one for each rule, failed ones first.
        aliases: the aliases that point to it now.
        promotions: the journal records of its promotions, newest first.
        approval: where its approval stands; None if it cannot be read.
    """

    release: Release
    label: labels.StateLabel
    summary: str
    rules: list[RuleView]
    aliases: list[str]
    promotions: list[JournalRecord]
    approval: ApprovalView | None


def prepare() -> None:
    """Compute what every visit needs and does not change: the digests of the code. Takes about a second, once."""
    for suite in SUITES:
        suite_code(suite)
    for kind in stages():
        stage_code(kind)


async def releases_page(request: Request) -> Response:
    """``GET /releases``: the live release of a model name, its history and its journal."""
    server = server_state(request)
    name = request.query_params.get("name", "")
    whole = request.query_params.get("journal") == "all"
    return page(request, "releases.html", await asyncio.to_thread(_releases_context, server, name, whole))


async def release_page(request: Request) -> Response:
    """``GET /releases/{name}/{number}``: one decision, explained."""
    server = server_state(request)
    name, number = request.path_params["name"], request.path_params["number"]
    against = request.query_params.get("against", "")

    def read() -> dict[str, object]:
        release = server.store.release(name, number)
        return {
            "view": _release_view(server.store, release),
            "provenance": _provenance(server, release),
            "fresh": freshness_of(server, release),
            "model_facts": _model_facts(server.store, release),
            "parent": release.parent,
            "policy": _policy(server.store, release),
            "others": [other for other in server.store.releases(name) if other.number != number],
            **_difference(server.store, release, against),
        }

    return page(request, "release.html", await asyncio.to_thread(read))


async def report_page(request: Request) -> Response:
    """``GET /releases/{name}/{number}/report``: the whole report, a page that loads nothing."""
    server = server_state(request)
    ref = f"{request.path_params['name']}@{request.path_params['number']}"

    def made() -> str:
        return render_html(build(collect(server.store, ref, server.data)))

    content = await asyncio.to_thread(server.reports.get, server.store, ref, made)
    return HTMLResponse(content, headers={"content-security-policy": REPORT_POLICY})


def _releases_context(server: ServerState, name: str, whole_journal: bool) -> dict[str, object]:
    store = server.store
    names = sorted({release.name for release in store.releases()})
    if name and name not in names:
        raise not_found("model name", name, names)
    if not name:  # the served model need not be a release, so its name may have none
        name = server.name if server.name in names or not names else names[0]
    history = store.releases(name)
    alias = store.alias(name, "live")
    live = store.release(name, alias.number) if alias else None
    records = store.journal.records(f"{name}@")
    # All records, of any name: the chain has no gap that a reader would have to trust.
    journal = store.journal.records()[::-1]
    made_live = live_events(journal[::-1])
    asked = {record.event.subject for record in records if record.event.kind == DECLINED}
    served = server.follower.current
    same = _release_of(store, served.model.digest) if served is not None and served.release is None else None
    return {
        "shown_name": name,
        "names": names,
        "view": _release_view(store, live, records) if live else None,
        "provenance": _provenance(server, live) if live else None,
        "fresh": freshness_of(server, live) if live else None,
        "same_model": same,
        "same_is_live": same is not None and "live" in _aliases(store, same),
        "history": [
            (
                release,
                _history_label(store, release, release.ref in asked),
                _aliases(store, release),
                made_live.get(release.ref),
            )
            for release in history
        ],
        "records": journal if whole_journal else journal[:MAX_RECORDS],
        "num_older": 0 if whole_journal else max(0, len(journal) - MAX_RECORDS),
        "journal_errors": store.journal.verify(),
    }


def _release_of(store: Store, digest: str) -> Release | None:
    """A release of exactly this model, a live one first, then the newest; None if there is none."""
    same = [release for release in store.releases() if release.model == digest]
    return max(same, key=lambda each: ("live" in _aliases(store, each), each.when), default=None)


def _history_label(store: Store, release: Release, was_declined: bool) -> labels.StateLabel:
    approval = approvals_or_none(store, release) if was_declined else None
    if approval is not None and approval.declined is not None:  # a later request takes the refusal back
        return labels.DECLINED
    return labels.VERDICTS_SHORT[release.decision.verdict]


def _release_view(store: Store, release: Release, records: list[JournalRecord] | None = None) -> ReleaseView:
    if records is None:
        records = store.journal.records(f"{release.name}@")
    promotions = [record for record in records if alias_target(record.event.details, "live") == release.number]
    policy = _policy(store, release)
    evidence = _evidence_of(store, release)
    trust = [label for each in evidence.values() for label in trust_of(each, store)]
    bounds = {rule.name: rule for rule in policy.rules if not rule.is_relative} if policy else {}
    approval = approval_view(approvals_or_none(store, release))
    declined = approval.declined if approval else ""
    label, summary = labels.VERDICTS[release.decision.verdict], _summary(release)
    if declined:  # what a person said last is read first; the verdict of the gate stays beside it
        label, summary = labels.DECLINED, f"{declined} The verdict of the gate stays “{label.text}”. {summary}"
    views = reason_views(release.decision, policy, evidence, trust)
    rules = [_rule_view(view, bounds.get(view.reason.rule)) for view in views]
    return ReleaseView(
        release,
        label,
        summary,
        rules,
        _aliases(store, release),
        promotions[::-1],
        approval,
    )


def _difference(store: Store, release: Release, against: str) -> dict[str, object]:
    """The measurements of another release beside those of this one; nothing where no other is named.

    Raises:
        NotFound: the other release is unknown.
    """
    if not against:
        return {"other": None, "difference": None}
    if not (against.isascii() and against.isdigit() and len(against) < 10):
        raise not_found("release", against, [r.ref for r in store.releases(release.name)])
    other = store.release(release.name, int(against))
    known = ReportData(
        ref=release.ref,
        model=release.model,
        release=release,
        aliases=tuple(store.aliases(release.name)),
        evidence=_evaluation_of(store, release),
        compared=ComparedRelease(other, _evaluation_of(store, other)),
    )
    return {"other": other, "difference": baseline_table.chapter(known)}


def _evaluation_of(store: Store, release: Release) -> tuple[EvidenceRecord, ...]:
    found = []
    for evidence_id in release.evidence:
        with contextlib.suppress(ClerestoryError):
            found.append(store.evidence(evidence_id))
    own = [e for e in found if e.kind == EVALUATION and e.subject.model == release.model]
    return tuple(EvidenceRecord(e, e.id) for e in sorted(own, key=lambda e: e.created))


def _provenance(server: ServerState, release: Release) -> ProvenanceView:
    return provenance_view(components_of(server.store, release.model, server.data))


def _summary(release: Release) -> str:
    reasons = release.decision.reasons
    total = len(reasons)
    failed = [reason.rule for reason in reasons if reason.outcome == "fail"]
    undecided = [reason.rule for reason in reasons if reason.outcome == "cannot_decide"]
    if not failed and not undecided:
        return "The one rule of the policy passed." if total == 1 else f"All {total} rules of the policy passed."
    sentences = []
    if failed:
        sentences.append(f"{len(failed)} of {total} rules failed: {format.listing(failed)}")
    if undecided:
        sentences.append(f"{len(undecided)} of {total} cannot be decided yet: {format.listing(undecided)}")
    return format.sentence("; ".join(sentences))


def _policy(store: Store, release: Release) -> Policy | None:
    """The policy of the decision; None if it cannot be read, which `release verify` reports."""
    try:
        return decode(Policy, json.loads(store.blobs.get(release.decision.policy_digest)))
    except (ClerestoryError, ValueError):
        return None


def _evidence_of(store: Store, release: Release) -> dict[str, Evidence]:
    """The readable evidence of the decision by id; the page of an unreadable one shows the problem."""
    readable = {}
    for evidence_id in dict.fromkeys(reason.evidence for reason in release.decision.reasons if reason.evidence):
        with contextlib.suppress(ClerestoryError):
            readable[evidence_id] = store.evidence(evidence_id)
    return readable


def _rule_view(view: ReasonView, rule: Rule | None) -> RuleView:
    label, measurement = labels.OUTCOMES[view.reason.outcome], view.measurement
    if rule is None or measurement is None:
        return RuleView(view, label)
    bound = rule.at_least if rule.at_least is not None else rule.at_most
    direction = "at least" if rule.at_least is not None else "at most"
    return RuleView(
        view,
        label,
        required=f"{direction} {labels.percent(bound or 0.0, measurement.unit)}",
        doubt=_doubt(view.reason, rule, measurement),
        bar=interval_bar(measurement, label.tone, bound),
    )


def _doubt(reason: Reason, rule: Rule, measurement: Measurement) -> str:
    """One sentence if the value meets the bound and only its uncertainty does not; empty otherwise."""
    interval = measurement.interval
    if reason.outcome != "fail" or interval is None:
        return ""
    if rule.at_least is not None and measurement.value >= rule.at_least:
        bound, worst = "low", interval.low
    elif rule.at_most is not None and measurement.value <= rule.at_most:
        bound, worst = "high", interval.high
    else:
        return ""
    return f"This may be luck: the true value could be as {bound} as {labels.percent(worst, measurement.unit)}."


def _aliases(store: Store, release: Release) -> list[str]:
    return [alias.alias for alias in store.aliases(release.name) if alias.number == release.number]


def _model_facts(store: Store, release: Release) -> list[tuple[str, str]]:
    facts: dict[str, object] = dict(release.notes)
    for evidence in store.find_evidence("train"):
        if release.model in {evidence.subject.model, *evidence.facts.values()}:
            facts |= {name: value for name, value in evidence.facts.items() if name in MODEL_FACTS}
            break
    return [(format.slice_key(name), labels.fact_text(value)) for name, value in facts.items()]
