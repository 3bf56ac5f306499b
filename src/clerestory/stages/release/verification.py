"""Verification of a release: every digest is checked, and every number and decision computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clerestory.core.codec import decode
from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError, IntegrityError, NotFound
from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.core.findings import FindingCode
from clerestory.core.release import Outcome, Policy, Reason, Release, Rule
from clerestory.core.stage import stage, stages
from clerestory.core.units import plural
from clerestory.stages.release.decision import changed_digests, describe_changes
from clerestory.stages.release.findings import DECISION_MISMATCH, NUMBER_MISMATCH, STALE, TEXT_TOWER_MISMATCH
from clerestory.stages.release.promotion import LIVE
from clerestory.stages.release.relative import ComparedModel, check_relative
from clerestory.stages.release.rules import check_bound, overall_verdict
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store
from clerestory.store.findings import DAMAGED, JOURNAL_BROKEN

TOLERANCE = 1e-9  # maths libraries differ in the last bits from machine to machine


def verify(ref: str, store: Store) -> list[Finding]:
    """Check everything that a release, or a model, depends on.

    Checked are every file of the model, its text tower, every file of its evidence (JSON, rows, artifacts), the tables
    against the journal, the journal's chain against its signed checkpoints, and every page of the database. Every
    number is computed again from the rows, and the decision from the policy and the evidence.

    Returns:
        One finding for each check: state ``pass``, ``fail`` (names the file), ``warn`` (stale), ``not_applicable`` or
        ``not_run``. The release is verified if none is ``fail``.

    Raises:
        NotFound: the name is unknown.
    """
    resolved = store.resolve(ref)
    release = resolved.release
    ids = release.evidence if release else _evidence_of(resolved.digest, store)
    findings = _check_model(resolved.digest, store)
    intact: dict[str, Evidence] = {}
    for each in ids:
        problems = store.verify_evidence(each)
        if problems:
            findings += problems
            continue
        evidence = intact[each] = store.evidence(each)
        count = 1 + bool(evidence.rows) + len(evidence.artifacts)
        findings.append(
            _passed(DAMAGED, _name(evidence), plural(count, "file matches its digest", "files match their digests"))
        )
        findings += _check_numbers(evidence, store)
        findings += _check_freshness(evidence)
    if release is not None:
        findings += _check_decision(release, intact, store)
        registry = store.verify_registry(release.name)
        findings += registry or [_passed(DAMAGED, release.name, "releases and aliases agree with the journal")]
    return findings + _check_journal(store)


def _evidence_of(model: str, store: Store) -> list[str]:
    return [evidence.id for kind in stages() for evidence in store.find_evidence(kind, model=model)]


def _name(evidence: Evidence) -> str:
    return f"{evidence.kind} evidence {short(evidence.id)}"


def _check_model(model: str, store: Store) -> list[Finding]:
    problems = store.verify_model(model)
    if problems:
        return problems
    count = len(store.model_files(model))
    message = f"{plural(count, 'file matches', 'files match')} the digest, and there is no other file"
    return [_passed(DAMAGED, f"model {short(model)}", message), *_check_text_tower(store.model_folder(model))]


def _check_text_tower(folder: Path) -> list[Finding]:
    """Whether this machine has the text tower that a model's ``config.json`` names, if it names one."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    expected_digest = config.get("text_tower_digest") if isinstance(config, dict) else None
    if not isinstance(expected_digest, str):
        return []
    from clerestory.models.text_tower_files import find_text_tower

    try:
        location = find_text_tower(expected_digest)
    except NotFound as error:
        return [
            TEXT_TOWER_MISMATCH.finding("text tower", error.message, fix=error.fix, state="not_run", severity="info")
        ]
    except IntegrityError as error:
        return [TEXT_TOWER_MISMATCH.finding("text tower", error.message, fix=error.fix)]
    message = f"the weights in {location} are those that the model names, {short(expected_digest)}"
    return [_passed(TEXT_TOWER_MISMATCH, "text tower", message)]


def _check_numbers(evidence: Evidence, store: Store) -> list[Finding]:
    """Every measurement with a recipe, computed again from the rows."""
    where = _name(evidence)
    reproducible = [measured for measured in evidence.measurements if measured.recipe is not None]
    others = len(evidence.measurements) - len(reproducible)
    findings: list[Finding] = []
    if others:
        message = f"{others} numbers are taken as they are: they are not computed from rows"
        findings.append(
            NUMBER_MISMATCH.finding(where, message, fix="", state="not_applicable", severity="info", count=others)
        )
    if not reproducible:
        return findings
    try:
        rows = read_rows(store.blobs.get(evidence.rows))
    except ClerestoryError as error:
        return [*findings, NUMBER_MISMATCH.finding(where, f"the rows cannot be read: {error.message}")]
    differing = [f for measured in reproducible if (f := _check_number(rows, measured, where)) is not None]
    num_rows = len(next(iter(rows.values()), ()))
    message = f"{plural(len(reproducible), 'number is', 'numbers are')} reproduced from {plural(num_rows, 'row')}"
    return findings + (differing or [_passed(NUMBER_MISMATCH, where, message)])


def _check_number(rows: Mapping[str, NDArray[Any]], claimed: Measurement, where: str) -> Finding | None:
    try:
        recomputed = recompute(rows, claimed)
    except ClerestoryError as error:
        message = f"{claimed.key} cannot be computed again: {error.message}"
        return NUMBER_MISMATCH.finding(where, message, measurement=claimed.key)
    if _is_equal(claimed, recomputed):
        return None
    rows_give = f"{recomputed.value:g} (n = {recomputed.n})"
    message = f"{claimed.key} is {claimed.value:g} (n = {claimed.n}), but the rows give {rows_give}"
    return NUMBER_MISMATCH.finding(
        where, message, measurement=claimed.key, claimed=claimed.value, recomputed=recomputed.value
    )


def _is_equal(claimed: Measurement, recomputed: Measurement) -> bool:
    def ends(measured: Measurement) -> list[float]:
        return [measured.interval.low, measured.interval.high] if measured.interval else []

    exact = (claimed.n, claimed.clusters, claimed.no_interval) == (
        recomputed.n,
        recomputed.clusters,
        recomputed.no_interval,
    )
    pairs = zip([claimed.value, *ends(claimed)], [recomputed.value, *ends(recomputed)], strict=False)
    return exact and all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in pairs)


def _check_freshness(evidence: Evidence) -> list[Finding]:
    if evidence.kind not in stages() or not (changed := changed_digests(evidence)):
        return []
    message = f"was produced {describe_changes(changed)}: it was valid then, and the gate now requires new evidence"
    fix = stage(evidence.kind).command.format(
        model=short(evidence.subject.model), reference=short(evidence.facts.text("model_b")), data=""
    )
    return [STALE.finding(_name(evidence), message, fix=fix, changed=changed)]


def _check_decision(release: Release, intact: Mapping[str, Evidence], store: Store) -> list[Finding]:
    """The decision again, from the stored policy and the undamaged evidence."""
    decision = release.decision
    problems = store.blobs.verify(decision.policy_digest, f"the policy {decision.policy}")
    if problems:
        return problems
    policy = decode(Policy, json.loads(store.blobs.get(decision.policy_digest)))
    where = f"decision of {release.ref}"
    if decision.model != release.model:
        message = f"the decision is about the model {short(decision.model)}, not {short(release.model)}"
        return [DECISION_MISMATCH.finding(where, message)]
    if [rule.name for rule in policy.rules] != [reason.rule for reason in decision.reasons]:
        return [
            DECISION_MISMATCH.finding(
                where, f"its reasons are not those of the {plural(len(policy.rules), 'rule')} of its policy"
            )
        ]
    if len(intact) < len(release.evidence):
        message = "it cannot be derived again while its evidence is damaged"
        return [
            DECISION_MISMATCH.finding(
                where, message, fix="restore the evidence first", state="not_run", severity="info"
            )
        ]
    findings, outcomes = [], []
    for rule, reason in zip(policy.rules, decision.reasons, strict=True):
        outcome = _derive_outcome(rule, reason, release, intact, store)
        outcomes.append(outcome)
        if outcome != reason.outcome:
            message = f"the rule {rule.name!r} is recorded as {reason.outcome}, the evidence gives {outcome}"
            findings.append(
                DECISION_MISMATCH.finding(where, message, rule=rule.name, recorded=reason.outcome, derived=outcome)
            )
    verdict = overall_verdict(outcomes)
    if verdict != decision.verdict:
        message = f"the recorded verdict is {decision.verdict}, the rules give {verdict}"
        findings.append(DECISION_MISMATCH.finding(where, message, recorded=decision.verdict, derived=verdict))
    return findings or [
        _passed(DECISION_MISMATCH, where, f"{plural(len(outcomes), 'rule gives', 'rules give')} {verdict} again")
    ]


def _derive_outcome(
    rule: Rule, reason: Reason, release: Release, intact: Mapping[str, Evidence], store: Store
) -> Outcome:
    """The outcome of a rule on the evidence that its reason names; an undecided one stays undecided."""
    evidence = intact.get(reason.evidence)
    if reason.outcome == "cannot_decide" or evidence is None:
        return "cannot_decide"
    if (evidence.kind, evidence.subject.model) != (rule.evidence, release.model):
        return "cannot_decide"
    measured = evidence.find(rule.metric, rule.where)
    if measured is None:
        return "cannot_decide"
    if not rule.is_relative:
        return check_bound(rule, measured, evidence.id).outcome
    if not reason.reference_evidence:
        return "pass" if _had_no_reference(rule, release, store) else "cannot_decide"
    return _derive_relative(rule, evidence, intact.get(reason.reference_evidence), store)


def _derive_relative(rule: Rule, candidate: Evidence, reference: Evidence | None, store: Store) -> Outcome:
    """The outcome of a relative rule again, from the rows of both models."""
    if reference is None or reference.kind != rule.evidence:
        return "cannot_decide"
    models = []
    for evidence in (candidate, reference):
        measured = evidence.find(rule.metric, rule.where)
        if measured is None or not evidence.rows:
            return "cannot_decide"
        rows = read_rows(store.blobs.get(evidence.rows))
        models.append(ComparedModel(short(evidence.subject.model), evidence.id, measured, rows, evidence.facts))
    return check_relative(rule, models[0], models[1]).outcome


def _had_no_reference(rule: Rule, release: Release, store: Store) -> bool:
    """Whether no other model was live when the release was made; other aliases than ``live`` are not recorded."""
    if rule.compare_with != LIVE or not release.parent:
        return True
    return store.release(release.name, release.parent).model == release.model


def _check_journal(store: Store) -> list[Finding]:
    problems = store.journal.verify() + store.database.verify()
    if problems:
        return problems
    length, head = store.journal.head()
    signed = len(store.journal.checkpoints.files())
    message = f"the chain of {length} records is intact up to {short(head)} and agrees with {signed} signed checkpoints"
    return [_passed(JOURNAL_BROKEN, "journal", message)]


def _passed(code: FindingCode, where: str, message: str) -> Finding:
    return code.finding(where, message, fix="", state="pass", severity="info")
