"""What a dataset needs to have for a training; checked without reading an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from shlex import quote

from clerestory.core.errors import DataError
from clerestory.core.sample import SUPPLEMENT, TRAIN, Dataset, Sample, concept_of_caption
from clerestory.core.units import plural


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
    check_captions_differ(main, "training image", data.name, 2)
    concepts = {sample.concept or sample.caption for sample in main}
    if len(concepts) < 2:
        some = "no concept" if not concepts else "only one concept"
        raise DataError(
            f"{data.name} has {some} with captions in its training data, and training needs at least 2",
            "add images of at least two different concepts, with captions",
        )


def check_captions_differ(samples: Sequence[Sample], what: str, name: str, minimum: int) -> None:
    """Check that there are enough captions that differ in more than case and punctuation.

    Args:
        samples: images with captions.
        what: the word for an image, in the singular.
        name: of the dataset.
        minimum: the number of captions that is needed.

    Raises:
        DataError: there are fewer; says how many images share the most frequent one.
    """
    counts = Counter(map(_captions_key, samples))
    if not counts or len(counts) >= minimum:
        return
    most, number = counts.most_common(1)[0]
    example = next(sample.caption for sample in samples if _captions_key(sample) == most)
    problem = (
        f"all {plural(number, what)} of {name} have the caption {example!r}, so there is nothing to tell them apart by"
    )
    if len(counts) > 1:
        problem = (
            f"the {plural(len(samples), what)} of {name} have only {len(counts)} different captions, and at least "
            f"{minimum} are needed; {number} have the caption {example!r}"
        )
    raise DataError(problem, "give the images captions that say what each of them shows")


def _captions_key(sample: Sample) -> frozenset[str]:
    return frozenset(concept_of_caption(caption.text) or caption.text for caption in sample.captions)
