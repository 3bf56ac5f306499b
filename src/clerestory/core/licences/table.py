"""The reviewed table of licences: rights, duties, share-alike, other spellings (the TOML files in ``tables``)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from clerestory.core.codec import decode, encode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError
from clerestory.core.licences.terms import Duty, Right, Scope, Step
from clerestory.core.once import computed_once
from clerestory.core.settings import one_of

TABLES = Path(__file__).with_name("tables")

E = TypeVar("E", Right, Duty, Scope)


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence.

    Attributes:
        id: SPDX id, or ``LicenseRef-`` and a name; those of ScanCode where it has one.
        name: for people.
        group: ``content``, ``data``, ``software``, ``font``, ``model``, ``public domain`` …
        url: the address of its text.
        rights: granted to everybody.
        limited: granted within a limit that the text sets.
        unclear: left open by the text. A right that is in none of the three is refused.
        duties: without share-alike.
        share_alike: how far the same licence must reach; None if the licence does not ask for it.
        compatible: ids of other licences under which the result may be shared.
        ends_at: steps after which the text itself ends its duties.
        spellings: other names, and addresses, that mean this licence and no other.
        note: a condition that the columns do not show.
    """

    id: str
    name: str
    group: str
    url: str
    rights: tuple[Right, ...]
    duties: tuple[Duty, ...]
    limited: tuple[Right, ...] = ()
    unclear: tuple[Right, ...] = ()
    share_alike: Scope | None = None
    compatible: tuple[str, ...] = ()
    ends_at: tuple[Step, ...] = ()
    spellings: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class LicenceException:
    """An exception (``WITH``): it grants more than the licences that it accompanies.

    Attributes:
        id: SPDX id.
        name: for people.
        url: the address of its text.
        accompanies: ids of the licences that it may follow.
        share_alike: the scope that remains; None if the exception does not change it.
        note: what it allows.
    """

    id: str
    name: str
    url: str
    accompanies: tuple[str, ...]
    share_alike: Scope | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class LicenceTable:
    """Licences and exceptions by id, and the names that lead to them.

    Attributes:
        licences: by id.
        exceptions: by id.
        ambiguous: words that name no licence or several, in normal form, each with what to write instead.
        names: ids of licences and exceptions by id in lower case, by spelling and by address, both in normal form.
    """

    licences: Mapping[str, Licence]
    exceptions: Mapping[str, LicenceException]
    ambiguous: Mapping[str, str]
    names: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        names: dict[str, str] = {}
        items: list[Licence | LicenceException] = [*self.licences.values(), *self.exceptions.values()]
        for item in items:
            for name in (item.id.casefold(), *map(_normal, getattr(item, "spellings", ()))):
                if names.setdefault(name, item.id) != item.id:
                    raise ConfigError(f"the licences {names[name]} and {item.id} have the same name {name!r}")
        for item in items:  # GPL-3.0-only and GPL-3.0-or-later have one text: it grants the former at least
            names.setdefault(normal_address(item.url), item.id)
        object.__setattr__(self, "names", names)

    @property
    def digest(self) -> str:
        """SHA-256 of its content: a verdict holds for one edition of the table."""
        parts = (self.licences, self.exceptions, self.ambiguous)
        return digest([encode(part) for part in parts])


def normal_name(text: str) -> str:
    """A name in lower case, without spaces, "licence" and "version", with the abbreviations of its family.

    ``The Apache License, Version 2.0`` becomes ``apache-2.0``, ``CC BY-SA 4.0 International`` ``cc-by-sa-4.0``.
    """
    name = re.sub(r"[\s_/,:;()–-]+", "-", text.casefold()).strip("-.")
    for pattern, replacement in _REWRITES:
        name = pattern.sub(replacement, name).strip("-")
    return name


_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bgnu-(?=[la]?gpl|fdl)|^the-", ""),
        (r"\bgnu-(lesser-|affero-|free-documentation)?(general-public)?", lambda m: _gnu(m.group(1) or "")),
        (r"-?\blicen[cs]e(-agreement)?\b-?", "-"),
        (r"-?\bversion-?", "-"),
        (r"\bcreative-commons\b", "cc"),
        (r"\battribution\b", "by"),
        (r"\bnon-?commercial\b(?!-research)", "nc"),
        (r"\bshare-?alike\b", "sa"),
        (r"\bno-?deriv(ative)?s\b", "nd"),
        (r"^cc-cc-", "cc-"),
        (r"-(international|unported|generic|universal)(-public)?$", ""),
        (r"^((?:l|a)?gpl|gfdl)-?v?(?=\d)", r"\1-"),
        (r"-v\.?(?=\d)", "-"),
        (r"-?\+$|-or-(any-)?(later|newer)$", "-or-later"),
        (r"-(\d)(?=$|-only$|-or-later$)", r"-\1.0"),
    )
)


def _gnu(kind: str) -> str:
    return {"lesser-": "lgpl", "affero-": "agpl", "free-documentation": "gfdl"}.get(kind, "gpl")


def normal_address(url: str) -> str:
    """An address without scheme, ``www``, language and the last part ``legalcode`` or ``deed``."""
    address = re.sub(r"^https?://(www\.)?", "", url.strip().casefold())
    return re.sub(r"/(legalcode|deed)?([.#?][\w-]*)?$", "", address).removesuffix("/")


def _normal(spelling: str) -> str:
    if spelling.startswith(("http://", "https://")):
        return normal_address(spelling)
    return spelling.casefold() if spelling.startswith("LicenseRef-") else normal_name(spelling)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as the files have it."""

    name: str
    group: str
    url: str
    rights: tuple[str, ...]
    duties: tuple[str, ...]
    limited: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    share_alike: str = ""
    compatible: tuple[str, ...] = ()
    ends_at: tuple[Step, ...] = ()
    spellings: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class _ExceptionRow:
    """A row of an exception as the files have it."""

    name: str
    url: str
    accompanies: tuple[str, ...]
    share_alike: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the table."""

    licence: Mapping[str, _Row] = field(default_factory=dict)
    exception: Mapping[str, _ExceptionRow] = field(default_factory=dict)
    ambiguous: Mapping[str, str] = field(default_factory=dict)


@computed_once
def licence_table() -> LicenceTable:
    """The table that is part of the package."""
    return _table([_read(path) for path in sorted(TABLES.glob("*.toml"))])


def extended_table(path: Path) -> LicenceTable:
    """The table of the package and the rows of a file of one's own, such as agreements with agencies.

    A row of the file replaces the row with the same id.

    Raises:
        ConfigError: the file cannot be read, or a row has an unknown column or value; names it.
    """
    own = _read(path)
    built_in = licence_table()
    rows = _table([own])
    spelled = {name for row in rows.licences.values() for name in map(_normal, row.spellings)}
    kept = {
        id_: replace(row, spellings=tuple(name for name in row.spellings if _normal(name) not in spelled))
        for id_, row in built_in.licences.items()
    }
    ambiguous = {name: hint for name, hint in built_in.ambiguous.items() if name not in spelled}
    return LicenceTable(kept | dict(rows.licences), {**built_in.exceptions, **rows.exceptions}, ambiguous)


def _read(path: Path) -> _File:
    try:
        return decode(_File, tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a table of licences: {error}", "correct it") from error


def _table(files: list[_File]) -> LicenceTable:
    licences = {id_: _licence(id_, row) for file in files for id_, row in file.licence.items()}
    exceptions = {
        id_: LicenceException(id_, row.name, row.url, row.accompanies, _scope(id_, row.share_alike), row.note)
        for file in files
        for id_, row in file.exception.items()
    }
    return LicenceTable(licences, exceptions, {name: hint for file in files for name, hint in file.ambiguous.items()})


def _licence(id_: str, row: _Row) -> Licence:
    rights, limited, unclear = (_members(Right, listed, id_) for listed in (row.rights, row.limited, row.unclear))
    listed = (*rights, *limited, *unclear)
    if len(listed) != len(set(listed)):
        raise ConfigError(f"the licence {id_} lists a right twice", "keep it in one of rights, limited and unclear")
    return Licence(
        id_,
        row.name,
        row.group,
        row.url,
        rights,
        _members(Duty, row.duties, id_),
        limited,
        unclear,
        _scope(id_, row.share_alike),
        row.compatible,
        row.ends_at,
        row.spellings,
        row.note,
    )


def _members(kind: type[E], values: tuple[str, ...], id_: str) -> tuple[E, ...]:
    known = [member.value for member in kind]
    if unknown := [value for value in values if value not in known]:
        raise ConfigError(f"the licence {id_} has {unknown[0]!r}", f"it must be {one_of(known)}")
    return tuple(kind(value) for value in values)


def _scope(id_: str, value: str) -> Scope | None:
    return _members(Scope, (value,), id_)[0] if value else None
