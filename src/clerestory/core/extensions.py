"""One entry-point group for everything an outside package can add.

A package announces what it adds in its ``pyproject.toml``::

    [project.entry-points."clerestory"]
    "data.satellite" = "my_package:open_satellite"

``data`` is the kind of extension and ``satellite`` its name; ``find("data", "satellite")`` imports and returns it.
Built-in extensions are registered the same way, by Clerestory's own ``pyproject.toml``.
"""

from __future__ import annotations

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
        NotFound: nothing of this kind has the name.
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


def _registered(kind: str) -> dict[str, EntryPoint]:
    points = entry_points(group=GROUP)
    prefix = kind + "."
    return {p.name.removeprefix(prefix): p for p in points if p.name.startswith(prefix)}
