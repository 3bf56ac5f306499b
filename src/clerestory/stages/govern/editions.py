"""Two editions of a catalogue: what the new one adds, changes and removes, and what nobody has answered yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clerestory.stages.govern.catalogue import Catalogue, Item
from clerestory.stages.govern.statements import Statement, item_digest

FIELDS = ("text", "title", "kind", "group", "applies_from", "amended_by", "verifiers")


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item that both editions have, with another content.

    Attributes:
        id: its number.
        fields: what differs, the wording first.
        old, new: the item in each edition.
    """

    id: str
    fields: tuple[str, ...]
    old: Item
    new: Item


@dataclass(frozen=True, slots=True)
class EditionDiff:
    """The difference of two editions.

    Attributes:
        old, new: the editions.
        added, removed: items that only one of them has.
        changed: items with another content.
        same: how many are equal.
        unanswered: numbers of added and changed items that need a person and have no statement on their new wording.
    """

    old: Catalogue
    new: Catalogue
    added: tuple[Item, ...]
    changed: tuple[ChangedItem, ...]
    removed: tuple[Item, ...]
    same: int
    unanswered: tuple[str, ...]


def compare_editions(
    old: Catalogue, new: Catalogue, statements: Mapping[tuple[str, str], Statement] | None = None
) -> EditionDiff:
    """What a new edition of a catalogue adds, changes and removes.

    Args:
        old: the edition before.
        new: the new edition.
        statements: the newest statement about each item, by the ids of catalogue and item.
    """
    before = {item.id: item for item in old.items}
    after = {item.id: item for item in new.items}
    added = tuple(item for item in new.items if item.id not in before)
    removed = tuple(item for item in old.items if item.id not in after)
    changed = []
    for item in new.items:
        if item.id in before:
            fields = tuple(name for name in FIELDS if getattr(before[item.id], name) != getattr(item, name))
            if fields:
                changed.append(ChangedItem(item.id, fields, before[item.id], item))
    known = statements or {}
    unanswered = [
        item.id
        for item in (*added, *(each.new for each in changed))
        if item.kind != "M" and not _is_answered(item, new, known)
    ]
    same = len(after) - len(added) - len(changed)
    return EditionDiff(old, new, added, tuple(changed), removed, same, tuple(unanswered))


def _is_answered(item: Item, catalogue: Catalogue, statements: Mapping[tuple[str, str], Statement]) -> bool:
    statement = statements.get((catalogue.id, item.id))
    return statement is not None and statement.item_digest == item_digest(item)
