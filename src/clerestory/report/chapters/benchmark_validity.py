"""Can the benchmark be trusted: what the picture adds, and the label of each benchmark?"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format
from clerestory.report.chapters.classification import TASKS
from clerestory.report.chapters.common import bars, one, why_not
from clerestory.report.model import ReportData
from clerestory.report.trust import title as benchmark_title
from clerestory.report.trust import view as trust_view
from clerestory.report.view import Chapter, Figure, Table

VIEWS = (
    ("", "with the picture"),
    ("blind", "without it"),
    ("shuffled_image", "another picture"),
    ("majority", "frequent answer"),
)
MOST_NAMED = 4
SUMS = ("blind_gain", "blind_solvable", "accuracy_all_orders")


def chapter(data: ReportData) -> Chapter:
    """Blind views as bars, and each benchmark with its label and reasons."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    title, short = "Can these numbers be trusted?", "Trust"
    trust = data.examined.trust
    figures = _figures(evidence, data.examined.guesses) if evidence else ()
    absent = []
    if not trust:
        absent.append(
            why_not(evidence, "trust", data.name, "Nobody has checked whether these benchmarks can be trusted.")
        )
    if not figures:
        absent.append(why_not(evidence, "vqa", data.name, "It was not asked questions with and without the picture."))
    lead = (
        "A test that can be passed without looking, that holds pictures seen in training, or that is too small to tell "
        "models apart says little. Each benchmark used on this page has been checked for that."
    )
    return Chapter(
        "trust", title, short, _answer(data), lead if trust or figures else "", figures,
        tables=_tables(evidence) if evidence else (), trust=tuple(trust_view(t) for t in trust), absent=tuple(absent),
    )  # fmt: skip


def _answer(data: ReportData) -> str:
    trust = data.examined.trust
    if not trust:
        return ""
    by = {label: [benchmark_title(t) for t in trust if t.label == label] for label in ("no", "careful", "yes")}
    all_ = len(trust)
    parts = [f"do not trust {_some(by['no'], all_)}"] if by["no"] else []
    parts += [f"be careful with {_some(by['careful'], all_)}"] if by["careful"] else []
    parts += [f"{'all' if len(by['yes']) == all_ else len(by['yes'])} can be trusted"] if by["yes"] else []
    return f"Of the {format.plural(len(trust), 'benchmark')} used here, {', '.join(parts)}."


def _some(names: list[str], total: int) -> str:
    """How many, and which where they are few."""
    if len(names) == total > 1:
        return "all of them"
    return f"{len(names)} ({format.listing(names)})" if len(names) < MOST_NAMED else str(len(names))


def _asked(evidence: Evidence) -> list[tuple[str, str]]:
    """The (task, split) that were also asked in another view."""
    views = {view for view, _ in VIEWS if view}
    found = (
        (m.slice["task"], m.slice["split"])
        for m in evidence.measurements
        if m.name == "accuracy" and m.slice.get("condition") in views and set(m.slice) == {"task", "split", "condition"}
    )
    return [key for key in dict.fromkeys(found) if key[0] not in TASKS]


def _figures(evidence: Evidence, guesses: Sequence[Measurement]) -> tuple[Figure, ...]:
    groups: list[tuple[str, list[tuple[str, Measurement]]]] = []
    for task, split in _asked(evidence):
        found = [
            (label, m)
            for view, label in VIEWS
            if (m := one(evidence, "accuracy", task=task, split=split, **({"condition": view} if view else {})))
        ]
        found += [("guessing", g) for g in guesses if (g.slice["task"], g.slice["split"]) == (task, split)]
        groups.append((format.slice_value("task", task).capitalize(), found))
    if not groups:
        return ()
    note = (
        "A model that looks at the picture loses all of its lead when the picture is taken away or swapped. “Frequent "
        "answer” always gives the answer that is right most often."
    )
    return (bars("blind", "What looking at the picture adds", groups, evidence, note, "of 100 questions, right"),)


def _tables(evidence: Evidence) -> tuple[Table, ...]:
    shown = [
        m for name in (*SUMS, "contamination", "contamination_gain") for m in evidence.measurements if m.name == name
    ]
    rows = tuple((format.metric(m.name).title, _where(m), format.number(m), format.counted(m)) for m in shown)
    head = ("What", "Where", "Value and interval", "Counted on")
    return (Table("What seeing adds, and what was seen before", head, rows),) if rows else ()


def _where(m: Measurement) -> str:
    if "benchmark" in m.slice:
        task, _, split = m.slice["benchmark"].partition("/")
        return format.slice_words({"task": task, "split": split})
    return format.slice_words(m.slice)
