"""Robustness: does it hold up on corrupted images, in an unseen style, and with perturbed text?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TEXT_PERTURBATIONS, TaskName, Unscored
from clerestory.core.sample import TEST, TEST_STYLE
from clerestory.data.corruptions.parameters import FAMILIES, SEVERITIES
from clerestory.report import format
from clerestory.report.chapters.classification import TASKS
from clerestory.report.chapters.common import first_split, hundred, one, pick, why_not
from clerestory.report.diagnostics import BASELINE
from clerestory.report.metric_figures import DIRECTIONS, bars, basis, figure, interval_kinds, slug
from clerestory.report.model import BenchmarkTrust, ReportData
from clerestory.report.svg.canvas import ceiling
from clerestory.report.svg.plots import PlotCurve, PlotPanel, PlotPoint, panels
from clerestory.report.trust import with_trust
from clerestory.report.view import Chapter, Figure, TableView
from clerestory.report.vocabulary import CORRUPTION_FAMILIES
from clerestory.stats.metrics import metric

RETRIEVAL, CLASSIFICATION = TaskName.IMAGE_TO_TEXT, TaskName.ZERO_SHOT
AXIS = "severity of the corruption (0: none)"
SUMMARIES = ("mce", "relative_mce", "robust_accuracy", "effective_robustness", "shift_gap", "recall@{k}_loss")
LEAD = (
    "The same questions with pictures that were corrupted on purpose in many ways and severities, in a style that the "
    "model never saw, and with text as people type it in a hurry. Dashed lines are the level without corruption."
)
_CLASS, _CAPTION = "correct class", "correct caption in the first 10"


def chapter(data: ReportData) -> Chapter:
    """Curves by severity, bars for the new style and for perturbed text, and the metrics that summarise them."""
    title, short, evidence = "Robustness: does it hold up when conditions change?", "Robustness", data.evaluation
    if evidence is None:
        nothing = why_not(None, "corruption", data.name, "Robustness was not evaluated.")
        return Chapter("robustness", title, short, 60, "robustness", absent=(nothing,))
    split = first_split(evidence, RETRIEVAL, CLASSIFICATION)
    severities = data.diagnostics.by_severity
    overall, perturbed = _overall(evidence, severities, split), _perturbed_text(evidence)
    figures = [f for f in (overall, *_families(evidence, RETRIEVAL, split, ()), _shift(evidence), perturbed) if f]
    more = _families(evidence, CLASSIFICATION, split, severities)
    absent = []
    if overall is None and not more:
        words, small = "Corrupted images were not evaluated.", Unscored.IMAGE_TOO_SMALL
        absent.append(why_not(evidence, "corruption", data.name, words, small))
    if perturbed is None:
        absent.append(why_not(evidence, "text_perturbation", data.name, "Perturbed text was not evaluated."))
    return Chapter(
        "robustness", title, short, 60, "robustness", _answer(evidence, severities, split), LEAD if figures else "",
        tuple(figures), more, "The same curves for classification, beside the baseline",
        _summary(evidence, data.diagnostics.trust), absent=tuple(absent),
    )  # fmt: skip


def _answer(evidence: Evidence, severities: Sequence[Measurement], split: str) -> str:
    clean = one(evidence, "recall@10", task=RETRIEVAL, split=split)
    worst = _at(severities, "recall@10", RETRIEVAL, split).get(max(SEVERITIES))
    parts = []
    if clean is not None and worst is not None:
        parts.append(
            f"Even under the strongest corruption, {hundred(worst, images=True)} have the correct caption in the first "
            f"10 (recall@10); without corruption {hundred(clean)}."
        )
    mce = one(evidence, "mce", task=CLASSIFICATION, split=split)
    if mce is not None:
        parts.append(
            f"On corrupted pictures it makes {format.digits(mce.value)} times the classification errors of "
            f"{_baseline(evidence)} (mean corruption error, mCE)."
        )
    return " ".join(parts)


def _baseline(evidence: Evidence) -> str:
    if evidence.facts.text("corruption.baseline") == "coarse_colours":
        return "a baseline that sees only coarse colours"
    return "a baseline"


def _at(
    severities: Sequence[Measurement], name: str, task: str, split: str, condition: str = ""
) -> dict[int, Measurement]:
    """Measurements by severity, over all corruptions or under one of them."""
    by_name = {str(severity): severity for severity in SEVERITIES}
    return {
        by_name[m.slice["severity"]]: m
        for m in severities
        if (m.name, m.slice.get("task"), m.slice.get("split"), m.slice.get("condition", ""))
        == (name, task, split, condition)
        and m.slice.get("severity") in by_name
    }


def _curve(label: str, found: Mapping[int, Measurement], look: str, clean: Measurement | None = None) -> PlotCurve:
    known = {**({0: clean} if clean else {}), **dict(sorted(found.items()))}
    return PlotCurve(label, tuple(_point(x, m) for x, m in known.items()), look)


def _point(x: int, m: Measurement) -> PlotPoint:
    ends = (100 * m.interval.low, 100 * m.interval.high) if m.interval else (None, None)
    return PlotPoint(float(x), 100 * m.value, *ends)


def _overall(evidence: Evidence, severities: Sequence[Measurement], split: str) -> Figure | None:
    """All corruptions together: recall and accuracy at each severity, beside the baseline."""
    base = {
        m.name: m
        for m in severities
        if m.slice.get("task") == TaskName.CORRUPTION_BASELINE and m.slice.get("split") == split
    }
    recall = one(evidence, "recall@10", task=RETRIEVAL, split=split)
    wanted = (
        (_CAPTION, RETRIEVAL, "recall@10", "main", recall),
        (_CLASS, CLASSIFICATION, "accuracy", "part3", base.get("accuracy")),
        (f"{_CLASS}, colour baseline", CLASSIFICATION, BASELINE, "part1", base.get(BASELINE)),
    )  # fmt: skip
    curves: dict[str, list[PlotCurve]] = {}
    levels: dict[str, list[tuple[float, str]]] = {}
    shown: list[Measurement] = []
    for label, task, name, look, clean in wanted:
        found = _at(severities, name, task, split)
        if not found:
            continue
        curves.setdefault(task, []).append(_curve(label, found, look, clean))
        shown += ([clean] if clean else []) + list(found.values())
        if clean is not None:
            levels.setdefault(task, []).append((100 * clean.value, f"level {look}"))
    if not curves:
        return None
    headings: dict[str, str] = {RETRIEVAL: "Retrieval", CLASSIFICATION: "Classification"}
    some = [PlotPanel(headings[task], tuple(own), tuple(levels.get(task, ()))) for task, own in curves.items()]
    drawn = [c for own in curves.values() for c in own]
    title = "All corruptions together"
    desc = "; ".join(f"{c.label}: " + ", ".join(f"{p.y:.0f} at severity {p.x:.0f}" for p in c.points) for c in drawn)
    legend = [(c.label, c.look) for c in drawn] + [("without corruption", "level")]
    svg = panels("fig-corruption", title, desc, some, legend, _top(drawn), AXIS)
    note = f"Of 100 pictures, correct. Bands are {interval_kinds(shown)}, from the stored rows. {_extent(evidence)}"
    return figure("corruption-all", title, svg, desc, note, evidence, shown)


def _extent(evidence: Evidence) -> str:
    """How many images, corruptions and severities; empty where the evidence does not say."""
    samples, corruptions = (
        evidence.facts.integer("corruption.samples"),
        evidence.facts.integer("corruption.corruptions"),
    )
    if not samples:
        return ""
    severities = evidence.facts.integer("corruption.severities")
    return (
        f"{format.images(samples)} under {format.plural(corruptions, 'corruption')} at "
        f"{severities} {'severity' if severities == 1 else 'severities'}."
    )


def _top(curves: Sequence[PlotCurve]) -> float:
    ends = [end for c in curves for p in c.points for end in (p.y, p.high) if end is not None]
    return min(100.0, ceiling(max(ends, default=1.0), 5))


def _families(evidence: Evidence, task: str, split: str, severities: Sequence[Measurement]) -> tuple[Figure, ...]:
    """Small multiples, one figure for each family of corruptions."""
    name = "recall@10" if task == RETRIEVAL else "accuracy"
    by: dict[str, dict[int, Measurement]] = {}
    known = pick(evidence, name, "condition", "severity", task=task, split=split)
    for condition in dict.fromkeys(m.slice["condition"] for m in known):
        found = _at(known, name, task, split, condition)
        if found:
            by[condition] = found
    listed = {c for members in FAMILIES.values() for c in members}
    families = {
        CORRUPTION_FAMILIES.get(family, format.capital(family)): members for family, members in FAMILIES.items()
    }
    families["Other"] = tuple(c for c in by if c not in listed)
    base = (m for m in severities if m.name == name and m.slice.get("task") == TaskName.CORRUPTION_BASELINE)
    clean = next(base, None) or one(evidence, name, task=task, split=split)
    top = _top([_curve("", found, "main", clean) for found in by.values()])
    made = (
        _family(evidence, (task, split), family, {c: by[c] for c in members if c in by}, clean, severities, top)
        for family, members in families.items()
    )
    return tuple(f for f in made if f is not None)


def _family(
    evidence: Evidence,
    about: tuple[str, str],
    family: str,
    by: Mapping[str, Mapping[int, Measurement]],
    clean: Measurement | None,
    severities: Sequence[Measurement],
    top: float,
) -> Figure | None:
    if not by:
        return None
    task, split = about
    what = _CAPTION if task == RETRIEVAL else _CLASS
    some, shown, has_baseline = [], [], False
    for condition, found in by.items():
        curves = [_curve(what, found, "main", clean)]
        baseline = _at(severities, BASELINE, task, split, condition)
        shown += list(found.values())
        if baseline:
            has_baseline = True
            curves.append(_curve("baseline", baseline, "part1"))
            shown += list(baseline.values())
        levels = ((100 * clean.value, "level main"),) if clean else ()
        some.append(PlotPanel(format.capital(format.slice_value("condition", condition)), tuple(curves), levels))
    title = f"{family}: {what}"
    desc = "; ".join(f"{p.title}: " + ", ".join(f"{point.y:.0f}" for point in p.curves[0].points) for p in some)
    legend = [(what, "main")] + ([("baseline, which sees only coarse colours", "part1")] if has_baseline else [])
    legend += [("without corruption", "level main")] if clean else []
    name = slug(f"{task}-{family}")
    svg = panels(f"fig-{name}", title, desc, some, legend, top, AXIS)
    note = f"Of 100 pictures, correct. Bands are {interval_kinds(shown)}. {basis(shown)}"
    if clean is not None and clean.n != shown[0].n:
        note += f" The level without corruption is that of the whole split ({format.counted(clean)})."
    return figure(name, title, svg, desc, note, evidence, ([clean] if clean else []) + shown)


def _shift(evidence: Evidence) -> Figure | None:
    """The same task on unseen concepts and on an unseen style."""
    groups = []
    wanted: list[tuple[str, str]] = [
        *(("recall@10", task) for task in DIRECTIONS),
        *(("accuracy", task) for task in TASKS),
    ]
    for name, task in wanted:
        pair = [
            (label, one(evidence, name, task=task, split=split))
            for label, split in (("new concepts", TEST), ("new style", TEST_STYLE))
        ]
        known = [(label, m) for label, m in pair if m is not None]
        if len(known) == 2:
            groups.append((format.capital(format.slice_value("task", task)), known))
    if not groups:
        return None
    note = "New concepts in styles of the training data, beside all concepts in a style the model never saw."
    return bars("shift", "Unseen style (distribution shift)", groups, evidence, note, "of 100 queries, correct")


def _perturbed_text(evidence: Evidence) -> Figure | None:
    """Search with perturbed captions, beside the same search with the original captions."""
    split = first_split(evidence, TaskName.TEXT_TO_IMAGE)
    where: dict[str, str] = {"task": TaskName.TEXT_TO_IMAGE, "split": split}
    found = {m.slice["condition"]: m for m in pick(evidence, "recall@10", "condition", **where)}
    known = [(format.slice_value("condition", c), found[c]) for c in TEXT_PERTURBATIONS if c in found]
    if not known:
        return None
    clean = one(evidence, "recall@10", **where)
    level = clean.value if clean else None
    rows = ([("original", clean)] if clean else []) + known
    note = "The dashed tick is the level of the original captions." if clean else ""
    title = "Search with changed text (text perturbation)"
    return bars("text-perturbation", title, [("", rows)], evidence, note, "of 100 searches, recall@10", level)


def _summary(evidence: Evidence, trust: Sequence[BenchmarkTrust]) -> tuple[TableView, ...]:
    shown = [m for base in SUMMARIES for m in evidence.measurements if metric(m.name).base == base]
    if not shown:
        return ()
    rows = tuple(
        (
            metric(m.name).title,
            format.slice_words(m.slice),
            format.number(m),
            format.counted(m),
            metric(m.name).meaning,
        )
        for m in shown
    )
    head = ("Metric", "Measured on", "Value and interval", "Samples", "Meaning")
    return (with_trust(TableView("Robustness in numbers", head, rows), shown, trust),)
