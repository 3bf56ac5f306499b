"""Evaluate a model on data, and store the result as evidence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import CapabilityError, InputError, IntegrityError
from clerestory.core.evidence import Cost, Evidence, Finding, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import metered, now
from clerestory.core.rows import RETRYABLE, Condition, Unscored
from clerestory.core.sample import Dataset
from clerestory.models.protocols import SUITABLE_MODELS, capabilities
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.fingerprint import KIND, evaluation_subject, suite_kind, suite_subject
from clerestory.stages.evaluate.row_builder import join_rows, quoted_examples
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites import select_suites
from clerestory.stats.aggregate import Rows
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import Store

MAX_NAMED = 8
MAX_CONDITIONS = 3
# The artifacts of suites that become the artifact ``examples`` of the whole, with their keys in it.
EXAMPLES = {"examples.retrieval": "examples", "examples.captions": "captions"}

REASONS: dict[Unscored, str] = {
    Unscored.NO_CAPTION: "they have no caption in the language of the evaluation",
    Unscored.UNREADABLE_IMAGE: "their images cannot be read",
    Unscored.NO_ANSWER: "the model did not answer",
    Unscored.NOT_UNDERSTOOD: "their replies were not understood",
    Unscored.NO_CAPTION_WRITTEN: "the model generated an empty caption",
    Unscored.UNKNOWN_LABEL: "their label is not a class",
    Unscored.NO_CORRECT_ANSWER: "the data has no correct answer",
    Unscored.IMAGE_TOO_SMALL: "their images are too small to be corrupted",
    Unscored.NO_SYNONYM: "the data has no synonyms for the caption",
    Unscored.ONE_WORD_ORDER: "the words of the caption have no other order",
    Unscored.NO_LONG_WORD: "the caption has no word of four letters for a typo",
    Unscored.TOO_FEW_IMAGES: "the concept has too few images of the group",
}
FIXES: dict[Unscored, str] = {
    Unscored.NO_CAPTION: "add captions to these samples, or set language to one that they have",
    Unscored.UNREADABLE_IMAGE: "replace these images",
}


def evaluate(model: Any, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress = QUIET) -> Evidence:
    """Evaluate a model suite by suite, and store the evidence with its per-sample rows.

    Evidence for the same model, data, code, configuration and environment is not made twice: the stored one is
    returned. Each suite is stored when it is done, so a killed run resumes where it stopped, and a change reruns only
    the suites it concerns. A suite that needs a capability the model does not have is skipped, and a finding reports
    it.

    Args:
        model: an ``Embedder``, ``Scorer``, ``Describer`` or ``Generator``, or several of these.
        data: images with captions; only the splits named in ``config`` are evaluated, all of it if it has none.
        config: what to measure, and on how many samples.
        store: holds answers, rows and evidence.
        progress: reports each step.

    Raises:
        NotFound: the data has none of the configured splits, or there is no suite of a configured name.
        DataError: no configured split has two captioned concepts.
        InputError: ``model`` is a name or a path instead of an open model.
        InputError: the store cannot be written; checked before anything is measured.
        CapabilityError: an embedding is not a finite unit vector (names the sample), or the model has no capability
            that a configured suite needs.
    """
    if isinstance(model, str | Path):
        raise InputError(f"{str(model)!r} names a model; evaluate needs it open", "pass clerestory.open_model(...)")
    suites = select_suites(config.suites)
    context = EvaluationContext(model, data, config, store, progress)
    stored = _valid_evidence(store, KIND, evaluation_subject(suites, context.request), progress)
    if stored is not None:
        return stored
    store.check_writable()
    supported = _supported(model, suites)
    results = {suite.name: _suite_evidence(suite, context) for suite in supported}
    notes = list(context.split_findings) if any(suite.needs_captions for suite in suites) else []
    notes += [_unsupported(suite, model) for suite in suites if suite not in supported]
    notes += _not_pinned(model)
    evidence = _combined(evaluation_subject(suites, context.request), results, notes, config, store)
    store.put_evidence(evidence)
    return evidence


def _not_pinned(model: Any) -> list[Finding]:
    """A finding for a model whose weights can change without its digest."""
    facts = model.facts() if callable(getattr(model, "facts", None)) else {}
    if not facts.get("pinned"):
        return []
    count = facts.get("fingerprint_requests", 0)
    message = f"{facts['pinned']}; answers to {count} fixed requests are part of its digest"
    return [findings.NOT_PINNED.finding("model", message, requests=count)]


def _supported(model: Any, suites: tuple[Suite, ...]) -> list[Suite]:
    """The suites whose capabilities the model has.

    Raises:
        CapabilityError: there are none.
    """
    own = set(capabilities(model))
    supported = [suite for suite in suites if set(suite.capabilities) <= own]
    if not supported:
        needed = sorted({capability for suite in suites for capability in suite.capabilities})
        examples = [description for capability, description in SUITABLE_MODELS.items() if capability in needed]
        raise CapabilityError(
            f"this model supports none of the selected suites; they need {_article(' or '.join(needed))}, "
            f"and it is {_article(' and '.join(sorted(own))) if own else 'none of these'}",
            f"select other suites, or use {' or '.join(examples)}",
        )
    return supported


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "AEIOU" else f"a {noun}"


def _suite_evidence(suite: Suite, context: EvaluationContext) -> Evidence:
    """The evidence of a suite: the stored one if it is up to date, else made now and stored."""
    store, subject = context.store, suite_subject(suite, context.request)
    stored = _valid_evidence(store, suite_kind(suite), subject, context.progress)
    if stored is not None:
        return stored
    with metered() as meter:
        try:
            result = suite.run(context)
        except NotApplicable as error:
            note = findings.NOT_APPLICABLE.finding(
                f"suite {suite.name}", error.message, fix=error.fix, suite=suite.name
            )
            result = SuiteResult({}, [], [note])
    evidence = Evidence(
        kind=suite_kind(suite),
        subject=subject,
        measurements=tuple(result.measurements),
        findings=(*unscored_findings(result.rows), *result.findings),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(result.rows)) if result.rows else "",
        artifacts=Tags({name: store.blobs.put(content) for name, content in result.artifacts.items()}),
        facts=Facts(result.facts),
    )
    store.put_evidence(evidence)
    return evidence


def _combined(
    subject: Subject, results: dict[str, Evidence], notes: list[Finding], config: EvaluateConfig, store: Store
) -> Evidence:
    """The evidence of all suites, by their names, as one: joined rows, one list of measurements."""
    rows = join_rows(read_rows(store.blobs.get(result.rows)) for result in results.values() if result.rows)
    artifacts = {name: blob for result in results.values() for name, blob in result.artifacts.items()}
    artifacts |= _examples(artifacts, store)
    facts = {name: value for result in results.values() for name, value in result.facts.items()}
    facts |= {f"suite.{name}": result.id for name, result in results.items()}
    if config.suites:
        facts["selected_suites"] = config.suites
    return Evidence(
        kind=KIND,
        subject=subject,
        measurements=tuple(m for result in results.values() for m in result.measurements),
        findings=tuple(dict.fromkeys([*(f for result in results.values() for f in result.findings), *notes])),
        cost=_total(result.cost for result in results.values()),
        created=now(),
        rows=store.blobs.put(write_rows(rows)),
        artifacts=Tags(artifacts),
        facts=Facts(facts),
    )


def _examples(artifacts: dict[str, str], store: Store) -> dict[str, str]:
    """The examples of all suites as one artifact, in place of their own."""
    examples = {}
    for name, key in EXAMPLES.items():
        examples[key] = json.loads(store.blobs.get(artifacts.pop(name))) if name in artifacts else []
    return {"examples": store.blobs.put(canonical(examples))}


def _total(costs: Iterable[Cost]) -> Cost:
    """The cost of all suites, those of earlier runs included; the peak memory is the highest of them."""
    known = list(costs)
    return Cost(
        round(sum(cost.seconds for cost in known), 3),
        round(sum(cost.cpu_seconds for cost in known), 3),
        max((cost.peak_mib for cost in known), default=0.0),
    )


def _valid_evidence(store: Store, kind: str, subject: Subject, progress: Progress) -> Evidence | None:
    """The newest stored evidence for a subject that is intact and complete.

    Damaged evidence is made again. So is evidence with unanswered samples: answers are cached by their content, and
    only the missing ones are requested.
    """
    try:
        found = store.find_evidence(
            kind, subject.model, subject.data, subject.code, subject.config, subject.environment
        )
    except IntegrityError as error:
        progress.write_line(f"{error.message}; evaluating again")
        return None
    complete = [one for one in found if not any(note.code == findings.UNANSWERED.code for note in one.findings)]
    intact = next((one for one in complete if not store.verify_evidence(one.id)), None)
    if complete and intact is None:
        progress.write_line("files of the stored evidence are damaged; evaluating again")
    return intact


def unscored_findings(rows: Rows) -> list[Finding]:
    """One finding for each task, split and reason with its number of samples and the first of them."""
    if not rows:
        return []
    groups: dict[tuple[str, str, str, str], list[tuple[str, str, str]]] = defaultdict(list)
    columns = (rows[name].tolist() for name in ("task", "split", "unscored", "sample", "condition"))
    answers = rows["answer"].tolist() if "answer" in rows else [""] * len(rows["unscored"])
    details = rows["unscored_detail"].tolist() if "unscored_detail" in rows else [""] * len(rows["unscored"])
    for task, split, reason, sample, condition, answer, detail in zip(*columns, answers, details, strict=True):
        if reason:
            groups[task, split, reason, detail].append((sample, condition, answer))
    return [
        _unscored(task, split, Unscored(reason), detail, unscored)
        for (task, split, reason, detail), unscored in groups.items()
    ]


def _unscored(
    task: str, split: str, reason: Unscored, detail: str, unscored: Sequence[tuple[str, str, str]]
) -> Finding:
    """The finding about some rows: sample, condition and answer of each."""
    samples = list(dict.fromkeys(sample for sample, _, _ in unscored))
    conditions = sorted({condition for _, condition, _ in unscored})
    names = ", ".join(samples[:MAX_NAMED])
    names += f" and {len(samples) - MAX_NAMED} more" if len(samples) > MAX_NAMED else ""
    times = f" ({len(unscored)} times)" if len(unscored) > len(samples) else ""
    why = f"{REASONS[reason]} ({detail})" if detail else REASONS[reason]
    message = f"{len(samples)} samples of split {split!r} are unscored for {task}{_under(conditions)}{times}: {why}"
    code = findings.UNSCORED_SAMPLES
    if reason in RETRYABLE:
        code = findings.UNANSWERED
    elif reason == Unscored.NO_CAPTION_WRITTEN:
        code = findings.EMPTY_CAPTIONS
    elif reason == Unscored.NOT_UNDERSTOOD:
        code = findings.NOT_UNDERSTOOD
        message += quoted_examples(answer for _, _, answer in unscored)
    fix = FIXES.get(reason, code.fix)
    return code.finding(names, message, fix=fix, reason=reason, count=len(samples), task=task, split=split)


def _under(conditions: list[str]) -> str:
    """The conditions, unless ``clean`` is among them: then the samples are missing everywhere."""
    if Condition.CLEAN in conditions:
        return ""
    hidden = len(conditions) - MAX_CONDITIONS
    return f" under {', '.join(conditions[:MAX_CONDITIONS])}" + (f" and {hidden} more" if hidden > 0 else "")


def _unsupported(suite: Suite, model: Any) -> Finding:
    missing = _article(", ".join(sorted(set(suite.capabilities) - set(capabilities(model)))))
    message = f"the model is not {missing}, so {suite.description} was not evaluated"
    return findings.UNSUPPORTED_SUITE.finding(f"suite {suite.name}", message, suite=suite.name)
