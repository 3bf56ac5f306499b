"""Releases and the aliases that point at them.

These functions take part in a transaction of the caller, so that a release or a move and its journal record are
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

NO_RELEASE = 0  # the number of an alias without a release, which still has its generation
MAX_DIGITS = 9  # of a release number; more do not fit into an INTEGER
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The model that a reference such as ``icons@live`` names.

    Attributes:
        digest: the model's digest.
        release: the release, None when the reference was a model's digest.
    """

    digest: str
    release: Release | None


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias.

    Attributes:
        alias: its name, such as ``live``.
        number: the release to point at; 0 for none.
        expected_generation: the generation that the caller read, 0 when the alias did not exist; None moves it from
            any generation, for an alias that another one in the same transaction protects.
    """

    alias: str
    number: int
    expected_generation: int | None


def is_name(name: str) -> bool:
    """Whether a name is short, lower case and free of ``@``."""
    return _NAME.fullmatch(name) is not None


def check_name(kind: str, name: str) -> None:
    """Raise ``InputError`` unless ``name`` is short, lower case and free of ``@``."""
    if not is_name(name):
        raise InputError(
            f"{name!r} is not a valid name of {kind}",
            "use up to 64 lower-case letters, digits, dots, hyphens and underscores, such as icons",
        )


def next_number(connection: Connection, name: str) -> int:
    """The number of the next release of a model name."""
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
    """The releases of one model name, or of all, newest first."""
    query = select(releases).order_by(releases.c.position.desc())
    rows = connection.execute(query if name is None else query.where(releases.c.name == name))
    return [read_release(row.name, row.number, row.body) for row in rows]


def one_release(connection: Connection, name: str, number: int) -> Release:
    """One release.

    Raises:
        NotFound: it does not exist; carries the closest names.
        IntegrityError: the stored row is not a valid release.
    """
    query = select(releases.c.body).where(releases.c.name == name, releases.c.number == number)
    body = connection.execute(query).scalar()
    if body is None:
        raise unknown_reference(connection, f"{name}@{number}")
    return read_release(name, number, body)


def release_names(connection: Connection) -> list[str]:
    """The model names that have releases."""
    # Sorted here: a database would sort by the rules of its own language.
    return sorted(connection.execute(select(releases.c.name).distinct()).scalars())


def alias_state(connection: Connection, name: str, alias: str) -> Alias:
    """The release and generation of an alias; both 0 when it was never set."""
    query = select(aliases).where(aliases.c.name == name, aliases.c.alias == alias)
    row = connection.execute(query).first()
    return Alias(name, alias, row.number, row.generation) if row else Alias(name, alias, NO_RELEASE, 0)


def all_aliases(connection: Connection, name: str | None = None) -> list[Alias]:
    """The aliases that point at a release, by name."""
    query = select(aliases).where(aliases.c.number != NO_RELEASE)
    rows = connection.execute(query if name is None else query.where(aliases.c.name == name))
    found = [Alias(row.name, row.alias, row.number, row.generation) for row in rows]
    return sorted(found, key=lambda alias: (alias.name, alias.alias))


def move(connection: Connection, name: str, moves: Sequence[AliasMove]) -> list[Alias]:
    """Move aliases of one model name, each from the expected generation to the next.

    Raises:
        Conflict: one of them is at another generation.
        NotFound: the release does not exist.
    """
    return [_move_one(connection, name, each) for each in moves]


def _move_one(connection: Connection, name: str, step: AliasMove) -> Alias:
    check_name("an alias", step.alias)
    if step.number != NO_RELEASE:
        one_release(connection, name, step.number)
    current = alias_state(connection, name, step.alias)
    generation = 0 if current.number == NO_RELEASE else current.generation
    if step.expected_generation not in (None, generation, current.generation):
        state = f"points at {name}@{current.number}" if generation else "points at nothing"
        raise Conflict(
            f"{name}@{step.alias} was moved by another process: it {state} (generation {current.generation}, "
            f"expected {step.expected_generation})",
            "check its current release with: clerestory release list",
        )
    new = Alias(name, step.alias, step.number, current.generation + 1)
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
        raise Conflict(f"{name}@{step.alias} was moved by another process", "try again")
    return new


def resolve_release(connection: Connection, name: str, selector: str, models: Sequence[str] = ()) -> Release:
    """The release that ``name@selector`` names.

    Args:
        connection: a transaction.
        name: the model name.
        selector: a release number or an alias.
        models: the short digests of all models, to suggest from.

    Raises:
        NotFound: unknown name; carries the closest matches.
    """
    if selector.isascii() and selector.isdigit() and len(selector) <= MAX_DIGITS:
        return one_release(connection, name, int(selector))
    alias = alias_state(connection, name, selector)
    if alias.number == NO_RELEASE:
        if selector == "live" and name in release_names(connection):
            raise NotFound(f"no release of {name} is live", how_to_go_live(name, all_releases(connection, name)))
        raise unknown_reference(connection, f"{name}@{selector}", models)
    return one_release(connection, name, alias.number)


def how_to_go_live(name: str, releases: Sequence[Release]) -> str:
    """The command that makes a release live, or what to do while the gate has passed none."""
    passed = next((release.ref for release in releases if release.decision.verdict == "ship"), "")
    if passed:
        return f"promote one: clerestory release promote {passed} --why '...'"
    return f"the gate has passed none (clerestory release list --name {name}); name another model, such as starter"


def unknown_reference(connection: Connection, ref: str, more: Sequence[str] = (), fix: str = "") -> NotFound:
    """The error for an unknown reference, with the closest model names, releases and aliases.

    Args:
        connection: a transaction.
        ref: the reference.
        more: further names to suggest from.
        fix: the remedy, if it is known.
    """
    known = {*release_names(connection), *more}
    known.update(release.ref for release in all_releases(connection))
    known.update(f"{each.name}@{each.alias}" for each in all_aliases(connection))
    fix = fix or ("" if known else "name an included model, photos or starter; or train one: clerestory train")
    if ref.endswith("@live") and more and not release_names(connection):
        fix = f"create the first release by running the gate: clerestory release gate {more[0]}"
    return not_found("release or model", ref, known, fix)


def read_release(name: str, number: int, body: str) -> Release:
    """The release that a row contains.

    Raises:
        IntegrityError: it is not a release, or another one.
    """
    try:
        release = decode(Release, json.loads(body))
    except (ValueError, ConfigError) as error:
        raise _damaged(name, number) from error
    if (release.name, release.number) != (name, number):
        raise _damaged(name, number)
    return release


def _damaged(name: str, number: int) -> IntegrityError:
    return IntegrityError(f"the release {name}@{number} in the database is damaged", "restore the store from a backup")
