"""What several chapters need: measurements by slice, figures of them, and a sentence where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import charts, format, metric_figures
from clerestory.report.charts import Group, Mark
from clerestory.report.model import Trust
from clerestory.report.trust import LABELS, benchmark, benchmarks, label_of
from clerestory.report.view import Absence, Figure, Table


def pick(evidence: Evidence, name: str, *keys: str, **where: str) -> list[Measurement]:
    """The measurements of a name whose slice has these values and, besides, exactly these keys."""
    wanted = set(where) | set(keys)
    return [
        m
        for m in evidence.measurements
        if m.name == name and set(m.slice) == wanted and all(m.slice[k] == v for k, v in where.items())
    ]


def one(evidence: Evidence, name: str, **where: str) -> Measurement | None:
    """The measurement of exactly this slice."""
    return evidence.find(name, where)


def first_split(evidence: Evidence, *tasks: str) -> str:
    """The split that these tasks were measured on: ``test`` where it is among them."""
    seen = dict.fromkeys(
        m.slice["split"] for m in evidence.measurements if "split" in m.slice and m.slice.get("task") in tasks
    )
    return next((s for s in metric_figures.SPLITS if s in seen), next(iter(seen), ""))


def figure(
    name: str,
    title: str,
    svg: Markup,
    desc: str,
    note: str,
    evidence: Evidence,
    shown: Sequence[Measurement],
) -> Figure:
    """A figure whose table holds the measurements it shows."""
    return Figure(name, title, desc, svg, note.strip(), metric_figures.table(evidence, shown, title), benchmarks(shown))


def bars(
    name: str,
    title: str,
    groups: Sequence[tuple[str, Sequence[tuple[str, Measurement]]]],
    evidence: Evidence,
    note: str = "",
    axis: str = "",
    guess: float | None = None,
    most: float | None = 100.0,
) -> Figure:
    """Labelled measurements as bars with whiskers, in groups; ``guess`` is a dashed tick at what guessing reaches."""
    drawn = [Group(heading, tuple(_mark(evidence, label, m, guess) for label, m in some)) for heading, some in groups]
    shown = [m for _, some in groups for _, m in some]
    top = charts.top_of(drawn, most)
    desc = ". ".join(f"{g.heading}: {spoken(g.marks)}" if g.heading else spoken(g.marks) for g in drawn)
    svg = charts.whiskers(f"fig-{name}", title, desc, drawn, top, axis, bars=True)
    words = f"{note} {metric_figures.interval_words(shown)} {metric_figures.basis(shown)}"
    return figure(name, title, svg, desc, words, evidence, shown)


def _mark(evidence: Evidence, label: str, m: Measurement, guess: float | None) -> Mark:
    made = metric_figures.mark(evidence, m, label)
    if guess is None or made.chance is not None:
        return made
    times = 100.0 if format.countable(m) else 1.0
    return Mark(made.label, made.value, made.low, made.high, made.text, times * guess)


def spoken(marks: Iterable[Mark]) -> str:
    """Labels with their numbers, for people who do not see the drawing."""
    return "; ".join(f"{m.label}: {m.text}" for m in marks)


def hundred(m: Measurement, noun: str = "") -> str:
    """``57 of 100 pictures (between 53 and 61)``, with the interval where there is one."""
    text, _, between = format.of_hundred(m).partition(", ")
    text += f" {noun}" if noun else ""
    return f"{text} ({between})" if between else text


def why_not(evidence: Evidence | None, part: str, ref: str, otherwise: str, unscored: str = "") -> Absence:
    """One sentence on why a part of an examination has no numbers, and the command that would make some.

    Args:
        evidence: the examination, None where there is none.
        part: the part's name, such as ``corrupt``.
        ref: what to call the model on the command line.
        otherwise: the sentence where the examination says nothing about the part.
        unscored: words of the finding that counts samples which this part could not score.
    """
    for f in evidence.findings if evidence else ():
        unable = f.where == f"part {part}" and f.state in ("not_applicable", "not_run")
        if unable or (unscored and unscored in f.message):
            fix = f" {format.sentence(f.fix)}" if f.fix else ""
            return Absence(format.sentence(f.message) + fix)
    return Absence(otherwise, f"clerestory evaluate {ref}")


def labelled(table: Table, about: Sequence[Measurement], trust: Sequence[Trust]) -> Table:
    """A table with a last column that says whether each row's benchmark can be believed; unchanged where none was.

    Args:
        table: one row per measurement of ``about``.
        about: what the rows tell, in their order.
        trust: the labels.
    """
    found = [label_of(trust, *benchmark(m)) for m in about]
    if not any(found):
        return table
    words = [LABELS[one.label] if one else "not judged" for one in found]
    rows = tuple((*row, said) for row, said in zip(table.rows, words, strict=True))
    return Table(table.caption, (*table.head, "The benchmark"), rows)
