"""Whether the tables of releases and aliases still say what the journal recorded.

Tables can be changed, as aliases must be; the journal cannot without breaking its chain. So the journal is believed.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.release import Alias
from clerestory.store.database import Database
from clerestory.store.journal import Journal
from clerestory.store.registry import NOWHERE, one_release
from clerestory.store.schema import aliases, releases

GATED = "gated"
_RESTORE = "the database was changed from outside; restore the store from a copy"


def movement(alias: Alias) -> dict[str, str]:
    """What a journal record says of an alias that moved: ``to.live=3, generation.live=5``."""
    return {f"to.{alias.alias}": str(alias.number), f"generation.{alias.alias}": str(alias.generation)}


def went_to(details: Tags, alias: str) -> int | None:
    """The release an alias was moved to according to a journal record; None when it was not moved by it."""
    number = details.get(f"to.{alias}")
    return None if number is None else int(number)


def check_registry(database: Database, journal: Journal, name: str) -> list[Finding]:
    """Every release and alias of one line that differs from the journal; empty when they agree."""
    gated: dict[int, str] = {}
    moved: dict[str, tuple[int, int]] = {}
    # One transaction for all of it: a move in between would look like a difference.
    with database.reading() as connection:
        for record in journal.read(connection, f"{name}@"):
            details = record.event.details
            if record.event.kind == GATED:
                gated[int(record.event.subject.rpartition("@")[2])] = details.get("release", "")
            for key in details:
                kind, _, alias = key.partition(".")
                if kind == "to":
                    moved[alias] = (int(details[key]), int(details[f"generation.{alias}"]))
        problems = _release_problems(connection, name, gated) + _alias_problems(connection, name, moved)
    return [
        Finding("CLR-S001", "error", "fail", f"{database.place}, {what}", message, _RESTORE)
        for what, message in problems
    ]


def _release_problems(connection: Connection, name: str, gated: dict[int, str]) -> list[tuple[str, str]]:
    query = select(releases.c.number).where(releases.c.name == name)
    present = set(connection.execute(query).scalars())
    problems = []
    for number in sorted(present | gated.keys()):
        ref = f"{name}@{number}"
        if number not in gated:
            problems.append((ref, f"the journal knows nothing of the release {ref}"))
        elif number not in present:
            problems.append((ref, f"the release {ref} is in the journal and not in the table"))
        elif (problem := _release_problem(connection, name, number, gated[number])) is not None:
            problems.append((ref, problem))
    return problems


def _release_problem(connection: Connection, name: str, number: int, expected: str) -> str | None:
    try:
        release = one_release(connection, name, number)
    except IntegrityError as error:
        return error.message
    return None if digest(release) == expected else f"the release {release.ref} is not the one that was recorded"


def _alias_problems(connection: Connection, name: str, moved: dict[str, tuple[int, int]]) -> list[tuple[str, str]]:
    rows = connection.execute(select(aliases).where(aliases.c.name == name)).all()
    present = {row.alias: (row.number, row.generation) for row in rows}
    problems = []
    for alias in sorted(present.keys() | moved.keys()):
        here, there = present.get(alias, (NOWHERE, 0)), moved.get(alias, (NOWHERE, 0))
        if here != there:
            message = (
                f"{name}@{alias} points at {here[0]} (generation {here[1]}), the journal says {there[0]} ({there[1]})"
            )
            problems.append((f"{name}@{alias}", message))
    return problems
