"""The whole page from what is known of a model."""

from __future__ import annotations

import re
from collections import defaultdict

from clerestory.core.digest import short
from clerestory.core.measure import Evidence, Finding, Measurement
from clerestory.report import charts, format, quality, story
from clerestory.report.charts import Line
from clerestory.report.nouns import Data, Entry, Example, Held, ReportData, Series, Training, Written
from clerestory.report.view import (
    DataView,
    EvidenceView,
    ExampleGroup,
    ExampleView,
    Figure,
    FindingView,
    HistoryRow,
    JournalRow,
    NeighbourView,
    Page,
    Table,
    WrittenGroup,
    WrittenView,
)

MOST_PER_CODE, MOST_JOURNAL, MOST_STEPS = 8, 60, 24
_CHANGED = {
    "code": "by other code than is installed now",
    "environment": "with other library versions or on another kind of machine",
}
_GRADES = {"best": 0, "typical": 1, "worst": 2}
_SERIES = {"loss": "whole", "contrastive": "matching", "caption": "writing"}
_FINDING_STATES = {
    "pass": ("yes", "fine"),
    "fail": ("no", "problem"),
    "warn": ("unsure", "look at this"),
    "not_applicable": ("plain", "does not apply"),
    "not_run": ("unsure", "not examined"),
    "accepted": ("plain", "accepted by a person"),
}


def build(data: ReportData) -> Page:
    """Everything the page shows, from everything that is known; nothing else enters."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    comparison, comparison_note = _comparison(data)
    findings, findings_note = _findings(data.findings)
    return Page(
        title=f"{data.name}: may it ship?",
        ref=data.name,
        model=data.model,
        answer=story.answer(data),
        highlights=story.highlights(data),
        notices=_notices(data),
        policy=data.release.decision.policy if data.release else "",
        reasons=story.reasons(data),
        learning=_learning(data.training) if data.training else (),
        learning_note=_learning_note(data),
        quality=quality.recall_figures(evidence) if evidence else (),
        weak=quality.slice_figures(evidence) if evidence else (),
        captions=quality.caption_figures(evidence) if evidence else (),
        speed=quality.speed_figures(evidence) if evidence else (),
        examples=_examples(data.examples),
        written=_written(data.written),
        comparison=comparison,
        comparison_note=comparison_note,
        findings=findings,
        findings_note=findings_note,
        data=_data(data.data) if data.data else None,
        evidence=tuple(_evidence(held) for held in data.evidence),
        history=_history(data),
        journal=tuple(_journal(entry) for entry in data.journal[:MOST_JOURNAL]),
        journal_note=_journal_note(data.journal),
        check=f"clerestory release verify {data.release.ref}" if data.release else "",
    )


def _notices(data: ReportData) -> tuple[str, ...]:
    stale = [
        f"The {format.kind(h.evidence.kind)} {short(h.id)} was made {_changed(h.changed)}: it is out of date, and so "
        "is what rests on it."
        for h in data.evidence
        if h.changed
    ]
    return tuple(stale) + tuple(f"Not shown: {m.rstrip('.')}." for m in data.missing)


def _changed(names: tuple[str, ...]) -> str:
    return format.listing([_CHANGED.get(name, f"for another {name}") for name in names])


def _learning(training: Training) -> tuple[Figure, ...]:
    mark = (float(training.early_step), "early checkpoint") if training.early_step else None
    figures = [_curve("loss", "What training tries to make small", training.losses, mark, 1)]
    if training.validation:
        title = "Of 100 tuning pictures, how many it gets right"
        figures.append(_curve("validation", title, training.validation, mark, 100))
    return tuple(figures)


def _curve(name: str, title: str, series: tuple[Series, ...], mark: tuple[float, str] | None, times: int) -> Figure:
    lines = [
        Line(_series_words(s.name), tuple((float(x), times * y) for x, y in s.points), "main" if i == 0 else f"part{i}")
        for i, s in enumerate(series)
    ]
    desc = "; ".join(f"{_series_words(s.name)} {_from_to(s, times)}" for s in series)
    svg = charts.curves(f"fig-{name}", title, desc, lines, "training step", mark)
    note = (
        f"{format.sentence(desc)} A progress log, not evidence: single steps have no interval, and no rule rests on "
        "them."
    )
    if series[0].n:
        note += f" Counted on n = {format.count(series[0].n)}."
    merged = max(s.merged for s in series)
    if merged > 1:
        note += f" Each point is the mean of {merged} logged steps."
    return Figure(f"curve-{name}", title, desc, svg, note, _curve_table(title, series))


def _curve_table(title: str, series: tuple[Series, ...]) -> Table:
    """The logged values at no more than ``MOST_STEPS`` steps, evenly spread."""
    steps = sorted({x for s in series for x, _ in s.points})
    last = len(steps) - 1
    keep = steps if last < MOST_STEPS else [steps[round(i * last / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]
    known = [dict(s.points) for s in series]
    rows = tuple(
        (format.count(step), *(format.digits(k[step], "", 3) if step in k else "—" for k in known)) for step in keep
    )
    head = ("Step", *(f"{_series_words(s.name)} ({s.name})" for s in series))
    caption = f"{title}: {len(keep)} of {format.plural(len(steps), 'point')}; all are in the JSON"
    return Table(caption, head, rows)


def _series_words(name: str) -> str:
    return _SERIES.get(name, name.removeprefix("val_").replace("recall@", "first "))


def _from_to(series: Series, times: int) -> str:
    (step, first), (end, last) = series.points[0], series.points[-1]
    start, stop = (format.digits(times * v, "", 0 if times == 100 else 2) for v in (first, last))
    return f"from {start} at step {format.count(step)} to {stop} at step {format.count(end)}"


def _learning_note(data: ReportData) -> str:
    held = data.of_kind("train")
    if held is None:
        return "There is no record of this model's training in the store."
    cost = held.evidence.cost
    made = format.when(held.evidence.made)
    text = (
        f"Trained in {format.duration(cost.seconds)} ({format.duration(cost.cpu_seconds)} of processor time), {made}."
    )
    if held.evidence.facts.get("early_model") == data.model:
        step = held.evidence.facts.get("early_step", "")
        text += " This model is the early checkpoint" + (
            f" of step {format.count(int(step))}." if step.isdigit() else "."
        )
    if data.training and data.training.unreadable:
        text += f" {format.plural(data.training.unreadable, 'line')} of the log could not be read."
    return text


def _examples(examples: tuple[Example, ...]) -> tuple[ExampleGroup, ...]:
    groups: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.split, example.task].append(example)
    return tuple(_example_group(split, task, found) for (split, task), found in groups.items())


def _example_group(split: str, task: str, found: list[Example]) -> ExampleGroup:
    title = f"{format.slice_value('task', task).capitalize()}, on {format.slice_value('split', split)}"
    return ExampleGroup(title, task == "image_to_text", tuple(_example(e) for e in _in_turn(found)))


def _in_turn(found: list[Example]) -> list[Example]:
    """One of each grade, then the next of each, so that every row of the page shows the whole range."""
    turns: dict[str, int] = defaultdict(int)
    keyed = []
    for e in found:
        keyed.append((turns[e.grade], _GRADES.get(e.grade, len(_GRADES)), e))
        turns[e.grade] += 1
    return [e for _, _, e in sorted(keyed, key=lambda item: item[:2])]


def _example(example: Example) -> ExampleView:
    place = format.digits(example.rank, "rank")
    among = f" of {format.count(example.candidates)}" if example.candidates else ""
    result = "right answer first" if example.rank == 1 else f"right answer at place {place}"
    return ExampleView(
        grade=example.grade,
        question=example.caption,
        picture=example.picture,
        sample=example.sample,
        result=f"{result}{among}",
        right=example.rank == 1,
        neighbours=tuple(
            NeighbourView(i, n.caption, n.right, n.picture) for i, n in enumerate(example.neighbours, start=1)
        ),
    )


def _written(written: tuple[Written, ...]) -> tuple[WrittenGroup, ...]:
    groups: dict[str, list[WrittenView]] = defaultdict(list)
    for w in written:
        said = {s.casefold().strip() for s in w.suggestions}
        right = w.caption.casefold().strip() in said
        groups[w.split].append(WrittenView(w.picture, w.sample, w.caption, w.suggestions, right))
    return tuple(
        WrittenGroup(f"Captions it wrote, on {format.slice_value('split', split)}", tuple(found))
        for split, found in groups.items()
    )


def _comparison(data: ReportData) -> tuple[Table | None, str]:
    """The same measurements of this model and of the rival, side by side."""
    mine = data.of_kind("evaluate")
    if data.rival is None or data.release is None or mine is None:
        return None, ""
    theirs = next((h for h in reversed(data.rival.evidence) if h.evidence.kind == "evaluate"), None)
    other = data.rival.release
    if theirs is None:
        return None, f"The examination of {other.ref} is not in the store, so the two cannot be compared."
    rows = [
        _side_by_side(m, twin)
        for m in _telling(mine.evidence)
        if (twin := theirs.evidence.find(m.name, m.slice)) is not None
    ]
    if not rows:
        return None, f"{data.name} and {other.ref} were not examined on the same questions."
    head = (
        "Measured",
        f"{other.ref} ({_standing(other.decision.verdict)})",
        data.name,
        f"{data.name} is",
        "Counted on",
    )
    note = (
        "“Better” and “worse” are said only where the two intervals do not touch, which is a cautious test. "
        f"{other.ref} was put to the gate on {format.when(other.when)} by {other.who}: “{other.why}”."
    )
    return Table(f"{data.name} beside {other.ref}", head, tuple(rows)), note


def _telling(evidence: Evidence) -> list[Measurement]:
    """The few measurements that say most: the widest recall both ways and the first suggestion, on each split."""
    found: list[Measurement] = []
    for split in quality.splits_of(evidence):
        for task in quality.DIRECTIONS:
            found += quality.recalls(evidence, {"task": task, "split": split})[-1:]
        found += [
            m for m in evidence.measurements if m.name == "chrf" and m.slice == {"task": "caption", "split": split}
        ]
    return found


def _side_by_side(m: Measurement, twin: Measurement) -> tuple[str, ...]:
    where = f"{format.metric(m.name).title}, {format.slice_words(m.slice)}"
    counts = " / ".join(dict.fromkeys((format.counted(twin), format.counted(m))))
    return where, format.of_hundred(twin), format.of_hundred(m), _apart(m, twin), counts


def _standing(verdict: str) -> str:
    return "refused" if verdict == "refuse" else "live"


def _apart(m: Measurement, twin: Measurement) -> str:
    if m.interval is None or twin.interval is None or m.direction == "none":
        return "not compared"
    if m.interval.low > twin.interval.high:
        return "better" if m.direction == "higher" else "worse"
    if m.interval.high < twin.interval.low:
        return "worse" if m.direction == "higher" else "better"
    return "too close to call"


def _findings(findings: tuple[Finding, ...]) -> tuple[tuple[FindingView, ...], str]:
    shown: list[FindingView] = []
    seen: dict[str, int] = defaultdict(int)
    order = {"fail": 0, "warn": 1, "not_run": 2, "accepted": 3, "not_applicable": 4, "pass": 5}
    for f in sorted(findings, key=lambda f: order[f.state]):
        seen[f.code] += 1
        if seen[f.code] <= MOST_PER_CODE:
            state, words = _FINDING_STATES[f.state]
            shown.append(FindingView(state, words, f.code, f.where, format.sentence(f.message), format.sentence(f.fix)))
    more = [f"{format.count(n - MOST_PER_CODE)} more of {code}" for code, n in seen.items() if n > MOST_PER_CODE]
    if more:
        return tuple(shown), f"And {format.listing(more)}; all are in the JSON."
    return tuple(shown), "" if shown else "Nothing was noticed."


def _data(data: Data) -> DataView:
    name = data.name or "the data set"
    if not data.size:
        line = f"The evidence is about the data set {short(data.digest)}, which this store does not list."
        return DataView(f"Data set {short(data.digest)}", (line,), (), ())
    if not data.examined:
        line = f"{format.plural(data.size, 'picture')}; the pictures were not at hand when this report was made."
        return DataView(f"{name} ({short(data.digest)})", (line,), (), ())
    lines = [
        f"{format.plural(data.size, 'picture')} of {format.plural(data.concepts, 'concept')} with "
        f"{format.plural(data.captions, 'caption')} in {format.plural(len(data.languages), 'language')} "
        f"({', '.join(data.languages[:12])}{'…' if len(data.languages) > 12 else ''})."
    ]
    return DataView(f"{name} ({short(data.digest)})", tuple(lines), tuple(_licence_warnings(data)), _data_tables(data))


def _licence_warnings(data: Data) -> list[str]:
    alike = [item for item in data.licences if format.share_alike(item.licence)]
    warnings = [
        f"Share-alike: {format.plural(item.pictures, 'picture')} under {item.licence}"
        + (f" ({format.listing([format.slice_value('style', s) for s in item.styles])})" if item.styles else "")
        + ". What is made from them may have to carry the same licence; ask somebody who knows before selling it."
        for item in alike
    ]
    unknown = sum(item.pictures for item in data.licences if not item.licence)
    if unknown:
        warnings.append(f"{format.plural(unknown, 'picture')} without a recorded licence.")
    return warnings


def _data_tables(data: Data) -> tuple[Table, ...]:
    tables = []
    if data.splits:
        rows = tuple(
            (s.name, format.slice_value("split", s.name), format.count(s.pictures), format.count(s.concepts))
            for s in data.splits
        )
        tables.append(Table("Splits", ("Split", "Holds", "Pictures", "Concepts"), rows))
    if data.styles:
        rows2 = tuple(
            (
                format.slice_value("style", s.name),
                format.count(s.pictures),
                ", ".join(n or "unknown" for n in s.licences),
            )
            for s in data.styles
        )
        tables.append(Table("Styles", ("Style", "Pictures", "Licence"), rows2))
    if data.licences:
        rows3 = tuple(
            (item.licence or "unknown", format.count(item.pictures), format.licence_words(item.licence))
            for item in data.licences
        )
        tables.append(Table("Licences", ("Licence", "Pictures", "Asks for"), rows3))
    return tuple(tables)


def _evidence(held: Held) -> EvidenceView:
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
        measurements=quality.table(e, e.measurements, f"Everything measured: {len(e.measurements)}"),
    )


def _history(data: ReportData) -> tuple[HistoryRow, ...]:
    return tuple(
        HistoryRow(
            ref=r.ref,
            state=story.STATES[r.decision.verdict],
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


def _journal(entry: Entry) -> JournalRow:
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


def _journal_note(journal: tuple[Entry, ...]) -> str:
    if not journal:
        return "The journal holds nothing about this model."
    if len(journal) > MOST_JOURNAL:
        return f"The newest {MOST_JOURNAL} of {format.plural(len(journal), 'record')}; all are in the JSON."
    return f"{format.plural(len(journal), 'record')}, newest first. Each carries the hash of the one before it."
