"""The table that every bench prints and writes: a row for each requirement, with the measured value."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Row:
    """One measured requirement.

    Attributes:
        name: the measured quantity.
        value, unit: its value.
        bar: the requirement, in words.
        holds: whether the value meets it.
        n: number of measurements or cases behind the value.
        against: the compared implementation, empty if there is none.
        note: interval, spread, and other context.
    """

    name: str
    value: float
    unit: str
    bar: str
    holds: bool
    n: int
    against: str = ""
    note: str = ""


def publish(bench: str, rows: Iterable[Row]) -> bool:
    """Print the rows and write ``bench/out/<bench>.json``; True if every bar holds."""
    rows = list(rows)
    table = Table("", "name", "value", "bar", "n", "note", title=f"bench-{bench} on {_machine()}")
    for row in rows:
        mark = "[green]✓[/]" if row.holds else "[red]✗[/]"
        table.add_row(mark, row.name, f"{row.value:.4g} {row.unit}", row.bar, str(row.n), row.note)
    console = Console()
    console.print(table)
    OUT.mkdir(exist_ok=True)
    file = OUT / f"{bench}.json"
    file.write_text(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"{sum(row.holds for row in rows)} of {len(rows)} bars hold; written to {file}")
    return all(row.holds for row in rows)


def measure(bench: str, sections: Mapping[str, Callable[[], Iterable[Row]]], names: Sequence[str]) -> int:
    """Measure all sections of a bench, or the named ones, and publish them; the exit code."""
    unknown = [name for name in names if name not in sections]
    if unknown:
        print(f"unknown section {unknown[0]!r}; the sections are {', '.join(sections)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or sections:
        print(f"measuring: {name}", file=sys.stderr)
        rows += sections[name]()
    return 0 if publish(bench, rows) else 1


def _machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = f"{len(names)} × {names[0].split(':')[1].strip()}" if names else model
    return f"{model}, Python {platform.python_version()}"
