"""Can it sort pictures into classes?"""

from __future__ import annotations

import re

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format, metric_figures
from clerestory.report.chapters.common import bars, hundred, one, why_not
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter

TASKS = {"zero_shot": "by class names", "knn": "by neighbours", "linear_probe": "small trained layer"}


def chapter(data: ReportData) -> Chapter:
    """Accuracy of each way of sorting, on each split."""
    held = data.of_kind("evaluate")
    title, short = "Can it sort pictures?", "Sorting"
    evidence = held.evidence if held else None
    groups = [] if evidence is None else [(s, _marks(evidence, s)) for s in metric_figures.SPLITS]
    groups = [(split, marks) for split, marks in groups if marks]
    if evidence is None or not groups:
        absent = why_not(evidence, "classify", data.name, "Sorting into classes was not examined.")
        return Chapter("sorting", title, short, absent=(absent,))
    guess = guessing(evidence)
    drawn = [(f"On {format.slice_value('split', split)}", marks) for split, marks in groups]
    note = "The dashed tick is what guessing would reach." if guess else ""
    shown = bars("sorting-accuracy", "Pictures sorted rightly", drawn, evidence, note, "of 100 pictures, right", guess)
    label, best = max(groups[0][1], key=lambda pair: pair[1].value)
    where = format.slice_value("split", groups[0][0])
    among = f" Guessing would sort {100 * guess:.2g} of 100." if guess else ""
    told = evidence.facts.get("classes", "")
    answer = f"It puts {hundred(best, 'pictures')} of {where} into the right class ({label}).{among}"
    lead = (
        "By class names: it has only the words of the classes. By neighbours: it looks which known pictures are most "
        "alike. Small trained layer: one layer is trained on what it sees."
    )
    return Chapter("sorting", title, short, answer, lead + (f" The classes are {told}." if told else ""), (shown,))


def _marks(evidence: Evidence, split: str) -> list[tuple[str, Measurement]]:
    found = [(label, one(evidence, "accuracy", task=task, split=split)) for task, label in TASKS.items()]
    return [(label, m) for label, m in found if m is not None]


def guessing(evidence: Evidence) -> float | None:
    """What guessing a class would reach; None where the evidence does not say how many there are."""
    told = re.match(r"the (\d+) values", evidence.facts.get("classes", ""))
    return 1 / int(told[1]) if told and int(told[1]) else None
