"""The verb: evaluate a model on data, and keep what was found as evidence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import CapabilityError, IntegrityError
from clerestory.core.evidence import Cost, Evidence, Finding, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import metered, now
from clerestory.core.sample import Dataset
from clerestory.models.protocols import KINDS, capabilities
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.fingerprint import KIND, evaluation_subject, suite_kind, suite_subject
from clerestory.stages.evaluate.shared.captioning import NO_DESCRIPTION
from clerestory.stages.evaluate.shared.retrieval_split import NO_CAPTION, UNANSWERED, UNREADABLE
from clerestory.stages.evaluate.shared.row_builder import CLEAN, join
from clerestory.stages.evaluate.suite import EvaluationRequest, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites import chosen
from clerestory.stats.aggregate import Rows
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import Store

NAMED = 8
UNANSWERED_CODE = "CLR-E008"


def evaluate(model: Any, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress = QUIET) -> Evidence:
    """Examine a model part by part, and store the evidence with its per-sample rows.

    Evidence for the same model, data, code, configuration and environment is not made twice: the stored one is
    returned at once. Each part is kept as soon as it is done, so a run that was killed goes on where it stopped, and
    a change makes again only the parts it touches. A part that needs what the model cannot do is left out, and a
    finding says so.

    Args:
        model: an ``Embedder``, ``Scorer``, ``Describer`` or ``Generator``, or several of these.
        data: pictures with captions; only the splits that ``config`` names are used, all of it if it has none.
        config: what to measure, and on how much.
        store: where answers, rows and evidence are kept.
        progress: told about each step.

    Raises:
        NotFound: the data has none of the wanted splits, or there is no such part.
        DataError: no wanted split has two captioned concepts.
        CapabilityError: the model gives NaN or other unusable embeddings (the sample is named), or can do nothing
            that any chosen part needs.
    """
    parts = chosen(config.suites)
    asked = EvaluationRequest(model.digest, data.digest, config, store)
    known = _sound(store, KIND, evaluation_subject(parts, asked), progress)
    if known is not None:
        return known
    bench = EvaluationContext(model, data, config, store, progress)
    able = _able(model, parts)
    made = [_part_evidence(part, bench, asked) for part in able]
    noticed = bench.split_findings if any(part.uses_splits for part in parts) else []
    unable = [_cannot(part, model) for part in parts if part not in able]
    evidence = _whole(evaluation_subject(parts, asked), made, noticed + unable, store)
    store.put_evidence(evidence)
    return evidence


def _able(model: Any, parts: tuple[Suite, ...]) -> list[Suite]:
    """The parts whose needs the model meets.

    Raises:
        CapabilityError: there is none.
    """
    has = set(capabilities(model))
    able = [part for part in parts if set(part.needs) <= has]
    if not able:
        needs = sorted({need for part in parts for need in part.needs})
        raise CapabilityError(
            f"this model can do nothing that is asked for: it is {', '.join(sorted(has)) or 'none of them'}, "
            f"and needed is {' or '.join(needs)}",
            f"choose other parts, or use {' or '.join(words for need, words in KINDS.items() if need in needs)}",
        )
    return able


def _part_evidence(part: Suite, bench: EvaluationContext, asked: EvaluationRequest) -> Evidence:
    """A part's evidence: the stored one where it still holds, else made now and stored."""
    subject = suite_subject(part, asked)
    known = _sound(bench.store, suite_kind(part), subject, bench.progress)
    if known is not None:
        return known
    with metered() as meter:
        try:
            found = part.run(bench)
        except NotApplicable as error:
            note = Finding("CLR-E007", "info", "not_applicable", f"part {part.name}", error.message, error.fix)
            found = SuiteResult({}, [], [note])
    evidence = Evidence(
        kind=suite_kind(part),
        subject=subject,
        measurements=tuple(found.measurements),
        findings=(*_unscored(found.rows), *found.findings),
        cost=meter.cost,
        made=now(),
        rows=bench.store.blobs.put(write_rows(found.rows)) if found.rows else "",
        artifacts=Tags({name: bench.store.blobs.put(content) for name, content in found.artifacts.items()}),
        facts=Tags(found.facts),
    )
    bench.store.put_evidence(evidence)
    return evidence


def _whole(subject: Subject, parts: list[Evidence], findings: list[Finding], store: Store) -> Evidence:
    """The parts put together: rows below one another, one list of measurements."""
    rows = join(read_rows(store.blobs.get(part.rows)) for part in parts if part.rows)
    artifacts = {name: blob for part in parts for name, blob in part.artifacts.items()}
    artifacts |= _examples(artifacts, store)
    facts = {name: value for part in parts for name, value in part.facts.items()}
    facts |= {part.kind.replace(KIND, "part", 1): part.id for part in parts}
    return Evidence(
        kind=KIND,
        subject=subject,
        measurements=tuple(m for part in parts for m in part.measurements),
        findings=tuple(dict.fromkeys([*(f for part in parts for f in part.findings), *findings])),
        cost=_total(part.cost for part in parts),
        made=now(),
        rows=store.blobs.put(write_rows(rows)),
        artifacts=Tags(artifacts),
        facts=Tags(facts),
    )


def _examples(artifacts: dict[str, str], store: Store) -> dict[str, str]:
    """The examples of all parts as the one file that the report reads."""
    shown = {}
    for name, key in (("examples.retrieval", "examples"), ("examples.captions", "captions")):
        shown[key] = json.loads(store.blobs.get(artifacts.pop(name))) if name in artifacts else []
    return {"examples": store.blobs.put(canonical(shown))}


def _total(costs: Iterable[Cost]) -> Cost:
    """What all parts took, those of earlier runs included; the peak is the highest of them."""
    known = list(costs)
    return Cost(
        round(sum(cost.seconds for cost in known), 3),
        round(sum(cost.cpu_seconds for cost in known), 3),
        max((cost.peak_mib for cost in known), default=0.0),
    )


def _sound(store: Store, kind: str, subject: Subject, progress: Progress) -> Evidence | None:
    """The newest sound evidence for a subject in which nothing went unanswered.

    Damaged evidence is none: its fix is to make it again. So is evidence that lacks answers: what was answered is kept
    by its content, and only the rest is asked again.
    """
    try:
        found = store.find_evidence(
            kind, subject.model, subject.data, subject.code, subject.config, subject.environment
        )
    except IntegrityError as error:
        progress.say(f"{error.message}; evaluating again")
        return None
    whole = [one for one in found if not any(finding.code == UNANSWERED_CODE for finding in one.findings)]
    sound = next((one for one in whole if not store.verify_evidence(one.id)), None)
    if whole and sound is None:
        progress.say("files of the stored evidence are damaged; evaluating again")
    return sound


def _unscored(rows: Rows) -> list[Finding]:
    """One finding for each task, split and reason; it counts the samples and names the first of them."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    if not rows:
        return []
    columns = (rows[name].tolist() for name in ("task", "split", "unscored", "sample", "condition"))
    for task, split, reason, sample, condition in zip(*columns, strict=True):
        if reason:
            groups[task, split, reason].append((sample, condition))
    findings = []
    for (task, split, reason), asked in groups.items():
        samples = list(dict.fromkeys(sample for sample, _ in asked))
        under = sorted({condition for _, condition in asked})
        names = ", ".join(samples[:NAMED]) + (f" and {len(samples) - NAMED} more" if len(samples) > NAMED else "")
        times = f" ({len(asked)} times)" if len(asked) > len(samples) else ""
        message = f"{len(samples)} samples of split {split!r} are not scored for {task}{_under(under)}{times}: {reason}"
        again = reason.startswith(UNANSWERED)
        code = UNANSWERED_CODE if again else "CLR-E002" if reason == NO_DESCRIPTION else "CLR-E001"
        fix = "run it again: what was answered is kept, and only the rest is asked" if again else ""
        findings.append(Finding(code, "warning", "warn", names, message, _FIXES.get(reason, fix)))
    return findings


def _under(conditions: list[str], most: int = 3) -> str:
    """The conditions, where the plain one is not among them: what is missing there is not missing from the rest."""
    if CLEAN in conditions:
        return ""
    return f" under {', '.join(conditions[:most])}" + (f" and {len(conditions) - most} more" * (len(conditions) > most))


_FIXES = {
    NO_CAPTION: "add captions to these samples, or set lang to a language they have",
    UNREADABLE: "replace these pictures",
    NO_DESCRIPTION: "train the caption decoder longer",
}


def _cannot(part: Suite, model: Any) -> Finding:
    missing = ", ".join(sorted(set(part.needs) - set(capabilities(model))))
    message = f"the model is no {missing}, so nothing was measured about {part.about}"
    return Finding("CLR-E004", "info", "not_applicable", f"part {part.name}", message)
