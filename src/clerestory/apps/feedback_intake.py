"""Feedback from outside: one JSON object, or the rows of a CSV file with late labels."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clerestory.core.errors import ClerestoryError, InputError, closest
from clerestory.core.files import read_problem
from clerestory.core.progress import QUIET, Progress
from clerestory.core.settings import one_of
from clerestory.store import Store
from clerestory.store.operations.feedback import Feedback, FeedbackKind, add_feedback, check_feedback

FIELDS = ("response", "kind", "value", "source", "item", "key", "at", "suggested")
REQUIRED = ("response", "kind", "value")
ROWS = 1_000  # in one transaction: a server that writes at the same time waits no longer than for these
MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of a file that was not added, with the reason."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class FeedbackImport:
    """The result of adding a file.

    Attributes:
        added: rows that are new.
        known: rows that were added before.
        rejected: how many rows were not added.
        problems: the first of these, with their reasons.
    """

    added: int
    known: int
    rejected: int
    problems: tuple[RejectedRow, ...] = ()


def parse_feedback(data: Any, source: str = "api") -> Feedback:
    """The feedback in a JSON object or in the row of a table.

    Args:
        data: with ``response``, ``kind`` and ``value``; the other fields may be missing, null or empty.
        source: where it comes from, if it does not say so.

    Raises:
        InputError: a field is unknown, missing or of a wrong type; carries the closest names.
    """
    if not isinstance(data, Mapping):
        raise InputError("feedback is a JSON object", 'such as {"response": "resp_…", "kind": "thumbs", "value": "up"}')
    for name in data:
        if name not in FIELDS:
            raise InputError(
                f"feedback has no field {str(name)[:40]!r}",
                f"its fields are {', '.join(FIELDS)}",
                closest(str(name), FIELDS),
            )
    given = {name: value for name, value in data.items() if value is not None}
    for name in REQUIRED:
        if name not in given:
            raise InputError(f"feedback lacks the field {name!r}", f"add {name}")
    at = _time(given.pop("at", 0.0))
    for name, value in given.items():
        if not isinstance(value, str):
            raise InputError(f"{name} is {type(value).__name__}, not text", "send it as a string")
    if given["kind"] not in list(FeedbackKind):
        raise InputError(
            f"{given['kind'][:40]!r} is not a kind of feedback",
            f"use {one_of([str(kind) for kind in FeedbackKind])}",
            closest(given["kind"][:40], [str(kind) for kind in FeedbackKind]),
        )
    values = {name: given.get(name, "") for name in FIELDS if name not in ("kind", "at", "source")}
    return Feedback(kind=FeedbackKind(given["kind"]), source=given.get("source") or source, at=at, **values)


def _time(value: Any) -> float:
    """Seconds since the epoch, from a number or from ISO 8601; a time without a zone is UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"at is {type(value).__name__}, not a time", "send seconds since 1970 or ISO 8601")
    if not isinstance(value, str):
        return float(value)
    if not value.strip():
        return 0.0
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise InputError(f"at is {value[:40]!r}, not a time", "send seconds since 1970 or ISO 8601") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def add_feedback_file(store: Store, path: Path, source: str = "labels", progress: Progress = QUIET) -> FeedbackImport:
    """Add the late labels of a CSV file; adding the same file again changes nothing.

    A row without a key gets one from its content, so that a file that was added halfway can be added again. Rows that
    cannot be added are counted and listed with their reasons; the others are added.

    Args:
        store: receives the rows.
        path: a CSV file with a header: response, kind, value, and if you like source, item, key, at.
        source: of rows that name none.
        progress: reports the rows.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    store.database.ensure_operations()
    rows = list(_read(path))
    added = known = 0
    problems: list[RejectedRow] = []
    with progress.task("Adding feedback", len(rows)) as bar:
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            items: list[tuple[int, Feedback]] = []
            for line, row in some:
                try:
                    item = parse_feedback(row, source)
                    keyed = item if item.key else replace(item, key=f"file:{item.content}")
                    items.append((line, check_feedback(keyed)))
                except InputError as error:
                    problems.append(RejectedRow(line, str(error)))
            with store.database.writing() as connection:
                results = add_feedback(connection, [item for _, item in items], time.time())
            for (line, _), result in zip(items, results, strict=True):
                if result.error is not None:
                    problems.append(RejectedRow(line, str(result.error)))
                elif result.is_new:
                    added += 1
                else:
                    known += 1
            bar.advance(len(some))
    problems.sort(key=lambda each: each.line)
    return FeedbackImport(added, known, len(problems), tuple(problems[:MAX_PROBLEMS]))


def _read(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows of a file with their lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_header(path, reader.fieldnames or ())
            for row in reader:
                if None in row:
                    raise InputError(f"{path}, line {reader.line_num}, has too many cells", "quote texts with commas")
                yield reader.line_num, {name: value or "" for name, value in row.items()}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {read_problem(error)}", "name another file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {error}", "save it as CSV (UTF-8)") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    for name in header:
        if name not in FIELDS:
            raise InputError(
                f"{path} has an unknown column {str(name)[:40]!r}",
                f"its columns are {', '.join(FIELDS)}",
                closest(str(name), FIELDS),
            )
    for name in REQUIRED:
        if name not in header:
            raise InputError(f"{path} lacks the column {name!r}", f"its first line is: {','.join(REQUIRED)}")


def problem_of(error: ClerestoryError) -> str:
    """An error in one sentence with its remedy."""
    return f"{error.message} — {error.fix}" if error.fix else error.message
