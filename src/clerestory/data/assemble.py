"""From checked rows to a dataset: ids, concepts, splits, and a finding for everything that is skipped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.files import file_identity
from clerestory.core.sample import TRAIN, Dataset, Sample, concept_of_caption
from clerestory.data import findings as data_findings
from clerestory.data.columns import SPLIT_NAMES, Columns, RawRow
from clerestory.data.findings import UnreadableImage
from clerestory.data.identity import ScannedRow, identify
from clerestory.data.image_scan import ImageScan
from clerestory.data.splits import splits_by_concept

MAX_READ_CHARACTERS = 1_000  # about the 256 word pieces that the text tower reads


def assemble(
    name: str,
    rows: Iterable[ScannedRow],
    read: Callable[[Any], bytes],
    findings: Iterable[Finding],
    columns: Sequence[Columns] = (),
    derive: bool = True,
    separate_rows: bool = False,
    file_at: Callable[[Any], Path | None] = lambda location: None,
) -> Dataset:
    """Build the dataset of rows whose images have been scanned.

    Args:
        name: its name.
        rows: every row, with an id, its location, and the scan of its image.
        read: returns the encoded bytes at the location of a row.
        findings: earlier findings about the same source.
        columns: the columns of the tables from which the rows come.
        derive: derive missing concepts and splits.
        separate_rows: each row is a sample, even if several have the same image; missing splits are not derived.
        file_at: the image file at the location of a row; None where the image is part of a larger file.

    Raises:
        DataError: no row is usable.
    """
    all_findings = list(findings)
    usable: list[ScannedRow] = []
    for row, scan in rows:
        problem = _problem(row, scan)
        if problem is not None:
            all_findings.append(problem)
        else:
            usable.append((row, scan))
    first = data_findings.first_left_out(all_findings)
    if not usable:
        first = first or data_findings.first_unused(all_findings)
        example = f" (for example {first.where}: {first.message})" if first else ""
        raise DataError(
            f"{name} has no readable image{example}",
            "add JPEG, PNG or WEBP images; docs/reference/data-formats.md shows the layouts",
        )
    left_out = data_findings.num_left_out(all_findings)
    if first and left_out > len(usable):
        all_findings.insert(0, data_findings.mostly_left_out(name, left_out, len(usable), first))
    identified = identify(usable, separate_rows)
    samples = identified.rows
    all_findings += identified.findings
    for table in columns:
        all_findings += table.finish([row for row, _ in samples], identified.varying, identified.merged)
    all_findings += _split_conflicts(samples)
    if derive:
        _derive(samples, splits=not separate_rows)
    if derive and not separate_rows:
        all_findings += _exact_copies(samples, file_at)
    uncaptioned = sorted(row.id for row, _ in samples if not row.captions)
    if uncaptioned:
        all_findings.append(data_findings.no_caption(len(uncaptioned), uncaptioned[0]))
    if derive and not separate_rows and TRAIN not in (counts := Counter(row.split for row, _ in samples)):
        all_findings.append(data_findings.no_training_split(counts))
    long = [(len(c.text), row.id) for row, _ in samples for c in row.captions if len(c.text) > MAX_READ_CHARACTERS]
    if long:
        length, longest = max(long)
        all_findings.append(data_findings.long_captions(len(long), longest, length, MAX_READ_CHARACTERS))
    locations = {row.id: row.location for row, _ in samples}
    return Dataset(
        name,
        [_sample(row, scan) for row, scan in samples],
        lambda sample: read(locations[sample.id]),
        list(dict.fromkeys(all_findings)),
        file_of=lambda sample: file_at(locations[sample.id]),
    )


def _sample(row: RawRow, scan: ImageScan) -> Sample:
    groups = Tags(row.groups)
    return Sample(row.id, scan.sha256, tuple(row.captions), row.concept, groups, row.licence, row.source, row.split)


def _problem(row: RawRow, scan: ImageScan) -> Finding | None:
    if scan.reason is not None:
        return data_findings.unreadable_image(row.where, scan.reason, scan.problem, scan.fix)
    if row.sha256 and row.sha256 != scan.sha256:
        problem = "the image does not match the column sha256"
        return data_findings.unreadable_image(row.where, UnreadableImage.DIGEST_MISMATCH, problem)
    if row.split and row.split not in SPLIT_NAMES.values():
        return data_findings.unknown_split(row.where, row.split)
    return None


def _split_conflicts(rows: Iterable[ScannedRow]) -> list[Finding]:
    splits_of: defaultdict[str, set[str]] = defaultdict(set)
    for row, _ in rows:
        if row.concept and row.split:
            splits_of[row.concept].add(row.split)
    # The same concepts in a held-out style are the purpose of test_style, not a leak.
    by_concept = {concept: sorted(splits - {"test_style"}) for concept, splits in sorted(splits_of.items())}
    return [data_findings.split_conflict(concept, splits) for concept, splits in by_concept.items() if len(splits) > 1]


def _exact_copies(rows: Iterable[ScannedRow], file_at: Callable[[Any], Path | None]) -> list[Finding]:
    """Byte-identical images under different names, or in different splits; other rows of one file are not copies.

    Links to one file are counted, too: the image is used twice, but it is on the disk only once.
    """
    originals: dict[str, RawRow] = {}
    copies: list[tuple[RawRow, RawRow]] = []
    for row, scan in sorted(rows, key=lambda item: item[0].id):
        original = originals.setdefault(scan.sha256, row)
        if original is not row and not (row.file and row.file == original.file and row.split == original.split):
            copies.append((row, original))
    if not copies:
        return []
    across = [(row, original) for row, original in copies if row.split != original.split]
    row, original = (across or copies)[0]
    files = [(file_identity(file_at(one.location)), file_identity(file_at(other.location))) for one, other in copies]
    links = sum(one is not None and one == other for one, other in files)
    return [data_findings.exact_copies(len(copies), row.id, original.id, len(across), links)]


def _derive(rows: list[ScannedRow], splits: bool) -> None:
    """Fill in missing concepts (the first caption, else the digest of the image) and splits by concept.

    Concepts with a byte-identical image are assigned to the same split.
    """
    for row, scan in rows:
        if not row.concept:
            row.concept = (concept_of_caption(row.captions[0].text) if row.captions else "") or scan.sha256[:16]
    if not splits:
        return
    split_of_concept = splits_by_concept((row.concept, scan.sha256) for row, scan in rows)
    for row, _ in rows:
        row.split = row.split or split_of_concept[row.concept]
