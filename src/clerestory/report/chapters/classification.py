"""Classification: does it choose the correct class?"""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName
from clerestory.report import format
from clerestory.report.chapters.common import hundred, one, why_not
from clerestory.report.metric_figures import CHANCE_NOTE, SPLITS, bars
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter

TASKS: dict[str, str] = {
    TaskName.ZERO_SHOT: "zero-shot",
    TaskName.KNN: "k-NN",
    TaskName.LINEAR_PROBE: "linear probe",
}
LEAD = (
    "Zero-shot: the model gets only the names of the classes. k-NN: it takes the class of the most similar training "
    "pictures. Linear probe: one layer is trained on its embeddings of the training pictures."
)


def chapter(data: ReportData) -> Chapter:
    """Accuracy of each classifier on each split."""
    title, short, evidence = "Classification: does it choose the correct class?", "Classification", data.evaluation
    groups = [] if evidence is None else [(s, _accuracies(evidence, s)) for s in SPLITS]
    groups = [(split, found) for split, found in groups if found]
    if evidence is None or not groups:
        absent = why_not(evidence, "classification", data.name, "Classification was not evaluated.")
        return Chapter("classification", title, short, 50, "quality", absent=(absent,))
    guess = chance_level(evidence)
    drawn = [(f"On {format.slice_value('split', split)}", found) for split, found in groups]
    note = CHANCE_NOTE if guess else ""
    shown = bars(
        "classification-accuracy", "Classification accuracy", drawn, evidence, note, "of 100 pictures, correct", guess
    )
    label, best = max(groups[0][1], key=lambda pair: pair[1].value)
    where = format.slice_value("split", groups[0][0])
    against = f" Guessing would classify {100 * guess:.2g} of 100 correctly." if guess else ""
    answer = (
        f"It classifies {hundred(best, images=True)} correctly, on {where}, with its best method ({label}).{against}"
    )
    return Chapter(
        "classification", title, short, 50, "quality", answer, f"{LEAD} {classes_in_words(evidence)}".strip(), (shown,)
    )


def classes_in_words(evidence: Evidence) -> str:
    """``The 12 classes are the values of style: …``; empty where the evidence does not say."""
    number, names = evidence.facts.integer("classes.count"), evidence.facts.string_items("classes.names")
    if not number:
        return ""
    label_field = format.slice_key(evidence.facts.text("classes.label_field"))
    more = f" and {number - len(names)} more" if number > len(names) else ""
    return f"The {number} classes are the values of “{label_field}”: {', '.join(names)}{more}."


def _accuracies(evidence: Evidence, split: str) -> list[tuple[str, Measurement]]:
    found = [(label, one(evidence, "accuracy", task=task, split=split)) for task, label in TASKS.items()]
    return [(label, m) for label, m in found if m is not None]


def chance_level(evidence: Evidence) -> float | None:
    """The accuracy of guessing a class; None where the evidence does not say how many there are."""
    classes = evidence.facts.integer("classes.count")
    return 1 / classes if classes else None
