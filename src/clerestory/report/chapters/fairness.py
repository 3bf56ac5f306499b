"""Fairness: does it treat groups alike?"""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName, chance_fact
from clerestory.report import format
from clerestory.report.chapters.classification import chance_level
from clerestory.report.chapters.common import hundred, pick, why_not
from clerestory.report.metric_figures import MAX_BARS, UNKNOWN, bars, slug
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter, Figure, TableView
from clerestory.stats.metrics import metric

PEOPLE = ("skin_tone", "gender", "age", "ethnicity", "race")
GROUP_METRICS = ("worst_group", "largest_gap", "equalised_odds")
SEARCH_METRICS = ("max_skew@{k}", "ndkl")
SMALL_GROUP = "CLR-E022"
LEAD = (
    "Groups are compared on pictures of the same concepts, by zero-shot accuracy. Where two whiskers overlap, the "
    "difference may be due to chance. Equalised odds is the largest difference between groups in how often a class is "
    "recognised or wrongly predicted."
)


def chapter(data: ReportData) -> Chapter:
    """Accuracy of each value of each group, the worst of them, and over-representation in neutral searches."""
    title, short, evidence = "Fairness: does it treat groups alike?", "Fairness", data.evaluation
    figures = _figures(evidence) if evidence else ()
    if evidence is None or not figures:
        absent = why_not(evidence, "fairness", data.name, "Fairness was not evaluated.")
        return Chapter("fairness", title, short, 80, "fairness", absent=(absent,))
    return Chapter(
        "fairness", title, short, 80, "fairness", _answer(evidence), LEAD, figures, tables=_tables(evidence),
        warnings=_warnings(evidence),
    )  # fmt: skip


def _warnings(evidence: Evidence) -> tuple[str, ...]:
    """What was too small to measure, each once with the groups concerned."""
    groups: dict[str, list[str]] = {}
    for f in evidence.findings:
        if f.code == SMALL_GROUP and f.state == "not_run":
            named = "" if f.details.text("value") else format.slice_value("group", f.details.text("group"))
            groups.setdefault(format.sentence(f.message), []).append(named)
    return tuple(_prefixed(list(dict.fromkeys(filter(None, names))), message) for message, names in groups.items())


def _prefixed(groups: list[str], message: str) -> str:
    return f"{format.capital(format.listing(groups))}: {message}" if groups else message


def _groups(evidence: Evidence) -> list[tuple[str, str]]:
    """Every (group, split) that was compared, people first."""
    found = dict.fromkeys(
        (m.slice["group"], m.slice["split"])
        for m in evidence.measurements
        if m.name == "accuracy" and {"group", "value", "split"} <= set(m.slice)
    )
    return sorted(found, key=lambda key: (PEOPLE.index(key[0]) if key[0] in PEOPLE else len(PEOPLE), key))


def _group_metric(evidence: Evidence, name: str, group: str, split: str) -> Measurement | None:
    return next(
        (
            m
            for m in evidence.measurements
            if m.name == name and m.slice.get("group") == group and m.slice.get("split") == split
        ),
        None,
    )


def _answer(evidence: Evidence) -> str:
    parts = []
    for group, split in _groups(evidence):
        gap = _group_metric(evidence, "largest_gap", group, split)
        if gap is None:
            continue
        ends = f" (between {100 * gap.interval.low:.0f} and {100 * gap.interval.high:.0f})" if gap.interval else ""
        parts.append(f"{100 * gap.value:.0f} percentage points by {format.slice_value('group', group)}{ends}")
    return f"The largest accuracy gaps between groups: {format.listing(parts)}." if parts else ""


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    return tuple(_figure(evidence, group, split) for group, split in _groups(evidence))


def _figure(evidence: Evidence, group: str, split: str) -> Figure:
    found = pick(evidence, "accuracy", "value", "task", group=group, split=split)
    found.sort(key=lambda m: (-m.value, m.slice["value"]))
    shown = [(_label(group, m.slice["value"]), m) for m in found[:MAX_BARS]]
    note = []
    worst, gap = (_group_metric(evidence, name, group, split) for name in ("worst_group", "largest_gap"))
    if worst is not None:
        lowest = min(found, key=lambda m: m.value)
        note.append(f"Worst group: {_label(group, lowest.slice['value'])}, {hundred(worst)}.")
    if gap is not None:
        note.append(f"Largest gap: {format.number(gap)}.")
    small = _too_small(evidence, group)
    if small:
        note.append(f"Too small to measure: {format.listing(small)}.")
    if len(found) > len(shown):
        note.append(f"{format.plural(len(found) - len(shown), 'more bar')} among the measurements below.")
    title = f"Accuracy by {format.slice_value('group', group)}"
    axis = "of 100 pictures, correct"
    name = f"group-{slug(group)}-{slug(split)}"
    return bars(name, title, [("", shown)], evidence, " ".join(note), axis, chance_level(evidence))


def _label(group: str, value: str) -> str:
    if value in format.NO_VALUE:
        return format.group_value(group, value)
    return format.slice_value("style", value) if group == "style" else value.replace("_", " ")


def _too_small(evidence: Evidence, group: str) -> list[str]:
    """The values of a group that have too few samples to be measured."""
    found = (f.details for f in evidence.findings if f.code == SMALL_GROUP)
    return [_label(group, d.text("value")) for d in found if d.get("group") == group and d.text("value")]


def _row(evidence: Evidence, group: str, split: str) -> tuple[str, ...]:
    found = [_group_metric(evidence, name, group, split) for name in GROUP_METRICS]
    values = [format.number(m) if m else UNKNOWN for m in found]
    n = next((format.counted(m) for m in found if m), UNKNOWN)
    return (format.slice_value("group", group), *values, n)


def _tables(evidence: Evidence) -> tuple[TableView, ...]:
    tables = []
    rows = tuple(_row(evidence, *key) for key in _groups(evidence))
    head = ("Groups by", "Worst-group accuracy", "Largest accuracy gap", "Equalised odds", "Samples")
    if rows:
        tables.append(TableView("Differences between groups (of gaps and odds, 0 is best)", head, rows))
    searches = [
        m
        for base in SEARCH_METRICS
        for m in evidence.measurements
        if metric(m.name).base == base and set(m.slice) == {"task", "group"}
        and m.slice["task"] == TaskName.NEUTRAL_SEARCH
    ]  # fmt: skip
    if searches:
        rows = tuple(
            (
                metric(m.name).title,
                format.slice_value("group", m.slice["group"]),
                format.number(m),
                _random_order(evidence, m),
                format.counted(m),
            )
            for m in searches
        )
        head = ("Metric", "Groups by", "Value and interval", "In random order", "Samples")
        tables.append(TableView("Searches that name no group (0 is proportional)", head, rows))
    return tuple(tables)


def _random_order(evidence: Evidence, m: Measurement) -> str:
    name = chance_fact(m.name, m.slice["group"])
    return format.digits(evidence.facts.number(name)) if name in evidence.facts else UNKNOWN
