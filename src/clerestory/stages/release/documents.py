"""The documents that a bundle contains, each made from the record of the release."""

from __future__ import annotations

from clerestory.core.release import Release
from clerestory.store import Store


def documents(release: Release, store: Store) -> dict[str, bytes]:
    """The content of each document by file name."""
    from clerestory.report.card import model_card  # here, because it imports the client of the hub
    from clerestory.report.collect import collect

    return {"model-card.md": model_card(collect(store, release.ref)).encode()}
