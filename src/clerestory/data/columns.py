"""The meaning of table columns: from a raw row of any source to the fields of a sample.

The accepted names are the common ones; see ``docs/reference/data-formats.md``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clerestory.core.errors import DataError, closest
from clerestory.core.evidence import Finding
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Caption
from clerestory.data import findings as data_findings
from clerestory.data.cells import (
    captions_of,
    file_of,
    full_text,
    is_missing,
    is_single,
    keywords_of,
    language,
    mapping_of,
    text_of,
)
from clerestory.data.findings import EmptyCaption, UnusedColumn

# Blanks, hyphens and underscores in names do not matter: "File Name" is file_name.
IMAGE_COLUMNS = (
    *("image", "picture", "photo", "img", "path", "file", "file_name", "filename", "file_path", "filepath"),
    *("image_path", "image_file", "image_file_name", "image_name", "img_path", "img_file", "img_name"),
)
# URLs are not downloaded; they are recognised, so that the error can name the remedy.
URL_COLUMNS = ("url", "image_url", "img_url", "image_link", "img_link", "image_src", "coco_url")
CAPTION_COLUMNS = (
    *("caption", "captions", "text", "name", "title"),
    *("sentence", "sentences", "comment", "alt", "alt_text", "description"),
)
KEYWORD_COLUMNS = ("keywords", "tags")
CONCEPT_COLUMNS = ("concept", "label")
LICENCE_COLUMNS = ("licence", "license")
PLAIN_COLUMNS = ("id", "split", "source", "groups", "sha256")
SPLIT_NAMES = {
    **{name: name for name in (TRAIN, VAL, TEST, TEST_STYLE)},
    **dict.fromkeys(("training",), TRAIN),
    **dict.fromkeys(("valid", "validation", "dev"), VAL),
    **dict.fromkeys(("testing",), TEST),
}
MAX_GROUP_LENGTH = 80
MIN_UNIQUE = 5  # from this number of values on, a column without any repeated value cannot be a group
_LANGUAGE = re.compile(r"(?:captions?|text)[ _.\-]([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)?)")
_NUMBERED = re.compile(r"(.+?)[ _.\-]?\d{1,3}")
_ROW_NUMBERS = re.compile(r"unnamed: ?\d+(?:_level_\d+)?|__index_level_\d+__")
_FILE_LIKE = re.compile(r"[/\\]|\.[A-Za-z][A-Za-z0-9]{1,4}\Z")


@dataclass(slots=True)
class RawRow:
    """One row before its image is checked.

    Attributes:
        where: how findings refer to the row: ``captions.csv, row 3``.
        id: as in the table; empty if it has no id.
        file: the path of the image as in the table; empty if the row contains the bytes.
        captions, concept, groups, licence, source, split: as in ``Sample``.
        sha256: of the image bytes according to the row; empty if the row does not have one.
        location: where the source finds the bytes of the image: a path, or a row number.
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
    location: Any = None


class Columns:
    """The meaning of the columns of one table.

    Args:
        names: the columns, each name once (``unique_names``).
        exclude: columns with the bytes of the images, which another function reads.
        keep_columns: columns whose full values become groups, under these names, with lists as JSON; a task stores its
            questions and answers like this.
        where: how errors refer to the table.

    Attributes:
        image: the column that names the image; empty if there is none. Of several, each row uses the first one whose
            value looks like a file.

    Raises:
        DataError: a column of ``keep_columns`` does not exist; names the closest ones and those that exist.
    """

    def __init__(
        self,
        names: Iterable[str],
        exclude: Collection[str] = (),
        keep_columns: Iterable[str] = (),
        where: str = "the table",
    ) -> None:
        self.names = [name for name in names if name]
        lower = {name.strip().lower(): name for name in reversed(self.names)}
        self.keep_columns = {requested: lower.get(requested.strip().lower(), "") for requested in keep_columns}
        for requested, name in self.keep_columns.items():
            if not name:
                raise missing_column(requested, where, self.names)
        rest = dict.fromkeys(name for name in self.names if name not in exclude)

        def take(*keys: str) -> list[str]:
            found = [name for key in keys for name in rest if column_key(name) == column_key(key)]
            return [name for name in found if rest.pop(name, name) is None]

        self.images = take(*IMAGE_COLUMNS) or take(*URL_COLUMNS)
        self.image = self.images[0] if self.images else ""
        self.captions = [(name, "en") for name in take(*CAPTION_COLUMNS)]
        self.keywords = take(*KEYWORD_COLUMNS)
        self.concepts, self.licences = take(*CONCEPT_COLUMNS), take(*LICENCE_COLUMNS)
        self.ids, self.splits, self.sources, self.groups, self.sha256 = (take(name) for name in PLAIN_COLUMNS)
        # Further captions, if their values are texts: in other languages (not caption_len), and numbered ones.
        self.more_captions = [(name, lang) for name in sorted(rest) if (lang := _caption_language(name))]
        for name, _ in self.more_captions:
            del rest[name]
        self.row_numbers = [name for name in rest if _ROW_NUMBERS.fullmatch(name.strip().lower())]
        kept = {*self.row_numbers, *self.keep_columns.values()}
        self.extra_columns = [name for name in rest if name not in kept]
        self.unused: dict[str, UnusedColumn] = {}
        self._named_image: set[str] = set()
        self._captioned: set[str] = set()

    def read_row(self, row: Mapping[str, Any], where: str) -> tuple[RawRow, list[Finding]]:
        """A row and the findings about its captions; an unknown split is not changed."""
        captions, findings = self._captions(row, where)
        split = self._first(row, self.splits)
        raw = RawRow(
            where=where,
            id=self._first(row, self.ids),
            file=self._file(row),
            captions=captions,
            concept=self._first(row, self.concepts),
            groups=self._groups(row),
            licence=self._first(row, self.licences),
            source=self._first(row, self.sources),
            split=SPLIT_NAMES.get(split.lower(), split),
            sha256=self._first(row, self.sha256),
        )
        return raw, findings

    def finish(self, rows: Collection[RawRow], varying: Mapping[str, int], merged: int) -> list[Finding]:
        """Remove what turns out not to be a group from all rows; the findings about columns without predefined meaning.

        Args:
            rows: one for each sample.
            varying: in how many samples the rows differ in a group.
            merged: the number of samples made of several rows.
        """
        groups = {name: name.strip() for name in self.extra_columns}
        for name, group in list(groups.items()):
            values = Counter(row.groups[group] for row in rows if group in row.groups)
            if not values and not varying.get(group):
                del groups[name]
            elif varying.get(group, 0) * 2 > merged:
                self.unused.setdefault(name, UnusedColumn.VARIES)
            elif _is_identifier(values):
                self.unused.setdefault(name, UnusedColumn.UNIQUE_VALUES)
        removed = {groups[name] for name in self.unused if name in groups} - self.keep_columns.keys()
        for row in rows:
            for group in removed & row.groups.keys():
                del row.groups[group]
        for name in self._named_image | self._captioned:  # its other cells are no reason to report it
            self.unused.pop(name, None)
        findings = [
            data_findings.unused_column(column, reason, MAX_GROUP_LENGTH)
            for column, reason in sorted(self.unused.items())
        ]
        used = sorted(groups.keys() - self.unused.keys())
        return findings + ([data_findings.column_as_group(used)] if used else [])

    def _first(self, row: Mapping[str, Any], columns: Iterable[str]) -> str:
        """The first value that is not missing; columns with anything else than single values are reported."""
        for column in columns:
            value = row.get(column)
            if text := text_of(value):
                return text
            if not is_single(value) and not is_missing(value):
                self.unused[column] = UnusedColumn.NOT_TEXT
        return ""

    def _file(self, row: Mapping[str, Any]) -> str:
        if len(self.images) == 1:
            return file_of(row.get(self.image))
        files = {column: file for column in self.images if (file := file_of(row.get(column)))}
        chosen = next((c for c, file in files.items() if _FILE_LIKE.search(file)), next(iter(files), ""))
        self._named_image.add(chosen)
        for column in files:
            if column != chosen:
                self.unused.setdefault(column, UnusedColumn.NOT_THE_IMAGE)
        return files.get(chosen, "")

    def _captions(self, row: Mapping[str, Any], where: str) -> tuple[list[Caption], list[Finding]]:
        captions: dict[Caption, None] = {}
        problems: list[EmptyCaption] = []
        in_list = False
        for column, lang in self.captions:
            value = row.get(column)
            if value is None:
                continue
            found, faults = captions_of(value, lang)
            captions.update(dict.fromkeys(found))
            problems += faults
            in_list = in_list or (bool(faults) and not is_single(value))
        for column, lang in self.more_captions:
            found, faults = captions_of(row.get(column), lang)
            texts = [caption for caption in found if _is_caption(caption.text, lang)]
            captions.update(dict.fromkeys(texts))
            if texts:
                self._captioned.add(column)
            elif found or EmptyCaption.NOT_TEXT in faults:
                self.unused.setdefault(column, UnusedColumn.IDENTIFIER)
        for column in self.keywords:
            captions.update(dict.fromkeys(Caption(word, "en", "keyword") for word in keywords_of(row.get(column))))
        if in_list:
            return list(captions), [data_findings.empty_caption(where, reason, in_list=True) for reason in problems]
        named = any(caption.kind == "name" for caption in captions)
        return list(captions), [data_findings.empty_caption(where, problems[0])] if problems and not named else []

    def _groups(self, row: Mapping[str, Any]) -> dict[str, str]:
        groups: dict[str, str] = {}
        for column in self.groups:
            mapping = mapping_of(row.get(column))
            if mapping is None:
                self.unused[column] = UnusedColumn.NOT_A_MAPPING
            groups.update(mapping or {})
        for column in self.row_numbers:
            if not is_missing(row.get(column)):
                self.unused[column] = UnusedColumn.NO_NAME
        for column in self.extra_columns:
            value = row.get(column)
            if value is None:
                continue
            if not is_single(value):
                self.unused[column] = UnusedColumn.NOT_TEXT
            elif len(text := text_of(value)) > MAX_GROUP_LENGTH:
                self.unused[column] = UnusedColumn.LONG_TEXT
            elif text:
                groups[column.strip()] = text
        kept = {name: text for name, column in self.keep_columns.items() if (text := full_text(row.get(column)))}
        return groups | kept


def unique_names(names: Iterable[str]) -> list[str]:
    """Column names of which each occurs once: a second ``caption`` is ``caption.1``, an empty name ``Unnamed: 2``.

    These are pandas' names for the same, so a table that went through pandas reads the same.
    """
    unique: dict[str, None] = {}
    for i, given in enumerate(names):
        name = base = " ".join(given.split()) or f"Unnamed: {i}"
        number = 0
        while name in unique:
            number += 1
            name = f"{base}.{number}"
        unique[name] = None
    return list(unique)


def column_key(name: str) -> str:
    """A column name for comparison: without case, blanks, hyphens, underscores and a leading byte-order mark."""
    return re.sub(r"[\s_\-\ufeff]+", "", name).lower()


def missing_column(requested: str, where: str, names: Iterable[str]) -> DataError:
    """The error for a column that does not exist, with the closest ones and those that do."""
    present = [name for name in names if name]
    listed = ", ".join(map(repr, present[:20])) + (f" and {len(present) - 20} more" if len(present) > 20 else "")
    return DataError(
        f"{where} has no column {requested!r}",
        f"its columns are {listed}; name one of these" if present else "it has no columns at all",
        closest(requested, present),
    )


_CAPTION_KEYS = frozenset(map(column_key, CAPTION_COLUMNS))


def _caption_language(name: str) -> str:
    """The language of a column of further captions; empty if its name is not one of a caption."""
    if match := _LANGUAGE.fullmatch(name.strip()):
        return language(match[1])
    match = _NUMBERED.fullmatch(name.strip())
    return "en" if match and column_key(match[1]) in _CAPTION_KEYS else ""


def _is_caption(text: str, lang: str) -> bool:
    """Whether a value is a text: ``caption_id`` may be Indonesian or a number, ``caption_no`` may be Norwegian."""
    if lang in ("id", "no") and " " not in text and re.search(r"[\d_]", text):
        return False
    return any(character.isalpha() for character in text)


def _is_identifier(values: Counter[str]) -> bool:
    """Whether a column has another value in nearly every sample: a price, a date, the URL of a page."""
    total = values.total()
    most_differ = total >= 4 * MIN_UNIQUE and len(values) * 2 > total
    return most_differ or (total >= MIN_UNIQUE and len(values) == total)
