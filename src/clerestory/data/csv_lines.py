"""CSV as people and programs write it: every line of the file is in exactly one record, and none is swallowed.

A quoted cell may have several lines (RFC 4180). A quote that is never closed must not take the following rows into its
cell, which is what a parser does that only looks for the next quote. So a quoted cell ends at a quote that is followed
by a delimiter or the end of the line; if there is none, or if a row with an image begins first, the quote is a
character like any other and the record ends with its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.errors import DataError
from clerestory.core.files import read_problem

DELIMITERS = ",;\t|"
MAX_LINES = 1000  # of a quoted cell


@dataclass(slots=True)
class CsvRecord:
    """One record of a CSV file.

    Attributes:
        line: the number of its first line, from 1.
        lines: the number of its lines.
        cells: without their quotes.
        is_balanced: False if a quote is not closed.
    """

    line: int
    lines: int
    cells: list[str]
    is_balanced: bool = True


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, whichever they are.

    Raises:
        DataError: the file is not UTF-8, or cannot be read; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (line.removesuffix("\n") for line in file)
    except UnicodeDecodeError:
        message = f"{path} is not UTF-8 text (line {_first_invalid_line(path):,})"
        raise DataError(message, "save it again as UTF-8 (in Excel: CSV UTF-8)") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {read_problem(error)}", "check the file") from None


def _first_invalid_line(path: Path) -> int:
    number = 0
    with path.open("rb") as file:
        for line in file:
            number += 1
            try:
                line.decode()
            except UnicodeDecodeError:
                break
    return number


class CsvReader:
    """The records of a CSV file after its header.

    Before the header there may be blank lines, comments that begin with ``#``, and Excel's ``sep=;``. Without that, the
    delimiter is the most frequent of comma, semicolon, tab and vertical bar in the header.

    Args:
        lines: of the file.
        is_header: whether the cells of a line that begins with ``#`` are the header.

    Attributes:
        header: the names of the columns.
        begins_row: whether cells begin a new row; the caller sets it when it knows the columns.
    """

    def __init__(self, lines: Iterable[str], is_header: Callable[[list[str]], bool] = lambda cells: False) -> None:
        self._lines = _Lines(lines)
        self.header: list[str] = []
        self.begins_row: Callable[[list[str]], bool] = lambda cells: False
        delimiter = ""
        for line in self._lines:
            stated = re.fullmatch(r'"?sep=(.)"?', line.strip(" "), re.IGNORECASE)
            if stated:
                delimiter = stated[1]
                continue
            if not line.strip():
                continue
            self._cells = _CellParser(delimiter or _delimiter(line))
            if line.startswith("#"):
                cells, _ = self._cells.split(line.lstrip("# "))
                if not is_header(cells):
                    continue
                self.header = cells
            else:
                self._lines.push_back(line)
                self.header = self._record(next(self._lines)).cells
            return

    def __iter__(self) -> Iterator[CsvRecord]:
        for line in self._lines:
            if line.strip():
                yield self._record(line)

    def _record(self, line: str) -> CsvRecord:
        first = self._lines.number
        cells, inside = self._cells.split(line)
        if inside is None:
            return CsvRecord(first, 1, cells)
        following: list[str] = []
        while inside is not None and len(following) < MAX_LINES and not self._is_impossible(cells):
            another = next(self._lines, None)
            if another is None:
                break
            following.append(another)
            if self._begins_row(another):
                break
            more, inside = self._cells.split(another, inside)
            cells += more
        if inside is None and self._fits_header(cells):
            return CsvRecord(first, 1 + len(following), cells)
        self._lines.push_back(*following)
        cells, _ = self._cells.split(line, is_literal=True)
        return CsvRecord(first, 1, cells, is_balanced=False)

    def _is_impossible(self, cells: list[str]) -> bool:
        width = len(self.header)
        return self._cells.is_broken or bool(width and any(cell.strip() for cell in cells[width:]))

    def _fits_header(self, cells: list[str]) -> bool:
        width = len(self.header)
        return not width or (len(cells) >= width and not any(cell.strip() for cell in cells[width:]))

    def _begins_row(self, line: str) -> bool:
        return self.begins_row(self._cells.split(line, is_literal=True)[0])


class _Lines:
    """An iterator of lines to which lines can be returned; ``number`` is that of the last line."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._returned: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else next(self._lines)
        self.number += 1
        return line

    def push_back(self, *lines: str) -> None:
        """Return the last lines, in their order."""
        self._returned.extend(reversed(lines))
        self.number -= len(lines)


class _CellParser:
    """Splits lines into cells."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self.is_broken = False
        d = re.escape(delimiter)
        rest = rf'([^"]*(?:""[^"]*)*)"[ ]*(?={d}|\Z)'
        # Some programs write a quote within a quoted cell as \".
        escaped = rf'((?:[^"\\]|\\.)*)"[ ]*(?={d}|\Z)'
        self._rest = re.compile(rest)
        self._cell = re.compile(rf'[ ]*"{rest}|[ ]*"{escaped}|([^{d}]*)')
        self._open = re.compile(r'[ ]*"([^"]*(?:""[^"]*)*)\Z')
        self._open_rest = re.compile(r'[^"]*(?:""[^"]*)*\Z')

    def split(self, line: str, inside: str | None = None, is_literal: bool = False) -> tuple[list[str], str | None]:
        """The cells that end in a line, and the text of a quoted cell that does not.

        Args:
            line: without its end.
            inside: the text so far of a quoted cell that began in an earlier line. If it can neither end nor go on in
                this line, ``is_broken`` becomes True.
            is_literal: take a quote that is not closed as a character.
        """
        cells: list[str] = []
        position = 0
        self.is_broken = False
        if inside is not None:
            match = self._rest.match(line)
            if match is None:
                self.is_broken = self._open_rest.match(line) is None
                return [], f"{inside}\n{line}"
            cells.append(f"{inside}\n{match[1]}".replace('""', '"'))
            position = match.end()
            if position == len(line):
                return cells, None
            position += 1
        elif '"' not in line:
            return line.split(self.delimiter), None
        while True:
            match = self._cell.match(line, position)
            assert match is not None  # the last alternative matches anything
            quoted, escaped, plain = match.groups()
            if quoted is not None:
                cells.append(quoted.replace('""', '"'))
            elif escaped is not None:
                cells.append(re.sub(r"\\(.)", r"\1", escaped))
            elif not is_literal and (opened := self._open.match(line, position)):
                return cells, opened[1]
            else:
                text = plain.lstrip(" ")
                cells.append(text[1:] if text.startswith('"') and text.count('"') == 1 else plain)
            position = match.end()
            if position == len(line):
                return cells, None
            position += 1


def _delimiter(header: str) -> str:
    image = re.match(r"[^,;\t|]*\.[A-Za-z]{3,4}(?:#\d+)?[ ]*([,;\t|])", header)
    url = re.search(r"([,;\t|])[a-z][a-z0-9+.\-]*://", header)
    beside = image or url
    if beside:  # a row of a table without a header, with a caption that may have commas
        return beside[1]
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=unquoted.count)
