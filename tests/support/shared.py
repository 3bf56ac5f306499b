"""Folders that are costly to make and the same in every test process: one process makes them, each gets a copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clerestory.core.files import file_lock


def shared_folder(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A copy, for this test process alone, of the folder that ``make`` fills once per test run.

    Args:
        factory: of the test session; with pytest-xdist, its processes have one folder in common.
        name: the same in every process, and of no other folder.
        make: creates the folder at the path it is called with, and fills it.
    """
    common = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    original, unfinished = common / f"shared-{name}", common / f"unfinished-{name}"
    with file_lock(common / f"shared-{name}.lock"):
        if not original.exists():
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that failed or was killed
            make(unfinished)
            unfinished.rename(original)
    return Path(shutil.copytree(original, factory.mktemp(name) / "copy", symlinks=True))
