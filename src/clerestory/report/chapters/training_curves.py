"""Training: how did it go? The curves of the training log."""

from __future__ import annotations

from clerestory.core.digest import short
from clerestory.core.units import duration
from clerestory.report import format
from clerestory.report.model import TRAINING, LogSeries, ReportData, TrainingLog
from clerestory.report.svg import charts
from clerestory.report.svg.charts import ChartSeries
from clerestory.report.view import Chapter, Figure, NotMeasured, TableView

MAX_STEPS = 24
VALIDATION = "val_"
_LOSSES = {"loss": "total", "contrastive": "contrastive", "caption": "captioning"}


def chapter(data: ReportData) -> Chapter:
    """Loss and validation recall over the steps."""
    title, short = "Training: how did the loss develop?", "Training"
    if data.training is None:
        absent = NotMeasured("There is no training log to draw.")
        return Chapter("training", title, short, 140, lead=_note(data), absent=(absent,))
    return Chapter("training", title, short, 140, lead=_note(data), figures=_figures(data.training))


def _figures(training: TrainingLog) -> tuple[Figure, ...]:
    mark = (float(training.early_step), "early checkpoint") if training.early_step else None
    drawn = [_curve("loss", "Training loss", training.losses, mark, 1)]
    if training.validation:
        drawn.append(_curve("validation", "Validation recall, of 100 pictures", training.validation, mark, 100))
    return tuple(drawn)


def _curve(name: str, title: str, series: tuple[LogSeries, ...], mark: tuple[float, str] | None, times: int) -> Figure:
    lines = [
        ChartSeries(_label(s.name), tuple((float(x), times * y) for x, y in s.points), f"part{i}" if i else "main")
        for i, s in enumerate(series)
    ]
    desc = "; ".join(f"{_label(s.name)} {_from_to(s, times)}" for s in series)
    svg = charts.curves(f"fig-{name}", title, desc, lines, "training step", mark)
    note = (
        f"{format.sentence(desc)} This is a progress log, not evidence: single steps have no confidence interval, and "
        "no rule of a policy reads them."
    )
    if series[0].n:
        note += f" Measured on n = {format.count(series[0].n)}."
    merged = max(s.values_per_point for s in series)
    if merged > 1:
        note += f" Each point is the mean of {merged} logged steps."
    return Figure(f"curve-{name}", title, desc, svg, note, _table(title, series))


def _table(title: str, series: tuple[LogSeries, ...]) -> TableView:
    """The logged values at no more than ``MAX_STEPS`` steps, evenly spread."""
    steps = sorted({x for s in series for x, _ in s.points})
    last = len(steps) - 1
    shown = steps if last < MAX_STEPS else [steps[round(i * last / (MAX_STEPS - 1))] for i in range(MAX_STEPS)]
    known = [dict(s.points) for s in series]
    rows = tuple(
        (format.count(step), *(format.digits(k[step], "", 3) if step in k else "—" for k in known)) for step in shown
    )
    head = ("Step", *(f"{_label(s.name)} ({s.name})" for s in series))
    caption = f"{title}: {len(shown)} of {format.plural(len(steps), 'point')}; all are in the JSON"
    return TableView(caption, head, rows)


def _label(name: str) -> str:
    """The short name of a curve: of its loss term, or of its metric on the validation split."""
    return _LOSSES.get(name, name.removeprefix(VALIDATION))


def _from_to(series: LogSeries, times: int) -> str:
    (step, first), (end, last) = series.points[0], series.points[-1]
    start, stop = (format.digits(times * v, "", 0 if times == 100 else 2) for v in (first, last))
    return f"from {start} at step {format.count(step)} to {stop} at step {format.count(end)}"


def _note(data: ReportData) -> str:
    """How long the training took, and whether this is an early checkpoint."""
    record = data.training_record
    if record is None:
        return "There is no record of this model's training in the store."
    evidence = record.evidence
    cost, made = evidence.cost, format.when(evidence.created)
    how = "Trained"
    if evidence.kind != TRAINING:
        base, digest = evidence.facts.text("base") or "a model", short(evidence.facts.text("base_model"))
        how = f"Fine-tuned from {base} ({digest}) for {format.plural(evidence.facts.integer('steps'), 'step')}"
    text = f"{how} in {duration(cost.seconds)} ({duration(cost.cpu_seconds)} of CPU time), {made}."
    if evidence.facts.get("early_model") == data.model:
        step = data.training.early_step if data.training else 0
        text += " This model is the early checkpoint" + (f" of step {format.count(step)}." if step else ".")
    if data.training and data.training.num_unreadable:
        text += f" {format.plural(data.training.num_unreadable, 'line')} of the log could not be read."
    return text
