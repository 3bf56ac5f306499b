"""Is it fair: does it treat groups alike?"""

from __future__ import annotations

import re

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format, metric_figures
from clerestory.report.chapters.classification import guessing
from clerestory.report.chapters.common import bars, hundred, pick, why_not
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter, Figure, Table

PEOPLE = ("skin_tone", "gender", "age", "ethnicity", "race")
SUMS = ("worst_group", "largest_gap", "equalised_odds")
SEARCHES = ("max_skew@10", "ndkl")
TOO_SMALL = "CLR-E022"


def chapter(data: ReportData) -> Chapter:
    """Accuracy of each value of each group, the worst of them, and who comes first in neutral searches."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    title, short = "Is it fair to groups?", "Fairness"
    figures = _figures(evidence) if evidence else ()
    if evidence is None or not figures:
        absent = why_not(evidence, "bias", data.name, "Whether it treats groups alike was not examined.")
        return Chapter("groups", title, short, absent=(absent,))
    lead = (
        "Groups are compared on pictures of the same things, sorted into classes by the classes’ names. Where two "
        "whiskers overlap, the difference may be luck. Equalised odds is the largest difference between groups in how "
        "often a class is found or wrongly claimed."
    )
    small = [format.sentence(f.message) for f in evidence.findings if f.code == TOO_SMALL and f.state == "not_run"]
    return Chapter(
        "groups", title, short, _answer(evidence), lead, figures, tables=_tables(evidence), warnings=tuple(small)
    )


def _groups(evidence: Evidence) -> list[tuple[str, str]]:
    """Every (group, split) that was compared, people first."""
    found = dict.fromkeys(
        (m.slice["group"], m.slice["split"])
        for m in evidence.measurements
        if m.name == "accuracy" and {"group", "value", "split"} <= set(m.slice)
    )
    return sorted(found, key=lambda key: (PEOPLE.index(key[0]) if key[0] in PEOPLE else len(PEOPLE), key))


def _sum(evidence: Evidence, name: str, group: str, split: str) -> Measurement | None:
    return next(
        (
            m
            for m in evidence.measurements
            if m.name == name and dict(m.slice) | {"group": group, "split": split} == dict(m.slice)
        ),
        None,
    )


def _answer(evidence: Evidence) -> str:
    parts = []
    for group, split in _groups(evidence):
        gap = _sum(evidence, "largest_gap", group, split)
        if gap is None:
            continue
        low = f" between {100 * gap.interval.low:.0f} and {100 * gap.interval.high:.0f}" if gap.interval else ""
        parts.append(
            f"{100 * gap.value:.0f} points by {format.slice_value('group', group)}{low and f' ({low.strip()})'}"
        )
    return f"The largest gaps in right answers of 100: {format.listing(parts)}." if parts else ""


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    return tuple(_figure(evidence, group, split) for group, split in _groups(evidence))


def _figure(evidence: Evidence, group: str, split: str) -> Figure:
    found = pick(evidence, "accuracy", "value", "task", group=group, split=split)
    found.sort(key=lambda m: (-m.value, m.slice["value"]))
    marks = [(_label(group, m.slice["value"]), m) for m in found[: metric_figures.MOST_BARS]]
    title = f"By {format.slice_value('group', group)}"
    note = []
    worst, gap = (_sum(evidence, name, group, split) for name in ("worst_group", "largest_gap"))
    if worst is not None:
        least = min(found, key=lambda m: m.value)
        note.append(f"Worst group: {_label(group, least.slice['value'])}, {hundred(worst)}.")
    if gap is not None:
        note.append(f"Largest gap: {format.number(gap)}.")
    small = _suppressed(evidence, group)
    if small:
        note.append(f"Too few to say anything: {format.listing(small)}.")
    if len(found) > len(marks):
        note.append(f"{format.plural(len(found) - len(marks), 'bar')} more among the numbers below.")
    name = f"group-{metric_figures.slug(group)}-{metric_figures.slug(split)}"
    return bars(
        name, title, [("", marks)], evidence, " ".join(note), "of 100 pictures, sorted rightly", guessing(evidence)
    )


def _label(group: str, value: str) -> str:
    if value in ("none", ""):
        return "no value"
    return format.slice_value("style", value) if group == "style" else value.replace("_", " ")


def _suppressed(evidence: Evidence, group: str) -> list[str]:
    """The values of a group that were named and not measured."""
    found = []
    for f in evidence.findings:
        if f.code == TOO_SMALL and re.search(rf"\bgroup={re.escape(group)}(,|$)", f.where):
            value = re.search(r"\bvalue=([^,]+)", f.where)
            found += [_label(group, value[1])] if value else []
    return found


def _row(evidence: Evidence, group: str, split: str) -> tuple[str, ...]:
    sums = [_sum(evidence, name, group, split) for name in SUMS]
    told = [format.number(m) if m else "—" for m in sums]
    counts = next((format.counted(m) for m in sums if m), "—")
    return (format.slice_value("group", group), *told, counts)


def _tables(evidence: Evidence) -> tuple[Table, ...]:
    tables = []
    rows = tuple(_row(evidence, *key) for key in _groups(evidence))
    head = ("Groups by", "Worst group, right answers", "Largest gap", "Equalised odds", "Counted on")
    if rows:
        tables.append(Table("Worst groups and gaps (of a gap, 0 is best)", head, rows))
    searches = [m for name in SEARCHES for m in pick(evidence, name, "group", task="bias_search")]
    if searches:
        rows = tuple(
            (
                format.metric(m.name).title,
                format.slice_value("group", m.slice["group"]),
                format.number(m),
                evidence.facts.get(f"chance.{m.name}.{m.slice['group']}", "—"),
                format.counted(m),
            )
            for m in searches
        )
        head = ("What", "Groups by", "Value and interval", "In random order", "Counted on")
        tables.append(Table("Who comes first when nobody is named (0 is even)", head, rows))
    return tuple(tables)
