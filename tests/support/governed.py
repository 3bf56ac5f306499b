"""A store in which every question that a verifier asks has a good answer, so that each fault stands alone."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.support.release_life import BOUNDS, DATA, POLICY, Life

from clerestory.core.codec import Facts, Tags
from clerestory.core.evidence import Cost, Evidence, Finding, Interval, Measurement, Subject
from clerestory.core.provenance import environment_digest, now, stage_code
from clerestory.core.release import Release
from clerestory.stages.govern.context import GovernContext, SuiteEvidence
from clerestory.stages.release import promote, register, verify

# The rules of the included policy that need no groups, and a comparison that few concepts can decide.
RELATIVE = next(rule for rule in POLICY.rules if rule.is_relative and not rule.each_group)
RULES = replace(POLICY, rules=(*BOUNDS, replace(RELATIVE, no_worse_by=0.2)))
SUITES = ("retrieval", "corruption", "ood", "calibration", "fairness", "latency", "cost", "validity")


def measured(name: str = "recall@10", **where: str) -> Measurement:
    """A number."""
    return Measurement(name, 0.5, "share", 100, Interval(0.4, 0.6, "t"), slice=Tags(where))


def put(life: Life, kind: str, model: str = "", findings: tuple[Finding, ...] = (), **subject: str) -> Evidence:
    """Store current evidence of a kind with one number."""
    digests = {"data": DATA, "code": stage_code(kind.partition(".")[0]), "environment": environment_digest()}
    evidence = Evidence(
        kind=kind,
        subject=Subject(model=model, config="c" * 64, **(digests | subject)),
        measurements=(measured(),),
        findings=findings,
        cost=Cost(2.0, 2.0, 10.0),
        created=now(),
    )
    life.store.put_evidence(evidence)
    return evidence


def trained(life: Life, model: str) -> Evidence:
    """The training of a model on the data, which has one licence."""
    facts = Facts(data="icons", images=10, licences=("MIT",), licence_images=("10",))
    evidence = replace(put(life, "train", model), facts=facts)
    life.store.put_evidence(evidence)
    return evidence


def gated(life: Life, share: float = 0.7) -> Release:
    """A new model, evaluated and registered with a decision that needs no groups."""
    model = life.model()
    life.evaluated(model, share)
    return register("icons", life.decide(model, RULES), life.store, "Ada", "a test")


def governed(life: Life) -> tuple[GovernContext, Release]:
    """Two releases that passed the gate, the second one live, trained, audited, evaluated and self-tested."""
    first = gated(life)
    promote(first.ref, life.store, "Grace", "the first")
    second = gated(life, 0.72)
    promote(second.ref, life.store, "Grace", "better")
    model = second.model
    trained(life, model)
    put(life, "audit")
    _calibrated(life)
    put(life, "self_test", model)
    return context_of(life, second), second


def _calibrated(life: Life) -> None:
    evidence = put(life, "audit_calibration")
    life.store.put_evidence(replace(evidence, measurements=(measured("detector_recall", finding="CLR-A015"),)))


def context_of(life: Life, release: Release, state: str = "fresh", changed: tuple[str, ...] = ()) -> GovernContext:
    """The release with suites of this state and the checks of ``clerestory release verify``."""

    def suites() -> list[SuiteEvidence]:
        if state == "missing":
            return [SuiteEvidence(name, name, "missing") for name in SUITES]
        stored = [put(life, f"evaluate.{name}", release.model) for name in SUITES]
        return [
            SuiteEvidence(name, name, state, changed, evidence.id, evidence.created, 2.0)  # type: ignore[arg-type]
            for name, evidence in zip(SUITES, stored, strict=True)
        ]

    return GovernContext(
        life.store,
        release,
        verify_release=lambda: verify(release.ref, life.store),
        suite_evidence=suites,
        model_card=lambda: f"# {release.ref}",
        bill_of_materials=lambda: json.dumps(
            {"metadata": {"component": {"hashes": [{"alg": "SHA-256", "content": release.model}]}}, "components": [{}]}
        ).encode(),
    )
