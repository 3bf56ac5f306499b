"""A dataset in numbers: splits, styles, licences, languages."""

from __future__ import annotations

from collections import Counter, defaultdict

from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Dataset, Sample
from clerestory.report.model import DatasetSummary, LicenceSize, SplitSize, StyleSize

_SPLIT_ORDER = (TRAIN, VAL, TEST, TEST_STYLE)


def summarise(data: Dataset) -> DatasetSummary:
    """Count the images, concepts and captions of a dataset; styles are the values of the group ``style``."""
    splits: dict[str, list[Sample]] = defaultdict(list)
    styles: dict[str, list[Sample]] = defaultdict(list)
    licences: dict[str, list[Sample]] = defaultdict(list)
    languages: Counter[str] = Counter()
    for sample in data:
        if sample.split:
            splits[sample.split].append(sample)
        if sample.groups.get("style"):
            styles[sample.groups["style"]].append(sample)
        licences[sample.licence].append(sample)
        languages.update(caption.lang for caption in sample.captions)
    order = sorted(splits, key=lambda s: (_SPLIT_ORDER.index(s) if s in _SPLIT_ORDER else 99, s))
    return DatasetSummary(
        name=data.name,
        digest=data.digest,
        size=len(data),
        counted=True,
        concepts=_concepts(data.samples),
        captions=sum(languages.values()),
        languages=tuple(lang for lang, _ in sorted(languages.items(), key=lambda item: (-item[1], item[0]))),
        splits=tuple(SplitSize(name, len(splits[name]), _concepts(splits[name])) for name in order),
        styles=tuple(
            StyleSize(name, len(found), tuple(sorted({s.licence for s in found})))
            for name, found in sorted(styles.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
        licences=tuple(
            LicenceSize(name, len(found), tuple(sorted({s.groups["style"] for s in found if s.groups.get("style")})))
            for name, found in sorted(licences.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
    )


def _concepts(samples: tuple[Sample, ...] | list[Sample]) -> int:
    return len({sample.concept for sample in samples if sample.concept})
