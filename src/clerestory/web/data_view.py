"""The datasets of the store and the findings of their audits, as the pages show them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clerestory.apps.acceptance import concerned_samples, dataset_acceptances, describe_state, is_open
from clerestory.apps.audit_report import AuditFinding, audit_findings, audit_page, safe_text
from clerestory.apps.audit_topics import topic_of
from clerestory.apps.data_fix.rules import RULE_OF, FixRule
from clerestory.core.errors import ClerestoryError, not_found
from clerestory.core.evidence import Evidence
from clerestory.core.findings import finding_codes
from clerestory.core.provenance import stage_code
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.report import format
from clerestory.report.audit_page import render_audit
from clerestory.stages.audit.run import KIND, Audit, read_audit
from clerestory.store import Store
from clerestory.store.catalog import DatasetRow
from clerestory.web.labels import FINDINGS, StateLabel

NOT_AUDITED = StateLabel("Not audited", "dot", "soft")
_LABELS = {**FINDINGS, "fail": StateLabel("Problem", "no", "no"), "pass": StateLabel("Note", "dot", "soft")}
MAX_PAGES = 4  # contact sheets in memory, each at most 5 MB


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """What the newest audit of a dataset says.

    Attributes:
        evidence: of the audit.
        is_current: whether the present code would give the same.
        problems, warnings, accepted: how many findings there are of each.
    """

    evidence: Evidence
    is_current: bool
    problems: int
    warnings: int
    accepted: int

    @property
    def label(self) -> StateLabel:
        """The result in a few words, with a colour."""
        if self.problems:
            return StateLabel(format.plural(self.problems, "problem"), "no", "no")
        if self.warnings:
            return StateLabel(format.plural(self.warnings, "warning"), "unsure", "unsure")
        return StateLabel("Nothing open", "yes", "yes")


@dataclass(frozen=True, slots=True)
class DatasetLine:
    """One dataset of the list; ``audit`` is None if it was not audited as it is now."""

    row: DatasetRow
    audit: AuditSummary | None

    @property
    def label(self) -> StateLabel:
        """The state of its audit."""
        return self.audit.label if self.audit else NOT_AUDITED


@dataclass(frozen=True, slots=True)
class FindingCard:
    """One finding of an audit.

    Attributes:
        anchor: on the page, and of the contact sheet.
        label: its state for people.
        code, title, message, why, fix: as the report of the audit has them.
        extent: how many images it concerns.
        acceptance: sentences about its acceptances.
        can_accept: whether it is open, so that a person can accept it.
        can_withdraw: whether an acceptance holds.
        rule: the fix that a program can make; None if there is none or nothing is open.
        total: how many images all findings of this code concern; an acceptance and a fix are for all of them.
    """

    anchor: str
    label: StateLabel
    code: str
    title: str
    message: str
    why: str
    fix: str
    extent: str
    acceptance: tuple[str, ...]
    can_accept: bool
    can_withdraw: bool
    rule: FixRule | None
    total: int = 0


@dataclass(frozen=True, slots=True)
class DatasetPage:
    """A dataset with the findings of its newest audit, the open ones first."""

    row: DatasetRow
    audit: AuditSummary | None
    findings: tuple[FindingCard, ...] = ()

    @property
    def fixes(self) -> tuple[FindingCard, ...]:
        """The open findings that a program can fix, each code once."""
        return tuple({card.code: card for card in self.findings if card.rule is not None}.values())


def dataset_lines(store: Store) -> list[DatasetLine]:
    """Every dataset of the store, by name."""
    return [DatasetLine(row, _summary(store, row)) for row in store.datasets()]


def dataset_row(store: Store, name: str) -> DatasetRow:
    """A dataset by its name.

    Raises:
        NotFound: the store has no dataset of this name.
    """
    rows = {row.name: row for row in store.datasets()}
    if name not in rows:
        raise not_found("dataset", name, rows)
    return rows[name]


def dataset_page(store: Store, name: str) -> DatasetPage:
    """A dataset with its findings; its images are not opened.

    Raises:
        NotFound: the store has no dataset of this name.
    """
    row = dataset_row(store, name)
    evidence = newest_audit(store, row)
    if evidence is None:
        return DatasetPage(row, None)
    found = _findings(store, row, read_audit(evidence, store)[0])
    used: Counter[str] = Counter()
    totals = {code: own.count for code, own in concerned_samples(evidence, store).items()}
    cards = tuple(_card(each, row, used, totals) for each in found)
    return DatasetPage(row, _counted(evidence, found), cards)


def newest_audit(store: Store, row: DatasetRow) -> Evidence | None:
    """The newest audit of exactly this version of a dataset."""
    audits = store.find_evidence(KIND, data=row.digest)
    return audits[0] if audits else None


def _summary(store: Store, row: DatasetRow) -> AuditSummary | None:
    evidence = newest_audit(store, row)
    return _counted(evidence, _findings(store, row, read_audit(evidence, store)[0])) if evidence else None


def _findings(store: Store, row: DatasetRow, audit: Audit) -> list[AuditFinding]:
    return audit_findings(audit.evidence, audit.detections, dataset_acceptances(store, row.name))


def _counted(evidence: Evidence, found: Sequence[AuditFinding]) -> AuditSummary:
    counts = Counter(each.finding.state for each in found)
    is_current = evidence.subject.code == stage_code(KIND)
    return AuditSummary(evidence, is_current, counts["fail"], counts["warn"], counts["accepted"])


def _card(each: AuditFinding, row: DatasetRow, used: Counter[str], totals: Mapping[str, int]) -> FindingCard:
    finding = each.finding
    code = finding_codes()[finding.code]
    used[finding.code] += 1
    number = used[finding.code]
    return FindingCard(
        anchor=finding.code.lower() if number == 1 else f"{finding.code.lower()}-{number}",
        label=_LABELS[finding.state],
        code=finding.code,
        title=format.capital(code.title),
        message=format.sentence(safe_text(finding.message)),
        why=topic_of(finding.code).why if is_open(finding) else "",
        fix=format.sentence(safe_text(finding.fix)),
        extent=_extent(each, row),
        acceptance=tuple(format.sentence(safe_text(line)) for line in describe_state(each.acceptance)),
        # One form for each code: a decision is for all its findings.
        can_accept=is_open(finding) and number == 1,
        can_withdraw=bool(each.acceptance.holding) and number == 1,
        rule=RULE_OF.get(finding.code) if is_open(finding) else None,
        total=totals.get(finding.code, each.count),
    )


def _extent(each: AuditFinding, row: DatasetRow) -> str:
    """How many images a finding concerns; a finding of the source may be about something else, such as columns."""
    if not each.detection:
        return format.plural(each.count, "case") if each.count else ""
    return f"{format.images(each.count)} ({each.share(row.size)})" if each.count and row.size else ""


@dataclass(slots=True)
class ContactSheets:
    """The pages with the images of the findings; making one opens the data, so the last few are kept."""

    store: Store
    _pages: dict[tuple[str, ...], str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def page(self, name: str, served: Dataset | None) -> str:
        """The HTML of the newest audit of a dataset, with its acceptances as they are now.

        Args:
            name: of the dataset.
            served: the dataset of the server, which is open already.

        Raises:
            NotFound: the store has no such dataset, or it was not audited.
            DataError: its images cannot be opened, or are others now.
        """
        row = dataset_row(self.store, name)
        evidence = newest_audit(self.store, row)
        if evidence is None:
            raise not_found("audit of the dataset", name, ())
        given = dataset_acceptances(self.store, name)
        key = (evidence.id, name, *(f"{each.record} {each.expires}" for each in given))
        with self._lock:
            if key not in self._pages:
                result, config = read_audit(evidence, self.store)
                data = served if served is not None and served.digest == row.digest else _opened(row)
                html = render_audit(audit_page(data, result, config, given=given))
                self._pages = dict([*self._pages.items(), (key, html)][-MAX_PAGES:])
            return self._pages[key]


def _opened(row: DatasetRow) -> Dataset:
    data = open_data(row.spec)
    if data.digest != row.digest:
        raise ClerestoryError(
            f"the content of the dataset {row.name!r} has changed since it was added", "add it again, and audit it"
        )
    data.name = row.name
    return data


def chosen_codes(form: Mapping[str, str]) -> tuple[str, ...]:
    """The codes whose boxes are ticked in the form of fixes."""
    return tuple(name.removeprefix("fix-") for name in form if name.startswith("fix-"))
