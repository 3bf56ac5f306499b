"""What verifiers look at: the store, one release, and what the layers above measure for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from shlex import quote
from typing import Literal

from clerestory.core.evidence import Evidence, Finding, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Release
from clerestory.store import JournalRecord, Store

CHANGES = {
    "model": "another model",
    "data": "other data",
    "code": "a different version of the code",
    "config": "other settings",
    "environment": "other library versions or another kind of machine",
}


@dataclass(frozen=True, slots=True)
class SuiteEvidence:
    """The evidence of one suite of an evaluation for a release, as the evaluation itself sees it.

    Attributes:
        name: such as ``corruption``.
        description: what it evaluates, in a few words.
        state: ``fresh``, ``stale`` or ``missing``.
        changed: the digests that changed since.
        id: of the evidence; empty when it is missing.
        created: when, ISO 8601; empty when it is missing.
        seconds: how long it took; 0 when it is missing.
    """

    name: str
    description: str
    state: Literal["fresh", "stale", "missing"]
    changed: tuple[str, ...] = ()
    id: str = ""
    created: str = ""
    seconds: float = 0.0


def _nothing() -> Sequence[Finding]:
    return ()


def _no_suites() -> Sequence[SuiteEvidence]:
    return ()


def _no_card() -> str:
    return ""


def _no_bom() -> bytes:
    return b""


def _as_measured(name: str, evidence: Evidence) -> Sequence[Finding]:
    return evidence.findings


@dataclass
class GovernContext:
    """One release in its store. Stages do not import one another, so what other stages measure comes as functions.

    Attributes:
        store: holds everything.
        release: the release.
        verify_release: the checks of ``clerestory release verify``.
        suite_evidence: the state of every suite of the evaluation.
        model_card: the model card as it is written from the record.
        bill_of_materials: the CycloneDX bill of materials as it is written from the record.
        audit_findings: the findings of an audit of the data of a name, those as ``accepted`` that a person accepts.
    """

    store: Store
    release: Release
    verify_release: Callable[[], Sequence[Finding]] = _nothing
    suite_evidence: Callable[[], Sequence[SuiteEvidence]] = _no_suites
    model_card: Callable[[], str] = _no_card
    bill_of_materials: Callable[[], bytes] = _no_bom
    audit_findings: Callable[[str, Evidence], Sequence[Finding]] = _as_measured
    _codes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def release_findings(self) -> tuple[Finding, ...]:
        """The checks of the release, run once for all verifiers."""
        return tuple(self.verify_release())

    @cached_property
    def suites(self) -> dict[str, SuiteEvidence]:
        """The suites by name, read once."""
        return {suite.name: suite for suite in self.suite_evidence()}

    @cached_property
    def records(self) -> tuple[JournalRecord, ...]:
        """The journal, read once."""
        return tuple(self.store.journal.records())

    @cached_property
    def journal_findings(self) -> tuple[Finding, ...]:
        """Every sign of tampering with the journal."""
        return tuple(self.store.journal.verify() + self.store.database.verify())

    @cached_property
    def evaluation(self) -> Evidence | None:
        """The evaluation that the release rests on, or the newest one of its model."""
        for each in self.release.evidence:
            evidence = self.store.evidence(each)
            if evidence.kind == "evaluate" and evidence.subject.model == self.release.model:
                return evidence
        return next(iter(self.store.find_evidence("evaluate", model=self.release.model)), None)

    @property
    def evaluated_data(self) -> str:
        """Digest of the data of that evaluation; empty without one."""
        return self.evaluation.subject.data if self.evaluation else ""

    @cached_property
    def training(self) -> Evidence | None:
        """The training or fine-tuning of the model, if it happened in this store."""
        found = (e for kind in ("train", "tune") for e in self.store.find_evidence(kind, model=self.release.model))
        return next(found, None)

    def data_name(self, digest: str) -> str:
        """The name under which data was added to the store; empty if it was not."""
        current = next((row.name for row in self.store.datasets() if row.digest == digest), "")
        events = (record.event for record in self.records if record.event.kind == "data_added")
        return next((event.subject for event in events if event.details.get("digest") == digest), current)

    def data_option(self) -> str:
        """`` --data NAME`` of the evaluated data; empty if it has no name."""
        name = self.data_name(self.evaluated_data)
        return f" --data {quote(name)}" if name else ""

    def changed(self, evidence: Evidence) -> tuple[str, ...]:
        """The digests of evidence of a whole stage that are no longer the current ones."""
        kind = evidence.kind
        if kind not in self._codes:
            self._codes[kind] = stage_code(kind)
        subject = evidence.subject
        current = Subject(subject.model, subject.data, self._codes[kind], subject.config, environment_digest())
        return subject.differing_fields(current)


def describe_changes(changed: Sequence[str]) -> str:
    """``other data and a different version of the code``."""
    return " and ".join(CHANGES[name] for name in changed)
