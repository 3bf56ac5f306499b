"""The freshness of a release's evaluation: each suite up to date, stale or missing."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.release import Release
from clerestory.report import format
from clerestory.stages.evaluate.diff import SuiteState, release_freshness
from clerestory.web import labels
from clerestory.web.state import ServerState


@dataclass(frozen=True, slots=True)
class SuiteStateView:
    """The state of one suite; ``reason`` is empty while it is fresh."""

    suite: SuiteState
    label: labels.StateLabel
    reason: str


@dataclass(frozen=True, slots=True)
class FreshnessView:
    """The state of all suites of one release.

    Attributes:
        suites: the stale ones first, then the missing ones.
        label: of all together.
        summary: one sentence.
        command: the command that measures stale and missing suites again; empty if there are none.
    """

    suites: list[SuiteStateView]
    label: labels.StateLabel
    summary: str
    command: str


def freshness_of(server: ServerState, release: Release) -> FreshnessView:
    """The state of every suite for the served data."""
    data = server.data.digest if server.data is not None else ""
    states = release_freshness(server.store, release, data)
    order = ("stale", "missing", "fresh")
    suites = [SuiteStateView(each, labels.FRESHNESS[each.state], _reason(each)) for each in states]
    suites.sort(key=lambda view: order.index(view.suite.state))
    count = {name: sum(each.state == name for each in states) for name in order}
    fresh, total = count["fresh"], len(states)
    if fresh == total:
        return FreshnessView(suites, labels.FRESH, f"All {total} evaluation suites are up to date.", "")
    rest = [
        f"{count[name]} {'is' if count[name] == 1 else 'are'} {name}" for name in ("stale", "missing") if count[name]
    ]
    label = labels.STALE if count["stale"] else labels.MISSING
    summary = f"{fresh} of {total} evaluation suites are up to date; {format.listing(rest)}."
    return FreshnessView(suites, label, summary, f"clerestory evaluate {release.ref} --since {release.ref}")


def _reason(state: SuiteState) -> str:
    if state.state == "missing":
        return "never measured for this model"
    reasons = ["measured on other images"] if "data" in state.changed else []
    rest = [name for name in state.changed if name != "data"]
    if rest:
        reasons.append(f"{labels.changes(rest)} changed since")
    return format.listing(reasons)
