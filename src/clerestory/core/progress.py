"""How a long stage tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move on by some steps; ``note`` is shown behind the bar (a loss, a file name)."""


class Progress(Protocol):
    """Somebody who shows how far a stage is."""

    def task(self, label: str, total: int) -> AbstractContextManager[Task]:
        """A bar of ``total`` steps, for use in a ``with`` block."""

    def say(self, line: str) -> None:
        """One line for a person."""


class _Quiet:
    """Listens to nothing."""

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        pass


QUIET: Progress = _Quiet()
