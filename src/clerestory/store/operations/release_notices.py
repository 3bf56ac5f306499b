"""Notices of releases: a promotion, a rollback or a change of a canary is reported through the outbox.

The row is written in the transaction of the change, like that of an incident, and the channels say which they want.
"""

from __future__ import annotations

import secrets
import time
from typing import Literal, get_args

from sqlalchemy import Connection

from clerestory.core.release import Event
from clerestory.core.text import visible
from clerestory.store.operations.outbox import ALL_CHANNELS, enqueue

RELEASE_NOTICE = "release"  # the `event` of its payload, where that of an incident has trigger, acknowledge, …
NoticeKind = Literal["promotion", "rollback", "canary"]
NOTICE_KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
_PROMOTED, _ROLLED_BACK = "promoted", "rolled_back"
_CANARY = {
    "canary_started": "the rollout of {ref} was started by {who}",
    "canary_step": "the rollout of {ref} went on to {share} of the requests",
    "canary_paused": "the rollout of {ref} was paused by {who}",
    "canary_resumed": "the rollout of {ref} was resumed by {who}",
    "canary_ready": "the rollout of {ref} is ready: somebody has to promote it",
    "canary_aborted": "the rollout of {ref} was ended by {who}",
    "canary_rolled_back": "the candidate {ref} was rolled back by {who}",
}


def notify_release(connection: Connection, event: Event) -> None:
    """Queue the notice of a journal record, as part of the write transaction that changes the release.

    Args:
        connection: of the transaction; the tables of operations exist.
        event: a promotion, a rollback or a change of a canary; others are not reported.
    """
    kind = _kind(event.kind)
    if kind is None:
        return
    payload = {
        "event": RELEASE_NOTICE,
        "kind": kind,
        "change": event.kind,
        "title": visible(_title(event)),
        "name": event.subject.partition("@")[0],
        "subject": event.subject,
        "who": event.who,
        "why": event.why,
        "at": time.time(),
        "details": dict(event.details),
        "severity": "info",
        "dedup_key": f"release/{event.subject}",
    }
    stream = f"release/{payload['name']}"
    enqueue(connection, f"{stream}/{secrets.token_hex(12)}", ALL_CHANNELS, payload, stream)


def _kind(event: str) -> NoticeKind | None:
    if event in _CANARY:
        return "canary"
    return {_PROMOTED: NOTICE_KINDS[0], _ROLLED_BACK: NOTICE_KINDS[1]}.get(event)


def _title(event: Event) -> str:
    before = event.details.get("from", "")
    if event.kind == _PROMOTED:
        return f"{event.subject} was promoted by {event.who}"
    if event.kind == _ROLLED_BACK:
        return f"{before} was rolled back by {event.who}; {event.subject} is live again"
    share = f"{float(event.details.get('weight', '0')):.0%}"
    return _CANARY[event.kind].format(ref=event.subject, who=event.who, share=share)
