"""Verifiers of the record itself: inventory, journal, release, decision, approval, rollback, event log."""

from __future__ import annotations

import json
from collections import Counter

from clerestory.core.digest import short
from clerestory.core.evidence import Finding
from clerestory.core.release import VERDICT_TEXTS, Release
from clerestory.core.units import plural
from clerestory.stages.govern.check import Check, Outcome, Verifier, failed, of_findings, passed, sentence, untested
from clerestory.stages.govern.context import GovernContext
from clerestory.store import live_events
from clerestory.store.approvals import ApprovalState, Void, read_approvals
from clerestory.store.registry_check import GATED

LIVE, PREVIOUS = "live", "previous"
NUMBER_MISMATCH, DECISION_MISMATCH = "CLR-R001", "CLR-R002"  # of ``clerestory release verify``


def inventory(context: GovernContext) -> Check:
    """Every release of the store: its model is there, each file matches its digest, and the registry its journal."""
    store = context.store
    releases = store.releases()
    findings: list[Finding] = []
    for name in sorted({release.name for release in releases}):
        findings += store.verify_registry(name)
    models = {release.model for release in releases}
    for model in sorted(models):
        findings += store.verify_model(model)
    live = sum(alias.alias == LIVE for alias in store.aliases())
    counted = f"{plural(len(releases), 'release')} of {plural(len(models), 'model')}, {live} live"
    return of_findings("inventory", findings, f"{counted}; every file matches its digest, the registry its journal")


def journal(context: GovernContext) -> Check:
    """The journal matches its hash chain and its signed checkpoints."""
    length, head = context.store.journal.head()
    signed = len(context.store.journal.checkpoints.files())
    message = (
        f"the journal's chain of {plural(length, 'record')} is intact up to {short(head)} and agrees with "
        f"{plural(signed, 'signed checkpoint')}"
    )
    return of_findings("journal", context.journal_findings, message)


def release_files(context: GovernContext) -> Check:
    """The files of the release, its evidence and its policy match their digests."""
    findings = files_of(context, context.release)
    message = f"the model of {context.release.ref}, {plural(len(context.release.evidence), 'piece')} of evidence and "
    return of_findings("release_files", findings, message + "the policy match their digests", context.release.evidence)


def files_of(context: GovernContext, release: Release) -> list[Finding]:
    """Every damaged or missing file that a release needs."""
    store = context.store
    findings = store.verify_registry(release.name) + store.verify_model(release.model)
    findings += store.blobs.verify(release.decision.policy_digest, f"the policy {release.decision.policy}")
    for each in release.evidence:
        findings += store.verify_evidence(each)
    return findings


def numbers(context: GovernContext) -> Check:
    """Every number of the release is computed again from its rows."""
    return _recomputed(context, "numbers", NUMBER_MISMATCH, "no number of its evidence can be computed again from rows")


def decision(context: GovernContext) -> Check:
    """The decision of the gate: there is a policy, the verdict is "ship", and it is derived again from the evidence."""
    release = context.release
    verdict = release.decision.verdict
    if verdict != "ship":
        blocking = [reason for reason in release.decision.reasons if reason.outcome != "pass"]
        why = f": {blocking[0].message}" if blocking else ""
        message = f"the gate's verdict on {release.ref} is '{VERDICT_TEXTS[verdict]}'{why}"
        return failed("decision", message, release.evidence, release.decision.command)
    rules = plural(len(release.decision.reasons), "rule")
    if not release.decision.reasons:
        return failed("decision", f"the policy {release.decision.policy} of {release.ref} has no rules")
    again = _recomputed(
        context, "decision", DECISION_MISMATCH, "the decision cannot be derived again from its evidence"
    )
    if again.outcome != "passed":
        return again
    return passed(
        "decision",
        f"{rules} of the policy {release.decision.policy} gave 'ship', when it was decided and now",
        release.evidence,
    )


def _recomputed(context: GovernContext, name: str, code: str, nothing: str) -> Check:
    relevant = [finding for each in context.release.evidence for finding in context.store.verify_evidence(each)]
    relevant += [finding for finding in context.release_findings if finding.code == code]
    command = f"clerestory release verify {context.release.ref}"
    if any(finding.state == "fail" for finding in relevant):
        return of_findings(name, relevant, "")
    done = [finding for finding in relevant if finding.state == "pass"]
    if not done:
        return untested(name, nothing, command)
    return passed(
        name, "; ".join(f"{finding.where}: {finding.message}" for finding in done[:2]), context.release.evidence
    )


def approval(context: GovernContext) -> Check:
    """A person made the release live and said why, and as many people approved it as its policy requires."""
    release = context.release
    if context.journal_findings:
        return failed("approval", f"{release.ref} was approved in a journal that was changed outside Clerestory")
    state = read_approvals(context.store, release)
    required = state.rule.approvals if state.rule else 0
    if state.missing:
        return _missing_approval(context, state, required)
    event = live_events(context.records).get(release.ref)
    if event is None:
        command = f"clerestory release promote {release.ref} --why '...'" if release.decision.verdict == "ship" else ""
        return untested("approval", f"{release.ref} was never made live, so nobody has approved it", command, 5)
    if not event.who.strip() or not event.why.strip():
        return failed("approval", f"{release.ref} was made live without a name or a reason")
    same = "the same person" if event.who == release.who else release.who
    by = ", ".join(f"{each.who} ({each.identity})" for each in state.counting)
    approved = f", approved by {by}" if by else ", without a second person: its policy requires none"
    message = (
        f"{release.ref} was made live by {event.who} on {event.when[:10]}, submitted by {same}{approved}: {event.why}"
    )
    return passed("approval", message)


def _missing_approval(context: GovernContext, state: ApprovalState, required: int) -> Check:
    """Approvals that have expired are stale; those that are missing from a live release have failed."""
    ref = context.release.ref
    message = f"{ref} has {len(state.counting)} of the {plural(required, 'approval')} that its policy requires"
    command = f"clerestory release {'approve' if state.request else 'request'} {ref} --why '...'"
    if any(each.void == Void.EXPIRED for each in state.approvals):
        return Check("approval", Outcome.STALE, sentence(f"{message}: others have expired"), (), command, seconds=5)
    if state.promoted is not None:
        return failed("approval", f"{message}, and it was made live", (), command, 5)
    return untested("approval", message, command, 5)


def rollback(context: GovernContext) -> Check:
    """The release to go back to is complete and undamaged."""
    release, store = context.release, context.store
    live, previous = store.alias(release.name, LIVE), store.alias(release.name, PREVIOUS)
    if live is None:
        return untested("rollback", f"no release of {release.name} is live")
    if previous is None:
        message = f"there is no release to go back to: {release.name}@{live.number} is the first that was live"
        return untested("rollback", message)
    target = store.release(release.name, previous.number)
    if target.decision.verdict != "ship":
        return failed("rollback", f"{target.ref}, the release to go back to, did not pass the gate")
    return of_findings(
        "rollback", files_of(context, target), f"{target.ref} can be made live again: every file matches its digest"
    )


def event_log(context: GovernContext) -> Check:
    """What happened to the release is in the journal."""
    release = context.release
    if context.journal_findings:
        return of_findings("event_log", context.journal_findings, "")
    events = [record.event for record in context.records if record.event.subject == release.ref]
    if not any(event.kind == GATED for event in events):
        return failed("event_log", f"the journal has no record of the decision on {release.ref}")
    kinds = Counter(event.kind for event in events)
    listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
    return passed("event_log", f"the journal has {plural(len(events), 'record')} of {release.ref}: {listed}")


def tooling(context: GovernContext) -> Check:
    """The evidence names the version of the code, the settings and the environment it was produced with."""
    evidence = context.evaluation
    if evidence is None:
        return untested("tooling", f"{context.release.ref} was not evaluated", _evaluate(context))
    subject = evidence.subject
    missing = [name for name in ("code", "config", "environment") if not getattr(subject, name)]
    if missing:
        return failed("tooling", f"the evaluation does not name its {' and '.join(missing)}", (evidence.id,))
    message = (
        f"code {short(subject.code)}, settings {short(subject.config)}, environment {short(subject.environment)} are "
        f"part of the evaluation of {evidence.created[:10]}"
    )
    return passed("tooling", message, (evidence.id,))


def computing(context: GovernContext) -> Check:
    """The time and memory that training and evaluation took are recorded."""
    known = [evidence for evidence in (context.training, context.evaluation) if evidence is not None]
    if not known:
        return untested("computing", f"neither a training nor an evaluation of {context.release.ref} is recorded")
    parts = [
        f"{evidence.kind}: {evidence.cost.cpu_seconds / 60:,.1f} processor minutes, {evidence.cost.peak_mib:,.0f} MiB"
        for evidence in known
    ]
    note = "" if context.training else "; the model was not trained in this store"
    return passed("computing", "; ".join(parts) + note, tuple(evidence.id for evidence in known))


def model_card(context: GovernContext) -> Check:
    """The model card can be written from the record, with everything it has to say."""
    card = context.model_card()
    command = f"clerestory release card {context.release.ref}"
    if not card.strip():
        return untested("model_card", "no model card was written", command, 5)
    if context.release.model[:12] not in card and context.release.ref not in card:
        return failed("model_card", f"the model card does not name {context.release.ref}")
    lines = sum(bool(line.strip()) for line in card.splitlines())
    return passed("model_card", f"a model card of {plural(lines, 'line')} is written from the record: {command}")


def bill_of_materials(context: GovernContext) -> Check:
    """The machine-learning bill of materials can be written, and names exactly this model."""
    name, ref = "bill_of_materials", context.release.ref
    content = context.bill_of_materials()
    if not content:
        return untested(name, "no bill of materials was written", f"clerestory release bom {ref}", 5)
    bill = json.loads(content)
    model = bill.get("metadata", {}).get("component", {})
    if context.release.model not in {each.get("content") for each in model.get("hashes", ())}:
        return failed(name, f"the bill of materials does not name the model of {ref}")
    parts = len(bill.get("components", ()))
    return passed(name, f"a CycloneDX bill of materials with {plural(parts, 'component')} is written from the record")


def change_record(context: GovernContext) -> Check:
    """The release was compared with the one before it."""
    release = context.release
    if not release.parent:
        return untested("change_record", sentence(f"{release.ref} is the first release of {release.name}"))
    parent = context.store.release(release.name, release.parent)
    if parent.model == release.model:
        return passed("change_record", f"{release.ref} has the same model as {parent.ref}, the release before it")
    compared = [reason for reason in release.decision.reasons if reason.reference_evidence]
    stored = [
        evidence
        for evidence in context.store.find_evidence("compare")
        if {evidence.subject.model, evidence.facts.get("model_b")} == {release.model, parent.model}
    ]
    command = f"clerestory compare {release.ref} {parent.ref}{context.data_option()}"
    if not compared and not stored:
        return untested("change_record", f"{release.ref} was not compared with {parent.ref}", command, 60)
    findings = [finding for each in stored[:1] for finding in context.store.verify_evidence(each.id)]
    count = f"{plural(len(compared), 'rule')} of the gate" if compared else f"a comparison of {stored[0].created[:10]}"
    ids = tuple(reason.evidence for reason in compared) or (stored[0].id,)
    return of_findings("change_record", findings, f"{release.ref} was compared with {parent.ref} by {count}", ids)


def _evaluate(context: GovernContext) -> str:
    return f"clerestory evaluate {context.release.ref}{context.data_option()}"


VERIFIERS = (
    Verifier("inventory", "Is every model and release registered and undamaged?", inventory),
    Verifier("journal", "Is the record of what happened unchanged?", journal),
    Verifier("release_files", "Are the files of the release undamaged?", release_files),
    Verifier("numbers", "Can every number be computed again?", numbers),
    Verifier("decision", "Did the gate decide by a policy that it may ship?", decision),
    Verifier("approval", "Did a person approve the release, with a reason?", approval),
    Verifier("rollback", "Is there an undamaged release to go back to?", rollback),
    Verifier("event_log", "Is what happened to the release recorded?", event_log),
    Verifier("tooling", "Are code, settings and environment recorded?", tooling),
    Verifier("computing", "Are time and memory recorded?", computing),
    Verifier("model_card", "Can the model card be written from the record?", model_card),
    Verifier("bill_of_materials", "Can its bill of materials be written?", bill_of_materials),
    Verifier("change_record", "Was it compared with the release before it?", change_record),
)
