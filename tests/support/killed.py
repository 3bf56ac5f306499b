"""A command that is killed at a chosen moment of its work on the disk."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from clerestory.cli.main import run

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def run_and_kill(arguments: tuple[str, ...], folder: str, moment: int, counted: str) -> None:
    """Run a command, and kill this process with SIGKILL before it changes something below a folder.

    Args:
        arguments: of the command.
        folder: whose files and folders count.
        moment: how many changes are made before; all if negative.
        counted: a file that gets the number of changes if the command comes to its end.
    """
    changes = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal changes
        is_write = event in WRITES or (event == "open" and isinstance(details[1], str) and set(details[1]) & set("wxa"))
        is_write = is_write or (event == "open" and details[1] is None and bool(details[2] & os.O_WRONLY))
        if not is_write or not str(details[0]).startswith(folder):
            return
        if changes == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1

    sys.addaudithook(watch)
    code = run(arguments)
    watched, changes = changes, -(10**9)
    Path(counted).write_text(f"{code} {watched}", encoding="utf-8")
