"""The model that comes with Clerestory, brought into a store like any other; and used where nothing is live yet."""

from __future__ import annotations

from clerestory.core.errors import NotFound
from clerestory.models.starter import STARTER, starter_evidence, starter_folder
from clerestory.store import Store

LINE = "icons"


def bring_in_starter(store: Store) -> str:
    """Put the model and the evidence of its training into the store; returns its digest. Again changes nothing.

    Raises:
        IntegrityError: the model is not the one the evidence speaks of.
    """
    evidence = starter_evidence()
    for file in sorted(starter_folder().with_name("artifacts").iterdir()):
        store.blobs.put(file.read_bytes())
    digest = store.put_model(starter_folder())
    for each in evidence:
        store.put_evidence(each)
    return digest


def live_or_starter(store: Store, ref: str) -> tuple[str, str]:
    """The reference itself, or the model that comes with Clerestory where ``ref`` is ``icons@live`` and nothing is.

    Only for that line, which is what is used where none is named: a name that somebody typed is never another model.

    Returns:
        The reference to use, and one sentence for the user when it is another one than asked for.
    """
    if ref != f"{LINE}@live":
        return ref, ""
    try:
        store.resolve(ref)
    except NotFound:
        if store.releases(LINE):
            return ref, ""  # it has releases, none of them live: somebody decided that
        return STARTER, f"no release of {LINE} is live yet, so this is the model that comes with Clerestory"
    return ref, ""
