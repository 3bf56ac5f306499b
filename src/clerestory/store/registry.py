"""Releases and the names that move between them.

Functions that take part in a transaction of the caller's, so that a release or a move and its journal record are
written together or not at all; ``Store`` opens it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import ConfigError, Conflict, InputError, IntegrityError, NotFound, not_found
from clerestory.core.release import Alias, Release
from clerestory.store.schema import aliases, releases

NOWHERE = 0  # the number of an alias that has lost its release but remembers its generation
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference such as ``icons@live`` stands for.

    Attributes:
        digest: the model's digest.
        release: the release, None when the reference was a model's digest.
    """

    digest: str
    release: Release | None


@dataclass(frozen=True, slots=True)
class Move:
    """One step of an alias.

    Attributes:
        alias: which one, such as ``live``.
        number: the release it shall point at; 0 for none.
        expected_generation: the generation the mover saw, 0 when the alias did not exist; None moves it whatever it
            is, for an alias that is guarded by another one in the same transaction.
    """

    alias: str
    number: int
    expected_generation: int | None


def check_name(kind: str, name: str) -> None:
    """Raise ``InputError`` unless ``name`` is short, lower case and free of ``@``."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of {kind}",
            "use up to 64 small letters, digits, dots, dashes and underscores, such as icons",
        )


def next_number(connection: Connection, name: str) -> int:
    """The number the next release of a line gets."""
    query = select(releases.c.number).where(releases.c.name == name).order_by(releases.c.number.desc()).limit(1)
    return int(connection.execute(query).scalar() or 0) + 1


def add(connection: Connection, release: Release) -> None:
    """Write a release."""
    connection.execute(
        releases.insert().values(
            name=release.name, number=release.number, model=release.model, body=canonical(release).decode()
        )
    )


def all_releases(connection: Connection, name: str | None = None) -> list[Release]:
    """The releases of a line, or of all, newest first."""
    query = select(releases).order_by(releases.c.position.desc())
    rows = connection.execute(query if name is None else query.where(releases.c.name == name))
    return [_read(row.name, row.number, row.body) for row in rows]


def one_release(connection: Connection, name: str, number: int) -> Release:
    """One release.

    Raises:
        NotFound: there is none; carries the closest names.
        IntegrityError: what is written there is not a release.
    """
    query = select(releases.c.body).where(releases.c.name == name, releases.c.number == number)
    body = connection.execute(query).scalar()
    if body is None:
        raise unknown_reference(connection, f"{name}@{number}")
    return _read(name, number, body)


def lines(connection: Connection) -> list[str]:
    """The names that have releases."""
    return list(connection.execute(select(releases.c.name).distinct().order_by(releases.c.name)).scalars())


def alias_state(connection: Connection, name: str, alias: str) -> Alias:
    """Where an alias is; number and generation 0 when it was never set."""
    query = select(aliases).where(aliases.c.name == name, aliases.c.alias == alias)
    row = connection.execute(query).first()
    return Alias(name, alias, row.number, row.generation) if row else Alias(name, alias, NOWHERE, 0)


def all_aliases(connection: Connection, name: str | None = None) -> list[Alias]:
    """The aliases that point at a release, by name."""
    query = select(aliases).where(aliases.c.number != NOWHERE).order_by(aliases.c.name, aliases.c.alias)
    rows = connection.execute(query if name is None else query.where(aliases.c.name == name))
    return [Alias(row.name, row.alias, row.number, row.generation) for row in rows]


def move(connection: Connection, name: str, moves: Sequence[Move]) -> list[Alias]:
    """Move aliases of one line, each from the generation its mover expects to the next.

    Raises:
        Conflict: one of them is at another generation.
        NotFound: there is no release of that number.
    """
    return [_move_one(connection, name, each) for each in moves]


def _move_one(connection: Connection, name: str, wanted: Move) -> Alias:
    check_name("an alias", wanted.alias)
    if wanted.number != NOWHERE:
        one_release(connection, name, wanted.number)
    current = alias_state(connection, name, wanted.alias)
    seen = 0 if current.number == NOWHERE else current.generation
    if wanted.expected_generation not in (None, seen, current.generation):
        where = f"points at {name}@{current.number}" if seen else "points at nothing"
        raise Conflict(
            f"{name}@{wanted.alias} was moved by somebody else: it {where} (generation {current.generation}, "
            f"not {wanted.expected_generation})",
            "look at it again with: clerestory release list",
        )
    new = Alias(name, wanted.alias, wanted.number, current.generation + 1)
    if current.generation == 0:
        values = {"number": new.number, "generation": new.generation}
        connection.execute(aliases.insert().values(name=name, alias=new.alias, **values))
        return new
    changed = connection.execute(
        aliases.update()
        .where(aliases.c.name == name, aliases.c.alias == new.alias, aliases.c.generation == current.generation)
        .values(number=new.number, generation=new.generation)
    )
    if changed.rowcount != 1:  # cannot happen while writers take turns
        raise Conflict(f"{name}@{wanted.alias} was moved by somebody else", "try again")
    return new


def resolve_release(connection: Connection, name: str, what: str, models: Sequence[str] = ()) -> Release:
    """The release that ``name@what`` stands for, where ``what`` is a number or an alias; ``models`` are all there are.

    Raises:
        NotFound: nothing has this name; carries the closest ones.
    """
    if what.isascii() and what.isdigit():
        return one_release(connection, name, int(what))
    at = alias_state(connection, name, what)
    if at.number == NOWHERE:
        if what == "live" and name in lines(connection):
            newest = all_releases(connection, name)[0].ref
            raise NotFound(f"no release of {name} is live", f"clerestory release promote {newest} --why '...'")
        raise unknown_reference(connection, f"{name}@{what}", models)
    return one_release(connection, name, at.number)


def unknown_reference(connection: Connection, ref: str, more: Sequence[str] = ()) -> NotFound:
    """The error for a reference that nothing has, with the closest names among lines, releases and aliases."""
    known = {*lines(connection), *more}
    known.update(release.ref for release in all_releases(connection))
    known.update(f"{each.name}@{each.alias}" for each in all_aliases(connection))
    fix = "" if known else "train a model first: clerestory train"
    if ref.endswith("@live") and more and not lines(connection):
        fix = f"nothing is released yet; put a model to the gate: clerestory release gate {more[0]}"
    return not_found("release or model", ref, known, fix)


def _read(name: str, number: int, body: str) -> Release:
    try:
        release = decode(Release, json.loads(body))
    except (ValueError, ConfigError) as error:
        raise _damaged(name, number) from error
    if (release.name, release.number) != (name, number):
        raise _damaged(name, number)
    return release


def _damaged(name: str, number: int) -> IntegrityError:
    return IntegrityError(f"the release {name}@{number} in the database is damaged", "restore the store from a copy")
