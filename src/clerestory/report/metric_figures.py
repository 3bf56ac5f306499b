"""Figures that follow from the measurements of an examination."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from clerestory.core.codec import Tags
from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import charts, format
from clerestory.report.charts import Group, Mark
from clerestory.report.trust import benchmarks
from clerestory.report.view import Figure, Table

DIRECTIONS = ("image_to_text", "text_to_image")
SPLITS = ("test", "test_style")
MOST_BARS = 16
HEAD = ("What", "Where", "Value and interval", "Counted on", "Guessing would give")
_ORDINARY = {"task", "split"}


def k_of(m: Measurement) -> int:
    """10 of ``recall@10``, 0 for another measurement."""
    found = re.fullmatch(r"recall@(\d+)", m.name)
    return int(found[1]) if found else 0


def splits_of(evidence: Evidence) -> tuple[str, ...]:
    """The examined splits: ``test`` and ``test_style`` where they exist, else whatever was examined."""
    seen = dict.fromkeys(m.slice["split"] for m in evidence.measurements if k_of(m) and "split" in m.slice)
    return tuple(s for s in SPLITS if s in seen) or tuple(sorted(seen))


def recalls(evidence: Evidence, where: dict[str, str]) -> list[Measurement]:
    """The recalls of exactly this slice, smallest k first."""
    wanted = Tags(where)
    return sorted((m for m in evidence.measurements if k_of(m) and m.slice == wanted), key=k_of)


def candidates(evidence: Evidence, task: str, split: str) -> int:
    """How many answers there were to choose from; 0 when the evidence does not say."""
    told = evidence.facts.get(f"candidates.{task}.{split}", "")
    return int(told) if told.isdigit() else 0


def chance(evidence: Evidence, m: Measurement) -> float | None:
    """What guessing would reach for a recall; None when the evidence does not say.

    A picture has one right caption, so its chance level is the same on every finer slice; a text may have several
    right pictures, so there it is known only for the slice the evidence names.
    """
    task, split = m.slice.get("task", ""), m.slice.get("split", "")
    if set(m.slice) != _ORDINARY and task != "image_to_text":
        return None
    try:
        return float(evidence.facts[f"chance.{m.name}.{task}.{split}"])
    except (KeyError, ValueError):
        return None


def chance_words(evidence: Evidence, m: Measurement) -> str:
    """``0.02`` with as many decimals as it needs, or a dash."""
    level = chance(evidence, m)
    if level is None:
        return "—"
    return f"{level:.2g}" if level >= 0.001 else f"{level:.1g}"


def row(evidence: Evidence, m: Measurement) -> tuple[str, ...]:
    """One measurement as a row under ``HEAD``."""
    return (
        format.metric(m.name).title,
        format.slice_words(m.slice),
        format.number(m),
        format.counted(m),
        chance_words(evidence, m),
    )


def table(evidence: Evidence, measurements: Iterable[Measurement], caption: str) -> Table:
    """Measurements as a table; the last column is left out where no row has it."""
    rows = tuple(row(evidence, m) for m in measurements)
    if all(r[-1] == "—" for r in rows):
        return Table(caption, HEAD[:-1], tuple(r[:-1] for r in rows))
    return Table(caption, HEAD, rows)


def mark(evidence: Evidence, m: Measurement, label: str, with_n: bool = False) -> Mark:
    """One measurement as a row of a plot; shares of questions are drawn as so many of a hundred."""
    times = 100.0 if format.countable(m) else 1.0
    low, high = (times * m.interval.low, times * m.interval.high) if m.interval else (None, None)
    guess = chance(evidence, m)
    text = format.brief(m) + (f" n {format.count(m.n)}" if with_n else "")
    return Mark(label, times * m.value, low, high, text, None if guess is None else times * guess)


def _spoken(marks: Sequence[Mark]) -> str:
    return "; ".join(f"{m.label}: {m.text}" for m in marks)


def recall_figures(evidence: Evidence) -> tuple[Figure, ...]:
    """One panel for each examined split: recall at every k in both directions, against chance."""
    panels = []
    for split in splits_of(evidence):
        groups, shown = [], []
        for task in DIRECTIONS:
            found = recalls(evidence, {"task": task, "split": split})
            marks = tuple(mark(evidence, m, "first answer" if k_of(m) == 1 else f"first {k_of(m)}") for m in found)
            if marks:
                pool = candidates(evidence, task, split)
                among = f" (of {format.count(pool)})" if pool else ""
                groups.append(Group(format.slice_value("task", task).capitalize() + among, marks))
                shown += found
        if groups:
            panels.append((split, tuple(groups), shown))
    top = charts.top_of([g for _, groups, _ in panels for g in groups], at_most=100.0)
    return tuple(_recall_figure(evidence, split, groups, shown, top) for split, groups, shown in panels)


def _recall_figure(
    evidence: Evidence, split: str, groups: tuple[Group, ...], shown: list[Measurement], top: float
) -> Figure:
    title = f"On {format.slice_value('split', split)}"
    desc = ". ".join(f"{g.heading}: {_spoken(g.marks)}" for g in groups)
    svg = charts.whiskers(f"fig-recall-{slug(split)}", title, desc, groups, top, "of 100 questions, right")
    note = f"{interval_words(shown)} {basis(shown)}"
    if any(chance(evidence, m) is not None for m in shown):
        note += " The dashed tick is what guessing would reach."
    return Figure(
        f"recall-{slug(split)}",
        title,
        desc,
        svg,
        note,
        table(evidence, shown, f"Recall {title.lower()}"),
        benchmarks(shown),
    )


def interval_words(shown: Sequence[Measurement]) -> str:
    """What the whiskers of these measurements are, or why there are none."""
    methods: dict[float, set[str]] = {}
    for m in shown:
        if m.interval:
            methods.setdefault(m.interval.level, set()).add(m.interval.method)
    reasons = sorted({m.no_interval for m in shown if m.no_interval})
    parts = [
        f"Whiskers are {format.level(level)} intervals ({format.listing(sorted(names))})."
        for level, names in sorted(methods.items())
    ]
    return " ".join(parts + [f"Without interval: {format.sentence(r)}" for r in reasons])


def interval_ends(shown: Sequence[Measurement]) -> str:
    """``the 95% interval (order-statistics)``."""
    kinds = sorted({(m.interval.level, m.interval.method) for m in shown if m.interval})
    return (
        format.listing([f"the {format.level(level)} interval ({method})" for level, method in kinds]) or "no interval"
    )


def basis(shown: Sequence[Measurement]) -> str:
    """``Counted on n = 503 in 488 concepts.``, or each one when they differ."""
    return f"Counted on {'; '.join(dict.fromkeys(format.counted(m) for m in shown))}."


def slice_figures(evidence: Evidence) -> tuple[Figure, ...]:
    """Bars for every finer slice (style, concept split, any group): where the model is strong and weak."""
    found: dict[tuple[str, str], dict[str, list[Measurement]]] = {}
    for m in evidence.measurements:
        extra = set(m.slice) - _ORDINARY
        if (
            k_of(m)
            and len(extra) == 1
            and extra != {"condition"}
            and set(m.slice) >= _ORDINARY
            and m.slice["task"] in DIRECTIONS
        ):
            place = found.setdefault((extra.pop(), m.slice["split"]), {})
            place.setdefault(m.slice["task"], []).append(m)
    order = sorted(found, key=lambda key: (key[0] != "style", key[0], key[1]))
    return tuple(_slice_figure(evidence, key, split, found[key, split]) for key, split in order)


def _slice_figure(evidence: Evidence, key: str, split: str, by_task: dict[str, list[Measurement]]) -> Figure:
    k = max(k_of(m) for found in by_task.values() for m in found)
    groups, shown, hidden = [], [], 0
    for task in (t for t in DIRECTIONS if t in by_task):
        found = sorted((m for m in by_task[task] if k_of(m) == k), key=lambda m: (-m.value, m.slice[key]))
        shown += found
        hidden += max(0, len(found) - MOST_BARS)
        marks = tuple(mark(evidence, m, _short(key, m.slice[key]), True) for m in found[:MOST_BARS])
        groups.append(Group(format.slice_value("task", task).capitalize(), marks))
    title = f"By {_key_words(key)}, on {format.slice_value('split', split)}"
    desc = ". ".join(f"{g.heading}: {_spoken(g.marks)}" for g in groups)
    top = charts.top_of(groups, at_most=100.0)
    axis = f"of 100 questions, {format.metric(f'recall@{k}').title.lower()}"
    svg = charts.whiskers(f"fig-{slug(key)}-{slug(split)}", title, desc, groups, top, axis, bars=True)
    note = interval_words(shown)
    if hidden:
        note += f" {format.plural(hidden, 'bar')} more in the table."
    return Figure(
        f"by-{slug(key)}-{slug(split)}", title, desc, svg, note, table(evidence, shown, title), benchmarks(shown)
    )


def _key_words(key: str) -> str:
    return {"concept_split": "whether the thing was seen in training"}.get(key, format.slice_key(key))


def _short(key: str, value: str) -> str:
    if key == "concept_split":
        return {"train": "seen", "val": "only tuned on", "test": "never seen", "none": "only here"}.get(value, value)
    return format.slice_value(key, value)


def slug(text: str) -> str:
    """The text as part of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def caption_figures(evidence: Evidence) -> tuple[Figure, ...]:
    """Caption quality, one row for each examined split."""
    found = [m for m in evidence.measurements if m.slice.get("task") == "caption" and set(m.slice) <= _ORDINARY]
    figures = []
    for name in sorted({m.name for m in found}):
        shown = sorted((m for m in found if m.name == name), key=lambda m: m.slice.get("split", ""))
        words = format.metric(name)
        marks = tuple(mark(evidence, m, _caption_label(m)) for m in shown)
        top = charts.top_of([Group("", marks)], 1.0 if shown[0].unit == format.SHARE else None)
        svg = charts.whiskers(f"fig-{slug(name)}", words.title, _spoken(marks), [Group("", marks)], top)
        note = f"{words.meaning} {interval_words(shown)} {basis(shown)}".strip()
        numbers = table(evidence, shown, words.title)
        figures.append(Figure(slug(name), words.title, _spoken(marks), svg, note, numbers, benchmarks(shown)))
    return tuple(figures)


def _caption_label(m: Measurement) -> str:
    return {"test": "things unseen", "test_style": "style unseen"}.get(m.slice.get("split", ""), "all pictures")
