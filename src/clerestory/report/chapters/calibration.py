"""Does it know when it is unsure: calibration, and noticing what it does not know?"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format, metric_figures, plots
from clerestory.report.chapters.common import bars, first_split, labelled, one, pick, why_not
from clerestory.report.model import Diagram, ReportData, Trust
from clerestory.report.view import Chapter, Figure, Table

TASKS = ("zero_shot", "linear_probe", "knn")


def chapter(data: ReportData) -> Chapter:
    """Reliability before and after the temperature, and how unknown things are told from known ones."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    title, short = "Does it know when it is unsure?", "Sureness"
    if evidence is None:
        nothing = why_not(None, "classify", data.name, "How sure it is was not examined.")
        return Chapter("certainty", title, short, absent=(nothing,))
    split = first_split(evidence, *TASKS)
    drawn = _diagrams(data.examined.diagrams)
    figures = [f for s, f in drawn if s == split]
    more = tuple(f for s, f in drawn if s != split)
    unknown = _unknown(evidence)
    absent = []
    if not drawn:
        absent.append(why_not(evidence, "classify", data.name, "How sure it is was not examined."))
    if unknown is None:
        absent.append(why_not(evidence, "ood", data.name, "It was not shown things of unknown kinds."))
    lead = (
        "Each point is a group of answers of about the same sureness: on the dashed line it is right as often as it "
        "claims, below it claims too much, above too little. Dividing its scores by a temperature, fitted on tuning "
        "pictures, mends that without changing any answer."
    )
    return Chapter(
        "certainty", title, short, _answer(evidence, split), lead if drawn else "",
        (*figures, *((unknown,) if unknown else ())), more, "The same on other pictures",
        _sums(evidence, data.examined.trust),
        absent=tuple(absent),
    )  # fmt: skip


def _answer(evidence: Evidence, split: str) -> str:
    parts = []
    task = next((t for t in TASKS if one(evidence, "ece", task=t, split=split)), "")
    before = one(evidence, "ece", task=task, split=split)
    after = one(evidence, "ece", task=task, split=split, scaled="yes")
    if before is not None:
        how = format.slice_value("task", task)
        mended = f", and by {_points(after)} once its scores are mended by a temperature" if after else ""
        parts.append(f"When {how}, its sureness is off by {_points(before)} of 100{mended}.")
    found = pick(evidence, "ood_auroc", "score", task="ood")
    if found:
        best = max(found, key=lambda m: m.value)
        parts.append(
            f"Shown a known and an unknown thing, it finds the known one more familiar {100 * best.value:.0f} times of "
            f"100 at best ({format.slice_value('score', best.slice['score'])}); guessing would 50 times."
        )
    return " ".join(parts)


def _points(m: Measurement) -> str:
    return f"{100 * m.value:.1f}"


def _diagrams(some: Sequence[Diagram]) -> list[tuple[str, Figure]]:
    by: dict[tuple[str, str], dict[bool, Diagram]] = {}
    for d in some:
        by.setdefault((d.task, d.split), {})[d.scaled] = d
    return [(split, _diagram(task, split, pair)) for (task, split), pair in by.items()]


def _diagram(task: str, split: str, pair: dict[bool, Diagram]) -> Figure:
    shown = [(_heading(scaled), pair[scaled].bins) for scaled in (False, True) if scaled in pair]
    title = f"{format.slice_value('task', task).capitalize()}, on {format.slice_value('split', split)}"
    name = f"reliability-{metric_figures.slug(task)}-{metric_figures.slug(split)}"
    said = [
        f"{heading}: "
        + ", ".join(f"{100 * b.confidence:.0f} sure and {100 * b.accuracy:.0f} right (n {b.n})" for b in bins)
        for heading, bins in shown
    ]
    svg = plots.reliability(f"fig-{name}", title, ". ".join(said), shown)
    rows = tuple(
        (
            f"{heading}, sure {100 * b.low:.0f} to {100 * b.high:.0f} of 100",
            f"{100 * b.confidence:.1f}",
            f"{100 * b.accuracy:.1f} of 100, between {100 * b.interval[0]:.1f} and {100 * b.interval[1]:.1f}",
            f"n = {format.count(b.n)}",
        )
        for heading, bins in shown
        for b in bins
    )
    table_ = Table(title, ("Answers", "Sure, on average", "Right", "Counted on"), rows)
    note = (
        f"Whiskers are intervals of each group of answers. n = {format.count(sum(b.n for b in shown[0][1]))} answers."
    )
    return Figure(name, title, ". ".join(said), svg, note, table_, ((task, split),))


def _heading(scaled: bool) -> str:
    return "after the temperature" if scaled else "as it says it"


def _sums(evidence: Evidence, trust: Sequence[Trust]) -> tuple[Table, ...]:
    """Calibration errors before and after the temperature; the other scores are among the numbers of the card."""
    rows = []
    about = [m for m in evidence.measurements if m.name == "ece" and set(m.slice) == {"task", "split"}]
    for m in about:
        after = evidence.find("ece", {**m.slice, "scaled": "yes"})
        heat = evidence.find("temperature", {"task": m.slice["task"]})
        rows.append(
            (
                format.slice_words(m.slice),
                format.number(m),
                format.number(after) if after else "—",
                f"{format.digits(heat.value)} (fitted on n = {format.count(heat.n)})" if heat else "—",
                format.counted(m),
            )
        )
    head = ("Where", "As it says it", "After the temperature", "Temperature", "Counted on")
    caption = "How far its sureness is off: expected calibration error, 0 is best"
    return (labelled(Table(caption, head, tuple(rows)), about, trust),) if rows else ()


def _unknown(evidence: Evidence) -> Figure | None:
    groups = []
    for name, heading in (
        ("ood_auroc", "Tells known from unknown (AUROC)"),
        ("ood_fpr95", "Unknown let through (FPR95)"),
    ):
        found = pick(evidence, name, "score", task="ood")
        if found:
            groups.append((heading, [(_short(m.slice["score"]), m) for m in found]))
    if not groups:
        return None
    note = (
        "AUROC: higher is better, guessing gives 0.5. FPR95: lower is better, guessing gives 0.95. Known are "
        f"{evidence.facts.get('ood.in', 'the classes told in the evidence')}; unknown are "
        f"{evidence.facts.get('ood.out', 'the others')}. Unknown classes are kept from the classifiers only: the model "
        "itself may have seen such pictures when it was trained."
    )
    return bars("unknown", "Noticing what it does not know", groups, evidence, note, "share", most=1.0)


def _short(score: str) -> str:
    names = {"msp": "MSP", "max_logit": "MaxLogit", "mahalanobis": "Mahalanobis", "knn": "neighbours", "mcm": "MCM"}
    return names.get(score, score)
