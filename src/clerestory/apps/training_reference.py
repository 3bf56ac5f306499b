"""Measured once on the training data of a model: the confidence of its captions, and how its images look.

For the starter it is a file of the package; for a model trained in this store it is measured at first use, on the
dataset of its evidence, and cached. Of a model from elsewhere the training images are not known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from clerestory.apps.confidence import ScoreCalibrator, fit_captions
from clerestory.apps.image_statistics import MAX_SHARE, TrainingImages, fit_training_images
from clerestory.apps.right_model import DRAWING, MAX_CHECKED, dataset_kinds, photo_encoder
from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import ClerestoryError, DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import TRAIN, Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models.protocols import AnyModel, Captioner, Embedder
from clerestory.models.starter import starter_folder
from clerestory.store import Store

NUM_IMAGES = 1600
NUM_CHECKED = 200
BATCH_SIZE = 64
OTHER_MODEL = (
    "for photographs use the included model --model photos to search, and "
    "--model hf:HuggingFaceTB/SmolVLM-256M-Instruct for captions; or train one on your own images"
)


@dataclass(frozen=True, slots=True)
class TrainingReference:
    """Facts about a model from its own training data.

    Attributes:
        model: the digest of the model.
        data: the name of the training data; empty if it is not known.
        captions: the calibrator of its captions; None if it could not be fitted.
        images: how its training images look; None if that is not known.
    """

    model: str
    data: str = ""
    captions: ScoreCalibrator | None = None
    images: TrainingImages | None = None


def training_reference(
    model: AnyModel | Embedder | Captioner, store: Store, progress: Progress = QUIET
) -> TrainingReference:
    """The reference of a model: packaged, cached, or measured now on the dataset it was trained on.

    A photo encoder has none: a probe on its own features tells photographs from other images, and drafts of captions
    hardly ever equal a caption, so that there is nothing to calibrate.
    """
    packaged = starter_reference()
    if packaged is not None and packaged.model == model.digest:
        return packaged
    if photo_encoder(model) is not None:
        return TrainingReference(model.digest)
    data = _training_data(model, store)
    if data is None:
        return TrainingReference(model.digest)
    key = f"training-reference/{model.digest}/{data.digest}/{code_digest('data', 'models', 'apps')}"
    if (cached := store.cache_read(key)) is not None:
        return decode(TrainingReference, json.loads(cached))
    result = measure_reference(model, data, store, progress)
    store.cache_content(key, canonical(result))
    return result


def starter_reference() -> TrainingReference | None:
    """The packaged reference of the starter."""
    path = starter_folder().with_name("reference.json")
    return decode(TrainingReference, json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def measure_reference(
    model: AnyModel | Embedder | Captioner, data: Dataset, store: Store, progress: Progress = QUIET
) -> TrainingReference:
    """Measure on the training data of a model."""
    train = [sample for sample in data if sample.split in ("", TRAIN)]
    images = []
    for sample in train[:: max(1, len(train) // NUM_IMAGES)][:NUM_IMAGES]:
        try:
            images.append(decode_sample(data, sample))
            images[-1].thumbnail((256, 256))
        except DataError:
            continue
    captions = fit_captions(model, data, store, progress)
    return TrainingReference(model.digest, data.name, captions, fit_training_images(images))


def _training_data(model: AnyModel | Embedder | Captioner, store: Store) -> Dataset | None:
    """The dataset that the model was trained on, if it is registered in this store and has not changed."""
    digests = {each.subject.data for kind in ("train", "tune") for each in store.find_evidence(kind, model.digest)}
    for row in store.datasets():
        if row.digest in digests:
            try:
                data = open_data(row.spec)
            except ClerestoryError:
                continue  # its files are gone
            if data.digest == row.digest:
                data.name = row.name
                return data
    return None


def is_starter(reference: TrainingReference) -> bool:
    """Whether it is the reference of the starter."""
    packaged = starter_reference()
    return packaged is not None and packaged.model == reference.model


def count_unlike(reference: TrainingReference, data: Dataset, store: Store) -> tuple[int, int]:
    """How many of a dataset's images are unlike the training images, and how many were checked.

    At most ``NUM_CHECKED`` images, at equal distances over the dataset, are checked. For the starter, whose
    training images are drawings, photographs and other images are counted.
    """
    if is_starter(reference) and (kinds := dataset_kinds(store, data.digest, lambda: data)) is not None:
        return kinds.num_unlike(DRAWING), kinds.num_checked
    if reference.images is None or not len(data):
        return 0, 0
    key = f"unlike-images/{reference.model}/{data.digest}/{code_digest('data', 'stats', 'apps')}"
    if (cached := store.cache_read(key)) is not None:
        unlike, checked = json.loads(cached)
        return int(unlike), int(checked)
    unlike = checked = 0
    count = min(len(data), NUM_CHECKED)
    for sample in (data.samples[i * len(data) // count] for i in range(count)):
        try:
            image = decode_sample(data, sample)
        except DataError:
            continue
        unlike += reference.images.unlike([image])[0]
        checked += 1
    store.cache_content(key, canonical([unlike, checked]))
    return unlike, checked


def unlike_sentence(unlike: int, checked: int, data: str, images: str = "images") -> str:
    """The warning about images that are unlike the training data; empty if too few of them are.

    Args:
        unlike: the number of images that are unlike the training images.
        checked: the number of images that were checked.
        data: the name of the training data.
        images: the word for images, in the plural.
    """
    if not checked or unlike / checked <= MAX_SHARE:
        return ""
    if checked == 1:
        subject = f"this {images.removesuffix('s')} does"
    elif unlike == checked:
        subject = f"the {checked:,} {images} do" if checked < MAX_CHECKED else f"these {images} do"
    else:
        subject = f"{unlike:,} of {checked:,} {images} do"
    trained_on = f" ({data})" if data else ""
    return f"{subject} not look like those the model was trained on{trained_on}, so the answers are guesses"
