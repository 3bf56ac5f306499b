"""``clerestory evaluate MODEL --since live``: what is stale, measured again, and what that changed."""

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
from clerestory.report.format import duration, number
from clerestory.stages.evaluate import EvaluateConfig, PartState, evaluate, freshness
from clerestory.stages.evaluate.diff import Change, Changes, changes
from clerestory.store import Store

STATES = {"fresh": ("✓ fresh", "green"), "stale": ("? stale", "yellow"), "missing": ("· missing", "dim")}
CHANGED = {
    "data": "the pictures",
    "code": "the code",
    "config": "the settings",
    "environment": "the machine or its libraries",
    "model": "the model",
}
MOST = 40


def evaluate_since(
    store: Store, model: Any, data: Dataset, config: EvaluateConfig, since: str, out: Output, line: str = ""
) -> int:
    """Measure again what is stale or missing, and say what changed since a release was decided on.

    Args:
        store: where evidence is.
        model: the opened model.
        data: what it is examined on.
        config: what to measure.
        since: ``live`` or another alias, or a release such as ``icons@3``.
        out: where the answer goes.
        line: the line of models whose alias is meant; needed where the store has several.

    Returns:
        0 when nothing got worse by more than its uncertainty, 1 when something did.
    """
    release = _release(store, since, line)
    before = _before(store, release, data.digest)
    states = freshness(model.digest, data.digest, store, config)
    out.say(_tally(states))
    evidence = evaluate(model, data, config, store, out)
    now = {state.name: state for state in freshness(model.digest, data.digest, store, config)}
    found = changes(before, evidence) if before is not None else Changes((), 0, len(evidence.measurements), 0)
    out.result(
        {
            "since": release.ref,
            "parts": [{**encode(state), "measured_again": _again(state, now)} for state in states],
            "evidence": evidence.id,
            "before": before.id if before else "",
            "changed": [{**encode(change), "alarming": change.alarming} for change in found.changed],
            "same": found.same,
            "new": found.new,
            "gone": found.gone,
        },
        _parts(states, now),
        *_told(found, release, before),
        f"evidence  {evidence.id}",
    )
    if found.alarming and release.model != model.digest:
        out.next(f"clerestory compare {short(model.digest)} {release.ref}")
    elif any(_again(state, now) for state in states):
        out.next(f"clerestory release gate {short(model.digest)}")
    return 1 if found.alarming else 0


def freshness_table(states: list[PartState]) -> Table:
    """Every part of an evaluation: fresh, stale and why, or missing."""
    return _parts(states, {})


def why_stale(state: PartState) -> str:
    """What is not the same any more: ``the code and the pictures changed``."""
    return f"{' and '.join(CHANGED[name] for name in state.changed)} changed" if state.changed else ""


def _parts(states: list[PartState], now: dict[str, PartState]) -> Table:
    head = ("part", "state", "why", "took", *(("now",) if now else ()))
    table = Table(*head, box=None)
    for state in states:
        word, style = STATES[state.state]
        why = why_stale(state) or ("" if state.made else "never measured")
        took = duration(state.seconds) if state.made else ""
        cells: list[str | Text] = [state.name, Text(word, style), why, took]
        if now:
            cells.append(f"measured in {duration(now[state.name].seconds)}" if _again(state, now) else "kept")
        table.add_row(*cells)
    return table


def _again(state: PartState, now: dict[str, PartState]) -> bool:
    """Whether a part was measured in this run."""
    return now[state.name].id != state.id


def _tally(states: list[PartState]) -> str:
    counts = {word: sum(state.state == word for state in states) for word in STATES}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _told(found: Changes, release: Release, before: Evidence | None) -> list[str | Text | Table]:
    if before is None:
        return [f"{release.ref} was never examined on this data, so there is nothing to hold the numbers against"]
    summary = f"since {release.ref} ({before.made}): {len(found.changed)} numbers differ, {found.same} are the same"
    summary += f", {found.new} are new" if found.new else ""
    summary += f", {found.gone} are gone" if found.gone else ""
    if not found.changed:
        return [summary]
    table = Table("", "what", "on", "before", "now", box=None)
    for change in found.changed[:MOST]:
        table.add_row(*_row(change))
    more = len(found.changed) - MOST
    lines: list[str | Text | Table] = [summary, table]
    return [*lines, f"and {more} more: --json has them all"] if more > 0 else lines


def _row(change: Change) -> list[str | Text]:
    word, style = ("✗ worse", "red") if change.worse else ("✓ better", "green")
    if change.after.direction == "none":
        word, style = "· other", "dim"
    if not change.beyond or change.machine:
        word, style = ("· machine" if change.machine else "· within chance"), "dim"
    name, where = change.after.name, str(change.after.slice)
    return [Text(word, style), name, where, number(change.before), number(change.after)]


def _release(store: Store, since: str, line: str) -> Release:
    if "@" not in since:
        lines = sorted({release.name for release in store.releases()})
        if not line and len(lines) > 1:
            raise InputError(
                f"there are several lines of models: {', '.join(lines)}", f"say --since {lines[0]}@{since}"
            )
        since = f"{line or (lines[0] if lines else 'icons')}@{since}"
    release = store.resolve(since).release
    assert release is not None  # a name with an @ is a release, or resolve raises
    return release


def _before(store: Store, release: Release, data: str) -> Evidence | None:
    """The examination that a release was decided on, or the newest one of its model on this data."""
    decided = [store.evidence(each) for each in release.evidence]
    decided += store.find_evidence("evaluate", model=release.model, data=data)
    mine = [
        each
        for each in decided
        if (each.kind, each.subject.model, each.subject.data) == ("evaluate", release.model, data)
    ]
    return mine[0] if mine else None
