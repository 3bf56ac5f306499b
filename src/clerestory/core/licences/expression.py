"""Licence expressions: SPDX syntax, read with the library ``license-expression``, and the common spellings beside it.

A spelling is read as an SPDX id only where it can mean one licence; the reading is part of the result. Ids that are not
in the table stay what they are, and are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from clerestory.core.errors import closest
from clerestory.core.licences.table import LicenceTable, licence_table, normal_address, normal_name
from clerestory.core.licences.terms import LicenceReason
from clerestory.core.once import computed_once

MAX_LENGTH = 2000  # characters; a longer text is a licence, not the name of one
MAX_CACHED = 4096  # expressions
_OPERATORS = re.compile(r"(\(|\)|(?<![^\s()])(?:AND|OR(?!\s+(?:later|newer)\b)|WITH)(?![^\s()]))", re.IGNORECASE)
_CREATIVE_COMMONS = re.compile(r"creativecommons\.org/licen[cs]es/([a-z-]+)/(\d\.\d)(?:/([a-z]{2,3}))?$")


@dataclass(frozen=True, slots=True)
class LicenceName:
    """One licence in an expression, possibly with an exception.

    Attributes:
        written: as it stands in the expression.
        id: the id in the table or of SPDX; as written if there is none.
        exception: the id of the exception after ``WITH``, as written if there is none; empty without one.
        problem: why it names no licence, such as an ambiguous word; None if it may name one.
        hint: what to write instead; empty if nothing is known.
    """

    written: str
    id: str
    exception: str = ""
    problem: LicenceReason | None = None
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.id} WITH {self.exception}" if self.exception else self.id


@dataclass(frozen=True, slots=True)
class Combination:
    """Several licences, all of which hold (``AND``), or one of which may be chosen (``OR``)."""

    operator: Literal["AND", "OR"]
    parts: tuple[LicenceName | Combination, ...]

    def __str__(self) -> str:
        parts = (f"({part})" if isinstance(part, Combination) else str(part) for part in self.parts)
        return f" {self.operator} ".join(parts)


@dataclass(frozen=True, slots=True)
class Reading:
    """A spelling that is not the SPDX id, and the id that it was read as."""

    written: str
    id: str


@dataclass(frozen=True, slots=True)
class LicenceExpression:
    """An expression that was read.

    Attributes:
        written: the text.
        tree: its licences and operators; None if there is none or it cannot be read.
        readings: the spellings that were read as something else.
        problem: why there is no tree.
    """

    written: str
    tree: LicenceName | Combination | None
    readings: tuple[Reading, ...] = ()
    problem: LicenceReason | None = None

    def __str__(self) -> str:
        return str(self.tree) if self.tree else self.written

    @property
    def names(self) -> tuple[LicenceName, ...]:
        """Its licences, in the order of the text."""
        return tuple(_names(self.tree))


def _names(tree: LicenceName | Combination | None) -> Iterator[LicenceName]:
    if isinstance(tree, LicenceName):
        yield tree
    elif tree:
        for part in tree.parts:
            yield from _names(part)


def parse_licence(text: str, table: LicenceTable | None = None) -> LicenceExpression:
    """Read an expression such as ``MIT OR Apache-2.0``, a tag such as ``llama3.1`` or an address of a licence.

    It never raises an error: data contains any text. A text without a reading has a ``problem``.
    """
    return _parse(" ".join(text.split()), table or licence_table())


@lru_cache(maxsize=MAX_CACHED)
def _parse(text: str, table: LicenceTable) -> LicenceExpression:
    if not text:
        return LicenceExpression(text, None, problem=LicenceReason.NO_LICENCE)
    if len(text) > MAX_LENGTH:
        return LicenceExpression(text, None, problem=LicenceReason.UNREADABLE)
    whole = _recognise(text, table) if text.count("(") == text.count(")") else LicenceName(text, text)
    if whole.id in table.licences or whole.problem or not _OPERATORS.search(text):
        return LicenceExpression(text, whole, _readings([whole]))
    names: list[LicenceName] = []
    symbols: list[str] = []
    for token in filter(None, (part.strip() for part in _OPERATORS.split(text))):
        if _OPERATORS.fullmatch(token):
            symbols.append(token.upper())
        else:
            symbols.append(f"name{len(names)}")
            names.append(_recognise(token, table))
    tree = _structure(" ".join(symbols), names)
    if tree is None:
        return LicenceExpression(text, None, problem=LicenceReason.UNREADABLE)
    return LicenceExpression(text, tree, _readings(names))


def _readings(names: list[LicenceName]) -> tuple[Reading, ...]:
    changed = (name for name in names if name.id.casefold() != name.written.casefold())
    return tuple(dict.fromkeys(Reading(name.written, name.id) for name in changed))


def _structure(symbols: str, names: list[LicenceName]) -> LicenceName | Combination | None:
    """The tree of an expression in which ``name0``, ``name1`` … stand for the licences; None if it is invalid."""
    from boolean import ParseError
    from license_expression import ExpressionError, Licensing

    licensing = Licensing()
    try:
        return _tree(licensing.parse(symbols), names)
    except (ParseError, ExpressionError, RecursionError):
        return None


def _tree(parsed: object, names: list[LicenceName]) -> LicenceName | Combination:
    from license_expression import LicenseWithExceptionSymbol

    if isinstance(parsed, LicenseWithExceptionSymbol):
        licence, exception = _tree(parsed.license_symbol, names), _tree(parsed.exception_symbol, names)
        assert isinstance(licence, LicenceName)
        return LicenceName(licence.written, licence.id, str(exception), licence.problem, licence.hint)
    arguments = getattr(parsed, "args", ())
    if not arguments:
        return names[int(str(getattr(parsed, "key", "")).removeprefix("name"))]
    operator: Literal["AND", "OR"] = "AND" if str(getattr(parsed, "operator", "")).strip() == "AND" else "OR"
    return Combination(operator, tuple(_tree(part, names) for part in arguments))


def _recognise(written: str, table: LicenceTable) -> LicenceName:
    """The licence that a name, tag or address means; itself if it means none or several."""
    address = normal_address(written)
    if id_ := table.names.get(written.casefold()) or table.names.get(address) or _of_creative_commons(address, table):
        return LicenceName(written, id_)
    is_reference = written.casefold().startswith(("licenseref-", "documentref-"))  # means what its author defines
    normal = written.casefold() if is_reference else normal_name(written)
    if hint := table.ambiguous.get(normal):
        return LicenceName(written, written, problem=LicenceReason.AMBIGUOUS, hint=hint)
    if id_ := _spdx_ids().get(written.casefold(), ""):
        return LicenceName(written, id_)
    if not is_reference:
        later = normal.removesuffix("-or-later")  # "or any later version" includes this one
        for name in (normal, later):
            id_ = table.names.get(name, "") or _spdx_ids().get(name, "")
            if id_ in table.licences or id_ in table.exceptions:
                return LicenceName(written, id_)
    if _names_several(written, table):
        return LicenceName(written, written, problem=LicenceReason.AMBIGUOUS, hint=_SEVERAL)
    near = closest(written, [*table.licences, *table.exceptions])
    return LicenceName(written, written, hint="did you mean " + " or ".join(near) + "?" if near else "")


_SEVERAL = "write AND between them if all hold, OR if one may be chosen"


def _names_several(written: str, table: LicenceTable) -> bool:
    """Whether it is a list such as ``MIT, Apache-2.0`` or ``MIT/ISC``."""
    parts = [part.strip() for part in re.split("[,;/|&]", written)]
    return len(parts) > 1 and all(_recognise(part, table).id in table.licences for part in parts if part)


def _of_creative_commons(address: str, table: LicenceTable) -> str:
    """The id for an address such as ``creativecommons.org/licenses/by-sa/3.0/igo``; empty if the table has none."""
    match = _CREATIVE_COMMONS.match(address)
    if not match:
        return ""
    kind, version, country = match.groups()
    if country and country != "igo" and len(country) == 2 and version == "4.0":
        country = None  # a translation: version 4.0 has no national editions
    id_ = f"CC-{kind.upper()}-{version}" + (f"-{country.upper()}" if country else "")
    return table.names.get(id_.casefold(), "")


@computed_once
def _spdx_ids() -> dict[str, str]:
    """Ids of SPDX and ScanCode, and their former ids, in lower case; 2,400 of them in a tenth of a second."""
    from license_expression import get_spdx_licensing

    symbols = get_spdx_licensing().known_symbols
    ids = {alias.casefold(): key for key, symbol in symbols.items() for alias in symbol.aliases}
    foreign = {id_ for id_ in ids if id_.startswith("licenseref-") and not id_.startswith("licenseref-scancode-")}
    known = {id_: key for id_, key in ids.items() if id_ not in foreign}  # LicenseRef-Apache is what its author says
    return known | {key.casefold(): key for key in symbols}
