"""The classes of a dataset: which group labels them, and folds of its samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import InputError, not_found
from clerestory.core.sample import SUPPLEMENT, Dataset
from clerestory.core.text import visible
from clerestory.stages.audit.personal_data import redact

CONCEPT = "concept"  # a name of a group, for the concepts of the samples
LABEL_GROUPS = (CONCEPT, "class", "label", "category")  # by default the first of these that has classes
MAX_CLASSES, MIN_CLASS_IMAGES = 100, 10
MIN_LABELLED_SHARE = 0.5
FOLDS = 5
MAX_VALUE = 40  # characters of a value in a message

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LabelClasses:
    """The classes of a dataset.

    Attributes:
        group: the group whose values they are; ``concept`` for the concepts.
        names: of the classes, sorted.
        labels: (N,) the class of each sample; -1 where it has none, or one with too few images.
        clusters: (N,) numbers of samples that belong together, such as those of one concept.
    """

    group: str
    names: tuple[str, ...]
    labels: Labels
    clusters: Labels

    @property
    def places(self) -> Labels:
        """The positions of the samples that have a class."""
        return np.flatnonzero(self.labels >= 0)


def values_of(data: Dataset, group: str) -> list[str]:
    """The value of a group for each sample; empty where it has none."""
    return [sample.concept if group == CONCEPT else sample.groups.get(group, "") for sample in data]


def group_names(data: Dataset) -> list[str]:
    """The groups of the samples, sorted, without those that the sources add for themselves."""
    return sorted({name for sample in data for name in sample.groups} - {SUPPLEMENT})


def shown_value(value: str) -> str:
    """A value as a message shows it: short, without personal data and control characters."""
    text = visible(redact(value))
    return f"'{text}'" if len(text) <= MAX_VALUE else f"'{text[: MAX_VALUE - 1]}…'"


def label_classes(data: Dataset, group: str = "") -> LabelClasses | None:
    """The classes of a dataset: 2 to 100 values with at least 10 images each, which at least half of the images have.

    Images of values with fewer images are left out.

    Args:
        data: the dataset.
        group: whose values are the classes; by default the first of ``LABEL_GROUPS`` that has classes, if any.

    Raises:
        NotFound: no sample has the group.
        InputError: the values of the group do not make classes.
    """
    if not group:
        return next(filter(None, (_classes_of(data, name) for name in LABEL_GROUPS)), None)
    known = group_names(data)
    if group != CONCEPT and group not in known:
        raise not_found("group", group, [CONCEPT, *known])
    classes = _classes_of(data, group)
    if classes is None:
        counts = Counter(filter(None, values_of(data, group)))
        large = sum(count >= MIN_CLASS_IMAGES for count in counts.values())
        raise InputError(
            f"the values of the group {group!r} are not classes: {large:,} of {len(counts):,} have {MIN_CLASS_IMAGES} "
            "images or more",
            f"choose a group with 2 to {MAX_CLASSES} such values, which half of the images have",
        )
    return classes


def _classes_of(data: Dataset, group: str) -> LabelClasses | None:
    values = values_of(data, group)
    counts = Counter(filter(None, values))
    names = sorted(value for value, count in counts.items() if count >= MIN_CLASS_IMAGES)
    if not 2 <= len(names) <= MAX_CLASSES or sum(counts[name] for name in names) < MIN_LABELLED_SHARE * len(data):
        return None
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number.get(value, -1) for value in values], dtype=np.int64)
    return LabelClasses(group, tuple(names), labels, _clusters(data, labels))


def _clusters(data: Dataset, labels: Labels) -> Labels:
    """By concept where each class has several for each fold, else by image."""
    concepts = [sample.concept or sample.id for sample in data]
    of_class: defaultdict[int, set[str]] = defaultdict(set)
    for concept, label in zip(concepts, labels.tolist(), strict=True):
        of_class[label].add(concept)
    is_fine = all(len(found) >= 2 * FOLDS for label, found in of_class.items() if label >= 0)
    keys = concepts if is_fine else [sample.image for sample in data]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def stratified_folds(labels: Sequence[int] | Labels, clusters: Labels, seed: int = 0) -> Labels:
    """(N,) the fold of each sample: clusters stay whole, and each class is spread evenly over the folds.

    A cluster counts in the class of its first sample.

    Args:
        labels: (N,) classes.
        clusters: (N,) numbers of the clusters.
        seed: of the order of the clusters.
    """
    unique, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(unique))
    order = order[np.argsort(np.asarray(labels)[first][order], kind="stable")]
    fold = np.empty(len(unique), dtype=np.int64)
    fold[order] = np.arange(len(unique)) % FOLDS
    return fold[inverse]
