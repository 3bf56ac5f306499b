"""scipy, imported when it is first used: a server computes none of the statistics that need it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clerestory.core.errors import MissingExtra

MESSAGE = "these statistics need scipy, which is not installed"
FIX = "run: pip install scipy"


class _Lazy:
    """A module that is imported when something of it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            module = import_module(self._name)
        except ImportError as error:
            raise MissingExtra(MESSAGE, FIX) from error
        value = getattr(module, attribute)
        setattr(self, attribute, value)
        return value


if TYPE_CHECKING:
    import scipy
else:
    scipy = _Lazy("scipy")  # its modules, too, are imported on first use

__all__ = ["scipy"]
