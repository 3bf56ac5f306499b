"""Values that are computed once per process, by one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class computed_once(Generic[P, R]):  # a decorator
    """``functools.cache``, but two threads never compute at the same time.

    ``functools.cache`` calls the function in every thread that comes before the first result. The threads of a server
    would do the same work several times at once, and ``ast.parse`` of Python 3.11 fails in several threads.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._cached = lru_cache(maxsize=None)(function)
        self._lock = threading.RLock()
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached value, or the first computation of it."""
        with self._lock:
            return self._cached(*args, **kwargs)  # type: ignore[arg-type]  # the arguments must be hashable

    def cache_clear(self) -> None:
        """Forget every value."""
        with self._lock:
            self._cached.cache_clear()
