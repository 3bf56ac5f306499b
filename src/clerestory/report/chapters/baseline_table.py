"""Side by side: this model and the one it is compared with."""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format, metric_figures
from clerestory.report.model import ReportData, Trust
from clerestory.report.trust import LABELS, benchmark, label_of
from clerestory.report.view import Table


def comparison(data: ReportData) -> tuple[Table | None, str]:
    """The same measurements of this model and of the rival, side by side."""
    mine = data.of_kind("evaluate")
    if data.rival is None or data.release is None or mine is None:
        return None, ""
    theirs = next((h for h in reversed(data.rival.evidence) if h.evidence.kind == "evaluate"), None)
    other = data.rival.release
    if theirs is None:
        return None, f"The examination of {other.ref} is not in the store, so the two cannot be compared."
    pairs = [(m, theirs.evidence.find(m.name, m.slice)) for m in _telling(mine.evidence)]
    rows = [_side_by_side(m, twin) for m, twin in pairs if twin is not None]
    compared = [m for m, twin in pairs if twin is not None]
    if not rows:
        return None, f"{data.name} and {other.ref} were not examined on the same questions."
    trusted = bool(data.examined.trust)
    if trusted:
        rows = [(*row, _label(m, data.examined.trust)) for row, m in zip(rows, compared, strict=True)]
    head: tuple[str, ...] = (
        "Measured",
        f"{other.ref} ({_standing(other.decision.verdict)})",
        data.name,
        f"{data.name} is",
        "Counted on",
        *(("The benchmark",) if trusted else ()),
    )
    note = (
        "“Better” and “worse” are said only where the two intervals do not touch, which is a cautious test. "
        f"{other.ref} was put to the gate on {format.when(other.when)} by {other.who}: “{other.why}”."
    )
    return Table(f"{data.name} beside {other.ref}", head, tuple(rows)), note


def _label(m: Measurement, trust: tuple[Trust, ...]) -> str:
    """Whether the benchmark behind a number can be believed, in words."""
    found = label_of(trust, *benchmark(m))
    return LABELS[found.label] if found else "not judged"


def _telling(evidence: Evidence) -> list[Measurement]:
    """The few measurements that say most: the widest recall both ways and the first suggestion, on each split."""
    found: list[Measurement] = []
    for split in metric_figures.splits_of(evidence):
        for task in metric_figures.DIRECTIONS:
            found += metric_figures.recalls(evidence, {"task": task, "split": split})[-1:]
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
