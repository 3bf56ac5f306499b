"""Models by reference, ready to use."""

from __future__ import annotations

from clerestory.models import Model, open_model
from clerestory.store import Resolved, Store


def load_model(store: Store, ref: str) -> tuple[Model, Resolved]:
    """The model that a reference (``icons@live``, ``icons@3``, a digest) names, ready to use."""
    resolved = store.resolve(ref)
    return open_model(store.model_folder(resolved.digest)), resolved
