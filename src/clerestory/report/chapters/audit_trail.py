"""What the numbers rest on and what happened: findings, evidence, history, journal."""

from __future__ import annotations

import re
from collections import defaultdict

from clerestory.core.digest import short
from clerestory.core.evidence import Finding
from clerestory.report import format, headline, metric_figures
from clerestory.report.model import Entry, Held, ReportData
from clerestory.report.view import EvidenceView, FindingView, HistoryRow, JournalRow

MOST_PER_CODE, MOST_JOURNAL = 8, 60
# What speaks against a benchmark: blindly solvable, seen, too small, repeated, idle, doubtful labels, unanswered.
BENCHMARKS = frozenset(f"CLR-E06{i}" for i in range(7))
_FINDING_STATES = {
    "pass": ("yes", "fine"),
    "fail": ("no", "problem"),
    "warn": ("unsure", "look at this"),
    "not_applicable": ("plain", "does not apply"),
    "not_run": ("unsure", "not examined"),
    "accepted": ("plain", "accepted by a person"),
}


def noticed(findings: tuple[Finding, ...], judged: bool = False) -> tuple[tuple[FindingView, ...], str]:
    """What was noticed, problems first, and a note on what is left out here.

    Args:
        findings: all of them.
        judged: whether the page gives the reasons against benchmarks by themselves, so that they need not stand twice.
    """
    told = sum(judged and f.code in BENCHMARKS for f in findings)
    findings = tuple(f for f in findings if not (judged and f.code in BENCHMARKS))
    shown: list[FindingView] = []
    seen: dict[str, int] = defaultdict(int)
    order = {"fail": 0, "warn": 1, "not_run": 2, "accepted": 3, "not_applicable": 4, "pass": 5}
    for f in sorted(findings, key=lambda f: order[f.state]):
        seen[f.code] += 1
        if seen[f.code] <= MOST_PER_CODE:
            state, words = _FINDING_STATES[f.state]
            shown.append(FindingView(state, words, f.code, f.where, format.sentence(f.message), format.sentence(f.fix)))
    more = [f"{format.count(n - MOST_PER_CODE)} more of {code}" for code, n in seen.items() if n > MOST_PER_CODE]
    notes = [f"And {format.listing(more)}; all are in the JSON."] if more else []
    notes += [f"{format.plural(told, 'finding')} about the benchmarks themselves: see Trust."] if told else []
    return tuple(shown), " ".join(notes) or ("" if shown else "Nothing was noticed.")


def evidence(held: Held, in_card: bool = False) -> EvidenceView:
    """One piece of evidence, with everything it measured; empty where the card shows that already."""
    e = held.evidence
    subject = e.subject
    named = (
        ("evidence", held.id),
        ("model", subject.model),
        ("data", subject.data),
        ("code", subject.code),
        ("settings", subject.config),
        ("environment", subject.environment),
        ("per-sample rows", e.rows),
        *((f"artifact {name}", where) for name, where in e.artifacts.items()),
    )
    facts = (
        ("Made", format.when(e.made)),
        ("Took", f"{format.duration(e.cost.seconds)}, {format.duration(e.cost.cpu_seconds)} of processor time"),
        ("Memory at most", format.memory(e.cost.peak_mib)),
        # Candidates and chance levels stand beside the numbers they belong to.
        *((n.replace("_", " "), _shown(v)) for n, v in e.facts.items() if not n.startswith(("chance.", "candidates."))),
    )
    state, words = ("unsure", "out of date") if held.changed else ("yes", "holds")
    return EvidenceView(
        anchor=f"evidence-{short(held.id)}",
        title=f"{format.kind(e.kind).capitalize()} {short(held.id)}",
        id=held.id,
        state=state,
        words=words,
        facts=facts,
        digests=tuple((name, value) for name, value in named if value),
        measurements=metric_figures.table(
            e, () if in_card else e.measurements, f"Everything measured: {len(e.measurements)}"
        ),
        in_card=in_card,
    )


def history(data: ReportData) -> tuple[HistoryRow, ...]:
    """Every release of the line, newest first."""
    return tuple(
        HistoryRow(
            ref=r.ref,
            state=headline.STATES[r.decision.verdict],
            words=format.verdict(r.decision.verdict).title,
            aliases=tuple(a.alias for a in data.aliases if a.number == r.number),
            model=short(r.model),
            who=r.who,
            why=r.why,
            when=format.when(r.when),
            current=data.release is not None and r.number == data.release.number,
        )
        for r in data.history
    )


def record(entry: Entry) -> JournalRow:
    """One record of the journal."""
    event = entry.event
    return JournalRow(
        seq=format.count(entry.seq),
        hash=short(entry.hash),
        when=format.when(event.when),
        who=event.who,
        did=format.event(event.kind),
        subject=_shown(event.subject),
        why=event.why,
        details=", ".join(_detail(k, v) for k, v in event.details.items() if v and not k.startswith("generation.")),
    )


def _detail(name: str, value: str) -> str:
    return (
        f"{name.removeprefix('to.')} → {value}"
        if name.startswith("to.")
        else f"{name.replace('_', ' ')} {_shown(value)}"
    )


def _shown(value: str) -> str:
    """A digest by its first characters, anything else as it is; the whole of it is in the JSON."""
    return short(value) if re.fullmatch(r"[0-9a-f]{64}", value) else value


def journal_note(journal: tuple[Entry, ...]) -> str:
    """How much of the journal is shown."""
    if not journal:
        return "The journal holds nothing about this model."
    if len(journal) > MOST_JOURNAL:
        return f"The newest {MOST_JOURNAL} of {format.plural(len(journal), 'record')}; all are in the JSON."
    return f"{format.plural(len(journal), 'record')}, newest first. Each carries the hash of the one before it."
