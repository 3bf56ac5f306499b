"""Where a number comes from: code, environment, person, time and cost."""

from __future__ import annotations

import ast
import getpass
import hashlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from clerestory.core.digest import digest
from clerestory.core.evidence import Cost

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "scipy", "torch", "transformers", "tokenizers", "safetensors", "pillow", "pyarrow", "resvg_py")

# The rooms whose code a stage's numbers depend on; a change elsewhere leaves its evidence fresh.
STAGE_ROOMS = {
    "train": ("core", "data", "models", "stages/train"),
    "tune": (
        *("core", "data", "models", "stats", "stages/train/tune", "stages/train/losses"),
        *("stages/train/checkpoint", "stages/train/shuffle"),
    ),
    "evaluate": ("core", "data", "models", "stats", "stages/evaluate"),
    "self_test": ("core", "data", "models", "stats", "stages/evaluate"),
    "compare": ("core", "stats", "stages/compare"),
}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def person() -> str:
    """Who runs this: ``CLERESTORY_WHO`` where it is set, else the user's login name."""
    try:
        return os.environ.get("CLERESTORY_WHO") or getpass.getuser()
    except OSError:
        return "unknown"


@lru_cache(maxsize=64)
def code_digest(*rooms: str) -> str:
    """SHA-256 over the Python source of some rooms, such as ``code_digest("core", "models", "stages/train")``.

    A room is a folder or a file of the package. Evidence carries the digest of the rooms it depends on, so a
    change elsewhere does not make it stale.
    """
    whole = hashlib.sha256()
    for room in sorted(rooms):
        place = PACKAGE / room
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for file in files:
            whole.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()


@lru_cache(maxsize=64)
def code_behind(module: str, room: str) -> tuple[str, ...]:
    """The files of a room (without ``.py``) that a module is made of: its own, and what these import there in turn.

    Read from the import statements, so that nobody has to keep a list, and no list can be incomplete.

    Args:
        module: such as ``clerestory.stages.evaluate.suites.ood``.
        room: such as ``stages/evaluate``; imports from elsewhere are not followed.
    """
    found: set[str] = set()
    left = [_file_of(module)]
    while left:
        file = left.pop()
        if file and file.startswith(room + "/") and file not in found:
            found.add(file)
            left += _imported(file)
    return tuple(sorted(found))


@lru_cache(maxsize=512)
def _imported(file: str) -> tuple[str, ...]:
    """What a file imports from this package, as files."""
    found = []
    for node in ast.walk(ast.parse((PACKAGE / f"{file}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            # ``from package import name`` means the module of that name where there is one, else the package itself.
            names = [_file_of(f"{node.module}.{alias.name}") for alias in node.names]
            found += [name or _file_of(node.module) for name in names]
        elif isinstance(node, ast.Import):
            found += [_file_of(alias.name) for alias in node.names]
    return tuple(dict.fromkeys(filter(None, found)))


def _file_of(module: str) -> str:
    """The file of a module of this package, without ``.py``; empty where there is none."""
    first, _, rest = module.partition(".")
    place = rest.replace(".", "/")
    if first != PACKAGE.name or not place:
        return ""
    return next((name for name in (place, f"{place}/__init__") if (PACKAGE / f"{name}.py").is_file()), "")


def stage_code(kind: str) -> str:
    """SHA-256 of the code that evidence of this kind depends on."""
    return code_digest(*STAGE_ROOMS[kind])


@lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """What the numbers may depend on besides code and data: interpreter, machine and library versions."""
    facts = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in LIBRARIES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "absent"
    return facts


def environment_digest() -> str:
    """SHA-256 of ``environment()``."""
    return digest(environment())


class Meter:
    """Filled in when its ``metered()`` block ends."""

    cost = Cost(0.0, 0.0, 0.0)


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure what a block takes; read ``meter.cost`` after the block. Peak memory is the process's so far."""
    meter, wall, cpu = Meter(), time.perf_counter(), time.process_time()
    try:
        yield meter
    finally:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        meter.cost = Cost(round(time.perf_counter() - wall, 3), round(time.process_time() - cpu, 3), round(peak, 1))
