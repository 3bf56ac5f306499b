"""From the store to the one value a report is made of. What cannot be read is named, never skipped silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from clerestory.core.codec import decode
from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence, Finding, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Alias, Policy, Release
from clerestory.core.sample import Dataset
from clerestory.core.stage import stages
from clerestory.report.approvals import approvals_or_none
from clerestory.report.dataset_summary import summarise
from clerestory.report.diagnostics import (
    by_severity,
    chance_levels,
    latency_histograms,
    read_diagrams,
    read_self_test,
)
from clerestory.report.examples import Examples, read_examples
from clerestory.report.experts import read_experts
from clerestory.report.model import (
    EVALUATION,
    TRAINING_KINDS,
    ComparedRelease,
    DatasetSummary,
    Diagnostics,
    EvidenceRecord,
    ExpertUsage,
    JournalEntry,
    ReportData,
    SelfTestResult,
    TrainingLog,
)
from clerestory.report.provenance import components_of, training_of
from clerestory.report.training import read_log
from clerestory.report.trust import read_trust, trust_blob
from clerestory.stats.rows import read_rows
from clerestory.store import Store, alias_target

T = TypeVar("T")

LIVE = "live"


def report_name(store: Store, ref: str) -> str:
    """What a report calls the model that ``ref`` names: ``icons@3``, or the start of its digest.

    Raises:
        NotFound: no model or release has this name.
    """
    resolved = store.resolve(ref)
    release = resolved.release or _release_of(store, resolved.digest)
    return release.ref if release else resolved.digest[:12]


def collect(store: Store, ref: str, images: Dataset | None = None) -> ReportData:
    """Everything the store knows about the model that ``ref`` names.

    Args:
        store: where it is stored.
        ref: ``icons@3``, ``icons@live``, ``icons``, or a model's digest or its beginning.
        images: the data of the model's evaluation, for thumbnails and for the data summary.

    Raises:
        NotFound: no model or release has this name.
    """
    resolved = store.resolve(ref)
    model = resolved.digest
    release = resolved.release or _release_of(store, model)
    reader = _Reader(store)
    evidence = reader.evidence_of(release, model)
    history = tuple(store.releases(release.name)) if release else ()
    aliases = tuple(sorted(store.aliases(release.name), key=lambda a: a.alias)) if release else ()
    journal = reader.journal(release, model)
    training, evaluation = _newest(evidence, *TRAINING_KINDS), _newest(evidence, EVALUATION)
    data = reader.data(evaluation, images)
    usable = images if data is not None and data.counted else None
    examples = reader.examples(evaluation, usable)
    return ReportData(
        ref=ref,
        model=model,
        release=release,
        aliases=aliases,
        policy=reader.policy(release),
        evidence=evidence,
        promotion=_promotion(release, aliases, journal),
        training=reader.training(training),
        examples=examples.queries,
        captions=examples.captions,
        data=data,
        components=components_of(store, model, images),
        approval=approvals_or_none(store, release) if release else None,
        compared=reader.compared(release, aliases, history, training),
        history=history,
        journal=journal,
        num_records=reader.num_records,
        findings=_findings(evidence, usable),
        diagnostics=reader.diagnostics(evaluation),
        self_test=reader.self_test(model),
        experts=reader.experts(training),
        missing=tuple(dict.fromkeys(reader.missing)),
    )


def _release_of(store: Store, model: str) -> Release | None:
    """The release of a model: the live one where there is one, else the newest; None when it has none."""
    found = [release for release in store.releases() if release.model == model]
    live = {(alias.name, alias.number) for alias in store.aliases() if alias.alias == LIVE}
    return next((r for r in found if (r.name, r.number) in live), found[0] if found else None)


def _newest(evidence: tuple[EvidenceRecord, ...], *kinds: str) -> EvidenceRecord | None:
    return next((record for record in reversed(evidence) if record.evidence.kind in kinds), None)


def _findings(evidence: tuple[EvidenceRecord, ...], images: Dataset | None) -> tuple[Finding, ...]:
    found = [finding for record in evidence for finding in record.evidence.findings]
    return tuple(dict.fromkeys(found + list(images.findings if images else ())))


def _promotion(
    release: Release | None, aliases: tuple[Alias, ...], journal: tuple[JournalEntry, ...]
) -> JournalEntry | None:
    """The newest record that moved ``live``, when ``live`` points at this release."""
    if release is None or not any(a.alias == LIVE and a.number == release.number for a in aliases):
        return None
    moves = (e for e in journal if alias_target(e.event.details, LIVE) is not None)
    newest = next(moves, None)
    return newest if newest is not None and alias_target(newest.event.details, LIVE) == release.number else None


class _Reader:
    """Reads pieces from the store and lists what could not be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.missing: list[str] = []
        self.num_records = 0

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """The result of ``read``, or None with the error listed in ``missing``."""
        try:
            return read()
        except (ClerestoryError, ValueError, KeyError, TypeError) as error:
            reason = error.message if isinstance(error, ClerestoryError) else f"it cannot be read ({error})"
            self.missing.append(f"{what} — {reason}")
            return None

    def evidence_of(self, release: Release | None, model: str) -> tuple[EvidenceRecord, ...]:
        """The evidence a release rests on, and that of stages with chapters of their own.

        Without a release it is the newest evidence of each kind for the model.
        """
        known = stages()
        if release is not None:
            read = [self.attempt(f"evidence {short(i)}", partial(self.store.evidence, i)) for i in release.evidence]
            # A relative rule rests on the evaluation of another model as well; this page is about one.
            found = [e for e in read if e is not None and (e.kind != EVALUATION or e.subject.model == model)]
            more = [kind for kind, spec in known.items() if spec.chapters and not any(e.kind == kind for e in found)]
        else:
            found, more = [], list(known)
        found += [e for kind in more for e in self.store.find_evidence(kind, model=model)[:1]]
        trained = training_of(self.store, model)
        if trained is not None and not any(e.kind == trained.kind for e in found):
            found.append(trained)
        return tuple(_record(e) for e in sorted(found, key=lambda e: (e.created, e.id)))

    def policy(self, release: Release | None) -> Policy | None:
        """The policy a release was decided by."""
        if release is None:
            return None
        blob = release.decision.policy_digest

        def read() -> Policy:
            return decode(Policy, json.loads(self.store.blobs.get(blob)))

        return self.attempt(f"policy {release.decision.policy}", read)

    def training(self, record: EvidenceRecord | None) -> TrainingLog | None:
        """The curves of the training log."""
        if record is None:
            self.missing.append("training — the store has no training evidence for this model")
            return None
        log, facts = record.evidence.artifacts.get("log", ""), record.evidence.facts
        if not log:
            self.missing.append("training curves — the training evidence has no log")
            return None
        return self.attempt("training curves", lambda: read_log(self.store.blobs.get(log), facts.integer("early_step")))

    def experts(self, record: EvidenceRecord | None) -> ExpertUsage | None:
        """The usage of the experts; None for a dense model."""
        blob = record.evidence.artifacts.get("experts", "") if record else ""
        return self.attempt("experts", lambda: read_experts(self.store.blobs.get(blob))) if blob else None

    def examples(self, record: EvidenceRecord | None, images: Dataset | None) -> Examples:
        """The examples that the evaluation stored."""
        if record is None:
            self.missing.append("quality — this model was not evaluated")
            return Examples()
        blob = record.evidence.artifacts.get("examples", "")
        if not blob:
            self.missing.append("examples — the evaluation stored none")
            return Examples()
        read = self.attempt("examples", lambda: read_examples(self.store.blobs.get(blob), images))
        return read or Examples()

    def diagnostics(self, record: EvidenceRecord | None) -> Diagnostics:
        """What the rows and artifacts of the evaluation say besides its measurements."""
        if record is None:
            return Diagnostics()
        evidence, read = record.evidence, self.store.blobs.get
        diagrams = evidence.artifacts.get("reliability", "")
        trust = self.attempt("benchmark validity", lambda: trust_blob(evidence, self.store)) or ""
        rows = self.attempt("rows of the evaluation", lambda: read_rows(read(evidence.rows))) if evidence.rows else None
        return Diagnostics(
            (self.attempt("reliability diagrams", lambda: read_diagrams(read(diagrams))) if diagrams else None) or (),
            latency_histograms(rows) if rows else (),
            (self.attempt("benchmark validity", lambda: read_trust(read(trust))) if trust else None) or (),
            by_severity(rows) if rows else (),
            chance_levels(rows) if rows else (),
        )

    def self_test(self, model: str) -> SelfTestResult | None:
        """The newest self-test of a model."""
        found = self.store.find_evidence("self_test", model=model)
        if not found:
            return None
        record = _record(found[0])
        return self.attempt("self-test", lambda: read_self_test(record, read_rows(self.store.blobs.get(found[0].rows))))

    def data(self, evaluated: EvidenceRecord | None, images: Dataset | None) -> DatasetSummary | None:
        """The dataset of the evaluation, counted where the images are available and are those of the evidence."""
        if evaluated is None:
            return None
        wanted = evaluated.evidence.subject.data
        if images is not None and images.digest == wanted:
            return summarise(images)
        if images is not None:
            self.missing.append(f"pictures — the dataset {images.name} of this report is not that of the evidence")
        else:
            self.missing.append("pictures — no dataset was given to this report, so it shows no thumbnails")
        known = [row for row in self.store.datasets() if row.digest == wanted]
        if known:
            return DatasetSummary(known[0].name, known[0].digest, known[0].size)
        return DatasetSummary("", wanted, 0) if wanted else None

    def compared(
        self,
        release: Release | None,
        aliases: tuple[Alias, ...],
        history: tuple[Release, ...],
        trained: EvidenceRecord | None,
    ) -> ComparedRelease | None:
        """A refused release, the early checkpoint first; for a refused release the live one."""
        if release is None:
            return None
        others = [r for r in history if r.model != release.model]
        if release.decision.verdict == "refuse":
            live = {a.number for a in aliases if a.alias == LIVE}
            others = [r for r in others if r.number in live]
        else:
            others = [r for r in others if r.decision.verdict == "refuse"]
            early = trained.evidence.facts.get("early_model", "") if trained else ""
            others.sort(key=lambda r: r.model != early)
        if not others:
            return None
        return ComparedRelease(others[0], self.evidence_of(others[0], others[0].model))

    def journal(self, release: Release | None, model: str) -> tuple[JournalEntry, ...]:
        """Events about the name of the release and about the model, newest first."""
        subjects = {release.name, model} if release else {model}
        releases = f"{release.name}@" if release else ""
        journal = self.attempt("journal", lambda: self.store.journal.records()) or ()
        self.num_records = len(journal)
        records = [
            record
            for record in journal
            if record.event.subject in subjects or (releases and record.event.subject.startswith(releases))
        ]
        return tuple(JournalEntry(r.seq, r.hash, r.event) for r in sorted(records, key=lambda r: -r.seq))


def _record(evidence: Evidence) -> EvidenceRecord:
    subject = evidence.subject
    code = stage_code(evidence.kind) if evidence.kind in stages() and subject.code else subject.code
    environment = environment_digest() if subject.environment else ""
    today = Subject(subject.model, subject.data, code, subject.config, environment)
    return EvidenceRecord(evidence, evidence.id, subject.differing_fields(today))
