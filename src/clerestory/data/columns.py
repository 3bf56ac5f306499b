"""What the columns of a table mean: one raw row of any source to the fields of a sample.

The names are those people already use; see ``docs/reference/data-formats.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clerestory.core.errors import DataError, closest
from clerestory.core.evidence import Finding
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Caption
from clerestory.data import findings as data_findings

PICTURE = ("image", "picture", "path", "file", "file_name", "filename")
CAPTION = ("caption", "captions", "text", "name", "title")
KEYWORDS = ("keywords", "tags")
CONCEPT = ("concept", "label")
LICENCE = ("licence", "license")
PLAIN = ("id", "split", "source", "groups", "sha256")
KNOWN = {*PICTURE, *CAPTION, *KEYWORDS, *CONCEPT, *LICENCE, *PLAIN}
SPLITS = {
    **{name: name for name in (TRAIN, VAL, TEST, TEST_STYLE)},
    **dict.fromkeys(("training",), TRAIN),
    **dict.fromkeys(("valid", "validation", "dev"), VAL),
    **dict.fromkeys(("testing",), TEST),
}
LONGEST_GROUP = 80
_LANGUAGE = re.compile(r"^(?:caption|captions|text)_([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)?)$")


@dataclass(slots=True)
class Entry:
    """One row, read but not yet checked against its picture.

    Attributes:
        where: how people find the row: ``captions.csv, row 3``.
        id: as given; empty when the table gives none.
        file: the picture's path as given; empty when the row carries the bytes.
        captions, concept, groups, licence, source, split: as in ``Sample``.
        sha256: what the row says of its picture's bytes; empty when it says nothing.
    """

    where: str
    id: str = ""
    file: str = ""
    captions: list[Caption] = field(default_factory=list)
    concept: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    split: str = ""
    sha256: str = ""


class Columns:
    """The meaning of the columns of one table.

    Args:
        names: the columns.
        taken: columns that carry the picture's bytes and are read elsewhere.
        keep: columns that become groups whole, however long their values are, under these names; lists as JSON. A
            task keeps its questions and answers so.
        where: what the table is called, for people.

    Raises:
        DataError: there is no column to ``keep``; the closest names and all there are are named.
    """

    def __init__(
        self, names: Iterable[str], taken: Iterable[str] = (), keep: Iterable[str] = (), where: str = "the table"
    ) -> None:
        self.names = [name for name in names if name]
        lower = {name.strip().lower(): name for name in reversed(self.names)}
        self.keep = {wanted: lower.get(wanted.strip().lower(), "") for wanted in keep}
        for wanted, name in self.keep.items():
            if not name:
                raise no_column(wanted, where, self.names)
        plain = {name.strip().lower(): name for name in reversed(self.names) if name not in set(taken)}
        self.picture = _first(plain, PICTURE)
        self.captions = [(plain[name], "en") for name in CAPTION if name in plain]
        self.captions += [(plain[n], m[1]) for n in sorted(plain) if (m := _LANGUAGE.match(n))]
        self.keywords = [plain[name] for name in KEYWORDS if name in plain]
        self.concept = _first(plain, CONCEPT)
        self.licence = _first(plain, LICENCE)
        self.id, self.split, self.source, self.groups, self.sha256 = (_first(plain, (name,)) for name in PLAIN)
        used = {name for name, _ in self.captions} | set(self.keywords) | set(taken)
        used |= {plain[name] for name in KNOWN if name in plain}
        self.others = [name for name in self.names if name not in used and name not in self.keep.values()]
        self.left_out: dict[str, str] = {}
        self.used_as_group: set[str] = set()

    def entry(self, row: Mapping[str, Any], where: str) -> tuple[Entry, list[Finding]]:
        """The entry of a row and what is wrong with its words; a wrong split is left as it is."""
        findings: list[Finding] = []
        captions: list[Caption] = []
        for column, lang in self.captions:
            captions += _captions(row.get(column), lang, where, findings)
        for column in self.keywords:
            captions += [Caption(word, "en", "keyword") for word in _words(row.get(column))]
        entry = Entry(
            where=where,
            id=_text(row.get(self.id)),
            file=_text(row.get(self.picture)),
            captions=list(dict.fromkeys(captions)),
            concept=_text(row.get(self.concept)),
            groups=self._groups(row),
            licence=_text(row.get(self.licence)),
            source=_text(row.get(self.source)),
            split=_text(row.get(self.split)),
            sha256=_text(row.get(self.sha256)),
        )
        entry.split = SPLITS.get(entry.split.lower(), entry.split)
        return entry, findings

    def _groups(self, row: Mapping[str, Any]) -> dict[str, str]:
        groups = {str(k): _text(v) for k, v in _mapping(row.get(self.groups)).items() if _text(v)}
        for column in self.others:
            value = row.get(column)
            if isinstance(value, list | dict | bytes):
                self.left_out[column] = "its values are not short texts"
            elif len(text := _text(value)) > LONGEST_GROUP:
                self.left_out[column] = f"some of its values are longer than {LONGEST_GROUP} characters"
            elif text:
                self.used_as_group.add(column)
                groups[column.strip()] = text
        for column in self.left_out:
            groups.pop(column.strip(), None)
        return groups | {wanted: text for wanted, name in self.keep.items() if (text := _whole(row.get(name)))}

    def findings(self) -> list[Finding]:
        """What became of the columns without a meaning of their own, once every row has been read."""
        groups = self.used_as_group - set(self.left_out)
        left = [data_findings.column_left_out(column, why) for column, why in sorted(self.left_out.items())]
        return left + ([data_findings.column_as_group(sorted(groups))] if groups else [])


def no_column(wanted: str, where: str, names: Iterable[str]) -> DataError:
    """The error for a column that is not there: what there is, and what looks like it."""
    there = [name for name in names if name]
    listed = ", ".join(map(repr, there[:20])) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    return DataError(
        f"there is no column {wanted!r} in {where}",
        f"it has {listed or 'no columns at all'}; name one of these",
        closest(wanted, there),
    )


def _whole(value: Any) -> str:
    """A value as one text; a list or a table as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else _text(value)


def _first(plain: Mapping[str, str], names: Iterable[str]) -> str:
    return next((plain[name] for name in names if name in plain), "")


def _text(value: Any) -> str:
    if value is None or isinstance(value, list | dict | bytes):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()) if not isinstance(value, bool) else str(value).lower()


def _captions(value: Any, lang: str, where: str, findings: list[Finding]) -> list[Caption]:
    """Captions of one cell: a text, a list (or its JSON), or a list of ``{"text", "lang", "kind"}``."""
    if value is None:
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _json(value, value)
    captions = []
    for item in value if isinstance(value, list) else [value]:
        given = item if isinstance(item, dict) else {"text": item}
        kind = "keyword" if given.get("kind") == "keyword" else "name"
        caption = Caption(_text(given.get("text")), _text(given.get("lang")) or lang, kind)
        if caption.text:
            captions.append(caption)
        elif isinstance(value, list) or value != "":
            findings.append(data_findings.empty_caption(where, "it is left out"))
    if value == "" and lang == "en":
        findings.append(data_findings.empty_caption(where, "the picture is kept without it"))
    return captions


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        value = _json(value, None) if value.lstrip().startswith("[") else re.split(r"[,;|]", value)
    return [text for item in value or [] if (text := _text(item))]


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value, {})
    if isinstance(value, list):  # how Arrow hands over a map
        value = dict(value)
    return value if isinstance(value, dict) else {}


def _json(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise
