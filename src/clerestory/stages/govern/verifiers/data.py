"""Verifiers of the data: audited, no leakage, licences, personal data, origin, self-calibration of the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from shlex import quote

from clerestory.core.digest import short
from clerestory.core.evidence import Evidence
from clerestory.core.findings import finding_codes
from clerestory.core.licences.policy import LicencePolicy, LicenceState
from clerestory.core.units import plural
from clerestory.report.licence_chain import licence_chain
from clerestory.report.model import Basis, Component
from clerestory.report.provenance import components_of
from clerestory.stages.govern.check import Check, Outcome, Verifier, failed, passed, sentence, untested
from clerestory.stages.govern.context import GovernContext, describe_changes

AUDIT, CALIBRATION, LICENCE_CHECK = "audit", "audit_calibration", "licences"  # kinds of evidence
RECALL = "detector_recall"
AUDIT_SECONDS = 120.0
NOTED = (("warn", "warning"), ("accepted", "accepted finding"))
LEAKAGE = ("CLR-A017", "CLR-A050", "CLR-A051")
COPIES = ("CLR-A014", "CLR-A015", "CLR-A016")
PERSONAL = (
    "CLR-A011",
    *(f"CLR-A{number:03d}" for number in (30, 31, 32, 33, 39)),  # in texts
    *(f"CLR-A{number:03d}" for number in range(60, 65)),  # in images
)
LICENCES = ("CLR-A04",)


@dataclass(frozen=True, slots=True)
class DataPart:
    """Data that the release depends on.

    Attributes:
        digest, name: of the data; the name is empty if it is not known here.
        role: ``training data`` or ``evaluation data``.
        audit: the audit of it with the fewest changed digests; None if it was never audited.
    """

    digest: str
    name: str
    role: str
    audit: Evidence | None

    @property
    def label(self) -> str:
        """Its name, or the beginning of its digest."""
        return self.name or short(self.digest)

    @property
    def command(self) -> str:
        """The command that audits it; empty if it has no name."""
        return f"clerestory data audit {quote(self.name)}" if self.name else ""


def data_parts(context: GovernContext) -> list[DataPart]:
    """What the model was trained and evaluated on, each with its audit."""
    roles: dict[str, tuple[str, str]] = {}
    if context.training and context.training.subject.data:
        roles[context.training.subject.data] = ("training data", context.training.facts.text("data"))
    if context.evaluated_data:
        roles.setdefault(context.evaluated_data, ("evaluation data", ""))
    parts = []
    for digest, (role, name) in roles.items():
        stored = context.store.find_evidence(AUDIT, data=digest)
        best = min(stored, key=lambda each: len(context.changed(each)), default=None)
        parts.append(DataPart(digest, context.data_name(digest) or name, role, best))
    return parts


def audited(
    context: GovernContext,
    name: str,
    prefixes: tuple[str, ...],
    subject: str,
    blocking: Collection[str],
    without: tuple[str, ...] = (),
) -> Check:
    """Whether up-to-date audits of all data have no open finding of some codes; the worst answer decides.

    Args:
        context: the release.
        name: of the verifier.
        prefixes: of the finding codes.
        subject: of the question, for the message.
        blocking: the states of findings that fail it.
        without: prefixes of codes that other verifiers answer.
    """
    parts = data_parts(context)
    if not parts:
        ref = context.release.ref
        return untested(name, f"the data of {ref} is not known: it was neither trained nor evaluated here")
    checks = [_audited_part(context, name, prefixes, part, blocking, without) for part in parts]
    for outcome in (Outcome.FAILED, Outcome.STALE, Outcome.UNTESTED):
        worst = [check for check in checks if check.outcome is outcome]
        if worst:
            message = " ".join(check.message for check in worst)
            return replace(worst[0], message=message, command=next((c.command for c in worst if c.command), ""))
    ids = tuple(identity for check in checks for identity in check.evidence)
    return passed(name, f"{subject}: " + " ".join(check.message for check in checks), ids)


def _audited_part(
    context: GovernContext,
    name: str,
    prefixes: tuple[str, ...],
    part: DataPart,
    blocking: Collection[str],
    without: tuple[str, ...],
) -> Check:
    evidence = part.audit
    if evidence is None:
        return untested(name, f"the {part.role} {part.label} was not audited", part.command, AUDIT_SECONDS)
    ids = (evidence.id,)
    if problems := context.store.verify_evidence(evidence.id):
        return failed(name, f"{problems[0].where}: {problems[0].message}", ids, part.command)
    if changed := context.changed(evidence):
        message = f"the audit of {part.label} of {evidence.created[:10]} ran with {describe_changes(changed)}"
        return Check(name, Outcome.STALE, sentence(message), ids, part.command, (), evidence.cost.seconds)
    found = context.audit_findings(part.name, evidence) if part.name else evidence.findings
    relevant = [each for each in found if each.code.startswith(prefixes) and not each.code.startswith(without)]
    failing = [finding for finding in relevant if finding.state in blocking]
    if failing:
        first = failing[0]
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        message = f"{first.code} {finding_codes()[first.code].title} in {part.label}: {first.message}{more}"
        return failed(name, f"{message}; remedy: {first.fix}", ids)
    counts = Counter[str](finding.state for finding in relevant)
    noted = [plural(counts[state], word) for state, word in NOTED if counts[state]]
    rest = f" ({', '.join(noted)})" if noted else ""
    return passed(name, f"the audit of {part.label} of {evidence.created[:10]} has no open problem{rest}", ids)


def data_quality(context: GovernContext) -> Check:
    """The data was audited, and no finding failed, apart from personal data and licences."""
    return audited(context, "data_quality", ("CLR-A",), "quality of the data", ("fail",), PERSONAL + LICENCES)


def leakage(context: GovernContext) -> Check:
    """No image of an evaluation split, and none of a hash pack, is in the training split.

    An audit compares the splits of one dataset, so it answers this only for a model that was trained on the data it is
    evaluated on.
    """
    parts = {part.role: part for part in data_parts(context)}
    trained = context.training.subject.data if context.training else ""
    if not trained:
        ref = context.release.ref
        return untested(
            "leakage", f"the training data of {ref} is not recorded, so it cannot be compared with the tests"
        )
    if context.evaluated_data and context.evaluated_data != trained:
        trained_on, tested_on = parts["training data"].label, parts["evaluation data"].label
        message = f"the training data {trained_on} was not compared with the evaluation data {tested_on}"
        return untested("leakage", message)
    return audited(context, "leakage", LEAKAGE, "leakage between splits", ("fail", "warn"))


def copies(context: GovernContext) -> Check:
    """Copies of images are known and none is open."""
    return audited(context, "copies", COPIES, "copies of images", ("fail", "warn"))


def personal_data(context: GovernContext) -> Check:
    """No personal data that the audit detects is open in the data."""
    return audited(context, "personal_data", PERSONAL, "personal data", ("fail", "warn"))


def licences(context: GovernContext) -> Check:
    """Every licence of the data is known and allowed by the policy on licences."""
    return audited(context, "licences", LICENCES, "licences", ("fail",))


def provenance(context: GovernContext) -> Check:
    """It is recorded what the model was made from: training data, base model, text tower."""
    ref, parts = context.release.ref, components_of(context.store, context.release.model)
    own = [part for part in parts if part.role == "training data" and not part.part_of]
    named = "; ".join(_component(part) for part in parts)
    if not own:
        known = f"; known is only {named}" if parts else ""
        return untested("provenance", f"it is not recorded what {ref} was trained on: that happened elsewhere{known}")
    if all(part.basis == Basis.DECLARED for part in own):
        return untested("provenance", f"what {ref} was trained on is declared, and nobody has checked it: {named}")
    origin = context.training
    if origin is not None and (problems := context.store.verify_evidence(origin.id)):
        return failed("provenance", f"{problems[0].where}: {problems[0].message}", (origin.id,))
    return passed("provenance", f"made from {named}", (origin.id,) if origin else ())


def _component(part: Component) -> str:
    declared = f" (as declared by {part.declared_by})" if part.basis == Basis.DECLARED else ""
    return f"{part.role} {part.name or short(part.digest)}{declared}"


def third_parties(context: GovernContext) -> Check:
    """The models of others that are part of this one are named, each with its licence."""
    parts = [p for p in components_of(context.store, context.release.model) if p.role in ("base model", "text tower")]
    if not parts:
        if context.training is None:
            return untested("third_parties", f"it is not recorded which models {context.release.ref} was made from")
        return passed("third_parties", "its training names no model of others")
    unknown = [part for part in parts if not any(share.licence for share in part.licences)]
    if unknown:
        return failed("third_parties", f"the licence of the {_component(unknown[0])} is unknown")
    listed = (f"{_component(part)}: {', '.join(share.licence for share in part.licences)}" for part in parts)
    return passed("third_parties", "; ".join(listed))


def model_licences(context: GovernContext) -> Check:
    """The licences of everything that the model was made from allow its use.

    They are followed anew under the strictest policy. If that fails, the check by a policy of one's own counts.
    """
    name, ref = "model_licences", context.release.ref
    command = f"clerestory release licences {ref}"
    chain = licence_chain(components_of(context.store, context.release.model), LicencePolicy())
    if chain.is_complete and chain.state == LicenceState.PASSES:
        return passed(
            name, f"{plural(len(chain.links), 'source')} of the model allow commercial use without share-alike"
        )
    stored = context.store.find_evidence(LICENCE_CHECK, model=context.release.model)
    if not stored:
        return untested(name, f"the licences of {ref} were not checked under a policy", command, 5)
    evidence = stored[0]
    if problems := context.store.verify_evidence(evidence.id):
        return failed(name, f"{problems[0].where}: {problems[0].message}", (evidence.id,), command)
    if changed := context.changed(evidence):
        message = f"the licence check of {evidence.created[:10]} ran with {describe_changes(changed)}"
        return Check(name, Outcome.STALE, sentence(message), (evidence.id,), command, (), 5)
    failing = [finding for finding in evidence.findings if finding.state == "fail"]
    if failing:
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        message = f"{failing[0].where}: {failing[0].message}{more}; remedy: {failing[0].fix}"
        return failed(name, message, (evidence.id,))
    return passed(
        name, f"the policy of the licence check of {evidence.created[:10]} allows every source", (evidence.id,)
    )


def audit_calibration(context: GovernContext) -> Check:
    """How much the audit detects was measured, with faults planted in the user's own data."""
    name, parts = "audit_calibration", data_parts(context)
    stored = [evidence for part in parts for evidence in context.store.find_evidence(CALIBRATION, data=part.digest)]
    command = next((f"{part.command} --calibrate" for part in parts if part.command), "")
    if not stored:
        return untested(name, "how much the audit of this data detects was not measured", command, 300)
    evidence = min(stored, key=lambda each: len(context.changed(each)))
    if problems := context.store.verify_evidence(evidence.id):
        return failed(name, f"{problems[0].where}: {problems[0].message}", (evidence.id,))
    if changed := context.changed(evidence):
        message = f"the calibration of {evidence.created[:10]} ran with {describe_changes(changed)}"
        return Check(name, Outcome.STALE, sentence(message), (evidence.id,), command, (), evidence.cost.seconds)
    recalls = [each for each in evidence.measurements if each.name == RECALL]
    if not recalls:
        return untested(name, f"the calibration of {evidence.created[:10]} has no recall", command, 300)
    weakest = min(recalls, key=lambda each: each.value)
    message = (
        f"the recall of {plural(len(recalls), 'check')} was measured with planted faults on {evidence.created[:10]}; "
        f"the lowest is {weakest.value:.0%} (n = {weakest.n}, {weakest.slice})"
    )
    return passed(name, message, (evidence.id,))


VERIFIERS = (
    Verifier("data_quality", "Was the data checked, and did nothing fail?", data_quality),
    Verifier("leakage", "Are the test images absent from the training data (leakage)?", leakage),
    Verifier("copies", "Are copies of images known and resolved?", copies),
    Verifier("personal_data", "Was the data checked for personal data?", personal_data),
    Verifier("licences", "Are all licences of the data known and allowed?", licences),
    Verifier("provenance", "Is it recorded what the model was made from?", provenance),
    Verifier("third_parties", "Are the parts of others named, with licences?", third_parties),
    Verifier("model_licences", "Do all licences that reach the model allow its use?", model_licences),
    Verifier("audit_calibration", "Is it measured how much the audit detects?", audit_calibration),
)
