"""The documents that a bundle contains, each made from the record of the release."""

from __future__ import annotations

from contextlib import suppress

from clerestory.core.errors import MissingExtra
from clerestory.core.release import Release
from clerestory.store import Store


def documents(release: Release, store: Store) -> dict[str, bytes]:
    """The content of each document by file name."""
    from clerestory.report.card import model_card  # here, because it imports the client of the hub
    from clerestory.report.collect import collect
    from clerestory.report.documents.bom import ml_bom

    known = collect(store, release.ref)
    made = {"model-card.md": model_card(known).encode()}
    with suppress(MissingExtra):  # the bill of materials needs a library; a bundle without it is complete
        made["model.cdx.json"] = ml_bom(known)
    return made
