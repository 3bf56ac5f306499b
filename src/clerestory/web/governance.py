"""``/governance``: the answers to the requirements of frameworks, release by release."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from clerestory.apps.govern_report import keep_page, kept_page
from clerestory.apps.governing import govern_release
from clerestory.core.evidence import Evidence
from clerestory.core.provenance import stage_code
from clerestory.core.release import Release
from clerestory.stages.govern.run import KIND
from clerestory.stages.govern.states import ItemState
from clerestory.store import Store
from clerestory.web.data import SHEET_POLICY
from clerestory.web.state import server_state
from clerestory.web.views import page


@dataclass(frozen=True, slots=True)
class GovernedRelease:
    """A release with its newest run; ``counts`` are empty if there was none.

    Attributes:
        release: the release.
        is_live: whether it answers now.
        run: evidence of the newest run over all catalogues; None if there was none.
        counts: how many requirements are in each state, with the words for people.
        has_page: whether its page was kept.
        is_current: whether nothing was recorded since, and the code is the same.
    """

    release: Release
    is_live: bool
    run: Evidence | None
    counts: tuple[tuple[str, int, str], ...] = ()
    has_page: bool = False
    is_current: bool = False


_TONES = {
    ItemState.FAILED: ("failed", "no"),
    ItemState.STALE: ("stale", "unsure"),
    ItemState.PASSED: ("passed", "yes"),
    ItemState.NEEDS_PERSON: ("need a person", "sky"),
    ItemState.UNTESTED: ("untested", "soft"),
    ItemState.NOT_APPLICABLE: ("do not apply", "soft"),
}


async def governance_page(request: Request) -> Response:
    """``GET /governance``: every release with the states of the requirements at its newest run."""
    store = server_state(request).store
    return page(request, "governance.html", {"releases": await asyncio.to_thread(governed_releases, store)})


async def release_governance(request: Request) -> Response:
    """``GET /governance/{name}/{number}``: every requirement with its evidence, a page that loads nothing."""
    store = server_state(request).store
    name, number = request.path_params["name"], request.path_params["number"]
    html = await asyncio.to_thread(_kept, store, name, number)
    if html is None:
        return RedirectResponse("/governance", status_code=303)
    return HTMLResponse(html, headers={"content-security-policy": SHEET_POLICY})


async def check_again(request: Request) -> Response:
    """``POST /governance/{name}/{number}``: run every verifier now, and keep the page."""
    store = server_state(request).store
    release = await asyncio.to_thread(store.release, request.path_params["name"], request.path_params["number"])

    def check() -> None:
        keep_page(store, govern_release(store, release.ref))

    await asyncio.to_thread(check)
    return RedirectResponse(f"/governance/{quote(release.name, safe='')}/{release.number}", status_code=303)


def governed_releases(store: Store) -> list[GovernedRelease]:
    """Every release, the live ones first, with its newest run."""
    live = {(alias.name, alias.number) for alias in store.aliases() if alias.alias == "live"}
    runs = store.find_evidence(KIND)
    found = [_governed(store, release, (release.name, release.number) in live, runs) for release in store.releases()]
    return sorted(found, key=lambda each: not each.is_live)


def _governed(store: Store, release: Release, is_live: bool, runs: list[Evidence]) -> GovernedRelease:
    run = next((run for run in runs if run.facts.get("release") == release.ref), None)
    if run is None:
        return GovernedRelease(release, is_live, None)
    counts = tuple((words, run.facts.integer(state.value), tone) for state, (words, tone) in _TONES.items())
    is_current = (
        run.subject.code == stage_code(KIND) and run.facts.integer("journal_records") == store.journal.head()[0]
    )
    return GovernedRelease(release, is_live, run, counts, kept_page(store, run.id) is not None, is_current)


def _kept(store: Store, name: str, number: int) -> str | None:
    release = store.release(name, number)
    for run in store.find_evidence(KIND, model=release.model):
        if run.facts.get("release") == release.ref and (html := kept_page(store, run.id)) is not None:
            return html
    return None
