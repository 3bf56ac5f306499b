"""What a dataset needs to have for a head; checked without reading an image, and without importing torch."""

from __future__ import annotations

from clerestory.core.errors import DataError
from clerestory.core.sample import TRAIN, VAL, Dataset, Sample
from clerestory.core.units import plural
from clerestory.stages.train.requirements import check_captions_differ
from clerestory.stages.train.sampling import captions_of

MIN_IMAGES = 20
NUM_FOLDS = 5


def samples_for_head(data: Dataset, min_images: int = MIN_IMAGES) -> list[Sample]:
    """The captioned samples that a head is fitted on.

    Raises:
        DataError: there are too few, or their captions do not differ.
    """
    splits = {sample.split for sample in data}
    chosen = [s for s in data if captions_of(s) and (TRAIN not in splits or s.split in (TRAIN, VAL))]
    if len(chosen) < min_images:
        need = f"{data.name} has {plural(len(chosen), 'image')} with captions to fit on, and at least {min_images} are "
        if min_images > MIN_IMAGES:
            raise DataError(f"{need}needed for caption drafts", "add captions, or leave out --caption-drafts")
        raise DataError(
            f"{need}needed (a gain begins at a few hundred)",
            "add captions, in a table captions.csv beside the images",
        )
    check_captions_differ(chosen, "captioned image", data.name, NUM_FOLDS)
    return chosen
