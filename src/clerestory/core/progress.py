"""Progress of long stages, independent of how it is displayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class ProgressTask(Protocol):
    """One progress bar."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Advance by some steps; ``note`` is shown beside the bar (a loss, a file name)."""


class Progress(Protocol):
    """Displays the progress of a stage."""

    def task(self, label: str, total: int) -> AbstractContextManager[ProgressTask]:
        """A progress bar of ``total`` steps, for use in a ``with`` block."""

    def write_line(self, line: str) -> None:
        """Display one line."""


class _Quiet:
    """Displays nothing."""

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[ProgressTask]:
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def write_line(self, line: str) -> None:
        pass


QUIET: Progress = _Quiet()
