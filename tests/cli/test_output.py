"""The output of commands outside a terminal."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from clerestory.cli.output import Output, PlainConsole


@pytest.mark.parametrize("quiet", [False, True])
def test_outside_a_terminal_progress_is_a_line_now_and_then(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written, clock = io.StringIO(), iter(range(0, 10_000, 10))
    console = PlainConsole()
    console.file = written
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    with Output(quiet=quiet, stderr=console).task("train", 12) as task:
        for step in range(12):
            task.advance(note=f"loss [{step}]")
    lines = written.getvalue().splitlines()
    if quiet:
        assert not lines
    else:
        assert lines[0] == "train  3 of 12, about 2 min left; loss [2]"
        assert len(lines) == 3, "every third advance, each ten seconds after the one before; none at the end"


def test_a_pipe_that_is_closed_early_is_not_the_answer_yes() -> None:
    command = [sys.executable, "-m", "clerestory", "train", "--settings"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
