"""Clerestory takes a vision-language model through its whole life, with evidence.

The verbs are reachable from here and imported on first use, so that ``import clerestory`` stays cheap::

    import clerestory as cl

    store = cl.open_store()
    data = cl.open_data("icons")
    run = cl.train(data, cl.TrainConfig(preset="nano"), store)
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

# GNU OpenMP's idle threads spin for so long that two of them left on one core can starve each other for minutes; after
# a short spin they sleep, and the kernel wakes them on a free core. Read when torch is loaded, so it is set before.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__version__ = "0.1.0"

_VERBS = {
    "open_store": "clerestory.store:open_store",
    "open_data": "clerestory.data:open_data",
    "train": "clerestory.stages.train:train",
    "TrainConfig": "clerestory.stages.train:TrainConfig",
    "evaluate": "clerestory.stages.evaluate:evaluate",
    "EvaluateConfig": "clerestory.stages.evaluate:EvaluateConfig",
    "release": "clerestory.stages.release",
    "report": "clerestory.report:report",
    "apps": "clerestory.apps",
    "flows": "clerestory.flows",
    "open_model": "clerestory.models:open_model",
}


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'clerestory' has no attribute {name!r}")
    module, _, attribute = _VERBS[name].partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_VERBS])
