"""The starter, the model that is part of Clerestory: add it to a store, and use it while no release is live."""

from __future__ import annotations

import json

from clerestory.core.codec import decode
from clerestory.core.digest import digest_folder
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.core.evidence import Evidence
from clerestory.models.starter import STARTER, starter_folder
from clerestory.store import Store

DEFAULT_NAME = "icons"  # the model name of commands that name none


def starter_evidence() -> tuple[Evidence, ...]:
    """The evidence of its training, oldest first; its subject is the model in ``starter_folder``.

    Raises:
        IntegrityError: the evidence is unreadable or its subject is another model.
    """
    folder = starter_folder()
    digest = digest_folder(folder)[0]
    path = folder.with_name("evidence.json")
    try:
        evidence = tuple(decode(Evidence, each) for each in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", "install Clerestory again") from error
    for each in evidence:
        if each.subject.model != digest:
            raise IntegrityError(
                f"the digest of {folder} is {digest[:12]}, but its evidence is for {each.subject.model[:12]}",
                "install Clerestory again",
            )
    return evidence


def add_starter(store: Store) -> str:
    """Add the model and the evidence of its training to a store and return the model's digest; idempotent.

    Raises:
        IntegrityError: as ``starter_evidence``.
    """
    evidence = starter_evidence()
    for file in sorted(starter_folder().with_name("artifacts").iterdir()):
        store.blobs.put(file.read_bytes())
    digest = store.put_model(starter_folder())
    for each in evidence:
        store.put_evidence(each)
    return digest


def live_or_starter(store: Store, ref: str) -> tuple[str, str]:
    """``ref`` itself, or the starter if ``ref`` is the default ``icons@live`` and that model name has no release.

    Any other reference is the user's own and is never replaced.

    Returns:
        The reference to use, and one sentence for the user if it differs from ``ref``.
    """
    if ref != f"{DEFAULT_NAME}@live":
        return ref, ""
    try:
        store.resolve(ref)
    except NotFound:
        if store.releases(DEFAULT_NAME):
            return ref, ""  # releases exist but none is live: that was somebody's decision
        return STARTER, f"no release of {DEFAULT_NAME} is live yet, so the starter, the included model, is used"
    return ref, ""
