"""What can be found wrong while data comes in, each with its permanent code (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.evidence import Finding


def unreadable(where: str, why: str) -> Finding:
    """CLR-D001: a picture that cannot be decoded; kept out."""
    return Finding("CLR-D001", "warning", "warn", where, f"{why}; the picture is kept out", "replace or remove it")


def empty_caption(where: str, kept: str) -> Finding:
    """CLR-D002: a caption without words; the caption is kept out, the picture stays."""
    return Finding("CLR-D002", "warning", "warn", where, f"the caption has no words; {kept}", "write one, or remove it")


def duplicate_id(where: str, first: str) -> Finding:
    """CLR-D003: an id that an earlier row has; the later row is kept out."""
    message = f"the id was already used by {first}; this row is kept out"
    return Finding("CLR-D003", "warning", "warn", where, message, "give every row an id of its own")


def missing_file(where: str, file: str) -> Finding:
    """CLR-D004: a row that names a picture file which is not there; kept out."""
    return Finding("CLR-D004", "warning", "warn", where, f"there is no picture {file!r}; the row is kept out", "add it")


def lacking(where: str, what: str) -> Finding:
    """CLR-D005: a row that cannot be read, or without a field it needs; kept out."""
    return Finding("CLR-D005", "warning", "warn", where, f"{what}; the row is kept out", "complete the row")


def blank(where: str) -> Finding:
    """CLR-D006: a picture that shows nothing on white; kept out."""
    message = "the drawing is white only and shows nothing on white; it is kept out"
    return Finding("CLR-D006", "info", "warn", where, message, "nothing to do")


def no_caption(count: int, example: str) -> Finding:
    """CLR-D007: pictures without any caption; they stay."""
    shown = f"{count} picture{'s' if count != 1 else ''}"
    message = f"without any caption, such as {example!r}; kept all the same"
    fix = "write captions in captions.csv, or in a .txt file beside each picture"
    return Finding("CLR-D007", "info", "warn", shown, message, fix)


def column_as_group(columns: list[str]) -> Finding:
    """CLR-D008: columns that Clerestory gives no meaning; their values became groups."""
    names = ", ".join(sorted(columns))
    return Finding("CLR-D008", "info", "pass", names, f"kept as groups: {names}", "rename them if they mean more")


def column_left_out(column: str, why: str) -> Finding:
    """CLR-D009: a column that was not used."""
    return Finding("CLR-D009", "info", "warn", column, f"the column {column!r} is not used: {why}", "remove it")


def outside(where: str, file: str) -> Finding:
    """CLR-D010: a row that names a file outside of the folder of the table; not opened."""
    message = f"{file!r} lies outside of the data's folder; the row is kept out"
    return Finding("CLR-D010", "warning", "warn", where, message, "put the picture into the folder")


def split_conflict(concept: str, splits: list[str]) -> Finding:
    """CLR-D011: one concept on several sides of the given splits: the answer leaks."""
    message = f"the concept {concept!r} is in {' and '.join(splits)}, so results on the latter will look too good"
    return Finding("CLR-D011", "warning", "warn", concept, message, "give all pictures of a concept one split")


def unknown_split(where: str, split: str) -> Finding:
    """CLR-D012: a split with a name that does not exist; the row is kept out."""
    message = f"there is no split {split!r}; the row is kept out"
    return Finding("CLR-D012", "warning", "warn", where, message, "use train, val, test or test_style")
