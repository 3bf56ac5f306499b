"""The output of commands: text, JSON or nothing. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from clerestory.core.codec import encode
from clerestory.core.progress import ProgressTask
from clerestory.core.text import visible
from clerestory.core.units import duration

EVERYWHERE = Group("Everywhere", sort_key=99)


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True)
class Common:
    """The options of every command.

    Attributes:
        home: The folder of the store (default: $CLERESTORY_HOME or ./.clerestory).
        json: Print machine-readable JSON on stdout.
        quiet: Print only the result.
        debug: Show the traceback of an error.
    """

    home: Path | None = None
    json: Annotated[bool, Parameter(negative=())] = False
    quiet: Annotated[bool, Parameter(negative=())] = False
    debug: Annotated[bool, Parameter(negative=())] = False

    @property
    def out(self) -> Output:
        """The output of this command."""
        return Output(as_json=self.json, quiet=self.quiet or self.json)


PLAIN = Common()
LINE_SECONDS = 30.0  # between two lines of progress outside a terminal


@dataclass
class Output:
    """Renders the result of every command; also the ``Progress`` that stages report to."""

    as_json: bool = False
    quiet: bool = False
    stdout: Console = field(default_factory=lambda: _unwrapped(PlainConsole()))
    stderr: Console = field(default_factory=lambda: PlainConsole(stderr=True))

    def result(self, data: Any, *lines: str | Text | Table) -> None:
        """Print the result: ``data`` as JSON, or the ``lines`` for a person."""
        if self.as_json:
            print(json.dumps(encode(data), ensure_ascii=False, indent=2), file=sys.stdout)  # noqa: T201 the one place that prints
            return
        for line in lines:
            self.stdout.print(line, soft_wrap=not isinstance(line, Table))

    def write_line(self, line: str) -> None:
        """Print one line for a person, on stderr."""
        if not self.quiet:
            self.stderr.print(line, soft_wrap=True)

    def next(self, command: str) -> None:
        """Print the command that usually comes next."""
        if not self.quiet:
            self.stderr.print(Text.assemble(("next: ", "dim"), command), soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[ProgressTask]:
        """A progress bar with the remaining time; outside a terminal, a line every half minute."""
        if self.quiet:
            yield _Silent()
            return
        if not self.stderr.is_terminal:
            yield _Lines(self, label, total)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.stderr, transient=True) as bars:
            yield _Bar(bars, bars.add_task(label, total=total, note=""))


class PlainConsole(Console):
    """A console that prints text as text: names, captions and groups come from other people's files.

    Square brackets are not markup and ``:bag:`` is not an emoji; control characters are shown as escapes, in plain
    strings, in the cells of tables and in styled text alike.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as text; escapes come before tables are measured."""
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        """Leave the exit code to the command: Rich's own is 1, which would be an answer of the gate."""
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, also of styled text."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or (shown := visible(text)) == text:
                yield segment
            else:
                yield Segment(shown, segment.style)


def _unwrapped(console: Console) -> Console:
    """Neither wrap nor truncate lines in a pipe or a file, so that they can be searched."""
    if not console.is_terminal:
        console.width = 400
    return console


class _Silent:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


@dataclass
class _Lines:
    """Progress in a log file: a line at most every ``LINE_SECONDS``, and none when a task takes less time."""

    out: Output
    label: str
    total: int
    done: int = 0
    start: float = field(default_factory=lambda: time.monotonic())
    last: float = field(default_factory=lambda: time.monotonic())

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last < LINE_SECONDS or not 0 < self.done < self.total:
            return
        self.last = now
        left = (now - self.start) * (self.total - self.done) / self.done
        rest = f"; {note}" if note else ""
        self.out.write_line(f"{self.label}  {self.done:,} of {self.total:,}, about {duration(left)} left{rest}")


@dataclass
class _Bar:
    bars: Progress
    task: TaskID

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.bars.update(self.task, advance=steps, note=note)


def fail(
    message: str, fix: str = "", closest: Sequence[str] = (), *, as_json: bool = False, undecided: bool = False
) -> None:
    """Print an error: one sentence, the closest names, the remedy."""
    if as_json:
        error = {"error": {"message": message, "fix": fix, "closest": list(closest)}}
        print(json.dumps(error, ensure_ascii=False), file=sys.stderr)  # noqa: T201 the one place that prints
        return
    console = PlainConsole(stderr=True)
    label, style = ("cannot decide", "bold yellow") if undecided else ("error", "bold red")
    console.print(Text.assemble((f"{label}: ", style), message), soft_wrap=True)
    if closest:
        console.print(Text.assemble(("did you mean: ", "dim"), ", ".join(closest)), soft_wrap=True)
    if fix:
        console.print(Text.assemble(("fix: ", "dim"), fix), soft_wrap=True)
