"""The finding codes of data sources (``docs/reference/findings.md``), each with a function that writes its message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from clerestory.core.evidence import Finding
from clerestory.core.findings import FindingCode
from clerestory.core.text import valid_unicode
from clerestory.core.units import plural


class UnreadableImage(StrEnum):
    """Why an image cannot be used; the ``reason`` of CLR-D001."""

    DAMAGED = "damaged"
    DIGEST_MISMATCH = "digest_mismatch"
    FILE_TOO_LARGE = "file_too_large"
    FILE_UNREADABLE = "file_unreadable"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_FORMAT = "unsupported_format"


class EmptyCaption(StrEnum):
    """Why a caption is left out; the ``reason`` of CLR-D002."""

    NO_TEXT = "no_text"
    NOT_TEXT = "not_text"
    NOT_UTF8 = "not_utf8"


class IncompleteRow(StrEnum):
    """Why a row is left out; the ``reason`` of CLR-D005."""

    NO_IMAGE = "no_image"
    NOT_A_JSON_OBJECT = "not_a_json_object"
    TOO_MANY_CELLS = "too_many_cells"
    UNBALANCED_QUOTE = "unbalanced_quote"


class UnusedColumn(StrEnum):
    """Why a column is not used; the ``reason`` of CLR-D009."""

    IDENTIFIER = "identifier"
    LONG_TEXT = "long_text"
    NO_NAME = "no_name"
    NOT_A_MAPPING = "not_a_mapping"
    NOT_TEXT = "not_text"
    NOT_THE_IMAGE = "not_the_image"
    UNIQUE_VALUES = "unique_values"
    VARIES = "varies"


class QuotedCell(StrEnum):
    """What is notable about a quoted cell of a table; the ``reason`` of CLR-D019."""

    SEVERAL_LINES = "several_lines"
    UNBALANCED_QUOTE = "unbalanced_quote"


class UnusedFile(StrEnum):
    """Why a file or a folder is not used; the ``reason`` of CLR-D013."""

    ARCHIVE = "archive"
    BROKEN_LINK = "broken_link"
    EMPTY_FOLDER = "empty_folder"
    HIDDEN_FILE = "hidden_file"
    LINK_WITHIN = "link_within"
    NO_IMAGE = "no_image"
    NOT_A_FILE = "not_a_file"
    SIDECAR = "sidecar"
    UNKNOWN_FORMAT = "unknown_format"


class UnreadTable(StrEnum):
    """Why a table is not read; the ``reason`` of CLR-D014."""

    ANOTHER_TABLE = "another_table"
    NO_CAPTIONS = "no_captions"
    NO_MATCH = "no_match"
    UNREADABLE = "unreadable"


UNREADABLE_IMAGE = FindingCode("CLR-D001", "warning", "unreadable image", fix="replace or remove it")
EMPTY_CAPTION = FindingCode("CLR-D002", "warning", "empty caption", fix="write a caption, or remove the empty one")
DUPLICATE_ID = FindingCode("CLR-D003", "warning", "duplicate id", fix="give every row a unique id")
MISSING_FILE = FindingCode("CLR-D004", "warning", "missing image file", fix="add the file, or correct its path")
INCOMPLETE_ROW = FindingCode("CLR-D005", "warning", "incomplete row", fix="name an image in the row")
BLANK_ICON = FindingCode("CLR-D006", "info", "blank icon", fix="nothing to do")
NO_CAPTION = FindingCode(
    "CLR-D007",
    "info",
    "images without a caption",
    fix="write captions in captions.csv, or in a .txt file beside each image; clerestory use describe FOLDER "
    "--csv FOLDER/captions.csv suggests some to correct",
)
COLUMN_AS_GROUP = FindingCode(
    "CLR-D008", "info", "columns used as groups", "pass", "rename them if they have another meaning"
)
UNUSED_COLUMN = FindingCode("CLR-D009", "info", "unused column", fix="remove the column, or shorten its values")
OUTSIDE_FOLDER = FindingCode(
    "CLR-D010",
    "warning",
    "file outside the data folder",
    fix="copy the image into the folder, and name the copy in the row",
)
SPLIT_CONFLICT = FindingCode(
    "CLR-D011", "warning", "concept in several splits", fix="give all images of a concept the same split"
)
UNKNOWN_SPLIT = FindingCode("CLR-D012", "warning", "unknown split", fix="use train, val, test or test_style")
UNUSED_FILES = FindingCode(
    "CLR-D013", "info", "files that are not used", fix="nothing to do, unless they belong to the data"
)
UNREAD_TABLE = FindingCode(
    "CLR-D014", "warning", "table that is not read", fix="add it separately: clerestory data add FOLDER/TABLE"
)
UNREADABLE_FOLDER = FindingCode(
    "CLR-D015", "warning", "unreadable folder", fix="correct its permissions, or move its files elsewhere"
)
IMAGE_URLS = FindingCode(
    "CLR-D016",
    "warning",
    "URLs instead of image files",
    fix="download the images with img2dataset, then add the folder that it writes",
)
OTHER_BASE_FOLDER = FindingCode("CLR-D017", "info", "paths relative to another folder", "pass", "nothing to do")
EXACT_COPIES = FindingCode("CLR-D018", "info", "exact copies", fix="remove the copies if they are not intended")
QUOTED_CELL = FindingCode(
    "CLR-D019", "warning", "unclosed quote or multi-line cell", fix="close the quote, or remove it"
)
MOSTLY_LEFT_OUT = FindingCode(
    "CLR-D020",
    "error",
    "most rows are left out",
    "fail",
    "correct the rows (--json lists all of them), or remove those that should not be used",
)
NO_TRAINING_SPLIT = FindingCode(
    "CLR-D021",
    "info",
    "no training split",
    fix="to train on this data, add it again with --new-splits and another --name; to evaluate on it, nothing",
)
LONG_CAPTIONS = FindingCode(
    "CLR-D022",
    "warning",
    "very long captions",
    fix="shorten them: what comes after the first few sentences is not read",
)

CODES = (
    *(UNREADABLE_IMAGE, EMPTY_CAPTION, DUPLICATE_ID, MISSING_FILE, INCOMPLETE_ROW, BLANK_ICON, NO_CAPTION),
    *(COLUMN_AS_GROUP, UNUSED_COLUMN, OUTSIDE_FOLDER, SPLIT_CONFLICT, UNKNOWN_SPLIT),
    *(UNUSED_FILES, UNREAD_TABLE, UNREADABLE_FOLDER, IMAGE_URLS, OTHER_BASE_FOLDER, EXACT_COPIES),
    *(QUOTED_CELL, MOSTLY_LEFT_OUT, NO_TRAINING_SPLIT, LONG_CAPTIONS),
)
ABOUT_SPLITS = frozenset(code.code for code in (SPLIT_CONFLICT, NO_TRAINING_SPLIT))  # of the source
# Each has one finding for each row or image that is left out, or the number of rows.
_LEFT_OUT_CODES = (UNREADABLE_IMAGE, MISSING_FILE, INCOMPLETE_ROW, OUTSIDE_FOLDER, UNKNOWN_SPLIT, IMAGE_URLS)
_LEFT_OUT = frozenset(code.code for code in _LEFT_OUT_CODES)


def num_left_out(findings: Iterable[Finding]) -> int:
    """How many rows and images are left out according to their findings."""
    return sum(finding.count or 1 for finding in findings if finding.code in _LEFT_OUT)


def first_left_out(findings: Iterable[Finding]) -> Finding | None:
    """The first finding about something that is left out."""
    return next((finding for finding in findings if finding.code in _LEFT_OUT), None)


def first_unused(findings: Iterable[Finding]) -> Finding | None:
    """The finding about a table, an archive or a folder that is not read; None if there is none."""
    codes = {UNREAD_TABLE.code, UNREADABLE_FOLDER.code}
    return next((f for f in findings if f.code in codes or f.reason == UnusedFile.ARCHIVE), None)


def unreadable_image(where: str, reason: UnreadableImage, problem: str, fix: str = "") -> Finding:
    """An image that cannot be decoded; skipped. ``fix`` replaces the remedy of the code."""
    message = f"{problem}; the image is skipped"
    return UNREADABLE_IMAGE.finding(where, message, fix=fix or None, reason=reason, problem=problem)


def empty_caption(where: str, reason: EmptyCaption = EmptyCaption.NO_TEXT, in_list: bool = False) -> Finding:
    """A caption without text; the image is kept. In a list of captions (``in_list``) only this one is left out."""
    problem = {
        EmptyCaption.NO_TEXT: "the caption is empty",
        EmptyCaption.NOT_TEXT: "the caption is not text",
        EmptyCaption.NOT_UTF8: "the caption file is not UTF-8 text",
    }[reason]
    effect = "it is left out" if in_list else "the image is used without it"
    return EMPTY_CAPTION.finding(where, f"{problem}; {effect}", reason=reason)


def duplicate_id(count: int, where: tuple[str, str], old: str, new: tuple[str, str]) -> Finding:
    """Ids of several images, which get longer ids; ``where``, ``old`` and ``new`` are an example."""
    ids = plural(count, "id is", "ids are")
    message = f"{ids} used for different images, such as {old!r}, which is now {new[0]!r} ({where[0]}) and {new[1]!r}"
    return DUPLICATE_ID.finding(where[1], message, count=count, first=where[0], example=old)


def repeated_rows(count: int, where: str) -> Finding:
    """Rows that are equal to an earlier one in every column; each is used once."""
    message = f"{plural(count, 'row is', 'rows are')} equal to an earlier one, such as {where}; each is used once"
    return DUPLICATE_ID.finding(where, message, fix="remove the repeated rows", reason="equal", count=count)


def missing_file(where: str, file: str, closest: Sequence[str] = ()) -> Finding:
    """A row whose image file does not exist; skipped. The fix has the ``closest`` name of a file that does."""
    fix = f"correct its path: did you mean {closest[0]!r}?" if closest else None
    return MISSING_FILE.finding(
        where, f"the image file {file!r} does not exist; the row is skipped", fix=fix, file=file
    )


def incomplete_row(where: str, reason: IncompleteRow) -> Finding:
    """A row that cannot be read, or without an image; skipped."""
    problem, fix = {
        IncompleteRow.NO_IMAGE: ("the row has no image", None),
        IncompleteRow.NOT_A_JSON_OBJECT: ("the line is not a JSON object", "write one JSON object per line"),
        IncompleteRow.TOO_MANY_CELLS: (
            "the row has more cells than the header",
            "put texts with commas in quotes, or remove the cells that are too many",
        ),
        IncompleteRow.UNBALANCED_QUOTE: (
            "a quote is not closed, and the cells do not match the header",
            "close the quote, or remove it",
        ),
    }[reason]
    return INCOMPLETE_ROW.finding(where, f"{problem}; the row is skipped", fix=fix, reason=reason)


def blank_icon(where: str) -> Finding:
    """A drawing that is completely white; skipped."""
    return BLANK_ICON.finding(where, "the drawing is white and therefore invisible on white; it is skipped")


def no_caption(count: int, example: str) -> Finding:
    """Images without any caption; they are used."""
    message = f"no caption, such as {example!r}; still used" if count > 1 else "no caption; still used"
    return NO_CAPTION.finding(plural(count, "image") if count > 1 else example, message, count=count, example=example)


def column_as_group(columns: list[str]) -> Finding:
    """Columns without a predefined meaning, whose values are used as groups."""
    names = ", ".join(sorted(columns))
    return COLUMN_AS_GROUP.finding(
        names, f"these columns are used as groups: {names}", count=len(columns), columns=tuple(sorted(columns))
    )


def unused_column(column: str, reason: UnusedColumn, max_length: int) -> Finding:
    """A column whose values cannot be groups."""
    problem = {
        UnusedColumn.IDENTIFIER: "its values are not captions in a language",
        UnusedColumn.NO_NAME: "it has no name",
        UnusedColumn.NOT_A_MAPPING: "some values are not mappings of names to texts",
        UnusedColumn.NOT_TEXT: "some values are not short strings",
        UnusedColumn.NOT_THE_IMAGE: "another column names the image files",
        UnusedColumn.UNIQUE_VALUES: "nearly every sample has a value of its own",
        UnusedColumn.VARIES: "its values differ between the rows of one image",
        UnusedColumn.LONG_TEXT: f"some values are longer than {max_length} characters",
    }[reason]
    return UNUSED_COLUMN.finding(column, f"the column {column!r} is not used: {problem}", reason=reason)


def outside_folder(where: str, file: str) -> Finding:
    """A row whose file lies outside the folder of the data; not opened."""
    where, file = valid_unicode(where), valid_unicode(file)
    what, fix = f"{file!r} lies", None
    if where == file:
        what, fix = f"{file!r} is a link that leads", "put the file itself in place of the link (cp -L copies it)"
    message = f"{what} outside the folder of the data; the image is skipped"
    return OUTSIDE_FOLDER.finding(where, message, fix=fix, file=file)


def split_conflict(concept: str, splits: list[str]) -> Finding:
    """One concept in several of the given splits: the test data leaks into training."""
    message = (
        f"the concept {concept!r} is in several splits ({', '.join(splits)}), "
        "so scores on the held-out splits are too optimistic"
    )
    return SPLIT_CONFLICT.finding(concept, message, concept=concept, splits=tuple(splits))


def unknown_split(where: str, split: str) -> Finding:
    """A row with an unknown split; skipped."""
    return UNKNOWN_SPLIT.finding(where, f"the split {split!r} does not exist; the row is skipped", split=split)


def unused_files(reason: UnusedFile, files: Sequence[str]) -> Finding:
    """Files or folders that are not used, of one kind; ``details`` has the name of each."""
    names = tuple(valid_unicode(file) for file in files)
    one, several = {
        UnusedFile.ARCHIVE: ("archive", "archives"),
        UnusedFile.BROKEN_LINK: ("link that leads nowhere", "links that lead nowhere"),
        UnusedFile.EMPTY_FOLDER: ("empty folder", "empty folders"),
        UnusedFile.HIDDEN_FILE: ("hidden file or folder", "hidden files or folders"),
        UnusedFile.LINK_WITHIN: ("link to a folder that is opened anyway", "links to folders that are opened anyway"),
        UnusedFile.NO_IMAGE: ("text or table that belongs to no image", "texts or tables that belong to no image"),
        UnusedFile.NOT_A_FILE: ("entry that is not a file", "entries that are not files"),
        UnusedFile.SIDECAR: (
            "sidecar file that adds no caption",
            "sidecar files that add no caption",
        ),
        UnusedFile.UNKNOWN_FORMAT: ("file of an unsupported type", "files of unsupported types"),
    }[reason]
    what = plural(len(names), f"{one} is", f"{several} are")
    fix = "unpack it, then open the folder" if reason == UnusedFile.ARCHIVE else None
    where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"
    message = f"{what} not used"
    return UNUSED_FILES.finding(where, message, fix=fix, reason=reason, count=len(names), files=names)


def unread_table(table: str, reason: UnreadTable, problem: str) -> Finding:
    """A table in a folder that is not read."""
    return UNREAD_TABLE.finding(table, f"the table is not read: {problem}", reason=reason)


def unreadable_folder(folder: str, problem: str) -> Finding:
    """A sub-folder whose files cannot be listed."""
    return UNREADABLE_FOLDER.finding(folder, f"the folder cannot be read ({problem}); its files are left out")


def image_urls(table: str, count: int, example: str) -> Finding:
    """Rows with the URL of an image instead of a file; URLs are never downloaded."""
    rows = plural(count, "row has", "rows have")
    skipped = "these rows are" if count != 1 else "this row is"
    message = f"{rows} an image URL, such as {example!r}; URLs are not downloaded, so {skipped} skipped"
    return IMAGE_URLS.finding(table, message, count=count, example=example)


def other_base_folder(table: str, folder: str) -> Finding:
    """A table whose paths are relative to a sub-folder with images."""
    return OTHER_BASE_FOLDER.finding(table, f"its paths are relative to {folder!r}", folder=folder)


def exact_copies(count: int, copy: str, original: str, num_across_splits: int, num_links: int = 0) -> Finding:
    """Images that are byte-identical to another one; all are used.

    Args:
        count: of the copies, the originals not included.
        copy: the id of an example, one in another split than its original if there is any.
        original: the id of its original.
        num_across_splits: of the copies, those in another split than the original.
        num_links: of the copies, those that are links to the file of the original.
    """
    # Which of the two is the copy cannot be known from their names.
    where, message = copy, f"the image has the same bytes as {original!r}"
    if count > 1:
        where = f"{count:,} images"
        message = f"exact copies of others, such as {copy!r} and {original!r}, which have the same bytes"
    if num_links:
        which = f"{num_links:,} of them" if count > 1 else "it"
        message += f", {which} through a link to the same file"
    if not num_across_splits:
        message += "; still used, in the same split"
        return EXACT_COPIES.finding(where, message, count=count, example=copy, original=original, links=num_links)
    return EXACT_COPIES.finding(
        where,
        f"{message}; {num_across_splits:,} in another split than an equal image, so results there are too optimistic",
        fix="remove the copies, or give all copies of an image the same split",
        severity="warning",
        count=count,
        example=copy,
        original=original,
        links=num_links,
        across_splits=num_across_splits,
    )


def same_split(finding: Finding) -> Finding:
    """A finding about exact copies after all copies of an image got the same split; any other as it is."""
    if finding.code != EXACT_COPIES.code or finding.severity == EXACT_COPIES.severity:
        return finding
    details = finding.details
    return exact_copies(
        finding.count or 1, details.text("example"), details.text("original"), 0, details.integer("links")
    )


def rows_of_several_lines(count: int, where: str, lines: tuple[int, int]) -> Finding:
    """Rows with a quoted text of several lines, which is normal; ``where`` and ``lines`` are an example."""
    rows = plural(count, "row has a quoted text of several lines", "rows have texts of several lines")
    message = f"{rows}, such as lines {lines[0]} to {lines[1]}"
    fix = "nothing to do, unless a quote is missing there"
    return QUOTED_CELL.finding(
        where, message, fix=fix, state="pass", severity="info", reason=QuotedCell.SEVERAL_LINES, count=count
    )


def unbalanced_quote(where: str, line: int) -> Finding:
    """A row with a quote that is not closed; the row ends with its line and is used."""
    message = f"a quote is not closed in line {line}; the row ends with this line"
    return QUOTED_CELL.finding(where, message, reason=QuotedCell.UNBALANCED_QUOTE, count=1, line=line)


def mostly_left_out(name: str, left_out: int, used: int, example: Finding) -> Finding:
    """More rows are left out than used, so the data is hardly what its owner expects."""
    message = (
        f"{left_out:,} of {left_out + used:,} rows or images are left out, and {used:,} used; the first is "
        f"{example.where}: {example.message}"
    )
    return MOSTLY_LEFT_OUT.finding(name, message, count=left_out, used=used)


def no_training_split(counts: Mapping[str, int]) -> Finding:
    """The source assigns every sample to another split than ``train``; ``counts`` has the samples of each."""
    splits = ", ".join(f"{split} {count:,}" for split, count in sorted(counts.items()))
    message = f"the source assigns no sample to the split 'train' ({splits}), so there is nothing to train on"
    return NO_TRAINING_SPLIT.finding("splits", message, count=sum(counts.values()), splits=tuple(sorted(counts)))


def long_captions(count: int, example: str, length: int, limit: int) -> Finding:
    """Captions of more than ``limit`` characters, of which models read the beginning; ``example`` has the longest."""
    captions = plural(count, "caption has", "captions have")
    message = f"{captions} more than {limit:,} characters, the longest {length:,}; they are used, and models read only"
    return LONG_CAPTIONS.finding(example, f"{message} their beginning", count=count, length=length)
