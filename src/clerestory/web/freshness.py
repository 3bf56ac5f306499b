"""How much of what is known of a release still holds: each part of its evaluation fresh, stale or missing."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.release import Release
from clerestory.report import format
from clerestory.stages.evaluate.diff import release_freshness
from clerestory.stages.evaluate.freshness import PartState
from clerestory.web import labels
from clerestory.web.state import Site


@dataclass(frozen=True, slots=True)
class PartView:
    """One part as the page shows it; ``why`` is empty while it is fresh."""

    part: PartState
    state: labels.State
    why: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """All parts of one release.

    Attributes:
        parts: those that are stale first, then the missing ones.
        state: of all of it together.
        summary: one sentence.
        command: what measures again whatever is not fresh; empty when all is.
    """

    parts: list[PartView]
    state: labels.State
    summary: str
    command: str


def freshness_of(here: Site, release: Release) -> Freshness:
    """The state of every part, for the data that is served."""
    states = release_freshness(here.store, release, here.data.digest if here.data is not None else "")
    order = ("stale", "missing", "fresh")
    parts = [PartView(each, labels.FRESHNESS[each.state], _why(each)) for each in states]
    parts.sort(key=lambda view: order.index(view.part.state))
    count = {name: sum(each.state == name for each in states) for name in order}
    fresh, total = count["fresh"], len(states)
    if fresh == total:
        return Freshness(parts, labels.FRESH, f"All {total} parts of its evaluation still hold.", "")
    rest = [
        f"{count[name]} {'is' if count[name] == 1 else 'are'} {name}" for name in ("stale", "missing") if count[name]
    ]
    state = labels.STALE if count["stale"] else labels.MISSING
    summary = f"{fresh} of {total} parts of its evaluation still hold; {format.listing(rest)}."
    return Freshness(parts, state, summary, f"clerestory evaluate {release.ref} --since {release.ref}")


def _why(state: PartState) -> str:
    if state.state == "missing":
        return "never measured for this model"
    return f"{labels.changes(state.changed)} changed since" if state.changed else ""
