"""The provenance of a number: code, environment, person, time and cost."""

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
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from clerestory.core.digest import digest
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Cost
from clerestory.core.once import computed_once
from clerestory.core.stage import stage

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "scipy", "torch", "transformers", "tokenizers", "safetensors", "pillow", "pyarrow", "resvg_py")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def current_user() -> str:
    """The name of the user: ``CLERESTORY_WHO`` if it is set, else the user's login name."""
    try:
        return os.environ.get("CLERESTORY_WHO") or getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        return "unknown"


@computed_once
def code_digest(*layers: str, excluded: tuple[str, ...] = ()) -> str:
    """SHA-256 over the Python source of some layers, such as ``code_digest("core", "models", "stages/train")``.

    A layer is a folder or a file (without ``.py``) of the package, or of an installed package if the path begins
    with its name and a colon: ``my_package:stages/mine``. Evidence carries the digest of the layers it depends on, so a
    change elsewhere does not make it stale.

    Args:
        layers: folders and files.
        excluded: folders and files below these that are left out.
    """
    hasher = hashlib.sha256()
    for layer in sorted(layers):
        root, path = _package_path(layer)
        source = root / path if path else root
        files = sorted(source.rglob("*.py")) if source.is_dir() else [source.with_suffix(".py")]
        for file in files:
            name = file.relative_to(root).as_posix()
            if not any(name == f"{each}.py" or name.startswith(f"{each}/") for each in excluded):
                hasher.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return hasher.hexdigest()


def _package_path(layer: str) -> tuple[Path, str]:
    """The folder of a layer's package, and the layer's path in it."""
    package, colon, path = layer.partition(":")
    if not colon:
        return PACKAGE, layer
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ClerestoryError(f"the package of the layer {layer!r} is not installed", "correct it in its StageSpec")
    return Path(spec.submodule_search_locations[0]), path


@computed_once
def imported_files(module: str, layer: str) -> tuple[str, ...]:
    """The files of a layer (without ``.py``) that a module imports, directly or indirectly, and its own file.

    Read from the import statements, so there is no list that could be incomplete.

    Args:
        module: such as ``clerestory.stages.evaluate.suites.ood``.
        layer: such as ``stages/evaluate``; imports from elsewhere are not followed.
    """
    visited: set[str] = set()
    queue = [_file_of(module)]
    while queue:
        file = queue.pop()
        if file and file.startswith(layer + "/") and file not in visited:
            visited.add(file)
            queue += _imports_of(file)
    return tuple(sorted(visited))


@computed_once
def _imports_of(file: str) -> tuple[str, ...]:
    """The files of this package that a file imports."""
    files = []
    for node in ast.walk(ast.parse((PACKAGE / f"{file}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            # ``from package import name`` means the module of that name if there is one, else the package itself.
            names = [_file_of(f"{node.module}.{alias.name}") for alias in node.names]
            files += [name or _file_of(node.module) for name in names]
        elif isinstance(node, ast.Import):
            files += [_file_of(alias.name) for alias in node.names]
    return tuple(dict.fromkeys(filter(None, files)))


def _file_of(module: str) -> str:
    """The file of a module of this package, without ``.py``; empty if there is none."""
    first, _, rest = module.partition(".")
    path = rest.replace(".", "/")
    if first != PACKAGE.name or not path:
        return ""
    return next((name for name in (path, f"{path}/__init__") if (PACKAGE / f"{name}.py").is_file()), "")


def stage_code(kind: str) -> str:
    """SHA-256 of the code that evidence of this kind depends on, as the stage's spec lists it."""
    spec = stage(kind)
    return code_digest(*spec.code_layers, excluded=spec.code_excluded)


@computed_once
def environment() -> dict[str, str]:
    """Interpreter, machine and library versions: the part of the environment that numbers may depend on."""
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
    """The cost of a ``metered()`` block, available when the block has ended."""

    cost = Cost(0.0, 0.0, 0.0)


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure the cost of a block; read ``meter.cost`` after the block. Peak memory is that of the process so far."""
    meter, wall, cpu = Meter(), time.perf_counter(), time.process_time()
    try:
        yield meter
    finally:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        meter.cost = Cost(round(time.perf_counter() - wall, 3), round(time.process_time() - cpu, 3), round(peak, 1))
