"""``/releases`` and ``/evidence``: what is live, why, since when, by whom; and the measurements behind each reason."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import ClerestoryError, not_found
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.release import Policy, Reason, Release, Rule
from clerestory.core.stage import stages
from clerestory.report import format
from clerestory.report.model import Trust
from clerestory.report.trust import title, trust_of
from clerestory.stages.evaluate import EvaluateConfig
from clerestory.stages.evaluate.fingerprint import part_kind, part_subject
from clerestory.stages.evaluate.suite import Asked
from clerestory.stages.evaluate.suites import PARTS
from clerestory.stages.release.decision import outdated
from clerestory.store import JournalRecord, Store, alias_target
from clerestory.web import labels
from clerestory.web.freshness import freshness_of
from clerestory.web.interval_bar import IntervalBar, interval_bar
from clerestory.web.measurement_views import TrustView, questions, trust_in
from clerestory.web.state import ServerState, site
from clerestory.web.views import page

RECORDS = 60


@dataclass(frozen=True, slots=True)
class ReasonView:
    """One reason as the page shows it; rule and measurement are None where they cannot be had.

    ``doubt`` says why a rule does not hold although the measured value alone would do; ``trust`` whether the benchmark
    behind it can be believed, None where nobody judged it.
    """

    reason: Reason
    state: labels.State
    rule: Rule | None
    measured: Measurement | None
    asked: str
    doubt: str
    interval_bar: IntervalBar | None
    trust: TrustView | None


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """One release as the pages show it.

    Attributes:
        release: the release itself.
        state: its verdict.
        because: one sentence on why.
        reasons: one for each rule, those that do not hold first.
        aliases: the names that point at it now.
        lived: the journal's records of its becoming live, newest first.
    """

    release: Release
    state: labels.State
    because: str
    reasons: list[ReasonView]
    aliases: list[str]
    lived: list[JournalRecord]


async def releases(request: Request) -> Response:
    """``GET /releases``: the line's live release, its history and its journal."""
    here = site(request)
    name = request.query_params.get("name", here.name)
    return page(request, "releases.html", await asyncio.to_thread(_line, here, name))


async def release(request: Request) -> Response:
    """``GET /releases/{name}/{number}``: one decision, explained."""
    store = site(request).store
    name, number = request.path_params["name"], request.path_params["number"]

    def read() -> dict[str, object]:
        found = store.release(name, number)
        return {
            "view": _view(store, found),
            "fresh": freshness_of(site(request), found),
            "model": _model_facts(store, found),
            "parent": found.parent,
        }

    return page(request, "release.html", await asyncio.to_thread(read))


async def evidence(request: Request) -> Response:
    """``GET /evidence/{id}``: everything that was measured, and what it holds for."""
    here = site(request)
    asked = request.path_params["id"]
    return page(request, "evidence.html", await asyncio.to_thread(_evidence, here, asked))


async def evidence_json(request: Request) -> Response:
    """``GET /evidence/{id}.json``: its canonical bytes, whose SHA-256 is the id."""
    found = await asyncio.to_thread(site(request).store.evidence, request.path_params["id"])
    return Response(canonical(found), media_type="application/json")


def _line(here: ServerState, name: str) -> dict[str, object]:
    store = here.store
    found = store.releases(name)
    lines = sorted({each.name for each in store.releases()})
    if not found and lines:
        raise not_found("line of models", name, lines)
    live = store.alias(name, "live")
    records = store.journal.records(f"{name}@")
    return {
        "line": name,
        "lines": lines,
        "view": _view(store, store.release(name, live.number), records) if live else None,
        "fresh": freshness_of(here, store.release(name, live.number)) if live else None,
        "history": [(each, labels.VERDICTS_SHORT[each.decision.verdict], _aliases(store, each)) for each in found],
        "records": records[::-1][:RECORDS],
        "older": max(0, len(records) - RECORDS),
        "broken": store.journal.verify(),
    }


def _view(store: Store, found: Release, records: list[JournalRecord] | None = None) -> ReleaseView:
    if records is None:
        records = store.journal.records(f"{found.name}@")
    lived = [r for r in records if alias_target(r.event.details, "live") == found.number]
    rules = _rules(store, found)
    held: dict[str, Evidence | None] = {}
    reasons = [_reason(store, each, rules.get(each.rule), held) for each in found.decision.reasons]
    reasons.sort(key=lambda each: ("fail", "cannot_tell", "pass").index(each.reason.outcome))
    return ReleaseView(
        found,
        labels.VERDICTS[found.decision.verdict],
        _because(found),
        reasons,
        _aliases(store, found),
        lived[::-1],
    )


def _because(found: Release) -> str:
    reasons = found.decision.reasons
    total = len(reasons)
    failed = [r.rule for r in reasons if r.outcome == "fail"]
    unknown = [r.rule for r in reasons if r.outcome == "cannot_tell"]
    if not failed and not unknown:
        return "The one rule of the policy holds." if total == 1 else f"All {total} rules of the policy hold."
    said = []
    if failed:
        said.append(
            f"{len(failed)} of {total} rules {'does' if len(failed) == 1 else 'do'} not hold: {format.listing(failed)}"
        )
    if unknown:
        said.append(f"{len(unknown)} of {total} cannot be told: {format.listing(unknown)}")
    return format.sentence("; ".join(said))


def _rules(store: Store, found: Release) -> dict[str, Rule]:
    try:
        policy = decode(Policy, json.loads(store.blobs.get(found.decision.policy_digest)))
    except (ClerestoryError, ValueError):
        return {}  # the decision still says in words what was asked; `release verify` names the damage
    return {rule.name: rule for rule in policy.rules}


def _reason(store: Store, reason: Reason, rule: Rule | None, held: dict[str, Evidence | None]) -> ReasonView:
    if reason.evidence and reason.evidence not in held:
        try:
            held[reason.evidence] = store.evidence(reason.evidence)
        except ClerestoryError:
            held[reason.evidence] = None  # its own page says what is wrong with it
    behind = held.get(reason.evidence)
    measured = behind.find(rule.metric, rule.where) if behind and rule else None
    state = labels.OUTCOMES[reason.outcome]
    asked, doubt, bar, trust = "", "", None, None
    if rule and measured and not rule.relative:
        limit = rule.at_least if rule.at_least is not None else rule.at_most
        asked = (
            f"{'at least' if rule.at_least is not None else 'at most'} {labels.percent(limit or 0.0, measured.unit)}"
        )
        doubt = _doubt(reason, rule, measured)
        bar = interval_bar(measured, state.tone, limit)
    if behind and measured:
        trust = trust_in(measured, trust_of(behind, store))
    return ReasonView(reason, state, rule, measured, asked, doubt, bar, trust)


def _doubt(reason: Reason, rule: Rule, measured: Measurement) -> str:
    """Empty unless the value meets the bound and only its uncertainty does not."""
    if reason.outcome != "fail" or measured.interval is None:
        return ""
    if rule.at_least is not None and measured.value >= rule.at_least:
        return f"It may just have been lucky: the truth could be as low as {_said(measured.interval.low, measured)}."
    if rule.at_most is not None and measured.value <= rule.at_most:
        return f"It may just have been lucky: the truth could be as high as {_said(measured.interval.high, measured)}."
    return ""


def _said(value: float, measured: Measurement) -> str:
    return labels.percent(value, measured.unit)


def _aliases(store: Store, found: Release) -> list[str]:
    return [alias.alias for alias in store.aliases(found.name) if alias.number == found.number]


def _model_facts(store: Store, found: Release) -> list[tuple[str, str]]:
    facts = dict(found.notes)
    for each in store.find_evidence("train"):
        if found.model in {each.subject.model, *each.facts.values()}:
            facts |= {k: v for k, v in each.facts.items() if k in {"preset", "parameters", "steps", "image_size"}}
            break
    return [(format.slice_key(key), value) for key, value in facts.items()]


def _evidence(here: ServerState, asked: str) -> dict[str, object]:
    store = here.store
    found = store.evidence(asked)
    changed = _changed(store, found)
    known = {row.digest for row in store.datasets()} | ({here.data.digest} if here.data is not None else set())
    if found.subject.data and known and found.subject.data not in known:
        changed.insert(0, "data")
    on = next((row.name for row in store.datasets() if row.digest == found.subject.data), "")
    trust = trust_of(found, store)
    used = [each for each in store.releases() if found.id in each.evidence]
    return {
        "evidence": found,
        "questions": questions(found, trust),
        "doubted": _doubted(trust),
        "findings": [(each, labels.FINDINGS[each.state]) for each in found.findings],
        "state_": labels.STALE if changed else labels.FRESH,
        "changed": changed,
        "changed_words": [said for name, said, _ in labels.digests(found.subject) if name in changed],
        "digests": labels.digests(found.subject),
        "on": on,
        "used": used,
    }


def _changed(store: Store, found: Evidence) -> list[str]:
    """Which digests of the evidence are not those of today; a part of an examination depends on less code than all."""
    part = next((each for each in PARTS if part_kind(each) == found.kind), None)
    if part is None:
        return list(outdated(found)) if found.kind in stages() else []
    today = part_subject(part, Asked(found.subject.model, found.subject.data, EvaluateConfig(), store))
    # With what settings it was asked for is its own affair.
    return [name for name in found.subject.differs(today) if name != "config"]


def _doubted(trust: tuple[Trust, ...]) -> str:
    """One sentence about the benchmarks not to trust, empty where there is none."""
    names = [title(each) for each in trust if each.label == "no"]
    if not names:
        return ""
    return f"Do not trust {format.plural(len(names), 'benchmark')} on this page: {format.listing(names)}."
