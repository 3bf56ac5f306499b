"""The audit trail: findings, evidence, release history and journal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import short
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.findings import finding_codes
from clerestory.core.units import duration, memory
from clerestory.report import format, headline
from clerestory.report.metric_figures import table
from clerestory.report.model import EvidenceRecord, JournalEntry, ReportData
from clerestory.report.view import EvidenceView, FindingView, JournalRow, ReleaseRow

MAX_PER_CODE, MAX_PLACES, MAX_JOURNAL = 6, 8, 60
# The detail that names the benchmarks a finding is about.
BENCHMARKS = "benchmarks"
_STATES = {
    "fail": ("no", "problem"),
    "warn": ("unsure", "warning"),
    "not_run": ("unsure", "not evaluated"),
    "accepted": ("plain", "accepted by a person"),
    "not_applicable": ("plain", "does not apply"),
    "pass": ("yes", "fine"),
}
# Facts that are listed beside the numbers they are about.
_BESIDE_NUMBERS = ("chance.", "candidates.")
# Keys of a journal record: the release that an alias was moved to, and the alias's generation.
_MOVED_TO, _GENERATION = "to.", "generation."
_DIGEST = re.compile(r"[0-9a-f]{64}")


def finding_views(findings: tuple[Finding, ...], validity_shown: bool = False) -> tuple[tuple[FindingView, ...], str]:
    """Findings, problems first, and a note on those left out here.

    Args:
        findings: all of them.
        validity_shown: whether the page lists the reasons against benchmarks elsewhere, so that they are left out.
    """
    elsewhere = sum(validity_shown and BENCHMARKS in f.details for f in findings)
    listed = [f for f in findings if not (validity_shown and BENCHMARKS in f.details)]
    shown: list[FindingView] = []
    seen: dict[str, int] = defaultdict(int)
    order = list(_STATES)
    # The same sentence about several places is said once.
    alike: dict[tuple[str, str, str, str], list[Finding]] = {}
    for f in sorted(listed, key=lambda f: order.index(f.state)):
        alike.setdefault((f.state, f.code, f.message, f.fix), []).append(f)
    for (_, code, _, _), group in alike.items():
        seen[code] += 1
        if seen[code] <= MAX_PER_CODE:
            shown.append(_finding(group[0], _places(group)))
    more = [f"{format.count(n - MAX_PER_CODE)} more of {code}" for code, n in seen.items() if n > MAX_PER_CODE]
    notes = [f"And {format.listing(more)}; all are in the JSON."] if more else []
    notes += [f"{format.plural(elsewhere, 'finding')} about benchmarks: see Validity."] if elsewhere else []
    return tuple(shown), " ".join(notes) or ("" if shown else "There are no findings.")


def _places(group: list[Finding]) -> str:
    """Where some findings of one kind are, the first few by name."""
    rest = len(group) - MAX_PLACES
    named = ", ".join(f.where for f in group[:MAX_PLACES])
    return f"{named} and {format.plural(rest, 'other place')}" if rest > 0 else named


def _finding(f: Finding, where: str) -> FindingView:
    state, label = _STATES[f.state]
    known = finding_codes().get(f.code)
    title = format.capital(known.title) if known else f.code
    return FindingView(state, label, f.code, title, where, format.sentence(f.message), format.sentence(f.fix))


def evidence_view(record: EvidenceRecord, listed_by_topic: bool = False) -> EvidenceView:
    """One piece of evidence with its measurements, unless the page lists them by topic."""
    e = record.evidence
    subject = e.subject
    named = (
        ("evidence", record.id),
        ("model", subject.model),
        ("data", subject.data),
        ("code", subject.code),
        ("settings", subject.config),
        ("environment", subject.environment),
        ("per-sample rows", e.rows),
        *((f"artifact {name}", digest) for name, digest in e.artifacts.items()),
    )
    facts = (
        ("Produced", format.when(e.created)),
        ("Took", f"{duration(e.cost.seconds)}, {duration(e.cost.cpu_seconds)} of CPU time"),
        ("Peak memory", memory(e.cost.peak_mib)),
        *_facts(e),
    )
    state, label = ("unsure", "out of date") if record.changed else ("yes", "up to date")
    return EvidenceView(
        anchor=f"evidence-{short(record.id)}",
        title=f"{format.capital(format.kind(e.kind))} {short(record.id)}",
        id=record.id,
        state=state,
        label=label,
        facts=facts,
        digests=tuple((name, value) for name, value in named if value),
        measurements=table(e, () if listed_by_topic else e.measurements, f"All {len(e.measurements)} measurements"),
        listed_by_topic=listed_by_topic,
    )


def _facts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name, value in evidence.facts.items():
        if not name.startswith(_BESIDE_NUMBERS):
            yield name.replace("_", " "), fact_in_words(value)


def fact_in_words(value: Fact) -> str:
    """A fact as text: yes or no, a number with thousands separators, a list, a digest by its first characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format.count(value)
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, tuple):
        return ", ".join(fact_in_words(item) for item in value)
    return short(value) if _DIGEST.fullmatch(value) else value


def release_rows(data: ReportData) -> tuple[ReleaseRow, ...]:
    """Every release of the name, newest first."""
    return tuple(
        ReleaseRow(
            ref=r.ref,
            state=headline.STATES[r.decision.verdict],
            label=format.verdict(r.decision.verdict).title,
            aliases=tuple(a.alias for a in data.aliases if a.number == r.number),
            model=short(r.model),
            who=r.who,
            why=r.why,
            when=format.when(r.when),
            current=data.release is not None and r.number == data.release.number,
        )
        for r in data.history
    )


def journal_row(entry: JournalEntry) -> JournalRow:
    """One record of the journal."""
    event = entry.event
    return JournalRow(
        seq=format.count(entry.seq),
        hash=short(entry.hash),
        when=format.when(event.when),
        who=event.who,
        did=format.event(event.kind),
        subject=fact_in_words(event.subject),
        why=event.why,
        details=", ".join(_details(event.details)),
    )


def _details(details: Tags) -> Iterator[str]:
    for name, value in details.items():
        if name.startswith(_MOVED_TO):
            yield f"{name.removeprefix(_MOVED_TO)} → {value}"
        elif value and not name.startswith(_GENERATION):
            yield f"{name.replace('_', ' ')} {fact_in_words(value)}"


def journal_note(journal: tuple[JournalEntry, ...], total: int) -> str:
    """How much of the journal is shown."""
    if not journal:
        return "The journal has no record about this model."
    if len(journal) > MAX_JOURNAL:
        return f"The newest {MAX_JOURNAL} of {format.plural(len(journal), 'record')}; all are in the JSON."
    number = format.plural(len(journal), "record")
    if total > len(journal):
        rest = "the others are about other models and data"
        shown = f"{number} of the {format.count(total)} in the journal, those about this model, newest first"
        return f"{shown}; {rest}. Each record contains the hash of the one before it."
    return f"{number}, newest first. Each contains the hash of the one before it."
