"""``/evidence``: the measurements and findings of a piece of evidence, and what it is valid for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from clerestory.core.digest import canonical
from clerestory.core.evidence import Evidence
from clerestory.core.stage import stages
from clerestory.report import format
from clerestory.report.model import BenchmarkTrust
from clerestory.report.topics import topic_views
from clerestory.report.trust import short_title, trust_of
from clerestory.report.view import BenchmarkView, NumberView, TopicView
from clerestory.stages.evaluate import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationRequest
from clerestory.stages.evaluate.fingerprint import suite_kind, suite_subject
from clerestory.stages.evaluate.suites import SUITES
from clerestory.stages.release.decision import changed_digests
from clerestory.store import Store
from clerestory.web import labels
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

MAX_QUERY_LENGTH = 100


async def evidence_page(request: Request) -> Response:
    """``GET /evidence/{id}``: the measurements, the findings, and the digests the evidence is valid for.

    ``?q=`` shows only the measurements with all of these words in their names.
    """
    server = server_state(request)
    query = " ".join(request.query_params.get("q", "").split())[:MAX_QUERY_LENGTH]
    context = await asyncio.to_thread(_context, server, request.path_params["id"], query)
    return page(request, "evidence.html", context)


async def evidence_json(request: Request) -> Response:
    """``GET /evidence/{id}.json``: its canonical bytes, whose SHA-256 is the id."""
    evidence = await asyncio.to_thread(server_state(request).store.evidence, request.path_params["id"])
    return Response(canonical(evidence), media_type="application/json")


def matching(topics: Iterable[TopicView], query: str) -> list[TopicView]:
    """The measurements with all words of the query in the names of topic, benchmark, metric and slice.

    Upper and lower case are the same; an empty query keeps everything.
    """
    words = query.casefold().split()

    def matches(topic: TopicView, benchmark: BenchmarkView, number: NumberView) -> bool:
        names = (topic.title, benchmark.title, number.title, number.name, number.slice)
        text = " ".join(names).casefold()
        return all(word in text for word in words)

    found = []
    for topic in topics:
        kept = [
            replace(benchmark, numbers=numbers)
            for benchmark in topic.benchmarks
            if (numbers := tuple(number for number in benchmark.numbers if matches(topic, benchmark, number)))
        ]
        if kept:
            count = sum(len(benchmark.numbers) for benchmark in kept)
            found.append(replace(topic, benchmarks=tuple(kept), count=count))
    return found


def _context(server: ServerState, evidence_id: str, query: str) -> dict[str, object]:
    store = server.store
    evidence = store.evidence(evidence_id)
    changed = _changed(store, evidence)
    known = {row.digest for row in store.datasets()} | ({server.data.digest} if server.data is not None else set())
    if evidence.subject.data and known and evidence.subject.data not in known:
        changed.insert(0, "data")
    trust = trust_of(evidence, store)
    topics = matching(topic_views(evidence.measurements, trust), query)
    return {
        "evidence": evidence,
        "query": query,
        "topics": topics,
        "num_shown": sum(topic.count for topic in topics),
        "distrusted": _distrusted(trust),
        "findings": [(finding, labels.FINDINGS[finding.state]) for finding in evidence.findings],
        "label": labels.STALE if changed else labels.FRESH,
        "changed": changed,
        "changes": labels.changes(changed),
        "digests": labels.digests(evidence.subject),
        "dataset": next((row.name for row in store.datasets() if row.digest == evidence.subject.data), ""),
        "used_by": [release for release in store.releases() if evidence.id in release.evidence],
    }


def _changed(store: Store, evidence: Evidence) -> list[str]:
    """The digests of the evidence that differ from the current ones; a suite depends on less code than its stage."""
    suite = next((each for each in SUITES if suite_kind(each) == evidence.kind), None)
    if suite is None:
        return list(changed_digests(evidence)) if evidence.kind in stages() else []
    request = EvaluationRequest(evidence.subject.model, evidence.subject.data, EvaluateConfig(), store)
    # The settings were the choice of whoever ran it, so other ones do not make it stale.
    return [name for name in evidence.subject.differing_fields(suite_subject(suite, request)) if name != "config"]


def _distrusted(trust: tuple[BenchmarkTrust, ...]) -> str:
    """One sentence about the benchmarks that should not be trusted; empty if there are none."""
    names = [short_title(each) for each in trust if each.label == "no"]
    if not names:
        return ""
    return f"Do not trust {format.plural(len(names), 'benchmark')} on this page: {format.listing(names)}."
