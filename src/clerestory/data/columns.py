"""The meaning of table columns: from a raw row of any source to the fields of a sample.

The accepted names are the common ones; see ``docs/reference/data-formats.md``.
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
from clerestory.data.findings import UnusedColumn

IMAGE_COLUMNS = ("image", "picture", "path", "file", "file_name", "filename")
CAPTION_COLUMNS = ("caption", "captions", "text", "name", "title")
KEYWORD_COLUMNS = ("keywords", "tags")
CONCEPT_COLUMNS = ("concept", "label")
LICENCE_COLUMNS = ("licence", "license")
PLAIN_COLUMNS = ("id", "split", "source", "groups", "sha256")
KNOWN_COLUMNS = {
    *(*IMAGE_COLUMNS, *CAPTION_COLUMNS, *KEYWORD_COLUMNS, *CONCEPT_COLUMNS, *LICENCE_COLUMNS, *PLAIN_COLUMNS)
}
SPLIT_NAMES = {
    **{name: name for name in (TRAIN, VAL, TEST, TEST_STYLE)},
    **dict.fromkeys(("training",), TRAIN),
    **dict.fromkeys(("valid", "validation", "dev"), VAL),
    **dict.fromkeys(("testing",), TEST),
}
MAX_GROUP_LENGTH = 80
_LANGUAGE = re.compile(r"^(?:caption|captions|text)_([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)?)$")


@dataclass(slots=True)
class RawRow:
    """One row before its image is checked.

    Attributes:
        where: how findings refer to the row: ``captions.csv, row 3``.
        id: as in the table; empty if it has no id.
        file: the path of the image as in the table; empty if the row contains the bytes.
        captions, concept, groups, licence, source, split: as in ``Sample``.
        sha256: of the image bytes according to the row; empty if the row does not have one.
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
        exclude: columns with the bytes of the images, which another function reads.
        keep_columns: columns whose full values become groups, under these names, with lists as JSON; a task stores its
            questions and answers like this.
        where: how errors refer to the table.

    Raises:
        DataError: a column of ``keep_columns`` does not exist; names the closest ones and those that exist.
    """

    def __init__(
        self,
        names: Iterable[str],
        exclude: Iterable[str] = (),
        keep_columns: Iterable[str] = (),
        where: str = "the table",
    ) -> None:
        self.names = [name for name in names if name]
        lower = {name.strip().lower(): name for name in reversed(self.names)}
        self.keep_columns = {requested: lower.get(requested.strip().lower(), "") for requested in keep_columns}
        for requested, name in self.keep_columns.items():
            if not name:
                raise missing_column(requested, where, self.names)
        by_name = {name.strip().lower(): name for name in reversed(self.names) if name not in set(exclude)}
        self.image = _first(by_name, IMAGE_COLUMNS)
        self.captions = [(by_name[name], "en") for name in CAPTION_COLUMNS if name in by_name]
        self.captions += [(by_name[n], m[1]) for n in sorted(by_name) if (m := _LANGUAGE.match(n))]
        self.keywords = [by_name[name] for name in KEYWORD_COLUMNS if name in by_name]
        self.concept = _first(by_name, CONCEPT_COLUMNS)
        self.licence = _first(by_name, LICENCE_COLUMNS)
        self.id, self.split, self.source, self.groups, self.sha256 = (
            _first(by_name, (name,)) for name in PLAIN_COLUMNS
        )
        used = {name for name, _ in self.captions} | set(self.keywords) | set(exclude)
        used |= {by_name[name] for name in KNOWN_COLUMNS if name in by_name}
        self.extra_columns = [
            name for name in self.names if name not in used and name not in self.keep_columns.values()
        ]
        self.unused: dict[str, UnusedColumn] = {}
        self.group_columns: set[str] = set()

    def read_row(self, row: Mapping[str, Any], where: str) -> tuple[RawRow, list[Finding]]:
        """A row and the findings about its captions; an unknown split is not changed."""
        findings: list[Finding] = []
        captions: list[Caption] = []
        for column, lang in self.captions:
            captions += _captions(row.get(column), lang, where, findings)
        for column in self.keywords:
            captions += [Caption(word, "en", "keyword") for word in _keywords(row.get(column))]
        raw = RawRow(
            where=where,
            id=_text(row.get(self.id)),
            file=_text(row.get(self.image)),
            captions=list(dict.fromkeys(captions)),
            concept=_text(row.get(self.concept)),
            groups=self._groups(row),
            licence=_text(row.get(self.licence)),
            source=_text(row.get(self.source)),
            split=_text(row.get(self.split)),
            sha256=_text(row.get(self.sha256)),
        )
        raw.split = SPLIT_NAMES.get(raw.split.lower(), raw.split)
        return raw, findings

    def _groups(self, row: Mapping[str, Any]) -> dict[str, str]:
        groups = {str(k): _text(v) for k, v in _mapping(row.get(self.groups)).items() if _text(v)}
        for column in self.extra_columns:
            value = row.get(column)
            if isinstance(value, list | dict | bytes):
                self.unused[column] = UnusedColumn.NOT_TEXT
            elif len(text := _text(value)) > MAX_GROUP_LENGTH:
                self.unused[column] = UnusedColumn.LONG_TEXT
            elif text:
                self.group_columns.add(column)
                groups[column.strip()] = text
        for column in self.unused:
            groups.pop(column.strip(), None)
        return groups | {
            requested: text for requested, name in self.keep_columns.items() if (text := _full_text(row.get(name)))
        }

    def findings(self) -> list[Finding]:
        """Findings about the columns without a predefined meaning; call it after the last row."""
        groups = self.group_columns - set(self.unused)
        findings = [
            data_findings.unused_column(column, reason, MAX_GROUP_LENGTH)
            for column, reason in sorted(self.unused.items())
        ]
        return findings + ([data_findings.column_as_group(sorted(groups))] if groups else [])


def missing_column(requested: str, where: str, names: Iterable[str]) -> DataError:
    """The error for a column that does not exist, with the closest ones and those that do."""
    present = [name for name in names if name]
    listed = ", ".join(map(repr, present[:20])) + (f" and {len(present) - 20} more" if len(present) > 20 else "")
    return DataError(
        f"{where} has no column {requested!r}",
        f"its columns are {listed}; name one of these" if present else "it has no columns at all",
        closest(requested, present),
    )


def _full_text(value: Any) -> str:
    """A value as a string of any length; a list or a mapping as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else _text(value)


def _first(by_name: Mapping[str, str], names: Iterable[str]) -> str:
    return next((by_name[name] for name in names if name in by_name), "")


def _text(value: Any) -> str:
    if value is None or isinstance(value, list | dict | bytes):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()) if not isinstance(value, bool) else str(value).lower()


def _captions(value: Any, lang: str, where: str, findings: list[Finding]) -> list[Caption]:
    """Captions of one cell: a string, a list (or its JSON), or a list of ``{"text", "lang", "kind"}``."""
    if value is None:
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _json(value, value)
    captions = []
    for item in value if isinstance(value, list) else [value]:
        record = item if isinstance(item, dict) else {"text": item}
        kind = "keyword" if record.get("kind") == "keyword" else "name"
        caption = Caption(_text(record.get("text")), _text(record.get("lang")) or lang, kind)
        if caption.text:
            captions.append(caption)
        elif isinstance(value, list) or value != "":
            findings.append(data_findings.empty_caption(where, in_list=True))
    if value == "" and lang == "en":
        findings.append(data_findings.empty_caption(where))
    return captions


def _keywords(value: Any) -> list[str]:
    if isinstance(value, str):
        value = _json(value, None) if value.lstrip().startswith("[") else re.split(r"[,;|]", value)
    return [text for item in value or [] if (text := _text(item))]


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value, {})
    if isinstance(value, list):  # Arrow returns a map as a list of pairs
        value = dict(value)
    return value if isinstance(value, dict) else {}


def _json(text: str, default: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return default
