"""``clerestory watch corrections``: corrected captions and labels on their way into the data."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.units import plural
from clerestory.store import open_store

if TYPE_CHECKING:
    from clerestory.apps.corrections import Correction


def corrections_(
    data: str = "icons",
    /,
    *,
    accept: Annotated[tuple[int, ...], Parameter(negative=())] = (),
    decline: Annotated[tuple[int, ...], Parameter(negative=())] = (),
    make: str = "",
    effect: str = "",
    before: str = "",
    who: str = "",
    why: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """List the captions and labels that people corrected, decide about them, and write a new version of a dataset.

    Args:
        data: The dataset whose images were shown.
        accept: The number of a correction to accept; may be given several times.
        decline: The number of a correction to decline; may be given several times.
        make: Write the accepted ones as a new version of the dataset with this name.
        effect: A release: how many of the corrected images it gets right that were wrong before.
        before: With --effect, the release to compare with (default: the one that answered).
        who: The person, for the journal (default: your login name).
        why: The reason, for the journal.
        force: With --make, replace an earlier version of this name.
    """
    from clerestory.apps import corrections as app  # here, because they are heavy
    from clerestory.apps.datasets import load_dataset
    from clerestory.store.operations.feedback import CorrectionState

    if sum(map(bool, (accept or decline, make, effect))) > 1:
        raise InputError("one command does one thing", "decide first, then --make, then --effect")
    store = open_store(common.home)
    dataset = load_dataset(store, data, common.out)
    if make:
        made = app.make_corrected_version(
            store, dataset, data, make, who=who, why=why, force=force, progress=common.out
        )
        parts = f"{plural(made.changed, 'image')} with another caption, {made.added:,} added"
        common.out.result(made, f"{made.name}: {plural(made.samples, 'image')} in {made.place}, {parts}")
        common.out.next(f"clerestory train --data {quote(made.name)}")
        return
    if effect:
        measured = app.correction_effect(store, dataset, effect, before, common.out)
        common.out.result({"sentence": measured.sentence, "effect": measured}, measured.sentence)
        return
    done: list[Correction] = []
    for numbers, state in ((accept, CorrectionState.ACCEPTED), (decline, CorrectionState.DECLINED)):
        if numbers:
            done += app.decide_corrections(store, dataset, numbers, state, who, why)
    found = app.corrections_of(store, dataset)
    table = Table("", "state", "was", "corrected to", "image", "answered by", box=None)
    for each in found:
        image = each.sample or each.problem or "kept"
        state_ = str(each.feedback.decision) or "to decide"
        table.add_row(str(each.number), state_, each.replaces, each.feedback.value, image, each.version)
    lines: list[str | Table] = [table] if found else ["nobody has corrected a caption or a label"]
    if done:
        lines.append(f"decided: {plural(len(done), 'correction')}")
    common.out.result(found, *lines)
    if any(each.feedback.decision is CorrectionState.ACCEPTED for each in found):
        common.out.next(f"clerestory watch corrections {quote(data)} --make {quote(app.default_name(data))}")
