"""API keys: made here, shown once, and known to the store only by their SHA-256.

A key is ``clr_ab12cd34_<43 characters>``: the part before the second underscore is its visible id, the rest 256 random
bits. Nobody can guess them, so a plain SHA-256 protects the key as well as a slow hash would, and checking one costs
microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from clerestory.core.codec import Tags, decode
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError, NotFound, closest, not_found
from clerestory.core.release import Event
from clerestory.core.settings import one_of
from clerestory.store.operations.schema import api_keys as table
from clerestory.store.store import Store

PREFIX = "clr_"
ID_BYTES, SECRET_BYTES = 4, 32
MAX_PRESENTED = 200  # characters of a key that a client presents; a longer one is not hashed
MAX_LABEL = 100
CREATED, ROTATED, REVOKED = "api_key_created", "api_key_rotated", "api_key_revoked"
NO_KEY_HASH = "0" * 64  # of no key: what an unknown id is compared with


class KeyScope(StrEnum):
    """What a key may do."""

    INFER = "infer"  # embeddings, captions, classification, search, and the pages that show them
    FEEDBACK = "feedback"  # say whether an answer was right
    REGISTRY_READ = "registry:read"  # read releases, evidence, reports
    PROMOTE = "promote"  # promote and roll back
    AUDIT = "audit"  # read the journal, the audits and governance, and decide on findings
    ADMIN = "admin"  # everything


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the store knows of a key.

    Attributes:
        id: the visible prefix, such as ``clr_ab12cd34``.
        label: whose key it is, or what for.
        scopes: what it may do.
        created, expires, revoked: seconds since the epoch; ``expires`` is 0 for never, ``revoked`` for not.
        replaces: the id of the key that it was rotated from; empty if there is none.
        rate, burst: the price units per second that it may spend, and at once; 0 for those of the settings.
    """

    id: str
    label: str
    scopes: tuple[KeyScope, ...]
    created: float
    expires: float = 0.0
    revoked: float = 0.0
    replaces: str = ""
    rate: float = 0.0
    burst: float = 0.0

    def state(self, now: float) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and now >= self.expires else "valid"

    def allows(self, scope: KeyScope) -> bool:
        """Whether it has a scope; ``admin`` has all of them."""
        return scope in self.scopes or KeyScope.ADMIN in self.scopes


class IssuedKey(NamedTuple):
    """A new key: the only moment at which the key itself is known."""

    secret: str
    key: ApiKey


@dataclass(frozen=True, slots=True)
class _Body:
    scopes: tuple[str, ...]
    replaces: str = ""
    rate: float = 0.0
    burst: float = 0.0


def parse_scopes(names: Iterable[str]) -> tuple[KeyScope, ...]:
    """The scopes with these names, each once, in the order of ``KeyScope``.

    Raises:
        InputError: there is none, or one does not exist.
    """
    wanted, known = list(names), [str(scope) for scope in KeyScope]
    for name in wanted:
        if name not in known:
            raise InputError(f"{name!r} is not a scope", f"use {one_of(known)}", closest(name, known))
    if not wanted:
        raise InputError("the key has no scope", f"give at least one: {one_of(known)}")
    return tuple(scope for scope in KeyScope if scope in wanted)


def create_key(
    store: Store,
    label: str,
    scopes: Iterable[KeyScope],
    who: str,
    why: str,
    *,
    expires: float = 0.0,
    rate: float = 0.0,
    burst: float = 0.0,
) -> IssuedKey:
    """Make a key; its journal record has the id and the scopes, never the key.

    Args:
        store: keeps its hash.
        label: whose key it is, or what for.
        scopes: what it may do.
        who: the author, for the journal.
        why: the reason, for the journal.
        expires: when it ends, in seconds since the epoch; 0 for never.
        rate: the price units per second that it may spend; 0 for those of the settings.
        burst: the price units that it may spend at once; 0 for those of the settings.

    Raises:
        InputError: the label is empty or too long, it has no scope, or it would end in the past.
    """
    label = label.strip()
    if not label or len(label) > MAX_LABEL or not label.isprintable():
        raise InputError("the key has no usable label", f"say whose it is in 1 to {MAX_LABEL} characters")
    now = time.time()
    if expires and expires <= now:
        raise InputError(f"the key would end in the past ({_iso(expires)})", "choose a later moment")
    scopes = parse_scopes(scopes)
    issued = _new(label, scopes, now, expires, rate=rate, burst=burst)
    store.database.ensure_operations()
    with store.database.writing() as connection:
        _insert(connection, issued)
        store.journal.write(connection, _event(CREATED, issued.key, who, why, now))
    return issued


def rotate_key(store: Store, id: str, overlap: float, who: str, why: str, *, expires: float = 0.0) -> IssuedKey:
    """Make a key that takes the place of another, which stays valid for the overlap.

    Args:
        store: keeps both.
        id: the visible id of the old key, or a unique beginning of it.
        overlap: how many seconds the old key stays valid.
        who: the author, for the journal.
        why: the reason, for the journal.
        expires: when the new key ends; 0 for never.

    Raises:
        NotFound: no key has this id.
        InputError: the old key is revoked or has expired, or the overlap is negative.
    """
    if not 0 <= overlap < float("inf"):
        raise InputError(f"the overlap is {overlap:g} s", "give 0 or more seconds")
    store.database.ensure_operations()
    now = time.time()
    with store.database.writing() as connection:
        old = _find(connection, id)
        if (state := old.state(now)) != "valid":
            raise InputError(f"the key {old.id} is {state}", "create a new one with: clerestory api-key create")
        issued = _new(old.label, old.scopes, now, expires, replaces=old.id, rate=old.rate, burst=old.burst)
        _insert(connection, issued)
        end = min(now + overlap, old.expires or float("inf"))
        connection.execute(table.update().where(table.c.id == old.id).values(expires=end))
        store.journal.write(
            connection, _event(ROTATED, issued.key, who, why, now, replaces=old.id, old_key_ends=_iso(end))
        )
    return issued


def revoke_key(store: Store, id: str, who: str, why: str) -> ApiKey:
    """Revoke a key at once; running servers follow within two seconds. A second time changes nothing.

    Raises:
        NotFound: no key has this id.
    """
    store.database.ensure_operations()
    now = time.time()
    with store.database.writing() as connection:
        key = _find(connection, id)
        if key.revoked:
            return key
        connection.execute(table.update().where(table.c.id == key.id).values(revoked=now))
        store.journal.write(connection, _event(REVOKED, key, who, why, now))
    return replace(key, revoked=now)


def list_keys(store: Store) -> list[ApiKey]:
    """Every key, the newest first."""
    return sorted((key for key, _ in _read(store)), key=lambda each: (-each.created, each.id))


class KeyRing:
    """The keys of a store at one moment, for checking many requests without a database.

    Args:
        hashes: each key with its SHA-256.
    """

    def __init__(self, hashes: Iterable[tuple[ApiKey, str]] = ()) -> None:
        self._by_id: Mapping[str, tuple[ApiKey, str]] = {key.id: (key, digest) for key, digest in hashes}

    @classmethod
    def of(cls, store: Store) -> KeyRing:
        """The keys of a store."""
        return cls(_read(store))

    def __len__(self) -> int:
        """How many keys were ever made; revoking the last one does not open the server."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[ApiKey]:
        """The keys, valid or not."""
        return (key for key, _ in self._by_id.values())

    def check(self, presented: str, now: float) -> tuple[ApiKey | None, str]:
        """The key that a client presents, and its state: ``valid``, ``unknown``, ``expired`` or ``revoked``.

        The time does not depend on the secret: hashes are compared, in constant time, and for an unknown id too.
        """
        digest = hash_key(presented)
        key, expected = self._by_id.get(key_id(presented), (None, NO_KEY_HASH))
        if not hmac.compare_digest(digest, expected) or key is None:
            return None, "unknown"
        return key, key.state(now)

    def get(self, id: str) -> ApiKey | None:
        """The key with an id."""
        return self._by_id.get(id, (None, ""))[0]


def hash_key(presented: str) -> str:
    """The SHA-256 of a key."""
    return hashlib.sha256(presented[:MAX_PRESENTED].encode("utf-8", "surrogatepass")).hexdigest()


def key_id(presented: str) -> str:
    """The visible id of a presented key; of anything else its beginning."""
    return presented[: len(PREFIX) + 2 * ID_BYTES]


def _new(
    label: str,
    scopes: tuple[KeyScope, ...],
    now: float,
    expires: float,
    *,
    replaces: str = "",
    rate: float = 0.0,
    burst: float = 0.0,
) -> IssuedKey:
    id = PREFIX + secrets.token_hex(ID_BYTES)
    secret = f"{id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return IssuedKey(secret, ApiKey(id, label, scopes, now, expires, 0.0, replaces, rate, burst))


def _insert(connection: Connection, issued: IssuedKey) -> None:
    key = issued.key
    body = canonical(_Body(tuple(map(str, key.scopes)), key.replaces, key.rate, key.burst)).decode()
    connection.execute(
        table.insert().values(
            id=key.id,
            hash=hash_key(issued.secret),
            label=key.label,
            created=key.created,
            expires=key.expires,
            revoked=0.0,
            body=body,
        )
    )


def _read(store: Store) -> list[tuple[ApiKey, str]]:
    store.database.ensure_operations()
    with store.database.reading() as connection:
        rows = connection.execute(select(table)).all()
    return [(_key(row), row.hash) for row in rows]


def _find(connection: Connection, id: str) -> ApiKey:
    keys = {row.id: _key(row) for row in connection.execute(select(table))}
    matching = [key for name, key in keys.items() if id and name.startswith(id)]
    if id in keys:
        return keys[id]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise NotFound(f"{id!r} begins {len(matching)} keys", "give the whole id; clerestory api-key list shows them")
    raise not_found("key", id, keys, "clerestory api-key list shows the keys")


def _key(row: Row[Any]) -> ApiKey:
    body = decode(_Body, json.loads(row.body))
    times = (row.created, row.expires, row.revoked)
    scopes = tuple(scope for scope in KeyScope if str(scope) in body.scopes)
    return ApiKey(row.id, row.label, scopes, *times, body.replaces, body.rate, body.burst)


def _event(kind: str, key: ApiKey, who: str, why: str, now: float, **more: str) -> Event:
    details = {"label": key.label, "scopes": " ".join(key.scopes), **more}
    if key.expires:
        details["expires"] = _iso(key.expires)
    return Event(kind, key.id, who, why, _iso(now), Tags(details))


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
