"""Catalogues of requirements as data files, and which verifiers answer their items.

A catalogue is a TOML file: a head, and an ``[[items]]`` table for each requirement. Which verifiers answer an item is
in a second file beside it, ``<name>.verifiers.toml``, so that the text can be compared with its source and the mapping
can be reviewed, each alone. Both come with Clerestory for the frameworks in ``catalogues/``; a file of one's own is
read the same way.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from clerestory.core.codec import decode, encode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError, InputError, NotFound, closest, not_found
from clerestory.core.files import read_problem
from clerestory.core.text import visible

FOLDER = Path(__file__).parent / "catalogues"
MAPPING_SUFFIX = ".verifiers.toml"
ALL = "all"
# The order of the frameworks in a report.
BUILT_IN = ("nist-ai-rmf-1.0", "nist-ai-600-1", "iso-42001", "eu-ai-act-annex-iv")
MAX_CATALOGUE_BYTES = 4_000_000
MAX_ITEMS = 5_000
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BLANKS = re.compile(r"[\s_-]+")
_DATE = "give it as year-month-day, such as 2027-06-30, or leave it out"

Kind = Literal["M", "P", "S"]
KIND_TEXTS: dict[Kind, str] = {"M": "measured", "P": "measured, and a person signs", "S": "stated by a person"}


@dataclass(frozen=True, slots=True)
class Item:
    """One requirement of a catalogue.

    Attributes:
        id: its number in the source, such as ``GOVERN 1.6``.
        kind: how it is answered: ``M`` by measurements, ``P`` by measurements and a person who signs, ``S`` by the
            statement of a person.
        title: a few words.
        text: the requirement; empty where the source does not permit its text to be copied.
        group: the part of the catalogue it belongs to.
        applies_from: the day from which it applies, as year-month-day; empty if it is not known or always applied.
        amended_by: the act or edition that changed it; empty for none.
        note: about the item, such as that a date is not verified.
        verifiers: the names of the verifiers that answer it; they come from the mapping.
    """

    id: str
    kind: Kind
    title: str = ""
    text: str = ""
    group: str = ""
    applies_from: str = ""
    amended_by: str = ""
    note: str = ""
    verifiers: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its title, or the beginning of its text."""
        return self.title or (self.text if len(self.text) <= 90 else self.text[:87].rsplit(" ", 1)[0] + " …")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A framework: its requirements and where their text comes from.

    Attributes:
        id: permanent for one edition, such as ``nist-ai-rmf-1.0``; statements refer to it.
        name, edition, source: for people.
        licence: of the text.
        items: in the order of the source.
        published: the day of the edition, as year-month-day; empty if unknown.
    """

    id: str
    name: str
    edition: str
    source: str
    licence: str
    items: tuple[Item, ...]
    published: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of its content with the mapping."""
        return digest(encode(self))

    def item(self, name: str) -> Item:
        """The item of this number; capitals, blanks and hyphens do not matter.

        Raises:
            NotFound: there is none; carries the closest numbers.
        """
        return find_item(name, (self,))[1]


@dataclass(frozen=True, slots=True)
class _Mapping:
    """A mapping file: the verifiers of each item."""

    verifiers: dict[str, tuple[str, ...]] = field(default_factory=dict)


def catalogue_names() -> tuple[str, ...]:
    """The catalogues that come with Clerestory, in the order of a report."""
    return BUILT_IN


def load_catalogues(reference: str, verifiers: Sequence[str]) -> tuple[Catalogue, ...]:
    """One catalogue by name or file, or ``all`` those that come with Clerestory.

    Args:
        reference: a name, the path of a TOML file, or ``all``.
        verifiers: the names of all verifiers; a mapping may use no others.

    Raises:
        InputError: see ``load_catalogue``.
    """
    names = BUILT_IN if reference == ALL else (reference,)
    return tuple(load_catalogue(name, verifiers) for name in names)


def load_catalogue(reference: str, verifiers: Sequence[str]) -> Catalogue:
    """A catalogue with its mapping.

    Args:
        reference: the name of a catalogue of Clerestory, or the path of a TOML file.
        verifiers: the names of all verifiers.

    Raises:
        NotFound: there is no such catalogue or file; carries the closest names.
        ConfigError: the file is not a valid catalogue; names the item and the problem.
    """
    if reference in BUILT_IN:
        return _built_in(reference, tuple(verifiers))
    path = Path(reference).expanduser()
    if not path.exists() and path.suffix != ".toml":
        fix = f"the catalogues are {', '.join(BUILT_IN)} and {ALL}; or name a file, such as my.toml"
        raise not_found("catalogue", reference, (*BUILT_IN, ALL), fix)
    catalogue = read_catalogue(path, verifiers)
    if catalogue.id in BUILT_IN:
        raise ConfigError(f"{path}: the id {catalogue.id!r} is that of an included catalogue", "choose another id")
    return catalogue


@cache
def _built_in(name: str, verifiers: tuple[str, ...]) -> Catalogue:
    return read_catalogue(FOLDER / f"{name}.toml", verifiers)


def read_catalogue(path: Path, verifiers: Sequence[str]) -> Catalogue:
    """Read and check the file of a catalogue, and the mapping beside it if there is one.

    Raises:
        ConfigError: it cannot be read, is not a valid catalogue, or its mapping names an unknown item or verifier.
    """
    catalogue = decode(Catalogue, _read(path), str(path))
    _check(catalogue, path)
    mapping_path = path.with_name(path.name.removesuffix(".toml") + MAPPING_SUFFIX)
    mapping = decode(_Mapping, _read(mapping_path), str(mapping_path)).verifiers if mapping_path.exists() else {}
    return _mapped(catalogue, mapping, verifiers, mapping_path)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.is_file() and path.stat().st_size > MAX_CATALOGUE_BYTES:
            raise ConfigError(
                f"{path} is larger than {MAX_CATALOGUE_BYTES // 1_000_000} MB, so it is not a catalogue",
                "name the TOML file of a catalogue",
            )
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the catalogue {path} cannot be read: {read_problem(error)}", "correct the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text, so it is not a catalogue", "name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct the file") from error


def _check(catalogue: Catalogue, path: Path) -> None:
    if not _ID.fullmatch(catalogue.id):
        raise ConfigError(
            f"{path}: the id {catalogue.id!r} is not valid",
            "use up to 64 lower-case letters, digits, dots, hyphens and underscores, such as my-rules-2027",
        )
    if not catalogue.items:
        raise ConfigError(
            f"{path} has no items", "add an [[items]] table for each requirement, with id, kind and title"
        )
    if len(catalogue.items) > MAX_ITEMS:
        raise ConfigError(f"{path} has {len(catalogue.items):,} items, more than {MAX_ITEMS:,}", "divide it")
    _check_date(catalogue.published, f"{path}: published")
    seen: dict[str, str] = {}
    for item in catalogue.items:
        where = f"{path}: item {item.id!r}"
        if not item.id.strip() or not item.id.isprintable() or len(item.id) > 100:
            raise ConfigError(f"{where} needs an id of up to 100 printable characters", "give the number of the source")
        if not item.title.strip() and not item.text.strip():
            raise ConfigError(f"{where} has neither a title nor a text", "say what it requires, in title or text")
        if item.verifiers:
            raise ConfigError(
                f"{where} names verifiers",
                f"name them in the file beside it, {path.name.removesuffix('.toml')}{MAPPING_SUFFIX}",
            )
        _check_date(item.applies_from, f"{where}: applies_from")
        other = seen.setdefault(_normal(item.id), item.id)
        if other is not item.id:
            raise ConfigError(f"{path} has the item {item.id!r} twice", "give each item a number of its own")


def _check_date(text: str, where: str) -> None:
    if text:
        try:
            date.fromisoformat(text)
        except ValueError as error:
            raise ConfigError(f"{where} is {text!r}, which is not a date", _DATE) from error


def _mapped(
    catalogue: Catalogue, mapping: Mapping[str, tuple[str, ...]], verifiers: Sequence[str], path: Path
) -> Catalogue:
    known = {item.id for item in catalogue.items}
    for item_id, names in mapping.items():
        if item_id not in known:
            near = closest(item_id, known)
            raise ConfigError(f"{path}: the catalogue has no item {item_id!r}", "correct the number", near)
        for name in names:
            if name not in verifiers:
                fix = f"the verifiers are {', '.join(sorted(verifiers))}"
                raise ConfigError(f"{path}: there is no verifier {name!r}", fix, closest(name, verifiers))
    items = []
    for item in catalogue.items:
        names = tuple(mapping.get(item.id, ()))
        if item.kind == "S" and names:
            raise ConfigError(
                f"{path}: the item {item.id!r} is stated by a person (kind S), so no verifier can answer it",
                "remove it here, or make its kind P or M in the catalogue",
            )
        if item.kind != "S" and not names:
            raise ConfigError(
                f"{path}: the item {item.id!r} of kind {item.kind} has no verifier",
                "name at least one under [verifiers], or make its kind S in the catalogue; not_measurable is for what "
                "Clerestory cannot measure",
            )
        items.append(replace(item, verifiers=names))
    return replace(catalogue, items=tuple(items))


def find_item(name: str, catalogues: Sequence[Catalogue]) -> tuple[Catalogue, Item]:
    """The item of this number in one of the catalogues; capitals, blanks and hyphens do not matter.

    Raises:
        NotFound: there is none; carries the closest numbers.
        InputError: several catalogues have it.
    """
    wanted = _normal(name)
    found = [(each, item) for each in catalogues for item in each.items if _normal(item.id) == wanted]
    if not found:
        known = [item.id for each in catalogues for item in each.items]
        near = closest(name, known) or closest(name.upper(), known)
        shown = name if len(name) <= 80 else f"{name[:77]}…"
        only = catalogues[0].id if len(catalogues) == 1 else ALL
        fix = f"list the items with: clerestory govern items --catalogue {only}"
        raise NotFound(f"there is no item named {visible(shown)!r}", fix, near)
    if len(found) > 1:
        places = ", ".join(each.id for each, _ in found)
        raise InputError(f"the item {name!r} is in several catalogues: {places}", "name one with --catalogue")
    return found[0]


def _normal(name: str) -> str:
    return _BLANKS.sub(" ", name.strip().casefold())
