"""``clerestory evaluate MODEL --since live``: measures stale suites again and shows the changes."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from clerestory.cli.output import Output
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence
from clerestory.core.release import Release
from clerestory.core.sample import Dataset
from clerestory.core.units import duration, plural
from clerestory.report.format import DIGESTS, number
from clerestory.stages.evaluate import EvaluateConfig, SuiteState, evaluate, freshness
from clerestory.stages.evaluate.diff import EvaluationDiff, MeasurementChange, diff_evaluations
from clerestory.store import Store

STATES = {"fresh": ("✓ fresh", "green"), "stale": ("? stale", "yellow"), "missing": ("· missing", "dim")}
MAX_CHANGES = 40


def evaluate_since(
    store: Store,
    model: Any,
    data: Dataset,
    config: EvaluateConfig,
    since: str,
    out: Output,
    name: str = "",
    options: str = "",
) -> int:
    """Measure stale and missing suites again, and print what changed since a release was decided on.

    Args:
        store: the evidence.
        model: the loaded model.
        data: the dataset to evaluate on.
        config: the settings of the evaluation.
        since: ``live`` or another alias, or a release such as ``icons@3``.
        out: receives the result.
        name: the model name of the alias; needed if the store has several.
        options: the options that name the data and the tasks, for the suggested command.

    Returns:
        The exit code: 1 if a measurement got worse by more than its uncertainty, else 0.
    """
    release = _release(store, since, name)
    before = _evaluation_of(store, release, data.digest)
    states = freshness(model.digest, data.digest, store, config)
    out.write_line(_tally(states))
    evidence = evaluate(model, data, config, store, out)
    now = {state.name: state for state in freshness(model.digest, data.digest, store, config)}
    diff = (
        diff_evaluations(before, evidence)
        if before is not None
        else EvaluationDiff((), 0, len(evidence.measurements), 0)
    )
    out.result(
        {
            "since": release.ref,
            "suites": [{**encode(state), "measured_again": _measured_again(state, now)} for state in states],
            "evidence": evidence.id,
            "before": before.id if before else "",
            "changed": [{**encode(change), "regression": change.regression} for change in diff.changed],
            "same": diff.same,
            "new": diff.new,
            "gone": diff.gone,
        },
        _suite_table(states, now),
        *_change_lines(diff, release, before),
        f"evidence  {evidence.id}",
    )
    if diff.regressions and release.model != model.digest:
        out.next(f"clerestory compare {short(model.digest)} {release.ref}{options}")
    elif any(_measured_again(state, now) for state in states):
        out.next(f"clerestory release gate {short(model.digest)}{options}")
    return 1 if diff.regressions else 0


def freshness_table(states: list[SuiteState]) -> Table:
    """Every suite of an evaluation: fresh, stale with the reason, or missing."""
    return _suite_table(states, {})


def stale_reason(state: SuiteState) -> str:
    """The reason why a suite is stale: ``the code and the data changed``; empty if it is not."""
    return f"{' and '.join(DIGESTS[name] for name in state.changed)} changed" if state.changed else ""


def _suite_table(states: list[SuiteState], now: dict[str, SuiteState]) -> Table:
    heads = ("suite", "state", "reason", "took", *(("now",) if now else ()))
    table = Table(*heads, box=None)
    for state in states:
        label, style = STATES[state.state]
        reason = stale_reason(state) or ("" if state.created else "never measured")
        took = duration(state.seconds) if state.created else ""
        cells: list[str | Text] = [state.name, Text(label, style), reason, took]
        if now:
            again = _measured_again(state, now)
            cells.append(f"measured in {duration(now[state.name].seconds)}" if again else "from the store")
        table.add_row(*cells)
    return table


def _measured_again(state: SuiteState, now: dict[str, SuiteState]) -> bool:
    """Whether this run measured a suite."""
    return now[state.name].id != state.id


def _tally(states: list[SuiteState]) -> str:
    counts = {name: sum(state.state == name for state in states) for name in STATES}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _change_lines(diff: EvaluationDiff, release: Release, before: Evidence | None) -> list[str | Text | Table]:
    if before is None:
        return [f"{release.ref} was never evaluated on this data, so there are no earlier numbers to compare with"]
    summary = f"since {release.ref} ({before.created}): {plural(len(diff.changed), 'number')} changed"
    summary += f", {diff.same} stayed the same"
    summary += f", {diff.new} are new" if diff.new else ""
    summary += f", {diff.gone} are gone" if diff.gone else ""
    if not diff.changed:
        return [summary]
    table = Table("", "metric", "slice", "before", "now", box=None)
    for change in diff.changed[:MAX_CHANGES]:
        table.add_row(*_cells(change))
    more = len(diff.changed) - MAX_CHANGES
    lines: list[str | Text | Table] = [summary, table]
    return [*lines, f"and {more} more (--json prints all of them)"] if more > 0 else lines


def _cells(change: MeasurementChange) -> list[str | Text]:
    label, style = ("✗ worse", "red") if change.worse else ("✓ better", "green")
    if change.after.direction == "none":
        label, style = "· changed", "dim"
    if change.machine_dependent:
        label, style = "· machine", "dim"
    elif not change.significant:
        label, style = "· within chance", "dim"
    return [
        Text(label, style),
        change.after.name,
        str(change.after.slice),
        number(change.before),
        number(change.after),
    ]


def _release(store: Store, since: str, name: str) -> Release:
    if "@" not in since:
        names = sorted({release.name for release in store.releases()})
        if not name and len(names) > 1:
            raise InputError(
                f"the alias {since!r} is ambiguous: the store has the model names {', '.join(names)}",
                f"name one, such as --since {names[0]}@{since}",
            )
        since = f"{name or (names[0] if names else 'icons')}@{since}"
    release = store.resolve(since).release
    assert release is not None  # a reference with an @ is a release, or resolve raises
    return release


def _evaluation_of(store: Store, release: Release, data: str) -> Evidence | None:
    """The evaluation that a release was decided on, or the newest one of its model, on this data."""
    candidates = [store.evidence(each) for each in release.evidence]
    candidates += store.find_evidence("evaluate", model=release.model, data=data)
    wanted = ("evaluate", release.model, data)
    return next((each for each in candidates if (each.kind, each.subject.model, each.subject.data) == wanted), None)
