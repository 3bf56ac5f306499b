"""The model that comes with Clerestory, brought into a store like any other; and used where nothing is live yet."""

from __future__ import annotations

import json

from clerestory.core.codec import decode
from clerestory.core.digest import digest_folder
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.core.evidence import Evidence
from clerestory.models.starter import STARTER, starter_folder
from clerestory.store import Store

LINE = "icons"  # the line of models that is used where none is named


def starter_evidence() -> tuple[Evidence, ...]:
    """How it came about, oldest first; each piece speaks of the very model in ``starter_folder``.

    Raises:
        IntegrityError: the model is not the one the evidence speaks of.
    """
    folder = starter_folder()
    found = digest_folder(folder)[0]
    place = folder.with_name("evidence.json")
    try:
        whole = tuple(decode(Evidence, each) for each in json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{place} cannot be read: {error}", "install Clerestory again") from error
    for evidence in whole:
        if evidence.subject.model != found:
            raise IntegrityError(
                f"the model in {folder} is {found[:12]}, its evidence speaks of {evidence.subject.model[:12]}",
                "install Clerestory again",
            )
    return whole


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
