"""Ctrl-C at any moment is answered with a sentence and exit code 130: during imports, and twice in a row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Presses Ctrl-C when a module is first looked for; then runs the command line as the console script does.
PRESS = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            for _ in range({times}):
                os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from clerestory.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["clerestory.cli.main", "cyclopts", "clerestory.core.stage", "clerestory.cli.data"])
@pytest.mark.parametrize("arguments", [["data", "list"], ["data", "list", "--json"]])
def test_an_interrupt_during_imports_is_a_sentence(module: str, arguments: list[str], tmp_path: Path) -> None:
    done = _run(PRESS.format(name=module, times=1), arguments, tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stdout == ""
    if "--json" in arguments:
        assert json.loads(done.stderr)["error"]["message"] == "interrupted"
    else:
        assert done.stderr.startswith("error: interrupted\n")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("moment", ["clerestory.cli.main.fail", "sys.exit"])
def test_a_second_interrupt_changes_nothing(moment: str, tmp_path: Path) -> None:
    module, _, name = moment.rpartition(".")
    second = f"""
import os, signal, sys
import clerestory.cli.main
from clerestory.__main__ import main

def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)

clerestory.cli.main.build = interrupt
{module}.{name} = interrupt
main()
"""
    done = _run(second, ["data", "list"], tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


def test_nothing_else_is_imported_before_interrupts_are_answered() -> None:
    code = (
        "import sys, __future__, os, signal, typing, re; before = set(sys.modules); import clerestory.__main__; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["clerestory", "clerestory.__main__"]


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    code = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{PRESS.format(name='cyclopts', times=2)}"
    done = _run(code, ["data", "list"], tmp_path)
    assert (done.returncode, done.stderr.count("interrupted")) == (0, 0), done.stderr


def _accept_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a runner in the background ignores them


def _run(code: str, arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CLERESTORY_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
        preexec_fn=_accept_interrupts,
    )
