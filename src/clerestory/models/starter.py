"""The model that comes with Clerestory, so that search and captions are good in the first minute.

It is an ordinary model folder inside the package, with the evidence of its training beside it: nothing about it is
special, ``clerestory train --data pictograms --preset small`` makes one like it in an hour and a half.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from clerestory.core.codec import decode
from clerestory.core.digest import digest_folder
from clerestory.core.errors import IntegrityError
from clerestory.core.measure import Evidence

STARTER = "starter"


def starter_folder() -> Path:
    """Where its files are."""
    return Path(str(files("clerestory"))) / STARTER / "model"


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
