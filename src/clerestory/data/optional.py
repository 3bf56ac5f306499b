"""pyarrow and scipy, imported when they are first used: a server that reads no Parquet does without them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clerestory.core.errors import MissingExtra

NEEDED_FOR = {"pyarrow": "reading and writing Parquet", "scipy": "corrupting images"}


class _Lazy:
    """A module that is imported when something of it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            module = import_module(self._name)
        except ImportError as error:
            package = self._name.partition(".")[0]
            raise MissingExtra(
                f"{NEEDED_FOR[package]} needs {package}, which is not installed", f"run: pip install {package}"
            ) from error
        value = getattr(module, attribute)
        setattr(self, attribute, value)
        return value


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import scipy
else:
    pa, pq, scipy = _Lazy("pyarrow"), _Lazy("pyarrow.parquet"), _Lazy("scipy")

__all__ = ["pa", "pq", "scipy"]
