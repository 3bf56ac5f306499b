"""A log of embeddings and other columns, as Parquet or CSV, made into a table of observations.

Nothing is dropped silently: rows that cannot be used are counted by their reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError, not_found
from clerestory.core.units import plural
from clerestory.stages.watch.drift.observations import CATEGORIES, NUMBERS, Embeddings, ObservationTable

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".csv")
_EMBEDDING_NAMES = ("embedding", "embeddings", "vector", "features")
_NUMBERED = re.compile(r"(?:e|emb|embedding|dim|f|v|x)_?(\d+)")
_TIMES = ("time", "timestamp", "date", "datetime", "at", "created")
_SUBJECTS = ("subject", "user", "user_id", "session", "session_id")
_IDS = ("id", "image", "path", "file", "name", "response")
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (0.0, 1.0))  # of times as numbers: ns, µs, ms, s since the epoch


class NothingToWatch(DataError):
    """A table has neither an embedding nor a watched column."""


def read_log(path: Path, columns: Sequence[str] = (), slice_by: Sequence[str] = ()) -> ObservationTable:
    """Read a log.

    Args:
        path: a Parquet or CSV file. It has an embedding as a list column (``embedding``) or as columns ``e0``, ``e1``,
            …, or only other columns. Optional: ``time``, ``subject``, ``id``, and the columns that are watched.
        columns: further columns to watch.
        slice_by: columns of categories to slice by.

    Raises:
        DataError: it cannot be read, has no row, or nothing to watch.
        NotFound: a column that was named does not exist.
    """
    table, problems = _read_table(path)
    if not table.num_rows:
        raise DataError(f"{path.name} has no rows", "name a log with at least a few hundred rows")
    names = {str(name).casefold(): str(name) for name in table.column_names}
    for name in (*columns, *slice_by):
        if name not in table.column_names:
            raise not_found("column", name, table.column_names)
    kept = np.ones(table.num_rows, dtype=bool)
    embeddings = _embeddings(table, names, kept, problems)
    times = _times(table, names, kept, problems, path)
    numbers, categories = _watched(table, names, columns, slice_by)
    if embeddings is None and not numbers and not categories:
        raise NothingToWatch(
            f"{path.name} has no column to watch: no embedding and none of {', '.join((*NUMBERS, *CATEGORIES))}",
            "name the columns with --column, or the embedding 'embedding' or e0, e1, …",
        )
    whole = ObservationTable(
        _texts(table, names, _IDS) or [f"row {i + 1}" for i in range(table.num_rows)],
        embeddings,
        numbers,
        categories,
        times,
        _texts(table, names, _SUBJECTS) or (),
        name=path.name,
        identity=Tags(log=digest_bytes(path.read_bytes())),
    )
    rows = np.flatnonzero(kept)
    notes: tuple[str, ...] = ()
    if times is None:
        notes = ("the log has no times, so its rows are taken in their order",)
    elif (np.diff(times[rows]) < 0).any():
        rows = rows[np.argsort(times[rows], kind="stable")]
        notes = ("the rows were not in the order of their times and have been sorted",)
    if not len(rows):
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in problems.items())
        raise DataError(f"no row of {path.name} can be used: {reasons}", "correct the log")
    return replace(whole.take(rows), left_out=dict(problems), notes=notes)


def describe_left_out(left_out: Counter[str] | dict[str, int]) -> list[str]:
    """One sentence for each reason, the most frequent first."""
    ranked = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return [f"{plural(count, 'observation')} left out: {reason}" for reason, count in ranked if count]


def _read_table(path: Path) -> tuple[pa.Table, Counter[str]]:
    import pyarrow as pa  # here, because it is heavy
    from pyarrow import csv, parquet

    problems: Counter[str] = Counter()
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path.name} is not a log: its name does not end in .parquet or .csv", "convert it")

    def skip(row: Any) -> str:
        problems["a wrong number of columns"] += 1
        return "skip"

    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path), problems
        return csv.read_csv(path, parse_options=csv.ParseOptions(invalid_row_handler=skip)), problems
    except FileNotFoundError:
        raise DataError(f"the file {path} does not exist", "name a log or a folder of dated images") from None
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = "it is empty" if not path.stat().st_size or "Empty CSV" in str(error) else str(error).splitlines()[0]
        raise DataError(f"the log {path.name} cannot be read: {reason}", "name a Parquet or CSV file") from None


def _embeddings(
    table: pa.Table, names: dict[str, str], kept: NDArray[np.bool_], problems: Counter[str]
) -> Embeddings | None:
    import pyarrow as pa

    lists = [name for name in table.column_names if _is_list(table.schema.field(name).type)]
    named = [names[name] for name in _EMBEDDING_NAMES if name in names]
    numbered = sorted((int(m[1]), names[name]) for name in names if (m := _NUMBERED.fullmatch(name)))
    column = next((name for name in named if name in lists), lists[0] if lists else "")
    if column:
        rows: list[Any] = table.column(column).to_pylist()
    elif named and pa.types.is_string(table.schema.field(named[0]).type):
        rows = [_parse_list(text) for text in table.column(named[0]).to_pylist()]
    elif len(numbered) > 1:
        columns = [_numbers_of(table.column(name)) for _, name in numbered]
        matrix = np.stack(columns, axis=1).astype(np.float32)
        return _finite(matrix, kept, problems)
    else:
        return None
    lengths = np.array([len(row) if isinstance(row, list) else -1 for row in rows])
    width = Counter(lengths[lengths > 0].tolist()).most_common(1)[0][0] if (lengths > 0).any() else 0
    if not width:
        raise DataError(f"the column {column or named[0]!r} has no embedding in any row", "name another log")
    missing, other = lengths < 0, (lengths >= 0) & (lengths != width)
    for wrong, reason in ((missing, "no embedding"), (other, f"an embedding of another width than {width:,}")):
        if wrong.any():
            problems[reason] += int((wrong & kept).sum())
            kept &= ~wrong
    matrix = np.full((len(rows), width), np.nan, dtype=np.float32)
    good = np.flatnonzero(lengths == width)
    if len(good):
        matrix[good] = np.array([rows[i] for i in good.tolist()], dtype=np.float32)
    return _finite(matrix, kept, problems)


def _finite(matrix: Embeddings, kept: NDArray[np.bool_], problems: Counter[str]) -> Embeddings:
    wrong = ~np.isfinite(matrix).all(axis=1) & kept
    if wrong.any():
        problems["an embedding that is not finite"] += int(wrong.sum())
        kept &= ~wrong
    return matrix


def _is_list(type_: Any) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(is_list and (pa.types.is_floating(type_.value_type) or pa.types.is_integer(type_.value_type)))


def _parse_list(text: str | None) -> list[float] | None:
    try:
        values = json.loads((text or "").strip().replace(" ", ",") if "," not in (text or "") else text or "")
        return [float(value) for value in values] if isinstance(values, list) else None
    except (ValueError, TypeError):
        return None


def _times(
    table: pa.Table, names: dict[str, str], kept: NDArray[np.bool_], problems: Counter[str], path: Path
) -> NDArray[np.float64] | None:
    """Seconds since the epoch; None if the log has no column of times."""
    name = next((names[name] for name in _TIMES if name in names), "")
    if not name:
        return None
    times = np.array([_seconds(value) for value in table.column(name).to_pylist()])
    if not np.isfinite(times).any():
        raise DataError(
            f"no time in the column {name!r} of {path.name} can be read",
            "write times as 2026-11-03T14:00:00 or as seconds since 1970",
        )
    wrong = ~np.isfinite(times) & kept
    if wrong.any():
        problems["a time that is missing or cannot be read"] += int(wrong.sum())
        kept &= ~wrong
    return times


def _seconds(value: object) -> float:
    """A time of a log as seconds since the epoch, UTC where it names no zone; NaN if it cannot be read."""
    if isinstance(value, bool) or value is None:
        return float("nan")
    if isinstance(value, int | float):
        divisor = next(divisor for limit, divisor in _UNITS if abs(value) >= limit or limit == 0)
        return float(value) / divisor
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _watched(
    table: pa.Table, names: dict[str, str], columns: Sequence[str], slice_by: Sequence[str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, list[str]]]:
    import pyarrow as pa

    numbers: dict[str, NDArray[np.float64]] = {}
    categories: dict[str, list[str]] = {}
    known = {name: names[name] for name in (*NUMBERS, *CATEGORIES) if name in names}
    for name, column in {**known, **{name: name for name in columns}}.items():
        type_ = table.schema.field(column).type
        is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
        if is_number and name not in CATEGORIES:
            numbers[name] = _numbers_of(table.column(column))
        elif name not in NUMBERS:
            categories[name] = _texts_of(table.column(column))
    for name in slice_by:
        categories[name] = _texts_of(table.column(name))
    return numbers, categories


def _numbers_of(column: Any) -> NDArray[np.float64]:
    def number(value: object) -> float:
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return float("nan")

    return np.array([number(value) for value in column.to_pylist()])


def _texts_of(column: Any) -> list[str]:
    def text(value: object) -> str:
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return [text(value) for value in column.to_pylist()]


def _texts(table: pa.Table, names: dict[str, str], wanted: Sequence[str]) -> list[str] | None:
    name = next((names[name] for name in wanted if name in names), "")
    return _texts_of(table.column(name)) if name else None
