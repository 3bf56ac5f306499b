"""The differences of two versions of a dataset, sample by sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from clerestory.core.sample import Caption, Dataset, Sample


class DataChange(StrEnum):
    """What may differ in a sample."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"
    IMAGE = "image"
    CAPTIONS = "captions"
    SPLIT = "split"
    CONCEPT = "concept"
    GROUPS = "groups"
    LICENCE = "licence"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class SampleDiff:
    """One difference.

    Attributes:
        sample: the id in the newer version; in the older one if it was removed.
        change: what differs.
        before, after: the values as text: of an image its digest, of captions one a line; both empty for a sample that
            was added or removed.
        reasons: why, such as codes of findings; empty if that is not recorded.
    """

    sample: str
    change: DataChange
    before: str = ""
    after: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataDiff:
    """Every difference of two versions.

    Attributes:
        before, after: their digests.
        samples: by sample and kind of change.
        unchanged: the number of samples that are equal in both.
    """

    before: str
    after: str
    samples: tuple[SampleDiff, ...]
    unchanged: int

    def counts(self) -> Counter[tuple[DataChange, tuple[str, ...]]]:
        """How often each change occurs for the same reasons."""
        return Counter((each.change, each.reasons) for each in self.samples)


def diff_data(before: Dataset, after: Dataset, reasons: Mapping[str, tuple[str, ...]] | None = None) -> DataDiff:
    """Compare two versions of a dataset by the ids of their samples.

    A sample that is in one of them only is paired with one of the same image that is in the other one only.

    Args:
        before: the older version.
        after: the newer version.
        reasons: why a sample changed, by its id in the older version.
    """
    why = reasons or {}
    old, new = ({sample.id: sample for sample in data} for data in (before, after))
    removed = {id: sample for id, sample in old.items() if id not in new}
    by_image: dict[str, list[str]] = {}
    for id, sample in removed.items():
        by_image.setdefault(sample.image, []).append(id)
    found: list[SampleDiff] = []
    unchanged = 0
    for id, sample in new.items():
        earlier = old.get(id)
        if earlier is None and (former := by_image.get(sample.image)):
            earlier = removed.pop(former.pop(0))
            found.append(SampleDiff(id, DataChange.RENAMED, earlier.id, id, why.get(earlier.id, ())))
        if earlier is None:
            found.append(SampleDiff(id, DataChange.ADDED, reasons=why.get(id, ())))
            continue
        differing = _differences(earlier, sample)
        found += [SampleDiff(id, kind, *values, why.get(earlier.id, ())) for kind, values in differing.items()]
        unchanged += not differing and earlier.id == id
    found += [SampleDiff(id, DataChange.REMOVED, reasons=why.get(id, ())) for id in removed]
    order = list(DataChange)
    found.sort(key=lambda each: (each.sample, order.index(each.change)))
    return DataDiff(before.digest, after.digest, tuple(found), unchanged)


def _differences(old: Sample, new: Sample) -> dict[DataChange, tuple[str, str]]:
    values = {
        DataChange.IMAGE: (old.image, new.image),
        DataChange.CAPTIONS: (_lines(old.captions), _lines(new.captions)),
        DataChange.SPLIT: (old.split, new.split),
        DataChange.CONCEPT: (old.concept, new.concept),
        DataChange.GROUPS: (str(old.groups), str(new.groups)),
        DataChange.LICENCE: (old.licence, new.licence),
        DataChange.SOURCE: (old.source, new.source),
    }
    differing = {kind: pair for kind, pair in values.items() if pair[0] != pair[1]}
    if old.captions != new.captions:  # the language or the kind alone may differ
        differing[DataChange.CAPTIONS] = values[DataChange.CAPTIONS]
    if old.groups != new.groups:
        differing[DataChange.GROUPS] = values[DataChange.GROUPS]
    return differing


def _lines(captions: tuple[Caption, ...]) -> str:
    return "\n".join(caption.text for caption in captions)
