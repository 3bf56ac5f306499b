"""Whether the tables of releases and aliases still agree with the journal.

The tables can be changed, since aliases move; changing the journal breaks its hash chain. So the journal is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import Connection, select

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.release import Alias, Event
from clerestory.store.database import Database
from clerestory.store.findings import DAMAGED, StoreFault
from clerestory.store.journal import Journal, JournalRecord
from clerestory.store.registry import NO_RELEASE, read_release
from clerestory.store.schema import aliases, releases

GATED = "gated"
_RESTORE = "the database was changed outside Clerestory; restore the store from a backup"


def move_details(alias: Alias) -> dict[str, str]:
    """The details of a journal record about a moved alias: ``to.live=3, generation.live=5``."""
    return {f"to.{alias.alias}": str(alias.number), f"generation.{alias.alias}": str(alias.generation)}


def alias_target(details: Tags, alias: str) -> int | None:
    """The release that an alias was moved to by a journal record; None when the record did not move it."""
    number = details.get(f"to.{alias}")
    return None if number is None else int(number)


def live_events(records: Iterable[JournalRecord]) -> dict[str, Event]:
    """For each release that was ever made live, the event that did it last, by the reference of the release."""
    found = {}
    for record in records:
        number = alias_target(record.event.details, "live")
        if number is not None:
            found[f"{record.event.subject.partition('@')[0]}@{number}"] = record.event
    return found


def check_registry(database: Database, journal: Journal, name: str) -> list[Finding]:
    """Every release and alias of one model name that differs from the journal; empty when they agree."""
    gated: dict[int, str] = {}
    moved: dict[str, tuple[int, int]] = {}
    # One transaction for all of it: a move in between would look like a difference.
    with database.reading() as connection:
        for record in journal.history(connection, f"{name}@"):
            details = dict(record.event.details)
            if record.event.kind == GATED:
                gated[int(record.event.subject.rpartition("@")[2])] = details.get("release", "")
            for key, value in details.items():
                kind, _, alias = key.partition(".")
                if kind == "to":
                    moved[alias] = (int(value), int(details[f"generation.{alias}"]))
        problems = _release_problems(connection, name, gated) + _alias_problems(connection, name, moved)
    return [
        DAMAGED.finding(
            f"{database.location}, {ref}", message, fix=_RESTORE, reason=StoreFault.REGISTRY_MISMATCH, reference=ref
        )
        for ref, message in problems
    ]


def _release_problems(connection: Connection, name: str, gated: dict[int, str]) -> list[tuple[str, str]]:
    query = select(releases.c.number, releases.c.body).where(releases.c.name == name)
    present = {row.number: row.body for row in connection.execute(query)}
    problems = []
    for number in sorted(present.keys() | gated.keys()):
        ref = f"{name}@{number}"
        if number not in gated:
            problems.append((ref, f"the release {ref} is in the table but not in the journal"))
        elif number not in present:
            problems.append((ref, f"the release {ref} is in the journal but not in the table"))
        elif (problem := _release_problem(name, number, present[number], gated[number])) is not None:
            problems.append((ref, problem))
    return problems


def _release_problem(name: str, number: int, body: str, expected: str) -> str | None:
    try:
        content = _digest_of(name, number, body)
    except IntegrityError as error:
        return error.message
    return None if content == expected else f"the release {name}@{number} differs from the one in the journal"


@lru_cache(maxsize=512)  # each promotion compares every release of a name
def _digest_of(name: str, number: int, body: str) -> str:
    return digest(read_release(name, number, body))


def _alias_problems(connection: Connection, name: str, moved: dict[str, tuple[int, int]]) -> list[tuple[str, str]]:
    rows = connection.execute(select(aliases).where(aliases.c.name == name)).all()
    present = {row.alias: (row.number, row.generation) for row in rows}
    problems = []
    for alias in sorted(present.keys() | moved.keys()):
        in_table, in_journal = present.get(alias, (NO_RELEASE, 0)), moved.get(alias, (NO_RELEASE, 0))
        if in_table != in_journal:
            message = (
                f"{name}@{alias} is at release {in_table[0]} (generation {in_table[1]}) in the table and at "
                f"{in_journal[0]} (generation {in_journal[1]}) in the journal"
            )
            problems.append((f"{name}@{alias}", message))
    return problems
