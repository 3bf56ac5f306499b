"""Verifiers of measurements: each asks for suites of the evaluation that are up to date and have numbers."""

from __future__ import annotations

from functools import partial

from clerestory.core.evidence import Evidence
from clerestory.core.units import plural
from clerestory.stages.govern.check import Check, Outcome, Verifier, failed, passed, sentence, untested
from clerestory.stages.govern.context import GovernContext, SuiteEvidence, describe_changes

DEFAULT_SECONDS = 120.0  # of a suite that never ran
ENERGY = "energy"


def measured(context: GovernContext, name: str, suites: tuple[str, ...], subject: str) -> Check:
    """Whether at least one of some suites is up to date and measured something, and none of them is stale.

    Args:
        context: the release.
        name: of the verifier.
        suites: the names of the suites that answer it.
        subject: what they measure, for the message.
    """
    known = [context.suites[each] for each in suites if each in context.suites]
    stale = [each for each in known if each.state == "stale"]
    if stale:
        changed = tuple(dict.fromkeys(change for each in stale for change in each.changed))
        message = (
            f"{subject} was measured ({', '.join(each.name for each in stale)}, {stale[0].created[:10]}), but with "
            f"{describe_changes(changed)}"
        )
        return _repeat(context, name, Outcome.STALE, message, stale)
    fresh = [each for each in known if each.state == "fresh"]
    if not fresh:
        message = f"{subject} was not measured for {context.release.ref}"
        return _repeat(context, name, Outcome.UNTESTED, message, known[:1])
    return _answered(context, name, subject, fresh)


def _answered(context: GovernContext, name: str, subject: str, fresh: list[SuiteEvidence]) -> Check:
    """Fresh evidence counts if its files are undamaged and there is a number in it."""
    pieces: list[Evidence] = []
    for suite in fresh:
        if problems := context.store.verify_evidence(suite.id):
            return failed(name, f"{problems[0].where}: {problems[0].message}", (suite.id,))
        pieces.append(context.store.evidence(suite.id))
    having = [(suite, piece) for suite, piece in zip(fresh, pieces, strict=True) if piece.measurements]
    if not having:
        notes = [finding.message for piece in pieces for finding in piece.findings if finding.state != "pass"]
        why = f": {notes[0]}" if notes else ""
        return untested(name, f"{subject} was to be measured ({fresh[0].name}), but there is no number{why}")
    count = sum(len(piece.measurements) for _, piece in having)
    numbers = plural(count, "number")
    names = ", ".join(suite.name for suite, _ in having)
    message = f"{subject}: {numbers} with n and interval, or the reason for none ({names}, {having[0][1].created[:10]})"
    return passed(name, message, [suite.id for suite, _ in having])


def _repeat(context: GovernContext, name: str, outcome: Outcome, message: str, suites: list[SuiteEvidence]) -> Check:
    wanted = tuple(suite.name for suite in suites)
    seconds = sum(suite.seconds or DEFAULT_SECONDS for suite in suites)
    ids = tuple(suite.id for suite in suites if suite.id)
    command = evaluate_command(context, wanted) if wanted else ""
    return Check(name, outcome, sentence(message), ids, command, wanted, seconds)


def evaluate_command(context: GovernContext, suites: tuple[str, ...]) -> str:
    """The command that measures some suites again."""
    return f"clerestory evaluate {context.release.ref}{context.data_option()} --suites {','.join(suites)}"


def fresh_evidence(context: GovernContext) -> Check:
    """Everything that was measured for the release is up to date."""
    suites = [suite for suite in context.suites.values() if suite.state != "missing"]
    if not suites:
        command = f"clerestory evaluate {context.release.ref}{context.data_option()}"
        return untested("fresh_evidence", f"{context.release.ref} was not evaluated", command, DEFAULT_SECONDS)
    stale = [suite for suite in suites if suite.state == "stale"]
    if stale:
        changed = tuple(dict.fromkeys(change for each in stale for change in each.changed))
        message = f"{len(stale)} of {plural(len(suites), 'suite')} were measured with {describe_changes(changed)}"
        return _repeat(context, "fresh_evidence", Outcome.STALE, message, stale)
    message = f"{plural(len(suites), 'suite is', 'suites are')} up to date: same data, code and environment"
    return passed("fresh_evidence", message, [suite.id for suite in suites])


def energy(context: GovernContext) -> Check:
    """The energy of requests was measured; most machines do not let a program read it."""
    evidence = context.evaluation
    found = [m for m in evidence.measurements if m.slice.get("task") == ENERGY] if evidence else []
    if evidence is None or not found:
        return untested("energy", "the energy of the model was not measured: this machine has no readable meter, or "
                        "the suite latency did not run")  # fmt: skip
    return passed("energy", f"{plural(len(found), 'number')} on energy of {evidence.created[:10]}", (evidence.id,))


def self_test(context: GovernContext) -> Check:
    """The metrics detect known faults: ``clerestory evaluate --self-test``."""
    stored = context.store.find_evidence("self_test", model=context.release.model)
    command = f"clerestory evaluate {context.release.ref}{context.data_option()} --self-test"
    if not stored:
        return untested("self_test", "whether the metrics detect known faults was not tested", command, 300)
    evidence = min(stored, key=lambda each: len(context.changed(each)))
    if changed := context.changed(evidence):
        message = f"the self-test of {evidence.created[:10]} ran with {describe_changes(changed)}"
        return Check("self_test", Outcome.STALE, sentence(message), (evidence.id,), command, (), evidence.cost.seconds)
    if problems := context.store.verify_evidence(evidence.id):
        return failed("self_test", f"{problems[0].where}: {problems[0].message}", (evidence.id,))
    missed = [finding for finding in evidence.findings if finding.state in ("fail", "warn")]
    if missed:
        return failed(
            "self_test", f"the self-test missed a fault: {missed[0].message}; remedy: {missed[0].fix}", (evidence.id,)
        )
    return passed("self_test", f"the self-test of {evidence.created[:10]} detected the injected faults", (evidence.id,))


def _suites(name: str, title: str, suites: tuple[str, ...], subject: str) -> Verifier:
    return Verifier(name, title, partial(measured, name=name, suites=suites, subject=subject))


ACCURACY = ("retrieval", "classification", "captioning", "vqa", "tasks")
VERIFIERS = (
    _suites("accuracy", "Is its quality measured?", ACCURACY, "quality"),
    _suites("robustness", "Is it measured on damaged input?", ("corruption", "text_perturbation"), "robustness"),
    _suites("ood", "Is it measured on unknown classes (OOD)?", ("ood",), "detection of unknown classes"),
    _suites("calibration", "Is its confidence measured (calibration)?", ("calibration",), "calibration"),
    _suites("fairness", "Is it measured by group (fairness)?", ("fairness",), "fairness between groups"),
    _suites("latency", "Is its speed measured?", ("latency",), "response time"),
    _suites("cost", "Is its cost measured?", ("cost",), "the cost of requests"),
    _suites("validity", "Are the benchmarks themselves sound (validity)?", ("validity",), "validity of the benchmarks"),
    Verifier("fresh_evidence", "Is everything measured up to date?", fresh_evidence),
    Verifier("energy", "Is its energy measured?", energy),
    Verifier("self_test", "Do the metrics detect known faults?", self_test),
)
