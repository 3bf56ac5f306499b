"""Clerestory covers the lifecycle of a vision-language model, with evidence.

The public functions are imported on first use, so that ``import clerestory`` is fast; those of a stage are named by its
``StageSpec``::

    import clerestory as cl

    store = cl.open_store()
    data = cl.open_data("icons")
    run = cl.train(data, cl.TrainConfig(preset="nano"), store)
"""

from __future__ import annotations

import os
from typing import Any

# After a short spin, idle OpenMP threads sleep. With GNU OpenMP's default they spin so long that two threads on one
# core can starve each other for minutes. The variable is read when torch is loaded, so it is set before.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__version__ = "0.1.0"

_EXPORTS = {
    "open_store": "clerestory.store:open_store",
    "open_data": "clerestory.data:open_data",
    "open_model": "clerestory.apps.loading:open_any_model",
    "report": "clerestory.report:report",
    "apps": "clerestory.apps",
    "flows": "clerestory.flows",
}


def _exports() -> dict[str, str]:
    """Every public name with its import path."""
    from clerestory.core.stage import stages  # here, because it imports from this package

    return _EXPORTS | {name: path for spec in stages().values() for name, path in spec.exports.items()}


def __getattr__(name: str) -> Any:
    # Names with an underscore are looked up by the import system and never public; submodules import this package.
    path = None if name.startswith("_") else _EXPORTS.get(name) or _exports().get(name)
    if path is None:
        raise AttributeError(f"module 'clerestory' has no attribute {name!r}")
    from clerestory.core.stage import import_object

    return import_object(path)


def __dir__() -> list[str]:
    return sorted({*globals(), *_exports()})
