"""``clerestory api-key``: the keys that programs and people present to a server."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.errors import InputError
from clerestory.core.provenance import current_user
from clerestory.store import open_store
from clerestory.store.operations.api_keys import (
    ApiKey,
    IssuedKey,
    create_key,
    list_keys,
    parse_scopes,
    revoke_key,
    rotate_key,
)

DEFAULT_DAYS, DEFAULT_OVERLAP_HOURS = 365, 24.0
NEVER = "never"


def create_(
    label: str,
    /,
    *,
    scope: Annotated[tuple[str, ...], Parameter(negative=())] = ("infer", "feedback"),
    expires: str = "",
    rate: float = 0.0,
    burst: float = 0.0,
    why: str,
    who: str = "",
    common: Common = PLAIN,
) -> None:
    """Make a key; it is shown once, and the store keeps only its SHA-256.

    As soon as one key exists, a server demands one of every request. A running server notices within two seconds.

    Args:
        label: Whose key it is, or what for.
        scope: What it may do: infer, feedback, registry:read, promote, audit, admin.
        expires: The last day on which it is valid, such as 2027-06-30, or never (default: in a year).
        rate: The price units per second that it may spend (default: that of serve.toml).
        burst: The price units that it may spend at once (default: those of serve.toml).
        why: The reason, for the journal.
        who: The person who makes it (default: $CLERESTORY_WHO or the login name).
    """
    scopes, end = parse_scopes(scope), _end(expires)
    if min(rate, burst) < 0 or not max(rate, burst) < float("inf"):
        raise InputError("--rate and --burst are numbers of 0 or more", "leave them out to use those of serve.toml")
    with open_store(common.home) as store:
        issued = create_key(store, label, scopes, who or current_user(), why, expires=end, rate=rate, burst=burst)
    _show(issued, common)


def list_(*, common: Common = PLAIN) -> None:
    """List the keys with their scopes and states; the keys themselves are not in the store."""
    with open_store(common.home) as store:
        keys = list_keys(store)
    now = time.time()
    table = Table("key", "state", "label", "scopes", "made", "last valid day", "replaces", box=None)
    for key in keys:
        made, end = _day(key.created), _day(key.expires) if key.expires else NEVER
        table.add_row(f"{key.id}…", key.state(now), key.label, " ".join(key.scopes), made, end, key.replaces)
    common.out.result([_facts(key, now) for key in keys], *([table] if keys else ["there are no keys"]))
    if not keys:
        common.out.next("clerestory api-key create 'my laptop' --why '...'")


def rotate_(
    id: str,
    /,
    *,
    overlap_hours: float = DEFAULT_OVERLAP_HOURS,
    expires: str = "",
    why: str,
    who: str = "",
    common: Common = PLAIN,
) -> None:
    """Make a key that takes the place of another one, which stays valid for a while.

    Args:
        id: The visible beginning of the old key, such as clr_ab12cd34.
        overlap_hours: How long the old key stays valid.
        expires: The last day on which the new key is valid, or never (default: in a year).
        why: The reason, for the journal.
        who: The person who rotates it (default: $CLERESTORY_WHO or the login name).
    """
    with open_store(common.home) as store:
        overlap = overlap_hours * 3600
        issued = rotate_key(store, id, overlap, who or current_user(), why, expires=_end(expires))
    _show(issued, common, f"the old key {issued.key.replaces} stays valid for {overlap_hours:g} h")


def revoke_(id: str, /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Revoke a key: a running server refuses it within two seconds.

    Args:
        id: The visible beginning of the key, such as clr_ab12cd34.
        why: The reason, for the journal.
        who: The person who revokes it (default: $CLERESTORY_WHO or the login name).
    """
    with open_store(common.home) as store:
        key = revoke_key(store, id, who or current_user(), why)
    common.out.result(_facts(key, time.time()), f"{key.id} ({key.label}) is revoked")


def _show(issued: IssuedKey, common: Common, *lines: str) -> None:
    key = issued.key
    common.out.result(
        {"key": issued.secret, **_facts(key, key.created)},
        f"key      {issued.secret}",
        f"scopes   {' '.join(key.scopes)}",
        f"expires  {_day(key.expires) if key.expires else NEVER}",
        "keep it now: it is not shown again, and the store has only its SHA-256",
        *lines,
    )


def _facts(key: ApiKey, now: float) -> dict[str, Any]:
    facts: dict[str, Any] = encode(key)
    times = {name: _iso(facts[name]) if facts[name] else "" for name in ("created", "expires", "revoked")}
    return {**facts, **times, "state": key.state(now)}


def _end(expires: str) -> float:
    """The end of the last day, in seconds since the epoch; 0 for never."""
    if expires == NEVER:
        return 0.0
    try:
        last = date.fromisoformat(expires) if expires else datetime.now(UTC).date() + timedelta(days=DEFAULT_DAYS)
        return datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp() + 86_400
    except (ValueError, OverflowError) as error:
        raise InputError(f"--expires {expires} is not a day", "write it as 2027-06-30, or never") from error


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _day(moment: float) -> str:
    """The day that ends at a moment, or in which it lies."""
    return _iso(moment - 1)[:10]
