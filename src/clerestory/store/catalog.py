"""Finding things again: evidence by what it holds for, derived files by key, data sets by name.

Functions that take part in a transaction of the caller's; ``Store`` opens it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from clerestory.core.digest import short
from clerestory.core.errors import InputError, not_found
from clerestory.core.evidence import Evidence
from clerestory.store.schema import datasets, derived, evidence

SHORTEST_PREFIX = 8
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A data set that was brought in.

    Attributes:
        name: what people call it.
        spec: what to open it with: a name, a folder or a file.
        digest: of its content when it was added.
        size: how many samples it has.
        added: when, ISO 8601 in UTC.
    """

    name: str
    spec: str
    digest: str
    size: int
    added: str


def looks_like_digest(text: str) -> bool:
    """Whether a text could be a digest or the beginning of one that is long enough to be asked for."""
    return SHORTEST_PREFIX <= len(text) <= 64 and set(text) <= _HEX


def by_prefix(kind: str, prefix: str, known: Iterable[str]) -> str:
    """The one digest that begins with ``prefix``.

    Raises:
        NotFound: none does, or the prefix is shorter than eight characters or not hexadecimal.
        InputError: several do; names them.
    """
    known = list(known)
    found = [each for each in known if each.startswith(prefix)] if looks_like_digest(prefix) else []
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{prefix!r} is the beginning of {len(found)} digests",
            "give more characters",
            [short(f) for f in found[:3]],
        )
    fix = f"give at least {SHORTEST_PREFIX} characters of it" if len(prefix) < SHORTEST_PREFIX else ""
    raise not_found(kind, prefix, [short(each) for each in known], fix)


def add_evidence(connection: Connection, made: Evidence, digest: str) -> None:
    """List a piece of evidence; listing it again changes nothing."""
    if connection.execute(select(evidence.c.id).where(evidence.c.id == digest)).first() is None:
        on = made.subject
        connection.execute(
            evidence.insert().values(
                id=digest,
                kind=made.kind,
                model=on.model,
                data=on.data,
                code=on.code,
                config=on.config,
                environment=on.environment,
            )
        )


def evidence_ids(connection: Connection) -> list[str]:
    """The ids of all evidence."""
    return list(connection.execute(select(evidence.c.id)).scalars())


def find_evidence(connection: Connection, kind: str, wanted: dict[str, str]) -> list[str]:
    """The ids of evidence of a kind whose subject has these digests (empty ones match any), newest first."""
    query = select(evidence.c.id).where(evidence.c.kind == kind).order_by(evidence.c.position.desc())
    for name, value in wanted.items():
        if value:
            query = query.where(evidence.c[name] == value)
    return list(connection.execute(query).scalars())


def remember(connection: Connection, key: str, digest: str) -> None:
    """Note which blob a derived thing is in, replacing what was noted."""
    if connection.execute(derived.update().where(derived.c.key == key).values(digest=digest)).rowcount == 0:
        connection.execute(derived.insert().values(key=key, digest=digest))


def recall(connection: Connection, key: str) -> str | None:
    """The blob noted for a derived thing."""
    return connection.execute(select(derived.c.digest).where(derived.c.key == key)).scalar()


def add_dataset(connection: Connection, row: DatasetRow) -> bool:
    """List a data set as the newest of its name; False when it already is."""
    latest = {each.name: each for each in all_datasets(connection)}.get(row.name)
    if latest is not None and (latest.spec, latest.digest) == (row.spec, row.digest):
        return False
    connection.execute(
        datasets.insert().values(name=row.name, spec=row.spec, digest=row.digest, size=row.size, added=row.added)
    )
    return True


def all_datasets(connection: Connection) -> list[DatasetRow]:
    """The newest of every name, by name."""
    latest: dict[str, DatasetRow] = {}
    for row in connection.execute(select(datasets).order_by(datasets.c.position)):
        latest[row.name] = DatasetRow(row.name, row.spec, row.digest, row.size, row.added)
    return [latest[name] for name in sorted(latest)]
