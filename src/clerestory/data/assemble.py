"""Checked entries to a data set: ids, concepts, splits, and everything that had to be kept out, by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from clerestory.core.codec import Tags
from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.sample import Dataset, Sample
from clerestory.data import findings as data_findings
from clerestory.data.columns import SPLITS, Entry
from clerestory.data.image_scan import Seen
from clerestory.data.splits import connected, split_of


def assemble(
    name: str,
    entries: Sequence[tuple[Entry, Seen]],
    read: Callable[[Sample], bytes],
    findings: Iterable[Finding],
    derive: bool = True,
    splits: bool = True,
) -> Dataset:
    """The data set of entries whose pictures have been looked at.

    Args:
        name: what people call it.
        entries: every entry with an id, and what its picture showed.
        read: returns the encoded bytes of a sample's picture.
        findings: what was noticed before.
        derive: fill in concepts and splits that are not given.
        splits: fill in splits too; otherwise a table without any has none.

    Raises:
        DataError: nothing is left.
    """
    noticed = list(findings)
    kept: dict[str, tuple[Entry, Seen]] = {}
    for entry, seen in entries:
        problem = _problem(entry, seen, kept)
        if problem is not None:
            noticed.append(problem)
        else:
            kept[entry.id] = (entry, seen)
    if not kept:
        example = f" (for example {noticed[0].where}: {noticed[0].message})" if noticed else ""
        raise DataError(
            f"there is no readable picture in {name}{example}",
            "add JPEG, PNG or WEBP pictures; docs/reference/data-formats.md shows the layouts",
        )
    noticed += _given_splits_conflict(entry for entry, _ in kept.values())
    if derive:
        _derive(list(kept.values()), splits)
    silent = sorted(entry.id for entry, _ in kept.values() if not entry.captions)
    if silent:
        noticed.append(data_findings.no_caption(len(silent), silent[0]))
    samples = [
        Sample(
            entry.id,
            seen.sha256,
            tuple(entry.captions),
            entry.concept,
            Tags(entry.groups),
            entry.licence,
            entry.source,
            entry.split,
        )
        for entry, seen in kept.values()
    ]
    return Dataset(name, samples, read, noticed)


def _problem(entry: Entry, seen: Seen, kept: dict[str, tuple[Entry, Seen]]) -> Finding | None:
    if entry.id in kept:
        return data_findings.duplicate_id(entry.where, kept[entry.id][0].where)
    if seen.problem:
        return data_findings.unreadable(entry.where, seen.problem)
    if entry.sha256 and entry.sha256 != seen.sha256:
        return data_findings.unreadable(entry.where, "the picture's bytes are not those that the column sha256 speaks of")
    if entry.split and entry.split not in SPLITS.values():
        return data_findings.unknown_split(entry.where, entry.split)
    return None


def _given_splits_conflict(entries: Iterable[Entry]) -> list[Finding]:
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.concept and entry.split:
            sides[entry.concept].add(entry.split)
    # The same concepts in a style held out on purpose are the point of test_style, not a leak.
    torn = {concept: sorted(splits - {"test_style"}) for concept, splits in sorted(sides.items())}
    return [data_findings.split_conflict(concept, splits) for concept, splits in torn.items() if len(splits) > 1]


def _derive(entries: list[tuple[Entry, Seen]], splits: bool) -> None:
    """Fill in concepts (the first caption, else the picture itself) and splits by concept.

    Concepts that share a picture to the byte go to the same side, whatever they are called.
    """
    for entry, seen in entries:
        if not entry.concept:
            words = re.sub(r"\W+", " ", entry.captions[0].text.casefold()).strip() if entry.captions else ""
            entry.concept = words or seen.sha256[:16]
    if not splits:
        return
    links: list[tuple[Hashable, Hashable]] = [(entry.concept, ("picture", seen.sha256)) for entry, seen in entries]
    together = connected(links)
    smallest: dict[Hashable, str] = {}
    for entry, _ in entries:
        side = together[entry.concept]
        smallest[side] = min(smallest.get(side, entry.concept), entry.concept)
    for entry, _ in entries:
        if not entry.split:
            entry.split = split_of(smallest[together[entry.concept]])
