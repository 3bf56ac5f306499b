"""What a dataset needs to have for a training; checked without reading an image."""

from __future__ import annotations

from collections import Counter
from shlex import quote

from clerestory.core.errors import DataError
from clerestory.core.sample import SUPPLEMENT, TRAIN, Dataset, Sample


def training_samples(data: Dataset) -> tuple[list[Sample], list[Sample]]:
    """The samples to train on, with captions and without: the split ``train``, or those without a split."""
    splits = {sample.split for sample in data}
    chosen = [sample for sample in data if (sample.split == TRAIN if TRAIN in splits else not sample.split)]
    return [sample for sample in chosen if sample.caption], [sample for sample in chosen if not sample.caption]


def is_supplementary(sample: Sample) -> bool:
    """Whether a sample only supplements the training data."""
    return sample.groups.get(SUPPLEMENT) == "yes"


def check_training_split(data: Dataset) -> None:
    """Check that there are samples to train on.

    Raises:
        DataError: the source assigns every sample to another split.
    """
    if any(training_samples(data)):
        return
    counts = Counter(sample.split for sample in data)
    splits = ", ".join(f"{split} {count:,}" for split, count in sorted(counts.items()))
    name = quote(data.name)
    raise DataError(
        f"no sample of {data.name} is in the split 'train' ({splits})",
        f"divide it anew with: clerestory data add {name} --new-splits --name {quote(f'{data.name}-split')}",
    )


def check_trainable(data: Dataset) -> None:
    """Check that there is something to tell apart.

    Raises:
        DataError: there is no sample to train on, there are fewer than two concepts with captions, or all captions are
            equal.
    """
    check_training_split(data)
    main = [sample for sample in training_samples(data)[0] if not is_supplementary(sample)]
    concepts = {sample.concept or sample.caption for sample in main}
    if len(concepts) < 2:
        some = "no concept" if not concepts else "only one concept"
        raise DataError(
            f"{data.name} has {some} with captions in its training data, and training needs at least 2",
            "add images of at least two different concepts, with captions",
        )
    captions = {sample.caption for sample in main}
    if len(captions) == 1:
        raise DataError(
            f"all {len(main)} training images of {data.name} have the caption {main[0].caption!r}, so there is nothing "
            "to tell them apart by",
            "give the images captions that say what they show",
        )
