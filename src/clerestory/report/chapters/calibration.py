"""Calibration: does it know when it is unsure, and does it detect unknown classes?"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName
from clerestory.report import format
from clerestory.report.chapters.classification import TASKS
from clerestory.report.chapters.common import first_split, one, pick, why_not
from clerestory.report.metric_figures import UNKNOWN, bars, slug
from clerestory.report.model import BenchmarkTrust, ReliabilityDiagram, ReportData
from clerestory.report.svg import plots
from clerestory.report.trust import with_trust
from clerestory.report.view import Chapter, Figure, TableView

ORDER = (TaskName.ZERO_SHOT, TaskName.LINEAR_PROBE, TaskName.KNN)
LEAD = (
    "Each point of a reliability diagram is a group of answers with about the same confidence. On the dashed line, the "
    "model is correct as often as it claims; below it, it is over-confident. Temperature scaling divides its scores by "
    "a number that is fitted on the validation pictures; it corrects the confidence and changes no answer."
)
_OOD_SCORES = {"msp": "MSP", "max_logit": "MaxLogit", "mahalanobis": "Mahalanobis", "knn": "k-NN", "mcm": "MCM"}


def chapter(data: ReportData) -> Chapter:
    """Reliability before and after temperature scaling, and out-of-distribution detection."""
    title, short, evidence = "Calibration: does it know when it is unsure?", "Calibration", data.evaluation
    if evidence is None:
        nothing = why_not(None, "classification", data.name, "Calibration was not evaluated.")
        return Chapter("calibration", title, short, 70, "uncertainty", absent=(nothing,))
    split = first_split(evidence, *ORDER)
    drawn = _diagrams(data.diagnostics.reliability)
    figures = [f for s, f in drawn if s == split]
    more = tuple(f for s, f in drawn if s != split)
    unknown = _unknown_classes(evidence)
    absent = []
    if not drawn:
        absent.append(why_not(evidence, "classification", data.name, "Calibration was not evaluated."))
    if unknown is None:
        absent.append(why_not(evidence, "ood", data.name, "Detection of unknown classes (OOD) was not evaluated."))
    return Chapter(
        "calibration", title, short, 70, "uncertainty", _answer(evidence, split), LEAD if drawn else "",
        (*figures, *((unknown,) if unknown else ())), more, "The same on other splits",
        _table(evidence, data.diagnostics.trust), absent=tuple(absent),
    )  # fmt: skip


def _answer(evidence: Evidence, split: str) -> str:
    parts = []
    task = next((t for t in ORDER if one(evidence, "ece", task=t, split=split)), "")
    before = one(evidence, "ece", task=task, split=split)
    after = one(evidence, "ece", task=task, split=split, scaled="yes")
    if before is not None:
        scaled = f"; after temperature scaling it is {_points(after)}" if after else ""
        parts.append(
            f"With {TASKS[task]} classification, its stated confidence differs from its accuracy by {_points(before)} "
            f"percentage points on average (calibration error, ECE){scaled}."
        )
    found = pick(evidence, "ood_auroc", "score", task=TaskName.OOD)
    if found:
        best = max(found, key=lambda m: m.value)
        parts.append(
            f"Given a picture of a known and one of an unknown class, it scores the known one higher "
            f"{100 * best.value:.0f} times of 100 (AUROC) with its best score, "
            f"{format.slice_value('score', best.slice['score'])}; guessing would 50 times."
        )
    return " ".join(parts)


def _points(m: Measurement) -> str:
    return f"{100 * m.value:.1f}"


def _diagrams(diagrams: Sequence[ReliabilityDiagram]) -> list[tuple[str, Figure]]:
    by: dict[tuple[str, str], dict[bool, ReliabilityDiagram]] = {}
    for diagram in diagrams:
        by.setdefault((diagram.task, diagram.split), {})[diagram.scaled] = diagram
    return [(split, _diagram(task, split, pair)) for (task, split), pair in by.items()]


def _diagram(task: str, split: str, pair: dict[bool, ReliabilityDiagram]) -> Figure:
    shown = [(_heading(scaled), pair[scaled].bins) for scaled in (False, True) if scaled in pair]
    title = f"Reliability: {TASKS.get(task, task)}, on {format.slice_value('split', split)}"
    name = f"reliability-{slug(task)}-{slug(split)}"
    said = [
        f"{heading}: "
        + ", ".join(f"confidence {100 * b.confidence:.0f}, accuracy {100 * b.accuracy:.0f} (n {b.n})" for b in bins)
        for heading, bins in shown
    ]
    svg = plots.reliability(f"fig-{name}", title, ". ".join(said), shown)
    rows = tuple(
        (
            f"{heading}, confidence {100 * b.low:.0f} to {100 * b.high:.0f}",
            f"{100 * b.confidence:.1f}",
            f"{100 * b.accuracy:.1f} of 100, between {100 * b.interval.low:.1f} and {100 * b.interval.high:.1f}",
            f"n = {format.count(b.n)}",
        )
        for heading, bins in shown
        for b in bins
    )
    table = TableView(title, ("Answers", "Mean confidence", "Accuracy", "Samples"), rows)
    note = (
        "Whiskers are 95% confidence intervals of the accuracy of each group of answers. "
        f"n = {format.count(sum(b.n for b in shown[0][1]))} answers."
    )
    return Figure(name, title, ". ".join(said), svg, note, table, ((task, split),))


def _heading(scaled: bool) -> str:
    return "temperature-scaled" if scaled else "as stated"


def _table(evidence: Evidence, trust: Sequence[BenchmarkTrust]) -> tuple[TableView, ...]:
    """Calibration errors before and after temperature scaling; the other scores are listed by topic."""
    rows = []
    about = [m for m in evidence.measurements if m.name == "ece" and set(m.slice) == {"task", "split"}]
    for m in about:
        after = evidence.find("ece", {**m.slice, "scaled": "yes"})
        temperature = evidence.find("temperature", {"task": m.slice["task"]})
        rows.append(
            (
                format.slice_words(m.slice),
                format.number(m),
                format.number(after) if after else UNKNOWN,
                f"{format.digits(temperature.value)} (fitted on n = {format.count(temperature.n)})"
                if temperature
                else UNKNOWN,
                format.counted(m),
            )
        )
    head = ("Measured on", "As stated", "Temperature-scaled", "Temperature", "Samples")
    caption = "Calibration error (ECE): 0 is perfect"
    return (with_trust(TableView(caption, head, tuple(rows)), about, trust),) if rows else ()


def _unknown_classes(evidence: Evidence) -> Figure | None:
    groups = []
    for name, heading in (("ood_auroc", "AUROC (higher is better)"), ("ood_fpr95", "FPR95 (lower is better)")):
        found = pick(evidence, name, "score", task=TaskName.OOD)
        if found:
            groups.append((heading, [(_OOD_SCORES.get(m.slice["score"], m.slice["score"]), m) for m in found]))
    if not groups:
        return None
    known = _classes(evidence, "in_distribution")
    unknown = _classes(evidence, "out_of_distribution")
    classes = f" Known classes: {known}. Unknown classes: {unknown}." if known and unknown else ""
    note = (
        f"AUROC of guessing is 0.5, FPR95 of guessing is 0.95.{classes} The unknown classes are withheld from the "
        "classifiers only: the model itself may have seen such pictures in its training."
    )
    title = "Detection of unknown classes (out-of-distribution)"
    return bars("unknown", title, groups, evidence, note, "share", limit=1.0)


def _classes(evidence: Evidence, which: str) -> str:
    names, number = evidence.facts.string_items(f"ood.{which}"), evidence.facts.integer(f"ood.{which}_count")
    return ", ".join(names) + (f" and {number - len(names)} more" if number > len(names) else "")
