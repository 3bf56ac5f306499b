"""Which rows are one sample, and its id. Only this module decides which of several rows with one id counts.

Rows with the same id, image and split are one sample, with the captions of all of them. Other rows with the same id
are samples of their own, and something that distinguishes them is put in front of their ids: the split, the label, the
file, or a digest. Neither depends on the order of the rows, so the same data gets the same ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clerestory.core.codec import encode
from clerestory.core.digest import digest, short
from clerestory.core.evidence import Finding
from clerestory.core.text import valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.columns import RawRow
from clerestory.data.image_scan import ImageScan

ScannedRow = tuple[RawRow, ImageScan]


@dataclass(slots=True)
class Identified:
    """One row for each sample, with a unique id.

    Attributes:
        rows: with the scans of their images.
        findings: about ids of several images.
        merged: the number of samples made of several rows.
        varying: in how many of these the rows differ in a group; they do not have this group.
    """

    rows: list[ScannedRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    merged: int = 0
    varying: Counter[str] = field(default_factory=Counter)


def identify(rows: Iterable[ScannedRow], separate_rows: bool = False) -> Identified:
    """Merge the rows of one sample and give each sample a unique id.

    Args:
        rows: usable rows; all have an id.
        separate_rows: each row is a sample, even if several have the same image; only equal rows are merged.
    """
    result = Identified()
    by_id: defaultdict[str, list[ScannedRow]] = defaultdict(list)
    for row, scan in rows:
        by_id[row.id].append((row, scan))
    ambiguous: dict[str, list[ScannedRow]] = {}
    for id_, members in by_id.items():
        if len(members) > 1:
            members = _equal_rows(members, result) if separate_rows else _merge_images(members, result)
        if len(members) > 1:
            ambiguous[id_] = members
        result.rows += members
    taken = set(by_id)
    examples = []
    for id_, members in ambiguous.items():
        ids = _qualified(id_, members, taken)
        taken.update(ids)
        for (row, _), new in zip(members, ids, strict=True):
            row.id = new
        examples.append((members[0][0].where, members[1][0].where, id_, ids[0], ids[1]))
    if examples:
        first, second, old, new_first, new_second = examples[0]
        found = data_findings.duplicate_id(len(examples), (first, second), old, (new_first, new_second))
        result.findings.append(found)
    return result


def _merge_images(members: list[ScannedRow], result: Identified) -> list[ScannedRow]:
    """One row for each image and split; a row without a split belongs to those that have one."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for row, scan in members:
        splits[scan.sha256] |= {row.split} - {""}
    groups: defaultdict[tuple[str, str], list[ScannedRow]] = defaultdict(list)
    for row, scan in members:
        row.split = row.split or min(splits[scan.sha256], default="")
        groups[scan.sha256, row.split].append((row, scan))
    return [_merge(group, result) for group in groups.values()]


def _merge(members: Sequence[ScannedRow], result: Identified) -> ScannedRow:
    first, scan = members[0]
    if len(members) == 1:
        return first, scan
    rows = [row for row, _ in members]
    first.captions = list(dict.fromkeys(caption for row in rows for caption in row.captions))
    for name in ("concept", "licence", "source"):
        setattr(first, name, next((value for row in rows if (value := getattr(row, name))), ""))
    values: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for group, value in row.groups.items():
            values[group].add(value)
    first.groups = {group: next(iter(found)) for group, found in values.items() if len(found) == 1}
    result.varying.update(group for group, found in values.items() if len(found) > 1)
    result.merged += 1
    return first, scan


def _equal_rows(members: list[ScannedRow], result: Identified) -> list[ScannedRow]:
    different: dict[str, ScannedRow] = {}
    for row, scan in members:
        different.setdefault(_row_digest((row, scan)), (row, scan))
    if len(different) < len(members):
        repeated = len(members) - len(different)
        result.findings.append(data_findings.repeated_rows(repeated, members[-1][0].where))
    return list(different.values())


def _qualified(id_: str, members: Sequence[ScannedRow], taken: set[str]) -> list[str]:
    """New ids for different samples with one id."""
    qualifiers = (
        [row.split for row, _ in members],
        [row.concept for row, _ in members],
        [valid_unicode(row.file) for row, _ in members],
        [short(scan.sha256) for _, scan in members],
        [short(_row_digest(member)) for member in members],
        [_row_digest(member) for member in members],
    )
    for values in qualifiers:
        ids = [f"{value}/{id_}" for value in values]
        if all(values) and len(set(ids)) == len(ids) and taken.isdisjoint(ids):
            return ids
    return _qualified(f"{id_}'", members, taken)


def _row_digest(member: ScannedRow) -> str:
    row, scan = member
    content = [row.concept, row.licence, row.source, row.split, encode(tuple(row.captions)), row.groups]
    return digest([scan.sha256, *content])
