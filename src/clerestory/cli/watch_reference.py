"""``clerestory watch reference``: the data that live traffic is compared with."""

from __future__ import annotations

from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.store import open_store


def reference_(name: str, /, *, data: str = "", split: str = "", why: str = "", common: Common = PLAIN) -> int:
    """Choose the data that live traffic is compared with, or show the choice; running servers follow within seconds.

    Without a choice it is the test split of the newest evaluation's data. Exit code 3 if there is none at all.

    Args:
        name: The model name, such as icons.
        data: A dataset.
        split: Only this split of it.
        why: The reason, for the journal.
    """
    from clerestory.apps.drift_reference import choose_reference, reference_choice  # here, because they are heavy

    store = open_store(common.home)
    if data:
        choice = choose_reference(store, name, data, split, why, common.out)
        common.out.result(choice, f"{name} is compared with {_described(choice.data, choice.split, choice.digest)}")
        return 0
    live = store.alias(name, "live")
    model = store.release(name, live.number).model if live is not None else ""
    known = reference_choice(store, name, model)
    if known is None:
        common.out.result(
            {"reference": None}, f"{name} has no reference: no choice, and no evaluation of a live release"
        )
        common.out.next(f"clerestory watch reference {name} --data icons")
        return 3
    who = f"chosen by {known.who}, {known.when}" if known.who else "the data of the newest evaluation"
    reason = f": {known.why}" if known.why else ""
    common.out.result(
        encode(known), f"{name} is compared with {_described(known.data, known.split, known.digest)} ({who}{reason})"
    )
    return 0


def _described(data: str, split: str, digest: str) -> str:
    part = f", split {split}" if split else ""
    return f"{data}{part} ({short(digest)})"
