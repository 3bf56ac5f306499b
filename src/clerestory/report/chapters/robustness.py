"""Does it hold up: on damaged pictures, in a new style, with words written differently?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format, metric_figures
from clerestory.report.chapters.classification import TASKS
from clerestory.report.chapters.common import bars, figure, first_split, hundred, labelled, one, pick, why_not
from clerestory.report.diagnostics import BASELINE, FINDING, SORTING
from clerestory.report.model import ReportData, Trust
from clerestory.report.plots import Curve, Panel, Point, panels
from clerestory.report.svg import ceiling
from clerestory.report.view import Chapter, Figure, Table

# Families and order as people know them from the benchmark that named these corruptions.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "Blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "Weather": ("snow", "frost", "fog", "brightness", "spatter"),
    "Files and colours": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
}
WRITTEN = ("typos", "upper_case", "lower_case", "synonyms", "word_order")
AXIS = "strength of the damage (0 is none)"
TOO_SMALL = "too small to be corrupted"
RATIOS = ("mce", "relative_mce", "robust_accuracy", "effective_robustness", "shift_gap", "recall@10_loss")


def chapter(data: ReportData) -> Chapter:
    """Curves by severity, bars for the new style and for other words, and the ratios that sum them up."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    title, short = "Does it hold up?", "Robustness"
    if evidence is None:
        nothing = why_not(None, "corrupt", data.name, "How it holds up was not examined.")
        return Chapter("robustness", title, short, absent=(nothing,))
    split = first_split(evidence, FINDING, SORTING)
    damage = _damage(evidence, data.examined.severities, split)
    written = _written(evidence)
    figures = [f for f in (damage, *_families(evidence, FINDING, split, ()), _shift(evidence), written) if f]
    more = _families(evidence, SORTING, split, data.examined.severities)
    absent = []
    if damage is None and not more:
        absent.append(why_not(evidence, "corrupt", data.name, "It was not examined on damaged pictures.", TOO_SMALL))
    if written is None:
        absent.append(why_not(evidence, "words", data.name, "It was not examined with words written differently."))
    lead = (
        "The same questions, with pictures that were damaged on purpose in many ways and strengths, in a style it "
        "never saw, and with words as hurried people type them. Dashed lines are the level without damage."
    )
    return Chapter(
        "robustness", title, short, _answer(evidence, data.examined.severities, split), lead if figures else "",
        tuple(figures), more, "The same curves for sorting into classes, beside the baseline",
        _ratios(evidence, data.examined.trust), absent=tuple(absent),
    )  # fmt: skip


def _answer(evidence: Evidence, severities: Sequence[Measurement], split: str) -> str:
    clean = one(evidence, "recall@10", task=FINDING, split=split)
    worst = _at(severities, "recall@10", FINDING, split).get(5)
    parts = []
    if clean is not None and worst is not None:
        parts.append(
            f"Even with the strongest damage, {hundred(worst, 'pictures')} get the right words among the first ten; "
            f"without damage {hundred(clean)} do."
        )
    mce = one(evidence, "mce", task=SORTING, split=split)
    if mce is not None:
        told = evidence.facts.get("corruption.reference", "")
        base = told.partition(",")[0] or "the baseline"
        parts.append(
            f"Sorting damaged pictures, it makes {format.digits(mce.value)} times the errors of a baseline ({base})."
        )
    return " ".join(parts)


def _at(
    severities: Sequence[Measurement], name: str, task: str, split: str, condition: str = ""
) -> dict[int, Measurement]:
    """By severity: what was computed over all corruptions, or under one of them."""
    found = {}
    for m in severities:
        s = m.slice
        wanted = (name, task, split, condition)
        told = (m.name, s.get("task"), s.get("split"), s.get("condition", ""))
        if told == wanted and s.get("severity", "").isdigit():
            found[int(s["severity"])] = m
    return found


def _curve(label: str, found: Mapping[int, Measurement], look: str, clean: Measurement | None = None) -> Curve:
    known = {**({0: clean} if clean else {}), **dict(sorted(found.items()))}
    return Curve(label, tuple(_point(x, m) for x, m in known.items()), look)


def _point(x: int, m: Measurement) -> Point:
    ends = (100 * m.interval.low, 100 * m.interval.high) if m.interval else (None, None)
    return Point(float(x), 100 * m.value, *ends)


def _damage(evidence: Evidence, severities: Sequence[Measurement], split: str) -> Figure | None:
    """All corruptions together: what is found and sorted rightly at each strength, beside the baseline."""
    base = {m.name: m for m in severities if m.slice.get("task") == "corruption_base" and m.slice.get("split") == split}
    words = one(evidence, "recall@10", task=FINDING, split=split)
    told = (
        ("right words among the first ten", FINDING, "recall@10", "main", words),
        ("right class", SORTING, "accuracy", "part3", base.get("accuracy")),
        ("right class, the baseline (coarse colours)", SORTING, BASELINE, "part1", base.get(BASELINE)),
    )  # fmt: skip
    curves: dict[str, list[Curve]] = {}
    levels: dict[str, list[tuple[float, str]]] = {}
    shown: list[Measurement] = []
    for label, task, name, look, clean in told:
        found = _at(severities, name, task, split)
        if not found:
            continue
        curves.setdefault(task, []).append(_curve(label, found, look, clean))
        shown += ([clean] if clean else []) + list(found.values())
        if clean is not None:
            levels.setdefault(task, []).append((100 * clean.value, f"level {look}"))
    if not curves:
        return None
    headings = {FINDING: "Finding words", SORTING: "Sorting"}
    some = [Panel(headings[task], tuple(own), tuple(levels.get(task, ()))) for task, own in curves.items()]
    drawn = [c for own in curves.values() for c in own]
    title = "All kinds of damage together"
    desc = "; ".join(f"{c.label}: " + ", ".join(f"{p.y:.0f} at strength {p.x:.0f}" for p in c.points) for c in drawn)
    legend = [(c.label, c.look) for c in drawn] + [("without damage", "level")]
    svg = panels("fig-damage", title, desc, some, legend, _top(drawn), AXIS)
    note = (
        f"Of 100 pictures, right. Bands are {metric_figures.interval_ends(shown)}, computed from the stored rows. "
        f"{format.sentence(evidence.facts.get('corruption', ''))}"
    )
    return figure("damage-all", title, svg, desc, note, evidence, shown)


def _top(curves: Sequence[Curve]) -> float:
    ends = [end for c in curves for p in c.points for end in (p.y, p.high) if end is not None]
    return min(100.0, ceiling(max(ends, default=1.0), 5))


def _families(evidence: Evidence, task: str, split: str, severities: Sequence[Measurement]) -> tuple[Figure, ...]:
    """Small multiples, one drawing for each family of corruptions."""
    name = "recall@10" if task == FINDING else "accuracy"
    known = pick(evidence, name, "condition", "severity", task=task, split=split)
    by: dict[str, dict[int, Measurement]] = {}
    for m in known:
        if m.slice["severity"].isdigit():
            by.setdefault(m.slice["condition"], {})[int(m.slice["severity"])] = m
    listed = {c for some in FAMILIES.values() for c in some}
    families = {**FAMILIES, "Other": tuple(c for c in by if c not in listed)}
    same = (m for m in severities if m.name == name and m.slice.get("task") == "corruption_base")
    clean = next(same, None) or one(evidence, name, task=task, split=split)
    top = _top([_curve("", found, "main", clean) for found in by.values()])
    made = (
        _family(evidence, (task, split), family, {c: by[c] for c in some if c in by}, clean, severities, top)
        for family, some in families.items()
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
    what = "right words among the first ten" if task == FINDING else "right class"
    some, shown, base = [], [], False
    for condition, found in by.items():
        curves = [_curve(what, found, "main", clean)]
        theirs = _at(severities, BASELINE, task, split, condition)
        shown += list(found.values())
        if theirs:
            base = True
            curves.append(_curve("baseline", theirs, "part1"))
            shown += list(theirs.values())
        levels = ((100 * clean.value, "level main"),) if clean else ()
        some.append(Panel(format.slice_value("condition", condition).capitalize(), tuple(curves), levels))
    title = f"{family}: {what}"
    desc = "; ".join(f"{p.title}: " + ", ".join(f"{point.y:.0f}" for point in p.curves[0].points) for p in some)
    legend = [(what, "main")] + ([("the baseline, which sees coarse colours only", "part1")] if base else [])
    legend += [("without damage", "level main")] if clean else []
    name = metric_figures.slug(f"{task}-{family}")
    svg = panels(f"fig-{name}", title, desc, some, legend, top, AXIS)
    note = f"Of 100 pictures, right. Bands are {metric_figures.interval_ends(shown)}. {metric_figures.basis(shown)}"
    if clean is not None and clean.n != shown[0].n:
        note += f" The level without damage is that of the whole split ({format.counted(clean)})."
    return figure(name, title, svg, desc, note, evidence, ([clean] if clean else []) + shown)


def _shift(evidence: Evidence) -> Figure | None:
    """The same task on things and on a style it never saw."""
    groups = []
    measures = [("recall@10", t, format.slice_value("task", t)) for t in metric_figures.DIRECTIONS]
    measures += [("accuracy", t, format.slice_value("task", t)) for t in TASKS]
    for name, task, heading in measures:
        pair = [
            (label, one(evidence, name, task=task, split=s))
            for label, s in (("new things", "test"), ("new style", "test_style"))
        ]
        known = [(label, m) for label, m in pair if m is not None]
        if len(known) == 2:
            groups.append((heading.capitalize(), known))
    if not groups:
        return None
    note = "New things in styles it learnt from, against all things in a style it never saw."
    return bars("shift", "In a style it never saw", groups, evidence, note, "of 100 questions, right")


def _written(evidence: Evidence) -> Figure | None:
    """Search with captions written differently, against the same search with captions as they stand."""
    split = first_split(evidence, "text_to_image")
    where = {"task": "text_to_image", "split": split}
    found = {m.slice["condition"]: m for m in pick(evidence, "recall@10", "condition", **where)}
    known = [(format.slice_value("condition", c), found[c]) for c in WRITTEN if c in found]
    if not known:
        return None
    clean = one(evidence, "recall@10", **where)
    level = clean.value if clean else None
    rows = ([("as written", clean)] if clean else []) + known
    note = "The dashed tick is the level of the words as they stand." if clean else ""
    return bars("written", "Words written differently", [("", rows)], evidence, note, "of 100 searches, found", level)


def _ratios(evidence: Evidence, trust: Sequence[Trust]) -> tuple[Table, ...]:
    shown = [m for name in RATIOS for m in evidence.measurements if m.name == name]
    if not shown:
        return ()
    rows = tuple(
        (
            format.metric(m.name).title,
            format.slice_words(m.slice),
            format.number(m),
            format.counted(m),
            format.metric(m.name).meaning,
        )
        for m in shown
    )
    head = ("What", "Where", "Value and interval", "Counted on", "Which means")
    return (labelled(Table("How much it loses", head, rows), shown, trust),)
