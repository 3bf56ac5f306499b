"""How it learnt: the curves of the training log."""

from __future__ import annotations

from clerestory.report import charts, format
from clerestory.report.charts import Line
from clerestory.report.model import ReportData, Series, Training
from clerestory.report.view import Figure, Table

MOST_STEPS = 24
_SERIES = {"loss": "whole", "contrastive": "matching", "caption": "writing"}


def figures(training: Training) -> tuple[Figure, ...]:
    """What training tried to make small, and how many tuning pictures it got right."""
    mark = (float(training.early_step), "early checkpoint") if training.early_step else None
    drawn = [_curve("loss", "What training tries to make small", training.losses, mark, 1)]
    if training.validation:
        title = "Of 100 tuning pictures, how many it gets right"
        drawn.append(_curve("validation", title, training.validation, mark, 100))
    return tuple(drawn)


def _curve(name: str, title: str, series: tuple[Series, ...], mark: tuple[float, str] | None, times: int) -> Figure:
    lines = [
        Line(_series_words(s.name), tuple((float(x), times * y) for x, y in s.points), "main" if i == 0 else f"part{i}")
        for i, s in enumerate(series)
    ]
    desc = "; ".join(f"{_series_words(s.name)} {_from_to(s, times)}" for s in series)
    svg = charts.curves(f"fig-{name}", title, desc, lines, "training step", mark)
    note = (
        f"{format.sentence(desc)} A progress log, not evidence: single steps have no interval, and no rule rests on "
        "them."
    )
    if series[0].n:
        note += f" Counted on n = {format.count(series[0].n)}."
    merged = max(s.merged for s in series)
    if merged > 1:
        note += f" Each point is the mean of {merged} logged steps."
    return Figure(f"curve-{name}", title, desc, svg, note, _curve_table(title, series))


def _curve_table(title: str, series: tuple[Series, ...]) -> Table:
    """The logged values at no more than ``MOST_STEPS`` steps, evenly spread."""
    steps = sorted({x for s in series for x, _ in s.points})
    last = len(steps) - 1
    keep = steps if last < MOST_STEPS else [steps[round(i * last / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]
    known = [dict(s.points) for s in series]
    rows = tuple(
        (format.count(step), *(format.digits(k[step], "", 3) if step in k else "—" for k in known)) for step in keep
    )
    head = ("Step", *(f"{_series_words(s.name)} ({s.name})" for s in series))
    caption = f"{title}: {len(keep)} of {format.plural(len(steps), 'point')}; all are in the JSON"
    return Table(caption, head, rows)


def _series_words(name: str) -> str:
    return _SERIES.get(name, name.removeprefix("val_").replace("recall@", "first "))


def _from_to(series: Series, times: int) -> str:
    (step, first), (end, last) = series.points[0], series.points[-1]
    start, stop = (format.digits(times * v, "", 0 if times == 100 else 2) for v in (first, last))
    return f"from {start} at step {format.count(step)} to {stop} at step {format.count(end)}"


def note(data: ReportData) -> str:
    """How long it took, and whether this is an early checkpoint."""
    held = data.of_kind("train")
    if held is None:
        return "There is no record of this model's training in the store."
    cost = held.evidence.cost
    made = format.when(held.evidence.made)
    text = (
        f"Trained in {format.duration(cost.seconds)} ({format.duration(cost.cpu_seconds)} of processor time), {made}."
    )
    if held.evidence.facts.get("early_model") == data.model:
        step = held.evidence.facts.get("early_step", "")
        text += " This model is the early checkpoint" + (
            f" of step {format.count(int(step))}." if step.isdigit() else "."
        )
    if data.training and data.training.unreadable:
        text += f" {format.plural(data.training.unreadable, 'line')} of the log could not be read."
    return text
