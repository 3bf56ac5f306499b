"""``/journal``: everything that people and the service have done, with filters, and a page for each record."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from clerestory.core.digest import canonical
from clerestory.store import Store
from clerestory.store.journal import chain
from clerestory.store.journal_search import JournalFilter, journal_kinds, one_record, search_journal
from clerestory.web.state import server_state
from clerestory.web.views import page

PAGE_SIZE = 50
MAX_LENGTH = 128
FIELDS = ("kind", "subject", "who", "since", "until")


async def journal_page(request: Request) -> Response:
    """``GET /journal``: the records that meet the filters, newest first."""
    server = server_state(request)
    query = request.query_params
    values = {name: query.get(name, "").strip()[:MAX_LENGTH] for name in FIELDS}
    before, check = query.get("before", ""), query.get("check", "") == "all"
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 12 else 0

    def read() -> dict[str, object]:
        found = search_journal(server.store, JournalFilter(**values), number, PAGE_SIZE)
        return {
            "records": found.records,
            "older": found.before,
            "is_first": not number,
            "filters": values,
            "is_filtered": any(values.values()),
            "kinds": journal_kinds(server.store),
            **_verified(server.store, check),
        }

    return page(request, "journal.html", await asyncio.to_thread(read))


async def record_page(request: Request) -> Response:
    """``GET /journal/{seq}``: one record with its hash, and whether it is the hash of what it says."""
    server = server_state(request)
    seq = request.path_params["seq"]

    def read() -> dict[str, object]:
        record = one_record(server.store, seq)
        length, _ = server.store.journal.head()
        intact = chain(record.previous, canonical(record.event)) == record.hash
        return {"record": record, "intact": intact, "length": length}

    return page(request, "journal_record.html", await asyncio.to_thread(read))


def _verified(store: Store, check: bool) -> dict[str, object]:
    """Whether the chain and its signed checkpoints agree: of what is new, and of all of it if somebody asks."""
    length, head = store.journal.head()
    findings = store.journal.verify() if check else store.journal.verify_new()
    return {"length": length, "head": head, "checked_all": check, "problem": findings[0] if findings else None}
