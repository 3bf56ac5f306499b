"""Processes of their own that start at once: they are forked from one that has loaded torch, which takes seconds.

Their end is that of a forked process, which leaves out the end of the interpreter; a test of that starts a program.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clerestory.cli.main import main

LOADED = (
    "clerestory.stages.evaluate",
    "clerestory.stages.train.run",
    "clerestory.web",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
)
LIMIT_S = 300


class ForkedProcess:
    """A running process, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(
        self,
        work: Callable[..., object],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        out: Path | None = None,
        errors: Path | None = None,
    ) -> None:
        """Call ``work`` in a new process.

        Args:
            work: a function of a module, which the new process imports.
            arguments: passed to it by pickle.
            environment: in place of this process's own. Libraries that read theirs when they are loaded, such as the
                client of the Hugging Face hub, do not see it.
            out, errors: files for what the process prints; by default that goes where the tests print.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(LOADED))
        variables = {**(environment or os.environ), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._process = context.Process(target=_run, args=(variables, out, errors, work, arguments))
        self._process.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code; None while the process is running."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process, unless it has ended."""
        self._process.kill()

    def wait(self, timeout_s: float = LIMIT_S) -> int:
        """The exit code, negative for a signal.

        Raises:
            TimeoutError: the process is still running.
        """
        self._process.join(timeout_s)
        if (code := self.poll()) is None:
            raise TimeoutError(f"process {self.pid} is still running after {timeout_s} s")
        return code


def start_command(
    *arguments: str, folder: Path, out: Path, errors: Path, environment: Mapping[str, str] | None = None
) -> ForkedProcess:
    """Start ``clerestory`` with these arguments in a folder, as a shell would, with files for what it prints."""
    return ForkedProcess(_main, arguments, folder, environment=environment, out=out, errors=errors)


def run_command(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``clerestory`` with these arguments in a folder, as a shell would."""
    with tempfile.TemporaryDirectory() as place:
        out, errors = Path(place) / "out", Path(place) / "errors"
        process = start_command(*arguments, folder=folder, out=out, errors=errors, environment=environment)
        try:
            code = process.wait()
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, code, out.read_text("utf-8"), errors.read_text("utf-8"))


def _main(arguments: tuple[str, ...], folder: Path) -> None:
    os.chdir(folder)
    sys.argv = ["clerestory", *arguments]
    main()


def _run(
    environment: dict[str, str],
    out: Path | None,
    errors: Path | None,
    work: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in ((1, out), (2, errors)):
        if path is not None:
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
    work(*arguments)
