"""One entry-point group for everything an outside package can add.

A package announces what it adds in its ``pyproject.toml``::

    [project.entry-points."clerestory"]
    "data.satellite" = "my_package:open_satellite"

``data`` is the kind of extension and ``satellite`` its name; ``find("data", "satellite")`` imports and returns it.
Built-in extensions are registered the same way, by Clerestory's own ``pyproject.toml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from clerestory.core.errors import ClerestoryError, not_found

GROUP = "clerestory"


def names(kind: str) -> tuple[str, ...]:
    """The names registered for one kind of extension, sorted; nothing is imported."""
    return tuple(sorted(_registered(kind)))


def find(kind: str, name: str) -> Any:
    """Import and return one extension.

    Raises:
        NotFound: no extension of this kind has the name.
        ClerestoryError: the extension is registered but cannot be imported.
    """
    registered = _registered(kind)
    if name not in registered:
        raise not_found(f"{kind} extension", name, registered)
    point = registered[name]
    try:
        return point.load()
    except ImportError as error:
        raise ClerestoryError(
            f"the {kind} extension {name!r} ({point.value}) cannot be imported: {error}",
            "install what it needs, or uninstall the package that registers it",
        ) from error


def lazy_exports(package: str, import_paths: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose public names are imported on first use.

    Args:
        package: the package's ``__name__``.
        import_paths: ``module:attribute`` by name; the module is relative to the package if it begins with a dot, and
            the attribute may be left out if it equals the name.

    Example::

        __getattr__ = lazy_exports(__name__, {"train": ".run", "TrainConfig": ".config"})
    """

    def getattr_(name: str) -> Any:
        if name not in import_paths:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = import_paths[name].partition(":")
        return getattr(import_module(module, package), attribute or name)

    return getattr_


def _registered(kind: str) -> dict[str, EntryPoint]:
    points = _entry_points()
    prefix = kind + "."
    return {p.name.removeprefix(prefix): p for p in points if p.name.startswith(prefix)}


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))
