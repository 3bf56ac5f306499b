"""Lookups: evidence by its subject, cached results by key, datasets by name.

These functions take part in a transaction of the caller; ``Store`` opens it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from clerestory.core.digest import short
from clerestory.core.errors import InputError, not_found
from clerestory.core.evidence import Evidence
from clerestory.store.schema import cache, datasets, evidence

MIN_PREFIX = 8
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset that was added to the store.

    Attributes:
        name: its name in this store.
        spec: what ``open_data`` opens: a name, a folder or a file.
        digest: of its content when it was added.
        size: its number of samples.
        added: the time, ISO 8601 in UTC.
    """

    name: str
    spec: str
    digest: str
    size: int
    added: str


def looks_like_digest(text: str) -> bool:
    """Whether a text could be a digest, or a prefix of one that is long enough to identify it."""
    return MIN_PREFIX <= len(text) <= 64 and set(text) <= _HEX


def by_prefix(kind: str, prefix: str, known: Iterable[str]) -> str:
    """The only digest that begins with ``prefix``.

    Raises:
        NotFound: no digest does, or the prefix is shorter than eight characters or not hexadecimal.
        InputError: several do; names them.
    """
    known = list(known)
    matches = [each for each in known if each.startswith(prefix)] if looks_like_digest(prefix) else []
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(
            f"{prefix!r} is the beginning of {len(matches)} digests",
            "use more characters",
            [short(match) for match in matches[:3]],
        )
    raise not_found(kind, prefix, [short(each) for each in known], too_short(prefix, known))


def too_short(prefix: str, known: Iterable[str]) -> str:
    """The remedy for a text that begins a known digest and is too short to identify it; empty for any other."""
    matches = prefix and len(prefix) < MIN_PREFIX and [short(each) for each in known if each.startswith(prefix)]
    return f"use at least {MIN_PREFIX} characters of the digest, such as {matches[0]}" if matches else ""


def add_evidence(connection: Connection, item: Evidence, digest: str) -> None:
    """Add a piece of evidence to the catalog; adding it again changes nothing."""
    if not has_evidence(connection, digest):
        subject = item.subject
        connection.execute(
            evidence.insert().values(
                id=digest,
                kind=item.kind,
                model=subject.model,
                data=subject.data,
                code=subject.code,
                config=subject.config,
                environment=subject.environment,
            )
        )


def has_evidence(connection: Connection, digest: str) -> bool:
    """Whether a piece of evidence is in the catalog."""
    return connection.execute(select(evidence.c.id).where(evidence.c.id == digest)).first() is not None


def evidence_ids(connection: Connection) -> list[str]:
    """The ids of all evidence."""
    return list(connection.execute(select(evidence.c.id)).scalars())


def count_evidence(connection: Connection) -> int:
    """The number of all evidence."""
    return connection.execute(select(func.count()).select_from(evidence)).scalar_one()


def find_evidence(connection: Connection, kind: str, subject: dict[str, str]) -> list[str]:
    """The ids of evidence of a kind whose subject has these digests (empty ones match any), newest first."""
    query = select(evidence.c.id).where(evidence.c.kind == kind).order_by(evidence.c.position.desc())
    for name, value in subject.items():
        if value:
            query = query.where(evidence.c[name] == value)
    return list(connection.execute(query).scalars())


def cache_put(connection: Connection, key: str, digest: str) -> None:
    """Record the blob of a cached result, replacing an earlier one."""
    if connection.execute(cache.update().where(cache.c.key == key).values(digest=digest)).rowcount == 0:
        connection.execute(cache.insert().values(key=key, digest=digest))


def cache_get(connection: Connection, key: str) -> str | None:
    """The blob of a cached result."""
    return connection.execute(select(cache.c.digest).where(cache.c.key == key)).scalar()


def add_dataset(connection: Connection, row: DatasetRow) -> bool:
    """Add a dataset as the newest of its name; False if it already is."""
    latest = {each.name: each for each in all_datasets(connection)}.get(row.name)
    if latest is not None and (latest.spec, latest.digest) == (row.spec, row.digest):
        return False
    connection.execute(
        datasets.insert().values(name=row.name, spec=row.spec, digest=row.digest, size=row.size, added=row.added)
    )
    return True


def all_datasets(connection: Connection) -> list[DatasetRow]:
    """The newest of every name, sorted by name."""
    latest: dict[str, DatasetRow] = {}
    for row in connection.execute(select(datasets).order_by(datasets.c.position)):
        latest[row.name] = DatasetRow(row.name, row.spec, row.digest, row.size, row.added)
    return [latest[name] for name in sorted(latest)]
