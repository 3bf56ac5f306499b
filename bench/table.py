"""What every bench prints and writes: one row for each promise, with its bar beside it."""

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
    """One measured promise.

    Attributes:
        name: what was measured.
        value, unit: the number.
        bar: the promise, in words.
        holds: whether the number keeps it.
        n: how many measurements or cases the number rests on.
        against: the peer it was compared with, empty when there is none.
        note: interval, spread, or whatever a reader must know.
    """

    name: str
    value: float
    unit: str
    bar: str
    holds: bool
    n: int
    against: str = ""
    note: str = ""


def publish(room: str, rows: Iterable[Row]) -> bool:
    """Print the rows, write ``bench/out/<room>.json`` and tell whether every bar holds."""
    done = list(rows)
    table = Table("", "what", "value", "bar", "n", "note", title=f"bench-{room} on {_machine()}")
    for row in done:
        mark = "[green]✓[/]" if row.holds else "[red]✗[/]"
        table.add_row(mark, row.name, f"{row.value:.4g} {row.unit}", row.bar, str(row.n), row.note)
    console = Console()
    console.print(table)
    OUT.mkdir(exist_ok=True)
    file = OUT / f"{room}.json"
    file.write_text(json.dumps([asdict(row) for row in done], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"{sum(row.holds for row in done)} of {len(done)} bars hold; written to {file}")
    return all(row.holds for row in done)


def measure(room: str, parts: Mapping[str, Callable[[], Iterable[Row]]], names: Sequence[str]) -> int:
    """Measure the parts of a room, all or those that are named, and publish them; the exit code."""
    unknown = [name for name in names if name not in parts]
    if unknown:
        print(f"there is no {unknown[0]!r} to measure; there is {', '.join(parts)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or parts:
        print(f"measuring: {name}", file=sys.stderr)
        rows += parts[name]()
    return 0 if publish(room, rows) else 1


def _machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = f"{len(names)} × {names[0].split(':')[1].strip()}" if names else model
    return f"{model}, Python {platform.python_version()}"
