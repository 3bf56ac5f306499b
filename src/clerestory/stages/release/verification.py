"""Verification: whether a release still is what it claims to be, by computing all of it again."""

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
from clerestory.core.release import Outcome, Policy, Reason, Release, Rule
from clerestory.core.stage import stages
from clerestory.stages.release.decision import outdated, stale_in_words
from clerestory.stages.release.promotion import LIVE
from clerestory.stages.release.relative import Side, judge_relative
from clerestory.stages.release.rules import judge, verdict
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store

TOLERANCE = 1e-9  # libraries of mathematics differ in the last bits from machine to machine
_AGAIN = "do not trust this release; evaluate the model again and put it to the gate again"


def verify(ref: str, store: Store) -> list[Finding]:
    """Check everything a release, or a model, rests on.

    Every file of the model, the text tower it names, every file of its evidence (JSON, rows, artifacts), every number
    again from the rows, the decision again from the policy and the evidence, the tables against the journal, the
    journal's chain against its signed checkpoints, and every page of the database.

    Returns:
        One finding for each check: state ``pass``, ``fail`` (names the file), ``warn`` (stale), ``not_applicable`` or
        ``not_run``. The release holds when none is ``fail``.

    Raises:
        NotFound: nothing has this name.
    """
    resolved = store.resolve(ref)
    release = resolved.release
    ids = release.evidence if release else _evidence_of(resolved.digest, store)
    findings = _check_model(resolved.digest, store)
    held: list[Evidence] = []
    for each in ids:
        problems = store.verify_evidence(each)
        if problems:
            findings += problems
            continue
        evidence = store.evidence(each)
        held.append(evidence)
        findings.append(_passed("CLR-S001", f"{evidence.kind} evidence {short(each)}", _files_hold(evidence)))
        findings += _check_numbers(evidence, store)
        findings += _check_fresh(evidence)
    if release is not None:
        findings += _check_decision(release, held, store)
        registry = store.verify_registry(release.name)
        findings += registry or [_passed("CLR-S001", release.name, "releases and aliases agree with the journal")]
    return findings + _check_journal(store)


def _evidence_of(model: str, store: Store) -> list[str]:
    return [evidence.id for kind in stages() for evidence in store.find_evidence(kind, model=model)]


def _check_model(model: str, store: Store) -> list[Finding]:
    problems = store.verify_model(model)
    if problems:
        return problems
    count = len(store.model_files(model))
    message = f"{count} files are what the digest says, and no other is there"
    return [_passed("CLR-S001", f"model {short(model)}", message), *_check_text_tower(store.model_folder(model))]


def _check_text_tower(folder: Path) -> list[Finding]:
    """Whether this machine has the text tower that a model's ``config.json`` names, where it names one."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    wanted = config.get("text_tower_digest") if isinstance(config, dict) else None
    if not isinstance(wanted, str):
        return []
    from clerestory.models.text_tower import find_text_tower  # here, because it brings torch with it

    try:
        place = find_text_tower(wanted)
    except NotFound as error:
        return [Finding("CLR-R004", "info", "not_run", "text tower", error.message, error.fix)]
    except IntegrityError as error:
        return [Finding("CLR-R004", "error", "fail", "text tower", error.message, error.fix)]
    return [_passed("CLR-R004", "text tower", f"the weights in {place} are those the model names, {short(wanted)}")]


def _files_hold(evidence: Evidence) -> str:
    count = 1 + bool(evidence.rows) + len(evidence.artifacts)
    return f"{count} files are what their digests say"


def _check_numbers(evidence: Evidence, store: Store) -> list[Finding]:
    """Every measurement that names a recipe, computed again from the rows."""
    where = f"{evidence.kind} evidence {short(evidence.id)}"
    known = [measured for measured in evidence.measurements if measured.recipe is not None]
    unknown = len(evidence.measurements) - len(known)
    findings: list[Finding] = []
    if unknown:
        message = f"{unknown} numbers are taken as they are: they do not come from rows"
        findings.append(Finding("CLR-R001", "info", "not_applicable", where, message))
    if not known:
        return findings
    try:
        rows = read_rows(store.blobs.get(evidence.rows))
    except ClerestoryError as error:
        return [*findings, _failed("CLR-R001", where, f"the rows cannot be read: {error.message}")]
    differing = [f for measured in known if (f := _check_number(rows, measured, where)) is not None]
    count = len(next(iter(rows.values()), ()))
    passed = _passed("CLR-R001", where, f"{len(known)} numbers come out the same again from {count:,} rows")
    return findings + (differing or [passed])


def _check_number(rows: Mapping[str, NDArray[Any]], claimed: Measurement, where: str) -> Finding | None:
    try:
        again = recompute(rows, claimed)
    except ClerestoryError as error:
        return _failed("CLR-R001", where, f"{claimed.key} cannot be computed again: {error.message}")
    if _same(claimed, again):
        return None
    message = f"{claimed.key} is {claimed.value:g} (n = {claimed.n}), but the rows give {again.value:g} (n = {again.n})"
    return _failed("CLR-R001", where, message)


def _same(one: Measurement, other: Measurement) -> bool:
    def ends(measured: Measurement) -> list[float]:
        return [measured.interval.low, measured.interval.high] if measured.interval else []

    exact = (one.n, one.clusters, one.no_interval) == (other.n, other.clusters, other.no_interval)
    pairs = zip([one.value, *ends(one)], [other.value, *ends(other)], strict=False)
    return exact and all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in pairs)


def _check_fresh(evidence: Evidence) -> list[Finding]:
    if evidence.kind not in stages() or not (changed := outdated(evidence)):
        return []
    message = f"was made {stale_in_words(changed)}: what it says was true then, and the gate would ask for it anew"
    where = f"{evidence.kind} evidence {short(evidence.id)}"
    return [Finding("CLR-R003", "info", "warn", where, message, f"clerestory evaluate {short(evidence.subject.model)}")]


def _check_decision(release: Release, held: list[Evidence], store: Store) -> list[Finding]:
    """The decision again, from the stored policy and the evidence that is sound."""
    decision = release.decision
    problems = store.blobs.verify(decision.policy_digest, f"the policy {decision.policy}")
    if problems:
        return problems
    policy = decode(Policy, json.loads(store.blobs.get(decision.policy_digest)))
    where = f"decision of {release.ref}"
    if decision.model != release.model:
        return [
            _failed("CLR-R002", where, f"it is about the model {short(decision.model)}, not {short(release.model)}")
        ]
    if [rule.name for rule in policy.rules] != [reason.rule for reason in decision.reasons]:
        return [_failed("CLR-R002", where, f"its reasons are not those of the {len(policy.rules)} rules of its policy")]
    if len(held) < len(release.evidence):
        message = "it cannot be derived again while its evidence is damaged"
        return [Finding("CLR-R002", "info", "not_run", where, message, "mend the evidence first")]
    sound = {evidence.id: evidence for evidence in held}
    findings, outcomes = [], []
    for rule, reason in zip(policy.rules, decision.reasons, strict=True):
        outcome = _outcome_again(rule, reason, release, sound, store)
        outcomes.append(outcome)
        if outcome != reason.outcome:
            message = f"the rule {rule.name!r} is recorded as {reason.outcome}, the evidence gives {outcome}"
            findings.append(_failed("CLR-R002", where, message))
    again = verdict(outcomes)
    if again != decision.verdict:
        findings.append(_failed("CLR-R002", where, f"it says {decision.verdict}, the rules give {again}"))
    return findings or [_passed("CLR-R002", where, f"{len(outcomes)} rules give {again} again")]


def _outcome_again(
    rule: Rule, reason: Reason, release: Release, sound: Mapping[str, Evidence], store: Store
) -> Outcome:
    """What a rule says of the evidence that its reason names; what was unknown stays so."""
    evidence = sound.get(reason.evidence)
    if reason.outcome == "cannot_tell" or evidence is None:
        return "cannot_tell"
    if (evidence.kind, evidence.subject.model) != (rule.evidence, release.model):
        return "cannot_tell"
    measured = evidence.find(rule.metric, rule.where)
    if measured is None:
        return "cannot_tell"
    if not rule.relative:
        return judge(rule, measured, evidence.id).outcome
    if not reason.against:
        return "pass" if _was_alone(rule, release, store) else "cannot_tell"
    return _relative_again(rule, evidence, sound.get(reason.against), store)


def _relative_again(rule: Rule, ours: Evidence, theirs: Evidence | None, store: Store) -> Outcome:
    """A relative rule again, from the rows of both models."""
    if theirs is None or theirs.kind != rule.evidence:
        return "cannot_tell"
    sides = []
    for evidence in (ours, theirs):
        measured = evidence.find(rule.metric, rule.where)
        if measured is None or not evidence.rows:
            return "cannot_tell"
        rows = read_rows(store.blobs.get(evidence.rows))
        sides.append(Side(short(evidence.subject.model), evidence.id, measured, rows, evidence.facts))
    return judge_relative(rule, sides[0], sides[1]).outcome


def _was_alone(rule: Rule, release: Release, store: Store) -> bool:
    """Whether nothing else was live when the release was made; of other names than ``live`` nobody keeps a record."""
    if rule.compare_with != LIVE or not release.parent:
        return True
    return store.release(release.name, release.parent).model == release.model


def _check_journal(store: Store) -> list[Finding]:
    problems = store.journal.verify() + store.database.verify()
    if problems:
        return problems
    length, head = store.journal.head()
    signed = len(store.journal.checkpoints.files())
    message = f"the chain of {length} records is whole up to {short(head)} and fits {signed} signed checkpoints"
    return [_passed("CLR-S004", "journal", message)]


def _passed(code: str, where: str, message: str) -> Finding:
    return Finding(code, "info", "pass", where, message)


def _failed(code: str, where: str, message: str) -> Finding:
    return Finding(code, "error", "fail", where, message, _AGAIN)
